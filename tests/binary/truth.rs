//! Pages that tell the truth: who really listens where a program was missed, and the line that mends it.

use std::{
    io::{BufRead as _, BufReader},
    net::{Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener},
    ops::RangeInclusive,
    path::Path,
    process::{Child, Command, Stdio},
};

use portolan::discover;
use serde_json::Value;

use crate::{
    client::{Answer, Connection, request_of_host, until},
    folder::Folder,
    origin::origin,
    program::{Portolan, portolan, tell},
};

/// Ports that the system hands to nobody by itself, so that nothing comes near them meanwhile.
const QUIET: RangeInclusive<u16> = 20_000..=30_000;

/// A port at which nothing listens, nor can: it is bound, and nobody listens near it.
struct Nobody {
    port: u16,
    _socket: socket2::Socket,
}

impl Nobody {
    fn new() -> Self {
        let taken: Vec<u16> = discover::listeners().unwrap().iter().map(|listener| listener.address.port()).collect();
        // Tests run at the same time: each begins its search somewhere else.
        let begin = QUIET.start() + (begin_of_search() % 90) * 110;
        let lonely = |port: &u16| taken.iter().all(|other| other.abs_diff(*port) > 20);
        (begin..*QUIET.end()).filter(lonely).find_map(Self::at).expect("a port that is free")
    }

    fn at(port: u16) -> Option<Self> {
        let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
        socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, port)).into()).ok()?;
        Some(Self { port, _socket: socket })
    }
}

fn begin_of_search() -> u16 {
    use std::sync::atomic::{AtomicU16, Ordering::Relaxed};
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let process = u16::try_from(std::process::id() % 80).unwrap_or_default();
    process + NEXT.fetch_add(1, Relaxed)
}

/// A program of its own that listens on an address; it ends with the test.
struct Listening(Child);

impl Listening {
    fn start(folder: &Path, address: SocketAddr) -> Self {
        let family = if address.is_ipv6() { "AF_INET6" } else { "AF_INET" };
        let (ip, port) = (address.ip(), address.port());
        let script = format!(
            "import socket, sys\ns = socket.socket(socket.{family})\ns.bind(('{ip}', {port}))\ns.listen()\n\
             print('listens', flush=True)\nsys.stdin.read()"
        );
        let mut python = Command::new("python3");
        python.args(["-c", &script]).current_dir(folder).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        assert_eq!(line, "listens\n", "at {address}");
        Self(child)
    }

