//! `[services]`: checked in full, then refused, as this version starts no program.

use std::collections::{HashMap, HashSet};

use super::{
    Problems,
    section::{Section, nearest},
    values::is_token,
};
use crate::{
    config::{
        document::{Entry, Kind, Table, Value},
        keys,
    },
    diagnostic::{Diagnostic, Span},
};

/// The services that the file names.
#[derive(Default)]
pub(super) struct Services<'d> {
    named: HashMap<&'d str, Service<'d>>,
}

struct Service<'d> {
    at: &'d Span,
    port: Option<i64>,
    needs: Vec<(&'d str, &'d Value)>,
}

/// Checks `[services]`.
pub(super) fn check<'d>(root: &'d Table, problems: &mut Problems) -> Services<'d> {
    let mut services = Services::default();
    let Some(table) = root.get("services").and_then(|value| problems.table(value, "services")) else {
        return services;
    };
    for entry in &table.entries {
        services.named.insert(&entry.name, service(entry, problems));
    }
    services.tell_needs(table, problems);
    services.tell_ports(table, problems);
    services
}

fn service<'d>(entry: &'d Entry, problems: &mut Problems) -> Service<'d> {
    let mut service = Service { at: &entry.span, port: None, needs: Vec::new() };
    if !is_token(&entry.name) {
        let problem = Diagnostic::error("bad-name", format!("`{}` cannot be the name of a service", entry.name));
        problems.push(problem.at(entry.span.clone(), "letters, digits, - and _"));
    }
    let Kind::Table(table) = &entry.value.kind else {
        command(&entry.value, problems);
        return service;
    };
    let owner = format!("service `{}`", entry.name);
    let section = Section::open(table, &owner, &entry.span, &keys::SERVICE, problems);
    if let Some(run) = section.get("run") {
        command(run, problems);
    }
    if let Some(dir) = section.get("dir") {
        problems.file(dir, "dir");
    }
    if let Some(env) = section.get("env").and_then(|env| problems.table(env, "env")) {
        environment(env, problems);
    }
    if let Some(needs) = section.get("needs") {
        service.needs = problems.strings(needs, "needs").unwrap_or_default();
    }
    if let Some(ready) = section.get("ready") {
        problems.path(ready, "ready");
    }
    service.port = section.get("port").and_then(|port| problems.integer(port, "port", 1, 65_535));
    service
}

fn command(value: &Value, problems: &mut Problems) {
    match &value.kind {
        Kind::Array(_) => {
            if let Some([(program, at), ..]) = problems.some_strings(value, "run").as_deref()
                && program.is_empty()
            {
                problems.bad("bad-value", at, "the program to run has no name".into(), "nothing is written here");
            }
        }
        Kind::String(_) => {
            problems.filled(value, "run");
        }
        _ => problems.wrong_type(value, "run", "a command: a string, or a list of strings"),
    }
}

fn environment(env: &Table, problems: &mut Problems) {
    for entry in &env.entries {
        if entry.name.is_empty() || entry.name.contains(['=', '\0']) {
            let problem = Diagnostic::error("bad-value", "no variable can have this name");
            problems.push(problem.at(entry.span.clone(), "without = and NUL"));
        }
        problems.string(&entry.value, &entry.name);
    }
}

impl<'d> Services<'d> {
    /// What to say of a target that is one bare word.
    pub(super) fn problem_of(&self, value: &Value, word: &str) -> Diagnostic {
        if let Some(service) = self.named.get(word) {
            let problem =
                Diagnostic::error("not-yet", format!("`{word}` is a service, and portolan cannot start services yet"))
                    .at(value.span.clone(), "not yet")
                    .related(service.at.clone(), "defined here");
            return match service.port {
                Some(port) => {
                    problem.patch("start it yourself and write its port", value.span.clone(), port.to_string())
                }
                None => problem.help("start it yourself and write its port, as in `to = 8000`"),
            };
        }
        let problem = Diagnostic::error("unknown-target", format!("`{word}` is neither a service nor an address"))
            .at(value.span.clone(), "no such service");
        match nearest(word, self.named.keys().map(|name| (*name, *name))) {
            Some(name) => {
                let place = self.named.get(name).map(|service| service.at.location()).unwrap_or_default();
                let place = place.rsplit_once(':').map_or(place.as_str(), |(line, _)| line).to_owned();
                problem.help(format!("a service `{name}` is defined at {place}; write \"{name}\""))
            }
            None => problem.help("write the port of the program, such as 8000"),
        }
    }

    fn tell_needs(&self, table: &'d Table, problems: &mut Problems) {
        let mut done = HashSet::new();
        for entry in &table.entries {
            let Some(service) = self.named.get(entry.name.as_str()) else { continue };
            for (need, at) in &service.needs {
                if !self.named.contains_key(need) {
                    problems.push(
                        Diagnostic::error("unknown-service", format!("service `{}` needs `{need}`", entry.name))
                            .at(at.span.clone(), "no such service"),
                    );
                }
            }
            self.tell_cycle(&entry.name, &mut done, problems);
        }
    }

    /// Walks `needs` from `start`, depth first and without recursion, as a file may chain thousands.
    fn tell_cycle(&self, start: &'d str, done: &mut HashSet<&'d str>, problems: &mut Problems) {
        let mut way: Vec<(&str, usize)> = vec![(start, 0)];
        let mut on_way = HashSet::from([start]);
        while let Some((name, next)) = way.last_mut() {
            let need = self.named.get(name).and_then(|service| service.needs.get(*next));
            *next += 1;
            let Some((need, at)) = need else {
                done.insert(name);
                on_way.remove(name);
                way.pop();
                continue;
            };
            if done.contains(need) {
                continue;
            }
            if on_way.contains(need) {
                let from = way.iter().position(|(name, _)| name == need).unwrap_or_default();
                let ring: Vec<_> = way[from..].iter().map(|(name, _)| format!("`{name}`")).collect();
                problems.push(
                    Diagnostic::error("needs-cycle", format!("{} wait for each other", ring.join(", ")))
                        .at(at.span.clone(), format!("leads back to `{need}`"))
                        .help("none of them could ever be started; take one `needs` out"),
                );
                continue;
            }
            on_way.insert(need);
            way.push((need, 0));
        }
    }

    fn tell_ports(&self, table: &'d Table, problems: &mut Problems) {
        let mut owners: HashMap<i64, &Entry> = HashMap::new();
        for entry in &table.entries {
            let Some(port) = self.named.get(entry.name.as_str()).and_then(|service| service.port) else { continue };
            if let Some(first) = owners.insert(port, entry) {
                problems.push(
                    Diagnostic::error(
                        "conflict",
                        format!("services `{}` and `{}` have the same port", first.name, entry.name),
                    )
                    .at(entry.span.clone(), format!("{port} here too"))
                    .related(first.span.clone(), "first here"),
                );
            }
        }
    }
}
