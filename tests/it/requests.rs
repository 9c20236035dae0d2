//! Requests as they come in: what is refused, and that what is let through goes out in one clear form.

use crate::harness::{End, Framing, GET, OK, Program, Proxy, Request, get, post, program, request, through};

/// Each request gets a page with this status and the end of its connection, and no program hears of it.
async fn are_refused(error: (u16, &str), requests: &[impl AsRef<[u8]>]) {
    let (_, program, proxy) = through("").await;
    for request in requests {
        is_refused(&proxy, error, request.as_ref()).await;
        program.is_left_alone();
    }
    still_answers(&proxy, &program).await;
}

async fn is_refused(proxy: &Proxy, error: (u16, &str), request: &[u8]) {
    let mut client = proxy.connect().await;
    let response = client.ask(request).await;
    let shown = String::from_utf8_lossy(&request[..request.len().min(300)]);
    assert_eq!(response.error(), error, "{shown:?}");
    assert_eq!(response.field("connection"), Some("close"), "{shown:?}");
    assert_eq!(client.end().await, End::Closed, "{shown:?}");
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
    assert_eq!(request.head.text, format!("GET /a?b HTTP/1.1\r\nHost: app.localhost:1\r\nX-One: 1\r\n{added}\r\n"));
}

#[tokio::test]
async fn s1_http_1_1_without_a_host_is_refused() {
    are_refused(
        (400, "bad-request"),
        &["GET / HTTP/1.1\r\n\r\n", "GET http://localhost/ HTTP/1.1\r\n\r\n", "OPTIONS * HTTP/1.1\r\n\r\n"],
    )
    .await;
}

#[tokio::test]
async fn s1_http_1_0_without_a_host_is_routed_by_the_address_it_came_to() {
    let (request, proxy) = forwarded("GET / HTTP/1.0\r\n\r\n").await;
    assert_eq!(request.field("host"), Some(format!("127.0.0.1:{}", proxy.port()).as_str()));
}

#[tokio::test]
async fn s2_two_host_fields_are_refused_even_if_they_are_equal() {
    are_refused(
        (400, "bad-request"),
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
    are_refused((400, "bad-request"), &requests).await;
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
        (400, "bad-request"),
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
        ],
    )
    .await;
}

