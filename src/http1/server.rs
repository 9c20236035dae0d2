//! The side towards a client: a connection reads a request, serves it, and only then reads the next.
//!
//! [`Connection::poll_request`] needs the whole connection, and [`Serving`] borrows it, so there is no reading the next
//! head while a body or an answer is under way. A `Serving` that is dropped before [`Serving::finish`] leaves a
//! connection of which nothing more is read.

use std::{
    io,
    task::{Context, Poll, ready},
};

use super::{
    body::{Encoding, Framing, Out},
    head::{HeadError, Known, Read, Request, Version, is_worth_reading},
    leg::{Input, Leg, Transport, Watch},
    rewound::Rewound,
    transfer::{Broken, Trailers, Transfer},
    write,
};

/// A connection of a client.
#[derive(Debug)]
pub struct Connection<S> {
    leg: Leg<S>,
    /// How much of an unfinished head was tried in vain.
    tried: u32,
    goes_on: GoesOn,
    /// Whether it has said nothing yet.
    is_new: bool,
}

/// How a connection goes on after an exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GoesOn {
    /// With the next request.
    Yes,
    /// It is closed: all that was said on it was whole.
    No,
    /// It is closed, but its client may still be sending (RFC 9112 §9.6).
    AfterReading,
    /// It broke, or an answer on it broke off.
    Broken,
    /// The same, and an orderly close would look like the answer's end.
    Reset,
}

/// What a connection may begin with that is no request of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Speech {
    /// A record of a handshake (RFC 8446 §5.1).
    Tls,
    /// The preface of HTTP/2 (RFC 9113 §3.4).
    Http2,
}

impl Speech {
    /// What `input` begins with, as far as that is there.
    fn of(input: &[u8]) -> Option<Self> {
        const HANDSHAKE: u8 = 22;
        const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
        // As much of it as no request of HTTP/1 begins with.
        const ENOUGH: usize = 12;
        let common = input.len().min(PREFACE.len());
        if input.first() == Some(&HANDSHAKE) {
            Some(Self::Tls)
        } else {
            (common >= ENOUGH && input[..common] == PREFACE[..common]).then_some(Self::Http2)
        }
    }
}

/// What came on a connection.
#[derive(Debug)]
pub enum Came {
    /// A request.
    Request(Request),
    /// Something else; where the next request would begin nobody knows.
    Nonsense(HeadError),
    /// Another language, from the first byte on; nothing of it was taken.
    Foreign(Speech),
    /// Its end.
    End,
}

impl<S: Transport> Connection<S> {
    /// A connection on which nothing was read yet.
    pub fn new(stream: S) -> Self {
        Self { leg: Leg::new(stream), tried: 0, goes_on: GoesOn::Yes, is_new: true }
    }

    /// Reads the next head.
    pub fn poll_request(&mut self, cx: &mut Context<'_>) -> Poll<Came> {
        if self.goes_on != GoesOn::Yes {
            return Poll::Ready(Came::End);
        }
        let mut tried = self.tried as usize;
        let is_new = self.is_new;
        // Requests that came together with an earlier one.
        if tried == 0
            && self.leg.has_read_ahead()
            && let Some(came) = self.leg.look(|input, _| read_head(input, &mut tried, is_new))
        {
            return Poll::Ready(self.came(came));
        }
        loop {
            let read = self.leg.poll_read(cx, |_, input, _| read_head(input, &mut tried, is_new));
            self.tried = u32::try_from(tried).unwrap_or(u32::MAX);
            match ready!(read) {
                Ok(Input::Bytes(Some(came))) => return Poll::Ready(self.came(came)),
                Ok(Input::Bytes(None)) => {}
                Ok(Input::End) | Err(_) => return Poll::Ready(Came::End),
            }
        }
    }

    fn came(&mut self, came: Came) -> Came {
        self.tried = 0;
        self.is_new = false;
        // Until the exchange is finished.
        self.goes_on = GoesOn::Broken;
        came
    }

    /// Whether a part of a head has come.
    pub fn is_in_head(&self) -> bool {
        self.leg.has_read_ahead()
    }

