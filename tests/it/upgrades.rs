//! Connections that leave HTTP: what asks for it, what agrees to it, and that every byte arrives behind it.

use crate::harness::{End, Framing, GET, Head, OK, Proxy, Wire, get, program, proxy, through};

/// What a browser sends to open a WebSocket.
const FIELDS: [&str; 6] = [
    "Connection: keep-alive, Upgrade",
    "Upgrade: websocket",
    "Origin: http://app.localhost:5173",
    "Sec-WebSocket-Version: 13",
    "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==",
    "Sec-WebSocket-Protocol: vite-hmr",
];

/// What a program agrees with.
const SWITCH: &str = "HTTP/1.1 101 Switching Protocols\r\nconnection: Upgrade\r\nupgrade: WebSocket\r\n\
    Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\nsec-websocket-protocol: vite-hmr\r\n\r\n";

/// Both ends of a tunnel.
async fn tunnel() -> (Wire, Wire, Proxy) {
    let (mut client, program, proxy) = through("").await;
    client.send(get("/hmr", &FIELDS)).await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(SWITCH).await;
    assert_eq!(client.head().await.status(), Ok(101));
    (client, connection, proxy)
}

/// The fields but for those of one connection, which may stand anywhere.
fn without_hops(head: &Head) -> Vec<(&str, &str)> {
    let is_hop = |name: &str| ["connection", "upgrade", "date"].iter().any(|hop| hop.eq_ignore_ascii_case(name));
    head.fields().filter(|(name, _)| !is_hop(name)).collect()
}

#[tokio::test]
async fn s49_s51_an_upgrade_is_asked_for_and_agreed_to_field_by_field() {
    let (mut client, program, proxy) = through("").await;
    client.send(get("/hmr?token=a", &FIELDS)).await;
    let mut connection = program.connection().await;
    let asked = connection.head().await;
    assert_eq!(asked.line(), "GET /hmr?token=a HTTP/1.1");
    let added = proxy.added("localhost");
    let passed_on = FIELDS[2..].iter().copied().chain(added.lines()).map(|line| line.split_once(": ").unwrap());
    let expected: Vec<_> = std::iter::once(("host", "localhost")).chain(passed_on).collect();
    assert_eq!(without_hops(&asked), expected);
    assert_eq!((asked.field("connection"), asked.field("upgrade")), (Some("upgrade"), Some("websocket")));
    connection.send(SWITCH).await;
    let agreed = client.head().await;
    assert_eq!(agreed.status(), Ok(101));
    let expected = [("Sec-WebSocket-Accept", "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="), ("sec-websocket-protocol", "vite-hmr")];
    assert_eq!(without_hops(&agreed), expected);
    assert_eq!((agreed.field("connection"), agreed.field("upgrade")), (Some("upgrade"), Some("WebSocket")));
}

#[tokio::test]
async fn s51_what_the_ends_of_a_websocket_agree_on_is_not_touched() {
    let (mut client, program, _proxy) = through("").await;
    let fields = [
        "connection: upgrade",
        "upgrade: websocket",
        "Sec-WebSocket-Extensions: permessage-deflate; client_max_window_bits, x-other",
        "sec-websocket-protocol: a, b",
        "Sec-WebSocket-Protocol: c",
    ];
    client.send(get("/", &fields)).await;
    let mut connection = program.connection().await;
    let asked = connection.head().await;
    assert_eq!(asked.all("sec-websocket-protocol"), ["a, b", "c"]);
    let extensions = "permessage-deflate; client_max_window_bits, x-other";
    assert_eq!(asked.field("sec-websocket-extensions"), Some(extensions));
    let extensions = "Sec-WebSocket-Extensions: permessage-deflate; server_no_context_takeover\r\n\r\n";
    connection.send(SWITCH.strip_suffix("\r\n").unwrap().to_owned() + extensions).await;
    let agreed = client.head().await;
    let agreed = (agreed.field("sec-websocket-protocol"), agreed.field("sec-websocket-extensions"));
    assert_eq!(agreed, (Some("vite-hmr"), Some("permessage-deflate; server_no_context_takeover")));
}

#[tokio::test]
async fn s49_what_does_not_ask_in_the_full_form_is_a_plain_request() {
    for raw in [
        "POST / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nab",
        "GET / HTTP/1.0\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: keep-alive\r\nupgrade: websocket\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: websocket\r\ncontent-length: 2\r\n\r\nab",
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(raw).await;
        let mut connection = program.connection().await;
        let request = connection.request().await;
        assert_eq!((request.field("upgrade"), request.field("connection")), (None, None), "{raw:?}");
        connection.send(OK).await;
        assert_eq!(client.response().await.text(), "ok", "{raw:?}");
    }
}

#[tokio::test]
async fn s50_bytes_behind_the_request_and_behind_the_101_in_the_same_segment_arrive_first() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &FIELDS) + "early from the client, ").await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(SWITCH.to_owned() + "early from the program, ").await;
    client.head().await;
    client.send("later").await;
    connection.send("later").await;
    assert_eq!(connection.until("later").await, "early from the client, later");
    assert_eq!(client.until("later").await, "early from the program, later");
}

