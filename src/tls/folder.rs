//! Where the authority lies, and that nobody else can put one there.
//!
//! `$XDG_DATA_HOME/portolan`, by default `~/.local/share/portolan`: ours alone (0700) and no link. What is secret is created
//! for us alone and not opened up afterwards, written to the end, and only then given its name.

use std::{
    env,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Read as _, Write as _},
    os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt},
    path::{Path, PathBuf},
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, OFlags, flock},
    io::Errno,
};

use super::AuthorityError;

/// The folder of the authority, whether it exists or not.
pub fn default() -> Result<PathBuf, AuthorityError> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    let data = set("XDG_DATA_HOME").or_else(|| Some(env::home_dir()?.join(".local/share")));
    Ok(data.ok_or(AuthorityError::Nowhere)?.join("portolan"))
}

/// Makes the folder where there is none, and refuses one that somebody else could have filled.
pub(super) fn make(folder: &Path) -> Result<(), AuthorityError> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| AuthorityError::System(folder.to_owned(), error))?;
    check(folder)
}

/// Refuses a folder that somebody else could have filled.
pub(super) fn check(folder: &Path) -> Result<(), AuthorityError> {
    let metadata = fs::symlink_metadata(folder).map_err(|error| AuthorityError::System(folder.to_owned(), error))?;
    refuse(folder, fault(metadata.is_dir(), "folder", "700", metadata.uid(), metadata.mode()))
}

/// Making an authority takes others a moment, and writing to a slow disk not much longer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(10);

/// Nobody else makes an authority while this is held; the end of the process gives it back, however it ends.
///
/// Waits for whoever has it, but not for one that is stopped and will not go on.
pub(super) fn lock(folder: &Path) -> Result<File, AuthorityError> {
    lock_within(folder, PATIENCE)
}

fn lock_within(folder: &Path, patience: Duration) -> Result<File, AuthorityError> {
    let system = |error| AuthorityError::System(folder.to_owned(), error);
    let held = File::open(folder).map_err(system)?;
    let since = Instant::now();
    loop {
        match flock(&held, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK | Errno::INTR) if since.elapsed() < patience => thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => return Err(AuthorityError::Busy(folder.to_owned(), patience)),
            taken => return taken.map(|()| held).map_err(|error| system(error.into())),
        }
    }
}

/// The whole of a secret file, and which file it was; `None` where there is none.
pub(super) fn read_secret(path: &Path) -> Result<Option<(Vec<u8>, Stamp)>, AuthorityError> {
    let system = |error| AuthorityError::System(path.to_owned(), error);
    // Whatever was put there in its place must not make us wait, nor lead us elsewhere.
    let flags = (OFlags::NOFOLLOW | OFlags::NONBLOCK).bits().cast_signed();
    let file = match OpenOptions::new().read(true).custom_flags(flags).open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) if error.raw_os_error() == Some(Errno::LOOP.raw_os_error()) => {
            return refuse(path, fault(false, "file", "600", 0, 0)).map(|()| None);
        }
        Err(error) => return Err(system(error)),
    };
    let metadata = file.metadata().map_err(system)?;
    refuse(path, fault(metadata.is_file(), "file", "600", metadata.uid(), metadata.mode()))?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default().min(LARGEST) + 1);
    file.take(LARGEST as u64).read_to_end(&mut bytes).map_err(system)?;
    Ok(Some((bytes, Stamp::of(&metadata))))
}

/// No key and certificate of ours are longer, in bytes.
const LARGEST: usize = 1 << 20;

/// Puts a file there, whole or not at all. Whoever holds the lock may.
pub(super) fn write(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), AuthorityError> {
    let new = unfinished(path);
    let system = |error| AuthorityError::System(path.to_owned(), error);
    // What a killed portolan has left; nobody else writes while we hold the lock.
    match fs::remove_file(&new) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(system(error)),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&new).map_err(system)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(system)?;
    fs::rename(&new, path).map_err(system)?;
    let folder = path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all());
    folder.map_err(system)
}

