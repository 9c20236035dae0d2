//! What a person may type. The words of `--help`, the manual and the completions all come from here.

use std::{ffi::OsString, path::PathBuf, time::Duration};

use clap::{
    ArgMatches, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum, error::ErrorKind,
    parser::ValueSource,
};

use crate::trust::Kind;

/// One stable localhost address in front of everything that runs on this machine.
///
/// Without a command: `portolan serve`.
#[derive(Debug, Parser)]
#[command(name = "portolan", version, max_term_width = 100)]
pub(super) struct Flags {
    /// What every command takes.
    #[command(flatten)]
    pub global: Global,
    /// Which one; `serve` if none.
    #[command(subcommand)]
    pub command: Option<Command>,
    /// What `serve` takes.
    #[command(flatten)]
    pub serve: Serve,
}

impl Flags {
    /// Reads what was typed. What `serve` takes may stand alone, but not in front of a command, which would ignore it.
    pub(super) fn read(arguments: impl IntoIterator<Item = OsString>) -> Result<Self, clap::Error> {
        let mut command = Self::command();
        let matches = command.try_get_matches_from_mut(arguments)?;
        // The environment's PORTOLAN_LISTEN is for whichever command listens.
        if let Some(name) = matches.subcommand_name()
            && matches.value_source("listen") == Some(ValueSource::CommandLine)
        {
            let message = format!("`--listen` stands behind its command: `portolan {name} --listen ADDR`");
            return Err(command.error(ErrorKind::ArgumentConflict, message));
        }
        let mut flags = Self::from_arg_matches(&matches).map_err(|error| error.format(&mut command))?;
        let was_typed = |matches: &ArgMatches| matches.value_source("config") == Some(ValueSource::CommandLine);
        flags.global.config_was_typed =
            was_typed(&matches) || matches.subcommand().is_some_and(|(_, sub)| was_typed(sub));
        Ok(flags)
    }
}

/// What every command takes.
#[derive(Debug, Args)]
pub(super) struct Global {
    /// The route table; otherwise portolan.toml or .config/portolan.toml of this folder or the nearest one above
    #[arg(short, long, value_name = "FILE", global = true, env = "PORTOLAN_CONFIG")]
    pub config: Option<PathBuf>,
    /// It does not come from the environment.
    #[arg(skip)]
    pub config_was_typed: bool,
    /// Run as if started in DIR
    #[arg(short = 'C', long = "directory", value_name = "DIR", global = true)]
    pub directory: Option<PathBuf>,
    /// Only warnings and errors
    #[arg(short, long, global = true, conflicts_with = "verbose")]
    pub quiet: bool,
    /// More of what happens inside; PORTOLAN_LOG takes a filter such as `portolan=debug`
    #[arg(short, long, global = true)]
    pub verbose: bool,
    /// When to colour; NO_COLOR and CLICOLOR_FORCE are obeyed
    #[arg(long, value_name = "WHEN", default_value = "auto", global = true)]
    pub color: Color,
    /// Answer in JSON, with stable fields
    #[arg(long, global = true)]
    pub json: bool,
}

/// When to colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Color {
    /// On a terminal.
    Auto,
    /// Everywhere.
    Always,
    /// Nowhere.
    Never,
}

/// What `serve` takes.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Where to listen, such as 127.0.0.1:8080 or localhost:0 (a free port); overrides the table
    #[arg(long, value_name = "ADDR", env = "PORTOLAN_LISTEN")]
    pub listen: Option<String>,
    /// End when `portolan run` needs it no more.
    #[arg(long, hide = true)]
    pub until_unused: bool,
    /// Routes in the place of a table, each PATTERN=TARGET: `/=5173 /api=8000 docs.localhost=4000`; `5173` is `/=5173`
    #[arg(value_name = "ROUTE")]
    pub routes: Vec<String>,
}

