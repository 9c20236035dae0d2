//! The ports of `[tcp]`: bound before anything is served, and kept open through every reload that wants them still.
//!
//! A port belongs to no route. Whose it is, the table in force says when a client comes: so a route that changes, or two
//! that change places, need no new socket, and nobody is refused meanwhile.

use std::{
    collections::HashSet,
    convert::Infallible,
    net::{SocketAddr, TcpListener},
    sync::mpsc::{self, Receiver},
    time::Duration,
};

use tokio::sync::mpsc::UnboundedSender;

use super::proxy::Mail;
use crate::{
    config::{Listen, TcpRoute, overlap},
    diagnostic::{Span, without_number},
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

/// How long the worker that accepts may take to close a port, which is a matter of microseconds.
const PATIENCE: Duration = Duration::from_secs(1);

/// The addresses that are open.
#[derive(Debug)]
pub(super) struct Doors {
    open: HashSet<SocketAddr>,
    /// The worker that accepts; it is gone once the drain has begun, and then nothing matters to it any more.
    keeper: UnboundedSender<Mail>,
}

/// What a table wants, and what is new of it, bound.
#[derive(Debug)]
pub(super) struct Opening {
    wanted: HashSet<SocketAddr>,
    listeners: Vec<TcpListener>,
    /// What had to make room for it.
    closed: Vec<SocketAddr>,
}

impl Doors {
    /// None is open yet.
    pub(super) fn new(keeper: UnboundedSender<Mail>) -> Self {
        Self { open: HashSet::new(), keeper }
    }

    /// Binds what these routes want and is not open yet. Where another address of the same port is in the way that they
    /// want no more, it is closed first, and opened again if not all of them can be had.
    pub(super) fn bind(&mut self, routes: &[TcpRoute]) -> Result<Opening, DoorError> {
        let wanted = routes.iter().flat_map(TcpRoute::addresses).collect();
        let closed = self.in_the_way(&wanted);
        let _ = self.close(&closed).recv_timeout(PATIENCE);
        match self.bind_new(routes) {
            Ok(listeners) => Ok(Opening { wanted, listeners, closed }),
            Err(error) => {
                self.reopen(closed);
                Err(error)
            }
        }
    }

    /// Opens what is new and closes what nobody wants any more.
    pub(super) fn open(&mut self, opening: Opening) {
        let unwanted: Vec<SocketAddr> = self.open.difference(&opening.wanted).copied().collect();
        self.close(&unwanted);
        self.hand_over(opening.listeners);
    }

    /// Leaves everything as it was before.
    pub(super) fn abandon(&mut self, opening: Opening) {
        drop(opening.listeners);
        self.reopen(opening.closed);
    }

    /// What is open, wanted no more, and keeps something that is wanted from being opened.
    fn in_the_way(&self, wanted: &HashSet<SocketAddr>) -> Vec<SocketAddr> {
        let is_in_the_way = |open: &&SocketAddr| wanted.iter().any(|wanted| overlap(*wanted, **open));
        self.open.difference(wanted).filter(is_in_the_way).copied().collect()
    }

    fn bind_new(&self, routes: &[TcpRoute]) -> Result<Vec<TcpListener>, DoorError> {
        let mut listeners = Vec::new();
        // Several routes may share an address.
        let mut known = self.open.clone();
        for route in routes {
            let new = |addresses: &[SocketAddr]| {
                addresses.iter().filter(|address| !known.contains(address)).copied().collect()
            };
            let listen =
                Listen { required: new(&route.listen.required), optional: new(&route.listen.optional), origin: None };
            let bound = listen::bind(&listen).map_err(|source| DoorError {
                route: route.name.clone(),
                origin: route.listen.origin.clone(),
                source,
            })?;
            listeners.extend(bound);
            known.extend(route.addresses());
        }
        Ok(listeners)
    }

    /// Closes these; what is returned ends when they are closed.
    fn close(&mut self, addresses: &[SocketAddr]) -> Receiver<Infallible> {
        let (closed, closing) = mpsc::channel();
        for address in addresses {
            self.open.remove(address);
            let _ = self.keeper.send(Mail::Close(*address, closed.clone()));
        }
        closing
    }

    /// Opens again what was closed a moment ago.
    fn reopen(&mut self, addresses: Vec<SocketAddr>) {
        for address in addresses {
            match listen::bind(&Listen { required: vec![address], optional: Vec::new(), origin: None }) {
                Ok(listeners) => self.hand_over(listeners),
                Err(error) => {
                    let reason = without_number(&error.source);
                    tracing::error!(target: "portolan", "{error} any more: {reason}");
                }
            }
        }
    }

    fn hand_over(&mut self, listeners: Vec<TcpListener>) {
        for listener in listeners {
            self.open.extend(listener.local_addr());
            let _ = self.keeper.send(Mail::Open(listener));
        }
    }
}
