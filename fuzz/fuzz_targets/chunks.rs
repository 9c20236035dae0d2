//! `cargo +nightly fuzz run chunks`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portolan_fuzz::chunks::check(data);
});
