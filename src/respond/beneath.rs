//! Opens what lies beneath a folder, and nothing else, whatever links and dots the way there holds.
//!
//! On Linux the kernel resolves the way and refuses to leave the folder (`openat2`, `RESOLVE_BENEATH`). Elsewhere, and on
//! kernels before 5.6, the resolved path is compared with the folder; a link that is swapped between the two steps could
//! get past that, which needs somebody who may write there anyway. Only regular files are opened: a FIFO would
//! make the reader wait, and opening some devices already does something.
//!
//! The folder is opened anew each time, since builds remove and remake the one that they fill. All of it blocks.
//!
//! [`open_anywhere`] knows no folder and follows every link; it shares the care about what is no regular file.

use std::{
    fs::{File, Metadata, OpenOptions},
    io,
    path::{Path, PathBuf},
};

/// What is there, for a regular file or a folder; anything else is refused.
pub(super) fn look(root: &Path, path: &Path) -> io::Result<Metadata> {
    let metadata = imp::metadata(root, path)?;
    if metadata.is_file() || metadata.is_dir() { Ok(metadata) } else { Err(refused("neither a file nor a folder")) }
}

/// Opens a regular file for reading.
pub(super) fn open(root: &Path, path: &Path) -> io::Result<(File, Metadata)> {
    require_file(&look(root, path)?)?;
    opened(imp::open(root, path)?)
}

/// Opens a regular file for reading wherever it lies: a person has written where.
pub(super) fn open_anywhere(path: &Path) -> io::Result<(File, Metadata)> {
    require_file(&path.metadata()?)?;
    opened(without_waiting(Link::Followed).open(path)?)
}

/// Another thing may stand there since it was looked at; opened without waiting, it is only put back.
fn opened(file: File) -> io::Result<(File, Metadata)> {
    let metadata = file.metadata()?;
    require_file(&metadata)?;
    Ok((file, metadata))
}

/// What becomes of a link that stands at the end of a path.
enum Link {
    Followed,
    Refused,
}

/// For reading: a FIFO makes nobody wait, and no terminal becomes ours.
fn without_waiting(link: Link) -> OpenOptions {
    let mut options = File::options();
    options.read(true);
    #[cfg(unix)]
    {
        use rustix::fs::OFlags;
        use std::os::unix::fs::OpenOptionsExt;
        let links = if matches!(link, Link::Refused) { OFlags::NOFOLLOW } else { OFlags::empty() };
        // The flags are bits of one `int`, whatever type holds them.
        options.custom_flags((OFlags::NONBLOCK | OFlags::NOCTTY | links).bits() as i32);
    }
    options
}

fn require_file(metadata: &Metadata) -> io::Result<()> {
    if metadata.is_file() { Ok(()) } else { Err(refused("not a file")) }
}

fn refused(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::PermissionDenied, why)
}

const LEADS_OUT: &str = "leads out of the folder";

#[cfg(target_os = "linux")]
mod imp {
    use rustix::{
        fs::{Mode, OFlags, ResolveFlags, openat2},
        io::Errno,
    };

    use super::{File, LEADS_OUT, Metadata, Path, compared, io, refused};

    /// How often a way that others rename meanwhile is walked again; the kernel cannot tell such a race from an escape.
    const TRIES: usize = 8;

    pub(super) fn metadata(root: &Path, path: &Path) -> io::Result<Metadata> {
        match resolve(root, path, OFlags::PATH) {
            Err(Errno::NOSYS) => compared::metadata(root, path),
            file => file.map_err(told)?.metadata(),
        }
    }

    pub(super) fn open(root: &Path, path: &Path) -> io::Result<File> {
        match resolve(root, path, OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY) {
            Err(Errno::NOSYS) => compared::open(root, path),
            file => file.map_err(told),
        }
    }

    fn resolve(root: &Path, path: &Path, flags: OFlags) -> Result<File, Errno> {
        let folder = rustix::fs::open(root, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())?;
        let within = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        let once = || openat2(&folder, path, flags | OFlags::CLOEXEC, Mode::empty(), within);
        let mut tries = std::iter::repeat_with(once).take(TRIES);
        tries.find(|opened| !matches!(opened, Err(Errno::AGAIN))).unwrap_or(Err(Errno::AGAIN)).map(File::from)
    }

