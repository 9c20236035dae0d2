//! Fields of HTTP/2 as lines of HTTP/1, and back.

use std::fmt::Write as _;

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
    let protocol = parts.extensions.get::<h2::ext::Protocol>().map(h2::ext::Protocol::as_str);
    let is_tunnel = protocol.is_some();
    // The h2 crate looks at every other value.
    if protocol.is_some_and(|protocol| !is_token(protocol)) {
        return Err(Malformed);
    }
    let authority = parts.uri.authority().map(http::uri::Authority::as_str);
    if is_connect && !is_tunnel {
        write::request_line(out, "CONNECT", authority.ok_or(Malformed)?, None);
    } else {
        let method = if is_tunnel { "GET" } else { parts.method.as_str() };
        write::request_line(out, method, path(&parts.uri, method)?, parts.uri.query());
    }
    write_hosts(authority, &parts.headers, out);
    write_fields(&parts.headers, key.is_some(), out);
    if let Some(protocol) = protocol {
        write::field(out, b"connection", b"upgrade");
        write::field(out, b"upgrade", protocol.as_bytes());
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

/// RFC 9110 §5.6.2
fn is_token(text: &str) -> bool {
    let is_of_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !text.is_empty() && text.bytes().all(is_of_token)
}

/// RFC 9113 §8.3.1: a path, or `*` for OPTIONS; the scheme is one of ours. Where a Host field stands for the authority, the
/// h2 crate has looked at the scheme and kept nothing of it.
fn path<'u>(uri: &'u Uri, method: &str) -> Result<&'u str, Malformed> {
    let is_ours = matches!(uri.scheme_str(), None | Some("http" | "https"));
    let path = uri.path();
    let is_path = path.starts_with('/') || (path == "*" && method == "OPTIONS");
    if is_ours && is_path { Ok(path) } else { Err(Malformed) }
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
/// see that. A key of the client's own has no meaning where there is one of ours.
fn write_fields(fields: &HeaderMap, has_key: bool, out: &mut Vec<u8>) {
    let joins = fields.len() <= MAX_FIELDS;
    for (name, value) in fields {
        match *name {
            header::HOST => {}
            header::SEC_WEBSOCKET_KEY if has_key => {}
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
    let mut target = String::new();
    push_escaped(&mut target, head.path());
    if let Some(query) = head.query() {
        target.push('?');
        push_escaped(&mut target, query);
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

/// What is nowhere in a URL (RFC 3986 appendix A) goes as browsers send it: HTTP/1 says it as it is, `http::Uri` cannot.
fn push_escaped(target: &mut String, text: &str) {
    for character in text.chars() {
        if matches!(character, '<' | '>' | '"' | '`') {
            let _ = write!(target, "%{:02X}", u32::from(character));
        } else {
            target.push(character);
        }
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::http1::head::Read;

    fn asked(target: &str) -> Uri {
        let head = format!("GET {target} HTTP/1.1\r\nhost: a.localhost\r\n\r\n");
        let Ok(Read::Whole(head, _)) = Request::read(head.as_bytes()) else { panic!("{target:?} is no target") };
        request(&head, "http").expect("a request").into_parts().0.uri
    }

    #[test]
    fn a_target_that_a_client_of_http1_may_send_reaches_a_program_of_http2() {
        // A fragment is no part of a target: the engine has taken it off.
        for byte in (b'!'..=b'~').filter(|byte| !matches!(byte, b'?' | b'#')) {
            let character = char::from(byte);
            let said = match character {
                '<' | '>' | '"' | '`' => format!("%{byte:02X}"),
                _ => character.to_string(),
            };
            let uri = asked(&format!("/a{character}b?c{character}d"));
            assert_eq!(uri.path_and_query().expect("a path").as_str(), format!("/a{said}b?c{said}d"));
        }
        assert_eq!(asked("/\u{e9}?\u{e9}").path_and_query().expect("a path").as_str(), "/\u{e9}?\u{e9}");
    }

    #[test]
    fn a_protocol_is_a_token() {
        assert!(is_token("websocket") && is_token("connect-udp"));
        for no in ["", "a b", "a\r\nx: y", "a/b", "\u{e9}"] {
            assert!(!is_token(no), "{no:?}");
        }
    }
}
