//! A program that speaks HTTP/2 (`h2c://`), and clients of both versions.

use tokio::{
    sync::{
        mpsc::{self, UnboundedSender},
        watch,
    },
    task::JoinSet,
};

use super::next_request;
use crate::harness::{
    End, Framing, Program, Proxy, Wire, bytes_of, chunked, get,
    h2::{
        Code, Ended, Fields, Frame, Message, Peer, get as get2, kind, request as request2, setting, status, through_h2,
        to_h2,
    },
    request,
};

/// What the program gets for a request of HTTP/1.
async fn forwarded(raw: &str) -> (Message, Proxy) {
    let (mut client, program, proxy) = to_h2("").await;
    client.send(raw).await;
    let seen = program.h2_connection().await.answers("ok").await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"), "{raw:?}");
    (seen, proxy)
}

/// The fields in the order of their names, equal ones in their own.
fn sorted(fields: &Fields) -> Vec<(String, String)> {
    let mut fields = fields.0.clone();
    fields.sort_by_key(|(name, _)| name.clone());
    fields
}

#[tokio::test]
async fn a_request_of_http1_arrives_in_full() {
    let fields = ["X-B: 2", "accept: a", "X-B: 1", "Cookie: a=1; b=2", "X-Latin: \u{e9}", "Referer: http://localhost/"];
    let raw: Vec<_> = get("/a%2Fb?c", &fields).chars().map(|char| char as u8).collect();
    let (mut client, program, proxy) = to_h2("").await;
    client.send(raw).await;
    let mut connection = program.h2_connection().await;
    let seen = connection.answers("ok").await;
    assert_eq!(client.response().await.text(), "ok");
    let port = proxy.port().to_string();
    let expected = Fields::of(&[
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "localhost"),
        (":path", "/a%2Fb?c"),
        ("x-b", "2"),
        ("accept", "a"),
        ("x-b", "1"),
        ("cookie", "a=1; b=2"),
        ("x-latin", "\u{e9}"),
        ("referer", "http://localhost/"),
        ("x-forwarded-for", "127.0.0.1"),
        ("x-forwarded-host", "localhost"),
        ("x-forwarded-proto", "http"),
        ("x-forwarded-port", &port),
        ("via", &format!("1.1 portolan:{port}")),
    ]);
    let crumbs: Vec<_> = seen.all("cookie").join("; ").split("; ").map(str::to_owned).collect();
    assert_eq!(crumbs, ["a=1", "b=2"]);
    assert_eq!(sorted(&seen.fields.clone().without("cookie")), sorted(&expected.without("cookie")));
}

#[tokio::test]
async fn a_request_of_http2_arrives_in_full() {
    let (mut client, program, proxy) = through_h2("").await;
    let fields = [("x-b", "2"), ("cookie", "a=1"), ("x-b", "1"), ("cookie", "b=2"), ("x-forwarded-for", "6.6.6.6")];
    let stream = client.asks(&get2("/a%2Fb?c", &fields).with(":authority", "app.localhost:80")).await;
    let mut connection = program.h2_connection().await;
    let seen = connection.answers("ok").await;
    assert_eq!(client.answer(stream).await.text(), "ok");
    let port = proxy.port().to_string();
    let told = [":authority", ":path", ":method", "x-forwarded-for", "x-forwarded-host", "via", "host"];
    assert_eq!(
        told.map(|name| seen.field(name)),
        [
            Some("app.localhost:80"),
            Some("/a%2Fb?c"),
            Some("GET"),
            Some("127.0.0.1"),
            Some("app.localhost:80"),
            Some(&*format!("2 portolan:{port}")),
            None
        ]
    );
    assert_eq!(seen.all("x-b"), ["2", "1"]);
    assert_eq!(seen.all("cookie").join("; "), "a=1; b=2");
}

