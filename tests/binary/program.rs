//! The binary as it is started by a person or a script, everything that it says, and its certain end.

use std::{
    fmt::Display,
    io::{self, BufRead as _, BufReader, Read, Write as _},
    net::SocketAddr,
    os::unix::process::ExitStatusExt as _,
    process::{Child, Command, Stdio},
    sync::{Arc, Condvar, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};

use crate::folder::Folder;

/// Longer than anything takes on a machine that is busy with other tests. Nothing waits for it where all is well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(120);

/// What a developer who runs the tests may have set, which must not reach them.
const SETTINGS: [&str; 10] = [
    "PORTOLAN_CONFIG",
    "PORTOLAN_LISTEN",
    "PORTOLAN_LOG",
    "NO_COLOR",
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "LC_ALL",
    "LC_CTYPE",
    "CI",
    "TERM",
];

const BINARY: &str = env!("CARGO_BIN_EXE_portolan");

/// Tells a figure, or what could not be tested, to whoever runs the tests: what `eprintln!` writes is shown for failed
/// tests only.
pub(crate) fn tell(what: impl Display) {
    io::stderr().write_all(format!("{what}\n").as_bytes()).unwrap();
}

/// `portolan` in a folder.
pub(crate) fn portolan(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(BINARY);
    prepare(&mut command, folder).args(arguments);
    command
}

/// `portolan` that may open so many files and no more.
#[cfg(target_os = "linux")]
pub(crate) fn portolan_with_descriptors(most: usize, folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new("sh");
    command.args(["-c", "ulimit -n \"$0\" && exec \"$@\"", &most.to_string(), BINARY]);
    prepare(&mut command, folder).args(arguments);
    command
}

fn prepare<'a>(command: &'a mut Command, folder: &Folder) -> &'a mut Command {
    for setting in SETTINGS {
        command.env_remove(setting);
    }
    command.env("LANG", "C.UTF-8").env("TZ", "UTC").env("HOME", "/nonexistent").current_dir(folder.path())
}

/// What a command said and how it ended.
#[derive(Debug)]
pub(crate) struct Said {
    pub(crate) code: i32,
    pub(crate) out: String,
    pub(crate) err: String,
}

/// Runs a command to its end.
pub(crate) fn run(mut command: Command) -> Said {
    let child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let pid = Pid::from_child(&child);
    let (ended, end) = mpsc::channel::<()>();
    let watchdog = thread::spawn(move || {
        if end.recv_timeout(PATIENCE) == Err(mpsc::RecvTimeoutError::Timeout) {
            // It may just have ended by itself.
            let _ = kill_process(pid, Signal::KILL);
        }
    });
    let output = child.wait_with_output().unwrap();
    drop(ended);
    watchdog.join().unwrap();
    let text = |bytes| String::from_utf8(bytes).expect("what is said is UTF-8");
    let (out, err) = (text(output.stdout), text(output.stderr));
    let code = output.status.code().unwrap_or_else(|| panic!("killed after {PATIENCE:?}\n{out}\n{err}"));
    Said { code, out, err }
}

/// `portolan` in a folder, run to its end.
pub(crate) fn say(folder: &Folder, arguments: &[&str]) -> Said {
    run(portolan(folder, arguments))
}

/// A running proxy. Dropping it kills it; what it said is shown when the test has failed.
pub(crate) struct Portolan {
    child: Child,
    address: SocketAddr,
    /// Standard output, without the ready line and what stood before it.
    pub(crate) out: Lines,
    /// Standard output up to the ready line.
    pub(crate) greeting: Vec<String>,
    /// Standard error.
    pub(crate) err: Lines,
}

impl Portolan {
    /// Serves the table of a folder on a free port of 127.0.0.1.
    pub(crate) fn serve(folder: &Folder, arguments: &[&str]) -> Self {
        Self::start(portolan(folder, &[&["serve", "--listen", "127.0.0.1:0"], arguments].concat()))
    }

