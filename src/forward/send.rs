//! A request on its way to a program: pick an endpoint, take a connection, send, and pass the answer on.
//!
//! A request is repeated only where nothing can have happened twice (RFC 9110 §9.2.2): no byte of it was taken, or
//! it is idempotent and the connection was an old one that its program was just closing. Never after a byte of an
//! answer, and never when a fresh connection fails: then the program has a say in it.

use std::{future::poll_fn, pin::pin, rc::Rc, sync::Arc, task::Poll, time::Duration};

use super::{
    Asked, Common, Worker,
    failure::{Failure, Reached, Reason},
    head::{Answering, Outgoing},
    host_refused,
    pace::{self, Late, Pace},
};
use tokio::time::{Instant, sleep_until};

use crate::{
    config::{Address, NO_EDITS, Protocol, Sought},
    diagnostic::Span,
    filter::ResponseEdits,
    head::Fields,
    http1::{
        body::Framing,
        client::{Behind, Cut, Exchange, Failed, Look},
        head::{Known, Response},
        leg::{Transport, Watch},
        server::Serving,
    },
    listen::deadlines::{BODY, Deadlines, Limit},
    live::{Forward, Route},
    observe::Ending,
    tunnel::IDLE,
    upstream::{
        Endpoint,
        connect::{ConnectError, Stream},
        place::{AGAIN, Absent, Place, Standing, Unheld},
        pool::{Lease, Pools},
    },
};

/// The largest body that is kept so that it could be sent twice, in bytes.
const REPLAYABLE: u64 = 64 * 1024;

/// How often a request meets a program that is just ending or beginning, where its route holds requests: a dev server may
/// take connections and drop them while it does either. A request that ends its program ends it as often.
const RESTARTS: u8 = 5;

/// How many old connections that had just closed a request may meet.
const STALE: u8 = 3;

/// How much of a request's body that nobody wants is read behind its whole answer, so that the client's connection can go
/// on; and how long that may take, or a program that goes on reading may pause.
const REST: (u64, Duration) = (1024 * 1024, Duration::from_secs(1));

/// Why an exchange gave no answer, and what that means for another try.
struct Broken {
    reason: Reason,
    again: Again,
}

/// Whether a request may be sent once more.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Again {
    /// No byte of it was taken, whatever it is.
    Unsent,
    /// The program says that it did nothing with it (RFC 9113 §8.7), whatever it is.
    Unprocessed,
    /// An idempotent request may be repeated: on a new connection where this was an old one, and on any where the route
    /// expects its program to restart.
    IfIdempotent,
    /// The program may have acted on it.
    Never,
}

/// What is to be known of a request for sending it.
struct Sending<'a> {
    outgoing: &'a Outgoing<'a>,
    /// Its body, where it is kept whole.
    whole: Vec<u8>,
    answering: Answering<'a>,
    limit: Duration,
    /// Between two pieces of the request.
    upload: Duration,
    route: &'a str,
    common: &'a Common,
}

impl Sending<'_> {
    /// Holds an answer back for as long as it may be a dev server's refusal of the host.
    fn look(&self, response: &Response<'_>, behind: Option<&Behind>) -> Result<Look, Reason> {
        if !host_refused::is_possible(response.status) {
            return Ok(Look::Pass);
        }
        let say = |refused: &host_refused::HostRefused| self.common.say_once(refused.sentence(self.route));
        let looked = host_refused::look(self.outgoing, response, behind, say);
        looked.map_err(|refused| Reason::HostRefused(Box::new(refused)))
    }
}

