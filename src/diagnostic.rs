//! What is wrong, where, and what to do: one value, told as text or as JSON.
//!
//! Every problem that a person can mend is a [`Diagnostic`] first. The terminal, `--json` and later the
//! dashboard render the same value, so no message exists in three wordings. Nothing is printed here:
//! [`render`] returns a string and `cli` decides where it goes.

use std::{
    io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use annotate_snippets::{AnnotationKind, Group, Level, Patch as Suggestion, Renderer, Snippet};
use serde_json::{Value, json};

/// A text that spans point into: a file, or the words of a command line.
#[derive(Debug, PartialEq, Eq)]
pub struct Source {
    /// As a person would name it: relative to the current folder where it can be, or `<command line>`.
    pub name: String,
    /// Where it lies on disk, if it does.
    pub path: Option<PathBuf>,
    /// The whole text, exactly as it was read.
    pub text: String,
}

impl Source {
    /// Line and column, both from 1; columns count characters, as editors do.
    pub fn position(&self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let line_start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1)
    }
}

/// A stretch of one [`Source`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// The text that `range` counts bytes of.
    pub source: Arc<Source>,
    /// Byte offsets, never past the end of the text.
    pub range: Range<usize>,
}

impl Span {
    /// `portolan.toml:8:25`.
    pub fn location(&self) -> String {
        let (line, column) = self.source.position(self.range.start);
        format!("{}:{line}:{column}", self.source.name)
    }

    /// The text that the span covers.
    pub fn text(&self) -> &str {
        self.source.text.get(self.range.clone()).unwrap_or_default()
    }
}

/// How bad it is: an error refuses the table, a warning does not.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Severity {
    /// Nothing of the input is taken over.
    Error,
    /// Taken over, but probably not what was meant.
    Warning,
}

/// The edit that would mend it: `with` in the place of `at`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Patch {
    /// One line that says what the edit does.
    pub message: String,
    /// What is replaced; an empty span inserts.
    pub at: Span,
    /// The new text.
    pub with: String,
}

/// One problem: what failed, where, why, and the next step.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diagnostic {
    /// Kebab-case and stable; the same word as in `x-portolan-error` where both exist.
    pub code: &'static str,
    /// Whether the input is refused.
    pub severity: Severity,
    /// A lowercase fragment without a full stop.
    pub message: String,
    /// Where, with the few words beside the marked text.
    pub at: Option<(Span, String)>,
    /// Other places that belong to it, such as the first of two clashing routes.
    pub related: Vec<(Span, String)>,
    /// Causes found by looking.
    pub notes: Vec<String>,
    /// One edit or command each.
    pub helps: Vec<String>,
    /// The line as it would be.
    pub patch: Option<Patch>,
}

