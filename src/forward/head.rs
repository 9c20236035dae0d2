//! The heads that pass through: what is refused, what is taken off, what is put on.
//!
//! [`check`] stands before routing and is shared by every way in. It makes good what the HTTP/1 engine lets pass:
//! hyper answers 200 to a request without Host, with two of them, or with `gzip, chunked`.
//!
//! Outgoing heads are built in one ordered pass over the incoming one and never by removing in place, which would
//! move the last field into the gap. The order of fields is kept; their case is not (hyper writes lowercase).

use std::net::SocketAddr;

use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Uri, Version,
    header::{self, CONNECTION, CONTENT_LENGTH, HOST, TE, TRANSFER_ENCODING, UPGRADE, VIA},
    request,
    uri::PathAndQuery,
};

use crate::{
    config::FieldEdits,
    head::{Fields, Host, HostError},
    listen::Counted,
};

/// The longest target, in bytes; 414 above it. Half of what a head may hold in all.
pub const MAX_TARGET: usize = 32 * 1024;

const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
const X_FORWARDED_HOST: HeaderName = HeaderName::from_static("x-forwarded-host");
const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
const X_FORWARDED_PORT: HeaderName = HeaderName::from_static("x-forwarded-port");
const HTTP: HeaderValue = HeaderValue::from_static("http");

/// Why a head is refused before it is routed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// RFC 9112 §3.2
    #[error("an HTTP/1.1 request must have a Host field")]
    NoHost,
    /// RFC 9112 §3.2
    #[error("a request must not have two Host fields")]
    TwoHosts,
    /// RFC 9110 §7.2
    #[error("{0}")]
    Host(#[from] HostError),
    /// RFC 9112 §3.2
    #[error("the request target must begin with `/`, or be `*` with OPTIONS")]
    Target,
    /// RFC 9110 §15.5.15
    #[error("the request target has {0} bytes, more than {MAX_TARGET}")]
    TargetTooLong(usize),
    /// RFC 9110 §9.3.6: we are no tunnel.
    #[error("CONNECT is not served: this is no forward proxy")]
    Connect,
    /// RFC 9112 §6.1
    #[error("Transfer-Encoding must be exactly one `chunked`")]
    TransferCoding,
    /// RFC 9110 §7.6.2
    #[error("Max-Forwards is not a number")]
    MaxForwards,
}

/// Which of the fields that matter to us are there, found in one pass: each look-up by name would cost a hash.
#[derive(Debug, Default, Clone, Copy)]
struct Seen {
    connection: bool,
    transfer_encoding: bool,
    te: bool,
    via: bool,
}

impl Seen {
    fn of(headers: &HeaderMap) -> Self {
        let mut seen = Self::default();
        for name in headers.keys() {
            match *name {
                CONNECTION => seen.connection = true,
                TRANSFER_ENCODING => seen.transfer_encoding = true,
                TE => seen.te = true,
                VIA => seen.via = true,
                _ => {}
            }
        }
        seen
    }
}

/// A connection of a client, in the form in which it is told to programs.
#[derive(Debug)]
pub struct Client {
    /// Its end.
    pub peer: SocketAddr,
    /// Our end.
    pub local: SocketAddr,
    forwarded_for: HeaderValue,
    forwarded_port: HeaderValue,
    _counted: Option<Counted>,
}

impl Client {
    /// The client behind an accepted connection.
    pub fn new(peer: SocketAddr, local: SocketAddr) -> Self {
        let forwarded_for = value(&peer.ip().to_canonical().to_string());
        Self { peer, local, forwarded_for, forwarded_port: HeaderValue::from(local.port()), _counted: None }
    }

    /// Counts it among the connections until it is gone, whatever it becomes.
    #[must_use]
    pub fn counted(self, counted: Counted) -> Self {
        Self { _counted: Some(counted), ..self }
    }
}

/// What [`check`] found out.
#[derive(Debug)]
pub struct Checked {
    /// The authority that the request names, by its target or its Host field.
    pub host: Host,
    /// The same, as it is passed on.
    host_field: HeaderValue,
    /// HTTP/1.0 may leave it out.
    host_is_missing: bool,
    seen: Seen,
}

/// A request's header map as plain look-ups.
pub struct HeaderFields<'a>(pub &'a HeaderMap);

impl Fields for HeaderFields<'_> {
    fn first(&self, name: &str) -> Option<&[u8]> {
        self.0.get(name).map(HeaderValue::as_bytes)
    }
}

