//! A client of raw bytes, which adds nothing to what a test sends and hides nothing of what comes back.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Instant,
};

use crate::program::PATIENCE;

/// Asks again and again until it is so: for what nobody announces.
pub(crate) fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let began = Instant::now();
    while !is_so() {
        assert!(began.elapsed() < PATIENCE, "not within {PATIENCE:?}: {what}");
        thread::yield_now();
    }
}

/// An answer that was read to its end.
#[derive(Debug, Clone)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// The status line and the fields.
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a field.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        field(&self.head, name)
    }
}

/// The value of a field of a head.
pub(crate) fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    let mut fields = head.lines().filter_map(|line| line.split_once(':'));
    fields.find(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
}

/// A connection to the proxy.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn to(address: SocketAddr) -> Self {
        Self::try_to(address).unwrap()
    }

    pub(crate) fn try_to(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.set_write_timeout(Some(PATIENCE))?;
        stream.set_nodelay(true)?;
        Ok(Self(BufReader::with_capacity(64 * 1024, stream)))
    }

    pub(crate) fn stream(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.0
    }

    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.0.get_mut().write_all(bytes.as_ref())
    }

    /// Sends a GET and reads the answer to its end.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.try_get(path).unwrap()
    }

    pub(crate) fn try_get(&mut self, path: &str) -> io::Result<Answer> {
        self.try_send(request(path))?;
        self.answer()
    }

    /// Reads a head.
    pub(crate) fn head(&mut self) -> io::Result<String> {
        read_head(&mut self.0)?.ok_or_else(|| io::ErrorKind::UnexpectedEof.into())
    }

    /// Reads an answer to its end.
    pub(crate) fn answer(&mut self) -> io::Result<Answer> {
        let head = self.head()?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or_default();
        let body = if field(&head, "transfer-encoding").is_some() {
            let mut body = Vec::new();
            while let Some(piece) = self.chunk()? {
                body.extend(piece);
            }
            body
        } else if let Some(length) = field(&head, "content-length") {
            let mut body = vec![0; length.parse().map_err(io::Error::other)?];
            self.0.read_exact(&mut body)?;
            body
        } else {
            let mut body = Vec::new();
            self.0.read_to_end(&mut body)?;
            body
        };
        let body = String::from_utf8(body).map_err(io::Error::other)?;
        Ok(Answer { status, head, body })
    }

    /// The next piece of a chunked body.
    pub(crate) fn chunk(&mut self) -> io::Result<Option<Vec<u8>>> {
        let size = usize::from_str_radix(self.line()?.trim_end(), 16).map_err(io::Error::other)?;
        let mut piece = vec![0; size];
        self.0.read_exact(&mut piece)?;
        self.line()?;
        Ok((size > 0).then_some(piece))
    }

    /// So many bytes of text.
    pub(crate) fn exactly(&mut self, length: usize) -> String {
        let mut text = vec![0; length];
        self.0.read_exact(&mut text).unwrap();
        String::from_utf8(text).unwrap()
    }

    /// One line of whatever comes.
    pub(crate) fn line(&mut self) -> io::Result<String> {
        let mut line = String::new();
        match self.0.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(line),
        }
    }

    /// Waits until the proxy closes, and says whether something came before.
    pub(crate) fn closes_in_silence(&mut self) -> bool {
        let mut rest = Vec::new();
        self.0.read_to_end(&mut rest).is_ok() && rest.is_empty()
    }
}

/// A GET of a path of `localhost`.
pub(crate) fn request(path: &str) -> String {
    request_of_host("localhost", path)
}

/// A GET of a path of a host.
pub(crate) fn request_of_host(host: &str, path: &str) -> String {
    format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")
}

/// A GET on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> Answer {
    Connection::to(address).get(path)
}

/// A GET of a path of a host, on a connection of its own.
pub(crate) fn get_of_host(address: SocketAddr, host: &str, path: &str) -> Answer {
    let mut connection = Connection::to(address);
    connection.send(request_of_host(host, path));
    connection.answer().unwrap()
}

/// Reads up to the empty line; `None` where the other side closes before a head begins.
pub(crate) fn read_head(stream: &mut BufReader<TcpStream>) -> io::Result<Option<String>> {
    let mut head = Vec::new();
    loop {
        let read = stream.read_until(b'\n', &mut head)?;
        match read {
            0 if head.is_empty() => return Ok(None),
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            _ if head.ends_with(b"\r\n\r\n") => return String::from_utf8(head).map(Some).map_err(io::Error::other),
            _ => {}
        }
    }
}
