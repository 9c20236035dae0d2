//! Routes of `[tcp]`: bytes go through as they come, ends and resets too, and nobody connects to a program unasked.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU16, Ordering::Relaxed},
    },
    time::Duration,
};

use rustls::{ClientConfig, ClientConnection, RootCertStore};

use crate::harness::{End, Nobody, Program, Proxy, Wire, program, proxy, until};

/// PostgreSQL's question for TLS, and that for Kerberos.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const GSS_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 48];

/// A port at which nobody listens, below those that systems give out, so that nobody gets it meanwhile.
fn free_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let first = 20_000 + (std::process::id() % 100) as u16 * 100;
    loop {
        let port = first + NEXT.fetch_add(1, Relaxed) % 100;
        if std::net::TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

/// A proxy with one TCP route to a program.
struct Through {
    port: u16,
    program: Program,
    proxy: Proxy,
}

fn through() -> Through {
    let (port, program) = (free_port(), program());
    let proxy = proxy(&table(port, program.port()));
    Through { port, program, proxy }
}

fn table(port: u16, to: u16) -> String {
    format!("[tcp]\ndb = {{ listen = {port}, to = {to} }}\n")
}

impl Through {
    /// A client and its connection at the program.
    async fn pair(&self) -> (Wire, Wire) {
        (Wire::connect(self.port).await, self.program.connection().await)
    }
}

/// So many bytes that no part of them is like another.
fn noise(count: usize, seed: u64) -> Vec<u8> {
    let mut state = seed;
    let mut step = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 32) as u8
    };
    (0..count).map(|_| step()).collect()
}

#[tokio::test]
async fn f20_what_a_client_says_last_is_heard_and_answered() {
    let through = through();
    let (mut client, mut server) = through.pair().await;
    client.send("the question").await;
    client.shut().await;
    assert_eq!(server.rest().await, (b"the question".to_vec(), End::Closed));
    // Longer than what an upgraded connection is given.
    tokio::time::sleep(Duration::from_millis(1500)).await;
    server.send("the answer").await;
    server.shut().await;
    assert_eq!(client.rest().await, (b"the answer".to_vec(), End::Closed));
}

#[tokio::test]
async fn f20_a_program_that_has_said_all_goes_on_hearing() {
    let through = through();
    let (mut client, mut server) = through.pair().await;
    server.send("that is all").await;
    server.shut().await;
    assert_eq!(client.rest().await, (b"that is all".to_vec(), End::Closed));
    client.send("and yet").await;
    client.shut().await;
    assert_eq!(server.rest().await, (b"and yet".to_vec(), End::Closed));
}

#[tokio::test]
async fn f20_a_program_that_speaks_first_is_heard() {
    let through = through();
    let (mut client, mut server) = through.pair().await;
    server.send("5.7.42-greeting").await;
    assert_eq!(client.bytes(15).await, b"5.7.42-greeting");
}

#[tokio::test]
async fn f20_a_reset_of_the_client_is_one_for_the_program() {
    let through = through();
    let (client, mut server) = through.pair().await;
    server.send("x").await;
    client.reset();
    assert_eq!(server.end().await, End::Reset);
}

#[tokio::test]
async fn f20_a_reset_of_the_program_is_one_for_the_client() {
    let through = through();
    let (mut client, server) = through.pair().await;
    client.send("x").await;
    server.reset();
    assert_eq!(client.end().await, End::Reset);
}

#[tokio::test]
async fn f20_a_hundred_megabytes_each_way_arrive_as_they_were() {
    const SIZE: usize = 100 * 1024 * 1024;
    let through = through();
    let (mut client, mut server) = through.pair().await;
    let (up, down) = (noise(SIZE, 1), noise(SIZE, 2));
    let (mut client_out, mut server_out) = (client.twin(), server.twin());
    let upload = async {
        for piece in up.chunks(1 << 20) {
            client_out.send(piece).await;
        }
        client_out.shut().await;
    };
    let download = async {
        for piece in down.chunks(1 << 20) {
            server_out.send(piece).await;
        }
        server_out.shut().await;
    };
    let ((), (), uploaded, downloaded) = tokio::join!(upload, download, server.rest(), client.rest());
    assert!(uploaded.0 == up && uploaded.1 == End::Closed, "{} bytes up", uploaded.0.len());
    assert!(downloaded.0 == down && downloaded.1 == End::Closed, "{} bytes down", downloaded.0.len());
}