/// Refuses what must not be routed; otherwise the host that the request is for.
pub fn check(parts: &request::Parts, client: &Client) -> Result<Checked, Refusal> {
    check_target(parts)?;
    let seen = Seen::of(&parts.headers);
    if seen.transfer_encoding {
        check_transfer_coding(&parts.headers)?;
    }
    let mut hosts = parts.headers.get_all(HOST).iter();
    let field = hosts.next();
    if hosts.next().is_some() {
        return Err(Refusal::TwoHosts);
    }
    let host_is_missing = field.is_none();
    let checked = |field: HeaderValue| {
        Ok(Checked { host: Host::parse(field.as_bytes())?, host_field: field, host_is_missing, seen })
    };
    match (parts.uri.authority(), field) {
        // Absolute-form: its authority counts, but a broken Host field is refused all the same (RFC 9112 §3.2.2).
        (Some(authority), field) => {
            if let Some(field) = field {
                Host::parse(field.as_bytes())?;
            } else if parts.version >= Version::HTTP_11 {
                return Err(Refusal::NoHost);
            }
            checked(value(authority.as_str()))
        }
        (None, Some(field)) => checked(field.clone()),
        (None, None) if parts.version >= Version::HTTP_11 => Err(Refusal::NoHost),
        // HTTP/1.0 knows no Host: the address that was asked stands for it.
        (None, None) => checked(value(&client.local.to_string())),
    }
}

fn check_target(parts: &request::Parts) -> Result<(), Refusal> {
    if parts.method == Method::CONNECT {
        return Err(Refusal::Connect);
    }
    let uri = &parts.uri;
    let length = uri.path_and_query().map_or(0, |target| target.as_str().len());
    if length > MAX_TARGET {
        return Err(Refusal::TargetTooLong(length));
    }
    let fits = match uri.path() {
        "*" => parts.method == Method::OPTIONS,
        // hyper reads `GET evil` as an authority without a scheme.
        path => path.starts_with('/') && uri.authority().is_some() == uri.scheme().is_some(),
    };
    let scheme_fits = uri.scheme_str().is_none_or(|scheme| matches!(scheme, "http" | "https"));
    if fits && scheme_fits { Ok(()) } else { Err(Refusal::Target) }
}

fn check_transfer_coding(headers: &HeaderMap) -> Result<(), Refusal> {
    let mut codings = headers.get_all(TRANSFER_ENCODING).iter();
    let Some(coding) = codings.next() else { return Ok(()) };
    if codings.next().is_some() {
        return Err(Refusal::TransferCoding);
    }
    if coding.as_bytes().eq_ignore_ascii_case(b"chunked") { Ok(()) } else { Err(Refusal::TransferCoding) }
}

/// Whether the request asks to leave HTTP (RFC 9110 §7.8); returns the protocol.
pub fn upgrade<'a>(parts: &'a request::Parts, checked: &Checked) -> Option<&'a HeaderValue> {
    let asks = checked.seen.connection
        && parts.method == Method::GET
        && parts.version == Version::HTTP_11
        && tokens(&parts.headers, &CONNECTION).any(|token| token.eq_ignore_ascii_case("upgrade"))
        && !parts.headers.contains_key(TRANSFER_ENCODING)
        && !parts.headers.contains_key(CONTENT_LENGTH);
    // HTTP/2 by Upgrade would be a way past routes and guards: it is for the next hop to ignore, as RFC 9113 §3.1 has it.
    let leads_past_us = |token: &str| token.eq_ignore_ascii_case("h2c") || token.eq_ignore_ascii_case("h2");
    if asks && !tokens(&parts.headers, &UPGRADE).any(leads_past_us) { parts.headers.get(UPGRADE) } else { None }
}

/// Whether `name` stands in a Via field: the request has been here before.
pub fn has_been_here(headers: &HeaderMap, checked: &Checked, name: &str) -> bool {
    checked.seen.via && tokens(headers, &VIA).any(|member| member.split_ascii_whitespace().nth(1) == Some(name))
}

/// How a request with `Max-Forwards` goes on (RFC 9110 §7.6.2).
#[derive(Debug, PartialEq, Eq)]
pub enum Hops {
    /// The field is not there, or means nothing for this method.
    Unlimited,
    /// To be written in its place.
    Left(u64),
    /// It ends here.
    None,
}

/// What `Max-Forwards` says.
pub fn hops(parts: &request::Parts) -> Result<Hops, Refusal> {
    if parts.method != Method::OPTIONS && parts.method != Method::TRACE {
        return Ok(Hops::Unlimited);
    }
    let Some(field) = parts.headers.get(header::MAX_FORWARDS) else { return Ok(Hops::Unlimited) };
    let left: u64 = field.to_str().ok().and_then(|field| field.parse().ok()).ok_or(Refusal::MaxForwards)?;
    Ok(left.checked_sub(1).map_or(Hops::None, Hops::Left))
}

