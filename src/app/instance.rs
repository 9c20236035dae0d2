//! One running portolan: the proxy, what it follows, what it starts, and what commands ask of it.
//!
//! Everything here happens on one thread, in one loop: [`Instance::next`] does what is due and returns when something is for
//! whoever runs it to do or to say.

use std::{
    collections::{BTreeMap, VecDeque},
    net::SocketAddr,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use jiff::Timestamp;
use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
    time::{Instant, error::Elapsed, sleep_until, timeout},
};

use super::{
    containers::Engines,
    follow::{self, Follower, Keepers, pace},
    identity::Identities,
    proxy::{Proxy, StartError, TableError},
    report,
    runs::{Around, Runs},
    services::{Services, World},
};
use crate::{
    config::{Action, Address, Config, HostMatch, PathMatch, Sought, TcpRoute, Words},
    control::{
        self, Ask, Reply,
        api::{self, Accepted, Problem, Reloaded, TableStatus},
        socket::SocketError,
    },
    live::Change,
    observe::Log,
    process::Processes,
    supervise::{GRACE, Status, output::Printer, port::Ports},
    upstream::place::Place,
};

/// How long a proxy that was started for `portolan run` stays when the last run has ended: the next one may follow at once.
const AFTERGLOW: Duration = Duration::from_secs(2);

/// How long it waits for the first one, on a machine that is busy.
const FIRST: Duration = Duration::from_secs(15);

/// Why it runs, and so when it ends by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose {
    /// `serve`: it does not.
    Serve,
    /// `up`: when its services were ended by `down`.
    Up,
    /// In the background, for `run`: when no run is left.
    Run,
}

/// What is for others to do.
#[derive(Debug)]
pub enum Happening {
    /// A command asks for the table to be read anew.
    Reload(Reply<Reloaded>),
    /// A command asks for the end.
    Stop,
    /// Nothing needs it any more.
    Over,
    /// Something that a person should know.
    Note(String),
}

/// What it is started with, beside the table.
#[derive(Debug, Clone)]
pub struct Setting {
    /// Why it runs.
    pub purpose: Purpose,
    /// Why no program may be started from its table, if none may.
    pub distrust: Option<String>,
    /// The file of the table.
    pub file: Option<PathBuf>,
    /// Takes the lines of services.
    pub printer: Option<Printer>,
    /// Whether they are shown on a terminal in colour.
    pub is_coloured: bool,
}

/// One running portolan. Dropping it ends its services in their own time, and cuts what is in hand.
#[derive(Debug)]
pub struct Instance {
    proxy: Proxy,
    /// The table of the file; routes of runs come on top of it.
    base: Config,
    table: Option<TableStatus>,
    services: Services,
    news: watch::Receiver<BTreeMap<String, Status>>,
    runs: Runs,
    ends: mpsc::UnboundedReceiver<u64>,
    engines: Engines,
    follower: Follower,
    identities: Identities,
    ports: Ports,
    asks: mpsc::Receiver<Ask>,
    control: Option<JoinHandle<()>>,
    purpose: Purpose,
    distrust: Option<String>,
    since: SystemTime,
    /// When it ends unless a run comes.
    unused: Instant,
    next_look: Instant,
    happened: VecDeque<Happening>,
}

