//! One client connection: its requests one after the other, our limits around them, and a close that loses no answer.

use std::{
    future::poll_fn,
    task::{Poll, ready},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::deadlines::{Deadlines, HEAD, KEEP_ALIVE, Limit, Place};
use crate::http1::{
    head::{HeadError, Request},
    leg::{Leg, Transport},
    server::{Came, Connection, GoesOn, Serving},
};

/// What is read and thrown away behind an answer whose request was not wanted to its end, so that the close does
/// not reset the connection before the client has read the answer (RFC 9112 §9.6).
const LINGER_BYTES: usize = 1024 * 1024;

/// How long that may take.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Serves requests until either side closes, a limit passes, or the drain begins and nothing is in hand.
///
/// The handler answers one request, or what could not be read as one, and is done with it when it returns.
pub async fn serve<S, H>(stream: S, place: Place, handler: H)
where
    S: Transport,
    H: AsyncFn(Serving<'_, S>, Result<Request, HeadError>),
{
    let deadlines = place.deadlines();
    let mut connection = Connection::new(stream);
    poll_fn(|cx| Poll::Ready(place.wake_me(cx))).await;
    loop {
        let (came, mut serving) = match next(&mut connection, deadlines).await {
            Came::Request(request) => {
                let serving = connection.serve(Some(&request));
                (Ok(request), serving)
            }
            Came::Nonsense(error) => (Err(error), connection.serve(None)),
            Came::End => break,
        };
        deadlines.disarm_all();
        if deadlines.is_draining() {
            serving.close();
        }
        handler(serving, came).await;
        deadlines.disarm_all();
        deadlines.arm(Limit::Head, KEEP_ALIVE);
    }
    let goes_on = connection.goes_on();
    let mut leg = connection.into_leg();
    match goes_on {
        GoesOn::Yes | GoesOn::No | GoesOn::Broken => {}
        GoesOn::Reset => leg.reset(),
        GoesOn::AfterReading => Box::pin(linger(leg)).await,
    }
}

/// Waits for the next head: long for its first byte, and then not so long for the rest.
async fn next<S: Transport>(connection: &mut Connection<S>, deadlines: &Deadlines) -> Came {
    let mut is_in_head = false;
    poll_fn(|cx| {
        if deadlines.is_draining() {
            return Poll::Ready(Came::End);
        }
        let came = connection.poll_request(cx);
        if came.is_pending() {
            if connection.is_in_head() && !is_in_head {
                is_in_head = true;
                deadlines.arm(Limit::Head, HEAD);
            }
            if deadlines.is_over(Limit::Head) {
                return Poll::Ready(Came::End);
            }
        }
        came
    })
    .await
}

/// Closes without resetting: says that nothing more will come, and reads on for a while.
async fn linger<S: Transport>(mut leg: Leg<S>) {
    if poll_fn(|cx| leg.poll_shutdown(cx)).await.is_err() {
        return;
    }
    let mut left = LINGER_BYTES;
    let read_on = poll_fn(|cx| {
        while left > 0 {
            match ready!(leg.poll_discard(cx)) {
                Ok(0) | Err(_) => break,
                Ok(read) => left = left.saturating_sub(read),
            }
        }
        Poll::Ready(())
    });
    // Whichever of the three ends it, the connection is closed by now.
    let _ = timeout(LINGER_TIME, read_on).await;
}

/// Tells a client that there are too many of them, and closes.
pub async fn refuse(mut stream: TcpStream) {
    const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nx-portolan-error: overloaded\r\n\
        retry-after: 1\r\ncontent-type: text/plain\r\ncontent-length: 48\r\nconnection: close\r\n\r\n\
        503 overloaded: too many connections to portolan";
    if stream.write_all(OVERLOADED).await.is_ok() {
        linger(Leg::new(stream)).await;
    }
}
