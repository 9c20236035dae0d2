//! Tells when the files of a table may have changed, however an editor writes them.
//!
//! Editors save by renaming a new file over the old one, which loses a watch on the file itself: so its folder is
//! watched. A save is several events; the news is told once nothing has happened for 30 ms. What no event tells
//! (a network mount, a folder that was moved, an exhausted inotify limit) is found by looking once a second.

use std::{
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::mpsc::{UnboundedReceiver, unbounded_channel},
    time::{Instant, sleep, timeout_at},
};

/// A save is over when nothing happened for this long. Half-written files are rarely seen then, and the product's
/// 300 ms are far away.
const QUIET: Duration = Duration::from_millis(30);

/// The news is told after this long even if the events go on.
const PATIENCE: Duration = Duration::from_millis(150);

/// Between two looks at the files themselves.
const LOOK: Duration = Duration::from_secs(1);

/// Watches files. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Option<Stamp>>,
    events: UnboundedReceiver<()>,
    /// `None` where the system gives no watch: looking is enough then.
    _watcher: Option<RecommendedWatcher>,
}

/// What changes when a file does.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

impl Watch {
    /// Watches `files`, whether they exist or not. The error says why it can only look now and then.
    pub fn new(files: Vec<PathBuf>) -> (Self, Result<(), notify::Error>) {
        let (tell, events) = unbounded_channel();
        let names = files.clone();
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_ours = event.is_ok_and(|event| !event.kind.is_access() && touches(&event, &names));
            if is_ours {
                // The watch may be ending.
                let _ = tell.send(());
            }
        });
        let (watcher, result) = match watcher {
            Ok(mut watcher) => {
                let result =
                    folders(&files).iter().try_for_each(|folder| watcher.watch(folder, RecursiveMode::NonRecursive));
                (Some(watcher), result)
            }
            Err(error) => (None, Err(error)),
        };
        let seen = files.iter().map(|file| Stamp::of(file)).collect();
        (Self { files, seen, events, _watcher: watcher }, result)
    }

    /// Returns when a file has changed, come or gone.
    pub async fn changed(&mut self) {
        loop {
            tokio::select! {
                Some(()) = self.events.recv() => self.settle().await,
                () = sleep(LOOK) => {}
            }
            let now: Vec<_> = self.files.iter().map(|file| Stamp::of(file)).collect();
            if now != self.seen {
                self.seen = now;
                return;
            }
        }
    }

    /// Waits until the events of one save are over.
    async fn settle(&mut self) {
        let patience = Instant::now() + PATIENCE;
        while let Ok(Some(())) = timeout_at((Instant::now() + QUIET).min(patience), self.events.recv()).await {
            if Instant::now() >= patience {
                return;
            }
        }
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = std::fs::metadata(file).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: std::os::unix::fs::MetadataExt::ino(&metadata),
        })
    }
}

/// The folders in which something happens when one of `files` changes: their own, and those that links lead to.
fn folders(files: &[PathBuf]) -> Vec<PathBuf> {
    let resolved = files.iter().filter_map(|file| std::fs::canonicalize(file).ok());
    let all = files.iter().cloned().chain(resolved);
    let mut folders: Vec<_> =
        all.filter_map(|file| Some(folder_of(&file)?.to_owned())).filter(|f| f.is_dir()).collect();
    folders.sort();
    folders.dedup();
    folders
}

fn folder_of(file: &Path) -> Option<&Path> {
    let folder = file.parent()?;
    Some(if folder.as_os_str().is_empty() { Path::new(".") } else { folder })
}

/// By name, since a folder may be known by several paths. An overflow of the queue names nothing and means anything.
fn touches(event: &notify::Event, files: &[PathBuf]) -> bool {
    event.need_rescan()
        || event.paths.iter().any(|path| {
            let target = |file: &PathBuf| std::fs::canonicalize(file).ok();
            files
                .iter()
                .any(|file| path.file_name() == file.file_name() || target(file).is_some_and(|file| file == *path))
        })
}
