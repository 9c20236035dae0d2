//! The stores of Chromium and Firefox: a database in each profile (NSS), kept by `certutil`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    program,
    stores::{Candidate, Machine, Step, Wish},
};

/// Where databases lie below a home; the star stands for every folder there. Snap and Flatpak have homes of their own.
const PLACES: [(&str, &str); 8] = [
    ("chromium", ".pki/nssdb"),
    ("chromium", "snap/chromium/current/.pki/nssdb"),
    ("chromium", ".var/app/org.chromium.Chromium/.pki/nssdb"),
    ("firefox", ".mozilla/firefox/*"),
    ("firefox", ".config/mozilla/firefox/*"),
    ("firefox", "snap/firefox/common/.mozilla/firefox/*"),
    ("firefox", ".var/app/org.mozilla.firefox/.mozilla/firefox/*"),
    ("firefox", "Library/Application Support/Firefox/Profiles/*"),
];

/// The certificates of a database (NSS 3.12 and later).
fn database(folder: &Path) -> PathBuf {
    folder.join("cert9.db")
}

/// The store of a browser's profile.
#[derive(Debug)]
pub struct Nss {
    name: &'static str,
    folder: PathBuf,
    certutil: Option<PathBuf>,
}

impl Nss {
    pub(super) fn find(machine: &Machine) -> Vec<Self> {
        let certutil = program::find("certutil", &machine.path);
        let folders = PLACES
            .iter()
            .flat_map(|(name, place)| folders(&machine.home, place).into_iter().map(move |folder| (*name, folder)));
        let there = folders.filter(|(_, folder)| database(folder).is_file());
        there.map(|(name, folder)| Self { name, folder, certutil: certutil.clone() }).collect()
    }

    pub(super) fn name(&self) -> &str {
        self.name
    }

    pub(super) fn place(&self) -> &Path {
        &self.folder
    }

    pub(super) fn file(&self) -> PathBuf {
        database(&self.folder)
    }

    pub(super) fn trusts(&self, candidate: &Candidate) -> Result<bool, Step> {
        // A name that is not there is an error, too.
        let there = self.certutil(&["-L", "-n", &candidate.label(), "-a"])?;
        let there = there.ok().and_then(|text| CertificateDer::from_pem_slice(text.as_bytes()).ok());
        Ok(there.as_ref() == Some(&candidate.certificate))
    }

    pub(super) fn change(&self, wish: Wish, candidate: &Candidate) -> Step {
        let (label, file) = (candidate.label(), candidate.file.display().to_string());
        let words: &[&str] = match wish {
            // Trusted to vouch for servers, and for nothing else.
            Wish::Trust => &["-A", "-t", "C,,", "-n", &label, "-i", &file],
            Wish::Forget => &["-D", "-n", &label],
        };
        match self.certutil(words) {
            Ok(Ok(_)) => Step::done(),
            Ok(Err(why)) => Step::failed(why, Some("close the browser, then do this once more".into())),
            Err(step) => step,
        }
    }

    fn certutil(&self, words: &[&str]) -> Result<Result<String, String>, Step> {
        let missing = || Step::failed("`certutil` is not installed", Some(INSTALL.into()));
        let certutil = self.certutil.as_ref().ok_or_else(missing)?;
        let database = format!("sql:{}", self.folder.display());
        Ok(program::run(certutil, &[&words[..1], &["-d", &database], &words[1..]].concat()))
    }
}

const INSTALL: &str = "`sudo apt install libnss3-tools`, `sudo dnf install nss-tools`, `sudo pacman -S nss` or \
                       `brew install nss`, then do this once more";

fn folders(home: &Path, place: &str) -> Vec<PathBuf> {
    let Some(parent) = place.strip_suffix("/*") else { return vec![home.join(place)] };
    let entries = fs::read_dir(home.join(parent)).into_iter().flatten().flatten();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}
