//! Programs behind the proxy, of a few lines each: threads of the test, on sockets of their own.

use std::{
    io::{self, BufReader, Write as _},
    net::{TcpListener, TcpStream},
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    thread,
};

use crate::client::{field, read_head};

/// A request that came to a program.
pub(crate) struct Asked<'a> {
    /// The request line and the fields.
    pub(crate) head: String,
    pub(crate) stream: &'a mut BufReader<TcpStream>,
}

impl Asked<'_> {
    /// Answers 200 with a text.
    pub(crate) fn answer(&mut self, text: &str) -> io::Result<()> {
        self.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{text}", text.len()))
    }

    /// Begins an endless answer of chunks.
    pub(crate) fn begin_stream(&mut self, kind: &str) -> io::Result<()> {
        self.send(format!("HTTP/1.1 200 OK\r\ncontent-type: {kind}\r\ntransfer-encoding: chunked\r\n\r\n"))
    }

    pub(crate) fn send_chunk(&mut self, text: &str) -> io::Result<()> {
        self.send(format!("{:x}\r\n{text}\r\n", text.len()))
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.get_mut().write_all(bytes.as_ref())
    }
}

/// Starts a program on a free port and tells the port. It ends with the test.
pub(crate) fn origin(serve: impl Fn(Asked<'_>) -> io::Result<()> + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let serve = Arc::new(serve);
    thread::spawn(move || {
        for stream in listener.incoming().map_while(Result::ok) {
            let serve = Arc::clone(&serve);
            thread::spawn(move || {
                let mut stream = BufReader::with_capacity(64 * 1024, stream);
                // A connection that breaks is the end of it; what the client saw is what a test looks at.
                while let Ok(Some(head)) = read_head(&mut stream) {
                    if serve(Asked { head, stream: &mut stream }).is_err() {
                        return;
                    }
                }
            });
        }
    });
    port
}

/// A program that answers with its name.
pub(crate) fn named(name: &'static str) -> u16 {
    origin(move |mut asked| asked.answer(name))
}

/// A program that sends the first half of an answer, then waits for the word to send the other one.
pub(crate) struct Halting {
    pub(crate) port: u16,
    words: Sender<()>,
}

/// What a [`Halting`] program sends before and after the word.
pub(crate) const HALVES: [&str; 2] = ["first half, ", "second half"];

impl Halting {
    pub(crate) fn start() -> Self {
        let (words, heard) = channel();
        let heard = Mutex::new(heard);
        let port = origin(move |mut asked| {
            let [first, second] = HALVES;
            asked.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{first}", first.len() + second.len()))?;
            wait(&heard)?;
            asked.send(second)
        });
        Self { port, words }
    }

    /// Lets the answer end.
    pub(crate) fn go_on(&self) {
        self.words.send(()).unwrap();
    }
}

/// Waits for a word; the end of the test is an error like a broken connection.
pub(crate) fn wait<T>(words: &Mutex<Receiver<T>>) -> io::Result<T> {
    words.lock().map_err(|_| io::ErrorKind::Other)?.recv().map_err(io::Error::other)
}

/// A program that sends each text as one event, to a single listener.
pub(crate) fn events() -> (u16, Sender<&'static str>) {
    let (tell, told) = channel();
    let told = Mutex::new(told);
    let port = origin(move |mut asked| {
        asked.begin_stream("text/event-stream")?;
        loop {
            let event = wait(&told)?;
            asked.send_chunk(&format!("data: {event}\n\n"))?;
        }
    });
    (port, tell)
}

/// A program that upgrades to a protocol in which each line is sent back.
pub(crate) fn echo() -> u16 {
    origin(|mut asked| {
        if field(&asked.head, "upgrade") != Some("echo") {
            return asked.answer("nobody asked for an upgrade");
        }
        asked.send("HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n")?;
        let mut back = asked.stream.get_ref().try_clone()?;
        io::copy(asked.stream, &mut back)?;
        Err(io::ErrorKind::UnexpectedEof.into())
    })
}

/// Asks for the protocol of [`echo`].
pub(crate) const UPGRADE: &str =
    "GET /echo HTTP/1.1\r\nhost: localhost\r\nconnection: upgrade\r\nupgrade: echo\r\n\r\n";
