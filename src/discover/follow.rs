//! Where a program listens that is known by something else than its port.
//!
//! The rule for a program with several listeners: behind a TCP route a port that is the route's own or one of the ten behind
//! it, as whoever finds a port taken takes the next; then the port that it was given, if it listens there; otherwise its
//! lowest one, where the ports of Node's debugger (9229 to 9239) come last; and of that port every address. Processes are one
//! program where one of them has started the other, or where they are of one process group. Several programs are no
//! answer: which of them is meant cannot be known.

use std::{collections::HashMap, net::SocketAddr, path::Path};

use super::{PORTOLAN, Socket, holders};
use crate::{
    config::{NEIGHBOURS, Sought},
    diagnostic::shown,
    process::{self, Processes},
};

/// How many programs are listed that could be meant: a screenful is no answer.
const MOST_LISTED: usize = 6;

/// What listens and what runs at one moment.
#[derive(Debug, Clone, Copy)]
pub struct Scene<'a> {
    /// Every socket that listens.
    pub sockets: &'a [Socket],
    /// Every process.
    pub processes: &'a Processes,
}

/// Which of several ports of a program is meant.
#[derive(Debug, Clone, Copy, Default)]
pub struct Wish {
    /// The port that it was told to open.
    pub given: Option<u16>,
    /// The port of a TCP route that leads to it.
    pub near: Option<u16>,
}

impl Wish {
    /// The one that it was told to open.
    pub fn given(port: u16) -> Self {
        Self { given: Some(port), near: None }
    }

    /// The least goes first.
    fn rank(self, port: u16) -> impl Ord {
        let is_near = self.near.is_some_and(|near| (near..=near.saturating_add(NEIGHBOURS)).contains(&port));
        (!is_near, self.given != Some(port), is_debugger(port), port)
    }
}

/// A program that listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Found {
    /// To be dialled in this order; never empty.
    pub addresses: Vec<SocketAddr>,
    /// The number of its socket: another one where it was restarted at the same address.
    pub socket: u64,
    /// The process that holds it.
    pub pid: u32,
    /// Ports on which it listens besides.
    pub also: Vec<u16>,
}

/// Why no program is found.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missing {
    /// Nothing of the kind runs.
    NotRunning,
    /// It runs and listens nowhere; these are its processes.
    Silent(Vec<u32>),
    /// Several programs are meant: a process and an address of each.
    Several(Vec<(u32, SocketAddr)>),
    /// The file that should name it does not.
    NoPid(String),
}

/// The program that is sought by its name, its folder or its pid file, `near` the port of a TCP route if one leads there;
/// `None` for what is not found by looking at processes.
pub fn program(sought: &Sought, near: Option<u16>, scene: Scene<'_>) -> Option<Result<Found, Missing>> {
    let wish = Wish { given: None, near };
    match sought {
        Sought::Process(name) => Some(by_name(name, scene, wish)),
        Sought::Dir(folder) => Some(by_folder(folder, scene, wish)),
        Sought::PidFile(file) => Some(by_pid_file(file, scene, wish)),
        Sought::Service(_) | Sought::Run(_) | Sought::Container { .. } => None,
    }
}

impl Found {
    /// Who it is, where it listens, and by which rule: `` `node` (pid 4812) in ~/shop listens on 127.0.0.1:3000 ``.
    pub fn told(&self) -> String {
        let addresses: Vec<String> = self.addresses.iter().map(ToString::to_string).collect();
        let told = format!("{} listens on {}", who(self.pid), addresses.join(" and "));
        if self.also.is_empty() {
            return told;
        }
        let also: Vec<String> = self.also.iter().map(ToString::to_string).collect();
        let rule = "of several ports the lowest one is taken, those of Node's debugger last";
        format!("{told}, and also on port {}: {rule}", also.join(", "))
    }
}

