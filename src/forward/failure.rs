//! Everything that can go wrong with a request, and the page that tells it.

use std::{io, path::PathBuf, sync::Arc, time::Duration};

use super::{
    facts::{self, Setting},
    head::{BadAnswer, Client, Refusal},
    host_refused::HostRefused,
};
use crate::{
    head::{FieldList, Host, RequestHead},
    http1::head::{HeadError, Request},
    live::Route,
    respond::{
        Answer,
        files::NoFile,
        pages::{self, Cause, Page, RouteLine, Tongue},
    },
    table::Outcome,
    upstream::{
        connect::ConnectError,
        place::{Absence, Absent, MOST_WAITING},
    },
};

/// Why a request has no answer but ours.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error(transparent)]
    Refused(#[from] Refusal),
    #[error("the host is neither local nor named by a route")]
    UnknownHost,
    #[error("no route takes the request")]
    NoRoute,
    #[error("the request has been here before")]
    Loop,
    #[error("no file")]
    NoFile { route: Arc<str>, missing: NoFile },
    #[error("the file of the answer cannot be read")]
    NoAnswerFile { route: Arc<str>, path: PathBuf, error: io::Error },
    #[error("no answer from {target}")]
    Program { route: Arc<str>, target: String, origin: String, reason: Reason },
    #[error("{target} was not there within {} s", .held.as_secs_f64())]
    HoldExpired { route: Arc<str>, target: String, origin: String, held: Duration, reason: ConnectError },
    #[error("too many requests wait for {target}")]
    Crowded { route: Arc<str>, target: String },
    #[error("every target of the route is ill")]
    Unhealthy { route: Arc<str>, targets: String },
    #[error("the connection was made for another host")]
    Misdirected,
    #[error("the client has left")]
    ClientLeft,
    #[error("a fault of ours")]
    Panic,
}

