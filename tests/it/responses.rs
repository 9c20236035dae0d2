//! Responses on their way back: framing made anew, nothing added, nothing made up, nothing believed.

use crate::harness::{End, Framing, GET, OK, Response, Wire, get, request, through};

/// What a client gets for what a program answers.
async fn answered(answer: impl AsRef<[u8]>) -> Response {
    asked(GET, answer).await
}

async fn asked(request: &str, answer: impl AsRef<[u8]>) -> Response {
    let (mut client, program, _proxy) = through("").await;
    client.send(request).await;
    let mut connection = program.connection().await;
    connection.answers(answer).await;
    connection.shut().await;
    client.response().await
}

#[tokio::test]
async fn s22_a_response_reaches_the_client_with_order_case_number_and_bytes_of_its_fields() {
    let answer =
        b"HTTP/1.1 200 OK\r\nX-B: 2\r\nSet-Cookie: a=1, b\r\nx-a: \xe9\xff\x80\r\nset-cookie: b=2\r\nSERVER: x\r\n\
        X-b:2\r\nx-spaces:   a  b \t \r\nX_Under-Score: 1\r\nContent-Length: 2\r\nSet-Cookie: a=1, b\r\n\r\nok";
    let expected = "HTTP/1.1 200 OK\r\nX-B: 2\r\nSet-Cookie: a=1, b\r\nx-a: \u{e9}\u{ff}\u{80}\r\nset-cookie: b=2\r\nSERVER: x\r\n\
        X-b: 2\r\nx-spaces: a  b\r\nX_Under-Score: 1\r\nContent-Length: 2\r\nSet-Cookie: a=1, b\r\n\r\n";
    let response = answered(answer).await;
    assert_eq!((response.without_date().as_str(), response.text().as_str()), (expected, "ok"));
}

#[tokio::test]
async fn s22_a_field_of_a_response_without_a_value_keeps_its_place() {
    let response =
        answered("HTTP/1.1 200 OK\r\nX-First: 1\r\nX-Empty:\r\nx-blank:  \r\ncontent-length: 0\r\n\r\n").await;
    let fields: Vec<_> = response.fields().take(4).collect();
    assert_eq!(fields, [("X-First", "1"), ("X-Empty", ""), ("x-blank", ""), ("content-length", "0")]);
}

#[tokio::test]
async fn s9_a_bare_line_feed_in_the_head_of_a_response_goes_out_as_crlf() {
    let response = answered("HTTP/1.1 200 OK\nX-One: 1\r\ncontent-length: 2\n\nok").await;
    let expected = "HTTP/1.1 200 OK\r\nX-One: 1\r\ncontent-length: 2\r\n\r\n";
    assert_eq!((response.without_date().as_str(), response.text().as_str()), (expected, "ok"));
}

#[tokio::test]
async fn s33_an_answer_to_head_has_the_length_and_no_body() {
    let (mut client, program, _proxy) = through("").await;
    client.send(request("HEAD", "/", &[])).await;
    let mut connection = program.connection().await;
    assert_eq!(connection.request().await.line(), "HEAD / HTTP/1.1");
    connection.send("HTTP/1.1 200 OK\r\ncontent-length: 5000\r\n\r\n").await;
    assert_eq!(client.response_to_head().await.field("content-length"), Some("5000"));
    // Both connections go on.
    client.send(GET).await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn s33_an_answer_to_head_has_no_body_whatever_its_framing() {
    for fields in ["transfer-encoding: chunked\r\n", "content-length: 0\r\n", ""] {
        let (mut client, program, _proxy) = through("").await;
        let mut connection = None;
        for _ in 0..2 {
            client.send(request("HEAD", "/", &[])).await;
            if connection.is_none() {
                connection = Some(program.connection().await);
            }
            connection.as_mut().unwrap().answers(format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).await;
            let response = client.response_to_head().await;
            assert_eq!((response.status, response.field("transfer-encoding")), (200, None), "{fields:?}");
        }
    }
}

#[tokio::test]
async fn s33_not_modified_has_its_validator_and_its_length_and_no_body() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &["if-none-match: \"a\""])).await;
    let mut connection = program.connection().await;
    let answer = "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 5000\r\n\r\n";
    connection.answers(answer).await;
    assert_eq!(client.response().await.without_date(), answer);
    client.send(GET).await;
    connection.answers("HTTP/1.1 304 Not Modified\r\ntransfer-encoding: chunked\r\n\r\n").await;
    assert_eq!(client.response().await.without_date(), "HTTP/1.1 304 Not Modified\r\n\r\n");
    // Both connections go on.
    client.send(GET).await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn s33_no_content_has_neither_a_length_nor_a_body() {
    for fields in ["content-length: 0\r\n", "content-length: 3\r\n", "transfer-encoding: chunked\r\n", ""] {
        let response = answered(format!("HTTP/1.1 204 No Content\r\n{fields}\r\n")).await;
        assert_eq!(response.without_date(), "HTTP/1.1 204 No Content\r\n\r\n", "{fields}");
    }
}

