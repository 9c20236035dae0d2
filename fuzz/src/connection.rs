//! A whole connection of a client, and the connections to programs behind it, in memory: whatever comes from either side,
//! what goes out to the other is valid, belongs to its request, and never looks whole where it is not.
//!
//! A sample is a script, played piece by piece. A byte from 1 to 6 says whose turn it is: what follows 1 comes from the
//! client at once, and 1 again begins another piece; what follows 2 comes from the program. 3 and 5 are the client's
//! end, orderly or by a reset, and 4 and 6 the program's.

use std::{
    cell::RefCell,
    collections::VecDeque,
    future::poll_fn,
    io::{self, ErrorKind},
    pin::{Pin, pin},
    rc::Rc,
    task::{Context, Poll, Waker},
};

use portolan::http1::{
    body::{Decoder, Encoding, Framing, Out},
    client::{Behind, Exchange, Failed, Idle, Look},
    head::{Field, HeadError, Known, Read, Request, Response},
    leg::{Transport, Watch},
    server::{self, Came, Connection, GoesOn, Serving},
    write,
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    Verdict,
    message::{self, Head, Length},
};

/// Plays the script: as it is, with the client's pieces byte by byte, and with peers that take a few bytes at a time.
/// What a client sees does not depend on it.
pub fn check(script: &[u8]) -> Verdict {
    let steps = steps(script);
    let played = play(&steps, usize::MAX);
    assert_eq!(play(&steps, 5), played, "with short writes");
    let split: Vec<Step<'_>> = steps.iter().flat_map(Step::byte_by_byte).collect();
    let byte_by_byte = play(&split, usize::MAX);
    let both = played.0.len().min(byte_by_byte.0.len());
    assert_eq!(byte_by_byte.0[..both], played.0[..both], "byte by byte");
    // A head is not read anew with each byte of it: what is none may not have been seen yet.
    let mut alone = played.0[both..].iter().chain(&byte_by_byte.0[both..]);
    assert!(alone.all(|(_, seen)| seen.status == Some(400)), "{played:?}, but byte by byte {byte_by_byte:?}");
    played.verdict()
}

/// One step of a script.
#[derive(Debug, Clone, Copy)]
enum Step<'s> {
    Client(&'s [u8]),
    Program(&'s [u8]),
    ClientEnds,
    ProgramEnds,
    ClientBreaks,
    ProgramBreaks,
}

fn steps(script: &[u8]) -> Vec<Step<'_>> {
    let mut steps = Vec::new();
    let mut is_client = true;
    for (at, part) in script.split_inclusive(|byte| (1..=6).contains(byte)).enumerate() {
        let (piece, turn) = match part.split_last() {
            Some((turn, piece)) if (1..=6).contains(turn) => (piece, *turn),
            _ => (part, 0),
        };
        if !piece.is_empty() || at == 0 && turn == 0 {
            steps.push(if is_client { Step::Client(piece) } else { Step::Program(piece) });
        }
        match turn {
            1 => is_client = true,
            2 => is_client = false,
            3 => steps.push(Step::ClientEnds),
            4 => steps.push(Step::ProgramEnds),
            5 => steps.push(Step::ClientBreaks),
            6 => steps.push(Step::ProgramBreaks),
            _ => {}
        }
    }
    steps
}

impl<'s> Step<'s> {
    fn byte_by_byte(&self) -> Vec<Self> {
        match *self {
            Self::Client(piece) => piece.chunks(1).map(Self::Client).collect(),
            other => vec![other],
        }
    }
}

/// What came of a script: what became of each request, and what the client saw of it.
#[derive(Debug, PartialEq, Eq)]
struct Played(Vec<(Became, Seen)>);

/// What became of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Became {
    /// It is in hand.
    Open,
    /// The program's answer went out whole, with so many bytes of content.
    Answered(u64),
    /// An answer of the proxy went out.
    Refused,
    /// The answer broke off.
    Cut,
    /// The client has left.
    Left,
    /// The connection became a tunnel.
    Switched,
}

