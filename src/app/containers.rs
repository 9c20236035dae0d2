//! The containers that routes lead to; no engine is asked before a route needs one.

use std::{net::SocketAddr, sync::Arc};

use tokio::sync::watch;

use super::follow::gone;
use crate::{
    config::{Address, Config, Sought, Target},
    control::api::Owner,
    discover::container::{self, Containers, Missing, Whereabouts},
    upstream::place::{Absence, Absent, Ear, Spot, Standing},
};

/// What the container engines say, once somebody wants to know.
#[derive(Debug, Default)]
pub(super) struct Engines {
    told: Option<watch::Receiver<Arc<Containers>>>,
}

impl Engines {
    /// Begins to ask the engines if a route of this table leads to a container, and ceases if none does.
    pub(super) fn wanted_by(&mut self, config: &Config) {
        let is_container = |target: &Target| matches!(target.address, Address::Followed(Sought::Container { .. }));
        let leads_to_one = config.forwards().any(|forward| forward.targets.iter().any(is_container));
        match (&self.told, leads_to_one) {
            (None, true) => self.told = Some(container::follow(Whereabouts::here())),
            (Some(_), false) => self.told = None,
            (None, false) | (Some(_), true) => {}
        }
    }

    /// Returns when an engine has said something new.
    pub(super) async fn changed(&mut self) {
        match &mut self.told {
            Some(told) => {
                if told.changed().await.is_err() {
                    std::future::pending::<()>().await;
                }
            }
            None => std::future::pending().await,
        }
    }

    /// Where a container's port is published.
    pub(super) fn standing(&self, name: &str, port: u16) -> Standing {
        let Some(told) = &self.told else {
            return gone(
                Absent::Starting,
                "the container engines are about to be asked",
                &[],
                &["ask again in a moment"],
            );
        };
        match told.borrow().find(name, port) {
            Ok(found) => Standing::At(Spot {
                addresses: found.addresses.as_slice().into(),
                socket: found.run,
                ear: Some(Ear::new(move |address| found.listens(address))),
            }),
            Err(missing) => {
                let kind = match missing.kind {
                    Missing::Coming => Absent::Starting,
                    Missing::Gone => Absent::Gone,
                };
                let (message, notes, helps) = (missing.message, missing.notes, missing.helps);
                Standing::Absent(Arc::new(Absence { kind, message, notes, helps }))
            }
        }
    }

    /// The container that publishes this address, which is a better answer than the helper of its engine that listens there.
    pub(super) fn owner_of(&self, address: SocketAddr) -> Option<Owner> {
        let told = self.told.as_ref()?.borrow();
        let container = told.owner_of(address)?;
        let pid = match &container.state {
            container::State::Running { inside: Some(inside), .. } => inside.pid(),
            _ => 0,
        };
        Some(Owner { pid, program: format!("container {}", container.name), folder: None })
    }
}
