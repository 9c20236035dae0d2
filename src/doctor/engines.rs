//! Whether the engines of containers answer.
//!
//! One that is absent is no fault until a route leads to a container.

use std::{
    env, io,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
};

use super::{Finding, listed};
use crate::{
    config::{Address, Config, Sought},
    diagnostic::{shown, without_number},
    discover,
};

const CHECK: &str = "containers";

/// An engine's socket that is there.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Engine {
    kind: Kind,
    socket: PathBuf,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    Docker,
    Podman,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum State {
    Answers,
    /// It is another user's.
    Denied,
    /// The words of the system.
    Silent(String),
}

pub(super) fn look() -> Vec<Engine> {
    let mut places = places();
    places.retain(|(_, socket)| socket.exists());
    // `/var/run` mostly is `/run`.
    places.dedup_by_key(|(_, socket)| socket.canonicalize().unwrap_or_else(|_| socket.clone()));
    places.into_iter().map(|(kind, socket)| Engine { kind, state: state(&socket), socket }).collect()
}

/// Where engines listen unless they are told otherwise.
fn places() -> Vec<(Kind, PathBuf)> {
    let beneath = |folder: Option<PathBuf>, name: &str| folder.map(|folder| folder.join(name));
    let named = |variable| {
        let value = env::var(variable).ok()?;
        value.strip_prefix("unix://").map(PathBuf::from)
    };
    let runtime = || env::var_os("XDG_RUNTIME_DIR").map(PathBuf::from);
    let docker = [
        named("DOCKER_HOST"),
        Some(PathBuf::from("/var/run/docker.sock")),
        beneath(runtime(), "docker.sock"),
        beneath(env::home_dir(), ".docker/run/docker.sock"),
    ];
    let podman = [
        named("CONTAINER_HOST"),
        beneath(runtime(), "podman/podman.sock"),
        Some(PathBuf::from("/run/podman/podman.sock")),
    ];
    let of = |kind| move |socket| (kind, socket);
    let docker = docker.into_iter().flatten().map(of(Kind::Docker));
    docker.chain(podman.into_iter().flatten().map(of(Kind::Podman))).collect()
}

fn state(socket: &Path) -> State {
    match UnixStream::connect(socket) {
        Ok(_) => State::Answers,
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => State::Denied,
        Err(error) => State::Silent(without_number(&error)),
    }
}

/// One that answers is enough.
pub(super) fn examine(config: Option<&Config>, engines: &[Engine]) -> Vec<Finding> {
    let routes: Vec<_> = config.into_iter().flat_map(routes_to_containers).collect();
    let answering: Vec<_> = engines.iter().filter(|engine| engine.state == State::Answers).collect();
    if !answering.is_empty() {
        let places = listed(answering.iter().map(|engine| engine.words()));
        return vec![Finding::ok(CHECK, format!("{places} can be asked"))];
    }
    if engines.is_empty() && routes.is_empty() {
        return vec![Finding::ok(CHECK, "there is no container engine here, and no route needs one")];
    }
    if engines.is_empty() {
        let message = format!("{} to a container, and there is no engine here", leads(&routes));
        return vec![Finding::problem(CHECK, message).help("start Docker or Podman: `sudo systemctl start docker`")];
    }
    engines.iter().map(|engine| word(engine, &routes)).collect()
}

fn routes_to_containers(config: &Config) -> impl Iterator<Item = String> {
    let is_container = |address: &Address| matches!(address, Address::Followed(Sought::Container { .. }));
    let routes = config.routes.iter().filter(move |route| discover::targets(route).any(is_container));
    routes.map(|route| format!("`{}`", route.name))
}

