//! The log of requests on standard error: one line each, nothing secret, nothing that a terminal obeys.

use serde_json::Value;

use crate::{
    client::{Connection, get},
    folder::Folder,
    origin::{UPGRADE, echo, named},
    program::Portolan,
};

/// Requests a path that would do harm if a terminal obeyed it.
fn ask_for_harm(portolan: &Portolan) {
    let mut connection = Connection::to(portolan.address());
    let long = "long/".repeat(3000);
    // hyper refuses a raw ESC in a target, so the bytes come in fields too, and percent-encoded.
    connection.send(format!(
        "GET /a%1b[2J%0d%0ab/{long}?code=s3cret&flag HTTP/1.1\r\nhost: localhost\r\nauthorization: t0ken\r\n\
         cookie: c00kie=1\r\nuser-agent: \u{9b}31m\r\n\r\n"
    ));
    assert_eq!(connection.answer().unwrap().status, 200);
}

#[test]
fn an_exchange_is_a_line_of_columns() {
    let (web, gone) = (named("hello"), "respond = { status = 410, body = \"gone\" }");
    let table =
        format!("[routes]\nweb = {{ path = \"/\", to = {web} }}\ngone = {{ path = \"/gone\", {gone} }}\ndown = 1\n");
    let portolan = Portolan::serve(&Folder::with_table(table), &[]);
    let line = |path: &str, host: &str| {
        crate::client::get_of_host(portolan.address(), host, path);
        let line = portolan.err.wait_for(|line| line.contains("GET"));
        let (time, rest) = line.split_once("  ").unwrap();
        assert!(time.len() == 12 && time.matches(':').count() == 2, "a time of day: {line}");
        rest.split_whitespace().map(str::to_owned).collect::<Vec<_>>()
    };
    let without_time = |mut columns: Vec<String>, at: usize| {
        assert!(columns.remove(at).ends_with("ms"), "a duration");
        columns
    };
    let target = format!(":{web}");
    assert_eq!(without_time(line("/x?id=7", "localhost"), 2), ["GET", "200", "5", "web", "/x?id=…", &target]);
    assert_eq!(without_time(line("/gone", "localhost"), 3)[..5], ["GET", "!", "410", "4", "gone"]);
    let down = without_time(line("/", "down.localhost"), 3);
    assert_eq!(
        (&down[..3], down.last().unwrap().as_str()),
        (&["GET", "✗", "502"].map(str::to_owned)[..], "connect-refused")
    );
    let stranger = without_time(line("/", "example.com"), 3);
    assert_eq!((&*stranger[2], &*stranger[4], stranger.last().unwrap().as_str()), ("421", "-", "unknown-host"));
}

#[test]
fn a_file_that_came_whole_is_not_told_as_left() {
    let folder = Folder::with_table(
        "[routes]\nfiles = { path = \"/files\", files = \".\", strip_prefix = true }\n\
         mock = { path = \"/mock\", respond = { file = \"full\" } }\n\
         bare = { path = \"/bare\", respond = { file = \"empty\" } }\n",
    );
    folder.write("full", "hello");
    folder.write("empty", "");
    let portolan = Portolan::serve(&folder, &[]);
    for (path, body) in [("/files/full", "hello"), ("/files/empty", ""), ("/mock", "hello"), ("/bare", "")] {
        assert_eq!(get(portolan.address(), path).body, body);
        let line = portolan.err.wait_for(|line| line.contains(path));
        assert!(line.contains(" 200 ") && !line.contains("client left"), "{line}");
    }
}

#[test]
fn a_tunnel_is_a_line_when_it_opens_and_a_line_when_it_closes() {
    let portolan = Portolan::serve(&Folder::new(), &[&format!("/={}", echo())]);
    let mut tunnel = Connection::to(portolan.address());
    tunnel.send(UPGRADE);
    assert!(tunnel.head().unwrap().starts_with("HTTP/1.1 101"));
    let opened = portolan.err.wait_for(|line| line.contains("/echo"));
    assert!(opened.contains("↑ 101") && opened.contains("open") && opened.ends_with(" upgraded"), "{opened}");
    tunnel.send("hello\n");
    assert_eq!(tunnel.line().unwrap(), "hello\n");
    drop(tunnel);
    let closed = portolan.err.wait_for(|line| line.contains("/echo"));
    assert!(closed.ends_with(" closed, 6 up, 6 down"), "{closed}");
}

#[test]
fn lines_for_people_hold_no_secret_and_no_control_byte_and_fit_a_terminal() {
    let portolan = Portolan::serve(&Folder::new(), &[&format!("/={}", named("x"))]);
    ask_for_harm(&portolan);
    let line = portolan.err.wait_for(|line| line.contains("GET"));
    assert!(line.contains("code=…&flag"), "{line}");
    assert_harmless(&line);
    assert!(line.chars().count() <= 100, "{line}");
}

#[test]
fn lines_for_programs_are_json_with_the_names_of_opentelemetry() {
    let port = named("hello");
    let portolan = Portolan::serve(&Folder::new(), &["--json", &format!("/api={port}")]);
    get(portolan.address(), "/api/x?code=s3cret");
    let text = portolan.err.wait_for(|line| line.starts_with('{'));
    let line: Value = serde_json::from_str(&text).unwrap();
    let expected = serde_json::json!({
        "http.request.method": "GET", "server.address": "localhost", "url.path": "/api/x", "url.query": "code=…",
        "http.response.status_code": 200, "http.response.body.size": 5, "route": "api",
        "target": format!(":{port}"), "cause": null, "event": "exchange", "ending": "whole",
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&line[field], value, "{field} of {text}");
    }
    let time = line["time"].as_str().unwrap();
    assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "RFC 3339 in UTC: {time}");
    assert!(line["duration_ms"].is_number(), "{text}");

    get(portolan.address(), "/nothing");
    let text = portolan.err.wait_for(|line| line.starts_with('{'));
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!((&line["cause"], &line["route"]), (&"no-route".into(), &Value::Null), "{text}");
}

#[test]
fn lines_for_programs_hold_no_secret_and_no_control_byte_and_are_bounded() {
    let portolan = Portolan::serve(&Folder::new(), &["--json", &format!("/={}", named("x"))]);
    ask_for_harm(&portolan);
    let text = portolan.err.wait_for(|line| line.starts_with('{'));
    let line: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(line["url.query"], "code=…&flag");
    assert_harmless(&text);
    assert!(text.len() <= 8 * 1024, "{} bytes", text.len());
}

#[test]
fn the_ready_line_is_the_same_where_json_was_asked_for() {
    let portolan = Portolan::serve(&Folder::new(), &["--json", "/=1"]);
    assert_eq!(portolan.greeting.last().unwrap(), &format!("portolan ready http://{}", portolan.address()));
}

fn assert_harmless(line: &str) {
    for secret in ["s3cret", "t0ken", "c00kie"] {
        assert!(!line.contains(secret), "{secret}: {line}");
    }
    assert!(!line.chars().any(char::is_control), "{line:?}");
}
