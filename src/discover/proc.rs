//! The listeners of this machine, as the system tells them.
//!
//! On Linux the crate `listeners` leaves out every socket whose owner this user may not see, which are just those
//! that puzzle people most: another user's, and the ones that containers publish. So the sockets are read from
//! `/proc/net/tcp` and `/proc/net/tcp6` here, and the crate only adds the owners. Elsewhere the crate tells both.

use std::{
    collections::HashMap,
    ffi::OsString,
    io,
    net::SocketAddr,
    path::Path,
    time::{Duration, SystemTime},
};

use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System, UpdateKind};

use super::{Connection, Listener, Owner};
use crate::diagnostic::printable;

/// The processes that hold an address; several do when they share it (`SO_REUSEPORT`). The eldest stands last.
type Owners = HashMap<SocketAddr, Vec<(Owner, Option<u32>)>>;

/// Every listener with its owner, in no particular order.
#[cfg(target_os = "linux")]
pub(super) fn listeners() -> io::Result<Vec<Listener>> {
    let sockets = linux::sockets()?;
    // Sockets without owners are still worth telling.
    let mut owners = owners(listens).unwrap_or_default();
    let found = sockets.into_iter().filter(|socket| socket.state == linux::State::Listens).map(|socket| {
        let owner = owners.get_mut(&socket.address).and_then(Vec::pop).map(|(owner, _)| owner);
        Listener { address: socket.address, owner, uid: Some(socket.uid) }
    });
    Ok(found.collect())
}

