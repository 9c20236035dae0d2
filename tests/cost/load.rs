//! A client and a program that cost nothing themselves once they run: blocking sockets, buffers of a fixed size.

use std::{
    fmt::Write as _,
    io::{Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::Arc,
    thread,
};

use memchr::memmem;

use crate::program::PATIENCE;

/// Longer than any message here, in bytes.
const LONGEST: usize = 64 * 1024;

/// A request and the answer to it, the same every time.
pub(crate) struct Exchange {
    /// All that a client sends.
    request: Vec<u8>,
    /// How much of that is the body.
    sent: usize,
    /// All that the program answers.
    answer: Vec<u8>,
    /// What the body of the answer says once its framing is off.
    content: Vec<u8>,
    is_chunked: bool,
}

/// What a browser sends beside Host and Cookie, with which they are 25 fields.
const BROWSER: [(&str, &str); 23] = [
    ("Cache-Control", "max-age=0"),
    ("Sec-Ch-Ua", r#""Chromium";v="143", "Google Chrome";v="143", "Not A(Brand";v="24""#),
    ("Sec-Ch-Ua-Mobile", "?0"),
    ("Sec-Ch-Ua-Platform", r#""Linux""#),
    ("Sec-Ch-Ua-Arch", r#""x86""#),
    ("Sec-Ch-Ua-Bitness", r#""64""#),
    ("Sec-Ch-Ua-Full-Version", r#""143.0.7499.40""#),
    ("Sec-Ch-Ua-Model", r#""""#),
    ("Sec-Ch-Prefers-Color-Scheme", "dark"),
    ("Upgrade-Insecure-Requests", "1"),
    ("User-Agent", "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0"),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-User", "?1"),
    ("Sec-Fetch-Dest", "document"),
    ("Referer", "http://app.localhost:62893/orders/2026/11?sort=date&page=3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8,fr;q=0.7"),
    ("If-None-Match", r#"W/"5f3b-18c9a7d2e40""#),
    ("Priority", "u=0, i"),
    ("Dnt", "1"),
    ("X-Requested-With", "XMLHttpRequest"),
];

impl Exchange {
    /// A short question and 13 bytes of answer.
    pub(crate) fn small() -> Self {
        Self::answered(b"Hello, world!".to_vec())
    }

    /// The same, asked with 25 fields and a cookie of 1 KB.
    pub(crate) fn browser() -> Self {
        let mut request = String::from("GET /orders?page=3 HTTP/1.1\r\nHost: app.localhost\r\n");
        for (name, value) in BROWSER {
            write!(request, "{name}: {value}\r\n").unwrap();
        }
        write!(request, "Cookie: session={}\r\n\r\n", "c0ffee42".repeat(1024 / 8)).unwrap();
        Self { request: request.into(), ..Self::small() }
    }

    /// An upload of 1 KB.
    pub(crate) fn post() -> Self {
        let body = "x".repeat(1024);
        let request = format!("POST / HTTP/1.1\r\nHost: app.localhost\r\nContent-Length: {}\r\n\r\n{body}", body.len());
        Self { request: request.into(), sent: body.len(), ..Self::small() }
    }

    /// An answer in three chunks.
    pub(crate) fn chunked() -> Self {
        let pieces = ["a".repeat(300), "b".repeat(20), "c".repeat(1000)];
        let mut answer = String::from("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        for piece in &pieces {
            write!(answer, "{:x}\r\n{piece}\r\n", piece.len()).unwrap();
        }
        answer += "0\r\n\r\n";
        Self { answer: answer.into(), content: pieces.concat().into(), is_chunked: true, ..Self::small() }
    }

    /// An answer of 10 KB.
    pub(crate) fn long() -> Self {
        Self::answered(b"0123456789".repeat(1024))
    }

    fn answered(content: Vec<u8>) -> Self {
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {}\r\n\r\n", content.len());
        Self {
            request: b"GET / HTTP/1.1\r\nHost: app.localhost\r\n\r\n".to_vec(),
            sent: 0,
            answer: [head.as_bytes(), &content].concat(),
            content,
            is_chunked: false,
        }
    }

    /// Starts a program that answers so, and tells its port. It ends with the test.
    pub(crate) fn origin(self: &Arc<Self>) -> u16 {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let exchange = Arc::clone(self);
        thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                let exchange = Arc::clone(&exchange);
                thread::spawn(move || exchange.serve(&stream));
            }
        });
        port
    }

    /// Answers until the proxy closes.
    fn serve(&self, mut stream: &TcpStream) {
        stream.set_nodelay(true).unwrap();
        let mut buffer = Buffer::new();
        let is_asked = |bytes: &[u8]| end_of_head(bytes).is_some_and(|end| bytes.len() >= end + self.sent);
        while buffer.fill(stream, is_asked) {
            if stream.write_all(&self.answer).is_err() {
                return;
            }
        }
    }

    /// Sends the request.
    pub(crate) fn ask(&self, mut stream: &TcpStream) {
        stream.write_all(&self.request).unwrap();
    }

    /// Reads the answer, which must be the program's.
    pub(crate) fn take(&self, stream: &TcpStream, buffer: &mut Buffer) {
        let came = buffer.fill(stream, |bytes| self.is_answered(bytes));
        assert!(came, "the end before the answer");
    }

    fn is_answered(&self, bytes: &[u8]) -> bool {
        let Some(end) = end_of_head(bytes) else { return false };
        assert!(bytes.starts_with(b"HTTP/1.1 200 "), "{}", bytes.escape_ascii());
        if self.is_chunked {
            return self.are_chunks(&bytes[end..]);
        }
        assert!(self.content.starts_with(&bytes[end..]), "{}", bytes.escape_ascii());
        bytes.len() == end + self.content.len()
    }

    /// Whether these are all the chunks of the content.
    fn are_chunks(&self, mut bytes: &[u8]) -> bool {
        let mut content = &self.content[..];
        while let Some(end) = memmem::find(bytes, b"\r\n") {
            let size = str::from_utf8(&bytes[..end]).unwrap();
            let size = usize::from_str_radix(size, 16).unwrap();
            let Some((chunk, rest)) = bytes[end + 2..].split_at_checked(size + 2) else { return false };
            let (piece, later) = content.split_at_checked(size).expect("no more than the program sent");
            assert!(chunk.strip_suffix(b"\r\n") == Some(piece), "{}", chunk.escape_ascii());
            content = later;
            if size == 0 {
                assert!(content.is_empty() && rest.is_empty(), "{} is left", rest.escape_ascii());
                return true;
            }
            bytes = rest;
        }
        false
    }
}

/// Where one message at a time is read to.
pub(crate) struct Buffer {
    bytes: Box<[u8]>,
}

impl Buffer {
    pub(crate) fn new() -> Self {
        Self { bytes: vec![0; LONGEST].into() }
    }

    /// Reads until a message is whole; says whether it came.
    fn fill(&mut self, mut stream: &TcpStream, is_whole: impl Fn(&[u8]) -> bool) -> bool {
        let mut filled = 0;
        while !is_whole(&self.bytes[..filled]) {
            match stream.read(&mut self.bytes[filled..]) {
                Ok(read @ 1..) => filled += read,
                Ok(0) | Err(_) => return false,
            }
        }
        true
    }
}

/// Where the body begins.
fn end_of_head(bytes: &[u8]) -> Option<usize> {
    memmem::find(bytes, b"\r\n\r\n").map(|at| at + 4)
}

/// A client's connection.
pub(crate) fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.set_write_timeout(Some(PATIENCE)).unwrap();
    stream.set_nodelay(true).unwrap();
    stream
}
