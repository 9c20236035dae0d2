//! What portolan says when it has no answer of an app to pass on: one set of facts, told in the asker's tongue.
//!
//! A [`Page`] holds what is known, as plain sentences; `forward` fills it, and whoever learns more (who really listens, the
//! last lines of a program) adds notes and helps. [`page`] tells it to a browser, a program or a shell. Every word of it may
//! come from a request or an upstream, so nothing is put into a page without being escaped.
//!
//! Sentences mark what can be copied with backticks, as on the terminal; lines of a note after its first are told as they are.

use std::{borrow::Cow, sync::LazyLock, time::Duration};

use minijinja::{Environment, value::Serde};
use serde::Serialize;
use serde_json::json;

use super::{Answer, push_escaped};
use crate::{diagnostic::printable, head::RequestHead};

/// Why there is no other answer; the word is stable, tools compare it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Cause {
    /// The request is not one that HTTP allows.
    BadRequest,
    /// No route takes the request.
    NoRoute,
    /// A `files` route has no such file.
    NoFile,
    /// The method is none that may be answered here.
    MethodRefused,
    /// The target is longer than the limit.
    UriTooLong,
    /// The head is larger than the limit, or has more fields.
    HeadTooLarge,
    /// The body is in a transfer coding that is not understood.
    UnknownCoding,
    /// A host that is neither local nor named by a route: the guard against DNS rebinding.
    UnknownHost,
    /// A fault of ours.
    Internal,
    /// Nobody listens at the target.
    ConnectRefused,
    /// The connection ended before an answer came.
    UpstreamClosed,
    /// What came is not a valid answer.
    BadUpstreamReply,
    /// No program is found that the target means, or several are.
    NoProcess,
    /// Another program holds the port than the one that the route names.
    WrongOwner,
    /// The program has been started and does not listen yet.
    Starting,
    /// The request waited for the program for as long as the route holds requests.
    HoldExpired,
    /// No target passes its health check.
    Unhealthy,
    /// More is asked at once than is allowed.
    Overloaded,
    /// No connection within `connect_timeout`.
    ConnectTimeout,
    /// No answer within `timeout`.
    UpstreamTimeout,
    /// The request has been here before.
    Loop,
    /// A dev server does not answer to the host name.
    HostRefused,
    /// The connection was made for another host, whose certificate was shown (RFC 9110 §15.5.20).
    Misdirected,
    /// The target's certificate is not to be trusted, or it does not speak TLS.
    TlsFailed,
}

impl Cause {
    /// The status of the answer; a program that refuses the host may have another one.
    pub fn status(self) -> u16 {
        match self {
            Self::BadRequest => 400,
            Self::NoRoute | Self::NoFile => 404,
            Self::MethodRefused => 405,
            Self::UriTooLong => 414,
            Self::HeadTooLarge => 431,
            Self::UnknownCoding => 501,
            Self::UnknownHost | Self::Misdirected => 421,
            Self::HostRefused => 403,
            Self::Internal => 500,
            Self::ConnectRefused
            | Self::UpstreamClosed
            | Self::BadUpstreamReply
            | Self::NoProcess
            | Self::TlsFailed
            | Self::WrongOwner => 502,
            Self::Starting | Self::HoldExpired | Self::Unhealthy | Self::Overloaded => 503,
            Self::ConnectTimeout | Self::UpstreamTimeout => 504,
            Self::Loop => 508,
        }
    }