impl Diagnostic {
    /// An error without a place yet.
    pub fn error(code: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            severity: Severity::Error,
            message: message.into(),
            at: None,
            related: Vec::new(),
            notes: Vec::new(),
            helps: Vec::new(),
            patch: None,
        }
    }

    /// A warning without a place yet.
    pub fn warning(code: &'static str, message: impl Into<String>) -> Self {
        Self { severity: Severity::Warning, ..Self::error(code, message) }
    }

    /// Marks the place.
    #[must_use]
    pub fn at(mut self, span: Span, label: impl Into<String>) -> Self {
        self.at = Some((span, label.into()));
        self
    }

    /// Marks another place that belongs to it.
    #[must_use]
    pub fn related(mut self, span: Span, label: impl Into<String>) -> Self {
        self.related.push((span, label.into()));
        self
    }

    /// Adds a cause.
    #[must_use]
    pub fn note(mut self, note: impl Into<String>) -> Self {
        self.notes.push(note.into());
        self
    }

    /// Adds a next step.
    #[must_use]
    pub fn help(mut self, help: impl Into<String>) -> Self {
        self.helps.push(help.into());
        self
    }

    /// Shows the line as it would be.
    #[must_use]
    pub fn patch(mut self, message: impl Into<String>, at: Span, with: impl Into<String>) -> Self {
        self.patch = Some(Patch { message: message.into(), at, with: with.into() });
        self
    }

    /// Whether this one refuses the input.
    pub fn is_error(&self) -> bool {
        self.severity == Severity::Error
    }

    /// The stable object of `--json`: `{code, severity, message, file, line, column, end_column, notes, help, patch}`.
    ///
    /// `end_column` is the first column after the mark when it ends on the same line, otherwise absent.
    pub fn to_json(&self) -> Value {
        let place = self.at.as_ref().map(|(span, _)| {
            let (line, column) = span.source.position(span.range.start);
            let (end_line, end_column) = span.source.position(span.range.end);
            (span.source.name.clone(), line, column, (end_line == line).then_some(end_column))
        });
        let related: Vec<Value> =
            self.related.iter().map(|(span, label)| json!({ "at": span.location(), "message": label })).collect();
        json!({
            "code": self.code,
            "severity": match self.severity { Severity::Error => "error", Severity::Warning => "warning" },
            "message": self.message,
            "file": place.as_ref().map(|(file, ..)| file),
            "line": place.as_ref().map(|(_, line, ..)| line),
            "column": place.as_ref().map(|(_, _, column, _)| column),
            "end_column": place.as_ref().and_then(|(.., end)| *end),
            "related": related,
            "notes": self.notes,
            "help": self.helps,
            "patch": self.patch.as_ref().map(|patch| json!({
                "message": patch.message, "at": patch.at.location(), "replace": patch.at.text(), "with": patch.with,
            })),
        })
    }
}

/// The diagnostics as a person reads them, in the look of cargo; complete without colour.
pub fn render(diagnostics: &[Diagnostic], color: bool) -> String {
    let renderer = if color { Renderer::styled() } else { Renderer::plain() };
    diagnostics.iter().map(|diagnostic| render_one(diagnostic, &renderer) + "\n").collect::<Vec<_>>().join("\n")
}

fn render_one(diagnostic: &Diagnostic, renderer: &Renderer) -> String {
    let level = match diagnostic.severity {
        Severity::Error => Level::ERROR,
        Severity::Warning => Level::WARNING,
    };
    let message = printable(&diagnostic.message);
    let mut group = Group::with_title(level.primary_title(message).id(diagnostic.code));
    if let Some((span, label)) = &diagnostic.at {
        // Places of one file share a snippet, so that two clashing lines stand under each other.
        let (here, elsewhere): (Vec<_>, Vec<_>) =
            diagnostic.related.iter().partition(|(other, _)| Arc::ptr_eq(&other.source, &span.source));
        let mut snippet =
            snippet_of(span).annotation(AnnotationKind::Primary.span(span.range.clone()).label(printable(label)));
        for (other, label) in here {
            snippet = snippet.annotation(AnnotationKind::Context.span(other.range.clone()).label(printable(label)));
        }
        group = group.element(snippet);
        for (other, label) in elsewhere {
            group = group.element(
                snippet_of(other).annotation(AnnotationKind::Context.span(other.range.clone()).label(printable(label))),
            );
        }
    }
    for note in &diagnostic.notes {
        group = group.element(Level::NOTE.message(printable(note)));
    }
    for help in &diagnostic.helps {
        group = group.element(Level::HELP.message(printable(help)));
    }
    let mut report = vec![group];
    if let Some(patch) = &diagnostic.patch {
        report.push(
            Group::with_title(Level::HELP.secondary_title(printable(&patch.message))).element(
                Snippet::source(patch.at.source.text.as_str())
                    .path(patch.at.source.name.as_str())
                    .patch(Suggestion::new(patch.at.range.clone(), patch.with.as_str())),
            ),
        );
    }
    renderer.render(&report)
}

fn snippet_of<'a>(span: &'a Span) -> Snippet<'a, annotate_snippets::Annotation<'a>> {
    Snippet::source(span.source.text.as_str()).path(span.source.name.as_str())
}

