//! A client that speaks HTTP/2 and a program that speaks HTTP/1: each gets what it would get from its own kind.

use crate::harness::{
    End, Framing, OK, Program, Proxy, Request, bytes_of,
    h2::{Code, Ended, Fields, Message, Peer, from_h2, get, request},
};

/// What the program gets, and what the client gets for `answer`.
async fn exchanged(fields: &Fields, body: Option<&str>, answer: &str) -> (Request, Message, Proxy) {
    let (mut client, program, proxy) = from_h2("").await;
    let stream = match body {
        None => client.asks(fields).await,
        Some(body) => {
            let stream = client.begins(fields).await;
            client.body(stream, body, true).await;
            stream
        }
    };
    let seen = program.connection().await.answers(answer).await;
    (seen, client.answer(stream).await, proxy)
}

/// What the program gets.
async fn forwarded(fields: &Fields) -> (Request, Proxy) {
    let (seen, _, proxy) = exchanged(fields, None, OK).await;
    (seen, proxy)
}

/// What the client gets for a GET.
async fn answered(answer: &str) -> Message {
    exchanged(&get("/", &[]), None, answer).await.1
}

/// The field lines that the proxy puts behind those of a client that speaks HTTP/2.
fn added(proxy: &Proxy) -> String {
    proxy.added("localhost").replace("via: 1.1 ", "via: 2 ")
}

#[tokio::test]
async fn s22_s26_s27_a_request_arrives_field_by_field_with_those_that_the_proxy_sets() {
    let fields = [
        ("x-forwarded-for", "6.6.6.6"),
        ("x-b", "2"),
        ("accept", "a"),
        ("x-b", "1"),
        ("accept", "b"),
        ("x-latin", "\u{e9}"),
        ("x-empty", ""),
    ];
    let (seen, proxy) = forwarded(&get("/a?b", &fields)).await;
    let kept = "x-b: 2\r\naccept: a\r\nx-b: 1\r\naccept: b\r\nx-latin: \u{e9}\r\nx-empty: \r\n";
    let lines: Vec<_> = seen.head.text.split("\r\n").map(str::trim_end).collect();
    let expected = format!("GET /a?b HTTP/1.1\r\nhost: localhost\r\n{kept}{}\r\n", added(&proxy));
    let expected: Vec<_> = expected.split("\r\n").map(str::trim_end).collect();
    let sorted = |mut lines: Vec<String>| {
        // Equal names keep their order; names among each other need not (RFC 9110 §5.3).
        lines.sort_by_key(|line| line.split(':').next().unwrap_or_default().to_owned());
        lines
    };
    let owned = |lines: &[&str]| lines.iter().map(|line| (*line).to_owned()).collect::<Vec<_>>();
    assert_eq!(sorted(owned(&lines[1..])), sorted(owned(&expected[1..])));
    assert_eq!(lines[0], expected[0]);
}

#[tokio::test]
async fn s7_s21_methods_and_paths_go_through_unchanged() {
    for (method, path) in [
        ("GET", "/a%2Fb//c/..;/?"),
        ("DELETE", "/?a=b&c=%00"),
        ("PROPFIND", "/"),
        ("pUrge", "/\\"),
        ("OPTIONS", "/x"),
        ("OPTIONS", "*"),
        ("PATCH", "//evil.test/"),
    ] {
        let (seen, _) = forwarded(&request(method, path)).await;
        assert_eq!(seen.line(), format!("{method} {path} HTTP/1.1"));
    }
}

#[tokio::test]
async fn s56_the_host_is_the_authority() {
    for (authority, host) in [("app.localhost:80", None), ("LOCALHOST", Some("LOCALHOST")), ("127.0.0.1:1", None)] {
        let mut fields = get("/", &[]).with(":authority", authority);
        if let Some(host) = host {
            fields = fields.and(&[("host", host)]);
        }
        let (seen, _) = forwarded(&fields).await;
        assert_eq!(seen.all("host"), [authority]);
        assert_eq!(seen.all("x-forwarded-host"), [authority]);
    }
}

#[tokio::test]
async fn s56_a_host_may_stand_for_the_authority() {
    let (seen, _) = forwarded(&get("/", &[("host", "app.localhost")]).without(":authority")).await;
    assert_eq!(seen.all("host"), ["app.localhost"]);
}

