//! The ports of `[tcp]`: bound before anything is served, and kept open through every reload that wants them still.
//!
//! A port belongs to no route. Whose it is, the table in force says when a client comes: so a route that changes, or two
//! that change places, need no new socket, and nobody is refused meanwhile.

use std::{
    collections::HashSet,
    net::{SocketAddr, TcpListener},
};

use super::proxy::Mail;
use crate::{
    config::{Listen, TcpRoute},
    diagnostic::Span,
    listen::{self, BindError},
};

/// A TCP route that cannot listen.
#[derive(Debug, thiserror::Error)]
#[error("TCP route {route}: {source}")]
pub struct DoorError {
    /// Its name.
    pub route: String,
    /// Where its `listen` is written.
    pub origin: Option<Span>,
    /// Why.
    pub source: BindError,
}

/// The addresses that are open.
#[derive(Debug, Default)]
pub(super) struct Doors {
    open: HashSet<SocketAddr>,
}

/// What a table wants, and what is new of it, bound. Dropping it closes that again.
#[derive(Debug)]
pub(super) struct Opening {
    wanted: HashSet<SocketAddr>,
    listeners: Vec<TcpListener>,
}

impl Doors {
    /// Binds what these routes want and is not open yet.
    pub(super) fn bind(&self, routes: &[TcpRoute]) -> Result<Opening, DoorError> {
        let mut opening = Opening { wanted: HashSet::new(), listeners: Vec::new() };
        for route in routes {
            let is_new = |address: &&SocketAddr| !self.open.contains(address) && !opening.wanted.contains(address);
            let new = |addresses: &[SocketAddr]| addresses.iter().filter(is_new).copied().collect();
            let listen =
                Listen { required: new(&route.listen.required), optional: new(&route.listen.optional), origin: None };
            let bound = listen::bind(&listen).map_err(|source| DoorError {
                route: route.name.clone(),
                origin: route.listen.origin.clone(),
                source,
            })?;
            opening.listeners.extend(bound);
            opening.wanted.extend(route.addresses());
        }
        Ok(opening)
    }

    /// Opens what is new and closes what nobody wants any more, by telling the worker that accepts.
    pub(super) fn open(&mut self, opening: Opening) -> Vec<Mail> {
        let Opening { wanted, listeners } = opening;
        let closed: Vec<SocketAddr> = self.open.difference(&wanted).copied().collect();
        self.open.retain(|address| wanted.contains(address));
        self.open.extend(listeners.iter().filter_map(|listener| listener.local_addr().ok()));
        closed.into_iter().map(Mail::Close).chain(listeners.into_iter().map(Mail::Open)).collect()
    }
}
