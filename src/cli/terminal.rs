//! How things are said: in colour or not, as text or as JSON, to people or to programs.

use std::io::{self, IsTerminal, Write};

use anstream::{AutoStream, ColorChoice};
use jiff::{Timestamp, Zoned};
use serde_json::json;

use super::flags::{Color, Global};
use crate::diagnostic::{self, Diagnostic};

/// How wide a column grows with its texts: a longer one, such as a list of a hundred hosts, sticks out.
pub(super) const WIDEST_COLUMN: usize = 100;

/// What is known of the two standard streams, and what was asked for.
#[derive(Debug, Clone, Copy)]
pub(super) struct Terminal {
    /// Answers are JSON.
    pub json: bool,
    /// Only warnings and errors.
    pub quiet: bool,
    /// More than usual.
    pub verbose: bool,
    /// A person reads standard output.
    pub interactive: bool,
    /// `➜ ● ○` may be written.
    pub unicode: bool,
    /// Characters of a line; `None` where nobody reads that would mind.
    pub width: Option<usize>,
    color: Color,
}

impl Terminal {
    pub(super) fn new(global: &Global) -> Self {
        Self {
            json: global.json,
            quiet: global.quiet,
            verbose: global.verbose,
            interactive: io::stdout().is_terminal(),
            unicode: locale_is_utf8(),
            width: width(),
            color: global.color,
        }
    }

    /// Whether to colour standard output.
    pub(super) fn colors_out(&self) -> bool {
        self.colors(&io::stdout())
    }

    /// Whether to colour standard error.
    pub(super) fn colors_err(&self) -> bool {
        self.colors(&io::stderr())
    }

    fn colors(&self, stream: &impl anstream::stream::RawStream) -> bool {
        match self.color {
            Color::Always => true,
            Color::Never => false,
            Color::Auto => AutoStream::choice(stream) != ColorChoice::Never,
        }
    }

    /// Shows problems on standard error; as JSON lines on standard output where JSON was asked for.
    pub(super) fn tell(&self, diagnostics: &[Diagnostic]) {
        let text = self.problems(diagnostics);
        // Nobody is left to tell that telling failed.
        let _ =
            if self.json { io::stdout().write_all(text.as_bytes()) } else { io::stderr().write_all(text.as_bytes()) };
    }

    /// Problems as they are told: for people, or one object per line.
    pub(super) fn problems(&self, diagnostics: &[Diagnostic]) -> String {
        if self.json {
            diagnostics.iter().map(|problem| problem.to_json().to_string() + "\n").collect()
        } else {
            diagnostic::render(diagnostics, self.colors_err())
        }
    }

    /// A word to a person, beside whatever runs.
    pub(super) fn hint(&self, message: &str) {
        let arrow = if self.unicode { "➜" } else { ">" };
        // Nobody is left to tell that telling failed.
        let _ = writeln!(io::stderr(), "  {arrow}  {message}");
    }

    /// A line of the log: after the time of day, or as an object.
    pub(super) fn note(&self, message: &str) -> String {
        if self.json {
            format!("{}\n", json!({ "time": Timestamp::now().to_string(), "message": message }))
        } else {
            format!("{}  {message}\n", Zoned::now().strftime("%H:%M:%S%.3f"))
        }
    }
}

/// The width of the terminal that standard output is; one that does not know its width says 0.
fn width() -> Option<usize> {
    let size = rustix::termios::tcgetwinsize(io::stdout()).ok()?;
    Some(usize::from(size.ws_col)).filter(|width| *width > 0)
}

fn locale_is_utf8() -> bool {
    let set =
        ["LC_ALL", "LC_CTYPE", "LANG"].into_iter().find_map(|name| std::env::var(name).ok().filter(|v| !v.is_empty()));
    // Nothing set is the case of containers and CI, whose logs are read elsewhere.
    set.is_none_or(|locale| {
        let locale = locale.to_ascii_lowercase();
        locale.contains("utf-8") || locale.contains("utf8")
    })
}
