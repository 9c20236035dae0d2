//! `portolan routes`: the table in the order in which it is asked.

use std::io::{self, Write};

use serde_json::json;

use super::{
    BAD, GOOD, Outcome, Stop,
    flags::Global,
    load_table,
    terminal::{Terminal, WIDEST_COLUMN},
};
use crate::{
    config::{Config, Route, Words},
    table::Table,
};

/// Lists the routes, the most specific first.
pub(super) fn run(global: &Global, terminal: &Terminal) -> Outcome {
    let loaded = load_table(global, None)?;
    let Some(config) = loaded.config else { return Err(Stop::Told(loaded.diagnostics, BAD)) };
    let port = config.listen.required.first().map_or(0, std::net::SocketAddr::port);
    let mut out = io::stdout().lock();
    if terminal.json {
        let routes: Vec<_> = in_rank_order(&config).into_iter().map(|route| object(route, port)).collect();
        writeln!(out, "{}", json!({ "routes": routes }))?;
        return Ok(GOOD);
    }
    let rows: Vec<_> = in_rank_order(&config).into_iter().map(|route| (route, Words::of(route))).collect();
    let width = |text: fn(&(&Route, Words)) -> usize| rows.iter().map(text).max().unwrap_or(0).min(WIDEST_COLUMN);
    let name = width(|(route, _)| route.name.chars().count());
    let pattern = width(|(_, words)| words.pattern.chars().count());
    let target = width(|(_, words)| words.target.chars().count());
    for (route, words) in &rows {
        let (from, place) = (&route.name, route.origin.location());
        writeln!(out, "{from:<name$}  {:<pattern$}  -> {:<target$}  {place}", words.pattern, words.target)?;
    }
    if rows.is_empty() {
        writeln!(out, "the table has no routes yet: `portolan` without a table shows what could be one")?;
    }
    Ok(GOOD)
}

fn object(route: &Route, port: u16) -> serde_json::Value {
    let words = Words::of(route);
    json!({
        "name": route.name,
        "pattern": words.pattern,
        "target": words.target,
        "url": words.url(port),
        "origin": route.origin.location(),
    })
}

/// A route with several hosts stands where its most specific one does.
fn in_rank_order(config: &Config) -> Vec<&Route> {
    let Ok(table) = Table::compile(&config.routes) else { return config.routes.iter().collect() };
    table.routes_by_rank().map(|id| &config.routes[id.0]).collect()
}