/// Why a program gave no answer.
#[derive(Debug, thiserror::Error)]
pub(super) enum Reason {
    #[error(transparent)]
    Dial(#[from] ConnectError),
    #[error("the connection ended before an answer")]
    Closed(Box<Reached>),
    #[error("the client has left")]
    ClientLeft,
    #[error("the body of the request is not valid")]
    Upload,
    #[error("the request cannot be said to it: {0}")]
    Unsayable(String),
    #[error("no answer within {} s", .0.as_secs_f64())]
    Timeout(Duration, Box<Reached>),
    /// What is wrong with what came, and its first bytes.
    #[error("{0}")]
    Invalid(String, Vec<u8>),
    #[error(transparent)]
    BadAnswer(#[from] BadAnswer),
    #[error("{}", .0.message())]
    HostRefused(Box<HostRefused>),
}

/// How far an exchange came that has no answer.
#[derive(Debug)]
pub(super) struct Reached {
    /// Whether the program was sent the whole request.
    pub(super) is_sent: bool,
    /// What came of a head that has no end.
    pub(super) bytes: Vec<u8>,
}

impl Reason {
    fn cause(&self) -> Cause {
        match self {
            Self::Dial(ConnectError::Timeout(_)) => Cause::ConnectTimeout,
            Self::Dial(ConnectError::Refused(_)) => Cause::ConnectRefused,
            Self::Dial(ConnectError::Exhausted) => Cause::Overloaded,
            Self::Dial(ConnectError::Tls(_)) => Cause::TlsFailed,
            Self::Dial(ConnectError::Absent(absence)) => match absence.kind {
                Absent::Starting => Cause::Starting,
                Absent::Gone => Cause::NoProcess,
                Absent::Usurped => Cause::WrongOwner,
            },
            Self::Dial(ConnectError::Closed) | Self::Closed(_) => Cause::UpstreamClosed,
            Self::Timeout(..) => Cause::UpstreamTimeout,
            Self::Upload | Self::Unsayable(_) | Self::ClientLeft => Cause::BadRequest,
            Self::Invalid(..) | Self::BadAnswer(_) => Cause::BadUpstreamReply,
            Self::HostRefused(_) => Cause::HostRefused,
        }
    }

    /// The next step that mends most of these, at the place where what is concerned was written.
    pub(super) fn help(&self, origin: &str) -> String {
        match self.cause() {
            Cause::ConnectRefused => format!("start the program, or mend the target at {origin}"),
            Cause::ConnectTimeout => format!("raise `connect_timeout` at {origin}, or see why the program is stuck"),
            Cause::BadRequest => "look at what the client sends: the program is not at fault".into(),
            Cause::UpstreamTimeout => format!("raise `timeout` at {origin}, or see what the program waits for"),
            Cause::TlsFailed => {
                format!("write `insecure = true` to take any certificate, or http:// for none, at {origin}")
            }
            Cause::Overloaded => "raise `ulimit -n`, or ask less at once".into(),
            Cause::UpstreamClosed => format!("look at the output of the program behind {origin}: it may have crashed"),
            _ => {
                format!("see whether the program speaks what the target at {origin} says: http://, h2c:// or https://")
            }
        }
    }
}

impl Failure {
    /// The cause, as the answer names it.
    pub(super) fn cause(&self) -> Cause {
        match self {
            Self::Refused(Refusal::Head(HeadError::TargetTooLong)) => Cause::UriTooLong,
            Self::Refused(Refusal::Head(HeadError::TooLarge)) => Cause::HeadTooLarge,
            Self::Refused(Refusal::Head(HeadError::UnknownCoding)) => Cause::UnknownCoding,
            Self::Refused(Refusal::Connect) => Cause::MethodRefused,
            Self::Refused(_) | Self::ClientLeft => Cause::BadRequest,
            Self::UnknownHost => Cause::UnknownHost,
            Self::Misdirected => Cause::Misdirected,
            Self::NoRoute => Cause::NoRoute,
            Self::Loop => Cause::Loop,
            Self::NoFile { missing, route } => missing.page(route).cause,
            Self::NoAnswerFile { .. } | Self::Panic => Cause::Internal,
            Self::Program { reason, .. } => reason.cause(),
            Self::HoldExpired { .. } => Cause::HoldExpired,
            Self::Crowded { .. } => Cause::Overloaded,
            Self::Unhealthy { .. } => Cause::Unhealthy,
        }
    }

    /// Whether the connection is of no more use: nobody can know where the next request begins.
    pub(super) fn ends_connection(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Program { reason: Reason::Upload, .. })
    }

    /// Whether it helps a person at this machine to know who listens here.
    pub(super) fn is_explained_by_looking(&self, client: &Client, host: Option<&Host<'_>>) -> bool {
        client.peer.is_loopback()
            && match self {
                Self::NoRoute => host.is_some_and(Host::is_local),
                Self::Program { reason, .. } => match reason {
                    Reason::Dial(error) => !matches!(error, ConnectError::Absent(_) | ConnectError::Exhausted),
                    Reason::Closed(_) | Reason::Timeout(..) | Reason::Invalid(..) => true,
                    Reason::ClientLeft
                    | Reason::Upload
                    | Reason::Unsayable(_)
                    | Reason::BadAnswer(_)
                    | Reason::HostRefused(_) => false,
                },
                Self::HoldExpired { reason, .. } => matches!(reason, ConnectError::Refused(_)),
                _ => false,
            }
    }

    /// The answer, in the tongue of whoever asked.
    pub(super) fn answer(&self, request: Option<&Request>, host: Option<&Host<'_>>, setting: &Setting<'_>) -> Answer {
        let (nowhere, nothing) = (Host::unknown(), FieldList::default());
        let host = host.unwrap_or(&nowhere);
        let head = match request {
            Some(request) => RequestHead {
                method: request.method(),
                path: request.path(),
                query: request.query(),
                host,
                fields: request,
            },
            None => RequestHead { method: "GET", path: "/", query: None, host, fields: &nothing },
        };
        let mut page = self.page(&head, *setting);
        page.reload = pages::is_navigation(&head);
        if !setting.client.peer.is_loopback() {
            page = page.for_strangers();
        }
        pages::page(&page, Tongue::of(&head))
    }

    fn page<'a>(&'a self, head: &'a RequestHead<'_>, setting: Setting<'a>) -> Page<'a> {
        let cause = self.cause();
        match self {
            Self::Refused(refusal) => Page { allow: allowed(*refusal), ..Page::new(cause, refusal.to_string()) },
            Self::UnknownHost => Page::new(cause, format!("host {} is neither local nor named by a route", head.host)),
            Self::Misdirected => Page::new(cause, format!("the connection was not made for host {}", head.host)).help(
                "connect to each host by its own name: the certificate is shown for the name in the handshake (SNI)",
            ),
            Self::NoRoute => no_route(head, setting),
            Self::Loop => Page::new(cause, "the request came back to the proxy that it had left")
                .note(format!("its Via field says: {}", head.text("via").unwrap_or_default()))
                .help("mend the route or the dev server's own proxy that leads back here; there, `changeOrigin` helps"),
            Self::NoFile { route, missing } => missing.page(route),
            Self::NoAnswerFile { route, path, error } => {
                Page::new(cause, format!("route {route} cannot read {}", path.display()))
                    .route(route)
                    .note(error.to_string())
            }
            Self::Program { route, target, origin, reason: Reason::Dial(ConnectError::Absent(absence)) } => {
                absent(Page::new(cause, format!("route {route} -> {target}, {}", absence.message)), absence)
                    .route(route)
                    .target(target.clone())
                    .origin(origin.clone())
            }
            Self::HoldExpired { route, target, origin, held, reason } => {
                let held_for = held.as_secs_f64();
                let message =
                    format!("route {route} -> {target}, {reason}; the request has waited for {held_for:.1} s");
                let page = Page { held: Some(*held), ..Page::new(cause, message) }.route(route).target(target.clone());
                match reason {
                    ConnectError::Absent(absence) => absent(page, absence).origin(origin.clone()),
                    _ => {
                        let help = format!("start the program, or raise `hold` at {origin}");
                        facts::missing(page, (route, target), help, setting)
                    }
                }
            }
            Self::Crowded { route, target } => {
                Page::new(cause, format!("route {route} -> {target}, {MOST_WAITING} requests wait for it already"))
                    .route(route)
                    .target(target.clone())
            }
            Self::Program { route, target, origin, reason } => {
                let page = Page::new(cause, format!("route {route} -> {target}, {reason}"));
                let page = page.route(route).target(target.clone());
                match reason {
                    Reason::HostRefused(refused) => {
                        Page { status: Some(refused.status), ..page }.note(refused.note()).help(refused.help())
                    }
                    _ => facts::no_answer(page, (route, target), reason, origin, setting),
                }
            }
            Self::Unhealthy { route, targets } => {
                Page::new(cause, format!("route {route} -> {targets}, no target passes its health check"))
                    .route(route)
                    .target(targets.clone())
            }
            Self::ClientLeft => Page::new(cause, "the client has left"),
            Self::Panic => Page::new(cause, "this is a fault of portolan; other requests are not affected"),
        }
    }
}

/// What is known of a program that is not there.
fn absent<'a>(page: Page<'a>, absence: &Absence) -> Page<'a> {
    let page = absence.notes.iter().fold(page, Page::note);
    absence.helps.iter().fold(page, Page::help)
}

