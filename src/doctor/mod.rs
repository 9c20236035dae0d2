//! What is wrong with this machine, and the command that mends it.
//!
//! [`Facts::gather`] looks and changes nothing; [`examine`] judges what was seen and is pure. Each check has a file of
//! its own with its facts, the look and the judgement. A check never asks a program of the user's by connecting to it:
//! where a connection tells more than reading, it is one to a socket of our own, or to one of a known engine.
//!
//! A warning works, but not for everybody; a problem keeps the table from doing what it says.

mod certificates;
mod engines;
mod ephemeral;
mod keepers;
mod limits;
mod loopback;
mod names;
mod ports;
mod privileges;
mod runtime;
mod services;
mod targets;
mod tcp;

use std::path::PathBuf;

use serde::Serialize;

use crate::{
    config::{Config, Listen},
    discover::container::{Containers, Engine},
};

/// How a check came out, the best first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// It works, but not always or not for every program.
    Warning,
    /// Something that the table asks for cannot work.
    Problem,
}

/// What one check has found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Which check, by a stable word such as `names`; several findings may come of one.
    pub check: &'static str,
    /// How bad it is.
    pub verdict: Verdict,
    /// A lowercase fragment without a full stop.
    pub message: String,
    /// Causes found by looking.
    pub notes: Vec<String>,
    /// The command or the edit that mends it.
    pub help: Option<String>,
}

impl Finding {
    fn new(check: &'static str, verdict: Verdict, message: impl Into<String>) -> Self {
        Self { check, verdict, message: message.into(), notes: Vec::new(), help: None }
    }

    fn ok(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, message)
    }

    fn warning(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, message)
    }

    fn problem(check: &'static str, message: impl Into<String>) -> Self {
        Self::new(check, Verdict::Problem, message)
    }

    /// What could not be looked at is no fault of anybody, but must not pass for good.
    fn unknown(check: &'static str, what: &str, why: &str) -> Self {
        Self::warning(check, format!("{what} cannot be told: {why}"))
    }

    fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    fn notes(mut self, notes: impl IntoIterator<Item = String>) -> Self {
        self.notes.extend(notes);
        self
    }

    fn help(mut self, help: impl Into<String>) -> Self {
        self.help = Some(help.into());
        self
    }
}

/// Something about this machine, as far as it could be seen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fact<T> {
    /// It is so.
    Known(T),
    /// Looking failed: the words of the system.
    Unknown(String),
    /// Systems like this one have no such thing.
    Absent,
}

/// What the table says, for whoever can do without one.
#[derive(Debug)]
pub enum Table {
    /// There is none.
    Absent,
    /// It has so many errors.
    Refused(usize),
    /// It is good.
    Good(Box<Config>),
}

impl Table {
    /// Its routes and services.
    pub fn config(&self) -> Option<&Config> {
        match self {
            Self::Good(config) => Some(config),
            Self::Absent | Self::Refused(_) => None,
        }
    }
}

/// All that was seen.
#[derive(Debug)]
pub struct Facts {
    table: Table,
    listen: Listen,
    names: names::Names,
    ports: ports::Ports,
    privileges: privileges::Privileges,
    ephemeral: ephemeral::Ephemeral,
    loopback: loopback::Loopback,
    limits: limits::Limits,
    engines: Vec<Engine>,
    runtime: runtime::Runtime,
    orphans: Vec<keepers::Orphan>,
    certificates: certificates::Certificates,
}

impl Facts {
    /// Looks at everything, for up to about three seconds; `listen` is where the proxy would listen, `runtime` the folder
    /// of its sockets, or why there is none, `containers` what the engines say.
    pub fn gather(table: Table, mut listen: Listen, runtime: Result<PathBuf, String>, containers: Containers) -> Self {
        let door = loopback::Door::open();
        let loopback = loopback::look(&door);
        // Nobody can listen there, and nobody misses it.
        listen.optional.retain(|address| address.is_ipv4() || loopback.has_v6());
        Self {
            names: names::look(names::asked_for(table.config()), door.port()),
            ports: ports::look(&listen, &containers),
            privileges: privileges::look(),
            ephemeral: ephemeral::look(),
            loopback,
            limits: limits::look(),
            engines: containers.engines,
            runtime: runtime::look(runtime),
            orphans: keepers::look(),
            certificates: certificates::look(table.config()),
            table,
            listen,
        }
    }
}

