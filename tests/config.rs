//! The words that a person reads when a file is wrong, each bad file beside what is said about it; and what a good one
//! means.
//!
//! `UPDATE_GOLDEN=1 cargo test --test config` writes the expectations anew; read the difference before it is kept.
#![expect(clippy::expect_used, clippy::panic, reason = "a test fails loudly")]

#[path = "config/procfiles.rs"]
mod procfiles;
#[path = "config/programs.rs"]
mod programs;

use std::{fs, path::Path};

use http::uri::PathAndQuery;
use portolan::{
    config::{
        Action, Address, HostMatch, Listen, PathMatch,
        load::{self, Loaded, files, find, parse_listen},
    },
    diagnostic::render,
};

const FOLDER: &str = "tests/config";

/// A file, where nothing was typed about where to listen.
fn read(path: &Path) -> Loaded {
    load::load(path, None)
}

/// A text, where nothing was typed about where to listen.
fn from_str(name: &str, text: &str) -> Loaded {
    load::from_str(name, text, None)
}

/// Routes that were typed, and nothing about where to listen.
fn inline(words: &[String]) -> Loaded {
    load::inline(words, None)
}

/// Compares with the text at `path`, or writes it.
fn golden(path: &Path, said: &str) -> Result<(), String> {
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(path, said).map_err(|fault| fault.to_string());
    }
    let wanted = fs::read_to_string(path).unwrap_or_default();
    if wanted == said { Ok(()) } else { Err(format!("{}\n--- wanted\n{wanted}--- said\n{said}", path.display())) }
}

fn said(loaded: &Loaded) -> String {
    assert!(loaded.config.is_none(), "nothing is wrong with it");
    render(&loaded.diagnostics, false)
}

#[test]
fn every_bad_file_is_told_of_in_the_words_beside_it() {
    let files: Vec<_> =
        fs::read_dir(FOLDER).expect("the folder").map(|entry| entry.expect("an entry").path()).collect();
    let files: Vec<_> = files.iter().filter(|path| path.extension().is_some_and(|end| end == "toml")).collect();
    assert!(files.len() >= 30, "only {} files", files.len());
    let failures: Vec<_> =
        files.iter().filter_map(|path| golden(&path.with_extension("txt"), &said(&read(path))).err()).collect();
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}

#[test]
fn bad_words_of_a_command_line_are_told_of_like_a_file() {
    let cases: [&[&str]; 4] = [
        &["/=5173", "/api=apo", "docs.localhost=0"],
        &["docs.localhost"],
        &["/api=1", "5173", "/api=2", "/=3"],
        &["portolan.localhost=1", "a.localhost:80/x=2", "=3", "/a b=4", "5="],
    ];
    let all: Vec<_> = cases
        .iter()
        .map(|case| {
            let words: Vec<_> = case.iter().map(ToString::to_string).collect();
            format!("$ portolan serve {}\n{}\n", case.join(" "), said(&inline(&words)))
        })
        .collect();
    let problems: Vec<_> = ["0.0.0.0:80", "localhost", ":80", "", "[::1]"]
        .iter()
        .map(|text| {
            let problem = parse_listen(text, "--listen").expect_err("a bad address");
            format!("$ portolan serve --listen '{text}'\n{}\n", render(&[problem], false))
        })
        .collect();
    let said = all.concat() + &problems.concat();
    golden(&Path::new(FOLDER).join("command_line.txt"), &said).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn a_typed_address_is_the_one_that_no_route_may_lead_to() {
    let listen = parse_listen("127.0.0.1:48999", "--listen").expect("an address");
    let typed = |word: &str| load::inline(&[word.to_owned()], Some(&listen));
    let text = |port: u16| format!("listen = 8080\n[routes]\nweb = {{ path = \"/\", to = {port} }}\n");
    let written = |port| load::from_str("portolan.toml", &text(port), Some(&listen));

    for fine in [typed("/=62893"), written(8080), written(62893)] {
        assert_eq!(fine.diagnostics, []);
        assert_eq!(fine.config.expect("a config").listen, listen);
    }
    let wanted = "\
error[own-address]: route `root` leads to portolan itself (:48999)
 --> <command line>:1:3
  |
1 | /=48999
  |   ^^^^^ portolan listens there
  |
 ::: --listen:1:1
  |
1 | 127.0.0.1:48999
  | --------------- listens here
  |
  = help: write the port that the program behind this route listens on
";
    assert_eq!(said(&typed("/=48999")), wanted);
    assert_eq!(written(48999).diagnostics[0].code, "own-address");
}

#[test]
fn a_typed_address_mends_no_file() {
    let listen = parse_listen("127.0.0.1:48999", "--listen").expect("an address");
    let loaded = load::from_str("portolan.toml", "listen = \"0.0.0.0:80\"", Some(&listen));
    assert!(said(&loaded).starts_with("error[exposed]: 0.0.0.0:80"), "{}", said(&loaded));
}

#[test]
fn a_typed_address_goes_over_the_file_and_the_local_one() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portolan.toml");
    fs::write(&path, "listen = 8080\n[routes]\nweb = 62893").expect("write");
    fs::write(folder.path().join("portolan.local.toml"), "listen = 62893").expect("write");
    assert_eq!(read(&path).diagnostics[0].code, "own-address");
    let listen = Listen::localhost(0);
    let config = load::load(&path, Some(&listen)).config.expect("a config");
    assert_eq!(config.listen, listen);
}