    /// The value of `x-portolan-error`.
    pub fn word(self) -> &'static str {
        match self {
            Self::BadRequest => "bad-request",
            Self::NoRoute => "no-route",
            Self::NoFile => "no-file",
            Self::MethodRefused => "method-refused",
            Self::UriTooLong => "uri-too-long",
            Self::HeadTooLarge => "head-too-large",
            Self::UnknownCoding => "unknown-coding",
            Self::UnknownHost => "unknown-host",
            Self::Internal => "internal",
            Self::ConnectRefused => "connect-refused",
            Self::UpstreamClosed => "upstream-closed",
            Self::BadUpstreamReply => "bad-upstream-reply",
            Self::NoProcess => "no-process",
            Self::WrongOwner => "wrong-owner",
            Self::Starting => "starting",
            Self::HoldExpired => "hold-expired",
            Self::Unhealthy => "unhealthy",
            Self::Overloaded => "overloaded",
            Self::ConnectTimeout => "connect-timeout",
            Self::UpstreamTimeout => "upstream-timeout",
            Self::Loop => "loop",
            Self::HostRefused => "host-refused",
            Self::Misdirected => "misdirected",
            Self::TlsFailed => "tls-failed",
        }
    }

    /// The heading: what happened, in a few plain words.
    pub fn title(self) -> &'static str {
        match self {
            Self::BadRequest => "This request is not valid HTTP",
            Self::NoRoute => "No route takes this request",
            Self::NoFile => "There is no such file",
            Self::MethodRefused => "This method is not allowed here",
            Self::UriTooLong => "The address is too long",
            Self::HeadTooLarge => "The head of this request is too large",
            Self::UnknownCoding => "This transfer coding is not known here",
            Self::UnknownHost => "This host name is not known here",
            Self::Internal => "portolan could not answer",
            Self::ConnectRefused => "Nothing listens at the target",
            Self::UpstreamClosed => "The app hung up without an answer",
            Self::BadUpstreamReply => "The app answered, but not in valid HTTP",
            Self::NoProcess => "The program is not there",
            Self::WrongOwner => "Another program has the port",
            Self::Starting => "The app is starting",
            Self::HoldExpired => "The app did not start in time",
            Self::Unhealthy => "The app is not ready",
            Self::Overloaded => "Too much is asked at once",
            Self::ConnectTimeout => "The target does not take the connection",
            Self::UpstreamTimeout => "The app has not answered in time",
            Self::Loop => "The request goes in a circle",
            Self::HostRefused => "The app refuses this host name",
            Self::Misdirected => "This connection is for another host",
            Self::TlsFailed => "The target cannot be trusted",
        }
    }

    /// Whether it mends itself once the app is up, so that asking again makes sense.
    fn passes(self) -> bool {
        matches!(
            self,
            Self::ConnectRefused
                | Self::NoProcess
                | Self::WrongOwner
                | Self::Starting
                | Self::HoldExpired
                | Self::Unhealthy
        )
    }
}

/// Everything that a page may tell.
#[derive(Debug, Clone)]
pub struct Page<'a> {
    /// What happened.
    pub cause: Cause,
    /// The status, where it is not ours to say.
    pub status: Option<u16>,
    /// What follows `502 connect-refused: ` in the one-line form.
    pub message: String,
    /// The route that took the request.
    pub route: Option<&'a str>,
    /// Where it would have gone.
    pub target: Option<String>,
    /// Where that was written, as `portolan.toml:7:33`.
    pub origin: Option<String>,
    /// Causes found by looking.
    pub notes: Vec<String>,
    /// One edit or command each.
    pub helps: Vec<String>,
    /// How long the request waited for a program.
    pub held: Option<Duration>,
    /// All routes: for a 404 on a local host name only.
    pub routes: Vec<RouteLine>,
    /// The methods that are allowed; every 405 must tell them (RFC 9110 §15.5.6).
    pub allow: Option<&'static str>,
    /// Whether a browser may ask again by itself; see [`is_navigation`]. Heeded where waiting can help.
    pub reload: bool,
}

/// One route in the list of a 404.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RouteLine {
    /// Its key in the table.
    pub name: String,
    /// Where a browser finds it.
    pub url: String,
    /// Which requests it takes.
    pub pattern: String,
    /// What answers.
    pub target: String,
}

impl<'a> Page<'a> {
    /// A page without further facts.
    pub fn new(cause: Cause, message: impl Into<String>) -> Self {
        Self {
            cause,
            status: None,
            message: message.into(),
            route: None,
            target: None,
            origin: None,
            notes: Vec::new(),
            helps: Vec::new(),
            held: None,
            routes: Vec::new(),
            allow: None,
            reload: false,
        }
    }

    /// Names the route.
    #[must_use]
    pub fn route(mut self, route: &'a str) -> Self {
        self.route = Some(route);
        self
    }

    /// Names the target.
    #[must_use]
    pub fn target(mut self, target: impl Into<String>) -> Self {
        self.target = Some(target.into());
        self
    }

    /// Names the place where the target was written.
    #[must_use]
    pub fn origin(mut self, origin: impl Into<String>) -> Self {
        self.origin = Some(origin.into());
        self
    }

    /// The status of the answer.
    fn status(&self) -> u16 {
        self.status.unwrap_or(self.cause.status())
    }

    /// Adds a cause.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.helps.push(help.into());
        self
    }

    /// What a client on another machine may know: no folder, program or address of this one.
    #[must_use]
    pub fn for_strangers(mut self) -> Self {
        // What is told of a route names its target or its files.
        if self.route.is_some() {
            self.message = self.cause.title().to_lowercase();
        }
        self.target = None;
        self.origin = None;
        self.notes.clear();
        self.helps.clear();
        self.routes.clear();
        self
    }
}

