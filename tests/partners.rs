//! The promises that matter, kept with programs that are not ours: Flask, Django, uvicorn, Vite, Next, webpack, Angular,
//! Express, WebSocket libraries of two languages, databases, debuggers, gRPC, curl and Chromium, with the real `portolan`
//! between them.
//!
//! `tests/partners/setup` installs them; [`installed`] tells what happens without.
#![cfg(target_os = "linux")]
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stderr,
    reason = "a test fails loudly"
)]

#[path = "partners/alone.rs"]
mod alone;
#[path = "partners/certificate.rs"]
mod certificate;
#[path = "partners/client.rs"]
mod client;
#[path = "partners/conformance.rs"]
mod conformance;
#[path = "partners/databases.rs"]
mod databases;
#[path = "partners/debuggers.rs"]
mod debuggers;
#[path = "partners/dev_servers.rs"]
mod dev_servers;
#[path = "partners/docker.rs"]
mod docker;
#[path = "partners/grpc.rs"]
mod grpc;
#[path = "partners/grpc_web.rs"]
mod grpc_web;
#[path = "partners/https.rs"]
mod https;
#[path = "partners/installed.rs"]
mod installed;
#[path = "partners/load.rs"]
mod load;
#[path = "partners/moving.rs"]
mod moving;
#[path = "partners/program.rs"]
mod program;
#[path = "partners/proxy.rs"]
mod proxy;
#[path = "partners/running.rs"]
mod running;

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
};

use client::{Answer, ask, curl, run};
use installed::Tool::{Chromium, Curl, Node, Python};
use program::Program;
use proxy::Portolan;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

#[test]
fn a_vite_page_and_its_flask_api_share_one_address_and_an_edit_arrives_without_a_reload() {
    installed::with(&[Python, Node, Chromium], || {
        let page = tempfile::tempdir().unwrap();
        for file in ["index.html", "main.js", "chart.js"] {
            fs::copy(installed::source("apps/vite").join(file), page.path().join(file)).unwrap();
        }
        let (vite, flask) = (program::vite(page.path()), program::flask());
        let portolan = Portolan::serving(&format!(
            "[routes]\nweb = {{ path = '/', to = {} }}\napi = {{ path = '/api', to = {} }}\n",
            vite.port(),
            flask.port(),
        ));

        let mut browser = Command::new("node");
        browser.arg(installed::source("browser.mjs")).arg(portolan.url("/")).arg(page.path().join("chart.js"));
        // For whoever wants to see it.
        browser.arg(installed::folder().join("browser-story.png"));
        run(&mut browser);
    });
}

#[test]
fn a_django_form_passes_the_csrf_guard_by_path_and_by_host() {
    installed::with(&[Python, Curl], || {
        let django = program::django();
        let portolan = Portolan::serving(&format!(
            "[routes]\nharbour = {{ path = '/harbour', to = {port} }}\napp = {port}\n",
            port = django.port(),
        ));

        for origin in [portolan.url(""), portolan.url_of_host("app.localhost", "")] {
            let answer = sign_in(&format!("{origin}/harbour"), &origin);
            assert_eq!((answer.status, answer.body.as_str()), (200, "moored: Ada Lovelace"), "at {origin}");
        }
        // The guard really guards: the same form, sent from a page of another origin.
        let foreign = format!("http://{}", django.address());
        assert_eq!(sign_in(&portolan.url("/harbour"), &foreign).status, 403);
    });
}

#[test]
fn a_host_that_vite_or_django_refuses_is_explained_to_a_browser_and_refused_in_their_words_to_others() {
    installed::with(&[Python, Node, Curl], || {
        let page = tempfile::tempdir().unwrap();
        fs::copy(installed::source("apps/vite/index.html"), page.path().join("index.html")).unwrap();
        let (vite, django) = (program::vite(page.path()), program::django());
        let portolan = Portolan::serving(&format!(
            "[routes]\nvite = {{ host = 'vite.test', to = {} }}\ndjango = {{ host = 'django.test', to = {} }}\n",
            vite.port(),
            django.port(),
        ));

        for (host, status, words, line) in [
            (
                "vite.test",
                403,
                "Blocked request. This host",
                "<code>server: { allowedHosts: [&#x27;vite.test&#x27;] },</code>",
            ),
            ("django.test", 400, "DisallowedHost", "<code>ALLOWED_HOSTS = [&#x27;django.test&#x27;, "),
        ] {
            let host = format!("Host: {host}");
            let page = ask(&portolan.url("/"), &["-H", &host, "-H", "Accept: text/html"]);
            assert_eq!((page.status, page.body.contains(line)), (status, true), "{page:?}");
            let other =
                ask(&portolan.url("/"), &["-H", &host, "-H", "Accept: text/html", "-H", "Sec-Fetch-Mode: cors"]);
            assert_eq!((other.status, other.body.contains(words)), (status, true), "{other:?}");
            assert!(!other.body.contains(line), "{other:?}");
        }
    });
}

