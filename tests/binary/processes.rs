//! A home of a test's own in which programs are started: a proxy's address that is nobody else's, a program that tells
//! what it was started with, and an eye on all processes that come of it.

use std::{
    fs,
    io::Error,
    net::{SocketAddr, TcpListener, TcpStream},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::{
    client::{Answer, Connection, request_of_host, until},
    folder::Folder,
    program::{self, Lines, PATIENCE, Said},
};

/// In the environment of everything that a test starts: what has it belongs to the test, however far it has gone.
const MARK: &str = "PORTOLAN_TEST_HOME";

/// A program that listens and tells what it was started with.
pub(crate) const SERVER: &str = include_str!("server.py");

/// A home. Dropping it kills every process that was started in it.
pub(crate) struct Home {
    folder: Folder,
    proxy: SocketAddr,
}

impl Home {
    /// With [`SERVER`] in it, as `server.py`, and what opens a terminal.
    pub(crate) fn new() -> Self {
        let folder = Folder::new();
        folder.write("server.py", SERVER);
        folder.write("terminal.py", include_str!("terminal.py"));
        fs::create_dir(folder.file("run")).unwrap();
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        Self { folder, proxy: free.local_addr().unwrap() }
    }

    /// With a table beside it.
    pub(crate) fn with_table(table: &str) -> Self {
        let home = Self::new();
        home.folder.write("portolan.toml", table);
        home
    }

    pub(crate) fn folder(&self) -> &Folder {
        &self.folder
    }

    /// A folder in it with a name that says something; made where it is not there.
    pub(crate) fn room(&self, name: &str) -> PathBuf {
        let room = self.folder.file(name);
        fs::create_dir_all(&room).unwrap();
        room
    }

    /// Where the proxy listens that `run` and `up` start here.
    pub(crate) fn proxy(&self) -> SocketAddr {
        self.proxy
    }

    /// `portolan` in this home.
    pub(crate) fn portolan(&self, arguments: &[&str]) -> Command {
        let mut command = program::portolan(&self.folder, arguments);
        command.env("PORTOLAN_LISTEN", self.proxy.to_string());
        self.adopt(&mut command);
        command
    }

    /// Has a command live here.
    pub(crate) fn adopt(&self, command: &mut Command) {
        let run = self.folder.file("run");
        command.envs([("HOME", self.folder.path()), ("XDG_RUNTIME_DIR", &run), ("XDG_STATE_HOME", &run)]);
        command.env(MARK, self.folder.path()).env_remove("PORT").env_remove("HOST");
    }

    /// Words on a terminal of their own, which is closed when this is killed.
    pub(crate) fn terminal(&self, words: &[&str]) -> Running {
        let mut command = Command::new("python3");
        command.arg("terminal.py").args(words).current_dir(self.folder.path());
        command.env("PORTOLAN_LISTEN", self.proxy.to_string()).env("LANG", "C.UTF-8");
        command.env_remove("PORTOLAN_CONFIG").env_remove("PORTOLAN_LOG");
        self.adopt(&mut command);
        Running::start(command)
    }

    /// Runs `portolan` to its end.
    pub(crate) fn say(&self, arguments: &[&str]) -> Said {
        program::run(self.portolan(arguments))
    }

    /// What `ps --json` says of a service; null where it says nothing, or nobody is there to be asked.
    pub(crate) fn service(&self, name: &str) -> Value {
        let said = self.say(&["ps", "--json"]);
        let answer: Value = serde_json::from_str(&said.out).unwrap_or_else(|error| panic!("{error}: {said:?}"));
        let mut services = answer["services"].as_array().into_iter().flatten();
        services.find(|service| service["name"] == name).cloned().unwrap_or_default()
    }

    /// Waits until a service is in that state, and returns all that `ps --json` says of it.
    pub(crate) fn wait_for_state(&self, name: &str, state: &str) -> Value {
        let mut service = Value::Null;
        until(&format!("{name} is {state}"), || {
            service = self.service(name);
            service["state"] == state
        });
        service
    }

    /// Asks the proxy for a path of a host; `None` where there is no proxy.
    pub(crate) fn ask(&self, host: &str, path: &str) -> Option<Answer> {
        let mut proxy = Connection::try_to(self.proxy).ok()?;
        proxy.try_send(request_of_host(&format!("{host}:{}", self.proxy.port()), path)).ok()?;
        proxy.answer().ok()
    }

    /// What a [`SERVER`] tells that is reached by this host, once it is.
    pub(crate) fn told_by(&self, host: &str) -> Value {
        self.told_at(host, "/")
    }

    /// What a [`SERVER`] tells at a path of a host, once it is reached.
    pub(crate) fn told_at(&self, host: &str, path: &str) -> Value {
        let mut told = None;
        until(&format!("{host}{path} is reached"), || {
            told = self.ask(host, path).filter(|answer| answer.status == 200).map(|answer| answer.body);
            told.is_some()
        });
        serde_json::from_str(&told.unwrap()).unwrap()
    }

    /// Waits until nobody answers for this host, or only the proxy, which has no such route.
    pub(crate) fn wait_until_gone(&self, host: &str) {
        until(&format!("{host} is gone"), || self.ask(host, "/").is_none_or(|answer| answer.status == 404));
    }

    /// The lines of a file that programs write to; none as long as it is not there.
    pub(crate) fn lines(&self, name: &str) -> Vec<String> {
        let text = fs::read_to_string(self.folder.file(name)).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// Waits until programs have written so many lines to a file.
    pub(crate) fn wait_for_lines(&self, name: &str, count: usize) -> Vec<String> {
        until(&format!("{name} has {count} lines"), || self.lines(name).len() >= count);
        self.lines(name)
    }

    /// All processes of this home: the number and the words of each.
    pub(crate) fn processes(&self) -> Vec<(i32, String)> {
        all_processes().filter(|pid| self.owns(*pid)).filter_map(|pid| Some((pid, words(pid)?))).collect()
    }

    /// All processes of this home that are no portolan.
    pub(crate) fn programs(&self) -> Vec<(i32, String)> {
        let ours = [env!("CARGO_BIN_EXE_portolan"), "portolan ", "keeper "];
        let is_ours = |words: &str| ours.iter().any(|name| words.starts_with(name));
        self.processes().into_iter().filter(|(_, words)| !is_ours(words)).collect()
    }

    /// How long it takes until none of its programs is left, and nobody listens on any of these ports. A process that ends
    /// loses its name and its environment before it closes its sockets.
    pub(crate) fn time_until_no_program_is_left(&self, ports: &[u16]) -> Duration {
        let began = Instant::now();
        until("no program is left", || self.programs().is_empty() && !ports.iter().copied().any(is_taken));
        began.elapsed()
    }

    fn owns(&self, pid: i32) -> bool {
        let mark = format!("{MARK}={}", self.folder.path().display());
        let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        let began = Instant::now();
        // Again and again, as a process may start another one while it is looked for.
        while let processes = self.processes()
            && !processes.is_empty()
            && began.elapsed() < PATIENCE
        {
            for pid in processes.iter().filter_map(|(pid, _)| Pid::from_raw(*pid)) {
                // It may just have ended by itself.
                let _ = kill_process(pid, Signal::KILL);
            }
        }
    }
}

fn all_processes() -> impl Iterator<Item = i32> {
    let names = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter_map(|name| name.parse().ok())
}

/// The words of a process, unless it has ended and only waits to be noticed.
fn words(pid: i32) -> Option<String> {
    let read = |file| Ok::<_, Error>(String::from_utf8_lossy(&fs::read(format!("/proc/{pid}/{file}"))?).into_owned());
    let state = read("stat").ok()?;
    let has_ended = state.rsplit(')').next()?.trim_start().starts_with(['Z', 'X']);
    (!has_ended).then(|| read("cmdline").map(|words| words.replace('\0', " ")))?.ok()
}

/// Whether somebody listens there.
pub(crate) fn is_taken(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).is_ok()
}

/// Whether the proxy says that it let a request wait.
pub(crate) fn was_held(answer: &Answer) -> bool {
    answer.field("x-portolan-held").is_some()
}

/// A command that goes on, and everything that it says. Dropping it kills it.
pub(crate) struct Running {
    child: Child,
    pub(crate) out: Lines,
    pub(crate) err: Lines,
}

impl Running {
    pub(crate) fn start(mut command: Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (out, err) = (Lines::of(child.stdout.take().unwrap()), Lines::of(child.stderr.take().unwrap()));
        Self { child, out, err }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits until it has ended: its exit code, or 128 and the signal that killed it, as a shell counts.
    pub(crate) fn wait(&mut self) -> i32 {
        let status = self.child.wait().unwrap();
        status.code().or_else(|| status.signal().map(|signal| 128 + signal)).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Failing means that it has ended before, which is where this leads.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if thread::panicking() {
            let (out, err) = (self.out.so_far().join("\n"), self.err.so_far().join("\n"));
            eprintln!("--- a command of the failed test said:\n{out}\n--- and on standard error:\n{err}\n---");
        }
    }
}

/// The descriptors of any command that is started here: whoever runs the tests may have left some open.
pub(crate) fn usual_descriptors() -> Value {
    let mut list = Command::new("python3");
    // The one that the list is read with has gone again.
    let exists = "os.path.exists(f'/proc/self/fd/{n}')";
    list.args(["-c", &format!("import os; print(sorted(int(n) for n in os.listdir('/proc/self/fd') if {exists}))")]);
    serde_json::from_str(&program::run(list).out).unwrap()
}

/// A path as text.
pub(crate) fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}
