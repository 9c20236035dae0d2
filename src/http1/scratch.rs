//! Memory that is used again and again: the buffers that all connections of a thread share within one poll, and those
//! in which bytes are kept for longer.

use std::{cell::RefCell, ops::Deref};

use bytes::Bytes;

/// Bytes read at once. Larger reads save system calls only where bodies are long, and there they do: measured with
/// 10 MB bodies, 64 KiB cost a fifth more than this.
pub const INPUT: usize = 256 * 1024;

/// What is kept of the output buffer after an unusually large head or a piece that had to be framed anew.
const OUTPUT: usize = 64 * 1024;

struct Scratch {
    input: Box<[u8]>,
    output: Vec<u8>,
}

thread_local! {
    static SCRATCH: RefCell<Scratch> = RefCell::new(Scratch {
        input: vec![0; INPUT].into_boxed_slice(),
        output: Vec::with_capacity(OUTPUT),
    });
}

/// Lends the thread's buffers: one to read into, and an empty one to put together what goes out. What is lent must
/// not ask for it again.
pub(super) fn with<T>(work: impl FnOnce(&mut [u8], &mut Vec<u8>) -> T) -> T {
    SCRATCH.with_borrow_mut(|Scratch { input, output }| {
        output.clear();
        let done = work(input, output);
        if output.capacity() > 2 * OUTPUT {
            output.clear();
            output.shrink_to(OUTPUT);
        }
        done
    })
}

/// Empty buffers that lie ready for the next bytes to be kept; there are as many in use as connections that keep any.
const READY: usize = 64;

/// A buffer that outgrew this is not used again: one large piece must not cost its memory for ever.
const LARGEST: usize = 32 * 1024;

thread_local! {
    #[expect(clippy::vec_box, reason = "the boxes, too, are used again")]
    static SPARE: RefCell<Vec<Box<Buffer>>> = const { RefCell::new(Vec::new()) };
}

/// Bytes that could not be used at once. Where there are none it holds no memory.
#[derive(Debug, Default)]
pub(super) struct Kept(Option<Box<Buffer>>);

#[derive(Debug, Default)]
struct Buffer {
    bytes: Vec<u8>,
    /// How many of them were taken.
    taken: usize,
}

impl Kept {
    /// Keeps these, too, behind the others.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        if bytes.is_empty() {
            return;
        }
        let buffer = self.0.get_or_insert_with(|| SPARE.with_borrow_mut(Vec::pop).unwrap_or_default());
        // What was taken goes first: a client that never stops in between would fill the memory.
        buffer.bytes.drain(..std::mem::take(&mut buffer.taken));
        buffer.bytes.extend_from_slice(bytes);
    }

    /// So many more were used.
    pub(super) fn take(&mut self, count: usize) {
        let Some(buffer) = &mut self.0 else { return };
        buffer.taken += count;
        if buffer.taken >= buffer.bytes.len() {
            self.clear();
        }
    }

    /// All were used, or nobody wants them.
    pub(super) fn clear(&mut self) {
        let Some(mut buffer) = self.0.take().filter(|buffer| buffer.bytes.capacity() <= LARGEST) else { return };
        buffer.bytes.clear();
        buffer.taken = 0;
        // While the thread ends there is nothing to keep it for.
        let _ = SPARE.try_with(|spare| {
            let mut spare = spare.borrow_mut();
            if spare.len() < READY {
                spare.push(buffer);
            }
        });
    }

    /// The bytes, out of this.
    pub(super) fn into_bytes(mut self) -> Bytes {
        let Buffer { bytes, taken } = self.0.take().map_or_else(Buffer::default, |buffer| *buffer);
        let mut bytes = Bytes::from(bytes);
        bytes::Buf::advance(&mut bytes, taken);
        bytes
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        self.clear();
    }
}

impl Deref for Kept {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        self.0.as_ref().map_or(&[], |buffer| &buffer.bytes[buffer.taken..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_taken_is_not_kept_however_long_it_goes_on() {
        let mut kept = Kept::default();
        kept.push(b"half a ");
        for _ in 0..10_000 {
            kept.push(b"request, half a ");
            kept.take(16);
        }
        assert_eq!(&*kept, b"half a ");
        assert!(kept.0.as_ref().is_some_and(|buffer| buffer.bytes.capacity() < 1024));
        kept.take(7);
        assert!(kept.is_empty() && kept.0.is_none());
    }
}
