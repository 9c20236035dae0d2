//! Where the proxy listens, and that nobody opens it to other machines by accident.

use std::net::{IpAddr, SocketAddr};

use super::Problems;
use crate::{
    config::{
        Listen,
        document::{Kind, Table, Value, quoted},
    },
    diagnostic::{Diagnostic, Span},
};

/// `listen` and `expose` of the file; `None` when a problem was told.
pub(super) fn check(root: &Table, problems: &mut Problems) -> Option<Listen> {
    let expose = match root.get("expose") {
        Some(value) => problems.boolean(value, "expose")?,
        None => false,
    };
    match root.get("listen") {
        Some(value) => addresses(value, expose, problems),
        None => Some(Listen::default()),
    }
}

/// One place to listen on, or a list of them.
pub(super) fn addresses(value: &Value, expose: bool, problems: &mut Problems) -> Option<Listen> {
    let mut listen = Listen { required: Vec::new(), optional: Vec::new(), origin: Some(value.span.clone()) };
    let items = match &value.kind {
        Kind::Array(items) => items.as_slice(),
        _ => std::slice::from_ref(value),
    };
    if items.is_empty() {
        problems.bad("bad-value", value, "`listen` must not be empty".into(), "nothing is listed here");
    }
    let mut fine = !items.is_empty();
    for item in items {
        match place(item, problems) {
            Some(place) => fine &= add(&mut listen, place, item, expose, problems),
            None => fine = false,
        }
    }
    // An address that is bound anyway is not tried a second time.
    listen.optional.retain(|address| !listen.required.contains(address));
    fine.then_some(listen)
}

/// Parses what stood behind `--listen` or in the environment.
pub(super) fn parse(text: &str, span: Span) -> Result<Listen, Vec<Diagnostic>> {
    let mut problems = Problems::default();
    let value = Value { span, kind: Kind::String(text.to_owned()) };
    addresses(&value, false, &mut problems).ok_or(problems.list)
}

fn add(listen: &mut Listen, place: Listen, item: &Value, expose: bool, problems: &mut Problems) -> bool {
    for address in place.required {
        if listen.required.contains(&address) {
            problems.bad("conflict", item, format!("{address} is listed twice"), "here again");
            return false;
        }
        if !address.ip().to_canonical().is_loopback() && !expose {
            problems.push(exposed(address, &item.span));
            return false;
        }
        listen.required.push(address);
    }
    listen.optional.extend(place.optional);
    true
}

fn exposed(address: SocketAddr, span: &Span) -> Diagnostic {
    Diagnostic::error("exposed", format!("{address} can be reached by other machines"))
        .at(span.clone(), "beyond this machine")
        .note("whoever reaches it reaches every program that a route leads to")
        .help(format!("listen on this machine only: \"localhost:{}\"", address.port()))
        .help("or, if it is meant, write `expose = true` beside `listen` in the file")
}

fn place(value: &Value, problems: &mut Problems) -> Option<Listen> {
    let fault = match &value.kind {
        Kind::Integer(number) => match u16::try_from(*number) {
            Ok(port) => return Some(Listen::localhost(port)),
            Err(_) => Fault { label: "a port is at most 65535", instead: None },
        },
        Kind::String(text) => match parse_place(text) {
            Ok(listen) => return Some(listen),
            Err(fault) => fault,
        },
        _ => {
            problems.wrong_type(value, "listen", "a place to listen on, such as \"localhost:62893\"");
            return None;
        }
    };
    let problem = Diagnostic::error("bad-listen", format!("cannot listen on {}", value.span.text()))
        .at(value.span.clone(), fault.label);
    problems.push(match fault.instead {
        Some(instead) => problem.patch("what was probably meant", value.span.clone(), quoted(&instead)),
        None => problem.help("write \"localhost:62893\", \"127.0.0.1:62893\" or a port"),
    });
    None
}

struct Fault {
    label: &'static str,
    instead: Option<String>,
}

fn parse_place(text: &str) -> Result<Listen, Fault> {
    let fault = |label, instead| Err(Fault { label, instead });
    if let Ok(address) = text.parse::<SocketAddr>() {
        return Ok(Listen { required: vec![address], optional: Vec::new(), origin: None });
    }
    if let Some(port) = port(text) {
        return Ok(Listen::localhost(port));
    }
    if let Ok(ip) = text.trim_matches(['[', ']']).parse::<IpAddr>() {
        let with_port = SocketAddr::new(ip, crate::config::DEFAULT_PORT);
        return fault("a port is missing", Some(with_port.to_string()));
    }
    let Some((host, port_text)) = text.rsplit_once(':') else {
        return fault("neither an address nor a port", None);
    };
    let Some(port) = port(port_text) else {
        return fault("a port is a number up to 65535", None);
    };
    match host {
        "localhost" => Ok(Listen::localhost(port)),
        // Elsewhere this means every address of the machine; here it would be a guess.
        "" => fault("on which address?", Some(format!("localhost:{port}"))),
        "*" => fault("write an address, such as 0.0.0.0", None),
        _ => fault("only an address or localhost can be listened on", Some(format!("localhost:{port}"))),
    }
}

/// Digits alone; `parse` would take a sign too.
pub(super) fn port(text: &str) -> Option<u16> {
    text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse().ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn required(text: &str) -> Option<Vec<String>> {
        parse_place(text).ok().map(|listen| listen.required.iter().map(ToString::to_string).collect())
    }

    #[test]
    fn localhost_means_both_families_and_an_address_means_itself() {
        let both = parse_place("localhost:80").ok().map(|listen| (listen.required.len(), listen.optional.len()));
        assert_eq!(both, Some((1, 1)));
        assert_eq!(required("8080"), Some(vec!["127.0.0.1:8080".into()]));
        assert_eq!(required("[::1]:0"), Some(vec!["[::1]:0".into()]));
        for bad in ["", ":80", "example.test:80", "127.0.0.1", "::1", "localhost", "localhost:+1", "localhost:65536"] {
            assert_eq!(required(bad), None, "{bad}");
        }
    }
}
