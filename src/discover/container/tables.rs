//! The sockets that listen in the network of another process, read no further than needed.
//!
//! The kernel's tables (`man 5 proc_pid_net`) have those that listen first. What comes behind takes milliseconds to walk
//! even where it is empty, so they are read in small pieces, and not to their end by whoever has found what he wanted.

use std::{
    fs::File,
    io::{self, Read},
    net::SocketAddr,
};

use super::super::sockets;

/// At least a line, so that the kernel looks for few more than one at a time.
const PIECE: usize = 256;

/// A family of addresses; each has a table of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Family {
    /// IPv4.
    V4,
    /// IPv6, and IPv4 through the sockets of IPv6.
    V6,
}

impl Family {
    /// The other one.
    pub(super) fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// The sockets of one table that listen.
pub(super) struct Listeners {
    table: File,
    unread: Vec<u8>,
    is_whole: bool,
}

impl Listeners {
    /// Those of the network that process `pid` is in. None where that network has no such family.
    pub(super) fn near(pid: u32, family: Family) -> io::Result<Self> {
        let name = match family {
            Family::V4 => "tcp",
            Family::V6 => "tcp6",
        };
        let mut listeners =
            Self { table: File::open(format!("/proc/{pid}/net/{name}"))?, unread: Vec::new(), is_whole: false };
        listeners.next_line()?;
        Ok(listeners)
    }

    /// The first line is a heading.
    fn next_line(&mut self) -> io::Result<Option<String>> {
        loop {
            if let Some(end) = self.unread.iter().position(|byte| *byte == b'\n') {
                let line = self.unread.drain(..=end).collect();
                return Ok(String::from_utf8(line).ok());
            }
            if self.is_whole {
                return Ok(None);
            }
            let mut piece = [0; PIECE];
            let length = self.table.read(&mut piece)?;
            // The kernel fills a piece for as long as there is more, and looks through all of the rest to say so again.
            self.is_whole = length < PIECE;
            self.unread.extend_from_slice(&piece[..length]);
        }
    }
}

impl Iterator for Listeners {
    type Item = SocketAddr;

    fn next(&mut self) -> Option<SocketAddr> {
        // What cannot be read any more has gone with its process.
        sockets::listener_of(&self.next_line().ok()??)
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::{Ipv6Addr, TcpListener};

    use super::*;

    #[test]
    fn every_socket_that_listens_near_this_process_is_found_and_no_connection() {
        let (one, other) = (TcpListener::bind("127.0.0.1:0").unwrap(), TcpListener::bind("127.0.0.1:0").unwrap());
        let client = std::net::TcpStream::connect(one.local_addr().unwrap()).unwrap();
        let found: Vec<_> = Listeners::near(std::process::id(), Family::V4).unwrap().collect();
        for listener in [&one, &other] {
            assert!(found.contains(&listener.local_addr().unwrap()), "{found:?}");
        }
        assert!(!found.contains(&client.local_addr().unwrap()), "{found:?}");
    }

    #[test]
    fn a_socket_of_ipv6_stands_in_the_other_table() {
        let Ok(listener) = TcpListener::bind((Ipv6Addr::LOCALHOST, 0)) else {
            eprintln!("SKIPPED: this machine has no [::1]");
            return;
        };
        let address = listener.local_addr().unwrap();
        let is_in = |family| Listeners::near(std::process::id(), family).unwrap().any(|found| found == address);
        assert!(is_in(Family::V6) && !is_in(Family::V6.other()));
    }

    #[test]
    fn a_process_that_has_gone_has_no_tables() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(Listeners::near(child.id(), Family::V4).is_err());
    }
}
