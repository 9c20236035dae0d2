//! Which container a name means, and at which addresses its port is dialled.
//!
//! Pure, but for the ear at a container, which the caller lends.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    net::SocketAddr,
    sync::Arc,
};

use super::{
    Container, Containers, Network, Published, Reach, State,
    inside::{Inside, Sound},
};

/// Where a port of a container is dialled.
#[derive(Debug, Clone)]
pub struct Found {
    /// To be tried in this order; never empty. Each family as it was published, one never stands for the other.
    pub addresses: Vec<SocketAddr>,
    /// Differs when the container was restarted or replaced, even if its addresses are the same.
    pub run: u64,
    ears: Vec<(SocketAddr, Ear)>,
}

/// What hears whether somebody listens at a port inside.
#[derive(Debug, Clone)]
struct Ear {
    inside: Arc<Inside>,
    port: u16,
    network: Network,
}

impl Found {
    /// Whether somebody listens behind this address of ours in this moment; to be asked before it is dialled, where no is
    /// as good as a refusal. Yes where that cannot be seen. Takes some 50 µs, now and then a few milliseconds for a no.
    ///
    /// A connection would be taken all the same: by the engine's helper, which drops it.
    pub fn listens(&self, address: SocketAddr) -> bool {
        let ear = self.ears.iter().find(|(at, _)| *at == address);
        ear.is_none_or(|(_, ear)| ear.inside.listen(ear.port, &ear.network) == Sound::Listens)
    }
}

/// What stands in the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Missed<'c> {
    /// No engine is there, or none answers.
    NoEngine,
    /// An engine has not answered yet, and none of the others has such a container.
    NotAsked,
    /// No container goes by the name.
    Unknown,
    /// Several do that have nothing to do with each other.
    Several(Vec<&'c Container>),
    /// It does not run.
    Still(&'c Container),
    /// The port is not published.
    Unpublished(&'c Container),
    /// Its first process is not there, not yet or not any more.
    Passing(&'c Container),
    /// It runs, and its program cannot be reached at the port: it has these sockets.
    Deaf(&'c Container, Vec<SocketAddr>),
}

/// Where the port is dialled.
pub(super) fn find<'c>(
    all: &'c Containers,
    name: &str,
    port: u16,
    listen: impl Fn(&Inside, u16, &Network) -> Sound,
) -> Result<Found, Missed<'c>> {
    let mut found = Found { addresses: Vec::new(), run: 0, ears: Vec::new() };
    let mut run = DefaultHasher::new();
    let mut first_missed = None;
    for container in meant(all, name)? {
        match reach(all, container, port, &listen) {
            Ok(addresses) => {
                (&container.id, &container.state, &addresses).hash(&mut run);
                let ear = ear(container, port);
                found.ears.extend(addresses.iter().filter_map(|address| Some((*address, ear.clone()?))));
                found.addresses.extend(addresses);
            }
            Err(missed) => {
                first_missed.get_or_insert(missed);
            }
        }
    }
    match first_missed {
        Some(missed) if found.addresses.is_empty() => Err(missed),
        _ => Ok(Found { run: run.finish(), ..found }),
    }
}

/// The containers that `name` means, at least one: those that run, or else all of them.
fn meant<'c>(all: &'c Containers, name: &str) -> Result<Vec<&'c Container>, Missed<'c>> {
    let named = named(all, name);
    let running: Vec<_> =
        named.iter().copied().filter(|container| matches!(container.state, State::Running { .. })).collect();
    let meant = if running.is_empty() { named } else { running };
    match meant.as_slice() {
        [] => Err(nobody(all)),
        [first, rest @ ..] if rest.iter().all(|other| belong_together(first, other)) => Ok(meant),
        _ => Err(Missed::Several(meant)),
    }
}

/// Those of that name; without one, those of that service, in the order of their numbers.
fn named<'c>(all: &'c Containers, name: &str) -> Vec<&'c Container> {
    let by_name: Vec<_> = all.list.iter().filter(|container| container.name == name).collect();
    if !by_name.is_empty() {
        return by_name;
    }
    let number = |container: &Container| {
        container.compose.as_ref().filter(|compose| compose.service == name).map(|compose| compose.number)
    };
    let mut of_service: Vec<_> =
        all.list.iter().filter_map(|container| Some((number(container)?, container))).collect();
    of_service.sort_by_key(|(number, _)| *number);
    of_service.into_iter().map(|(_, container)| container).collect()
}