/// How the facts are told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tongue {
    /// A page, to a browser.
    Html,
    /// RFC 9457 `application/problem+json`, to a program.
    Problem,
    /// One line, to somebody at a shell.
    Text,
    /// `grpc-status` and `grpc-message`, to a call.
    Grpc(GrpcKind),
}

/// Which of its two forms a call has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GrpcKind {
    /// Over HTTP/2.
    Plain,
    /// From a page.
    Web,
}

impl GrpcKind {
    fn of(content_type: &str) -> Option<Self> {
        let rest = content_type.strip_prefix("application/grpc")?;
        match rest.strip_prefix("-web") {
            Some(rest) => is_end_of_type(rest).then_some(Self::Web),
            None => is_end_of_type(rest).then_some(Self::Plain),
        }
    }
}

fn is_end_of_type(rest: &str) -> bool {
    rest.is_empty() || rest.starts_with(['+', ';', '-'])
}

impl Tongue {
    /// The tongue that the asker speaks.
    pub fn of(head: &RequestHead<'_>) -> Self {
        if let Some(kind) = head.text("content-type").and_then(GrpcKind::of) {
            Self::Grpc(kind)
        } else if prefers_html(head.text("accept").unwrap_or_default()) {
            Self::Html
        } else if head.text("user-agent").is_some_and(is_shell_tool) {
            Self::Text
        } else {
            Self::Problem
        }
    }
}

/// Whether a person's browser goes to this page, and nothing but this one request would be repeated by a reload.
pub fn is_navigation(head: &RequestHead<'_>) -> bool {
    head.method == "GET" && head.text("sec-fetch-mode").is_none_or(|mode| mode == "navigate")
}

/// Whether the client names HTML among what it takes; `*/*` alone is what programs send.
pub(super) fn accepts_html(head: &RequestHead<'_>) -> bool {
    let wish = wish(head.text("accept").unwrap_or_default(), "text/html");
    wish.specific && wish.quality > 0
}

fn prefers_html(accept: &str) -> bool {
    let html = wish(accept, "text/html");
    let json = wish(accept, "application/problem+json").quality.max(wish(accept, "application/json").quality);
    html.specific && html.quality > 0 && html.quality >= json
}

fn is_shell_tool(agent: &str) -> bool {
    let name = agent.split_once('/').map_or(agent, |(name, _)| name);
    ["curl", "wget", "httpie", "xh"].iter().any(|tool| name.eq_ignore_ascii_case(tool))
}

/// What an `Accept` says of one media type.
#[derive(Clone, Copy, Default)]
struct Wish {
    /// By more than `*/*`.
    specific: bool,
    /// In thousandths; 0 is "not at all".
    quality: u16,
}

/// The range that names `media` most closely decides (RFC 9110 §12.5.1).
fn wish(accept: &str, media: &str) -> Wish {
    let kind = media.split_once('/').map_or(media, |(kind, _)| kind);
    let closeness = |range: &str| match range.split_once('/') {
        _ if range.eq_ignore_ascii_case(media) => Some(2),
        Some((of, "*")) if of.eq_ignore_ascii_case(kind) => Some(1),
        Some(("*", "*")) => Some(0),
        _ => None,
    };
    accept
        .split(',')
        .filter_map(|range| {
            let (range, parameters) = range.split_once(';').unwrap_or((range, ""));
            closeness(range.trim()).map(|closeness| (closeness, quality(parameters)))
        })
        .max_by_key(|(closeness, _)| *closeness)
        .map_or(Wish::default(), |(closeness, quality)| Wish { specific: closeness > 0, quality })
}

fn quality(parameters: &str) -> u16 {
    parameters
        .split(';')
        .filter_map(|parameter| parameter.split_once('='))
        .find(|(name, _)| name.trim().eq_ignore_ascii_case("q"))
        .and_then(|(_, value)| value.trim().parse::<f32>().ok())
        .filter(|quality| (0.0..=1.0).contains(quality))
        .map_or(1000, |quality| (quality * 1000.0) as u16)
}

/// Tells the page.
pub fn page(page: &Page<'_>, tongue: Tongue) -> Answer {
    if page.cause == Cause::UnknownHost {
        // Whoever comes under a foreign name may be a page of that name: it learns nothing of this machine.
        return told(&Page { route: None, ..page.clone() }.for_strangers().help(NAME_IT), tongue);
    }
    told(page, tongue)
}

const NAME_IT: &str = "if this name is meant to lead here, put it into the `hosts` of a route";

