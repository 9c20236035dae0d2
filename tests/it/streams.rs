//! Bodies larger than every buffer between them: a side that does not read stops the other, and every byte arrives.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use tokio::time::sleep;

use crate::harness::{End, GET, OK, Proxy, Wire, bytes_of, get, through};

/// The size of what is written at once.
const BLOCK: usize = 64 * 1024;

/// More than all buffers of the kernel hold.
const LARGE: usize = 800 * BLOCK;

/// How a body is framed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Framed {
    Length,
    Chunks,
    Close,
}

impl Framed {
    fn field(self) -> String {
        match self {
            Self::Length => format!("content-length: {LARGE}\r\n"),
            Self::Chunks => "transfer-encoding: chunked\r\n".into(),
            Self::Close => String::new(),
        }
    }
}

/// Bytes that tell where they belong.
struct Pattern(Vec<u8>);

impl Pattern {
    fn new() -> Self {
        Self(bytes_of(BLOCK + 251))
    }

    /// What stands there.
    fn at(&self, position: usize, length: usize) -> &[u8] {
        &self.0[position % 251..][..length]
    }
}

/// Sends a body; `sent` counts it.
async fn send_body(wire: &mut Wire, framed: Framed, sent: &AtomicUsize) {
    let pattern = Pattern::new();
    for at in (0..LARGE).step_by(BLOCK) {
        let block = pattern.at(at, BLOCK);
        match framed {
            Framed::Chunks => wire.send([format!("{BLOCK:x}\r\n").as_bytes(), block, b"\r\n"].concat()).await,
            Framed::Length | Framed::Close => wire.send(block).await,
        }
        sent.fetch_add(BLOCK, Relaxed);
    }
    match framed {
        Framed::Chunks => wire.send("0\r\n\r\n").await,
        Framed::Close => wire.shut().await,
        Framed::Length => {}
    }
}

/// Reads a body, every byte of which must be what it should be there.
async fn read_body(wire: &mut Wire, framed: Framed) {
    let pattern = Pattern::new();
    let mut position = 0;
    while position < LARGE {
        let bytes = match framed {
            Framed::Length => wire.bytes(BLOCK.min(LARGE - position)).await,
            // One that ends with its connection comes in chunks, too.
            Framed::Chunks | Framed::Close => wire.chunk().await.expect("more of the body"),
        };
        for piece in bytes.chunks(BLOCK) {
            assert!(piece == pattern.at(position, piece.len()), "near byte {position}");
            position += piece.len();
        }
    }
    assert_eq!(position, LARGE);
    if framed != Framed::Length {
        assert_eq!(wire.chunk().await, None);
        assert_eq!(wire.bytes(2).await, b"\r\n");
    }
}

/// Returns when nothing more can be sent, which is well before the end.
async fn is_stopped(sent: &AtomicUsize) {
    let mut before = 0;
    loop {
        // Nobody tells that nothing happens.
        sleep(Duration::from_millis(300)).await;
        let now = sent.load(Relaxed);
        if now > 0 && now == before {
            break;
        }
        before = now;
    }
    assert!(before < LARGE, "somebody holds {before} bytes");
}

