//! HTTP/2 by hand (RFC 9113), either end of it: frames as bytes, so that nothing is right by the grace of a library.

mod accept;
mod frame;
mod hpack;
mod peer;

pub(crate) use accept::accept;
pub(crate) use frame::{ACK, Code, END_HEADERS, END_STREAM, Frame, LONGEST, PREFACE, kind, setting};
pub(crate) use hpack::Fields;
pub(crate) use peer::{Ended, Event, Message, Peer};

use super::{Program, Proxy, Wire, program, proxy};

/// A client that speaks HTTP/2, a program that does not, and a proxy between them whose only route takes everything;
/// `keys` are more lines of it.
pub(crate) async fn from_h2(keys: &str) -> (Peer, Program, Proxy) {
    let program = program();
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = {}\n{keys}", program.port()));
    (proxy.connect_h2().await, program, proxy)
}

/// A program that speaks HTTP/2, and a proxy in front of it; as [`from_h2`].
fn in_front_of_h2(keys: &str) -> (Program, Proxy) {
    let program = program();
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = \"h2c://127.0.0.1:{}\"\n{keys}", program.port()));
    (program, proxy)
}

/// A client that speaks HTTP/1 and a program that speaks HTTP/2; as [`from_h2`].
pub(crate) async fn to_h2(keys: &str) -> (Wire, Program, Proxy) {
    let (program, proxy) = in_front_of_h2(keys);
    (proxy.connect().await, program, proxy)
}

/// Both speak HTTP/2; as [`from_h2`].
pub(crate) async fn through_h2(keys: &str) -> (Peer, Program, Proxy) {
    let (program, proxy) = in_front_of_h2(keys);
    (proxy.connect_h2().await, program, proxy)
}

/// A request as small as it can be.
pub(crate) fn request(method: &str, path: &str) -> Fields {
    Fields::of(&[(":method", method), (":scheme", "http"), (":authority", "localhost"), (":path", path)])
}

/// A GET of `path` with further fields.
pub(crate) fn get(path: &str, fields: &[(&str, &str)]) -> Fields {
    request("GET", path).and(fields)
}

/// The head of an answer.
pub(crate) fn status(status: &str, fields: &[(&str, &str)]) -> Fields {
    Fields::of(&[(":status", status)]).and(fields)
}

impl Proxy {
    /// A client that speaks HTTP/2 without asking whether it may.
    pub(crate) async fn connect_h2(&self) -> Peer {
        Peer::client(self.connect().await, &[]).await
    }
}

impl Program {
    /// The next connection on which anything comes, which must be HTTP/2: of several that were begun at the same time all
    /// but the first may be given up.
    pub(crate) async fn h2_connection(&self) -> Peer {
        const GIVEN_UP: usize = 20;
        for _ in 0..=GIVEN_UP {
            let mut wire = self.connection().await;
            if wire.has_more().await {
                return Peer::server(wire, &[]).await;
            }
        }
        panic!("{GIVEN_UP} connections and nothing on any of them");
    }
}
