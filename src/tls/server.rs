//! The side of TLS that a client meets: whose certificate it is shown, and what is agreed on with it.
//!
//! TLS 1.2 and later, HTTP/2 before HTTP/1.1 (RFC 7301), no early data, and no key log whatever the environment says.

use std::{
    collections::HashSet,
    fmt, io,
    net::{IpAddr, Ipv4Addr, Ipv6Addr},
    path::PathBuf,
    sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock},
    time::SystemTime,
};

use rustls::{
    ServerConfig,
    crypto::aws_lc_rs,
    server::{Acceptor, ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    Authority, AuthorityError, Own,
    leaf::{Leaves, Subject},
    own,
};

/// What the table in force says of certificates.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The hosts that it names; a wildcard by its suffix. A new authority may vouch for them.
    pub hosts: Vec<String>,
    /// Where the proxy listens: loopback addresses among these are named where a client names nobody.
    pub addresses: Vec<IpAddr>,
    /// Certificates of the user's own.
    pub own: Vec<Own>,
}

/// Whose certificate is shown: shared by all workers.
pub struct Keys {
    folder: PathBuf,
    is_ours: Box<dyn Fn(&str) -> bool + Send + Sync>,
    wanted: RwLock<Arc<Wanted>>,
    minted: Mutex<Minted>,
}

#[derive(Default)]
struct Minted {
    leaves: Option<Leaves>,
    /// Hosts of which it was said that the authority cannot vouch for them.
    told: HashSet<String>,
}

/// Why nothing is shown.
#[derive(Debug, thiserror::Error)]
enum Refusal {
    #[error("`{0}` is neither a local name nor a host of the table")]
    NotOurs(String),
    #[error(transparent)]
    NoAuthority(#[from] AuthorityError),
}

impl Refusal {
    /// What the client is told (RFC 8446 §6.2).
    fn alert(&self) -> u8 {
        match self {
            Self::NotOurs(_) => 112,
            Self::NoAuthority(_) => 80,
        }
    }
}

impl Keys {
    /// The authority lies in `folder`, and is made there when it is first needed. Nothing is shown for a name, in
    /// lowercase, that is not ours.
    pub fn new(folder: PathBuf, is_ours: impl Fn(&str) -> bool + Send + Sync + 'static) -> Self {
        Self { folder, is_ours: Box::new(is_ours), wanted: RwLock::default(), minted: Mutex::default() }
    }

    /// From the next handshake on, what this table says.
    pub fn put(&self, wanted: Wanted) {
        let wanted = Arc::new(wanted);
        *self.wanted.write().unwrap_or_else(PoisonError::into_inner) = wanted.clone();
        let minted = &mut *self.minted();
        if let Some(leaves) = &minted.leaves {
            tell_uncovered(&leaves.authority, &wanted, &mut minted.told);
        }
    }

    /// Whether a connection that was opened for `name` (its SNI, if it sent one) may carry requests for `host`, in the
    /// form of [`Host::name`](crate::head::Host::name). What it may not is answered 421 (RFC 9110 §15.5.20).
    ///
    /// It may for the very name, and for whatever else a certificate of the user's own names; without a name for this
    /// machine alone.
    pub fn covers(&self, name: Option<&str>, host: &str) -> bool {
        let Some(name) = name.map(plain) else { return is_this_machine(host) };
        name == host || own::best(&self.wanted().own, &name).is_some_and(|own| own.names(host))
    }

    fn wanted(&self) -> Arc<Wanted> {
        self.wanted.read().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn minted(&self) -> MutexGuard<'_, Minted> {
        self.minted.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shown(&self, name: Option<&str>) -> Result<Arc<CertifiedKey>, Refusal> {
        let wanted = self.wanted();
        let name = name.map(plain);
        let own = match &name {
            Some(name) if !(self.is_ours)(name) => return Err(Refusal::NotOurs(name.clone())),
            Some(name) => own::best(&wanted.own, name),
            // Nobody names an address (RFC 6066 §3), so the one that was asked for is not known.
            None => ["127.0.0.1", "[::1]"].iter().find_map(|address| own::best(&wanted.own, address)),
        };
        if let Some(own) = own {
            return Ok(own.shown().clone());
        }
        let subject = name.map_or_else(|| Subject::Machine(loopback(&wanted.addresses)), Subject::Name);
        let minted = &mut *self.minted();
        let leaves = match minted.leaves.take().filter(|leaves| !leaves.authority.is_replaced()) {
            Some(leaves) if !leaves.authority.has_expired(SystemTime::now()) => leaves,
            _ => self.begin(&wanted, &mut minted.told)?,
        };
        Ok(minted.leaves.insert(leaves).of(subject, SystemTime::now())?)
    }

    fn begin(&self, wanted: &Wanted, told: &mut HashSet<String>) -> Result<Leaves, AuthorityError> {
        let authority = Authority::load_or_make(&self.folder, &wanted.hosts)?;
        told.clear();
        tell_uncovered(&authority, wanted, told);
        Ok(Leaves::new(authority))
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        self.shown(hello.server_name()).ok()
    }
}

/// What is agreed on with every client.
///
/// Fails only where the system has no random numbers to give.
pub fn config(keys: Arc<Keys>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let versions = ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions()?;
    let mut config = versions.with_no_client_auth().with_cert_resolver(keys);
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    config.ticketer = aws_lc_rs::Ticketer::new()?;
    config.max_early_data_size = 0;
    Ok(Arc::new(config))
}

/// Speaks TLS with a client, or tells it by an alert why not.
///
/// Waits as long as the client takes. The error is of the client's making, but for an authority that is of no use.
pub async fn accept<S>(config: &Arc<ServerConfig>, keys: &Keys, stream: S) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut started = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let refused = keys.shown(started.client_hello().server_name()).err();
    let Some(refusal) = refused else { return started.into_stream(config.clone()).await };
    if let Refusal::NoAuthority(error) = &refusal {
        tracing::error!(target: "portolan", "no certificate can be shown: {error}");
    }
    started.io.write_all(&fatal(refusal.alert())).await?;
    started.io.shutdown().await?;
    Err(io::Error::new(io::ErrorKind::InvalidInput, refusal))
}

/// An alert before anything is agreed on: a record of type 21, in the version that all understand (RFC 8446 §5.1, §6).
fn fatal(alert: u8) -> [u8; 7] {
    [21, 3, 3, 0, 2, 2, alert]
}

/// As hosts are compared: SNI knows neither ports nor trailing dots (RFC 6066 §3).
fn plain(name: &str) -> String {
    name.to_ascii_lowercase()
}

fn is_this_machine(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.is_loopback())
}

/// The usual addresses of this machine, and those of its loopback network at which we listen.
fn loopback(addresses: &[IpAddr]) -> Vec<IpAddr> {
    let mut all = vec![IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    let further = addresses.iter().filter(|address| address.is_loopback() && !all.contains(address));
    let further: Vec<IpAddr> = further.copied().collect();
    all.extend(further);
    all
}

/// Says once of each host that no client will take what is shown for it, and the way out.
fn tell_uncovered(authority: &Authority, wanted: &Wanted, told: &mut HashSet<String>) {
    let has_own = |host: &str| own::best(&wanted.own, host).is_some();
    for host in wanted.hosts.iter().filter(|host| !authority.permits(host) && !has_own(host) && !is_this_machine(host))
    {
        if told.insert(host.clone()) {
            tracing::warn!(
                target: "portolan",
                "the local authority was made before the table named {host}, and may not vouch for it: \
                 run `portolan untrust`, then `portolan trust`"
            );
        }
    }
}
