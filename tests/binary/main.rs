//! The real binary, tested as a binary: what it prints, how it ends, and how it holds out while files change, signals
//! come and the system runs short.
//!
//! `UPDATE_GOLDEN=1 cargo test --test binary` writes the texts in `golden/` anew; read the difference before it is kept.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails loudly")]
#![expect(clippy::print_stderr, reason = "what the proxy said is shown with a failed test")]

mod bulk;
mod client;
mod commands;
mod demo;
mod doctor;
mod drain;
mod folder;
#[cfg(target_os = "linux")]
mod hold;
mod limits;
mod log;
mod origin;
mod ports;
#[cfg(target_os = "linux")]
mod processes;
mod program;
mod reload;
#[cfg(target_os = "linux")]
mod run;
mod serve;
#[cfg(target_os = "linux")]
mod tcp;
mod trust;
mod truth;
#[cfg(target_os = "linux")]
mod up;
