//! What is shown for a name: a certificate for exactly this name, signed when it is first asked for.
//!
//! Each has a key of its own that is never on disk. One is signed anew when less than a third of its life is left, or
//! when the clock says that it is not valid.

use std::{
    collections::HashMap,
    net::IpAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use rcgen::{
    CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, SanType,
};
use rustls::{crypto::aws_lc_rs::sign::any_ecdsa_type, sign::CertifiedKey};
use rustls_pki_types::PrivatePkcs8KeyDer;

use super::{Authority, AuthorityError, set_validity};

/// Well below the 199 days that browsers take from an authority of the public.
const LIFE: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// A clock that is this much behind ours finds it valid.
const BEFORE: Duration = Duration::from_secs(60 * 60);

/// How many are kept.
const MAX_KEPT: usize = 1_000;

/// The longest name that a subject can carry, in characters (RFC 5280, appendix A.1).
const MAX_SUBJECT: usize = 64;

/// Whom a certificate is for.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) enum Subject {
    /// The one who was asked for.
    Name(String),
    /// Nobody was asked for: this machine, by `localhost` and by these loopback addresses.
    Machine(Vec<IpAddr>),
}

/// What is shown, and from when until when.
#[derive(Debug, Clone)]
pub(super) struct Leaf {
    shown: Arc<CertifiedKey>,
    from: SystemTime,
    until: SystemTime,
}

impl Leaf {
    fn is_fresh(&self, now: SystemTime) -> bool {
        let life = self.until.duration_since(self.from).unwrap_or_default();
        self.from <= now && self.until.duration_since(now).is_ok_and(|left| left >= life / 3)
    }
}

/// The certificates of one authority that were asked for last.
#[derive(Debug)]
pub(super) struct Leaves {
    pub(super) authority: Arc<Authority>,
    kept: HashMap<Subject, Kept>,
    questions: u64,
}

#[derive(Debug)]
struct Kept {
    leaf: Leaf,
    /// When it was last asked for, in questions.
    asked: u64,
}

impl Leaves {
    pub(super) fn new(authority: Arc<Authority>) -> Self {
        Self { authority, kept: HashMap::new(), questions: 0 }
    }

    /// The certificate for this subject, if there is one that need not be signed anew.
    pub(super) fn get(&mut self, subject: &Subject, now: SystemTime) -> Option<Arc<CertifiedKey>> {
        self.questions += 1;
        let kept = self.kept.get_mut(subject).filter(|kept| kept.leaf.is_fresh(now))?;
        kept.asked = self.questions;
        Some(kept.leaf.shown.clone())
    }

    /// Keeps what was signed for this subject, and shows it.
    pub(super) fn put(&mut self, subject: Subject, leaf: Leaf) -> Arc<CertifiedKey> {
        let shown = leaf.shown.clone();
        self.make_room(&subject);
        self.kept.insert(subject, Kept { leaf, asked: self.questions });
        shown
    }

    /// Lets go of the one that nobody has asked for the longest.
    fn make_room(&mut self, for_whom: &Subject) {
        if self.kept.len() < MAX_KEPT || self.kept.contains_key(for_whom) {
            return;
        }
        let oldest = self.kept.iter().min_by_key(|(_, kept)| kept.asked).map(|(subject, _)| subject.clone());
        if let Some(oldest) = oldest {
            self.kept.remove(&oldest);
        }
    }
}

/// A certificate for this subject. Reads the authority's key from the disk.
pub(super) fn sign(authority: &Authority, subject: &Subject, now: SystemTime) -> Result<Leaf, AuthorityError> {
    let (from, until) = (now - BEFORE, (now + LIFE).min(authority.until()));
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let certificate = authority.sign(&parameters(subject, from, until)?, &key)?;
    let key = PrivatePkcs8KeyDer::from(key.serialize_der());
    let key = any_ecdsa_type(&key.into()).map_err(|_| rcgen::Error::CouldNotParseKeyPair)?;
    Ok(Leaf { shown: Arc::new(CertifiedKey::new(vec![certificate], key)), from, until })
}

