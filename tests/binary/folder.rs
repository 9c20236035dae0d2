//! A folder of a test's own, which goes with the test.

use std::{
    fs,
    path::{Path, PathBuf},
};

use tempfile::TempDir;

/// The name of a table.
pub(crate) const TABLE: &str = "portolan.toml";

/// An empty folder at first.
pub(crate) struct Folder(TempDir);

impl Folder {
    pub(crate) fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    /// With a table in it.
    pub(crate) fn with_table(table: impl AsRef<[u8]>) -> Self {
        let folder = Self::new();
        folder.write(TABLE, table);
        folder
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }

    /// Writes a file in place, with the folders above it.
    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) -> PathBuf {
        let file = self.file(name);
        fs::create_dir_all(file.parent().unwrap()).unwrap();
        fs::write(&file, text).unwrap();
        file
    }

    /// Saves a file as most editors do: a new one, renamed over the old one.
    pub(crate) fn save(&self, name: &str, text: impl AsRef<[u8]>) {
        let beside = self.write(&format!("{name}.new~"), text);
        fs::rename(beside, self.file(name)).unwrap();
    }
}
