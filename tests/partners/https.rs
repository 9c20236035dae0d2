//! The same address in https and HTTP/2: with curl, Chromium and openssl before portolan, hypercorn and Node behind it.

use std::{
    fs,
    io::{BufRead as _, BufReader, Write as _},
    path::Path,
    process::{Command, Stdio},
};

use serde_json::{Value, json};
use tempfile::{NamedTempFile, TempDir};

use crate::{
    Cargo, MEMORY_LIMIT,
    certificate::SelfSigned,
    client::{Answer, ask, curl, run},
    installed::{
        self,
        Tool::{Certutil, Chromium, Curl, Node, OpenSsl, Python},
    },
    memory_growth,
    program::{self, Program},
    proxy::Portolan,
    sha256_of,
};

#[test]
fn one_port_answers_http_1_http_2_and_https() {
    installed::with(&[Python, Curl], || {
        let app = program::hypercorn(None);
        let portolan = in_front_of(&format!("{}", app.port()));
        let authority = portolan.authority();
        let trusted = ["--cacert", authority.to_str().unwrap()];
        let (plain, secure) = ("/a%20b?c=d", "/a%20b?c=d");
        let plain = portolan.url_of_host("app.localhost", plain);
        let secure = portolan.secure_url_of_host("app.localhost", secure);

        for (url, arguments, version, proto) in [
            (&plain, vec!["--http1.1"], "1.1", "http"),
            (&plain, vec!["--http2-prior-knowledge"], "2", "http"),
            (&secure, [&["--http1.1"], &trusted[..]].concat(), "1.1", "https"),
            (&secure, [&["--http2"], &trusted[..]].concat(), "2", "https"),
        ] {
            let (answer, spoken) = ask_and_tell(url, &arguments);
            let seen = answer.json();
            assert_eq!((answer.status, spoken.as_str()), (200, version), "{arguments:?}");
            assert_eq!(seen["target"], "/a%20b", "{arguments:?}");
            assert_eq!(seen["host"], format!("app.localhost:{}", portolan.address().port()), "{arguments:?}");
            assert_eq!(seen["proto"], proto, "{arguments:?}");
        }
        // Whoever only offers HTTP/2 in HTTP/1 words gets an answer too.
        assert_eq!(ask(&plain, &["--http2"]).status, 200);
    });
}

#[test]
fn a_post_of_10_mb_passes_whole_in_http_2_whatever_is_spoken_behind() {
    installed::with(&[Python, Curl, OpenSsl], || {
        let certificate = SelfSigned::of("IP:127.0.0.1");
        let (clear, secret) = (program::hypercorn(None), program::hypercorn(Some(&certificate)));
        let portolan = Portolan::serving(&format!(
            "[routes]\n\
             one = {{ path = '/one', to = {port} }}\n\
             two = {{ path = '/two', to = 'h2c://127.0.0.1:{port}' }}\n\
             tls = {{ path = '/tls', to = 'https://{secure}', insecure = true }}\n",
            port = clear.port(),
            secure = secret.address(),
        ));
        let authority = portolan.authority();
        let mut cargo = NamedTempFile::new().unwrap();
        for number in 0..1_250_000_u64 {
            cargo.write_all(&number.to_le_bytes()).unwrap();
        }
        let cargo = cargo.path().to_str().unwrap();
        let sum = run(Command::new("sha256sum").arg(cargo));
        let sum = sum.split_whitespace().next().unwrap();

        for (path, version) in [("/one", "1.1"), ("/two", "2"), ("/tls", "2")] {
            let body = format!("@{cargo}");
            let post = ["--data-binary", &body];
            for answer in [
                ask(&portolan.url(path), &[&["--http2-prior-knowledge"], &post[..]].concat()),
                ask(
                    &portolan.secure_url_of_host("localhost", path),
                    &[&["--http2", "--cacert", authority.to_str().unwrap()], &post[..]].concat(),
                ),
            ] {
                let seen = answer.json();
                assert_eq!((&seen["version"], &seen["length"]), (&json!(version), &json!(10_000_000)), "at {path}");
                assert_eq!(seen["sha256"], sum, "at {path}");
            }
        }
    });
}

