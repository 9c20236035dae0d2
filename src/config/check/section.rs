//! One table under inspection: unknown keys, the rules between keys, and values of a simple type.

use super::Problems;
use crate::{
    config::{
        document::{Entry, Kind, Table, Value, quoted},
        keys::{self, Keys},
    },
    diagnostic::{Diagnostic, Span},
};

/// A table whose keys have been looked at.
pub(super) struct Section<'d> {
    table: &'d Table,
}

impl<'d> Section<'d> {
    /// Tells every unknown key and every broken rule of `keys`; `owner` names the table, `at` is where it stands.
    pub(super) fn open(table: &'d Table, owner: &str, at: &Span, keys: &'static Keys, problems: &mut Problems) -> Self {
        let mut complete = true;
        for entry in &table.entries {
            match keys.keys.iter().find(|key| key.name == entry.name) {
                None => {
                    complete = false;
                    problems.push(unknown_key(entry, owner, keys));
                }
                Some(key) => {
                    if let Some(what) = key.not_yet {
                        problems.push(not_yet(entry, what));
                    }
                }
            }
        }
        tell_exclusions(table, owner, keys, problems);
        // A key that is misspelt is not missed a second time under its right name.
        if complete {
            tell_lonely(table, owner, keys, problems);
            tell_missing(table, owner, at, keys, problems);
        }
        Self { table }
    }

    /// The value of a key.
    pub(super) fn get(&self, name: &str) -> Option<&'d Value> {
        self.table.get(name)
    }

    /// The pair of a key.
    pub(super) fn entry(&self, name: &str) -> Option<&'d Entry> {
        self.table.entry(name)
    }
}

fn not_yet(entry: &Entry, what: &str) -> Diagnostic {
    let name = &entry.name;
    Diagnostic::error("not-yet", format!("`{name}` is not in this version: portolan {what}"))
        .at(entry.span.clone(), "not yet")
        .help(format!("leave `{name}` out for now"))
}

fn unknown_key(entry: &Entry, owner: &str, keys: &Keys) -> Diagnostic {
    let problem = Diagnostic::error("unknown-key", format!("{owner} has no key `{}`", entry.name))
        .at(entry.span.clone(), format!("not a key of {}", keys.of));
    if keys.id == keys::ROUTE.id && is_of_a_target(&entry.name) {
        return problem.help("it is a key of a target: write it inside of `to = { .. }`");
    }
    let names = keys
        .keys
        .iter()
        .flat_map(|key| std::iter::once((key.name, key.name)).chain(key.also.iter().map(|also| (*also, key.name))));
    match nearest(&entry.name, names) {
        Some(name) => problem.patch("a key with a similar name exists", entry.span.clone(), name),
        None => {
            let names: Vec<_> = keys.keys.iter().filter(|key| key.not_yet.is_none()).map(|key| key.name).collect();
            problem.help(format!("the keys of {} are {}", keys.of, names.join(", ")))
        }
    }
}

/// Whether a route has written what its target should have, and no key of its own goes by that name too.
fn is_of_a_target(name: &str) -> bool {
    keys::TARGET.keys.iter().any(|key| key.name == name) && !keys::ROUTE.keys.iter().any(|key| key.also.contains(&name))
}

fn tell_exclusions(table: &Table, owner: &str, keys: &Keys, problems: &mut Problems) {
    for group in keys.at_most_one.iter().chain(std::iter::once(&keys.exactly_one)) {
        let mut written = table.entries.iter().filter(|entry| group.contains(&entry.name.as_str()));
        let Some(first) = written.next() else { continue };
        for other in written {
            problems.push(
                Diagnostic::error("conflict", format!("{owner} has both `{}` and `{}`", first.name, other.name))
                    .at(other.span.clone(), format!("cannot stand beside `{}`", first.name))
                    .related(first.span.clone(), "the other one")
                    .help("keep one of them"),
            );
        }
    }
}

