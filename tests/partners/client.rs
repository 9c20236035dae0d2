//! The real clients: curl for requests, and scripts that end with a report.

use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::installed;

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

/// Asks with curl and returns the whole answer.
pub(crate) fn ask(url: &str, arguments: &[&str]) -> Answer {
    let mut command = curl(url, arguments);
    let output = run(command.args(["--write-out", "\n%{http_code}"]));
    let (body, status) = output.rsplit_once('\n').unwrap();
    Answer { status: status.parse().unwrap(), body: body.to_owned() }
}

/// Runs a command that must succeed, and returns what it printed.
pub(crate) fn run(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.envs(installed::environment()).output().unwrap();
    let (stdout, stderr) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{command:?}: {status}\n{stdout}{stderr}");
    stdout.into_owned()
}
