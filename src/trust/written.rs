//! The certificates that a table names, read and checked: a file that is of no use is a problem of the table.

use std::path::Path;

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
    if let Some(Err(problems)) = loaded.config.as_ref().map(wanted) {
        loaded.config = None;
        loaded.diagnostics.extend(problems);
    }
    loaded
}

/// What a table says of certificates, or what is wrong with the files that it names.
///
/// The files are read anew each time: they may have been renewed since.
pub fn wanted(config: &Config) -> Result<Wanted, Vec<Diagnostic>> {
    let (own, problems): (Vec<_>, Vec<_>) = read(config).into_iter().partition(Result::is_ok);
    let problems: Vec<Diagnostic> = problems.into_iter().filter_map(Result::err).collect();
    if !problems.is_empty() {
        return Err(problems);
    }
    let Listen { required, optional, .. } = &config.listen;
    let addresses = required.iter().chain(optional).map(std::net::SocketAddr::ip).collect();
    Ok(Wanted { hosts: hosts(config), addresses, own: own.into_iter().filter_map(Result::ok).collect() })
}

fn read(config: &Config) -> Vec<Result<Own, Diagnostic>> {
    let with_own = config.routes.iter().filter_map(|route| Some((route, route.certificate.as_ref()?)));
    with_own
        .map(|(route, files)| {
            let hosts = route.matches.hosts.iter().filter_map(name).collect();
            let own = Own::read(hosts, &files.chain.value, &files.key.value);
            own.map_err(|error| problem(&error, files))
        })
        .collect()
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