fn tell_lonely(table: &Table, owner: &str, keys: &Keys, problems: &mut Problems) {
    for (name, needed) in keys.only_with {
        if let Some(entry) = table.entry(name)
            && !needed.iter().any(|needed| table.get(needed).is_some())
        {
            problems.push(
                Diagnostic::error("conflict", format!("`{name}` of {owner} has no meaning without {}", any_of(needed)))
                    .at(entry.span.clone(), format!("needs {}", any_of(needed))),
            );
        }
    }
}

fn tell_missing(table: &Table, owner: &str, at: &Span, keys: &Keys, problems: &mut Problems) {
    for name in keys.required {
        if table.get(name).is_none() {
            problems.push(
                Diagnostic::error("missing-key", format!("{owner} needs `{name}`"))
                    .at(at.clone(), format!("`{name}` is missing")),
            );
        }
    }
    for (name, other) in keys.completed_by {
        if let (Some(entry), None) = (table.entry(name), table.get(other)) {
            problems.push(
                Diagnostic::error("missing-key", format!("{owner} needs `{other}` beside `{name}`"))
                    .at(entry.span.clone(), format!("`{other}` is missing")),
            );
        }
    }
    if keys.never_empty && table.entries.is_empty() {
        let names: Vec<_> = keys.keys.iter().map(|key| key.name).collect();
        problems.push(
            Diagnostic::error("missing-key", format!("{owner} needs {}", any_of(&names)))
                .at(at.clone(), "nothing is written here"),
        );
    }
    let choices = keys.exactly_one;
    if !choices.is_empty() && !choices.iter().any(|name| table.get(name).is_some()) {
        problems.push(
            Diagnostic::error("missing-key", format!("{owner} needs {}", any_of(choices)))
                .at(at.clone(), "none of them is written"),
        );
    }
}

/// "`a`, `b` or `c`".
fn any_of(names: &[&str]) -> String {
    let quoted: Vec<_> = names.iter().map(|name| format!("`{name}`")).collect();
    match quoted.split_last() {
        Some((last, rest)) if !rest.is_empty() => format!("{} or {last}", rest.join(", ")),
        _ => quoted.concat(),
    }
}

/// The second part of the pair whose first part is most like `word`, if any is like it at all.
pub(super) fn nearest<'n>(word: &str, names: impl IntoIterator<Item = (&'n str, &'n str)>) -> Option<&'n str> {
    /// Longer words are no slip of a name of ours, and the distance costs the product of the lengths.
    const LONGEST: usize = 64;
    if word.len() > LONGEST {
        return None;
    }
    let bound = word.chars().count().div_ceil(3);
    let like = |name: &str| distance(&word.to_ascii_lowercase(), &name.to_ascii_lowercase());
    names
        .into_iter()
        .filter(|(name, _)| name.len() <= LONGEST)
        .map(|(name, meant)| (like(name), meant))
        .filter(|(distance, _)| *distance <= bound)
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, meant)| meant)
}

/// How many letters must be put in, taken out, changed or swapped with their neighbour.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut above: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = above[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = changed.min(above[j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            row.push(best);
        }
        before = std::mem::replace(&mut above, row);
    }
    above[b.len()]
}

impl Problems {
    /// Tells that `value` should be something else.
    pub(super) fn wrong_type(&mut self, value: &Value, name: &str, wanted: &str) {
        self.no_such_type(value, &format!("`{name}`"), wanted);
    }

    /// As [`Self::wrong_type`], for what has no name of its own.
    pub(super) fn no_such_type(&mut self, value: &Value, what: &str, wanted: &str) {
        let problem = Diagnostic::error("wrong-type", format!("{what} must be {wanted}"))
            .at(value.span.clone(), format!("this is {}", value.describe()));
        self.push(match (&value.kind, wanted) {
            (Kind::Integer(_) | Kind::Float(_) | Kind::Boolean(_), "a string") => {
                problem.patch("put it in quotes", value.span.clone(), quoted(value.span.text()))
            }
            (Kind::String(_), "a list of strings") => {
                problem.patch("make it a list", value.span.clone(), format!("[{}]", value.span.text()))
            }
            (Kind::String(text), "true or false") if text == "true" || text == "false" => {
                problem.patch("leave the quotes out", value.span.clone(), text)
            }
            _ => problem,
        });
    }

