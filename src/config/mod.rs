//! The checked route table: plain data that every other room may rely on.
//!
//! Two families of types, as in a compiler: `document` holds the file as it was written, every value with
//! its span; [`check`] turns it into the [`Config`] below or into diagnostics, never both. A `Config` needs no second
//! look: its patterns compile, its names are unique, its targets exist, its durations are sane.
//! No runtime type, no socket and no file handle occurs here.

pub mod check;
pub mod document;
mod keys;
pub mod load;
pub mod procfile;
pub mod schema;
#[cfg(unix)]
mod trust;

use std::{net::SocketAddr, path::PathBuf, time::Duration};

use crate::diagnostic::Span;

mod words;

pub use check::{is_label, parse_duration, plain_forward};
pub use words::Words;

/// Where the proxy listens when nothing says otherwise.
pub const DEFAULT_PORT: u16 = 62893;

/// The proxy's own host; no route may claim it.
pub const OWN_HOST: &str = "portolan.localhost";

/// Everything that a table says, checked.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where to listen: what was typed, or else what was written.
    pub listen: Listen,
    /// Makes default host names `NAME.PROJECT.localhost`.
    pub project: Option<String>,
    /// Programs to start and look after, in the order of the file; their `needs` exist and make no ring.
    pub services: Vec<Service>,
    /// In the order of the file, which is the last tie-break; at most [`MAX_ROUTES`].
    pub routes: Vec<Route>,
    /// In the order of the file; no two of them take the same connections.
    pub tcp: Vec<TcpRoute>,
}

impl Config {
    /// Every way to programs, of requests and of raw streams.
    pub fn forwards(&self) -> impl Iterator<Item = &Forward> {
        let of_requests = self.routes.iter().filter_map(|route| match &route.action {
            Action::Forward(forward) => Some(forward),
            Action::Redirect(_) | Action::Respond(_) | Action::Files(_) => None,
        });
        of_requests.chain(self.tcp.iter().map(|route| &route.forward))
    }
}

/// More would only be a mistake of a generator: route ids stay below it.
pub const MAX_ROUTES: usize = 100_000;

/// The addresses to listen on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Every one of these must be bound. All are loopback unless `expose = true` was written.
    pub required: Vec<SocketAddr>,
    /// Bound where the machine can: `[::1]` beside `127.0.0.1`, as `localhost` may mean either.
    pub optional: Vec<SocketAddr>,
    /// Where `listen` was written, for the error when an address is taken.
    pub origin: Option<Span>,
}

impl Default for Listen {
    fn default() -> Self {
        Self::localhost(DEFAULT_PORT)
    }
}

impl Listen {
    /// `127.0.0.1:port`, and `[::1]:port` where the machine has it.
    pub fn localhost(port: u16) -> Self {
        Self {
            required: vec![SocketAddr::from(([127, 0, 0, 1], port))],
            optional: vec![SocketAddr::from(([0u16, 0, 0, 0, 0, 0, 0, 1], port))],
            origin: None,
        }
    }
}

/// One entry of `[services]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// The key in the table; unique.
    pub name: String,
    /// Where the entry was written.
    pub origin: Span,
    /// A fingerprint of what was written: a service that is written differently is not the same one.
    pub written: u64,
    /// What is run. `{port}` in it stands for the port that it is given.
    pub run: Command,
    /// Where it runs; absolute.
    pub dir: PathBuf,
    /// Over everything else in its environment.
    pub env: Vec<(String, String)>,
    /// Read at each start, a later one over an earlier one; absolute. `None`: `.env` and `.env.local` of `dir`, where they are.
    pub env_file: Option<Vec<PathBuf>>,
    /// Names of the services that must be ready first.
    pub needs: Vec<String>,
    /// When it counts as ready.
    pub ready: Ready,
    /// The port that it always opens. Otherwise it is given a free one, and whichever it opens is found.
    pub port: Option<u16>,
    /// When it is started.
    pub start: Start,
}

/// What is run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// By `sh -c`.
    Shell(String),
    /// A program and its words, without a shell; never empty.
    Words(Vec<String>),
}

/// When a service counts as ready.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ready {
    /// It listens.
    Listening,
    /// It listens, and GET of this path is answered with a status below 400.
    Path(String),
    /// A line of its output matches this regular expression.
    Line(String),
}

/// When a service is started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Start {
    /// With `portolan up`.
    WithUp,
    /// With the first request for it, after `portolan up`.
    OnRequest {
        /// It is stopped when nobody has asked for it for this long; `None`: never.
        idle: Option<Duration>,
    },
}

