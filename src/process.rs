//! The processes of this machine: who is whose child, what each one runs and where.
//!
//! Read anew at each call and kept nowhere; a process that ends while it is looked at is left out. On Linux straight from
//! `/proc`, as it is looked at whenever anything begins to listen; elsewhere by way of `sysinfo`.

use std::{
    cell::{OnceCell, RefCell},
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    rc::Rc,
};

use rustix::process::{Pid, Signal, kill_process};

/// A process, as far as its relatives know it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Process {
    /// What `kill` takes.
    pub pid: u32,
    /// The one that started it, or took it over.
    pub parent: u32,
    /// Its process group, where there are such.
    pub group: Option<u32>,
    /// Whether it has ended and was not asked for its exit code yet.
    pub is_zombie: bool,
}

/// All processes at one moment: that in which one of them is first asked for. Most of those who hold this never ask.
#[derive(Debug, Default)]
pub struct Processes {
    all: OnceCell<All>,
    /// What was read of each when somebody first wanted to know.
    details: RefCell<HashMap<u32, Rc<Details>>>,
}

/// Who there is, and who has started whom.
#[derive(Debug)]
struct All {
    by_pid: HashMap<u32, Process>,
    children: HashMap<u32, Vec<u32>>,
}

impl All {
    fn of(all: Vec<Process>) -> Self {
        let mut children: HashMap<u32, Vec<u32>> = HashMap::new();
        for process in &all {
            children.entry(process.parent).or_default().push(process.pid);
        }
        Self { by_pid: all.into_iter().map(|process| (process.pid, process)).collect(), children }
    }
}

/// What a process runs, and where.
#[derive(Debug)]
struct Details {
    names: Vec<String>,
    folder: Option<PathBuf>,
}

impl Processes {
    /// All that there are now.
    pub fn now() -> Self {
        Self::default()
    }

    fn all(&self) -> &All {
        self.all.get_or_init(|| All::of(system::all()))
    }

    /// One of them.
    pub fn get(&self, pid: u32) -> Option<&Process> {
        self.all().by_pid.get(&pid)
    }

    /// Every process, in no particular order.
    pub fn pids(&self) -> impl Iterator<Item = u32> {
        self.all().by_pid.keys().copied()
    }

    /// The children of a process that still run, by pid.
    pub fn children(&self, pid: u32) -> Vec<u32> {
        let mut children: Vec<u32> = self.all().children.get(&pid).into_iter().flatten().copied().collect();
        children.retain(|pid| self.get(*pid).is_some_and(|process| !process.is_zombie));
        children.sort_unstable();
        children
    }

    /// Whether a process goes by this name: that of its executable, of its first word, or of the script that it interprets.
    /// Versions and endings do not matter: `python` is `python3.11`, `vite` is `vite.js`.
    pub fn goes_by(&self, pid: u32, name: &str) -> bool {
        self.details(pid).names.iter().any(|known| is_same(known, name))
    }

    /// Whether a process works in this folder, or beneath it.
    pub fn works_beneath(&self, pid: u32, folder: &Path) -> bool {
        self.details(pid).folder.as_ref().is_some_and(|works_in| works_in.starts_with(folder))
    }

    fn details(&self, pid: u32) -> Rc<Details> {
        let read = || {
            let (executable, words) = (system::executable(pid), system::words(pid));
            Rc::new(Details { names: names(executable.as_deref(), &words).collect(), folder: system::folder(pid) })
        };
        Rc::clone(self.details.borrow_mut().entry(pid).or_insert_with(read))
    }

    /// Everything that a process has started, and what that has started, and so on, without itself.
    pub fn descendants(&self, of: u32) -> HashSet<u32> {
        let mut found = HashSet::new();
        let mut next = vec![of];
        while let Some(pid) = next.pop() {
            let children = self.all().children.get(&pid).into_iter().flatten();
            // A pid that was given again meanwhile could close a ring.
            next.extend(children.filter(|child| **child != of && found.insert(**child)));
        }
        found
    }

    /// Whether both belong to one program: one of them has started the other, or they are of one process group.
    pub fn are_kin(&self, one: u32, other: u32) -> bool {
        let group = |pid| self.get(pid).and_then(|process| process.group);
        one == other
            || group(one).is_some_and(|of_one| group(other) == Some(of_one))
            || self.is_ancestor(one, other)
            || self.is_ancestor(other, one)
    }

