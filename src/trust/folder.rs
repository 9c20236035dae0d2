//! The stores of the systems that keep a folder of certificates, and a command that makes it known.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    java::Java,
    program::{self, quoted},
    stores::{Candidate, Machine, Wish},
};
use crate::diagnostic::without_number;

/// A way in which systems keep their store.
#[derive(Debug)]
struct Layout {
    /// Holds what the administrator adds.
    folder: &'static str,
    /// Holds what programs read, once the command has put it there.
    bundle: &'static str,
    /// Makes known what was put into the folder.
    command: &'static [&'static str],
    /// Makes known what was taken out of it.
    without: &'static [&'static str],
    /// The store that the command fills for Java, where there is one.
    java: Option<&'static str>,
}

/// Debian and its like; Fedora and its like; Arch and its like; openSUSE.
const LAYOUTS: [Layout; 4] = [
    Layout {
        folder: "usr/local/share/ca-certificates",
        bundle: "etc/ssl/certs/ca-certificates.crt",
        command: &["update-ca-certificates"],
        // Otherwise links to the file stay behind that lead nowhere.
        without: &["update-ca-certificates", "--fresh"],
        java: Some("etc/ssl/certs/java/cacerts"),
    },
    Layout {
        folder: "etc/pki/ca-trust/source/anchors",
        bundle: "etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
        command: &["update-ca-trust", "extract"],
        without: &["update-ca-trust", "extract"],
        java: None,
    },
    Layout {
        folder: "etc/ca-certificates/trust-source/anchors",
        bundle: "etc/ca-certificates/extracted/tls-ca-bundle.pem",
        command: &["trust", "extract-compat"],
        without: &["trust", "extract-compat"],
        java: None,
    },
    Layout {
        folder: "usr/share/pki/trust/anchors",
        bundle: "var/lib/ca-certificates/ca-bundle.pem",
        command: &["update-ca-certificates"],
        without: &["update-ca-certificates"],
        java: None,
    },
];

impl Layout {
    fn command(&self, wish: Wish) -> &'static [&'static str] {
        match wish {
            Wish::Trust => self.command,
            Wish::Forget => self.without,
        }
    }
}

/// A folder, and what its command makes of it. A change is made in two steps, and somebody may be killed between them.
#[derive(Debug)]
pub(super) struct Folder {
    folder: PathBuf,
    bundle: PathBuf,
    program: PathBuf,
    java: Option<Java>,
    layout: &'static Layout,
}

impl Folder {
    pub(super) fn find(machine: &Machine) -> Option<Self> {
        LAYOUTS.iter().find_map(|layout| Self::of(layout, machine))
    }

    fn of(layout: &'static Layout, machine: &Machine) -> Option<Self> {
        let at = |place: &str| machine.root.join(place);
        let folder = Some(at(layout.folder)).filter(|folder| folder.is_dir())?;
        let program = program::find(layout.command[0], &machine.path)?;
        let java = layout.java.and_then(|store| Java::of_debian(at(store), &machine.path));
        Some(Self { folder, bundle: at(layout.bundle), program, java, layout })
    }

    pub(super) fn place(&self) -> &Path {
        &self.folder
    }

    fn file(&self, candidate: &Candidate) -> PathBuf {
        self.folder.join(format!("{}.crt", candidate.label()))
    }

    pub(super) fn is_so(&self, wish: Wish, candidate: &Candidate) -> bool {
        let file = self.file(candidate);
        match wish {
            Wish::Trust => {
                let there = CertificateDer::from_pem_file(file);
                let is_there = there.is_ok_and(|there| there == candidate.certificate);
                is_there && self.is_known(candidate).unwrap_or(true)
            }
            Wish::Forget => {
                let is_gone = fs::symlink_metadata(file).is_err();
                is_gone && !self.is_known(candidate).unwrap_or(false) && !self.is_known_to_java(candidate)
            }
        }
    }

    /// Whether programs read it; `None` where there is nothing that they would read.
    fn is_known(&self, candidate: &Candidate) -> Option<bool> {
        let all = CertificateDer::pem_file_iter(&self.bundle).ok()?;
        Some(all.flatten().any(|one| one == candidate.certificate))
    }

    fn is_known_to_java(&self, candidate: &Candidate) -> bool {
        self.java.as_ref().is_some_and(|java| java.trusts(candidate) == Ok(true))
    }

