//! Where the programs are that have no fixed address: looked up when something on this machine begins or ceases to
//! listen, and told to the endpoints.
//!
//! The kernel has no event for that, so it is asked, in some 40 µs: every tenth of a second as long as anything is
//! followed, and every hundredth while a request or a start waits for the answer. Only when the answer has changed are
//! processes looked at.

use std::{collections::HashMap, net::SocketAddr, sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{containers::Engines, runs::Runs, services::Services};
use crate::{
    config::{Address, Pin, Sought},
    discover::{
        Lookout, Socket,
        follow::{self, Found, Missing, Scene},
    },
    live::Snapshot,
    process::Processes,
    upstream::{
        Endpoint,
        place::{Absence, Absent, Spot, Standing},
    },
};

/// How often the sockets are looked at: while somebody waits, while something is followed, and otherwise.
const FAST: Duration = Duration::from_millis(10);
const SLOW: Duration = Duration::from_millis(100);
const RARE: Duration = Duration::from_secs(1);

/// When everything is looked up once more behind a change: a program may write its pid file, or take on its name, only after
/// it listens.
const ONCE_MORE: [Duration; 2] = [Duration::from_millis(250), Duration::from_secs(1)];

/// Looking everything up takes one part in so many of the time, unless somebody waits, or the pause between two look-ups would
/// be longer than this: a route follows its program within 300 ms.
const SHARE: u32 = 25;
const LONGEST_PAUSE: Duration = Duration::from_millis(150);

/// How old an answer may be while a request waits: what happens inside of a container, and what a program says last, changes
/// without any socket of this machine.
const STALE: Duration = Duration::from_millis(50);

/// The sockets of this machine, and when to look again.
#[derive(Debug)]
pub(super) struct Follower {
    lookout: Lookout,
    sockets: Vec<Socket>,
    /// When everything was looked up last, and how long that took.
    looked: (Instant, Duration),
    changed: Instant,
    /// Whether there is a change that was not looked up yet.
    is_due: bool,
    rechecks: usize,
}

impl Follower {
    pub(super) fn new() -> Self {
        let now = Instant::now();
        let mut follower = Self {
            lookout: Lookout::default(),
            sockets: Vec::new(),
            looked: (now, Duration::ZERO),
            changed: now,
            is_due: false,
            rechecks: 0,
        };
        follower.look(true);
        follower
    }

    /// Every socket that listened at the last look.
    pub(super) fn sockets(&self) -> &[Socket] {
        &self.sockets
    }

    /// Looks at the sockets; whether programs are to be looked up anew, at once where that `is_urgent`.
    pub(super) fn look(&mut self, is_urgent: bool) -> bool {
        let now = Instant::now();
        // What cannot be seen for a moment has not changed.
        if let Ok(sockets) = self.lookout.look()
            && sockets != self.sockets
        {
            self.sockets = sockets;
            self.changed = now;
            self.rechecks = 0;
            self.is_due = true;
        }
        if ONCE_MORE.get(self.rechecks).is_some_and(|after| now >= self.changed + *after) {
            self.rechecks += 1;
            self.is_due = true;
        }
        // On a machine with thousands of processes, or with a test suite that opens sockets all the time.
        let (looked, took) = self.looked;
        self.is_due && (is_urgent || now >= looked + (took * SHARE).min(LONGEST_PAUSE))
    }

    /// Notes that everything has been looked up since then.
    pub(super) fn has_looked_up(&mut self, since: Instant) {
        self.looked = (Instant::now(), since.elapsed());
        self.is_due = false;
    }

    /// Whether the words of an absence are old.
    pub(super) fn is_stale(&self) -> bool {
        self.looked.0.elapsed() >= STALE
    }
}

/// How soon to look again.
pub(super) fn pace(snapshot: &Snapshot, is_urgent: bool, is_busy: bool) -> Duration {
    let matters = |endpoint: &Arc<Endpoint>| endpoint.place().is_some() || fixed_port(endpoint).is_some();
    if is_urgent {
        FAST
    } else if is_busy || snapshot.endpoints().any(matters) {
        SLOW
    } else {
        RARE
    }
}

/// The port of an endpoint that is always the same, on this machine.
pub(super) fn fixed_port(endpoint: &Endpoint) -> Option<u16> {
    match endpoint.address() {
        Address::Loopback(port) => Some(*port),
        Address::Ip(address) if address.ip().is_loopback() => Some(address.port()),
        Address::Ip(_) | Address::Name { .. } | Address::Unix(_) | Address::Followed(_) => None,
    }
}

/// Those who know where programs are that are not found by looking at processes.
#[derive(Clone, Copy)]
pub(super) struct Keepers<'a> {
    pub(super) services: &'a Services,
    pub(super) runs: &'a Runs,
    pub(super) engines: &'a Engines,
}