fn told(page: &Page<'_>, tongue: Tongue) -> Answer {
    let mut status = page.status();
    let (kind, body) = match tongue {
        Tongue::Grpc(kind) => {
            status = 200;
            (if kind == GrpcKind::Web { "application/grpc-web+proto" } else { "application/grpc" }, String::new())
        }
        Tongue::Html => match html(page) {
            Ok(html) => ("text/html; charset=utf-8", html),
            Err(error) => {
                tracing::error!(%error, cause = page.cause.word(), "the page could not be rendered");
                ("text/plain; charset=utf-8", line(page))
            }
        },
        Tongue::Problem => ("application/problem+json", problem(page)),
        Tongue::Text => ("text/plain; charset=utf-8", line(page)),
    };
    let mut answer = Answer::typed(status, kind, body).with("x-portolan-error", page.cause.word().to_owned());
    if let Tongue::Grpc(_) = tongue {
        answer = answer.with("grpc-status", grpc_status(page).to_string());
        answer = answer.with("grpc-message", grpc_message(line(page).trim_end()));
    }
    if let Some(route) = page.route {
        answer = answer.with("x-portolan-route", field_value(route));
    }
    if let Some(allow) = page.allow {
        answer = answer.with("allow", allow.to_owned());
    }
    if let Some(held) = page.held {
        answer = answer.with("x-portolan-held", milliseconds(held));
    }
    if page.cause.passes() {
        answer = answer.with("retry-after", RELOAD_SECONDS.to_string());
    }
    FIXED_FIELDS.iter().fold(answer, |answer, (name, value)| answer.with(*name, (*value).to_owned()))
}

/// What a call makes of a status of HTTP (gRPC's "HTTP to gRPC Status Code Mapping"). Where the program was asked and did not
/// answer in time it may have acted: DEADLINE_EXCEEDED, as UNAVAILABLE invites to ask again.
fn grpc_status(page: &Page) -> u8 {
    match page.status() {
        _ if page.cause == Cause::UpstreamTimeout => 4,
        400 | 431 => 13,
        401 => 16,
        403 => 7,
        404 => 12,
        429 | 502..=504 => 14,
        _ => 2,
    }
}

/// `message` as gRPC writes it: what is no visible ASCII, and `%`, becomes `%XX` ("PROTOCOL-HTTP2", Responses).
fn grpc_message(message: &str) -> String {
    message.bytes().fold(String::with_capacity(message.len()), |mut out, byte| {
        push_escaped(&mut out, byte, matches!(byte, b' '..=b'~') && byte != b'%');
        out
    })
}

/// The value of `x-portolan-held`.
pub fn milliseconds(time: Duration) -> String {
    format!("{}ms", time.as_millis())
}

/// Long enough for an eye to rest on the page, short enough that nobody reaches for the key.
const RELOAD_SECONDS: u8 = 2;

/// Nothing may be kept, framed, embedded, guessed or read across origins, and nothing on the page may run or be fetched.
/// `img-src data:` is for the empty icon, without which a browser would ask the app for one.
const FIXED_FIELDS: [(&str, &str); 5] = [
    ("cache-control", "no-store"),
    (
        "content-security-policy",
        "default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; form-action 'none'; \
         frame-ancestors 'none'",
    ),
    ("x-content-type-options", "nosniff"),
    ("cross-origin-resource-policy", "same-origin"),
    ("referrer-policy", "no-referrer"),
];

/// A name as a field can hold it, and as it can be had back: what is no visible ASCII, and `%`, becomes `%XX`.
fn field_value(name: &str) -> String {
    name.bytes().fold(String::with_capacity(name.len()), |mut out, byte| {
        push_escaped(&mut out, byte, byte.is_ascii_graphic() && byte != b'%');
        out
    })
}

/// `502 connect-refused: route web -> 127.0.0.1:5173, nothing listens there; …`, for a shell.
fn line(page: &Page<'_>) -> String {
    let sentences = std::iter::once(&page.message).chain(&page.notes).chain(&page.helps);
    let told: Vec<_> = sentences.map(|sentence| printable(first_line(sentence).0).replace('`', "")).collect();
    format!("{} {}: {}\n", page.status(), page.cause.word(), told.join("; "))
}

