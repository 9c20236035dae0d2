//! Which routes of a table lead to a listener.

use std::{fmt, net::SocketAddr};

use super::{
    Hold, Listener, Lookout,
    container::{Container, Containers},
    follow::{Scene, program},
    hold,
    propose::reached_by_port,
};
use crate::{
    config::{Action, Address, Config, Route, Sought, Target, TcpRoute},
    diagnostic::Span,
    process::Processes,
};

/// A route that leads to a listener, as it is told to people.
#[derive(Debug, Clone, Copy)]
pub struct Lead<'a> {
    /// The key in the table.
    pub name: &'a str,
    /// Where its entry was written.
    pub origin: &'a Span,
    is_tcp: bool,
}

/// Where each route of a table, of `[tcp]` too, sends its clients at one moment.
#[derive(Debug)]
pub struct Leads<'a>(Vec<(Lead<'a>, Vec<Address>)>);

/// A route and what is to be found for it: its targets, and near which port those are sought that are followed.
type Course<'a> = (Lead<'a>, &'a [Target], Option<u16>);

impl<'a> Leads<'a> {
    /// Now. Programs are looked for only where a route follows one; services and runs are known to a running proxy alone,
    /// and lead nowhere here.
    pub fn now(config: &'a Config, containers: &Containers) -> Self {
        let is_followed = |target: &Target| matches!(target.address, Address::Followed(_));
        if !courses(config).any(|(_, targets, _)| targets.iter().any(is_followed)) {
            return Self::with(config, |_, _| Vec::new());
        }
        let sockets = Lookout::default().look().unwrap_or_default();
        let processes = Processes::now();
        let scene = Scene { sockets: &sockets, processes: &processes };
        Self::with(config, |sought, near| find(sought, near, scene, containers))
    }

    /// With `find`, who knows where programs are.
    fn with(config: &'a Config, find: impl Fn(&Sought, Option<u16>) -> Vec<SocketAddr>) -> Self {
        let resolved = |target: &Target, near: Option<u16>| match &target.address {
            Address::Followed(sought) => find(sought, near).into_iter().map(Address::Ip).collect(),
            fixed => vec![fixed.clone()],
        };
        let led = |(lead, targets, near): Course<'a>| {
            (lead, targets.iter().flat_map(|target| resolved(target, near)).collect())
        };
        Self(courses(config).map(led).collect())
    }

    /// The routes with a target that `listener` answers, in the order of the table.
    pub fn to(&self, listener: &Listener) -> impl Iterator<Item = Lead<'a>> {
        let meets = |targets: &[Address]| targets.iter().any(|target| leads(target, listener));
        self.0.iter().filter(move |(_, targets)| meets(targets)).map(|(lead, _)| *lead)
    }
}

/// The routes of `[tcp]` for which a portolan listens there.
pub fn served_at<'a>(config: &'a Config, listener: &Listener) -> impl Iterator<Item = Lead<'a>> {
    let address = listener.owner.as_ref().filter(|owner| owner.is_portolan()).map(|_| listener.address);
    config.tcp.iter().filter(move |route| route.addresses().any(|own| Some(own) == address)).map(of_tcp)
}

fn courses(config: &Config) -> impl Iterator<Item = Course<'_>> {
    let of_requests = config
        .routes
        .iter()
        .map(|route| (Lead { name: &route.name, origin: &route.origin, is_tcp: false }, forwards(route), None));
    let raw = config.tcp.iter().map(|route| (of_tcp(route), route.forward.targets.as_slice(), route.forward.near));
    of_requests.chain(raw)
}

fn of_tcp(route: &TcpRoute) -> Lead<'_> {
    Lead { name: &route.name, origin: &route.origin, is_tcp: true }
}

impl fmt::Display for Lead<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} `{}`", if self.is_tcp { "TCP route" } else { "route" }, self.name)
    }
}

fn find(sought: &Sought, near: Option<u16>, scene: Scene<'_>, containers: &Containers) -> Vec<SocketAddr> {
    if let Sought::Container { name, port } = sought {
        // Whether its program listens inside does not matter: the port is held for it.
        let is_meant = |container: &&Container| {
            container.name == *name || container.compose.as_ref().is_some_and(|compose| compose.service == *name)
        };
        let published = containers.list.iter().filter(is_meant).flat_map(|container| &container.published);
        return published.filter(|published| published.private == *port).map(|published| published.address).collect();
    }
    program(sought, near, scene).and_then(Result::ok).map(|found| found.addresses).unwrap_or_default()
}

