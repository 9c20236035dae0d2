//! A connection that leaves HTTP (RFC 9110 §7.8): WebSocket and whatever else asks by `Upgrade`.
//!
//! The bytes of the tunnel exist only once the program has agreed with a 101: until then there is nothing to carry
//! them, so what a client sends behind its request cannot reach the program early.

use std::{rc::Rc, time::Duration};

use http::{HeaderMap, HeaderValue, Response, StatusCode, Version, header};
use hyper::{
    body::Incoming,
    client::conn::http1::SendRequest,
    upgrade::{OnUpgrade, Upgraded},
};
use hyper_util::rt::TokioIo;

use super::{
    Asked,
    body::{Download, Source, Upload},
    failure::Reason,
    head::{self, BadAnswer, Client, Outgoing},
    send::{reason, request},
};
use crate::{
    listen::conn::Socket,
    observe::{Ending, Exchange, Kind},
    tunnel::{self, Side},
    upstream::{InFlight, connect::Stream},
};

/// How long a tunnel may be silent (Envoy's TCP proxy: 1 h).
const IDLE: Duration = Duration::from_secs(3600);

/// A request for another protocol, on a connection of its own.
pub(super) struct Asking<'a> {
    pub(super) sender: SendRequest<Upload>,
    pub(super) protocol: &'a HeaderValue,
    pub(super) on_upgrade: OnUpgrade,
    /// Counts the tunnel at its endpoint while it lasts.
    pub(super) in_flight: InFlight,
    /// Until the answer begins.
    pub(super) limit: Duration,
}

impl Asking<'_> {
    /// Asks the program. If it agrees the connection becomes a tunnel; if not, its answer is passed on like any other.
    pub(super) async fn open(
        mut self,
        asked: &mut Asked<'_>,
        outgoing: &Outgoing<'_>,
    ) -> Result<Response<Download>, Reason> {
        let mut response = self.ask(asked, outgoing).await?;
        let agreed = response.status() == StatusCode::SWITCHING_PROTOCOLS;
        if agreed && !is_agreed(self.protocol, response.headers()) {
            return Err(BadAnswer::Upgrade.into());
        }
        let from_program = agreed.then(|| hyper::upgrade::on(&mut response));
        let (mut parts, incoming) = response.into_parts();
        parts.headers = head::answer(parts.headers, parts.status, agreed)?;
        parts.version = Version::default();
        asked.record(|record| record.status = parts.status.as_u16());
        let Some(from_program) = from_program else {
            let source = Source::Program { incoming, lease: None, in_flight: Some(self.in_flight) };
            return Ok(Response::from_parts(parts, asked.download(source)));
        };
        let tunnel =
            Tunnel { exchange: asked.exchange.take(), _in_flight: self.in_flight, _client: Rc::clone(asked.client) };
        tokio::task::spawn_local(tunnel.carry(self.on_upgrade, from_program));
        Ok(Response::from_parts(parts, asked.download(Source::Empty)))
    }

    async fn ask(&mut self, asked: &Asked<'_>, outgoing: &Outgoing<'_>) -> Result<Response<Incoming>, Reason> {
        let answer = self.sender.send_request(request(asked, outgoing, Upload::Empty));
        let answered = asked.deadlines.answer_in_time(self.limit, answer).await;
        answered.ok_or(Reason::Timeout(self.limit))?.map_err(|error| reason(&error))
    }
}

/// Whether the program changes to a protocol that was asked for.
fn is_agreed(asked: &HeaderValue, answer: &HeaderMap) -> bool {
    let asked = asked.to_str().unwrap_or_default();
    let chosen = answer.get(header::UPGRADE).and_then(|chosen| chosen.to_str().ok()).unwrap_or_default().trim();
    asked.split(',').any(|protocol| protocol.trim().eq_ignore_ascii_case(chosen))
}

/// What lives for as long as the tunnel does: its record, and its place in the counts of endpoint and connections.
struct Tunnel {
    exchange: Option<Box<Exchange>>,
    _in_flight: InFlight,
    _client: Rc<Client>,
}

impl Tunnel {
    /// Carries bytes once both connections have left HTTP. Ends by itself when either side does.
    async fn carry(mut self, from_client: OnUpgrade, from_program: OnUpgrade) {
        let (Ok(client), Ok(program)) = (from_client.await, from_program.await) else { return };
        let (Some(client), Some(program)) = (client_side(client), program_side(program)) else { return };
        if let Some(exchange) = &self.exchange {
            exchange.write_now(Kind::Opened);
        }
        let (counts, end) = tunnel::run(client, program, IDLE).await;
        if let Some(exchange) = &mut self.exchange {
            let record = exchange.record();
            record.kind = Kind::Tunnel;
            (record.sent, record.received) = (counts.sent, counts.received);
            record.ending = if matches!(end, tunnel::End::Failed(_)) { Ending::Cut } else { Ending::Whole };
        }
    }
}

/// The client's own stream, out of the box in which hyper hands it over.
fn client_side(upgraded: Upgraded) -> Option<Side<Socket>> {
    let parts = upgraded.downcast::<TokioIo<Socket>>().ok()?;
    Some(Side { stream: parts.io.into_inner(), early: parts.read_buf })
}

fn program_side(upgraded: Upgraded) -> Option<Side<Stream>> {
    let parts = upgraded.downcast::<TokioIo<Stream>>().ok()?;
    Some(Side { stream: parts.io.into_inner(), early: parts.read_buf })
}
