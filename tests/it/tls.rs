//! Certificates: who is shown what, what openssl and rustls say of it, and what the authority cannot do.
//!
//! Client and server meet over a pipe in memory; the certificates are what is tested, not the sockets.

use std::{
    fs,
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    process::Command,
    sync::Arc,
};

use portolan::tls::{Authority, Keys, Own, server, server::Wanted};
use rcgen::{CertificateParams, Issuer, KeyPair};
use rustls::{AlertDescription, ClientConfig, Error, RootCertStore, crypto::aws_lc_rs, version};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// A proxy's side of TLS, with a home of its own.
struct Side {
    home: tempfile::TempDir,
    keys: Arc<Keys>,
    config: Arc<rustls::ServerConfig>,
}

/// What a client has learnt.
struct Met {
    certificate: CertificateDer<'static>,
    alpn: Option<Vec<u8>>,
    version: rustls::ProtocolVersion,
}

impl Side {
    fn new() -> Self {
        let home = tempfile::tempdir().unwrap();
        let is_ours = |name: &str| name.ends_with("localhost") || name.ends_with("shop.dev");
        let keys = Arc::new(Keys::new(home.path().join("portolan"), is_ours));
        let config = server::config(keys.clone()).unwrap();
        Self { home, keys, config }
    }

    fn with(wanted: Wanted) -> Self {
        let side = Self::new();
        side.keys.put(wanted);
        side
    }

    fn folder(&self) -> PathBuf {
        self.home.path().join("portolan")
    }

    fn authority(&self) -> Authority {
        Authority::load(&self.folder()).unwrap().expect("an authority")
    }

    /// Everything that a client of these roots learns, who asks for `name`.
    async fn meet(&self, name: &str, client: ClientConfig) -> Result<Met, Error> {
        let (near, far) = tokio::io::duplex(1 << 16);
        let serve = async {
            let mut stream = server::accept(&self.config, &self.keys, far).await?;
            stream.write_all(b"hello").await?;
            stream.shutdown().await
        };
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let ask = async {
            let mut stream = tokio_rustls::TlsConnector::from(Arc::new(client)).connect(name, near).await?;
            let mut text = String::new();
            stream.read_to_string(&mut text).await?;
            assert_eq!(text, "hello");
            let (_, session) = stream.get_ref();
            std::io::Result::Ok(Met {
                certificate: session.peer_certificates().unwrap()[0].clone().into_owned(),
                alpn: session.alpn_protocol().map(<[u8]>::to_vec),
                version: session.protocol_version().unwrap(),
            })
        };
        let (_, met) = tokio::join!(serve, ask);
        met.map_err(|error| error.into_inner().unwrap().downcast_ref::<Error>().unwrap().clone())
    }

    /// A client that trusts our authority.
    async fn meet_trusting(&self, name: &str) -> Result<Met, Error> {
        // The authority is made by the first client of all.
        if !self.folder().exists() {
            let _ = self.meet(name, client(RootCertStore::empty())).await;
        }
        self.meet(name, client(roots(self.authority().certificate()))).await
    }
}

fn roots(certificate: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(certificate.clone()).unwrap();
    roots
}

fn client(roots: RootCertStore) -> ClientConfig {
    client_of(roots, &[&version::TLS13, &version::TLS12])
}

