//! The program behind the proxy: right where it is asked to be, and wrong in every way that programs are.
//!
//! What it does follows from the request alone, so that a client knows what it may see. What must never come to a
//! program is written down as a complaint.

use std::{
    fmt::Display,
    net::TcpListener,
    sync::{Arc, Mutex},
    thread,
};

use super::wire::{Answer, Broken, Framing, Head, Wire};
use crate::chance::Chance;

/// Complaints that are kept; one is enough to fail.
const MOST_COMPLAINTS: usize = 20;

/// What must not have happened.
#[derive(Clone, Default)]
pub(super) struct Complaints(Arc<Mutex<Vec<String>>>);

impl Complaints {
    pub(super) fn add(&self, complaint: impl Display) {
        let mut complaints = self.0.lock().unwrap();
        if complaints.len() < MOST_COMPLAINTS {
            complaints.push(complaint.to_string());
        }
    }

    pub(super) fn all(&self) -> Vec<String> {
        self.0.lock().unwrap().clone()
    }
}

/// What becomes of a connection behind an answer.
enum After {
    Keep,
    Close,
    Reset,
    /// Nobody may ask on it again.
    Spoiled,
}

/// Starts it on a free port and tells the port. It ends with the test.
pub(super) fn start(complaints: &Complaints) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let complaints = complaints.clone();
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let complaints = complaints.clone();
            thread::spawn(move || {
                if let Err(Broken::Malformed(what)) = serve(Wire::new(stream)) {
                    complaints.add(format_args!("to the program came {what}"));
                }
            });
        }
    });
    port
}

fn serve(mut wire: Wire) -> Result<(), Broken> {
    while let Some(head) = wire.head()? {
        match answer(&mut wire, &head)? {
            After::Keep => {}
            After::Close => return Ok(()),
            After::Reset => {
                wire.reset();
                return Ok(());
            }
            After::Spoiled => {
                return match wire.some(1)?[..] {
                    [] => Ok(()),
                    _ => Err(head.malformed("another request on the connection of this one, which was spoiled")),
                };
            }
        }
    }
    Ok(())
}

fn answer(wire: &mut Wire, head: &Head) -> Result<After, Broken> {
    let framing = valid_framing(head)?;
    let path: Vec<_> = head.part(1).split(['/', '?']).collect();
    let (kind, name) = (path.get(2).copied().unwrap_or_default(), path.get(3).copied().unwrap_or_default());
    // A path that was mutated has a number all the same.
    let digits = name.bytes().filter(u8::is_ascii_digit).take(9);
    let seed = digits.fold(0, |seed, digit| seed * 10 + u64::from(digit - b'0'));
    if kind == "fault" {
        return Fault::of(seed).show(wire, head, framing, seed);
    }
    let body = whole_body(wire, head, framing)?;
    match kind {
        "chunks" => wire.send(chunked(&text(seed, 3_000), seed))?,
        "long" => wire.send(sized(&text(seed, LONG)))?,
        "hints" => {
            wire.send("HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n")?;
            wire.send(sized(&text(seed, 100)))?;
        }
        "echo" if framing == Framing::Chunked => wire.send(chunked(&body, seed))?,
        "echo" => wire.send(sized(&body))?,
        "tunnel" if head.field("upgrade") == Some("echo") => {
            wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")?;
            loop {
                match &wire.some(4096)?[..] {
                    [] => return Ok(After::Close),
                    bytes => wire.send(bytes)?,
                }
            }
        }
        // The length without the body.
        _ if head.part(0) == "HEAD" => wire.send(head_of(SMALL))?,
        _ => wire.send(sized(&text(seed, SMALL)))?,
    }
    Ok(After::Keep)
}

/// Bytes of a small answer.
pub(super) const SMALL: usize = 40;

/// Bytes of a long answer.
pub(super) const LONG: usize = 200_000;

/// The most that the program takes for an upload, in bytes.
const MOST: u64 = 1024 * 1024;

