//! Messages in recorded bytes, of which more may come: read without mercy, since whatever a proxy sends must be clear.

use super::text;

/// Field lines, in their order. Bytes above 127 are shown as the characters of the same number (ISO 8859-1).
pub(super) type Fields = Vec<(String, String)>;

/// Start line and fields.
#[derive(Debug, Clone)]
pub(super) struct Head {
    pub(super) line: String,
    pub(super) fields: Fields,
}

/// A message with all that belongs to it.
#[derive(Debug, Clone)]
pub(super) struct Message {
    pub(super) head: Head,
    pub(super) framing: Framing,
    pub(super) body: Vec<u8>,
    pub(super) trailers: Fields,
}

/// How the end of a body is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Framing {
    /// There is no body.
    None,
    /// By its length.
    Length(usize),
    /// By a chunk of no bytes.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// How far the bytes reach.
#[derive(Debug)]
pub(super) enum Progress<T> {
    /// Over a whole message, which took so many bytes.
    Whole(T, usize),
    /// Over a part of one.
    Part(Part),
    /// Into something that is no message.
    Fault(String),
}

/// The beginning of a message.
#[derive(Debug, Default)]
pub(super) struct Part {
    pub(super) head: Option<Head>,
    /// What there is of the body.
    pub(super) body: Vec<u8>,
}

/// An answer and the interim ones before it.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) interim: Vec<Head>,
    pub(super) last: Message,
}

impl Head {
    /// The first field of that name.
    pub(super) fn field(&self, name: &str) -> Option<&str> {
        self.all(name).next()
    }

    pub(super) fn all(&self, name: &str) -> impl Iterator<Item = &str> {
        let named = move |(field, _): &&(String, String)| field.eq_ignore_ascii_case(name);
        self.fields.iter().filter(named).map(|(_, value)| value.as_str())
    }

    /// The number in the field of that name.
    pub(super) fn number(&self, name: &str) -> Option<usize> {
        self.field(name)?.parse().ok()
    }

    /// The part of the start line with that number.
    pub(super) fn word(&self, number: usize) -> &str {
        self.line.split(' ').nth(number).unwrap_or_default()
    }

    /// The status of a status line.
    pub(super) fn status(&self) -> u16 {
        self.word(1).parse().unwrap_or_default()
    }

    fn told_framing(&self) -> Result<Option<Framing>, String> {
        let lengths: Vec<_> = self.all("content-length").collect();
        let codings: Vec<_> = self.all("transfer-encoding").collect();
        match (lengths.as_slice(), codings.as_slice()) {
            ([], []) => Ok(None),
            ([], ["chunked"]) => Ok(Some(Framing::Chunked)),
            ([length], []) if is_all(length, |byte| byte.is_ascii_digit()) => {
                Ok(Some(Framing::Length(length.parse().unwrap_or(usize::MAX))))
            }
            _ => Err(format!("a framing that is not one and clear: {self:?}")),
        }
    }
}

/// The request at the beginning of `bytes`.
pub(super) fn request(bytes: &[u8]) -> Progress<Message> {
    let framing = |head: &Head| {
        let words = head.line.split(' ').count();
        if words != 3 || !head.line.ends_with(" HTTP/1.1") {
            return Err(format!("no request line: {:?}", head.line));
        }
        Ok(head.told_framing()?.unwrap_or(Framing::None))
    };
    message(bytes, framing, false)
}

/// The answer at the beginning of `bytes`; `to_head` says that it has no body, `ended` that nothing more will come.
pub(super) fn answer(bytes: &[u8], to_head: bool, ended: bool) -> Progress<Answered> {
    let framing = |head: &Head| {
        let version = matches!(head.word(0), "HTTP/1.1" | "HTTP/1.0");
        if !version || head.word(1).len() != 3 || !(100..=999).contains(&head.status()) {
            return Err(format!("no status line: {:?}", head.line));
        }
        let told = head.told_framing()?;
        let bodiless = to_head || head.status() < 200 || matches!(head.status(), 204 | 304);
        Ok(if bodiless { Framing::None } else { told.unwrap_or(Framing::Close) })
    };
    let (mut interim, mut before) = (Vec::new(), 0);
    loop {
        match message(&bytes[before..], framing, ended) {
            Progress::Whole(message, used) if is_interim(&message.head) => {
                interim.push(message.head);
                before += used;
            }
            Progress::Whole(last, used) => return Progress::Whole(Answered { interim, last }, before + used),
            Progress::Part(part) => return Progress::Part(part),
            Progress::Fault(fault) => return Progress::Fault(fault),
        }
    }
}

