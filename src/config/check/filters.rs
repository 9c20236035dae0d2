//! What a route changes on the way: path, host, header fields, cross-origin answers.

use std::time::Duration;

use super::{
    Problems,
    section::Section,
    values::{bad_field_name, is_token},
};
use crate::{
    config::{
        Cors, CorsOrigins, FieldEdits, Filters, PathRewrite, Rewrite,
        document::{Entry, Kind, Value},
        keys,
    },
    diagnostic::{Diagnostic, Span},
    head::Host,
};

/// Long enough to spare a preflight per request, short enough that an edit is soon seen; browsers keep it
/// for two hours (Chromium) or a day (Firefox) at most.
const CORS_MAX_AGE: Duration = Duration::from_secs(600);

/// Fields that belong to one connection or frame the message (RFC 9110 §7.6.1, RFC 9112 §6): the proxy sets them.
const FRAMING: [&str; 7] =
    ["connection", "transfer-encoding", "content-length", "upgrade", "te", "trailer", "keep-alive"];

/// Every filter of a route; `None` when a problem was told.
pub(super) fn check(section: &Section<'_>, problems: &mut Problems) -> Option<Filters> {
    let rewrite = rewrite(section, problems);
    let request_headers = section.get("request_headers").map(|value| edits(value, "request_headers", problems));
    let response_headers = section.get("response_headers").map(|value| edits(value, "response_headers", problems));
    let cors = section.get("cors").map(|value| cors(value, problems));
    Some(Filters {
        rewrite: rewrite?,
        request_headers: request_headers.unwrap_or_else(|| Some(FieldEdits::default()))?,
        response_headers: response_headers.unwrap_or_else(|| Some(FieldEdits::default()))?,
        cors: cors.unwrap_or(Some(None))?,
    })
}

/// The outer `None` is a problem, the inner one no rewrite.
fn rewrite(section: &Section<'_>, problems: &mut Problems) -> Option<Option<Rewrite>> {
    let strip = section.entry("strip_prefix").filter(|entry| {
        // No boolean at all counts as one that is set: the problem has been told.
        problems.boolean(&entry.value, "strip_prefix").unwrap_or(true)
    });
    let stripped = || Rewrite { path: Some(PathRewrite::Prefix("/".into())), host: None };
    let Some(value) = section.get("rewrite") else { return Some(strip.map(|_| stripped())) };
    let table = problems.table(value, "rewrite")?;
    let inner = Section::open(table, "`rewrite`", &value.span, &keys::REWRITE, problems);
    if let (Some(strip), Some(other)) = (strip, inner.entry("path").or_else(|| inner.entry("prefix"))) {
        problems.push(both_rewrite(strip, other));
        return None;
    }
    let host = inner.get("host").map(|value| authority(value, problems));
    let path = path_rewrite(&inner, section, problems);
    Some(Some(Rewrite {
        path: path?.or_else(|| strip.and_then(|_| stripped().path)),
        host: host.map_or(Some(None), |host| host.map(Some))?,
    }))
}

fn both_rewrite(strip: &Entry, other: &Entry) -> Diagnostic {
    Diagnostic::error("conflict", format!("`strip_prefix` and `rewrite.{}` both change the path", other.name))
        .at(other.span.clone(), "cannot stand beside `strip_prefix`")
        .related(strip.span.clone(), "the other one")
        .help("`strip_prefix = true` is the same as `rewrite = { prefix = \"/\" }`; keep one of them")
}

fn path_rewrite(inner: &Section<'_>, route: &Section<'_>, problems: &mut Problems) -> Option<Option<PathRewrite>> {
    if let Some(value) = inner.get("path") {
        return problems.path(value, "path").map(|path| Some(PathRewrite::Full(path.to_owned())));
    }
    let Some(entry) = inner.entry("prefix") else { return Some(None) };
    let prefix = problems.path(&entry.value, "prefix");
    let others = ["path_exact", "path_regex"].into_iter().find_map(|name| route.entry(name));
    if let Some(other) = others {
        problems.push(
            Diagnostic::error("conflict", format!("`rewrite.prefix` has no prefix to change in `{}`", other.name))
                .at(entry.span.clone(), "needs `path`")
                .related(other.span.clone(), "matches the whole path")
                .help("write `rewrite = { path = .. }` to change the whole path"),
        );
        return None;
    }
    // Without any `path` the prefix is `/`, and the new one goes in front of everything.
    prefix.map(|prefix| Some(PathRewrite::Prefix(prefix.to_owned())))
}

