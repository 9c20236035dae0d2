//! What the clients of a TCP route take to reach it: a data source name, the line that attaches a debugger, or the address.
//!
//! Whose protocol is spoken is told by the port inside of a container, by a program that speaks one alone, or by a port
//! that mostly means one thing: the route's own, or the target's. Names are never used where they would have to be looked
//! up: most drivers cannot resolve `*.localhost`.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::config::{Address, HostMatch, Sought};

/// What is spoken behind a port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Spoken {
    Postgres,
    Mysql,
    Redis,
    Mongodb,
    Amqp,
    NodeInspector,
    Debugpy,
    Jdwp,
    Delve,
}

use Spoken::{Amqp, Debugpy, Delve, Jdwp, Mongodb, Mysql, NodeInspector, Postgres, Redis};

/// By port, where it is one's own by custom.
const PORTS: [(u16, Spoken); 9] = [
    (2345, Delve),
    (3306, Mysql),
    (5005, Jdwp),
    (5432, Postgres),
    (5672, Amqp),
    (5678, Debugpy),
    (6379, Redis),
    (9229, NodeInspector),
    (27017, Mongodb),
];

/// By the file name of the program, or of what a table calls it. What runs any program, such as `java`, `node` or
/// `beam.smp`, tells nothing of what that one speaks.
const PROGRAMS: [(&str, Spoken); 9] = [
    ("postgres", Postgres),
    ("mysqld", Mysql),
    ("mariadbd", Mysql),
    ("redis-server", Redis),
    ("valkey-server", Redis),
    ("mongod", Mongodb),
    ("mongos", Mongodb),
    ("debugpy", Debugpy),
    ("dlv", Delve),
];

/// The line for a route that listens there for clients that ask for one of these hosts, and leads to these targets, of
/// which one is held by this program.
pub fn line<'a>(
    listen: &[SocketAddr],
    hosts: &[HostMatch],
    targets: impl Iterator<Item = &'a Address>,
    program: Option<&str>,
) -> String {
    let Some(first) = listen.first() else { return String::new() };
    let address = told(*first);
    let spoken = spoken(address.port(), targets, program);
    match (hosts.first(), spoken) {
        (None, spoken) => plain(address, spoken),
        // libpq connects to `hostaddr`, and asks for the host by TLS.
        (Some(host), Some(Postgres)) => {
            let (host, port) = (example(host), address.port());
            format!("postgresql://{host}:{port}/?hostaddr={}&sslmode=require", address.ip())
        }
        (Some(host), _) => format!("{}:{}", example(host), address.port()),
    }
}

/// Somewhere to connect to: who listens on every address is reached at the usual one.
fn told(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}

fn spoken<'a>(port: u16, targets: impl Iterator<Item = &'a Address>, program: Option<&str>) -> Option<Spoken> {
    let of_port = |port: u16| PORTS.iter().find(|(known, _)| *known == port).map(|(_, spoken)| *spoken);
    let of_program = |name: &str| PROGRAMS.iter().find(|(known, _)| *known == name).map(|(_, spoken)| *spoken);
    let mut guess = None;
    for target in targets {
        match target {
            Address::Followed(Sought::Container { port, .. }) => return of_port(*port).or(guess),
            Address::Followed(Sought::Process(name)) => guess = guess.or(of_program(name)),
            Address::Loopback(port) | Address::Name { port, .. } => guess = guess.or(of_port(*port)),
            Address::Ip(address) => guess = guess.or(of_port(address.port())),
            Address::Followed(_) | Address::Unix(_) => {}
        }
    }
    program.and_then(of_program).or(of_port(port)).or(guess)
}

