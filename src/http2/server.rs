//! The side towards a client: a connection of HTTP/2 yields its streams, each as the connection of a client that speaks
//! HTTP/1 and asks once.

use std::{
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason,
    ext::Protocol,
    server::{Builder, SendResponse},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    CONNECTION_WINDOW, MAX_HEADERS, MAX_STREAMS, SEND_BUFFER, STREAM_WINDOW, broken,
    fields::{response, write_request},
    flood::{Counted, Seen},
    incoming::{Incoming, Shape},
    outgoing::Outgoing,
    websocket::Key,
};
use crate::http1::{
    body::Framing,
    head::{HeadError, Read, Response},
    leg::{Transport, Watch},
};

/// How a connection ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    /// Behind the streams that are open.
    Gracefully,
    /// Whatever is open.
    AtOnce,
}

/// A connection of a client.
#[derive(Debug)]
pub struct Connection<S> {
    connection: h2::server::Connection<Counted<S>, Bytes>,
    seen: Rc<Seen>,
    ending: Option<Ending>,
}

impl<S: AsyncRead + AsyncWrite + Unpin> Connection<S> {
    /// Reads the preface (RFC 9113 §3.4) and tells our settings.
    pub async fn accept(stream: S) -> Result<Self, h2::Error> {
        let (counted, seen) = Counted::new(stream);
        let connection = Builder::new()
            .max_concurrent_streams(MAX_STREAMS)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .enable_connect_protocol()
            .handshake(counted)
            .await?;
        Ok(Self { connection, seen, ending: None })
    }

    /// The next stream; none when the connection has ended. Streams only move while this is polled.
    pub fn poll_stream(&mut self, cx: &mut Context<'_>) -> Poll<Option<Stream>> {
        loop {
            let came = self.connection.poll_accept(cx);
            if self.seen.is_flood.take() {
                self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
                self.ending = Some(Ending::AtOnce);
                continue;
            }
            let Some(Ok((request, answer))) = ready!(came) else { return Poll::Ready(None) };
            if let Some(stream) = Stream::new(request, answer) {
                return Poll::Ready(Some(stream));
            }
        }
    }

    /// Takes no new stream, and ends behind those that are open (RFC 9113 §6.8).
    pub fn end(&mut self) {
        if self.ending.is_none() {
            self.ending = Some(Ending::Gracefully);
            self.connection.graceful_shutdown();
        }
    }

    /// Whether it takes no new stream any more.
    pub fn is_ending(&self) -> bool {
        self.ending.is_some()
    }

    /// Whether a stream is open that it will see to its end.
    pub fn has_streams(&self) -> bool {
        self.ending != Some(Ending::AtOnce) && self.connection.has_streams()
    }

    /// Whether a head has begun to come that has not ended: nothing else can come before its end.
    pub fn is_in_head(&self) -> bool {
        self.seen.is_in_head.get()
    }

    /// How much its socket took, in bytes, where it takes no more now.
    pub fn blocked_at(&self) -> Option<u64> {
        self.seen.is_blocked.get().then(|| self.seen.written.get())
    }
}

/// A stream, as a connection: what is read from it is one request, what is written to it its answer. Dropped before the
/// answer's end it breaks off.
#[derive(Debug)]
pub struct Stream {
    request: Incoming,
    answer: Answer,
    to_head: bool,
    is_tunnel: bool,
}

/// What is left of an answer.
#[derive(Debug)]
enum Answer {
    /// All of it.
    Owed(SendResponse<Bytes>),
    /// Its body.
    Begun(Outgoing),
    /// Nothing.
    Whole,
}

impl Stream {
    /// None where the stream is no request: that is told here.
    fn new(request: http::Request<h2::RecvStream>, mut answer: SendResponse<Bytes>) -> Option<Self> {
        let (parts, body) = request.into_parts();
        let protocol = parts.extensions.get::<Protocol>();
        let is_websocket = protocol.is_some_and(|protocol| protocol.as_str() == "websocket");
        let key = if is_websocket { Key::fresh() } else { None };
        let is_tunnel = protocol.is_some();
        let has_body = !is_tunnel && !body.is_end_stream();
        let mut head = Vec::new();
        if write_request(&parts, has_body, key.as_ref(), &mut head).is_err() {
            answer.send_reset(Reason::PROTOCOL_ERROR);
            return None;
        }
        let shape = match (is_tunnel, has_body) {
            (true, _) => Shape::Bare,
            (false, false) => Shape::Nothing,
            (false, true) if parts.headers.contains_key(http::header::CONTENT_LENGTH) => Shape::Bare,
            (false, true) => Shape::Chunks,
        };
        let to_head = parts.method == http::Method::HEAD;
        Some(Self { request: Incoming::new(head, body, shape), answer: Answer::Owed(answer), to_head, is_tunnel })
    }

