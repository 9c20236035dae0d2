//! Requests that are none (S55, S57, S59, T27): refused or reset, and no byte of them reaches a program.

use super::goes_on;
use crate::harness::{
    OK, Program, Proxy, Wire,
    h2::{Code, Ended, Fields, Message, Peer, from_h2, get, request},
};

/// A request that was refused with a status or a reset, on a connection that goes on, and of which no program heard.
async fn is_refused(client: &mut Peer, program: &Program, stream: u32, what: &str) -> Message {
    let answer = client.outcome(stream).await;
    match answer.ended {
        Ended::Whole => assert_eq!(answer.status(), 400, "{what}: {answer:?}"),
        Ended::Reset(code) => assert_eq!((code, answer.fields.0.len()), (Code::ProtocolError, 0), "{what}"),
        Ended::Lost(end) => panic!("{what}: the connection was {end:?}"),
    }
    program.is_left_alone();
    answer
}

/// Each of these heads, as that of a request without a body.
async fn are_refused(heads: impl IntoIterator<Item = Fields>) {
    for fields in heads {
        let (mut client, program, _proxy) = from_h2("").await;
        let stream = client.asks(&fields).await;
        is_refused(&mut client, &program, stream, &format!("{fields:?}")).await;
        goes_on(&mut client, &program).await;
    }
}

/// Each of these heads, which the h2 crate does not even read to their end: it ends their connection, as RFC 9113 §5.4
/// allows. A browser sends none of them, so that nobody else's streams are on it.
async fn are_sent_away(heads: impl IntoIterator<Item = Fields>) {
    for fields in heads {
        let (mut client, program, proxy) = from_h2("").await;
        client.asks(&fields).await;
        assert_eq!(client.goaway().await.1, Code::ProtocolError, "{fields:?}");
        client.until_the_end().await;
        program.is_left_alone();
        goes_on(&mut proxy.connect_h2().await, &program).await;
    }
}

#[tokio::test]
async fn s55_fields_of_one_connection_are_refused() {
    let fields = [
        ("connection", "close"),
        ("connection", "x-hop"),
        ("keep-alive", "timeout=5"),
        ("proxy-connection", "keep-alive"),
        ("transfer-encoding", "chunked"),
        ("upgrade", "websocket"),
        ("te", "gzip"),
        ("te", "trailers, gzip"),
    ];
    are_refused(fields.map(|field| get("/", &[field]))).await;
}

#[tokio::test]
async fn s55_t27_names_and_values_that_http1_would_read_otherwise_are_refused() {
    let fields = [
        ("X-Upper", "1"),
        ("", "1"),
        ("x y", "1"),
        ("x:y", "1"),
        ("x\r\ny", "1"),
        ("x\0", "1"),
        ("x\u{e9}", "1"),
        ("x", "1\r\ny: 2"),
        ("x", "1\n"),
        ("x", "1\r"),
        ("x", "1\0"),
        ("x", "\r\n\r\nGET /inner HTTP/1.1\r\nhost: localhost\r\n\r\n"),
        ("host", "localhost\r\nx: y"),
        ("cookie", "a\r\nb: c"),
        ("content-length", "2\r\nx: y"),
    ];
    are_sent_away(fields.map(|field| get("/", &[field]))).await;
}

#[tokio::test]
async fn s55_what_a_head_begins_with_must_be_there_once_and_first() {
    let whole = get("/", &[]);
    let again = [(":method", "GET"), (":path", "/"), (":scheme", "http"), (":authority", "localhost")];
    let missing = [":method", ":scheme", ":path"].map(|name| whole.clone().without(name));
    let twice = again.map(|field| whole.clone().and(&[field]));
    let stray = [(":status", "200"), (":protocol", "websocket")].map(|field| Fields::of(&[field]).and(&again));
    let unknown = [(":unknown", "1"), (":Method", "GET")].map(|field| Fields::of(&[field]).and(&again));
    let late =
        Fields::of(&[(":method", "GET"), (":scheme", "http"), (":authority", "localhost"), ("x", "1"), (":path", "/")]);
    are_refused(missing.into_iter().chain(twice).chain(stray).chain([late, Fields::default()])).await;
    are_sent_away(unknown).await;
}

