//! A raw stream: a connection to a port of `[tcp]`, whose bytes go to a program as they come.
//!
//! Nothing is parsed but on a port that several routes share: there the name is read by which a TLS client asks, and
//! PostgreSQL's question for TLS is answered first. Who cannot be served is reset, and the log says why.

use std::{
    future::poll_fn,
    io,
    mem::{self, MaybeUninit},
    pin::{Pin, pin},
    rc::Rc,
    sync::Arc,
    task::Poll,
    time::Duration,
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncReadExt, AsyncWriteExt, ReadBuf},
    net::TcpStream,
    time::timeout,
};

use super::{
    Client, Worker,
    failure::Failure,
    pace,
    send::{Named, Way},
};
use crate::{
    head::Host,
    http1::leg::{Transport, Watch},
    listen::deadlines::{Deadlines, HEAD, Limit, Place, Seat},
    live::{Carried, Snapshot, TcpRoute},
    observe::{Ending, Exchange, Kind, Record},
    respond::pages::Cause,
    tunnel::{
        self, End, IDLE, Patience, Side,
        hello::{LONGEST, Opening, SSL_REQUEST, UNRECOGNIZED_NAME},
    },
    upstream::{
        InFlight,
        connect::{Stream, connect},
    },
};

/// A program may go on for as long as it likes when its client has said all.
static PATIENCE: Patience = Patience { idle: IDLE, half_closed: IDLE };

/// How long a client may say nothing on a port that routes share by name, before it is taken for one that waits for its
/// program to speak first: of TLS it is the client that begins, and at once.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// The longest name that is told, in characters, as TLS carries longer ones than DNS has.
const LONGEST_NAME: usize = 255;

/// Why a client is not served.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error(transparent)]
    Unreached(#[from] Failure),
    #[error("no route of this port takes a client that asks for {}", told(.0))]
    UnknownName(String),
    #[error("no route of this port takes a client that names no host by TLS")]
    Nameless,
    #[error("the client has not said by TLS which host it wants within {} s", HEAD.as_secs())]
    Silent,
    #[error("the program of route {0} does not speak TLS, for which the client asks as PostgreSQL does")]
    NoTls(Arc<str>),
    #[error("the client has left")]
    Left,
    #[error("portolan has ended before its program was there")]
    Drained,
}

/// A client that has its program. In a box of its own: the task that held it while it came to be is much larger.
struct Reached {
    client: TcpStream,
    program: Stream,
    /// What was read from the client already.
    early: Bytes,
    _counted: Counted,
}

/// A connection in the counts of its route and of its endpoint.
type Counted = (Carried, InFlight);

/// What a client has said before it has a route.
#[derive(Default)]
struct Said {
    /// By which name it asks.
    name: Option<String>,
    is_tls: bool,
    /// Whether it has asked for TLS as PostgreSQL does, and was told yes.
    is_postgres: bool,
    bytes: Vec<u8>,
}

impl Worker {
    /// Carries what comes on a port of `[tcp]` to its program and back, until both have ended or the drain begins.
    pub async fn carry(self: Rc<Self>, stream: TcpStream, place: Place<Client>) {
        poll_fn(|cx| {
            place.wake_me(cx);
            Poll::Ready(())
        })
        .await;
        place.seat().deadlines.disarm_all();
        let mut exchange = self.log.begin(|| record(&place.seat().client)).map(Box::new);
        let mut note = |note: &dyn Fn(&mut Record)| {
            if let Some(exchange) = &mut exchange {
                note(exchange.record());
            }
        };
        let reached = Box::pin(self.reach(stream, place.seat(), &mut note)).await;
        if let Some(reached) = reached {
            tunnel(reached, &place.seat().deadlines, exchange).await;
        }
    }

    /// Finds the route and its program; resets who cannot have one, and tells why.
    async fn reach(
        &self,
        mut client: TcpStream,
        seat: &Seat<Client>,
        note: &mut impl FnMut(&dyn Fn(&mut Record)),
    ) -> Option<Box<Reached>> {
        match self.try_reach(&mut client, seat, note).await {
            Ok((program, early, counted)) => Some(Box::new(Reached { client, program, early, _counted: counted })),
            Err(refused) => {
                note(&|record| refused.record(record));
                // There is no page to tell it on.
                if let Some(sentence) = refused.sentence(&seat.client) {
                    self.common.say_once(sentence);
                }
                client.reset();
                None
            }
        }
    }