/// One entry of `[routes]`.
#[derive(Debug, Clone)]
pub struct Route {
    /// The key in the table; unique.
    pub name: String,
    /// Where the entry was written.
    pub origin: Span,
    /// A fingerprint of what was written, wherever it stands: tells whether an edit has changed the entry.
    pub written: u64,
    /// Which requests it takes.
    pub matches: Match,
    /// What is shown to https clients of its hosts; `None`: a certificate of the local authority.
    pub certificate: Option<Certificate>,
    /// What happens on the way, whatever the action.
    pub filters: Filters,
    /// What answers.
    pub action: Action,
}

/// One entry of `[tcp]`: a port of its own, whose bytes go to a program as they come.
#[derive(Debug, Clone)]
pub struct TcpRoute {
    /// The key in the table; unique among those of `[tcp]`.
    pub name: String,
    /// Where the entry was written.
    pub origin: Span,
    /// As [`Route::written`].
    pub written: u64,
    /// Where it listens; never port 0. Others may listen there too, if `hosts` tell them apart.
    pub listen: Listen,
    /// The names by which TLS clients ask for it (RFC 6066 §3); empty takes whatever no other route of the port takes.
    pub hosts: Vec<HostMatch>,
    /// Where its bytes go; what is for requests alone has its default.
    pub forward: Forward,
}

impl TcpRoute {
    /// Every address on which it listens, where the machine has it.
    pub fn addresses(&self) -> impl Iterator<Item = SocketAddr> {
        self.listen.required.iter().chain(&self.listen.optional).copied()
    }
}

/// Whether a socket of ours on one of these addresses keeps another from being bound to the other; one of IPv6 takes no
/// IPv4.
pub fn overlap(one: SocketAddr, other: SocketAddr) -> bool {
    let is_wild = |address: SocketAddr| address.ip().is_unspecified();
    one.port() == other.port()
        && one.is_ipv4() == other.is_ipv4()
        && (one.ip() == other.ip() || is_wild(one) || is_wild(other))
}

/// `cert` and `key`: files of the user's own, which are not looked at here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Certificate {
    /// The certificate, and those that vouch for it; absolute.
    pub chain: Written<PathBuf>,
    /// Its private key; absolute.
    pub key: Written<PathBuf>,
}

/// A value, and where it was written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Written<T> {
    /// What was written.
    pub value: T,
    /// Where.
    pub origin: Span,
}

/// The conditions of a route; all of them must hold.
#[derive(Debug, Clone)]
pub struct Match {
    /// Never empty: a route with only a path has [`HostMatch::AnyLocal`] alone, one with neither host nor path
    /// has its default name.
    pub hosts: Vec<HostMatch>,
    /// A route without a path has `PathMatch::Prefix("/")`.
    pub path: PathMatch,
    /// Any of these, case-sensitive; empty means every method.
    pub methods: Vec<String>,
    /// All of these; the first field of a name counts.
    pub headers: Vec<FieldMatch>,
    /// All of these; the first parameter of a name counts, compared as the bytes that were sent.
    pub query: Vec<FieldMatch>,
}

/// A host condition. Names are lowercase, without port and trailing dot.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum HostMatch {
    /// Exactly this name.
    Exact(String),
    /// `*.suffix`: one or more labels in front of the suffix held here, never the suffix itself.
    Wildcard(String),
    /// Every host that [`crate::head::is_local_name`] calls local.
    AnyLocal,
}

impl HostMatch {
    /// How specific it is, as a rank: an exact host before a wildcard, and of two the longer one.
    pub fn specificity(&self) -> (u8, usize) {
        match self {
            Self::Exact(name) => (3, name.len()),
            Self::Wildcard(suffix) => (2, suffix.len()),
            Self::AnyLocal => (1, 0),
        }
    }
}

/// A path condition, on the bytes as they were sent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum PathMatch {
    /// The whole path.
    Exact(String),
    /// A regular expression that must match the whole path; unanchored as written, the table anchors it.
    Regex(String),
    /// Whole elements from the start. Begins with `/` and, but for `/` itself, does not end with it.
    Prefix(String),
}

/// A condition on a header field or a query parameter.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct FieldMatch {
    /// Lowercase for a header; as written for a query parameter.
    pub name: String,
    /// What its value must be.
    pub value: ValueMatch,
}

/// A condition on a value.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum ValueMatch {
    /// Exactly these bytes.
    Equals(String),
    /// A regular expression that must match the whole value.
    Regex(String),
}

/// What a route changes on the way.
#[derive(Debug, Clone, Default)]
pub struct Filters {
    /// Changes of the target and the authority; only with [`Action::Forward`] and [`Action::Files`].
    pub rewrite: Option<Rewrite>,
    /// Edits of the fields that go to the upstream.
    pub request_headers: FieldEdits,
    /// Edits of the fields that go to the client.
    pub response_headers: FieldEdits,
    /// Cross-origin answers.
    pub cors: Option<Cors>,
}

