//! The program that was missed at an address: who else may be it, and how sure that is.
//!
//! A dev server that finds its port taken moves to the next one, one that binds `localhost` may have either loopback
//! address, and most of them work in the folder of the table. So a few of all listeners matter, and of these at most
//! one is proposed. Pure: what is known comes in as a [`Sight`].

use std::{
    fmt,
    net::SocketAddr,
    path::{Path, PathBuf},
};

use super::{
    Hold, Listener, Owner, PORTOLAN, hold,
    look::{Holder, Sight},
    propose::NOT_PROPOSED,
    words::unseen,
};
use crate::diagnostic::shown;

/// How far the port of a neighbour is at most.
pub const NEAR: u16 = 10;

/// More would hide the one that matters.
const MOST: usize = 3;

/// The ports that AirPlay has on macOS, and the program that holds them there, as far as the system spells it out.
const AIRPLAY: ([u16; 2], &str) = ([5000, 7000], "ControlCe");

/// What was missed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Missed {
    /// Where nobody listened; all of one port.
    pub addresses: Vec<SocketAddr>,
    /// The folder of the table: whoever works there, or beneath, belongs to it.
    pub home: Option<PathBuf>,
}

/// What a listener has to do with what was missed; the closest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Kinship {
    /// It listens on the same port of another address.
    SamePort,
    /// It is the program that held the port before.
    SameProgram,
    /// It works in the home, and its port is near.
    HomeAndNear,
    /// It works in the home.
    Home,
    /// Its port is near.
    Near,
}

/// One who may be meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Neighbour<'s> {
    /// It.
    pub listener: &'s Listener,
    /// Why it may be.
    pub kinship: Kinship,
}

/// Who may be meant.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Neighbours<'s> {
    /// At most three, the closest first; one alone where it can be proposed.
    pub all: Vec<Neighbour<'s>>,
    /// Whether the first of them is so much closer than the others that it can be proposed.
    is_sure: bool,
}

impl<'s> Neighbours<'s> {
    /// Who of those in `sight` may be meant. `is_routed` tells the addresses to which other routes lead: whoever
    /// listens there is known already. `us` is our own process.
    pub fn of(missed: &Missed, sight: &'s Sight, us: u32, is_routed: impl Fn(SocketAddr) -> bool) -> Self {
        let Some(port) = missed.addresses.first().map(SocketAddr::port) else { return Self::default() };
        let before = sight.holder(port);
        let mut all: Vec<Neighbour<'s>> = sight
            .listeners
            .iter()
            .filter(|listener| !is_ours(listener, us))
            .filter_map(|listener| Some(Neighbour { listener, kinship: missed.kinship(listener, port, before)? }))
            .filter(|found| found.kinship == Kinship::SamePort || !is_routed(found.listener.address))
            .collect();
        all.sort_by_key(|found| (found.kinship, found.listener.address.port().abs_diff(port), found.listener.address));
        // A program is told once, where it is closest.
        let mut pids = Vec::new();
        all.retain(|Neighbour { listener: Listener { owner, .. }, .. }| match owner {
            Some(owner) if pids.contains(&owner.pid) => false,
            owner => {
                pids.extend(owner.as_ref().map(|owner| owner.pid));
                true
            }
        });
        let is_sure = match all.as_slice() {
            [first, ..] if is_airplay(first.listener) => false,
            [first, ..] if first.kinship == Kinship::SamePort => true,
            [first, second, ..] if first.kinship == second.kinship => false,
            [first, ..] => first.kinship != Kinship::Near,
            [] => false,
        };
        // Beside it the others would only raise doubts.
        all.truncate(if is_sure { 1 } else { MOST });
        Self { all, is_sure }
    }

    /// The one to propose.
    pub fn guess(&self) -> Option<Neighbour<'s>> {
        self.all.first().copied().filter(|_| self.is_sure)
    }
}

impl Missed {
    fn kinship(&self, listener: &Listener, port: u16, before: Option<&Holder>) -> Option<Kinship> {
        if listener.address.port() == port {
            return Some(Kinship::SamePort);
        }
        let owner = listener.owner.as_ref().filter(|owner| !NOT_PROPOSED.contains(&owner.program.as_str()))?;
        let ip = listener.address.ip();
        if !ip.is_loopback() && !ip.is_unspecified() || is_airplay(listener) {
            return None;
        }
        let is_near = listener.address.port().abs_diff(port) <= NEAR;
        let is_home = self.home.as_deref().is_some_and(|home| works_in(owner, home));
        match (is_home, is_near) {
            _ if before.is_some_and(|before| before.is(owner)) => Some(Kinship::SameProgram),
            (true, true) => Some(Kinship::HomeAndNear),
            (true, false) => Some(Kinship::Home),
            (false, true) => Some(Kinship::Near),
            (false, false) => None,
        }
    }
}

