//! The authority: one key and one certificate of this user, which vouch for local names alone.
//!
//! It is one file that is there as a whole or not at all, so that two portolans that start at once have the same
//! authority and a killed one leaves none that is broken. The key is in memory only while it is made, looked at or signs;
//! a program that dies meanwhile leaves no image of it.
//!
//! Its certificate carries critical name constraints (RFC 5280 §4.2.1.10): `localhost` and `test` with everything below
//! them (RFC 6761), the hosts that the table named when it was made, and loopback addresses. A certificate for any other
//! name is refused by whoever trusts it, whoever signed it.

use std::{
    env, fs, io,
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use rcgen::{
    BasicConstraints, CertificateParams, CidrSubnet, DistinguishedName, DnType, ExtendedKeyUsagePurpose,
    GeneralSubtree, IsCa, Issuer, KeyPair, KeyUsagePurpose, NameConstraints, PKCS_ECDSA_P256_SHA256, PublicKeyData,
};
use rustls::crypto::aws_lc_rs::cipher_suite::TLS13_AES_128_GCM_SHA256;
use rustls_pki_types::{CertificateDer, pem::PemObject};
use zeroize::Zeroizing;

use super::{der, dump, folder, folder::Stamp, set_validity};

/// Key and certificate; nobody but us may read it.
const SECRET: &str = "authority.pem";

/// The certificate alone, for whoever is to trust it.
const PUBLIC: &str = "authority.crt";

/// The system's certificates with ours behind them.
pub const BUNDLE: &str = "bundle.pem";

/// The stores that were told to trust it.
pub const PLACED: &str = "stores";

/// The name of a certificate that gave way to another one begins so.
const FORMER: &str = "former-";

/// Names that only this machine answers (RFC 6761 §6.2, §6.3).
const ALWAYS: [&str; 2] = ["localhost", "test"];

/// Long enough that nobody is asked to trust another one often.
const LIFE: Duration = Duration::from_secs(730 * 24 * 60 * 60);

/// A clock that is set back by this much does not make it invalid.
const BEFORE: Duration = Duration::from_secs(2 * 24 * 60 * 60);

/// More names than this would make a certificate that clients refuse to read.
const MAX_NAMES: usize = 1_000;

/// The longest common name, in characters (RFC 5280, appendix A.1).
const MAX_NAME: usize = 64;

/// Why there is no authority.
#[derive(Debug, thiserror::Error)]
pub enum AuthorityError {
    /// There is neither a data folder nor a home.
    #[error("neither XDG_DATA_HOME nor HOME says where the authority may lie")]
    Nowhere,
    /// Something lies there that somebody else could have put there, or read.
    #[error("{}: {why}", crate::diagnostic::shown(.path))]
    Refused {
        /// What.
        path: PathBuf,
        /// What is wrong with it, and the cure.
        why: String,
    },
    /// The system refuses.
    #[error("{}: {}", crate::diagnostic::shown(.0), crate::diagnostic::without_number(.1))]
    System(PathBuf, #[source] io::Error),
    /// Whoever is at work there does not come to an end.
    #[error("{}: another portolan has been at work there for {} ms", crate::diagnostic::shown(.0), .1.as_millis())]
    Busy(PathBuf, Duration),
    /// The file went away or became another one while it was needed.
    #[error("{}: was changed while it was read", crate::diagnostic::shown(.0))]
    Changed(PathBuf),
    /// No certificate could be made.
    #[error("a certificate could not be made: {0}")]
    Making(#[from] rcgen::Error),
}

/// An authority that lies on disk; its key stays there.
#[derive(Debug)]
pub struct Authority {
    folder: PathBuf,
    certificate: CertificateDer<'static>,
    facts: der::Facts,
    stamp: Stamp,
}

impl Authority {
    /// The one in this folder; a new one, allowed to vouch for `names` too, where there is none that is of use.
    ///
    /// Of no use is one that has expired, and what is no authority at all. What may have been read or written by
    /// somebody else is an error instead: it may be trusted by a browser already.
    pub fn load_or_make(folder: &Path, names: &[String]) -> Result<Self, AuthorityError> {
        if let Some(there) = Self::load(folder)?.filter(|there| !there.has_expired(SystemTime::now())) {
            return Ok(there);
        }
        folder::make(folder)?;
        let _lock = folder::lock(folder)?;
        // Another portolan may have been faster.
        if let Some(there) = Self::load(folder)?.filter(|there| !there.has_expired(SystemTime::now())) {
            return Ok(there);
        }
        Self::make(folder, names)
    }

    /// The one in this folder, whether expired or not; `None` where there is none.
    pub fn load(folder: &Path) -> Result<Option<Self>, AuthorityError> {
        match folder::check(folder) {
            Err(AuthorityError::System(_, error)) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            checked => checked?,
        }
        dump::without(|| {
            let Some((bytes, stamp)) = folder::read_secret(&folder.join(SECRET))? else { return Ok(None) };
            let bytes = Zeroizing::new(bytes);
            let certificate = CertificateDer::from_pem_slice(&bytes).ok().map(CertificateDer::into_owned);
            let known = certificate.and_then(|certificate| Some((der::facts(&certificate)?, certificate)));
            let of_use = known.filter(|_| key(&bytes).is_some());
            Ok(of_use.map(|(facts, certificate)| Self { folder: folder.to_owned(), certificate, facts, stamp }))
        })
    }

    fn make(folder: &Path, names: &[String]) -> Result<Self, AuthorityError> {
        retire(folder)?;
        let certificate = dump::without(|| {
            let key = Zeroizing::new(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?);
            let certificate = parameters(names, SystemTime::now()).self_signed(&*key)?;
            let secret = Zeroizing::new(format!("{}{}", *Zeroizing::new(key.serialize_pem()), certificate.pem()));
            folder::write(&folder.join(SECRET), 0o600, secret.as_bytes())?;
            Ok::<_, AuthorityError>(certificate)
        })?;
        folder::write(&folder.join(PUBLIC), 0o644, certificate.pem().as_bytes())?;
        Self::load(folder)?.ok_or_else(|| AuthorityError::Changed(folder.join(SECRET)))
    }

    /// The certificates of this authority and of those before it that lie in the folder, with their files.
    pub fn certificates(folder: &Path) -> Result<Vec<(PathBuf, CertificateDer<'static>)>, AuthorityError> {
        // Its file may have got lost.
        if let Ok(Some(there)) = Self::load(folder) {
            there.public()?;
        }
        let files = files(folder)?.into_iter().filter(|file| file.extension().is_some_and(|end| end == "crt"));
        Ok(files.filter_map(|file| Some((file.clone(), CertificateDer::from_pem_file(file).ok()?))).collect())
    }

    /// Takes away the authority of this folder and everything that was put beside it, and tells the files.
    pub fn forget(folder: &Path) -> Result<Vec<PathBuf>, AuthorityError> {
        let files = files(folder)?;
        for file in &files {
            fs::remove_file(file).map_err(|error| AuthorityError::System(file.clone(), error))?;
        }
        Ok(files)
    }

    /// Signs what is shown for a name. The key is read for this, and forgotten.
    pub(super) fn sign(
        &self,
        leaf: &CertificateParams,
        public: &impl PublicKeyData,
    ) -> Result<CertificateDer<'static>, AuthorityError> {
        dump::without(|| {
            let path = self.folder.join(SECRET);
            let changed = || AuthorityError::Changed(path.clone());
            let (bytes, stamp) = folder::read_secret(&path)?.ok_or_else(changed)?;
            let bytes = Zeroizing::new(bytes);
            let key = key(&bytes).filter(|_| stamp == self.stamp).ok_or_else(changed)?;
            let issuer = Issuer::new(named(&self.facts.name), &*key);
            Ok(leaf.signed_by(public, &issuer)?.into())
        })
    }

    /// Whether another one, or none, has taken its place on disk.
    pub(super) fn is_replaced(&self) -> bool {
        Stamp::at(&self.folder.join(SECRET)) != Some(self.stamp)
    }

    /// Whether it is of no use any more.
    pub fn has_expired(&self, now: SystemTime) -> bool {
        self.facts.until <= now
    }

    /// The end of its life.
    pub fn until(&self) -> SystemTime {
        self.facts.until
    }

    /// What it is called in lists of certificates.
    pub fn name(&self) -> &str {
        &self.facts.name
    }

    /// Whether it may vouch for this name: one of [`permitted`](Self::permitted), or below one.
    pub fn permits(&self, name: &str) -> bool {
        self.facts
            .permitted
            .iter()
            .any(|base| name.strip_suffix(base.as_str()).is_some_and(|above| above.is_empty() || above.ends_with('.')))
    }

    /// The names, each with everything below it, that it may vouch for.
    pub fn permitted(&self) -> &[String] {
        &self.facts.permitted
    }

    /// Its certificate.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of its certificate, in lowercase hexadecimal digits.
    pub fn fingerprint(&self) -> String {
        fingerprint(&self.certificate)
    }

    /// Where its certificate lies alone, if it was not lost.
    pub fn file(&self) -> PathBuf {
        self.folder.join(PUBLIC)
    }

    /// A file with its certificate, for whoever is to trust it; written anew where it is missing or says something else.
    pub fn public(&self) -> Result<PathBuf, AuthorityError> {
        let path = self.file();
        let there = CertificateDer::from_pem_file(&path).ok();
        if there.as_ref() == Some(&self.certificate) {
            return Ok(path);
        }
        self.put_beside(PUBLIC, text(&self.certificate).as_bytes())
    }

    /// Writes a file that everybody may read into its folder, whole or not at all.
    pub fn put_beside(&self, name: &str, bytes: &[u8]) -> Result<PathBuf, AuthorityError> {
        put_beside(&self.folder, name, bytes)
    }
}

/// Writes a file that everybody may read into the folder of an authority, whole or not at all.
pub fn put_beside(folder: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf, AuthorityError> {
    let path = folder.join(name);
    let _lock = folder::lock(folder)?;
    folder::write(&path, 0o644, bytes)?;
    Ok(path)
}

/// SHA-256 of a certificate, in lowercase hexadecimal digits.
pub fn fingerprint(certificate: &CertificateDer<'_>) -> String {
    let suite = TLS13_AES_128_GCM_SHA256.tls13().map(|suite| suite.common.hash_provider.hash(certificate));
    suite.iter().flat_map(AsRef::as_ref).map(|byte| format!("{byte:02x}")).collect()
}

/// A certificate in the text form that other programs read (RFC 7468 §5.1).
pub fn text(certificate: &CertificateDer<'_>) -> String {
    pem::encode_config(
        &pem::Pem::new("CERTIFICATE", certificate.to_vec()),
        pem::EncodeConfig::new().set_line_ending(pem::LineEnding::LF),
    )
}

/// Everything in the folder that was written here.
fn files(folder: &Path) -> Result<Vec<PathBuf>, AuthorityError> {
    let entries = match fs::read_dir(folder) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(|error| AuthorityError::System(folder.to_owned(), error))?,
    };
    let is_ours = |name: &str| {
        let is_former = name.starts_with(FORMER) && name.ends_with(".crt");
        // What was being written when somebody was killed may hold the key.
        let is_one = |whole: &str| {
            Path::new(whole) == Path::new(name) || folder::unfinished(Path::new(whole)) == Path::new(name)
        };
        is_former || [SECRET, PUBLIC, BUNDLE, PLACED].into_iter().any(is_one)
    };
    let names = entries.flatten().filter_map(|entry| entry.file_name().into_string().ok());
    let mut files: Vec<PathBuf> = names.filter(|name| is_ours(name)).map(|name| folder.join(name)).collect();
    files.sort();
    Ok(files)
}

/// Keeps the certificate of an authority that gives way to a new one, so that it can still be taken out of the stores.
fn retire(folder: &Path) -> Result<(), AuthorityError> {
    let public = folder.join(PUBLIC);
    let Ok(certificate) = CertificateDer::from_pem_file(&public) else { return Ok(()) };
    let former = folder.join(format!("{FORMER}{}.crt", &fingerprint(&certificate)[..16]));
    fs::rename(&public, &former).map_err(|error| AuthorityError::System(public, error))
}

/// The key of the file; `None` where there is none that can sign.
fn key(bytes: &[u8]) -> Option<Zeroizing<KeyPair>> {
    KeyPair::from_pem(std::str::from_utf8(bytes).ok()?).ok().map(Zeroizing::new)
}

fn parameters(names: &[String], now: SystemTime) -> CertificateParams {
    let mut params = named(&name(now));
    set_validity(&mut params, now - BEFORE, now + LIFE);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
    params.name_constraints = Some(constraints(names));
    params
}

fn constraints(names: &[String]) -> NameConstraints {
    let mut bases: Vec<String> = ALWAYS.map(String::from).into();
    for name in names.iter().filter(|name| is_dns_name(name)).take(MAX_NAMES) {
        let is_covered = bases.iter().any(|base| name == base || name.ends_with(&format!(".{base}")));
        if !is_covered {
            bases.push(name.clone());
        }
    }
    let loopback = [CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8), CidrSubnet::V6(LOCALHOST_6, [0xff; 16])];
    let names = bases.into_iter().map(GeneralSubtree::DnsName);
    let permitted_subtrees = names.chain(loopback.map(GeneralSubtree::IpAddress)).collect();
    NameConstraints { permitted_subtrees, excluded_subtrees: Vec::new() }
}

const LOCALHOST_6: [u8; 16] = std::net::Ipv6Addr::LOCALHOST.octets();

/// Whether it may stand among the names of a certificate; an address may not.
pub fn is_dns_name(name: &str) -> bool {
    name.is_ascii() && !name.starts_with('[') && name.parse::<std::net::IpAddr>().is_err()
}

/// All that an issuer needs to know of itself in order to sign.
fn named(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// `portolan local authority (ada@laptop, 2026-11-23)`: whoever meets it in a list knows whose it is.
fn name(now: SystemTime) -> String {
    let user = env::var("USER").or_else(|_| env::var("LOGNAME")).unwrap_or_else(|_| "somebody".into());
    let host = sysinfo::System::host_name().unwrap_or_else(|_| "localhost".into());
    let date = jiff::Timestamp::try_from(now).map(|now| now.strftime("%F").to_string()).unwrap_or_default();
    let room = MAX_NAME - "portolan local authority (, )".len() - date.len();
    let whose: String = format!("{user}@{host}").chars().filter(|c| !c.is_control()).take(room).collect();
    format!("portolan local authority ({whose}, {date})")
}

#[cfg(test)]
mod tests {
    use std::{os::unix::fs::PermissionsExt, thread};

    use super::*;

    fn home() -> tempfile::TempDir {
        tempfile::tempdir().unwrap()
    }

    fn made(folder: &Path) -> Authority {
        Authority::load_or_make(folder, &[]).unwrap()
    }

    #[test]
    fn it_is_made_once_and_is_the_same_ever_after() {
        let home = home();
        let folder = home.path().join("portolan");
        assert!(Authority::load(&folder).unwrap().is_none());
        assert!(!folder.exists(), "looking makes nothing");
        let first = made(&folder);
        assert_eq!(made(&folder).fingerprint(), first.fingerprint());
        assert_eq!(Authority::load(&folder).unwrap().unwrap().fingerprint(), first.fingerprint());
        assert_eq!(fs::metadata(&folder).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::metadata(folder.join(SECRET)).unwrap().permissions().mode() & 0o777, 0o600);
        assert!(first.name().starts_with("portolan local authority ("));
        assert!(first.name().chars().count() <= MAX_NAME);
    }

    #[test]
    fn many_that_start_at_once_agree_on_one() {
        let home = home();
        let folder = home.path().join("portolan");
        let make = || {
            thread::scope(|scope| {
                let all: Vec<_> = (0..8).map(|_| scope.spawn(|| made(&folder).fingerprint())).collect();
                all.into_iter().map(|one| one.join().unwrap()).collect::<Vec<_>>()
            })
        };
        let prints = make();
        assert!(prints.iter().all(|print| *print == prints[0]), "{prints:?}");
    }

    #[test]
    fn it_vouches_for_local_names_and_those_of_the_table_and_for_nothing_else() {
        let home = home();
        let names = ["shop.dev", "a.shop.dev", "api.localhost", "10.0.0.1", "[::1]"].map(String::from);
        let authority = Authority::load_or_make(&home.path().join("portolan"), &names).unwrap();
        assert_eq!(authority.permitted(), ["localhost", "test", "shop.dev"]);
        for name in ["localhost", "a.b.localhost", "x.test", "shop.dev", "a.shop.dev"] {
            assert!(authority.permits(name), "{name}");
        }
        for name in ["example.com", "notlocalhost", "xshop.dev", "dev", ""] {
            assert!(!authority.permits(name), "{name}");
        }
    }

    #[test]
    fn what_is_no_authority_gives_way_and_a_lost_certificate_is_written_anew() {
        let home = home();
        let folder = home.path().join("portolan");
        let first = made(&folder);
        assert!(!first.is_replaced());
        let whole = fs::read(folder.join(SECRET)).unwrap();
        for length in [0, 1, whole.len() / 2, whole.len() - 40] {
            folder::write(&folder.join(SECRET), 0o600, &whole[..length]).unwrap();
            assert_ne!(made(&folder).fingerprint(), first.fingerprint(), "cut to {length}");
        }
        assert!(first.is_replaced());
        let now = made(&folder);
        fs::remove_file(folder.join(PUBLIC)).unwrap();
        let public = now.public().unwrap();
        assert_eq!(CertificateDer::from_pem_file(public).unwrap(), *now.certificate());
    }

    #[test]
    fn one_that_others_may_have_read_is_refused_with_the_cure() {
        let home = home();
        let folder = home.path().join("portolan");
        made(&folder);
        fs::set_permissions(folder.join(SECRET), fs::Permissions::from_mode(0o644)).unwrap();
        let told = Authority::load_or_make(&folder, &[]).unwrap_err().to_string();
        assert!(told.ends_with("is open to other users (mode 644): `chmod 600` it"), "{told}");
        fs::set_permissions(folder.join(SECRET), fs::Permissions::from_mode(0o600)).unwrap();
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o777)).unwrap();
        assert!(Authority::load_or_make(&folder, &[]).unwrap_err().to_string().contains("`chmod 700` it"));
    }

    #[test]
    fn an_expired_one_is_kept_only_to_be_taken_out_of_the_stores() {
        let home = home();
        let folder = home.path().join("portolan");
        let first = made(&folder);
        assert!(!first.has_expired(SystemTime::now()));
        assert!(first.has_expired(SystemTime::now() + LIFE + Duration::from_secs(1)));
        retire(&folder).unwrap();
        let former = folder.join(format!("former-{}.crt", &first.fingerprint()[..16]));
        assert_eq!(CertificateDer::from_pem_file(former).unwrap(), *first.certificate());
    }
}
