//! Bytes that nobody should send: whatever comes, no thread dies, and the next request works.
//!
//! Randomness is seeded by the number of the case, which every failure tells.

use std::time::Duration;

use tokio::time::timeout;

use crate::harness::{End, GET, Origin, Proxy, Random, origin, proxy, through};

/// An origin and a proxy that leads every local host to it.
pub(crate) async fn between() -> (Origin, Proxy) {
    let origin = origin().route("/", "ok").run().await;
    let proxy = proxy(&format!("[routes]\napp = {{ path = \"/\", to = {}, timeout = \"5s\" }}", origin.port()));
    (origin, proxy)
}

/// Answers good requests on both workers.
async fn still_answers(proxy: &Proxy) {
    let mut clients = [proxy.connect().await, proxy.connect().await, proxy.connect().await];
    for client in &mut clients {
        assert_eq!(client.ask(GET).await.text(), "ok");
    }
}

/// Ends a connection on which everything before it was read as whole requests.
pub(crate) const LAST: &str = "GET /last HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";

/// How long a connection may stay open behind [`LAST`] until it counts as one on which more is expected.
const OPEN: Duration = Duration::from_millis(300);

/// Sends `raw` and [`LAST`], and returns all that comes back.
pub(crate) async fn fire(proxy: &Proxy, raw: &[u8]) -> String {
    let mut client = proxy.connect().await;
    // The proxy may close before it has read all of it.
    let _ = client.try_send([raw, LAST.as_bytes()].concat()).await;
    let ended = timeout(OPEN, client.rest()).await;
    let (bytes, _) = match ended {
        Ok(rest) => rest,
        Err(_) => {
            client.try_shut().await;
            client.rest().await
        }
    };
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A head that is nearly one: most parts are good, some are not, and now and then a byte is turned over.
fn nearly_a_head(random: &mut Random) -> Vec<u8> {
    let methods = (&["GET", "HEAD", "OPTIONS", "pUrge"][..], &["CONNECT", "", "G\0T", "PRI", "A B", "(", "\u{e9}"][..]);
    let targets = (
        &["/", "/a?b", "/%00", "//", "http://localhost/", "/#a", "/\u{e9}"][..],
        &["*", "http://evil.test/", "evil:80", "", "?", "\\", "ftp://localhost/", "http://", "/ /"][..],
    );
    let versions =
        (&["HTTP/1.1", "HTTP/1.0"][..], &["HTTP/2.0", "HTTP/0.9", "http/1.1", "HTTP/1.1 ", "", "HTTP/11"][..]);
    let names = (
        &["connection", "upgrade", "te", "via", "max-forwards", "cookie", "range", "accept", "origin", "keep-alive"][..],
        &["content-length", "transfer-encoding", "expect", "host", "trailer", "", "x y", "x\u{e9}", "content-length "]
            [..],
    );
    let values = (
        &["0", "5", "close", "upgrade", "websocket", "trailers", "", "a, b, c", "bytes=0-", "text/html;q=2,*/*;q=x"][..],
        &["chunked", "100-continue", "gzip, chunked", "-1", "99999999999999999999", "\u{1}", "[", "\t", "x, host"][..],
    );
    let ends = (&["\r\n", "\n"][..], &["\r", "\r\n ", "\r\n\r\n", "\0"][..]);
    let mut head = [random.mostly(methods), random.mostly(targets), random.mostly(versions)].join(" ") + "\r\n";
    if !random.once_in(8) {
        head.push_str("host: localhost\r\n");
    }
    for _ in 0..random.below(5) {
        for part in [random.mostly(names), ": ", random.mostly(values), random.mostly(ends)] {
            head.push_str(part);
        }
    }
    head.push_str("\r\n");
    let mut head = head.into_bytes();
    if random.once_in(4) {
        let at = random.below(head.len());
        head[at] = random.next() as u8;
    }
    head
}

#[tokio::test]
async fn t3_ten_thousand_random_heads_end_nothing_but_their_own_connection() {
    let (_origin, proxy) = between().await;
    let mut let_through = 0;
    for case in 0..10_000u64 {
        let mut random = Random(case);
        let head = if case % 10 == 0 { random.bytes(512) } else { nearly_a_head(&mut random) };
        let answers = fire(&proxy, &head).await;
        let shown = String::from_utf8_lossy(&head);
        assert!(!answers.contains("HTTP/1.1 500 "), "case {case}: {shown:?}");
        // A refusal is a page that names its cause.
        let (refused, told) = (answers.matches("HTTP/1.1 400 "), answers.matches("x-portolan-error: bad-request"));
        assert_eq!(refused.count(), told.count(), "case {case}: {shown:?} got {answers:?}");
        let_through += usize::from(answers.starts_with("HTTP/1.1 200 "));
    }
    assert!(let_through > 1_000, "only {let_through} were let through");
    still_answers(&proxy).await;
}

/// A Host value that is nearly one.
fn nearly_a_host(random: &mut Random) -> Vec<u8> {
    let parts = [
        "localhost",
        "app",
        ".",
        "..",
        ":",
        "80",
        "65536",
        "99999",
        "[",
        "]",
        "::1",
        "[::1]",
        "[::1",
        "@",
        "user",
        ",",
        " ",
        "\t",
        "/",
        "127.0.0.1",
        "evil.test",
        "xn--nxasmq6b",
        "\u{e9}",
        "%2e",
        "_",
        "-",
        "*",
        "0x7f.1",
        "[fe80::1%eth0]",
        "\\",
        "?",
        "#",
        "'",
        "\"",
        "<",
        "\0",
        "\u{7f}",
    ];
    let mut host = Vec::new();
    for _ in 0..random.below(5) {
        host.extend_from_slice(random.one_of(&parts).as_bytes());
    }
    match random.below(12) {
        0 => host.extend(random.bytes(16).into_iter().filter(|byte| !b"\r\n".contains(byte))),
        1 => host.extend(vec![b'a'; random.below(8192)]),
        _ => {}
    }
    host
}

#[tokio::test]
async fn t5_ten_thousand_random_hosts_are_routed_by_rule_or_refused() {
    let (origin, proxy) = between().await;
    let mut client = proxy.connect().await;
    let (mut answered, mut refused, mut unknown) = (0, 0, 0);
    for case in 0..10_000u64 {
        let host = nearly_a_host(&mut Random(case));
        let raw = [b"GET / HTTP/1.1\r\nhost: ", host.as_slice(), b"\r\n\r\n"].concat();
        client.send(raw).await;
        let response = client.response().await;
        let shown = String::from_utf8_lossy(&host);
        // The parser has tests of its own; here it counts that what it says is what is done.
        let parsed = portolan::head::Host::parse(trim(&host));
        match (response.status, parsed) {
            (200, Ok(host)) if host.is_local() => answered += 1,
            (421, Ok(host)) if !host.is_local() => unknown += 1,
            (400, Err(_)) => {
                refused += 1;
                assert_eq!(response.error(), (400, "bad-request"), "case {case}: {shown:?}");
                assert_eq!(client.end().await, End::Closed, "case {case}: {shown:?}");
                client = proxy.connect().await;
            }
            (status, parsed) => panic!("case {case}: {shown:?} got {status}, parsed as {parsed:?}"),
        }
    }
    assert!(answered > 100 && refused > 100 && unknown > 100, "{answered} {refused} {unknown}");
    assert_eq!(origin.requests().len(), answered);
    assert_eq!(origin.faults(), [""; 0]);
    still_answers(&proxy).await;
}

fn trim(value: &[u8]) -> &[u8] {
    let start = value.iter().position(|byte| !b" \t".contains(byte)).unwrap_or(value.len());
    let end = value.iter().rposition(|byte| !b" \t".contains(byte)).map_or(start, |last| last + 1);
    &value[start..end]
}

#[tokio::test]
async fn t28_random_answers_of_a_program_are_whole_answers_or_errors_at_the_client() {
    let pieces = [
        "HTTP/1.1 200 OK\r\n",
        "HTTP/1.0 200 OK\r\n",
        "HTTP/1.1 204 No\r\n",
        "HTTP/1.1 101 Up\r\n",
        "HTTP/1.1 304 Not\r\n",
        "HTTP/1.1 100 Continue\r\n\r\n",
        "content-length: 2\r\n",
        "content-length: 9\r\n",
        "content-length: x\r\n",
        "transfer-encoding: chunked\r\n",
        "transfer-encoding: gzip\r\n",
        "connection: close\r\n",
        "connection: upgrade\r\nupgrade: websocket\r\n",
        "x: y\r\n",
        "x : y\r\n",
        ": y\r\n",
        "\r\n",
        "\r\n",
        "\r\n",
        "ok",
        "2\r\nok\r\n",
        "0\r\n\r\n",
        "ffffffffffffffff\r\n",
        "\n",
        "\0",
    ];
    for case in 0..400u64 {
        let mut random = Random(case);
        let mut answer = random.one_of(&["HTTP/1.1 200 OK\r\n", "HTTP/1.1 103 Early Hints\r\n\r\n"]).to_owned();
        for _ in 0..random.below(12) {
            answer.push_str(random.one_of(&pieces));
        }
        let (mut client, program, _proxy) = through("timeout = \"5s\"").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.request().await;
        let _ = connection.try_send(&answer).await;
        connection.try_shut().await;
        // Strict reading: a head that says two lengths, or a chunk that is none, is a fault.
        let mut read = client.try_answer().await;
        while read.as_ref().is_ok_and(|response| response.status < 200) {
            read = client.try_answer().await;
        }
        match read {
            Ok(response) => assert_ne!(response.status, 500, "case {case}: {answer:?}"),
            Err(fault) => assert!(fault.contains("instead of"), "case {case}: {answer:?}: {fault}"),
        }
    }
}