impl Missing {
    /// What is really there, in what is sought: a fragment, causes, and one thing to do.
    pub fn told(&self, sought: &Sought) -> (String, Vec<String>, &'static str) {
        match self {
            Self::NotRunning => {
                let (message, help) = match sought {
                    Sought::Dir(_) => ("nothing runs in that folder", "start the program there"),
                    Sought::PidFile(_) => ("the process of that number has ended", "start the program"),
                    _ => ("nothing of that name runs", "start the program"),
                };
                (message.into(), Vec::new(), help)
            }
            Self::Silent(pids) => {
                let message = format!("{} runs and listens nowhere", who(pids.first().copied().unwrap_or_default()));
                (message, Vec::new(), "look at its output: it may have failed, or take its time")
            }
            Self::Several(all) => {
                let line = |(pid, address): &(u32, SocketAddr)| format!("{} listens on {address}", who(*pid));
                let mut notes: Vec<String> = all.iter().take(MOST_LISTED).map(line).collect();
                if let Some(more) = all.len().checked_sub(MOST_LISTED).filter(|more| *more > 0) {
                    notes.push(format!("and {more} more do"));
                }
                let help = "tell them apart: follow one by its `dir`, or write the port of one";
                (format!("{} programs could be meant", all.len()), notes, help)
            }
            Self::NoPid(why) => (why.clone(), Vec::new(), "start the program that writes this file"),
        }
    }
}

/// `` `node` (pid 4812) in ~/shop ``
pub fn who(pid: u32) -> String {
    let program = process::program(pid).unwrap_or_else(|| "a process".into());
    let folder = process::folder(pid).map(|folder| format!(" in {}", shown(&folder))).unwrap_or_default();
    format!("`{program}` (pid {pid}){folder}")
}

/// The program that goes by this name.
fn by_name(name: &str, scene: Scene<'_>, wish: Wish) -> Result<Found, Missing> {
    let own = std::process::id();
    let pids: Vec<u32> =
        scene.processes.pids().filter(|pid| *pid != own && scene.processes.goes_by(*pid, name)).collect();
    among(pids, scene, wish)
}

/// The program that works in this folder, or beneath.
fn by_folder(folder: &Path, scene: Scene<'_>, wish: Wish) -> Result<Found, Missing> {
    // The system tells a folder by its real path; the table may name it by a link.
    let Ok(folder) = folder.canonicalize() else { return Err(Missing::NotRunning) };
    let pids: Vec<u32> = others(scene).filter(|pid| scene.processes.works_beneath(*pid, &folder)).collect();
    among(pids, scene, wish)
}

/// The program whose pid stands in this file, or a child of it.
fn by_pid_file(file: &Path, scene: Scene<'_>, wish: Wish) -> Result<Found, Missing> {
    let text = read(file)
        .map_err(|error| Missing::NoPid(format!("{}: {}", shown(file), crate::diagnostic::without_number(&error))))?;
    // PostgreSQL writes more lines behind the first one.
    let pid = text.split_ascii_whitespace().next().and_then(|word| word.parse().ok());
    let pid: u32 = pid.ok_or_else(|| Missing::NoPid(format!("{} does not begin with a pid", shown(file))))?;
    // What the first process has started is everything.
    if pid <= 1 {
        return Err(Missing::NoPid(format!("{} names no program, but pid {pid}", shown(file))));
    }
    of_tree(pid, scene, wish)
}

/// The beginning of a file, if it is one: a pipe in its place would keep us for ever.
fn read(file: &Path) -> std::io::Result<String> {
    use std::{io::Read, os::unix::fs::OpenOptionsExt};
    let waits_for_nobody = rustix::fs::OFlags::NONBLOCK.bits().cast_signed();
    let file = std::fs::OpenOptions::new().read(true).custom_flags(waits_for_nobody).open(file)?;
    if !file.metadata()?.is_file() {
        return Err(std::io::Error::other("it is no file"));
    }
    let mut text = String::new();
    file.take(256).read_to_string(&mut text)?;
    Ok(text)
}

/// The program that this process is, or has started.
pub fn of_tree(root: u32, scene: Scene<'_>, wish: Wish) -> Result<Found, Missing> {
    if scene.processes.get(root).is_none() {
        return Err(Missing::NotRunning);
    }
    let mut pids: Vec<u32> = std::iter::once(root).chain(scene.processes.descendants(root)).collect();
    // `portolan run` may have started this very proxy, and what that looks after.
    let own = std::process::id();
    if root != own && pids.contains(&own) {
        let ours = scene.processes.descendants(own);
        pids.retain(|pid| *pid != own && !ours.contains(pid));
    }
    let held = holders(scene.sockets, pids.iter().copied());
    choose(&held, wish, scene.sockets).ok_or(Missing::Silent(pids))
}