fn authority(value: &Value, problems: &mut Problems) -> Option<String> {
    let text = problems.string(value, "host")?;
    match Host::parse(text.as_bytes()) {
        Ok(host) => Some(host.to_string()),
        Err(fault) => {
            problems.bad(
                "bad-host",
                value,
                format!("`{text}` cannot be a Host: {fault}"),
                "a name, with or without a port",
            );
            None
        }
    }
}

fn edits(value: &Value, name: &str, problems: &mut Problems) -> Option<FieldEdits> {
    let table = problems.table(value, name)?;
    let section = Section::open(table, &format!("`{name}`"), &value.span, &keys::EDITS, problems);
    let remove = section.get("remove").map(|value| field_names(value, "remove", problems));
    let set = section.get("set").map(|value| fields(value, "set", problems));
    let add = section.get("add").map(|value| repeated_fields(value, problems));
    Some(FieldEdits {
        remove: remove.unwrap_or_else(|| Some(Vec::new()))?,
        set: set.unwrap_or_else(|| Some(Vec::new()))?,
        add: add.unwrap_or_else(|| Some(Vec::new()))?,
    })
}

/// A table of field names and values; every name once.
pub(super) fn fields(value: &Value, name: &str, problems: &mut Problems) -> Option<Vec<(String, String)>> {
    let table = problems.table(value, name)?;
    let mut fields: Vec<Option<(String, String)>> = Vec::with_capacity(table.entries.len());
    let mut seen = std::collections::HashSet::new();
    for entry in &table.entries {
        let field = entry_name(entry, problems);
        if let Some(field) = &field
            && !seen.insert(field.clone())
        {
            let problem = Diagnostic::error("duplicate-key", format!("the field `{field}` is set twice"));
            problems.push(problem.at(entry.span.clone(), "the case of a field name does not matter"));
        }
        let text = field_value(&entry.value, &entry.name, problems);
        fields.push(field.zip(text));
    }
    fields.into_iter().collect()
}

/// As [`fields`], where a value may be a list.
fn repeated_fields(value: &Value, problems: &mut Problems) -> Option<Vec<(String, String)>> {
    let table = problems.table(value, "add")?;
    let mut fields: Vec<Option<(String, String)>> = Vec::new();
    for entry in &table.entries {
        let field = entry_name(entry, problems);
        let items = match &entry.value.kind {
            Kind::Array(items) => items.as_slice(),
            _ => std::slice::from_ref(&entry.value),
        };
        if items.is_empty() {
            let message = format!("`{}` must not be empty", entry.name);
            problems.bad("bad-value", &entry.value, message, "nothing is listed here");
        }
        for item in items {
            fields.push(field.clone().zip(field_value(item, &entry.name, problems)));
        }
    }
    fields.into_iter().collect()
}

fn entry_name(entry: &Entry, problems: &mut Problems) -> Option<String> {
    if !is_token(&entry.name) {
        problems.push(bad_field_name(entry));
        return None;
    }
    editable(&entry.name, &entry.span, problems)
}

fn field_names(value: &Value, name: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let items = problems.strings(value, name)?;
    let names =
        items.into_iter().map(|(text, item)| editable(&field_name(text, item, problems)?, &item.span, problems));
    names.collect::<Vec<_>>().into_iter().collect()
}

/// The name in lowercase, unless a route must keep its hands off it.
fn editable(name: &str, at: &Span, problems: &mut Problems) -> Option<String> {
    let lower = name.to_ascii_lowercase();
    if lower == "host" {
        problems.push(
            Diagnostic::error("bad-header", "`host` is not edited as a field")
                .at(at.clone(), "names the target of the request")
                .help("write `rewrite = { host = \"..\" }`"),
        );
        return None;
    }
    if FRAMING.contains(&lower.as_str()) || lower.starts_with("proxy-") {
        problems.push(
            Diagnostic::error("bad-header", format!("`{lower}` belongs to the connection, not to the message"))
                .at(at.clone(), "no route may touch it")
                .help("take it out; portolan sets it as each connection needs it"),
        );
        return None;
    }
    Some(lower)
}

/// RFC 9110 §5.5, but for blanks at the ends, which no recipient would see.
fn field_value(value: &Value, name: &str, problems: &mut Problems) -> Option<String> {
    let text = problems.string(value, name)?;
    if text.chars().any(|c| c.is_control() && c != '\t') {
        let message = format!("the value of `{name}` holds a control character");
        problems.bad("bad-header", value, message, "a field is one line of text");
        return None;
    }
    Some(text.trim_matches([' ', '\t']).to_owned())
}

