//! What bare hyper does that is surprising and relied on, or made good, elsewhere: the list of differences from it in
//! `differential` above all. A test that fails after an upgrade says which of our own lines to look at again; none of
//! them says how things should be.

use std::{
    convert::Infallible,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, combinators::BoxBody};
use hyper::{
    Request, Response,
    body::{Body, Frame, Incoming, SizeHint},
    client, server,
    service::service_fn,
};
use hyper_util::rt::TokioIo;
use tokio::{
    io::{DuplexStream, duplex},
    sync::mpsc,
};

use crate::harness::{End, Framing, GET, OK, Wire, within};

/// A request as a service of hyper sees it, its body read to the end.
#[derive(Debug)]
struct Served {
    target: String,
    fields: Vec<(String, String)>,
    body: Result<String, String>,
}

impl Served {
    fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
    }
}

/// A client of a bare server that answers everything with 200, and what its service sees.
fn server() -> (Wire<DuplexStream>, mpsc::UnboundedReceiver<Served>) {
    let (near, far) = duplex(1 << 20);
    let (tell, told) = mpsc::unbounded_channel();
    tokio::spawn(async move {
        let service = service_fn(|request: Request<Incoming>| {
            let tell = tell.clone();
            async move {
                let (parts, body) = request.into_parts();
                let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
                let fields =
                    parts.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value.as_bytes())));
                let fields = fields.collect();
                let body = body.collect().await.map(|body| text(&body.to_bytes())).map_err(|error| error.to_string());
                tell.send(Served { target: parts.uri.to_string(), fields, body }).unwrap();
                Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
            }
        });
        // How it ends is seen by the client.
        let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
    });
    (Wire::new(near), told)
}

/// What the service sees of a request that is answered with 200.
async fn served(raw: &str) -> Served {
    let (mut client, mut told) = server();
    assert_eq!(client.ask(raw).await.status, 200, "{raw:?}");
    told.recv().await.unwrap()
}

/// A request of a bare client, and its program's end.
async fn asking<B>(request: Request<B>) -> (impl Future<Output = hyper::Result<Response<Incoming>>>, Wire<DuplexStream>)
where
    B: Body<Data = Bytes, Error = Infallible> + Send + 'static,
{
    let (near, far) = duplex(1 << 20);
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.with_upgrades().await;
    });
    let response = tokio::spawn(async move { sender.send_request(request).await });
    (async move { within("the client's response", response).await.unwrap() }, Wire::new(far))
}

fn plain() -> Request<Empty<Bytes>> {
    Request::get("/").header("host", "localhost").body(Empty::new()).unwrap()
}

/// What a bare client makes of an answer.
async fn read(answer: &str) -> hyper::Result<Response<Incoming>> {
    let (response, mut program) = asking(plain()).await;
    program.answers(answer).await;
    program.shut().await;
    response.await
}

#[tokio::test]
async fn the_server_lets_any_host_pass_and_none() {
    for fields in ["", "host: a\r\nhost: b\r\n", "host:\r\n", "host: u@a\r\n", "host: a/b\r\n", "host: a, b\r\n"] {
        served(&format!("GET / HTTP/1.1\r\n{fields}\r\n")).await;
    }
}

