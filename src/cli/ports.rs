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
    terminal::Terminal,
};
use crate::{
    config::Route,
    diagnostic::{Diagnostic, printable, shown},
    discover::{self, Connection, Leads, Listener},
    doctor::Table,
};

/// Lists what listens, or tells all of one port.
pub(super) fn run(global: &Global, arguments: &Ports, terminal: &Terminal) -> Outcome {
    let table = super::table_if_any(global, None)?;
    let known = Known::of(&table);
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

/// The table, and where its routes lead now.
struct Known<'a> {
    table: &'a Table,
    leads: Option<Leads<'a>>,
}

impl<'a> Known<'a> {
    fn of(table: &'a Table) -> Self {
        Self { table, leads: table.config().map(Leads::now) }
    }

    /// The routes that lead to a listener.
    fn routes_to(&self, listener: &Listener) -> Vec<&'a Route> {
        self.leads.iter().flat_map(|leads| leads.to(listener)).collect()
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
    let routes = |listener: &Listener| names(&known.routes_to(listener)).join(", ");
    let mut out = io::stdout().lock();
    if terminal.json {
        let rows: Vec<_> = listeners.iter().map(|listener| with_routes(listener, known)).collect();
        writeln!(out, "{}", json!({ "listeners": rows, "table": table_object(known.table) }))?;
        return Ok(GOOD);
    }
    if listeners.is_empty() {
        writeln!(out, "nothing listens on this machine")?;
    }
    let command = |listener: &Listener| listener.owner.as_ref().map(|owner| owner.command.clone()).unwrap_or_default();
    let extra: [Extra<'_>; 2] = [
        (Column { heading: "route", cut: Cut::Never }, &routes),
        (Column { heading: "command", cut: Cut::End(16) }, &command),
    ];
    out.write_all(rows(listeners, &extra, terminal).as_bytes())?;
    terminal.tell(&Vec::from_iter(refusal(known.table)));
    Ok(GOOD)
}

/// A column that only some lists of listeners have, and what stands in it.
pub(super) type Extra<'a> = (Column, &'a dyn Fn(&Listener) -> String);

/// A row per listener; nothing for no listeners.
pub(super) fn rows(listeners: &[Listener], extra: &[Extra<'_>], terminal: &Terminal) -> String {
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
        let owner = listener.owner.as_ref();
        let mut cells = vec![
            listener.address.port().to_string(),
            listener.address.ip().to_string(),
            program(listener),
            owner.map(|owner| owner.pid.to_string()).unwrap_or_default(),
            owner.and_then(|owner| owner.started).map(|since| day_or_time(since, &now)).unwrap_or_default(),
            owner.and_then(|owner| owner.folder.as_deref()).map(|folder| printable(&shown(folder))).unwrap_or_default(),
        ];
        cells.extend(extra.iter().map(|(_, cell)| cell(listener)));
        cells
    };
    columns::render(&columns, &listeners.iter().map(row).collect::<Vec<_>>(), terminal.width, terminal.unicode)
}

/// What it is called, or whose it is.
fn program(listener: &Listener) -> String {
    match (&listener.owner, listener.user()) {
        (Some(owner), _) => owner.program.clone(),
        (None, Some(user)) => format!("(of {user})"),
        (None, None) => "(not visible)".into(),
    }
}

/// The time of today, the date of any other day.
fn day_or_time(moment: SystemTime, now: &Zoned) -> String {
    let Ok(moment) = Timestamp::try_from(moment) else { return String::new() };
    let moment = moment.to_zoned(now.time_zone().clone());
    moment.strftime(if moment.date() == now.date() { "%H:%M" } else { "%Y-%m-%d" }).to_string()
}

/// The stable fields of a listener, for every list of them.
pub(super) fn object(listener: &Listener) -> Value {
    let owner = listener.owner.as_ref();
    let started = owner.and_then(|owner| owner.started).and_then(|started| Timestamp::try_from(started).ok());
    json!({
        "address": listener.address.to_string(),
        "port": listener.address.port(),
        "pid": owner.map(|owner| owner.pid),
        "program": owner.map(|owner| &owner.program),
        "command": owner.map(|owner| &owner.command),
        "folder": owner.and_then(|owner| owner.folder.as_ref()),
        "started": started.map(|started| started.to_string()),
        "uid": listener.uid,
        "user": listener.user(),
    })
}

fn with_routes(listener: &Listener, known: &Known<'_>) -> Value {
    let mut object = object(listener);
    let routes = || json!(names(&known.routes_to(listener)));
    object["routes"] = if matches!(known.table, Table::Refused(_)) { Value::Null } else { routes() };
    object
}

fn names<'a>(routes: &[&'a Route]) -> Vec<&'a str> {
    routes.iter().map(|route| route.name.as_str()).collect()
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

    /// The listeners of each holder together.
    fn holders(&self) -> Vec<Vec<&Listener>> {
        let mut holders: Vec<Vec<&Listener>> = Vec::new();
        for listener in &self.listeners {
            let same = |held: &&mut Vec<&Listener>| held[0].owner == listener.owner && held[0].uid == listener.uid;
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
        let routes = held.iter().flat_map(|listener| self.known.routes_to(listener));
        let note = |route: &Route| format!("route `{}` leads there ({})", route.name, route.origin.location());
        for note in routes.map(note) {
            // One that tries both loopback addresses leads to two listeners.
            if !notes.contains(&note) {
                notes.push(note);
            }
        }
        let help = match &first.owner {
            Some(owner) => discover::way_to_end(owner),
            None if first.is_own() => {
                "look where it was started, in a container perhaps: it is out of sight here".into()
            }
            None => format!("see more of it with `sudo portolan ports {}`", self.port),
        };
        let holder = discover::holder(first, first.user().as_deref(), now);
        Answer { message: format!("{} is held by {holder}", self.port), notes, help: Some(help) }
    }

    fn free(&self) -> Answer {
        let would_be = Listener { address: ([127, 0, 0, 1], self.port).into(), owner: None, uid: None };
        let missed =
            self.known.routes_to(&would_be).into_iter().map(|route| {
                format!("route `{}` leads there and meets nobody ({})", route.name, route.origin.location())
            });
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
