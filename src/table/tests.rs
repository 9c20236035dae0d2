//! The table against a naive reference: sort by rank, take the first rule whose conditions hold.

use std::sync::Arc;

use proptest::prelude::*;

use super::*;
use crate::{
    config::{Action, FieldMatch, Filters, Match, Redirect, Route, ValueMatch},
    diagnostic::{Source, Span},
    head::FieldList,
};

type Header = (String, String);

fn route(hosts: &[&str], path: PathMatch) -> Route {
    let source = Source { name: "test".into(), path: None, text: String::new() };
    let hosts = hosts.iter().map(|host| match host.strip_prefix("*.") {
        _ if *host == "*" => HostMatch::AnyLocal,
        Some(suffix) => HostMatch::Wildcard(suffix.into()),
        None => HostMatch::Exact((*host).into()),
    });
    Route {
        name: "r".into(),
        origin: Span { source: Arc::new(source), range: 0..0 },
        written: 0,
        matches: Match { hosts: hosts.collect(), path, methods: vec![], headers: vec![], query: vec![] },
        certificate: None,
        filters: Filters::default(),
        action: Action::Redirect(Redirect { to: "/".into(), status: 302 }),
    }
}

fn prefix(prefix: &str) -> PathMatch {
    PathMatch::Prefix(prefix.into())
}

fn find(routes: &[Route], host: &str, target: &str) -> Option<usize> {
    find_with(routes, "GET", host, target, &[])
}

fn find_with(routes: &[Route], method: &str, host: &str, target: &str, headers: &[Header]) -> Option<usize> {
    with_head(method, host, target, headers, |head| {
        Table::compile(routes).expect("a table").find(head).map(|hit| hit.route.0)
    })
}

