//! A test with a network and processes of its own: no fixed port is ever taken there, what binds every address is
//! reached by nobody, and whatever is left running is seen, and ends with the test.

use std::{
    env, fs,
    io::Error,
    process::{Command, Stdio},
    sync::{Mutex, PoisonError},
};

use crate::installed::{self, Tool};

/// Set for the test binary that runs inside.
const INSIDE: &str = "PORTOLAN_TEST_ALONE";

/// These tests build whole apps: one after the other each of them is faster.
static TURN: Mutex<()> = Mutex::new(());

/// As [`installed::with`], in namespaces of the kernel that no other program is in.
pub(crate) fn with<Test: FnOnce()>(tools: &[Tool], test: Test) {
    let name = installed::name_of(&test);
    if !installed::has(tools, name) {
        return;
    }
    if env::var_os(INSIDE).is_some() {
        return test();
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let (_, within_the_binary) = name.split_once("::").unwrap();
    let status = inside(within_the_binary).status().unwrap();
    assert!(status.success(), "{name} failed alone: {status}");
}

/// The same test once more, in a network of which it brings up the loopback, with `/proc` of its own processes.
fn inside(test: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL", "unshare", "--net", "--pid", "--fork", "--kill-child", "--mount-proc"]);
    if !rustix::process::geteuid().is_root() {
        command.arg("--map-root-user");
    }
    // `ip` lies where only root looks by default.
    command.args(["sh", "-c", "PATH=$PATH:/usr/sbin ip link set lo up && exec \"$0\" \"$@\""]);
    command.arg(env::current_exe().unwrap()).args(["--exact", test, "--nocapture", "--test-threads=1"]);
    command.env(INSIDE, "1").stdin(Stdio::null()).stdout(Stdio::null());
    command
}

/// Who runs here besides the test itself, in words.
pub(crate) fn others() -> Vec<String> {
    let processes = fs::read_dir("/proc").unwrap().filter_map(|entry| entry.unwrap().file_name().into_string().ok());
    let others = processes.filter_map(|name| name.parse::<u32>().ok()).filter(|pid| *pid != std::process::id());
    others.filter_map(|pid| alive(pid).ok().flatten()).collect()
}

/// What a process is, unless it has ended and only waits to be noticed.
fn alive(pid: u32) -> Result<Option<String>, Error> {
    let state = fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let has_ended = state.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with(['Z', 'X']));
    let words = fs::read(format!("/proc/{pid}/cmdline"))?;
    let words = String::from_utf8_lossy(&words).replace('\0', " ");
    Ok((!has_ended).then(|| format!("{pid}: {words}")))
}
