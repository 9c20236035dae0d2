//! Values with a grammar of their own: durations, hosts, paths, patterns, field names, folders.

use std::{path::PathBuf, time::Duration};

use http::uri::PathAndQuery;

use super::Problems;
use crate::{
    config::{
        FieldMatch, HostMatch, OWN_HOST, ValueMatch,
        document::{Kind, Value, quoted},
        keys,
    },
    diagnostic::Diagnostic,
    head::{Host, HostError},
};

use super::section::Section;

/// Longer is a slip of the unit, and no request or health check is meant to wait for it.
const LONGEST_DURATION: Duration = Duration::from_secs(24 * 60 * 60);

/// What a person writes has a hundredth of it; what a generator made by mistake would fill every list and every log.
const LONGEST_TEXT: usize = 4096;

/// How deep a path may go: the table has a level for each element.
const MOST_ELEMENTS: usize = 256;

/// Units in the order in which they may follow each other.
const UNITS: [(&str, u64); 4] = [("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl Problems {
    /// `"300ms"`, `"2s"`, `"1m30s"`: more than zero, at most a day.
    pub(super) fn duration(&mut self, value: &Value, name: &str) -> Option<Duration> {
        let wanted = "a duration such as \"300ms\", \"2s\" or \"1m30s\"";
        let text = match &value.kind {
            Kind::String(text) => text,
            Kind::Integer(number) => {
                self.push(
                    Diagnostic::error("bad-duration", format!("`{name}` needs a unit"))
                        .at(value.span.clone(), "of what?")
                        .patch("if seconds are meant", value.span.clone(), quoted(&format!("{number}s"))),
                );
                return None;
            }
            _ => {
                self.wrong_type(value, name, wanted);
                return None;
            }
        };
        match parse_duration(text) {
            None => self.bad("bad-duration", value, format!("`{name}` must be {wanted}"), "not a duration"),
            Some(Duration::ZERO) => {
                self.bad("bad-duration", value, format!("`{name}` must be more than zero"), "this is no time at all");
            }
            Some(long) if long > LONGEST_DURATION => {
                self.bad("bad-duration", value, format!("`{name}` must be at most 24h"), "longer than a day");
            }
            fine => return fine,
        }
        None
    }

    /// `name`, `*.suffix`.
    pub(super) fn host(&mut self, value: &Value, name: &str) -> Option<HostMatch> {
        let text = self.string(value, name)?;
        match parse_host(text) {
            Ok(HostMatch::Exact(host)) if host == OWN_HOST => {
                self.push(
                    Diagnostic::error("reserved-host", format!("{OWN_HOST} is portolan's own host"))
                        .at(value.span.clone(), "no route may claim it"),
                );
                None
            }
            Ok(host) => Some(host),
            Err(fault) => {
                let problem = Diagnostic::error("bad-host", format!("`{text}` is not a host to match"))
                    .at(value.span.clone(), fault.label);
                self.push(match fault.instead {
                    Some(instead) => {
                        problem.patch("what was probably meant", value.span.clone(), value.like_it(&instead))
                    }
                    None => problem,
                });
                None
            }
        }
    }

    /// A string of bearable length; `code` is that of the problem with a longer one.
    pub(super) fn short<'d>(&mut self, value: &'d Value, name: &str, code: &'static str) -> Option<&'d str> {
        let text = self.string(value, name)?;
        let length = text.chars().count();
        if length > LONGEST_TEXT {
            let message = format!("`{name}` is longer than {LONGEST_TEXT} characters");
            self.bad(code, value, message, &format!("{length} characters"));
            return None;
        }
        Some(text)
    }

    /// A path as it stands in a request line: `/`, then such ASCII characters as `http` takes before a query.
    pub(super) fn path<'d>(&mut self, value: &'d Value, name: &str) -> Option<&'d str> {
        let text = self.short(value, name, "bad-path")?;
        let elements = text.strip_suffix('/').unwrap_or(text).matches('/').count();
        if elements > MOST_ELEMENTS {
            let message = format!("`{name}` has more than {MOST_ELEMENTS} elements");
            self.bad("bad-path", value, message, &format!("{elements} elements"));
            return None;
        }
        if text.starts_with('/') && is_sent_as_it_is(text) {
            return Some(text);
        }
        let unheard = || Diagnostic::error("bad-path", format!("`{name}` is no path that a request could have"));
        self.push(if text.contains('?') {
            unheard().at(value.span.clone(), "a path ends before the query; `query` matches parameters")
        } else if text.contains('#') {
            unheard().at(value.span.clone(), "no program ever sees what follows a #")
        } else if let Some(c) = text.chars().find(|c| !is_sent_as_it_is(&format!("/{c}"))) {
            let label = format!("`{}` is sent as {}", c.escape_debug(), percent_encoded(c));
            let mended = value.like_it(&as_sent(text));
            unheard().at(value.span.clone(), label).patch("as it is sent", value.span.clone(), mended)
        } else {
            Diagnostic::error("bad-path", format!("`{name}` must begin with /"))
                .at(value.span.clone(), "no / in front")
                .patch("with it", value.span.clone(), value.like_it(&format!("/{text}")))
        });
        None
    }

    /// A regular expression, as it was written; it compiles, alone and anchored.
    pub(super) fn regex<'d>(&mut self, value: &'d Value, name: &str) -> Option<&'d str> {
        let text = self.short(value, name, "bad-regex")?;
        // Compiled alone as well: `a)|(b` would be whole only within the parentheses of the anchored form.
        let fault = [text.to_owned(), format!("^(?:{text})$")].iter().find_map(|form| regex::Regex::new(form).err());
        let Some(fault) = fault else { return Some(text) };
        let fault = fault.to_string();
        let reason = fault.lines().last().unwrap_or_default().trim_start_matches("error: ").to_owned();
        self.push(
            Diagnostic::error("bad-regex", format!("`{name}` is no regular expression: {reason}"))
                .at(value.span.clone(), "does not compile"),
        );
        None
    }

    /// A table of conditions on fields or parameters: equal, or `{ regex = ".." }`.
    pub(super) fn conditions(&mut self, value: &Value, name: &str) -> Option<Vec<FieldMatch>> {
        let table = self.table(value, name)?;
        let before = self.count();
        let mut found: Vec<FieldMatch> = Vec::with_capacity(table.entries.len());
        for entry in &table.entries {
            let field = if name == "headers" { entry.name.to_ascii_lowercase() } else { entry.name.clone() };
            if name == "headers" && !is_token(&field) {
                self.push(bad_field_name(entry));
            } else if field.is_empty() || field.bytes().any(|byte| !byte.is_ascii_graphic() || b"&=#".contains(&byte)) {
                let problem = Diagnostic::error("bad-value", "no query has a parameter of this name");
                self.push(problem.at(entry.span.clone(), "compared as sent, so percent-encoded"));
            }
            if found.iter().any(|other| other.name == field) {
                let problem = Diagnostic::error("duplicate-key", format!("`{field}` is asked for twice"));
                self.push(problem.at(entry.span.clone(), "the case of a field name does not matter"));
            }
            let value = match &entry.value.kind {
                Kind::Table(table) => {
                    let section = Section::open(table, "the pattern", &entry.value.span, &keys::PATTERN, self);
                    section
                        .get("regex")
                        .and_then(|regex| self.regex(regex, "regex"))
                        .map(str::to_owned)
                        .map(ValueMatch::Regex)
                }
                _ => self.string(&entry.value, &entry.name).map(str::to_owned).map(ValueMatch::Equals),
            };
            found.extend(value.map(|value| FieldMatch { name: field, value }));
        }
        // With a condition left out the route would seem to be another one.
        (self.count() == before).then_some(found)
    }

    /// Method names; those of RFC 9110 in capitals.
    pub(super) fn methods(&mut self, value: &Value, name: &str) -> Option<Vec<String>> {
        const KNOWN: [&str; 9] = ["GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"];
        let items = self.some_strings(value, name)?;
        let before = self.count();
        let mut methods: Vec<String> = Vec::new();
        for (text, item) in items {
            let upper = text.to_ascii_uppercase();
            if !is_token(text) {
                self.bad("bad-method", item, format!("`{text}` is not a method"), "a method is one word");
            } else if text != upper && KNOWN.contains(&upper.as_str()) {
                self.push(
                    Diagnostic::error("bad-method", format!("the method `{text}` would never match"))
                        .at(item.span.clone(), "case matters in methods")
                        .patch("in capitals", item.span.clone(), quoted(&upper)),
                );
            } else if !methods.iter().any(|method| method == text) {
                methods.push(text.to_owned());
            }
        }
        (self.count() == before).then_some(methods)
    }

    /// A folder or file, relative to the file that names it.
    pub(super) fn file(&mut self, value: &Value, name: &str) -> Option<PathBuf> {
        let text = self.filled(value, name)?;
        if text.contains('\0') {
            self.bad("bad-value", value, format!("`{name}` must not hold a NUL"), "no path has one");
            return None;
        }
        Some(beside(value, text))
    }
}