/// What every request must be that comes through the proxy. What a client hid in another one has no mark of ours.
fn valid_framing(head: &Head) -> Result<Framing, Broken> {
    let framing = head.framing()?;
    if head.start.split(' ').count() != 3 || head.part(2) != "HTTP/1.1" {
        return Err(head.malformed("a request line that is none"));
    }
    if head.values("host").count() != 1 {
        return Err(head.malformed("a request without its one host"));
    }
    if !head.values("via").any(|via| via.contains("portolan")) || head.values("x-forwarded-for").count() != 1 {
        return Err(head.malformed("a request without the proxy's mark"));
    }
    match framing {
        // Nobody waits for what a client with a mutated length will never send.
        Framing::Length(MOST..) => Err(Broken::Cut),
        framing => Ok(framing),
    }
}

fn whole_body(wire: &mut Wire, head: &Head, framing: Framing) -> Result<Vec<u8>, Broken> {
    if head.field("expect").is_some() {
        wire.send("HTTP/1.1 100 Continue\r\n\r\n")?;
    }
    wire.body(framing)
}

/// What belongs to a number, and to no other.
pub(super) fn text(seed: u64, length: usize) -> Vec<u8> {
    format!("{seed} ").into_bytes().into_iter().cycle().take(length).collect()
}

fn head_of(length: usize) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-length: {length}\r\n\r\n")
}

fn sized(body: &[u8]) -> Vec<u8> {
    [head_of(body.len()).as_bytes(), body].concat()
}

const CHUNKED: &[u8] = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n";

fn chunked(body: &[u8], seed: u64) -> Vec<u8> {
    [CHUNKED, &chunks(body, seed), b"0\r\n\r\n"].concat()
}

/// In pieces of any size, without the last chunk.
pub(super) fn chunks(body: &[u8], seed: u64) -> Vec<u8> {
    let mut chance = Chance::new(seed);
    let (mut chunks, mut rest) = (Vec::new(), body);
    while !rest.is_empty() {
        let (piece, later) = rest.split_at(rest.len().min(1 + chance.below(2000)));
        chunks.extend([format!("{:x}\r\n", piece.len()).as_bytes(), piece, b"\r\n"].concat());
        rest = later;
    }
    chunks
}

/// One way of being wrong, or of being right in a way that is seldom met.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    ClosedFirst,
    ResetFirst,
    CutHead,
    CutBody,
    CutChunks,
    ResetBody,
    Garbage,
    Hints,
    MoreThanSaid,
    Twice,
    BothFramings,
    TwoLengths,
    UnknownCoding,
    BadHead,
    BadChunk,
    LongHead,
    ManyFields,
    UnaskedUpgrade,
    BodyWhereNoneIs,
    BodyForHead,
    Dribble,
    BeforeTheBody,
    InsteadOfTheBody,
    UntilClose,
    Trailers,
    ClosedBehind,
    ResetBehind,
    Silent,
}

impl Fault {
    const ALL: [Self; 28] = [
        Self::ClosedFirst,
        Self::ResetFirst,
        Self::CutHead,
        Self::CutBody,
        Self::CutChunks,
        Self::ResetBody,
        Self::Garbage,
        Self::Hints,
        Self::MoreThanSaid,
        Self::Twice,
        Self::BothFramings,
        Self::TwoLengths,
        Self::UnknownCoding,
        Self::BadHead,
        Self::BadChunk,
        Self::LongHead,
        Self::ManyFields,
        Self::UnaskedUpgrade,
        Self::BodyWhereNoneIs,
        Self::BodyForHead,
        Self::Dribble,
        Self::BeforeTheBody,
        Self::InsteadOfTheBody,
        Self::UntilClose,
        Self::Trailers,
        Self::ClosedBehind,
        Self::ResetBehind,
        Self::Silent,
    ];

    pub(super) fn of(seed: u64) -> Self {
        let mut chance = Chance::new(seed);
        match *chance.of(&Self::ALL) {
            // It takes as long as the proxy is patient.
            Self::Silent if !chance.one_in(10) => Self::Dribble,
            fault => fault,
        }
    }

