//! The table in force: loaded without a lock for every request, swapped whole by a reload.
//!
//! A [`Snapshot`] never changes. Each worker keeps its own reference and compares one generation number per
//! request; only after a swap does it take the lock, once. Endpoints that are in the old and in the new table stay
//! the same, so the connections kept to them and their health survive a reload.

use std::{
    cell::RefCell,
    collections::HashMap,
    net::SocketAddr,
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use tokio::sync::Notify;

use crate::{
    config::{self, Config, Filters, Health, HostMatch, Words},
    head::Host,
    respond::files::Folder,
    table::{CompileError, RouteId, Table, pattern},
    upstream::{Endpoint, EndpointKey, Upstream},
};

/// Everything that a request is answered by.
#[derive(Debug)]
pub struct Snapshot {
    /// Which route answers.
    pub table: Table,
    /// By [`RouteId`].
    routes: Vec<Route>,
    tcp: Vec<TcpRoute>,
    endpoints: HashMap<EndpointKey, Arc<Endpoint>>,
}

/// A route, ready to answer.
#[derive(Debug)]
pub struct Route {
    /// The key in the table.
    pub name: Arc<str>,
    /// Where its entry was written.
    pub origin: crate::diagnostic::Span,
    /// A fingerprint of the entry.
    written: u64,
    /// What it matches and where it leads, for people.
    pub words: Words,
    /// What it changes.
    pub filters: Filters,
    /// What answers.
    pub action: Action,
}

/// What answers.
#[derive(Debug)]
pub enum Action {
    /// A program.
    Forward(Forward),
    /// The way to another place.
    Redirect(config::Redirect),
    /// An answer written in the table.
    Respond(config::Respond),
    /// The files of a folder.
    Files(Folder),
}

/// How a request is sent to a program.
#[derive(Debug)]
pub struct Forward {
    /// Where to.
    pub upstream: Upstream,
    /// Where that was written, in the order of the endpoints.
    pub origins: Vec<crate::diagnostic::Span>,
    /// Until a connection stands.
    pub connect_timeout: Duration,
    /// Until the answer begins.
    pub timeout: Duration,
    /// How often at most.
    pub retries: u8,
    /// How long a request waits for a program that does not listen.
    pub hold: Option<Duration>,
}

/// A route of `[tcp]`, ready to carry bytes.
#[derive(Debug)]
pub struct TcpRoute {
    /// The key in the table.
    pub name: Arc<str>,
    /// Where its entry was written.
    pub origin: crate::diagnostic::Span,
    /// A fingerprint of the entry.
    written: u64,
    /// Which connections it takes, and where they lead, for people.
    pub words: (String, String),
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// By which names TLS clients ask for it; empty takes what no other route of the port takes.
    pub hosts: Vec<HostMatch>,
    /// Where its bytes go.
    pub forward: Forward,
    /// Its connections, through every reload that leaves it its name.
    pub traffic: Arc<Traffic>,
}

/// How many connections a route carries.
#[derive(Debug, Default)]
pub struct Traffic {
    open: AtomicUsize,
    ever: AtomicU64,
}

/// A connection in the count of its route; dropping it takes it out of those that are open.
#[derive(Debug)]
pub struct Carried(Arc<Traffic>);

impl Traffic {
    /// Counts a connection until the guard is dropped.
    pub fn begin(self: &Arc<Self>) -> Carried {
        self.open.fetch_add(1, Ordering::Relaxed);
        self.ever.fetch_add(1, Ordering::Relaxed);
        Carried(Arc::clone(self))
    }

    /// Connections that are open, and connections ever.
    pub fn counts(&self) -> (usize, u64) {
        (self.open.load(Ordering::Relaxed), self.ever.load(Ordering::Relaxed))
    }
}

impl Drop for Carried {
    fn drop(&mut self) {
        self.0.open.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Snapshot {
    /// The routes of `[tcp]`, in the order of the file.
    pub fn tcp(&self) -> &[TcpRoute] {
        &self.tcp
    }

    /// The routes that share this address.
    pub fn tcp_at(&self, address: SocketAddr) -> impl Iterator<Item = &TcpRoute> + Clone {
        self.tcp.iter().filter(move |route| route.listen.contains(&address))
    }

    /// Which of the routes at this address takes a client that asks for `name`: the rank of hosts is that of requests.
    pub fn tcp_route(&self, address: SocketAddr, name: Option<&Host<'_>>) -> Option<&TcpRoute> {
        let ranked = self.tcp_at(address).filter_map(|route| Some((pattern::rank(&route.hosts, name)?, route)));
        ranked.max_by_key(|(rank, _)| *rank).map(|(_, route)| route)
    }

    /// The route of a hit.
    pub fn route(&self, id: RouteId) -> &Route {
        &self.routes[id.0]
    }

    /// All routes, in the order of the file.
    pub fn routes(&self) -> &[Route] {
        &self.routes
    }

    /// Every endpoint, in no particular order.
    pub fn endpoints(&self) -> impl Iterator<Item = &Arc<Endpoint>> {
        self.endpoints.values()
    }

    /// Takes over the endpoints that `before` has too.
    fn new(config: Config, before: Option<&Self>, bell: &Arc<Notify>) -> Result<Self, CompileError> {
        let table = Table::compile(&config.routes)?;
        let mut endpoints = HashMap::new();
        let mut endpoint = |key: EndpointKey| {
            let known = || before.and_then(|before| before.endpoints.get(&key)).cloned();
            let make = || known().unwrap_or_else(|| Arc::new(Endpoint::new(key.clone(), bell)));
            Arc::clone(endpoints.entry(key.clone()).or_insert_with(make))
        };
        let routes = config.routes.into_iter().map(|route| Route::new(route, &mut endpoint)).collect();
        let traffic = |name: &str| {
            let known = before.and_then(|before| before.tcp.iter().find(|route| &*route.name == name));
            known.map_or_else(Arc::default, |route| Arc::clone(&route.traffic))
        };
        let tcp = config.tcp.into_iter().map(|route| TcpRoute::new(route, &mut endpoint, traffic)).collect();
        Ok(Self { table, routes, tcp, endpoints })
    }
}

impl TcpRoute {
    fn new(
        route: config::TcpRoute,
        endpoint: impl FnMut(EndpointKey) -> Arc<Endpoint>,
        traffic: impl FnOnce(&str) -> Arc<Traffic>,
    ) -> Self {
        Self {
            words: (route.pattern(), route.target()),
            listen: route.addresses().collect(),
            traffic: traffic(&route.name),
            name: route.name.into(),
            origin: route.origin,
            written: route.written,
            hosts: route.hosts,
            forward: Forward::new(&route.forward, endpoint),
        }
    }
}

impl Forward {
    fn new(forward: &config::Forward, endpoint: impl FnMut(EndpointKey) -> Arc<Endpoint>) -> Self {
        Self {
            upstream: Upstream::new(forward, endpoint),
            origins: forward.targets.iter().map(|target| target.origin.clone()).collect(),
            connect_timeout: forward.connect_timeout,
            timeout: forward.timeout,
            retries: forward.retries,
            hold: forward.hold,
        }
    }
}

impl Route {
    fn new(route: config::Route, endpoint: impl FnMut(EndpointKey) -> Arc<Endpoint>) -> Self {
        let words = Words::of(&route);
        let action = match route.action {
            config::Action::Forward(forward) => Action::Forward(Forward::new(&forward, endpoint)),
            config::Action::Redirect(redirect) => Action::Redirect(redirect),
            config::Action::Respond(respond) => Action::Respond(respond),
            config::Action::Files(files) => Action::Files(Folder::new(files.root, files.fallback)),
        };
        let config::Route { name, origin, written, filters, .. } = route;
        Self { name: name.into(), origin, written, words, filters, action }
    }
}

/// The snapshot in force, shared by all workers.
#[derive(Debug)]
pub struct Live {
    current: Mutex<Arc<Snapshot>>,
    generation: AtomicU64,
    /// Rung when a request begins to wait for a program.
    bell: Arc<Notify>,
}

/// A worker's own reference to the snapshot in force.
#[derive(Debug)]
pub struct Reader {
    live: Arc<Live>,
    seen: RefCell<(u64, Rc<Held>)>,
}

/// A snapshot in the hands of one worker: requests count their use of it without touching what workers share.
#[derive(Debug)]
pub struct Held(Arc<Snapshot>);

impl std::ops::Deref for Held {
    type Target = Snapshot;

    fn deref(&self) -> &Snapshot {
        &self.0
    }
}

/// What a swap changed.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Change {
    /// Names of routes that are new.
    pub added: Vec<String>,
    /// Names of routes that are written differently.
    pub changed: Vec<String>,
    /// Names of routes that are gone.
    pub removed: Vec<String>,
}

/// An endpoint whose health is to be asked for from now on.
pub type Watch = (Weak<Endpoint>, Health);

impl Live {
    /// Puts the first table in force, once `prepare` has seen it.
    pub fn new(config: Config, prepare: impl FnOnce(&Snapshot)) -> Result<(Arc<Self>, Vec<Watch>), CompileError> {
        let bell = Arc::default();
        let snapshot = Snapshot::new(config, None, &bell)?;
        prepare(&snapshot);
        let watches = watches(&snapshot, None);
        let live = Self { current: Mutex::new(Arc::new(snapshot)), generation: AtomicU64::new(1), bell };
        Ok((Arc::new(live), watches))
    }

    /// Puts another table in force, whole or not at all, once `prepare` has seen it. Requests under way end by the table
    /// that they began with.
    pub fn swap(&self, config: Config, prepare: impl FnOnce(&Snapshot)) -> Result<(Change, Vec<Watch>), CompileError> {
        let before = self.current();
        let after = Arc::new(Snapshot::new(config, Some(&before), &self.bell)?);
        prepare(&after);
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&after);
        self.generation.fetch_add(1, Ordering::Release);
        Ok((Change::between(&before, &after), watches(&after, Some(&before))))
    }

    /// Returns when a request has begun to wait for a program since this was last asked.
    pub async fn called(&self) {
        self.bell.notified().await;
    }

    /// The snapshot in force.
    pub fn current(&self) -> Arc<Snapshot> {
        Arc::clone(&self.current.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// For one worker.
    pub fn reader(self: &Arc<Self>) -> Reader {
        let generation = self.generation.load(Ordering::Acquire);
        Reader { live: Arc::clone(self), seen: RefCell::new((generation, Rc::new(Held(self.current())))) }
    }
}

impl Reader {
    /// The snapshot in force.
    pub fn load(&self) -> Rc<Held> {
        let generation = self.live.generation.load(Ordering::Acquire);
        let mut seen = self.seen.borrow_mut();
        if seen.0 != generation {
            *seen = (generation, Rc::new(Held(self.live.current())));
        }
        Rc::clone(&seen.1)
    }
}

impl Change {
    fn between(before: &Snapshot, after: &Snapshot) -> Self {
        // A route of each kind may have the same name.
        fn by_name(snapshot: &Snapshot) -> HashMap<(bool, &str), (u64, &str)> {
            // The pattern of an entry may change with `project`.
            let routes =
                snapshot.routes.iter().map(|route| ((false, &*route.name), (route.written, &*route.words.pattern)));
            let tcp = snapshot.tcp.iter().map(|route| ((true, &*route.name), (route.written, &*route.words.0)));
            routes.chain(tcp).collect()
        }
        fn names(snapshot: &Snapshot) -> impl Iterator<Item = (bool, &str)> {
            let routes = snapshot.routes.iter().map(|route| (false, &*route.name));
            routes.chain(snapshot.tcp.iter().map(|route| (true, &*route.name)))
        }
        let (old, new) = (by_name(before), by_name(after));
        let mut change = Self::default();
        for name in names(after) {
            match old.get(&name) {
                None => change.added.push(name.1.to_owned()),
                Some(before) if Some(before) != new.get(&name) => change.changed.push(name.1.to_owned()),
                Some(_) => {}
            }
        }
        let gone = names(before).filter(|name| !new.contains_key(name));
        change.removed = gone.map(|(_, name)| name.to_owned()).collect();
        change
    }
}

/// The endpoints of `after` that have a health check and were not in `before`.
fn watches(after: &Snapshot, before: Option<&Snapshot>) -> Vec<Watch> {
    let is_new = |key: &EndpointKey| !before.is_some_and(|before| before.endpoints.contains_key(key));
    after
        .endpoints
        .iter()
        .filter(|(key, _)| is_new(key))
        .filter_map(|(key, endpoint)| Some((Arc::downgrade(endpoint), key.health.clone()?)))
        .collect()
}
