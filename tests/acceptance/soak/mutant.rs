//! Clients that send what no client would: valid requests, changed at random, cut anywhere, and left in the middle.

use std::{net::SocketAddr, thread, time::Duration};

use super::{
    program::{chunks, text},
    wire::{Broken, Wire},
};
use crate::chance::Chance;

/// How long a mutant waits for a next byte before it leaves: it may have asked for nothing that can be answered.
const PATIENCE: Duration = Duration::from_millis(500);

/// Sends one stream of bytes on a connection of its own. Wrong is only an answer that is none.
pub(super) fn visit(address: SocketAddr, seed: u64) -> Result<(), String> {
    let mut chance = Chance::new(seed);
    let bytes = stream(&mut chance);
    match Wire::to(address, PATIENCE).map_err(Broken::from).and_then(|wire| send(wire, &bytes, &mut chance)) {
        Err(Broken::Malformed(what)) => Err(format!("mutant {seed} got {what}, for {}", bytes.escape_ascii())),
        _ => Ok(()),
    }
}

/// In segments of any size, up to anywhere; then it waits, shuts or leaves.
fn send(mut wire: Wire, bytes: &[u8], chance: &mut Chance) -> Result<(), Broken> {
    let end = if chance.one_in(4) { chance.below(bytes.len() + 1) } else { bytes.len() };
    let longest = if chance.one_in(2) { bytes.len().max(1) } else { 50 };
    let mut rest = &bytes[..end];
    while !rest.is_empty() {
        let (segment, later) = rest.split_at(rest.len().min(1 + chance.below(longest)));
        wire.send(segment)?;
        if chance.one_in(4) {
            thread::sleep(Duration::from_micros(chance.below(2_000) as u64));
        }
        rest = later;
    }
    match chance.below(8) {
        0 => {
            wire.reset();
            return Ok(());
        }
        1 => return Ok(()),
        2 => wire.shut()?,
        _ => {}
    }
    // What comes first is the start of an answer; how many there will be only a proxy can tell.
    let Some(head) = wire.head()? else { return Ok(()) };
    head.status()?;
    while !wire.some(usize::MAX)?.is_empty() {}
    Ok(())
}

/// A valid stream of requests, or what mutations have left of it.
fn stream(chance: &mut Chance) -> Vec<u8> {
    let mut bytes = valid(chance);
    for _ in 0..chance.below(4) {
        mutate(&mut bytes, chance);
    }
    bytes
}

/// One of everything that clients send.
fn valid(chance: &mut Chance) -> Vec<u8> {
    let number = chance.number() % 1_000_000;
    let place = *chance.of(&["steady", "mixed"]);
    let body = text(number, chance.below(5_000));
    let get = |kind: &str| format!("GET /{place}/{kind}/{number} HTTP/1.1\r\nHost: localhost\r\nAccept: */*\r\n\r\n");
    let post = |fields: &str| format!("POST /{place}/echo/{number} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
    let length = format!("Content-Length: {}\r\n", body.len());
    let chunks = || [&chunks(&body, number), &b"0\r\n"[..]].concat();
    let chunked = "Transfer-Encoding: chunked\r\n";
    match chance.below(14) {
        0 => get("small").into(),
        1 => get("chunks").into(),
        2 => get("fault").into(),
        3 => get("hints").into(),
        4 => [post(&length).as_bytes(), &body].concat(),
        5 => [post(chunked).as_bytes(), &chunks(), b"\r\n"].concat(),
        6 => [post(chunked).as_bytes(), &chunks(), b"X-Sum: 1\r\nX-Sum: 2\r\n\r\n"].concat(),
        7 => [post(&format!("{length}Expect: 100-continue\r\n")).as_bytes(), &body].concat(),
        // Pipelined, the first one with a body.
        8 => [post(&length).as_bytes(), &body, get("small").as_bytes(), get("long").as_bytes()].concat(),
        9 => format!(
            "GET /{place}/tunnel/{number} HTTP/1.1\r\nHost: localhost\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\nhi\n"
        )
        .into(),
        10 => format!("GET /{place}/small/{number} HTTP/1.0\r\nHost: localhost\r\nConnection: keep-alive\r\n\r\n").into(),
        11 => format!("HEAD http://localhost/{place}/small/{number} HTTP/1.1\r\nHost: other\r\n\r\n").into(),
        12 => format!("OPTIONS * HTTP/1.1\r\nHost: localhost\r\nMax-Forwards: {}\r\n\r\n", chance.below(3)).into(),
        _ => {
            let many: String = (0..chance.below(90)).map(|at| format!("X-Field-{at}: {}\r\n", "v".repeat(at))).collect();
            format!("PUT /{place}/echo/{number} HTTP/1.1\r\nHost: localhost\r\n{many}Content-Length: 5\r\n\r\nhello").into()
        }
    }
}

/// What makes parsers disagree.
const NASTY: [&str; 28] = [
    "\r",
    "\n",
    "\0",
    "\r\n",
    "\r\n\r\n",
    "\n\n",
    " ",
    "\t",
    ":",
    "\r\n ",
    "\u{ff}",
    "0\r\n\r\n",
    "0",
    "-1",
    "+",
    "ffffffffffffffffff\r\n",
    "99999999999999999999",
    ";ext=\"\r\n\"",
    "Content-Length: 5\r\n",
    "Transfer-Encoding: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Connection: close, host, content-length\r\n",
    "Connection: upgrade\r\nUpgrade: echo\r\n",
    "Expect: 100-continue\r\n",
    "Host: evil.test\r\n",
    "GET /steady/small/1 HTTP/1.1\r\nHost: localhost\r\n\r\n",
    " HTTP/1.1\r\n",
    "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
];

fn mutate(bytes: &mut Vec<u8>, chance: &mut Chance) {
    let at = chance.below(bytes.len() + 1);
    let end = bytes.len().min(at + chance.below(60));
    match chance.below(7) {
        0 if at < bytes.len() => bytes[at] = chance.byte(),
        1 if at < bytes.len() => bytes[at] ^= 1 << chance.below(8),
        2 => drop(bytes.drain(at..end)),
        3 => {
            let again = bytes[at..end].to_vec();
            bytes.splice(at..at, again);
        }
        4 => {
            let many = vec![chance.byte(); chance.below(3 * 64 * 1024)];
            bytes.splice(at..at, many);
        }
        5 => {
            let other = valid(chance);
            let from = chance.below(other.len());
            bytes.splice(at.., other[from..].iter().copied());
        }
        _ => {
            let nasty = chance.of(&NASTY);
            bytes.splice(at..at, nasty.bytes());
        }
    }
}
