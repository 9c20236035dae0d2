//! Why an address of ours could not be had, and what a person can do about it.
//!
//! The facts are looked up first, then a pure function words them. Another port is never taken silently.

use std::{io, net::SocketAddr};

use jiff::Zoned;

use super::{
    Listener, Owner, owner_of,
    words::{end_command, holder, place, way_to_end},
};
use crate::diagnostic::{Diagnostic, Span, without_number};

/// The first port that needs no privileges, by the custom of Unix since 4.2BSD.
const FIRST_FREE_PORT: u16 = 1024;

/// What an address is wanted for, which decides how a person chooses another one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Purpose<'a> {
    /// The proxy listens there.
    Proxy,
    /// The route of `[tcp]` with this name.
    Tcp(&'a str),
    /// The service with this name, which always opens that port.
    Service(&'a str),
}

impl Purpose<'_> {
    /// How to choose any other address: a clause.
    fn elsewhere(self) -> String {
        match self {
            Self::Proxy => "listen elsewhere: `portolan serve --listen 127.0.0.1:0`".into(),
            Self::Tcp(name) => format!("write another `listen` for TCP route `{name}`"),
            Self::Service(name) => {
                format!("write another `port` for service `{name}`, or none, and it is given a free one")
            }
        }
    }

    /// What is typed or written to choose this address: a line.
    fn line(self, address: SocketAddr) -> String {
        match self {
            Self::Proxy => format!("`portolan serve --listen {address}`"),
            Self::Tcp(name) => format!("`listen = \"{address}\"` for TCP route `{name}`"),
            Self::Service(name) => format!("`port = {}` for service `{name}`", address.port()),
        }
    }
}