    /// Shows it, on a connection from which the head of a request was read.
    fn show(self, wire: &mut Wire, head: &Head, framing: Framing, seed: u64) -> Result<After, Broken> {
        let mut chance = Chance::new(!seed);
        let text = Self::text(seed);
        let whole = sized(&text);
        if !matches!(self, Self::BeforeTheBody | Self::InsteadOfTheBody) {
            wire.body(framing)?;
        }
        match self {
            Self::ClosedFirst => Ok(After::Close),
            Self::ResetFirst => Ok(After::Reset),
            Self::CutHead => {
                let head = head_of(SMALL);
                wire.send(&head[..1 + chance.below(head.len() - 3)])?;
                Ok(chance.end())
            }
            Self::CutBody => {
                wire.send(&whole[..whole.len() - 1 - chance.below(text.len())])?;
                Ok(chance.end())
            }
            Self::CutChunks => {
                wire.send([CHUNKED, &chunks(&text, seed)].concat())?;
                Ok(chance.end())
            }
            Self::ResetBody => {
                wire.send([b"HTTP/1.1 200 OK\r\n\r\n", &text[..]].concat())?;
                Ok(After::Reset)
            }
            Self::Garbage => {
                let noise = (0..1 + chance.below(2_000)).map(|_| chance.byte());
                wire.send([b"\x16\x03".to_vec(), noise.collect()].concat())?;
                Ok(if chance.one_in(2) { After::Spoiled } else { chance.end() })
            }
            Self::Hints => {
                let hints = "HTTP/1.1 103 Early Hints\r\nlink: </a.css>; rel=preload\r\n\r\n".repeat(Self::hints(seed));
                wire.send([hints.as_bytes(), &whole].concat())?;
                // The proxy may have had enough of it.
                Ok(if Self::hints(seed) > MOST_INTERIM { After::Spoiled } else { After::Keep })
            }
            Self::MoreThanSaid => {
                wire.send([&whole[..], b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"].concat())?;
                Ok(After::Spoiled)
            }
            Self::Twice => {
                wire.send(whole.repeat(2))?;
                Ok(After::Spoiled)
            }
            Self::BothFramings => {
                let head = "HTTP/1.1 200 OK\r\ncontent-length: 3\r\ntransfer-encoding: chunked\r\n\r\n";
                wire.send([head.as_bytes(), &chunks(&text, seed), b"0\r\n\r\n"].concat())?;
                Ok(After::Keep)
            }
            Self::TwoLengths => {
                wire.send("HTTP/1.1 200 OK\r\ncontent-length: 3\r\ncontent-length: 4\r\n\r\nabcd")?;
                Ok(After::Spoiled)
            }
            Self::UnknownCoding => {
                wire.send("HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n0\r\n\r\n")?;
                Ok(After::Spoiled)
            }
            Self::BadHead => {
                wire.send(format!("{}\r\ncontent-length: 0\r\n\r\n", chance.of(&BAD_HEADS)))?;
                Ok(After::Spoiled)
            }
            Self::BadChunk => {
                wire.send([CHUNKED, &chunks(&text, seed), chance.of(&BAD_CHUNKS).as_bytes()].concat())?;
                Ok(After::Spoiled)
            }
            Self::LongHead => {
                let long = "x".repeat(1_000_000);
                wire.send(format!("HTTP/1.1 200 OK\r\nx-long: {long}\r\ncontent-length: 0\r\n\r\n"))?;
                Ok(After::Spoiled)
            }
            Self::ManyFields => {
                let many = "x-many: 1\r\n".repeat(500);
                wire.send(format!("HTTP/1.1 200 OK\r\n{many}content-length: 0\r\n\r\n"))?;
                Ok(After::Spoiled)
            }
            Self::UnaskedUpgrade => {
                wire.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\npoison")?;
                Ok(After::Spoiled)
            }
            Self::BodyWhereNoneIs => {
                let status = chance.of(&["204 No Content", "304 Not Modified"]);
                wire.send(format!("HTTP/1.1 {status}\r\n\r\nHTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\npoison"))?;
                Ok(After::Spoiled)
            }
            Self::BodyForHead => {
                wire.send(&whole)?;
                // A mutant may have asked for it otherwise.
                Ok(if head.part(0) == "HEAD" { After::Spoiled } else { After::Keep })
            }
            Self::Dribble => {
                let whole = if chance.one_in(2) { chunked(&text, seed) } else { whole };
                wire.dribble(&whole, &mut chance)?;
                Ok(After::Keep)
            }
            Self::BeforeTheBody => {
                wire.send(&whole)?;
                wire.body(framing)?;
                Ok(After::Keep)
            }
            Self::InsteadOfTheBody => {
                wire.send(&whole)?;
                Ok(After::Close)
            }
            Self::UntilClose => {
                wire.send([b"HTTP/1.1 200 OK\r\n\r\n", &text[..]].concat())?;
                Ok(After::Close)
            }
            Self::Trailers => {
                wire.send([CHUNKED, &chunks(&text, seed), b"0\r\nx-sum: 1\r\nX-Sum: 2\r\n\r\n"].concat())?;
                Ok(After::Keep)
            }
            Self::ClosedBehind => {
                wire.send(&whole)?;
                Ok(After::Close)
            }
            Self::ResetBehind => {
                wire.send(&whole)?;
                Ok(After::Reset)
            }
            Self::Silent => Ok(After::Spoiled),
        }
    }

    /// What it has to say, where it has.
    fn text(seed: u64) -> Vec<u8> {
        text(seed, SMALL + Chance::new(seed).below(2_000))
    }

    /// How many interim answers come before the final one.
    fn hints(seed: u64) -> usize {
        Chance::new(seed).below(2 * MOST_INTERIM)
    }

    /// The method that it is shown to, if not to any.
    pub(super) fn method(self) -> Option<&'static str> {
        (self == Self::BodyForHead).then_some("HEAD")
    }

    /// Whether that is all of what it has to say.
    pub(super) fn is_whole(self, seed: u64, answer: &Answer) -> bool {
        let hints = if self == Self::Hints { Self::hints(seed) } else { 0 };
        let says_nothing = matches!(self, Self::BodyWhereNoneIs | Self::BodyForHead);
        let text = if says_nothing { Vec::new() } else { Self::text(seed) };
        answer.interim == hints && answer.body == text
    }

    /// Whether a client may see that: a body as a whole that is none least of all.
    pub(super) fn may_be(self, seed: u64, seen: Seen) -> bool {
        match self {
            Self::Hints if Self::hints(seed) > MOST_INTERIM => seen == Seen::Refusal,
            Self::CutBody | Self::CutChunks | Self::ResetBody | Self::BadChunk => seen != Seen::Whole,
            Self::BothFramings => seen != Seen::Cut,
            // The reset that a close with bytes unread becomes may have been faster.
            Self::InsteadOfTheBody => true,
            Self::ClosedFirst
            | Self::ResetFirst
            | Self::CutHead
            | Self::Garbage
            | Self::TwoLengths
            | Self::UnknownCoding
            | Self::BadHead
            | Self::LongHead
            | Self::ManyFields
            | Self::UnaskedUpgrade
            | Self::Silent => seen == Seen::Refusal,
            Self::Hints
            | Self::MoreThanSaid
            | Self::Twice
            | Self::BodyWhereNoneIs
            | Self::BodyForHead
            | Self::Dribble
            | Self::BeforeTheBody
            | Self::UntilClose
            | Self::Trailers
            | Self::ClosedBehind
            | Self::ResetBehind => seen == Seen::Whole,
        }
    }
}

/// What a client sees of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Seen {
    /// All of what the program had to say.
    Whole,
    /// A page of the proxy instead.
    Refusal,
    /// The end before the end.
    Cut,
}

/// Interim answers that the proxy passes on in an exchange.
pub(super) const MOST_INTERIM: usize = 32;

/// No start of an answer.
const BAD_HEADS: [&str; 8] = [
    "HTTP/1.1 1000 Too Much",
    "HTTP/1.1 20 Too Little",
    "ICY 200 OK",
    "200 OK",
    "HTTP/1.1 200 OK\r\nx-folded: a\r\n b",
    "HTTP/1.1 200 OK\r\nx-nul: a\0b",
    "HTTP/1.1 200 OK\r\nx-space : a",
    "HTTP/1.1 200 OK\r\nno field",
];

/// No chunk.
const BAD_CHUNKS: [&str; 7] = [
    "zz\r\n",
    "-1\r\n",
    "5\r\nhelloXX",
    "fffffffffffffffff\r\n",
    "\r\n",
    "0x5\r\nhello\r\n0\r\n\r\n",
    "0\r\nno trailer\r\n\r\n",
];

impl Chance {
    /// A connection ends in one way or the other.
    fn end(&mut self) -> After {
        if self.one_in(2) { After::Close } else { After::Reset }
    }
}