    pub(super) fn change(&self, wish: Wish, candidate: &Candidate) -> Result<(), String> {
        let file = self.file(candidate);
        let placed = match wish {
            Wish::Trust => fs::copy(&candidate.file, &file).map(drop),
            Wish::Forget => remove(&file),
        };
        placed.map_err(|error| without_number(&error))?;
        program::run(&self.program, &self.layout.command(wish)[1..])?;
        match &self.java {
            // The command tells Java of nothing that went away.
            Some(java) if wish == Wish::Forget && self.is_known_to_java(candidate) => java.forget(candidate),
            _ => Ok(()),
        }
    }

    /// The commands that do the same.
    pub(super) fn by_hand(&self, wish: Wish, candidate: &Candidate) -> String {
        let (file, command) = (self.file(candidate), self.layout.command(wish).join(" "));
        match wish {
            Wish::Trust => {
                let from = &candidate.file;
                format!("sudo install -m 644 {} {} && sudo {command}", quoted(from), quoted(&file))
            }
            Wish::Forget => {
                let java = self.java.as_ref().filter(|_| self.is_known_to_java(candidate));
                let java = java.map(|java| format!(" && {}", java.by_hand(Wish::Forget, candidate)));
                format!("sudo rm -f {} && sudo {command}{}", quoted(&file), java.unwrap_or_default())
            }
        }
    }
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{
        tls::Authority,
        trust::{Kind, Outcome, Store},
    };

    /// A machine like Debian, on which `update-ca-certificates` writes down how it was run and makes the bundle.
    struct Debian(tempfile::TempDir);

    impl Debian {
        fn new() -> Self {
            let debian = Self(tempfile::tempdir().unwrap());
            for folder in ["usr/local/share/ca-certificates", "etc/ssl/certs", "bin"] {
                fs::create_dir_all(debian.0.path().join(folder)).unwrap();
            }
            debian.mend();
            debian
        }

        fn program(&self, name: &str, script: &str) {
            let program = self.0.path().join("bin").join(name);
            fs::write(&program, format!("#!/bin/sh\ncd {}\n{script}", self.0.path().display())).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        }

        fn mend(&self) {
            let bundle = "cat usr/local/share/ca-certificates/* >etc/ssl/certs/ca-certificates.crt 2>/dev/null || :\n";
            self.program("update-ca-certificates", &format!("echo run $* >>log\n{bundle}"));
        }

        fn break_down(&self) {
            self.program("update-ca-certificates", "echo no room >&2\nexit 1\n");
        }

        /// A `keytool` whose store is a folder with a file for each name.
        fn with_java(self) -> Self {
            fs::create_dir_all(self.aliases()).unwrap();
            fs::write(self.0.path().join("etc/ssl/certs/java/cacerts"), "").unwrap();
            let script = "case $1 in -exportcert) exec cat $3.d/$7;; -delete) exec rm $3.d/$7;; esac\nexit 1\n";
            self.program("keytool", script);
            self
        }

        fn aliases(&self) -> PathBuf {
            self.0.path().join("etc/ssl/certs/java/cacerts.d")
        }

        /// How the command was run, each time.
        fn log(&self) -> Vec<String> {
            fs::read_to_string(self.0.path().join("log")).unwrap_or_default().lines().map(String::from).collect()
        }

        fn files(&self) -> Vec<PathBuf> {
            let folder = fs::read_dir(self.0.path().join("usr/local/share/ca-certificates")).unwrap();
            folder.map(|entry| entry.unwrap().path()).collect()
        }

        fn store(&self, is_root: bool) -> Store {
            let path = OsString::from(self.0.path().join("bin"));
            let root = self.0.path().to_owned();
            let machine = Machine { home: root.clone(), root, path, java: None, is_root };
            let mut stores = machine.stores(Kind::System);
            assert_eq!(stores.len(), 1);
            stores.remove(0)
        }

        fn candidate(&self) -> Candidate {
            let authority = Authority::load_or_make(&self.0.path().join("portolan"), &[]).unwrap();
            Candidate { file: authority.public().unwrap(), certificate: authority.certificate().clone() }
        }
    }

