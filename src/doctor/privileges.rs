//! Whether the ports that are asked for need privileges.

use std::collections::BTreeSet;

use super::{Fact, Finding, listed, number, text};
use crate::config::{Config, Listen, TcpRoute};

const CHECK: &str = "privileges";

/// `CAP_NET_BIND_SERVICE` of `man 7 capabilities`.
const BIND_SERVICE: u32 = 10;

/// What the system asks of whoever opens a low port.
#[derive(Debug)]
pub(super) struct Privileges {
    /// The first port that needs none.
    first_free: Fact<u16>,
    /// Whether this process has them.
    has_them: Fact<bool>,
}

pub(super) fn look() -> Privileges {
    Privileges {
        first_free: number("/proc/sys/net/ipv4/ip_unprivileged_port_start"),
        has_them: text("/proc/self/status").and_then(|status| may_bind(&status)),
    }
}

/// From the effective capabilities, `CapEff` of `man 5 proc_pid_status`.
fn may_bind(status: &str) -> Fact<bool> {
    let capabilities = status.lines().find_map(|line| line.strip_prefix("CapEff:"));
    let bits = capabilities.and_then(|bits| u64::from_str_radix(bits.trim(), 16).ok());
    bits.map_or(Fact::Absent, |bits| Fact::Known(bits >> BIND_SERVICE & 1 == 1))
}

/// Every port that is written down, which is never 0 here.
pub(super) fn wanted(listen: &Listen, config: Option<&Config>) -> BTreeSet<u16> {
    let services = config.into_iter().flat_map(|config| &config.services).filter_map(|service| service.port);
    let tcp = config.into_iter().flat_map(|config| &config.tcp).flat_map(TcpRoute::addresses);
    let addresses = listen.required.iter().copied().chain(tcp);
    addresses.map(|address| address.port()).chain(services).filter(|port| *port != 0).collect()
}

pub(super) fn examine(listen: &Listen, config: Option<&Config>, privileges: &Privileges) -> Vec<Finding> {
    let first_free = match &privileges.first_free {
        Fact::Known(first) => *first,
        Fact::Unknown(why) => return vec![Finding::unknown(CHECK, "which ports need privileges", why)],
        Fact::Absent => return Vec::new(),
    };
    let low: Vec<u16> = wanted(listen, config).into_iter().take_while(|port| *port < first_free).collect();
    let Some(lowest) = low.first() else {
        return vec![Finding::ok(CHECK, "no port that is asked for needs privileges")];
    };
    let ports = if low.len() == 1 { format!("port {lowest} needs") } else { format!("ports {} need", listed(&low)) };
    if privileges.has_them == Fact::Known(true) {
        return vec![Finding::ok(CHECK, format!("{ports} privileges, which are there"))];
    }
    let finding = Finding::problem(CHECK, format!("{ports} privileges that are not there"))
        .note(format!("ports below {first_free} are kept for the administrator here"))
        .help(format!("`sudo sysctl net.ipv4.ip_unprivileged_port_start={lowest}`"));
    vec![finding]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(port: u16, first_free: Fact<u16>, has_them: bool) -> Vec<Finding> {
        examine(&Listen::localhost(port), None, &Privileges { first_free, has_them: Fact::Known(has_them) })
    }

    #[test]
    fn a_low_port_without_privileges_is_a_problem_with_the_command() {
        let expected = Finding::problem("privileges", "port 80 needs privileges that are not there")
            .note("ports below 1024 are kept for the administrator here")
            .help("`sudo sysctl net.ipv4.ip_unprivileged_port_start=80`");
        assert_eq!(told(80, Fact::Known(1024), false), [expected]);
    }

    #[test]
    fn the_port_of_a_tcp_route_is_asked_for_as_well() {
        let config = super::super::table("[tcp]\nmail = { listen = 25, to = 2525 }\n");
        let privileges = Privileges { first_free: Fact::Known(1024), has_them: Fact::Known(false) };
        let told = examine(&Listen::localhost(62893), Some(&config), &privileges);
        assert_eq!(told[0].message, "port 25 needs privileges that are not there");
    }

    #[test]
    fn a_low_port_is_well_for_whoever_may_and_where_all_may() {
        let with_them = Finding::ok("privileges", "port 80 needs privileges, which are there");
        assert_eq!(told(80, Fact::Known(1024), true), [with_them]);
        for told in [told(80, Fact::Known(80), false), told(62893, Fact::Known(1024), false)] {
            assert_eq!(told, [Finding::ok("privileges", "no port that is asked for needs privileges")]);
        }
    }

    #[test]
    fn a_system_without_such_a_border_has_no_finding() {
        assert_eq!(told(80, Fact::Absent, false), []);
    }

    #[test]
    fn a_border_that_cannot_be_read_is_said_to_be_unknown() {
        let told = told(80, Fact::Unknown("permission denied".into()), false);
        assert_eq!(told[0].message, "which ports need privileges cannot be told: permission denied");
    }

    #[test]
    fn the_capability_is_read_from_its_bit() {
        assert_eq!(may_bind("Name:\tportolan\nCapEff:\t0000000000000400\n"), Fact::Known(true));
        assert_eq!(may_bind("CapEff:\t0000000000000200\n"), Fact::Known(false));
        assert_eq!(may_bind("Name:\tportolan\n"), Fact::Absent);
    }
}
