//! The chunked coding (RFC 9112 §7.1): read strictly, and passed on in its canonical form.
//!
//! Canonical are a size without leading zeros and without an extension, CRLF at the end of every line, and trailers
//! that were looked at one by one. Bytes that are so already stay where they are; a size line that is not, or that
//! came in two pieces, is written anew. The last chunk is held back until all that follows it was read: a body that
//! breaks off in its trailers must not look whole.

use std::ops::Range;

use memchr::{memchr, memrchr};

use super::{
    body::{BodyError, Out},
    write,
};

/// Chunk extensions of one body, in bytes: nobody uses them, and endless ones are an attack (CVE-2023-39326).
const MAX_EXTENSIONS: usize = 16 * 1024;

/// The trailer section of one body, in bytes.
const MAX_TRAILERS: usize = 16 * 1024;

/// The most trailer fields.
const MAX_TRAILER_FIELDS: usize = 100;

const LAST: &[u8] = b"0\r\n";

/// The reader of one chunked body.
#[derive(Debug, Clone, Default)]
pub(super) struct Chunked {
    state: State,
    extensions: usize,
    /// The trailer section as far as it came; where there is none, nothing is ever kept.
    trailers: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// In a size line.
    Size(Line),
    /// In a chunk, with so much of it to come.
    Data(u64),
    /// Behind a chunk.
    DataCr,
    DataLf,
    /// Behind the last chunk.
    Trailers,
    Done,
}

impl Default for State {
    fn default() -> Self {
        Self::Size(Line::default())
    }
}

