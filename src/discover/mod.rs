//! Programs we find: who listens where on this machine.
//!
//! Whether a program listens is read from the system and never tried by connecting: a debugger dies of a trial
//! connection. [`listeners()`] reads everything, [`owner_of`] answers for one address, [`cannot_bind`]
//! tells a person why a socket of ours could not be had, [`Leads`] tells which routes lead to a listener, and
//! [`names`] proposes routes to what is there. Each call looks anew; [`look`] shares one among many who ask, and
//! [`neighbours`] finds the program that somebody missed.

pub mod attach;
mod bind;
mod connections;
pub mod container;
pub mod follow;
mod leads;
pub mod look;
pub mod neighbours;
mod proc;
mod propose;
mod sockets;
mod users;
mod usual;
mod words;

use std::{
    io,
    net::{IpAddr, SocketAddr},
    path::PathBuf,
    time::SystemTime,
};

pub use bind::{Purpose, cannot_bind};
pub use connections::{Connection, connections};
pub use leads::{Lead, Leads, leads, served_at, targets};
pub use propose::{names, route_line, target_of};
pub use sockets::{Lookout, Socket, holders};
pub use users::user_name;
pub use usual::usual;
pub use words::{command, container_holder, holder, own_end, way_to_end, way_to_stop};

/// The name of our own executable.
const PORTOLAN: &str = env!("CARGO_PKG_NAME");

/// One TCP socket of this machine that accepts connections.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    /// Where it listens; an IPv4 address that is held through an IPv6 socket is told as IPv4.
    pub address: SocketAddr,
    /// The process that holds it, where this user may see it.
    pub owner: Option<Owner>,
    /// The user who opened it; `None` on systems that have no such number.
    pub uid: Option<u32>,
}

/// A process that holds a [`Listener`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Owner {
    /// What `kill` takes.
    pub pid: u32,
    /// The file name of its executable, such as `node`.
    pub program: String,
    /// The words it was started with, joined by blanks; control characters are escaped.
    pub command: String,
    /// The folder it works in.
    pub folder: Option<PathBuf>,
    /// When it began.
    pub started: Option<SystemTime>,
}

impl Listener {
    /// What the user who opened it is called, where the system tells.
    pub fn user(&self) -> Option<String> {
        user_name(self.uid?)
    }

    /// Whether the user who asks has opened it, though perhaps where that user cannot look.
    pub fn is_own(&self) -> bool {
        self.uid.is_some() && self.uid == words::own_uid()
    }
}

impl Owner {
    /// Whether it runs this very program, here or in another folder.
    pub fn is_portolan(&self) -> bool {
        self.program == PORTOLAN
    }
}

/// Every TCP listener of this machine, by port, then by address.
pub fn listeners() -> io::Result<Vec<Listener>> {
    let mut found = proc::listeners()?;
    found.sort_by_key(|listener| (listener.address.port(), listener.address.ip()));
    Ok(found)
}

/// Who keeps others from listening on `address`, whether it holds that address alone or a wildcard.
///
/// `None` also where the system does not tell: what cannot be seen is not an error of the asker.
pub fn owner_of(address: SocketAddr) -> Option<Listener> {
    in_the_way(&listeners().ok()?, address).cloned()
}

/// How a listener stands in the way of an address, the most certain first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Hold {
    /// The same address.
    Exact,
    /// Every address of the same family.
    Wildcard,
    /// `[::]` for an IPv4 address: in the way unless the socket is for IPv6 only, which the system does not show.
    DualStack,
    /// One address where every one is wanted.
    Part,
}

/// The listener that most certainly keeps others from `wanted`; of equals one whose owner is known.
pub fn in_the_way<'a>(found: impl IntoIterator<Item = &'a Listener>, wanted: SocketAddr) -> Option<&'a Listener> {
    let holds = |listener: &'a Listener| Some((hold(listener.address, wanted)?, listener));
    let closest = found.into_iter().filter_map(holds).min_by_key(|(hold, listener)| (*hold, listener.owner.is_none()));
    closest.map(|(_, listener)| listener)
}

