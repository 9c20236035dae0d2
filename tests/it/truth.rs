//! Pages that tell the truth: what came in the place of an answer, which limit has passed, and who refuses the host.
//!
//! Who listens nearby is for `tests/binary/truth.rs`: here the neighbours would be in the proxy's own process. The
//! refusals in `host_refused/` are what Vite 8.3.8, webpack-dev-server 5.2.7 and Django 5.2.19 sent (its page cut
//! behind the words that matter), what the middleware of @angular/build 21.2 makes of Vite's, and the templates of
//! Rails 6.1.

use serde_json::Value;

use crate::harness::{End, Full, GET, Program, Proxy, Response, Wire, get, latin1, proxy, through};

/// What a browser sends for a page that somebody wants to look at.
const NAVIGATION: &str =
    "GET / HTTP/1.1\r\nhost: foo.test\r\naccept: text/html,*/*;q=0.8\r\nsec-fetch-mode: navigate\r\n\r\n";

/// What a script on that page sends.
const FETCH: &str = "GET / HTTP/1.1\r\nhost: foo.test\r\naccept: text/html,*/*;q=0.8\r\nsec-fetch-mode: cors\r\n\r\n";

/// The problem that is told where a program sends these bytes, whatever it was asked.
async fn problem_of(bytes: &[u8]) -> (Response, Value) {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.send(bytes).await;
    connection.request().await;
    connection.shut().await;
    problem(client.response().await)
}

fn problem(response: Response) -> (Response, Value) {
    let problem = serde_json::from_slice(&response.body).unwrap_or_else(|error| panic!("{error}: {}", response.text()));
    (response, problem)
}

fn tells(problem: &Value, sentence: &str) -> bool {
    let sentences = ["notes", "help"].into_iter().flat_map(|part| problem[part].as_array().into_iter().flatten());
    sentences.filter_map(Value::as_str).any(|told| told == sentence)
}

#[track_caller]
fn assert_tells(problem: &Value, sentence: &str) {
    assert!(tells(problem, sentence), "{sentence:?} is not among {problem:#}");
}

/// A client and a program that is served as `foo.test`; `keys` are more lines of its route.
async fn as_foo(keys: &str) -> (Wire, Program, Proxy) {
    let program = crate::harness::program();
    let proxy = proxy(&format!("[routes.app]\nhost = \"foo.test\"\nto = {}\n{keys}", program.port()));
    (proxy.connect().await, program, proxy)
}

/// What becomes of an answer.
async fn answered(request: &str, answer: impl AsRef<[u8]>) -> Response {
    let (mut client, program, _proxy) = as_foo("").await;
    client.send(request).await;
    let mut connection = program.connection().await;
    connection.answers(answer).await;
    connection.shut().await;
    client.response().await
}

#[tokio::test]
async fn f13_a_program_that_speaks_tls_is_told_as_such() {
    let (response, problem) = problem_of(b"\x15\x03\x01\x00\x02\x02\x46").await;
    assert_eq!(response.error(), (502, "bad-upstream-reply"));
    assert_tells(&problem, r"all 7 bytes that came: `15 03 01 00 02 02 46`, as text `\x15\x03\x01\x00\x02\x02F`");
    assert_tells(&problem, "this looks like TLS: `https://`");
    let help = "lead the target at table:3:6 to a port on which the program speaks plain HTTP/1.1";
    assert_tells(&problem, help);
    assert_eq!(problem["origin"], "table:3:6");
}

#[tokio::test]
async fn f13_a_program_that_speaks_http2_is_told_as_such() {
    // SETTINGS, then GOAWAY with PROTOCOL_ERROR, as a gRPC server answers a request that is no preface.
    let frames = b"\x00\x00\x06\x04\x00\x00\x00\x00\x00\x00\x05\x00\x00\x40\x00\
        \x00\x00\x08\x07\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x01";
    let (response, problem) = problem_of(frames).await;
    assert_eq!(response.error(), (502, "bad-upstream-reply"));
    assert_tells(&problem, "this looks like HTTP/2 without TLS: `h2c://`");
}