/// Who holds this socket.
pub fn holder(address: SocketAddr, scene: Scene<'_>) -> Option<u32> {
    let socket: Vec<Socket> = scene.sockets.iter().filter(|socket| socket.address == address).cloned().collect();
    holders(&socket, scene.processes.pids()).first().map(|(pid, _)| *pid)
}

/// Every process but portolans: they work in the folders of their tables, and lead nowhere but back.
fn others(scene: Scene<'_>) -> impl Iterator<Item = u32> {
    scene.processes.pids().filter(move |pid| !scene.processes.goes_by(*pid, PORTOLAN))
}

fn among(pids: Vec<u32>, scene: Scene<'_>, wish: Wish) -> Result<Found, Missing> {
    if pids.is_empty() {
        return Err(Missing::NotRunning);
    }
    let held = holders(scene.sockets, pids.iter().copied());
    let Some(first) = held.iter().map(|(pid, _)| *pid).min() else { return Err(Missing::Silent(pids)) };
    let is_one_program = held.iter().all(|(pid, _)| scene.processes.are_kin(first, *pid)) || is_one_port(&held);
    if !is_one_program {
        return Err(Missing::Several(one_each(&held)));
    }
    choose(&held, wish, scene.sockets).ok_or(Missing::Silent(pids))
}

fn is_one_port(held: &[(u32, Socket)]) -> bool {
    held.windows(2).all(|pair| pair[0].1.address.port() == pair[1].1.address.port())
}

/// Of each process its lowest port.
fn one_each(held: &[(u32, Socket)]) -> Vec<(u32, SocketAddr)> {
    let mut lowest: HashMap<u32, SocketAddr> = HashMap::new();
    for (pid, socket) in held {
        let known = lowest.entry(*pid).or_insert(socket.address);
        if socket.address.port() < known.port() {
            *known = socket.address;
        }
    }
    let mut all: Vec<_> = lowest.into_iter().collect();
    all.sort_by_key(|(_, address)| address.port());
    all
}

/// The port that the rule names, at every address at which the program has it.
fn choose(held: &[(u32, Socket)], wish: Wish, all: &[Socket]) -> Option<Found> {
    let port = held.iter().map(|(_, socket)| socket.address.port()).min_by_key(|port| wish.rank(*port))?;
    let mut chosen: Vec<&(u32, Socket)> = held.iter().filter(|(_, socket)| socket.address.port() == port).collect();
    // 127.0.0.1 before [::1], loopback before what others can reach, and of several processes the eldest.
    chosen.sort_by_key(|(pid, socket)| (!is_near(socket.address), socket.address.is_ipv6(), *pid));
    let (pid, first) = chosen.first()?;
    let mut addresses = Vec::new();
    for (_, socket) in &chosen {
        for address in dialled(socket.address, all) {
            if !addresses.contains(&address) {
                addresses.push(address);
            }
        }
    }
    let mut also: Vec<u16> =
        held.iter().map(|(_, socket)| socket.address.port()).filter(|other| *other != port).collect();
    also.sort_unstable();
    also.dedup();
    Some(Found { addresses, socket: first.inode, pid: *pid, also })
}

/// The ports from which Node's debugger takes one.
fn is_debugger(port: u16) -> bool {
    (9229..=9239).contains(&port)
}

fn is_near(address: SocketAddr) -> bool {
    address.ip().is_loopback() || address.ip().is_unspecified()
}

