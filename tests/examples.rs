//! Every table that we show is one that loads, and every example does what its README says.
//!
//! A curl line of an example's README is a [`promise`]: it is asked of the real `portolan` with raw programs behind it.
//! What no curl line can show has a test of its own below.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::panic, reason = "a test fails loudly")]

#[path = "examples/origin.rs"]
mod origin;
#[path = "examples/promise.rs"]
mod promise;
#[path = "examples/stage.rs"]
mod stage;

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use portolan::{config::load, discover::attach};
use promise::{Promise, Request};
use stage::Stage;

/// Longer than anything takes here unless it never comes; the machine may be a slow one.
const PATIENCE: Duration = Duration::from_secs(60);

#[test]
fn the_page_and_its_api_share_one_address() {
    assert_promises_kept("vite-and-flask");
}

#[test]
fn services_are_reached_by_names_and_paths() {
    assert_promises_kept("microservices");
}

#[test]
fn a_mocked_backend_answers_from_the_table() {
    assert_promises_kept("mock-api");
}

#[test]
fn a_file_of_a_mock_is_read_anew_each_time() {
    let stage = Stage::of("mock-api");
    let products = || stage.ask(&Request::get("/api/products"), &[]).body;
    assert!(!products().contains("astrolabe"));

    fs::write(stage.file("products.json"), r#"[{ "name": "astrolabe" }]"#).unwrap();

    assert_eq!(products(), r#"[{ "name": "astrolabe" }]"#);
}

#[test]
fn a_built_site_is_served_from_its_folder() {
    assert_promises_kept("static-site");
}

#[test]
fn a_canary_answers_those_who_ask_for_it() {
    assert_promises_kept("canary");
}

#[test]
fn of_ten_requests_the_canary_gets_one() {
    let stage = Stage::of("canary");

    let shares = shares(&stage, "/", 20);

    assert_eq!(shares, BTreeMap::from([(":8001".into(), 18), (":8002".into(), 2)]));
}

#[test]
fn streams_pass_as_they_come() {
    assert_promises_kept("websockets-and-sse");
}

#[test]
fn an_event_arrives_while_the_stream_goes_on() {
    let stage = Stage::of("websockets-and-sse");
    let mut stream = stage.ask(&Request::get("/events"), &["data: 1"]);

    for event in ["hello", "world"] {
        stage.origin(":3002").send_event(event);
        stream.read_on(&[&format!("data: {event}")]);
        assert!(stream.body.contains(event), "the stream has ended: {stream}");
    }
}

#[test]
fn a_websocket_carries_bytes_both_ways() {
    let stage = Stage::of("websockets-and-sse");
    let readme = readme_of("websockets-and-sse");
    let opening = Promise::all_of(&readme).into_iter().find(|promise| promise.request.target == "/ws").unwrap();

    let mut socket = stage.ask(&opening.request, &[]);

    assert_eq!(socket.echo("a frame"), "a frame");
    assert_eq!(socket.echo("and another"), "and another");
}

#[test]
fn old_addresses_lead_to_new_places() {
    assert_promises_kept("legacy-rewrite");
}

#[test]
fn a_program_is_reached_through_its_socket() {
    assert_promises_kept("unix-socket");
}

#[test]
fn a_database_and_a_debugger_are_told_as_their_clients_take_them() {
    let config = stage::loaded(&stage::folder_of("database").join("portolan.toml"));
    let readme = readme_of("database");

    assert_eq!(config.tcp.len(), 2);
    for route in &config.tcp {
        let listen: Vec<_> = route.addresses().collect();
        let targets = route.forward.targets.iter().map(|target| &target.address);
        let told = attach::line(&listen, &route.hosts, targets, None);
        assert!(readme.contains(&format!("portolan url {}", route.name)) && readme.contains(&told), "{told}");
    }
}

#[test]
fn several_targets_share_the_work() {
    assert_promises_kept("health-and-balance");
    let stage = Stage::of("health-and-balance");

    let shares = shares(&stage, "/", 6);

    assert_eq!(shares, [":8001", ":8002", ":8003"].map(|place| (place.to_owned(), 2)).into());
}

#[test]
fn an_ill_target_gets_no_requests_until_it_is_well_again() {
    let stage = Stage::of("health-and-balance");
    let ill = stage.origin(":8002");

    ill.answer_health_with(503);
    ill.wait_for_health_checks(2);
    assert_eq!(shares(&stage, "/", 6), [":8001", ":8003"].map(|place| (place.to_owned(), 3)).into());

    ill.answer_health_with(204);
    ill.wait_for_health_checks(1);
    assert_eq!(shares(&stage, "/", 6), [":8001", ":8002", ":8003"].map(|place| (place.to_owned(), 2)).into());
}

#[test]
fn where_every_target_is_ill_the_answer_says_so() {
    let stage = Stage::of("health-and-balance");
    let places = [":8001", ":8002", ":8003"];
    for place in places {
        stage.origin(place).answer_health_with(500);
    }
    for place in places {
        stage.origin(place).wait_for_health_checks(2);
    }

    let answer = stage.ask(&Request::get("/"), &[]);

    assert_eq!((answer.status, answer.field("x-portolan-error")), (503, Some("unhealthy")));
}

#[test]
fn no_example_is_forgotten() {
    let this = fs::read_to_string(root().join("tests/examples.rs")).unwrap();
    for folder in fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().file_name()) {
        let name = folder.to_str().unwrap();
        // What no curl line can show is held to its README by a test of its own.
        let is_tried = ["assert_promises_kept", "readme_of"].map(|by| this.contains(&format!("{by}(\"{name}\")")));
        assert!(is_tried.contains(&true), "nobody tries examples/{name}");
    }
}

#[test]
fn every_table_in_the_words_of_our_pages_loads() {
    let mut tables = Vec::new();
    for page in pages() {
        let name = page.strip_prefix(root()).unwrap().display().to_string();
        for (line, table) in toml_blocks(&fs::read_to_string(&page).unwrap()) {
            stage::good(load::from_str(&name, &table, None), &format!("{name}, the table at line {line}"));
            tables.push(name.clone());
        }
    }
    assert!(tables.contains(&"README.md".to_owned()), "no table of the README was found: {tables:?}");
}

#[test]
fn the_reference_is_a_table() {
    let reference = stage::loaded(&root().join("config/reference.toml"));
    assert!(reference.routes.len() > 5, "the reference has lost its routes");
}

/// Asks for everything that the README of an example tells, and looks whether it was told right.
fn assert_promises_kept(example: &str) {
    let stage = Stage::of(example);
    let promises = Promise::all_of(&readme_of(example));
    assert!(promises.len() >= 2, "examples/{example}/README.md shows no curl lines");
    for promise in promises {
        promise.assert_kept_by(&stage.ask(&promise.request, &promise.awaited()));
    }
}

/// How many of `count` requests each program answers.
fn shares(stage: &Stage, target: &str, count: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..count {
        *shares.entry(stage.who_answers(target)).or_insert(0) += 1;
    }
    shares
}

fn readme_of(example: &str) -> String {
    fs::read_to_string(stage::folder_of(example).join("README.md")).unwrap()
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The pages of the repository's root and those of the examples.
fn pages() -> Vec<PathBuf> {
    let examples = fs::read_dir(root().join("examples")).unwrap().map(|entry| entry.unwrap().path().join("README.md"));
    let top = ["README.md", "ARCHITECTURE.md", "CHANGELOG.md", "CONTRIBUTING.md"].map(|page| root().join(page));
    top.into_iter().chain(examples).collect()
}

/// Every fenced block of TOML, with the line of its first line.
fn toml_blocks(page: &str) -> Vec<(usize, String)> {
    let mut blocks = Vec::new();
    let mut lines = page.lines().enumerate();
    while let Some((at, line)) = lines.next() {
        if line == "```toml" {
            let text = lines.by_ref().map(|(_, line)| line).take_while(|line| *line != "```");
            blocks.push((at + 2, text.collect::<Vec<_>>().join("\n")));
        }
    }
    blocks
}
