//! The hot path: a request comes in, a route answers, its answer goes out.
//!
//! [`Worker::handle`] never fails: whatever goes wrong becomes a page that tells the cause. What it wraps reads
//! top to bottom as the life of a request: check the head, find the route, ask its filters, then answer here or send
//! it to a program.

pub mod body;
mod failure;
pub mod head;
mod send;
mod upgrade;

use std::{
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::Arc,
    task::Poll,
};

use body::{Download, Source, Upload};
use failure::Failure;
use head::{Checked, HeaderFields, Hops, Outgoing};
use http::{HeaderName, HeaderValue, Method, Request, Response, StatusCode, header, request};
use hyper::{
    body::{Body, Incoming},
    upgrade::OnUpgrade,
};

pub use head::Client;

use crate::{
    config::{Respond, RespondBody},
    filter::{self, RequestEdits, Verdict},
    head::RequestHead,
    listen::deadlines::Deadlines,
    live::{Action, Reader, Route, Snapshot},
    observe::{Exchange, Kind, Log, Record},
    respond::{self, Answer},
    upstream::pool::Pools,
};

/// Everything that one thread needs to answer requests. Nothing of it is shared but the table, which never changes.
#[derive(Debug)]
pub struct Worker {
    live: Reader,
    pools: Rc<Pools<Upload>>,
    log: Log,
    /// Our name in Via, and our member of it.
    name: String,
    via: HeaderValue,
}

/// One request, from its head to its answer.
struct Asked<'a> {
    parts: &'a request::Parts,
    client: &'a Rc<Client>,
    deadlines: &'a Arc<Deadlines>,
    exchange: Option<Box<Exchange>>,
}

impl Worker {
    /// A worker of the proxy that listens on `port`, by which it is told from others in Via.
    pub fn new(live: Reader, log: Log, port: u16) -> Self {
        let name = format!("portolan:{port}");
        let via = head::value(&format!("1.1 {name}"));
        Self { live, pools: Rc::default(), log, name, via }
    }

    /// Looks after what nobody asks for meanwhile; call it every [`crate::upstream::pool::SWEEP`]. A worker without requests lets go of
    /// the table of the past all the same, and so of its endpoints and their health checks.
    pub fn sweep(&self) {
        drop(self.live.load());
        self.pools.sweep();
    }

    /// Answers a request, whatever happens.
    pub async fn handle(
        self: Rc<Self>,
        client: Rc<Client>,
        deadlines: Arc<Deadlines>,
        mut request: Request<Incoming>,
    ) -> Response<Download> {
        let on_upgrade = request.extensions().get::<OnUpgrade>().is_some().then(|| hyper::upgrade::on(&mut request));
        let (parts, incoming) = request.into_parts();
        if incoming.is_end_stream() {
            deadlines.all_read();
        } else {
            deadlines.leave_unread();
        }
        let exchange = self.log.begin(|| record(&parts)).map(Box::new);
        let mut asked = Asked { parts: &parts, client: &client, deadlines: &deadlines, exchange };
        let snapshot = self.live.load();
        let checked = head::check(&parts, &client);
        let answered = match &checked {
            Ok(checked) => contained(self.try_handle(&mut asked, &snapshot, checked, incoming, on_upgrade)).await,
            Err(refusal) => Err(Failure::Refused(*refusal)),
        };
        answered.unwrap_or_else(|failure| {
            let host = checked.as_ref().ok().map(|checked| &checked.host);
            let answer = failure.answer(&parts, host, &client, &snapshot);
            asked.record(|record| {
                record.cause = Some(failure.cause().word());
                record.kind = Kind::Answered;
            });
            let mut response = asked.finish(answer);
            if failure.ends_connection() {
                response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
            }
            response
        })
    }

    async fn try_handle(
        &self,
        asked: &mut Asked<'_>,
        snapshot: &Snapshot,
        checked: &Checked,
        incoming: Incoming,
        on_upgrade: Option<OnUpgrade>,
    ) -> Result<Response<Download>, Failure> {
        let parts = asked.parts;
        let fields = HeaderFields(&parts.headers);
        let head = plain(parts, checked, &fields);
        if !snapshot.table.knows(&checked.host) {
            return Err(Failure::UnknownHost);
        }
        if head::has_been_here(&parts.headers, checked, &self.name) {
            return Err(Failure::Loop);
        }
        let hit = snapshot.table.find(&head).ok_or(Failure::NoRoute)?;
        let route = snapshot.route(hit.route);
        asked.record(|record| record.route = Some(Arc::clone(&route.name)));
        let edits = match filter::on_request(&route.filters, &head, hit.prefix) {
            Verdict::Continue(edits) => edits,
            Verdict::Answer(answer) => return Ok(asked.answer(answer, "cors")),
        };
        let mut response = match &route.action {
            Action::Forward(forward) => {
                let hops = head::hops(parts)?;
                if hops == Hops::None {
                    return Ok(asked.answer(last_hop(parts), "max-forwards"));
                }
                let outgoing = self.outgoing(asked, checked, &edits, hops);
                self.send(asked, route, forward, &outgoing, incoming, on_upgrade).await?
            }
            Action::Redirect(redirect) => asked.answer(Answer::redirect(redirect.status, &redirect.to), "redirect"),
            Action::Respond(respond) => {
                let answer = Box::pin(written(respond)).await.map_err(|(path, error)| Failure::NoAnswerFile {
                    route: Arc::clone(&route.name),
                    path,
                    error,
                })?;
                asked.answer(answer, "respond")
            }
            Action::Files(folder) => {
                let path =
                    edits.target.as_deref().map_or(head.path, |target| target.split('?').next().unwrap_or(target));
                let found = Box::pin(folder.answer(&head, path)).await;
                let answer = found.map_err(|missing| Failure::NoFile { route: Arc::clone(&route.name), missing })?;
                asked.answer(answer, "files")
            }
        };
        edit(&mut response, route, &head);
        Ok(response)
    }