/// A size line as far as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Line {
    size: u64,
    digits: u8,
    place: Place,
    /// Whether it can stay as it is.
    canonical: Canonical,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Canonical {
    #[default]
    Yes,
    No,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Place {
    #[default]
    Digits,
    /// Behind the digits: some programs pad their sizes with spaces, which Go and nginx take, too.
    Space,
    Extension,
    Lf,
}

impl Chunked {
    pub(super) fn is_done(&self) -> bool {
        self.state == State::Done
    }

    /// The trailer section, where the framing was not passed on.
    pub(super) fn into_trailers(self) -> Vec<u8> {
        self.trailers
    }

    /// Reads on in the input; passes the framing on too where `framed`. Returns how much of the input was taken.
    pub(super) fn decode(
        &mut self,
        out: &mut Out<'_, '_>,
        framed: bool,
        count: &mut u64,
        trailer: impl Fn(&[u8]) -> bool,
    ) -> Result<usize, BodyError> {
        let input = out.input();
        let mut at = 0;
        let mut line_from = None;
        // Where the last chunk began, if that was in this input and can stay as it is.
        let mut last: Option<Range<usize>> = None;
        while at < input.len() {
            match &mut self.state {
                State::Done => break,
                State::Size(line) => {
                    if line.digits == 0 {
                        line_from = Some(at);
                    }
                    let extension = usize::from(line.place == Place::Extension);
                    let ended = line.next(input[at])?;
                    at += 1;
                    self.extensions += extension;
                    if self.extensions > MAX_EXTENSIONS {
                        return Err(BodyError::Extensions);
                    }
                    if ended {
                        let line = *line;
                        let whole = line_from.take().filter(|_| line.canonical == Canonical::Yes);
                        if line.size == 0 {
                            last = whole.map(|from| from..at);
                            self.state = State::Trailers;
                        } else {
                            if framed {
                                match whole {
                                    Some(from) => out.keep(from..at),
                                    None => write::chunk_size(out.built(), line.size),
                                }
                            }
                            self.state = State::Data(line.size);
                        }
                    }
                }
                State::Data(left) => {
                    let available = input.len() - at;
                    let taken = usize::try_from(*left).map_or(available, |left| left.min(available));
                    out.keep(at..at + taken);
                    *count += taken as u64;
                    at += taken;
                    *left -= taken as u64;
                    if *left == 0 {
                        self.state = State::DataCr;
                    }
                }
                State::DataCr | State::DataLf => {
                    let (expected, next) =
                        if self.state == State::DataCr { (b'\r', State::DataLf) } else { (b'\n', State::default()) };
                    if input[at] != expected {
                        return Err(BodyError::Chunk);
                    }
                    if framed {
                        out.keep(at..at + 1);
                    }
                    at += 1;
                    self.state = next;
                }
                State::Trailers => {
                    if self.trailers.is_empty() && input[at..].starts_with(b"\r\n") {
                        at += 2;
                        self.state = State::Done;
                        if framed {
                            match last.take() {
                                Some(last) => out.keep(last.start..at),
                                None => out.add(b"0\r\n\r\n"),
                            }
                        }
                    } else {
                        at += self.take_trailers(&input[at..])?;
                        if self.trailers_end() {
                            self.state = State::Done;
                            pass_on_trailers(&self.trailers, framed, out, &trailer)?;
                            if framed {
                                self.trailers = Vec::new();
                            }
                        }
                    }
                }
            }
        }
        Ok(at)
    }

    /// Keeps what belongs to the trailer section.
    fn take_trailers(&mut self, input: &[u8]) -> Result<usize, BodyError> {
        let end = memchr(b'\n', input).map_or(input.len(), |at| at + 1);
        self.trailers.extend_from_slice(&input[..end]);
        let line_from =
            memrchr(b'\n', self.trailers.split_last().map_or(&[], |(_, before)| before)).map_or(0, |at| at + 1);
        let line = &self.trailers[line_from..];
        // A line ends with CRLF, and has no CR before.
        let is_well = match line {
            [before @ .., b'\r', b'\n'] => memchr(b'\r', before).is_none(),
            [.., b'\n'] => false,
            _ => true,
        };
        if !is_well || self.trailers.len() > MAX_TRAILERS {
            return Err(BodyError::Trailers);
        }
        Ok(end)
    }

    fn trailers_end(&self) -> bool {
        self.trailers == b"\r\n" || self.trailers.ends_with(b"\r\n\r\n")
    }
}

impl Line {
    /// Takes a byte; returns whether the line ended with it.
    fn next(&mut self, byte: u8) -> Result<bool, BodyError> {
        match (self.place, byte) {
            (Place::Digits, byte) if byte.is_ascii_hexdigit() => {
                let digit = u64::from(char::from(byte).to_digit(16).unwrap_or_default());
                if self.digits > 0 && self.size == 0 {
                    // It began with a zero.
                    self.canonical = Canonical::No;
                }
                self.size = self.size.checked_mul(16).ok_or(BodyError::Chunk)? | digit;
                self.digits = self.digits.checked_add(1).ok_or(BodyError::Chunk)?;
            }
            (Place::Digits, _) if self.digits == 0 => return Err(BodyError::Chunk),
            (_, b'\r') if self.place != Place::Lf => self.place = Place::Lf,
            (Place::Digits | Place::Space, b';') => {
                self.place = Place::Extension;
                self.canonical = Canonical::No;
            }
            (Place::Digits | Place::Space, b' ' | b'\t') => {
                self.place = Place::Space;
                self.canonical = Canonical::No;
            }
            (Place::Extension, b'\t' | b' '..=b'~' | 0x80..) => {}
            (Place::Lf, b'\n') => return Ok(true),
            _ => return Err(BodyError::Chunk),
        }
        Ok(false)
    }
}

/// Checks a whole trailer section, and writes the last chunk and those fields that may go on.
fn pass_on_trailers(
    section: &[u8],
    framed: bool,
    out: &mut Out<'_, '_>,
    trailer: impl Fn(&[u8]) -> bool,
) -> Result<(), BodyError> {
    let mut fields = [httparse::EMPTY_HEADER; MAX_TRAILER_FIELDS];
    let parsed = httparse::parse_headers(section, &mut fields).map_err(|_| BodyError::Trailers)?;
    let httparse::Status::Complete((_, fields)) = parsed else { return Err(BodyError::Trailers) };
    if !framed {
        return Ok(());
    }
    out.add(LAST);
    for field in fields.iter().filter(|field| trailer(field.name.as_bytes())) {
        for part in [field.name.as_bytes(), b": ", field.value, b"\r\n"] {
            out.add(part);
        }
    }
    out.add(b"\r\n");
    Ok(())
}