fn client_of(roots: RootCertStore, versions: &[&'static rustls::SupportedProtocolVersion]) -> ClientConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_protocol_versions(versions).unwrap();
    builder.with_root_certificates(roots).with_no_client_auth()
}

fn wanted(hosts: &[&str], own: Vec<Own>) -> Wanted {
    Wanted { hosts: hosts.iter().copied().map(String::from).collect(), own, ..Wanted::default() }
}

/// `shop.pem` and `shop-key.pem`, signed by nobody we know.
fn own_files(folder: &Path, names: &[&str]) -> (PathBuf, PathBuf, CertificateDer<'static>) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().copied().map(String::from).collect();
    let certificate = CertificateParams::new(names).unwrap().self_signed(&key).unwrap();
    let paths = (folder.join("shop.pem"), folder.join("shop-key.pem"));
    fs::write(&paths.0, certificate.pem()).unwrap();
    fs::write(&paths.1, key.serialize_pem()).unwrap();
    (paths.0, paths.1, certificate.der().clone())
}

fn openssl(arguments: &[&str]) -> (bool, String) {
    let output = Command::new("openssl").args(arguments).output().expect("openssl is installed");
    let told = [output.stdout, output.stderr].concat();
    (output.status.success(), String::from_utf8_lossy(&told).into_owned())
}

fn write_pem(path: &Path, certificate: &CertificateDer<'_>) -> String {
    fs::write(path, portolan::tls::authority::text(certificate)).unwrap();
    path.to_str().unwrap().to_owned()
}

#[tokio::test]
async fn s65_whoever_trusts_the_authority_meets_every_local_name_with_http2_and_tls_1_3_or_1_2() {
    let side = Side::new();
    for name in ["localhost", "a.localhost", "deep.er.a.localhost", "127.0.0.1", "::1"] {
        let met = side.meet_trusting(name).await.unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(met.version, rustls::ProtocolVersion::TLSv1_3);
    }
    let roots = roots(side.authority().certificate());
    let mut old = client_of(roots, &[&version::TLS12]);
    old.alpn_protocols = vec![b"http/1.1".to_vec(), b"h2".to_vec()];
    let met = side.meet("a.localhost", old).await.unwrap();
    assert_eq!(met.version, rustls::ProtocolVersion::TLSv1_2);
    assert_eq!(met.alpn.as_deref(), Some(b"h2".as_slice()), "HTTP/2 is what we prefer");
}

#[tokio::test]
async fn f41_a_name_that_is_not_ours_gets_no_certificate_and_makes_no_authority() {
    let side = Side::new();
    let refused = side.meet("example.com", client(RootCertStore::empty())).await.err();
    assert_eq!(refused, Some(Error::AlertReceived(AlertDescription::UnrecognisedName)));
    assert!(!side.folder().exists(), "nobody has needed one");
}

#[tokio::test]
async fn f41_each_name_has_one_certificate_that_names_nothing_else() {
    let side = Side::new();
    let first = side.meet_trusting("a.localhost").await.unwrap().certificate;
    let second = side.meet_trusting("b.localhost").await.unwrap().certificate;
    assert_eq!(first, side.meet_trusting("A.LocalHost").await.unwrap().certificate, "case does not matter");
    assert_ne!(first, second);
    let mut store = RootCertStore::empty();
    store.add(side.authority().certificate().clone()).unwrap();
    assert!(is_valid_for(&store, &first, "a.localhost"));
    assert!(!is_valid_for(&store, &first, "b.localhost"));
    assert!(!is_valid_for(&store, &first, "x.a.localhost"));
    assert!(!is_valid_for(&store, &first, "127.0.0.1"));
}

fn is_valid_for(roots: &RootCertStore, certificate: &CertificateDer<'_>, name: &str) -> bool {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let verifier = rustls::client::WebPkiServerVerifier::builder_with_provider(Arc::new(roots.clone()), provider);
    let name = ServerName::try_from(name).unwrap();
    let now = rustls_pki_types::UnixTime::now();
    let verifier = verifier.build().unwrap();
    rustls::client::danger::ServerCertVerifier::verify_server_cert(&*verifier, certificate, &[], &name, &[], now)
        .is_ok()
}

#[tokio::test]
async fn f41_an_authority_that_went_away_is_made_anew_while_we_run() {
    let side = Side::new();
    side.meet_trusting("a.localhost").await.unwrap();
    let before = side.authority().fingerprint();
    fs::remove_dir_all(side.folder()).unwrap();
    side.meet_trusting("a.localhost").await.unwrap();
    assert_ne!(side.authority().fingerprint(), before);
}

#[tokio::test]
async fn f41_an_authority_that_others_may_read_is_not_used_and_works_again_once_mended() {
    use std::os::unix::fs::PermissionsExt;
    let side = Side::new();
    side.meet_trusting("a.localhost").await.unwrap();
    let secret = side.folder().join("authority.pem");
    let roots = roots(side.authority().certificate());
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o644)).unwrap();
    let refused = side.meet("a.localhost", client(roots.clone())).await.err();
    assert_eq!(refused, Some(Error::AlertReceived(AlertDescription::InternalError)));
    fs::set_permissions(&secret, fs::Permissions::from_mode(0o600)).unwrap();
    side.meet("a.localhost", client(roots)).await.unwrap();
}

/// On one thread, as every worker is.
#[tokio::test]
async fn whoever_waits_for_another_portolan_to_make_the_authority_keeps_nobody_else_waiting() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key, shown) = own_files(folder.path(), &["shop.dev"]);
    let own = Own::read(vec!["shop.dev".into()], &certificate, &key).unwrap();
    let side = Side::with(wanted(&[], vec![own]));
    fs::DirBuilder::new().mode(0o700).create(side.folder()).unwrap();
    let held = fs::File::open(side.folder()).unwrap();
    rustix::fs::flock(&held, rustix::fs::FlockOperation::LockExclusive).unwrap();

    let waits = side.meet("a.localhost", client(RootCertStore::empty()));
    let meets = side.meet("shop.dev", client(roots(&shown)));
    tokio::pin!(waits, meets);
    let met = tokio::select! {
        biased;
        waited = &mut waits => panic!("the authority is not made yet: {:?}", waited.err()),
        met = &mut meets => met.unwrap(),
    };
    assert_eq!(met.certificate, shown);
    drop(held);
    assert_eq!(waits.await.err(), Some(Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)));
    assert!(side.folder().join("authority.pem").exists(), "it is made once nobody else is at work");
}

