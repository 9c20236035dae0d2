//! The end: what is in hand is finished, nothing new is taken, and the port is free at once.

use std::{
    io::ErrorKind,
    net::{SocketAddr, TcpStream},
};

use rustix::process::Signal;

use crate::{
    client::{Connection, request, until},
    folder::Folder,
    origin::{HALVES, Halting, UPGRADE, echo, named},
    program::Portolan,
};

/// A proxy in front of a program that halts in the middle of its answer, and a client that waits for the rest.
struct InHand {
    portolan: Portolan,
    halting: Halting,
    client: Connection,
    /// A connection that was used and is kept alive.
    idle: Connection,
}

impl InHand {
    fn new() -> Self {
        let halting = Halting::start();
        let routes = [format!("/={}", halting.port), format!("/web={}", named("web"))];
        let portolan = Portolan::serve(&Folder::new(), &[&routes[0], &routes[1]]);
        let mut client = Connection::to(portolan.address());
        client.send(request("/"));
        assert!(client.head().unwrap().starts_with("HTTP/1.1 200"));
        let mut idle = Connection::to(portolan.address());
        assert_eq!(idle.get("/web").body, "web");
        Self { portolan, halting, client, idle }
    }

    fn finish(&mut self) {
        self.halting.go_on();
        assert_eq!(self.client.exactly(HALVES.concat().len()), HALVES.concat());
    }
}

fn is_refused(address: SocketAddr) -> bool {
    TcpStream::connect(address).is_err_and(|error| error.kind() == ErrorKind::ConnectionRefused)
}

#[test]
fn a_request_in_hand_is_finished_after_either_signal_and_nothing_new_is_taken() {
    for signal in [Signal::TERM, Signal::INT] {
        let mut in_hand = InHand::new();
        in_hand.portolan.signal(signal);
        assert!(in_hand.idle.closes_in_silence(), "what is idle closes at once");
        until("new connections are refused", || is_refused(in_hand.portolan.address()));
        in_hand.finish();
        assert!(in_hand.client.closes_in_silence());
        assert_eq!(in_hand.portolan.wait(), 0, "{signal:?}");
        let said = in_hand.portolan.err.so_far();
        assert!(!said.iter().any(|line| line.contains("were cut")), "{said:?}");
        assert!(said.last().is_some_and(|line| line.contains("  root  ")), "its line is the last one: {said:?}");
    }
}

#[test]
fn a_connection_that_never_asked_closes_at_once() {
    let mut portolan = Portolan::serve(&Folder::new(), &["/=1"]);
    let mut idle: Vec<_> = (0..20).map(|_| Connection::to(portolan.address())).collect();
    // Connections are accepted in order, so all of them are once a later one is answered.
    assert_eq!(Connection::to(portolan.address()).get("/").status, 502);
    portolan.signal(Signal::TERM);
    assert!(idle.iter_mut().all(Connection::closes_in_silence));
    assert_eq!(portolan.wait(), 0);
}

#[test]
fn a_second_signal_ends_at_once() {
    for [first, second] in [[Signal::TERM, Signal::TERM], [Signal::INT, Signal::INT], [Signal::TERM, Signal::INT]] {
        let mut in_hand = InHand::new();
        in_hand.portolan.signal(first);
        // Now the first one was heard, so that the two are not taken for one.
        assert!(in_hand.idle.closes_in_silence());
        in_hand.portolan.signal(second);
        assert_eq!(in_hand.portolan.wait(), 0);
        let said = in_hand.portolan.err.so_far();
        assert!(!said.iter().any(|line| line.contains("5 s")), "it has not waited: {said:?}");
    }
}

#[test]
fn patience_ends_after_5_s_and_what_is_cut_is_told() {
    let mut in_hand = InHand::new();
    in_hand.portolan.signal(Signal::TERM);
    assert_eq!(in_hand.portolan.wait(), 0);
    let said = in_hand.portolan.err.so_far();
    assert!(said.iter().any(|line| line.ends_with("some requests did not end within 5 s and were cut")), "{said:?}");
}

#[test]
fn a_tunnel_does_not_hold_up_the_end() {
    let mut portolan = Portolan::serve(&Folder::new(), &[&format!("/={}", echo())]);
    let mut tunnel = Connection::to(portolan.address());
    tunnel.send(UPGRADE);
    assert!(tunnel.head().unwrap().starts_with("HTTP/1.1 101"));
    portolan.signal(Signal::TERM);
    assert!(tunnel.closes_in_silence());
    assert_eq!(portolan.wait(), 0);
    let said = portolan.err.so_far();
    assert!(!said.iter().any(|line| line.contains("5 s")), "it has not waited: {said:?}");
}

#[test]
fn the_port_is_free_at_once() {
    let folder = Folder::new();
    let mut first = Portolan::serve(&folder, &["/=1"]);
    let address = first.address();
    // Whoever closes first has the connection in TIME_WAIT: here it is the proxy.
    let mut connection = Connection::to(address);
    assert_eq!(connection.get("/").status, 502);
    for _ in 0..3 {
        first.signal(Signal::TERM);
        assert!(connection.closes_in_silence());
        assert_eq!(first.wait(), 0);
        let listen = address.to_string();
        first = Portolan::start(crate::program::portolan(&folder, &["serve", "--listen", &listen, "/=1"]));
        assert_eq!(first.address(), address);
        connection = Connection::to(address);
        assert_eq!(connection.get("/").status, 502);
    }
}
