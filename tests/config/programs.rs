//! What a good table says of programs: the services, whom a target follows, and how long a request waits.

use std::{fs, path::Path, time::Duration};

use portolan::config::{Action, Address, Command, Config, Forward, HOLD, Pin, Ready, Service, Sought, Start};

use crate::{from_str, read};

fn config(text: &str) -> Config {
    let loaded = from_str("good.toml", text);
    loaded.config.unwrap_or_else(|| panic!("{}", portolan::diagnostic::render(&loaded.diagnostics, false)))
}

/// The only service of a table.
fn service(text: &str) -> Service {
    config(&format!("[services]\n{text}")).services.remove(0)
}

/// The first route of a table that has a service `api`.
fn forward(route: &str) -> Forward {
    match config(&format!("[services]\napi = \"x\"\n[routes]\na = {route}")).routes.remove(0).action {
        Action::Forward(forward) => forward,
        other => panic!("{other:?} leads to no program"),
    }
}

fn address(route: &str) -> Address {
    forward(route).targets.remove(0).address
}

/// A table in a folder of its own, and that folder.
fn written(text: &str) -> (Config, tempfile::TempDir) {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portolan.toml");
    fs::write(&path, text).expect("write");
    (read(&path).config.expect("a config"), folder)
}

#[test]
fn a_command_alone_has_the_defaults_of_the_contract() {
    let (config, folder) = written("[services]\nweb = \"npm run dev\"\n");
    let service = &config.services[0];
    assert_eq!((service.name.as_str(), &service.run), ("web", &Command::Shell("npm run dev".into())));
    assert_eq!((service.dir.as_path(), &service.env_file), (folder.path(), &None));
    assert_eq!((&service.env, &service.needs), (&Vec::new(), &Vec::new()));
    assert_eq!((&service.ready, service.port, service.start), (&Ready::Listening, None, Start::WithUp));
    assert!(service.origin.location().ends_with("portolan.toml:2:1"));
}

#[test]
fn a_list_runs_without_a_shell() {
    let words = Command::Words(vec!["postgres".into(), "-D".into(), "my data".into()]);
    assert_eq!(service("db = [\"postgres\", \"-D\", \"my data\"]").run, words);
    assert_eq!(service("db = { run = [\"postgres\", \"-D\", \"my data\"] }").run, words);
}

#[test]
fn services_keep_the_order_of_the_file_and_each_need_is_kept_once() {
    let config = config("[services]\nc = { run = \"x\", needs = [\"b\", \"a\", \"b\"] }\na = \"y\"\nb = \"z\"\n");
    let names: Vec<_> = config.services.iter().map(|service| service.name.as_str()).collect();
    assert_eq!(names, ["c", "a", "b"]);
    assert_eq!(config.services[0].needs, ["b", "a"]);
}

#[test]
fn a_service_may_be_needed_by_several() {
    let diamond = "a = { run = \"x\", needs = [\"b\", \"c\"] }\nb = { run = \"x\", needs = [\"d\"] }\n\
                   c = { run = \"x\", needs = [\"d\"] }\nd = \"x\"\n";
    assert_eq!(config(&format!("[services]\n{diamond}")).services.len(), 4);
}

#[test]
fn files_and_folders_of_a_service_are_seen_from_the_folder_of_the_table() {
    let table = "[services]\na = { run = \"x\", dir = \"api\", env_file = \"api.env\" }\n\
                 b = { run = \"x\", dir = \"/srv\", env_file = [\".env\", \"/etc/b.env\"] }\n\
                 c = { run = \"x\", env_file = [] }";
    let (config, folder) = written(table);
    let [a, b, c] = &config.services[..] else { panic!("three services") };
    assert_eq!(
        (a.dir.clone(), a.env_file.clone()),
        (folder.path().join("api"), Some(vec![folder.path().join("api.env")]))
    );
    assert_eq!(b.dir, Path::new("/srv"));
    assert_eq!(b.env_file, Some(vec![folder.path().join(".env"), "/etc/b.env".into()]));
    assert_eq!((c.dir.as_path(), &c.env_file), (folder.path(), &Some(Vec::new())));
}

#[test]
fn variables_keep_their_order() {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    let service = service("a = { run = \"x\", env = { B = \"1\", A = \"{port}\", C = \"\" } }");
    assert_eq!(service.env, [pair("B", "1"), pair("A", "{port}"), pair("C", "")]);
}

#[test]
fn a_service_is_ready_when_it_says_so() {
    let ready = |text: &str| service(&format!("a = {{ run = \"x\", ready = {text} }}")).ready;
    assert_eq!(ready("\"/healthz\""), Ready::Path("/healthz".into()));
    assert_eq!(ready("{ path = \"/healthz\" }"), Ready::Path("/healthz".into()));
    assert_eq!(ready("{ log = \"[Ll]istening\" }"), Ready::Line("[Ll]istening".into()));
}