fn plain(address: SocketAddr, spoken: Option<Spoken>) -> String {
    match spoken {
        Some(Postgres) => format!("postgresql://{address}/"),
        Some(Mysql) => format!("mysql://{address}/"),
        Some(Redis) => format!("redis://{address}/"),
        // Otherwise a member of a replica set sends the client to its own address.
        Some(Mongodb) => format!("mongodb://{address}/?directConnection=true"),
        Some(Amqp) => format!("amqp://{address}/"),
        Some(NodeInspector) => format!("node inspect {address}"),
        Some(Debugpy) => format!(
            r#"{{ "type": "debugpy", "request": "attach", "connect": {{ "host": "{}", "port": {} }} }}"#,
            address.ip(),
            address.port()
        ),
        Some(Jdwp) => format!("jdb -attach {address}"),
        Some(Delve) => format!("dlv connect {address}"),
        None => address.to_string(),
    }
}

/// A wildcard has no name of its own, so an example stands in for the label.
fn example(host: &HostMatch) -> String {
    match host {
        HostMatch::Exact(name) => name.clone(),
        HostMatch::Wildcard(suffix) => format!("any.{suffix}"),
        HostMatch::AnyLocal => "localhost".into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(port: u16, target: Address, program: Option<&str>) -> String {
        line(&[SocketAddr::from(([127, 0, 0, 1], port))], &[], [&target].into_iter(), program)
    }

    #[test]
    fn a_container_is_known_by_its_inner_port() {
        let container = |port| Address::Followed(Sought::Container { name: "db".into(), port });
        assert_eq!(at(15432, container(5432), None), "postgresql://127.0.0.1:15432/");
        assert_eq!(at(5432, container(3306), None), "mysql://127.0.0.1:5432/");
    }

    #[test]
    fn a_program_is_known_by_its_name() {
        let service = || Address::Followed(Sought::Service("db".into()));
        assert_eq!(at(7000, service(), Some("postgres")), "postgresql://127.0.0.1:7000/");
        assert_eq!(at(7000, service(), Some("mongod")), "mongodb://127.0.0.1:7000/?directConnection=true");
        assert_eq!(at(7000, service(), Some("python3")), "127.0.0.1:7000");
    }

    #[test]
    fn a_port_that_means_one_thing_is_enough() {
        assert_eq!(at(6379, Address::Loopback(7001), None), "redis://127.0.0.1:6379/");
        assert_eq!(at(7000, Address::Loopback(5432), None), "postgresql://127.0.0.1:7000/");
    }

    #[test]
    fn debuggers_are_attached() {
        let process = |name: &str| Address::Followed(Sought::Process(name.into()));
        assert_eq!(at(9229, process("node"), Some("node")), "node inspect 127.0.0.1:9229");
        assert_eq!(at(5005, process("java"), Some("java")), "jdb -attach 127.0.0.1:5005");
        assert!(at(5678, process("app.py"), Some("python3")).contains(r#""type": "debugpy""#));
        // A server of pages that happens to be Node is none.
        assert_eq!(at(7000, Address::Loopback(7001), Some("node")), "127.0.0.1:7000");
    }

    #[test]
    fn what_runs_any_program_is_known_by_its_port_alone() {
        let service = || Address::Followed(Sought::Service("kafka".into()));
        assert_eq!(at(9092, service(), Some("java")), "127.0.0.1:9092");
        assert_eq!(at(5005, service(), Some("java")), "jdb -attach 127.0.0.1:5005");
        assert_eq!(at(1883, service(), Some("beam.smp")), "127.0.0.1:1883");
        assert_eq!(at(5672, service(), Some("beam.smp")), "amqp://127.0.0.1:5672/");
        let process = |name: &str| Address::Followed(Sought::Process(name.into()));
        assert_eq!(at(7000, process("node"), None), "127.0.0.1:7000");
    }

    #[test]
    fn a_host_is_asked_for_by_tls_and_never_looked_up() {
        let listen = [SocketAddr::from(([127, 0, 0, 1], 5432))];
        let hosts = [HostMatch::Exact("shop.localhost".into())];
        let told = line(&listen, &hosts, [&Address::Loopback(7000)].into_iter(), None);
        assert_eq!(told, "postgresql://shop.localhost:5432/?hostaddr=127.0.0.1&sslmode=require");
    }
}