    /// Serves a request that came, or what could not be read as one.
    pub fn serve(&mut self, request: Option<&Request>) -> Serving<'_, S> {
        let nonsense = Serving {
            leg: &mut self.leg,
            goes_on: &mut self.goes_on,
            up: Transfer::none(),
            down: Transfer::none(),
            version: Version::Http11,
            to_head: false,
            takes_trailers: false,
            answered: false,
            owed: Owed::Nothing,
            willing: false,
            unread: true,
            waits_for_continue: false,
            told_to_continue: false,
        };
        let Some(request) = request else { return nonsense };
        Serving {
            up: Transfer::new(request.framing(), Encoding::AsItCame, announced(request)),
            version: request.version(),
            to_head: request.method() == "HEAD",
            takes_trailers: nonsense.leg.takes_trailers() || request.takes_trailers(),
            willing: request.keeps_alive(),
            unread: false,
            waits_for_continue: request.expects_continue(),
            ..nonsense
        }
    }

    /// How it goes on.
    pub fn goes_on(&self) -> GoesOn {
        self.goes_on
    }

    /// The stream, and what was read of a language that is not this one.
    pub fn into_foreign(self) -> Rewound<S> {
        let (stream, early) = self.leg.into_bare();
        Rewound::new(early, stream)
    }

    /// The connection, to close it in the way that [`Self::goes_on`] asks for.
    pub fn into_leg(self) -> Leg<S> {
        self.leg
    }
}

/// Those trailers of a request that its head announces.
fn announced(request: &Request) -> Trailers {
    if request.framing() != Framing::Chunked || !request.has(Known::Trailer) {
        return Trailers::None;
    }
    let names: Vec<_> = request.members(Known::Trailer).collect();
    Trailers::Announced(names.join(",").into())
}

/// A head from the front of `input`, if it is all there. `tried` bytes of it were tried before: a head that comes byte by
/// byte is not read anew with each of them.
fn read_head(input: &[u8], tried: &mut usize, is_new: bool) -> (usize, Option<Came>) {
    // Empty lines before a request mean nothing (RFC 9112 §2.2).
    let mut head = input;
    while let [b'\n', rest @ ..] | [b'\r', b'\n', rest @ ..] = head {
        head = rest;
    }
    let empty = input.len() - head.len();
    if head.is_empty() || !is_worth_reading(head, *tried) {
        return (empty, None);
    }
    match Request::read(head) {
        Ok(Read::Whole(request, length)) => (empty + length, Some(Came::Request(request))),
        Ok(Read::Partial) => {
            *tried = head.len();
            (empty, None)
        }
        Err(error) => match Speech::of(input).filter(|_| is_new) {
            Some(speech) => (0, Some(Came::Foreign(speech))),
            None => (input.len(), Some(Came::Nonsense(error))),
        },
    }
}

/// A request in hand: its body comes in, its answer goes out.
#[derive(Debug)]
pub struct Serving<'c, S> {
    pub(super) leg: &'c mut Leg<S>,
    goes_on: &'c mut GoesOn,
    /// The body of the request, on its way to whoever wants it.
    pub(super) up: Transfer,
    /// The answer.
    pub(super) down: Transfer,
    pub(super) version: Version,
    pub(super) to_head: bool,
    pub(super) takes_trailers: bool,
    /// Whether the head of an answer was written.
    pub(super) answered: bool,
    owed: Owed,
    /// Whether both of us want another request on this connection.
    willing: bool,
    /// Whether what came could not be read as a request, and so nothing behind it.
    unread: bool,
    pub(super) waits_for_continue: bool,
    /// Whether we told the client to go on, before the program did.
    pub(super) told_to_continue: bool,
}

/// How the body of an answer of our own is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Body {
    /// There is none, whatever the fields say.
    None,
    /// All of it comes with the head.
    Whole(Length),
    /// It comes piece by piece, and with an end.
    Pieces(Length),
}

/// Who knows how long a body is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// The fields tell it.
    Told,
    /// They do not.
    Untold,
}

/// What an answer of our own lacks as long as its end was not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owed {
    Nothing,
    Pieces,
    /// The same, and only the end of the connection tells the client that it has all of them.
    PiecesUntilClose,
}

