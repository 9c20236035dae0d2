//! The side towards a program: one exchange at a time, and a connection that is kept only as a value which proves that
//! it may be.
//!
//! An [`Idle`] connection comes from a new stream, or out of an [`Exchange`] whose request was wholly sent, whose answer
//! was wholly read, behind which nothing came, and after which both sides want another: there is no other way to make
//! one. The bare streams of an exchange, with what was read ahead of them, come out of it only as [`Switched`], and that
//! only behind a 101.

use std::{
    io,
    task::{Context, Poll, ready},
};

use bytes::Bytes;

use super::{
    body::{BodyError, Decoder, Encoding, Framing, Out},
    head::{HeadError, Read, Response, Version, is_worth_reading},
    leg::{Input, Leg, Transport, Unwritten, Watch},
    server::Serving,
    transfer::{Broken, Trailers, Transfer, split},
    write,
};

/// The most interim answers before an answer; a program that sends more will not stop (nginx ignores them, Go's client
/// takes 5).
pub const MAX_INTERIM: u8 = 32;

/// How much of a body is read before its head goes out, where somebody wants to look at it; in bytes.
const MAX_BEHIND: usize = 64 * 1024;

/// A connection to a program on which nothing is under way.
#[derive(Debug)]
pub struct Idle<P> {
    stream: P,
    used: bool,
}

impl<P: Transport> Idle<P> {
    /// A new one.
    pub fn new(stream: P) -> Self {
        Self { stream, used: false }
    }

    /// One of a connection that carried requests before.
    pub fn shared(stream: P, used: bool) -> Self {
        Self { stream, used }
    }

    /// Whether it carried a request before: then its end may be that of an old connection, and no answer to the next.
    pub fn is_used(&self) -> bool {
        self.used
    }

    /// Whether the program has neither closed it nor sent what nobody asked for.
    pub fn is_alive(&mut self) -> bool {
        self.stream.is_quiet()
    }
}

/// Why there is no answer to pass on.
#[derive(Debug, thiserror::Error)]
pub enum Failed<E> {
    /// The client is gone, and whoever would read an answer with it.
    #[error("the client has left")]
    ClientLeft,
    /// The request's body is no valid one.
    #[error("the body of the request broke off, or is not valid: {0}")]
    Upload(BodyError),
    /// Nothing of the request was taken.
    #[error("the connection had ended before the request")]
    Unsent,
    /// The program says that it did nothing with it (RFC 9113 §8.7).
    #[error("the program refused to look at the request")]
    Unprocessed,
    /// The connection ended, or broke.
    #[error("the connection ended before an answer")]
    Closed {
        /// Whether anything came before: then the program has seen the request.
        heard: bool,
    },
    /// What came is no head of an answer.
    #[error(transparent)]
    Head(#[from] HeadError),
    /// What carries the connection has no words for the request.
    #[error("{0}")]
    Unsayable(io::Error),
    /// What carries the connection could make nothing of what came.
    #[error("{0}")]
    Carrier(io::Error),
    /// RFC 9110 §15.2 sets no limit; we do.
    #[error("it sent more than {MAX_INTERIM} interim answers")]
    TooManyInterim,
    /// Its answer is one that may not be passed on.
    #[error("{0}")]
    Refused(E),
}

/// What is to become of an answer whose head was looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Look {
    /// It goes out.
    Pass,
    /// It waits, and is to be looked at again with more of what follows it. Where no more can be shown it goes out.
    More,
}

/// What has come behind a head that waits.
#[derive(Debug, PartialEq, Eq)]
pub struct Behind {
    /// The content of the body, as far as it is there.
    pub content: Vec<u8>,
    /// Whether no more will be shown.
    pub is_all: bool,
}

impl Behind {
    /// What `bytes` hold of a body that is framed so.
    fn of(framing: Framing, bytes: &[u8], is_over: bool) -> Self {
        let (mut decoder, mut content) = (Decoder::new(framing), Vec::new());
        let mut out = Out::new(bytes, &mut content);
        let is_broken = decoder.decode(&mut out, Encoding::Bare, |_| false).is_err();
        let (_, run) = out.parts();
        content.extend_from_slice(run);
        let is_all = is_over || is_broken || decoder.is_done() || bytes.len() >= MAX_BEHIND;
        Self { content, is_all }
    }
}