    /// Tells that `value` has the right type and a wrong content.
    pub(super) fn bad(&mut self, code: &'static str, value: &Value, message: String, label: &str) {
        self.push(Diagnostic::error(code, message).at(value.span.clone(), label));
    }

    /// A string.
    pub(super) fn string<'d>(&mut self, value: &'d Value, name: &str) -> Option<&'d str> {
        let Kind::String(text) = &value.kind else {
            self.wrong_type(value, name, "a string");
            return None;
        };
        Some(text)
    }

    /// A string that is not empty.
    pub(super) fn filled<'d>(&mut self, value: &'d Value, name: &str) -> Option<&'d str> {
        let text = self.string(value, name)?;
        if text.is_empty() {
            self.bad("bad-value", value, format!("`{name}` must not be empty"), "nothing is written here");
            return None;
        }
        Some(text)
    }

    /// Each string of a list, with its place.
    pub(super) fn strings<'d>(&mut self, value: &'d Value, name: &str) -> Option<Vec<(&'d str, &'d Value)>> {
        let Kind::Array(items) = &value.kind else {
            self.wrong_type(value, name, "a list of strings");
            return None;
        };
        let texts: Vec<_> = items.iter().map(|item| Some((self.item(item, name)?, item))).collect();
        texts.into_iter().collect()
    }

    fn item<'d>(&mut self, item: &'d Value, name: &str) -> Option<&'d str> {
        let Kind::String(text) = &item.kind else {
            self.no_such_type(item, &format!("each of `{name}`"), "a string");
            return None;
        };
        Some(text)
    }

    /// A list that must not be empty.
    pub(super) fn some_strings<'d>(&mut self, value: &'d Value, name: &str) -> Option<Vec<(&'d str, &'d Value)>> {
        let items = self.strings(value, name)?;
        if items.is_empty() {
            self.bad("bad-value", value, format!("`{name}` must not be empty"), "nothing is listed here");
            return None;
        }
        Some(items)
    }

    /// `true` or `false`.
    pub(super) fn boolean(&mut self, value: &Value, name: &str) -> Option<bool> {
        let Kind::Boolean(truth) = value.kind else {
            self.wrong_type(value, name, "true or false");
            return None;
        };
        Some(truth)
    }

    /// An integer in these bounds.
    pub(super) fn integer(&mut self, value: &Value, name: &str, low: i64, high: i64) -> Option<i64> {
        let Kind::Integer(number) = value.kind else {
            self.wrong_type(value, name, "an integer");
            return None;
        };
        if !(low..=high).contains(&number) {
            let bounds = if high == i64::MAX { format!("at least {low}") } else { format!("from {low} to {high}") };
            self.bad("bad-value", value, format!("`{name}` must be {bounds}"), "out of bounds");
            return None;
        }
        Some(number)
    }

    /// A table.
    pub(super) fn table<'d>(&mut self, value: &'d Value, name: &str) -> Option<&'d Table> {
        let Kind::Table(table) = &value.kind else {
            self.wrong_type(value, name, "a table");
            return None;
        };
        Some(table)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_near_and_another_word_is_not() {
        let names = [("target", "to"), ("to", "to"), ("timeout", "timeout"), ("path", "path")];
        assert_eq!(nearest("tagret", names), Some("to"));
        assert_eq!(nearest("timeuot", names), Some("timeout"));
        assert_eq!(nearest("Path", names), Some("path"));
        assert_eq!(nearest("zebra", names), None);
        assert_eq!(nearest(&"x".repeat(10_000), names), None);
    }
}
