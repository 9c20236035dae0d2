//! Cross-origin sharing (the Fetch standard, §3.2): who may ask, and what a browser may show to a script.

use crate::{
    config::{Cors, CorsOrigins, FieldEdits},
    head::{Host, RequestHead},
    respond::Answer,
};

/// The fields that only this filter may set once a route has `cors`.
const OWN: [&str; 6] = [
    "access-control-allow-origin",
    "access-control-allow-credentials",
    "access-control-allow-methods",
    "access-control-allow-headers",
    "access-control-expose-headers",
    "access-control-max-age",
];

/// The answer to a preflight, or `None` where the request is none. An origin that may not ask gets an answer
/// without permission, so that the browser names the reason.
pub(super) fn preflight(cors: &Cors, head: &RequestHead<'_>) -> Option<Answer> {
    let origin = head.text("origin")?;
    let method = head.text("access-control-request-method")?;
    if head.method != "OPTIONS" {
        return None;
    }
    let mut fields = vec![("vary", "origin, access-control-request-method, access-control-request-headers".to_owned())];
    if let Some(allowed) = allowed(cors, origin) {
        fields.extend(permission(cors, allowed));
        fields.push(("access-control-allow-methods", list(cors.methods.as_deref(), Some(method))));
        let headers = list(cors.headers.as_deref(), head.text("access-control-request-headers"));
        if !headers.is_empty() {
            fields.push(("access-control-allow-headers", headers));
        }
        fields.push(("access-control-max-age", cors.max_age.as_secs().to_string()));
    }
    let fields = fields.into_iter().map(|(name, value)| (name.into(), value)).collect();
    Some(Answer { status: 204, fields, body: crate::respond::Body::Empty })
}

/// The edits of any other answer.
pub(super) fn sharing(cors: &Cors, head: &RequestHead<'_>) -> FieldEdits {
    let mut edits = FieldEdits { remove: OWN.map(str::to_owned).to_vec(), ..FieldEdits::default() };
    if cors.origins != CorsOrigins::Any {
        edits.add.push(("vary".into(), "origin".into()));
    }
    if let Some(allowed) = head.text("origin").and_then(|origin| allowed(cors, origin)) {
        edits.set.extend(permission(cors, allowed).map(|(name, value)| (name.to_owned(), value)));
        if !cors.expose.is_empty() {
            edits.set.push(("access-control-expose-headers".into(), cors.expose.join(", ")));
        }
    }
    edits
}

fn permission(cors: &Cors, allowed: &str) -> impl Iterator<Item = (&'static str, String)> {
    let credentials = cors.credentials.then(|| ("access-control-allow-credentials", "true".to_owned()));
    std::iter::once(("access-control-allow-origin", allowed.to_owned())).chain(credentials)
}

/// What may stand in `access-control-allow-origin`, or `None` for an origin that may not ask.
fn allowed<'o>(cors: &Cors, origin: &'o str) -> Option<&'o str> {
    match &cors.origins {
        CorsOrigins::Any => Some("*"),
        CorsOrigins::Listed(origins) => origins.iter().any(|listed| listed == origin).then_some(origin),
        CorsOrigins::Local => is_local(origin).then_some(origin),
    }
}

fn is_local(origin: &str) -> bool {
    let host = origin.strip_prefix("http://").or_else(|| origin.strip_prefix("https://"));
    host.is_some_and(|host| Host::parse(host.as_bytes()).is_ok_and(|host| host.is_local()))
}

fn list(configured: Option<&[String]>, asked: Option<&str>) -> String {
    configured.map_or_else(|| asked.unwrap_or_default().to_owned(), |names| names.join(", "))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::head::FieldList;

    fn cors(origins: CorsOrigins) -> Cors {
        let max_age = Duration::from_secs(600);
        Cors { origins, methods: None, headers: None, expose: vec![], credentials: true, max_age }
    }

    fn with<T>(method: &str, fields: &[(&str, &str)], ask: impl FnOnce(&RequestHead<'_>) -> T) -> T {
        let fields = FieldList(fields.iter().map(|(name, value)| ((*name).into(), (*value).into())).collect());
        let host = Host::parse(b"localhost").expect("a host");
        ask(&RequestHead { method, path: "/", query: None, host: &host, fields: &fields })
    }

    const PREFLIGHT: [(&str, &str); 2] =
        [("origin", "http://app.localhost:5173"), ("access-control-request-method", "PUT")];

    #[test]
    fn a_local_origin_may_ask_and_gets_what_it_asks_for() {
        let answer = with("OPTIONS", &PREFLIGHT, |head| preflight(&cors(CorsOrigins::Local), head)).expect("an answer");
        let field = |name: &str| answer.fields.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str());
        assert_eq!(answer.status, 204);
        assert_eq!(field("access-control-allow-origin"), Some("http://app.localhost:5173"));
        assert_eq!(field("access-control-allow-methods"), Some("PUT"));
        assert_eq!(field("access-control-allow-credentials"), Some("true"));
        assert_eq!(field("access-control-max-age"), Some("600"));
    }

    #[test]
    fn a_foreign_origin_gets_no_permission() {
        for origin in
            ["http://evil.test", "null", "http://localhost.evil.test", "http://localhost@evil.test", "file://"]
        {
            let edits = with("GET", &[("origin", origin)], |head| sharing(&cors(CorsOrigins::Local), head));
            assert_eq!(edits.set, [], "{origin}");
        }
    }

    #[test]
    fn what_the_upstream_says_of_sharing_is_replaced() {
        let edits = with("GET", &PREFLIGHT, |head| sharing(&cors(CorsOrigins::Local), head));
        assert!(edits.remove.contains(&"access-control-allow-origin".to_owned()));
        assert_eq!(edits.add, [("vary".to_owned(), "origin".to_owned())]);
    }

    #[test]
    fn options_without_a_preflight_go_to_the_upstream() {
        assert!(
            with("OPTIONS", &[("origin", "http://localhost")], |head| preflight(&cors(CorsOrigins::Any), head))
                .is_none()
        );
        assert!(with("GET", &PREFLIGHT, |head| preflight(&cors(CorsOrigins::Any), head)).is_none());
    }
}
