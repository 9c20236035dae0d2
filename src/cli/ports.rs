//! `portolan ports`: what listens on this machine, and who holds one port.

use std::{
    io::{self, Write},
    time::SystemTime,
};

use jiff::{Timestamp, Zoned};
use serde_json::{Value, json};

use super::{
    BAD, GOOD, Outcome,
    answer::Answer,
    columns::{self, Column, Cut},
    flags::{Global, Ports},
    running::block_on,
    terminal::Terminal,
};
use crate::{
    diagnostic::{Diagnostic, printable, shown},
    discover::{
        self, Connection, Lead, Leads, Listener,
        container::{self, Container, Containers, State, Whereabouts},
    },
    doctor::Table,
};

/// Lists what listens, or tells all of one port.
pub(super) fn run(global: &Global, arguments: &Ports, terminal: &Terminal) -> Outcome {
    let table = super::table_if_any(global, None)?;
    let known = Known::of(&table, look_for_containers()?);
    let mut listeners = discover::listeners()?;
    let Some(port) = arguments.port else { return list(&listeners, &known, terminal) };
    listeners.retain(|listener| listener.address.port() == port);
    // Those that a listener has accepted are no news.
    let connections = if listeners.is_empty() { discover::connections(port)? } else { Vec::new() };
    let one = One { port, listeners, connections, known };
    let text = if terminal.json { format!("{}\n", one.object()) } else { one.text(&Zoned::now(), terminal.width) };
    io::stdout().write_all(text.as_bytes())?;
    Ok(if one.listeners.is_empty() { BAD } else { GOOD })
}

/// What the engines of this machine say, which takes a second at most.
pub(super) fn look_for_containers() -> Result<Containers, super::Stop> {
    block_on(async { Ok(container::look(&Whereabouts::here()).await) })
}

/// The table, where its routes lead now, and the containers of this machine.
struct Known<'a> {
    table: &'a Table,
    leads: Option<Leads<'a>>,
    containers: Containers,
}

impl<'a> Known<'a> {
    fn of(table: &'a Table, containers: Containers) -> Self {
        Self { table, leads: table.config().map(|config| Leads::now(config, &containers)), containers }
    }

    /// The routes that lead to a listener.
    fn routes_to(&self, listener: &Listener) -> Vec<Lead<'a>> {
        self.leads.iter().flat_map(|leads| leads.to(listener)).collect()
    }

    /// The TCP routes whose clients a listener takes.
    fn served_at(&self, listener: &Listener) -> Vec<Lead<'a>> {
        self.table.config().into_iter().flat_map(|config| discover::served_at(config, listener)).collect()
    }
}

/// Why no route is told.
fn refusal(table: &Table) -> Option<Diagnostic> {
    let Table::Refused(errors) = table else { return None };
    let plural = if *errors == 1 { "" } else { "s" };
    let message = format!("which routes lead there is not known: the table has {errors} error{plural}");
    Some(Diagnostic::warning("table-refused", message).help("see what is wrong with `portolan check`"))
}

fn table_object(table: &Table) -> Value {
    match table {
        Table::Absent => Value::Null,
        Table::Refused(errors) => json!({ "errors": errors }),
        Table::Good(_) => json!({ "errors": 0 }),
    }
}

fn list(listeners: &[Listener], known: &Known<'_>, terminal: &Terminal) -> Outcome {
    let routes = |listener: &Listener| {
        let routes = [known.served_at(listener), known.routes_to(listener)].concat();
        names(&routes).join(", ")
    };
    let mut out = io::stdout().lock();
    if terminal.json {
        let rows: Vec<_> = listeners.iter().map(|listener| with_routes(listener, known)).collect();
        writeln!(out, "{}", json!({ "listeners": rows, "table": table_object(known.table) }))?;
        return Ok(GOOD);
    }
    if listeners.is_empty() {
        writeln!(out, "nothing listens on this machine")?;
    }
    let command = |listener: &Listener| listener.owner.as_ref().map(discover::command).unwrap_or_default().to_owned();
    let extra: [Extra<'_>; 2] = [
        (Column { heading: "route", cut: Cut::Never }, &routes),
        (Column { heading: "command", cut: Cut::End(16) }, &command),
    ];
    out.write_all(rows(listeners, &known.containers, &extra, terminal).as_bytes())?;
    terminal.tell(&Vec::from_iter(refusal(known.table)));
    Ok(GOOD)
}

