//! Errors of the proxy's own: as pages for whoever asks so, and as gRPC has them for gRPC.

use crate::harness::{
    Full, Nobody, OK,
    h2::{Ended, Fields, Message, from_h2, get, request},
    proxy,
};

/// What gRPC calls that which has no answer, and what nobody implements.
const UNAVAILABLE: &str = "14";
const UNIMPLEMENTED: &str = "12";
const DEADLINE_EXCEEDED: &str = "4";

/// What a gRPC client asks.
fn call(path: &str) -> Fields {
    request("POST", path).and(&[("te", "trailers"), ("content-type", "application/grpc")])
}

#[tokio::test]
async fn f1_a_program_that_does_not_listen_is_a_502_of_its_stream() {
    let nobody = Nobody::new();
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = {}", nobody.port));
    let mut client = proxy.connect_h2().await;
    for _ in 0..3 {
        let answer = client.ask(&get("/", &[])).await;
        assert_eq!(answer.error(), (502, "connect-refused"));
        assert_eq!(answer.field("x-portolan-route"), Some("app"));
    }
}

#[tokio::test]
async fn f1_a_program_of_http2_that_does_not_listen_is_a_502() {
    let nobody = Nobody::new();
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = \"h2c://127.0.0.1:{}\"", nobody.port));
    let mut client = proxy.connect_h2().await;
    assert_eq!(client.ask(&get("/", &[])).await.error(), (502, "connect-refused"));
    let asks = "GET / HTTP/1.1\r\nhost: localhost\r\n\r\n";
    assert_eq!(proxy.ask(asks).await.error(), (502, "connect-refused"));
}

#[tokio::test]
async fn f2_a_program_of_http2_to_which_no_connection_comes_about_is_a_504() {
    let full = Full::new();
    let target = format!("to = \"h2c://{}\"\nconnect_timeout = \"300ms\"", full.address);
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\n{target}"));
    let mut client = proxy.connect_h2().await;
    assert_eq!(client.ask(&get("/", &[])).await.error(), (504, "connect-timeout"));
}

#[tokio::test]
async fn f3_a_program_that_never_answers_is_a_504() {
    let (mut client, program, _proxy) = from_h2("timeout = \"300ms\"").await;
    let stream = client.asks(&get("/", &[])).await;
    let mut connection = program.connection().await;
    connection.request().await;
    assert_eq!(client.answer(stream).await.error(), (504, "upstream-timeout"));
    connection.rest().await;
    super::goes_on(&mut client, &program).await;
}

#[tokio::test]
async fn a_path_without_a_route_is_answered_in_the_tongue_of_the_asker() {
    let proxy = proxy("[routes.app]\npath = \"/app\"\nto = 1");
    let mut client = proxy.connect_h2().await;
    for (field, kind) in [
        (("accept", "text/html"), "text/html"),
        (("accept", "application/json"), "application/problem+json"),
        (("user-agent", "curl/8.0"), "text/plain"),
    ] {
        let answer = client.ask(&get("/none", &[field])).await;
        assert_eq!(answer.error(), (404, "no-route"));
        assert!(answer.field("content-type").is_some_and(|of| of.starts_with(kind)), "{field:?}: {answer:?}");
        assert_eq!(answer.field("content-length"), Some(answer.body.len().to_string().as_str()));
        assert_eq!((answer.field("connection"), answer.field("transfer-encoding")), (None, None));
        let head = client.ask(&request("HEAD", "/none").and(&[field])).await;
        assert_eq!((head.error(), head.text().as_str()), ((404, "no-route"), ""));
    }
}

#[tokio::test]
async fn t23_an_answer_of_ours_to_an_upload_leaves_the_connection_to_others() {
    let proxy = proxy("[routes]\nmine = { path = \"/\", respond = { body = \"mine\" } }");
    let mut client = proxy.connect_h2().await;
    for length in [None, Some("1000000")] {
        let mut fields = request("POST", "/");
        fields.0.extend(length.map(|length| ("content-length".to_owned(), length.to_owned())));
        let stream = client.begins(&fields).await;
        client.data(stream, "part", false).await;
        assert_eq!(client.answer(stream).await.text(), "mine", "{length:?}");
        assert_eq!(client.ask(&get("/", &[])).await.text(), "mine", "{length:?}");
    }
}

