//! Both ends of the proxy as raw sockets, so that a test sees every byte, and the proxy between them in this process.
//!
//! The proxy runs on threads of its own, so a test reads from top to bottom: what the client sends, what the program
//! sees, what it answers, what comes back. Nothing sleeps; whatever is waited for fails the test after [`PATIENCE`].

mod fault;
pub(crate) mod h2;
mod message;
mod origin;
mod program;
mod proxy;
mod random;
pub(crate) mod sockets;
mod wire;

use std::time::Duration;

pub(crate) use fault::{ALONE, Case, bytes_of, chunked, each_seed, is_alone, is_full};
pub(crate) use message::{Framing, Head, Request, Response, latin1};
pub(crate) use origin::{Origin, origin};
pub(crate) use program::{Full, Nobody, Program, program, program_on};
pub(crate) use proxy::{Proxy, proxy, through};
pub(crate) use random::Random;
pub(crate) use wire::{End, Wire};

/// How long anything may take. No speed is measured: it is only less than every limit of the proxy that could bring
/// about the awaited event by itself (the shortest is that of a head, 15 s).
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// A request as small as it can be.
pub(crate) const GET: &str = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";

/// An answer as small as it can be.
pub(crate) const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A GET of `target` with further field lines.
pub(crate) fn get(target: &str, fields: &[&str]) -> String {
    request("GET", target, fields)
}

/// A request without a body, with further field lines.
pub(crate) fn request(method: &str, target: &str, fields: &[&str]) -> String {
    let fields: String = fields.iter().map(|field| format!("{field}\r\n")).collect();
    format!("{method} {target} HTTP/1.1\r\nhost: localhost\r\n{fields}\r\n")
}

/// A POST whose length is told.
pub(crate) fn post(target: &str, body: &str) -> String {
    format!("POST {target} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

/// Asks again and again until it is so: for what nobody announces.
pub(crate) async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    let asked = async {
        while !is_so() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    within(what, asked).await;
}

/// Waits, but not for ever.
pub(crate) async fn within<T>(what: &str, event: impl Future<Output = T>) -> T {
    tokio::time::timeout(PATIENCE, event).await.unwrap_or_else(|_| panic!("waited in vain for {what}"))
}
