//! What a connection agrees on, and the errors that end all of it (S54, S60).

use super::{goes_on, goes_on_beside};
use crate::harness::{
    OK,
    h2::{ACK, Code, END_HEADERS, END_STREAM, Frame, from_h2, get, kind, setting},
};

#[tokio::test]
async fn the_limits_of_a_connection_are_told_at_once() {
    let (mut client, _, _proxy) = from_h2("").await;
    let settings = client.settings().await;
    let told = |id| settings.iter().find(|(of, _)| *of == id).map(|(_, value)| *value);
    assert_eq!(told(setting::MAX_CONCURRENT_STREAMS), Some(100));
    assert_eq!(told(setting::INITIAL_WINDOW_SIZE), Some(256 * 1024));
    assert_eq!(told(setting::ENABLE_CONNECT_PROTOCOL), Some(1));
    assert!(told(setting::ENABLE_PUSH).is_none_or(|push| push == 0), "{settings:?}");
}

#[tokio::test]
async fn s54_settings_and_pings_are_acknowledged() {
    let (mut client, program, _proxy) = from_h2("").await;
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1)])).await;
    client.is_heard().await;
    let stream = client.asks(&get("/", &[])).await;
    program.connection().await.answers(OK).await;
    client.gives_back = false;
    client.answered(stream).await;
    assert_eq!(client.bytes(stream, 1).await, b"o");
    // A window that shrank below nothing grows again by a change of what all begin with.
    client.send(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 2)])).await;
    assert_eq!(client.bytes(stream, 1).await, b"k");
}

#[tokio::test]
async fn s54_frames_of_unknown_kinds_and_unknown_parameters_are_ignored() {
    let (mut client, program, _proxy) = from_h2("").await;
    client.send(Frame::settings(&[(0x4a4a, 7), (0xffff, u32::MAX)])).await;
    let stream = client.begins(&get("/", &[])).await;
    for of in [0, stream] {
        client.send(Frame::new(0x4a, 0xff, of, *b"whatever")).await;
    }
    client.send(Frame::new(2, 0, stream, [0, 0, 0, 0, 15])).await;
    client.data(stream, "", true).await;
    program.connection().await.answers(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");
}

#[tokio::test]
async fn s54_padding_and_priority_are_no_part_of_a_message() {
    const PADDED: u8 = 0x8;
    const PRIORITY: u8 = 0x20;
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.stream();
    let block = get("/padded", &[]).with(":method", "POST").block();
    let payload = [&[4, 0, 0, 0, 0, 9][..], &block, &[0; 4]].concat();
    client.send(Frame::new(kind::HEADERS, PADDED | PRIORITY | END_HEADERS, stream, payload)).await;
    client.send(Frame::new(kind::DATA, PADDED, stream, [&[3][..], b"ab", &[0; 3]].concat())).await;
    client.send(Frame::new(kind::DATA, PADDED | END_STREAM, stream, [0])).await;
    let seen = program.connection().await.answers(OK).await;
    assert_eq!((seen.line(), seen.text().as_str()), ("POST /padded HTTP/1.1", "ab"));
    assert_eq!(client.answer(stream).await.text(), "ok");
}

#[tokio::test]
async fn s54_a_head_may_come_in_frames_of_one_byte() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.stream();
    let block = get("/x", &[("x-a", "1")]).block();
    // As many as an attack would have are refused.
    let (first, rest) = block.split_at(block.len() - 3);
    client.send(Frame::new(kind::HEADERS, END_STREAM, stream, first)).await;
    for (at, byte) in rest.iter().enumerate() {
        let flags = if at + 1 == rest.len() { END_HEADERS } else { 0 };
        client.send(Frame::new(kind::CONTINUATION, flags, stream, [*byte])).await;
    }
    let seen = program.connection().await.answers(OK).await;
    assert_eq!((seen.line(), seen.field("x-a")), ("GET /x HTTP/1.1", Some("1")));
    assert_eq!(client.answer(stream).await.text(), "ok");
}

