//! Whether the system gives the ports that are asked for to connections.
//!
//! An outgoing connection is given any free port of a range as its own end, and keeps a listener from it for as long as
//! it lasts, and a minute or two longer.

use super::{Fact, Finding, listed, privileges::wanted, text};
use crate::{
    config::{Config, Listen},
    supervise::port::DYNAMIC,
};

const CHECK: &str = "ephemeral";

/// Both ends belong to it.
type Range = (u16, u16);

/// The ports that connections are given.
#[derive(Debug)]
pub(super) struct Ephemeral {
    range: Fact<Range>,
    /// Never given, although they lie in the range.
    reserved: Fact<Vec<Range>>,
}

pub(super) fn look() -> Ephemeral {
    Ephemeral {
        range: text("/proc/sys/net/ipv4/ip_local_port_range")
            .and_then(|text| Fact::known_or(parse_range(&text, char::is_whitespace), "two numbers are missing")),
        reserved: text("/proc/sys/net/ipv4/ip_local_reserved_ports")
            .and_then(|text| Fact::known_or(parse_list(text.trim()), "it is no list of ports")),
    }
}

/// `32768 60999` with any blank between, or `8080-8090`, or one port.
fn parse_range(text: &str, separator: impl Fn(char) -> bool) -> Option<Range> {
    let mut numbers = text.trim().split(separator).filter(|word| !word.is_empty()).map(str::parse);
    let first = numbers.next()?.ok()?;
    let last = numbers.next().unwrap_or(Ok(first)).ok()?;
    Some((first, last))
}

/// `8080,9148-9150`
fn parse_list(text: &str) -> Option<Vec<Range>> {
    text.split(',').filter(|item| !item.is_empty()).map(|item| parse_range(item, |c| c == '-')).collect()
}

pub(super) fn examine(listen: &Listen, config: Option<&Config>, ephemeral: &Ephemeral) -> Vec<Finding> {
    let range = match &ephemeral.range {
        Fact::Known(range) => *range,
        Fact::Unknown(why) => return vec![Finding::unknown(CHECK, "which ports connections are given", why)],
        Fact::Absent => return Vec::new(),
    };
    let reserved = match &ephemeral.reserved {
        Fact::Known(reserved) => reserved.as_slice(),
        Fact::Unknown(_) | Fact::Absent => &[],
    };
    let (first, last) = range;
    let is_given = |port: &u16| is_in(range, *port) && !reserved.iter().any(|range| is_in(*range, *port));
    let endangered: Vec<u16> = wanted(listen, config).into_iter().filter(is_given).collect();
    if endangered.is_empty() {
        let finding =
            Finding::ok(CHECK, format!("connections are given the ports {first}-{last}, and none that is asked for"));
        return vec![finding.notes(overlap(range))];
    }
    let ports = if endangered.len() == 1 { "port" } else { "ports" };
    let all = reserved.iter().map(words).chain(endangered.iter().map(u16::to_string)).collect::<Vec<_>>().join(",");
    let finding = Finding::warning(
        CHECK,
        format!("{ports} {} may be in use by a connection when it is wanted", listed(&endangered)),
    )
    .note(format!("connections are given the ports {first}-{last} as their own ends"))
    .help(format!("`sudo sysctl net.ipv4.ip_local_reserved_ports={all}`"));
    vec![finding]
}

/// Programs are given ports outside of the range, unless it leaves none.
fn overlap(range: Range) -> Option<String> {
    let (first, last) = (DYNAMIC.start(), DYNAMIC.end());
    let leaves_none = is_in(range, *first) && is_in(range, *last);
    leaves_none.then(|| {
        format!("a port of {first}-{last} that portolan gives to a program may be taken before the program opens it")
    })
}

fn is_in((first, last): Range, port: u16) -> bool {
    (first..=last).contains(&port)
}

fn words((first, last): &Range) -> String {
    if first == last { first.to_string() } else { format!("{first}-{last}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(port: u16, range: Range, reserved: &str) -> Vec<Finding> {
        let reserved = Fact::Known(parse_list(reserved).unwrap());
        examine(&Listen::localhost(port), None, &Ephemeral { range: Fact::Known(range), reserved })
    }

    #[test]
    fn a_port_outside_of_the_range_is_well() {
        let expected =
            Finding::ok("ephemeral", "connections are given the ports 32768-60999, and none that is asked for");
        assert_eq!(told(62893, (32768, 60999), ""), [expected]);
    }

    #[test]
    fn a_port_within_the_range_is_a_warning_that_keeps_what_is_reserved() {
        let expected = Finding::warning("ephemeral", "port 62893 may be in use by a connection when it is wanted")
            .note("connections are given the ports 1024-65535 as their own ends")
            .help("`sudo sysctl net.ipv4.ip_local_reserved_ports=8080,9148-9150,62893`");
        assert_eq!(told(62893, (1024, 65535), "8080,9148-9150"), [expected]);
    }

    #[test]
    fn a_reserved_port_is_well() {
        assert!(told(62893, (1024, 65535), "62000-63000")[0].message.ends_with("and none that is asked for"));
    }

    #[test]
    fn a_range_that_leaves_no_port_for_programs_says_so() {
        let told = told(8000, (49152, 65535), "");
        let expected =
            "a port of 49152-65535 that portolan gives to a program may be taken before the program opens it";
        assert_eq!(told[0].notes, [expected]);
    }

    #[test]
    fn what_cannot_be_read_is_said_to_be_unknown() {
        let ephemeral = Ephemeral { range: Fact::Unknown("permission denied".into()), reserved: Fact::Absent };
        let told = examine(&Listen::localhost(1), None, &ephemeral);
        assert_eq!(told[0].message, "which ports connections are given cannot be told: permission denied");
        assert_eq!(examine(&Listen::localhost(1), None, &Ephemeral { range: Fact::Absent, ..ephemeral }), []);
    }

    #[test]
    fn ranges_are_read_as_the_system_writes_them() {
        assert_eq!(parse_range("32768\t60999\n", char::is_whitespace), Some((32768, 60999)));
        assert_eq!(parse_list("8080,9148-9150"), Some(vec![(8080, 8080), (9148, 9150)]));
        assert_eq!(parse_list(""), Some(Vec::new()));
        assert_eq!(parse_list("here"), None);
    }
}
