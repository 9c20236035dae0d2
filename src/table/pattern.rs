//! Conditions and ranks: what one rule asks of a request, and which of two rules goes first.
//!
//! The order is that of the Kubernetes Gateway API (`HTTPRouteRule`), with one change that the product page
//! states: a regular expression goes ahead of prefixes, so that a catch-all `/` cannot hide it.

use std::{cmp::Reverse, fmt};

use regex::{Regex, bytes::Regex as BytesRegex};

use crate::{
    config::{FieldMatch, HostMatch, OWN_HOST, PathMatch, ValueMatch},
    head::{Host, RequestHead},
};

/// Where a rule stands; the smaller one is asked first.
///
/// The fields are in the order in which they decide, so the derived comparison is the contract.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Rank {
    host: HostRank,
    path: PathRank,
    method: Reverse<bool>,
    headers: Reverse<usize>,
    query: Reverse<usize>,
    order: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    Exact(Reverse<usize>),
    Wildcard(Reverse<usize>),
    AnyLocal,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum PathRank {
    Exact,
    Regex(Reverse<usize>),
    Prefix(Reverse<usize>),
}

/// What decided between two rules that both match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TieBreak {
    /// Exact before wildcard before any local host, then the longer name.
    Host,
    /// Exact before regular expression before prefix, then more characters.
    Path,
    /// A rule that names methods goes first.
    Method,
    /// More header conditions.
    Headers,
    /// More query conditions.
    Query,
    /// The earlier one in the file.
    Order,
}

impl fmt::Display for TieBreak {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Host => "a more specific host goes first",
            Self::Path => "a more specific path goes first",
            Self::Method => "a route that names methods goes first",
            Self::Headers => "more header conditions go first",
            Self::Query => "more query conditions go first",
            Self::Order => "the earlier one in the file goes first",
        })
    }
}

impl Rank {
    /// The rank of a rule that stands `order`-th in the file.
    pub fn of(host: &HostMatch, path: &PathMatch, conditions: &Conditions, order: usize) -> Self {
        Self {
            host: match host {
                HostMatch::Exact(name) => HostRank::Exact(Reverse(name.len())),
                HostMatch::Wildcard(suffix) => HostRank::Wildcard(Reverse(suffix.len())),
                HostMatch::AnyLocal => HostRank::AnyLocal,
            },
            path: match path {
                PathMatch::Exact(_) => PathRank::Exact,
                PathMatch::Regex(pattern) => PathRank::Regex(Reverse(pattern.chars().count())),
                PathMatch::Prefix(prefix) => PathRank::Prefix(Reverse(prefix.chars().count())),
            },
            method: Reverse(!conditions.methods.is_empty()),
            headers: Reverse(conditions.headers.len()),
            query: Reverse(conditions.query.len()),
            order,
        }
    }

    /// Which part of the order put one of the two ahead.
    pub fn tie_break(&self, other: &Self) -> TieBreak {
        if self.host != other.host {
            TieBreak::Host
        } else if self.path != other.path {
            TieBreak::Path
        } else if self.method != other.method {
            TieBreak::Method
        } else if self.headers != other.headers {
            TieBreak::Headers
        } else if self.query != other.query {
            TieBreak::Query
        } else {
            TieBreak::Order
        }
    }
}

/// Whether a host condition holds. The proxy's own host belongs to no route, whatever its pattern.
pub fn host_matches(condition: &HostMatch, host: &Host) -> bool {
    if host.name() == OWN_HOST {
        return false;
    }
    match condition {
        HostMatch::Exact(name) => host.name() == name,
        HostMatch::Wildcard(suffix) => {
            host.name().strip_suffix(suffix.as_str()).is_some_and(|labels| labels.len() > 1 && labels.ends_with('.'))
        }
        HostMatch::AnyLocal => host.is_local(),
    }
}

/// How well a TCP route of these hosts fits a client that asks for `name` by TLS, the highest being the best; `None` where
/// it does not take it. One without hosts takes everybody, after all others.
pub fn rank(hosts: &[HostMatch], name: Option<&Host>) -> Option<(u8, usize)> {
    if hosts.is_empty() {
        return Some((0, 0));
    }
    let name = name?;
    hosts.iter().filter(|host| host_matches(host, name)).map(HostMatch::specificity).max()
}

