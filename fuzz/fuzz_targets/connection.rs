//! `cargo +nightly fuzz run connection`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portolan_fuzz::connection::check(data);
});
