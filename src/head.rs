//! A request as the rooms see it: method, target, host and field look-ups, all plain values.
//!
//! Whatever engine read the request (`http1` today, HTTP/2 later), table, filters, pages and
//! observation see this and no type of the engine. The bytes are the ones that will be forwarded: nothing
//! here is decoded or normalised, but for the host, whose case, port and trailing dot never matter.

use std::{borrow::Cow, fmt, net::Ipv6Addr};

/// The fields of a head, looked up by lowercase name.
pub trait Fields {
    /// The value of the first field of that name.
    fn first(&self, name: &str) -> Option<&[u8]>;
}

/// Fields written down one by one: what `explain` is asked with.
#[derive(Debug, Default)]
pub struct FieldList(pub Vec<(String, String)>);

impl Fields for FieldList {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.0.iter().find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_bytes())
    }
}

/// What routing, filters and pages may know of a request.
#[derive(Clone, Copy)]
pub struct RequestHead<'a> {
    /// As sent: case matters (RFC 9110 §9.1).
    pub method: &'a str,
    /// From the first `/` up to the `?`; `*` for a server-wide OPTIONS.
    pub path: &'a str,
    /// What follows the `?`, if there is one; may be empty.
    pub query: Option<&'a str>,
    /// The authority that the request names, checked.
    pub host: &'a Host<'a>,
    /// The fields.
    pub fields: &'a dyn Fields,
}

impl RequestHead<'_> {
    /// A field's first value as text, or `None` where it is missing or not UTF-8.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.fields.first(name).and_then(|value| std::str::from_utf8(value).ok())
    }
}

/// The host that a request names (RFC 9110 §7.2), in the form in which hosts are compared.
///
/// What is in that form already, as nearly every host is, stays where it lies.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Host<'h> {
    name: Cow<'h, str>,
    port: Option<u16>,
    local: bool,
}

/// The longest name that DNS can carry, in characters (RFC 1035 §2.3.4).
const MAX_NAME: usize = 253;

/// Why a Host value is refused; the answer is 400.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HostError {
    /// Nothing before the port.
    #[error("the host is empty")]
    Empty,
    /// Longer than any name in DNS.
    #[error("the host is longer than 253 characters")]
    Length,
    /// A byte that no host has: userinfo, path, comma, space, control or non-ASCII bytes.
    #[error("the host holds a character that no host name has")]
    Character,
    /// `:` followed by something that is no port.
    #[error("the port of the host is not a number up to 65535")]
    Port,
    /// `[` without a valid IPv6 address in brackets.
    #[error("the host is not a valid IPv6 address in brackets")]
    Ipv6,
}

impl<'h> Host<'h> {
    /// Parses `name`, `name:port`, `1.2.3.4:port` or `[::1]:port`; lowercases, and drops one trailing dot.
    pub fn parse(value: &'h [u8]) -> Result<Self, HostError> {
        let text = std::str::from_utf8(value).map_err(|_| HostError::Character)?;
        let (name, port) = if let Some(rest) = text.strip_prefix('[') {
            let (address, port) = rest.split_once(']').ok_or(HostError::Ipv6)?;
            let address: Ipv6Addr = address.parse().map_err(|_| HostError::Ipv6)?;
            let port = match port.strip_prefix(':') {
                Some(port) => Some(port),
                None if port.is_empty() => None,
                None => return Err(HostError::Ipv6),
            };
            let is_this_machine = address == Ipv6Addr::LOCALHOST;
            (if is_this_machine { Cow::Borrowed("[::1]") } else { Cow::Owned(format!("[{address}]")) }, port)
        } else {
            let (name, port) = match text.split_once(':') {
                Some((name, port)) => (name, Some(port)),
                None => (text, None),
            };
            let name = name.strip_suffix('.').unwrap_or(name);
            if name.is_empty() {
                return Err(HostError::Empty);
            }
            if name.len() > MAX_NAME {
                return Err(HostError::Length);
            }
            // RFC 3986 reg-name without percent-encoding and sub-delims: what resolvers and browsers send.
            if !name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b'_'))
                || name.starts_with('.')
            {
                return Err(HostError::Character);
            }
            let is_lowercase = !name.bytes().any(|b| b.is_ascii_uppercase());
            (if is_lowercase { Cow::Borrowed(name) } else { Cow::Owned(name.to_ascii_lowercase()) }, port)
        };
        let port = port.filter(|port| !port.is_empty()).map(parse_port).transpose()?;
        Ok(Self { local: is_local_name(&name), name, port })
    }

    /// Stands in for the host of a request that names none that could be read.
    pub fn unknown() -> Self {
        Self { name: "unknown".into(), port: None, local: false }
    }

    /// Lowercase, without port and trailing dot; an IPv6 address keeps its brackets.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The port that was written, if one was.
    pub fn port(&self) -> Option<u16> {
        self.port
    }

    /// Whether the name can only mean this machine: `localhost`, `*.localhost` (RFC 6761 §6.3),
    /// 127.0.0.0/8 in its usual spelling, `[::1]`.
    pub fn is_local(&self) -> bool {
        self.local
    }
}

