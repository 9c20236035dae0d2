//! `[tcp]`: ports of their own, and the routes that share one by the names that TLS clients ask for.

use std::net::SocketAddr;

use super::{Problems, actions, listen, routes, section::Section, services::Services, targets, whole::is_own};
use crate::{
    config::{
        Address, Balance, Forward, HostMatch, Listen, Service, TcpRoute,
        document::{Entry, Kind, Table, Value},
        keys, overlap,
    },
    diagnostic::Diagnostic,
};

/// The routes of `[tcp]` that are fine, in the order of the file.
pub(super) fn check(root: &Table, services: &Services<'_>, problems: &mut Problems) -> Vec<TcpRoute> {
    let Some(table) = root.get("tcp").and_then(|value| problems.table(value, "tcp")) else { return Vec::new() };
    let expose = root.get("expose").is_some_and(|value| matches!(value.kind, Kind::Boolean(true)));
    let mut fine: Vec<TcpRoute> = Vec::new();
    for entry in &table.entries {
        let Some(route) = route(entry, expose, services, problems) else { continue };
        tell_conflict(&fine, &route, problems);
        fine.push(route);
    }
    fine
}

fn route(entry: &Entry, expose: bool, services: &Services<'_>, problems: &mut Problems) -> Option<TcpRoute> {
    let named = routes::check_name(entry, problems);
    let table = problems.table(&entry.value, &entry.name)?;
    let owner = format!("TCP route `{}`", entry.name);
    let section = Section::open(table, &owner, &entry.span, &keys::TCP, problems);
    let listen = section.get("listen").and_then(|value| addresses(value, expose, problems));
    let hosts = routes::written_hosts(&section, problems).unwrap_or(Some(Vec::new()));
    let near = listen.as_ref().and_then(|listen| listen.required.first()).map(SocketAddr::port);
    let forward = section.get("to").and_then(|to| forward(to, near, &section, services, problems));
    let (name, origin, written) = (entry.name.clone(), entry.span.clone(), entry.value.fingerprint());
    let route = TcpRoute { name, origin, written, listen: listen?, hosts: hosts?, forward: forward? };
    named.then_some(route)
}

/// The addresses of `listen`. A port that the system picks would be another one each time.
fn addresses(value: &Value, expose: bool, problems: &mut Problems) -> Option<Listen> {
    let listen = listen::addresses(value, expose, problems)?;
    if listen.required.iter().any(|address| address.port() == 0) {
        let problem = Diagnostic::error("bad-listen", "a TCP route needs a port that stays the same")
            .at(value.span.clone(), "0 would be another port each time")
            .help("write the port that its clients are to use, such as 5432");
        problems.push(problem);
        return None;
    }
    Some(listen)
}

fn forward(
    to: &Value,
    near: Option<u16>,
    section: &Section<'_>,
    services: &Services<'_>,
    problems: &mut Problems,
) -> Option<Forward> {
    let has_no_scheme = tell_schemes(to, problems);
    let targets = targets::targets(to, services, problems);
    let balance = section.get("balance").map(|value| actions::balance(value, problems));
    let connect_timeout = section.get("connect_timeout").map(|value| problems.duration(value, "connect_timeout"));
    let hold = section.get("hold").map(|value| actions::hold(value, problems));
    let plain = actions::plain_forward(targets?);
    let forward = Forward {
        balance: balance.unwrap_or(Some(Balance::default()))?,
        connect_timeout: connect_timeout.unwrap_or(Some(plain.connect_timeout))?,
        hold: hold.unwrap_or(Some(plain.hold))?,
        near,
        ..plain
    };
    has_no_scheme.then_some(forward)
}

