//! The real clients: curl for requests, and scripts that end with a report.

use std::{
    process::{Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use serde_json::Value;

use crate::installed;

/// Longer than anything takes on a machine that is busy with other tests. Nothing waits for it where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What curl got.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }
}

/// A curl that heeds neither the developer's settings nor another proxy, and ends in any case.
pub(crate) fn curl(url: &str, arguments: &[&str]) -> Command {
    let mut command = Command::new("curl");
    command.args(["-q", "--silent", "--show-error", "--noproxy", "*", "--max-time", "60"]);
    command.args(arguments).arg(url).stdin(Stdio::null());
    command
}

/// What stands behind the body: the status.
const STATUS: [&str; 2] = ["--write-out", "\n%{http_code}"];

/// Asks with curl and returns the whole answer.
pub(crate) fn ask(url: &str, arguments: &[&str]) -> Answer {
    answer(&run(curl(url, arguments).args(STATUS)))
}

/// Asks with curl where perhaps nobody answers.
pub(crate) fn try_ask(url: &str) -> Option<Answer> {
    let Output { status, stdout, .. } = curl(url, &STATUS).output().unwrap();
    status.success().then(|| answer(&String::from_utf8_lossy(&stdout)))
}

fn answer(output: &str) -> Answer {
    let (body, status) = output.rsplit_once('\n').unwrap();
    Answer { status: status.parse().unwrap(), body: body.to_owned() }
}

/// Asks again and again until it is so: for what nobody announces.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::sleep(Duration::from_millis(20));
    }
}

/// Runs a command that must succeed, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.envs(installed::environment()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}

/// Runs one of `clients/*.py` and returns the reports that it printed as lines of JSON.
pub(crate) fn python(client: &str, arguments: &[&str]) -> Vec<Value> {
    reports(Command::new(installed::python()).arg(installed::source("clients").join(client)).args(arguments))
}

/// Runs one of `clients/*.cjs` and returns the reports that it printed as lines of JSON.
pub(crate) fn node(client: &str, arguments: &[&str]) -> Vec<Value> {
    reports(Command::new("node").arg(installed::source("clients").join(client)).args(arguments))
}

fn reports(client: &mut Command) -> Vec<Value> {
    run(client).lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
