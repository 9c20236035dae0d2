//! Routes in the order of the file become rules in the order of rank, arranged by host and path.

use regex::RegexSet;

use super::{Conditions, Level, Node, Rank, RouteId, Rule, Table, pattern::anchored};
use crate::config::{HostMatch, PathMatch, Route};

/// A pattern that compiles alone but not beside the others of its host: together they are too large.
#[derive(Debug, thiserror::Error)]
#[error("the patterns of the table are too large together")]
pub struct CompileError(#[from] regex::Error);

impl Table {
    /// Arranges checked routes for look-up. Their patterns compile one by one, so only their sum can fail.
    pub fn compile(routes: &[Route]) -> Result<Self, CompileError> {
        let conditions = routes
            .iter()
            .map(|route| Conditions::new(&route.matches.methods, &route.matches.headers, &route.matches.query))
            .collect::<Result<Vec<_>, _>>()?;
        let mut table = Self {
            rules: rules_by_rank(routes, &conditions),
            conditions,
            exact: Default::default(),
            wildcard: Default::default(),
            any_local: Level::default(),
        };
        table.arrange()?;
        Ok(table)
    }

    fn arrange(&mut self) -> Result<(), CompileError> {
        // Rules are visited in rank order, so every list that they are pushed to is in rank order too.
        for (id, rule) in self.rules.iter().enumerate() {
            let level = match &rule.host {
                HostMatch::Exact(name) => self.exact.entry(name.clone()).or_default(),
                HostMatch::Wildcard(suffix) => self.wildcard.entry(suffix.clone()).or_default(),
                HostMatch::AnyLocal => &mut self.any_local,
            };
            match &rule.path {
                PathMatch::Exact(path) => level.exact.entry(path.clone()).or_default().push(id),
                PathMatch::Prefix(prefix) => level.prefix.at(prefix).rules.push(id),
                PathMatch::Regex(pattern) => level.patterns.push((pattern.clone(), id)),
            }
        }
        for level in self.exact.values_mut().chain(self.wildcard.values_mut()).chain([&mut self.any_local]) {
            level.compile_patterns()?;
        }
        Ok(())
    }
}

fn rules_by_rank(routes: &[Route], conditions: &[Conditions]) -> Vec<Rule> {
    let mut rules: Vec<Rule> = routes
        .iter()
        .zip(conditions)
        .enumerate()
        .flat_map(|(order, (route, conditions))| {
            route.matches.hosts.iter().map(move |host| Rule {
                route: RouteId(order),
                rank: Rank::of(host, &route.matches.path, conditions, order),
                host: host.clone(),
                path: route.matches.path.clone(),
            })
        })
        .collect();
    rules.sort_by_key(|rule| rule.rank);
    rules
}

impl Node {
    /// The node of a prefix, made where it is missing.
    fn at(&mut self, prefix: &str) -> &mut Self {
        let elements =
            prefix.strip_prefix('/').filter(|rest| !rest.is_empty()).into_iter().flat_map(|rest| rest.split('/'));
        elements.fold(self, |node, element| node.children.entry(element.to_owned()).or_default())
    }
}

impl Level {
    fn compile_patterns(&mut self) -> Result<(), CompileError> {
        if !self.patterns.is_empty() {
            self.regex = Some(RegexSet::new(self.patterns.iter().map(|(pattern, _)| anchored(pattern)))?);
        }
        Ok(())
    }
}
