//! The services of the table: a job for each, from the table's first appearance to its last.
//!
//! Nothing starts but by `portolan up`, `restart`, or, once `up` has said that it may, by the first request.

use std::{
    collections::{HashMap, HashSet},
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

use tokio::{
    net::TcpStream,
    sync::{
        broadcast::{self, error::RecvError},
        watch,
    },
    time::Instant,
};

use super::follow::{at, gone};
use crate::{
    config::{Address, Ready, Service, Sought, Start},
    control::{
        Feed,
        api::{LogLine, Problem},
    },
    diagnostic,
    discover::{
        self,
        follow::{Found, Scene, Wish, dialled, of_tree},
    },
    live::Snapshot,
    supervise::{
        Board, Circumstances, Job, Order, State, Status,
        output::{Line, Printer, Stream, plain},
        plan,
        port::Ports,
    },
    tls::Told,
    upstream::{
        Endpoint, health,
        place::{Absent, Spot, Standing},
    },
};

/// How many of a program's last lines a page tells.
const LAST_LINES: usize = 20;

/// How long a question whether a service is ready may take, and how soon it is asked again.
const ASK: Duration = Duration::from_secs(1);
const ASK_AGAIN: Duration = Duration::from_millis(100);

/// How long a start is watched closely. What has not listened by then is a worker that never will, or takes its time.
pub(super) const CLOSELY: Duration = Duration::from_secs(30);

/// What the services share.
#[derive(Debug, Clone, Default)]
pub(super) struct World {
    /// Where the proxy is.
    pub(super) proxy: String,
    /// The soft limit of descriptors that programs would have without us.
    pub(super) descriptors: Option<u64>,
    /// Takes their lines.
    pub(super) printer: Option<Printer>,
    /// Whether their lines are shown on a terminal in colour.
    pub(super) is_coloured: bool,
}

/// All services.
#[derive(Debug)]
pub(super) struct Services {
    world: World,
    board: Arc<Board>,
    entries: Vec<Entry>,
    /// Where each one is told to listen, and its URL: what all of them are told of each other.
    others: Arc<Mutex<Vec<(String, u16, String)>>>,
}

#[derive(Debug)]
struct Entry {
    service: Service,
    job: Job,
    port: u16,
    found: Option<Found>,
    /// The program's own process.
    pid: Option<u32>,
    /// Whether `up` has said that it may run.
    is_up: bool,
    use_seen: (u64, Instant),
    asked: Arc<Mutex<Option<Instant>>>,
}

impl Services {
    pub(super) fn new(world: World) -> Self {
        Self { world, board: Arc::new(watch::Sender::default()), entries: Vec::new(), others: Arc::default() }
    }

    /// What is known of all of them, to be waited for.
    pub(super) fn news(&self) -> watch::Receiver<std::collections::BTreeMap<String, Status>> {
        self.board.subscribe()
    }

    /// Takes over what a table says: new services get a job at rest, those that are gone end, and what is written
    /// differently counts from the next start on.
    pub(super) fn define(
        &mut self,
        services: &[Service],
        ports: &mut Ports,
        is_taken: impl Fn(u16) -> bool,
        url: impl Fn(&str, u16) -> String,
    ) {
        let mut before: HashMap<String, Entry> =
            self.entries.drain(..).map(|entry| (entry.service.name.clone(), entry)).collect();
        for service in services {
            let known = before.remove(&service.name);
            // The one that was given stays; one that was written may not.
            let kept = known.as_ref().filter(|entry| entry.service.port.is_none()).map(|entry| entry.port);
            let given = || kept.or_else(|| ports.give(&service.name, &is_taken)).unwrap_or_default();
            let port = service.port.unwrap_or_else(given);
            if let Some(left) = kept.filter(|kept| *kept != port) {
                ports.take_back(left);
            }
            self.entries.push(match known {
                Some(entry) => entry.redefined(service, port),
                None => self.entry(service, port),
            });
        }
        for entry in before.into_values().filter(|entry| entry.service.port.is_none()) {
            ports.take_back(entry.port);
        }
        let others = self.entries.iter().map(|entry| {
            let name = &entry.service.name;
            (name.clone(), entry.port, url(name, entry.port))
        });
        *self.others.lock().unwrap_or_else(PoisonError::into_inner) = others.collect();
    }

    fn entry(&self, service: &Service, port: u16) -> Entry {
        let (others, proxy, is_coloured) = (Arc::clone(&self.others), self.world.proxy.clone(), self.world.is_coloured);
        let name = service.name.clone();
        let make = move |service: &Service| {
            let mut others = others.lock().unwrap_or_else(PoisonError::into_inner).clone();
            let port = others.iter().find(|(other, ..)| *other == name).map_or(0, |(_, port, _)| *port);
            others.retain(|(other, ..)| *other != name);
            port_is_free(service)?;
            plan(service, &Circumstances { port, proxy: proxy.clone(), others, authority: Told::now(), is_coloured })
        };
        let World { descriptors, printer, .. } = &self.world;
        let job = Job::new(service.clone(), *descriptors, printer.clone(), Arc::clone(&self.board), make);
        Entry {
            service: service.clone(),
            job,
            port,
            found: None,
            pid: None,
            is_up: false,
            use_seen: (0, Instant::now()),
            asked: Arc::default(),
        }
    }

    /// Starts these, and what they need; all if none is named. A service that starts on request, and that no other one needs,
    /// may start from now on.
    pub(super) fn up(&mut self, names: &[String]) -> Result<Vec<String>, Problem> {
        let wanted = self.with_needs(names)?;
        let needed = self.needs_of(&wanted);
        for entry in self.entries.iter_mut().filter(|entry| wanted.contains(&entry.service.name)) {
            let is_due = entry.service.start == Start::WithUp || needed.contains(&entry.service.name);
            entry.may_run(is_due.then_some(Order::Start));
        }
        Ok(self.in_order(&wanted))
    }

    fn needs_of(&self, names: &HashSet<String>) -> HashSet<String> {
        let wanted = self.entries.iter().filter(|entry| names.contains(&entry.service.name));
        wanted.flat_map(|entry| entry.service.needs.iter().cloned()).collect()
    }

    /// Ends these; all if none is named.
    pub(super) fn down(&mut self, names: &[String]) -> Result<Vec<String>, Problem> {
        let wanted = self.named(names)?;
        for entry in self.entries.iter_mut().filter(|entry| wanted.contains(&entry.service.name)) {
            entry.is_up = false;
            entry.job.order(Order::Stop);
        }
        Ok(self.in_order(&wanted))
    }

    /// Ends these and starts them anew; all that run, or have run, if none is named.
    pub(super) fn restart(&mut self, names: &[String]) -> Result<Vec<String>, Problem> {
        let mut wanted = self.named(names)?;
        if names.is_empty() {
            wanted.retain(|name| self.status(name).is_some_and(|status| status.state != State::Stopped));
        }
        // What they need must run; what of it runs is left alone.
        let needed = self.needs_of(&self.with_needs(&self.in_order(&wanted))?);
        for entry in &mut self.entries {
            let name = &entry.service.name;
            if wanted.contains(name) {
                entry.may_run(Some(Order::Restart));
            } else if needed.contains(name) {
                entry.may_run(Some(Order::Start));
            }
        }
        Ok(self.in_order(&wanted))
    }

    fn named(&self, names: &[String]) -> Result<HashSet<String>, Problem> {
        let all: HashSet<String> = self.entries.iter().map(|entry| entry.service.name.clone()).collect();
        if names.is_empty() {
            return Ok(all);
        }
        match names.iter().find(|name| !all.contains(*name)) {
            None => Ok(names.iter().cloned().collect()),
            Some(unknown) => {
                let problem = Problem::new("unknown-service", format!("the table has no service `{unknown}`"));
                let known: Vec<&str> = self.entries.iter().map(|entry| entry.service.name.as_str()).collect();
                Err(match known.as_slice() {
                    [] => problem.help("add it to `[services]`, as in `web = \"npm run dev\"`"),
                    known => problem.help(format!("its services are {}", known.join(", "))),
                })
            }
        }
    }

    fn with_needs(&self, names: &[String]) -> Result<HashSet<String>, Problem> {
        let mut wanted = self.named(names)?;
        let mut next: Vec<String> = wanted.iter().cloned().collect();
        while let Some(name) = next.pop() {
            for need in self.get(&name).into_iter().flat_map(|entry| &entry.service.needs) {
                if wanted.insert(need.clone()) {
                    next.push(need.clone());
                }
            }
        }
        Ok(wanted)
    }

    fn in_order(&self, wanted: &HashSet<String>) -> Vec<String> {
        self.entries.iter().map(|entry| entry.service.name.clone()).filter(|name| wanted.contains(name)).collect()
    }

    fn get(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.service.name == name)
    }

    fn status(&self, name: &str) -> Option<Status> {
        self.board.borrow().get(name).cloned()
    }

    /// Whether any of them runs.
    pub(super) fn is_busy(&self) -> bool {
        self.board.borrow().values().any(|status| status.keeper.is_some())
    }

    /// Whether any of them was started just now and is not ready.
    pub(super) fn is_starting(&self) -> bool {
        let is_new = |since: SystemTime| since.elapsed().is_ok_and(|age| age < CLOSELY);
        self.board.borrow().values().any(|status| status.state == State::Starting && is_new(status.since))
    }

    /// Asks those again that listen and have not answered at the path of their `ready`: no socket tells of that.
    pub(super) fn ask_again(&self) {
        for entry in &self.entries {
            let status = self.status(&entry.service.name).filter(|status| status.state == State::Starting);
            let keeper = status.and_then(|status| status.keeper);
            if let (Some(keeper), Some(found), Ready::Path(path)) = (keeper, &entry.found, &entry.service.ready) {
                entry.ask(keeper, found, path);
            }
        }
    }

    /// Whether any of them is wanted.
    pub(super) fn is_wanted(&self) -> bool {
        self.is_busy() || self.entries.iter().any(|entry| entry.is_up)
    }

    /// Looks where each of them listens, and tells those that wait for just that.
    pub(super) fn look(&mut self, scene: Scene<'_>) {
        for entry in &mut self.entries {
            let status = self.board.borrow().get(&entry.service.name).cloned();
            let keeper = status.and_then(|status| status.keeper);
            entry.pid = keeper.and_then(|keeper| scene.processes.children(keeper).first().copied());
            entry.found = keeper.and_then(|keeper| of_tree(keeper, scene, Wish::given(entry.port)).ok());
            if let (Some(keeper), Some(_)) = (keeper, &entry.found) {
                entry.job.listens(keeper);
            }
        }
    }

    /// Starts what a request waits for, and ends what nobody has asked for in a long time.
    pub(super) fn attend(&mut self, snapshot: &Snapshot) {
        let mut awaited = Vec::new();
        let board = self.board.borrow().clone();
        let at_work: HashSet<String> =
            board.iter().filter(|(_, status)| status.keeper.is_some()).map(|(name, _)| name.clone()).collect();
        let needed = self.needs_of(&at_work);
        for entry in &mut self.entries {
            let (name, Start::OnRequest { idle }) = (&entry.service.name, entry.service.start) else { continue };
            let Some(status) = board.get(name) else { continue };
            let endpoints: Vec<_> = snapshot.endpoints().filter(|endpoint| leads_to(endpoint, name)).collect();
            let is_waited_for =
                endpoints.iter().any(|endpoint| endpoint.place().is_some_and(|place| place.waiting() > 0));
            if entry.is_up && is_waited_for && status.state.is_at_rest() {
                awaited.push(name.clone());
            }
            let counts = endpoints.iter().map(|endpoint| endpoint.counts());
            let (in_hand, begun) = counts.fold((0, 0), |sum, one| (sum.0 + one.0, sum.1 + one.1));
            let is_used = in_hand > 0 || is_waited_for || begun != entry.use_seen.0 || needed.contains(name);
            // Nobody could have asked for one that was not ready.
            if is_used || status.state != State::Ready {
                entry.use_seen = (begun, Instant::now());
            }
            if idle.is_some_and(|idle| entry.use_seen.1.elapsed() >= idle) {
                entry.job.order(Order::Stop);
            }
        }
        if !awaited.is_empty() {
            // Names of the table, which are known.
            let all = self.with_needs(&awaited).unwrap_or_default();
            for entry in self.entries.iter_mut().filter(|entry| all.contains(&entry.service.name)) {
                entry.may_run(Some(Order::Start));
            }
        }
    }

    /// Where a service is, as its requests are told: at the port `near` which it is sought, if it has one there.
    pub(super) fn standing(&self, name: &str, near: Option<u16>, scene: Scene<'_>) -> Standing {
        let (Some(entry), Some(status)) = (self.get(name), self.status(name)) else {
            return gone(Absent::Gone, "the table has no such service any more", &[], &[]);
        };
        match &status.state {
            State::Ready => match &entry.found {
                Some(found) => {
                    let wish = Wish { given: Some(entry.port), near };
                    let nearby = near.and_then(|_| of_tree(status.keeper?, scene, wish).ok());
                    at(nearby.as_ref().unwrap_or(found))
                }
                None => entry.absent(Absent::Starting, "it has ceased to listen", &status),
            },
            State::Starting => {
                let message = if entry.found.is_some() { "it is not ready" } else { "it does not listen yet" };
                entry.absent(Absent::Starting, message, &status)
            }
            State::Waiting(needs) => {
                entry.absent(Absent::Starting, &format!("it waits for {} to be ready", needs.join(", ")), &status)
            }
            State::Backoff(then) => {
                let wait = then.duration_since(SystemTime::now()).unwrap_or_default();
                let message = format!("it has failed, and is started again in {:.1} s", wait.as_secs_f64());
                entry.absent(Absent::Starting, &message, &status)
            }
            State::Stopping => entry.absent(Absent::Starting, "it is being ended", &status),
            State::Stopped | State::Done if entry.is_up && entry.service.start != Start::WithUp => {
                entry.absent(Absent::Starting, "it starts with the first request", &status)
            }
            State::Stopped if entry.is_up => entry.absent(Absent::Starting, "it is about to start", &status),
            State::Stopped | State::Done => entry.at_rest(&status, scene),
        }
    }

    /// What is told of all of them, in the order of the file.
    pub(super) fn told(&self) -> Vec<(&Service, Status, u16, Option<&Found>)> {
        let told = |entry: &'_ Entry| self.status(&entry.service.name).map(|status| (status, entry.port));
        self.entries
            .iter()
            .filter_map(|entry| told(entry).map(|(status, port)| (&entry.service, status, port, entry.found.as_ref())))
            .collect()
    }

    /// The lines of these, those that are kept and, if wanted, those to come.
    pub(super) fn logs(&self, names: &[String], follow: bool) -> Result<Feed, Problem> {
        let wanted = self.named(names)?;
        let (feed, lines) = tokio::sync::mpsc::channel(1024);
        for entry in self.entries.iter().filter(|entry| wanted.contains(&entry.service.name)) {
            let (kept, mut news) = entry.job.output.follow();
            let feed = feed.clone();
            tokio::spawn(async move {
                for line in kept {
                    if feed.send(json(line)).await.is_err() {
                        return;
                    }
                }
                // Those who look on from elsewhere may fall behind; the program must not wait for them.
                while let Some(line) = if follow { next(&mut news).await } else { None } {
                    if feed.send(line).await.is_err() {
                        return;
                    }
                }
            });
        }
        Ok(Feed(lines))
    }
}

