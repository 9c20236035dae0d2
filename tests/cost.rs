//! What a request and a connection may cost, counted instead of timed: allocations, system calls, bytes.
//!
//! Counts are the same on a busy machine as on a quiet one, so that they can be held to here; what takes how long is
//! for `benches`. nginx stands beside it in the long form:
//! `PORTOLAN_ACCEPTANCE=full cargo test --release --test cost`
#![cfg(target_os = "linux")]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails loudly")]
#![expect(clippy::print_stderr, reason = "what the proxy said is shown with a failed test")]

#[path = "cost/allocations.rs"]
mod allocations;
#[expect(dead_code, reason = "shared with the tests of the binary, which need more of it")]
#[path = "binary/folder.rs"]
mod folder;
#[path = "cost/load.rs"]
mod load;
#[path = "cost/memory.rs"]
mod memory;
#[expect(dead_code, reason = "shared with the tests of the binary, which need more of it")]
#[path = "binary/program.rs"]
mod program;
#[path = "cost/system_calls.rs"]
mod system_calls;

use std::{
    env,
    fmt::Display,
    sync::{Mutex, MutexGuard, PoisonError},
};

/// One at a time: each counts what all of the process does.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Leaves a test out for want of a program, or fails where all of them must be there, as in CI.
fn leave_out(test: &str, reason: impl Display) {
    let is_required = env::var_os("PORTOLAN_PARTNERS").is_some_and(|value| value == "required");
    assert!(!is_required, "{test}: {reason}");
    program::tell(format_args!("\nLEFT OUT: {test}: {reason}"));
}