fn word(engine: &Engine, routes: &[String]) -> Finding {
    let (message, help) = match (&engine.state, engine.kind) {
        (State::Denied, Kind::Docker) => (
            format!("{} is not open to this user", engine.words()),
            "`sudo usermod -aG docker $USER`, then log in again",
        ),
        (State::Denied, Kind::Podman) => {
            (format!("{} is not open to this user", engine.words()), "`systemctl --user start podman.socket`")
        }
        (State::Silent(why), kind) => {
            let help = match kind {
                Kind::Docker => "`sudo systemctl start docker`",
                Kind::Podman => "`systemctl --user start podman.socket`",
            };
            (format!("{} does not answer: {why}", engine.words()), help)
        }
        (State::Answers, _) => return Finding::ok(CHECK, format!("{} can be asked", engine.words())),
    };
    if routes.is_empty() {
        Finding::ok(CHECK, format!("{message}; no route needs it"))
    } else {
        Finding::problem(CHECK, message).note(format!("{} to a container", leads(routes))).help(help)
    }
}

fn leads(routes: &[String]) -> String {
    if routes.len() == 1 { format!("route {} leads", routes[0]) } else { format!("routes {} lead", listed(routes)) }
}

impl Engine {
    fn words(&self) -> String {
        let kind = match self.kind {
            Kind::Docker => "Docker",
            Kind::Podman => "Podman",
        };
        format!("{kind} at {}", shown(&self.socket))
    }
}

#[cfg(test)]
mod tests {
    use super::{
        super::{Verdict, table},
        *,
    };
    use crate::config::{Action, Route};

    fn engine(kind: Kind, state: State) -> Engine {
        Engine { kind, socket: "/run/docker.sock".into(), state }
    }

    fn with_container() -> Config {
        let mut config = table("[routes]\nweb = 5173\n");
        let Some(Route { action: Action::Forward(forward), .. }) = config.routes.first_mut() else { unreachable!() };
        forward.targets[0].address = Address::Followed(Sought::Container { name: "shop-web".into(), port: 80 });
        config
    }

    #[test]
    fn no_engine_is_no_fault_until_a_route_needs_one() {
        let expected = Finding::ok("containers", "there is no container engine here, and no route needs one");
        assert_eq!(examine(Some(&table("[routes]\nweb = 5173\n")), &[]), [expected]);
        let told = examine(Some(&with_container()), &[]);
        assert_eq!(told[0].verdict, Verdict::Problem);
        assert_eq!(told[0].message, "route `web` leads to a container, and there is no engine here");
    }

    #[test]
    fn an_engine_that_answers_is_named() {
        let engines = [engine(Kind::Podman, State::Denied), engine(Kind::Docker, State::Answers)];
        assert_eq!(examine(None, &engines), [Finding::ok("containers", "Docker at /run/docker.sock can be asked")]);
    }

    #[test]
    fn an_engine_of_another_user_is_told_with_the_group_where_a_route_needs_it() {
        let engines = [engine(Kind::Docker, State::Denied)];
        assert_eq!(examine(None, &engines)[0].verdict, Verdict::Ok);
        let expected = Finding::problem("containers", "Docker at /run/docker.sock is not open to this user")
            .note("route `web` leads to a container")
            .help("`sudo usermod -aG docker $USER`, then log in again");
        assert_eq!(examine(Some(&with_container()), &engines), [expected]);
    }

    #[test]
    fn an_engine_that_does_not_run_is_told_how_to_start_it() {
        let silent =
            |kind| examine(Some(&with_container()), &[engine(kind, State::Silent("connection refused".into()))]);
        let docker = silent(Kind::Docker).remove(0);
        assert_eq!(docker.message, "Docker at /run/docker.sock does not answer: connection refused");
        assert_eq!(docker.help.as_deref(), Some("`sudo systemctl start docker`"));
        assert_eq!(silent(Kind::Podman)[0].help.as_deref(), Some("`systemctl --user start podman.socket`"));
    }

    #[test]
    fn a_socket_that_nobody_listens_on_does_not_answer() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("docker.sock");
        let socket = std::os::unix::net::UnixListener::bind(&path).unwrap();
        assert_eq!(state(&path), State::Answers);
        drop(socket);
        assert_eq!(state(&path), State::Silent("connection refused".into()));
    }
}