    fn is_ancestor(&self, elder: u32, of: u32) -> bool {
        let parent = |pid: &u32| self.get(*pid).map(|process| process.parent);
        std::iter::successors(Some(of), parent).skip(1).take(self.all().by_pid.len()).any(|pid| pid == elder)
    }
}

/// Sends a signal; a process that has ended meanwhile is no matter.
pub fn signal(pid: u32, signal: Signal) {
    if let Some(pid) = Pid::from_raw(pid.cast_signed()) {
        let _ = kill_process(pid, signal);
    }
}

/// The folder that a process works in, where this user may see it.
pub fn folder(pid: u32) -> Option<PathBuf> {
    system::folder(pid)
}

/// The file name of a process's executable, where this user may see it.
pub fn program(pid: u32) -> Option<String> {
    let path = system::executable(pid)?;
    Some(crate::diagnostic::printable(&path.file_name()?.to_string_lossy().replace(" (deleted)", "")))
}

/// The words that a process was started with, where this user may see them.
pub fn words(pid: u32) -> Vec<String> {
    system::words(pid)
}

/// What a process may be called by, from what it runs.
fn names<'p>(executable: Option<&'p Path>, words: &'p [String]) -> impl Iterator<Item = String> + 'p {
    let file_name = |path: &str| Path::new(path).file_name().map(|name| name.to_string_lossy().into_owned());
    let executable = executable.and_then(|path| file_name(path.to_string_lossy().trim_end_matches(" (deleted)")));
    // A title that a program gave itself, such as `next-server (v16)`, is one word with blanks.
    let first = words.first().and_then(|word| file_name(word.split(' ').next().unwrap_or(word)));
    let script = script(words).and_then(file_name);
    executable.into_iter().chain(first).chain(script)
}

/// The script among the words of an interpreter: the first one that is no option, or the module behind `-m`.
fn script(words: &[String]) -> Option<&str> {
    let mut rest = words.iter().skip(1);
    loop {
        match rest.next()?.as_str() {
            "-m" => return rest.next().map(String::as_str),
            option if option.starts_with('-') => {}
            word => return Some(word),
        }
    }
}

fn is_same(known: &str, name: &str) -> bool {
    const ENDINGS: [&str; 6] = [".exe", ".js", ".mjs", ".cjs", ".py", ".rb"];
    let bare = ENDINGS.iter().find_map(|ending| known.strip_suffix(ending)).unwrap_or(known);
    let is_version = |rest: &str| rest.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
    known == name || bare == name || known.strip_prefix(name).is_some_and(is_version)
}

#[cfg(target_os = "linux")]
mod system {
    //! `man 5 proc_pid_stat` and its neighbours.

    use std::{fs, path::PathBuf};

    use super::Process;

    pub(super) fn all() -> Vec<Process> {
        let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
        entries.flatten().filter_map(|entry| process(entry.file_name().to_str()?.parse().ok()?)).collect()
    }

    fn process(pid: u32) -> Option<Process> {
        parse(pid, &fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// `pid (name) state parent group ..`; the name may hold blanks and brackets.
    pub(super) fn parse(pid: u32, stat: &str) -> Option<Process> {
        let (_, rest) = stat.rsplit_once(')')?;
        let mut fields = rest.split_ascii_whitespace();
        let state = fields.next()?;
        let parent = fields.next()?.parse().ok()?;
        let group = fields.next()?.parse().ok();
        Some(Process { pid, parent, group, is_zombie: matches!(state, "Z" | "X") })
    }

    pub(super) fn folder(pid: u32) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{pid}/cwd")).ok()
    }

    pub(super) fn executable(pid: u32) -> Option<PathBuf> {
        fs::read_link(format!("/proc/{pid}/exe")).ok()
    }

    pub(super) fn words(pid: u32) -> Vec<String> {
        let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words = bytes.split(|byte| *byte == 0).map(|word| String::from_utf8_lossy(word).into_owned());
        words.filter(|word| !word.is_empty()).collect()
    }
}

#[cfg(not(target_os = "linux"))]
mod system {
    //! What `sysinfo` can say everywhere.

    use std::path::PathBuf;

    use sysinfo::{Pid, ProcessRefreshKind, ProcessStatus, ProcessesToUpdate, System, UpdateKind};

    use super::Process;

