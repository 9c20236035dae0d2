//! What a table says, seen from outside: changes on the way, answers of our own, several targets, reloads.

use std::{fs, path::Path};

use tokio::net::UnixListener;

use crate::harness::{
    End, Framing, GET, OK, Origin, Program, Proxy, Request, Response, Wire, get, origin, post, program, proxy, request,
    through, within,
};

/// What the program gets for `request` by a route for `/api` with these keys.
async fn forwarded(keys: &str, raw: &str) -> (Request, Response, Proxy) {
    let program = program();
    let proxy = proxy(&format!("[routes.api]\npath = \"/api\"\nto = {}\n{keys}", program.port()));
    let mut client = proxy.connect().await;
    client.send(raw).await;
    let mut connection = program.connection().await;
    let request =
        connection.answers("HTTP/1.1 200 OK\r\nx-one: 1\r\nx-two: 2\r\nx-one: 3\r\ncontent-length: 2\r\n\r\nok").await;
    (request, client.response().await, proxy)
}

/// The target that the program sees.
async fn target(keys: &str, target: &str) -> String {
    let (request, _, _) = forwarded(keys, &get(target, &[])).await;
    request.line().split(' ').nth(1).unwrap().to_owned()
}

fn write(folder: &Path, name: &str, text: &str) {
    fs::write(folder.join(name), text).unwrap();
}

