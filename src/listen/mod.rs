//! Sockets in: bind all of them, accept without ever dying, serve each connection.
//!
//! This room knows no route. It is given a handler, and hands it requests.

pub mod conn;
pub mod deadlines;
pub mod protocols;
pub mod within;

use std::{
    io,
    net::{SocketAddr, TcpListener},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use socket2::{Domain, Protocol, Socket, Type};
use tokio::{net::TcpStream, time::sleep};

use crate::config::Listen;

/// Connections that may wait to be accepted; the kernel cuts it to its own limit (`somaxconn`).
const BACKLOG: i32 = 4096;

/// How many ports are tried that the system picks for one address, until one is free for all of them.
const TRIES: usize = 8;

/// The pauses after a failed accept: short at first, as a descriptor may come free at any moment, and never so long
/// that a person notices.
const PAUSE: [Duration; 2] = [Duration::from_millis(5), Duration::from_millis(100)];

/// An address that cannot be listened on.
#[derive(Debug, thiserror::Error)]
#[error("cannot listen on {address}")]
pub struct BindError {
    /// Which one.
    pub address: SocketAddr,
    /// Why.
    pub source: io::Error,
}

/// Binds every required address and those optional ones that this machine has.
///
/// Port 0 takes a free port, the same for all of them. An optional address that somebody else holds is an error
/// like any other: half of `localhost` would be theirs.
pub fn bind(listen: &Listen) -> Result<Vec<TcpListener>, BindError> {
    bind_by(listen, bind_one)
}

fn bind_by(
    listen: &Listen,
    mut bind_one: impl FnMut(SocketAddr) -> io::Result<TcpListener>,
) -> Result<Vec<TcpListener>, BindError> {
    let mut more = 1..TRIES;
    loop {
        match bind_all(listen, &mut bind_one) {
            Err(error) if is_by_chance(listen, &error) && more.next().is_some() => {}
            result => return result,
        }
    }
}

/// Whether the port was not asked for, but free for another address and then taken for this one.
fn is_by_chance(listen: &Listen, error: &BindError) -> bool {
    let was_asked_for = listen.required.iter().chain(&listen.optional).any(|address| *address == error.address);
    error.source.kind() == io::ErrorKind::AddrInUse && !was_asked_for
}

fn bind_all(
    listen: &Listen,
    mut bind_one: impl FnMut(SocketAddr) -> io::Result<TcpListener>,
) -> Result<Vec<TcpListener>, BindError> {
    let mut listeners = Vec::new();
    let mut chosen = None;
    let required = listen.required.iter().map(|address| (address, true));
    for (address, required) in required.chain(listen.optional.iter().map(|address| (address, false))) {
        let mut address = *address;
        if address.port() == 0 {
            address.set_port(chosen.unwrap_or(0));
        }
        match bind_one(address).and_then(|listener| Ok((listener.local_addr()?.port(), listener))) {
            Ok((port, listener)) => {
                chosen = chosen.or(Some(port));
                listeners.push(listener);
            }
            Err(error) if !required && is_missing(&error) => {}
            Err(source) => return Err(BindError { address, source }),
        }
    }
    Ok(listeners)
}

/// Whether the machine simply has no such address, as one without IPv6.
fn is_missing(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::AddrNotAvailable | io::ErrorKind::Unsupported)
        || error.raw_os_error() == Some(rustix::io::Errno::AFNOSUPPORT.raw_os_error())
}

fn bind_one(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, Some(Protocol::TCP))?;
    // An address whose old connections linger (TIME_WAIT) is free; on Unix this never shares a live listener.
    #[cfg(unix)]
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.set_nonblocking(true)?;
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    Ok(socket.into())
}

/// Accepts until the future is dropped, whatever happens: a lack of descriptors or memory is waited out.
pub async fn accept(listener: tokio::net::TcpListener, mut deliver: impl FnMut(TcpStream, SocketAddr)) {
    let [shortest, longest] = PAUSE;
    let mut pause = shortest;
    let mut told: Option<tokio::time::Instant> = None;
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                pause = shortest;
                deliver(stream, peer);
            }
            Err(error) if is_the_clients(&error) => {}
            Err(error) => {
                if told.is_none_or(|told| told.elapsed() > Duration::from_secs(1)) {
                    told = Some(tokio::time::Instant::now());
                    tracing::warn!(target: "portolan", "cannot accept connections, trying again: {error}");
                }
                sleep(pause).await;
                pause = longest.min(pause * 2);
            }
        }
    }
}

/// An error of the connection that was to be accepted, not of the listener (accept(2), "Error handling").
fn is_the_clients(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset | io::ErrorKind::Interrupted
    )
}

/// A connection in the count of its worker; dropping it takes it out.
#[derive(Debug)]
pub struct Counted(Arc<AtomicUsize>);

impl Counted {
    /// Counts it until it is dropped.
    pub fn new(connections: &Arc<AtomicUsize>) -> Self {
        connections.fetch_add(1, Relaxed);
        Self(Arc::clone(connections))
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    /// Asks for two addresses on `port`, of which the second is taken so many times.
    fn bind_while_taken(times: usize, port: u16) -> (Result<Vec<TcpListener>, BindError>, Vec<u16>) {
        let (first, second) = (Ipv4Addr::LOCALHOST, Ipv4Addr::new(127, 0, 0, 2));
        let required = [first, second].map(|ip| (ip, port).into()).to_vec();
        let mut asked = Vec::new();
        let result = bind_by(&Listen { required, optional: Vec::new(), origin: None }, |address| {
            asked.push(address.port());
            if address.ip() == second && asked.len() <= 2 * times {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            bind_one((first, 0).into())
        });
        (result, asked)
    }

    #[test]
    fn a_port_that_is_not_free_for_all_addresses_is_given_up_for_another() {
        let (result, asked) = bind_while_taken(2, 0);
        assert_eq!(result.expect("the third port is free").len(), 2);
        assert_eq!(asked.iter().map(|port| *port == 0).collect::<Vec<_>>(), [true, false, true, false, true, false]);
    }

    #[test]
    fn it_ends_where_no_port_is_free_for_all_addresses() {
        let (result, asked) = bind_while_taken(usize::MAX / 2, 0);
        let error = result.expect_err("none is free");
        assert_eq!((error.source.kind(), error.address.port()), (io::ErrorKind::AddrInUse, asked[2 * TRIES - 1]));
        assert_eq!(asked.len(), 2 * TRIES);
    }

    #[test]
    fn a_port_that_was_asked_for_is_tried_once() {
        let (result, asked) = bind_while_taken(usize::MAX / 2, 4000);
        assert_eq!(result.expect_err("it is taken").address.port(), 4000);
        assert_eq!(asked, [4000, 4000]);
    }
}
