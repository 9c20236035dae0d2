//! What a program speaks that does not answer in HTTP/1, as far as its first bytes tell.

use std::fmt::Write;

/// How much is shown, in bytes: enough to know most protocols by.
const SHOWN: usize = 32;

/// What bytes look like.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Clue {
    /// A record of TLS (RFC 8446 §5.1): an alert, or a handshake.
    Tls,
    /// A frame of HTTP/2, whose server begins with SETTINGS (RFC 9113 §3.4), or its preface.
    Http2,
    /// Next.js refuses a page's WebSocket with this bare word where it does not know the page's origin.
    NextOrigin,
    /// Something else that greets, or complains, in a way of its own.
    Other(&'static str),
}

/// What programs say first, or to a request that they do not understand.
const GREETINGS: [(&[u8], &str); 10] = [
    (b"SSH-", "SSH"),
    (b"-ERR", "Redis"),
    (b"-DENIED", "Redis"),
    (b"+OK", "POP3"),
    (b"* OK", "IMAP"),
    (b"220 ", "SMTP or FTP"),
    (b"220-", "SMTP or FTP"),
    (b"ERROR\r\n", "memcached"),
    (b"AMQP", "AMQP"),
    (b"RFB 0", "VNC"),
];

impl Clue {
    /// The likely protocol, if there is one.
    pub(super) fn of(start: &[u8]) -> Option<Self> {
        match start {
            [0x15 | 0x16, 3, ..] => Some(Self::Tls),
            // Length, type 4, no flags but ACK, stream 0.
            [_, _, _, 4, 0 | 1, 0, 0, 0, 0, ..] => Some(Self::Http2),
            _ if start.starts_with(b"PRI * HTTP/2") => Some(Self::Http2),
            b"Unauthorized" => Some(Self::NextOrigin),
            // An error, its length in four bytes, and its first field, the severity.
            [b'E', 0, 0, _, _, b'S', ..] => Some(Self::Other("PostgreSQL")),
            // A packet: its length in three bytes, the number 0, and protocol 10 or an error.
            [_, _, 0, 0, 10 | 255, ..] => Some(Self::Other("MySQL")),
            _ => GREETINGS.iter().find(|(word, _)| start.starts_with(word)).map(|(_, name)| Self::Other(name)),
        }
    }

    /// The likely reason.
    pub(super) fn note(self) -> String {
        match self {
            Self::Tls => "this looks like TLS: `https://`".into(),
            Self::Http2 => "this looks like HTTP/2 without TLS: `h2c://`".into(),
            Self::NextOrigin => "this looks like Next.js, which does not know the origin of the page".into(),
            Self::Other(name) => format!("this looks like {name}, not HTTP: a `[tcp]` route?"),
        }
    }

    /// The next step, for a target that was written at `origin`.
    pub(super) fn help(self, origin: &str) -> String {
        match self {
            Self::Tls | Self::Http2 => {
                format!("lead the target at {origin} to a port on which the program speaks plain HTTP/1.1")
            }
            Self::NextOrigin => "add the host of the page to `allowedDevOrigins` in next.config.js".into(),
            Self::Other(_) => format!("lead the target at {origin} to the port on which the app speaks HTTP/1.1"),
        }
    }
}

/// Bytes in hex and as text: ``the first 2 bytes that came: `15 03`, as text `\x15\x03` ``.
pub(super) fn told(bytes: &[u8]) -> String {
    let start = &bytes[..bytes.len().min(SHOWN)];
    let hex = start.iter().fold(String::with_capacity(3 * start.len()), |mut hex, byte| {
        // Writing to a String cannot fail.
        let _ = write!(hex, "{}{byte:02x}", if hex.is_empty() { "" } else { " " });
        hex
    });
    // A backtick would end the piece that can be copied.
    let text = start.escape_ascii().to_string().replace('`', "\\x60");
    let which =
        if bytes.len() > SHOWN { format!("the first {SHOWN} bytes") } else { format!("all {} bytes", start.len()) };
    format!("{which} that came: `{hex}`, as text `{text}`")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_http_is_known_by_its_first_bytes() {
        let http2 = b"\x00\x00\x12\x04\x00\x00\x00\x00\x00\x00\x03";
        for (start, clue) in [
            (&b"\x15\x03\x01\x00\x02\x02\x46"[..], Clue::Tls),
            (b"\x16\x03\x03\x00\x7a\x02", Clue::Tls),
            (http2, Clue::Http2),
            (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", Clue::Http2),
            (b"\x4a\x00\x00\x00\x0a8.0.36\x00", Clue::Other("MySQL")),
            (b"\x45\x00\x00\x00\xff\x6a\x04Host", Clue::Other("MySQL")),
            (b"E\x00\x00\x00\x90SFATAL\x00", Clue::Other("PostgreSQL")),
            (b"SSH-2.0-OpenSSH_9.2\r\n", Clue::Other("SSH")),
            (b"-ERR wrong number of arguments", Clue::Other("Redis")),
            (b"220 mail.localhost ESMTP", Clue::Other("SMTP or FTP")),
            (b"Unauthorized", Clue::NextOrigin),
        ] {
            assert_eq!(Clue::of(start), Some(clue), "{}", start.escape_ascii());
        }
    }

    #[test]
    fn nothing_is_made_up_of_bytes_that_could_be_anything() {
        for start in [&b""[..], b"E", b"HTTP/1.1 200 OK\r\n", b"<html>", b"Unauthorized access", b"\x16", b"22 "] {
            assert_eq!(Clue::of(start), None, "{}", start.escape_ascii());
        }
    }

    #[test]
    fn bytes_are_told_in_hex_and_as_text_that_drives_no_terminal() {
        assert_eq!(told(b"\x15\x03`\n"), r"all 4 bytes that came: `15 03 60 0a`, as text `\x15\x03\x60\n`");
        let long = told(&[b'a'; 33]);
        assert!(long.starts_with("the first 32 bytes that came: `61 61 "), "{long}");
        assert!(long.ends_with(&format!("`{}`", "a".repeat(32))), "{long}");
    }
}
