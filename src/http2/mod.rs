//! HTTP/2 at the edges (RFC 9113): each of its streams is carried as a connection that speaks HTTP/1.
//!
//! What a request means does not depend on how it is framed (RFC 9110 §1.2). So there is one engine, one check of heads,
//! one set of limits and of pages, and they speak HTTP/1. Here a stream is translated for them, on its way in ([`server`])
//! and on its way out ([`client`]), piece by piece: nothing is collected, and the windows of a stream open as the other
//! side takes what came. Frames, windows and HPACK are the `h2` crate's.
//!
//! This room knows bytes, and nothing of portolan.

pub mod client;
mod fields;
mod flood;
mod incoming;
mod outgoing;
pub mod server;
pub mod websocket;

use std::io;

/// Streams that may be open at once on a connection of a client (HAProxy and Sōzu 100).
const MAX_STREAMS: u32 = 100;

/// How much a client may send ahead on one stream, and on all of a connection; in bytes.
const STREAM_WINDOW: u32 = 256 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;

/// The largest header list, in bytes as RFC 9113 §6.5.2 counts them.
const MAX_HEADERS: u32 = 32 * 1024;

/// What a stream may hold that its other end has not taken, in bytes.
const SEND_BUFFER: usize = 32 * 1024;

/// What went wrong with a stream, as the engine knows it: the other end sent what is not valid, or its connection broke.
fn broken(error: h2::Error) -> io::Error {
    let kind = if error.is_library() { io::ErrorKind::InvalidData } else { io::ErrorKind::ConnectionReset };
    io::Error::new(kind, error)
}
