//! A proxy in the background: a copy of this executable that has left the terminal, and of which only its first words are
//! read.

use std::{
    ffi::OsString,
    io::{BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Command, Stdio},
};

use super::{BAD, Stop};
use crate::diagnostic::Diagnostic;

/// Starts it with these words and returns when it is ready. What it says against it is said here.
pub(super) fn start(words: Vec<OsString>) -> Result<(), Stop> {
    let ourselves = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut command = Command::new(ourselves);
    command.arg0("portolan").arg("--quiet").args(words);
    // What was said here is not to be looked for there anew, from another folder.
    command.env_remove("PORTOLAN_CONFIG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn()?;
    let mut said = String::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            if line?.starts_with("portolan ready ") {
                return Ok(());
            }
        }
    }
    if let Some(mut stderr) = child.stderr.take() {
        stderr.read_to_string(&mut said)?;
    }
    // It has closed its output, so it is about to end.
    let _ = child.wait();
    let problem = Diagnostic::error("no-background", "the proxy does not start in the background");
    let problem = if said.trim().is_empty() { problem } else { problem.note(format!("it said:\n{}", said.trim_end())) };
    Err(Stop::Told(vec![problem.help("mend that, or start it in the foreground to see more: `portolan`")], BAD))
}
