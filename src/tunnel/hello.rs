//! What the first bytes of a client say of where it wants to go: the server name of a TLS ClientHello (RFC 6066 §3), and
//! PostgreSQL's way of asking for TLS before it.
//!
//! Pure: bytes in, verdict out. Nothing here is needed on a port whose routes are not told apart by name.

/// The most that is looked at, in bytes: ClientHellos have some hundred, with post-quantum keys some thousand.
pub const LONGEST: usize = 16 * 1024;

/// "SSLRequest" (PostgreSQL's protocol, "Message Formats"): its answer is one byte, and TLS begins behind an `S`.
pub const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];

/// "GSSENCRequest": the same for Kerberos.
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// `unrecognized_name` as a fatal alert (RFC 6066 §3, RFC 8446 §6): what a server says that is not the one asked for.
pub const UNRECOGNIZED_NAME: [u8; 7] = [21, 3, 3, 0, 2, 2, 112];

/// What a client has begun with.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Opening {
    /// Not enough yet to tell.
    Partial,
    /// TLS, for the server of this name, if it names one.
    Tls(Option<String>),
    /// The question whether there is TLS, in PostgreSQL's words.
    SslRequest,
    /// The question whether there is Kerberos, in PostgreSQL's words.
    GssRequest,
    /// Anything else.
    Other,
}

impl Opening {
    /// Judges all that a client has sent so far.
    pub fn of(bytes: &[u8]) -> Self {
        if bytes.first() == Some(&HANDSHAKE) {
            return match hello(bytes) {
                Ok(name) => Self::Tls(name),
                Err(Unread::Partial) if bytes.len() < LONGEST => Self::Partial,
                Err(_) => Self::Other,
            };
        }
        for (request, opening) in [(SSL_REQUEST, Self::SslRequest), (GSS_REQUEST, Self::GssRequest)] {
            if bytes.starts_with(&request) {
                return opening;
            }
            if request.starts_with(bytes) {
                return Self::Partial;
            }
        }
        Self::Other
    }
}

/// The content type of a record of the handshake (RFC 8446 §5.1).
const HANDSHAKE: u8 = 22;

/// The type of a ClientHello (RFC 8446 §4).
const CLIENT_HELLO: u8 = 1;

/// The extension `server_name`, and in it a name of DNS (RFC 6066 §3).
const SERVER_NAME: u16 = 0;
const HOST_NAME: u8 = 0;

/// Why there is no ClientHello to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unread {
    /// It goes on.
    Partial,
    /// It is none.
    Broken,
}

/// The name in a whole ClientHello, which may come in several records.
fn hello(bytes: &[u8]) -> Result<Option<String>, Unread> {
    let mut records = Reader(bytes);
    let mut message = Vec::new();
    loop {
        if let Some(length) = message.get(1..4) {
            let length = number(length);
            if message[0] != CLIENT_HELLO || length > LONGEST {
                return Err(Unread::Broken);
            }
            if let Some(body) = message.get(4..4 + length) {
                // It is all there: what is missing now is missing for good.
                return server_name(Reader(body)).map_err(|_| Unread::Broken);
            }
        }
        let header = records.take(3)?;
        if header[0] != HANDSHAKE || header[1] != 3 {
            return Err(Unread::Broken);
        }
        let length = records.length::<2>()?;
        if length == 0 {
            return Err(Unread::Broken);
        }
        // The last record may not be whole yet, and the message in it all the same.
        let there = length.min(records.0.len());
        message.extend_from_slice(records.take(there)?);
        if there < length && !is_whole(&message) {
            return Err(Unread::Partial);
        }
    }
}

fn is_whole(message: &[u8]) -> bool {
    message.get(1..4).is_some_and(|length| message.len() >= 4 + number(length))
}

/// RFC 8446 §4.1.2, then RFC 6066 §3.
fn server_name(mut body: Reader<'_>) -> Result<Option<String>, Unread> {
    const VERSION_AND_RANDOM: usize = 2 + 32;
    body.take(VERSION_AND_RANDOM)?;
    body.block::<1>()?; // session
    body.block::<2>()?; // cipher suites
    body.block::<1>()?; // compression
    if body.0.is_empty() {
        return Ok(None);
    }
    let mut extensions = body.block::<2>()?;
    while !extensions.0.is_empty() {
        let kind = extensions.length::<2>()?;
        let mut extension = extensions.block::<2>()?;
        if kind != usize::from(SERVER_NAME) {
            continue;
        }
        let mut names = extension.block::<2>()?;
        while !names.0.is_empty() {
            let kind = names.take(1)?[0];
            let name = names.block::<2>()?.0;
            if kind == HOST_NAME {
                return Ok(std::str::from_utf8(name).ok().map(str::to_owned));
            }
        }
    }
    Ok(None)
}

/// Bytes that are taken from the front.
struct Reader<'b>(&'b [u8]);

