//! HTTP/1.1 messages, read without any mercy: what a lenient reader would let pass is a fault of the proxy.

use std::ops::Deref;

/// Start line and fields. Bytes above 127 are shown as the characters of the same number (ISO 8859-1).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// All of it, with the empty line.
    pub(crate) text: String,
}

/// How the end of a body was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// There is none, nor may there be one.
    None,
    /// By its length.
    Length(u64),
    /// By a chunk of no bytes.
    Chunked,
    /// By the end of the connection.
    Close,
}

/// A whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Request {
    pub(crate) head: Head,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    /// Field lines behind the last chunk.
    pub(crate) trailers: String,
}

/// A whole response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Response {
    pub(crate) head: Head,
    pub(crate) status: u16,
    pub(crate) framing: Framing,
    pub(crate) body: Vec<u8>,
    /// Field lines behind the last chunk.
    pub(crate) trailers: String,
}

impl Deref for Request {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Deref for Response {
    type Target = Head;

    fn deref(&self) -> &Head {
        &self.head
    }
}

impl Request {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        latin1(&self.body)
    }
}

impl Response {
    /// The body as text.
    pub(crate) fn text(&self) -> String {
        latin1(&self.body)
    }

    /// The cause of an error of the proxy's own, if it is one.
    pub(crate) fn cause(&self) -> Option<&str> {
        self.field("x-portolan-error")
    }

    /// Status and cause of an error of the proxy's own.
    pub(crate) fn error(&self) -> (u16, &str) {
        (self.status, self.cause().unwrap_or("not ours"))
    }
}

impl Head {
    /// Takes a head to pieces; `bytes` end with its empty line.
    pub(crate) fn parse(bytes: &[u8]) -> Result<Self, String> {
        let text = latin1(bytes);
        let fault = |what: &str| Err(format!("{what} in the head {text:?}"));
        let Some(lines) = text.strip_suffix("\r\n\r\n") else { return fault("no empty line") };
        let mut lines = lines.split("\r\n");
        if lines.next().is_none_or(str::is_empty) {
            return fault("no start line");
        }
        for line in lines {
            let Some((name, value)) = line.split_once(':') else { return fault("a field without a colon") };
            if name.is_empty() || !name.bytes().all(is_token) {
                return fault("a field name that is no token");
            }
            if value.bytes().any(|byte| byte == 0x7f || (byte < 0x20 && byte != b'\t')) {
                return fault("a control character");
            }
        }
        if text.replace("\r\n", "").contains(['\r', '\n']) {
            return fault("a bare CR or LF");
        }
        let head = Self { text };
        let lengths = head.all("content-length");
        let codings = head.all("transfer-encoding");
        match (lengths.as_slice(), codings.as_slice()) {
            ([], [] | ["chunked"]) => Ok(head),
            ([length], []) if !length.is_empty() && length.bytes().all(|byte| byte.is_ascii_digit()) => Ok(head),
            _ => Err(format!("a framing that is not one and clear in the head {:?}", head.text)),
        }
    }

    /// Request line or status line.
    pub(crate) fn line(&self) -> &str {
        self.text.split("\r\n").next().unwrap_or_default()
    }

    /// The value of the only field of that name.
    pub(crate) fn field(&self, name: &str) -> Option<&str> {
        match self.all(name).as_slice() {
            [] => None,
            [value] => Some(value),
            many => panic!("{name} is there {} times: {many:?}", many.len()),
        }
    }

    /// The values of all fields of that name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields().filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).collect()
    }

    /// All fields, in their order.
    pub(crate) fn fields(&self) -> impl Iterator<Item = (&str, &str)> {
        let lines = self.text.trim_end_matches("\r\n").split("\r\n").skip(1);
        lines.filter_map(|line| line.split_once(':')).map(|(name, value)| (name, value.trim_matches([' ', '\t'])))
    }

    /// The text but for the `date` line, which is another one each second.
    pub(crate) fn without_date(&self) -> String {
        self.text.split_inclusive("\r\n").filter(|line| !line.starts_with("date: ")).collect()
    }

    /// How the body of a request with this head is framed.
    pub(crate) fn request_framing(&self) -> Framing {
        self.told_framing().unwrap_or(Framing::None)
    }

    /// How the body of a response with this head is framed.
    pub(crate) fn response_framing(&self, status: u16, to_head: bool) -> Framing {
        if to_head || status < 200 || matches!(status, 204 | 304) {
            return Framing::None;
        }
        self.told_framing().unwrap_or(Framing::Close)
    }

    fn told_framing(&self) -> Option<Framing> {
        if self.field("transfer-encoding").is_some() {
            return Some(Framing::Chunked);
        }
        self.field("content-length").and_then(|length| length.parse().ok()).map(Framing::Length)
    }

    /// The status of a status line.
    pub(crate) fn status(&self) -> Result<u16, String> {
        let line = self.line();
        let code = line.strip_prefix("HTTP/1.1 ").or_else(|| line.strip_prefix("HTTP/1.0 "));
        let code = code.and_then(|rest| rest.get(..3).filter(|_| rest.as_bytes().get(3) == Some(&b' ')));
        code.and_then(|code| code.parse().ok()).ok_or_else(|| format!("no status line: {line:?}"))
    }
}

/// The size that a chunk's line tells. Only the canonical form is taken: hexadecimal digits and nothing else.
pub(crate) fn chunk_size(line: &[u8]) -> Result<usize, String> {
    let text = latin1(line);
    let digits = text.strip_suffix("\r\n").filter(|digits| digits.bytes().all(|byte| byte.is_ascii_hexdigit()));
    let size = digits.and_then(|digits| usize::from_str_radix(digits, 16).ok());
    size.ok_or_else(|| format!("a chunk size that is not canonical: {text:?}"))
}

/// Each byte as the character of the same number.
pub(crate) fn latin1(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}