/// What the client saw of an answer.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    interim: usize,
    status: Option<u16>,
    /// All of it, if it came to its end.
    content: Option<Vec<u8>>,
}

impl Played {
    fn verdict(&self) -> Verdict {
        let is = |wanted: fn(&Became) -> bool| self.0.iter().any(|(became, _)| wanted(became));
        if is(|became| matches!(became, Became::Refused | Became::Cut | Became::Left)) {
            Verdict::Bad
        } else if self.0.is_empty() || is(|became| *became == Became::Open) {
            Verdict::Part
        } else {
            Verdict::Good
        }
    }
}

/// What a request was, and what became of it.
struct Asked {
    is_head: bool,
    became: Became,
}

/// Everything that the two sides of the proxy share with the script.
#[derive(Default)]
struct Stage {
    client: Memory,
    programs: RefCell<Vec<Memory>>,
    asked: RefCell<Vec<Asked>>,
    most: usize,
}

/// Plays a script, with peers that take so many bytes at a time.
fn play(steps: &[Step<'_>], most: usize) -> Played {
    let stage = Stage { client: Memory::new(most), most, ..Stage::default() };
    let mut proxy = pin!(serve(&stage));
    let mut cx = Context::from_waker(Waker::noop());
    for step in steps {
        let program = stage.programs.borrow().last().cloned();
        match (step, program) {
            (Step::Client(piece), _) => stage.client.ends().incoming.extend(piece.iter()),
            (Step::ClientEnds, _) => stage.client.ends().state = State::Ended,
            (Step::ClientBreaks, _) => stage.client.ends().state = State::Broken,
            (Step::Program(piece), Some(program)) => program.ends().incoming.extend(piece.iter()),
            (Step::ProgramEnds, Some(program)) => program.ends().state = State::Ended,
            (Step::ProgramBreaks, Some(program)) => program.ends().state = State::Broken,
            // It is not asked yet.
            (Step::Program(_) | Step::ProgramEnds | Step::ProgramBreaks, None) => {}
        }
        // Nothing wakes it: it goes on for as long as it gets on.
        let mut moved = None;
        while moved != Some(stage.moved()) {
            moved = Some(stage.moved());
            if proxy.as_mut().poll(&mut cx).is_ready() {
                return stage.judge();
            }
        }
    }
    stage.judge()
}

impl Stage {
    fn dial(&self) -> Memory {
        let program = Memory::new(self.most);
        self.programs.borrow_mut().push(program.clone());
        program
    }

    fn became(&self, became: Became) {
        self.asked.borrow_mut().last_mut().unwrap().became = became;
    }

    /// Grows with everything that happens.
    fn moved(&self) -> usize {
        let programs = self.programs.borrow();
        let moved = |memory: &Memory| memory.ends().moved;
        self.asked.borrow().len() + programs.len() + programs.iter().map(moved).sum::<usize>() + moved(&self.client)
    }

    fn judge(&self) -> Played {
        for program in self.programs.borrow().iter() {
            must_be_requests(&program.ends().written);
        }
        let client = self.client.ends();
        let mut rest = &client.written[..];
        let mut exchanges = Vec::new();
        for (number, asked) in self.asked.borrow().iter().enumerate() {
            let seen = see(&mut rest, asked, number, client.was_reset);
            match asked.became {
                Became::Answered(count) => {
                    let length = seen.content.as_ref().expect("an answer is whole").len();
                    assert!(asked.is_head || length as u64 == count, "{count} bytes became {length}");
                }
                Became::Refused => assert!(seen.content.is_some() && matches!(seen.status, Some(400 | 502))),
                Became::Cut => assert!(seen.content.is_none(), "it looks whole: {seen:?}"),
                Became::Switched => assert_eq!(seen.status, Some(101)),
                Became::Open | Became::Left => {}
            }
            let is_behind_a_tunnel = exchanges.last().is_some_and(|(became, _)| *became == Became::Switched);
            assert!(!is_behind_a_tunnel, "what came through a tunnel was read as a request");
            exchanges.push((asked.became, seen));
        }
        let is_tunnel = matches!(exchanges.last(), Some((Became::Switched, _)));
        assert!(rest.is_empty() || is_tunnel, "nobody asked for {}", rest.escape_ascii());
        Played(exchanges)
    }
}

/// What a client reads of one answer, which must bear the mark of its request.
fn see(rest: &mut &[u8], asked: &Asked, number: usize, was_reset: bool) -> Seen {
    let mut seen = Seen::default();
    loop {
        let mut behind = *rest;
        let Some(head) = Head::read(&mut behind) else {
            // It is not there yet, and never will be where there is an end.
            *rest = &[];
            return seen;
        };
        *rest = behind;
        let status: u16 = str::from_utf8(head.part(1)).unwrap().parse().unwrap();
        assert_eq!((head.part(0), head.part(1).len()), (&b"HTTP/1.1"[..], 3));
        assert_eq!(head.values(MARK).last().copied(), Some(number.to_string().as_bytes()), "{head:?}");
        if status < 200 && status != 101 {
            seen.interim += 1;
            assert_eq!(head.length(), Length::Unsaid);
            continue;
        }
        seen.status = Some(status);
        let has_none = asked.is_head || matches!(status, 101 | 204 | 304);
        seen.content = match head.length() {
            length if has_none => {
                assert_ne!(length, Length::Chunked, "{head:?}");
                Some(Vec::new())
            }
            // It ends with the connection, if the connection ends well.
            Length::Unsaid => {
                let content = std::mem::take(rest);
                let is_over = asked.became != Became::Open && !was_reset;
                is_over.then(|| content.to_vec())
            }
            length => message::body(rest, length),
        };
        if seen.content.is_none() {
            *rest = &[];
        }
        return seen;
    }
}

/// Whole requests, each with its mark, and at most the beginning of another one.
fn must_be_requests(mut written: &[u8]) {
    while !written.is_empty() {
        let Some(head) = Head::read(&mut written) else { return };
        assert_eq!(head.part(2), b"HTTP/1.1", "{head:?}");
        assert_eq!(head.start.split(|byte| *byte == b' ').count(), 3, "{head:?}");
        assert_eq!(head.fields.last().map(|(name, _)| *name), Some(MARK.as_bytes()), "{head:?}");
        if message::body(&mut written, head.length()).is_none() {
            return;
        }
    }
}

/// The field by which a message is known again.
const MARK: &str = "fuzz-mark";

/// The proxy: reads requests, passes them on, and passes on what is answered.
async fn serve(stage: &Stage) {
    let mut connection = Connection::new(stage.client.clone());
    let mut kept = None;
    loop {
        match poll_fn(|cx| connection.poll_request(cx)).await {
            Came::End | Came::Foreign(_) => break,
            Came::Nonsense(_) => {
                stage.asked.borrow_mut().push(Asked { is_head: false, became: Became::Open });
                let mut serving = connection.serve(None);
                refuse(stage, &mut serving, 400).await;
                serving.finish();
            }
            Came::Request(request) => {
                let is_head = request.method() == "HEAD";
                stage.asked.borrow_mut().push(Asked { is_head, became: Became::Open });
                let mut serving = connection.serve(Some(&request));
                // Without an answer there is no end of an exchange, and no next one.
                if forward(stage, &mut serving, &request, &mut kept).await.is_ok() {
                    serving.finish();
                }
            }
        }
    }
    let goes_on = connection.goes_on();
    let mut leg = connection.into_leg();
    if goes_on == GoesOn::Reset {
        leg.reset();
    }
}

/// The client has left before there was an answer.
struct Left;

/// One exchange.
async fn forward(
    stage: &Stage,
    serving: &mut Serving<'_, Memory>,
    request: &Request,
    kept: &mut Option<Idle<Memory>>,
) -> Result<(), Left> {
    let number = stage.asked.borrow().len() - 1;
    let mut idle = kept.take().unwrap_or_else(|| Idle::new(stage.dial()));
    if !idle.is_alive() {
        idle = Idle::new(stage.dial());
    }
    let program = stage.programs.borrow().last().cloned().expect("it was dialled");
    program.ends().to_head.push(request.method() == "HEAD");
    let mut exchange = Exchange::new(serving, idle);
    let mut is_begun = false;
    let answered = poll_fn(|cx| {
        if !std::mem::replace(&mut is_begun, true) {
            exchange.begin(cx, |out| write_request(request, number, out))?;
        }
        // Whoever looks at what follows a head changes nothing of it.
        let look = |response: &Response<'_>, _: Option<&Behind>| {
            Ok(if response.status >= 400 { Look::More } else { Look::Pass })
        };
        exchange.poll_answer(cx, look, |response, out| write_response(request, response, number, out))
    });
    let status = match answered.await {
        Ok(status) => status,
        Err(Failed::ClientLeft) => {
            stage.became(Became::Left);
            return Err(Left);
        }
        Err(_) => {
            drop(exchange);
            refuse(stage, serving, 502).await;
            return Ok(());
        }
    };
    if poll_fn(|cx| exchange.poll_bodies(cx)).await.is_err() {
        stage.became(if stage.client.ends().state == State::Open { Became::Cut } else { Became::Left });
        return Ok(());
    }
    if status == 101 {
        let switched = exchange.into_switched().expect("it was asked for, and all of it is written");
        drop(switched);
        stage.became(Became::Switched);
        return Ok(());
    }
    stage.became(Became::Answered(exchange.content()));
    if !exchange.is_sent() {
        poll_fn(|cx| exchange.poll_rest(cx, u64::MAX)).await;
    }
    *kept = exchange.into_idle();
    if kept.is_some() {
        must_be_idle(&program.ends());
    }
    Ok(())
}

