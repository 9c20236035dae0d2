//! The rules of the house, read from the sources: rows, first sentences, pure rooms, printing, forgotten tests.
//!
//! Each rule is a function from sources to sentences, one for each place that breaks it, so that a failing test says
//! what to change. The sources are scanned as text: comments, literals and test modules are blanked first, and what is
//! left is code. A macro could hide an import from this; nobody does so by accident.
#![expect(clippy::expect_used, reason = "where the tree cannot be read, no rule can be checked")]

use std::{
    fmt::Display,
    fs,
    path::{Path, PathBuf},
};

/// Which rooms stand on which: a room imports rooms of strictly lower rows. The row is the index.
const ROWS: [&[&str]; 9] = [
    &["diagnostic", "drain", "head", "http1", "tunnel"],
    &["config", "respond", "observe", "http2", "tls", "process"],
    &["filter", "upstream", "listen", "discover", "watch", "supervise", "export", "trust"],
    &["table"],
    &["live"],
    &["forward"],
    &["dashboard", "control", "doctor"],
    &["app", "demo"],
    &["cli", "main"],
];

/// Rooms, and files wherever they lie, that compute and never wait.
const PURE: [&str; 6] = ["config", "table", "filter", "export", "diagnostic", "balance"];

/// Words that only code with a runtime or a socket has.
const IMPURE: [&str; 8] =
    ["tokio", "socket2", "TcpStream", "TcpListener", "UdpSocket", "UnixStream", "UnixListener", "UnixDatagram"];

const PRINTING: [&str; 4] = ["print!", "println!", "eprint!", "eprintln!"];

/// One file of the tree.
struct Source {
    /// From the root of the repository, with `/` on every system.
    path: String,
    text: String,
    /// `text` with everything blanked that is not code of the product; lines stay where they are.
    code: String,
}

impl Source {
    fn new(path: impl Into<String>, text: impl Into<String>) -> Self {
        let (path, text) = (path.into(), text.into());
        let code = without_tests(&without_comments_and_literals(&text));
        Self { path, text, code }
    }

    /// `table` for `src/table.rs` and for all of `src/table/`; `None` for the crate's root.
    fn room(&self) -> Option<&str> {
        let below = self.path.strip_prefix("src/")?;
        let room = below.split('/').next()?.trim_end_matches(".rs");
        (room != "lib").then_some(room)
    }

    fn stem(&self) -> &str {
        self.path.rsplit('/').next().unwrap_or_default().trim_end_matches(".rs")
    }

    /// A sentence with its place.
    fn says(&self, offset: usize, what: impl Display) -> String {
        format!("{}:{}: {what}", self.path, self.code[..offset].matches('\n').count() + 1)
    }
}

#[test]
fn every_import_is_of_a_strictly_lower_row() {
    assert_kept(product().iter().flat_map(imports_upwards));
}

#[test]
fn every_room_has_a_row() {
    assert_kept(product().iter().filter_map(without_row));
}

#[test]
fn every_file_starts_with_its_one_idea() {
    assert_kept(product().iter().chain(&tests()).filter_map(without_first_sentence));
}

#[test]
fn pure_rooms_know_no_runtime_and_no_socket() {
    assert_kept(product().iter().flat_map(impurities));
}

#[test]
fn only_cli_prints() {
    assert_kept(product().iter().flat_map(prints));
}

#[test]
fn nothing_is_unsafe() {
    assert_kept(product().iter().flat_map(unsafe_code));
}

#[test]
fn no_test_file_is_forgotten() {
    let manifest = fs::read_to_string(root().join("Cargo.toml")).expect("the manifest can be read");
    assert!(!manifest.contains("autotests = false"), "Cargo.toml: cargo finds every tests/*.rs only with `autotests`");
    let tests = tests();
    assert_kept(tests.iter().filter_map(|file| forgotten(file, &tests)));
}

fn imports_upwards(file: &Source) -> Vec<String> {
    let Some((room, row)) = file.room().and_then(|room| Some((room, row_of(room)?))) else {
        return Vec::new();
    };
    let upwards = |(offset, other): &(usize, String)| {
        let there = row_of(other)?;
        (other != room && there >= row).then(|| {
            let sentence =
                format!("`{room}` (row {row}) imports `{other}` (row {there}): only lower rows may be imported");
            file.says(*offset, sentence)
        })
    };
    imports(&file.code).iter().filter_map(upwards).collect()
}

fn without_row(file: &Source) -> Option<String> {
    let room = file.room()?;
    row_of(room).is_none().then(|| file.says(0, format!("the room `{room}` has no row: give it one in {}", file!())))
}

