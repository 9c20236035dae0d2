//! Other people's programs that keep stores, asked without a shell and without a terminal to ask back.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::diagnostic::{printable, without_number};

/// Where a program lies in one of these folders, as in `PATH`.
pub(super) fn find(name: &str, folders: &OsStr) -> Option<PathBuf> {
    let is_program =
        |path: &PathBuf| fs::metadata(path).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    env::split_paths(folders).map(|folder| folder.join(name)).find(is_program)
}

/// What it has written, if it is content; otherwise the last line of its complaint.
pub(super) fn run(program: &Path, arguments: &[impl AsRef<OsStr>]) -> Result<String, String> {
    let output = Command::new(program).args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|error| without_number(&error))?;
    let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    if output.status.success() {
        return Ok(said(&output.stdout));
    }
    let told = said(&output.stderr) + &said(&output.stdout);
    let last = told.lines().map(str::trim).rfind(|line| !line.is_empty());
    Err(last.map_or_else(|| output.status.to_string(), printable))
}

/// A path as a word for a shell.
pub(super) fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:@%,=".contains(c);
    if text.chars().all(is_plain) { text } else { format!("'{}'", text.replace('\'', r"'\''")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word_for_a_shell_whatever_is_in_it() {
        assert_eq!(quoted(Path::new("/a/b-c_1.crt")), "/a/b-c_1.crt");
        assert_eq!(quoted(Path::new("/a b/it's")), r"'/a b/it'\''s'");
    }
}
