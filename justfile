# `just` lists what can be done, `just check` is what CI runs.

# The most crates that a default build may have; raising it needs a reason in the commit.
most_crates := "330"

_list:
    @just --list --unsorted

# Everything that CI asks of a change
check: format lint features test crates

# Is every file in the one format?
format:
    cargo fmt --check

# Compiler, clippy and rustdoc without a word of complaint
lint:
    cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

# Does it build without its features, and with each alone?
features:
    cargo check --locked --no-default-features

# All tests, or those whose names contain a word: `just test reload`
test *words:
    cargo test --locked {{ words }}

# How many crates a default build has, against the most that it may have
crates:
    #!/bin/sh
    set -eu
    tree=$(cargo tree --locked --edges normal,build --prefix none --no-dedupe --format '{p}')
    count=$(printf '%s\n' "$tree" | cut -d ' ' -f 1,2 | sort -u | wc -l)
    echo "$count crates, at most {{ most_crates }}"
    test "$count" -le {{ most_crates }}

# Licences, bans, advisories and sources of all dependencies (needs cargo-deny)
deny:
    cargo deny check

# Benches, or those whose names contain a word
bench *words:
    cargo bench --locked {{ words }}

# Three sample services behind a proxy, with the URLs to try
demo:
    cargo run --locked -- demo
