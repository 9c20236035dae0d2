//! The hot path: a request comes in, a route answers, its answer goes out.
//!
//! [`Worker::handle`] never fails: whatever goes wrong becomes a page that tells the cause. What it wraps reads
//! top to bottom as the life of a request: check the head, find the route, ask its filters, then answer here or send
//! it to a program.

mod answer;
mod clue;
mod facts;
mod failure;
pub mod head;
mod host_refused;
mod pace;
mod send;
mod tcp;
mod tunnel;

use std::{
    cell::Cell,
    collections::HashSet,
    future::poll_fn,
    panic::{AssertUnwindSafe, catch_unwind},
    pin::pin,
    rc::Rc,
    sync::{Arc, Mutex, PoisonError},
    task::Poll,
    time::SystemTime,
};

use facts::Setting;
use failure::Failure;
use head::{Checked, Hops, Outgoing};

pub use head::{Client, WayIn};

use crate::{
    config::{Respond, RespondBody},
    discover::look::Looks,
    filter::{self, RequestEdits, ResponseEdits, Verdict},
    head::RequestHead,
    http1::{
        head::{HeadError, Known, Request},
        leg::Transport,
        server::{Came, Connection, Serving},
    },
    listen::deadlines::{Deadlines, Seat},
    live::{Action, Reader, Snapshot},
    observe::{Ending, Exchange, Kind, Log, Record},
    respond::Answer,
    upstream::pool::Pools,
};

/// What the workers of a proxy share for requests that fail; those that are answered never touch it.
#[derive(Debug, Default)]
pub struct Common {
    /// Who listens on this machine.
    looks: Looks,
    said: Mutex<HashSet<String>>,
}

/// A client can make up as many host names as it likes: a terminal that heard of so many refused ones has heard enough.
const MOST_SAID: usize = 100;

impl Common {
    /// Says a sentence in the terminal, once and never again.
    fn say_once(&self, sentence: String) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() < MOST_SAID && !said.contains(&sentence) {
            tracing::warn!(target: "portolan", "{sentence}");
            said.insert(sentence);
        }
    }
}

/// Everything that one thread needs to answer requests. Nothing of it is shared but the table, which never changes, and
/// what only failures need.
#[derive(Debug)]
pub struct Worker {
    live: Reader,
    pools: Rc<Pools>,
    log: Log,
    common: Arc<Common>,
    /// Our name in Via.
    name: String,
    /// Our member of it, for requests that come in HTTP/1 and in HTTP/2.
    via: [String; 2],
    /// What the clock says, as a Date field (RFC 9110 §5.6.7).
    date: Cell<[u8; 29]>,
}

/// One request, from its head to the end of its answer.
struct Asked<'a> {
    request: &'a Request,
    client: &'a Client,
    deadlines: &'a Deadlines,
    exchange: Option<Box<Exchange>>,
}

impl Worker {
    /// A worker of the proxy that listens on `port`, by which it is told from others in Via.
    pub fn new(live: Reader, log: Log, common: Arc<Common>, port: u16) -> Self {
        let name = format!("portolan:{port}");
        let via = ["1.1", "2"].map(|version| format!("{version} {name}"));
        Self { live, pools: Rc::default(), log, common, name, via, date: Cell::new(date()) }
    }

    /// Looks after what nobody asks for meanwhile; call it every [`crate::upstream::pool::SWEEP`]. A worker without requests lets go of
    /// the table of the past all the same, and so of its endpoints and their health checks.
    pub fn sweep(&self) {
        drop(self.live.load());
        self.pools.sweep();
        self.date.set(date());
    }