/// What is put on a request besides the client's own fields.
#[derive(Debug)]
pub struct Outgoing<'a> {
    /// Whose request it is.
    pub client: &'a Client,
    /// What [`check`] found out.
    pub checked: &'a Checked,
    /// Our member of Via.
    pub via: &'a HeaderValue,
    /// The route's target, authority and fields.
    pub target: Option<&'a str>,
    /// The authority in the place of the client's.
    pub authority: Option<&'a str>,
    /// The route's edits.
    pub edits: &'a FieldEdits,
    /// The protocol that the connection is to change to.
    pub upgrade: Option<&'a HeaderValue>,
    /// In the place of the client's `Max-Forwards`.
    pub hops: Hops,
}

impl Outgoing<'_> {
    /// The target as the program sees it: origin-form, or `*`.
    pub fn uri(&self, incoming: &Uri) -> Uri {
        let rewritten = self.target.and_then(|target| PathAndQuery::try_from(target).ok());
        let kept = || incoming.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
        Uri::from(rewritten.unwrap_or_else(kept))
    }

    /// The fields as the program sees them.
    pub fn fields(&self, incoming: &HeaderMap) -> HeaderMap {
        let mut fields = HeaderMap::with_capacity(incoming.len() + 8);
        let host = self.authority.map_or_else(|| self.checked.host_field.clone(), value);
        let named = if self.checked.seen.connection { Named::of(incoming) } else { Named::default() };
        if self.checked.host_is_missing {
            fields.append(HOST, host.clone());
        }
        for (name, value) in incoming {
            match *name {
                HOST => drop(fields.append(HOST, host.clone())),
                CONTENT_LENGTH => {
                    fields.entry(CONTENT_LENGTH).or_insert_with(|| value.clone());
                }
                _ if is_dropped_from_requests(name) || named.holds(name) => {}
                _ => drop(fields.append(name.clone(), value.clone())),
            }
        }
        if self.checked.seen.connection || self.checked.seen.te {
            self.add_connection(incoming, &mut fields);
        }
        fields.append(X_FORWARDED_FOR, self.client.forwarded_for.clone());
        fields.append(X_FORWARDED_HOST, self.checked.host_field.clone());
        fields.append(X_FORWARDED_PROTO, HTTP);
        fields.append(X_FORWARDED_PORT, self.client.forwarded_port.clone());
        fields.append(VIA, self.via.clone());
        if let Hops::Left(left) = self.hops {
            fields.insert(header::MAX_FORWARDS, HeaderValue::from(left));
        }
        apply(self.edits, &mut fields);
        fields
    }

    /// The fields of this hop alone: trailers are welcome where the client takes them, and an upgrade is asked for.
    fn add_connection(&self, incoming: &HeaderMap, fields: &mut HeaderMap) {
        if let Some(protocol) = self.upgrade {
            fields.append(CONNECTION, HeaderValue::from_static("upgrade"));
            fields.append(UPGRADE, protocol.clone());
        } else if self.checked.seen.te && tokens(incoming, &TE).any(|coding| coding == "trailers") {
            fields.append(CONNECTION, HeaderValue::from_static("te"));
            fields.append(TE, HeaderValue::from_static("trailers"));
        }
    }
}

/// What is wrong with the head of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadAnswer {
    /// RFC 9112 §6.1
    #[error("its Transfer-Encoding is not exactly one `chunked`")]
    TransferCoding,
    /// RFC 9110 §15.2.2
    #[error("it changes the protocol, which nobody asked for")]
    Upgrade,
}

/// The fields of an answer as the client sees them. `upgraded` keeps what announces the new protocol.
pub fn answer(incoming: HeaderMap, status: http::StatusCode, upgraded: bool) -> Result<HeaderMap, BadAnswer> {
    let has_coding = incoming.contains_key(TRANSFER_ENCODING);
    if has_coding && check_transfer_coding(&incoming).is_err() {
        return Err(BadAnswer::TransferCoding);
    }
    let no_length = has_coding || status == http::StatusCode::NO_CONTENT;
    let touched = incoming.keys().any(is_of_one_hop) || repeats(&incoming, &CONTENT_LENGTH);
    let untouched = !touched && (!no_length || !incoming.contains_key(CONTENT_LENGTH));
    if untouched {
        return Ok(incoming);
    }
    let named = Named::of(&incoming);
    if !no_length && named.0.is_empty() && only_the_last_goes(&incoming) {
        let mut fields = incoming;
        fields.remove(CONNECTION);
        return Ok(fields);
    }
    let mut fields = HeaderMap::with_capacity(incoming.len());
    for (name, value) in &incoming {
        match *name {
            CONTENT_LENGTH if no_length => {}
            CONTENT_LENGTH => {
                fields.entry(CONTENT_LENGTH).or_insert_with(|| value.clone());
            }
            UPGRADE if upgraded => drop(fields.append(UPGRADE, value.clone())),
            _ if is_of_one_hop(name) || named.holds(name) => {}
            _ => drop(fields.append(name.clone(), value.clone())),
        }
    }
    if upgraded {
        fields.insert(CONNECTION, HeaderValue::from_static("upgrade"));
    }
    Ok(fields)
}

