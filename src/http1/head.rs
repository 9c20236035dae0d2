//! Heads: what stands before a body, cut into slices of one buffer and checked.
//!
//! httparse finds the slices; what it lets pass and RFC 9112 does not is refused here: doubtful framing above all, since
//! two readers who disagree on where a message ends are how requests are smuggled (§11.2). A [`Request`] owns its
//! bytes, for it is asked long after they were read; a [`Response`] is looked at once, where it lies.

use std::{cell::RefCell, mem::MaybeUninit, str};

use super::body::Framing;

/// The largest head, in bytes. Large cookies of development fit (Envoy 60 KiB, Caddy and HAProxy 16 KiB).
pub const MAX_HEAD: usize = 64 * 1024;

/// The most fields of a head (HAProxy 101, Envoy 100).
pub const MAX_FIELDS: usize = 100;

/// The longest request target, in bytes; half of what a head may hold in all.
pub const MAX_TARGET: usize = 32 * 1024;

/// Why a head cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum HeadError {
    /// RFC 9112 §2.2, §3, §4, §5
    #[error("the head is not valid HTTP/1: {0}")]
    Syntax(#[from] httparse::Error),
    /// RFC 6585 §5
    #[error("the head is larger than 64 KiB or has more than {MAX_FIELDS} fields")]
    TooLarge,
    /// RFC 9110 §15.5.15
    #[error("the request target is longer than 32 KiB")]
    TargetTooLong,
    /// RFC 9112 §3.2
    #[error("the request target is neither a path, a URL nor `*`")]
    Target,
    /// RFC 9112 §4
    #[error("the status is not a number from 100 to 999")]
    Status,
    /// RFC 9112 §6.3
    #[error("Content-Length is not one number")]
    Length,
    /// RFC 9112 §6.1, §6.3: it does not end with one `chunked`, stands there twice, or in HTTP/1.0.
    #[error("Transfer-Encoding must be exactly one `chunked`, in HTTP/1.1")]
    Coding,
    /// RFC 9112 §6.1: a coding that is none of ours.
    #[error("the only transfer coding that is understood is `chunked`")]
    UnknownCoding,
}

/// The minor version of HTTP/1.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub enum Version {
    /// HTTP/1.0: no chunks, no interim answers, and the connection closes unless asked otherwise.
    Http10,
    /// HTTP/1.1
    #[default]
    Http11,
}

/// A field that means something to HTTP itself, or to whoever passes it on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Known {
    /// RFC 9110 §7.2
    Host,
    /// RFC 9110 §8.6
    ContentLength,
    /// RFC 9112 §6.1
    TransferEncoding,
    /// RFC 9110 §7.6.1
    Connection,
    /// RFC 9110 §7.6.1
    KeepAlive,
    /// RFC 9110 §7.6.1
    ProxyConnection,
    /// RFC 9110 §11.7.1
    ProxyAuthenticate,
    /// RFC 9110 §11.7.2
    ProxyAuthorization,
    /// RFC 9110 §10.1.4
    Te,
    /// RFC 9110 §6.6.2
    Trailer,
    /// RFC 9110 §7.8
    Upgrade,
    /// RFC 9110 §10.1.1
    Expect,
    /// RFC 9110 §7.6.2
    MaxForwards,
    /// RFC 9110 §7.6.3
    Via,
    /// RFC 9110 §6.6.1
    Date,
}

impl Known {
    /// Which one `name` is, in any case; by its length first, as nearly every field is none of them.
    pub fn of(name: &[u8]) -> Option<Self> {
        let (known, lowercase): (Self, &[u8]) = match name.len() {
            2 => (Self::Te, b"te"),
            3 => (Self::Via, b"via"),
            4 if name[0] | 0x20 == b'h' => (Self::Host, b"host"),
            4 => (Self::Date, b"date"),
            6 => (Self::Expect, b"expect"),
            7 if name[0] | 0x20 == b'u' => (Self::Upgrade, b"upgrade"),
            7 => (Self::Trailer, b"trailer"),
            10 if name[0] | 0x20 == b'c' => (Self::Connection, b"connection"),
            10 => (Self::KeepAlive, b"keep-alive"),
            12 => (Self::MaxForwards, b"max-forwards"),
            14 => (Self::ContentLength, b"content-length"),
            16 => (Self::ProxyConnection, b"proxy-connection"),
            17 => (Self::TransferEncoding, b"transfer-encoding"),
            18 => (Self::ProxyAuthenticate, b"proxy-authenticate"),
            19 => (Self::ProxyAuthorization, b"proxy-authorization"),
            _ => return None,
        };
        name.eq_ignore_ascii_case(lowercase).then_some(known)
    }