#[tokio::test]
async fn s54_the_rfcs_error_ends_a_connection_that_breaks_its_rules() {
    let head = |flags| Frame::new(kind::HEADERS, flags, 1, get("/", &[]).block());
    let open = head(END_HEADERS);
    let cases: Vec<(&str, Vec<Frame>, Code)> = vec![
        ("DATA on stream 0", vec![Frame::new(kind::DATA, 0, 0, *b"a")], Code::ProtocolError),
        ("DATA on a stream that is idle", vec![Frame::new(kind::DATA, 0, 5, *b"a")], Code::ProtocolError),
        (
            "HEADERS on stream 0",
            vec![Frame::new(kind::HEADERS, END_HEADERS, 0, get("/", &[]).block())],
            Code::ProtocolError,
        ),
        (
            "a stream with the number of a server's",
            vec![Frame::new(kind::HEADERS, END_HEADERS, 2, get("/", &[]).block())],
            Code::ProtocolError,
        ),
        (
            "a push by a client",
            vec![open.clone(), Frame::new(kind::PUSH_PROMISE, END_HEADERS, 1, [0, 0, 0, 2])],
            Code::ProtocolError,
        ),
        ("CONTINUATION of nothing", vec![Frame::new(kind::CONTINUATION, END_HEADERS, 1, [])], Code::ProtocolError),
        ("a frame within a head", vec![head(0), Frame::ping([0; 8])], Code::ProtocolError),
        (
            "CONTINUATION of another stream",
            vec![head(0), Frame::new(kind::CONTINUATION, END_HEADERS, 3, [])],
            Code::ProtocolError,
        ),
        (
            "a field of a number that no table has",
            vec![Frame::new(kind::HEADERS, END_HEADERS, 1, [0xff, 0x20])],
            Code::CompressionError,
        ),
        (
            "a text in Huffman's code with the end within",
            vec![Frame::new(kind::HEADERS, END_HEADERS, 1, [0, 0x84, 0xff, 0xff, 0xff, 0xff, 0])],
            Code::CompressionError,
        ),
        (
            "a table larger than was allowed",
            vec![Frame::new(kind::HEADERS, END_HEADERS, 1, [0x3f, 0xe2, 0xff, 0x7f])],
            Code::CompressionError,
        ),
        ("SETTINGS of seven bytes", vec![Frame::new(kind::SETTINGS, 0, 0, [0; 7])], Code::FrameSizeError),
        ("SETTINGS of a stream", vec![Frame::new(kind::SETTINGS, 0, 1, [])], Code::ProtocolError),
        ("an acknowledgement with content", vec![Frame::new(kind::SETTINGS, ACK, 0, [0; 6])], Code::FrameSizeError),
        (
            "a window too large to begin with",
            vec![Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 1 << 31)])],
            Code::FlowControlError,
        ),
        ("a push that is neither yes nor no", vec![Frame::settings(&[(setting::ENABLE_PUSH, 2)])], Code::ProtocolError),
        ("frames too short to allow", vec![Frame::settings(&[(5, 100)])], Code::ProtocolError),
        ("PING of seven bytes", vec![Frame::new(kind::PING, 0, 0, [0; 7])], Code::FrameSizeError),
        ("PING of a stream", vec![Frame::new(kind::PING, 0, 1, [0; 8])], Code::ProtocolError),
        ("a reset of a stream that is idle", vec![Frame::reset(7, Code::Cancel)], Code::ProtocolError),
        (
            "a reset of three bytes",
            vec![open.clone(), Frame::new(kind::RST_STREAM, 0, 1, [0; 3])],
            Code::FrameSizeError,
        ),
        ("no more window for the connection", vec![Frame::window(0, 0)], Code::ProtocolError),
        ("no more window for a stream", vec![open.clone(), Frame::window(1, 0)], Code::ProtocolError),
        ("more window than there can be", vec![Frame::window(0, 0x7fff_ffff)], Code::FlowControlError),
        ("a window of three bytes", vec![Frame::new(kind::WINDOW_UPDATE, 0, 0, [0; 3])], Code::FrameSizeError),
        (
            "padding longer than its frame",
            vec![open.clone(), Frame::new(kind::DATA, 0x8, 1, [9, 0, 0])],
            Code::ProtocolError,
        ),
        ("a frame longer than was allowed", vec![Frame::new(0x4a, 0, 0, vec![0; (1 << 24) - 1])], Code::FrameSizeError),
    ];
    for (what, frames, named) in cases {
        let (_, program, proxy) = from_h2("").await;
        let mut client = proxy.connect_h2().await;
        client.settings().await;
        for frame in frames {
            // The connection may have ended in the middle of a long one.
            let _ = client.wire.try_send(frame.bytes()).await;
        }
        let (_, code) = client.goaway().await;
        // Of what it cannot even read the h2 crate says so, where the RFC has a better word.
        assert!(code == named || code == Code::ProtocolError, "{what}: {code:?}");
        client.until_the_end().await;
        let mut other = proxy.connect_h2().await;
        goes_on_beside(&mut other, &program).await;
    }
}

#[tokio::test]
async fn s54_an_error_of_one_stream_is_no_error_of_the_connection() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.asks(&get("/", &[])).await;
    program.connection().await.answers(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");
    // More window for a stream than there can be.
    let stream = client.begins(&get("/", &[])).await;
    client.send(Frame::window(stream, 0x7fff_ffff)).await;
    assert_eq!(client.is_reset(stream).await, Code::FlowControlError);
    goes_on_beside(&mut client, &program).await;
}

#[tokio::test]
async fn s60_a_stream_too_many_is_refused_and_the_others_are_answered() {
    const MOST: usize = 100;
    let (mut client, program, _proxy) = from_h2("").await;
    client.settings().await;
    // So that the proxy holds this client to what it has said.
    client.is_heard().await;
    let mut streams = Vec::new();
    for number in 0..=MOST {
        streams.push(client.asks(&get(&format!("/{number}"), &[])).await);
    }
    let refused = streams.pop().unwrap();
    assert_eq!(client.is_reset(refused).await, Code::RefusedStream);
    let mut connections = Vec::new();
    for _ in &streams {
        let mut connection = program.connection().await;
        let line = connection.request().await.line().to_owned();
        connections.push((line, connection));
    }
    for (line, connection) in &mut connections {
        connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{line}", line.len())).await;
    }
    for (number, stream) in streams.into_iter().enumerate() {
        assert_eq!(client.answer(stream).await.text(), format!("GET /{number} HTTP/1.1"));
    }
    program.is_left_alone();
    drop(connections);
    goes_on(&mut client, &program).await;
}
