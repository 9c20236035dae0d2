//! What answers: `to`, `redirect`, `respond`, `files`, and what only they may have.

use std::{
    path::{Component, Path, PathBuf},
    time::Duration,
};

use super::{Problems, filters, section::Section, services::Services, targets};
use crate::{
    config::{
        Action, Address, Balance, Files, Forward, HOLD, Health, Protocol, Redirect, Respond, RespondBody, Sought,
        Target,
        document::{Kind, Value, quoted},
        keys,
    },
    diagnostic::Diagnostic,
};

/// A program on this machine answers a connection at once or is stuck.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);
/// A paused debugger is normal here, so patience is too.
const TIMEOUT: Duration = Duration::from_secs(300);
/// Once: a connection that the program closed just then.
const RETRIES: u8 = 1;
const HEALTH_INTERVAL: Duration = Duration::from_secs(2);
const HEALTH_TIMEOUT: Duration = Duration::from_secs(1);
/// 302 as everywhere; a permanent one would stick in the browser long after the experiment.
const REDIRECT_STATUS: u16 = 302;

/// The action of a route; `None` when a problem was told, of which a missing or second action is one.
pub(super) fn check(section: &Section<'_>, services: &Services<'_>, problems: &mut Problems) -> Option<Action> {
    // Every action is looked at: with two of them, both may have problems of their own.
    let forward = section.get("to").map(|to| forward(to, section, services, problems).map(Action::Forward));
    let redirect = section.get("redirect").map(|value| redirect(value, problems).map(Action::Redirect));
    let respond = section.get("respond").map(|value| respond(value, problems).map(Action::Respond));
    let files = section.get("files").map(|value| files(value, section, problems).map(Action::Files));
    forward.or(redirect).or(respond).or(files)?
}

/// A forward without any of the keys beside `to`.
pub fn plain_forward(targets: Vec<Target>) -> Forward {
    // Whom we start, we can wait for; what others start may never come.
    let is_ours = |target: &Target| matches!(target.address, Address::Followed(Sought::Service(_) | Sought::Run(_)));
    let hold = targets.iter().any(is_ours).then_some(HOLD);
    Forward {
        targets,
        balance: Balance::default(),
        health: None,
        connect_timeout: CONNECT_TIMEOUT,
        timeout: TIMEOUT,
        retries: RETRIES,
        hold,
        near: None,
    }
}

/// Looks at the values of keys that [`Section::open`] refuses in this version, so that they are right once it can.
pub(super) fn tell_not_yet(section: &Section<'_>, services: &Services<'_>, problems: &mut Problems) {
    if let Some(value) = section.get("mirror") {
        targets::address(value, services, problems);
    }
    if let Some(value) = section.get("fault") {
        fault(value, problems);
    }
}

fn fault(value: &Value, problems: &mut Problems) {
    let Some(table) = problems.table(value, "fault") else { return };
    let section = Section::open(table, "`fault`", &value.span, &keys::FAULT, problems);
    for name in ["delay", "jitter"] {
        if let Some(value) = section.get(name) {
            problems.duration(value, name);
        }
    }
    for (name, low, high) in
        [("abort", 200, 599), ("bandwidth", 1, i64::MAX), ("first", 1, i64::MAX), ("seed", 0, i64::MAX)]
    {
        if let Some(value) = section.get(name) {
            problems.integer(value, name, low, high);
        }
    }
    if let Some(value) = section.get("reset") {
        problems.boolean(value, "reset");
    }
    if let Some(value) = section.get("percent") {
        percent(value, problems);
    }
}

fn percent(value: &Value, problems: &mut Problems) {
    let number = match value.kind {
        Kind::Integer(number) => u32::try_from(number).map_or(f64::NAN, f64::from),
        Kind::Float(number) => number,
        _ => return problems.wrong_type(value, "percent", "a number"),
    };
    if !(0.0..=100.0).contains(&number) {
        problems.bad("bad-value", value, "`percent` must be from 0 to 100".into(), "out of bounds");
    }
}

