//! The connections that one worker keeps to endpoints. Owned by its thread: no lock, nothing handed over.
//!
//! The connection used last is taken first, so that the others can grow old: an idle one is dropped after
//! three to four seconds, because Node and uvicorn close theirs after five seconds and a request should not meet the close.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    rc::Rc,
    time::Duration,
};

use tokio::task::spawn_local;

use super::{
    Endpoint, EndpointId,
    connect::{ConnectError, Dialled, Stream, dial},
};
use crate::{config::Protocol, http1::client::Idle, http2::client::Channel};

/// How often [`Pools::sweep`] is to be called.
pub const SWEEP: Duration = Duration::from_secs(1);

/// The sweep at which an idle connection goes: after three to four seconds, below the five of Node and uvicorn.
/// Counted in sweeps, since asking a clock twice for every request would cost more than the rest of this file.
const IDLE: u32 = 4;

/// The sweeps for which a shared connection is kept that nobody uses. Its program says before it closes one (RFC 9113
/// §6.8), so there is no hurry; nginx and Node keep theirs for a minute or more.
const IDLE_SHARED: u32 = 60;

/// All connections of a worker.
#[derive(Debug, Default)]
pub struct Pools {
    idle: RefCell<HashMap<EndpointId, Vec<Kept>>>,
    /// Those of HTTP/2, which exchanges share.
    channels: RefCell<HashMap<EndpointId, Vec<Open>>>,
    sweeps: Cell<u32>,
}

#[derive(Debug)]
struct Kept {
    idle: Idle<Stream>,
    /// The sweep at which it goes.
    until: u32,
}

/// A connection that is shared, and since how many sweeps nobody has used it.
#[derive(Debug)]
struct Open {
    channel: Channel,
    idle: u32,
}

/// A connection for one request. Dropping it closes the connection.
#[derive(Debug)]
pub struct Lease {
    /// The connection.
    pub idle: Idle<Stream>,
    /// Where it goes afterwards.
    pub keep: Keep,
}

/// The place of a connection in the pool.
#[derive(Debug)]
pub struct Keep {
    endpoint: EndpointId,
    sweeps: u32,
    pools: Rc<Pools>,
}

impl Pools {
    /// The connection used last that is ready for a request, if one is kept.
    pub fn kept(self: &Rc<Self>, endpoint: &Endpoint, may_leave: bool) -> Option<Lease> {
        let id = endpoint.id();
        if endpoint.protocol() == Protocol::Http {
            return self.kept_alone(id);
        }
        let shared = if may_leave && endpoint.protocol() != Protocol::H2c { None } else { self.shared(id) };
        shared.or_else(|| self.kept_alone(id))
    }

    /// A place on a connection that carries many.
    fn shared(self: &Rc<Self>, endpoint: EndpointId) -> Option<Lease> {
        let mut channels = self.channels.borrow_mut();
        let open = channels.get_mut(&endpoint)?.iter_mut().find(|open| open.channel.has_room())?;
        open.idle = 0;
        Some(self.lease_on(&open.channel, endpoint))
    }

    fn lease_on(self: &Rc<Self>, channel: &Channel, endpoint: EndpointId) -> Lease {
        let used = channel.is_used();
        let stream = Stream::Http2(Box::new(channel.stream()));
        Lease { idle: Idle::shared(stream, used), keep: self.keep(endpoint) }
    }

    fn kept_alone(self: &Rc<Self>, endpoint: EndpointId) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&endpoint)?;
        while let Some(Kept { mut idle, .. }) = kept.pop() {
            if idle.is_alive() {
                return Some(Lease { idle, keep: self.keep(endpoint) });
            }
        }
        None
    }

    /// A new connection. Whoever may leave HTTP for another protocol gets one for itself, where the program speaks HTTP/1.
    pub async fn dial(
        self: &Rc<Self>,
        endpoint: &Endpoint,
        may_leave: bool,
        limit: Duration,
    ) -> Result<Lease, ConnectError> {
        // Before it is dialled: if it moves meanwhile, this is a connection to where it was.
        let id = endpoint.id();
        let stream = match dial(endpoint, may_leave, limit).await? {
            Dialled::Http1(stream) => return Ok(Lease { idle: Idle::new(stream), keep: self.keep(id) }),
            Dialled::Http2(stream) => stream,
        };
        // Another request may have opened one meanwhile.
        if let Some(lease) = self.shared(id) {
            return Ok(lease);
        }
        let scheme = if endpoint.protocol() == Protocol::H2c { "http" } else { "https" };
        let opened = Channel::open(stream, scheme).await;
        let (channel, carried) = opened.map_err(|_| ConnectError::Closed)?;
        spawn_local(carried);
        let lease = self.lease_on(&channel, id);
        self.channels.borrow_mut().entry(id).or_default().push(Open { channel, idle: 0 });
        Ok(lease)
    }

    fn keep(self: &Rc<Self>, endpoint: EndpointId) -> Keep {
        Keep { endpoint, sweeps: IDLE, pools: Rc::clone(self) }
    }

    /// Drops every connection that has lain idle for too long or was closed by its program.
    pub fn sweep(&self) {
        let now = self.sweeps.get().wrapping_add(1);
        self.sweeps.set(now);
        self.idle.borrow_mut().retain(|_, kept| {
            kept.retain_mut(|kept| kept.until != now && kept.idle.is_alive());
            !kept.is_empty()
        });
        self.channels.borrow_mut().retain(|_, channels| {
            channels.retain_mut(|open| {
                open.idle = if open.channel.is_idle() { open.idle + 1 } else { 0 };
                open.idle <= IDLE_SHARED
            });
            !channels.is_empty()
        });
    }
}

impl Keep {
    /// The program said how long it keeps an idle connection (`Keep-Alive: timeout`): stay a second below.
    pub fn limit_idle(&mut self, theirs: Duration) {
        self.sweeps = u32::try_from(theirs.as_secs().saturating_sub(1)).map_or(IDLE, |theirs| IDLE.min(theirs));
    }

    /// Keeps the connection for the next request.
    pub fn give_back(self, idle: Idle<Stream>) {
        if self.sweeps > 0 {
            let kept = Kept { idle, until: self.pools.sweeps.get().wrapping_add(self.sweeps) };
            self.pools.idle.borrow_mut().entry(self.endpoint).or_default().push(kept);
        }
    }
}
