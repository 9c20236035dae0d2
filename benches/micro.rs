//! What one look-up and one head cost, without sockets: `cargo bench --bench micro`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot begin ends, and says why")]

use std::fmt::Write;

use divan::{Bencher, black_box};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Uri, request};
use portolan::{
    config::{FieldEdits, load},
    forward::{
        Client,
        head::{self, Checked, Hops, Outgoing},
    },
    head::{FieldList, Host, RequestHead},
    table::Table,
};

fn main() {
    divan::main();
}

/// A table of `count` routes, by path and by host in turn, behind a catch-all.
fn table(count: usize) -> Table {
    let mut text = "[routes]\nall = { path = \"/\", to = 50000 }\n".to_owned();
    for n in 1..count {
        let place = if n % 2 == 0 { format!("path = \"/s{n}/v1\"") } else { format!("host = \"s{n}.localhost\"") };
        writeln!(text, "r{n} = {{ {place}, to = {} }}", 50_001 + n % 10_000).expect("a string takes everything");
    }
    let config = load::from_str("bench", &text, None).config.expect("a good table");
    Table::compile(&config.routes).expect("a table")
}

#[divan::bench(args = [10, 10_000])]
fn find_by_path(bencher: Bencher<'_, '_>, routes: usize) {
    find(bencher, routes, "localhost:62893", "/s8/v1/users/42");
}

#[divan::bench(args = [10, 10_000])]
fn find_by_host(bencher: Bencher<'_, '_>, routes: usize) {
    find(bencher, routes, "s7.localhost:62893", "/users/42");
}

#[divan::bench(args = [10, 10_000])]
fn find_the_catch_all(bencher: Bencher<'_, '_>, routes: usize) {
    find(bencher, routes, "localhost:62893", "/assets/index-4f3a.js");
}

fn find(bencher: Bencher<'_, '_>, routes: usize, host: &str, path: &str) {
    let table = table(routes);
    let host = Host::parse(host.as_bytes()).expect("a host");
    let fields = FieldList::default();
    bencher.bench(|| {
        let head = RequestHead { method: "GET", path: black_box(path), query: None, host: &host, fields: &fields };
        table.find(&head).is_some()
    });
}

/// Two fields as a load generator sends them, 25 with a cookie of 1 KB as a browser does.
fn request(fields: usize) -> request::Parts {
    let mut headers = HeaderMap::new();
    headers.insert("host", HeaderValue::from_static("localhost:62893"));
    headers.insert("connection", HeaderValue::from_static("keep-alive"));
    for n in headers.len()..fields {
        let name = HeaderName::try_from(format!("sec-field-{n}")).expect("a name");
        let value = if n == 5 { "c".repeat(1024) } else { format!("value of field {n}") };
        headers.insert(name, HeaderValue::try_from(value).expect("a value"));
    }
    let (mut parts, ()) = Request::new(()).into_parts();
    (parts.method, parts.uri, parts.headers) = (Method::GET, Uri::from_static("/users/42?page=2"), headers);
    parts
}

#[divan::bench(args = [2, 25])]
fn check_a_head(bencher: Bencher<'_, '_>, fields: usize) {
    let (parts, client) = (request(fields), client());
    bencher.bench(|| head::check(black_box(&parts), &client).is_ok());
}

#[divan::bench(args = [2, 25])]
fn rewrite_a_head(bencher: Bencher<'_, '_>, fields: usize) {
    let (parts, client) = (request(fields), client());
    let checked: Checked = head::check(&parts, &client).expect("a good head");
    let (via, edits) = (HeaderValue::from_static("1.1 portolan:62893"), FieldEdits::default());
    let outgoing = Outgoing {
        client: &client,
        checked: &checked,
        via: &via,
        target: None,
        authority: None,
        edits: &edits,
        upgrade: None,
        hops: Hops::Unlimited,
    };
    bencher.bench(|| (outgoing.uri(black_box(&parts.uri)), outgoing.fields(black_box(&parts.headers))));
}

fn client() -> Client {
    Client::new(([127, 0, 0, 1], 50_000).into(), ([127, 0, 0, 1], 62_893).into())
}
