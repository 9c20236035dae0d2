//! The routes that would lead to what listens here: one line of `[routes]` each.
//!
//! Proposed is what a person most likely means: programs of their own, reachable on this machine, that speak HTTP as
//! far as their name tells. Nothing is asked over the wire; a wrong guess costs one line that is deleted.

use std::{
    collections::HashSet,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

use super::{Listener, Owner, PORTOLAN, words::own_uid};

/// Programs that never speak HTTP where they listen, and we ourselves. Short on purpose: what is unclear, such as
/// `docker-proxy` or the forwarded ports of `ssh`, stays in the proposals.
pub(super) const NOT_PROPOSED: [&str; 9] =
    ["sshd", "sshd-session", "postgres", "mysqld", "mariadbd", "redis-server", "mongod", "memcached", PORTOLAN];

/// Names that run or are called like anything: the folder tells more. Versions (`python3.13`) are cut off before.
const SAYS_LITTLE: [&str; 14] = [
    "node",
    "bun",
    "deno",
    "python",
    "ruby",
    "perl",
    "php",
    "java",
    "dotnet",
    "docker-proxy",
    "main",
    "server",
    "app",
    "exe",
];

/// The label that leads to our own pages, and the one that names no program.
const RESERVED: [&str; 2] = [PORTOLAN, "localhost"];

/// The longest label of a host name (RFC 1035 §2.3.4): the name of a route becomes one.
const MAX_LABEL: usize = 63;

/// The line that routes `name` to `address`, such as `shop = 5173`; a bare port where that reaches it.
pub fn route_line(name: &str, address: SocketAddr) -> String {
    format!("{name} = {}", target_of(address))
}

/// The target that leads to `address`, as it is written: `5173`, or `"192.168.1.5:5173"`.
pub fn target_of(address: SocketAddr) -> String {
    if reached_by_port(address.ip()) { address.port().to_string() } else { format!("\"{address}\"") }
}

/// The listeners worth a route, each with a name that no other of them has.
///
/// A program that listens on `127.0.0.1` and on `[::1]` is one route, as a bare port reaches both.
pub fn names(listeners: &[Listener]) -> Vec<(String, &Listener)> {
    let mut targets = HashSet::new();
    let mut given = HashSet::new();
    let mut proposed = Vec::new();
    for listener in listeners.iter().filter(|listener| is_proposed(listener, own_uid())) {
        let address = listener.address;
        if targets.insert((address.port(), (!reached_by_port(address.ip())).then_some(address.ip()))) {
            proposed.push((unique(name_of(listener), address.port(), &mut given), listener));
        }
    }
    proposed
}

/// Whether a bare port as target, which tries both loopback addresses, leads there.
pub(super) fn reached_by_port(ip: IpAddr) -> bool {
    ip.is_unspecified() || ip == Ipv4Addr::LOCALHOST || ip == Ipv6Addr::LOCALHOST
}

fn is_proposed(listener: &Listener, own_uid: Option<u32>) -> bool {
    let ip = listener.address.ip();
    let reachable = ip.is_loopback() || ip.is_unspecified();
    let program = listener.owner.as_ref().map_or("", |owner| owner.program.as_str());
    reachable && listener.uid == own_uid && !NOT_PROPOSED.contains(&program)
}

/// `name`, or with its port where another has that name, or with a number where even that is taken.
fn unique(name: String, port: u16, given: &mut HashSet<String>) -> String {
    let with_port = with_suffix(&name, port);
    let numbered = (2..).map(|number: u32| with_suffix(&with_port, number));
    let free = [name, with_port.clone()].into_iter().chain(numbered).find(|name| !given.contains(name));
    let name = free.unwrap_or(with_port);
    given.insert(name.clone());
    name
}

/// `name-suffix`, cut in the name so that it stays a label.
fn with_suffix(name: &str, suffix: impl std::fmt::Display) -> String {
    let suffix = format!("-{suffix}");
    let keep = name.len().min(MAX_LABEL - suffix.len());
    format!("{}{suffix}", name[..keep].trim_end_matches('-'))
}

/// After the program, or after its folder when the program could be anything.
fn name_of(listener: &Listener) -> String {
    let port = listener.address.port();
    let name = listener.owner.as_ref().and_then(name_of_owner).unwrap_or_else(|| "app".into());
    if RESERVED.contains(&name.as_str()) || name.bytes().all(|byte| byte.is_ascii_digit()) {
        return with_suffix(&name, port);
    }
    name
}

fn name_of_owner(owner: &Owner) -> Option<String> {
    let program = label(owner.program.trim_end_matches(|c: char| c.is_ascii_digit() || c == '.'));
    if program.as_deref().is_some_and(|program| !SAYS_LITTLE.contains(&program)) {
        return label(&owner.program);
    }
    let folder = owner.folder.as_deref().and_then(|folder| folder.file_name());
    folder.and_then(|folder| label(&folder.to_string_lossy())).or(program)
}

/// `text` as a host label, which is also a bare key of TOML: lowercase letters, digits and single hyphens.
fn label(text: &str) -> Option<String> {
    let mut label = String::with_capacity(text.len());
    for c in text.chars() {
        match c.to_ascii_lowercase() {
            c @ ('a'..='z' | '0'..='9') => label.push(c),
            _ if label.is_empty() || label.ends_with('-') => {}
            _ => label.push('-'),
        }
    }
    label.truncate(MAX_LABEL);
    let label = label.trim_end_matches('-');
    (!label.is_empty()).then(|| label.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn listener(address: &str, program: &str, folder: &str) -> Listener {
        let owner = Owner {
            pid: 1,
            program: program.into(),
            command: program.into(),
            folder: (!folder.is_empty()).then(|| folder.into()),
            started: None,
        };
        Listener { address: address.parse().unwrap(), owner: Some(owner), uid: own_uid() }
    }

    fn line_for(listener: &Listener) -> String {
        route_line(&name_of(listener), listener.address)
    }

    fn proposed(listeners: &[Listener]) -> Vec<String> {
        names(listeners).iter().map(|(name, listener)| route_line(name, listener.address)).collect()
    }

    #[test]
    fn an_interpreter_is_named_after_its_folder_and_a_program_after_itself() {
        assert_eq!(line_for(&listener("127.0.0.1:5173", "node", "/home/ada/shop")), "shop = 5173");
        assert_eq!(line_for(&listener("127.0.0.1:8000", "python3.13", "/home/ada/My API_v2")), "my-api-v2 = 8000");
        assert_eq!(line_for(&listener("0.0.0.0:2019", "caddy", "/home/ada/shop")), "caddy = 2019");
    }

    #[test]
    fn versions_stay_where_they_belong_to_the_name() {
        assert_eq!(line_for(&listener("[::]:9000", "s3", "/")), "s3 = 9000");
        assert_eq!(line_for(&listener("[::]:9000", "h2o2", "/")), "h2o2 = 9000");
    }

    #[test]
    fn every_name_is_a_bare_key_and_a_host_label() {
        let cases =
            [("node", "/"), ("node", ""), ("é", "/ü"), ("--", "/srv/-x-"), ("", "/srv/2024"), ("portolan", "/")];
        let lines = cases.map(|(program, folder)| line_for(&listener("127.0.0.1:4000", program, folder)));
        let names = ["node", "node", "app", "x", "2024-4000", "portolan-4000"];
        assert_eq!(lines, names.map(|name| format!("{name} = 4000")));
    }

    #[test]
    fn an_owner_that_cannot_be_seen_still_has_a_line() {
        let unseen = Listener { owner: None, ..listener("127.0.0.1:4000", "x", "") };
        assert_eq!(line_for(&unseen), "app = 4000");
    }

    #[test]
    fn an_address_that_a_bare_port_misses_is_written_out() {
        assert_eq!(line_for(&listener("127.0.0.53:8080", "stub", "")), "stub = \"127.0.0.53:8080\"");
        assert_eq!(line_for(&listener("[::1]:8080", "stub", "")), "stub = 8080");
    }

    #[test]
    fn equal_names_are_told_apart_by_port() {
        let found = [
            listener("127.0.0.1:5173", "node", "/shop"),
            listener("127.0.0.1:5174", "node", "/shop"),
            listener("127.0.0.1:5175", "shop-5174", "/"),
        ];
        assert_eq!(proposed(&found), ["shop = 5173", "shop-5174 = 5174", "shop-5174-5175 = 5175"]);
    }

    #[test]
    fn both_loopback_addresses_of_a_port_are_one_route() {
        let found = [
            listener("127.0.0.1:5173", "node", "/shop"),
            listener("127.0.0.7:5173", "node", "/shop"),
            listener("[::1]:5173", "node", "/shop"),
        ];
        assert_eq!(proposed(&found), ["shop = 5173", "shop-5173 = \"127.0.0.7:5173\""]);
    }

    #[test]
    fn strangers_databases_and_addresses_of_the_network_are_not_proposed() {
        let mut stranger = listener("127.0.0.1:631", "cups", "/");
        stranger.uid = stranger.uid.map(|uid| uid + 1);
        let lan = listener("192.0.2.1:80", "caddy", "/");
        let database = listener("127.0.0.1:5432", "postgres", "/");
        let ourselves = listener("127.0.0.1:62893", "portolan", "/");
        let unclear = listener("0.0.0.0:8080", "docker-proxy", "/");
        assert!(!is_proposed(&stranger, own_uid()) || own_uid().is_none());
        assert_eq!(proposed(&[lan, database, ourselves, unclear]), ["docker-proxy = 8080"]);
    }

    #[test]
    fn a_long_name_stays_a_label_with_its_port() {
        let folder = format!("/{}", "a".repeat(80));
        let found = [listener("127.0.0.1:5173", "node", &folder), listener("127.0.0.1:5174", "node", &folder)];
        assert!(names(&found).iter().all(|(name, _)| name.len() <= MAX_LABEL), "{:?}", proposed(&found));
        assert_eq!(names(&found)[1].0, format!("{}-5174", "a".repeat(58)));
    }
}
