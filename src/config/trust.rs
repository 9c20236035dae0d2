//! Whose words start programs: a table that was found, and not named, must be one that nobody else could have written.
//!
//! What starts programs takes them from the nearest table on the way up. Whoever could put one there, or write into it,
//! would decide what runs as the user who stands beneath.

use std::{
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
};

use super::load::{display_name, files, is_procfile};
use crate::diagnostic::Diagnostic;

/// The administrator may write everything anyway.
const ROOT: u32 = 0;

/// What the system says of a file, a link or a folder (inode(7)).
#[derive(Debug, Clone, Copy)]
struct Rights {
    uid: u32,
    mode: u32,
}

impl Rights {
    const OTHERS_WRITE: u32 = 0o002;
    const STICKY: u32 = 0o1000;
    const KIND: u32 = 0o170_000;
    const FOLDER: u32 = 0o040_000;
    const LINK: u32 = 0o120_000;

    fn is_open_to_all(self) -> bool {
        // Everybody may write every link, which says nothing of what it leads to. In a sticky folder such as /tmp
        // everybody may put a file, but only its owner may replace it.
        let protected = match self.mode & Self::KIND {
            Self::LINK => true,
            Self::FOLDER => self.mode & Self::STICKY != 0,
            _ => false,
        };
        self.mode & Self::OTHERS_WRITE != 0 && !protected
    }
}

/// Why a file could say what somebody else wants.
#[derive(Debug, PartialEq, Eq)]
enum Doubt {
    /// It belongs to this user, who is neither we nor root.
    Foreign(u32),
    /// Everybody may write it.
    Open,
}

fn doubt(rights: Rights, ours: u32) -> Option<Doubt> {
    if rights.uid != ours && rights.uid != ROOT {
        return Some(Doubt::Foreign(rights.uid));
    }
    rights.is_open_to_all().then_some(Doubt::Open)
}

/// Refuses a table or a Procfile that another user, or everybody, could have written.
///
/// For whoever starts programs from a file that was found; one that was named with `-c` is meant. Looked at are the
/// file, the local one over it, the links that lead to them, and their folder. What is not there is no reason to
/// refuse: reading it says so.
#[expect(clippy::result_large_err, reason = "once per start, and the caller renders it at once")]
pub fn trusted(path: &Path) -> Result<(), Diagnostic> {
    let ours = rustix::process::geteuid().as_raw();
    let doubtful = |place: &PathBuf| rights_of(place).into_iter().find_map(|rights| doubt(rights, ours));
    match places(path).iter().find_map(|place| Some((place, doubtful(place)?))) {
        Some((place, doubt)) => Err(told(path, place, &doubt)),
        None => Ok(()),
    }
}

/// Everything that whoever writes it decides what is read.
fn places(path: &Path) -> Vec<PathBuf> {
    let [main, local] = files(path);
    let folder = main.parent().map(Path::to_owned);
    let local = (!is_procfile(path)).then_some(local);
    std::iter::once(main).chain(local).chain(folder).collect()
}

/// Those of a link, too, where it is one.
fn rights_of(place: &Path) -> Vec<Rights> {
    let seen = [place.symlink_metadata(), place.metadata()];
    seen.into_iter().flatten().map(|metadata| Rights { uid: metadata.uid(), mode: metadata.mode() }).collect()
}

fn told(path: &Path, place: &Path, doubt: &Doubt) -> Diagnostic {
    let (table, name) = (display_name(path), display_name(place));
    let name = if place.is_dir() { format!("the folder of {table}") } else { name };
    let message = match doubt {
        Doubt::Foreign(uid) => format!("{name} belongs to another user (uid {uid})"),
        Doubt::Open => format!("everybody on this machine may write {name}"),
    };
    let problem = Diagnostic::error("untrusted-table", message)
        .note("whoever writes it decides which programs are started, and they run as you");
    let problem = match doubt {
        Doubt::Foreign(_) => problem,
        Doubt::Open => problem.help(format!("take that right away: `chmod o-w {}`", display_name(place))),
    };
    problem.help(format!("if you trust it, name it: `-c {table}`"))
}

