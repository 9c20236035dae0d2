//! A proxy in the background: a copy of this executable that has left the terminal, and of which only its first words are
//! read.

use std::{
    ffi::OsString,
    io::{self, BufRead, BufReader, Read},
    os::unix::process::CommandExt,
    process::{Child, Command, Stdio},
    thread,
};

use tokio::task::spawn_blocking;

use super::{BAD, Stop};
use crate::diagnostic::Diagnostic;

/// Starts it with these words and returns, when it is ready, the port on which it listens. What it says against it is said
/// here.
pub(super) async fn start(words: Vec<OsString>) -> Result<u16, Stop> {
    let started = spawn_blocking(move || {
        let mut child = spawn(words)?;
        let said = read(&mut child);
        // It is a child of ours until we end; somebody must ask for its exit code.
        thread::spawn(move || drop(child.wait()));
        Ok::<_, io::Error>(said)
    });
    let (port, said) = started.await.map_err(io::Error::other)??;
    port.ok_or_else(|| {
        let problem = Diagnostic::error("no-background", "the proxy does not start in the background");
        let said = said.trim_end();
        let problem = if said.is_empty() { problem } else { problem.note(format!("it said:\n{said}")) };
        Stop::Told(vec![problem.help("mend that, or start it in the foreground to see more: `portolan`")], BAD)
    })
}

fn spawn(words: Vec<OsString>) -> io::Result<Child> {
    let ourselves = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { std::env::current_exe()? };
    let mut command = Command::new(ourselves);
    command.arg0("portolan").arg("--quiet").args(words);
    // What was said here is not to be looked for there anew, from another folder.
    command.env_remove("PORTOLAN_CONFIG");
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn()
}

/// The port of its ready line, or what it says instead of one.
fn read(child: &mut Child) -> (Option<u16>, String) {
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    // At the same time: who fills one pipe while the other is read never comes to its ready line.
    let complaint = thread::spawn(move || {
        let mut said = String::new();
        // What is no text is no complaint.
        let _ = stderr.map(|mut stderr| stderr.read_to_string(&mut said));
        said
    });
    let lines = stdout.map(BufReader::new).into_iter().flat_map(BufRead::lines).map_while(Result::ok);
    let port =
        lines.filter_map(|line| line.strip_prefix("portolan ready http://")?.rsplit(':').next()?.parse().ok()).next();
    match port {
        // Its further words go nowhere.
        Some(port) => (Some(port), String::new()),
        None => (None, complaint.join().unwrap_or_default()),
    }
}
