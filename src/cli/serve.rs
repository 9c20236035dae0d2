//! `portolan serve`: the proxy in the foreground, until a signal ends it.

use std::{
    env,
    io::{self, Write},
    path::{Path, PathBuf},
    time::{Duration, Instant},
};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tracing_subscriber::{EnvFilter, filter::LevelFilter};

use super::{
    BAD, GOOD, Outcome, Stop, banner,
    flags::{Global, Serve},
    init,
    lines::LinePrinter,
    running, table_file,
    terminal::Terminal,
};
use crate::{
    app::{DoorError, Happening, Instance, Purpose, Setting, StartError, TableError},
    config::{Config, Listen, load},
    control::{api::Reloaded, socket::SocketError},
    diagnostic::{self, Diagnostic, without_number},
    discover,
    live::Change,
    observe::{Format, Log},
    supervise::keeper::ignores,
    trust::written,
    watch::Watch,
};

/// How long requests in hand may take once the end was asked for.
const DRAIN: Duration = Duration::from_secs(5);

/// How long the end waits for the log to be written, where its reader is slow.
const LAST_WORDS: Duration = Duration::from_millis(500);

/// Serves until a signal comes.
pub(super) fn run(global: &Global, arguments: &Serve, terminal: &Terminal) -> Outcome {
    let began = Instant::now();
    let listen = super::typed_listen(arguments.listen.as_deref())?;
    let (config, table) = if arguments.routes.is_empty() {
        let Some(file) = table_file(global) else { return init::show_listeners(terminal) };
        let (config, table) = watched(&file, listen, terminal)?;
        (config, table.map(|table| table.named(global.config.is_some())))
    } else {
        // What was typed goes over what the environment says; two things that were typed contradict each other.
        if global.config_was_typed {
            let problem = Diagnostic::error("two-tables", "routes on the command line stand in the place of a table")
                .help("leave out `-c FILE`, or write the routes into it");
            return Err(Stop::Told(vec![problem], super::usage()));
        }
        (checked(load::inline(&arguments.routes, listen.as_ref()), terminal)?, None)
    };
    serve(config, table, Task::Serve, terminal, began)
}

/// Runs the proxy in the background for `portolan run`, with the table that there is, if there is one.
pub(super) fn run_for_runs(global: &Global, listen: Option<&str>, terminal: &Terminal) -> Outcome {
    let began = Instant::now();
    detach();
    let typed = super::typed_listen(listen)?;
    let (config, table) = match table_file(global) {
        // `run` has looked whether it is to be trusted.
        Some(file) => {
            let (config, table) = watched(&file, typed, terminal)?;
            (config, table.map(|table| table.named(true)))
        }
        None => (checked(load::inline(&[], typed.as_ref()), terminal)?, None),
    };
    serve(config, table, Task::Background, terminal, began)
}

/// Leaves the terminal and its process group.
pub(super) fn detach() {
    // Refused only where this process leads a group already, and so stands alone.
    let _ = rustix::process::setsid();
    // It was started by way of /proc/self/exe, and would be called `exe` among the processes.
    #[cfg(target_os = "linux")]
    let _ = rustix::thread::set_name(c"portolan");
}

/// A table and its file, to be looked after.
pub(super) fn watched(
    file: &Path,
    listen: Option<Listen>,
    terminal: &Terminal,
) -> Result<(Config, Option<TableFile>), Stop> {
    // Before it is read: an edit that comes meanwhile is seen, too.
    let (watch, watched) = Watch::new(load::files(file).into());
    if let Err(error) = watched {
        let problem = Diagnostic::warning("not-watched", format!("the table is looked at once a second only: {error}"));
        terminal.tell(&[problem]);
    }
    let config = checked(super::load_file(file, listen.as_ref())?, terminal)?;
    let table = TableFile::new(load::files(file)[0].clone(), watch, &config, listen);
    Ok((config, Some(table)))
}

/// What is run besides the proxy.
pub(super) enum Task {
    /// Nothing.
    Serve,
    /// Whatever `portolan run` asks for, until it asks no more.
    Background,
    /// These services; all if none is named.
    Up {
        /// Their names.
        names: Vec<String>,
        /// Whether a person reads their lines here.
        attached: bool,
    },
}

/// The table, if it has no error; warnings are told either way.
pub(super) fn checked(loaded: load::Loaded, terminal: &Terminal) -> Result<Config, Stop> {
    match loaded.config {
        Some(config) => {
            terminal.tell(&loaded.diagnostics);
            Ok(config)
        }
        None => Err(Stop::Told(loaded.diagnostics, BAD)),
    }
}

