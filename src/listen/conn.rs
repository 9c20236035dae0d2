//! One client connection: HTTP/1 by hyper, our limits around it, and a close that loses no answer.

use std::{
    convert::Infallible,
    future::poll_fn,
    io,
    pin::{Pin, pin},
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use bytes::Bytes;
use http::{Request, Response};
use hyper::{
    body::{Body, Incoming},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::deadlines::{Deadlines, Limit, Place, WRITE};
use crate::tunnel::gather::poll_write_gathered;

/// The largest head, in bytes; 431 above it. Large cookies of development fit (Envoy 60 KiB, Caddy 16 KiB).
pub const MAX_HEAD: usize = 64 * 1024;

/// The most fields of a head; 431 above it (HAProxy 101, Envoy 100).
pub const MAX_FIELDS: usize = 100;

/// The largest piece of a request body read at once, in bytes: larger ones save little and cost memory.
const READ: usize = 64 * 1024;

/// What is read and thrown away behind an answer whose request was not wanted to its end, so that the close does
/// not reset the connection before the client has read the answer (RFC 9112 §9.6).
const LINGER_BYTES: usize = 1024 * 1024;

/// How long that may take.
const LINGER_TIME: Duration = Duration::from_secs(1);

/// Serves requests until either side closes, a limit passes, or the drain begins and nothing is in hand.
///
/// Returns when the connection is closed or was handed over to a tunnel.
pub async fn serve<H, F, B>(stream: TcpStream, place: Place, handler: H)
where
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<B>>,
    B: Body<Data = Bytes> + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let deadlines = Arc::clone(place.deadlines());
    let socket = Socket { stream, deadlines: Arc::clone(&deadlines) };
    let service = service_fn(|request| {
        deadlines.exchange_begins();
        let answer = handler(request);
        async { Ok::<_, Infallible>(answer.await) }
    });
    let mut connection = http1::Builder::new()
        .max_headers(MAX_FIELDS)
        .max_header_size(MAX_HEAD)
        .max_buf_size(MAX_HEAD.max(READ))
        .serve_connection(TokioIo::new(socket), service)
        .with_upgrades();
    let mut told_to_drain = false;
    let ended = poll_fn(|cx| {
        place.wake_me(cx);
        if place.is_draining() && !told_to_drain {
            told_to_drain = true;
            Pin::new(&mut connection).graceful_shutdown();
        }
        match Pin::new(&mut connection).poll(cx) {
            Poll::Pending if deadlines.ends_connection().is_some() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
            Poll::Ready(result) => Poll::Ready(Some(result)),
        }
    })
    .await;
    let Some(result) = ended else { return };
    let answered_a_broken_head = result.is_err_and(|error| error.is_parse());
    if (answered_a_broken_head || deadlines.unread.load(Relaxed))
        && let Some(parts) = connection.into_parts()
    {
        linger(parts.io.into_inner().stream).await;
    }
}

/// Closes without resetting: says that nothing more will come, and reads on for a while.
async fn linger(mut stream: TcpStream) {
    if stream.shutdown().await.is_err() {
        return;
    }
    let mut unwanted = stream.take(LINGER_BYTES as u64);
    let mut nowhere = tokio::io::sink();
    let read_on = pin!(tokio::io::copy(&mut unwanted, &mut nowhere));
    // Whichever of the three ends it, the connection is closed by now.
    let _ = timeout(LINGER_TIME, read_on).await;
}

/// A client's stream, which notes when something moves on it.
#[derive(Debug)]
pub struct Socket {
    stream: TcpStream,
    deadlines: Arc<Deadlines>,
}

impl AsyncRead for Socket {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.deadlines.bytes_came();
        }
        read
    }
}

impl Socket {
    fn note_write(&self, written: &Poll<io::Result<usize>>) {
        match written {
            Poll::Pending => self.deadlines.keep_armed(Limit::Write, WRITE),
            Poll::Ready(_) => self.deadlines.bytes_went(),
        }
    }
}

impl AsyncWrite for Socket {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = Pin::new(&mut this.stream).poll_write(cx, buf);
        this.note_write(&written);
        written
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let written = poll_write_gathered(&mut this.stream, cx, slices);
        this.note_write(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

/// Tells a client that there are too many of them, and closes.
pub async fn refuse(mut stream: TcpStream) {
    const OVERLOADED: &[u8] = b"HTTP/1.1 503 Service Unavailable\r\nx-portolan-error: overloaded\r\n\
        retry-after: 1\r\ncontent-type: text/plain\r\ncontent-length: 48\r\nconnection: close\r\n\r\n\
        503 overloaded: too many connections to portolan";
    if stream.write_all(OVERLOADED).await.is_ok() {
        linger(stream).await;
    }
}
