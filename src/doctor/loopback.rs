//! Whether this machine reaches itself: 127.0.0.1, `[::1]`, and the name `localhost`.

use std::{
    io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream, ToSocketAddrs},
    thread,
    time::Duration,
};

use super::{Fact, Finding, listed};
use crate::diagnostic::without_number;

const CHECK: &str = "loopback";

/// A connection within the machine takes microseconds; a firewall that drops packets answers never.
const PATIENCE: Duration = Duration::from_secs(1);

/// Sockets of our own that accept and hang up, until the process ends.
#[derive(Debug)]
pub(super) struct Door {
    v4: io::Result<SocketAddr>,
    v6: io::Result<SocketAddr>,
}

impl Door {
    /// Both have one port where that can be had, as a name leads to either.
    pub(super) fn open() -> Self {
        let v4 = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let port = v4.as_ref().map_or(0, SocketAddr::port);
        let at = |port| listen(SocketAddr::from((Ipv6Addr::LOCALHOST, port)));
        let v6 = at(port).or_else(|error| if error.kind() == io::ErrorKind::AddrInUse { at(0) } else { Err(error) });
        Self { v4, v6 }
    }

    /// Where to find it.
    pub(super) fn port(&self) -> Option<u16> {
        let address = self.v4.as_ref().or(self.v6.as_ref()).ok();
        address.map(SocketAddr::port)
    }
}

fn listen(address: SocketAddr) -> io::Result<SocketAddr> {
    let socket = TcpListener::bind(address)?;
    let address = socket.local_addr()?;
    thread::Builder::new().name("door".into()).spawn(move || socket.incoming().for_each(drop))?;
    Ok(address)
}

/// What came of connections to ourselves.
#[derive(Debug)]
pub(super) struct Loopback {
    /// `Known` if it came through, `Absent` if the machine has no such address.
    v4: Fact<()>,
    v6: Fact<()>,
    /// What the name leads to.
    localhost: Fact<Vec<IpAddr>>,
}

pub(super) fn look(door: &Door) -> Loopback {
    Loopback { v4: connect(&door.v4), v6: connect(&door.v6), localhost: localhost() }
}

impl Loopback {
    /// Whether the machine has `[::1]`, reached or not.
    pub(super) fn has_v6(&self) -> bool {
        self.v6 != Fact::Absent
    }
}

fn connect(door: &io::Result<SocketAddr>) -> Fact<()> {
    match door {
        Ok(address) => match TcpStream::connect_timeout(address, PATIENCE) {
            Ok(_) => Fact::Known(()),
            Err(error) => Fact::Unknown(without_number(&error)),
        },
        Err(error) if is_absent(error) => Fact::Absent,
        Err(error) => Fact::Unknown(without_number(error)),
    }
}

/// `EADDRNOTAVAIL` where IPv6 is switched off, `EAFNOSUPPORT` where the kernel has none.
fn is_absent(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::AddrNotAvailable
        || rustix::io::Errno::from_io_error(error) == Some(rustix::io::Errno::AFNOSUPPORT)
}

fn localhost() -> Fact<Vec<IpAddr>> {
    match ("localhost", 0).to_socket_addrs() {
        Ok(found) => Fact::Known(found.map(|address| address.ip()).collect()),
        Err(_) => Fact::Known(Vec::new()),
    }
}

pub(super) fn examine(loopback: &Loopback) -> Vec<Finding> {
    let mut findings = vec![match (&loopback.v4, &loopback.v6) {
        (Fact::Known(()), Fact::Known(())) => Finding::ok(CHECK, "127.0.0.1 and [::1] reach this machine"),
        (Fact::Known(()), Fact::Absent) => {
            Finding::ok(CHECK, "127.0.0.1 reaches this machine; IPv6 is switched off, and not needed")
        }
        (Fact::Known(()), Fact::Unknown(why)) => {
            blocked(Finding::warning(CHECK, format!("a connection to [::1] does not come through: {why}")), "ip6tables")
        }
        (Fact::Unknown(why), _) => blocked(
            Finding::problem(CHECK, format!("a connection to 127.0.0.1 does not come through: {why}")),
            "iptables",
        ),
        (Fact::Absent, _) => Finding::problem(CHECK, "this machine has no 127.0.0.1").help("`sudo ip link set lo up`"),
    }];
    findings.extend(examine_name(&loopback.localhost, loopback.has_v6()));
    findings
}

fn blocked(finding: Finding, tool: &str) -> Finding {
    let finding = finding.note("it was one of our own to ourselves: a firewall stands in the way");
    if cfg!(target_os = "linux") {
        finding.help(format!("`sudo {tool} -I INPUT -i lo -j ACCEPT`"))
    } else {
        finding.help("let the firewall pass what stays on this machine")
    }
}

