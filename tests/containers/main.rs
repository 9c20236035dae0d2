//! Containers are followed through everything that an engine may do, good or bad; the engine is a fake one.
//!
//! `tests/partners/docker.rs` does the same with a real engine.
#![cfg(unix)]
#![expect(clippy::unwrap_used, clippy::expect_used, reason = "a test fails loudly")]

mod fake;

use std::{
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use fake::{Engine, Mood, container, folder, host, socket, stopped};
use portolan::discover::container::{Containers, Missing, Reach, Trouble, Whereabouts, follow, look};
use tokio::{
    sync::watch,
    time::{interval, timeout},
};

/// Beyond any doubt: the machine that runs the tests may be busy.
const LIMIT: Duration = Duration::from_secs(20);

/// Within this time what is told must be in step again, by the contract.
const IN_STEP: Duration = Duration::from_secs(2);

type Receiver = watch::Receiver<Arc<Containers>>;

fn at(socket: &Path) -> Whereabouts {
    Whereabouts::named(Some(&host(socket)), None)
}

/// Waits until the snapshot is as wanted, and says how long that took.
async fn until(receiver: &mut Receiver, wanted: impl Fn(&Containers) -> bool) -> Duration {
    let begun = Instant::now();
    let seen = timeout(LIMIT, receiver.wait_for(|all| wanted(all))).await.is_ok_and(|seen| seen.is_ok());
    assert!(seen, "at last there was {:?}", receiver.borrow());
    begun.elapsed()
}

/// The port at which 8080 of `web` is dialled.
fn port_of_web(all: &Containers) -> Option<u16> {
    all.find("web", 8080).ok().map(|found| found.addresses[0].port())
}

fn has_no_web(all: &Containers) -> bool {
    all.find("web", 8080).is_err_and(|missed| missed.message.contains("no container"))
}

fn trouble(all: &Containers) -> Option<&Trouble> {
    match &all.engines.first()?.state {
        Reach::Absent(trouble) => Some(trouble),
        Reach::Asked | Reach::Reached { .. } => None,
    }
}

#[tokio::test]
async fn an_engine_is_asked_at_once_and_nothing_is_denied_before_it_has_answered() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let _engine = Engine::start(&socket, &[container("web", 32768)]);
    let mut receiver = follow(at(&socket));

    let missed = receiver.borrow().find("web", 8080).unwrap_err();
    assert_eq!((missed.kind, missed.message.as_str()), (Missing::Coming, "its engine has not answered yet"));

    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;
    let state = receiver.borrow().engines[0].state.clone();
    assert_eq!(state, Reach::Reached { version: "Docker 28.5.2".into() });
}

#[tokio::test]
async fn a_restart_on_another_port_and_the_end_of_a_container_are_followed() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let engine = Engine::start(&socket, &[container("web", 32768)]);
    let mut receiver = follow(at(&socket));
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;

    engine.becomes(&[container("web", 32769)]);
    engine.tells();
    until(&mut receiver, |all| port_of_web(all) == Some(32769)).await;

    engine.becomes(&[]);
    engine.tells();
    until(&mut receiver, has_no_web).await;
}

#[tokio::test]
async fn what_an_engine_lists_only_after_it_has_told_of_it_is_seen_all_the_same() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let engine = Engine::start(&socket, &[container("web", 32768)]);
    let mut receiver = follow(at(&socket));
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;

    // Docker tells of a pause before its own list knows it.
    engine.tells();
    engine.asked_again().await;
    engine.becomes(&[stopped("web", "paused", "")]);
    until(&mut receiver, |all| all.find("web", 8080).is_err_and(|missed| missed.message == "it is paused")).await;
}

#[tokio::test]
async fn a_container_that_has_just_been_started_is_not_dialled_before_its_process_was_looked_for() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let engine = Engine::start(&socket, &[container("web", 32768)]);
    engine.has_started_all("9999-09-09T09:09:09Z");
    let mut receiver = follow(at(&socket));

    let message = |all: &Containers| all.find("web", 8080).err().map(|missed| (missed.kind, missed.message));
    let about_to = Some((Missing::Coming, "it is about to start, or has just ended".into()));
    until(&mut receiver, |all| message(all) == about_to).await;

    // An engine in a virtual machine has its processes there, and cannot be waited for.
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;
    engine.becomes(&[container("web", 32769)]);
    engine.tells();
    until(&mut receiver, |all| all.list[0].published[0].address.port() == 32769).await;
    assert_eq!(port_of_web(&receiver.borrow()), Some(32769));
}

#[tokio::test]
async fn f39_a_missing_socket_is_no_error_and_seen_when_it_comes() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let mut receiver = follow(at(&socket));
    until(&mut receiver, |all| trouble(all) == Some(&Trouble::NoSocket)).await;
    let missed = receiver.borrow().find("web", 8080).unwrap_err();
    assert_eq!((missed.kind, missed.message.as_str()), (Missing::Gone, "no container engine answers"));

    let _engine = Engine::start(&socket, &[container("web", 32768)]);
    let took = until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;
    assert!(took <= IN_STEP, "{took:?}");
}

