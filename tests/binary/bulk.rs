//! Bodies too large for any memory: blocks that tell their own number, so that a lost, doubled or moved one is seen.

use std::io::{self, Read, Write};

/// The size of a block.
const BLOCK: usize = 64 * 1024;

/// The largest growth of memory that a body of any size may cause.
pub(crate) const MOST_GROWTH: u64 = 32 * 1024 * 1024;

/// How many bytes so many blocks have.
pub(crate) fn length(blocks: u64) -> u64 {
    blocks * BLOCK as u64
}

/// How many blocks so many gigabytes have.
pub(crate) fn blocks(gigabytes: u64) -> u64 {
    gigabytes * 1_000_000_000 / BLOCK as u64
}

fn block() -> Vec<u8> {
    (0..BLOCK).map(|at| (at % 251) as u8).collect()
}

/// Writes so many blocks.
pub(crate) fn write(mut stream: impl Write, blocks: u64) -> io::Result<()> {
    let mut block = block();
    for number in 0..blocks {
        block[..8].copy_from_slice(&number.to_be_bytes());
        stream.write_all(&block)?;
    }
    Ok(())
}

/// Reads so many blocks, each of which must be the one that was written there.
pub(crate) fn read(mut stream: impl Read, blocks: u64) -> io::Result<()> {
    let (mut wanted, mut block) = (block(), vec![0; BLOCK]);
    for number in 0..blocks {
        wanted[..8].copy_from_slice(&number.to_be_bytes());
        stream.read_exact(&mut block)?;
        if block != wanted {
            return Err(io::Error::other(format!("block {number} is not what was sent")));
        }
    }
    Ok(())
}
