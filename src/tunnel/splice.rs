//! A long stream, moved by the kernel from socket to socket by way of a pipe: its bytes never come into this process
//! (splice(2)).
//!
//! A copy is cheaper for what is short, so a direction must have carried [`LONG`] in large pieces first, and falls back
//! to copying with the first small piece. A pipe is held only while something is in it or about to be: the next one who
//! needs it takes it from the thread's pool, and an idle tunnel has none.

use std::{
    cell::RefCell,
    io,
    os::fd::{AsFd, OwnedFd},
    sync::LazyLock,
    task::{Context, Poll, ready},
    thread::available_parallelism,
};

use rustix::pipe::{PipeFlags, SpliceFlags, fcntl_setpipe_size, pipe_with, splice};
use tokio::{io::Interest, net::TcpStream};

/// What a direction has carried in large pieces before it counts as long, in bytes: two full reads of the scratch buffer.
const LONG: usize = 128 * 1024;

/// A piece that is smaller is none of a long stream, in bytes: a quarter of a full read.
const LARGE: usize = 16 * 1024;

/// What a pipe may hold, in bytes. More saves system calls, but all pipes of a user together get no more than 64 MiB
/// (`pipe-user-pages-soft` of proc(5)), and they are not ours alone.
const ROOM: usize = 256 * 1024;

/// The most pipes that all threads use at once: 16 MiB, and two descriptors each. Streams beyond them are copied.
const MOST: usize = 64;

/// One part in so many is kept when nobody uses it any more: 4 MiB.
const KEPT: usize = 4;

/// How many pipes are for one thread. As many threads carry streams as there are cores.
static SHARE: LazyLock<usize> = LazyLock::new(|| (MOST / available_parallelism().map_or(1, usize::from)).max(1));

thread_local! {
    static POOL: RefCell<Pool> = RefCell::default();
}

/// How long one direction is, and what of it is on its way through a pipe.
#[derive(Debug, Default)]
pub(super) struct Bulk {
    /// Carried in large pieces, without a small one between them.
    run: usize,
    /// In the pipe.
    inside: usize,
    pipe: Option<Pipe>,
}

/// What became of a move.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// The reader has ended, and the writer has it all.
    All,
    /// Everything so far; what follows is better copied.
    ForNow,
}

impl Bulk {
    /// Notes that so many bytes were copied at once.
    pub(super) fn has_carried(&mut self, count: usize) {
        self.run = if count < LARGE { 0 } else { self.run.saturating_add(count) };
    }

    /// Whether moving is worth it.
    pub(super) fn is_long(&self) -> bool {
        self.run >= LONG
    }