#[tokio::test]
async fn s58_crumbs_of_a_cookie_are_joined() {
    let fields = [("cookie", "a=1"), ("x-between", "1"), ("cookie", "b=2; c=3"), ("cookie", "d=4")];
    let (seen, _) = forwarded(&get("/", &fields)).await;
    assert_eq!(seen.all("cookie"), ["a=1; b=2; c=3; d=4"]);
}

#[tokio::test]
async fn s23_the_wish_for_trailers_is_all_that_te_may_say() {
    let (seen, _) = forwarded(&get("/", &[("te", "trailers")])).await;
    assert_eq!((seen.field("te"), seen.field("connection")), (Some("trailers"), Some("te")));
}

#[tokio::test]
async fn a_request_without_a_body_has_none() {
    for method in ["GET", "HEAD", "DELETE", "OPTIONS"] {
        let (mut client, program, _proxy) = from_h2("").await;
        client.asks(&request(method, "/")).await;
        assert_eq!(program.connection().await.request().await.framing, Framing::None, "{method}");
    }
    let (seen, _) = forwarded(&request("POST", "/")).await;
    assert!(matches!(seen.framing, Framing::None | Framing::Length(0)), "{:?}", seen.framing);
}

#[tokio::test]
async fn s38_a_body_keeps_its_length_and_has_chunks_where_it_tells_none() {
    for length in [0, 1, 16_384, 16_385, 300_000] {
        for is_told in [true, false] {
            let (mut client, program, _proxy) = from_h2("").await;
            let mut fields = request("POST", "/");
            if is_told {
                fields = fields.and(&[("content-length", &length.to_string())]);
            }
            let body = bytes_of(length);
            let answer = format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n");
            let answers = async {
                let mut connection = program.connection().await;
                (connection.answers([answer.as_bytes(), &body].concat()).await, connection)
            };
            let (answer, (seen, _connection)) = tokio::join!(client.ask_with(&fields, &body), answers);
            let framing = if is_told { Framing::Length(length as u64) } else { Framing::Chunked };
            assert_eq!(seen.framing, framing, "{length} bytes");
            assert!(seen.body == body, "the request's {length} bytes, told: {is_told}");
            assert!(answer.body == body, "the answer's {length} bytes, told: {is_told}");
            assert_eq!(answer.field("content-length"), Some(length.to_string().as_str()));
        }
    }
}

#[tokio::test]
async fn s48_pieces_of_a_body_go_on_as_they_come() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.begins(&request("POST", "/")).await;
    let mut connection = program.connection().await;
    connection.head().await;
    for piece in ["a", "bc", "def"] {
        client.data(stream, piece, false).await;
        assert_eq!(connection.chunk().await.unwrap(), piece.as_bytes());
    }
    connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
    assert_eq!(client.answered(stream).await.field(":status"), Some("200"));
    for piece in ["data: 1\n\n", "data: 22\n\n"] {
        connection.send(format!("{:x}\r\n{piece}\r\n", piece.len())).await;
        assert_eq!(client.bytes(stream, piece.len()).await, piece.as_bytes());
    }
    client.data(stream, "", true).await;
    assert_eq!(connection.chunk().await, None);
    connection.send("0\r\n\r\n").await;
    assert_eq!(client.rest(stream, Fields::default(), false).await.ended, Ended::Whole);
}

#[tokio::test]
async fn t31_an_answer_with_as_many_fields_as_there_may_be_is_passed_on() {
    let fields = "x-many: 1\r\n".repeat(99);
    let answer = format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok");
    let (_, answer, _) = exchanged(&get("/", &[]), None, &answer).await;
    assert_eq!((answer.text().as_str(), answer.all("x-many").len()), ("ok", 99));
}

#[tokio::test]
async fn s44_f17_trailers_of_an_answer_follow_its_body() {
    let trailers = "Grpc-Status: 0\r\nx-sum: 1\r\nx-sum: 2\r\ncontent-length: 5\r\nconnection: close\r\n";
    for fields in [&[][..], &[("te", "trailers")]] {
        let answer = format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n{trailers}\r\n");
        let (_, answer, _) = exchanged(&get("/", fields), None, &answer).await;
        let expected = Fields::of(&[("grpc-status", "0"), ("x-sum", "1"), ("x-sum", "2")]);
        assert_eq!((answer.text().as_str(), &answer.trailers), ("ok", &expected), "{fields:?}");
    }
}