    /// Whether it is about one connection only, or for a proxy (RFC 9110 §7.6.1, §11.7): it never goes further.
    pub fn is_of_one_hop(self) -> bool {
        matches!(
            self,
            Self::Connection
                | Self::KeepAlive
                | Self::ProxyConnection
                | Self::ProxyAuthenticate
                | Self::ProxyAuthorization
                | Self::Te
                | Self::TransferEncoding
                | Self::Upgrade
        )
    }

    /// Whether it is so much of the head that it cannot come behind the body (RFC 9110 §6.5.1).
    pub fn may_trail(self) -> bool {
        matches!(self, Self::Date | Self::Via)
    }
}

/// A set of [`Known`] fields.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Seen(u16);

impl Seen {
    /// Adds it; returns whether it was there before.
    fn insert(&mut self, known: Known) -> bool {
        let before = self.holds(known);
        self.0 |= 1 << known as u16;
        before
    }

    fn holds(self, known: Known) -> bool {
        self.0 & (1 << known as u16) != 0
    }
}

/// One field line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Field<'h> {
    /// What it is, if it is one of those.
    pub known: Option<Known>,
    /// As it came: a token (RFC 9110 §5.6.2).
    pub name: &'h [u8],
    /// Without the space around it.
    pub value: &'h [u8],
}

/// The members of the lists in all fields that are `wanted` (RFC 9110 §5.6.1). What is not text is no member.
fn members<'h>(fields: impl Iterator<Item = Field<'h>>, wanted: Known) -> impl Iterator<Item = &'h str> {
    let values = fields.filter(move |field| field.known == Some(wanted));
    let members = values.flat_map(|field| field.value.split(|byte| *byte == b','));
    members.filter_map(|member| str::from_utf8(member).ok()).map(str::trim).filter(|member| !member.is_empty())
}

/// Whether a connection goes on behind a message with these options in its Connection field (RFC 9112 §9.3).
fn persists<'h>(version: Version, options: impl Iterator<Item = &'h str>) -> bool {
    let (mut closes, mut stays) = (false, false);
    for option in options {
        closes |= option.eq_ignore_ascii_case("close");
        stays |= option.eq_ignore_ascii_case("keep-alive");
    }
    !closes && (stays || version == Version::Http11)
}

/// A part of a request's bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Part {
    from: u32,
    to: u32,
}

impl Part {
    /// Where `slice` lies in `whole`.
    fn of(slice: &[u8], whole: &[u8]) -> Self {
        let from = (slice.as_ptr() as usize).wrapping_sub(whole.as_ptr() as usize);
        // Heads are shorter than 64 KiB.
        Self { from: from as u32, to: (from + slice.len()) as u32 }
    }

    fn in_bytes(self, whole: &[u8]) -> &[u8] {
        whole.get(self.from as usize..self.to as usize).unwrap_or_default()
    }

    /// The part is one that was text when it was found.
    fn in_text(self, whole: &[u8]) -> &str {
        str::from_utf8(self.in_bytes(whole)).unwrap_or_default()
    }
}

#[derive(Debug, Clone, Copy)]
struct Line {
    known: Option<Known>,
    name: Part,
    value: Part,
}

/// The head of a request. Its memory is used again for later requests of the thread.
#[derive(Debug, Default)]
pub struct Request {
    bytes: Vec<u8>,
    lines: Vec<Line>,
    method: Part,
    authority: Option<Part>,
    path: Part,
    query: Option<Part>,
    version: Version,
    seen: Seen,
    framing: Framing,
    both_framings: bool,
}