impl Worker {
    /// Sends the request to one of the route's endpoints and passes the answer on.
    pub(super) async fn send<C: Transport>(
        &self,
        asked: &mut Asked<'_>,
        serving: &mut Serving<'_, C>,
        route: &Route,
        forward: &Forward,
        outgoing: &Outgoing<'_>,
        edits: &ResponseEdits<'_>,
    ) -> Result<(), Failure> {
        let named = Named { route: &route.name, origin: &route.origin, targets: &route.words.target };
        let mut way = Way::new(named, forward)?;
        let mut sending = Sending {
            outgoing,
            whole: if is_replayable(outgoing, way.endpoint.protocol()) {
                Box::pin(whole(asked, serving)).await.map_err(|reason| way.failed(reason))?
            } else {
                Vec::new()
            },
            answering: Answering {
                upgrade: outgoing.upgrade,
                handshake: Some(outgoing.request)
                    .filter(|_| outgoing.upgrade.is_some() && outgoing.client.speaks_http2()),
                edits: [edits.cors.as_deref().unwrap_or(&NO_EDITS), edits.fields],
                date: &self.date,
                held: None,
            },
            limit: forward.timeout,
            upload: if is_call(outgoing) { IDLE } else { BODY },
            route: &route.name,
            common: &self.common,
        };
        let is_idempotent = is_idempotent(outgoing.request.method());
        let has_no_body_left = serving.is_read();
        let mut kept = self.pools.kept(way.endpoint, outgoing.upgrade.is_some());
        loop {
            let lease = match kept.take() {
                Some(lease) => lease,
                None => {
                    let deadlines = asked.deadlines;
                    let lease = Box::pin(while_there(deadlines, serving, way.dial(asked, &self.pools))).await?;
                    sending.answering.held = way.held;
                    lease
                }
            };
            asked.record(|record| record.target = way.endpoint.whereabouts());
            let reused = lease.idle.is_used();
            let is_counted =
                forward.upstream.counts_requests() || outgoing.upgrade.is_some() || way.endpoint.is_counted();
            let in_flight = is_counted.then(|| way.endpoint.begin());
            let Err(broken) = exchange(asked, serving, lease, &sending).await else { return Ok(()) };
            drop(in_flight);
            let has_whole_body = has_no_body_left || serving.waits_for_continue();
            let may_repeat = match broken.again {
                // An old connection had just closed: taking a new one is no repetition.
                Again::Unsent => (reused && way.stale_left > 0) || way.restarts_left > 0,
                Again::Unprocessed => way.tries_left > 0 && has_whole_body,
                Again::IfIdempotent => {
                    let tries_left = if reused { way.tries_left } else { 0 };
                    tries_left + way.restarts_left > 0 && is_idempotent && has_whole_body
                }
                Again::Never => false,
            };
            if !may_repeat {
                return Err(way.failed(broken.reason));
            }
            let takes_another = reused || broken.again == Again::Unprocessed;
            if (takes_another && way.tries_left > 0) || way.restarts_left == 0 {
                way.tries_left = way.tries_left.saturating_sub(1);
                way.stale_left = way.stale_left.saturating_sub(1);
            } else {
                way.restarts_left -= 1;
                // A program that is ending takes connections for some moments more.
                Box::pin(while_there(asked.deadlines, serving, way.wait(ConnectError::Closed))).await?;
            }
        }
    }
}

/// What is told of a route whose program cannot be reached.
#[derive(Clone, Copy)]
pub(super) struct Named<'r> {
    pub(super) route: &'r Arc<str>,
    pub(super) origin: &'r Span,
    pub(super) targets: &'r str,
}

/// The endpoint that a request, or a raw stream, is on its way to, and how often it may still turn round.
pub(super) struct Way<'r> {
    named: Named<'r>,
    forward: &'r Forward,
    pub(super) endpoint: &'r Arc<Endpoint>,
    tries_left: u8,
    /// How often it may meet an old connection that had just closed.
    stale_left: u8,
    /// How often it may still be sent to a program that hung up while it ended or began.
    restarts_left: u8,
    /// Since when, and until when, the request waits for a program.
    waits: Option<(Instant, Instant)>,
    /// How long it waited.
    held: Option<Duration>,
}

impl<'r> Way<'r> {
    pub(super) fn new(named: Named<'r>, forward: &'r Forward) -> Result<Self, Failure> {
        let endpoint = Self::pick(named, forward)?;
        let restarts_left = if forward.hold.is_some() && forward.retries > 0 { RESTARTS } else { 0 };
        Ok(Self {
            named,
            forward,
            endpoint,
            tries_left: forward.retries,
            stale_left: STALE,
            restarts_left,
            waits: None,
            held: None,
        })
    }

