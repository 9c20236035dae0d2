//! Which sockets listen inside of a container.
//!
//! An engine's helper takes connections for a published port for as long as the container is there, and drops those that
//! its program does not take: while it starts, while it restarts in there, and when it has just ended. So a connection
//! that was taken tells nothing. Linux shows the sockets of another network through any process that is in it; where
//! that cannot be seen, as in the virtual machine of Docker Desktop, nobody is kept from trying.

use std::net::{IpAddr, SocketAddr};

use super::{Container, Network, State};

/// What can be seen of the inside of a container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Inside {
    /// The sockets that listen in its network.
    Sockets(Vec<SocketAddr>),
    /// Its first process has ended, which its engine may not have told yet.
    Ended,
    /// Nothing.
    Unseen,
}

/// A port inside of a running container, to which one can listen for whether somebody listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Ear {
    pid: u32,
    id: String,
    port: u16,
    /// Whether a socket for the inside alone can be reached: where the network is the machine's, inside is here.
    is_machine: bool,
}

impl Ear {
    /// `None` where the inside cannot be seen.
    pub(super) fn at(container: &Container, port: u16) -> Option<Self> {
        let State::Running { pid: Some(pid), .. } = container.state else { return None };
        Some(Self { pid, id: container.id.clone(), port, is_machine: container.network == Network::Host })
    }

    /// Looks now; reading two small tables takes a fraction of a millisecond.
    pub(super) fn look(&self) -> Inside {
        look(self.pid, &self.id)
    }

    /// Whether a connection to the published port gets to one of these sockets; yes where nothing can be seen.
    pub(super) fn is_heard_by(&self, inside: &Inside) -> bool {
        let reaches =
            |socket: &SocketAddr| socket.port() == self.port && (self.is_machine || !is_loopback(socket.ip()));
        match inside {
            Inside::Sockets(sockets) => sockets.iter().any(reaches),
            Inside::Ended => false,
            Inside::Unseen => true,
        }
    }
}

/// Also of an IPv4 address that an IPv6 socket holds.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

#[cfg(target_os = "linux")]
fn look(pid: u32, id: &str) -> Inside {
    match super::super::proc::listeners_near(pid) {
        // It may have ended meanwhile, and its number be another's.
        Ok(sockets) if is_in(pid, id) => Inside::Sockets(sockets),
        Err(error) if error.kind() == std::io::ErrorKind::PermissionDenied => Inside::Unseen,
        Ok(_) | Err(_) => Inside::Ended,
    }
}

/// Other systems run their containers in a virtual machine.
#[cfg(not(target_os = "linux"))]
fn look(_: u32, _: &str) -> Inside {
    Inside::Unseen
}

/// Whether a process of this machine is in the container: engines name its control group after its id.
#[cfg(target_os = "linux")]
pub(super) fn is_in(pid: u32, id: &str) -> bool {
    let groups = std::fs::read_to_string(format!("/proc/{pid}/cgroup"));
    !id.is_empty() && groups.is_ok_and(|groups| groups.contains(id))
}

/// Other systems run their containers in a virtual machine.
#[cfg(not(target_os = "linux"))]
pub(super) fn is_in(_: u32, _: &str) -> bool {
    false
}

#[cfg(test)]
mod tests {
    use super::{super::samples, *};

    fn is_heard(network: Network, inside: &Inside) -> bool {
        let state = State::Running { since: None, pid: Some(4812) };
        Ear::at(&Container { state, network, ..samples::running("web") }, 8080).unwrap().is_heard_by(inside)
    }

    fn sockets(sockets: &[&str]) -> Inside {
        Inside::Sockets(sockets.iter().map(|socket| socket.parse().unwrap()).collect())
    }

    #[test]
    fn a_socket_that_is_open_to_the_outside_hears() {
        for socket in ["0.0.0.0:8080", "[::]:8080", "172.17.0.2:8080"] {
            assert!(is_heard(Network::Own, &sockets(&[socket])), "{socket}");
        }
        assert!(!is_heard(Network::Own, &sockets(&["0.0.0.0:9229"])));
        assert!(!is_heard(Network::Own, &sockets(&[])));
    }

    #[test]
    fn a_socket_for_the_inside_alone_hears_where_inside_is_the_machine() {
        let loopback = sockets(&["127.0.0.1:8080", "[::1]:8080"]);
        assert!(!is_heard(Network::Own, &loopback));
        assert!(is_heard(Network::Host, &loopback));
    }

    #[test]
    fn what_ended_hears_nothing_and_what_cannot_be_seen_may_hear() {
        assert!(!is_heard(Network::Own, &Inside::Ended));
        assert!(is_heard(Network::Own, &Inside::Unseen));
        assert_eq!(Ear::at(&samples::running("far"), 8080), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_process_that_is_gone_or_another_s_is_not_taken_for_the_container() {
        let ear = |pid| Ear { pid, id: "1d0f".repeat(16), port: 8080, is_machine: false };
        assert_eq!(ear(std::process::id()).look(), Inside::Ended);
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert_eq!(ear(child.id()).look(), Inside::Ended);
    }
}
