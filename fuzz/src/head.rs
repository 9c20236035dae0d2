//! Heads: a verdict does not depend on how much came at once, and what is written is what was read.

use portolan::http1::{
    body::Framing,
    head::{Field, HeadError, MAX_FIELDS, MAX_HEAD, MAX_TARGET, Read, Request, Response, Version},
    write,
};

use super::{
    Verdict, cuts,
    message::{Head, is_token},
};

/// Reads the bytes as the head of a request, or of a response where they begin as one.
pub fn check(bytes: &[u8]) -> Verdict {
    if bytes.starts_with(b"HTTP/") { response(bytes) } else { request(bytes) }
}

fn request(bytes: &[u8]) -> Verdict {
    let read = Request::read(bytes);
    let verdict = verdict_of(&read);
    must_not_depend_on_cuts(bytes, verdict, length_of(&read), |bytes| {
        let read = Request::read(bytes);
        (verdict_of(&read), length_of(&read))
    });
    let Ok(Read::Whole(request, length)) = read else { return verdict };

    assert!(length <= MAX_HEAD && request.path().len() <= MAX_TARGET);
    let fields: Vec<Field<'_>> = request.fields().collect();
    must_be_fields(&fields);
    let framing = framing(&fields).unwrap_or(Framing::None);
    assert_eq!(request.framing(), framing);
    assert!(framing != Framing::Chunked || request.version() == Version::Http11);
    if request.method() != "CONNECT" {
        let mut written = Vec::new();
        write::request_line(&mut written, request.method(), request.path(), request.query());
        write_fields(&mut written, &fields);
        must_be_read_alike(&written, &fields);
        let Ok(Read::Whole(again, length)) = Request::read(&written) else {
            panic!("it does not read what it writes: {}", written.escape_ascii())
        };
        assert_eq!(length, written.len());
        assert_eq!((again.method(), again.path()), (request.method(), request.path()));
        assert_eq!((again.query(), again.framing()), (request.query(), request.framing()));
        assert_eq!(again.fields().collect::<Vec<_>>(), fields);
        // A second reading changes nothing.
        assert_eq!((again.authority(), again.version()), (None, Version::Http11));
    }
    verdict
}

fn response(bytes: &[u8]) -> Verdict {
    let read = |bytes: &[u8]| {
        let read = Response::read(bytes, |_| Ok::<_, HeadError>(()));
        (verdict_of(&read), length_of(&read))
    };
    let (verdict, length) = read(bytes);
    must_not_depend_on_cuts(bytes, verdict, length, read);
    let looked = Response::read(bytes, |response| {
        let fields: Vec<Field<'_>> = response.fields().collect();
        must_be_fields(&fields);
        assert!((100..1000).contains(&response.status));
        must_be_framed(response, &fields);
        let mut written = Vec::new();
        write::status_line(&mut written, response.status, response.reason);
        write_fields(&mut written, &fields);
        must_be_read_alike(&written, &fields);
        let again = Response::read(&written, |again| {
            assert_eq!((again.status, again.reason), (response.status, response.reason));
            assert_eq!(again.fields().collect::<Vec<_>>(), fields);
            Ok::<_, HeadError>(())
        });
        assert!(matches!(again, Ok(Read::Whole((), length)) if length == written.len()), "{again:?}");
        Ok::<_, HeadError>(())
    });
    assert_eq!(verdict_of(&looked), verdict);
    verdict
}

fn verdict_of<T>(read: &Result<Read<T>, HeadError>) -> Verdict {
    match read {
        Ok(Read::Whole(..)) => Verdict::Good,
        Ok(Read::Partial) => Verdict::Part,
        Err(_) => Verdict::Bad,
    }
}

fn length_of<T>(read: &Result<Read<T>, HeadError>) -> Option<usize> {
    match read {
        Ok(Read::Whole(_, length)) => Some(*length),
        _ => None,
    }
}

/// What is valid is valid up to anywhere, and what is refused early stays so.
fn must_not_depend_on_cuts(
    bytes: &[u8],
    whole: Verdict,
    length: Option<usize>,
    read: impl Fn(&[u8]) -> (Verdict, Option<usize>),
) {
    for cut in cuts(bytes.len()) {
        let (part, part_length) = read(&bytes[..cut]);
        match part {
            Verdict::Good => assert!(whole == Verdict::Good && part_length == length, "at {cut}: {part_length:?}"),
            Verdict::Part => assert!(length.is_none_or(|length| cut < length), "at {cut}: not yet"),
            Verdict::Bad => assert_eq!(whole, Verdict::Bad, "at {cut}"),
        }
    }
}

/// None of them can begin another line, or pass for another field.
fn must_be_fields(fields: &[Field<'_>]) {
    assert!(fields.len() <= MAX_FIELDS);
    for field in fields {
        assert!(!field.name.is_empty() && field.name.iter().all(|byte| is_token(*byte)), "{field:?}");
        assert!(!field.value.iter().any(|byte| b"\r\n\0".contains(byte)), "{field:?}");
    }
}

/// What the fields say, said again in the simplest way: a coding goes before a length (RFC 9112 §6.3).
fn framing(fields: &[Field<'_>]) -> Option<Framing> {
    let values = |name: &str| {
        let is_meant = |field: &&Field<'_>| field.name.eq_ignore_ascii_case(name.as_bytes());
        fields.iter().filter(is_meant).map(|field| field.value).collect::<Vec<_>>()
    };
    let (codings, lengths) = (values("transfer-encoding"), values("content-length"));
    let numbers = lengths.iter().map(|length| {
        assert!(!length.is_empty() && length.iter().all(u8::is_ascii_digit), "{}", length.escape_ascii());
        str::from_utf8(length).unwrap().parse::<u64>().unwrap()
    });
    let numbers: Vec<_> = numbers.collect();
    assert!(numbers.windows(2).all(|pair| pair[0] == pair[1]), "{numbers:?}");
    match codings[..] {
        [] => numbers.first().copied().map(Framing::Length),
        [coding] => {
            assert!(coding.eq_ignore_ascii_case(b"chunked"), "{}", coding.escape_ascii());
            Some(Framing::Chunked)
        }
        _ => panic!("more than one coding was let pass"),
    }
}

fn must_be_framed(response: &Response<'_>, fields: &[Field<'_>]) {
    let told = framing(fields);
    let has_none = response.status < 200 || matches!(response.status, 204 | 304);
    let expected = if has_none { Framing::None } else { told.unwrap_or(Framing::UntilClose) };
    assert_eq!(response.framing(false), expected);
    assert_eq!(response.framing(true), Framing::None);
}

fn write_fields(out: &mut Vec<u8>, fields: &[Field<'_>]) {
    for field in fields {
        write::field(out, field.name, field.value);
    }
    write::end(out);
}

/// Another reader, who knows no leniency, sees the same fields and no more.
fn must_be_read_alike(mut written: &[u8], fields: &[Field<'_>]) {
    let head = Head::read(&mut written).expect("it is whole");
    assert!(written.is_empty(), "{} is left", written.escape_ascii());
    assert_eq!(head.fields, fields.iter().map(|field| (field.name, field.value.trim_ascii())).collect::<Vec<_>>());
}
