//! Containers of this machine, and where their ports are published, as the engines tell it: Docker, Podman and their kin.
//!
//! [`follow`] keeps a snapshot in step with the engines' events, [`look`] takes one once; [`Containers::find`] says where
//! a port of a container is to be dialled, or what stands in the way. An engine that is absent, slow or broken is a fact
//! to be told when somebody asks for a container, never an error of its own.
//!
//! Nothing that a container says of itself (names, labels, ports) makes or changes a route: a table asks for a container,
//! never the other way round. Every word of theirs is printable from the moment it is read.

mod absence;
mod client;
mod find;
mod follow;
mod inside;
mod places;
mod session;
mod tables;
mod told;
mod trouble;

use std::{
    fmt,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::SystemTime,
};

use jiff::Zoned;

pub use absence::{Missing, NotFound};
pub use find::Found;
pub use follow::{follow, look};
pub use inside::Inside;
pub use places::{Place, Tool, Whereabouts};
pub use trouble::Trouble;

/// What the engines say of their containers, at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Containers {
    /// Every engine that is there or was named, whether it answers or not.
    pub engines: Vec<Engine>,
    /// Every container that they tell of, running or not, by name.
    pub list: Vec<Container>,
}

/// An engine: a program that runs containers and tells of them over a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Engine {
    /// Where it is; its `Display` is `docker at /var/run/docker.sock`.
    pub place: Arc<Place>,
    /// Whether it answers.
    pub state: Reach,
}

/// Whether an engine answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reach {
    /// It was asked and has not answered yet.
    Asked,
    /// It answers, and its containers are in the list.
    Reached {
        /// Such as `Docker 28.5.2`.
        version: String,
    },
    /// It does not, and none of its containers is in the list: they may have gone with it.
    Absent(Trouble),
}

/// A container.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Container {
    /// The engine's name for it, for ever.
    pub id: String,
    /// What people call it.
    pub name: String,
    /// The service of a compose project that it runs, if it does.
    pub compose: Option<Compose>,
    /// What it was made of, such as `postgres:17`.
    pub image: String,
    /// The engine that runs it.
    pub engine: Arc<Place>,
    /// What it does.
    pub state: State,
    /// Whose network it is in.
    pub network: Network,
    /// Its TCP ports that can be reached from outside; by inner port, then by address.
    pub published: Vec<Published>,
    /// Its inner ports that are published for UDP, which no route leads to.
    pub udp: Vec<u16>,
}

/// The service of a compose project, from the labels `com.docker.compose.*`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Compose {
    /// The project's name.
    pub project: String,
    /// The service's name.
    pub service: String,
    /// Which of the service's containers this is, from 1.
    pub number: u32,
}

/// What a container does.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum State {
    /// It was made and never started.
    Created,
    /// It runs.
    Running {
        /// Since when, where that is known.
        since: Option<SystemTime>,
        /// What can be seen of its inside, where it is a part of this very machine (and not of a virtual one).
        inside: Option<Arc<Inside>>,
    },
    /// It is frozen: it takes connections and answers none.
    Paused,
    /// It ended, and its engine is about to start it again.
    Restarting,
    /// It ended.
    Exited {
        /// With this code.
        code: Option<i64>,
        /// When.
        since: Option<SystemTime>,
        /// Whether the system ended it for want of memory.
        out_of_memory: bool,
    },
    /// It is being removed, or could not be.
    Removing,
    /// Something else, in the engine's own word.
    Other(String),
}

/// Whose network a container is in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Network {
    /// Its own: only published ports lead into it.
    Own,
    /// The machine's: its ports are the machine's ports.
    Host,
    /// That of the container with this id, which publishes for both.
    Of(String),
}

/// A TCP port of a container that can be reached from outside.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Published {
    /// The port inside.
    pub private: u16,
    /// Where the engine listens for it; each family is a port of its own. `0.0.0.0` and `[::]` are every address of that family.
    pub address: SocketAddr,
}

impl Containers {
    /// Where port `port` of the container, or compose service, `name` is to be dialled now, or why not.
    ///
    /// A container is meant by its name; without one of that name, the running containers of the compose service `name`
    /// are, as long as they are of one project. On Linux the sockets inside are looked at too, with each call: an engine
    /// takes connections for a program that does not listen, and drops them. So ask anew while nobody listens there.
    pub fn find(&self, name: &str, port: u16) -> Result<Found, NotFound> {
        find::find(self, name, port, Inside::listen)
            .map_err(|missed| absence::word(self, name, port, &missed, &Zoned::now()))
    }

    /// The running container that publishes a port at `address`, to be named instead of the engine's helper that
    /// listens there (`docker-proxy`, `rootlessport`). The one that published the most similar address.
    pub fn owner_of(&self, address: SocketAddr) -> Option<&Container> {
        let running = self.list.iter().filter(|container| container.is_up());
        running
            .flat_map(|container| {
                container.published.iter().map(move |published| (published.likeness(address), container))
            })
            .filter_map(|(likeness, container)| Some((likeness?, container)))
            .min_by_key(|(likeness, _)| *likeness)
            .map(|(_, container)| container)
    }
}