/// Runs the proxy on a table, and on what becomes of its file.
pub(super) fn serve(
    config: Config,
    mut table: Option<TableFile>,
    task: Task,
    terminal: &Terminal,
    began: Instant,
) -> Outcome {
    let log = access_log(terminal)?;
    take_messages(&log, terminal);
    let voice = Voice { terminal, log: &log };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let outcome = runtime.block_on(async {
        let asked_for = config.listen.clone();
        // Before the ready line: whoever reads it may send a signal at once.
        let mut signals = Signals::new()?;
        let (setting, printer) = setting(&task, table.as_ref(), &config, terminal)?;
        let started = Instance::start(config, setting, &log).await;
        let (mut instance, unreachable) = started.map_err(|error| told(error, &asked_for))?;
        if let Some(error) = unreachable {
            voice.tell(&[no_control(&error)]);
        }
        if let Task::Up { names, .. } = &task {
            instance.up(names).map_err(running::refusal)?;
        }
        let file = table.as_ref().map(|table| shown(&table.file));
        banner::ready(instance.proxy(), file.as_deref(), began.elapsed(), terminal)?;
        loop {
            tokio::select! {
                () = changed(&mut table) => drop(reload(&mut table, &mut instance, &voice)),
                signal = signals.next() => match signal {
                    Asked::Reload => drop(reload(&mut table, &mut instance, &voice)),
                    Asked::End => break,
                },
                happening = instance.next() => match happening {
                    // Who asks may be gone before the answer.
                    Happening::Reload(reply) => drop(reply.send(Ok(reload(&mut table, &mut instance, &voice)))),
                    Happening::Note(note) => voice.note(&note),
                    Happening::Stop | Happening::Over => break,
                },
            }
        }
        end(instance, &mut signals, &voice).await;
        if let Some(printer) = printer {
            printer.finish(LAST_WORDS).await;
        }
        log.flush(LAST_WORDS);
        Ok(GOOD)
    });
    // A thread that waits for a reader of our lines must not keep us.
    runtime.shutdown_background();
    outcome
}

/// How the instance is to run, and what prints the lines of its services.
fn setting(
    task: &Task,
    table: Option<&TableFile>,
    config: &Config,
    terminal: &Terminal,
) -> Result<(Setting, Option<LinePrinter>), Stop> {
    let printer = match task {
        Task::Up { attached: true, .. } => Some(LinePrinter::spawn(&config.services, terminal)?),
        _ => None,
    };
    let purpose = match task {
        Task::Serve => Purpose::Serve,
        Task::Background => Purpose::Run,
        Task::Up { .. } => Purpose::Up,
    };
    // Also for whoever asks this proxy to start services later: a table that was found, and that others may write.
    let distrust = table.filter(|table| !table.is_named).and_then(|table| load::trusted(&table.file).err());
    let setting = Setting {
        distrust: distrust.map(|problem| problem.message),
        purpose,
        file: table.map(|table| table.file.clone()),
        printer: printer.as_ref().map(LinePrinter::sender),
        is_coloured: printer.is_some() && terminal.colors_out(),
    };
    Ok((setting, printer))
}

/// Commands cannot come in; everything else works.
fn no_control(error: &SocketError) -> Diagnostic {
    Diagnostic::warning("no-control", format!("commands such as `portolan status` cannot reach this proxy: {error}"))
}

/// Puts the file as it is now in force, if there is one and it is good.
fn reload(table: &mut Option<TableFile>, instance: &mut Instance, voice: &Voice<'_>) -> Reloaded {
    match table {
        Some(table) => table.reload(instance, voice),
        None => {
            let text = "there is no file to reload: the routes were typed";
            voice.note(text);
            Reloaded { accepted: false, text: text.into(), problems: Vec::new() }
        }
    }
}

async fn changed(table: &mut Option<TableFile>) {
    match table {
        Some(table) => table.watch.changed().await,
        None => std::future::pending().await,
    }
}

/// Finishes what is in hand; a second signal, or the end of patience, does not wait for it.
async fn end(instance: Instance, signals: &mut Signals, voice: &Voice<'_>) {
    tokio::select! {
        ended = instance.end(DRAIN) => if ended.is_err() && !voice.terminal.quiet {
            voice.note("some requests did not end within 5 s and were cut");
        },
        () = signals.again() => {}
    }
}

