//! What comes on a stream, as the bytes of a connection of HTTP/1: a head that was written already, a body, trailers.

use std::{
    io,
    task::{Context, Poll},
};

use bytes::{Buf, Bytes};
use h2::RecvStream;
use tokio::io::ReadBuf;

use super::{broken, fields::write_trailers};
use crate::http1::write;

/// A stream that is read.
#[derive(Debug)]
pub(super) struct Incoming {
    body: RecvStream,
    shape: Shape,
    /// The head, or what stands around a piece of the body.
    lines: Vec<u8>,
    /// How much of it was read.
    read: usize,
    /// The piece of the body that is being read.
    piece: Bytes,
    state: State,
}

/// How a body stands behind its head in HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    /// There is none.
    Nothing,
    /// As it is: the head tells its length, or it is of another protocol.
    Bare,
    /// In chunks, with trailers.
    Chunks,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Body,
    Trailers,
    Ended,
}

impl Incoming {
    /// `head` goes first.
    pub(super) fn new(head: Vec<u8>, body: RecvStream, shape: Shape) -> Self {
        let state = if shape == Shape::Nothing { State::Ended } else { State::Body };
        Self { body, shape, lines: head, read: 0, piece: Bytes::new(), state }
    }

    /// Reads as much as there is.
    pub(super) fn poll_read(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        loop {
            self.copy(buffer);
            if buffer.remaining() == 0 || (self.state == State::Ended && self.lines.is_empty()) {
                return Poll::Ready(Ok(()));
            }
            let more = self.poll_more(cx);
            match more {
                Poll::Ready(Ok(())) => {}
                // What was read goes first; the rest is found again.
                Poll::Pending | Poll::Ready(Err(_)) if buffer.filled().len() > before => return Poll::Ready(Ok(())),
                more => return more,
            }
        }
    }

    fn copy(&mut self, buffer: &mut ReadBuf<'_>) {
        let lines = &self.lines[self.read..];
        let count = lines.len().min(buffer.remaining());
        buffer.put_slice(&lines[..count]);
        self.read += count;
        if self.read < self.lines.len() {
            return;
        }
        self.lines = Vec::new();
        self.read = 0;
        let count = self.piece.len().min(buffer.remaining());
        if count > 0 {
            buffer.put_slice(&self.piece[..count]);
            self.piece.advance(count);
            // On a stream that has ended there is no window any more.
            let _ = self.body.flow_control().release_capacity(count);
            if self.piece.is_empty() && self.shape == Shape::Chunks {
                self.lines = b"\r\n".to_vec();
                self.copy(buffer);
            }
        }
    }

    /// Takes the next thing from the stream.
    fn poll_more(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        if self.state == State::Body {
            match std::task::ready!(self.body.poll_data(cx)) {
                Some(piece) => {
                    self.piece = piece.map_err(broken)?;
                    if self.shape == Shape::Chunks && !self.piece.is_empty() {
                        write::chunk_size(&mut self.lines, self.piece.len() as u64);
                    }
                }
                None => self.state = State::Trailers,
            }
        } else {
            let trailers = std::task::ready!(self.body.poll_trailers(cx)).map_err(broken)?;
            self.state = State::Ended;
            if self.shape == Shape::Chunks {
                self.lines.extend_from_slice(b"0\r\n");
                if let Some(trailers) = trailers {
                    write_trailers(&trailers, &mut self.lines);
                }
                write::end(&mut self.lines);
            }
        }
        Poll::Ready(Ok(()))
    }
}
