//! Whether the folder of our own sockets is safe, and what a crash has left in it.

use std::{
    io,
    os::unix::{
        fs::{MetadataExt, PermissionsExt},
        net::UnixStream,
    },
    path::{Path, PathBuf},
};

use super::{Fact, Finding, counted};
use crate::diagnostic::{shown, without_number};

const CHECK: &str = "runtime";

/// Others may do nothing there: whoever may write into it could answer in our place.
const OF_OTHERS: u32 = 0o077;

/// The folder, and what lies in it; or why there can be none.
pub(super) type Runtime = Result<Seen, String>;

#[derive(Debug)]
pub(super) struct Seen {
    path: PathBuf,
    /// `Absent` before the first start.
    folder: Fact<Folder>,
    own_uid: u32,
    sockets: Vec<Socket>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Folder {
    /// A link or a file in its place is nothing of ours.
    is_folder: bool,
    uid: u32,
    mode: u32,
}

#[derive(Debug)]
struct Socket {
    path: PathBuf,
    /// Somebody listens.
    is_alive: bool,
}

pub(super) fn look(path: Result<PathBuf, String>) -> Runtime {
    path.map(look_into)
}

fn look_into(path: PathBuf) -> Seen {
    let folder = match path.symlink_metadata() {
        Ok(found) => {
            let mode = found.permissions().mode() & 0o7777;
            Fact::Known(Folder { is_folder: found.is_dir(), uid: found.uid(), mode })
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Fact::Absent,
        Err(error) => Fact::Unknown(without_number(&error)),
    };
    let is_socket = |path: &PathBuf| path.extension().is_some_and(|extension| extension == "sock");
    let entries = path.read_dir().into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path()));
    let mut sockets: Vec<PathBuf> = entries.filter(is_socket).collect();
    sockets.sort();
    Seen {
        path,
        folder,
        own_uid: rustix::process::geteuid().as_raw(),
        sockets: sockets.into_iter().map(|path| Socket { is_alive: is_alive(&path), path }).collect(),
    }
}

/// Only a refusal tells that nobody is there: a queue that is full does not.
fn is_alive(socket: &Path) -> bool {
    !UnixStream::connect(socket).is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

pub(super) fn examine(runtime: &Runtime) -> Vec<Finding> {
    let seen = match runtime {
        Ok(seen) => seen,
        Err(why) => return vec![Finding::problem(CHECK, why).help("set XDG_RUNTIME_DIR to a folder of your own")],
    };
    let mut findings = vec![examine_folder(seen)];
    findings.extend(seen.sockets.iter().filter(|socket| !socket.is_alive).map(word_stale));
    findings
}

fn examine_folder(seen: &Seen) -> Finding {
    let path = shown(&seen.path);
    let folder = match &seen.folder {
        Fact::Known(folder) => folder,
        Fact::Unknown(why) => return Finding::unknown(CHECK, &format!("what {path} is"), why),
        Fact::Absent => return Finding::ok(CHECK, format!("{path} is made when it is needed")),
    };
    if !folder.is_folder {
        let message = format!("{path} is no folder, and portolan puts its sockets nowhere else");
        return Finding::problem(CHECK, message).help(format!("`rm {path}`"));
    }
    if folder.uid != seen.own_uid {
        let message = format!("{path} belongs to another user (uid {})", folder.uid);
        return Finding::problem(CHECK, message).help(format!("`sudo chown $USER {path}`"));
    }
    if folder.mode & OF_OTHERS != 0 {
        let message = format!("{path} is open to other users (mode {:04o})", folder.mode);
        return Finding::problem(CHECK, message).help(format!("`chmod 700 {path}`"));
    }
    let alive = seen.sockets.iter().filter(|socket| socket.is_alive).count();
    Finding::ok(CHECK, format!("{path} is ours alone; {} there", counted_run(alive)))
}

fn counted_run(alive: usize) -> String {
    match alive {
        0 => "no portolan is".into(),
        1 => "1 portolan is".into(),
        more => format!("{} are", counted(more, "portolan")),
    }
}

fn word_stale(socket: &Socket) -> Finding {
    let path = shown(&socket.path);
    Finding::warning(CHECK, format!("nobody listens on {path}"))
        .note("a portolan that was killed has left it behind")
        .help(format!("`rm {path}`"))
}

#[cfg(test)]
mod tests {
    use std::{fs, os::unix::net::UnixListener};

    use super::{super::Verdict, *};

    fn told(folder: Fact<Folder>) -> Finding {
        let seen = Seen { path: "/run/user/1000/portolan".into(), folder, own_uid: 1000, sockets: Vec::new() };
        examine(&Ok(seen)).remove(0)
    }

    const GOOD: Folder = Folder { is_folder: true, uid: 1000, mode: 0o700 };

    #[test]
    fn a_folder_of_our_own_is_well_and_so_is_none() {
        assert_eq!(told(Fact::Known(GOOD)).message, "/run/user/1000/portolan is ours alone; no portolan is there");
        assert_eq!(told(Fact::Absent), Finding::ok("runtime", "/run/user/1000/portolan is made when it is needed"));
    }

    #[test]
    fn a_folder_that_others_may_enter_is_a_problem() {
        let expected = Finding::problem("runtime", "/run/user/1000/portolan is open to other users (mode 0755)")
            .help("`chmod 700 /run/user/1000/portolan`");
        assert_eq!(told(Fact::Known(Folder { mode: 0o755, ..GOOD })), expected);
    }

    #[test]
    fn a_folder_of_another_user_or_none_at_all_is_a_problem() {
        let foreign = told(Fact::Known(Folder { uid: 0, ..GOOD }));
        assert_eq!(foreign.message, "/run/user/1000/portolan belongs to another user (uid 0)");
        let link = told(Fact::Known(Folder { is_folder: false, ..GOOD }));
        assert_eq!((link.verdict, link.help.as_deref()), (Verdict::Problem, Some("`rm /run/user/1000/portolan`")));
    }

    #[test]
    fn a_folder_that_cannot_be_looked_at_is_unknown() {
        let told = told(Fact::Unknown("permission denied".into()));
        assert_eq!(told.message, "what /run/user/1000/portolan is cannot be told: permission denied");
    }

    #[test]
    fn a_machine_without_a_place_for_sockets_is_told_to_name_one() {
        let told = examine(&Err("neither XDG_RUNTIME_DIR nor HOME says where".into())).remove(0);
        assert_eq!(
            (told.verdict, told.message.as_str()),
            (Verdict::Problem, "neither XDG_RUNTIME_DIR nor HOME says where")
        );
        assert_eq!(told.help.as_deref(), Some("set XDG_RUNTIME_DIR to a folder of your own"));
    }

    #[test]
    fn a_socket_that_a_crash_has_left_is_told_and_a_living_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        let _alive = UnixListener::bind(folder.path().join("1.sock")).unwrap();
        drop(UnixListener::bind(folder.path().join("2.sock")).unwrap());
        let told = examine(&look(Ok(folder.path().to_owned())));
        assert_eq!(told.len(), 2, "{told:?}");
        assert!(told[0].message.ends_with("is ours alone; 1 portolan is there"), "{told:?}");
        let stale = folder.path().join("2.sock").display().to_string();
        assert_eq!((told[1].verdict, told[1].help.as_ref()), (Verdict::Warning, Some(&format!("`rm {stale}`"))));
    }
}
