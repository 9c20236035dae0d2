//! `portolan ps`, `logs`, `restart`, `down`: the services of the portolan that runs.

use std::{
    io::{self, Write},
    time::Duration,
};

use jiff::Timestamp;
use serde_json::json;
use tokio::time::sleep;

use super::{
    GOOD, Outcome,
    columns::{self, Column, Cut},
    flags::Global,
    lines::Look,
    running,
    terminal::Terminal,
    up::settled,
};
use crate::{
    control::api::{Accepted, Action, LogLine, ServiceStatus, ServicesOrder, Status},
    supervise::output::Stream,
};

/// Lists the services.
pub(super) fn ps(global: &Global, terminal: &Terminal) -> Outcome {
    let (_, status) = running::block_on(running::status(global))?;
    print(&status, terminal)?;
    Ok(GOOD)
}

/// Shows the last lines of services, and with `follow` those to come.
pub(super) fn logs(global: &Global, names: &[String], follow: bool, terminal: &Terminal) -> Outcome {
    running::block_on(async {
        let (client, status) = running::status(global).await?;
        let look = Look::of(status.services.iter().map(|service| service.name.as_str()), terminal);
        let query: String = names.iter().map(|name| format!("&name={name}")).collect();
        let follow = u8::from(follow);
        let mut lines = client.lines(&format!("/v1/logs?follow={follow}{query}")).await.map_err(running::unanswered)?;
        while let Some(line) = lines.next::<LogLine>().await.map_err(running::unanswered)? {
            if terminal.json {
                writeln!(io::stdout(), "{}", json!(line))?;
            } else {
                let stream = Stream::of(&line.stream);
                look.print(&line.name, stream, &line.text)?;
            }
        }
        Ok(GOOD)
    })
}

/// Ends services and starts them anew.
pub(super) fn restart(global: &Global, names: &[String], terminal: &Terminal) -> Outcome {
    let (client, accepted) = running::block_on(async {
        let client = running::client(global).await;
        let order = ServicesOrder { action: Action::Restart, names: names.to_vec(), table: None };
        let accepted: Accepted = client.post("/v1/services", &order).await.map_err(running::unanswered)?;
        Ok((client, accepted))
    })?;
    settled(client, &accepted.services, terminal)
}

/// Ends services; without names, what `up` has begun.
pub(super) fn down(global: &Global, names: &[String]) -> Outcome {
    running::block_on(async {
        let (client, status) = running::status(global).await?;
        let order = ServicesOrder { action: Action::Down, names: names.to_vec(), table: None };
        let accepted: Accepted = client.post("/v1/services", &order).await.map_err(running::unanswered)?;
        loop {
            match client.get::<Status>("/v1/status").await {
                Ok(status) if is_down(&status, &accepted.services) => return Ok(GOOD),
                Ok(_) => sleep(Duration::from_millis(50)).await,
                // A proxy that `up` has started ends with its services.
                Err(_) => {
                    running::ended(status.pid).await;
                    return Ok(GOOD);
                }
            }
        }
    })
}

fn is_down(status: &Status, names: &[String]) -> bool {
    let is_at_rest = |service: &ServiceStatus| matches!(service.state.as_str(), "stopped" | "done");
    status.services.iter().filter(|service| names.contains(&service.name)).all(is_at_rest)
}

/// A table of services, or their JSON.
pub(super) fn print(status: &Status, terminal: &Terminal) -> io::Result<()> {
    let mut out = io::stdout().lock();
    if terminal.json {
        return writeln!(out, "{}", json!({ "services": status.services }));
    }
    if status.services.is_empty() {
        return writeln!(out, "the table has no services: add some to `[services]`, as in `web = \"npm run dev\"`");
    }
    let rows: Vec<Vec<String>> = status.services.iter().map(row).collect();
    out.write_all(columns::render(&COLUMNS, &rows, terminal.width, terminal.unicode).as_bytes())
}

const COLUMNS: [Column; 6] = [
    Column { heading: "service", cut: Cut::Never },
    Column { heading: "state", cut: Cut::End(12) },
    Column { heading: "pid", cut: Cut::Never },
    Column { heading: "listens", cut: Cut::Never },
    Column { heading: "restarts", cut: Cut::End(8) },
    Column { heading: "url", cut: Cut::Never },
];

fn row(service: &ServiceStatus) -> Vec<String> {
    let addresses: Vec<String> = service.addresses.iter().map(ToString::to_string).collect();
    vec![
        service.name.clone(),
        state(service),
        service.pid.map_or_else(String::new, |pid| pid.to_string()),
        addresses.join(" "),
        if service.restarts == 0 { String::new() } else { service.restarts.to_string() },
        service.urls.first().cloned().unwrap_or_default(),
    ]
}

/// The state, with what it waits for.
fn state(service: &ServiceStatus) -> String {
    match service.state.as_str() {
        "waiting" => format!("waiting for {}", service.waits_for.join(", ")),
        "backoff" => {
            let then = service.next.as_deref().and_then(|then| then.parse::<Timestamp>().ok());
            let wait =
                then.map_or(0.0, |then| (then - Timestamp::now()).total(jiff::Unit::Second).unwrap_or(0.0).max(0.0));
            let exit = service.exit.as_deref().unwrap_or("it failed");
            format!("backoff {wait:.1} s ({exit})")
        }
        "done" | "stopped" => match &service.exit {
            Some(exit) => format!("{} ({exit})", service.state),
            None => service.state.clone(),
        },
        state => state.to_owned(),
    }
}
