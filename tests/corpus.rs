//! The corpora of the fuzzer, replayed: what was found once stays found.
//!
//! `fuzz/README.md` tells how they grow.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails loudly")]

#[path = "../fuzz/src/lib.rs"]
#[expect(unreachable_pub, reason = "shared with the fuzzer, to which it is a crate")]
mod fuzz;

use std::{
    fs,
    panic::{AssertUnwindSafe, catch_unwind},
    path::Path,
};

use fuzz::Verdict;

#[test]
fn all_heads_of_the_corpus_are_read_as_their_names_say() {
    replay("head", fuzz::head::check);
}

#[test]
fn all_chunks_of_the_corpus_are_read_as_their_names_say() {
    replay("chunks", fuzz::chunks::check);
}

#[test]
fn all_connections_of_the_corpus_end_as_their_names_say() {
    replay("connection", fuzz::connection::check);
}

/// Checks every sample, and the verdict on those whose names begin with one.
fn replay(target: &str, check: impl Fn(&[u8]) -> Verdict) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let mut failed = Vec::new();
    let mut named = 0;
    for sample in fs::read_dir(corpus).unwrap() {
        let path = sample.unwrap().path();
        let name = path.file_name().unwrap().to_str().unwrap().to_owned();
        let verdict = catch_unwind(AssertUnwindSafe(|| check(&fs::read(&path).unwrap())));
        let expected = match name.split_once('-') {
            Some(("good", _)) => Some(Verdict::Good),
            Some(("part", _)) => Some(Verdict::Part),
            Some(("bad", _)) => Some(Verdict::Bad),
            _ => None,
        };
        named += usize::from(expected.is_some());
        match verdict {
            Ok(verdict) if expected.is_none_or(|expected| expected == verdict) => {}
            Ok(verdict) => failed.push(format!("{name} is {verdict:?}")),
            Err(_) => failed.push(format!("{name} failed")),
        }
    }
    failed.sort();
    assert!(failed.is_empty(), "{target}:\n{}", failed.join("\n"));
    assert!(named >= 40, "only {named} samples of {target} have a verdict");
}