    /// The program, what was read from the client already, and its place in the counts.
    async fn try_reach(
        &self,
        stream: &mut TcpStream,
        seat: &Seat<Client>,
        note: &mut impl FnMut(&dyn Fn(&mut Record)),
    ) -> Result<(Stream, Bytes, Counted), Refused> {
        let (deadlines, address) = (&seat.deadlines, seat.client.local());
        let snapshot = self.live.load();
        let has_names = snapshot.tcp_at(address).any(|route| !route.hosts.is_empty());
        let has_nameless = snapshot.tcp_route(address, None).is_some();
        let said = if has_names { listen(stream, deadlines, has_nameless).await? } else { Said::default() };
        if let Some(name) = &said.name {
            note(&|record| name.clone_into(&mut record.host));
        }
        let Some(route) = route(&snapshot, &seat.client, &said) else {
            if said.is_tls {
                // Who has left need not hear it.
                let _ = stream.write_all(&UNRECOGNIZED_NAME).await;
            }
            return Err(said.name.map_or(Refused::Nameless, Refused::UnknownName));
        };
        note(&|record| record.route = Some(Arc::clone(&route.name)));
        let carried = route.traffic.begin();
        let named = Named { route: &route.name, origin: &route.origin, targets: &route.words.1 };
        let mut way = Way::new(named, &route.forward)?;
        let limit = route.forward.connect_timeout;
        let dialled = while_wanted(stream, !said.bytes.is_empty(), deadlines, dial(&mut way, route, deadlines)).await;
        note(&|record| record.target = way.endpoint.whereabouts());
        let mut program = dialled?;
        if said.is_postgres && !matches!(timeout(limit, asks_for_tls(&mut program)).await, Ok(Ok(true))) {
            return Err(Refused::NoTls(Arc::clone(&route.name)));
        }
        Ok((program, said.bytes.into(), (carried, way.endpoint.begin())))
    }
}

/// Which of the port's routes takes the client. What is no name of a host asks for none.
fn route<'s>(snapshot: &'s Snapshot, client: &Client, said: &Said) -> Option<&'s TcpRoute> {
    let name = said.name.as_deref().and_then(|name| Host::parse(name.as_bytes()).ok());
    snapshot.tcp_route(client.local(), name.as_ref())
}

/// Hears out a client on a port that several routes share. Who says nothing at all has said what it is if one of them
/// takes clients without a name.
async fn listen(stream: &mut TcpStream, deadlines: &Deadlines, has_nameless: bool) -> Result<Said, Refused> {
    let mut said = Said::default();
    if has_nameless {
        deadlines.arm(Limit::Head, FIRST_WORD);
        match read_more(stream, deadlines, &mut said.bytes).await {
            Ok(More::Bytes) => {}
            Ok(More::Nothing) => return Err(Refused::Left),
            Err(Refused::Silent) if !deadlines.is_draining() => {
                deadlines.disarm(Limit::Head);
                return Ok(said);
            }
            Err(refused) => return Err(refused),
        }
    }
    deadlines.arm(Limit::Head, HEAD);
    loop {
        match Opening::of(&said.bytes) {
            Opening::Partial => match read_more(stream, deadlines, &mut said.bytes).await? {
                More::Bytes => {}
                More::Nothing if said.bytes.is_empty() => return Err(Refused::Left),
                // What it will never be need not be waited for.
                More::Nothing => break,
            },
            Opening::Tls(name) => {
                said = Said { name, is_tls: true, ..said };
                break;
            }
            // Once is enough: asking again is no TLS.
            Opening::SslRequest if !said.is_postgres => {
                stream.write_all(b"S").await.map_err(|_| Refused::Left)?;
                said.is_postgres = true;
                said.bytes.drain(..SSL_REQUEST.len());
            }
            Opening::GssRequest => {
                stream.write_all(b"N").await.map_err(|_| Refused::Left)?;
                said.bytes.drain(..SSL_REQUEST.len());
            }
            Opening::SslRequest | Opening::Other => break,
        }
    }
    deadlines.disarm(Limit::Head);
    Ok(said)
}

/// What came of waiting for more of a client's opening.
enum More {
    Bytes,
    /// It has said all.
    Nothing,
}

