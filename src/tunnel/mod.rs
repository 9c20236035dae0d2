//! Bytes both ways, as they come, until both sides are done: what an upgraded connection becomes.
//!
//! An idle tunnel holds no buffer. A direction reads into the thread's scratch buffer and writes at once; only
//! what the other side does not take is kept, and nothing more is read before it is gone. So a tunnel never
//! holds more than [`SCRATCH`] bytes each way, and a slow reader slows its writer.
//!
//! The end of one direction is passed on. Some protocols go on in the other (RFC 9293 §3.6 calls it half-closed),
//! others forget to close: so the other direction may go on while bytes flow, and ends after a silence that its owner
//! chooses: [`LINGER`] for what began as HTTP.
//!
//! What proves long is moved by the kernel alone, where both sides are sockets: `splice`.

pub mod hello;
#[cfg(target_os = "linux")]
mod splice;
#[cfg(not(target_os = "linux"))]
#[path = "copy.rs"]
mod splice;

use std::{
    cell::RefCell,
    io,
    pin::Pin,
    task::{Context, Poll, ready},
    time::Duration,
};

use bytes::{Buf as _, Bytes};
use splice::{Bulk, Moved};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
    time::{Instant, Sleep, sleep_until},
};

/// Bytes read at once, and kept at most for a side that does not take them. 64 KiB is where larger reads stop
/// to save system calls that matter, and what the product promises to hold of any body.
pub const SCRATCH: usize = 64 * 1024;

/// How long a tunnel may be silent (Envoy's TCP proxy: 1 h).
pub const IDLE: Duration = Duration::from_secs(3600);

/// How long one direction may be silent after the other has ended, where the protocol is one that people write
/// carelessly.
pub const LINGER: Duration = Duration::from_secs(1);

thread_local! {
    static BUFFER: RefCell<Box<[u8]>> = RefCell::new(vec![0; SCRATCH].into_boxed_slice());
}

/// What went through a tunnel.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Bytes from the client.
    pub sent: u64,
    /// Bytes to the client.
    pub received: u64,
}

/// Why a tunnel ended.
#[derive(Debug)]
pub enum End {
    /// Both sides said so.
    Closed,
    /// One side said so, and the other has been silent since.
    HalfClosed,
    /// No byte either way for the whole of the idle limit.
    Idle,
    /// One side broke.
    Failed(io::Error),
}

/// One side of a tunnel: a stream, and what was read from it before the tunnel began.
#[derive(Debug)]
pub struct Side<S> {
    /// The stream.
    pub stream: S,
    /// Goes first.
    pub early: Bytes,
    /// The socket that bytes may be moved from and to behind the stream's back, where it is nothing but that.
    pub socket: fn(&S) -> Option<&TcpStream>,
}

/// How long a tunnel may be silent.
#[derive(Debug, Clone, Copy)]
pub struct Patience {
    /// Both ways.
    pub idle: Duration,
    /// One way, when the other has ended; at most `idle`.
    pub half_closed: Duration,
}

/// Carries bytes until both directions have ended, one of them broke, or nothing moved for too long.
pub fn run<A, B>(client: Side<A>, upstream: Side<B>, patience: &'static Patience) -> Tunnel<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    Tunnel {
        up: Direction::new(client.early),
        down: Direction::new(upstream.early),
        client: (client.stream, client.socket),
        upstream: (upstream.stream, upstream.socket),
        silence: Silence::new(patience.idle),
        patience,
    }
}

/// Two streams that are joined. Written by hand, as thousands may wait: an `async fn` would hold its arguments twice.
#[derive(Debug)]
pub struct Tunnel<A, B> {
    client: Tapped<A>,
    upstream: Tapped<B>,
    up: Direction,
    down: Direction,
    silence: Silence,
    patience: &'static Patience,
}

impl<A, B> Tunnel<A, B> {
    /// What went through so far.
    pub fn counts(&self) -> Counts {
        Counts { sent: self.up.count, received: self.down.count }
    }
}