    /// Starts a command and waits for the ready line.
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let out = Lines::of(child.stdout.take().unwrap());
        let err = Lines::of(child.stderr.take().unwrap());
        let mut started = Self { child, address: ([127, 0, 0, 1], 0).into(), out, greeting: Vec::new(), err };
        let ready = started.out.wait_for(|line| line.starts_with("portolan ready "));
        let address = ready.strip_prefix("portolan ready http://").expect("the ready line tells a URL");
        started.address = address.parse().expect("the ready line ends with an address");
        started.greeting = started.out.so_far();
        started
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// Its process.
    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Sends it a signal.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended: its exit code, or the negative number of the signal that killed it.
    pub(crate) fn wait(&mut self) -> i32 {
        self.out.wait_for_end();
        self.err.wait_for_end();
        let status = self.child.wait().unwrap();
        status.code().or_else(|| status.signal().map(|signal| -signal)).unwrap()
    }

    /// The most memory that it ever held, and what it holds now, in bytes.
    #[cfg(target_os = "linux")]
    pub(crate) fn memory(&self) -> Memory {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let bytes = |field: &str| {
            let line = status.lines().find_map(|line| line.strip_prefix(field)).unwrap();
            line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
        };
        Memory { peak: bytes("VmHWM:"), now: bytes("VmRSS:") }
    }
}

impl Drop for Portolan {
    fn drop(&mut self) {
        // Failing means that it has ended before, which is where this leads.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let (out, err) = (self.out.so_far().join("\n"), self.err.so_far().join("\n"));
            eprintln!("--- portolan of the failed test said:\n{out}\n--- and on standard error:\n{err}\n---");
        }
    }
}

/// Resident memory in bytes.
#[cfg(target_os = "linux")]
#[derive(Debug, Clone, Copy)]
pub(crate) struct Memory {
    pub(crate) peak: u64,
    pub(crate) now: u64,
}

/// The lines of a stream, as they come.
#[derive(Clone)]
pub(crate) struct Lines(Arc<(Mutex<Heard>, Condvar)>);

#[derive(Default)]
struct Heard {
    lines: Vec<String>,
    /// How many of them were waited for.
    passed: usize,
    ended: bool,
}

impl Lines {
    /// Reads to the end, so that no program ever waits on a full pipe.
    pub(crate) fn of(stream: impl Read + Send + 'static) -> Self {
        let lines = Self(Arc::default());
        let here = lines.clone();
        thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                here.change(|heard| heard.lines.push(line));
            }
            here.change(|heard| heard.ended = true);
        });
        lines
    }

    fn change(&self, change: impl FnOnce(&mut Heard)) {
        change(&mut self.0.0.lock().unwrap_or_else(PoisonError::into_inner));
        self.0.1.notify_all();
    }

    /// The next line that is meant. Lines before it are passed over, and it with them for the next wait.
    pub(crate) fn wait_for(&self, is_meant: impl Fn(&str) -> bool) -> String {
        let find = |heard: &mut Heard| {
            let at = heard.passed + heard.lines[heard.passed..].iter().position(|line| is_meant(line))?;
            heard.passed = at + 1;
            Some(heard.lines[at].clone())
        };
        let found = self.wait(|heard| find(heard).or_else(|| heard.ended.then(String::new)));
        assert!(!found.is_empty(), "the stream ended without that line:\n{}", self.so_far().join("\n"));
        found
    }

    /// All lines of a stream that ends.
    pub(crate) fn wait_for_end(&self) -> Vec<String> {
        self.wait(|heard| heard.ended.then(|| heard.lines.clone()))
    }

    /// The lines until now.
    pub(crate) fn so_far(&self) -> Vec<String> {
        self.0.0.lock().unwrap_or_else(PoisonError::into_inner).lines.clone()
    }

    fn wait<T>(&self, mut come: impl FnMut(&mut Heard) -> Option<T>) -> T {
        let mut result = None;
        let heard = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        let not_yet = |heard: &mut Heard| {
            result = come(heard);
            result.is_none()
        };
        let (heard, timeout) = self.0.1.wait_timeout_while(heard, PATIENCE, not_yet).unwrap();
        drop(heard);
        assert!(!timeout.timed_out(), "it did not come within {PATIENCE:?}:\n{}", self.so_far().join("\n"));
        result.unwrap()
    }
}
