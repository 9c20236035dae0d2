//! A client and a program that err on purpose: raw bytes, cut into writes and put in order by a seed, so that a failure
//! can be had again.
//!
//! The seeds of a test run at the same time through one proxy, each with a route and a program of its own. Whatever a case
//! did, its next request must work, and no descriptor may be left behind. Other tests of this process open and close
//! descriptors, too: they are counted where the tests run [`is_alone`].

use std::{
    fs, io,
    ops::Range,
    sync::{Arc, LazyLock},
    time::Duration,
};

use tokio::{task::JoinSet, time::sleep};

use super::{Full, Nobody, OK, Program, Proxy, Random, Response, Wire, program, proxy, until};

/// How many seeds run at the same time.
const TOGETHER: u64 = 20;

/// The most pieces into which bytes are cut.
const MOST_PIECES: usize = 200;

/// How many descriptors more there may be than there were.
const DESCRIPTORS: usize = 2;

/// Where nothing listens.
static NOBODY: LazyLock<Nobody> = LazyLock::new(Nobody::new);

/// Whose queue is full; one for all tests, as it takes a while to fill it.
static FULL: LazyLock<Full> = LazyLock::new(Full::new);

/// Whether the long form of the tests was asked for.
pub(crate) fn is_full() -> bool {
    match std::env::var("PORTOLAN_ACCEPTANCE") {
        Ok(form) => {
            assert_eq!(form, "full", "PORTOLAN_ACCEPTANCE is `full` or not set");
            true
        }
        Err(_) => false,
    }
}

/// The variable that says that nothing else runs in this process.
pub(crate) const ALONE: &str = "PORTOLAN_TEST_ALONE";

/// Whether nothing else runs in this process.
pub(crate) fn is_alone() -> bool {
    std::env::var_os(ALONE).is_some()
}

/// One seed of a test: a client, a program, and the proxy between them.
pub(crate) struct Case {
    pub(crate) random: Random,
    /// The host whose route leads to the program.
    pub(crate) host: String,
    pub(crate) client: Wire,
    pub(crate) program: Arc<Program>,
    proxy: Arc<Proxy>,
}

/// Runs a test with many seeds; `keys` are more lines of its routes.
pub(crate) async fn each_seed<F>(keys: &str, test: impl Fn(Case) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let count = if is_full() { 50 * TOGETHER } else { TOGETHER };
    for first in (0..count).step_by(TOGETHER as usize) {
        together(keys, first..first + TOGETHER, &test).await;
    }
}

async fn together<F>(keys: &str, seeds: Range<u64>, test: &impl Fn(Case) -> F)
where
    F: Future<Output = ()> + Send + 'static,
{
    let programs: Vec<_> = seeds.clone().map(|_| Arc::new(program())).collect();
    let routes = seeds.clone().zip(&programs).map(|(seed, program)| {
        format!("[routes.s{seed}]\nhost = \"s{seed}.localhost\"\nto = {}\n{keys}\n", program.port())
    });
    let table = format!(
        "{}[routes]\nnobody = {}\nfull = {{ host = \"full.localhost\", to = \"{}\", connect_timeout = \"300ms\" }}",
        routes.collect::<String>(),
        NOBODY.port,
        FULL.address
    );
    let proxy = Arc::new(proxy(&table));
    let before = descriptors();
    let mut running = JoinSet::new();
    let mut names = Vec::new();
    for (seed, program) in seeds.zip(&programs) {
        let client = proxy.connect().await;
        let host = format!("s{seed}.localhost");
        let (program, proxy) = (Arc::clone(program), Arc::clone(&proxy));
        let case = Case { random: Random(seed), host, client, program, proxy };
        names.push((running.spawn(test(case)).id(), seed));
    }
    while let Some(ended) = running.join_next().await {
        if let Err(error) = ended {
            let seed = names.iter().find(|(id, _)| *id == error.id()).map(|(_, seed)| seed);
            panic!("seed {}: {error}", seed.unwrap());
        }
    }
    if is_alone() {
        // There may be fewer: the proxy of the test before was still closing its own when they were counted.
        until("all descriptors to be closed", || descriptors() <= before + DESCRIPTORS).await;
    }
}

/// How many descriptors this process has.
fn descriptors() -> usize {
    fs::read_dir("/proc/self/fd").map_or(DESCRIPTORS, Iterator::count)
}

impl Case {
    /// A request with further field lines, each with its CRLF, and what follows its head.
    pub(crate) fn request(&self, line: &str, fields: &str, body: impl AsRef<[u8]>) -> Vec<u8> {
        let head = format!("{line} HTTP/1.1\r\nhost: {}\r\n{fields}\r\n", self.host);
        [head.as_bytes(), body.as_ref()].concat()
    }