#[test]
fn a_download_of_200_mb_passes_in_http_2_in_bounded_memory() {
    installed::with(&[Node, Curl], || {
        let cargo = Cargo::load();
        let node = program::node("bodies.cjs", &[cargo.path()]);
        let portolan = in_front_of(&node.port().to_string());
        let authority = portolan.authority();
        let url = portolan.secure_url_of_host("localhost", "/download");

        let grown = memory_growth(&portolan, || {
            let mut download = curl(&url, &["--fail", "--http2", "--cacert", authority.to_str().unwrap()]);
            assert_eq!(sha256_of(&mut download), cargo.sha256());
        });

        assert!(grown <= MEMORY_LIMIT, "portolan grew by {grown} bytes");
    });
}

#[test]
fn an_event_arrives_in_http_2_before_the_next_one_exists() {
    installed::with(&[Python, Curl], || {
        let flask = program::flask();
        let portolan = in_front_of(&flask.port().to_string());
        let authority = portolan.authority();
        let arguments = ["--http2", "--no-buffer", "--cacert", authority.to_str().unwrap()];
        let url = |path| portolan.secure_url_of_host("app.localhost", path);
        let mut stream = curl(&url("/api/events"), &arguments).stdout(Stdio::piped()).spawn().unwrap();
        let mut events = BufReader::new(stream.stdout.take().unwrap()).lines().map(Result::unwrap);

        // Flask makes the second event when it is told to, which happens after the first one was read here.
        assert_eq!(events.next().as_deref(), Some("data: first"));
        let next = ask(&url("/api/events/next"), &[&arguments[..], &["-X", "POST"]].concat());
        assert_eq!(next.status, 204);

        assert_eq!(events.collect::<Vec<_>>(), ["", "data: second", ""]);
        assert!(stream.wait().unwrap().success(), "the stream ends as a whole one does");
    });
}

#[test]
fn a_program_behind_tls_that_knows_no_http_2_is_spoken_to_in_http_1() {
    installed::with(&[Node, Curl, OpenSsl], || {
        let certificate = SelfSigned::of("IP:127.0.0.1");
        let node = secure_node(&certificate.certificate(), &certificate.key());
        let portolan = Portolan::serving(&format!(
            "[routes]\nblind = {{ path = '/', to = 'https://{address}', insecure = true }}\n\
             strict = {{ path = '/strict', to = 'https://{address}' }}\n",
            address = node.address()
        ));

        let host = portolan.address().to_string();
        assert_eq!(ask(&portolan.url("/"), &[]).json(), json!({ "version": "1.1", "host": host }));
        // A certificate that nobody vouches for is good enough only for a route that says so.
        assert_eq!(ask(&portolan.url("/strict"), &[]).status, 502);
    });
}

#[test]
fn chromium_shows_vite_over_https_and_an_edit_arrives_without_a_reload() {
    installed::with(&[Python, Node, Chromium, Certutil, Curl], || {
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
        let home = home_that_trusts(&portolan.authority());

        let mut browser = Command::new("node");
        browser.arg(installed::source("browser.mjs")).arg(portolan.secure_url_of_host("web.localhost", "/"));
        browser.arg(page.path().join("chart.js")).env("HOME", home.path());
        run(&mut browser);
    });
}

#[test]
fn what_the_authority_signs_for_a_name_that_is_not_local_is_refused_by_openssl_and_chromium() {
    installed::with(&[Node, Chromium, Certutil, OpenSsl, Curl], || {
        let portolan = in_front_of("9");
        let authority = portolan.authority();
        let home = home_that_trusts(&authority);
        let folder = tempfile::tempdir().unwrap();

        for (name, refused, shown) in
            [("app.localhost", false, Value::Null), ("example.com", true, json!("ERR_CERT_INVALID"))]
        {
            let (certificate, key) = (folder.path().join(name), folder.path().join(format!("{name}.key")));
            sign(name, &portolan.secret_of_authority(), &certificate, &key);
            assert_eq!(openssl_refuses(&certificate, &authority, name), refused, "{name}");
            let node = secure_node(&certificate, &key);
            let mut browser = Command::new("node");
            browser.arg(installed::source("clients/warned.mjs")).env("HOME", home.path());
            let error: Value =
                serde_json::from_str(&run(browser.arg(format!("https://{name}:{}/", node.port())))).unwrap();
            assert_eq!(error, shown, "{name}");
        }
    });
}