/// Whether two containers of one name, or of services of one name, do the same work.
fn belong_together(one: &Container, other: &Container) -> bool {
    let project = |container: &Container| container.compose.as_ref().map(|compose| compose.project.clone());
    one.engine == other.engine && one.name != other.name && project(one) == project(other)
}

fn nobody<'c>(all: &Containers) -> Missed<'c> {
    let states = || all.engines.iter().map(|engine| &engine.state);
    if states().any(|state| matches!(state, Reach::Asked)) {
        Missed::NotAsked
    } else if states().any(|state| matches!(state, Reach::Reached { .. })) {
        Missed::Unknown
    } else {
        Missed::NoEngine
    }
}

/// Where the port of this very container is dialled.
fn reach<'c>(
    all: &'c Containers,
    container: &'c Container,
    port: u16,
    listen: impl Fn(&Inside, u16, &Network) -> Sound,
) -> Result<Vec<SocketAddr>, Missed<'c>> {
    let State::Running { inside, .. } = &container.state else { return Err(Missed::Still(container)) };
    let addresses = addresses(all, container, port);
    if addresses.is_empty() {
        return Err(Missed::Unpublished(container));
    }
    match inside.as_ref().map_or(Sound::Listens, |inside| listen(inside, port, &container.network)) {
        Sound::Listens => Ok(addresses),
        Sound::Deaf(sockets) => Err(Missed::Deaf(container, sockets)),
        Sound::Absent => Err(Missed::Passing(container)),
    }
}

fn ear(container: &Container, port: u16) -> Option<Ear> {
    let State::Running { inside: Some(inside), .. } = &container.state else { return None };
    Some(Ear { inside: Arc::clone(inside), port, network: container.network.clone() })
}

fn addresses(all: &Containers, container: &Container, port: u16) -> Vec<SocketAddr> {
    if container.network == Network::Host {
        return vec![SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))];
    }
    let publisher = publisher(all, container);
    let published = publisher.published.iter().filter(|published| published.private == port);
    let mut addresses: Vec<SocketAddr> = published.map(Published::dialled).collect();
    addresses.dedup();
    addresses
}

