//! The side towards a program: one connection of HTTP/2 carries many exchanges, each as a connection that speaks HTTP/1 and
//! is asked once.

use std::{
    future::Future,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
};

use bytes::Bytes;
use h2::{
    Reason,
    client::{Builder, ResponseFuture, SendRequest},
};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

use super::{
    CONNECTION_WINDOW, MAX_HEADERS, SEND_BUFFER, STREAM_WINDOW, broken,
    fields::{request, write_response},
    incoming::{Incoming, Shape},
    outgoing::Outgoing,
};
use crate::http1::{
    head::{Read, Request},
    leg::{Transport, Watch},
    write,
};

/// A connection to a program, which many exchanges share.
#[derive(Debug, Clone)]
pub struct Channel {
    requests: SendRequest<Bytes>,
    scheme: &'static str,
    state: Arc<State>,
}

/// What is known of a connection; a health check has one, and moves between threads.
#[derive(Debug, Default)]
struct State {
    has_ended: AtomicBool,
    is_used: AtomicBool,
    /// Streams that are open.
    streams: AtomicUsize,
}

impl Channel {
    /// Tells our settings. The future carries the connection until it ends, and must be polled meanwhile.
    pub async fn open<S>(
        stream: S,
        scheme: &'static str,
    ) -> Result<(Self, impl Future<Output = ()> + use<S>), h2::Error>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let (requests, connection) = Builder::new()
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_header_list_size(MAX_HEADERS)
            .max_send_buffer_size(SEND_BUFFER)
            .handshake(stream)
            .await?;
        let state = Arc::<State>::default();
        let ended = Arc::clone(&state);
        let carried = async move {
            // Whoever has a stream on it is told what went wrong.
            let _ = connection.await;
            ended.has_ended.store(true, Relaxed);
        };
        Ok((Self { requests, scheme, state }, carried))
    }

    /// Whether another exchange can begin on it now.
    pub fn has_room(&self) -> bool {
        !self.state.has_ended.load(Relaxed)
            && self.state.streams.load(Relaxed) < self.requests.current_max_send_streams()
    }

    /// Whether nothing is under way on it.
    pub fn is_idle(&self) -> bool {
        self.state.has_ended.load(Relaxed) || self.state.streams.load(Relaxed) == 0
    }

    /// Whether it carried an exchange before.
    pub fn is_used(&self) -> bool {
        self.state.is_used.load(Relaxed)
    }

    /// For one exchange.
    pub fn stream(&self) -> Stream {
        self.state.is_used.store(true, Relaxed);
        self.state.streams.fetch_add(1, Relaxed);
        let asking = Asking::Owed(self.requests.clone(), self.scheme);
        let state = Arc::clone(&self.state);
        Stream { asking, answer: Answer::Awaited(None), to_head: false, is_unprocessed: false, state }
    }
}

/// A stream, as a connection: what is written to it is one request, what is read from it its answer. Dropped before the
/// answer's end it is cancelled.
#[derive(Debug)]
pub struct Stream {
    asking: Asking,
    answer: Answer,
    to_head: bool,
    is_unprocessed: bool,
    state: Arc<State>,
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.state.streams.fetch_sub(1, Relaxed);
    }
}

