//! `up` and its kin: services start in order, are looked after while they run, and nobody is left when they are to end.

use std::{
    fs,
    net::TcpListener,
    os::unix::fs::PermissionsExt as _,
    process::Stdio,
    time::{Duration, Instant},
};

use rustix::process::Signal;
use serde_json::{Value, json};

use crate::{
    client::{get_of_host, until},
    processes::{Home, Running, is_taken, text, usual_descriptors},
    program::{PATIENCE, run},
};

impl Home {
    /// `portolan up` in the foreground.
    fn up(&self) -> Running {
        Running::start(self.portolan(&["up"]))
    }

    /// `portolan up -d`, once it has returned.
    fn up_detached(&self) {
        let said = self.say(&["up", "-d"]);
        assert_eq!(said.code, 0, "{said:?}");
    }

    /// `portolan wait` for all of them.
    fn wait(&self, names: &[&str]) {
        let said = self.say(&[&["wait"], names, &["--timeout", "100s"]].concat());
        assert_eq!(said.code, 0, "{said:?}");
    }

    fn port_of(&self, service: &str) -> u16 {
        self.service(service)["port"].as_u64().unwrap().try_into().unwrap()
    }
}

/// Eight services, each with a line in `log` for all that happens to it; `ready` of every kind.
const TOWN: &str = r#"
[services]
web     = { run = "exec python3 server.py name=web log=log", needs = ["api", "search"], ready = "/healthz" }
api     = { run = "exec python3 server.py name=api log=log sick=well", needs = ["db", "cache"], ready = "/healthz" }
search  = { run = "exec python3 server.py name=search log=log", needs = ["db"] }
db      = { run = ["python3", "server.py", "name=db", "log=log", "late=go"] }
cache   = { run = "exec python3 server.py name=cache log=log says=warm", ready = { log = "^warm$" } }
mail    = "exec python3 server.py name=mail log=log"
worker  = { run = "exec python3 server.py name=worker log=log", needs = ["queue"] }
queue   = "exec python3 server.py name=queue log=log port=0"

[routes]
web    = { path = "/", to = "web" }
api    = { path = "/api", to = "api" }
search = "search"
db     = "db"
cache  = "cache"
mail   = "mail"
worker = "worker"
queue  = "queue"
"#;

const NAMES: [&str; 8] = ["web", "api", "search", "db", "cache", "mail", "worker", "queue"];

#[test]
fn eight_services_start_in_order_of_their_needs() {
    let home = Home::with_table(TOWN);
    let _up = home.up();

    // Nothing is over until `db` listens: those that need it wait, the others do not.
    home.wait(&["cache", "mail", "worker"]);
    for waiting in ["web", "api", "search"] {
        assert_eq!(home.service(waiting)["state"], "waiting", "{waiting}");
    }
    assert_eq!(home.service("db")["state"], "starting");
    fs::write(home.folder().file("go"), "").unwrap();
    // `api` listens and says that it is not well: `web` waits for more than a listener.
    home.wait(&["search"]);
    until("api listens", || home.lines("log").contains(&"api listens".to_owned()));
    assert_eq!((&home.service("api")["state"], &home.service("web")["state"]), (&json!("starting"), &json!("waiting")));
    fs::write(home.folder().file("well"), "").unwrap();
    home.wait(&NAMES);

    let log = home.lines("log");
    let place = |line: &str| log.iter().position(|other| other == line).unwrap_or_else(|| panic!("{line}: {log:?}"));
    for (service, need) in [
        ("api", "db listens"),
        ("api", "cache says it"),
        ("search", "db listens"),
        ("worker", "queue listens"),
        ("web", "api listens"),
        ("web", "search listens"),
    ] {
        assert!(place(&format!("{service} starts")) > place(need), "{service} after {need}: {log:?}");
    }
    for name in NAMES {
        let service = home.service(name);
        assert_eq!((&service["state"], &service["restarts"]), (&json!("ready"), &json!(0)), "{service}");
        assert!(service["pid"].is_u64() && service["since"].is_string(), "{service}");
    }
    assert_eq!(home.told_by("localhost")["name"], "web");
    assert_eq!(home.told_at("localhost", "/api")["name"], "api");
    assert_eq!(home.told_by("queue.localhost")["port"], home.port_of("queue"), "the port that it chose");
}

