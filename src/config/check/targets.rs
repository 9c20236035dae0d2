//! Where requests are sent: every spelling of `to`.

use std::{net::SocketAddr, path::Path};

use super::{Problems, followed, listen::port, section::Section, services::Services, values::beside};
use crate::{
    config::{
        Address, Protocol, Target,
        document::{Kind, Value, quoted},
        keys,
    },
    diagnostic::Diagnostic,
    head::Host,
};

/// The room that Linux has for a socket's path, without the closing NUL (unix(7)); others have less.
const LONGEST_SOCKET_PATH: usize = 107;

/// The value of a route's `to`: one target or a list.
pub(super) fn targets(value: &Value, services: &Services<'_>, problems: &mut Problems) -> Option<Vec<Target>> {
    let Kind::Array(items) = &value.kind else {
        return target(value, services, problems).map(|target| vec![target]);
    };
    if items.is_empty() {
        problems.bad("bad-value", value, "`to` must not be empty".into(), "no target is listed here");
        return None;
    }
    let targets: Vec<Option<Target>> = items.iter().map(|item| target(item, services, problems)).collect();
    let targets: Vec<Target> = targets.into_iter().collect::<Option<_>>()?;
    if targets.iter().all(|target| target.weight == 0) {
        problems.bad("bad-value", value, "every target has the weight 0".into(), "nothing could be sent anywhere");
        return None;
    }
    Some(targets)
}

/// One target, in short or as a table.
pub(super) fn target(value: &Value, services: &Services<'_>, problems: &mut Problems) -> Option<Target> {
    let Kind::Table(table) = &value.kind else {
        let (address, protocol) = address(value, services, problems)?;
        return Some(Target { address, protocol, weight: 1, owner: None, origin: value.span.clone() });
    };
    let section = Section::open(table, "the target", &value.span, &keys::TARGET, problems);
    let weight = section.get("weight").map(|weight| problems.integer(weight, "weight", 0, 1000));
    let to = section.get("to").map(|to| (address(to, services, problems), to));
    let owner = section.get("owner").map(|owner| {
        let to = to.as_ref().map(|(to, value)| (to.as_ref().map(|(address, _)| address), *value));
        followed::pin(owner, to, problems)
    });
    let sought = followed::sought(&section, problems);
    let sought = sought.map(|(sought, value)| (sought.map(|sought| http(Address::Followed(sought))), value));
    let (address, written) = to.or(sought)?;
    let (address, protocol) = address?;
    Some(Target {
        address,
        protocol,
        weight: u16::try_from(weight.unwrap_or(Some(1))?).ok()?,
        owner: owner.map_or(Some(None), |owner| owner.map(Some))?,
        origin: written.span.clone(),
    })
}

/// Of what says nothing else.
fn http(address: Address) -> (Address, Protocol) {
    (address, Protocol::Http)
}

/// A port, an address or the name of a service, and what is spoken there.
pub(super) fn address(value: &Value, services: &Services<'_>, problems: &mut Problems) -> Option<(Address, Protocol)> {
    let text = match &value.kind {
        Kind::Integer(number) => match u16::try_from(*number) {
            Ok(port) if port > 0 => return Some(http(Address::Loopback(port))),
            _ => {
                problems.bad("bad-port", value, format!("{number} is not a port"), "a port is 1 to 65535");
                return None;
            }
        },
        Kind::String(text) => text,
        _ => {
            problems.no_such_type(value, "a target", "a port, an address or a service's name");
            return None;
        }
    };
    match parse(text) {
        Ok(Spelling::Address(address, protocol)) => return Some((address, protocol)),
        Ok(Spelling::Unix(path)) => return socket(value, path, problems).map(http),
        Ok(Spelling::Word) => return services.address(value, text, problems).map(http),
        Err(fault) => problems.push(fault.diagnostic(value, text)),
    }
    None
}

/// Whether a target of this text is the service of this name.
pub(super) fn is_word(text: &str) -> bool {
    parse(text) == Ok(Spelling::Word)
}

fn socket(value: &Value, path: &str, problems: &mut Problems) -> Option<Address> {
    let path = beside(value, path);
    if path.as_os_str().len() > LONGEST_SOCKET_PATH {
        let message = format!("the path of a socket is at most {LONGEST_SOCKET_PATH} bytes long");
        let problem = Diagnostic::error("bad-target", message).at(value.span.clone(), "too long for the system");
        problems.push(problem.note(format!("it has {} bytes from the root on", path.as_os_str().len())));
        return None;
    }
    Some(Address::Unix(path))
}

