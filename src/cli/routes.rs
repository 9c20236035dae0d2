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
    config::{Config, Route, TcpRoute, Words},
    discover::attach,
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
        let tcp: Vec<_> = config.tcp.iter().map(tcp_object).collect();
        writeln!(out, "{}", json!({ "routes": routes, "tcp": tcp }))?;
        return Ok(GOOD);
    }
    let of_requests = in_rank_order(&config).into_iter().map(|route| {
        let Words { pattern, target, .. } = Words::of(route);
        (&route.name, pattern, target, route.origin.location())
    });
    let tcp = config
        .tcp
        .iter()
        .map(|route| (&route.name, format!("tcp {}", route.pattern()), route.target(), route.origin.location()));
    let rows: Vec<_> = of_requests.chain(tcp).collect();
    let width = |texts: &mut dyn Iterator<Item = &String>| {
        texts.map(|text| text.chars().count()).max().unwrap_or(0).min(WIDEST_COLUMN)
    };
    let name = width(&mut rows.iter().map(|(name, ..)| *name));
    let pattern = width(&mut rows.iter().map(|(_, pattern, ..)| pattern));
    let target = width(&mut rows.iter().map(|(_, _, target, _)| target));
    for (from, matched, to, place) in &rows {
        writeln!(out, "{from:<name$}  {matched:<pattern$}  -> {to:<target$}  {place}")?;
    }
    if rows.is_empty() {
        writeln!(out, "the table has no routes yet: `portolan` without a table shows what could be one")?;
    }
    Ok(GOOD)
}

fn tcp_object(route: &TcpRoute) -> serde_json::Value {
    let targets = route.forward.targets.iter().map(|target| &target.address);
    let listen: Vec<_> = route.addresses().collect();
    json!({
        "name": route.name,
        "pattern": route.pattern(),
        "target": route.target(),
        "url": attach::line(&listen, &route.hosts, targets, None),
        "origin": route.origin.location(),
    })
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
