//! The reference: hyper's server and hyper's client with as little between them as makes a proxy.
//!
//! All of it runs in memory and on a clock that stands still until nobody has anything to do, so it is known, and
//! not guessed, when nothing more will happen.

use std::{
    convert::Infallible,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, Version, header};
use http_body_util::{BodyExt as _, Empty, combinators::BoxBody};
use hyper::{
    body::{Body as _, Incoming},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex},
    time::sleep,
};

use super::{
    case::{self, Case, From},
    message::{self, Fields, Progress},
    origin::{Origin, Script},
    outcome::{Noted, PAIR, PAIR_ERROR, Received, Record},
    text,
};

/// What a case needs to come to an end, as it shows in the reference.
#[derive(Debug)]
pub(super) enum Plan {
    /// All that the client is to send.
    Client { stream: Vec<u8> },
    /// Whether the program is to close behind its answer.
    Program { closes: bool },
}

/// What becomes of a case in the reference, whose clients think that it is at `address`.
pub(super) fn run(case: &Case, address: &str) -> (Plan, Record) {
    match &case.from {
        From::Client => {
            let stream = |long| [&case.bytes[..], &case::last(long)].concat();
            match in_memory(client_speaks(case, address, stream(false))) {
                (record, Ending::Ended) => (Plan::Client { stream: stream(false) }, record),
                (_, Ending::Waits) => {
                    let (record, _) = in_memory(client_speaks(case, address, stream(true)));
                    (Plan::Client { stream: stream(true) }, record)
                }
            }
        }
        From::Program { request, to_head } => {
            match in_memory(program_speaks(case, address, request, *to_head, false)) {
                (record, Ending::Ended) => (Plan::Program { closes: false }, record),
                (_, Ending::Waits) => {
                    let (record, _) = in_memory(program_speaks(case, address, request, *to_head, true));
                    (Plan::Program { closes: true }, record)
                }
            }
        }
    }
}

/// Whether the bytes of the case were enough.
enum Ending {
    Ended,
    Waits,
}

/// A runtime of its own, so that nothing is left over for the next case.
fn in_memory<T>(work: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build().unwrap().block_on(work)
}

/// Returns when all that can happen has happened: only then the clock moves.
async fn quiet() {
    sleep(Duration::from_millis(1)).await;
}

async fn client_speaks(case: &Case, address: &str, stream: Vec<u8>) -> (Record, Ending) {
    let origin = Arc::new(Origin::default());
    let (mut client, noted) = connect(&origin, address);
    for segment in case.segments(&stream) {
        // The proxy may have closed.
        if client.write_all(&segment).await.is_err() {
            break;
        }
        quiet().await;
    }
    let mut answers = Vec::new();
    let ended = read_until_quiet(&mut client, &mut answers).await;
    drop(client);
    quiet().await;
    let ending = if ended { Ending::Ended } else { Ending::Waits };
    (record(answers, &origin, &noted), ending)
}

async fn program_speaks(case: &Case, address: &str, request: &[u8], to_head: bool, closes: bool) -> (Record, Ending) {
    let origin = Arc::new(Origin::default());
    origin.plays(Script::Says { segments: case.segments(&case.bytes), closes });
    let (mut client, noted) = connect(&origin, address);
    client.write_all(request).await.unwrap();
    let mut answers = Vec::new();
    let ended = read_until_quiet(&mut client, &mut answers).await;
    // A program that said something else than an answer is not asked again, nor does it wait for that.
    if !closes && !is_answer(&answers, to_head, ended) {
        return (Record::default(), Ending::Waits);
    }
    // Where the connection has ended nobody takes it.
    if client.write_all(&case::last(false)).await.is_ok() {
        read_until_quiet(&mut client, &mut answers).await;
    }
    (record(answers, &origin, &noted), Ending::Ended)
}

fn is_answer(answers: &[u8], to_head: bool, ended: bool) -> bool {
    match message::answer(answers, to_head, ended) {
        Progress::Whole(answered, _) => answered.last.head.field(PAIR_ERROR).is_none(),
        Progress::Part(_) | Progress::Fault(_) => false,
    }
}

fn record(answers: Vec<u8>, origin: &Origin, noted: &Mutex<Noted>) -> Record {
    let seen = origin.seen();
    assert!(seen.faults.is_empty(), "the reference sent {:?}", seen.faults);
    Record { answers, requests: seen.requests, noted: std::mem::take(&mut noted.lock().unwrap()) }
}

/// Whether the other side has ended.
async fn read_until_quiet(client: &mut DuplexStream, answers: &mut Vec<u8>) -> bool {
    loop {
        tokio::select! {
            biased;
            read = client.read_buf(answers) => if read.unwrap() == 0 {
                return true;
            },
            () = quiet() => return false,
        }
    }
}

/// More than any case sends.
const ROOM: usize = 1 << 20;

/// A client of the reference, and what the reference notes.
fn connect(origin: &Arc<Origin>, address: &str) -> (DuplexStream, Arc<Mutex<Noted>>) {
    let (near, far) = duplex(ROOM);
    let noted = Arc::<Mutex<Noted>>::default();
    let proxy = Proxy {
        origin: Arc::clone(origin),
        noted: Arc::clone(&noted),
        address: HeaderValue::from_str(address).unwrap(),
    };
    tokio::spawn(async move {
        let service = service_fn(|request| {
            let proxy = proxy.clone();
            async move { Ok::<_, Infallible>(proxy.forward(request).await) }
        });
        // How it ends is seen by the client.
        let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
    });
    (near, noted)
}

type Body = BoxBody<Bytes, hyper::Error>;

/// What stands between hyper's server and hyper's client.
#[derive(Clone)]
struct Proxy {
    origin: Arc<Origin>,
    noted: Arc<Mutex<Noted>>,
    address: HeaderValue,
}

