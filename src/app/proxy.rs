//! The proxy itself: binds, starts one thread per core, hands connections out, drains.
//!
//! Each worker is a thread with a runtime, connections, pools and a reference to the table of its own: nothing on the
//! path of a request is locked or handed over. The only hand-over is that of an accepted socket, to the worker
//! with the fewest connections.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    rc::Rc,
    sync::{
        Arc,
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

use crate::{
    config::{Config, HostMatch},
    drain::{self, Trigger, Watcher},
    forward::{Client, Common, Worker},
    head::Host,
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
    Compile(#[from] CompileError),
    /// The system gives no thread or no event queue.
    #[error("the system does not let the proxy start")]
    System(#[from] io::Error),
    /// There is no TLS without random numbers.
    #[error("the system gives no random numbers")]
    Tls(#[from] rustls::Error),
}

impl Proxy {
    /// Binds every address, then starts to serve on all of them, once `prepare` has seen the table. Must be called on a
    /// runtime, on which health checks will run.
    pub fn start(config: Config, log: &Log, prepare: impl FnOnce(&Snapshot)) -> Result<Self, StartError> {
        let limit = connection_limit();
        let listeners = listen::bind(&config.listen)?;
        let addresses = listeners.iter().map(TcpListener::local_addr).collect::<io::Result<Vec<_>>>()?;
        let port = addresses.first().map_or(0, SocketAddr::port);
        let wanted = wanted(&config, &addresses);
        let (live, watches) = Live::new(config, prepare)?;
        let keys = keys(&live);
        keys.put(wanted);
        let tls = tls::server::config(Arc::clone(&keys))?;
        for (endpoint, asked) in watches {
            tokio::spawn(health::watch(endpoint, asked));
        }
        let (drain, watcher) = drain::channel();
        let count = thread::available_parallelism().map_or(1, usize::from);
        let (inboxes, mails): (Vec<_>, Vec<_>) = (0..count).map(|_| unbounded_channel()).unzip();
        let inboxes: Vec<Inbox> =
            inboxes.into_iter().map(|sender| Inbox { sender, connections: Arc::default() }).collect();
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
        Ok(Self { live, keys, addresses, drain })
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

    /// Puts another table in force for every request that begins from now on, once `prepare` has seen it. Where it listens
    /// does not change.
    pub fn swap(&self, config: Config, prepare: impl FnOnce(&Snapshot)) -> Result<Change, CompileError> {
        let wanted = wanted(&config, &self.addresses);
        let (change, watches) = self.live.swap(config, prepare)?;
        self.keys.put(wanted);
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
fn wanted(config: &Config, addresses: &[SocketAddr]) -> Wanted {
    let named = |host: &HostMatch| match host {
        HostMatch::Exact(name) | HostMatch::Wildcard(name) => Some(name.clone()),
        HostMatch::AnyLocal => None,
    };
    Wanted {
        hosts: config.routes.iter().flat_map(|route| &route.matches.hosts).filter_map(named).collect(),
        addresses: addresses.iter().map(SocketAddr::ip).collect(),
        own: Vec::new(),
    }
}

/// A connection on its way to its worker.
struct Arrival {
    stream: std::net::TcpStream,
    client: Client,
}

type Mail = UnboundedReceiver<Arrival>;

/// Where a worker takes connections from, and how many it has.
#[derive(Debug, Clone)]
struct Inbox {
    sender: UnboundedSender<Arrival>,
    connections: Arc<AtomicUsize>,
}

/// What the accepting worker has besides.
struct Accepts {
    listeners: Vec<TcpListener>,
    inboxes: Vec<Inbox>,
    limit: usize,
}

/// What is done with a connection of a worker.
type Serve = Rc<dyn Fn(TcpStream, Client)>;

/// A worker's thread, until the drain is over.
fn run(
    runtime: &LocalRuntime,
    worker: Worker,
    certificates: Certificates,
    accepts: Option<Accepts>,
    mut mail: Mail,
    mut watcher: Watcher,
    started: &Sender<io::Result<()>>,
) {
    runtime.block_on(async move {
        let (drain, work) = drain::channel();
        let (worker, sweep) = (Rc::new(worker), Rc::<Sweep<Client>>::default());
        spawn_local(sweep_connections(Rc::clone(&sweep)));
        spawn_local(sweep_worker(Rc::clone(&worker)));
        let serve = server(worker, certificates, Rc::clone(&sweep), work);
        let accepting = accepts.map(|accepts| accept_all(&serve, accepts)).unwrap_or_default();
        let _ = started.send(Ok(()));
        loop {
            tokio::select! {
                Some(arrival) = mail.recv() => match TcpStream::from_std(arrival.stream) {
                    Ok(stream) => serve(stream, arrival.client),
                    Err(error) => tracing::warn!(target: "portolan", "a connection was lost: {error}"),
                },
                () = watcher.begun() => break,
            }
        }
        for task in accepting {
            task.abort();
        }
        mail.close();
        while let Ok(Arrival { stream, client }) = mail.try_recv() {
            if let Ok(stream) = TcpStream::from_std(stream) {
                serve(stream, client);
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

/// One accepting task per address. Accepted connections go to the worker that has the fewest.
fn accept_all(serve: &Serve, accepts: Accepts) -> Vec<JoinHandle<()>> {
    let Accepts { listeners, inboxes, limit } = accepts;
    let accept_on = |listener: TcpListener| {
        let local = Arc::new(listener.local_addr()?);
        let listener = tokio::net::TcpListener::from_std(listener)?;
        let (serve, inboxes) = (Rc::clone(serve), inboxes.clone());
        Ok(spawn_local(listen::accept(listener, move |stream, peer| {
            // On a wildcard address only the connection knows which one was asked.
            let own = local.ip().is_unspecified().then(|| stream.local_addr().ok()).flatten();
            let asked = own.map_or_else(|| Arc::clone(&local), Arc::new);
            deliver(&serve, &inboxes, limit, stream, Client::new(peer, asked));
        })))
    };
    let tasks: Vec<io::Result<_>> = listeners.into_iter().map(accept_on).collect();
    tasks
        .into_iter()
        .filter_map(|task| task.inspect_err(|error| tracing::error!(target: "portolan", "cannot accept: {error}")).ok())
        .collect()
}

fn deliver(serve: &Serve, inboxes: &[Inbox], limit: usize, stream: TcpStream, client: Client) {
    let load = |inbox: &Inbox| inbox.connections.load(Relaxed);
    if inboxes.iter().map(load).sum::<usize>() >= limit {
        spawn_local(conn::refuse(stream));
        return;
    }
    // Of equals the first, which is the worker that accepts: nothing is handed over then.
    let Some((at, inbox)) = inboxes.iter().enumerate().min_by_key(|(_, inbox)| load(inbox)) else { return };
    let client = client.counted(Counted::new(&inbox.connections));
    if at == 0 {
        serve(stream, client);
    } else if let Ok(stream) = stream.into_std() {
        // A worker that is gone has begun to drain; so has this one.
        let _ = inbox.sender.send(Arrival { stream, client });
    }
}

/// How a worker serves a connection: in a task of its own, which the drain waits for.
fn server(worker: Rc<Worker>, (keys, tls): Certificates, sweep: Rc<Sweep<Client>>, work: Watcher) -> Serve {
    let within = Rc::clone(&worker);
    let within = move |seat, connection, came| Rc::clone(&within).handle(seat, connection, came);
    // Within TLS there is HTTP, as was agreed on, and a stream carries a request.
    let within = Server::new(within, |_| {});
    let protocols = Rc::new(Protocols::new(within, keys, tls));
    let handler = move |seat, connection, came| Rc::clone(&worker).handle(seat, connection, came);
    let foreign = move |foreign| drop(spawn_local(Rc::clone(&protocols).serve(foreign)));
    let server = Rc::new(Server::new(handler, foreign));
    Rc::new(move |stream, client| {
        // Without it small answers would wait for the acknowledgement of earlier ones.
        let _ = stream.set_nodelay(true);
        let place = sweep.enter(client.guarded(work.guard()));
        spawn_local(Rc::clone(&server).serve(stream, place));
    })
}