    /// Moves until nothing is left to move for now; `count` grows by what the writer took.
    pub(super) fn poll_move(
        &mut self,
        cx: &mut Context<'_>,
        from: &TcpStream,
        to: &TcpStream,
        count: &mut u64,
    ) -> Poll<io::Result<Moved>> {
        loop {
            ready!(self.poll_drain(cx, to, count))?;
            if !self.is_long() {
                self.give_back();
                return Poll::Ready(Ok(Moved::ForNow));
            }
            match from.poll_read_ready(cx) {
                Poll::Ready(ready) => ready?,
                Poll::Pending => {
                    self.give_back();
                    return Poll::Pending;
                }
            }
            let Some(pipe) = self.pipe.take().or_else(Pipe::take) else {
                self.run = 0;
                return Poll::Ready(Ok(Moved::ForNow));
            };
            let moved = from.try_io(Interest::READABLE, || transfer(from, &pipe.writer, ROOM));
            self.pipe = Some(pipe);
            match moved {
                Ok(0) => {
                    self.give_back();
                    return Poll::Ready(Ok(Moved::All));
                }
                Ok(moved) => {
                    self.inside = moved;
                    self.has_carried(moved);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
    }

    /// Empties the pipe into the writer.
    fn poll_drain(&mut self, cx: &mut Context<'_>, to: &TcpStream, count: &mut u64) -> Poll<io::Result<()>> {
        while let (1.., Some(pipe)) = (self.inside, &self.pipe) {
            ready!(to.poll_write_ready(cx))?;
            match to.try_io(Interest::WRITABLE, || transfer(&pipe.reader, to, self.inside)) {
                Ok(0) => return Poll::Ready(Err(io::ErrorKind::WriteZero.into())),
                Ok(moved) => {
                    self.inside -= moved;
                    *count += moved as u64;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Poll::Ready(Err(error)),
            }
        }
        Poll::Ready(Ok(()))
    }

    fn give_back(&mut self) {
        if let Some(pipe) = self.pipe.take() {
            POOL.with_borrow_mut(|pool| pool.take_back(pipe));
        }
    }
}

/// A direction that ends with bytes in its pipe takes the pipe along: nobody else may read them.
impl Drop for Bulk {
    fn drop(&mut self) {
        if self.inside == 0 {
            self.give_back();
        } else {
            POOL.with_borrow_mut(|pool| pool.made -= 1);
        }
    }
}

/// The pipes of a thread.
#[derive(Debug, Default)]
struct Pool {
    idle: Vec<Pipe>,
    /// How many there are, used or not.
    made: usize,
}

impl Pool {
    /// Keeps it for the next one who needs it, or closes it where enough wait for that already.
    fn take_back(&mut self, pipe: Pipe) {
        if self.idle.len() < SHARE.div_ceil(KEPT) {
            self.idle.push(pipe);
        } else {
            self.made -= 1;
        }
    }
}

/// An empty pipe, unless it is in the hands of a [`Bulk`].
#[derive(Debug)]
struct Pipe {
    reader: OwnedFd,
    writer: OwnedFd,
}

impl Pipe {
    /// One that nobody uses; `None` where there are enough, or the system gives no more.
    fn take() -> Option<Self> {
        POOL.with_borrow_mut(|pool| {
            if let Some(pipe) = pool.idle.pop() {
                return Some(pipe);
            }
            if pool.made >= *SHARE {
                return None;
            }
            let (reader, writer) = pipe_with(PipeFlags::NONBLOCK | PipeFlags::CLOEXEC).ok()?;
            // A smaller one does as well.
            let _ = fcntl_setpipe_size(&writer, ROOM);
            pool.made += 1;
            Some(Self { reader, writer })
        })
    }
}

fn transfer(from: &impl AsFd, to: &impl AsFd, most: usize) -> io::Result<usize> {
    Ok(splice(from, None, to, None, most, SpliceFlags::NONBLOCK | SpliceFlags::MOVE)?)
}

#[cfg(test)]
mod tests {
    use tokio::{
        io::{AsyncReadExt, AsyncWriteExt},
        net::TcpListener,
    };

    use super::{
        super::{IDLE, Patience, Side, run},
        *,
    };

    async fn pair() -> (TcpStream, TcpStream) {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a listener");
        let far = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("a connection");
        (far, listener.accept().await.expect("its other end").0)
    }

    fn side(stream: TcpStream) -> Side<TcpStream> {
        Side { stream, early: bytes::Bytes::new(), socket: |stream| Some(stream) }
    }

    #[tokio::test]
    async fn a_long_stream_is_moved_whole_and_leaves_its_pipe_empty() {
        let (mut client, near) = pair().await;
        let (mut upstream, far) = pair().await;
        let sent: Vec<u8> = (0..8_000_000_u32).map(|n| (n % 251) as u8).collect();
        static PATIENT: Patience = Patience { idle: IDLE, half_closed: IDLE };
        let written = async {
            client.write_all(&sent).await.expect("written");
            client.shutdown().await.expect("shut");
        };
        let read = async {
            let mut got = Vec::new();
            upstream.read_to_end(&mut got).await.expect("read");
            upstream.shutdown().await.expect("shut");
            got
        };
        let ((counts, _), (), got) = tokio::join!(run(side(near), side(far), &PATIENT), written, read);
        assert!(got == sent, "{} bytes of {}", got.len(), sent.len());
        assert_eq!(counts.sent, 8_000_000);
        let (idle, made) = POOL.with_borrow(|pool| (pool.idle.len(), pool.made));
        assert_eq!((idle, made), (1, 1), "it was moved, and its pipe is free again");
    }

    #[test]
    fn a_thread_takes_its_share_of_pipes_and_keeps_a_part_of_it() {
        let taken: Vec<Bulk> = std::iter::from_fn(Pipe::take)
            .take(MOST + 1)
            .map(|pipe| Bulk { pipe: Some(pipe), ..Bulk::default() })
            .collect();
        assert!((1..=MOST).contains(&taken.len()) && taken.len() == *SHARE, "{}", taken.len());
        drop(taken);
        let (idle, made) = POOL.with_borrow(|pool| (pool.idle.len(), pool.made));
        assert_eq!((idle, made), (SHARE.div_ceil(KEPT), SHARE.div_ceil(KEPT)));
    }

    #[test]
    fn only_large_pieces_in_a_row_make_a_stream_long() {
        let mut bulk = Bulk::default();
        bulk.has_carried(LONG - 1);
        bulk.has_carried(LARGE - 1);
        bulk.has_carried(LARGE);
        assert!(!bulk.is_long());
        bulk.has_carried(LONG);
        assert!(bulk.is_long());
    }
}
