//! One of the two connections of an exchange: a stream, and the bytes that were read from it ahead of their turn.
//!
//! Bytes are read into the thread's scratch buffer and looked at there. What could not be used yet, as an unfinished
//! head or the request behind this one, is kept; a leg from which all was used holds no memory.

use std::{
    future::Future,
    io,
    pin::{Pin, pin},
    task::{Context, Poll, Waker, ready},
};

use bytes::Bytes;
use tokio::{
    io::{AsyncRead, AsyncWrite, Interest, ReadBuf},
    net::{TcpStream, UnixStream},
};
use tokio_rustls::{client, server};

use super::{
    body::Out,
    scratch::{self, Kept},
};

/// A stream that tells when its other end has gone, without being read.
pub trait Transport: AsyncRead + AsyncWrite + Unpin {
    /// Whether the other end is still there.
    fn watch(&mut self, cx: &mut Context<'_>) -> Watch;

    /// Whether the other end has neither closed its side nor sent anything.
    fn is_quiet(&mut self) -> bool;

    /// From now on a close tells the other end that something broke.
    fn reset(&mut self);

    /// Whether a close without a word looks as if something broke (RFC 8446 §6.1).
    fn says_goodbye(&self) -> bool {
        false
    }

    /// Whether the other end reads trailers without saying so.
    fn takes_trailers(&self) -> bool {
        false
    }

    /// Whether the other end has said that it did nothing with what was sent (RFC 9113 §8.7).
    fn is_unprocessed(&self) -> bool {
        false
    }
}

/// What is known of the other end of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Watch {
    /// It has closed its side, or the connection broke.
    Gone,
    /// It is there; its leaving wakes the task.
    Watched,
    /// It is there; but bytes wait to be read, and its leaving would wake nobody.
    Blind,
}

/// The systems' streams remember what the event queue told of them: asking costs no system call.
macro_rules! watch {
    () => {
        fn watch(&mut self, cx: &mut Context<'_>) -> Watch {
            match self.poll_read_ready(cx) {
                Poll::Pending => return Watch::Watched,
                Poll::Ready(Err(_)) => return Watch::Gone,
                Poll::Ready(Ok(())) => {}
            }
            match pin!(self.ready(Interest::READABLE)).poll(&mut Context::from_waker(Waker::noop())) {
                Poll::Ready(Ok(state)) if !state.is_read_closed() => Watch::Blind,
                Poll::Pending => Watch::Blind,
                Poll::Ready(_) => Watch::Gone,
            }
        }

        fn is_quiet(&mut self) -> bool {
            self.try_read(&mut [0]).is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        }
    };
}

impl Transport for TcpStream {
    watch!();

    fn reset(&mut self) {
        // Where that is refused the connection is gone already.
        let _ = self.set_zero_linger();
    }
}

/// What the socket beneath tells is true of what is carried on it; what was decrypted and not read yet is found by reading.
macro_rules! watch_beneath {
    ($stream:ty) => {
        impl<S: Transport> Transport for $stream {
            fn watch(&mut self, cx: &mut Context<'_>) -> Watch {
                self.get_mut().0.watch(cx)
            }

            fn is_quiet(&mut self) -> bool {
                let mut byte = [0];
                let read =
                    Pin::new(self).poll_read(&mut Context::from_waker(Waker::noop()), &mut ReadBuf::new(&mut byte));
                read.is_pending()
            }

            fn reset(&mut self) {
                self.get_mut().0.reset();
            }

            fn says_goodbye(&self) -> bool {
                true
            }
        }
    };
}

watch_beneath!(client::TlsStream<S>);
watch_beneath!(server::TlsStream<S>);

impl Transport for UnixStream {
    watch!();

    /// A Unix socket has no reset.
    fn reset(&mut self) {}
}

/// A connection and what was read ahead.
#[derive(Debug)]
pub struct Leg<S> {
    pub(super) stream: S,
    pub(super) ahead: Kept,
}

/// What a read brought.
pub(super) enum Input<T> {
    /// Bytes, and what was made of them.
    Bytes(T),
    /// The other end will send no more.
    End,
}

