//! Certificates that the user brings: `cert` and `key` of a route, read and checked before they are shown to anybody.

use std::{fmt, fs, io, path::Path, sync::Arc, time::SystemTime};

use rustls::{
    client::verify_server_name, crypto::aws_lc_rs::sign::any_supported_type, server::ParsedCertificate,
    sign::CertifiedKey,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};

use super::der;

/// A certificate of the user's own, and whose it is.
#[derive(Debug, Clone)]
pub struct Own {
    hosts: Vec<String>,
    shown: Arc<CertifiedKey>,
}

/// Which of the two files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Which {
    /// `cert`
    Certificate,
    /// `key`
    Key,
}

impl fmt::Display for Which {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Certificate => "certificate",
            Self::Key => "private key",
        })
    }
}

/// Why a certificate of the user's own cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// The system refuses to read it.
    #[error("the {which} cannot be read: {}", crate::diagnostic::without_number(.error))]
    Unreadable {
        /// Which of the two.
        which: Which,
        /// What the system says.
        #[source]
        error: io::Error,
    },
    /// It is a file of something else.
    #[error("the file holds no {0} in PEM form")]
    Absent(Which),
    /// It is there, but of no use.
    #[error("the {0} cannot be used: {1}")]
    Unusable(Which, String),
    /// They are of two different pairs.
    #[error("the private key is not that of the certificate")]
    Mismatch,
    /// Whoever is shown it refuses it.
    #[error("the certificate is valid until {}", day(.0))]
    Expired(SystemTime),
    /// Whoever is shown it refuses it.
    #[error("the certificate is valid only from {}", day(.0))]
    NotYet(SystemTime),
}

impl OwnError {
    /// The file that is to blame.
    pub fn which(&self) -> Which {
        match self {
            Self::Unreadable { which, .. } | Self::Absent(which) | Self::Unusable(which, _) => *which,
            Self::Mismatch => Which::Key,
            Self::Expired(_) | Self::NotYet(_) => Which::Certificate,
        }
    }
}

fn day(time: &SystemTime) -> String {
    jiff::Timestamp::try_from(*time).map(|time| time.strftime("%F %T UTC").to_string()).unwrap_or_default()
}

impl Own {
    /// Reads both files. `hosts` are names, or `*.suffix` for whatever stands below one.
    pub fn read(hosts: Vec<String>, certificate: &Path, key: &Path) -> Result<Self, OwnError> {
        let unreadable = |which| move |error| OwnError::Unreadable { which, error };
        let certificate = fs::read(certificate).map_err(unreadable(Which::Certificate))?;
        let key = zeroize::Zeroizing::new(fs::read(key).map_err(unreadable(Which::Key))?);
        Ok(Self { hosts, shown: Arc::new(checked(&certificate, &key, SystemTime::now())?) })
    }

    /// How well it fits a name, if it does: whole before wildcard, and the longer suffix first.
    pub(super) fn fit(&self, name: &str) -> Option<usize> {
        let fit = |host: &String| match host.strip_prefix("*.") {
            Some(suffix) => name.strip_suffix(suffix).is_some_and(|above| above.ends_with('.')).then_some(suffix.len()),
            None => (host == name).then_some(usize::MAX),
        };
        self.hosts.iter().filter_map(fit).max()
    }

    /// Whether the certificate itself names this host.
    pub(super) fn names(&self, host: &str) -> bool {
        let host = host.trim_start_matches('[').trim_end_matches(']');
        let name = ServerName::try_from(host);
        let certificate = self.shown.end_entity_cert().and_then(ParsedCertificate::try_from);
        name.is_ok_and(|name| certificate.is_ok_and(|certificate| verify_server_name(&certificate, &name).is_ok()))
    }

    pub(super) fn shown(&self) -> &Arc<CertifiedKey> {
        &self.shown
    }
}

fn checked(certificate: &[u8], key: &[u8], now: SystemTime) -> Result<CertifiedKey, OwnError> {
    let unusable = |which| move |error: rustls_pki_types::pem::Error| OwnError::Unusable(which, error.to_string());
    let chain = CertificateDer::pem_slice_iter(certificate).collect::<Result<Vec<_>, _>>();
    let chain = chain.map_err(unusable(Which::Certificate))?;
    let first = chain.first().ok_or(OwnError::Absent(Which::Certificate))?;
    let facts = der::facts(first).filter(|_| ParsedCertificate::try_from(first).is_ok());
    let facts = facts.ok_or_else(|| OwnError::Unusable(Which::Certificate, "it is no X.509 certificate".into()))?;
    if facts.until <= now {
        return Err(OwnError::Expired(facts.until));
    }
    if now < facts.from {
        return Err(OwnError::NotYet(facts.from));
    }
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|error| no_key(key, &error))?;
    let key = any_supported_type(&key);
    let key =
        key.map_err(|_| OwnError::Unusable(Which::Key, "it is neither an RSA, an ECDSA nor an Ed25519 key".into()))?;
    let shown = CertifiedKey::new(chain, key);
    match shown.keys_match() {
        Err(rustls::Error::InconsistentKeys(rustls::InconsistentKeys::KeyMismatch)) => Err(OwnError::Mismatch),
        _ => Ok(shown),
    }
}

fn no_key(file: &[u8], error: &rustls_pki_types::pem::Error) -> OwnError {
    if memchr::memmem::find(file, b"ENCRYPTED").is_some() {
        let how = "it is locked with a password; `openssl pkey -in FILE -out FILE` writes it without";
        return OwnError::Unusable(Which::Key, how.into());
    }
    match error {
        rustls_pki_types::pem::Error::NoItemsFound => OwnError::Absent(Which::Key),
        error => OwnError::Unusable(Which::Key, error.to_string()),
    }
}

/// The one whose hosts fit a name best.
pub(super) fn best<'a>(own: &'a [Own], name: &str) -> Option<&'a Own> {
    own.iter().filter_map(|one| Some((one.fit(name)?, one))).max_by_key(|(fit, _)| *fit).map(|(_, one)| one)
}
