//! Which route answers. Pure: a table is compiled once, never changes, and touches nothing but its own memory.
//!
//! A request is looked up host first (by hash, a wildcard by trimming labels), then path (exact by hash, regular
//! expressions in one pass, prefixes by one hash look-up for each path element), then the other conditions of the
//! few rules that share host and path. None of this grows with the number of routes.
//!
//! A host that matches but has no matching path falls through to the next less specific host.

mod compile;
mod explain;
pub mod pattern;
#[cfg(test)]
mod tests;

use std::collections::HashMap;

use regex::RegexSet;

pub use compile::CompileError;
pub use explain::{Candidate, Explanation, Outcome};
use pattern::{Conditions, Rank};

use crate::{
    config::{HostMatch, OWN_HOST, PathMatch},
    head::{Host, RequestHead},
};

/// A route by its place in the file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RouteId(pub usize);

/// The rules of a file, arranged for look-up.
#[derive(Debug)]
pub struct Table {
    /// In the order of rank. A route with three hosts has three rules.
    rules: Vec<Rule>,
    /// By route.
    conditions: Vec<Conditions>,
    exact: HashMap<String, Level>,
    /// By suffix, without `*.`.
    wildcard: HashMap<String, Level>,
    any_local: Level,
}

/// One host of one route.
#[derive(Debug)]
struct Rule {
    route: RouteId,
    rank: Rank,
    host: HostMatch,
    path: PathMatch,
}

/// A rule by its place in rank order.
type RuleId = usize;

/// The rules of one host, by path. Every list is in rank order.
#[derive(Debug, Default)]
struct Level {
    exact: HashMap<String, Vec<RuleId>>,
    patterns: Vec<(String, RuleId)>,
    /// All of `patterns` in one pass, in their order.
    regex: Option<RegexSet>,
    prefix: Node,
}

/// A path element and what lies beneath it.
#[derive(Debug, Default)]
struct Node {
    rules: Vec<RuleId>,
    children: HashMap<String, Node>,
}

/// The route that answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Hit {
    /// Which one.
    pub route: RouteId,
    /// How many bytes of the path its prefix took; 0 for `/`, for exact paths and for patterns.
    pub prefix: usize,
}

impl Table {
    /// The route that answers `head`, if there is one.
    pub fn find(&self, head: &RequestHead<'_>) -> Option<Hit> {
        self.levels(head.host).find_map(|level| self.find_in(level, head)).map(|rule| self.hit(rule))
    }

    /// Whether requests that name `host` may be looked at at all: it is local, or a route names it.
    ///
    /// Everything else is answered 421, whatever its path. This is the guard against DNS rebinding.
    pub fn knows(&self, host: &Host) -> bool {
        host.is_local() || self.named_levels(host).next().is_some()
    }

    /// Every route once, where the most specific of its hosts stands.
    pub fn routes_by_rank(&self) -> impl Iterator<Item = RouteId> {
        let mut seen = vec![false; self.conditions.len()];
        self.rules.iter().map(|rule| rule.route).filter(move |route| !std::mem::replace(&mut seen[route.0], true))
    }

    /// From the most specific host to the least.
    fn levels<'t>(&'t self, host: &'t Host) -> impl Iterator<Item = &'t Level> {
        let any_local = (host.is_local() && host.name() != OWN_HOST).then_some(&self.any_local);
        self.named_levels(host).chain(any_local)
    }

    fn named_levels<'t>(&'t self, host: &'t Host) -> impl Iterator<Item = &'t Level> {
        let name = host.name();
        let wildcards = if self.wildcard.is_empty() || name == OWN_HOST { "" } else { name };
        // A leading dot has no label in front of it; the parser of hosts refuses it.
        let suffixes = memchr::memchr_iter(b'.', wildcards.as_bytes()).map(|dot| &name[dot + 1..]);
        let exact = if self.exact.is_empty() { None } else { self.exact.get(name) };
        exact.into_iter().chain(suffixes.filter_map(|suffix| self.wildcard.get(suffix)))
    }

    fn find_in(&self, level: &Level, head: &RequestHead<'_>) -> Option<RuleId> {
        let first_that_holds = |rules: &[RuleId]| rules.iter().copied().find(|&rule| self.holds(rule, head));
        if let Some(rules) = level.exact.get(head.path)
            && let Some(rule) = first_that_holds(rules)
        {
            return Some(rule);
        }
        if let Some(set) = &level.regex
            && let Some(rule) =
                set.matches(head.path).iter().map(|at| level.patterns[at].1).find(|&rule| self.holds(rule, head))
        {
            return Some(rule);
        }
        level.prefix.deepest(head.path, &first_that_holds)
    }

    /// Whether everything beyond host and path holds.
    fn holds(&self, rule: RuleId, head: &RequestHead<'_>) -> bool {
        self.conditions[self.rules[rule].route.0].mismatch(head).is_none()
    }

    fn hit(&self, rule: RuleId) -> Hit {
        let rule = &self.rules[rule];
        let prefix = match &rule.path {
            PathMatch::Prefix(prefix) if prefix != "/" => prefix.len(),
            PathMatch::Prefix(_) | PathMatch::Exact(_) | PathMatch::Regex(_) => 0,
        };
        Hit { route: rule.route, prefix }
    }
}

impl Node {
    /// Asks the longest prefix of `rest` first. `rest` is empty or begins with `/`, but for the `*` of OPTIONS.
    fn deepest(&self, rest: &str, ask: &impl Fn(&[RuleId]) -> Option<RuleId>) -> Option<RuleId> {
        let beneath = rest.strip_prefix('/').filter(|_| !self.children.is_empty()).and_then(|rest| {
            let end = memchr::memchr(b'/', rest.as_bytes()).unwrap_or(rest.len());
            self.children.get(&rest[..end])?.deepest(&rest[end..], ask)
        });
        beneath.or_else(|| ask(&self.rules))
    }
}