/// What a file is called until it is whole.
pub(super) fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("new")
}

/// Tells one file from another that has taken its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stamp {
    device: u64,
    number: u64,
    changed: (i64, i64),
}

impl Stamp {
    fn of(metadata: &fs::Metadata) -> Self {
        Self { device: metadata.dev(), number: metadata.ino(), changed: (metadata.ctime(), metadata.ctime_nsec()) }
    }

    /// Of what lies there now.
    pub(super) fn at(path: &Path) -> Option<Self> {
        fs::symlink_metadata(path).ok().as_ref().map(Self::of)
    }
}

fn refuse(path: &Path, fault: Option<String>) -> Result<(), AuthorityError> {
    fault.map_or(Ok(()), |why| Err(AuthorityError::Refused { path: path.to_owned(), why }))
}

/// What is wrong with the place of a secret, if anything.
fn fault(is_such: bool, kind: &str, wanted: &str, owner: u32, mode: u32) -> Option<String> {
    let own = rustix::process::geteuid().as_raw();
    if !is_such {
        return Some(format!("is no {kind}, but a link or something else: take it away"));
    }
    if owner != own {
        return Some(format!("belongs to another user (uid {owner}): take it away"));
    }
    let open = mode & 0o077 != 0;
    open.then(|| format!("is open to other users (mode {:o}): `chmod {wanted}` it", mode & 0o777))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_must_be_of_its_kind_and_ours_and_closed_to_others() {
        let own = rustix::process::geteuid().as_raw();
        assert_eq!(fault(true, "folder", "700", own, 0o40700), None);
        assert_eq!(fault(true, "file", "600", own, 0o100_600), None);
        let told = |kind, wanted, owner, mode| fault(true, kind, wanted, owner, mode).unwrap();
        assert_eq!(told("file", "600", own, 0o100_640), "is open to other users (mode 640): `chmod 600` it");
        assert!(told("folder", "700", own + 1, 0o40700).starts_with("belongs to another user"));
        assert!(fault(false, "file", "600", own, 0o120_777).unwrap().starts_with("is no file"));
    }

    #[test]
    fn a_file_is_written_for_us_alone_and_what_a_killed_one_left_is_written_over() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("authority.pem");
        fs::write(path.with_extension("new"), "half of").unwrap();
        write(&path, 0o600, b"whole").unwrap();
        let (bytes, stamp) = read_secret(&path).unwrap().unwrap();
        assert_eq!(bytes, b"whole");
        assert_eq!(Stamp::at(&path), Some(stamp));
        assert!(!path.with_extension("new").exists());
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        write(&path, 0o600, b"another").unwrap();
        assert_ne!(Stamp::at(&path), Some(stamp));
    }

    #[test]
    fn whoever_holds_the_lock_is_waited_for_but_not_for_ever() {
        let folder = tempfile::tempdir().unwrap();
        let held = lock(folder.path()).unwrap();
        let told = lock_within(folder.path(), Duration::from_millis(20)).unwrap_err().to_string();
        assert!(told.ends_with(": another portolan has been at work there for 20 ms"), "{told}");
        thread::scope(|scope| {
            let waiting = scope.spawn(|| lock_within(folder.path(), Duration::from_secs(120)).map(drop));
            drop(held);
            waiting.join().unwrap().unwrap();
        });
    }

    #[test]
    fn a_link_in_the_place_of_a_secret_is_not_followed() {
        let folder = tempfile::tempdir().unwrap();
        let (real, link) = (folder.path().join("real"), folder.path().join("authority.pem"));
        write(&real, 0o600, b"planted").unwrap();
        std::os::unix::fs::symlink(&real, &link).unwrap();
        assert!(matches!(read_secret(&link), Err(AuthorityError::Refused { .. })));
    }
}
