//! `portolan explain` for a port of `[tcp]`: which of its routes takes a client, and why.

use std::net::{IpAddr, SocketAddr};

use serde_json::json;

use super::terminal::Terminal;
use crate::{
    config::{Config, TcpRoute},
    head::Host,
    table::pattern,
};

/// What is to be said.
pub(super) struct Told {
    pub(super) text: String,
    /// Whether a route takes it.
    pub(super) is_answered: bool,
}

/// Explains a client that connects to the port of `asked`, and asks for its name where it speaks TLS; `None` where no TCP
/// route listens there.
pub(super) fn explain(config: &Config, asked: &Host<'_>, terminal: &Terminal) -> Option<Told> {
    let port = asked.port()?;
    let is_reached = |address: SocketAddr| address.port() == port && leads_to(asked, address.ip());
    let routes: Vec<&TcpRoute> = config.tcp.iter().filter(|route| route.addresses().any(is_reached)).collect();
    if routes.is_empty() {
        return None;
    }
    let answers = routes.iter().copied().filter_map(|route| Some((pattern::rank(&route.hosts, Some(asked))?, route)));
    let answers = answers.max_by_key(|(rank, _)| *rank).map(|(_, route)| route);
    let because = |route: &TcpRoute| match pattern::rank(&route.hosts, Some(asked)) {
        _ if answers.is_some_and(|first| std::ptr::eq(first, route)) => ("answers", "answers".to_owned()),
        Some(_) => ("outranked", "holds too, but another one is more specific".to_owned()),
        None => ("fails", format!("a client that asks for {} by TLS is none of it", asked.name())),
    };
    let text = if terminal.json {
        let candidates = routes.iter().map(|route| {
            let (outcome, because) = because(route);
            let (name, pattern) = (&route.name, route.pattern());
            json!({
                "route": name, "pattern": pattern, "outcome": outcome, "because": because,
                "origin": route.origin.location(),
            })
        });
        let object = json!({
            "method": "TCP", "host": asked.to_string(),
            "route": answers.map(|route| &route.name),
            "target": answers.map(TcpRoute::target),
            "origin": answers.map(|route| route.origin.location()),
            "candidates": candidates.collect::<Vec<_>>(),
        });
        format!("{object}\n")
    } else {
        let mut text = format!("TCP {asked}\n");
        match answers {
            Some(route) => {
                let place = route.origin.location();
                text += &format!("  TCP route {} -> {}  ({place})\n\n", route.name, route.target());
            }
            None => text += "  no route of this port takes it: it is reset\n\n",
        }
        for route in &routes {
            text += &format!("  {}  {}  {}\n", route.name, route.pattern(), because(route).1);
        }
        text
    };
    Some(Told { text, is_answered: answers.is_some() })
}

/// Whether a client of `asked` may come to who listens on `listens`. Where a name leads is for the system to say.
fn leads_to(asked: &Host<'_>, listens: IpAddr) -> bool {
    let Ok(asked) = asked.name().trim_matches(['[', ']']).parse::<IpAddr>() else { return true };
    asked == listens || listens.is_unspecified() && asked.is_ipv4() == listens.is_ipv4()
}
