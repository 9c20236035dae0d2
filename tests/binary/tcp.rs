//! Routes of `[tcp]` as people meet them: connections wait for programs, ports are told and taken, commands know them.

use std::{
    fs,
    io::{ErrorKind, Read as _, Write as _},
    net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
};

use rustix::process::{Pid, Signal, kill_process};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use serde_json::Value;

use crate::{
    client::{Connection, until},
    folder::{Folder, TABLE},
    origin::origin,
    processes::Home,
    program::{PATIENCE, Portolan, say},
};

/// A port at which nobody listens, below those that systems give out, so that nobody gets it meanwhile.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 12_000 + (std::process::id() % 80) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Relaxed) % 100;
        if TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok() {
            return port;
        }
    }
}

fn at(port: u16) -> SocketAddr {
    (Ipv4Addr::LOCALHOST, port).into()
}

fn table(port: u16, to: &str) -> String {
    format!("[tcp]\ndb = {{ listen = {port}, to = {to} }}\n")
}

/// What `status --json` says of the only TCP route.
fn told(home: &Home) -> Value {
    let status: Value = serde_json::from_str(&home.say(&["status", "--json"]).out).unwrap();
    status["tcp"][0].clone()
}

#[test]
fn a_connection_waits_for_its_service_and_nothing_that_was_sent_is_lost() {
    let port = free_port();
    let services = "[services]\ndb = \"exec python3 server.py log=log late=go\"\n";
    let home = Home::with_table(&(services.to_owned() + &table(port, "'db'")));
    let _up = Portolan::start(home.portolan(&["up"]));
    home.wait_for_lines("log", 1);
    let mut client = Connection::to(at(port));
    client.send("GET /early HTTP/1.1\r\nhost: x\r\n\r\n");
    fs::write(home.folder().file("go"), "").unwrap();
    let answer = client.answer().unwrap();
    assert!(answer.status == 200 && answer.body.contains("/early"), "{answer:?}");
}

