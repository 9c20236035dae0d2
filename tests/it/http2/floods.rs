//! Frames without end (T32, T33, T34): the connection is sent away or bounded, little memory is used, and others are served.
#![cfg(target_os = "linux")]

use std::{fs, process::Command, time::Duration};

use tokio::{sync::watch, time::timeout};

use crate::{
    harness::{
        ALONE, Origin, Proxy,
        h2::{ACK, Code, END_HEADERS, END_STREAM, Ended, Event, Fields, Frame, Peer, get, kind, request, setting},
        is_alone,
    },
    robustness::between,
};

/// How many frames are sent.
const FRAMES: usize = 100_000;

/// How many of them are sent at once.
const TOGETHER: usize = 1000;

/// How much more memory the proxy may take for one of them, and this client and the origin with it, in KiB.
const MOST: u64 = 32 * 1024;

/// How long nothing must be taken until it counts as held back.
const HELD: Duration = Duration::from_secs(1);

/// Each test in a process of its own, where nobody else takes memory.
fn alone(test: &str) -> bool {
    if is_alone() {
        return true;
    }
    let mut tests = Command::new(std::env::current_exe().unwrap());
    tests.args(["--exact", &format!("http2::floods::{test}"), "--test-threads=1"]).env(ALONE, "1");
    let ended = tests.output().unwrap();
    let (out, err) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{out}\n{err}");
    assert!(out.contains("running 1 test"), "{out}");
    false
}

/// The memory of this process, in KiB: now, and at most so far.
fn memory() -> (u64, u64) {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| {
        let line = status.lines().find_map(|line| line.strip_prefix(name)).unwrap();
        line.split_whitespace().next().unwrap().parse().unwrap()
    };
    (of("VmRSS:"), of("VmHWM:"))
}

/// A request of a client of its own is answered.
async fn another_is_served(proxy: &Proxy) {
    let mut other = proxy.connect_h2().await;
    assert_eq!(other.ask(&get("/other", &[])).await.text(), "ok");
}

/// What became of who sent all those frames.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    /// It was told why, and cut off.
    SentAway(Code),
    /// It was cut off.
    Ended,
    /// Its next request is answered.
    Served,
    /// As it reads no answers, nothing more is read of it.
    Held,
}

/// Sends frames to the proxy as one client while others are served, and says what became of it.
async fn flood(
    mut client: Peer,
    proxy: &Proxy,
    reads: bool,
    mut frames: impl FnMut(usize) -> Vec<u8> + Send + 'static,
) -> Fate {
    let (before, _) = memory();
    let mut sender = client.wire.twin();
    let (told, mut progress) = watch::channel(0);
    let sends = async move {
        for from in (0..FRAMES).step_by(TOGETHER) {
            let bytes: Vec<u8> = (from..from + TOGETHER).flat_map(&mut frames).collect();
            if sender.send_patiently(&bytes).await.is_err() {
                // What it was told is still to be read.
                return;
            }
            told.send_replace(from);
        }
    };
    let mut sends = tokio::spawn(sends);
    let mut goaway = None;
    let mut is_over = false;
    let mut is_held = false;
    loop {
        tokio::select! {
            _ = &mut sends => break,
            () = client.read_one(), if reads && !is_over => {
                for event in client.take_all() {
                    match event {
                        Event::GoAway { code, .. } => goaway = Some(code),
                        Event::End(_) => is_over = true,
                        _ => {}
                    }
                }
            }
            moved = timeout(HELD, progress.changed()), if !reads => {
                if moved.is_err() {
                    is_held = true;
                    break;
                }
            }
        }
    }
    sends.abort();
    another_is_served(proxy).await;
    let (_, most) = memory();
    assert!(most <= before + MOST, "{} KiB more than the {before} KiB before it", most - before);
    if is_held {
        return Fate::Held;
    }
    if !is_over {
        let stream = client.stream();
        // It may have been cut off by now.
        let _ = client.wire.try_send(head(stream, END_STREAM)).await;
        let answer = client.outcome(stream).await;
        if answer.ended == Ended::Whole && answer.text() == "ok" {
            return Fate::Served;
        }
        let told = client.take_all().into_iter().find_map(|event| match event {
            Event::GoAway { code, .. } => Some(code),
            _ => None,
        });
        goaway = goaway.or(told);
    }
    goaway.map_or(Fate::Ended, Fate::SentAway)
}

/// A client, the proxy, and an origin that has been asked before, so that all is there that is made once.
async fn warm() -> (Peer, Proxy, Origin) {
    let (origin, proxy) = between().await;
    for _ in 0..8 {
        another_is_served(&proxy).await;
    }
    let mut client = proxy.connect_h2().await;
    assert_eq!(client.ask(&get("/", &[])).await.text(), "ok");
    (client, proxy, origin)
}

/// The number of the stream of the n-th request behind the first one.
fn nth(number: usize) -> u32 {
    3 + 2 * number as u32
}

fn head(stream: u32, flags: u8) -> Vec<u8> {
    Frame::new(kind::HEADERS, END_HEADERS | flags, stream, get("/", &[]).block()).bytes()
}

