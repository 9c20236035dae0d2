//! Where the kernel cannot move bytes between sockets by itself, no stream is ever long.

use std::{
    io,
    task::{Context, Poll},
};

use tokio::net::TcpStream;

/// What is known of a direction's length, which is nothing.
#[derive(Debug, Default)]
pub(super) struct Bulk;

/// What became of a move.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Moved {
    /// The reader has ended.
    All,
}

impl Bulk {
    pub(super) fn has_carried(&mut self, _: usize) {}

    pub(super) fn is_long(&self) -> bool {
        false
    }

    pub(super) fn poll_move(
        &mut self,
        _: &mut Context<'_>,
        _: &TcpStream,
        _: &TcpStream,
        _: &mut u64,
    ) -> Poll<io::Result<Moved>> {
        Poll::Ready(Err(io::ErrorKind::Unsupported.into()))
    }
}