/// Every key whose value goes into a request line or answers one, each with this text.
fn path_keys(text: &str) -> Vec<String> {
    let text = toml::Value::from(text).to_string();
    [
        "path = {}, to = 1",
        "path_exact = {}, to = 1",
        "path = \"/\", to = 1, rewrite = { path = {} }",
        "path = \"/\", to = 1, rewrite = { prefix = {} }",
        "path = \"/\", to = 1, health = { path = {} }",
    ]
    .map(|keys| format!("[routes]\na = {{ {} }}", keys.replace("{}", &text)))
    .into()
}

#[test]
fn a_path_holds_exactly_the_characters_that_a_request_line_takes() {
    for c in (0..=127_u8).map(char::from) {
        let text = format!("/a{c}b");
        let path = PathAndQuery::try_from(&text);
        let wanted = path.is_ok_and(|path| path.path() == text && path.query().is_none());
        for table in path_keys(&text) {
            assert_eq!(from_str("a", &table).config.is_some(), wanted, "{table}");
        }
    }
}

#[test]
fn the_mended_path_of_a_problem_is_fine() {
    for (text, mended) in [("/a<b c>", "/a%3Cb%20c%3E"), ("/`é\u{7f}", "/%60%C3%A9%7F")] {
        for table in path_keys(text) {
            let loaded = from_str("a", &table);
            let [problem] = &loaded.diagnostics[..] else { panic!("{}", render(&loaded.diagnostics, false)) };
            let patch = problem.patch.as_ref().expect("a patch");
            assert_eq!(patch.with, format!("\"{mended}\""));
        }
        for table in path_keys(mended) {
            assert!(from_str("a", &table).config.is_some(), "{table}");
        }
    }
}

#[test]
fn a_path_is_not_longer_than_anybody_would_write_it() {
    let text = |length: usize| "/".to_owned() + &"a".repeat(length - 1);
    let others = |text: &str| {
        [
            format!("[routes]\na = {{ path_regex = \"{text}\", to = 1 }}"),
            format!("[routes]\na = {{ redirect = \"{text}\" }}"),
            format!("[routes]\na = {{ redirect = {{ to = \"{text}\" }} }}"),
        ]
    };
    for table in path_keys(&text(4096)).into_iter().chain(others(&text(4096))) {
        assert!(from_str("a", &table).config.is_some(), "{}", render(&from_str("a", &table).diagnostics, false));
    }
    for table in path_keys(&text(4097)).into_iter().chain(others(&text(4097))) {
        let loaded = from_str("a", &table);
        let said = said(&loaded);
        assert!(said.lines().next().is_some_and(|line| line.ends_with("is longer than 4096 characters")), "{said}");
        assert_eq!(loaded.diagnostics.len(), 1, "{said}");
    }
}

