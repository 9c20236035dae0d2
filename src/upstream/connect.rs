//! One new connection to an endpoint, on whichever loopback address it listens.

use std::{
    io,
    net::SocketAddr,
    pin::Pin,
    sync::{Arc, atomic::Ordering::Relaxed},
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpStream, UnixStream, lookup_host},
    time::{Instant, timeout},
};
use tokio_rustls::client::TlsStream;

use super::{
    Endpoint,
    place::{Absence, Place, Spot, Standing},
};
use crate::{
    config::{Address, Protocol},
    diagnostic::without_number,
    http1::leg::{Transport, Watch},
    http2,
    tls::client::{self as tls, Inside},
};

/// A connection to a program.
#[derive(Debug)]
pub enum Stream {
    /// Over the loopback interface, or further.
    Tcp(TcpStream),
    /// Over a Unix socket.
    Unix(UnixStream),
    /// Over TCP, encrypted.
    Tls(Box<TlsStream<TcpStream>>),
    /// One exchange among others on a connection of HTTP/2.
    Http2(Box<http2::client::Stream>),
}

/// A connection that was made, before anything was said in the program's language.
#[derive(Debug)]
pub enum Dialled {
    /// For HTTP/1, one exchange at a time.
    Http1(Stream),
    /// For HTTP/2, many at once.
    Http2(Stream),
}

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// Nobody answered in time.
    #[error("no connection within {}", seconds(*.0))]
    Timeout(Duration),
    /// Somebody answered no, or nothing is there.
    #[error("{}", reason(.0))]
    Refused(#[source] io::Error),
    /// Somebody answered, and hung up at once.
    #[error("the connection ended before an answer")]
    Closed,
    /// It stands, but is not to be trusted, or nobody there speaks TLS.
    #[error("TLS failed: {}", .0)]
    Tls(#[source] io::Error),
    /// We may open no more (`ulimit -n`), or the system may not.
    #[error("no descriptor is left for a connection: raise `ulimit -n`")]
    Exhausted,
    /// The program that was meant is not there; nobody was asked for a connection.
    #[error("{}", .0.message)]
    Absent(Arc<Absence>),
}

impl ConnectError {
    /// Whether it means that nobody listens there now, which may pass.
    pub fn is_absence(&self) -> bool {
        matches!(self, Self::Refused(_) | Self::Absent(_))
    }
}

/// Connects within `limit`; the limit covers all addresses together.
pub async fn connect(endpoint: &Endpoint, limit: Duration) -> Result<Stream, ConnectError> {
    let found = found(endpoint)?;
    match timeout(limit, try_connect(endpoint, found.as_ref())).await {
        Ok(Ok(stream)) => Ok(stream),
        Ok(Err(error)) if error.kind() == io::ErrorKind::ConnectionReset => Err(ConnectError::Closed),
        Ok(Err(error)) if is_lack(&error) => Err(ConnectError::Exhausted),
        Ok(Err(error)) => Err(ConnectError::Refused(error)),
        Err(_elapsed) => Err(ConnectError::Timeout(limit)),
    }
}

/// The same for an exchange of HTTP: encrypted where the endpoint says so, and in a version that both sides speak. Whoever
/// may leave HTTP for another protocol needs HTTP/1.
pub async fn dial(endpoint: &Endpoint, may_leave: bool, limit: Duration) -> Result<Dialled, ConnectError> {
    let begun = Instant::now();
    let stream = connect(endpoint, limit).await?;
    let insecure = match endpoint.protocol() {
        Protocol::Http => return Ok(Dialled::Http1(stream)),
        Protocol::H2c => return Ok(Dialled::Http2(stream)),
        Protocol::Https { insecure } => insecure,
    };
    // A socket of a file has no name that a certificate could show; no table says so.
    let Stream::Tcp(stream) = stream else { return Ok(Dialled::Http1(stream)) };
    let inside = if may_leave { Inside::Http1 } else { Inside::Either };
    let name = name(endpoint.address());
    let encrypted = timeout(limit.saturating_sub(begun.elapsed()), tls::connect(stream, &name, inside, insecure)).await;
    let encrypted = encrypted.map_err(|_elapsed| ConnectError::Timeout(limit))?.map_err(ConnectError::Tls)?;
    let is_http2 = tls::speaks_http2(&encrypted);
    let stream = Stream::Tls(Box::new(encrypted));
    Ok(if is_http2 { Dialled::Http2(stream) } else { Dialled::Http1(stream) })
}

/// What the program's certificate must be for.
fn name(address: &Address) -> String {
    match address {
        Address::Ip(address) => address.ip().to_string(),
        Address::Name { host, .. } => host.clone(),
        Address::Loopback(_) | Address::Unix(_) | Address::Followed(_) => "localhost".to_owned(),
    }
}

/// EMFILE or ENFILE.
fn is_lack(error: &io::Error) -> bool {
    use rustix::io::Errno;
    [Errno::MFILE, Errno::NFILE].iter().any(|lack| error.raw_os_error() == Some(lack.raw_os_error()))
}

/// Where the program was found that alone is meant, by what it is or as the owner of its port; `None` for an address at
/// which whoever listens is right.
fn found(endpoint: &Endpoint) -> Result<Option<Spot>, ConnectError> {
    let Some(place) = endpoint.place() else { return Ok(None) };
    if !matches!(endpoint.address(), Address::Followed(_)) && endpoint.owner().is_none() {
        return Ok(None);
    }
    match place.standing() {
        Standing::At(spot) => Ok(Some(spot)),
        Standing::Absent(absence) => {
            place.miss();
            Err(ConnectError::Absent(absence))
        }
    }
}

async fn try_connect(endpoint: &Endpoint, found: Option<&Spot>) -> io::Result<Stream> {
    if let Some(spot) = found {
        let heard = spot.heard();
        if heard.is_empty() {
            endpoint.place().map(Place::miss);
            return Err(io::ErrorKind::ConnectionRefused.into());
        }
        return tcp(&heard).await;
    }
    match endpoint.address() {
        Address::Unix(path) => Ok(Stream::Unix(UnixStream::connect(path).await?)),
        Address::Ip(address) => tcp(&[*address]).await,
        Address::Name { host, port } => {
            let addresses: Vec<_> = lookup_host((host.as_str(), *port)).await?.collect();
            tcp(&addresses).await
        }
        Address::Loopback(port) => loopback(endpoint, *port).await,
        // It has a place, and so was found or not.
        Address::Followed(_) => Err(io::ErrorKind::ConnectionRefused.into()),
    }
}

/// Tries the address that answered last first. A refusal on loopback comes at once, so trying both in turn costs
/// microseconds, and no program ever sees two connections for one request.
async fn loopback(endpoint: &Endpoint, port: u16) -> io::Result<Stream> {
    let both = [SocketAddr::from(([127, 0, 0, 1], port)), SocketAddr::from(([0, 0, 0, 0, 0, 0, 0, 1], port))];
    let [ipv4, ipv6] = both;
    let order = if endpoint.ipv6_first.load(Relaxed) { [ipv6, ipv4] } else { both };
    let stream = tcp(&order).await?;
    if let Stream::Tcp(stream) = &stream {
        endpoint.ipv6_first.store(stream.peer_addr()?.is_ipv6(), Relaxed);
    }
    Ok(stream)
}

/// The first address that answers; otherwise the refusal of the first one, which is the one that was meant.
async fn tcp(addresses: &[SocketAddr]) -> io::Result<Stream> {
    let mut refusal = None;
    for address in addresses {
        match TcpStream::connect(address).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(Stream::Tcp(stream));
            }
            Err(error) => refusal = refusal.or(Some(error)),
        }
    }
    Err(refusal.unwrap_or_else(|| io::Error::new(io::ErrorKind::NotFound, "the name has no address")))
}

