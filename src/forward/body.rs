//! Bodies on their way: a request's to the program, an answer's to the client. Nothing is collected.
//!
//! Each is one enum and no box around a trait, and passes on what it knows of its length, so that the engine frames
//! it as it came.

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http_body_util::combinators::UnsyncBoxBody;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::{
    sync::oneshot,
    time::{Sleep, sleep},
};

use crate::{
    listen::deadlines::{BODY, Deadlines, Limit},
    observe::{Ending, Exchange},
    upstream::{InFlight, pool::Lease},
};

/// How long a client that asked for `100 Continue` waits for a program that says nothing (RFC 9110 §10.1.1 leaves
/// the time open; curl waits as long).
const CONTINUE: Duration = Duration::from_secs(1);

/// What can go wrong with a body in mid-stream; the message that carries it is cut.
pub type BodyError = Box<dyn std::error::Error + Send + Sync>;

/// The body of a request, as the program reads it.
#[derive(Debug)]
pub enum Upload {
    /// None.
    Empty,
    /// All of it, small enough to be sent twice.
    Whole(Option<Bytes>),
    /// As the client sends it.
    Streamed(Box<Streamed>),
}

/// A body that the client is sending.
#[derive(Debug)]
pub struct Streamed {
    incoming: Incoming,
    gate: Option<Gate>,
    deadlines: Arc<Deadlines>,
    /// How long the program may take for its answer after each piece.
    answer_limit: Duration,
    sent: Arc<AtomicBool>,
}

/// Holds a body back until the program wants it.
#[derive(Debug)]
pub struct Gate {
    opened: oneshot::Receiver<()>,
    waited: Pin<Box<Sleep>>,
}

/// The answer came first, so the body is not sent and the connection cannot be used again.
#[derive(Debug, thiserror::Error)]
#[error("the program answered before it wanted the body")]
struct NotWanted;

impl Gate {
    /// A gate and what opens it. Dropping the sender shuts the gate for good.
    pub fn new() -> (oneshot::Sender<()>, Self) {
        let (open, opened) = oneshot::channel();
        (open, Self { opened, waited: Box::pin(sleep(CONTINUE)) })
    }

    fn poll_open(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), NotWanted>> {
        if let Poll::Ready(opened) = Pin::new(&mut self.opened).poll(cx) {
            return Poll::Ready(opened.map_err(|_| NotWanted));
        }
        self.waited.as_mut().poll(cx).map(Ok)
    }
}

impl Upload {
    /// Streams `incoming`; `sent` becomes true when its end was handed over.
    pub fn streamed(
        incoming: Incoming,
        gate: Option<Gate>,
        deadlines: Arc<Deadlines>,
        answer_limit: Duration,
        sent: Arc<AtomicBool>,
    ) -> Self {
        Self::Streamed(Box::new(Streamed { incoming, gate, deadlines, answer_limit, sent }))
    }
}

impl Streamed {
    fn poll_frame(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Bytes>, BodyError>>> {
        if let Some(gate) = &mut self.gate {
            ready!(gate.poll_open(cx))?;
            self.gate = None;
        }
        // Only now: the first poll makes hyper tell the client to go on.
        let frame = Pin::new(&mut self.incoming).poll_frame(cx);
        match &frame {
            Poll::Pending => self.deadlines.keep_armed(Limit::Body, BODY),
            Poll::Ready(piece) => {
                self.deadlines.disarm(Limit::Body);
                // Where the answer is here already, nobody waits for it.
                self.deadlines.extend(Limit::Answer, self.answer_limit);
                if piece.is_none() || self.incoming.is_end_stream() {
                    self.sent.store(true, Relaxed);
                    self.deadlines.all_read();
                }
            }
        }
        frame.map_err(Into::into)
    }
}

impl Body for Upload {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        match self.get_mut() {
            Self::Empty => Poll::Ready(None),
            Self::Whole(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Self::Streamed(streamed) => streamed.poll_frame(cx),
        }
    }

