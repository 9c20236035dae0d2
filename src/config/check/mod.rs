//! From the document to the checked table, or to everything that is wrong with it.
//!
//! All problems are found in one run and told in the order of the text. Their codes are stable:
//!
//! - `syntax`, `duplicate-key`: not TOML; a key, header field or condition that is written twice
//! - `unreadable-file`, `file-too-large`, `not-utf-8`: told by [`super::load`]: there is no text to look at
//! - `untrusted-table`: told by [`super::load`]: somebody else could have written what would start programs
//! - `unknown-key`, `missing-key`, `wrong-type`: a key that no table of this kind has, or that it needs; another type
//! - `conflict`: keys that exclude each other, or mean nothing without another one
//! - `bad-value`, `bad-duration`, `bad-regex`, `bad-host`, `bad-path`, `bad-method`, `bad-header`, `bad-name`,
//!   `bad-port`, `bad-listen`, `bad-target`: a value of the right type that cannot be meant
//! - `unknown-target`, `own-address`: a word that names no service; one of our own listeners as a target, or as the
//!   port of a service
//! - `reserved-host`: a route at `portolan.localhost`
//! - `exposed`: listening beyond this machine without `expose = true`
//! - `duplicate-route`: a route that another one hides
//! - `lost-preflights`: a warning: `cors` on a route that never sees OPTIONS
//! - `unknown-service`, `needs-cycle`: `needs` that can never be met
//! - `not-yet`: part of the contract, but not of this version
//! - `bad-certificate`: told by `trust::written`: a file that `cert` or `key` names is of no use
//! - `too-many-routes`, `too-many-problems`: more than a table may hold; more than anybody would read

mod actions;
mod filters;
mod followed;
mod listen;
mod needs;
mod routes;
mod section;
mod services;
mod targets;
mod tcp;
mod values;
mod whole;

use std::sync::Arc;

pub use actions::plain_forward;
pub use values::{is_label, parse_duration};

use super::{
    Config, Listen,
    document::{Document, Table},
    keys,
};
use crate::diagnostic::{Diagnostic, Source, Span};

/// More would only scroll by; a file of a megabyte could have a hundred thousand.
const MAX_PROBLEMS: usize = 1000;

/// Codes that tell of something missing. Beside a syntax error it may only have been lost on the way.
const ABSENCES: [&str; 5] = ["missing-key", "unknown-target", "unknown-service", "conflict", "duplicate-route"];

/// Checks everything. A config is there exactly if no problem is an error.
///
/// `typed` is where the proxy listens whatever the document says of it.
pub fn check(document: &Document, typed: Option<&Listen>) -> (Option<Config>, Vec<Diagnostic>) {
    let mut problems = Problems::default();
    let config = root(&document.root, typed, &mut problems);
    let problems = settle(document, problems.list);
    let refused = problems.iter().any(Diagnostic::is_error);
    (config.filter(|_| !refused), problems)
}

/// Checks an address to listen on that stands on its own.
pub(super) fn listen_alone(text: &str, span: Span) -> Result<Listen, Vec<Diagnostic>> {
    listen::parse(text, span)
}

fn root(root: &Table, typed: Option<&Listen>, problems: &mut Problems) -> Option<Config> {
    // An empty file is a fine one: no key of the root is required.
    if let Some(first) = root.entries.first() {
        section::Section::open(root, "the file", &first.span, &keys::ROOT, problems);
    }
    let written = listen::check(root, problems);
    let listen = typed.cloned().or(written);
    let project = root.get("project").and_then(|value| project(value, problems));
    let around = routes::Surroundings { project, services: services::check(root, problems) };
    let routes = routes::check(root, &around, problems);
    let tcp = tcp::check(root, &around.services, problems);
    whole::tell_duplicates(&routes, problems);
    whole::tell_certificates(&routes, problems);
    if let Some(listen) = &listen {
        whole::tell_own_addresses(&routes, listen, problems);
        whole::tell_own_ports(&around.services.read, listen, problems);
        tcp::tell_own_addresses(&tcp, listen, problems);
        tcp::tell_own_ports(&tcp, &around.services.read, problems);
    }
    Some(Config { listen: listen?, project: around.project, services: around.services.read, routes, tcp })
}

fn project(value: &super::document::Value, problems: &mut Problems) -> Option<String> {
    let text = problems.string(value, "project")?;
    if is_label(text) {
        return Some(text.to_ascii_lowercase());
    }
    let message = format!("`{text}` cannot be part of a host name");
    problems.bad("bad-name", value, message, "letters, digits and inner hyphens, at most 63");
    None
}

/// Puts the problems of grammar and meaning into the order of the text, without those that only follow from another.
fn settle(document: &Document, meaning: Vec<Diagnostic>) -> Vec<Diagnostic> {
    let damage = |source: &Arc<Source>| {
        let broken = document.syntax.iter().filter(|problem| problem.code == "syntax");
        let places = broken.filter_map(|problem| problem.at.as_ref());
        let first =
            places.filter(|(span, _)| Arc::ptr_eq(&span.source, source)).map(|(span, _)| span.range.start).min();
        first.map(|at| source.text[..at].rfind('\n').map_or(0, |newline| newline + 1))
    };
    let damage: Vec<Option<usize>> = document.sources.iter().map(damage).collect();
    let broken = damage.iter().any(Option::is_some);
    let place = |problem: &Diagnostic| {
        let (span, _) = problem.at.as_ref()?;
        let source = document.sources.iter().position(|source| Arc::ptr_eq(source, &span.source))?;
        Some((source, span.range.start))
    };
    // What stands before the first syntax error is as its author wrote it; behind it the parser may have guessed.
    let sound = |problem: &Diagnostic| {
        let before = place(problem).is_none_or(|(source, at)| damage[source].is_none_or(|damage| at < damage));
        before && !(broken && ABSENCES.contains(&problem.code))
    };
    let mut all = document.syntax.clone();
    all.extend(meaning.into_iter().filter(sound));
    all.sort_by_key(place);
    if all.len() > MAX_PROBLEMS {
        let more = all.len() - MAX_PROBLEMS;
        all.truncate(MAX_PROBLEMS);
        all.push(Diagnostic::error("too-many-problems", format!("{more} further problems are not shown")));
    }
    all
}

/// The problems found so far.
#[derive(Default)]
struct Problems {
    list: Vec<Diagnostic>,
}

impl Problems {
    fn push(&mut self, problem: Diagnostic) {
        self.list.push(problem);
    }

    fn count(&self) -> usize {
        self.list.len()
    }
}
