//! The heads that pass through: what is refused, what is taken off, what is put on.
//!
//! [`check`] stands before routing and is shared by every way in. Outgoing heads are written in one pass over the
//! incoming one, a field at a time, in the order and the case in which the fields came; what we add stands behind them.
//! A route's edits are applied on the way.

use std::{
    cell::Cell,
    io::Write,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use crate::{
    config::{FieldEdits, NO_EDITS},
    drain::Guard,
    head::{Fields, Host, HostError},
    http1::{
        body::Framing,
        head::{Field, HeadError, Known, Request, Response, Version},
        write,
    },
    http2::websocket::is_answer_to,
    listen::{Counted, protocols::Whose},
    respond::pages::milliseconds,
    tls::server::Keys,
};

/// Why a head is refused before it is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// It cannot even be read.
    #[error("{0}")]
    Head(#[from] HeadError),
    /// RFC 9112 §3.2
    #[error("an HTTP/1.1 request must have a Host field")]
    NoHost,
    /// RFC 9112 §3.2
    #[error("a request must not have two Host fields")]
    TwoHosts,
    /// RFC 9110 §7.2
    #[error("{0}")]
    Host(#[from] HostError),
    /// RFC 9110 §9.3.6: we are no tunnel.
    #[error("CONNECT is not served: this is no forward proxy")]
    Connect,
    /// RFC 9110 §7.6.2
    #[error("Max-Forwards is not a number")]
    MaxForwards,
}

/// A connection of a client, in the form in which it is told to programs.
#[derive(Debug)]
pub struct Client {
    /// Its address.
    pub peer: IpAddr,
    /// What it asked: that of the listener, for nearly all of them.
    asked: Arc<SocketAddr>,
    /// What it came by, where that is no bare connection of HTTP/1.
    by: Option<Arc<By>>,
    _counted: Option<Counted>,
    _guard: Option<Guard>,
}

/// What a client came by.
#[derive(Debug, Clone, Default)]
struct By {
    tls: Option<Tls>,
    is_http2: bool,
}

/// TLS, and the host that the client named to it.
#[derive(Debug, Clone)]
struct Tls {
    keys: Arc<Keys>,
    name: Option<String>,
}

impl Client {
    /// The client behind an accepted connection.
    pub fn new(peer: SocketAddr, asked: Arc<SocketAddr>) -> Self {
        Self { peer: peer.ip().to_canonical(), asked, by: None, _counted: None, _guard: None }
    }

    /// `https` behind TLS.
    pub fn scheme(&self) -> &'static str {
        if self.tls().is_some() { "https" } else { "http" }
    }

    /// Whether it asks on a stream of HTTP/2.
    pub fn speaks_http2(&self) -> bool {
        self.by.as_ref().is_some_and(|by| by.is_http2)
    }

    /// Whether its connection is one for `host`: what certificate was shown on it speaks for that host.
    pub fn may_ask(&self, host: &Host<'_>) -> bool {
        self.tls().is_none_or(|tls| tls.keys.covers(tls.name.as_deref(), host.name()))
    }

    fn tls(&self) -> Option<&Tls> {
        self.by.as_ref()?.tls.as_ref()
    }

    /// Within the connection of this client, which is counted and waited for as long as there is anything within it.
    fn within(&self, by: Arc<By>) -> Self {
        Self { by: Some(by), ..Self::new(SocketAddr::new(self.peer, 0), Arc::clone(&self.asked)) }
    }

    /// Our end.
    pub fn local(&self) -> SocketAddr {
        *self.asked
    }

    /// Counts it among the connections until it is gone, whatever it becomes.
    #[must_use]
    pub fn counted(self, counted: Counted) -> Self {
        Self { _counted: Some(counted), ..self }
    }

    /// Lets the drain wait for it.
    #[must_use]
    pub fn guarded(self, guard: Guard) -> Self {
        Self { _guard: Some(guard), ..self }
    }
}

impl Whose for Client {
    fn over_tls(&self, keys: &Arc<Keys>, name: Option<&str>) -> Self {
        let tls = Tls { keys: Arc::clone(keys), name: name.map(str::to_owned) };
        self.within(Arc::new(By { tls: Some(tls), is_http2: false }))
    }

    fn on_stream(&self) -> Self {
        match &self.by {
            Some(by) if by.is_http2 => self.within(Arc::clone(by)),
            by => self.within(Arc::new(By { is_http2: true, ..by.as_deref().cloned().unwrap_or_default() })),
        }
    }
}

/// What [`check`] found out.
#[derive(Debug)]
pub struct Checked<'r> {
    /// The authority that the request names, by its target or its Host field.
    pub host: Host<'r>,
    /// The same, as it is passed on.
    field: &'r [u8],
}

