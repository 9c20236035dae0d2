//! gRPC-Web, which is gRPC as browsers can speak it: between the clients and the server of one library, in HTTP/1 and in
//! HTTP/2.

use std::net::SocketAddr;

use serde_json::{Value, json};

use crate::{
    client,
    installed::{self, Tool::Node},
    program::{self, Program},
    proxy::Portolan,
};

/// What clients speak: as browsers do with `fetch`, in HTTP/1, in HTTP/2.
const CLIENTS: [&str; 3] = ["web", "1.1", "2"];

#[test]
fn grpc_web_calls_pass_to_a_server_that_speaks_http_1() {
    installed::with(&[Node], || {
        let server = server("http");
        let portolan = in_front_of(&server.address().to_string());

        assert_eq!(report(server.address(), "web"), expected());
        for spoken in CLIENTS {
            assert_eq!(report(portolan.address(), spoken), expected(), "in {spoken}");
        }
    });
}

#[test]
fn grpc_web_calls_pass_to_a_server_that_speaks_http_2() {
    installed::with(&[Node], || {
        let server = server("http2");
        let portolan = in_front_of(&format!("h2c://{}", server.address()));

        assert_eq!(report(server.address(), "2"), expected());
        for spoken in CLIENTS {
            assert_eq!(report(portolan.address(), spoken), expected(), "in {spoken}");
        }
    });
}

#[test]
fn a_grpc_web_server_that_is_away_is_unavailable_in_the_words_of_portolan() {
    installed::with(&[Node], || {
        let gone = server("http").address();
        let portolan = in_front_of(&gone.to_string());

        for spoken in CLIENTS {
            let told = &report(portolan.address(), spoken)["unary"];
            assert_eq!(told[0], "Unavailable", "in {spoken}: {told}");
            assert!(told[1].as_str().unwrap().contains(&gone.to_string()), "in {spoken}: {told}");
        }
    });
}

fn server(module: &str) -> Program {
    program::node("grpc_web.cjs", &[module])
}

fn in_front_of(to: &str) -> Portolan {
    Portolan::serving(&format!("[routes]\nrpc = {{ path = '/', to = '{to}' }}\n"))
}

fn report(address: SocketAddr, spoken: &str) -> Value {
    let [report] = &client::node("grpc_web.cjs", &[&format!("http://{address}"), spoken])[..] else {
        panic!("one report")
    };
    report.clone()
}

fn expected() -> Value {
    json!({
        "unary": ["ahoy ⚓", "fathoms", "moored"],
        "large": true,
        "stream": ["first", "second"],
        "refused": ["FailedPrecondition", "the tide is out: ⚓ 100 %"],
        "cancelled": ["Canceled", "yes"],
    })
}