#[tokio::test]
async fn the_server_lets_targets_pass_that_are_no_path() {
    for target in ["evil", "evil:80", "*", "http://evil.test/"] {
        let served = served(&format!("GET {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
        assert_eq!((served.target.as_str(), served.all("host").as_slice()), (target, &["localhost"][..]));
    }
    let connect = served("CONNECT evil.test:80 HTTP/1.1\r\nhost: evil.test:80\r\n\r\n").await;
    assert_eq!(connect.target, "evil.test:80");
}

#[tokio::test]
async fn the_server_cuts_a_fragment_off() {
    assert_eq!(served("GET /a?b#c HTTP/1.1\r\nhost: localhost\r\n\r\n").await.target, "/a?b");
}

#[tokio::test]
async fn the_server_refuses_a_quote_in_a_query_and_not_in_a_path() {
    served("GET /\"a\" HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let (mut client, _) = server();
    assert_eq!(client.ask("GET /?\"a\" HTTP/1.1\r\nhost: localhost\r\n\r\n").await.status, 400);
}

#[tokio::test]
async fn the_server_lets_any_transfer_coding_pass_whose_last_is_chunked() {
    for codings in [
        "gzip, chunked",
        "xchunked, chunked",
        "identity, chunked",
        "chunked, chunked",
        "gzip\r\ntransfer-encoding: chunked",
    ] {
        let raw =
            format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: {codings}\r\n\r\n3\r\nabc\r\n0\r\n\r\n");
        let served = served(&raw).await;
        assert_eq!(served.body.as_deref(), Ok("abc"), "{codings}");
        assert!(!served.all("transfer-encoding").is_empty(), "{codings}");
    }
}

#[tokio::test]
async fn the_server_reads_chunks_and_lines_that_are_not_quite_canonical() {
    for chunks in ["3 \r\nabc\r\n0\r\n\r\n", "3;\r\nabc\r\n0\r\n\r\n", "3;\u{1}\r\nabc\r\n0\r\n\r\n"] {
        let raw = format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
        assert_eq!(served(&raw).await.body.as_deref(), Ok("abc"), "{chunks:?}");
    }
    served("GET / HTTP/1.1\nhost: localhost\n\n").await;
    let zeros = served("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 005\r\n\r\nhello").await;
    assert_eq!((zeros.body.as_deref(), zeros.all("content-length").as_slice()), (Ok("hello"), &["005"][..]));
}

#[tokio::test]
async fn the_server_forgets_a_request_that_stands_behind_a_bare_lf_among_its_trailers() {
    let (mut client, mut told) = server();
    let chunked = "POST /first HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n";
    client.send(format!("{chunked}\nGET /forgotten HTTP/1.1\r\nhost: localhost\r\n\r\n{GET}")).await;
    let first = told.recv().await.unwrap();
    assert_eq!((first.target.as_str(), first.body.as_deref()), ("/first", Ok("abc")));
    assert_eq!(told.recv().await.unwrap().target, "/");
}

#[tokio::test]
async fn the_server_hides_a_length_beside_a_transfer_coding_and_closes_afterwards() {
    for fields in [
        "content-length: 9\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 9",
        "transfer-encoding: chunked\r\ncontent-length: abc",
    ] {
        let (mut client, mut told) = server();
        client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{GET}")).await;
        assert_eq!(client.response().await.field("connection"), Some("close"), "{fields}");
        assert_eq!(client.end().await, End::Closed, "{fields}");
        let served = told.recv().await.unwrap();
        assert_eq!((served.body.as_deref(), served.all("content-length").len()), (Ok("abc"), 0), "{fields}");
    }
}

#[tokio::test]
async fn the_server_takes_a_hundred_fields_by_default() {
    let head = |count: usize| {
        let fields: String = (1..count).map(|number| format!("x-{number}: 1\r\n")).collect();
        format!("GET / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n")
    };
    served(&head(100)).await;
    let (mut client, _) = server();
    assert_eq!(client.ask(head(101)).await.status, 431);
}

/// A client of a bare server that answers without looking at the body.
fn answering(answer: http::response::Builder) -> Wire<DuplexStream> {
    let (near, far) = duplex(1 << 16);
    let answer = Arc::new(answer.body(()).unwrap());
    tokio::spawn(async move {
        let service = service_fn(|_| {
            let (parts, ()) = Response::clone(&answer).into_parts();
            async { Ok::<_, Infallible>(Response::from_parts(parts, Empty::<Bytes>::new())) }
        });
        let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
    });
    Wire::new(near)
}

#[tokio::test]
async fn the_server_makes_a_500_of_an_interim_answer() {
    assert_eq!(answering(Response::builder().status(103)).ask(GET).await.status, 500);
}

#[tokio::test]
async fn the_server_tells_a_client_to_go_on_when_its_body_is_first_asked_for_and_not_before() {
    let expects = "POST / HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n";
    let (mut client, mut told) = server();
    client.send(expects).await;
    assert_eq!(client.head().await.text, "HTTP/1.1 100 Continue\r\n\r\n");
    client.send("ab").await;
    assert_eq!(client.response().await.status, 200);
    assert_eq!(told.recv().await.unwrap().body.as_deref(), Ok("ab"));
    // Where nobody asks, the first thing to come is the answer.
    assert_eq!(answering(Response::builder()).ask(expects).await.status, 200);
}

#[tokio::test]
async fn the_server_drops_the_length_of_a_304() {
    let answer = Response::builder().status(304).header("content-length", "5");
    assert_eq!(answering(answer).ask(GET).await.field("content-length"), None);
}

#[tokio::test]
async fn the_server_takes_an_announcement_of_trailers_off_where_none_can_come_and_joins_it_elsewhere() {
    let announcing = || Response::builder().header("trailer", "a").header("trailer", "b");
    assert_eq!(answering(announcing().status(204)).ask(GET).await.all("trailer"), [""; 0]);
    assert_eq!(answering(announcing().header("content-length", "0")).ask(GET).await.all("trailer"), ["a, b"]);
}

#[tokio::test]
async fn the_server_sends_trailers_only_where_the_head_announces_them_and_the_client_takes_them() {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n");
    for (announced, request, trailers) in [
        ("x-sum", get("te: trailers\r\n"), "x-sum: 1\r\n"),
        ("x-sum", get(""), ""),
        ("x-other", get("te: trailers\r\n"), ""),
    ] {
        let (near, far) = duplex(1 << 16);
        tokio::spawn(async move {
            let service = service_fn(|_| async {
                let frames = vec![Frame::data(Bytes::from_static(b"ab")), Frame::trailers(sum())];
                Response::builder().header("trailer", announced).body(of_unknown_length(frames))
            });
            let _ = server::conn::http1::Builder::new().serve_connection(TokioIo::new(far), service).await;
        });
        assert_eq!(Wire::new(near).ask(&request).await.trailers, trailers, "{announced}, {request:?}");
    }
}

#[tokio::test]
async fn the_server_answers_in_the_version_of_the_response() {
    let answer = Response::builder().version(hyper::Version::HTTP_10);
    assert_eq!(answering(answer).ask(GET).await.line(), "HTTP/1.0 200 OK");
}

#[tokio::test]
async fn the_client_lets_a_length_pass_beside_a_transfer_coding_and_any_coding() {
    let both =
        read("HTTP/1.1 200 OK\r\ncontent-length: 7\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n").await;
    let both = both.unwrap();
    assert_eq!(both.headers()["content-length"], "7");
    assert_eq!(both.headers()["transfer-encoding"], "chunked");
    assert_eq!(both.into_body().collect().await.unwrap().to_bytes(), "ok");
    for codings in ["foo", "gzip, chunked", "chunked\r\ntransfer-encoding: chunked"] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {codings}\r\n\r\n0\r\n\r\n");
        assert_eq!(read(&answer).await.unwrap().status(), 200, "{codings}");
    }
}

#[tokio::test]
async fn the_client_lets_equal_lengths_pass_as_two_fields() {
    let twice = read("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok").await.unwrap();
    assert_eq!(twice.headers().get_all("content-length").iter().count(), 2);
}

#[tokio::test]
async fn the_client_does_not_look_at_a_length_or_a_coding_where_there_is_no_body() {
    let head = || Request::head("/").header("host", "localhost").body(Empty::<Bytes>::new()).unwrap();
    for (field, value) in [("content-length", "+5"), ("content-length", "5, 6"), ("transfer-encoding", "foo")] {
        let (response, mut program) = asking(head()).await;
        program.answers(format!("HTTP/1.1 200 OK\r\n{field}: {value}\r\n\r\n")).await;
        assert_eq!(response.await.unwrap().headers()[field], value);
    }
}

#[tokio::test]
async fn the_client_speaks_http_1_0_to_a_program_that_has() {
    let (near, far) = duplex(1 << 16);
    let (mut sender, connection) = client::conn::http1::handshake(TokioIo::new(near)).await.unwrap();
    tokio::spawn(async move {
        let _ = connection.await;
    });
    let mut program = Wire::new(far);
    for version in ["1.1", "1.0"] {
        let answer = "HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 0\r\n\r\n";
        let (request, response) = tokio::join!(program.answers(answer), sender.send_request(plain()));
        assert_eq!(request.line(), format!("GET / HTTP/{version}"));
        assert_eq!(response.unwrap().into_body().collect().await.unwrap().to_bytes(), "");
    }
}

#[tokio::test]
async fn the_client_lets_a_change_of_protocol_pass_that_nobody_asked_for() {
    let answer = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: x\r\n\r\n";
    assert_eq!(read(answer).await.unwrap().status(), 101);
}

#[tokio::test]
async fn the_client_swallows_any_number_of_interim_answers_and_shows_them_to_whoever_asks() {
    let shown = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&shown);
    let mut request = plain();
    hyper::ext::on_informational(&mut request, move |_| {
        counted.fetch_add(1, Relaxed);
    });
    let (response, mut program) = asking(request).await;
    program.answers("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100) + OK).await;
    assert_eq!(response.await.unwrap().status(), 200);
    assert_eq!(shown.load(Relaxed), 100);
}

#[tokio::test]
async fn the_client_calls_the_end_before_an_answer_and_the_end_in_its_head_the_same() {
    for part in ["", "H", "HTTP/1.1 200 OK\r\ncontent-le"] {
        let error = read(part).await.unwrap_err();
        assert!(error.is_incomplete_message(), "{part:?}: {error:?}");
    }
}

#[tokio::test]
async fn the_client_refuses_what_is_no_head() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2",
        "HTTP/1.1 200 OK\r\ncontent-length: x",
        "HTTP/1.0 200 OK\r\ntransfer-encoding: chunked",
        "HTTP/1.1 200 OK\r\nx: a\r\n b",
        "HTTP/1.1 200 OK\r\nx : a",
        "HTTP/1.1 200 OK\r\nx: a\0",
        "HTTP/1.1 1000 OK",
        "<html>",
    ] {
        assert!(read(&format!("{head}\r\n\r\n")).await.is_err(), "{head:?}");
    }
}

