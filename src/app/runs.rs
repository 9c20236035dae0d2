//! The commands that `portolan run` looks after elsewhere: each has a name, a port and a route for as long as its
//! connection to us lives.

use std::{path::PathBuf, sync::Arc};

use tokio::{
    sync::{mpsc, oneshot},
    time::Instant,
};

use super::{
    follow::{at, gone},
    services::CLOSELY,
};
use crate::{
    config::{
        Action, Address, Filters, HostMatch, Match, OWN_HOST, PathMatch, Protocol, Route, Sought, Target, Words,
        is_label, plain_forward,
    },
    control::{
        Feed, Registration,
        api::{Problem, Register, Registered, RunNews, RunStatus},
    },
    diagnostic::{Source, Span, shown},
    discover::follow::{Found, Scene, Wish, of_tree},
    supervise::port::Ports,
    upstream::place::{Absent, Standing},
};

/// All runs.
#[derive(Debug)]
pub(super) struct Runs {
    list: Vec<Run>,
    /// Tells whose connection has ended.
    ended: mpsc::UnboundedSender<u64>,
    next: u64,
}

#[derive(Debug)]
struct Run {
    id: u64,
    wish: Register,
    pid: u32,
    port: u16,
    route: Route,
    found: Option<Found>,
    since: Instant,
    /// Whether it has ever listened: its route is there from then on.
    has_listened: bool,
    news: mpsc::Sender<String>,
}

impl Runs {
    /// None yet; where ends are told comes with it.
    pub(super) fn new() -> (Self, mpsc::UnboundedReceiver<u64>) {
        let (ended, ends) = mpsc::unbounded_channel();
        (Self { list: Vec::new(), ended, next: 0 }, ends)
    }

    pub(super) fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// Whether one of them was started just now and has not listened yet.
    pub(super) fn is_starting(&self) -> bool {
        self.list.iter().any(|run| !run.has_listened && run.since.elapsed() < CLOSELY)
    }

    /// The routes of those that have begun to listen.
    pub(super) fn routes(&self) -> impl Iterator<Item = &Route> {
        self.list.iter().filter(|run| run.has_listened).map(|run| &run.route)
    }

    /// Takes one on; `table` are the routes of the file, `place` where the proxy is.
    pub(super) fn register(
        &mut self,
        wish: Register,
        pid: u32,
        around: &Around<'_>,
        ports: &mut Ports,
        is_taken: impl Fn(u16) -> bool,
    ) -> Result<Registration, Problem> {
        // A process that this system cannot name could be any.
        if pid == 0 || wish.labels.is_empty() || !wish.labels.iter().all(|label| is_label(label)) {
            return Err(Problem::new("bad-request", "a run has a process and labels of a host name"));
        }
        let route = route(&wish, around.project);
        if route.matches.hosts == [HostMatch::Exact(OWN_HOST.into())] {
            return Err(Problem::new("name-taken", format!("{OWN_HOST} is portolan's own host"))
                .help("give the command another name: `portolan run --name app -- …`"));
        }
        self.refuse_a_second(&wish, &route, around.routes)?;
        let given = || ports.give(&wish.name, is_taken);
        let no_port = || Problem::new("no-port", "no port between 49152 and 65535 is free").help("end some programs");
        let port = wish.port.or_else(given).ok_or_else(no_port)?;
        let (news, lines) = mpsc::channel(16);
        let (alive, gone) = oneshot::channel::<()>();
        let (id, ended) = (self.next, self.ended.clone());
        self.next += 1;
        tokio::spawn(async move {
            // Nothing is ever sent: it ends when the connection does.
            let _ = gone.await;
            let _ = ended.send(id);
        });
        let given = Registered { url: Words::of(&route).url(around.port), port, proxy: around.url.to_owned() };
        self.list.push(Run {
            id,
            wish,
            pid,
            port,
            route,
            found: None,
            since: Instant::now(),
            has_listened: false,
            news,
        });
        Ok(Registration { given, news: Feed(lines), alive })
    }