/// A request's fields as plain look-ups.
impl Fields for Request {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.fields().find(|field| field.name.eq_ignore_ascii_case(name.as_bytes())).map(|field| field.value)
    }
}

/// What a request of HTTP/1.0 that names no host is for: the address that was asked, as text.
pub fn host_of_none(request: &Request, client: &Client) -> Option<String> {
    let is_nameless = request.version() == Version::Http10 && !request.has(Known::Host);
    is_nameless.then(|| client.local().to_string())
}

/// Refuses what must not be routed; otherwise the host that the request is for. `asked` stands for the host of a
/// request that needs none; see [`host_of_none`].
pub fn check<'r>(request: &'r Request, asked: Option<&'r str>) -> Result<Checked<'r>, Refusal> {
    if request.method() == "CONNECT" {
        return Err(Refusal::Connect);
    }
    let mut hosts = request.fields().filter(|field| field.known == Some(Known::Host));
    let named = hosts.next().map(|field| field.value);
    if hosts.next().is_some() {
        return Err(Refusal::TwoHosts);
    }
    let field = match (request.authority(), named) {
        // Absolute-form: its authority counts, but a broken Host field is refused all the same (RFC 9112 §3.2.2).
        (Some(authority), Some(named)) => {
            Host::parse(named)?;
            authority.as_bytes()
        }
        (Some(authority), None) if asked.is_some() => authority.as_bytes(),
        (None, Some(named)) => named,
        (_, None) => asked.ok_or(Refusal::NoHost)?.as_bytes(),
    };
    Ok(Checked { host: Host::parse(field)?, field })
}

/// The protocols for which the request asks to leave HTTP (RFC 9110 §7.8).
pub fn upgrade(request: &Request) -> Option<&[u8]> {
    let protocols = request.first(Known::Upgrade)?;
    let asks = request.method() == "GET"
        && request.version() == Version::Http11
        && request.framing() == Framing::None
        && request.members(Known::Connection).any(|option| option.eq_ignore_ascii_case("upgrade"));
    // HTTP/2 by Upgrade would be a way past routes and guards: it is for the next hop to ignore, as RFC 9113 §3.1 has it.
    let leads_past_us = |token: &str| token.eq_ignore_ascii_case("h2c") || token.eq_ignore_ascii_case("h2");
    (asks && !request.members(Known::Upgrade).any(leads_past_us)).then_some(protocols)
}

/// Whether `name` stands in a Via field: the request has been here before.
pub fn has_been_here(request: &Request, name: &str) -> bool {
    request.members(Known::Via).any(|member| member.split_ascii_whitespace().nth(1) == Some(name))
}

/// How a request with `Max-Forwards` goes on (RFC 9110 §7.6.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Hops {
    /// The field is not there, or means nothing for this method.
    Unlimited,
    /// To be written in its place.
    Left(u64),
    /// It ends here.
    None,
}

/// What `Max-Forwards` says.
pub fn hops(request: &Request) -> Result<Hops, Refusal> {
    if !matches!(request.method(), "OPTIONS" | "TRACE") {
        return Ok(Hops::Unlimited);
    }
    let Some(field) = request.first(Known::MaxForwards) else { return Ok(Hops::Unlimited) };
    // `parse` alone would take a leading `+`.
    let digits = Some(field).filter(|field| field.iter().all(u8::is_ascii_digit));
    let left = digits.and_then(|digits| std::str::from_utf8(digits).ok()?.parse::<u64>().ok());
    Ok(left.ok_or(Refusal::MaxForwards)?.checked_sub(1).map_or(Hops::None, Hops::Left))
}