fn allowed(refusal: Refusal) -> Option<&'static str> {
    (refusal == Refusal::Connect).then_some("GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS")
}

/// The page that tells which routes there are, which one came closest, and what listens without one.
fn no_route<'a>(head: &RequestHead<'_>, setting: Setting<'a>) -> Page<'a> {
    let snapshot = setting.snapshot;
    let page = Page::new(Cause::NoRoute, format!("no route takes {} {}{}", head.method, head.host, head.path));
    if !head.host.is_local() {
        return page;
    }
    let explanation = snapshot.table.explain(head);
    let nearest = explanation.nearest(head).and_then(|candidate| match candidate.outcome {
        Outcome::Fails(mismatch) => Some((snapshot.route(candidate.route), mismatch.because(head))),
        Outcome::Answers | Outcome::Outranked(_) => None,
    });
    let page = Page { routes: snapshot.routes().iter().map(|route| line(route, setting.client)).collect(), ..page };
    let page = match nearest {
        Some((route, because)) => page.note(format!("the nearest route is {}: {because}", route.name)),
        None if snapshot.routes().is_empty() => {
            page.help("the table has no routes yet: `portolan init` writes a first one")
        }
        None => page,
    };
    facts::unrouted(setting).into_iter().fold(page, Page::note)
}

fn line(route: &Route, client: &Client) -> RouteLine {
    RouteLine {
        name: route.name.to_string(),
        url: route.words.url(client.local().port()),
        pattern: route.words.pattern.clone(),
        target: route.words.target.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_people_at_this_machine_have_somebody_look_who_listens() {
        let client = |peer: &str| Client::new(peer.parse().unwrap(), Arc::new(([127, 0, 0, 1], 62893).into()));
        let refused = || Reason::Dial(ConnectError::Refused(io::ErrorKind::ConnectionRefused.into()));
        let failure = Failure::Program {
            route: "web".into(),
            target: ":5173".into(),
            origin: "portolan.toml:2:1".into(),
            reason: refused(),
        };
        let (local, foreign) = (Host::parse(b"localhost").unwrap(), Host::parse(b"shop.test").unwrap());
        for failure in [failure, Failure::NoRoute] {
            assert!(failure.is_explained_by_looking(&client("127.0.0.1:1"), Some(&local)), "{failure}");
            assert!(failure.is_explained_by_looking(&client("[::1]:1"), Some(&local)), "{failure}");
            assert!(!failure.is_explained_by_looking(&client("192.168.1.7:1"), Some(&local)), "{failure}");
        }
        assert!(!Failure::NoRoute.is_explained_by_looking(&client("127.0.0.1:1"), Some(&foreign)));
        assert!(!Failure::UnknownHost.is_explained_by_looking(&client("127.0.0.1:1"), Some(&foreign)));
    }
}
