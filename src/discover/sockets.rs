//! Which TCP sockets of this machine listen, asked in microseconds.
//!
//! `/proc/net/tcp` walks every bucket of the kernel's tables of connections, milliseconds of work for one answer. The
//! question is asked some ten times a second, so it goes to the kernel's socket diagnosis instead (`man 7 sock_diag`),
//! which is told to look at listeners only: some 20 µs a family. Where a sandbox forbids that, the tables are read.

use std::{io, net::SocketAddr};

/// A socket that accepts connections.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Socket {
    /// Where it listens; an IPv4 address that is held through an IPv6 socket is told as IPv4.
    pub address: SocketAddr,
    /// The number of the socket itself, by which the processes that hold it are found.
    pub inode: u64,
    /// Who opened it.
    pub uid: u32,
}

/// Asks the kernel, as often as wanted.
#[cfg(target_os = "linux")]
#[derive(Debug, Default)]
pub struct Lookout {
    diagnosis: Option<linux::Diagnosis>,
    is_refused: bool,
}

#[cfg(target_os = "linux")]
impl Lookout {
    /// Every socket that listens now, by port, then by address.
    pub fn look(&mut self) -> io::Result<Vec<Socket>> {
        let mut sockets = match self.diagnose() {
            Some(sockets) => sockets,
            None => linux::tables()?,
        };
        sockets.sort_by_key(|socket| (socket.address.port(), socket.address.ip(), socket.inode));
        Ok(sockets)
    }

    fn diagnose(&mut self) -> Option<Vec<Socket>> {
        if self.is_refused {
            return None;
        }
        let asked = self.diagnosis.take().map_or_else(linux::Diagnosis::open, Ok).and_then(|mut diagnosis| {
            let sockets = diagnosis.listeners()?;
            self.diagnosis = Some(diagnosis);
            Ok(sockets)
        });
        // Want of a descriptor passes; a sandbox does not.
        self.is_refused =
            asked.as_ref().is_err_and(|error| !matches!(error.raw_os_error(), Some(lack) if is_lack(lack)));
        asked.ok()
    }
}

/// EMFILE, ENFILE, ENOBUFS, or an answer that did not come in time.
#[cfg(target_os = "linux")]
fn is_lack(error: i32) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE, Errno::NOBUFS, Errno::AGAIN, Errno::INTR]
        .iter()
        .any(|lack| lack.raw_os_error() == error)
}

/// Asks the system, as often as wanted.
#[cfg(not(target_os = "linux"))]
#[derive(Debug, Default)]
pub struct Lookout;

#[cfg(not(target_os = "linux"))]
impl Lookout {
    /// Every socket that listens now, by port, then by address. Its number is that of its process.
    pub fn look(&mut self) -> io::Result<Vec<Socket>> {
        let listeners = super::listeners()?;
        let socket = |listener: super::Listener| Socket {
            address: listener.address,
            inode: listener.owner.map_or(0, |owner| owner.pid.into()),
            uid: listener.uid.unwrap_or_default(),
        };
        Ok(listeners.into_iter().map(socket).collect())
    }
}

/// What a line of a table of sockets (`man 5 proc_pid_net`) tells; `None` for one that does not listen.
#[cfg(target_os = "linux")]
pub(super) fn listener_of(line: &str) -> Option<SocketAddr> {
    linux::parse_line(line).map(|socket| socket.address)
}

/// Other systems have no such tables.
#[cfg(not(target_os = "linux"))]
pub(super) fn listener_of(_: &str) -> Option<SocketAddr> {
    None
}

/// The processes, of those given, that hold one of these sockets.
#[cfg(target_os = "linux")]
pub fn holders(sockets: &[Socket], pids: impl IntoIterator<Item = u32>) -> Vec<(u32, Socket)> {
    let by_inode: std::collections::HashMap<u64, &Socket> =
        sockets.iter().map(|socket| (socket.inode, socket)).collect();
    let held = |pid: u32| {
        let files = std::fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
        let inode =
            |link: std::path::PathBuf| link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse::<u64>().ok();
        let mut found: Vec<Socket> = files
            .filter_map(|file| inode(std::fs::read_link(file.path()).ok()?))
            .filter_map(|inode| by_inode.get(&inode).map(|socket| (*socket).clone()))
            .collect();
        found.sort();
        found.dedup();
        found.into_iter().map(move |socket| (pid, socket))
    };
    pids.into_iter().flat_map(held).collect()
}

/// The processes, of those given, that hold one of these sockets.
#[cfg(not(target_os = "linux"))]
pub fn holders(sockets: &[Socket], pids: impl IntoIterator<Item = u32>) -> Vec<(u32, Socket)> {
    let held =
        |pid: u32| sockets.iter().filter(move |socket| socket.inode == u64::from(pid)).map(move |s| (pid, s.clone()));
    pids.into_iter().flat_map(held).collect()
}

