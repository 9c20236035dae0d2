//! `portolan run`: a command as if it ran alone, and a route to whatever port it opens for as long as it runs.

use std::{
    ffi::OsString,
    io,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use tokio::{
    process::{Child, Command},
    signal::unix::{Signal, SignalKind, signal},
    time::{Instant, sleep, sleep_until, timeout},
};

use super::{
    Outcome, Stop, background,
    flags::{Global, Run},
    running,
    serve::is_at_a_terminal,
    table_file,
    terminal::Terminal,
};
use crate::{
    config::load,
    control::{
        CallError, Client, Lines,
        api::{Accepted, Register, Registered, RunNews},
    },
    diagnostic::printable,
    process::{self, Processes},
    supervise::{
        Circumstances, GRACE, expand,
        keeper::{self, Task, ignores},
    },
    tls::Told,
};

/// How soon a proxy that has gone is looked for again.
const AGAIN: Duration = Duration::from_millis(500);

/// How long a proxy that is about to come is waited for, and how often it is looked for meanwhile.
const PATIENCE: Duration = Duration::from_secs(2);
const SOON: Duration = Duration::from_millis(50);

/// How long our end may wait for the proxy.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Runs the command to its end; exits as it did.
pub(super) fn run(global: &Global, arguments: &Run, terminal: &Terminal) -> Outcome {
    let here = std::env::current_dir()?;
    let labels = match &arguments.name {
        Some(name) => vec![name.clone()],
        None => name::labels(&here),
    };
    let wish = Register {
        name: labels.join("."),
        labels,
        command: shown(&arguments.command),
        folder: here,
        port: arguments.port,
    };
    if let Some(file) = table_file(global).filter(|_| global.config.is_none()) {
        load::trusted(&file)?;
    }
    running::block_on(async {
        // Before the command starts: a signal that comes at once is for it, too.
        let mut signals = Signals::new()?;
        let client = Client::new(running::expected_port(global));
        let registered = tokio::select! {
            registered = register(client, &wish, global) => registered?,
            signal = signals.next() => return Ok(ExitCode::from(u8::try_from(128 + signal.as_raw()).unwrap_or(1))),
        };
        let (client, given, lines) = registered;
        let mut keeper = start(&arguments.command, &given)?;
        if terminal.interactive && !terminal.quiet {
            terminal.hint(&format!("{} leads here as soon as it listens", given.url));
        }
        let again = Register { port: Some(given.port), ..wish };
        let held = stay(client, &again, lines);
        let mut held = pin!(held);
        let mut patience = None;
        loop {
            tokio::select! {
                ended = keeper.wait() => {
                    end(client).await;
                    return Ok(exit_code(ended?));
                }
                () = &mut held => {}
                signal = signals.next() => {
                    pass_on(&keeper, signal);
                    // A command that does not end with its terminal is ended: nobody is left to do it.
                    let is_cut_off = signals.has_terminal && !is_at_a_terminal();
                    patience = patience.or(is_cut_off.then(|| Instant::now() + GRACE));
                }
                () = over(patience) => {
                    patience = None;
                    terminate(&keeper);
                }
            }
        }
    })
}

/// A name and a port from the proxy that runs, or from one that is started for this.
async fn register(client: Client, wish: &Register, global: &Global) -> Result<(Client, Registered, Lines), Stop> {
    if let Some((given, lines)) = try_register(client, wish).await? {
        return Ok((client, given, lines));
    }
    let mut words: Vec<OsString> = vec!["serve".into(), "--until-unused".into()];
    if let Some(file) = table_file(global) {
        words.extend(["-c".into(), load::files(&file)[0].clone().into_os_string()]);
    }
    let started = background::start(words).await;
    let client = started.as_ref().map_or(client, |port| Client::new(*port));
    // Also where another `run` was faster, and ours found the port taken: its control socket comes a moment later.
    let patience = Instant::now() + PATIENCE;
    while Instant::now() < patience {
        if let Some((given, lines)) = try_register(client, wish).await? {
            return Ok((client, given, lines));
        }
        sleep(SOON).await;
    }
    Err(started.err().unwrap_or_else(|| running::unanswered(CallError::NotRunning(client.port()))))
}

async fn try_register(client: Client, wish: &Register) -> Result<Option<(Registered, Lines)>, Stop> {
    match client.hold("/v1/runs", wish).await {
        Ok(mut lines) => {
            let given = lines.next().await.map_err(running::unanswered)?;
            Ok(given.map(|given| (given, lines)))
        }
        // One that is about to end is as good as none.
        Err(CallError::NotRunning(_) | CallError::Broken(_)) => Ok(None),
        Err(CallError::Refused(problem)) if problem.code == "ending" => Ok(None),
        Err(error) => Err(running::unanswered(error)),
    }
}

/// Keeps the registration, and takes it up again with a proxy that was restarted. Never returns.
async fn stay(client: Client, wish: &Register, lines: Lines) {
    let mut lines = Some(lines);
    loop {
        if let Some(mut lines) = lines.take() {
            while let Ok(Some(_)) = lines.next::<RunNews>().await {}
        }
        sleep(AGAIN).await;
        lines = try_register(client, wish).await.ok().flatten().map(|(_, lines)| lines);
    }
}

/// Has the route taken away before we end: whoever waits for us finds it gone.
async fn end(client: Client) {
    // A proxy that does not answer sees the end of our connection, too.
    let _ = timeout(LAST_WORD, client.post::<Accepted>("/v1/runs/end", &serde_json::json!({}))).await;
}

/// Starts the command with a keeper, in our process group: the terminal treats all of them as one.
fn start(command: &[OsString], given: &Registered) -> io::Result<Child> {
    let around = Circumstances {
        port: given.port,
        proxy: given.proxy.clone(),
        authority: Told::now(),
        ..Circumstances::default()
    };
    let words = command.iter().map(|word| match word.to_str() {
        Some(text) => expand(text, given.port).into(),
        None => word.clone(),
    });
    let task =
        Task { parent: std::process::id(), grace: GRACE, own_group: false, descriptors: None, words: words.collect() };
    let mut keeper = keeper::command(&task);
    keeper.envs(around.of_authority(|name| std::env::var_os(name).is_some()));
    keeper.envs(around.env()).env("PORTOLAN_URL", &given.url);
    Command::from(keeper).spawn()
}

/// As the keeper says it, which speaks as shells do.
fn exit_code(status: std::process::ExitStatus) -> ExitCode {
    use std::os::unix::process::ExitStatusExt;
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    ExitCode::from(code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1))
}

