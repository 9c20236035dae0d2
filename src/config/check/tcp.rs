//! `[tcp]`: checked in full, then refused, as this version opens no raw port.

use std::{collections::HashMap, net::SocketAddr};

use super::{Problems, listen, section::Section, services::Services, targets};
use crate::{
    config::{
        Listen,
        document::{Entry, Table},
        keys,
    },
    diagnostic::Diagnostic,
};

/// Checks `[tcp]`.
pub(super) fn check(root: &Table, services: &Services<'_>, own: Option<&Listen>, problems: &mut Problems) {
    let Some(table) = root.get("tcp").and_then(|value| problems.table(value, "tcp")) else { return };
    let mut taken: HashMap<SocketAddr, &Entry> = HashMap::new();
    for entry in &table.entries {
        let Some(fields) = problems.table(&entry.value, &entry.name) else { continue };
        let owner = format!("TCP route `{}`", entry.name);
        let section = Section::open(fields, &owner, &entry.span, &keys::TCP, problems);
        if let Some(to) = section.get("to") {
            targets::target(to, services, problems);
        }
        let listen = section.get("listen").and_then(|value| listen::addresses(value, false, problems));
        for address in listen.into_iter().flat_map(|listen| listen.required) {
            if own.is_some_and(|own| own.required.contains(&address)) {
                let message = format!("TCP route `{}` listens where the proxy itself listens", entry.name);
                problems.push(Diagnostic::error("conflict", message).at(entry.span.clone(), address.to_string()));
            }
            if let Some(first) = taken.insert(address, entry) {
                let message = format!("TCP routes `{}` and `{}` listen on the same address", first.name, entry.name);
                let problem = Diagnostic::error("conflict", message).at(entry.span.clone(), address.to_string());
                problems.push(problem.related(first.span.clone(), "first here"));
            }
        }
    }
}