/// How the running proxy speaks: by way of the log, so that a reader who is slow or gone delays no reload and no
/// signal.
struct Voice<'a> {
    terminal: &'a Terminal,
    log: &'a Log,
}

impl Voice<'_> {
    fn note(&self, message: &str) {
        self.say(&self.terminal.note(message));
    }

    fn tell(&self, diagnostics: &[Diagnostic]) {
        if !diagnostics.is_empty() {
            self.say(&self.terminal.problems(diagnostics));
        }
    }

    fn say(&self, text: &str) {
        // The log takes everything, or counts what it drops.
        let _ = self.log.messages().write_all(text.as_bytes());
    }
}

/// What a signal asks for.
enum Asked {
    Reload,
    End,
}

/// The signals that mean something to the proxy.
struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
    /// Whether there was a terminal at the start.
    has_terminal: bool,
}

/// Whether this process has a terminal that is open.
pub(super) fn is_at_a_terminal() -> bool {
    std::fs::File::open("/dev/tty").is_ok()
}

/// Returns when a signal asks for the end.
pub(super) async fn end_asked() -> io::Result<()> {
    Signals::new()?.again().await;
    Ok(())
}

impl Signals {
    fn new() -> io::Result<Self> {
        let ignored = ignores(rustix::process::Signal::HUP);
        Ok(Self {
            hangup: signal(SignalKind::hangup())?,
            interrupt: signal(SignalKind::interrupt())?,
            terminate: signal(SignalKind::terminate())?,
            // Under `nohup` the end of the terminal is none of our concern.
            has_terminal: is_at_a_terminal() && !ignored,
        })
    }

    async fn next(&mut self) -> Asked {
        tokio::select! {
            // It comes from a terminal that is closed, too.
            _ = self.hangup.recv() => if self.has_terminal && !is_at_a_terminal() { Asked::End } else { Asked::Reload },
            _ = self.interrupt.recv() => Asked::End,
            _ = self.terminate.recv() => Asked::End,
        }
    }

    /// A further signal that asks for the end.
    async fn again(&mut self) {
        while !matches!(self.next().await, Asked::End) {}
    }
}

/// The table's file, and what became of its last change.
pub(super) struct TableFile {
    file: PathBuf,
    watch: Watch,
    /// Where the proxy listens, which a reload does not change.
    listening: Listen,
    /// Where it was last asked to.
    wanted: Listen,
    /// What was typed.
    listen: Option<Listen>,
    /// Whether nobody else may become able to write what is started from it.
    must_be_trusted: bool,
    /// Whether somebody has named it, and not only been in its folder.
    is_named: bool,
}

impl TableFile {
    /// The file whose table is served as `config`.
    fn new(file: PathBuf, watch: Watch, config: &Config, listen: Option<Listen>) -> Self {
        let listening = Listen { origin: None, ..config.listen.clone() };
        Self { file, watch, wanted: listening.clone(), listening, listen, must_be_trusted: false, is_named: false }
    }

    /// Whether somebody has named it.
    pub(super) fn named(self, is_named: bool) -> Self {
        Self { is_named, ..self }
    }

    /// Whether a change is taken only as long as nobody else may have written it: services are started from it.
    pub(super) fn watched_for_trust(self, must_be_trusted: bool) -> Self {
        Self { must_be_trusted, ..self }
    }

    /// Puts the file as it is now in force, if it is good.
    fn reload(&mut self, instance: &mut Instance, voice: &Voice<'_>) -> Reloaded {
        let began = Instant::now();
        // Whoever asked for this: what it finds is told once.
        self.watch.look();
        let name = shown(&self.file);
        let name = name.display();
        if std::fs::metadata(&self.file).is_ok_and(|file| file.len() == 0) {
            return refused(instance, voice, format!("{name} is empty; the table stays in force"), &[]);
        }
        if self.must_be_trusted
            && let Err(problem) = load::trusted(&self.file)
        {
            let text = format!("reload refused, the table stays in force: {name} is not to be trusted any more");
            return refused(instance, voice, text, &[problem]);
        }
        let loaded = written::load(&self.file, self.listen.as_ref());
        let Some(config) = loaded.config else {
            let errors = loaded.diagnostics.iter().filter(|problem| problem.is_error()).count();
            let plural = if errors == 1 { "" } else { "s" };
            let text = format!("reload refused, the table stays in force ({errors} error{plural} in {name})");
            return refused(instance, voice, text, &loaded.diagnostics);
        };
        voice.tell(&loaded.diagnostics);
        // Wherever it is written: a line above it is no other address.
        let wanted = Listen { origin: None, ..config.listen.clone() };
        if wanted != self.wanted && wanted != self.listening {
            voice.note("`listen` has changed; restart portolan to listen there");
        }
        self.wanted = wanted;
        match instance.swap(config) {
            Ok(change) => {
                let took = began.elapsed().as_millis();
                let text = format!("reloaded {name} in {took} ms: {}", words(&change));
                if !voice.terminal.quiet && change != Change::default() {
                    voice.note(&text);
                }
                let problems = loaded.diagnostics.iter().map(Diagnostic::to_json).collect();
                Reloaded { accepted: true, text, problems }
            }
            Err(error) => {
                let text = format!("reload refused, the table stays in force: {error}");
                refused(instance, voice, text, &[unfit(&error)])
            }
        }
    }
}