    #[test]
    fn root_puts_one_file_in_and_takes_exactly_that_out() {
        let debian = Debian::new();
        let (store, candidate) = (debian.store(true), debian.candidate());
        fs::write(store.place().join("corporate.crt"), "theirs\n").unwrap();
        assert_eq!(store.change(Wish::Trust, &candidate).outcome, Outcome::Done);
        assert_eq!(store.change(Wish::Trust, &candidate).outcome, Outcome::Already);
        assert_eq!((debian.files().len(), debian.log().len()), (2, 1));
        assert_eq!(store.change(Wish::Forget, &candidate).outcome, Outcome::Done);
        assert_eq!(store.change(Wish::Forget, &candidate).outcome, Outcome::Already);
        assert_eq!(debian.files(), [store.place().join("corporate.crt")]);
        assert_eq!(debian.log().len(), 2);
    }

    #[test]
    fn whoever_is_not_root_is_told_the_command_and_nothing_is_changed() {
        let debian = Debian::new();
        let (store, candidate) = (debian.store(false), debian.candidate());
        let step = store.change(Wish::Trust, &candidate);
        assert_eq!(step.outcome, Outcome::Root);
        let file = store.place().join(format!("{}.crt", candidate.label()));
        let (from, to) = (candidate.file.display(), file.display());
        assert_eq!(step.help.unwrap(), format!("sudo install -m 644 {from} {to} && sudo update-ca-certificates"));
        assert!(debian.files().is_empty());
    }

    #[test]
    fn a_command_that_fails_is_told_in_its_own_words() {
        let debian = Debian::new();
        debian.break_down();
        let step = debian.store(true).change(Wish::Trust, &debian.candidate());
        assert_eq!(step.outcome, Outcome::Failed("no room".into()));
    }

    #[test]
    fn what_was_broken_off_half_way_is_not_done_and_is_brought_to_its_end_the_next_time() {
        let debian = Debian::new();
        let (store, candidate) = (debian.store(true), debian.candidate());
        fs::write(store.place().join("corporate.crt"), "theirs\n").unwrap();
        program::run(&debian.0.path().join("bin/update-ca-certificates"), &[""; 0]).unwrap();
        for wish in [Wish::Trust, Wish::Forget] {
            debian.break_down();
            for _ in 0..2 {
                assert_eq!(store.change(wish, &candidate).outcome, Outcome::Failed("no room".into()), "{wish:?}");
                assert_eq!(store.trusts(&candidate), Ok(false), "it is neither here nor there");
            }
            debian.mend();
            assert_eq!(store.change(wish, &candidate).outcome, Outcome::Done, "{wish:?}");
            assert_eq!(store.trusts(&candidate), Ok(wish == Wish::Trust));
            assert_eq!(store.change(wish, &candidate).outcome, Outcome::Already, "{wish:?}");
        }
    }

    #[test]
    fn debian_clears_its_links_and_its_java_loses_exactly_the_name_that_debian_gave_it() {
        let debian = Debian::new().with_java();
        let (store, candidate) = (debian.store(true), debian.candidate());
        assert_eq!(store.change(Wish::Trust, &candidate).outcome, Outcome::Done);
        // As its hook does.
        let alias = format!("debian:{}.pem", candidate.label());
        fs::copy(&candidate.file, debian.aliases().join(&alias)).unwrap();
        fs::write(debian.aliases().join("debian:theirs.pem"), "theirs\n").unwrap();
        let by_hand = debian.store(false).change(Wish::Forget, &candidate).help.unwrap();
        assert!(by_hand.contains("sudo update-ca-certificates --fresh && sudo "), "{by_hand}");
        assert!(
            by_hand.ends_with(&format!(
                "keytool -delete -keystore {0} -storepass changeit -alias {alias}",
                debian.0.path().join("etc/ssl/certs/java/cacerts").display()
            )),
            "{by_hand}"
        );

        assert_eq!(store.change(Wish::Forget, &candidate).outcome, Outcome::Done);
        assert_eq!(debian.log(), ["run", "run --fresh"]);
        let left = fs::read_dir(debian.aliases()).unwrap().map(|entry| entry.unwrap().file_name());
        assert_eq!(left.collect::<Vec<_>>(), ["debian:theirs.pem"]);
        assert_eq!(store.change(Wish::Forget, &candidate).outcome, Outcome::Already);
    }
}
