//! `portolan explain`: which route answers, and why not the others.

use std::io::{self, Write};

use serde_json::json;

use super::{
    BAD, GOOD, Outcome, Stop,
    flags::{Explain, Global},
    load_table,
    terminal::Terminal,
};
use crate::{
    config::{Address, Config, Route, Sought, Words},
    diagnostic::Diagnostic,
    discover::{
        self, Lookout,
        follow::{Scene, program},
    },
    head::{FieldList, Host, RequestHead},
    process::Processes,
    table::{Candidate, Explanation, Outcome as Candidacy, Table},
};

/// A request as it was typed.
struct Typed<'a> {
    method: String,
    /// Routes are the same for `http` and `https`.
    scheme: String,
    host: Host<'a>,
    path: String,
    query: Option<String>,
    fields: FieldList,
}

/// Explains one request.
pub(super) fn run(global: &Global, arguments: &Explain, terminal: &Terminal) -> Outcome {
    let typed = parse(arguments)?;
    let loaded = load_table(global, None)?;
    let Some(config) = loaded.config else { return Err(Stop::Told(loaded.diagnostics, BAD)) };
    if let Some(told) = super::explain_tcp::explain(&config, &typed.host, terminal) {
        io::stdout().write_all(told.text.as_bytes())?;
        return Ok(if told.is_answered { GOOD } else { BAD });
    }
    if !matches!(&*typed.scheme, "http" | "https") {
        let message = format!("no route takes `{}://`", typed.scheme);
        let help = "write http:// or https://, or a path alone; a port of `[tcp]` takes any";
        return Err(Stop::Told(vec![Diagnostic::error("bad-request", message).help(help)], super::usage()));
    }
    let table =
        Table::compile(&config.routes).map_err(|error| Diagnostic::error("patterns-too-large", error.to_string()))?;
    let head = RequestHead {
        method: &typed.method,
        path: &typed.path,
        query: typed.query.as_deref(),
        host: &typed.host,
        fields: &typed.fields,
    };
    let explanation = table.explain(&head);
    let known = table.knows(&typed.host);
    let text = if terminal.json {
        as_json(&explanation, &config, &head, known)
    } else {
        format!("{} {}://{}", typed.method, typed.scheme, typed.host)
            + &as_text(&explanation, &config, &head, known, terminal.unicode)
    };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if explanation.hit.is_some() { GOOD } else { BAD })
}

/// Where the programs are now that the route follows, and by which rule.
fn followed(route: &Route) -> Vec<String> {
    let sought: Vec<&Sought> = discover::targets(route)
        .filter_map(|target| if let Address::Followed(sought) = target { Some(sought) } else { None })
        .collect();
    if sought.is_empty() {
        return Vec::new();
    }
    let (sockets, processes) = (Lookout::default().look().unwrap_or_default(), Processes::now());
    let told = |sought: &Sought| match program(sought, Scene { sockets: &sockets, processes: &processes }) {
        Some(Ok(found)) => format!("{sought}: {}", found.told()),
        Some(Err(missing)) => {
            let (message, notes, _) = missing.told(sought);
            format!("{sought}: {}", [vec![message], notes].concat().join("; "))
        }
        None => format!("{sought}: `portolan status` tells where it is, from the portolan that runs"),
    };
    sought.into_iter().map(told).collect()
}

/// `[METHOD] URL` and the fields. A path alone is one of `localhost`.
fn parse(arguments: &Explain) -> Result<Typed<'_>, Stop> {
    let refuse = |message: String, help: &str| {
        Stop::Told(vec![Diagnostic::error("bad-request", message).help(help)], super::usage())
    };
    let (method, url) = match arguments.request.as_slice() {
        [method, url] => (method.clone(), url),
        [url] => ("GET".to_owned(), url),
        _ => return Err(refuse("a URL is missing".into(), "portolan explain /api/users")),
    };
    let (scheme, without_scheme) = url.split_once("://").unwrap_or(("http", url));
    let scheme = scheme.to_ascii_lowercase();
    let without_fragment = without_scheme.split('#').next().unwrap_or_default();
    let (authority, target) = match without_fragment.find(['/', '?']) {
        Some(0) => ("localhost", without_fragment.to_owned()),
        Some(at) => (&without_fragment[..at], without_fragment[at..].to_owned()),
        None => (without_fragment, "/".to_owned()),
    };
    let target = if target.starts_with('?') { format!("/{target}") } else { target };
    let host = Host::parse(authority.as_bytes())
        .map_err(|error| refuse(format!("`{authority}`: {error}"), "write http://HOST/PATH, or a path alone"))?;
    let (path, query) = target.split_once('?').map_or((target.as_str(), None), |(path, query)| (path, Some(query)));
    let field = |field: &String| match field.split_once(':') {
        Some((name, value)) => Ok((name.trim().to_owned(), value.trim().to_owned())),
        None => Err(refuse(format!("`{field}` is no header field"), "write -H 'name: value'")),
    };
    let fields = arguments.headers.iter().map(field).collect::<Result<_, _>>()?;
    Ok(Typed {
        method,
        scheme,
        host,
        path: path.to_owned(),
        query: query.map(str::to_owned),
        fields: FieldList(fields),
    })
}

