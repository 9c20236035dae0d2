//! What our pages say stays true: commands, causes, limits, the picture, the rows, the links.
#![expect(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails loudly")]

use std::{
    fs,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use portolan::{
    http1::head::{MAX_FIELDS, MAX_HEAD, MAX_TARGET},
    listen::deadlines::{BODY, HEAD, KEEP_ALIVE, WRITE},
    respond::pages::Cause,
};

#[test]
fn the_table_of_commands_says_what_help_says() {
    let told = pairs(&page("README.md"), "| command |");

    assert_eq!(told, commands_of_help());
}

#[test]
fn every_cause_stands_in_the_table_of_errors_with_its_status() {
    let told = pairs(&page("README.md"), "| `x-portolan-error` |");
    let causes = every_cause().into_iter().map(|cause| (cause.word().to_owned(), cause.status().to_string()));

    assert_eq!(told, causes.collect::<Vec<_>>());
}

#[test]
fn the_limits_are_those_of_the_code() {
    let readme = page("README.md").split_whitespace().collect::<Vec<_>>().join(" ");
    let kib = |bytes: usize| format!("{} KiB", bytes / 1024);
    for told in [
        format!("heads of {} and {MAX_FIELDS} fields", kib(MAX_HEAD)),
        format!("larger than {}, or has more than {MAX_FIELDS} fields", kib(MAX_HEAD)),
        format!("longer than {}", kib(MAX_TARGET)),
        format!("{} s for a head", HEAD.as_secs()),
        format!("{} s between two pieces of a body", BODY.as_secs()),
        format!("{} s between two requests", KEEP_ALIVE.as_secs()),
    ] {
        assert!(readme.contains(&told), "README.md does not say: {told}");
    }
    assert_eq!(BODY, WRITE, "README.md tells one time for both ways of a body");
}

#[test]
fn the_picture_shows_what_the_demo_says() {
    let picture = page("README.md");
    let mut child = Command::new(env!("CARGO_BIN_EXE_portolan"))
        .args(["demo", "--listen", "127.0.0.1:0"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut routes: Vec<String> = Vec::new();
    let mut port = None;
    for line in lines {
        match line.strip_prefix("portolan ready http://127.0.0.1:") {
            Some(ready) => {
                port = Some(ready.to_owned());
                break;
            }
            None => routes.push(line),
        }
    }
    child.kill().unwrap();
    child.wait().unwrap();

    let port = port.expect("the demo says that it is ready");
    assert!(routes.len() >= 3, "the demo shows routes: {routes:?}");
    for route in routes {
        let words: Vec<&str> = route.split_whitespace().collect();
        let (name, url) = (words[0], words[1].replace(&port, "62893"));
        let shown = picture.lines().any(|line| {
            let words: Vec<&str> = line.split_whitespace().collect();
            words.starts_with(&["➜", name, url.as_str()])
        });
        assert!(shown, "the picture lacks route {name} at {url}");
    }
}

#[test]
fn the_table_that_does_most_jobs_has_ten_lines() {
    assert_eq!(the_table().lines().count(), 10);
}

#[test]
fn what_explain_is_shown_to_say_it_says() {
    let readme = page("README.md");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("portolan.toml"), the_table()).unwrap();
    let shown = readme.split("$ portolan ").find(|text| text.starts_with("explain ")).expect("an explanation");
    let (command, answer) = shown.split("```").next().unwrap_or_default().split_once('\n').expect("an answer");

    let said = portolan(folder.path(), &command.split(' ').collect::<Vec<_>>());

    assert_eq!(said, answer);
}

#[test]
fn the_rows_of_the_architecture_are_those_of_the_crate() {
    let bare = |row: Vec<String>| row.join(" ").replace(['[', ']', '`'], "");
    let of = |text: &str| rows(text, "| row |").into_iter().map(bare).collect::<Vec<_>>();
    let of_crate = of(&page("src/lib.rs").replace("//! ", ""));

    assert!(!of_crate.is_empty(), "src/lib.rs has lost its table of rows");
    assert_eq!(of(&page("ARCHITECTURE.md")), of_crate);
}

#[test]
fn hyper_is_known_only_where_the_architecture_says() {
    let places =
        ["control/client.rs", "control/server.rs", "demo/mod.rs", "discover/container/client.rs", "upstream/health.rs"];
    let said = page("ARCHITECTURE.md").replace('\n', " ");
    let sentence =
        said.split("**Invariant:** ").find(|text| text.starts_with("hyper is known")).expect("the invariant");
    for named in ["`control`", "`demo`", "`discover::container`", "`upstream::health`"] {
        assert!(sentence.contains(named), "ARCHITECTURE.md does not name {named}");
    }
    for file in sources(&root().join("src")) {
        let path = file.strip_prefix(root().join("src")).unwrap();
        let text = fs::read_to_string(&file).unwrap();
        let code = text.lines().filter(|line| !line.trim_start().starts_with("//"));
        let knows = code.into_iter().any(|line| line.contains("hyper::") || line.contains("hyper_util::"));
        assert!(!knows || places.iter().any(|place| path == Path::new(place)), "{} knows hyper", path.display());
    }
}

#[test]
fn every_link_to_a_file_leads_somewhere() {
    let mut links = 0;
    for page in pages() {
        let text = fs::read_to_string(&page).unwrap();
        for link in text.split("](").skip(1).filter_map(|behind| behind.split(')').next()) {
            if link.contains("://") {
                continue;
            }
            let target = page.parent().unwrap().join(link);
            assert!(target.exists(), "{}: {link} leads nowhere", page.display());
            links += 1;
        }
    }
    assert!(links >= 10, "only {links} links were found");
}

#[test]
fn our_pages_stay_short_and_narrow() {
    for (name, most) in [("README.md", 280), ("ARCHITECTURE.md", 120), ("CONTRIBUTING.md", 60)] {
        let lines = page(name).lines().count();
        assert!(lines < most, "{name} has {lines} lines, and may have less than {most}");
    }
    for name in ["README.md", "ARCHITECTURE.md", "CHANGELOG.md"] {
        // A row of a table cannot be broken.
        for line in page(name).lines().filter(|line| !line.starts_with('|')) {
            assert!(line.chars().count() <= 120, "{name}: {line}");
        }
    }
}

/// Every variant: a new one does not compile until it stands here.
fn every_cause() -> Vec<Cause> {
    macro_rules! all {
        ($($cause:ident),*) => {{
            let _every_variant_is_here: fn(Cause) = |cause| match cause { $(Cause::$cause => ()),* };
            vec![$(Cause::$cause),*]
        }};
    }
    all!(
        BadRequest,
        NoRoute,
        NoFile,
        MethodRefused,
        UriTooLong,
        HeadTooLarge,
        UnknownCoding,
        UnknownHost,
        Internal,
        ConnectRefused,
        UpstreamClosed,
        BadUpstreamReply,
        NoProcess,
        WrongOwner,
        Starting,
        HoldExpired,
        Unhealthy,
        Overloaded,
        ConnectTimeout,
        UpstreamTimeout,
        Loop,
        HostRefused,
        Misdirected,
        TlsFailed
    )
}

/// The commands and what `--help` says of each, but for `help` itself.
fn commands_of_help() -> Vec<(String, String)> {
    let help = portolan(root(), &["--help"]);
    let list = help.split("Commands:\n").nth(1).and_then(|behind| behind.split("\n\n").next()).expect("commands");
    let command = |line: &str| {
        let (name, words) = line.trim().split_once(' ').unwrap_or_else(|| panic!("no words: {line}"));
        (name.to_owned(), words.trim().to_owned())
    };
    list.lines().map(command).filter(|(name, _)| name != "help").collect()
}

/// The first table of the README; that it loads is for `tests/examples.rs` to say.
fn the_table() -> String {
    let readme = page("README.md");
    let table = readme.split("```toml\n").nth(1).and_then(|behind| behind.split("```").next());
    table.expect("a table").to_owned()
}

fn portolan(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_portolan"));
    command.current_dir(folder).args(arguments).env_remove("PORTOLAN_CONFIG").env("LC_ALL", "C.UTF-8");
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The cells of the rows of the table that begins with `heading`.
fn rows(text: &str, heading: &str) -> Vec<Vec<String>> {
    let table = text.lines().skip_while(|line| !line.starts_with(heading)).take_while(|line| line.starts_with('|'));
    let cells = |line: &str| line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
    table.skip(2).map(cells).collect()
}

/// The first two cells of each row, without the backticks around the first.
fn pairs(text: &str, heading: &str) -> Vec<(String, String)> {
    let pair = |row: Vec<String>| (row[0].trim_matches('`').to_owned(), row[1].clone());
    rows(text, heading).into_iter().map(pair).collect()
}

fn page(name: &str) -> String {
    fs::read_to_string(root().join(name)).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// The pages of the repository's root, of the benchmark and of the examples.
fn pages() -> Vec<PathBuf> {
    let examples = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path().join("README.md"));
    let others = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md", "benches/peers/README.md"];
    others.map(|name| root().join(name)).into_iter().chain(examples).collect()
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let files = entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] });
    files.filter(|path| path.extension().is_some_and(|extension| extension == "rs")).collect()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}
