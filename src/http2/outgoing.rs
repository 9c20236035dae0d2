//! What goes out on a stream: a body, read from the bytes of a connection of HTTP/1.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{Reason, SendStream};

use super::{broken, fields::trailers};
use crate::http1::body::{Decoder, Encoding, Framing, Out};

/// A stream that is written.
#[derive(Debug)]
pub(super) struct Outgoing {
    stream: SendStream<Bytes>,
    body: Decoder,
    ended: bool,
}

impl Outgoing {
    /// A stream whose head has gone out; its body comes framed so.
    pub(super) fn new(stream: SendStream<Bytes>, framing: Framing) -> Self {
        Self { stream, body: Decoder::new(framing), ended: false }
    }

    /// Whether the end of the stream has gone out.
    pub(super) fn has_ended(&self) -> bool {
        self.ended
    }

    /// Writes no more than the window of the stream has room for, so that a reader who does not read is felt.
    pub(super) fn poll_write(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Poll<io::Result<usize>> {
        if input.is_empty() {
            return Poll::Ready(Ok(0));
        }
        self.stream.reserve_capacity(input.len());
        let room = self.stream.capacity();
        if room == 0 {
            // What is framing alone needs no room.
            let mut tried = self.body.clone();
            let (taken, content) = decode(&mut tried, input)?;
            if content.is_empty() {
                self.body = tried;
                self.send(content)?;
                return Poll::Ready(Ok(taken));
            }
            let more = ready!(self.stream.poll_capacity(cx));
            let more = more.ok_or(io::ErrorKind::BrokenPipe)?.map_err(broken)?;
            return self.write(&input[..more.min(input.len())], cx);
        }
        self.write(&input[..room.min(input.len())], cx)
    }

    fn write(&mut self, input: &[u8], cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        if input.is_empty() {
            // A window that was told to open, and is shut again.
            cx.waker().wake_by_ref();
            return Poll::Pending;
        }
        let (taken, content) = decode(&mut self.body, input)?;
        self.send(content)?;
        // Behind the end of a body there is nothing.
        if taken == 0 { Poll::Ready(Err(io::ErrorKind::InvalidData.into())) } else { Poll::Ready(Ok(taken)) }
    }

    fn send(&mut self, content: Vec<u8>) -> io::Result<()> {
        let is_last = self.body.is_done();
        let has_trailers = !self.body.trailers().is_empty();
        if !content.is_empty() || (is_last && !has_trailers) {
            self.stream.send_data(content.into(), is_last && !has_trailers).map_err(broken)?;
        }
        if is_last && has_trailers {
            let trailers = trailers(self.body.trailers()).map_err(io::Error::other)?;
            self.stream.send_trailers(trailers).map_err(broken)?;
        }
        self.ended = is_last;
        Ok(())
    }

    /// Ends a stream whose end nothing else tells.
    pub(super) fn end(&mut self) -> io::Result<()> {
        if !std::mem::replace(&mut self.ended, true) {
            self.stream.send_data(Bytes::new(), true).map_err(broken)?;
        }
        Ok(())
    }

    /// Breaks it off.
    pub(super) fn reset(&mut self, reason: Reason) {
        if !std::mem::replace(&mut self.ended, true) {
            self.stream.send_reset(reason);
        }
    }

    /// Ready when the other end has broken it off.
    pub(super) fn poll_reset(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        self.stream.poll_reset(cx).map(|_| ())
    }
}

fn decode(body: &mut Decoder, input: &[u8]) -> io::Result<(usize, Vec<u8>)> {
    let mut content = Vec::new();
    let mut out = Out::new(input, &mut content);
    let taken = body.decode(&mut out, Encoding::Bare, |_| true).map_err(io::Error::other)?;
    let (_, run) = out.parts();
    let run = run.to_vec();
    content.extend_from_slice(&run);
    Ok((taken, content))
}