fn examine_name(localhost: &Fact<Vec<IpAddr>>, has_v6: bool) -> Option<Finding> {
    let found = match localhost {
        Fact::Known(found) => found,
        Fact::Unknown(why) => return Some(Finding::unknown(CHECK, "what `localhost` means", why)),
        Fact::Absent => return None,
    };
    let strangers: Vec<_> = found.iter().filter(|ip| !ip.is_loopback()).collect();
    let finding = if found.is_empty() {
        Finding::problem(CHECK, "`localhost` is not found")
            .help("`echo '127.0.0.1 localhost' | sudo tee -a /etc/hosts`")
    } else if !strangers.is_empty() {
        Finding::problem(CHECK, format!("`localhost` leads to {}, which is not this machine", listed(strangers)))
            .help("mend the line of `localhost` in /etc/hosts")
    } else if !has_v6 && found.iter().all(IpAddr::is_ipv6) {
        Finding::warning(CHECK, "`localhost` is [::1] alone, which this machine does not have")
            .note("programs that listen on `localhost` fail")
            .help("`sudo sysctl net.ipv6.conf.lo.disable_ipv6=0`")
    } else {
        Finding::ok(CHECK, format!("`localhost` is {}", listed(found)))
    };
    Some(finding)
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    const TIMED_OUT: &str = "connection timed out";

    fn ips(addresses: &[&str]) -> Fact<Vec<IpAddr>> {
        Fact::Known(addresses.iter().map(|address| address.parse().unwrap()).collect())
    }

    fn told(v4: Fact<()>, v6: Fact<()>, localhost: &[&str]) -> Vec<Finding> {
        examine(&Loopback { v4, v6, localhost: ips(localhost) })
    }

    #[test]
    fn a_machine_that_reaches_itself_is_well() {
        let expected = [
            Finding::ok("loopback", "127.0.0.1 and [::1] reach this machine"),
            Finding::ok("loopback", "`localhost` is ::1 and 127.0.0.1"),
        ];
        assert_eq!(told(Fact::Known(()), Fact::Known(()), &["::1", "127.0.0.1"]), expected);
    }

    #[test]
    fn ipv6_may_be_missing_unless_localhost_means_nothing_else() {
        let told = |localhost: &[&str]| told(Fact::Known(()), Fact::Absent, localhost);
        assert!(told(&["127.0.0.1"]).iter().all(|finding| finding.verdict == Verdict::Ok));
        let [_, name] = &told(&["::1"])[..] else { panic!("two findings") };
        assert_eq!(name.verdict, Verdict::Warning);
        assert_eq!(name.help.as_deref(), Some("`sudo sysctl net.ipv6.conf.lo.disable_ipv6=0`"));
    }

    #[test]
    fn a_firewall_before_ipv4_is_a_problem_and_before_ipv6_a_warning() {
        let v4 = told(Fact::Unknown(TIMED_OUT.into()), Fact::Known(()), &["127.0.0.1"]);
        assert_eq!(v4[0].verdict, Verdict::Problem);
        assert_eq!(v4[0].message, "a connection to 127.0.0.1 does not come through: connection timed out");
        let v6 = told(Fact::Known(()), Fact::Unknown(TIMED_OUT.into()), &["127.0.0.1"]);
        assert_eq!(v6[0].verdict, Verdict::Warning);
        if cfg!(target_os = "linux") {
            assert_eq!(v6[0].help.as_deref(), Some("`sudo ip6tables -I INPUT -i lo -j ACCEPT`"));
        }
    }

    #[test]
    fn a_machine_without_its_own_address_is_told_how_to_get_it() {
        let told = told(Fact::Absent, Fact::Absent, &["127.0.0.1"]);
        assert_eq!((told[0].verdict, told[0].help.as_deref()), (Verdict::Problem, Some("`sudo ip link set lo up`")));
    }

    #[test]
    fn a_localhost_that_is_lost_or_elsewhere_is_a_problem() {
        let lost = told(Fact::Known(()), Fact::Known(()), &[]);
        assert_eq!((lost[1].verdict, lost[1].message.as_str()), (Verdict::Problem, "`localhost` is not found"));
        let elsewhere = told(Fact::Known(()), Fact::Known(()), &["127.0.0.1", "203.0.113.7"]);
        assert_eq!(elsewhere[1].message, "`localhost` leads to 203.0.113.7, which is not this machine");
    }

    #[test]
    fn our_own_door_is_reached() {
        let door = Door::open();
        assert_eq!(look(&door).v4, Fact::Known(()));
        assert_eq!(door.port(), door.v4.as_ref().ok().map(SocketAddr::port));
    }
}
