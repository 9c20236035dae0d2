//! A connection that leaves HTTP (RFC 9110 §7.8): WebSocket and whatever else asks by `Upgrade`.
//!
//! Its bytes are lent by the engine only behind the program's 101: until then there is nothing to carry them, so what a
//! client sends behind its request cannot reach the program early.

use std::{future::poll_fn, pin::Pin, task::Poll};

use super::Asked;
use crate::{
    http1::{client::Switched, leg::Transport},
    observe::{Ending, Kind},
    tunnel::{self, IDLE, LINGER, Patience, Side},
};

/// Much that speaks over an upgraded connection forgets to close it.
static PATIENCE: Patience = Patience { idle: IDLE, half_closed: LINGER };

impl Asked<'_> {
    /// Carries bytes until either side ends, or the drain begins: a tunnel has no end of its own to wait for.
    pub(super) async fn tunnel<C: Transport, P: Transport>(&mut self, switched: Switched<'_, C, P>) {
        self.deadlines.disarm_all();
        if let Some(exchange) = &self.exchange {
            exchange.write_now(Kind::Opened);
        }
        let Switched { client: (near, early), program: (mut far, answered) } = switched;
        let client = Side { stream: &mut *near, early, socket: |stream| stream.tcp() };
        let program = Side { stream: &mut far, early: answered, socket: |stream| stream.tcp() };
        let mut carried = tunnel::run(client, program, &PATIENCE);
        let ended = poll_fn(|cx| match Pin::new(&mut carried).poll(cx) {
            Poll::Ready(ended) => Poll::Ready(Some(ended)),
            Poll::Pending if self.deadlines.is_draining() => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        if let Some((_, tunnel::End::Failed(_))) = &ended {
            // What broke on one side breaks on the other (RFC 9293 §3.5.2).
            near.reset();
            far.reset();
        }
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
