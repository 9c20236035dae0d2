//! What only shows when all routes are seen together: routes that hide each other, and our own addresses.

use std::{
    collections::HashMap,
    net::{IpAddr, SocketAddr},
};

use super::Problems;
use crate::{
    config::{Action, Address, Certificate, FieldMatch, HostMatch, Listen, PathMatch, Route, Service},
    diagnostic::Diagnostic,
    head::is_local_name,
};

/// Everything of a route that ranks before its methods and the order of the file, for one of its hosts.
#[derive(PartialEq, Eq, Hash)]
struct Place<'r> {
    host: &'r HostMatch,
    path: &'r PathMatch,
    headers: Vec<&'r FieldMatch>,
    query: Vec<&'r FieldMatch>,
}

impl<'r> Place<'r> {
    fn of(route: &'r Route, host: &'r HostMatch) -> Self {
        let sorted = |fields: &'r [FieldMatch]| {
            let mut sorted: Vec<_> = fields.iter().collect();
            sorted.sort_by(|a, b| a.name.cmp(&b.name));
            sorted
        };
        let matches = &route.matches;
        Self { host, path: &matches.path, headers: sorted(&matches.headers), query: sorted(&matches.query) }
    }
}

/// The routes that stand at one [`Place`].
#[derive(Default)]
struct Neighbours<'r> {
    every_method: Option<&'r Route>,
    by_method: HashMap<&'r str, Vec<&'r Route>>,
}

impl<'r> Neighbours<'r> {
    /// An earlier route that takes every request which `route` would take here.
    fn hides(&self, route: &Route) -> Option<&'r Route> {
        let wanted = &route.matches.methods;
        if wanted.is_empty() {
            return self.every_method;
        }
        // A route with methods ranks before one without, so only those with methods can hide it. Looking at the
        // rarest method keeps this short even where thousands of routes share a path.
        let taken = |method: &String| self.by_method.get(method.as_str()).map_or(&[][..], Vec::as_slice);
        let fewest = wanted.iter().map(taken).min_by_key(|routes| routes.len())?;
        fewest.iter().copied().find(|other| wanted.iter().all(|method| other.matches.methods.contains(method)))
    }

    fn add(&mut self, route: &'r Route) {
        if route.matches.methods.is_empty() {
            self.every_method.get_or_insert(route);
        }
        for method in &route.matches.methods {
            self.by_method.entry(method).or_default().push(route);
        }
    }
}

/// Tells each route that can never be reached at one of its hosts, once.
pub(super) fn tell_duplicates(routes: &[Route], problems: &mut Problems) {
    let mut places: HashMap<Place<'_>, Neighbours<'_>> = HashMap::with_capacity(routes.len());
    for route in routes {
        let hidden = route.matches.hosts.iter().find_map(|host| {
            let neighbours = places.entry(Place::of(route, host)).or_default();
            Some((neighbours.hides(route)?, host))
        });
        match hidden {
            Some((first, host)) => problems.push(duplicate(first, route, host)),
            None => {
                for host in &route.matches.hosts {
                    places.entry(Place::of(route, host)).or_default().add(route);
                }
            }
        }
    }
}

fn duplicate(first: &Route, second: &Route, host: &HostMatch) -> Diagnostic {
    let at = match host {
        HostMatch::Exact(name) => format!(" at {name}"),
        HostMatch::Wildcard(suffix) => format!(" at *.{suffix}"),
        HostMatch::AnyLocal => String::new(),
    };
    let message = format!("routes `{}` and `{}` match the same requests{at}", first.name, second.name);
    Diagnostic::error("duplicate-route", message)
        .at(second.origin.clone(), "would never be reached")
        .related(first.origin.clone(), "takes them first")
        .help("take one of them out, or tell them apart by `host`, `path`, `methods`, `headers` or `query`")
}

/// Tells each host for which two certificates are to be shown: a client names the host before it asks for a path.
pub(super) fn tell_certificates(routes: &[Route], problems: &mut Problems) {
    let mut shown: HashMap<&HostMatch, (&Route, &Certificate)> = HashMap::new();
    for route in routes {
        let Some(own) = &route.certificate else { continue };
        let other = route.matches.hosts.iter().find_map(|host| {
            let (first, other) = *shown.entry(host).or_insert((route, own));
            let differs = other.chain.value != own.chain.value || other.key.value != own.key.value;
            differs.then_some((first, other))
        });
        if let Some((first, other)) = other {
            let message =
                format!("routes `{}` and `{}` show different certificates for one host", first.name, route.name);
            let problem = Diagnostic::error("conflict", message)
                .at(own.chain.origin.clone(), "another one")
                .related(other.chain.origin.clone(), "this one is shown")
                .help("write the same `cert` and `key` in both, or leave them out in one: it counts for all routes of the host");
            problems.push(problem);
        }
    }
}

/// Tells each target that is one of our own addresses: its requests would go round for ever.
pub(super) fn tell_own_addresses(routes: &[Route], listen: &Listen, problems: &mut Problems) {
    let own: Vec<SocketAddr> = listen.required.iter().chain(&listen.optional).copied().collect();
    for route in routes {
        let Action::Forward(forward) = &route.action else { continue };
        for target in forward.targets.iter().filter(|target| is_own(&target.address, &own)) {
            let message = format!("route `{}` leads to portolan itself ({})", route.name, target.address);
            let problem = Diagnostic::error("own-address", message)
                .at(target.origin.clone(), "portolan listens there")
                .help("write the port that the program behind this route listens on");
            problems.push(beside_listen(problem, listen));
        }
    }
}

/// Tells each service whose port is one of our own addresses: it could never have it.
pub(super) fn tell_own_ports(services: &[Service], listen: &Listen, problems: &mut Problems) {
    let own: Vec<SocketAddr> = listen.required.iter().chain(&listen.optional).copied().collect();
    for service in services {
        let Some(port) = service.port.filter(|port| is_own(&Address::Loopback(*port), &own)) else { continue };
        let message = format!("service `{}` has the port on which portolan itself listens ({port})", service.name);
        let problem = Diagnostic::error("own-address", message)
            .at(service.origin.clone(), "portolan listens there")
            .help("leave `port` out, or give one of the two another port");
        problems.push(beside_listen(problem, listen));
    }
}

fn beside_listen(problem: Diagnostic, listen: &Listen) -> Diagnostic {
    match &listen.origin {
        Some(origin) => problem.related(origin.clone(), "listens here"),
        None => problem,
    }
}

pub(super) fn is_own(address: &Address, own: &[SocketAddr]) -> bool {
    own.iter().filter(|own| own.port() != 0).any(|own| {
        let local = own.ip().is_unspecified() || own.ip().is_loopback();
        match address {
            Address::Loopback(port) => *port == own.port() && local,
            Address::Ip(target) => {
                target.port() == own.port() && (target.ip() == own.ip() || own_any(own.ip(), target.ip()))
            }
            Address::Name { host, port } => *port == own.port() && local && is_local_name(host),
            Address::Unix(_) | Address::Followed(_) => false,
        }
    })
}

/// Whether who listens on every address of a family listens on this one of the machine's.
fn own_any(listening: IpAddr, target: IpAddr) -> bool {
    listening.is_unspecified() && target.is_loopback()
}
