//! A WebSocket in a stream (RFC 8441) to a program that speaks HTTP/1 (S53, F18, F19).

use std::collections::HashSet;

use super::{SOON, goes_on};
use crate::harness::{
    End, Program, Proxy, Wire, bytes_of,
    h2::{Code, Ended, Event, Fields, Peer, accept, from_h2, request},
    program, proxy,
};

/// What a browser asks for.
fn opens(path: &str) -> Fields {
    request("CONNECT", path).and(&[
        ("origin", "http://app.localhost:5173"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-protocol", "vite-hmr"),
    ])
}

/// The same with the protocol that makes it a CONNECT of another kind.
fn websocket(path: &str) -> Fields {
    let mut fields = opens(path);
    fields.0.insert(1, (":protocol".into(), "websocket".into()));
    fields
}

/// What a program agrees with.
fn switch(key: &str) -> String {
    format!(
        "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: websocket\r\n\
         sec-websocket-accept: {}\r\nsec-websocket-protocol: vite-hmr\r\n\r\n",
        accept(key)
    )
}

/// Both ends of a WebSocket.
async fn tunnel() -> (Peer, u32, Wire, Program, Proxy) {
    let (mut client, program, proxy) = from_h2("").await;
    let stream = client.begins(&websocket("/hmr")).await;
    let mut connection = program.connection().await;
    let asked = connection.head().await;
    connection.send(switch(asked.field("sec-websocket-key").unwrap())).await;
    assert_eq!(client.answered(stream).await.field(":status"), Some("200"));
    (client, stream, connection, program, proxy)
}

#[test]
fn what_the_harness_agrees_with_is_what_rfc_6455_says() {
    assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
}

#[tokio::test]
async fn s53_a_websocket_becomes_an_upgrade_with_a_fresh_key() {
    let (mut client, program, proxy) = from_h2("").await;
    let mut keys = HashSet::new();
    for _ in 0..5 {
        let stream = client.begins(&websocket("/hmr?token=a")).await;
        let mut connection = program.connection().await;
        let asked = connection.head().await;
        assert_eq!(asked.line(), "GET /hmr?token=a HTTP/1.1");
        let told = ["host", "origin", "upgrade", "connection", "sec-websocket-version", "sec-websocket-protocol"];
        assert_eq!(
            told.map(|name| asked.field(name)),
            ["localhost", "http://app.localhost:5173", "websocket", "upgrade", "13", "vite-hmr"].map(Some)
        );
        assert_eq!(asked.field("via"), Some(&*format!("2 portolan:{}", proxy.port())));
        assert_eq!((asked.field("content-length"), asked.field("transfer-encoding")), (None, None));
        let key = asked.field("sec-websocket-key").unwrap().to_owned();
        assert!(key.len() == 24 && key.ends_with("=="), "{key:?} are not 16 bytes");
        connection.send(switch(&key)).await;
        let agreed = client.answered(stream).await.without("date");
        assert_eq!(agreed, Fields::of(&[(":status", "200"), ("sec-websocket-protocol", "vite-hmr")]));
        assert!(keys.insert(key), "a key comes twice");
    }
}

#[tokio::test]
async fn s52_s53_bytes_go_through_both_ways_whatever_they_are() {
    let (mut client, stream, mut connection, _program, _proxy) = tunnel().await;
    let body = bytes_of(1_000_000);
    for _ in 0..2 {
        let (bytes, ()) = tokio::join!(connection.bytes(body.len()), client.body(stream, &body, false));
        assert!(bytes == body);
        let (bytes, ()) = tokio::join!(client.bytes(stream, body.len()), connection.send(&body));
        assert!(bytes == body);
    }
    client.data(stream, "a", false).await;
    assert_eq!(connection.bytes(1).await, b"a");
    connection.send("b").await;
    assert_eq!(client.bytes(stream, 1).await, b"b");
}

#[tokio::test]
async fn s50_bytes_behind_either_head_arrive_first() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.begins(&websocket("/")).await;
    client.data(stream, "early from the client, ", false).await;
    let mut connection = program.connection().await;
    let asked = connection.head().await;
    client.is_heard().await;
    assert!(!connection.has_news(), "something came before the 101");
    connection.send(switch(asked.field("sec-websocket-key").unwrap()) + "early from the program").await;
    client.answered(stream).await;
    assert_eq!(client.bytes(stream, 22).await, b"early from the program");
    client.data(stream, "later", false).await;
    assert_eq!(connection.until("later").await, "early from the client, later");
}