/// A head that waits for what follows it.
#[derive(Debug, Clone, Copy)]
struct Waiting {
    /// Of the head, in bytes.
    length: usize,
    /// Whether nobody waits any longer.
    is_over: bool,
}

/// A request on its way to a program, and its answer on the way back.
#[derive(Debug)]
pub struct Exchange<'e, 'c, C, P> {
    client: &'e mut Serving<'c, C>,
    program: Leg<P>,
    used: bool,
    interim: u8,
    heard: bool,
    /// How much of an unfinished head was tried in vain.
    tried: usize,
    /// The head that waits for what follows it.
    waiting: Option<Waiting>,
    /// Whether the program takes more of the request.
    takes: bool,
    /// Whether the program wants another request on this connection, as far as it told.
    willing: bool,
    /// Whether it answered with a 101 that was accepted.
    switched: bool,
    /// Whether the client could leave unnoticed for a while.
    blind: bool,
}

/// What ends an answer before its end.
#[derive(Debug, thiserror::Error)]
pub enum Cut {
    /// Whoever would read on has left.
    #[error("the client has left")]
    ClientLeft,
    /// The program's part of it broke.
    #[error(transparent)]
    Program(#[from] Broken),
}

/// Both connections of an exchange behind its 101, with what was read ahead from each.
#[derive(Debug)]
pub struct Switched<'e, C, P> {
    /// The client.
    pub client: (&'e mut C, Bytes),
    /// The program.
    pub program: (P, Bytes),
}

impl<'e, 'c, C: Transport, P: Transport> Exchange<'e, 'c, C, P> {
    /// Between this client and this connection.
    pub fn new(client: &'e mut Serving<'c, C>, idle: Idle<P>) -> Self {
        Self {
            client,
            program: Leg::new(idle.stream),
            used: idle.used,
            interim: 0,
            heard: false,
            tried: 0,
            waiting: None,
            takes: true,
            willing: true,
            switched: false,
            blind: false,
        }
    }

    /// Sends a request: `head` writes it from its first line to its last field, empty line and perhaps a body included.
    /// What there is of a body on its way follows in the same write.
    pub fn begin<E>(&mut self, cx: &mut Context<'_>, head: impl FnOnce(&mut Vec<u8>)) -> Result<(), Failed<E>> {
        let Self { client, program, .. } = self;
        let Serving { leg, up, waits_for_continue, .. } = &mut **client;
        up.unwritten = Unwritten::default();
        let begun = leg.look(|input, out| {
            head(out);
            let input = if *waits_for_continue { &[] } else { input };
            split(up.begin(cx, input, out, program))
        });
        begun.map_err(|broken| match broken {
            Broken::Writing(error) if error.kind() == io::ErrorKind::InvalidInput => Failed::Unsayable(error),
            // Nothing of it was taken from the client either.
            Broken::Writing(_) => Failed::Unsent,
            Broken::Body(error) => Failed::Upload(error),
            Broken::Reading(_) => Failed::ClientLeft,
        })
    }

    /// The client's connection ends with this exchange.
    pub fn close_client(&mut self) {
        self.client.close();
    }

    /// Whether the connection carried a request before.
    pub fn is_reused(&self) -> bool {
        self.used
    }

    /// How much of the request has moved, in bytes.
    pub fn sent(&self) -> u64 {
        self.client.up.moved()
    }

    /// How much of the answer has moved, in bytes.
    pub fn received(&self) -> u64 {
        self.client.down.moved()
    }

    /// How much content of the answer was read, in bytes.
    pub fn content(&self) -> u64 {
        self.client.down.count()
    }

    /// Whether the program has the whole request.
    pub fn is_sent(&self) -> bool {
        self.client.up.is_done()
    }

    /// What it waits for; asked after a step that is pending.
    pub fn waits(&self) -> Waits {
        Waits {
            for_upload: self.takes
                && !self.client.waits_for_continue
                && !self.client.up.is_read()
                && !self.client.up.is_blocked(),
            for_reader: self.client.down.is_blocked(),
            for_continue: self.client.waits_for_continue,
            for_body: self.waiting.is_some_and(|waiting| !waiting.is_over),
            blind: self.blind,
        }
    }

    /// Lets the client send its body, which it holds back until it hears `100 Continue` (RFC 9110 §10.1.1).
    pub fn tell_to_continue(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if !std::mem::take(&mut self.client.waits_for_continue) || self.client.leg.has_read_ahead() {
            return Ok(());
        }
        let mut head = Vec::new();
        write::status_line(&mut head, 100, "Continue");
        write::end(&mut head);
        self.client.told_to_continue = true;
        self.client.down.unwritten.write(cx, self.client.leg, &mut Out::new(&[], &mut head))
    }

