//! Whether a program inside of a container listens.
//!
//! An engine's helper takes connections for a published port for as long as the container is there, and drops those that
//! its program does not take: while it starts, while it restarts in there, and when it has just ended. So a connection
//! that was taken tells nothing. Linux shows the sockets of another network through any process that is in it; where
//! that cannot be seen, as in the virtual machine of Docker Desktop, nobody is kept from trying.

use std::{
    collections::HashMap,
    fs,
    hash::{Hash, Hasher},
    io,
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use super::{
    Network,
    tables::{Family, Listeners},
};

/// How long the word holds that nobody listens: a sixteenth of the time for which nobody has listened, within these.
/// To see that nobody listens takes milliseconds, that somebody does some fifty microseconds.
const HOLDS: (Duration, Duration) = (Duration::from_millis(50), Duration::from_secs(1));

/// The inside of a container on this machine, from its start to its end.
#[derive(Debug)]
pub struct Inside {
    pid: u32,
    id: String,
    ports: Mutex<HashMap<u16, Port>>,
}

/// What is to be heard at a port inside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Sound {
    /// Somebody listens, or that cannot be seen.
    Listens,
    /// Nobody does whom a connection from outside would reach; there are these sockets.
    Deaf(Vec<SocketAddr>),
    /// The container's first process is not there: not yet or not any more, which its engine has not told.
    Absent,
}

/// What is remembered of a port.
#[derive(Debug)]
struct Port {
    /// Where a listener was found last.
    family: Family,
    deaf: Option<Deaf>,
}

/// A port at which nobody listened.
#[derive(Debug)]
struct Deaf {
    since: Instant,
    looked: Instant,
    sockets: Vec<SocketAddr>,
}

impl Inside {
    /// The inside of the container `id`, of which `pid` is the first process.
    pub(super) fn of(pid: u32, id: &str) -> Arc<Self> {
        Arc::new(Self { pid, id: id.into(), ports: Mutex::default() })
    }

    /// Its first process.
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether its first process is a process of this machine now.
    pub(super) fn is_there(&self) -> bool {
        is_in(self.pid, &self.id) && !is_ending(self.pid)
    }

    /// Listens at a port, by `network` from the outside or not.
    pub(super) fn listen(&self, port: u16, network: &Network) -> Sound {
        let mut ports = self.ports.lock().unwrap_or_else(PoisonError::into_inner);
        let port_of = ports.entry(port).or_default();
        if let Some(deaf) = port_of.deaf.as_ref().filter(|deaf| deaf.holds(Instant::now())) {
            return Sound::Deaf(deaf.sockets.clone());
        }
        let sound = port_of.look(self.pid, |socket| socket.port() == port && is_reached(socket, network));
        // It may have ended meanwhile, and its number be another's.
        let sound = if self.is_there() { sound } else { Sound::Absent };
        port_of.remember(&sound, Instant::now());
        sound
    }
}

/// Whether a process is about to be gone: the end of the first one takes the others of its container along, whose sockets
/// still listen until it is their turn.
fn is_ending(pid: u32) -> bool {
    /// `PF_EXITING` of the kernel's `linux/sched.h`.
    const EXITING: u64 = 4;
    /// The ninth signal, which nothing survives, as a bit.
    const KILL: u64 = 1 << 8;
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    // The name stands in parentheses and may have some in it; flags are the 9th word of all, pending signals the 31st
    // (`man 5 proc_pid_stat`).
    let mut words = stat.rsplit(')').next().unwrap_or_default().split_ascii_whitespace();
    let flags: Option<u64> = words.nth(9 - 3).and_then(|word| word.parse().ok());
    let pending: Option<u64> = words.nth(31 - 10).and_then(|word| word.parse().ok());
    flags.is_none_or(|flags| flags & EXITING != 0) || pending.is_none_or(|pending| pending & KILL != 0)
}

