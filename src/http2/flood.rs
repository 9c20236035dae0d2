//! Counts the frames that cost their sender nothing (RFC 9113 §10.5), as they come from the socket, and sees where the other
//! end lets a connection stand.
//!
//! What the `h2` crate has no limit for is counted here, by the nine bytes before each frame: pings, settings,
//! priorities, resets, and data without data. A ping between data is how gRPC measures its way, so data and heads
//! forgive the pings before them.

use std::{
    cell::Cell,
    io,
    pin::Pin,
    rc::Rc,
    task::{Context, Poll, ready},
    time::{Duration, Instant},
};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// In which so many are too many.
const WINDOW: Duration = Duration::from_secs(10);

/// Streams that a client takes back, in a window.
const MOST_RESETS: u32 = 1_000;

/// Everything else of that kind, in a window (Sōzu: 50 settings).
const MOST_OTHERS: u32 = 100;

/// RFC 9113 §3.4
const PREFACE: usize = 24;

/// The bytes before each frame (§4.1).
const FRAME_HEAD: usize = 9;

/// A connection of a client that is counted.
#[derive(Debug)]
pub(super) struct Counted<S> {
    stream: S,
    count: Count,
    seen: Rc<Seen>,
}

/// What is known of the connection beneath the frames.
#[derive(Debug, Default)]
pub(super) struct Seen {
    /// Too many frames of one kind have come; whoever takes that deals with it.
    pub(super) is_flood: Cell<bool>,
    /// A head has begun, and no other frame may come before its end (RFC 9113 §4.3).
    pub(super) is_in_head: Cell<bool>,
    /// The socket takes no more.
    pub(super) is_blocked: Cell<bool>,
    /// Bytes that it took.
    pub(super) written: Cell<u64>,
}

impl Seen {
    fn note(&self, wrote: &Poll<io::Result<usize>>) {
        self.is_blocked.set(wrote.is_pending());
        if let Poll::Ready(Ok(written)) = wrote {
            self.written.set(self.written.get() + *written as u64);
        }
    }
}

impl<S> Counted<S> {
    pub(super) fn new(stream: S) -> (Self, Rc<Seen>) {
        let seen = Rc::<Seen>::default();
        (Self { stream, count: Count::default(), seen: Rc::clone(&seen) }, seen)
    }
}

#[derive(Debug)]
struct Count {
    /// Bytes before the next frame.
    skip: usize,
    head: [u8; FRAME_HEAD],
    read: usize,
    since: Option<Instant>,
    resets: u32,
    others: u32,
    is_in_head: bool,
}

impl Default for Count {
    fn default() -> Self {
        Self { skip: PREFACE, head: [0; FRAME_HEAD], read: 0, since: None, resets: 0, others: 0, is_in_head: false }
    }
}

impl Count {
    /// Whether it has become a flood with these bytes.
    fn is_flooded_by(&mut self, mut bytes: &[u8]) -> bool {
        let mut is_flood = false;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = self.skip.min(bytes.len());
                self.skip -= skipped;
                bytes = &bytes[skipped..];
                continue;
            }
            let taken = (FRAME_HEAD - self.read).min(bytes.len());
            self.head[self.read..self.read + taken].copy_from_slice(&bytes[..taken]);
            self.read += taken;
            bytes = &bytes[taken..];
            if self.read == FRAME_HEAD {
                self.read = 0;
                is_flood |= self.is_flooded_by_frame();
            }
        }
        is_flood
    }

    fn is_flooded_by_frame(&mut self) -> bool {
        let [l0, l1, l2, kind, flags, ..] = self.head;
        self.skip = u32::from_be_bytes([0, l0, l1, l2]) as usize;
        if matches!(kind, HEADERS | CONTINUATION) {
            self.is_in_head = flags & END_HEADERS == 0;
        }
        match kind {
            DATA if self.skip > 0 || flags & END_STREAM != 0 => self.others = 0,
            HEADERS => self.others = 0,
            RST_STREAM => self.resets += 1,
            WINDOW_UPDATE | CONTINUATION => return false,
            // Ours are few; a ping that nobody sent is as good as any.
            SETTINGS if flags & ACK != 0 => return false,
            _ => self.others += 1,
        }
        (self.resets > MOST_RESETS || self.others > MOST_OTHERS) && self.is_within_window()
    }

    /// Whether all that came in one window; otherwise another one begins.
    fn is_within_window(&mut self) -> bool {
        let now = Instant::now();
        let is_within = self.since.is_none_or(|since| now - since < WINDOW);
        if !is_within {
            (self.since, self.resets, self.others) = (Some(now), 0, 0);
        }
        is_within
    }
}

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const END_HEADERS: u8 = 4;
const ACK: u8 = 1;

