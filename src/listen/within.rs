//! What HTTP/1 is spoken on that is no bare socket: TLS, or a stream of HTTP/2.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tokio_rustls::server::TlsStream;

use crate::{
    http1::{
        leg::{Transport, Watch},
        rewound::Rewound,
    },
    http2::server::Stream,
};

/// TLS on an accepted socket, of which the first bytes were read before it was known.
pub type Encrypted = TlsStream<Rewound<TcpStream>>;

/// A connection within another one.
#[derive(Debug)]
pub enum Within {
    /// HTTP/1.1 by the choice of both sides.
    Tls(Box<Encrypted>),
    /// One request.
    Stream(Box<Stream>),
}

impl AsyncRead for Within {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buffer),
            Self::Stream(stream) => Pin::new(stream).poll_read(cx, buffer),
        }
    }
}

impl AsyncWrite for Within {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, bytes),
            Self::Stream(stream) => Pin::new(stream).poll_write(cx, bytes),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Stream(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Stream(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}

impl Transport for Within {
    fn watch(&mut self, cx: &mut Context<'_>) -> Watch {
        match self {
            Self::Tls(stream) => stream.watch(cx),
            Self::Stream(stream) => stream.watch(cx),
        }
    }

    fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tls(stream) => stream.is_quiet(),
            Self::Stream(stream) => stream.is_quiet(),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Tls(stream) => stream.reset(),
            Self::Stream(stream) => stream.reset(),
        }
    }

    fn says_goodbye(&self) -> bool {
        matches!(self, Self::Tls(_))
    }

    fn takes_trailers(&self) -> bool {
        matches!(self, Self::Stream(_))
    }
}
