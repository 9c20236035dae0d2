//! A route that follows a program by the folder it works in, while the program is killed and comes back on another port:
//! fifty requests a second go on, and not one of them fails.

use std::io::{self, Write as _};

use crate::{
    alone,
    client::{try_ask, until},
    dev_servers::{ANGULAR, DJANGO, DevServer, FLASK, NEXT, NODE, UVICORN, VITE, WEBPACK, Workshop},
    installed::Tool::{Curl, Node, Python},
    load::Load,
    program::Group,
    proxy::Portolan,
};

#[test]
fn flask_moves_and_no_request_fails() {
    alone::with(&[Python, Curl], || moves_and_no_request_fails(&FLASK));
}

#[test]
fn django_moves_and_no_request_fails() {
    alone::with(&[Python, Curl], || moves_and_no_request_fails(&DJANGO));
}

#[test]
fn uvicorn_moves_and_no_request_fails() {
    alone::with(&[Python, Curl], || moves_and_no_request_fails(&UVICORN));
}

#[test]
fn a_node_server_moves_and_no_request_fails() {
    alone::with(&[Node, Curl], || moves_and_no_request_fails(&NODE));
}

#[test]
fn vite_moves_and_no_request_fails() {
    alone::with(&[Node, Curl], || moves_and_no_request_fails(&VITE));
}

#[test]
fn next_moves_and_no_request_fails() {
    alone::with(&[Node, Curl], || moves_and_no_request_fails(&NEXT));
}

#[test]
fn angular_moves_and_no_request_fails() {
    alone::with(&[Node, Curl], || moves_and_no_request_fails(&ANGULAR));
}

#[test]
fn webpack_moves_and_no_request_fails() {
    alone::with(&[Node, Curl], || moves_and_no_request_fails(&WEBPACK));
}

/// One second of requests.
const SECOND: usize = 50;

/// Two ports that nobody else has in a network of one's own.
const PORTS: [u16; 2] = [7001, 7002];

fn moves_and_no_request_fails(server: &DevServer) {
    let workshop = server.workshop();
    let folder = workshop.app().display();
    let table = format!("[routes]\napp = {{ path = \"/\", to = {{ dir = \"{folder}\" }}, hold = \"60s\" }}\n");
    let portolan = Portolan::serving(&table);
    let first = start(server, &workshop, PORTS[0]);
    until("the proxy shows the app", || shows(&portolan.url("/"), server.page));

    let load = Load::on(portolan.address(), server.page);
    load.go_on_for(SECOND);
    // Killed, as a whole, in the middle of whatever it does.
    drop(first);
    let _second = start(server, &workshop, PORTS[1]);
    until("it is back", || shows(&format!("http://127.0.0.1:{}/", PORTS[1]), server.page));
    load.go_on_for(3 * SECOND);
    let figures = load.stop();

    // Not `eprintln!`, which a test that passes is not heard with.
    io::stderr().write_all(format!("{} moved: {figures}\n", server.name).as_bytes()).unwrap();
    assert!(figures.failed.is_empty(), "{:?}", figures.failed);
    assert!(figures.held > 0, "somebody asked while it was away");
}

fn start(server: &DevServer, workshop: &Workshop, port: u16) -> Group {
    let words = server.command_on(port);
    let mut command = workshop.command(&words[0]);
    command.args(&words[1..]);
    Group::start(command, |_| {})
}

fn shows(url: &str, page: &str) -> bool {
    try_ask(url).is_some_and(|answer| answer.status == 200 && answer.body.contains(page))
}
