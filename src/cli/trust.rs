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
    diagnostic::{Diagnostic, printable, shown},
    tls::{Authority, AuthorityError, Told, folder},
    trust::{self, Candidate, Kind, Machine, Placed, Step, Store, Wish},
};

/// Has the stores trust the authority, which is made if there is none.
pub(super) fn trust(global: &Global, wanted: &Stores, terminal: &Terminal) -> Outcome {
    refuse_sudo()?;
    let folder = folder::default().map_err(problem)?;
    let table = table_if_any(global, None)?;
    let names = table.config().map(trust::hosts).unwrap_or_default();
    let authority = Authority::load_or_make(&folder, &names).map_err(problem)?;
    let candidate =
        Candidate { file: authority.public().map_err(problem)?, certificate: authority.certificate().clone() };
    // Whoever was told of the bundle and runs on reads it again.
    Told::now();
    let mut said = Said::new(terminal);
    said.line(&described(&authority, &candidate.file))?;
    let stores = stores(wanted);
    said.plan(&stores)?;
    Placed::read(&folder).and_then(|mut placed| placed.note(&stores)).map_err(problem)?;
    let steps = steps(&stores, Wish::Trust, std::slice::from_ref(&candidate), &mut said)?;
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

/// Root has an authority of its own, which nothing that its user starts would show or trust.
fn refuse_sudo() -> Result<(), Stop> {
    let user = std::env::var("SUDO_USER").ok().filter(|user| user != "root");
    let Some(user) = user.filter(|_| rustix::process::geteuid().is_root()) else { return Ok(()) };
    let message =
        format!("sudo would have this machine trust an authority of root's, not the one of {}", printable(&user));
    let help = "run `portolan trust` without sudo: it tells what only root may do, and on a terminal does it by sudo";
    Err(Diagnostic::error("by-sudo", message).help(help).into())
}

/// Takes every authority of ours out of the stores; once none of all stores has it, the authority itself is taken away.
pub(super) fn untrust(wanted: &Stores, terminal: &Terminal) -> Outcome {
    let folder = folder::default().map_err(problem)?;
    let candidates = candidates(&folder).map_err(problem)?;
    let mut placed = Placed::read(&folder).map_err(problem)?;
    let mut said = Said::new(terminal);
    let stores = stores(wanted);
    let steps = steps(&stores, Wish::Forget, &candidates, &mut said)?;
    for store in stores.iter().filter(|store| is_clean(store, &steps)) {
        placed.clear(store).map_err(problem)?;
    }
    let unseen = if wanted.stores.is_empty() { placed.unseen(&stores) } else { Vec::new() };
    for file in &unseen {
        said.unseen(file)?;
    }
    let is_clean = wanted.stores.is_empty() && unseen.is_empty() && steps.iter().all(|(_, step)| step.is_well());
    let removed = if is_clean { Authority::forget(&folder).map_err(problem)? } else { Vec::new() };
    for file in &removed {
        said.line(&format!("{} is taken away", shown(file)))?;
    }
    if !removed.is_empty() {
        said.line("programs that portolan has started were told of these files, and have to be started anew")?;
    }
    if candidates.is_empty() && removed.is_empty() {
        said.line(&format!("there is no authority in {}", shown(&folder)))?;
    }
    said.end(&json!({ "steps": values(&steps), "unseen": unseen, "removed": removed }))?;
    Ok(if unseen.is_empty() { code(&steps) } else { BAD })
}

/// Whether every step with this store went well.
fn is_clean(store: &Store, steps: &[(&Store, Step)]) -> bool {
    steps.iter().filter(|(with, _)| std::ptr::eq(*with, store)).all(|(_, step)| step.is_well())
}

/// The authority's certificate, and those of former ones.
fn candidates(folder: &Path) -> Result<Vec<Candidate>, AuthorityError> {
    let known = Authority::certificates(folder)?;
    Ok(known.into_iter().map(|(file, certificate)| Candidate { file, certificate }).collect())
}

/// The stores that are meant and are there.
fn stores(wanted: &Stores) -> Vec<Store> {
    let machine = Machine::here();
    let kinds = if wanted.stores.is_empty() { Kind::ALL.to_vec() } else { wanted.stores.clone() };
    kinds.into_iter().flat_map(|kind| machine.stores(kind)).collect()
}

/// What was done with each store, told as it is done.
fn steps<'s>(
    stores: &'s [Store],
    wish: Wish,
    candidates: &[Candidate],
    said: &mut Said<'_>,
) -> Result<Vec<(&'s Store, Step)>, Stop> {
    let mut steps = Vec::new();
    for candidate in candidates {
        for store in stores {
            let step = store.change(wish, candidate);
            let step = if said.may_ask() { with_sudo(store, step, wish, candidate, said)? } else { step };
            said.step(store, &step, wish)?;
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

    /// The stores that are about to be changed.
    fn plan(&mut self, stores: &[Store]) -> io::Result<()> {
        if !stores.is_empty() {
            self.line("it goes into")?;
        }
        stores.iter().try_for_each(|store| self.line(&format!("  {}: {}", store.name(), shown(store.place()))))
    }

    /// A store that was told to trust it and is not found.
    fn unseen(&mut self, file: &Path) -> io::Result<()> {
        if self.terminal.json {
            return Ok(());
        }
        let message = format!("{}: was told to trust it, and is not found now", shown(file));
        let help = "have it found (Java by the `JAVA_HOME` of then), then do this once more".to_owned();
        let answer = Answer { message, notes: Vec::new(), help: Some(help) };
        write!(io::stdout(), "{}", answer.text(0, 2, self.terminal.width))
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

fn values(steps: &[(&Store, Step)]) -> Vec<Value> {
    let value = |(store, step): &(&Store, Step)| {
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

fn code(steps: &[(&Store, Step)]) -> process::ExitCode {
    if steps.iter().all(|(_, step)| step.is_well()) { GOOD } else { BAD }
}

fn day(time: SystemTime) -> String {
    Timestamp::try_from(time).map(|time| time.strftime("%F").to_string()).unwrap_or_default()
}

fn problem(error: AuthorityError) -> Stop {
    Diagnostic::error("no-authority", error.to_string()).into()
}
