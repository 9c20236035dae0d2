//! Heads as they are written: a line at a time, with the line ends that RFC 9112 §2.1 wants and no others.
//!
//! What is written here was read as a token or a value before, or was checked when the table was loaded: no byte of it
//! can begin another line.

use super::head::{MAX_FIELDS, Version};

/// `method SP target SP HTTP/1.1` (RFC 9112 §3). The version is ours, whatever the client speaks.
pub fn request_line(out: &mut Vec<u8>, method: &str, path: &str, query: Option<&str>) {
    out.reserve(64 * MAX_FIELDS);
    out.extend_from_slice(method.as_bytes());
    out.push(b' ');
    out.extend_from_slice(path.as_bytes());
    if let Some(query) = query {
        out.push(b'?');
        out.extend_from_slice(query.as_bytes());
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
}

/// `HTTP/1.1 SP status SP reason` (RFC 9112 §4).
pub fn status_line(out: &mut Vec<u8>, status: u16, reason: &str) {
    out.extend_from_slice(b"HTTP/1.1 ");
    number(out, u64::from(status));
    out.push(b' ');
    out.extend_from_slice(reason.as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// `name: value` (RFC 9112 §5).
pub fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// A field whose value is a number.
pub fn number_field(out: &mut Vec<u8>, name: &[u8], value: u64) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    number(out, value);
    out.extend_from_slice(b"\r\n");
}

/// The empty line behind the fields.
pub fn end(out: &mut Vec<u8>) {
    out.extend_from_slice(b"\r\n");
}

/// Says to a client of `version` whether its connection goes on, where it would not know by itself (RFC 9112 §9.3).
pub(super) fn connection(out: &mut Vec<u8>, version: Version, goes_on: bool) {
    match (version, goes_on) {
        (Version::Http11, true) => {}
        (Version::Http10, true) => field(out, b"connection", b"keep-alive"),
        (_, false) => field(out, b"connection", b"close"),
    }
}

/// The line before a chunk (RFC 9112 §7.1).
pub fn chunk_size(out: &mut Vec<u8>, size: u64) {
    const HEX: &[u8; 16] = b"0123456789abcdef";
    let digits = (u64::BITS - size.leading_zeros()).div_ceil(4).max(1);
    for digit in (0..digits).rev() {
        out.push(HEX[(size >> (4 * digit) & 0xf) as usize]);
    }
    out.extend_from_slice(b"\r\n");
}

fn number(out: &mut Vec<u8>, mut value: u64) {
    let mut digits = [0; 20];
    let mut at = digits.len();
    loop {
        at -= 1;
        digits[at] = b'0' + (value % 10) as u8;
        value /= 10;
        if value == 0 {
            break;
        }
    }
    out.extend_from_slice(&digits[at..]);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_as_a_formatter_would() {
        for number in [0, 1, 9, 10, 16, 255, 256, 65_535, u64::MAX] {
            let mut out = Vec::new();
            number_field(&mut out, b"n", number);
            chunk_size(&mut out, number);
            assert_eq!(String::from_utf8_lossy(&out), format!("n: {number}\r\n{number:x}\r\n"));
        }
    }
}