impl<S: Transport> Serving<'_, S> {
    /// The connection ends with this exchange.
    pub fn close(&mut self) {
        self.willing = false;
    }

    /// Whether the client waits for a word of ours before it sends the body.
    pub fn waits_for_continue(&self) -> bool {
        self.waits_for_continue
    }

    /// Whether the request's body was read to its end.
    pub fn is_read(&self) -> bool {
        self.up.is_read()
    }

    /// Whether the head of an answer is on its way already.
    pub fn is_answered(&self) -> bool {
        self.answered
    }

    /// Whether the answer is to a HEAD, and has no body whatever its fields say.
    pub fn is_answer_to_head(&self) -> bool {
        self.to_head
    }

    /// Whether the client is still there.
    pub fn watch(&mut self, cx: &mut Context<'_>) -> Watch {
        self.leg.watch(cx)
    }

    /// Whether the connection can go on behind the answer that is about to be written.
    pub(super) fn will_go_on(&self) -> bool {
        self.willing && !self.waits_for_continue
    }

    /// Ends a head that was written by hand: framing, connection, empty line.
    fn end_head(&mut self, out: &mut Vec<u8>, body: Body, first: &[u8]) -> Encoding {
        let mut encoding = Encoding::Bare;
        match body {
            Body::Pieces(Length::Untold) if self.version == Version::Http11 => {
                write::field(out, b"transfer-encoding", b"chunked");
                encoding = Encoding::Chunks;
                self.owed = Owed::Pieces;
            }
            Body::Pieces(Length::Untold) => {
                self.willing = false;
                self.owed = Owed::PiecesUntilClose;
            }
            Body::Pieces(Length::Told) => self.owed = Owed::Pieces,
            Body::Whole(Length::Untold) => write::number_field(out, b"content-length", first.len() as u64),
            Body::Whole(Length::Told) | Body::None => {}
        }
        if self.to_head {
            self.owed = Owed::Nothing;
        }
        write::connection(out, self.version, self.will_go_on());
        write::end(out);
        self.answered = true;
        encoding
    }

    /// Begins an answer of our own: status line and fields are in `head`. The body may follow at once, in one write with
    /// them, and more of it by [`Self::send`].
    pub fn begin(
        &mut self,
        cx: &mut Context<'_>,
        head: &mut Vec<u8>,
        body: Body,
        first: &[u8],
    ) -> io::Result<Encoding> {
        let encoding = self.end_head(head, body, first);
        let first = if self.to_head || body == Body::None { &[] } else { first };
        let mut out = Out::new(first, head);
        out.keep(0..first.len());
        self.down.unwritten.write(cx, self.leg, &mut out)?;
        Ok(encoding)
    }

    /// Writes another piece; none ends the body, and an answer in pieces is whole only then. Call it when
    /// [`Self::poll_flush`] is ready.
    pub fn send(&mut self, cx: &mut Context<'_>, encoding: Encoding, piece: Option<&[u8]>) -> io::Result<()> {
        let mut framing = Vec::new();
        let bytes = piece.unwrap_or_default();
        if piece.is_none() {
            self.owed = Owed::Nothing;
        }
        let mut out = Out::new(bytes, &mut framing);
        match (encoding, piece) {
            (Encoding::Chunks, None) => out.add(b"0\r\n\r\n"),
            (Encoding::Chunks, Some([])) => {}
            (Encoding::Chunks, Some(bytes)) => {
                write::chunk_size(out.built(), bytes.len() as u64);
                out.keep(0..bytes.len());
                out.add(b"\r\n");
            }
            (Encoding::AsItCame | Encoding::Bare, _) => out.keep(0..bytes.len()),
        }
        self.down.unwritten.write(cx, self.leg, &mut out)
    }

    /// Ready when the client has taken all that was written.
    pub fn poll_flush(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.down.unwritten.poll_flush(cx, self.leg)
    }

    /// Reads the next piece of the request's body and shows its content to `sink`, which passes on nothing.
    pub fn poll_piece(&mut self, cx: &mut Context<'_>, sink: impl FnMut(&[u8])) -> Poll<Result<(), Broken>> {
        self.up.poll_piece(cx, self.leg, sink)
    }

    /// How much of the request's body was read, in bytes.
    pub fn read(&self) -> u64 {
        self.up.count()
    }

    /// How much of the answer the client has taken, in bytes.
    pub fn taken(&self) -> u64 {
        self.down.unwritten.written()
    }

    /// Ends the exchange. The connection takes a next request only if this one was read, and answered, to its end.
    pub fn finish(self) {
        let breaks_off = !self.answered || !self.down.is_done() || self.owed != Owed::Nothing;
        *self.goes_on = if breaks_off {
            let looks_whole = self.down.ends_with_connection() || self.owed == Owed::PiecesUntilClose;
            if looks_whole { GoesOn::Reset } else { GoesOn::Broken }
        } else if self.unread || !self.is_read() {
            GoesOn::AfterReading
        } else if self.will_go_on() {
            GoesOn::Yes
        } else if self.leg.has_read_ahead() {
            GoesOn::AfterReading
        } else {
            GoesOn::No
        };
    }
}