#[cfg(target_os = "linux")]
pub(super) mod linux {
    use std::{
        fs, io,
        net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
        os::fd::OwnedFd,
        time::Duration,
    };

    use rustix::net::{
        AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, recv, send, socket_with, sockopt,
    };

    use super::Socket;

    /// `TCP_LISTEN` of the kernel's `net/tcp_states.h`.
    const LISTEN: u32 = 10;

    /// `struct inet_diag_msg` of `linux/inet_diag.h`: what it tells of one socket.
    const MESSAGE: usize = 72;

    /// A socket to the kernel's diagnosis of sockets.
    #[derive(Debug)]
    pub(super) struct Diagnosis {
        socket: OwnedFd,
        buffer: Vec<u8>,
    }

    impl Diagnosis {
        pub(super) fn open() -> io::Result<Self> {
            let socket =
                socket_with(AddressFamily::NETLINK, SocketType::DGRAM, SocketFlags::CLOEXEC, Some(netlink::SOCK_DIAG))?;
            // The kernel answers at once; a sandbox that swallows the question must not hang us.
            sockopt::set_socket_timeout(&socket, sockopt::Timeout::Recv, Some(Duration::from_millis(200)))?;
            Ok(Self { socket, buffer: vec![0; 32 * 1024] })
        }

        pub(super) fn listeners(&mut self) -> io::Result<Vec<Socket>> {
            let mut found = Vec::new();
            for family in [AddressFamily::INET, AddressFamily::INET6] {
                send(&self.socket, &request(family), SendFlags::empty())?;
                self.answer(&mut found)?;
            }
            Ok(found)
        }

        fn answer(&mut self, found: &mut Vec<Socket>) -> io::Result<()> {
            loop {
                let (length, _) = recv(&self.socket, &mut *self.buffer, RecvFlags::empty())?;
                let mut rest = &self.buffer[..length];
                while let Some((kind, content, behind)) = message(rest) {
                    match kind {
                        Kind::Done => return Ok(()),
                        Kind::Error => return Err(io::Error::other("the kernel does not tell of its sockets")),
                        Kind::Socket => found.extend(parse(content)),
                    }
                    rest = behind;
                }
            }
        }
    }

    /// What a message of netlink is (`man 7 netlink`).
    enum Kind {
        Done,
        Error,
        Socket,
    }

    /// `struct nlmsghdr`, then `struct inet_diag_req_v2`: every socket of this family that listens on TCP.
    fn request(family: AddressFamily) -> [u8; 72] {
        const SOCK_DIAG_BY_FAMILY: u16 = 20;
        const REQUEST_AND_DUMP: u16 = 0x301;
        const TCP: u8 = 6;
        let mut bytes = [0; 72];
        bytes[0..4].copy_from_slice(&72u32.to_ne_bytes());
        bytes[4..6].copy_from_slice(&SOCK_DIAG_BY_FAMILY.to_ne_bytes());
        bytes[6..8].copy_from_slice(&REQUEST_AND_DUMP.to_ne_bytes());
        bytes[16] = family.as_raw() as u8;
        bytes[17] = TCP;
        bytes[20..24].copy_from_slice(&(1u32 << LISTEN).to_ne_bytes());
        bytes
    }