fn without_first_sentence(file: &Source) -> Option<String> {
    let paragraph: Vec<&str> = file
        .text
        .lines()
        .map_while(|line| line.strip_prefix("//!"))
        .map(str::trim)
        .take_while(|line| !line.is_empty())
        .collect();
    let is_sentence = paragraph.last().is_some_and(|line| line.ends_with(['.', '!', '?']));
    (!is_sentence).then(|| file.says(0, "a file starts with `//!` and a sentence that tells its one idea"))
}

fn impurities(file: &Source) -> Vec<String> {
    let Some(name) = [file.room().unwrap_or_default(), file.stem()].into_iter().find(|name| PURE.contains(name)) else {
        return Vec::new();
    };
    let sentence =
        |word| move |offset| file.says(offset, format!("`{word}` in `{name}`, which is pure: no runtime, no socket"));
    IMPURE.iter().flat_map(|word| words(&file.code, word).map(sentence(word))).collect()
}

fn prints(file: &Source) -> Vec<String> {
    if file.room() == Some("cli") {
        return Vec::new();
    }
    let sentence = |word| move |offset| file.says(offset, format!("`{word}` outside `cli`: return what is to be said"));
    PRINTING.iter().flat_map(|word| words(&file.code, word).map(sentence(word))).collect()
}

fn unsafe_code(file: &Source) -> Vec<String> {
    words(&file.code, "unsafe").map(|offset| file.says(offset, "`unsafe` has no place in this crate")).collect()
}

/// A file beneath a folder of tests that the folder's main file, or its parent module, does not name.
fn forgotten(file: &Source, all: &[Source]) -> Option<String> {
    let (folder, name) = file.path.strip_prefix("tests/")?.trim_end_matches(".rs").rsplit_once('/')?;
    let (folder, module) = match (name, folder.rsplit_once('/')) {
        ("main", None) => return None,
        ("mod", Some((parent, module))) => (parent, module),
        ("mod", None) => {
            return Some(file.says(0, "a folder of tests starts with main.rs, cargo does not look for mod.rs"));
        }
        _ => (folder, name),
    };
    let parents = [format!("tests/{folder}/main.rs"), format!("tests/{folder}/mod.rs"), format!("tests/{folder}.rs")];
    let declared =
        all.iter().filter(|parent| parents.contains(&parent.path)).any(|parent| declares(&parent.code, module));
    (!declared).then(|| file.says(0, format!("never runs: no `mod {module};` in {}", parents[0])))
}

fn declares(code: &str, module: &str) -> bool {
    words(code, "mod").any(|offset| {
        let rest = code[offset + "mod".len()..].trim_start();
        rest.strip_prefix(module).is_some_and(|rest| rest.trim_start().starts_with(';'))
    })
}

fn row_of(room: &str) -> Option<usize> {
    ROWS.iter().position(|rooms| rooms.contains(&room))
}

/// What stands right behind each `crate::`, groups taken apart, with its place.
fn imports(code: &str) -> Vec<(usize, String)> {
    words(code, "crate")
        .filter_map(|offset| Some((offset, code[offset..].strip_prefix("crate::")?)))
        .flat_map(|(offset, path)| first_names(path).into_iter().map(move |name| (offset, name)))
        .collect()
}