#[tokio::test]
async fn f39_a_restarted_engine_takes_its_containers_with_it_and_is_in_step_again() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let engine = Engine::start(&socket, &[container("web", 32768)]);
    let mut receiver = follow(at(&socket));
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;

    // Its port may be another's in the next moment.
    drop(engine);
    until(&mut receiver, |all| all.list.is_empty() && trouble(all).is_some()).await;

    let engine = Engine::start(&socket, &[container("web", 32770)]);
    let took = until(&mut receiver, |all| port_of_web(all) == Some(32770)).await;
    assert!(took <= IN_STEP, "{took:?}");
    engine.becomes(&[]);
    engine.tells();
    until(&mut receiver, has_no_web).await;
}

#[tokio::test]
async fn f39_a_silent_engine_is_told_as_such_and_keeps_no_other_from_being_followed() {
    let folder = folder();
    let (docker, podman) = (socket(&folder, "docker.sock"), socket(&folder, "podman.sock"));
    let silent = Engine::start(&docker, &[]);
    let well = Engine::start(&podman, &[container("web", 32768)]);
    silent.feels(Mood::Silent);
    let mut receiver = follow(Whereabouts::named(Some(&host(&docker)), Some(&host(&podman))));
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;

    until(&mut receiver, |all| matches!(trouble(all), Some(Trouble::Silent(_)))).await;
    well.becomes(&[container("web", 32769)]);
    well.tells();
    until(&mut receiver, |all| port_of_web(all) == Some(32769)).await;

    silent.becomes(&[container("db", 32770)]);
    silent.feels(Mood::Well);
    until(&mut receiver, |all| all.find("db", 8080).is_ok()).await;
}

#[tokio::test]
async fn f39_an_engine_that_talks_nonsense_is_told_as_such_until_it_is_well() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let engine = Engine::start(&socket, &[container("web", 32768)]);
    let mut receiver = follow(at(&socket));
    for (mood, words) in [
        (Mood::Malformed, "its answer cannot be read: EOF while parsing"),
        (Mood::Endless, "it answers with more than 16 MiB"),
        (Mood::Refusing, "it answers with status 400: client version 1.51 is too new"),
    ] {
        until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;
        engine.feels(mood);
        engine.tells();
        until(&mut receiver, |all| trouble(all).is_some_and(|trouble| trouble.to_string().starts_with(words))).await;
        assert_eq!(receiver.borrow().list, []);
        engine.feels(Mood::Well);
    }
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;
}

#[tokio::test]
async fn f39_a_thousand_events_a_second_cost_a_list_now_and_then_and_the_last_is_not_missed() {
    const EVENTS: usize = 1_500;
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let engine = Engine::start(&socket, &[container("web", 32768)]);
    let mut receiver = follow(at(&socket));
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;

    let (begun, before) = (Instant::now(), engine.lists());
    let mut tick = interval(Duration::from_millis(1));
    for _ in 0..EVENTS {
        tick.tick().await;
        engine.tells();
    }
    engine.becomes(&[container("web", 32769)]);
    engine.tells();
    until(&mut receiver, |all| port_of_web(all) == Some(32769)).await;

    let (lists, took) = (engine.lists() - before, begun.elapsed());
    let most = usize::try_from(took.as_millis()).unwrap() / 50 + 2;
    assert!(lists <= most, "{lists} lists within {took:?}");
}

#[tokio::test]
async fn an_event_that_changed_nothing_is_no_news() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let engine = Engine::start(&socket, &[container("web", 32768)]);
    let mut receiver = follow(at(&socket));
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;
    receiver.mark_unchanged();

    engine.tells();
    engine.asked_again().await;
    // The second list comes when things have settled, after the first was taken in.
    engine.asked_again().await;
    assert!(!receiver.has_changed().unwrap());
}

#[tokio::test]
async fn whoever_follows_no_more_leaves_the_engine_alone() {
    let folder = folder();
    let socket = socket(&folder, "docker.sock");
    let engine = Engine::start(&socket, &[container("web", 32768)]);
    let mut receiver = follow(at(&socket));
    until(&mut receiver, |all| port_of_web(all) == Some(32768)).await;
    assert_eq!(engine.followers(), 1);

    drop(receiver);
    let left = async {
        while engine.followers() > 0 {
            tokio::task::yield_now().await;
        }
    };
    timeout(LIMIT, left).await.expect("the stream of events is closed");
}

#[tokio::test]
async fn one_look_sees_what_answers_and_waits_no_longer_than_a_person_would() {
    let folder = folder();
    let (docker, podman) = (socket(&folder, "docker.sock"), socket(&folder, "podman.sock"));
    let silent = Engine::start(&docker, &[]);
    let _well = Engine::start(&podman, &[container("web", 32768)]);
    silent.feels(Mood::Silent);

    let all = timeout(LIMIT, look(&Whereabouts::named(Some(&host(&docker)), Some(&host(&podman))))).await.unwrap();

    let states: Vec<_> = all.engines.iter().map(|engine| &engine.state).collect();
    assert!(matches!(states.as_slice(), [Reach::Asked, Reach::Reached { .. }]), "{states:?}");
    assert_eq!(port_of_web(&all), Some(32768));
}
