//! Tells when the files of a table may have changed, however an editor writes them.
//!
//! Editors save by renaming a new file over the old one, which loses a watch on the file itself: so its folder is
//! watched, and the folder that a link leads to, whichever that is by now. A save is several events; the news is told
//! once nothing has happened for 30 ms. What no event tells (a network mount, a folder that was moved, an exhausted
//! inotify limit) is found by looking once a second.

#[cfg(unix)]
use std::os::unix::fs::MetadataExt;
use std::{
    fs::{self, File},
    hash::{DefaultHasher, Hasher},
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, SystemTime},
};

use notify::{RecommendedWatcher, RecursiveMode, Watcher as _};
use tokio::{
    sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel},
    time::{Instant, sleep, timeout_at},
};

/// A save is over when nothing happened for this long. Half-written files are rarely seen then, and the product's
/// 300 ms are far away.
const QUIET: Duration = Duration::from_millis(30);

/// The news is told after this long even if the events go on.
const PATIENCE: Duration = Duration::from_millis(150);

/// Between two looks at the files themselves.
const LOOK: Duration = Duration::from_secs(1);

/// Nothing behind this is looked at: so large a file is no table, whatever it says.
const MOST_BYTES: u64 = 1024 * 1024 + 1;

/// Watches files. Dropping it ends the watch.
#[derive(Debug)]
pub struct Watch {
    files: Vec<PathBuf>,
    seen: Vec<Seen>,
    tell: UnboundedSender<()>,
    events: UnboundedReceiver<()>,
    /// `None` where the system gives no watch: looking is enough then.
    watcher: Option<RecommendedWatcher>,
    /// What it was set on.
    folders: Vec<Folder>,
}

/// A file as it was at a time.
#[derive(Debug, PartialEq, Eq)]
struct Seen {
    stamp: Option<Stamp>,
    /// A hash: some edits leave everything else as it was.
    contents: Option<u64>,
}

/// What changes when a file does, nearly always.
#[derive(Debug, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    length: u64,
    #[cfg(unix)]
    inode: u64,
}

/// A folder, and what tells it from a later one of the same name, which may well have the same number.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Folder {
    path: PathBuf,
    created: Option<SystemTime>,
    #[cfg(unix)]
    number: (u64, u64),
}

impl Watch {
    /// Watches `files`, whether they exist or not. The error says why it can only look now and then.
    pub fn new(files: Vec<PathBuf>) -> (Self, Result<(), notify::Error>) {
        let (tell, events) = unbounded_channel();
        let mut watch = Self { files, seen: Vec::new(), tell, events, watcher: None, folders: Vec::new() };
        let result = watch.follow().map(drop);
        watch.look();
        (watch, result)
    }

    /// Returns when a file has changed, come or gone.
    pub async fn changed(&mut self) {
        loop {
            let told = tokio::select! {
                Some(()) = self.events.recv() => {
                    self.settle().await;
                    true
                }
                () = sleep(LOOK) => false,
            };
            // Where a folder cannot be watched, it is looked at; that was told at the start.
            let elsewhere = self.follow().unwrap_or(true);
            if (told || elsewhere || self.differs_at_a_glance()) && self.look() {
                return;
            }
        }
    }

    /// Takes in what the files are now, and says whether that is new. [`changed`](Self::changed) tells it no more.
    pub fn look(&mut self) -> bool {
        let now: Vec<_> = self.files.iter().map(|file| Seen::of(file)).collect();
        let is_new = now != self.seen;
        self.seen = now;
        is_new
    }

    fn differs_at_a_glance(&self) -> bool {
        self.files.iter().zip(&self.seen).any(|(file, seen)| Stamp::of(file) != seen.stamp)
    }

