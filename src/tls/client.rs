//! TLS towards programs: `https://` targets, and whose word is taken for their certificates.

use std::{
    io,
    sync::{Arc, OnceLock},
};

use rustls::{
    ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
    client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    crypto::{CryptoProvider, aws_lc_rs::default_provider, verify_tls12_signature, verify_tls13_signature},
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    task::spawn_blocking,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

/// What is to be spoken inside (RFC 7301).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Inside {
    /// HTTP/2 or HTTP/1.1, as the program likes.
    Either,
    /// HTTP/1.1, which alone can be left for another protocol.
    Http1,
}

/// Encrypts a connection to whoever calls itself `name`. Where `insecure`, whatever certificate it shows is taken.
pub async fn connect<S>(stream: S, name: &str, inside: Inside, insecure: bool) -> io::Result<TlsStream<S>>
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let name = ServerName::try_from(name.to_owned()).map_err(io::Error::other)?;
    TlsConnector::from(config(inside, insecure).await?).connect(name, stream).await
}

/// Whether the program chose HTTP/2.
pub fn speaks_http2<S>(stream: &TlsStream<S>) -> bool {
    stream.get_ref().1.alpn_protocol() == Some(b"h2")
}

/// Made once each, where a thread may wait for the disk: the roots of a system are many.
async fn config(inside: Inside, insecure: bool) -> io::Result<Arc<ClientConfig>> {
    static CONFIGS: [OnceLock<Arc<ClientConfig>>; 4] = [const { OnceLock::new() }; 4];
    let made = &CONFIGS[usize::from(insecure) * 2 + usize::from(inside == Inside::Http1)];
    if let Some(config) = made.get() {
        return Ok(Arc::clone(config));
    }
    let config = spawn_blocking(move || make(inside, insecure)).await?.map_err(io::Error::other)?;
    Ok(Arc::clone(made.get_or_init(|| Arc::new(config))))
}

fn make(inside: Inside, insecure: bool) -> Result<ClientConfig, rustls::Error> {
    let provider = Arc::new(default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let mut config = if insecure {
        let verifier = Arc::new(Anyone(provider));
        builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth()
    } else {
        builder.with_root_certificates(roots()).with_no_client_auth()
    };
    let http1 = b"http/1.1".to_vec();
    config.alpn_protocols = match inside {
        Inside::Either => vec![b"h2".to_vec(), http1],
        Inside::Http1 => vec![http1],
    };
    Ok(config)
}

/// Those that the system trusts; SSL_CERT_FILE and SSL_CERT_DIR are heard.
fn roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}

/// Takes every certificate, but not a handshake that its owner has not signed.
#[derive(Debug)]
struct Anyone(Arc<CryptoProvider>);

impl ServerCertVerifier for Anyone {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, certificate, signed, &self.0.signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}
