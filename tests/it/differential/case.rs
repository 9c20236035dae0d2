//! The cases: byte streams of clients and of programs, valid ones and what seeded accidents make of them.

use std::ops::Range;

use crate::harness::Random;

/// A stream of bytes, and from which side it comes.
pub(super) struct Case {
    pub(super) seed: u64,
    pub(super) from: From,
    pub(super) bytes: Vec<u8>,
}

/// Who sends the bytes.
pub(super) enum From {
    /// A client, before [`last`]; the program answers each request.
    Client,
    /// A program, to this request of a client, which asks once more if it may.
    Program { request: Vec<u8>, to_head: bool },
}

/// The target of the request that ends each connection.
pub(super) const LAST: &str = "/last";

/// What the stream of a client ends with, and nothing else holds.
pub(super) const MARK: &[u8] = b"x-mark: the very end\r\n\r\n";

/// More than any proxy would gather of a body before it says anything to anybody.
const FILLING: usize = 66 * 1024;

/// The end of a client's stream: a request that asks for the end. Where it was taken for something else a longer
/// end may be needed.
pub(super) fn last(long: bool) -> Vec<u8> {
    let last = format!("GET {LAST} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n").into_bytes();
    let filling = [&last[..], b"\r\n"].concat();
    let count = if long { FILLING.div_ceil(filling.len()) } else { 0 };
    [&filling.repeat(count), &last, MARK].concat()
}

impl Case {
    /// The case of that number.
    pub(super) fn new(seed: u64) -> Self {
        let mut random = Random(seed);
        let (from, mut bytes) = if random.below(5) < 3 {
            let mut bytes = Vec::new();
            for _ in 0..pick(&mut random, &[1, 1, 1, 2, 2, 3]) {
                put_request(&mut random, &mut bytes);
            }
            (From::Client, bytes)
        } else {
            let (request, to_head) = question(&mut random);
            let bytes = valid_answer(&mut random, to_head);
            (From::Program { request, to_head }, bytes)
        };
        if random.below(5) < 3 {
            for _ in 0..pick(&mut random, &[1, 1, 1, 2, 3]) {
                mutate(&mut random, &mut bytes);
            }
        }
        Self { seed, from, bytes }
    }

    /// `bytes` in the segments in which this case sends them.
    pub(super) fn segments(&self, bytes: &[u8]) -> Vec<Vec<u8>> {
        let mut random = Random(!self.seed);
        let mut cuts: Vec<usize> = match random.below(20) {
            0 => (0..bytes.len().min(200)).collect(),
            1..10 => Vec::new(),
            _ => (0..random.below(5) + 1).map(|_| random.below(bytes.len() + 1)).collect(),
        };
        cuts.push(bytes.len());
        cuts.sort_unstable();
        let mut from = 0;
        cuts.iter()
            .map(|&to| bytes[std::mem::replace(&mut from, to)..to].to_vec())
            .filter(|it| !it.is_empty())
            .collect()
    }
}

const METHODS: &[&str] = &[
    "GET",
    "GET",
    "GET",
    "HEAD",
    "POST",
    "POST",
    "PUT",
    "PATCH",
    "DELETE",
    "OPTIONS",
    "TRACE",
    "CONNECT",
    "PROPFIND",
    "pUrge",
    "M-SEARCH",
    "!#$%&'*+-.^_`|~",
];

const TARGETS: &[&[u8]] = &[
    b"/",
    b"/a/b?x=1&y=2",
    b"//",
    b"/..;/x",
    b"/a%2Fb%00",
    b"/%zz",
    b"/a;b=c,d",
    b"/?",
    b"/x??y",
    b"/{a}|b",
    b"/a:b@c",
    b"/~!$&'()*+,;=",
    b"/caf\xc3\xa9?q=\xc3\xa9",
    b"http://localhost/absolute?x",
    b"HTTP://app.localhost:81/Absolute",
    b"http://localhost",
    b"https://127.0.0.1/",
];

const HOSTS: &[&str] = &["localhost", "localhost", "LocalHost:8080", "app.localhost", "127.0.0.1:1", "[::1]:65535"];