/// A body that does not tell its length.
fn of_unknown_length(frames: Vec<Frame<Bytes>>) -> BoxBody<Bytes, Infallible> {
    struct Frames(std::vec::IntoIter<Frame<Bytes>>);

    impl Body for Frames {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: std::pin::Pin<&mut Self>,
            _: &mut std::task::Context<'_>,
        ) -> std::task::Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            std::task::Poll::Ready(self.0.next().map(Ok))
        }

        fn size_hint(&self) -> SizeHint {
            SizeHint::default()
        }
    }

    BoxBody::new(Frames(frames.into_iter()))
}

fn sum() -> http::HeaderMap {
    http::HeaderMap::from_iter([(http::HeaderName::from_static("x-sum"), http::HeaderValue::from_static("1"))])
}

#[tokio::test]
async fn the_client_drops_the_body_of_a_get_whose_length_is_not_known() {
    for (method, framing) in [("GET", Framing::None), ("HEAD", Framing::None), ("POST", Framing::Chunked)] {
        let body = of_unknown_length(vec![Frame::data(Bytes::from_static(b"ab"))]);
        let (_response, mut program) = asking(Request::builder().method(method).uri("/").body(body).unwrap()).await;
        assert_eq!(program.request().await.framing, framing, "{method}");
    }
}

#[tokio::test]
async fn the_client_sends_trailers_only_where_the_head_announces_them() {
    for (announced, trailers) in [("x-sum", "x-sum: 1\r\n"), ("x-other", "")] {
        let frames = vec![Frame::data(Bytes::from_static(b"ab")), Frame::trailers(sum())];
        let request = Request::post("/").header("trailer", announced).body(of_unknown_length(frames)).unwrap();
        let (_response, mut program) = asking(request).await;
        assert_eq!(program.request().await.trailers, trailers, "{announced}");
    }
}

#[tokio::test]
async fn a_map_of_fields_groups_those_of_one_name_and_moves_the_last_into_a_gap() {
    let names = |map: &http::HeaderMap| map.iter().map(|(name, _)| name.to_string()).collect::<Vec<_>>();
    let mut map = http::HeaderMap::new();
    for name in ["a", "b", "a", "c", "d"] {
        map.append(name, "1".parse().unwrap());
    }
    assert_eq!(names(&map), ["a", "a", "b", "c", "d"]);
    map.remove("b");
    assert_eq!(names(&map), ["a", "a", "d", "c"]);
}
