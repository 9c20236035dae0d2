//! A body on its way from one leg to the other: read, checked, written, and never collected.
//!
//! What the other side does not take at once is kept, and nothing more is read before it is gone: so a slow reader
//! slows its writer, and a transfer never holds more than one read ([`super::scratch::INPUT`]).

use std::{
    io,
    task::{Context, Poll, ready},
};

use super::{
    body::{BodyError, Decoder, Encoding, Framing, Out},
    head::Known,
    leg::{Input, Leg, Transport, Unwritten},
};

/// How much is carried before others on the thread have their turn, in bytes: a fraction of a millisecond.
const TURN: u64 = 1024 * 1024;

/// One direction of an exchange.
#[derive(Debug)]
pub struct Transfer {
    decoder: Decoder,
    encoding: Encoding,
    trailers: Trailers,
    pub(super) unwritten: Unwritten,
}

/// Which trailers go on (RFC 9110 §6.5): never those that belong to a head, whoever sends them.
#[derive(Debug)]
pub enum Trailers {
    /// Nobody reads them.
    None,
    /// The reader has said that it takes them.
    All,
    /// Those that the head announced, in the form of its Trailer field.
    Announced(Box<str>),
}

/// Why a transfer ended before its end.
#[derive(Debug, thiserror::Error)]
pub enum Broken {
    /// The sender's connection broke.
    #[error("reading failed: {0}")]
    Reading(#[source] io::Error),
    /// The sender's bytes are no valid body, or end too early.
    #[error(transparent)]
    Body(#[from] BodyError),
    /// The receiver's connection broke.
    #[error("writing failed: {0}")]
    Writing(#[source] io::Error),
}

/// Fields of framing, routing, authentication, control and content (RFC 9110 §6.5.1): servers that put trailers among
/// the fields of the head would believe them. Spelled with underscores they are the same to some.
fn belongs_to_a_head(name: &[u8]) -> bool {
    const FIELDS: [&[u8]; 14] = [
        b"authorization",
        b"cache-control",
        b"content-encoding",
        b"content-range",
        b"content-type",
        b"cookie",
        b"expires",
        b"forwarded",
        b"location",
        b"range",
        b"retry-after",
        b"set-cookie",
        b"vary",
        b"www-authenticate",
    ];
    let as_read = |byte: &u8| if *byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
    let is = |field: &[u8]| name.len() == field.len() && name.iter().map(as_read).eq(field.iter().copied());
    let is_forwarded = name.iter().map(as_read).take(12).eq(*b"x-forwarded-");
    Known::of(name).is_some_and(|known| !known.may_trail()) || is_forwarded || FIELDS.into_iter().any(is)
}

impl Trailers {
    fn pass(&self, name: &[u8]) -> bool {
        !belongs_to_a_head(name)
            && match self {
                Self::None => false,
                Self::All => true,
                Self::Announced(names) => {
                    names.split(',').any(|announced| announced.trim().as_bytes().eq_ignore_ascii_case(name))
                }
            }
    }
}

impl Transfer {
    /// Of a body that is framed so, into this encoding.
    pub fn new(framing: Framing, encoding: Encoding, trailers: Trailers) -> Self {
        Self { decoder: Decoder::new(framing), encoding, trailers, unwritten: Unwritten::default() }
    }

    /// Of nothing, with bytes of ours at most.
    pub fn none() -> Self {
        Self::new(Framing::None, Encoding::AsItCame, Trailers::None)
    }

    /// With what `other` has not written yet in front of it.
    pub(super) fn behind(self, other: &mut Self) -> Self {
        Self { unwritten: std::mem::take(&mut other.unwritten), ..self }
    }

    /// Whether only the end of the connection tells its reader that it is whole.
    pub(super) fn ends_with_connection(&self) -> bool {
        self.encoding == Encoding::Bare && !self.is_read()
    }

    /// Whether all of it was read and taken.
    pub fn is_done(&self) -> bool {
        self.is_read() && self.unwritten.is_empty()
    }

    /// Whether all of it was read.
    pub fn is_read(&self) -> bool {
        self.decoder.is_done()
    }

    /// Whether it waits for the other side to take what was read; otherwise it waits for the sender.
    pub fn is_blocked(&self) -> bool {
        !self.unwritten.is_empty()
    }

    /// How much was read from the one side and taken by the other, in bytes: it moves as long as this grows.
    pub(super) fn moved(&self) -> u64 {
        self.decoder.count() + self.unwritten.written()
    }

    /// How much content was read, in bytes.
    pub fn count(&self) -> u64 {
        self.decoder.count()
    }

    /// Writes the bytes in `built`, which stand before the body, and with them as much of the body as lies at the front
    /// of `input`. Returns how much of the input that was. Where writing fails nothing was taken.
    pub(super) fn begin<W: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        input: &[u8],
        built: &mut Vec<u8>,
        to: &mut Leg<W>,
    ) -> Result<usize, Broken> {
        let before = self.decoder.clone();
        let mut out = Out::new(input, built);
        let decoded = self.decoder.decode(&mut out, self.encoding, |name| self.trailers.pass(name));
        // Whatever is wrong behind it, what stands before goes out.
        if let Err(error) = self.unwritten.write(cx, to, &mut out) {
            self.decoder = before;
            return Err(Broken::Writing(error));
        }
        Ok(decoded?)
    }

    /// Carries until there is nothing to carry; ready at the end of the body, when all of it was taken.
    pub fn poll<R: Transport, W: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Leg<R>,
        to: &mut Leg<W>,
    ) -> Poll<Result<(), Broken>> {
        let before = self.decoder.count();
        loop {
            ready!(self.unwritten.poll_flush(cx, to)).map_err(Broken::Writing)?;
            if self.decoder.count() - before > TURN {
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            if self.decoder.is_done() {
                return Poll::Ready(Ok(()));
            }
            if from.has_read_ahead() {
                from.look(|input, built| split(self.begin(cx, input, built, to)))?;
                continue;
            }
            let read = ready!(from.poll_read(cx, |cx, input, built| split(self.begin(cx, input, built, to))));
            match read.map_err(Broken::Reading)? {
                Input::Bytes(carried) => carried?,
                Input::End => {
                    let mut end = Vec::new();
                    self.decoder.end(&mut end, self.encoding)?;
                    self.unwritten.write(cx, to, &mut Out::new(&[], &mut end)).map_err(Broken::Writing)?;
                }
            }
        }
    }

    /// Reads the next piece of the body and shows its content to `sink`, which passes on nothing.
    pub(super) fn poll_piece<R: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        from: &mut Leg<R>,
        mut sink: impl FnMut(&[u8]),
    ) -> Poll<Result<(), Broken>> {
        let decoder = &mut self.decoder;
        let mut content = |input: &[u8], built: &mut Vec<u8>| {
            let mut out = Out::new(input, built);
            let decoded = decoder.decode(&mut out, Encoding::Bare, |_| false);
            let (built, run) = out.parts();
            sink(built);
            sink(run);
            split(decoded)
        };
        if from.has_read_ahead() {
            return Poll::Ready(from.look(content).map_err(Broken::from));
        }
        Poll::Ready(match ready!(from.poll_read(cx, |_, input, built| content(input, built))) {
            Ok(Input::Bytes(read)) => read.map_err(Broken::from),
            Ok(Input::End) => Err(BodyError::Incomplete.into()),
            Err(error) => Err(Broken::Reading(error)),
        })
    }
}

/// How much was taken, apart from whether that went well.
pub(super) fn split<E>(taken: Result<usize, E>) -> (usize, Result<(), E>) {
    match taken {
        Ok(taken) => (taken, Ok(())),
        Err(error) => (0, Err(error)),
    }
}
