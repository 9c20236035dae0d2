//! Prints the lines of services, each behind its name, on the stream that it came from.

use std::{
    collections::HashMap,
    io::{self, Write},
    sync::Arc,
    thread::{self, JoinHandle},
    time::Duration,
};

use tokio::{sync::mpsc, task::spawn_blocking, time::timeout};

use super::terminal::Terminal;
use crate::{
    config::Service,
    supervise::output::{Line, Printer, Stream},
};

/// Lines that wait for a slow reader before the programs wait, too.
const WAITING: usize = 256;

/// One after the other, for names; red and grey mean something elsewhere.
const COLOURS: [u8; 6] = [36, 33, 32, 35, 34, 96];

/// How lines look: names in a column of one width, each in a colour of its own.
#[derive(Debug, Clone)]
pub(super) struct Look {
    width: usize,
    colours: HashMap<String, u8>,
    colour_out: bool,
    colour_err: bool,
    bar: char,
}

impl Look {
    /// For services of these names.
    pub(super) fn of<'n>(names: impl Iterator<Item = &'n str> + Clone, terminal: &Terminal) -> Self {
        Self {
            width: names.clone().map(|name| name.chars().count()).max().unwrap_or(0),
            colours: names.map(str::to_owned).zip(COLOURS.into_iter().cycle()).collect(),
            colour_out: terminal.colors_out(),
            colour_err: terminal.colors_err(),
            bar: if terminal.unicode { '│' } else { '|' },
        }
    }

    /// `api │ text`
    fn line(&self, name: &str, text: &str, colour: bool) -> String {
        let (width, bar) = (self.width, self.bar);
        match self.colours.get(name).filter(|_| colour) {
            // What the program's own colours have begun ends with its line.
            Some(code) => format!("\x1b[{code}m{name:<width$} {bar}\x1b[0m {text}\x1b[0m\n"),
            None => format!("{name:<width$} {bar} {text}\n"),
        }
    }

    /// Writes a line where it came from.
    pub(super) fn print(&self, name: &str, stream: Stream, text: &str) -> io::Result<()> {
        match stream {
            Stream::Out => io::stdout().write_all(self.line(name, text, self.colour_out).as_bytes()),
            Stream::Err | Stream::Note => io::stderr().write_all(self.line(name, text, self.colour_err).as_bytes()),
        }
    }
}

/// A thread that prints, so that a reader who is slow delays the programs and nothing else.
pub(super) struct LinePrinter {
    sender: Printer,
    thread: JoinHandle<()>,
}

impl LinePrinter {
    /// For these services.
    pub(super) fn spawn(services: &[Service], terminal: &Terminal) -> io::Result<Self> {
        let look = Look::of(services.iter().map(|service| service.name.as_str()), terminal);
        let (sender, mut lines) = mpsc::channel::<Line>(WAITING);
        let thread = thread::Builder::new().name("lines".into()).spawn(move || {
            while let Some(Line { name, stream, text }) = lines.blocking_recv() {
                // A reader that is gone takes the lines with it, not the programs.
                let _ = look.print(&Arc::clone(&name), stream, &text);
            }
        })?;
        Ok(Self { sender, thread })
    }

    /// For those whose lines it prints.
    pub(super) fn sender(&self) -> Printer {
        self.sender.clone()
    }

    /// Prints what is left, for as long as `patience` lasts: the programs that have ended let go of it one by one.
    pub(super) async fn finish(self, patience: Duration) {
        let Self { sender, thread } = self;
        drop(sender);
        // A thread that waits for a reader who never reads is left behind.
        let _ = timeout(patience, spawn_blocking(|| thread.join())).await;
    }
}
