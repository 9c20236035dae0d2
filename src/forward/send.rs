//! A request on its way to a program: pick an endpoint, take a connection, send, and pass the answer on.
//!
//! A request is repeated only where nothing can have happened twice (RFC 9110 §9.2.2): no byte of it was taken, or
//! it is idempotent and the connection was an old one that its program was just closing. Never after a byte of an
//! answer, and never when a fresh connection fails: then the program has a say in it.

use std::{
    future::poll_fn,
    pin::pin,
    sync::{
        Arc, Mutex,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::Poll,
    time::Duration,
};

use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, Version, header};
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
};
use crate::{
    listen::deadlines::{BODY, Deadlines, Limit},
    live::{Forward, Route},
    upstream::{Endpoint, pool::Lease},
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
        let upstream = &forward.upstream;
        let ill = || Failure::Unhealthy { route: Arc::clone(&route.name), targets: route.words.target.clone() };
        let mut endpoint = upstream.pick().ok_or_else(ill)?;
        let failed = |endpoint: &Endpoint, reason| Failure::Program {
            route: Arc::clone(&route.name),
            target: endpoint.address().to_string(),
            origin: route.origin.location(),
            reason,
        };
        let mut uploads = Uploads::new(asked, forward, incoming).await.map_err(|reason| failed(endpoint, reason))?;
        if let (Some(protocol), Some(on_upgrade)) = (outgoing.upgrade, on_upgrade) {
            asked.record(|record| record.target = endpoint.address().to_string());
            let opened = Box::pin(self.open(asked, forward, endpoint, outgoing, protocol, on_upgrade)).await;
            return opened.map_err(|reason| failed(endpoint, reason));
        }
        let mut tries_left = forward.retries;
        let mut lease = self.pools.kept(endpoint.id());
        let mut unsent: Option<Box<Request<Upload>>> = None;
        loop {
            asked.record(|record| record.target = endpoint.address().to_string());
            let connected = match lease.take() {
                Some(lease) => Ok(lease),
                None => Box::pin(self.pools.dial(endpoint, forward.connect_timeout)).await,
            };
            let lease_in_use = match connected {
                Ok(lease) => lease,
                // Nothing was sent: another endpoint may do.
                Err(_) if tries_left > 0 && upstream.endpoints().nth(1).is_some() => {
                    tries_left -= 1;
                    endpoint = upstream.pick().ok_or_else(ill)?;
                    continue;
                }
                Err(error) => return Err(failed(endpoint, error.into())),
            };
            let reused = lease_in_use.is_reused();
            let request = match unsent.take() {
                Some(request) => *request,
                None => request(asked, outgoing, uploads.next()),
            };
            let in_flight = upstream.counts_requests().then(|| endpoint.begin());
            match exchange(lease_in_use, request, asked.deadlines, forward.timeout, &mut uploads).await {
                Ok((response, lease)) => {
                    let lease = uploads.is_sent().then_some(lease);
                    return pass_on(asked, response, lease, in_flight).map_err(|reason| failed(endpoint, reason));
                }
                // An old connection had just closed: taking a new one is no repetition.
                Err(Broken { again: Again::Unsent(request), .. }) if reused || tries_left > 0 => unsent = Some(request),
                Err(Broken { again: Again::IfIdempotent, .. })
                    if tries_left > 0 && is_idempotent(&asked.parts.method) && uploads.can_repeat() => {}
                Err(broken) => return Err(failed(endpoint, broken.reason)),
            }
            tries_left = tries_left.saturating_sub(1);
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
    deadlines.arm(Limit::Answer, limit);
    let answered = {
        let mut sending = pin!(lease.sender().try_send_request(request));
        poll_fn(|cx| match sending.as_mut().poll(cx) {
            Poll::Ready(result) => Poll::Ready(Some(result)),
            Poll::Pending if deadlines.is_over(Limit::Answer) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await
    };
    deadlines.disarm(Limit::Answer);
    uploads.shut_the_gate();
    match answered {
        None => Err(Broken { reason: Reason::Timeout(limit), again: Again::Never }),
        Some(Ok(response)) => Ok((response, lease)),
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
    if is_a_close(error) { Reason::Closed } else { Reason::Invalid(format!("its answer is not valid: {error}")) }
}

/// The answer for the client.
fn pass_on(
    asked: &mut Asked<'_>,
    response: Response<Incoming>,
    mut lease: Option<Lease<Upload>>,
    in_flight: Option<crate::upstream::InFlight>,
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

/// RFC 9110 §9.2.2
fn is_idempotent(method: &Method) -> bool {
    method.is_idempotent()
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
    Whole(bytes::Bytes),
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
        if is_small && is_idempotent(&parts.method) && !expects {
            // One limit for all of it, as it is small.
            asked.deadlines.arm(Limit::Body, BODY);
            let whole = Box::pin(incoming.collect()).await.map_err(|_| Reason::Closed)?.to_bytes();
            asked.deadlines.disarm(Limit::Body);
            asked.deadlines.all_read();
            uploads.kind = Kind::Whole(whole);
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