#[test]
fn a_form_post_reaches_flask() {
    installed::with(&[Python, Curl], || {
        let flask = program::flask();
        let portolan = in_front_of_api(&flask);

        let answer = ask(&portolan.url("/api/form"), &["--data-urlencode", "name=Ada & Grace"]);

        assert_eq!((answer.status, answer.json()), (200, json!({ "name": "Ada & Grace" })));
    });
}

#[test]
fn express_gets_json_without_the_prefix_of_its_route() {
    installed::with(&[Node, Curl], || {
        let express = program::node("express.cjs", &[]);
        let portolan = Portolan::serving(&format!(
            "[routes]\nshop = {{ path = '/shop', to = {}, strip_prefix = true }}\n",
            express.port(),
        ));

        let order = r#"{"item":"sextant","count":2}"#;
        let answer = ask(&portolan.url("/shop/orders"), &["--json", order]);

        let expected = json!({ "order": { "item": "sextant", "count": 2 }, "id": 7 });
        assert_eq!((answer.status, answer.json()), (201, expected));
    });
}

#[test]
fn express_trusts_what_portolan_says_of_the_client_and_never_what_the_client_says() {
    installed::with(&[Node, Curl], || {
        let express = program::node("express.cjs", &[]);
        let portolan = Portolan::serving(&format!("[routes]\nshop = {}\n", express.port()));
        let url = portolan.url_of_host("shop.localhost", "/client");

        let lies =
            ["-H", "X-Forwarded-For: 9.9.9.9", "-H", "X-Forwarded-Host: evil.test", "-H", "X-Forwarded-Proto: https"];
        let answer = ask(&url, &lies);

        let host = format!("shop.localhost:{}", portolan.address().port());
        assert_eq!(answer.json(), json!({ "ip": "127.0.0.1", "host": host, "protocol": "http" }));
    });
}

#[test]
fn a_chunked_upload_of_200_mb_reaches_flask_whole_and_in_bounded_memory() {
    installed::with(&[Python, Curl], || {
        let cargo = Cargo::load();
        let flask = program::flask();
        let portolan = in_front_of_api(&flask);

        let grown = memory_growth(&portolan, || {
            let chunked = ["-X", "POST", "-H", "Transfer-Encoding: chunked", "-T", cargo.path()];
            let answer = ask(&portolan.url("/api/upload"), &chunked);
            assert_eq!(answer.json(), json!({ "sha256": cargo.sha256(), "length": Cargo::LENGTH }));
        });

        assert!(grown <= MEMORY_LIMIT, "portolan grew by {grown} bytes");
    });
}

#[test]
fn an_upload_and_a_download_of_200_mb_pass_whole_between_curl_and_node_in_bounded_memory() {
    installed::with(&[Node, Curl], || {
        let cargo = Cargo::load();
        let node = program::node("bodies.cjs", &[cargo.path()]);
        let portolan = Portolan::serving(&format!("[routes]\nfiles = {{ path = '/', to = {} }}\n", node.port()));

        let grown = memory_growth(&portolan, || {
            let answer = ask(&portolan.url("/upload"), &["-X", "POST", "-T", cargo.path()]);
            assert_eq!(answer.json(), json!({ "sha256": cargo.sha256(), "length": Cargo::LENGTH }));
            assert_eq!(sha256_of(&mut curl(&portolan.url("/download"), &["--fail"])), cargo.sha256());
        });

        assert!(grown <= MEMORY_LIMIT, "portolan grew by {grown} bytes");
    });
}