#[test]
fn one_service_is_started_with_what_it_needs_and_nothing_else() {
    let home = Home::with_table(TOWN);
    let _up = Running::start(home.portolan(&["up", "worker"]));
    home.wait(&["worker"]);
    for name in NAMES {
        let expected = if ["worker", "queue"].contains(&name) { "ready" } else { "stopped" };
        assert_eq!(home.service(name)["state"], expected, "{name}");
    }
}

#[test]
fn a_service_is_told_its_port_and_where_the_others_are() {
    let home = Home::with_table(
        "[services]\n\
         api = { run = 'exec python3 server.py name=api port={port}', env = { GREETING = 'on {port}' } }\n\
         web = { run = ['python3', 'server.py', 'at={port}'], dir = 'rooms/web', needs = ['api'] }\n\
         [routes]\nweb = 'web'\napi = 'api'\n",
    );
    home.folder().write("rooms/web/server.py", crate::processes::SERVER);
    let _up = home.up();
    home.wait(&["web", "api"]);
    let (web, api) = (home.told_by("web.localhost"), home.told_by("api.localhost"));
    let port = api["port"].as_u64().unwrap();
    assert!((49_152..=65_535).contains(&port), "{port}");
    assert_eq!((&api["env"]["PORT"], &api["env"]["HOST"]), (&json!(port.to_string()), &json!("127.0.0.1")));
    assert_eq!(web["env"]["PORTOLAN_API_PORT"], port.to_string());
    // By whatever address it is told, it is reached there.
    let url = web["env"]["PORTOLAN_API_URL"].as_str().and_then(|url| url.strip_prefix("http://")).unwrap();
    let (host, port) = url.trim_end_matches('/').split_once(':').unwrap();
    assert!(get_of_host(([127, 0, 0, 1], port.parse().unwrap()).into(), host, "/").body.contains("\"name\": \"api\""));
    assert_eq!(web["words"], json!([format!("at={}", web["port"])]));
    assert_eq!(web["folder"], text(&home.room("rooms/web")));
    assert_eq!(web["descriptors"], usual_descriptors(), "none of ours");
}