const REQUEST_FIELDS: &[&[u8]] = &[
    b"accept: */*",
    b"Accept-Encoding: gzip, br",
    b"User-Agent: a/1 (b; c)",
    b"Cookie: a=1; b=2",
    b"cookie: c=\"3\"",
    b"Authorization: Basic eDp5",
    b"X-Empty:",
    b"X-Blank: \t ",
    b"x-tabs:\ta\tb\t",
    b"x-obs: caf\xe9 \x80\xff",
    b"x-utf8: \xc3\xa9",
    b"X-Twice: 1",
    b"x-twice: 2",
    b"x!#$%&'*+-.^_`|~0: odd",
    b"Range: bytes=0-5,7-",
    b"If-None-Match: W/\"x\"",
    b"Content-Type: text/plain; charset=\"x\"",
    b"Origin: http://a.localhost",
    b"Referer: http://b.test/?#x",
    b"Via: 1.0 fred, 1.1 p.example",
    b"Date: Tue, 15 Nov 1994 08:12:31 GMT",
    b"X-Forwarded-For: 203.0.113.9",
    b"x_forwarded_host: evil.test",
    b"Forwarded: for=evil",
    b"Connection: x-hop",
    b"X-Hop: 1",
    b"Connection: Keep-Alive, x-hop",
    b"Keep-Alive: timeout=5",
    b"Proxy-Connection: keep-alive",
    b"Proxy-Authorization: Basic eDp5",
    b"TE: trailers",
    b"TE: gzip;q=0.5, trailers",
    b"Trailer: x-sum",
    b"Trailer: x-other, cookie, host",
    b"Upgrade: websocket",
    b"Connection: upgrade",
    b"Expect: 100-continue",
    b"Max-Forwards: 3",
];

const ANSWER_FIELDS: &[&[u8]] = &[
    b"Server: a/1",
    b"Set-Cookie: a=1; Path=/",
    b"set-cookie: b=2",
    b"Date: Tue, 15 Nov 1994 08:12:31 GMT",
    b"Content-Type: text/html; charset=utf-8",
    b"Content-Encoding: gzip",
    b"ETag: \"x\"",
    b"Vary: *",
    b"Location: /elsewhere?#x",
    b"X-Empty:",
    b"X-Blank: \t ",
    b"x-obs: caf\xe9 \x80\xff",
    b"X-Twice: 1",
    b"x-twice: 2",
    b"x!#$%&'*+-.^_`|~0: odd",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: x-hop",
    b"X-Hop: 1",
    b"Keep-Alive: timeout=5",
    b"Proxy-Authenticate: Basic",
    b"Upgrade: h2",
    b"Trailer: x-sum",
    b"Trailer: x-other, cookie, host",
    b"Via: 1.0 fred",
    b"Link: </a.css>; rel=preload",
    b"Content-Range: bytes 0-4/10",
];

const TRAILERS: &[&[u8]] =
    &[b"x-sum: 1", b"X-Sum: caf\xe9", b"x-other:", b"cookie: c=4", b"content-length: 5", b"host: evil.test"];

/// What bodies are made of: some of it would be another message if it was not a body.
const BODIES: &[&[u8]] = &[
    b"",
    b"a",
    b"hello",
    b"\r\n",
    b"0\r\n\r\n",
    b"GET /hidden HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"\x00\x01\xfe\xff",
];

const EXTENSIONS: &[&[u8]] = &[b"", b"", b";a", b";a=b", b";a=\"b c\"", b" ; a = b"];

/// Pieces that one reader takes for something and another for nothing.
const NASTY: &[&[u8]] = &[
    b"\r",
    b"\n",
    b"\r\n",
    b"\r\n\r\n",
    b"\n\n",
    b"\r\r\n",
    b"\0",
    b" ",
    b"\t",
    b"\x0b",
    b"\x0c",
    b"\x7f",
    b"\x80",
    b"\xff",
    b"\xc2\xa0",
    b",",
    b":",
    b";",
    b"\"",
    b"#",
    b"/",
    b"\\",
    b"@",
    b"%",
    b"_",
    b"+5",
    b"-1",
    b"0x5",
    b"00",
    b"5, 5",
    b"4294967296",
    b"18446744073709551615",
    b"18446744073709551616",
    b"99999999999999999999999999",
    b"ffffffffffffffff",
    b"10000000000000000",
    b"0\r\n\r\n",
    b"chunked",
    b"identity",
    b" HTTP/1.1",
    b" HTTP/1.0\r\n",
    b"GET /hidden HTTP/1.1\r\nhost: localhost\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n",
];

