//! WebSockets by the book: the cases of the Autobahn suite judge a server the same with and without portolan, whatever
//! the way to it is.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    client::python,
    installed::{
        self,
        Tool::{Curl, Node, Python},
    },
    program,
    proxy::Portolan,
};

#[test]
fn the_autobahn_suite_judges_a_server_the_same_through_http_1_tls_and_http_2() {
    installed::with(&[Node, Python, Curl], || {
        let server = program::node("echo.cjs", &[]);
        let portolan = Portolan::serving(&format!("[routes]\nsocket = {{ path = '/', to = {} }}\n", server.port()));
        let authority = portolan.authority();
        let (clear, secure) = (format!("ws://{}/", portolan.address()), portolan.address().port());
        let secure = format!("wss://localhost:{secure}/");

        let direct = verdicts("1", &format!("ws://{}/", server.address()), &[]);
        assert!(direct.values().filter(|verdict| verdict[0] == "OK").count() > 250, "{direct:?}");
        for (version, url) in [("1", &clear), ("1", &secure), ("2", &clear), ("2", &secure)] {
            let through = verdicts(version, url, &[authority.to_str().unwrap()]);
            let others: Vec<_> = through.iter().filter(|(case, verdict)| direct.get(*case) != Some(verdict)).collect();
            assert!(others.is_empty() && through.len() == direct.len(), "HTTP/{version} at {url}: {others:?}");
        }
    });
}

/// Of each case: how the server behaved, and how it behaved when the connection ended.
fn verdicts(version: &str, url: &str, authority: &[&str]) -> BTreeMap<String, Value> {
    let [report] = &python("conformance", &[&[version, url], authority].concat())[..] else { panic!("one report") };
    serde_json::from_value(report.clone()).unwrap()
}
