//! Which routes of a table lead to a listener.

use std::net::SocketAddr;

use super::{
    Hold, Listener, Lookout,
    container::{Container, Containers},
    follow::{Scene, program},
    hold,
    propose::reached_by_port,
};
use crate::{
    config::{Action, Address, Config, Route, Sought},
    process::Processes,
};

/// Where each route of a table sends its requests at one moment.
#[derive(Debug)]
pub struct Leads<'a>(Vec<(&'a Route, Vec<Address>)>);

impl<'a> Leads<'a> {
    /// Now. Programs are looked for only where a route follows one; services and runs are known to a running proxy alone,
    /// and lead nowhere here.
    pub fn now(config: &'a Config, containers: &Containers) -> Self {
        let follows = |route: &Route| targets(route).any(|target| matches!(target, Address::Followed(_)));
        if !config.routes.iter().any(follows) {
            return Self::with(config, |_| Vec::new());
        }
        let sockets = Lookout::default().look().unwrap_or_default();
        let processes = Processes::now();
        Self::with(config, |sought| find(sought, Scene { sockets: &sockets, processes: &processes }, containers))
    }

    /// With `find`, who knows where programs are.
    fn with(config: &'a Config, find: impl Fn(&Sought) -> Vec<SocketAddr>) -> Self {
        let resolved = |target: &Address| match target {
            Address::Followed(sought) => find(sought).into_iter().map(Address::Ip).collect(),
            fixed => vec![fixed.clone()],
        };
        Self(config.routes.iter().map(|route| (route, targets(route).flat_map(resolved).collect())).collect())
    }

    /// The routes with a target that `listener` answers, in the order of the table.
    pub fn to(&self, listener: &Listener) -> impl Iterator<Item = &'a Route> {
        let meets = |targets: &[Address]| targets.iter().any(|target| leads(target, listener));
        self.0.iter().filter(move |(_, targets)| meets(targets)).map(|(route, _)| *route)
    }
}

fn find(sought: &Sought, scene: Scene<'_>, containers: &Containers) -> Vec<SocketAddr> {
    if let Sought::Container { name, port } = sought {
        // Whether its program listens inside does not matter: the port is held for it.
        let is_meant = |container: &&Container| {
            container.name == *name || container.compose.as_ref().is_some_and(|compose| compose.service == *name)
        };
        let published = containers.list.iter().filter(is_meant).flat_map(|container| &container.published);
        return published.filter(|published| published.private == *port).map(|published| published.address).collect();
    }
    program(sought, None, scene).and_then(Result::ok).map(|found| found.addresses).unwrap_or_default()
}

/// Where a route sends requests; nothing if it answers by itself.
pub fn targets(route: &Route) -> impl Iterator<Item = &Address> {
    let targets = match &route.action {
        Action::Forward(forward) => forward.targets.as_slice(),
        Action::Redirect(_) | Action::Respond(_) | Action::Files(_) => &[],
    };
    targets.iter().map(|target| &target.address)
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
        leads.to(&listener(address)).map(|route| route.name.clone()).collect()
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
    fn a_program_that_is_followed_leads_to_where_it_is_found() {
        let config =
            table("[routes]\nweb = { to = { process = \"flask\" } }\ndocs = { to = { process = \"node\" } }\n");
        let at = |sought: &Sought| match sought {
            Sought::Process(name) if name == "flask" => vec!["127.0.0.1:5000".parse().unwrap()],
            _ => Vec::new(),
        };
        let leads = Leads::with(&config, at);
        assert_eq!(names(&leads, "0.0.0.0:5000"), ["web"]);
        assert_eq!(names(&leads, "127.0.0.1:5001"), [""; 0]);
    }
}
