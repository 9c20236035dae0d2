//! `demo`: every URL that it prints answers, on a machine with nothing installed.

use rustix::process::Signal;

use crate::{
    client::{Connection, get_of_host, request_of_host},
    folder::Folder,
    program::{Portolan, portolan},
};

/// The host and the path of a URL in a line such as `web  http://localhost:1234/  -> :5678`.
fn url(line: &str) -> (String, String) {
    let url = line.split_whitespace().find_map(|word| word.strip_prefix("http://")).unwrap();
    let (authority, path) = url.split_once('/').unwrap();
    (authority.to_owned(), format!("/{path}"))
}

#[test]
fn every_url_that_the_demo_prints_answers() {
    let mut portolan = Portolan::start(portolan(&Folder::new(), &["demo", "--listen", "127.0.0.1:0"]));
    let (_, routes) = portolan.greeting.split_last().unwrap();
    let names: Vec<_> = routes.iter().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, ["web", "api", "docs", "me", "gone"]);
    for (name, line) in names.iter().zip(routes) {
        let (host, path) = url(line);
        assert!(host.ends_with(&format!(":{}", portolan.address().port())), "{line}");
        let answer = get_of_host(portolan.address(), &host, &path);
        match *name {
            // What it shows: a port where nobody listens.
            "gone" => assert_eq!((answer.status, answer.field("x-portolan-error")), (502, Some("connect-refused"))),
            "api" => assert!(answer.status == 200 && answer.body.contains("hello from port"), "{answer:?}"),
            _ => assert_eq!(answer.status, 200, "{line}: {answer:?}"),
        }
    }
    portolan.signal(Signal::TERM);
    assert_eq!(portolan.wait(), 0);
}

#[test]
fn the_clock_of_the_demo_streams() {
    let portolan = Portolan::start(portolan(&Folder::new(), &["demo", "--listen", "127.0.0.1:0"]));
    let mut clock = Connection::to(portolan.address());
    clock.send(request_of_host("localhost", "/api/clock"));
    assert!(clock.head().unwrap().contains("text/event-stream"));
    for _ in 0..2 {
        let event = clock.chunk().unwrap().expect("an event");
        assert!(event.starts_with(b"data: ") && event.ends_with(b"\n\n"), "{event:?}");
    }
}