/// Whether `path` stands in a request line as it stands here.
///
/// Some clients send other characters than ASCII as they are; browsers encode them, and a route is for all clients.
fn is_sent_as_it_is(path: &str) -> bool {
    path.is_ascii() && PathAndQuery::try_from(path).is_ok_and(|target| target.path() == path)
}

/// `text` with everything percent-encoded that must be (RFC 3986 §2.1).
fn as_sent(text: &str) -> String {
    let sent = |c: char| if is_sent_as_it_is(&format!("/{c}")) { c.to_string() } else { percent_encoded(c) };
    text.chars().map(sent).collect()
}

fn percent_encoded(c: char) -> String {
    c.encode_utf8(&mut [0; 4]).bytes().map(|byte| format!("%{byte:02X}")).collect()
}

/// `text` as an absolute path, seen from the folder of the file in which `value` stands; what stands in `.config` speaks of
/// the folder around it.
pub(super) fn beside(value: &Value, text: &str) -> PathBuf {
    let folder = value.span.source.path.as_deref().and_then(|path| path.parent()).unwrap_or("".as_ref());
    let folder = if folder.ends_with(".config") { folder.parent().unwrap_or(folder) } else { folder };
    let path = folder.join(text);
    // Without a current folder there is nothing to be relative to; opening it will say so.
    std::path::absolute(&path).unwrap_or(path)
}