/// Lines that mean two things to two readers.
const NASTY_LINES: &[&[u8]] = &[
    b"Transfer-Encoding: chunked",
    b"Transfer-Encoding: xchunked",
    b"Transfer-Encoding: gzip, chunked",
    b"Transfer-Encoding: chunked, chunked",
    b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: CHUNKED",
    b"Transfer-Encoding: chunked;q=1",
    b"Transfer-Encoding:\x0bchunked",
    b"Transfer-Encoding:",
    b"Transfer-Encoding : chunked",
    b" Transfer-Encoding: chunked",
    b"Transfer_Encoding: chunked",
    b"Content-Length: 5",
    b"Content-Length: 0",
    b"Content-Length: +5",
    b"Content-Length: 0x5",
    b"Content-Length: 5, 5",
    b"Content-Length: 5 5",
    b"Content-Length: 4294967296",
    b"Content-Length: 18446744073709551616",
    b"Content-Length:",
    b"Content-Length : 5",
    b"Host: localhost",
    b"Host: evil.test",
    b"Host: a@localhost",
    b"Host: localhost, localhost",
    b"Host: localhost:99999",
    b"Host:",
    b"Connection: close",
    b"Connection: keep-alive",
    b"Connection: host, cookie, content-length",
    b"Connection: transfer-encoding",
    b"Connection: \xff, x-hop",
    b"Upgrade: h2c",
    b"Expect: 100-continue",
    b"Expect: 200-ok",
    b"Max-Forwards: 0",
    b"Max-Forwards: x",
    b": nameless",
    b"no colon",
    b" folded",
    b"\tfolded",
    b"x : y",
    b"x\0: y",
    b"x: y\0",
    b"x: \x7f",
    b"x\xe9: y",
];

fn pick<T: Copy>(random: &mut Random, from: &[T]) -> T {
    from[random.below(from.len())]
}

fn put_line(bytes: &mut Vec<u8>, line: &[u8]) {
    bytes.extend_from_slice(line);
    bytes.extend_from_slice(b"\r\n");
}

fn put_request(random: &mut Random, bytes: &mut Vec<u8>) {
    if random.once_in(20) {
        put_line(bytes, b"");
    }
    let method = pick(random, METHODS);
    let is_old = random.once_in(8);
    let target = match random.below(300) {
        0 => [b"/", &b"a".repeat(pick(random, &[30_000, 32_767, 32_768, 40_000]))[..]].concat(),
        1..30 if method == "OPTIONS" => b"*".to_vec(),
        1..200 if method == "CONNECT" => b"localhost:80".to_vec(),
        _ => pick(random, TARGETS).to_vec(),
    };
    put_line(bytes, &[method.as_bytes(), b" ", &target, if is_old { b" HTTP/1.0" } else { b" HTTP/1.1" }].concat());
    let mut lines = some_fields(random, REQUEST_FIELDS);
    if !is_old || random.once_in(2) {
        lines.push([pick(random, &["Host: ", "host:", "HOST:\t"]), pick(random, HOSTS)].concat().into_bytes());
    }
    if is_old && random.once_in(2) {
        lines.push(b"Connection: keep-alive".to_vec());
    }
    if random.once_in(40) {
        lines.push(b"Connection: close".to_vec());
    }
    let framing = if is_old { random.below(2) } else { random.below(4) };
    let body = some_body(random);
    match framing {
        0 => put_head_end(random, bytes, lines),
        1 | 2 => {
            let zeros = pick(random, &["", "", "", "", "00"]);
            for _ in 0..pick(random, &[1, 1, 1, 1, 1, 2]) {
                lines.push(format!("Content-Length: {zeros}{}", body.len()).into_bytes());
            }
            put_head_end(random, bytes, lines);
            bytes.extend_from_slice(&body);
        }
        _ => {
            lines.push(pick(random, &[&b"Transfer-Encoding: chunked"[..], b"transfer-encoding:Chunked"]).to_vec());
            if random.once_in(20) {
                lines.push(b"Content-Length: 3".to_vec());
            }
            put_head_end(random, bytes, lines);
            put_chunks(random, bytes, &body);
        }
    }
}