/// An error as gRPC has it: HTTP's 200, and trailers in its only head.
fn is_grpc_error(answer: &Message, status: &str) {
    assert_eq!((answer.status(), answer.ended, answer.text().as_str()), (200, Ended::Whole, ""), "{answer:?}");
    let trailers = if answer.trailers.0.is_empty() { &answer.fields } else { &answer.trailers };
    assert_eq!(trailers.field("grpc-status"), Some(status), "{answer:?}");
    assert!(trailers.field("grpc-message").is_some_and(|message| !message.is_empty()), "{answer:?}");
    assert_eq!(answer.field("content-type"), Some("application/grpc"));
}

#[tokio::test]
async fn s68_grpc_gets_errors_of_ours_as_its_own() {
    let (nobody, full) = (Nobody::new(), Full::new());
    let proxy = proxy(&format!(
        "[routes]\nnobody = {{ path = \"/nobody\", to = \"h2c://127.0.0.1:{}\" }}\n\
         full = {{ path = \"/full\", to = \"h2c://{}\", connect_timeout = \"300ms\" }}",
        nobody.port, full.address
    ));
    let mut client = proxy.connect_h2().await;
    for (path, status) in [("/nobody/Call", UNAVAILABLE), ("/full/Call", UNAVAILABLE), ("/none/Call", UNIMPLEMENTED)] {
        for kind in ["application/grpc", "application/grpc+proto"] {
            let answer = client.ask_with(&call(path).with("content-type", kind), "\0\0\0\0\0").await;
            let answer = Message { fields: answer.fields.clone().with("content-type", "application/grpc"), ..answer };
            is_grpc_error(&answer, status);
        }
    }
}

#[tokio::test]
async fn s68_a_program_that_was_asked_and_does_not_answer_in_time_may_have_acted() {
    let (mut client, program, _proxy) = from_h2("timeout = \"200ms\"").await;
    let stream = client.asks(&call("/shop.Cart/Add")).await;
    let _asked = program.connection().await;
    is_grpc_error(&client.answer(stream).await, DEADLINE_EXCEEDED);
}

#[tokio::test]
async fn s68_the_message_of_an_error_is_one_line_of_visible_characters() {
    let proxy = proxy("[routes.app]\npath = \"/app\"\nto = 1");
    let mut client = proxy.connect_h2().await;
    let answer = client.ask(&call("/none/%E2%80%A8%C3%A9")).await;
    let message = answer.field("grpc-message").unwrap();
    assert!(message.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{message:?}");
}

#[tokio::test]
async fn s68_what_the_program_says_of_a_call_is_not_touched() {
    let (mut client, program, _proxy) = crate::harness::h2::through_h2("").await;
    let stream = client.begins(&call("/shop.Cart/Add").and(&[("grpc-timeout", "1500m"), ("x-bin", "AAEC")])).await;
    client.data(stream, "\0\0\0\0\u{1}a", true).await;
    let mut connection = program.h2_connection().await;
    let seen = connection.request().await;
    let fields = ["grpc-timeout", "x-bin", "te", "content-type"].map(|name| seen.field(name));
    assert_eq!(fields, [Some("1500m"), Some("AAEC"), Some("trailers"), Some("application/grpc")]);
    assert_eq!(seen.text(), "\0\0\0\0\u{1}a");
    // An error of the program's own: a head and nothing behind it.
    let error = [("content-type", "application/grpc"), ("grpc-status", "5"), ("grpc-message", "no%20cart")];
    connection.head(seen.stream, &Fields::of(&[(":status", "200")]).and(&error), true).await;
    let answer = client.answer(stream).await;
    let said = ["grpc-status", "grpc-message"].map(|name| answer.field(name));
    assert_eq!((said, answer.text().as_str()), ([Some("5"), Some("no%20cart")], ""));
    assert_eq!(answer.trailers, Fields::default());
}

#[tokio::test]
async fn an_error_of_a_call_leaves_its_connection_to_others() {
    let (mut client, program, _proxy) = from_h2("timeout = \"300ms\"").await;
    let stream = client.begins(&call("/shop.Cart/Add")).await;
    client.data(stream, "\0\0\0\0\0", true).await;
    let mut connection = program.connection().await;
    connection.request().await;
    is_grpc_error(&client.answer(stream).await, DEADLINE_EXCEEDED);
    let stream = client.asks(&get("/", &[])).await;
    program.connection().await.answers(OK).await;
    assert_eq!(client.answer(stream).await.text(), "ok");
}
