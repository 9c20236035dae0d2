//! A route in the words that people know it by: for the banner, the lists of routes, and the pages.

use std::path::Path;

use serde::Serialize;

use super::{Action, FieldMatch, Forward, HostMatch, Match, PathMatch, Route, Target, TcpRoute, ValueMatch};

/// A route as lists show it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Words {
    /// What it matches: `docs.localhost/api GET header x-beta = "1"`.
    pub pattern: String,
    /// What answers: `:8000`, `redirect /new`, `files dist`, `respond 200`.
    pub target: String,
    /// A host and a path under which a browser finds it, joined as in a URL but without the port between them.
    #[serde(skip)]
    place: (String, String),
}

impl Words {
    /// The words of a route.
    pub fn of(route: &Route) -> Self {
        let place = (example_host(&route.matches.hosts), example_path(&route.matches.path));
        Self { pattern: pattern(&route.matches), target: target(&route.action), place }
    }

    /// Where a browser finds it, if the proxy listens on `port`.
    pub fn url(&self, port: u16) -> String {
        let (host, path) = &self.place;
        format!("http://{host}:{port}{path}")
    }
}

/// The host a person would type; a wildcard has no name of its own, so an example stands in for the label.
fn example_host(hosts: &[HostMatch]) -> String {
    match hosts.first() {
        Some(HostMatch::Exact(name)) => name.clone(),
        Some(HostMatch::Wildcard(suffix)) => format!("any.{suffix}"),
        Some(HostMatch::AnyLocal) | None => "localhost".into(),
    }
}

fn example_path(path: &PathMatch) -> String {
    match path {
        PathMatch::Exact(path) | PathMatch::Prefix(path) => path.clone(),
        PathMatch::Regex(_) => "/".into(),
    }
}

fn pattern(matches: &Match) -> String {
    let hosts: Vec<String> = matches.hosts.iter().map(HostMatch::to_string).collect();
    let host = if matches.hosts == [HostMatch::AnyLocal] { String::new() } else { hosts.join(",") };
    let mut words = vec![format!("{host}{}", matches.path)];
    if !matches.methods.is_empty() {
        words.push(matches.methods.join("|"));
    }
    words.extend(matches.headers.iter().map(|header| format!("header {header}")));
    words.extend(matches.query.iter().map(|parameter| format!("query {parameter}")));
    words.join(" ")
}

fn target(action: &Action) -> String {
    match action {
        Action::Forward(forward) => targets(forward),
        Action::Redirect(redirect) => format!("redirect {}", redirect.to),
        Action::Respond(respond) => format!("respond {}", respond.status),
        Action::Files(files) => {
            format!("files {}", files.root.file_name().map_or(files.root.as_path(), Path::new).display())
        }
    }
}

fn targets(forward: &Forward) -> String {
    forward.targets.iter().map(Target::to_string).collect::<Vec<_>>().join(", ")
}

impl TcpRoute {
    /// Which connections it takes: `:5432`, `192.168.0.2:5432`, `shop.localhost:5432`.
    pub fn pattern(&self) -> String {
        let port = |address: &std::net::SocketAddr| match address.ip() {
            ip if ip == std::net::Ipv4Addr::LOCALHOST => format!(":{}", address.port()),
            _ => address.to_string(),
        };
        let ports = self.listen.required.iter().map(port).collect::<Vec<_>>().join(",");
        self.hosts.iter().map(HostMatch::to_string).collect::<Vec<_>>().join(",") + &ports
    }

    /// Where its bytes go: `:54321`, `service db`.
    pub fn target(&self) -> String {
        targets(&self.forward)
    }
}

impl std::fmt::Display for HostMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Exact(name) => f.write_str(name),
            Self::Wildcard(suffix) => write!(f, "*.{suffix}"),
            Self::AnyLocal => f.write_str("any local host"),
        }
    }
}

/// A prefix as it is written; what is no prefix says so.
impl std::fmt::Display for PathMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Prefix(prefix) => f.write_str(prefix),
            Self::Exact(path) => write!(f, "{path} (exact)"),
            Self::Regex(pattern) => write!(f, "~{pattern}"),
        }
    }
}

impl std::fmt::Display for FieldMatch {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match &self.value {
            ValueMatch::Equals(value) => write!(f, "{} = {value:?}", self.name),
            ValueMatch::Regex(pattern) => write!(f, "{} ~ {pattern:?}", self.name),
        }
    }
}