/// On a connection that is kept every request was sent, every answer read, and nothing besides.
fn must_be_idle(program: &Ends) {
    let mut sent = &program.written[..];
    while !sent.is_empty() {
        let head = Head::read(&mut sent).expect("the head was sent");
        message::body(&mut sent, head.length()).expect("the body was sent");
    }
    let mut read = &program.read[..];
    for to_head in &program.to_head {
        let framing = loop {
            let look = |head: &Response<'_>| Ok::<_, HeadError>((!head.is_interim()).then(|| head.framing(*to_head)));
            let Ok(Read::Whole(framing, length)) = Response::read(read, look) else { panic!("no whole answer") };
            read = &read[length..];
            if let Some(framing) = framing {
                break framing;
            }
        };
        let mut decoder = Decoder::new(framing);
        let length = decoder.decode(&mut Out::new(read, &mut Vec::new()), Encoding::Bare, |_| false).unwrap();
        assert!(decoder.is_done(), "a part of an answer");
        read = &read[length..];
    }
    assert!(read.is_empty(), "{} was read and forgotten", read.escape_ascii());
}

/// Tells a client that there is no answer.
async fn refuse(stage: &Stage, serving: &mut Serving<'_, Memory>, status: u16) {
    let number = stage.asked.borrow().len() - 1;
    let mut head = Vec::new();
    write::status_line(&mut head, status, "No");
    write::number_field(&mut head, MARK.as_bytes(), number as u64);
    serving.close();
    let begun =
        poll_fn(|cx| Poll::Ready(serving.begin(cx, &mut head, server::Body::Whole(server::Length::Untold), b"no")))
            .await;
    let is_taken = begun.is_ok() && poll_fn(|cx| serving.poll_flush(cx)).await.is_ok();
    stage.became(if is_taken { Became::Refused } else { Became::Left });
}