    fn refuse_a_second(&self, wish: &Register, route: &Route, table: &[Route]) -> Result<(), Problem> {
        let another = || format!("give this one another name: `portolan run --name {}-2 -- …`", wish.name);
        if let Some(run) = self.list.iter().find(|run| run.wish.name == wish.name) {
            return Err(Problem::new("name-taken", format!("`{}` is run already", wish.name))
                .note(format!("`{}` (pid {}) in {}", run.wish.command, run.pid, shown(&run.wish.folder)))
                .help(format!("end it with `kill {}`, or {}", run.pid, another())));
        }
        let is_same = |other: &&Route| {
            other.name == route.name
                || (other.matches.path == route.matches.path && other.matches.hosts.contains(&route.matches.hosts[0]))
        };
        match table.iter().find(is_same) {
            Some(other) => Err(Problem::new("name-taken", format!("the table has a route `{}` already", other.name))
                .note(format!("it stands at {}", other.origin.location()))
                .help(another())),
            None => Ok(()),
        }
    }

    /// The run that this process has registered.
    pub(super) fn of(&self, pid: u32) -> Option<u64> {
        self.list.iter().find(|run| run.pid == pid).map(|run| run.id)
    }

    /// Takes one off that has ended; whether it had a route.
    pub(super) fn remove(&mut self, id: u64, ports: &mut Ports) -> bool {
        let Some(at) = self.list.iter().position(|run| run.id == id) else { return false };
        let run = self.list.remove(at);
        if run.wish.port.is_none() {
            ports.take_back(run.port);
        }
        run.has_listened
    }

    /// Looks where each of them listens; whether a route has come into being.
    pub(super) fn look(&mut self, scene: Scene<'_>) -> bool {
        let mut is_new = false;
        for run in &mut self.list {
            let found = of_tree(run.pid, scene, Wish::given(run.port)).ok();
            let addresses = |found: &Option<Found>| found.as_ref().map(|found| found.addresses.clone());
            if addresses(&found) != addresses(&run.found) {
                let news = RunNews { addresses: addresses(&found).unwrap_or_default() };
                // Who does not read misses some news, not the route.
                let _ = run.news.try_send(serde_json::to_string(&news).unwrap_or_default());
            }
            is_new |= found.is_some() && !run.has_listened;
            run.has_listened |= found.is_some();
            run.found = found;
        }
        is_new
    }

    /// Where a run is, as its requests are told.
    pub(super) fn standing(&self, name: &str) -> Standing {
        let Some(run) = self.list.iter().find(|run| run.route.name == name) else {
            return gone(Absent::Gone, "it has ended", &[], &[]);
        };
        match &run.found {
            Some(found) => at(found),
            None => {
                let whose = format!("`{}` (pid {}) in {}", run.wish.command, run.pid, shown(&run.wish.folder));
                gone(
                    Absent::Starting,
                    "it has ceased to listen",
                    &[whose],
                    &["look at its output, in its own terminal"],
                )
            }
        }
    }

    /// What is told of all of them.
    pub(super) fn told(&self, port: u16) -> Vec<RunStatus> {
        let told = |run: &Run| RunStatus {
            name: run.wish.name.clone(),
            pid: run.pid,
            command: run.wish.command.clone(),
            folder: run.wish.folder.clone(),
            url: Words::of(&run.route).url(port),
            port: run.port,
            addresses: run.found.as_ref().map(|found| found.addresses.clone()).unwrap_or_default(),
        };
        self.list.iter().map(told).collect()
    }
}

/// What stands around a new run.
pub(super) struct Around<'a> {
    /// Of the table's host names.
    pub(super) project: Option<&'a str>,
    /// The routes of the file.
    pub(super) routes: &'a [Route],
    /// Where the proxy listens.
    pub(super) port: u16,
    /// The same as a URL.
    pub(super) url: &'a str,
}

/// The route of a run, as if it stood in a table.
fn route(wish: &Register, project: Option<&str>) -> Route {
    let labels: Vec<&str> = wish.labels.iter().map(String::as_str).chain(project).chain(["localhost"]).collect();
    let source = Source { name: "portolan run".into(), path: None::<PathBuf>, text: wish.command.clone() };
    let origin = Span { source: Arc::new(source), range: 0..wish.command.len() };
    let target = Target {
        address: Address::Followed(Sought::Run(wish.name.clone())),
        protocol: Protocol::Http,
        weight: 1,
        owner: None,
        origin: origin.clone(),
    };
    Route {
        name: wish.name.clone(),
        origin,
        written: 0,
        matches: Match {
            hosts: vec![HostMatch::Exact(labels.join("."))],
            path: PathMatch::Prefix("/".into()),
            methods: Vec::new(),
            headers: Vec::new(),
            query: Vec::new(),
        },
        certificate: None,
        filters: Filters::default(),
        action: Action::Forward(plain_forward(vec![target])),
    }
}