#[tokio::test]
async fn each_request_reaches_the_program_of_its_route() {
    let (web, api, docs) = (
        origin().route("/", "web").run().await,
        origin().route("/", "api").run().await,
        origin().route("/", "docs").run().await,
    );
    let proxy = proxy(&format!(
        "[routes]\nweb = {{ path = \"/\", to = {} }}\napi = {{ path = \"/api\", to = {} }}\ndocs = {}",
        web.port(),
        api.port(),
        docs.port()
    ));
    let mut client = proxy.connect().await;
    for (host, path, answer) in [
        ("localhost", "/", "web"),
        ("localhost", "/api", "api"),
        ("127.0.0.1:1", "/api/users", "api"),
        ("localhost", "/apis", "web"),
        ("[::1]", "/API", "web"),
        ("docs.localhost", "/api", "docs"),
        ("DOCS.localhost.:62893", "/", "docs"),
    ] {
        let response = client.ask(format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n")).await;
        assert_eq!(response.text(), answer, "{host}{path}");
    }
}

#[tokio::test]
async fn strip_prefix_takes_the_matched_path_off_and_nothing_else() {
    assert_eq!(target("strip_prefix = true", "/api/users?a=/api/b").await, "/users?a=/api/b");
    assert_eq!(target("strip_prefix = true", "/api").await, "/");
    assert_eq!(target("strip_prefix = true", "/api/").await, "/");
    assert_eq!(target("strip_prefix = true", "/api?x").await, "/?x");
    assert_eq!(target("strip_prefix = true", "/api//a%2Fb").await, "//a%2Fb");
}

#[tokio::test]
async fn rewrite_changes_the_prefix_or_the_whole_path_and_keeps_the_query() {
    assert_eq!(target("rewrite = { prefix = \"/v2\" }", "/api/users?a=b").await, "/v2/users?a=b");
    assert_eq!(target("rewrite = { prefix = \"/v2/\" }", "/api").await, "/v2/");
    assert_eq!(target("rewrite = { path = \"/one\" }", "/api/users?a=b").await, "/one?a=b");
}

#[tokio::test]
async fn s30_rewrite_changes_the_host_and_x_forwarded_host_still_tells_the_clients() {
    let (request, _, proxy) = forwarded("rewrite = { host = \"api.example.test\" }", &get("/api", &[])).await;
    let added = proxy.added("localhost");
    assert_eq!(request.head.text, format!("GET /api HTTP/1.1\r\nhost: api.example.test\r\n{added}\r\n"));
}

#[tokio::test]
async fn fields_of_a_request_are_removed_then_set_then_added() {
    let keys = "request_headers = { remove = [\"x-gone\"], set = { x-set = \"new\", x-fresh = \"1\" }, add = { x-many = [\"3\", \"4\"] } }";
    let fields = ["x-gone: 1", "x-set: old", "x-many: 1", "x-set: old too", "x-many: 2", "X-Gone: 2", "x-last: 1"];
    let (request, _, _) = forwarded(keys, &get("/api", &fields)).await;
    assert_eq!(request.all("x-gone"), [""; 0]);
    assert_eq!((request.field("x-set"), request.field("x-fresh")), (Some("new"), Some("1")));
    assert_eq!(request.all("x-many"), ["1", "2", "3", "4"]);
    assert_eq!(request.field("x-last"), Some("1"));
}

#[tokio::test]
async fn fields_of_a_response_are_removed_then_set_then_added() {
    let keys = "response_headers = { remove = [\"x-one\"], set = { x-two = \"new\" }, add = { x-three = \"3\" } }";
    let (_, response, _) = forwarded(keys, &get("/api", &[])).await;
    assert_eq!(response.without_date(), "HTTP/1.1 200 OK\r\nx-two: new\r\ncontent-length: 2\r\nx-three: 3\r\n\r\n");
}

#[tokio::test]
async fn fields_are_edited_on_answers_of_our_own_too() {
    let proxy =
        proxy("[routes]\nme = { path = \"/\", respond = \"me\", response_headers = { set = { x-mock = \"1\" } } }");
    assert_eq!(proxy.ask(GET).await.field("x-mock"), Some("1"));
}

#[tokio::test]
async fn a_redirect_names_the_place_and_the_connection_goes_on() {
    let proxy = proxy(
        "[routes]\nshort = { path_exact = \"/old\", redirect = \"/new\" }\n\
         long = { path = \"/docs\", redirect = { to = \"https://docs.example.test/\", status = 308 } }",
    );
    let mut client = proxy.connect().await;
    let short = client.ask(get("/old?a=b", &[])).await;
    assert_eq!((short.status, short.field("location")), (302, Some("/new")));
    let long = client.ask(get("/docs/a", &[])).await;
    assert_eq!((long.status, long.field("location")), (308, Some("https://docs.example.test/")));
    assert_eq!(client.ask(get("/older", &[])).await.error(), (404, "no-route"));
}

#[tokio::test]
async fn a_mock_answers_with_text_json_or_a_file() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "me.html", "<p>Ada</p>");
    let proxy = proxy(&format!(
        "[routes]\ntext = {{ path = \"/text\", respond = \"hello\" }}\n\
         json = {{ path = \"/json\", respond = {{ status = 201, headers = {{ x-mock = \"1\" }}, json = {{ name = \"Ada\", tags = [1] }} }} }}\n\
         file = {{ path = \"/file\", respond = {{ file = {:?} }} }}\n\
         gone = {{ path = \"/gone\", respond = {{ status = 204 }} }}",
        folder.path().join("me.html")
    ));
    let mut client = proxy.connect().await;
    let text = client.ask(get("/text", &[])).await;
    assert_eq!((text.status, text.text().as_str()), (200, "hello"));
    assert_eq!(text.field("content-type"), Some("text/plain; charset=utf-8"));
    let json = client.ask(post("/json", "ignored")).await;
    assert_eq!((json.status, json.text().as_str()), (201, r#"{"name":"Ada","tags":[1]}"#));
    assert_eq!((json.field("content-type"), json.field("x-mock")), (Some("application/json"), Some("1")));
    let mut client = proxy.connect().await;
    let file = client.ask(get("/file", &[])).await;
    assert_eq!((file.text().as_str(), file.field("content-type")), ("<p>Ada</p>", Some("text/html; charset=utf-8")));
    let gone = client.ask(get("/gone", &[])).await;
    assert_eq!((gone.status, gone.framing), (204, Framing::None));
    client.send(request("HEAD", "/text", &[])).await;
    let head = client.response_to_head().await;
    assert_eq!((head.status, head.field("content-length")), (200, Some("5")));
    // The file is read anew for each answer, and its loss is told.
    write(folder.path(), "me.html", "changed");
    assert_eq!(client.ask(get("/file", &[])).await.text(), "changed");
    drop(folder);
    assert_eq!(client.ask(get("/file", &[])).await.error(), (500, "internal"));
}

#[tokio::test]
async fn files_are_served_whole_in_part_and_not_again() {
    let folder = tempfile::tempdir().unwrap();
    write(folder.path(), "index.html", "the page");
    write(folder.path(), "a.txt", "0123456789");
    let proxy =
        proxy(&format!("[routes]\nsite = {{ path = \"/\", files = {:?}, fallback = \"index.html\" }}", folder.path()));
    let mut client = proxy.connect().await;

    let whole = client.ask(get("/a.txt", &[])).await;
    assert_eq!((whole.status, whole.text().as_str()), (200, "0123456789"));
    let validator = whole.field("etag").expect("a validator").to_owned();
    let part = client.ask(get("/a.txt", &["range: bytes=2-4"])).await;
    assert_eq!((part.status, part.text().as_str()), (206, "234"));
    assert_eq!(part.field("content-range"), Some("bytes 2-4/10"));
    assert_eq!(client.ask(get("/a.txt", &["range: bytes=99-"])).await.status, 416);
    let known = client.ask(get("/a.txt", &[&format!("if-none-match: {validator}")])).await;
    assert_eq!((known.status, known.framing), (304, Framing::None));
    client.send(request("HEAD", "/a.txt", &[])).await;
    assert_eq!(client.response_to_head().await.field("content-length"), Some("10"));

    assert_eq!(client.ask(get("/", &[])).await.text(), "the page");
    let fallback = client.ask(get("/some/view", &["accept: text/html"])).await;
    assert_eq!((fallback.status, fallback.text().as_str()), (200, "the page"));
    let program = client.ask(get("/some.json", &["accept: application/json"])).await;
    assert_eq!(program.error(), (404, "no-file"));
    assert_eq!(client.ask(request("DELETE", "/a.txt", &[])).await.error(), (405, "method-refused"));
}

#[tokio::test]
async fn t18_no_path_leads_out_of_the_folder() {
    let around = tempfile::tempdir().unwrap();
    let folder = around.path().join("dist");
    fs::create_dir(&folder).unwrap();
    write(around.path(), "secret.txt", "the secret");
    write(&folder, "a.txt", "public");
    std::os::unix::fs::symlink(around.path().join("secret.txt"), folder.join("link.txt")).unwrap();
    let proxy = proxy(&format!("[routes]\nsite = {{ path = \"/\", files = {folder:?} }}"));
    let mut client = proxy.connect().await;
    for path in [
        "/../secret.txt",
        "/%2e%2e/secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/a/../../secret.txt",
        "/..;/secret.txt",
        "/.%2e/secret.txt",
        "//../secret.txt",
        "/..\\secret.txt",
        "/..%5csecret.txt",
        "/%252e%252e/secret.txt",
        "/link.txt",
        "/%c0%ae%c0%ae/secret.txt",
        "/a.txt%00",
        "/a.txt/../../secret.txt",
        "//etc/passwd",
        "/%2fetc/passwd",
    ] {
        let response = client.ask(get(path, &[])).await;
        assert!(matches!(response.status, 400 | 403 | 404), "{path}: {}", response.status);
        assert!(!response.text().contains("the secret"), "{path}");
    }
    assert_eq!(client.ask(get("/a.txt", &[])).await.text(), "public");
}

const PREFLIGHT: [&str; 3] = [
    "origin: http://app.localhost:5173",
    "access-control-request-method: PUT",
    "access-control-request-headers: x-token, content-type",
];

#[tokio::test]
async fn a_preflight_of_a_local_page_is_answered_without_the_program() {
    let (mut client, program, _proxy) = through("cors = true").await;
    let response = client.ask(request("OPTIONS", "/", &PREFLIGHT)).await;
    assert_eq!(response.status, 204);
    assert_eq!(response.field("access-control-allow-origin"), Some("http://app.localhost:5173"));
    assert_eq!(response.field("access-control-allow-methods"), Some("PUT"));
    assert_eq!(response.field("access-control-allow-headers"), Some("x-token, content-type"));
    assert!(response.field("vary").is_some_and(|vary| vary.contains("origin")));
    program.is_left_alone();
}

#[tokio::test]
async fn a_script_may_read_the_answer_if_its_page_is_local_and_a_foreign_one_may_not() {
    let answer = "HTTP/1.1 200 OK\r\naccess-control-allow-origin: *\r\nvary: accept\r\ncontent-length: 2\r\n\r\nok";
    for (page, allowed) in [
        ("http://localhost:5173", Some("http://localhost:5173")),
        ("http://evil.test", None),
        ("http://localhost.evil.test", None),
        ("null", None),
    ] {
        let (mut client, program, _proxy) = through("cors = true").await;
        client.send(get("/", &[&format!("origin: {page}")])).await;
        let mut connection = program.connection().await;
        assert_eq!(connection.request().await.field("origin"), Some(page));
        connection.send(answer).await;
        let response = client.response().await;
        assert_eq!(response.field("access-control-allow-origin"), allowed, "{page}");
        assert_eq!(response.all("vary"), ["accept", "origin"], "{page}");
    }
}

#[tokio::test]
async fn t9_without_cors_nothing_is_said_of_it_even_in_errors() {
    let (mut client, program, _proxy) = through("").await;
    drop(program);
    let error = client.ask(get("/", &["origin: http://app.localhost"])).await;
    assert_eq!(error.error(), (502, "connect-refused"));
    assert!(!error.head.text.contains("access-control"));
}

#[tokio::test]
async fn connections_that_fail_are_tried_at_another_target() {
    let well = origin().route("/", "well").run().await;
    let gone = program();
    let table = format!("[routes]\napp = {{ path = \"/\", to = [{}, {}] }}", gone.port(), well.port());
    drop(gone);
    let proxy = proxy(&table);
    let mut client = proxy.connect().await;
    for _ in 0..6 {
        assert_eq!(client.ask(post("/", "a body")).await.text(), "well");
    }
    assert_eq!(well.requests().len(), 6);
}

/// Two origins that answer with their place.
async fn two() -> [Origin; 2] {
    [origin().route("/", "0").run().await, origin().route("/", "1").run().await]
}

async fn asked(proxy: &Proxy, times: usize) -> String {
    let mut client = proxy.connect().await;
    let mut answers = String::new();
    for _ in 0..times {
        answers.push_str(&client.ask(GET).await.text());
    }
    answers
}

#[tokio::test]
async fn targets_take_turns_by_their_weight() {
    let [first, second] = two().await;
    let (first, second) = (first.port(), second.port());
    let equal = proxy(&format!("[routes]\napp = {{ path = \"/\", to = [{first}, {second}] }}"));
    assert_eq!(asked(&equal, 6).await, "010101");
    let table =
        format!("[routes.app]\npath = \"/\"\nto = [{{ to = {first}, weight = 3 }}, {{ to = {second}, weight = 1 }}]");
    let answers = asked(&proxy(&table), 40).await;
    assert_eq!((answers.matches('0').count(), answers.matches('1').count()), (30, 10));
    let none = format!("[routes.app]\npath = \"/\"\nto = [{{ to = {first}, weight = 0 }}, {second}]");
    assert_eq!(asked(&proxy(&none), 4).await, "1111");
}

#[tokio::test]
async fn by_lot_every_target_gets_some() {
    let [first, second] = two().await;
    let table =
        format!("[routes]\napp = {{ path = \"/\", balance = \"random\", to = [{}, {}] }}", first.port(), second.port());
    // That one of two gets none of a hundred has the odds of 1 to 2^99.
    let answers = asked(&proxy(&table), 100).await;
    assert!(answers.contains('0') && answers.contains('1'), "{answers}");
}

#[tokio::test]
async fn with_least_requests_a_busy_target_is_spared() {
    let (busy, idle) = (program(), origin().route("/", "idle").run().await);
    let proxy = proxy(&format!(
        "[routes]\napp = {{ path = \"/\", balance = \"least_requests\", to = [{}, {}] }}",
        busy.port(),
        idle.port()
    ));
    // The first one goes to the first of equals and stays there.
    let mut waiting = proxy.connect().await;
    waiting.send(GET).await;
    let mut connection = busy.connection().await;
    connection.request().await;
    assert_eq!(asked(&proxy, 8).await, "idle".repeat(8));
    busy.is_left_alone();
    connection.send(OK).await;
    assert_eq!(waiting.response().await.text(), "ok");
}

#[tokio::test]
async fn a_health_check_takes_a_target_out_and_brings_it_back() {
    let sick = program();
    let well = origin().route("/", "well").run().await;
    let proxy = proxy(&format!(
        "[routes.app]\npath = \"/\"\nto = [{}, {}]\nhealth = {{ path = \"/healthz\", interval = \"20ms\", timeout = \"5s\" }}",
        sick.port(),
        well.port()
    ));
    let mut client = proxy.connect().await;
    // The check says ill twice; the third question proves that the second answer was heard.
    for _ in 0..2 {
        check(&sick, "503 Ill").await;
    }
    let mut third = sick.connection().await;
    assert_eq!(third.request().await.line(), "GET /healthz HTTP/1.1");
    for _ in 0..4 {
        assert_eq!(client.ask(GET).await.text(), "well");
    }
    third.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
    // The next question proves that this answer was heard, too: it takes its turn again.
    let mut fourth = sick.connection().await;
    fourth.request().await;
    let mut other = proxy.connect().await;
    let asked = async {
        loop {
            other.send(GET).await;
            if other.response().await.text() == "sick" {
                return;
            }
        }
    };
    let answers = async {
        let mut connection = sick.connection().await;
        assert_eq!(connection.request().await.line(), "GET / HTTP/1.1");
        connection.send("HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nsick").await;
    };
    within("a turn of the target that is well again", async { tokio::join!(asked, answers) }).await;
}

/// Answers one question about the health.
async fn check(program: &Program, status: &str) {
    let mut connection = program.connection().await;
    let asked = connection.request().await;
    assert_eq!((asked.line(), asked.field("host")), ("GET /healthz HTTP/1.1", Some("localhost")));
    connection.send(format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).await;
}

#[tokio::test]
async fn where_no_target_is_well_the_answer_says_so() {
    let sick = program();
    let keys = "health = { path = \"/healthz\", interval = \"20ms\", timeout = \"5s\" }";
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = {}\n{keys}", sick.port()));
    for _ in 0..2 {
        check(&sick, "500 Ill").await;
    }
    let mut third = sick.connection().await;
    third.request().await;
    let response = proxy.ask(GET).await;
    assert_eq!(response.error(), (503, "unhealthy"));
    assert!(response.field("retry-after").is_some());
}

#[tokio::test]
async fn a_program_behind_a_unix_socket_is_asked_like_any_other() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("app.sock");
    let listener = UnixListener::bind(&path).unwrap();
    let proxy = proxy(&format!("[routes]\napp = {{ path = \"/\", to = \"unix:{}\" }}", path.display()));
    let mut client = proxy.connect().await;
    client.send(GET).await;
    let (stream, _) = within("a connection", listener.accept()).await.unwrap();
    let mut connection = Wire::new(stream);
    for _ in 0..2 {
        let request = connection.request().await;
        assert_eq!(request.head.text, format!("GET / HTTP/1.1\r\nhost: localhost\r\n{}\r\n", proxy.added("localhost")));
        connection.send(OK).await;
        assert_eq!(client.response().await.text(), "ok");
        client.send(GET).await;
    }
    drop((connection, listener));
    fs::remove_file(path).unwrap();
    assert_eq!(client.response().await.status, 502);
    assert_eq!(client.ask(GET).await.error(), (502, "connect-refused"));
}