impl<A, B> Future for Tunnel<A, B>
where
    A: AsyncRead + AsyncWrite + Unpin,
    B: AsyncRead + AsyncWrite + Unpin,
{
    type Output = (Counts, End);

    fn poll(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<(Counts, End)> {
        let this = self.get_mut();
        let before = this.up.count + this.down.count;
        let up_done = this.up.poll(cx, &mut this.client, &mut this.upstream);
        if let Poll::Ready(Err(error)) = up_done {
            // Before the other direction is looked at: whoever was told of the break reads an end where there is none.
            return Poll::Ready((this.counts(), End::Failed(error)));
        }
        let down_done = this.down.poll(cx, &mut this.upstream, &mut this.client);
        if let Poll::Ready(Err(error)) = down_done {
            return Poll::Ready((this.counts(), End::Failed(error)));
        }
        let half_closed = up_done.is_ready() || down_done.is_ready();
        if up_done.is_ready() && down_done.is_ready() {
            return Poll::Ready((this.counts(), End::Closed));
        }
        let Patience { idle, half_closed: lingering } = *this.patience;
        this.silence.limit = if half_closed { lingering.min(idle) } else { idle };
        let has_moved = this.up.count + this.down.count > before;
        ready!(this.silence.poll(cx, has_moved, half_closed));
        Poll::Ready((this.counts(), if half_closed { End::HalfClosed } else { End::Idle }))
    }
}

/// A stream, and how to reach the socket beneath it.
type Tapped<S> = (S, fn(&S) -> Option<&TcpStream>);

/// One way of a tunnel.
#[derive(Debug)]
struct Direction {
    /// Read, but not taken by the writer yet. In a box, as nearly always there is nothing.
    kept: Option<Box<Bytes>>,
    count: u64,
    state: State,
    bulk: Bulk,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Carrying,
    Flushing,
    Ending,
    Ended,
}

impl Direction {
    fn new(early: Bytes) -> Self {
        Self {
            kept: (!early.is_empty()).then(|| Box::new(early)),
            count: 0,
            state: State::Carrying,
            bulk: Bulk::default(),
        }
    }

    fn poll<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Tapped<R>,
        writer: &mut Tapped<W>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            match self.state {
                State::Carrying => ready!(self.poll_carry(cx, reader, writer))?,
                State::Flushing => {
                    ready!(Pin::new(&mut writer.0).poll_flush(cx))?;
                    self.state = State::Ending;
                }
                State::Ending => {
                    // The other side may have closed already; its own direction tells.
                    let _ = ready!(Pin::new(&mut writer.0).poll_shutdown(cx));
                    self.state = State::Ended;
                }
                State::Ended => return Poll::Ready(Ok(())),
            }
        }
    }

    /// Carries until there is nothing to carry; ready at the end of the reader's bytes.
    fn poll_carry<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut Tapped<R>,
        writer: &mut Tapped<W>,
    ) -> Poll<io::Result<()>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        loop {
            ready!(self.poll_kept(cx, &mut writer.0))?;
            let has_ended = match ((reader.1)(&reader.0), (writer.1)(&writer.0)) {
                (Some(from), Some(to)) if self.bulk.is_long() => {
                    ready!(self.bulk.poll_move(cx, from, to, &mut self.count))? == Moved::All
                }
                _ => {
                    let read =
                        BUFFER.with_borrow_mut(|buffer| self.poll_chunk(cx, &mut reader.0, &mut writer.0, buffer));
                    if read.is_pending() {
                        // A stream that encrypts may have taken bytes that its socket has not: they would stay behind.
                        let _ = Pin::new(&mut writer.0).poll_flush(cx)?;
                    }
                    let read = ready!(read)?;
                    self.bulk.has_carried(read);
                    read == 0
                }
            };
            if has_ended {
                self.state = State::Flushing;
                return Poll::Ready(Ok(()));
            }
        }
    }

    /// Writes what was kept.
    fn poll_kept<W: AsyncWrite + Unpin>(&mut self, cx: &mut Context<'_>, writer: &mut W) -> Poll<io::Result<()>> {
        while let Some(kept) = &mut self.kept {
            let written = ready!(Pin::new(&mut *writer).poll_write(cx, kept))?;
            if written == 0 {
                return Poll::Ready(Err(io::ErrorKind::WriteZero.into()));
            }
            self.count += written as u64;
            kept.advance(written);
            if kept.is_empty() {
                self.kept = None;
            }
        }
        Poll::Ready(Ok(()))
    }

    /// Reads once, writes what the other side takes, and keeps the rest. Returns how much was read.
    fn poll_chunk<R, W>(
        &mut self,
        cx: &mut Context<'_>,
        reader: &mut R,
        writer: &mut W,
        buffer: &mut [u8],
    ) -> Poll<io::Result<usize>>
    where
        R: AsyncRead + Unpin,
        W: AsyncWrite + Unpin,
    {
        let mut chunk = ReadBuf::new(buffer);
        ready!(Pin::new(reader).poll_read(cx, &mut chunk))?;
        let chunk = chunk.filled();
        if chunk.is_empty() {
            return Poll::Ready(Ok(0));
        }
        let written = match Pin::new(writer).poll_write(cx, chunk) {
            Poll::Ready(written) => written?,
            Poll::Pending => 0,
        };
        self.count += written as u64;
        if written < chunk.len() {
            self.kept = Some(Box::new(Bytes::copy_from_slice(&chunk[written..])));
        }
        Poll::Ready(Ok(chunk.len()))
    }
}

/// Watches that something moves. Its timer is moved only when it fires, not with every byte.
#[derive(Debug)]
struct Silence {
    limit: Duration,
    moved: Instant,
    half_closed: bool,
    timer: Pin<Box<Sleep>>,
}