    /// Answers what came on a client's connection, whatever happens, and gives the connection back.
    pub async fn handle<C: Transport>(
        self: Rc<Self>,
        seat: Rc<Seat<Client>>,
        mut connection: Connection<C>,
        came: Came,
    ) -> Connection<C> {
        let Seat { deadlines, client } = &*seat;
        let request = match came {
            Came::Request(request) => request,
            Came::Nonsense(error) => {
                Box::pin(self.refuse_nonsense(client, deadlines, &mut connection, error)).await;
                return connection;
            }
            Came::End | Came::Foreign(_) => return connection,
        };
        let exchange = self.log.begin(|| record(&request)).map(Box::new);
        let mut asked = Asked { request: &request, client, deadlines, exchange };
        let mut serving = connection.serve(Some(&request));
        if deadlines.is_draining() {
            serving.close();
        }
        let snapshot = self.live.load();
        let answered = {
            let mut work = pin!(self.try_handle(&mut asked, &mut serving, &snapshot));
            // A panic is a failure of this one request; everything else on the thread goes on.
            poll_fn(|cx| {
                let step = catch_unwind(AssertUnwindSafe(|| work.as_mut().poll(cx)));
                step.unwrap_or(Poll::Ready(Err(Failure::Panic)))
            })
            .await
        };
        match answered {
            Ok(()) => serving.finish(),
            Err(failure) => Box::pin(self.tell(asked, serving, &snapshot, failure)).await,
        }
        connection
    }

    /// Tells the client what is wrong, if it is still there.
    async fn tell<C: Transport>(
        &self,
        mut asked: Asked<'_>,
        mut serving: Serving<'_, C>,
        snapshot: &Snapshot,
        failure: Failure,
    ) {
        if serving.is_answered() {
            // Nothing can be told any more behind the head of another answer; dropped unfinished, it breaks off.
            return asked.ends(Ending::Cut);
        }
        asked.deadlines.disarm_all();
        let asked_address = head::host_of_none(asked.request, asked.client);
        let checked = head::check(asked.request, asked_address.as_deref());
        let host = checked.as_ref().ok().map(|checked| &checked.host);
        if matches!(failure, Failure::ClientLeft) {
            return asked.ends(Ending::Left);
        }
        let sight =
            if failure.is_explained_by_looking(asked.client, host) { self.common.looks.look().await } else { None };
        let setting = Setting { client: asked.client, snapshot, sight: sight.as_deref() };
        let answer = failure.answer(Some(asked.request), host, &setting);
        asked.fails(failure.cause());
        if failure.ends_connection() || asked.deadlines.is_draining() {
            serving.close();
        }
        self.answer(&mut asked, &mut serving, answer, ResponseEdits::NONE).await;
        serving.finish();
    }

    /// Answers bytes that could not be read as a request.
    async fn refuse_nonsense<C: Transport>(
        &self,
        client: &Client,
        deadlines: &Deadlines,
        connection: &mut Connection<C>,
        error: HeadError,
    ) {
        let failure = Failure::Refused(error.into());
        let exchange = self.log.begin(Record::default).map(Box::new);
        let nothing = Request::default();
        let mut asked = Asked { request: &nothing, client, deadlines, exchange };
        let mut serving = connection.serve(None);
        let snapshot = self.live.load();
        let answer = failure.answer(None, None, &Setting { client, snapshot: &snapshot, sight: None });
        asked.fails(failure.cause());
        self.answer(&mut asked, &mut serving, answer, ResponseEdits::NONE).await;
        serving.finish();
    }