/// [`Host::is_local`] for a name that is already in the form of [`Host::name`].
pub fn is_local_name(name: &str) -> bool {
    name == "localhost"
        || name.ends_with(".localhost")
        || name == "[::1]"
        || name.parse::<std::net::Ipv4Addr>().is_ok_and(|address| address.is_loopback())
}

impl fmt::Display for Host<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.port {
            Some(port) => write!(f, "{}:{port}", self.name),
            None => f.write_str(&self.name),
        }
    }
}

fn parse_port(port: &str) -> Result<u16, HostError> {
    // `parse` alone would take a leading `+`.
    if !port.bytes().all(|b| b.is_ascii_digit()) {
        return Err(HostError::Port);
    }
    port.parse().map_err(|_| HostError::Port)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(value: &str) -> Result<String, HostError> {
        Host::parse(value.as_bytes()).map(|host| host.to_string())
    }

    #[test]
    fn case_and_one_trailing_dot_do_not_matter() {
        assert_eq!(parse("Docs.LOCALHOST.:62893"), Ok("docs.localhost:62893".into()));
        assert_eq!(parse("a.."), Ok("a.".into()));
    }

    #[test]
    fn an_ipv6_address_keeps_its_brackets_and_loses_its_spelling() {
        assert_eq!(parse("[0:0::1]:80"), Ok("[::1]:80".into()));
        assert_eq!(parse("[::1"), Err(HostError::Ipv6));
        assert_eq!(parse("[::1]x"), Err(HostError::Ipv6));
    }

    #[test]
    fn what_no_host_can_be_is_refused() {
        assert_eq!(parse(""), Err(HostError::Empty));
        assert_eq!(parse(":80"), Err(HostError::Empty));
        assert_eq!(parse("."), Err(HostError::Empty));
        for bad in ["u@localhost", "localhost/x", "a,b", "a b", "a\tb", "é", "a%2eb", ".a"] {
            assert_eq!(parse(bad), Err(HostError::Character), "{bad}");
        }
        for bad in ["a:99999", "a:+1", "a:b", "a:1:2"] {
            assert_eq!(parse(bad), Err(HostError::Port), "{bad}");
        }
    }

    #[test]
    fn only_names_of_this_machine_are_local() {
        let local = |name: &str| Host::parse(name.as_bytes()).expect("a host").is_local();
        for name in ["localhost", "a.b.localhost:1", "127.0.0.1", "127.9.9.9", "[::1]", "LOCALHOST."] {
            assert!(local(name), "{name}");
        }
        for name in [
            "evil.test",
            "localhost.evil.test",
            "127.0.0.1.evil.test",
            "xlocalhost",
            "127.1",
            "0x7f.1",
            "10.0.0.1",
            "[::]",
        ] {
            assert!(!local(name), "{name}");
        }
    }
}