#[test]
fn a_server_sent_event_arrives_before_the_next_one_exists() {
    installed::with(&[Python, Curl], || {
        let flask = program::flask();
        let portolan = in_front_of_api(&flask);
        let mut stream = curl(&portolan.url("/api/events"), &["--no-buffer"]).stdout(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(stream.stdout.take().unwrap()).lines().map(Result::unwrap);

        // Flask makes the second event when it is told to, which happens after the first one was read here.
        assert_eq!(events.next().as_deref(), Some("data: first"));
        assert_eq!(ask(&portolan.url("/api/events/next"), &["-X", "POST"]).status, 204);

        assert_eq!(events.collect::<Vec<_>>(), ["", "data: second", ""]);
        assert!(stream.wait().unwrap().success(), "the stream ends as a whole one does");
    });
}

#[test]
fn a_websocket_of_the_node_library_ws_passes_as_it_is() {
    installed::with(&[Node, Python, Curl], || assert_websocket_passes(&program::node("echo.cjs", &[])));
}

#[test]
fn a_websocket_of_the_python_library_websockets_passes_as_it_is() {
    installed::with(&[Node, Python, Curl], || assert_websocket_passes(&program::python("echo.py")));
}

#[test]
fn an_upgrade_of_node_to_a_protocol_of_its_own_passes_in_cleartext_and_over_tls() {
    installed::with(&[Node, Curl], || {
        let server = program::node("upgrade.cjs", &[]);
        let portolan = Portolan::serving(&format!("[routes]\nshout = {{ path = '/', to = {} }}\n", server.port()));
        let authority = portolan.authority();

        let secure = portolan.secure_url_of_host("localhost", "/");
        for url in [format!("http://{}/", server.address()), portolan.url("/"), secure] {
            let mut client = Command::new("node");
            client.arg(installed::source("clients/upgrade.cjs")).arg(&url).env("NODE_EXTRA_CA_CERTS", &authority);
            let report: Value = serde_json::from_str(&run(&mut client)).unwrap();
            let expected = json!({ "protocol": "shout", "heard": ["HELLO", "WHO", "GOES", "THERE", "GOODBYE"] });
            assert_eq!(report, expected, "at {url}");
        }
    });
}

/// Flask as a person would route to it: its own paths begin with `/api`.
fn in_front_of_api(flask: &Program) -> Portolan {
    Portolan::serving(&format!("[routes]\napi = {{ path = '/api', to = {} }}\n", flask.port()))
}

/// What one peer may make portolan grow by, whatever the size of a body.
const MEMORY_LIMIT: u64 = 32 * 1024 * 1024;

fn memory_growth(portolan: &Portolan, work: impl FnOnce()) -> u64 {
    let before = portolan.peak_memory();
    work();
    portolan.peak_memory() - before
}

/// Loads the page at `url` as a browser does, fills its form in and sends it as from a page of `origin`.
fn sign_in(url: &str, origin: &str) -> Answer {
    let folder = tempfile::tempdir().unwrap();
    let jar = folder.path().join("cookies");
    let jar = jar.to_str().unwrap();
    let page = ask(url, &["--cookie-jar", jar]);
    let (_, rest) = page.body.split_once(r#"name="csrfmiddlewaretoken" value=""#).expect("the form has a token");
    let (token, _) = rest.split_once('"').unwrap();
    let (token, origin) = (format!("csrfmiddlewaretoken={token}"), format!("Origin: {origin}"));
    ask(url, &["--location", "--cookie", jar, "-H", &origin, "-d", &token, "--data-urlencode", "name=Ada Lovelace"])
}

/// Both client libraries must get through, in cleartext and under the local authority, with everything that they
/// negotiate and all that they send.
fn assert_websocket_passes(server: &Program) {
    let portolan = Portolan::serving(&format!("[routes]\nsocket = {{ path = '/', to = {} }}\n", server.port()));
    let authority = portolan.authority();
    for scheme in ["ws", "wss"] {
        let url = format!("{scheme}://localhost:{}/socket?token=a%20b", portolan.address().port());
        let (mut node, mut python) = (Command::new("node"), Command::new(installed::python()));
        node.arg(installed::source("clients/echo.cjs")).env("NODE_EXTRA_CA_CERTS", &authority);
        python.arg(installed::source("clients/echo.py")).env("SSL_CERT_FILE", &authority);

        for client in [&mut node, &mut python] {
            let report: Value = serde_json::from_str(&run(client.arg(&url))).unwrap();
            let expected = json!({
                "subprotocol": "chart",
                "extension": "permessage-deflate",
                "target": "/socket?token=a%20b",
                "textReturned": true,
                "bytesReturned": true,
                "pong": "deep six",
                "close": "4001 fair winds",
            });
            assert_eq!(report, expected, "{client:?}");
        }
    }
}

fn sha256_of(download: &mut Command) -> String {
    let mut download = download.stdout(Stdio::piped()).spawn().unwrap();
    let sum = run(Command::new("sha256sum").stdin(download.stdout.take().unwrap()));
    assert!(download.wait().unwrap().success());
    first_word(&sum)
}

fn first_word(text: &str) -> String {
    text.split_whitespace().next().unwrap().to_owned()
}

/// A file of which no two kilobytes are alike: what is lost, doubled or moved changes the sum.
struct Cargo {
    file: NamedTempFile,
}

impl Cargo {
    const LENGTH: usize = 200_000_000;

    fn load() -> Self {
        let mut file = NamedTempFile::new().unwrap();
        let mut block = vec![b'~'; 1_000_000];
        for number in 0..Self::LENGTH / block.len() {
            for (place, kilobyte) in block.chunks_exact_mut(1000).enumerate() {
                kilobyte[..8].copy_from_slice(&(number * 1000 + place).to_le_bytes());
            }
            file.write_all(&block).unwrap();
        }
        Self { file }
    }

    fn path(&self) -> &str {
        self.file.path().to_str().unwrap()
    }

    fn sha256(&self) -> String {
        first_word(&run(Command::new("sha256sum").arg(self.path())))
    }
}
