//! A request on its way to a program: pick an endpoint, take a connection, send, and pass the answer on.
//!
//! A request is repeated only where nothing can have happened twice (RFC 9110 §9.2.2): no byte of it was taken, or
//! it is idempotent and the connection was an old one that its program was just closing. Never after a byte of an
//! answer, and never when a fresh connection fails: then the program has a say in it.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    time::Duration,
};

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::BodyExt;
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};
use tokio::sync::oneshot;

use super::{
    Asked, Worker,
    body::{Download, Gate, Source, Upload},
    failure::{Failure, Reason},
    head::{self, BadAnswer, Outgoing},
    upgrade::Asking,
};
use crate::{
    listen::deadlines::{BODY, Deadlines, Limit},
    live::{Forward, Route},
    upstream::{
        Endpoint, InFlight,
        pool::{DialError, Lease},
    },
};

/// The largest body that is kept so that it could be sent twice, in bytes.
const REPLAYABLE: u64 = 64 * 1024;

/// Why an exchange gave no answer, and what that means for another try.
struct Broken {
    reason: Reason,
    again: Again,
}

/// Whether a request may be sent once more.
enum Again {
    /// No byte of it was taken: whatever it is, here it is back.
    Unsent(Box<Request<Upload>>),
    /// The connection was an old one: an idempotent request may be repeated on a new one.
    IfIdempotent,
    /// The program may have acted on it.
    Never,
}

impl Worker {
    /// Sends the request to one of the route's endpoints and passes the answer on.
    pub(super) async fn send(
        &self,
        asked: &mut Asked<'_>,
        route: &Route,
        forward: &Forward,
        outgoing: &Outgoing<'_>,
        incoming: Incoming,
        on_upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Download>, Failure> {
        let mut way = Way::new(route, forward)?;
        let limit = forward.connect_timeout;
        if let (Some(protocol), Some(on_upgrade)) = (outgoing.upgrade, on_upgrade) {
            let dial = async |endpoint: &Endpoint| self.pools.dial_for_upgrade(endpoint, limit).await;
            let sender = Box::pin(way.dial(asked, dial)).await?;
            let in_flight = way.endpoint.begin();
            let asking = Asking { sender, protocol, on_upgrade, in_flight, limit: forward.timeout };
            return Box::pin(asking.open(asked, outgoing)).await.map_err(|reason| way.failed(reason));
        }
        let mut uploads = Uploads::new(asked, forward, incoming).await.map_err(|reason| way.failed(reason))?;
        let mut kept = self.pools.kept(way.endpoint.id());
        let mut unsent: Option<Box<Request<Upload>>> = None;
        loop {
            let lease = match kept.take() {
                Some(lease) => lease,
                None => {
                    let dial = async |endpoint: &Endpoint| self.pools.dial(endpoint, limit).await;
                    Box::pin(way.dial(asked, dial)).await?
                }
            };
            asked.record(|record| record.target = way.endpoint.address().to_string());
            let reused = lease.is_reused();
            let request = match unsent.take() {
                Some(request) => *request,
                None => request(asked, outgoing, uploads.next()),
            };
            let in_flight = forward.upstream.counts_requests().then(|| way.endpoint.begin());
            match exchange(lease, request, asked.deadlines, forward.timeout, &mut uploads).await {
                Ok((response, lease)) => {
                    let lease = uploads.is_sent().then_some(lease);
                    return pass_on(asked, response, lease, in_flight).map_err(|reason| way.failed(reason));
                }
                // An old connection had just closed: taking a new one is no repetition.
                Err(Broken { again: Again::Unsent(request), .. }) if reused || way.tries_left > 0 => {
                    unsent = Some(request);
                }
                Err(Broken { again: Again::IfIdempotent, .. })
                    if way.tries_left > 0 && asked.parts.method.is_idempotent() && uploads.can_repeat() => {}
                Err(broken) => return Err(way.failed(broken.reason)),
            }
            way.tries_left = way.tries_left.saturating_sub(1);
        }
    }
}

/// The endpoint that a request is on its way to, and how often it may still turn round.
struct Way<'r> {
    route: &'r Route,
    forward: &'r Forward,
    endpoint: &'r Arc<Endpoint>,
    tries_left: u8,
}

impl<'r> Way<'r> {
    fn new(route: &'r Route, forward: &'r Forward) -> Result<Self, Failure> {
        let endpoint = Self::pick(route, forward)?;
        Ok(Self { route, forward, endpoint, tries_left: forward.retries })
    }

