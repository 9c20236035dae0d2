//! The faults of programs and clients once more, each in many ways: cut into other pieces, in another order, by the seed.
//!
//! `PORTOLAN_ACCEPTANCE=full cargo test --test it matrix::` runs a thousand seeds of each.

use std::pin::pin;

use crate::harness::{ALONE, Case, End, Framing, OK, Random, Response, Wire, bytes_of, chunked, each_seed};

const TRAILERS: &str = "te: trailers\r\nconnection: te\r\n";

/// A body of any framing: its field line and its bytes.
fn framed(body: &[u8], random: &mut Random) -> (String, Vec<u8>) {
    if random.once_in(2) {
        return (format!("content-length: {}\r\n", body.len()), body.to_vec());
    }
    ("transfer-encoding: chunked\r\n".into(), odd_chunks(body, random))
}

/// A body in chunks of all sizes, written in all ways that are allowed.
fn odd_chunks(body: &[u8], random: &mut Random) -> Vec<u8> {
    let mut chunks = Vec::new();
    let mut rest = body;
    while !rest.is_empty() {
        let most = *[1, 2, 16, 300, 70_000].get(random.below(5)).unwrap();
        let (chunk, behind) = rest.split_at(rest.len().min(random.between(1, most + 1)));
        let extension = random.one_of(&["", "", ";a", ";a=b", ";a=\"b;c\""]);
        let size = match random.below(3) {
            0 => format!("{:x}", chunk.len()),
            1 => format!("{:X}", chunk.len()),
            _ => format!("{:05x}", chunk.len()),
        };
        chunks.extend(format!("{size}{extension}\r\n").bytes());
        chunks.extend(chunk);
        chunks.extend(b"\r\n");
        rest = behind;
    }
    chunks.extend(random.one_of(&["0\r\n\r\n", "000\r\n\r\n", "0;a=b\r\n\r\n"]).bytes());
    chunks
}

/// Sends the answer in the pieces of the seed. The proxy may have had enough before the end.
async fn says(case: &mut Case, connection: &mut Wire, answer: impl AsRef<[u8]>) {
    let _ = connection.send_cut(answer, &mut case.random).await;
}

/// The last answer, without those in between.
async fn last(client: &mut Wire, to_head: bool) -> Result<Response, String> {
    loop {
        match client.try_response(to_head).await? {
            None => return Err("the end instead of an answer".into()),
            Some(response) if response.status >= 200 => return Ok(response),
            Some(_) => {}
        }
    }
}

/// It did not get all of it, and knows that.
fn is_cut(answer: Result<Response, String>) {
    match answer {
        Ok(response) => assert_eq!(response.status, 502, "{response:?}"),
        Err(fault) => assert!(fault.contains("instead of") || fault.contains("a reset"), "{fault}"),
    }
}

/// Whether a program takes what it got for a request with all of its body.
fn is_whole(seen: &str) -> bool {
    let Some((head, body)) = seen.split_once("\r\n\r\n") else { return false };
    match head.split_once("content-length: ") {
        Some((_, length)) => length.split("\r\n").next() == Some(&body.chars().count().to_string()),
        None => body.ends_with("0\r\n\r\n"),
    }
}

