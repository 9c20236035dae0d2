//! Hold: a request for a program that is not there yet waits, and fails for no reason that passes by itself.

use std::{
    fs,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;

use crate::{
    client::{Answer, Connection, get_of_host, request_of_host, until},
    processes::{Home, Running, is_taken, was_held},
    program::Portolan,
};

/// A server in front of which requests pile up.
const SLOW: &str = "[services]\napi = \"exec python3 server.py log=log slow=0.5\"\n[routes]\napi = 'api'\n";

/// So many at once, each on a connection of its own.
fn ask_at_once(count: usize, proxy: SocketAddr) -> Vec<Connection> {
    let ask = || {
        let mut connection = Connection::to(proxy);
        connection.send(request_of_host("api.localhost", "/"));
        connection
    };
    (0..count).map(|_| ask()).collect()
}

fn answers(connections: Vec<Connection>) -> Vec<Answer> {
    connections.into_iter().map(|mut connection| connection.answer().unwrap()).collect()
}

fn assert_all_well(answers: &[Answer]) {
    let failed: Vec<_> = answers.iter().filter(|answer| answer.status != 200).collect();
    assert!(failed.is_empty(), "{} of {} failed: {:?}", failed.len(), answers.len(), failed.first());
}

#[test]
fn the_first_request_of_all_waits_for_its_service() {
    let home = Home::with_table("[services]\napi = \"exec python3 server.py\"\n[routes]\napi = 'api'\n");
    let up = Portolan::start(home.portolan(&["up"]));
    let answer = get_of_host(up.address(), "api.localhost", "/");
    assert!(answer.status == 200 && was_held(&answer), "{answer:?}");
}

#[test]
fn a_restart_fails_no_request() {
    let home = Home::with_table("[services]\napi = \"exec python3 server.py port=0\"\n[routes]\napi = 'api'\n");
    let _up = Running::start(home.portolan(&["up"]));
    home.told_by("api.localhost");
    let stop = Arc::new(AtomicBool::new(false));
    let clients = [(); 4].map(|()| {
        let (proxy, stop) = (home.proxy(), Arc::clone(&stop));
        thread::spawn(move || {
            let mut answers = Vec::new();
            while !stop.load(Ordering::Relaxed) {
                answers.push(get_of_host(proxy, "api.localhost", "/"));
                thread::sleep(Duration::from_millis(20));
            }
            answers
        })
    });
    for _ in 0..3 {
        let before = home.told_by("api.localhost")["pid"].clone();
        assert_eq!(home.say(&["restart", "api"]).code, 0);
        until("another one answers", || home.told_by("api.localhost")["pid"] != before);
    }
    stop.store(true, Ordering::Relaxed);
    let answers: Vec<_> = clients.into_iter().flat_map(|client| client.join().unwrap()).collect();
    assert_all_well(&answers);
    assert!(answers.iter().any(was_held));
}

#[test]
fn requests_that_a_program_had_in_hand_when_it_was_killed_are_answered_by_the_next_one() {
    const COUNT: usize = 60;
    let home = Home::with_table(SLOW);
    let _up = Portolan::start(home.portolan(&["up"]));
    let pid = home.told_by("api.localhost")["pid"].as_i64().unwrap();
    let asked = || home.lines("log").iter().filter(|line| *line == "server is asked").count();
    let before = asked();

    let clients = ask_at_once(COUNT, home.proxy());
    until("it has all of them", || asked() == before + COUNT);
    kill_process(Pid::from_raw(pid.try_into().unwrap()).unwrap(), Signal::KILL).unwrap();

    assert_all_well(&answers(clients));
    assert!(asked() > before + COUNT, "it was killed before it had answered");
}

#[test]
fn requests_that_waited_do_not_overrun_a_program_that_lets_few_in_at_once() {
    let home =
        Home::with_table("[services]\napi = \"exec python3 server.py log=log late=go\"\n[routes]\napi = 'api'\n");
    let _up = Portolan::start(home.portolan(&["up"]));
    home.wait_for_lines("log", 1);
    let clients = ask_at_once(100, home.proxy());
    fs::write(home.folder().file("go"), "").unwrap();

    let answers = answers(clients);
    assert_all_well(&answers);
    assert!(answers.iter().any(was_held));
}

#[test]
fn a_service_can_start_with_the_first_request_and_stop_when_nobody_asks() {
    let home = Home::with_table(
        "[services]\n\
         lazy = { run = \"exec python3 server.py name=lazy log=log\", start = \"on_request\", idle = \"1s\" }\n\
         busy = \"exec python3 server.py\"\n\
         [routes]\nlazy = 'lazy'\nbusy = 'busy'\n",
    );
    let _up = Running::start(home.portolan(&["up"]));
    home.wait_for_state("busy", "ready");
    assert_eq!((&home.service("lazy")["state"], home.lines("log")), (&json!("stopped"), vec![]));

    for round in 1..=2 {
        let answer = home.ask("lazy.localhost", "/").unwrap();
        assert!(answer.status == 200 && was_held(&answer), "{answer:?}");
        let port = home.service("lazy")["port"].as_u64().unwrap().try_into().unwrap();
        home.wait_for_state("lazy", "stopped");
        assert!(!is_taken(port));
        assert_eq!(home.lines("log").iter().filter(|line| *line == "lazy starts").count(), round);
    }
}
