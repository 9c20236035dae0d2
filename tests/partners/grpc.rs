//! gRPC between a real client and a real server: every kind of call, every way in which a call ends.

use serde_json::{Value, json};

use crate::{
    certificate::SelfSigned,
    client::python,
    installed::{
        self,
        Tool::{OpenSsl, Python},
    },
    program::{self, Program},
    proxy::Portolan,
};

#[test]
fn every_kind_of_grpc_call_passes_in_cleartext() {
    installed::with(&[Python], || {
        let server = server(&[]);
        let portolan = in_front_of(&server);

        for target in [server.address(), portolan.address()] {
            assert_eq!(python("grpc_calls.py", &[&target.to_string()]), [report()], "at {target}");
        }
    });
}

#[test]
fn every_kind_of_grpc_call_passes_under_the_local_authority() {
    installed::with(&[Python, OpenSsl], || {
        let server = server(&[]);
        let portolan = in_front_of(&server);
        let target = format!("localhost:{}", portolan.address().port());
        let authority = portolan.authority();

        assert_eq!(python("grpc_calls.py", &[&target, authority.to_str().unwrap()]), [report()]);
    });
}

#[test]
fn every_kind_of_grpc_call_passes_to_a_server_behind_tls() {
    installed::with(&[Python, OpenSsl], || {
        let certificate = SelfSigned::of("IP:127.0.0.1");
        let server = server(&[certificate.certificate().to_str().unwrap(), certificate.key().to_str().unwrap()]);
        let portolan = Portolan::serving(&format!(
            "[routes]\nrpc = {{ path = '/', to = 'https://{}', insecure = true }}\n",
            server.address()
        ));

        assert_eq!(python("grpc_calls.py", &[&portolan.address().to_string()]), [report()]);
    });
}

#[test]
fn a_conversation_goes_on_when_its_grpc_server_takes_no_more_calls() {
    installed::with(&[Python], || {
        // One for each: it ends.
        let (direct, behind) = (server(&[]), server(&[]));
        let portolan = in_front_of(&behind);

        for target in [direct.address(), portolan.address()] {
            let report = python("grpc_goodbye.py", &[&target.to_string()]);
            assert_eq!(report, [json!({ "said": ["BEFORE", "AFTER"], "ended": "OK", "later": "UNAVAILABLE" })]);
        }
    });
}

#[test]
fn a_grpc_server_that_is_away_is_unavailable_in_the_words_of_portolan() {
    installed::with(&[Python], || {
        let gone = server(&[]).port();
        let portolan = Portolan::serving(&format!("[routes]\nrpc = {{ path = '/', to = 'h2c://127.0.0.1:{gone}' }}\n"));

        let [told] = &python("grpc_failure.py", &[&portolan.address().to_string()])[..] else { panic!("one report") };
        assert_eq!(told["status"], "UNAVAILABLE", "{told}");
        assert!(told["message"].as_str().unwrap().contains(&format!("127.0.0.1:{gone}")), "{told}");
    });
}

#[test]
fn a_grpc_call_that_no_route_matches_is_unimplemented_in_the_words_of_portolan() {
    installed::with(&[Python], || {
        let portolan = Portolan::serving("[routes]\nother = { path = '/other', to = 'h2c://127.0.0.1:9' }\n");

        let [told] = &python("grpc_failure.py", &[&portolan.address().to_string()])[..] else { panic!("one report") };
        assert_eq!(told["status"], "UNIMPLEMENTED", "{told}");
    });
}

/// In cleartext, or with a certificate and its key.
fn server(files: &[&str]) -> Program {
    let mut command = program::command(installed::python());
    command.arg(installed::source("apps/grpc_server.py")).args(files);
    Program::start(command, "grpc://")
}

fn in_front_of(server: &Program) -> Portolan {
    Portolan::serving(&format!("[routes]\nrpc = {{ path = '/', to = 'h2c://{}' }}\n", server.address()))
}

fn report() -> Value {
    json!({
        "unary": ["ahoy", "fathoms", "moored", true, true, "OK"],
        "spread": 1000,
        "gathered": "1000000",
        "conversation": ["WHO", "GOES", "THERE"],
        "empty": true,
        "large": true,
        "larger": true,
        "refused": ["FAILED_PRECONDITION", "the tide is out: ⚓ 100 %"],
        "unknown": "UNIMPLEMENTED",
        "deadline": ["DEADLINE_EXCEEDED", "yes"],
        "givenUp": ["begun", "CANCELLED"],
        "cancelled": ["CANCELLED", "yes"],
    })
}
