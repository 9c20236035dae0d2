//! Messages cut anywhere: in whatever piece or buffer a byte comes, it arrives, once and in its place.

use std::time::Duration;

use tokio::time::sleep;

use crate::harness::{Framing, GET, OK, Request, Response, Wire, bytes_of, chunked, get, is_full, request, through};

/// Around what an engine may read at once: 12,000 bytes in chunks of one are 72,000 on the wire.
const SIZES: [usize; 7] = [0, 1, 12_000, 64 * 1024 - 1, 64 * 1024, 64 * 1024 + 1, 1024 * 1024];

/// Sizes of chunks.
const CHUNKS: [usize; 5] = [1, 7, 4096, 65_536, 100_000];

/// A body and the field that frames it.
fn framed(body: &[u8], chunk: Option<usize>) -> (String, Vec<u8>) {
    match chunk {
        None => (format!("content-length: {}", body.len()), body.to_vec()),
        Some(size) => ("transfer-encoding: chunked".into(), chunked(body, size, "")),
    }
}

/// All ways to frame a body of that length, but for more than twenty thousand chunks: they would say nothing new.
fn framings(length: usize) -> impl Iterator<Item = Option<usize>> {
    let chunks = CHUNKS.into_iter().filter(move |size| length / size <= 20_000);
    std::iter::once(None).chain(chunks.map(Some))
}

#[tokio::test]
async fn s14_s38_a_body_of_any_size_and_framing_arrives_both_ways_on_one_connection() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    for length in SIZES {
        let body = bytes_of(length);
        for chunk in framings(length) {
            let (field, content) = framed(&body, chunk);
            let request = format!("POST / HTTP/1.1\r\nhost: localhost\r\n{field}\r\n\r\n").into_bytes();
            let answer = format!("HTTP/1.1 200 OK\r\n{field}\r\n\r\n").into_bytes();
            let asks = async {
                client.send([request, content.clone()].concat()).await;
                client.response().await
            };
            let answers = connection.answers([answer, content.clone()].concat());
            let (response, request) = tokio::join!(asks, answers);
            let framing = chunk.map_or(Framing::Length(length as u64), |_| Framing::Chunked);
            assert_eq!((request.framing, response.framing), (framing, framing), "{length} bytes, {field}, {chunk:?}");
            assert!(request.body == body, "the request's {length} bytes, {field}, {chunk:?}");
            assert!(response.body == body, "the answer's {length} bytes, {field}, {chunk:?}");
        }
    }
    program.is_left_alone();
}

#[tokio::test]
async fn s37_a_body_of_any_size_may_end_with_its_connection() {
    let (mut client, program, _proxy) = through("").await;
    for length in SIZES {
        let body = bytes_of(length);
        client.send(GET).await;
        let mut connection = program.connection().await;
        let answers = async {
            connection.answers([b"HTTP/1.1 200 OK\r\n\r\n", body.as_slice()].concat()).await;
            connection.shut().await;
        };
        let ((), response) = tokio::join!(answers, client.response());
        assert!(response.body == body, "{length} bytes");
        assert_eq!(response.framing, Framing::Chunked);
    }
}