/// The error of a socket that could not be bound to `wanted`, or not be made to listen there; `origin` is where the
/// address was written.
pub fn cannot_bind(wanted: SocketAddr, purpose: Purpose<'_>, origin: Option<&Span>, error: &io::Error) -> Diagnostic {
    let problem = match error.kind() {
        io::ErrorKind::AddrInUse => {
            let held = owner_of(wanted);
            let user = held.as_ref().and_then(Listener::user);
            word_taken(wanted, purpose, held.as_ref().map(|held| (held, user.as_deref())), &Zoned::now())
        }
        // A sandbox or a reserved range of Windows refuses higher ports too; there the number is not the cause.
        io::ErrorKind::PermissionDenied if wanted.port() < FIRST_FREE_PORT => word_privileged(wanted, purpose),
        io::ErrorKind::AddrNotAvailable => word_unavailable(wanted, purpose),
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

/// `port-taken`: who holds the address that was `wanted`, and what that user is called.
fn word_taken(
    wanted: SocketAddr,
    purpose: Purpose<'_>,
    held: Option<(&Listener, Option<&str>)>,
    now: &Zoned,
) -> Diagnostic {
    let problem = Diagnostic::error("port-taken", format!("{wanted} is already in use"));
    let elsewhere = purpose.elsewhere();
    let Some((listener, user)) = held else {
        return problem
            .note(
                "no listener that this user may see is there: its process has just ended, is hidden, or holds the \
                 address without listening on it",
            )
            .help(format!("try again, or {elsewhere}"));
    };
    // `held by` alone would puzzle whoever asked for 127.0.0.1 and looks for exactly that.
    let through =
        if listener.address == wanted { String::new() } else { format!(", which listens on {}", listener.address) };
    let problem = problem.note(format!("held by {}{through}", holder(listener, user, now)));
    match &listener.owner {
        Some(owner) => problem.help(way_out(owner, purpose)),
        None => problem.help(format!("end it where it was started, or {elsewhere}")),
    }
}

/// The next step, which depends on who the owner is.
fn way_out(owner: &Owner, purpose: Purpose<'_>) -> String {
    let elsewhere = purpose.elsewhere();
    match purpose {
        Purpose::Proxy if owner.pid == std::process::id() => {
            "this very portolan holds it already: name the address once".into()
        }
        _ if owner.pid == std::process::id() => format!("this very portolan listens there: {elsewhere}"),
        Purpose::Proxy if owner.is_portolan() => {
            let (pid, place, end) = (owner.pid, place(owner), end_command(owner));
            format!(
                "a portolan already serves there (pid {pid}{place}): use that one, end it with `{end}`, or {elsewhere}"
            )
        }
        _ => format!("{}, or {elsewhere}", way_to_end(owner)),
    }
}

fn word_privileged(wanted: SocketAddr, purpose: Purpose<'_>) -> Diagnostic {
    let higher = SocketAddr::new(wanted.ip(), 8000 + wanted.port());
    let problem =
        Diagnostic::error("port-privileged", format!("{wanted} needs privileges that portolan was not started with"))
            .note(format!("ports below {FIRST_FREE_PORT} are kept for the administrator here"))
            .help(format!("listen on a higher port: {}", purpose.line(higher)));
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

fn word_unavailable(wanted: SocketAddr, purpose: Purpose<'_>) -> Diagnostic {
    let note = if wanted.is_ipv6() && wanted.ip().is_loopback() {
        "IPv6 is switched off here"
    } else {
        "no network interface has that address now"
    };
    let loopback = SocketAddr::from(([127, 0, 0, 1], wanted.port()));
    Diagnostic::error("address-unavailable", format!("{wanted} is not an address of this machine"))
        .note(note)
        .help(format!("listen on the loopback address: {}", purpose.line(loopback)))
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, sync::Arc, time::SystemTime};

    use jiff::{Timestamp, tz::TimeZone};

    use super::{super::PORTOLAN, *};
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
        told_for(Purpose::Proxy, holder)
    }

    fn told_for(purpose: Purpose<'_>, holder: Option<&Listener>) -> Diagnostic {
        word_taken(wanted(), purpose, holder.map(|holder| (holder, None)), &now())
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
        let other = held(WANTED, None, super::super::words::own_uid().unwrap_or_default() + 1);
        let problem = word_taken(wanted(), Purpose::Proxy, Some((&other, Some("ada"))), &now());
        assert_eq!(problem.notes, ["held by a process of user ada (pid hidden)"]);
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
    fn the_way_out_is_that_of_whoever_asks() {
        let holder = held(WANTED, Some(node()), 1000);
        let help = |purpose| told_for(purpose, Some(&holder)).helps.remove(0);
        assert_eq!(help(Purpose::Tcp("db")), "end it with `kill 4812`, or write another `listen` for TCP route `db`");
        let service = "end it with `kill 4812`, or write another `port` for service `api`, or none, and it is given a \
                       free one";
        assert_eq!(help(Purpose::Service("api")), service);
        let higher = |purpose| word_privileged("127.0.0.1:80".parse().unwrap(), purpose).helps.remove(0);
        assert_eq!(
            higher(Purpose::Tcp("db")),
            "listen on a higher port: `listen = \"127.0.0.1:8080\"` for TCP route `db`"
        );
        assert_eq!(higher(Purpose::Service("api")), "listen on a higher port: `port = 8080` for service `api`");
    }

    #[test]
    fn another_portolan_is_in_the_way_of_what_is_not_the_proxy() {
        let owner = Owner { program: PORTOLAN.into(), ..node() };
        let problem = told_for(Purpose::Tcp("db"), Some(&held(WANTED, Some(owner), 1000)));
        assert!(problem.helps[0].starts_with("end it with `kill 4812`, or write"), "{:?}", problem.helps);
    }

    #[test]
    fn a_second_socket_on_an_address_is_told_who_has_the_first() {
        let first = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = first.local_addr().unwrap();
        let error = TcpListener::bind(address).unwrap_err();
        let problem = cannot_bind(address, Purpose::Proxy, None, &error);
        assert_eq!(problem.code, "port-taken");
        assert_eq!(problem.message, format!("{address} is already in use"));
        assert!(problem.notes[0].contains(&format!("(pid {})", std::process::id())), "{:?}", problem.notes);
    }

    #[test]
    fn an_address_of_another_machine_is_unavailable() {
        // RFC 5737 §3 keeps this network for examples: no machine has an address of it.
        let wanted = "192.0.2.1:62893".parse().unwrap();
        let problem = cannot_bind(wanted, Purpose::Proxy, Some(&origin()), &TcpListener::bind(wanted).unwrap_err());
        assert_eq!(problem.code, "address-unavailable");
        assert_eq!(problem.helps, ["listen on the loopback address: `portolan serve --listen 127.0.0.1:62893`"]);
        assert!(problem.at.is_some());
    }

    #[test]
    fn a_low_port_without_privileges_is_told_with_a_higher_one() {
        let denied = io::Error::from(io::ErrorKind::PermissionDenied);
        let problem = cannot_bind("127.0.0.1:80".parse().unwrap(), Purpose::Proxy, None, &denied);
        assert_eq!(problem.code, "port-privileged");
        assert_eq!(problem.helps[0], "listen on a higher port: `portolan serve --listen 127.0.0.1:8080`");
    }

    #[test]
    fn a_high_port_that_is_denied_is_not_called_privileged() {
        let problem = cannot_bind(wanted(), Purpose::Proxy, None, &io::Error::from(io::ErrorKind::PermissionDenied));
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
        let problem = cannot_bind(wanted(), Purpose::Proxy, None, &error);
        assert_eq!(problem.message, "cannot listen on 127.0.0.1:62893: too many open files");
    }
}