/// Says why the file is not in force, now and whenever somebody asks.
fn refused(instance: &mut Instance, voice: &Voice<'_>, text: String, diagnostics: &[Diagnostic]) -> Reloaded {
    voice.note(&text);
    voice.tell(diagnostics);
    let whole = [text, diagnostic::render(diagnostics, false)].join("\n").trim_end().to_owned();
    instance.refused(whole.clone());
    Reloaded { accepted: false, text: whole, problems: diagnostics.iter().map(Diagnostic::to_json).collect() }
}

/// `+ docs, ~ api, - old`
fn words(change: &Change) -> String {
    let marked = |mark: char, names: &[String]| names.iter().map(|name| format!("{mark} {name}")).collect::<Vec<_>>();
    let all = [marked('+', &change.added), marked('~', &change.changed), marked('-', &change.removed)].concat();
    if all.is_empty() {
        return "nothing has changed".into();
    }
    if all.len() > 8 { format!("{} and {} more", all[..8].join(", "), all.len() - 8) } else { all.join(", ") }
}

/// A file as a person would name it.
fn shown(file: &Path) -> PathBuf {
    let here = env::current_dir().ok();
    let relative = here.and_then(|here| file.strip_prefix(here).ok().map(|file| Path::new(".").join(file)));
    relative.unwrap_or_else(|| file.to_owned())
}

/// What keeps the proxy from starting, as a value that says what to do.
fn told(error: StartError, listen: &Listen) -> Stop {
    let problem = match error {
        StartError::Bind(error) => {
            discover::cannot_bind(error.address, discover::Purpose::Proxy, listen.origin.as_ref(), &error.source)
        }
        StartError::Table(error) => unfit(&error),
        StartError::System(error) => {
            Diagnostic::error("system", format!("the system does not let the proxy start: {}", without_number(&error)))
        }
        StartError::Tls(error) => Diagnostic::error("system", format!("the system gives no random numbers: {error}")),
    };
    problem.into()
}

/// What keeps a table from being put in force.
fn unfit(error: &TableError) -> Diagnostic {
    match error {
        TableError::Door(DoorError { route, origin, source }) => {
            discover::cannot_bind(source.address, discover::Purpose::Tcp(route), origin.as_ref(), &source.source)
        }
        TableError::Compile(error) => Diagnostic::error("patterns-too-large", error.to_string())
            .help("write fewer or shorter `path_regex` patterns"),
    }
}

/// One line per exchange on standard error, unless it was asked to be quiet.
fn access_log(terminal: &Terminal) -> io::Result<Log> {
    let format = if terminal.json {
        Format::Json
    } else {
        Format::Text { color: terminal.colors_err(), unicode: terminal.unicode }
    };
    Log::spawn(!terminal.quiet, format, io::stderr())
}

/// Messages of our own and of the libraries go where the lines of exchanges go: a worker that warns waits for nobody.
fn take_messages(log: &Log, terminal: &Terminal) {
    let level = if terminal.verbose { LevelFilter::DEBUG } else { LevelFilter::WARN };
    let filter = EnvFilter::builder().with_default_directive(level.into());
    let filter = match env::var("PORTOLAN_LOG") {
        Ok(wanted) => filter.parse_lossy(wanted),
        // What a client does wrong is no news of the libraries'.
        Err(_) if !terminal.verbose => filter.parse_lossy("warn,h2=error"),
        Err(_) => filter.parse_lossy(""),
    };
    let log = log.clone();
    let logger = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(move || log.messages())
        .with_ansi(terminal.colors_err())
        .with_target(false);
    // Set already where a test runs several commands in one process.
    let _ = logger.try_init();
}