#[tokio::test]
async fn a_line_that_is_no_request_line_is_refused() {
    are_refused(
        (400, "bad-request"),
        &[
            "GET /\r\nhost: localhost\r\n\r\n",
            "GET / HTTP/1.1 \r\nhost: localhost\r\n\r\n",
            "GET / HTTP/1.10\r\nhost: localhost\r\n\r\n",
            "GET / HTTP/2.0\r\nhost: localhost\r\n\r\n",
            "GET / HTTP/0.9\r\nhost: localhost\r\n\r\n",
            "GET / http/1.1\r\nhost: localhost\r\n\r\n",
            "GET / HTTP 1.1\r\nhost: localhost\r\n\r\n",
            "GET\t/\tHTTP/1.1\r\nhost: localhost\r\n\r\n",
            " GET / HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "G(T / HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
            "GET / HTTP/1.1\rhost: localhost\r\n\r\n",
            "hello\r\n\r\n",
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
        (400, "bad-request"),
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
            get("/", &["x-return: a\r"]),
            get("/", &["x-return\r: a"]),
            get("/", &["x-folded: a\n b"]),
            get("/", &["x-delete: a\u{7f}b"]),
            get("/", &["x-nul\0: a"]),
            "GET / HTTP/1.1\r\n host: localhost\r\n\r\n".into(),
            "GET / HTTP/1.1\r\nhost: localhost\r\n\rx: y\r\n\r\n".into(),
            get("/", &["x-bell: a\u{7}b"]),
            get("/", &["x(y): a"]),
            get("/", &["x\u{e9}: a"]),
        ],
    )
    .await;
}

#[tokio::test]
async fn s9_a_bare_line_feed_is_let_into_a_head_and_goes_out_as_crlf() {
    for raw in [
        "GET / HTTP/1.1\nhost: localhost\nX-One: 1\n\n",
        "GET / HTTP/1.1\r\nhost: localhost\nX-One: 1\r\n\n",
        "GET / HTTP/1.1\nhost: localhost\r\nX-One: 1\n\r\n",
        "\nGET / HTTP/1.1\r\nhost: localhost\r\nX-One: 1\r\n\r\n",
    ] {
        let (request, proxy) = forwarded(raw).await;
        let added = proxy.added("localhost");
        let expected = format!("GET / HTTP/1.1\r\nhost: localhost\r\nX-One: 1\r\n{added}\r\n");
        assert_eq!(request.head.text, expected, "{raw:?}");
    }
}

#[tokio::test]
async fn s10_a_length_that_is_no_number_or_not_one_is_refused() {
    let lengths = ["-1", "+1", "1,2", "1, 2", "1 2", "0x1", "1.0", "1e1", "a", "", "18446744073709551616", "\u{661}"];
    let mut requests: Vec<String> = lengths
        .iter()
        .map(|length| format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\nx"))
        .collect();
    requests.push("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nxy".into());
    are_refused((400, "bad-request"), &requests).await;
}

#[tokio::test]
async fn s10_equal_lengths_become_one() {
    let twice = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\ncontent-length: 2\r\n\r\nab";
    let (mut client, program, _proxy) = through("").await;
    client.send(twice).await;
    let mut connection = program.connection().await;
    let request = connection.answers(OK).await;
    assert_eq!((request.framing, request.text().as_str()), (Framing::Length(2), "ab"));
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn s11_beside_a_transfer_coding_the_length_is_gone_and_the_connection_closes_after_the_answer() {
    for fields in [
        "content-length: 3\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 3",
        "transfer-encoding: chunked\r\ncontent-length: 4",
        "Content-Length: 13\r\nTransfer-Encoding: Chunked",
        "content-length: 0\r\nconnection: keep-alive\r\ntransfer-encoding: chunked",
        "connection: content-length\r\ncontent-length: 3\r\ntransfer-encoding: chunked",
        "connection: transfer-encoding\r\ncontent-length: 3\r\ntransfer-encoding: chunked",
    ] {
        let (mut client, program, proxy) = through("").await;
        client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{GET}")).await;
        let mut connection = program.connection().await;
        // It would be a fault to have both of them.
        let request = connection.answers(OK).await;
        assert_eq!((request.framing, request.text().as_str()), (Framing::Chunked, "abc"), "{fields}");
        let response = client.response().await;
        assert_eq!((response.text().as_str(), response.field("connection")), ("ok", Some("close")), "{fields}");
        assert_eq!(client.end().await, End::Closed, "{fields}");
        // What stood behind it is no request; the program's connection is as clean as any.
        let mut other = proxy.connect().await;
        other.send(get("/other", &[])).await;
        let mut next = program.next_connection(connection).await;
        assert_eq!(next.answers(OK).await.line(), "GET /other HTTP/1.1", "{fields}");
        assert_eq!(other.response().await.text(), "ok");
        program.is_left_alone();
    }
}

fn with_codings(codings: &&str) -> String {
    format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: {codings}\r\n\r\n3\r\nabc\r\n0\r\n\r\n")
}

#[tokio::test]
async fn s12_a_transfer_coding_that_nobody_here_knows_is_not_implemented() {
    let unknown = ["gzip, chunked", "deflate, chunked", "xchunked, chunked", "br,chunked", "GZIP , Chunked"];
    are_refused((501, "unknown-coding"), &unknown.iter().map(with_codings).collect::<Vec<_>>()).await;
}

#[tokio::test]
async fn s12_a_list_of_transfer_codings_that_is_malformed_or_says_it_twice_is_refused() {
    let malformed = [
        "chunked, chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "gzip\r\ntransfer-encoding: chunked",
        "chunked\r\nx: y\r\nTransfer-Encoding: identity",
    ];
    are_refused((400, "bad-request"), &malformed.iter().map(with_codings).collect::<Vec<_>>()).await;
}

/// RFC 9112 §6.1 has two reasons to refuse these, and a status for each.
#[tokio::test]
async fn s12_a_transfer_coding_that_is_not_exactly_one_chunked_is_refused() {
    let (_, program, proxy) = through("").await;
    for codings in [
        "",
        "gzip",
        "identity",
        "identity, chunked",
        "chunked, identity",
        "chunked;q=1",
        "chunked,",
        ",chunked",
        "chunked chunked",
        "\"chunked\"",
    ] {
        let mut client = proxy.connect().await;
        let response = client.ask(with_codings(&codings)).await;
        assert!(
            matches!(response.error(), (400, "bad-request") | (501, "unknown-coding")),
            "{codings:?}: {:?}",
            response.error()
        );
        assert_eq!(client.end().await, End::Closed, "{codings:?}");
        program.is_left_alone();
    }
}

#[tokio::test]
async fn s13_a_transfer_coding_in_http_1_0_is_refused() {
    are_refused(
        (400, "bad-request"),
        &[
            "POST / HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            "POST / HTTP/1.0\r\nhost: localhost\r\ntransfer-encoding: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n",
            "GET / HTTP/1.0\r\nhost: localhost\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        ],
    )
    .await;
}

/// The client of a chunked upload gets a 400 or the end of its connection, and the program never takes it for whole.
async fn breaks_off(chunks: &str) {
    let (mut client, program, proxy) = through("").await;
    let raw = format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{chunks}");
    let chunks = &chunks[..chunks.len().min(300)];
    // The connection may end before all of it is sent.
    let _ = client.try_send(raw).await;
    let (answer, _) = client.rest().await;
    let answer = String::from_utf8(answer).unwrap();
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{chunks:?} got {answer:?}");
    assert!(answer.matches("HTTP/1.1 ").count() < 2, "{chunks:?} got {answer:?}");
    // The program may have got the head and a part; what it must never get is the end. It may have got nothing, too.
    let mut other = proxy.connect().await;
    other.send(get("/other", &[])).await;
    let (mut connection, before) = program.connection_asking("GET /other HTTP/1.1").await;
    for seen in before {
        assert!(!seen.ends_with("0\r\n\r\n"), "{chunks:?} became {seen:?}");
    }
    connection.send(OK).await;
    assert_eq!(other.response().await.text(), "ok");
}

#[tokio::test]
async fn s14_a_chunk_that_is_not_well_formed_never_looks_like_a_whole_body() {
    for chunks in [
        "x\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "3_0\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        ";a=b\r\nabc\r\n0\r\n\r\n",
        "10000000000000000\r\nabc\r\n0\r\n\r\n",
        "fffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcd\r\n0\r\n\r\n",
        "3\r\nab\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "3\r\nabc\r0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n",
        "3\r\r\nabc\r\n0\r\n\r\n",
        "3\0\r\nabc\r\n0\r\n\r\n",
    ] {
        breaks_off(chunks).await;
    }
}

#[tokio::test]
async fn s9_s14_a_bare_line_feed_ends_no_line_of_a_chunked_body() {
    for chunks in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\r\nabc\r\n0\n\n",
        "3;a\nabc\r\n0\r\n\r\n",
        "3\nabc\n0\n\n",
    ] {
        breaks_off(chunks).await;
    }
}

#[tokio::test]
async fn s14_an_extension_without_an_end_ends_the_exchange() {
    breaks_off(&format!("3;{}\r\nabc\r\n0\r\n\r\n", "x".repeat(100_000))).await;
    let many = "1;a=b\r\nx\r\n".repeat(10_000);
    breaks_off(&format!("{many}0\r\n\r\n")).await;
}

#[tokio::test]
async fn s14_chunks_go_out_in_canonical_form_and_without_extensions() {
    let chunks = "3;name=value\r\nabc\r\n0002\r\nde\r\nA;q=\"a;b\"\r\n0123456789\r\n00;x\r\n\r\n";
    let (request, _) =
        forwarded(format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: Chunked\r\n\r\n{chunks}")).await;
    // Nothing else would be read as chunks.
    assert_eq!((request.framing, request.text().as_str()), (Framing::Chunked, "abcde0123456789"));
    assert_eq!((request.field("transfer-encoding"), request.trailers.as_str()), (Some("chunked"), ""));
}

#[tokio::test]
async fn s15_a_malformed_trailer_ends_the_exchange() {
    for trailer in [
        "no colon\r\n",
        "x : y\r\n",
        ": y\r\n",
        "x: \0\r\n",
        "x: y\n",
        "x: y\r\n folded\r\n",
        " x: y\r\n",
        "x: a\rb\r\n",
        "x(y): z\r\n",
        "x: y\r\r\n",
    ] {
        breaks_off(&format!("1\r\na\r\n0\r\n{trailer}\r\n")).await;
    }
}

#[tokio::test]
async fn s15_a_trailer_that_never_comes_ends_with_either_side() {
    for trailers in ["", "0", "0\r\n", "0\r\nx-sum: 1", "0\r\nx-sum: 1\r\n"] {
        let raw =
            format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n{trailers}");
        let (mut client, program, proxy) = through("").await;
        client.send(&raw).await;
        let mut connection = program.connection().await;
        connection.head().await;
        connection.until("a\r\n").await;
        client.shut().await;
        let (seen, _) = connection.rest().await;
        assert!(!seen.ends_with(b"0\r\n\r\n"), "{trailers:?} became {:?}", String::from_utf8_lossy(&seen));
        still_answers(&proxy, &program).await;

        let (mut client, program, proxy) = through("").await;
        client.send(&raw).await;
        let mut connection = program.connection().await;
        connection.head().await;
        connection.until("a\r\n").await;
        drop(connection);
        assert_eq!(client.response().await.error(), (502, "upstream-closed"), "{trailers:?}");
        still_answers(&proxy, &program).await;
    }
}

/// A request with these trailers, its head with a further line.
fn trailing(line: &str, trailers: &str) -> String {
    format!(
        "POST / HTTP/1.1\r\nhost: localhost\r\n{line}transfer-encoding: chunked\r\n\r\n1\r\na\r\n0\r\n{trailers}\r\n"
    )
}

#[tokio::test]
async fn s16_trailers_that_a_request_announces_are_passed_on() {
    let (request, _) = forwarded(trailing("Trailer: X-Sum\r\n", "X-Sum: 1\r\n")).await;
    assert_eq!((request.field("trailer"), request.field("x-sum")), (Some("X-Sum"), None));
    assert_eq!((request.text().as_str(), request.trailers.as_str()), ("a", "X-Sum: 1\r\n"));
}

#[tokio::test]
async fn s16_trailers_of_a_request_never_touch_routing_framing_or_credentials() {
    let forbidden = "X-Sum: 1\r\nhost: evil.test\r\ncontent-length: 5\r\ntransfer-encoding: gzip\r\nconnection: x-sum\r\n\
        x-forwarded-for: 6.6.6.6\r\nauthorization: a\r\ncookie: c\r\n";
    for line in ["trailer: x-sum\r\n", "trailer: x-sum, host, content-length\r\n", ""] {
        let (request, _) = forwarded(trailing(line, forbidden)).await;
        assert_eq!((request.text().as_str(), request.field("host")), ("a", Some("localhost")), "{line:?}");
        assert_eq!(
            (request.field("cookie"), request.field("authorization"), request.field("x-sum")),
            (None, None, None)
        );
        assert_eq!(request.field("x-forwarded-for"), Some("127.0.0.1"));
        assert!(matches!(request.trailers.as_str(), "" | "X-Sum: 1\r\n"), "{line:?}: {:?}", request.trailers);
    }
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
async fn s18_our_own_answers_take_their_turn_among_those_of_programs() {
    let (_, program, proxy) = through("").await;
    let port = program.port();
    proxy.swap(&format!(
        "[routes]\napp = {{ path = \"/app\", to = {port} }}\nme = {{ path = \"/me\", respond = \"me\" }}"
    ));
    let mut client = proxy.connect().await;
    let pipelined = [get("/me", &[]), get("/app", &[]), post("/me", "a body"), get("/none", &[]), post("/app", "x")];
    client.send(pipelined.concat()).await;
    let mut connection = program.connection().await;
    assert_eq!(connection.request().await.line(), "GET /app HTTP/1.1");
    assert_eq!(client.response().await.text(), "me");
    assert!(!client.has_news(), "an answer came before its turn");
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    assert_eq!(client.response().await.text(), "me");
    assert_eq!(client.response().await.error(), (404, "no-route"));
    assert_eq!(connection.answers(OK).await.text(), "x");
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn s19_an_empty_line_before_a_request_is_tolerated() {
    let (request, _) = forwarded(format!("\r\n{GET}")).await;
    assert_eq!(request.line(), "GET / HTTP/1.1");
}

/// A request of exactly so many fields, Host included.
fn of_fields(count: usize) -> String {
    let fields: Vec<String> = (1..count).map(|number| format!("x-{number}: 1")).collect();
    get("/", &fields.iter().map(String::as_str).collect::<Vec<_>>())
}

/// A request whose head has exactly so many bytes.
fn of_bytes(count: usize) -> String {
    let missing = count - get("/", &["x-long: "]).len();
    get("/", &[&format!("x-long: {}", "a".repeat(missing))])
}

/// A request whose target has exactly so many bytes.
fn of_target(count: usize) -> String {
    get(&format!("/{}", "a".repeat(count - 1)), &[])
}

#[tokio::test]
async fn s20_a_refusal_of_a_large_head_is_a_page_that_reaches_a_client_that_is_still_sending() {
    let (_, program, proxy) = through("").await;
    for (request, error) in [
        (of_target(32 * 1024 + 1), (414, "uri-too-long")),
        (of_target(60 * 1024), (414, "uri-too-long")),
        (of_bytes(64 * 1024 + 1), (431, "head-too-large")),
        (of_bytes(400 * 1024), (431, "head-too-large")),
        (of_fields(101), (431, "head-too-large")),
        (of_fields(5_000), (431, "head-too-large")),
    ] {
        let mut client = proxy.connect().await;
        let _ = client.try_send(request).await;
        // More than one read takes, so that a close without reading on would reset the connection.
        let more = client.try_send("b".repeat(200 * 1024)).await;
        let response = client.response().await;
        assert_eq!(response.error(), error, "{more:?}");
        assert_eq!(response.field("connection"), Some("close"));
        assert_eq!(client.end().await, End::Closed);
    }
    // Where even the request line is beyond all measure, either may be said of it.
    for request in [of_target(100 * 1024), "G".repeat(100 * 1024)] {
        let mut client = proxy.connect().await;
        let _ = client.try_send(request).await;
        assert!(matches!(client.response().await.status, 400 | 414 | 431));
        assert_eq!(client.end().await, End::Closed);
    }
    program.is_left_alone();
    still_answers(&proxy, &program).await;
}

#[tokio::test]
async fn s20_a_refusal_does_not_wait_for_the_end_of_a_head_that_has_none() {
    let (_, program, proxy) = through("").await;
    for (request, error) in [
        (format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {}", "a".repeat(65 * 1024)), (431, "head-too-large")),
        ("GET / HTTP/1.1\r\nhost: localhost\r\n".to_owned() + &"x: y\r\n".repeat(12_000), (431, "head-too-large")),
        ("GET / HTTP/1.1\r\nx : y\r\n".to_owned(), (400, "bad-request")),
    ] {
        let mut client = proxy.connect().await;
        let _ = client.try_send(request).await;
        assert_eq!(client.response().await.error(), error);
        assert_eq!(client.end().await, End::Closed);
    }
    program.is_left_alone();
}

#[tokio::test]
async fn a_head_as_large_as_it_may_be_passes() {
    for request in [of_target(32 * 1024), of_bytes(64 * 1024), of_fields(100)] {
        let (mut client, program, _proxy) = through("").await;
        client.send(&request).await;
        let mut connection = program.connection().await;
        // It says what it was sent, and more.
        assert!(connection.answers(OK).await.head.text.len() > request.len());
        assert_eq!(client.response().await.text(), "ok");
    }
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
        "/?a=\"b\"",
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
async fn s22_fields_keep_order_case_number_and_bytes() {
    let lines: [&[u8]; 14] = [
        b"X-B: 2",
        b"cookie: a=1",
        b"x-a: 1",
        b"ACCEPT: */*",
        b"Host: localhost",
        b"x-obs: \xe9\xff\x80",
        b"x-b: 3",
        b"Cookie: b=2",
        b"X-b:2",
        b"x-spaces:   a  b \t ",
        b"x-tab:\ta\tb",
        b"x-quoted: \"a, b\"",
        b"X_Under-Score: 1",
        b"!#$%&'*+-.^_`|~: odd",
    ];
    let raw = [b"GET / HTTP/1.1", lines.join(b"\r\n".as_slice()).as_slice(), b"", b""].join(b"\r\n".as_slice());
    let (request, proxy) = forwarded(raw).await;
    let expected = "GET / HTTP/1.1\r\nX-B: 2\r\ncookie: a=1\r\nx-a: 1\r\nACCEPT: */*\r\nHost: localhost\r\n\
        x-obs: \u{e9}\u{ff}\u{80}\r\nx-b: 3\r\nCookie: b=2\r\nX-b: 2\r\nx-spaces: a  b\r\nx-tab: a\tb\r\n\
        x-quoted: \"a, b\"\r\nX_Under-Score: 1\r\n!#$%&'*+-.^_`|~: odd\r\n";
    assert_eq!(request.head.text, format!("{expected}{}\r\n", proxy.added("localhost")));
}

#[tokio::test]
async fn s22_a_field_without_a_value_keeps_its_place() {
    let (request, _) = forwarded(get("/", &["X-First: 1", "X-Empty:", "x-blank:  ", "X-Last: 1"])).await;
    let fields: Vec<_> = request.fields().skip(1).take(4).collect();
    assert_eq!(fields, [("X-First", "1"), ("X-Empty", ""), ("x-blank", ""), ("X-Last", "1")]);
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
