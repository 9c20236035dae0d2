//! How long the steps of an exchange may take: the limits of its connection, armed and disarmed as it moves.

use std::time::Duration;

use crate::{
    http1::client::Waits,
    listen::deadlines::{Deadlines, Limit, WRITE},
};

/// How often a client is looked after whose leaving would wake nobody.
const LOOK: Duration = Duration::from_millis(100);

/// How long a client that asked for `100 Continue` waits for a program that says nothing (RFC 9110 §10.1.1 leaves
/// the time open; curl waits as long).
const CONTINUE: Duration = Duration::from_secs(1);

/// How long an answer is kept back so that what follows its head can be looked at: a refusal that a dev server explains
/// is one short page.
const BEHIND: Duration = Duration::from_secs(1);

/// The pace of one exchange.
pub(super) struct Pace<'d> {
    deadlines: &'d Deadlines,
    /// Until the answer begins; the time begins anew with each piece of the request that moves.
    answer: Duration,
    /// Between two pieces of the request.
    upload: Duration,
    sent: u64,
    received: u64,
    is_answered: bool,
}

/// What has taken too long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Late {
    /// Nothing.
    Nothing,
    /// The program, to begin its answer.
    Answer,
    /// The program, to say whether it wants the body.
    Continue,
    /// The program, to send on behind a head that waits for it.
    Behind,
    /// The client, to send or to take the next piece.
    Client,
}

impl<'d> Pace<'d> {
    /// A request was sent, of which the answer must begin within `answer`, and a next piece come within `upload`.
    pub(super) fn new(deadlines: &'d Deadlines, answer: Duration, upload: Duration) -> Self {
        deadlines.arm(Limit::Answer, answer);
        Self { deadlines, answer, upload, sent: 0, received: 0, is_answered: false }
    }

    /// After a step that is pending: what it waits for, and how much has moved until now.
    pub(super) fn check(&mut self, waits: Waits, sent: u64, received: u64) -> Late {
        let deadlines = self.deadlines;
        if sent != self.sent {
            self.sent = sent;
            deadlines.disarm(Limit::Body);
            deadlines.extend(Limit::Answer, self.answer);
        } else if waits.for_upload {
            // It is the client's turn.
            deadlines.extend(Limit::Answer, self.answer);
        }
        if received != self.received {
            self.received = received;
            deadlines.disarm(Limit::Write);
        }
        deadlines.keep_armed_while(waits.for_upload, Limit::Body, self.upload);
        deadlines.keep_armed_while(waits.for_reader, Limit::Write, WRITE);
        deadlines.keep_armed_while(waits.for_continue && !self.is_answered, Limit::Continue, CONTINUE);
        look_again(deadlines, waits.blind);
        if waits.for_body {
            // The answer has begun.
            deadlines.disarm(Limit::Answer);
            deadlines.keep_armed_while(true, Limit::Rest, BEHIND);
            if deadlines.is_over(Limit::Rest) {
                return Late::Behind;
            }
        }
        if deadlines.is_over(Limit::Answer) {
            Late::Answer
        } else if deadlines.is_over(Limit::Continue) {
            deadlines.disarm(Limit::Continue);
            Late::Continue
        } else if deadlines.is_over(Limit::Body) || deadlines.is_over(Limit::Write) {
            Late::Client
        } else {
            Late::Nothing
        }
    }

    /// Whether the connection is to close behind its answer.
    pub(super) fn is_draining(&self) -> bool {
        self.deadlines.is_draining()
    }

    /// The answer has begun: what is left of it may take its time.
    pub(super) fn answered(&mut self) {
        self.is_answered = true;
        self.deadlines.disarm(Limit::Answer);
        self.deadlines.disarm(Limit::Continue);
        self.deadlines.disarm(Limit::Rest);
    }
}

/// Looks after the client again in a while, where its leaving would wake nobody.
pub(super) fn look_again(deadlines: &Deadlines, blind: bool) {
    if deadlines.is_over(Limit::Look) {
        deadlines.disarm(Limit::Look);
    }
    deadlines.keep_armed_while(blind, Limit::Look, LOOK);
}
