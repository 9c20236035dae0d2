//! Whether services find the ports free that they always open.

use std::net::{Ipv4Addr, SocketAddr};

use super::{
    Finding,
    ports::{Held, Ports},
};
use crate::config::{Config, Service};

const CHECK: &str = "services";

/// One finding per service with a port of its own.
pub(super) fn examine(config: &Config, ports: &Ports) -> Vec<Finding> {
    let fixed = config.services.iter().filter_map(|service| Some((service, service.port?)));
    fixed.map(|(service, port)| word(service, port, ports)).collect()
}

fn word(service: &Service, port: u16, ports: &Ports) -> Finding {
    let name = &service.name;
    let Some(held) = ports.in_the_way(SocketAddr::from((Ipv4Addr::LOCALHOST, port))) else {
        return Finding::ok(CHECK, format!("port {port} of service `{name}` is free"));
    };
    let words = ports.words(held);
    if works_in_its_folder(service, held) {
        return Finding::ok(CHECK, format!("port {port} of service `{name}` is held by {words}, in its folder"));
    }
    let finding = Finding::warning(CHECK, format!("port {port} of service `{name}` is held by {words}"))
        .note("unless that is the service itself, it cannot start");
    match held.way_out() {
        Some(way_out) => finding.help(way_out),
        None => finding.help(format!("write another `port` for service `{name}`")),
    }
}

/// Then it is most likely the service itself, which runs already.
fn works_in_its_folder(service: &Service, held: &Held) -> bool {
    let folder = held.listener.owner.as_ref().and_then(|owner| owner.folder.as_deref());
    folder.is_some_and(|folder| folder.starts_with(&service.dir))
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{
        super::{ports::seen, table},
        *,
    };
    use crate::{
        config::{Command, Ready, Start},
        diagnostic::{Source, Span},
    };

    fn told(listeners: &[(&str, &str, &str)]) -> Vec<Finding> {
        let source = Source { name: "portolan.toml".into(), path: None, text: String::new() };
        let db = Service {
            name: "db".into(),
            origin: Span { source: Arc::new(source), range: 0..0 },
            written: 0,
            run: Command::Shell("postgres".into()),
            dir: "/srv/shop".into(),
            env: Vec::new(),
            env_file: None,
            needs: Vec::new(),
            ready: Ready::Listening,
            port: Some(54321),
            start: Start::WithUp,
        };
        let other = Service { name: "any".into(), port: None, ..db.clone() };
        let config = Config { services: vec![db, other], ..table("") };
        examine(&config, &seen::ports(listeners))
    }

    #[test]
    fn a_free_port_is_well() {
        assert_eq!(told(&[]), [Finding::ok("services", "port 54321 of service `db` is free")]);
    }

    #[test]
    fn a_program_of_the_same_folder_is_taken_for_the_service() {
        let expected = "port 54321 of service `db` is held by `postgres server.js` (pid 4812) in /srv/shop/data, in its \
                        folder";
        assert_eq!(told(&[("127.0.0.1:54321", "postgres", "/srv/shop/data")]), [Finding::ok("services", expected)]);
    }

    #[test]
    fn a_stranger_on_the_port_is_a_warning() {
        let expected =
            Finding::warning("services", "port 54321 of service `db` is held by `node server.js` (pid 4812) in /tmp")
                .note("unless that is the service itself, it cannot start")
                .help("end it with `kill 4812`");
        assert_eq!(told(&[("0.0.0.0:54321", "node", "/tmp")]), [expected]);
    }
}
