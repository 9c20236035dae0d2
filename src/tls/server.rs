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
use tokio::{
    io::{AsyncRead, AsyncWrite, AsyncWriteExt as _},
    task::spawn_blocking,
};
use tokio_rustls::{LazyConfigAcceptor, server::TlsStream};

use super::{
    Authority, AuthorityError, Own,
    leaf::{self, Leaves, Subject},
    own,
};

/// What the table in force says of certificates.
#[derive(Debug, Default)]
pub struct Wanted {
    /// The hosts that it names and brings no certificate for; a wildcard by its suffix. A new authority may vouch for them.
    pub hosts: Vec<String>,
    /// Where the proxy listens: loopback addresses among these are named where a client names nobody.
    pub addresses: Vec<IpAddr>,
    /// Certificates of the user's own.
    pub own: Vec<Own>,
}

/// Whose certificate is shown: shared by all workers.
///
/// What was shown before is shown again at once. What must be made is made where a thread may wait for the disk.
pub struct Keys {
    folder: PathBuf,
    is_ours: Box<dyn Fn(&str) -> bool + Send + Sync>,
    wanted: RwLock<Arc<Wanted>>,
    /// Held for a look, and never while anything is waited for.
    minted: Mutex<Minted>,
    /// Held by the one who makes something.
    making: Mutex<()>,
}

#[derive(Default)]
struct Minted {
    leaves: Option<Leaves>,
    /// Hosts of which it was said that the authority cannot vouch for them.
    told: HashSet<String>,
    /// What was said of an authority that is of no use, since it last was of use.
    complaints: HashSet<String>,
}

/// Whose certificate a client is to be shown.
enum Whose {
    /// The user's own.
    Own(Arc<CertifiedKey>),
    /// One of ours.
    Ours(Subject),
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
        Self {
            folder,
            is_ours: Box::new(is_ours),
            wanted: RwLock::default(),
            minted: Mutex::default(),
            making: Mutex::default(),
        }
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

    fn whose(&self, name: Option<&str>) -> Result<Whose, Refusal> {
        let wanted = self.wanted();
        let name = name.map(plain);
        let own = match &name {
            Some(name) if !(self.is_ours)(name) => return Err(Refusal::NotOurs(name.clone())),
            Some(name) => own::best(&wanted.own, name),
            // Nobody names an address (RFC 6066 §3), so the one that was asked for is not known.
            None => ["127.0.0.1", "[::1]"].iter().find_map(|address| own::best(&wanted.own, address)),
        };
        let ours = || name.clone().map_or_else(|| Subject::Machine(loopback(&wanted.addresses)), Subject::Name);
        Ok(own.map_or_else(|| Whose::Ours(ours()), |own| Whose::Own(own.shown().clone())))
    }

    /// Has there be a certificate to show for this name, and waits while it is made.
    async fn prepare(self: &Arc<Self>, name: Option<&str>) -> Result<(), Refusal> {
        let Whose::Ours(subject) = self.whose(name)? else { return Ok(()) };
        if self.kept(&subject).is_some() {
            return Ok(());
        }
        let keys = Arc::clone(self);
        let made = spawn_blocking(move || keys.make(subject)).await;
        let made = made.unwrap_or_else(|broken| Err(AuthorityError::System(self.folder.clone(), broken.into())));
        Ok(made.map(drop)?)
    }

    /// What was made for this subject, if the authority is still the one that lies on the disk.
    fn kept(&self, subject: &Subject) -> Option<Arc<CertifiedKey>> {
        let now = SystemTime::now();
        let (shown, authority) = self.remembered(subject, now)?;
        is_of_use(&authority, now).then_some(shown)
    }

    /// What was made for this subject, and who signed it.
    fn remembered(&self, subject: &Subject, now: SystemTime) -> Option<(Arc<CertifiedKey>, Arc<Authority>)> {
        let leaves = &mut self.minted().leaves;
        let leaves = leaves.as_mut()?;
        Some((leaves.get(subject, now)?, Arc::clone(&leaves.authority)))
    }

    /// Makes what is shown for this subject, and the authority if need be. Waits for the disk, and for other portolans.
    fn make(&self, subject: Subject) -> Result<Arc<CertifiedKey>, AuthorityError> {
        let _making = self.making.lock().unwrap_or_else(PoisonError::into_inner);
        // Another client may have asked for the same one.
        if let Some(kept) = self.kept(&subject) {
            return Ok(kept);
        }
        let now = SystemTime::now();
        let authority = self.authority(now)?;
        let leaf = leaf::sign(&authority, &subject, now)?;
        let minted = &mut *self.minted();
        minted.complaints.clear();
        Ok(minted.leaves.get_or_insert_with(|| Leaves::new(authority)).put(subject, leaf))
    }

    /// The one that signs, and that has signed everything that is kept from now on.
    fn authority(&self, now: SystemTime) -> Result<Arc<Authority>, AuthorityError> {
        let known = self.minted().leaves.as_ref().map(|leaves| Arc::clone(&leaves.authority));
        if let Some(known) = known.filter(|known| is_of_use(known, now)) {
            return Ok(known);
        }
        let wanted = self.wanted();
        let authority = Arc::new(Authority::load_or_make(&self.folder, &wanted.hosts)?);
        let minted = &mut *self.minted();
        minted.told.clear();
        tell_uncovered(&authority, &wanted, &mut minted.told);
        minted.leaves = Some(Leaves::new(Arc::clone(&authority)));
        Ok(authority)
    }

    /// Says once what is wrong, however many ask.
    fn complain(&self, error: &AuthorityError) {
        let text = error.to_string();
        if self.minted().complaints.insert(text.clone()) {
            tracing::error!(target: "portolan", "no certificate can be shown: {text}");
        }
    }
}

fn is_of_use(authority: &Authority, now: SystemTime) -> bool {
    !authority.has_expired(now) && !authority.is_replaced()
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("folder", &self.folder).finish_non_exhaustive()
    }
}

impl ResolvesServerCert for Keys {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        match self.whose(hello.server_name()).ok()? {
            Whose::Own(shown) => Some(shown),
            // It was prepared just now, and is made here only if another authority has begun since.
            Whose::Ours(subject) => {
                let prepared = self.remembered(&subject, SystemTime::now()).map(|(shown, _)| shown);
                prepared.or_else(|| self.make(subject).ok())
            }
        }
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
pub async fn accept<S>(config: &Arc<ServerConfig>, keys: &Arc<Keys>, stream: S) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let mut started = LazyConfigAcceptor::new(Acceptor::default(), stream).await?;
    let name = started.client_hello().server_name().map(str::to_owned);
    let refused = keys.prepare(name.as_deref()).await.err();
    let Some(refusal) = refused else { return started.into_stream(config.clone()).await };
    if let Refusal::NoAuthority(error) = &refusal {
        keys.complain(error);
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
    for host in wanted.hosts.iter().filter(|host| !authority.permits(host) && !is_this_machine(host)) {
        if told.insert(host.clone()) {
            tracing::warn!(
                target: "portolan",
                "the local authority was made before the table named {host}, and may not vouch for it: \
                 run `portolan untrust`, then `portolan trust`"
            );
        }
    }
}
