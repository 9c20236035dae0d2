//! What a proxy takes off a request, what it puts on, and what it must leave alone.

use crate::harness::{Framing, OK, Proxy, Request, Response, get, proxy, request, through};

/// What the program gets for `request`, and what the client gets for `answer`.
async fn exchanged(keys: &str, request: &str, answer: &str) -> (Request, Response, Proxy) {
    let (mut client, program, proxy) = through(keys).await;
    client.send(request).await;
    let mut connection = program.connection().await;
    let seen = connection.answers(answer).await;
    (seen, client.response().await, proxy)
}

/// What the program gets.
async fn forwarded(request: &str) -> (Request, Proxy) {
    let (seen, _, proxy) = exchanged("", request, OK).await;
    (seen, proxy)
}

#[tokio::test]
async fn s23_fields_of_one_connection_do_not_go_further() {
    let fields = [
        "connection: keep-alive, x-named",
        "connection: X-Also-Named",
        "x-named: 1",
        "x-also-named: 1",
        "keep-alive: timeout=5",
        "proxy-connection: keep-alive",
        "te: gzip",
        "upgrade: websocket",
        "x-other: 1",
    ];
    let answer = "HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=9\r\nproxy-connection: close\r\n\
        te: gzip\r\nupgrade: h2c\r\nx-end: 1\r\ncontent-length: 0\r\n\r\n";
    let (seen, response, proxy) = exchanged("", &get("/", &fields), answer).await;
    let added = proxy.added("localhost");
    assert_eq!(seen.head.text, format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-other: 1\r\n{added}\r\n"));
    assert_eq!(response.without_date(), "HTTP/1.1 200 OK\r\nx-end: 1\r\ncontent-length: 0\r\n\r\n");
}

#[tokio::test]
async fn s23_s24_case_is_no_way_round_it() {
    let fields = [
        "X-Named: 1",
        "Connection: X-nAMED, HOST, Content-LENGTH, Cookie, Close",
        "Keep-Alive: timeout=5",
        "PROXY-CONNECTION: keep-alive",
        "Te: Trailers, gzip",
        "UPGRADE: websocket",
        "Proxy-AUTHORIZATION: Basic eA==",
        "X-Forwarded-FOR: 6.6.6.6",
        "X_FORWARDED_PROTO: https",
        "FORWARDED: for=6.6.6.6",
        "Cookie: c",
        "X-Other: 1",
    ];
    let answer = "HTTP/1.1 200 OK\r\nX-Hop: 1\r\nConnection: x-HOP, Set-Cookie\r\nKEEP-ALIVE: timeout=9\r\nSet-Cookie: a\r\n\
        Proxy-Connection: close\r\nUpgrade: h2c\r\nContent-Length: 0\r\n\r\n";
    let (seen, response, proxy) = exchanged("", &get("/", &fields), answer).await;
    let kept: Vec<_> = seen.fields().filter(|(name, _)| !["te", "connection"].contains(name)).collect();
    let expected = format!("host: localhost\r\nCookie: c\r\nX-Other: 1\r\n{}", proxy.added("localhost"));
    assert_eq!(kept, expected.lines().map(|line| line.split_once(": ").unwrap()).collect::<Vec<_>>());
    assert_eq!((seen.field("te"), seen.field("connection")), (Some("trailers"), Some("te")));
    assert_eq!(
        response.without_date(),
        "HTTP/1.1 200 OK\r\nSet-Cookie: a\r\nContent-Length: 0\r\nconnection: close\r\n\r\n"
    );
}

#[tokio::test]
async fn s23_only_the_wish_for_trailers_is_passed_on() {
    let (seen, _) = forwarded(&get("/", &["te: trailers, deflate;q=0.5", "connection: te"])).await;
    assert_eq!((seen.field("te"), seen.field("connection")), (Some("trailers"), Some("te")));
}

#[tokio::test]
async fn s24_connection_cannot_take_along_what_must_go_on() {
    let raw = "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nauthorization: a\r\ncookie: c\r\n\
        x-forwarded-for: 6.6.6.6\r\nconnection: host, content-length, authorization, cookie, via, x-forwarded-for, \
        x-forwarded-host, x-forwarded-proto, x-forwarded-port, close\r\n\r\nab";
    let (seen, proxy) = forwarded(raw).await;
    let added = proxy.added("localhost");
    assert_eq!(
        seen.head.text,
        format!(
            "POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nauthorization: a\r\ncookie: c\r\n{added}\r\n"
        )
    );
    assert_eq!(seen.text(), "ab");
}

#[tokio::test]
async fn s24_connection_cannot_take_cookies_off_an_answer() {
    let answer =
        "HTTP/1.1 200 OK\r\nconnection: set-cookie, content-length\r\nset-cookie: a=1\r\ncontent-length: 2\r\n\r\nok";
    let (_, response, _) = exchanged("", &get("/", &[]), answer).await;
    assert_eq!((response.field("set-cookie"), response.framing), (Some("a=1"), Framing::Length(2)));
}

#[tokio::test]
async fn s25_credentials_for_a_proxy_do_not_reach_the_program() {
    let answer = "HTTP/1.1 200 OK\r\nproxy-authenticate: Basic\r\ncontent-length: 0\r\n\r\n";
    let (seen, response, _) = exchanged("", &get("/", &["proxy-authorization: Basic eA=="]), answer).await;
    assert_eq!((seen.field("proxy-authorization"), response.field("proxy-authenticate")), (None, None));
}

#[tokio::test]
async fn s26_our_member_stands_at_the_end_of_via() {
    let (seen, proxy) = forwarded(&get("/", &["via: 1.0 a, 1.1 b", "via: 1.1 c"])).await;
    assert_eq!(seen.all("via"), ["1.0 a, 1.1 b", "1.1 c", &format!("1.1 portolan:{}", proxy.port())]);
}

#[tokio::test]
async fn s26_our_own_name_in_via_is_a_loop() {
    let (mut client, program, proxy) = through("").await;
    let response = client.ask(get("/", &[&format!("via: 1.1 other, 1.1 portolan:{}", proxy.port())])).await;
    assert_eq!(response.error(), (508, "loop"));
    program.is_left_alone();
}

#[tokio::test]
async fn s26_a_route_that_leads_back_to_the_proxy_is_noticed_in_the_first_round() {
    let proxy = proxy("[routes]");
    proxy.swap(&format!("[routes]\nround = {{ path = \"/\", to = \"127.0.0.1:{}\" }}", proxy.port()));
    let response = proxy.ask(get("/", &[])).await;
    assert_eq!(response.error(), (508, "loop"));
}

#[tokio::test]
async fn s27_what_a_client_says_of_its_own_way_is_replaced() {
    let fields = [
        "x-forwarded-for: 6.6.6.6",
        "x-forwarded-for: 7.7.7.7",
        "x-forwarded-host: evil.test",
        "x-forwarded-proto: https",
        "x-forwarded-port: 443",
        "x-forwarded-ssl: on",
        "x_forwarded_for: 6.6.6.6",
        "X_Forwarded-Host: evil.test",
        "x-kept: 1",
    ];
    let (seen, proxy) = forwarded(&get("/", &fields)).await;
    let added = proxy.added("localhost");
    assert_eq!(seen.head.text, format!("GET / HTTP/1.1\r\nhost: localhost\r\nx-kept: 1\r\n{added}\r\n"));
}

#[tokio::test]
async fn s28_a_clients_forwarded_field_is_not_passed_on() {
    let (seen, _) = forwarded(&get("/", &["forwarded: for=6.6.6.6;host=evil.test"])).await;
    assert_eq!(seen.field("forwarded"), None);
}

#[tokio::test]
async fn s29_options_and_trace_go_on_for_as_long_as_max_forwards_says() {
    for method in ["OPTIONS", "TRACE"] {
        let (seen, _) = forwarded(&request(method, "/", &["max-forwards: 2"])).await;
        assert_eq!(seen.field("max-forwards"), Some("1"));
    }
    let (mut client, program, _proxy) = through("").await;
    let last = client.ask(request("OPTIONS", "/", &["max-forwards: 0"])).await;
    assert_eq!((last.status, last.field("allow").is_some()), (204, true));
    assert_eq!(client.ask(request("TRACE", "/", &["max-forwards: 0"])).await.status, 405);
    assert_eq!(client.ask(request("OPTIONS", "/", &["max-forwards: x"])).await.error(), (400, "bad-request"));
    program.is_left_alone();
}

#[tokio::test]
async fn s29_other_methods_keep_max_forwards_as_it_is() {
    let (seen, _) = forwarded(&get("/", &["max-forwards: 0"])).await;
    assert_eq!(seen.field("max-forwards"), Some("0"));
}

#[tokio::test]
async fn s30_the_program_sees_the_authority_that_the_client_named() {
    for host in ["LocalHost:62893", "app.localhost.", "127.0.0.1", "[::1]:62893"] {
        let (seen, proxy) = forwarded(&format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(seen.head.text, format!("GET / HTTP/1.1\r\nhost: {host}\r\n{}\r\n", proxy.added(host)));
    }
}

#[tokio::test]
async fn s31_what_ties_a_page_to_its_origin_is_not_touched() {
    let fields = ["origin: http://app.localhost:5173", "referer: http://localhost:5173/a?b", "cookie: a=1; b=\"2\""];
    let answer = "HTTP/1.1 302 Found\r\nlocation: http://localhost:5173/a\r\n\
        set-cookie: a=1; Domain=app.test; Path=/x; Secure\r\nset-cookie: b=2\r\n\
        access-control-allow-origin: http://other.test\r\ncontent-length: 0\r\n\r\n";
    let (seen, response, proxy) = exchanged("", &get("/", &fields), answer).await;
    let expected = get("/", &fields);
    assert_eq!(
        seen.head.text,
        format!("{}{}\r\n", expected.trim_end_matches("\r\n").to_owned() + "\r\n", proxy.added("localhost"))
    );
    assert_eq!(response.without_date(), answer);
}

#[tokio::test]
async fn s32_a_date_is_added_where_there_is_none_and_the_server_is_nobodys_business() {
    let (_, response, _) = exchanged("", &get("/", &[]), OK).await;
    assert!(response.field("date").is_some_and(|date| date.ends_with("GMT")));
    assert_eq!(response.field("server"), None);

    let dated =
        "HTTP/1.1 200 OK\r\ndate: Tue, 15 Nov 1994 08:12:31 GMT\r\nserver: theirs/1\r\ncontent-length: 0\r\n\r\n";
    let (_, response, _) = exchanged("", &get("/", &[]), dated).await;
    assert_eq!(response.head.text, dated);
}
