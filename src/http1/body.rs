//! Bodies: how a message ends, and what of its bytes is passed on.
//!
//! The framing is a type (RFC 9112 §6.3), and so is what it becomes on the other side: an [`Encoding`]. What needs no
//! change is passed on as it lies in the buffer, without a copy; that is nearly every byte.

use std::ops::Range;

use super::{chunked::Chunked, write};

/// How a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Framing {
    /// With its head.
    #[default]
    None,
    /// After so many bytes.
    Length(u64),
    /// With the last chunk.
    Chunked,
    /// With its connection: an answer only.
    UntilClose,
}

impl Framing {
    /// Whether anything follows the head.
    pub fn has_body(self) -> bool {
        !matches!(self, Self::None | Self::Length(0))
    }
}

/// What a body becomes on its other side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Encoding {
    /// Framed as it came. Chunks are written in their canonical form.
    AsItCame,
    /// The content alone, ended by the head's length or by the connection.
    Bare,
    /// In chunks, since nobody knows its length and the connection is to be kept.
    Chunks,
}

/// Why a body cannot be read on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyError {
    /// RFC 9112 §7.1
    #[error("a chunk is not well formed")]
    Chunk,
    /// RFC 9112 §7.1.1
    #[error("its chunk extensions are larger than 16 KiB")]
    Extensions,
    /// RFC 9112 §7.1.2
    #[error("its trailers are not well formed")]
    Trailers,
    /// RFC 9112 §8
    #[error("it ended before its end")]
    Incomplete,
}

/// What goes out: bytes put together, and behind them a run of the input, which is not copied.
#[derive(Debug)]
pub struct Out<'i, 'o> {
    input: &'i [u8],
    built: &'o mut Vec<u8>,
    run: Range<usize>,
}

impl<'i, 'o> Out<'i, 'o> {
    /// Puts the next bytes behind what is in `built`.
    pub fn new(input: &'i [u8], built: &'o mut Vec<u8>) -> Self {
        Self { input, built, run: 0..0 }
    }

    /// What is read.
    pub(super) fn input(&self) -> &'i [u8] {
        self.input
    }

    /// The next bytes are those of the input.
    pub(super) fn keep(&mut self, run: Range<usize>) {
        if self.run.end == run.start && !self.run.is_empty() {
            self.run.end = run.end;
        } else if !run.is_empty() {
            self.settle();
            self.run = run;
        }
    }

    /// The next bytes are these.
    pub(super) fn add(&mut self, bytes: &[u8]) {
        self.settle();
        self.built.extend_from_slice(bytes);
    }

    /// Where the next bytes go that are put together.
    pub(super) fn built(&mut self) -> &mut Vec<u8> {
        self.settle();
        self.built
    }

    fn settle(&mut self) {
        self.built.extend_from_slice(&self.input[self.run.clone()]);
        self.run = 0..0;
    }

    /// What was put together, and the run behind it.
    pub fn parts(&mut self) -> (&mut Vec<u8>, &'i [u8]) {
        (self.built, &self.input[self.run.clone()])
    }
}

/// Reads one body from the bytes of a connection.
#[derive(Debug, Clone)]
pub struct Decoder {
    state: State,
    /// Content that was passed on, in bytes.
    count: u64,
}

#[derive(Debug, Clone)]
enum State {
    Length(u64),
    Chunked(Chunked),
    UntilClose,
    Done,
    /// It cannot be read on, ever.
    Failed(BodyError),
}

impl Decoder {
    /// For a body that is framed so.
    pub fn new(framing: Framing) -> Self {
        let state = match framing {
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::Chunked => State::Chunked(Chunked::default()),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, count: 0 }
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// How much of its content was read, in bytes.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// Reads on in `out`'s input, passes on what belongs to the body, and returns how many bytes of the input those
    /// were. `trailer` decides which trailers go on.
    pub fn decode(
        &mut self,
        out: &mut Out<'_, '_>,
        encoding: Encoding,
        trailer: impl Fn(&[u8]) -> bool,
    ) -> Result<usize, BodyError> {
        let read = self.try_decode(out, encoding, trailer);
        if let Err(error) = read {
            self.state = State::Failed(error);
        }
        read
    }

    fn try_decode(
        &mut self,
        out: &mut Out<'_, '_>,
        encoding: Encoding,
        trailer: impl Fn(&[u8]) -> bool,
    ) -> Result<usize, BodyError> {
        let available = out.input.len();
        let taken = match &mut self.state {
            State::Done => 0,
            State::Failed(error) => return Err(*error),
            State::Length(left) => {
                let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
                *left -= taken as u64;
                if *left == 0 {
                    self.state = State::Done;
                }
                self.count += taken as u64;
                out.keep(0..taken);
                taken
            }
            State::UntilClose => {
                self.count += available as u64;
                if encoding == Encoding::Chunks && available > 0 {
                    write::chunk_size(out.built(), available as u64);
                    out.keep(0..available);
                    out.add(b"\r\n");
                } else {
                    out.keep(0..available);
                }
                available
            }
            State::Chunked(chunked) => {
                let taken = chunked.decode(out, encoding == Encoding::AsItCame, &mut self.count, trailer)?;
                if chunked.is_done() {
                    self.state = State::Done;
                }
                taken
            }
        };
        Ok(taken)
    }

    /// The connection ended: the end of one kind of body, and the break of all others.
    pub fn end(&mut self, out: &mut Vec<u8>, encoding: Encoding) -> Result<(), BodyError> {
        match self.state {
            State::Done => Ok(()),
            State::UntilClose => {
                self.state = State::Done;
                if encoding == Encoding::Chunks {
                    out.extend_from_slice(b"0\r\n\r\n");
                }
                Ok(())
            }
            State::Length(_) | State::Chunked(_) => Err(BodyError::Incomplete),
            State::Failed(error) => Err(error),
        }
    }
}
