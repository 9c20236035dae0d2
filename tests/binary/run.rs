//! `run`: a command gets a port and a name, and is otherwise as if it had been typed without us.

use std::{
    io::Write as _,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    path::Path,
    process::{Command, Stdio},
    time::Duration,
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    client::until,
    processes::{Home, Running, text, usual_descriptors},
    program::{Portolan, run},
};

/// The ports that are given.
const GIVEN: std::ops::RangeInclusive<u64> = 49_152..=65_535;

impl Home {
    /// `portolan run`, with what stands behind it, in a folder of this home.
    fn start_run(&self, folder: &Path, arguments: &[&str]) -> Running {
        Running::start(self.run_in(folder, arguments))
    }

    fn run_in(&self, folder: &Path, arguments: &[&str]) -> Command {
        let mut command = self.portolan(&[&["run"], arguments].concat());
        command.current_dir(folder);
        command
    }

    /// `portolan run --name NAME` of the server.
    fn start_server(&self, name: &str) -> Running {
        self.start_run(self.folder().path(), &["--name", name, "--", "python3", "server.py"])
    }
}

#[test]
fn a_program_is_given_a_free_port_and_is_reached_by_its_name() {
    let home = Home::new();
    let _run = home.start_server("shop");
    let told = home.told_by("shop.localhost");
    let environment = &told["env"];
    assert_eq!(environment["PORT"], told["port"].to_string());
    assert!(GIVEN.contains(&told["port"].as_u64().unwrap()), "{told}");
    assert_eq!(environment["HOST"], "127.0.0.1");
    let url = environment["PORTOLAN_URL"].as_str().unwrap();
    assert_eq!(url.trim_end_matches('/'), format!("http://shop.localhost:{}", home.proxy().port()));
}

#[test]
fn a_port_that_was_asked_for_is_given() {
    let home = Home::new();
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port().to_string();
    let _run = home.start_run(home.folder().path(), &["--name", "shop", "--port", &free, "--", "python3", "server.py"]);
    let told = home.told_by("shop.localhost");
    assert_eq!((&told["env"]["PORT"], told["port"].to_string()), (&json!(free), free.clone()));
}

#[test]
fn a_placeholder_in_the_command_becomes_the_port() {
    let home = Home::new();
    let command = ["--name", "shop", "--", "python3", "server.py", "port={port}", "--address=http://x:{port}/"];
    let _run = home.start_run(home.folder().path(), &command);
    let told = home.told_by("shop.localhost");
    let port = told["env"]["PORT"].as_str().unwrap();
    assert_eq!(told["words"], json!([format!("port={port}"), format!("--address=http://x:{port}/")]));
}

#[test]
fn a_program_that_ignores_its_port_is_found() {
    let home = Home::new();
    // A grandchild, too: what listens is seldom what was typed.
    let command = ["--name", "shop", "--", "sh", "-c", "python3 server.py port=0; true"];
    let _run = home.start_run(home.folder().path(), &command);
    let told = home.told_by("shop.localhost");
    assert_ne!(told["env"]["PORT"], told["port"].to_string());
}

