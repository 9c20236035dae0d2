//! Windows from end to end: whoever does not read holds back whoever sends, and nobody else (S61, F21, F22).

use std::time::Duration;

use tokio::time::timeout;

use crate::harness::{
    OK, Wire, bytes_of,
    h2::{Ended, Fields, Frame, LONGEST, Peer, from_h2, get, request, status, through_h2, to_h2},
};

/// What the kernel may keep of the connections on the way, both ends of each (`net.ipv4.tcp_wmem`, `tcp_rmem`): 4 MiB and
/// 6 MiB unless somebody has changed that, which is seen by a test that finds no end.
const KERNEL: usize = 24 << 20;

/// What a connection has until more is given.
const WINDOW: usize = 65_535;

/// How long nothing must go on until it counts as held back. On a slow machine too little would be counted: no test
/// fails of that.
const HELD: Duration = Duration::from_millis(500);

/// Sends until nothing is taken any more, or so much was that nothing holds it back.
async fn send_until_held(wire: &mut Wire, body: &[u8]) -> usize {
    let mut sent = 0;
    while let Ok(some) = timeout(HELD, wire.send_some(&body[sent..])).await {
        sent += some;
        assert!(sent < body.len(), "all of {sent} bytes was taken, and nobody reads");
    }
    sent
}

/// As [`send_until_held`], on a stream whose windows are kept to.
async fn send_until_shut(peer: &mut Peer, stream: u32, body: &[u8]) -> usize {
    let mut sent = 0;
    loop {
        let room = peer.room(stream).min(LONGEST);
        if room > 0 {
            peer.data(stream, &body[sent..sent + room], false).await;
            sent += room;
            assert!(sent + LONGEST < body.len(), "all of {sent} bytes was taken, and nobody reads");
        } else if timeout(HELD, peer.read_one()).await.is_err() {
            return sent;
        }
    }
}

#[tokio::test]
async fn f21_a_client_that_does_not_read_holds_back_its_program() {
    let (_, program, proxy) = from_h2("").await;
    let mut client = proxy.connect_h2().await;
    client.gives_back = false;
    let stream = client.asks(&get("/", &[])).await;
    let mut connection = program.connection().await;
    connection.request().await;
    let body = bytes_of(KERNEL * 2);
    connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    let sent = send_until_held(&mut connection, &body).await;
    client.answered(stream).await;
    assert_eq!(client.bytes(stream, WINDOW).await, body[..WINDOW]);
    // Once it reads, all of it comes.
    client.gives_back = true;
    client.give_back(stream, 1 << 24).await;
    let sends = connection.send_patiently(&body[sent..]);
    let (rest, all) = tokio::join!(client.rest(stream, Fields::default(), false), sends);
    all.unwrap();
    assert_eq!(rest.ended, Ended::Whole);
    assert!(rest.body == body[WINDOW..], "{} bytes came that were not those that were sent", rest.body.len());
}

#[tokio::test]
async fn f21_a_client_that_does_not_read_holds_back_its_program_of_http2() {
    let (mut client, program, _proxy) = through_h2("").await;
    client.gives_back = false;
    let asked = client.asks(&get("/", &[])).await;
    let mut connection = program.h2_connection().await;
    let seen = connection.request().await;
    connection.head(seen.stream, &status("200", &[]), false).await;
    let sent = send_until_shut(&mut connection, seen.stream, &bytes_of(KERNEL)).await;
    assert!(sent <= 1 << 20, "{sent} bytes are kept for a client that does not read");
    client.answered(asked).await;
    assert_eq!(client.bytes(asked, WINDOW).await.len(), WINDOW);
    client.gives_back = true;
    client.give_back(asked, WINDOW as u32).await;
    let (rest, ()) =
        tokio::join!(client.rest(asked, Fields::default(), false), connection.body(seen.stream, "the end", true));
    assert_eq!((rest.ended, WINDOW + rest.body.len()), (Ended::Whole, sent + "the end".len()));
}