#[tokio::test]
async fn s34_beside_a_transfer_coding_the_length_goes() {
    let chunks = "2\r\nok\r\n0\r\n\r\n";
    for fields in [
        "transfer-encoding: chunked\r\ncontent-length: 9",
        "content-length: 1\r\ntransfer-encoding: chunked",
        "Content-Length: 2\r\nTransfer-Encoding: Chunked",
        "connection: transfer-encoding\r\ncontent-length: 1\r\ntransfer-encoding: chunked",
    ] {
        let response = answered(format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n{chunks}")).await;
        assert_eq!((response.framing, response.text().as_str()), (Framing::Chunked, "ok"), "{fields}");
    }
}

#[tokio::test]
async fn s34_f13_a_transfer_coding_that_is_not_exactly_one_chunked_is_a_bad_reply() {
    for codings in [
        "gzip",
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity",
        "xchunked",
        "chunked;q=1",
        "",
        "chunked\r\ntransfer-encoding: chunked",
        "chunked\r\nx: y\r\nTransfer-Encoding: gzip",
    ] {
        let response =
            answered(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: {codings}\r\n\r\n2\r\nok\r\n0\r\n\r\n")).await;
        assert_eq!(response.error(), (502, "bad-upstream-reply"), "{codings}");
    }
}

#[tokio::test]
async fn s35_f13_an_invalid_head_is_a_bad_reply_and_its_connection_closes() {
    for head in [
        "HTTP/1.1 200 OK\r\ncontent-length: x",
        "HTTP/1.1 200 OK\r\ncontent-length: -1",
        "HTTP/1.1 200 OK\r\ncontent-length: 1, 2",
        "HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2",
        "HTTP/1.1 20 OK",
        "HTTP/1.1 1000 OK",
        "HTTP/1.1 099 Low",
        "HTTP/1.1 000 Zero",
        "HTTP/1.1 -20 OK",
        "HTTP/1.1  200 OK",
        " HTTP/1.1 200 OK",
        "http/1.1 200 OK",
        "HTTP/1.1 abc OK",
        "HTTP/2.0 200 OK",
        "ICY 200 OK",
        "220 smtp.test ESMTP",
        "HTTP/1.1 200 OK\r\nx-space : a",
        "HTTP/1.1 200 OK\r\nx-folded: a\r\n b",
        "HTTP/1.1 200 OK\r\nx-nul: a\0b",
        "HTTP/1.1 200 OK\r\nx-return: a\rb",
        "HTTP/1.1 200 OK\r\n first: folded",
        "HTTP/1.1 200 OK\r\n: no name",
        "HTTP/1.1 200 OK\r\nno colon",
        "HTTP/1.1 200 O\0K",
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers(format!("{head}\r\n\r\n")).await;
        assert_eq!(client.response().await.error(), (502, "bad-upstream-reply"), "{head:?}");
        connection.rest().await;
    }
}

/// Answers that end before their time.
const CUTS: [&str; 10] = [
    "content-length: 5\r\n\r\n",
    "content-length: 5\r\n\r\nab",
    "content-length: 5\r\n\r\nabcd",
    "transfer-encoding: chunked\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n",
    "transfer-encoding: chunked\r\n\r\n5\r\nab",
    "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n",
    "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\nx-sum: 1\r\n",
    "transfer-encoding: chunked\r\n\r\n2\r\nabXX0\r\n\r\n",
    "transfer-encoding: chunked\r\n\r\n2\r\nab\r\nx\r\n",
];

/// The client was told that something is wrong, by the answer or by its end.
async fn is_told(mut client: Wire, what: &str) {
    match client.try_answer().await {
        Ok(response) => assert_eq!(response.status, 502, "{what}"),
        Err(fault) => assert!(fault.contains("instead of") || fault.contains("a reset"), "{what}: {fault}"),
    }
}

#[tokio::test]
async fn s36_f9_f10_a_body_that_is_cut_short_never_looks_whole() {
    for (cut, how) in CUTS.into_iter().flat_map(|cut| [(cut, End::Closed), (cut, End::Reset)]) {
        for version in ["1.1", "1.0"] {
            let (mut client, program, proxy) = through("").await;
            client.send(format!("GET / HTTP/{version}\r\nhost: localhost\r\n\r\n")).await;
            let mut connection = program.connection().await;
            connection.answers(format!("HTTP/1.1 200 OK\r\n{cut}")).await;
            match how {
                End::Closed => connection.shut().await,
                End::Reset => connection.reset(),
            }
            is_told(client, &format!("{cut:?} and {how:?} in HTTP/{version}")).await;
            let mut other = proxy.connect().await;
            other.send(GET).await;
            program.connection().await.answers(OK).await;
            assert_eq!(other.response().await.text(), "ok");
        }
    }
}

#[tokio::test]
async fn s36_f11_a_reset_ends_no_body_that_ends_with_its_connection() {
    for version in ["1.1", "1.0"] {
        let (mut client, program, _proxy) = through("").await;
        client.send(format!("GET / HTTP/{version}\r\nhost: localhost\r\n\r\n")).await;
        let mut connection = program.connection().await;
        connection.answers("HTTP/1.1 200 OK\r\n\r\na part").await;
        let head = client.head().await;
        client.until("a part").await;
        connection.reset();
        let (rest, end) = client.rest().await;
        match head.field("transfer-encoding") {
            Some(_) => assert!(!rest.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&rest)),
            None => assert_eq!((rest, end), (Vec::new(), End::Reset), "HTTP/{version}"),
        }
    }
}

#[tokio::test]
async fn s37_a_body_that_ends_with_its_connection_becomes_chunked() {
    let response = answered("HTTP/1.1 200 OK\r\n\r\nto the end").await;
    assert_eq!((response.framing, response.text().as_str()), (Framing::Chunked, "to the end"));
    let response = answered("HTTP/1.0 200 OK\r\n\r\nto the end").await;
    assert_eq!((response.framing, response.text().as_str()), (Framing::Chunked, "to the end"));
}

#[tokio::test]
async fn s37_a_1_0_client_gets_such_a_body_to_the_end_of_its_own_connection() {
    let response = asked("GET / HTTP/1.0\r\nhost: localhost\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\nto the end").await;
    assert_eq!((response.framing, response.text().as_str()), (Framing::Close, "to the end"));
}

#[tokio::test]
async fn s38_a_known_length_is_kept_and_nothing_is_framed_that_has_no_body() {
    let empty = answered("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    assert_eq!(empty.without_date(), "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
    let whole = answered(OK).await;
    assert_eq!(whole.framing, Framing::Length(2));
}

#[tokio::test]
async fn s38_a_request_without_a_body_gets_no_framing_and_one_with_an_empty_body_keeps_it() {
    let (mut client, program, _proxy) = through("").await;
    let mut connection = None;
    for (fields, framing) in [(&[][..], Framing::None), (&["content-length: 0"], Framing::Length(0))] {
        client.send(request("POST", "/", fields)).await;
        if connection.is_none() {
            connection = Some(program.connection().await);
        }
        let connection = connection.as_mut().unwrap();
        assert_eq!(connection.request().await.framing, framing);
        connection.send(OK).await;
        client.response().await;
    }
}

#[tokio::test]
async fn s39_a_change_of_protocol_that_nobody_asked_for_is_a_bad_reply() {
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n";
    assert_eq!(answered(switch).await.error(), (502, "bad-upstream-reply"));
    assert_eq!(answered("HTTP/1.1 101 Switching Protocols\r\n\r\n").await.error(), (502, "bad-upstream-reply"));
}

#[tokio::test]
async fn s42_every_final_status_is_kept() {
    for status in [200, 201, 206, 226, 299, 300, 399, 400, 418, 451, 499, 500, 511, 599, 600, 999] {
        let response = answered(format!("HTTP/1.1 {status} Some Reason\r\ncontent-length: 2\r\n\r\nok")).await;
        assert_eq!((response.status, response.text().as_str()), (status, "ok"));
    }
}

#[tokio::test]
async fn s43_a_program_that_closes_its_connection_does_not_close_the_clients() {
    let (mut client, program, _proxy) = through("").await;
    for _ in 0..2 {
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        connection.shut().await;
        let response = client.response().await;
        assert_eq!((response.text().as_str(), response.field("connection")), ("ok", None));
    }
}

/// An answer with these trailers, its head with a further line.
fn trailing(line: &str, trailers: &str) -> String {
    format!("HTTP/1.1 200 OK\r\n{line}transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n")
}

#[tokio::test]
async fn s44_f17_trailers_reach_a_client_that_takes_them() {
    let takes_them = get("/", &["te: trailers", "connection: te"]);
    let trailers = "X-Sum: 1\r\nServer-Timing: a\r\nx-sum: 2\r\n";
    for line in ["trailer: x-sum, server-timing\r\n", ""] {
        let taken = asked(&takes_them, trailing(line, trailers)).await;
        assert_eq!((taken.text().as_str(), taken.trailers.as_str()), ("ok", trailers), "{line:?}");
    }
}

#[tokio::test]
async fn s44_f17_trailers_reach_nobody_who_does_not_ask_for_them() {
    let trailers = "x-sum: 1\r\n";
    for request in [GET, "GET / HTTP/1.1\r\nhost: localhost\r\nte: gzip\r\nconnection: te\r\n\r\n"] {
        let response = asked(request, trailing("trailer: x-sum\r\n", trailers)).await;
        assert_eq!((response.text().as_str(), response.trailers.as_str()), ("ok", ""));
        assert_eq!(response.field("x-sum"), None);
    }
    let old = asked("GET / HTTP/1.0\r\nhost: localhost\r\nte: trailers\r\n\r\n", trailing("", trailers)).await;
    assert_eq!((old.framing, old.text().as_str()), (Framing::Close, "ok"));
}

#[tokio::test]
async fn s44_f17_trailers_never_touch_framing_or_the_connection() {
    let takes_them = get("/", &["te: trailers", "connection: te"]);
    let forbidden =
        "content-length: 9\r\nTransfer-Encoding: gzip\r\nconnection: close\r\nkeep-alive: timeout=1\r\ntrailer: x\r\n";
    let response = asked(&takes_them, trailing("trailer: x-sum\r\n", &format!("{forbidden}x-sum: 1\r\n"))).await;
    assert_eq!((response.text().as_str(), response.trailers.as_str()), ("ok", "x-sum: 1\r\n"));
}

#[tokio::test]
async fn s15_s36_a_malformed_trailer_of_a_response_never_ends_it_well() {
    for trailer in ["no colon\r\n", "x : y\r\n", ": y\r\n", "x: \0\r\n", "x: y\n", "x: y\r\n folded\r\n"] {
        let (mut client, program, _proxy) = through("").await;
        client.send(get("/", &["te: trailers", "connection: te"])).await;
        let mut connection = program.connection().await;
        connection.answers(trailing("trailer: x\r\n", trailer)).await;
        is_told(client, trailer).await;
        connection.rest().await;
    }
}

#[tokio::test]
async fn s45_what_is_encoded_stays_encoded_and_validators_and_ranges_pass() {
    let gzip = b"HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\netag: W/\"x\"\r\nvary: accept-encoding\r\ncontent-length: 4\r\n\r\n\x1f\x8b\x08\x00";
    let response = asked(&get("/", &["accept-encoding: gzip, br"]), gzip).await;
    assert_eq!(response.without_date().as_bytes(), gzip.strip_suffix(b"\x1f\x8b\x08\x00").unwrap());
    assert_eq!(response.body, b"\x1f\x8b\x08\x00");

    let part = "HTTP/1.1 206 Partial Content\r\ncontent-range: bytes 0-1/9\r\naccept-ranges: bytes\r\ncontent-length: 2\r\n\r\nok";
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &["range: bytes=0-1", "if-range: \"a\""])).await;
    let mut connection = program.connection().await;
    let seen = connection.request().await;
    assert_eq!((seen.field("range"), seen.field("if-range")), (Some("bytes=0-1"), Some("\"a\"")));
    connection.send(part).await;
    assert_eq!(client.response().await.without_date(), part.strip_suffix("ok").unwrap());
    let unsatisfied = "HTTP/1.1 416 Range Not Satisfiable\r\ncontent-range: bytes */9\r\ncontent-length: 0\r\n\r\n";
    assert_eq!(answered(unsatisfied).await.without_date(), unsatisfied);
}

