//! The load in HTTP/2: h2load with one thread, what it has to say at the end, and its log, which tells how long each
//! request took.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::child::{Child, leashed};
use crate::load::{Errors, Outcome};
use crate::machine::Machine;
use crate::scenario::{HOST, Scenario};

/// h2load, prepared for one scenario.
pub(crate) struct H2load {
    binary: PathBuf,
    /// Begins anew with each run.
    log: PathBuf,
    scenario: Scenario,
}

impl H2load {
    pub(crate) fn prepare(machine: &Machine, scenario: Scenario) -> Result<Self> {
        let binary = machine
            .find("h2load")
            .context("h2load makes the load and is not installed; `benches/peers/setup` installs it")?;
        let log = machine.empty_folder("h2load")?.join(format!("{}.log", scenario.name()));
        Ok(Self { binary, log, scenario })
    }

    pub(crate) fn start(&self, port: u16, seconds: u32) -> Result<Child> {
        let (clients, streams) = (self.scenario.clients(), self.scenario.streams());
        if self.log.exists() {
            fs::remove_file(&self.log).with_context(|| format!("cannot remove {}", self.log.display()))?;
        }
        let mut command = leashed(&self.binary);
        command
            .args(["-t1", &format!("-c{clients}"), &format!("-m{streams}"), &format!("-D{seconds}")])
            .arg(format!("--log-file={}", self.log.display()))
            .arg(format!("--connect-to=127.0.0.1:{port}"))
            .arg(format!("http://{HOST}:{port}{}", self.scenario.path()))
            .stdout(Stdio::piped());
        Child::start(&mut command)
    }

    pub(crate) fn read(&self, report: &str) -> Result<Outcome> {
        let outcome = figures(report).zip(self.percentiles());
        let ((seconds, requests, errors), (p50_us, p99_us)) = outcome
            .with_context(|| format!("h2load found nobody to ask or broke off, and said: {:?}", report.trim()))?;
        Ok(Outcome { requests, seconds, p50_us, p99_us, errors })
    }

    fn percentiles(&self) -> Option<(u64, u64)> {
        let mut durations = durations(&self.log)?;
        durations.sort_unstable();
        let at = |percent: usize| durations.get(durations.len() * percent / 100).copied();
        at(50).zip(at(99))
    }
}

/// The seconds, the answers and the errors of lines like these:
///
/// ```text
/// finished in 3.00s, 38787.50 req/s, 2.99MB/s
/// requests: 77575 total, 78087 started, 77575 done, 77575 succeeded, 0 failed, 0 errored, 0 timeout
/// status codes: 77575 2xx, 0 3xx, 0 4xx, 0 5xx
/// ```
fn figures(report: &str) -> Option<(f64, u64, Errors)> {
    let line = |start: &str| report.lines().find_map(|line| line.strip_prefix(start));
    let (seconds, _) = line("finished in ")?.split_once("s,")?;
    let (requests, statuses) = (line("requests: ")?, line("status codes: ")?);
    let errors = Errors {
        read: counted(requests, "errored")?,
        timeout: counted(requests, "timeout")?,
        status: counted(statuses, "4xx")? + counted(statuses, "5xx")?,
        ..Errors::default()
    };
    Some((seconds.parse().ok()?, counted(requests, "done")?, errors))
}

/// The number before a word, of a list with commas.
fn counted(list: &str, word: &str) -> Option<u64> {
    list.split(", ").find_map(|item| item.strip_suffix(word)?.trim().parse().ok())
}

/// The last of the three columns of the log, in µs.
fn durations(log: &Path) -> Option<Vec<u64>> {
    let text = fs::read_to_string(log).ok()?;
    text.lines().map(|line| line.rsplit('\t').next()?.parse().ok()).collect()
}