#[tokio::test]
async fn s16_f17_trailers_of_a_request_are_passed_on_or_dropped_whole_and_never_become_fields() {
    for announced in [&[][..], &[("trailer", "x-sum, x-end")]] {
        let (mut client, program, _proxy) = from_h2("").await;
        let stream = client.begins(&request("POST", "/").and(announced)).await;
        client.data(stream, "ab", false).await;
        let trailers = [("x-sum", "1"), ("x-end", "2"), ("authorization", "a"), ("x-forwarded-for", "6.6.6.6")];
        client.head(stream, &Fields::of(&trailers), true).await;
        let seen = program.connection().await.answers(OK).await;
        assert_eq!((seen.text().as_str(), seen.framing), ("ab", Framing::Chunked));
        assert_eq!((seen.field("x-sum"), seen.field("authorization")), (None, None));
        assert_eq!(seen.field("x-forwarded-for"), Some("127.0.0.1"));
        let expected = if announced.is_empty() { "" } else { "x-sum: 1\r\nx-end: 2\r\n" };
        assert!(matches!(&*seen.trailers, "" | "x-sum: 1\r\nx-end: 2\r\n"), "{:?}", seen.trailers);
        assert!(announced.is_empty() || seen.trailers == expected, "{:?}", seen.trailers);
        assert_eq!(client.answer(stream).await.text(), "ok");
    }
}

#[tokio::test]
async fn s33_f17_an_answer_that_has_no_body_has_none() {
    for (method, answer, length) in [
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n", Some("7")),
        ("HEAD", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", None),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\n", None),
        ("GET", "HTTP/1.1 304 Not Modified\r\ncontent-length: 7\r\netag: \"a\"\r\n\r\n", Some("7")),
        ("GET", "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n", Some("0")),
    ] {
        let (_, answer, _) = exchanged(&request(method, "/"), None, answer).await;
        assert_eq!((answer.text().as_str(), answer.field("content-length")), ("", length), "{method} {answer:?}");
    }
}

#[tokio::test]
async fn s37_a_body_that_ends_with_its_connection_ends_its_stream() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.asks(&get("/", &[])).await;
    program.connection().await.answers("HTTP/1.1 200 OK\r\n\r\nall of it").await;
    let answer = client.answer(stream).await;
    assert_eq!((answer.text().as_str(), answer.field("content-length")), ("all of it", None));
}

#[tokio::test]
async fn s23_fields_of_one_connection_do_not_reach_a_client_of_http2() {
    let answer = answered(
        "HTTP/1.1 200 OK\r\nX-Upper: Case\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=9\r\nset-cookie: a\r\n\
         proxy-connection: close\r\nte: gzip\r\nupgrade: h2c\r\nset-cookie: b\r\ntransfer-encoding: chunked\r\n\r\n\
         2\r\nok\r\n0\r\n\r\n",
    )
    .await;
    let fields = answer.fields.clone().without("date");
    let expected = [(":status", "200"), ("x-upper", "Case"), ("set-cookie", "a"), ("set-cookie", "b")];
    assert_eq!((fields, answer.text().as_str()), (Fields::of(&expected), "ok"));
    assert!(answer.field("date").is_some());
}

#[tokio::test]
async fn s42_any_final_status_is_passed_on() {
    for status in ["200", "299", "404", "418", "500", "599", "999"] {
        let answer = answered(&format!("HTTP/1.1 {status} Whatever\r\ncontent-length: 2\r\n\r\nok")).await;
        assert_eq!((answer.field(":status"), answer.text().as_str()), (Some(status), "ok"));
    }
}

#[tokio::test]
async fn s40_f17_interim_answers_come_in_front_of_the_last_one_or_not_at_all() {
    let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n";
    let answer = answered(&[hints, "HTTP/1.1 102 Processing\r\n\r\n", hints, OK].concat()).await;
    assert_eq!(answer.text(), "ok");
    let hints = Fields::of(&[(":status", "103"), ("link", "</a.css>")]);
    let all = [hints.clone(), Fields::of(&[(":status", "102")]), hints];
    assert!(answer.interim.is_empty() || answer.interim == all, "{:?}", answer.interim);
}