impl<'b> Reader<'b> {
    fn take(&mut self, count: usize) -> Result<&'b [u8], Unread> {
        let (taken, rest) = self.0.split_at_checked(count).ok_or(Unread::Partial)?;
        self.0 = rest;
        Ok(taken)
    }

    /// A number of so many bytes.
    fn length<const BYTES: usize>(&mut self) -> Result<usize, Unread> {
        self.take(BYTES).map(number)
    }

    /// What stands behind its own length of so many bytes.
    fn block<const BYTES: usize>(&mut self) -> Result<Self, Unread> {
        let length = self.length::<BYTES>()?;
        self.take(length).map(Self)
    }
}

fn number(bytes: &[u8]) -> usize {
    bytes.iter().fold(0, |number, byte| number << 8 | usize::from(*byte))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn block<const BYTES: usize>(content: &[u8]) -> Vec<u8> {
        [&content.len().to_be_bytes()[8 - BYTES..], content].concat()
    }

    /// A ClientHello with this name, in records of at most `split` bytes.
    fn client_hello(name: Option<&str>, split: usize) -> Vec<u8> {
        let sni = name.map(|name| {
            let entry = [&[HOST_NAME][..], &block::<2>(name.as_bytes())].concat();
            [&[0, 0][..], &block::<2>(&block::<2>(&entry))].concat()
        });
        let other = [&[0, 43][..], &block::<2>(&[2, 3, 4])].concat();
        let extensions = block::<2>(&[other, sni.unwrap_or_default()].concat());
        let body =
            [&[3, 3][..], &[7; 32], &block::<1>(&[9; 32]), &block::<2>(&[19, 1]), &block::<1>(&[0]), &extensions];
        let message = [&[CLIENT_HELLO][..], &block::<3>(&body.concat())].concat();
        message.chunks(split).flat_map(|piece| [&[HANDSHAKE, 3, 1][..], &block::<2>(piece)].concat()).collect()
    }

    fn tls(name: &str) -> Opening {
        Opening::Tls(Some(name.to_owned()))
    }

    #[test]
    fn the_name_is_found_in_one_record_and_in_many() {
        for split in [1, 7, 100, 16_384] {
            assert_eq!(Opening::of(&client_hello(Some("shop.localhost"), split)), tls("shop.localhost"), "{split}");
        }
        assert_eq!(Opening::of(&client_hello(None, 16_384)), Opening::Tls(None));
    }

    #[test]
    fn a_hello_that_goes_on_is_waited_for() {
        for split in [5, 16_384] {
            let whole = client_hello(Some("db.localhost"), split);
            for end in 1..whole.len() {
                assert_eq!(Opening::of(&whole[..end]), Opening::Partial, "{end} of {}", whole.len());
            }
        }
    }

    #[test]
    fn what_follows_the_hello_does_not_matter() {
        let more = [client_hello(Some("a.localhost"), 16_384), vec![20, 3, 3, 0, 1, 1]].concat();
        assert_eq!(Opening::of(&more), tls("a.localhost"));
    }

    #[test]
    fn postgres_asks_in_eight_bytes() {
        assert_eq!(Opening::of(&SSL_REQUEST), Opening::SslRequest);
        assert_eq!(Opening::of(&GSS_REQUEST), Opening::GssRequest);
        for end in 0..8 {
            assert_eq!(Opening::of(&SSL_REQUEST[..end]), Opening::Partial);
        }
        let cancel = [0, 0, 0, 16, 4, 210, 22, 46];
        assert_eq!(Opening::of(&cancel), Opening::Other);
        assert_eq!(Opening::of(b"GET / HTTP/1.1\r\n"), Opening::Other);
    }

    #[test]
    fn what_is_no_hello_is_not_waited_for() {
        assert_eq!(Opening::of(&[HANDSHAKE, 2, 0, 0, 1, 1]), Opening::Other);
        assert_eq!(Opening::of(&[HANDSHAKE, 3, 1, 0, 4, 2, 0, 0, 0]), Opening::Other);
        assert_eq!(Opening::of(&[HANDSHAKE, 3, 1, 0, 4, CLIENT_HELLO, 1, 0, 0]), Opening::Other);
        assert_eq!(Opening::of(&[HANDSHAKE, 3, 1, 0, 0]), Opening::Other);
        assert_eq!(Opening::of(&[&[HANDSHAKE, 3, 1, 255, 255][..], &[0; LONGEST]].concat()), Opening::Other);
    }

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn no_bytes_make_it_panic(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            Opening::of(&bytes);
            Opening::of(&[&[HANDSHAKE, 3, 1][..], &bytes].concat());
        }

        #[test]
        fn a_hello_with_a_wrong_byte_is_judged_and_never_a_reason_to_panic(
            at in 0usize..120, byte: u8, split in 1usize..200,
        ) {
            let mut hello = client_hello(Some("shop.localhost"), split);
            let at = at % hello.len();
            hello[at] = byte;
            Opening::of(&hello);
        }

        #[test]
        fn every_name_is_found_however_it_is_split(name in "[a-z0-9.-]{1,250}", split in 1usize..400) {
            prop_assert_eq!(Opening::of(&client_hello(Some(&name), split)), tls(&name));
        }
    }
}
