//! Interim answers on their way to the client, and the bodies that wait for one (RFC 9110 §15.2, §10.1.1).

use crate::harness::{End, GET, OK, Program, Proxy, Wire, get, request, through};

const CONTINUE: &str = "HTTP/1.1 100 Continue\r\n\r\n";
const PROCESSING: &str = "HTTP/1.1 102 Processing\r\n\r\n";
const HINTS: &str = "HTTP/1.1 103 Early Hints\r\nLink: </a.css>; rel=preload\r\nlink: </b.js>\r\nX-b: 1\r\n\r\n";

/// The most interim answers of an exchange.
const MOST: usize = 32;

/// Another client's request is answered, over a new connection of the program.
async fn goes_on(proxy: &Proxy, program: &Program) {
    let mut client = proxy.connect().await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn s40_f17_each_interim_answer_reaches_the_client_before_the_program_sends_the_next() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.request().await;
    for interim in [HINTS, PROCESSING, HINTS, CONTINUE, "HTTP/1.1 199 Unheard\r\nx: y\r\n\r\n"] {
        connection.send(interim).await;
        let head = client.head().await;
        assert_eq!((head.status(), fields(&head.text)), (Ok(interim[9..12].parse().unwrap()), fields(interim)));
    }
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    client.send(GET).await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

/// What follows the status line, whose reason may change.
fn fields(head: &str) -> &str {
    head.split_once("\r\n").unwrap().1
}

#[tokio::test]
async fn s40_interim_answers_in_one_segment_with_the_last_one_come_in_order() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET.repeat(2)).await;
    let mut connection = program.connection().await;
    for _ in 0..2 {
        connection.answers([HINTS, PROCESSING, OK].concat()).await;
        assert_eq!(client.head().await.all("link"), ["</a.css>; rel=preload", "</b.js>"]);
        assert_eq!(client.head().await.status(), Ok(102));
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn s40_s23_an_interim_answer_loses_what_is_of_one_connection() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let hop = "connection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=9\r\nproxy-connection: close\r\nupgrade: h2c\r\n\
        transfer-encoding: chunked\r\ncontent-length: 5\r\n";
    let mut connection = program.connection().await;
    connection.answers(format!("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n{hop}x-end: 1\r\n\r\n{OK}")).await;
    let head = client.head().await;
    assert_eq!(head.fields().collect::<Vec<_>>(), [("link", "</a>"), ("x-end", "1")]);
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn s40_answers_of_every_kind_may_follow_an_interim_one() {
    for (method, answer, status) in [
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", 204),
        ("GET", "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\n\r\n", 304),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", 200),
        ("GET", "HTTP/1.1 404 Not Found\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n", 404),
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(request(method, "/", &[])).await;
        let mut connection = program.connection().await;
        connection.answers(HINTS.to_owned() + answer).await;
        assert_eq!(client.head().await.status(), Ok(103), "{answer:?}");
        let last = client.try_response(method == "HEAD").await.unwrap().unwrap();
        assert_eq!(last.status, status, "{answer:?}");
        client.send(GET).await;
        connection.answers(OK).await;
        assert_eq!(client.response().await.text(), "ok", "{answer:?}");
    }
}

#[tokio::test]
async fn s17_s40_a_1_0_client_gets_no_interim_answer() {
    let (mut client, program, _proxy) = through("").await;
    client.send("GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
    program.connection().await.answers([HINTS, PROCESSING, CONTINUE, OK].concat()).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (200, "ok"));
    assert_eq!(client.end().await, End::Closed);
}

#[tokio::test]
async fn s40_a_program_that_ends_behind_an_interim_answer_has_not_answered() {
    for part in ["", "HTTP/1.1 200", "HTTP/1.1 103 Early"] {
        let (mut client, program, proxy) = through("retries = 3").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers(HINTS.to_owned() + part).await;
        assert_eq!(client.head().await.status(), Ok(103), "{part:?}");
        drop(connection);
        assert_eq!(client.response().await.error(), (502, "upstream-closed"), "{part:?}");
        program.is_left_alone();
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn s46_nothing_is_repeated_after_an_interim_answer() {
    let (mut client, program, _proxy) = through("retries = 3").await;
    client.send(GET).await;
    let mut kept = program.connection().await;
    kept.answers(OK).await;
    client.response().await;
    client.send(GET).await;
    kept.answers(HINTS).await;
    assert_eq!(client.head().await.status(), Ok(103));
    drop(kept);
    assert_eq!(client.response().await.error(), (502, "upstream-closed"));
    program.is_left_alone();
}

#[tokio::test]
async fn f3_a_program_that_only_hints_is_given_up_at_the_limit() {
    let (mut client, program, _proxy) = through("timeout = \"300ms\"").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers(HINTS).await;
    assert_eq!(client.head().await.status(), Ok(103));
    assert_eq!(client.response().await.error(), (504, "upstream-timeout"));
    connection.end().await;
}

#[tokio::test]
async fn f14_as_many_interim_answers_as_are_allowed_come_with_the_last_one() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    program.connection().await.answers(HINTS.repeat(MOST) + OK).await;
    for _ in 0..MOST {
        assert_eq!(client.head().await.status(), Ok(103));
    }
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn f14_a_program_that_never_stops_to_hint_is_cut_off() {
    for (version, most) in [("1.1", MOST), ("1.0", 0)] {
        let (mut client, program, proxy) = through("").await;
        client.send(format!("GET / HTTP/{version}\r\nhost: localhost\r\n\r\n")).await;
        let mut connection = program.connection().await;
        connection.request().await;
        // It may be cut off before it has sent all of them.
        let _ = connection.try_send(HINTS.repeat(10_000)).await;
        let mut count = 0;
        let last = loop {
            let response = client.response().await;
            if response.status >= 200 {
                break response;
            }
            count += 1;
        };
        assert_eq!((last.error(), count), ((502, "bad-upstream-reply"), most), "HTTP/{version}");
        connection.rest().await;
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn s35_a_broken_interim_answer_is_a_bad_reply() {
    for interim in ["HTTP/1.1 103 Early Hints\r\nx : y\r\n\r\n", "HTTP/1.1 103 Early Hints\r\nx: a\0b\r\n\r\n"] {
        let (mut client, program, _proxy) = through("").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers(interim.to_owned() + OK).await;
        assert_eq!(client.response().await.error(), (502, "bad-upstream-reply"), "{interim:?}");
        connection.rest().await;
    }
}

#[tokio::test]
async fn s41_interim_answers_before_a_change_of_protocol_come_before_it() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &["connection: upgrade", "upgrade: echo"])).await;
    let mut connection = program.connection().await;
    connection.head().await;
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    connection.send(format!("{HINTS}{switch}early")).await;
    assert_eq!(client.head().await.status(), Ok(103));
    assert_eq!(client.head().await.status(), Ok(101));
    assert_eq!(client.bytes(5).await, b"early");
}

const EXPECTS: &str = "POST / HTTP/1.1\r\nhost: localhost\r\nExpect: 100-continue\r\ncontent-length: 6\r\n\r\n";

/// The body that the client holds back goes to the program, and both connections go on.
async fn is_sent(client: &mut Wire, connection: &mut Wire) {
    client.send("a body").await;
    assert_eq!(connection.bytes(6).await, b"a body");
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    client.send(GET).await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn f15_s41_the_clients_body_is_asked_for_when_the_program_asks_for_it() {
    let (mut client, program, _proxy) = through("").await;
    client.send(EXPECTS).await;
    let mut connection = program.connection().await;
    assert_eq!(connection.head().await.field("expect"), Some("100-continue"));
    connection.send(CONTINUE).await;
    assert_eq!(client.head().await.text, CONTINUE);
    is_sent(&mut client, &mut connection).await;
}

#[tokio::test]
async fn f15_s41_a_program_that_says_nothing_gets_the_body_after_a_while() {
    let (mut client, program, _proxy) = through("").await;
    client.send(EXPECTS).await;
    let mut connection = program.connection().await;
    connection.head().await;
    assert_eq!(client.head().await.text, CONTINUE);
    is_sent(&mut client, &mut connection).await;
}

#[tokio::test]
async fn f15_s41_other_interim_answers_do_not_ask_for_the_body() {
    let (mut client, program, _proxy) = through("").await;
    client.send(EXPECTS).await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(HINTS).await;
    assert_eq!(client.head().await.status(), Ok(103));
    assert!(!client.has_news(), "{:?}", client.some().await);
    connection.send(CONTINUE).await;
    assert_eq!(client.head().await.text, CONTINUE);
    is_sent(&mut client, &mut connection).await;
}

#[tokio::test]
async fn f15_s41_a_chunked_body_waits_like_any_other() {
    let (mut client, program, _proxy) = through("").await;
    let chunked = "expect: 100-continue\r\ntransfer-encoding: chunked";
    client.send(format!("PUT / HTTP/1.1\r\nhost: localhost\r\n{chunked}\r\n\r\n")).await;
    let mut connection = program.connection().await;
    assert_eq!(connection.head().await.field("expect"), Some("100-continue"));
    connection.send(CONTINUE).await;
    assert_eq!(client.head().await.text, CONTINUE);
    client.send("2\r\nab\r\n0\r\n\r\n").await;
    assert_eq!(connection.until("0\r\n\r\n").await, "2\r\nab\r\n0\r\n\r\n");
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn f15_s41_a_client_that_does_not_wait_loses_nothing() {
    let (mut client, program, _proxy) = through("").await;
    client.send(format!("{EXPECTS}a body{GET}")).await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(CONTINUE).await;
    assert_eq!(connection.bytes(6).await, b"a body");
    connection.send(OK).await;
    connection.answers(OK).await;
    let mut last = client.response().await;
    if last.status == 100 {
        // It need not be told any more, and may be all the same.
        last = client.response().await;
    }
    assert_eq!(last.text(), "ok");
    assert_eq!(client.response().await.text(), "ok");
    program.is_left_alone();
}

#[tokio::test]
async fn f15_t24_an_answer_before_the_body_is_passed_on_and_neither_connection_is_used_again() {
    for status in [417, 200, 401] {
        for framing in ["content-length: 6", "transfer-encoding: chunked"] {
            let (mut client, program, proxy) = through("").await;
            let expects = format!("POST / HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\n{framing}\r\n\r\n");
            client.send(expects).await;
            let mut connection = program.connection().await;
            connection.head().await;
            connection.send(format!("HTTP/1.1 {status} Now\r\ncontent-length: 2\r\n\r\nno")).await;
            // No 100 comes before it.
            let response = client.response().await;
            assert_eq!((response.status, response.text().as_str()), (status, "no"), "{framing}");
            assert_eq!(response.field("connection"), Some("close"), "{status} {framing}");
            connection.end().await;
            assert_eq!(client.end().await, End::Closed);
            goes_on(&proxy, &program).await;
        }
    }
}

#[tokio::test]
async fn f15_t24_a_body_that_comes_behind_an_early_answer_is_no_request() {
    let (mut client, program, proxy) = through("").await;
    let hidden = get("/hidden", &[]);
    let length = hidden.len();
    client
        .send(format!("POST / HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: {length}\r\n\r\n"))
        .await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").await;
    assert_eq!(client.response().await.status, 417);
    // A client may send its body for all that. It is read and thrown away, so that nothing resets the answer.
    let _ = client.try_send(&hidden).await;
    assert_eq!(client.end().await, End::Closed);
    connection.rest().await;
    program.is_left_alone();
    goes_on(&proxy, &program).await;
}

#[tokio::test]
async fn f15_an_answer_behind_the_100_that_does_not_wait_for_the_body_is_passed_on() {
    let (mut client, program, proxy) = through("").await;
    client.send(EXPECTS).await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(format!("{CONTINUE}HTTP/1.1 403 Forbidden\r\ncontent-length: 2\r\n\r\nno")).await;
    assert_eq!(client.head().await.text, CONTINUE);
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (403, "no"));
    // The client was told to send its body, and does.
    let _ = client.try_send("a body").await;
    drop(connection);
    goes_on(&proxy, &program).await;
}

#[tokio::test]
async fn s17_s41_nobody_waits_for_a_1_0_client() {
    let (mut client, program, _proxy) = through("").await;
    client.send("POST / HTTP/1.0\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 6\r\n\r\na body").await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(CONTINUE).await;
    assert_eq!(connection.bytes(6).await, b"a body");
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

/// A client whose proxy keeps a connection to the program from an earlier request.
async fn with_a_kept_connection() -> (Wire, Wire, Program, Proxy) {
    let (mut client, program, proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    (client, connection, program, proxy)
}

#[tokio::test]
async fn f5_s41_a_body_that_waits_goes_to_the_connection_that_is_left() {
    let (mut client, kept, program, _proxy) = with_a_kept_connection().await;
    // Closed before it is asked again: no byte of the request was taken there.
    drop(kept);
    client.send(EXPECTS).await;
    let mut fresh = program.connection().await;
    assert_eq!(fresh.head().await.field("expect"), Some("100-continue"));
    fresh.send(CONTINUE).await;
    assert_eq!(client.head().await.text, CONTINUE);
    is_sent(&mut client, &mut fresh).await;
    program.is_left_alone();
}

#[tokio::test]
async fn f5_s41_an_idempotent_request_whose_body_was_not_sent_is_repeated_and_waits_again() {
    let (mut client, mut kept, program, _proxy) = with_a_kept_connection().await;
    client.send(EXPECTS.replace("POST", "PUT")).await;
    kept.head().await;
    drop(kept);
    let mut fresh = program.connection().await;
    assert_eq!(fresh.head().await.field("expect"), Some("100-continue"));
    fresh.send(CONTINUE).await;
    assert_eq!(client.head().await.text, CONTINUE);
    is_sent(&mut client, &mut fresh).await;
    program.is_left_alone();
}

#[tokio::test]
async fn f5_s41_a_post_that_waits_is_never_sent_twice() {
    let (mut client, mut kept, program, proxy) = with_a_kept_connection().await;
    client.send(EXPECTS).await;
    kept.head().await;
    drop(kept);
    assert_eq!(client.response().await.error(), (502, "upstream-closed"));
    program.is_left_alone();
    goes_on(&proxy, &program).await;
}

#[tokio::test]
async fn f5_s46_nothing_is_repeated_once_the_body_was_asked_for() {
    let (mut client, mut kept, program, proxy) = with_a_kept_connection().await;
    client.send(EXPECTS.replace("POST", "PUT")).await;
    kept.head().await;
    kept.send(CONTINUE).await;
    assert_eq!(client.head().await.text, CONTINUE);
    drop(kept);
    assert_eq!(client.response().await.error(), (502, "upstream-closed"));
    program.is_left_alone();
    goes_on(&proxy, &program).await;
}

#[tokio::test]
async fn s41_an_expectation_that_nobody_knows_is_the_programs_business() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &["expect: a-miracle"])).await;
    let mut connection = program.connection().await;
    let seen = connection.answers("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(seen.field("expect"), Some("a-miracle"));
    assert_eq!(client.response().await.status, 417);
}

#[tokio::test]
async fn s41_a_request_that_waits_without_a_body_waits_for_nothing() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &["expect: 100-continue"]).repeat(2)).await;
    let mut connection = program.connection().await;
    for _ in 0..2 {
        connection.answers(OK).await;
        let response = client.response().await;
        assert_eq!((response.text().as_str(), response.field("connection")), ("ok", None));
    }
    program.is_left_alone();
}