    fn told(errno: Errno) -> io::Error {
        if matches!(errno, Errno::XDEV | Errno::LOOP) { refused(LEADS_OUT) } else { errno.into() }
    }
}

#[cfg(not(target_os = "linux"))]
use compared as imp;

/// The way of systems whose kernel does not keep a look-up beneath a folder.
mod compared {
    use super::{File, LEADS_OUT, Link, Metadata, Path, PathBuf, io, refused, without_waiting};

    pub(super) fn metadata(root: &Path, path: &Path) -> io::Result<Metadata> {
        std::fs::symlink_metadata(resolve(root, path)?)
    }

    pub(super) fn open(root: &Path, path: &Path) -> io::Result<File> {
        // A link that stands at the end of a resolved path came after that.
        without_waiting(Link::Refused).open(resolve(root, path)?)
    }

    fn resolve(root: &Path, path: &Path) -> io::Result<PathBuf> {
        let root = root.canonicalize()?;
        let path = root.join(path).canonicalize()?;
        if path.starts_with(&root) { Ok(path) } else { Err(refused(LEADS_OUT)) }
    }
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use std::{io::Read, os::unix::fs::symlink};

    use super::*;

    fn folder() -> tempfile::TempDir {
        let top = tempfile::tempdir().expect("a folder");
        std::fs::create_dir_all(top.path().join("root/sub")).expect("folders");
        std::fs::create_dir(top.path().join("root-beside")).expect("a folder");
        for (path, text) in [("secret", "secret"), ("root-beside/f", "secret"), ("root/f", "in"), ("root/sub/g", "in")]
        {
            std::fs::write(top.path().join(path), text).expect("a file");
        }
        for (to, link) in [
            ("f", "inner"),
            ("../f", "sub/up"),
            ("../secret", "out"),
            ("sub/../../secret", "around"),
            ("/etc", "etc"),
            ("/proc/self/root", "magic"),
            ("../root-beside", "beside"),
            ("loop", "loop"),
            ("gone", "gone-link"),
        ] {
            symlink(to, top.path().join("root").join(link)).expect("a link");
        }
        top
    }

    type Way = fn(&Path, &Path) -> io::Result<File>;

    #[test]
    fn links_that_stay_are_followed_and_links_that_leave_are_not() {
        let top = folder();
        let root = top.path().join("root");
        for way in [imp::open as Way, compared::open as Way] {
            for path in ["f", "sub/g", "inner", "sub/up"] {
                let mut text = String::new();
                way(&root, Path::new(path)).expect(path).read_to_string(&mut text).expect("text");
                assert_eq!(text, "in", "{path}");
            }
            for path in ["out", "around", "etc/passwd", "magic/etc/passwd", "beside/f", "../secret", "sub/../../secret"]
            {
                let error = way(&root, Path::new(path)).expect_err(path);
                assert_eq!(error.kind(), io::ErrorKind::PermissionDenied, "{path}: {error}");
            }
            for path in ["loop", "gone-link", "f/x", "sub/none"] {
                way(&root, Path::new(path)).expect_err(path);
            }
        }
    }

    #[test]
    fn what_is_no_regular_file_is_never_opened() {
        let top = folder();
        let root = top.path().join("root");
        let fifo = root.join("fifo");
        rustix::fs::mknodat(rustix::fs::CWD, &fifo, rustix::fs::FileType::Fifo, 0o600.into(), 0).expect("a fifo");
        let socket = std::os::unix::net::UnixListener::bind(root.join("socket")).expect("a socket");
        for path in ["fifo", "socket"] {
            assert_eq!(look(&root, Path::new(path)).expect_err(path).kind(), io::ErrorKind::PermissionDenied, "{path}");
            open(&root, Path::new(path)).expect_err(path);
        }
        for path in ["null", "zero", "tty"] {
            open(Path::new("/dev"), Path::new(path)).expect_err(path);
        }
        open(&root, Path::new("sub")).expect_err("a folder");
        assert!(look(&root, Path::new("sub")).expect("a folder").is_dir());
        drop(socket);
    }
}