/// A column that only some lists of listeners have, and what stands in it.
pub(super) type Extra<'a> = (Column, &'a dyn Fn(&Listener) -> String);

/// A row per listener; nothing for no listeners.
pub(super) fn rows(
    listeners: &[Listener],
    containers: &Containers,
    extra: &[Extra<'_>],
    terminal: &Terminal,
) -> String {
    if listeners.is_empty() {
        return String::new();
    }
    let mut columns = vec![
        Column { heading: "port", cut: Cut::Never },
        Column { heading: "address", cut: Cut::Never },
        Column { heading: "program", cut: Cut::End(8) },
        Column { heading: "pid", cut: Cut::Never },
        Column { heading: "since", cut: Cut::Never },
        Column { heading: "folder", cut: Cut::Middle(12) },
    ];
    columns.extend(extra.iter().map(|(column, _)| *column));
    let now = Zoned::now();
    let row = |listener: &Listener| {
        let [program, since, folder] = match containers.owner_of(listener.address) {
            Some(container) => of_container(container, &now),
            None => of_process(listener, &now),
        };
        let pid = listener.owner.as_ref().map(|owner| owner.pid.to_string()).unwrap_or_default();
        let (port, address) = (listener.address.port().to_string(), listener.address.ip().to_string());
        let mut cells = vec![port, address, program, pid, since, folder];
        cells.extend(extra.iter().map(|(_, cell)| cell(listener)));
        cells
    };
    columns::render(&columns, &listeners.iter().map(row).collect::<Vec<_>>(), terminal.width, terminal.unicode)
}

/// Program, start and folder of the process, or whose it is.
fn of_process(listener: &Listener, now: &Zoned) -> [String; 3] {
    let Some(owner) = &listener.owner else {
        let whose = listener.user().map_or_else(|| "(not visible)".into(), |user| format!("(of {user})"));
        return [whose, String::new(), String::new()];
    };
    let since = owner.started.map(|since| day_or_time(since, now)).unwrap_or_default();
    let folder = owner.folder.as_deref().map(|folder| printable(&shown(folder))).unwrap_or_default();
    [owner.program.clone(), since, folder]
}

/// Name, start and image: they tell more than the engine's helper that listens.
fn of_container(container: &Container, now: &Zoned) -> [String; 3] {
    let since = match container.state {
        State::Running { since: Some(since), .. } => day_or_time(since, now),
        _ => String::new(),
    };
    [container.name.clone(), since, format!("container of {}", container.image)]
}

/// The time of today, the date of any other day.
fn day_or_time(moment: SystemTime, now: &Zoned) -> String {
    let Ok(moment) = Timestamp::try_from(moment) else { return String::new() };
    let moment = moment.to_zoned(now.time_zone().clone());
    moment.strftime(if moment.date() == now.date() { "%H:%M" } else { "%Y-%m-%d" }).to_string()
}

/// The stable fields of a listener, for every list of them.
pub(super) fn object(listener: &Listener, containers: &Containers) -> Value {
    let container = containers.owner_of(listener.address).map(|container| {
        let compose = container.compose.as_ref();
        json!({
            "name": container.name,
            "image": container.image,
            "project": compose.map(|compose| &compose.project),
            "service": compose.map(|compose| &compose.service),
        })
    });
    let owner = listener.owner.as_ref();
    let started = owner.and_then(|owner| owner.started).and_then(|started| Timestamp::try_from(started).ok());
    json!({
        "address": listener.address.to_string(),
        "port": listener.address.port(),
        "pid": owner.map(|owner| owner.pid),
        "program": owner.map(|owner| &owner.program),
        "command": owner.map(|owner| &owner.command),
        // A folder's name need not be UTF-8, which JSON is.
        "folder": owner.and_then(|owner| owner.folder.as_ref()).map(|folder| folder.to_string_lossy()),
        "started": started.map(|started| started.to_string()),
        "uid": listener.uid,
        "user": listener.user(),
        "container": container,
    })
}

fn with_routes(listener: &Listener, known: &Known<'_>) -> Value {
    let mut object = object(listener, &known.containers);
    let routes = || json!(names(&known.routes_to(listener)));
    object["routes"] = if matches!(known.table, Table::Refused(_)) { Value::Null } else { routes() };
    object
}

fn names<'a>(routes: &[Lead<'a>]) -> Vec<&'a str> {
    routes.iter().map(|route| route.name).collect()
}