#[tokio::test]
async fn s57_t27_a_path_begins_with_a_slash_and_has_no_line_in_it() {
    let paths = [
        "",
        "a",
        "http://localhost/",
        "http://evil.test/",
        "localhost:80",
        "/ HTTP/1.1\r\nx: y",
        "/\r\n\r\nGET /inner HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "/a b",
        "/a\n",
        "/a\0",
        "/a\t",
        "*",
        "/\u{7f}",
    ];
    are_refused(paths.map(|path| request("GET", path))).await;
    are_refused(["**", "*/", "*?a"].map(|path| request("OPTIONS", path))).await;
}

#[tokio::test]
async fn s57_a_fragment_is_cut_off_before_anything_is_routed() {
    let (mut client, program, _proxy) = from_h2("").await;
    for (path, line) in [("/a#b", "GET /a HTTP/1.1"), ("/a?b#c?d", "GET /a?b HTTP/1.1")] {
        client.asks(&request("GET", path)).await;
        assert_eq!(program.connection().await.request().await.line(), line);
    }
}

#[tokio::test]
async fn s57_a_scheme_is_http_or_https() {
    are_refused(["ftp", "", "ht tp", "file", "httpss", "http\r\nx: y"].map(|of| get("/", &[]).with(":scheme", of)))
        .await;
}

#[tokio::test]
async fn t27_a_method_is_a_token() {
    let methods = ["", "G T", "GET / HTTP/1.1\r\nhost: evil.test\r\n\r\nGET", "GET\r\n", "G\0T", "GET\u{e9}", "(GET)"];
    are_sent_away(methods.map(|method| request(method, "/"))).await;
}

#[tokio::test]
async fn s56_t27_an_authority_that_is_none_or_another_than_the_host_is_refused() {
    let authorities = [
        "",
        "a@localhost",
        "localhost/",
        "localhost, localhost",
        "local host",
        "localhost:99999",
        "localhost:a",
        "[::1",
        "localhost\r\nx: y",
        "localhost#",
        "localhost?",
        "http://localhost",
    ];
    are_refused(authorities.map(|authority| get("/", &[]).with(":authority", authority))).await;
    let hosts = ["app.localhost", "localhost:1", "evil.test", "", "127.0.0.1", "localhost."];
    are_refused(hosts.map(|host| get("/", &[("host", host)]))).await;
    are_refused([get("/", &[]).without(":authority")]).await;
}

#[tokio::test]
async fn s10_s59_lengths_that_are_none_or_two_are_refused() {
    let lengths = ["-1", "+2", "2, 3", "0x2", "", "2 ", "18446744073709551616"];
    for length in lengths {
        let (mut client, program, _proxy) = from_h2("").await;
        let stream = client.begins(&request("POST", "/").and(&[("content-length", length)])).await;
        client.data(stream, "ab", true).await;
        is_refused(&mut client, &program, stream, length).await;
        goes_on(&mut client, &program).await;
    }
    let (mut client, program, _proxy) = from_h2("").await;
    let fields = request("POST", "/").and(&[("content-length", "2"), ("content-length", "3")]);
    let stream = client.begins(&fields).await;
    client.data(stream, "ab", true).await;
    is_refused(&mut client, &program, stream, "two of them").await;
}

#[tokio::test]
async fn s59_a_head_that_announces_a_body_and_ends_is_reset() {
    are_refused([request("POST", "/").and(&[("content-length", "5")])]).await;
}