/// The next line, or how many were missed; none where there will be no more.
async fn next(news: &mut broadcast::Receiver<Line>) -> Option<String> {
    match news.recv().await {
        Ok(line) => Some(json(line)),
        Err(RecvError::Lagged(count)) => Some(missed(count)),
        Err(RecvError::Closed) => None,
    }
}

fn json(line: Line) -> String {
    let told = LogLine { name: line.name.to_string(), stream: line.stream.word().into(), text: line.text };
    serde_json::to_string(&told).unwrap_or_default()
}

fn missed(count: u64) -> String {
    let stream = Stream::Note.word().into();
    let told = LogLine { name: "portolan".into(), stream, text: format!("{count} lines were not shown") };
    serde_json::to_string(&told).unwrap_or_default()
}

/// Where a service always has the same port, nobody else may have it: the program would fail, and rarely say who does.
fn port_is_free(service: &Service) -> Result<(), String> {
    let Some(port) = service.port else { return Ok(()) };
    let wanted = SocketAddr::from(([127, 0, 0, 1], port));
    if discover::owner_of(wanted).is_none() {
        return Ok(());
    }
    let taken = std::io::Error::from(std::io::ErrorKind::AddrInUse);
    let purpose = discover::Purpose::Service(&service.name);
    let problem = discover::cannot_bind(wanted, purpose, Some(&service.origin), &taken);
    Err(diagnostic::render(&[problem], false))
}