impl<S: AsyncRead + Unpin> AsyncRead for Counted<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        ready!(Pin::new(&mut self.stream).poll_read(cx, buffer))?;
        self.count.since.get_or_insert_with(Instant::now);
        if self.count.is_flooded_by(&buffer.filled()[before..]) {
            self.seen.is_flood.set(true);
        }
        self.seen.is_in_head.set(self.count.is_in_head);
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Counted<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.seen.note(&wrote);
        wrote
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let flushed = Pin::new(&mut self.stream).poll_flush(cx);
        self.seen.is_blocked.set(flushed.is_pending());
        flushed
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let wrote = Pin::new(&mut self.stream).poll_write_vectored(cx, slices);
        self.seen.note(&wrote);
        wrote
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PING: u8 = 6;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let length = (payload.len() as u32).to_be_bytes();
        [&length[1..], &[kind, flags, 0, 0, 0, 1], payload].concat()
    }

    /// At which of so many equal frames it is a flood; each comes byte by byte.
    fn flooded_at(count: &mut Count, frames: usize, frame: &[u8]) -> Option<usize> {
        (0..frames).find(|_| frame.iter().any(|byte| count.is_flooded_by(&[*byte])))
    }

    fn count() -> Count {
        let mut count = Count { since: Some(Instant::now()), ..Count::default() };
        assert!(!count.is_flooded_by(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"));
        count
    }

    #[test]
    fn pings_settings_and_empty_data_are_too_many_after_a_hundred() {
        for frame in [
            frame(PING, 0, &[0; 8]),
            frame(PING, ACK, &[0; 8]),
            frame(SETTINGS, 0, &[]),
            frame(DATA, 0, &[]),
            frame(2, 0, &[0; 5]),
        ] {
            assert_eq!(flooded_at(&mut count(), 1_000, &frame), Some(100));
        }
    }

    #[test]
    fn resets_are_too_many_after_a_thousand_whatever_is_between() {
        let pair = [frame(HEADERS, 5, b"x"), frame(RST_STREAM, 0, &[0; 4])].concat();
        assert_eq!(flooded_at(&mut count(), 10_000, &pair), Some(1_000));
    }

    #[test]
    fn pings_between_data_are_no_flood() {
        let pair = [frame(DATA, 0, b"x"), frame(PING, 0, &[0; 8])].concat();
        assert_eq!(flooded_at(&mut count(), 10_000, &pair), None);
    }

    #[test]
    fn what_answers_us_or_opens_windows_is_no_flood() {
        for frame in [frame(SETTINGS, ACK, &[]), frame(WINDOW_UPDATE, 0, &[0; 4])] {
            assert_eq!(flooded_at(&mut count(), 10_000, &frame), None);
        }
    }

    #[test]
    fn a_head_lasts_until_a_frame_ends_it() {
        let mut count = count();
        let mut is_in_head_behind = |frame: &[u8]| {
            count.is_flooded_by(frame);
            count.is_in_head
        };
        assert!(is_in_head_behind(&frame(HEADERS, END_STREAM, b"x")));
        assert!(is_in_head_behind(&frame(CONTINUATION, 0, b"x")));
        assert!(!is_in_head_behind(&frame(CONTINUATION, END_HEADERS, b"x")));
        assert!(!is_in_head_behind(&frame(HEADERS, END_HEADERS, b"x")));
    }

    #[test]
    fn many_in_a_long_time_are_no_flood() {
        let mut count = Count { since: Instant::now().checked_sub(2 * WINDOW), ..count() };
        assert_eq!(flooded_at(&mut count, 150, &frame(PING, 0, &[0; 8])), None);
    }
}
