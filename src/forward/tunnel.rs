//! A connection that leaves HTTP (RFC 9110 §7.8): WebSocket and whatever else asks by `Upgrade`.
//!
//! Its bytes are lent by the engine only behind the program's 101: until then there is nothing to carry them, so what a
//! client sends behind its request cannot reach the program early.

use std::{future::poll_fn, pin::pin, task::Poll, time::Duration};

use super::Asked;
use crate::{
    http1::{client::Switched, leg::Transport},
    observe::{Ending, Kind},
    tunnel::{self, Side},
};

/// How long a tunnel, or a call, may be silent (Envoy's TCP proxy: 1 h).
pub(super) const IDLE: Duration = Duration::from_secs(3600);

impl Asked<'_> {
    /// Carries bytes until either side ends, or the drain begins: a tunnel has no end of its own to wait for.
    pub(super) async fn tunnel<C: Transport, P: Transport>(&mut self, switched: Switched<'_, C, P>) {
        self.deadlines.disarm_all();
        if let Some(exchange) = &self.exchange {
            exchange.write_now(Kind::Opened);
        }
        let Switched { client, program } = switched;
        let client = Side { stream: client.0, early: client.1 };
        let program = Side { stream: program.0, early: program.1 };
        let mut carried = pin!(tunnel::run(client, program, IDLE));
        let ended = poll_fn(|cx| match carried.as_mut().poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if self.deadlines.is_draining() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.record(|record| {
            record.kind = Kind::Tunnel;
            match ended {
                Some((counts, end)) => {
                    (record.sent, record.received) = (counts.sent, counts.received);
                    record.ending = if matches!(end, tunnel::End::Failed(_)) { Ending::Cut } else { Ending::Whole };
                }
                None => record.ending = Ending::Cut,
            }
        });
    }
}
