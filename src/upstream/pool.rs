//! The connections that one worker keeps to endpoints. Owned by its thread: no lock, nothing handed over.
//!
//! The connection used last is taken first, so that the others can grow old: an idle one is dropped after
//! three to four seconds, because Node and uvicorn close theirs after five seconds and a request must not meet the close.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    pin::Pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll},
    time::Duration,
};

use hyper::{
    body::Body,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Endpoint, EndpointId,
    connect::{ConnectError, Stream, connect},
};

/// How often [`Pools::sweep`] is to be called.
pub const SWEEP: Duration = Duration::from_secs(1);

/// The sweep at which an idle connection goes: after three to four seconds, below the five of Node and uvicorn.
/// Counted in sweeps, since asking a clock twice for every request would cost more than the rest of this file.
const IDLE: u32 = 4;

/// The largest piece of a body read at once, in bytes: above it, larger reads save little and cost cache.
const READ: usize = 256 * 1024;

/// All connections of a worker. `B` is the body of the requests that it sends.
#[derive(Debug)]
pub struct Pools<B> {
    idle: RefCell<HashMap<EndpointId, Vec<Idle<B>>>>,
    sweeps: Cell<u32>,
}

#[derive(Debug)]
struct Idle<B> {
    sender: SendRequest<B>,
    heard: Arc<AtomicBool>,
    /// The sweep at which it goes.
    until: u32,
}

/// A connection in use. Dropping it closes the connection; [`Lease::give_back`] keeps it.
#[derive(Debug)]
pub struct Lease<B> {
    sender: SendRequest<B>,
    endpoint: EndpointId,
    /// Whether it carried a request before: then its end may be an old one's, and not an answer to this one.
    reused: bool,
    /// Whether any byte has come since it was taken: then its end is an answer to this one.
    heard: Arc<AtomicBool>,
    idle: u32,
    pools: Rc<Pools<B>>,
}

impl<B> Default for Pools<B> {
    fn default() -> Self {
        Self { idle: RefCell::default(), sweeps: Cell::new(0) }
    }
}

impl<B> Pools<B>
where
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    /// The connection used last that is ready for a request, if one is kept.
    pub fn kept(self: &Rc<Self>, endpoint: EndpointId) -> Option<Lease<B>> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&endpoint)?;
        let ready = kept.iter().rposition(|idle| idle.sender.is_ready())?;
        let Idle { sender, heard, .. } = kept.remove(ready);
        heard.store(false, Relaxed);
        Some(Lease { sender, endpoint, reused: true, heard, idle: IDLE, pools: Rc::clone(self) })
    }

    /// A new connection.
    pub async fn dial(self: &Rc<Self>, endpoint: &Endpoint, limit: Duration) -> Result<Lease<B>, DialError> {
        let stream = connect(endpoint, limit).await?;
        let heard = Arc::<AtomicBool>::default();
        let (sender, connection) = handshake(Noted { stream, heard: Arc::clone(&heard) }).await?;
        tokio::task::spawn_local(async move {
            // How a connection ends is seen by the request that was on it; an idle one may end as it likes.
            let _ = connection.await;
        });
        Ok(Lease { sender, endpoint: endpoint.id(), reused: false, heard, idle: IDLE, pools: Rc::clone(self) })
    }

    /// A new connection whose stream becomes a tunnel if the program agrees; it is never kept.
    pub async fn dial_for_upgrade(&self, endpoint: &Endpoint, limit: Duration) -> Result<SendRequest<B>, DialError>
    where
        B: Send,
    {
        let stream = connect(endpoint, limit).await?;
        let (sender, connection) = handshake(stream).await?;
        tokio::task::spawn_local(async move {
            let _ = connection.with_upgrades().await;
        });
        Ok(sender)
    }

    /// Drops every connection that has lain idle for too long or was closed by its program.
    pub fn sweep(&self) {
        let now = self.sweeps.get().wrapping_add(1);
        self.sweeps.set(now);
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| idle.until != now && !idle.sender.is_closed());
            !kept.is_empty()
        });
    }
}

/// Why there is no connection to send a request on.
#[derive(Debug, thiserror::Error)]
pub enum DialError {
    /// There is no stream.
    #[error(transparent)]
    Connect(#[from] ConnectError),
    /// There is a stream, but it ended before anything was sent.
    #[error("the connection ended before a request was sent")]
    Handshake(#[from] hyper::Error),
}

impl<B> Lease<B> {
    /// Where requests go in.
    pub fn sender(&mut self) -> &mut SendRequest<B> {
        &mut self.sender
    }

    /// Whether it carried a request before.
    pub fn is_reused(&self) -> bool {
        self.reused
    }

    /// Whether any byte has come since it was taken.
    pub fn has_heard(&self) -> bool {
        self.heard.load(Relaxed)
    }

    /// The program said how long it keeps an idle connection (`Keep-Alive: timeout`): stay a second below.
    pub fn limit_idle(&mut self, theirs: Duration) {
        self.idle = u32::try_from(theirs.as_secs().saturating_sub(1)).map_or(IDLE, |theirs| IDLE.min(theirs));
    }

    /// Keeps the connection for the next request. Call it once the answer was read to its end; a request that is
    /// still being sent makes the connection unfit, and it closes when that is done.
    pub fn give_back(self) {
        if self.idle == 0 {
            return;
        }
        let idle =
            Idle { sender: self.sender, heard: self.heard, until: self.pools.sweeps.get().wrapping_add(self.idle) };
        self.pools.idle.borrow_mut().entry(self.endpoint).or_default().push(idle);
    }
}

/// A stream that notes when something comes on it.
#[derive(Debug)]
struct Noted {
    stream: Stream,
    heard: Arc<AtomicBool>,
}

impl AsyncRead for Noted {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let read = Pin::new(&mut this.stream).poll_read(cx, buf);
        if buf.filled().len() > before {
            this.heard.store(true, Relaxed);
        }
        read
    }
}

impl AsyncWrite for Noted {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().stream).poll_write_vectored(cx, slices)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().stream).poll_shutdown(cx)
    }
}

async fn handshake<S, B>(stream: S) -> Result<(SendRequest<B>, http1::Connection<TokioIo<S>, B>), hyper::Error>
where
    S: AsyncRead + AsyncWrite + Unpin,
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    http1::Builder::new().max_buf_size(READ).handshake(TokioIo::new(stream)).await
}