impl Container {
    /// Whether its engine keeps its ports: it runs, or is frozen while it does.
    fn is_up(&self) -> bool {
        matches!(self.state, State::Running { .. } | State::Paused)
    }
}

/// How a published address resembles the address of a listener, the most certain first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Likeness {
    /// The same.
    Exact,
    /// Published on every address of its family, of which it is one.
    Wildcard,
    /// Both are every address, of different families: one socket of Podman serves both.
    BothFamilies,
}

impl Published {
    /// `[::]:32768` and `0.0.0.0:32768` may belong to two containers, so one family never stands for the other but where
    /// the listener is for both.
    fn likeness(&self, address: SocketAddr) -> Option<Likeness> {
        let (own, other) = (self.address.ip(), address.ip());
        if self.address.port() != address.port() {
            return None;
        }
        match own.is_ipv4() == other.is_ipv4() {
            true if own == other => Some(Likeness::Exact),
            true if own.is_unspecified() => Some(Likeness::Wildcard),
            false if own.is_unspecified() && other.is_unspecified() => Some(Likeness::BothFamilies),
            _ => None,
        }
    }

    /// Where a client on this machine dials it.
    fn dialled(&self) -> SocketAddr {
        let ip = match self.address.ip() {
            IpAddr::V4(ip) if ip.is_unspecified() => IpAddr::from([127, 0, 0, 1]),
            IpAddr::V6(ip) if ip.is_unspecified() => IpAddr::from([0, 0, 0, 0, 0, 0, 0, 1]),
            ip => ip,
        };
        SocketAddr::new(ip, self.address.port())
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Created => "created",
            Self::Running { .. } => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited { .. } => "exited",
            Self::Removing => "removing",
            Self::Other(word) => word,
        })
    }
}

/// Containers and engines for tests.
#[cfg(test)]
pub(crate) mod samples {
    use super::*;

    pub(crate) fn docker() -> Arc<Place> {
        Arc::new(Place { tool: Tool::Docker, door: places::Door::Unix("/var/run/docker.sock".into()) })
    }

    pub(crate) fn podman() -> Arc<Place> {
        Arc::new(Place { tool: Tool::Podman, door: places::Door::Unix("/run/podman/podman.sock".into()) })
    }

    pub(crate) fn published(private: u16, address: &str) -> Published {
        Published { private, address: address.parse().unwrap() }
    }

    pub(crate) fn exited(code: i64) -> State {
        State::Exited { code: Some(code), since: None, out_of_memory: false }
    }

    /// A container that runs and publishes nothing.
    pub(crate) fn running(name: &str) -> Container {
        Container {
            id: format!("id-of-{name}"),
            name: name.into(),
            compose: None,
            image: "bb:1".into(),
            engine: docker(),
            state: State::Running { since: None, inside: None },
            network: Network::Own,
            published: Vec::new(),
            udp: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(containers: &[(&str, &str)]) -> Containers {
        let container = |(name, address): &(&str, &str)| Container {
            published: vec![samples::published(80, address)],
            ..samples::running(name)
        };
        Containers { engines: Vec::new(), list: containers.iter().map(container).collect() }
    }

    fn owner<'c>(all: &'c Containers, address: &str) -> Option<&'c str> {
        all.owner_of(address.parse().unwrap()).map(|container| container.name.as_str())
    }

    #[test]
    fn one_port_of_two_families_belongs_to_two_containers() {
        // Seen with Docker 20.10 and `-P`.
        let all = all(&[("db", "[::]:32768"), ("web", "127.0.0.1:32768")]);
        assert_eq!(owner(&all, "[::]:32768"), Some("db"));
        assert_eq!(owner(&all, "[::1]:32768"), Some("db"));
        assert_eq!(owner(&all, "127.0.0.1:32768"), Some("web"));
        assert_eq!(owner(&all, "127.0.0.1:32769"), None);
    }

    #[test]
    fn an_address_of_its_own_goes_before_every_address() {
        let all = all(&[("every", "0.0.0.0:8080"), ("one", "127.0.0.9:8080")]);
        assert_eq!(owner(&all, "127.0.0.9:8080"), Some("one"));
        assert_eq!(owner(&all, "127.0.0.1:8080"), Some("every"));
    }

    #[test]
    fn a_listener_for_both_families_is_that_of_a_container_for_one() {
        let all = all(&[("db", "0.0.0.0:5432"), ("web", "127.0.0.1:8080")]);
        assert_eq!(owner(&all, "[::]:5432"), Some("db"));
        assert_eq!(owner(&all, "[::]:8080"), None);
    }

    #[test]
    fn a_container_that_ended_owns_nothing_and_a_frozen_one_what_it_had() {
        let mut all = all(&[("db", "0.0.0.0:5432")]);
        all.list[0].state = State::Paused;
        assert_eq!(owner(&all, "0.0.0.0:5432"), Some("db"));
        all.list[0].state = samples::exited(0);
        assert_eq!(owner(&all, "0.0.0.0:5432"), None);
    }
}