/// Where to dial a socket that listens on `address`: a wildcard by the loopback address of its family. One of IPv6 most
/// often takes IPv4 as well, which is tried second, unless somebody else listens there.
pub fn dialled(address: SocketAddr, all: &[Socket]) -> Vec<SocketAddr> {
    let port = address.port();
    let (v4, v6) = (SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0u16, 0, 0, 0, 0, 0, 0, 1], port)));
    if !address.ip().is_unspecified() {
        return vec![address];
    }
    if address.is_ipv4() {
        return vec![v4];
    }
    let has_ipv4 =
        |socket: &Socket| socket.address.is_ipv4() && socket.address.port() == port && is_near(socket.address);
    if all.iter().any(has_ipv4) { vec![v6] } else { vec![v6, v4] }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn socket(address: &str, inode: u64) -> Socket {
        Socket { address: address.parse().unwrap(), inode, uid: 1000 }
    }

    fn chosen(held: &[(u32, Socket)], wish: Wish) -> Vec<String> {
        let all: Vec<Socket> = held.iter().map(|(_, socket)| socket.clone()).collect();
        let found = choose(held, wish, &all).unwrap();
        found.addresses.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn the_port_that_was_given_goes_first_and_then_the_lowest() {
        let held = [(7, socket("127.0.0.1:8000", 1)), (7, socket("127.0.0.1:3000", 2))];
        assert_eq!(chosen(&held, Wish::default()), ["127.0.0.1:3000"]);
        assert_eq!(chosen(&held, Wish::given(8000)), ["127.0.0.1:8000"]);
        assert_eq!(chosen(&held, Wish::given(9)), ["127.0.0.1:3000"]);
    }

    #[test]
    fn a_debugger_is_not_the_program() {
        let held = [(7, socket("127.0.0.1:9229", 1)), (7, socket("127.0.0.1:49200", 2))];
        assert_eq!(chosen(&held, Wish::default()), ["127.0.0.1:49200"]);
        assert_eq!(chosen(&held[..1], Wish::default()), ["127.0.0.1:9229"]);
    }

    #[test]
    fn a_tcp_route_means_the_port_next_to_its_own() {
        let held = [(7, socket("127.0.0.1:3000", 1)), (7, socket("127.0.0.1:9230", 2)), (7, socket("[::1]:5433", 3))];
        let near = |port| chosen(&held, Wish { given: Some(3000), near: Some(port) });
        assert_eq!(near(9229), ["127.0.0.1:9230"]);
        assert_eq!(near(5432), ["[::1]:5433"]);
        assert_eq!(near(5422), ["127.0.0.1:3000"]);
        assert_eq!(near(5434), ["127.0.0.1:3000"]);
        assert_eq!(near(u16::MAX), ["127.0.0.1:3000"]);
    }

    #[test]
    fn both_loopback_addresses_of_a_port_are_tried() {
        let held = [(7, socket("[::1]:3000", 1)), (7, socket("127.0.0.1:3000", 2))];
        assert_eq!(chosen(&held, Wish::default()), ["127.0.0.1:3000", "[::1]:3000"]);
    }

    #[test]
    fn a_wildcard_is_dialled_by_loopback_and_never_at_somebody_elses_address() {
        assert_eq!(chosen(&[(7, socket("0.0.0.0:3000", 1))], Wish::default()), ["127.0.0.1:3000"]);
        assert_eq!(chosen(&[(7, socket("[::]:3000", 1))], Wish::default()), ["[::1]:3000", "127.0.0.1:3000"]);
        let all = [socket("[::]:3000", 1), socket("127.0.0.1:3000", 2)];
        let found = choose(&[(7, all[0].clone())], Wish::default(), &all).unwrap();
        assert_eq!(found.addresses, ["[::1]:3000".parse().unwrap()]);
    }

    #[test]
    fn a_found_program_says_where_else_it_listens() {
        let held = [(7, socket("127.0.0.1:3000", 1)), (8, socket("127.0.0.1:9229", 2)), (7, socket("[::1]:3000", 3))];
        let all: Vec<Socket> = held.iter().map(|(_, socket)| socket.clone()).collect();
        let found = choose(&held, Wish::default(), &all).unwrap();
        assert_eq!((found.pid, found.socket, found.also), (7, 1, vec![9229]));
    }

    #[test]
    fn this_test_is_found_by_its_name_its_folder_and_its_pid() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (sockets, processes) = (super::super::Lookout::default().look().unwrap(), Processes::now());
        let scene = Scene { sockets: &sockets, processes: &processes };
        let address = listener.local_addr().unwrap();
        let found = of_tree(std::process::id(), scene, Wish::given(address.port())).unwrap();
        assert_eq!((found.addresses, found.pid), (vec![address], std::process::id()));
        assert_eq!(holder(address, scene), Some(std::process::id()));
        let nobody = by_name("no-program-has-this-name", scene, Wish::default());
        assert_eq!(nobody, Err(Missing::NotRunning));
        let file = std::env::temp_dir().join(format!("portolan-no-such-{}", std::process::id()));
        assert!(matches!(by_pid_file(&file, scene, Wish::default()), Err(Missing::NoPid(_))));
    }
}
