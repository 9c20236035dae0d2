//! The server behind every proxy: as little work as a server can do, and a count of the connections opened to it.
//!
//! It shares its CPU with the load generator. What it saves, the load generator can spend, so that the proxy under test
//! is the one that has no time left. It understands what the benchmark sends and no more: no bodies, no pipelining.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;

use anyhow::{Context, Result};
use memchr::memmem;
use rustix::buffer::spare_capacity;
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

/// What is asked for by the last segment of the path, and how many bytes it has.
const SIZES: [(&str, usize); 4] =
    [("small", GREETING.len()), ("10k", 10 << 10), ("100k", 100 << 10), ("10m", 10 << 20)];

const GREETING: &[u8] = b"Hello, world!";

/// Large bodies repeat this many bytes: small enough to stay in the cache, large enough that writes are few.
const CHUNK: usize = 256 << 10;

/// Connections that may wait to be accepted: more than any scenario opens at once.
const BACKLOG: i32 = 4096;

/// The event that says that the listener, and not a connection, is ready.
const LISTENER: u64 = u64::MAX;

/// A running origin. It ends with the process.
pub(crate) struct Origin {
    pub(crate) port: u16,
    connections: Arc<AtomicU64>,
}

impl Origin {
    pub(crate) fn start() -> Result<Self> {
        let listener = listen().context("the origin cannot listen on 127.0.0.1")?;
        let port = listener.local_addr()?.port();
        let connections = Arc::new(AtomicU64::new(0));
        let server = Server::new(listener, Arc::clone(&connections))?;
        thread::Builder::new().name("origin".into()).spawn(move || server.run())?;
        Ok(Self { port, connections })
    }

    /// How many connections were opened to the origin so far.
    pub(crate) fn connections(&self) -> u64 {
        self.connections.load(Ordering::Relaxed)
    }
}

fn listen() -> io::Result<TcpListener> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    socket.bind(&SocketAddr::from((Ipv4Addr::LOCALHOST, 0)).into())?;
    socket.listen(BACKLOG)?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    accepted: Arc<AtomicU64>,
}

impl Server {
    fn new(listener: TcpListener, accepted: Arc<AtomicU64>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self { epoll, listener, accepted })
    }

    /// Serves for ever. A connection that fails is dropped: whoever measures sees it as an error of the load generator.
    fn run(self) {
        let pages = Pages::new();
        let mut inbox = vec![0; 64 << 10];
        let mut connections: Vec<Option<Connection>> = Vec::new();
        let mut events = Vec::with_capacity(256);
        loop {
            // Only an interrupted wait can fail here, and it is simply repeated.
            if epoll::wait(&self.epoll, spare_capacity(&mut events), None).is_err() {
                continue;
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(&mut connections),
                    slot => self.advance(&mut connections[slot as usize], slot, &mut inbox, &pages),
                }
            }
        }
    }

    fn accept(&self, connections: &mut Vec<Option<Connection>>) {
        while let Ok((stream, _)) = self.listener.accept() {
            let slot = connections.iter().position(Option::is_none).unwrap_or(connections.len());
            if self.register(&stream, slot).is_err() {
                continue;
            }
            self.accepted.fetch_add(1, Ordering::Relaxed);
            let connection = Some(Connection::new(stream));
            match connections.get_mut(slot) {
                Some(free) => *free = connection,
                None => connections.push(connection),
            }
        }
    }

    fn register(&self, stream: &TcpStream, slot: usize) -> io::Result<()> {
        stream.set_nonblocking(true)?;
        stream.set_nodelay(true)?;
        Ok(epoll::add(&self.epoll, stream, EventData::new_u64(slot as u64), EventFlags::IN)?)
    }

    /// Takes one connection as far as it goes, and drops it where it ends.
    fn advance(&self, slot: &mut Option<Connection>, id: u64, inbox: &mut [u8], pages: &Pages) {
        let Some(connection) = slot else { return };
        let before = connection.waits_for;
        let goes_on = match connection.step(inbox, pages) {
            Ok(Step::WaitFor(flags)) => {
                connection.waits_for = flags;
                before == flags || epoll::modify(&self.epoll, &connection.stream, EventData::new_u64(id), flags).is_ok()
            }
            Ok(Step::End) | Err(_) => false,
        };
        if !goes_on {
            *slot = None;
        }
    }
}

enum Step {
    WaitFor(EventFlags),
    End,
}

struct Connection {
    stream: TcpStream,
    waits_for: EventFlags,
    /// A head of which only the beginning has come.
    partial: Vec<u8>,
    sending: Option<Sending>,
}

struct Sending {
    answer: Rc<Answer>,
    sent: usize,
    then_close: bool,
}

impl Connection {
    fn new(stream: TcpStream) -> Self {
        Self { stream, waits_for: EventFlags::IN, partial: Vec::new(), sending: None }
    }