#[tokio::test]
async fn t1_a_host_that_is_neither_local_nor_named_learns_nothing() {
    let program = program();
    let proxy = proxy(&format!(
        "[routes]\nzebra = {{ path = \"/stripes\", to = {} }}\ngiraffe = {{ host = \"app.test\", to = {} }}",
        program.port(),
        program.port()
    ));
    let mut client = proxy.connect().await;
    for host in [
        "evil.test",
        "evil.test:62893",
        "evil.test.",
        "127.0.0.1.evil.test",
        "localhost.evil.test",
        "xapp.test",
        "app.testx",
        "x.app.test",
        "notlocalhost",
        "128.0.0.1",
        "0.0.0.0",
        "[::]",
        "[::ffff:127.0.0.1]",
        "169.254.169.254",
    ] {
        for accept in ["text/html", "application/json"] {
            let raw =
                format!("GET /stripes HTTP/1.1\r\nhost: {host}\r\norigin: http://{host}\r\naccept: {accept}\r\n\r\n");
            let response = client.ask(raw).await;
            assert_eq!(response.error(), (421, "unknown-host"), "{host}");
            assert_eq!(response.field("x-portolan-route"), None);
            let told = format!("{}{}", response.head.text, response.text());
            for secret in ["zebra", "giraffe", "app.test\"", "access-control", &program.port().to_string()] {
                assert!(!told.contains(secret), "{secret} in {told}");
            }
        }
    }
    program.is_left_alone();
    // The one that is named is let in, with its own route.
    client.send("GET / HTTP/1.1\r\nhost: App.Test.:80\r\n\r\n").await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
}

