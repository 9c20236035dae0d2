//! Bodies too large for any memory: blocks that tell their own number, so that a lost, doubled or moved one is seen.
#![cfg(target_os = "linux")]

use std::{
    io::{self, Read, Write},
    time::Instant,
};

use crate::{
    client::{Connection, request},
    folder::{Folder, TABLE},
    origin::origin,
    program::{Portolan, tell},
};

/// The size of a block.
const BLOCK: usize = 64 * 1024;

/// The largest growth of memory that a body of any size may cause.
pub(crate) const MOST_GROWTH: u64 = 32 * 1024 * 1024;

/// How many bytes so many blocks have.
fn length(blocks: u64) -> u64 {
    blocks * BLOCK as u64
}

/// How many blocks so many bytes have.
pub(crate) fn blocks(bytes: u64) -> u64 {
    bytes / BLOCK as u64
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

/// Downloads so many blocks through a proxy; tells by how much its memory grew at most.
pub(crate) fn download(folder: &Folder, blocks: u64) -> u64 {
    let port = origin(move |mut asked| {
        asked.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", length(blocks)))?;
        write(asked.stream.get_ref(), blocks)
    });
    growth("download", folder, &format!("to = {port}"), blocks, |client| take(client, blocks))
}

/// Asks for so many blocks and reads them.
pub(crate) fn take(client: &mut Connection, blocks: u64) {
    client.send(request("/"));
    assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
    read(client.stream(), blocks).unwrap();
}

/// Uploads so many blocks through a proxy; tells by how much its memory grew at most.
pub(crate) fn upload(folder: &Folder, blocks: u64) -> u64 {
    let port = origin(move |mut asked| {
        read(&mut *asked.stream, blocks)?;
        asked.answer("all of it came")
    });
    growth("upload", folder, &format!("to = {port}"), blocks, |client| {
        client.send(format!("PUT / HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", length(blocks)));
        write(client.stream().get_ref(), blocks).unwrap();
        assert_eq!(client.answer().unwrap().body, "all of it came");
    })
}

/// Transfers so many blocks by a route of that action; tells by how much the memory of the proxy grew at most.
pub(crate) fn growth(
    what: &str,
    folder: &Folder,
    action: &str,
    blocks: u64,
    transfer: impl FnOnce(&mut Connection),
) -> u64 {
    let table =
        format!("[routes]\nbig = {{ path = \"/\", {action} }}\nsmall = {{ path = \"/small\", respond = \"1\" }}\n");
    folder.write(TABLE, table);
    let portolan = Portolan::serve(folder, &[]);
    let mut client = Connection::to(portolan.address());
    assert_eq!(client.get("/small").body, "1");
    let before = portolan.memory().now;
    let began = Instant::now();
    transfer(&mut client);
    let (seconds, growth) = (began.elapsed().as_secs_f64(), portolan.memory().peak.saturating_sub(before));
    let gigabytes = length(blocks) as f64 / 1e9;
    tell(format_args!(
        "{what} of {gigabytes:.2} GB in {seconds:.1} s ({:.2} GB/s), memory {:.1} MiB before and {:.1} MiB more at most",
        gigabytes / seconds,
        mebibytes(before),
        mebibytes(growth),
    ));
    growth
}

/// For people.
pub(crate) fn mebibytes(bytes: u64) -> f64 {
    bytes as f64 / 1024.0 / 1024.0
}