/// The container in whose network this one is.
pub(super) fn publisher<'c>(all: &'c Containers, container: &'c Container) -> &'c Container {
    let Network::Of(id) = &container.network else { return container };
    let is_it = |other: &&Container| other.engine == container.engine && other.id == *id;
    all.list.iter().find(is_it).unwrap_or(container)
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Compose, Engine, samples},
        *,
    };

    fn all(list: Vec<Container>) -> Containers {
        let state = Reach::Reached { version: "Docker 28.5.2".into() };
        Containers { engines: vec![Engine { place: samples::docker(), state }], list }
    }

    fn publishing(name: &str, published: &[(u16, &str)]) -> Container {
        let published = published.iter().map(|(private, address)| samples::published(*private, address)).collect();
        Container { published, ..samples::running(name) }
    }

    fn replica(project: &str, number: u32, address: &str) -> Container {
        let compose = Compose { project: project.into(), service: "web".into(), number };
        Container { compose: Some(compose), ..publishing(&format!("{project}-web-{number}"), &[(80, address)]) }
    }

    fn listens(_: &Inside, _: u16, _: &Network) -> Sound {
        Sound::Listens
    }

    fn missed<'c>(all: &'c Containers, name: &str, port: u16) -> Missed<'c> {
        find(all, name, port, listens).unwrap_err()
    }

    fn addresses(all: &Containers, name: &str, port: u16) -> Vec<String> {
        let found = find(all, name, port, listens).unwrap();
        found.addresses.iter().map(SocketAddr::to_string).collect()
    }

    /// A container whose inside can be seen.
    fn seen(container: Container) -> Container {
        let inside = Some(Inside::of(4812, &container.id));
        Container { state: State::Running { since: None, inside }, ..container }
    }

    #[test]
    fn every_address_is_dialled_by_the_loopback_address_of_its_own_family() {
        let all =
            all(vec![publishing("db", &[(5432, "0.0.0.0:32769"), (5432, "[::]:32768"), (80, "127.0.0.1:32768")])]);
        assert_eq!(addresses(&all, "db", 5432), ["127.0.0.1:32769", "[::1]:32768"]);
    }

    #[test]
    fn a_single_address_is_dialled_as_it_is() {
        let all = all(vec![publishing("db", &[(5432, "127.0.0.9:32769")])]);
        assert_eq!(addresses(&all, "db", 5432), ["127.0.0.9:32769"]);
    }

    #[test]
    fn a_compose_service_is_all_its_running_replicas_in_the_order_of_their_numbers() {
        let mut stopped = replica("shop", 3, "0.0.0.0:32770");
        stopped.state = samples::exited(0);
        let all = all(vec![replica("shop", 10, "0.0.0.0:32771"), stopped, replica("shop", 2, "0.0.0.0:32769")]);
        assert_eq!(addresses(&all, "web", 80), ["127.0.0.1:32769", "127.0.0.1:32771"]);
    }

    #[test]
    fn the_name_of_a_container_goes_before_that_of_a_service() {
        let all = all(vec![replica("shop", 1, "0.0.0.0:32769"), publishing("web", &[(80, "0.0.0.0:8080")])]);
        assert_eq!(addresses(&all, "web", 80), ["127.0.0.1:8080"]);
    }

    #[test]
    fn services_of_one_name_in_two_projects_are_never_mixed() {
        let (shop, blog) = (replica("shop", 1, "0.0.0.0:32769"), replica("blog", 1, "0.0.0.0:32770"));
        let both = all(vec![shop.clone(), blog.clone()]);
        assert_eq!(missed(&both, "web", 80), Missed::Several(vec![&shop, &blog]));

        let stopped = Container { state: samples::exited(0), ..blog };
        assert_eq!(addresses(&all(vec![shop, stopped]), "web", 80), ["127.0.0.1:32769"]);
    }

    #[test]
    fn containers_of_one_name_in_two_engines_are_never_mixed() {
        let docker = publishing("db", &[(5432, "0.0.0.0:5432")]);
        let podman = Container { engine: samples::podman(), ..docker.clone() };
        let both = all(vec![docker.clone(), podman.clone()]);
        assert_eq!(missed(&both, "db", 5432), Missed::Several(vec![&docker, &podman]));
    }

    #[test]
    fn in_the_network_of_the_machine_a_port_is_the_port() {
        let all = all(vec![Container { network: Network::Host, ..samples::running("db") }]);
        assert_eq!(addresses(&all, "db", 5432), ["127.0.0.1:5432", "[::1]:5432"]);
    }

    #[test]
    fn in_the_network_of_another_container_its_ports_count() {
        let vpn = publishing("vpn", &[(8080, "127.0.0.1:32768")]);
        let web = Container { network: Network::Of(vpn.id.clone()), ..samples::running("web") };
        let orphan = Container { network: Network::Of("gone".into()), ..samples::running("orphan") };
        let all = all(vec![orphan, vpn, web]);
        assert_eq!(addresses(&all, "web", 8080), ["127.0.0.1:32768"]);
        assert!(matches!(missed(&all, "orphan", 8080), Missed::Unpublished(_)));
    }

    #[test]
    fn a_port_that_is_not_published_has_no_address() {
        let all = all(vec![publishing("db", &[(5432, "0.0.0.0:5432")])]);
        assert_eq!(missed(&all, "db", 5433), Missed::Unpublished(&all.list[0]));
    }

    #[test]
    fn a_frozen_container_and_one_that_ended_have_no_address() {
        for state in [State::Paused, State::Restarting, State::Created, State::Removing, samples::exited(137)] {
            let all = all(vec![Container { state, ..publishing("db", &[(5432, "0.0.0.0:5432")]) }]);
            assert_eq!(missed(&all, "db", 5432), Missed::Still(&all.list[0]));
        }
    }

    #[test]
    fn a_program_that_does_not_listen_is_not_dialled() {
        let all = all(vec![seen(publishing("web", &[(8080, "127.0.0.1:32768")]))]);
        let missed = |sound: Sound| find(&all, "web", 8080, |_, _, _| sound.clone()).unwrap_err();
        let (web, others) = (&all.list[0], vec!["0.0.0.0:9229".parse().unwrap()]);
        assert_eq!(missed(Sound::Deaf(others.clone())), Missed::Deaf(web, others));
        assert_eq!(missed(Sound::Absent), Missed::Passing(web));
        assert_eq!(addresses(&all, "web", 8080), ["127.0.0.1:32768"]);
    }

    #[test]
    fn of_replicas_those_count_that_listen() {
        let replicas = [replica("shop", 1, "0.0.0.0:32769"), replica("shop", 2, "0.0.0.0:32770")];
        let all = all(replicas.map(seen).to_vec());
        let second = Inside::of(4812, &all.list[1].id);
        let only_second = |inside: &Inside, _: u16, _: &Network| {
            if *inside == *second { Sound::Listens } else { Sound::Deaf(Vec::new()) }
        };
        let found = find(&all, "web", 80, only_second).unwrap();
        assert_eq!(found.addresses, ["127.0.0.1:32770".parse().unwrap()]);
    }

    #[test]
    fn a_restart_is_another_run_even_at_the_same_address() {
        let run = |started: u64| {
            let since = Some(std::time::UNIX_EPOCH + std::time::Duration::from_secs(started));
            let state = State::Running { since, inside: None };
            let all = all(vec![Container { state, ..publishing("db", &[(5432, "0.0.0.0:5432")]) }]);
            find(&all, "db", 5432, listens).unwrap().run
        };
        assert_eq!(run(1), run(1));
        assert_ne!(run(1), run(2));
    }

    #[test]
    fn an_engine_that_was_not_heard_yet_is_not_said_to_have_no_such_container() {
        let engine = |state| Engine { place: samples::docker(), state };
        let missed = |states: Vec<Reach>| {
            let all = Containers { engines: states.into_iter().map(engine).collect(), list: Vec::new() };
            format!("{:?}", find(&all, "db", 5432, listens).unwrap_err())
        };
        let (reached, absent) =
            (Reach::Reached { version: String::new() }, Reach::Absent(super::super::Trouble::Refused));
        assert_eq!(missed(vec![]), "NoEngine");
        assert_eq!(missed(vec![absent.clone()]), "NoEngine");
        assert_eq!(missed(vec![absent.clone(), reached.clone()]), "Unknown");
        assert_eq!(missed(vec![absent, reached, Reach::Asked]), "NotAsked");
    }

    #[test]
    fn a_published_port_is_dialled_once_however_often_it_is_told() {
        let twice = [Published { private: 80, address: "0.0.0.0:8080".parse().unwrap() }; 2];
        let all = all(vec![Container { published: twice.to_vec(), ..samples::running("web") }]);
        assert_eq!(addresses(&all, "web", 80), ["127.0.0.1:8080"]);
    }
}
