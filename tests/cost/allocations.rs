//! A keep-alive request in steady state allocates nothing, whatever its kind.
//!
//! The proxy runs in this process, whose allocator counts; what runs beside it, a client and a program, allocates
//! nothing itself. Of N and of 6 N requests only the difference counts, so that nothing is counted which is not
//! of requests.

use std::{alloc::System, io, net::TcpStream, sync::Arc, thread, time::Instant};

use portolan::{
    app::Proxy,
    config::{Config, Listen, load},
    observe::{Format, Log},
};
use stats_alloc::{INSTRUMENTED_SYSTEM, Region, StatsAlloc};

use crate::{
    alone,
    load::{Buffer, Exchange, connect},
    program::tell,
};

#[global_allocator]
static ALLOCATOR: &StatsAlloc<System> = &INSTRUMENTED_SYSTEM;

/// Connections that ask at the same time: more than one for each worker.
const CONNECTIONS: usize = 8;

/// So many times each of them asks before anything is counted: what is kept is made by then.
const WARM_UP: usize = 50;

/// N, of each connection.
const TIMES: usize = 100;

/// What a worker may allocate in a second, however many requests it serves: then it sweeps, and looks at the clock.
const SWEEP: usize = 4;

#[test]
fn the_counter_sees_what_other_threads_allocate_and_what_grows() {
    let _alone = alone();
    let region = Region::new(ALLOCATOR);
    let grown = thread::spawn(|| {
        let mut grown = Vec::with_capacity(1);
        grown.extend_from_slice(&[1, 2, 3]);
        grown
    });
    assert_eq!(grown.join().unwrap().len(), 3);
    let stats = region.change();
    assert!(stats.allocations > 0 && stats.reallocations > 0, "{stats:?}");
}

#[test]
fn a_small_request_allocates_nothing() {
    assert_allocates_nothing("a small request", Exchange::small());
}

#[test]
fn a_request_with_all_that_a_browser_sends_allocates_nothing() {
    assert_allocates_nothing("a browser's request", Exchange::browser());
}

#[test]
fn an_upload_of_1_kb_allocates_nothing() {
    assert_allocates_nothing("an upload of 1 KB", Exchange::post());
}

#[test]
fn an_answer_in_chunks_allocates_nothing() {
    assert_allocates_nothing("an answer in chunks", Exchange::chunked());
}

#[test]
fn an_answer_of_10_kb_allocates_nothing() {
    assert_allocates_nothing("an answer of 10 KB", Exchange::long());
}

fn assert_allocates_nothing(what: &str, exchange: Exchange) {
    let _alone = alone();
    let exchange = Arc::new(exchange);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let log = Log::spawn(false, Format::Json, io::sink()).unwrap();
    let proxy = runtime.block_on(async { Proxy::start(config(exchange.origin()), &log, |_| {}).unwrap() });
    let clients: Vec<_> = (0..CONNECTIONS).map(|_| connect(proxy.addresses()[0])).collect();
    let mut buffer = Buffer::new();

    ask_all(&clients, &exchange, &mut buffer, WARM_UP);
    let few = allocations(|| ask_all(&clients, &exchange, &mut buffer, TIMES));
    let began = Instant::now();
    let many = allocations(|| ask_all(&clients, &exchange, &mut buffer, 6 * TIMES));
    let sweeps = began.elapsed().as_secs() as usize + 1;
    drop(clients);
    runtime.block_on(proxy.drain());

    let requests = CONNECTIONS * TIMES;
    let more = many.saturating_sub(few);
    let each = more as f64 / (5 * requests) as f64;
    tell(format_args!(
        "{what}: {few} allocations for {requests} requests, {many} for {}: {each:.2} each",
        6 * requests
    ));
    let workers = thread::available_parallelism().map_or(1, usize::from);
    assert!(more <= SWEEP * workers * sweeps, "{more} allocations for {what}, {each:.2} each");
}

/// Asks on all connections at once, then takes all answers; so many times.
fn ask_all(clients: &[TcpStream], exchange: &Exchange, buffer: &mut Buffer, times: usize) {
    for _ in 0..times {
        for client in clients {
            exchange.ask(client);
        }
        for client in clients {
            exchange.take(client, buffer);
        }
    }
}

fn allocations(work: impl FnOnce()) -> usize {
    let region = Region::new(ALLOCATOR);
    work();
    let stats = region.change();
    stats.allocations + stats.reallocations
}

/// A free port, and one route that takes everything.
fn config(port: u16) -> Config {
    let table = format!("[routes]\nall = {{ path = \"/\", to = {port} }}\n");
    let listen = Listen { required: vec![([127, 0, 0, 1], 0).into()], optional: Vec::new(), origin: None };
    load::from_str("table", &table, Some(&listen)).config.unwrap()
}
