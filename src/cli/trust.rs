//! `portolan trust` and `untrust`: the local authority into the stores of this machine, and out of them again.
//!
//! Every step is told. What only root may do is done by `sudo` where a person can answer it, and is told as a command
//! everywhere else.

use std::{
    io::{self, IsTerminal, Write},
    path::{Path, PathBuf},
    process,
    time::SystemTime,
};

use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    BAD, GOOD, Outcome, Stop,
    answer::Answer,
    flags::{Global, Stores},
    table_if_any,
    terminal::Terminal,
};
use crate::{
    diagnostic::{Diagnostic, shown},
    tls::{Authority, AuthorityError, folder},
    trust::{self, Candidate, Kind, Machine, Step, Store, Wish},
};

/// Has the stores trust the authority, which is made if there is none.
pub(super) fn trust(global: &Global, wanted: &Stores, terminal: &Terminal) -> Outcome {
    let folder = folder::default().map_err(problem)?;
    let table = table_if_any(global, None)?;
    let names = table.config().map(trust::hosts).unwrap_or_default();
    let authority = Authority::load_or_make(&folder, &names).map_err(problem)?;
    let candidate =
        Candidate { file: authority.public().map_err(problem)?, certificate: authority.certificate().clone() };
    let mut said = Said::new(terminal);
    said.line(&described(&authority, &candidate.file))?;
    let steps = steps(&Machine::here(), wanted, Wish::Trust, std::slice::from_ref(&candidate), &mut said)?;
    if steps.is_empty() {
        said.line("no store of certificates was found here")?;
    } else if steps.iter().any(|(_, step)| step.outcome == trust::Outcome::Done) {
        said.line("browsers and programs that run already may have to be started anew")?;
    }
    let node = format!("Node.js has no store: `export NODE_EXTRA_CA_CERTS={}`", candidate.file.display());
    said.line(&format!("{node}; what portolan starts is told already"))?;
    said.end(&json!({ "authority": fields(&authority, &candidate.file), "steps": values(&steps) }))?;
    Ok(code(&steps))
}

/// Takes every authority of ours out of the stores; once none of all stores has it, the authority itself is taken away.
pub(super) fn untrust(wanted: &Stores, terminal: &Terminal) -> Outcome {
    let folder = folder::default().map_err(problem)?;
    let candidates = candidates(&folder).map_err(problem)?;
    let mut said = Said::new(terminal);
    let steps = steps(&Machine::here(), wanted, Wish::Forget, &candidates, &mut said)?;
    let is_clean = wanted.stores.is_empty() && steps.iter().all(|(_, step)| step.is_well());
    let removed = if is_clean { Authority::forget(&folder).map_err(problem)? } else { Vec::new() };
    for file in &removed {
        said.line(&format!("{} is taken away", shown(file)))?;
    }
    if candidates.is_empty() && removed.is_empty() {
        said.line(&format!("there is no authority in {}", shown(&folder)))?;
    }
    said.end(&json!({ "steps": values(&steps), "removed": removed }))?;
    Ok(code(&steps))
}

/// The authority's certificate, and those of former ones.
fn candidates(folder: &Path) -> Result<Vec<Candidate>, AuthorityError> {
    let known = Authority::certificates(folder)?;
    Ok(known.into_iter().map(|(file, certificate)| Candidate { file, certificate }).collect())
}

/// What was done with each store, told as it is done.
fn steps(
    machine: &Machine,
    wanted: &Stores,
    wish: Wish,
    candidates: &[Candidate],
    said: &mut Said<'_>,
) -> Result<Vec<(Store, Step)>, Stop> {
    let kinds = if wanted.stores.is_empty() { Kind::ALL.to_vec() } else { wanted.stores.clone() };
    let mut steps = Vec::new();
    for candidate in candidates {
        for store in kinds.iter().flat_map(|kind| machine.stores(*kind)) {
            let step = store.change(wish, candidate);
            let step = if said.may_ask() { with_sudo(&store, step, wish, candidate, said)? } else { step };
            said.step(&store, &step, wish)?;
            steps.push((store, step));
        }
    }
    Ok(steps)
}