#[test]
fn the_table_outweighs_our_environment_which_outweighs_the_files_of_the_folder() {
    let home = Home::with_table(
        "[services]\n\
         api = { run = 'exec python3 server.py', dir = 'api', env = { A = 'table' } }\n\
         old = { run = 'exec python3 server.py', dir = 'api', env_file = ['first.env', 'second.env'] }\n\
         [routes]\napi = 'api'\nold = 'old'\n",
    );
    home.folder().write("api/server.py", crate::processes::SERVER);
    home.folder().write("api/.env", "A=.env\nB=.env\nC=.env\n# a comment\nexport D=\"of .env\"\n");
    home.folder().write("api/.env.local", "A=.env.local\nB=.env.local\nC=.env.local\n");
    home.folder().write("first.env", "C=first\nD=first\n");
    home.folder().write("second.env", "D='second'\n");
    let mut command = home.portolan(&["up"]);
    command.env("A", "ours").env("B", "ours").env_remove("C").env_remove("D");
    let _up = Running::start(command);
    home.wait(&["api", "old"]);

    let read = |host: &str| {
        let told = home.told_by(host);
        ["A", "B", "C", "D"].map(|name| told["env"][name].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(read("api.localhost"), ["table", "ours", ".env.local", "of .env"]);
    assert_eq!(read("old.localhost"), ["ours", "ours", "first", "second"]);
}

#[test]
fn what_they_say_is_prefixed_and_stays_on_its_stream() {
    let home = Home::with_table(
        "[services]\n\
         one = \"echo hello; echo woe >&2; echo $((6 * 7)); printf unfinished; printf undone >&2; exec sleep 1000\"\n\
         two = \"printf 'at the very end'\"\n",
    );
    let mut up = home.up();
    // What has no end yet is not lost at the end.
    until("two has ended", || home.service("two")["state"] == "done");
    up.err.wait_for(|line| line.ends_with("│ woe"));
    up.signal(Signal::INT);
    assert_eq!(up.wait(), 0);
    // What becomes of a service is told among its lines, by us.
    let is_theirs = |line: &String| line.contains('│') && !line.contains("│ portolan: ");
    let lines = |stream: Vec<String>| -> Vec<String> { stream.into_iter().filter(is_theirs).collect() };
    let (mut out, err) = (lines(up.out.wait_for_end()), lines(up.err.wait_for_end()));
    let two: Vec<_> = out.extract_if(.., |line| line.starts_with("two")).collect();
    assert_eq!(out, ["one │ hello", "one │ 42", "one │ unfinished"]);
    assert_eq!(two, ["two │ at the very end"]);
    assert_eq!(err, ["one │ woe", "one │ undone"]);
}

#[test]
fn a_service_that_fails_again_and_again_is_given_ever_more_time() {
    let home = Home::with_table(
        "[services]\n\
         bad = \"date +%s%N >> starts; echo about to fail >&2; exit 3\"\n\
         good = \"exec python3 server.py\"\n\
         [routes]\ngood = 'good'\n",
    );
    let _up = home.up();
    home.wait(&["good"]);
    let bad = home.wait_for_state("bad", "backoff");
    assert!(bad["exit"].to_string().contains('3'), "{bad}");

    let starts: Vec<i64> = home.wait_for_lines("starts", 5).iter().map(|line| line.parse().unwrap()).collect();
    let gaps: Vec<i64> = starts.windows(2).map(|pair| (pair[1] - pair[0]) / 1_000_000).collect();
    assert!(gaps[3] > 2 * gaps[0] && gaps.iter().sum::<i64>() > 1000, "between starts, in ms: {gaps:?}");
    assert!(home.service("bad")["restarts"].as_u64().unwrap() >= 4, "{}", home.service("bad"));
    assert_eq!(home.service("good")["restarts"], 0, "the others are not touched");
    let said = home.say(&["logs", "bad"]);
    assert!(said.code == 0 && format!("{}{}", said.out, said.err).contains("about to fail"), "{said:?}");
}

#[test]
fn a_service_that_was_killed_is_started_again_and_its_route_follows() {
    let home = Home::with_table("[services]\napi = \"exec python3 server.py port=0\"\n[routes]\napi = 'api'\n");
    let _up = home.up();
    let first = home.told_by("api.localhost")["pid"].clone();
    let pid = rustix::process::Pid::from_raw(first.as_i64().unwrap().try_into().unwrap()).unwrap();
    rustix::process::kill_process(pid, Signal::KILL).unwrap();
    until("another one answers", || home.told_by("api.localhost")["pid"] != first);
    assert_eq!(home.service("api")["restarts"], 1);
}

#[test]
fn in_the_background_they_are_listed_heard_restarted_and_ended() {
    let home = Home::with_table(TOWN);
    fs::write(home.folder().file("go"), "").unwrap();
    fs::write(home.folder().file("well"), "").unwrap();
    home.up_detached();
    home.wait(&NAMES);

    let said = home.say(&["ps"]);
    assert_eq!(said.code, 0, "{said:?}");
    for name in NAMES {
        assert!(said.out.lines().any(|line| line.contains(name) && line.contains("ready")), "{name}: {}", said.out);
    }
    let logs = home.say(&["logs", "cache"]);
    assert_eq!((logs.code, logs.out.lines().filter(|line| line.ends_with("warm")).count()), (0, 1), "{logs:?}");

    let followed = Running::start(home.portolan(&["logs", "-f", "cache"]));
    followed.out.wait_for(|line| line.ends_with("warm"));
    let before = home.told_by("cache.localhost")["pid"].clone();
    let mail = home.told_by("mail.localhost")["pid"].clone();
    assert_eq!(home.say(&["restart", "cache"]).code, 0);
    followed.out.wait_for(|line| line.ends_with("warm"));
    home.wait(&["cache"]);
    assert_ne!(home.told_by("cache.localhost")["pid"], before);
    assert_eq!(home.told_by("mail.localhost")["pid"], mail, "the others are not touched");

    let ports = NAMES.map(|name| home.port_of(name));
    assert_eq!(home.say(&["down"]).code, 0);
    assert!(home.programs().is_empty(), "{:?}", home.programs());
    assert!(!ports.into_iter().any(is_taken));
    until("the proxy has ended too", || home.processes().iter().all(|(pid, _)| *pid == followed.pid().cast_signed()));
}

#[test]
fn down_ends_an_up_in_the_foreground() {
    let home = Home::with_table("[services]\napi = \"exec python3 server.py\"\n[routes]\napi = 'api'\n");
    let mut up = home.up();
    home.told_by("api.localhost");
    assert_eq!(home.say(&["down"]).code, 0);
    assert_eq!(up.wait(), 0);
    assert!(home.processes().is_empty(), "{:?}", home.processes());
}

#[test]
fn ctrl_c_ends_everyone_with_time_to_say_goodbye_and_then_without() {
    let home = Home::with_table(
        "[services]\n\
         kind = \"exec python3 server.py name=kind log=log\"\n\
         deaf = \"exec python3 server.py name=deaf log=log deaf\"\n\
         [routes]\nkind = 'kind'\ndeaf = 'deaf'\n",
    );
    let mut up = home.up();
    home.wait(&["kind", "deaf"]);
    let ports = ["kind", "deaf"].map(|name| home.port_of(name));
    up.signal(Signal::INT);
    assert_eq!(up.wait(), 0);
    let log = home.lines("log");
    for name in ["kind", "deaf"] {
        assert_eq!(log.iter().filter(|line| **line == format!("{name} got SIGTERM")).count(), 1, "{log:?}");
    }
    assert!(home.programs().is_empty(), "{:?}", home.programs());
    assert!(!ports.into_iter().any(is_taken));
}

#[test]
fn nobody_is_left_behind_when_it_is_killed() {
    let home = Home::with_table(
        "[services]\n\
         api = \"python3 server.py & sh -c 'sleep 1000 & wait' & setsid sh -c 'sleep 1000; true' & wait\"\n\
         web = \"exec python3 server.py deaf\"\n\
         [routes]\napi = 'api'\nweb = 'web'\n",
    );
    let mut up = home.up();
    home.wait(&["api", "web"]);
    until("all are there", || home.programs().len() >= 7);
    let ports = ["api", "web"].map(|name| home.port_of(name));

    up.signal(Signal::KILL);
    assert_eq!(up.wait(), 137);
    let took = home.time_until_no_program_is_left(&ports);
    assert!(took < Duration::from_secs(2), "it took {took:?}");
    until("no keeper is left either", || home.processes().is_empty());
}

#[test]
fn nobody_is_left_behind_when_the_terminal_is_closed() {
    let home = Home::with_table("[services]\napi = \"python3 server.py | cat\"\n[routes]\napi = 'api'\n");
    let terminal = home.terminal(&[env!("CARGO_BIN_EXE_portolan"), "up"]);
    home.told_by("api.localhost");
    // It holds the other end of the terminal.
    terminal.signal(Signal::KILL);
    until("nobody is left", || home.processes().iter().all(|(pid, _)| *pid == terminal.pid().cast_signed()));
}

#[test]
fn services_that_talk_without_end_take_bounded_memory() {
    const SAID: &str = "head -c 300000000 /dev/zero | tr '\\\\000' x";
    let home = Home::with_table(&format!(
        "[services]\n\
         lines = \"{SAID} | fold -w 100; touch lines; exec sleep 1000\"\n\
         one_line = \"{SAID}; touch one_line; exec sleep 1000\"\n",
    ));
    let mut up = home.portolan(&["up"]);
    let mut up = up.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
    until("all is said", || ["lines", "one_line"].iter().all(|file| home.folder().file(file).exists()));
    let peak = peak_memory(up.id());
    let logs = home.say(&["logs", "lines"]);
    up.kill().unwrap();
    up.wait().unwrap();
    assert!(peak <= 100 * 1024 * 1024, "it took {peak} bytes");
    assert_eq!(logs.code, 0, "{}", logs.err);
}

/// The most memory that a process ever held, in bytes.
fn peak_memory(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().strip_suffix(" kB").unwrap().parse::<u64>().unwrap() * 1024
}

#[test]
fn a_procfile_is_taken_where_there_is_no_table() {
    let home = Home::new();
    home.folder()
        .write("Procfile", "# two\nweb: python3 server.py name=web\n\napi: python3 server.py name=api port=$PORT\n");
    let up = home.up();
    home.wait(&["web", "api"]);
    assert_eq!(home.told_by("localhost")["name"], "web");
    assert_eq!(home.told_by("api.localhost")["name"], "api");
    up.err.wait_for(|line| line.contains("Procfile"));
}

#[test]
fn a_table_that_everybody_may_write_starts_nothing_unless_it_is_named() {
    let home = Home::with_table("[services]\napi = \"exec python3 server.py log=log\"\n[routes]\napi = 'api'\n");
    let table = home.folder().file("portolan.toml");
    fs::set_permissions(&table, fs::Permissions::from_mode(0o666)).unwrap();
    let room = home.room("below");

    for arguments in [&["up"][..], &["up", "-d"]] {
        let mut command = home.portolan(arguments);
        command.current_dir(&room);
        let said = run(command);
        assert!(said.code != 0 && said.err.starts_with("error[") && said.err.contains("-c "), "{said:?}");
    }
    assert_eq!(home.lines("log"), [""; 0]);
    assert!(home.processes().is_empty(), "{:?}", home.processes());

    let mut named = home.portolan(&["-c", text(&table), "up"]);
    named.current_dir(&room);
    let _up = Running::start(named);
    home.told_by("api.localhost");
}

#[test]
fn a_port_that_somebody_else_holds_is_told_with_the_holder() {
    let holder = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = holder.local_addr().unwrap().port();
    let table = format!("[services]\ndb = {{ run = \"exec python3 server.py\", port = {port} }}\n");
    let home = Home::with_table(&table);
    let up = home.up();
    let pid = format!("pid {}", std::process::id());
    up.err.wait_for(|line| line.contains(&port.to_string()));
    until("its holder is told", || up.err.so_far().iter().any(|line| line.contains(&pid)));
}

#[test]
fn waiting_for_what_does_not_come_ends_in_time() {
    let home = Home::with_table("[services]\nlate = \"exec python3 server.py late=never\"\n[routes]\nlate = 'late'\n");
    let _up = home.up();
    home.wait_for_state("late", "starting");
    let began = Instant::now();
    let said = home.say(&["wait", "late", "--timeout", "300ms"]);
    assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
    assert!(said.err.contains("late"), "{}", said.err);
    assert!((Duration::from_millis(300)..PATIENCE).contains(&began.elapsed()));
    assert_eq!(home.say(&["wait", "nobody", "--timeout", "300ms"]).code, 1);
}

#[test]
fn the_running_proxy_tells_its_urls_and_is_stopped() {
    let home = Home::with_table("[services]\napi = \"exec python3 server.py\"\n[routes]\napi = 'api'\n");
    home.up_detached();
    home.wait(&["api"]);
    let url = home.say(&["url", "api"]);
    let expected = format!("http://api.localhost:{}", home.proxy().port());
    assert_eq!((url.code, url.out.trim_end().trim_end_matches('/')), (0, expected.as_str()), "{url:?}");
    let status = home.say(&["status", "--json"]);
    assert_eq!(status.code, 0, "{status:?}");
    assert!(serde_json::from_str::<Value>(&status.out).unwrap().is_object(), "{}", status.out);

    assert_eq!(home.say(&["stop"]).code, 0);
    until("nobody is left", || home.processes().is_empty());
    assert_eq!(home.say(&["status"]).code, 1, "nothing runs");
}

#[test]
fn a_second_up_joins_the_first_and_starts_nothing_twice() {
    let home =
        Home::with_table("[services]\napi = \"exec python3 server.py log=log says=hello\"\n[routes]\napi = 'api'\n");
    let _first = home.up();
    let pid = home.told_by("api.localhost")["pid"].clone();
    let second = home.up();
    second.out.wait_for(|line| line.ends_with("│ hello"));
    assert_eq!(home.told_by("api.localhost")["pid"], pid);
    assert_eq!(home.lines("log"), ["server starts", "server listens", "server says it"]);
}

#[test]
fn two_projects_that_start_at_once_give_no_port_twice() {
    let table = "[services]\napi = \"exec python3 server.py\"\nweb = \"exec python3 server.py\"\n";
    let homes = [(); 3].map(|()| Home::with_table(table));
    let _ups = homes.each_ref().map(Home::up);
    let mut ports = Vec::new();
    for home in &homes {
        home.wait(&["api", "web"]);
        for name in ["api", "web"] {
            assert_eq!(home.service(name)["restarts"], 0, "{name}");
            ports.push(home.port_of(name));
        }
    }
    ports.sort_unstable();
    ports.dedup();
    assert_eq!(ports.len(), 6, "{ports:?}");
}

#[test]
fn a_shell_and_all_that_it_started_end_together() {
    let home = Home::with_table("[services]\napi = \"python3 server.py | cat\"\n[routes]\napi = 'api'\n");
    home.up_detached();
    home.told_by("api.localhost");
    assert!(home.programs().len() >= 3, "{:?}", home.programs());
    assert_eq!(home.say(&["down"]).code, 0);
    assert!(home.programs().is_empty(), "{:?}", home.programs());
}