/// Whether `path` is `prefix` or lies beneath it, by whole elements.
pub fn prefix_matches(prefix: &str, path: &str) -> bool {
    prefix == "/" || path.strip_prefix(prefix).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// A pattern that must match the whole text.
pub fn anchored(pattern: &str) -> String {
    format!(r"\A(?:{pattern})\z")
}

/// What a route asks beyond host and path.
#[derive(Debug)]
pub struct Conditions {
    methods: Vec<String>,
    headers: Vec<FieldCondition>,
    query: Vec<FieldCondition>,
}

#[derive(Debug)]
struct FieldCondition {
    wanted: FieldMatch,
    regex: Option<BytesRegex>,
}

/// The first condition of a rule that a request does not meet, in the order in which they are asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mismatch<'t> {
    /// The host is another one.
    Host(&'t HostMatch),
    /// The path is another one.
    Path(&'t PathMatch),
    /// The method is none of these.
    Method(&'t [String]),
    /// A header is missing or has another value.
    Header(&'t FieldMatch),
    /// A query parameter is missing or has another value.
    Query(&'t FieldMatch),
}

impl Mismatch<'_> {
    /// The condition and what was there in its place, as one clause.
    pub fn because(&self, head: &RequestHead<'_>) -> String {
        match self {
            Self::Host(wanted) => format!("the host is not {wanted}"),
            Self::Path(PathMatch::Exact(path) | PathMatch::Prefix(path)) if differs_by_case(path, head.path) => {
                format!("the path differs from {path} by case")
            }
            Self::Path(wanted) => format!("the path is not {wanted}"),
            Self::Method(wanted) => format!("the method {} is none of {}", head.method, wanted.join(", ")),
            Self::Header(wanted) => format!("the header condition {wanted} does not hold"),
            Self::Query(wanted) => format!("the query condition {wanted} does not hold"),
        }
    }
}

fn differs_by_case(wanted: &str, path: &str) -> bool {
    prefix_matches(&wanted.to_ascii_lowercase(), &path.to_ascii_lowercase()) && !prefix_matches(wanted, path)
}

impl Conditions {
    /// Compiles what the checker has let through.
    pub fn new(methods: &[String], headers: &[FieldMatch], query: &[FieldMatch]) -> Result<Self, regex::Error> {
        let compile = |wanted: &[FieldMatch]| wanted.iter().map(FieldCondition::new).collect::<Result<Vec<_>, _>>();
        Ok(Self { methods: methods.to_vec(), headers: compile(headers)?, query: compile(query)? })
    }

    /// The first condition that fails, or `None` where all hold.
    pub fn mismatch(&self, head: &RequestHead<'_>) -> Option<Mismatch<'_>> {
        if !self.methods.is_empty() && !self.methods.iter().any(|method| method == head.method) {
            return Some(Mismatch::Method(&self.methods));
        }
        if let Some(failed) = self.headers.iter().find(|header| !header.holds(head.fields.first(&header.wanted.name))) {
            return Some(Mismatch::Header(&failed.wanted));
        }
        let parameter = |name: &str| head.query.and_then(|query| first_parameter(query, name)).map(str::as_bytes);
        self.query
            .iter()
            .find(|condition| !condition.holds(parameter(&condition.wanted.name)))
            .map(|failed| Mismatch::Query(&failed.wanted))
    }
}

impl FieldCondition {
    fn new(wanted: &FieldMatch) -> Result<Self, regex::Error> {
        let regex = match &wanted.value {
            ValueMatch::Equals(_) => None,
            ValueMatch::Regex(pattern) => Some(BytesRegex::new(&anchored(pattern))?),
        };
        Ok(Self { wanted: wanted.clone(), regex })
    }

    fn holds(&self, value: Option<&[u8]>) -> bool {
        match (value, &self.regex, &self.wanted.value) {
            (Some(value), Some(regex), _) => regex.is_match(value),
            (Some(value), None, ValueMatch::Equals(wanted)) => value == wanted.as_bytes(),
            (None, ..) | (_, None, ValueMatch::Regex(_)) => false,
        }
    }
}

/// The value of the first parameter of that name, undecoded; `a` alone has the empty value.
fn first_parameter<'q>(query: &'q str, name: &str) -> Option<&'q str> {
    query
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
        .find_map(|(key, value)| (key == name).then_some(value))
}

/// A path condition with its pattern compiled, for asking one rule alone.
pub fn path_matches(condition: &PathMatch, path: &str) -> bool {
    match condition {
        PathMatch::Exact(wanted) => path == wanted,
        PathMatch::Prefix(prefix) => prefix_matches(prefix, path),
        PathMatch::Regex(pattern) => Regex::new(&anchored(pattern)).is_ok_and(|regex| regex.is_match(path)),
    }
}