/// Does by `sudo` what only root may, and looks whether it was done.
fn with_sudo(store: &Store, step: Step, wish: Wish, candidate: &Candidate, said: &mut Said<'_>) -> Result<Step, Stop> {
    let (trust::Outcome::Root, Some(command)) = (&step.outcome, &step.help) else { return Ok(step) };
    said.line(&format!("{}: only root may, so this is run: {command}", store.name()))?;
    let status = process::Command::new("sh").args(["-c", command]).status()?;
    let is_done = store.is_so(wish, candidate) == Ok(true);
    Ok(if status.success() && is_done { Step { outcome: trust::Outcome::Done, help: None } } else { step })
}

/// What is told to people, line by line; programs are told once, at the end.
struct Said<'t> {
    terminal: &'t Terminal,
}

impl<'t> Said<'t> {
    fn new(terminal: &'t Terminal) -> Self {
        Self { terminal }
    }

    /// Whether a person is there to answer `sudo`.
    fn may_ask(&self) -> bool {
        !self.terminal.json && self.terminal.interactive && io::stdin().is_terminal()
    }

    fn line(&mut self, text: &str) -> io::Result<()> {
        if self.terminal.json || self.terminal.quiet {
            return Ok(());
        }
        writeln!(io::stdout(), "{text}")
    }

    fn step(&mut self, store: &Store, step: &Step, wish: Wish) -> io::Result<()> {
        if self.terminal.json || (self.terminal.quiet && step.is_well()) {
            return Ok(());
        }
        let message = format!("{}: {}: {}", store.name(), shown(store.place()), words(step, wish));
        let answer = Answer { message, notes: Vec::new(), help: step.help.clone() };
        write!(io::stdout(), "{}", answer.text(0, 2, self.terminal.width))
    }

    fn end(&mut self, whole: &Value) -> io::Result<()> {
        if self.terminal.json {
            writeln!(io::stdout(), "{whole}")?;
        }
        Ok(())
    }
}

fn words(step: &Step, wish: Wish) -> String {
    match (&step.outcome, wish) {
        (trust::Outcome::Done, Wish::Trust) => "trusts it now".into(),
        (trust::Outcome::Done, Wish::Forget) => "trusts it no more".into(),
        (trust::Outcome::Already, Wish::Trust) => "trusts it already".into(),
        (trust::Outcome::Already, Wish::Forget) => "does not have it".into(),
        (trust::Outcome::Root, _) => "only root may change it".into(),
        (trust::Outcome::Failed(why), _) => format!("it is not done: {why}"),
    }
}

fn described(authority: &Authority, file: &Path) -> String {
    let names = authority.permitted().join(", ");
    format!(
        "{}: {}\nit vouches for {names}, all names below them and loopback addresses, until {}",
        authority.name(),
        shown(file),
        day(authority.until())
    )
}

fn fields(authority: &Authority, file: &PathBuf) -> Value {
    json!({
        "name": authority.name(),
        "file": file,
        "fingerprint": authority.fingerprint(),
        "until": Timestamp::try_from(authority.until()).map(|until| until.to_string()).ok(),
        "permits": authority.permitted(),
    })
}

fn values(steps: &[(Store, Step)]) -> Vec<Value> {
    let value = |(store, step): &(Store, Step)| {
        let (outcome, why) = match &step.outcome {
            trust::Outcome::Done => ("done", None),
            trust::Outcome::Already => ("already", None),
            trust::Outcome::Root => ("root", None),
            trust::Outcome::Failed(why) => ("failed", Some(why)),
        };
        json!({ "store": store.name(), "place": store.place(), "outcome": outcome, "why": why, "help": step.help })
    };
    steps.iter().map(value).collect()
}

fn code(steps: &[(Store, Step)]) -> process::ExitCode {
    if steps.iter().all(|(_, step)| step.is_well()) { GOOD } else { BAD }
}

fn day(time: SystemTime) -> String {
    Timestamp::try_from(time).map(|time| time.strftime("%F").to_string()).unwrap_or_default()
}

fn problem(error: AuthorityError) -> Stop {
    Diagnostic::error("no-authority", error.to_string()).into()
}
