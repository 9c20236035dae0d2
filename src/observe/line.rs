//! A record as one line: columns for people, or an object with OpenTelemetry's names for programs.

use std::{
    fmt::Write,
    time::{Duration, SystemTime},
};

use jiff::{Timestamp, tz::TimeZone};
use serde_json::json;

use super::{Ending, Kind, Record};

/// The widest path that is shown whole; an 80 column terminal never wraps.
const PATH: usize = 30;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// Columns.
    Text {
        /// The 16 ANSI colours.
        color: bool,
        /// `✗ ↑ ◦`, or `x ^ o` where the locale has no UTF-8.
        unicode: bool,
    },
    /// One object per line, times in RFC 3339 UTC.
    Json,
}

impl Format {
    /// Appends the line.
    pub(super) fn write(self, out: &mut String, at: SystemTime, took: Duration, record: &Record) {
        let written = match self {
            Self::Text { color, unicode } => text(out, at, took, record, color, unicode),
            Self::Json => writeln!(out, "{}", object(at, took, record)),
        };
        // Writing to a String cannot fail.
        let _ = written;
    }
}

fn text(
    out: &mut String,
    at: SystemTime,
    took: Duration,
    record: &Record,
    color: bool,
    unicode: bool,
) -> std::fmt::Result {
    let (sign, ascii, paint) = sign(record);
    let (on, off) = if color && !paint.is_empty() { (paint, "\x1b[0m") } else { ("", "") };
    let time = Timestamp::try_from(at).map(|at| at.to_zoned(TimeZone::system()).strftime("%H:%M:%S%.3f").to_string());
    let took = if record.kind == Kind::Opened { "open".to_owned() } else { duration(took) };
    let size = if record.kind == Kind::Opened || record.received == 0 { "-".to_owned() } else { size(record.received) };
    let status = if record.status == 0 { "-".to_owned() } else { record.status.to_string() };
    writeln!(
        out,
        "{}  {:<6} {on}{} {status:>3}{off} {took:>7} {size:>6}  {:<8} {:<PATH$}  {}",
        time.unwrap_or_default(),
        clean(&record.method, 12),
        if unicode { sign } else { ascii },
        clean(record.route.as_deref().unwrap_or("-"), 16),
        path(record),
        last_column(record),
    )
}

/// Unicode sign, ASCII sign, colour.
fn sign(record: &Record) -> (char, char, &'static str) {
    match record {
        _ if record.ending == Ending::Cut || record.status >= 500 => ('✗', 'x', "\x1b[31m"),
        Record { kind: Kind::Opened | Kind::Tunnel, .. } => ('↑', '^', "\x1b[36m"),
        _ if record.status >= 400 => ('!', '!', "\x1b[33m"),
        Record { kind: Kind::Answered, .. } => ('◦', 'o', ""),
        _ => (' ', ' ', ""),
    }
}

fn last_column(record: &Record) -> String {
    let mut last = record.cause.map_or_else(|| clean(&record.target, 40), str::to_owned);
    match record.kind {
        Kind::Opened => last.push_str(" upgraded"),
        Kind::Tunnel => last.push_str(&format!(" closed, {} up, {} down", size(record.sent), size(record.received))),
        Kind::Forwarded | Kind::Answered => {}
    }
    last.push_str(match record.ending {
        Ending::Whole => "",
        Ending::Left => " client left",
        Ending::Cut => " cut",
    });
    last
}

fn path(record: &Record) -> String {
    let mut path = clean(&record.path, 8192);
    if let Some(names) = query_names(record) {
        path.push('?');
        path.push_str(&clean(&names, 256));
    }
    let length = path.chars().count();
    if length <= PATH {
        return path;
    }
    let (front, back) = (PATH / 2 - 1, PATH - PATH / 2);
    path.chars().take(front).chain(['…']).chain(path.chars().skip(length - back)).collect()
}

/// The names of the query's parameters: their values may be secrets.
fn query_names(record: &Record) -> Option<String> {
    let query = record.query.as_deref().filter(|query| !query.is_empty())?;
    let names = query.split('&').map(|pair| match pair.split_once('=') {
        Some((name, _)) => format!("{name}=…"),
        None => pair.to_owned(),
    });
    Some(names.collect::<Vec<_>>().join("&"))
}