    fn pick(route: &'r Route, forward: &'r Forward) -> Result<&'r Arc<Endpoint>, Failure> {
        let ill = || Failure::Unhealthy { route: Arc::clone(&route.name), targets: route.words.target.clone() };
        forward.upstream.pick().ok_or_else(ill)
    }

    /// Dials the endpoint; where it does not answer another one may do, as nothing was sent.
    async fn dial<T>(
        &mut self,
        asked: &mut Asked<'_>,
        dial: impl AsyncFn(&Endpoint) -> Result<T, DialError>,
    ) -> Result<T, Failure> {
        loop {
            asked.record(|record| record.target = self.endpoint.address().to_string());
            match dial(self.endpoint).await {
                Ok(connection) => return Ok(connection),
                Err(_) if self.tries_left > 0 && self.forward.upstream.endpoints().nth(1).is_some() => {
                    self.tries_left -= 1;
                    self.endpoint = Self::pick(self.route, self.forward)?;
                }
                Err(error) => return Err(self.failed(error.into())),
            }
        }
    }

    fn failed(&self, reason: Reason) -> Failure {
        Failure::Program {
            route: Arc::clone(&self.route.name),
            target: self.endpoint.address().to_string(),
            origin: self.route.origin.location(),
            reason,
        }
    }
}

/// The request as the program gets it.
pub(super) fn request(asked: &Asked<'_>, outgoing: &Outgoing<'_>, body: Upload) -> Request<Upload> {
    // Said here, as hyper would take a GET whose length is not known for one without a body, and drop the body.
    let chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
    let mut request = Request::new(body);
    *request.method_mut() = asked.parts.method.clone();
    *request.uri_mut() = outgoing.uri(&asked.parts.uri);
    *request.headers_mut() = outgoing.fields(&asked.parts.headers);
    if chunked {
        request.headers_mut().insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    }
    request
}

/// Sends one request on one connection and waits for the head of its answer.
async fn exchange(
    mut lease: Lease<Upload>,
    mut request: Request<Upload>,
    deadlines: &Deadlines,
    limit: Duration,
    uploads: &mut Uploads<'_>,
) -> Result<(Response<Incoming>, Lease<Upload>), Broken> {
    uploads.listen_for_continue(&mut request);
    match deadlines.answer_in_time(limit, lease.sender().try_send_request(request)).await {
        None => Err(Broken { reason: Reason::Timeout(limit), again: Again::Never }),
        Some(Ok(response)) => {
            uploads.shut_the_gate();
            Ok((response, lease))
        }
        Some(Err(mut error)) => {
            let again = match error.take_message() {
                Some(request) => Again::Unsent(Box::new(request)),
                None if lease.is_reused() && !lease.has_heard() && is_a_close(error.error()) => Again::IfIdempotent,
                None => Again::Never,
            };
            Err(Broken { reason: reason(error.error()), again })
        }
    }
}

/// Whether the connection simply ended.
fn is_a_close(error: &hyper::Error) -> bool {
    error.is_incomplete_message() || error.is_canceled() || error.is_closed() || is_reset(error)
}

fn is_reset(error: &hyper::Error) -> bool {
    use std::{error::Error, io};
    let io = error.source().and_then(|source| source.downcast_ref::<io::Error>());
    io.is_some_and(|io| matches!(io.kind(), io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe))
}

pub(super) fn reason(error: &hyper::Error) -> Reason {
    match error {
        // What hyper calls the user's is the body that we gave it, and so the client's.
        error if error.is_user() => Reason::Upload,
        error if is_a_close(error) => Reason::Closed,
        error => Reason::Invalid(format!("its answer is not valid: {error}")),
    }
}

/// The answer for the client.
fn pass_on(
    asked: &mut Asked<'_>,
    response: Response<Incoming>,
    mut lease: Option<Lease<Upload>>,
    in_flight: Option<InFlight>,
) -> Result<Response<Download>, Reason> {
    let (mut parts, incoming) = response.into_parts();
    if parts.status == StatusCode::SWITCHING_PROTOCOLS {
        return Err(BadAnswer::Upgrade.into());
    }
    if let (Some(lease), Some(theirs)) = (&mut lease, keep_alive(&parts.headers)) {
        lease.limit_idle(theirs);
    }
    parts.headers = head::answer(parts.headers, parts.status, false)?;
    // The version is one connection's: a program that speaks 1.0 does not take keep-alive and chunks from a client.
    parts.version = Version::default();
    asked.record(|record| record.status = parts.status.as_u16());
    Ok(Response::from_parts(parts, asked.download(Source::Program { incoming, lease, in_flight })))
}