/// Where a route sends requests; nothing if it answers by itself.
pub fn targets(route: &Route) -> impl Iterator<Item = &Address> {
    forwards(route).iter().map(|target| &target.address)
}

fn forwards(route: &Route) -> &[Target] {
    match &route.action {
        Action::Forward(forward) => &forward.targets,
        Action::Redirect(_) | Action::Respond(_) | Action::Files(_) => &[],
    }
}

/// Whether whoever connects to `target` meets `listener`.
pub fn leads(target: &Address, listener: &Listener) -> bool {
    let listens = listener.address;
    match target {
        Address::Loopback(port) => listens.port() == *port && reached_by_port(listens.ip()),
        Address::Ip(wanted) => hold(listens, *wanted).is_some_and(|hold| hold != Hold::Part),
        // Where these lead is known only once they are looked up, or followed.
        Address::Name { .. } | Address::Unix(_) | Address::Followed(_) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str) -> Listener {
        Listener { address: address.parse().unwrap(), owner: None, uid: None }
    }

    fn target(address: &str) -> Address {
        Address::Ip(address.parse().unwrap())
    }

    fn table(text: &str) -> Config {
        crate::config::load::from_str("portolan.toml", text, None).config.unwrap()
    }

    fn names(leads: &Leads<'_>, address: &str) -> Vec<String> {
        leads.to(&listener(address)).map(|lead| lead.name.to_owned()).collect()
    }

    #[test]
    fn a_bare_port_leads_to_both_loopback_addresses_and_to_wildcards() {
        for address in ["127.0.0.1:5173", "[::1]:5173", "0.0.0.0:5173", "[::]:5173"] {
            assert!(leads(&Address::Loopback(5173), &listener(address)), "{address}");
        }
        for address in ["127.0.0.1:5174", "127.0.0.2:5173", "192.0.2.1:5173"] {
            assert!(!leads(&Address::Loopback(5173), &listener(address)), "{address}");
        }
    }

    #[test]
    fn an_address_leads_to_itself_and_to_a_wildcard() {
        for address in ["127.0.0.1:5173", "0.0.0.0:5173", "[::]:5173"] {
            assert!(leads(&target("127.0.0.1:5173"), &listener(address)), "{address}");
        }
        assert!(!leads(&target("127.0.0.1:5173"), &listener("[::1]:5173")));
        assert!(!leads(&target("0.0.0.0:5173"), &listener("127.0.0.1:5173")));
    }

    #[test]
    fn routes_are_told_in_the_order_of_the_table() {
        let config = table(
            "[routes]\nweb = { path = \"/\", to = 5173 }\ndocs = 4000\nalso = { to = [4001, \"127.0.0.1:5173\"] }\n",
        );
        assert_eq!(names(&Leads::now(&config, &Containers::default()), "0.0.0.0:5173"), ["web", "also"]);
    }

    #[test]
    fn routes_of_tcp_lead_there_as_well_and_are_told_apart() {
        let config = table("[routes]\nweb = 5432\n[tcp]\ndb = { listen = 15432, to = 5432 }\n");
        let leads = Leads::now(&config, &Containers::default());
        let told: Vec<_> = leads.to(&listener("127.0.0.1:5432")).map(|lead| lead.to_string()).collect();
        assert_eq!(told, ["route `web`", "TCP route `db`"]);
    }

    #[test]
    fn a_program_that_is_followed_leads_to_where_it_is_found() {
        let config =
            table("[routes]\nweb = { to = { process = \"flask\" } }\ndocs = { to = { process = \"node\" } }\n");
        let at = |sought: &Sought, _| match sought {
            Sought::Process(name) if name == "flask" => vec!["127.0.0.1:5000".parse().unwrap()],
            _ => Vec::new(),
        };
        let leads = Leads::with(&config, at);
        assert_eq!(names(&leads, "0.0.0.0:5000"), ["web"]);
        assert_eq!(names(&leads, "127.0.0.1:5001"), [""; 0]);
    }
}