#[tokio::test]
async fn s23_fields_of_one_connection_do_not_reach_a_program_of_http2() {
    let fields = [
        "connection: keep-alive, x-named",
        "x-named: 1",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "te: gzip",
        "upgrade: websocket",
        "X-Other: 1",
    ];
    let (seen, _) = forwarded(&get("/", &fields)).await;
    for name in ["connection", "x-named", "keep-alive", "proxy-connection", "te", "upgrade", "host"] {
        assert_eq!(seen.field(name), None, "{name}");
    }
    assert_eq!(seen.field("x-other"), Some("1"));
    let (seen, _) = forwarded(&get("/", &["te: trailers, gzip", "connection: te"])).await;
    assert_eq!((seen.field("te"), seen.field("connection")), (Some("trailers"), None));
}

#[tokio::test]
async fn a_target_that_is_no_valid_url_is_escaped() {
    let (seen, _) = forwarded(&get("/a<b>`c?d\"<e>", &[])).await;
    assert_eq!(seen.field(":path"), Some("/a%3Cb%3E`c?d%22%3Ce%3E".replace('`', "%60").as_str()));
}

#[tokio::test]
async fn t31_as_many_fields_as_there_may_be_reach_a_program_of_http2_on_every_connection() {
    let fields = vec!["x-many: 1"; 98];
    let (mut client, program, _proxy) = to_h2("").await;
    client.send(get("/", &fields)).await;
    let mut connection = program.h2_connection().await;
    assert_eq!(connection.answers("ok").await.all("x-many").len(), 98);
    assert_eq!(client.response().await.text(), "ok");
    client.send(get("/", &fields)).await;
    assert_eq!(connection.answers("ok").await.all("x-many").len(), 98);
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn a_request_that_cannot_be_said_in_http2_is_refused_once() {
    // Escaped it is longer than a path may be there.
    let path = format!("/{}", "<".repeat(30_000));
    let (mut client, program, _proxy) = to_h2("").await;
    for _ in 0..2 {
        client.send(get(&path, &[])).await;
        let response = client.response().await;
        assert_eq!((response.status, response.cause()), (400, Some("bad-request")));
    }
    let mut connection = program.h2_connection().await;
    client.send(get("/next", &[])).await;
    assert_eq!(connection.answers("ok").await.field(":path"), Some("/next"));
    program.is_left_alone();
}

#[tokio::test]
async fn s33_a_request_without_a_body_ends_with_its_head() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let (mut client, program, _proxy) = to_h2("").await;
        client.send(request(method, "/", &[])).await;
        let mut connection = program.h2_connection().await;
        let (stream, fields, ends) = connection.opened().await;
        assert_eq!((fields.field(":method"), ends), (Some(method), true));
        connection.head(stream, &status("204", &[]), true).await;
        assert_eq!(client.try_response(method == "HEAD").await.unwrap().unwrap().status, 204);
    }
}

#[tokio::test]
async fn s38_bodies_of_any_framing_and_size_arrive_both_ways() {
    let (mut client, program, _proxy) = to_h2("").await;
    let mut kept: Option<Peer> = None;
    for length in [0, 1, 16_384, 16_385, 300_000, 1_000_000] {
        for is_told in [true, false] {
            let body = bytes_of(length);
            let (field, content) = if is_told {
                (format!("content-length: {length}"), body.clone())
            } else {
                ("transfer-encoding: chunked".into(), chunked(&body, 10_000, ""))
            };
            let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\n{field}\r\n\r\n");
            let asks = async {
                client.send([head.as_bytes(), &content].concat()).await;
                client.response().await
            };
            let answers = async {
                let mut connection = match kept.take() {
                    Some(connection) => connection,
                    None => program.h2_connection().await,
                };
                let seen = connection.request().await;
                let told = length.to_string();
                let told = [("content-length", told.as_str())];
                connection.head(seen.stream, &status("200", &told[..usize::from(is_told)]), false).await;
                connection.body(seen.stream, &body, true).await;
                (seen, connection)
            };
            let (response, (seen, connection)) = tokio::join!(asks, answers);
            kept = Some(connection);
            assert_eq!(seen.field("content-length"), is_told.then_some(length.to_string()).as_deref());
            assert!(seen.body == body, "the request's {length} bytes, {field}");
            assert!(response.body == body, "the answer's {length} bytes, {field}");
            let framing = if is_told { Framing::Length(length as u64) } else { Framing::Chunked };
            assert_eq!(response.framing, framing, "{length} bytes, {field}");
        }
    }
    program.is_left_alone();
}

