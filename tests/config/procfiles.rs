//! A Procfile as a table: what it starts, where each process is found, and what is said of a bad one.

use std::{
    fs,
    path::{Path, PathBuf},
};

use portolan::config::{Action, Address, Command, Config, HostMatch, Listen, PathMatch, Ready, Sought, load, procfile};

use crate::{FOLDER, golden, said};

/// What is written, in a folder of its own.
struct Written {
    folder: tempfile::TempDir,
    path: PathBuf,
}

impl Written {
    fn new(text: &str) -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("Procfile");
        fs::write(&path, text).expect("write");
        Self { folder, path }
    }

    fn config(&self) -> Config {
        procfile::procfile(&self.path, None).config.expect("a config")
    }
}

/// Where each route of a table is, and what it leads to.
fn places(config: &Config) -> Vec<(HostMatch, PathMatch, Address)> {
    let place = |route: &portolan::config::Route| {
        let Action::Forward(forward) = &route.action else { panic!("`{}` leads to no program", route.name) };
        (route.matches.hosts[0].clone(), route.matches.path.clone(), forward.targets[0].address.clone())
    };
    config.routes.iter().map(place).collect()
}

fn at_every_host(name: &str) -> (HostMatch, PathMatch, Address) {
    (HostMatch::AnyLocal, PathMatch::Prefix("/".into()), Address::Followed(Sought::Service(name.into())))
}

fn at_its_host(name: &str) -> (HostMatch, PathMatch, Address) {
    let host = HostMatch::Exact(format!("{name}.localhost"));
    (host, PathMatch::Prefix("/".into()), Address::Followed(Sought::Service(name.into())))
}

#[test]
fn each_process_is_a_service_that_runs_in_the_folder_of_the_file() {
    let written = Written::new("web: npm run dev -- --port {port}\r\n\n# queue\nmy_worker:rake jobs:work  \n");

    let config = written.config();

    let services: Vec<_> = config.services.iter().map(|service| (service.name.as_str(), &service.run)).collect();
    let shell = |text: &str| Command::Shell(text.into());
    assert_eq!(services, [("web", &shell("npm run dev -- --port {port}")), ("my_worker", &shell("rake jobs:work"))]);
    for service in &config.services {
        assert_eq!((service.dir.as_path(), &service.env_file), (written.folder.path(), &None));
        assert_eq!((&service.ready, service.port), (&Ready::Listening, None));
    }
}

#[test]
fn web_is_served_everywhere_and_the_others_at_their_names() {
    let written = Written::new("api: flask run\nweb: npm run dev\nmy_worker: x\n");
    assert_eq!(places(&written.config()), [at_its_host("api"), at_every_host("web"), at_its_host("my_worker")]);
}

#[test]
fn without_web_the_first_is_served_everywhere() {
    let written = Written::new("api: flask run\nworker: x\n");
    assert_eq!(places(&written.config()), [at_every_host("api"), at_its_host("worker")]);
}

#[test]
fn each_entry_points_to_its_line() {
    let config = Written::new("# first\n\nweb: x\n  api: y\n").config();
    let places: Vec<_> = config.services.iter().map(|service| service.origin.location()).collect();
    assert!(places[0].ends_with("Procfile:3:1") && places[1].ends_with("Procfile:4:3"), "{places:?}");
}

#[test]
fn a_changed_command_makes_another_service() {
    let written = |text| Written::new(text).config().services[0].written;
    assert_eq!(written("web: x"), written("# a comment\nweb:   x"));
    assert_ne!(written("web: x"), written("web: y"));
}

#[test]
fn a_bad_procfile_is_told_of_line_by_line() {
    let folder = Path::new(FOLDER);
    let loaded = procfile::procfile(&folder.join("Procfile.bad"), None);
    golden(&folder.join("procfile.txt"), &said(&loaded)).unwrap_or_else(|failure| panic!("{failure}"));
}

#[test]
fn names_that_cannot_be_served_are_told_of_with_their_place() {
    let written = Written::new("web: x\nportolan: y\nlocalhost: z\napi: a\nApi: b\n");
    let loaded = procfile::procfile(&written.path, None);
    let told = loaded.diagnostics.iter().map(|problem| {
        let (span, _) = problem.at.as_ref().expect("a place");
        (problem.code, span.text().to_owned())
    });
    let told: Vec<_> = told.collect();
    assert!(loaded.config.is_none());
    for wanted in [("reserved-host", "portolan"), ("bad-name", "localhost"), ("duplicate-route", "Api")] {
        assert!(told.contains(&(wanted.0, wanted.1.to_owned())), "{wanted:?} is not in {told:?}");
    }
}

#[test]
fn an_empty_procfile_starts_nothing() {
    let config = Written::new("\n# nothing\n").config();
    assert!(config.services.is_empty() && config.routes.is_empty());
}

#[test]
fn a_typed_address_is_where_the_proxy_listens() {
    let listen = Listen::localhost(0);
    let written = Written::new("web: x");
    let config = procfile::procfile(&written.path, Some(&listen)).config.expect("a config");
    assert_eq!(config.listen, listen);
}

#[test]
fn whoever_names_a_procfile_gets_it_read_as_one() {
    let written = Written::new("web: x");
    assert!(load::load(&written.path, None).config.is_some());
}

#[test]
fn the_one_for_development_is_found_first_and_no_folder_above_is_asked() {
    let folder = tempfile::tempdir().expect("a folder");
    let inner = folder.path().join("inner");
    fs::create_dir(&inner).expect("a folder");
    let [plain, development] = ["Procfile", "Procfile.dev"].map(|name| folder.path().join(name));
    assert_eq!(load::find_procfile(folder.path()), None);
    fs::write(&plain, "").expect("write");
    assert_eq!(load::find_procfile(folder.path()), Some(plain));
    fs::write(&development, "").expect("write");
    assert_eq!(load::find_procfile(folder.path()), Some(development));
    assert_eq!(load::find_procfile(&inner), None);
}
