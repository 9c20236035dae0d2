//! The proxy itself: binds, starts one thread per core, hands connections out, drains.
//!
//! Each worker is a thread with a runtime, connections, pools and a reference to the table of its own: nothing on the
//! path of a request is locked or handed over. The only hand-over is that of an accepted socket, to the worker
//! with the fewest connections.

use std::{
    collections::HashMap,
    convert::Infallible,
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc::Sender,
    },
    thread,
};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use rustls::ServerConfig;
use tokio::{
    net::TcpStream,
    runtime::{Builder, LocalOptions, LocalRuntime},
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    task::{JoinHandle, spawn_local},
    time::sleep,
};

use super::doors::{DoorError, Doors};
use crate::{
    config::Config,
    diagnostic::Diagnostic,
    drain::{self, Trigger, Watcher},
    forward::{Client, Common, WayIn, Worker},
    head::Host,
    http1::leg::Transport,
    listen::{
        self, BindError, Counted,
        conn::{self, Server},
        deadlines::Sweep,
        protocols::Protocols,
    },
    live::{Change, Live, Snapshot},
    observe::Log,
    table::CompileError,
    tls::{
        self,
        server::{Keys, Wanted},
    },
    trust::written,
    upstream::{health, pool},
};

/// The most client connections at once. Each may need a second descriptor for its program (Envoy advises to stay
/// below half of the limit), and a few are needed for everything else.
const MOST_CONNECTIONS: usize = 10_000;
const SPARE_DESCRIPTORS: usize = 64;

/// A running proxy. Dropping it drains its workers, too, but waits for nothing.
#[derive(Debug)]
pub struct Proxy {
    live: Arc<Live>,
    keys: Arc<Keys>,
    addresses: Vec<SocketAddr>,
    /// The ports of `[tcp]` that are open.
    doors: Mutex<Doors>,
    drain: Trigger,
}

