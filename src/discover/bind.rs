//! Why an address of ours could not be had, and what a person can do about it.
//!
//! The facts are looked up first, then a pure function words them. Another port is never taken silently.

use std::{borrow::Cow, io, net::SocketAddr, time::SystemTime};

use jiff::{Timestamp, Zoned};

use super::{Listener, Owner, owner_of};
use crate::diagnostic::{Diagnostic, Span, shown, without_number};

/// Lets the system choose a port that is free.
const ELSEWHERE: &str = "listen elsewhere: `portolan serve --listen 127.0.0.1:0`";

/// The first port that needs no privileges, by the custom of Unix since 4.2BSD.
const FIRST_FREE_PORT: u16 = 1024;

/// How many characters of a command line are told: enough to know it by, and one line of a terminal.
const COMMAND_LENGTH: usize = 80;

/// The name of our own executable.
pub(super) const PORTOLAN: &str = env!("CARGO_PKG_NAME");

/// The error of a socket that could not be bound to `wanted`, or not be made to listen there.
pub fn cannot_bind(wanted: SocketAddr, origin: Option<&Span>, error: &io::Error) -> Diagnostic {
    let problem = match error.kind() {
        io::ErrorKind::AddrInUse => word_taken(wanted, owner_of(wanted).as_ref(), &Zoned::now()),
        // A sandbox or a reserved range of Windows refuses higher ports too; there the number is not the cause.
        io::ErrorKind::PermissionDenied if wanted.port() < FIRST_FREE_PORT => word_privileged(wanted),
        io::ErrorKind::AddrNotAvailable => word_unavailable(wanted),
        _ => Diagnostic::error("cannot-listen", format!("cannot listen on {wanted}: {}", without_number(error))),
    };
    placed(problem, origin)
}

fn placed(diagnostic: Diagnostic, origin: Option<&Span>) -> Diagnostic {
    match origin {
        Some(origin) => diagnostic.at(origin.clone(), "asked for here"),
        None => diagnostic,
    }
}

/// `port-taken`: who holds the address that was `wanted`.
fn word_taken(wanted: SocketAddr, holder: Option<&Listener>, now: &Zoned) -> Diagnostic {
    let problem = Diagnostic::error("port-taken", format!("{wanted} is already in use"));
    let Some(holder) = holder else {
        return problem
            .note(
                "no listener that this user may see is there: its process has just ended, is hidden, or holds the \
                 address without listening on it",
            )
            .help(format!("try again, or {ELSEWHERE}"));
    };
    // `held by` alone would puzzle whoever asked for 127.0.0.1 and looks for exactly that.
    let through =
        if holder.address == wanted { String::new() } else { format!(", which listens on {}", holder.address) };
    let Some(owner) = &holder.owner else {
        return problem
            .note(format!("held by {}{through}", unseen(holder.uid)))
            .help(format!("end it where it was started, or {ELSEWHERE}"));
    };
    let place = owner.folder.as_deref().map(|folder| format!(" in {}", shown(folder))).unwrap_or_default();
    let since = owner.started.and_then(|started| since(started, now)).unwrap_or_default();
    let command = shortened(&owner.command);
    problem.note(format!("held by `{command}` (pid {}){place}{since}{through}", owner.pid)).help(way_out(owner, &place))
}

/// The next step, which depends on who the owner is.
fn way_out(owner: &Owner, place: &str) -> String {
    let pid = owner.pid;
    let end = if cfg!(windows) { format!("taskkill /pid {pid}") } else { format!("kill {pid}") };
    if pid == std::process::id() {
        "this very portolan holds it already: name the address once".into()
    } else if owner.program == PORTOLAN {
        format!("a portolan already serves there (pid {pid}{place}): use that one, end it with `{end}`, or {ELSEWHERE}")
    } else {
        format!("end it with `{end}`, or {ELSEWHERE}")
    }
}

/// A holder of whom only the user is known, if that.
fn unseen(uid: Option<u32>) -> String {
    match uid {
        Some(uid) if own_uid() == Some(uid) => {
            format!("a process of this user (uid {uid}) that cannot be seen from here")
        }
        Some(uid) => format!("a process of another user (uid {uid})"),
        None => "a process that this user may not see".into(),
    }
}

/// The user that asks; `None` where users are no numbers.
#[cfg(unix)]
pub(super) fn own_uid() -> Option<u32> {
    Some(rustix::process::geteuid().as_raw())
}

/// The user that asks; `None` where users are no numbers.
#[cfg(not(unix))]
pub(super) fn own_uid() -> Option<u32> {
    None
}

