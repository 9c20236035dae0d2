//! Ports for programs that take one from us: each name gets the same one again and again, as long as it is free.
//!
//! They lie between 49152 and 65535 (RFC 6335 §6, dynamic ports) and, where that leaves any, outside of the range from which
//! the system takes ports for connections and for whoever binds port 0: so nothing but a program that wants just this
//! port can take it between our choice and the moment in which the program binds it. It is not held by a socket of
//! ours, as a program that binds without SO_REUSEADDR would be refused then.

use std::{
    collections::HashSet,
    hash::{DefaultHasher, Hash, Hasher},
    ops::RangeInclusive,
};

/// The dynamic ports.
pub const DYNAMIC: RangeInclusive<u16> = 49_152..=65_535;

/// Chooses ports and remembers whose they are.
#[derive(Debug)]
pub struct Ports {
    candidates: Vec<u16>,
    given: HashSet<u16>,
}

impl Ports {
    /// For this machine.
    pub fn new() -> Self {
        Self::outside_of(range_of_the_system())
    }

    fn outside_of(system: Option<RangeInclusive<u16>>) -> Self {
        /// With fewer, two of a few dozen names would meet too often.
        const ENOUGH: usize = 512;
        let is_left = |port: &u16| system.as_ref().is_none_or(|range| !range.contains(port));
        let left: Vec<u16> = DYNAMIC.filter(is_left).collect();
        let candidates = if left.len() >= ENOUGH { left } else { DYNAMIC.collect() };
        Self { candidates, given: HashSet::new() }
    }

    /// A port for this name that nobody has and `is_taken` knows nothing of.
    pub fn give(&mut self, name: &str, is_taken: impl Fn(u16) -> bool) -> Option<u16> {
        let mut hasher = DefaultHasher::new();
        name.hash(&mut hasher);
        let start = hasher.finish() as usize % self.candidates.len();
        let order = self.candidates[start..].iter().chain(&self.candidates[..start]);
        let port = order.copied().find(|port| !self.given.contains(port) && !is_taken(*port))?;
        self.given.insert(port);
        Some(port)
    }

    /// Takes a port back.
    pub fn take_back(&mut self, port: u16) {
        self.given.remove(&port);
    }
}

impl Default for Ports {
    fn default() -> Self {
        Self::new()
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
    use super::*;

    #[test]
    fn a_name_has_its_port_again_and_two_names_never_share_one() {
        let mut ports = Ports::new();
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
        let web = Ports::new().give("web", |_| false).unwrap();
        assert_ne!(Ports::new().give("web", |port| port == web), Some(web));
        assert_eq!(Ports::new().give("web", |_| true), None);
    }

    #[test]
    fn what_the_system_hands_out_is_avoided_where_enough_is_left() {
        let port = |range| Ports::outside_of(Some(range)).give("web", |_| false).unwrap();
        assert!(port(32_768..=60_999) > 60_999);
        assert!(DYNAMIC.contains(&port(1024..=65_535)));
    }
}
