//! The proxy from outside: raw bytes in, raw bytes out, every statement about HTTP/1 and every fault a test of its own.
//!
//! A name begins with the statement (`s12_`), fault (`f5_`) or threat (`t21_`) that it keeps.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails loudly")]

mod boundaries;
mod differential;
mod faults;
mod forwarding;
mod harness;
mod hyper_facts;
mod interim;
mod leaving;
mod matrix;
mod requests;
mod responses;
mod robustness;
mod routes;
mod smuggling;
mod streams;
mod tls;
mod truth;
mod upgrades;
