//! A reader as strict and as slow as can be, to look at what the engine has written.
//!
//! Where something is not there yet there is no result; where something is there that must not be it panics.

/// A start line and fields.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Head<'b> {
    pub(crate) start: &'b [u8],
    pub(crate) fields: Fields<'b>,
}

pub(crate) type Fields<'b> = Vec<(&'b [u8], &'b [u8])>;

/// The length of a body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Length {
    /// Nothing is said about it.
    Unsaid,
    Told(u64),
    Chunked,
}

impl<'b> Head<'b> {
    /// Reads a head from the front of `bytes`, and leaves there what is behind it.
    pub(crate) fn read(bytes: &mut &'b [u8]) -> Option<Self> {
        let start = line(bytes)?;
        Some(Self { start, fields: fields(bytes)? })
    }

    /// A part of the start line.
    pub(crate) fn part(&self, number: usize) -> &'b [u8] {
        self.start.split(|byte| *byte == b' ').nth(number).unwrap_or_default()
    }

    /// The values of all fields of that name.
    pub(crate) fn values(&self, name: &str) -> Vec<&'b [u8]> {
        let is_meant = |(field, _): &&(&[u8], &[u8])| field.eq_ignore_ascii_case(name.as_bytes());
        self.fields.iter().filter(is_meant).map(|(_, value)| *value).collect()
    }

    /// One field may tell it at most.
    pub(crate) fn length(&self) -> Length {
        match (&self.values("content-length")[..], &self.values("transfer-encoding")[..]) {
            ([], []) => Length::Unsaid,
            ([], [b"chunked"]) => Length::Chunked,
            ([length], []) if length.iter().all(u8::is_ascii_digit) => {
                Length::Told(str::from_utf8(length).unwrap().parse().unwrap())
            }
            _ => panic!("nobody knows its length: {self:?}"),
        }
    }
}

/// A body from the front of `bytes`.
pub(crate) fn body(bytes: &mut &[u8], length: Length) -> Option<Vec<u8>> {
    match length {
        Length::Unsaid => Some(Vec::new()),
        Length::Told(length) => {
            let (body, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
            *bytes = rest;
            Some(body.to_vec())
        }
        Length::Chunked => chunks(bytes).map(|(content, _)| content),
    }
}

/// The content of canonical chunks, and the trailers.
pub(crate) fn chunks<'b>(bytes: &mut &'b [u8]) -> Option<(Vec<u8>, Fields<'b>)> {
    let mut content = Vec::new();
    loop {
        let digits = line(bytes)?;
        let size = str::from_utf8(digits).ok().and_then(|digits| u64::from_str_radix(digits, 16).ok());
        let size = size.unwrap_or_else(|| panic!("no size: {}", digits.escape_ascii()));
        let canonical = format!("{size:x}");
        assert!(canonical.as_bytes().eq_ignore_ascii_case(digits), "not canonical: {}", digits.escape_ascii());
        if size == 0 {
            return Some((content, fields(bytes)?));
        }
        let (chunk, rest) = bytes.split_at_checked(usize::try_from(size).ok()?)?;
        content.extend_from_slice(chunk);
        *bytes = rest;
        assert!(line(bytes)?.is_empty(), "something stands behind a chunk");
    }
}

fn fields<'b>(bytes: &mut &'b [u8]) -> Option<Fields<'b>> {
    let mut fields = Vec::new();
    loop {
        let line = line(bytes)?;
        if line.is_empty() {
            return Some(fields);
        }
        let colon = line.iter().position(|byte| *byte == b':');
        let (name, value) = line.split_at(colon.unwrap_or_else(|| panic!("no field: {}", line.escape_ascii())));
        assert!(!name.is_empty() && name.iter().all(|byte| is_token(*byte)), "no name: {}", name.escape_ascii());
        fields.push((name, value[1..].trim_ascii()));
    }
}

/// RFC 9110 §5.6.2
pub(crate) fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

/// A line without its end, in which no other end is hidden.
fn line<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let end = bytes.windows(2).position(|window| window == b"\r\n");
    let line = &bytes[..end.unwrap_or(bytes.len())];
    let is_doubtful = |byte: &u8| b"\r\n\0".contains(byte);
    // Where the line is not all there, its last byte may be half of its end.
    let known = if end.is_some() { line } else { line.strip_suffix(b"\r").unwrap_or(line) };
    assert!(!known.iter().any(is_doubtful), "no line: {}", line.escape_ascii());
    *bytes = &bytes[end? + 2..];
    Some(line)
}