/// The signals that are for the command.
struct Signals {
    interrupt: Option<Signal>,
    quit: Option<Signal>,
    hangup: Option<Signal>,
    terminate: Signal,
    users: [Signal; 2],
    /// Whether there was a terminal at the start.
    has_terminal: bool,
}

impl Signals {
    fn new() -> io::Result<Self> {
        use rustix::process::Signal;
        // Under `nohup` a hangup is ignored, and stays so.
        let heeded = |number, kind| if ignores(number) { Ok(None) } else { signal(kind).map(Some) };
        Ok(Self {
            interrupt: heeded(Signal::INT, SignalKind::interrupt())?,
            quit: heeded(Signal::QUIT, SignalKind::quit())?,
            hangup: heeded(Signal::HUP, SignalKind::hangup())?,
            terminate: signal(SignalKind::terminate())?,
            users: [signal(SignalKind::user_defined1())?, signal(SignalKind::user_defined2())?],
            has_terminal: is_at_a_terminal(),
        })
    }

    async fn next(&mut self) -> rustix::process::Signal {
        use rustix::process::Signal;
        let [first, second] = &mut self.users;
        tokio::select! {
            () = heard(&mut self.interrupt) => Signal::INT,
            () = heard(&mut self.quit) => Signal::QUIT,
            () = heard(&mut self.hangup) => Signal::HUP,
            _ = self.terminate.recv() => Signal::TERM,
            _ = first.recv() => Signal::USR1,
            _ = second.recv() => Signal::USR2,
        }
    }
}

/// Returns when a signal comes, if it is heeded.
async fn heard(signal: &mut Option<Signal>) {
    match signal {
        Some(signal) => drop(signal.recv().await),
        None => std::future::pending().await,
    }
}

/// Passes a signal on to the command. What the terminal sends, it has sent to the command as well: twice would be too often.
fn pass_on(keeper: &Child, signal: rustix::process::Signal) {
    use rustix::process::Signal;
    let is_of_terminal = matches!(signal, Signal::INT | Signal::QUIT) && is_in_foreground();
    let Some(pid) = keeper.id() else { return };
    let children = Processes::now().children(pid);
    if children.is_empty() {
        // It was not started yet, and is not to be started any more.
        return terminate(keeper);
    }
    for child in children.into_iter().filter(|_| !is_of_terminal) {
        process::signal(child, signal);
    }
}

/// Has the keeper end everything.
fn terminate(keeper: &Child) {
    if let Some(keeper) = keeper.id() {
        process::signal(keeper, rustix::process::Signal::TERM);
    }
}

/// Returns at this time, if there is one.
async fn over(patience: Option<Instant>) {
    match patience {
        Some(end) => sleep_until(end).await,
        None => std::future::pending().await,
    }
}