impl<S: Transport> Leg<S> {
    /// Nothing was read yet.
    pub fn new(stream: S) -> Self {
        Self { stream, ahead: Kept::default() }
    }

    /// Shows `look` what was read ahead; it returns how many of the bytes it took.
    pub(super) fn look<T>(&mut self, look: impl FnOnce(&[u8], &mut Vec<u8>) -> (usize, T)) -> T {
        let (taken, looked) = scratch::with(|_, output| look(&self.ahead, output));
        self.ahead.take(taken);
        looked
    }

    /// Reads once, and shows `look` the new bytes behind those that were read ahead; it returns how many it took, the
    /// rest is kept.
    pub(super) fn poll_read<T>(
        &mut self,
        cx: &mut Context<'_>,
        look: impl FnOnce(&mut Context<'_>, &[u8], &mut Vec<u8>) -> (usize, T),
    ) -> Poll<io::Result<Input<T>>> {
        let Self { stream, ahead } = self;
        scratch::with(|input, output| {
            let mut buffer = ReadBuf::new(input);
            ready!(Pin::new(stream).poll_read(cx, &mut buffer))?;
            let read = buffer.filled();
            if read.is_empty() {
                return Poll::Ready(Ok(Input::End));
            }
            let looked = if ahead.is_empty() {
                let (taken, looked) = look(cx, read, output);
                ahead.push(&read[taken..]);
                looked
            } else {
                ahead.push(read);
                let (taken, looked) = look(cx, ahead, output);
                ahead.take(taken);
                looked
            };
            Poll::Ready(Ok(Input::Bytes(looked)))
        })
    }

    /// Whether the other end is still there.
    pub fn watch(&mut self, cx: &mut Context<'_>) -> Watch {
        self.stream.watch(cx)
    }

    /// Whether the other end reads trailers without saying so.
    pub(super) fn takes_trailers(&self) -> bool {
        self.stream.takes_trailers()
    }

    /// Whether the other end has said that it did nothing with what was sent.
    pub(super) fn is_unprocessed(&self) -> bool {
        self.stream.is_unprocessed()
    }

    /// Whether a close without a word looks as if something broke.
    pub fn says_goodbye(&self) -> bool {
        self.stream.says_goodbye()
    }

    /// From now on a close tells the other end that something broke.
    pub fn reset(&mut self) {
        self.stream.reset();
    }

    /// Whether something waits to be read that has come before its turn.
    pub fn has_read_ahead(&self) -> bool {
        !self.ahead.is_empty()
    }

    /// Reads and forgets; ready with how much that was, 0 at the end.
    pub fn poll_discard(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<usize>> {
        let ahead = self.ahead.len();
        if ahead > 0 {
            self.ahead.clear();
            return Poll::Ready(Ok(ahead));
        }
        let read = ready!(self.poll_read(cx, |_, input, _| (input.len(), input.len())))?;
        Poll::Ready(Ok(match read {
            Input::Bytes(count) => count,
            Input::End => 0,
        }))
    }

    /// Says that nothing more will come.
    pub fn poll_shutdown(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    /// The bare stream, and what was read ahead. For tunnels alone: see [`super::client::Switched`].
    pub(super) fn bare(&mut self) -> (&mut S, Bytes) {
        (&mut self.stream, std::mem::take(&mut self.ahead).into_bytes())
    }

    /// The same, for good.
    pub(super) fn into_bare(self) -> (S, Bytes) {
        (self.stream, self.ahead.into_bytes())
    }
}

/// Bytes that the other side has not taken yet.
#[derive(Debug, Default)]
pub(super) struct Unwritten {
    bytes: Kept,
    written: u64,
    /// A stream that encrypts may have taken bytes that its socket has not: they would stay behind.
    within: bool,
}

/// What is copied together in one write rather than passed as a vector, in bytes: up to here a copy costs less than
/// the kernel's bookkeeping for two pieces.
const TOGETHER: usize = 16 * 1024;

impl Unwritten {
    /// Whether everything was taken.
    pub(super) fn is_empty(&self) -> bool {
        self.bytes.is_empty() && !self.within
    }

    /// How much was taken.
    pub(super) fn written(&self) -> u64 {
        self.written
    }

    /// Writes what there is; ready when all of it was taken.
    pub(super) fn poll_flush<S: Transport>(&mut self, cx: &mut Context<'_>, to: &mut Leg<S>) -> Poll<io::Result<()>> {
        while !self.bytes.is_empty() {
            let written = ready!(Pin::new(&mut to.stream).poll_write(cx, &self.bytes))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.written += written as u64;
            self.within = true;
            self.bytes.take(written);
        }
        if self.within {
            ready!(Pin::new(&mut to.stream).poll_flush(cx))?;
            self.within = false;
        }
        Poll::Ready(Ok(()))
    }

    /// Writes what `out` holds, in one call where that is possible, and keeps what is not taken at once.
    pub(super) fn write<S: Transport>(
        &mut self,
        cx: &mut Context<'_>,
        to: &mut Leg<S>,
        out: &mut Out<'_, '_>,
    ) -> io::Result<()> {
        let (built, run) = out.parts();
        if !self.bytes.is_empty() {
            self.bytes.push(built);
            self.bytes.push(run);
            return Ok(());
        }
        let stream = Pin::new(&mut to.stream);
        let run = if !built.is_empty() && run.len() <= TOGETHER {
            built.extend_from_slice(run);
            &[]
        } else {
            run
        };
        let wrote = match (built.as_slice(), run) {
            ([], []) => return Ok(()),
            ([], only) | (only, []) => stream.poll_write(cx, only),
            (first, second) => stream.poll_write_vectored(cx, &[io::IoSlice::new(first), io::IoSlice::new(second)]),
        };
        let written = match wrote {
            Poll::Ready(Ok(0)) => return Err(io::ErrorKind::WriteZero.into()),
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        self.written += written as u64;
        let from_run = written.saturating_sub(built.len());
        self.bytes.push(built.get(written..).unwrap_or_default());
        self.bytes.push(&run[from_run..]);
        // What goes wrong is found again: something was taken.
        self.within = !matches!(Pin::new(&mut to.stream).poll_flush(cx), Poll::Ready(Ok(())));
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, DuplexStream, duplex};

    use super::*;

    /// Takes bytes at once, and lets them go when it is told to for the second time: as a stream that encrypts does whose
    /// socket is full.
    struct Holding {
        stream: DuplexStream,
        held: Vec<u8>,
        flushes: u8,
    }

    impl AsyncRead for Holding {
        fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_read(cx, buffer)
        }
    }

    impl AsyncWrite for Holding {
        fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, input: &[u8]) -> Poll<io::Result<usize>> {
            self.held.extend_from_slice(input);
            Poll::Ready(Ok(input.len()))
        }

        fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            self.flushes += 1;
            if self.flushes == 1 {
                return Poll::Pending;
            }
            let held = std::mem::take(&mut self.held);
            Pin::new(&mut self.stream).poll_write(cx, &held).map_ok(|_| ())
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    impl Transport for Holding {
        fn watch(&mut self, _: &mut Context<'_>) -> Watch {
            Watch::Watched
        }

        fn is_quiet(&mut self) -> bool {
            true
        }

        fn reset(&mut self) {}
    }

    #[tokio::test]
    async fn what_a_stream_holds_back_counts_as_taken_only_when_it_has_gone() {
        let (mut reader, stream) = duplex(64);
        let mut leg = Leg::new(Holding { stream, held: Vec::new(), flushes: 0 });
        let mut unwritten = Unwritten::default();
        let cx = &mut Context::from_waker(Waker::noop());
        unwritten.write(cx, &mut leg, &mut Out::new(&[], &mut b"the last piece".to_vec())).expect("written");
        assert!(!unwritten.is_empty());
        assert!(unwritten.poll_flush(cx, &mut leg).is_ready());
        assert!(unwritten.is_empty());
        let mut got = [0; 14];
        reader.read_exact(&mut got).await.expect("read");
        assert_eq!(&got, b"the last piece");
    }
}