#[tokio::test]
async fn s53_a_key_that_was_not_answered_is_a_502() {
    for wrong in ["", "sec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n", "sec-websocket-accept: \r\n"] {
        let (mut client, program, _proxy) = from_h2("").await;
        let stream = client.begins(&websocket("/")).await;
        let mut connection = program.connection().await;
        connection.head().await;
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n";
        connection.send(format!("{switch}{wrong}\r\n")).await;
        let answer = client.answer(stream).await;
        assert_eq!(answer.error(), (502, "bad-upstream-reply"), "{wrong:?}");
        connection.rest().await;
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn t27_a_protocol_that_is_no_token_is_no_request() {
    for protocol in
        ["x\r\n\r\nGET /inner HTTP/1.1\r\nhost: localhost\r\n", "x\r\ntransfer-encoding: chunked", "a b", ""]
    {
        let (mut client, program, _proxy) = from_h2("").await;
        let mut fields = opens("/");
        fields.0.insert(1, (":protocol".into(), protocol.into()));
        let stream = client.begins(&fields).await;
        assert_eq!(client.is_reset(stream).await, Code::ProtocolError, "{protocol:?}");
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn s53_a_key_of_the_clients_own_is_not_passed_on_beside_ours() {
    let (mut client, program, _proxy) = from_h2("").await;
    let theirs = "dGhlIHNhbXBsZSBub25jZQ==";
    let stream = client.begins(&websocket("/").and(&[("sec-websocket-key", theirs)])).await;
    let mut connection = program.connection().await;
    let ours = connection.head().await.field("sec-websocket-key").unwrap().to_owned();
    assert_ne!(ours, theirs);
    connection.send(switch(&ours)).await;
    assert_eq!(client.answered(stream).await.field(":status"), Some("200"));
}

#[tokio::test]
async fn an_answer_of_the_proxys_own_agrees_to_no_websocket() {
    let proxy = proxy("[routes]\nfixed = { path = \"/\", respond = \"hello\" }");
    let mut client = proxy.connect_h2().await;
    let stream = client.begins(&websocket("/")).await;
    let answer = client.outcome(stream).await;
    assert_eq!((answer.status(), answer.text().as_str()), (501, "hello"));
}

#[tokio::test]
async fn s39_another_protocol_than_was_asked_for_is_a_502() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.begins(&websocket("/")).await;
    let mut connection = program.connection().await;
    let key = connection.head().await.field("sec-websocket-key").unwrap().to_owned();
    connection.send(switch(&key).replace("upgrade: websocket", "upgrade: echo")).await;
    assert_eq!(client.answer(stream).await.error(), (502, "bad-upstream-reply"));
}

#[tokio::test]
async fn s53_f18_a_refusal_keeps_its_status_and_its_body() {
    for status in [200, 401, 403, 426, 503] {
        let (mut client, program, _proxy) = from_h2("").await;
        let stream = client.begins(&websocket("/")).await;
        let mut connection = program.connection().await;
        connection.head().await;
        let fields = "content-length: 2\r\nwww-authenticate: Basic\r\nsec-websocket-version: 13\r\n";
        connection.send(format!("HTTP/1.1 {status} Whatever\r\n{fields}\r\nno")).await;
        let answer = client.outcome(stream).await;
        if status == 200 {
            // To a client of RFC 8441 this is what agrees: it must not be taken for that.
            assert_eq!(answer.error(), (502, "bad-upstream-reply"));
            assert_eq!(answer.field("x-portolan-route"), Some("app"));
        } else {
            assert_eq!((answer.status(), answer.text().as_str()), (status, "no"));
            assert_eq!(answer.field("www-authenticate"), Some("Basic"));
        }
        drop(connection);
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn s53_the_end_of_a_direction_is_passed_on_and_the_other_goes_on() {
    let (mut client, stream, mut connection, _program, _proxy) = tunnel().await;
    client.data(stream, "last", true).await;
    assert_eq!(connection.rest().await, (b"last".to_vec(), End::Closed));
    connection.send("still here").await;
    assert_eq!(client.bytes(stream, 10).await, b"still here");
    connection.shut().await;
    let rest = client.rest(stream, Fields::default(), false).await;
    assert_eq!((rest.text().as_str(), rest.ended), ("", Ended::Whole));

    let (mut client, stream, mut connection, _program, _proxy) = tunnel().await;
    connection.send("last").await;
    connection.shut().await;
    let rest = client.rest(stream, Fields::default(), false).await;
    assert_eq!((rest.text().as_str(), rest.ended), ("last", Ended::Whole));
    client.data(stream, "still here", true).await;
    assert_eq!(connection.rest().await, (b"still here".to_vec(), End::Closed));
}

#[tokio::test]
async fn s53_f19_a_reset_is_passed_on_as_a_reset() {
    let (mut client, stream, mut connection, program, _proxy) = tunnel().await;
    let began = std::time::Instant::now();
    client.reset(stream, Code::Cancel).await;
    assert_eq!(connection.end().await, End::Reset);
    assert!(began.elapsed() < SOON);
    goes_on(&mut client, &program).await;

    let (mut client, stream, connection, program, _proxy) = tunnel().await;
    connection.reset();
    assert_eq!(client.is_reset(stream).await, Code::Cancel);
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn f19_the_end_of_the_clients_connection_ends_its_websockets() {
    let (client, _, mut connection, _program, _proxy) = tunnel().await;
    drop(client);
    connection.end().await;
}

#[tokio::test]
async fn t1_a_strange_authority_opens_no_websocket() {
    let (mut client, program, _proxy) = from_h2("").await;
    for host in ["evil.test", "localhost.evil.test", "127.1"] {
        let stream = client.begins(&websocket("/").with(":authority", host)).await;
        let answer = client.answer(stream).await;
        assert_eq!(answer.error(), (421, "unknown-host"), "{host}");
        assert!(!answer.text().contains("app"), "{host}");
    }
    program.is_left_alone();
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn s53_t13_another_protocol_is_asked_of_the_routes_program_and_its_authority_is_never_dialled() {
    let elsewhere = program();
    let (mut client, program, _proxy) = from_h2("").await;
    let authority = format!("127.0.0.1:{}", elsewhere.port());
    let stream = client.begins(&websocket("/").with(":protocol", "echo").with(":authority", &authority)).await;
    let mut connection = program.connection().await;
    let asked = connection.head().await;
    assert_eq!((asked.field("upgrade"), asked.field("host")), (Some("echo"), Some(authority.as_str())));
    assert_eq!(asked.field("sec-websocket-key"), None);
    connection.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n").await;
    assert_eq!(client.answered(stream).await.field(":status"), Some("200"));
    connection.send("an echo").await;
    assert_eq!(client.bytes(stream, 7).await, b"an echo");
    elsewhere.is_left_alone();
}

#[tokio::test]
async fn f1_a_program_that_does_not_listen_opens_no_websocket() {
    let nobody = crate::harness::Nobody::new();
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = {}", nobody.port));
    let mut client = proxy.connect_h2().await;
    let stream = client.begins(&websocket("/")).await;
    assert_eq!(client.answer(stream).await.error(), (502, "connect-refused"));
}

#[tokio::test]
async fn f19_a_websocket_delays_no_other_stream() {
    let (mut client, stream, mut connection, program, _proxy) = tunnel().await;
    for _ in 0..10 {
        connection.send("tick").await;
        goes_on(&mut client, &program).await;
    }
    let mut ticks = Vec::new();
    while ticks.len() < 40 {
        match client.of(stream).await {
            Event::Data { bytes, .. } => ticks.extend(bytes),
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(ticks, b"tick".repeat(10));
}
