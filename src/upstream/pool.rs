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

use super::{
    Endpoint, EndpointId,
    connect::{ConnectError, Stream, connect},
};
use crate::http1::client::Idle;

/// How often [`Pools::sweep`] is to be called.
pub const SWEEP: Duration = Duration::from_secs(1);

/// The sweep at which an idle connection goes: after three to four seconds, below the five of Node and uvicorn.
/// Counted in sweeps, since asking a clock twice for every request would cost more than the rest of this file.
const IDLE: u32 = 4;

/// All connections of a worker.
#[derive(Debug, Default)]
pub struct Pools {
    idle: RefCell<HashMap<EndpointId, Vec<Kept>>>,
    sweeps: Cell<u32>,
}

#[derive(Debug)]
struct Kept {
    idle: Idle<Stream>,
    /// The sweep at which it goes.
    until: u32,
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
    pub fn kept(self: &Rc<Self>, endpoint: EndpointId) -> Option<Lease> {
        let mut idle = self.idle.borrow_mut();
        let kept = idle.get_mut(&endpoint)?;
        while let Some(Kept { mut idle, .. }) = kept.pop() {
            if idle.is_alive() {
                return Some(Lease { idle, keep: self.keep(endpoint) });
            }
        }
        None
    }

    /// A new connection.
    pub async fn dial(self: &Rc<Self>, endpoint: &Endpoint, limit: Duration) -> Result<Lease, ConnectError> {
        // Before it is dialled: if it moves meanwhile, this is a connection to where it was.
        let id = endpoint.id();
        let stream = connect(endpoint, limit).await?;
        Ok(Lease { idle: Idle::new(stream), keep: self.keep(id) })
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
