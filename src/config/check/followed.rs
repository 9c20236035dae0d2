//! Programs that a target knows by something else than their port: whom it follows, and who must hold a port.

use std::path::Path;

use super::{Problems, section::Section};
use crate::{
    config::{
        Address, Pin, Sought,
        document::{Value, quoted},
    },
    diagnostic::Diagnostic,
};

/// What `{ process | dir | pid_file | container = .. }` seeks, and the value that says so. Inside, `None` means that a
/// problem was told.
pub(super) fn sought<'d>(section: &Section<'d>, problems: &mut Problems) -> Option<(Option<Sought>, &'d Value)> {
    // Each is looked at: with two of them, both may have problems of their own.
    let process = section.get("process").map(|value| (process(value, problems), value));
    let dir = section.get("dir").map(|value| (problems.file(value, "dir").map(Sought::Dir), value));
    let pid_file = section.get("pid_file").map(|value| (problems.file(value, "pid_file").map(Sought::PidFile), value));
    let port = section.get("port").and_then(|value| problems.integer(value, "port", 1, 65_535));
    let container = section.get("container").map(|value| (container(value, port, problems), value));
    process.or(dir).or(pid_file).or(container)
}

fn process(value: &Value, problems: &mut Problems) -> Option<Sought> {
    let text = problems.filled(value, "process")?;
    if !text.contains('/') {
        return Some(Sought::Process(text.to_owned()));
    }
    let problem = Diagnostic::error("bad-value", format!("no program goes by the name `{text}`"))
        .at(value.span.clone(), "a name without its folder");
    problems.push(match Path::new(text).file_name().and_then(|name| name.to_str()) {
        Some(name) => problem.patch("the name alone", value.span.clone(), quoted(name)),
        None => problem.help(format!("for the program that works in a folder write `dir = {}`", quoted(text))),
    });
    None
}

fn container(value: &Value, port: Option<i64>, problems: &mut Problems) -> Option<Sought> {
    let name = problems.filled(value, "container")?;
    if is_container_name(name) {
        return Some(Sought::Container { name: name.to_owned(), port: u16::try_from(port?).ok()? });
    }
    let problem = Diagnostic::error("bad-value", format!("no container can have the name `{name}`"))
        .at(value.span.clone(), "letters, digits, _ . and -");
    problems.push(match name.strip_prefix('/').filter(|rest| is_container_name(rest)) {
        Some(rest) => problem.patch("without the / that the engine puts before it", value.span.clone(), quoted(rest)),
        None => problem.help("`docker ps` shows the names"),
    });
    None
}

/// As Docker and Podman allow it; the services of compose have fewer characters.
fn is_container_name(name: &str) -> bool {
    name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_.-".contains(&byte))
}

/// `owner`, beside the value of `to` and what could be read from it.
pub(super) fn pin(value: &Value, to: Option<(Option<&Address>, &Value)>, problems: &mut Problems) -> Option<Pin> {
    let text = problems.filled(value, "owner")?;
    let pin =
        if text.contains('/') { Pin::Folder(problems.file(value, "owner")?) } else { Pin::Program(text.to_owned()) };
    let Some((Some(address), to)) = to.filter(|(address, _)| address.is_some_and(|to| !has_owner(to))) else {
        return Some(pin);
    };
    problems.push(
        Diagnostic::error("conflict", format!("`owner` has no meaning beside `{}`", to.text()))
            .at(value.span.clone(), "only a port of this machine has an owner that can be seen")
            .help(match address {
                Address::Followed(_) => "leave it out: a service is found by the processes that it started",
                _ => "leave it out, or write `to` as a port, such as 8000",
            }),
    );
    None
}

/// Whether the system tells who listens there.
fn has_owner(address: &Address) -> bool {
    match address {
        Address::Loopback(_) => true,
        Address::Ip(address) => address.ip().to_canonical().is_loopback(),
        Address::Name { .. } | Address::Unix(_) | Address::Followed(_) => false,
    }
}
