//! The keeper: a process of ours between us and a program, so that nothing of the program outlives us.
//!
//! Each program is started by a copy of this executable that does nothing else. It is a *subreaper*: whatever the
//! program leaves behind, in its process group or in a session of its own, becomes a child of the keeper and cannot
//! escape. It waits for the program's end, for `SIGTERM`, and for ours (by a pidfd, so that `SIGKILL` is seen, too); then
//! it ends everything that is left and exits as the program did. `man 2 prctl`, PR_SET_CHILD_SUBREAPER; elsewhere than on Linux only
//! the program's process group is ended.

use std::{
    ffi::{OsStr, OsString},
    io,
    os::unix::process::CommandExt,
    process::{Command, ExitCode},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Resource, Rlimit, Signal, WaitOptions, WaitStatus, getppid, setrlimit, wait};
use tokio::{
    runtime::Builder,
    signal::unix::{Signal as Signals, SignalKind, signal},
    sync::oneshot,
    time::{Instant, sleep_until},
};

use crate::process::{self, Processes};

/// The first word of a keeper's arguments, behind its name. No word that a person would type.
pub const KEEP: &str = "__keep";

/// What a keeper is called among the processes, so that `pkill portolan` does not take it with us.
pub const NAME: &str = "keeper";

/// How long what is left may take once we are gone: nobody is there any more to wait for it.
const LAST_GRACE: Duration = Duration::from_millis(500);

/// How often a process is ended that forks faster than it dies.
const AGAIN: Duration = Duration::from_millis(20);

/// What a keeper is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Task {
    /// Whose end is the end of everything.
    pub parent: u32,
    /// Between `SIGTERM` and `SIGKILL`.
    pub grace: Duration,
    /// Whether the program gets a process group of its own, away from the terminal's.
    pub own_group: bool,
    /// The soft limit of descriptors that the program would have had without us, who raised ours.
    pub descriptors: Option<u64>,
    /// The program and its words.
    pub words: Vec<OsString>,
}

/// Why a program could not be started, with the exit code that shells use for it.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// There is no such program.
    #[error("{0}: command not found")]
    NotFound(String),
    /// It is there and cannot be run.
    #[error("{0}: {1}")]
    Denied(String, String),
    /// The system does not let a keeper work.
    #[error("cannot look after a program: {0}")]
    System(#[from] io::Error),
}

impl KeepError {
    /// 127 and 126, as POSIX has them for the shell (2.8.2).
    pub fn code(&self) -> u8 {
        match self {
            Self::NotFound(_) => 127,
            Self::Denied(..) => 126,
            Self::System(_) => 125,
        }
    }
}

impl Task {
    /// As arguments of a process.
    pub fn arguments(&self) -> Vec<OsString> {
        let descriptors = self.descriptors.map_or_else(|| "-".to_owned(), |limit| limit.to_string());
        let group = if self.own_group { "own" } else { "same" };
        let fixed =
            [KEEP.to_owned(), self.parent.to_string(), self.grace.as_millis().to_string(), group.into(), descriptors];
        fixed.into_iter().map(OsString::from).chain(self.words.iter().cloned()).collect()
    }

    /// From the arguments of this process, its name included; `None` if it is no keeper.
    pub fn read(arguments: &[OsString]) -> Option<Self> {
        let [_, keep, parent, grace, group, descriptors, words @ ..] = arguments else { return None };
        if keep != KEEP || words.is_empty() {
            return None;
        }
        Some(Self {
            parent: parent.to_str()?.parse().ok()?,
            grace: Duration::from_millis(grace.to_str()?.parse().ok()?),
            own_group: group == "own",
            descriptors: descriptors.to_str()?.parse().ok(),
            words: words.to_vec(),
        })
    }
}

/// A command that runs the keeper of this task.
pub fn command(task: &Task) -> Command {
    // Also where the file was built anew since we started.
    let ourselves = if cfg!(target_os = "linux") { "/proc/self/exe".into() } else { own_executable() };
    let mut command = Command::new(ourselves);
    command.arg0(NAME).args(task.arguments()).env_remove("SSLKEYLOGFILE");
    command
}

fn own_executable() -> OsString {
    std::env::current_exe().map_or_else(|_| "portolan".into(), Into::into)
}

