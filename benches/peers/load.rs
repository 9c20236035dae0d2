//! The load: who makes it in which protocol, and what there is to say at the end.

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::child::Child;
use crate::h2load::H2load;
use crate::machine::Machine;
use crate::scenario::Scenario;
use crate::wrk::Wrk;

/// A load generator, prepared for one scenario.
pub(crate) enum Load {
    Http1(Wrk),
    Http2(H2load),
}

/// What one run of a load generator measured.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Outcome {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    pub(crate) p50_us: u64,
    pub(crate) p99_us: u64,
    pub(crate) errors: Errors,
}

/// Requests that did not end as they should; `status` counts answers of 400 and above.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub(crate) struct Errors {
    pub(crate) connect: u64,
    pub(crate) read: u64,
    pub(crate) write: u64,
    pub(crate) status: u64,
    pub(crate) timeout: u64,
}

impl Load {
    pub(crate) fn prepare(machine: &Machine, scenario: Scenario) -> Result<Self> {
        match scenario.is_http2() {
            true => H2load::prepare(machine, scenario).map(Self::Http2),
            false => Wrk::prepare(machine, scenario).map(Self::Http1),
        }
    }

    /// Starts the load against a port; `finish` waits for its end.
    pub(crate) fn start(&self, port: u16, seconds: u32) -> Result<Child> {
        match self {
            Self::Http1(wrk) => wrk.start(port, seconds),
            Self::Http2(h2load) => h2load.start(port, seconds),
        }
    }

    pub(crate) fn finish(&self, load: Child) -> Result<Outcome> {
        let report = load.output()?;
        match self {
            Self::Http1(_) => Wrk::read(&report),
            Self::Http2(h2load) => h2load.read(&report),
        }
    }
}

impl Errors {
    /// `None` if there are none, else all of them in words.
    pub(crate) fn in_words(&self) -> Option<String> {
        let kinds = [
            (self.status, "answers of 400 or above"),
            (self.connect, "failed connections"),
            (self.read, "broken reads"),
            (self.write, "broken writes"),
            (self.timeout, "timeouts"),
        ];
        let words: Vec<_> =
            kinds.iter().filter(|(count, _)| *count > 0).map(|(count, kind)| format!("{count} {kind}")).collect();
        (!words.is_empty()).then(|| words.join(", "))
    }

    pub(crate) fn plus(&self, other: &Self) -> Self {
        Self {
            connect: self.connect + other.connect,
            read: self.read + other.read,
            write: self.write + other.write,
            status: self.status + other.status,
            timeout: self.timeout + other.timeout,
        }
    }
}
