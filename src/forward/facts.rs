//! What is really there when a program gives no answer: found by looking, and told with the line that mends it.
//!
//! Whoever answers for a failure has looked before, where that tells more; here facts become sentences. People on other
//! machines cause no look, and are told none of it.

use std::{
    env,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    process,
    sync::Arc,
    time::Duration,
};

use super::{
    clue::{self, Clue},
    failure::{Reached, Reason},
    head::Client,
};
use crate::{
    config::{
        Address,
        document::{Document, Kind},
    },
    diagnostic::{Span, shown},
    discover::{
        self, Listener,
        look::Sight,
        neighbours::{self, Kinship, Missed, NEAR, Neighbours, Who},
    },
    live::{Action, Route, Snapshot},
    respond::pages::Page,
    upstream::{
        Endpoint,
        connect::ConnectError,
        place::{Place, Standing},
    },
};

/// A larger file is not searched for the place of a limit while somebody waits for the page.
const MOST_SEARCHED: usize = 64 * 1024;

/// How many listeners without a route are listed.
const MOST_LISTED: usize = 5;

/// Where and to whom a failure is told.
#[derive(Clone, Copy)]
pub(super) struct Setting<'s> {
    pub(super) client: &'s Client,
    pub(super) snapshot: &'s Snapshot,
    /// Who listens on this machine, where somebody looked.
    pub(super) sight: Option<&'s Sight>,
}

/// The target of which there is no answer, and where it was written.
struct Scene<'s> {
    setting: Setting<'s>,
    route: &'s Route,
    endpoint: &'s Endpoint,
    origin: &'s Span,
}

/// Tells why there is no answer from `target` of `route`, which was written at `of_route`.
pub(super) fn no_answer<'a>(
    page: Page<'a>,
    (route, target): (&str, &str),
    reason: &Reason,
    of_route: &str,
    setting: Setting<'a>,
) -> Page<'a> {
    let Some(scene) = Scene::find(setting, route, target) else { return page.help(reason.help(of_route)) };
    let origin = scene.origin.location();
    // A limit is a matter of the route, everything else of the target.
    let is_limit = matches!(reason, Reason::Dial(ConnectError::Timeout(_)) | Reason::Timeout(..));
    let help = reason.help(if is_limit { of_route } else { &origin });
    let page = page.origin(&origin);
    match reason {
        Reason::Dial(ConnectError::Refused(_)) => scene.missing(page, help),
        Reason::Dial(ConnectError::Timeout(limit)) => {
            let page = scene.limit(page, "connect_timeout", *limit);
            scene
                .holder(page.note("all of that went by connecting: no byte was sent"), "takes no connection")
                .help(help)
        }
        Reason::Dial(ConnectError::Closed) => {
            scene.holder(page.note("it hung up before a byte was sent"), "listens there").help(help)
        }
        Reason::Closed(reached) => scene.holder(so_far(page, reached), "listens there").help(help),
        Reason::Timeout(limit, reached) => {
            let page = so_far(scene.limit(page, "timeout", *limit), reached);
            scene.holder(page, "has the request").help(help)
        }
        Reason::Invalid(_, bytes) => {
            let clue = Clue::of(bytes);
            let page = clue.into_iter().fold(page, |page, clue| page.note(clue.note()));
            let page = if bytes.is_empty() { page } else { page.note(clue::told(bytes)) };
            scene.holder(page, "sent that").help(clue.map_or(help, |clue| clue.help(&origin)))
        }
        _ => page.help(help),
    }
}

/// Tells what `target` was refused for, after a wait or without one.
pub(super) fn missing<'a>(
    page: Page<'a>,
    (route, target): (&str, &str),
    help: String,
    setting: Setting<'a>,
) -> Page<'a> {
    match Scene::find(setting, route, target) {
        Some(scene) => scene.missing(page.origin(scene.origin.location()), help),
        None => page.help(help),
    }
}

