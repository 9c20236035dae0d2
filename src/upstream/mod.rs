//! The programs behind a route: where they listen, which one is next, and the connections kept to them.
//!
//! An [`Endpoint`] is shared by all workers and lives through reloads; the connections to it are owned by one
//! worker each ([`pool`]) and are never locked or handed over.

pub mod balance;
pub mod connect;
pub mod health;
pub mod place;
pub mod pool;

use std::sync::{
    Arc,
    atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering::Relaxed},
};

use balance::Candidate;
use place::{Place, Standing};

use tokio::sync::Notify;

use crate::config::{Address, Balance, Forward, Health, Pin, Protocol, Sought};

/// What connections are kept by. Never used twice in one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct EndpointId(u64);

/// One place to send requests to.
#[derive(Debug)]
pub struct Endpoint {
    /// Another one each time that the program moves: connections to where it was are of no more use.
    id: AtomicU64,
    key: EndpointKey,
    /// Where it is, where that is followed.
    place: Option<Place>,
    /// What its health check last said; true without one.
    healthy: AtomicBool,
    in_flight: AtomicUsize,
    /// Requests that were counted, ever.
    begun: AtomicU64,
    /// Which loopback address answered last, so that it is tried first.
    ipv6_first: AtomicBool,
}

/// What makes two endpoints the same across a reload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EndpointKey {
    /// Where it listens.
    pub address: Address,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// How it is asked for its health.
    pub health: Option<Health>,
    /// Who must hold its port.
    pub owner: Option<Pin>,
    /// Whether requests may wait for it.
    pub held: bool,
    /// Which of several ports of a program that is followed goes first: this one, or one of its neighbours.
    pub near: Option<u16>,
}

impl EndpointKey {
    /// Whether somebody must look where it is.
    fn is_followed(&self) -> bool {
        let is_seen = match &self.address {
            Address::Followed(_) => return true,
            Address::Loopback(_) => true,
            Address::Ip(address) => address.ip().is_loopback(),
            // Nobody here sees who listens there.
            Address::Name { .. } | Address::Unix(_) => false,
        };
        is_seen && (self.held || self.owner.is_some())
    }
}

impl Endpoint {
    /// An endpoint that nothing is known of, which counts as well; `bell` calls whoever follows it.
    pub fn new(key: EndpointKey, bell: &Arc<Notify>) -> Self {
        let place = key.is_followed().then(|| Place::new(Arc::clone(bell)));
        Self {
            id: AtomicU64::new(fresh_id()),
            key,
            place,
            healthy: AtomicBool::new(true),
            in_flight: AtomicUsize::new(0),
            begun: AtomicU64::new(0),
            ipv6_first: AtomicBool::new(false),
        }
    }

    /// What connections are kept by.
    pub fn id(&self) -> EndpointId {
        EndpointId(self.id.load(Relaxed))
    }

    /// Where it listens.
    pub fn address(&self) -> &Address {
        &self.key.address
    }

    /// Where it is now, in the few characters that a line of the log has for it.
    pub fn whereabouts(&self) -> String {
        match (&self.key.address, self.place.as_ref().map(Place::standing)) {
            (Address::Followed(_), Some(Standing::At(spot))) => {
                spot.addresses.first().map_or_else(String::new, |address| format!(":{}", address.port()))
            }
            (address, _) => address.to_string(),
        }
    }

    /// What is spoken with it.
    pub fn protocol(&self) -> Protocol {
        self.key.protocol
    }

    /// Who must hold its port.
    pub fn owner(&self) -> Option<&Pin> {
        self.key.owner.as_ref()
    }

    /// Near which port it is sought.
    pub fn near(&self) -> Option<u16> {
        self.key.near
    }

    /// Where it is, where that is followed.
    pub fn place(&self) -> Option<&Place> {
        self.place.as_ref()
    }

    /// Tells where it is now. Connections to where it was are given up.
    pub fn stands(&self, standing: Standing) {
        if self.place.as_ref().is_some_and(|place| place.tell(standing)) {
            self.id.store(fresh_id(), Relaxed);
        }
    }

    /// Requests in hand, and requests ever, where they are counted.
    pub fn counts(&self) -> (usize, u64) {
        (self.in_flight.load(Relaxed), self.begun.load(Relaxed))
    }

    /// Whether its requests are to be counted: a service may be stopped when nobody asks for it.
    pub fn is_counted(&self) -> bool {
        matches!(self.key.address, Address::Followed(Sought::Service(_)))
    }

    /// What its health check last said.
    pub fn is_healthy(&self) -> bool {
        self.healthy.load(Relaxed)
    }

    /// Counts a request until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> InFlight {
        self.in_flight.fetch_add(1, Relaxed);
        self.begun.fetch_add(1, Relaxed);
        InFlight(Arc::clone(self))
    }
}

/// A request in hand at an endpoint; dropping it ends the count.
#[derive(Debug)]
pub struct InFlight(Arc<Endpoint>);

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.fetch_sub(1, Relaxed);
    }
}

/// The endpoints of one route and how one of them is chosen.
#[derive(Debug)]
pub struct Upstream {
    endpoints: Vec<(Arc<Endpoint>, u16)>,
    balance: Balance,
    turn: AtomicUsize,
}

impl Upstream {
    /// The upstream of `forward`; `endpoint` finds the endpoint that a target had before, or makes it.
    pub fn new(forward: &Forward, mut endpoint: impl FnMut(EndpointKey) -> Arc<Endpoint>) -> Self {
        let endpoints = forward.targets.iter().map(|target| {
            let key = EndpointKey {
                address: target.address.clone(),
                protocol: target.protocol,
                health: forward.health.clone(),
                owner: target.owner.clone(),
                held: forward.hold.is_some(),
                near: forward.near.filter(|_| matches!(target.address, Address::Followed(_))),
            };
            (endpoint(key), target.weight)
        });
        Self { endpoints: endpoints.collect(), balance: forward.balance, turn: AtomicUsize::new(0) }
    }

    /// The endpoint that takes the next request, or `None` where none is well.
    pub fn pick(&self) -> Option<&Arc<Endpoint>> {
        // One endpoint needs no choice: that is nearly every route, and it costs no shared write.
        if let [(only, _)] = self.endpoints.as_slice() {
            return only.is_healthy().then_some(only);
        }
        let candidates: Vec<_> = self
            .endpoints
            .iter()
            .map(|(endpoint, weight)| Candidate {
                weight: *weight,
                healthy: endpoint.is_healthy(),
                in_flight: endpoint.in_flight.load(Relaxed),
            })
            .collect();
        let turn = self.turn.fetch_add(1, Relaxed);
        balance::choose(self.balance, &candidates, turn, lot(turn)).map(|at| &self.endpoints[at].0)
    }

    /// Every endpoint, in the order of the file.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.iter().map(|(endpoint, _)| endpoint)
    }

    /// Whether requests in hand must be counted for the choice of the next endpoint.
    pub fn counts_requests(&self) -> bool {
        self.balance == Balance::LeastRequests && self.endpoints.len() > 1
    }
}

/// What no endpoint was known by before.
fn fresh_id() -> u64 {
    static NEXT: AtomicU64 = AtomicU64::new(0);
    NEXT.fetch_add(1, Relaxed)
}

/// A random number: the turn under the keyed hash of the standard library, which a process draws anew.
fn lot(turn: usize) -> u64 {
    use std::hash::{BuildHasher, RandomState};
    thread_local! { static START: RandomState = RandomState::new(); }
    START.with(|start| start.hash_one(turn))
}
