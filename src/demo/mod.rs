//! Three sample programs and a table for them: what `portolan demo` shows, with nothing to install.
//!
//! The programs are real servers on ephemeral ports of this machine; only their process is ours.

use std::{convert::Infallible, io, time::Duration};

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, channel::Channel, combinators::UnsyncBoxBody};
use hyper::{body::Incoming, server::conn::http1, service::service_fn};
use hyper_util::rt::{TokioIo, TokioTimer};
use jiff::Zoned;
use serde_json::json;
use tokio::{net::TcpListener, time::sleep};

/// The ports that nobody can remember (RFC 6335 §6): where programs of development live.
const EPHEMERAL: std::ops::RangeInclusive<u16> = 49152..=65535;

type Body = UnsyncBoxBody<Bytes, Infallible>;

/// A sample program.
#[derive(Debug, Clone, Copy)]
enum Sample {
    /// A page that asks the others.
    Web,
    /// JSON and a stream of events.
    Api,
    /// A page under a name of its own.
    Docs,
}

/// Starts the programs and returns the table that leads to them. They run until the runtime ends.
pub async fn start() -> io::Result<String> {
    let [web, api, docs] = [serve(Sample::Web).await?, serve(Sample::Api).await?, serve(Sample::Docs).await?];
    let nobody = free_port().await?;
    Ok(format!(
        r#"[routes]
web  = {{ path = "/", to = {web} }}
api  = {{ path = "/api", to = {api} }}
docs = {docs}
me   = {{ path_exact = "/me", respond = {{ json = {{ name = "Ada", answer = 42 }} }} }}
gone = {{ path = "/gone", to = {nobody} }}
"#
    ))
}

/// Starts one program; returns its port.
async fn serve(sample: Sample) -> io::Result<u16> {
    let listener = ephemeral().await?;
    let port = listener.local_addr()?.port();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service_fn(move |request| async move { Ok::<_, Infallible>(answer(sample, port, &request)) });
            let connection =
                http1::Builder::new().timer(TokioTimer::new()).serve_connection(TokioIo::new(stream), service);
            // How it ends is the client's matter.
            tokio::spawn(async move { drop(connection.await) });
        }
    });
    Ok(port)
}

/// A listener on an ephemeral port of its own. Starting points differ, so that two demos rarely meet.
async fn ephemeral() -> io::Result<TcpListener> {
    let span = u32::from(*EPHEMERAL.end() - *EPHEMERAL.start());
    let start = std::process::id().wrapping_mul(2_654_435_761) % span;
    let mut refusal = None;
    for step in 0..256 {
        let port = *EPHEMERAL.start() + u16::try_from((start + step) % span).unwrap_or_default();
        match TcpListener::bind(("127.0.0.1", port)).await {
            Ok(listener) => return Ok(listener),
            Err(error) => refusal = Some(error),
        }
    }
    Err(refusal.unwrap_or_else(|| io::ErrorKind::AddrInUse.into()))
}

/// A port on which nobody listens now.
async fn free_port() -> io::Result<u16> {
    Ok(ephemeral().await?.local_addr()?.port())
}

fn answer(sample: Sample, port: u16, request: &Request<Incoming>) -> Response<Body> {
    match (sample, request.uri().path()) {
        (Sample::Web, "/") => page(include_str!("page.html").replace("{port}", &port.to_string())),
        (Sample::Api, "/api" | "/api/hello") => hello(port, request),
        (Sample::Api, "/api/clock") => clock(),
        (Sample::Docs, "/") => page(format!(
            "<!doctype html><meta charset=utf-8><title>docs</title><style>:root{{color-scheme:light dark}}\
             body{{font:17px/1.6 system-ui;max-width:36rem;margin:4rem auto;padding:0 1.25rem}}</style>\
             <h1>docs.localhost</h1><p>A third program, on port {port}. A route without a path has a name of its own."
        )),
        _ => whole(StatusCode::NOT_FOUND, "text/plain", "not found\n".into()),
    }
}

fn page(html: String) -> Response<Body> {
    whole(StatusCode::OK, "text/html; charset=utf-8", html)
}

fn hello(port: u16, request: &Request<Incoming>) -> Response<Body> {
    let field = |name: &str| request.headers().get(name).and_then(|value| value.to_str().ok());
    let object = json!({
        "message": format!("hello from port {port}"),
        "host": field("host"),
        "x-forwarded-for": field("x-forwarded-for"),
        "via": field("via"),
    });
    whole(StatusCode::OK, "application/json", format!("{object}\n"))
}

/// One event a second, for as long as somebody listens.
fn clock() -> Response<Body> {
    let (mut events, body) = Channel::<Bytes, Infallible>::new(1);
    tokio::spawn(async move {
        loop {
            let event = format!("data: {}\n\n", Zoned::now().strftime("%H:%M:%S"));
            if events.send_data(event.into()).await.is_err() {
                return;
            }
            sleep(Duration::from_secs(1)).await;
        }
    });
    typed(StatusCode::OK, "text/event-stream", body.boxed_unsync())
}

fn whole(status: StatusCode, kind: &'static str, text: String) -> Response<Body> {
    typed(status, kind, Full::from(text).boxed_unsync())
}

fn typed(status: StatusCode, kind: &'static str, body: Body) -> Response<Body> {
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}
