//! `portolan up`: the proxy and the services of the table, here or in the background, or in the proxy that runs already.

use std::{
    path::PathBuf,
    time::{Duration, Instant},
};

use tokio::time::sleep;

use super::{
    BAD, GOOD, Outcome, Stop, background,
    flags::{Global, Up},
    lines::Look,
    running, serve, services, table_file,
    terminal::Terminal,
};
use crate::{
    config::load,
    control::{
        CallError, Client,
        api::{Accepted, Action, LogLine, ServicesOrder, Status},
    },
    diagnostic::Diagnostic,
    supervise::output::Stream,
};

/// How long `up -d` and `restart` look on before they leave a slow start to itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often they look.
const LOOK: Duration = Duration::from_millis(50);

/// Starts services.
pub(super) fn run(global: &Global, arguments: &Up, terminal: &Terminal) -> Outcome {
    let began = Instant::now();
    if arguments.detached {
        serve::detach();
    }
    let file = table(global, terminal)?;
    let typed = super::typed_listen(arguments.listen.as_deref())?;
    let (config, table) = serve::watched(&file, typed, terminal)?;
    if config.services.is_empty() {
        let problem = Diagnostic::error("no-services", format!("{} names no service", crate::diagnostic::shown(&file)))
            .help("add some to `[services]`, as in `web = \"npm run dev\"`; `portolan` alone serves the routes");
        return Err(Stop::Told(vec![problem], BAD));
    }
    let port = config.listen.required.first().map_or(0, std::net::SocketAddr::port);
    let order = ServicesOrder { action: Action::Up, names: arguments.services.clone(), table: Some(file.clone()) };
    let joined = running::block_on(async {
        if arguments.detached {
            return Ok(None);
        }
        match Client::new(port).post::<Accepted>("/v1/services", &order).await {
            Ok(accepted) => Ok(Some(accepted)),
            Err(CallError::NotRunning(_)) => Ok(None),
            Err(error) => Err(running::unanswered(error)),
        }
    })?;
    match joined {
        Some(accepted) if arguments.detach => settled(Client::new(port), &accepted.services, terminal),
        Some(accepted) => attached(Client::new(port), accepted.services, terminal),
        None if arguments.detach => in_background(file, arguments.listen.as_deref(), port, &order, terminal),
        None => {
            let attached = !arguments.detached;
            serve::serve(config, table, serve::Task::Up { names: order.names, attached }, terminal, began)
        }
    }
}

/// The table: one that was named, one that is found and can be trusted, or a Procfile.
pub(super) fn table(global: &Global, terminal: &Terminal) -> Result<PathBuf, Stop> {
    if let Some(named) = &global.config {
        return Ok(load::files(named)[0].clone());
    }
    if let Some(found) = table_file(global) {
        load::trusted(&found)?;
        return Ok(found);
    }
    let procfile = std::env::current_dir().ok().and_then(|here| load::find_procfile(&here));
    let Some(procfile) = procfile else {
        let problem = Diagnostic::error("no-table", "there is no portolan.toml here or above, and no Procfile here")
            .help("write one with `portolan init`, or name one with `-c FILE`");
        return Err(Stop::Told(vec![problem], super::usage()));
    };
    load::trusted(&procfile)?;
    if !terminal.quiet {
        let name = procfile.file_name().unwrap_or_default().to_string_lossy().into_owned();
        terminal.tell(&[Diagnostic::warning("procfile", format!("there is no portolan.toml: {name} is read instead"))]);
    }
    Ok(procfile)
}

fn in_background(
    file: PathBuf,
    listen: Option<&str>,
    port: u16,
    order: &ServicesOrder,
    terminal: &Terminal,
) -> Outcome {
    let mut words = vec!["up".into(), "--detached".into(), "-c".into(), file.into_os_string()];
    if let Some(listen) = listen {
        words.extend(["--listen".into(), listen.into()]);
    }
    words.extend(order.names.iter().map(Into::into));
    background::start(words)?;
    let names = running::block_on(async {
        let status: Status = Client::new(port).get("/v1/status").await.map_err(running::unanswered)?;
        let wanted = |name: &String| order.names.is_empty() || order.names.contains(name);
        Ok(status.services.into_iter().map(|service| service.name).filter(wanted).collect::<Vec<_>>())
    })?;
    settled(Client::new(port), &names, terminal)
}

/// Waits until it is known what becomes of these services, and shows it; an error if one of them has failed.
pub(super) fn settled(client: Client, names: &[String], terminal: &Terminal) -> Outcome {
    running::block_on(async {
        let began = Instant::now();
        loop {
            let status: Status = client.get("/v1/status").await.map_err(running::unanswered)?;
            let concerned = || status.services.iter().filter(|service| names.contains(&service.name));
            let has_failed = concerned().any(|service| service.state == "backoff" && service.restarts > 0);
            let is_open = |state: &str| matches!(state, "waiting" | "starting" | "stopping" | "backoff");
            let is_settled = !concerned().any(|service| is_open(&service.state));
            if is_settled || has_failed || began.elapsed() >= PATIENCE {
                services::print(&status, terminal)?;
                return Ok(if is_settled { GOOD } else { BAD });
            }
            sleep(LOOK).await;
        }
    })
}

/// Shows the lines of these services until a signal comes, and then ends them.
fn attached(client: Client, names: Vec<String>, terminal: &Terminal) -> Outcome {
    let look = Look::of(names.iter().map(String::as_str), terminal);
    running::block_on(async {
        let query: String = names.iter().map(|name| format!("&name={name}")).collect();
        let mut lines = client.lines(&format!("/v1/logs?follow=1{query}")).await.map_err(running::unanswered)?;
        loop {
            tokio::select! {
                line = lines.next::<LogLine>() => match line.map_err(running::unanswered)? {
                    Some(line) => {
                        let stream = Stream::of(&line.stream);
                        look.print(&line.name, stream, &line.text)?;
                    }
                    None => return Ok(GOOD),
                },
                _ = serve::end_asked() => break,
            }
        }
        let order = ServicesOrder { action: Action::Down, names, table: None };
        client.post::<Accepted>("/v1/services", &order).await.map_err(running::unanswered)?;
        Ok(GOOD)
    })
}