impl Instance {
    /// Starts the proxy and opens its control socket; without that it serves all the same, which is told.
    pub async fn start(config: Config, setting: Setting, log: &Log) -> Result<(Self, Option<SocketError>), StartError> {
        let descriptors = rustix::process::getrlimit(rustix::process::Resource::Nofile).current;
        let follower = Follower::new();
        let (runs, ends) = Runs::new();
        let mut engines = Engines::default();
        engines.wanted_by(&config);
        let nothing = Services::new(World::default());
        let processes = Processes::now();
        let proxy = Proxy::start(config.clone(), log, |snapshot| {
            // Services are at rest before they are defined; the look below tells the rest.
            let keepers = Keepers { services: &nothing, runs: &runs, engines: &engines };
            follow::tell(snapshot, follow::scene(&follower, &processes), keepers);
        })?;
        let port = proxy.addresses().first().map_or(0, SocketAddr::port);
        let world = World {
            proxy: format!("http://localhost:{port}"),
            descriptors,
            printer: setting.printer,
            is_coloured: setting.is_coloured,
        };
        let (asking, asks) = mpsc::channel(16);
        let (control, refused) = match control::socket::bind(port).await {
            Ok(socket) => (Some(tokio::spawn(control::serve(socket, asking))), None),
            Err(error) => (None, Some(error)),
        };
        let now = Instant::now();
        let services = Services::new(world);
        let mut instance = Self {
            proxy,
            base: config,
            table: setting.file.map(|file| TableStatus {
                file,
                since: Timestamp::now().to_string(),
                refused: String::new(),
            }),
            news: services.news(),
            services,
            runs,
            ends,
            engines,
            follower,
            identities: Identities::default(),
            ports: Ports::new(port),
            asks,
            control,
            purpose: setting.purpose,
            distrust: setting.distrust,
            since: SystemTime::now(),
            unused: now + FIRST,
            next_look: now,
            happened: VecDeque::new(),
        };
        instance.define_services();
        instance.look_up();
        Ok((instance, refused))
    }

    /// The proxy.
    pub fn proxy(&self) -> &Proxy {
        &self.proxy
    }

    /// Starts these services and what they need; all if none is named.
    pub fn up(&mut self, names: &[String]) -> Result<Vec<String>, Problem> {
        let started = self.services.up(names)?;
        // Whoever asks from now on waits for them.
        self.look_up();
        Ok(started)
    }

    /// Puts the table of the file in force as it is now.
    pub fn swap(&mut self, config: Config) -> Result<Change, TableError> {
        let before = std::mem::replace(&mut self.base, config);
        match self.put_in_force() {
            Ok(change) => {
                if let Some(table) = &mut self.table {
                    *table =
                        TableStatus { since: Timestamp::now().to_string(), refused: String::new(), ..table.clone() };
                }
                self.define_services();
                self.look_up();
                Ok(change)
            }
            Err(error) => {
                self.base = before;
                Err(error)
            }
        }
    }

    /// Notes that the file is not fit to be put in force, in these words.
    pub fn refused(&mut self, why: String) {
        if let Some(table) = &mut self.table {
            table.refused = why;
        }
    }

    /// Does what is due until something is for others to do. May be dropped and called again at any time.
    pub async fn next(&mut self) -> Happening {
        loop {
            if let Some(happening) = self.happened.pop_front() {
                return happening;
            }
            let over = self.over();
            tokio::select! {
                () = sleep_until(self.next_look) => self.look(false),
                () = self.proxy.called() => self.look(false),
                _ = self.news.changed() => self.look(true),
                () = self.engines.changed() => self.look(true),
                Some(id) = self.ends.recv() => self.end_run(id),
                Some(ask) = self.asks.recv() => self.answer(ask),
                () = sleep_until(over.unwrap_or_else(Instant::now)), if over.is_some() => return Happening::Over,
            }
        }
    }

    /// Ends everything: accepts no more, finishes what is in hand, and ends the services meanwhile, which have a grace of
    /// their own. An error if requests took longer than `drain`.
    pub async fn end(mut self, drain: Duration) -> Result<(), Elapsed> {
        if let Some(control) = self.control.take() {
            control.abort();
        }
        // Without names nothing can be unknown.
        let _ = self.services.down(&[]);
        let mut news = self.services.news();
        let have_ended = |board: &BTreeMap<String, Status>| {
            board.values().all(|status| status.keeper.is_none() && status.state.is_at_rest())
        };
        // Who does not end in its grace is killed by its keeper; this only bounds the wait.
        let services = timeout(GRACE + Duration::from_secs(3), news.wait_for(have_ended));
        let (drained, _) = tokio::join!(timeout(drain, self.proxy.drain()), services);
        drained
    }