/// Every connection whose end here has this port.
#[cfg(target_os = "linux")]
pub(super) fn connections(port: u16) -> io::Result<Vec<Connection>> {
    let sockets = linux::sockets()?;
    let mut owners = owners(|found| connects(found, port)).unwrap_or_default();
    let here =
        sockets.into_iter().filter(|socket| socket.state != linux::State::Listens && socket.address.port() == port);
    let found = here.map(|socket| {
        let lingers = socket.state == linux::State::Lingers;
        // Connections of one port with different others share an address here, and mostly a process, too.
        let owners = owners.get_mut(&socket.address).filter(|_| !lingers);
        let owner = owners.and_then(Vec::pop).map(|(owner, _)| owner);
        Connection { local: socket.address, remote: Some(socket.peer), lingers, owner }
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

/// Every connection whose end here has this port and whose owner this user may see.
#[cfg(not(target_os = "linux"))]
pub(super) fn connections(port: u16) -> io::Result<Vec<Connection>> {
    let found = owners(|found| connects(found, port))?.into_iter().flat_map(|(local, owners)| {
        owners.into_iter().map(move |(owner, _)| Connection { local, remote: None, lingers: false, owner: Some(owner) })
    });
    Ok(found.collect())
}

fn listens(found: &listeners::Listener) -> bool {
    found.state == listeners::SocketState::Listen
}

fn connects(found: &listeners::Listener, port: u16) -> bool {
    !listens(found) && found.socket.port() == port
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
fn one_line(text: &str) -> String {
    printable(text).replace('\n', "\\n")
}

/// An IPv4 address is told as such, even where an IPv6 socket holds it.
fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// The tables of sockets that Linux keeps (`man 5 proc_pid_net`).
#[cfg(target_os = "linux")]
mod linux {
    use std::{
        fs, io,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    };

    use super::canonical;

    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct Socket {
        pub(super) address: SocketAddr,
        /// The other end; a wildcard for a listener.
        pub(super) peer: SocketAddr,
        pub(super) state: State,
        pub(super) uid: u32,
    }

    /// The states of the kernel's `net/tcp_states.h`, as far as they differ for us.
    #[derive(Debug, Clone, Copy, PartialEq, Eq)]
    pub(super) enum State {
        Listens,
        /// `TCP_TIME_WAIT`: the connection is over, its port is not free.
        Lingers,
        Connected,
    }

    /// Every TCP socket.
    pub(super) fn sockets() -> io::Result<Vec<Socket>> {
        let mut tables = fs::read_to_string("/proc/net/tcp")?;
        match fs::read_to_string("/proc/net/tcp6") {
            Ok(table) => tables.push_str(&table),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(tables.lines().filter_map(parse).collect())
    }

    /// One line of a table; `None` for a heading.
    fn parse(line: &str) -> Option<Socket> {
        // sl local remote st tx:rx tr:when retrnsmt uid timeout inode ..
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let remote = fields.next()?;
        let state = match fields.next()? {
            "0A" => State::Listens,
            "06" => State::Lingers,
            _ => State::Connected,
        };
        let uid = fields.nth(3)?.parse().ok()?;
        let [address, peer] = [canonical(parse_address(local)?), canonical(parse_address(remote)?)];
        Some(Socket { address, peer, state, uid })
    }

    /// `0100007F:F5AD` or, with four words before the colon, an IPv6 address.
    fn parse_address(text: &str) -> Option<SocketAddr> {
        let (ip, port) = text.split_once(':')?;
        let ip = match ip.len() {
            8 => IpAddr::V4(Ipv4Addr::from(parse_word(ip)?)),
            32 => {
                let mut bytes = [0; 16];
                for (at, word) in bytes.chunks_exact_mut(4).enumerate() {
                    word.copy_from_slice(&parse_word(ip.get(at * 8..at * 8 + 8)?)?);
                }
                IpAddr::V6(Ipv6Addr::from(bytes))
            }
            _ => return None,
        };
        Some(SocketAddr::new(ip, u16::from_str_radix(port, 16).ok()?))
    }

    /// The kernel prints each four bytes of an address as one number in the order of the machine.
    fn parse_word(hex: &str) -> Option<[u8; 4]> {
        u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
    }

    #[cfg(test)]
    #[cfg(target_endian = "little")]
    mod tests {
        use super::*;

        fn listener(address: &str, uid: u32) -> Option<(SocketAddr, State, u32)> {
            Some((address.parse().unwrap(), State::Listens, uid))
        }

        fn parsed(line: &str) -> Option<(SocketAddr, State, u32)> {
            parse(line).map(|socket| (socket.address, socket.state, socket.uid))
        }

        #[test]
        fn a_listening_line_tells_address_and_user() {
            let line = "   0: 0100007F:F5AD 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31842 1 \
                        0000000000000000 100 0 0 10 0";
            assert_eq!(parsed(line), listener("127.0.0.1:62893", 1000));
        }

        #[test]
        fn an_ipv6_address_is_four_words_each_in_the_order_of_the_machine() {
            let rest = "00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100";
            let parsed = |address: &str| parsed(&format!("  12: {address}:1435 {rest}"));
            assert_eq!(parsed("00000000000000000000000001000000"), listener("[::1]:5173", 0));
            assert_eq!(parsed("00000000000000000000000000000000"), listener("[::]:5173", 0));
            assert_eq!(parsed("B80D0120000000000000000001000000"), listener("[2001:db8::1]:5173", 0));
        }

        #[test]
        fn an_ipv4_address_in_the_table_of_ipv6_is_told_as_ipv4() {
            let line = "   3: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A \
                        00000000:00000000 00:00000000 00000000 1000 0 9 1 0 100";
            assert_eq!(parsed(line), listener("127.0.0.1:8080", 1000));
        }

        #[test]
        fn a_connection_has_two_ends_and_may_be_over() {
            let rest = "00000000:00000000 00:00000000 00000000 1000 0 9 1 0";
            let state = |state: &str| parse(&format!("   1: 0100007F:F5AD 0200007F:1435 {state} {rest}")).unwrap();
            assert_eq!(state("01").peer, "127.0.0.2:5173".parse().unwrap());
            assert_eq!([state("01").state, state("06").state], [State::Connected, State::Lingers]);
        }

        #[test]
        fn headings_and_torn_lines_are_passed_over() {
            for line in [
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
                "   0: 0100007F:F5AD 00000000:0000 0A",
                "   0: 0100:F5AD 00000000:0000 0A 0:0 0:0 0 1000 0 9",
                "",
            ] {
                assert_eq!(parse(line), None, "{line}");
            }
        }
    }
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