/// What is left of a request.
#[derive(Debug)]
enum Asking {
    Owed(SendRequest<Bytes>, &'static str),
    Begun(Outgoing),
    Whole,
}

/// What has come of an answer.
#[derive(Debug)]
enum Answer {
    /// Interim heads at most, of which this was read last; the future is there once the request is under way.
    Awaited(Option<(ResponseFuture, Lines)>),
    Begun(Incoming),
}

/// Lines of an interim head, and how much of them was read.
#[derive(Debug, Default)]
struct Lines(Vec<u8>, usize);

impl Stream {
    /// Takes a head from the front of `input`, and what follows it.
    fn poll_begin(&mut self, cx: &mut Context<'_>, input: &[u8]) -> Poll<io::Result<usize>> {
        let Asking::Owed(requests, scheme) = &mut self.asking else {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        };
        if let Err(error) = ready!(requests.poll_ready(cx)) {
            // It ends, and takes no more.
            self.state.has_ended.store(true, Relaxed);
            return Poll::Ready(Err(broken(error)));
        }
        // The engine writes heads whole; edits of a route may have made one too large.
        let Ok(Read::Whole(head, length)) = Request::read_ours(input) else {
            return Poll::Ready(Err(io::ErrorKind::InvalidInput.into()));
        };
        self.to_head = head.method() == "HEAD";
        let framing = head.framing();
        let is_whole = !framing.has_body();
        let request = request(&head, scheme).map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))?;
        let (answer, stream) = requests.send_request(request, is_whole).map_err(broken)?;
        self.answer = Answer::Awaited(Some((answer, Lines::default())));
        if is_whole {
            self.asking = Asking::Whole;
            return Poll::Ready(Ok(length));
        }
        let mut body = Outgoing::new(stream, framing);
        let more = body.poll_write(cx, &input[length..]);
        self.asking = Asking::Begun(body);
        Poll::Ready(match more {
            Poll::Ready(more) => more.map(|more| length + more),
            Poll::Pending => Ok(length),
        })
    }

    /// Reads what comes before the answer, and its head.
    fn poll_answer(&mut self, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let Answer::Awaited(Some((answer, lines))) = &mut self.answer else { return Poll::Pending };
        loop {
            let Lines(text, read) = lines;
            if *read < text.len() {
                let count = (text.len() - *read).min(buffer.remaining());
                buffer.put_slice(&text[*read..*read + count]);
                *read += count;
                return Poll::Ready(Ok(()));
            }
            *lines = Lines::default();
            if let Poll::Ready(Some(Ok(interim))) = answer.poll_informational(cx) {
                write_response(&interim.into_parts().0, Shape::Nothing, &mut lines.0);
                continue;
            }
            let (parts, body) = match ready!(Pin::new(&mut *answer).poll(cx)) {
                Ok(response) => response.into_parts(),
                Err(error) => {
                    // RFC 9113 §8.7: what was refused, or came too late for a connection that ends, was not acted on.
                    self.is_unprocessed =
                        error.is_remote() && (error.reason() == Some(Reason::REFUSED_STREAM) || error.is_go_away());
                    return Poll::Ready(Err(broken(error)));
                }
            };
            let mut head = Vec::new();
            let shape = self.shape(&parts, body.is_end_stream());
            write_response(&parts, shape, &mut head);
            // Another exchange takes another stream.
            head.truncate(head.len() - 2);
            write::field(&mut head, b"connection", b"close");
            write::end(&mut head);
            let mut incoming = Incoming::new(head, body, shape);
            let read = incoming.poll_read(cx, buffer);
            self.answer = Answer::Begun(incoming);
            return read;
        }
    }

    fn shape(&self, parts: &http::response::Parts, is_whole: bool) -> Shape {
        let is_of = |name: &str| parts.headers.get(name).map(http::HeaderValue::as_bytes);
        let has_length = is_of("content-length").is_some();
        // Trailers stand behind chunks alone; those of a call tell how it has ended.
        let is_grpc = is_of("content-type").is_some_and(|kind| kind.starts_with(b"application/grpc"));
        let has_trailers = is_grpc || is_of("trailer").is_some();
        match parts.status.as_u16() {
            204 | 304 => Shape::Nothing,
            _ if self.to_head || (has_length && is_whole) => Shape::Nothing,
            _ if has_length && !has_trailers => Shape::Bare,
            _ => Shape::Chunks,
        }
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match &mut self.answer {
            Answer::Begun(answer) => answer.poll_read(cx, buffer),
            Answer::Awaited(_) => self.poll_answer(cx, buffer),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, input: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.asking {
            Asking::Owed(..) => self.poll_begin(cx, input),
            Asking::Begun(body) => body.poll_write(cx, input),
            Asking::Whole => Poll::Ready(Err(io::ErrorKind::BrokenPipe.into())),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

impl Transport for Stream {
    fn watch(&mut self, _: &mut Context<'_>) -> Watch {
        Watch::Watched
    }

    fn is_quiet(&mut self) -> bool {
        false
    }

    fn reset(&mut self) {
        if let Asking::Begun(body) = &mut self.asking {
            body.reset(Reason::CANCEL);
        }
    }

    fn is_unprocessed(&self) -> bool {
        self.is_unprocessed
    }
}
