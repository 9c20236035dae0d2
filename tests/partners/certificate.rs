//! A certificate that a program shows for itself, and whoever talks to it trusts.

use std::{path::PathBuf, process::Command};

use tempfile::TempDir;

use crate::client::run;

/// A key, and a certificate that it signed itself.
pub(crate) struct SelfSigned {
    folder: TempDir,
}

impl SelfSigned {
    /// For these names: what stands behind `subjectAltName` in openssl's words, such as `DNS:one.localhost`.
    pub(crate) fn of(names: &str) -> Self {
        let made = Self { folder: tempfile::tempdir().unwrap() };
        let mut openssl = Command::new("openssl");
        openssl.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
        openssl.args(["-days", "30", "-subj", "/CN=partner", "-addext", &format!("subjectAltName={names}")]);
        openssl.arg("-keyout").arg(made.key()).arg("-out").arg(made.certificate());
        run(&mut openssl);
        made
    }

    /// The certificate, which is also what to trust.
    pub(crate) fn certificate(&self) -> PathBuf {
        self.folder.path().join("certificate.pem")
    }

    /// The key, which only its owner may read.
    pub(crate) fn key(&self) -> PathBuf {
        self.folder.path().join("key.pem")
    }
}