/// Tells each target that says which protocol is spoken: bytes go there as they come, whatever they mean.
fn tell_schemes(to: &Value, problems: &mut Problems) -> bool {
    match &to.kind {
        // A list is judged whole: each of its problems is told.
        Kind::Array(items) => items.iter().filter(|item| !tell_schemes(item, problems)).count() == 0,
        Kind::Table(table) => table.get("to").is_none_or(|to| tell_schemes(to, problems)),
        Kind::String(text) => {
            let Some((scheme @ ("http" | "https" | "h2c"), rest)) = text.split_once("://") else { return true };
            let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
            let problem = Diagnostic::error("bad-target", format!("a TCP route does not speak {scheme}"))
                .at(to.span.clone(), "bytes go there as they come")
                .help("for requests of HTTP write the route into `[routes]`");
            // Without the scheme nothing tells the port that was meant.
            let has_port = authority.rsplit_once(':').is_some_and(|(_, port)| listen::port(port).is_some());
            problems.push(match has_port {
                true => problem.patch("the address alone", to.span.clone(), to.like_it(authority)),
                false => problem,
            });
            false
        }
        _ => true,
    }
}

/// Tells that two routes would take the same connections, or that one hides the other's address.
fn tell_conflict(before: &[TcpRoute], route: &TcpRoute, problems: &mut Problems) {
    for first in before {
        let at = |address: SocketAddr| first.addresses().find(|other| overlap(address, *other));
        let Some((address, other)) = route.addresses().find_map(|address| Some((address, at(address)?))) else {
            continue;
        };
        let names = format!("TCP routes `{}` and `{}`", first.name, route.name);
        let problem = if address != other {
            Diagnostic::error("conflict", format!("{names} listen on {other} and {address}, which is one port"))
                .help("write the same `listen` for both, or another port for one")
        } else if let Some(host) = shared(&first.hosts, &route.hosts) {
            Diagnostic::error("conflict", format!("{names} take the same connections at {address}{host}"))
                .help("give one of them another port, or tell them apart by `host`")
        } else {
            continue;
        };
        problems
            .push(problem.at(route.origin.clone(), address.to_string()).related(first.origin.clone(), "first here"));
        return;
    }
}

/// The name for which both ask, in words.
fn shared(one: &[HostMatch], other: &[HostMatch]) -> Option<String> {
    if one.is_empty() && other.is_empty() {
        return Some(String::new());
    }
    one.iter().find(|host| other.contains(host)).map(|host| format!(" for {host}"))
}

/// Tells each route that listens where the proxy does, or leads to one of our own listeners.
pub(super) fn tell_own_addresses(routes: &[TcpRoute], listen: &Listen, problems: &mut Problems) {
    let proxy: Vec<SocketAddr> = listen.required.iter().chain(&listen.optional).copied().collect();
    let own: Vec<SocketAddr> = proxy.iter().copied().chain(routes.iter().flat_map(TcpRoute::addresses)).collect();
    for route in routes {
        let taken = route.addresses().find(|address| proxy.iter().any(|own| overlap(*own, *address)));
        if let Some(address) = taken {
            let message = format!("TCP route `{}` listens where the proxy itself listens", route.name);
            problems.push(Diagnostic::error("conflict", message).at(route.origin.clone(), address.to_string()));
        }
        for target in route.forward.targets.iter().filter(|target| is_own(&target.address, &own)) {
            let message = format!("TCP route `{}` leads to portolan itself ({})", route.name, target.address);
            let problem = Diagnostic::error("own-address", message)
                .at(target.origin.clone(), "portolan listens there")
                .help("write the port that the program behind this route listens on");
            problems.push(problem);
        }
    }
}

/// Tells each service whose port is that of a route: only one of the two could have it.
pub(super) fn tell_own_ports(routes: &[TcpRoute], services: &[Service], problems: &mut Problems) {
    for route in routes {
        let own: Vec<SocketAddr> = route.addresses().collect();
        let taken = |service: &&Service| service.port.is_some_and(|port| is_own(&Address::Loopback(port), &own));
        for service in services.iter().filter(taken) {
            let message = format!("service `{}` has the port of TCP route `{}`", service.name, route.name);
            let problem = Diagnostic::error("own-address", message)
                .at(service.origin.clone(), "portolan listens there")
                .related(route.origin.clone(), "listens here")
                .help("leave `port` out, or give one of the two another port");
            problems.push(problem);
        }
    }
}