/// Runs the program to its end; what this process exits with.
pub fn keep(task: &Task) -> Result<ExitCode, KeepError> {
    become_keeper();
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut events = Events::new(task.parent)?;
        let program = start(task)?;
        let mut code = None;
        let mut is_abandoned = false;
        while code.is_none() {
            match events.next().await {
                Event::Ended => (code, _) = reap(program),
                Event::Stop => break,
                Event::Abandoned => {
                    is_abandoned = true;
                    break;
                }
            }
        }
        let last = end_all(&mut events, program, task.grace, is_abandoned).await;
        Ok(ExitCode::from(code.or(last).unwrap_or(1)))
    })
}

#[cfg(target_os = "linux")]
fn become_keeper() {
    // Where it is not allowed the keeper is no worse than without.
    let _ = rustix::process::set_child_subreaper(Some(rustix::process::getpid()));
    let _ = rustix::thread::set_name(c"keeper");
}

#[cfg(not(target_os = "linux"))]
fn become_keeper() {}

fn start(task: &Task) -> Result<Pid, KeepError> {
    if let Some(limit) = task.descriptors {
        let hard = rustix::process::getrlimit(Resource::Nofile).maximum;
        // A limit that cannot be set stays as it is.
        let _ = setrlimit(Resource::Nofile, Rlimit { current: Some(limit), maximum: hard });
    }
    let Some((name, words)) = task.words.split_first() else { return Err(KeepError::NotFound(String::new())) };
    let mut command = Command::new(name);
    command.args(words);
    if task.own_group {
        command.process_group(0);
    }
    // The handle is of no use: whoever ends, this or an orphan of it, is reaped by `reap`.
    let child = command.spawn().map_err(|error| refusal(name, &error))?;
    Pid::from_raw(child.id().cast_signed()).ok_or_else(|| io::Error::other("a process without a number").into())
}

fn refusal(name: &OsStr, error: &io::Error) -> KeepError {
    let name = crate::diagnostic::printable(&name.to_string_lossy());
    match error.kind() {
        io::ErrorKind::NotFound => KeepError::NotFound(name),
        _ => KeepError::Denied(name, crate::diagnostic::without_number(error)),
    }
}

/// What a keeper waits for.
enum Event {
    /// A child has ended.
    Ended,
    /// We are told to end everything.
    Stop,
    /// Whoever started us is gone.
    Abandoned,
}

struct Events {
    ended: Signals,
    stop: Signals,
    /// Meant for the program, which gets them from the terminal itself. What is ignored stays ignored, for the program, too.
    _terminal: Vec<Signals>,
    parent: Parent,
}

impl Events {
    fn new(parent: u32) -> io::Result<Self> {
        let of_terminal = [
            (Signal::INT, SignalKind::interrupt()),
            (Signal::QUIT, SignalKind::quit()),
            (Signal::HUP, SignalKind::hangup()),
        ];
        let heeded = of_terminal.into_iter().filter(|(number, _)| !ignores(*number));
        Ok(Self {
            ended: signal(SignalKind::child())?,
            stop: signal(SignalKind::terminate())?,
            _terminal: heeded.map(|(_, kind)| signal(kind)).collect::<io::Result<_>>()?,
            parent: Parent::new(parent)?,
        })
    }

    async fn next(&mut self) -> Event {
        tokio::select! {
            _ = self.ended.recv() => Event::Ended,
            _ = self.stop.recv() => Event::Stop,
            () = self.parent.gone() => Event::Abandoned,
        }
    }
}

/// Whether this process was started with a signal ignored, as under `nohup` (`man 5 proc_pid_status`, SigIgn). To be asked
/// before a handler is installed.
pub fn ignores(signal: Signal) -> bool {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status.lines().find_map(|line| line.strip_prefix("SigIgn:"));
    let bit = 1u64 << (signal.as_raw() - 1);
    mask.and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok()).is_some_and(|mask| mask & bit != 0)
}

/// Whoever started the keeper.
struct Parent {
    gone: oneshot::Receiver<()>,
}

impl Parent {
    /// Watches it in a thread of its own, which ends with the keeper.
    fn new(pid: u32) -> io::Result<Self> {
        let (tell, gone) = oneshot::channel();
        let handle = open(pid);
        thread::Builder::new().name("parent".into()).spawn(move || {
            await_end(handle, pid);
            // The keeper may be about to end itself.
            let _ = tell.send(());
        })?;
        Ok(Self { gone })
    }

