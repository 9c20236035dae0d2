//! Answers of our own on their way to the client.

use std::{
    future::poll_fn,
    io,
    task::{Poll, ready},
    time::Duration,
};

use bytes::Bytes;
use http::StatusCode;
use http_body_util::BodyExt;

use super::{Asked, Worker, head::Edited};
use crate::{
    config::NO_EDITS,
    filter::ResponseEdits,
    http1::{
        leg::Transport,
        server::{self, Length, Serving},
        write,
    },
    listen::deadlines::{Deadlines, Limit, WRITE},
    observe::{Ending, Kind},
    respond::{self, Answer},
};

/// How much of a request's body is read behind an answer that did not want it, so that its connection can go on; and
/// how long that may take.
const UNWANTED: (u64, Duration) = (64 * 1024, Duration::from_secs(1));

impl Worker {
    /// The answer that `what` in the table said.
    pub(super) async fn say<C: Transport>(
        &self,
        asked: &mut Asked<'_>,
        serving: &mut Serving<'_, C>,
        answer: Answer,
        what: &str,
        edits: ResponseEdits<'_>,
    ) {
        asked.record(|record| {
            record.kind = Kind::Answered;
            what.clone_into(&mut record.target);
        });
        self.answer(asked, serving, answer, edits).await;
    }

    /// Writes the whole answer; where the client does not take it, the connection ends.
    pub(super) async fn answer<C: Transport>(
        &self,
        asked: &mut Asked<'_>,
        serving: &mut Serving<'_, C>,
        answer: Answer,
        edits: ResponseEdits<'_>,
    ) {
        asked.record(|record| record.status = answer.status);
        let mut received = 0;
        let written = self.write(asked.deadlines, serving, answer, &edits, &mut received).await;
        asked.record(|record| {
            record.received = received;
            record.ending = match &written {
                Ok(()) => Ending::Whole,
                Err(Unwritten::ByUs) => Ending::Cut,
                Err(Unwritten::ByClient) => Ending::Left,
            };
        });
        if written.is_ok() && !serving.is_read() && !serving.waits_for_continue() {
            drain(asked.deadlines, serving).await;
        }
    }

    async fn write<C: Transport>(
        &self,
        deadlines: &Deadlines,
        serving: &mut Serving<'_, C>,
        answer: Answer,
        edits: &ResponseEdits<'_>,
        count: &mut u64,
    ) -> Result<(), Unwritten> {
        let mut head = self.head(&answer, edits);
        let length = if answer.field("content-length").is_some() { Length::Told } else { Length::Untold };
        let (body, first) = match &answer.body {
            _ if matches!(answer.status, 204 | 304) => (server::Body::None, &[][..]),
            respond::Body::Stream(_) => (server::Body::Pieces(length), &[][..]),
            respond::Body::Empty => (server::Body::Whole(length), &[][..]),
            respond::Body::Bytes(bytes) => (server::Body::Whole(length), &bytes[..]),
        };
        let begun = poll_fn(|cx| Poll::Ready(serving.begin(cx, &mut head, body, first))).await;
        let encoding = begun.map_err(|_| Unwritten::ByClient)?;
        *count = if serving.is_answer_to_head() { 0 } else { first.len() as u64 };
        flushed(deadlines, serving).await?;
        let respond::Body::Stream(mut stream) = answer.body else { return Ok(()) };
        if serving.is_answer_to_head() {
            return Ok(());
        }
        while let Some(frame) = stream.frame().await {
            let Ok(piece) = frame.map_err(|_| Unwritten::ByUs)?.into_data() else { continue };
            *count += piece.len() as u64;
            send(serving, encoding, Some(&piece)).await?;
            flushed(deadlines, serving).await?;
        }
        send(serving, encoding, None).await?;
        flushed(deadlines, serving).await
    }

    fn head(&self, answer: &Answer, edits: &ResponseEdits<'_>) -> Vec<u8> {
        let mut head = Vec::with_capacity(512);
        let status = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        write::status_line(&mut head, status.as_u16(), status.canonical_reason().unwrap_or_default());
        let mut fields = Edited::new(&mut head, [edits.cors.as_deref().unwrap_or(&NO_EDITS), edits.fields]);
        for (name, value) in &answer.fields {
            fields.field(name.as_bytes(), value.as_bytes());
        }
        if answer.field("date").is_none() {
            fields.field(b"date", &self.date.get());
        }
        fields.finish();
        head
    }
}

/// Why an answer was not written to its end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Unwritten {
    /// What was to be written could not be read.
    ByUs,
    /// The client has left, or takes nothing.
    ByClient,
}

async fn send<C: Transport>(
    serving: &mut Serving<'_, C>,
    encoding: crate::http1::body::Encoding,
    piece: Option<&Bytes>,
) -> Result<(), Unwritten> {
    let sent = poll_fn(|cx| Poll::Ready(serving.send(cx, encoding, piece.map(|piece| &piece[..])))).await;
    sent.map_err(|_| Unwritten::ByClient)
}

/// Returns when the client has taken everything, each piece in time.
async fn flushed<C: Transport>(deadlines: &Deadlines, serving: &mut Serving<'_, C>) -> Result<(), Unwritten> {
    let mut taken = serving.taken();
    let flushed = poll_fn(|cx| {
        let flushed = serving.poll_flush(cx);
        if serving.taken() != taken {
            taken = serving.taken();
            deadlines.disarm(Limit::Write);
        }
        if flushed.is_pending() {
            deadlines.keep_armed_while(true, Limit::Write, WRITE);
            if deadlines.is_over(Limit::Write) {
                return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
            }
        }
        flushed
    });
    flushed.await.map_err(|_| Unwritten::ByClient)
}

/// Reads what is left of a body that nobody wants, within bounds.
async fn drain<C: Transport>(deadlines: &Deadlines, serving: &mut Serving<'_, C>) {
    let (most, time) = UNWANTED;
    let before = serving.read();
    deadlines.arm(Limit::Rest, time);
    poll_fn(|cx| {
        while !serving.is_read() && serving.read() - before < most && !deadlines.is_over(Limit::Rest) {
            if ready!(serving.poll_piece(cx, |_| {})).is_err() {
                break;
            }
        }
        Poll::Ready(())
    })
    .await;
    deadlines.disarm(Limit::Rest);
}
