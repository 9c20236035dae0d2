//! The end of a connection by GOAWAY: what was not looked at is asked again, what is in hand is finished (F7, S64).

use super::next_request;
use crate::harness::{
    OK, Proxy, get,
    h2::{Code, Ended, Fields, Frame, Peer, from_h2, get as get2, request, status, through_h2, to_h2},
    post, program, within,
};

/// The largest number that a stream can have: "none is refused so far".
const ALL: u32 = 0x7fff_ffff;

/// How a program says that it has not looked at a request.
#[derive(Debug, Clone, Copy)]
enum Unseen {
    /// That stream only.
    Refused,
    /// Everything from this stream on.
    GoAway,
    /// The same, and the connection ends at once.
    GoAwayAndEnd,
}

impl Unseen {
    const ALL: [Self; 3] = [Self::Refused, Self::GoAway, Self::GoAwayAndEnd];

    async fn tell(self, connection: &mut Peer, stream: u32) {
        match self {
            Self::Refused => connection.reset(stream, Code::RefusedStream).await,
            Self::GoAway | Self::GoAwayAndEnd => connection.send(Frame::goaway(stream - 1, Code::NoError)).await,
        }
        if matches!(self, Self::GoAwayAndEnd) {
            connection.wire.shut().await;
        }
    }
}

#[tokio::test]
async fn f7_a_request_that_a_program_has_not_looked_at_is_asked_again_whatever_its_method() {
    for unseen in Unseen::ALL {
        for (raw, method) in [
            (get("/", &[]), "GET"),
            (post("/", "a body"), "POST"),
            ("DELETE / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), "DELETE"),
            ("POST / HTTP/1.1\r\nhost: localhost\r\n\r\n".to_owned(), "POST"),
        ] {
            let (mut client, program, _proxy) = to_h2("").await;
            client.send(&raw).await;
            let mut connection = program.h2_connection().await;
            let first = connection.request().await;
            unseen.tell(&mut connection, first.stream).await;
            let (mut connection, (stream, fields, ends)) = next_request(&program, connection).await;
            let second = connection.rest(stream, fields, ends).await;
            assert_eq!(second.field(":method"), Some(method));
            assert_eq!((second.fields.clone(), second.body.clone()), (first.fields, first.body), "{unseen:?} {raw:?}");
            connection.responds(second.stream, &status("200", &[]), "again").await;
            assert_eq!(client.response().await.text(), "again", "{unseen:?} {raw:?}");
        }
    }
}

#[tokio::test]
async fn f7_a_program_that_refuses_for_ever_is_asked_a_bounded_number_of_times() {
    let (mut client, program, _proxy) = to_h2("").await;
    client.send(get("/", &[])).await;
    let mut connection = program.h2_connection().await;
    let refuses = async {
        let mut count = 0;
        loop {
            let seen = connection.request().await;
            connection.reset(seen.stream, Code::RefusedStream).await;
            count += 1;
            assert!(count < 10, "it is asked again and again");
        }
    };
    tokio::select! {
        () = refuses => {}
        response = client.response() => assert_eq!(response.error(), (502, "upstream-closed")),
    }
}

#[tokio::test]
async fn f7_a_request_that_a_program_may_have_looked_at_is_not_asked_again() {
    for code in [Code::NoError, Code::InternalError, Code::EnhanceYourCalm] {
        let (mut client, program, _proxy) = to_h2("").await;
        client.send(post("/", "a body")).await;
        let mut connection = program.h2_connection().await;
        let seen = connection.request().await;
        connection.send(Frame::goaway(seen.stream, code)).await;
        connection.wire.shut().await;
        assert_eq!(client.response().await.error(), (502, "upstream-closed"), "{code:?}");
        program.is_left_alone();
    }
}

#[tokio::test]
async fn s64_what_a_program_has_in_hand_behind_its_goaway_is_finished_and_what_follows_goes_elsewhere() {
    let (mut client, program, _proxy) = through_h2("").await;
    let first = client.asks(&get2("/first", &[])).await;
    let mut connection = program.h2_connection().await;
    let seen = connection.request().await;
    connection.head(seen.stream, &status("200", &[]), false).await;
    connection.data(seen.stream, "one ", false).await;
    client.answered(first).await;
    connection.send(Frame::goaway(ALL, Code::NoError)).await;
    connection.is_heard().await;
    connection.send(Frame::goaway(seen.stream, Code::NoError)).await;
    connection.is_heard().await;

    let second = client.asks(&get2("/second", &[])).await;
    let mut other = program.h2_connection().await;
    assert_eq!(other.answers("second").await.field(":path"), Some("/second"));
    assert_eq!(client.answer(second).await.text(), "second");

    connection.data(seen.stream, "two", true).await;
    let rest = client.rest(first, Fields::default(), false).await;
    assert_eq!((rest.text().as_str(), rest.ended), ("one two", Ended::Whole));
    connection.until_the_end().await;
}

#[tokio::test]
async fn s64_f29_a_proxy_that_drains_finishes_what_it_has_in_hand() {
    let (mut client, program, proxy) = from_h2("").await;
    let stream = client.asks(&get2("/", &[])).await;
    let mut connection = program.connection().await;
    connection.request().await;
    let answers = async {
        // Two steps: that something is about to end, and what is the last that counts.
        assert_eq!(client.goaway().await, (ALL, Code::NoError));
        assert_eq!(client.goaway().await, (stream, Code::NoError));
        connection.send(OK).await;
        assert_eq!(client.answer(stream).await.text(), "ok");
        client.until_the_end().await
    };
    let ((), (events, _)) = tokio::join!(within("the drain", proxy.drain()), answers);
    assert_eq!(events, []);
}

#[tokio::test]
async fn s64_f29_a_connection_without_a_stream_is_drained_at_once() {
    let (mut client, _, proxy) = from_h2("").await;
    client.settings().await;
    let ((), _) = tokio::join!(within("the drain", proxy.drain()), client.until_the_end());
}

#[tokio::test]
async fn s64_f29_a_drain_ends_connections_to_programs_of_http2() {
    let (mut client, program, proxy) = through_h2("").await;
    let stream = client.asks(&get2("/", &[])).await;
    let mut connection = program.h2_connection().await;
    connection.answers("ok").await;
    assert_eq!(client.answer(stream).await.text(), "ok");
    tokio::join!(within("the drain", proxy.drain()), client.until_the_end(), connection.until_the_end());
}

#[tokio::test]
async fn f26_streams_in_hand_outlive_a_new_table() {
    let (mut client, old, proxy): (_, _, Proxy) = from_h2("").await;
    let stream = client.begins(&request("POST", "/")).await;
    let mut connection = old.connection().await;
    connection.head().await;
    let new = program();
    proxy.swap(&format!("[routes.other]\npath = \"/\"\nto = {}", new.port()));
    let next = client.asks(&get2("/", &[])).await;
    new.connection().await.answers(OK).await;
    assert_eq!(client.answer(next).await.text(), "ok");
    client.data(stream, "part", true).await;
    assert_eq!(connection.chunk().await.unwrap(), b"part");
    assert_eq!(connection.chunk().await, None);
    connection.until("\r\n").await;
    connection.send(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");
    old.is_left_alone();
}
