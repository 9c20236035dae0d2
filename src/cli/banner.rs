//! What is said once the proxy is ready: a banner to a person, lines to a program.

use std::{
    io::{self, Write},
    net::{IpAddr, Ipv4Addr, SocketAddr},
    path::Path,
    time::Duration,
};

use super::terminal::{Terminal, WIDEST_COLUMN};
use crate::{
    app::Proxy,
    config::Address,
    discover::{self, Listener, attach},
    live::{Action, Forward, Snapshot},
    tls,
    trust::Placed,
    upstream::place::{Absent, Place, Standing},
};

/// Lines of a banner, blank ones counted.
const LINES: usize = 8;

/// Says that the proxy is ready. From here on a client may connect.
pub(super) fn ready(proxy: &Proxy, table: Option<&Path>, took: Duration, terminal: &Terminal) -> io::Result<()> {
    let Some(address) = proxy.addresses().first() else { return Ok(()) };
    let snapshot = proxy.table();
    let mut out = io::stdout().lock();
    if terminal.interactive && !terminal.quiet {
        let color = terminal.colors_out();
        out.write_all(banner(&snapshot, *address, table, took, terminal.unicode, color).as_bytes())?;
    } else {
        if !terminal.quiet {
            for line in lines(&snapshot, address.port()) {
                writeln!(out, "{line}")?;
            }
        }
        writeln!(out, "portolan ready http://{}", told(*address))?;
    }
    out.flush()
}

/// An address that can be connected to: a wildcard stands for every address, so the usual one is told.
fn told(address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), address.port())
    } else {
        address
    }
}

/// A route as the banner shows it.
struct Row<'s> {
    name: &'s str,
    url: String,
    target: &'s str,
    /// Where a program is behind it.
    forward: Option<&'s Forward>,
}

/// Every route, those of `[tcp]` last.
fn rows(snapshot: &Snapshot, port: u16) -> Vec<Row<'_>> {
    let of_requests = snapshot.routes().iter().map(|route| Row {
        name: &route.name,
        url: route.words.url(port),
        target: &route.words.target,
        forward: match &route.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Respond(_) | Action::Files(_) => None,
        },
    });
    let tcp = snapshot.tcp().iter().map(|route| {
        let targets = route.forward.upstream.endpoints().map(|endpoint| endpoint.address());
        let url = attach::line(&route.listen, &route.hosts, targets, None);
        Row { name: &route.name, url, target: &route.words.1, forward: Some(&route.forward) }
    });
    of_requests.chain(tcp).collect()
}

/// `web   http://localhost:62893/     -> :5173`, in columns.
pub(super) fn lines(snapshot: &Snapshot, port: u16) -> Vec<String> {
    let rows = rows(snapshot, port);
    let name = rows.iter().map(|row| row.name.chars().count()).max().unwrap_or(0);
    let url = rows.iter().map(|row| row.url.chars().count()).max().unwrap_or(0);
    rows.iter().map(|row| format!("{:<name$}  {:<url$}  -> {}", row.name, row.url, row.target)).collect()
}

fn banner(
    snapshot: &Snapshot,
    address: SocketAddr,
    table: Option<&Path>,
    took: Duration,
    unicode: bool,
    color: bool,
) -> String {
    let paint = |code: &str, text: &str| if color { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() };
    let listeners = discover::listeners().unwrap_or_default();
    let routes = rows(snapshot, address.port());
    // Title, blank, blank at the end, and the last line.
    let room = LINES - 3;
    let shown = if routes.len() <= room { routes.len() } else { room - 1 };
    let name_width = routes[..shown].iter().map(|route| route.name.chars().count()).max().unwrap_or(0).max(8);
    let url_width = routes[..shown].iter().map(|route| route.url.chars().count()).max().unwrap_or(0);
    let owners = routes[..shown].iter().map(|route| state(route, &listeners, unicode).0.chars().count()).max();
    let program_width = owners.filter(|width| *width > 0).map_or(0, |width| width + 2);
    let target_widths = routes[..shown].iter().map(|route| route.target.chars().count());
    let target_width = target_widths.max().unwrap_or(0).min(WIDEST_COLUMN);
    let version = env!("CARGO_PKG_VERSION");
    let mut text = format!("  {}  ready in {} ms\n\n", paint("1", &format!("portolan {version}")), took.as_millis());
    for route in &routes[..shown] {
        let arrow = paint("32", if unicode { "➜" } else { ">" });
        let padding = " ".repeat(url_width - route.url.chars().count());
        let (program, state) = state(route, &listeners, unicode);
        let target = route.target;
        let line = format!("{program:<program_width$}{target:<target_width$}  {state}");
        text += &format!(
            "  {arrow}  {:<name_width$}  {}{padding}  {}\n",
            route.name,
            paint("36", &route.url),
            line.trim_end()
        );
    }
    if routes.is_empty() {
        text += &format!("     no routes yet: http://{} answers with what it knows\n", told(address));
    }
    if routes.len() > shown {
        text += &format!("     {} more: portolan routes\n", routes.len() - shown);
    }
    let count = if routes.len() == 1 { "1 route".to_owned() } else { format!("{} routes", routes.len()) };
    let from = table.map_or_else(String::new, |table| format!(" from {}, watched", table.display()));
    let dot = if unicode { '·' } else { '-' };
    let https = if is_trusted() { format!(" {dot} https too") } else { String::new() };
    text += &paint("2", &format!("  {count}{from}{https} {dot} Ctrl-C ends"));
    text.push('\n');
    text
}

/// Whether somebody was told to trust what https shows here.
fn is_trusted() -> bool {
    let placed = tls::folder::default().and_then(|folder| Placed::read(&folder));
    placed.is_ok_and(|placed| placed.is_anywhere())
}

/// The program behind a route, and whether anybody is there.
fn state(row: &Row<'_>, listeners: &[Listener], unicode: bool) -> (String, String) {
    let Some(forward) = row.forward else { return (String::new(), String::new()) };
    let (up, down, coming) = if unicode {
        ("● up", "○ nothing listens", "○ starting")
    } else {
        ("* up", "o nothing listens", "o starting")
    };
    let endpoints = || forward.upstream.endpoints();
    let port = endpoints().find_map(|endpoint| match (endpoint.address(), endpoint.place().map(Place::standing)) {
        (_, Some(Standing::At(spot))) => spot.addresses.first().map(SocketAddr::port),
        (Address::Loopback(port), _) => Some(*port),
        (Address::Ip(address), _) if address.ip().is_loopback() => Some(address.port()),
        _ => None,
    });
    let Some(port) = port else {
        let absence = endpoints().find_map(|endpoint| match endpoint.place().map(Place::standing) {
            Some(Standing::Absent(absence)) => Some(absence),
            _ => None,
        });
        // A socket of the file system or a program elsewhere is not looked up.
        let told = absence.map_or("", |absence| if absence.kind == Absent::Starting { coming } else { down });
        return (String::new(), told.to_owned());
    };
    match listeners.iter().find(|listener| listener.address.port() == port) {
        Some(Listener { owner: Some(owner), .. }) => (owner.program.clone(), format!("pid {}  {up}", owner.pid)),
        Some(_) => (String::new(), up.to_owned()),
        None => (String::new(), down.to_owned()),
    }
}
