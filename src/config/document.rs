//! The file as it was written: every value with the place where it stands.
//!
//! Nothing is judged here but the grammar of TOML. A second file, `portolan.local.toml`, may lie over the first;
//! as every span remembers its own text, a message about a merged table still points into the right file.

use std::{
    hash::{DefaultHasher, Hash, Hasher},
    mem,
    ops::Range,
    sync::Arc,
};

use toml::de::{DeInteger, DeTable, DeValue};

use crate::diagnostic::{Diagnostic, Source, Span};

/// Deeper than any table of ours by far; bounds the recursion over a hostile file.
const MAX_DEPTH: usize = 32;

/// More only say that the file is something else than TOML.
const MAX_SYNTAX_ERRORS: usize = 100;

/// The sections whose entries a local file replaces by name, not as a whole.
const MERGED: [&str; 3] = ["routes", "services", "tcp"];

/// One or two parsed files, laid over each other.
#[derive(Debug)]
pub struct Document {
    /// In the order in which problems are told: the file, then the local one.
    pub sources: Vec<Arc<Source>>,
    /// Both files as one.
    pub root: Table,
    /// What is no TOML.
    pub syntax: Vec<Diagnostic>,
}

/// Keys and values in the order of the text; every key occurs once.
#[derive(Debug, Clone, Default)]
pub struct Table {
    /// The pairs.
    pub entries: Vec<Entry>,
}

/// One `key = value`, or a header with what stands beneath it.
#[derive(Debug, Clone)]
pub struct Entry {
    /// Without its quotes.
    pub name: String,
    /// Where the name stands.
    pub span: Span,
    /// What it is set to.
    pub value: Value,
}

/// One value.
#[derive(Debug, Clone)]
pub struct Value {
    /// Where it stands; for a table with a header of its own, the header.
    pub span: Span,
    /// What it is.
    pub kind: Kind,
}

/// The types of TOML.
#[derive(Debug, Clone)]
pub enum Kind {
    /// `"text"`
    String(String),
    /// `1`
    Integer(i64),
    /// `1.5`
    Float(f64),
    /// `true`
    Boolean(bool),
    /// A date or a time, as written.
    Datetime(String),
    /// `[1, 2]`
    Array(Vec<Value>),
    /// `{ a = 1 }`, `[a]`
    Table(Table),
}

impl Document {
    /// Parses the file and the one that overrides it.
    pub fn parse(main: Arc<Source>, local: Option<Arc<Source>>) -> Self {
        let mut sources = vec![Arc::clone(&main)];
        let (mut root, mut syntax) = parse_one(&main);
        if let Some(local) = local {
            let (over, problems) = parse_one(&local);
            root.override_with(over);
            syntax.extend(problems);
            sources.push(local);
        }
        Self { sources, root, syntax }
    }
}

impl Table {
    /// The value of `name`.
    pub fn get(&self, name: &str) -> Option<&Value> {
        self.entry(name).map(|entry| &entry.value)
    }

    /// The pair whose key is `name`. A linear search: only tables with a handful of keys are asked.
    pub fn entry(&self, name: &str) -> Option<&Entry> {
        self.entries.iter().find(|entry| entry.name == name)
    }

    fn override_with(&mut self, over: Self) {
        for entry in over.entries {
            let Some(mine) = self.entries.iter_mut().find(|mine| mine.name == entry.name) else {
                self.entries.push(entry);
                continue;
            };
            match (&mut mine.value.kind, entry.value.kind) {
                (Kind::Table(mine), Kind::Table(over)) if MERGED.contains(&entry.name.as_str()) => {
                    mine.replace_entries(over);
                }
                (_, kind) => *mine = Entry { value: Value { kind, ..entry.value }, ..entry },
            }
        }
    }

    /// Entries of the same name are replaced where they stand, others follow at the end.
    fn replace_entries(&mut self, over: Self) {
        let mut places: std::collections::HashMap<String, usize> =
            self.entries.iter().enumerate().map(|(at, entry)| (entry.name.clone(), at)).collect();
        for entry in over.entries {
            match places.get(&entry.name) {
                Some(&at) => self.entries[at] = entry,
                None => {
                    places.insert(entry.name.clone(), self.entries.len());
                    self.entries.push(entry);
                }
            }
        }
    }
}

