//! What happened: one record per exchange, written when it ends, however it ends.
//!
//! A record is a plain value that `forward` fills; dropping it is what ends the exchange, so a client that leaves
//! counts like any other. The log is one relaxed flag on the path of a request: off, no record is made. On, a full
//! record goes to a bounded queue and a thread of its own writes it, so that a slow or closed terminal delays
//! nobody; what does not fit is counted. Messages of our own and of the libraries take the same way.

mod line;

use std::{
    io::{self, Write},
    iter,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering::Relaxed},
        mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel},
    },
    time::{Duration, Instant, SystemTime},
};

pub use line::Format;

/// Records and messages that may wait for the writer; beyond that they are dropped and counted.
const QUEUE: usize = 4096;

/// How the answer came to be, which decides the sign in front of the status.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Kind {
    /// A program answered.
    #[default]
    Forwarded,
    /// Answered here: a mock, a file, a redirect, a page of ours.
    Answered,
    /// The connection became a tunnel, and the record is of its beginning.
    Opened,
    /// The tunnel ended.
    Tunnel,
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Ending {
    /// With the last byte.
    #[default]
    Whole,
    /// The client left before, as everybody who watches a stream does some time.
    Left,
    /// The program, or the connection to it, broke.
    Cut,
}

/// What is known of an exchange when it ends.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// As sent.
    pub method: String,
    /// As sent.
    pub host: String,
    /// Without the query.
    pub path: String,
    /// The query as sent; only the names of its parameters are ever written.
    pub query: Option<String>,
    /// 0 while there is none.
    pub status: u16,
    /// Of the answer's body, or through a tunnel to the client.
    pub received: u64,
    /// Through a tunnel to the program.
    pub sent: u64,
    /// The name of the route.
    pub route: Option<Arc<str>>,
    /// The target, or what stood in its place, such as `respond`.
    pub target: String,
    /// The cause of an error of ours.
    pub cause: Option<&'static str>,
    /// How it ended.
    pub ending: Ending,
    /// How the answer came to be.
    pub kind: Kind,
}

/// Where records go. Cheap to clone; every worker has one.
#[derive(Debug, Clone)]
pub struct Log {
    on: Arc<AtomicBool>,
    dropped: Arc<AtomicU64>,
    queue: SyncSender<Entry>,
}

/// What the writer writes.
#[derive(Debug)]
enum Entry {
    Ended(Ended),
    /// Whole lines.
    Message(String),
    /// Dropped once everything before it is written.
    Mark(SyncSender<()>),
}

#[derive(Debug)]
struct Ended {
    at: SystemTime,
    took: Duration,
    record: Record,
}

/// One exchange, from its head to the end of its answer. Dropping it writes the record.
#[derive(Debug)]
pub struct Exchange {
    began: Instant,
    record: Record,
    log: Log,
}

impl Log {
    /// A log that writes to `sink` in `format`, from a thread of its own, until the last clone is gone.
    ///
    /// Dropping the returned handle does not wait for the thread: the program ends without it.
    pub fn spawn(on: bool, format: Format, sink: impl Write + Send + 'static) -> io::Result<Self> {
        let (queue, entries) = sync_channel(QUEUE);
        let dropped = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&dropped);
        std::thread::Builder::new().name("log".into()).spawn(move || write_all(&entries, &counter, format, sink))?;
        Ok(Self { on: Arc::new(AtomicBool::new(on)), dropped, queue })
    }

    /// Begins an exchange; `record` is asked for what is known so far only while the log is on.
    pub fn begin(&self, record: impl FnOnce() -> Record) -> Option<Exchange> {
        self.on.load(Relaxed).then(|| Exchange { began: Instant::now(), record: record(), log: self.clone() })
    }

    /// For messages, on or off. Writing to it neither waits nor fails.
    pub fn messages(&self) -> Messages {
        Messages(self.clone())
    }

    /// Returns once everything until now is written, or after `patience`: the end of the program must not lose the lines
    /// that tell of it, nor wait for somebody who reads them slowly.
    pub fn flush(&self, patience: Duration) {
        let (mark, written) = sync_channel(0);
        if self.queue.try_send(Entry::Mark(mark)).is_ok() {
            // Nothing is ever sent: the mark is dropped.
            let _ = written.recv_timeout(patience);
        }
    }

    fn write(&self, took: Duration, record: Record) {
        self.send(Entry::Ended(Ended { at: SystemTime::now(), took, record }));
    }

    fn send(&self, entry: Entry) {
        if self.queue.try_send(entry).is_err() {
            self.dropped.fetch_add(1, Relaxed);
        }
    }
}

/// The way of messages into the log.
#[derive(Debug)]
pub struct Messages(Log);

impl Write for Messages {
    /// Takes whole lines.
    fn write(&mut self, lines: &[u8]) -> io::Result<usize> {
        self.0.send(Entry::Message(String::from_utf8_lossy(lines).into_owned()));
        Ok(lines.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Exchange {
    /// What is known so far.
    pub fn record(&mut self) -> &mut Record {
        &mut self.record
    }

    /// Writes the present state as a record of its own, as the beginning of a stream is.
    pub fn write_now(&self, kind: Kind) {
        self.log.write(self.began.elapsed(), Record { kind, ..self.record.clone() });
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.log.write(self.began.elapsed(), std::mem::take(&mut self.record));
    }
}

/// Writes until nobody can send any more. A sink that fails is tried again with the next record: a disk may be
/// full for a while.
fn write_all(entries: &Receiver<Entry>, dropped: &AtomicU64, format: Format, mut sink: impl Write) {
    let mut text = String::new();
    let mut marks = Vec::new();
    loop {
        match entries.recv_timeout(Duration::from_secs(1)) {
            Ok(entry) => {
                text.clear();
                // Whatever waits goes out in one write.
                for entry in iter::once(entry).chain(entries.try_iter().take(256)) {
                    match entry {
                        Entry::Ended(Ended { at, took, record }) => format.write(&mut text, at, took, &record),
                        Entry::Message(lines) => text.push_str(&lines),
                        Entry::Mark(mark) => marks.push(mark),
                    }
                }
                let _ = sink.write_all(text.as_bytes()).and_then(|()| sink.flush());
                marks.clear();
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => return,
        }
        let lost = dropped.swap(0, Relaxed);
        if lost > 0 {
            let _ = writeln!(sink, "{lost} log lines were dropped: the log is read too slowly");
        }
    }
}