/// `a` for `a::b`; `a` and `b` for `{a::{x, y}, b}`.
fn first_names(path: &str) -> Vec<String> {
    let Some(group) = path.strip_prefix('{') else {
        return vec![first_name(path)];
    };
    let mut depth = 0;
    let mut names = vec![first_name(group)];
    for (at, c) in group.char_indices() {
        match c {
            '{' => depth += 1,
            '}' if depth == 0 => break,
            '}' => depth -= 1,
            ',' if depth == 0 => names.push(first_name(&group[at + 1..])),
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> String {
    path.trim_start().chars().take_while(|c| is_word(*c)).collect()
}

/// Where `word` stands in `code` and is not a part of a longer one.
fn words<'a>(code: &'a str, word: &'a str) -> impl Iterator<Item = usize> + 'a {
    code.match_indices(word).map(|(at, _)| at).filter(move |at| {
        let before = code[..*at].chars().next_back();
        let after = code[at + word.len()..].chars().next();
        !before.is_some_and(is_word) && (word.ends_with('!') || !after.is_some_and(is_word))
    })
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

/// `text` with spaces where comments and literals stand.
fn without_comments_and_literals(text: &str) -> String {
    let mut code = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let length = match c {
            '/' if rest.starts_with("//") => rest.find('\n').unwrap_or(rest.len()),
            '/' if rest.starts_with("/*") => block_comment(rest),
            '"' => string(rest),
            'r' if !code.ends_with(is_word) || code.ends_with('b') => raw_string(rest),
            '\'' => character(rest),
            _ => 0,
        };
        let (literal, next) = rest.split_at(length);
        code.push_str(&blank(literal));
        rest = next;
        if length == 0 {
            code.push(c);
            rest = &rest[c.len_utf8()..];
        }
    }
    code
}

/// The length of the comment, with those inside it, that `text` starts with.
fn block_comment(text: &str) -> usize {
    let mut depth = 0;
    let mut at = 0;
    while at < text.len() {
        let step = match text.as_bytes()[at..] {
            [b'/', b'*', ..] => (1, 2),
            [b'*', b'/', ..] => (-1, 2),
            _ => (0, 1),
        };
        depth += step.0;
        at += step.1;
        if depth == 0 {
            break;
        }
    }
    at
}

/// The length of the string that `text` starts with.
fn string(text: &str) -> usize {
    let mut escaped = false;
    let end = text.char_indices().skip(1).find(|(_, c)| {
        let ends = *c == '"' && !escaped;
        escaped = *c == '\\' && !escaped;
        ends
    });
    end.map_or(text.len(), |(at, _)| at + 1)
}

/// The length of the raw string that `text` starts with; 0 if it is a word that starts with `r`.
fn raw_string(text: &str) -> usize {
    let fence: String = text[1..].chars().take_while(|c| *c == '#').collect();
    let open = format!("r{fence}\"");
    if !text.starts_with(&open) {
        return 0;
    }
    text[open.len()..].find(&format!("\"{fence}")).map_or(text.len(), |at| open.len() + at + 1 + fence.len())
}

/// The length of the character that `text` starts with; 0 if it is a lifetime.
fn character(text: &str) -> usize {
    let mut inner = text.char_indices().skip(1);
    match (inner.next(), inner.next()) {
        (Some((_, '\\')), Some((escaped, c))) => {
            let from = escaped + c.len_utf8();
            text[from..].find('\'').map_or(text.len(), |at| from + at + 1)
        }
        (Some(_), Some((at, '\''))) => at + 1,
        _ => 0,
    }
}

/// `code` with spaces where `#[cfg(test)]` and what it stands on are.
fn without_tests(code: &str) -> String {
    let mut kept = String::with_capacity(code.len());
    let mut rest = code;
    while let Some(at) = rest.find("#[cfg(test)]") {
        let (before, item) = rest.split_at(at);
        let (item, after) = item.split_at(item_length(item));
        kept.push_str(before);
        kept.push_str(&blank(item));
        rest = after;
    }
    kept + rest
}

/// Up to the first `;` outside of braces, or to the brace that ends the first block.
fn item_length(item: &str) -> usize {
    let mut depth = 0;
    let end = item.char_indices().find(|(_, c)| {
        depth += match c {
            '{' => 1,
            '}' => -1,
            _ => 0,
        };
        depth == 0 && matches!(c, ';' | '}')
    });
    end.map_or(item.len(), |(at, _)| at + 1)
}

/// Spaces in the place of every byte but the ends of lines, so that offsets and lines stay.
fn blank(text: &str) -> String {
    text.bytes().map(|byte| if byte == b'\n' { '\n' } else { ' ' }).collect()
}

fn product() -> Vec<Source> {
    sources("src")
}

fn tests() -> Vec<Source> {
    // `tests/partners` are other people's programs, none of which is Rust of ours.
    sources("tests").into_iter().filter(|file| !file.path.starts_with("tests/partners/")).collect()
}

/// Every Rust file beneath a folder, by path.
fn sources(folder: &str) -> Vec<Source> {
    let mut folders = vec![root().join(folder)];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).expect("the folder can be read") {
            let path = entry.expect("the folder can be read").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let text = fs::read_to_string(&path).expect("the source can be read");
                found.push(Source::new(name_of(&path), text));
            }
        }
    }
    assert!(!found.is_empty(), "no sources in {folder}: the rules would hold of nothing");
    found.sort_by(|one, other| one.path.cmp(&other.path));
    found
}

fn root() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR"))
}

fn name_of(path: &Path) -> String {
    let below = path.strip_prefix(root()).expect("the path lies in the repository");
    below.to_string_lossy().replace('\\', "/")
}

fn assert_kept(broken: impl Iterator<Item = String>) {
    let broken: Vec<String> = broken.collect();
    assert!(broken.is_empty(), "\n{}\n", broken.join("\n"));
}

mod the_rules_themselves {
    use super::*;

    fn told(rule: fn(&Source) -> Vec<String>, path: &str, text: &str) -> Vec<String> {
        rule(&Source::new(path, text))
    }

