//! One end of a connection, byte by byte.

use std::{io, mem::MaybeUninit, time::Duration};

use bytes::BytesMut;
use tokio::{
    io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _},
    net::TcpStream,
    time::timeout,
};

use super::{
    message::{Framing, Head, Request, Response, chunk_size, latin1},
    within,
};

/// A connection, and what was received on it but not yet looked at.
#[derive(Debug)]
pub(crate) struct Wire<S = TcpStream> {
    stream: S,
    received: BytesMut,
    end: Option<End>,
}

/// How the other side ended its direction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// With a FIN.
    Closed,
    /// With an RST.
    Reset,
}

/// Room for as much as is read at once.
const READ: usize = 64 * 1024;

/// A body and the trailers behind it.
type Content = (Vec<u8>, String);

impl Wire {
    /// A connection to a port of 127.0.0.1.
    pub(crate) async fn connect(port: u16) -> Self {
        let stream = within("a connection", TcpStream::connect(("127.0.0.1", port))).await.unwrap();
        Self::new(stream)
    }

    /// Ends both directions with an RST.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }

    /// The same connection once more, to send on it while something is read.
    pub(crate) fn twin(&self) -> Self {
        let socket = socket2::SockRef::from(&self.stream).try_clone().unwrap();
        Self::new(TcpStream::from_std(socket.into()).unwrap())
    }

    /// Sends bytes of no meaning until the other side has taken none for a while.
    pub(crate) async fn fill(&mut self) {
        while let Ok(sent) = timeout(Duration::from_millis(300), self.stream.write(&[b'f'; READ])).await {
            sent.unwrap();
        }
    }

    /// Whether anything has come that nobody has looked at, be it the end. The kernel is asked: it waits for nothing.
    pub(crate) fn has_news(&self) -> bool {
        let peeked = socket2::SockRef::from(&self.stream).peek(&mut [MaybeUninit::uninit()]);
        !self.received.is_empty() || !peeked.is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> Wire<S> {
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, received: BytesMut::new(), end: None }
    }

