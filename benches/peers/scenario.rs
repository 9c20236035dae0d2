//! What is asked of every proxy: one scenario is one kind of load.

use std::fmt::Write as _;

use clap::ValueEnum;

/// One kind of load. The order is the order of the report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Scenario {
    Small,
    Browser,
    #[value(name = "10k")]
    Body10K,
    #[value(name = "100k")]
    Body100K,
    #[value(name = "10m")]
    Body10M,
    Churn,
    Connections,
    Routes,
    Tcp,
    H2,
    #[value(name = "h2-single")]
    H2Single,
}

/// What a proxy is told to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    /// Pass requests on, by a table of so many routes.
    Requests(usize),
    /// Pass the requests of HTTP/2 on, by one route.
    Streams,
    /// Pass bytes on, whatever they are.
    Bytes,
}

/// The sizes of the two tables that [`Scenario::Routes`] compares.
pub(crate) const TABLES: [usize; 2] = [10, 10_000];

/// The one name under which all proxies are called. A proxy that routes by host needs one, so all get it.
pub(crate) const HOST: &str = "app.localhost";

/// What Chrome sends beside Host and Cookie, with which they are 25.
const BROWSER_HEADERS: [(&str, &str); 23] = [
    ("Cache-Control", "max-age=0"),
    ("Sec-Ch-Ua", r#""Chromium";v="143", "Google Chrome";v="143", "Not A(Brand";v="24""#),
    ("Sec-Ch-Ua-Mobile", "?0"),
    ("Sec-Ch-Ua-Platform", r#""Linux""#),
    ("Sec-Ch-Ua-Arch", r#""x86""#),
    ("Sec-Ch-Ua-Bitness", r#""64""#),
    ("Sec-Ch-Ua-Full-Version", r#""143.0.7499.40""#),
    ("Sec-Ch-Ua-Model", r#""""#),
    ("Sec-Ch-Prefers-Color-Scheme", "dark"),
    ("Upgrade-Insecure-Requests", "1"),
    (
        "User-Agent",
        "Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/143.0.0.0 Safari/537.36",
    ),
    ("Accept", "text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,image/apng,*/*;q=0.8"),
    ("Sec-Fetch-Site", "same-origin"),
    ("Sec-Fetch-Mode", "navigate"),
    ("Sec-Fetch-User", "?1"),
    ("Sec-Fetch-Dest", "document"),
    ("Referer", "http://app.localhost:62893/orders/2026/11?sort=date&page=3"),
    ("Accept-Encoding", "gzip, deflate, br, zstd"),
    ("Accept-Language", "en-GB,en;q=0.9,de;q=0.8,fr;q=0.7"),
    ("If-None-Match", r#"W/"5f3b-18c9a7d2e40""#),
    ("Priority", "u=0, i"),
    ("Dnt", "1"),
    ("X-Requested-With", "XMLHttpRequest"),
];

/// Bytes of the cookie's value.
const COOKIE: usize = 1024;

impl Scenario {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Small => "small",
            Self::Browser => "browser",
            Self::Body10K => "10k",
            Self::Body100K => "100k",
            Self::Body10M => "10m",
            Self::Churn => "churn",
            Self::Connections => "connections",
            Self::Routes => "routes",
            Self::Tcp => "tcp",
            Self::H2 => "h2",
            Self::H2Single => "h2-single",
        }
    }

    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Small => "an answer of 13 bytes",
            Self::Browser => "an answer of 13 bytes to a browser's head: 25 headers, 1 KB of cookie",
            Self::Body10K => "an answer of 10 KB",
            Self::Body100K => "an answer of 100 KB",
            Self::Body10M => "an answer of 10 MB",
            Self::Churn => "a client connection for every request",
            Self::Connections => "an answer of 13 bytes, many clients",
            Self::Routes => "an answer of 13 bytes, by a small and by a large route table",
            Self::Tcp => "10 MB for each small question, as raw bytes: 100 of them are 1 GB",
            Self::H2 => "an answer of 13 bytes in HTTP/2, 32 streams at once on each connection",
            Self::H2Single => "an answer of 13 bytes in HTTP/2, one stream at a time on each connection",
        }
    }

    /// How many clients ask at the same time, each on a connection of its own and waiting for its answers.
    pub(crate) fn clients(self) -> u32 {
        match self {
            Self::Body10M | Self::Tcp => 4,
            Self::Connections => 1000,
            Self::H2 | Self::H2Single => 16,
            _ => 64,
        }
    }

    /// How many answers each client waits for at the same time.
    pub(crate) fn streams(self) -> u32 {
        match self {
            Self::H2 => 32,
            _ => 1,
        }
    }

    /// Whether the clients speak HTTP/2, by prior knowledge; the origin does not.
    pub(crate) fn is_http2(self) -> bool {
        matches!(self, Self::H2 | Self::H2Single)
    }

    pub(crate) fn path(self) -> &'static str {
        match self {
            Self::Body10K => "/10k",
            Self::Body100K => "/100k",
            Self::Body10M | Self::Tcp => "/10m",
            Self::Routes => "/r5/small",
            _ => "/small",
        }
    }

    /// The headers of the request as wrk's script sets them.
    pub(crate) fn headers(self) -> String {
        let mut script = String::new();
        let mut set = |name: &str, value: &str| {
            let _infallible = writeln!(script, "wrk.headers['{name}'] = '{value}'");
        };
        set("Host", HOST);
        match self {
            Self::Browser => {
                BROWSER_HEADERS.iter().for_each(|(name, value)| set(name, value));
                set("Cookie", &format!("session={}", "c0ffee42".repeat(COOKIE / 8)));
            }
            Self::Churn => set("Connection", "close"),
            _ => {}
        }
        script
    }
}
