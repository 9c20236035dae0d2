//! A program behind the proxy, as small as can be: its answer is the request as it came, under the name of its place.
//!
//! It speaks raw HTTP/1.1 over any stream, keeps connections, agrees to every upgrade and then gives back each byte. Two
//! paths are special: `/healthz` answers as it is told to, and `/events` sends one event and waits for more to send.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    net::TcpListener,
    os::unix::net::UnixListener,
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU16, Ordering::SeqCst},
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use crate::PATIENCE;

/// A running program.
pub(crate) struct Origin {
    state: Arc<State>,
    health_checks: Receiver<()>,
    events: Sender<String>,
}

struct State {
    place: String,
    health: AtomicU16,
    health_checked: Sender<()>,
    events: Mutex<Receiver<String>>,
}

impl Origin {
    /// Listens on a free port, which is returned; `place` is the name that its answers begin with.
    pub(crate) fn on_a_free_port(place: String) -> (u16, Self) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let origin = Self::new(place, move || {
            let stream = listener.accept()?.0;
            Ok((stream.try_clone()?, stream))
        });
        (port, origin)
    }

    /// Listens on a socket of the file system.
    pub(crate) fn on_socket(place: String, path: &Path) -> Self {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        let listener = UnixListener::bind(path).unwrap();
        Self::new(place, move || {
            let stream = listener.accept()?.0;
            Ok((stream.try_clone()?, stream))
        })
    }

    fn new<R, W>(place: String, accept: impl Fn() -> io::Result<(R, W)> + Send + 'static) -> Self
    where
        R: Read + Send + 'static,
        W: Write + Send + 'static,
    {
        let (health_checked, health_checks) = channel();
        let (events, sent) = channel();
        let state = State { place, health: AtomicU16::new(200), health_checked, events: Mutex::new(sent) };
        let state = Arc::new(state);
        let shared = Arc::clone(&state);
        thread::spawn(move || {
            while let Ok((reader, writer)) = accept() {
                let state = Arc::clone(&shared);
                // A connection may end in any way; the next one is another thread's.
                thread::spawn(move || drop(state.serve(BufReader::new(reader), writer)));
            }
        });
        Self { state, health_checks, events }
    }

    /// How `/healthz` is answered from now on.
    pub(crate) fn answer_health_with(&self, status: u16) {
        self.state.health.store(status, SeqCst);
    }

    /// Returns once the outcome of `count` further health checks is known to the proxy.
    pub(crate) fn wait_for_health_checks(&self, count: usize) {
        while self.health_checks.try_recv().is_ok() {}
        // The first may have been answered as before, and the last must have been followed by another.
        for _ in 0..count + 2 {
            self.health_checks.recv_timeout(PATIENCE).unwrap();
        }
    }

    /// Sends an event to whoever listens to `/events`.
    pub(crate) fn send_event(&self, event: &str) {
        self.events.send(event.to_owned()).unwrap();
    }
}

impl State {
    fn serve(&self, mut reader: BufReader<impl Read>, mut writer: impl Write) -> io::Result<()> {
        while let Some(head) = read_head(&mut reader)? {
            let length = field(&head, "content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
            io::copy(&mut reader.by_ref().take(length), &mut io::sink())?;
            if let Some(protocol) = field(&head, "upgrade") {
                write!(writer, "HTTP/1.1 101 Agreed\r\nconnection: upgrade\r\nupgrade: {protocol}\r\n\r\n")?;
                return echo(&mut reader, &mut writer);
            }
            match head.split_ascii_whitespace().nth(1) {
                Some("/healthz") => {
                    let status = self.health.load(SeqCst);
                    write!(writer, "HTTP/1.1 {status} So\r\ncontent-length: 0\r\n\r\n")?;
                    // Nobody has to wait for it.
                    let _ = self.health_checked.send(());
                }
                Some("/events") => return self.stream(&mut writer),
                _ => {
                    let body = format!("{}\r\n{head}", self.place);
                    let length = body.len();
                    write!(writer, "HTTP/1.1 200 OK\r\nserver: origin\r\ncontent-length: {length}\r\n\r\n{body}")?;
                }
            }
        }
        Ok(())
    }

    fn stream(&self, writer: &mut impl Write) -> io::Result<()> {
        write!(writer, "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\ndata: 1\n\n")?;
        let events = self.events.lock().unwrap();
        while let Ok(event) = events.recv() {
            // In one piece: what comes in several may have the seams of chunks in between.
            writer.write_all(format!("data: {event}\n\n").as_bytes())?;
        }
        Ok(())
    }
}

fn read_head(reader: &mut impl BufRead) -> io::Result<Option<String>> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Ok(None);
        }
    }
    Ok(Some(head))
}

fn field<'h>(head: &'h str, name: &str) -> Option<&'h str> {
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

fn echo(reader: &mut impl BufRead, writer: &mut impl Write) -> io::Result<()> {
    loop {
        let piece = reader.fill_buf()?.to_owned();
        if piece.is_empty() {
            return Ok(());
        }
        writer.write_all(&piece)?;
        reader.consume(piece.len());
    }
}
