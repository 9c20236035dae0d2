//! What must hold of any bytes. The fuzzer calls these functions with what it makes up, `tests/corpus.rs` with what it
//! has found.

pub mod chunks;
pub mod connection;
pub mod head;
mod message;

/// What became of bytes. The name of a sample in a corpus may begin with one of these words; then it must come true.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// `good-`: whole and valid.
    Good,
    /// `part-`: valid as far as it goes.
    Part,
    /// `bad-`: refused.
    Bad,
}

/// Where to cut so many bytes in two: everywhere, or at about this many places where that would take too long.
fn cuts(length: usize) -> impl Iterator<Item = usize> {
    const MOST: usize = 40;
    let step = length.div_ceil(MOST).max(1);
    // Not always the same ones.
    (length % step..length).step_by(step)
}
