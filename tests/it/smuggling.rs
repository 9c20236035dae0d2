//! Requests that one reader takes for one and another for two: the program sees what we have read, or nothing.

use Sight::{AndTheNext, Nothing, One};

use crate::{
    harness::Request,
    robustness::{LAST, between, fire},
};

/// What a program may see of an attempt, if it sees anything at all.
#[derive(Clone, Copy)]
enum Sight {
    /// No whole request: there is no clear way to read it.
    Nothing,
    /// One request with this body.
    One(&'static str),
    /// One request with this body, and perhaps [`HIDDEN`], which stands openly behind it.
    AndTheNext(&'static str),
}

/// Stands behind or inside of the attempts.
const HIDDEN: &str = "GET /hidden HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// Requests that another reader might take for two, or for a longer or a shorter one.
fn attempts() -> Vec<(String, Sight)> {
    let head = "POST / HTTP/1.1\r\nhost: localhost\r\n";
    let mut attempts = Vec::new();
    let mut add = |raw: String, sight| attempts.push((raw, sight));
    let length = HIDDEN.len();

    // Two lengths, or a length that is none.
    for length in [
        "0\r\ncontent-length: 41",
        "41\r\ncontent-length: 0",
        "0, 41",
        "41, 0",
        "0,0",
        "+0",
        "-0",
        "0x0",
        "00_",
        "0 0",
        "0;",
        "0\t0",
        "\"0\"",
        "0.0",
        "0e0",
        "",
        " ",
        "\u{b}0",
        "0\u{c}",
        "18446744073709551616",
        "99999999999999999999999999",
        "\u{ff10}",
        "0\0",
    ] {
        add(format!("{head}content-length: {length}\r\n\r\n{HIDDEN}"), Nothing);
    }
    for name in [
        "content-length ",
        " content-length",
        "content-length\t",
        "content_length",
        "content-length\0",
        "content\u{ad}-length",
        "xcontent-length",
    ] {
        // A name that is no Content-Length: the body is none, and what follows is a request of its own or an error.
        add(format!("{head}{name}: 5\r\nconnection: close\r\n\r\n"), One(""));
    }
    // A coding that one reader knows and another does not.
    for coding in [
        "gzip, chunked",
        "chunked, gzip",
        "chunked, chunked",
        "identity, chunked",
        "chunked, identity",
        "xchunked",
        "chunkedx",
        "chunk",
        "\"chunked\"",
        "chunked;q=1",
        "chunked ; x",
        "chunked,",
        ",chunked",
        "\u{b}chunked",
        "chunked\u{b}",
        "chunked\0",
        "'chunked'",
        "chunked\r\n , identity",
        "chunked\r\ntransfer-encoding: identity",
        "identity\r\ntransfer-encoding: chunked",
        "chunked\r\ntransfer-encoding: chunked",
        "x\r\ntransfer-encoding: chunked",
        "",
        "cow",
        "\u{212a}hunked",
    ] {
        add(format!("{head}transfer-encoding: {coding}\r\n\r\n0\r\n\r\n{HIDDEN}"), Nothing);
    }
    for name in [
        "transfer-encoding ",
        "transfer-encoding\t",
        " transfer-encoding",
        "transfer-encoding\u{b}",
        "transfer\0-encoding",
    ] {
        add(format!("{head}{name}: chunked\r\ncontent-length: 5\r\n\r\n0\r\n\r\n"), Nothing);
    }
    // Both of them.
    for fields in [
        "content-length: 41\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: 41",
        "content-length: 0\r\ntransfer-encoding: chunked",
        "transfer-encoding: chunked\r\ncontent-length: abc",
        "transfer-encoding: Chunked\r\ncontent-length: 3",
        "transfer-encoding: chunked\r\ncontent-length: 5\r\ncontent-length: 6",
        "content-length: 6\r\ntransfer-encoding: gzip",
        "content-length: 3\r\ntransfer-encoding: chunked, identity",
        "content-length: 4\r\ntransfer-encoding: identity",
        "Content-Length: 0\r\nTRANSFER-ENCODING: CHUNKED",
        "content-length: 41\r\nx: y\r\ntransfer-encoding: chunked\r\nx: y\r\ncontent-length: 41",
        "transfer-encoding:chunked\r\ncontent-length:41",
        "transfer-encoding: \t chunked \t\r\ncontent-length: 41",
        "connection: transfer-encoding\r\ntransfer-encoding: chunked\r\ncontent-length: 41",
        "connection: content-length, transfer-encoding\r\ncontent-length: 41\r\ntransfer-encoding: chunked",
    ] {
        add(format!("{head}{fields}\r\n\r\n3\r\nabc\r\n0\r\n\r\n{HIDDEN}"), One("abc"));
    }
    // A bare line feed ends a line for one reader and not for another: within a body it ends none.
    for chunks in [
        "3\nabc\r\n0\r\n\r\n",
        "3\r\nabc\n0\r\n\r\n",
        "3\r\nabc\r\n0\n\r\n",
        "3\r\nabc\r\n0\n\n",
        "3\r\nabc\r\n0\r\n\n",
        "3\nabc\n0\n\n",
        "3;a\nb\r\nabc\r\n0\r\n\r\n",
        "3;\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: y\n\r\n",
        "3\r\nabc\r\n0\r\nx: y\n\n",
    ] {
        add(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}{HIDDEN}"), Nothing);
    }
    // Chunks that one reader ends earlier than another.
    for chunks in [
        "0x3\r\nabc\r\n0\r\n\r\n",
        "+3\r\nabc\r\n0\r\n\r\n",
        "-3\r\nabc\r\n0\r\n\r\n",
        "3_0\r\nabc\r\n0\r\n\r\n",
        " 3\r\nabc\r\n0\r\n\r\n",
        "3 \r\nabc\r\n0\r\n\r\n",
        "3\t\r\nabc\r\n0\r\n\r\n",
        "03\r\nabc\r\n0\r\n\r\n",
        "3;\r\nabc\r\n0\r\n\r\n",
        "3;a=b\r\nabc\r\n0\r\n\r\n",
        "3;a=\"\r\n\"\r\nabc\r\n0\r\n\r\n",
        "3;a\rb\r\nabc\r\n0\r\n\r\n",
        "3\r\nabcX\r\n0\r\n\r\n",
        "3\r\nabc0\r\n\r\n",
        "10000000000000003\r\nabc\r\n0\r\n\r\n",
        "ffffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "g\r\nabc\r\n0\r\n\r\n",
        "\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n00\r\n\r\n",
        "3\r\nabc\r\n0\r\ncontent-length: 41\r\n\r\n",
        "3\r\nabc\r\n0\r\nx\r\n\r\n",
        "3\r\nabc\r\n0\r\nx : y\r\n\r\n",
        "3\r\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0;x=\"\r\n\"\r\n\r\n",
        "3\r\nabc\r\n-0\r\n\r\n",
        "3\r\nabc\r\n0\r\n\r",
        "3\0\r\nabc\r\n0\r\n\r\n",
        "3 ;a=b\r\nabc\r\n0\r\n\r\n",
        "3; a = \"b\"\r\nabc\r\n0\r\n\r\n",
        "3;a=\"b;c\"\r\nabc\r\n0\r\n\r\n",
        "3;;;\r\nabc\r\n0\r\n\r\n",
        "3;a=\u{7}\r\nabc\r\n0\r\n\r\n",
        "000000000000000000003\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n000000000000000000000\r\n\r\n",
        "8000000000000003\r\nabc\r\n0\r\n\r\n",
        "7fffffffffffffff\r\nabc\r\n0\r\n\r\n",
        "\u{ff13}\r\nabc\r\n0\r\n\r\n",
        "3.\r\nabc\r\n0\r\n\r\n",
        "3,3\r\nabc\r\n0\r\n\r\n",
        "3\r\nabc\r\n0\r\ntransfer-encoding: chunked\r\n\r\n",
        "3\r\nabc\r\n0\r\nhost: evil.test\r\n\r\n",
        "3\r\nabc\r\n0\r\n x: folded\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: a\r\n b\r\n\r\n",
        "3\r\nabc\r\n0\r\nx: a\0\r\n\r\n",
        "3\r\nabc\r\r\n0\r\n\r\n",
    ] {
        add(format!("{head}transfer-encoding: chunked\r\n\r\n{chunks}{HIDDEN}"), AndTheNext("abc"));
    }
    add(
        format!("{head}transfer-encoding: chunked\r\n\r\n3;{}\r\nabc\r\n0\r\n\r\n{HIDDEN}", "x".repeat(100_000)),
        AndTheNext("abc"),
    );
    // Lines that one reader ends earlier than another.
    for raw in [
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: a\rGET /hidden HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: a\0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\n\rGET /hidden HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\n x: folded\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: a\r\n content-length: 41\r\n\r\n",
        "GET / HTTP/1.1\r\n\thost: localhost\r\n\r\n",
        "GET /a HTTP/1.1 HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET /\tHTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET\u{b}/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.1\u{b}\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: a\n content-length: 41\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\n\n\rGET /hidden HTTP/1.1\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: localhost\r\nx: y\r\n\0\r\n\r\n",
        "GET / HTTP/1.1\r\n\r\nhost: localhost\r\n\r\n",
        "GET /%20HTTP/1.1%0d%0ahost:%20localhost HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET / HTTP/1.1\u{85}host: localhost\r\n\r\n",
        "GET\r\n/ HTTP/1.1\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.10\r\nhost: localhost\r\n\r\n",
        "GET / HTTP/1.2\r\nhost: localhost\r\n\r\n",
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        "GET /%0d%0aGET%20/hidden HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n",
        "GET http://localhost/\r\nGET /hidden HTTP/1.1\r\nhost: localhost\r\n\r\n",
    ] {
        add(raw.into(), One(""));
    }
    // A body where nobody expects one, or none where one is told.
    for raw in [
        format!("GET / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
        format!("HEAD / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
        format!("OPTIONS * HTTP/1.1\r\nhost: localhost\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
        format!("{head}connection: upgrade\r\nupgrade: websocket\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
        format!("{head}connection: content-length\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
        format!("{head}expect: 100-continue\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
        format!("{head}content-length: {length}\r\ncontent-length: {length}\r\n\r\n{HIDDEN}"),
        format!("{head}content-length: 00{length}\r\n\r\n{HIDDEN}"),
    ] {
        add(raw, One(HIDDEN));
    }
    let chunked = "transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n";
    add(format!("POST / HTTP/1.0\r\nhost: localhost\r\n{chunked}{HIDDEN}"), Nothing);
    add(format!("GET / HTTP/1.1\r\nhost: localhost\r\n{chunked}{HIDDEN}"), AndTheNext("abc"));
    add(format!("{head}connection: transfer-encoding\r\n{chunked}{HIDDEN}"), AndTheNext("abc"));
    add(format!("{head}connection: close\r\n{chunked}{HIDDEN}"), One("abc"));
    attempts
}

/// The whole requests that a program sees of `raw` and [`LAST`].
async fn seen(raw: &str) -> Vec<Request> {
    let (origin, proxy) = between().await;
    fire(&proxy, raw.as_bytes()).await;
    proxy.drain().await;
    origin.has_read_all().await;
    // What was cut short the program cannot take for whole; anything else would be a head that is not clear.
    for fault in origin.faults() {
        assert!(fault.contains("instead of"), "{raw:?}: {fault}");
    }
    origin.requests()
}

#[tokio::test]
async fn t21_t25_what_the_program_sees_is_what_was_read_or_nothing() {
    let attempts = attempts();
    assert!(attempts.len() >= 150, "only {} attempts", attempts.len());
    let mut let_through = 0;
    for (raw, sight) in attempts {
        let requests = seen(&raw).await;
        let shown = &raw[..raw.len().min(300)];
        // Each went through the proxy as a request of its own.
        for request in &requests {
            assert_eq!(request.all("via").len(), 1, "{shown:?}: {:?}", request.head.text);
        }
        let before_last = match requests.as_slice() {
            [before @ .., last] if LAST.starts_with(last.line()) => before,
            all => all,
        };
        let_through += usize::from(!before_last.is_empty());
        match (before_last, sight) {
            ([], _) if requests.is_empty() => {}
            ([first], One(body) | AndTheNext(body)) => is_the_open_one(first, body),
            ([first, next], AndTheNext(body)) => {
                is_the_open_one(first, body);
                assert_eq!((next.line(), next.text().as_str()), ("GET /hidden HTTP/1.1", ""), "{shown:?}");
            }
            _ => panic!("{shown:?} became {requests:#?}"),
        }
    }
    // What has one clear reading is not refused either.
    assert!(let_through >= 24, "only {let_through} were let through");
}

fn is_the_open_one(request: &Request, body: &str) {
    assert!(!request.line().contains(" /hidden"), "{:?}", request.head.text);
    assert_eq!(request.text(), body, "{:?}", request.head.text);
}