/// Whether the terminal sends its signals to our process group.
fn is_in_foreground() -> bool {
    let group = rustix::process::getpgrp();
    [rustix::termios::tcgetpgrp(io::stdin()), rustix::termios::tcgetpgrp(io::stderr())]
        .into_iter()
        .any(|foreground| foreground.is_ok_and(|foreground| foreground == group))
}

/// A command as one printable line.
fn shown(command: &[OsString]) -> String {
    let words: Vec<_> = command.iter().map(|word| word.to_string_lossy()).collect();
    printable(&words.join(" ")).replace('\n', "\\n")
}

/// What a command is called that has no name.
mod name {
    use super::{Path, PathBuf};

    /// The labels in front of `.localhost`: the package's or the folder's name, and in front of it the branch, where the folder
    /// is a git worktree beside the main one.
    pub(super) fn labels(folder: &Path) -> Vec<String> {
        let name = package(folder).or_else(|| folder.file_name()?.to_str().map(str::to_owned));
        let name = name.and_then(|name| label(&name)).unwrap_or_else(|| "app".into());
        branch(folder).and_then(|branch| label(&branch)).into_iter().chain([name]).collect()
    }

    /// `name` of the package.json in this folder, without its scope.
    fn package(folder: &Path) -> Option<String> {
        let text = std::fs::read_to_string(folder.join("package.json")).ok()?;
        let package: serde_json::Value = serde_json::from_str(&text).ok()?;
        let name = package.get("name")?.as_str()?;
        Some(name.rsplit('/').next().unwrap_or(name).to_owned())
    }

    /// The branch of a worktree that `git worktree add` has made: its `.git` is a file that leads to its own HEAD.
    fn branch(folder: &Path) -> Option<String> {
        let root = folder.ancestors().find(|folder| folder.join(".git").exists())?;
        let link = std::fs::read_to_string(root.join(".git")).ok()?;
        let leads_to = PathBuf::from(link.strip_prefix("gitdir:")?.trim());
        let folder = if leads_to.is_absolute() { leads_to } else { root.join(leads_to) };
        // A submodule has such a file, too.
        if folder.parent()?.file_name()? != "worktrees" {
            return None;
        }
        let head = std::fs::read_to_string(folder.join("HEAD")).ok()?;
        head.trim().strip_prefix("ref: refs/heads/").map(str::to_owned)
    }

    /// A text as a label of a host name: letters, digits and inner hyphens, at most 63 (RFC 1123 §2.1).
    pub(super) fn label(text: &str) -> Option<String> {
        let hyphened = text.to_ascii_lowercase().replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let words: Vec<&str> = hyphened.split('-').filter(|word| !word.is_empty()).collect();
        let mut label = words.join("-");
        label.truncate(63);
        let label = label.trim_end_matches('-');
        (!label.is_empty()).then(|| label.to_owned())
    }

    #[cfg(test)]
    mod tests {
        use std::fs;

        use super::*;

        #[test]
        fn a_name_is_made_a_label() {
            assert_eq!(label("My App_v2").as_deref(), Some("my-app-v2"));
            assert_eq!(label("feature/Log-In").as_deref(), Some("feature-log-in"));
            assert_eq!(label("--"), None);
            assert_eq!(label(&"a".repeat(80)).map(|label| label.len()), Some(63));
        }

        #[test]
        fn the_package_goes_before_the_folder() {
            let folder = tempfile::tempdir().unwrap();
            let app = folder.path().join("Web Shop");
            fs::create_dir(&app).unwrap();
            assert_eq!(labels(&app), ["web-shop"]);
            fs::write(app.join("package.json"), r#"{"name": "@acme/store-front"}"#).unwrap();
            assert_eq!(labels(&app), ["store-front"]);
            fs::write(app.join("package.json"), "no json").unwrap();
            assert_eq!(labels(&app), ["web-shop"]);
        }

        #[test]
        fn a_worktree_has_its_branch_in_front_and_the_main_one_has_not() {
            let folder = tempfile::tempdir().unwrap();
            let (main, tree) = (folder.path().join("shop"), folder.path().join("shop-fix"));
            let own = main.join(".git/worktrees/shop-fix");
            fs::create_dir_all(&own).unwrap();
            fs::create_dir(&tree).unwrap();
            fs::write(own.join("HEAD"), "ref: refs/heads/fix/log-in\n").unwrap();
            fs::write(tree.join(".git"), format!("gitdir: {}\n", own.display())).unwrap();
            assert_eq!(labels(&main), ["shop"]);
            assert_eq!(labels(&tree), ["fix-log-in", "shop-fix"]);
            fs::write(own.join("HEAD"), "5f2c1e\n").unwrap();
            assert_eq!(labels(&tree), ["shop-fix"], "no branch is checked out");
        }
    }
}