#[tokio::test]
async fn f20_a_reader_that_pauses_slows_the_writer_and_loses_nothing() {
    let through = through();
    let (mut client, mut server) = through.pair().await;
    client.fill().await;
    let (sent, read) = tokio::join!(
        async {
            client.send("the end").await;
            client.shut().await;
            "all of it"
        },
        server.rest()
    );
    assert!(sent == "all of it" && read.0.ends_with(b"fthe end") && read.1 == End::Closed);
}

#[tokio::test]
async fn f1_a_client_of_a_program_that_is_not_there_is_reset() {
    let (port, nobody) = (free_port(), Nobody::new());
    let _proxy = proxy(&table(port, nobody.port));
    // The reset may be there before the connection is seen to stand.
    match tokio::net::TcpStream::connect(("127.0.0.1", port)).await {
        Ok(stream) => assert_eq!(Wire::new(stream).end().await, End::Reset),
        Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset),
    }
}

#[tokio::test]
async fn nobody_connects_to_a_program_without_a_client() {
    let through = through();
    through.proxy.swap(&format!("{}[routes]\nweb = {}\n", table(through.port, through.program.port()), free_port()));
    through.program.is_left_alone();
    let (mut client, mut server) = through.pair().await;
    client.send("x").await;
    assert_eq!(server.bytes(1).await, b"x");
    through.program.is_left_alone();
}

#[tokio::test]
async fn both_loopback_addresses_are_listened_on() {
    let through = through();
    let stream = tokio::net::TcpStream::connect(("::1", through.port)).await.unwrap();
    let mut client = Wire::new(stream);
    client.send("x").await;
    assert_eq!(through.program.connection().await.bytes(1).await, b"x");
}

#[tokio::test]
async fn a_unix_socket_is_a_target_as_well() {
    let (port, folder) = (free_port(), tempfile::tempdir().unwrap());
    let path = folder.path().join("db.sock");
    let listener = tokio::net::UnixListener::bind(&path).unwrap();
    let _proxy = proxy(&format!("[tcp]\ndb = {{ listen = {port}, to = \"unix:{}\" }}\n", path.display()));
    let mut client = Wire::connect(port).await;
    let mut server = Wire::new(listener.accept().await.unwrap().0);
    client.send("x").await;
    assert_eq!(server.bytes(1).await, b"x");
    server.shut().await;
    assert_eq!(client.end().await, End::Closed);
}

#[tokio::test]
async fn f26_a_reload_leaves_connections_as_they_are_and_leads_new_ones_elsewhere() {
    let through = through();
    let (mut client, mut server) = through.pair().await;
    let other = program();
    let change = through.proxy.swap(&table(through.port, other.port()));
    assert_eq!(change.changed, ["db"]);
    client.send("still here").await;
    assert_eq!(server.bytes(10).await, b"still here");
    let _second = Wire::connect(through.port).await;
    other.connection().await;
}

#[tokio::test]
async fn f26_a_route_that_is_gone_takes_nobody_and_its_connections_end_in_their_own_time() {
    let through = through();
    let (mut client, mut server) = through.pair().await;
    let change = through.proxy.swap("[routes]\n");
    assert_eq!(change.removed, ["db"]);
    until("the port is free", || std::net::TcpListener::bind(("127.0.0.1", through.port)).is_ok()).await;
    server.send("still here").await;
    assert_eq!(client.bytes(10).await, b"still here");
}

#[tokio::test]
async fn f26_a_new_route_opens_its_port() {
    let through = through();
    let port = free_port();
    let both = table(through.port, through.program.port());
    through.proxy.swap(&format!("{both}more = {{ listen = {port}, to = {} }}\n", through.program.port()));
    let mut client = Wire::connect(port).await;
    client.send("x").await;
    assert_eq!(through.program.connection().await.bytes(1).await, b"x");
}

#[tokio::test]
async fn f27_a_port_that_is_taken_leaves_the_whole_table_as_it_was() {
    let through = through();
    let (free, taken) = (free_port(), program());
    let mut client = Wire::connect(through.port).await;
    let mut server = through.program.connection().await;
    let to = through.program.port();
    let table =
        format!("[tcp]\nnew = {{ listen = {free}, to = {to} }}\nother = {{ listen = {}, to = {to} }}\n", taken.port());
    let error = through.proxy.try_swap(&table).unwrap_err();
    assert!(error.contains("TCP route other") && error.contains(&taken.port().to_string()), "{error}");
    client.send("old").await;
    assert_eq!(server.bytes(3).await, b"old");
    let _second = Wire::connect(through.port).await;
    through.program.connection().await;
    assert!(std::net::TcpListener::bind(("127.0.0.1", free)).is_ok(), "what was opened is closed again");
}