#[test]
fn a_path_is_not_deeper_than_the_table_goes() {
    for end in ["", "/"] {
        for table in path_keys(&("/a".repeat(256) + end)) {
            assert!(from_str("a", &table).config.is_some(), "{}", render(&from_str("a", &table).diagnostics, false));
        }
        for table in path_keys(&("/a".repeat(257) + end)) {
            let said = said(&from_str("a", &table));
            assert!(said.starts_with("error[bad-path]: `p") && said.contains("has more than 256 elements\n"), "{said}");
        }
    }
    let deepest = inline(&[format!("{}=1", "/a".repeat(400_000))]);
    assert!(said(&deepest).starts_with("error[bad-path]: `path` is longer than 4096 characters\n"));
}

#[test]
fn a_missing_file_and_a_folder_are_told_of() {
    let missing = read(Path::new("tests/config/missing/portolan.toml"));
    assert_eq!(
        said(&missing),
        "error[unreadable-file]: cannot read tests/config/missing/portolan.toml: there is no such file\n"
    );
    let folder = read(Path::new(FOLDER));
    assert_eq!(said(&folder), "error[unreadable-file]: cannot read tests/config: it is a folder\n");
}

#[test]
fn the_reference_loads_without_a_word() {
    let loaded = read(Path::new("config/reference.toml"));
    assert!(loaded.diagnostics.is_empty(), "{}", render(&loaded.diagnostics, false));
    let config = loaded.config.expect("a config");
    assert_eq!((config.routes.len(), config.services.len()), (11, 3));
}

#[test]
fn a_file_of_more_than_a_megabyte_is_refused() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portolan.toml");
    fs::write(&path, "#".repeat(1024 * 1024 + 1)).expect("write");
    let loaded = read(&path);
    assert_eq!(loaded.diagnostics[0].code, "file-too-large");
    fs::write(&path, "#".repeat(1024 * 1024)).expect("write");
    assert!(read(&path).config.is_some());
}

#[test]
fn the_local_file_lies_over_the_file_and_its_problems_say_so() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portolan.toml");
    let local = folder.path().join("portolan.local.toml");
    fs::write(&path, "project = \"shop\"\n[routes]\napi = 8000\nweb = 5173\n").expect("write");
    fs::write(&local, "project = \"tree\"\n[routes]\napi = 9000\n").expect("write");
    let loaded = read(&path);
    let config = loaded.config.expect("a config");
    assert_eq!(config.project.as_deref(), Some("tree"));
    let names: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["api", "web"]);
    assert!(config.routes[0].origin.location().ends_with("portolan.local.toml:3:1"));
    assert_eq!(files(&path), [path.clone(), local.clone()]);

    fs::write(&local, "[routes]\napi = 0\n").expect("write");
    fs::write(&path, "lisen = 1\n").expect("write");
    let loaded = read(&path);
    let places: Vec<_> = loaded.diagnostics.iter().filter_map(|problem| problem.at.as_ref()).collect();
    let places: Vec<_> = places.iter().map(|(span, _)| span.location()).collect();
    assert!(places[0].ends_with("portolan.toml:1:1") && places[1].ends_with("portolan.local.toml:2:7"), "{places:?}");
}

#[test]
fn relative_paths_are_seen_from_the_folder_of_the_file() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portolan.toml");
    fs::write(&path, "[routes]\na = \"unix:run/a.sock\"\n").expect("write");
    let config = read(&path).config.expect("a config");
    let wanted = Address::Unix(folder.path().join("run/a.sock"));
    assert!(matches!(&config.routes[0].action, Action::Forward(forward) if forward.targets[0].address == wanted));
}

#[test]
fn ten_thousand_routes_are_checked_without_a_second_thought() {
    use std::fmt::Write as _;
    let mut text = String::from("[routes]\n");
    for number in 0..10_000 {
        writeln!(text, "r{number} = {{ path = \"/p{number}\", methods = [\"GET\"], to = 8000 }}").expect("write");
    }
    let start = std::time::Instant::now();
    let loaded = from_str("many.toml", &text);
    assert!(loaded.config.is_some());
    // Without optimisation, on a busy machine; what is quadratic takes minutes.
    assert!(start.elapsed().as_secs() < 10, "{:?}", start.elapsed());
}