#[tokio::test]
async fn f1_f2_a_program_that_takes_no_connection() {
    each_seed("", |mut case| async move {
        let refused = ("nobody.localhost", (502, "connect-refused"));
        let unheard = ("full.localhost", (504, "connect-timeout"));
        for _ in 0..2 {
            let (host, error) = if case.random.once_in(2) { refused } else { unheard };
            assert_eq!(case.asks_in_vain(host).await.error(), error);
        }
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f3_a_program_that_never_answers() {
    each_seed("timeout = \"300ms\"", |mut case| async move {
        let (field, body) = framed(&bytes_of(case.random.below(3000)), &mut case.random);
        let mut connection = case.asks("POST /", &field, body).await;
        connection.request().await;
        assert_eq!(case.client.response().await.error(), (504, "upstream-timeout"));
        connection.end().await;
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f4_f6_a_fresh_connection_that_ends_before_an_answer() {
    each_seed("retries = 3", |mut case| async move {
        let mut connection = case.asks("GET /", "", "").await;
        if case.random.once_in(2) {
            connection.request().await;
        }
        connection.leave(&mut case.random).await;
        assert_eq!(case.client.response().await.error(), (502, "upstream-closed"));
        case.program.is_left_alone();
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f5_a_kept_connection_that_ends_before_an_answer_to_what_may_be_repeated() {
    each_seed("", |mut case| async move {
        let body = bytes_of(case.random.below(65_537));
        let field = format!("content-length: {}\r\n", body.len());
        let (line, field, body) = match case.random.below(3) {
            0 => ("GET /again", String::new(), Vec::new()),
            1 => ("DELETE /again", String::new(), Vec::new()),
            _ => ("PUT /again", field, body),
        };
        let mut kept = case.asks_again(line, &field, &body).await;
        if case.random.once_in(2) {
            kept.request().await;
        }
        kept.leave(&mut case.random).await;
        let mut fresh = case.program.connection().await;
        let request = fresh.request().await;
        assert_eq!(request.line(), format!("{line} HTTP/1.1"));
        assert!(request.body == body);
        fresh.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
        assert_eq!(case.client.response().await.text(), "ok");
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f5_a_kept_connection_that_ends_before_an_answer_to_what_may_not_be_repeated() {
    each_seed("retries = 3", |mut case| async move {
        let (field, body) = framed(&bytes_of(case.random.below(1000)), &mut case.random);
        let mut kept = case.asks_again("POST /once", &field, body).await;
        assert_eq!(kept.request().await.line(), "POST /once HTTP/1.1");
        kept.leave(&mut case.random).await;
        assert_eq!(case.client.response().await.error(), (502, "upstream-closed"));
        case.program.is_left_alone();
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f5_a_kept_connection_that_ends_while_a_post_is_on_its_way() {
    each_seed("", |mut case| async move {
        let mut kept = case.asks("GET /before", "", "").await;
        kept.answers(OK).await;
        assert_eq!(case.client.response().await.text(), "ok");
        let request = case.request("POST /once", "content-length: 4\r\n", "once");
        let mut other = Random(case.random.next());
        let (sent, ()) = tokio::join!(case.client.send_cut(request, &mut case.random), kept.leave(&mut other));
        sent.unwrap();
        // It came too late for the old connection, and is asked on a new one; or nobody knows what became of it.
        let asked_anew = async {
            let mut fresh = case.program.connection().await;
            assert_eq!(fresh.request().await.text(), "once");
            fresh.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok").await;
            fresh.end().await;
        };
        let response = {
            let mut response = pin!(case.client.response());
            tokio::select! {
                () = asked_anew => response.await,
                response = &mut response => response,
            }
        };
        assert!(response.text() == "ok" || response.error() == (502, "upstream-closed"), "{response:?}");
        case.program.is_left_alone();
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f8_a_crash_in_mid_head() {
    each_seed("", |mut case| async move {
        let head = "HTTP/1.1 200 OK\r\nserver: x\r\nset-cookie: a=1\r\ncontent-length: 2\r\n\r\n";
        let cut = case.random.between(1, head.len());
        let mut connection = case.asks("GET /", "", "").await;
        connection.request().await;
        says(&mut case, &mut connection, &head[..cut]).await;
        connection.leave(&mut case.random).await;
        assert_eq!(case.client.response().await.error(), (502, "upstream-closed"), "{:?}", &head[..cut]);
        case.program.is_left_alone();
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f9_f10_a_crash_in_mid_body() {
    each_seed("", |mut case| async move {
        let body = bytes_of(case.random.between(1, 200_000));
        let (field, content) = framed(&body, &mut case.random);
        let cut = case.random.below(content.len());
        let version = case.random.one_of(&["1.1", "1.0"]).to_owned();
        let request = format!("GET / HTTP/{version}\r\nhost: {}\r\n\r\n", case.host);
        case.client.send_cut(request, &mut case.random).await.unwrap();
        let mut connection = case.program.connection().await;
        connection.request().await;
        let answer = [format!("HTTP/1.1 200 OK\r\n{field}\r\n").as_bytes(), &content[..cut]].concat();
        let mut random = Random(case.random.next());
        let crash = async {
            let _ = connection.send_cut(answer, &mut random).await;
            connection.leave(&mut case.random).await;
        };
        let (answer, ()) = tokio::join!(last(&mut case.client, false), crash);
        is_cut(answer);
        case.others_go_on().await;
    })
    .await;
}

#[tokio::test]
async fn f11_a_body_that_ends_with_its_connection() {
    each_seed("", |mut case| async move {
        let body = bytes_of(case.random.between(1, 200_000));
        let mut connection = case.asks("GET /", "", "").await;
        connection.request().await;
        let answer = [b"HTTP/1.1 200 OK\r\n\r\n", body.as_slice()].concat();
        let resets = case.random.once_in(2);
        let ends = async {
            let _ = connection.send_cut(answer, &mut case.random).await;
            if resets { connection.reset() } else { connection.shut().await }
        };
        let (answer, ()) = tokio::join!(last(&mut case.client, false), ends);
        if resets {
            is_cut(answer);
            case.others_go_on().await;
        } else {
            let response = answer.unwrap();
            assert!(response.framing == Framing::Chunked && response.body == body);
            case.goes_on().await;
        }
    })
    .await;
}

#[tokio::test]
async fn f12_bytes_behind_an_answer() {
    each_seed("", |mut case| async move {
        let stale = case.random.one_of(&[
            "x",
            "\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nstale",
            "HTTP/1.1 103 Early Hints\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-le",
            "0\r\n\r\n",
        ]);
        let (line, answer, text) = match case.random.below(5) {
            0 => ("GET /", OK, "ok"),
            1 => ("GET /", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n", "ok"),
            2 => ("HEAD /", "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n", ""),
            3 => ("GET /", "HTTP/1.1 204 No Content\r\n\r\n", ""),
            _ => ("GET /", "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n", ""),
        };
        let mut connection = case.asks(line, "", "").await;
        connection.request().await;
        says(&mut case, &mut connection, format!("{answer}{stale}")).await;
        let response = last(&mut case.client, line == "HEAD /").await.unwrap();
        assert_eq!(response.text(), text);
        case.goes_on().await;
        connection.rest().await;
    })
    .await;
}

#[tokio::test]
async fn f13_a_reply_that_is_none() {
    each_seed("", |mut case| async move {
        let large = format!("HTTP/1.1 200 OK\r\nx-large: {}\r\n\r\n", "a".repeat(1_000_000));
        let many = format!("HTTP/1.1 200 OK\r\n{}\r\n", "x: y\r\n".repeat(500));
        let replies = [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ncontent-length: +2\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip\r\n\r\nok",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\r\n b\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\0\r\n\r\n",
            "HTTP/1.1 1000 OK\r\n\r\n",
            "<html>hello</html>\r\n\r\n",
            "\u{15}\u{3}\u{3}\0\u{2}\u{2}(",
            &large,
            &many,
        ];
        let reply = case.random.one_of(&replies).to_owned();
        let mut connection = case.asks("GET /", "", "").await;
        connection.request().await;
        says(&mut case, &mut connection, &reply).await;
        let shown = &reply[..reply.len().min(100)];
        assert_eq!(case.client.response().await.error(), (502, "bad-upstream-reply"), "{shown:?}");
        case.goes_on().await;
        connection.rest().await;
    })
    .await;
}

#[tokio::test]
async fn f13_lengths_that_are_equal_or_stand_beside_a_coding() {
    each_seed("", |mut case| async move {
        let (fields, body, framing) = match case.random.below(3) {
            0 => ("content-length: 2\r\nx: y\r\ncontent-length: 2\r\n", "ok", Framing::Length(2)),
            1 => ("content-length: 9\r\ntransfer-encoding: chunked\r\n", "2\r\nok\r\n0\r\n\r\n", Framing::Chunked),
            _ => ("transfer-encoding: chunked\r\ncontent-length: 1\r\n", "2\r\nok\r\n0\r\n\r\n", Framing::Chunked),
        };
        let mut connection = case.asks("GET /", "", "").await;
        connection.request().await;
        says(&mut case, &mut connection, format!("HTTP/1.1 200 OK\r\n{fields}\r\n{body}")).await;
        let response = case.client.response().await;
        assert_eq!((response.framing, response.text().as_str()), (framing, "ok"));
        drop(connection);
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f14_interim_answers_without_an_end() {
    each_seed("", |mut case| async move {
        let mut connection = case.asks("GET /", "", "").await;
        connection.request().await;
        let count = case.random.between(33, 10_000);
        let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n".repeat(count);
        let mut random = Random(case.random.next());
        let sends = async {
            let _ = connection.send_cut(hints, &mut random).await;
            connection.rest().await;
        };
        let reads = async {
            for _ in 0..32 {
                assert_eq!(case.client.head().await.status(), Ok(103));
            }
            assert_eq!(case.client.response().await.error(), (502, "bad-upstream-reply"));
        };
        tokio::join!(sends, reads);
        case.others_go_on().await;
    })
    .await;
}

#[tokio::test]
async fn f15_a_body_that_waits_to_be_wanted() {
    each_seed("", |mut case| async move {
        let body = bytes_of(case.random.between(1, 100_000));
        let (field, content) = framed(&body, &mut case.random);
        let mut connection = case.asks("POST /", &format!("expect: 100-continue\r\n{field}"), "").await;
        assert_eq!(connection.head().await.field("expect"), Some("100-continue"));
        match case.random.below(3) {
            0 => {
                says(&mut case, &mut connection, "HTTP/1.1 417 No\r\ncontent-length: 2\r\n\r\nno").await;
                assert_eq!(case.client.response().await.status, 417);
                connection.end().await;
                assert_eq!(case.client.end().await, End::Closed);
                case.others_go_on().await;
                return;
            }
            1 => says(&mut case, &mut connection, "HTTP/1.1 100 Continue\r\n\r\n").await,
            // It says nothing.
            _ => {}
        }
        assert_eq!(case.client.head().await.status(), Ok(100));
        let mut random = Random(case.random.next());
        let uploads = case.client.send_cut(&content, &mut random);
        let reads = async {
            if field.starts_with("content-length") {
                assert!(connection.bytes(body.len()).await == body);
                return;
            }
            let mut seen = Vec::new();
            while let Some(chunk) = connection.chunk().await {
                seen.extend(chunk);
            }
            assert!(seen == body);
            assert_eq!(connection.bytes(2).await, b"\r\n");
        };
        let (sent, ()) = tokio::join!(uploads, reads);
        sent.unwrap();
        says(&mut case, &mut connection, OK).await;
        assert_eq!(case.client.response().await.text(), "ok");
        drop(connection);
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f16_an_answer_that_does_not_wait_for_the_body() {
    each_seed("", |mut case| async move {
        let body = bytes_of(case.random.between(100_000, 900_000));
        let (field, content) = framed(&body, &mut case.random);
        let request = case.request("POST /", &field, content);
        let mut random = Random(case.random.next());
        let read = case.random.below(100_000);
        let told = case.random.one_of(&["", "connection: close\r\n"]).to_owned();
        let stays = case.random.once_in(2);
        let answers = async {
            let mut connection = case.program.connection().await;
            connection.head().await;
            connection.bytes(read).await;
            connection.send(format!("HTTP/1.1 413 No\r\n{told}content-length: 2\r\n\r\nno")).await;
            if stays {
                connection.rest().await;
            } else {
                connection.shut().await;
            }
        };
        let asks = async {
            let sent = case.client.send_cut(request, &mut random).await;
            let response = case.client.response().await;
            assert_eq!((response.status, response.text().as_str()), (413, "no"), "{sent:?}");
            case.client.try_shut().await;
        };
        tokio::join!(answers, asks);
        case.others_go_on().await;
    })
    .await;
}

#[tokio::test]
async fn f17_hints_trailers_and_answers_without_a_body() {
    each_seed("", |mut case| async move {
        let hints = case.random.below(5);
        let (line, answer, trailers) = match case.random.below(4) {
            0 => ("GET /", "HTTP/1.1 204 No Content\r\ncontent-length: 2\r\n\r\n".to_owned(), ""),
            1 => ("GET /", "HTTP/1.1 304 Not Modified\r\ncontent-length: 2\r\n\r\n".into(), ""),
            2 => ("HEAD /", "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n".into(), ""),
            _ => {
                let trailers = "x-sum: 1\r\nx-sum: 2\r\n";
                let content = chunked(b"ok", 1, &format!("{trailers}content-length: 9\r\n"));
                let content = String::from_utf8(content).unwrap();
                (
                    "GET /",
                    format!("HTTP/1.1 200 OK\r\ntrailer: x-sum\r\ntransfer-encoding: chunked\r\n\r\n{content}"),
                    trailers,
                )
            }
        };
        let mut connection = case.asks(line, TRAILERS, "").await;
        connection.request().await;
        let interim: String = (0..hints).map(|n| format!("HTTP/1.1 103 Early Hints\r\nlink: </{n}>\r\n\r\n")).collect();
        says(&mut case, &mut connection, interim + &answer).await;
        for number in 0..hints {
            assert_eq!(case.client.head().await.field("link"), Some(format!("</{number}>").as_str()));
        }
        let response = last(&mut case.client, line == "HEAD /").await.unwrap();
        assert_eq!(response.trailers, trailers);
        assert_eq!(response.text(), if trailers.is_empty() { "" } else { "ok" });
        drop(connection);
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f18_an_upgrade_that_is_refused_or_goes_wrong() {
    each_seed("", |mut case| async move {
        let asked = "connection: upgrade\r\nupgrade: echo\r\n";
        let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\n";
        let plain = case.random.once_in(3);
        let (answer, error) = match case.random.below(4) {
            0 => ("HTTP/1.1 426 Upgrade Required\r\ncontent-length: 0\r\n\r\n".to_owned(), (426, "not ours")),
            1 => {
                ("HTTP/1.1 401 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\nno\r\n0\r\n\r\n".into(), (401, "not ours"))
            }
            2 => (format!("{switch}upgrade: other\r\n\r\nstray"), (502, "bad-upstream-reply")),
            _ => (format!("{switch}\r\nstray"), (502, "bad-upstream-reply")),
        };
        let mut connection = case.asks("GET /", if plain { "" } else { asked }, "").await;
        connection.head().await;
        says(&mut case, &mut connection, answer).await;
        assert_eq!(case.client.response().await.error(), error);
        drop(connection);
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f18_s50_an_upgrade_that_is_agreed_to() {
    each_seed("", |mut case| async move {
        let (early, answered) = (bytes_of(case.random.below(100_000)), bytes_of(case.random.below(100_000)));
        let request = case.request("GET /", "connection: upgrade\r\nupgrade: echo\r\n", &early);
        let switch = b"HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
        let answer = [switch.as_slice(), &answered].concat();
        let (mut up, mut down) = (Random(case.random.next()), Random(case.random.next()));
        let mut asking = case.client.twin();
        let answers = async {
            let mut connection = case.program.connection().await;
            connection.head().await;
            let mut switching = connection.twin();
            let (sent, seen) = tokio::join!(switching.send_cut(answer, &mut down), connection.bytes(early.len()));
            sent.unwrap();
            assert!(seen == early);
            connection
        };
        let reads = async {
            assert_eq!(case.client.head().await.status(), Ok(101));
            assert!(case.client.bytes(answered.len()).await == answered);
        };
        let (sent, connection, ()) = tokio::join!(asking.send_cut(request, &mut up), answers, reads);
        sent.unwrap();
        connection.leave(&mut case.random).await;
        case.client.rest().await;
        case.others_go_on().await;
    })
    .await;
}

#[tokio::test]
async fn f23_a_client_that_leaves_in_mid_head_or_between_two_requests() {
    each_seed("", |mut case| async move {
        if case.random.once_in(2) {
            case.goes_on().await;
        }
        let head = case.request("GET /", "x: y\r\n", "");
        let cut = case.random.below(head.len());
        case.client.send_cut(&head[..cut], &mut case.random).await.unwrap();
        case.client_leaves().await;
        // Nothing but its descriptor could tell that it is still waited for: they are counted.
        case.program.is_left_alone();
        case.goes_on().await;
    })
    .await;
}

#[tokio::test]
async fn f23_a_client_that_leaves_in_mid_upload() {
    each_seed("", |mut case| async move {
        let body = bytes_of(case.random.between(1, 200_000));
        let (field, content) = framed(&body, &mut case.random);
        let cut = case.random.below(content.len());
        let request = case.request("POST /", &field, &content[..cut]);
        let _ = case.client.send_cut(request, &mut case.random).await;
        case.client.try_shut().await;
        let seen = case.others_go_on().await;
        assert!(!seen.iter().any(|seen| is_whole(seen)), "cut at {cut}: {seen:?}");
    })
    .await;
}

#[tokio::test]
async fn s14_s15_an_upload_that_is_malformed() {
    each_seed("", |mut case| async move {
        let broken: &'static str = case.random.one_of(&[
            "g\r\n",
            "-1\r\n",
            "3\nabc\r\n0\r\n\r\n",
            "3\r\nabcd\r\n0\r\n\r\n",
            "3\r\nabc\n0\r\n\r\n",
            "3;\ra\r\nabc\r\n0\r\n\r\n",
            "ffffffffffffffffff\r\n",
            "0\r\nx : y\r\n\r\n",
            "0\r\nx: y\n\r\n",
            "0\r\n x: y\r\n\r\n",
        ]);
        let good = chunked(&bytes_of(case.random.below(3000)), 1000, "");
        let good = good.strip_suffix(b"0\r\n\r\n").unwrap();
        let upload = [good, broken.as_bytes()].concat();
        let request = case.request("POST /", "transfer-encoding: chunked\r\n", upload);
        // It may be refused before it is sent to its end.
        let _ = case.client.send_cut(request, &mut case.random).await;
        let (answer, _) = case.client.rest().await;
        assert!(answer.is_empty() || answer.starts_with(b"HTTP/1.1 400 "), "{:?}", String::from_utf8_lossy(&answer));
        let seen = case.others_go_on().await;
        assert!(!seen.iter().any(|seen| is_whole(seen)), "{broken:?} became {seen:?}");
    })
    .await;
}

#[tokio::test]
async fn s18_whatever_is_valid_arrives_as_it_was_sent_however_it_is_cut() {
    each_seed("", |mut case| async move {
        let count = case.random.between(1, 9);
        let mut requests = Vec::new();
        let mut exchanges = Vec::new();
        for number in 0..count {
            let (body, text) = (bytes_of(case.random.below(5000)), bytes_of(case.random.below(5000)));
            let (field, content) = framed(&body, &mut case.random);
            requests.extend(case.request(&format!("POST /{number}"), &field, content));
            let (field, content) = framed(&text, &mut case.random);
            let interim = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(case.random.below(3));
            let answer = [format!("{interim}HTTP/1.1 200 OK\r\n{field}\r\n").as_bytes(), &content].concat();
            exchanges.push((body, answer, text));
        }
        let (mut up, mut down) = (Random(case.random.next()), Random(case.random.next()));
        let mut asking = case.client.twin();
        let answers = async {
            let mut connection = case.program.connection().await;
            for (number, (body, answer, _)) in exchanges.iter().enumerate() {
                let request = connection.request().await;
                assert_eq!(request.line(), format!("POST /{number} HTTP/1.1"));
                assert!(request.body == *body, "the body of {number}");
                connection.send_cut(answer, &mut down).await.unwrap();
            }
            connection
        };
        let reads = async {
            for (number, (_, _, text)) in exchanges.iter().enumerate() {
                let response = last(&mut case.client, false).await.unwrap();
                assert!(response.body == *text, "the answer to {number}");
            }
        };
        let (sent, connection, ()) = tokio::join!(asking.send_cut(requests, &mut up), answers, reads);
        sent.unwrap();
        drop(connection);
        case.goes_on().await;
    })
    .await;
}

/// Alone in a process, where nothing else opens or closes any.
#[cfg(target_os = "linux")]
#[test]
fn no_fault_leaves_a_descriptor_behind() {
    let mut tests = std::process::Command::new(std::env::current_exe().unwrap());
    tests.args(["matrix::", "--test-threads=1", "--skip", "no_fault_leaves"]).env(ALONE, "1");
    let ended = tests.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{out}\n{err}");
    assert!(!out.contains("running 0 tests"), "{out}");
}