#[tokio::test]
async fn f13_a_database_that_greets_is_told_as_such() {
    let greeting = b"\x4a\x00\x00\x00\x0a8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00more";
    let (response, problem) = problem_of(greeting).await;
    assert_eq!(response.error(), (502, "bad-upstream-reply"));
    assert_tells(&problem, "this looks like MySQL, not HTTP: a `[tcp]` route?");
    let bytes = concat!(
        "the first 32 bytes that came: `4a 00 00 00 0a 38 2e 30 2e 33 36 00 08 00 00 00 ",
        "61 62 63 64 65 66 67 68 00 ff ff ff 02 00 6d 6f`, as text ",
        r"`J\x00\x00\x00\n8.0.36\x00\x08\x00\x00\x00abcdefgh\x00\xff\xff\xff\x02\x00mo`"
    );
    assert_tells(&problem, bytes);
}

#[tokio::test]
async fn f13_what_a_program_sends_stays_text_on_the_page() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &["accept: text/html"])).await;
    program.connection().await.answers("<script>`\x1b[31m").await;
    let page = client.response().await;
    assert_eq!(page.error(), (502, "bad-upstream-reply"));
    let page = page.text();
    assert!(page.contains(r"<code>&lt;script&gt;\x60\x1b[31m</code>"), "{page}");
    assert!(!page.contains("<script"), "{page}");
}

#[tokio::test]
async fn f8_a_head_that_breaks_off_is_told_with_what_there_is_of_it() {
    let (response, problem) = problem_of(b"HTTP/1.1 200 OK\r\ncontent-le").await;
    assert_eq!(response.error(), (502, "upstream-closed"));
    assert_tells(&problem, "it was sent the whole request, and the head of its answer has no end");
    let start = concat!(
        "all 27 bytes that came: `48 54 54 50 2f 31 2e 31 20 32 30 30 20 4f 4b 0d 0a ",
        r"63 6f 6e 74 65 6e 74 2d 6c 65`, as text `HTTP/1.1 200 OK\r\ncontent-le`"
    );
    assert_tells(&problem, start);
}

