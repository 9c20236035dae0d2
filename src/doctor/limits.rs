//! Whether the system lets enough files be open and watched.

use super::{Fact, Finding, number};

const FILES: &str = "files";
const WATCHES: &str = "watches";

/// A connection takes two descriptors, one on each side. Browsers and dev servers need hundreds, load tests thousands.
const FEW_FILES: u64 = 4096;

/// What kernels gave before they counted the memory: less than the folders of a large project.
const FEW_WATCHES: u64 = 8192;

/// What the system allows.
#[derive(Debug)]
pub(super) struct Limits {
    /// To which portolan raises its own when it starts; `None`: without limit.
    descriptors: Fact<Option<u64>>,
    watching: Fact<Watching>,
    /// Folders and files that one user may watch.
    watches: Fact<u64>,
    /// Programs of one user that may watch.
    watchers: Fact<u64>,
}

/// What came of watching a folder.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Watching {
    Works,
    /// No other program may watch anything.
    NoWatcher,
    /// Nothing more may be watched.
    NoWatch,
}

pub(super) fn look() -> Limits {
    Limits {
        descriptors: descriptors(),
        watching: watching(),
        watches: number("/proc/sys/fs/inotify/max_user_watches"),
        watchers: number("/proc/sys/fs/inotify/max_user_instances"),
    }
}

fn descriptors() -> Fact<Option<u64>> {
    Fact::Known(rustix::process::getrlimit(rustix::process::Resource::Nofile).maximum)
}

/// Tried, as nothing tells how much of a limit is used.
#[cfg(target_os = "linux")]
fn watching() -> Fact<Watching> {
    use rustix::{
        fs::inotify::{CreateFlags, WatchFlags, add_watch, init},
        io::Errno,
    };
    let watcher = match init(CreateFlags::CLOEXEC) {
        Ok(watcher) => watcher,
        Err(Errno::MFILE) => return Fact::Known(Watching::NoWatcher),
        Err(error) => return Fact::Unknown(crate::diagnostic::without_number(&error.into())),
    };
    match add_watch(watcher, ".", WatchFlags::CREATE) {
        Ok(_) => Fact::Known(Watching::Works),
        Err(Errno::NOSPC) => Fact::Known(Watching::NoWatch),
        Err(error) => Fact::Unknown(crate::diagnostic::without_number(&error.into())),
    }
}

/// Other systems have no limit that is met in practice.
#[cfg(not(target_os = "linux"))]
fn watching() -> Fact<Watching> {
    Fact::Absent
}

pub(super) fn examine(limits: &Limits) -> Vec<Finding> {
    [examine_files(&limits.descriptors), examine_watches(limits)].into_iter().flatten().collect()
}

fn examine_files(descriptors: &Fact<Option<u64>>) -> Option<Finding> {
    let most = match descriptors {
        Fact::Known(Some(most)) => *most,
        Fact::Known(None) => return Some(Finding::ok(FILES, "any number of files may be open")),
        Fact::Unknown(why) => return Some(Finding::unknown(FILES, "how many files may be open", why)),
        Fact::Absent => return None,
    };
    let message = format!("{most} files may be open at once, which is about {} connections", most / 2);
    if most >= FEW_FILES {
        return Some(Finding::ok(FILES, message));
    }
    let finding = Finding::warning(FILES, message);
    Some(if cfg!(target_os = "linux") {
        finding.help("`sudo prlimit --pid $$ --nofile=65536`, then start portolan from this shell")
    } else {
        finding.help("`ulimit -n 65536` as an administrator, then start portolan from this shell")
    })
}

fn examine_watches(limits: &Limits) -> Option<Finding> {
    let known = |fact: &Fact<u64>| match fact {
        Fact::Known(number) => format!(" ({number})"),
        Fact::Unknown(_) | Fact::Absent => String::new(),
    };
    let slower = "portolan then looks at its table once a second; dev servers miss edits";
    match &limits.watching {
        Fact::Known(Watching::NoWatcher) => {
            let message = format!("as many programs watch files as may at once{}", known(&limits.watchers));
            let help = "`sudo sysctl fs.inotify.max_user_instances=1024`";
            Some(Finding::warning(WATCHES, message).note(slower).help(help))
        }
        Fact::Known(Watching::NoWatch) => {
            let message = format!("as many files are watched as may be at once{}", known(&limits.watches));
            Some(Finding::warning(WATCHES, message).note(slower).help(MORE_WATCHES))
        }
        Fact::Known(Watching::Works) => Some(examine_number(&limits.watches)),
        Fact::Unknown(why) => Some(Finding::unknown(WATCHES, "whether files can be watched", why)),
        Fact::Absent => None,
    }
}