/// Whether, and how, a socket that listens on `held` stands in the way of `wanted`.
fn hold(held: SocketAddr, wanted: SocketAddr) -> Option<Hold> {
    if held.port() != wanted.port() {
        return None;
    }
    let (held, wanted) = (held.ip().to_canonical(), wanted.ip().to_canonical());
    let same_family = held.is_ipv4() == wanted.is_ipv4();
    match (held, wanted) {
        _ if held == wanted => Some(Hold::Exact),
        _ if same_family && held.is_unspecified() => Some(Hold::Wildcard),
        (IpAddr::V6(_), IpAddr::V4(_)) if held.is_unspecified() => Some(Hold::DualStack),
        _ if same_family && wanted.is_unspecified() => Some(Hold::Part),
        (IpAddr::V4(_), IpAddr::V6(_)) if wanted.is_unspecified() => Some(Hold::Part),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    fn address(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    fn listener(text: &str, pid: Option<u32>) -> Listener {
        let owner = pid.map(|pid| Owner {
            pid,
            program: "node".into(),
            command: "node server.js".into(),
            folder: None,
            started: None,
        });
        Listener { address: address(text), owner, uid: None }
    }

    fn bound(text: &str) -> io::Result<(TcpListener, SocketAddr)> {
        let socket = TcpListener::bind(text)?;
        let address = socket.local_addr()?;
        Ok((socket, address))
    }

    #[test]
    fn this_process_is_found_as_the_owner_of_its_own_socket() {
        let (_socket, address) = bound("127.0.0.1:0").unwrap();
        let found = owner_of(address).expect("a socket that listens is found");
        assert_eq!(found.address, address);
        let owner = found.owner.expect("one's own process can be seen");
        assert_eq!(owner.pid, std::process::id());
        assert_eq!(owner.folder, std::env::current_dir().ok());
        assert!(owner.command.starts_with(&std::env::args().next().unwrap()), "{}", owner.command);
        assert!(std::env::current_exe().unwrap().ends_with(&owner.program), "{}", owner.program);
        assert!(owner.started.expect("it began some time") <= SystemTime::now());
    }

    #[test]
    fn a_socket_of_ipv6_is_found_under_its_own_address() {
        let Ok((_socket, address)) = bound("[::1]:0") else {
            eprintln!("SKIPPED: this machine has no [::1]");
            return;
        };
        let found = owner_of(address).expect("a socket that listens is found");
        assert_eq!(found.address, address);
        assert_eq!(found.owner.map(|owner| owner.pid), Some(std::process::id()));
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_of_ours_carries_our_user() {
        let (_socket, address) = bound("127.0.0.1:0").unwrap();
        assert_eq!(owner_of(address).unwrap().uid, Some(rustix::process::geteuid().as_raw()));
    }

    #[test]
    fn a_connection_is_no_listener() {
        let (socket, address) = bound("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_server, _) = socket.accept().unwrap();
        drop(socket);
        assert_eq!(owner_of(address), None);
        assert_eq!(owner_of(client.local_addr().unwrap()), None);
    }

    #[test]
    fn listeners_are_sorted_by_port_and_then_by_address() {
        let _sockets = [bound("127.0.0.1:0").unwrap(), bound("127.0.0.1:0").unwrap()];
        let keys: Vec<_> =
            listeners().unwrap().iter().map(|found| (found.address.port(), found.address.ip())).collect();
        assert!(keys.len() >= 2 && keys.is_sorted(), "{keys:?}");
    }

    #[test]
    fn a_wildcard_holds_every_address_of_its_family() {
        assert_eq!(hold(address("0.0.0.0:80"), address("127.0.0.1:80")), Some(Hold::Wildcard));
        assert_eq!(hold(address("[::]:80"), address("[::1]:80")), Some(Hold::Wildcard));
        assert_eq!(hold(address("[::]:80"), address("127.0.0.1:80")), Some(Hold::DualStack));
        assert_eq!(hold(address("0.0.0.0:80"), address("[::1]:80")), None);
    }

    #[test]
    fn whoever_wants_the_wildcard_meets_every_single_address() {
        assert_eq!(hold(address("127.0.0.1:80"), address("0.0.0.0:80")), Some(Hold::Part));
        assert_eq!(hold(address("127.0.0.1:80"), address("[::]:80")), Some(Hold::Part));
        assert_eq!(hold(address("[::1]:80"), address("0.0.0.0:80")), None);
    }

    #[test]
    fn another_port_or_another_address_is_nobodys_business() {
        assert_eq!(hold(address("127.0.0.1:81"), address("127.0.0.1:80")), None);
        assert_eq!(hold(address("127.0.0.2:80"), address("127.0.0.1:80")), None);
        assert_eq!(hold(address("[::1]:80"), address("127.0.0.1:80")), None);
    }

    #[test]
    fn an_ipv4_address_inside_an_ipv6_one_is_the_same_address() {
        assert_eq!(hold(address("[::ffff:127.0.0.1]:80"), address("127.0.0.1:80")), Some(Hold::Exact));
    }

    #[test]
    fn the_most_certain_holder_is_named_and_a_known_one_before_an_unknown_one() {
        let found = vec![
            listener("[::]:80", Some(1)),
            listener("0.0.0.0:80", Some(2)),
            listener("127.0.0.1:80", None),
            listener("127.0.0.1:80", Some(3)),
        ];
        let pid = |wanted: &str| in_the_way(&found, address(wanted))?.owner.as_ref().map(|owner| owner.pid);
        assert_eq!(pid("127.0.0.1:80"), Some(3));
        assert_eq!(pid("127.0.0.9:80"), Some(2));
        assert_eq!(pid("[::1]:80"), Some(1));
        assert_eq!(pid("127.0.0.1:81"), None);
    }
}
