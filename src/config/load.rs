//! Finds the table and reads it: from files, from the words of a command line, or from a text at hand.

use std::{
    fs::File,
    io::Read,
    path::{Path, PathBuf},
    sync::Arc,
};

#[cfg(unix)]
pub use super::trust::trusted;

use super::{
    Config, Listen,
    check::{check, listen_alone},
    document::{Document, Entry, Kind, Table, Value},
    procfile::procfile,
};
use crate::diagnostic::{Diagnostic, Source, Span, shown, without_number};

/// Ten thousand routes take half of it.
const MAX_FILE_BYTES: usize = 1024 * 1024;

/// Looked for in every folder on the way up, in this order.
const FILE_NAMES: [&str; 2] = ["portolan.toml", ".config/portolan.toml"];

/// Looked for where there is no table, in one folder alone and in this order.
const PROCFILE_NAMES: [&str; 2] = ["Procfile.dev", "Procfile"];

/// Lies beside the file and over it; not for git.
const LOCAL_FILE_NAME: &str = "portolan.local.toml";

/// The name of the text that the routes of a command line make.
const COMMAND_LINE: &str = "<command line>";

/// What came of reading a table.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// There exactly if none of `diagnostics` is an error.
    pub config: Option<Config>,
    /// In the order of the text.
    pub diagnostics: Vec<Diagnostic>,
}

impl Loaded {
    pub(super) fn from_document(document: &Document, typed: Option<&Listen>) -> Self {
        let (config, diagnostics) = check(document, typed);
        Self { config, diagnostics }
    }
}

/// The nearest file, from the folder `from` upwards.
pub fn find(from: &Path) -> Option<PathBuf> {
    let from = std::path::absolute(from).ok()?;
    from.ancestors().flat_map(|folder| FILE_NAMES.map(|name| folder.join(name))).find(|path| path.is_file())
}

/// The Procfile of the folder `from`, if there is one.
pub fn find_procfile(from: &Path) -> Option<PathBuf> {
    let from = std::path::absolute(from).ok()?;
    PROCFILE_NAMES.map(|name| from.join(name)).into_iter().find(|path| path.is_file())
}

/// Whether a file of this name is read as a Procfile: `Procfile`, `Procfile.test`.
pub(super) fn is_procfile(path: &Path) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name == "Procfile" || name.starts_with("Procfile.")
}

/// The file and the local one beside it, as absolute paths: what [`load`] reads, whether they exist or not.
pub fn files(path: &Path) -> [PathBuf; 2] {
    let main = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let local = main.with_file_name(LOCAL_FILE_NAME);
    [main, local]
}

/// Reads the file and the local one beside it, or a [`procfile`] alone; `typed` goes over what they say of `listen`.
pub fn load(path: &Path, typed: Option<&Listen>) -> Loaded {
    if is_procfile(path) {
        return procfile(path, typed);
    }
    let [main_path, local_path] = files(path);
    let main = read(&main_path);
    let local = if local_path.symlink_metadata().is_ok() { Some(read(&local_path)).transpose() } else { Ok(None) };
    match (main, local) {
        (Ok(main), Ok(local)) => Loaded::from_document(&Document::parse(main, local), typed),
        (main, local) => {
            let diagnostics = main.err().into_iter().chain(local.err()).map(|problem| *problem).collect();
            Loaded { config: None, diagnostics }
        }
    }
}

/// Reads a text that is no file; `typed` goes over what it says of `listen`.
pub fn from_str(name: &str, text: &str, typed: Option<&Listen>) -> Loaded {
    let source = Arc::new(Source { name: name.into(), path: None, text: text.into() });
    Loaded::from_document(&Document::parse(source, None), typed)
}

/// Reads the routes of a command line: `/=5173 /api=8000 docs.localhost=4000`, and `5173` for `/=5173`.
///
/// They become the same entries that a file would have, so the same checks speak about them. Where the proxy listens
/// is `typed`, too, or the default.
pub fn inline(words: &[String], typed: Option<&Listen>) -> Loaded {
    let source = Arc::new(Source { name: COMMAND_LINE.into(), path: None, text: words.join(" ") });
    let mut taken = std::collections::HashSet::new();
    let mut at = 0;
    let mut entries = Vec::with_capacity(words.len());
    for text in words {
        let word = Word { source: &source, start: at, text };
        entries.push(word.entry(&mut taken));
        at += text.len() + 1;
    }
    let whole = Span { source: Arc::clone(&source), range: 0..source.text.len() };
    let routes = Entry {
        name: "routes".into(),
        span: whole.clone(),
        value: Value { span: whole, kind: Kind::Table(Table { entries }) },
    };
    let document = Document { sources: vec![source], root: Table { entries: vec![routes] }, syntax: Vec::new() };
    let mut loaded = Loaded::from_document(&document, typed);
    for problem in loaded.diagnostics.iter_mut().filter(|problem| problem.code == "unknown-target") {
        let word = problem.at.as_ref().map(|(span, _)| span.text().to_owned()).unwrap_or_default();
        if words.contains(&word) {
            problem.helps = vec![format!("write where it leads to, as in `{word}=8000`")];
        }
    }
    loaded
}

/// Reads an address to listen on; `name` says where it came from, such as `--listen`.
///
/// Only addresses of this machine: opening the proxy to others takes `expose = true`, which stands in a file.
#[expect(clippy::result_large_err, reason = "once per start, and the caller renders it at once")]
pub fn parse_listen(text: &str, name: &str) -> Result<Listen, Diagnostic> {
    let source = Arc::new(Source { name: name.into(), path: None, text: text.into() });
    let span = Span { source, range: 0..text.len() };
    listen_alone(text, span.clone()).map_err(|problems| {
        let unsaid = || Diagnostic::error("bad-listen", "cannot listen there").at(span, "no address");
        problems.into_iter().next().unwrap_or_else(unsaid)
    })
}

