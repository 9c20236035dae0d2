//! Which routes of a table lead to a listener.

use super::{Hold, Listener, hold, propose::reached_by_port};
use crate::config::{Action, Address, Config, Route};

/// The routes with a target that `listener` answers, in the order of the table.
pub fn routes_to<'a>(config: &'a Config, listener: &Listener) -> impl Iterator<Item = &'a Route> {
    config.routes.iter().filter(move |route| targets(route).any(|target| leads(target, listener)))
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
        let text =
            "[routes]\nweb = { path = \"/\", to = 5173 }\ndocs = 4000\nalso = { to = [4001, \"127.0.0.1:5173\"] }\n";
        let config = crate::config::load::from_str("portolan.toml", text, None).config.unwrap();
        let listener = listener("0.0.0.0:5173");
        let names: Vec<_> = routes_to(&config, &listener).map(|route| route.name.as_str()).collect();
        assert_eq!(names, ["web", "also"]);
    }
}
