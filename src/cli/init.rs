//! `portolan init`, and `portolan` without a table: what listens now, and the lines that would route to it.

use std::{
    fs::OpenOptions,
    io::{self, Write},
};

use serde_json::json;

use super::{
    BAD, GOOD, Outcome, Stop,
    columns::{Column, Cut},
    ports,
    terminal::Terminal,
};
use crate::{
    diagnostic::Diagnostic,
    discover::{self, Listener, container::Containers},
};

const FILE: &str = "portolan.toml";

/// What stands above the routes.
const HEAD: &str = "\
# Routes of this folder's programs. Every key: `portolan schema`, or config/reference.toml in portolan's sources.
# portolan watches this file: save it, and it is in force.

# listen = \"localhost:62893\"
# project = \"shop\"            # makes default names NAME.shop.localhost

[routes]
";

/// Writes a first table.
pub(super) fn run(force: bool, terminal: &Terminal) -> Outcome {
    let text = table(&discover::listeners().unwrap_or_default());
    let mut options = OpenOptions::new();
    options.write(true);
    if force {
        options.create(true).truncate(true)
    } else {
        options.create_new(true)
    };
    let mut file = options.open(FILE).map_err(refused)?;
    file.write_all(text.as_bytes())?;
    if !terminal.quiet {
        writeln!(io::stdout(), "wrote {FILE}:\n\n{text}\nnext: portolan")?;
    }
    Ok(GOOD)
}

fn refused(error: io::Error) -> Stop {
    if error.kind() == io::ErrorKind::AlreadyExists {
        let problem = Diagnostic::error("file-exists", format!("{FILE} is there already"))
            .help("replace it with `portolan init --force`");
        return Stop::Told(vec![problem], BAD);
    }
    error.into()
}

/// A table for what listens: the first program is at `localhost` itself, the others have a name each.
fn table(listeners: &[Listener]) -> String {
    let names = discover::names(listeners);
    let mut text = HEAD.to_owned();
    for (at, (name, listener)) in names.iter().enumerate() {
        let named = discover::route_line(name, listener.address);
        let line = if at == 0 { at_the_root(&named) } else { named };
        let owner = listener.owner.as_ref().map(|owner| format!("  # {}, pid {}", owner.program, owner.pid));
        text += &format!("{line}{}\n", owner.unwrap_or_default());
    }
    if names.is_empty() {
        text += "# Nothing listens on this machine now. A line per program:\n";
        text += "# web = { path = \"/\", to = 5173 }\n";
        text += "# api = { path = \"/api\", to = 8000 }\n";
        text += "# docs = 4000                       # http://docs.localhost:62893\n";
    }
    text
}

/// The line `web = 5173` with the path `/` in the place of a name.
fn at_the_root(line: &str) -> String {
    let at_the_root = |(name, target)| format!("{name} = {{ path = \"/\", to = {target} }}");
    line.split_once(" = ").map_or_else(|| line.to_owned(), at_the_root)
}

/// What `portolan` says where there is neither a table nor a route.
pub(super) fn show_listeners(terminal: &Terminal) -> Outcome {
    let listeners = discover::listeners()?;
    let containers = ports::look_for_containers()?;
    let mut out = io::stdout().lock();
    if terminal.json {
        let rows: Vec<_> = listeners.iter().map(|listener| ports::object(listener, &containers)).collect();
        writeln!(out, "{}", json!({ "listeners": rows }))?;
        return Ok(GOOD);
    }
    writeln!(out, "There is no portolan.toml here or above, and no route was typed.\n")?;
    if listeners.is_empty() {
        writeln!(out, "Nothing listens on this machine.\n")?;
    } else {
        writeln!(out, "{}", rows(&listeners, &containers, terminal))?;
    }
    writeln!(out, "next:  portolan init         writes a portolan.toml from this")?;
    writeln!(out, "       portolan serve 5173   routes everything to port 5173 without a file")?;
    writeln!(out, "       portolan demo         shows how it works")?;
    Ok(GOOD)
}

/// What listens, each with the line that would route to it.
fn rows(listeners: &[Listener], containers: &Containers, terminal: &Terminal) -> String {
    let lines = discover::names(listeners);
    let line = |listener: &Listener| {
        let line = lines.iter().find(|(_, named)| named.address == listener.address);
        line.map_or_else(String::new, |(name, listener)| discover::route_line(name, listener.address))
    };
    ports::rows(listeners, containers, &[(Column { heading: "line in [routes]", cut: Cut::Never }, &line)], terminal)
}