#[cfg(test)]
mod tests {
    use std::{
        fs::{self, Permissions},
        os::unix::fs::{PermissionsExt, symlink},
    };

    use super::*;
    use crate::diagnostic::render;

    const FILE: u32 = 0o100_000;
    const US: u32 = 1000;

    fn of(uid: u32, mode: u32) -> Option<Doubt> {
        doubt(Rights { uid, mode }, US)
    }

    /// A folder with a table in it that nobody else may write.
    fn folder() -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let table = folder.path().join("portolan.toml");
        fs::write(&table, "").unwrap();
        allow(&table, 0o644);
        allow(folder.path(), 0o755);
        (folder, table)
    }

    fn allow(path: &Path, mode: u32) {
        fs::set_permissions(path, Permissions::from_mode(mode)).unwrap();
    }

    fn refusal(path: &Path) -> String {
        render(&[trusted(path).unwrap_err()], false)
    }

    #[test]
    fn what_we_or_root_own_is_trusted_and_what_others_own_is_not() {
        for kind in [FILE | 0o644, FILE | 0o664, Rights::FOLDER | 0o755, Rights::LINK | 0o777] {
            assert_eq!(of(US, kind), None, "{kind:o}");
            assert_eq!(of(ROOT, kind), None, "{kind:o}");
            assert_eq!(of(1001, kind), Some(Doubt::Foreign(1001)), "{kind:o}");
        }
        assert_eq!(doubt(Rights { uid: US, mode: FILE | 0o600 }, ROOT), Some(Doubt::Foreign(US)), "root is not safe");
    }

    #[test]
    fn what_everybody_may_write_is_not_trusted_whoever_owns_it() {
        for uid in [US, ROOT] {
            assert_eq!(of(uid, FILE | 0o666), Some(Doubt::Open));
            assert_eq!(of(uid, FILE | 0o1666), Some(Doubt::Open), "for a file the sticky bit means nothing");
            assert_eq!(of(uid, Rights::FOLDER | 0o777), Some(Doubt::Open));
            assert_eq!(of(uid, Rights::FOLDER | 0o1777), None, "nobody else may replace a file there");
        }
    }

    #[test]
    fn a_table_that_everybody_may_write_is_refused_with_two_ways_out() {
        let (_folder, table) = folder();
        assert_eq!(trusted(&table), Ok(()));
        allow(&table, 0o646);
        let name = display_name(&table);
        let wanted = format!(
            "\
error[untrusted-table]: everybody on this machine may write {name}
 |
 = note: whoever writes it decides which programs are started, and they run as you
 = help: take that right away: `chmod o-w {name}`
 = help: if you trust it, name it: `-c {name}`
"
        );
        assert_eq!(refusal(&table), wanted);
    }

    #[test]
    fn the_local_file_and_the_folder_must_be_ours_too() {
        let (folder, table) = folder();
        let local = folder.path().join("portolan.local.toml");
        fs::write(&local, "").unwrap();
        allow(&local, 0o666);
        assert!(refusal(&table).contains("portolan.local.toml\n"), "{}", refusal(&table));
        assert_eq!(trusted(&folder.path().join("Procfile")), Ok(()), "nothing lies over a Procfile");

        allow(&local, 0o644);
        allow(folder.path(), 0o777);
        assert!(refusal(&table).contains("may write the folder of "), "{}", refusal(&table));
        allow(folder.path(), 0o1777);
        assert_eq!(trusted(&table), Ok(()));
    }

    #[test]
    fn a_link_is_as_good_as_what_it_leads_to() {
        let (folder, table) = folder();
        let link = folder.path().join("linked.toml");
        symlink(&table, &link).unwrap();
        assert_eq!(trusted(&link), Ok(()));
        allow(&table, 0o666);
        assert!(trusted(&link).is_err());
    }
}