fn with_head<T>(
    method: &str,
    host: &str,
    target: &str,
    headers: &[Header],
    ask: impl FnOnce(&RequestHead<'_>) -> T,
) -> T {
    let host = Host::parse(host.as_bytes()).expect("a host");
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    ask(&RequestHead { method, path, query, host: &host, fields: &FieldList(headers.to_vec()) })
}

#[test]
fn the_longest_prefix_wins_whatever_the_order() {
    let routes = [route(&["*"], prefix("/")), route(&["*"], prefix("/api")), route(&["*"], prefix("/api/v1"))];
    assert_eq!(find(&routes, "localhost", "/api/v1/users"), Some(2));
    assert_eq!(find(&routes, "localhost", "/api/v10"), Some(1));
    assert_eq!(find(&routes, "localhost", "/apis"), Some(0));
}

#[test]
fn a_prefix_takes_whole_elements_and_keeps_case() {
    let routes = [route(&["*"], prefix("/abc"))];
    for (path, found) in [
        ("/abc", true),
        ("/abc/", true),
        ("/abc/d", true),
        ("/abc//", true),
        ("/abcd", false),
        ("/ABC", false),
        ("/%61bc", false),
    ] {
        assert_eq!(find(&routes, "localhost", path).is_some(), found, "{path}");
    }
}

#[test]
fn a_wildcard_takes_one_or_more_labels_but_never_the_apex() {
    let routes = [route(&["*.mail.localhost"], prefix("/"))];
    assert_eq!(find(&routes, "a.mail.localhost", "/"), Some(0));
    assert_eq!(find(&routes, "a.b.Mail.localhost:62893", "/"), Some(0));
    assert_eq!(find(&routes, "mail.localhost", "/"), None);
    assert_eq!(find(&routes, "xmail.localhost", "/"), None);
}

#[test]
fn a_host_without_the_path_falls_through_to_the_next_less_specific_host() {
    let routes =
        [route(&["a.b.localhost"], prefix("/x")), route(&["*.b.localhost"], prefix("/y")), route(&["*"], prefix("/"))];
    assert_eq!(find(&routes, "a.b.localhost", "/x"), Some(0));
    assert_eq!(find(&routes, "a.b.localhost", "/y"), Some(1));
    assert_eq!(find(&routes, "a.b.localhost", "/z"), Some(2));
}

#[test]
fn a_path_alone_matches_local_hosts_only() {
    let routes = [route(&["*"], prefix("/")), route(&["shop.test"], prefix("/api"))];
    assert_eq!(find(&routes, "anything.localhost", "/"), Some(0));
    assert_eq!(find(&routes, "[::1]:62893", "/"), Some(0));
    assert_eq!(find(&routes, "shop.test", "/api"), Some(1));
    assert_eq!(find(&routes, "shop.test", "/"), None);
    assert_eq!(find(&routes, "evil.test", "/"), None);
    assert_eq!(find(&routes, OWN_HOST, "/"), None);
    assert_eq!(find(&[route(&["*.localhost"], prefix("/"))], OWN_HOST, "/"), None);
}

#[test]
fn only_local_and_named_hosts_are_known() {
    let table = Table::compile(&[route(&["shop.test", "*.dev.test"], prefix("/"))]).expect("a table");
    let known = |host: &str| table.knows(&Host::parse(host.as_bytes()).expect("a host"));
    for host in ["localhost", "x.localhost:1", "127.0.0.1", "shop.test", "SHOP.test.:80", "a.dev.test"] {
        assert!(known(host), "{host}");
    }
    for host in ["evil.test", "xshop.test", "shop.testx", "dev.test", "a.shop.test"] {
        assert!(!known(host), "{host}");
    }
}

#[test]
fn an_exact_path_goes_before_a_pattern_before_a_prefix() {
    let routes = [
        route(&["*"], prefix("/a/b")),
        route(&["*"], PathMatch::Regex("/a/.*".into())),
        route(&["*"], PathMatch::Exact("/a/b".into())),
    ];
    assert_eq!(find(&routes, "localhost", "/a/b"), Some(2));
    assert_eq!(find(&routes, "localhost", "/a/b/c"), Some(1));
    assert_eq!(find(&routes, "localhost", "/x/a/b"), None);
}

#[test]
fn a_rule_that_names_methods_goes_first_and_get_is_not_head() {
    let mut named = route(&["*"], prefix("/"));
    named.matches.methods = vec!["GET".into()];
    let routes = [route(&["*"], prefix("/")), named];
    assert_eq!(find_with(&routes, "GET", "localhost", "/", &[]), Some(1));
    assert_eq!(find_with(&routes, "HEAD", "localhost", "/", &[]), Some(0));
    assert_eq!(find_with(&routes, "get", "localhost", "/", &[]), Some(0));
}

#[test]
fn explain_tells_the_tie_break_that_decided() {
    let mut beta = route(&["*"], prefix("/api"));
    beta.matches.headers = vec![FieldMatch { name: "x-beta".into(), value: ValueMatch::Equals("1".into()) }];
    let routes = [route(&["*"], prefix("/api")), beta];
    let table = Table::compile(&routes).expect("a table");
    with_head("GET", "localhost", "/api", &[("X-Beta".into(), "1".into())], |head| {
        let outcomes: Vec<_> = table.explain(head).candidates.iter().map(|c| (c.route.0, c.outcome)).collect();
        assert_eq!(outcomes, [(1, Outcome::Answers), (0, Outcome::Outranked(pattern::TieBreak::Headers))]);
    });
}

#[test]
fn the_nearest_route_is_the_one_that_differs_least() {
    let routes = [route(&["*"], prefix("/docs")), route(&["*"], prefix("/api"))];
    let table = Table::compile(&routes).expect("a table");
    with_head("GET", "localhost", "/Api/users", &[], |head| {
        assert_eq!(table.explain(head).nearest(head).map(|candidate| candidate.route.0), Some(1));
    });
}

/// The whole contract in a few lines: every rule in rank order, the first that holds.
fn reference(routes: &[Route], head: &RequestHead<'_>) -> Option<usize> {
    let first = |name: &str| head.fields.first(name).map(|value| String::from_utf8_lossy(value).into_owned());
    let parameter = |name: &str| {
        let pairs = head.query.into_iter().flat_map(|query| query.split('&'));
        pairs
            .map(|pair| pair.split_once('=').unwrap_or((pair, "")))
            .find(|(key, _)| *key == name)
            .map(|(_, v)| v.to_owned())
    };
    let value_holds = |wanted: &FieldMatch, seen: Option<String>| match (&wanted.value, seen) {
        (ValueMatch::Equals(value), Some(seen)) => *value == seen,
        (ValueMatch::Regex(pattern), Some(seen)) => {
            regex::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern").is_match(&seen)
        }
        (_, None) => false,
    };
    let name = head.host.name();
    let mut rules = Vec::new();
    for (order, Route { matches: m, .. }) in routes.iter().enumerate() {
        for host in &m.hosts {
            let (host_holds, host_rank) = match host {
                HostMatch::Exact(exact) => (name == exact, (0, usize::MAX - exact.len())),
                HostMatch::Wildcard(suffix) => {
                    (name.ends_with(&format!(".{suffix}")) && name != OWN_HOST, (1, usize::MAX - suffix.len()))
                }
                HostMatch::AnyLocal => (head.host.is_local() && name != OWN_HOST, (2, 0)),
            };
            let (path_holds, path_rank) = match &m.path {
                PathMatch::Exact(path) => (head.path == path, (0, 0)),
                PathMatch::Regex(pattern) => (
                    regex::Regex::new(&format!("^(?:{pattern})$")).expect("a pattern").is_match(head.path),
                    (1, usize::MAX - pattern.chars().count()),
                ),
                PathMatch::Prefix(prefix) => {
                    let elements = |path: &str| path.split('/').map(str::to_owned).collect::<Vec<_>>();
                    let holds = prefix == "/" || elements(head.path).starts_with(&elements(prefix));
                    (holds, (2, usize::MAX - prefix.chars().count()))
                }
            };
            let rest_holds = (m.methods.is_empty() || m.methods.iter().any(|method| method == head.method))
                && m.headers.iter().all(|wanted| value_holds(wanted, first(&wanted.name)))
                && m.query.iter().all(|wanted| value_holds(wanted, parameter(&wanted.name)));
            let others = (m.methods.is_empty(), usize::MAX - m.headers.len(), usize::MAX - m.query.len());
            if host_holds && path_holds && rest_holds {
                rules.push((host_rank, path_rank, others, order));
            }
        }
    }
    rules.into_iter().min().map(|(.., order)| order)
}

fn any_path() -> impl Strategy<Value = String> {
    prop::collection::vec(prop::sample::select(vec!["a", "b", "ab", "", "%61"]), 0..4)
        .prop_map(|elements| format!("/{}", elements.join("/")))
}

fn any_host() -> impl Strategy<Value = &'static str> {
    prop::sample::select(vec![
        "localhost",
        "a.localhost",
        "b.a.localhost",
        "c.b.a.localhost",
        "a.test",
        "b.a.test",
        "127.0.0.1",
        "evil.test",
        OWN_HOST,
    ])
}

