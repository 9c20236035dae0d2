//! The load: wrk with one thread, and what it has to say at the end.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::child::{Child, leashed};
use crate::machine::Machine;
use crate::scenario::Scenario;

/// Marks the line that is meant for us in what wrk prints.
const MARK: &str = "peers:";

/// Makes wrk print its figures as JSON, which its own report rounds.
const REPORT: &str = r#"
done = function(summary, latency, requests)
    io.write(string.format(
        'peers: {"requests":%d,"seconds":%.6f,"p50_us":%d,"p99_us":%d,' ..
        '"errors":{"connect":%d,"read":%d,"write":%d,"status":%d,"timeout":%d}}\n',
        summary.requests, summary.duration / 1e6, latency:percentile(50), latency:percentile(99),
        summary.errors.connect, summary.errors.read, summary.errors.write,
        summary.errors.status, summary.errors.timeout))
end
"#;

/// wrk, prepared for one scenario.
pub(crate) struct Load {
    wrk: PathBuf,
    script: PathBuf,
    scenario: Scenario,
}

/// What one run of wrk measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) errors: Errors,
}

/// Requests that did not end as they should; `status` counts answers of 400 and above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Errors {
    pub(crate) connect: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) status: u64,
    pub(crate) timeout: u64,
}

impl Load {
    pub(crate) fn prepare(wrk: &Path, machine: &Machine, scenario: Scenario) -> Result<Self> {
        let script = machine.empty_folder("wrk")?.join(format!("{}.lua", scenario.name()));
        fs::write(&script, scenario.headers() + REPORT).context("cannot write the script for wrk")?;
        Ok(Self { wrk: wrk.to_path_buf(), script, scenario })
    }

    /// Starts wrk against a port; `finish` waits for its end.
    pub(crate) fn start(&self, port: u16, seconds: u32) -> Result<Child> {
        let clients = self.scenario.clients();
        let mut command = leashed(&self.wrk);
        command
            .args(["-t1", &format!("-c{clients}"), &format!("-d{seconds}s"), "-s"])
            .arg(&self.script)
            .arg(format!("http://127.0.0.1:{port}{}", self.scenario.path()))
            .stdout(Stdio::piped());
        Child::start(&mut command)
    }

    pub(crate) fn finish(wrk: Child) -> Result<Outcome> {
        let report = wrk.output()?;
        let figures = report.lines().find_map(|line| line.strip_prefix(MARK));
        let figures =
            figures.with_context(|| format!("wrk found nobody to ask or broke off, and said: {:?}", report.trim()))?;
        serde_json::from_str(figures).with_context(|| format!("wrk's figures cannot be read: {figures}"))
    }
}

impl Errors {
    /// `None` if there are none, else all of them in words.
    pub(crate) fn in_words(&self) -> Option<String> {
        let kinds = [
            (self.status, "answers of 400 or above"),
            (self.connect, "failed connections"),
            (self.read, "broken reads"),
            (self.write, "broken writes"),
            (self.timeout, "timeouts"),
        ];
        let words: Vec<_> =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            connect: self.connect + other.connect,
            read: self.read + other.read,
            write: self.write + other.write,
            status: self.status + other.status,
            timeout: self.timeout + other.timeout,
        }
    }
}