    /// When it ends by itself, if that can be said.
    fn over(&self) -> Option<Instant> {
        match self.purpose {
            Purpose::Serve | Purpose::Up => None,
            // What `up` has started in it since needs it, too.
            Purpose::Run => (self.runs.is_empty() && !self.services.is_wanted()).then_some(self.unused),
        }
    }

    fn look(&mut self, is_news: bool) {
        let snapshot = self.proxy.table();
        let is_waited_for =
            snapshot.endpoints().filter(|endpoint| endpoint.place().is_some_and(Place::is_wanted)).count() > 0;
        let is_starting = self.services.is_starting() || self.runs.is_starting();
        let has_changed = self.follower.look(is_waited_for || is_starting);
        if has_changed || is_news || (is_waited_for && self.follower.is_stale()) {
            self.look_up();
        }
        self.services.ask_again();
        let snapshot = self.proxy.table();
        self.services.attend(&snapshot);
        let is_busy = self.services.is_busy() || !self.runs.is_empty();
        self.next_look = Instant::now() + pace(&snapshot, is_starting || is_waited_for, is_busy);
    }

    /// Looks where every program is, and tells everybody who wants to know.
    fn look_up(&mut self) {
        let began = Instant::now();
        let processes = Processes::now();
        let scene = follow::scene(&self.follower, &processes);
        self.services.look(scene);
        let is_new_route = self.runs.look(scene);
        let snapshot = self.proxy.table();
        let said = self.identities.look(&snapshot, scene);
        self.happened.extend(said.into_iter().map(Happening::Note));
        let keepers = Keepers { services: &self.services, runs: &self.runs, engines: &self.engines };
        follow::tell(&snapshot, scene, keepers);
        self.follower.has_looked_up(began);
        if is_new_route {
            self.renew();
        }
    }

    /// Puts the same table in force with other runs.
    fn renew(&mut self) {
        if let Err(error) = self.put_in_force() {
            self.happened.push_back(Happening::Note(format!("the routes of runs cannot be put in force: {error}")));
        }
    }

    fn put_in_force(&mut self) -> Result<Change, TableError> {
        let mut config = self.base.clone();
        config.routes.extend(self.runs.routes().cloned());
        self.engines.wanted_by(&config);
        let processes = Processes::now();
        let keepers = Keepers { services: &self.services, runs: &self.runs, engines: &self.engines };
        let scene = follow::scene(&self.follower, &processes);
        self.proxy.swap(config, |snapshot| follow::tell(snapshot, scene, keepers))
    }

    fn define_services(&mut self) {
        let mut taken: Vec<u16> = self.follower.sockets().iter().map(|socket| socket.address.port()).collect();
        taken.extend(self.proxy.addresses().iter().map(SocketAddr::port));
        taken.extend(self.base.services.iter().filter_map(|service| service.port));
        taken.extend(self.base.tcp.iter().flat_map(TcpRoute::addresses).map(|address| address.port()));
        let (base, port) = (&self.base, self.port());
        let url = |name: &str, given: u16| {
            service_url(base, name, port).unwrap_or_else(|| format!("http://127.0.0.1:{given}"))
        };
        self.services.define(&base.services, &mut self.ports, |port| taken.contains(&port), url);
    }

    fn port(&self) -> u16 {
        self.proxy.addresses().first().map_or(0, SocketAddr::port)
    }

    fn end_run(&mut self, id: u64) {
        let before = self.runs.is_empty();
        if self.runs.remove(id, &mut self.ports) {
            self.renew();
        }
        // Told of its end twice, by itself and by its connection.
        if !before {
            self.unused = Instant::now() + AFTERGLOW;
        }
    }