impl Holder {
    fn is(&self, owner: &Owner) -> bool {
        self.program == owner.program && self.folder.is_some() && self.folder == owner.folder
    }
}

/// Who holds one of these addresses, as far as the system shows: `[::]` may hold an IPv4 address, too.
pub fn holder<'s>(sight: &'s Sight, addresses: &[SocketAddr]) -> Option<&'s Listener> {
    holds(sight, addresses, Hold::DualStack)
}

/// Who surely holds one of these addresses, where connections were refused a moment ago.
pub fn newcomer<'s>(sight: &'s Sight, addresses: &[SocketAddr]) -> Option<&'s Listener> {
    holds(sight, addresses, Hold::Wildcard)
}

fn holds<'s>(sight: &'s Sight, addresses: &[SocketAddr], least: Hold) -> Option<&'s Listener> {
    let how = |listener: &Listener| addresses.iter().filter_map(|address| hold(listener.address, *address)).min();
    let held = sight.listeners.iter().filter_map(|listener| Some((how(listener)?, listener)));
    held.filter(|(hold, _)| *hold <= least)
        .min_by_key(|(hold, listener)| (*hold, listener.owner.is_none()))
        .map(|(_, listener)| listener)
}

/// A listener of this process, or of another portolan.
pub fn is_ours(listener: &Listener, us: u32) -> bool {
    listener.owner.as_ref().is_some_and(|owner| owner.pid == us || owner.program == PORTOLAN)
}

fn works_in(owner: &Owner, home: &Path) -> bool {
    owner.folder.as_deref().is_some_and(|folder| folder.starts_with(home))
}

fn is_airplay(listener: &Listener) -> bool {
    let (ports, program) = AIRPLAY;
    ports.contains(&listener.address.port())
        && listener.owner.as_ref().is_some_and(|owner| owner.program.starts_with(program))
}

/// A listener in the words of a sentence: `` `node` (pid 4812, ~/shop) ``.
#[derive(Debug, Clone, Copy)]
pub struct Who<'l>(pub &'l Listener);

