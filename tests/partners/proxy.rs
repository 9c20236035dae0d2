//! The real `portolan`, started as a person would start it, with a table of its own.

use std::{fs, net::SocketAddr, path::PathBuf, process::Command};

use serde_json::Value;
use tempfile::TempDir;

use crate::{
    client::{curl, run},
    program::{self, Program},
};

/// A running proxy; dropping it ends it and removes its table.
pub(crate) struct Portolan {
    program: Program,
    folder: TempDir,
}

impl Portolan {
    /// Serves this table on a free port of 127.0.0.1.
    pub(crate) fn serving(table: &str) -> Self {
        Self::serving_with(table, &[])
    }

    /// The same with more in its environment.
    pub(crate) fn serving_with(table: &str, environment: &[(&str, &str)]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("portolan.toml"), table).unwrap();
        let mut command = portolan(&folder);
        command.args(["serve", "-q", "--listen", "127.0.0.1:0"]).envs(environment.iter().copied());
        Self { program: Program::start(command, "portolan ready http://"), folder }
    }

    /// What it answers to a command, which must succeed.
    pub(crate) fn says(&self, words: &[&str]) -> String {
        run(portolan(&self.folder).args(words).env("PORTOLAN_LISTEN", self.address().to_string()))
    }

    /// What it tells of itself.
    pub(crate) fn status(&self) -> Value {
        serde_json::from_str(&self.says(&["status", "--json"])).unwrap()
    }

    /// Has everything looked at that portolan can be asked about the programs behind it.
    pub(crate) fn looks_at_everything(&self) {
        for command in ["ports", "routes", "status"] {
            self.says(&[command]);
        }
    }

    /// The URL of a path by the proxy's address.
    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address())
    }

    /// The same over TLS.
    pub(crate) fn secure_url_of_host(&self, host: &str, path: &str) -> String {
        format!("https://{host}:{}{path}", self.program.port())
    }

    /// The certificate of the local authority, which is made when somebody first speaks TLS.
    pub(crate) fn authority(&self) -> PathBuf {
        run(&mut curl(&self.secure_url_of_host("localhost", "/"), &["--insecure"]));
        self.folder.path().join("data/portolan/authority.crt")
    }

    /// The authority's key and certificate in one file, which nobody else may read.
    pub(crate) fn secret_of_authority(&self) -> PathBuf {
        self.authority().with_extension("pem")
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

/// A `portolan` that knows this folder's table, keeps all its own there, and heeds nothing of the developer's.
fn portolan(folder: &TempDir) -> Command {
    let mut command = program::command(env!("CARGO_BIN_EXE_portolan"));
    command.env_remove("PORTOLAN_CONFIG").env_remove("PORTOLAN_LISTEN").env_remove("PORTOLAN_LOG");
    command.env("XDG_DATA_HOME", folder.path().join("data")).env("XDG_RUNTIME_DIR", folder.path());
    command.arg("-c").arg(folder.path().join("portolan.toml"));
    command
}