#[tokio::test]
async fn s38_bodies_of_any_size_arrive_both_ways_from_http2_to_http2() {
    let (mut client, program, _proxy) = through_h2("").await;
    let mut kept: Option<Peer> = None;
    for length in [0, 1, 16_384, 16_385, 300_000, 4 * 1024 * 1024 + 1] {
        let body = bytes_of(length);
        let answers = async {
            let mut connection = match kept.take() {
                Some(connection) => connection,
                None => program.h2_connection().await,
            };
            let seen = connection.request().await;
            connection.head(seen.stream, &status("200", &[]), false).await;
            connection.body(seen.stream, &body, true).await;
            (seen, connection)
        };
        let upload = request2("POST", "/");
        let (answer, (seen, connection)) = tokio::join!(client.ask_with(&upload, &body), answers);
        kept = Some(connection);
        assert!(seen.body == body, "the request's {length} bytes");
        assert!(answer.body == body, "the answer's {length} bytes");
    }
    program.is_left_alone();
}

#[tokio::test]
async fn f17_trailers_of_a_request_reach_a_program_of_http2() {
    let (mut client, program, _proxy) = to_h2("").await;
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n";
    client.send(head.to_owned() + "2\r\nab\r\n0\r\nX-Sum: 1\r\n\r\n").await;
    let seen = program.h2_connection().await.answers("ok").await;
    assert_eq!((seen.text().as_str(), &seen.trailers), ("ab", &Fields::of(&[("x-sum", "1")])));
    assert_eq!(client.response().await.text(), "ok");

    let (mut client, program, _proxy) = through_h2("").await;
    let stream = client.begins(&request2("POST", "/").and(&[("trailer", "x-sum")])).await;
    client.data(stream, "ab", false).await;
    client.head(stream, &Fields::of(&[("x-sum", "1")]), true).await;
    let seen = program.h2_connection().await.answers("ok").await;
    assert_eq!((seen.text().as_str(), &seen.trailers), ("ab", &Fields::of(&[("x-sum", "1")])));
    assert_eq!(client.answer(stream).await.text(), "ok");
}

#[tokio::test]
async fn s44_f17_trailers_of_an_answer_reach_who_can_take_them() {
    for fields in [&[("trailer", "x-sum")][..], &[("trailer", "x-sum"), ("content-length", "2")]] {
        trailers_reach_who_can_take_them(&status("200", fields)).await;
    }
}

