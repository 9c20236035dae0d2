//! The store of the Java in `JAVA_HOME`, kept by its `keytool`.

use std::path::{Path, PathBuf};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    program,
    stores::{Candidate, Machine, Step, Wish},
    system::quoted,
};

/// What every installation of Java comes with.
const PASSWORD: &str = "changeit";

/// Java's store.
#[derive(Debug)]
pub struct Java {
    store: PathBuf,
    keytool: PathBuf,
}

impl Java {
    pub(super) fn find(machine: &Machine) -> Option<Self> {
        let home = machine.java.as_ref()?;
        let places = ["lib/security/cacerts", "jre/lib/security/cacerts"].map(|place| home.join(place));
        let store = places.into_iter().find(|store| store.is_file())?;
        let keytool = Some(home.join("bin/keytool")).filter(|keytool| keytool.is_file())?;
        Some(Self { store, keytool })
    }

    pub(super) fn place(&self) -> &Path {
        &self.store
    }

    pub(super) fn trusts(&self, candidate: &Candidate) -> Result<bool, Step> {
        // A name that is not there is an error, too.
        let there = program::run(&self.keytool, &self.words("-exportcert", candidate, &["-rfc"]));
        let there = there.ok().and_then(|text| CertificateDer::from_pem_slice(text.as_bytes()).ok());
        Ok(there.as_ref() == Some(&candidate.certificate))
    }

    pub(super) fn change(&self, wish: Wish, candidate: &Candidate) -> Step {
        let file = candidate.file.display().to_string();
        let words = match wish {
            Wish::Trust => self.words("-importcert", candidate, &["-noprompt", "-file", &file]),
            Wish::Forget => self.words("-delete", candidate, &[]),
        };
        let by_hand = || {
            let words: Vec<String> = words.iter().map(|word| quoted(Path::new(word))).collect();
            format!("sudo {} {}", quoted(&self.keytool), words.join(" "))
        };
        if !is_writable(&self.store) {
            return Step::root(by_hand());
        }
        match program::run(&self.keytool, &words) {
            Ok(_) => Step::done(),
            Err(why) => Step::failed(why, Some(by_hand())),
        }
    }

    fn words(&self, what: &str, candidate: &Candidate, more: &[&str]) -> Vec<String> {
        let (store, label) = (self.store.display().to_string(), candidate.label());
        let words = [what, "-keystore", &store, "-storepass", PASSWORD, "-alias", &label];
        words.iter().chain(more).copied().map(String::from).collect()
    }
}

/// keytool writes a new file beside the old one.
fn is_writable(store: &Path) -> bool {
    let real = store.canonicalize().unwrap_or_else(|_| store.to_owned());
    let may_write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    may_write(&real) && real.parent().is_some_and(may_write)
}