#[tokio::test]
async fn s50_t22_nothing_behind_the_request_is_forwarded_before_the_101() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &FIELDS) + "early").await;
    let mut connection = program.connection().await;
    connection.head().await;
    for _ in 0..3 {
        // What goes to the client and comes from it has passed the proxy since.
        connection.send("HTTP/1.1 103 Early Hints\r\n\r\n").await;
        assert_eq!(client.head().await.status(), Ok(103));
        client.send("er").await;
        assert!(!connection.has_news(), "{:?} before the 101", connection.some().await);
    }
    connection.send(SWITCH).await;
    assert_eq!(connection.bytes(11).await, b"earlyererer");
}

#[tokio::test]
async fn s50_t22_a_request_behind_a_refused_upgrade_never_reaches_the_program_unparsed() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &FIELDS) + &get("/inner", &["x-inner: 1"])).await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    // What stood behind it is a request of its own, with our fields, on whichever connection it comes.
    let mut next = program.next_connection(connection).await;
    let inner = next.request().await;
    assert_eq!((inner.line(), inner.all("via").len()), ("GET /inner HTTP/1.1", 1));
    next.send(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    program.is_left_alone();
}

#[tokio::test]
async fn s52_every_byte_goes_through_both_ways() {
    let (mut client, mut program, _proxy) = tunnel().await;
    let every_byte: Vec<u8> = (0..=255).collect();
    client.send(&every_byte).await;
    assert_eq!(program.bytes(256).await, every_byte);
    program.send(&every_byte).await;
    assert_eq!(client.bytes(256).await, every_byte);
}

#[tokio::test]
async fn s52_more_than_any_buffer_holds_goes_through_both_ways_at_once() {
    let (mut client, mut program, _proxy) = tunnel().await;
    let megabytes: Vec<u8> = (0..4_000_000u32).map(|n| (n % 251) as u8).collect();
    let mut back = Vec::new();
    let (client_sent, program_got) = (megabytes.clone(), megabytes.len());
    let echo = async {
        for _ in 0..program_got / 100_000 {
            let piece = program.bytes(100_000).await;
            program.send(piece).await;
        }
    };
    let ask = async {
        for piece in client_sent.chunks(100_000) {
            client.send(piece).await;
            back.extend(client.bytes(piece.len()).await);
        }
    };
    tokio::join!(echo, ask);
    assert!(back == megabytes);
}

#[tokio::test]
async fn f18_a_refused_upgrade_is_passed_on_like_any_answer_and_the_client_goes_on() {
    for status in [200, 401, 403, 404, 426, 503] {
        let (mut client, program, _proxy) = through("").await;
        client.send(get("/", &FIELDS)).await;
        let mut connection = program.connection().await;
        connection.head().await;
        let fields = "sec-websocket-version: 13\r\nwww-authenticate: Basic\r\n";
        connection.send(format!("HTTP/1.1 {status} No\r\n{fields}content-length: 2\r\n\r\nno")).await;
        let response = client.response().await;
        assert_eq!((response.status, response.text().as_str()), (status, "no"));
        assert_eq!(response.field("sec-websocket-version"), Some("13"));
        assert_eq!((response.framing, response.cause()), (Framing::Length(2), None));
        client.send(GET).await;
        program.next_connection(connection).await.answers(OK).await;
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn f18_s39_a_change_to_a_protocol_that_was_not_asked_for_is_a_bad_reply() {
    for switch in [
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket2\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: \r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n\r\n",
        "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket, h2c\r\n\r\n",
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(get("/", &FIELDS)).await;
        let mut connection = program.connection().await;
        connection.head().await;
        connection.send(format!("{switch}stray bytes")).await;
        assert_eq!(client.response().await.error(), (502, "bad-upstream-reply"), "{switch:?}");
        connection.rest().await;
    }
}

#[tokio::test]
async fn a_program_may_choose_one_of_several_protocols() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &["connection: upgrade", "upgrade: one/1, two"])).await;
    let mut connection = program.connection().await;
    assert_eq!(connection.head().await.field("upgrade"), Some("one/1, two"));
    connection.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: Two\r\n\r\n").await;
    assert_eq!(client.head().await.field("upgrade"), Some("Two"));
}

#[tokio::test]
async fn f19_a_side_that_says_its_last_word_still_hears_the_others() {
    let (mut client, mut program, _proxy) = tunnel().await;
    client.send("last word").await;
    client.shut().await;
    assert_eq!(program.rest().await, (b"last word".to_vec(), End::Closed));
    program.send("answer").await;
    program.shut().await;
    assert_eq!(client.rest().await, (b"answer".to_vec(), End::Closed));

    let (mut client, mut program, _proxy) = tunnel().await;
    program.send("last word").await;
    program.shut().await;
    assert_eq!(client.rest().await, (b"last word".to_vec(), End::Closed));
    client.send("answer").await;
    client.shut().await;
    assert_eq!(program.rest().await, (b"answer".to_vec(), End::Closed));
}