/// `text` with control characters shown as escapes, so that no input can drive a terminal.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() && c != '\n' { out.extend(c.escape_default()) } else { out.push(c) }
    }
    out
}

/// What the system says of an error, as the end of a message: without the number that Rust adds, which tells people
/// nothing.
pub fn without_number(error: &io::Error) -> String {
    let text = error.to_string();
    let words = text.split_once(" (os error ").map_or(text.as_str(), |(words, _)| words).trim_end_matches('.');
    let mut letters = words.chars();
    letters.next().map(|first| first.to_lowercase().chain(letters).collect()).unwrap_or_default()
}

/// `path` as a person writes it, with `~` for the home folder.
pub fn shown(path: &Path) -> String {
    // A folder's name may hold anything but NUL: none of it may drive a terminal or break a line.
    printable(&with_tilde(path, std::env::home_dir().as_deref())).replace('\n', "\\n")
}

/// A home that is the root, as some containers have it, would put a `~` in front of everything.
fn with_tilde(path: &Path, home: Option<&Path>) -> String {
    let home = home.filter(|home| home.parent().is_some());
    match home.and_then(|home| path.strip_prefix(home).ok()) {
        Some(rest) if rest.as_os_str().is_empty() => "~".into(),
        Some(rest) => Path::new("~").join(rest).display().to_string(),
        None => path.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn span(text: &str, range: Range<usize>) -> Span {
        let source = Source { name: "portolan.toml".into(), path: None, text: text.into() };
        Span { source: Arc::new(source), range }
    }

    #[test]
    fn columns_count_characters_and_not_bytes() {
        assert_eq!(span("a = \"é\" b", 9..10).location(), "portolan.toml:1:9");
    }

    #[test]
    fn a_problem_is_shown_with_its_line_and_its_patch() {
        let text = "[routes]\napi = { tagret = 8000 }\n";
        let problem = Diagnostic::error("unknown-key", "route `api` has no key `tagret`")
            .at(span(text, 17..23), "not a key of a route")
            .patch("a key with a similar name exists", span(text, 17..23), "to");
        let shown = render(&[problem], false);
        assert!(shown.starts_with("error[unknown-key]: route `api` has no key `tagret`\n"), "{shown}");
        assert!(shown.contains("--> portolan.toml:2:9"), "{shown}");
        assert!(shown.contains("api = { to = 8000 }"), "{shown}");
    }

    #[test]
    fn control_bytes_reach_no_terminal() {
        assert_eq!(printable("a\u{1b}[31m"), "a\\u{1b}[31m");
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn words_of_the_system_come_without_its_number() {
        let error = io::Error::from(rustix::io::Errno::MFILE);
        assert!(error.to_string().contains("os error"), "{error}");
        assert_eq!(without_number(&error), "too many open files");
    }

    #[test]
    fn words_of_our_own_stay_but_for_the_capital_and_the_full_stop() {
        assert_eq!(without_number(&io::Error::other("The pipe of NASA is closed.")), "the pipe of NASA is closed");
        assert_eq!(without_number(&io::Error::other("")), "");
    }

    #[test]
    fn only_what_lies_beneath_home_is_shortened() {
        let home = Some(Path::new("/home/ada"));
        assert_eq!(with_tilde(Path::new("/home/ada"), home), "~");
        assert_eq!(with_tilde(Path::new("/home/ada/shop"), home), "~/shop");
        assert_eq!(with_tilde(Path::new("/home/adam/x"), home), "/home/adam/x");
        assert_eq!(with_tilde(Path::new("/srv"), None), "/srv");
    }

    #[test]
    fn a_home_that_is_the_root_or_nothing_shortens_nothing() {
        for home in ["/", ""] {
            assert_eq!(with_tilde(Path::new("/srv"), Some(Path::new(home))), "/srv", "{home}");
        }
    }
}
