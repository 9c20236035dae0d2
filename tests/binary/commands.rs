//! The commands that answer and end: their words, their JSON and their exit codes.

use std::{
    fs, io,
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};

use crate::{
    client::until,
    folder::{Folder, TABLE},
    program::{Portolan, portolan, run, say},
};

const COMMANDS: [&str; 9] = ["serve", "demo", "check", "explain", "routes", "init", "schema", "completions", "man"];

/// A table with a route of each rank.
const TOWN: &str = r#"project = "town"

[routes]
web  = { path = "/", to = 5173 }
api  = { path = "/api", to = 8000, strip_prefix = true }
save = { path = "/api", methods = ["POST"], to = 8001 }
beta = { path = "/api", headers = { x-beta = "1" }, to = [8002, { to = 8003, weight = 9 }] }
docs = 4000
mail = { host = "*.mail.localhost", to = "http://127.0.0.1:8025" }
old  = { path_exact = "/old", redirect = { to = "/new", status = 308 } }
me   = { path = "/api/me", methods = ["GET"], respond = { json = { name = "Ada" } } }
site = { host = "site.localhost", files = "dist" }
"#;

const BAD: &str = r#"lisen = "localhost:1"

[routes]
web = { path = "/", to = 5173 }
api = { path = "/api", tagret = 8000 }
one = { path = "/one", to = 1 }
two = { path = "/one", to = 2 }
"#;

/// Compares with a text in `golden/`, or writes it.
fn assert_golden(name: &str, said: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/binary/golden").join(name);
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        return fs::write(path, said).unwrap();
    }
    let wanted = fs::read_to_string(&path).unwrap_or_default();
    assert!(wanted == said, "{}\n--- wanted\n{wanted}--- said\n{said}---", path.display());
}