#[tokio::test]
async fn a_404_lists_the_routes_in_the_tongue_of_the_asker() {
    let proxy = proxy("[routes]\ndocs = { path = \"/docs\", respond = \"docs\" }");
    let mut client = proxy.connect().await;
    for (fields, kind) in [
        (&["accept: text/html,*/*;q=0.8"][..], "text/html; charset=utf-8"),
        (&["accept: application/json"], "application/problem+json"),
        (&["accept: */*", "user-agent: curl/8.5.0"], "text/plain; charset=utf-8"),
    ] {
        let response = client.ask(get("/dogs", fields)).await;
        assert_eq!(response.error(), (404, "no-route"));
        assert_eq!(response.field("content-type"), Some(kind));
        assert!(response.text().contains("docs"), "{kind}: {}", response.text());
        for (name, value) in [("cache-control", "no-store"), ("x-content-type-options", "nosniff")] {
            assert_eq!(response.field(name), Some(value), "{kind}");
        }
    }
}

#[tokio::test]
async fn an_error_page_escapes_what_the_request_said() {
    let proxy = proxy("[routes]");
    let response = proxy.ask(get("/a\"onload='alert(1)'", &["accept: text/html"])).await;
    assert_eq!(response.error(), (404, "no-route"));
    assert!(!response.text().contains("/a\"onload='"), "{}", response.text());
    assert!(response.field("content-security-policy").is_some_and(|policy| policy.contains("default-src 'none'")));
}

