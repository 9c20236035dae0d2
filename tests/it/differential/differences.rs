//! Every difference between the engine and hyper that is meant, each with the sentence that asks for it.

use std::net::{IpAddr, Ipv6Addr};

use Kind::{ButFor, Instead};

use super::{
    case::Case,
    message::Framing,
    outcome::{Answer, EndToEnd, Received, Request, Response, Step},
    text,
};

/// A difference that is meant.
pub(super) struct Difference {
    pub(super) name: &'static str,
    /// Who says so, in which words.
    pub(super) rfc: &'static str,
    kind: Kind,
}

/// How our step differs from hyper's.
enum Kind {
    /// Another thing became of the request, if this says so of both.
    Instead(fn(&Case, &Step, &Step) -> bool),
    /// The same became of it but for something that this takes off both, if it is there.
    ButFor(fn(&Case, &mut Step, &mut Step) -> bool),
}

impl Difference {
    /// Whether our connection may go on in another way than hyper's, too.
    pub(super) fn may_end_one(&self) -> bool {
        matches!(self.kind, Instead(_))
    }
}

/// The differences that together make our step another one than hyper's; none where they do not.
pub(super) fn between(case: &Case, ours: &Step, theirs: &Step) -> Option<Vec<&'static Difference>> {
    let instead = |difference: &&Difference| matches!(difference.kind, Instead(applies) if applies(case, ours, theirs));
    if let Some(difference) = DIFFERENCES.iter().find(instead) {
        return Some(vec![difference]);
    }
    let (mut ours, mut theirs) = (ours.clone(), theirs.clone());
    let mut but_for =
        |difference: &&Difference| matches!(difference.kind, ButFor(take) if take(case, &mut ours, &mut theirs));
    let met = DIFFERENCES.iter().filter(|difference| but_for(difference)).collect();
    ours.is_like(&theirs).then_some(met)
}

/// The longest target, in bytes.
const MAX_TARGET: usize = 32 * 1024;

/// The largest head, in bytes.
const MAX_HEAD: usize = 64 * 1024;

/// More than what may stand around the values of a head, in bytes.
const BLANKS: usize = 1024;