    fn pick(named: Named<'r>, forward: &'r Forward) -> Result<&'r Arc<Endpoint>, Failure> {
        let ill = || Failure::Unhealthy { route: Arc::clone(named.route), targets: named.targets.to_owned() };
        forward.upstream.pick().ok_or_else(ill)
    }

    /// Dials the endpoint; where it does not answer another one may do, as nothing was sent.
    async fn dial(&mut self, asked: &mut Asked<'_>, pools: &Rc<Pools>) -> Result<Lease, Failure> {
        loop {
            asked.record(|record| record.target = self.endpoint.whereabouts());
            match pools.dial(self.endpoint, asked.asks_for_another_protocol(), self.forward.connect_timeout).await {
                Ok(connection) => return Ok(connection),
                Err(error) => self.turn(error).await?,
            }
        }
    }

    /// Goes another way where there is one, as nothing was sent; otherwise waits for the program.
    pub(super) async fn turn(&mut self, error: ConnectError) -> Result<(), Failure> {
        if self.tries_left > 0 && self.forward.upstream.endpoints().nth(1).is_some() {
            self.tries_left -= 1;
            self.endpoint = Self::pick(self.named, self.forward)?;
            return Ok(());
        }
        self.wait(error).await
    }

    /// Waits for the program to listen, where the route holds requests and it may come.
    async fn wait(&mut self, error: ConnectError) -> Result<(), Failure> {
        let Some(hold) = self.forward.hold else { return Err(self.failed(error.into())) };
        let place = self.endpoint.place();
        let error = place.and_then(|place| now_known(place, &error)).unwrap_or(error);
        // Of many that are let go at once a program may not take all in time.
        let is_crowded = self.waits.is_some() && matches!(error, ConnectError::Timeout(_));
        if !(error.is_absence() || is_crowded || matches!(error, ConnectError::Closed)) || self.is_gone_for_good(&error)
        {
            return Err(self.failed(error.into()));
        }
        let now = Instant::now();
        let (since, deadline) = *self.waits.get_or_insert((now, now + hold));
        let waited = match place {
            Some(place) => place.wait(deadline).await,
            // Nobody can see when it comes: it is asked again and again.
            None if now < deadline => {
                sleep_until(deadline.min(now + AGAIN)).await;
                Ok(())
            }
            None => Err(Unheld::Expired),
        };
        let held = since.elapsed();
        self.held = Some(held);
        let (route, target) = (Arc::clone(self.named.route), self.endpoint.address().to_string());
        waited.map_err(|unheld| match unheld {
            Unheld::Crowded => Failure::Crowded { route, target },
            Unheld::Expired => Failure::HoldExpired {
                route,
                target,
                origin: self.named.origin.location(),
                held,
                reason: place.and_then(|place| now_known(place, &error)).unwrap_or(error),
            },
        })
    }

    /// A program of ours that nobody has started comes by no waiting.
    fn is_gone_for_good(&self, error: &ConnectError) -> bool {
        let is_ours = matches!(self.endpoint.address(), Address::Followed(Sought::Service(_) | Sought::Run(_)));
        is_ours && matches!(error, ConnectError::Absent(absence) if absence.kind == Absent::Gone)
    }

    fn failed(&self, reason: Reason) -> Failure {
        if matches!(reason, Reason::ClientLeft) {
            return Failure::ClientLeft;
        }
        Failure::Program {
            route: Arc::clone(self.named.route),
            target: self.endpoint.address().to_string(),
            origin: self.named.origin.location(),
            reason,
        }
    }
}

/// Why the program is not there, as far as those know who follow it.
fn now_known(place: &Place, error: &ConnectError) -> Option<ConnectError> {
    match place.standing() {
        Standing::Absent(absence) if matches!(error, ConnectError::Absent(_) | ConnectError::Closed) => {
            Some(ConnectError::Absent(absence))
        }
        _ => None,
    }
}

/// Waits for a connection, or for a program, for as long as there is a client to want it.
async fn while_there<C: Transport, T>(
    deadlines: &Deadlines,
    serving: &mut Serving<'_, C>,
    awaited: impl Future<Output = Result<T, Failure>>,
) -> Result<T, Failure> {
    let mut awaited = pin!(awaited);
    let result = poll_fn(|cx| {
        let step = awaited.as_mut().poll(cx);
        if step.is_pending() {
            match serving.watch(cx) {
                Watch::Gone => return Poll::Ready(Err(Failure::ClientLeft)),
                watch => pace::look_again(deadlines, watch == Watch::Blind),
            }
        }
        step
    })
    .await;
    deadlines.disarm(Limit::Look);
    result
}