#[tokio::test]
async fn t40_openssl_finds_nothing_to_object_to() {
    let side = Side::with(wanted(&["shop.dev"], Vec::new()));
    for name in ["localhost", "a.localhost", "x.shop.dev"] {
        let met = side.meet_trusting(name).await.unwrap();
        let leaf = write_pem(&side.home.path().join("leaf.pem"), &met.certificate);
        let authority = write_pem(&side.home.path().join("ca.pem"), side.authority().certificate());
        let words =
            ["verify", "-x509_strict", "-purpose", "sslserver", "-verify_hostname", name, "-CAfile", &authority, &leaf];
        let (fine, told) = openssl(&words);
        assert!(fine, "{name}: {told}");
    }
}

/// Whoever has stolen the key signs what they like.
#[tokio::test]
async fn t40_a_certificate_for_another_name_is_refused_whoever_signed_it() {
    let side = Side::with(wanted(&["shop.dev"], Vec::new()));
    side.meet_trusting("localhost").await.unwrap();
    let authority = side.authority();
    let stolen = KeyPair::from_pem(&fs::read_to_string(side.folder().join("authority.pem")).unwrap()).unwrap();
    let mut issuer = CertificateParams::default();
    issuer.distinguished_name = rcgen::DistinguishedName::new();
    issuer.distinguished_name.push(rcgen::DnType::CommonName, authority.name());
    let issuer = Issuer::new(issuer, stolen);
    let ca = write_pem(&side.home.path().join("ca.pem"), authority.certificate());
    for (name, is_taken) in [("a.test", true), ("shop.dev", true), ("example.com", false), ("8.8.8.8", false)] {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.use_authority_key_identifier_extension = true;
        let forged = params.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        let leaf = write_pem(&side.home.path().join("leaf.pem"), forged.der());
        let (fine, told) = openssl(&["verify", "-CAfile", &ca, &leaf]);
        assert_eq!(fine, is_taken, "openssl, {name}: {told}");
        assert!(is_taken || told.contains("permitted subtree violation"), "{told}");
        assert_eq!(is_valid_for(&roots(authority.certificate()), forged.der(), name), is_taken, "rustls, {name}");
    }
}

#[tokio::test]
async fn an_own_certificate_is_shown_for_the_hosts_of_its_route_and_for_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key, shown) = own_files(folder.path(), &["shop.dev", "*.shop.dev"]);
    let own = Own::read(vec!["*.shop.dev".into()], &certificate, &key).unwrap();
    let side = Side::with(wanted(&["shop.dev"], vec![own]));
    assert_eq!(side.meet("a.shop.dev", client(roots(&shown))).await.unwrap().certificate, shown);
    assert_ne!(side.meet_trusting("shop.dev").await.unwrap().certificate, shown, "the apex is not below itself");
    assert_ne!(side.meet_trusting("a.localhost").await.unwrap().certificate, shown);
    side.keys.put(wanted(&["shop.dev"], Vec::new()));
    assert_ne!(side.meet_trusting("a.shop.dev").await.unwrap().certificate, shown, "the new table has none");
}

#[tokio::test]
async fn s62_a_connection_carries_what_it_was_opened_for_and_what_an_own_certificate_names_beside_it() {
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key, _) = own_files(folder.path(), &["a.shop.dev", "b.shop.dev"]);
    let own = Own::read(vec!["a.shop.dev".into()], &certificate, &key).unwrap();
    let side = Side::with(wanted(&[], vec![own]));
    for (name, host, covered) in [
        (Some("a.localhost"), "a.localhost", true),
        (Some("A.localhost"), "a.localhost", true),
        (Some("a.localhost"), "b.localhost", false),
        (Some("localhost"), "127.0.0.1", false),
        (Some("a.shop.dev"), "b.shop.dev", true),
        (Some("a.shop.dev"), "c.shop.dev", false),
        (Some("b.shop.dev"), "a.shop.dev", false),
        (None, "localhost", true),
        (None, "127.0.0.1", true),
        (None, "[::1]", true),
        (None, "a.localhost", false),
        (None, "10.0.0.1", false),
    ] {
        assert_eq!(side.keys.covers(name, host), covered, "{name:?} {host}");
    }
}
