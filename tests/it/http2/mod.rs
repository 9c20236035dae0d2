//! HTTP/2 from outside, frame by frame: from clients, to programs, and in every pairing with HTTP/1.

mod cancel;
mod client;
mod connection;
mod errors;
mod floods;
mod flow;
mod goaway;
mod hosts;
mod limits;
mod malformed;
mod program;
mod sniff;
mod websocket;

use std::{future::pending, time::Duration};

use crate::harness::{
    OK, Program,
    h2::{Fields, Peer, get},
};

/// The promise is 200 ms; a machine on which other tests run may be slower. No limit of the proxy is as short as this.
const SOON: Duration = Duration::from_secs(1);

/// Another request on the same connection is answered by a program that speaks HTTP/1 and has got no other.
async fn goes_on(client: &mut Peer, program: &Program) {
    let before = goes_on_beside(client, program).await;
    assert_eq!(before, [""; 0], "came before");
}

/// As [`goes_on`], whatever the program got before. Returns that; all of it has ended.
async fn goes_on_beside(client: &mut Peer, program: &Program) -> Vec<String> {
    let stream = client.asks(&get("/next", &[])).await;
    let (mut connection, before) = program.connection_asking("GET /next HTTP/1.1").await;
    connection.send(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");
    before
}

/// The next request of a program that speaks HTTP/2, on the connection that it has kept or on another one: a client may
/// have another worker than the one before, and a worker has connections of its own.
async fn next_request(program: &Program, mut kept: Peer) -> (Peer, (u32, Fields, bool)) {
    let on_kept = async {
        match kept.try_opened().await {
            Some(opened) => opened,
            None => pending().await,
        }
    };
    tokio::select! {
        opened = on_kept => (kept, opened),
        mut other = program.h2_connection() => {
            let opened = other.opened().await;
            (other, opened)
        }
    }
}
