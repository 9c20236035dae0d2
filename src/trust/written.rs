//! The certificates that a table names, read and checked: a file that is of no use is a problem of the table.

use std::{net::IpAddr, path::Path};

use super::hosts;
use crate::{
    config::{
        Certificate, Config, HostMatch, Listen,
        load::{self, Loaded},
    },
    diagnostic::{Diagnostic, shown},
    tls::{Own, OwnError, own::Which, server::Wanted},
};

/// Reads a table as [`load::load`] does, and the certificates that it names.
pub fn load(file: &Path, typed: Option<&Listen>) -> Loaded {
    let mut loaded = load::load(file, typed);
    if let Some(Err(problems)) = loaded.config.as_ref().map(|config| wanted(config, Vec::new())) {
        loaded.config = None;
        loaded.diagnostics.extend(problems);
    }
    loaded
}

/// What a table says of certificates, or what is wrong with the files that it names; `addresses` are ours.
///
/// The files are read anew each time: they may have been renewed since.
pub fn wanted(config: &Config, addresses: Vec<IpAddr>) -> Result<Wanted, Vec<Diagnostic>> {
    let (mut own, mut problems) = (Vec::new(), Vec::new());
    for route in &config.routes {
        let Some(files) = &route.certificate else { continue };
        let hosts = route.matches.hosts.iter().filter_map(name).collect();
        match Own::read(hosts, &files.chain.value, &files.key.value) {
            Ok(read) => own.push(read),
            Err(error) => problems.push(problem(&error, files)),
        }
    }
    if problems.is_empty() { Ok(Wanted { hosts: hosts(config), addresses, own }) } else { Err(problems) }
}

fn name(host: &HostMatch) -> Option<String> {
    match host {
        HostMatch::Exact(name) => Some(name.clone()),
        HostMatch::Wildcard(suffix) => Some(format!("*.{suffix}")),
        HostMatch::AnyLocal => None,
    }
}

fn problem(error: &OwnError, files: &Certificate) -> Diagnostic {
    let file = match error.which() {
        Which::Certificate => &files.chain,
        Which::Key => &files.key,
    };
    let problem = Diagnostic::error("bad-certificate", error.to_string())
        .at(file.origin.clone(), format!("read from {}", shown(&file.value)));
    match error {
        OwnError::Mismatch => problem.related(files.chain.origin.clone(), "the certificate is read from here"),
        OwnError::Expired(_) => problem.help("have it renewed, or leave `cert` and `key` out"),
        _ => problem,
    }
}