/// Heads that may lie ready for the next requests of a thread; there are as many in use as requests in hand.
const READY: usize = 256;

/// A head that outgrew this is not kept: one large cookie must not cost its memory for ever.
const KEEP: usize = 8 * 1024;

thread_local! {
    static SPARE: RefCell<Vec<(Vec<u8>, Vec<Line>)>> = const { RefCell::new(Vec::new()) };
}

impl Drop for Request {
    fn drop(&mut self) {
        if (1..=KEEP).contains(&self.bytes.capacity()) {
            let memory = (std::mem::take(&mut self.bytes), std::mem::take(&mut self.lines));
            // While the thread ends there is nothing to keep it for.
            let _ = SPARE.try_with(|spare| {
                let mut spare = spare.borrow_mut();
                if spare.len() < READY {
                    spare.push(memory);
                }
            });
        }
    }
}

/// How many times as large as a head that is taken one may be that was written here: fields of ours and of a route's
/// edits have come to those of the other side.
const ROOM: usize = 2;

type Lines<'b> = [MaybeUninit<httparse::Header<'b>>; ROOM * MAX_FIELDS];

/// How large a head may be.
#[derive(Debug, Clone, Copy)]
struct Most {
    bytes: usize,
    fields: usize,
}

/// One that comes from elsewhere.
const THEIRS: Most = Most { bytes: MAX_HEAD, fields: MAX_FIELDS };

/// One that was written here.
const OURS: Most = Most { bytes: ROOM * MAX_HEAD, fields: ROOM * MAX_FIELDS };

/// Whether more may be read of a head of which `tried` bytes were read in vain: one that comes byte by byte is not read
/// anew with each of them.
pub(super) fn is_worth_reading(head: &[u8], tried: usize) -> bool {
    let new = &head[tried.saturating_sub(3).min(head.len())..];
    let has_empty_line =
        || memchr::memchr_iter(b'\n', new).any(|at| matches!(new[at + 1..], [b'\n', ..] | [b'\r', b'\n', ..]));
    tried == 0 || head.len() >= (2 * tried).min(MAX_HEAD) || has_empty_line()
}

/// What has been read of a head.
#[derive(Debug)]
pub enum Read<T> {
    /// All of it, and how many bytes it took.
    Whole(T, usize),
    /// Not yet.
    Partial,
}

impl Request {
    /// Reads a head from the front of `bytes`.
    pub fn read(bytes: &[u8]) -> Result<Read<Self>, HeadError> {
        Self::read_within(bytes, THEIRS)
    }

    /// Reads one that was written here.
    pub(crate) fn read_ours(bytes: &[u8]) -> Result<Read<Self>, HeadError> {
        Self::read_within(bytes, OURS)
    }

