//! `portolan demo`: the proxy on sample programs, and the URLs to try.

use std::{
    io::{self, Write},
    time::Instant,
};

use super::{GOOD, Outcome, serve, terminal::Terminal};
use crate::{config::load, demo};

/// Serves the demo until a signal comes.
pub(super) fn run(listen: Option<&str>, terminal: &Terminal) -> Outcome {
    let began = Instant::now();
    let listen = super::typed_listen(listen)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let table = runtime.block_on(demo::start())?;
    // The sample programs are tasks of this runtime: it goes on in a thread of its own beside the proxy's.
    std::thread::Builder::new().name("samples".into()).spawn(move || {
        runtime.block_on(std::future::pending::<()>());
    })?;
    if terminal.interactive && !terminal.quiet {
        writeln!(io::stdout(), "\n  Three programs are running, and this is the table that leads to them:\n")?;
        for line in table.lines() {
            writeln!(io::stdout(), "    {line}")?;
        }
        writeln!(io::stdout())?;
    }
    let config = serve::checked(load::from_str("demo", &table, listen.as_ref()), terminal)?;
    serve::serve(config, None, serve::Task::Serve, terminal, began)?;
    Ok(GOOD)
}
