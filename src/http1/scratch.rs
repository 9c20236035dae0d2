//! The buffers that all connections of a thread share: bytes lie here within one poll, and never longer.

use std::cell::RefCell;

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
