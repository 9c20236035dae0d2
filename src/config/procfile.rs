//! A Procfile read as a table: each of its lines is a service, and a route that leads to it.
//!
//! The lines become the entries that a `portolan.toml` would have, so the same checks speak about them. `web`, or the
//! first where there is none, is served at `/`; each other at `NAME.localhost`.

use std::{collections::HashMap, path::Path, sync::Arc};

use super::{
    Listen,
    document::{Document, Entry, Kind, Table, Value},
    load::{Loaded, read},
};
use crate::diagnostic::{Diagnostic, Source, Span};

/// The process that foreman's users expect at the front.
const FRONT: &str = "web";

/// Reads the Procfile at `path`; `typed` is where the proxy listens, or else the default.
pub fn procfile(path: &Path, typed: Option<&Listen>) -> Loaded {
    let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    match read(&path) {
        Ok(source) => Loaded::from_document(&document(source), typed),
        Err(problem) => Loaded { config: None, diagnostics: vec![*problem] },
    }
}

fn document(source: Arc<Source>) -> Document {
    let mut syntax = Vec::new();
    let processes = processes(&source, &mut syntax);
    let front = processes.iter().position(|process| process.name == FRONT).unwrap_or(0);
    let services = processes.iter().map(|process| process.entry(process.command.clone())).collect();
    let routes = processes.iter().enumerate().map(|(at, process)| route(process, at == front)).collect();
    let start = Span { source: Arc::clone(&source), range: 0..0 };
    let section = |name: &str, entries| Entry {
        name: name.into(),
        span: start.clone(),
        value: Value { span: start.clone(), kind: Kind::Table(Table { entries }) },
    };
    let root = Table { entries: vec![section("services", services), section("routes", routes)] };
    Document { sources: vec![source], root, syntax }
}

/// `NAME: command`.
struct Process {
    name: String,
    /// Where the name stands.
    at: Span,
    command: Value,
}

impl Process {
    /// Whatever is said of it, by its name and at its place.
    fn entry(&self, value: Value) -> Entry {
        Entry { name: self.name.clone(), span: self.at.clone(), value }
    }
}

fn processes(source: &Arc<Source>, syntax: &mut Vec<Diagnostic>) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    let mut places: HashMap<String, Span> = HashMap::new();
    for line in lines(source) {
        match process(&line) {
            Ok(process) => match places.get(&process.name) {
                Some(first) => syntax.push(
                    Diagnostic::error("duplicate-key", format!("`{}` is set twice", process.name))
                        .at(process.at, "here again")
                        .related(first.clone(), "first set here"),
                ),
                None => {
                    places.insert(process.name.clone(), process.at.clone());
                    found.push(process);
                }
            },
            Err(problem) => syntax.push(*problem),
        }
    }
    found
}

/// The lines that say something, without the blanks around them.
fn lines(source: &Arc<Source>) -> impl Iterator<Item = Span> {
    let mut start = 0;
    source.text.split_inclusive('\n').filter_map(move |line| {
        let at = start + line.len() - line.trim_start().len();
        start += line.len();
        let text = line.trim();
        let says = !text.is_empty() && !text.starts_with('#');
        says.then(|| Span { source: Arc::clone(source), range: at..at + text.len() })
    })
}

/// As foreman reads it: `^([A-Za-z0-9_-]+):\s*(.+)$`.
fn process(line: &Span) -> Result<Process, Box<Diagnostic>> {
    let text = line.text();
    let part = |from: usize, to: usize| Span {
        source: Arc::clone(&line.source),
        range: line.range.start + from..line.range.start + to,
    };
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let Some((name, command)) =
        text.split_once(':').filter(|(name, _)| !name.is_empty() && name.chars().all(is_of_a_name))
    else {
        let problem = Diagnostic::error("syntax", "this is no process").at(line.clone(), "expected `NAME: command`");
        return Err(Box::new(problem.help("a name has letters, digits, - and _; a comment begins with #")));
    };
    let command = command.trim_start();
    if command.is_empty() {
        let problem = Diagnostic::error("syntax", format!("`{name}` has no command"));
        return Err(Box::new(problem.at(line.clone(), "nothing is written here")));
    }
    let at = part(0, name.len());
    let span = part(text.len() - command.len(), text.len());
    Ok(Process { name: name.to_owned(), at, command: Value { span, kind: Kind::String(command.to_owned()) } })
}

/// The route to a process: at `/` of every local host where it is the front, otherwise at a host of its own.
fn route(process: &Process, is_front: bool) -> Entry {
    // The host is written out, as a name may have a `_`, which no default host has.
    let (key, place) =
        if is_front { ("path", "/".to_owned()) } else { ("host", format!("{}.localhost", process.name)) };
    let pair = |name: &str, text: String| Entry {
        name: name.into(),
        span: process.at.clone(),
        value: Value { span: process.at.clone(), kind: Kind::String(text) },
    };
    let entries = vec![pair(key, place), pair("to", process.name.clone())];
    process.entry(Value { span: process.at.clone(), kind: Kind::Table(Table { entries }) })
}
