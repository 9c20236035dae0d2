//! The program behind either proxy: it keeps what it was asked, and says what the case wants it to say.

use std::sync::Mutex;

use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    sync::watch,
    task::yield_now,
};

use super::{
    case,
    message::{self, Message, Part, Progress},
};

/// A program, whatever it is connected by.
#[derive(Debug, Default)]
pub(super) struct Origin {
    script: Mutex<Script>,
    seen: watch::Sender<Seen>,
}

/// What it says.
#[derive(Debug, Default)]
pub(super) enum Script {
    /// To each request an answer of its own, which tells what it is an answer to.
    #[default]
    Numbered,
    /// These segments, and the end of the connection if it `closes`; to [`case::LAST`] as above.
    Says { segments: Vec<Vec<u8>>, closes: bool },
}

/// What it has seen since the case began.
#[derive(Debug, Default, Clone)]
pub(super) struct Seen {
    pub(super) requests: Vec<Message>,
    /// What was no request at all.
    pub(super) faults: Vec<String>,
    /// How many connections are in the midst of a request.
    pub(super) midway: usize,
    /// Whether the end of the client's stream came as a part of a body that is still not whole.
    pub(super) wants_more: bool,
    /// Whether the script was said to its end.
    pub(super) told: bool,
}

/// Says of an answer which request it answers.
pub(super) const NUMBER: &str = "x-number";
/// Says of an answer the method that it answers.
pub(super) const ANSWERS: &str = "x-answers";

impl Origin {
    /// Begins a case.
    pub(super) fn plays(&self, script: Script) {
        *self.script.lock().unwrap() = script;
        self.seen.send_modify(|seen| *seen = Seen { midway: seen.midway, ..Seen::default() });
    }

    pub(super) fn seen(&self) -> Seen {
        self.seen.borrow().clone()
    }

    /// Waits until it has seen what is looked for.
    pub(super) async fn has_seen(&self, what: impl FnMut(&Seen) -> bool) {
        self.seen.subscribe().wait_for(what).await.unwrap();
    }

    /// Reads and answers requests until the connection ends or is no more to be understood.
    pub(super) async fn serve(&self, mut stream: impl AsyncRead + AsyncWrite + Unpin) {
        let mut received = Vec::new();
        while let Some(request) = self.next(&mut stream, &mut received).await {
            let answer = numbered(&request.head, self.seen.borrow().requests.len());
            let is_last = request.head.word(1) == case::LAST;
            self.seen.send_modify(|seen| seen.requests.push(request));
            let said = match self.script().filter(|_| !is_last) {
                None => stream.write_all(answer.as_bytes()).await.is_ok(),
                Some((segments, closes)) => {
                    let said = say(&mut stream, &segments).await;
                    let ends = closes && stream.shutdown().await.is_ok();
                    self.seen.send_modify(|seen| seen.told = true);
                    said && !ends
                }
            };
            if !said {
                return;
            }
        }
    }

    fn script(&self) -> Option<(Vec<Vec<u8>>, bool)> {
        match &*self.script.lock().unwrap() {
            Script::Numbered => None,
            Script::Says { segments, closes } => Some((segments.clone(), *closes)),
        }
    }

    /// The next request; none at the end, however it comes.
    async fn next(
        &self,
        stream: &mut (impl AsyncRead + AsyncWrite + Unpin),
        received: &mut Vec<u8>,
    ) -> Option<Message> {
        let mut midway = None;
        let mut told_to_go_on = false;
        loop {
            match message::request(received) {
                Progress::Whole(request, used) => {
                    received.drain(..used);
                    return Some(request);
                }
                Progress::Fault(fault) => {
                    self.seen.send_modify(|seen| seen.faults.push(fault));
                    return None;
                }
                Progress::Part(part) => {
                    if part.body.ends_with(case::MARK) {
                        self.seen.send_modify(|seen| seen.wants_more = true);
                    }
                    if !told_to_go_on && expects(&part) {
                        told_to_go_on = true;
                        stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").await.ok()?;
                    }
                }
            }
            if !matches!(stream.read_buf(received).await, Ok(1..)) {
                return None;
            }
            midway.get_or_insert_with(|| Midway::new(&self.seen));
        }
    }
}

/// Counts a connection in the midst of a request.
struct Midway<'a>(&'a watch::Sender<Seen>);

impl<'a> Midway<'a> {
    fn new(seen: &'a watch::Sender<Seen>) -> Self {
        seen.send_modify(|seen| seen.midway += 1);
        Self(seen)
    }
}

impl Drop for Midway<'_> {
    fn drop(&mut self) {
        self.0.send_modify(|seen| seen.midway -= 1);
    }
}

fn expects(part: &Part) -> bool {
    let expect = part.head.as_ref().and_then(|head| head.field("expect"));
    expect.is_some_and(|expect| expect.eq_ignore_ascii_case("100-continue"))
}

fn numbered(request: &message::Head, number: usize) -> String {
    let method = request.word(0);
    let body = if method == "HEAD" { "" } else { "ok" };
    format!("HTTP/1.1 200 OK\r\n{NUMBER}: {number}\r\n{ANSWERS}: {method}\r\ncontent-length: 2\r\n\r\n{body}")
}

/// Whether all was taken.
async fn say(stream: &mut (impl AsyncWrite + Unpin), segments: &[Vec<u8>]) -> bool {
    for segment in segments {
        if stream.write_all(segment).await.is_err() {
            return false;
        }
        yield_now().await;
    }
    true
}