#[tokio::test]
async fn f4_a_program_that_hangs_up_is_told_with_how_far_it_got() {
    let (mut client, program, _proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.request().await;
    connection.shut().await;
    let (response, problem) = problem(client.response().await);
    assert_eq!(response.error(), (502, "upstream-closed"));
    assert_tells(&problem, "it was sent the whole request, and no byte of an answer came");
}

#[tokio::test]
async fn f2_a_limit_for_connecting_is_told_with_its_value_and_its_place() {
    let full = Full::new();
    let keys = format!("path = \"/\", to = \"{}\", connect_timeout = \"200ms\"", full.address);
    let proxy = proxy(&format!("[routes]\napp = {{ {keys} }}"));
    let (response, problem) = problem(proxy.ask(GET).await);
    assert_eq!(response.error(), (504, "connect-timeout"));
    let column = "app = { ".len() + keys.find("\"200ms\"").unwrap() + 1;
    assert_tells(&problem, &format!("the limit is `connect_timeout` = 0.2 s, written at table:2:{column}"));
    assert_tells(&problem, "all of that went by connecting: no byte was sent");
}

#[tokio::test]
async fn f2_a_limit_that_nobody_wrote_is_told_to_be_the_default() {
    let full = Full::new();
    let proxy = proxy(&format!("[routes]\napp = {{ path = \"/\", to = \"{}\" }}", full.address));
    let (response, problem) = problem(proxy.ask(GET).await);
    assert_eq!(response.error(), (504, "connect-timeout"));
    assert_tells(&problem, "the limit is `connect_timeout` = 2 s, the default");
}

#[tokio::test]
async fn f3_a_limit_for_the_answer_is_told_with_how_far_it_got() {
    let (mut client, program, _proxy) = through("timeout = \"200ms\"").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers("HTTP/1.1 200").await;
    let (response, problem) = problem(client.response().await);
    assert_eq!(response.error(), (504, "upstream-timeout"));
    assert_tells(&problem, "the limit is `timeout` = 0.2 s, written at table:4:11");
    assert_tells(&problem, "it was sent the whole request, and the head of its answer has no end");
}

#[tokio::test]
async fn a_dev_server_that_refuses_the_host_is_explained_to_whoever_looks_at_the_page() {
    for (answer, status, words, line) in [
        (
            &include_bytes!("host_refused/vite.http")[..],
            403,
            "To allow this host, add &quot;foo.test&quot; to `server.allowedHosts` in vite.config.js.",
            "<code>server: { allowedHosts: [&#x27;foo.test&#x27;] },</code> to vite.config.js",
        ),
        (
            include_bytes!("host_refused/angular.http"),
            403,
            "Blocked request. This host (&quot;foo.test&quot;) is not allowed.",
            "<code>&quot;allowedHosts&quot;: [&quot;foo.test&quot;]</code> to the",
        ),
        (
            include_bytes!("host_refused/webpack.http"),
            403,
            "Invalid Host header",
            "<code>devServer: { allowedHosts: [&#x27;foo.test&#x27;] },</code> to webpack.config.js",
        ),
        (
            include_bytes!("host_refused/django.http"),
            400,
            "Invalid HTTP_HOST header: &#x27;foo.test&#x27;. You may need to add &#x27;foo.test&#x27; to \
             ALLOWED_HOSTS.",
            "<code>ALLOWED_HOSTS = [&#x27;foo.test&#x27;, &#x27;.localhost&#x27;, &#x27;127.0.0.1&#x27;, \
             &#x27;[::1]&#x27;]</code> in settings.py",
        ),
        (
            include_bytes!("host_refused/rails.http"),
            403,
            "Blocked host: foo.test",
            "<code>config.hosts &lt;&lt; &quot;foo.test&quot;</code> to config&#x2f;environments&#x2f;development.rb",
        ),
    ] {
        let page = answered(NAVIGATION, answer).await;
        assert_eq!(page.error(), (status, "host-refused"), "{words}");
        assert_eq!(page.field("x-portolan-route"), Some("app"));
        let page = page.text();
        assert!(page.contains(&format!("<title>{status} host-refused: ")), "{page}");
        for told in [words, line] {
            assert!(page.contains(told), "{told} is not on the page: {page}");
        }
    }
}

#[tokio::test]
async fn whoever_does_not_look_at_pages_gets_the_bytes_of_a_refusal() {
    let answer = include_bytes!("host_refused/webpack.http");
    let curl = "GET / HTTP/1.1\r\nhost: foo.test\r\naccept: */*\r\nuser-agent: curl/8.9.1\r\n\r\n";
    let post = NAVIGATION.replace("GET /", "POST /");
    for request in [FETCH, curl, &post] {
        let response = answered(request, answer).await;
        let told = (response.status, response.cause(), response.text());
        assert_eq!(told, (403, None, "Invalid Host header".into()), "{request}");
    }
}

#[tokio::test]
async fn a_page_that_is_no_refusal_goes_out_as_it_came() {
    let long = "<p>no entry</p>".repeat(10_000);
    for body in ["", "<h1>Forbidden</h1>", &long] {
        let chunked = format!("{:x}\r\n{body}\r\n0\r\n\r\n", body.len());
        let chunked = if body.is_empty() { "0\r\n\r\n".to_owned() } else { chunked };
        for (status, answer) in [
            (
                403,
                format!(
                    "HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\ncontent-length: {}\r\n\r\n{body}",
                    body.len()
                ),
            ),
            (400, format!("HTTP/1.1 400 Bad Request\r\ntransfer-encoding: chunked\r\n\r\n{chunked}")),
            (403, format!("HTTP/1.1 403 Forbidden\r\ncontent-type: text/html\r\n\r\n{body}")),
        ] {
            let response = answered(NAVIGATION, &answer).await;
            assert_eq!((response.status, response.cause()), (status, None), "{answer:.80}");
            assert!(response.text() == body, "{answer:.80}");
        }
    }
}

#[tokio::test]
async fn a_page_in_another_form_than_text_is_not_looked_at() {
    let body = "Invalid Host header";
    for field in ["content-encoding: gzip", "content-type: application/json"] {
        let answer = format!("HTTP/1.1 403 Forbidden\r\n{field}\r\ncontent-length: {}\r\n\r\n{body}", body.len());
        let response = answered(NAVIGATION, answer).await;
        assert_eq!((response.status, response.cause(), response.text().as_str()), (403, None, body), "{field}");
    }
}

#[tokio::test]
async fn a_page_that_takes_its_time_is_not_kept_back_for_long() {
    // Shorter than it is looked at: the answer has begun in time.
    let (mut client, program, _proxy) = as_foo("timeout = \"200ms\"").await;
    client.send(NAVIGATION).await;
    let mut connection = program.connection().await;
    connection.answers("HTTP/1.1 403 Forbidden\r\ncontent-length: 10\r\n\r\n<html").await;
    // It comes before the program has sent the rest.
    client.until("\r\n\r\n<html").await;
    connection.send("</ht>").await;
    assert_eq!(client.bytes(5).await, b"</ht>");
}

#[tokio::test]
async fn a_page_that_breaks_off_while_it_is_looked_at_never_looks_complete() {
    let (mut client, program, _proxy) = as_foo("").await;
    client.send(NAVIGATION).await;
    let mut connection = program.connection().await;
    connection.answers("HTTP/1.1 403 Forbidden\r\ncontent-length: 10\r\n\r\n<html").await;
    connection.shut().await;
    let (bytes, end) = client.rest().await;
    let text = latin1(&bytes);
    assert!(text.starts_with("HTTP/1.1 403 Forbidden\r\n"), "{text}");
    assert!(end == End::Reset || text.ends_with("<html"), "{text}");
}

#[tokio::test]
async fn both_connections_go_on_behind_a_page_that_was_looked_at() {
    let (mut client, program, _proxy) = as_foo("").await;
    client.send(NAVIGATION).await;
    let mut connection = program.connection().await;
    // In pieces, with an interim answer in front.
    connection.answers("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 403 Forbidden\r\ncontent-len").await;
    client.until("link: </a>\r\n\r\n").await;
    for piece in ["gth: 4\r\n", "\r\nn", "o", "p", "e"] {
        connection.send(piece).await;
    }
    assert_eq!(client.response().await.text(), "nope");
    client.send(NAVIGATION).await;
    connection.answers(include_bytes!("host_refused/webpack.http")).await;
    assert_eq!(client.response().await.error(), (403, "host-refused"));
    client.send(NAVIGATION).await;
    let mut connection = program.connection().await;
    connection.answers("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn what_next_refuses_to_a_foreign_page_goes_out_as_it_came() {
    // From Next.js 16: its own scripts are refused as an answer, its socket as a bare word.
    let script =
        FETCH.replace("GET / ", "GET /_next/static/x.js ").replace("\r\n\r\n", "\r\norigin: http://foo.test\r\n\r\n");
    let refusal = "HTTP/1.1 403 Forbidden\r\ntransfer-encoding: chunked\r\n\r\nc\r\nUnauthorized\r\n0\r\n\r\n";
    let response = answered(&script, refusal).await;
    assert_eq!((response.status, response.cause(), response.text().as_str()), (403, None, "Unauthorized"));

    let (response, problem) = problem_of(b"Unauthorized").await;
    assert_eq!(response.error(), (502, "bad-upstream-reply"));
    assert_tells(&problem, "add the host of the page to `allowedDevOrigins` in next.config.js");
}