#[tokio::test]
async fn f19_a_side_that_is_gone_takes_the_other_with_it() {
    let (client, mut program, _proxy) = tunnel().await;
    client.reset();
    program.end().await;

    let (mut client, program, _proxy) = tunnel().await;
    program.reset();
    client.end().await;

    // Without a word from the other side, which may never close by itself.
    let (client, mut program, _proxy) = tunnel().await;
    drop(client);
    program.end().await;

    let (mut client, program, _proxy) = tunnel().await;
    drop(program);
    client.end().await;
}

#[tokio::test]
async fn f3_an_upgrade_without_an_answer_is_given_up_at_the_limit() {
    let (mut client, program, _proxy) = through("timeout = \"200ms\"").await;
    client.send(get("/", &FIELDS)).await;
    let mut silent = program.connection().await;
    silent.head().await;
    assert_eq!(client.response().await.error(), (504, "upstream-timeout"));
    silent.end().await;
}

#[tokio::test]
async fn f1_f8_an_upgrade_that_fails_is_told_like_any_request() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &FIELDS)).await;
    let mut crashing = program.connection().await;
    crashing.head().await;
    crashing.send("HTTP/1.1 101 Swi").await;
    drop(crashing);
    assert_eq!(client.response().await.error(), (502, "upstream-closed"));

    drop(program);
    assert_eq!(client.ask(get("/", &FIELDS)).await.error(), (502, "connect-refused"));
}

#[tokio::test]
async fn t16_an_upgrade_that_comes_back_is_a_loop() {
    let proxy = proxy("[routes]");
    proxy.swap(&format!("[routes]\nround = {{ path = \"/\", to = \"127.0.0.1:{}\" }}", proxy.port()));
    assert_eq!(proxy.ask(get("/", &FIELDS)).await.error(), (508, "loop"));
}

#[tokio::test]
async fn t1_t13_an_upgrade_is_guarded_like_any_request() {
    let (_, program, proxy) = through("").await;
    let fields: String = FIELDS.iter().map(|field| format!("{field}\r\n")).collect();
    for (start, error) in [
        ("GET / HTTP/1.1\r\nhost: evil.test\r\n", (421, "unknown-host")),
        ("GET / HTTP/1.1\r\nhost: localhost.evil.test\r\n", (421, "unknown-host")),
        ("GET http://evil.test/ HTTP/1.1\r\nhost: localhost\r\n", (421, "unknown-host")),
        ("GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n", (400, "bad-request")),
        ("GET / HTTP/1.1\r\n", (400, "bad-request")),
    ] {
        let response = proxy.ask(format!("{start}{fields}\r\n")).await;
        assert_eq!(response.error(), error, "{start:?}");
    }
    program.is_left_alone();
}

#[tokio::test]
async fn a_route_that_answers_by_itself_gives_a_plain_answer_to_an_upgrade() {
    let proxy = proxy("[routes]\nme = { path = \"/\", respond = \"no socket here\" }");
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        let response = client.ask(get("/", &FIELDS)).await;
        assert_eq!((response.status, response.text().as_str()), (200, "no socket here"));
    }
}

#[tokio::test]
async fn a_tunnel_outlives_a_reload_even_if_its_route_is_gone() {
    let (mut client, mut program, proxy) = tunnel().await;
    let change = proxy.swap("[routes]");
    assert_eq!(change.removed, ["app"]);
    assert_eq!(proxy.ask(GET).await.error(), (404, "no-route"));
    client.send("still ").await;
    assert_eq!(program.until(" ").await, "still ");
    program.send("here").await;
    assert_eq!(client.until("here").await, "here");
}

#[tokio::test]
async fn s63_http2_by_upgrade_is_ignored_so_that_no_stream_passes_the_routes() {
    for upgrade in ["h2c", "H2C", "websocket, h2c", "h2"] {
        let (mut client, program, _proxy) = through("").await;
        let fields =
            ["Connection: Upgrade, HTTP2-Settings", &format!("Upgrade: {upgrade}"), "HTTP2-Settings: AAMAAABk"];
        client.send(get("/", &fields)).await;
        let mut connection = program.connection().await;
        let request = connection.request().await;
        let seen = (request.field("upgrade"), request.field("connection"), request.field("http2-settings"));
        assert_eq!(seen, (None, None, None), "{upgrade}");
        connection.send(OK).await;
        assert_eq!(client.response().await.text(), "ok", "{upgrade}");
    }
}

#[tokio::test]
async fn an_upgrade_goes_to_the_target_that_answers() {
    let (gone, there) = (program().port(), program());
    let proxy = proxy(&format!("[routes]\napp = {{ path = \"/\", to = [{gone}, {}] }}", there.port()));
    for _ in 0..2 {
        let mut client = proxy.connect().await;
        client.send(get("/hmr", &FIELDS)).await;
        let mut connection = there.connection().await;
        connection.head().await;
        connection.send(SWITCH).await;
        assert_eq!(client.head().await.status(), Ok(101));
    }
}