#[tokio::test]
async fn f21_a_client_that_reads_nothing_for_a_while_stops_the_program_and_gets_every_byte() {
    for framed in [Framed::Length, Framed::Chunks, Framed::Close] {
        let (mut client, program, _proxy) = through("").await;
        client.send(GET).await;
        let mut connection = program.connection().await;
        connection.answers(format!("HTTP/1.1 200 OK\r\n{}\r\n", framed.field())).await;
        let sent = AtomicUsize::new(0);
        let reads = async {
            is_stopped(&sent).await;
            client.head().await;
            read_body(&mut client, framed).await;
        };
        tokio::join!(send_body(&mut connection, framed, &sent), reads);
        client.send(GET).await;
        let mut next = if framed == Framed::Close { program.connection().await } else { connection };
        next.answers(OK).await;
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn f21_a_program_that_reads_nothing_for_a_while_stops_the_client_and_gets_every_byte() {
    for framed in [Framed::Length, Framed::Chunks] {
        let (mut client, program, _proxy) = through("").await;
        client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", framed.field())).await;
        let mut connection = program.connection().await;
        connection.head().await;
        let sent = AtomicUsize::new(0);
        let reads = async {
            is_stopped(&sent).await;
            read_body(&mut connection, framed).await;
            connection.send(OK).await;
        };
        tokio::join!(send_body(&mut client, framed, &sent), reads);
        assert_eq!(client.response().await.text(), "ok");
        client.send(GET).await;
        connection.answers(OK).await;
        assert_eq!(client.response().await.text(), "ok");
    }
}

#[tokio::test]
async fn s47_an_upload_and_a_download_run_on_one_exchange_at_the_same_time() {
    for (up, down) in
        [(Framed::Length, Framed::Chunks), (Framed::Chunks, Framed::Length), (Framed::Chunks, Framed::Close)]
    {
        let (mut client, program, _proxy) = through("").await;
        client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", up.field())).await;
        let mut connection = program.connection().await;
        connection.head().await;
        connection.send(format!("HTTP/1.1 200 OK\r\n{}\r\n", down.field())).await;
        let (mut uploading, mut downloading) = (client.twin(), connection.twin());
        let (sent, sent_back) = (AtomicUsize::new(0), AtomicUsize::new(0));
        client.head().await;
        tokio::join!(
            send_body(&mut uploading, up, &sent),
            read_body(&mut connection, up),
            send_body(&mut downloading, down, &sent_back),
            read_body(&mut client, down),
        );
    }
}

#[tokio::test]
async fn s47_a_program_may_send_back_each_piece_while_the_next_one_is_uploaded() {
    const ALL: usize = 20_000_000;
    let (mut client, program, _proxy) = through("").await;
    client.send(format!("POST / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {ALL}\r\n\r\n")).await;
    let mut connection = program.connection().await;
    connection.head().await;
    connection.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {ALL}\r\n\r\n")).await;
    client.head().await;
    let pattern = Pattern::new();
    let mut uploading = client.twin();
    let uploads = async {
        for at in (0..ALL).step_by(BLOCK) {
            uploading.send(pattern.at(at, BLOCK.min(ALL - at))).await;
        }
    };
    let echoes = async {
        let mut count = 0;
        while count < ALL {
            let piece = connection.some().await.expect("more of the upload");
            count += piece.len();
            connection.send(piece).await;
        }
    };
    let downloads = async {
        for at in (0..ALL).step_by(BLOCK) {
            let wanted = pattern.at(at, BLOCK.min(ALL - at));
            assert!(client.bytes(wanted.len()).await == wanted, "near byte {at}");
        }
    };
    tokio::join!(uploads, echoes, downloads);
    client.send(GET).await;
    program.next_connection(connection).await.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

/// How much is sent before the other side has agreed to a tunnel.
const EARLY: usize = 1024 * 1024;

/// A client and a program that both send a lot in one write with their heads.
async fn tunnel_with_early_bytes() -> (Wire, Wire, Proxy) {
    let (mut client, program, proxy) = through("").await;
    let request = get("/", &["connection: upgrade", "upgrade: echo"]);
    let switch = "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
    let mut asking = client.twin();
    let asks = asking.send([request.as_bytes(), &bytes_of(EARLY)].concat());
    let answers = async {
        let mut connection = program.connection().await;
        connection.head().await;
        let mut switching = connection.twin();
        let switches = switching.send([switch.as_bytes(), &bytes_of(EARLY)].concat());
        let ((), early) = tokio::join!(switches, connection.bytes(EARLY));
        assert!(early == bytes_of(EARLY), "of the client");
        connection
    };
    let reads = async {
        assert_eq!(client.head().await.status(), Ok(101));
        assert!(client.bytes(EARLY).await == bytes_of(EARLY), "of the program");
    };
    let ((), connection, ()) = tokio::join!(asks, answers, reads);
    (client, connection, proxy)
}

#[tokio::test]
async fn s50_any_number_of_early_bytes_arrive_on_both_sides_of_an_upgrade() {
    let (mut client, mut connection, _proxy) = tunnel_with_early_bytes().await;
    client.send("later").await;
    assert_eq!(connection.bytes(5).await, b"later");
    connection.send("and back").await;
    connection.shut().await;
    assert_eq!(client.rest().await, (b"and back".to_vec(), End::Closed));
    client.shut().await;
    assert_eq!(connection.end().await, End::Closed);
}