/// What the program could read of a request whose body is not as long as its head says; it must not look whole.
async fn is_broken_off(pieces: &[&str], trailers: Option<&Fields>) {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.begins(&request("POST", "/").and(&[("content-length", "10")])).await;
    let mut connection = program.connection().await;
    connection.head().await;
    for (at, piece) in pieces.iter().enumerate() {
        client.data(stream, piece, trailers.is_none() && at + 1 == pieces.len()).await;
    }
    if let Some(trailers) = trailers {
        client.head(stream, trailers, true).await;
    }
    let answer = client.outcome(stream).await;
    assert_eq!((answer.ended, answer.fields), (Ended::Reset(Code::ProtocolError), Fields::default()), "{pieces:?}");
    let (body, _) = connection.rest().await;
    assert!(body.len() < 10, "{pieces:?} became a whole body: {body:?}");
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn s59_t27_a_body_of_another_length_than_was_told_never_looks_whole() {
    is_broken_off(&["12345"], None).await;
    is_broken_off(&["12345", ""], None).await;
    is_broken_off(&["12345", "678901"], None).await;
    is_broken_off(&["12345", "67890GET /inner HTTP/1.1\r\nhost: localhost\r\n\r\n"], None).await;
    is_broken_off(&["12345"], Some(&Fields::of(&[("x-sum", "1")]))).await;
}

/// A request whose program has got its head and two bytes of its body.
async fn begun() -> (Peer, u32, Wire, Program, Proxy) {
    let (mut client, program, proxy) = from_h2("").await;
    let stream = client.begins(&request("POST", "/").and(&[("trailer", "x")])).await;
    client.data(stream, "ab", false).await;
    let mut connection = program.connection().await;
    connection.head().await;
    assert_eq!(connection.chunk().await.unwrap(), b"ab");
    (client, stream, connection, program, proxy)
}

#[tokio::test]
async fn s55_trailers_of_one_connection_break_their_request() {
    let (mut client, stream, mut connection, program, _proxy) = begun().await;
    client.head(stream, &Fields::of(&[("connection", "close")]), true).await;
    assert_eq!(client.outcome(stream).await.ended, Ended::Reset(Code::ProtocolError));
    assert_eq!(connection.rest().await.0, b"");
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn s55_t27_trailers_that_http1_would_read_otherwise_break_their_connection() {
    for trailer in [("X-Upper", "1"), ("x", "1\r\ny: 2"), ("x y", "1")] {
        let (mut client, stream, mut connection, program, proxy) = begun().await;
        client.head(stream, &Fields::of(&[trailer]), true).await;
        assert_eq!(client.goaway().await.1, Code::ProtocolError, "{trailer:?}");
        assert_eq!(connection.rest().await.0, b"", "{trailer:?}");
        goes_on(&mut proxy.connect_h2().await, &program).await;
    }
}

#[tokio::test]
async fn s55_what_a_head_begins_with_is_no_trailer() {
    let (mut client, stream, mut connection, _program, _proxy) = begun().await;
    client.head(stream, &Fields::of(&[(":path", "/other"), ("x", "1")]), true).await;
    assert_eq!(connection.chunk().await, None);
    assert_eq!(connection.until("\r\n\r\n").await, "x: 1\r\n\r\n");
    connection.send(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");
}

#[tokio::test]
async fn s55_fields_in_the_middle_of_a_body_break_their_request() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.begins(&request("POST", "/")).await;
    let mut connection = program.connection().await;
    connection.head().await;
    client.head(stream, &Fields::of(&[("x-sum", "1")]), false).await;
    let answer = client.outcome(stream).await;
    assert_eq!(answer.ended, Ended::Reset(Code::ProtocolError));
    assert_eq!(connection.rest().await.0, b"");
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn s6_connect_without_a_protocol_is_refused_and_nothing_is_dialled() {
    let elsewhere = crate::harness::program();
    let (mut client, program, _proxy) = from_h2("").await;
    for authority in [format!("127.0.0.1:{}", elsewhere.port()), "localhost:80".into(), "evil.test:443".into()] {
        let stream = client.begins(&Fields::of(&[(":method", "CONNECT"), (":authority", &authority)])).await;
        let answer = client.outcome(stream).await;
        assert!(matches!(answer.status(), 405 | 501), "{answer:?}");
    }
    elsewhere.is_left_alone();
    goes_on(&mut client, &program).await;
}
