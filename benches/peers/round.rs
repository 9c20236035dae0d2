//! One turn of one proxy: warm up, load, and the account of what that cost.

use std::thread;
use std::time::Duration;

use anyhow::Result;
use serde::Serialize;

use crate::child::Usage;
use crate::load::{Load, Outcome};
use crate::origin::Origin;
use crate::peer::Running;

/// Seconds of load that do not count: caches, just-in-time compilers and connection pools fill. The load
/// generators know no fraction.
const WARM_UP: u32 = 1;

/// Between load and account, so that closing the connections belongs to the turn that opened them.
const SETTLE: Duration = Duration::from_millis(100);

/// What one turn measured.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Sample {
    #[serde(flatten)]
    pub(crate) load: Outcome,
    /// Connections that the origin saw opened in this turn; a proxy that keeps them opens none after the warm-up.
    pub(crate) upstream_connections: u64,
    /// `None` for direct.
    pub(crate) cost: Option<Cost>,
}

/// What a proxy used in one turn.
#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Cost {
    pub(crate) user_us_per_request: f64,
    pub(crate) kernel_us_per_request: f64,
    /// The share of its CPU that the proxy used: below about 0.9 the load was the limit, not the proxy.
    pub(crate) busy: f64,
    pub(crate) rss_kb: u64,
}

impl Sample {
    pub(crate) fn requests_per_second(&self) -> f64 {
        self.load.requests as f64 / self.load.seconds
    }
}

impl Cost {
    pub(crate) fn us_per_request(&self) -> f64 {
        self.user_us_per_request + self.kernel_us_per_request
    }
}

pub(crate) fn measure(running: &Running, load: &Load, origin: &Origin, seconds: u32) -> Result<Sample> {
    load.finish(load.start(running.port, WARM_UP)?)?;
    thread::sleep(SETTLE);
    let (before, connections) = (running.usage(), origin.connections());
    let running_load = load.start(running.port, seconds)?;
    // The memory is read while the clients are connected.
    thread::sleep(Duration::from_secs(seconds.into()).mul_f64(0.8));
    let under_load = running.usage();
    let outcome = load.finish(running_load)?;
    thread::sleep(SETTLE);
    let upstream_connections = origin.connections() - connections;
    let usages = before.zip(under_load).zip(running.usage());
    let cost = usages.map(|((before, under_load), after)| cost(before, after, under_load.rss_kb, &outcome));
    Ok(Sample { load: outcome, upstream_connections, cost })
}

fn cost(before: Usage, after: Usage, rss_kb: u64, outcome: &Outcome) -> Cost {
    let user = after.user_seconds - before.user_seconds;
    let kernel = after.kernel_seconds - before.kernel_seconds;
    // No request at all is an error of its own; it must not become a division by zero.
    let requests = outcome.requests.max(1) as f64;
    Cost {
        user_us_per_request: user * 1e6 / requests,
        kernel_us_per_request: kernel * 1e6 / requests,
        busy: (user + kernel) / outcome.seconds,
        rss_kb,
    }
}
