//! The connections that one worker keeps to endpoints. Owned by its thread: no lock, nothing handed over.
//!
//! The connection used last is taken first, so that the others can grow old: an idle one is dropped after
//! [`IDLE`], because Node and uvicorn close theirs after five seconds and a request must not meet the close.

use std::{
    cell::RefCell,
    collections::HashMap,
    rc::Rc,
    time::{Duration, Instant},
};

use hyper::{
    body::Body,
    client::conn::http1::{self, SendRequest},
};
use hyper_util::rt::TokioIo;

use super::{
    Endpoint, EndpointId,
    connect::{ConnectError, Stream, connect},
};

/// How long a connection may lie idle. One second less than the five of Node and uvicorn.
pub const IDLE: Duration = Duration::from_secs(4);

/// The largest piece of a body read at once, in bytes: above it, larger reads save little and cost cache.
const READ: usize = 256 * 1024;

/// All connections of a worker. `B` is the body of the requests that it sends.
#[derive(Debug)]
pub struct Pools<B> {
    idle: RefCell<HashMap<EndpointId, Vec<Idle<B>>>>,
}

#[derive(Debug)]
struct Idle<B> {
    sender: SendRequest<B>,
    until: Instant,
}

/// A connection in use. Dropping it closes the connection; [`Lease::give_back`] keeps it.
#[derive(Debug)]
pub struct Lease<B> {
    sender: SendRequest<B>,
    endpoint: EndpointId,
    /// Whether it carried a request before: then its end may be an old one's, and not an answer to this one.
    reused: bool,
    idle: Duration,
    pools: Rc<Pools<B>>,
}

impl<B> Default for Pools<B> {
    fn default() -> Self {
        Self { idle: RefCell::default() }
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
        let now = Instant::now();
        let ready = kept.iter().rposition(|idle| idle.sender.is_ready() && idle.until > now)?;
        let Idle { sender, .. } = kept.remove(ready);
        Some(Lease { sender, endpoint, reused: true, idle: IDLE, pools: Rc::clone(self) })
    }

    /// A new connection.
    pub async fn dial(self: &Rc<Self>, endpoint: &Endpoint, limit: Duration) -> Result<Lease<B>, DialError> {
        let stream = connect(endpoint, limit).await?;
        let (sender, connection) = handshake(stream).await?;
        tokio::task::spawn_local(async move {
            // How a connection ends is seen by the request that was on it; an idle one may end as it likes.
            let _ = connection.await;
        });
        Ok(Lease { sender, endpoint: endpoint.id(), reused: false, idle: IDLE, pools: Rc::clone(self) })
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
        let now = Instant::now();
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain(|idle| idle.until > now && !idle.sender.is_closed());
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

    /// The program said how long it keeps an idle connection (`Keep-Alive: timeout`): stay a second below.
    pub fn limit_idle(&mut self, theirs: Duration) {
        self.idle = IDLE.min(theirs.saturating_sub(Duration::from_secs(1)));
    }

    /// Keeps the connection for the next request. Call it once the answer was read to its end; a request that is
    /// still being sent makes the connection unfit, and it closes when that is done.
    pub fn give_back(self) {
        if self.idle.is_zero() {
            return;
        }
        let idle = Idle { sender: self.sender, until: Instant::now() + self.idle };
        self.pools.idle.borrow_mut().entry(self.endpoint).or_default().push(idle);
    }
}

async fn handshake<B>(stream: Stream) -> Result<(SendRequest<B>, http1::Connection<TokioIo<Stream>, B>), hyper::Error>
where
    B: Body + 'static,
    B::Data: Send,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    http1::Builder::new().max_buf_size(READ).handshake(TokioIo::new(stream)).await
}