#[tokio::test]
async fn a_head_of_an_error_has_no_body() {
    let proxy = proxy("[routes]");
    let mut client = proxy.connect().await;
    for _ in 0..2 {
        client.send(request("HEAD", "/", &[])).await;
        let response = client.response_to_head().await;
        assert_eq!(response.error(), (404, "no-route"));
        assert!(response.field("content-length").is_some_and(|length| length != "0"));
    }
}

#[tokio::test]
async fn f26_a_reload_changes_the_next_request_and_drops_no_connection() {
    let (mut client, first, proxy) = through("").await;
    client.send(GET).await;
    let mut under_way = first.connection().await;
    under_way.answers("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nold\r\n").await;
    client.until("3\r\nold\r\n").await;

    let second = origin().route("/", "new").run().await;
    let change = proxy.swap(&format!("[routes.app]\npath = \"/\"\nto = {}\n[routes.more]\nto = 1", second.port()));
    assert_eq!((change.changed, change.added, change.removed), (vec!["app".into()], vec!["more".into()], vec![]));

    // A new request goes the new way, the one under way ends the old way, and its connection goes on.
    assert_eq!(proxy.ask(GET).await.text(), "new");
    under_way.send("3\r\nend\r\n0\r\n\r\n").await;
    assert_eq!(client.until("0\r\n\r\n").await, "3\r\nend\r\n0\r\n\r\n");
    assert_eq!(client.ask(GET).await.text(), "new");
}