#[test]
fn a_connection_that_comes_while_a_program_is_dead_gets_the_next_one() {
    let port = free_port();
    let services = "[services]\ndb = \"exec python3 server.py\"\n";
    let home = Home::with_table(&(services.to_owned() + &table(port, "'db'")));
    let _up = Portolan::start(home.portolan(&["up"]));
    let pid = || {
        let told: Value = serde_json::from_str(&Connection::to(at(port)).get("/").body).unwrap();
        told["pid"].as_i64().unwrap()
    };
    let first = pid();
    kill_process(Pid::from_raw(first.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();
    // What a dying program has still accepted is lost with it: bytes cannot be sent twice.
    until("it is dead", || !Path::new(&format!("/proc/{first}")).exists());
    assert_ne!(pid(), first);
}

#[test]
fn a_client_that_leaves_before_its_program_comes_costs_it_no_connection() {
    let (port, to) = (free_port(), free_port());
    let folder = Folder::with_table(format!("[tcp]\ndb = {{ listen = {port}, to = {to}, hold = \"60s\" }}\n"));
    let portolan = Portolan::serve(&folder, &[]);
    drop(TcpStream::connect(at(port)).unwrap());
    portolan.err.wait_for(|line| line.contains("client left"));
    let mut patient = TcpStream::connect(at(port)).unwrap();
    patient.write_all(b"x").unwrap();
    let program = TcpListener::bind(at(to)).unwrap();
    let (mut connection, _) = program.accept().unwrap();
    connection.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut byte = [0];
    connection.read_exact(&mut byte).unwrap();
    program.set_nonblocking(true).unwrap();
    assert_eq!(byte, *b"x");
    assert!(program.accept().is_err_and(|error| error.kind() == ErrorKind::WouldBlock), "only one client was there");
}

#[test]
fn f29_the_end_waits_for_no_program_that_is_not_there() {
    let (port, to) = (free_port(), free_port());
    let home = Home::with_table(&format!("[tcp]\ndb = {{ listen = {port}, to = {to}, hold = \"60s\" }}\n"));
    let mut portolan = Portolan::start(home.portolan(&["serve"]));
    let mut client = TcpStream::connect(at(port)).unwrap();
    until("it waits", || told(&home)["open"] == 1);
    portolan.signal(Signal::TERM);
    let end = client.read(&mut [0]);
    assert!(end.as_ref().is_err_and(|error| error.kind() == ErrorKind::ConnectionReset), "{end:?}");
    assert_eq!(portolan.wait(), 0);
    let said = portolan.err.so_far();
    assert!(!said.iter().any(|line| line.contains("were cut")), "{said:?}");
}

#[test]
fn commands_tell_what_its_clients_take_and_how_many_there_are() {
    let port = free_port();
    let services = "[services]\ndb = \"exec python3 server.py\"\n";
    let home = Home::with_table(&(services.to_owned() + &table(port, "'db'")));
    let _up = Portolan::start(home.portolan(&["up"]));
    home.wait_for_state("db", "ready");
    assert_eq!(home.say(&["url", "db"]).out, format!("127.0.0.1:{port}\n"));
    assert_eq!(home.say(&["wait", "db"]).code, 0);
    let before = told(&home);
    assert_eq!((&before["state"], &before["open"], &before["ever"]), (&"up".into(), &0.into(), &0.into()));
    let client = TcpStream::connect(at(port)).unwrap();
    until("it is counted", || told(&home)["open"] == 1);
    drop(client);
    until("it is gone", || told(&home)["open"] == 0);
    assert_eq!(told(&home)["ever"], 1);
    let status = home.say(&["status"]).out;
    assert!(status.contains("db: 1 connection, 0 open"), "{status}");
}

/// Tells whoever connects at which of its ports.
const SEVERAL_PORTS: &str = r#"
import os, selectors, socket, sys
selector = selectors.DefaultSelector()
for port in [os.environ["PORT"]] + sys.argv[1:]:
    selector.register(socket.create_server(("127.0.0.1", int(port))), selectors.EVENT_READ, port)
while True:
    for key, _ in selector.select():
        connection = key.fileobj.accept()[0]
        connection.sendall(key.data.encode())
        connection.close()
"#;

#[test]
fn of_several_ports_of_a_program_a_tcp_route_means_the_one_next_to_its_own() {
    // Three routes, so far from each other that none of their ports are neighbours.
    let first = 10_000 + (std::process::id() % 30) as u16 * 60;
    let [debugger, metrics, other] = [first + 1, first + 21, first + 41];
    let (lowest, inspected, measured) = (first, debugger + 3, metrics + 10);
    let home = Home::with_table(&format!(
        "[services]\nweb = \"exec python3 several.py {lowest} {inspected} {measured}\"\n[tcp]\n\
         debugger = {{ listen = {debugger}, to = \"web\" }}\n\
         metrics = {{ listen = {metrics}, to = {{ dir = \".\" }} }}\n\
         web = {{ listen = {other}, to = \"web\" }}\n"
    ));
    home.folder().write("several.py", SEVERAL_PORTS);
    let _up = Portolan::start(home.portolan(&["up"]));
    home.wait_for_state("web", "ready");
    let met = |port: u16| {
        let mut told = String::new();
        TcpStream::connect(at(port)).unwrap().read_to_string(&mut told).unwrap();
        told.parse::<u16>().unwrap()
    };
    // It is ready with the first of its ports; the others are seen soon after.
    until("the ports next to those of the routes are met", || (met(debugger), met(metrics)) == (inspected, measured));
    assert_eq!(u64::from(met(other)), home.service("web")["port"], "of a service the port that it was given");
}

#[test]
fn a_well_known_port_is_told_as_a_data_source_name() {
    let port = free_port();
    let folder = Folder::with_table(table(port, "5432"));
    let said = say(&folder, &["routes", "--json"]);
    let routes: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(routes["tcp"][0]["url"], format!("postgresql://127.0.0.1:{port}/"));
    let said = say(&folder, &["routes"]);
    assert!(said.out.starts_with(&format!("db  tcp :{port}  -> :5432")), "{said:?}");
    let said = say(&folder, &["explain", &format!("127.0.0.1:{port}")]);
    assert!(said.code == 0 && said.out.contains("TCP route db -> :5432"), "{said:?}");
}

#[test]
fn ports_tells_for_which_route_portolan_listens_and_which_one_leads_to_a_program() {
    let (port, program) = (free_port(), TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap());
    let to = program.local_addr().unwrap().port();
    let folder = Folder::with_table(table(port, &to.to_string()));
    let _portolan = Portolan::serve(&folder, &[]);
    let said = say(&folder, &["ports", &port.to_string()]);
    assert!(said.out.contains("  = note: it listens for TCP route `db` (portolan.toml:2:1)"), "{said:?}");
    let said = say(&folder, &["ports", &to.to_string()]);
    assert!(said.out.contains("  = note: TCP route `db` leads there (portolan.toml:2:1)"), "{said:?}");
    let list = say(&folder, &["ports"]).out;
    for port in [port, to] {
        let row = list.lines().find(|line| line.starts_with(&format!("{port} "))).unwrap();
        assert!(row.contains("  db  "), "{row}");
    }
}

/// How many descriptors of pipes a process has.
#[cfg(target_os = "linux")]
fn pipes(portolan: &Portolan) -> usize {
    let descriptors = fs::read_dir(format!("/proc/{}/fd", portolan.pid())).unwrap();
    let links = descriptors.filter_map(|descriptor| fs::read_link(descriptor.ok()?.path()).ok());
    links.filter(|link| link.to_string_lossy().starts_with("pipe:")).count()
}

#[cfg(target_os = "linux")]
#[test]
fn what_is_long_goes_by_a_pipe_of_the_kernel_from_an_upgraded_connection_and_from_a_raw_one() {
    let port = free_port();
    let program = origin(|mut asked| {
        asked.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: bulk\r\n\r\n")?;
        crate::bulk::read(&mut *asked.stream, 512)?;
        asked.send("all of it came")
    });
    let folder = Folder::with_table(format!(
        "[routes]\nweb = {{ path = \"/\", to = {program} }}\n{}",
        table(port, &program.to_string())
    ));
    for is_raw in [false, true] {
        let portolan = Portolan::serve(&folder, &[]);
        let mut client = Connection::to(if is_raw { at(port) } else { portolan.address() });
        let before = pipes(&portolan);
        client.send("GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: bulk\r\n\r\n");
        assert!(client.head().unwrap().starts_with("HTTP/1.1 101"));
        crate::bulk::write(client.stream().get_ref(), 512).unwrap();
        assert_eq!(client.exactly(14), "all of it came");
        // One pipe waits for the next long stream.
        assert_eq!(pipes(&portolan), before + 2, "raw: {is_raw}");
    }
}

#[test]
fn explain_asks_who_listens_at_the_address_and_not_only_at_its_port() {
    let table = "[tcp]\na = { listen = \"127.0.0.1:5432\", to = 1 }\nb = { listen = \"127.0.0.2:5432\", to = 2 }\n\
                 c = { listen = \"[::1]:5432\", to = 3 }\n";
    let folder = Folder::with_table(table);
    for (host, route) in [("127.0.0.1", "a"), ("127.0.0.2", "b"), ("[::1]", "c")] {
        let said = say(&folder, &["explain", &format!("http://{host}:5432")]);
        assert!(said.code == 0 && said.out.contains(&format!("TCP route {route} -> ")), "{host}: {said:?}");
    }
    let said = say(&folder, &["explain", "http://127.0.0.3:5432"]);
    assert!(!said.out.contains("TCP route"), "{said:?}");
}

#[test]
fn f1_the_log_says_why_a_client_was_reset() {
    let (port, to) = (free_port(), free_port());
    let folder = Folder::with_table(table(port, &to.to_string()));
    let portolan = Portolan::serve(&folder, &[]);
    // Reset at once or soon.
    let read = TcpStream::connect(at(port)).and_then(|mut stream| stream.read(&mut [0]));
    assert!(read.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
    let sentence = portolan.err.wait_for(|line| line.contains("TCP route db -> "));
    assert!(
        sentence.contains(&format!("TCP route db -> :{to}: nothing listens there; start the program")),
        "{sentence}"
    );
    let line = portolan.err.wait_for(|line| line.contains("connect-refused"));
    assert!(line.contains("TCP") && line.contains(" db "), "{line}");
}

/// A ClientHello that asks for these bytes as a name, which no honest client would.
fn hello_for(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let honest = "a".repeat(name.len());
    let mut connection = ClientConnection::new(Arc::new(config), honest.clone().try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    let at = hello.windows(name.len()).position(|part| part == honest.as_bytes()).unwrap();
    hello[at..at + name.len()].copy_from_slice(name.as_bytes());
    hello
}

#[test]
fn a_name_that_a_client_makes_up_forges_no_line_of_the_log() {
    let port = free_port();
    let folder = Folder::with_table(format!("[tcp]\ndb = {{ listen = {port}, host = \"db.localhost\", to = 1 }}\n"));
    let portolan = Portolan::serve(&folder, &[]);
    let mut client = TcpStream::connect(at(port)).unwrap();
    client.write_all(&hello_for("x\r\nportolan: all is lost\x1b[31m")).unwrap();
    let sentence = portolan.err.wait_for(|line| line.contains("asks for"));
    assert!(sentence.ends_with(r"takes a client that asks for x\r\nportolan: all is lost\u{1b}[31m"), "{sentence}");
}

#[test]
fn a_taken_port_keeps_portolan_from_starting_and_names_who_has_it() {
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let port = taken.local_addr().unwrap().port();
    let said = say(&Folder::with_table(table(port, "1")), &["serve", "--listen", "127.0.0.1:0"]);
    assert!(said.code != 0 && said.err.contains(&format!("127.0.0.1:{port} is already in use")), "{said:?}");
    assert!(said.err.contains(&format!("(pid {})", std::process::id())), "{said:?}");
    assert!(said.err.contains("write another `listen` for TCP route `db`"), "{said:?}");
}

#[test]
fn f27_a_reload_that_wants_a_taken_port_changes_nothing_and_says_so() {
    let (port, program) = (free_port(), TcpListener::bind("127.0.0.1:0").unwrap());
    let taken = TcpListener::bind((Ipv4Addr::LOCALHOST, free_port())).unwrap();
    let good = table(port, &program.local_addr().unwrap().port().to_string());
    let folder = Folder::with_table(&good);
    let portolan = Portolan::serve(&folder, &[]);
    let more = format!("{good}more = {{ listen = {}, to = 1 }}\n", taken.local_addr().unwrap().port());
    folder.write(TABLE, more);
    portolan.err.wait_for(|line| line.contains("the table stays in force"));
    portolan.err.wait_for(|line| line.contains("error[port-taken]"));
    let _client = TcpStream::connect(at(port)).unwrap();
    program.accept().unwrap();

    drop(taken);
    let free = free_port();
    folder.write(TABLE, format!("{good}more = {{ listen = {free}, to = 1 }}\n"));
    portolan.err.wait_for(|line| line.contains("+ more"));
    // Who is behind it does not matter here: it is reset by somebody, not refused by nobody.
    let met = TcpStream::connect(at(free)).and_then(|mut stream| stream.read(&mut [0]));
    assert!(met.is_err_and(|error| error.kind() == ErrorKind::ConnectionReset));
}
