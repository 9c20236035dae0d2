//! The containers that routes lead to; no engine is asked before a route needs one.

use std::net::SocketAddr;

use super::follow::gone;
use crate::{
    config::Config,
    control::api::Owner,
    upstream::place::{Absent, Standing},
};

/// What the container engines say, once somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Engines;

impl Engines {
    /// Where a container's port is published.
    pub(super) fn standing(&self, name: &str, port: u16) -> Standing {
        gone(Absent::Gone, &format!("no engine is asked for {name}:{port}"), &[], &[])
    }

    /// Begins to ask the engines if a route of this table leads to a container.
    pub(super) fn wanted_by(&mut self, _config: &Config) {}

    /// Returns when an engine has said something new.
    pub(super) async fn changed(&mut self) {
        std::future::pending().await
    }

    /// The container that publishes this address.
    pub(super) fn owner_of(&self, _address: SocketAddr) -> Option<Owner> {
        None
    }
}