impl Value {
    /// Its type with an article, for messages.
    pub fn describe(&self) -> &'static str {
        match &self.kind {
            Kind::String(_) => "a string",
            Kind::Integer(_) => "an integer",
            Kind::Float(_) => "a float",
            Kind::Boolean(_) => "a boolean",
            Kind::Datetime(_) => "a date or time",
            Kind::Array(_) => "an array",
            Kind::Table(_) => "a table",
        }
    }

    /// Equal for equal values, wherever they stand.
    pub fn fingerprint(&self) -> u64 {
        let mut hasher = DefaultHasher::new();
        self.feed(&mut hasher);
        hasher.finish()
    }

    fn feed(&self, hasher: &mut impl Hasher) {
        mem::discriminant(&self.kind).hash(hasher);
        match &self.kind {
            Kind::String(text) | Kind::Datetime(text) => text.hash(hasher),
            Kind::Integer(number) => number.hash(hasher),
            Kind::Float(number) => number.to_bits().hash(hasher),
            Kind::Boolean(truth) => truth.hash(hasher),
            Kind::Array(items) => {
                items.len().hash(hasher);
                items.iter().for_each(|item| item.feed(hasher));
            }
            Kind::Table(table) => {
                table.entries.len().hash(hasher);
                for entry in &table.entries {
                    entry.name.hash(hasher);
                    entry.value.feed(hasher);
                }
            }
        }
    }
}

impl Value {
    /// The content of a string, otherwise the words of the file.
    pub fn text(&self) -> &str {
        match &self.kind {
            Kind::String(text) => text,
            _ => self.span.text(),
        }
    }

    /// `text` as it would stand in the place of this value: on a command line there are no quotes.
    pub fn like_it(&self, text: &str) -> String {
        match &self.kind {
            Kind::String(bare) if self.span.text() == bare => text.to_owned(),
            _ => quoted(text),
        }
    }
}

/// `text` as TOML would write it.
pub fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn parse_one(source: &Arc<Source>) -> (Table, Vec<Diagnostic>) {
    let (root, errors) = DeTable::parse_recoverable(&source.text);
    let mut reader = Reader { source, problems: Vec::new() };
    let table = reader.table(root.get_ref(), MAX_DEPTH);
    let mut last = None;
    for error in errors.into_iter().take(MAX_SYNTAX_ERRORS) {
        let span = reader.span(error.span().unwrap_or(source.text.len()..source.text.len()));
        // At one place only the first error is true, the others follow from it.
        if last.replace(span.range.start) != Some(span.range.start) {
            let problem = syntax_problem(error.message(), span, &table);
            reader.problems.push(problem);
        }
    }
    (table, reader.problems)
}

fn syntax_problem(message: &str, span: Span, table: &Table) -> Diagnostic {
    if message != "duplicate key" {
        return match message.split_once(", expected ") {
            Some((what, expected)) => Diagnostic::error("syntax", what).at(span, format!("expected {expected}")),
            None => Diagnostic::error("syntax", message).at(span, "here"),
        };
    }
    let name = span.text().to_owned();
    let first = table.first_of(&name, span.range.start);
    let problem = Diagnostic::error("duplicate-key", format!("`{name}` is set twice")).at(span, "here again");
    match first {
        Some(first) => problem.related(first, "first set here"),
        None => problem,
    }
}

impl Table {
    /// Where `name` stands first in the table that was being written at `offset`: the innermost one in braces around
    /// it, otherwise the one under the last header before it.
    fn first_of(&self, name: &str, offset: usize) -> Option<Span> {
        let mut best: Option<(usize, &Self)> = Some((0, self));
        self.visit(&mut |span, table| {
            let opens_before = span.range.start < offset;
            let holds = span.text().starts_with('[') || span.range.end > offset;
            if opens_before && holds && best.is_none_or(|(start, _)| start <= span.range.start) {
                best = Some((span.range.start, table));
            }
        });
        let found = best.and_then(|(_, table)| table.entry(name)).or_else(|| self.entry(name))?;
        (found.span.range.start < offset).then(|| found.span.clone())
    }

    fn visit<'t>(&'t self, seen: &mut impl FnMut(&'t Span, &'t Self)) {
        for entry in &self.entries {
            if let Kind::Table(table) = &entry.value.kind {
                seen(&entry.value.span, table);
                table.visit(seen);
            }
        }
    }
}

struct Reader<'s> {
    source: &'s Arc<Source>,
    problems: Vec<Diagnostic>,
}

