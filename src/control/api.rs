//! What goes over the control socket, version 1. Fields are added, never changed or taken away; unknown ones are ignored.
//!
//! | request | answer |
//! |---|---|
//! | `GET /v1/status` | [`Status`] |
//! | `POST /v1/reload` | [`Reloaded`] |
//! | `POST /v1/stop` | [`Accepted`] |
//! | `POST /v1/services` with a [`ServicesOrder`] | [`Accepted`] |
//! | `GET /v1/logs?follow=1&name=a&name=b` | lines of [`LogLine`] |
//! | `POST /v1/runs` with a [`Register`] | lines: [`Registered`], then [`RunNews`]; the run lives as long as the connection |
//! | `POST /v1/runs/end` | [`Accepted`]: what this process has registered is gone |
//!
//! What is refused is answered with a status of 400 or above and a [`Problem`].

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize, Serializer};

/// Everything about a running portolan. Times are RFC 3339 in UTC.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Status {
    /// Of the program.
    pub version: String,
    /// Of the process.
    pub pid: u32,
    /// Since when it runs.
    pub since: String,
    /// Where it listens; the first one is the one to tell.
    pub listen: Vec<SocketAddr>,
    /// The file of its table, where it has one.
    pub table: Option<TableStatus>,
    /// In the order of the file, then those of runs.
    pub routes: Vec<RouteStatus>,
    /// Those of `[tcp]`, in the order of the file.
    #[serde(default)]
    pub tcp: Vec<TcpStatus>,
    /// In the order of the file.
    pub services: Vec<ServiceStatus>,
    /// By name.
    pub runs: Vec<RunStatus>,
}

/// The file of a table.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TableStatus {
    /// Where it lies.
    #[serde(serialize_with = "lossy")]
    pub file: PathBuf,
    /// When the table in force was read.
    pub since: String,
    /// Why the file as it is now was refused; empty where it is in force.
    pub refused: String,
}

/// A route in force.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RouteStatus {
    /// Its key in the table, or the name of a run.
    pub name: String,
    /// Which requests it takes.
    pub pattern: String,
    /// Where a browser finds it.
    pub url: String,
    /// What answers.
    pub target: String,
    /// Where it is written: file, line, column.
    pub origin: String,
    /// `up`, `starting`, `down`, or `here` for what is answered without a program, `elsewhere` for what is not on this machine.
    pub state: String,
    /// Where its program listens now.
    pub addresses: Vec<SocketAddr>,
    /// Who listens there.
    pub owner: Option<Owner>,
    /// Why it is not up, and what else there is to know.
    pub notes: Vec<String>,
}

/// A route of `[tcp]` in force. Its `url` is what its clients take: a data source name, an address, or the line that
/// attaches a debugger.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct TcpStatus {
    /// What it has in common with other routes.
    #[serde(flatten)]
    pub route: RouteStatus,
    /// Where it listens.
    pub listen: Vec<SocketAddr>,
    /// Connections that are open.
    pub open: usize,
    /// Connections since it is in the table.
    pub ever: u64,
}

/// A process that listens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// What `kill` takes.
    pub pid: u32,
    /// The file name of its executable.
    pub program: String,
    /// The folder it works in.
    #[serde(serialize_with = "lossy_option")]
    pub folder: Option<PathBuf>,
}

/// A service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServiceStatus {
    /// Its key in the table.
    pub name: String,
    /// `stopped`, `waiting`, `starting`, `ready`, `backoff`, `stopping` or `done`.
    pub state: String,
    /// Since when.
    pub since: String,
    /// The program's process.
    pub pid: Option<u32>,
    /// The port on which it listens, and until it does the one that it was given.
    pub port: u16,
    /// Where it listens.
    pub addresses: Vec<SocketAddr>,
    /// How often it was started again after it had failed.
    pub restarts: u32,
    /// How it ended the last time.
    pub exit: Option<String>,
    /// When it is started again.
    pub next: Option<String>,
    /// What it waits for.
    pub waits_for: Vec<String>,
    /// The routes that lead to it.
    pub urls: Vec<String>,
}

/// A command that `portolan run` looks after.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunStatus {
    /// Its route's name.
    pub name: String,
    /// Of `portolan run`.
    pub pid: u32,
    /// What it runs.
    pub command: String,
    /// Where.
    #[serde(serialize_with = "lossy")]
    pub folder: PathBuf,
    /// Its URL.
    pub url: String,
    /// The port that it was given.
    pub port: u16,
    /// Where it listens; its route is in force as soon as it does.
    pub addresses: Vec<SocketAddr>,
}

/// What came of reading the table anew.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Reloaded {
    /// Whether it is in force.
    pub accepted: bool,
    /// What was said of it, for people.
    pub text: String,
    /// Every problem, as `portolan check --json` tells it.
    pub problems: Vec<serde_json::Value>,
}

/// It will be done.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Accepted {
    /// The services that it concerns.
    pub services: Vec<String>,
}

/// What is done with services.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Action {
    /// Start them and what they need.
    Up,
    /// End them; answered when they have ended. Without names, what `portolan up` has begun ends with them.
    Down,
    /// End them and start them anew.
    Restart,
}

/// `POST /v1/services`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct ServicesOrder {
    /// What is done.
    pub action: Action,
    /// With which; with all of them if empty.
    #[serde(default)]
    pub names: Vec<String>,
    /// The table that is meant; that of another one is refused.
    #[serde(default, serialize_with = "lossy_option")]
    pub table: Option<PathBuf>,
}

/// A line of a service.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct LogLine {
    /// Whose.
    pub name: String,
    /// `out`, `err`, or `note` for what portolan says of it.
    pub stream: String,
    /// Without its end.
    pub text: String,
}

/// `POST /v1/runs`
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Register {
    /// What its route is to be called.
    pub name: String,
    /// The host names, most specific part first, that stand in front of `.localhost` or the project.
    pub labels: Vec<String>,
    /// What is run, for people.
    pub command: String,
    /// Where.
    #[serde(serialize_with = "lossy")]
    pub folder: PathBuf,
    /// The port that it always opens.
    #[serde(default)]
    pub port: Option<u16>,
}

/// What a run was given.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Registered {
    /// Where its route will be.
    pub url: String,
    /// For `PORT`.
    pub port: u16,
    /// Where the proxy is.
    pub proxy: String,
}

/// What becomes known of a run.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RunNews {
    /// Where it listens from now on.
    pub addresses: Vec<SocketAddr>,
}

/// Why something is not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// Kebab-case and stable.
    pub code: String,
    /// A lowercase fragment without a full stop.
    pub message: String,
    /// Causes found by looking.
    #[serde(default)]
    pub notes: Vec<String>,
    /// One edit or command each.
    #[serde(default)]
    pub help: Vec<String>,
}

impl Problem {
    /// Without further facts.
    pub fn new(code: &str, message: impl Into<String>) -> Self {
        Self { code: code.into(), message: message.into(), notes: Vec::new(), help: Vec::new() }
    }

    /// Adds a cause.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.help.push(help.into());
        self
    }
}

/// A path need not be UTF-8, which JSON is.
fn lossy<S: Serializer>(path: &Path, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(&path.to_string_lossy())
}

fn lossy_option<S: Serializer>(path: &Option<PathBuf>, serializer: S) -> Result<S::Ok, S::Error> {
    path.as_ref().map(|path| path.to_string_lossy()).serialize(serializer)
}
