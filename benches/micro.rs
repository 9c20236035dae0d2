//! What one look-up and one head cost, without sockets: `cargo bench --bench micro`.

#![expect(clippy::expect_used, reason = "a benchmark that cannot begin ends, and says why")]

use std::{fmt::Write, sync::Arc};

use divan::{Bencher, black_box};
use portolan::{
    config::{NO_EDITS, load},
    forward::{
        Client, WayIn,
        head::{self, Hops, Outgoing},
    },
    head::{FieldList, Host, RequestHead},
    http1::head::{Read, Request},
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
fn request(fields: usize) -> Vec<u8> {
    let mut head = "GET /users/42?page=2 HTTP/1.1\r\nHost: localhost:62893\r\nConnection: keep-alive\r\n".to_owned();
    for n in 2..fields {
        let value = if n == 5 { "c".repeat(1024) } else { format!("value of field {n}") };
        write!(head, "Sec-Field-{n}: {value}\r\n").expect("a string takes everything");
    }
    head += "\r\n";
    head.into_bytes()
}

fn read(bytes: &[u8]) -> Request {
    match Request::read(bytes) {
        Ok(Read::Whole(request, _)) => request,
        other => unreachable!("a whole head is {other:?}"),
    }
}

#[divan::bench(args = [2, 25])]
fn read_a_head(bencher: Bencher<'_, '_>, fields: usize) {
    let bytes = request(fields);
    bencher.bench(|| drop(read(black_box(&bytes))));
}

#[divan::bench(args = [2, 25])]
fn check_a_head(bencher: Bencher<'_, '_>, fields: usize) {
    let request = read(&request(fields));
    bencher.bench(|| head::check(black_box(&request), None).is_ok());
}

#[divan::bench(args = [2, 25])]
fn write_a_head(bencher: Bencher<'_, '_>, fields: usize) {
    let request = read(&request(fields));
    let client = Client::new(([127, 0, 0, 1], 50_000).into(), Arc::new(WayIn::new(([127, 0, 0, 1], 62_893).into())));
    let checked = head::check(&request, None).expect("a good head");
    let outgoing = Outgoing {
        request: &request,
        client: &client,
        checked: &checked,
        via: "1.1 portolan:62893",
        target: None,
        authority: None,
        edits: &NO_EDITS,
        upgrade: None,
        hops: Hops::Unlimited,
    };
    let mut out = Vec::new();
    bencher.bench_local(|| {
        out.clear();
        black_box(&outgoing).write(&mut out);
        out.len()
    });
}