fn object(at: SystemTime, took: Duration, record: &Record) -> serde_json::Value {
    json!({
        "time": Timestamp::try_from(at).map(|at| at.to_string()).unwrap_or_default(),
        "http.request.method": clean(&record.method, 64),
        "server.address": clean(&record.host, 256),
        "url.path": clean(&record.path, 4096),
        "url.query": query_names(record).map(|names| clean(&names, 1024)),
        "http.response.status_code": (record.status != 0).then_some(record.status),
        "http.response.body.size": record.received,
        "duration_ms": (took.as_secs_f64() * 1e6).round() / 1e3,
        "route": record.route.as_deref(),
        "target": clean(&record.target, 256),
        "cause": record.cause,
        "event": match record.kind {
            Kind::Opened => "tunnel-opened",
            Kind::Tunnel => "tunnel-closed",
            Kind::Forwarded | Kind::Answered => "exchange",
        },
        "ending": match record.ending {
            Ending::Whole => "whole",
            Ending::Left => "left",
            Ending::Cut => "cut",
        },
    })
}

/// Without control characters, and no longer than `limit`.
fn clean(text: &str, limit: usize) -> String {
    let mut out = String::new();
    for c in text.chars().take(limit) {
        if c.is_control() || matches!(c, '\u{2028}' | '\u{2029}') {
            out.extend(c.escape_default());
        } else {
            out.push(c);
        }
    }
    if text.chars().nth(limit).is_some() {
        out.push('…');
    }
    out
}

fn duration(took: Duration) -> String {
    match took.as_millis() {
        0..10_000 => format!("{}ms", took.as_millis()),
        10_000..600_000 => format!("{:.1}s", took.as_secs_f64()),
        _ => format!("{}m", took.as_secs() / 60),
    }
}

fn size(bytes: u64) -> String {
    match bytes {
        0..1_000 => bytes.to_string(),
        1_000..1_000_000 => format!("{:.1}k", bytes as f64 / 1e3),
        1_000_000..1_000_000_000 => format!("{:.1}M", bytes as f64 / 1e6),
        _ => format!("{:.1}G", bytes as f64 / 1e9),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record() -> Record {
        Record {
            method: "GET".into(),
            path: "/users/42".into(),
            status: 200,
            received: 4100,
            route: Some("api".into()),
            target: ":8000".into(),
            ..Record::default()
        }
    }

    fn line(record: &Record) -> String {
        let mut out = String::new();
        let format = Format::Text { color: false, unicode: true };
        format.write(&mut out, SystemTime::UNIX_EPOCH, Duration::from_millis(12), record);
        out[12..].to_owned()
    }

    #[test]
    fn an_exchange_is_one_line_of_fixed_columns() {
        assert_eq!(line(&record()), "  GET      200    12ms   4.1k  api      /users/42                       :8000\n");
    }

    #[test]
    fn a_failure_shows_its_sign_and_its_cause() {
        let failed = Record { status: 502, received: 0, cause: Some("connect-refused"), ..record() };
        assert!(line(&failed).contains("GET    ✗ 502"), "{}", line(&failed));
        assert!(line(&failed).ends_with("connect-refused\n"));
    }

    #[test]
    fn values_of_a_query_and_control_bytes_are_never_written() {
        let secret = Record { path: "/cb\u{1b}[2J\n".into(), query: Some("code=s3cret&x".into()), ..record() };
        let line = line(&secret);
        assert!(line.contains("code=…&x"), "{line}");
        assert!(!line.contains("s3cret") && !line.contains('\u{1b}') && line.lines().count() == 1, "{line}");
    }

    #[test]
    fn a_long_path_is_shortened_in_the_middle() {
        let long = Record { path: format!("/start{}end", "x".repeat(200)), ..record() };
        assert!(line(&long).chars().count() <= 81, "{}", line(&long));
        assert!(line(&long).contains("/start") && line(&long).contains("end  "));
    }
}