    fn read_within(bytes: &[u8], most: Most) -> Result<Read<Self>, HeadError> {
        let mut lines: Lines<'_> = [const { MaybeUninit::uninit() }; OURS.fields];
        let mut parsed = httparse::Request::new(&mut []);
        let status = parsed.parse_with_uninit_headers(bytes, &mut lines[..most.fields]);
        let length = match status {
            Ok(httparse::Status::Complete(length)) if length <= most.bytes => length,
            Ok(httparse::Status::Partial) if bytes.len() < most.bytes => return Ok(Read::Partial),
            Ok(_) if !bytes[..MAX_TARGET].contains(&b'\n') => return Err(HeadError::TargetTooLong),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge),
            Err(error) => return Err(error.into()),
        };
        let (memory, lines) = SPARE.with_borrow_mut(Vec::pop).unwrap_or_default();
        let mut request = Self { bytes: memory, lines, ..Self::default() };
        request.fill(&bytes[..length], &parsed)?;
        Ok(Read::Whole(request, length))
    }

    /// Case-sensitive, as it came (RFC 9110 §9.1).
    pub fn method(&self) -> &str {
        self.method.in_text(&self.bytes)
    }

    /// The authority of a target in absolute-form, which counts instead of Host (RFC 9112 §3.2.2).
    pub fn authority(&self) -> Option<&str> {
        self.authority.map(|authority| authority.in_text(&self.bytes))
    }

    /// From the first `/` up to the `?`; `*` for a server-wide OPTIONS (RFC 9112 §3.2.4).
    pub fn path(&self) -> &str {
        match self.path.in_text(&self.bytes) {
            "" if self.query.is_none() && self.method() == "OPTIONS" => "*",
            "" => "/",
            path => path,
        }
    }

    /// What follows the `?`, if there is one; may be empty.
    pub fn query(&self) -> Option<&str> {
        self.query.map(|query| query.in_text(&self.bytes))
    }

    /// The version of the sender.
    pub fn version(&self) -> Version {
        self.version
    }

    /// Every field, in its order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'_>> {
        let bytes = &self.bytes;
        let field = |line: &Line| Field {
            known: line.known,
            name: line.name.in_bytes(bytes),
            value: line.value.in_bytes(bytes),
        };
        self.lines.iter().map(field)
    }

    /// Whether there is such a field; this costs nothing.
    pub fn has(&self, known: Known) -> bool {
        self.seen.holds(known)
    }

    /// The value of the first such field.
    pub fn first(&self, known: Known) -> Option<&[u8]> {
        if !self.has(known) {
            return None;
        }
        self.fields().find(|field| field.known == Some(known)).map(|field| field.value)
    }

    /// The members of the lists in all such fields (RFC 9110 §5.6.1).
    pub fn members(&self, known: Known) -> impl Iterator<Item = &str> {
        let fields = self.has(known).then(|| self.fields());
        members(fields.into_iter().flatten(), known)
    }

    /// How its body ends (RFC 9112 §6.3).
    pub fn framing(&self) -> Framing {
        self.framing
    }

    /// Whether its sender takes a next request on the same connection (RFC 9112 §9.3), and so may we: one that sent
    /// both kinds of framing may have been fooled, and is not trusted further (§6.1).
    pub fn keeps_alive(&self) -> bool {
        !self.both_framings && persists(self.version, self.members(Known::Connection))
    }

    /// Whether its sender waits for `100 Continue` before the body. HTTP/1.0 knows no such thing (RFC 9110 §10.1.1).
    pub fn expects_continue(&self) -> bool {
        self.version == Version::Http11
            && self.framing.has_body()
            && self.first(Known::Expect).is_some_and(|expect| expect.eq_ignore_ascii_case(b"100-continue"))
    }

    /// Whether its sender reads trailers (RFC 9110 §10.1.4).
    pub fn takes_trailers(&self) -> bool {
        self.members(Known::Te).any(|member| member.eq_ignore_ascii_case("trailers"))
    }

    fn fill(&mut self, bytes: &[u8], parsed: &httparse::Request<'_, '_>) -> Result<(), HeadError> {
        let target = parsed.path.unwrap_or_default();
        let method = parsed.method.unwrap_or_default();
        let (authority, path, query) = parse_target(method, target)?;
        self.bytes.clear();
        self.bytes.extend_from_slice(bytes);
        let part = |text: &str| Part::of(text.as_bytes(), bytes);
        self.method = part(method);
        (self.authority, self.path, self.query) = (authority.map(part), part(path), query.map(part));
        self.version = version(parsed.version);
        self.lines.clear();
        self.seen = Seen::default();
        let mut doubts = Doubts::default();
        for header in parsed.headers.iter() {
            let known = Known::of(header.name.as_bytes());
            if let Some(known) = known {
                let repeated = self.seen.insert(known);
                doubts.look(known, header.value, repeated)?;
            }
            self.lines.push(Line { known, name: part(header.name), value: Part::of(header.value, bytes) });
        }
        if let Some(error) = doubts.coding {
            return Err(error);
        }
        if doubts.chunked && self.version == Version::Http10 {
            return Err(HeadError::Coding);
        }
        self.framing = match doubts {
            Doubts { chunked: true, .. } => Framing::Chunked,
            Doubts { length: Some(length), .. } => Framing::Length(length),
            Doubts { length: None, .. } => Framing::None,
        };
        self.both_framings = doubts.chunked && self.seen.holds(Known::ContentLength);
        Ok(())
    }
}

