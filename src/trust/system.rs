//! The operating system's store: a folder of certificates, or the keychain of macOS.
//!
//! Only root may write there. Whoever is not gets the command that does it.

use std::path::{Path, PathBuf};

use super::{
    folder::Folder,
    program::{self, quoted},
    stores::{Candidate, Machine, Step, Wish},
};

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
    Folder(Folder),
    Keychain { keychain: PathBuf, program: PathBuf },
}

impl System {
    pub(super) fn find(machine: &Machine) -> Option<Self> {
        let folder = Folder::find(machine).map(Kept::Folder);
        let keychain = || {
            let keychain = Some(PathBuf::from(KEYCHAIN)).filter(|keychain| keychain.is_file())?;
            Some(Kept::Keychain { keychain, program: program::find("security", &machine.path)? })
        };
        Some(Self { kept: folder.or_else(keychain)?, is_root: machine.is_root })
    }

    pub(super) fn place(&self) -> &Path {
        match &self.kept {
            Kept::Folder(folder) => folder.place(),
            Kept::Keychain { keychain, .. } => keychain,
        }
    }

    /// Whether it is as wished, and everybody knows.
    pub(super) fn is_so(&self, wish: Wish, candidate: &Candidate) -> bool {
        match &self.kept {
            Kept::Folder(folder) => folder.is_so(wish, candidate),
            Kept::Keychain { program, .. } => {
                let words = ["verify-cert", "-c", &*candidate.file.to_string_lossy()];
                program::run(program, &words).is_ok() == (wish == Wish::Trust)
            }
        }
    }

    pub(super) fn change(&self, wish: Wish, candidate: &Candidate) -> Step {
        if !self.is_root {
            return Step::root(self.by_hand(wish, candidate));
        }
        let changed = match &self.kept {
            Kept::Folder(folder) => folder.change(wish, candidate),
            Kept::Keychain { program, .. } => program::run(program, &keychain_words(wish, candidate)).map(drop),
        };
        changed.map_or_else(|why| Step::failed(why, Some(self.by_hand(wish, candidate))), |()| Step::done())
    }

    /// The commands that do the same.
    fn by_hand(&self, wish: Wish, candidate: &Candidate) -> String {
        match &self.kept {
            Kept::Folder(folder) => folder.by_hand(wish, candidate),
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