    /// As pages name it.
    fn name(&self) -> String {
        let executable = std::fs::read_link(format!("/proc/{}/exe", self.0.id())).unwrap();
        let folder = std::fs::read_link(format!("/proc/{}/cwd", self.0.id())).unwrap();
        let program = executable.file_name().unwrap().to_str().unwrap();
        format!("{program} (pid {}, {})", self.0.id(), folder.display())
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        // Failing means that it has ended before, which is where this leads.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// What curl is told where the only route leads to this target.
fn told(folder: &Folder, target: &str) -> String {
    folder.write("portolan.toml", format!("[routes]\nweb = {{ path = \"/\", to = {target} }}\n"));
    told_by(&Portolan::serve(folder, &["-q"]))
}

fn told_by(portolan: &Portolan) -> String {
    ask_who_listens(portolan, "/", "user-agent: curl/8.9.1").body
}

/// As [`ask`], and again where an overloaded machine did not say in time who listens.
fn ask_who_listens(portolan: &Portolan, path: &str, field: &str) -> Answer {
    let mut answer = ask(portolan, "localhost", path, field);
    until("a look at who listens", || {
        let has_looked = ["(pid ", "no other program listens"].iter().any(|sign| answer.body.contains(sign));
        if !has_looked {
            answer = ask(portolan, "localhost", path, field);
        }
        has_looked
    });
    answer
}

fn ask(portolan: &Portolan, host: &str, path: &str, field: &str) -> Answer {
    let mut connection = Connection::to(portolan.address());
    connection.send(request_of_host(host, path).replace("\r\n\r\n", &format!("\r\n{field}\r\n\r\n")));
    connection.answer().unwrap()
}

fn has_ipv6() -> bool {
    let has = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !has {
        tell("NOT TESTED: this machine has no ::1");
    }
    has
}

#[test]
fn a_program_on_the_other_loopback_address_is_named_with_the_line_that_mends_it() {
    if !has_ipv6() {
        return;
    }
    let (folder, nobody) = (Folder::new(), Nobody::new());
    let port = nobody.port;
    let elsewhere = Folder::new();
    let there = Listening::start(elsewhere.path(), (Ipv6Addr::LOCALHOST, port).into());
    let expected = format!(
        "502 connect-refused: route web -> 127.0.0.1:{port}, nothing listens there; {} listens on [::1]:{port}, the \
         other loopback address; mend portolan.toml:2 with to = {port}\n",
        there.name()
    );
    assert_eq!(told(&folder, &format!("\"127.0.0.1:{port}\"")), expected);
}

#[test]
fn a_program_of_the_folder_that_took_the_next_port_is_named_with_the_line_that_mends_it() {
    let (folder, nobody) = (Folder::new(), Nobody::new());
    let (port, next) = (nobody.port, nobody.port + 1);
    folder.write("web/index.html", "");
    let there = Listening::start(&folder.file("web"), (Ipv4Addr::LOCALHOST, next).into());
    let expected = format!(
        "502 connect-refused: route web -> :{port}, nothing listens there; {} listens on 127.0.0.1:{next}; mend \
         portolan.toml:2 with to = {next}\n",
        there.name()
    );
    assert_eq!(told(&folder, &port.to_string()), expected);
}

#[test]
fn a_request_that_waited_in_vain_is_told_who_else_may_be_meant() {
    let (folder, nobody) = (Folder::new(), Nobody::new());
    let (port, next) = (nobody.port, nobody.port + 1);
    let there = Listening::start(folder.path(), (Ipv4Addr::LOCALHOST, next).into());
    folder.write("portolan.toml", format!("[routes]\nweb = {{ path = \"/\", to = {port}, hold = \"100ms\" }}\n"));
    let portolan = Portolan::serve(&folder, &["-q"]);
    let answer = ask_who_listens(&portolan, "/", "user-agent: curl/8.9.1");
    assert_eq!((answer.status, answer.field("x-portolan-error")), (503, Some("hold-expired")));
    let expected = format!("; {} listens on 127.0.0.1:{next}; mend portolan.toml:2 with to = {next}\n", there.name());
    assert!(answer.body.ends_with(&expected), "{}", answer.body);
}

#[test]
fn a_program_of_elsewhere_is_named_and_not_proposed() {
    let (folder, elsewhere, nobody) = (Folder::new(), Folder::new(), Nobody::new());
    let port = nobody.port;
    let there = Listening::start(elsewhere.path(), (Ipv4Addr::LOCALHOST, port + 2).into());
    let expected = format!(
        "502 connect-refused: route web -> :{port}, nothing listens there; {} listens on 127.0.0.1:{}; start the \
         program, or mend the target at portolan.toml:2:26\n",
        there.name(),
        port + 2
    );
    assert_eq!(told(&folder, &port.to_string()), expected);
}

#[test]
fn where_nobody_is_near_that_is_what_is_told() {
    let (folder, nobody) = (Folder::new(), Nobody::new());
    let port = nobody.port;
    // A portolan is no neighbour, wherever it listens and works.
    let _other =
        Portolan::start(portolan(&folder, &["serve", "-q", "--listen", &format!("127.0.0.1:{}", port + 1), "/=1"]));
    let expected = format!(
        "502 connect-refused: route web -> :{port}, nothing listens there; no other program listens within 10 ports of \
         {port}, nor does one that works in {}; start the program, or mend the target at portolan.toml:2:26\n",
        folder.path().canonicalize().unwrap().display()
    );
    assert_eq!(told(&folder, &port.to_string()), expected);
}

#[test]
fn a_program_to_which_another_route_leads_is_no_neighbour() {
    let (folder, nobody) = (Folder::new(), Nobody::new());
    let (port, next) = (nobody.port, nobody.port + 1);
    let _api = Listening::start(folder.path(), (Ipv4Addr::LOCALHOST, next).into());
    folder.write("portolan.toml", format!("[routes]\nweb = {{ path = \"/\", to = {port} }}\napi = {next}\n"));
    let portolan = Portolan::serve(&folder, &["-q"]);
    let line = told_by(&portolan);
    assert!(line.contains("nothing listens there; no other program listens within 10 ports"), "{line}");
}

#[test]
fn a_typed_route_is_mended_as_it_was_typed() {
    let (folder, nobody) = (Folder::new(), Nobody::new());
    let (port, next) = (nobody.port, nobody.port + 1);
    let _there = Listening::start(folder.path(), (Ipv4Addr::LOCALHOST, next).into());
    let portolan = Portolan::serve(&folder, &["-q", &format!("/={port}")]);
    let line = told_by(&portolan);
    assert!(line.ends_with(&format!("; write {next} in the place of {port}\n")), "{line}");
}

#[test]
fn a_page_and_a_program_are_told_the_same() {
    let (folder, nobody) = (Folder::new(), Nobody::new());
    let (port, next) = (nobody.port, nobody.port + 1);
    let there = Listening::start(folder.path(), (Ipv4Addr::LOCALHOST, next).into());
    folder.write("portolan.toml", format!("[routes]\nweb = {{ path = \"/\", to = {port} }}\n"));
    let portolan = Portolan::serve(&folder, &["-q"]);
    let problem: Value = serde_json::from_str(&ask_who_listens(&portolan, "/", "accept: */*").body).unwrap();
    assert_eq!(problem["origin"], "portolan.toml:2:26");
    assert_eq!(problem["help"][0], format!("mend portolan.toml:2 with `to = {next}`"));
    let note = problem["notes"][0].as_str().unwrap();
    assert_eq!(note.replace('`', ""), format!("{} listens on 127.0.0.1:{next}", there.name()));
    let page = ask_who_listens(&portolan, "/", "accept: text/html").body;
    assert!(page.contains(&format!("mend portolan.toml:2 with <code>to = {next}</code>")), "{page}");
}

#[test]
fn whoever_hangs_up_is_named_and_so_is_whoever_speaks_something_else() {
    let port = origin(|mut asked| {
        if asked.head.starts_with("GET /up ") {
            return Err(std::io::ErrorKind::ConnectionAborted.into());
        }
        asked.send(b"-ERR unknown command\r\n")
    });
    let portolan = Portolan::serve(&Folder::new(), &["-q", &format!("/={port}")]);
    let us = format!("(pid {}, ", std::process::id());
    for (path, cause, words) in
        [("/up", "upstream-closed", " listens there"), ("/", "bad-upstream-reply", " sent that")]
    {
        let answer = ask_who_listens(&portolan, path, "accept: */*");
        assert_eq!(answer.field("x-portolan-error"), Some(cause));
        let problem: Value = serde_json::from_str(&answer.body).unwrap();
        let notes: Vec<_> = problem["notes"].as_array().unwrap().iter().filter_map(Value::as_str).collect();
        assert!(notes.iter().any(|note| note.contains(&us) && note.ends_with(words)), "{notes:?}");
    }
}

#[test]
fn a_request_without_a_route_is_told_what_listens_without_one() {
    let folder = Folder::with_table("[routes]\nweb = { path = \"/web\", to = 1 }\n");
    // They are told by port, and only the first few.
    let listener = (1024..).find_map(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok()).unwrap();
    let port = listener.local_addr().unwrap().port();
    let portolan = Portolan::serve(&folder, &["-q"]);
    let line = format!(" = {port}  # ");
    let us = format!("(pid {}, ", std::process::id());
    let told = ask_who_listens(&portolan, "/", "accept: */*").body;
    assert!(told.contains(&line) && told.contains(&us), "{told}");
    assert!(!told.contains(&format!(" = {}  # ", portolan.address().port())), "{told}");

    folder.save("portolan.toml", format!("[routes]\nweb = {{ path = \"/web\", to = {port} }}\n"));
    until("the route is live", || !ask(&portolan, "localhost", "/", "accept: */*").body.contains(&line));
}

#[test]
fn a_host_that_a_dev_server_refuses_is_told_once_in_the_terminal() {
    let port =
        origin(|mut asked| asked.send("HTTP/1.1 403 Forbidden\r\ncontent-length: 19\r\n\r\nInvalid Host header"));
    let table = format!("[routes]\nweb = {{ hosts = [\"foo.test\", \"bar.test\"], to = {port} }}\n");
    let mut portolan = Portolan::serve(&Folder::with_table(table), &["-q"]);
    for host in ["foo.test", "foo.test", "bar.test", "foo.test"] {
        let page = ask(&portolan, host, "/", "accept: text/html");
        assert_eq!((page.status, page.field("x-portolan-error")), (403, Some("host-refused")));
    }
    portolan.signal(rustix::process::Signal::TERM);
    assert_eq!(portolan.wait(), 0);
    let said = portolan.err.wait_for_end().join("\n");
    for host in ["foo.test", "bar.test"] {
        let sentence = format!(
            "route web: webpack-dev-server refuses the host {host}: add devServer: {{ allowedHosts: ['{host}'] }}, to \
             webpack.config.js"
        );
        assert_eq!(said.matches(&sentence).count(), 1, "{said}");
    }
}
