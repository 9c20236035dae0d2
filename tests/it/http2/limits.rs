//! How much a head may be (T31, T33): 100 fields, crumbs of a cookie counted, and 32 KiB.

use super::goes_on;
use crate::harness::{
    OK,
    h2::{Ended, Fields, Peer, from_h2, get},
};

/// What the client gets that asks with these fields: the program must not hear of it.
async fn refused(fields: &Fields) -> (u16, Peer) {
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.asks(fields).await;
    let answer = client.outcome(stream).await;
    assert_eq!(answer.ended, Ended::Whole, "{answer:?}");
    let status = answer.status();
    program.is_left_alone();
    goes_on(&mut client, &program).await;
    (status, client)
}

fn many(name: &str, count: usize) -> Fields {
    get("/", &vec![(name, "1"); count])
}

#[tokio::test]
async fn t33_more_fields_than_there_may_be_are_refused() {
    for name in ["x-many", "cookie"] {
        assert_eq!(refused(&many(name, 101)).await.0, 431, "{name}");
        assert_eq!(refused(&many(name, 2000)).await.0, 431, "{name}");
    }
}

#[tokio::test]
async fn t33_as_many_fields_as_there_may_be_are_forwarded() {
    for name in ["x-many", "cookie"] {
        let (mut client, program, _proxy) = from_h2("").await;
        let stream = client.asks(&many(name, 90)).await;
        let seen = program.connection().await.answers(OK).await;
        let expected = if name == "cookie" { vec![["1"; 90].join("; ")] } else { vec!["1".to_owned(); 90] };
        assert_eq!(seen.all(name), expected);
        assert_eq!(client.answer(stream).await.text(), "ok");
    }
}

#[tokio::test]
async fn t31_a_head_of_32_kib_is_as_large_as_it_may_be() {
    let large = "v".repeat(30_000);
    let (mut client, program, _proxy) = from_h2("").await;
    let stream = client.asks(&get("/", &[("x-large", &large)])).await;
    let seen = program.connection().await.answers(OK).await;
    assert_eq!(seen.field("x-large"), Some(large.as_str()));
    assert_eq!(client.answer(stream).await.text(), "ok");

    assert_eq!(refused(&get("/", &[("x-large", &"v".repeat(33_000))])).await.0, 431);
    let halves = "v".repeat(17_000);
    assert_eq!(refused(&get("/", &[("x-one", &halves), ("x-other", &halves)])).await.0, 431);
    let path = format!("/{}", "p".repeat(33_000));
    assert!(matches!(refused(&get(&path, &[])).await.0, 414 | 431));
}

#[tokio::test]
async fn t33_a_field_that_the_table_repeats_counts_each_time() {
    use crate::harness::h2::{END_HEADERS, END_STREAM, Frame, kind};
    let (mut client, program, _proxy) = from_h2("").await;
    client.settings().await;
    let stream = client.stream();
    // One field of 4 KB into the table, and then a byte for each time that it comes again.
    let mut block = get("/", &[]).block();
    block.extend([0x40, 1, b'x', 0x7f, 0xa1, 0x1e]);
    block.extend([b'v'; 4000]);
    block.extend([0xbe; 12_000]);
    client.send(Frame::new(kind::HEADERS, END_STREAM | END_HEADERS, stream, &block[..])).await;
    let answer = client.outcome(stream).await;
    match answer.ended {
        Ended::Whole => assert_eq!(answer.status(), 431),
        Ended::Reset(_) | Ended::Lost(_) => {}
    }
    program.is_left_alone();
}