/// How long the program keeps an idle connection: `Keep-Alive: timeout=5`, as Node says.
fn keep_alive(headers: &HeaderMap) -> Option<Duration> {
    let parameters = headers.get("keep-alive")?.to_str().ok()?;
    let timeout = parameters.split(',').find_map(|parameter| parameter.trim().strip_prefix("timeout="))?;
    timeout.parse().ok().map(Duration::from_secs)
}

/// All of a small body, each piece in time.
async fn whole(mut incoming: Incoming, deadlines: &Deadlines) -> Result<Bytes, Reason> {
    let mut bytes = BytesMut::new();
    deadlines.arm(Limit::Body, BODY);
    while let Some(frame) = incoming.frame().await {
        deadlines.arm(Limit::Body, BODY);
        if let Some(piece) = frame.map_err(|_| Reason::Upload)?.data_ref() {
            bytes.extend_from_slice(piece);
        }
    }
    deadlines.disarm(Limit::Body);
    deadlines.all_read();
    Ok(bytes.freeze())
}

/// The body of a request, which may be wanted more than once, and only after the program said so.
struct Uploads<'a> {
    kind: Kind,
    sent: Option<Arc<AtomicBool>>,
    open_gate: Option<Arc<Mutex<Option<oneshot::Sender<()>>>>>,
    gate: Option<Gate>,
    deadlines: &'a Arc<Deadlines>,
    answer_limit: Duration,
}

enum Kind {
    Empty,
    Whole(Bytes),
    Once(Option<Incoming>),
}

impl<'a> Uploads<'a> {
    /// Keeps a small body of an idempotent request whole; everything else streams.
    async fn new(asked: &Asked<'a>, forward: &Forward, incoming: Incoming) -> Result<Self, Reason> {
        let parts = asked.parts;
        let mut uploads = Self {
            kind: Kind::Empty,
            sent: None,
            open_gate: None,
            gate: None,
            deadlines: asked.deadlines,
            answer_limit: forward.timeout,
        };
        if incoming.is_end_stream() {
            return Ok(uploads);
        }
        let expects = parts
            .headers
            .get(header::EXPECT)
            .is_some_and(|expect| expect.as_bytes().eq_ignore_ascii_case(b"100-continue"));
        let is_small = incoming.size_hint().exact().is_some_and(|size| size <= REPLAYABLE);
        if is_small && parts.method.is_idempotent() && !expects {
            uploads.kind = Kind::Whole(Box::pin(whole(incoming, asked.deadlines)).await?);
            return Ok(uploads);
        }
        if expects {
            let (open, gate) = Gate::new();
            uploads.open_gate = Some(Arc::new(Mutex::new(Some(open))));
            uploads.gate = Some(gate);
        }
        uploads.kind = Kind::Once(Some(incoming));
        uploads.sent = Some(Arc::default());
        Ok(uploads)
    }

    /// The body for the next try.
    fn next(&mut self) -> Upload {
        match &mut self.kind {
            Kind::Empty => Upload::Empty,
            Kind::Whole(bytes) => Upload::Whole(Some(bytes.clone())),
            Kind::Once(incoming) => match (incoming.take(), &self.sent) {
                (Some(incoming), Some(sent)) => {
                    let deadlines = Arc::clone(self.deadlines);
                    Upload::streamed(incoming, self.gate.take(), deadlines, self.answer_limit, Arc::clone(sent))
                }
                _ => Upload::Empty,
            },
        }
    }

    fn can_repeat(&self) -> bool {
        !matches!(self.kind, Kind::Once(_))
    }

    /// Whether the program has all of it.
    fn is_sent(&self) -> bool {
        self.sent.as_ref().is_none_or(|sent| sent.load(Relaxed))
    }

    /// Opens the gate when the program says `100 Continue`.
    fn listen_for_continue(&self, request: &mut Request<Upload>) {
        if let Some(open) = &self.open_gate {
            let open = Arc::clone(open);
            hyper::ext::on_informational(request, move |interim| {
                let sender = open.lock().ok().and_then(|mut open| open.take());
                if interim.status() == StatusCode::CONTINUE
                    && let Some(sender) = sender
                {
                    // The body may be gone, with the client.
                    let _ = sender.send(());
                }
            });
        }
    }

    /// The answer is here: a body that still waits is not wanted.
    fn shut_the_gate(&self) {
        if let Some(open) = &self.open_gate {
            drop(open.lock().ok().and_then(|mut open| open.take()));
        }
    }
}
