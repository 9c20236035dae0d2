//! Where the control socket lies, and that nobody else can put one there.
//!
//! `$XDG_RUNTIME_DIR/portolan/PORT.sock`, or where that is not set `$XDG_STATE_HOME/portolan/run` (`~/.local/state`): never in a
//! folder that others may write. The folder is ours alone (0700), is no link, and a peer must be of our user. The TCP
//! port is what makes a running portolan the only one of its number, and so of its socket.

use std::{
    env,
    fs::{self, DirBuilder},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum SocketError {
    /// There is neither a runtime folder nor a home.
    #[error("neither XDG_RUNTIME_DIR nor HOME says where the control socket may lie")]
    Nowhere,
    /// The folder is not one that only we can write.
    #[error("{}: {why}", crate::diagnostic::shown(.folder))]
    Folder {
        /// Which.
        folder: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// Another portolan answers there.
    #[error("another portolan answers at {}", crate::diagnostic::shown(.0))]
    Taken(PathBuf),
    /// The system refuses.
    #[error("{}: {}", crate::diagnostic::shown(.0), crate::diagnostic::without_number(.1))]
    System(PathBuf, #[source] io::Error),
}

/// A socket to be served; its file goes with it.
#[derive(Debug)]
pub struct Bound {
    /// Takes connections.
    pub listener: UnixListener,
    path: PathBuf,
}

impl Drop for Bound {
    fn drop(&mut self) {
        // The next one to bind it would take it for the leftover that it is.
        let _ = fs::remove_file(&self.path);
    }
}

/// The folder of the sockets, whether it exists or not.
pub fn folder() -> Result<PathBuf, SocketError> {
    let set = |name: &str| env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    if let Some(runtime) = set("XDG_RUNTIME_DIR") {
        return Ok(runtime.join("portolan"));
    }
    let state = set("XDG_STATE_HOME").or_else(|| Some(env::home_dir()?.join(".local/state")));
    Ok(state.ok_or(SocketError::Nowhere)?.join("portolan/run"))
}

/// The socket of the portolan that listens on this port.
pub fn path(port: u16) -> Result<PathBuf, SocketError> {
    Ok(folder()?.join(format!("{port}.sock")))
}

/// The ports of all sockets in the folder, whether anybody answers there or not.
pub fn ports() -> Vec<u16> {
    let entries = folder().ok().and_then(|folder| fs::read_dir(folder).ok()).into_iter().flatten().flatten();
    let port = |entry: fs::DirEntry| entry.file_name().to_str()?.strip_suffix(".sock")?.parse().ok();
    let mut ports: Vec<u16> = entries.filter_map(port).collect();
    ports.sort_unstable();
    ports
}

/// Binds the socket of this port. A file that a killed portolan has left is replaced.
pub async fn bind(port: u16) -> Result<Bound, SocketError> {
    let folder = folder()?;
    make(&folder)?;
    let path = folder.join(format!("{port}.sock"));
    clear(&path).await?;
    let system = |error| SocketError::System(path.clone(), error);
    let listener = UnixListener::bind(&path).map_err(system)?;
    let bound = Bound { listener, path: path.clone() };
    // The folder keeps others out already.
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(system)?;
    Ok(bound)
}

/// Whether whoever is at the other end is of our user; root may look in everywhere anyway.
pub fn is_ours(stream: &UnixStream) -> bool {
    let own = rustix::process::geteuid().as_raw();
    stream.peer_cred().is_ok_and(|peer| peer.uid() == own || peer.uid() == 0)
}

fn make(folder: &Path) -> Result<(), SocketError> {
    let refused = |why: String| SocketError::Folder { folder: folder.to_owned(), why };
    let made = DirBuilder::new().recursive(true).mode(0o700).create(folder);
    made.map_err(|error| refused(format!("cannot be made: {}", crate::diagnostic::without_number(&error))))?;
    let metadata = fs::symlink_metadata(folder).map_err(|error| SocketError::System(folder.to_owned(), error))?;
    let own = rustix::process::geteuid().as_raw();
    match fault(metadata.is_dir(), metadata.uid(), metadata.mode(), own) {
        Some(why) => Err(refused(why)),
        None => Ok(()),
    }
}

/// What is wrong with a folder for sockets, if anything.
fn fault(is_folder: bool, owner: u32, mode: u32, own: u32) -> Option<String> {
    if !is_folder {
        return Some("is no folder, but a link or a file: take it away".into());
    }
    if owner != own {
        return Some(format!("belongs to another user (uid {owner}): take it away, or set XDG_RUNTIME_DIR"));
    }
    (mode & 0o077 != 0).then(|| "is open to other users: `chmod 700` it".into())
}

/// Takes away what a killed portolan has left; never a socket at which somebody answers, nor what is no socket.
async fn clear(path: &Path) -> Result<(), SocketError> {
    let system = |error| SocketError::System(path.to_owned(), error);
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(system(error)),
    };
    if !metadata.file_type().is_socket() {
        let why = "is no socket: take it away".into();
        return Err(SocketError::Folder { folder: path.to_owned(), why });
    }
    if UnixStream::connect(path).await.is_ok() {
        return Err(SocketError::Taken(path.to_owned()));
    }
    fs::remove_file(path).map_err(system)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_must_be_a_folder_of_ours_that_is_closed_to_others() {
        assert_eq!(fault(true, 1000, 0o40700, 1000), None);
        assert!(fault(false, 1000, 0o120_777, 1000).unwrap().starts_with("is no folder"));
        assert!(fault(true, 1001, 0o40700, 1000).unwrap().starts_with("belongs to another user (uid 1001)"));
        assert!(fault(true, 1000, 0o40755, 1000).unwrap().starts_with("is open to other users"));
    }

    #[tokio::test]
    async fn a_leftover_is_cleared_and_what_is_alive_or_no_socket_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.sock");
        clear(&path).await.unwrap();
        let alive = UnixListener::bind(&path).unwrap();
        assert!(matches!(clear(&path).await, Err(SocketError::Taken(_))));
        drop(alive);
        clear(&path).await.unwrap();
        assert!(!path.exists());
        fs::write(&path, "").unwrap();
        assert!(matches!(clear(&path).await, Err(SocketError::Folder { .. })));
    }
}
