//! A stream that is reset takes its request with it, in both directions and across versions (F23, S67).

use std::time::Instant;

use super::{SOON, goes_on, next_request};
use crate::harness::{
    Program, Wire, get,
    h2::{Code, Event, Frame, Peer, from_h2, get as get2, request, status, through_h2, to_h2},
};

/// The program's connection ends soon.
async fn ends_soon(connection: &mut Wire, since: Instant) {
    connection.rest().await;
    let taken = since.elapsed();
    assert!(taken < SOON, "it was told after {taken:?}");
}

/// The client resets the stream of a request that its program has got as far as `reads` says.
async fn leaves(fields: &crate::harness::h2::Fields, body: Option<&str>, reads: impl AsyncFn(&mut Wire)) {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = match body {
        None => client.asks(fields).await,
        Some(part) => {
            let stream = client.begins(fields).await;
            client.data(stream, part, false).await;
            stream
        }
    };
    let mut connection = program.connection().await;
    reads(&mut connection).await;
    let began = Instant::now();
    client.reset(stream, Code::Cancel).await;
    ends_soon(&mut connection, began).await;
    program.is_left_alone();
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn f23_s67_a_reset_while_the_answer_is_awaited_ends_the_request() {
    let reads = async |connection: &mut Wire| {
        connection.head().await;
    };
    leaves(&get2("/", &[]), None, reads).await;
    leaves(&request("HEAD", "/"), None, reads).await;
}

#[tokio::test]
async fn f23_s67_a_reset_in_the_middle_of_an_upload_ends_the_request_without_making_it_whole() {
    let (mut client, program, _proxy) = from_h2("").await;
    for length in [None, Some("10")] {
        let mut fields = request("POST", "/");
        fields.0.extend(length.map(|length| ("content-length".to_owned(), length.to_owned())));
        let stream = client.begins(&fields).await;
        client.data(stream, "part", false).await;
        let mut connection = program.connection().await;
        connection.head().await;
        let part = if length.is_some() { connection.bytes(4).await } else { connection.chunk().await.unwrap() };
        assert_eq!(part, b"part");
        let began = Instant::now();
        client.reset(stream, Code::Cancel).await;
        let (rest, _) = connection.rest().await;
        assert_eq!(rest, b"", "{length:?}");
        assert!(began.elapsed() < SOON);
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn f23_s67_a_reset_in_the_middle_of_an_answer_ends_the_request() {
    leaves(&get2("/", &[]), None, async |connection| {
        connection.request().await;
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart").await;
    })
    .await;
    leaves(&request("POST", "/"), Some("part"), async |connection| {
        connection.head().await;
        connection.chunk().await;
        connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n").await;
    })
    .await;
}

#[tokio::test]
async fn f23_the_end_of_a_clients_connection_ends_all_its_requests() {
    for has_reset in [true, false] {
        let (mut client, program, proxy) = from_h2("").await;
        let mut connections = Vec::new();
        for _ in 0..3 {
            client.asks(&get2("/", &[])).await;
            let mut connection = program.connection().await;
            connection.request().await;
            connections.push(connection);
        }
        let began = Instant::now();
        if has_reset {
            client.wire.reset();
        } else {
            drop(client);
        }
        for connection in &mut connections {
            ends_soon(connection, began).await;
        }
        goes_on(&mut proxy.connect_h2().await, &program).await;
    }
}

/// The first request of a program of HTTP/2, and that nobody has reset it so far.
async fn opened(program: &Program) -> (Peer, u32) {
    let mut connection = program.h2_connection().await;
    let (stream, _, _) = connection.opened().await;
    (connection, stream)
}

/// The program is soon told that the stream is wanted no more, and its connection is used for the next one.
async fn is_told(connection: &mut Peer, stream: u32, since: Instant) {
    loop {
        match connection.of(stream).await {
            Event::Reset { code, .. } => {
                assert_eq!(code, Code::Cancel);
                break;
            }
            Event::Data { ends: false, .. } => {}
            other => panic!("{other:?} instead of a reset"),
        }
    }
    let taken = since.elapsed();
    assert!(taken < SOON, "it was told after {taken:?}");
}

#[tokio::test]
async fn f23_s67_a_reset_goes_on_to_a_program_of_http2_and_its_connection_stays() {
    let (mut client, program, _proxy) = through_h2("").await;
    let asked = client.asks(&get2("/", &[])).await;
    let (mut connection, stream) = opened(&program).await;
    let began = Instant::now();
    client.reset(asked, Code::Cancel).await;
    is_told(&mut connection, stream, began).await;

    // In the middle of an upload, and of an answer.
    let asked = client.begins(&request("POST", "/")).await;
    client.data(asked, "part", false).await;
    let (stream, _, _) = connection.opened().await;
    assert_eq!(connection.bytes(stream, 4).await, b"part");
    connection.head(stream, &status("200", &[]), false).await;
    connection.data(stream, "part", false).await;
    client.answered(asked).await;
    let began = Instant::now();
    client.reset(asked, Code::Cancel).await;
    is_told(&mut connection, stream, began).await;

    let asked = client.asks(&get2("/next", &[])).await;
    connection.answers("next").await;
    assert_eq!(client.answer(asked).await.text(), "next");
    program.is_left_alone();
}

#[tokio::test]
async fn f23_a_client_of_http1_that_leaves_resets_its_stream() {
    let (mut client, program, proxy) = to_h2("").await;
    client.send(get("/", &[])).await;
    let (mut connection, stream) = opened(&program).await;
    let began = Instant::now();
    client.reset();
    is_told(&mut connection, stream, began).await;

    let mut client = proxy.connect().await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n").await;
    let (mut connection, (stream, _, _)) = next_request(&program, connection).await;
    assert_eq!(connection.bytes(stream, 4).await, b"part");
    let began = Instant::now();
    client.reset();
    is_told(&mut connection, stream, began).await;
}

#[tokio::test]
async fn s67_a_program_that_resets_before_its_answer_is_a_502() {
    for code in [Code::InternalError, Code::Cancel, Code::ProtocolError, Code::EnhanceYourCalm] {
        let (mut client, program, _proxy) = to_h2("").await;
        client.send(get("/", &[])).await;
        let (mut connection, stream) = opened(&program).await;
        connection.reset(stream, code).await;
        assert_eq!(client.response().await.error(), (502, "upstream-closed"), "{code:?}");
        client.send(get("/next", &[])).await;
        connection.answers("next").await;
        assert_eq!(client.response().await.text(), "next", "{code:?}");
        program.is_left_alone();
    }
}

#[tokio::test]
async fn s67_a_program_that_wants_no_more_of_an_upload_is_sent_no_more() {
    let (mut client, program, _proxy) = through_h2("").await;
    let asked = client.begins(&request("POST", "/")).await;
    client.data(asked, "part", false).await;
    let (mut connection, stream) = opened(&program).await;
    connection.reset(stream, Code::Cancel).await;
    let answer = client.outcome(asked).await;
    assert!(answer.fields.0.is_empty() || answer.status() == 502, "{answer:?}");
    // The client may go on for a while: nobody minds.
    client.data(asked, "more", false).await;
    client.is_heard().await;
    let asked = client.asks(&get2("/next", &[])).await;
    connection.answers("next").await;
    assert_eq!(client.answer(asked).await.text(), "next");
}

#[tokio::test]
async fn frames_on_a_stream_that_was_reset_are_no_error_of_the_connection() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.begins(&request("POST", "/")).await;
    client.reset(stream, Code::Cancel).await;
    client.send(Frame::window(stream, 5)).await;
    client.is_heard().await;
    super::goes_on_beside(&mut client, &program).await;
}
