//! `portolan doctor`: what is wrong with this machine, and the command that mends it.

use std::io::{self, Write};

use serde_json::json;

use super::{
    BAD, GOOD, Outcome, answer::Answer, flags::Global, ports::look_for_containers, table_if_any, terminal::Terminal,
    typed_listen,
};
use crate::{
    control,
    doctor::{Facts, Finding, Verdict, examine},
};

/// Looks, judges and tells.
pub(super) fn run(global: &Global, listen: Option<&str>, terminal: &Terminal) -> Outcome {
    let typed = typed_listen(listen)?;
    let table = table_if_any(global, typed.as_ref())?;
    let written = table.config().map(|config| config.listen.clone());
    let listen = written.or(typed).unwrap_or_default();
    let runtime = control::socket::folder().map_err(|error| error.to_string());
    let findings = examine(&Facts::gather(table, listen, runtime, look_for_containers()?));
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (problems, warnings) = (count(Verdict::Problem), count(Verdict::Warning));
    let mut out = io::stdout().lock();
    if terminal.json {
        writeln!(out, "{}", json!({ "problems": problems, "warnings": warnings, "findings": findings }))?;
    } else {
        let text = text(&findings, terminal);
        // Whoever asks for faults only is told nothing where there are none.
        if !text.is_empty() {
            writeln!(out, "{text}\n{}", summary(problems, warnings))?;
        }
    }
    Ok(if problems == 0 { GOOD } else { BAD })
}

/// A line or more per finding; those that are well are left out where only faults were asked for.
fn text(findings: &[Finding], terminal: &Terminal) -> String {
    let is_told = |finding: &&Finding| !terminal.quiet || finding.verdict != Verdict::Ok;
    let color = terminal.colors_out();
    findings.iter().filter(is_told).map(|finding| block(finding, terminal.width, color)).collect()
}

fn block(finding: &Finding, width: Option<usize>, color: bool) -> String {
    let (word, paint) = match finding.verdict {
        Verdict::Ok => ("ok", "32"),
        Verdict::Warning => ("warning", "1;33"),
        Verdict::Problem => ("problem", "1;31"),
    };
    let painted = if color { format!("\x1b[{paint}m{word:<8}\x1b[0m ") } else { format!("{word:<8} ") };
    let answer = Answer {
        message: format!("{}: {}", finding.check, finding.message),
        notes: finding.notes.clone(),
        help: finding.help.clone(),
    };
    // As wide as the longest word and its gap.
    painted + &answer.text(9, 9, width)
}

fn summary(problems: usize, warnings: usize) -> String {
    let counted =
        |count: usize, thing: &str| if count == 1 { format!("1 {thing}") } else { format!("{count} {thing}s") };
    match (problems, warnings) {
        (0, 0) => "all is well".into(),
        (0, warnings) => format!("no problem, {}", counted(warnings, "warning")),
        (problems, 0) => counted(problems, "problem"),
        (problems, warnings) => format!("{}, {}", counted(problems, "problem"), counted(warnings, "warning")),
    }
}