/// Fields on their way out, with the edits of a route applied to them: each of the two removes, then sets, then adds, and
/// the later one sees what the earlier one made. What is set stands where the first field of that name stood.
pub struct Edited<'o, 'e> {
    out: &'o mut Vec<u8>,
    edits: [&'e FieldEdits; 2],
    has_edits: bool,
    /// Which of the fields to set stand already, by edits.
    is_set: [u64; 2],
}

/// What becomes of a field.
enum Fate {
    Kept,
    Removed,
    /// By which edits, and by which of their values.
    Set(usize, usize),
}

impl<'o, 'e> Edited<'o, 'e> {
    /// Writes behind what stands in `out`.
    pub fn new(out: &'o mut Vec<u8>, edits: [&'e FieldEdits; 2]) -> Self {
        let has_edits = edits.iter().any(|edits| **edits != NO_EDITS);
        Self { out, edits, has_edits, is_set: [0; 2] }
    }

    /// A field that an edit may take off or replace.
    pub fn field(&mut self, name: &[u8], value: &[u8]) {
        if !self.has_edits {
            return write::field(self.out, name, value);
        }
        match self.fate(name) {
            Fate::Kept => write::field(self.out, name, value),
            Fate::Removed => {}
            Fate::Set(by, at) => {
                // More than that many stand at the end.
                let bit = 1u64.checked_shl(at as u32).unwrap_or(0);
                if bit != 0 && self.is_set[by] & bit == 0 {
                    self.is_set[by] |= bit;
                    write::field(self.out, name, self.edits[by].set[at].1.as_bytes());
                }
            }
        }
    }

    /// The last edits that name it decide.
    fn fate(&self, name: &[u8]) -> Fate {
        for (by, edits) in self.edits.iter().enumerate().rev() {
            if let Some(at) = edits.set.iter().position(|(set, _)| is_name(set, name)) {
                return Fate::Set(by, at);
            }
            if edits.remove.iter().any(|removed| is_name(removed, name)) {
                return Fate::Removed;
            }
        }
        Fate::Kept
    }

    /// Puts on what the edits put on.
    pub fn finish(self) {
        if !self.has_edits {
            return;
        }
        for (by, edits) in self.edits.iter().enumerate() {
            let is_new = |at: &usize| 1u64.checked_shl(*at as u32).is_none_or(|bit| self.is_set[by] & bit == 0);
            let set = edits.set.iter().enumerate().filter(|(at, _)| is_new(at)).map(|(_, field)| field);
            for (name, value) in set.chain(&edits.add) {
                if self.edits[by + 1..].iter().all(|later| !replaces(later, name.as_bytes())) {
                    write::field(self.out, name.as_bytes(), value.as_bytes());
                }
            }
        }
    }
}

fn is_name(written: &str, name: &[u8]) -> bool {
    written.as_bytes().eq_ignore_ascii_case(name)
}

/// Whether what stands under `name` goes.
fn replaces(edits: &FieldEdits, name: &[u8]) -> bool {
    edits.remove.iter().any(|removed| is_name(removed, name)) || edits.set.iter().any(|(set, _)| is_name(set, name))
}

/// What a program is asked.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// The client's request.
    pub request: &'a Request,
    /// Whose request it is.
    pub client: &'a Client,
    /// What [`check`] found out.
    pub checked: &'a Checked<'a>,
    /// Our member of Via.
    pub via: &'a str,
    /// The path and query in the place of the client's.
    pub target: Option<&'a str>,
    /// The authority in the place of the client's.
    pub authority: Option<&'a str>,
    /// The route's edits.
    pub edits: &'a FieldEdits,
    /// The protocols that the connection may change to.
    pub upgrade: Option<&'a [u8]>,
    /// In the place of the client's `Max-Forwards`.
    pub hops: Hops,
}