fn version(minor: Option<u8>) -> Version {
    if minor == Some(0) { Version::Http10 } else { Version::Http11 }
}

/// What the fields of a head say of its framing, each looked at as it comes.
#[derive(Debug, Default, Clone, Copy)]
struct Doubts {
    length: Option<u64>,
    chunked: bool,
    coding: Option<HeadError>,
}

impl Doubts {
    fn look(&mut self, known: Known, value: &[u8], repeated: bool) -> Result<(), HeadError> {
        match known {
            Known::ContentLength => {
                let length = parse_length(value).ok_or(HeadError::Length)?;
                // Equal ones become one (RFC 9112 §6.3).
                if self.length.is_some_and(|before| before != length) {
                    return Err(HeadError::Length);
                }
                self.length = Some(length);
            }
            // Each would be looked for in each field.
            Known::Connection if memchr::memchr_iter(b',', value).count() > MAX_FIELDS => {
                return Err(HeadError::TooLarge);
            }
            Known::TransferEncoding if repeated => return Err(HeadError::Coding),
            Known::TransferEncoding => match is_chunked(value) {
                Ok(()) => self.chunked = true,
                // Another may follow, which is worse.
                Err(error) => self.coding = Some(error),
            },
            _ => {}
        }
        Ok(())
    }
}

/// `1*DIGIT` (RFC 9110 §8.6): no sign, no list.
fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() {
        return None;
    }
    value.iter().try_fold(0u64, |length, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        length.checked_mul(10)?.checked_add(digit)
    })
}

/// Exactly `chunked`, or an error that tells whether the coding is unknown or the list is wrong (RFC 9112 §6.1).
fn is_chunked(value: &[u8]) -> Result<(), HeadError> {
    if value.eq_ignore_ascii_case(b"chunked") {
        return Ok(());
    }
    let codings = || value.split(|byte| *byte == b',').map(<[u8]>::trim_ascii);
    let is_token = |coding: &[u8]| !coding.is_empty() && coding.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-');
    let only_last_is_chunked = codings().rev().skip(1).all(|coding| !coding.eq_ignore_ascii_case(b"chunked"));
    let is_unknown = codings().all(is_token) && only_last_is_chunked;
    Err(if is_unknown { HeadError::UnknownCoding } else { HeadError::Coding })
}

type Target<'t> = (Option<&'t str>, &'t str, Option<&'t str>);

/// Authority, path and query of a target (RFC 9112 §3.2). A fragment is no part of it: what is routed is what is
/// forwarded.
fn parse_target<'t>(method: &str, target: &'t str) -> Result<Target<'t>, HeadError> {
    if target.len() > MAX_TARGET {
        return Err(HeadError::TargetTooLong);
    }
    let target = target.split('#').next().unwrap_or_default();
    if method == "CONNECT" {
        return Ok((Some(target), "", None));
    }
    let (authority, rest) = match target.as_bytes() {
        [b'/', ..] => (None, target),
        b"*" if method == "OPTIONS" => (None, target),
        _ => {
            let (scheme, rest) = target.split_once("://").ok_or(HeadError::Target)?;
            let is_ours = scheme.eq_ignore_ascii_case("http") || scheme.eq_ignore_ascii_case("https");
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            if !is_ours || end == 0 {
                return Err(HeadError::Target);
            }
            (Some(&rest[..end]), &rest[end..])
        }
    };
    Ok(match rest.split_once('?') {
        Some((path, query)) => (authority, path, Some(query)),
        None => (authority, rest, None),
    })
}

/// The head of an answer, where it lies.
#[derive(Debug)]
pub struct Response<'b> {
    /// 100 to 999.
    pub status: u16,
    /// As it came; may be empty.
    pub reason: &'b str,
    /// The version of the sender.
    version: Version,
    framing: Doubts,
    seen: Seen,
    lines: &'b [httparse::Header<'b>],
}