fn as_text(
    explanation: &Explanation<'_>,
    config: &Config,
    head: &RequestHead<'_>,
    known: bool,
    unicode: bool,
) -> String {
    let query = head.query.map(|query| format!("?{query}")).unwrap_or_default();
    let mut text = format!("{}{query}\n", head.path);
    match explanation.hit {
        Some(hit) => {
            let route = &config.routes[hit.route.0];
            let words = Words::of(route);
            text += &format!("  route {} -> {}  ({})\n", route.name, words.target, route.origin.location());
            text += &followed(route).iter().map(|told| format!("  {told}\n")).collect::<String>();
        }
        None if known => text += "  no route: 404 no-route\n",
        None => text += "  host neither local nor named by a route: 421 unknown-host\n",
    }
    text.push('\n');
    let name = explanation.candidates.iter().map(|c| config.routes[c.route.0].name.chars().count()).max().unwrap_or(0);
    let width = explanation.candidates.iter().map(|candidate| pattern(candidate).chars().count()).max().unwrap_or(0);
    for candidate in &explanation.candidates {
        let (sign, because) = match candidate.outcome {
            Candidacy::Answers => (if unicode { '●' } else { '*' }, "answers".to_owned()),
            Candidacy::Outranked(tie_break) => (if unicode { '○' } else { 'o' }, format!("holds too, but {tie_break}")),
            Candidacy::Fails(mismatch) => (if unicode { '·' } else { '-' }, mismatch.because(head)),
        };
        let route = &config.routes[candidate.route.0].name;
        text += &format!("  {sign} {route:<name$}  {:<width$}  {because}\n", pattern(candidate));
    }
    if let Some(falls) = falls_through(explanation, head) {
        text += &format!("\n  {falls}\n");
    }
    text
}

fn as_json(explanation: &Explanation<'_>, config: &Config, head: &RequestHead<'_>, known: bool) -> String {
    let candidates = explanation.candidates.iter().map(|candidate| {
        let (outcome, because) = match candidate.outcome {
            Candidacy::Answers => ("answers", None),
            Candidacy::Outranked(tie_break) => ("outranked", Some(tie_break.to_string())),
            Candidacy::Fails(mismatch) => ("fails", Some(mismatch.because(head))),
        };
        let route = &config.routes[candidate.route.0];
        json!({
            "route": route.name, "pattern": pattern(candidate), "outcome": outcome, "because": because,
            "origin": route.origin.location(),
        })
    });
    let hit = explanation.hit.map(|hit| &config.routes[hit.route.0]);
    let error = match (hit, known) {
        (Some(_), _) => None,
        (None, true) => Some("no-route"),
        (None, false) => Some("unknown-host"),
    };
    let object = json!({
        "method": head.method, "host": head.host.to_string(), "path": head.path, "query": head.query,
        "route": hit.map(|route| &route.name),
        "target": hit.map(|route| Words::of(route).target),
        "origin": hit.map(|route| route.origin.location()),
        "followed": hit.map(followed).unwrap_or_default(),
        "error": error,
        "candidates": candidates.collect::<Vec<_>>(),
    });
    format!("{object}\n")
}

fn pattern(candidate: &Candidate<'_>) -> String {
    match candidate.host {
        crate::config::HostMatch::AnyLocal => candidate.path.to_string(),
        host => format!("{host}{}", candidate.path),
    }
}

/// A more specific host that had no path for it is worth a sentence: other proxies answer 404 there.
fn falls_through(explanation: &Explanation<'_>, head: &RequestHead<'_>) -> Option<String> {
    let winner = explanation.candidates.iter().position(|c| c.outcome == Candidacy::Answers)?;
    let passed = explanation.candidates[..winner].iter().find(|c| {
        c.host != explanation.candidates[winner].host && crate::table::pattern::host_matches(c.host, head.host)
    })?;
    Some(format!(
        "{} matches this host, but none of its paths does: the next less specific host was asked",
        passed.host
    ))
}