/// `, since 09:14`, with the date when that was not today.
pub(super) fn since(started: SystemTime, now: &Zoned) -> Option<String> {
    let started = Timestamp::try_from(started).ok()?.to_zoned(now.time_zone().clone());
    let format = if started.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    // Where the system does not tell its time zone, times are UTC and must not pass for local ones.
    let zone = if now.time_zone().is_unknown() { " UTC" } else { "" };
    Some(format!(", since {}{zone}", started.strftime(format)))
}

/// The start of a long command.
fn shortened(command: &str) -> Cow<'_, str> {
    match command.char_indices().nth(COMMAND_LENGTH) {
        Some((end, _)) => format!("{}…", command[..end].trim_end()).into(),
        None => command.into(),
    }
}

fn word_privileged(wanted: SocketAddr) -> Diagnostic {
    let free = SocketAddr::new(wanted.ip(), 8000 + wanted.port());
    let problem =
        Diagnostic::error("port-privileged", format!("{wanted} needs privileges that portolan was not started with"))
            .note(format!("ports below {FIRST_FREE_PORT} are kept for the administrator here"))
            .help(format!("listen on a higher port: `portolan serve --listen {free}`"));
    if cfg!(target_os = "linux") {
        let port = wanted.port();
        problem.help(format!(
            "or open this port, and those above it, to everyone on this machine: \
             `sudo sysctl net.ipv4.ip_unprivileged_port_start={port}`"
        ))
    } else {
        problem
    }
}