/// The list.
pub(super) const DIFFERENCES: &[Difference] = &[
    // Requests that are refused.
    Difference {
        name: "a request names one host",
        rfc: "RFC 9112 §3.2: A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request \
              message that lacks a Host header field and to any request message that contains more than one Host \
              header field line or a Host header field with an invalid field value.",
        kind: Instead(|_, ours, theirs| refused(ours, theirs, 400, |request| !names_one_host(request))),
    },
    Difference {
        name: "a host that is not served here is misdirected",
        rfc: "RFC 9110 §15.5.20: The 421 (Misdirected Request) status code indicates that the request was directed at \
              a server that is unable or unwilling to produce an authoritative response for the target URI.",
        kind: Instead(|_, ours, theirs| refused(ours, theirs, 421, |request| !is_local(authority(request)))),
    },
    Difference {
        name: "a target is of one of the four forms",
        rfc: "RFC 9112 §3.2: Recipients of an invalid request-line SHOULD respond with either a 400 (Bad Request) error \
              or a 301 (Moved Permanently) redirect with the request-target properly encoded.",
        kind: Instead(|_, ours, theirs| refused(ours, theirs, 400, |request| !is_target(request))),
    },
    Difference {
        name: "a transfer coding other than chunked is not understood",
        rfc: "RFC 9112 §6.1: A server that receives a request message with a transfer coding it does not understand \
              SHOULD respond with 501 (Not Implemented).",
        kind: Instead(|case, ours, theirs| {
            let is_other = |request: &Received| codings(&request.fields).iter().any(|coding| coding != "chunked");
            let has_other = || raw(case, "transfer-encoding").iter().any(|codings| !is_chunked(codings));
            refused(ours, theirs, 501, is_other)
                || refused(ours, theirs, 400, is_other)
                || (both_refuse(ours, theirs, 501) && has_other())
        }),
    },
    Difference {
        name: "CONNECT is not served, whatever its target",
        rfc: "RFC 9110 §9.3.6: An origin server MAY accept a CONNECT request, but most origin servers do not implement \
              CONNECT.",
        kind: Instead(|case, ours, theirs| both_refuse(ours, theirs, 405) && text(&case.bytes).contains("CONNECT ")),
    },
    Difference {
        name: "a body is chunked once",
        rfc: "RFC 9112 §6.1: A sender MUST NOT apply the chunked transfer coding more than once to a message body",
        kind: Instead(|_, ours, theirs| refused(ours, theirs, 400, |request| codings(&request.fields).len() > 1)),
    },
    Difference {
        name: "a target ends somewhere",
        rfc: "RFC 9112 §3: A server that receives a request-target longer than any URI it wishes to parse MUST respond \
              with a 414 (URI Too Long) status code",
        kind: Instead(|case, ours, theirs| {
            // Where hyper reads on it may find another reason.
            let is_refused = refused(ours, theirs, 414, |_| true) || both_refuse(ours, theirs, 414);
            is_refused && case.bytes.split(u8::is_ascii_whitespace).any(|word| word.len() > MAX_TARGET)
        }),
    },
    Difference {
        name: "a head ends somewhere",
        rfc: "RFC 6585 §5: The 431 status code indicates that the server is unwilling to process the request because \
              its header fields are too large.",
        kind: Instead(|case, ours, theirs| {
            refused(ours, theirs, 431, |request| size(request) > MAX_HEAD - BLANKS)
                || (both_refuse(ours, theirs, 431) && case.bytes.len() > MAX_HEAD - BLANKS)
        }),
    },
    Difference {
        name: "Max-Forwards is a number",
        rfc: "RFC 9110 §7.6.2: Max-Forwards = 1*DIGIT",
        kind: Instead(|_, ours, theirs| {
            refused(ours, theirs, 400, |request| max_forwards(request).is_some_and(|left| left.parse::<u64>().is_err()))
        }),
    },
    Difference {
        name: "a length beside a coding is still a number",
        rfc: "RFC 9112 §6.1: A server MAY reject a request that contains both Content-Length and Transfer-Encoding or \
              process such a request in accordance with the Transfer-Encoding alone.",
        kind: Instead(|case, ours, theirs| {
            let has_coding = |request: &Received| !all(&request.fields, "transfer-encoding").is_empty();
            refused(ours, theirs, 400, has_coding) && has_bad_length(case)
        }),
    },
    Difference {
        name: "a chunked request is read to the letter",
        rfc: "RFC 9112 §7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF",
        kind: Instead(|case, ours, theirs| {
            let is_chunked = theirs.request.as_ref().is_some_and(|request| request.framing == Framing::Chunked);
            is_chunked && ours.request.is_none() && is_400_or_end(ours) && is_chunked_badly(case)
        }),
    },
    // Requests that are answered here.
    Difference {
        name: "Max-Forwards ends here",
        rfc: "RFC 9110 §7.6.2: If the received value is zero (0), the intermediary MUST NOT forward the request; \
              instead, the intermediary MUST respond as the final recipient",
        kind: Instead(|_, ours, theirs| {
            let is_last = |request: &Received| max_forwards(request).is_some_and(|left| left.parse() == Ok(0));
            refused(ours, theirs, 204, is_last) || refused(ours, theirs, 405, is_last)
        }),
    },
    // Requests that are forwarded in another way.
    Difference {
        name: "Max-Forwards counts down",
        rfc: "RFC 9110 §7.6.2: If the received Max-Forwards value is greater than zero, the intermediary MUST generate an \
              updated Max-Forwards field in the forwarded message",
        kind: ButFor(|_, ours, theirs| {
            let left = theirs.received.as_ref().and_then(max_forwards).and_then(|left| left.parse::<u64>().ok());
            let counted = left.and_then(|left| left.checked_sub(1)).map(|left| vec![left.to_string()]);
            take_from_requests(ours, theirs, |ours, theirs| {
                let sent = ours.fields.remove("max-forwards");
                theirs.fields.remove("max-forwards").is_some() && sent == counted
            })
        }),
    },
    Difference {
        name: "a target is passed on as it came",
        rfc: "RFC 9110 §7.7: A proxy MUST NOT modify the \"absolute-path\" and \"query\" parts of the received \
              target URI when forwarding it to the next inbound server",
        kind: Instead(|_, ours, theirs| {
            let is_odd = |byte: char| !byte.is_ascii_alphanumeric() && !"!$%&'()*+,-./:;=?@_~".contains(byte);
            let target = ours.request.as_ref().map(|request| request.target.as_str());
            target.is_some_and(|target| target.contains(is_odd)) && matches!(theirs.answer, Answer::Own(400))
        }),
    },
    Difference {
        name: "HTTP/1.0 expects nothing",
        rfc: "RFC 9110 §10.1.1: A server that receives a 100-continue expectation in an HTTP/1.0 request MUST ignore that \
              expectation.",
        kind: ButFor(|_, ours, theirs| {
            let is_old = theirs.received.as_ref().is_some_and(|request| request.is_old);
            let take =
                |ours: &mut Request, theirs: &mut Request| took_from_theirs("expect", &ours.fields, &mut theirs.fields);
            is_old && take_from_requests(ours, theirs, take)
        }),
    },
    Difference {
        name: "trailers that belong to a head do not go on",
        rfc: "RFC 9110 §6.5.1: A sender MUST NOT generate a trailer field unless the sender knows the corresponding header \
              field name's definition permits the field to be sent in trailers.",
        kind: ButFor(|_, ours, theirs| {
            let took = |ours: &EndToEnd, theirs: &mut EndToEnd| took_from_theirs("cookie", ours, theirs);
            take_from_requests(ours, theirs, |ours, theirs| took(&ours.trailers, &mut theirs.trailers))
                || take_from_answers(ours, theirs, |ours, theirs| took(&ours.trailers, &mut theirs.trailers))
        }),
    },
    // Answers that are not passed on.
    Difference {
        name: "an answer in an unknown transfer coding is not passed on",
        rfc: "RFC 9110 §15.6.3: The 502 (Bad Gateway) status code indicates that the server, while acting as a gateway \
              or proxy, received an invalid response from an inbound server",
        kind: Instead(|case, ours, theirs| {
            let codings = raw(case, "transfer-encoding");
            let is_one_chunked = matches!(codings.as_slice(), [one] if is_chunked(one));
            is_bad_gateway(ours, theirs) && !codings.is_empty() && !is_one_chunked
        }),
    },
    Difference {
        name: "an answer whose length is not one number is not passed on",
        rfc: "RFC 9112 §6.3 (an invalid Content-Length): If it is in a response message received by a proxy, the proxy MUST close the connection to \
              the server, discard the received response, and send a 502 (Bad Gateway) response to the client.",
        kind: Instead(|case, ours, theirs| is_bad_gateway(ours, theirs) && has_bad_length(case)),
    },
    Difference {
        name: "an answer's head ends somewhere",
        rfc: "RFC 9110 §17.5: A recipient ought to carefully limit the extent to which it processes other protocol elements",
        kind: Instead(|case, ours, theirs| is_bad_gateway(ours, theirs) && case.bytes.len() > MAX_HEAD - BLANKS),
    },
    Difference {
        name: "a change of protocol that nobody asked for is not passed on",
        rfc: "RFC 9110 §7.8: A server MUST NOT switch to a protocol that was not indicated by the client in the \
              corresponding request's Upgrade header field.",
        kind: Instead(|_, ours, theirs| is_bad_gateway(ours, theirs) && theirs.answer.status() == Some(101)),
    },
    Difference {
        name: "interim answers come to an end",
        rfc: "RFC 9110 §17.5: A recipient ought to carefully limit the extent to which it processes other protocol elements",
        kind: Instead(|case, ours, theirs| {
            is_bad_gateway(ours, theirs) && text(&case.bytes).matches("HTTP/1.1 1").count() > 32
        }),
    },
    Difference {
        name: "a chunked answer is read to the letter",
        rfc: "RFC 9112 §7.1: chunk = chunk-size [ chunk-ext ] CRLF chunk-data CRLF",
        kind: Instead(|case, ours, theirs| {
            let is_not_passed_on = is_bad_gateway(ours, theirs)
                || matches!((&ours.answer, &theirs.answer), (Answer::Cut { .. } | Answer::Nothing, Answer::Whole(_)));
            is_not_passed_on && ours.request == theirs.request && is_chunked_badly(case)
        }),
    },
    // Answers that are passed on in another way.
    Difference {
        name: "a 304 keeps its length",
        rfc: "RFC 9110 §8.6: A server MAY send a Content-Length header field in a 304 (Not Modified) response",
        kind: ButFor(|case, ours, theirs| {
            take_from_answers(ours, theirs, |ours, theirs| {
                let is_only_ours = !theirs.fields.contains_key("content-length");
                let length = ours.fields.remove("content-length").filter(|lengths| lengths.len() == 1);
                let is_told = length.is_some_and(|length| raw(case, "content-length").contains(&length[0]));
                theirs.status == 304 && is_only_ours && is_told
            })
        }),
    },
    Difference {
        name: "OPTIONS of a whole server is asked with an asterisk",
        rfc: "RFC 9112 §3.2.4: If a proxy receives an OPTIONS request with an absolute-form of request-target in which the \
              URI has an empty path and no query component, then the last proxy on the request chain MUST send a \
              request-target of \"*\"",
        kind: ButFor(|_, ours, theirs| {
            take_from_requests(ours, theirs, |ours, theirs| {
                let is_it = ours.method == "OPTIONS" && (ours.target.as_str(), theirs.target.as_str()) == ("*", "/");
                if is_it {
                    ours.target.clone_from(&theirs.target);
                }
                is_it
            })
        }),
    },
    Difference {
        name: "trailers of an answer need no announcement",
        rfc: "RFC 9110 §6.6.2: A sender that intends to generate one or more trailer fields in a message SHOULD generate a \
              Trailer header field",
        kind: ButFor(|_, ours, theirs| {
            take_from_answers(ours, theirs, |ours, theirs| {
                let (more, less) = (std::mem::take(&mut ours.trailers), std::mem::take(&mut theirs.trailers));
                more.len() > less.len() && less.iter().all(|(name, values)| more.get(name) == Some(values))
            })
        }),
    },
];

