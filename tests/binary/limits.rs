//! Short of descriptors, of memory, of anybody who listens: it goes on, and says so where it can.
#![cfg(target_os = "linux")]

use std::{
    fs,
    io::{self, BufRead as _, BufReader, PipeReader},
    net::SocketAddr,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::Signal;

use crate::{
    bulk,
    client::{Answer, Connection, get, until},
    folder::{Folder, TABLE},
    origin::{UPGRADE, echo, named},
    program::{Lines, Portolan, portolan, portolan_with_descriptors, tell},
};

/// So few descriptors that it starts and has next to none left: each worker needs some of its own.
fn few() -> usize {
    64 + 8 * thread::available_parallelism().map_or(1, usize::from)
}

const OUT_OF_DESCRIPTORS: &str = "cannot accept connections, trying again";

#[test]
fn more_connections_than_descriptors_are_waited_out_without_spinning() {
    let port = named("web");
    let route = format!("/={port}");
    let arguments = ["serve", "--listen", "127.0.0.1:0", &route];
    let portolan = Portolan::start(portolan_with_descriptors(few(), &Folder::new(), &arguments));
    let idle: Vec<_> = (0..8 * few()).map(|_| Connection::to(portolan.address())).collect();

    // It is told once a second: three times is two seconds of waiting.
    portolan.err.wait_for(|line| line.contains(OUT_OF_DESCRIPTORS));
    let (began, used) = (Instant::now(), processor_time(portolan.pid()));
    for _ in 0..2 {
        portolan.err.wait_for(|line| line.contains(OUT_OF_DESCRIPTORS));
    }
    let (elapsed, used) = (began.elapsed(), processor_time(portolan.pid()) - used);
    tell(format_args!("out of descriptors for {elapsed:?}, it used {used:?} of processor time"));
    assert!(elapsed > Duration::from_secs(1), "told once a second: {elapsed:?}");
    assert!(used < elapsed / 5, "{used:?} of {elapsed:?}");

    drop(idle);
    until("it serves again", || is(&get_or_refused(portolan.address()), 200));
}

#[test]
fn one_connection_too_many_is_told_and_has_room_once_another_leaves() {
    // Half of the descriptors, less the 64 that are kept: four connections.
    let port = named("web");
    let route = format!("/={port}");
    let arguments = ["serve", "--listen", "127.0.0.1:0", &route];
    let portolan = Portolan::start(portolan_with_descriptors(136, &Folder::new(), &arguments));
    let mut guests: Vec<_> = (0..4).map(|_| Connection::to(portolan.address())).collect();
    for guest in &mut guests {
        assert_eq!(guest.get("/").body, "web");
    }
    let refused = Connection::to(portolan.address()).answer().unwrap();
    assert_eq!((refused.status, refused.field("x-portolan-error")), (503, Some("overloaded")));
    assert_eq!((refused.field("retry-after"), refused.field("connection")), (Some("1"), Some("close")));
    assert_eq!(guests[0].get("/").body, "web", "those that are in go on");
    guests.pop();
    until("there is room again", || is(&get_or_refused(portolan.address()), 200));
}

#[test]
fn a_tunnel_is_a_connection_for_as_long_as_it_lasts() {
    let route = format!("/={}", echo());
    let arguments = ["serve", "--listen", "127.0.0.1:0", &route];
    let portolan = Portolan::start(portolan_with_descriptors(136, &Folder::new(), &arguments));
    let open = || {
        let mut tunnel = Connection::to(portolan.address());
        tunnel.send(UPGRADE);
        assert!(tunnel.head().unwrap().starts_with("HTTP/1.1 101"));
        tunnel
    };
    let mut tunnels: Vec<_> = (0..4).map(|_| open()).collect();
    assert_eq!(Connection::to(portolan.address()).answer().unwrap().status, 503);
    tunnels.pop();
    until("there is room again", || {
        let mut guest = Connection::to(portolan.address());
        let head = guest.try_send(UPGRADE).and_then(|()| guest.head());
        head.is_ok_and(|head| head.starts_with("HTTP/1.1 101"))
    });
}

#[test]
fn after_a_kill_it_starts_on_the_same_port_with_the_same_table() {
    let folder = Folder::with_table("[routes]\nweb = { path = \"/\", respond = \"web\" }\n");
    let mut first = Portolan::serve(&folder, &[]);
    let address = first.address();
    let mut connection = Connection::to(address);
    assert_eq!(connection.get("/").body, "web");
    first.signal(Signal::KILL);
    assert_eq!(first.wait(), -Signal::KILL.as_raw());
    let second = Portolan::start(portolan(&folder, &["serve", "--listen", &address.to_string()]));
    assert_eq!((second.address(), get(address, "/").body.as_str()), (address, "web"));
}

#[test]
fn a_download_of_1_gb_takes_no_memory() {
    let growth = bulk::download(&Folder::new(), bulk::blocks(1_000_000_000));
    assert!(growth <= bulk::MOST_GROWTH, "{growth} bytes");
}

#[test]
fn a_file_of_100_mb_as_an_answer_takes_no_memory() {
    let (folder, blocks) = (Folder::new(), bulk::blocks(100_000_000));
    bulk::write(fs::File::create(folder.file("big")).unwrap(), blocks).unwrap();
    let growth = bulk::growth("download of a file", &folder, "respond = { file = \"big\" }", blocks, |client| {
        bulk::take(client, blocks);
    });
    assert!(growth <= bulk::MOST_GROWTH, "{growth} bytes");
}

#[test]
fn an_upload_of_1_gb_takes_no_memory() {
    let growth = bulk::upload(&Folder::new(), bulk::blocks(1_000_000_000));
    assert!(growth <= bulk::MOST_GROWTH, "{growth} bytes");
}

#[test]
fn it_serves_and_reloads_and_ends_well_when_nobody_reads_what_it_says() {
    let table = |text: &str| format!("[routes]\nweb = {{ path = \"/\", respond = \"{text}\" }}\n");
    let folder = Folder::with_table(table("old"));
    let mut deaf = Deaf::start(portolan(&folder, &["serve", "--listen", "127.0.0.1:0"]));
    deaf.close();
    let mut connection = Connection::to(deaf.address);
    for _ in 0..10 {
        assert_eq!(connection.get("/").body, "old");
    }
    folder.write(TABLE, "[routes]\nweb = 1 1\n");
    folder.save(TABLE, table("new"));
    until("the edit is live", || connection.get("/").body == "new");
    deaf.end_well();
}

#[test]
fn it_accepts_on_where_nobody_hears_that_it_cannot() {
    let route = format!("/={}", named("web"));
    let arguments = ["serve", "--listen", "127.0.0.1:0", &route];
    let mut deaf = Deaf::start(portolan_with_descriptors(few(), &Folder::new(), &arguments));
    deaf.close();
    let idle: Vec<_> = (0..4 * few()).map(|_| Connection::to(deaf.address)).collect();
    // The last of them is answered: it was out of descriptors in between, and had nobody to tell it to.
    let mut last = idle.into_iter().next_back().unwrap();
    assert_eq!(last.answer().unwrap().status, 503);
    drop(last);
    until("it serves again", || is(&get_or_refused(deaf.address), 200));
    deaf.end_well();
}

#[test]
fn a_log_that_is_read_slowly_delays_nobody_and_counts_what_it_leaves_out() {
    let mut deaf = Deaf::start(portolan(&Folder::new(), &["serve", "--listen", "127.0.0.1:0", "/=1"]));
    let mut connection = Connection::to(deaf.address);
    // More lines than the pipe and the queue hold together.
    for _ in 0..10_000 {
        assert_eq!(connection.get("/").status, 502);
    }
    let lines = Lines::of(deaf.err.take().unwrap());
    lines.wait_for(|line| line.ends_with("log lines were dropped: the log is read too slowly"));
    assert_eq!(connection.get("/again").status, 502);
    lines.wait_for(|line| line.contains("/again"));
    deaf.end_well();
}

#[test]
fn it_accepts_on_where_a_full_pipe_takes_no_more_words() {
    let route = format!("/={}", named("web"));
    let arguments = ["serve", "--listen", "127.0.0.1:0", &route];
    let deaf = Deaf::start(portolan_with_descriptors(few(), &Folder::new(), &arguments));
    let mut connection = Connection::to(deaf.address);
    for _ in 0..10_000 {
        assert_eq!(connection.get("/").status, 200);
    }
    let mut idle: Vec<_> = (0..4 * few()).map(|_| Connection::to(deaf.address)).collect();
    assert_eq!(idle.pop().unwrap().answer().unwrap().status, 503);
    assert_eq!(connection.get("/").status, 200);
    drop((idle, connection));
    until("it serves again", || is(&get_or_refused(deaf.address), 200));
    deaf.end_well();
}

#[test]
fn it_reloads_where_a_full_pipe_takes_no_more_words() {
    let folder = Folder::with_table("[routes]\nall = { path = \"/\", respond = { status = 200 } }\n");
    let deaf = Deaf::start(portolan(&folder, &["serve", "--listen", "127.0.0.1:0"]));
    let mut connection = Connection::to(deaf.address);
    for _ in 0..10_000 {
        assert_eq!(connection.get("/").status, 200);
    }
    folder.write("portolan.toml", "[routes]\nall = { path = \"/\", tagret = 1 }\n");
    folder.write("portolan.toml", "[routes]\nall = { path = \"/\", respond = { status = 418 } }\n");
    until("the edit is live", || connection.get("/").status == 418);
    deaf.end_well();
}

/// A proxy whose words go into pipes that nobody reads.
struct Deaf {
    child: Child,
    address: SocketAddr,
    out: Option<BufReader<PipeReader>>,
    err: Option<PipeReader>,
}

impl Deaf {
    fn start(mut command: Command) -> Self {
        let ((out, out_end), (err, err_end)) = (io::pipe().unwrap(), io::pipe().unwrap());
        let child = command.stdin(Stdio::null()).stdout(out_end).stderr(err_end).spawn().unwrap();
        // The command holds our ends of the pipes.
        drop(command);
        let mut out = BufReader::new(out);
        let mut line = String::new();
        let address = loop {
            line.clear();
            assert!(out.read_line(&mut line).unwrap() > 0, "no ready line");
            if let Some(address) = line.strip_prefix("portolan ready http://") {
                break address.trim_end().parse().unwrap();
            }
        };
        Self { child, address, out: Some(out), err: Some(err) }
    }

    /// Closes both pipes: from now on a write is an error.
    fn close(&mut self) {
        drop((self.out.take(), self.err.take()));
    }

    fn end_well(mut self) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), Signal::TERM).unwrap();
        let mut status = None;
        until("it ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        assert_eq!(status.unwrap().code(), Some(0));
    }
}

impl Drop for Deaf {
    fn drop(&mut self) {
        // Failing means that it has ended before, which is where this leads.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A connection may be reset before its answer is read, where there are too many of them.
fn get_or_refused(address: SocketAddr) -> io::Result<Answer> {
    Connection::try_to(address)?.try_get("/")
}

fn is(answer: &io::Result<Answer>, status: u16) -> bool {
    answer.as_ref().is_ok_and(|answer| answer.status == status)
}

/// What a process has used of the processors, in user and in kernel mode.
fn processor_time(pid: u32) -> Duration {
    /// `USER_HZ`, which Linux has on every architecture that it shows to programs (time(7)).
    const TICKS_PER_SECOND: u64 = 100;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    // The name in brackets may hold anything; fields 14 and 15 are counted from behind it (proc(5)).
    let fields: Vec<_> = stat.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|field| field.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