fn parameters(subject: &Subject, from: SystemTime, until: SystemTime) -> Result<CertificateParams, rcgen::Error> {
    let (name, addresses) = match subject {
        Subject::Name(name) => (name.as_str(), [].as_slice()),
        Subject::Machine(addresses) => ("localhost", addresses.as_slice()),
    };
    let mut params = CertificateParams::new(vec![name.to_owned()])?;
    params.subject_alt_names.extend(addresses.iter().copied().map(SanType::IpAddress));
    params.distinguished_name = DistinguishedName::new();
    if name.len() <= MAX_SUBJECT {
        params.distinguished_name.push(DnType::CommonName, name);
    }
    set_validity(&mut params, from, until);
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.use_authority_key_identifier_extension = true;
    Ok(params)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tls::der;

    fn leaves() -> (tempfile::TempDir, Leaves) {
        let home = tempfile::tempdir().unwrap();
        let authority = Authority::load_or_make(&home.path().join("portolan"), &[]).unwrap();
        (home, Leaves::new(Arc::new(authority)))
    }

    /// What is shown, signed now if need be.
    fn shown(leaves: &mut Leaves, subject: Subject, now: SystemTime) -> Arc<CertifiedKey> {
        leaves.get(&subject, now).unwrap_or_else(|| {
            let leaf = sign(&leaves.authority, &subject, now).unwrap();
            leaves.put(subject, leaf)
        })
    }

    fn name(name: &str) -> Subject {
        Subject::Name(name.into())
    }

    const DAY: Duration = Duration::from_secs(24 * 60 * 60);

    #[test]
    fn the_same_one_is_shown_until_a_third_of_its_life_is_left() {
        let (_home, mut leaves) = leaves();
        let now = SystemTime::now();
        let first = shown(&mut leaves, name("a.localhost"), now);
        assert!(Arc::ptr_eq(&first, &shown(&mut leaves, name("a.localhost"), now + 19 * DAY)));
        assert!(!Arc::ptr_eq(&first, &shown(&mut leaves, name("b.localhost"), now)));
        assert!(!Arc::ptr_eq(&first, &shown(&mut leaves, name("a.localhost"), now + 21 * DAY)));
    }

    #[test]
    fn a_clock_that_is_set_back_gets_one_that_is_valid_then() {
        let (_home, mut leaves) = leaves();
        let now = SystemTime::now();
        let first = shown(&mut leaves, name("a.localhost"), now);
        let second = shown(&mut leaves, name("a.localhost"), now - DAY);
        assert!(!Arc::ptr_eq(&first, &second));
        let facts = der::facts(&second.cert[0]).unwrap();
        assert!(facts.from < now - DAY && now - DAY < facts.until);
    }

    #[test]
    fn none_lives_longer_than_its_authority() {
        let (_home, mut leaves) = leaves();
        let end = leaves.authority.until();
        let last = shown(&mut leaves, name("a.localhost"), end - DAY);
        assert_eq!(der::facts(&last.cert[0]).unwrap().until, end);
    }

    #[test]
    fn a_thousand_are_kept_and_the_one_not_asked_for_the_longest_goes_first() {
        let (_home, mut leaves) = leaves();
        let now = SystemTime::now();
        let first = shown(&mut leaves, name("0.localhost"), now);
        let second = shown(&mut leaves, name("1.localhost"), now);
        for at in 2..MAX_KEPT {
            shown(&mut leaves, name(&format!("{at}.localhost")), now);
        }
        assert!(Arc::ptr_eq(&first, &shown(&mut leaves, name("0.localhost"), now)));
        shown(&mut leaves, name("one-more.localhost"), now);
        assert_eq!(leaves.kept.len(), MAX_KEPT);
        assert!(Arc::ptr_eq(&first, &shown(&mut leaves, name("0.localhost"), now)), "just asked for");
        assert!(!Arc::ptr_eq(&second, &shown(&mut leaves, name("1.localhost"), now)), "had to go");
    }
}