    fn is_end_stream(&self) -> bool {
        match self {
            Self::Empty => true,
            Self::Whole(bytes) => bytes.is_none(),
            Self::Streamed(streamed) => streamed.incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match self {
            Self::Empty => SizeHint::with_exact(0),
            Self::Whole(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Self::Streamed(streamed) => streamed.incoming.size_hint(),
        }
    }
}

/// The body of an answer, as the client reads it. Dropping it ends the exchange.
#[derive(Debug)]
pub struct Download {
    source: Source,
    deadlines: Arc<Deadlines>,
    exchange: Option<Box<Exchange>>,
    ending: Ending,
}

/// Where an answer's body comes from.
#[derive(Debug)]
pub enum Source {
    /// Nowhere.
    Empty,
    /// Memory.
    Bytes(Option<Bytes>),
    /// A file.
    File(UnsyncBoxBody<Bytes, io::Error>),
    /// A program, over a connection that is kept once all of it was read.
    Program {
        /// The bytes.
        incoming: Incoming,
        /// `None` where the connection is not to be used again.
        lease: Option<Lease<Upload>>,
        /// Counts it at the endpoint while it lasts.
        in_flight: Option<InFlight>,
    },
}

impl Download {
    /// The body of the answer that `exchange` is about.
    pub fn new(source: Source, deadlines: Arc<Deadlines>, exchange: Option<Box<Exchange>>) -> Self {
        let mut download = Self { source, deadlines, exchange, ending: Ending::Left };
        if download.is_end_stream() {
            download.end();
        }
        download
    }

    /// The last byte was read: the connection is free before the client has it.
    pub(super) fn end(&mut self) {
        self.ending = Ending::Whole;
        if let Source::Program { lease, in_flight, .. } = &mut self.source {
            in_flight.take();
            if let Some(lease) = lease.take() {
                lease.give_back();
            }
        }
    }
}

impl Body for Download {
    type Data = Bytes;
    type Error = BodyError;

    fn poll_frame(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Result<Frame<Self::Data>, Self::Error>>> {
        let this = self.get_mut();
        let frame = match &mut this.source {
            Source::Empty => Poll::Ready(None),
            Source::Bytes(bytes) => Poll::Ready(bytes.take().map(|bytes| Ok(Frame::data(bytes)))),
            Source::File(file) => Pin::new(file).poll_frame(cx).map_err(Into::into),
            Source::Program { incoming, .. } => Pin::new(incoming).poll_frame(cx).map_err(Into::into),
        };
        match &frame {
            Poll::Ready(None) => this.end(),
            Poll::Ready(Some(Ok(piece))) => {
                if let Some(exchange) = &mut this.exchange {
                    exchange.record().received += piece.data_ref().map_or(0, Bytes::len) as u64;
                }
                if this.is_end_stream() {
                    this.end();
                }
            }
            Poll::Ready(Some(Err(_))) => this.ending = Ending::Cut,
            Poll::Pending => {}
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        match &self.source {
            Source::Empty => true,
            Source::Bytes(bytes) => bytes.is_none(),
            Source::File(file) => file.is_end_stream(),
            Source::Program { incoming, .. } => incoming.is_end_stream(),
        }
    }

    fn size_hint(&self) -> SizeHint {
        match &self.source {
            Source::Empty => SizeHint::with_exact(0),
            Source::Bytes(bytes) => SizeHint::with_exact(bytes.as_ref().map_or(0, |bytes| bytes.len() as u64)),
            Source::File(file) => file.size_hint(),
            Source::Program { incoming, .. } => incoming.size_hint(),
        }
    }
}

impl Drop for Download {
    fn drop(&mut self) {
        self.deadlines.exchange_ends();
        if let Some(exchange) = &mut self.exchange {
            exchange.record().ending = self.ending;
        }
    }
}
