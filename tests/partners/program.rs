//! A real program that a test started: the address it listens on, what it said, and its certain end.
//!
//! Nothing here connects to a program to see whether it is ready: they say so themselves, in a line that each of them
//! writes once its socket is bound. All are asked for port 0, so no two tests can want the same one.

use std::{
    ffi::OsStr,
    fs,
    io::{self, BufRead as _, BufReader, PipeReader},
    net::{Ipv4Addr, SocketAddr},
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process, kill_process_group};

use crate::{certificate::SelfSigned, installed};

/// How long a program may take to come up; a busy CI machine starts Vite in a few seconds.
const START_LIMIT: Duration = Duration::from_secs(60);

/// A running program that says where it listens.
pub(crate) struct Program {
    group: Group,
    address: SocketAddr,
}

impl Program {
    /// Starts the command and waits for a line in which `sign` stands before the address that it listens on.
    pub(crate) fn start(command: Command, sign: &'static str) -> Self {
        let (announce, announced) = mpsc::channel();
        let group = Group::start(command, move |line| {
            if let Some(address) = address_after(sign, line) {
                // Nobody waits any more after the first one.
                let _ = announce.send(address);
            }
        });
        let address = announced.recv_timeout(START_LIMIT).expect("the program says where it listens");
        Self { group, address }
    }

    /// Starts a command that was told its port and says in a line with `sign` that it listens there.
    pub(crate) fn start_on(port: u16, command: Command, sign: &'static str) -> Self {
        let (announce, announced) = mpsc::channel();
        let group = Group::start(command, move |line| {
            if line.contains(sign) {
                // Nobody waits any more after the first one.
                let _ = announce.send(());
            }
        });
        announced.recv_timeout(START_LIMIT).expect("the program says that it listens");
        Self { group, address: SocketAddr::from((Ipv4Addr::LOCALHOST, port)) }
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// The port it listens on.
    pub(crate) fn port(&self) -> u16 {
        self.address.port()
    }

    /// The most memory that it ever held, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.group.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
    }
}

/// A command that ends with the test, whatever ends the test: `setpriv` has the kernel see to it.
pub(crate) fn command(program: impl AsRef<OsStr>) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]).arg(program).envs(installed::environment());
    command
}

/// The Flask API of `apps/flask_app.py`.
pub(crate) fn flask() -> Program {
    let mut command = command(installed::python());
    command.args(["-m", "flask", "--app", "flask_app", "run", "--host", "127.0.0.1", "--port", "0"]);
    command.current_dir(installed::source("apps"));
    Program::start(command, "http://")
}

/// The Django project of `apps/django_site.py`.
pub(crate) fn django() -> Program {
    let mut command = command(installed::python());
    command.arg(installed::source("apps/django_site.py")).args(["runserver", "--noreload", "127.0.0.1:0"]);
    Program::start(command, "http://")
}

/// Vite's dev server for the page in that folder.
pub(crate) fn vite(page: &Path) -> Program {
    let mut command = command("node");
    command.arg(installed::node_modules().join("vite/bin/vite.js")).args(["--host", "127.0.0.1", "--port", "0"]);
    command.current_dir(page);
    Program::start(command, "http://")
}

/// The app of `apps/asgi.py` in hypercorn, with HTTP/2 as well as HTTP/1; over TLS with a certificate.
pub(crate) fn hypercorn(certificate: Option<&SelfSigned>) -> Program {
    let mut command = command(installed::python());
    command.args(["-m", "hypercorn", "--bind", "127.0.0.1:0", "asgi:app"]).current_dir(installed::source("apps"));
    let Some(certificate) = certificate else { return Program::start(command, "Running on http://") };
    command.arg("--certfile").arg(certificate.certificate()).arg("--keyfile").arg(certificate.key());
    Program::start(command, "Running on https://")
}

/// One of `apps/*.cjs`.
pub(crate) fn node(app: &str, arguments: &[&str]) -> Program {
    let mut command = command("node");
    command.arg(installed::source("apps").join(app)).args(arguments);
    Program::start(command, "http://")
}

/// One of `apps/*.py` that listens by itself.
pub(crate) fn python(app: &str) -> Program {
    let mut command = command(installed::python());
    command.arg(installed::source("apps").join(app));
    Program::start(command, "http://")
}

/// A process group of ours. Dropping it kills it as a whole; what it said is shown when the test has failed.
pub(crate) struct Group {
    child: Child,
    said: Arc<Mutex<String>>,
}

impl Group {
    /// Starts the command at the head of a group of its own and has every line of it heard.
    pub(crate) fn start(mut command: Command, hear: impl FnMut(&str) + Send + 'static) -> Self {
        let (output, input) = io::pipe().unwrap();
        command.stdin(Stdio::null()).stdout(input.try_clone().unwrap()).stderr(input).process_group(0);
        let child = command.spawn().unwrap();
        // The command holds our ends of the pipe, which would keep its end from being seen.
        drop(command);

        let group = Self { child, said: Arc::default() };
        let said = Arc::clone(&group.said);
        thread::spawn(move || listen(output, &said, hear));
        group
    }

    /// Sends a signal to the leader alone, as `kill PID` does.
    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until the leader has ended: its exit code, or 128 and the signal that killed it, as a shell counts.
    pub(crate) fn wait(&mut self) -> i32 {
        let status = self.child.wait().unwrap();
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // Failing means that the group has ended before, which is where this leads.
        let _ = kill_process_group(Pid::from_child(&self.child), Signal::KILL);
        let _ = self.child.wait();
        if thread::panicking() {
            let said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
            eprintln!("--- a program of the failed test said:\n{said}---");
        }
    }
}

/// Reads to the end, so that no program ever waits on a full pipe.
fn listen(output: PipeReader, said: &Mutex<String>, mut hear: impl FnMut(&str)) {
    for line in BufReader::new(output).lines().map_while(Result::ok) {
        hear(&line);
        let mut said = said.lock().unwrap();
        said.push_str(&line);
        said.push('\n');
    }
}

fn address_after(sign: &str, line: &str) -> Option<SocketAddr> {
    let (_, rest) = line.split_once(sign)?;
    rest.split([' ', '/']).next()?.trim_end().parse().ok()
}