/// The commands.
#[derive(Debug, Subcommand)]
pub(super) enum Command {
    /// Run the proxy in the foreground (the default)
    Serve(Serve),
    /// See it work: three sample services, a table for them, the URLs to try
    Demo {
        /// Where to listen
        #[arg(long, value_name = "ADDR", env = "PORTOLAN_LISTEN")]
        listen: Option<String>,
    },
    /// Run a command as if alone, and route NAME.localhost to whatever port it opens
    ///
    /// It is given a free port in PORT, also as {port} in its words. Exits as the command does. Joins the proxy that runs
    /// already, or starts one in the background, which ends when the last such command has ended.
    Run(Run),
    /// Start the services of the table, and the proxy with them
    ///
    /// Joins the proxy that runs with this table already. Ctrl-C, or `portolan down`, ends them.
    Up(Up),
    /// List the services: state, pid, where they listen
    Ps,
    /// Show the last lines of services
    Logs {
        /// Go on with those to come
        #[arg(short, long)]
        follow: bool,
        /// Which; all if none
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// End services and start them anew
    Restart {
        /// Which; all that run if none
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// End services, with everything that they have started
    Down {
        /// Which; all if none, and what `up` has begun with them
        #[arg(value_name = "SERVICE")]
        services: Vec<String>,
    },
    /// Tell what the running portolan does: routes, who stands behind them, services
    ///
    /// Exit code 1 if its table has errors, or if none runs.
    Status,
    /// Print the URL of a route, a run or a service
    Url {
        /// Its name
        name: String,
    },
    /// Open a route in the browser
    Open {
        /// Its name; the first route if none
        name: Option<String>,
    },
    /// Return when these answer: routes through the proxy, services by being ready
    ///
    /// Exit code 1 if they do not in time.
    Wait {
        /// Their names
        #[arg(value_name = "NAME", required = true)]
        names: Vec<String>,
        /// How long
        #[arg(long, value_name = "TIME", default_value = "60s", value_parser = duration)]
        timeout: Duration,
    },
    /// Have the running portolan read its table anew
    Reload,
    /// End the running portolan, with everything that it has started
    Stop,
    /// Tell every problem of the table, each with its place and its fix
    ///
    /// Exit code 1 if there is any error, 0 if the table is good.
    Check,
    /// Tell which route answers a request, and why not the others
    ///
    /// Exit code 1 if none does.
    Explain(Explain),
    /// List the routes of the table, the most specific first
    Routes,
    /// Show what listens on this machine, or who holds one port
    ///
    /// Each listener with its program, process, folder and start, and the routes of the table that lead there. Exit code
    /// 1 if nothing listens on PORT.
    ///
    /// With --json: `listeners`, each {address, port, pid, program, command, folder, started, uid, user, container, routes}, and
    /// `table`, {errors}; with PORT also `port`, `usual` and, where nothing listens, `connections`, each {local, remote,
    /// lingers, pid, program}. What is not known is null.
    Ports(Ports),
    /// Check what the table needs of this machine, and tell the command that mends it
    ///
    /// Names, ports, privileges, limits, loopback, container engines and our own sockets; nothing is changed. Exit code 1
    /// if there is any problem, 0 if there are none or only warnings.
    ///
    /// With --json: `problems` and `warnings`, their numbers, and `findings`, each {check, verdict, message, notes, help};
    /// `verdict` is ok, warning or problem, `help` is null where there is nothing to do.
    Doctor {
        /// Where the proxy would listen; overrides the table
        #[arg(long, value_name = "ADDR", env = "PORTOLAN_LISTEN")]
        listen: Option<String>,
    },
    /// Have the stores of this machine trust the local authority of https
    ///
    /// The authority is made if there is none. It vouches for localhost, test, the hosts of the table and loopback
    /// addresses, and for nothing else. Each store is told as it is changed; what only root may do is told as a command,
    /// or done by sudo on a terminal. Exit code 1 if a store could not be changed.
    ///
    /// With --json: `authority`, {name, file, fingerprint, until, permits}, and `steps`, each {store, place, outcome, why,
    /// help}; `outcome` is done, already, root or failed.
    Trust(Stores),
    /// Take the local authority out of the stores of this machine, and nothing else
    ///
    /// Without STORE the authority itself is taken away, too, once no store has it. Exit code 1 if a store could not be
    /// changed, or has it and is not found.
    ///
    /// With --json: `steps` as of `trust`, `unseen`, the files of stores that have it and are not found, and `removed`, the
    /// files that were taken away.
    Untrust(Stores),
    /// Write a first portolan.toml from what listens on this machine now
    Init {
        /// Replace a file that is there
        #[arg(long)]
        force: bool,
    },
    /// Print the JSON Schema of the table
    Schema,
    /// Print completions for a shell
    Completions {
        /// Which one
        shell: clap_complete::Shell,
    },
    /// Print the manual, for `man -l -`
    Man,
}

/// What `run` takes.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// What its route is called; otherwise the package's or the folder's name, with a git worktree's branch in front
    #[arg(long, value_name = "NAME", value_parser = label)]
    pub name: Option<String>,
    /// The port that it is given; otherwise a free one
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
    /// The command and its words
    #[arg(value_name = "CMD", required = true, trailing_var_arg = true, allow_hyphen_values = true)]
    pub command: Vec<OsString>,
}

/// What `up` takes.
#[derive(Debug, Args)]
pub(super) struct Up {
    /// Where the proxy listens; overrides the table
    #[arg(long, value_name = "ADDR", env = "PORTOLAN_LISTEN")]
    pub listen: Option<String>,
    /// In the background; returns when all are ready
    #[arg(short, long)]
    pub detach: bool,
    /// This is the background.
    #[arg(long, hide = true)]
    pub detached: bool,
    /// Which, with what they need; all if none
    #[arg(value_name = "SERVICE")]
    pub services: Vec<String>,
}

/// A label of a host name.
fn label(text: &str) -> Result<String, String> {
    if crate::config::is_label(text) {
        Ok(text.to_ascii_lowercase())
    } else {
        Err("letters, digits and inner hyphens, at most 63".into())
    }
}

/// A time as in a table: `60s`, `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    crate::config::parse_duration(text).ok_or_else(|| "a time is written as in 60s, 1m30s or 500ms".into())
}

/// What `trust` and `untrust` take.
#[derive(Debug, Args)]
pub(super) struct Stores {
    /// Which; all that are there if none
    #[arg(value_name = "STORE", value_enum)]
    pub stores: Vec<Kind>,
}

/// What `ports` takes.
#[derive(Debug, Args)]
pub(super) struct Ports {
    /// Tell all of this one
    #[arg(value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    pub port: Option<u16>,
}

/// What `explain` takes.
#[derive(Debug, Args)]
pub(super) struct Explain {
    /// A method, if it is not GET, and a URL or a path: `POST http://docs.localhost/api`
    #[arg(value_name = "[METHOD] URL", num_args = 1..=2, required = true)]
    pub request: Vec<String>,
    /// A header field of the request
    #[arg(short = 'H', long = "header", value_name = "NAME: VALUE")]
    pub headers: Vec<String>,
}
