//! The socket through which commands reach a running portolan: HTTP over a Unix socket, for this user alone.
//!
//! [`socket`] says where it lies and who may come in, [`serve`] turns requests into [`Ask`]s for whoever runs the proxy,
//! [`Client`] is the other end. What is said stands in [`api`]. Nothing is kept on disk: what a command registers lives as
//! long as its connection.

pub mod api;
mod client;
mod server;
pub mod socket;

use tokio::sync::{mpsc, oneshot};

pub use client::{CallError, Client, Lines};
pub use server::serve;

use api::{Accepted, Action, Problem, Register, Registered, Reloaded, Status};

/// Where an answer goes. The asker may be gone: then nobody is waiting for it.
pub type Reply<T> = oneshot::Sender<Result<T, Problem>>;

/// What a command asks of the running portolan.
#[derive(Debug)]
pub enum Ask {
    /// What there is: listeners, routes, services, runs.
    Status(Reply<Status>),
    /// The table anew.
    Reload(Reply<Reloaded>),
    /// The end of it all.
    Stop(Reply<Accepted>),
    /// Something with services; all of them where none is named.
    Services(Action, Vec<String>, Reply<Accepted>),
    /// The output of services; all of them where none is named.
    Logs {
        /// Whose.
        names: Vec<String>,
        /// Whether to go on.
        follow: bool,
        /// Where the lines go.
        reply: Reply<Feed>,
    },
    /// A route for a command that `portolan run` is about to start.
    Register {
        /// What it wants.
        wish: Register,
        /// The process that asks, as the system says: whatever it starts is its program.
        pid: u32,
        /// Lives for as long as the registration.
        reply: Reply<Registration>,
    },
    /// The end of what this process has registered, at once: its connection would tell it only in a moment.
    Unregister(u32, Reply<Accepted>),
}

/// Lines of JSON on their way to a command.
#[derive(Debug)]
pub struct Feed(pub mpsc::Receiver<String>);

/// A registration, and what becomes known of it.
#[derive(Debug)]
pub struct Registration {
    /// What was given.
    pub given: Registered,
    /// What follows, as lines of JSON.
    pub news: Feed,
    /// Closed, by being dropped, when the command is gone.
    pub alive: oneshot::Sender<()>,
}
