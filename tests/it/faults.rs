//! What programs and clients do wrong, and what becomes of it: the fault that was made, no other, and a next request
//! that works.

use std::time::{Duration, Instant};

use crate::harness::{
    End, Framing, Full, GET, Nobody, OK, PATIENCE, Program, Proxy, Response, Wire, bytes_of, get, latin1, post,
    program_on, proxy, request, through,
};

/// A client whose proxy keeps a connection to the program from an earlier request.
async fn with_a_kept_connection(keys: &str) -> (Wire, Wire, Program, Proxy) {
    let (mut client, program, proxy) = through(keys).await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    (client, connection, program, proxy)
}

/// The client's next request is answered, over a new connection of the program.
async fn goes_on(client: &mut Wire, program: &Program) {
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn f1_a_refused_connection_is_told_with_route_and_cause() {
    let nobody = Nobody::new();
    let proxy = proxy(&format!("[routes]\napp = {{ path = \"/\", to = {} }}", nobody.port));
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        let response = client.ask(GET).await;
        assert_eq!(response.error(), (502, "connect-refused"));
        assert_eq!(response.field("x-portolan-route"), Some("app"));
    }
}

#[tokio::test]
async fn f2_a_connection_that_goes_nowhere_is_told_at_its_limit() {
    let full = Full::new();
    let keys = format!("path = \"/\", to = \"{}\", connect_timeout = \"200ms\"", full.address);
    let proxy = proxy(&format!("[routes]\napp = {{ {keys} }}"));
    let began = Instant::now();
    let response = proxy.ask(GET).await;
    assert_eq!(response.error(), (504, "connect-timeout"));
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[tokio::test]
async fn f3_a_program_that_never_answers_is_given_up_at_the_limit_and_let_go() {
    let (mut client, program, _proxy) = through("timeout = \"200ms\"").await;
    for request in [GET.to_owned(), post("/", "a body")] {
        client.send(request).await;
        let mut connection = program.connection().await;
        connection.request().await;
        assert_eq!(client.response().await.error(), (504, "upstream-timeout"));
        connection.end().await;
    }
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn f3_a_program_that_reads_slowly_is_not_given_up_while_the_upload_moves() {
    let (mut client, program, _proxy) = through("timeout = \"1s\"").await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 8\r\n\r\n").await;
    let mut connection = program.connection().await;
    connection.head().await;
    for piece in ["a", "b", "c", "d", "e", "f", "g", "h"] {
        client.send(piece).await;
        connection.until(piece).await;
        // A client that thinks about each piece: in all for longer than the limit.
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn f3_a_body_may_take_longer_than_the_limit_for_its_head() {
    let (mut client, program, _proxy) = through("timeout = \"1s\"").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no").await;
    client.until("\r\n\r\no").await;
    tokio::time::sleep(Duration::from_millis(1500)).await;
    connection.send("k").await;
    assert_eq!(client.bytes(1).await, b"k");
}

#[tokio::test]
async fn f5_a_get_that_meets_the_close_of_a_kept_connection_is_repeated_once() {
    for how in [End::Closed, End::Reset] {
        let (mut client, mut kept, program, _proxy) = with_a_kept_connection("").await;
        client.send(get("/again", &[])).await;
        kept.request().await;
        match how {
            End::Closed => drop(kept),
            End::Reset => kept.reset(),
        }
        let mut fresh = program.connection().await;
        assert_eq!(fresh.request().await.line(), "GET /again HTTP/1.1", "{how:?}");
        fresh.send(OK).await;
        assert_eq!(client.response().await.text(), "ok", "{how:?}");
        program.is_left_alone();
    }
}

#[tokio::test]
async fn f5_a_small_body_is_repeated_with_an_idempotent_request() {
    let (mut client, mut kept, program, _proxy) = with_a_kept_connection("").await;
    let body = "b".repeat(64 * 1024);
    client.send(format!("PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    assert_eq!(kept.request().await.text(), body);
    drop(kept);
    let mut fresh = program.connection().await;
    assert_eq!(fresh.request().await.text(), body);
    fresh.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn f5_a_body_too_large_to_keep_is_sent_once() {
    let (mut client, mut kept, program, _proxy) = with_a_kept_connection("").await;
    let body = "b".repeat(64 * 1024 + 1);
    client.send(format!("PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())).await;
    assert_eq!(kept.request().await.body.len(), body.len());
    drop(kept);
    assert_eq!(client.response().await.error(), (502, "upstream-closed"));
    program.is_left_alone();
}

#[tokio::test]
async fn f5_a_post_is_never_sent_twice() {
    for method in ["POST", "PATCH", "purge"] {
        let (mut client, mut kept, program, _proxy) = with_a_kept_connection("retries = 3").await;
        client.send(request(method, "/", &[])).await;
        kept.request().await;
        drop(kept);
        assert_eq!(client.response().await.error(), (502, "upstream-closed"), "{method}");
        program.is_left_alone();
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn f5_a_connection_that_closed_while_it_was_idle_costs_no_request() {
    let (mut client, mut kept, program, _proxy) = with_a_kept_connection("retries = 0").await;
    kept.shut().await;
    // The proxy closes its end, too: it has seen it.
    kept.end().await;
    client.send(post("/", "a body")).await;
    let mut fresh = program.connection().await;
    assert_eq!(fresh.request().await.text(), "a body");
    fresh.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn f5_without_retries_nothing_is_repeated() {
    let (mut client, mut kept, program, _proxy) = with_a_kept_connection("retries = 0").await;
    client.send(GET).await;
    kept.request().await;
    drop(kept);
    assert_eq!(client.response().await.error(), (502, "upstream-closed"));
    program.is_left_alone();
}

#[tokio::test]
async fn f4_f6_the_end_of_a_fresh_connection_is_told_and_not_retried() {
    for how in [End::Closed, End::Reset] {
        let (mut client, program, _proxy) = through("retries = 3").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.request().await;
        match how {
            End::Closed => drop(connection),
            End::Reset => connection.reset(),
        }
        assert_eq!(client.response().await.error(), (502, "upstream-closed"), "{how:?}");
        program.is_left_alone();
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn s46_nothing_is_repeated_after_a_byte_of_an_answer() {
    let (mut client, mut kept, program, _proxy) = with_a_kept_connection("retries = 3").await;
    client.send(GET).await;
    kept.answers("HTTP/1.1 2").await;
    kept.shut().await;
    assert_eq!(client.response().await.error(), (502, "upstream-closed"));
    program.is_left_alone();
}

#[tokio::test]
async fn f8_a_crash_in_mid_head_is_told() {
    for part in ["H", "HTTP/1.1 200 OK", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n"] {
        let (mut client, program, _proxy) = through("").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers(part).await;
        connection.shut().await;
        assert_eq!(client.response().await.error(), (502, "upstream-closed"), "{part:?}");
        program.is_left_alone();
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn f9_f10_f11_a_body_that_breaks_off_breaks_off_at_the_client_too() {
    for head in ["content-length: 9\r\n\r\nab", "transfer-encoding: chunked\r\n\r\n2\r\nab\r\n", "\r\nab"] {
        let (mut client, program, proxy) = through("").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers(format!("HTTP/1.1 200 OK\r\n{head}")).await;
        client.until("ab").await;
        connection.reset();
        let (rest, _) = client.rest().await;
        assert!(matches!(rest.as_slice(), b"" | b"\r\n"), "{head:?}: {:?}", String::from_utf8_lossy(&rest));
        goes_on(&mut proxy.connect().await, &program).await;
    }
}

#[tokio::test]
async fn f12_t28_what_follows_an_answer_reaches_nobody() {
    for (method, answer) in [
        ("GET", format!("{OK}surplus")),
        ("GET", format!("{OK}HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale")),
        ("HEAD", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale".into()),
        ("GET", "HTTP/1.1 204 No Content\r\n\r\nstale".into()),
        ("GET", "HTTP/1.1 304 Not Modified\r\n\r\nstale".into()),
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(request(method, "/", &[])).await;
        let mut connection = program.connection().await;
        connection.answers(&answer).await;
        let response = if method == "HEAD" { client.response_to_head().await } else { client.response().await };
        assert!(!response.text().contains("stale") && !response.text().contains("surplus"), "{answer:?}");
        connection.rest().await;
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn f12_bytes_on_an_idle_connection_are_no_answer_to_the_next_request() {
    let (mut client, mut kept, program, _proxy) = with_a_kept_connection("").await;
    kept.send("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale").await;
    kept.rest().await;
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn f13_equal_lengths_become_one() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nok").await;
    let response = client.response().await;
    assert_eq!((response.framing, response.text().as_str()), (Framing::Length(2), "ok"));
}

#[tokio::test]
async fn f13_a_head_beyond_all_measure_is_a_bad_reply() {
    let many: String = (0..500).map(|number| format!("x-{number}: 1\r\n")).collect();
    let large = format!("x-large: {}\r\n", "a".repeat(1024 * 1024));
    for fields in [many, large] {
        let (mut client, program, _proxy) = through("").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.request().await;
        // The proxy may close before it has all of it.
        let _ = connection.try_send(format!("HTTP/1.1 200 OK\r\n{fields}content-length: 2\r\n\r\nok")).await;
        assert_eq!(client.response().await.error(), (502, "bad-upstream-reply"));
        connection.rest().await;
    }
}

#[tokio::test]
async fn f13_an_answer_of_http_0_9_is_a_bad_reply() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers("<html>hello</html>\r\n").await;
    assert_eq!(client.response().await.error(), (502, "bad-upstream-reply"));
}

#[tokio::test]
async fn f16_s47_an_answer_reaches_a_client_that_is_still_uploading() {
    let (mut client, program, proxy) = through("").await;
    let length = 512 * 1024;
    client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\nfirst")).await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send("HTTP/1.1 413 Content Too Large\r\nconnection: close\r\ncontent-length: 2\r\n\r\nno").await;
    connection.shut().await;
    let sent = client.try_send("b".repeat(length - 5)).await;
    let response = client.response().await;
    assert_eq!((response.status, response.text().as_str()), (413, "no"), "{sent:?}");
    drop(connection);
    goes_on(&mut proxy.connect().await, &program).await;
}

#[tokio::test]
async fn f16_s47_a_program_that_answers_and_reads_on_gets_the_whole_body() {
    let (mut client, program, _proxy) = through("").await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\nfirst").await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.bytes(5).await;
    connection.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nearly\r\n").await;
    client.until("5\r\nearly\r\n").await;
    client.send("later").await;
    assert_eq!(connection.bytes(5).await, b"later");
    connection.send("4\r\nlate\r\n0\r\n\r\n").await;
    assert_eq!(client.until("0\r\n\r\n").await, "4\r\nlate\r\n0\r\n\r\n");
}

#[tokio::test]
async fn f16_an_answer_of_a_program_that_hangs_up_on_an_upload_is_passed_on() {
    for length in [100_000, 800_000] {
        let (mut client, program, proxy) = through("").await;
        let head = format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n");
        let asks = async {
            let sent = client.try_send(head + &"b".repeat(length)).await;
            let response = client.response().await;
            assert_eq!((response.status, response.text().as_str()), (413, "no"), "{sent:?}");
        };
        let answers = async {
            let mut connection = program.connection().await;
            connection.head().await;
            connection.send("HTTP/1.1 413 Content Too Large\r\ncontent-length: 2\r\n\r\nno").await;
            // With bytes that it has not read: that makes an RST of it, behind the answer.
            drop(connection);
        };
        tokio::join!(asks, answers);
        drop(client);
        goes_on(&mut proxy.connect().await, &program).await;
    }
}

#[tokio::test]
async fn f16_a_program_that_reads_on_behind_its_whole_answer_gets_the_whole_body() {
    let (mut client, program, _proxy) = through("").await;
    let length = 16_000_000;
    // Before anything is asked: making it takes a busy machine longer than the program may pause.
    let body = bytes_of(length);
    client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n")).await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    let ((), seen) = tokio::join!(client.send(&body), connection.bytes(length));
    assert!(seen == body);
    client.send(GET).await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

/// The heads of a large upload, and of the rest of its body.
const UPLOADS: [(&str, &str); 2] = [("content-length: 100000000", ""), ("transfer-encoding: chunked", "1000000\r\n")];

#[tokio::test]
async fn f16_s47_an_upload_without_an_end_does_not_hold_an_answer_up() {
    for (framing, begin) in UPLOADS {
        for told in ["connection: close\r\n", ""] {
            let (mut client, program, proxy) = through("").await;
            client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n{begin}")).await;
            let mut connection = program.connection().await;
            connection.head().await;
            // It answers, keeps its connection, and reads no more.
            connection.send(format!("HTTP/1.1 413 Content Too Large\r\n{told}content-length: 2\r\n\r\nno")).await;
            // The client goes on until it sees the answer, as browsers do.
            while !client.has_news() && client.try_send(&[b'b'; 16 * 1024]).await.is_ok() {
                tokio::task::yield_now().await;
            }
            let response = client.response().await;
            assert_eq!((response.status, response.text().as_str()), (413, "no"), "{framing} {told}");
            drop(client);
            // Whatever is left of the upload is no request, and the connection that has it is not used again.
            let mut other = proxy.connect().await;
            other.send(get("/other", &[])).await;
            let mut fresh = program.connection().await;
            assert_eq!(fresh.answers(OK).await.line(), "GET /other HTTP/1.1");
            assert_eq!(other.response().await.text(), "ok");
            connection.rest().await;
        }
    }
}

#[tokio::test]
async fn f16_s47_a_long_answer_and_an_upload_that_nobody_reads_do_not_wait_for_each_other() {
    let (mut client, program, _proxy) = through("").await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n").await;
    let mut connection = program.connection().await;
    connection.head().await;
    let mut uploading = client.twin();
    let uploads = async {
        while uploading.try_send(&[b'b'; 64 * 1024]).await.is_ok() {}
        std::future::pending::<()>().await;
    };
    let answer = bytes_of(20_000_000);
    let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", answer.len());
    let answers = async {
        let ((), response) = tokio::join!(connection.send([head.as_bytes(), &answer].concat()), client.response());
        assert!(response.body == answer, "{} bytes", response.body.len());
    };
    tokio::select! {
        () = uploads => {}
        () = answers => {}
    }
}

#[tokio::test]
async fn f16_t23_a_connection_whose_upload_was_not_read_to_its_end_is_not_used_again() {
    for (framing, begin, rest) in [
        ("content-length: 9", "first", "last"),
        ("transfer-encoding: chunked", "5\r\nfirst\r\n", "4\r\nlast\r\n0\r\n\r\n"),
    ] {
        let (mut client, program, proxy) = through("").await;
        client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n{begin}")).await;
        let mut connection = program.connection().await;
        connection.head().await;
        connection.until("first").await;
        connection.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
        // While the rest is still to come the connection is nobody's.
        let mut other = proxy.connect().await;
        other.send(get("/other", &[])).await;
        let mut fresh = program.connection().await;
        assert_eq!(fresh.answers(OK).await.line(), "GET /other HTTP/1.1", "{framing}");
        assert_eq!(other.response().await.text(), "ok");
        let _ = client.try_send(rest).await;
        client.try_shut().await;
        let (seen, _) = connection.rest().await;
        assert!(!latin1(&seen).contains("HTTP/1.1"), "{framing}: {:?}", latin1(&seen));
    }
}

#[tokio::test]
async fn t23_an_answer_of_our_own_reaches_a_client_that_uploads_and_its_body_is_no_request() {
    let folder = tempfile::tempdir().unwrap();
    let (_, program, proxy) = through("").await;
    proxy.swap(&format!(
        "[routes]\nmoved = {{ path = \"/moved\", redirect = \"/new\" }}\nme = {{ path = \"/me\", respond = \"me\" }}\n\
         site = {{ path = \"/site\", files = {:?} }}\napp = {{ path = \"/app\", to = {} }}",
        folder.path(),
        program.port()
    ));
    let smuggled = get("/app/smuggled", &[]);
    let body = smuggled.repeat(1_000_000 / smuggled.len());
    let chunk = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
    for (target, host, status) in [
        ("/moved", "localhost", 302),
        ("/me", "localhost", 200),
        ("/site/none", "localhost", 405),
        ("/none", "localhost", 404),
        ("/me", "evil.test", 421),
        ("/me", "a,b", 400),
    ] {
        for (framing, body) in
            [(format!("content-length: {}", body.len()), &body), ("transfer-encoding: chunked".into(), &chunk)]
        {
            let mut client = proxy.connect().await;
            let sent =
                client.try_send(format!("POST {target} HTTP/1.1\r\nhost: {host}\r\n{framing}\r\n\r\n{body}")).await;
            let response = client.response().await;
            assert_eq!(response.status, status, "{target} {framing} {sent:?}");
            assert_eq!(client.rest().await.0, b"", "{target} {framing}");
        }
    }
    program.is_left_alone();
}

#[tokio::test]
async fn f5_a_program_that_keeps_connections_for_a_second_gets_none_of_them_again() {
    let (mut client, program, _proxy) = through("").await;
    for _ in 0..2 {
        client.send(post("/", "a body")).await;
        let mut connection = program.connection().await;
        connection.answers("HTTP/1.1 200 OK\r\nkeep-alive: timeout=1\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(client.response().await.text(), "ok");
        connection.end().await;
    }
}

#[tokio::test]
async fn f24_a_program_that_restarts_is_found_again() {
    let (mut client, kept, program, _proxy) = with_a_kept_connection("").await;
    let port = program.port();
    drop((kept, program));
    assert_eq!(client.ask(GET).await.error(), (502, "connect-refused"));
    let program = program_on(&format!("127.0.0.1:{port}")).unwrap();
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn f25_a_program_is_found_on_whichever_loopback_address_it_listens() {
    let mut places = vec!["127.0.0.1:0"];
    match program_on("[::1]:0") {
        Ok(_) => places.push("[::1]:0"),
        Err(error) => eprintln!("SKIPPED: a program on [::1] only, as this machine has no IPv6: {error}"),
    }
    for place in places {
        let program = program_on(place).unwrap();
        for target in [program.port().to_string(), format!("\"localhost:{}\"", program.port())] {
            let proxy = proxy(&format!("[routes]\napp = {{ path = \"/\", to = {target} }}"));
            let mut client = proxy.connect().await;
            goes_on(&mut client, &program).await;
        }
    }
}

#[tokio::test]
async fn f25_a_program_that_moves_from_one_loopback_address_to_the_other_is_followed() {
    let Ok(first) = program_on("[::1]:0") else {
        eprintln!("SKIPPED: this machine has no IPv6");
        return;
    };
    let port = first.port();
    let proxy = proxy(&format!("[routes]\napp = {{ path = \"/\", to = {port} }}"));
    goes_on(&mut proxy.connect().await, &first).await;
    drop(first);
    let second = program_on(&format!("127.0.0.1:{port}")).unwrap();
    goes_on(&mut proxy.connect().await, &second).await;
}

#[tokio::test]
async fn f29_a_drain_answers_what_is_in_hand_and_closes() {
    let (mut client, program, proxy) = through("").await;
    let mut idle = proxy.connect().await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.request().await;
    let drained = tokio::spawn(proxy.drain());
    assert_eq!(idle.end().await, End::Closed);
    connection.send(OK).await;
    let response: Response = client.response().await;
    assert_eq!((response.text().as_str(), response.field("connection")), ("ok", Some("close")));
    assert_eq!(client.end().await, End::Closed);
    tokio::time::timeout(PATIENCE, drained).await.expect("the drain ends").unwrap();
}