#[test]
fn a_service_starts_with_up_or_with_the_first_request() {
    let start = |keys: &str| service(&format!("a = {{ run = \"x\", port = 8000{keys} }}")).start;
    assert_eq!(start(""), Start::WithUp);
    assert_eq!(start(", start = \"with_up\""), Start::WithUp);
    assert_eq!(start(", start = \"on_request\""), Start::OnRequest { idle: None });
    let idle = Some(Duration::from_secs(15 * 60));
    assert_eq!(start(", start = \"on_request\", idle = \"15m\""), Start::OnRequest { idle });
}

#[test]
fn a_service_that_is_written_differently_has_another_fingerprint() {
    let written = |text: &str| service(text).written;
    assert_eq!(written("a = { run = \"x\", port = 1 }"), written("# moved\n\na = { run = 'x', port = 1 }"));
    assert_ne!(written("a = { run = \"x\", port = 1 }"), written("a = { run = \"x\", port = 2 }"));
}

#[test]
fn the_local_table_changes_one_service() {
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("portolan.toml");
    fs::write(&path, "[services]\napi = \"flask run\"\ndb = \"postgres\"\n").expect("write");
    fs::write(folder.path().join("portolan.local.toml"), "[services]\napi = \"flask --debug run\"\n").expect("write");
    let config = read(&path).config.expect("a config");
    let runs: Vec<_> = config.services.iter().map(|service| &service.run).collect();
    assert_eq!(runs, [&Command::Shell("flask --debug run".into()), &Command::Shell("postgres".into())]);
}

#[test]
fn a_target_may_be_a_service_by_its_name() {
    let api = Address::Followed(Sought::Service("api".into()));
    for route in ["\"api\"", "{ to = \"api\" }", "{ to = { to = \"api\" } }", "{ to = [\"api\", 1] }"] {
        assert_eq!(address(route), api, "{route}");
    }
}

#[test]
fn a_target_may_be_a_program_that_is_followed() {
    let followed = |target: &str| match address(&format!("{{ to = {{ {target} }} }}")) {
        Address::Followed(sought) => sought,
        other => panic!("{other} is not followed"),
    };
    let here = std::env::current_dir().expect("a folder");
    assert_eq!(followed("process = \"flask\""), Sought::Process("flask".into()));
    assert_eq!(followed("dir = \"services/api\""), Sought::Dir(here.join("services/api")));
    assert_eq!(followed("pid_file = \"run/api.pid\""), Sought::PidFile(here.join("run/api.pid")));
    let container = Sought::Container { name: "shop-db".into(), port: 5432 };
    assert_eq!(followed("container = \"shop-db\", port = 5432"), container);
    let weighted = forward("{ to = [{ process = \"a\", weight = 3 }, { dir = \"b\" }] }");
    assert_eq!(weighted.targets.iter().map(|target| target.weight).collect::<Vec<_>>(), [3, 1]);
}

#[test]
fn a_port_may_be_pinned_to_a_program_or_to_a_folder() {
    let owner = |target: &str| forward(&format!("{{ to = {{ {target} }} }}")).targets.remove(0).owner;
    let folder = Pin::Folder(std::env::current_dir().expect("a folder").join("api"));
    assert_eq!(owner("to = 8000"), None);
    assert_eq!(owner("to = 8000, owner = \"flask\""), Some(Pin::Program("flask".into())));
    assert_eq!(owner("to = \"127.0.0.1:8000\", owner = \"./api\""), Some(folder.clone()));
    assert_eq!(owner("to = \"[::1]:8000\", owner = \"./api\""), Some(folder));
}

#[test]
fn requests_wait_for_a_service_unless_the_route_says_otherwise() {
    assert_eq!(HOLD, Duration::from_secs(10), "as the reference and the schema say");
    assert_eq!(forward("\"api\"").hold, Some(HOLD));
    assert_eq!(forward("{ to = [8000, \"api\"] }").hold, Some(HOLD));
    assert_eq!(forward("{ to = \"api\", hold = false }").hold, None);
    assert_eq!(forward("{ to = \"api\", hold = \"1m\" }").hold, Some(Duration::from_secs(60)));
}

#[test]
fn requests_wait_for_other_programs_only_where_the_route_says_so() {
    for target in ["8000", "\"unix:a.sock\"", "{ process = \"flask\" }", "{ container = \"db\", port = 1 }"] {
        assert_eq!(forward(&format!("{{ to = {target} }}")).hold, None, "{target}");
        let held = forward(&format!("{{ to = {target}, hold = \"300ms\" }}"));
        assert_eq!(held.hold, Some(Duration::from_millis(300)), "{target}");
    }
}

#[test]
fn a_service_that_no_route_names_has_no_route() {
    let config = config("[services]\nworker = \"x\"\n");
    assert_eq!((config.services.len(), config.routes.len()), (1, 0));
}