impl Silence {
    fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self { limit, moved: now, half_closed: false, timer: Box::pin(sleep_until(now + limit)) }
    }

    fn poll(&mut self, cx: &mut Context<'_>, moved: bool, half_closed: bool) -> Poll<()> {
        let limit_shrank = half_closed && !self.half_closed;
        if moved || limit_shrank {
            self.moved = Instant::now();
        }
        if limit_shrank {
            self.half_closed = true;
            self.timer.as_mut().reset(self.moved + self.limit);
        }
        loop {
            ready!(self.timer.as_mut().poll(cx));
            let due = self.moved + self.limit;
            if due <= Instant::now() {
                return Poll::Ready(());
            }
            self.timer.as_mut().reset(due);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::mem;

    use tokio::io::{AsyncReadExt, AsyncWriteExt, DuplexStream, duplex};

    use super::*;

    fn side(stream: DuplexStream, early: &'static [u8]) -> Side<DuplexStream> {
        Side { stream, early: Bytes::from_static(early), socket: |_| None }
    }

    /// That of HTTP.
    static PATIENCE: Patience = Patience { idle: IDLE, half_closed: LINGER };

    #[tokio::test(start_paused = true)]
    async fn early_bytes_go_first_in_both_directions() {
        let (mut client, near) = duplex(64);
        let (mut upstream, far) = duplex(64);
        let tunnel = tokio::spawn(run(side(near, b"from client, "), side(far, b"from upstream, "), &PATIENCE));
        client.write_all(b"then more").await.expect("written");
        upstream.write_all(b"then more").await.expect("written");
        client.shutdown().await.expect("shut");
        upstream.shutdown().await.expect("shut");
        let (mut got, mut sent) = (String::new(), String::new());
        client.read_to_string(&mut got).await.expect("read");
        upstream.read_to_string(&mut sent).await.expect("read");
        assert_eq!((sent.as_str(), got.as_str()), ("from client, then more", "from upstream, then more"));
        let (counts, end) = tunnel.await.expect("the tunnel ends");
        assert_eq!(counts, Counts { sent: 22, received: 24 });
        assert!(matches!(end, End::Closed), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_tunnel_goes_on_while_bytes_flow() {
        let (mut client, near) = duplex(64);
        let (mut upstream, far) = duplex(64);
        let tunnel = tokio::spawn(run(side(near, b""), side(far, b""), &PATIENCE));
        client.shutdown().await.expect("shut");
        for _ in 0..10 {
            tokio::time::advance(LINGER / 2).await;
            upstream.write_all(b"x").await.expect("written");
            assert_eq!(client.read_u8().await.expect("read"), b'x');
        }
        let (counts, end) = tunnel.await.expect("the tunnel ends");
        assert_eq!(counts.received, 10);
        assert!(matches!(end, End::HalfClosed), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_tunnel_ends_at_the_idle_limit() {
        let (_client, near) = duplex(64);
        let (_upstream, far) = duplex(64);
        let (_, end) = run(side(near, b""), side(far, b""), &PATIENCE).await;
        assert!(matches!(end, End::Idle), "{end:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_half_closed_tunnel_is_as_patient_as_its_owner() {
        let (mut client, near) = duplex(64);
        let (mut upstream, far) = duplex(64);
        static PATIENT: Patience = Patience { idle: IDLE, half_closed: IDLE };
        let tunnel = tokio::spawn(run(side(near, b""), side(far, b""), &PATIENT));
        client.shutdown().await.expect("shut");
        tokio::time::sleep(IDLE / 2).await;
        upstream.write_all(b"late").await.expect("written");
        upstream.shutdown().await.expect("shut");
        let mut got = String::new();
        client.read_to_string(&mut got).await.expect("read");
        assert_eq!(got, "late");
        assert!(matches!(tunnel.await.expect("the tunnel ends").1, End::Closed));
    }

    /// Takes bytes at once, and lets them go when it is told to and its turn has come: as a stream that encrypts does.
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
                cx.waker().wake_by_ref();
                return Poll::Pending;
            }
            let held = mem::take(&mut self.held);
            if held.is_empty() {
                Poll::Ready(Ok(()))
            } else {
                Pin::new(&mut self.stream).poll_write(cx, &held).map_ok(|_| ())
            }
        }

        fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
            Pin::new(&mut self.stream).poll_shutdown(cx)
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_stream_holds_back_goes_out_before_more_is_waited_for() {
        let (mut client, near) = duplex(64);
        let (mut upstream, far) = duplex(64);
        let near = Side {
            stream: Holding { stream: near, held: Vec::new(), flushes: 0 },
            early: Bytes::new(),
            socket: |_| None,
        };
        tokio::spawn(run(near, side(far, b""), &PATIENCE));
        upstream.write_all(b"now").await.expect("written");
        let mut got = [0; 3];
        tokio::time::timeout(LINGER, client.read_exact(&mut got)).await.expect("in time").expect("read");
        assert_eq!(&got, b"now");
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_reader_loses_nothing() {
        let (mut client, near) = duplex(1 << 20);
        let (mut upstream, far) = duplex(10);
        let sent: Vec<u8> = (0..300_000u32).map(|n| (n % 251) as u8).collect();
        client.write_all(&sent).await.expect("written");
        client.shutdown().await.expect("shut");
        tokio::spawn(run(side(near, b""), side(far, b""), &PATIENCE));
        let mut got = Vec::new();
        upstream.read_to_end(&mut got).await.expect("read");
        assert!(got == sent);
    }
}