#[test]
fn openssl_finds_nothing_wrong_with_what_is_shown_for_a_name() {
    installed::with(&[Curl, OpenSsl], || {
        let portolan = in_front_of("9");
        let authority = portolan.authority();

        for (name, server_name, verify) in [
            ("app.localhost", vec!["-servername", "app.localhost"], "-verify_hostname"),
            ("deep.down.app.localhost", vec!["-servername", "deep.down.app.localhost"], "-verify_hostname"),
            ("localhost", vec!["-noservername"], "-verify_hostname"),
            ("127.0.0.1", vec!["-noservername"], "-verify_ip"),
        ] {
            let mut client = Command::new("openssl");
            client.args(["s_client", "-connect", &portolan.address().to_string(), "-alpn", "h2,http/1.1"]);
            client.args(server_name).args(["-verify_return_error", "-x509_strict", verify, name]);
            let said = run(client.arg("-CAfile").arg(&authority).stdin(Stdio::null()));
            for sign in ["Verify return code: 0 (ok)", "ALPN protocol: h2", "TLSv1.3"] {
                assert!(said.contains(sign), "{name}: {sign}: {said}");
            }

            let folder = tempfile::tempdir().unwrap();
            let leaf = folder.path().join("leaf.pem");
            fs::write(&leaf, first_certificate(&said)).unwrap();
            assert!(!openssl_refuses(&leaf, &authority, name), "{name}");
        }
    });
}

fn in_front_of(to: &str) -> Portolan {
    Portolan::serving(&format!("[routes]\napp = {{ path = '/', to = {to} }}\n"))
}

/// Asks with curl; also the version of HTTP in which the answer came.
fn ask_and_tell(url: &str, arguments: &[&str]) -> (Answer, String) {
    let folder = tempfile::tempdir().unwrap();
    let head = folder.path().join("head");
    let answer = ask(url, &[arguments, &["--dump-header", head.to_str().unwrap()]].concat());
    let head = fs::read_to_string(head).unwrap();
    let version = head.split_whitespace().next().unwrap().trim_start_matches("HTTP/").to_owned();
    (answer, version)
}

fn secure_node(certificate: &Path, key: &Path) -> Program {
    let mut command = program::command("node");
    command.arg(installed::source("apps/tls.cjs")).arg(certificate).arg(key);
    Program::start(command, "https://")
}

/// A home where Chromium finds the authority among those that its owner trusts.
fn home_that_trusts(authority: &Path) -> TempDir {
    let home = tempfile::tempdir().unwrap();
    let store = home.path().join(".pki/nssdb");
    fs::create_dir_all(&store).unwrap();
    let store = format!("sql:{}", store.display());
    run(Command::new("certutil").args(["-d", &store, "-N", "--empty-password"]));
    run(Command::new("certutil").args(["-d", &store, "-A", "-t", "C,,", "-n", "portolan", "-i"]).arg(authority));
    home
}

/// Signs a certificate as whoever had stolen the authority's key would.
fn sign(name: &str, secret: &Path, certificate: &Path, key: &Path) {
    let request = certificate.with_extension("request");
    let mut openssl = Command::new("openssl");
    openssl.args(["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]);
    openssl.args(["-subj", "/", "-addext", &format!("subjectAltName=critical,DNS:{name}")]);
    run(openssl.args(["-addext", "extendedKeyUsage=serverAuth"]).arg("-keyout").arg(key).arg("-out").arg(&request));
    let mut openssl = Command::new("openssl");
    openssl.args(["x509", "-req", "-days", "30", "-copy_extensions", "copy"]);
    run(openssl.arg("-in").arg(&request).arg("-CA").arg(secret).arg("-CAkey").arg(secret).arg("-out").arg(certificate));
}

fn openssl_refuses(certificate: &Path, authority: &Path, name: &str) -> bool {
    let verify = if name.parse::<std::net::IpAddr>().is_ok() { "-verify_ip" } else { "-verify_hostname" };
    let mut openssl = Command::new("openssl");
    openssl.args(["verify", "-x509_strict", "-purpose", "sslserver", verify, name, "-no-CApath", "-no-CAstore"]);
    !openssl.arg("-CAfile").arg(authority).arg(certificate).output().unwrap().status.success()
}

/// The first of the certificates that a text contains.
fn first_certificate(text: &str) -> &str {
    const END: &str = "-----END CERTIFICATE-----\n";
    let start = text.find("-----BEGIN CERTIFICATE-----").unwrap();
    &text[start..start + text[start..].find(END).unwrap() + END.len()]
}