/// The head of a request as a proxy writes it.
fn write_request(request: &Request, number: usize, out: &mut Vec<u8>) {
    write::request_line(out, request.method(), request.path(), request.query());
    for Field { known, name, value } in request.fields() {
        match known {
            Some(Known::ContentLength) => {}
            Some(known) if known.is_of_one_hop() => {}
            _ => write::field(out, name, value),
        }
    }
    match request.framing() {
        Framing::Length(length) => write::number_field(out, b"content-length", length),
        Framing::Chunked => write::field(out, b"transfer-encoding", b"chunked"),
        Framing::None | Framing::UntilClose => {}
    }
    write_upgrade(request.first(Known::Upgrade), out);
    write::number_field(out, MARK.as_bytes(), number as u64);
    write::end(out);
}

/// The head of an answer as a proxy writes it. What was not asked for is none.
fn write_response(request: &Request, response: &Response<'_>, number: usize, out: &mut Vec<u8>) -> Result<(), Unasked> {
    if response.status == 101 && !request.has(Known::Upgrade) {
        return Err(Unasked);
    }
    write::status_line(out, response.status, response.reason);
    for Field { known, name, value } in response.fields() {
        match known {
            Some(Known::ContentLength) => {}
            Some(known) if known.is_of_one_hop() => {}
            _ => write::field(out, name, value),
        }
    }
    if let Some(length) = response.told_length() {
        write::number_field(out, b"content-length", length);
    }
    if response.status == 101 {
        write_upgrade(response.first(Known::Upgrade), out);
    }
    write::number_field(out, MARK.as_bytes(), number as u64);
    Ok(())
}