impl Outgoing<'_> {
    /// The head as the program sees it, in HTTP/1.1 whatever the client speaks.
    pub fn write(&self, out: &mut Vec<u8>) {
        let request = self.request;
        match self.target {
            Some(target) => write::request_line(out, request.method(), target, None),
            None => write::request_line(out, request.method(), request.path(), request.query()),
        }
        let mut fields = Edited::new(out, [&NO_EDITS, self.edits]);
        self.write_fields(&mut fields);
        fields.finish();
        write::end(out);
    }

    fn write_fields(&self, fields: &mut Edited<'_, '_>) {
        let request = self.request;
        let named = Named::of(request.members(Known::Connection));
        let host = self.authority.map_or(self.checked.field, str::as_bytes);
        if !request.has(Known::Host) {
            fields.field(b"host", host);
        }
        let mut digits = [0; 20];
        let (mut has_length, mut counted) = (false, false);
        for Field { known, name, value } in request.fields() {
            match known {
                None if is_ours(name) || named.holds(name) => {}
                None => fields.field(name, value),
                Some(Known::Host) => fields.field(name, host),
                // Equal ones become one; beside a coding there is none (RFC 9112 §6.3).
                Some(Known::ContentLength) => {
                    if let (Framing::Length(length), false) = (request.framing(), has_length) {
                        has_length = true;
                        fields.field(name, decimal(length, &mut digits));
                    }
                }
                // HTTP/1.0 cannot be told to continue (RFC 9110 §10.1.1).
                Some(Known::Expect) if request.version() == Version::Http10 => {}
                Some(Known::MaxForwards) => match self.hops {
                    Hops::Left(_) if std::mem::replace(&mut counted, true) => {}
                    Hops::Left(left) => fields.field(name, decimal(left, &mut digits)),
                    Hops::Unlimited | Hops::None => fields.field(name, value),
                },
                Some(known) if known.is_of_one_hop() || named.holds(name) => {}
                Some(_) => fields.field(name, value),
            }
        }
        self.write_connection(fields);
        fields.field(b"x-forwarded-for", address(self.client.peer, &mut [0; MAX_ADDRESS]));
        fields.field(b"x-forwarded-host", self.checked.field);
        fields.field(b"x-forwarded-proto", self.client.scheme().as_bytes());
        fields.field(b"x-forwarded-port", decimal(self.client.asked.port().into(), &mut digits));
        fields.field(b"via", self.via.as_bytes());
    }

    /// The fields of this hop alone: the framing, an upgrade, and that trailers are welcome where the client takes them.
    fn write_connection(&self, fields: &mut Edited<'_, '_>) {
        if self.request.framing() == Framing::Chunked {
            write::field(fields.out, b"transfer-encoding", b"chunked");
        }
        if let Some(protocols) = self.upgrade {
            write::field(fields.out, b"connection", b"upgrade");
            write::field(fields.out, b"upgrade", protocols);
        } else if self.request.takes_trailers() {
            write::field(fields.out, b"connection", b"te");
            write::field(fields.out, b"te", b"trailers");
        }
    }
}

/// The longest address, in characters: IPv6 with an IPv4 tail.
const MAX_ADDRESS: usize = 45;

/// `address` as text, without an allocation.
fn address(address: IpAddr, text: &mut [u8; MAX_ADDRESS]) -> &[u8] {
    let mut rest = text.as_mut_slice();
    // There is room for every address.
    let _ = write!(rest, "{address}");
    let left = rest.len();
    &text[..MAX_ADDRESS - left]
}

/// `number` in digits, without an allocation.
fn decimal(number: u64, digits: &mut [u8; 20]) -> &[u8] {
    let mut left = number;
    let mut from = digits.len();
    loop {
        from -= 1;
        digits[from] = b'0' + (left % 10) as u8;
        left /= 10;
        if left == 0 {
            return &digits[from..];
        }
    }
}

/// What is wrong with the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// RFC 9110 §15.2.2
    #[error("it changes the protocol, which nobody asked for")]
    Upgrade,
    /// RFC 6455 §4.1
    #[error("its Sec-WebSocket-Accept does not answer the key that it was asked")]
    Accept,
    /// RFC 8441 §5
    #[error("it answered {0} to a WebSocket, where only 101 agrees")]
    NoSwitch(u16),
}

/// An answer on its way to the client.
#[derive(Debug)]
pub struct Answering<'a> {
    /// The protocols that the client asked for.
    pub upgrade: Option<&'a [u8]>,
    /// The request of a client that asked for them over HTTP/2: the handshake with the program is ours then.
    pub handshake: Option<&'a Request>,
    /// Of the route, and of cross-origin sharing before it.
    pub edits: [&'a FieldEdits; 2],
    /// What a clock says now, for an answer without a date.
    pub date: &'a Cell<[u8; 29]>,
    /// How long the request waited for the program, if it did.
    pub held: Option<Duration>,
}