impl Proxy {
    async fn forward(self, request: Request<Incoming>) -> Response<Body> {
        let number = self.note(&request);
        if request.method() == Method::CONNECT {
            // No tunnel, neither here nor there.
            return own(StatusCode::METHOD_NOT_ALLOWED, number);
        }
        let (near, far) = duplex(ROOM);
        let origin = Arc::clone(&self.origin);
        tokio::spawn(async move { origin.serve(far).await });
        let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        match sender.send_request(self.outgoing(request, number)).await {
            Ok(response) => self.answer(response),
            Err(error) if error.is_user() => own(StatusCode::BAD_REQUEST, number),
            Err(_) => own(StatusCode::BAD_GATEWAY, number),
        }
    }

    /// Returns its number.
    fn note(&self, request: &Request<Incoming>) -> usize {
        let received = &mut self.noted.lock().unwrap().received;
        let number = received.len();
        received.push(Received {
            number,
            method: request.method().to_string(),
            target: request.uri().to_string(),
            is_old: request.version() == Version::HTTP_10,
            fields: listed(request.headers()),
        });
        number
    }

    fn outgoing(&self, request: Request<Incoming>, number: usize) -> Request<Incoming> {
        let (incoming, body) = request.into_parts();
        let is_chunked = !body.is_end_stream() && body.size_hint().exact().is_none();
        let mut request = Request::new(body);
        *request.method_mut() = incoming.method;
        *request.uri_mut() = incoming.uri.path_and_query().cloned().map_or_else(|| Uri::from_static("/"), Uri::from);
        let mut fields = end_to_end(&incoming.headers, is_about_the_client);
        if let Some(authority) = incoming.uri.authority() {
            // RFC 9112 §3.2.2: it counts, and no Host field.
            fields.insert(header::HOST, HeaderValue::from_str(authority.as_str()).unwrap());
        } else if incoming.version == Version::HTTP_10 {
            // RFC 9112 §3.3: where nothing names an authority it is that of the connection.
            fields.entry(header::HOST).or_insert(self.address.clone());
        }
        if is_chunked {
            fields.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
        }
        fields.insert(PAIR, HeaderValue::from(number));
        *request.headers_mut() = fields;
        if incoming.version == Version::HTTP_11 {
            let noted = Arc::clone(&self.noted);
            hyper::ext::on_informational(&mut request, move |interim| {
                let fields = listed(&end_to_end(interim.headers(), |_| false));
                noted.lock().unwrap().interim.push((interim.status().as_u16(), fields));
            });
        }
        request
    }

    fn answer(&self, response: Response<Incoming>) -> Response<Body> {
        let (mut parts, body) = response.into_parts();
        let length = parts.headers.get(header::CONTENT_LENGTH).cloned();
        let is_chunked = parts.headers.contains_key(header::TRANSFER_ENCODING);
        parts.headers = end_to_end(&parts.headers, |name| name == header::CONTENT_LENGTH);
        // Where there is no body it is the length of another answer, which hyper passes on without a look.
        let is_number = |length: &HeaderValue| !length.is_empty() && length.as_bytes().iter().all(u8::is_ascii_digit);
        let may_be_told = !is_chunked && body.is_end_stream() && parts.status != StatusCode::NO_CONTENT;
        if let Some(length) = length.filter(|length| may_be_told && is_number(length)) {
            parts.headers.insert(header::CONTENT_LENGTH, length);
        }
        parts.version = Version::HTTP_11;
        parts.extensions.clear();
        let noted = Arc::clone(&self.noted);
        let body = body.map_err(move |error| {
            noted.lock().unwrap().broken = true;
            error
        });
        Response::from_parts(parts, body.boxed())
    }
}

fn own(status: StatusCode, number: usize) -> Response<Body> {
    let mut response = Response::new(Empty::new().map_err(|never| match never {}).boxed());
    *response.status_mut() = status;
    response.headers_mut().insert(PAIR_ERROR, HeaderValue::from(number));
    if status.is_client_error() {
        response.headers_mut().insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    response
}

fn listed(fields: &HeaderMap) -> Fields {
    fields.iter().map(|(name, value)| (name.to_string(), text(value.as_bytes()))).collect()
}

/// The fields that go further (RFC 9110 §7.6.1), and not those that are `dropped` besides.
fn end_to_end(incoming: &HeaderMap, dropped: impl Fn(&HeaderName) -> bool) -> HeaderMap {
    const OF_ONE_HOP: &[&str] = &[
        "connection",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "proxy-connection",
        "te",
        "transfer-encoding",
        "upgrade",
    ];
    // Whoever names these in Connection is not served by that.
    const OF_BOTH_ENDS: &[&str] = &["authorization", "content-length", "cookie", "host", "set-cookie", "via"];
    let options = incoming.get_all(header::CONNECTION).into_iter().map(|value| text(value.as_bytes()));
    let named: Vec<String> = options.flat_map(|value| list(&value)).collect();
    let goes = |name: &HeaderName| {
        let is_named = named.iter().any(|option| option == name.as_str()) && !OF_BOTH_ENDS.contains(&name.as_str());
        !is_named && !OF_ONE_HOP.contains(&name.as_str()) && !dropped(name)
    };
    incoming.iter().filter(|(name, _)| goes(name)).map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn list(value: &str) -> Vec<String> {
    value.split(',').map(|member| member.trim().to_ascii_lowercase()).collect()
}

/// What a proxy says of its client, and does not let its client say.
fn is_about_the_client(name: &HeaderName) -> bool {
    let name = name.as_str().replace('_', "-");
    name == "forwarded"
        || ["for", "host", "port", "proto", "ssl"].iter().any(|what| name.strip_prefix("x-forwarded-") == Some(what))
}