async fn trailers_reach_who_can_take_them(head: &Fields) {
    let answers = async |connection: &mut Peer| {
        let seen = connection.request().await;
        connection.head(seen.stream, head, false).await;
        connection.data(seen.stream, "ok", false).await;
        connection.head(seen.stream, &Fields::of(&[("x-sum", "1"), ("x-sum", "2")]), true).await;
    };
    let (mut client, program, _proxy) = through_h2("").await;
    let stream = client.asks(&get2("/", &[])).await;
    answers(&mut program.h2_connection().await).await;
    let answer = client.answer(stream).await;
    assert_eq!((answer.text().as_str(), &answer.trailers), ("ok", &Fields::of(&[("x-sum", "1"), ("x-sum", "2")])));

    let (mut client, program, _proxy) = to_h2("").await;
    client.send(get("/", &["te: trailers", "connection: te"])).await;
    answers(&mut program.h2_connection().await).await;
    let response = client.response().await;
    assert_eq!((response.text().as_str(), response.trailers.as_str()), ("ok", "x-sum: 1\r\nx-sum: 2\r\n"));
    // Who did not ask for them gets the body all the same.
    let (mut client, program, _proxy) = to_h2("").await;
    client.send(get("/", &[])).await;
    answers(&mut program.h2_connection().await).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn s40_interim_answers_of_a_program_of_http2_never_end_an_exchange() {
    let answers = async |connection: &mut Peer| {
        let seen = connection.request().await;
        for _ in 0..3 {
            connection.head(seen.stream, &status("103", &[("link", "</a.css>")]), false).await;
        }
        connection.responds(seen.stream, &status("200", &[]), "ok").await;
    };
    let (mut client, program, _proxy) = through_h2("").await;
    let stream = client.asks(&get2("/", &[])).await;
    answers(&mut program.h2_connection().await).await;
    let answer = client.answer(stream).await;
    assert_eq!(answer.text(), "ok");
    assert!(answer.interim.iter().all(|hints| hints.field("link") == Some("</a.css>")), "{answer:?}");

    let (mut client, program, _proxy) = to_h2("").await;
    client.send(get("/", &[])).await;
    answers(&mut program.h2_connection().await).await;
    let last = loop {
        let response = client.response().await;
        if response.status != 103 {
            break response;
        }
    };
    assert_eq!((last.status, last.text().as_str()), (200, "ok"));
}

#[tokio::test]
async fn s33_answers_that_have_no_body_have_none() {
    for (method, code, fields) in [
        ("HEAD", "200", &[("content-length", "7")][..]),
        ("HEAD", "200", &[]),
        ("GET", "204", &[]),
        ("GET", "304", &[("etag", "\"a\"")]),
        ("GET", "200", &[("content-length", "0")]),
    ] {
        let (mut client, program, _proxy) = to_h2("").await;
        client.send(request(method, "/", &[])).await;
        let mut connection = program.h2_connection().await;
        let seen = connection.request().await;
        connection.head(seen.stream, &status(code, fields), true).await;
        let response = client.try_response(method == "HEAD").await.unwrap().unwrap();
        assert_eq!((response.status.to_string().as_str(), response.text().as_str()), (code, ""), "{method} {code}");
        for (name, value) in fields {
            assert_eq!(response.field(name), Some(*value), "{method} {code}");
        }
    }
}

/// Tells of each request, and answers them all once it is told to.
async fn answer_together(mut connection: Peer, asked: UnboundedSender<()>, mut now: watch::Receiver<bool>) -> Peer {
    let mut streams = Vec::new();
    loop {
        tokio::select! {
            (stream, _, _) = connection.opened() => {
                streams.push(stream);
                asked.send(()).unwrap();
            }
            _ = now.changed() => break,
        }
    }
    for stream in streams {
        connection.responds(stream, &status("200", &[]), "ok").await;
    }
    connection
}

#[tokio::test]
async fn requests_of_many_clients_share_a_few_connections() {
    const CLIENTS: usize = 20;
    let (_, program, proxy) = to_h2("").await;
    let mut clients = Vec::new();
    for number in 0..CLIENTS {
        let mut client = proxy.connect().await;
        client.send(get(&format!("/{number}"), &[])).await;
        clients.push(client);
    }
    let (asked, mut all) = mpsc::unbounded_channel();
    let (go, now) = watch::channel(false);
    let mut connections = JoinSet::new();
    let mut waiting = 0;
    while waiting < CLIENTS {
        tokio::select! {
            _ = all.recv() => waiting += 1,
            connection = program.h2_connection() => {
                connections.spawn(answer_together(connection, asked.clone(), now.clone()));
            }
        }
    }
    assert!(connections.len() <= CLIENTS / 2, "{} connections for {CLIENTS} requests", connections.len());
    go.send(true).unwrap();
    for client in &mut clients {
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn a_program_decides_how_many_streams_it_takes_at_once() {
    let (_, program, proxy) = to_h2("").await;
    let mut first = proxy.connect().await;
    first.send(get("/first", &[])).await;
    let mut connection = Peer::server(program.connection().await, &[(setting::MAX_CONCURRENT_STREAMS, 1)]).await;
    let seen = connection.request().await;
    connection.responds(seen.stream, &status("200", &[]), "ok").await;
    assert_eq!(first.response().await.text(), "ok");
    // The proxy knows the limit by now. A second one at the same time waits, or has a connection of its own.
    first.send(get("/first", &[])).await;
    let held = connection.request().await;
    let mut second = proxy.connect().await;
    second.send(get("/second", &[])).await;
    connection.responds(held.stream, &status("200", &[]), "ok").await;
    assert_eq!(first.response().await.text(), "ok");
    let (mut connection, (stream, fields, _)) = next_request(&program, connection).await;
    assert_eq!(fields.field(":path"), Some("/second"));
    connection.responds(stream, &status("200", &[]), "second").await;
    assert_eq!(second.response().await.text(), "second");
}

/// What the client of HTTP/1 gets when the program says this instead of an answer.
async fn bad_answer(fields: &Fields) -> (u16, String) {
    let (mut client, program, _proxy) = to_h2("").await;
    client.send(get("/", &[])).await;
    let mut connection = program.h2_connection().await;
    let seen = connection.request().await;
    connection.head(seen.stream, fields, false).await;
    connection.data(seen.stream, "ok", true).await;
    let response = client.response().await;
    (response.status, response.cause().unwrap_or_default().to_owned())
}

#[tokio::test]
async fn f13_answers_that_are_none_become_a_502() {
    for fields in [
        Fields::default(),
        Fields::of(&[("x", "1")]),
        status("20", &[]),
        status("abc", &[]),
        status("200", &[(":status", "201")]),
        status("200", &[("X-Upper", "1")]),
        status("200", &[("connection", "close")]),
        status("200", &[("transfer-encoding", "chunked")]),
        status("200", &[("x", "1\r\ny: 2")]),
        status("200", &[("x\r\ny", "1")]),
        status("200", &[("content-length", "2"), ("content-length", "3")]),
        status("101", &[]),
    ] {
        assert_eq!(bad_answer(&fields).await, (502, "bad-upstream-reply".into()), "{fields:?}");
    }
}

/// The codec forgets them before anybody can object.
#[tokio::test]
async fn f13_pseudo_fields_of_a_request_are_not_passed_on_in_an_answer() {
    let (mut client, program, _proxy) = to_h2("").await;
    client.send(get("/", &[])).await;
    let mut connection = program.h2_connection().await;
    let seen = connection.request().await;
    connection.responds(seen.stream, &status("200", &[(":path", "/"), ("x", "1")]), "ok").await;
    let response = client.response().await;
    assert_eq!((response.status, response.head.field("x")), (200, Some("1")));
    assert!(response.head.fields().all(|(name, _)| !name.contains("path")));
}

#[tokio::test]
async fn f13_a_program_that_speaks_something_else_is_a_502() {
    for said in ["HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n", "SSH-2.0-x\r\n", "\0\0\0\0\0\0\0\0\0\0\0\0"] {
        let (mut client, program, _proxy) = to_h2("").await;
        client.send(get("/", &[])).await;
        let mut connection = program.connection().await;
        connection.send(said).await;
        connection.shut().await;
        let response = client.response().await;
        assert_eq!(response.status, 502, "{said:?}");
        assert!(matches!(response.cause(), Some("bad-upstream-reply" | "upstream-closed")), "{:?}", response.cause());
    }
}

/// What comes of an answer that `ends` in a way that is not its end, for clients of both versions.
async fn is_cut_short(length: Option<&str>, ends: impl AsyncFn(&mut Peer, u32)) {
    let fields: Vec<_> = length.map(|length| ("content-length", length)).into_iter().collect();
    let begins = async |connection: &mut Peer| {
        let seen = connection.request().await;
        connection.head(seen.stream, &status("200", &fields), false).await;
        connection.data(seen.stream, "part", false).await;
        seen.stream
    };
    let (mut client, program, proxy) = to_h2("").await;
    client.send(get("/", &[])).await;
    let mut connection = program.h2_connection().await;
    let stream = begins(&mut connection).await;
    client.head().await;
    let part = if length.is_some() { client.bytes(4).await } else { client.chunk().await.unwrap() };
    assert_eq!(part, b"part");
    ends(&mut connection, stream).await;
    let (rest, _) = client.rest().await;
    assert_eq!(rest, b"", "of {length:?}");
    drop(connection);
    next_is_answered(&proxy, &program).await;

    let (mut client, program, proxy) = through_h2("").await;
    let asked = client.asks(&get2("/", &[])).await;
    let mut connection = program.h2_connection().await;
    let stream = begins(&mut connection).await;
    client.answered(asked).await;
    assert_eq!(client.bytes(asked, 4).await, b"part");
    ends(&mut connection, stream).await;
    let rest = client.rest(asked, Fields::default(), false).await;
    assert!(matches!(rest.ended, Ended::Reset(code) if code != Code::NoError), "{rest:?}");
    assert_eq!(rest.text(), "");
    drop(connection);
    next_is_answered(&proxy, &program).await;
}

/// A further request of another client is answered.
async fn next_is_answered(proxy: &Proxy, program: &Program) {
    let mut client: Wire = proxy.connect().await;
    client.send(get("/next", &[])).await;
    let seen = program.h2_connection().await.answers("next").await;
    assert_eq!(seen.field(":path"), Some("/next"));
    assert_eq!(client.response().await.text(), "next");
}

#[tokio::test]
async fn s36_f9_an_answer_whose_stream_was_reset_never_looks_complete() {
    for length in [Some("10"), None] {
        for code in [Code::InternalError, Code::Cancel, Code::RefusedStream, Code::EnhanceYourCalm] {
            is_cut_short(length, async |connection, stream| connection.reset(stream, code).await).await;
        }
    }
}

#[tokio::test]
async fn s36_f9_an_answer_that_is_shorter_or_longer_than_it_said_never_looks_complete() {
    is_cut_short(Some("10"), async |connection, stream| connection.data(stream, "", true).await).await;
    let trailers = Fields::of(&[("x-sum", "1")]);
    is_cut_short(Some("10"), async |connection, stream| connection.head(stream, &trailers, true).await).await;
}

#[tokio::test]
async fn s36_f9_an_answer_whose_connection_ends_never_looks_complete() {
    for length in [Some("10"), None] {
        is_cut_short(length, async |connection, _| connection.wire.shut().await).await;
        is_cut_short(length, async |connection, _| {
            connection.send(Frame::goaway(0, Code::InternalError)).await;
            connection.wire.shut().await;
        })
        .await;
        is_cut_short(length, async |connection, _| {
            // What breaks the rules of the whole connection.
            connection.send(Frame::new(kind::DATA, 0, 0, *b"x")).await;
        })
        .await;
    }
}

#[tokio::test]
async fn an_early_answer_of_a_program_of_http2_is_delivered_while_the_client_uploads() {
    let (mut client, program, _proxy) = to_h2("").await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100000\r\n\r\npart").await;
    let mut connection = program.h2_connection().await;
    let (stream, _, _) = connection.opened().await;
    connection.responds(stream, &status("413", &[]), "too much").await;
    connection.reset(stream, Code::NoError).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (413, "too much"));

    let (mut client, program, _proxy) = through_h2("").await;
    let asked = client.begins(&request2("POST", "/")).await;
    client.data(asked, "part", false).await;
    let mut connection = program.h2_connection().await;
    let (stream, _, _) = connection.opened().await;
    connection.responds(stream, &status("413", &[]), "too much").await;
    connection.reset(stream, Code::NoError).await;
    let answer = client.answer(asked).await;
    assert_eq!((answer.status(), answer.text().as_str()), (413, "too much"));
}

#[tokio::test]
async fn s60_a_push_by_a_program_is_refused() {
    let (mut client, program, _proxy) = to_h2("").await;
    client.send(get("/", &[])).await;
    let mut connection = program.h2_connection().await;
    let settings = connection.settings().await;
    let push = settings.iter().find(|(id, _)| *id == setting::ENABLE_PUSH);
    assert_eq!(push, Some(&(setting::ENABLE_PUSH, 0)), "{settings:?}");
    let seen = connection.request().await;
    let promise = [&2_u32.to_be_bytes()[..], &get2("/pushed", &[]).block()].concat();
    connection.send(Frame::new(kind::PUSH_PROMISE, 0x4, seen.stream, promise)).await;
    assert_eq!(connection.goaway().await.1, Code::ProtocolError);
    assert_eq!(client.response().await.status, 502);
    assert!(matches!(connection.until_the_end().await.1, End::Closed | End::Reset));
}
