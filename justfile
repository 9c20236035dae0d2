# `just` lists what can be done, `just check` is what CI runs.

_list:
    @just --list --unsorted

# Everything that CI asks of a change; installs the real programs that tests drive
check:
    .ci/run

# Is every file in the one format?
format:
    cargo fmt --check

# Compiler, clippy and rustdoc without a word of complaint
lint:
    cargo clippy --locked --all-targets -- -D warnings
    RUSTDOCFLAGS="-D warnings" cargo doc --locked --no-deps

# All tests, or those whose names contain a word: `just test reload`
test *words:
    cargo test --locked {{ words }}

# Licences, bans, advisories and sources of all dependencies (needs cargo-deny)
deny:
    cargo deny check

# Benches, or those whose names contain a word
bench *words:
    cargo bench --locked {{ words }}

# Three sample services behind a proxy, with the URLs to try
demo:
    cargo run --locked -- demo