/// A client's request and whether it is a HEAD.
fn question(random: &mut Random) -> (Vec<u8>, bool) {
    let method = pick(random, &["GET", "GET", "GET", "GET", "HEAD", "HEAD", "POST", "OPTIONS", "DELETE"]);
    let version = pick(random, &["1.1", "1.1", "1.1", "1.1", "1.1", "1.0"]);
    let fields = pick(random, &["", "te: trailers\r\nconnection: te\r\n", "connection: keep-alive\r\n"]);
    let body = if method == "POST" { "content-length: 5\r\n\r\nhello" } else { "\r\n" };
    let request = format!("{method} /case HTTP/{version}\r\nhost: localhost\r\n{fields}{body}");
    (request.into_bytes(), method == "HEAD")
}

fn valid_answer(random: &mut Random, to_head: bool) -> Vec<u8> {
    let mut bytes = Vec::new();
    let interim = if random.once_in(300) { 33 } else { pick(random, &[0, 0, 0, 0, 0, 1, 2]) };
    for _ in 0..interim {
        let line = pick(random, &["100 Continue", "102 Processing", "103 Early Hints", "199 "]);
        put_line(&mut bytes, format!("HTTP/1.1 {line}").as_bytes());
        put_line(&mut bytes, pick(random, &[&b"Link: </a.css>; rel=preload"[..], b"x-interim: caf\xe9", b"x-i:"]));
        put_line(&mut bytes, b"");
    }
    let status = pick(
        random,
        &[200, 200, 200, 200, 201, 204, 204, 206, 301, 304, 304, 400, 404, 416, 426, 500, 503, 299, 418, 600, 999],
    );
    let reason = pick(random, &[&b"OK"[..], b"Whatever it is", b"", b"caf\xe9"]);
    let version = pick(random, &["1.1", "1.1", "1.1", "1.1", "1.1", "1.0"]);
    put_line(&mut bytes, &[format!("HTTP/{version} {status} ").as_bytes(), reason].concat());
    let mut lines = some_fields(random, ANSWER_FIELDS);
    let bodiless = to_head || matches!(status, 204 | 304);
    let body = some_body(random);
    let body_sent = if bodiless { &[][..] } else { &body };
    match random.below(3) {
        0 if version == "1.1" => {
            lines.push(b"Transfer-Encoding: chunked".to_vec());
            put_head_end(random, &mut bytes, lines);
            if !bodiless {
                put_chunks(random, &mut bytes, &body);
            }
        }
        1 => {
            put_head_end(random, &mut bytes, lines);
            bytes.extend_from_slice(body_sent);
        }
        _ => {
            for _ in 0..pick(random, &[1, 1, 1, 1, 1, 2]) {
                lines.push(format!("content-length: {}", body.len()).into_bytes());
            }
            put_head_end(random, &mut bytes, lines);
            bytes.extend_from_slice(body_sent);
        }
    }
    bytes
}

fn some_fields(random: &mut Random, from: &[&[u8]]) -> Vec<Vec<u8>> {
    let mut lines: Vec<_> = (0..random.below(8)).map(|_| pick(random, from).to_vec()).collect();
    match random.below(200) {
        0 => lines.extend((0..pick(random, &[70, 90, 100])).map(|number| format!("x-{number}: {number}").into_bytes())),
        1 => lines.push([b"x-long: ", &b"b".repeat(pick(random, &[8_000, 60_000, 70_000]))[..]].concat()),
        _ => {}
    }
    lines
}

