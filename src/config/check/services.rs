//! `[services]`: each entry becomes a program to start, and its name one that targets may have.

use std::{collections::HashMap, path::PathBuf};

use super::{
    Problems, needs,
    section::{Section, nearest},
    targets,
    values::{beside, is_token},
};
use crate::{
    config::{
        Address, Command, Ready, Service, Sought, Start,
        document::{Entry, Kind, Table, Value, quoted},
        keys,
    },
    diagnostic::{Diagnostic, Span},
};

/// The services of the file.
#[derive(Default)]
pub(super) struct Services<'d> {
    /// All of them, also those with a problem: whoever names one of these is not wrong.
    named: HashMap<&'d str, &'d Span>,
    /// In the order of the file, without those that could not be read.
    pub(super) read: Vec<Service>,
}

/// An entry, and what the others must know of it even where it could not be read.
pub(super) struct Draft<'d> {
    pub(super) entry: &'d Entry,
    pub(super) needs: Vec<(&'d str, &'d Value)>,
    pub(super) port: Option<u16>,
    service: Option<Service>,
}

/// Checks `[services]`.
pub(super) fn check<'d>(root: &'d Table, problems: &mut Problems) -> Services<'d> {
    let Some(table) = root.get("services").and_then(|value| problems.table(value, "services")) else {
        return Services::default();
    };
    let drafts: Vec<Draft<'_>> = table.entries.iter().map(|entry| draft(entry, problems)).collect();
    needs::check(&drafts, problems);
    Services {
        named: table.entries.iter().map(|entry| (entry.name.as_str(), &entry.span)).collect(),
        read: drafts.into_iter().filter_map(|draft| draft.service).collect(),
    }
}

impl Services<'_> {
    /// Where a target leads that is one bare word.
    pub(super) fn address(&self, value: &Value, word: &str, problems: &mut Problems) -> Option<Address> {
        if self.named.contains_key(word) {
            return Some(Address::Followed(Sought::Service(word.to_owned())));
        }
        problems.push(self.unknown(value, word));
        None
    }

    fn unknown(&self, value: &Value, word: &str) -> Diagnostic {
        let problem = Diagnostic::error("unknown-target", format!("`{word}` is neither a service nor an address"))
            .at(value.span.clone(), "no such service");
        match nearest(word, self.named.keys().map(|name| (*name, *name))) {
            Some(name) => {
                let place = self.named.get(name).map(|at| at.location()).unwrap_or_default();
                let place = place.rsplit_once(':').map_or(place.as_str(), |(line, _)| line).to_owned();
                problem.help(format!("a service `{name}` is defined at {place}; write \"{name}\""))
            }
            None => problem.help("write the port of the program, such as 8000"),
        }
    }
}

fn draft<'d>(entry: &'d Entry, problems: &mut Problems) -> Draft<'d> {
    check_name(entry, problems);
    match &entry.value.kind {
        Kind::Table(table) => full(entry, table, problems),
        Kind::String(_) | Kind::Array(_) => short(entry, problems),
        _ => {
            problems.wrong_type(&entry.value, &entry.name, "a command (a string, or a list of strings) or a table");
            Draft { entry, needs: Vec::new(), port: None, service: None }
        }
    }
}

fn check_name(entry: &Entry, problems: &mut Problems) {
    let label = if !is_token(&entry.name) {
        "letters, digits, - and _"
    } else if !targets::is_word(&entry.name) {
        "a target of this name would be a port or an address"
    } else {
        return;
    };
    let problem = Diagnostic::error("bad-name", format!("`{}` cannot be the name of a service", entry.name));
    problems.push(problem.at(entry.span.clone(), label));
}

/// `web = "npm run dev"`
fn short<'d>(entry: &'d Entry, problems: &mut Problems) -> Draft<'d> {
    let service = command(&entry.value, problems).map(|run| plain(entry, run));
    Draft { entry, needs: Vec::new(), port: None, service }
}

fn full<'d>(entry: &'d Entry, table: &'d Table, problems: &mut Problems) -> Draft<'d> {
    let owner = format!("service `{}`", entry.name);
    let section = Section::open(table, &owner, &entry.span, &keys::SERVICE, problems);
    // Where one of these is wrong the table is refused, so nobody takes it for one that was not written.
    let needs = section.get("needs").and_then(|value| problems.strings(value, "needs")).unwrap_or_default();
    let port = section.get("port").and_then(|value| problems.integer(value, "port", 1, 65_535));
    let port = port.and_then(|port| u16::try_from(port).ok());
    let service = service(entry, &section, problems).map(|service| Service { needs: names(&needs), port, ..service });
    Draft { entry, needs, port, service }
}

/// Each once, in the order in which they are written.
fn names(needs: &[(&str, &Value)]) -> Vec<String> {
    let mut names: Vec<String> = Vec::with_capacity(needs.len());
    for (need, _) in needs {
        if !names.iter().any(|name| name == need) {
            names.push((*need).to_owned());
        }
    }
    names
}

/// All of it but what others must know.
fn service(entry: &Entry, section: &Section<'_>, problems: &mut Problems) -> Option<Service> {
    let run = section.get("run").map(|value| command(value, problems));
    let dir = section.get("dir").map(|value| problems.file(value, "dir"));
    let env = section.get("env").map(|value| environment(value, problems));
    let env_file = section.get("env_file").map(|value| env_files(value, problems));
    let ready = section.get("ready").map(|value| ready(value, problems));
    let start = start(&entry.name, section, problems);
    let plain = plain(entry, run??);
    Some(Service {
        dir: dir.unwrap_or(Some(plain.dir))?,
        env: env.unwrap_or(Some(plain.env))?,
        env_file: env_file.map_or(Some(plain.env_file), |files| files.map(Some))?,
        ready: ready.unwrap_or(Some(plain.ready))?,
        start: start?,
        ..plain
    })
}