/// Why a proxy does not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// An address cannot be listened on.
    #[error(transparent)]
    Bind(#[from] BindError),
    /// The table cannot be put in force.
    #[error(transparent)]
    Table(#[from] TableError),
    /// The system gives no thread or no event queue.
    #[error("the system does not let the proxy start")]
    System(#[from] io::Error),
    /// There is no TLS without random numbers.
    #[error("the system gives no random numbers")]
    Tls(#[from] rustls::Error),
}

/// Why a table cannot be put in force.
#[derive(Debug, thiserror::Error)]
pub enum TableError {
    /// A TCP route cannot listen.
    #[error(transparent)]
    Door(#[from] DoorError),
    /// Its patterns are too large.
    #[error(transparent)]
    Compile(#[from] CompileError),
}

impl Proxy {
    /// Binds every address, then starts to serve on all of them, once `prepare` has seen the table. Must be called on a
    /// runtime, on which health checks will run.
    pub fn start(config: Config, log: &Log, prepare: impl FnOnce(&Snapshot)) -> Result<Self, StartError> {
        let limit = connection_limit();
        let listeners = listen::bind(&config.listen)?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let port = addresses.first().map_or(0, SocketAddr::port);
        let count = thread::available_parallelism().map_or(1, usize::from);
        let (inboxes, mails): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded_channel()).unzip();
        let inboxes: Vec<Inbox> =
            inboxes.into_iter().map(|sender| Inbox { sender, connections: Arc::default() }).collect();
        let mut doors = Doors::new(inboxes[0].sender.clone());
        let opening = doors.bind(&config.tcp).map_err(TableError::from)?;
        let wanted = wanted(&config, &addresses);
        let (live, watches) = Live::new(config, prepare).map_err(TableError::from)?;
        let keys = keys(&live);
        put(&keys, wanted);
        let tls = tls::server::config(Arc::clone(&keys))?;
        for (endpoint, asked) in watches {
            tokio::spawn(health::watch(endpoint, asked));
        }
        let (drain, watcher) = drain::channel();
        doors.open(opening);
        let mut listeners = Some(listeners);
        let common = Arc::<Common>::default();
        let (started, starting) = std::sync::mpsc::channel();
        for (number, mail) in mails.into_iter().enumerate() {
            // The first worker accepts for all of them.
            let accepts = listeners.take().map(|listeners| Accepts { listeners, inboxes: inboxes.clone(), limit });
            let (live, log, watcher) = (Arc::clone(&live), log.clone(), watcher.clone());
            let (common, started) = (Arc::clone(&common), started.clone());
            let certificates = (Arc::clone(&keys), Arc::clone(&tls));
            thread::Builder::new().name(format!("worker-{number}")).spawn(move || {
                match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
                    Ok(runtime) => {
                        let worker = Worker::new(live.reader(), log, common, port);
                        run(&runtime, worker, certificates, accepts, mail, watcher, &started);
                    }
                    // Nobody waits any more once another worker has failed.
                    Err(error) => drop(started.send(Err(error))),
                }
            })?;
        }
        drop(started);
        starting.iter().take(count).collect::<io::Result<()>>()?;
        Ok(Self { live, keys, addresses, doors: Mutex::new(doors), drain })
    }

    /// Where it listens; the first one is the one to tell.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// The table in force.
    pub fn table(&self) -> Arc<Snapshot> {
        self.live.current()
    }

    /// Returns when a request has begun to wait for a program since this was last asked.
    pub async fn called(&self) {
        self.live.called().await;
    }

    /// Puts another table in force for every request that begins from now on, once `prepare` has seen it, whole or not at
    /// all. Where it listens for HTTP does not change; ports of `[tcp]` are opened and closed as the table says, and those
    /// that stay keep their sockets. Waits for a port to be closed where another address of it is to be opened.
    pub fn swap(&self, config: Config, prepare: impl FnOnce(&Snapshot)) -> Result<Change, TableError> {
        let mut doors = self.doors.lock().unwrap_or_else(PoisonError::into_inner);
        let opening = doors.bind(&config.tcp)?;
        let wanted = wanted(&config, &self.addresses);
        let (change, watches) = match self.live.swap(config, prepare) {
            Ok(swapped) => swapped,
            Err(error) => {
                doors.abandon(opening);
                return Err(error.into());
            }
        };
        put(&self.keys, wanted);
        doors.open(opening);
        for (endpoint, asked) in watches {
            tokio::spawn(health::watch(endpoint, asked));
        }
        Ok(change)
    }

    /// Accepts no more and returns when every request in hand is answered. Tunnels end at once: they have no end of
    /// their own to wait for.
    pub async fn drain(self) {
        self.drain.drained().await;
    }
}

/// Raises the soft limit of descriptors to the hard one and says how many connections that allows.
fn connection_limit() -> usize {
    let limit = getrlimit(Resource::Nofile);
    // Where raising is not permitted the present limit stays.
    let _ = setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum });
    let descriptors = getrlimit(Resource::Nofile).current.map_or(usize::MAX, |limit| limit as usize);
    (descriptors / 2).saturating_sub(SPARE_DESCRIPTORS).clamp(1, MOST_CONNECTIONS)
}

/// Whose certificate is shown, and what is agreed on with clients.
type Certificates = (Arc<Keys>, Arc<ServerConfig>);

/// Shown for hosts that the table in force knows.
fn keys(live: &Arc<Live>) -> Arc<Keys> {
    let folder = tls::folder::default().inspect_err(|error| {
        tracing::warn!(target: "portolan", "https is not served: {error}");
    });
    let live = Arc::clone(live);
    let is_ours = move |name: &str| Host::parse(name.as_bytes()).is_ok_and(|host| live.current().table.knows(&host));
    Arc::new(Keys::new(folder.unwrap_or_default(), is_ours))
}

/// What the table says of certificates.
fn wanted(config: &Config, addresses: &[SocketAddr]) -> Result<Wanted, Vec<Diagnostic>> {
    written::wanted(config, addresses.iter().map(SocketAddr::ip).collect())
}

/// A file that was good when the table was read may have changed since: then what was shown before is shown on.
fn put(keys: &Keys, wanted: Result<Wanted, Vec<Diagnostic>>) {
    match wanted {
        Ok(wanted) => keys.put(wanted),
        Err(problems) => {
            for problem in problems {
                let place = problem.at.as_ref().map(|(span, _)| format!("{}: ", span.location())).unwrap_or_default();
                tracing::error!(target: "portolan", "{place}{}", problem.message);
            }
        }
    }
}

/// What comes to a worker.
#[derive(Debug)]
pub(super) enum Mail {
    /// A connection.
    Arrival(Arrival),
    /// For the worker that accepts: a port of `[tcp]` from which it does so from now on.
    Open(TcpListener),
    /// And one from which it does so no more; dropped, this tells that it is closed.
    Close(SocketAddr, Sender<Infallible>),
}

/// A connection on its way to its worker.
#[derive(Debug)]
pub(super) struct Arrival {
    stream: std::net::TcpStream,
    client: Client,
    kind: Kind,
}

/// What a connection is served as.
#[derive(Debug, Clone, Copy)]
enum Kind {
    /// By requests.
    Requests,
    /// By the routes of `[tcp]`.
    Raw,
}

/// Where a worker takes connections from, and how many it has.
#[derive(Debug, Clone)]
struct Inbox {
    sender: UnboundedSender<Mail>,
    connections: Arc<AtomicUsize>,
}

/// What the accepting worker has besides.
struct Accepts {
    listeners: Vec<TcpListener>,
    inboxes: Vec<Inbox>,
    limit: usize,
}

/// What is done with a connection of a worker.
type Serve = Rc<dyn Fn(TcpStream, Client, Kind)>;

/// A worker's thread, until the drain is over.
fn run(
    runtime: &LocalRuntime,
    worker: Worker,
    certificates: Certificates,
    accepts: Option<Accepts>,
    mut mails: UnboundedReceiver<Mail>,
    mut watcher: Watcher,
    started: &Sender<io::Result<()>>,
) {
    runtime.block_on(async move {
        let (drain, work) = drain::channel();
        let (worker, sweep) = (Rc::new(worker), Rc::<Sweep<Client>>::default());
        spawn_local(sweep_connections(Rc::clone(&sweep)));
        spawn_local(sweep_worker(Rc::clone(&worker)));
        let serve = server(worker, certificates, Rc::clone(&sweep), work);
        let mut accepting = accepts.map(|accepts| Accepting::new(&serve, accepts));
        let _ = started.send(Ok(()));
        loop {
            tokio::select! {
                Some(mail) = mails.recv() => match (mail, &mut accepting) {
                    (Mail::Arrival(arrival), _) => arrival.serve(&serve),
                    (Mail::Open(listener), Some(accepting)) => accepting.open(listener, Kind::Raw),
                    (Mail::Close(address, closed), Some(accepting)) => accepting.close(address, closed),
                    (Mail::Open(_) | Mail::Close(..), None) => {}
                },
                () = watcher.begun() => break,
            }
        }
        drop(accepting);
        mails.close();
        while let Ok(mail) = mails.try_recv() {
            if let Mail::Arrival(arrival) = mail {
                arrival.serve(&serve);
            }
        }
        sweep.drain();
        drop(serve);
        drain.drained().await;
    });
}

async fn sweep_connections(sweep: Rc<Sweep<Client>>) {
    sweep.run().await;
}

async fn sweep_worker(worker: Rc<Worker>) {
    loop {
        sleep(pool::SWEEP).await;
        worker.sweep();
    }
}

impl Arrival {
    fn serve(self, serve: &Serve) {
        match TcpStream::from_std(self.stream) {
            Ok(stream) => serve(stream, self.client, self.kind),
            Err(error) => tracing::warn!(target: "portolan", "a connection was lost: {error}"),
        }
    }
}

/// What a worker accepts from, a task per address. Dropping it ends them.
struct Accepting {
    serve: Serve,
    inboxes: Rc<[Inbox]>,
    limit: usize,
    tasks: HashMap<SocketAddr, JoinHandle<()>>,
}

impl Accepting {
    fn new(serve: &Serve, accepts: Accepts) -> Self {
        let Accepts { listeners, inboxes, limit } = accepts;
        let mut accepting = Self { serve: Rc::clone(serve), inboxes: inboxes.into(), limit, tasks: HashMap::new() };
        for listener in listeners {
            accepting.open(listener, Kind::Requests);
        }
        accepting
    }

    /// Accepts from now on. Connections go to the worker that has the fewest.
    fn open(&mut self, listener: TcpListener, kind: Kind) {
        let opened =
            listener.local_addr().and_then(|address| Ok((address, tokio::net::TcpListener::from_std(listener)?)));
        let (address, listener) = match opened {
            Ok(opened) => opened,
            Err(error) => return tracing::error!(target: "portolan", "cannot accept: {error}"),
        };
        let way = Arc::new(WayIn::new(address));
        let (serve, inboxes, limit) = (Rc::clone(&self.serve), Rc::clone(&self.inboxes), self.limit);
        let accepting = spawn_local(listen::accept(listener, move |stream, peer| {
            // On a wildcard address only the connection knows which one was asked; a TCP route is known by its own.
            let is_wild = matches!(kind, Kind::Requests) && address.ip().is_unspecified();
            let own = is_wild.then(|| stream.local_addr().ok()).flatten();
            let way = own.map_or_else(|| Arc::clone(&way), |own| Arc::new(WayIn::new(own)));
            deliver(&serve, &inboxes, limit, stream, Client::new(peer, way), kind);
        }));
        self.tasks.insert(address, accepting);
    }

    /// Accepts no more there, and keeps `closed` until the socket is gone.
    fn close(&mut self, address: SocketAddr, closed: Sender<Infallible>) {
        if let Some(task) = self.tasks.remove(&address) {
            task.abort();
            spawn_local(async move {
                let _ = task.await;
                drop(closed);
            });
        }
    }
}

impl Drop for Accepting {
    fn drop(&mut self) {
        for task in self.tasks.values() {
            task.abort();
        }
    }
}

fn deliver(serve: &Serve, inboxes: &[Inbox], limit: usize, mut stream: TcpStream, client: Client, kind: Kind) {
    let load = |inbox: &Inbox| inbox.connections.load(Relaxed);
    if inboxes.iter().map(load).sum::<usize>() >= limit {
        match kind {
            Kind::Requests => drop(spawn_local(conn::refuse(stream))),
            Kind::Raw => stream.reset(),
        }
        return;
    }
    // Of equals the first, which is the worker that accepts: nothing is handed over then.
    let Some((at, inbox)) = inboxes.iter().enumerate().min_by_key(|(_, inbox)| load(inbox)) else { return };
    let client = client.counted(Counted::new(&inbox.connections));
    if at == 0 {
        serve(stream, client, kind);
    } else if let Ok(stream) = stream.into_std() {
        // A worker that is gone has begun to drain; so has this one.
        let _ = inbox.sender.send(Mail::Arrival(Arrival { stream, client, kind }));
    }
}

/// How a worker serves a connection: in a task of its own, which the drain waits for.
fn server(worker: Rc<Worker>, (keys, tls): Certificates, sweep: Rc<Sweep<Client>>, work: Watcher) -> Serve {
    let (within, carrier) = (Rc::clone(&worker), Rc::clone(&worker));
    let within = move |seat, connection, came| Rc::clone(&within).handle(seat, connection, came);
    // Within TLS there is HTTP, as was agreed on, and a stream carries a request.
    let within = Server::new(within, |_| {});
    let protocols = Rc::new(Protocols::new(within, keys, tls));
    let handler = move |seat, connection, came| Rc::clone(&worker).handle(seat, connection, came);
    let foreign = move |foreign| drop(spawn_local(Rc::clone(&protocols).serve(foreign)));
    let server = Rc::new(Server::new(handler, foreign));
    Rc::new(move |stream, client, kind| {
        // Without it small answers would wait for the acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        let place = sweep.enter(client.guarded(work.guard()));
        match kind {
            Kind::Requests => drop(spawn_local(Rc::clone(&server).serve(stream, place))),
            Kind::Raw => drop(spawn_local(Rc::clone(&carrier).carry(stream, place))),
        }
    })
}