/// Whether our step was refused with this status before anything reached the program, and hyper's request `is` one
/// that must be.
fn refused(ours: &Step, theirs: &Step, status: u16, is: impl FnOnce(&Received) -> bool) -> bool {
    ours.request.is_none()
        && matches!(ours.answer, Answer::Own(own) if own == status)
        && theirs.received.as_ref().is_some_and(is)
}

/// Whether hyper has found another reason to refuse what we refuse with this status.
fn both_refuse(ours: &Step, theirs: &Step, status: u16) -> bool {
    let refusals = (&ours.answer, &theirs.answer);
    matches!(refusals, (Answer::Own(own), Answer::Own(400 | 414 | 431)) if *own == status)
}

/// Whether our answer is that of a bad gateway, and hyper's another one to the same request.
fn is_bad_gateway(ours: &Step, theirs: &Step) -> bool {
    ours.request == theirs.request
        && matches!(ours.answer, Answer::Own(502))
        && !matches!(theirs.answer, Answer::Own(_))
}

fn is_400_or_end(step: &Step) -> bool {
    matches!(step.answer, Answer::Own(400) | Answer::Nothing)
}

/// Takes something off the requests, if both are there and `find` finds it.
fn take_from_requests(
    ours: &mut Step,
    theirs: &mut Step,
    find: impl FnOnce(&mut Request, &mut Request) -> bool,
) -> bool {
    let (Some(ours), Some(theirs)) = (&mut ours.request, &mut theirs.request) else { return false };
    take(ours, theirs, find)
}