/// An operating system's refusal without its number.
fn reason(error: &io::Error) -> String {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => "nothing listens there".into(),
        io::ErrorKind::NotFound => "there is no such address".into(),
        io::ErrorKind::PermissionDenied => "access to it is not permitted".into(),
        _ => without_number(error),
    }
}

fn seconds(limit: Duration) -> String {
    format!("{} s", limit.as_secs_f64())
}

impl AsyncRead for Stream {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Self::Http2(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Self::Unix(stream) => Pin::new(stream).poll_flush(cx),
            Self::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Self::Http2(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Self::Http2(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        match self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Unix(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Tls(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
            Self::Http2(stream) => Pin::new(stream).poll_write_vectored(cx, slices),
        }
    }

    fn is_write_vectored(&self) -> bool {
        matches!(self, Self::Tcp(_) | Self::Unix(_))
    }
}

impl Transport for Stream {
    fn watch(&mut self, cx: &mut Context<'_>) -> Watch {
        match self {
            Self::Tcp(stream) => stream.watch(cx),
            Self::Unix(stream) => stream.watch(cx),
            Self::Tls(stream) => stream.watch(cx),
            Self::Http2(stream) => stream.watch(cx),
        }
    }

    fn is_quiet(&mut self) -> bool {
        match self {
            Self::Tcp(stream) => stream.is_quiet(),
            Self::Unix(stream) => stream.is_quiet(),
            Self::Tls(stream) => stream.is_quiet(),
            Self::Http2(stream) => stream.is_quiet(),
        }
    }

    fn reset(&mut self) {
        match self {
            Self::Tcp(stream) => stream.reset(),
            Self::Unix(stream) => stream.reset(),
            Self::Tls(stream) => stream.reset(),
            Self::Http2(stream) => stream.reset(),
        }
    }

    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::Unix(_) | Self::Tls(_) | Self::Http2(_) => None,
        }
    }

    fn is_unprocessed(&self) -> bool {
        matches!(self, Self::Http2(stream) if stream.is_unprocessed())
    }
}
