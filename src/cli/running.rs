//! The portolan that runs already: which one a command means, and what it says no to.

use std::{future::Future, net::SocketAddr, time::Duration};

use tokio::time::sleep;

use super::{BAD, Stop, flags::Global, table_file, usage};
use crate::{
    config::{DEFAULT_PORT, load},
    control::{
        CallError, Client,
        api::{Problem, Status},
        socket,
    },
    diagnostic::Diagnostic,
};

/// Runs a command's few questions to their end.
pub(super) fn block_on<T>(asking: impl Future<Output = Result<T, Stop>>) -> Result<T, Stop> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(asking)
}

/// The portolan that is meant: the one of PORTOLAN_LISTEN, of the table, or of the default port; where nobody answers there, the
/// only other one of this user.
pub(super) async fn client(global: &Global) -> Client {
    let expected = Client::new(expected_port(global));
    if is_there(expected).await {
        return expected;
    }
    let mut others = Vec::new();
    for port in socket::ports() {
        if is_there(Client::new(port)).await {
            others.push(Client::new(port));
        }
    }
    match others.as_slice() {
        [only] => *only,
        _ => expected,
    }
}

async fn is_there(client: Client) -> bool {
    client.get::<Status>("/v1/status").await.is_ok()
}

/// Where the proxy of this folder listens, or would.
pub(super) fn expected_port(global: &Global) -> u16 {
    let of_environment =
        std::env::var("PORTOLAN_LISTEN").ok().and_then(|text| load::parse_listen(&text, "PORTOLAN_LISTEN").ok());
    let of_table = || load::load(&table_file(global)?, None).config.map(|config| config.listen);
    let listen = of_environment.or_else(of_table);
    listen.and_then(|listen| listen.required.first().map(SocketAddr::port)).unwrap_or(DEFAULT_PORT)
}

/// What it is, as far as it runs.
pub(super) async fn status(global: &Global) -> Result<(Client, Status), Stop> {
    let client = client(global).await;
    let status = client.get("/v1/status").await.map_err(unanswered)?;
    Ok((client, status))
}

/// Returns when the process of a portolan that was told to end is gone, and all that it looks after with it.
pub(super) async fn ended(pid: u32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed());
    while pid.is_some_and(|pid| rustix::process::test_kill_process(pid).is_ok()) {
        sleep(Duration::from_millis(20)).await;
    }
}

/// Why there is no answer, as a value that says what to do.
pub(super) fn unanswered(error: CallError) -> Stop {
    let problem = match error {
        CallError::Refused(problem) => return refusal(problem),
        CallError::NotRunning(port) => Diagnostic::error("not-running", format!("no portolan runs at port {port}"))
            .help("start one: `portolan`, `portolan up`, or `portolan run -- CMD`"),
        CallError::Foreign(_) => Diagnostic::error("foreign-socket", error.to_string()),
        CallError::Broken(_) => Diagnostic::error("no-answer", error.to_string()).help(
            "the command and the running portolan may be of two versions: end the running one with `portolan stop`",
        ),
    };
    Stop::Told(vec![problem], BAD)
}

/// What a running portolan said no to.
pub(super) fn refusal(problem: Problem) -> Stop {
    let mut told = Diagnostic::error(code(&problem.code), problem.message);
    told.notes = problem.notes;
    told.helps = problem.help;
    let exit = if told.code == "bad-request" { usage() } else { BAD };
    Stop::Told(vec![told], exit)
}

/// The codes that a running portolan may give.
fn code(code: &str) -> &'static str {
    const CODES: [&str; 7] =
        ["name-taken", "unknown-service", "another-table", "no-port", "bad-request", "unknown-request", "ending"];
    CODES.into_iter().find(|known| *known == code).unwrap_or("refused")
}
