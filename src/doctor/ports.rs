//! Whether the proxy can listen where it is asked to.

use std::{collections::BTreeSet, net::SocketAddr};

use jiff::Zoned;

use super::{Fact, Finding, listed};
use crate::{
    config::Listen,
    diagnostic::without_number,
    discover::{
        self, Connection, Listener, Owner,
        container::{Container, Containers},
    },
};

const CHECK: &str = "listen";

/// Who listens on this machine.
#[derive(Debug)]
pub(super) struct Ports {
    pub(super) listeners: Fact<Vec<Held>>,
    /// Those that are open on a port where the proxy would listen.
    connections: Vec<Connection>,
    pub(super) now: Zoned,
}

/// A listener, what its user is called, and the container that it is opened for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) listener: Listener,
    pub(super) user: Option<String>,
    pub(super) container: Option<Container>,
}

pub(super) fn look(listen: &Listen, containers: &Containers) -> Ports {
    let held = |listener: Listener| Held {
        user: listener.user(),
        container: containers.owner_of(listener.address).cloned(),
        listener,
    };
    let listeners = match discover::listeners() {
        Ok(found) => Fact::Known(found.into_iter().map(held).collect()),
        Err(error) => Fact::Unknown(without_number(&error)),
    };
    let wanted: BTreeSet<u16> = listen.required.iter().map(SocketAddr::port).filter(|port| *port != 0).collect();
    // A look that fails finds nothing: the listeners, read from the same place, tell why.
    let on = |port| discover::connections(port).unwrap_or_default();
    let connections = wanted.into_iter().flat_map(on).filter(|connection| !connection.lingers).collect();
    Ports { listeners, connections, now: Zoned::now() }
}

impl Ports {
    /// Nobody, where that could not be seen: one finding says so.
    pub(super) fn held(&self) -> &[Held] {
        match &self.listeners {
            Fact::Known(held) => held,
            Fact::Unknown(_) | Fact::Absent => &[],
        }
    }

    /// Who keeps others from `address`.
    pub(super) fn in_the_way(&self, address: SocketAddr) -> Option<&Held> {
        let listener = discover::in_the_way(self.held().iter().map(|held| &held.listener), address)?;
        self.held().iter().find(|held| held.listener == *listener)
    }

    /// The connection that keeps everybody from `address`, although nobody listens there.
    fn connection(&self, address: SocketAddr) -> Option<&Connection> {
        let same = |local: SocketAddr| local == address || address.ip().is_unspecified();
        self.connections.iter().find(|connection| same(connection.local))
    }

    /// ``"`node server.js` (pid 4812) in ~/shop"``
    pub(super) fn words(&self, held: &Held) -> String {
        match &held.container {
            Some(container) => discover::container_holder(container, &self.now),
            None => discover::holder(&held.listener, held.user.as_deref(), &self.now),
        }
    }
}

impl Held {
    /// How a person frees the port; `None` for a process that cannot be seen.
    pub(super) fn way_out(&self) -> Option<String> {
        let of_process = || self.listener.owner.as_ref().map(discover::way_to_end);
        self.container.as_ref().map(discover::way_to_stop).or_else(of_process)
    }
}

/// A finding for each address that is held, and one for those that are free.
pub(super) fn examine(listen: &Listen, ports: &Ports) -> Vec<Finding> {
    if let Fact::Unknown(why) = &ports.listeners {
        return vec![Finding::unknown(CHECK, "who listens on this machine", why)];
    }
    let (mut free, mut findings) = (Vec::new(), Vec::new());
    let required = listen.required.iter().map(|address| (address, true));
    let optional = listen.optional.iter().map(|address| (address, false));
    for (address, is_required) in required.chain(optional) {
        match ports.in_the_way(*address) {
            // Port 0 is whichever is free.
            _ if address.port() == 0 => {}
            Some(held) => findings.push(word_held(*address, is_required, held, ports)),
            None => match ports.connection(*address) {
                Some(connection) => findings.push(word_connected(*address, is_required, connection)),
                None => free.push(*address),
            },
        }
    }
    if !free.is_empty() {
        let are = if free.len() == 1 { "is" } else { "are" };
        findings.insert(0, Finding::ok(CHECK, format!("{} {are} free", listed(free))));
    }
    findings
}

fn word_held(address: SocketAddr, is_required: bool, held: &Held, ports: &Ports) -> Finding {
    let words = ports.words(held);
    if held.listener.owner.as_ref().is_some_and(Owner::is_portolan) {
        return Finding::ok(CHECK, format!("a portolan serves on {address}: {words}"));
    }
    let finding = taken(address, is_required, &words);
    let finding = match held.way_out() {
        Some(way_out) => finding.help(way_out),
        None => finding.help("end it where it was started, or write another `listen`"),
    };
    if is_required {
        finding
    } else {
        finding.note("whoever takes `localhost` for that address meets it and not the proxy")
    }
}

/// It has been given the port by the system; the check of ephemeral ports tells how to prevent that.
fn word_connected(address: SocketAddr, is_required: bool, connection: &Connection) -> Finding {
    let finding = taken(address, is_required, "a connection").note(discover::own_end(connection));
    match &connection.owner {
        Some(owner) => finding.help(format!("wait, or {}", discover::way_to_end(owner))),
        None => finding.help("wait until it has ended"),
    }
}