impl Port {
    fn look(&mut self, pid: u32, is_wanted: impl Fn(SocketAddr) -> bool) -> Sound {
        let mut sockets = Vec::new();
        for family in [self.family, self.family.other()] {
            match Listeners::near(pid, family) {
                Ok(listeners) => {
                    for socket in listeners {
                        if is_wanted(socket) {
                            self.family = family;
                            return Sound::Listens;
                        }
                        sockets.push(socket);
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::PermissionDenied => return Sound::Listens,
                // The process has gone, or its network has no such family.
                Err(_) => {}
            }
        }
        Sound::Deaf(sockets)
    }

    fn remember(&mut self, sound: &Sound, now: Instant) {
        self.deaf = match sound {
            Sound::Deaf(sockets) => {
                let since = self.deaf.as_ref().map_or(now, |deaf| deaf.since);
                Some(Deaf { since, looked: now, sockets: sockets.clone() })
            }
            Sound::Listens | Sound::Absent => None,
        };
    }
}

impl Default for Port {
    /// Most servers listen for both families through one socket of IPv6.
    fn default() -> Self {
        Self { family: Family::V6, deaf: None }
    }
}

impl Deaf {
    /// Whether another look would be too soon.
    fn holds(&self, now: Instant) -> bool {
        let holds = (self.looked - self.since) / 16;
        now < self.looked + holds.clamp(HOLDS.0, HOLDS.1)
    }
}

/// A socket for the inside alone is reached where the network is the machine's: there, inside is here.
fn is_reached(socket: SocketAddr, network: &Network) -> bool {
    *network == Network::Host || !is_loopback(socket.ip())
}

/// Also of an IPv4 address that an IPv6 socket holds.
pub(super) fn is_loopback(ip: IpAddr) -> bool {
    ip.to_canonical().is_loopback()
}

/// Whether a process of this machine is in the container: engines name its control group after its id.
fn is_in(pid: u32, id: &str) -> bool {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup"));
    !id.is_empty() && groups.is_ok_and(|groups| groups.contains(id))
}

impl PartialEq for Inside {
    fn eq(&self, other: &Self) -> bool {
        (self.pid, &self.id) == (other.pid, &other.id)
    }
}

impl Eq for Inside {}

impl Hash for Inside {
    fn hash<H: Hasher>(&self, state: &mut H) {
        (self.pid, &self.id).hash(state);
    }
}

#[cfg(test)]
#[cfg(target_os = "linux")]
mod tests {
    use std::net::TcpListener;

    use super::*;

    /// A container whose first process is this very one.
    fn here() -> Inside {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap();
        Inside { pid: std::process::id(), id: groups.lines().next().unwrap().into(), ports: Mutex::default() }
    }

    fn listener(address: &str) -> (TcpListener, u16) {
        let listener = TcpListener::bind(address).unwrap();
        let port = listener.local_addr().unwrap().port();
        (listener, port)
    }

    fn deaf(looked_after: Duration) -> Deaf {
        let since = Instant::now();
        Deaf { since, looked: since + looked_after, sockets: Vec::new() }
    }

    #[test]
    fn a_socket_for_the_outside_is_heard_at_once_and_until_it_is_closed() {
        let (listener, port) = listener("0.0.0.0:0");
        let inside = here();
        assert_eq!(inside.listen(port, &Network::Own), Sound::Listens);
        drop(listener);
        assert!(matches!(inside.listen(port, &Network::Own), Sound::Deaf(_)));
    }

    #[test]
    fn a_socket_for_the_inside_alone_is_heard_where_inside_is_the_machine() {
        let (listener, port) = listener("127.0.0.1:0");
        let Sound::Deaf(sockets) = here().listen(port, &Network::Own) else { panic!("it is not reached") };
        assert!(sockets.contains(&listener.local_addr().unwrap()), "{sockets:?}");
        assert_eq!(here().listen(port, &Network::Host), Sound::Listens);
    }

    #[test]
    fn a_process_that_is_another_s_by_now_is_not_taken_for_the_container() {
        let (_listener, port) = listener("0.0.0.0:0");
        let inside = Inside { id: "1d0f".repeat(16), ..here() };
        assert_eq!(inside.listen(port, &Network::Own), Sound::Absent);
        assert!(!inside.is_there() && here().is_there());
    }

    #[test]
    fn a_process_that_has_ended_is_not_there_before_anybody_has_noticed() {
        use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};
        let mut child = std::process::Command::new("true").spawn().unwrap();
        let until_it_ends = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        waitid(WaitId::Pid(Pid::from_child(&child)), until_it_ends).unwrap();
        assert!(is_ending(child.id()));
        assert!(!is_ending(std::process::id()));
        child.wait().unwrap();
        assert!(is_ending(child.id()));
    }

    #[test]
    fn the_word_that_nobody_listens_holds_the_longer_the_longer_that_is_so() {
        let holds_for = |deaf: &Deaf, millis: u64| deaf.holds(deaf.looked + Duration::from_millis(millis));
        let (young, older, old) = (deaf(Duration::ZERO), deaf(Duration::from_secs(8)), deaf(Duration::from_secs(3600)));
        assert!(holds_for(&young, 49) && !holds_for(&young, 50));
        assert!(holds_for(&older, 499) && !holds_for(&older, 500));
        assert!(holds_for(&old, 999) && !holds_for(&old, 1000));
    }

    #[test]
    fn the_time_for_which_nobody_listens_begins_anew_with_somebody_who_did() {
        let mut port = Port::default();
        let begun = Instant::now();
        let later = begun + Duration::from_secs(8);
        port.remember(&Sound::Deaf(Vec::new()), begun);
        port.remember(&Sound::Deaf(Vec::new()), later);
        assert_eq!(port.deaf.as_ref().map(|deaf| deaf.looked - deaf.since), Some(Duration::from_secs(8)));
        port.remember(&Sound::Listens, later);
        port.remember(&Sound::Deaf(Vec::new()), later);
        assert_eq!(port.deaf.as_ref().map(|deaf| deaf.looked - deaf.since), Some(Duration::ZERO));
    }
}
