//! A client that leaves takes its request with it, whatever it was waiting for: the program hears of it at once (F23).

use std::time::{Duration, Instant};

use crate::harness::{End, GET, OK, Program, Proxy, Wire, get, post, through};
#[cfg(target_os = "linux")]
use crate::harness::{Full, proxy, sockets::dialling, until};

/// The promise is 200 ms; a machine on which other tests run may be slower. No limit of the proxy is as short as this.
const SOON: Duration = Duration::from_secs(1);

/// How a client leaves.
#[derive(Debug, Clone, Copy)]
enum Leaving {
    /// It says that it will send nothing more, and keeps its socket: nothing but the FIN tells.
    Fin,
    /// It breaks off.
    Rst,
}

const WAYS: [Leaving; 2] = [Leaving::Fin, Leaving::Rst];

impl Leaving {
    /// The client leaves; what is returned holds its socket open where it has one.
    async fn begin(self, mut client: Wire) -> Option<Wire> {
        match self {
            Self::Fin => {
                client.shut().await;
                Some(client)
            }
            Self::Rst => {
                client.reset();
                None
            }
        }
    }

    /// The client leaves, and the program's connection ends soon. Returns what the program could still read of it.
    async fn ends(self, client: Wire, connection: &mut Wire) -> Vec<u8> {
        let began = Instant::now();
        let left = self.begin(client).await;
        let (bytes, _) = connection.rest().await;
        let taken = began.elapsed();
        assert!(taken < SOON, "{self:?} was told after {taken:?}");
        drop(left);
        bytes
    }
}

/// Another client's request is answered, and the one that was left is not sent again.
async fn goes_on(proxy: &Proxy, program: &Program) {
    program.is_left_alone();
    let mut client = proxy.connect().await;
    client.send(get("/next", &[])).await;
    let request = program.connection().await.answers(OK).await;
    assert_eq!(request.line(), "GET /next HTTP/1.1");
    assert_eq!(client.response().await.text(), "ok");
}

