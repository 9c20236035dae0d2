//! What a running portolan says of itself: the facts of `portolan status`, looked up when it is asked.

use std::{net::SocketAddr, time::SystemTime};

use jiff::Timestamp;

use super::{
    containers::Engines, follow::fixed_port, identity::Identities, proxy::Proxy, runs::Runs, services::Services,
};
use crate::{
    config::Address,
    control::api::{Owner, RouteStatus, ServiceStatus, Status, TableStatus, TcpStatus},
    discover::{
        Socket, attach,
        follow::{Scene, holder},
    },
    live::{Action, Forward, Route, Snapshot, TcpRoute},
    process::{self, Processes},
    supervise::State,
    upstream::{
        Endpoint,
        place::{Absent, Standing},
    },
};

/// Whom to ask.
pub(super) struct Facts<'a> {
    pub(super) proxy: &'a Proxy,
    pub(super) table: Option<&'a TableStatus>,
    pub(super) services: &'a Services,
    pub(super) runs: &'a Runs,
    pub(super) engines: &'a Engines,
    pub(super) identities: &'a Identities,
    pub(super) sockets: &'a [Socket],
    pub(super) since: SystemTime,
}

/// Everything.
pub(super) fn status(facts: &Facts<'_>) -> Status {
    let processes = Processes::now();
    let scene = Scene { sockets: facts.sockets, processes: &processes };
    let snapshot = facts.proxy.table();
    let port = facts.proxy.addresses().first().map_or(0, SocketAddr::port);
    Status {
        version: env!("CARGO_PKG_VERSION").into(),
        pid: std::process::id(),
        since: rfc3339(facts.since),
        listen: facts.proxy.addresses().to_vec(),
        table: facts.table.cloned(),
        routes: snapshot.routes().iter().map(|route| route_status(route, port, facts, scene)).collect(),
        tcp: snapshot.tcp().iter().map(|route| tcp_status(route, facts, scene)).collect(),
        services: services(facts, &snapshot, port, scene),
        runs: facts.runs.told(port),
    }
}

/// `2026-11-23T12:04:31Z`
fn rfc3339(time: SystemTime) -> String {
    Timestamp::try_from(time).map(|time| time.to_string()).unwrap_or_default()
}

fn route_status(route: &Route, port: u16, facts: &Facts<'_>, scene: Scene<'_>) -> RouteStatus {
    let mut status = RouteStatus {
        name: route.name.to_string(),
        pattern: route.words.pattern.clone(),
        url: route.words.url(port),
        target: route.words.target.clone(),
        origin: route.origin.location(),
        state: "here".into(),
        addresses: Vec::new(),
        owner: None,
        notes: Vec::new(),
    };
    if let Action::Forward(forward) = &route.action {
        look_behind(forward, &mut status, facts, scene);
    }
    status
}

fn tcp_status(route: &TcpRoute, facts: &Facts<'_>, scene: Scene<'_>) -> TcpStatus {
    let (pattern, target) = route.words.clone();
    let mut status = RouteStatus {
        name: route.name.to_string(),
        pattern,
        url: String::new(),
        target,
        origin: route.origin.location(),
        state: String::new(),
        addresses: Vec::new(),
        owner: None,
        notes: Vec::new(),
    };
    look_behind(&route.forward, &mut status, facts, scene);
    let addresses = || route.forward.upstream.endpoints().map(|endpoint| endpoint.address());
    let program = status.owner.as_ref().map(|owner| owner.program.as_str());
    status.url = attach::line(&route.listen, &route.hosts, addresses(), program);
    let (open, ever) = route.traffic.counts();
    TcpStatus { route: status, listen: route.listen.clone(), open, ever }
}

/// Tells who is there behind a route.
fn look_behind(forward: &Forward, status: &mut RouteStatus, facts: &Facts<'_>, scene: Scene<'_>) {
    status.state = "elsewhere".into();
    for (at, endpoint) in forward.upstream.endpoints().enumerate() {
        let state = endpoint_state(endpoint, status, facts, scene);
        // One that is up is enough.
        if at == 0 || state == "up" {
            status.state = state.into();
        }
    }
    let first = status.addresses.first().copied();
    status.owner = first.and_then(|address| owner(address, facts, scene));
}

fn endpoint_state(endpoint: &Endpoint, status: &mut RouteStatus, facts: &Facts<'_>, scene: Scene<'_>) -> &'static str {
    if let Some(change) = fixed_port(endpoint).and_then(|port| facts.identities.change_of(port)) {
        status.notes.push(change.to_owned());
    }
    if !endpoint.is_healthy() {
        status.notes.push("its health check fails".into());
        return "down";
    }
    match (endpoint.address(), endpoint.place().map(crate::upstream::place::Place::standing)) {
        (_, Some(Standing::At(spot))) => {
            status.addresses.extend(spot.addresses.iter());
            "up"
        }
        (_, Some(Standing::Absent(absence))) => {
            status.notes.push(absence.message.clone());
            if absence.kind == Absent::Starting && matches!(endpoint.address(), Address::Followed(_)) {
                "starting"
            } else {
                "down"
            }
        }
        (Address::Unix(path), None) => {
            if path.exists() {
                "up"
            } else {
                "down"
            }
        }
        (_, None) => {
            let Some(port) = fixed_port(endpoint) else { return "elsewhere" };
            let listening = scene.sockets.iter().filter(|socket| socket.address.port() == port);
            let before = status.addresses.len();
            status.addresses.extend(listening.map(|socket| socket.address));
            if status.addresses.len() > before { "up" } else { "down" }
        }
    }
}

fn owner(address: SocketAddr, facts: &Facts<'_>, scene: Scene<'_>) -> Option<Owner> {
    if let Some(container) = facts.engines.owner_of(address) {
        return Some(container);
    }
    let at = |socket: &&Socket| {
        let ip = socket.address.ip();
        socket.address.port() == address.port() && (ip == address.ip() || ip.is_unspecified())
    };
    let socket = scene.sockets.iter().find(at)?;
    let pid = holder(socket.address, scene)?;
    Some(Owner { pid, program: process::program(pid).unwrap_or_default(), folder: process::folder(pid) })
}

fn services(facts: &Facts<'_>, snapshot: &Snapshot, port: u16, scene: Scene<'_>) -> Vec<ServiceStatus> {
    let urls = |name: &str| {
        let target = format!("service {name}");
        let leads = |route: &&Route| route.words.target.split(", ").any(|one| one == target);
        snapshot.routes().iter().filter(leads).map(|route| route.words.url(port)).collect::<Vec<_>>()
    };
    let told = facts.services.told().into_iter();
    told.map(|(service, status, given, found)| ServiceStatus {
        name: service.name.clone(),
        state: status.state.word().into(),
        since: rfc3339(status.since),
        pid: status.keeper.and_then(|keeper| scene.processes.children(keeper).first().copied()),
        port: found.and_then(|found| found.addresses.first()).map_or(given, SocketAddr::port),
        addresses: found.map(|found| found.addresses.clone()).unwrap_or_default(),
        restarts: status.restarts,
        exit: status.exit.as_ref().map(ToString::to_string),
        next: match &status.state {
            State::Backoff(then) => Some(rfc3339(*then)),
            _ => None,
        },
        waits_for: match &status.state {
            State::Waiting(names) => names.clone(),
            _ => Vec::new(),
        },
        urls: urls(&service.name),
    })
    .collect()
}
