//! Asks an endpoint now and then whether it is well. Only where a route has `health`: a debugger dies of a trial.
//!
//! Two failures in a row take an endpoint out of the choice, one success brings it back.

use std::{
    pin::pin,
    sync::{Weak, atomic::Ordering::Relaxed},
};

use bytes::Bytes;
use http::{Request, header};
use http_body_util::Empty;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::{
    io::{AsyncRead, AsyncWrite},
    time::{sleep, timeout},
};

use super::{
    Endpoint,
    connect::{Dialled, dial},
};
use crate::{config::Health, http2::client::Channel};

/// Failures in a row that count; one alone may be a restart.
const FAILURES: u32 = 2;

/// Asks until the endpoint is in no table any more.
pub async fn watch(endpoint: Weak<Endpoint>, health: Health) {
    let mut failures = 0;
    while let Some(endpoint) = endpoint.upgrade() {
        let well = timeout(health.timeout, is_well(&endpoint, &health)).await.unwrap_or(Some(false));
        // One that is not there is not ill: whoever follows it knows, and requests may wait for it.
        failures = if well.unwrap_or(true) { 0 } else { failures + 1 };
        note(&endpoint, failures);
        drop(endpoint);
        sleep(health.interval).await;
    }
}

fn note(endpoint: &Endpoint, failures: u32) {
    let healthy = failures < FAILURES;
    if endpoint.healthy.swap(healthy, Relaxed) != healthy {
        let state = if healthy { "well again" } else { "ill, it gets no requests" };
        tracing::warn!(target: "portolan", "health: {} is {state}", endpoint.address());
    }
}

/// `None` where a program that is followed is not there to be asked.
async fn is_well(endpoint: &Endpoint, health: &Health) -> Option<bool> {
    // A question of HTTP/1, however the program is asked otherwise.
    match dial(endpoint, true, health.timeout).await {
        Ok(Dialled::Http1(stream)) => Some(answers(stream, &health.path).await),
        Ok(Dialled::Http2(stream)) => {
            let Ok((channel, carried)) = Channel::open(stream, "http").await else { return Some(false) };
            Some(tokio::select! {
                is_well = answers(channel.stream(), &health.path) => is_well,
                () = carried => false,
            })
        }
        Err(error) if endpoint.place().is_some() && error.is_absence() => None,
        Err(_) => Some(false),
    }
}

/// Whether GET of `path` is answered with a status below 400.
pub async fn answers(stream: impl AsyncRead + AsyncWrite + Unpin + 'static, path: &str) -> bool {
    get(stream, "localhost", path).await.is_some_and(|head| head.status.as_u16() < 400)
}

/// The head of the answer to GET of `path`, as `host`; of no interest is what follows it.
pub async fn get(
    stream: impl AsyncRead + AsyncWrite + Unpin + 'static,
    host: &str,
    path: &str,
) -> Option<http::response::Parts> {
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.ok()?;
    let request = Request::get(path)
        .header(header::HOST, host)
        .header(header::USER_AGENT, concat!("portolan/", env!("CARGO_PKG_VERSION")))
        .header(header::CONNECTION, "close")
        .body(Empty::<Bytes>::new())
        .ok()?;
    let mut answered = pin!(sender.send_request(request));
    // The answer's body is of no interest: dropping both ends closes the connection.
    let response = tokio::select! {
        response = &mut answered => response,
        // A short answer is whole in the moment in which the connection that brought it ends.
        _ = connection => answered.await,
    };
    Some(response.ok()?.into_parts().0)
}