const MORE_WATCHES: &str = "`sudo sysctl fs.inotify.max_user_watches=524288`";

fn examine_number(watches: &Fact<u64>) -> Finding {
    match watches {
        Fact::Known(watches) if *watches <= FEW_WATCHES => {
            let message = format!("{watches} files may be watched at once, fewer than a large project has");
            Finding::warning(WATCHES, message)
                .note("portolan needs one or two, dev servers one per folder")
                .help(MORE_WATCHES)
        }
        Fact::Known(watches) => Finding::ok(WATCHES, format!("{watches} files may be watched at once")),
        Fact::Unknown(_) | Fact::Absent => Finding::ok(WATCHES, "files can be watched"),
    }
}

#[cfg(test)]
mod tests {
    use super::{super::Verdict, *};

    fn limits() -> Limits {
        Limits {
            descriptors: Fact::Known(Some(1_048_576)),
            watching: Fact::Known(Watching::Works),
            watches: Fact::Known(524_288),
            watchers: Fact::Known(128),
        }
    }

    #[test]
    fn ample_limits_are_well_and_told() {
        let expected = [
            Finding::ok("files", "1048576 files may be open at once, which is about 524288 connections"),
            Finding::ok("watches", "524288 files may be watched at once"),
        ];
        assert_eq!(examine(&limits()), expected);
        let unlimited = examine(&Limits { descriptors: Fact::Known(None), ..limits() });
        assert_eq!(unlimited[0], Finding::ok("files", "any number of files may be open"));
    }

    #[test]
    fn few_files_are_a_warning_with_what_they_allow() {
        let told = examine(&Limits { descriptors: Fact::Known(Some(1024)), ..limits() });
        let expected = (Verdict::Warning, "1024 files may be open at once, which is about 512 connections");
        assert_eq!((told[0].verdict, told[0].message.as_str()), expected);
        assert!(told[0].help.as_deref().unwrap().contains("65536"), "{told:?}");
    }

    #[test]
    fn a_limit_of_watching_that_is_reached_names_its_setting() {
        let told = |watching| examine(&Limits { watching: Fact::Known(watching), ..limits() }).remove(1);
        let no_watcher = told(Watching::NoWatcher);
        assert_eq!(no_watcher.message, "as many programs watch files as may at once (128)");
        assert_eq!(no_watcher.help.as_deref(), Some("`sudo sysctl fs.inotify.max_user_instances=1024`"));
        let no_watch = told(Watching::NoWatch);
        assert_eq!(no_watch.message, "as many files are watched as may be at once (524288)");
        assert_eq!(no_watch.help.as_deref(), Some(MORE_WATCHES));
    }

    #[test]
    fn few_watches_are_a_warning_before_they_are_used_up() {
        let told = examine(&Limits { watches: Fact::Known(8192), ..limits() }).remove(1);
        let expected = (Verdict::Warning, "8192 files may be watched at once, fewer than a large project has");
        assert_eq!((told.verdict, told.message.as_str()), expected);
    }

    #[test]
    fn a_system_without_these_limits_has_no_findings() {
        let none =
            Limits { descriptors: Fact::Absent, watching: Fact::Absent, watches: Fact::Absent, watchers: Fact::Absent };
        assert_eq!(examine(&none), []);
    }

    #[test]
    fn what_cannot_be_told_is_no_praise() {
        let unknown = || Fact::Unknown("permission denied".into());
        let told = examine(&Limits {
            descriptors: Fact::Unknown("permission denied".into()),
            watching: unknown(),
            ..limits()
        });
        assert_eq!(told[0].message, "how many files may be open cannot be told: permission denied");
        assert_eq!(told[1].message, "whether files can be watched cannot be told: permission denied");
    }
}