fn json(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_version_is_one_line() {
    let said = say(&Folder::new(), &["--version"]);
    assert_eq!((said.code, said.out), (0, format!("portolan {}\n", env!("CARGO_PKG_VERSION"))));
}

#[test]
fn help_names_every_command_and_goes_to_standard_output() {
    let said = say(&Folder::new(), &["--help"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    for command in COMMANDS {
        assert!(said.out.lines().any(|line| line.trim_start().starts_with(command)), "{command}: {}", said.out);
    }
    let widest = said.out.lines().map(|line| line.chars().count()).max();
    assert!(widest <= Some(100), "{}", said.out);
}

#[test]
fn every_command_has_help_of_its_own() {
    for command in COMMANDS {
        let said = say(&Folder::new(), &[command, "--help"]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{command}");
        assert!(said.out.contains(&format!("Usage: portolan {command}")), "{}", said.out);
    }
}

#[test]
fn what_cannot_be_meant_is_usage_and_exits_2() {
    let folder = Folder::with_table(TOWN);
    let wrong: [&[&str]; 10] = [
        &["--lisen", "localhost:0"],
        &["check", "--lisen"],
        &["serve", "--listen"],
        &["serve", "--listen", "here"],
        &["-q", "-v", "check"],
        &["--listen", "127.0.0.1:0", "check"],
        &["completions", "klingon"],
        &["explain"],
        &["explain", "GET", "http://a b/"],
        &["explain", "ftp://localhost/"],
    ];
    for arguments in wrong {
        let said = say(&folder, arguments);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{arguments:?}: {}", said.err);
        assert!(said.err.starts_with("error"), "{arguments:?}: {}", said.err);
    }
}

#[test]
fn flags_of_every_command_may_stand_before_it_or_behind_it() {
    let folder = Folder::with_table("broken");
    folder.write("good.toml", TOWN);
    for arguments in [["-c", "good.toml", "check"], ["check", "-c", "good.toml"]] {
        assert_eq!(say(&folder, &arguments).out, "ok, 9 routes\n", "{arguments:?}");
    }
}

#[test]
fn a_flag_of_serve_before_another_command_is_refused_and_not_ignored() {
    let said = say(&Folder::with_table(TOWN), &["--listen", "127.0.0.1:0", "demo"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("portolan demo --listen ADDR"), "{}", said.err);
}

#[test]
fn a_flag_with_a_slip_is_answered_with_the_right_one() {
    let said = say(&Folder::new(), &["serve", "--lisen", "localhost:0"]);
    assert!(said.err.contains("--listen"), "{}", said.err);
}

#[test]
fn check_says_that_a_good_table_is_good() {
    let said = say(&Folder::with_table(TOWN), &["check"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "ok, 9 routes\n", ""));
}

#[test]
fn check_tells_every_problem_of_a_bad_table_in_one_run() {
    let said = say(&Folder::with_table(BAD), &["check"]);
    assert_eq!((said.code, said.err.as_str()), (1, ""));
    assert_golden("check_bad.txt", &said.out);
}

#[test]
fn check_tells_the_same_as_json() {
    let folder = Folder::with_table(BAD);
    let said = say(&folder, &["check", "--json"]);
    assert_eq!((said.code, said.err.as_str(), said.out.lines().count()), (1, "", 1));
    let answer = json(&said.out);
    let problems = answer["diagnostics"].as_array().unwrap();
    assert_eq!((answer["errors"].as_u64(), answer["warnings"].as_u64()), (Some(3), Some(0)), "{answer}");
    let places: Vec<_> =
        problems.iter().map(|problem| json!([problem["code"], problem["file"], problem["line"]])).collect();
    assert_eq!(places[..2], [json!(["unknown-key", TABLE, 1]), json!(["unknown-key", TABLE, 5])], "{answer}");
    let second = &problems[1];
    assert_eq!((second["column"].as_u64(), second["end_column"].as_u64()), (Some(24), Some(30)), "{second}");
    assert_eq!((&second["patch"]["replace"], &second["patch"]["with"]), (&json!("tagret"), &json!("to")));

    folder.write(TABLE, TOWN);
    let said = say(&folder, &["--json", "check"]);
    assert_eq!((said.code, json(&said.out)), (0, json!({ "errors": 0, "warnings": 0, "diagnostics": [] })));
}

#[test]
fn a_file_that_cannot_be_read_is_named_and_exits_2() {
    let folder = Folder::new();
    for command in [&["check"][..], &["routes"], &["explain", "/"], &["serve"]] {
        let said = say(&folder, &[&["-c", "missing.toml"], command].concat());
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{command:?}: {}", said.err);
        assert_eq!(
            said.err.trim_end(),
            "error[unreadable-file]: cannot read missing.toml: there is no such file",
            "{command:?}"
        );
    }
    let said = say(&folder, &["-c", ".", "check"]);
    assert_eq!(said.code, 2);
    assert!(said.err.contains("it is a folder"), "{}", said.err);
}

#[test]
fn no_table_at_all_is_said_with_the_way_to_one() {
    let folder = Folder::new();
    for command in [&["check"][..], &["routes"], &["explain", "/"]] {
        let said = say(&folder, command);
        assert_eq!((said.code, said.out.as_str()), (2, ""), "{command:?}");
        assert!(said.err.starts_with("error[no-table]: ") && said.err.contains("portolan init"), "{}", said.err);
    }
}

#[test]
fn explain_tells_the_route_and_why_not_the_others() {
    let folder = Folder::with_table(TOWN);
    let said = say(&folder, &["explain", "/api/me/photo"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_golden("explain.txt", &said.out);
}

#[test]
fn explain_takes_a_method_a_host_and_fields() {
    let folder = Folder::with_table(TOWN);
    let answers = |arguments: &[&str], route: &str| {
        let said = say(&folder, &[&["--json", "explain"], arguments].concat());
        assert_eq!((said.code, json(&said.out)["route"].as_str()), (0, Some(route)), "{arguments:?}: {}", said.out);
    };
    answers(&["/api/users"], "api");
    answers(&["POST", "/api/users"], "save");
    answers(&["/api/users", "-H", "x-beta: 1"], "beta");
    answers(&["GET", "http://localhost:62893/api/me?x=1#there"], "me");
    answers(&["http://docs.town.localhost"], "docs");
    answers(&["http://a.b.mail.localhost/"], "mail");
    answers(&["[::1]/anything"], "web");
}

#[test]
fn explain_takes_https_as_it_takes_http() {
    let folder = Folder::with_table("[routes]\nall = { path = \"/\", to = 1 }\n");
    let said = say(&folder, &["explain", "https://docs.localhost/a?b"]);
    assert_eq!((said.out.lines().next(), said.code), (Some("GET https://docs.localhost/a?b"), 0));
}

#[test]
fn explain_as_json_has_its_documented_fields() {
    let folder = Folder::with_table(TOWN);
    let answer = json(&say(&folder, &["explain", "--json", "/api/users?page=2"]).out);
    let expected = json!({
        "method": "GET", "host": "localhost", "path": "/api/users", "query": "page=2",
        "route": "api", "target": ":8000", "origin": "portolan.toml:5:1", "error": null,
    });
    for (field, value) in expected.as_object().unwrap() {
        assert_eq!(&answer[field], value, "{field} of {answer}");
    }
    let outcomes: Vec<_> = answer["candidates"].as_array().unwrap().iter().map(|one| &one["outcome"]).collect();
    assert!(outcomes.contains(&&json!("answers")) && outcomes.contains(&&json!("fails")), "{answer}");
}

#[test]
fn explain_exits_1_where_no_route_answers() {
    let folder = Folder::with_table("[routes]\ndocs = 4000\n");
    let said = say(&folder, &["explain", "/nothing"]);
    assert_eq!((said.code, said.out.lines().nth(1)), (1, Some("  no route: 404 no-route")), "{}", said.out);
    let said = say(&folder, &["explain", "http://example.com/"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("421 unknown-host"), "{}", said.out);
    let said = say(&folder, &["explain", "--json", "http://example.com/"]);
    assert_eq!((said.code, &json(&said.out)["error"]), (1, &json!("unknown-host")));
}

#[test]
fn routes_stand_in_the_order_in_which_they_are_asked() {
    let folder = Folder::with_table(TOWN);
    let said = say(&folder, &["routes"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert_golden("routes.txt", &said.out);
    let answer = json(&say(&folder, &["routes", "--json"]).out);
    let names: Vec<_> =
        answer["routes"].as_array().unwrap().iter().map(|route| route["name"].as_str().unwrap()).collect();
    let listed: Vec<_> = said.out.lines().map(|line| line.split(' ').next().unwrap()).collect();
    assert_eq!(names, listed);
    let docs = answer["routes"].as_array().unwrap().iter().find(|route| route["name"] == "docs").unwrap();
    let expected = json!({
        "name": "docs", "pattern": "docs.town.localhost/", "target": ":4000",
        "url": "http://docs.town.localhost:62893/", "origin": "portolan.toml:8:1",
    });
    assert_eq!(docs, &expected);
}

#[test]
fn a_route_with_thousands_of_hosts_and_targets_is_listed_like_any_other() {
    let hosts: Vec<_> = (0..10_000).map(|number| format!("host-{number}.localhost")).collect();
    let targets: Vec<_> = (0..10_000).map(|number| 20_000 + number).collect();
    let said = say(
        &Folder::with_table(format!("[routes]\nmany = {{ hosts = {hosts:?}, to = {targets:?} }}\nfew = 1\n")),
        &["routes"],
    );
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains("host-9999.localhost/") && said.out.contains(":29999"), "{}", said.out);
    let few = said.out.lines().find(|line| line.starts_with("few ")).unwrap();
    assert!(few.len() < 300, "one long line makes no other one long: {few}");
}

#[test]
fn a_typed_address_decides_which_route_would_lead_to_portolan_itself() {
    let own = ["serve", "--listen", "127.0.0.1:48999", "/=48999"];
    let said = say(&Folder::new(), &own);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.starts_with("error[own-address]: route `root` leads to portolan itself"), "{}", said.err);

    // The default address is somebody else's where another one was typed, at the start and at a reload.
    Portolan::serve(&Folder::new(), &["/=62893"]);
    let folder = Folder::with_table("[routes]\nweb = 62893\n");
    let portolan = Portolan::serve(&folder, &[]);
    folder.write(TABLE, "[routes]\nweb = 62893\napi = 62893\n");
    portolan.err.wait_for(|line| line.contains("+ api"));
}

#[test]
fn routes_of_a_bad_table_are_its_problems() {
    let said = say(&Folder::with_table(BAD), &["routes"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.contains("portolan.toml:5:24"), "{}", said.err);
}

/// What `init` writes while two programs listen, both of them this one.
fn first_table(folder: &Folder) -> String {
    let listeners = [(); 2].map(|()| std::net::TcpListener::bind("127.0.0.1:0").unwrap());
    let targets = listeners.each_ref().map(|listener| format!(" = {} ", listener.local_addr().unwrap().port()));
    let owner = format!("pid {}", std::process::id());
    let (mut arguments, mut written) = (vec!["init"], String::new());
    // For a moment, a command that another test starts holds what we hold, and may be taken for its owner.
    until("what listens now is in it", || {
        let said = say(folder, &arguments);
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        assert!(said.out.starts_with("wrote portolan.toml:\n"), "{}", said.out);
        written = fs::read_to_string(folder.file(TABLE)).unwrap();
        arguments = vec!["init", "--force"];
        let has = |target: &String| written.lines().any(|line| line.contains(target) && line.ends_with(&owner));
        targets.iter().all(has)
    });
    written
}

#[test]
fn init_writes_a_table_that_loads() {
    let folder = Folder::new();
    let written = first_table(&folder);
    assert_eq!(say(&folder, &["check"]).code, 0, "{written}");
}

#[test]
fn init_puts_the_first_program_at_localhost_and_gives_the_others_a_name_each() {
    let folder = Folder::new();
    let written = first_table(&folder);
    let (_, routes) = written.split_once("[routes]\n").unwrap();
    let routes: Vec<_> = routes.lines().map(|line| line.split_once(" = ").unwrap()).collect();
    let (first, others) = routes.split_first().unwrap();
    assert!(first.1.starts_with("{ path = \"/\", to = "), "{written}");
    assert!(!others.is_empty() && others.iter().all(|(_, action)| !action.starts_with('{')), "{written}");

    let chosen = |url: &str| json(&say(&folder, &["explain", "--json", "GET", url]).out)["route"].clone();
    assert_eq!(chosen("http://127.0.0.1:62893/"), first.0);
    let (name, _) = others[0];
    assert_eq!(chosen(&format!("http://{name}.localhost:62893/")), name);
}

#[test]
fn init_never_replaces_a_table_unless_told_to() {
    let folder = Folder::with_table(TOWN);
    let said = say(&folder, &["init"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""));
    assert!(said.err.starts_with("error[file-exists]: ") && said.err.contains("--force"), "{}", said.err);
    assert_eq!(fs::read_to_string(folder.file(TABLE)).unwrap(), TOWN);

    let said = say(&folder, &["-q", "init", "--force"]);
    assert_eq!((said.code, said.out.as_str(), said.err.as_str()), (0, "", ""));
    assert_ne!(fs::read_to_string(folder.file(TABLE)).unwrap(), TOWN);
    assert_eq!(say(&folder, &["check"]).code, 0);
}

#[test]
fn the_schema_is_json_schema_of_draft_7() {
    let said = say(&Folder::new(), &["schema"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let schema = json(&said.out);
    assert_eq!(schema["$schema"], "http://json-schema.org/draft-07/schema#");
    for key in ["listen", "expose", "project", "routes"] {
        assert!(schema["properties"][key].is_object(), "{key}");
    }
}

#[test]
fn completions_know_every_command() {
    for shell in ["bash", "zsh", "fish"] {
        let said = say(&Folder::new(), &["completions", shell]);
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{shell}");
        for command in COMMANDS {
            assert!(said.out.contains(command), "{command} in {shell}");
        }
    }
}

#[test]
fn the_manual_is_a_page_with_every_command() {
    let said = say(&Folder::new(), &["man"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains(".TH portolan 1"), "{}", said.out);
    for command in COMMANDS {
        assert!(said.out.contains(&format!("portolan\\-{command}(1)")), "{command}: {}", said.out);
    }
}

#[test]
fn a_pipe_that_is_closed_early_ends_every_command_quietly() {
    let folder = Folder::with_table(TOWN);
    let elsewhere = Folder::new();
    let quietly = |mut command: Command| {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        let output = command.stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped()).output().unwrap();
        let err = String::from_utf8_lossy(&output.stderr);
        assert_eq!((output.status.code(), err.as_ref()), (Some(0), ""), "{command:?}");
    };
    let commands: [&[&str]; 9] = [
        &["--help"],
        &["check"],
        &["check", "--json"],
        &["explain", "/"],
        &["routes"],
        &["routes", "--json"],
        &["schema"],
        &["completions", "bash"],
        &["man"],
    ];
    for command in commands {
        quietly(portolan(&folder, command));
    }
    quietly(portolan(&elsewhere, &[]));
}

#[test]
fn another_folder_is_gone_to_first() {
    let folder = Folder::new();
    folder.write("shop/portolan.toml", TOWN);
    assert_eq!(say(&folder, &["-C", "shop", "check"]).out, "ok, 9 routes\n");
    assert_eq!(say(&folder, &["check", "-C", "shop", "-c", "portolan.toml"]).out, "ok, 9 routes\n");
    let said = say(&folder, &["-C", "nowhere", "check"]);
    assert_eq!(said.code, 2);
    assert!(said.err.starts_with("error[no-directory]: cannot go to nowhere: "), "{}", said.err);
}

#[test]
fn the_nearest_table_above_is_found() {
    let folder = Folder::new();
    folder.write("a/.config/portolan.toml", "[routes]\nhidden = 1\n");
    folder.write("a/b/c/readme", "");
    let found = |at: &str| say(&folder, &["-C", at, "routes"]).out.split(' ').next().unwrap().to_owned();
    assert_eq!(found("a/b/c"), "hidden");
    folder.write("a/portolan.toml", "[routes]\nplain = 1\n");
    assert_eq!(found("a/b/c"), "plain");
    folder.write("a/b/.config/portolan.toml", "[routes]\nnearer = 1\n");
    assert_eq!(found("a/b/c"), "nearer");
    assert_eq!(found("a"), "plain");
}

#[test]
fn the_environment_names_a_table_and_a_flag_goes_over_it() {
    let folder = Folder::with_table("[routes]\nhere = 1\n");
    folder.write("env.toml", "[routes]\nfrom-env = 1\n");
    folder.write("flag.toml", "[routes]\nfrom-flag = 1\n");
    let routes = |arguments: &[&str]| {
        let mut command = portolan(&folder, arguments);
        command.env("PORTOLAN_CONFIG", "env.toml");
        run(command).out
    };
    assert!(routes(&["routes"]).starts_with("from-env "), "{}", routes(&["routes"]));
    assert!(routes(&["routes", "-c", "flag.toml"]).starts_with("from-flag "));
}

#[test]
fn typed_routes_go_over_the_table_that_the_environment_names() {
    let folder = Folder::new();
    let mut command = portolan(&folder, &["serve", "--listen", "127.0.0.1:0", "/typed=1"]);
    command.env("PORTOLAN_CONFIG", "none.toml");
    let portolan = Portolan::start(command);
    assert!(portolan.greeting[0].starts_with("typed "), "{:?}", portolan.greeting);
}

#[test]
fn a_local_table_lies_over_the_shared_one() {
    let folder = Folder::with_table("[routes]\nweb = { path = \"/\", to = 1 }\napi = { path = \"/api\", to = 2 }\n");
    folder.write("portolan.local.toml", "[routes]\nweb = { path = \"/\", to = 3 }\nmine = 4\n");
    let said = say(&folder, &["routes"]).out;
    let targets: Vec<_> = said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let expected = [
        "mine mine.localhost/ -> :4 portolan.local.toml:3:1",
        "api /api -> :2 portolan.toml:3:1",
        "web / -> :3 portolan.local.toml:2:1",
    ];
    assert_eq!(targets, expected);

    folder.write("portolan.local.toml", "[routes]\nweb = { path = \"/\", tagret = 3 }\n");
    let said = say(&folder, &["check"]);
    assert_eq!(said.code, 1);
    assert!(said.out.contains("--> portolan.local.toml:2:21"), "{}", said.out);
}

#[test]
fn without_a_table_and_a_route_it_shows_what_listens_and_the_next_step() {
    let folder = Folder::new();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let said = say(&folder, &[]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let row = said.out.lines().find(|line| line.starts_with(&port.to_string()));
    let row = row.unwrap_or_else(|| panic!("no row for {port}:\n{}", said.out));
    assert!(row.contains(&std::process::id().to_string()) && row.ends_with(&format!(" = {port}")), "{row}");
    let steps: Vec<_> = said.out.lines().skip_while(|line| !line.starts_with("next:")).collect();
    assert_golden("next_steps.txt", &(steps.join("\n") + "\n"));
    assert!(!folder.file(TABLE).exists());

    let answer = json(&say(&folder, &["serve", "--json"]).out);
    let listeners = answer["listeners"].as_array().unwrap();
    let listener = listeners.iter().find(|listener| listener["port"] == port).unwrap();
    assert_eq!(listener["pid"], std::process::id());
}

#[test]
fn colour_is_for_terminals_unless_it_is_forced() {
    let folder = Folder::with_table(BAD);
    let coloured = |arguments: &[&str], settings: &[(&str, &str)]| {
        let mut command = portolan(&folder, arguments);
        command.envs(settings.iter().copied());
        run(command).out.contains('\u{1b}')
    };
    assert!(!coloured(&["check"], &[]));
    assert!(coloured(&["check"], &[("CLICOLOR_FORCE", "1")]));
    assert!(!coloured(&["check"], &[("CLICOLOR_FORCE", "1"), ("NO_COLOR", "1")]));
    assert!(coloured(&["check", "--color", "always"], &[("NO_COLOR", "1")]));
    assert!(!coloured(&["check", "--color", "never"], &[("CLICOLOR_FORCE", "1")]));
}