/// The outer `None` is a problem, the inner one `cors = false`.
fn cors(value: &Value, problems: &mut Problems) -> Option<Option<Cors>> {
    let mut cors = Cors {
        origins: CorsOrigins::Local,
        methods: None,
        headers: None,
        expose: Vec::new(),
        credentials: false,
        max_age: CORS_MAX_AGE,
    };
    let table = match &value.kind {
        Kind::Boolean(wanted) => return Some(wanted.then_some(cors)),
        Kind::Table(table) => table,
        _ => {
            problems.wrong_type(value, "cors", "true, false or a table");
            return None;
        }
    };
    let section = Section::open(table, "`cors`", &value.span, &keys::CORS, problems);
    let before = problems.count();
    if let Some(origins) = section.get("origins").and_then(|value| origins(value, problems)) {
        cors.origins = origins;
    }
    if let Some(value) = section.get("methods") {
        cors.methods = problems.methods(value, "methods");
    }
    if let Some(value) = section.get("headers") {
        cors.headers = plain_names(value, "headers", problems);
        if cors.headers.as_ref().is_some_and(Vec::is_empty) {
            problems.bad("bad-value", value, "`headers` must not be empty".into(), "nothing is listed here");
        }
    }
    if let Some(value) = section.get("expose") {
        cors.expose = plain_names(value, "expose", problems).unwrap_or_default();
    }
    if let Some(value) = section.get("credentials") {
        cors.credentials = problems.boolean(value, "credentials").unwrap_or_default();
    }
    if let Some(max_age) = section.get("max_age").and_then(|value| problems.duration(value, "max_age")) {
        cors.max_age = max_age;
    }
    if let (true, CorsOrigins::Any, Some(entry)) = (cors.credentials, &cors.origins, section.entry("credentials")) {
        problems.push(any_with_credentials(entry, &section));
    }
    (problems.count() == before).then_some(Some(cors))
}

fn any_with_credentials(entry: &Entry, section: &Section<'_>) -> Diagnostic {
    let problem = Diagnostic::error("conflict", "every origin with cookies would hand this app to every web page")
        .at(entry.span.clone(), "cannot stand beside origins = \"*\"")
        .note("browsers refuse such an answer (Fetch standard, §3.2.5)")
        .help("list the origins that may bring cookies");
    match section.entry("origins") {
        Some(origins) => problem.related(origins.span.clone(), "every origin"),
        None => problem,
    }
}

fn plain_names(value: &Value, name: &str, problems: &mut Problems) -> Option<Vec<String>> {
    let names: Vec<_> =
        problems.strings(value, name)?.into_iter().map(|(text, item)| field_name(text, item, problems)).collect();
    names.into_iter().collect()
}

fn field_name(text: &str, item: &Value, problems: &mut Problems) -> Option<String> {
    if !is_token(text) {
        let message = format!("`{text}` is not the name of a header field");
        problems.bad("bad-header", item, message, "letters, digits and hyphens");
        return None;
    }
    Some(text.to_ascii_lowercase())
}

fn origins(value: &Value, problems: &mut Problems) -> Option<CorsOrigins> {
    if let Kind::String(text) = &value.kind {
        if text == "*" {
            return Some(CorsOrigins::Any);
        }
        return origin(text, value, problems).map(|origin| CorsOrigins::Listed(vec![origin]));
    }
    let items = problems.some_strings(value, "origins")?;
    let origins: Vec<_> = items.into_iter().map(|(text, item)| origin(text, item, problems)).collect();
    origins.into_iter().collect::<Option<_>>().map(CorsOrigins::Listed)
}

/// Scheme, host and port as a browser sends them: lowercase, the scheme's own port left out.
fn origin(text: &str, value: &Value, problems: &mut Problems) -> Option<String> {
    let parsed = text.split_once("://").and_then(|(scheme, rest)| {
        let usual = match scheme {
            "http" => 80,
            "https" => 443,
            _ => return None,
        };
        let host = Host::parse(rest.as_bytes()).ok()?;
        Some(match host.port() {
            Some(port) if port != usual => format!("{scheme}://{}:{port}", host.name()),
            _ => format!("{scheme}://{}", host.name()),
        })
    });
    if parsed.is_none() {
        let problem = Diagnostic::error("bad-value", format!("`{text}` is not an origin"))
            .at(value.span.clone(), "scheme, host and port, as in http://app.localhost:62893");
        let shorter = text.strip_suffix('/').filter(|rest| rest.matches('/').count() == 2);
        problems.push(match shorter {
            Some(shorter) => problem.patch("an origin has no path", value.span.clone(), value.like_it(shorter)),
            None => problem,
        });
    }
    parsed
}
