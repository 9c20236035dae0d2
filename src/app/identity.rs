//! Whose a fixed port is, and that it has become somebody else's: the oldest trap of a port that stands in a file.

use std::{collections::HashMap, path::PathBuf};

use super::follow::fixed_port;
use crate::{
    diagnostic::shown,
    discover::follow::{Scene, holder},
    live::{Action, Snapshot},
    process,
};

/// Who held which port when somebody last did.
#[derive(Debug, Default)]
pub(super) struct Identities {
    by_port: HashMap<u16, Held>,
}

#[derive(Debug)]
struct Held {
    socket: u64,
    /// Who held it first.
    first: Owner,
    owner: Owner,
    /// What was said when it changed hands.
    changed: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Owner {
    program: String,
    folder: Option<PathBuf>,
}

impl Identities {
    /// Looks who holds the ports of the table; a sentence for each that has changed hands since.
    pub(super) fn look(&mut self, snapshot: &Snapshot, scene: Scene<'_>) -> Vec<String> {
        let mut said = Vec::new();
        for (port, route) in fixed_ports(snapshot) {
            let Some(socket) = scene.sockets.iter().find(|socket| socket.address.port() == port) else { continue };
            let known = self.by_port.get(&port);
            if known.is_some_and(|held| held.socket == socket.inode) {
                continue;
            }
            let Some(pid) = holder(socket.address, scene) else { continue };
            let owner = Owner { program: process::program(pid).unwrap_or_default(), folder: process::folder(pid) };
            let changed = known.and_then(|before| before.told(port, &owner, pid));
            let is_news = known.is_some_and(|before| before.owner != owner);
            said.extend(changed.iter().filter(|_| is_news).map(|changed| format!("route {route}: {changed}")));
            let first = known.map_or_else(|| owner.clone(), |before| before.first.clone());
            self.by_port.insert(port, Held { socket: socket.inode, first, owner, changed });
        }
        said
    }

    /// What was said when this port changed hands.
    pub(super) fn change_of(&self, port: u16) -> Option<&str> {
        self.by_port.get(&port)?.changed.as_deref()
    }
}

impl Held {
    /// The sentence, if somebody else holds the port now than at first.
    fn told(&self, port: u16, now: &Owner, pid: u32) -> Option<String> {
        let (now_held, first) = (now.words(), self.first.words());
        (self.first != *now).then(|| format!("port {port} is held by {now_held} (pid {pid}) now, at first by {first}"))
    }
}

impl Owner {
    fn words(&self) -> String {
        let folder = self.folder.as_deref().map(|folder| format!(" in {}", shown(folder))).unwrap_or_default();
        format!("`{}`{folder}", self.program)
    }
}

/// The ports that stand in the table, each with the first route that leads there.
fn fixed_ports(snapshot: &Snapshot) -> Vec<(u16, &str)> {
    let mut ports: Vec<(u16, &str)> = Vec::new();
    for route in snapshot.routes() {
        let Action::Forward(forward) = &route.action else { continue };
        for port in forward.upstream.endpoints().filter_map(|endpoint| fixed_port(endpoint)) {
            if !ports.iter().any(|(known, _)| *known == port) {
                ports.push((port, &route.name));
            }
        }
    }
    ports
}
