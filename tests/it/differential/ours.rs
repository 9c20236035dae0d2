//! The proxy under test, on real sockets. Nothing waits for time to pass: a connection ends, or the program tells that
//! it has all of the client's bytes and wants more.

use std::{future::pending, sync::Arc};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::{TcpListener, TcpStream, tcp::OwnedReadHalf},
    runtime::Runtime,
    task::yield_now,
    time::timeout,
};

use super::{
    case::{self, Case, From},
    origin::{Origin, Script},
    outcome::{Noted, Record, is_decided},
    pair::Plan,
};
use crate::harness::{End, PATIENCE, Proxy, proxy};

/// A program, the proxy before it, and room for one case at a time.
pub(super) struct Lane {
    runtime: Runtime,
    proxy: Proxy,
    origin: Arc<Origin>,
}

impl Lane {
    pub(super) fn new() -> Self {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        let origin = Arc::<Origin>::default();
        let proxy = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = {}", listener.local_addr().unwrap().port()));
            let origin = Arc::clone(&origin);
            tokio::spawn(async move {
                while let Ok((stream, _)) = listener.accept().await {
                    stream.set_nodelay(true).unwrap();
                    let origin = Arc::clone(&origin);
                    tokio::spawn(async move { origin.serve(stream).await });
                }
            });
            proxy
        });
        Self { runtime, proxy, origin }
    }

    /// Where its clients connect to.
    pub(super) fn address(&self) -> String {
        format!("127.0.0.1:{}", self.proxy.port())
    }

    /// What becomes of a case here, or why that cannot be said.
    pub(super) fn run(&self, case: &Case, plan: Plan) -> Result<Record, String> {
        self.runtime.block_on(async {
            let mut heard = Heard::default();
            let ended = timeout(PATIENCE, self.hear(case, plan, &mut heard)).await;
            let Heard { answers, broken } = heard;
            let seen = self.origin.seen();
            if ended.is_err() {
                return Err(format!("no end behind {}, the program has seen {seen:?}", answers.escape_ascii()));
            }
            match seen.faults.as_slice() {
                [] => Ok(Record { answers, requests: seen.requests, noted: Noted { broken, ..Noted::default() } }),
                faults => Err(format!("the program got {faults:?}")),
            }
        })
    }

    async fn hear(&self, case: &Case, plan: Plan, heard: &mut Heard) {
        let client = TcpStream::connect(("127.0.0.1", self.proxy.port())).await.unwrap();
        client.set_nodelay(true).unwrap();
        match (&case.from, plan) {
            (From::Program { request, to_head }, Plan::Program { closes }) => {
                self.origin.plays(Script::Says { segments: case.segments(&case.bytes), closes });
                self.program_speaks(client, request, *to_head, heard).await;
            }
            (From::Client, Plan::Client { stream }) => {
                self.origin.plays(Script::Numbered);
                self.client_speaks(client, &case.segments(&stream), heard).await;
            }
            _ => unreachable!("a plan is made for its case"),
        }
        // What was cut short has ended at the program, too.
        self.origin.has_seen(|seen| seen.midway == 0).await;
    }

    async fn client_speaks(&self, client: TcpStream, segments: &[Vec<u8>], heard: &mut Heard) {
        let (mut from_proxy, mut to_proxy) = client.into_split();
        let speaking = async {
            for segment in segments {
                // The proxy may have closed, which the other half sees.
                if to_proxy.write_all(segment).await.is_err() {
                    break;
                }
                yield_now().await;
            }
            pending::<()>().await;
        };
        tokio::select! {
            () = speaking => {}
            () = heard.rest(&mut from_proxy) => {}
            () = self.origin.has_seen(|seen| seen.wants_more) => {}
        }
    }

    async fn program_speaks(&self, mut client: TcpStream, request: &[u8], to_head: bool, heard: &mut Heard) {
        client.write_all(request).await.unwrap();
        let (mut from_proxy, mut to_proxy) = client.into_split();
        let mut end = None;
        while !is_decided(&heard.answers, to_head, end.is_some()) {
            end = heard.more(&mut from_proxy).await;
        }
        heard.broken = end == Some(End::Reset);
        // Whatever the program says besides, if it was asked, is there before anybody is asked again.
        self.origin.has_seen(|seen| seen.told || seen.requests.is_empty()).await;
        if end.is_none() && to_proxy.write_all(&case::last(false)).await.is_ok() {
            heard.rest(&mut from_proxy).await;
        }
    }
}

/// What a client hears.
#[derive(Default)]
struct Heard {
    answers: Vec<u8>,
    /// Whether the first answer ended with a reset: then it is not whole, even where nothing else tells its end.
    broken: bool,
}

impl Heard {
    /// Reads once. What came before a reset was read before it.
    async fn more(&mut self, from: &mut OwnedReadHalf) -> Option<End> {
        match from.read_buf(&mut self.answers).await {
            Ok(0) => Some(End::Closed),
            Ok(_) => None,
            Err(_) => Some(End::Reset),
        }
    }

    async fn rest(&mut self, from: &mut OwnedReadHalf) {
        while self.more(from).await.is_none() {}
    }
}
