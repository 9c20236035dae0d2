//! Fields of HTTP/2 as lines of HTTP/1, and back.

use http::{HeaderMap, HeaderName, HeaderValue, Uri, header, request, response};

use super::{incoming::Shape, websocket::Key};
use crate::http1::{
    head::{Field, Known, MAX_FIELDS, Request, Response},
    write,
};

/// Why a stream is no request (RFC 9113 §8.1.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Malformed;

/// The head of a request that came on a stream, written as one of HTTP/1. `key` stands for the one that a WebSocket over
/// HTTP/2 does not have (RFC 8441 §5).
pub(super) fn write_request(
    parts: &request::Parts,
    has_body: bool,
    key: Option<&Key>,
    out: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let is_connect = parts.method == http::Method::CONNECT;
    let is_tunnel = parts.extensions.get::<h2::ext::Protocol>().is_some();
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if is_connect && !is_tunnel {
        write::request_line(out, "CONNECT", authority.ok_or(Malformed)?, None);
    } else {
        let method = if is_tunnel { "GET" } else { parts.method.as_str() };
        write::request_line(out, method, path(&parts.uri, method)?, parts.uri.query());
    }
    write_hosts(authority, &parts.headers, out);
    write_fields(&parts.headers, out);
    if let Some(protocol) = parts.extensions.get::<h2::ext::Protocol>() {
        write::field(out, b"connection", b"upgrade");
        write::field(out, b"upgrade", protocol.as_str().as_bytes());
    }
    if let Some(key) = key {
        write::field(out, b"sec-websocket-key", key.asked());
    }
    let has_length = parts.headers.contains_key(header::CONTENT_LENGTH);
    if has_body && !has_length {
        write::field(out, b"transfer-encoding", b"chunked");
    } else if !has_body && !has_length && matches!(parts.method.as_str(), "POST" | "PUT" | "PATCH") {
        // Where a body is expected the lack of one is said (RFC 9110 §8.6).
        write::number_field(out, b"content-length", 0);
    }
    write::end(out);
    Ok(())
}

/// RFC 9113 §8.3.1: a path, or `*` for OPTIONS; the scheme is one of ours.
fn path<'u>(uri: &'u Uri, method: &str) -> Result<&'u str, Malformed> {
    let is_ours = matches!(uri.scheme_str(), Some("http" | "https"));
    let path = uri.path();
    let is_path = path.starts_with('/') || (path == "*" && method == "OPTIONS");
    if is_ours && is_path && !path.contains('#') { Ok(path) } else { Err(Malformed) }
}

/// The authority is the host; a Host field that says something else is a second one, which no engine takes (§8.3.1).
fn write_hosts(authority: Option<&str>, fields: &HeaderMap, out: &mut Vec<u8>) {
    if let Some(authority) = authority {
        write::field(out, b"host", authority.as_bytes());
    }
    let differs = |host: &&HeaderValue| {
        !authority.is_some_and(|authority| authority.as_bytes().eq_ignore_ascii_case(host.as_bytes()))
    };
    for host in fields.get_all(header::HOST).iter().filter(differs) {
        write::field(out, b"host", host.as_bytes());
    }
}

/// Everything but the host. Crumbs of a cookie are joined (§8.2.3), unless there are too many fields: then the engine is to
/// see that.
fn write_fields(fields: &HeaderMap, out: &mut Vec<u8>) {
    let joins = fields.len() <= MAX_FIELDS;
    for (name, value) in fields {
        match *name {
            header::HOST => {}
            header::COOKIE if joins => {}
            _ => write::field(out, name.as_str().as_bytes(), value.as_bytes()),
        }
    }
    if joins && fields.contains_key(header::COOKIE) {
        let crumbs: Vec<_> = fields.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect();
        write::field(out, b"cookie", &crumbs.join(&b"; "[..]));
    }
}

/// The head of an answer that came on a stream, written as one of HTTP/1.
pub(super) fn write_response(parts: &response::Parts, shape: Shape, out: &mut Vec<u8>) {
    write::status_line(out, parts.status.as_u16(), "");
    for (name, value) in &parts.headers {
        if *name != header::CONTENT_LENGTH || shape != Shape::Chunks {
            write::field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    if shape == Shape::Chunks {
        write::field(out, b"transfer-encoding", b"chunked");
    }
    write::end(out);
}

/// Trailers, as they stand behind the last chunk.
pub(super) fn write_trailers(trailers: &HeaderMap, out: &mut Vec<u8>) {
    for (name, value) in trailers {
        write::field(out, name.as_str().as_bytes(), value.as_bytes());
    }
}

/// The request of a head of HTTP/1, for a stream.
pub(super) fn request(head: &Request, scheme: &str) -> Result<http::Request<()>, http::Error> {
    let authority = head.first(Known::Host).unwrap_or_default();
    let mut target = String::from(head.path());
    if let Some(query) = head.query() {
        target.push('?');
        target.push_str(query);
    }
    let uri = Uri::builder().scheme(scheme).authority(authority).path_and_query(target).build()?;
    let mut request = http::Request::builder().method(head.method()).uri(uri).body(())?;
    for field in head.fields().filter(|field| field.known != Some(Known::Host)) {
        append(request.headers_mut(), field)?;
    }
    if head.takes_trailers() {
        request.headers_mut().insert(header::TE, HeaderValue::from_static("trailers"));
    }
    Ok(request)
}

/// The answer of a head of HTTP/1, for a stream.
pub(super) fn response(head: &Response<'_>, status: u16) -> Result<http::Response<()>, http::Error> {
    let mut response = http::Response::builder().status(status).body(())?;
    for field in head.fields() {
        append(response.headers_mut(), field)?;
    }
    Ok(response)
}

/// Trailers from the section behind the last chunk.
pub(super) fn trailers(section: &[u8]) -> Result<HeaderMap, http::Error> {
    let mut trailers = HeaderMap::new();
    for line in section.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii).filter(|line| !line.is_empty()) {
        let mut parts = line.splitn(2, |byte| *byte == b':');
        let (name, value) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default().trim_ascii());
        append(&mut trailers, Field { known: None, name, value })?;
    }
    Ok(trailers)
}

/// What is about one connection of HTTP/1 has no meaning on a stream (RFC 9113 §8.2.2).
fn append(fields: &mut HeaderMap, field: Field<'_>) -> Result<(), http::Error> {
    if !field.known.is_some_and(Known::is_of_one_hop) {
        let name = HeaderName::from_bytes(field.name)?;
        fields.append(name, HeaderValue::from_bytes(field.value)?);
    }
    Ok(())
}