    /// Carries the request's body and waits for the answer. `look` is shown each head before anything is made of it,
    /// and what follows the head where it asks for that. `head` writes status line and end-to-end fields of an
    /// answer, the interim ones included; framing, connection and the empty line are added here. Ready with the
    /// status when the head of the answer, and what came with it, is on its way to the client.
    pub fn poll_answer<E>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnMut(&Response<'_>, Option<&Behind>) -> Result<Look, E>,
        head: impl FnMut(&Response<'_>, &mut Vec<u8>) -> Result<(), E>,
    ) -> Poll<Result<u16, Failed<E>>> {
        let mut heads = Heads { look, head };
        loop {
            // Anew after each read: a 100 lets the body go, which may lie here already.
            match self.poll_upload(cx) {
                Ok(()) => {}
                Err(Broken::Reading(_) | Broken::Writing(_) | Broken::Body(BodyError::Incomplete)) => {
                    return Poll::Ready(Err(Failed::ClientLeft));
                }
                Err(Broken::Body(error)) => return Poll::Ready(Err(Failed::Upload(error))),
            }
            let Self { client, program, .. } = self;
            // No more is read for a client that does not even take what came before the answer.
            if ready!(client.down.unwritten.poll_flush(cx, client.leg)).is_err() {
                return Poll::Ready(Err(Failed::ClientLeft));
            }
            let mut told = Told {
                interim: self.interim,
                willing: true,
                switched: false,
                tried: self.tried,
                waiting: self.waiting,
            };
            let read = if self.waiting.is_some_and(|waiting| waiting.is_over) {
                Ok(Input::Bytes(program.look(|input, out| read_heads(cx, client, &mut told, input, out, &mut heads))))
            } else {
                ready!(
                    program
                        .poll_read(cx, |cx, input, out| { read_heads(cx, client, &mut told, input, out, &mut heads) })
                )
            };
            let heard = self.heard || program.has_read_ahead();
            match read {
                Ok(Input::Bytes(answered)) => {
                    self.heard = true;
                    Told {
                        interim: self.interim,
                        willing: self.willing,
                        switched: self.switched,
                        tried: self.tried,
                        waiting: self.waiting,
                    } = told;
                    if let Some(status) = answered? {
                        return Poll::Ready(Ok(status));
                    }
                }
                // What is there goes out, and its end is found again.
                Ok(Input::End) if self.waiting.is_some() => self.wait_no_longer(),
                Ok(Input::End) | Err(_) if self.program.is_unprocessed() => {
                    return Poll::Ready(Err(Failed::Unprocessed));
                }
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    return Poll::Ready(Err(Failed::Carrier(error)));
                }
                Ok(Input::End) | Err(_) => {
                    let up = &self.client.up;
                    let is_untouched = !heard && up.unwritten.written() == 0 && up.count() == 0;
                    return Poll::Ready(Err(if is_untouched { Failed::Unsent } else { Failed::Closed { heard } }));
                }
            }
        }
    }

    /// A head that waits for what follows it goes out with what is there.
    pub fn wait_no_longer(&mut self) {
        if let Some(waiting) = &mut self.waiting {
            waiting.is_over = true;
        }
    }

    /// What the program has sent, and what no answer was made of.
    pub fn unanswered(&self) -> &[u8] {
        &self.program.ahead
    }