#[tokio::test]
async fn f26_a_port_becomes_wider_and_narrower_again() {
    let through = through();
    let (port, to) = (through.port, through.program.port());
    let at = |address: &str| format!("expose = true\n[tcp]\ndb = {{ listen = \"{address}:{port}\", to = {to} }}\n");
    let (mut client, mut server) = through.pair().await;
    for address in ["0.0.0.0", "127.0.0.1", "[::]", "127.0.0.1"] {
        through.proxy.swap(&at(address));
        let own = if address == "[::]" { "::1" } else { "127.0.0.1" };
        let _second = Wire::new(tokio::net::TcpStream::connect((own, port)).await.unwrap());
        through.program.connection().await;
    }
    client.send("still here").await;
    assert_eq!(server.bytes(10).await, b"still here");
}

#[tokio::test]
async fn f27_a_port_that_cannot_become_wider_stays_as_it_was() {
    let through = through();
    let (port, to, taken) = (through.port, through.program.port(), program());
    let wide = format!(
        "expose = true\n[tcp]\ndb = {{ listen = \"0.0.0.0:{port}\", to = {to} }}\n\
         other = {{ listen = {}, to = {to} }}\n",
        taken.port()
    );
    let error = through.proxy.try_swap(&wide).unwrap_err();
    assert!(error.contains("TCP route other"), "{error}");
    through.pair().await;
}

#[tokio::test]
async fn f29_a_drain_ends_what_has_no_end_of_its_own() {
    let through = through();
    let (mut client, mut server) = through.pair().await;
    client.send("x").await;
    assert_eq!(server.bytes(1).await, b"x");
    let Through { proxy, .. } = through;
    proxy.drain().await;
    assert_eq!((client.end().await, server.end().await), (End::Reset, End::Reset));
}

/// A ClientHello as a real client sends it.
fn client_hello(name: &str) -> Vec<u8> {
    let config = ClientConfig::builder().with_root_certificates(RootCertStore::empty()).with_no_client_auth();
    let mut connection = ClientConnection::new(Arc::new(config), name.to_owned().try_into().unwrap()).unwrap();
    let mut hello = Vec::new();
    connection.write_tls(&mut hello).unwrap();
    hello
}

/// Three programs behind one port: by name, by suffix, and for the rest.
struct Shared {
    port: u16,
    shop: Program,
    blogs: Program,
    rest: Program,
    _proxy: Proxy,
}

fn shared() -> Shared {
    let (port, shop, blogs, rest) = (free_port(), program(), program(), program());
    let table = format!(
        "[tcp]\nrest = {{ listen = {port}, to = {} }}\nblogs = {{ listen = {port}, host = \"*.localhost\", to = {} }}\n\
         shop = {{ listen = {port}, hosts = [\"shop.localhost\", \"buy.localhost\"], to = {} }}\n",
        rest.port(),
        blogs.port(),
        shop.port()
    );
    Shared { port, shop, blogs, rest, _proxy: proxy(&table) }
}

#[tokio::test]
async fn the_name_that_a_tls_client_asks_for_tells_routes_of_one_port_apart() {
    let shared = shared();
    let by_name = [
        ("shop.localhost", &shared.shop),
        ("BUY.localhost", &shared.shop),
        ("my.localhost", &shared.blogs),
        ("example.com", &shared.rest),
    ];
    for (name, program) in by_name {
        let hello = client_hello(name);
        let mut client = Wire::connect(shared.port).await;
        client.send(&hello).await;
        let mut server = program.connection().await;
        assert_eq!(server.bytes(hello.len()).await, hello, "{name}");
        server.send("hello yourself").await;
        assert_eq!(client.bytes(14).await, b"hello yourself");
    }
}

#[tokio::test]
async fn a_name_may_come_byte_by_byte() {
    let shared = shared();
    let hello = client_hello("shop.localhost");
    let mut client = Wire::connect(shared.port).await;
    for byte in hello.chunks(1) {
        client.send(byte).await;
    }
    assert_eq!(shared.shop.connection().await.bytes(hello.len()).await, hello);
}