impl<'s> Scene<'s> {
    /// Nothing is looked up for strangers, who are told none of it.
    fn find(setting: Setting<'s>, route: &str, target: &str) -> Option<Self> {
        if !setting.client.peer.is_loopback() {
            return None;
        }
        let route = setting.snapshot.routes().iter().find(|known| *known.name == *route)?;
        let Action::Forward(forward) = &route.action else { return None };
        let mut targets = forward.upstream.endpoints().zip(&forward.origins);
        let (endpoint, origin) = targets.find(|(endpoint, _)| endpoint.address().to_string() == target)?;
        Some(Self { setting, route, endpoint, origin })
    }

    /// Nobody listens there: who else may be meant.
    fn missing(&self, page: Page<'s>, help: String) -> Page<'s> {
        let addresses = addresses(self.endpoint);
        let (Some(sight), [first, ..]) = (self.setting.sight, addresses.as_slice()) else { return page.help(help) };
        if let Some(there) = neighbours::newcomer(sight, &addresses) {
            return page.note(format!("{} listens there since a moment ago", Who(there))).help("ask again");
        }
        let port = first.port();
        let missed = Missed { addresses, home: home(self.origin) };
        let leads_there = |address| self.setting.snapshot.endpoints().any(|other| leads_to(other, address));
        let found = Neighbours::of(&missed, sight, process::id(), leads_there);
        let page = found.all.iter().fold(page, |page, found| page.note(neighbour(found.listener, found.kinship, port)));
        let page = if found.all.is_empty() { page.note(nobody(&missed, port)) } else { page };
        match found.guess() {
            Some(guess) => page.help(mend(self.origin, guess.listener.address)),
            None => page.help(help),
        }
    }

    /// Who holds the address, as `does` goes on; or that nobody does any more.
    fn holder(&self, page: Page<'s>, does: &str) -> Page<'s> {
        let addresses = addresses(self.endpoint);
        let (Some(sight), false) = (self.setting.sight, addresses.is_empty()) else { return page };
        match neighbours::holder(sight, &addresses) {
            Some(holder) => page.note(format!("{} {does}", Who(holder))),
            None => page.note("nothing listens there any more"),
        }
    }

    /// Which limit has passed, its value, and where it was written.
    fn limit(&self, page: Page<'s>, key: &str, limit: Duration) -> Page<'s> {
        let origin = match written(&self.route.origin, &self.route.name, key) {
            Written::At(origin) => format!(", written at {origin}"),
            Written::Nowhere => ", the default".into(),
            Written::Unknown => String::new(),
        };
        page.note(format!("the limit is `{key}` = {} s{origin}", limit.as_secs_f64()))
    }
}

/// How far an exchange came.
fn so_far<'a>(page: Page<'a>, reached: &Reached) -> Page<'a> {
    let sent = if reached.is_sent { "it was sent the whole request" } else { "it was sent a part of the request" };
    let page = if reached.bytes.is_empty() {
        page.note(format!("{sent}, and no byte of an answer came"))
    } else {
        page.note(format!("{sent}, and the head of its answer has no end")).note(clue::told(&reached.bytes))
    };
    Clue::of(&reached.bytes).into_iter().fold(page, |page, clue| page.note(clue.note()))
}

/// Where an endpoint listens, if that is on this machine.
fn addresses(endpoint: &Endpoint) -> Vec<SocketAddr> {
    match endpoint.address() {
        Address::Loopback(port) => loopback(*port).to_vec(),
        Address::Ip(address) if address.ip().is_loopback() || address.ip().is_unspecified() => vec![*address],
        Address::Followed(_) => match endpoint.place().map(Place::standing) {
            Some(Standing::At(spot)) => spot.addresses.to_vec(),
            Some(Standing::Absent(_)) | None => Vec::new(),
        },
        Address::Ip(_) | Address::Name { .. } | Address::Unix(_) => Vec::new(),
    }
}

fn loopback(port: u16) -> [SocketAddr; 2] {
    [(Ipv4Addr::LOCALHOST, port).into(), (Ipv6Addr::LOCALHOST, port).into()]
}

/// Whether a route leads to whoever listens at `address`.
fn leads_to(endpoint: &Endpoint, address: SocketAddr) -> bool {
    let is_it = |target: &SocketAddr| {
        let is_any = address.ip().is_unspecified() && target.ip().is_loopback();
        target.port() == address.port() && (target.ip() == address.ip() || is_any)
    };
    addresses(endpoint).iter().any(is_it)
}

/// The folder whose programs belong to a table: that in which it lies, or in which portolan was started without one.
/// Not the root or a person's home, beneath which everything lies.
fn home(origin: &Span) -> Option<PathBuf> {
    let folder = match &origin.source.path {
        // The folder of a process is told without symbolic links.
        Some(path) => path.parent().and_then(|folder| folder.canonicalize().ok()),
        None => env::current_dir().ok(),
    };
    let folder = match folder {
        Some(folder) if folder.ends_with(".config") => folder.parent().map(Path::to_path_buf),
        folder => folder,
    };
    folder.filter(|folder| folder.parent().is_some() && Some(folder) != env::home_dir().as_ref())
}

/// A neighbour of `port` in a sentence.
fn neighbour(listener: &Listener, kinship: Kinship, port: u16) -> String {
    let (who, address) = (Who(listener), listener.address);
    match (kinship, address.ip()) {
        (Kinship::SamePort, IpAddr::V4(Ipv4Addr::LOCALHOST) | IpAddr::V6(Ipv6Addr::LOCALHOST)) => {
            format!("{who} listens on {address}, the other loopback address")
        }
        (Kinship::SameProgram, _) => format!("{who}, which held port {port} before, listens on {address}"),
        _ => format!("{who} listens on {address}"),
    }
}

fn nobody(missed: &Missed, port: u16) -> String {
    let near = format!("no other program listens within {NEAR} ports of {port}");
    match &missed.home {
        Some(home) => format!("{near}, nor does one that works in {}", shown(home)),
        None => near,
    }
}

/// The edit that leads the target written at `origin` to `address` instead.
fn mend(origin: &Span, address: SocketAddr) -> String {
    let target = discover::target_of(address);
    let (source, old) = (&origin.source, origin.text());
    if source.path.is_none() {
        return format!("write `{}` in the place of `{old}`", target.trim_matches('"'));
    }
    let place = format!("{}:{}", source.name, source.position(origin.range.start).0);
    match key_before(&source.text[..origin.range.start]) {
        Some(key) => format!("mend {place} with `{key} = {target}`"),
        None => format!("mend {place} with `{target}` in the place of `{old}`"),
    }
}

/// The bare key of the value that follows.
fn key_before(text: &str) -> Option<&str> {
    let text = text.trim_end().strip_suffix('=')?.trim_end();
    let is_of_key = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    let key = &text[text.trim_end_matches(is_of_key).len()..];
    (!key.is_empty()).then_some(key)
}

/// Where a setting was written.
#[derive(Debug, PartialEq, Eq)]
enum Written {
    At(String),
    Nowhere,
    /// Finding out would take too long.
    Unknown,
}

/// Reads the table once more, since nobody else needs to know where a limit stands.
fn written(route: &Span, name: &str, key: &str) -> Written {
    if route.source.text.len() > MOST_SEARCHED {
        return Written::Unknown;
    }
    let document = Document::parse(Arc::clone(&route.source), None);
    let beneath = |table: &Kind, key: &str| match table {
        Kind::Table(table) => table.get(key).cloned(),
        _ => None,
    };
    let value = document.root.get("routes").and_then(|routes| beneath(&routes.kind, name));
    match value.and_then(|route| beneath(&route.kind, key)) {
        Some(value) => Written::At(value.span.location()),
        None => Written::Nowhere,
    }
}

/// What listens without a route, each with the line that would lead there.
pub(super) fn unrouted(setting: Setting<'_>) -> Option<String> {
    let snapshot = setting.snapshot;
    let mut lines: Vec<String> = discover::names(&setting.sight?.listeners)
        .into_iter()
        .filter(|(_, listener)| listener.owner.is_some() && !neighbours::is_ours(listener, process::id()))
        .filter(|(_, listener)| !snapshot.endpoints().any(|endpoint| leads_to(endpoint, listener.address)))
        .map(|(name, listener)| {
            let is_taken = snapshot.routes().iter().any(|route| *route.name == *name);
            let name = if is_taken { format!("{name}-{}", listener.address.port()) } else { name };
            let line = discover::route_line(&name, listener.address);
            format!("{line}  # {}", Who(listener).to_string().replace('`', ""))
        })
        .collect();
    let (count, more) = (lines.len(), lines.len().saturating_sub(MOST_LISTED));
    lines.truncate(MOST_LISTED);
    if more > 0 {
        lines.push(format!("# and {more} more: portolan ports"));
    }
    let listens = if count == 1 { "1 program listens" } else { &format!("{count} programs listen") };
    (count > 0).then(|| format!("{listens} here without a route\n{}", lines.join("\n")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::diagnostic::Source;

    const TABLE: &str = "\
[routes]
docs = 4000
web = { path = '/', to = '127.0.0.1:5173', timeout = \"2s\" }
two = { path = '/two', to = [8001, { to = 8002, weight = 3 }] }
[routes.api]
path = '/api'
timeout = '1s' # connect_timeout = 3
to = \"localhost:8000\"
";

    fn span(of: &str, path: Option<&str>) -> Span {
        let source = Source { name: "portolan.toml".into(), path: path.map(PathBuf::from), text: TABLE.to_owned() };
        let start = TABLE.find(of).unwrap();
        Span { source: Arc::new(source), range: start..start + of.len() }
    }

    fn mended(target: &str) -> String {
        mend(&span(target, Some("/shop/portolan.toml")), "[::1]:5174".parse().unwrap())
    }

    #[test]
    fn the_line_that_mends_a_target_is_the_line_as_it_would_stand() {
        assert_eq!(mended("4000"), "mend portolan.toml:2 with `docs = 5174`");
        assert_eq!(mended("'127.0.0.1:5173'"), "mend portolan.toml:3 with `to = 5174`");
        assert_eq!(mended("8001"), "mend portolan.toml:4 with `5174` in the place of `8001`");
        assert_eq!(mended("8002"), "mend portolan.toml:4 with `to = 5174`");
        assert_eq!(mended("\"localhost:8000\""), "mend portolan.toml:8 with `to = 5174`");
    }

    #[test]
    fn what_was_typed_is_mended_as_it_is_typed() {
        let typed = |address: &str| mend(&span("4000", None), address.parse().unwrap());
        assert_eq!(typed("127.0.0.1:5174"), "write `5174` in the place of `4000`");
        assert_eq!(typed("192.168.1.5:4000"), "write `192.168.1.5:4000` in the place of `4000`");
    }

    #[test]
    fn a_limit_is_found_where_it_was_written_or_is_the_default() {
        let limit = |route: &str, key: &str| written(&span("docs", None), route, key);
        assert_eq!(limit("web", "timeout"), Written::At("portolan.toml:3:54".into()));
        assert_eq!(limit("api", "timeout"), Written::At("portolan.toml:7:11".into()));
        for (route, key) in [("web", "connect_timeout"), ("api", "connect_timeout"), ("docs", "timeout"), ("no", "x")] {
            assert_eq!(limit(route, key), Written::Nowhere, "{route} {key}");
        }
    }

    #[test]
    fn programs_belong_to_the_folder_of_the_table_unless_everything_lies_there() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap();
        let home_of = |path: PathBuf| home(&span("4000", path.to_str()));
        assert_eq!(home_of(folder.path().join("portolan.toml")), Some(real));
        assert_eq!(home_of("/portolan.toml".into()), None);
        assert_eq!(home(&span("4000", None)), env::current_dir().ok());
    }
}
