//! Where engines are: what the environment names, what Docker's context names, and where they usually are.
//!
//! The order is Docker's own: `DOCKER_HOST`, then the context of `DOCKER_CONTEXT` or `config.json`, then the usual sockets.
//! Podman is looked for beside it: `CONTAINER_HOST`, or its usual sockets. Of the usual ones only those count that exist.

use std::{
    env, fmt, fs,
    path::{Path, PathBuf},
};

use serde::Deserialize;

use super::trouble::Trouble;
use crate::diagnostic::{printable, shown};

/// Larger files are no settings of Docker's.
const MOST_BYTES: u64 = 1024 * 1024;

/// The port of an engine over plain TCP, registered for that: `docker` in IANA's list of services.
const DOCKER_PORT: u16 = 2375;

/// Whose command line drives an engine; its `Display` is the command.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Tool {
    /// `docker`
    Docker,
    /// `podman`
    Podman,
}

/// Where an engine is; its `Display` is `docker at /var/run/docker.sock`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Whose engine that should be.
    pub tool: Tool,
    pub(super) door: Door,
}

/// How to get to an engine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Door {
    /// A Unix socket.
    Unix(PathBuf),
    /// HTTP over TCP; a name or an address, and a port.
    Tcp(String, u16),
    /// Not at all: where it was said to be, and why we cannot go there.
    Closed(String, Trouble),
}

/// All that tells where engines are.
#[derive(Debug, Clone, Default)]
pub struct Whereabouts {
    docker_host: Option<String>,
    docker_context: Option<String>,
    /// Docker's folder of settings.
    settings: Option<PathBuf>,
    container_host: Option<String>,
    /// Where sockets usually are.
    usual: Vec<(Tool, PathBuf)>,
}

impl Whereabouts {
    /// What the environment of this process and the files of this user say.
    pub fn here() -> Self {
        let folder = |name| env::var_os(name).filter(|path| !path.is_empty()).map(PathBuf::from);
        let text = |name| env::var(name).ok().filter(|text| !text.is_empty());
        let (home, runtime) = (folder("HOME"), folder("XDG_RUNTIME_DIR"));
        Self {
            docker_host: text("DOCKER_HOST"),
            docker_context: text("DOCKER_CONTEXT"),
            settings: folder("DOCKER_CONFIG").or_else(|| Some(home.as_ref()?.join(".docker"))),
            container_host: text("CONTAINER_HOST"),
            usual: usual(home.as_deref(), runtime.as_deref()),
        }
    }

    /// What `DOCKER_HOST` and `CONTAINER_HOST` of these values would name, and nothing else.
    pub fn named(docker_host: Option<&str>, container_host: Option<&str>) -> Self {
        let (docker_host, container_host) = (docker_host.map(str::to_owned), container_host.map(str::to_owned));
        Self { docker_host, container_host, ..Self::default() }
    }

    /// The places to ask now; a context is switched and a socket comes and goes at any time.
    pub(super) fn places(&self) -> Vec<Place> {
        let mut places = self.places_of(Tool::Docker, self.docker());
        places.extend(self.places_of(Tool::Podman, self.container_host.as_deref().map(door)));
        // Podman may stand in for Docker, whose socket then is a link to its own.
        let mut seen = Vec::new();
        places.retain(|place| {
            let door = place.door.resolved();
            let is_new = !seen.contains(&door);
            seen.push(door);
            is_new
        });
        places
    }

    /// The one that is named, or else the usual ones that exist.
    fn places_of(&self, tool: Tool, named: Option<Door>) -> Vec<Place> {
        let place = |door| Place { tool, door };
        if let Some(door) = named {
            return vec![place(door)];
        }
        let usual = self.usual.iter().filter(|(whose, path)| *whose == tool && path.exists());
        usual.map(|(_, path)| place(Door::Unix(path.clone()))).collect()
    }

    /// What names Docker's engine, if anything does.
    fn docker(&self) -> Option<Door> {
        if let Some(host) = &self.docker_host {
            return Some(door(host));
        }
        let settings = self.settings.as_deref()?;
        let context =
            self.docker_context.clone().or_else(|| Some(read::<Settings>(&settings.join("config.json"))?.context))?;
        // Docker's word for: no context, but the usual socket.
        (!matches!(context.as_str(), "" | "default")).then(|| context_door(settings, &context))
    }
}

/// Where sockets are unless somebody has said otherwise: of the system, of rootless engines, of Docker Desktop.
fn usual(home: Option<&Path>, runtime: Option<&Path>) -> Vec<(Tool, PathBuf)> {
    let mut usual = vec![(Tool::Docker, "/var/run/docker.sock".into())];
    usual.extend(runtime.map(|runtime| (Tool::Docker, runtime.join("docker.sock"))));
    usual.extend(home.map(|home| (Tool::Docker, home.join(".docker/run/docker.sock"))));
    usual.extend(runtime.map(|runtime| (Tool::Podman, runtime.join("podman/podman.sock"))));
    usual.push((Tool::Podman, "/run/podman/podman.sock".into()));
    usual
}