/// The problem object of RFC 9457.
fn problem(page: &Page<'_>) -> String {
    let mut problem = json!({
        "type": format!("urn:portolan:{}", page.cause.word()),
        "title": page.cause.title(),
        "status": page.status(),
        "detail": page.message,
        "cause": page.cause.word(),
        "notes": page.notes,
        "help": page.helps,
    });
    let named = [("route", page.route), ("target", page.target.as_deref()), ("origin", page.origin.as_deref())];
    for (name, value) in named {
        if let Some(value) = value {
            problem[name] = json!(value);
        }
    }
    if !page.routes.is_empty() {
        problem["routes"] = json!(page.routes[..page.routes.len().min(MOST_ROUTES_TO_PROGRAMS)]);
        problem["routes_total"] = json!(page.routes.len());
    }
    format!("{problem}\n")
}

/// A program can ask for all of them elsewhere.
const MOST_ROUTES_TO_PROGRAMS: usize = 100;

/// What a page may weigh, in bytes: it must appear at once, and be complete in the first window of a connection.
const MOST_HTML: usize = 15 * 1024;

/// How much of a list and of a text is shown: the first that fits into [`MOST_HTML`].
const CUTS: [Cut; 4] = [
    Cut { routes: 24, sentences: 12, characters: 2000 },
    Cut { routes: 12, sentences: 8, characters: 500 },
    Cut { routes: 6, sentences: 4, characters: 200 },
    Cut { routes: 0, sentences: 4, characters: 100 },
];

#[derive(Clone, Copy)]
struct Cut {
    routes: usize,
    sentences: usize,
    characters: usize,
}

fn html(page: &Page<'_>) -> Result<String, minijinja::Error> {
    let template = TEMPLATES.get_template("page.html")?;
    let mut html = String::new();
    for cut in CUTS {
        html = template.render(Serde(View::of(page, cut)))?;
        if html.len() <= MOST_HTML {
            break;
        }
    }
    Ok(html)
}

static TEMPLATES: LazyLock<Environment<'static>> = LazyLock::new(|| {
    let mut templates = Environment::new();
    if let Err(error) = templates.add_template("page.html", include_str!("pages/page.html")) {
        tracing::error!(%error, "the template of the pages is broken");
    }
    templates
});

/// What the template sees.
#[derive(Serialize)]
struct View<'a> {
    status: u16,
    word: &'static str,
    title: &'static str,
    /// A fault of the request and not of what lies behind.
    asker: bool,
    message: Vec<Piece>,
    route: Option<Cow<'a, str>>,
    target: Option<Cow<'a, str>>,
    origin: Option<Cow<'a, str>>,
    parts: [Part<'a>; 2],
    routes: Vec<RouteView<'a>>,
    more_routes: usize,
    reload: Option<u8>,
}

/// The notes, or the helps.
#[derive(Serialize)]
struct Part<'a> {
    heading: &'static str,
    mends: bool,
    sentences: Vec<Sentence<'a>>,
}

#[derive(Serialize)]
struct RouteView<'a> {
    name: Cow<'a, str>,
    url: Cow<'a, str>,
    pattern: Cow<'a, str>,
    target: Cow<'a, str>,
}

/// One line of prose, and lines that are shown as they are.
#[derive(Serialize)]
struct Sentence<'a> {
    line: Vec<Piece>,
    block: Option<Cow<'a, str>>,
}

/// A stretch of prose, or something to copy.
#[derive(Debug, PartialEq, Serialize)]
struct Piece {
    code: bool,
    text: String,
}

impl<'a> View<'a> {
    fn of(page: &'a Page<'_>, cut: Cut) -> Self {
        let short = |text: &'a str| shortened(text, cut.characters);
        let sentences = |all: &'a [String]| all.iter().take(cut.sentences).map(|one| Sentence::of(one, cut)).collect();
        // A line that would be cut leads nowhere: better counted than broken.
        let fits = |line: &&RouteLine| line.url.chars().count() <= cut.characters;
        let routes: Vec<_> = page
            .routes
            .iter()
            .filter(fits)
            .take(cut.routes)
            .map(|line| RouteView {
                name: short(&line.name),
                url: Cow::Borrowed(&line.url),
                pattern: short(&line.pattern),
                target: short(&line.target),
            })
            .collect();
        Self {
            status: page.status(),
            word: page.cause.word(),
            title: page.cause.title(),
            asker: page.status() < 500,
            message: pieces(&short(&page.message)),
            route: page.route.map(short),
            target: page.target.as_deref().map(short),
            origin: page.origin.as_deref().map(short),
            parts: [
                Part { heading: "What was found", mends: false, sentences: sentences(&page.notes) },
                Part { heading: "What to do", mends: true, sentences: sentences(&page.helps) },
            ],
            more_routes: page.routes.len() - routes.len(),
            routes,
            reload: (page.reload && page.cause.passes()).then_some(RELOAD_SECONDS),
        }
    }
}