impl<'b> Response<'b> {
    /// Reads a head from the front of `bytes` and shows it to `look`.
    pub fn read<T, E>(bytes: &[u8], look: impl FnOnce(&Response<'_>) -> Result<T, E>) -> Result<Read<T>, E>
    where
        E: From<HeadError>,
    {
        Self::read_within(bytes, THEIRS, look)
    }

    /// The same of one that was written here.
    pub(crate) fn read_ours<T, E>(bytes: &[u8], look: impl FnOnce(&Response<'_>) -> Result<T, E>) -> Result<Read<T>, E>
    where
        E: From<HeadError>,
    {
        Self::read_within(bytes, OURS, look)
    }

    fn read_within<T, E>(
        bytes: &[u8],
        most: Most,
        look: impl FnOnce(&Response<'_>) -> Result<T, E>,
    ) -> Result<Read<T>, E>
    where
        E: From<HeadError>,
    {
        let mut lines: Lines<'_> = [const { MaybeUninit::uninit() }; OURS.fields];
        let mut parsed = httparse::Response::new(&mut []);
        let status = httparse::ParserConfig::default().parse_response_with_uninit_headers(
            &mut parsed,
            bytes,
            &mut lines[..most.fields],
        );
        let length = match status {
            Ok(httparse::Status::Complete(length)) if length <= most.bytes => length,
            Ok(httparse::Status::Partial) if bytes.len() < most.bytes => return Ok(Read::Partial),
            Ok(_) | Err(httparse::Error::TooManyHeaders) => return Err(HeadError::TooLarge.into()),
            Err(error) => return Err(HeadError::from(error).into()),
        };
        let status = parsed.code.filter(|code| *code >= 100).ok_or(HeadError::Status)?;
        let (mut framing, mut seen) = (Doubts::default(), Seen::default());
        for header in parsed.headers.iter() {
            if let Some(known) = Known::of(header.name.as_bytes()) {
                let repeated = seen.insert(known);
                framing.look(known, header.value, repeated)?;
            }
        }
        if let Some(error) = framing.coding {
            return Err(error.into());
        }
        let (reason, version) = (parsed.reason.unwrap_or_default(), version(parsed.version));
        if framing.chunked && version == Version::Http10 {
            return Err(HeadError::Coding.into());
        }
        let response = Response { status, reason, version, framing, seen, lines: parsed.headers };
        look(&response).map(|looked| Read::Whole(looked, length))
    }

    /// Every field, in its order.
    pub fn fields(&self) -> impl Iterator<Item = Field<'b>> + use<'b> {
        let field = |line: &'b httparse::Header<'b>| {
            let name = line.name.as_bytes();
            Field { known: Known::of(name), name, value: line.value }
        };
        self.lines.iter().map(field)
    }

    /// Whether there is such a field.
    pub fn has(&self, known: Known) -> bool {
        self.seen.holds(known)
    }

    /// The value of the first such field.
    pub fn first(&self, known: Known) -> Option<&[u8]> {
        if !self.has(known) {
            return None;
        }
        self.fields().find(|field| field.known == Some(known)).map(|field| field.value)
    }

    /// The members of the lists in all such fields.
    pub fn members(&self, known: Known) -> impl Iterator<Item = &str> {
        let fields = self.has(known).then(|| self.fields());
        members(fields.into_iter().flatten(), known)
    }

    /// Whether it is one of those before the answer (RFC 9110 §15.2). 101 is not: nothing of HTTP comes after it.
    pub fn is_interim(&self) -> bool {
        self.status < 200 && self.status != 101
    }

    /// The length that it tells, which for HEAD and 304 is that of a body that is not here (RFC 9110 §8.6). Beside a
    /// transfer coding, and where there can be none, it means nothing (RFC 9112 §6.3).
    pub fn told_length(&self) -> Option<u64> {
        self.framing.length.filter(|_| !self.framing.chunked && self.status >= 200 && self.status != 204)
    }

    /// How its body ends (RFC 9112 §6.3), as the answer to a HEAD or to anything else.
    pub fn framing(&self, to_head: bool) -> Framing {
        match self.framing {
            _ if to_head || self.status < 200 || self.status == 204 || self.status == 304 => Framing::None,
            Doubts { chunked: true, .. } => Framing::Chunked,
            Doubts { length: Some(length), .. } => Framing::Length(length),
            Doubts { length: None, .. } => Framing::UntilClose,
        }
    }

    /// Whether the program takes a next request on the same connection (RFC 9112 §9.3). One that told both kinds of
    /// framing is not trusted further.
    pub fn keeps_alive(&self) -> bool {
        let both_framings = self.framing.chunked && self.framing.length.is_some();
        !both_framings && persists(self.version, self.members(Known::Connection))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(head: &str) -> Result<Request, HeadError> {
        match Request::read(head.as_bytes())? {
            Read::Whole(request, length) => {
                assert_eq!(length, head.len(), "{head:?}");
                Ok(request)
            }
            Read::Partial => panic!("{head:?} is not whole"),
        }
    }

    fn with(fields: &str) -> Result<Request, HeadError> {
        read(&format!("POST / HTTP/1.1\r\nhost: a\r\n{fields}\r\n\r\n"))
    }

    fn answer<T>(head: &str, look: impl FnOnce(&Response<'_>) -> T) -> Result<T, HeadError> {
        match Response::read(head.as_bytes(), |response| Ok::<_, HeadError>(look(response)))? {
            Read::Whole(looked, _) => Ok(looked),
            Read::Partial => panic!("{head:?} is not whole"),
        }
    }

    #[test]
    fn a_head_is_cut_into_its_parts_as_they_came() {
        let request =
            read("PaTcH /a%2F/b?c=d&e HTTP/1.1\r\nHoSt: x\r\nCookie:  a=1 \r\ncookie:\r\n\r\n").expect("a head");
        assert_eq!((request.method(), request.path(), request.query()), ("PaTcH", "/a%2F/b", Some("c=d&e")));
        let fields: Vec<_> = request.fields().map(|field| (field.name, field.value)).collect();
        let expected: [(&[u8], &[u8]); 3] = [(b"HoSt", b"x"), (b"Cookie", b"a=1"), (b"cookie", b"")];
        assert_eq!(fields, expected);
        assert!(request.has(Known::Host) && !request.has(Known::Te));
    }

    #[test]
    fn a_target_has_one_of_four_forms() {
        let parts = |line: &str| {
            let request = read(&format!("{line} HTTP/1.1\r\n\r\n"))?;
            Ok::<_, HeadError>((
                request.authority().map(str::to_owned),
                request.path().to_owned(),
                request.query().map(str::to_owned),
            ))
        };
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(parts("GET /a?"), Ok((None, "/a".into(), some(""))));
        assert_eq!(parts("GET http://h:1/a?b"), Ok((some("h:1"), "/a".into(), some("b"))));
        assert_eq!(parts("GET HTTPS://h?b"), Ok((some("h"), "/".into(), some("b"))));
        assert_eq!(parts("GET /a#b?c"), Ok((None, "/a".into(), None)));
        assert_eq!(parts("OPTIONS *"), Ok((None, "*".into(), None)));
        assert_eq!(parts("CONNECT h:1"), Ok((some("h:1"), "/".into(), None)));
        for bad in ["GET *", "GET a", "GET a:1", "GET ftp://h/", "GET http:///a", "GET ?a", "GET #"] {
            assert_eq!(parts(bad), Err(HeadError::Target), "{bad}");
        }
    }

    #[test]
    fn a_head_that_is_too_large_is_told_apart_from_one_that_is_not_whole() {
        let read = |bytes: &[u8]| Request::read(bytes).map(|read| matches!(read, Read::Whole(..)));
        assert_eq!(read(b"GET / HTTP/1.1\r\nhost"), Ok(false));
        assert_eq!(read(&vec![b'a'; MAX_HEAD]), Err(HeadError::TargetTooLong));
        let long_target = format!("GET /{} HTTP/1.1\r\n\r\n", "a".repeat(MAX_TARGET));
        assert_eq!(read(long_target.as_bytes()), Err(HeadError::TargetTooLong));
        let long_field = format!("GET / HTTP/1.1\r\na: {}", "a".repeat(MAX_HEAD));
        assert_eq!(read(long_field.as_bytes()), Err(HeadError::TooLarge));
        let fields = |count: usize| format!("GET / HTTP/1.1\r\n{}\r\n", "a: b\r\n".repeat(count));
        assert_eq!(read(fields(MAX_FIELDS).as_bytes()), Ok(true));
        assert_eq!(read(fields(MAX_FIELDS + 1).as_bytes()), Err(HeadError::TooLarge));
    }

    #[test]
    fn framing_is_clear_or_the_head_is_refused() {
        let framing = |fields: &str| with(fields).map(|request| (request.framing(), request.keeps_alive()));
        assert_eq!(framing("a: b"), Ok((Framing::None, true)));
        assert_eq!(framing("content-length: 007"), Ok((Framing::Length(7), true)));
        assert_eq!(framing("content-length: 7\r\nContent-Length: 7"), Ok((Framing::Length(7), true)));
        assert_eq!(framing("transfer-encoding: Chunked"), Ok((Framing::Chunked, true)));
        // The coding counts, and nobody who sends both is trusted further.
        assert_eq!(framing("content-length: 7\r\ntransfer-encoding: chunked"), Ok((Framing::Chunked, false)));
        for bad in ["", "+7", "-7", "7, 7", "7 7", "0x7", "7;", "18446744073709551616"] {
            assert_eq!(framing(&format!("content-length: {bad}")).err(), Some(HeadError::Length), "{bad}");
        }
        assert_eq!(framing("content-length: 7\r\ncontent-length: 8").err(), Some(HeadError::Length));
        for unknown in ["gzip", "gzip, chunked", "identity", "xchunked"] {
            let error = framing(&format!("transfer-encoding: {unknown}")).err();
            assert_eq!(error, Some(HeadError::UnknownCoding), "{unknown}");
        }
        for bad in ["", "chunked, chunked", "chunked, gzip", "chunked;q=1", "chunked,", "\"chunked\""] {
            assert_eq!(framing(&format!("transfer-encoding: {bad}")).err(), Some(HeadError::Coding), "{bad}");
        }
        let twice = "transfer-encoding: gzip\r\ntransfer-encoding: chunked";
        assert_eq!(framing(twice).err(), Some(HeadError::Coding));
        assert_eq!(read("POST / HTTP/1.0\r\ntransfer-encoding: chunked\r\n\r\n").err(), Some(HeadError::Coding));
    }

    #[test]
    fn a_connection_goes_on_by_default_in_1_1_and_by_request_in_1_0() {
        for (head, goes_on) in [
            ("GET / HTTP/1.1\r\n\r\n", true),
            ("GET / HTTP/1.1\r\nconnection: x, Close\r\n\r\n", false),
            ("GET / HTTP/1.0\r\n\r\n", false),
            ("GET / HTTP/1.0\r\nconnection: Keep-Alive\r\n\r\n", true),
            ("GET / HTTP/1.0\r\nconnection: keep-alive, close\r\n\r\n", false),
        ] {
            assert_eq!(read(head).expect("a head").keeps_alive(), goes_on, "{head:?}");
        }
    }

    #[test]
    fn an_answer_has_the_body_that_its_status_and_its_fields_say() {
        let framing =
            |head: &str, to_head| answer(head, |response| (response.framing(to_head), response.told_length()));
        let length = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\n";
        assert_eq!(framing(length, false), Ok((Framing::Length(5), Some(5))));
        assert_eq!(framing(length, true), Ok((Framing::None, Some(5))));
        assert_eq!(framing("HTTP/1.1 304 \r\ncontent-length: 5\r\n\r\n", false), Ok((Framing::None, Some(5))));
        assert_eq!(framing("HTTP/1.1 204 \r\ncontent-length: 5\r\n\r\n", false), Ok((Framing::None, None)));
        assert_eq!(framing("HTTP/1.1 200 OK\r\n\r\n", false), Ok((Framing::UntilClose, None)));
        let both = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\ntransfer-encoding: chunked\r\n\r\n";
        assert_eq!(framing(both, false), Ok((Framing::Chunked, None)));
        let goes_on = answer(both, |response| (response.keeps_alive(), response.status));
        assert_eq!(goes_on, Ok((false, 200)));
        assert_eq!(framing("HTTP/1.1 099 \r\n\r\n", false), Err(HeadError::Status));
    }
}
