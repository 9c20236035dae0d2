//! Whether the routes of `[tcp]` find their ports free.

use super::{Finding, listed, ports::Ports};
use crate::{
    config::{Config, TcpRoute},
    discover::Owner,
};

const CHECK: &str = "tcp";

/// One finding per route.
pub(super) fn examine(config: &Config, ports: &Ports) -> Vec<Finding> {
    config.tcp.iter().map(|route| word(route, ports)).collect()
}

fn word(route: &TcpRoute, ports: &Ports) -> Finding {
    let name = &route.name;
    let Some((address, held)) = route.addresses().find_map(|address| Some((address, ports.in_the_way(address)?)))
    else {
        return Finding::ok(CHECK, format!("{} of TCP route `{name}` is free", listed(&route.listen.required)));
    };
    let words = ports.words(held);
    if held.listener.owner.as_ref().is_some_and(Owner::is_portolan) {
        return Finding::ok(CHECK, format!("{address} of TCP route `{name}` is held by a portolan: {words}"));
    }
    let finding = Finding::problem(CHECK, format!("{address} of TCP route `{name}` is held by {words}"));
    match held.way_out() {
        Some(way_out) => finding.help(format!("{way_out}, or write another `listen` for it")),
        None => finding.help(format!("write another `listen` for TCP route `{name}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Verdict, ports::seen, table},
        *,
    };

    fn told(listeners: &[(&str, &str, &str)]) -> Vec<Finding> {
        examine(&table("[tcp]\ndb = { listen = 5432, to = 54321 }\n"), &seen::ports(listeners))
    }

    #[test]
    fn a_port_that_somebody_else_holds_is_a_problem() {
        let found = told(&[("127.0.0.1:5432", "postgres", "/srv/data")]);
        assert_eq!(found[0].verdict, Verdict::Problem);
        assert!(found[0].message.starts_with("127.0.0.1:5432 of TCP route `db` is held by `postgres"), "{found:?}");
    }

    #[test]
    fn a_port_that_is_free_or_ours_is_fine() {
        assert_eq!(told(&[])[0].message, "127.0.0.1:5432 of TCP route `db` is free");
        let ours = told(&[("127.0.0.1:5432", "portolan", "/srv/shop")]);
        assert_eq!(ours[0].verdict, Verdict::Ok, "{ours:?}");
    }
}