    /// Returns when it is gone.
    async fn gone(&mut self) {
        if (&mut self.gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

#[cfg(target_os = "linux")]
fn open(pid: u32) -> Option<std::os::fd::OwnedFd> {
    use rustix::process::{PidfdFlags, pidfd_open};
    pidfd_open(Pid::from_raw(pid.cast_signed())?, PidfdFlags::empty()).ok()
}

#[cfg(not(target_os = "linux"))]
fn open(_: u32) -> Option<std::os::fd::OwnedFd> {
    None
}

/// Blocks until our parent is not, or not any more, the one of this number.
fn await_end(handle: Option<std::os::fd::OwnedFd>, pid: u32) {
    use rustix::event::{PollFd, PollFlags, poll};
    let is_there = || getppid().is_some_and(|parent| parent.as_raw_nonzero().get().cast_unsigned() == pid);
    // Asked behind the opening: a number may have been given again before.
    while is_there() {
        let Some(handle) = &handle else {
            thread::sleep(Duration::from_millis(500));
            continue;
        };
        // Readable when the process has ended (`man 2 pidfd_open`); a signal may interrupt the wait.
        if poll(&mut [PollFd::new(handle, PollFlags::IN)], None).is_ok() {
            return;
        }
    }
}

/// Takes the exit codes of all children that have ended: that of the program, if it is among them, and whether there is no
/// child left.
fn reap(program: Pid) -> (Option<u8>, bool) {
    let mut code = None;
    loop {
        match wait(WaitOptions::NOHANG) {
            Ok(Some((pid, status))) if pid == program => code = Some(exit_code(status)),
            Ok(Some(_)) => {}
            Ok(None) => return (code, false),
            Err(error) => return (code, error == rustix::io::Errno::CHILD),
        }
    }
}

/// As a shell says it: 128 and the signal's number for who was ended by one.
fn exit_code(status: WaitStatus) -> u8 {
    let code = status.exit_status().or_else(|| status.terminating_signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

/// Ends everything that is left; the exit code of the program, if it was.
async fn end_all(events: &mut Events, program: Pid, grace: Duration, mut is_abandoned: bool) -> Option<u8> {
    let mut code = None;
    let mut patience = Instant::now() + if is_abandoned { LAST_GRACE.min(grace) } else { grace };
    let mut again = AGAIN;
    signal_all(Signal::TERM);
    loop {
        let (ended, is_last) = reap(program);
        code = ended.or(code);
        if is_last {
            return code;
        }
        if Instant::now() >= patience {
            signal_all(Signal::KILL);
            patience = Instant::now() + again;
            // What cannot be ended, such as a program of another user, is asked ever more seldom.
            again = (again * 2).min(LAST_GRACE);
        }
        tokio::select! {
            _ = events.ended.recv() => {}
            // A second word is the last one.
            _ = events.stop.recv() => patience = Instant::now(),
            () = events.parent.gone(), if !is_abandoned => {
                is_abandoned = true;
                patience = patience.min(Instant::now() + LAST_GRACE);
            }
            () = sleep_until(patience) => {}
        }
    }
}

fn signal_all(signal: Signal) {
    for pid in Processes::now().descendants(std::process::id()) {
        process::signal(pid, signal);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_is_read_as_it_was_written() {
        let task = Task {
            parent: 4812,
            grace: Duration::from_millis(1500),
            own_group: true,
            descriptors: Some(1024),
            words: ["sh", "-c", "echo -- __keep"].map(OsString::from).to_vec(),
        };
        let arguments: Vec<OsString> = std::iter::once(NAME.into()).chain(task.arguments()).collect();
        assert_eq!(Task::read(&arguments), Some(task));
    }

    #[test]
    fn whatever_a_person_types_is_no_task() {
        for words in [
            &["portolan"][..],
            &["portolan", "serve", "/=5173"],
            &["portolan", KEEP],
            &["portolan", KEEP, "1", "2", "own", "-"],
        ] {
            let words: Vec<OsString> = words.iter().map(OsString::from).collect();
            assert_eq!(Task::read(&words), None, "{words:?}");
        }
    }
}