/// What a text says without looking at anything else.
#[derive(Debug, PartialEq, Eq)]
enum Spelling<'t> {
    Address(Address, Protocol),
    Unix(&'t str),
    /// Perhaps a service.
    Word,
}

/// Without a scheme.
fn spelled<'t>(address: Address) -> Spelling<'t> {
    Spelling::Address(address, Protocol::Http)
}

#[derive(Debug, PartialEq, Eq)]
struct Fault {
    label: String,
    help: Option<String>,
    instead: Option<String>,
}

impl Fault {
    fn new(label: impl Into<String>) -> Self {
        Self { label: label.into(), help: None, instead: None }
    }

    fn help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }

    fn instead(self, instead: impl Into<String>) -> Self {
        Self { instead: Some(instead.into()), ..self }
    }

    fn diagnostic(self, value: &Value, text: &str) -> Diagnostic {
        let mut problem = Diagnostic::error("bad-target", format!("`{text}` is not a place to send requests to"))
            .at(value.span.clone(), self.label);
        problem.helps.extend(self.help);
        match self.instead {
            Some(instead) => problem.patch("what was probably meant", value.span.clone(), value.like_it(&instead)),
            None => problem,
        }
    }
}

fn parse(text: &str) -> Result<Spelling<'_>, Fault> {
    if text.is_empty() {
        return Err(Fault::new("nothing is written here"));
    }
    if let Some(path) = text.strip_prefix("unix:") {
        return parse_socket(path);
    }
    if let Some((scheme, rest)) = text.split_once("://") {
        return parse_url(scheme, rest);
    }
    let bare = text.strip_prefix(':').unwrap_or(text);
    if bare.bytes().all(|byte| byte.is_ascii_digit()) {
        return port(bare).filter(|port| *port > 0).map(|port| spelled(Address::Loopback(port))).ok_or_else(no_port);
    }
    if text.starts_with('/') {
        return Err(Fault::new("a path is no target")
            .help(format!("to serve a folder write `files = {0}`; a socket is \"unix:{text}\"", quoted(text))));
    }
    if let Some((authority, path)) = text.split_once('/') {
        parse_authority(authority, None)?;
        return Err(path_in_target(authority, path));
    }
    if text.contains(':') {
        return parse_authority(text, None).map(spelled);
    }
    if text == "localhost" || text.parse::<std::net::Ipv4Addr>().is_ok() {
        return Err(Fault::new("a port is missing").help(format!("write \"{text}:8000\" with the port of the program")));
    }
    Ok(Spelling::Word)
}

fn parse_socket(path: &str) -> Result<Spelling<'_>, Fault> {
    let path = path.strip_prefix("//").filter(|rest| rest.starts_with('/')).unwrap_or(path);
    if path.is_empty() || path.contains('\0') || path.ends_with('/') || Path::new(path).file_name().is_none() {
        return Err(Fault::new("the path of a socket is missing"));
    }
    Ok(Spelling::Unix(path))
}

fn parse_url<'t>(scheme: &str, rest: &str) -> Result<Spelling<'t>, Fault> {
    let (protocol, port) = match scheme {
        "http" => (Protocol::Http, 80),
        "https" => (Protocol::Https { insecure: false }, 443),
        "h2c" => (Protocol::H2c, 80),
        "ws" | "wss" => {
            let plain = if scheme == "ws" { "http" } else { "https" };
            let fault = Fault::new("WebSocket needs no scheme of its own");
            return Err(fault.instead(format!("{plain}://{rest}")));
        }
        _ => return Err(Fault::new(format!("cannot speak {scheme}")).help("write \"http://host:port\"")),
    };
    let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
    let address = parse_authority(authority, Some(port))?;
    let behind = &rest[authority.len()..];
    if !matches!(behind, "" | "/") {
        return Err(match behind.strip_prefix('/') {
            Some(path) => path_in_target(&format!("{scheme}://{authority}"), path),
            None => Fault::new("a target has no query").instead(format!("{scheme}://{authority}")),
        });
    }
    Ok(Spelling::Address(address, protocol))
}

fn path_in_target(target: &str, path: &str) -> Fault {
    let path = path.split(['?', '#']).next().unwrap_or_default();
    Fault::new("a target has no path")
        .help(format!(
            "to put it in front of every path, write `rewrite = {{ prefix = {} }}`",
            quoted(&format!("/{path}"))
        ))
        .instead(target)
}