fn repeats(fields: &HeaderMap, name: &HeaderName) -> bool {
    fields.len() > fields.keys_len() && fields.get_all(name).iter().nth(1).is_some()
}

/// Whether `Connection` is the last field and the only one of this hop: taking it off then moves no other.
/// nginx answers so, and every other proxy that keeps its connections.
fn only_the_last_goes(fields: &HeaderMap) -> bool {
    let (mut of_one_hop, mut last) = (0, None);
    for name in fields.keys() {
        of_one_hop += usize::from(is_of_one_hop(name));
        last = Some(name);
    }
    // Equal names hang on their first one and are not moved.
    of_one_hop == 1 && last == Some(&CONNECTION) && !repeats(fields, &CONTENT_LENGTH)
}

/// Applies a route's edits: remove, then set, then add.
pub fn apply(edits: &FieldEdits, fields: &mut HeaderMap) {
    if !edits.remove.is_empty() {
        // In one pass, since removing in place would disturb the order.
        let before = std::mem::take(fields);
        for (name, value) in &before {
            if !edits.remove.iter().any(|removed| name == removed.as_str()) {
                fields.append(name.clone(), value.clone());
            }
        }
    }
    for (name, written) in &edits.set {
        if let Ok(name) = HeaderName::try_from(name.as_str()) {
            fields.insert(name, value(written));
        }
    }
    for (name, written) in &edits.add {
        if let Ok(name) = HeaderName::try_from(name.as_str()) {
            fields.append(name, value(written));
        }
    }
}

/// A value that the checker has let through, or that we made ourselves.
pub fn value(text: &str) -> HeaderValue {
    // What is neither becomes visible instead of being lost.
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("invalid"))
}

/// Fields that concern one connection only (RFC 9110 §7.6.1), and credentials for a proxy.
fn is_of_one_hop(name: &HeaderName) -> bool {
    matches!(
        *name,
        CONNECTION | TRANSFER_ENCODING | UPGRADE | TE | header::PROXY_AUTHENTICATE | header::PROXY_AUTHORIZATION
    ) || matches!(name.as_str(), "keep-alive" | "proxy-connection")
}

/// Fields of a request that are ours to write, or nobody's to believe.
fn is_dropped_from_requests(name: &HeaderName) -> bool {
    is_of_one_hop(name) || {
        let name = name.as_str();
        // CGI-like servers read `X_Forwarded_For` as `X-Forwarded-For`.
        (name.starts_with("x-f") || name.starts_with("x_f") || name.starts_with("f"))
            && matches!(
                name.replace('_', "-").as_str(),
                "x-forwarded-for"
                    | "x-forwarded-host"
                    | "x-forwarded-proto"
                    | "x-forwarded-port"
                    | "x-forwarded-ssl"
                    | "forwarded"
            )
    }
}

/// Fields that `Connection` names and so takes along, but for those that must go on (RFC 9110 §7.6.1).
#[derive(Default)]
struct Named<'a>(Vec<&'a str>);

impl<'a> Named<'a> {
    fn of(headers: &'a HeaderMap) -> Self {
        let is_ours = |token: &&str| {
            ![
                "host",
                "content-length",
                "authorization",
                "cookie",
                "set-cookie",
                "via",
                "keep-alive",
                "close",
                "upgrade",
            ]
            .iter()
            .any(|kept| token.eq_ignore_ascii_case(kept))
        };
        Self(tokens(headers, &CONNECTION).filter(is_ours).collect())
    }

    fn holds(&self, name: &HeaderName) -> bool {
        self.0.iter().any(|token| token.eq_ignore_ascii_case(name.as_str()))
    }
}

/// The members of a field's list, over all fields of that name.
fn tokens<'a>(headers: &'a HeaderMap, name: &HeaderName) -> impl Iterator<Item = &'a str> {
    let texts = headers.get_all(name).into_iter().filter_map(|value| value.to_str().ok());
    texts.flat_map(|text| text.split(',')).map(str::trim).filter(|token| !token.is_empty())
}