    fn look(which: ProcessesToUpdate<'_>) -> Option<System> {
        let wanted = ProcessRefreshKind::nothing()
            .without_tasks()
            .with_cmd(UpdateKind::Always)
            .with_exe(UpdateKind::Always)
            .with_cwd(UpdateKind::Always);
        let mut system = System::new().ok()?;
        system.refresh_processes_specifics(which, false, wanted);
        Some(system)
    }

    fn one<T>(pid: u32, what: impl FnOnce(&sysinfo::Process) -> Option<T>) -> Option<T> {
        let pid = Pid::from_u32(pid);
        look(ProcessesToUpdate::Some(&[pid]))?.process(pid).and_then(what)
    }

    pub(super) fn all() -> Vec<Process> {
        let Some(system) = look(ProcessesToUpdate::All) else { return Vec::new() };
        let process = |(pid, process): (&Pid, &sysinfo::Process)| Process {
            pid: pid.as_u32(),
            parent: process.parent().map_or(0, Pid::as_u32),
            group: None,
            is_zombie: process.status() == ProcessStatus::Zombie,
        };
        system.processes().iter().map(process).collect()
    }

    pub(super) fn folder(pid: u32) -> Option<PathBuf> {
        one(pid, |process| process.cwd().map(std::path::Path::to_path_buf))
    }

    pub(super) fn executable(pid: u32) -> Option<PathBuf> {
        one(pid, |process| process.exe().map(std::path::Path::to_path_buf))
    }

    pub(super) fn words(pid: u32) -> Vec<String> {
        let words = |process: &sysinfo::Process| {
            Some(process.cmd().iter().map(|word| word.to_string_lossy().into_owned()).collect())
        };
        one(pid, words).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(pid: u32, parent: u32, group: u32) -> Process {
        Process { pid, parent, group: Some(group), is_zombie: false }
    }

    fn family() -> Processes {
        // A shell (10) with two jobs; the second one has a child that left its group.
        let all = All::of(vec![
            process(1, 0, 1),
            process(10, 1, 10),
            process(20, 10, 20),
            process(21, 20, 20),
            process(30, 10, 30),
            process(31, 30, 99),
        ]);
        Processes { all: OnceCell::from(all), ..Processes::default() }
    }

    fn known_by(executable: &str, words: &[&str]) -> Vec<String> {
        let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
        names(Some(Path::new(executable)), &words).collect()
    }

    #[test]
    fn descendants_are_found_to_the_last() {
        let mut found: Vec<u32> = family().descendants(10).into_iter().collect();
        found.sort_unstable();
        assert_eq!(found, [20, 21, 30, 31]);
        assert!(family().descendants(31).is_empty());
    }

    #[test]
    fn one_program_is_one_group_or_one_line_of_descent() {
        let family = family();
        assert!(family.are_kin(20, 21));
        assert!(family.are_kin(31, 30), "a child that left the group");
        assert!(!family.are_kin(21, 31), "two jobs of one shell");
    }

    #[test]
    fn a_program_is_known_by_its_file_its_first_word_and_its_script() {
        assert_eq!(
            known_by("/usr/bin/python3.11", &["python3", "-u", "/venv/bin/flask", "run"]),
            ["python3.11", "python3", "flask"]
        );
        assert_eq!(known_by("/usr/bin/node", &["next-server (v16.4.6)"]), ["node", "next-server"]);
        assert_eq!(known_by("/usr/bin/python3", &["python3", "-m", "uvicorn", "app:app"])[2], "uvicorn");
    }

    #[test]
    fn versions_and_endings_do_not_matter() {
        assert!(is_same("python3.11", "python3") && is_same("python3.11", "python"));
        assert!(is_same("vite.js", "vite") && is_same("manage.py", "manage.py"));
        assert!(!is_same("nodemon", "node") && !is_same("python3-config", "python3"));
    }

    #[test]
    fn this_process_is_among_all() {
        let now = Processes::now();
        let own = std::process::id();
        assert!(now.get(own).is_some());
        assert_eq!(folder(own), std::env::current_dir().ok());
        let name = std::env::current_exe().unwrap().file_name().unwrap().to_string_lossy().into_owned();
        assert!(now.goes_by(own, &name));
        assert!(now.works_beneath(own, &std::env::current_dir().unwrap().canonicalize().unwrap()));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_name_with_brackets_is_no_trap() {
        let parsed = system::parse(7, "7 (a) b (c)) S 3 5 5 0 -1 4194560");
        assert_eq!(parsed, Some(process(7, 3, 5)));
    }
}