#[tokio::test]
async fn s41_f15_a_client_that_waits_for_a_100_gets_it_or_the_last_answer() {
    let expects = request("POST", "/").and(&[("expect", "100-continue"), ("content-length", "6")]);
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.begins(&expects).await;
    let mut connection = program.connection().await;
    assert_eq!(connection.head().await.field("expect"), Some("100-continue"));
    connection.send("HTTP/1.1 100 Continue\r\n\r\n").await;
    assert_eq!(client.answered(stream).await, Fields::of(&[(":status", "100")]));
    client.data(stream, "a body", true).await;
    assert_eq!(connection.bytes(6).await, b"a body");
    connection.send(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");

    let stream = client.begins(&expects).await;
    let mut connection = program.next_connection(connection).await;
    connection.head().await;
    connection.send("HTTP/1.1 417 Expectation Failed\r\ncontent-length: 2\r\n\r\nno").await;
    let answer = client.answer(stream).await;
    assert_eq!((answer.status(), answer.text().as_str()), (417, "no"));
    // What was announced and never sent must not be awaited from the next request.
    assert_eq!(connection.end().await, End::Closed);
    drop(client);
}

#[tokio::test]
async fn s41_a_client_that_expects_a_100_and_does_not_wait_is_served() {
    let (mut client, program, _proxy) = from_h2("").await;
    let expects = request("POST", "/").and(&[("expect", "100-continue"), ("content-length", "6")]);
    let stream = client.begins(&expects).await;
    client.data(stream, "a body", true).await;
    let seen = program.connection().await.answers(OK).await;
    assert_eq!(seen.text(), "a body");
    assert_eq!(client.answer(stream).await.text(), "ok");
}

#[tokio::test]
async fn s47_f16_an_answer_while_the_client_still_uploads_is_delivered_whole() {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.begins(&request("POST", "/")).await;
    client.data(stream, "a", false).await;
    let mut connection = program.connection().await;
    connection.head().await;
    let body = bytes_of(100_000);
    let head = "HTTP/1.1 413 Content Too Large\r\ncontent-length: 100000\r\n\r\n";
    connection.send([head.as_bytes(), &body].concat()).await;
    let answer = client.answer(stream).await;
    assert_eq!(answer.status(), 413);
    assert!(answer.body == body);
    drop(connection);
    // The client is told that no more is wanted, or its body is taken: it can end either way.
    client.data(stream, "", true).await;
    super::goes_on(&mut client, &program).await;
}

/// The next request of the program, on whichever connection it comes.
async fn asks_next(program: &Program, client: &mut Peer, path: &str) -> u32 {
    let stream = client.asks(&get(path, &[])).await;
    let (mut connection, _) = program.connection_asking(&format!("GET {path} HTTP/1.1")).await;
    connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{path}", path.len())).await;
    stream
}

#[tokio::test]
async fn streams_are_answered_in_whatever_order_their_answers_come() {
    let (mut client, program, _proxy) = from_h2("").await;
    let slow = client.asks(&get("/slow", &[])).await;
    let mut connection = program.connection().await;
    connection.request().await;
    for path in ["/a", "/b", "/c"] {
        let stream = asks_next(&program, &mut client, path).await;
        assert_eq!(client.answer(stream).await.text(), path);
    }
    connection.send(OK).await;
    assert_eq!(client.answer(slow).await.text(), "ok");
}

#[tokio::test]
async fn f13_what_a_program_must_not_say_becomes_an_error_of_its_stream_alone() {
    for answer in [
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
        "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
        "HTTP/1.1 200 OK\r\nx y: 1\r\n\r\n",
        "HTTP/1.1 1000 OK\r\n\r\n",
        "ok",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
    ] {
        let (mut client, program, _proxy) = from_h2("").await;
        let stream = client.asks(&get("/", &[])).await;
        program.connection().await.answers(answer).await;
        assert_eq!(client.answer(stream).await.error(), (502, "bad-upstream-reply"), "{answer:?}");
        super::goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn s36_f9_f10_f11_a_body_that_was_cut_short_never_looks_complete() {
    for (answer, rest, has_reset) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart", "", false),
        ("HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\npart", "", true),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n", "", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n", "0\r\n", false),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n4\r\npart\r\n", "x", false),
        ("HTTP/1.1 200 OK\r\n\r\npart", "", true),
    ] {
        let (mut client, program, _proxy) = from_h2("").await;
        let stream = client.asks(&get("/", &[])).await;
        let mut connection = program.connection().await;
        connection.answers(answer).await;
        client.answered(stream).await;
        assert_eq!(client.bytes(stream, 4).await, b"part");
        connection.send(rest).await;
        if has_reset {
            connection.reset();
        } else {
            drop(connection);
        }
        let behind = client.rest(stream, Fields::default(), false).await;
        let expected = ("", Ended::Reset(Code::InternalError));
        assert_eq!((behind.text().as_str(), behind.ended), expected, "{answer:?}, {rest:?}");
        super::goes_on(&mut client, &program).await;
    }
}