/// RFC 9110 §5.6.2.
pub(super) fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// A label of a host name: letters, digits and inner hyphens (RFC 1123 §2.1).
pub fn is_label(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-';
    (1..=63).contains(&text.len()) && text.bytes().all(inner) && !text.starts_with('-') && !text.ends_with('-')
}

/// Tells that an entry's name cannot be the name of a header field.
pub(super) fn bad_field_name(entry: &crate::config::document::Entry) -> Diagnostic {
    Diagnostic::error("bad-header", format!("`{}` is not the name of a header field", entry.name))
        .at(entry.span.clone(), "letters, digits and hyphens")
}

/// A time as tables have it: numbers with `h`, `m`, `s` and `ms`, the larger unit first.
pub fn parse_duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut units = UNITS.iter();
    let mut millis: u64 = 0;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit())?;
        let (number, tail) = rest.split_at(digits);
        let letters = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at(letters);
        let (_, size) = units.find(|(name, _)| *name == unit)?;
        millis = number.parse::<u64>().ok()?.checked_mul(*size)?.checked_add(millis)?;
        rest = tail;
    }
    (!text.is_empty()).then(|| Duration::from_millis(millis))
}

struct HostFault {
    label: &'static str,
    instead: Option<String>,
}

fn parse_host(text: &str) -> Result<HostMatch, HostFault> {
    let fault = |label, instead| Err(HostFault { label, instead });
    if let Some((_, rest)) = text.split_once("://") {
        let host = rest.split(['/', ':']).next().unwrap_or_default();
        return fault("only the host, no URL", parse_host(host).is_ok().then(|| host.to_owned()));
    }
    if let Some((host, _)) = text.split_once('/') {
        return fault("only the host; the path belongs into `path`", parse_host(host).is_ok().then(|| host.to_owned()));
    }
    if !text.is_ascii() {
        return fault("write it in the form that is sent (punycode, xn--..)", None);
    }
    let (wildcard, name) = match text.strip_prefix("*.") {
        Some(suffix) => (true, suffix),
        None => (false, text),
    };
    if name.contains('*') || (wildcard && name.is_empty()) {
        return fault("a * stands only in front, as in *.shop.localhost", None);
    }
    let host = match Host::parse(name.as_bytes()) {
        Ok(host) => host,
        Err(HostError::Length) => return fault("longer than a host name may be (253)", None),
        Err(_) => return fault("letters, digits and hyphens, with dots between them", None),
    };
    if host.port().is_some() || name.ends_with(':') {
        let bare = name.rsplit_once(':').map_or(name, |(bare, _)| bare);
        let star = if wildcard { "*." } else { "" };
        return fault("a port is never compared; leave it out", Some(format!("{star}{bare}")));
    }
    let host = host.name();
    if host.split('.').any(str::is_empty) {
        return fault("an empty label", None);
    }
    if wildcard && (host.starts_with('[') || host.parse::<std::net::Ipv4Addr>().is_ok()) {
        return fault("an address has no names beneath it", None);
    }
    Ok(if wildcard { HostMatch::Wildcard(host.to_owned()) } else { HostMatch::Exact(host.to_owned()) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_numbers_with_units_in_falling_order() {
        let millis = |text| parse_duration(text).map(|duration| duration.as_millis());
        assert_eq!(millis("300ms"), Some(300));
        assert_eq!(millis("1m30s"), Some(90_000));
        assert_eq!(millis("1h2m3s4ms"), Some(3_723_004));
        for bad in
            ["", "1", "s", "1x", "-1s", "1s1m", "1s1s", "1.5s", " 1s", "99999999999999999999s", "18446744073709551h"]
        {
            assert_eq!(millis(bad), None, "{bad}");
        }
    }

    #[test]
    fn hosts_are_compared_without_case_and_trailing_dot() {
        let host = |text| parse_host(text).ok();
        assert_eq!(host("Docs.LOCALHOST."), Some(HostMatch::Exact("docs.localhost".into())));
        assert_eq!(host("*.Mail.localhost"), Some(HostMatch::Wildcard("mail.localhost".into())));
        assert_eq!(host("[::1]"), Some(HostMatch::Exact("[::1]".into())));
        for bad in ["", "*", "*.", "a.*", "a..b", "a:80", "a:", "*.127.0.0.1", "http://a", "a/b", "é.localhost", "a b"]
        {
            assert_eq!(host(bad), None, "{bad}");
        }
    }

    #[test]
    fn a_host_is_at_most_as_long_as_a_name_of_dns_and_says_so() {
        let name = |length: usize| "a.".repeat(length / 2) + "b";
        assert_eq!(parse_host(&name(253)).ok(), Some(HostMatch::Exact(name(253))));
        let label = parse_host(&name(255)).err().map(|fault| fault.label);
        assert_eq!(label, Some("longer than a host name may be (253)"));
    }
}
