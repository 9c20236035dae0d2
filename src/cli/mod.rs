//! What a person types and reads: flags, one match over commands, and the only place that prints.
//!
//! Exit codes: 0 fine, 1 the thing asked about is bad, 2 usage or an unreadable file.

mod answer;
mod background;
mod banner;
mod check;
mod columns;
mod demo;
mod doctor;
mod explain;
mod explain_tcp;
mod flags;
mod init;
mod lines;
mod ports;
mod routes;
mod run;
mod running;
mod serve;
mod services;
mod status;
mod terminal;
mod trust;
mod up;

use std::{
    ffi::OsString,
    io::{self, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use clap::CommandFactory;

use crate::{
    config::{
        Listen,
        load::{self, Loaded},
    },
    diagnostic::{Diagnostic, without_number},
    doctor::Table,
    supervise::keeper::{self, Task},
    trust::written,
};
use flags::{Command, Flags, Global};
use terminal::Terminal;

/// Why a command ended without an answer.
enum Stop {
    /// What is wrong, as values: shown, then exit with the code.
    Told(Vec<Diagnostic>, ExitCode),
    /// Reading or writing failed.
    Io(io::Error),
}

impl From<io::Error> for Stop {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<Diagnostic> for Stop {
    fn from(diagnostic: Diagnostic) -> Self {
        Self::Told(vec![diagnostic], BAD)
    }
}

/// What a command comes to.
type Outcome = Result<ExitCode, Stop>;

const GOOD: ExitCode = ExitCode::SUCCESS;
/// The thing asked about is bad.
const BAD: ExitCode = ExitCode::FAILURE;

/// Usage, or a file that cannot be read.
fn usage() -> ExitCode {
    ExitCode::from(2)
}

/// Does what the arguments say.
pub fn run(arguments: impl IntoIterator<Item = OsString>) -> ExitCode {
    let arguments: Vec<OsString> = arguments.into_iter().collect();
    if let Some(task) = Task::read(&arguments) {
        return keep(&task);
    }
    let flags = match Flags::read(arguments) {
        Ok(flags) => flags,
        Err(error) => {
            // A pipe that was closed early is no matter.
            let _ = error.print();
            return if error.use_stderr() { usage() } else { GOOD };
        }
    };
    let terminal = Terminal::new(&flags.global);
    match command(flags, &terminal) {
        Ok(code) => code,
        Err(Stop::Told(diagnostics, code)) => {
            terminal.tell(&diagnostics);
            code
        }
        Err(Stop::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => GOOD,
        Err(Stop::Io(error)) => {
            terminal.tell(&[Diagnostic::error("io", without_number(&error))]);
            usage()
        }
    }
}

/// What a copy of us does that looks after a program.
fn keep(task: &Task) -> ExitCode {
    keeper::keep(task).unwrap_or_else(|error| {
        // Nobody is left to tell that telling failed.
        let _ = writeln!(io::stderr(), "portolan: {error}");
        ExitCode::from(error.code())
    })
}

fn command(flags: Flags, terminal: &Terminal) -> Outcome {
    let Flags { global, command, serve } = flags;
    if let Some(directory) = &global.directory {
        std::env::set_current_dir(directory).map_err(|error| {
            let message = format!("cannot go to {}: {}", directory.display(), without_number(&error));
            Stop::Told(vec![Diagnostic::error("no-directory", message)], usage())
        })?;
    }
    match command.unwrap_or(Command::Serve(serve)) {
        Command::Serve(arguments) if arguments.until_unused => {
            serve::run_for_runs(&global, arguments.listen.as_deref(), terminal)
        }
        Command::Serve(arguments) => serve::run(&global, &arguments, terminal),
        Command::Run(arguments) => run::run(&global, &arguments, terminal),
        Command::Up(arguments) => up::run(&global, &arguments, terminal),
        Command::Ps => services::ps(&global, terminal),
        Command::Logs { follow, services } => services::logs(&global, &services, follow, terminal),
        Command::Restart { services } => services::restart(&global, &services, terminal),
        Command::Down { services } => services::down(&global, &services),
        Command::Status => status::status(&global, terminal),
        Command::Url { name } => status::url(&global, &name, terminal),
        Command::Open { name } => status::open(&global, name.as_deref()),
        Command::Wait { names, timeout } => status::wait(&global, &names, timeout, terminal),
        Command::Reload => status::reload(&global, terminal),
        Command::Stop => status::stop(&global),
        Command::Demo { listen } => demo::run(listen.as_deref(), terminal),
        Command::Check => check::run(&global, terminal),
        Command::Explain(arguments) => explain::run(&global, &arguments, terminal),
        Command::Routes => routes::run(&global, terminal),
        Command::Ports(arguments) => ports::run(&global, &arguments, terminal),
        Command::Doctor { listen } => doctor::run(&global, listen.as_deref(), terminal),
        Command::Trust(wanted) => trust::trust(&global, &wanted, terminal),
        Command::Untrust(wanted) => trust::untrust(&wanted, terminal),
        Command::Init { force } => init::run(force, terminal),
        Command::Schema => print_schema(),
        Command::Completions { shell } => print_completions(shell),
        Command::Man => print_manual(),
    }
}

/// The table's file: the one that was named, or the nearest one.
fn table_file(global: &Global) -> Option<PathBuf> {
    global.config.clone().or_else(|| load::find(&std::env::current_dir().ok()?))
}

/// Where `--listen` says to listen.
fn typed_listen(text: Option<&str>) -> Result<Option<Listen>, Stop> {
    let Some(text) = text else { return Ok(None) };
    match load::parse_listen(text, "--listen") {
        Ok(listen) => Ok(Some(listen)),
        Err(problem) => Err(Stop::Told(vec![problem], usage())),
    }
}

/// Reads the table for a command that needs one; `typed` is where `--listen` says to listen.
fn load_table(global: &Global, typed: Option<&Listen>) -> Result<Loaded, Stop> {
    let Some(file) = table_file(global) else {
        let problem = Diagnostic::error("no-table", "there is no portolan.toml in this folder or above it")
            .help("write one with `portolan init`, or name one with `-c FILE`");
        return Err(Stop::Told(vec![problem], usage()));
    };
    load_file(&file, typed)
}

/// Reads this table.
fn load_file(file: &Path, typed: Option<&Listen>) -> Result<Loaded, Stop> {
    let loaded = written::load(file, typed);
    if loaded.diagnostics.iter().any(|problem| problem.code == "unreadable-file") {
        return Err(Stop::Told(loaded.diagnostics, usage()));
    }
    Ok(loaded)
}

/// Reads the table for a command that can do without one.
fn table_if_any(global: &Global, typed: Option<&Listen>) -> Result<Table, Stop> {
    if table_file(global).is_none() {
        return Ok(Table::Absent);
    }
    let Loaded { config, diagnostics } = load_table(global, typed)?;
    let errors = diagnostics.iter().filter(|problem| problem.is_error()).count();
    Ok(config.map_or(Table::Refused(errors), |config| Table::Good(Box::new(config))))
}

fn print_schema() -> Outcome {
    let schema = serde_json::to_string_pretty(&crate::config::schema::schema()).map_err(io::Error::from)?;
    writeln!(io::stdout(), "{schema}")?;
    Ok(GOOD)
}

fn print_completions(shell: clap_complete::Shell) -> Outcome {
    // Into memory first: the generator panics where a pipe is closed early.
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Flags::command(), "portolan", &mut script);
    io::stdout().write_all(&script)?;
    Ok(GOOD)
}

fn print_manual() -> Outcome {
    let mut page = Vec::new();
    let command = Flags::command();
    clap_mangen::Man::new(command.clone()).render(&mut page)?;
    for sub in command.get_subcommands() {
        let name = format!("portolan {}", sub.get_name());
        clap_mangen::Man::new(sub.clone().name(name)).render_description_section(&mut page)?;
        clap_mangen::Man::new(sub.clone()).render_options_section(&mut page)?;
    }
    io::stdout().write_all(&page)?;
    Ok(GOOD)
}