    /// Sends all of it.
    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).await.unwrap();
    }

    /// Sends all of it, if the other side still takes it.
    pub(crate) async fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        within("bytes to be taken", self.stream.write_all(bytes.as_ref())).await
    }

    /// Sends all of it, however long the other side takes.
    pub(crate) async fn send_patiently(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.stream.write_all(bytes).await
    }

    /// Sends as much as the other side takes now, and says how much that was.
    pub(crate) async fn send_some(&mut self, bytes: &[u8]) -> usize {
        self.stream.write(bytes).await.unwrap()
    }

    /// Says with a FIN that nothing more will be sent.
    pub(crate) async fn shut(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// As [`Wire::shut`], if the other side has not ended it all before.
    pub(crate) async fn try_shut(&mut self) {
        match self.stream.shutdown().await {
            Err(error) if error.kind() != io::ErrorKind::NotConnected => panic!("cannot shut: {error}"),
            _ => {}
        }
    }

    /// Sends a request and reads the response.
    pub(crate) async fn ask(&mut self, bytes: impl AsRef<[u8]>) -> Response {
        self.send(bytes).await;
        self.response().await
    }

    /// Reads a request and sends the answer to it.
    pub(crate) async fn answers(&mut self, answer: impl AsRef<[u8]>) -> Request {
        let request = self.request().await;
        self.send(answer).await;
        request
    }

    /// Reads a head.
    pub(crate) async fn head(&mut self) -> Head {
        self.try_head().await.unwrap().expect("a head, not the end")
    }

    /// Reads a request.
    pub(crate) async fn request(&mut self) -> Request {
        self.try_request().await.unwrap().expect("a request, not the end")
    }

    /// Reads a response.
    pub(crate) async fn response(&mut self) -> Response {
        self.try_response(false).await.unwrap().expect("a response, not the end")
    }

    /// Reads the response to a HEAD.
    pub(crate) async fn response_to_head(&mut self) -> Response {
        self.try_response(true).await.unwrap().expect("a response, not the end")
    }

    /// Reads exactly so many bytes.
    pub(crate) async fn bytes(&mut self, count: usize) -> Vec<u8> {
        self.try_bytes(count).await.unwrap()
    }

    /// Reads exactly so many bytes, or says how the connection ended before. Dropped while it waits, it has lost nothing.
    pub(crate) async fn exactly(&mut self, count: usize) -> Result<Vec<u8>, End> {
        while self.received.len() < count {
            if let Some(end) = self.more().await {
                return Err(end);
            }
        }
        Ok(self.received.split_to(count).to_vec())
    }

    /// Reads up to and with `mark`.
    pub(crate) async fn until(&mut self, mark: &str) -> String {
        latin1(&self.try_until(mark.as_bytes()).await.unwrap())
    }

    /// Reads to the end.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            if let Some(end) = self.more().await {
                break end;
            }
        };
        (std::mem::take(&mut self.received).to_vec(), end)
    }

    /// Waits for what comes next, and says whether it is not the end.
    pub(crate) async fn has_more(&mut self) -> bool {
        !self.received.is_empty() || self.more().await.is_none()
    }

    /// Reads what comes next, however much it is; nothing is the end.
    pub(crate) async fn some(&mut self) -> Option<BytesMut> {
        if self.has_more().await { Some(std::mem::take(&mut self.received)) } else { None }
    }

    /// Reads a chunk of a chunked body; nothing is the last one.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        self.try_chunk().await.unwrap()
    }

    /// Waits for the end, before which nothing more may come.
    pub(crate) async fn end(&mut self) -> End {
        let (bytes, end) = self.rest().await;
        assert!(bytes.is_empty(), "{:?} came before the end", latin1(&bytes));
        end
    }

    /// A request, nothing at a clean end, or what is wrong with it.
    pub(crate) async fn try_request(&mut self) -> Result<Option<Request>, String> {
        let Some(head) = self.try_head().await? else { return Ok(None) };
        let framing = head.request_framing();
        let (body, trailers) = self.content(framing).await?;
        Ok(Some(Request { head, framing, body, trailers }))
    }

    /// As [`Wire::try_request`], but the first byte may be as long in coming as it likes.
    pub(crate) async fn next_request(&mut self) -> Result<Option<Request>, String> {
        self.received.reserve(READ);
        if self.received.is_empty() && !matches!(self.stream.read_buf(&mut self.received).await, Ok(1..)) {
            return Ok(None);
        }
        self.try_request().await
    }

    /// A response, or what is wrong with it.
    pub(crate) async fn try_answer(&mut self) -> Result<Response, String> {
        self.try_response(false).await?.ok_or_else(|| "the end instead of a response".into())
    }

    /// A response, nothing at a clean end, or what is wrong with it.
    pub(crate) async fn try_response(&mut self, to_head: bool) -> Result<Option<Response>, String> {
        let Some(head) = self.try_head().await? else { return Ok(None) };
        let status = head.status()?;
        let framing = head.response_framing(status, to_head);
        let (body, trailers) = self.content(framing).await?;
        Ok(Some(Response { head, status, framing, body, trailers }))
    }

    async fn try_head(&mut self) -> Result<Option<Head>, String> {
        if !self.has_more().await {
            return Ok(None);
        }
        Head::parse(&self.try_until(b"\r\n\r\n").await?).map(Some)
    }

    async fn content(&mut self, framing: Framing) -> Result<Content, String> {
        match framing {
            Framing::None => Ok((Vec::new(), String::new())),
            Framing::Length(length) => {
                let length = usize::try_from(length).map_err(|error| error.to_string())?;
                Ok((self.try_bytes(length).await?, String::new()))
            }
            Framing::Chunked => self.chunks().await,
            Framing::Close => match self.rest().await {
                (body, End::Closed) => Ok((body, String::new())),
                (body, End::Reset) => Err(format!("a reset behind {:?}", latin1(&body))),
            },
        }
    }

    async fn chunks(&mut self) -> Result<Content, String> {
        let mut body = Vec::new();
        while let Some(chunk) = self.try_chunk().await? {
            body.extend(chunk);
        }
        let mut trailers = String::new();
        loop {
            match latin1(&self.try_until(b"\r\n").await?).as_str() {
                "\r\n" => return Ok((body, trailers)),
                line => trailers.push_str(line),
            }
        }
    }

    async fn try_chunk(&mut self) -> Result<Option<Vec<u8>>, String> {
        let size = chunk_size(&self.try_until(b"\r\n").await?)?;
        if size == 0 {
            return Ok(None);
        }
        let chunk = self.try_bytes(size).await?;
        match self.try_bytes(2).await?.as_slice() {
            b"\r\n" => Ok(Some(chunk)),
            other => Err(format!("{:?} behind a chunk", latin1(other))),
        }
    }

    async fn try_bytes(&mut self, count: usize) -> Result<Vec<u8>, String> {
        while self.received.len() < count {
            self.wanted("a body").await?;
        }
        Ok(self.received.split_to(count).to_vec())
    }

    async fn try_until(&mut self, mark: &[u8]) -> Result<Vec<u8>, String> {
        loop {
            if let Some(at) = self.received.windows(mark.len()).position(|window| window == mark) {
                return Ok(self.received.split_to(at + mark.len()).to_vec());
            }
            self.wanted(&latin1(mark)).await?;
        }
    }

    async fn wanted(&mut self, what: &str) -> Result<(), String> {
        match self.more().await {
            None => Ok(()),
            Some(end) => Err(format!("{end:?} instead of {what:?}, behind {:?}", latin1(&self.received))),
        }
    }

    /// Reads once.
    async fn more(&mut self) -> Option<End> {
        if self.end.is_none() {
            self.received.reserve(READ);
            let read = within("bytes", self.stream.read_buf(&mut self.received)).await;
            self.end = match read {
                Ok(0) => Some(End::Closed),
                Ok(_) => None,
                Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Some(End::Reset),
                Err(error) => panic!("cannot read: {error}"),
            };
        }
        self.end
    }
}