#[tokio::test]
async fn f21_a_client_of_http1_that_does_not_read_holds_back_its_program_of_http2() {
    let (mut client, program, _proxy) = to_h2("").await;
    client.send("GET / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    let mut connection = program.h2_connection().await;
    let seen = connection.request().await;
    let body = bytes_of(KERNEL * 2);
    connection.head(seen.stream, &status("200", &[("content-length", &body.len().to_string())]), false).await;
    let sent = send_until_shut(&mut connection, seen.stream, &body).await;
    let (response, ()) = tokio::join!(client.response(), connection.body(seen.stream, &body[sent..], true));
    assert!(response.body == body);
}

#[tokio::test]
async fn f22_a_program_that_does_not_read_holds_back_its_client() {
    let (mut client, program, _proxy) = from_h2("").await;
    client.settings().await;
    let stream = client.begins(&request("POST", "/")).await;
    let mut connection = program.connection().await;
    connection.head().await;
    let sent = send_until_shut(&mut client, stream, &bytes_of(KERNEL * 2)).await;
    let reads = async {
        let mut body = 0;
        while let Some(chunk) = connection.chunk().await {
            body += chunk.len();
        }
        connection.until("\r\n").await;
        connection.send(OK).await;
        body
    };
    let ends = async {
        client.data(stream, "", true).await;
        client.answer(stream).await
    };
    let (body, answer) = tokio::join!(reads, ends);
    assert_eq!((body, answer.text().as_str()), (sent, "ok"));
}

#[tokio::test]
async fn f22_a_program_of_http2_that_does_not_read_holds_back_its_client() {
    let (mut client, program, _proxy) = through_h2("").await;
    client.settings().await;
    let asked = client.begins(&request("POST", "/")).await;
    let mut connection = program.h2_connection().await;
    connection.gives_back = false;
    let (stream, fields, _) = connection.opened().await;
    let sent = send_until_shut(&mut client, asked, &bytes_of(KERNEL)).await;
    assert!(sent <= 1 << 20, "{sent} bytes are kept for a program that does not read");
    assert_eq!(connection.bytes(stream, WINDOW).await.len(), WINDOW);
    connection.gives_back = true;
    connection.give_back(stream, WINDOW as u32).await;
    client.data(asked, "", true).await;
    let rest = connection.rest(stream, fields, false).await;
    assert_eq!((rest.ended, WINDOW + rest.body.len()), (Ended::Whole, sent));
    connection.responds(stream, &status("200", &[]), "ok").await;
    assert_eq!(client.answer(asked).await.text(), "ok");
}

#[tokio::test]
async fn s61_a_stream_that_nobody_reads_delays_no_other() {
    let (mut client, program, _proxy) = from_h2("").await;
    // Plenty for the connection, so that only the stream itself is shut.
    client.send(Frame::window(0, 1 << 24)).await;
    client.gives_back = false;
    let stalled = client.asks(&get("/stalled", &[])).await;
    let mut connection = program.connection().await;
    connection.request().await;
    let body = bytes_of(KERNEL * 2);
    connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())).await;
    send_until_held(&mut connection, &body).await;
    client.answered(stalled).await;
    let small = bytes_of(60_000);
    let mut kept: Option<Wire> = None;
    for number in 0..100 {
        let stream = client.asks(&get("/small", &[])).await;
        let mut other = match kept.take() {
            Some(other) => program.next_connection(other).await,
            None => program.connection().await,
        };
        other.answers([b"HTTP/1.1 200 OK\r\ncontent-length: 60000\r\n\r\n", &small[..]].concat()).await;
        assert!(client.answer(stream).await.body == small, "answer {number}");
        kept = Some(other);
    }
}

#[tokio::test]
async fn s61_a_stream_that_nobody_reads_delays_no_other_on_the_programs_connection() {
    let (mut client, program, _proxy) = through_h2("").await;
    client.send(Frame::window(0, 1 << 24)).await;
    client.gives_back = false;
    let asked = client.asks(&get("/stalled", &[])).await;
    let mut connection = program.h2_connection().await;
    let stalled = connection.request().await;
    connection.head(stalled.stream, &status("200", &[]), false).await;
    send_until_shut(&mut connection, stalled.stream, &bytes_of(KERNEL)).await;
    client.answered(asked).await;
    for number in 0..100 {
        let stream = client.asks(&get("/small", &[])).await;
        let seen = connection.request().await;
        let body = "s".repeat(30_000);
        connection.responds(seen.stream, &status("200", &[]), &body).await;
        assert!(client.answer(stream).await.text() == body, "answer {number}");
    }
    program.is_left_alone();
}

#[tokio::test]
async fn s61_an_upload_that_its_program_does_not_read_delays_no_other() {
    let (mut client, program, _proxy) = from_h2("").await;
    client.settings().await;
    let stalled = client.begins(&request("POST", "/stalled")).await;
    let mut connection = program.connection().await;
    connection.head().await;
    send_until_shut(&mut client, stalled, &bytes_of(KERNEL * 2)).await;
    // Its own window is shut; that of the connection is not, or nobody could upload anything.
    for _ in 0..20 {
        let body = bytes_of(100_000);
        let upload = request("POST", "/other");
        let answers = async { program.connection().await.answers(OK).await };
        let (answer, seen) = tokio::join!(client.ask_with(&upload, &body), answers);
        assert!(seen.body == body);
        assert_eq!(answer.text(), "ok");
    }
}
