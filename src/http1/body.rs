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
    /// What stood behind the last chunk, where that was not passed on with the framing.
    trailers: Vec<u8>,
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
        Self { state, count: 0, trailers: Vec::new() }
    }

    /// Whether all of it was read.
    pub fn is_done(&self) -> bool {
        matches!(self.state, State::Done)
    }

    /// The lines behind the last chunk, each with its line end, where the framing is not passed on.
    pub fn trailers(&self) -> &[u8] {
        self.trailers.strip_suffix(b"\r\n").unwrap_or_default()
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
                    self.trailers = std::mem::take(chunked).into_trailers();
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

#[cfg(test)]
mod tests {
    use super::*;

    /// What goes out of `pieces`, framed so; how much of it was no copy; and the verdict.
    fn decoded(framing: Framing, encoding: Encoding, pieces: &[&[u8]]) -> (Vec<u8>, usize, Result<bool, BodyError>) {
        let mut decoder = Decoder::new(framing);
        let (mut out, mut in_place) = (Vec::new(), 0);
        for piece in pieces {
            let mut built = Vec::new();
            let mut next = Out::new(piece, &mut built);
            let read = decoder.decode(&mut next, encoding, |name| name == b"x-sum");
            let (built, run) = next.parts();
            in_place += run.len();
            out.extend_from_slice(built);
            out.extend_from_slice(run);
            if let Err(error) = read {
                return (out, in_place, Err(error));
            }
        }
        (out, in_place, Ok(decoder.is_done()))
    }

    const CHUNKS: &[u8] = b"5\r\nhello\r\nA\r\n, and more\r\n0\r\n\r\n";

    #[test]
    fn canonical_chunks_stay_where_they_lie() {
        let (out, in_place, verdict) = decoded(Framing::Chunked, Encoding::AsItCame, &[CHUNKS]);
        assert_eq!((out.as_slice(), in_place, verdict), (CHUNKS, CHUNKS.len(), Ok(true)));
    }

    #[test]
    fn chunks_cut_anywhere_are_the_same_chunks() {
        for first in 0..CHUNKS.len() {
            for second in first..CHUNKS.len() {
                let pieces = [&CHUNKS[..first], &CHUNKS[first..second], &CHUNKS[second..]];
                let (out, _, verdict) = decoded(Framing::Chunked, Encoding::AsItCame, &pieces);
                assert_eq!(verdict, Ok(true), "cut at {first} and {second}");
                assert!(out.eq_ignore_ascii_case(CHUNKS), "{:?}", String::from_utf8_lossy(&out));
                let (content, _, verdict) = decoded(Framing::Chunked, Encoding::Bare, &pieces);
                assert_eq!((content.as_slice(), verdict), (&b"hello, and more"[..], Ok(true)));
            }
        }
    }

    #[test]
    fn what_is_not_canonical_is_written_anew() {
        let chunks = b"0003;name=value\r\nabc\r\n2 \r\nde\r\n000;x\r\n\r\n";
        let (out, _, verdict) = decoded(Framing::Chunked, Encoding::AsItCame, &[chunks]);
        assert_eq!((out.as_slice(), verdict), (&b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"[..], Ok(true)));
    }

    #[test]
    fn a_body_that_breaks_off_never_has_its_last_chunk() {
        for end in 0..CHUNKS.len() {
            let (out, _, verdict) = decoded(Framing::Chunked, Encoding::AsItCame, &[&CHUNKS[..end]]);
            assert_eq!(verdict, Ok(false), "{end}");
            assert!(!out.ends_with(b"0\r\n") && !out.ends_with(b"0\r\n\r\n"), "{:?}", String::from_utf8_lossy(&out));
        }
    }

    #[test]
    fn trailers_are_looked_at_one_by_one() {
        let chunks = b"1\r\na\r\n0\r\nX-Other: 1\r\nx-sum: 2\r\n\r\n";
        let (out, _, verdict) = decoded(Framing::Chunked, Encoding::AsItCame, &[chunks]);
        assert_eq!((out.as_slice(), verdict), (&b"1\r\na\r\n0\r\nx-sum: 2\r\n\r\n"[..], Ok(true)));
        for bad in ["x-sum\r\n", "x-sum : 1\r\n", "x-sum: 1\n", "x-sum: \r1\r\n", "\n", " x: 1\r\n", "x: \0\r\n"] {
            let chunks = format!("1\r\na\r\n0\r\n{bad}\r\n");
            let (_, _, verdict) = decoded(Framing::Chunked, Encoding::AsItCame, &[chunks.as_bytes()]);
            assert_eq!(verdict, Err(BodyError::Trailers), "{bad:?}");
        }
    }

    #[test]
    fn chunks_that_are_not_well_formed_are_refused() {
        let large_extension = format!("1;{}\r\n", "x".repeat(20_000));
        for (chunks, error) in [
            ("\r\n", BodyError::Chunk),
            ("g\r\n", BodyError::Chunk),
            ("-1\r\n", BodyError::Chunk),
            ("0x1\r\n", BodyError::Chunk),
            (" 1\r\n", BodyError::Chunk),
            ("1\na", BodyError::Chunk),
            ("1 1\r\n", BodyError::Chunk),
            ("1;a\nb\r\n", BodyError::Chunk),
            ("1;a\rb\r\n", BodyError::Chunk),
            ("1;\0\r\n", BodyError::Chunk),
            ("1\r\nab\r\n", BodyError::Chunk),
            ("1\r\na\n", BodyError::Chunk),
            ("10000000000000000\r\n", BodyError::Chunk),
            (&large_extension, BodyError::Extensions),
        ] {
            let (_, _, verdict) = decoded(Framing::Chunked, Encoding::AsItCame, &[chunks.as_bytes()]);
            assert_eq!(verdict, Err(error), "{:?}", &chunks[..chunks.len().min(40)]);
        }
    }

    #[test]
    fn what_was_refused_is_never_read_on() {
        let mut decoder = Decoder::new(Framing::Chunked);
        for _ in 0..2 {
            let mut built = Vec::new();
            let verdict = decoder.decode(&mut Out::new(b"1\r\na", &mut built), Encoding::Bare, |_| false);
            let verdict = verdict.and(decoder.decode(&mut Out::new(b"x", &mut built), Encoding::Bare, |_| false));
            assert_eq!(verdict, Err(BodyError::Chunk));
        }
    }

    #[test]
    fn a_length_takes_its_bytes_and_none_behind_them() {
        let mut decoder = Decoder::new(Framing::Length(3));
        let mut built = Vec::new();
        assert_eq!(decoder.decode(&mut Out::new(b"abcGET", &mut built), Encoding::AsItCame, |_| false), Ok(3));
        assert!(decoder.is_done() && decoder.count() == 3);
        assert_eq!(Decoder::new(Framing::Length(3)).end(&mut built, Encoding::AsItCame), Err(BodyError::Incomplete));
    }

    #[test]
    fn a_body_that_ends_with_its_connection_becomes_chunks() {
        let mut decoder = Decoder::new(Framing::UntilClose);
        let mut built = Vec::new();
        assert_eq!(decoder.decode(&mut Out::new(b"to the end", &mut built), Encoding::Chunks, |_| false), Ok(10));
        decoder.end(&mut built, Encoding::Chunks).expect("it ended well");
        assert_eq!(built, b"a\r\nto the end\r\n0\r\n\r\n");
    }
}