#[tokio::test]
async fn f26_connections_to_a_program_that_stays_are_kept_over_a_reload() {
    let (mut client, program, proxy) = through("").await;
    client.send(GET).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    client.response().await;
    proxy.swap(&format!("[routes.renamed]\npath = \"/\"\nto = {}", program.port()));
    client.send(GET).await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.text(), "ok");
    program.is_left_alone();
}

#[tokio::test]
async fn f26_a_hundred_reloads_under_requests_misroute_none() {
    let [first, second] = two().await;
    let tables = [&first, &second].map(|origin| format!("[routes]\napp = {{ path = \"/\", to = {} }}", origin.port()));
    let proxy = proxy(&tables[0]);
    let mut client = proxy.connect().await;
    let mut event_stream = proxy.connect().await;
    for round in 0..100 {
        proxy.swap(&tables[round % 2]);
        assert_eq!(client.ask(GET).await.text(), (round % 2).to_string());
        assert_eq!(event_stream.ask(GET).await.text(), (round % 2).to_string());
    }
    assert_eq!((first.requests().len(), second.requests().len()), (100, 100));
}

#[tokio::test]
async fn a_client_may_close_at_any_time_between_requests() {
    let (mut client, program, _proxy) = through("").await;
    client.send(get("/", &["connection: close"])).await;
    let mut connection = program.connection().await;
    connection.answers(OK).await;
    assert_eq!(client.response().await.field("connection"), Some("close"));
    assert_eq!(client.end().await, End::Closed);
}