#[tokio::test]
async fn t32_a_client_that_resets_what_it_asks_is_sent_away() {
    if !alone("t32_a_client_that_resets_what_it_asks_is_sent_away") {
        return;
    }
    let (client, proxy, _origin) = warm().await;
    let frames = |number| [head(nth(number), END_STREAM), Frame::reset(nth(number), Code::Cancel).bytes()].concat();
    assert_eq!(flood(client, &proxy, true, frames).await, Fate::SentAway(Code::EnhanceYourCalm));
}

#[tokio::test]
async fn t32_a_client_that_makes_the_proxy_reset_is_sent_away() {
    if !alone("t32_a_client_that_makes_the_proxy_reset_is_sent_away") {
        return;
    }
    let (client, proxy, _origin) = warm().await;
    let frames = |number| [head(nth(number), 0), Frame::window(nth(number), 0).bytes()].concat();
    let fate = flood(client, &proxy, true, frames).await;
    assert!(matches!(fate, Fate::SentAway(Code::EnhanceYourCalm | Code::ProtocolError)), "{fate:?}");
}

#[tokio::test]
async fn t32_a_head_that_never_ends_is_cut_off() {
    if !alone("t32_a_head_that_never_ends_is_cut_off") {
        return;
    }
    let (client, proxy, _origin) = warm().await;
    let frames = |number| match number {
        0 => Frame::new(kind::HEADERS, 0, nth(0), get("/", &[]).block()).bytes(),
        _ => Frame::new(kind::CONTINUATION, 0, nth(0), Fields::of(&[("x", "1")]).block()).bytes(),
    };
    let fate = flood(client, &proxy, true, frames).await;
    assert!(matches!(fate, Fate::SentAway(_)), "{fate:?}");
}

#[tokio::test]
async fn t32_settings_without_end_are_bounded() {
    if !alone("t32_settings_without_end_are_bounded") {
        return;
    }
    for reads in [true, false] {
        let (client, proxy, _origin) = warm().await;
        let frames =
            |number: usize| Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535 + number as u32 % 2)]).bytes();
        let fate = flood(client, &proxy, reads, frames).await;
        assert!(fate != Fate::Ended, "{fate:?}");
    }
}

#[tokio::test]
async fn t32_a_client_that_pings_without_end_is_sent_away() {
    if !alone("t32_a_client_that_pings_without_end_is_sent_away") {
        return;
    }
    let (client, proxy, _origin) = warm().await;
    let fate = flood(client, &proxy, true, |number| Frame::ping((number as u64).to_be_bytes()).bytes()).await;
    assert_eq!(fate, Fate::SentAway(Code::EnhanceYourCalm));
    let (client, proxy, _origin) = warm().await;
    flood(client, &proxy, false, |number| Frame::ping((number as u64).to_be_bytes()).bytes()).await;
}

#[tokio::test]
async fn t32_a_client_that_answers_pings_that_nobody_sent_is_sent_away() {
    if !alone("t32_a_client_that_answers_pings_that_nobody_sent_is_sent_away") {
        return;
    }
    let (client, proxy, _origin) = warm().await;
    let fate = flood(client, &proxy, true, |_| Frame::new(kind::PING, ACK, 0, &[0; 8][..]).bytes()).await;
    assert_eq!(fate, Fate::SentAway(Code::EnhanceYourCalm));
}

#[tokio::test]
async fn t32_data_of_no_bytes_without_end_is_bounded() {
    if !alone("t32_data_of_no_bytes_without_end_is_bounded") {
        return;
    }
    let (mut client, proxy, _origin) = warm().await;
    let stream = client.begins(&request("POST", "/")).await;
    let fate = flood(client, &proxy, true, move |_| Frame::new(kind::DATA, 0, stream, []).bytes()).await;
    assert!(fate != Fate::Ended, "{fate:?}");
}

#[tokio::test]
async fn t33_a_client_that_takes_no_answer_pins_no_more_than_four_megabytes() {
    if !alone("t33_a_client_that_takes_no_answer_pins_no_more_than_four_megabytes") {
        return;
    }
    const STREAMS: usize = 100;
    /// In KiB.
    const PINNED: u64 = 4 * 1024;
    let (_, proxy, origin) = warm().await;
    let mut client = Peer::client(proxy.connect().await, &[(setting::INITIAL_WINDOW_SIZE, 0)]).await;
    client.settings().await;
    client.is_heard().await;
    let (before, _) = memory();
    // A field goes into the table once, and then comes by a byte each time.
    let first = [get("/", &[]).block(), vec![0x40, 1, b'x', 1, b'1']].concat();
    for number in 0..STREAMS {
        let block = if number == 0 { first.clone() } else { [get("/", &[]).block(), vec![0xbe; 90]].concat() };
        let stream = client.stream();
        client.send(Frame::new(kind::HEADERS, END_STREAM | END_HEADERS, stream, block)).await;
    }
    let mut answered = 0;
    while answered < STREAMS {
        client.read_one().await;
        answered += client.take_all().iter().filter(|event| matches!(event, Event::Head { .. })).count();
    }
    assert_eq!(origin.requests().iter().filter(|seen| seen.all("x").len() == 90).count(), STREAMS - 1);
    let (now, _) = memory();
    assert!(now <= before + PINNED, "{} KiB more than the {before} KiB before it", now - before);
    another_is_served(&proxy).await;
}