#[tokio::test]
async fn s17_a_1_0_client_gets_a_body_of_any_size_and_framing() {
    let (_, program, proxy) = through("").await;
    for length in SIZES {
        let body = bytes_of(length);
        for chunk in framings(length) {
            let (field, content) = framed(&body, chunk);
            let mut client = proxy.connect().await;
            client.send("GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
            let mut connection = program.connection().await;
            let answer = format!("HTTP/1.1 200 OK\r\nconnection: close\r\n{field}\r\n\r\n").into_bytes();
            let (_, response) = tokio::join!(connection.answers([answer, content].concat()), client.response());
            let framing = chunk.map_or(Framing::Length(length as u64), |_| Framing::Close);
            assert_eq!(response.framing, framing, "{length} bytes, {field}");
            assert!(response.body == body, "{length} bytes, {field}, {chunk:?}");
        }
    }
}

/// Sends both parts, the second one once the first one was read. Where the proxy is too slow for that nothing is lost.
async fn send_apart(wire: &mut Wire, whole: &[u8], at: usize) {
    wire.send(&whole[..at]).await;
    sleep(Duration::from_millis(1)).await;
    wire.send(&whole[at..]).await;
}

#[tokio::test]
async fn s9_s14_s16_a_request_may_be_cut_at_every_byte() {
    let chunks = "5;a=\"b\"\r\nfirst\r\n0B\r\n, then more\r\n0\r\nX-Sum: 1\r\n\r\n";
    let requests = [
        get("/a?b", &["Accept: */*", "Cookie: a=1; b=2", "X-Empty:"]),
        "GET / HTTP/1.1\nhost: localhost\nx: y\n\n".into(),
        "POST /a HTTP/1.1\r\nhost: localhost\r\nContent-Length: 6\r\n\r\na body".into(),
        format!("POST / HTTP/1.1\r\nhost: localhost\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
    ];
    for raw in requests {
        let raw = raw.as_bytes();
        let (mut client, program, _proxy) = through("").await;
        client.send(raw).await;
        let mut connection = program.connection().await;
        let whole = connection.answers(OK).await;
        client.response().await;
        for at in 1..raw.len() {
            send_apart(&mut client, raw, at).await;
            let request = connection.answers(OK).await;
            assert_eq!(request, whole, "cut at {at}");
            assert_eq!(client.response().await.text(), "ok", "cut at {at}");
        }
        program.is_left_alone();
    }
}

/// What the client gets for an answer that is cut there.
async fn answered(client: &mut Wire, connection: &mut Wire, answer: &[u8], at: usize) -> (Request, Response) {
    let mut last = Box::pin(async {
        client.send(get("/", &["te: trailers", "connection: te"])).await;
        loop {
            let response = client.response().await;
            if response.status >= 200 {
                return response;
            }
        }
    });
    let answers = async {
        let request = connection.request().await;
        send_apart(connection, answer, at).await;
        request
    };
    tokio::join!(answers, &mut last)
}

#[tokio::test]
async fn s33_s44_an_answer_may_be_cut_at_every_byte() {
    let trailers = "X-Sum: 1\r\n";
    let chunks = format!("5;a=\"b\"\r\nfirst\r\n0B\r\n, then more\r\n0\r\n{trailers}\r\n");
    let answers = [
        "HTTP/1.1 200 OK\r\nSet-Cookie: a=1\r\nX-Empty:\r\nset-cookie: b=2\r\nContent-Length: 6\r\n\r\na body"
            .to_owned(),
        format!("HTTP/1.1 200 OK\r\nTrailer: X-Sum\r\nTransfer-Encoding: chunked\r\n\r\n{chunks}"),
        "HTTP/1.1 200 OK\nContent-Length: 2\n\nok".into(),
        "HTTP/1.1 204 No Content\r\nx: y\r\n\r\n".into(),
        "HTTP/1.1 304 Not Modified\r\netag: \"a\"\r\ncontent-length: 9\r\n\r\n".into(),
        "HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n".into(),
        "HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\n".to_owned() + OK,
    ];
    for answer in answers {
        let answer = answer.as_bytes();
        let (mut client, program, _proxy) = through("").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers(OK).await;
        client.response().await;
        let (_, whole) = answered(&mut client, &mut connection, answer, answer.len()).await;
        for at in 1..answer.len() {
            let (_, response) = answered(&mut client, &mut connection, answer, at).await;
            assert_eq!(without_date(response), without_date(whole.clone()), "cut at {at}");
        }
        program.is_left_alone();
    }
}

fn without_date(response: Response) -> (String, Vec<u8>, String) {
    (response.without_date(), response.body, response.trailers)
}

/// Twenty requests of all kinds, and what each is answered with by a program that [`echoes`].
fn pipelined() -> Vec<(Vec<u8>, String)> {
    let post = |number: usize| {
        let body = "b".repeat(number);
        let head = format!("POST /{number} HTTP/1.1\r\nhost: localhost\r\n");
        match number % 3 {
            0 => (format!("{head}\r\n"), format!("/{number} ")),
            1 => (format!("{head}content-length: {number}\r\n\r\n{body}"), format!("/{number} {body}")),
            _ => (
                format!("{head}transfer-encoding: chunked\r\n\r\n1\r\nb\r\n{number:x}\r\n{body}\r\n0\r\n\r\n"),
                format!("/{number} b{body}"),
            ),
        }
    };
    (1..=20).map(post).map(|(request, answer)| (request.into_bytes(), answer)).collect()
}

/// Answers every request with its target and its body.
async fn echoes(mut connection: Wire) {
    while let Some(request) = connection.next_request().await.unwrap() {
        let text = format!("{} {}", request.line().split(' ').nth(1).unwrap(), request.text());
        connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len())).await;
    }
}