fn forward(to: &Value, section: &Section<'_>, services: &Services<'_>, problems: &mut Problems) -> Option<Forward> {
    let targets = targets::targets(to, services, problems);
    let balance = section.get("balance").map(|value| balance(value, problems));
    let health = section.get("health").map(|value| health(value, problems));
    let connect_timeout = section.get("connect_timeout").map(|value| problems.duration(value, "connect_timeout"));
    let timeout = section.get("timeout").map(|value| problems.duration(value, "timeout"));
    let retries = section.get("retries").map(|value| problems.integer(value, "retries", 0, 10));
    let hold = section.get("hold").map(|value| hold(value, problems));
    let insecure = section.get("insecure").map(|value| (value, problems.boolean(value, "insecure")));
    let mut plain = plain_forward(targets?);
    if let Some((value, insecure)) = insecure {
        trust_any(value, insecure?, &mut plain.targets, problems);
    }
    Some(Forward {
        balance: balance.unwrap_or(Some(plain.balance))?,
        health: health.map_or(Some(None), |health| health.map(Some))?,
        connect_timeout: connect_timeout.unwrap_or(Some(plain.connect_timeout))?,
        timeout: timeout.unwrap_or(Some(plain.timeout))?,
        retries: match retries {
            Some(retries) => u8::try_from(retries?).ok()?,
            None => plain.retries,
        },
        hold: hold.unwrap_or(Some(plain.hold))?,
        targets: plain.targets,
        near: None,
    })
}

/// Has the targets over TLS show what certificate they like.
fn trust_any(value: &Value, any: bool, targets: &mut [Target], problems: &mut Problems) {
    let mut has_https = false;
    for target in targets {
        if let Protocol::Https { insecure } = &mut target.protocol {
            (*insecure, has_https) = (any, true);
        }
    }
    if !has_https {
        let message = "`insecure` is for targets that begin with https://".to_owned();
        problems.bad("conflict", value, message, "no target of this route shows a certificate");
    }
}

/// How long, or not at all.
pub(super) fn hold(value: &Value, problems: &mut Problems) -> Option<Option<Duration>> {
    let (with, message) = match &value.kind {
        Kind::Boolean(false) => return Some(None),
        Kind::Boolean(true) => (quoted(&format!("{}s", HOLD.as_secs())), "the time that services get"),
        _ if matches!(value.text(), "0" | "0s" | "0ms") => ("false".into(), "if nothing shall wait"),
        _ => return problems.duration(value, "hold").map(Some),
    };
    let problem = Diagnostic::error("bad-duration", "`hold` must be a duration such as \"10s\", or false");
    problems.push(problem.at(value.span.clone(), "how long?").patch(message, value.span.clone(), with));
    None
}

pub(super) fn balance(value: &Value, problems: &mut Problems) -> Option<Balance> {
    match problems.string(value, "balance")? {
        "round_robin" => Some(Balance::RoundRobin),
        "least_requests" => Some(Balance::LeastRequests),
        "random" => Some(Balance::Random),
        other => {
            let message = format!("`{other}` is not a way to choose one of several targets");
            problems.bad("bad-value", value, message, "round_robin, least_requests or random");
            None
        }
    }
}

fn health(value: &Value, problems: &mut Problems) -> Option<Health> {
    let table = problems.table(value, "health")?;
    let section = Section::open(table, "`health`", &value.span, &keys::HEALTH, problems);
    let path = section.get("path").and_then(|path| problems.path(path, "path"));
    let interval = section.get("interval").map(|value| problems.duration(value, "interval"));
    let timeout = section.get("timeout").map(|value| problems.duration(value, "timeout"));
    Some(Health {
        path: path?.to_owned(),
        interval: interval.unwrap_or(Some(HEALTH_INTERVAL))?,
        timeout: timeout.unwrap_or(Some(HEALTH_TIMEOUT))?,
    })
}

fn redirect(value: &Value, problems: &mut Problems) -> Option<Redirect> {
    let Kind::Table(table) = &value.kind else {
        let to = location(value, "redirect", problems)?;
        return Some(Redirect { to, status: REDIRECT_STATUS });
    };
    let section = Section::open(table, "`redirect`", &value.span, &keys::REDIRECT, problems);
    let status = section.get("status").map(|value| redirect_status(value, problems));
    let to = section.get("to").and_then(|to| location(to, "to", problems));
    Some(Redirect { to: to?, status: status.unwrap_or(Some(REDIRECT_STATUS))? })
}

fn redirect_status(value: &Value, problems: &mut Problems) -> Option<u16> {
    let number = problems.integer(value, "status", i64::MIN, i64::MAX)?;
    let known = keys::REDIRECT_STATUSES.into_iter().find(|status| i64::from(*status) == number);
    if known.is_none() {
        problems.bad("bad-value", value, format!("{number} is not a redirect"), "301, 302, 303, 307 or 308");
    }
    known
}

