//! Messages as they must be on the wire. They are read strictly, so that what a proxy must not let through is seen.

use std::{
    io::{self, BufRead as _, BufReader, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    thread,
    time::Duration,
};

use socket2::SockRef;

use crate::chance::Chance;

/// Longer than any line of a head that a proxy may pass on, in bytes.
const LONGEST_LINE: u64 = 128 * 1024;

/// One end of a connection.
pub(super) struct Wire(BufReader<TcpStream>);

/// Why there is no whole message.
#[derive(Debug)]
pub(super) enum Broken {
    /// The other side has closed or reset.
    Cut,
    /// Nothing came for too long.
    Late,
    /// What came is none.
    Malformed(String),
}

/// A start line and the fields, read as Latin-1.
#[derive(Debug)]
pub(super) struct Head {
    pub(super) start: String,
    pub(super) fields: Vec<(String, String)>,
}

/// What the fields say about the length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    Unsaid,
    Length(u64),
    Chunked,
}

/// A final answer, and how many interim ones came before it.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: Head,
    pub(super) body: Vec<u8>,
    pub(super) interim: usize,
}

impl Wire {
    pub(super) fn new(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self(BufReader::with_capacity(16 * 1024, stream))
    }

    /// A connection on which nothing may be longer in coming than `patience`.
    pub(super) fn to(address: SocketAddr, patience: Duration) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(patience))?;
        stream.set_write_timeout(Some(patience))?;
        Ok(Self::new(stream))
    }

    pub(super) fn send(&mut self, bytes: impl AsRef<[u8]>) -> Result<(), Broken> {
        Ok(self.0.get_mut().write_all(bytes.as_ref())?)
    }

    /// Sends it in pieces of a few bytes, which take a millisecond each.
    pub(super) fn dribble(&mut self, bytes: &[u8], chance: &mut Chance) -> Result<(), Broken> {
        let mut rest = bytes;
        while !rest.is_empty() {
            let (piece, later) = rest.split_at(rest.len().min(1 + chance.below(40)));
            self.send(piece)?;
            thread::sleep(Duration::from_millis(1));
            rest = later;
        }
        Ok(())
    }

    /// Ends it with an RST.
    pub(super) fn reset(self) {
        // Where it has ended before there is nothing to reset.
        let _ = SockRef::from(self.0.get_ref()).set_linger(Some(Duration::ZERO));
    }

    /// Says with a FIN that nothing more will be sent.
    pub(super) fn shut(&self) -> Result<(), Broken> {
        Ok(self.0.get_ref().shutdown(std::net::Shutdown::Write)?)
    }

    /// Whatever comes next, up to so many bytes; nothing at the end.
    pub(super) fn some(&mut self, most: usize) -> Result<Vec<u8>, Broken> {
        let mut bytes = self.0.fill_buf()?.to_vec();
        bytes.truncate(most);
        self.0.consume(bytes.len());
        Ok(bytes)
    }

    /// A line without its end; nothing at a clean end.
    pub(super) fn line(&mut self) -> Result<Option<String>, Broken> {
        let mut line = Vec::new();
        (&mut self.0).take(LONGEST_LINE).read_until(b'\n', &mut line)?;
        let text = |bytes: &[u8]| bytes.iter().copied().map(char::from).collect::<String>();
        match line.strip_suffix(b"\r\n") {
            Some(line) if line.iter().any(|byte| b"\r\0".contains(byte)) => {
                Err(Broken::Malformed(format!("a line with CR or NUL: {:?}", text(line))))
            }
            Some(line) => Ok(Some(text(line))),
            None if line.is_empty() => Ok(None),
            None if line.ends_with(b"\n") => Err(Broken::Malformed(format!("a bare LF behind {:?}", text(&line)))),
            None => Err(Broken::Cut),
        }
    }

    /// A head; nothing at a clean end.
    pub(super) fn head(&mut self) -> Result<Option<Head>, Broken> {
        let Some(start) = self.line()? else { return Ok(None) };
        Ok(Some(Head { start, fields: self.fields()? }))
    }

    /// Fields up to the empty line.
    fn fields(&mut self) -> Result<Vec<(String, String)>, Broken> {
        let mut fields = Vec::new();
        loop {
            let line = self.line()?.ok_or(Broken::Cut)?;
            if line.is_empty() {
                return Ok(fields);
            }
            let is_token = |name: &str| {
                let is_part = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c);
                !name.is_empty() && name.chars().all(is_part)
            };
            match line.split_once(':') {
                Some((name, value)) if is_token(name) => fields.push((name.to_owned(), value.trim().to_owned())),
                _ => return Err(Broken::Malformed(format!("no field: {line:?}"))),
            }
        }
    }

    /// A body that has a length or chunks.
    pub(super) fn body(&mut self, framing: Framing) -> Result<Vec<u8>, Broken> {
        let mut body = Vec::new();
        match framing {
            Framing::Unsaid => {}
            Framing::Length(length) => self.append(length, &mut body)?,
            Framing::Chunked => {
                loop {
                    let size = self.chunk_size()?;
                    if size == 0 {
                        break;
                    }
                    self.append(size, &mut body)?;
                    let behind = self.line()?.ok_or(Broken::Cut)?;
                    if !behind.is_empty() {
                        return Err(Broken::Malformed(format!("{behind:?} behind a chunk")));
                    }
                }
                // Trailers, for which the rules of fields hold.
                self.fields()?;
            }
        }
        Ok(body)
    }

    fn append(&mut self, length: u64, body: &mut Vec<u8>) -> Result<(), Broken> {
        let read = (&mut self.0).take(length).read_to_end(body)?;
        if read as u64 == length { Ok(()) } else { Err(Broken::Cut) }
    }

    /// A size in its one canonical form.
    fn chunk_size(&mut self) -> Result<u64, Broken> {
        let line = self.line()?.ok_or(Broken::Cut)?;
        let size = u64::from_str_radix(&line, 16).ok();
        let is_canonical = |size: &u64| format!("{size:x}").eq_ignore_ascii_case(&line);
        size.filter(is_canonical).ok_or_else(|| Broken::Malformed(format!("no chunk size: {line:?}")))
    }

    /// The answer to a request, read to its end.
    pub(super) fn answer(&mut self, is_to_head: bool) -> Result<Answer, Broken> {
        let mut interim = 0;
        let (status, head) = loop {
            let head = self.head()?.ok_or(Broken::Cut)?;
            match head.status()? {
                100..200 => interim += 1,
                status => break (status, head),
            }
        };
        let framing = head.framing()?;
        let has_body = !is_to_head && !matches!(status, 204 | 304);
        let body = match framing {
            _ if !has_body => Vec::new(),
            Framing::Unsaid => {
                let mut body = Vec::new();
                self.0.read_to_end(&mut body)?;
                body
            }
            framing => self.body(framing)?,
        };
        Ok(Answer { status, head, body, interim })
    }
}