/// The proxy starts without an address that it does not need.
fn taken(address: SocketAddr, is_required: bool, holder: &str) -> Finding {
    let message = format!("{address} is held by {holder}");
    if is_required {
        Finding::problem(CHECK, message).note("the proxy cannot start")
    } else {
        Finding::warning(CHECK, message)
    }
}

/// Facts for tests of judgements.
#[cfg(test)]
pub(super) mod seen {
    use jiff::{Timestamp, tz::TimeZone};

    use super::*;

    /// What listens: address, program, folder.
    pub(in crate::doctor) fn ports(listeners: &[(&str, &str, &str)]) -> Ports {
        let held = listeners.iter().map(|(address, program, folder)| {
            let owner = Owner {
                pid: 4812,
                program: (*program).into(),
                command: format!("{program} server.js"),
                folder: Some(folder.into()),
                started: None,
            };
            Held {
                listener: Listener { address: address.parse().unwrap(), owner: Some(owner), uid: Some(0) },
                user: None,
                container: None,
            }
        });
        Ports {
            listeners: Fact::Known(held.collect()),
            connections: Vec::new(),
            now: Timestamp::UNIX_EPOCH.to_zoned(TimeZone::UTC),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    fn told(listeners: &[(&str, &str, &str)]) -> Vec<Finding> {
        examine(&Listen::localhost(62893), &seen::ports(listeners))
    }

    #[test]
    fn free_addresses_are_one_finding() {
        assert_eq!(told(&[]), [Finding::ok("listen", "127.0.0.1:62893 and [::1]:62893 are free")]);
    }

    #[test]
    fn a_taken_address_is_a_problem_that_names_its_holder() {
        let told = told(&[("127.0.0.1:62893", "node", "/srv/shop")]);
        assert_eq!(told[0], Finding::ok("listen", "[::1]:62893 is free"));
        let expected =
            Finding::problem("listen", "127.0.0.1:62893 is held by `node server.js` (pid 4812) in /srv/shop")
                .note("the proxy cannot start")
                .help("end it with `kill 4812`");
        assert_eq!(told[1], expected);
    }

    #[test]
    fn an_address_that_is_not_needed_is_a_warning() {
        let told = told(&[("[::1]:62893", "node", "/srv/shop")]);
        assert_eq!(told[1].verdict, Verdict::Warning);
        assert_eq!(told[1].notes, ["whoever takes `localhost` for that address meets it and not the proxy"]);
    }

    #[test]
    fn a_running_portolan_is_as_it_should_be() {
        let told = told(&[("127.0.0.1:62893", "portolan", "/srv/shop"), ("[::1]:62893", "portolan", "/srv/shop")]);
        assert!(told.iter().all(|finding| finding.verdict == Verdict::Ok), "{told:?}");
        assert!(told[0].message.starts_with("a portolan serves on 127.0.0.1:62893: `portolan"), "{told:?}");
    }

    #[test]
    fn a_holder_that_cannot_be_seen_is_not_to_be_killed() {
        let mut ports = seen::ports(&[("127.0.0.1:62893", "", "")]);
        let Fact::Known(held) = &mut ports.listeners else { unreachable!() };
        held[0].listener = Listener { owner: None, uid: Some(u32::MAX - 1), ..held[0].listener.clone() };
        held[0].user = Some("ada".into());
        let told = examine(&Listen::localhost(62893), &ports);
        assert!(told[1].message.ends_with("is held by a process of user ada (pid hidden)"), "{told:?}");
        assert!(!told[1].help.as_deref().unwrap().contains("kill"), "{told:?}");
    }

    #[test]
    fn a_container_is_named_and_stopped_instead_of_its_engines_helper() {
        let mut ports = seen::ports(&[("127.0.0.1:62893", "docker-proxy", "/")]);
        let Fact::Known(held) = &mut ports.listeners else { unreachable!() };
        held[0].container = Some(discover::container::samples::running("shop-web-1"));
        let told = examine(&Listen::localhost(62893), &ports);
        assert_eq!(told[1].message, "127.0.0.1:62893 is held by container `shop-web-1` of bb:1");
        assert_eq!(told[1].help.as_deref(), Some("stop it with `docker stop shop-web-1`"));
    }

    #[test]
    fn what_cannot_be_looked_at_is_not_called_free() {
        let ports = Ports { listeners: Fact::Unknown("permission denied".into()), ..seen::ports(&[]) };
        let told = examine(&Listen::localhost(62893), &ports);
        assert_eq!(told[0].message, "who listens on this machine cannot be told: permission denied");
    }

    #[test]
    fn a_connection_on_the_port_is_in_the_way_of_the_proxy() {
        let [local, remote] = ["127.0.0.1:62893", "192.0.2.1:443"].map(|address| address.parse().unwrap());
        let connection = Connection { local, remote: Some(remote), lingers: false, owner: None };
        let ports = Ports { connections: vec![connection], ..seen::ports(&[]) };
        let told = examine(&Listen::localhost(62893), &ports);
        let expected = Finding::problem("listen", "127.0.0.1:62893 is held by a connection")
            .note("the proxy cannot start")
            .note("a connection to 192.0.2.1:443 has it as its own end")
            .help("wait until it has ended");
        assert_eq!(told[1], expected);
    }

    #[test]
    fn any_free_port_needs_no_look() {
        assert_eq!(examine(&Listen::localhost(0), &seen::ports(&[("127.0.0.1:80", "node", "/")])), []);
    }
}