#[test]
fn the_example_of_the_design_is_said_word_for_word() {
    let text = "\n".repeat(6) + "[routes]\napi  = { path = \"/api\", tagret = \"api\", strip_prefix = true }\n";
    let wanted = r#"error[unknown-key]: route `api` has no key `tagret`
 --> portolan.toml:8:25
  |
8 | api  = { path = "/api", tagret = "api", strip_prefix = true }
  |                         ^^^^^^ not a key of a route
  |
help: a key with a similar name exists
  |
8 - api  = { path = "/api", tagret = "api", strip_prefix = true }
8 + api  = { path = "/api", to = "api", strip_prefix = true }
"#;
    let said = said(&from_str("portolan.toml", &text));
    assert!(said.starts_with(wanted), "{said}");
    assert_eq!(said[wanted.len()..].trim_end(), "  |");
}

#[test]
fn words_of_a_command_line_become_routes() {
    let words = ["5173", "/api/v1=8000", "docs.localhost=4000", "docs.localhost/x=unix:/run/a.sock", "*.b.localhost=1"];
    let loaded = inline(&words.map(String::from));
    let config = loaded.config.unwrap_or_else(|| panic!("{}", render(&loaded.diagnostics, false)));
    let names: Vec<_> = config.routes.iter().map(|route| route.name.as_str()).collect();
    assert_eq!(names, ["root", "api-v1", "docs", "docs-x", "b"]);
    assert_eq!(config.routes[1].origin.location(), "<command line>:1:6");
    assert_eq!(config.routes[1].matches.hosts, [HostMatch::AnyLocal]);
    assert_eq!(config.routes[3].matches.path, PathMatch::Prefix("/x".into()));
    assert_eq!(config.routes[4].matches.hosts, [HostMatch::Wildcard("b.localhost".into())]);
    assert!(inline(&[]).config.is_some_and(|config| config.routes.is_empty()));
}

#[test]
fn an_empty_file_is_a_table_without_routes() {
    for text in ["", "\n", "\u{feff}", "# nothing\r\n"] {
        let config = from_str("empty.toml", text).config.expect("a config");
        assert!(config.routes.is_empty());
        assert_eq!(config.listen, Listen::default());
    }
}

#[test]
fn the_nearest_file_is_found_on_the_way_up() {
    let folder = tempfile::tempdir().expect("a folder");
    let deep = folder.path().join("a/b");
    fs::create_dir_all(folder.path().join(".config")).expect("folders");
    fs::create_dir_all(&deep).expect("folders");
    let hidden = folder.path().join(".config/portolan.toml");
    fs::write(&hidden, "").expect("write");
    assert_eq!(find(&deep), Some(hidden));
    let plain = folder.path().join("a/portolan.toml");
    fs::write(&plain, "").expect("write");
    assert_eq!(find(&deep), Some(plain));
}

#[test]
fn defaults_are_those_of_the_contract() {
    let text = "[routes]\na = 1\nb = { path = \"/b/\", to = 2 }\nc = { methods = [\"GET\"], to = 3 }";
    let config = from_str("defaults.toml", text).config.expect("a config");
    let [a, b, c] = &config.routes[..] else { panic!("three routes") };
    assert_eq!(
        (&a.matches.hosts[..], &a.matches.path),
        (&[HostMatch::Exact("a.localhost".into())][..], &PathMatch::Prefix("/".into()))
    );
    assert_eq!((&b.matches.hosts[..], &b.matches.path), (&[HostMatch::AnyLocal][..], &PathMatch::Prefix("/b".into())));
    assert_eq!(c.matches.hosts, [HostMatch::Exact("c.localhost".into())]);
    let Action::Forward(forward) = &a.action else { panic!("a forward") };
    assert_eq!((forward.connect_timeout.as_secs(), forward.timeout.as_secs(), forward.retries), (2, 300, 1));
    assert_eq!(forward.targets[0].address, Address::Loopback(1));
}