/// The text of a file, if it is one.
pub(super) fn read(path: &Path) -> Result<Arc<Source>, Box<Diagnostic>> {
    let name = display_name(path);
    let unreadable = |why: String| Box::new(Diagnostic::error("unreadable-file", format!("cannot read {name}: {why}")));
    // Asked first: opening a pipe would wait for somebody to write into it.
    let metadata = path.metadata().map_err(|fault| unreadable(reason(&fault)))?;
    if !metadata.is_file() {
        let what = if metadata.is_dir() { "it is a folder" } else { "it is no regular file" };
        return Err(unreadable(what.into()));
    }
    let file = File::open(path).map_err(|fault| unreadable(reason(&fault)))?;
    let mut bytes = Vec::new();
    let limit = u64::try_from(MAX_FILE_BYTES).unwrap_or(u64::MAX).saturating_add(1);
    file.take(limit).read_to_end(&mut bytes).map_err(|fault| unreadable(reason(&fault)))?;
    if bytes.len() > MAX_FILE_BYTES {
        let problem = Diagnostic::error("file-too-large", format!("{name} is larger than {MAX_FILE_BYTES} bytes"));
        return Err(Box::new(problem.help("a table of ten thousand routes fits; is this the right file?")));
    }
    let mut text = String::from_utf8(bytes).map_err(|fault| Box::new(not_utf8(&name, &fault)))?;
    // No editor shows a byte order mark, so no column should count it.
    if text.starts_with('\u{feff}') {
        text.remove(0);
    }
    Ok(Arc::new(Source { name, path: Some(path.to_owned()), text }))
}

fn not_utf8(name: &str, fault: &std::string::FromUtf8Error) -> Diagnostic {
    let offset = fault.utf8_error().valid_up_to();
    let line = fault.as_bytes()[..offset].iter().filter(|byte| **byte == b'\n').count() + 1;
    let byte = fault.as_bytes().get(offset).copied().unwrap_or_default();
    Diagnostic::error("not-utf-8", format!("{name} is not UTF-8 text"))
        .note(format!("the byte 0x{byte:02x} at offset {offset}, in line {line}, begins no character"))
        .help("save it as UTF-8")
}

fn reason(fault: &std::io::Error) -> String {
    match fault.kind() {
        std::io::ErrorKind::NotFound => "there is no such file".into(),
        _ => without_number(fault),
    }
}

/// Relative to the current folder where it lies beneath it, with `~` for home otherwise.
pub(super) fn display_name(path: &Path) -> String {
    let current = std::env::current_dir().ok();
    if let Some(inside) = current.as_deref().and_then(|current| path.strip_prefix(current).ok()) {
        return inside.display().to_string();
    }
    shown(path)
}

/// One `PATTERN=TARGET` and where it stands among the others.
struct Word<'a> {
    source: &'a Arc<Source>,
    start: usize,
    text: &'a str,
}

impl Word<'_> {
    fn entry(&self, taken: &mut std::collections::HashSet<String>) -> Entry {
        let (pattern, target, target_at) = match self.text.split_once('=') {
            Some((pattern, target)) => (pattern, target, pattern.len() + 1),
            None => ("/", self.text, 0),
        };
        let mut entries = Vec::with_capacity(3);
        let (host, path) = match pattern.find('/') {
            Some(slash) => pattern.split_at(slash),
            None => (pattern, ""),
        };
        if !host.is_empty() || path.is_empty() {
            entries.push(self.pair("host", host, 0));
        }
        if !path.is_empty() {
            entries.push(self.pair("path", path, host.len()));
        }
        entries.push(self.pair("to", target, target_at));
        let span = self.span(0, self.text.len());
        let value = Value { span: span.clone(), kind: Kind::Table(Table { entries }) };
        Entry { name: unique(&derived_name(host, path), taken), span, value }
    }

    fn pair(&self, name: &str, text: &str, at: usize) -> Entry {
        // A pattern that was not written (`5173` for `/=5173`) stands where the whole word stands.
        let span =
            if self.text[at..].starts_with(text) { self.span(at, text.len()) } else { self.span(0, self.text.len()) };
        Entry { name: name.into(), span: span.clone(), value: Value { span, kind: Kind::String(text.into()) } }
    }

    fn span(&self, at: usize, len: usize) -> Span {
        let start = self.start + at;
        Span { source: Arc::clone(self.source), range: start..start + len }
    }
}

/// `root` for `/`, `api-v1` for `/api/v1`, `docs` for `docs.localhost`.
fn derived_name(host: &str, path: &str) -> String {
    let host = host.strip_suffix(".localhost").unwrap_or(host);
    let words: Vec<String> = format!("{host}/{path}")
        .split(|c: char| !c.is_ascii_alphanumeric())
        .filter(|word| !word.is_empty())
        .map(str::to_ascii_lowercase)
        .collect();
    let mut name = words.join("-");
    // Names have a bound, and the number that makes one unique needs room.
    name.truncate(60);
    if name.is_empty() { "root".into() } else { name }
}

fn unique(name: &str, taken: &mut std::collections::HashSet<String>) -> String {
    let mut candidate = name.to_owned();
    let mut number = 2;
    while !taken.insert(candidate.clone()) {
        candidate = format!("{name}-{number}");
        number += 1;
    }
    candidate
}
