//! The operating system's store: a folder of certificates, and a command that makes it known.
//!
//! Only root may write there. Whoever is not gets the command that does it.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use rustls_pki_types::{CertificateDer, pem::PemObject};

use super::{
    program,
    stores::{Candidate, Machine, Step, Wish},
};
use crate::diagnostic::without_number;

/// A way in which systems keep their store.
struct Layout {
    /// Holds what the administrator adds.
    folder: &'static str,
    /// Makes it known, and with `again` also what was taken away.
    command: &'static [&'static str],
}

/// Debian and its like; Fedora and its like; Arch and its like; openSUSE.
const LAYOUTS: [Layout; 4] = [
    Layout { folder: "usr/local/share/ca-certificates", command: &["update-ca-certificates"] },
    Layout { folder: "etc/pki/ca-trust/source/anchors", command: &["update-ca-trust", "extract"] },
    Layout { folder: "etc/ca-certificates/trust-source/anchors", command: &["trust", "extract-compat"] },
    Layout { folder: "usr/share/pki/trust/anchors", command: &["update-ca-certificates"] },
];

/// The store of macOS.
const KEYCHAIN: &str = "/Library/Keychains/System.keychain";

/// The operating system's store.
#[derive(Debug)]
pub struct System {
    kept: Kept,
    is_root: bool,
}

#[derive(Debug)]
enum Kept {
    Folder { folder: PathBuf, program: PathBuf, command: &'static [&'static str] },
    Keychain { keychain: PathBuf, program: PathBuf },
}

impl System {
    pub(super) fn find(machine: &Machine) -> Option<Self> {
        let folder = LAYOUTS.iter().find_map(|layout| {
            let folder = Some(machine.root.join(layout.folder)).filter(|folder| folder.is_dir())?;
            let program = program::find(layout.command[0], &machine.path)?;
            Some(Kept::Folder { folder, program, command: layout.command })
        });
        let keychain = || {
            let keychain = Some(PathBuf::from(KEYCHAIN)).filter(|keychain| keychain.is_file())?;
            Some(Kept::Keychain { keychain, program: program::find("security", &machine.path)? })
        };
        Some(Self { kept: folder.or_else(keychain)?, is_root: machine.is_root })
    }

    pub(super) fn place(&self) -> &Path {
        match &self.kept {
            Kept::Folder { folder, .. } => folder,
            Kept::Keychain { keychain, .. } => keychain,
        }
    }

    pub(super) fn trusts(&self, candidate: &Candidate) -> bool {
        match &self.kept {
            Kept::Folder { folder, .. } => {
                let there = CertificateDer::from_pem_file(file(folder, candidate));
                there.is_ok_and(|there| there == candidate.certificate)
            }
            Kept::Keychain { program, .. } => {
                program::run(program, &["verify-cert", "-c", &*candidate.file.to_string_lossy()]).is_ok()
            }
        }
    }

    pub(super) fn change(&self, wish: Wish, candidate: &Candidate) -> Step {
        if !self.is_root {
            return Step::root(self.by_hand(wish, candidate));
        }
        let changed = match &self.kept {
            Kept::Folder { folder, program, command } => {
                let file = file(folder, candidate);
                let placed = match wish {
                    Wish::Trust => fs::copy(&candidate.file, &file).map(drop),
                    Wish::Forget => remove(&file),
                };
                placed.map_err(|error| without_number(&error)).and_then(|()| program::run(program, &command[1..]))
            }
            Kept::Keychain { program, .. } => program::run(program, &keychain_words(wish, candidate)),
        };
        changed.map_or_else(|why| Step::failed(why, Some(self.by_hand(wish, candidate))), |_| Step::done())
    }

    /// The commands that do the same.
    fn by_hand(&self, wish: Wish, candidate: &Candidate) -> String {
        match &self.kept {
            Kept::Folder { folder, command, .. } => {
                let (file, command) = (file(folder, candidate), command.join(" "));
                match wish {
                    Wish::Trust => {
                        let from = &candidate.file;
                        format!("sudo install -m 644 {} {} && sudo {command}", quoted(from), quoted(&file))
                    }
                    Wish::Forget => format!("sudo rm {} && sudo {command}", quoted(&file)),
                }
            }
            Kept::Keychain { .. } => {
                let words = keychain_words(wish, candidate);
                format!(
                    "sudo security {}",
                    words.iter().map(|word| quoted(Path::new(word))).collect::<Vec<_>>().join(" ")
                )
            }
        }
    }
}

fn keychain_words(wish: Wish, candidate: &Candidate) -> Vec<String> {
    let file = candidate.file.display().to_string();
    let words: &[&str] = match wish {
        Wish::Trust => &["add-trusted-cert", "-d", "-r", "trustRoot", "-k", KEYCHAIN],
        Wish::Forget => &["remove-trusted-cert", "-d"],
    };
    words.iter().copied().map(String::from).chain([file]).collect()
}

fn file(folder: &Path, candidate: &Candidate) -> PathBuf {
    folder.join(format!("{}.crt", candidate.label()))
}

fn remove(file: &Path) -> io::Result<()> {
    match fs::remove_file(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// A path as a word for a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use std::{ffi::OsString, os::unix::fs::PermissionsExt};

    use super::*;
    use crate::{
        tls::Authority,
        trust::{Kind, Outcome, Store},
    };

    /// A machine like Debian, on which `update-ca-certificates` writes down that it was run.
    struct Debian(tempfile::TempDir);

    impl Debian {
        fn new() -> Self {
            let debian = Self(tempfile::tempdir().unwrap());
            for folder in ["usr/local/share/ca-certificates", "bin"] {
                fs::create_dir_all(debian.0.path().join(folder)).unwrap();
            }
            let program = debian.0.path().join("bin/update-ca-certificates");
            fs::write(&program, format!("#!/bin/sh\necho run >>{}\n", debian.log().display())).unwrap();
            fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
            debian
        }

        fn log(&self) -> PathBuf {
            self.0.path().join("log")
        }

        fn runs(&self) -> usize {
            fs::read_to_string(self.log()).unwrap_or_default().lines().count()
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
        fs::write(store.place().join("corporate.crt"), "theirs").unwrap();
        assert_eq!(store.change(Wish::Trust, &candidate).outcome, Outcome::Done);
        assert_eq!(store.change(Wish::Trust, &candidate).outcome, Outcome::Already);
        assert_eq!((debian.files().len(), debian.runs()), (2, 1));
        assert_eq!(store.change(Wish::Forget, &candidate).outcome, Outcome::Done);
        assert_eq!(store.change(Wish::Forget, &candidate).outcome, Outcome::Already);
        assert_eq!(debian.files(), [store.place().join("corporate.crt")]);
        assert_eq!(debian.runs(), 2);
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
        fs::write(debian.0.path().join("bin/update-ca-certificates"), "#!/bin/sh\necho no room >&2\nexit 1\n").unwrap();
        let step = debian.store(true).change(Wish::Trust, &debian.candidate());
        assert_eq!(step.outcome, Outcome::Failed("no room".into()));
    }

    #[test]
    fn a_path_is_one_word_for_a_shell_whatever_is_in_it() {
        assert_eq!(quoted(Path::new("/a/b-c_1.crt")), "/a/b-c_1.crt");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