fn leads_to(endpoint: &Endpoint, name: &str) -> bool {
    matches!(endpoint.address(), Address::Followed(Sought::Service(service)) if service == name)
}

impl Entry {
    fn redefined(mut self, service: &Service, port: u16) -> Self {
        if self.service != *service {
            self.job.order(Order::Redefine(Box::new(service.clone())));
            self.service = service.clone();
        }
        self.port = port;
        self
    }

    /// It may run from now on, and is given this order, if any.
    fn may_run(&mut self, order: Option<Order>) {
        self.is_up = true;
        self.use_seen.1 = Instant::now();
        if let Some(order) = order {
            self.job.order(order);
        }
    }

    /// Asks, unless that is under way or has just been done, whether the service answers at the path of its `ready`.
    fn ask(&self, keeper: u32, found: &Found, path: &str) {
        let mut asked = self.asked.lock().unwrap_or_else(PoisonError::into_inner);
        if asked.is_some_and(|then| then > Instant::now()) {
            return;
        }
        *asked = Some(Instant::now() + ASK);
        let (answers, address, path) = (self.job.answerer(keeper), found.addresses[0], path.to_owned());
        let slot = Arc::clone(&self.asked);
        tokio::spawn(async move {
            let asking = async {
                match TcpStream::connect(address).await {
                    Ok(stream) => health::answers(stream, &path).await,
                    Err(_) => false,
                }
            };
            if tokio::time::timeout(ASK, asking).await.unwrap_or(false) {
                answers();
            }
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + ASK_AGAIN);
        });
    }

    fn absent(&self, kind: Absent, message: &str, status: &Status) -> Standing {
        let mut notes = Vec::new();
        if status.keeper.is_some() {
            let age = status.since.elapsed().unwrap_or_default().as_secs();
            let pid = self.pid.map(|pid| format!(" (pid {pid})")).unwrap_or_default();
            notes.push(format!("it was started {age} s ago{pid}"));
        }
        if let (Some(exit), None) = (&status.exit, status.keeper) {
            let times =
                if status.restarts == 0 { String::new() } else { format!(", restarted {} times", status.restarts) };
            notes.push(format!("it ended with {exit}{times}"));
        }
        if let Some(asks) = self.asks(status) {
            notes.push(asks);
        }
        notes.extend(self.last_lines());
        let help = format!("see `portolan logs {0}`; after a change, `portolan restart {0}`", self.service.name);
        gone(kind, message, &notes, &[&help])
    }

    fn asks(&self, status: &Status) -> Option<String> {
        let is_starting = status.state == State::Starting && self.found.is_some();
        match &self.service.ready {
            Ready::Path(path) if is_starting => {
                Some(format!("it is ready when GET {path} is answered with a status below 400"))
            }
            Ready::Line(pattern) if is_starting => {
                Some(format!("it is ready when a line of its output matches `{pattern}`"))
            }
            _ => None,
        }
    }

    fn last_lines(&self) -> Option<String> {
        let lines: Vec<String> = self.job.output.last(LAST_LINES).into_iter().map(|line| plain(&line.text)).collect();
        let last = lines.last()?;
        Some(format!("it last said: {last}\n{}", lines.join("\n")))
    }

    /// Not started by us; somebody may have started it by hand where it always listens.
    fn at_rest(&self, status: &Status, scene: Scene<'_>) -> Standing {
        let by_hand = self.service.port.and_then(|port| {
            scene.sockets.iter().find(|socket| socket.address.port() == port && !socket.address.ip().is_multicast())
        });
        if let Some(socket) = by_hand {
            let addresses = dialled(socket.address, scene.sockets);
            return Standing::At(Spot { addresses: addresses.into(), socket: socket.inode, ear: None });
        }
        let name = &self.service.name;
        let (message, help) = match status.state {
            State::Done => ("it has ended by itself", format!("start it again with `portolan restart {name}`")),
            _ => ("it is not running", format!("start it with `portolan up {name}`")),
        };
        let mut notes: Vec<String> = status.exit.iter().map(|exit| format!("it ended with {exit}")).collect();
        notes.extend(self.last_lines());
        gone(Absent::Gone, message, &notes, &[&help])
    }
}
