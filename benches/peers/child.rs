//! Programs that we start: they never outlive us, and they tell what they used.
//!
//! Each leads a process group of its own. The group is ended when the handle is dropped, when a signal ends us, and, by
//! the kernel, when we die without a word.

use std::ffi::OsStr;
use std::fs;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child as Process, Command, ExitStatus, Stdio, exit};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::signal::unix::{SignalKind, signal};

/// The unit of the times in `/proc/PID/stat`. The kernel shows hundredths of a second, whatever the architecture.
const TICKS_PER_SECOND: f64 = 100.0;

/// How long a program may take to end itself before it is killed.
const PATIENCE: Duration = Duration::from_secs(2);

/// The groups that are alive. Locked from the start of a program until it stands here, so that a signal misses none.
static GROUPS: Mutex<Vec<Pid>> = Mutex::new(Vec::new());

fn groups() -> MutexGuard<'static, Vec<Pid>> {
    GROUPS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// From here on Ctrl-C and its kin end every program before they end us.
pub(crate) fn end_all_on_a_signal() -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut terminate = signal(SignalKind::terminate())?;
    let mut hangup = signal(SignalKind::hangup())?;
    drop(entered);
    let wait = move || {
        runtime.block_on(async {
            tokio::select! { _ = interrupt.recv() => {}, _ = terminate.recv() => {}, _ = hangup.recv() => {} }
        });
        let groups = groups();
        for signal in [Signal::TERM, Signal::KILL] {
            groups.iter().for_each(|group| end_group(*group, signal));
            thread::sleep(Duration::from_millis(200));
        }
        exit(130)
    };
    thread::Builder::new().name("signals".into()).spawn(wait)?;
    Ok(())
}

/// A group that has ended already is as good as ended.
fn end_group(group: Pid, signal: Signal) {
    let _gone = kill_process_group(group, signal);
}

/// A command that ends when we do, in a group of its own. `setpriv` becomes the program, so the pid stays the same.
pub(crate) fn leashed(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM"]).arg(program).process_group(0).stdin(Stdio::null());
    command
}

/// A running program. Dropping it ends its whole group and waits for that.
pub(crate) struct Child {
    process: Process,
    group: Pid,
}

impl Child {
    /// Starts a `leashed` command. Only for the main thread: the leash is held by the thread that starts.
    pub(crate) fn start(command: &mut Command) -> Result<Self> {
        let mut groups = groups();
        let process = command.spawn().with_context(|| format!("cannot start {command:?}"))?;
        let group = Pid::from_child(&process);
        groups.push(group);
        Ok(Self { process, group })
    }

    /// `Some` once the program has ended by itself.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    /// What the program and its children used so far.
    pub(crate) fn usage(&self) -> Usage {
        usage_of_tree(self.group.as_raw_nonzero().get())
    }

    /// Waits for the end and returns what the program wrote to its standard output.
    pub(crate) fn output(mut self) -> Result<String> {
        let mut text = String::new();
        if let Some(stdout) = &mut self.process.stdout {
            stdout.read_to_string(&mut text)?;
        }
        self.process.wait()?;
        Ok(text)
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        end_group(self.group, Signal::TERM);
        let deadline = Instant::now() + PATIENCE;
        while self.ended().is_none() && Instant::now() < deadline {
            thread::sleep(Duration::from_millis(10));
        }
        end_group(self.group, Signal::KILL);
        let _reaped = self.process.wait();
        groups().retain(|group| *group != self.group);
    }
}

/// CPU time and memory of a program with all its children.
#[derive(Clone, Copy, Default)]
pub(crate) struct Usage {
    pub(crate) user_seconds: f64,
    pub(crate) kernel_seconds: f64,
    pub(crate) rss_kb: u64,
}

impl Usage {
    fn plus(self, other: Self) -> Self {
        Self {
            user_seconds: self.user_seconds + other.user_seconds,
            kernel_seconds: self.kernel_seconds + other.kernel_seconds,
            rss_kb: self.rss_kb + other.rss_kb,
        }
    }
}

fn usage_of_tree(root: i32) -> Usage {
    let stats = all_stats();
    let mut family = vec![root];
    let mut next = 0;
    while let Some(parent) = family.get(next).copied() {
        family.extend(stats.iter().filter(|stat| stat.parent == parent).map(|stat| stat.pid));
        next += 1;
    }
    let members = stats.iter().filter(|stat| family.contains(&stat.pid));
    members.map(Stat::usage).fold(Usage::default(), Usage::plus)
}

/// The part of `/proc/PID/stat` that is of use here.
struct Stat {
    pid: i32,
    parent: i32,
    user_ticks: u32,
    kernel_ticks: u32,
}

fn all_stats() -> Vec<Stat> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    // A process that ends while we read is simply not there.
    entries.filter_map(|entry| Stat::parse(&fs::read_to_string(entry.path().join("stat")).ok()?)).collect()
}

impl Stat {
    fn parse(line: &str) -> Option<Self> {
        // The name stands in brackets and may contain anything, so the fields are counted from the last bracket.
        let (head, tail) = line.rsplit_once(')')?;
        let pid = head.split(' ').next()?.parse().ok()?;
        let fields: Vec<&str> = tail.split_whitespace().collect();
        Some(Self {
            pid,
            parent: fields.get(1)?.parse().ok()?,
            user_ticks: fields.get(11)?.parse().ok()?,
            kernel_ticks: fields.get(12)?.parse().ok()?,
        })
    }

    fn usage(&self) -> Usage {
        Usage {
            user_seconds: f64::from(self.user_ticks) / TICKS_PER_SECOND,
            kernel_seconds: f64::from(self.kernel_ticks) / TICKS_PER_SECOND,
            rss_kb: resident_kb(self.pid).unwrap_or(0),
        }
    }
}

fn resident_kb(pid: i32) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"))?;
    line.split_whitespace().next()?.parse().ok()
}
