//! Whether somebody listens where the routes lead.

use std::net::SocketAddr;

use super::{Finding, counted, listed, ports::Ports};
use crate::{
    config::{Address, Config},
    discover,
};

const CHECK: &str = "targets";

/// More than a person reads, in a table of thousands.
const MOST: usize = 12;

/// Fixed ports of this machine only: programs that are followed are where they are found, and other machines are not
/// looked at.
pub(super) fn examine(config: &Config, ports: &Ports) -> Vec<Finding> {
    let (mut met, mut missed) = (Vec::new(), Vec::new());
    for (address, routes) in fixed(config) {
        let routes = listed(routes.iter().map(|name| format!("`{name}`")));
        match ports.held().iter().find(|held| discover::leads(address, &held.listener)) {
            Some(held) => met.push(format!("{routes} -> {address}: {}", ports.words(held))),
            None => missed.push(word_missed(address, &routes, ports)),
        }
    }
    let mut findings = Vec::new();
    if !met.is_empty() {
        let finding = Finding::ok(CHECK, format!("{} met by a program", counted_are(met.len())));
        findings.push(finding.notes(shortened(met)));
    }
    let more = missed.len().saturating_sub(MOST);
    findings.extend(missed.into_iter().take(MOST));
    if more > 0 {
        findings.push(Finding::warning(CHECK, format!("nothing listens at {}", counted(more, "other target"))));
    }
    findings
}

/// Each fixed target on loopback with the routes that lead there, in the order of the table.
fn fixed(config: &Config) -> Vec<(&Address, Vec<&str>)> {
    let mut found: Vec<(&Address, Vec<&str>)> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for route in &config.routes {
        for address in discover::targets(route).filter(|address| is_fixed(address)) {
            let at = *places.entry(address).or_insert(found.len());
            if at == found.len() {
                found.push((address, Vec::new()));
            }
            found[at].1.push(&route.name);
        }
    }
    found
}

fn is_fixed(address: &Address) -> bool {
    match address {
        Address::Loopback(_) => true,
        Address::Ip(address) => address.ip().is_loopback(),
        Address::Name { .. } | Address::Unix(_) | Address::Followed(_) => false,
    }
}

fn word_missed(address: &Address, routes: &str, ports: &Ports) -> Finding {
    let finding = Finding::warning(CHECK, format!("nothing listens at {address}, where {routes} leads"));
    let Address::Ip(wanted) = address else { return finding.help("start it; `portolan ports` shows what listens") };
    match ports.held().iter().find(|held| is_other_loopback(held.listener.address, *wanted)) {
        Some(held) => finding
            .note(format!("{} listens on {}", ports.words(held), held.listener.address))
            .help(format!("write `to = {}`, which tries both loopback addresses", wanted.port())),
        None => finding.help("start it; `portolan ports` shows what listens"),
    }
}

fn is_other_loopback(held: SocketAddr, wanted: SocketAddr) -> bool {
    held.port() == wanted.port() && held.ip().is_loopback() && held.ip() != wanted.ip()
}

fn counted_are(count: usize) -> String {
    if count == 1 { "1 target is".into() } else { format!("{count} targets are") }
}

fn shortened(mut lines: Vec<String>) -> Vec<String> {
    let more = lines.len().saturating_sub(MOST);
    lines.truncate(MOST);
    if more > 0 {
        lines.push(format!("and {more} more"));
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Verdict, ports::seen, table},
        *,
    };

    fn told(text: &str, listeners: &[(&str, &str, &str)]) -> Vec<Finding> {
        examine(&table(text), &seen::ports(listeners))
    }

    #[test]
    fn a_target_with_its_program_names_it() {
        let text = "[routes]\nweb = { path = \"/\", to = 5173 }\nalso = 5173\n";
        let expected = Finding::ok("targets", "1 target is met by a program")
            .note("`web` and `also` -> :5173: `node server.js` (pid 4812) in /srv/shop");
        assert_eq!(told(text, &[("[::1]:5173", "node", "/srv/shop")]), [expected]);
    }

    #[test]
    fn a_target_without_a_program_is_a_warning() {
        let expected = Finding::warning("targets", "nothing listens at :5173, where `web` leads")
            .help("start it; `portolan ports` shows what listens");
        assert_eq!(told("[routes]\nweb = 5173\n", &[("127.0.0.1:5174", "node", "/")]), [expected]);
    }

    #[test]
    fn a_program_on_the_other_loopback_address_is_named_with_the_edit() {
        let told = told("[routes]\nweb = \"127.0.0.1:5173\"\n", &[("[::1]:5173", "node", "/srv/shop")]);
        assert_eq!(told[0].notes, ["`node server.js` (pid 4812) in /srv/shop listens on [::1]:5173"]);
        assert_eq!(told[0].help.as_deref(), Some("write `to = 5173`, which tries both loopback addresses"));
    }

    #[test]
    fn other_machines_sockets_and_answers_of_our_own_are_not_looked_at() {
        let text = "[routes]\na = \"192.0.2.1:80\"\nb = \"unix:/run/b.sock\"\nc = { path = \"/c\", respond = { status = 204 } }\n";
        assert_eq!(told(text, &[]), []);
    }

    #[test]
    fn a_table_of_thousands_is_told_shortly() {
        let routes: String = (1..=1000).map(|port| format!("r{port} = {port}\n")).collect();
        let told = told(&format!("[routes]\n{routes}"), &[]);
        assert_eq!(told.len(), MOST + 1);
        assert_eq!(told[MOST].message, "nothing listens at 988 other targets");
        assert!(told.iter().all(|finding| finding.verdict == Verdict::Warning));
    }
}
