//! The load in HTTP/1: wrk with one thread, and what it has to say at the end.

use std::fs;
use std::path::PathBuf;
use std::process::Stdio;

use anyhow::{Context, Result};

use crate::child::{Child, leashed};
use crate::load::Outcome;
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
pub(crate) struct Wrk {
    binary: PathBuf,
    script: PathBuf,
    scenario: Scenario,
}

impl Wrk {
    pub(crate) fn prepare(machine: &Machine, scenario: Scenario) -> Result<Self> {
        let binary = machine
            .find("wrk")
            .context("wrk makes the load and is not installed; `benches/peers/setup` installs it")?;
        let script = machine.empty_folder("wrk")?.join(format!("{}.lua", scenario.name()));
        fs::write(&script, scenario.headers() + REPORT).context("cannot write the script for wrk")?;
        Ok(Self { binary, script, scenario })
    }

    pub(crate) fn start(&self, port: u16, seconds: u32) -> Result<Child> {
        let clients = self.scenario.clients();
        let mut command = leashed(&self.binary);
        command
            .args(["-t1", &format!("-c{clients}"), &format!("-d{seconds}s"), "-s"])
            .arg(&self.script)
            .arg(format!("http://127.0.0.1:{port}{}", self.scenario.path()))
            .stdout(Stdio::piped());
        Child::start(&mut command)
    }

    pub(crate) fn read(report: &str) -> Result<Outcome> {
        let figures = report.lines().find_map(|line| line.strip_prefix(MARK));
        let figures =
            figures.with_context(|| format!("wrk found nobody to ask or broke off, and said: {:?}", report.trim()))?;
        serde_json::from_str(figures).with_context(|| format!("wrk's figures cannot be read: {figures}"))
    }
}