fn is_interim(head: &Head) -> bool {
    head.status() < 200 && head.status() != 101
}

fn message(bytes: &[u8], framing: impl Fn(&Head) -> Result<Framing, String>, ended: bool) -> Progress<Message> {
    let Some(end) = find(bytes, b"\r\n\r\n") else { return Progress::Part(Part::default()) };
    let parsed = head(&bytes[..end]).and_then(|head| framing(&head).map(|framing| (head, framing)));
    let (head, framing) = match parsed {
        Ok(parsed) => parsed,
        Err(fault) => return Progress::Fault(fault),
    };
    let (before, content) = (end + 4, &bytes[end + 4..]);
    let part = |head, body: &[u8]| Progress::Part(Part { head: Some(head), body: body.to_vec() });
    let whole = |head, body: &[u8], trailers, used| {
        Progress::Whole(Message { head, framing, body: body.to_vec(), trailers }, before + used)
    };
    match framing {
        Framing::None => whole(head, &[], Vec::new(), 0),
        Framing::Length(length) => match content.get(..length) {
            Some(body) => whole(head, body, Vec::new(), length),
            None => part(head, content),
        },
        Framing::Close if ended => whole(head, content, Vec::new(), content.len()),
        Framing::Close => part(head, content),
        Framing::Chunked => match chunks(content) {
            Progress::Whole((body, trailers), used) => whole(head, &body, trailers, used),
            Progress::Part(Part { body, .. }) => part(head, &body),
            Progress::Fault(fault) => Progress::Fault(fault),
        },
    }
}

/// A head without its empty line.
fn head(bytes: &[u8]) -> Result<Head, String> {
    let text = text(bytes);
    let (line, lines) = text.split_once("\r\n").unwrap_or((&text, ""));
    if line.is_empty() || line.contains(['\r', '\n', '\0']) {
        return Err(format!("no start line: {line:?}"));
    }
    Ok(Head { line: line.to_owned(), fields: fields(lines)? })
}

fn fields(lines: &str) -> Result<Fields, String> {
    let field = |line: &str| {
        let (name, value) = line.split_once(':').ok_or_else(|| format!("no field: {line:?}"))?;
        let is_control = |byte: u8| byte == 0x7f || (byte < 0x20 && byte != b'\t');
        if !is_all(name, is_token) || value.bytes().any(is_control) {
            return Err(format!("no field: {line:?}"));
        }
        Ok((name.to_owned(), value.trim_matches([' ', '\t']).to_owned()))
    };
    lines.split("\r\n").filter(|_| !lines.is_empty()).map(field).collect()
}

/// A chunked body and its trailers. Only the canonical form is taken: a size without zeros before it, no extension.
fn chunks(bytes: &[u8]) -> Progress<(Vec<u8>, Fields)> {
    let (mut body, mut at) = (Vec::new(), 0);
    loop {
        let Some(length) = find(&bytes[at..], b"\r\n") else { return part_of(body) };
        let line = text(&bytes[at..at + length]);
        let is_canonical = is_all(&line, |byte| byte.is_ascii_hexdigit()) && (line == "0" || !line.starts_with('0'));
        let Some(size) = usize::from_str_radix(&line, 16).ok().filter(|_| is_canonical) else {
            return Progress::Fault(format!("a chunk size that is not canonical: {line:?}"));
        };
        at += length + 2;
        if size == 0 {
            break;
        }
        let Some(chunk) = bytes[at..].get(..size) else {
            body.extend_from_slice(&bytes[at..]);
            return part_of(body);
        };
        body.extend_from_slice(chunk);
        at += size;
        match bytes.get(at..at + 2) {
            Some(b"\r\n") => at += 2,
            Some(other) => return Progress::Fault(format!("{:?} behind a chunk", text(other))),
            None => return part_of(body),
        }
    }
    if bytes[at..].starts_with(b"\r\n") {
        return Progress::Whole((body, Vec::new()), at + 2);
    }
    let Some(length) = find(&bytes[at..], b"\r\n\r\n") else { return part_of(body) };
    match fields(&text(&bytes[at..at + length])) {
        Ok(trailers) => Progress::Whole((body, trailers), at + length + 4),
        Err(fault) => Progress::Fault(fault),
    }
}

fn part_of<T>(body: Vec<u8>) -> Progress<T> {
    Progress::Part(Part { head: None, body })
}

fn find(bytes: &[u8], mark: &[u8]) -> Option<usize> {
    bytes.windows(mark.len()).position(|window| window == mark)
}

fn is_all(text: &str, is: impl Fn(u8) -> bool) -> bool {
    !text.is_empty() && text.bytes().all(is)
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