#[test]
fn cors_without_options_is_a_warning_and_no_error() {
    let table = |methods: &str| format!("[routes]\na = {{ to = 1, cors = true, methods = [{methods}] }}");
    let loaded = from_str("a", &table("\"GET\""));
    assert!(loaded.config.is_some());
    assert_eq!(loaded.diagnostics.iter().map(|problem| problem.code).collect::<Vec<_>>(), ["lost-preflights"]);
    assert_eq!(from_str("a", &table("\"GET\", \"OPTIONS\"")).diagnostics, []);
}

/// The slowest of these would take hours if anything in their reading were quadratic, or overflow the stack.
#[test]
fn a_hostile_megabyte_is_refused_as_any_other_bad_file() {
    const SIZE: usize = 1024 * 1024;
    let many = |line: &dyn Fn(usize) -> String| (0..20_000).map(line).collect::<String>();
    let files = [
        "[".repeat(SIZE),
        "{".repeat(SIZE),
        format!("a = {}", "[".repeat(SIZE)),
        format!("a = {}", "{a=".repeat(SIZE / 3)),
        format!("{}a = 1", "a.".repeat(SIZE / 2)),
        format!("[{}a]", "a.".repeat(SIZE / 2)),
        "\"".repeat(SIZE),
        "=\n".repeat(SIZE / 2),
        many(&|_| "same = 1\n".into()),
        many(&|_| "[[routes]]\nx = 1\n".into()),
        many(&|_| "[routes]\n".into()),
        format!(
            "[routes]\nbad = 0\n{}",
            many(&|at| format!("r{at} = {{ path = \"/\", methods = [\"GET\", \"M{at}\"], to = 1 }}\n"))
        ),
        format!("[services]\n{}", many(&|at| format!("s{at} = {{ run = \"x\", needs = [\"s{}\"] }}\n", at + 1))),
    ];
    for text in files {
        let loaded = from_str("hostile.toml", &text);
        assert!(loaded.config.is_none(), "taken: {}", &text[..40]);
        assert!(!loaded.diagnostics.is_empty() && loaded.diagnostics.len() <= 1001);
    }
}

#[test]
fn every_code_that_is_told_is_in_the_list_of_codes() {
    let list = fs::read_to_string("src/config/check/mod.rs").expect("the list");
    for entry in fs::read_dir(FOLDER).expect("the folder") {
        let path = entry.expect("an entry").path();
        let Ok(said) = fs::read_to_string(&path) else { continue };
        for code in said.lines().filter_map(|line| line.strip_prefix("error[")?.split(']').next()) {
            assert!(list.contains(&format!("`{code}`")), "{code} of {}", path.display());
        }
    }
}

#[test]
fn exposure_takes_two_words() {
    assert!(from_str("a", "listen = \"0.0.0.0:80\"").config.is_none());
    let config = from_str("a", "listen = \"0.0.0.0:80\"\nexpose = true").config.expect("a config");
    assert_eq!(config.listen.required, [([0, 0, 0, 0], 80).into()]);
    assert!(parse_listen("127.0.0.1:0", "--listen").is_ok());
    assert!(parse_listen("[::ffff:127.0.0.1]:80", "--listen").is_ok());
}

/// What TOML, terminals and decoders trip over.
const ODD: &str = "[\\[\\]{}=\",.'#\n\r\\\\a-z0-9 \u{0}\u{1b}\u{feff}é]{0,12}";

proptest::proptest! {
    #[test]
    fn no_text_at_all_ends_more_than_its_own_reading(
        at in 0..10_000_usize, length in 0..40_usize,
        with in proptest::string::string_regex(ODD).expect("a pattern"),
    ) {
        let mut text = fs::read_to_string("config/reference.toml").expect("the reference");
        let start = text.floor_char_boundary(at.min(text.len()));
        let end = text.ceil_char_boundary((start + length).min(text.len()));
        text.replace_range(start..end, &with);
        let loaded = from_str("mutated.toml", &text);
        let refused = loaded.diagnostics.iter().any(portolan::diagnostic::Diagnostic::is_error);
        proptest::prop_assert_eq!(loaded.config.is_none(), refused);
        let shown = render(&loaded.diagnostics, false);
        let control = |c| c == char::from(27) || c == char::from(0);
        proptest::prop_assert!(!shown.contains(control));
    }
}