#[tokio::test]
async fn s18_pipelined_requests_with_bodies_may_be_cut_at_every_byte() {
    let (mut client, program, _proxy) = through("").await;
    let pipelined = pipelined();
    let stream: Vec<u8> = pipelined.iter().flat_map(|(request, _)| request.clone()).collect();
    client.send(&stream).await;
    let echoing = tokio::spawn(echoes(program.connection().await));
    for (_, answer) in &pipelined {
        assert_eq!(client.response().await.text(), *answer);
    }
    // Every third cut will do: each kind of request is there seven times, and each time another byte is cut at.
    for at in (1..stream.len()).step_by(if is_full() { 1 } else { 3 }) {
        let (first, second) = stream.split_at(at);
        client.send(first).await;
        let mut sent = 0;
        let mut answers = pipelined.iter();
        // What is whole is answered; by then the beginning of the next one was read.
        while let Some((request, answer)) = answers.as_slice().first().filter(|(request, _)| sent + request.len() <= at)
        {
            sent += request.len();
            answers.next();
            assert_eq!(client.response().await.text(), *answer, "cut at {at}");
        }
        client.send(second).await;
        for (_, answer) in answers {
            assert_eq!(client.response().await.text(), *answer, "cut at {at}");
        }
    }
    program.is_left_alone();
    echoing.abort();
}

#[tokio::test]
async fn s18_pipelined_requests_may_come_byte_by_byte() {
    let (mut client, program, _proxy) = through("").await;
    let echoing = async {
        echoes(program.connection().await).await;
    };
    let asking = async {
        for (request, answer) in pipelined() {
            for byte in request {
                client.send([byte]).await;
                tokio::task::yield_now().await;
            }
            assert_eq!(client.response().await.text(), answer);
        }
    };
    tokio::select! {
        () = echoing => panic!("the program lost its connection"),
        () = asking => {}
    }
}

#[tokio::test]
async fn s19_an_empty_line_between_requests_is_tolerated() {
    let (mut client, program, _proxy) = through("").await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\n\r\nab\r\n").await;
    let mut connection = program.connection().await;
    assert_eq!(connection.answers(OK).await.text(), "ab");
    assert_eq!(client.response().await.text(), "ok");
    client.send(GET).await;
    assert_eq!(connection.answers(OK).await.line(), "GET / HTTP/1.1");
    assert_eq!(client.response().await.text(), "ok");
    program.is_left_alone();
}

/// Requests of every framing, and answers to them.
const ASKED: [(&str, &str); 5] = [
    ("GET / HTTP/1.1\r\nhost: localhost\r\n", ""),
    ("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 0\r\n", ""),
    ("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 6\r\n", "a body"),
    ("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n", "6\r\na body\r\n0\r\n\r\n"),
    ("PUT / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n", "0\r\n\r\n"),
];
const ANSWERED: [(&str, &str); 7] = [
    ("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n", ""),
    ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n", "ok"),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n"),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n", "2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n"),
    ("HTTP/1.1 204 No Content\r\n", ""),
    ("HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n", ""),
    ("HTTP/1.1 404 Not Found\r\ncontent-length: 2\r\n", "no"),
];

#[tokio::test]
async fn both_connections_are_used_again_after_every_pair_of_framings() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    client.response().await;
    for (request, body) in ASKED {
        for (answer, content) in ANSWERED {
            client.send(format!("{request}\r\n{body}")).await;
            let seen = connection.answers(format!("{answer}\r\n{content}")).await;
            assert_eq!(seen.text(), if body.contains("a body") { "a body" } else { "" });
            let text = client.response().await.text();
            assert_eq!(text, if content.contains("ok") { "ok" } else { content }, "{request:?} {answer:?}");
        }
    }
    for head in ["content-length: 9\r\n", "transfer-encoding: chunked\r\n", ""] {
        client.send(request("HEAD", "/", &[])).await;
        connection.answers(format!("HTTP/1.1 200 OK\r\n{head}\r\n")).await;
        assert_eq!(client.response_to_head().await.status, 200, "{head:?}");
    }
    program.is_left_alone();
}

#[tokio::test]
async fn f12_an_answer_in_one_segment_with_the_end_of_the_previous_one_answers_nobody() {
    for (begun, ended) in [
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\no", "k"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\no", "k\r\n0\r\n\r\n"),
        ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r", "\n\r\n"),
        ("HTTP/1.1 200 OK\r\ncontent-length: 2\r", "\n\r\nok"),
    ] {
        let (mut client, program, _proxy) = through("").await;
        client.send(GET.repeat(2)).await;
        let mut connection = program.connection().await;
        connection.answers(begun).await;
        connection.send(format!("{ended}HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale")).await;
        assert_eq!(client.response().await.text(), "ok", "{begun:?}");
        connection.rest().await;
        program.connection().await.answers("HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nfresh").await;
        assert_eq!(client.response().await.text(), "fresh", "{begun:?}");
    }
}
