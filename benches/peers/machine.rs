//! Where things run: one CPU for the proxy under test, the others for everything else; ports and folders for all.

use std::ffi::OsStr;
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, ensure};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::child::leashed;

/// This machine, divided.
pub(crate) struct Machine {
    /// The CPU of the proxy under test.
    proxy_cpu: String,
    /// Everything that `setup` installs, and what the runs write.
    pub(crate) folder: PathBuf,
    pub(crate) summary: String,
}

impl Machine {
    /// Keeps the first CPU for the proxy, moves this process (and so all that it starts) to the others, raises the
    /// limit of open files.
    pub(crate) fn divide() -> Result<Self> {
        let cpus = allowed_cpus().context("cannot read Cpus_allowed_list from /proc/self/status")?;
        ensure!(
            cpus.len() >= 2,
            "two CPUs are needed, one for the proxy and one for the load; this machine grants one"
        );
        let load_cpus: Vec<String> = cpus[1..].iter().map(ToString::to_string).collect();
        let proxy_cpu = cpus[0].to_string();
        move_this_process(&load_cpus.join(","))?;
        open_as_many_files_as_allowed()?;
        let kernel = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
        let summary = format!(
            "Linux {}; the proxy under test on CPU {proxy_cpu}, load generator and origin on CPU {}",
            kernel.trim(),
            load_cpus.join(",")
        );
        Ok(Self { proxy_cpu, folder: folder(), summary })
    }

    /// A command that runs on the proxy's CPU and nowhere else.
    pub(crate) fn pinned(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = leashed("taskset");
        command.args(["-c", &self.proxy_cpu]).arg(program);
        command
    }

    /// The program of that name: the one that `setup` installed, else the system's.
    pub(crate) fn find(&self, name: &str) -> Option<PathBuf> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
        let folders = [self.folder.join("bin")].into_iter().chain(std::env::split_paths(&path)).chain(system);
        folders.map(|folder| folder.join(name)).find(|program| program.is_file())
    }

    /// An empty folder under `target/peers/run`.
    pub(crate) fn empty_folder(&self, name: &str) -> Result<PathBuf> {
        let folder = self.folder.join("run").join(name);
        if folder.exists() {
            fs::remove_dir_all(&folder).with_context(|| format!("cannot empty {}", folder.display()))?;
        }
        fs::create_dir_all(&folder).with_context(|| format!("cannot make {}", folder.display()))?;
        Ok(folder)
    }
}

/// The same rule as in `setup`.
fn folder() -> PathBuf {
    let repository = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into());
    repository.join(target).join("peers")
}

/// A port on 127.0.0.1 that nobody holds at this moment.
pub(crate) fn free_port() -> Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn allowed_cpus() -> Option<Vec<usize>> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let list = status.lines().find_map(|line| line.strip_prefix("Cpus_allowed_list:"))?;
    let ranges: Option<Vec<_>> = list.trim().split(',').map(parse_range).collect();
    Some(ranges?.into_iter().flatten().collect())
}

fn parse_range(range: &str) -> Option<std::ops::RangeInclusive<usize>> {
    let (first, last) = range.split_once('-').unwrap_or((range, range));
    Some(first.parse().ok()?..=last.parse().ok()?)
}

/// For the threads that start from here on; so far there is only this one.
fn move_this_process(cpus: &str) -> Result<()> {
    let pid = std::process::id().to_string();
    let moved = Command::new("taskset").args(["-c", "-p", cpus, &pid]).output().context("cannot start taskset")?;
    ensure!(moved.status.success(), "taskset failed: {}", String::from_utf8_lossy(&moved.stderr));
    Ok(())
}

/// A thousand clients are two thousand sockets in a proxy; the usual limit is 1,024.
fn open_as_many_files_as_allowed() -> Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).context("cannot raise the limit of open files")
}