/// Judges what was seen, check by check, in an order that stays.
pub fn examine(facts: &Facts) -> Vec<Finding> {
    let config = facts.table.config();
    [
        vec![examine_table(&facts.table)],
        names::examine(&facts.names),
        ports::examine(&facts.listen, &facts.ports),
        privileges::examine(&facts.listen, config, &facts.privileges),
        ephemeral::examine(&facts.listen, config, &facts.ephemeral),
        config.map_or_else(Vec::new, |config| targets::examine(config, &facts.ports)),
        config.map_or_else(Vec::new, |config| services::examine(config, &facts.ports)),
        config.map_or_else(Vec::new, |config| tcp::examine(config, &facts.ports)),
        loopback::examine(&facts.loopback),
        limits::examine(&facts.limits),
        engines::examine(config, &facts.engines),
        runtime::examine(&facts.runtime),
        keepers::examine(&facts.orphans),
        certificates::examine(&facts.certificates, std::time::SystemTime::now()),
    ]
    .concat()
}

fn examine_table(table: &Table) -> Finding {
    match table {
        Table::Absent => Finding::ok("table", "there is no portolan.toml in this folder or above it"),
        Table::Refused(errors) => {
            let message = format!("the table has {}, so its ports are not looked at", counted(*errors, "error"));
            Finding::problem("table", message).help("see what is wrong with `portolan check`")
        }
        Table::Good(config) => Finding::ok(
            "table",
            format!("the table is good: {}", counted(config.routes.len() + config.tcp.len(), "route")),
        ),
    }
}

fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}

/// `a, b and c`, each once.
fn listed<T: ToString>(words: impl IntoIterator<Item = T>) -> String {
    let mut all: Vec<String> = Vec::new();
    for word in words.into_iter().map(|word| word.to_string()) {
        if !all.contains(&word) {
            all.push(word);
        }
    }
    match all.as_slice() {
        [] => String::new(),
        [one] => one.clone(),
        [most @ .., last] => format!("{} and {last}", most.join(", ")),
    }
}

/// The first word of a number in a file of the system, such as `/proc/sys`; `Absent` where there is no such file.
fn number<T: std::str::FromStr>(path: &str) -> Fact<T> {
    let first = |text: &str| text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    text(path)
        .and_then(|text| first(&text).map_or_else(|| Fact::Unknown(format!("{path} holds no number")), Fact::Known))
}

/// What a file of the system says.
fn text(path: &str) -> Fact<String> {
    match std::fs::read_to_string(path) {
        Ok(text) => Fact::Known(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Fact::Absent,
        Err(error) => Fact::Unknown(format!("{path}: {}", crate::diagnostic::without_number(&error))),
    }
}

impl<T> Fact<T> {
    fn known_or(value: Option<T>, why: impl Into<String>) -> Self {
        value.map_or_else(|| Self::Unknown(why.into()), Self::Known)
    }

    fn and_then<U>(self, then: impl FnOnce(T) -> Fact<U>) -> Fact<U> {
        match self {
            Self::Known(value) => then(value),
            Self::Unknown(why) => Fact::Unknown(why),
            Self::Absent => Fact::Absent,
        }
    }
}

/// A table for tests of judgements.
#[cfg(test)]
fn table(text: &str) -> Config {
    crate::config::load::from_str("portolan.toml", text, None).config.unwrap()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_that_is_refused_is_a_problem_with_the_way_to_its_errors() {
        let told = examine_table(&Table::Refused(2));
        assert_eq!(told.verdict, Verdict::Problem);
        assert_eq!(told.message, "the table has 2 errors, so its ports are not looked at");
        assert_eq!(told.help.as_deref(), Some("see what is wrong with `portolan check`"));
    }

    #[test]
    fn no_table_is_no_fault() {
        assert_eq!(examine_table(&Table::Absent).verdict, Verdict::Ok);
        let one = table("[routes]\nweb = 5173\n");
        assert_eq!(examine_table(&Table::Good(one.into())).message, "the table is good: 1 route");
    }

    #[test]
    fn a_list_names_everything_once() {
        assert_eq!(listed(["curl"]), "curl");
        assert_eq!(listed(["curl", "node", "curl", "python3"]), "curl, node and python3");
    }

    #[test]
    fn a_file_that_is_not_there_is_no_failure() {
        assert_eq!(number::<u16>("/nonexistent/number"), Fact::Absent);
        assert!(matches!(number::<u16>("/"), Fact::Unknown(why) if why.starts_with("/: ")));
    }
}