    /// Carries the answer's body to its end, and meanwhile what is left of the request's.
    pub fn poll_bodies(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Cut>> {
        let Self { client, program, .. } = self;
        match client.down.poll(cx, program, client.leg) {
            Poll::Ready(Ok(())) => return Poll::Ready(Ok(())),
            Poll::Ready(Err(Broken::Writing(_))) => return Poll::Ready(Err(Cut::ClientLeft)),
            Poll::Ready(Err(broken)) => return Poll::Ready(Err(broken.into())),
            Poll::Pending => {}
        }
        match self.poll_upload(cx) {
            Ok(()) => Poll::Pending,
            Err(Broken::Body(error)) if error != BodyError::Incomplete => {
                // The answer is not to blame. Nothing more is read from this client, nor sent to this program.
                self.takes = false;
                Poll::Pending
            }
            Err(_) => Poll::Ready(Err(Cut::ClientLeft)),
        }
    }

    /// Behind a whole answer: carries the rest of the request's body for as long as the program takes it, and forgets
    /// what it does not take, until [`Self::sent`] has come to `most`. Ready when all was read, or cannot be.
    pub fn poll_rest(&mut self, cx: &mut Context<'_>, most: u64) -> Poll<()> {
        let Self { client, program, .. } = self;
        if client.waits_for_continue {
            // It was told the answer, and that the connection closes.
            return Poll::Ready(());
        }
        if self.takes {
            match ready!(client.up.poll(cx, client.leg, program)) {
                Err(Broken::Writing(_)) => self.takes = false,
                Ok(()) | Err(Broken::Reading(_) | Broken::Body(_)) => return Poll::Ready(()),
            }
        }
        while !client.up.is_read() && client.up.moved() < most {
            if ready!(client.poll_piece(cx, |_| {})).is_err() {
                break;
            }
        }
        Poll::Ready(())
    }

    /// Whether the program still takes what there is of the request.
    pub fn is_taken(&self) -> bool {
        self.takes
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) -> Result<(), Broken> {
        let Self { client, program, .. } = self;
        if self.takes && !client.up.is_done() {
            let sent = if client.waits_for_continue {
                client.up.unwritten.poll_flush(cx, program).map_err(Broken::Writing)
            } else {
                client.up.poll(cx, client.leg, program)
            };
            match sent {
                // Who reads sees the end.
                Poll::Pending if !client.up.is_blocked() && !client.waits_for_continue => {
                    self.blind = false;
                    return Ok(());
                }
                Poll::Pending | Poll::Ready(Ok(())) => {}
                // Its answer may be under way all the same.
                Poll::Ready(Err(Broken::Writing(_))) => self.takes = false,
                Poll::Ready(Err(broken)) => return Err(broken),
            }
        }
        match client.leg.watch(cx) {
            Watch::Gone => Err(BodyError::Incomplete.into()),
            watch => {
                self.blind = watch == Watch::Blind;
                Ok(())
            }
        }
    }

    /// The connection to the program, if it can carry another request.
    pub fn into_idle(self) -> Option<Idle<P>> {
        let is_sent = self.takes && self.client.up.is_done();
        let is_read = self.client.answered && self.client.down.is_read() && !self.program.has_read_ahead();
        let can = self.willing && !self.switched && is_sent && is_read;
        can.then(|| Idle { stream: self.program.stream, used: true })
    }

    /// Both streams, if the program has changed the protocol and the client knows it.
    pub fn into_switched(self) -> Option<Switched<'e, C, P>> {
        let can = self.switched && self.client.down.is_done();
        // Nothing on it is a request any more.
        self.client.close();
        can.then(|| Switched { client: self.client.leg.bare(), program: self.program.into_bare() })
    }
}

/// What an exchange waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Waits {
    /// The client's next piece of the request's body.
    pub for_upload: bool,
    /// The client to take the next piece of the answer.
    pub for_reader: bool,
    /// The program to say `100 Continue`.
    pub for_continue: bool,
    /// The program to send what follows a head that was asked for.
    pub for_body: bool,
    /// Whether the client's leaving would wake nobody, since bytes wait behind the request: ask again now and then.
    pub blind: bool,
}

/// What heads of a program told.
struct Told {
    interim: u8,
    willing: bool,
    switched: bool,
    tried: usize,
    waiting: Option<Waiting>,
}

/// What is made of heads.
struct Heads<L, H> {
    look: L,
    head: H,
}