async fn read_more(stream: &mut TcpStream, deadlines: &Deadlines, bytes: &mut Vec<u8>) -> Result<More, Refused> {
    poll_fn(|cx| {
        let mut piece = [0; 2048];
        let mut piece = ReadBuf::new(&mut piece);
        match Pin::new(&mut *stream).poll_read(cx, &mut piece) {
            Poll::Ready(Ok(())) if piece.filled().is_empty() => Poll::Ready(Ok(More::Nothing)),
            Poll::Ready(Ok(())) if bytes.len() < 2 * LONGEST => {
                bytes.extend_from_slice(piece.filled());
                Poll::Ready(Ok(More::Bytes))
            }
            Poll::Ready(_) => Poll::Ready(Err(Refused::Left)),
            Poll::Pending if deadlines.is_over(Limit::Head) || deadlines.is_draining() => {
                Poll::Ready(Err(Refused::Silent))
            }
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

/// A connection to the program, in time or when it listens.
async fn dial(way: &mut Way<'_>, route: &TcpRoute, deadlines: &Deadlines) -> Result<Stream, Refused> {
    loop {
        match connect(way.endpoint, route.forward.connect_timeout).await {
            Ok(program) => return Ok(program),
            Err(error) => until_drained(deadlines, way.turn(error)).await?,
        }
    }
}

/// Waits no longer than until the drain begins: who gets a program then is cut at once.
async fn until_drained(
    deadlines: &Deadlines,
    waiting: impl Future<Output = Result<(), Failure>>,
) -> Result<(), Refused> {
    let mut waiting = pin!(waiting);
    poll_fn(|cx| match waiting.as_mut().poll(cx) {
        Poll::Pending if deadlines.is_draining() => Poll::Ready(Err(Refused::Drained)),
        step => step.map_err(Refused::from),
    })
    .await
}

/// Asks a PostgreSQL for TLS, as the client did. Whether it says yes.
async fn asks_for_tls(program: &mut Stream) -> io::Result<bool> {
    program.write_all(&SSL_REQUEST).await?;
    Ok(program.read_u8().await? == b'S')
}

/// Waits for the program for as long as there is a client to want it, and never begins without one: some debuggers die of a
/// connection on which nothing comes. A client of which something `is_in_hand` wants it even if that was all.
async fn while_wanted<T>(
    stream: &mut TcpStream,
    is_in_hand: bool,
    deadlines: &Deadlines,
    awaited: impl Future<Output = Result<T, Refused>>,
) -> Result<T, Refused> {
    let mut awaited = pin!(awaited);
    let result = poll_fn(|cx| {
        if has_left(stream, is_in_hand) {
            return Poll::Ready(Err(Refused::Left));
        }
        let step = awaited.as_mut().poll(cx);
        if step.is_pending() {
            let is_blind = stream.watch(cx) != Watch::Watched;
            pace::look_again(deadlines, is_blind);
        }
        step
    })
    .await;
    deadlines.disarm(Limit::Look);
    result
}

/// Whether the client has ended the connection, and left nothing that could be passed on.
fn has_left(stream: &TcpStream, is_in_hand: bool) -> bool {
    match socket2::SockRef::from(stream).peek(&mut [MaybeUninit::uninit()]) {
        Ok(count) => count == 0 && !is_in_hand,
        Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted),
    }
}

/// Carries bytes both ways; what breaks on one side, or is cut by us, is reset on the other.
async fn tunnel(mut reached: Box<Reached>, deadlines: &Deadlines, mut exchange: Option<Box<Exchange>>) {
    let Reached { client, program, early, .. } = &mut *reached;
    let near = Side { stream: &mut *client, early: mem::take(early), socket: |stream| Some(stream) };
    let far = Side { stream: &mut *program, early: Bytes::new(), socket: |stream| stream.tcp() };
    let mut carried = tunnel::run(near, far, &PATIENCE);
    let (counts, is_whole) = poll_fn(|cx| match Pin::new(&mut carried).poll(cx) {
        Poll::Ready((counts, end)) => Poll::Ready((counts, matches!(end, End::Closed))),
        Poll::Pending if deadlines.is_draining() => Poll::Ready((carried.counts(), false)),
        Poll::Pending => Poll::Pending,
    })
    .await;
    if !is_whole {
        client.reset();
        program.reset();
    }
    if let Some(exchange) = &mut exchange {
        let record = exchange.record();
        (record.sent, record.received) = (counts.sent, counts.received);
        record.ending = if is_whole { Ending::Whole } else { Ending::Cut };
    }
}

/// A name as a client wrote it, which may be anything, in one line for people.
fn told(name: &str) -> String {
    name.chars().take(LONGEST_NAME).flat_map(char::escape_debug).collect()
}

/// What the log says of a connection before it is carried.
fn record(client: &Client) -> Record {
    let host = client.local().to_string();
    Record { method: "TCP".into(), host, kind: Kind::Tunnel, ..Record::default() }
}

impl Refused {
    fn record(&self, record: &mut Record) {
        record.kind = Kind::Answered;
        match self.cause() {
            Some(cause) => (record.cause, record.ending) = (Some(cause.word()), Ending::Cut),
            None => record.ending = if matches!(self, Self::Drained) { Ending::Cut } else { Ending::Left },
        }
    }

    /// What a person should know of it.
    fn sentence(&self, client: &Client) -> Option<String> {
        self.cause()?;
        let address = client.local();
        Some(match self {
            Self::Unreached(Failure::Program { route, target, reason, origin }) => {
                format!("TCP route {route} -> {target}: {reason}; {}", reason.help(origin))
            }
            Self::Unreached(Failure::HoldExpired { route, target, held, reason, .. }) => {
                format!("TCP route {route} -> {target}: {reason}, and so it was for {:.0} s", held.as_secs_f64())
            }
            other => format!("a connection to {address} was refused: {other}"),
        })
    }

    /// The cause, in the words that pages have; `None` where the client has none to hear of.
    fn cause(&self) -> Option<Cause> {
        match self {
            Self::Left | Self::Drained => None,
            Self::Unreached(failure) => Some(failure.cause()),
            Self::UnknownName(_) | Self::Nameless => Some(Cause::UnknownHost),
            Self::Silent => Some(Cause::BadRequest),
            Self::NoTls(_) => Some(Cause::TlsFailed),
        }
    }
}
