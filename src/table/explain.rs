//! Which route answers, and why not the others: the conditions and ranks that route, asked one by one.

use super::{
    Hit, RouteId, Rule, Table,
    pattern::{Mismatch, TieBreak, host_matches, path_matches},
};
use crate::{
    config::{HostMatch, PathMatch},
    head::RequestHead,
};

/// The answer and every rule that was considered, in rank order.
#[derive(Debug)]
pub struct Explanation<'t> {
    /// What [`Table::find`] says.
    pub hit: Option<Hit>,
    /// One for each host of each route.
    pub candidates: Vec<Candidate<'t>>,
}

/// One rule and what became of it.
#[derive(Debug)]
pub struct Candidate<'t> {
    /// The route that the rule belongs to.
    pub route: RouteId,
    /// Its host condition.
    pub host: &'t HostMatch,
    /// Its path condition.
    pub path: &'t PathMatch,
    /// What became of it.
    pub outcome: Outcome<'t>,
}

/// What became of a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome<'t> {
    /// It answers.
    Answers,
    /// All its conditions hold, but another rule goes first.
    Outranked(TieBreak),
    /// This condition does not hold.
    Fails(Mismatch<'t>),
}

impl Table {
    /// Asks every rule. For people: its cost grows with the number of routes.
    pub fn explain(&self, head: &RequestHead<'_>) -> Explanation<'_> {
        let mut winner: Option<&Rule> = None;
        let candidates = self.rules.iter().map(|rule| {
            let outcome = match (self.mismatch(rule, head), winner) {
                (Some(mismatch), _) => Outcome::Fails(mismatch),
                (None, Some(winner)) => Outcome::Outranked(winner.rank.tie_break(&rule.rank)),
                (None, None) => {
                    winner = Some(rule);
                    Outcome::Answers
                }
            };
            Candidate { route: rule.route, host: &rule.host, path: &rule.path, outcome }
        });
        let candidates = candidates.collect();
        Explanation { hit: self.find(head), candidates }
    }

    fn mismatch<'t>(&'t self, rule: &'t Rule, head: &RequestHead<'_>) -> Option<Mismatch<'t>> {
        if !host_matches(&rule.host, head.host) {
            return Some(Mismatch::Host(&rule.host));
        }
        if !path_matches(&rule.path, head.path) {
            return Some(Mismatch::Path(&rule.path));
        }
        self.conditions[rule.route.0].mismatch(head)
    }
}

impl<'t> Explanation<'t> {
    /// The rule that came closest: the one whose failed condition is asked last, and of those that failed by path
    /// the one whose path is most like the path that was asked for.
    pub fn nearest(&self, head: &RequestHead<'_>) -> Option<&Candidate<'t>> {
        let closeness = |candidate: &Candidate<'_>| match candidate.outcome {
            Outcome::Answers | Outcome::Outranked(_) => None,
            Outcome::Fails(Mismatch::Host(_)) => None,
            Outcome::Fails(Mismatch::Path(path)) => Some((1, likeness(path, head.path))),
            Outcome::Fails(Mismatch::Method(_)) => Some((2, 0)),
            Outcome::Fails(Mismatch::Header(_)) => Some((3, 0)),
            Outcome::Fails(Mismatch::Query(_)) => Some((4, 0)),
        };
        // The first of equals in rank order, where `max_by_key` would give the last.
        self.candidates.iter().rev().filter(|c| closeness(c).is_some()).max_by_key(|c| closeness(c))
    }
}

/// How many leading characters two paths share, case aside.
fn likeness(condition: &PathMatch, path: &str) -> usize {
    match condition {
        PathMatch::Exact(wanted) | PathMatch::Prefix(wanted) => {
            wanted.bytes().zip(path.bytes()).take_while(|(wanted, seen)| wanted.eq_ignore_ascii_case(seen)).count()
        }
        PathMatch::Regex(_) => 0,
    }
}