impl Reader<'_> {
    /// The parser counts bytes; a message must not end inside of a character or past the text.
    fn span(&self, range: Range<usize>) -> Span {
        let text = &self.source.text;
        let start = text.floor_char_boundary(range.start.min(text.len()));
        let end = text.ceil_char_boundary(range.end.min(text.len()).max(start));
        Span { source: Arc::clone(self.source), range: start..end }
    }

    fn table(&mut self, table: &DeTable<'_>, depth: usize) -> Table {
        let mut entries = Vec::with_capacity(table.len());
        for (key, value) in table {
            let span = self.span(key.span());
            // Where a value is missing the parser puts an integer at no place at all.
            let place = if value.span().is_empty() { span.clone() } else { self.span(value.span()) };
            let value = self.value(value.get_ref(), place, depth);
            entries.push(Entry { name: key.get_ref().to_string(), span, value });
        }
        Table { entries }
    }

    fn value(&mut self, value: &DeValue<'_>, span: Span, depth: usize) -> Value {
        let kind = match value {
            DeValue::String(text) => Kind::String(text.to_string()),
            DeValue::Integer(number) => Kind::Integer(self.integer(number, &span)),
            DeValue::Float(number) => Kind::Float(number.as_str().parse().unwrap_or(f64::NAN)),
            DeValue::Boolean(truth) => Kind::Boolean(*truth),
            DeValue::Datetime(time) => Kind::Datetime(time.to_string()),
            DeValue::Array(_) | DeValue::Table(_) if depth == 0 => {
                let problem = Diagnostic::error("syntax", format!("more than {MAX_DEPTH} levels of nesting"));
                self.problems.push(problem.at(span.clone(), "too deep"));
                Kind::Array(Vec::new())
            }
            DeValue::Array(items) => Kind::Array(
                items.iter().map(|item| self.value(item.get_ref(), self.span(item.span()), depth - 1)).collect(),
            ),
            DeValue::Table(table) => Kind::Table(self.table(table, depth - 1)),
        };
        Value { span, kind }
    }

    fn integer(&mut self, number: &DeInteger<'_>, span: &Span) -> i64 {
        i64::from_str_radix(number.as_str(), number.radix()).unwrap_or_else(|_| {
            let problem = Diagnostic::error("syntax", "an integer must fit in 64 bits");
            self.problems.push(problem.at(span.clone(), "too large"));
            0
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Arc<Source> {
        Arc::new(Source { name: "portolan.toml".into(), path: None, text: text.into() })
    }

    fn parse(text: &str) -> Document {
        Document::parse(source(text), None)
    }

    #[test]
    fn every_value_knows_where_it_stands() {
        let document = parse("[routes]\r\napi = { to = 8000 }\r\n");
        let Some(Kind::Table(routes)) = document.root.get("routes").map(|value| &value.kind) else {
            panic!("no table: {document:?}");
        };
        assert_eq!(routes.entries[0].span.location(), "portolan.toml:2:1");
        assert_eq!(routes.entries[0].value.span.text(), "{ to = 8000 }");
    }

    #[test]
    fn a_fingerprint_is_of_the_value_and_not_of_its_place() {
        let fingerprint = |text: &str| parse(text).root.get("a").expect("a is set").fingerprint();
        assert_eq!(fingerprint("a = { to = 1, path = '/x' }"), fingerprint("b = 1\n[a]\nto = 1\npath = \"/x\""));
        let others = ["a = { to = 2, path = '/x' }", "a = { to = 1 }", "a = [1, '/x']", "a = 1", "a = '1'"];
        for other in others {
            assert_ne!(fingerprint(other), fingerprint("a = { to = 1, path = '/x' }"), "{other}");
        }
    }

    #[test]
    fn a_byte_order_mark_is_no_part_of_the_first_key() {
        let document = parse("\u{feff}project = \"shop\"\n");
        assert!(document.syntax.is_empty(), "{:?}", document.syntax);
        assert!(document.root.get("project").is_some());
    }

    #[test]
    fn several_syntax_errors_are_found_in_one_run() {
        let document = parse("a = \nb = 1\nc = \"x\nd = [\n");
        assert!(document.syntax.len() >= 3, "{:?}", document.syntax);
    }

    #[test]
    fn a_key_that_is_set_twice_shows_both_places() {
        let document = parse("[routes]\nb = { to = 1, x = { to = 2 }, to = 3 }\nb = 4\n");
        let places: Vec<_> = document.syntax.iter().flat_map(|problem| &problem.related).collect();
        let places: Vec<_> = places.iter().map(|(span, _)| span.location()).collect();
        assert_eq!(places, ["portolan.toml:2:7", "portolan.toml:2:1"]);
    }

    #[test]
    fn the_local_file_replaces_keys_of_the_root_and_entries_of_sections() {
        let main = source("listen = 1\nproject = \"a\"\n[routes]\nx = 1\ny = { to = 2, timeout = \"1s\" }\n");
        let local =
            Arc::new(Source { name: "local".into(), path: None, text: "listen = 9\n[routes]\ny = 3\nz = 4".into() });
        let document = Document::parse(main, Some(local));
        let Some(Kind::Table(routes)) = document.root.get("routes").map(|value| &value.kind) else {
            panic!("no table: {document:?}");
        };
        let names: Vec<_> = routes.entries.iter().map(|entry| (entry.name.as_str(), entry.span.location())).collect();
        assert_eq!(names, [("x", "portolan.toml:4:1".into()), ("y", "local:3:1".into()), ("z", "local:4:1".into())]);
        assert!(matches!(routes.entries[1].value.kind, Kind::Integer(3)));
        assert!(matches!(document.root.get("listen").map(|value| &value.kind), Some(Kind::Integer(9))));
        assert!(document.root.get("project").is_some());
    }

    #[test]
    fn nesting_has_a_bound() {
        let deep = format!("a = {}1{}", "[".repeat(70), "]".repeat(70));
        assert_eq!(parse(&deep).syntax.len(), 1);
        let keys = format!("{} = 1", vec!["a"; 79].join("."));
        assert_eq!(parse(&keys).syntax.len(), 1);
    }
}