fn word_unavailable(wanted: SocketAddr) -> Diagnostic {
    let note = if wanted.is_ipv6() && wanted.ip().is_loopback() {
        "IPv6 is switched off here"
    } else {
        "no network interface has that address now"
    };
    Diagnostic::error("address-unavailable", format!("{wanted} is not an address of this machine"))
        .note(note)
        .help(format!("listen on the loopback address: `portolan serve --listen 127.0.0.1:{}`", wanted.port()))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, sync::Arc, time::Duration};

    use jiff::tz::{TimeZone, offset};

    use super::*;
    use crate::diagnostic::{Source, render};

    const WANTED: &str = "127.0.0.1:62893";

    fn wanted() -> SocketAddr {
        WANTED.parse().unwrap()
    }

    fn now() -> Zoned {
        "2025-11-23T11:00Z".parse::<Timestamp>().unwrap().to_zoned(TimeZone::UTC)
    }

    fn at(time: &str) -> SystemTime {
        format!("{time}Z").parse::<Timestamp>().unwrap().into()
    }

    fn node() -> Owner {
        Owner {
            pid: 4812,
            program: "node".into(),
            command: "node server.js".into(),
            folder: Some("/srv/shop/web".into()),
            started: Some(at("2025-11-23T09:14:30")),
        }
    }

    fn held(address: &str, owner: Option<Owner>, uid: u32) -> Listener {
        Listener { address: address.parse().unwrap(), owner, uid: Some(uid) }
    }

    fn told(holder: Option<&Listener>) -> Diagnostic {
        word_taken(wanted(), holder, &now())
    }

    fn origin() -> Span {
        let text = "listen = \"localhost:62893\"\n";
        let source = Source { name: "portolan.toml".into(), path: None, text: text.into() };
        Span { source: Arc::new(source), range: 9..26 }
    }

    #[test]
    fn a_taken_port_names_its_holder_and_the_way_out() {
        let problem = placed(told(Some(&held(WANTED, Some(node()), 1000))), Some(&origin()));
        let expected = "\
error[port-taken]: 127.0.0.1:62893 is already in use
 --> portolan.toml:1:10
  |
1 | listen = \"localhost:62893\"
  |          ^^^^^^^^^^^^^^^^^ asked for here
  |
  = note: held by `node server.js` (pid 4812) in /srv/shop/web, since 09:14
  = help: end it with `kill 4812`, or listen elsewhere: `portolan serve --listen 127.0.0.1:0`
";
        assert_eq!(render(&[problem], false), expected);
    }

    #[test]
    fn a_holder_of_the_wildcard_is_told_with_its_address() {
        let problem = told(Some(&held("[::]:62893", Some(node()), 1000)));
        assert!(problem.notes[0].ends_with(", since 09:14, which listens on [::]:62893"), "{:?}", problem.notes);
    }

    #[test]
    fn a_process_of_another_user_is_told_by_its_user() {
        let other = own_uid().unwrap_or_default() + 1;
        let problem = told(Some(&held(WANTED, None, other)));
        assert_eq!(problem.notes, [format!("held by a process of another user (uid {other})")]);
        assert!(!problem.helps[0].contains("kill"), "{:?}", problem.helps);
    }

    #[test]
    fn a_holder_that_cannot_be_found_is_not_made_up() {
        let problem = told(None);
        assert!(problem.notes[0].starts_with("no listener that this user may see is there"), "{:?}", problem.notes);
    }

    #[test]
    fn a_portolan_that_serves_there_already_is_recognised() {
        let owner = Owner { program: PORTOLAN.into(), command: "portolan serve".into(), ..node() };
        let problem = told(Some(&held(WANTED, Some(owner), 1000)));
        let expected =
            "a portolan already serves there (pid 4812 in /srv/shop/web): use that one, end it with `kill 4812`, or ";
        assert!(problem.helps[0].starts_with(expected), "{:?}", problem.helps);
    }

    #[test]
    fn an_address_that_is_written_twice_is_not_ended_with_kill() {
        let owner = Owner { pid: std::process::id(), ..node() };
        let problem = told(Some(&held(WANTED, Some(owner), 1000)));
        assert_eq!(problem.helps, ["this very portolan holds it already: name the address once"]);
    }

    #[test]
    fn a_start_on_another_day_is_told_with_its_date() {
        assert_eq!(since(at("2025-11-20T23:05:00"), &now()).as_deref(), Some(", since 2025-11-20 23:05"));
        assert_eq!(since(at("2025-11-23T00:00:00"), &now()).as_deref(), Some(", since 00:00"));
    }

    #[test]
    fn a_start_is_told_in_local_time_or_says_that_it_is_not() {
        let there = now().with_time_zone(TimeZone::fixed(offset(2)));
        assert_eq!(since(at("2025-11-23T09:14:30"), &there).as_deref(), Some(", since 11:14"));
        let nowhere = now().with_time_zone(TimeZone::unknown());
        assert_eq!(since(at("2025-11-23T09:14:30"), &nowhere).as_deref(), Some(", since 09:14 UTC"));
    }

    #[test]
    fn a_start_beyond_every_calendar_is_left_out() {
        let never = SystemTime::UNIX_EPOCH + Duration::from_secs(1 << 40);
        assert_eq!(since(never, &now()), None);
    }

    #[test]
    fn a_long_command_is_cut_between_characters() {
        let command = "é".repeat(COMMAND_LENGTH + 1);
        assert_eq!(shortened(&command), format!("{}…", "é".repeat(COMMAND_LENGTH)));
        assert_eq!(shortened("node server.js"), "node server.js");
    }

    #[test]
    fn a_second_socket_on_an_address_is_told_who_has_the_first() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let error = TcpListener::bind(address).unwrap_err();
        let problem = cannot_bind(address, None, &error);
        assert_eq!(problem.code, "port-taken");
        assert_eq!(problem.message, format!("{address} is already in use"));
        assert!(problem.notes[0].contains(&format!("(pid {})", std::process::id())), "{:?}", problem.notes);
    }

    #[test]
    fn an_address_of_another_machine_is_unavailable() {
        // RFC 5737 §3 keeps this network for examples: no machine has an address of it.
        let wanted = "192.0.2.1:62893".parse().unwrap();
        let problem = cannot_bind(wanted, Some(&origin()), &TcpListener::bind(wanted).unwrap_err());
        assert_eq!(problem.code, "address-unavailable");
        assert_eq!(problem.helps, ["listen on the loopback address: `portolan serve --listen 127.0.0.1:62893`"]);
        assert!(problem.at.is_some());
    }

    #[test]
    fn a_low_port_without_privileges_is_told_with_a_higher_one() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let problem = cannot_bind("127.0.0.1:80".parse().unwrap(), None, &denied);
        assert_eq!(problem.code, "port-privileged");
        assert_eq!(problem.helps[0], "listen on a higher port: `portolan serve --listen 127.0.0.1:8080`");
    }

    #[test]
    fn a_high_port_that_is_denied_is_not_called_privileged() {
        let problem = cannot_bind(wanted(), None, &io::Error::from(io::ErrorKind::PermissionDenied));
        assert_eq!(
            (problem.code, problem.message.as_str()),
            ("cannot-listen", "cannot listen on 127.0.0.1:62893: permission denied")
        );
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn words_of_the_system_come_without_its_number() {
        let error = io::Error::from(rustix::io::Errno::MFILE);
        assert!(error.to_string().contains("os error"), "{error}");
        let problem = cannot_bind(wanted(), None, &error);
        assert_eq!(problem.message, "cannot listen on 127.0.0.1:62893: too many open files");
    }
}