    /// Watches the folders that count now; says whether they are others than before.
    ///
    /// Others get a watcher of their own: one folder may have several names, and a name several folders in turn, which
    /// a watcher that has known both confuses. What happens between the two is seen by whoever looks afterwards.
    fn follow(&mut self) -> Result<bool, notify::Error> {
        let folders = folders(&self.files);
        if folders == self.folders {
            return Ok(false);
        }
        let (tell, files) = (self.tell.clone(), self.files.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            let is_ours = event.is_ok_and(|event| !event.kind.is_access() && touches(&event, &files));
            if is_ours {
                // The watch may be ending.
                let _ = tell.send(());
            }
        })?;
        let mut result = Ok(true);
        for folder in &folders {
            result = watcher.watch(&folder.path, RecursiveMode::NonRecursive).and(result);
        }
        (self.watcher, self.folders) = (Some(watcher), folders);
        result
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

impl Seen {
    fn of(file: &Path) -> Self {
        Self { stamp: Stamp::of(file), contents: contents(file).ok().flatten() }
    }
}

impl Stamp {
    fn of(file: &Path) -> Option<Self> {
        let metadata = fs::metadata(file).ok()?;
        Some(Self {
            modified: metadata.modified().ok(),
            length: metadata.len(),
            #[cfg(unix)]
            inode: metadata.ino(),
        })
    }
}

/// `None` for what is no regular file: opening a pipe would wait for somebody to write into it.
fn contents(file: &Path) -> io::Result<Option<u64>> {
    if !fs::metadata(file)?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    File::open(file)?.take(MOST_BYTES).read_to_end(&mut bytes)?;
    let mut hasher = DefaultHasher::new();
    hasher.write(&bytes);
    Ok(Some(hasher.finish()))
}

impl Folder {
    /// `None` where it does not exist.
    fn of(path: &Path) -> Option<Self> {
        let metadata = fs::metadata(path).ok().filter(fs::Metadata::is_dir)?;
        Some(Self {
            path: path.to_owned(),
            created: metadata.created().ok(),
            #[cfg(unix)]
            number: (metadata.dev(), metadata.ino()),
        })
    }
}

/// The folders in which something happens when one of `files` changes: their own, and those that links lead to.
fn folders(files: &[PathBuf]) -> Vec<Folder> {
    let resolved = files.iter().filter_map(|file| fs::canonicalize(file).ok());
    let all = files.iter().cloned().chain(resolved);
    let mut folders: Vec<_> = all.filter_map(|file| Folder::of(folder_of(&file)?)).collect();
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
            let target = |file: &PathBuf| fs::canonicalize(file).ok();
            files
                .iter()
                .any(|file| path.file_name() == file.file_name() || target(file).is_some_and(|file| file == *path))
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Virtual: it passes at once where nothing else is left to wait for.
    const MANY_LOOKS: Duration = Duration::from_secs(10);

    fn written(text: &str) -> (tempfile::TempDir, PathBuf) {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("table");
        fs::write(&file, text).expect("a file");
        (folder, file)
    }

    #[tokio::test(start_paused = true)]
    async fn a_change_is_told_once() {
        let (_folder, file) = written("old");
        let mut watch = Watch::new(vec![file.clone()]).0;
        fs::write(&file, "changed").expect("a change");
        timeout_at(Instant::now() + MANY_LOOKS, watch.changed()).await.expect("it is told");
        timeout_at(Instant::now() + MANY_LOOKS, watch.changed()).await.expect_err("it was told already");
    }

    #[tokio::test(start_paused = true)]
    async fn what_somebody_looked_at_meanwhile_is_no_news() {
        let (_folder, file) = written("old");
        let mut watch = Watch::new(vec![file.clone()]).0;
        fs::write(&file, "changed").expect("a change");
        assert!(watch.look());
        timeout_at(Instant::now() + MANY_LOOKS, watch.changed()).await.expect_err("it was seen already");
    }

    #[test]
    fn a_folder_of_the_same_name_is_another_one_and_a_missing_one_is_none() {
        let around = tempfile::tempdir().expect("a folder");
        let [folder, beside] = ["folder", "beside"].map(|name| around.path().join(name));
        fs::create_dir(&folder).expect("a folder");
        fs::create_dir(&beside).expect("a folder");
        let files = [folder.join("table")];
        let old = folders(&files);
        assert_eq!(old, folders(&files));
        fs::remove_dir(&folder).expect("a removed folder");
        assert_eq!(folders(&files), []);
        fs::rename(&beside, &folder).expect("a renamed folder");
        assert_ne!(old, folders(&files));
    }
}