    async fn try_handle<C: Transport>(
        &self,
        asked: &mut Asked<'_>,
        serving: &mut Serving<'_, C>,
        snapshot: &Snapshot,
    ) -> Result<(), Failure> {
        let request = asked.request;
        let asked_address = head::host_of_none(request, asked.client);
        let checked = &head::check(request, asked_address.as_deref())?;
        let head = plain(request, checked);
        if !snapshot.table.knows(&checked.host) {
            return Err(Failure::UnknownHost);
        }
        if !asked.client.may_ask(&checked.host) {
            return Err(Failure::Misdirected);
        }
        if head::has_been_here(request, &self.name) {
            return Err(Failure::Loop);
        }
        let hit = snapshot.table.find(&head).ok_or(Failure::NoRoute)?;
        let route = snapshot.route(hit.route);
        asked.record(|record| record.route = Some(Arc::clone(&route.name)));
        let edits = match filter::on_request(&route.filters, &head, hit.prefix) {
            Verdict::Continue(edits) => edits,
            Verdict::Answer(answer) => {
                Box::pin(self.say(asked, serving, answer, "cors", ResponseEdits::NONE)).await;
                return Ok(());
            }
        };
        let response_edits = filter::on_response(&route.filters, &head);
        let (answer, what) = match &route.action {
            Action::Forward(forward) => {
                let hops = head::hops(request)?;
                if hops != Hops::None {
                    let outgoing = self.outgoing(asked, checked, &edits, hops);
                    return self.send(asked, serving, route, forward, &outgoing, &response_edits).await;
                }
                (last_hop(request), "max-forwards")
            }
            Action::Redirect(redirect) => (Answer::redirect(redirect.status, &redirect.to), "redirect"),
            Action::Respond(respond) => {
                let answer = Box::pin(written(respond)).await.map_err(|(path, error)| Failure::NoAnswerFile {
                    route: Arc::clone(&route.name),
                    path,
                    error,
                })?;
                (answer, "respond")
            }
            Action::Files(folder) => {
                let path =
                    edits.target.as_deref().map_or(head.path, |target| target.split('?').next().unwrap_or(target));
                let found = Box::pin(folder.answer(&head, path)).await;
                let answer = found.map_err(|missing| Failure::NoFile { route: Arc::clone(&route.name), missing })?;
                (answer, "files")
            }
        };
        Box::pin(self.say(asked, serving, answer, what, response_edits)).await;
        Ok(())
    }

    fn outgoing<'a>(
        &'a self,
        asked: &Asked<'a>,
        checked: &'a Checked<'a>,
        edits: &'a RequestEdits<'_>,
        hops: Hops,
    ) -> Outgoing<'a> {
        Outgoing {
            request: asked.request,
            client: asked.client,
            checked,
            via: &self.via[usize::from(asked.client.speaks_http2())],
            target: edits.target.as_deref(),
            authority: edits.authority,
            edits: edits.fields,
            upgrade: head::upgrade(asked.request),
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

    /// Whether the connection may leave HTTP.
    fn asks_for_another_protocol(&self) -> bool {
        head::upgrade(self.request).is_some()
    }

    /// How it ended.
    fn ends(&mut self, ending: Ending) {
        self.record(|record| record.ending = ending);
    }

    /// An answer of ours, for this reason, is all that comes.
    fn fails(&mut self, cause: crate::respond::pages::Cause) {
        self.record(|record| {
            record.cause = Some(cause.word());
            record.kind = Kind::Answered;
        });
    }
}

/// The parts that table and filters look at.
fn plain<'a>(request: &'a Request, checked: &'a Checked<'a>) -> RequestHead<'a> {
    RequestHead {
        method: request.method(),
        path: request.path(),
        query: request.query(),
        host: &checked.host,
        fields: request,
    }
}

/// What the log says of a request before it is answered.
fn record(request: &Request) -> Record {
    let host = request.first(Known::Host).map(|host| String::from_utf8_lossy(host).into_owned());
    Record {
        method: request.method().to_owned(),
        host: host.unwrap_or_default(),
        path: request.path().to_owned(),
        query: request.query().map(str::to_owned),
        ..Record::default()
    }
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
fn last_hop(request: &Request) -> Answer {
    let status = if request.method() == "TRACE" { 405 } else { 204 };
    Answer::empty(status).with("allow", "GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS".to_owned())
}

/// The present time as RFC 9110 §5.6.7 writes it.
fn date() -> [u8; 29] {
    let text = httpdate::fmt_http_date(SystemTime::now());
    text.as_bytes().try_into().unwrap_or([b' '; 29])
}
