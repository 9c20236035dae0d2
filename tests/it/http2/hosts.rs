//! Who may be asked for by `:authority` (T1 to T5, T13): the guards are those of every other way in.

use super::goes_on;
use crate::harness::{
    OK, Random,
    h2::{Ended, from_h2, get, request},
    program, proxy,
};
use crate::robustness::between;

#[tokio::test]
async fn t1_t2_a_strange_authority_is_answered_421_and_learns_nothing() {
    for host in [
        "evil.test",
        "evil.test:62893",
        "evil.test.",
        "127.0.0.1.evil.test",
        "localhost.evil.test",
        "xlocalhost",
        "127.1",
        "0x7f.1",
        "2130706433",
        "10.0.0.1",
        "[::ffff:127.0.0.1]",
        "[::2]",
    ] {
        let (mut client, program, _proxy) = from_h2("").await;
        for fields in [get("/secret", &[]), request("POST", "/secret"), get("/secret", &[]).with(":scheme", "https")] {
            let answer = client.ask(&fields.with(":authority", host)).await;
            assert_eq!(answer.error(), (421, "unknown-host"), "{host}");
            assert_eq!(answer.field("x-portolan-route"), None, "{host}");
            assert_eq!(answer.field("access-control-allow-origin"), None, "{host}");
            for told in ["app", "secret", &program.port().to_string()] {
                assert!(!answer.text().contains(told), "{host} learns {told:?}: {}", answer.text());
            }
        }
        program.is_left_alone();
        goes_on(&mut client, &program).await;
    }
}

#[tokio::test]
async fn t1_a_host_field_is_no_way_round_the_authority() {
    let (mut client, program, _proxy) = from_h2("").await;
    let fields = get("/", &[("host", "evil.test")]).without(":authority");
    assert_eq!(client.ask(&fields).await.error(), (421, "unknown-host"));
    for (authority, host) in [("localhost", "evil.test"), ("evil.test", "localhost")] {
        let fields = get("/", &[("host", host)]).with(":authority", authority);
        let stream = client.asks(&fields).await;
        let answer = client.outcome(stream).await;
        assert!(answer.ended != Ended::Whole || matches!(answer.status(), 400 | 421), "{answer:?}");
    }
    program.is_left_alone();
    goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn t3_a_route_is_found_by_the_rules_of_every_other_way_in() {
    let program = program();
    let proxy = proxy(&format!(
        "[routes]\nexact = {{ host = \"api.test\", to = {port} }}\nwide = {{ host = \"*.mail.test\", to = {port} }}",
        port = program.port()
    ));
    let mut client = proxy.connect_h2().await;
    for (host, route) in [
        ("api.test", Some("exact")),
        ("API.test:8080", Some("exact")),
        ("api.test.", Some("exact")),
        ("a.mail.test", Some("wide")),
        ("a.b.mail.test", Some("wide")),
        ("xapi.test", None),
        ("api.testx", None),
        ("api.test.evil", None),
        ("mail.test", None),
        ("x.api.test", None),
        ("amail.test", None),
    ] {
        let stream = client.asks(&get("/", &[]).with(":authority", host)).await;
        match route {
            None => assert_eq!(client.answer(stream).await.error(), (421, "unknown-host"), "{host}"),
            Some(_) => {
                let text = "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok";
                let seen = program.connection().await.answers(text).await;
                assert_eq!(seen.all("host"), [host]);
                assert_eq!(client.answer(stream).await.text(), "ok", "{host}");
            }
        }
    }
    program.is_left_alone();
}

#[tokio::test]
async fn t5_no_authority_of_characters_ends_more_than_its_own_request() {
    let (origin, proxy) = between().await;
    let mut random = Random(5);
    let parts = ["[", "[::1", "a:99999", "\0", "@", ",", ":", "localhost", "xn--", " ", "%", "]", "/", "..", "1"];
    for _ in 0..5 {
        // Who is refused more often than that on one connection is taken for an attacker.
        let mut client = proxy.connect_h2().await;
        for case in 0..400 {
            let mut host = String::new();
            for _ in 0..random.below(5) {
                host.push_str(random.one_of(&parts));
            }
            if case % 100 == 0 {
                host.push_str(&"h".repeat(8000));
            }
            let stream = client.asks(&get("/", &[]).with(":authority", &host)).await;
            let answer = client.outcome(stream).await;
            let is_local = host.contains("localhost") || host.starts_with("[::1]");
            match answer.ended {
                Ended::Whole if is_local && answer.status() == 200 => {}
                Ended::Whole => assert!(matches!(answer.status(), 400 | 421), "{host:?}: {answer:?}"),
                Ended::Reset(_) => {}
                Ended::Lost(end) => panic!("{host:?}: {end:?}"),
            }
        }
        assert_eq!(client.ask(&get("/", &[])).await.text(), "ok");
    }
    drop(proxy);
    origin.has_read_all().await;
    assert_eq!(origin.faults(), [""; 0]);
}

#[tokio::test]
async fn t13_an_authority_is_looked_up_and_never_dialled() {
    let elsewhere = program();
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.asks(&get("/", &[]).with(":authority", &format!("127.0.0.1:{}", elsewhere.port()))).await;
    program.connection().await.answers(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");
    elsewhere.is_left_alone();
}