#[tokio::test]
async fn what_names_no_host_goes_to_the_route_without_one() {
    let shared = shared();
    // A cancel request of PostgreSQL, and a start without TLS.
    for opening in [[0, 0, 0, 16, 4, 210, 22, 46], [0, 0, 0, 8, 0, 3, 0, 0]] {
        let mut client = Wire::connect(shared.port).await;
        client.send(opening).await;
        assert_eq!(shared.rest.connection().await.bytes(8).await, opening);
    }
}

#[tokio::test]
async fn f20_what_is_said_before_an_end_goes_to_the_route_without_a_name() {
    let shared = shared();
    // The second one is no word of anything yet.
    for opening in [b"PING\r\n".as_slice(), &[0, 0]] {
        let mut client = Wire::connect(shared.port).await;
        client.send(opening).await;
        client.shut().await;
        let mut server = shared.rest.connection().await;
        assert_eq!(server.rest().await, (opening.to_vec(), End::Closed));
        server.send("+PONG").await;
        server.shut().await;
        assert_eq!(client.rest().await, (b"+PONG".to_vec(), End::Closed));
    }
}

#[tokio::test]
async fn f20_a_client_that_waits_for_its_program_goes_to_the_route_without_a_name() {
    let shared = shared();
    let mut client = Wire::connect(shared.port).await;
    let mut server = shared.rest.connection().await;
    server.send("5.7.42-greeting").await;
    assert_eq!(client.bytes(15).await, b"5.7.42-greeting");
    client.send("login").await;
    assert_eq!(server.bytes(5).await, b"login");
}

#[tokio::test]
async fn who_leaves_a_shared_port_without_a_word_costs_its_programs_nothing() {
    let shared = shared();
    let mut client = Wire::connect(shared.port).await;
    client.shut().await;
    assert_eq!(client.end().await, End::Reset);
    shared.rest.is_left_alone();
}

#[tokio::test]
async fn a_tls_client_that_asks_for_nobody_here_is_told_so() {
    let (port, shop) = (free_port(), program());
    let to = shop.port();
    let _proxy = proxy(&format!("[tcp]\nshop = {{ listen = {port}, host = \"shop.localhost\", to = {to} }}\n"));
    let mut client = Wire::connect(port).await;
    client.send(client_hello("blog.localhost")).await;
    // A fatal alert: unrecognized_name.
    assert_eq!(client.bytes(7).await, [21, 3, 3, 0, 2, 2, 112]);
    let mut plain = Wire::connect(port).await;
    plain.send("no TLS at all").await;
    assert_eq!(plain.end().await, End::Reset);
    shop.is_left_alone();
}

#[tokio::test]
async fn a_postgres_client_is_heard_out_for_its_name_and_speaks_tls_with_its_server() {
    let shared = shared();
    let mut client = Wire::connect(shared.port).await;
    client.send(GSS_REQUEST).await;
    assert_eq!(client.bytes(1).await, b"N");
    client.send(SSL_REQUEST).await;
    assert_eq!(client.bytes(1).await, b"S");
    let hello = client_hello("shop.localhost");
    client.send(&hello).await;

    let mut server = shared.shop.connection().await;
    assert_eq!(server.bytes(8).await, SSL_REQUEST);
    server.send("S").await;
    assert_eq!(server.bytes(hello.len()).await, hello);
    server.send("server hello").await;
    assert_eq!(client.bytes(12).await, b"server hello");
}

#[tokio::test]
async fn a_postgres_that_has_no_tls_is_no_target_of_a_client_that_wants_it() {
    let shared = shared();
    let mut client = Wire::connect(shared.port).await;
    client.send(SSL_REQUEST).await;
    assert_eq!(client.bytes(1).await, b"S");
    client.send(client_hello("shop.localhost")).await;
    let mut server = shared.shop.connection().await;
    assert_eq!(server.bytes(8).await, SSL_REQUEST);
    server.send("N").await;
    assert_eq!(client.end().await, End::Reset);
}

#[tokio::test]
async fn on_a_port_of_one_route_without_a_name_nothing_is_parsed() {
    let through = through();
    let (mut client, mut server) = through.pair().await;
    client.send(SSL_REQUEST).await;
    assert_eq!(server.bytes(8).await, SSL_REQUEST);
    server.send("N").await;
    assert_eq!(client.bytes(1).await, b"N");
}