    /// Asks a host that is not the case's own: `nobody.localhost`, where nothing listens, or `full.localhost`, whose queue
    /// is full.
    pub(crate) async fn asks_in_vain(&mut self, host: &str) -> Response {
        let request = format!("GET / HTTP/1.1\r\nhost: {host}\r\n\r\n");
        self.client.send_cut(request, &mut self.random).await.unwrap();
        self.client.response().await
    }

    /// Sends a request whose program's answer is the test's business.
    pub(crate) async fn asks(&mut self, line: &str, fields: &str, body: impl AsRef<[u8]>) -> Wire {
        let request = self.request(line, fields, body);
        let (sent, connection) =
            tokio::join!(self.client.send_cut(request, &mut self.random), self.program.connection());
        sent.unwrap();
        connection
    }

    /// As [`Case::asks`], on a connection of the program that has carried a request before.
    pub(crate) async fn asks_again(&mut self, line: &str, fields: &str, body: impl AsRef<[u8]>) -> Wire {
        let mut kept = self.asks("GET /before", "", "").await;
        kept.answers(OK).await;
        assert_eq!(self.client.response().await.text(), "ok");
        let request = self.request(line, fields, body);
        self.client.send_cut(request, &mut self.random).await.unwrap();
        kept
    }

    /// The client's next request is answered, on a new connection of the program. Returns what came on connections that
    /// nobody has looked at, all of which have ended.
    pub(crate) async fn goes_on(&mut self) -> Vec<String> {
        let request = self.request("GET /next", "", "");
        self.client.send_cut(request, &mut self.random).await.unwrap();
        let (mut connection, before) = self.program.connection_asking("GET /next HTTP/1.1").await;
        connection.send("HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 4\r\n\r\nnext").await;
        assert_eq!(self.client.response().await.text(), "next");
        before
    }

    /// As [`Case::goes_on`], for another client.
    pub(crate) async fn others_go_on(&mut self) -> Vec<String> {
        self.client = self.proxy.connect().await;
        self.goes_on().await
    }

    /// The client ends its connection, and another one comes.
    pub(crate) async fn client_leaves(&mut self) {
        let client = std::mem::replace(&mut self.client, self.proxy.connect().await);
        client.leave(&mut self.random).await;
    }
}

impl Wire {
    /// Sends all of it in the pieces that the seed says, if the other side takes it.
    pub(crate) async fn send_cut(&mut self, bytes: impl AsRef<[u8]>, random: &mut Random) -> io::Result<()> {
        let bytes = bytes.as_ref();
        let mut from = 0;
        for cut in cuts(bytes, random) {
            self.try_send(&bytes[from..cut]).await?;
            from = cut;
            if random.once_in(4) {
                // So that the proxy reads what has come. It may be too slow for that: nothing depends on it.
                sleep(Duration::from_millis(1)).await;
            }
        }
        self.try_send(&bytes[from..]).await
    }

    /// Ends its direction with a FIN, or both with an RST.
    pub(crate) async fn leave(mut self, random: &mut Random) {
        if random.once_in(2) {
            self.reset();
        } else {
            self.try_shut().await;
        }
    }
}

/// Where bytes are cut: nowhere, within line ends, behind them, before every byte for a while, or just anywhere.
fn cuts(bytes: &[u8], random: &mut Random) -> Vec<usize> {
    if bytes.len() < 2 {
        return Vec::new();
    }
    let inside = 1..bytes.len();
    let from = random.between(1, bytes.len());
    match random.below(6) {
        0 => Vec::new(),
        1 => vec![from],
        2 => (from..bytes.len()).take(MOST_PIECES).collect(),
        3 => inside.filter(|&at| bytes[at - 1] == b'\r').take(MOST_PIECES).collect(),
        4 => inside.filter(|&at| bytes[at - 1] == b'\n').take(MOST_PIECES).collect(),
        _ => {
            let longest = random.between(2, bytes.len().max(3));
            let mut cuts = Vec::new();
            let mut at = random.between(1, longest);
            while at < bytes.len() && cuts.len() < MOST_PIECES {
                cuts.push(at);
                at += random.between(1, longest);
            }
            cuts
        }
    }
}

/// A body of that length in which bytes that are lost, doubled or moved are seen.
pub(crate) fn bytes_of(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// A body as chunks of at most `size` bytes, and these trailers.
pub(crate) fn chunked(body: &[u8], size: usize, trailers: &str) -> Vec<u8> {
    let mut chunks = Vec::with_capacity(body.len() + 16);
    for chunk in body.chunks(size) {
        chunks.extend(format!("{:x}\r\n", chunk.len()).bytes());
        chunks.extend(chunk);
        chunks.extend(b"\r\n");
    }
    chunks.extend(b"0\r\n");
    chunks.extend(trailers.bytes());
    chunks.extend(b"\r\n");
    chunks
}