    /// Takes a head from the front of `input`, and what follows it.
    fn begin(&mut self, cx: &mut Context<'_>, input: &[u8]) -> io::Result<usize> {
        let Answer::Owed(answer) = &mut self.answer else { return Err(io::ErrorKind::BrokenPipe.into()) };
        let (to_head, is_tunnel) = (self.to_head, self.is_tunnel);
        let read = Response::read_ours(input, |head| Head::of(head, to_head, is_tunnel));
        // The engine writes heads whole.
        let Ok(Read::Whole(head, length)) = read else { return Err(io::ErrorKind::InvalidData.into()) };
        let behind = &input[length..];
        match head {
            Head::Interim(interim) => {
                answer.send_informational(interim).map_err(broken)?;
                Ok(length)
            }
            Head::Final(response, Framing::None | Framing::Length(0)) => {
                answer.send_response(response, true).map_err(broken)?;
                self.answer = Answer::Whole;
                Ok(length)
            }
            Head::Final(response, Framing::Chunked) if behind == EMPTY => {
                answer.send_response(response, true).map_err(broken)?;
                self.answer = Answer::Whole;
                Ok(input.len())
            }
            Head::Final(response, framing) => {
                let stream = answer.send_response(response, false).map_err(broken)?;
                let mut body = Outgoing::new(stream, framing);
                let more = body.poll_write(cx, behind);
                self.answer = Answer::Begun(body);
                match more {
                    Poll::Ready(more) => Ok(length + more?),
                    Poll::Pending => Ok(length),
                }
            }
        }
    }
}

/// A chunked body without content.
const EMPTY: &[u8] = b"0\r\n\r\n";

/// A head that the engine wrote.
enum Head {
    Interim(http::Response<()>),
    /// How the body behind it ends, of one that is final.
    Final(http::Response<()>, Framing),
}

impl Head {
    fn of(head: &Response<'_>, to_head: bool, is_tunnel: bool) -> Result<Self, HeadError> {
        let invalid = |_| HeadError::Status;
        if is_tunnel && head.status == 101 {
            // Over HTTP/2 success is 200, and the rest of the handshake is of HTTP/1 (RFC 8441 §5).
            let mut agreed = response(head, 200).map_err(invalid)?;
            agreed.headers_mut().remove(http::header::SEC_WEBSOCKET_ACCEPT);
            return Ok(Self::Final(agreed, Framing::UntilClose));
        }
        if head.is_interim() {
            return response(head, head.status).map(Self::Interim).map_err(invalid);
        }
        // For the same reason an answer that changes nothing is no success (RFC 9220 §3).
        let status = if is_tunnel && (200..300).contains(&head.status) { 501 } else { head.status };
        response(head, status).map(|answer| Self::Final(answer, head.framing(to_head))).map_err(invalid)
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.request.poll_read(cx, buffer)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, input: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.answer {
            Answer::Owed(_) => Poll::Ready(self.begin(cx, input)),
            Answer::Begun(body) => body.poll_write(cx, input),
            Answer::Whole => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// The end of an answer is in its own bytes; only that of another protocol is told so.
    fn poll_shutdown(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        let is_tunnel = self.is_tunnel;
        Poll::Ready(match &mut self.answer {
            Answer::Begun(body) if is_tunnel => body.end(),
            _ => Ok(()),
        })
    }
}

impl Transport for Stream {
    fn watch(&mut self, cx: &mut Context<'_>) -> Watch {
        let reset = match &mut self.answer {
            Answer::Owed(answer) => answer.poll_reset(cx).map(|_| ()),
            Answer::Begun(body) => body.poll_reset(cx),
            Answer::Whole => Poll::Pending,
        };
        if reset.is_ready() { Watch::Gone } else { Watch::Watched }
    }

    fn is_quiet(&mut self) -> bool {
        false
    }

    fn reset(&mut self) {
        self.break_off();
    }

    fn takes_trailers(&self) -> bool {
        true
    }
}

impl Stream {
    fn break_off(&mut self) {
        let reason = if self.is_tunnel { Reason::CANCEL } else { Reason::INTERNAL_ERROR };
        match &mut self.answer {
            Answer::Owed(answer) => answer.send_reset(reason),
            Answer::Begun(body) => body.reset(reason),
            Answer::Whole => {}
        }
        self.answer = Answer::Whole;
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let is_whole = match &self.answer {
            Answer::Owed(_) => false,
            Answer::Begun(body) => body.has_ended(),
            Answer::Whole => true,
        };
        if !is_whole {
            self.break_off();
        }
    }
}
