//! The socket's own side: each request becomes an [`Ask`], and its reply an answer.

use std::{
    convert::Infallible,
    pin::Pin,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use http::{Method, Request, Response, StatusCode};
use http_body::{Body, Frame, SizeHint};
use http_body_util::{BodyExt, Limited};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::TokioIo;
use serde::{Serialize, de::DeserializeOwned};
use tokio::{
    net::UnixStream,
    sync::{mpsc, oneshot},
};

use super::{
    Ask, Feed,
    api::{Problem, Register, ServicesOrder},
    socket::{Bound, is_ours},
};

/// What a command may send.
const LONGEST: usize = 64 * 1024;

/// Answers commands until dropped.
pub async fn serve(socket: Bound, asks: mpsc::Sender<Ask>) {
    loop {
        let Ok((stream, _)) = socket.listener.accept().await else {
            // No descriptor is left, most likely.
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
            continue;
        };
        if is_ours(&stream) {
            tokio::spawn(converse(stream, asks.clone()));
        }
    }
}

async fn converse(stream: UnixStream, asks: mpsc::Sender<Ask>) {
    let pid = stream.peer_cred().ok().and_then(|peer| peer.pid()).map_or(0, i32::cast_unsigned);
    let service = service_fn(|request| {
        let asks = asks.clone();
        async move { Ok::<_, Infallible>(answer(request, pid, &asks).await) }
    });
    // A command that goes away in the middle is no matter.
    let _ = http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, pid: u32, asks: &mpsc::Sender<Ask>) -> Response<Told> {
    match try_answer(request, pid, asks).await {
        Ok(response) => response,
        Err((status, problem)) => told(status, &problem),
    }
}

type Refused = (StatusCode, Problem);

async fn try_answer(request: Request<Incoming>, pid: u32, asks: &mpsc::Sender<Ask>) -> Result<Response<Told>, Refused> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query().unwrap_or_default().to_owned();
    match (&parts.method, parts.uri.path()) {
        (&Method::GET, "/v1/status") => Ok(told(StatusCode::OK, &ask(asks, Ask::Status).await?)),
        (&Method::POST, "/v1/reload") => Ok(told(StatusCode::OK, &ask(asks, Ask::Reload).await?)),
        (&Method::POST, "/v1/stop") => Ok(told(StatusCode::OK, &ask(asks, Ask::Stop).await?)),
        (&Method::POST, "/v1/services") => {
            let ServicesOrder { action, names, table } = read(body).await?;
            same_table(asks, table).await?;
            Ok(told(StatusCode::OK, &ask(asks, |reply| Ask::Services(action, names, reply)).await?))
        }
        (&Method::GET, "/v1/logs") => {
            let pairs = || query.split('&').filter_map(|pair| pair.split_once('='));
            let names = pairs().filter(|(name, _)| *name == "name").map(|(_, value)| value.to_owned()).collect();
            let follow = pairs().any(|pair| pair == ("follow", "1"));
            let feed = ask(asks, |reply| Ask::Logs { names, follow, reply }).await?;
            Ok(streamed(None, feed, None))
        }
        (&Method::POST, "/v1/runs") => {
            let wish: Register = read(body).await?;
            let registration = ask(asks, |reply| Ask::Register { wish, pid, reply }).await?;
            Ok(streamed(Some(line(&registration.given)), registration.news, Some(registration.alive)))
        }
        (&Method::POST, "/v1/runs/end") => {
            Ok(told(StatusCode::OK, &ask(asks, |reply| Ask::Unregister(pid, reply)).await?))
        }
        (_, path) => {
            let problem = Problem::new(
                "unknown-request",
                format!("{} {path} is nothing that this portolan knows", parts.method),
            )
            .help(
                "the command and the running portolan may be of two versions: end the running one with `portolan stop`",
            );
            Err((StatusCode::NOT_FOUND, problem))
        }
    }
}

/// A proxy that runs with another table is not the one that was meant.
async fn same_table(asks: &mpsc::Sender<Ask>, meant: Option<std::path::PathBuf>) -> Result<(), Refused> {
    let status = ask(asks, Ask::Status).await?;
    let runs = status.table.map(|table| table.file);
    if meant.is_none() || meant == runs {
        return Ok(());
    }
    let whose = runs.map_or_else(|| "no table".to_owned(), |file| crate::diagnostic::shown(&file));
    let problem =
        Problem::new("another-table", format!("the portolan that runs there (pid {}) has {whose}", status.pid))
            .help("end it with `portolan stop`, or let this table `listen` on another port");
    Err((StatusCode::CONFLICT, problem))
}

async fn ask<T>(asks: &mpsc::Sender<Ask>, ask: impl FnOnce(super::Reply<T>) -> Ask) -> Result<T, Refused> {
    let (reply, answer) = oneshot::channel();
    let ending = || (StatusCode::SERVICE_UNAVAILABLE, Problem::new("ending", "this portolan is about to end"));
    asks.send(ask(reply)).await.map_err(|_| ending())?;
    answer.await.map_err(|_| ending())?.map_err(|problem| (StatusCode::CONFLICT, problem))
}

async fn read<T: DeserializeOwned>(body: Incoming) -> Result<T, Refused> {
    let bad = |why: String| (StatusCode::BAD_REQUEST, Problem::new("bad-request", why));
    let bytes = Limited::new(body, LONGEST).collect().await.map_err(|error| bad(error.to_string()))?.to_bytes();
    serde_json::from_slice(&bytes).map_err(|error| bad(error.to_string()))
}

fn line(value: &impl Serialize) -> Bytes {
    // Types of ours have string keys only, and paths are made text.
    let mut text = serde_json::to_string(value).unwrap_or_default();
    text.push('\n');
    text.into()
}

fn told(status: StatusCode, value: &impl Serialize) -> Response<Told> {
    respond(status, "application/json", Told { first: Some(line(value)), feed: None, _alive: None })
}

fn streamed(first: Option<Bytes>, feed: Feed, alive: Option<oneshot::Sender<()>>) -> Response<Told> {
    respond(StatusCode::OK, "application/x-ndjson", Told { first, feed: Some(feed), _alive: alive })
}

fn respond(status: StatusCode, kind: &'static str, body: Told) -> Response<Told> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(http::header::CONTENT_TYPE, http::HeaderValue::from_static(kind));
    response
}

/// A body: one piece, then lines as they come. What lives as long as its connection is dropped with it.
struct Told {
    first: Option<Bytes>,
    feed: Option<Feed>,
    _alive: Option<oneshot::Sender<()>>,
}

impl Body for Told {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        if let Some(first) = self.first.take() {
            return Poll::Ready(Some(Ok(Frame::data(first))));
        }
        let Some(Feed(lines)) = &mut self.feed else { return Poll::Ready(None) };
        let next = ready!(lines.poll_recv(cx));
        Poll::Ready(next.map(|mut line| {
            line.push('\n');
            Ok(Frame::data(line.into()))
        }))
    }

    fn size_hint(&self) -> SizeHint {
        match (&self.first, &self.feed) {
            (first, None) => SizeHint::with_exact(first.as_ref().map_or(0, |first| first.len() as u64)),
            _ => SizeHint::default(),
        }
    }
}