/// `strip_prefix = true` and `rewrite = { path | prefix, host }`, resolved.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rewrite {
    /// What happens to the path; the query stays as it is.
    pub path: Option<PathRewrite>,
    /// The authority sent to the upstream in the place of the client's.
    pub host: Option<String>,
}

/// A change of the path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PathRewrite {
    /// The whole path becomes this; begins with `/`.
    Full(String),
    /// The matched prefix becomes this; begins with `/`; `strip_prefix = true` is `/`.
    /// As in the Gateway API `ReplacePrefixMatch`, the result has no doubled and no missing `/` at the seam.
    Prefix(String),
}

/// `{ set, add, remove }`. Names are lowercase; none is a hop-by-hop or framing field.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct FieldEdits {
    /// Applied first.
    pub remove: Vec<String>,
    /// Replaces every field of the name.
    pub set: Vec<(String, String)>,
    /// Put behind the fields that are there.
    pub add: Vec<(String, String)>,
}

/// What a route without edits does.
pub static NO_EDITS: FieldEdits = FieldEdits { remove: Vec::new(), set: Vec::new(), add: Vec::new() };

/// The answers to a browser that asks on behalf of another origin (the Fetch standard, §3.2).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cors {
    /// Who may ask.
    pub origins: CorsOrigins,
    /// `None` answers a preflight with the method that it asks for.
    pub methods: Option<Vec<String>>,
    /// `None` answers a preflight with the field names that it asks for.
    pub headers: Option<Vec<String>>,
    /// Which fields of the answer a script may read.
    pub expose: Vec<String>,
    /// Whether cookies may come along.
    pub credentials: bool,
    /// How long a browser may keep a preflight's answer.
    pub max_age: Duration,
}

/// The origins that [`Cors`] lets in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CorsOrigins {
    /// `cors = true`: every origin whose host is local.
    Local,
    /// `"*"`; the checker refuses it beside `credentials`.
    Any,
    /// Exactly these, such as `http://app.localhost:62893`.
    Listed(Vec<String>),
}

/// What answers a request that a route takes.
#[derive(Debug, Clone)]
pub enum Action {
    /// `to`
    Forward(Forward),
    /// `redirect`
    Redirect(Redirect),
    /// `respond`
    Respond(Respond),
    /// `files`
    Files(Files),
}

/// Send it to a program.
#[derive(Debug, Clone)]
pub struct Forward {
    /// At least one.
    pub targets: Vec<Target>,
    /// How one of several is chosen.
    pub balance: Balance,
    /// Asked now and then, if at all.
    pub health: Option<Health>,
    /// Until a connection stands; 2 s unless written.
    pub connect_timeout: Duration,
    /// Until the first byte of the answer; 300 s unless written (a paused debugger is normal here).
    pub timeout: Duration,
    /// How often a request may be repeated where RFC 9110 §9.2.2 allows it; 1 unless written.
    pub retries: u8,
    /// How long a request waits for a program that does not listen; [`HOLD`] for services unless written, otherwise none.
    pub hold: Option<Duration>,
    /// Of several ports of a program that is followed, this one or one of the [`NEIGHBOURS`] behind it goes first: the port
    /// of the TCP route, as whoever finds it taken mostly takes one of the next.
    pub near: Option<u16>,
}

/// How far from a port its neighbourhood reaches: Node looks no further for one for its debugger.
pub const NEIGHBOURS: u16 = 10;

/// How long a request waits for a service, unless the route says otherwise: longer than most dev servers take to start,
/// shorter than a person waits before looking for the cause.
pub const HOLD: Duration = Duration::from_secs(10);

/// One place to send requests to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Where it is.
    pub address: Address,
    /// What is spoken with it.
    pub protocol: Protocol,
    /// Its share; 1 unless written, 0 sends nothing, at most 1,000.
    pub weight: u16,
    /// Who must hold the port, where that was pinned.
    pub owner: Option<Pin>,
    /// Where it was written.
    pub origin: Span,
}

/// What a target understands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Protocol {
    /// HTTP/1.1, and whatever it is asked for by `Upgrade`.
    #[default]
    Http,
    /// `h2c://`: HTTP/2 from the first byte on (RFC 9113 §3.3).
    H2c,
    /// `https://`: HTTP/2 or HTTP/1.1 over TLS, whichever the target chooses (RFC 7301).
    Https {
        /// `insecure = true`: whatever certificate it shows is taken.
        insecure: bool,
    },
}