/// Takes something off the answers, if both are there and `find` finds it.
fn take_from_answers(
    ours: &mut Step,
    theirs: &mut Step,
    find: impl FnOnce(&mut Response, &mut Response) -> bool,
) -> bool {
    let (Answer::Whole(ours), Answer::Whole(theirs)) = (&mut ours.answer, &mut theirs.answer) else { return false };
    take(ours, theirs, find)
}

/// Takes a field off theirs that ours have not.
fn took_from_theirs(name: &str, ours: &EndToEnd, theirs: &mut EndToEnd) -> bool {
    !ours.contains_key(name) && theirs.remove(name).is_some()
}

/// What is not found leaves no trace.
fn take<T: Clone>(ours: &mut T, theirs: &mut T, find: impl FnOnce(&mut T, &mut T) -> bool) -> bool {
    let (mut our_rest, mut their_rest) = (ours.clone(), theirs.clone());
    let is_there = find(&mut our_rest, &mut their_rest);
    if is_there {
        (*ours, *theirs) = (our_rest, their_rest);
    }
    is_there
}

/// The values of what could be taken for a field of that name in the bytes of the case.
fn raw(case: &Case, name: &str) -> Vec<String> {
    let text = text(&case.bytes);
    let lines = text.split(['\r', '\n']).filter_map(|line| line.split_once(':'));
    lines.filter(|(field, _)| field.trim().eq_ignore_ascii_case(name)).map(|(_, value)| value.trim().into()).collect()
}

