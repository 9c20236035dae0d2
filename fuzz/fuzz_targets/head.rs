//! `cargo +nightly fuzz run head`
#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| {
    portolan_fuzz::head::check(data);
});