/// `host:port`; the port may be missing where the scheme tells one.
fn parse_authority(text: &str, default_port: Option<u16>) -> Result<Address, Fault> {
    if text.contains('@') {
        return Err(
            Fault::new("a target has no user name").help("send it as a field: `request_headers = { set = .. }`")
        );
    }
    if let Ok(address) = text.parse::<std::net::Ipv6Addr>() {
        let port = default_port.unwrap_or(8000);
        return Err(
            Fault::new("an IPv6 address stands in brackets").instead(SocketAddr::from((address, port)).to_string())
        );
    }
    let host = Host::parse(text.as_bytes()).map_err(|fault| Fault::new(fault.to_string()))?;
    let port = match host.port().or(default_port) {
        Some(0) => return Err(no_port()),
        Some(port) => port,
        None => return Err(Fault::new("a port is missing")),
    };
    let name = host.name();
    if name == "localhost" {
        return Ok(Address::Loopback(port));
    }
    // The brackets make it an IPv6 address; `Host` has checked it.
    match format!("{name}:{port}").parse::<SocketAddr>() {
        Ok(address) if address.ip().is_unspecified() => {
            Err(Fault::new("programs listen there, nothing can be sent there").instead(format!("localhost:{port}")))
        }
        Ok(address) => Ok(Address::Ip(address)),
        Err(_) => Ok(Address::Name { host: name.to_owned(), port }),
    }
}

fn no_port() -> Fault {
    Fault::new("a port is 1 to 65535")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(text: &str) -> String {
        match parse(text) {
            Ok(Spelling::Address(address, _)) => address.to_string(),
            Ok(other) => format!("{other:?}"),
            Err(fault) => format!("{}: {:?}", fault.label, fault.instead),
        }
    }

    #[test]
    fn every_spelling_of_a_port_on_this_machine_means_both_families() {
        for text in
            ["8000", ":8000", "localhost:8000", "LOCALHOST.:8000", "http://localhost:8000", "http://localhost:8000/"]
        {
            assert_eq!(shown(text), ":8000", "{text}");
        }
        assert_eq!(shown("http://localhost"), ":80");
    }

    #[test]
    fn an_address_means_itself_and_a_name_is_looked_up() {
        assert_eq!(shown("127.0.0.1:8000"), "127.0.0.1:8000");
        assert_eq!(shown("[0:0::1]:8000"), "[::1]:8000");
        assert_eq!(shown("http://Api.Test"), "api.test:80");
        assert_eq!(shown("host.docker.internal:3000"), "host.docker.internal:3000");
        assert_eq!(parse("unix:///run/a.sock"), Ok(Spelling::Unix("/run/a.sock")));
        assert_eq!(parse("unix:a.sock"), Ok(Spelling::Unix("a.sock")));
    }

    #[test]
    fn a_word_may_be_a_service_and_other_protocols_come_later() {
        assert_eq!(parse("api"), Ok(Spelling::Word));
        let name = |host: &str, port| Address::Name { host: host.to_owned(), port };
        let https = Protocol::Https { insecure: false };
        assert_eq!(parse("https://a.test"), Ok(Spelling::Address(name("a.test", 443), https)));
        assert_eq!(parse("https://localhost:8443"), Ok(Spelling::Address(Address::Loopback(8443), https)));
        let one = SocketAddr::from(([127, 0, 0, 1], 1));
        assert_eq!(parse("h2c://127.0.0.1:1"), Ok(Spelling::Address(Address::Ip(one), Protocol::H2c)));
    }

    #[test]
    fn what_is_no_target_says_what_was_probably_meant() {
        assert_eq!(shown("ws://a.test:1"), "WebSocket needs no scheme of its own: Some(\"http://a.test:1\")");
        assert_eq!(shown("http://a.test:1/v1"), "a target has no path: Some(\"http://a.test:1\")");
        assert_eq!(shown("0.0.0.0:80"), "programs listen there, nothing can be sent there: Some(\"localhost:80\")");
        assert_eq!(shown("::1"), "an IPv6 address stands in brackets: Some(\"[::1]:8000\")");
        for bad in
            ["", "0", ":0", "65536", "localhost", "127.0.0.1", "a b:1", "http://", "ftp://a", "http://u@a", "unix:"]
        {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
