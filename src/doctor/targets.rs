//! Whether somebody listens where the routes lead.

use std::net::SocketAddr;

use super::{
    Finding, counted, listed,
    ports::{Held, Ports},
};
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
        let held: Vec<&Held> = ports.held().iter().filter(|held| discover::leads(address, &held.listener)).collect();
        match held.as_slice() {
            [] => missed.push(word_missed(address, &routes, ports)),
            [first, others @ ..] if others.iter().all(|other| is_same(first, other)) => {
                met.push(format!("{routes} -> {address}: {}", ports.words(first)));
            }
            several => missed.push(word_several(address, &routes, several, ports)),
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
    let of_requests = config.routes.iter().map(|route| (&route.name, discover::targets(route).collect::<Vec<_>>()));
    let tcp = config
        .tcp
        .iter()
        .map(|route| (&route.name, route.forward.targets.iter().map(|target| &target.address).collect::<Vec<_>>()));
    for (name, addresses) in of_requests.chain(tcp) {
        for address in addresses.into_iter().filter(|address| is_fixed(address)) {
            let at = *places.entry(address).or_insert(found.len());
            if at == found.len() {
                found.push((address, Vec::new()));
            }
            found[at].1.push(name);
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

/// Which of them answers depends on which address is tried first, here and by others.
fn word_several(address: &Address, routes: &str, several: &[&Held], ports: &Ports) -> Finding {
    let notes = several.iter().map(|held| format!("{} is {}", held.listener.address, ports.words(held)));
    let finding = Finding::warning(CHECK, format!("several programs listen at {address}, where {routes} leads"));
    finding
        .notes(notes)
        .help(format!("write the address that is meant, such as `to = \"{}\"`", several[0].listener.address))
}

/// Whether both belong to one program, as far as can be seen: servers share an address among processes, and
/// `docker-proxy` runs once for each family.
fn is_same(one: &Held, other: &Held) -> bool {
    let program = |held: &Held| held.listener.owner.as_ref().map(|owner| (owner.program.clone(), owner.folder.clone()));
    one.listener.address == other.listener.address || program(one) == program(other)
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
    fn two_programs_at_one_port_are_a_warning_that_names_both() {
        let both = [("127.0.0.1:5173", "node", "/srv/shop"), ("[::1]:5173", "python3", "/srv/blog")];
        let told = told("[routes]\nweb = 5173\n", &both);
        assert_eq!(told[0].verdict, Verdict::Warning);
        assert_eq!(told[0].message, "several programs listen at :5173, where `web` leads");
        let expected = [
            "127.0.0.1:5173 is `node server.js` (pid 4812) in /srv/shop",
            "[::1]:5173 is `python3 server.js` (pid 4812) in /srv/blog",
        ];
        assert_eq!(told[0].notes, expected);
    }

    #[test]
    fn one_program_at_both_addresses_is_well() {
        let both = [("127.0.0.1:5173", "node", "/srv/shop"), ("[::1]:5173", "node", "/srv/shop")];
        assert_eq!(told("[routes]\nweb = 5173\n", &both)[0].verdict, Verdict::Ok);
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