/// All that is known of one port.
struct One<'a> {
    port: u16,
    /// Those on this port.
    listeners: Vec<Listener>,
    /// Those that keep the port from listeners.
    connections: Vec<Connection>,
    known: Known<'a>,
}

impl One<'_> {
    /// A block per holder, in the look of errors.
    fn text(&self, now: &Zoned, width: Option<usize>) -> String {
        let mut blocks: Vec<Answer> = self.holders().iter().map(|held| self.held(held, now)).collect();
        if blocks.is_empty() {
            blocks.push(self.free());
        }
        if let Some(last) = blocks.last_mut() {
            last.notes.extend(discover::usual(self.port).map(|usual| format!("this port is mostly {usual}")));
            last.notes.extend(refusal(self.known.table).map(|refusal| refusal.message));
        }
        blocks.iter().map(|block| block.text(0, 2, width)).collect::<Vec<_>>().join("\n")
    }

    /// The container that publishes the port there.
    fn container(&self, listener: &Listener) -> Option<&Container> {
        self.known.containers.owner_of(listener.address)
    }

    /// The listeners of each holder together.
    fn holders(&self) -> Vec<Vec<&Listener>> {
        let mut holders: Vec<Vec<&Listener>> = Vec::new();
        for listener in &self.listeners {
            let container = |listener: &Listener| self.container(listener).map(|container| &container.id);
            let who = |listener: &Listener| (listener.owner.clone(), listener.uid, container(listener));
            let same = |held: &&mut Vec<&Listener>| who(held[0]) == who(listener);
            match holders.iter_mut().find(same) {
                Some(held) => held.push(listener),
                None => holders.push(vec![listener]),
            }
        }
        holders
    }

    fn held(&self, held: &[&Listener], now: &Zoned) -> Answer {
        let first = held[0];
        let mut addresses: Vec<_> = held.iter().map(|listener| listener.address.to_string()).collect();
        // Several sockets may share one.
        addresses.dedup();
        let mut notes = vec![format!("it listens on {}", addresses.join(" and "))];
        let served = held.iter().flat_map(|listener| self.known.served_at(listener));
        let served = served.map(|route| format!("it listens for {route} ({})", route.origin.location()));
        let routes = held.iter().flat_map(|listener| self.known.routes_to(listener));
        let leading = routes.map(|route| format!("{route} leads there ({})", route.origin.location()));
        for note in served.chain(leading) {
            // One that tries both loopback addresses leads to two listeners.
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let (holder, help) = match self.container(first) {
            Some(container) => (discover::container_holder(container, now), discover::way_to_stop(container)),
            None => (discover::holder(first, first.user().as_deref(), now), self.way_out(first)),
        };
        Answer { message: format!("{} is held by {holder}", self.port), notes, help: Some(help) }
    }

    fn way_out(&self, listener: &Listener) -> String {
        match &listener.owner {
            Some(owner) => discover::way_to_end(owner),
            None if listener.is_own() => {
                "look where it was started, in a container perhaps: it is out of sight here".into()
            }
            None => format!("see more of it with `sudo portolan ports {}`", self.port),
        }
    }

    fn free(&self) -> Answer {
        let would_be = Listener { address: ([127, 0, 0, 1], self.port).into(), owner: None, uid: None };
        let missed = self
            .known
            .routes_to(&would_be)
            .into_iter()
            .map(|route| format!("{route} leads there and meets nobody ({})", route.origin.location()));
        Answer {
            message: format!("nothing listens on {}", self.port),
            notes: self.connections.iter().map(discover::own_end).chain(missed).collect(),
            help: Some("`portolan ports` shows what listens".into()),
        }
    }

    fn object(&self) -> Value {
        let listeners: Vec<_> = self.listeners.iter().map(|listener| with_routes(listener, &self.known)).collect();
        let connections: Vec<_> = self.connections.iter().map(connection_object).collect();
        json!({
            "port": self.port,
            "usual": discover::usual(self.port),
            "listeners": listeners,
            "connections": connections,
            "table": table_object(self.known.table),
        })
    }
}

fn connection_object(connection: &Connection) -> Value {
    let owner = connection.owner.as_ref();
    json!({
        "local": connection.local.to_string(),
        "remote": connection.remote.map(|remote| remote.to_string()),
        "lingers": connection.lingers,
        "pid": owner.map(|owner| owner.pid),
        "program": owner.map(|owner| &owner.program),
    })
}