/// Whether the body is kept, so that the request could be sent twice. Over HTTP/2 a program can refuse any request unseen.
fn is_replayable(outgoing: &Outgoing<'_>, protocol: Protocol) -> bool {
    let request = outgoing.request;
    let is_small = matches!(request.framing(), Framing::Length(1..=REPLAYABLE));
    is_small && (is_idempotent(request.method()) || protocol != Protocol::Http) && !request.expects_continue()
}

/// Whether it is a call of gRPC, whose client may have nothing to say for as long as one of a WebSocket.
fn is_call(outgoing: &Outgoing<'_>) -> bool {
    // Those come in HTTP/2 alone, and others are not searched for it.
    outgoing.client.speaks_http2()
        && Fields::first(outgoing.request, "content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"))
}

/// RFC 9110 §9.2.2
fn is_idempotent(method: &str) -> bool {
    matches!(method, "GET" | "HEAD" | "OPTIONS" | "TRACE" | "PUT" | "DELETE")
}

/// All of a small body, each piece in time.
async fn whole<C: Transport>(asked: &Asked<'_>, serving: &mut Serving<'_, C>) -> Result<Vec<u8>, Reason> {
    let mut content = Vec::new();
    let read = poll_fn(|cx| {
        while !serving.is_read() {
            match serving.poll_piece(cx, |piece| content.extend_from_slice(piece)) {
                Poll::Ready(Ok(())) => asked.deadlines.disarm(Limit::Body),
                Poll::Ready(Err(_)) => return Poll::Ready(Err(Reason::ClientLeft)),
                Poll::Pending => {
                    asked.deadlines.keep_armed_while(true, Limit::Body, BODY);
                    let is_late = asked.deadlines.is_over(Limit::Body);
                    return if is_late { Poll::Ready(Err(Reason::ClientLeft)) } else { Poll::Pending };
                }
            }
        }
        Poll::Ready(Ok(()))
    });
    read.await?;
    Ok(content)
}

/// Sends the request on one connection and passes the answer on to its end, unless there is none.
async fn exchange<C: Transport>(
    asked: &mut Asked<'_>,
    serving: &mut Serving<'_, C>,
    lease: Lease,
    sending: &Sending<'_>,
) -> Result<(), Broken> {
    let Lease { idle, mut keep } = lease;
    let mut exchange = Exchange::new(serving, idle);
    let mut pace = Pace::new(asked.deadlines, sending.limit, sending.upload);
    let status = answer(&mut exchange, &mut pace, sending, |response| {
        if let Some(theirs) = keep_alive(response) {
            keep.limit_idle(theirs);
        }
    })
    .await;
    let status = status.map_err(|failed| Broken::of(failed, &exchange))?;
    pace.answered();
    asked.record(|record| record.status = status);
    let carried = bodies(&mut exchange, &mut pace).await;
    asked.record(|record| record.received = exchange.content());
    asked.ends(match &carried {
        Ok(()) => Ending::Whole,
        Err(Cut::ClientLeft) => Ending::Left,
        Err(Cut::Program(_)) => Ending::Cut,
    });
    if carried.is_err() {
        return Ok(());
    }
    if status == 101 {
        if let Some(switched) = exchange.into_switched() {
            Box::pin(asked.tunnel(switched)).await;
        }
        return Ok(());
    }
    if !exchange.is_sent() {
        rest(&mut exchange, asked).await;
    }
    // One that was asked to change its protocol and did not is not trusted with another request.
    if sending.outgoing.upgrade.is_none()
        && let Some(idle) = exchange.into_idle()
    {
        keep.give_back(idle);
    }
    Ok(())
}

