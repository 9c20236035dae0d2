//! The real `portolan`, started as a person would start it, with a table of its own.

use std::{fs, net::SocketAddr};

use tempfile::TempDir;

use crate::program::{self, Program};

/// A running proxy; dropping it ends it and removes its table.
pub(crate) struct Portolan {
    program: Program,
    _folder: TempDir,
}

impl Portolan {
    /// Serves this table on a free port of 127.0.0.1.
    pub(crate) fn serving(table: &str) -> Self {
        Self::serving_with(table, &[])
    }

    /// The same with more in its environment.
    pub(crate) fn serving_with(table: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("portolan.toml");
        fs::write(&file, table).unwrap();
        let mut command = program::command(env!("CARGO_BIN_EXE_portolan"));
        command.args(["serve", "-q", "--listen", "127.0.0.1:0", "-c"]).arg(file);
        // What the developer who runs the tests has set must not reach them.
        command.env_remove("PORTOLAN_CONFIG").env_remove("PORTOLAN_LISTEN").env_remove("PORTOLAN_LOG");
        command.envs(environment.iter().copied());
        Self { program: Program::start(command, "portolan ready http://"), _folder: folder }
    }

    /// The URL of a path by the proxy's address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The URL of a path by a host name.
    pub(crate) fn url_of_host(&self, host: &str, path: &str) -> String {
        format!("http://{host}:{}{path}", self.program.port())
    }

    /// Where it listens.
    pub(crate) fn address(&self) -> SocketAddr {
        self.program.address()
    }

    /// The most memory that it ever held, in bytes.
    pub(crate) fn peak_memory(&self) -> u64 {
        self.program.peak_memory()
    }
}