    fn answer(&mut self, ask: Ask) {
        match ask {
            Ask::Status(reply) => tell(reply, Ok(self.status())),
            Ask::Reload(reply) => self.happened.push_back(Happening::Reload(reply)),
            Ask::Stop(reply) => {
                tell(reply, Ok(Accepted::default()));
                self.happened.push_back(Happening::Stop);
            }
            Ask::Services(action, names, reply) => self.order(action, &names, reply),
            Ask::Logs { names, follow, reply } => tell(reply, self.services.logs(&names, follow)),
            Ask::Unregister(pid, reply) => {
                if let Some(id) = self.runs.of(pid) {
                    self.end_run(id);
                }
                tell(reply, Ok(Accepted::default()));
            }
            Ask::Register { wish, pid, reply } => {
                let url = format!("http://localhost:{}", self.port());
                let around = Around {
                    project: self.base.project.as_deref(),
                    routes: &self.base.routes,
                    port: self.port(),
                    url: &url,
                };
                let sockets = self.follower.sockets();
                let is_taken = |port| sockets.iter().any(|socket| socket.address.port() == port);
                let registered = self.runs.register(wish, pid, &around, &mut self.ports, is_taken);
                tell(reply, registered);
                self.next_look = Instant::now();
            }
        }
    }

    fn order(&mut self, action: api::Action, names: &[String], reply: Reply<Accepted>) {
        if let (Some(why), true) = (&self.distrust, action != api::Action::Down) {
            let problem = Problem::new("untrusted-table", why.clone());
            return tell(reply, Err(problem.help("have the proxy serve it by its name: `portolan serve -c FILE`")));
        }
        let ordered = match action {
            api::Action::Up => self.up(names),
            api::Action::Restart => self.services.restart(names),
            api::Action::Down => self.services.down(names),
        };
        let services = match ordered {
            Ok(services) => services,
            Err(problem) => return tell(reply, Err(problem)),
        };
        if action != api::Action::Down {
            return tell(reply, Ok(Accepted { services }));
        }
        if names.is_empty() && self.purpose == Purpose::Up {
            // Answered with the end itself, which ends the services.
            tell(reply, Ok(Accepted { services }));
            self.happened.push_back(Happening::Over);
            return;
        }
        let mut news = self.services.news();
        tokio::spawn(async move {
            let is_down = |name: &String, board: &BTreeMap<String, Status>| {
                board.get(name).is_none_or(|status| status.state.is_at_rest())
            };
            let all_end = news.wait_for(|board| services.iter().all(|name| is_down(name, board)));
            // Who does not end in its grace is killed by its keeper; this only bounds the wait.
            let _ = timeout(GRACE + Duration::from_secs(3), all_end).await.is_ok();
            tell(reply, Ok(Accepted { services }));
        });
    }

    fn status(&self) -> api::Status {
        report::status(&report::Facts {
            proxy: &self.proxy,
            table: self.table.as_ref(),
            services: &self.services,
            runs: &self.runs,
            engines: &self.engines,
            identities: &self.identities,
            sockets: self.follower.sockets(),
            since: self.since,
        })
    }
}

fn tell<T>(reply: Reply<T>, answer: Result<T, Problem>) {
    // The asker may be gone.
    let _ = reply.send(answer);
}

/// Where a service is by way of the proxy, if that needs no name which libraries cannot resolve: a route by path only.
fn service_url(config: &Config, service: &str, port: u16) -> Option<String> {
    let leads_there = |action: &Action| match action {
        Action::Forward(forward) => forward
            .targets
            .iter()
            .any(|target| matches!(&target.address, Address::Followed(Sought::Service(name)) if name == service)),
        _ => false,
    };
    let route = config.routes.iter().find(|route| {
        route.matches.hosts == [HostMatch::AnyLocal]
            && matches!(route.matches.path, PathMatch::Prefix(_))
            && leads_there(&route.action)
    })?;
    Some(Words::of(route).url(port))
}
