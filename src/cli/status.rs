//! `portolan status`, `url`, `open`, `reload`, `stop`, `wait`: the portolan that runs.

use std::{
    io::{self, Write},
    time::{Duration, Instant},
};

use serde_json::json;
use tokio::{
    net::TcpStream,
    time::{sleep, timeout},
};

use super::{
    BAD, GOOD, Outcome, Stop,
    columns::{self, Column, Cut},
    flags::Global,
    running,
    terminal::Terminal,
};
use crate::{
    control::api::{Accepted, Owner, Reloaded, RouteStatus, Status},
    diagnostic::{Diagnostic, shown},
    upstream::health,
};

/// How often `wait` asks.
const ASK: Duration = Duration::from_millis(100);

/// How long one question of `wait` may take.
const QUESTION: Duration = Duration::from_secs(5);

/// Everything about it; an error where its file was refused.
pub(super) fn status(global: &Global, terminal: &Terminal) -> Outcome {
    let (_, status) = running::block_on(running::status(global))?;
    let is_refused = status.table.as_ref().is_some_and(|table| !table.refused.is_empty());
    let code = if is_refused { BAD } else { GOOD };
    let mut out = io::stdout().lock();
    if terminal.json {
        writeln!(out, "{}", json!(status))?;
        return Ok(code);
    }
    let listen: Vec<String> = status.listen.iter().map(ToString::to_string).collect();
    let from = status.table.as_ref().map(|table| format!(", table {}", shown(&table.file))).unwrap_or_default();
    writeln!(out, "portolan {} (pid {}) at {}{from}\n", status.version, status.pid, listen.join(" and "))?;
    if let Some(table) = status.table.as_ref().filter(|table| !table.refused.is_empty()) {
        writeln!(out, "{}\n", table.refused)?;
    }
    let all: Vec<RouteStatus> = status.routes.iter().chain(status.tcp.iter().map(|tcp| &tcp.route)).cloned().collect();
    routes(&mut out, &all, terminal)?;
    for tcp in status.tcp.iter().filter(|tcp| tcp.ever > 0) {
        let connections = if tcp.ever == 1 { "1 connection".to_owned() } else { format!("{} connections", tcp.ever) };
        writeln!(out, "  {}: {connections}, {} open", tcp.route.name, tcp.open)?;
    }
    if !status.services.is_empty() {
        writeln!(out)?;
        drop(out);
        super::services::print(&status, terminal)?;
        out = io::stdout().lock();
    }
    for run in status.runs.iter().filter(|run| run.addresses.is_empty()) {
        writeln!(
            out,
            "\n{} does not listen yet: `{}` (pid {}) in {}",
            run.url,
            run.command,
            run.pid,
            shown(&run.folder)
        )?;
    }
    Ok(code)
}

/// The routes of the running portolan, with whoever stands behind them.
pub(super) fn routes(out: &mut impl Write, routes: &[RouteStatus], terminal: &Terminal) -> io::Result<()> {
    if routes.is_empty() {
        return writeln!(out, "no routes yet: `portolan run -- CMD` makes one, or a portolan.toml");
    }
    let rows: Vec<Vec<String>> = routes.iter().map(|route| row(route, terminal)).collect();
    out.write_all(columns::render(&COLUMNS, &rows, terminal.width, terminal.unicode).as_bytes())?;
    for route in routes.iter().filter(|route| route.state != "up") {
        for note in &route.notes {
            writeln!(out, "  {}: {note}", route.name)?;
        }
    }
    for route in routes.iter().filter(|route| route.state == "up" && !route.notes.is_empty()) {
        writeln!(out, "  {}: {}", route.name, route.notes.join("; "))?;
    }
    Ok(())
}

const COLUMNS: [Column; 5] = [
    Column { heading: "state", cut: Cut::Never },
    Column { heading: "route", cut: Cut::Never },
    Column { heading: "url", cut: Cut::Never },
    Column { heading: "target", cut: Cut::End(8) },
    Column { heading: "who is there", cut: Cut::Middle(12) },
];

fn row(route: &RouteStatus, terminal: &Terminal) -> Vec<String> {
    let dot = match (route.state.as_str(), terminal.unicode) {
        ("up", true) => "●",
        ("up", false) => "*",
        (_, true) => "○",
        (_, false) => "o",
    };
    vec![
        format!("{dot} {}", route.state),
        route.name.clone(),
        route.url.clone(),
        route.target.clone(),
        route.owner.as_ref().map(owner).unwrap_or_default(),
    ]
}

fn owner(owner: &Owner) -> String {
    let folder = owner.folder.as_deref().map(|folder| format!(" in {}", shown(folder))).unwrap_or_default();
    format!("{} (pid {}){folder}", owner.program, owner.pid)
}

/// Where a browser finds a route, a run or a service, and what the clients of a TCP route take.
pub(super) fn url(global: &Global, name: &str, terminal: &Terminal) -> Outcome {
    let (_, status) = running::block_on(running::status(global))?;
    let of_tcp = || status.tcp.iter().find(|tcp| tcp.route.name == name).map(|tcp| tcp.route.url.clone());
    let url = find(&status, Some(name)).or_else(of_tcp).ok_or_else(|| unknown(&status, name))?;
    if terminal.json {
        writeln!(io::stdout(), "{}", json!({ "name": name, "url": url }))?;
    } else {
        writeln!(io::stdout(), "{url}")?;
    }
    Ok(GOOD)
}