impl Head {
    /// The value of the first field of that name.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.values(name).next()
    }

    /// All values of fields of that name.
    pub(super) fn values(&self, name: &str) -> impl Iterator<Item = &str> {
        let is_meant = move |field: &&(String, String)| field.0.eq_ignore_ascii_case(name);
        self.fields.iter().filter(is_meant).map(|(_, value)| value.as_str())
    }

    /// One of the parts of the start line.
    pub(super) fn part(&self, number: usize) -> &str {
        self.start.split(' ').nth(number).unwrap_or_default()
    }

    /// That of an answer.
    pub(super) fn status(&self) -> Result<u16, Broken> {
        let status = self.part(1);
        let is_answer = matches!(self.part(0), "HTTP/1.1" | "HTTP/1.0") && status.len() == 3;
        let status = status.parse().ok().filter(|_| is_answer);
        status.ok_or_else(|| Broken::Malformed(format!("no status line: {:?}", self.start)))
    }

    /// At most one field may speak of it.
    pub(super) fn framing(&self) -> Result<Framing, Broken> {
        let framing: Vec<_> = self.values("transfer-encoding").chain(self.values("content-length")).collect();
        match framing[..] {
            [] => Ok(Framing::Unsaid),
            ["chunked"] => Ok(Framing::Chunked),
            [length] => length.parse().map(Framing::Length).map_err(|_| self.malformed("no framing")),
            _ => Err(self.malformed("more than one framing")),
        }
    }

    pub(super) fn malformed(&self, what: &str) -> Broken {
        Broken::Malformed(format!("{what}: {self:?}"))
    }
}

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => Self::Late,
            _ => Self::Cut,
        }
    }
}