/// A service without any of the keys beside `run`.
fn plain(entry: &Entry, run: Command) -> Service {
    Service {
        name: entry.name.clone(),
        origin: entry.span.clone(),
        written: entry.value.fingerprint(),
        run,
        dir: beside(&entry.value, "."),
        env: Vec::new(),
        env_file: None,
        needs: Vec::new(),
        ready: Ready::Listening,
        port: None,
        start: Start::WithUp,
    }
}

fn command(value: &Value, problems: &mut Problems) -> Option<Command> {
    match &value.kind {
        Kind::Array(_) => {
            let words = problems.some_strings(value, "run")?;
            if let Some((program, at)) = words.first()
                && program.is_empty()
            {
                problems.bad("bad-value", at, "the program to run has no name".into(), "nothing is written here");
                return None;
            }
            let words = words.into_iter().map(|(word, at)| passed_on(word, at, "run", problems).map(str::to_owned));
            words.collect::<Option<_>>().map(Command::Words)
        }
        Kind::String(_) => {
            let text = problems.filled(value, "run")?;
            passed_on(text, value, "run", problems).map(|text| Command::Shell(text.to_owned()))
        }
        _ => {
            problems.wrong_type(value, "run", "a command: a string, or a list of strings");
            None
        }
    }
}

/// A word that a program can be given: for the system it would end at a NUL.
fn passed_on<'d>(text: &'d str, at: &Value, name: &str, problems: &mut Problems) -> Option<&'d str> {
    if text.contains('\0') {
        problems.bad("bad-value", at, format!("`{name}` must not hold a NUL"), "no program could be given one");
        return None;
    }
    Some(text)
}

fn environment(value: &Value, problems: &mut Problems) -> Option<Vec<(String, String)>> {
    let table = problems.table(value, "env")?;
    let variables: Vec<_> = table.entries.iter().map(|entry| variable(entry, problems)).collect();
    variables.into_iter().collect()
}

fn variable(entry: &Entry, problems: &mut Problems) -> Option<(String, String)> {
    let is_named = !entry.name.is_empty() && !entry.name.contains(['=', '\0']);
    if !is_named {
        let problem = Diagnostic::error("bad-value", "no variable can have this name");
        problems.push(problem.at(entry.span.clone(), "without = and NUL"));
    }
    let text = problems.string(&entry.value, &entry.name)?;
    let text = passed_on(text, &entry.value, &entry.name, problems)?;
    is_named.then(|| (entry.name.clone(), text.to_owned()))
}

fn env_files(value: &Value, problems: &mut Problems) -> Option<Vec<PathBuf>> {
    match &value.kind {
        Kind::Array(items) => {
            let files: Vec<_> = items.iter().map(|item| problems.file(item, "env_file")).collect();
            files.into_iter().collect()
        }
        Kind::String(_) => problems.file(value, "env_file").map(|file| vec![file]),
        _ => {
            problems.wrong_type(value, "env_file", "a file, or a list of files");
            None
        }
    }
}

fn ready(value: &Value, problems: &mut Problems) -> Option<Ready> {
    match &value.kind {
        Kind::String(text) if text.contains(' ') && !text.starts_with('/') => {
            let line = format!("{{ log = {} }}", quoted(&regex::escape(text)));
            let problem = Diagnostic::error("bad-path", "`ready` is no path").at(value.span.clone(), "no / in front");
            problems.push(problem.patch("if a line of its output is meant", value.span.clone(), line));
            None
        }
        Kind::String(_) => problems.path(value, "ready").map(|path| Ready::Path(path.to_owned())),
        Kind::Table(table) => {
            let section = Section::open(table, "`ready`", &value.span, &keys::READY, problems);
            let path = section.get("path").map(|value| problems.path(value, "path"));
            let line = section.get("log").map(|value| pattern(value, problems));
            let path = path.map(|path| path.map(|path| Ready::Path(path.to_owned())));
            path.or(line.map(|line| line.map(Ready::Line)))?
        }
        _ => {
            problems.wrong_type(value, "ready", "a path such as \"/healthz\", or { log = \"..\" }");
            None
        }
    }
}

fn pattern(value: &Value, problems: &mut Problems) -> Option<String> {
    problems.filled(value, "log")?;
    problems.regex(value, "log").map(str::to_owned)
}

fn start(name: &str, section: &Section<'_>, problems: &mut Problems) -> Option<Start> {
    let on_request = section.get("start").map_or(Some(false), |value| is_on_request(value, problems));
    let idle = section.get("idle").map(|value| problems.duration(value, "idle"));
    if let (Some(false), Some(entry)) = (on_request, section.entry("idle")) {
        let wanted = "`start = \"on_request\"`";
        let message = format!("`idle` of service `{name}` has no meaning without {wanted}");
        problems.push(
            Diagnostic::error("conflict", message)
                .at(entry.span.clone(), format!("needs {wanted}"))
                .note("what is stopped when idle must be started again by the next request"),
        );
        return None;
    }
    let idle = idle.map_or(Some(None), |idle| idle.map(Some));
    Some(if on_request? { Start::OnRequest { idle: idle? } } else { Start::WithUp })
}

fn is_on_request(value: &Value, problems: &mut Problems) -> Option<bool> {
    match problems.string(value, "start")? {
        "with_up" => Some(false),
        "on_request" => Some(true),
        other => {
            let message = format!("`{other}` does not say when to start a service");
            problems.bad("bad-value", value, message, "with_up or on_request");
            None
        }
    }
}