/// Opens it in the browser; without a name the first route.
pub(super) fn open(global: &Global, name: Option<&str>) -> Outcome {
    let (_, status) = running::block_on(running::status(global))?;
    let url = find(&status, name).ok_or_else(|| unknown(&status, name.unwrap_or("any")))?;
    open::that_detached(&url).map_err(|error| {
        Stop::from(
            Diagnostic::error(
                "no-browser",
                format!("no browser opens {url}: {}", crate::diagnostic::without_number(&error)),
            )
            .help("open it by hand, or name a browser in BROWSER"),
        )
    })?;
    Ok(GOOD)
}

fn find(status: &Status, name: Option<&str>) -> Option<String> {
    let Some(name) = name else { return status.routes.first().map(|route| route.url.clone()) };
    let of_route = status.routes.iter().find(|route| route.name == name).map(|route| route.url.clone());
    let of_run = || status.runs.iter().find(|run| run.name == name).map(|run| run.url.clone());
    let of_service = || status.services.iter().find(|service| service.name == name)?.urls.first().cloned();
    of_route.or_else(of_run).or_else(of_service)
}

fn unknown(status: &Status, name: &str) -> Stop {
    let routes = status.routes.iter().chain(status.tcp.iter().map(|tcp| &tcp.route));
    let names: Vec<&str> = routes.map(|route| route.name.as_str()).collect();
    let problem = Diagnostic::error("unknown-name", format!("no route, run or service is called `{name}`"));
    let problem = if names.is_empty() {
        problem.help("there are no routes yet: `portolan run -- CMD` makes one")
    } else {
        problem.help(format!("the routes are {}", names.join(", ")))
    };
    problem.into()
}

/// Has the table read anew.
pub(super) fn reload(global: &Global, terminal: &Terminal) -> Outcome {
    let reloaded: Reloaded = running::block_on(async {
        let client = running::client(global).await;
        client.post("/v1/reload", &json!({})).await.map_err(running::unanswered)
    })?;
    if terminal.json {
        writeln!(io::stdout(), "{}", json!(reloaded))?;
    } else if !(terminal.quiet && reloaded.accepted) {
        writeln!(io::stdout(), "{}", reloaded.text)?;
    }
    Ok(if reloaded.accepted { GOOD } else { BAD })
}

/// Ends it, with everything that it looks after.
pub(super) fn stop(global: &Global) -> Outcome {
    running::block_on(async {
        let (client, status) = running::status(global).await?;
        client.post::<Accepted>("/v1/stop", &json!({})).await.map_err(running::unanswered)?;
        running::ended(status.pid).await;
        Ok(GOOD)
    })
}

/// Returns when all of these answer.
pub(super) fn wait(global: &Global, names: &[String], limit: Duration, terminal: &Terminal) -> Outcome {
    let began = Instant::now();
    let mut missing = names.to_vec();
    let answered = running::block_on(async {
        let waiting = async {
            while !missing.is_empty() {
                if let Ok((_, status)) = running::status(global).await {
                    let mut left = Vec::new();
                    for name in std::mem::take(&mut missing) {
                        if !answers(&status, &name).await {
                            left.push(name);
                        }
                    }
                    missing = left;
                }
                if !missing.is_empty() {
                    sleep(ASK).await;
                }
            }
        };
        Ok(timeout(limit, waiting).await.is_ok())
    })?;
    if answered {
        if !terminal.quiet {
            let verb = if names.len() == 1 { "answers" } else { "answer" };
            writeln!(io::stdout(), "{} {verb} after {:.1} s", names.join(", "), began.elapsed().as_secs_f64())?;
        }
        return Ok(GOOD);
    }
    let problem = Diagnostic::error(
        "no-answer",
        format!("{} did not answer within {} s", missing_words(names, &missing), limit.as_secs()),
    )
    .help("`portolan status` tells why, and `portolan logs` what services say; `--timeout` waits longer");
    Err(problem.into())
}

fn missing_words(names: &[String], missing: &[String]) -> String {
    if missing.is_empty() { names.join(", ") } else { missing.join(", ") }
}

/// Whether a service is ready, a TCP route's program listens, or a route leads to a program that answers, whatever it says.
async fn answers(status: &Status, name: &str) -> bool {
    if let Some(route) = status.routes.iter().find(|route| route.name == name) {
        return route.state != "down" && timeout(QUESTION, has_answer(status, &route.url)).await.unwrap_or(false);
    }
    // Whether it listens is seen, never tried: some programs die of a connection on which nothing comes.
    if let Some(tcp) = status.tcp.iter().find(|tcp| tcp.route.name == name) {
        return matches!(tcp.route.state.as_str(), "up" | "elsewhere");
    }
    status.services.iter().any(|service| service.name == name && matches!(service.state.as_str(), "ready" | "done"))
}

/// Whether the proxy passes an answer on, and not one of its own errors.
async fn has_answer(status: &Status, url: &str) -> bool {
    let Some(address) = status.listen.first() else { return false };
    let Ok(stream) = TcpStream::connect(address).await else { return false };
    let Ok(url) = url.parse::<http::Uri>() else { return false };
    let host = url.authority().map_or("localhost", |authority| authority.as_str());
    let head = health::get(stream, host, url.path()).await;
    head.is_some_and(|head| !head.headers.contains_key("x-portolan-error"))
}