/// Sends the head, carries the body, and waits for the head of the answer.
async fn answer<C: Transport>(
    exchange: &mut Exchange<'_, '_, C, Stream>,
    pace: &mut Pace<'_>,
    sending: &Sending<'_>,
    mut note: impl FnMut(&Response<'_>),
) -> Result<u16, Failed<Reason>> {
    let mut is_begun = false;
    poll_fn(|cx| {
        if !is_begun {
            is_begun = true;
            exchange.begin(cx, |out| {
                sending.outgoing.write(out);
                out.extend_from_slice(&sending.whole);
            })?;
        }
        if pace.is_draining() {
            exchange.close_client();
        }
        loop {
            let look = |response: &Response<'_>, behind: Option<&Behind>| sending.look(response, behind);
            let step = exchange.poll_answer(cx, look, |response, out| {
                note(response);
                sending.answering.write(response, out).map_err(Reason::from)
            });
            if step.is_ready() {
                return step;
            }
            match pace.check(exchange.waits(), exchange.sent(), exchange.received()) {
                Late::Nothing => return Poll::Pending,
                Late::Answer => {
                    let reached = Box::new(Reached::of(exchange));
                    return Poll::Ready(Err(Failed::Refused(Reason::Timeout(sending.limit, reached))));
                }
                Late::Behind => exchange.wait_no_longer(),
                Late::Client => return Poll::Ready(Err(Failed::ClientLeft)),
                Late::Continue => {
                    if exchange.tell_to_continue(cx).is_err() {
                        return Poll::Ready(Err(Failed::ClientLeft));
                    }
                }
            }
        }
    })
    .await
}

/// Carries what is left of the answer.
async fn bodies<C: Transport>(exchange: &mut Exchange<'_, '_, C, Stream>, pace: &mut Pace<'_>) -> Result<(), Cut> {
    poll_fn(|cx| {
        let step = exchange.poll_bodies(cx);
        if step.is_pending() && pace.check(exchange.waits(), exchange.sent(), exchange.received()) == Late::Client {
            return Poll::Ready(Err(Cut::ClientLeft));
        }
        step
    })
    .await
}

/// Carries what is left of the request behind its whole answer: all that the program goes on to take, and within bounds
/// what nobody wants.
async fn rest<C: Transport>(exchange: &mut Exchange<'_, '_, C, Stream>, asked: &Asked<'_>) {
    let (most, time) = REST;
    let mut sent = exchange.sent();
    let most = sent + most;
    asked.deadlines.arm(Limit::Rest, time);
    poll_fn(|cx| {
        let carried = exchange.poll_rest(cx, most);
        if exchange.is_taken() && exchange.sent() != sent {
            sent = exchange.sent();
            asked.deadlines.arm(Limit::Rest, time);
        }
        if asked.deadlines.is_over(Limit::Rest) { Poll::Ready(()) } else { carried }
    })
    .await;
    asked.deadlines.disarm(Limit::Rest);
}

impl Reached {
    fn of<C: Transport>(exchange: &Exchange<'_, '_, C, Stream>) -> Self {
        Self { is_sent: exchange.is_sent(), bytes: start(exchange.unanswered()) }
    }
}

/// As much of what a program sent as is looked at where it is no answer.
fn start(bytes: &[u8]) -> Vec<u8> {
    const START: usize = 64;
    bytes[..bytes.len().min(START)].to_vec()
}

impl Broken {
    fn of<C: Transport>(failed: Failed<Reason>, exchange: &Exchange<'_, '_, C, Stream>) -> Self {
        let again = match &failed {
            Failed::Unsent => Again::Unsent,
            Failed::Unprocessed => Again::Unprocessed,
            Failed::Closed { heard: false } => Again::IfIdempotent,
            _ => Again::Never,
        };
        let reason = match failed {
            Failed::ClientLeft => Reason::ClientLeft,
            Failed::Upload(_) => Reason::Upload,
            Failed::Unsayable(error) => Reason::Unsayable(error.to_string()),
            Failed::Unsent | Failed::Unprocessed | Failed::Closed { .. } => {
                Reason::Closed(Box::new(Reached::of(exchange)))
            }
            Failed::Refused(reason) => reason,
            Failed::Head(_) | Failed::Carrier(_) | Failed::TooManyInterim => {
                Reason::Invalid(format!("its answer is not valid: {failed}"), start(exchange.unanswered()))
            }
        };
        Self { reason, again }
    }
}

/// How long the program keeps an idle connection: `Keep-Alive: timeout=5`, as Node says.
fn keep_alive(response: &Response<'_>) -> Option<Duration> {
    let timeout = response.members(Known::KeepAlive).find_map(|parameter| parameter.strip_prefix("timeout="))?;
    timeout.parse().ok().map(Duration::from_secs)
}
