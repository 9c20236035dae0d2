//! Whether programs of ours are left over from a portolan that has gone.
//!
//! A keeper ends its program within a second after us; one that is still there is stuck.

use std::ffi::OsString;

use super::Finding;
use crate::{
    process::{self, Processes},
    supervise::keeper::{self, Task},
};

const CHECK: &str = "keepers";

/// A keeper whose portolan does not run any more.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Orphan {
    pid: u32,
    task: Task,
}

pub(super) fn look() -> Vec<Orphan> {
    let processes = Processes::now();
    let mut keepers: Vec<u32> = processes.pids().filter(|pid| processes.goes_by(*pid, keeper::NAME)).collect();
    keepers.sort_unstable();
    let is_alive = |pid: u32| processes.get(pid).is_some_and(|process| !process.is_zombie);
    keepers.into_iter().filter_map(|pid| orphan(pid, &process::words(pid), is_alive)).collect()
}

/// `None` for what is no keeper, and for one whose portolan is there.
fn orphan(pid: u32, words: &[String], is_alive: impl Fn(u32) -> bool) -> Option<Orphan> {
    let words: Vec<OsString> = words.iter().map(OsString::from).collect();
    let task = Task::read(&words)?;
    (!is_alive(task.parent)).then_some(Orphan { pid, task })
}

pub(super) fn examine(orphans: &[Orphan]) -> Vec<Finding> {
    if orphans.is_empty() {
        return vec![Finding::ok(CHECK, "no program is left over from a portolan that has gone")];
    }
    orphans.iter().map(word).collect()
}

fn word(orphan: &Orphan) -> Finding {
    let words: Vec<_> = orphan.task.words.iter().map(|word| word.to_string_lossy()).collect();
    let command = crate::diagnostic::printable(&words.join(" ")).replace('\n', "\\n");
    let (pid, parent) = (orphan.pid, orphan.task.parent);
    Finding::warning(CHECK, format!("`{command}` is still kept (pid {pid}), and its portolan (pid {parent}) has gone"))
        .help(format!("`kill {pid}`"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn task() -> Task {
        let words = ["flask", "run"].map(OsString::from).to_vec();
        Task { parent: 4000, grace: Duration::from_secs(5), own_group: true, descriptors: None, words }
    }

    fn words() -> Vec<String> {
        let words = task().arguments().into_iter().map(|word| word.into_string().unwrap());
        std::iter::once(keeper::NAME.to_owned()).chain(words).collect()
    }

    #[test]
    fn a_keeper_without_its_portolan_is_an_orphan() {
        assert_eq!(orphan(4812, &words(), |_| false), Some(Orphan { pid: 4812, task: task() }));
        assert_eq!(orphan(4812, &words(), |pid| pid == 4000), None);
        assert_eq!(orphan(4812, &["keeper".into(), "of".into(), "bees".into()], |_| false), None);
    }

    #[test]
    fn an_orphan_is_a_warning_with_its_pid() {
        let expected =
            Finding::warning("keepers", "`flask run` is still kept (pid 4812), and its portolan (pid 4000) has gone")
                .help("`kill 4812`");
        assert_eq!(examine(&[Orphan { pid: 4812, task: task() }]), [expected]);
        assert_eq!(examine(&[]), [Finding::ok("keepers", "no program is left over from a portolan that has gone")]);
    }
}
