//! What programs that we start are told of the authority, once there is one: variables that they know already.
//!
//! `NODE_EXTRA_CA_CERTS` adds to what a program trusts. The others replace it: they lead to a bundle of the system's
//! certificates with ours behind them, and are told to nobody who has said already whom to trust.
//!
//! The bundle is one for all who were told of it, whichever portolan wrote it last. So it is left alone by one in whose
//! own environment somebody has said whom to trust: the system's certificates are not what it would read there.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
};

use super::{
    Authority, AuthorityError,
    authority::{self, BUNDLE},
    folder,
};

/// Adds (Node.js, Bun).
const ADDS: &str = "NODE_EXTRA_CA_CERTS";

/// Replace: OpenSSL and what stands on it, Go; Python's requests; curl.
const REPLACE: [&str; 3] = ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];

/// With any of these somebody has said whom to trust. Programs differ in which one they heed first.
const SAID: [&str; 7] = [
    "SSL_CERT_FILE",
    "SSL_CERT_DIR",
    "REQUESTS_CA_BUNDLE",
    "CURL_CA_BUNDLE",
    "AWS_CA_BUNDLE",
    "GIT_SSL_CAINFO",
    "NIX_SSL_CERT_FILE",
];

/// The files that programs are told of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    authority: PathBuf,
    bundle: Option<PathBuf>,
}

impl Told {
    /// As it is now; `None` where there is no authority, or none that is of use. The bundle is written anew where it is not
    /// as it would be now, unless our own environment says whom to trust.
    pub fn now() -> Option<Self> {
        let is_set = |name: &str| env::var_os(name).is_some();
        let told = folder::default().and_then(|folder| Self::of(&folder, is_set));
        told.unwrap_or_else(|error| {
            tracing::debug!(target: "portolan", "programs are told of no authority: {error}");
            None
        })
    }

    /// These files.
    #[cfg(test)]
    pub(crate) fn at(authority: &str, bundle: Option<&str>) -> Self {
        Self { authority: authority.into(), bundle: bundle.map(PathBuf::from) }
    }

    fn of(folder: &Path, is_set: impl Fn(&str) -> bool) -> Result<Option<Self>, AuthorityError> {
        let Some(authority) = Authority::load(folder)? else { return Ok(None) };
        let bundle = if has_said(is_set) { None } else { bundle(folder, &authority)? };
        Ok(Some(Self { authority: authority.public()?, bundle }))
    }

    /// Names and values for a program in whose environment `is_set` tells what stands already.
    pub fn variables(&self, is_set: impl Fn(&str) -> bool) -> Vec<(&'static str, &Path)> {
        let adds = (!is_set(ADDS)).then_some((ADDS, &*self.authority));
        let bundle = self.bundle.as_deref().filter(|_| !has_said(&is_set));
        let replaces = bundle.into_iter().flat_map(|bundle| REPLACE.map(|name| (name, bundle)));
        adds.into_iter().chain(replaces).collect()
    }
}

fn has_said(is_set: impl Fn(&str) -> bool) -> bool {
    SAID.iter().any(|name| is_set(name))
}

/// `None` on a system that has no certificates of its own: a bundle of ours alone would keep a program from the world.
fn bundle(folder: &Path, ours: &Authority) -> Result<Option<PathBuf>, AuthorityError> {
    let mut system = rustls_native_certs::load_native_certs().certs;
    // The system may trust ours as well.
    system.retain(|certificate| certificate != ours.certificate());
    if system.is_empty() {
        return Ok(None);
    }
    let text: String = system.iter().chain([ours.certificate()]).map(authority::text).collect();
    let path = folder.join(BUNDLE);
    match fs::read(&path) {
        Ok(there) if there == text.as_bytes() => Ok(Some(path)),
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(AuthorityError::System(path, error)),
        _ => ours.put_beside(BUNDLE, text.as_bytes()).map(Some),
    }
}

#[cfg(test)]
mod tests {
    use rustls_pki_types::{CertificateDer, pem::PemObject};

    use super::*;

    fn names(told: &Told, set: &[&str]) -> Vec<&'static str> {
        told.variables(|name| set.contains(&name)).into_iter().map(|(name, _)| name).collect()
    }

    #[test]
    fn what_replaces_is_told_only_to_who_has_said_nothing() {
        let told = Told::at("/a.crt", Some("/b.pem"));
        let all = ["NODE_EXTRA_CA_CERTS", "SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"];
        assert_eq!(names(&told, &[]), all);
        assert_eq!(names(&told, &["NODE_EXTRA_CA_CERTS"]), all[1..]);
        assert_eq!(names(&told, &["SSL_CERT_DIR"]), all[..1], "curl would heed ours before it");
        assert_eq!(names(&Told { bundle: None, ..told }, &[]), all[..1]);
    }

    #[test]
    fn nobody_is_told_of_an_authority_that_is_not_there() {
        let home = tempfile::tempdir().unwrap();
        assert_eq!(Told::of(&home.path().join("portolan"), |_| false).unwrap(), None);
        assert!(!home.path().join("portolan").exists());
    }

    #[test]
    fn the_bundle_holds_what_the_system_trusts_and_ours_last() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("portolan");
        let authority = Authority::load_or_make(&folder, &[]).unwrap();
        let system = rustls_native_certs::load_native_certs().certs;
        let Some(bundle) = Told::of(&folder, |_| false).unwrap().unwrap().bundle else {
            return assert!(system.is_empty());
        };
        let all: Vec<_> = CertificateDer::pem_file_iter(&bundle).unwrap().map(Result::unwrap).collect();
        assert_eq!(all[..all.len() - 1], system);
        assert_eq!(all.last(), Some(authority.certificate()));
    }

    #[test]
    fn the_bundle_is_left_alone_where_somebody_has_said_whom_to_trust() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("portolan");
        let authority = Authority::load_or_make(&folder, &[]).unwrap();
        authority.put_beside(BUNDLE, b"written by another portolan").unwrap();
        for said in SAID {
            let told = Told::of(&folder, |name| name == said).unwrap().unwrap();
            assert_eq!(names(&told, &[]), [ADDS], "{said}");
            assert_eq!(fs::read(folder.join(BUNDLE)).unwrap(), b"written by another portolan", "{said}");
        }
    }
}
