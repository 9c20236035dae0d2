//! Programs we start: each one looked after by a task of its own, and by a [`keeper`] that outlives us by a second.
//!
//! A [`Job`] is one program, however often it is started. What becomes of it is a [`Status`]; what it says is its
//! [`Output`](output::Output). That it listens is not found out here: whoever looks at the sockets of this machine says so by
//! [`Job::listens`].

mod job;
pub mod keeper;
pub mod output;
mod plan;
pub mod port;

use std::{
    fmt,
    os::unix::process::ExitStatusExt,
    process::ExitStatus,
    time::{Duration, SystemTime},
};

pub use job::{Board, Job, Order};
pub use plan::{Circumstances, Plan, expand, plan};

/// Between `SIGTERM` and `SIGKILL` (docker compose waits 10 s; the proxy's own drain is 5 s).
pub const GRACE: Duration = Duration::from_secs(5);

/// What is known of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whose it is: a name may get another job while the one before still ends.
    pub job: u64,
    /// What it does now.
    pub state: State,
    /// Since when.
    pub since: SystemTime,
    /// The process that keeps it: whatever the program consists of descends from it.
    pub keeper: Option<u32>,
    /// How often it was started again after it had failed.
    pub restarts: u32,
    /// How it ended the last time.
    pub exit: Option<Exit>,
}

/// What a job does.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum State {
    /// Nobody has started it, or it was stopped.
    Stopped,
    /// For these services, which must be ready first.
    Waiting(Vec<String>),
    /// It runs, and is not ready yet.
    Starting,
    /// It runs, and listens as it should.
    Ready,
    /// It has failed, and is started again then.
    Backoff(SystemTime),
    /// It was told to end.
    Stopping,
    /// It has ended by itself, with exit code 0.
    Done,
}

impl State {
    /// The word for it, in lists and in JSON.
    pub fn word(&self) -> &'static str {
        match self {
            Self::Stopped => "stopped",
            Self::Waiting(_) => "waiting",
            Self::Starting => "starting",
            Self::Ready => "ready",
            Self::Backoff(_) => "backoff",
            Self::Stopping => "stopping",
            Self::Done => "done",
        }
    }

    /// Whether services that need it may start.
    pub fn is_good(&self) -> bool {
        matches!(self, Self::Ready | Self::Done)
    }

    /// Whether it will listen, as far as anybody knows.
    pub fn is_on_its_way(&self) -> bool {
        matches!(self, Self::Waiting(_) | Self::Starting | Self::Backoff(_))
    }

    /// Whether there is nothing to end.
    pub fn is_at_rest(&self) -> bool {
        matches!(self, Self::Stopped | Self::Done)
    }
}

/// How a program ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Exit {
    /// With this code.
    Code(i32),
    /// By this signal.
    Signal(i32),
    /// It could not even be started.
    NotStarted(String),
}

impl Exit {
    /// From the end of a keeper, which speaks as shells do.
    fn of_keeper(status: Option<ExitStatus>) -> Self {
        match status.and_then(|status| status.code().or_else(|| status.signal().map(|signal| 128 + signal))) {
            Some(code @ 129..=192) => Self::Signal(code - 128),
            Some(code) => Self::Code(code),
            None => Self::NotStarted("nobody knows how it ended".into()),
        }
    }
}

impl fmt::Display for Exit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Code(127) => f.write_str("exit code 127: its command was not found"),
            Self::Code(code) => write!(f, "exit code {code}"),
            Self::Signal(signal) => write!(f, "ended by signal {signal}{}", signal_name(*signal)),
            Self::NotStarted(why) => f.write_str(why),
        }
    }
}

/// The signals that people meet; their numbers are those of Linux and macOS alike.
fn signal_name(signal: i32) -> &'static str {
    match signal {
        1 => " (SIGHUP)",
        2 => " (SIGINT)",
        3 => " (SIGQUIT)",
        6 => " (SIGABRT)",
        9 => " (SIGKILL)",
        11 => " (SIGSEGV)",
        13 => " (SIGPIPE)",
        15 => " (SIGTERM)",
        _ => "",
    }
}