impl fmt::Display for Who<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(owner) = &self.0.owner else { return f.write_str(&unseen(self.0, self.0.user().as_deref())) };
        if is_airplay(self.0) {
            return write!(f, "AirPlay Receiver of macOS (pid {})", owner.pid);
        }
        write!(f, "`{}` (pid {}", owner.program, owner.pid)?;
        if let Some(folder) = &owner.folder {
            write!(f, ", {}", shown(folder))?;
        }
        f.write_str(")")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: u32 = 1;

    fn listener(address: &str, pid: u32, program: &str, folder: &str) -> Listener {
        let owner = Owner {
            pid,
            program: program.into(),
            command: format!("{program} server"),
            folder: Some(folder.into()),
            started: None,
        };
        Listener { address: address.parse().unwrap(), owner: Some(owner), uid: Some(1000) }
    }

    fn missed(addresses: &[&str]) -> Missed {
        let addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
        Missed { addresses, home: Some("/shop".into()) }
    }

    /// The neighbours of `127.0.0.1:5173`, the one to propose marked with a `!`.
    fn told(listeners: Vec<Listener>) -> Vec<String> {
        told_in(&Sight::new(listeners, None))
    }

    fn told_in(sight: &Sight) -> Vec<String> {
        let found = Neighbours::of(&missed(&["127.0.0.1:5173"]), sight, US, |address| address.port() == 5180);
        let guess = found.guess();
        let mark = |one: &Neighbour<'_>| if Some(*one) == guess { "!" } else { "" };
        found.all.iter().map(|one| format!("{}{} {:?}", mark(one), one.listener.address, one.kinship)).collect()
    }

    #[test]
    fn the_same_port_of_the_other_loopback_address_is_proposed_whoever_has_it() {
        let found = told(vec![
            listener("127.0.0.1:5174", 7, "node", "/shop"),
            Listener { owner: None, ..listener("[::1]:5173", 8, "", "") },
        ]);
        assert_eq!(found, ["![::1]:5173 SamePort"]);
    }

    #[test]
    fn the_program_that_held_the_port_before_is_known_again_wherever_it_went() {
        let before = Sight::new(vec![listener("127.0.0.1:5173", 7, "node", "/web")], None);
        let now = vec![listener("127.0.0.1:40000", 9, "node", "/web"), listener("127.0.0.1:5174", 8, "node", "/shop")];
        let found = told_in(&Sight::new(now, Some(&before)));
        assert_eq!(found, ["!127.0.0.1:40000 SameProgram"]);
    }

    #[test]
    fn a_program_of_the_home_is_proposed_where_it_is_the_only_one() {
        let api = || listener("127.0.0.1:8000", 7, "python3.11", "/shop/api");
        let web = || listener("127.0.0.1:8001", 8, "node", "/shop/web");
        assert_eq!(told(vec![api()]), ["!127.0.0.1:8000 Home"]);
        assert_eq!(told(vec![api(), web()]), ["127.0.0.1:8000 Home", "127.0.0.1:8001 Home"]);
        let near = listener("[::1]:5183", 9, "node", "/shop");
        assert_eq!(told(vec![api(), web(), near]), ["![::1]:5183 HomeAndNear"]);
    }

    #[test]
    fn a_near_port_alone_is_told_and_never_proposed() {
        let found = told(vec![
            listener("127.0.0.1:5183", 7, "node", "/blog"),
            listener("127.0.0.1:5184", 8, "node", "/blog"),
            listener("127.0.0.1:5163", 9, "node", "/shopping"),
        ]);
        assert_eq!(found, ["127.0.0.1:5163 Near", "127.0.0.1:5183 Near"]);
    }

    #[test]
    fn at_most_three_are_told_and_each_program_once() {
        let mut all: Vec<_> =
            (1..9).map(|n: u32| listener(&format!("127.0.0.1:{}", 5173 + n), n, "node", "/")).collect();
        all.push(listener("[::1]:5175", 2, "node", "/"));
        assert_eq!(told(all), ["127.0.0.1:5175 Near", "127.0.0.1:5176 Near", "127.0.0.1:5177 Near"]);
    }

    #[test]
    fn neither_we_nor_what_is_known_already_nor_what_is_no_app_is_a_neighbour() {
        let unseen = Listener { owner: None, ..listener("127.0.0.1:5174", 7, "", "") };
        let found = told(vec![
            listener("127.0.0.1:5174", US, "shop", "/shop"),
            listener("[::1]:5173", 2, "portolan", "/shop"),
            listener("127.0.0.1:5180", 3, "node", "/shop"),
            listener("127.0.0.1:5432", 4, "postgres", "/shop"),
            listener("192.168.1.5:5174", 5, "node", "/shop"),
            unseen,
        ]);
        assert_eq!(found, [""; 0]);
    }

    #[test]
    fn airplay_is_named_and_never_proposed() {
        let airplay = listener("0.0.0.0:5000", 7, "ControlCenter", "/");
        let sight = Sight::new(vec![airplay], None);
        let found = Neighbours::of(&missed(&["[::1]:5000"]), &sight, US, |_| false);
        assert_eq!((found.all.len(), found.guess()), (1, None));
        assert_eq!(Who(found.all[0].listener).to_string(), "AirPlay Receiver of macOS (pid 7)");
        let other = listener("127.0.0.1:5001", 8, "ControlCenter", "/");
        assert_eq!(Who(&other).to_string(), "`ControlCenter` (pid 8, /)");
    }

    #[test]
    fn whoever_holds_an_address_is_found_also_by_its_wildcard() {
        let sight = Sight::new(vec![listener("0.0.0.0:80", 7, "node", "/"), listener("[::]:81", 8, "node", "/")], None);
        let pid = |found: Option<&Listener>| found.and_then(|found| found.owner.as_ref()).map(|owner| owner.pid);
        let at = |address: &str| [address.parse().unwrap()];
        assert_eq!(pid(holder(&sight, &at("127.0.0.1:80"))), Some(7));
        assert_eq!(pid(holder(&sight, &at("[::1]:80"))), None);
        assert_eq!(pid(holder(&sight, &at("127.0.0.1:81"))), Some(8));
        // It may be for IPv6 alone, and then it did not come where IPv4 was refused.
        assert_eq!(pid(newcomer(&sight, &at("127.0.0.1:81"))), None);
        assert_eq!(pid(newcomer(&sight, &at("[::1]:81"))), Some(8));
    }

    #[test]
    fn who_cannot_be_seen_is_told_by_the_user() {
        let hidden = Listener { owner: None, uid: Some(u32::MAX), ..listener("[::1]:80", 7, "", "") };
        assert_eq!(Who(&hidden).to_string(), format!("a process of another user (uid {}, pid hidden)", u32::MAX));
    }
}