/// `config.json`
#[derive(Debug, Deserialize)]
struct Settings {
    #[serde(rename = "currentContext", default)]
    context: String,
}

/// `contexts/meta/*/meta.json`
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Context {
    name: String,
    #[serde(default)]
    endpoints: Endpoints,
}

#[derive(Debug, Default, Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Endpoint {
    #[serde(default)]
    host: String,
}

fn context_door(settings: &Path, name: &str) -> Door {
    let folders = fs::read_dir(settings.join("contexts/meta")).into_iter().flatten().flatten();
    let mut contexts = folders.filter_map(|folder| read::<Context>(&folder.path().join("meta.json")));
    let host = contexts.find(|context| context.name == name).and_then(|context| context.endpoints.docker);
    match host {
        Some(endpoint) if !endpoint.host.is_empty() => door(&endpoint.host),
        _ => {
            let name = printable(name);
            let why = "Docker has no such context with an engine: `docker context ls` lists them";
            Door::Closed(format!("context {name}"), Trouble::Unreachable(why.into()))
        }
    }
}

/// `None` for what cannot be read as that: Docker's settings are not ours to check.
fn read<T: for<'de> Deserialize<'de>>(file: &Path) -> Option<T> {
    let metadata = fs::metadata(file).ok()?;
    (metadata.is_file() && metadata.len() <= MOST_BYTES)
        .then(|| fs::read(file).ok())
        .flatten()
        .and_then(|text| serde_json::from_slice(&text).ok())
}

/// What `DOCKER_HOST` and its like say.
fn door(host: &str) -> Door {
    let closed = |why: &str| Door::Closed(printable(host), Trouble::Unreachable(why.into()));
    match host.split_once("://") {
        Some(("unix", path)) if cfg!(unix) && path.starts_with('/') => Door::Unix(path.into()),
        Some(("unix", _)) => closed("a socket is named by its whole path, on systems that have such sockets"),
        Some(("tcp" | "http", rest)) => tcp(rest).unwrap_or_else(|| closed("no host and port can be read from that")),
        None => tcp(host).unwrap_or_else(|| closed("no host and port can be read from that")),
        Some(("ssh", _)) => closed("portolan asks no engine over SSH: its published ports are on that other machine"),
        Some(("https", _)) => closed("portolan speaks no TLS with engines"),
        Some(_) => closed("only `unix://` and `tcp://` can be asked"),
    }
}

fn tcp(rest: &str) -> Option<Door> {
    let authority: http::uri::Authority = rest.trim_end_matches('/').parse().ok()?;
    let port = match authority.as_str().strip_prefix(authority.host())? {
        "" => DOCKER_PORT,
        port => port.strip_prefix(':')?.parse().ok()?,
    };
    let host = authority.host().trim_matches(['[', ']']);
    (!host.is_empty()).then(|| Door::Tcp(host.into(), port))
}