impl<'a> Sentence<'a> {
    fn of(text: &'a str, cut: Cut) -> Self {
        let (line, block) = first_line(text);
        Self {
            line: pieces(&shortened(line, cut.characters)),
            // The end of what a program wrote is what tells why it ended.
            block: block.map(|block| last_characters(block, cut.characters)),
        }
    }
}

fn first_line(text: &str) -> (&str, Option<&str>) {
    text.split_once('\n').map_or((text, None), |(line, block)| (line, Some(block)))
}

/// Prose and `code` in turn; a backtick without a partner is only a backtick.
fn pieces(text: &str) -> Vec<Piece> {
    let mut pieces = Vec::new();
    let mut rest = text;
    while let Some((prose, code, after)) =
        rest.split_once('`').and_then(|(prose, rest)| rest.split_once('`').map(|(code, after)| (prose, code, after)))
    {
        pieces.push(Piece { code: false, text: prose.to_owned() });
        pieces.push(Piece { code: true, text: code.to_owned() });
        rest = after;
    }
    pieces.push(Piece { code: false, text: rest.to_owned() });
    pieces.retain(|piece| !piece.text.is_empty());
    pieces
}

/// The first characters, with a sign where some are left out.
fn shortened(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth(characters) {
        Some((end, _)) => format!("{}…", &text[..end]).into(),
        None => text.into(),
    }
}

