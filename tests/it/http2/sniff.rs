//! One port for both versions: the first bytes tell which it is, however they come (S63).

use std::time::Duration;

use tokio::time::sleep;

use crate::harness::{
    GET, OK,
    h2::{Frame, PREFACE, Peer, from_h2, get},
    through,
};

/// So that the proxy reads what has come. It may be too slow for that: nothing depends on it.
async fn a_moment() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test]
async fn s63_the_preface_may_come_in_any_two_pieces() {
    let (_, program, proxy) = from_h2("").await;
    let mut kept = None;
    let beginning = [PREFACE, &Frame::settings(&[]).bytes()].concat();
    for cut in 1..beginning.len() {
        let mut wire = proxy.connect().await;
        wire.send(&beginning[..cut]).await;
        a_moment().await;
        wire.send(&beginning[cut..]).await;
        let mut client = Peer::new(wire, 1);
        let stream = client.asks(&get("/", &[])).await;
        let mut connection = match kept.take() {
            Some(connection) => program.next_connection(connection).await,
            None => program.connection().await,
        };
        connection.answers(OK).await;
        assert_eq!(client.answer(stream).await.text(), "ok", "cut at {cut}");
        kept = Some(connection);
    }
}

#[tokio::test]
async fn s63_the_preface_may_come_byte_by_byte() {
    let (_, program, proxy) = from_h2("").await;
    let mut wire = proxy.connect().await;
    for byte in PREFACE.chunks(1).chain(Frame::settings(&[]).bytes().chunks(1)) {
        wire.send(byte).await;
        a_moment().await;
    }
    let mut client = Peer::new(wire, 1);
    let stream = client.asks(&get("/", &[])).await;
    program.connection().await.answers(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");
}

#[tokio::test]
async fn s63_a_method_that_begins_as_the_preface_does_is_a_method() {
    for line in ["POST / HTTP/1.1", "PRI / HTTP/1.1", "PRI /* HTTP/1.1", "PRIM / HTTP/1.1"] {
        for cut in 1..5 {
            let (mut client, program, _proxy) = through("").await;
            let request = format!("{line}\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nab");
            client.send(&request[..cut]).await;
            a_moment().await;
            client.send(&request[cut..]).await;
            let seen = program.connection().await.answers(OK).await;
            assert_eq!((seen.line(), seen.text().as_str()), (line, "ab"));
            assert_eq!(client.response().await.text(), "ok");
        }
    }
}

#[tokio::test]
async fn s63_what_only_begins_as_the_preface_is_refused() {
    for cut in [15, 16, 17, 18, 20, 22, 23] {
        let (mut client, program, proxy) = through("").await;
        let mut bytes = PREFACE[..cut].to_vec();
        bytes.extend(b"GET / HTTP/1.1\r\nhost: localhost\r\n\r\n");
        client.send(bytes).await;
        client.rest().await;
        program.is_left_alone();
        let mut other = proxy.connect().await;
        other.send(GET).await;
        program.connection().await.answers(OK).await;
        assert_eq!(other.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn s63_a_wish_to_upgrade_to_http2_is_ignored() {
    let (mut client, program, proxy) = through("").await;
    let wish = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABkAAQAAP__\r\n";
    client.send(format!("GET / HTTP/1.1\r\nhost: localhost\r\n{wish}x-end: 1\r\n\r\n")).await;
    let mut connection = program.connection().await;
    let seen = connection.answers(OK).await;
    let added = proxy.added("localhost");
    assert_eq!(seen.head.text, format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-end: 1\r\n{added}\r\n"));
    assert_eq!(client.response().await.text(), "ok");
    client.send(GET).await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn both_versions_are_served_at_the_same_time() {
    let (mut first, program, proxy) = from_h2("").await;
    let mut second = proxy.connect().await;
    let stream = first.asks(&get("/", &[])).await;
    let mut for_first = program.connection().await;
    for_first.request().await;
    second.send(GET).await;
    program.connection().await.answers(OK).await;
    assert_eq!(second.response().await.text(), "ok");
    for_first.send(OK).await;
    assert_eq!(first.answer(stream).await.text(), "ok");
}
