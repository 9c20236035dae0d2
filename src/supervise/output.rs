//! What a program says: its last lines are kept, and each line is passed on to whoever listens.
//!
//! A program that says more than anybody can read waits at its pipe for the printer, as it would without us; those who
//! only look on miss lines instead, and are told how many. What is kept is bounded in lines and bytes.

use std::{
    collections::VecDeque,
    sync::{Arc, Mutex, PoisonError},
};

use tokio::{
    io::{AsyncBufReadExt, AsyncRead, BufReader},
    sync::{broadcast, mpsc},
};

/// How many lines are kept of each program, and how many bytes at most: enough for a stack trace and what led to it.
const LINES: usize = 1_000;
const BYTES: usize = 256 * 1024;

/// A longer line is cut into pieces, so that one without an end takes no memory.
const LONGEST: usize = 16 * 1024;

/// How far those who look on may fall behind, in lines.
const BEHIND: usize = 1_024;

/// Where a line was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
    /// Nowhere: it is what we say of the program.
    Note,
}

impl Stream {
    /// The word for it in JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Out => "out",
            Self::Err => "err",
            Self::Note => "note",
        }
    }

    /// From that word; one that a later version may know is a note.
    pub fn of(word: &str) -> Self {
        match word {
            "out" => Self::Out,
            "err" => Self::Err,
            _ => Self::Note,
        }
    }
}

/// One line of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Line {
    /// The service's name.
    pub name: Arc<str>,
    /// Where it was written.
    pub stream: Stream,
    /// Without its end; the program's own colours are in it.
    pub text: String,
}

/// Takes every line, and lets the program wait while it is busy.
pub type Printer = mpsc::Sender<Line>;

/// The output of one program, over all its starts.
#[derive(Debug)]
pub struct Output {
    name: Arc<str>,
    kept: Mutex<Kept>,
    onlookers: broadcast::Sender<Line>,
    printer: Option<Printer>,
}

#[derive(Debug, Default)]
struct Kept {
    lines: VecDeque<Line>,
    bytes: usize,
}

impl Output {
    /// Of the program of this name.
    pub fn new(name: Arc<str>, printer: Option<Printer>) -> Self {
        Self { name, kept: Mutex::default(), onlookers: broadcast::Sender::new(BEHIND), printer }
    }

    /// What the program has said last, the oldest line first.
    pub fn last(&self, count: usize) -> Vec<Line> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let said = kept.lines.iter().rev().filter(|line| line.stream != Stream::Note);
        let mut last: Vec<Line> = said.take(count).cloned().collect();
        last.reverse();
        last
    }

    /// All that is kept, and every line from now on, none of them twice.
    pub fn follow(&self) -> (Vec<Line>, broadcast::Receiver<Line>) {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        (kept.lines.iter().cloned().collect(), self.onlookers.subscribe())
    }

    /// Reads a pipe to its end; `look` sees every line.
    pub async fn read(&self, pipe: impl AsyncRead + Unpin, stream: Stream, look: impl Fn(&str)) {
        let mut pipe = BufReader::new(pipe);
        let mut line = Vec::new();
        while let Ok(available) = pipe.fill_buf().await {
            if available.is_empty() {
                break;
            }
            let end = memchr::memchr(b'\n', available);
            let piece = &available[..end.unwrap_or(available.len()).min(LONGEST)];
            line.extend_from_slice(piece);
            let (length, is_whole) = (piece.len(), end == Some(piece.len()));
            pipe.consume(length + usize::from(is_whole));
            if is_whole || line.len() >= LONGEST {
                self.take(&std::mem::take(&mut line), stream, &look).await;
            }
        }
        // A last line without an end is a line all the same.
        if !line.is_empty() {
            self.take(&line, stream, &look).await;
        }
    }

    /// A line that we say about the program.
    pub async fn note(&self, text: String) {
        self.pass_on(Line { name: Arc::clone(&self.name), stream: Stream::Note, text }).await;
    }

    async fn take(&self, bytes: &[u8], stream: Stream, look: &impl Fn(&str)) {
        let text = String::from_utf8_lossy(bytes.strip_suffix(b"\r").unwrap_or(bytes)).into_owned();
        look(&text);
        self.pass_on(Line { name: Arc::clone(&self.name), stream, text }).await;
    }

    async fn pass_on(&self, line: Line) {
        self.kept.lock().unwrap_or_else(PoisonError::into_inner).push(line.clone());
        // Nobody may look on.
        let _ = self.onlookers.send(line.clone());
        if let Some(printer) = &self.printer {
            // A printer that is gone has a reader that is gone.
            let _ = printer.send(line).await;
        }
    }
}

impl Kept {
    fn push(&mut self, line: Line) {
        self.bytes += line.text.len();
        self.lines.push_back(line);
        while self.lines.len() > LINES || self.bytes > BYTES {
            let Some(oldest) = self.lines.pop_front() else { break };
            self.bytes -= oldest.text.len();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn output_of(bytes: &[u8]) -> Vec<String> {
        let output = Output::new("api".into(), None);
        output.read(bytes, Stream::Out, |_| {}).await;
        output.last(LINES).into_iter().map(|line| line.text).collect()
    }

    #[tokio::test]
    async fn lines_lose_their_ends_and_the_last_one_needs_none() {
        assert_eq!(output_of(b"one\r\n\ntwo\nthree").await, ["one", "", "two", "three"]);
    }

    #[tokio::test]
    async fn a_line_without_an_end_is_cut_into_pieces() {
        let pieces = output_of(&vec![b'x'; 3 * LONGEST + 1]).await;
        assert!(pieces.iter().all(|piece| piece.len() <= LONGEST + 8 * 1024), "{:?}", pieces.len());
        assert_eq!(pieces.concat().len(), 3 * LONGEST + 1);
    }

    #[tokio::test]
    async fn only_the_last_lines_are_kept() {
        let text: String = (0..LINES + 10).map(|number| format!("{number}\n")).collect();
        let lines = output_of(text.as_bytes()).await;
        assert_eq!((lines.len(), lines[0].as_str()), (LINES, "10"));
        let long = "y".repeat(1000) + "\n";
        assert!(output_of(long.repeat(1000).as_bytes()).await.len() <= BYTES / 1000);
    }

    #[tokio::test]
    async fn who_follows_sees_each_line_once() {
        let output = Output::new("api".into(), None);
        output.read(&b"before\n"[..], Stream::Out, |_| {}).await;
        let (kept, mut news) = output.follow();
        output.read(&b"after\n"[..], Stream::Err, |_| {}).await;
        assert_eq!(kept[0].text, "before");
        let line = news.recv().await.unwrap();
        assert_eq!((line.text.as_str(), line.stream), ("after", Stream::Err));
        assert!(news.try_recv().is_err());
    }
}