#[test]
fn a_program_is_named_by_the_flag_or_its_package_or_its_folder() {
    let home = Home::new();
    let server = text(&home.folder().file("server.py")).to_owned();
    home.folder().write("packed/package.json", r#"{ "name": "chandler" }"#);
    home.folder().write("scoped/package.json", r#"{ "name": "@harbour/pilot" }"#);
    home.folder().write("nameless/package.json", r#"{ "private": true }"#);
    let cases: [(&str, &[&str], &str); 5] = [
        ("packed", &[], "chandler.localhost"),
        ("scoped", &[], "pilot.localhost"),
        ("nameless", &[], "nameless.localhost"),
        ("Plain_Folder", &[], "plain-folder.localhost"),
        ("packed", &["--name", "flagged"], "flagged.localhost"),
    ];
    for (folder, flags, host) in cases {
        let _run = home.start_run(&home.room(folder), &[flags, &["--", "python3", &server]].concat());
        assert_eq!(home.told_by(host)["folder"], text(&home.room(folder)), "{host}");
    }
}

#[test]
fn a_worktree_of_git_puts_its_branch_before_the_name() {
    let home = Home::new();
    let main = home.room("main");
    home.folder().write("main/package.json", r#"{ "name": "shop" }"#);
    home.folder().write("main/server.py", crate::processes::SERVER);
    let git = |arguments: &[&str]| {
        let mut git = Command::new("git");
        git.args(["-c", "user.name=Ada", "-c", "user.email=ada@localhost"]).args(arguments).current_dir(&main);
        home.adopt(&mut git);
        let said = run(git);
        assert_eq!(said.code, 0, "{said:?}");
    };
    git(&["init", "--quiet", "--initial-branch", "main"]);
    git(&["add", "."]);
    git(&["commit", "--quiet", "--message", "All of it"]);
    git(&["worktree", "add", "--quiet", "../feature", "-b", "lighthouse"]);

    let command = ["--", "python3", "server.py"];
    let _trunk = home.start_run(&main, &command);
    let _branch = home.start_run(&home.room("feature"), &command);

    assert_eq!(home.told_by("shop.localhost")["folder"], text(&main));
    assert_eq!(home.told_by("lighthouse.shop.localhost")["folder"], text(&home.room("feature")));
}

#[test]
fn a_route_comes_when_the_program_listens_and_goes_when_it_ends() {
    let home = Home::new();
    let _other = home.start_server("other");
    home.told_by("other.localhost");
    let mut shop = home.start_server("shop");
    home.told_by("shop.localhost");

    shop.signal(Signal::TERM);
    assert_eq!(shop.wait(), 0);
    home.wait_until_gone("shop.localhost");
    assert_eq!(home.told_by("other.localhost")["name"], "server");
}

#[test]
fn it_exits_as_its_command_does() {
    let home = Home::new();
    let locked = home.folder().write("locked", "#!/bin/sh\n");
    std::fs::set_permissions(&locked, std::fs::Permissions::from_mode(0o644)).unwrap();
    let cases: [(&[&str], i32); 7] = [
        (&["true"], 0),
        (&["sh", "-c", "exit 7"], 7),
        (&["sh", "-c", "exit 255"], 255),
        (&["sh", "-c", "kill -TERM $$"], 143),
        (&["sh", "-c", "kill -KILL $$"], 137),
        (&["no-such-command-anywhere"], 127),
        (&["./locked"], 126),
    ];
    for (command, code) in cases {
        let said = home.say(&[&["run", "--name", "shop", "--"], command].concat());
        assert_eq!((said.code, said.out.as_str()), (code, ""), "{command:?}: {}", said.err);
    }
}

#[test]
fn a_command_that_cannot_be_started_is_named() {
    let home = Home::new();
    let said = home.say(&["run", "--name", "shop", "--", "no-such-command-anywhere"]);
    assert!(said.err.contains("no-such-command-anywhere"), "{}", said.err);
}

#[test]
fn signals_reach_the_command_which_decides_what_becomes_of_them() {
    let home = Home::new();
    for (signal, code) in [(Signal::TERM, 21), (Signal::INT, 22)] {
        let mut run =
            home.start_run(home.folder().path(), &["--name", "shop", "--", "python3", "server.py", "code=21"]);
        home.told_by("shop.localhost");
        run.signal(signal);
        assert_eq!(run.wait(), code, "{signal:?}");
    }
}

#[test]
fn what_is_piped_in_comes_out_byte_for_byte() {
    let home = Home::new();
    let mut command = home.run_in(home.folder().path(), &["--name", "shop", "--", "cat"]);
    let mut cat = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let bytes: Vec<u8> = (0..200_000_u32).flat_map(u32::to_le_bytes).collect();
    let mut input = cat.stdin.take().unwrap();
    let sent = bytes.clone();
    let writer = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let output = cat.wait_with_output().unwrap();
    writer.join().unwrap();
    assert!(output.status.success() && output.stdout == bytes, "{}", String::from_utf8_lossy(&output.stderr));
}

#[test]
fn on_a_terminal_the_command_has_the_terminal() {
    let home = Home::new();
    let report = |words: &[&str]| -> Value {
        let mut terminal = home.terminal(words);
        assert_eq!(terminal.wait(), 0);
        serde_json::from_str(&terminal.out.wait_for_end().concat()).unwrap()
    };
    let command = ["python3", "terminal.py", "--report"];
    let portolan = [env!("CARGO_BIN_EXE_portolan"), "run", "--name", "shop", "--"];

    let alone = report(&command);
    assert_eq!(alone["code"], 3, "{alone}");
    assert_eq!(report(&[&portolan[..], &command].concat()), alone);
}

#[test]
fn a_closed_terminal_ends_the_command_and_all_that_it_started() {
    let home = Home::new();
    let portolan = env!("CARGO_BIN_EXE_portolan");
    let terminal = home.terminal(&[portolan, "run", "--name", "shop", "--", "sh", "-c", FAMILY]);
    home.told_by("shop.localhost");
    // It holds the other end of the terminal.
    terminal.signal(Signal::KILL);
    until("nobody is left", || home.processes().iter().all(|(pid, _)| *pid == terminal.pid().cast_signed()));
}

#[test]
fn a_port_of_the_proxy_that_somebody_else_holds_is_told_with_the_holder() {
    let home = Home::new();
    let _holder = TcpListener::bind(home.proxy()).unwrap();
    let said = home.say(&["run", "--name", "shop", "--", "touch", "started"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(said.err.contains(&format!("(pid {})", std::process::id())), "{}", said.err);
    assert!(!home.folder().file("started").exists(), "nothing is started that could not be reached");
}

#[test]
fn a_name_that_is_taken_is_refused_with_who_has_it() {
    let home = Home::new();
    let first = home.start_server("shop");
    let pid = home.told_by("shop.localhost")["pid"].to_string();

    let room = home.room("elsewhere");
    let server = home.folder().file("server.py");
    let said = run(home.run_in(&room, &["--name", "shop", "--", "python3", text(&server)]));

    assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(said.err.starts_with("error[") && said.err.contains("shop"), "{}", said.err);
    // Its own number or that of the process that was typed: either leads there.
    let names = |pid: &str| said.err.contains(&format!("pid {pid}"));
    assert!(names(&pid) || names(&first.pid().to_string()), "{pid}, {}: {}", first.pid(), said.err);
    assert!(said.err.contains(text(home.folder().path())) || said.err.contains('~'), "{}", said.err);
    assert_eq!(home.told_by("shop.localhost")["pid"].to_string(), pid, "the first one is not touched");
}

#[test]
fn a_proxy_of_its_own_ends_with_the_last_that_needs_it() {
    let home = Home::new();
    let mut runs = ["shop", "docs"].map(|name| {
        let run = home.start_server(name);
        home.told_by(&format!("{name}.localhost"));
        run
    });
    for run in &mut runs {
        assert!(home.ask("docs.localhost", "/").is_some(), "there is a proxy as long as one of them runs");
        run.signal(Signal::TERM);
        run.wait();
    }
    until("nobody is left", || home.processes().is_empty());
    assert!(home.ask("docs.localhost", "/").is_none());
}

#[test]
fn runs_that_start_at_once_share_one_proxy() {
    let home = Home::new();
    let names = ["ada", "grace", "hedy", "joan", "mary"];
    let _runs = names.map(|name| home.start_server(name));
    for name in names {
        home.told_by(&format!("{name}.localhost"));
    }
    for name in names {
        let answer = home.ask(&format!("{name}.localhost"), "/").unwrap();
        assert_eq!(answer.status, 200, "{name}: {}", answer.body);
    }
}

#[test]
fn it_joins_the_proxy_that_runs_already() {
    let home = Home::with_table("[routes]\nme = { path = \"/me\", respond = \"Ada\" }\n");
    let portolan = Portolan::start(home.portolan(&["serve"]));
    assert_eq!(portolan.address(), home.proxy());
    let mut shop = home.start_server("shop");
    home.told_by("shop.localhost");
    assert_eq!(home.ask("localhost", "/me").unwrap().body, "Ada");

    shop.signal(Signal::TERM);
    shop.wait();
    home.wait_until_gone("shop.localhost");
    assert_eq!(home.ask("localhost", "/me").unwrap().body, "Ada");
}

/// Starts a whole family: a shell, a server, its child, and one that has left for a session of its own.
const FAMILY: &str = "python3 server.py & sh -c 'sleep 1000 & wait' & setsid sh -c 'sleep 1000; true' & wait";

#[test]
fn nobody_is_left_behind_when_it_is_killed() {
    let home = Home::new();
    let mut run = home.start_run(home.folder().path(), &["--name", "shop", "--", "sh", "-c", FAMILY]);
    let port = home.told_by("shop.localhost")["port"].as_u64().unwrap().try_into().unwrap();
    until("all are there", || home.programs().len() >= 6);

    run.signal(Signal::KILL);
    assert_eq!(run.wait(), 137);
    let took = home.time_until_no_program_is_left(&[port]);
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    home.wait_until_gone("shop.localhost");
}

#[test]
fn nobody_is_left_behind_when_the_command_ends_before_its_children() {
    let home = Home::new();
    let family = format!("({FAMILY}) & read line < go");
    let mut fifo = Command::new("mkfifo");
    fifo.arg(home.folder().file("go"));
    assert_eq!(run(fifo).code, 0);
    let mut run = home.start_run(home.folder().path(), &["--name", "shop", "--", "sh", "-c", &family]);
    home.told_by("shop.localhost");
    std::fs::write(home.folder().file("go"), "\n").unwrap();

    assert_eq!(run.wait(), 0);
    assert!(home.programs().is_empty(), "{:?}", home.programs());
}

#[test]
fn the_command_has_no_descriptor_of_ours() {
    let home = Home::new();
    let _run = home.start_server("shop");
    assert_eq!(home.told_by("shop.localhost")["descriptors"], usual_descriptors());
}
