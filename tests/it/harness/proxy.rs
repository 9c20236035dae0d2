//! The proxy under test, in this process.

use portolan::{
    app,
    config::{Config, Listen, load},
    live::Change,
    observe::{Format, Log},
};

use super::{Program, Response, Wire, program};

/// A proxy that listens on a free port of 127.0.0.1.
pub(crate) struct Proxy {
    running: app::Proxy,
}

/// A proxy with this table.
pub(crate) fn proxy(table: &str) -> Proxy {
    let log = Log::spawn(false, Format::Json, std::io::sink()).unwrap();
    Proxy { running: app::Proxy::start(config(table), &log, |_| {}).unwrap() }
}

/// A client, a program, and a proxy between them whose only route takes everything; `keys` are more lines of it.
pub(crate) async fn through(keys: &str) -> (Wire, Program, Proxy) {
    let program = program();
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = {}\n{keys}", program.port()));
    (proxy.connect().await, program, proxy)
}

impl Proxy {
    pub(crate) fn port(&self) -> u16 {
        self.running.addresses()[0].port()
    }

    /// A client.
    pub(crate) async fn connect(&self) -> Wire {
        Wire::connect(self.port()).await
    }

    /// Asks on a connection of its own.
    pub(crate) async fn ask(&self, request: impl AsRef<[u8]>) -> Response {
        self.connect().await.ask(request).await
    }

    /// Puts another table in force.
    pub(crate) fn swap(&self, table: &str) -> Change {
        self.running.swap(config(table), |_| {}).unwrap()
    }

    /// Tries to put another table in force, and says why it cannot be.
    pub(crate) fn try_swap(&self, table: &str) -> Result<Change, String> {
        self.running.swap(config(table), |_| {}).map_err(|error| error.to_string())
    }

    /// The field lines that the proxy puts behind those of a client that has asked for `host`.
    pub(crate) fn added(&self, host: &str) -> String {
        let port = self.port();
        format!(
            "x-forwarded-for: 127.0.0.1\r\nx-forwarded-host: {host}\r\nx-forwarded-proto: http\r\n\
             x-forwarded-port: {port}\r\nvia: 1.1 portolan:{port}\r\n"
        )
    }

    /// Accepts no more, and returns when all is answered.
    pub(crate) async fn drain(self) {
        self.running.drain().await;
    }
}

/// A checked table.
fn config(table: &str) -> Config {
    let listen = Listen { required: vec![([127, 0, 0, 1], 0).into()], optional: Vec::new(), origin: None };
    let loaded = load::from_str("table", table, Some(&listen));
    loaded.config.unwrap_or_else(|| panic!("{:#?}", loaded.diagnostics))
}
