//! `portolan check`: every problem of the table in one run.

use std::io::{self, Write};

use serde_json::json;

use super::{BAD, GOOD, Outcome, flags::Global, load_table, terminal::Terminal};
use crate::diagnostic;

/// Tells the problems and counts them.
pub(super) fn run(global: &Global, terminal: &Terminal) -> Outcome {
    let loaded = load_table(global, None)?;
    let problems = &loaded.diagnostics;
    let errors = problems.iter().filter(|problem| problem.is_error()).count();
    let warnings = problems.len() - errors;
    let file = problems.iter().find_map(|problem| problem.at.as_ref().map(|(span, _)| span.source.name.clone()));
    let mut out = io::stdout().lock();
    if terminal.json {
        let diagnostics: Vec<_> = problems.iter().map(diagnostic::Diagnostic::to_json).collect();
        writeln!(out, "{}", json!({ "errors": errors, "warnings": warnings, "diagnostics": diagnostics }))?;
    } else {
        if !problems.is_empty() {
            writeln!(out, "{}", diagnostic::render(problems, terminal.colors_out()))?;
        }
        let routes = loaded.config.as_ref().map_or(0, |config| config.routes.len() + config.tcp.len());
        let place = file.map(|file| format!(" in {file}")).unwrap_or_default();
        match (errors, warnings) {
            (0, 0) => writeln!(out, "ok, {}", counted(routes, "route"))?,
            (0, warnings) => {
                writeln!(out, "ok, {}, {}{place}", counted(routes, "route"), counted(warnings, "warning"))?;
            }
            (errors, 0) => writeln!(out, "{}{place}", counted(errors, "error"))?,
            (errors, warnings) => {
                writeln!(out, "{}, {}{place}", counted(errors, "error"), counted(warnings, "warning"))?;
            }
        }
    }
    Ok(if errors == 0 { GOOD } else { BAD })
}

fn counted(count: usize, thing: &str) -> String {
    if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") }
}
