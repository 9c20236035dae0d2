//! What ten thousand connections cost that wait for their next request: next to nothing beyond the kernel's sockets.

use std::{
    fs,
    net::{SocketAddr, TcpListener, TcpStream},
    path::Path,
    process::{Child, Command, Stdio},
    sync::Arc,
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, getuid, kill_process, setrlimit};

use crate::{
    alone,
    folder::Folder,
    leave_out,
    load::{Buffer, Exchange, connect},
    program::{PATIENCE, Portolan, tell},
};

/// Connections, where this machine lets a process have twice as many descriptors.
const CONNECTIONS: usize = 10_000;

/// With the first of them all is there that is made once.
const FIRST: usize = 1_000;

/// Fewer tell nothing: memory is had by pages.
const FEWEST: usize = 2 * FIRST;

/// Bytes of user memory for each connection, at most.
const MOST: u64 = 1024;

/// The same as a part of what nginx takes.
const MOST_BESIDE_NGINX: f64 = 1.5;

/// Descriptors of either process that are no connections of clients.
const OTHERS: usize = 128;

#[test]
fn a_connection_that_waits_takes_no_more_than_a_kilobyte() {
    const TEST: &str = "a_connection_that_waits_takes_no_more_than_a_kilobyte";
    let _alone = alone();
    let Some(count) = most_connections(TEST) else { return };
    let exchange = Arc::new(Exchange::small());
    let port = exchange.origin();
    let folder = Folder::new();
    let ours = bytes_of_each("portolan", count, |count| {
        let portolan = Portolan::serve(&folder, &["-q", &format!("/={port}")]);
        memory_with(count, portolan.address(), &exchange, || portolan.memory().now)
    });

    if is_full() {
        let theirs = bytes_of_each("nginx", count, |count| {
            // Its tables are part of what a connection takes, but are made at the start: they are as large as they must
            // be, which is a little more than is used, as it closes those that wait before the last sixteenth is.
            let nginx = Nginx::start(&folder, port, count + count / 8 + OTHERS);
            memory_with(count, nginx.address, &exchange, || nginx.memory())
        });
        let ratio = ours as f64 / theirs as f64;
        assert!(ratio <= MOST_BESIDE_NGINX, "{ours} bytes where nginx takes {theirs}: {ratio:.2}");
    }
    assert!(ours <= MOST, "{ours} bytes for each of {count} connections");
}

/// Raw streams that wait, beside the first of them.
const STREAMS: usize = 2_000;

/// Bytes of user memory for each of them, at most: two directions, and no buffer for either.
const MOST_FOR_A_STREAM: u64 = 2 * 1024;

#[test]
fn a_raw_stream_that_waits_takes_no_more_than_two_kilobytes() {
    const TEST: &str = "a_raw_stream_that_waits_takes_no_more_than_two_kilobytes";
    let _alone = alone();
    let Some(count) = most_connections(TEST) else { return };
    let exchange = Arc::new(Exchange::small());
    let origin = exchange.origin();
    // A TCP route takes no free port by itself. Nobody else starts anything now.
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let folder = Folder::with_table(format!("[tcp]\ndb = {{ listen = \"{address}\", to = {origin} }}\n"));
    let each = bytes_of_each("a raw stream of portolan", count.min(FIRST + STREAMS), |count| {
        let portolan = Portolan::serve(&folder, &["-q"]);
        memory_with(count, address, &exchange, || portolan.memory().now)
    });
    assert!(each <= MOST_FOR_A_STREAM, "{each} bytes for each of them");
}

/// As many of them as both processes may have, ours and the proxy's, which needs two descriptors for each.
fn most_connections(test: &str) -> Option<usize> {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let descriptors = maximum.map_or(usize::MAX, |maximum| maximum as usize);
    let count = CONNECTIONS.min((descriptors / 2).saturating_sub(OTHERS));
    if count < FEWEST {
        leave_out(test, format_args!("{descriptors} descriptors are too few: raise the hard limit of `ulimit -n`"));
        return None;
    }
    if count < CONNECTIONS {
        tell(format_args!("{count} connections instead of {CONNECTIONS}: the hard limit is {descriptors} descriptors"));
    }
    Some(count)
}

/// By how much the memory of a proxy grows with each connection, all but the first.
fn bytes_of_each(who: &str, count: usize, memory_with: impl Fn(usize) -> u64) -> u64 {
    let (few, many) = (memory_with(FIRST), memory_with(count));
    let each = many.saturating_sub(few) / (count - FIRST) as u64;
    tell(format_args!(
        "{who}: {each} bytes for each connection that waits; {} KiB with {FIRST} of them, {} KiB with {count}",
        few / 1024,
        many / 1024,
    ));
    each
}

/// The memory of a proxy while so many connections wait, each of which has made a request.
fn memory_with(count: usize, address: SocketAddr, exchange: &Exchange, memory: impl Fn() -> u64) -> u64 {
    let mut buffer = Buffer::new();
    let mut ask = |client: &TcpStream| {
        exchange.ask(client);
        exchange.take(client, &mut buffer);
    };
    let mut open = |_| {
        let client = connect(address);
        ask(&client);
        client
    };
    let clients: Vec<_> = (0..count).map(&mut open).collect();
    let memory = memory();
    // What was measured are connections that are still of use.
    clients.iter().for_each(ask);
    memory
}

fn is_full() -> bool {
    match std::env::var("PORTOLAN_ACCEPTANCE") {
        Ok(form) => {
            assert_eq!(form, "full", "PORTOLAN_ACCEPTANCE is `full` or not set");
            true
        }
        Err(_) => false,
    }
}

/// nginx as it stands beside portolan in the benchmarks. Dropping it ends it.
struct Nginx {
    child: Child,
    address: SocketAddr,
}

impl Nginx {
    fn start(folder: &Folder, origin: u16, connections: usize) -> Self {
        let template = Path::new(env!("CARGO_MANIFEST_DIR")).join("benches/peers/conf/nginx.conf");
        // It takes no free port by itself. Nobody else starts anything now.
        let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        // As root it would hand its work to a user who may not enter our folder.
        let user = if getuid().is_root() { "user root;" } else { "" };
        let config = fs::read_to_string(template)
            .unwrap()
            .replace("worker_connections 8192;", &format!("worker_connections {connections};"))
            .replace("@DIR@", folder.path().to_str().unwrap())
            .replace("@PORT@", &address.port().to_string())
            .replace("@ORIGIN@", &origin.to_string())
            .replace("@USER@", user);
        let config = folder.write("nginx.conf", config);
        let mut command = Command::new(if Path::new("/usr/sbin/nginx").exists() { "/usr/sbin/nginx" } else { "nginx" });
        command.arg("-e").arg("stderr").arg("-c").arg(config).stdin(Stdio::null());
        let child = command.spawn().expect("the long form needs nginx: run benches/peers/setup");
        let nginx = Self { child, address };
        let began = Instant::now();
        while let Err(error) = TcpStream::connect(address) {
            assert!(began.elapsed() < PATIENCE, "nginx does not listen: {error}");
            thread::sleep(Duration::from_millis(10));
        }
        nginx
    }

    /// Of all its processes, in bytes.
    fn memory(&self) -> u64 {
        let id = self.child.id();
        let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let workers = children.split_whitespace().map(|worker| worker.parse().unwrap());
        workers.chain([id]).map(resident).sum()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // Asked, and not killed: its workers would outlive it.
        let _ = kill_process(Pid::from_child(&self.child), Signal::TERM);
        let _ = self.child.wait();
    }
}

fn resident(process: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}