fn write_upgrade(protocol: Option<&[u8]>, out: &mut Vec<u8>) {
    if let Some(protocol) = protocol {
        write::field(out, b"connection", b"upgrade");
        write::field(out, b"upgrade", protocol);
    }
}

/// The program has changed the protocol, and nobody wanted it.
#[derive(Debug)]
struct Unasked;

/// A stream whose other end is a script.
#[derive(Debug, Clone, Default)]
struct Memory(Rc<RefCell<Ends>>);

#[derive(Debug, Default)]
struct Ends {
    /// What is still to be read.
    incoming: VecDeque<u8>,
    read: Vec<u8>,
    written: Vec<u8>,
    state: State,
    /// What is taken at a time; then comes a pause.
    most: usize,
    is_pausing: bool,
    was_reset: bool,
    /// Of a program: whether each of the requests was a HEAD.
    to_head: Vec<bool>,
    /// Grows with everything that happens.
    moved: usize,
}

/// What the other end has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum State {
    #[default]
    Open,
    Ended,
    Broken,
}

impl Memory {
    fn new(most: usize) -> Self {
        Self(Rc::new(RefCell::new(Ends { most, ..Ends::default() })))
    }

    fn ends(&self) -> std::cell::RefMut<'_, Ends> {
        self.0.borrow_mut()
    }
}

impl AsyncRead for Memory {
    fn poll_read(self: Pin<&mut Self>, _: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let mut ends = self.ends();
        if ends.incoming.is_empty() {
            return match ends.state {
                State::Open => Poll::Pending,
                State::Ended => Poll::Ready(Ok(())),
                State::Broken => Poll::Ready(Err(ErrorKind::ConnectionReset.into())),
            };
        }
        let count = ends.incoming.len().min(buffer.remaining());
        ends.moved += count;
        let read: Vec<u8> = ends.incoming.drain(..count).collect();
        buffer.put_slice(&read);
        ends.read.extend(read);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Memory {
    fn poll_write(self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let mut ends = self.ends();
        if ends.state == State::Broken {
            return Poll::Ready(Err(ErrorKind::BrokenPipe.into()));
        }
        ends.moved += 1;
        if std::mem::take(&mut ends.is_pausing) {
            return Poll::Pending;
        }
        let count = bytes.len().min(ends.most);
        ends.is_pausing = count == ends.most;
        ends.written.extend_from_slice(&bytes[..count]);
        Poll::Ready(Ok(count))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Memory {
    fn watch(&mut self, _: &mut Context<'_>) -> Watch {
        let ends = self.ends();
        match ends.state {
            State::Ended | State::Broken => Watch::Gone,
            State::Open if ends.incoming.is_empty() => Watch::Watched,
            State::Open => Watch::Blind,
        }
    }

    fn is_quiet(&mut self) -> bool {
        let ends = self.ends();
        ends.state == State::Open && ends.incoming.is_empty()
    }

    fn reset(&mut self) {
        self.ends().was_reset = true;
    }
}
