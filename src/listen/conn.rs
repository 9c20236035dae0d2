//! One client connection: its requests one after the other, our limits around them, and a close that loses no answer.

use std::{
    cell::RefCell,
    future::poll_fn,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{io::AsyncWriteExt, net::TcpStream, time::timeout};

use super::deadlines::{Deadlines, HEAD, KEEP_ALIVE, Limit, Place, Seat};
use crate::http1::{
    leg::{Leg, Transport, Watch},
    rewound::Rewound,
    server::{Came, Connection, GoesOn, Speech},
};

/// What is read and thrown away behind an answer whose request was not wanted to its end, so that the close does
/// not reset the connection before the client has read the answer (RFC 9112 §9.6).
const LINGER_BYTES: usize = 1024 * 1024;

/// How long that may take.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Serves the connections of a worker: `handler` answers what came on one, and gives it back when it is done with it;
/// `foreign` takes those that begin in another language.
///
/// An exchange holds two or three kilobytes of state, and a connection is nearly always between two of them. So the
/// state is not a part of the connection's task: it is lent for as long as the exchange lasts, from memory that is
/// used again, and a connection that waits pays for its socket and little more.
#[derive(Debug)]
pub struct Server<H, G, F> {
    handler: H,
    foreign: G,
    ready: RefCell<Vec<Pin<Box<Option<F>>>>>,
}

/// A connection that begins in another language.
#[derive(Debug)]
pub struct Foreign<S, T> {
    /// Which one.
    pub speech: Speech,
    /// All of it.
    pub stream: Rewound<S>,
    /// Its limits, of which that for a first head has begun.
    pub place: Place<T>,
}

/// How many places lie ready for later exchanges; there are as many in use as exchanges under way.
const READY: usize = 256;

impl<H, G, F: Future> Server<H, G, F> {
    /// A server on which nothing is under way.
    pub fn new(handler: H, foreign: G) -> Self {
        Self { handler, foreign, ready: RefCell::default() }
    }

    /// Serves requests until either side closes, a limit passes, or the drain begins and nothing is in hand.
    pub fn serve<S, T>(self: Rc<Self>, stream: S, place: Place<T>) -> impl Future<Output = ()>
    where
        S: Transport,
        H: Fn(Rc<Seat<T>>, Connection<S>, Came) -> F,
        G: Fn(Foreign<S, T>),
        F: Future<Output = Connection<S>>,
    {
        let mut connection = Connection::new(stream);
        // A block and no `async fn`, which would hold its arguments twice.
        async move {
            poll_fn(|cx| {
                place.wake_me(cx);
                Poll::Ready(())
            })
            .await;
            let deadlines = &place.seat().deadlines;
            loop {
                let came = next(&mut connection, deadlines).await;
                match came {
                    Came::End => break,
                    Came::Foreign(speech) => {
                        return (self.foreign)(Foreign { speech, stream: connection.into_foreign(), place });
                    }
                    Came::Request(_) | Came::Nonsense(_) => {}
                }
                deadlines.disarm_all();
                connection = self.carry((self.handler)(Rc::clone(place.seat()), connection, came)).await;
                deadlines.disarm_all();
                deadlines.arm(Limit::Head, KEEP_ALIVE);
            }
            match connection.goes_on() {
                GoesOn::Yes | GoesOn::Broken => {}
                GoesOn::No => Box::pin(close(connection.into_leg())).await,
                GoesOn::Reset => connection.into_leg().reset(),
                GoesOn::AfterReading => Box::pin(linger(connection.into_leg())).await,
            }
        }
    }

    /// Carries `exchange` on until it ends.
    fn carry(&self, exchange: F) -> Carried<'_, F> {
        let mut place = self.ready.borrow_mut().pop().unwrap_or_else(|| Box::pin(None));
        place.set(Some(exchange));
        Carried { place: Some(place), ready: &self.ready }
    }
}

/// An exchange under way. Dropping it ends the exchange.
struct Carried<'e, F> {
    place: Option<Pin<Box<Option<F>>>>,
    ready: &'e RefCell<Vec<Pin<Box<Option<F>>>>>,
}

impl<F: Future> Future for Carried<'_, F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let exchange = self.place.as_mut().and_then(|place| place.as_mut().as_pin_mut());
        // There is one until this is dropped.
        exchange.map_or(Poll::Pending, |exchange| exchange.poll(cx))
    }
}

impl<F> Drop for Carried<'_, F> {
    fn drop(&mut self) {
        let Some(mut place) = self.place.take() else { return };
        place.set(None);
        let mut ready = self.ready.borrow_mut();
        if ready.len() < READY {
            ready.push(place);
        }
    }
}

/// Waits for the next head: long for its first byte, and then not so long for the rest.
async fn next<S: Transport>(connection: &mut Connection<S>, deadlines: &Deadlines) -> Came {
    let mut is_in_head = false;
    poll_fn(|cx| {
        // What is here already is served, also when the drain has begun.
        let came = connection.poll_request(cx);
        if came.is_pending() {
            if deadlines.is_draining() {
                return Poll::Ready(Came::End);
            }
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

/// Closes. Bytes that nobody has read would make it a reset, and the answer could be lost.
async fn close<S: Transport>(mut leg: Leg<S>) {
    if poll_fn(|cx| Poll::Ready(leg.watch(cx))).await == Watch::Blind {
        linger(leg).await;
    } else if leg.says_goodbye() {
        // Who does not take it has left.
        let _ = timeout(LINGER_TIME, poll_fn(|cx| leg.poll_shutdown(cx))).await;
    }
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

#[cfg(test)]
mod tests {
    use tokio::net::{TcpListener, TcpStream};

    use super::*;
    use crate::listen::deadlines::Sweep;

    /// What a connection's task may hold, in bytes: with what the runtime adds it fits 256, and ten thousand of them wait
    /// in ten megabytes.
    const BUDGET: usize = 144;

    #[tokio::test]
    async fn a_connection_that_waits_stays_in_its_budget() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a listener");
        let stream = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("a stream");
        let server = Rc::new(Server::new(async |_, connection, _: Came| connection, |_| {}));
        let serving = server.serve(stream, Rc::new(Sweep::default()).enter(()));
        let size = size_of_val(&serving);
        assert!(size <= BUDGET, "{size} bytes");
    }
}