fn is_chunked(codings: &str) -> bool {
    codings.eq_ignore_ascii_case("chunked")
}

fn has_bad_length(case: &Case) -> bool {
    let lengths = raw(case, "content-length");
    let is_number = |length: &String| !length.starts_with('+') && length.parse::<u64>().is_ok();
    !lengths.iter().all(is_number) || lengths.iter().any(|length| *length != lengths[0])
}

/// Whether there is a line that ends without a CR, or begins with a size and goes on with neither its end nor a proper
/// extension.
fn is_chunked_badly(case: &Case) -> bool {
    let is_bad = |line: &[u8]| {
        let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        let rest = line[digits..].strip_suffix(b"\r").unwrap_or(&line[digits..]);
        let extension = rest.trim_ascii_start();
        let is_control = |byte: &u8| *byte == 0x7f || (*byte < 0x20 && *byte != b'\t');
        digits > 0 && !rest.is_empty() && (extension.first() != Some(&b';') || extension.iter().any(is_control))
    };
    let has_bare_lf = case.bytes.windows(2).any(|pair| pair[0] != b'\r' && pair[1] == b'\n');
    has_bare_lf || case.bytes.split(|&byte| byte == b'\n').any(is_bad)
}

fn all<'a>(fields: &'a [(String, String)], name: &str) -> Vec<&'a str> {
    fields.iter().filter(|(field, _)| field == name).map(|(_, value)| value.as_str()).collect()
}

/// The members of all Transfer-Encoding fields.
fn codings(fields: &[(String, String)]) -> Vec<String> {
    let codings = all(fields, "transfer-encoding");
    codings.iter().flat_map(|field| field.split(',')).map(|coding| coding.trim().to_ascii_lowercase()).collect()
}

fn names_one_host(request: &Received) -> bool {
    match all(&request.fields, "host").as_slice() {
        [] => request.is_old && is_host(authority(request)),
        [host] => is_host(host) && is_host(authority(request)),
        _ => false,
    }
}

fn is_host(host: &str) -> bool {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => (name, port),
        _ => (host, ""),
    };
    let is_port = port.is_empty() || (port.bytes().all(|byte| byte.is_ascii_digit()) && port.parse::<u16>().is_ok());
    let is_in_a_name = |byte: u8| byte.is_ascii_alphanumeric() || b"-._".contains(&byte);
    let is_name = match name.strip_prefix('[').and_then(|name| name.strip_suffix(']')) {
        Some(address) => address.parse::<Ipv6Addr>().is_ok(),
        None => !matches!(name, "" | ".") && name.bytes().all(is_in_a_name) && !name.starts_with('.'),
    };
    is_port && is_name
}

/// What the request is for.
fn authority(request: &Received) -> &str {
    match request.target.split_once("://") {
        Some((_, rest)) => rest.split(['/', '?']).next().unwrap_or_default(),
        None => all(&request.fields, "host").first().copied().unwrap_or("localhost"),
    }
}

/// Whether an authority is one of this machine, which the table of the test takes.
fn is_local(authority: &str) -> bool {
    let name = match authority.rsplit_once(':') {
        Some((name, port)) if !port.contains(']') => name,
        _ => authority,
    };
    let name = name.strip_suffix('.').unwrap_or(name).to_ascii_lowercase();
    let address = name.trim_matches(['[', ']']).parse::<IpAddr>();
    name == "localhost" || name.ends_with(".localhost") || address.is_ok_and(|address| address.is_loopback())
}

fn is_target(request: &Received) -> bool {
    match request.target.as_str() {
        "*" => request.method == "OPTIONS",
        target => target.starts_with('/') || target.starts_with("http://") || target.starts_with("https://"),
    }
}

/// How large the head was, but for the blanks around its values.
fn size(request: &Received) -> usize {
    request.fields.iter().map(|(name, value)| name.len() + value.len() + 4).sum::<usize>() + request.target.len()
}

/// Max-Forwards, where it means something.
fn max_forwards(request: &Received) -> Option<&str> {
    let counts = matches!(request.method.as_str(), "OPTIONS" | "TRACE");
    all(&request.fields, "max-forwards").first().copied().filter(|_| counts)
}