/// Where a target listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Address {
    /// `8000`, `":8000"`, `"localhost:8000"`: this port on 127.0.0.1 and `[::1]`, whichever answers.
    Loopback(u16),
    /// `"127.0.0.1:8000"`: this address alone.
    Ip(SocketAddr),
    /// A name to look up when a connection is made.
    Name {
        /// Lowercase.
        host: String,
        /// Written, or 80.
        port: u16,
    },
    /// `"unix:/run/app.sock"`; absolute.
    Unix(PathBuf),
    /// A program that is followed to wherever it listens.
    Followed(Sought),
}

/// By what a program is known that has no fixed port.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Sought {
    /// `"api"`: a service of the table.
    Service(String),
    /// A command that `portolan run` has started under this name; no table can say so.
    Run(String),
    /// `{ process = "flask" }`: the file name of its executable, or of the script that an interpreter runs.
    Process(String),
    /// `{ dir = "services/api" }`: the folder that it works in, or one beneath; absolute.
    Dir(PathBuf),
    /// `{ pid_file = "x.pid" }`: it, or a child of it; absolute.
    PidFile(PathBuf),
    /// `{ container = "shop-db", port = 5432 }`
    Container {
        /// The container's name, or the service's of a compose project.
        name: String,
        /// Inside of the container.
        port: u16,
    },
}

/// Who must hold a port: `owner = "flask"`, or `owner = "./api"` for whoever works in that folder.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Pin {
    /// As [`Sought::Process`].
    Program(String),
    /// As [`Sought::Dir`].
    Folder(PathBuf),
}

impl std::fmt::Display for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}{}", self.protocol.scheme(), self.address)
    }
}

impl Protocol {
    /// What stands before an address to say so; nothing for plain HTTP.
    pub fn scheme(self) -> &'static str {
        match self {
            Self::Http => "",
            Self::H2c => "h2c://",
            Self::Https { .. } => "https://",
        }
    }
}

impl std::fmt::Display for Address {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Loopback(port) => write!(f, ":{port}"),
            Self::Ip(address) => write!(f, "{address}"),
            Self::Name { host, port } => write!(f, "{host}:{port}"),
            Self::Unix(path) => write!(f, "unix:{}", path.display()),
            Self::Followed(sought) => write!(f, "{sought}"),
        }
    }
}

impl std::fmt::Display for Sought {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Service(name) => write!(f, "service {name}"),
            Self::Run(name) => write!(f, "run {name}"),
            Self::Process(program) => write!(f, "process {program}"),
            Self::Dir(folder) => write!(f, "dir {}", crate::diagnostic::shown(folder)),
            Self::PidFile(file) => write!(f, "pid file {}", crate::diagnostic::shown(file)),
            Self::Container { name, port } => write!(f, "container {name}:{port}"),
        }
    }
}

impl std::fmt::Display for Pin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Program(name) => f.write_str(name),
            Self::Folder(folder) => f.write_str(&crate::diagnostic::shown(folder)),
        }
    }
}

/// How one of several targets is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Balance {
    /// In turn, by weight.
    #[default]
    RoundRobin,
    /// Whoever has the fewest requests in hand for its weight.
    LeastRequests,
    /// By lot, by weight.
    Random,
}

/// `health = { path, interval, timeout }`.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Health {
    /// Asked with GET; any status below 400 is well.
    pub path: String,
    /// Between two questions; 2 s unless written.
    pub interval: Duration,
    /// For one question; 1 s unless written.
    pub timeout: Duration,
}

/// `redirect = { to, status }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Redirect {
    /// A path or a whole URL. With a `path` pattern, what follows the matched prefix is not appended.
    pub to: String,
    /// 301, 302, 303, 307 or 308; 302 unless written.
    pub status: u16,
}

/// `respond = { status, headers, body | json | file }`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Respond {
    /// 200 to 599; 200 unless written, 204 without any body.
    pub status: u16,
    /// Lowercase names.
    pub headers: Vec<(String, String)>,
    /// What it says.
    pub body: RespondBody,
}

/// The body of an answer of our own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RespondBody {
    /// Nothing.
    Empty,
    /// `text/plain; charset=utf-8` unless `headers` say otherwise.
    Text(String),
    /// Already serialized; `application/json` unless `headers` say otherwise.
    Json(String),
    /// Absolute; read when asked for, its type guessed from its name.
    File(PathBuf),
}

/// `files = "dist"` with `fallback`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Files {
    /// Absolute.
    pub root: PathBuf,
    /// Beneath `root`; answers with 200 where no file is found and the client wants a page.
    pub fallback: Option<PathBuf>,
}
