//! The store of the Java in `JAVA_HOME`, kept by its `keytool`, and the one that Debian fills for all of its own.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    program::{self, quoted},
    stores::{Candidate, Machine, Step, Wish},
};

/// What every installation of Java comes with.
const PASSWORD: &str = "changeit";

/// Java's store.
#[derive(Debug)]
pub struct Java {
    store: PathBuf,
    keytool: PathBuf,
    whose: Whose,
}

/// Who has put in what is there, and so has named it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Whose {
    Ours,
    /// After the link that `update-ca-certificates` makes.
    Debians,
}

impl Java {
    pub(super) fn find(machine: &Machine) -> Option<Self> {
        let home = machine.java.as_ref()?;
        let places = ["lib/security/cacerts", "jre/lib/security/cacerts"].map(|place| home.join(place));
        let store = places.into_iter().find(|store| store.is_file())?;
        let keytool = Some(home.join("bin/keytool")).filter(|keytool| keytool.is_file())?;
        Some(Self { store, keytool, whose: Whose::Ours })
    }

    /// The store that Debian's `update-ca-certificates` fills, if there is one, and a Java that can read it.
    pub(super) fn of_debian(store: PathBuf, path: &OsStr) -> Option<Self> {
        let store = Some(store).filter(|store| store.is_file())?;
        Some(Self { store, keytool: program::find("keytool", path)?, whose: Whose::Debians })
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
        if !is_writable(&self.store) {
            return Step::root(self.by_hand(wish, candidate));
        }
        match program::run(&self.keytool, &self.words_for(wish, candidate)) {
            Ok(_) => Step::done(),
            Err(why) => Step::failed(why, Some(self.by_hand(wish, candidate))),
        }
    }

    /// Takes it out, whether the store looks writable or not.
    pub(super) fn forget(&self, candidate: &Candidate) -> Result<(), String> {
        program::run(&self.keytool, &self.words_for(Wish::Forget, candidate)).map(drop)
    }

    /// The command that does the same.
    pub(super) fn by_hand(&self, wish: Wish, candidate: &Candidate) -> String {
        let words = self.words_for(wish, candidate);
        let words: Vec<String> = words.iter().map(|word| quoted(Path::new(word))).collect();
        format!("sudo {} {}", quoted(&self.keytool), words.join(" "))
    }

    fn words_for(&self, wish: Wish, candidate: &Candidate) -> Vec<String> {
        let file = candidate.file.display().to_string();
        match wish {
            Wish::Trust => self.words("-importcert", candidate, &["-noprompt", "-file", &file]),
            Wish::Forget => self.words("-delete", candidate, &[]),
        }
    }

    fn words(&self, what: &str, candidate: &Candidate, more: &[&str]) -> Vec<String> {
        let (store, label) = (self.store.display().to_string(), self.alias(candidate));
        let words = [what, "-keystore", &store, "-storepass", PASSWORD, "-alias", &label];
        words.iter().chain(more).copied().map(String::from).collect()
    }

    fn alias(&self, candidate: &Candidate) -> String {
        match self.whose {
            Whose::Ours => candidate.label(),
            Whose::Debians => format!("debian:{}.pem", candidate.label()),
        }
    }
}

/// keytool writes a new file beside the old one.
fn is_writable(store: &Path) -> bool {
    let real = store.canonicalize().unwrap_or_else(|_| store.to_owned());
    let may_write = |path: &Path| rustix::fs::access(path, rustix::fs::Access::WRITE_OK).is_ok();
    may_write(&real) && real.parent().is_some_and(may_write)
}
