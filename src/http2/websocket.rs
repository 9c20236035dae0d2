//! The handshake that a WebSocket over HTTP/2 leaves out (RFC 8441 §5), for a program that wants it (RFC 6455 §4).

use aws_lc_rs::{digest, rand};

/// RFC 6455 §1.3
const GUID: &[u8] = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// Whether a program that answers with `accept` has understood the question `key`.
pub fn is_answer_to(key: &[u8], accept: &[u8]) -> bool {
    let hashed = digest::digest(&digest::SHA1_FOR_LEGACY_USE_ONLY, &[key, GUID].concat());
    base64::<28>(hashed.as_ref()) == accept
}

/// A fresh `Sec-WebSocket-Key`.
#[derive(Debug, Clone, Copy)]
pub(super) struct Key([u8; 24]);

impl Key {
    /// Nobody could have guessed it. `None`: the system has no randomness.
    pub(super) fn fresh() -> Option<Self> {
        let mut nonce = [0; 16];
        rand::fill(&mut nonce).ok()?;
        Some(Self(base64(&nonce)))
    }

    /// What the program is asked.
    pub(super) fn asked(&self) -> &[u8] {
        &self.0
    }
}

/// RFC 4648 §4; `N` is the length of what comes out.
fn base64<const N: usize>(bytes: &[u8]) -> [u8; N] {
    const DIGITS: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    let mut text = [b'='; N];
    for (three, four) in bytes.chunks(3).zip(text.chunks_mut(4)) {
        let bits = three.iter().fold(0, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - three.len()));
        for (at, digit) in four.iter_mut().enumerate().take(three.len() + 1) {
            *digit = DIGITS[(bits >> (18 - 6 * at) & 63) as usize];
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_answer_of_the_standards_own_example_is_right() {
        let key = b"dGhlIHNhbXBsZSBub25jZQ==";
        assert!(is_answer_to(key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
        assert!(!is_answer_to(key, b"s3pPLMBiTxaQ9kYGzzhZRbK+xOO="));
        assert!(!is_answer_to(key, b""));
    }

    #[test]
    fn keys_are_sixteen_bytes_in_base64() {
        assert_eq!(&base64::<24>(b"the sample nonce"), b"dGhlIHNhbXBsZSBub25jZQ==");
        assert_ne!(Key::fresh().unwrap().0, Key::fresh().unwrap().0);
    }
}
