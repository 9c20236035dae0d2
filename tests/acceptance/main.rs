//! The promises that take minutes to keep: 500 edits under load without a failure, bodies of 10 GB in no memory, floods
//! and stalled streams that delay nobody, half an hour among broken clients and programs.
//!
//! `cargo test` runs a short form. The long one, with its figures:
//! `PORTOLAN_ACCEPTANCE=full cargo test --release --test acceptance`; `PORTOLAN_SOAK_MINUTES` makes the half hour
//! another time.
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails loudly")]
#![expect(clippy::print_stderr, reason = "what the proxy said is shown with a failed test")]

#[path = "../binary/bulk.rs"]
mod bulk;
mod chance;
#[expect(dead_code, reason = "shared with the tests of the binary, which need more of it")]
#[path = "../binary/client.rs"]
mod client;
mod edits;
mod floods;
#[path = "../binary/folder.rs"]
mod folder;
#[expect(dead_code, reason = "shared with the tests of HTTP/2, which need more of it")]
#[path = "../it/harness/h2/frame.rs"]
mod frame;
mod latencies;
#[expect(dead_code, reason = "shared with the tests of the binary, which need more of it")]
#[path = "../binary/origin.rs"]
mod origin;
#[expect(dead_code, reason = "shared with the tests of the binary, which need more of it")]
#[path = "../binary/program.rs"]
mod program;
mod soak;
mod stalled;

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use edits::Plan;
use folder::Folder;

/// One at a time: each measures.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

fn is_full() -> bool {
    match std::env::var("PORTOLAN_ACCEPTANCE") {
        Ok(form) => {
            assert_eq!(form, "full", "PORTOLAN_ACCEPTANCE is `full` or not set");
            true
        }
        Err(_) => false,
    }
}

#[test]
fn no_request_fails_or_goes_astray_and_no_stream_is_cut_while_the_table_is_edited() {
    let _alone = alone();
    let (edits, time) = if is_full() { (500, Duration::from_secs(60)) } else { (25, Duration::from_secs(3)) };
    edits::run(&Plan { edits, time, requests_per_second: 400, tunnels: 50, streams: 20 });
}

#[test]
fn a_download_of_any_size_takes_no_memory() {
    let _alone = alone();
    let growth = bulk::download(&Folder::new(), bulk::blocks(bytes()));
    assert!(growth <= bulk::MOST_GROWTH, "{growth} bytes");
}

#[test]
fn an_upload_of_any_size_takes_no_memory() {
    let _alone = alone();
    let growth = bulk::upload(&Folder::new(), bulk::blocks(bytes()));
    assert!(growth <= bulk::MOST_GROWTH, "{growth} bytes");
}

#[test]
fn what_is_right_stays_right_and_nothing_grows_among_broken_clients_and_programs() {
    let _alone = alone();
    let minutes = match std::env::var("PORTOLAN_SOAK_MINUTES") {
        Ok(minutes) => minutes.parse().expect("PORTOLAN_SOAK_MINUTES is a number"),
        Err(_) if is_full() => 30.0,
        Err(_) => 0.1,
    };
    soak::run(Duration::from_secs_f64(minutes * 60.0));
}

#[test]
fn s61_a_stalled_stream_delays_no_other_on_its_connection() {
    let _alone = alone();
    // The slowest of a short run, here as below, tell of the machine, on which other tests run as well.
    let (blocks, percent) = if is_full() { (200, 99) } else { (20, 50) };
    for program in [stalled::Program::Http1, stalled::Program::Http2] {
        stalled::run(program, blocks, percent);
    }
}

#[test]
fn t32_frames_without_end_on_one_connection_hardly_delay_another() {
    let _alone = alone();
    let (turns, percent) = if is_full() { (40, 99) } else { (8, 50) };
    floods::FLOODS.iter().for_each(|flood| floods::run(flood, turns, percent));
}

fn bytes() -> u64 {
    if is_full() { 10_000_000_000 } else { 250_000_000 }
}