    fn step(&mut self, inbox: &mut [u8], pages: &Pages) -> io::Result<Step> {
        if self.sending.is_none() {
            let received = match self.stream.read(inbox) {
                Ok(0) => return Ok(Step::End),
                Ok(received) => &inbox[..received],
                Err(error) => return Self::unless_blocked(error, EventFlags::IN),
            };
            self.sending = self.receive(received, pages);
        }
        self.send(pages)
    }

    fn receive(&mut self, received: &[u8], pages: &Pages) -> Option<Sending> {
        const END: &[u8] = b"\r\n\r\n";
        if self.partial.is_empty() && received.ends_with(END) {
            return Some(pages.answer(received));
        }
        self.partial.extend_from_slice(received);
        if !self.partial.ends_with(END) {
            return None;
        }
        Some(pages.answer(&std::mem::take(&mut self.partial)))
    }

    fn send(&mut self, pages: &Pages) -> io::Result<Step> {
        while let Some(sending) = &mut self.sending {
            match self.stream.write(sending.answer.rest(sending.sent, &pages.chunk)) {
                Ok(written) => sending.sent += written,
                Err(error) => return Self::unless_blocked(error, EventFlags::OUT),
            }
            if sending.sent == sending.answer.total {
                if sending.then_close {
                    return Ok(Step::End);
                }
                self.sending = None;
            }
        }
        Ok(Step::WaitFor(EventFlags::IN))
    }

    fn unless_blocked(error: io::Error, flags: EventFlags) -> io::Result<Step> {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::Interrupted => Ok(Step::WaitFor(flags)),
            _ => Err(error),
        }
    }
}

/// Everything that can be answered, written out beforehand.
struct Pages {
    chunk: Vec<u8>,
    pages: Vec<Page>,
    asks_to_close: memmem::Finder<'static>,
}

struct Page {
    name: &'static [u8],
    keep: Rc<Answer>,
    close: Rc<Answer>,
}

/// The head with as much of the body as one write should carry; what `total` has more is the chunk, repeated.
struct Answer {
    first: Vec<u8>,
    total: usize,
}

impl Pages {
    fn new() -> Self {
        let chunk: Vec<u8> = b"0123456789abcdef".iter().copied().cycle().take(CHUNK).collect();
        let page = |(name, size): (&'static str, usize)| {
            let body = if size == GREETING.len() { GREETING } else { &chunk };
            let answer = |connection| Rc::new(Answer::new("200 OK", connection, body, size));
            Page { name: name.as_bytes(), keep: answer("keep-alive"), close: answer("close") }
        };
        let pages = SIZES.map(page).into();
        Self { chunk, pages, asks_to_close: memmem::Finder::new(b"onnection: close") }
    }

    fn answer(&self, head: &[u8]) -> Sending {
        let then_close = self.asks_to_close.find(head).is_some();
        let wanted = last_segment(head);
        let answer = match self.pages.iter().find(|page| page.name == wanted) {
            Some(page) => Rc::clone(if then_close { &page.close } else { &page.keep }),
            None => Rc::new(Self::unusual(wanted, head, then_close)),
        };
        Sending { answer, sent: 0, then_close }
    }

    /// `/head` shows the head that arrived, so that the benchmark can see what a proxy adds.
    fn unusual(wanted: &[u8], head: &[u8], then_close: bool) -> Answer {
        let connection = if then_close { "close" } else { "keep-alive" };
        match wanted {
            b"head" => Answer::new("200 OK", connection, head, head.len()),
            _ => Answer::new("404 Not Found", connection, b"", 0),
        }
    }
}

impl Answer {
    /// The five headers are those that nginx, too, puts on a small answer.
    fn new(status: &str, connection: &str, body: &[u8], size: usize) -> Self {
        let head = format!(
            "HTTP/1.1 {status}\r\nServer: origin\r\nDate: Thu, 01 Jan 2026 00:00:00 GMT\r\n\
             Content-Type: text/plain\r\nContent-Length: {size}\r\nConnection: {connection}\r\n\r\n"
        );
        let total = head.len() + size;
        let mut first = head.into_bytes();
        first.extend_from_slice(&body[..size.min(body.len())]);
        Self { first, total }
    }

    fn rest<'a>(&'a self, sent: usize, chunk: &'a [u8]) -> &'a [u8] {
        match self.first.get(sent..) {
            Some(rest) if !rest.is_empty() => rest,
            _ => &chunk[..chunk.len().min(self.total - sent)],
        }
    }
}

/// `small` of `GET /r5/small HTTP/1.1`.
fn last_segment(head: &[u8]) -> &[u8] {
    let target = head.split(|byte| *byte == b' ').nth(1).unwrap_or_default();
    target.rsplit(|byte| *byte == b'/').next().unwrap_or_default()
}