    /// The first message, its content, and what stands behind it.
    fn message(bytes: &[u8]) -> Option<(Kind, &[u8], &[u8])> {
        const HEADER: usize = 16;
        let length = u32::from_ne_bytes(bytes.get(..4)?.try_into().ok()?) as usize;
        let kind = match u16::from_ne_bytes(bytes.get(4..6)?.try_into().ok()?) {
            3 => Kind::Done,
            2 => Kind::Error,
            _ => Kind::Socket,
        };
        let content = bytes.get(HEADER..length)?;
        let behind = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, content, behind))
    }

    /// `struct inet_diag_msg`: family, three bytes, ports and addresses as on the wire, .., uid, inode.
    fn parse(message: &[u8]) -> Option<Socket> {
        let message: &[u8; MESSAGE] = message.get(..MESSAGE)?.try_into().ok()?;
        let word = |at: usize| [message[at], message[at + 1], message[at + 2], message[at + 3]];
        let port = u16::from_be_bytes([message[4], message[5]]);
        let ip = match AddressFamily::from_raw(message[0].into()) {
            AddressFamily::INET => IpAddr::V4(Ipv4Addr::from(word(8))),
            AddressFamily::INET6 => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(&message[8..24]).ok()?)),
            _ => return None,
        };
        let (uid, inode) = (u32::from_ne_bytes(word(64)), u32::from_ne_bytes(word(68)));
        Some(Socket { address: SocketAddr::new(ip.to_canonical(), port), inode: inode.into(), uid })
    }

    /// The same from the tables that the kernel writes as text.
    pub(super) fn tables() -> io::Result<Vec<Socket>> {
        Ok(text_tables()?.lines().filter_map(parse_line).collect())
    }

    /// Every TCP socket of both families, a line each (`man 5 proc_pid_net`).
    pub(in crate::discover) fn text_tables() -> io::Result<String> {
        let mut tables = fs::read_to_string("/proc/net/tcp")?;
        match fs::read_to_string("/proc/net/tcp6") {
            Ok(table) => tables.push_str(&table),
            // A kernel without IPv6 has no such table.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        Ok(tables)
    }

    /// One line of a table; `None` for a heading and for a socket that does not listen.
    pub(super) fn parse_line(line: &str) -> Option<Socket> {
        // sl local remote st tx:rx tr:when retrnsmt uid timeout inode ..
        let mut fields = line.split_ascii_whitespace();
        let local = fields.nth(1)?;
        let state = u32::from_str_radix(fields.nth(1)?, 16).ok()?;
        let uid = fields.nth(3)?.parse().ok()?;
        let inode = fields.nth(1)?.parse().ok()?;
        (state == LISTEN).then_some(Socket { address: parse_address(local)?, inode, uid })
    }

    /// `0100007F:F5AD` or, with four words before the colon, an IPv6 address.
    pub(in crate::discover) fn parse_address(text: &str) -> Option<SocketAddr> {
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
        Some(SocketAddr::new(ip.to_canonical(), u16::from_str_radix(port, 16).ok()?))
    }

    /// The kernel prints each four bytes of an address as one number in the order of the machine.
    fn parse_word(hex: &str) -> Option<[u8; 4]> {
        u32::from_str_radix(hex, 16).ok().map(u32::to_ne_bytes)
    }

    #[cfg(test)]
    #[cfg(target_endian = "little")]
    mod tests {
        use super::*;

        fn socket(address: &str, uid: u32, inode: u64) -> Option<Socket> {
            Some(Socket { address: address.parse().unwrap(), inode, uid })
        }

        #[test]
        fn a_listening_line_tells_address_user_and_socket() {
            let line = "   0: 0100007F:F5AD 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 31842 1 \
                        0000000000000000 100 0 0 10 0";
            assert_eq!(parse_line(line), socket("127.0.0.1:62893", 1000, 31842));
        }

        #[test]
        fn an_ipv6_address_is_four_words_each_in_the_order_of_the_machine() {
            let rest = "00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 1 1 0 100";
            let parsed = |address: &str| parse_line(&format!("  12: {address}:1435 {rest}"));
            assert_eq!(parsed("00000000000000000000000001000000"), socket("[::1]:5173", 0, 1));
            assert_eq!(parsed("00000000000000000000000000000000"), socket("[::]:5173", 0, 1));
            assert_eq!(parsed("B80D0120000000000000000001000000"), socket("[2001:db8::1]:5173", 0, 1));
        }

        #[test]
        fn an_ipv4_address_in_the_table_of_ipv6_is_told_as_ipv4() {
            let line = "   3: 0000000000000000FFFF00000100007F:1F90 00000000000000000000000000000000:0000 0A \
                        00000000:00000000 00:00000000 00000000 1000 0 9 1 0 100";
            assert_eq!(parse_line(line), socket("127.0.0.1:8080", 1000, 9));
        }

        #[test]
        fn headings_connections_and_torn_lines_are_passed_over() {
            let established =
                "   1: 0100007F:F5AD 0100007F:1435 01 00000000:00000000 00:00000000 00000000 1000 0 9 1 0";
            for line in [
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
                established,
                "   0: 0100007F:F5AD 00000000:0000 0A",
                "   0: 0100:F5AD 00000000:0000 0A 0:0 0:0 0 1000 0 9",
                "",
            ] {
                assert_eq!(parse_line(line), None, "{line}");
            }
        }

        #[test]
        fn the_kernel_tells_the_same_in_both_tongues() {
            let sockets = [
                std::net::TcpListener::bind("127.0.0.1:0").unwrap(),
                std::net::TcpListener::bind("0.0.0.0:0").unwrap(),
            ];
            let told = Diagnosis::open().and_then(|mut diagnosis| diagnosis.listeners()).unwrap();
            let written = tables().unwrap();
            for socket in &sockets {
                let address = socket.local_addr().unwrap();
                let find = |all: &[Socket]| all.iter().find(|socket| socket.address == address).cloned();
                assert!(find(&told).is_some(), "{address} among {told:?}");
                assert_eq!(find(&told), find(&written));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn whoever_holds_a_socket_is_found_by_it() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let sockets = Lookout::default().look().unwrap();
        let own = std::process::id();
        let held = holders(&sockets, [1, own]);
        assert!(held.iter().any(|(pid, socket)| (*pid, socket.address) == (own, address)), "{held:?}");
    }

    #[test]
    fn a_socket_that_is_closed_is_gone_at_the_next_look() {
        let mut lookout = Lookout::default();
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let is_there = |lookout: &mut Lookout| lookout.look().unwrap().iter().any(|socket| socket.address == address);
        assert!(is_there(&mut lookout));
        drop(socket);
        assert!(!is_there(&mut lookout));
    }
}