#[tokio::test]
async fn s48_each_event_arrives_before_the_program_sends_the_next() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/events", &["accept: text/event-stream"])).await;
    let mut connection = program.connection().await;
    connection
        .answers("HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n")
        .await;
    // The head alone arrives, too: a browser opens its event source with it.
    assert_eq!(client.head().await.field("content-type"), Some("text/event-stream"));
    for number in 0..5 {
        connection.send(format!("9\r\ndata: {number}\n\n\r\n")).await;
        assert_eq!(client.until("\n\n\r\n").await, format!("9\r\ndata: {number}\n\n\r\n"));
    }
    connection.send("0\r\n\r\n").await;
    assert_eq!(client.until("0\r\n\r\n").await, "0\r\n\r\n");
}

#[tokio::test]
async fn s48_bytes_of_a_body_without_chunks_arrive_as_they_come() {
    for head in ["HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n"] {
        let (mut client, program, _proxy) = through("").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers(head).await;
        client.head().await;
        for piece in ["a", "b", "c"] {
            connection.send(piece).await;
            client.until(piece).await;
        }
        connection.shut().await;
    }
}

#[tokio::test]
async fn s48_pieces_of_a_request_body_reach_the_program_as_they_come() {
    let (mut client, program, _proxy) = through("").await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n").await;
    let mut connection = program.connection().await;
    connection.head().await;
    for piece in ["1\r\na\r\n", "1\r\nb\r\n", "0\r\n\r\n"] {
        client.send(piece).await;
        assert_eq!(connection.until("\r\n").await + &connection.until("\r\n").await, piece);
    }
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn s43_a_program_of_http_1_0_keeps_its_connection_only_if_it_says_so() {
    let (mut client, program, _proxy) = through("").await;
    for _ in 0..2 {
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers("HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
        let response = client.response().await;
        assert_eq!((response.line(), response.text().as_str()), ("HTTP/1.1 200 OK", "ok"));
        connection.end().await;
    }
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers("HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(client.response().await.text(), "ok");
    client.send(GET).await;
    program.next_connection(connection).await.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn a_client_that_wants_its_connection_closed_has_it_closed_and_nothing_behind_it_is_served() {
    let (mut client, program, proxy) = through("").await;
    client.send(get("/", &["Connection: x, Close"]) + GET).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    let response = client.response().await;
    assert_eq!((response.text().as_str(), response.field("connection")), ("ok", Some("close")));
    assert_eq!(client.end().await, End::Closed);
    let mut other = proxy.connect().await;
    other.send(get("/other", &[])).await;
    let mut next = program.next_connection(connection).await;
    assert_eq!(next.answers(OK).await.line(), "GET /other HTTP/1.1");
    assert_eq!(other.response().await.text(), "ok");
    program.is_left_alone();
}

#[tokio::test]
async fn a_large_head_of_a_response_passes() {
    let cookies: String = (0..90).map(|number| format!("set-cookie: {number}={}\r\n", "c".repeat(600))).collect();
    let response = answered(format!("HTTP/1.1 200 OK\r\n{cookies}content-length: 2\r\n\r\nok")).await;
    assert_eq!((response.all("set-cookie").len(), response.text().as_str()), (90, "ok"));
}

#[tokio::test]
async fn a_connection_of_a_program_is_used_again_and_one_of_a_client_too() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    for _ in 0..3 {
        connection.answers(OK).await;
        assert_eq!(client.response().await.text(), "ok");
        client.send(GET).await;
    }
    connection.request().await;
    program.is_left_alone();
}

#[tokio::test]
async fn a_body_of_unknown_length_reaches_the_program_whatever_the_method() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS", "POST"] {
        let (mut client, program, _proxy) = through("").await;
        let chunks = "transfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n";
        client.send(format!("{method} /_search HTTP/1.1\r\nhost: localhost\r\n{chunks}")).await;
        let request = program.connection().await.request().await;
        assert_eq!((request.framing, request.text().as_str()), (Framing::Chunked, "{}"), "{method}");
    }
}