    #[test]
    fn an_import_of_the_same_or_a_higher_row_is_told_with_its_line() {
        let text = "//! Routes.\nuse crate::{\n    config::{Route, Match},\n    live::Snapshot,\n};\n\nfn f() -> crate::app::App {}\n";
        assert_eq!(
            told(imports_upwards, "src/table/mod.rs", text),
            [
                "src/table/mod.rs:2: `table` (row 3) imports `live` (row 4): only lower rows may be imported",
                "src/table/mod.rs:7: `table` (row 3) imports `app` (row 7): only lower rows may be imported",
            ]
        );
        assert_eq!(told(imports_upwards, "src/filter/cors.rs", "use crate::upstream::Pool;").len(), 1);
    }

    #[test]
    fn a_room_may_import_itself_and_lower_rows() {
        let text = "use crate::{config::Config, filter::cors, table};\npub(crate) fn f() {}\n";
        assert!(told(imports_upwards, "src/table.rs", text).is_empty());
    }

    #[test]
    fn comments_literals_and_tests_are_no_code() {
        let text = r####"
            //! Words about println!().
            /* unsafe /* nested */ println!() */
            const A: &str = "println!(\"unsafe\")";
            const B: &str = r#"unsafe "println!()""#;
            const C: (char, char) = ('"', '\'');
            fn f<'a>(x: &'a str) -> &'a str { x }
            #[cfg(test)]
            mod tests {
                fn g() { println!("{}", '}'); unsafe {} }
            }
            #[cfg(test)]
            use crate::cli;
        "####;
        assert!(told(prints, "src/head.rs", text).is_empty());
        assert!(told(unsafe_code, "src/head.rs", text).is_empty());
        assert!(told(imports_upwards, "src/head.rs", text).is_empty());
    }

    #[test]
    fn code_behind_literals_and_tests_is_still_seen() {
        let text = "const A: char = '\"';\n#[cfg(test)]\nmod tests { fn g() {} }\nfn f() { println!(\"\") }\n";
        let told = told(prints, "src/head.rs", text);
        assert_eq!(told, ["src/head.rs:4: `println!` outside `cli`: return what is to be said"]);
    }

    #[test]
    fn printing_is_for_cli_alone() {
        assert!(told(prints, "src/cli/mod.rs", "fn f() { print!() }").is_empty());
        assert_eq!(told(prints, "src/main.rs", "fn f() { eprint!() }").len(), 1);
        assert!(told(prints, "src/app.rs", "fn f() { my_print!() }").is_empty());
    }

    #[test]
    fn a_socket_in_a_pure_room_is_told() {
        assert_eq!(told(impurities, "src/table/mod.rs", "use std::net::{SocketAddr, TcpStream};").len(), 1);
        assert_eq!(told(impurities, "src/upstream/balance.rs", "use tokio::time;").len(), 1);
        assert!(told(impurities, "src/upstream/pool.rs", "use tokio::time;").is_empty());
    }

    #[test]
    fn unsafe_is_told_and_its_lint_is_not() {
        assert_eq!(told(unsafe_code, "src/tunnel/splice.rs", "fn f() { unsafe { g() } }").len(), 1);
        assert!(told(unsafe_code, "src/lib.rs", "#![forbid(unsafe_code)]").is_empty());
    }

    #[test]
    fn a_file_without_a_sentence_is_told() {
        let told = |text| without_first_sentence(&Source::new("src/head.rs", text)).is_some();
        assert!(told("use std::fmt;\n//! Late.\n"));
        assert!(told("//!\n//! After a blank line.\n"));
        assert!(told("//! no sentence\n//!\n//! A second paragraph.\n"));
        assert!(!told("//! A sentence over\n//! two lines.\n"));
    }

    #[test]
    fn a_room_without_a_row_is_told() {
        assert!(without_row(&Source::new("src/helpers/mod.rs", "")).is_some());
        assert!(without_row(&Source::new("src/lib.rs", "")).is_none());
    }

    #[test]
    fn a_test_file_that_nobody_names_is_told() {
        let all = [
            Source::new("tests/it/main.rs", "mod routing;\nmod support;\n// mod commented;\n"),
            Source::new("tests/it/support/mod.rs", "pub mod upstream;"),
        ];
        let told = |path: &str| forgotten(&Source::new(path, ""), &all).is_some();
        assert!(told("tests/it/commented.rs"));
        assert!(told("tests/it/support/proxy.rs"));
        for path in
            ["tests/it/routing.rs", "tests/it/support/mod.rs", "tests/it/support/upstream.rs", "tests/it/main.rs"]
        {
            assert!(!told(path), "{path}");
        }
        assert!(!told("tests/architecture.rs"));
    }
}