/// The fields in any order, and the empty line.
fn put_head_end(random: &mut Random, bytes: &mut Vec<u8>, mut lines: Vec<Vec<u8>>) {
    while !lines.is_empty() {
        put_line(bytes, &lines.swap_remove(random.below(lines.len())));
    }
    put_line(bytes, b"");
}

fn some_body(random: &mut Random) -> Vec<u8> {
    if random.once_in(100) {
        return b"0123456789abcdef".repeat(random.below(2_000));
    }
    let pieces: Vec<&[u8]> = (0..random.below(4)).map(|_| pick(random, BODIES)).collect();
    pieces.concat()
}

fn put_chunks(random: &mut Random, bytes: &mut Vec<u8>, body: &[u8]) {
    let mut rest = body;
    while !rest.is_empty() {
        let (chunk, behind) = rest.split_at(random.below(rest.len()) + 1);
        let size = chunk.len();
        let size = match random.below(4) {
            0 => format!("{size:X}"),
            1 => format!("{size:04x}"),
            _ => format!("{size:x}"),
        };
        put_line(bytes, &[size.as_bytes(), pick(random, EXTENSIONS)].concat());
        put_line(bytes, chunk);
        rest = behind;
    }
    put_line(bytes, &[&b"0"[..], pick(random, EXTENSIONS)].concat());
    for _ in 0..pick(random, &[0, 0, 0, 1, 2]) {
        put_line(bytes, pick(random, TRAILERS));
    }
    put_line(bytes, b"");
}

/// One accident.
fn mutate(random: &mut Random, bytes: &mut Vec<u8>) {
    let at = place(random, bytes);
    match random.below(14) {
        0 if at < bytes.len() => bytes[at] ^= (random.below(255) + 1) as u8,
        1 if at < bytes.len() => bytes[at] = bytes[at].wrapping_add(pick(random, &[1, 255])),
        0..4 => insert(bytes, at, pick(random, NASTY)),
        4 => drop(bytes.drain(at..bytes.len().min(at + random.below(12) + 1))),
        5 => {
            let line = line_at(bytes, at);
            let copy = bytes[line.clone()].to_vec();
            insert(bytes, line.end, &copy);
        }
        6 => drop(bytes.drain(line_at(bytes, at))),
        7 => {
            let end = line_at(bytes, at).end;
            let other = pick(random, &[&b"\n"[..], b"\r", b"\n\r", b"\r\r\n", b"\r\n ", b"\0\r\n", b" \r\n", b""]);
            replace(bytes, end.saturating_sub(2)..end, other);
        }
        8 => bytes.retain(|&byte| byte != b'\r'),
        9 => bytes.truncate(at),
        10 => {
            let from = random.below(bytes.len() + 1);
            let piece = bytes[from..bytes.len().min(from + random.below(40))].to_vec();
            insert(bytes, at, &piece);
        }
        11 => {
            let digits: Vec<_> = (0..bytes.len()).filter(|&at| bytes[at].is_ascii_digit()).collect();
            if !digits.is_empty() {
                bytes[pick(random, &digits)] = b'0' + random.below(10) as u8;
            }
        }
        _ => {
            let start = line_at(bytes, at).start;
            insert(bytes, start, &[pick(random, NASTY_LINES), b"\r\n"].concat());
        }
    }
}

/// Somewhere, and more often where a head is.
fn place(random: &mut Random, bytes: &[u8]) -> usize {
    let within = if random.once_in(2) { bytes.len() } else { bytes.len().min(250) };
    random.below(within + 1)
}

/// The line around `at`, with its end.
fn line_at(bytes: &[u8], at: usize) -> Range<usize> {
    let start = bytes[..at].iter().rposition(|&byte| byte == b'\n').map_or(0, |end| end + 1);
    let end = bytes[at..].iter().position(|&byte| byte == b'\n').map_or(bytes.len(), |end| at + end + 1);
    start..end
}

fn insert(bytes: &mut Vec<u8>, at: usize, piece: &[u8]) {
    replace(bytes, at..at, piece);
}

fn replace(bytes: &mut Vec<u8>, range: Range<usize>, piece: &[u8]) {
    drop(bytes.splice(range, piece.iter().copied()));
}
