//! The listeners of this machine, as the system tells them.
//!
//! On Linux the crate `listeners` leaves out every socket whose owner this user may not see, which are just those
//! that puzzle people most: another user's, and the ones that containers publish. So the sockets come from a [`Lookout`],
//! and the crate only adds the owners. Elsewhere the crate tells both.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::{Listener, Owner};
#[cfg(target_os = "linux")]
use super::{Lookout, Socket};
use crate::diagnostic::printable;

/// The processes that hold an address; several do when they share it (`SO_REUSEPORT`). The eldest stands last.
type Owners = HashMap<SocketAddr, Vec<(Owner, Option<u32>)>>;

/// Every listener with its owner, in no particular order.
#[cfg(target_os = "linux")]
pub(super) fn listeners() -> io::Result<Vec<Listener>> {
    let sockets = Lookout::default().look()?;
    // Sockets without owners are still worth telling.
    let mut owners = owners(listens).unwrap_or_default();
    let found = sockets.into_iter().map(|Socket { address, uid, .. }| {
        let owner = owners.get_mut(&address).and_then(Vec::pop).map(|(owner, _)| owner);
        Listener { address, owner, uid: Some(uid) }
    });
    Ok(found.collect())
}

/// Every listener whose owner this user may see, in no particular order.
#[cfg(not(target_os = "linux"))]
pub(super) fn listeners() -> io::Result<Vec<Listener>> {
    let found = owners(listens)?.into_iter().flat_map(|(address, owners)| {
        owners.into_iter().map(move |(owner, uid)| Listener { address, owner: Some(owner), uid })
    });
    Ok(found.collect())
}

/// Who holds the connections whose end here has this port.
pub(super) fn owners_of_connections(port: u16) -> io::Result<HashMap<SocketAddr, Vec<Owner>>> {
    let owners = owners(|found| !listens(found) && found.socket.port() == port)?;
    let only_owners = |owners: Vec<(Owner, Option<u32>)>| owners.into_iter().map(|(owner, _)| owner).collect();
    Ok(owners.into_iter().map(|(address, owners)| (address, only_owners(owners))).collect())
}

fn listens(found: &listeners::Listener) -> bool {
    found.state == listeners::SocketState::Listen
}

/// Who holds the TCP sockets that are meant.
fn owners(is_meant: impl Fn(&listeners::Listener) -> bool) -> io::Result<Owners> {
    let mut held: Vec<(SocketAddr, listeners::Process)> = listeners::get_all()
        .map_err(|error| io::Error::other(error.to_string()))?
        .into_iter()
        .filter(|found| found.protocol == listeners::Protocol::TCP && is_meant(found))
        .map(|found| (canonical(found.socket), found.process))
        .collect();
    // Of processes that share an address the eldest is most often the one that started the others.
    held.sort_by_key(|(_, process)| std::cmp::Reverse(process.pid));
    let system = look_at(held.iter().map(|(_, process)| process.pid));
    let mut owners = Owners::new();
    for (address, process) in held {
        owners.entry(address).or_default().push(describe(&process, system.as_ref()));
    }
    Ok(owners)
}

/// Command line, folder, start and user of these processes, and nothing of any other.
fn look_at(pids: impl Iterator<Item = u32>) -> Option<System> {
    let pids: Vec<Pid> = pids.map(Pid::from_u32).collect();
    let wanted = ProcessRefreshKind::nothing()
        .without_tasks()
        .with_cmd(UpdateKind::Always)
        .with_cwd(UpdateKind::Always)
        .with_user(UpdateKind::Always);
    let mut system = System::new().ok()?;
    for pid in &pids {
        // One by one: a process that ends while they are looked at together takes the news of others with it.
        system.refresh_processes_specifics(ProcessesToUpdate::Some(std::slice::from_ref(pid)), false, wanted);
    }
    Some(system)
}

/// What is known of a process; it may have ended since, which leaves its name and pid.
fn describe(process: &listeners::Process, system: Option<&System>) -> (Owner, Option<u32>) {
    let program = program_name(&process.path, &process.name);
    let seen = system.and_then(|system| system.process(Pid::from_u32(process.pid)));
    let owner = Owner {
        pid: process.pid,
        command: seen.map(|seen| command_line(seen.cmd())).filter(|words| !words.is_empty()).unwrap_or(program.clone()),
        program,
        folder: seen.and_then(|seen| seen.cwd()).map(Path::to_path_buf),
        started: seen.map(|seen| SystemTime::UNIX_EPOCH + Duration::from_secs(seen.start_time())),
    };
    (owner, seen.and_then(uid_of))
}

#[cfg(unix)]
fn uid_of(process: &sysinfo::Process) -> Option<u32> {
    process.effective_user_id().map(|uid| **uid)
}

/// Windows knows users by names that are no numbers.
#[cfg(not(unix))]
fn uid_of(_: &sysinfo::Process) -> Option<u32> {
    None
}

/// The file name of the executable; `name` only where that is hidden, as threads may rename it (Node does).
fn program_name(executable: &str, name: &str) -> String {
    // Linux marks a file that was built anew under a running program.
    let executable = executable.strip_suffix(" (deleted)").unwrap_or(executable);
    let file = Path::new(executable).file_name().map_or(name.into(), |file| file.to_string_lossy());
    one_line(file.strip_suffix(".exe").unwrap_or(&file))
}

/// The words of a command as one printable line.
fn command_line(words: &[OsString]) -> String {
    let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
    // A program that rewrote its title leaves blanks and empty words behind it.
    one_line(words.join(" ").trim_end())
}

/// A process chooses its words itself: none of them may drive a terminal or break a line.
pub(super) fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// An IPv4 address is told as such, even where an IPv6 socket holds it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_program_is_named_after_its_file() {
        assert_eq!(program_name("/usr/bin/node", "MainThread"), "node");
        assert_eq!(program_name("/src/api/target/debug/api (deleted)", "api"), "api");
        assert_eq!(program_name("", "postgres"), "postgres");
    }

    #[test]
    fn a_command_is_one_printable_line() {
        let words = ["node", "-e", "a\nb\u{1b}[2J", "", ""].map(OsString::from);
        assert_eq!(command_line(&words), "node -e a\\nb\\u{1b}[2J");
    }
}
