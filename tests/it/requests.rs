//! Requests as they come in: what is refused, and that what is let through goes out in one clear form.

use crate::harness::{End, Framing, GET, OK, Program, Proxy, Request, get, post, program, request, through};

/// Each request gets this status and the end of its connection, and no program hears of it.
async fn are_refused(status: u16, requests: &[impl AsRef<[u8]>]) {
    let (_, program, proxy) = through("").await;
    for request in requests {
        is_refused(&proxy, status, request.as_ref()).await;
        program.is_left_alone();
    }
    still_answers(&proxy, &program).await;
}

async fn is_refused(proxy: &Proxy, status: u16, request: &[u8]) {
    let mut client = proxy.connect().await;
    let response = client.ask(request).await;
    assert_eq!(response.status, status, "{:?}", String::from_utf8_lossy(request));
    assert_eq!(client.end().await, End::Closed, "{:?}", String::from_utf8_lossy(request));
}

async fn still_answers(proxy: &Proxy, program: &Program) {
    let mut client = proxy.connect().await;
    client.send(GET).await;
    program.connection().await.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

/// What a program gets for a request that is let through.
async fn forwarded(raw: impl AsRef<[u8]>) -> (Request, Proxy) {
    let (mut client, program, proxy) = through("").await;
    client.send(raw).await;
    let request = program.connection().await.answers(OK).await;
    assert_eq!(client.response().await.status, 200);
    (request, proxy)
}

#[tokio::test]
async fn a_request_reaches_the_program_as_it_was_sent_with_our_fields_behind_it() {
    let (request, proxy) = forwarded("GET /a?b HTTP/1.1\r\nHost: app.localhost:1\r\nX-One: 1\r\n\r\n").await;
    let added = proxy.added("app.localhost:1");
    assert_eq!(request.head.text, format!("GET /a?b HTTP/1.1\r\nhost: app.localhost:1\r\nx-one: 1\r\n{added}\r\n"));
}

#[tokio::test]
async fn s1_http_1_1_without_a_host_is_refused() {
    are_refused(400, &["GET / HTTP/1.1\r\n\r\n", "GET http://localhost/ HTTP/1.1\r\n\r\n"]).await;
}

#[tokio::test]
async fn s1_http_1_0_without_a_host_is_routed_by_the_address_it_came_to() {
    let (request, proxy) = forwarded("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(request.field("host"), Some(format!("127.0.0.1:{}", proxy.port()).as_str()));
}

#[tokio::test]
async fn s2_two_host_fields_are_refused_even_if_they_are_equal() {
    are_refused(
        400,
        &[
            "GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: localhost\r\nx: y\r\nHost: other.localhost\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
            "GET http://localhost/ HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n\r\n",
        ],
    )
    .await;
}

#[tokio::test]
async fn s3_a_value_that_no_host_can_have_is_refused() {
    let hosts = [
        "",
        "  ",
        ":80",
        "user@localhost",
        "user:pw@localhost",
        "localhost/",
        "localhost/x",
        "/",
        "a,b",
        "localhost, localhost",
        "a b",
        "localhost:65536",
        "localhost:99999",
        "localhost:x",
        "localhost:-1",
        "localhost:+80",
        "localhost:80:80",
        "[",
        "[]",
        "[::1",
        "::1",
        "[::1]x",
        "[::g]",
        "[fe80::1%25lo]",
        "http://localhost",
        "localhost?x",
        "localhost#x",
        "localhost\\x",
        "%6cocalhost",
        ".localhost",
        "*",
        "*.localhost",
        "l\u{e9}calhost",
        "\"localhost\"",
        "<script>",
    ];
    let requests: Vec<String> = hosts.iter().map(|host| format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).collect();
    are_refused(400, &requests).await;
}

#[tokio::test]
async fn s4_the_authority_of_an_absolute_target_replaces_the_host_before_routing_and_forwarding() {
    let (mut client, program, proxy) = through("host = \"app.localhost\"").await;
    client.send("GET http://App.localhost:1/a?b HTTP/1.1\r\nhost: other.localhost\r\n\r\n").await;
    let request = program.connection().await.answers(OK).await;
    let added = proxy.added("App.localhost:1");
    assert_eq!(request.head.text, format!("GET /a?b HTTP/1.1\r\nhost: App.localhost:1\r\n{added}\r\n"));
    assert_eq!(client.response().await.status, 200);

    let other = client.ask("GET http://other.localhost/ HTTP/1.1\r\nhost: app.localhost\r\n\r\n").await;
    assert_eq!(other.error(), (404, "no-route"));
    program.is_left_alone();
}

#[tokio::test]
async fn s4_an_absolute_target_without_a_path_asks_for_the_root() {
    let (request, _) = forwarded("GET http://localhost HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(request.line(), "GET / HTTP/1.1");
    let (request, _) = forwarded("GET http://localhost?a=b HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    assert_eq!(request.line(), "GET /?a=b HTTP/1.1");
}

#[tokio::test]
async fn t13_an_absolute_target_names_a_host_and_never_an_address_to_dial() {
    let (_, named, proxy) = through("").await;
    let elsewhere = program();
    for host in ["evil.test", "127.1", "0x7f.1", "2130706433", "10.0.0.1", "[::ffff:127.0.0.1]"] {
        for start in ["GET", "POST"] {
            let target = format!("http://{host}:{}/", elsewhere.port());
            let response = proxy.ask(format!("{start} {target} HTTP/1.1\r\nhost: localhost\r\n\r\n")).await;
            assert_eq!(response.error(), (421, "unknown-host"), "{target}");
        }
    }
    elsewhere.is_left_alone();
    named.is_left_alone();
    // A host that is local is routed by the table, whatever port it names.
    let mut client = proxy.connect().await;
    client.send(format!("GET http://127.0.0.1:{}/ HTTP/1.1\r\nhost: localhost\r\n\r\n", elsewhere.port())).await;
    named.connection().await.answers(OK).await;
    assert_eq!(client.response().await.status, 200);
    elsewhere.is_left_alone();
}

#[tokio::test]
async fn s5_a_target_begins_with_a_slash() {
    are_refused(
        400,
        &[
            request("GET", "evil", &[]),
            request("GET", "evil:80", &[]),
            request("GET", "*", &[]),
            request("POST", "*", &[]),
            request("GET", "?a", &[]),
            request("GET", "ftp://localhost/", &[]),
            request("GET", "javascript:alert(1)", &[]),
            request("GET", "http:///", &[]),
            request("GET", "http://user@localhost/", &[]),
            request("GET", "", &[]),
            request("GET", "/a b", &[]),
            // No URI holds a quote; the engine lets it pass in a path, and not in a query.
            request("GET", "/?a=\"b\"", &[]),
        ],
    )
    .await;
}

#[tokio::test]
async fn s5_an_asterisk_is_for_options_and_reaches_the_program() {
    let (request, _) = forwarded(request("OPTIONS", "*", &[])).await;
    assert_eq!(request.line(), "OPTIONS * HTTP/1.1");
}

#[tokio::test]
async fn s6_connect_is_refused_and_nothing_is_dialled() {
    let elsewhere = program();
    let (_, named, proxy) = through("").await;
    for target in [format!("127.0.0.1:{}", elsewhere.port()), "localhost:443".into(), "evil.test:443".into()] {
        let mut client = proxy.connect().await;
        let response = client.ask(format!("CONNECT {target} HTTP/1.1\r\nhost: {target}\r\n\r\n")).await;
        assert_eq!(response.error(), (405, "method-refused"));
        assert!(response.field("allow").is_some_and(|allowed| !allowed.contains("CONNECT")));
        assert_eq!(client.end().await, End::Closed);
    }
    elsewhere.is_left_alone();
    named.is_left_alone();
}

#[tokio::test]
async fn s7_methods_that_nobody_knows_go_through_with_their_case() {
    for method in ["PROPFIND", "get", "pUrGe", "M-SEARCH", "QUERY", "TRACE"] {
        let (request, _) = forwarded(request(method, "/", &[])).await;
        assert_eq!(request.line(), format!("{method} / HTTP/1.1"));
    }
}

#[tokio::test]
async fn s7_a_trace_that_ends_here_does_not_reflect_credentials() {
    let (mut client, program, _proxy) = through("").await;
    let trace = request("TRACE", "/", &["max-forwards: 0", "cookie: secret", "authorization: secret"]);
    let response = client.ask(trace).await;
    assert_eq!(response.status, 405);
    assert!(!format!("{}{}", response.head.text, response.text()).contains("secret"));
    program.is_left_alone();
}

#[tokio::test]
async fn s8_a_field_that_is_not_well_formed_is_refused() {
    are_refused(
        400,
        &[
            get("/", &["x-folded: a\r\n b"]),
            get("/", &["x-folded: a\r\n\tb"]),
            get("/", &[" x-first-line-folded: a"]),
            get("/", &["x-space : a"]),
            get("/", &["x-tab\t: a"]),
            get("/", &[": no name"]),
            get("/", &["no colon"]),
            get("/", &["x-nul: a\0b"]),
            get("/", &["x-return: a\rb"]),
            get("/", &["x-bell: a\u{7}b"]),
            get("/", &["x(y): a"]),
            get("/", &["x\u{e9}: a"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn s9_a_bare_line_feed_is_let_in_and_goes_out_as_crlf() {
    let (request, proxy) = forwarded("GET / HTTP/1.1\nhost: localhost\nx-one: 1\r\n\n").await;
    let added = proxy.added("localhost");
    assert_eq!(request.head.text, format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-one: 1\r\n{added}\r\n"));
}

#[tokio::test]
async fn s10_a_length_that_is_no_number_or_not_one_is_refused() {
    let lengths = ["-1", "+1", "1,2", "1, 2", "1 2", "0x1", "1.0", "1e1", "a", "", "18446744073709551616", "\u{661}"];
    let mut requests: Vec<String> = lengths
        .iter()
        .map(|length| format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\nx"))
        .collect();
    requests.push("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy".into());
    are_refused(400, &requests).await;
}

#[tokio::test]
async fn s10_equal_lengths_become_one() {
    let twice = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nab";
    let (mut client, program, _proxy) = through("").await;
    client.send(twice).await;
    let mut connection = program.connection().await;
    let request = connection.request().await;
    assert_eq!((request.framing, request.text().as_str()), (Framing::Length(2), "ab"));
}

#[tokio::test]
async fn s11_beside_a_transfer_coding_the_length_is_gone_and_the_connection_closes_after_the_answer() {
    for fields in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
        "transfer-encoding: chunked\r\ncontent-length: 4",
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{GET}")).await;
        let request = program.connection().await.answers(OK).await;
        assert_eq!((request.framing, request.text().as_str()), (Framing::Chunked, "abc"), "{fields}");
        assert_eq!(client.response().await.field("connection"), Some("close"), "{fields}");
        assert_eq!(client.end().await, End::Closed, "{fields}");
        program.is_left_alone();
    }
}

#[tokio::test]
async fn s12_a_transfer_coding_that_is_not_exactly_one_chunked_is_refused() {
    let chunked = |codings: &str| {
        format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: {codings}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
    };
    are_refused(
        400,
        &[
            chunked("gzip, chunked"),
            chunked("xchunked, chunked"),
            chunked("identity, chunked"),
            chunked("chunked, chunked"),
            chunked("chunked, identity"),
            chunked("chunked;q=1"),
            chunked("chunked,"),
            chunked("\"chunked\""),
            chunked("chunked\r\ntransfer-encoding: chunked"),
            chunked("gzip\r\ntransfer-encoding: chunked"),
        ],
    )
    .await;
}

#[tokio::test]
async fn s13_a_transfer_coding_in_http_1_0_is_refused() {
    are_refused(400, &["POST / HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n"]).await;
}

#[tokio::test]
async fn s14_a_chunk_that_is_not_well_formed_never_looks_like_a_whole_body() {
    for chunks in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "3_0\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "10000000000000000\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3;a\nabc\r\n0\r\n\r\n",
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunks}")).await;
        let connection = program.connection();
        let broken = async {
            // The program may have got the head and a part; what it must never get is the end.
            let (seen, _) = connection.await.rest().await;
            assert!(!seen.ends_with(b"0\r\n\r\n"), "{chunks:?} became {:?}", String::from_utf8_lossy(&seen));
        };
        broken.await;
        let (answer, _) = client.rest().await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{chunks:?}");
    }
}

#[tokio::test]
async fn s14_chunks_go_out_in_canonical_form_and_without_extensions() {
    let chunks = "3;name=value\r\nabc\r\n0002 \r\nde\r\n00;x\r\n\r\n";
    let (request, _) =
        forwarded(format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: Chunked\r\n\r\n{chunks}")).await;
    assert_eq!((request.framing, request.text().as_str()), (Framing::Chunked, "abcde"));
    assert_eq!(request.field("transfer-encoding"), Some("chunked"));
}

#[tokio::test]
async fn s15_a_malformed_trailer_ends_the_exchange() {
    for trailer in ["no colon\r\n", "x : y\r\n", ": y\r\n", "x: \0\r\n"] {
        let (mut client, program, _proxy) = through("").await;
        client
            .send(format!(
                "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailer}\r\n"
            ))
            .await;
        let (seen, _) = program.connection().await.rest().await;
        assert!(!seen.ends_with(b"0\r\n\r\n"), "{trailer:?}");
        let (answer, _) = client.rest().await;
        assert!(!answer.starts_with(b"HTTP/1.1 200"), "{trailer:?}");
    }
}

#[tokio::test]
async fn s16_trailers_of_a_request_pass_where_they_were_announced_and_never_become_fields() {
    let trailing = |announced: &str| {
        format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\n{announced}transfer-encoding: chunked\r\n\r\n\
             1\r\na\r\n0\r\nx-sum: 1\r\nhost: evil.test\r\ncontent-length: 5\r\n\r\n"
        )
    };
    let (announced, _) = forwarded(trailing("trailer: x-sum\r\n")).await;
    assert_eq!((announced.field("x-sum"), announced.field("host")), (None, Some("localhost")));
    assert_eq!((announced.text().as_str(), announced.trailers.as_str()), ("a", "x-sum: 1\r\n"));

    let (unannounced, _) = forwarded(trailing("")).await;
    assert_eq!((unannounced.field("x-sum"), unannounced.field("host")), (None, Some("localhost")));
    assert_eq!((unannounced.text().as_str(), unannounced.trailers.as_str()), ("a", ""));
}

#[tokio::test]
async fn s17_a_1_0_client_gets_no_chunks_and_a_close() {
    let (mut client, program, _proxy) = through("").await;
    client.send("GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
    let answer = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n";
    program.connection().await.answers(answer).await;
    let response = client.response().await;
    assert_eq!((response.framing, response.text().as_str()), (Framing::Close, "ok"));
}

#[tokio::test]
async fn s17_a_1_0_client_that_asks_for_it_keeps_its_connection() {
    let (mut client, program, _proxy) = through("").await;
    let mut connection = None;
    for _ in 0..2 {
        client.send("GET / HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\n\r\n").await;
        if connection.is_none() {
            connection = Some(program.connection().await);
        }
        connection.as_mut().unwrap().answers(OK).await;
        let response = client.response().await;
        assert_eq!((response.text().as_str(), response.field("connection")), ("ok", Some("keep-alive")));
    }
}

#[tokio::test]
async fn s18_pipelined_requests_are_answered_in_order() {
    let (mut client, program, _proxy) = through("").await;
    let pipelined = [get("/1", &[]), post("/2", "two"), get("/3", &[]), get("/4", &[])];
    client.send(pipelined.concat()).await;
    let mut connection = program.connection().await;
    for number in 1..=4 {
        let target = connection.request().await.line().split(' ').nth(1).unwrap().to_owned();
        assert_eq!(target, format!("/{number}"));
        connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{target}")).await;
    }
    for number in 1..=4 {
        assert_eq!(client.response().await.text(), format!("/{number}"));
    }
}

#[tokio::test]
async fn s19_an_empty_line_before_a_request_is_tolerated() {
    let (request, _) = forwarded(format!("\r\n{GET}")).await;
    assert_eq!(request.line(), "GET / HTTP/1.1");
}

#[tokio::test]
async fn s20_a_refusal_of_a_large_head_reaches_a_client_that_is_still_sending() {
    let (_, program, proxy) = through("").await;
    let long_target = get(&format!("/{}", "a".repeat(33 * 1024)), &[]);
    let long_head = get("/", &[&format!("x-long: {}", "a".repeat(400 * 1024))]);
    let fields: Vec<String> = (0..101).map(|number| format!("x-{number}: 1")).collect();
    let many_fields = get("/", &fields.iter().map(String::as_str).collect::<Vec<_>>());
    for (request, status) in [(long_target, 414), (long_head, 431), (many_fields, 431)] {
        let mut client = proxy.connect().await;
        client.send(request).await;
        // More than one read takes, so that a close without reading on would reset the connection.
        let more = client.try_send("b".repeat(200 * 1024)).await;
        let response = client.response().await;
        assert_eq!(response.status, status, "{more:?}");
    }
    program.is_left_alone();
}

#[tokio::test]
async fn a_head_of_a_hundred_fields_and_one_of_sixty_kilobytes_pass() {
    let fields: Vec<String> = (0..99).map(|number| format!("x-{number}: 1")).collect();
    let (request, _) = forwarded(get("/", &fields.iter().map(String::as_str).collect::<Vec<_>>())).await;
    assert_eq!(request.field("x-98"), Some("1"));
    let cookie = format!("cookie: {}", "c".repeat(60 * 1024));
    let (request, _) = forwarded(get("/", &[&cookie])).await;
    assert_eq!(request.field("cookie").map(str::len), Some(60 * 1024));
}

#[tokio::test]
async fn s21_method_and_target_keep_their_bytes() {
    for target in [
        "/a%2Fb",
        "/a%2fb",
        "//a//",
        "/a;b=c",
        "/?",
        "/a?b?c",
        "/a/../b",
        "/./a",
        "/%",
        "/%zz",
        "/a?b=%00&c+d",
        "/~!$&'()*+,=:@",
        "/a\\b",
        "/a|b",
        "/{a}?[b]",
        "/a\"b\"",
        "/\u{e9}?\u{e9}",
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(get(target, &[])).await;
        let request = program.connection().await.answers(OK).await;
        let sent: String = target.bytes().map(char::from).collect();
        assert_eq!(request.line(), format!("GET {sent} HTTP/1.1"));
        assert_eq!(client.response().await.status, 200);
    }
}

#[tokio::test]
async fn s21_a_fragment_is_neither_routed_nor_forwarded() {
    let (request, _) = forwarded(get("/a?b#c", &[])).await;
    assert_eq!(request.line(), "GET /a?b HTTP/1.1");
}

#[tokio::test]
async fn s22_fields_keep_order_number_and_bytes() {
    let lines = [
        "x-b: 2",
        "cookie: a=1",
        "x-a: 1",
        "accept: */*",
        "x-obs: \u{e9}",
        "x-empty:",
        "x-b: 3",
        "cookie: b=2",
        "x-spaces: a  b",
        "x-tab: a\tb",
        "x-quoted: \"a, b\"",
    ];
    // The engine groups fields of one name behind the first of them, which changes the meaning of none.
    let grouped = [
        "x-b: 2",
        "x-b: 3",
        "cookie: a=1",
        "cookie: b=2",
        "x-a: 1",
        "accept: */*",
        "x-obs: \u{c3}\u{a9}",
        "x-empty: ",
        "x-spaces: a  b",
        "x-tab: a\tb",
        "x-quoted: \"a, b\"",
    ];
    let (request, proxy) = forwarded(get("/", &lines)).await;
    let expected = get("/", &grouped);
    let added = proxy.added("localhost");
    assert_eq!(request.head.text, format!("{}{added}\r\n", expected.strip_suffix("\r\n").unwrap()));
}

#[tokio::test]
async fn a_refusal_names_the_host_that_was_routed_by() {
    let (mut client, _program, _proxy) = through("").await;
    let response =
        client.ask("GET http://nowhere.test/x HTTP/1.1\r\nhost: localhost\r\nuser-agent: curl/8\r\n\r\n").await;
    assert_eq!(response.error(), (421, "unknown-host"));
    assert!(response.text().contains("host nowhere.test is neither local"), "{}", response.text());
}

#[tokio::test]
async fn a_broken_upload_is_the_clients_fault() {
    let (mut client, program, _proxy) = through("").await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n").await;
    let mut connection = program.connection().await;
    connection.head().await;
    client.send("ZZ\r\n").await;
    let response = client.response().await;
    assert_eq!(response.error(), (400, "bad-request"));
    assert_eq!(client.end().await, End::Closed);
}