fn any_field() -> impl Strategy<Value = FieldMatch> {
    let value = prop_oneof![
        prop::sample::select(vec!["1", "2"]).prop_map(|value| ValueMatch::Equals(value.into())),
        prop::sample::select(vec!["1|2", "[12]", "2"]).prop_map(|pattern| ValueMatch::Regex(pattern.into())),
    ];
    (prop::sample::select(vec!["x", "y"]), value).prop_map(|(name, value)| FieldMatch { name: name.into(), value })
}

fn any_route() -> impl Strategy<Value = Route> {
    let host = prop::sample::select(vec![
        "*",
        "a.localhost",
        "b.a.localhost",
        "*.a.localhost",
        "*.localhost",
        "a.test",
        "*.test",
    ]);
    let path = prop_oneof![
        any_path()
            .prop_map(|path| PathMatch::Prefix(if path.len() > 1 { path.trim_end_matches('/').into() } else { path }))
            .prop_map(|path| if path == PathMatch::Prefix(String::new()) {
                PathMatch::Prefix("/".into())
            } else {
                path
            }),
        any_path().prop_map(PathMatch::Exact),
        prop::sample::select(vec!["/a.*", "/[ab]", "/a/b|/b", ".*"])
            .prop_map(|pattern| PathMatch::Regex(pattern.into())),
    ];
    let methods = prop::collection::vec(prop::sample::select(vec!["GET", "POST"]), 0..2);
    let fields = || prop::collection::vec(any_field(), 0..2);
    (prop::collection::vec(host, 1..3), path, methods, fields(), fields()).prop_map(
        |(hosts, path, methods, headers, query)| {
            let mut route = route(&hosts, path);
            route.matches.methods = methods.into_iter().map(str::to_owned).collect();
            route.matches.headers = headers;
            route.matches.query = query;
            route
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_table_and_explain_agree_with_the_naive_reference(
        routes in prop::collection::vec(any_route(), 0..12),
        requests in prop::collection::vec((
            prop::sample::select(vec!["GET", "POST", "HEAD"]), any_host(), any_path(),
            prop::collection::vec((prop::sample::select(vec!["x", "y"]), prop::sample::select(vec!["1", "2", ""])), 0..3),
            prop::sample::select(vec!["", "?", "?x=1", "?y=2&x=1", "?x=1&x=2", "?x"]),
        ), 1..8),
    ) {
        let table = Table::compile(&routes).expect("a table");
        for (method, host, path, headers, query) in requests {
            let headers: Vec<Header> = headers.into_iter().map(|(name, value)| (name.into(), value.into())).collect();
            with_head(method, host, &format!("{path}{query}"), &headers, |head| {
                let expected = reference(&routes, head);
                let explanation = table.explain(head);
                let told = explanation.candidates.iter().find(|c| c.outcome == Outcome::Answers).map(|c| c.route.0);
                prop_assert_eq!(explanation.hit.map(|hit| hit.route.0), expected);
                prop_assert_eq!(told, expected);
                Ok(())
            })?;
        }
    }

    #[test]
    fn a_verdict_does_not_change_with_the_size_of_the_table(path in any_path(), host in any_host()) {
        let ours = [route(&["*"], prefix("/a")), route(&["a.test"], prefix("/"))];
        let small = find(&ours, host, &path);
        for others in [100, 1_000] {
            let mut routes = ours.to_vec();
            routes.extend((0..others).map(|n| route(&["other.test"], PathMatch::Prefix(format!("/other{n}")))));
            prop_assert_eq!(find(&routes, host, &path), small);
        }
    }
}