/// A Location value: visible ASCII, a path or a whole URL.
fn location(value: &Value, name: &str, problems: &mut Problems) -> Option<String> {
    let text = problems.short(value, name, "bad-value")?;
    let whole = ["/", "http://", "https://"].iter().any(|start| text.starts_with(start));
    let label = if !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        "write blanks, control and other characters percent-encoded"
    } else if !whole {
        "begins neither with / nor with http:// or https://"
    } else {
        return Some(text.to_owned());
    };
    problems.bad("bad-value", value, format!("`{text}` is no place to redirect to"), label);
    None
}

fn respond(value: &Value, problems: &mut Problems) -> Option<Respond> {
    let Kind::Table(table) = &value.kind else {
        let text = problems.string(value, "respond")?;
        return Some(Respond { status: 200, headers: Vec::new(), body: RespondBody::Text(text.to_owned()) });
    };
    let section = Section::open(table, "`respond`", &value.span, &keys::RESPOND, problems);
    let status = section.get("status").map(|value| problems.integer(value, "status", 200, 599));
    let headers = section.get("headers").map(|value| filters::fields(value, "headers", problems));
    let body = respond_body(&section, problems);
    let (body, headers) = (body?, headers.unwrap_or(Some(Vec::new()))?);
    let status = match status {
        Some(status) => u16::try_from(status?).ok()?,
        None if body == RespondBody::Empty => 204,
        None => 200,
    };
    // RFC 9110 §15.3.5, §15.3.6, §15.4.5: these have no content.
    if matches!(status, 204 | 205 | 304) && body != RespondBody::Empty {
        let at = section.get("status").unwrap_or(value);
        problems.bad("conflict", at, format!("an answer with status {status} has no body"), "but one is written");
        return None;
    }
    Some(Respond { status, headers, body })
}

fn respond_body(section: &Section<'_>, problems: &mut Problems) -> Option<RespondBody> {
    if let Some(value) = section.get("body") {
        return problems.string(value, "body").map(|text| RespondBody::Text(text.to_owned()));
    }
    if let Some(value) = section.get("json") {
        return json(value, problems).map(|json| RespondBody::Json(json.to_string()));
    }
    if let Some(value) = section.get("file") {
        return problems.file(value, "file").map(RespondBody::File);
    }
    Some(RespondBody::Empty)
}

fn json(value: &Value, problems: &mut Problems) -> Option<serde_json::Value> {
    Some(match &value.kind {
        Kind::String(text) | Kind::Datetime(text) => text.as_str().into(),
        Kind::Integer(number) => (*number).into(),
        Kind::Float(number) => match serde_json::Number::from_f64(*number) {
            Some(number) => number.into(),
            None => {
                problems.bad("bad-value", value, "JSON has no such number".into(), "neither inf nor nan");
                return None;
            }
        },
        Kind::Boolean(truth) => (*truth).into(),
        Kind::Array(items) => items.iter().map(|item| json(item, problems)).collect::<Option<Vec<_>>>()?.into(),
        Kind::Table(table) => {
            let members = table.entries.iter().map(|entry| Some((entry.name.clone(), json(&entry.value, problems)?)));
            serde_json::Value::Object(members.collect::<Option<_>>()?)
        }
    })
}

fn files(value: &Value, section: &Section<'_>, problems: &mut Problems) -> Option<Files> {
    let root = problems.file(value, "files");
    let fallback = section.get("fallback").map(|value| fallback(value, problems));
    Some(Files { root: root?, fallback: fallback.map_or(Some(None), |fallback| fallback.map(Some))? })
}

/// A file beneath the folder: no way leads out of it, not even by name.
fn fallback(value: &Value, problems: &mut Problems) -> Option<PathBuf> {
    let text = problems.filled(value, "fallback")?;
    let path = Path::new(text);
    let inside = path.components().all(|part| matches!(part, Component::Normal(_) | Component::CurDir));
    if !inside || text.contains('\0') {
        let message = "`fallback` must be a file in the folder that `files` names";
        problems.bad("bad-value", value, message.into(), "seen from that folder, without ..");
        return None;
    }
    Some(path.to_owned())
}