#[tokio::test]
async fn a_route_that_leaves_the_table_takes_its_health_check_along() {
    let asked = program();
    let keys = "health = { path = \"/healthz\", interval = \"20ms\", timeout = \"5s\" }";
    let proxy = proxy(&format!("[routes.app]\npath = \"/\"\nto = {}\n{keys}", asked.port()));
    check(&asked, "200 Well").await;
    proxy.swap("[routes]\napp = { path = \"/\", respond = { status = 204 } }");
    // Fifty times its interval without a question: nobody asks any more.
    let silence = std::time::Duration::from_secs(1);
    let checks_end = async {
        while let Ok(mut connection) = tokio::time::timeout(silence, asked.connection()).await {
            // The last one may be under way, and its asker gone.
            let _ = connection.try_send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        }
    };
    within("the end of the health check", checks_end).await;
}

#[tokio::test]
async fn s36_a_file_that_shrinks_while_it_is_sent_never_looks_whole() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    fs::write(&path, vec![b'x'; 50_000_000]).unwrap();
    let proxy = proxy(&format!("[routes]\nsite = {{ path = \"/\", files = {:?} }}", folder.path()));
    let mut client = proxy.connect().await;
    client.send(get("/large", &[]) + &get("/large", &[])).await;
    assert_eq!(client.head().await.field("content-length"), Some("50000000"));
    fs::OpenOptions::new().write(true).open(&path).unwrap().set_len(1_000_000).unwrap();
    let (seen, end) = client.rest().await;
    assert!(seen.len() < 50_000_000 && seen.iter().all(|byte| *byte == b'x'), "{} bytes", seen.len());
    assert_eq!(end, End::Closed);
}