/// Reads what there is of heads: any number of interim ones, and the answer with as much of its body as is there.
fn read_heads<C: Transport, E>(
    cx: &mut Context<'_>,
    client: &mut Serving<'_, C>,
    told: &mut Told,
    input: &[u8],
    out: &mut Vec<u8>,
    heads: &mut Heads<
        impl FnMut(&Response<'_>, Option<&Behind>) -> Result<Look, E>,
        impl FnMut(&Response<'_>, &mut Vec<u8>) -> Result<(), E>,
    >,
) -> (usize, Result<Option<u16>, Failed<E>>) {
    let mut taken = 0;
    if told.waiting.is_none() && !is_worth_reading(input, told.tried) {
        return (0, Ok(None));
    }
    loop {
        let before = out.len();
        let input = &input[taken..];
        let behind = told.waiting.map(|waiting| (&input[waiting.length..], waiting.is_over));
        let read = Response::read(input, |response| write_head(client, told, response, behind, out, heads));
        let failed = match read {
            Ok(Read::Whole(Written::Interim, length)) => {
                taken += length;
                continue;
            }
            Ok(Read::Whole(Written::Answer(status, framing, encoding), length)) => {
                taken += length;
                told.waiting = None;
                let trailers = if client.takes_trailers { Trailers::All } else { Trailers::None };
                client.down = Transfer::new(framing, encoding, trailers).behind(&mut client.down);
                return match client.down.begin(cx, &input[length..], out, client.leg) {
                    Ok(more) => (taken + more, Ok(Some(status))),
                    Err(Broken::Writing(_)) => (taken, Err(Failed::ClientLeft)),
                    // The next step finds it again, and cuts the answer.
                    Err(Broken::Body(_) | Broken::Reading(_)) => (taken, Ok(Some(status))),
                };
            }
            Ok(Read::Whole(Written::Nothing, length)) => {
                if told.waiting.is_none() {
                    // Something may have come along with the head.
                    told.waiting = Some(Waiting { length, is_over: false });
                    continue;
                }
                None
            }
            Ok(Read::Partial) => {
                told.tried = input.len();
                None
            }
            Err(failed) => {
                out.truncate(before);
                Some(failed)
            }
        };
        let wrote = client.down.unwritten.write(cx, client.leg, &mut Out::new(&[], out));
        return match (failed, wrote) {
            (Some(failed), _) => (taken, Err(failed)),
            (None, Err(_)) => (taken, Err(Failed::ClientLeft)),
            (None, Ok(())) => (taken, Ok(None)),
        };
    }
}

/// What was written of a head.
enum Written {
    /// All that there is of an interim one.
    Interim,
    /// That of the answer; and what becomes of its body.
    Answer(u16, Framing, Encoding),
    /// Nothing: it waits for more of what follows it.
    Nothing,
}

/// Writes one head for the client. `behind` is what follows it, and whether that is all, where it waited for it.
fn write_head<C: Transport, E>(
    client: &mut Serving<'_, C>,
    told: &mut Told,
    response: &Response<'_>,
    behind: Option<(&[u8], bool)>,
    out: &mut Vec<u8>,
    heads: &mut Heads<
        impl FnMut(&Response<'_>, Option<&Behind>) -> Result<Look, E>,
        impl FnMut(&Response<'_>, &mut Vec<u8>) -> Result<(), E>,
    >,
) -> Result<Written, Failed<E>> {
    if response.is_interim() {
        told.interim += 1;
        if told.interim > MAX_INTERIM {
            return Err(Failed::TooManyInterim);
        }
        let is_continue = response.status == 100;
        let was_told = is_continue && client.told_to_continue;
        if is_continue {
            client.waits_for_continue = false;
        }
        if client.version == Version::Http11 && !was_told {
            (heads.head)(response, out).map_err(Failed::Refused)?;
            write::end(out);
        }
        return Ok(Written::Interim);
    }
    let framing = response.framing(client.to_head);
    let behind = behind.map(|(bytes, is_over)| Behind::of(framing, bytes, is_over));
    let looked = (heads.look)(response, behind.as_ref()).map_err(Failed::Refused)?;
    if looked == Look::More && !behind.is_some_and(|behind| behind.is_all) {
        return Ok(Written::Nothing);
    }
    (heads.head)(response, out).map_err(Failed::Refused)?;
    told.willing = response.keeps_alive() && framing != Framing::UntilClose;
    told.switched = response.status == 101;
    let encoding = match (framing, client.version) {
        (Framing::None | Framing::Length(_), _) => Encoding::AsItCame,
        (Framing::Chunked, Version::Http11) => Encoding::AsItCame,
        (Framing::UntilClose, Version::Http11) => Encoding::Chunks,
        (Framing::Chunked | Framing::UntilClose, Version::Http10) => {
            client.close();
            Encoding::Bare
        }
    };
    if matches!(framing, Framing::Chunked | Framing::UntilClose) && encoding != Encoding::Bare {
        write::field(out, b"transfer-encoding", b"chunked");
    }
    if !told.switched {
        write::connection(out, client.version, client.will_go_on());
    }
    write::end(out);
    client.answered = true;
    Ok(Written::Answer(response.status, framing, encoding))
}
