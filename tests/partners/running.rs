//! `portolan run` with the dev servers that people really start: each is reached under its name although nobody told it
//! where to listen, and ends as if it had run alone.

use rustix::process::Signal;

use crate::{
    alone,
    client::{try_ask, until},
    dev_servers::{ANGULAR, DJANGO, DevServer, FLASK, NEXT, NODE, UVICORN, VITE, WEBPACK},
    installed::Tool::{Curl, Node, Python},
    program::Group,
};

#[test]
fn flask_run_is_reached_under_its_name() {
    alone::with(&[Python, Curl], || is_reached_and_ends(&FLASK));
}

#[test]
fn django_runserver_is_reached_under_its_name() {
    alone::with(&[Python, Curl], || is_reached_and_ends(&DJANGO));
}

#[test]
fn uvicorn_is_reached_under_its_name() {
    alone::with(&[Python, Curl], || is_reached_and_ends(&UVICORN));
}

#[test]
fn a_node_server_on_port_0_is_reached_under_its_name() {
    alone::with(&[Node, Curl], || is_reached_and_ends(&NODE));
}

#[test]
fn vite_is_reached_under_its_name() {
    alone::with(&[Node, Curl], || is_reached_and_ends(&VITE));
}

#[test]
fn next_dev_is_reached_under_its_name() {
    alone::with(&[Node, Curl], || is_reached_and_ends(&NEXT));
}

#[test]
fn ng_serve_is_reached_under_its_name() {
    alone::with(&[Node, Curl], || is_reached_and_ends(&ANGULAR));
}

#[test]
fn webpack_serve_is_reached_under_its_name() {
    alone::with(&[Node, Curl], || is_reached_and_ends(&WEBPACK));
}

/// With no flag, no table and no proxy running before, on the address that everybody knows.
fn is_reached_and_ends(server: &DevServer) {
    let workshop = server.workshop();
    let url = format!("http://{}.localhost:62893/", server.name);
    let mut command = workshop.command(env!("CARGO_BIN_EXE_portolan"));
    command.args(["run", "--"]).args(server.command);
    let mut run = Group::start(command, |_| {});

    until(&format!("{url} shows the app"), || {
        try_ask(&url).is_some_and(|answer| answer.status == 200 && answer.body.contains(server.page))
    });
    run.signal(Signal::TERM);
    assert_eq!(run.wait(), server.ended, "{} ends as it would alone", server.name);
    // Either the proxy has gone too, which nobody needs now, or it knows of no such app.
    assert!(try_ask(&url).is_none_or(|answer| answer.status == 404), "the route is gone");
    until("nobody is left", || alone::others().is_empty());
}
