//! Ports for programs that take one from us: each name gets the same one again and again, as long as it is free.
//!
//! They lie between 49152 and 65535 (RFC 6335 §6, dynamic ports) and, where that leaves any, outside of the range from which
//! the system takes ports for connections and for whoever binds port 0: so nothing but a program that wants just this
//! port can take it between our choice and the moment in which the program binds it. It is not held by a TCP socket of
//! ours, as a program that binds without SO_REUSEADDR would be refused then; among portolans it is held by a name that only
//! one of them can have at a time, and that goes with whoever has it.

use std::{
    collections::HashMap,
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
};

/// The dynamic ports.
pub const DYNAMIC: RangeInclusive<u16> = 49_152..=65_535;

/// Chooses ports and remembers whose they are.
#[derive(Debug)]
pub struct Ports {
    candidates: Vec<u16>,
    /// Of which proxy: two of them choose differently for one name.
    seed: u16,
    given: HashMap<u16, Claim>,
}

impl Ports {
    /// For this machine, and for the proxy that listens on the port `seed`.
    pub fn new(seed: u16) -> Self {
        Self::outside_of(range_of_the_system(), seed)
    }

    fn outside_of(system: Option<RangeInclusive<u16>>, seed: u16) -> Self {
        /// With fewer, two of a few dozen names would meet too often.
        const ENOUGH: usize = 512;
        let is_left = |port: &u16| system.as_ref().is_none_or(|range| !range.contains(port));
        let left: Vec<u16> = DYNAMIC.filter(is_left).collect();
        let candidates = if left.len() >= ENOUGH { left } else { DYNAMIC.collect() };
        Self { candidates, seed, given: HashMap::new() }
    }

    /// A port for this name that nobody has and `is_taken` knows nothing of.
    pub fn give(&mut self, name: &str, is_taken: impl Fn(u16) -> bool) -> Option<u16> {
        let mut hasher = DefaultHasher::new();
        (self.seed, name).hash(&mut hasher);
        let start = hasher.finish() as usize % self.candidates.len();
        let order = self.candidates[start..].iter().chain(&self.candidates[..start]);
        let free = order.copied().filter(|port| !self.given.contains_key(port) && !is_taken(*port));
        let (port, claim) = free.take(TRIES).find_map(|port| Some((port, Claim::on(port)?)))?;
        self.given.insert(port, claim);
        Some(port)
    }

    /// Takes a port back.
    pub fn take_back(&mut self, port: u16) {
        self.given.remove(&port);
    }
}

/// How many ports other portolans may have claimed in a row before there is none.
const TRIES: usize = 1_000;

/// The right of one portolan to give a port away: an abstract socket (`man 7 unix`), which is of the same network as the port
/// and leaves nothing behind.
#[cfg(target_os = "linux")]
#[derive(Debug)]
struct Claim(#[expect(dead_code, reason = "held until it is dropped")] std::os::unix::net::UnixListener);

#[cfg(target_os = "linux")]
impl Claim {
    fn on(port: u16) -> Option<Self> {
        use std::os::{
            linux::net::SocketAddrExt,
            unix::net::{SocketAddr, UnixListener},
        };
        let name = SocketAddr::from_abstract_name(format!("portolan/port/{port}")).ok()?;
        UnixListener::bind_addr(&name).ok().map(Self)
    }
}

/// Elsewhere two portolans may choose one port, if they do so in one moment.
#[cfg(not(target_os = "linux"))]
#[derive(Debug)]
struct Claim;

#[cfg(not(target_os = "linux"))]
impl Claim {
    fn on(_: u16) -> Option<Self> {
        Some(Self)
    }
}

/// From which the system takes ports for connections.
fn range_of_the_system() -> Option<RangeInclusive<u16>> {
    let text = std::fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").ok()?;
    let mut bounds = text.split_ascii_whitespace().map(str::parse);
    Some(bounds.next()?.ok()?..=bounds.next()?.ok()?)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// A proxy of no other test: what they have claimed is claimed for all.
    fn ports(seed: u16) -> Ports {
        Ports::new(seed)
    }

    #[test]
    fn a_name_has_its_port_again_and_two_names_never_share_one() {
        let mut ports = ports(1);
        let web = ports.give("web", |_| false).unwrap();
        let again = ports.give("web", |_| false).unwrap();
        assert!(DYNAMIC.contains(&web) && again != web);
        ports.take_back(web);
        assert_eq!(ports.give("web", |_| false), Some(web));
        let others: HashSet<u16> = (0..100).filter_map(|n| ports.give(&format!("api-{n}"), |_| false)).collect();
        assert_eq!(others.len(), 100);
    }

    #[test]
    fn a_port_that_somebody_has_is_passed_over() {
        let web = ports(2).give("web", |_| false).unwrap();
        assert_ne!(ports(2).give("web", |port| port == web), Some(web));
        assert_eq!(ports(2).give("web", |_| true), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn two_portolans_never_give_one_port() {
        let (mut one, mut other) = (ports(3), ports(3));
        let web = one.give("web", |_| false).unwrap();
        assert_ne!(other.give("web", |_| false), Some(web));
        drop(one);
        assert_eq!(other.give("web", |_| false), Some(web));
    }

    #[test]
    fn what_the_system_hands_out_is_avoided_where_enough_is_left() {
        let port = |range| Ports::outside_of(Some(range), 4).give("web", |_| false).unwrap();
        assert!(port(32_768..=60_999) > 60_999);
        assert!(DYNAMIC.contains(&port(1024..=65_535)));
    }
}