/// The client leaves once its program has read the first request of `sent`, and has said nothing.
async fn leaves_behind(sent: &str) {
    for how in WAYS {
        let (mut client, program, proxy) = through("").await;
        client.send(sent).await;
        let mut connection = program.connection().await;
        connection.request().await;
        assert_eq!(how.ends(client, &mut connection).await, b"", "{sent:?}");
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_while_the_first_byte_of_an_answer_is_awaited() {
    leaves_behind(GET).await;
    leaves_behind("HEAD / HTTP/1.1\r\nhost: localhost\r\n\r\n").await;
    leaves_behind("GET / HTTP/1.0\r\nhost: localhost\r\n\r\n").await;
}

#[tokio::test]
async fn f23_while_an_answer_to_a_body_is_awaited() {
    leaves_behind(&post("/", "a body")).await;
    leaves_behind(&post("/", &"b".repeat(100_000))).await;
    let chunked = "POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n0\r\n\r\n";
    leaves_behind(chunked).await;
}

#[tokio::test]
async fn f23_while_pipelined_requests_wait_behind_its_own() {
    leaves_behind(&GET.repeat(2)).await;
    leaves_behind(&GET.repeat(100)).await;
    leaves_behind(&(GET.to_owned() + "GET /half HTTP/1.1\r\nho")).await;
    leaves_behind(&(GET.to_owned() + &post("/", &"b".repeat(32 * 1024)))).await;
    leaves_behind(&(post("/", "a body") + GET)).await;
}

#[tokio::test]
async fn f23_while_the_program_sends_only_a_part_of_a_head() {
    for how in WAYS {
        let (mut client, program, proxy) = through("").await;
        client.send(GET.repeat(2)).await;
        let mut connection = program.connection().await;
        connection.answers("HTTP/1.1 200 OK\r\ncontent-le").await;
        how.ends(client, &mut connection).await;
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_between_interim_answers_and_the_last_one() {
    for how in WAYS {
        let (mut client, program, proxy) = through("").await;
        client.send(GET.repeat(2)).await;
        let mut connection = program.connection().await;
        connection.answers("HTTP/1.1 103 Early Hints\r\nlink: </a.css>\r\n\r\n").await;
        assert_eq!(client.head().await.status(), Ok(103));
        how.ends(client, &mut connection).await;
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_while_a_change_of_protocol_is_awaited() {
    for (how, early) in WAYS.into_iter().flat_map(|how| [(how, ""), (how, "early bytes")]) {
        let (mut client, program, proxy) = through("").await;
        client.send(get("/", &["connection: upgrade", "upgrade: echo"]) + early).await;
        let mut connection = program.connection().await;
        connection.head().await;
        assert_eq!(how.ends(client, &mut connection).await, b"", "{early:?}");
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_while_its_body_waits_for_the_program_to_want_it() {
    let expects = "POST / HTTP/1.1\r\nhost: localhost\r\nexpect: 100-continue\r\ncontent-length: 32768\r\n\r\n";
    for (how, length) in WAYS.into_iter().flat_map(|how| [(how, 0), (how, 5), (how, 32_768)]) {
        let (mut client, program, proxy) = through("").await;
        client.send(expects.to_owned() + &"b".repeat(length)).await;
        let mut connection = program.connection().await;
        connection.head().await;
        let seen = how.ends(client, &mut connection).await;
        assert!(seen.len() <= length, "{} bytes of {length}", seen.len());
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_in_mid_upload_and_the_body_never_looks_whole() {
    let framings = [("content-length: 100", "part"), ("transfer-encoding: chunked", "4\r\npart\r\n")];
    for (how, (framing, part)) in WAYS.into_iter().flat_map(|how| framings.map(|framing| (how, framing))) {
        let (mut client, program, proxy) = through("").await;
        client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{framing}\r\n\r\n{part}")).await;
        let mut connection = program.connection().await;
        connection.head().await;
        assert_eq!(connection.until(part).await, part);
        assert_eq!(how.ends(client, &mut connection).await, b"", "{framing}");
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_in_mid_chunk_and_the_body_never_looks_whole() {
    for part in
        ["4\r\npart\r\n1", "4\r\npart\r\n1\r", "4\r\npart\r\n9\r\npart", "4\r\npart\r\n0\r\n", "4\r\npart\r\n0\r\nx"]
    {
        for how in WAYS {
            let (mut client, program, proxy) = through("").await;
            client
                .send(format!("POST / HTTP/1.1\r\nhost: localhost\r\ntransfer-encoding: chunked\r\n\r\n{part}"))
                .await;
            let mut connection = program.connection().await;
            connection.head().await;
            connection.until("part").await;
            let rest = how.ends(client, &mut connection).await;
            assert!(!rest.ends_with(b"0\r\n\r\n"), "{part:?} became {:?}", String::from_utf8_lossy(&rest));
            goes_on(&proxy, &program).await;
        }
    }
}

#[tokio::test]
async fn f23_while_a_small_body_is_not_whole_yet() {
    for how in WAYS {
        let (mut client, program, proxy) = through("").await;
        client.send("PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 10\r\n\r\npart").await;
        // A body that may be sent twice can be held back until it is whole: then nobody hears of it.
        let left = how.begin(client).await;
        if let Some(mut left) = left {
            left.rest().await;
        }
        let mut other = proxy.connect().await;
        other.send(get("/next", &[])).await;
        let (mut connection, before) = program.connection_asking("GET /next HTTP/1.1").await;
        assert!(before.iter().all(|seen| seen.ends_with("\r\n\r\n") || seen.ends_with("\r\n\r\npart")), "{before:?}");
        connection.send(OK).await;
        assert_eq!(other.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn f23_while_the_program_reads_nothing_of_a_large_body() {
    let (mut client, program, proxy) = through("").await;
    client.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\n").await;
    let mut connection = program.connection().await;
    connection.head().await;
    client.fill().await;
    // A FIN would have to wait behind the bytes that nobody takes.
    Leaving::Rst.ends(client, &mut connection).await;
    goes_on(&proxy, &program).await;
}

#[tokio::test]
async fn f23_while_its_large_upload_goes_on_behind_an_early_answer() {
    for how in WAYS {
        let (mut client, program, proxy) = through("").await;
        client.send("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: 1000000000\r\n\r\nfirst").await;
        let mut connection = program.connection().await;
        connection.head().await;
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nearly").await;
        client.until("early").await;
        how.ends(client, &mut connection).await;
        goes_on(&proxy, &program).await;
    }
}

/// Heads of answers of every framing, and the beginning of a body.
const BEGUN: [(&str, &str); 3] = [
    ("HTTP/1.1 200 OK\r\ncontent-length: 1000000000\r\n\r\n", "begun"),
    ("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n", "5\r\nbegun\r\n"),
    ("HTTP/1.1 200 OK\r\n\r\n", "begun"),
];

/// The same with requests that wait behind it, and without.
fn downloads() -> impl Iterator<Item = (Leaving, usize, (&'static str, &'static str))> {
    let cases = |how| BEGUN.into_iter().flat_map(move |begun| [(how, 1, begun), (how, 3, begun)]);
    WAYS.into_iter().flat_map(cases)
}

#[tokio::test]
async fn f23_in_mid_download_while_it_has_read_all_that_came() {
    for (how, requests, (head, part)) in downloads() {
        let (mut client, program, proxy) = through("").await;
        client.send(GET.repeat(requests)).await;
        let mut connection = program.connection().await;
        connection.answers(format!("{head}{part}")).await;
        client.until("begun").await;
        how.ends(client, &mut connection).await;
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_in_mid_download_while_it_reads_nothing() {
    for (how, requests, (head, _)) in downloads() {
        let (mut client, program, proxy) = through("").await;
        client.send(GET.repeat(requests)).await;
        let mut connection = program.connection().await;
        connection.answers(head).await;
        if head.contains("chunked") {
            connection.send("3b9aca00\r\n").await;
        }
        connection.fill().await;
        how.ends(client, &mut connection).await;
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_in_mid_download_while_both_sides_are_busy() {
    for (how, requests, (head, _)) in downloads() {
        let (mut client, program, proxy) = through("").await;
        client.send(GET.repeat(requests)).await;
        let mut connection = program.connection().await;
        connection.answers(head).await;
        if head.contains("chunked") {
            connection.send("3b9aca00\r\n").await;
        }
        let mut sending = connection.twin();
        let block = "b".repeat(64 * 1024);
        let sends = async { while sending.try_send(&block).await.is_ok() {} };
        let leaves = async {
            client.bytes(1_000_000).await;
            how.ends(client, &mut connection).await;
        };
        tokio::join!(sends, leaves);
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_while_the_next_event_is_awaited() {
    for how in WAYS {
        let (mut client, program, proxy) = through("").await;
        client.send(get("/events", &["accept: text/event-stream"])).await;
        let mut connection = program.connection().await;
        let head = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n";
        connection.answers(head).await;
        for _ in 0..3 {
            connection.send("9\r\ndata: 0\n\n\r\n").await;
            client.until("data: 0\n\n\r\n").await;
        }
        how.ends(client, &mut connection).await;
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_while_its_own_head_is_read() {
    for part in ["", "G", "GET / HTTP/1.1", "GET / HTTP/1.1\r\nhost: localhost\r\nx: y\r\n\r"] {
        let (mut client, program, proxy) = through("").await;
        client.send(part).await;
        let began = Instant::now();
        client.shut().await;
        assert_eq!(client.end().await, End::Closed, "{part:?}");
        assert!(began.elapsed() < SOON, "{part:?}: {:?}", began.elapsed());
        goes_on(&proxy, &program).await;
    }
}

#[tokio::test]
async fn f23_between_two_requests() {
    let (mut client, program, proxy) = through("").await;
    client.send(GET).await;
    program.connection().await.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    let began = Instant::now();
    client.shut().await;
    assert_eq!(client.end().await, End::Closed);
    assert!(began.elapsed() < SOON, "{:?}", began.elapsed());
    goes_on(&proxy, &program).await;
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn f23_f2_while_a_connection_to_the_program_is_tried() {
    let full = Full::new();
    let address = full.address;
    let proxy = proxy(&format!("[routes]\napp = {{ path = \"/\", to = \"{address}\", connect_timeout = \"1h\" }}"));
    for (how, requests) in WAYS.into_iter().flat_map(|how| [(how, 1), (how, 3)]) {
        let mut client = proxy.connect().await;
        client.send(GET.repeat(requests)).await;
        until("the attempt to begin", || dialling(address.port()) == 1).await;
        let began = Instant::now();
        let _left = how.begin(client).await;
        // It takes the kernel a while to tell: what counts is when it was asked.
        let mut lasted = Duration::ZERO;
        let is_given_up = || {
            let asked = began.elapsed();
            let is_given_up = dialling(address.port()) == 0;
            lasted = if is_given_up { lasted } else { asked };
            is_given_up
        };
        until("the attempt to be given up", is_given_up).await;
        assert!(lasted < SOON, "{how:?} with {requests} requests: {lasted:?}");
    }
}
