//! Where the authority was put, noted beside it: a store that cannot be seen today, such as that of a Java that is not in
//! `JAVA_HOME` now, may have it still.

use std::{
    collections::BTreeSet,
    ffi::OsStr,
    fs, io,
    os::unix::ffi::OsStrExt,
    path::{Path, PathBuf},
};

use super::Store;
use crate::tls::{
    AuthorityError,
    authority::{self, PLACED},
};

/// The stores that were told to trust an authority of this folder, by their files.
#[derive(Debug)]
pub struct Placed {
    folder: PathBuf,
    stores: BTreeSet<PathBuf>,
}

impl Placed {
    /// As it was noted; none where nothing was.
    pub fn read(folder: &Path) -> Result<Self, AuthorityError> {
        let note = folder.join(PLACED);
        let bytes = match fs::read(&note) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Vec::new(),
            read => read.map_err(|error| AuthorityError::System(note, error))?,
        };
        // The one byte that no path has.
        let stores = bytes.split(|byte| *byte == 0).filter(|path| !path.is_empty());
        let stores = stores.map(|path| PathBuf::from(OsStr::from_bytes(path))).collect();
        Ok(Self { folder: folder.to_owned(), stores })
    }

    /// Whether any store was told.
    pub fn is_anywhere(&self) -> bool {
        !self.stores.is_empty()
    }

    /// These are about to be told: noted before they are, so that nobody who is killed leaves one that is not known.
    pub fn note<'s>(&mut self, stores: impl IntoIterator<Item = &'s Store>) -> Result<(), AuthorityError> {
        let before = self.stores.len();
        self.stores.extend(stores.into_iter().map(Store::file));
        if self.stores.len() == before { Ok(()) } else { self.write() }
    }

    /// This one has nothing of ours any more.
    pub fn clear(&mut self, store: &Store) -> Result<(), AuthorityError> {
        if self.stores.remove(&store.file()) { self.write() } else { Ok(()) }
    }

    /// Those that are there, but not among these, which were looked at.
    pub fn unseen(&self, seen: &[Store]) -> Vec<&Path> {
        let is_seen = |file: &Path| seen.iter().any(|store| store.file() == file);
        self.stores.iter().map(PathBuf::as_path).filter(|file| !is_seen(file) && file.exists()).collect()
    }

    fn write(&self) -> Result<(), AuthorityError> {
        let paths: Vec<&[u8]> = self.stores.iter().map(|path| path.as_os_str().as_bytes()).collect();
        authority::put_beside(&self.folder, PLACED, &paths.join(&0)).map(drop)
    }
}
