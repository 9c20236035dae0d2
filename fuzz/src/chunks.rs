//! Chunked bodies: neither the verdict nor the content depends on how the bytes were cut, and what goes out is canonical.

use portolan::http1::body::{Decoder, Encoding, Framing, Out};

use super::{Verdict, cuts, message};

/// Reads the bytes as a chunked body, and as content that becomes one.
pub fn check(bytes: &[u8]) -> Verdict {
    let whole = decode(bytes, Encoding::Bare, [bytes]);
    for cut in cuts(bytes.len()) {
        let (front, back) = bytes.split_at(cut);
        assert_eq!(decode(bytes, Encoding::Bare, [front, back]), whole, "cut at {cut}");
        must_go_out_canonical(bytes, [front, back], &whole);
    }
    assert_eq!(decode(bytes, Encoding::Bare, bytes.chunks(1)), whole, "byte by byte");
    must_go_out_canonical(bytes, [bytes], &whole);
    must_go_out_canonical(bytes, bytes.chunks(1), &whole);
    must_go_out_canonical(bytes, bytes.chunks(7), &whole);
    must_come_back(bytes);
    whole.verdict
}

/// What became of a body.
#[derive(Debug, PartialEq, Eq)]
struct Decoded {
    verdict: Verdict,
    /// How many bytes were its own, where it ended.
    length: Option<usize>,
    /// What went out.
    out: Vec<u8>,
    /// Bytes of content, as the decoder counts them.
    count: u64,
}

/// Reads `pieces`, which are `bytes` together, with what was not taken of one piece in front of the next.
fn decode<'b>(bytes: &[u8], encoding: Encoding, pieces: impl IntoIterator<Item = &'b [u8]>) -> Decoded {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut out = Vec::new();
    let (mut taken, mut come) = (0, 0);
    for piece in pieces {
        come += piece.len();
        while taken < come && !decoder.is_done() {
            let mut built = Vec::new();
            let mut going = Out::new(&bytes[taken..come], &mut built);
            let decoded = decoder.decode(&mut going, encoding, |_| true);
            let (built, run) = going.parts();
            out.extend_from_slice(built);
            out.extend_from_slice(run);
            match decoded {
                Ok(0) => break,
                Ok(more) => taken += more,
                Err(_) => {
                    // It stays so.
                    assert!(decoder.decode(&mut Out::new(b"0\r\n\r\n", &mut Vec::new()), encoding, |_| true).is_err());
                    return Decoded { verdict: Verdict::Bad, length: None, out, count: decoder.count() };
                }
            }
        }
    }
    let is_done = decoder.is_done();
    // Only the last chunk ends it; the end of the connection does not.
    assert_eq!(decoder.end(&mut out, encoding).is_ok(), is_done);
    let verdict = if is_done { Verdict::Good } else { Verdict::Part };
    Decoded { verdict, length: is_done.then_some(taken), out, count: decoder.count() }
}

/// Passed on in chunks, it is the same body, to a reader who knows no leniency.
fn must_go_out_canonical<'b>(bytes: &[u8], pieces: impl IntoIterator<Item = &'b [u8]>, bare: &Decoded) {
    let framed = decode(bytes, Encoding::AsItCame, pieces);
    assert_eq!((framed.verdict, framed.length, framed.count), (bare.verdict, bare.length, bare.count));
    assert_eq!(bare.count, bare.out.len() as u64);
    if framed.verdict == Verdict::Good {
        let mut rest = &framed.out[..];
        let (content, _) = message::chunks(&mut rest).expect("it is whole");
        assert!(rest.is_empty(), "{} is left", rest.escape_ascii());
        assert_eq!(content, bare.out);
    } else {
        // Cut short, it does not look whole.
        let again = decode(&framed.out, Encoding::Bare, [&framed.out[..]]);
        assert_eq!(again.verdict, Verdict::Part, "{}", framed.out.escape_ascii());
        assert_eq!(again.out, bare.out);
    }
}

/// Content of which nobody knows the length becomes chunks, and the same content again.
fn must_come_back(content: &[u8]) {
    let mut decoder = Decoder::new(Framing::UntilClose);
    let mut chunks = Vec::new();
    for piece in content.chunks(1 + content.len() / 3) {
        let mut built = Vec::new();
        let mut going = Out::new(piece, &mut built);
        assert_eq!(decoder.decode(&mut going, Encoding::Chunks, |_| false), Ok(piece.len()));
        let (built, run) = going.parts();
        chunks.extend_from_slice(built);
        chunks.extend_from_slice(run);
    }
    decoder.end(&mut chunks, Encoding::Chunks).unwrap();
    let mut rest = &chunks[..];
    assert_eq!(message::chunks(&mut rest), Some((content.to_vec(), Vec::new())));
    assert!(rest.is_empty());
    assert_eq!(decode(&chunks, Encoding::Bare, [&chunks[..]]).out, content);
}