/// The last characters, with a sign where some are left out.
fn last_characters(text: &str, characters: usize) -> Cow<'_, str> {
    match text.char_indices().nth_back(characters) {
        Some((before, c)) => format!("…{}", &text[before + c.len_utf8()..]).into(),
        None => text.into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::respond::{
        Body,
        tests::{Asked, bytes},
    };

    const CAUSES: [Cause; 24] = [
        Cause::BadRequest,
        Cause::NoRoute,
        Cause::NoFile,
        Cause::MethodRefused,
        Cause::UriTooLong,
        Cause::HeadTooLarge,
        Cause::UnknownCoding,
        Cause::UnknownHost,
        Cause::Internal,
        Cause::ConnectRefused,
        Cause::UpstreamClosed,
        Cause::BadUpstreamReply,
        Cause::NoProcess,
        Cause::WrongOwner,
        Cause::Starting,
        Cause::HoldExpired,
        Cause::Unhealthy,
        Cause::Overloaded,
        Cause::ConnectTimeout,
        Cause::UpstreamTimeout,
        Cause::Loop,
        Cause::HostRefused,
        Cause::Misdirected,
        Cause::TlsFailed,
    ];
    const TONGUES: [Tongue; 3] = [Tongue::Html, Tongue::Problem, Tongue::Text];

    fn told(page: &Page<'_>, tongue: Tongue) -> String {
        String::from_utf8(bytes(&super::page(page, tongue)).to_vec()).expect("UTF-8")
    }

    fn refused() -> Page<'static> {
        Page::new(Cause::ConnectRefused, "route web -> 127.0.0.1:5173, nothing listens there")
            .route("web")
            .target("127.0.0.1:5173")
    }

    fn routes(count: usize) -> Vec<RouteLine> {
        let line = |n| RouteLine {
            name: format!("route-{n}"),
            url: format!("http://route-{n}.localhost:62893/"),
            pattern: format!("route-{n}.localhost"),
            target: format!(":{n}"),
        };
        (0..count).map(line).collect()
    }

    fn tongue(accept: &str, agent: &str) -> Tongue {
        Tongue::of(&Asked::get("/").with("accept", accept).with("user-agent", agent).head())
    }

    #[test]
    fn a_browser_gets_a_page() {
        for accept in [
            "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
            "text/html, */*",
            "TEXT/HTML;charset=utf-8;q=0.9, application/json;q=0.8",
            "application/json, text/html",
            "text/*",
        ] {
            assert_eq!(tongue(accept, "Mozilla/5.0"), Tongue::Html, "{accept}");
        }
        assert_eq!(tongue("text/html", "curl/8.9.1"), Tongue::Html, "who asks for a page gets one");
    }

    #[test]
    fn a_program_gets_a_problem() {
        for accept in [
            "",
            "*/*",
            "application/json, text/plain, */*",
            "application/json, text/html;q=0.9",
            "text/html;q=0.5, */*",
            "text/html;q=0, */*;q=0.1",
            "text/*, text/html;q=0",
            "text/htmlx",
            ";;,,=,q=",
        ] {
            assert_eq!(tongue(accept, "Mozilla/5.0"), Tongue::Problem, "{accept}");
        }
    }

    #[test]
    fn a_shell_tool_gets_a_line() {
        for agent in ["curl/8.9.1", "Wget/1.24.5", "HTTPie/3.2.4", "xh/0.24.1"] {
            assert_eq!(tongue("*/*", agent), Tongue::Text, "{agent}");
        }
        for agent in ["curly/1", "python-requests/2 curl", ""] {
            assert_eq!(tongue("*/*", agent), Tongue::Problem, "{agent}");
        }
    }

    #[test]
    fn the_line_is_the_one_that_is_promised() {
        assert_eq!(
            told(&refused(), Tongue::Text),
            "502 connect-refused: route web -> 127.0.0.1:5173, nothing listens there\n"
        );
        let more = refused()
            .note("vite (pid 4812, ~/shop/web) listens on [::1]:5174")
            .help("mend portolan.toml:7 with `to = 5174`");
        assert_eq!(
            told(&more, Tongue::Text),
            "502 connect-refused: route web -> 127.0.0.1:5173, nothing listens there; \
             vite (pid 4812, ~/shop/web) listens on [::1]:5174; mend portolan.toml:7 with to = 5174\n"
        );
    }

    #[test]
    fn the_line_stays_one_line_and_drives_no_terminal() {
        let page = Page::new(Cause::NoRoute, "no \u{1b}[31m\rroute").note("the last lines:\nboom\nbang");
        assert_eq!(told(&page, Tongue::Text), "404 no-route: no \\u{1b}[31m\\rroute; the last lines:\n");
    }

    #[test]
    fn the_problem_has_the_promised_members() {
        let page = refused().note("found").help("do `this`");
        let problem: serde_json::Value = serde_json::from_str(&told(&page, Tongue::Problem)).expect("JSON");
        assert_eq!(
            problem,
            json!({
                "type": "urn:portolan:connect-refused",
                "title": "Nothing listens at the target",
                "status": 502,
                "detail": "route web -> 127.0.0.1:5173, nothing listens there",
                "cause": "connect-refused",
                "notes": ["found"],
                "help": ["do `this`"],
                "route": "web",
                "target": "127.0.0.1:5173",
            })
        );
        let page = Page { routes: routes(101), ..Page::new(Cause::NoRoute, "none") };
        let problem: serde_json::Value = serde_json::from_str(&told(&page, Tongue::Problem)).expect("JSON");
        assert_eq!(problem["routes"].as_array().map(Vec::len), Some(100));
        assert_eq!(problem["routes_total"], 101);
        assert_eq!(problem["routes"][0]["url"], "http://route-0.localhost:62893/");
    }

    #[test]
    fn every_page_says_its_cause_and_is_kept_framed_and_shared_by_nobody() {
        for (cause, tongue) in CAUSES.into_iter().flat_map(|cause| TONGUES.map(|tongue| (cause, tongue))) {
            let answer = page(&Page::new(cause, "so it is"), tongue);
            assert_eq!(answer.status, cause.status());
            assert_eq!(answer.field("x-portolan-error"), Some(cause.word()));
            assert_eq!(answer.field("cache-control"), Some("no-store"));
            assert_eq!(answer.field("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.field("cross-origin-resource-policy"), Some("same-origin"));
            let policy = answer.field("content-security-policy").expect("a policy");
            assert!(policy.starts_with("default-src 'none';") && policy.contains("frame-ancestors 'none'"), "{policy}");
            assert!(!policy.contains("script-src"), "{policy}");
            assert!(answer.fields.iter().all(|(name, _)| !name.starts_with("access-control-")));
            let kind = answer.field("content-type").expect("a type");
            assert_eq!(kind.starts_with("text/html"), tongue == Tongue::Html, "rendered: {kind}");
            assert!(matches!(answer.body, Body::Bytes(_)));
        }
    }

    #[test]
    fn the_title_tells_the_cause_and_nothing_runs_or_comes_from_elsewhere() {
        for cause in CAUSES {
            let html = told(&Page::new(cause, "so it is"), Tongue::Html);
            assert!(html.contains(&format!("<title>{} {}: ", cause.status(), cause.word())), "{html}");
            for foreign in ["<script", "http://", "https://", "url(", "@import", "onclick"] {
                assert!(!html.contains(foreign), "{cause:?}: {foreign}");
            }
        }
    }

    #[test]
    fn whatever_a_request_or_an_upstream_sends_stays_text() {
        let evil = "<script>alert(1)</script>\"'><img src=x onerror=alert(1)>{{ status }}`<b>`\n</pre><i>";
        let page = Page {
            routes: vec![RouteLine {
                name: evil.into(),
                url: format!("http://x/{evil}"),
                pattern: evil.into(),
                target: evil.into(),
            }],
            ..Page::new(Cause::NoRoute, evil).route(evil).target(evil).note(evil).help(evil)
        };
        let html = told(&page, Tongue::Html);
        for raw in ["<script", "<img", "<b>", "<i>", "\"'>"] {
            assert!(!html.contains(raw), "{raw}: {html}");
        }
        assert!(html.contains("{{ status }}"), "input is no template: {html}");
    }

    #[test]
    fn a_page_is_small_however_much_there_is_to_tell() {
        let long = "\"<&'é`".repeat(3000);
        let page = Page {
            notes: vec![format!("{long}\n{long}"); 40],
            helps: vec![long.clone(); 40],
            routes: routes(5000),
            ..Page::new(Cause::NoRoute, long.clone()).route(&long).target(long.clone())
        };
        for page in [&page, &Page { routes: routes(5000), ..Page::new(Cause::NoRoute, "none") }] {
            let html = told(page, Tongue::Html);
            assert!(html.len() <= MOST_HTML, "{} bytes", html.len());
            assert!(html.ends_with("</html>"));
        }
    }

    #[test]
    fn a_long_list_says_how_many_are_left_out() {
        let html = told(&Page { routes: routes(100), ..Page::new(Cause::NoRoute, "none") }, Tongue::Html);
        assert_eq!(html.matches("<li>").count(), CUTS[0].routes);
        assert!(html.contains("and 76 more"), "{html}");
    }

    #[test]
    fn what_can_be_copied_is_marked_and_lines_of_a_program_stay_lines() {
        let page = refused().help("mend it with `to = 5174`").note("it ended:\nline <1>\n  line 2").note("one ` only");
        let html = told(&page, Tongue::Html);
        assert!(html.contains("<li>mend it with <code>to = 5174</code></li>"), "{html}");
        assert!(html.contains("<li>it ended:<pre>line &lt;1&gt;\n  line 2</pre></li>"), "{html}");
        assert!(html.contains("<li>one ` only</li>"), "{html}");
    }

    #[test]
    fn a_page_asks_again_only_where_waiting_helps() {
        for cause in CAUSES {
            let page = Page { reload: true, ..Page::new(cause, "so it is") };
            let reloads = told(&page, Tongue::Html).contains("http-equiv=\"refresh\" content=\"2\"");
            assert_eq!(reloads, cause.passes(), "{cause:?}");
        }
        assert!(!told(&refused(), Tongue::Html).contains("refresh"));
        assert!(is_navigation(&Asked::get("/").head()));
        assert!(is_navigation(&Asked::get("/").with("sec-fetch-mode", "navigate").head()));
        assert!(!is_navigation(&Asked::get("/").with("sec-fetch-mode", "cors").head()));
        assert!(!is_navigation(&Asked::new("POST", "/").with("sec-fetch-mode", "navigate").head()));
    }

    #[test]
    fn an_unknown_host_learns_nothing() {
        let page = Page {
            routes: routes(3),
            ..Page::new(Cause::UnknownHost, "the host evil.test is not known here")
                .route("harbour")
                .target("127.0.0.1:5173")
                .origin("portolan.toml:7:33")
                .note("vite (pid 4812, ~/shop/web) listens")
                .help("run `portolan routes`")
        };
        for tongue in TONGUES {
            let answer = super::page(&page, tongue);
            assert_eq!(answer.field("x-portolan-route"), None);
            let body = told(&page, tongue);
            assert!(body.contains("evil.test") && body.contains("hosts"), "{body}");
            for secret in ["harbour", "5173", "7:33", "4812", "vite", "shop", "62893", "route-"] {
                assert!(!body.contains(secret), "{tongue:?} {secret}: {body}");
            }
        }
    }

    #[test]
    fn a_route_name_is_a_valid_field_value() {
        let answer = page(&Page::new(Cause::NoFile, "none").route("a b\r\n%é"), Tongue::Text);
        assert_eq!(answer.field("x-portolan-route"), Some("a%20b%0D%0A%25%C3%A9"));
    }

    #[test]
    fn a_refused_method_is_told_which_are_allowed() {
        let page = Page { allow: Some("GET, HEAD"), ..Page::new(Cause::MethodRefused, "no") };
        assert_eq!(super::page(&page, Tongue::Text).field("allow"), Some("GET, HEAD"));
    }
}
