//! Which connections keep a port from listeners.

use std::{collections::HashMap, io, net::SocketAddr};

use super::{Owner, proc};

/// One end of a TCP connection: it keeps others from listening on its port, although nobody listens there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Connection {
    /// The end on this machine.
    pub local: SocketAddr,
    /// The other end, where the system tells.
    pub remote: Option<SocketAddr>,
    /// It has ended, and its port is kept for a minute or two so that nothing belated meets a stranger (TIME-WAIT).
    pub lingers: bool,
    /// The process that holds it, where this user may see it; nobody holds one that lingers.
    pub owner: Option<Owner>,
}

/// The connections whose end on this machine has this port, also those that a listener there has accepted; those that
/// linger come last.
pub fn connections(port: u16) -> io::Result<Vec<Connection>> {
    let mut owners = proc::owners_of_connections(port).unwrap_or_default();
    let mut found = ends(port, &mut owners)?;
    found.sort_by_key(|connection| connection.lingers);
    Ok(found)
}

#[cfg(target_os = "linux")]
fn ends(port: u16, owners: &mut HashMap<SocketAddr, Vec<Owner>>) -> io::Result<Vec<Connection>> {
    let tables = linux::tables()?;
    let ends = tables.lines().filter_map(linux::parse).filter(|end| end.local.port() == port);
    // Connections of one port with different others share an address here, and mostly a process, too.
    let mut owner = |end: &linux::End| owners.get_mut(&end.local).filter(|_| !end.lingers).and_then(Vec::pop);
    let connection = |end: linux::End| Connection {
        owner: owner(&end),
        local: end.local,
        remote: Some(end.remote),
        lingers: end.lingers,
    };
    Ok(ends.map(connection).collect())
}

/// Those whose owner this user may see.
#[cfg(not(target_os = "linux"))]
fn ends(_: u16, owners: &mut HashMap<SocketAddr, Vec<Owner>>) -> io::Result<Vec<Connection>> {
    let connection = |local, owner| Connection { local, remote: None, lingers: false, owner: Some(owner) };
    let of_one =
        |(local, owners): (SocketAddr, Vec<Owner>)| owners.into_iter().map(move |owner| connection(local, owner));
    Ok(owners.drain().flat_map(of_one).collect())
}

#[cfg(target_os = "linux")]
mod linux {
    use std::net::SocketAddr;

    use super::super::sockets::linux::parse_address;
    pub(super) use super::super::sockets::linux::text_tables as tables;

    /// The end of a connection that is ours.
    #[derive(Debug, PartialEq, Eq)]
    pub(super) struct End {
        pub(super) local: SocketAddr,
        pub(super) remote: SocketAddr,
        pub(super) lingers: bool,
    }

    /// One line of a table (`man 5 proc_pid_net`), its state as in the kernel's `net/tcp_states.h`; `None` for a heading and
    /// for a socket that listens.
    pub(super) fn parse(line: &str) -> Option<End> {
        const LISTEN: &str = "0A";
        const TIME_WAIT: &str = "06";
        // sl local remote st ..
        let mut fields = line.split_ascii_whitespace().skip(1);
        let (local, remote, state) = (fields.next()?, fields.next()?, fields.next()?);
        let ends = |lingers| Some(End { local: parse_address(local)?, remote: parse_address(remote)?, lingers });
        if state == LISTEN { None } else { ends(state == TIME_WAIT) }
    }

    #[cfg(test)]
    #[cfg(target_endian = "little")]
    mod tests {
        use super::*;

        #[test]
        fn a_connection_has_two_ends_and_may_be_over() {
            let state =
                |state: &str| parse(&format!("   1: 0100007F:F5AD 0200007F:1435 {state} 00000000:00000000")).unwrap();
            let [local, remote] = ["127.0.0.1:62893", "127.0.0.2:5173"].map(|address| address.parse().unwrap());
            assert_eq!(state("01"), End { local, remote, lingers: false });
            assert_eq!(state("06"), End { local, remote, lingers: true });
        }

        #[test]
        fn headings_listeners_and_torn_lines_are_passed_over() {
            for line in [
                "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode",
                "   0: 0100007F:F5AD 00000000:0000 0A 00000000:00000000",
                "   0: 0100:F5AD 00000000:0000 01",
                "   0: 0100007F:F5AD",
                "",
            ] {
                assert_eq!(parse(line), None, "{line}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::{TcpListener, TcpStream};

    use super::*;

    #[test]
    fn a_connection_is_found_by_the_port_of_its_own_end() {
        let socket = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = socket.local_addr().unwrap();
        let client = TcpStream::connect(address).unwrap();
        let (_server, _) = socket.accept().unwrap();
        let local = client.local_addr().unwrap();
        let found = connections(local.port()).unwrap();
        // One that has just ended may have had the same port.
        let is_ours = |connection: &&Connection| connection.local == local && !connection.lingers;
        let ours = found.iter().find(is_ours).expect("an open connection is found");
        assert_eq!(ours.owner.as_ref().map(|owner| owner.pid), Some(std::process::id()));
        if cfg!(target_os = "linux") {
            assert_eq!(ours.remote, Some(address));
        }
    }
}