    fn outgoing<'a>(
        &'a self,
        asked: &Asked<'a>,
        checked: &'a Checked,
        edits: &'a RequestEdits<'_>,
        hops: Hops,
    ) -> Outgoing<'a> {
        Outgoing {
            client: asked.client,
            checked,
            via: &self.via,
            target: edits.target.as_deref(),
            authority: edits.authority,
            edits: edits.fields,
            upgrade: head::upgrade(asked.parts, checked),
            hops,
        }
    }
}

impl Asked<'_> {
    /// Notes something in the record, where one is kept.
    fn record(&mut self, note: impl FnOnce(&mut Record)) {
        if let Some(exchange) = &mut self.exchange {
            note(exchange.record());
        }
    }

    /// An answer of our own, which `what` in the table said.
    fn answer(&mut self, answer: Answer, what: &str) -> Response<Download> {
        self.record(|record| {
            record.kind = Kind::Answered;
            what.clone_into(&mut record.target);
        });
        self.finish(answer)
    }

    /// Status, fields and body for the client; the exchange goes on with the body.
    fn finish(&mut self, answer: Answer) -> Response<Download> {
        self.record(|record| record.status = answer.status);
        let source = match answer.body {
            respond::Body::Empty => Source::Empty,
            respond::Body::Bytes(bytes) => Source::Bytes((!bytes.is_empty()).then_some(bytes)),
            respond::Body::Stream(file) => Source::File(file),
        };
        let mut response = Response::new(self.download(source));
        *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        for (name, value) in &answer.fields {
            if let Ok(name) = HeaderName::try_from(name.as_ref()) {
                response.headers_mut().append(name, head::value(value));
            }
        }
        response
    }

    fn download(&mut self, source: Source) -> Download {
        let mut download = Download::new(source, Arc::clone(self.deadlines), self.exchange.take());
        if self.parts.method == Method::HEAD {
            // Nobody will read it.
            download.end();
        }
        download
    }
}

/// The parts that table and filters look at.
fn plain<'a>(parts: &'a request::Parts, checked: &'a Checked, fields: &'a HeaderFields<'a>) -> RequestHead<'a> {
    RequestHead {
        method: parts.method.as_str(),
        path: parts.uri.path(),
        query: parts.uri.query(),
        host: &checked.host,
        fields,
    }
}

/// What the log says of a request before it is answered.
fn record(parts: &request::Parts) -> Record {
    let host = parts.headers.get(header::HOST).map(|host| String::from_utf8_lossy(host.as_bytes()).into_owned());
    Record {
        method: parts.method.as_str().to_owned(),
        host: host.unwrap_or_default(),
        path: parts.uri.path().to_owned(),
        query: parts.uri.query().map(str::to_owned),
        ..Record::default()
    }
}

/// What the route's filters say of the answer.
fn edit(response: &mut Response<Download>, route: &Route, head: &RequestHead<'_>) {
    let edits = filter::on_response(&route.filters, head);
    if edits.is_empty() || response.status() == StatusCode::SWITCHING_PROTOCOLS {
        return;
    }
    if let Some(cors) = &edits.cors {
        head::apply(cors, response.headers_mut());
    }
    head::apply(edits.fields, response.headers_mut());
}

/// The answer that stands in the table.
async fn written(respond: &Respond) -> Result<Answer, (std::path::PathBuf, std::io::Error)> {
    let answer = match &respond.body {
        RespondBody::Empty => Answer::empty(respond.status),
        RespondBody::Text(text) => Answer::text(respond.status, text.clone()),
        RespondBody::Json(json) => Answer::json(respond.status, json.clone()),
        RespondBody::File(path) => Answer::file(respond.status, path).await.map_err(|error| (path.clone(), error))?,
    };
    Ok(answer.with_fields(&respond.headers))
}

/// The answer to a TRACE or OPTIONS that may not go further (RFC 9110 §7.6.2). TRACE would have to reflect the
/// request, credentials and all: it is refused instead.
fn last_hop(parts: &request::Parts) -> Answer {
    let status = if parts.method == Method::TRACE { 405 } else { 204 };
    Answer::empty(status).with("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned())
}

/// Turns a panic into a failure of this one request; everything else on the thread goes on.
async fn contained<T>(work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let mut work = pin!(work);
    poll_fn(|cx| catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx))).unwrap_or(Poll::Ready(Err(Failure::Panic))))
        .await
}