impl Door {
    /// The same for two names of one socket.
    fn resolved(&self) -> Self {
        match self {
            Self::Unix(path) => Self::Unix(fs::canonicalize(path).unwrap_or_else(|_| path.clone())),
            other => other.clone(),
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Docker => "docker",
            Self::Podman => "podman",
        })
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at ", self.tool)?;
        match &self.door {
            Door::Unix(path) => f.write_str(&shown(path)),
            Door::Tcp(host, port) if host.contains(':') => write!(f, "tcp://[{}]:{port}", printable(host)),
            Door::Tcp(host, port) => write!(f, "tcp://{}:{port}", printable(host)),
            Door::Closed(said, _) => f.write_str(said),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(context: &str, contexts: &[(&str, &str)]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let config = format!(r#"{{"auths":{{}},"currentContext":"{context}"}}"#);
        fs::write(folder.path().join("config.json"), config).unwrap();
        for (name, host) in contexts {
            // Docker names these folders after a hash.
            let context = folder.path().join("contexts/meta").join(format!("hash-of-{name}"));
            fs::create_dir_all(&context).unwrap();
            let meta = format!(
                r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{{"Host":"{host}","SkipTLSVerify":false}}}}}}"#
            );
            fs::write(context.join("meta.json"), meta).unwrap();
        }
        folder
    }

    fn shown_places(whereabouts: &Whereabouts) -> Vec<String> {
        whereabouts.places().iter().map(Place::to_string).collect()
    }

    fn closed(host: &str) -> String {
        match door(host) {
            Door::Closed(said, trouble) => format!("{said}: {trouble}"),
            open => panic!("{open:?}"),
        }
    }

    #[test]
    fn docker_host_goes_before_every_context() {
        let folder = settings("colima", &[("colima", "unix:///home/ada/.colima/docker.sock")]);
        let settings = Some(folder.path().to_owned());
        let named =
            Whereabouts { docker_host: Some("unix:///run/mine.sock".into()), settings, ..Whereabouts::default() };
        assert_eq!(shown_places(&named), ["docker at /run/mine.sock"]);
        assert_eq!(
            shown_places(&Whereabouts { docker_host: None, ..named }),
            ["docker at /home/ada/.colima/docker.sock"]
        );
    }

    #[test]
    fn docker_context_goes_before_the_context_that_was_chosen() {
        let folder = settings("colima", &[("colima", "unix:///a.sock"), ("far", "tcp://10.9.9.9:2375")]);
        let settings = Some(folder.path().to_owned());
        let chosen = Whereabouts { docker_context: Some("far".into()), settings, ..Whereabouts::default() };
        assert_eq!(shown_places(&chosen), ["docker at tcp://10.9.9.9:2375"]);
    }

    #[test]
    fn a_context_that_is_not_there_is_told_and_nothing_is_taken_in_its_place() {
        let folder = settings("desktop-linux", &[]);
        let usual = vec![(Tool::Docker, folder.path().join("config.json"))];
        let lost = Whereabouts { settings: Some(folder.path().to_owned()), usual, ..Whereabouts::default() };
        assert_eq!(shown_places(&lost), ["docker at context desktop-linux"]);
    }

    #[test]
    fn the_default_context_and_settings_that_cannot_be_read_leave_the_usual_sockets_that_exist() {
        for broken in [r#"{"currentContext":"default"}"#, r#"{"currentContext":"#, "{}", "[]"] {
            let folder = tempfile::tempdir().unwrap();
            let socket = folder.path().join("docker.sock");
            fs::write(folder.path().join("config.json"), broken).unwrap();
            fs::write(&socket, "").unwrap();
            let usual = vec![(Tool::Docker, folder.path().join("none.sock")), (Tool::Docker, socket.clone())];
            let here = Whereabouts { settings: Some(folder.path().to_owned()), usual, ..Whereabouts::default() };
            assert_eq!(here.places(), [Place { tool: Tool::Docker, door: Door::Unix(socket) }], "{broken}");
        }
    }

    #[cfg(unix)]
    #[test]
    fn a_socket_with_two_names_is_one_engine() {
        let folder = tempfile::tempdir().unwrap();
        let (docker, podman) = (folder.path().join("docker.sock"), folder.path().join("podman.sock"));
        fs::write(&podman, "").unwrap();
        std::os::unix::fs::symlink(&podman, &docker).unwrap();
        let usual = vec![(Tool::Docker, docker.clone()), (Tool::Podman, podman)];
        let here = Whereabouts { usual, ..Whereabouts::default() };
        assert_eq!(here.places(), [Place { tool: Tool::Docker, door: Door::Unix(docker) }]);
    }

    #[test]
    fn container_host_names_podman_beside_docker() {
        let named = Whereabouts::named(Some("tcp://[::1]:99"), Some("unix:///run/p.sock"));
        assert_eq!(shown_places(&named), ["docker at tcp://[::1]:99", "podman at /run/p.sock"]);
    }

    #[test]
    fn a_host_may_be_written_as_docker_reads_it() {
        assert_eq!(door("unix:///run/docker.sock"), Door::Unix("/run/docker.sock".into()));
        assert_eq!(door("tcp://localhost:2375"), Door::Tcp("localhost".into(), 2375));
        assert_eq!(door("tcp://docker"), Door::Tcp("docker".into(), DOCKER_PORT));
        assert_eq!(door("http://[::1]:99/"), Door::Tcp("::1".into(), 99));
        assert_eq!(door("127.0.0.1:2375"), Door::Tcp("127.0.0.1".into(), 2375));
    }

    #[test]
    fn a_place_that_cannot_be_asked_says_why() {
        assert!(closed("ssh://ada@far").starts_with("ssh://ada@far: portolan asks no engine over SSH"));
        assert!(closed("https://far:2376").ends_with("portolan speaks no TLS with engines"));
        assert!(closed("npipe:////./pipe/docker_engine").ends_with("only `unix://` and `tcp://` can be asked"));
        assert!(closed("unix://relative.sock").contains("whole path"));
        for host in ["tcp://", "tcp://:2375", "tcp://a b", "tcp://host:port"] {
            assert!(closed(host).ends_with("no host and port can be read from that"), "{host}");
        }
    }

    #[test]
    fn sockets_are_looked_for_where_engines_of_the_system_and_of_a_user_have_them() {
        let usual = usual(Some(Path::new("/home/ada")), Some(Path::new("/run/user/1000")));
        let usual: Vec<_> = usual.iter().map(|(tool, path)| format!("{tool} {}", path.display())).collect();
        let expected = [
            "docker /var/run/docker.sock",
            "docker /run/user/1000/docker.sock",
            "docker /home/ada/.docker/run/docker.sock",
            "podman /run/user/1000/podman/podman.sock",
            "podman /run/podman/podman.sock",
        ];
        assert_eq!(usual, expected);
    }
}