impl Answering<'_> {
    /// Whether the program may answer so.
    fn check(&self, response: &Response<'_>) -> Result<(), BadAnswer> {
        match (response.status, self.handshake) {
            (101, _) if !self.upgrade.is_some_and(|asked| is_agreed(asked, response)) => Err(BadAnswer::Upgrade),
            (101, Some(request)) if !is_proven(request, response) => Err(BadAnswer::Accept),
            (status @ 200..300, Some(_)) => Err(BadAnswer::NoSwitch(status)),
            _ => Ok(()),
        }
    }

    /// Status line and fields as the client sees them, without framing.
    pub fn write(&self, response: &Response<'_>, out: &mut Vec<u8>) -> Result<(), BadAnswer> {
        self.check(response)?;
        let is_switch = response.status == 101;
        write::status_line(out, response.status, response.reason);
        // What comes before the answer is of no route.
        let is_answer = response.status >= 200;
        let edits = if is_answer { self.edits } else { [&NO_EDITS; 2] };
        let mut fields = Edited::new(out, edits);
        let named = Named::of(response.members(Known::Connection));
        let mut digits = [0; 20];
        let mut length = response.told_length();
        for Field { known, name, value } in response.fields() {
            match known {
                None if named.holds(name) => {}
                None => fields.field(name, value),
                Some(Known::ContentLength) => {
                    if let Some(length) = length.take() {
                        fields.field(name, decimal(length, &mut digits));
                    }
                }
                Some(Known::Upgrade) if is_switch => fields.field(name, value),
                Some(known) if known.is_of_one_hop() || named.holds(name) => {}
                Some(_) => fields.field(name, value),
            }
        }
        if is_switch {
            fields.field(b"connection", b"upgrade");
        }
        // RFC 9110 §6.6.1: whoever passes an answer on adds the date that is missing.
        if is_answer && !response.has(Known::Date) {
            fields.field(b"date", &self.date.get());
        }
        if let Some(held) = self.held.filter(|_| is_answer) {
            fields.field(b"x-portolan-held", milliseconds(held).as_bytes());
        }
        fields.finish();
        Ok(())
    }
}

/// Whether the program has understood the key that it was asked, if there is one (RFC 6455 §4.2.2).
fn is_proven(request: &Request, response: &Response<'_>) -> bool {
    let accept = || response.fields().find(|field| field.name.eq_ignore_ascii_case(b"sec-websocket-accept"));
    let key = Fields::first(request, "sec-websocket-key");
    key.is_none_or(|key| accept().is_some_and(|accept| is_answer_to(key, accept.value)))
}

/// Whether the program changes to a protocol that was asked for.
fn is_agreed(asked: &[u8], response: &Response<'_>) -> bool {
    let chosen = response.first(Known::Upgrade).unwrap_or_default();
    !chosen.is_empty()
        && asked.split(|byte| *byte == b',').any(|protocol| protocol.trim_ascii().eq_ignore_ascii_case(chosen))
}

/// Fields of a request that are ours to write, or nobody's to believe.
fn is_ours(name: &[u8]) -> bool {
    // CGI-like servers read `X_Forwarded_For` as `X-Forwarded-For`.
    let is = |ours: &[u8]| {
        let as_read = |byte: u8| if byte == b'_' { b'-' } else { byte.to_ascii_lowercase() };
        name.len() == ours.len() && name.iter().zip(ours).all(|(byte, ours)| as_read(*byte) == *ours)
    };
    match name.len() {
        9 => is(b"forwarded"),
        15 => is(b"x-forwarded-for") || is(b"x-forwarded-ssl"),
        16 => is(b"x-forwarded-host") || is(b"x-forwarded-port"),
        17 => is(b"x-forwarded-proto"),
        _ => false,
    }
}

/// Fields that `Connection` names and so takes along, but for those that must go on (RFC 9110 §7.6.1).
struct Named<'h>(Vec<&'h str>);

/// What no list in `Connection` can take along.
const KEPT: [&str; 9] =
    ["host", "content-length", "authorization", "cookie", "set-cookie", "via", "keep-alive", "close", "upgrade"];

impl<'h> Named<'h> {
    fn of(options: impl Iterator<Item = &'h str>) -> Self {
        let goes = |option: &&str| !KEPT.iter().any(|kept| option.eq_ignore_ascii_case(kept));
        Self(options.filter(goes).collect())
    }

    fn holds(&self, name: &[u8]) -> bool {
        self.0.iter().any(|option| option.as_bytes().eq_ignore_ascii_case(name))
    }
}
