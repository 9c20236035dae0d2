//! The sockets of this machine as the kernel lists them: for what neither end of a connection can see.
#![cfg(target_os = "linux")]

use std::fs;

/// States of a socket, as `include/net/tcp_states.h` numbers them.
const SYN_SENT: &str = "02";
const LISTEN: &str = "0A";

/// How many connections to `port` of 127.0.0.1 are being tried.
pub(crate) fn dialling(port: u16) -> usize {
    count(|socket| socket.state == SYN_SENT && socket.remote == port)
}

/// How many connections that were accepted at `port` of 127.0.0.1 are still held open there.
pub(crate) fn accepted(port: u16) -> usize {
    count(|socket| socket.state != LISTEN && socket.local == port && socket.is_held)
}

struct Socket<'a> {
    local: u16,
    remote: u16,
    state: &'a str,
    /// Whether a process has it open.
    is_held: bool,
}

fn count(is_meant: impl Fn(&Socket<'_>) -> bool) -> usize {
    let table = fs::read_to_string("/proc/net/tcp").unwrap();
    table.lines().skip(1).filter(|line| is_meant(&socket(line))).count()
}

/// One line of the table (proc(5)): number, local and remote address, state, queues, timer, retries, uid, timeout, inode.
fn socket(line: &str) -> Socket<'_> {
    let fields: Vec<_> = line.split_ascii_whitespace().collect();
    let port = |address: &str| u16::from_str_radix(address.rsplit_once(':').unwrap().1, 16).unwrap();
    Socket { local: port(fields[1]), remote: port(fields[2]), state: fields[3], is_held: fields[9] != "0" }
}