/// Tells every endpoint that is followed where its program is.
pub(super) fn tell(snapshot: &Snapshot, scene: Scene<'_>, keepers: Keepers<'_>) {
    let mut known: HashMap<(&Sought, Option<u16>), Standing> = HashMap::new();
    for endpoint in snapshot.endpoints().filter(|endpoint| endpoint.place().is_some()) {
        let standing = match (endpoint.address(), endpoint.owner()) {
            (Address::Followed(sought), _) => {
                let near = endpoint.near();
                known.entry((sought, near)).or_insert_with(|| followed(sought, near, scene, keepers)).clone()
            }
            (_, Some(pin)) => pinned(endpoint, pin, scene),
            (_, None) => fixed(endpoint, scene),
        };
        endpoint.stands(standing);
    }
}

fn followed(sought: &Sought, near: Option<u16>, scene: Scene<'_>, keepers: Keepers<'_>) -> Standing {
    match sought {
        Sought::Service(name) => keepers.services.standing(name, near, scene),
        Sought::Run(name) => keepers.runs.standing(name),
        Sought::Container { name, port } => keepers.engines.standing(name, *port),
        Sought::Process(_) | Sought::Dir(_) | Sought::PidFile(_) => match follow::program(sought, near, scene) {
            Some(Ok(found)) => at(&found),
            Some(Err(missing)) => absent(&missing, sought),
            None => gone(Absent::Gone, "it is no program", &[], &[]),
        },
    }
}

/// The standing of a program that was found.
pub(super) fn at(found: &Found) -> Standing {
    Standing::At(Spot { addresses: found.addresses.as_slice().into(), socket: found.socket, ear: None })
}

/// A fixed port that requests may wait for.
fn fixed(endpoint: &Endpoint, scene: Scene<'_>) -> Standing {
    match listening(endpoint, scene) {
        Some(socket) => Standing::At(Spot { addresses: [socket.address].into(), socket: socket.inode, ear: None }),
        None => gone(Absent::Starting, "nothing listens there", &[], &["start the program"]),
    }
}

fn listening<'s>(endpoint: &Endpoint, scene: Scene<'s>) -> Option<&'s Socket> {
    let port = fixed_port(endpoint)?;
    let answers = |socket: &&Socket| match endpoint.address() {
        Address::Ip(address) => answers_at(socket.address, *address),
        _ => {
            socket.address.port() == port && (socket.address.ip().is_loopback() || socket.address.ip().is_unspecified())
        }
    };
    scene.sockets.iter().find(answers)
}

/// Whether a socket that listens on `held` takes a connection to `dialled`.
fn answers_at(held: SocketAddr, dialled: SocketAddr) -> bool {
    let is_wild = held.ip().is_unspecified() && (held.is_ipv6() || dialled.is_ipv4());
    held.port() == dialled.port() && (held.ip() == dialled.ip() || is_wild)
}

/// A fixed port that only one program may hold.
fn pinned(endpoint: &Endpoint, pin: &Pin, scene: Scene<'_>) -> Standing {
    let Some(socket) = listening(endpoint, scene) else {
        return gone(Absent::Gone, "nothing listens there", &[], &["start the program"]);
    };
    let Some(pid) = follow::holder(socket.address, scene) else {
        let message = format!("it is held by a program that cannot be seen, and not known to be {pin}");
        return gone(Absent::Usurped, &message, &[], &["run portolan as the user who started that program"]);
    };
    let is_meant = match pin {
        Pin::Program(name) => scene.processes.goes_by(pid, name),
        // The system tells a folder by its real path; the table may name it by a link.
        Pin::Folder(folder) => folder.canonicalize().is_ok_and(|real| scene.processes.works_beneath(pid, &real)),
    };
    if is_meant {
        let addresses = follow::dialled(socket.address, scene.sockets).into();
        return Standing::At(Spot { addresses, socket: socket.inode, ear: None });
    }
    let held_by = follow::who(pid);
    let message = format!("it is held by {held_by}, and not by {pin}");
    gone(Absent::Usurped, &message, &[], &["end that program, or take `owner` off the target"])
}

fn absent(missing: &Missing, sought: &Sought) -> Standing {
    let (message, notes, help) = missing.told(sought);
    gone(Absent::Gone, &message, &notes, &[help])
}

/// A standing in words.
pub(super) fn gone(kind: Absent, message: &str, notes: &[String], helps: &[&str]) -> Standing {
    let helps = helps.iter().map(|help| (*help).to_owned()).collect();
    Standing::Absent(Arc::new(Absence { kind, message: message.to_owned(), notes: notes.to_vec(), helps }))
}

/// The processes of now.
pub(super) fn scene<'s>(follower: &'s Follower, processes: &'s Processes) -> Scene<'s> {
    Scene { sockets: follower.sockets(), processes }
}
