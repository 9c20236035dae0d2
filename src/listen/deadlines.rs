//! The time limits of connections, looked at together by one coarse sweep of the worker.
//!
//! A timer per request would be armed and disarmed a hundred thousand times for each time that it fires. Here a
//! limit is one number, written when something begins and cleared when it ends; the sweep compares them every
//! [`TICK`] and wakes the connections that are overdue.
//!
//! Time is counted in sweeps, not read from a clock: a process that was stopped for a while (a laptop's sleep,
//! SIGSTOP) does not find every limit passed when it goes on.

use std::{
    cell::{Cell, RefCell},
    future::poll_fn,
    pin::pin,
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering::Relaxed},
    },
    task::{Context, Poll, Waker},
    time::Duration,
};

use tokio::{
    sync::Notify,
    time::{MissedTickBehavior, interval},
};

/// Between two sweeps: how late a limit may be noticed.
pub const TICK: Duration = Duration::from_millis(50);

/// A head, from its first byte (nginx `client_header_timeout` 60 s; a local client needs none of it).
pub const HEAD: Duration = Duration::from_secs(15);

/// A connection on which no request is under way (nginx `keepalive_timeout`).
pub const KEEP_ALIVE: Duration = Duration::from_secs(75);

/// Between two reads of a request body (nginx `client_body_timeout`).
pub const BODY: Duration = Duration::from_secs(60);

/// Between two writes of an answer (nginx `send_timeout`).
pub const WRITE: Duration = Duration::from_secs(60);

/// What a connection may be waiting for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// The rest of a head, or the next one.
    Head,
    /// The next piece of a request body.
    Body,
    /// The client to take the next piece of an answer.
    Write,
    /// The program to begin its answer. Passed, it ends the exchange and not the connection.
    Answer,
}

/// The limits of one connection. Shared by what reads and writes its socket; all of that is on one thread, the
/// atomics are there because hyper wants its streams to be `Send`.
#[derive(Debug)]
pub struct Deadlines {
    now: Arc<AtomicU32>,
    /// By [`Limit`]: the sweep at which it has passed, or 0.
    due: [AtomicU32; 4],
    /// Whether a request is between its head and the end of its answer.
    in_exchange: AtomicBool,
    /// Whether a request's body was left unread, or its head could not be read at all.
    pub(super) unread: AtomicBool,
}

impl Deadlines {
    /// Starts to wait.
    pub fn arm(&self, limit: Limit, time: Duration) {
        let ticks = u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX);
        // One more, since the present tick is partly over.
        self.due[limit as usize].store(self.now.load(Relaxed).saturating_add(ticks).saturating_add(1), Relaxed);
    }

    /// Starts to wait, unless it waits already.
    pub fn keep_armed(&self, limit: Limit, time: Duration) {
        if self.due[limit as usize].load(Relaxed) == 0 {
            self.arm(limit, time);
        }
    }

    /// Waits anew, if it waits at all.
    pub fn extend(&self, limit: Limit, time: Duration) {
        if self.due[limit as usize].load(Relaxed) != 0 {
            self.arm(limit, time);
        }
    }

    /// Waits no more.
    pub fn disarm(&self, limit: Limit) {
        self.due[limit as usize].store(0, Relaxed);
    }

    /// Waits for the beginning of an answer; `None` where it does not come in time.
    pub async fn answer_in_time<T>(&self, limit: Duration, answer: impl Future<Output = T>) -> Option<T> {
        self.arm(Limit::Answer, limit);
        let mut answer = pin!(answer);
        let answered = poll_fn(|cx| match answer.as_mut().poll(cx) {
            Poll::Ready(answered) => Poll::Ready(Some(answered)),
            Poll::Pending if self.is_over(Limit::Answer) => Poll::Ready(None),
            Poll::Pending => Poll::Pending,
        })
        .await;
        self.disarm(Limit::Answer);
        answered
    }

    /// Whether it has waited too long.
    pub fn is_over(&self, limit: Limit) -> bool {
        let due = self.due[limit as usize].load(Relaxed);
        due != 0 && due <= self.now.load(Relaxed)
    }

    /// A whole head was read.
    pub(super) fn exchange_begins(&self) {
        self.in_exchange.store(true, Relaxed);
        self.disarm(Limit::Head);
    }

    /// The answer was handed over to its end.
    pub fn exchange_ends(&self) {
        self.in_exchange.store(false, Relaxed);
        self.disarm(Limit::Answer);
        self.disarm(Limit::Body);
        self.arm(Limit::Head, KEEP_ALIVE);
    }

    /// Bytes came in. Between exchanges the first of them begin a head, which has less time than the wait for it; but
    /// behind an answer that came early they are the rest of a body, and as long as it moves there is time.
    pub(super) fn bytes_came(&self) {
        if self.in_exchange.load(Relaxed) {
            return;
        }
        if self.unread.load(Relaxed) {
            self.arm(Limit::Head, KEEP_ALIVE);
        } else {
            let head = self.now.load(Relaxed).saturating_add((HEAD.as_millis() / TICK.as_millis()) as u32 + 1);
            self.due[Limit::Head as usize].fetch_min(head, Relaxed);
        }
    }

    /// The client took bytes. What is left of an answer after its exchange may take as long as it moves.
    pub(super) fn bytes_went(&self) {
        self.disarm(Limit::Write);
        if !self.in_exchange.load(Relaxed) {
            self.extend(Limit::Head, KEEP_ALIVE);
        }
    }

    /// The request's body was not read to its end.
    pub fn leave_unread(&self) {
        self.unread.store(true, Relaxed);
    }

    /// The request's body was read to its end.
    pub fn all_read(&self) {
        self.unread.store(false, Relaxed);
    }

    fn any_over(&self) -> bool {
        [Limit::Head, Limit::Body, Limit::Write, Limit::Answer].into_iter().any(|limit| self.is_over(limit))
    }

    /// Which limit ends the connection, if one does.
    pub(super) fn ends_connection(&self) -> Option<Limit> {
        [Limit::Head, Limit::Body, Limit::Write].into_iter().find(|&limit| self.is_over(limit))
    }
}

/// All connections of a worker.
#[derive(Debug, Default)]
pub struct Sweep {
    now: Arc<AtomicU32>,
    entries: RefCell<Vec<Option<Entry>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
    draining: Cell<bool>,
    first: Notify,
}

#[derive(Debug)]
struct Entry {
    deadlines: Arc<Deadlines>,
    waker: Option<Waker>,
}

/// A connection's place in the [`Sweep`]; dropping it gives the place up.
#[derive(Debug)]
pub struct Place {
    sweep: Rc<Sweep>,
    at: usize,
    deadlines: Arc<Deadlines>,
}

impl Sweep {
    /// A place for a new connection, which is waiting for its first head.
    pub fn enter(self: &Rc<Self>) -> Place {
        let deadlines = Arc::new(Deadlines {
            now: Arc::clone(&self.now),
            due: Default::default(),
            in_exchange: AtomicBool::new(false),
            unread: AtomicBool::new(false),
        });
        deadlines.arm(Limit::Head, KEEP_ALIVE);
        let entry = Entry { deadlines: Arc::clone(&deadlines), waker: None };
        let mut entries = self.entries.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or_else(|| {
            entries.push(None);
            entries.len() - 1
        });
        entries[at] = Some(entry);
        self.count.set(self.count.get() + 1);
        self.first.notify_one();
        Place { sweep: Rc::clone(self), at, deadlines }
    }

    /// Sweeps until the future is dropped; sleeps for as long as there is no connection.
    pub async fn run(&self) {
        let mut ticks = interval(TICK);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            if self.count.get() == 0 {
                self.first.notified().await;
                ticks.reset();
            }
            ticks.tick().await;
            self.now.fetch_add(1, Relaxed);
            self.wake(Deadlines::any_over);
        }
    }

    /// Tells every connection to finish what it has in hand and close.
    pub fn drain(&self) {
        self.draining.set(true);
        self.wake(|_| true);
    }

    fn wake(&self, which: impl Fn(&Deadlines) -> bool) {
        for entry in self.entries.borrow().iter().flatten() {
            if which(&entry.deadlines)
                && let Some(waker) = &entry.waker
            {
                waker.wake_by_ref();
            }
        }
    }
}

impl Place {
    /// The limits of this connection.
    pub fn deadlines(&self) -> &Arc<Deadlines> {
        &self.deadlines
    }

    /// The sweep will wake the task of `cx`.
    pub(super) fn wake_me(&self, cx: &Context<'_>) {
        let mut entries = self.sweep.entries.borrow_mut();
        let Some(entry) = &mut entries[self.at] else { return };
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
    }

    /// Whether the connection is to finish and close.
    pub(super) fn is_draining(&self) -> bool {
        self.sweep.draining.get()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.sweep.entries.borrow_mut()[self.at] = None;
        self.sweep.free.borrow_mut().push(self.at);
        self.sweep.count.set(self.sweep.count.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(sweep: &Sweep, times: u32) {
        sweep.now.fetch_add(times, Relaxed);
    }

    #[test]
    fn a_limit_passes_no_earlier_than_its_time_and_at_most_two_ticks_later() {
        let sweep = Rc::new(Sweep::default());
        let place = sweep.enter();
        place.deadlines().arm(Limit::Answer, TICK * 4);
        swept(&sweep, 4);
        assert!(!place.deadlines().is_over(Limit::Answer));
        swept(&sweep, 1);
        assert!(place.deadlines().is_over(Limit::Answer));
        assert_eq!(place.deadlines().ends_connection(), None);
    }

    #[test]
    fn the_first_byte_of_a_head_shortens_the_wait_and_later_ones_do_not_lengthen_it() {
        let sweep = Rc::new(Sweep::default());
        let place = sweep.enter();
        place.deadlines().bytes_came();
        let head = (HEAD.as_millis() / TICK.as_millis()) as u32;
        swept(&sweep, head);
        place.deadlines().bytes_came();
        swept(&sweep, 1);
        assert_eq!(place.deadlines().ends_connection(), Some(Limit::Head));
    }

    #[test]
    fn the_rest_of_a_body_behind_an_early_answer_has_time_while_it_moves() {
        let sweep = Rc::new(Sweep::default());
        let place = sweep.enter();
        let head = (HEAD.as_millis() / TICK.as_millis()) as u32;
        place.deadlines().exchange_begins();
        place.deadlines().leave_unread();
        place.deadlines().exchange_ends();
        for _ in 0..20 {
            place.deadlines().bytes_came();
            swept(&sweep, head);
            assert_eq!(place.deadlines().ends_connection(), None);
        }
        swept(&sweep, (KEEP_ALIVE.as_millis() / TICK.as_millis()) as u32);
        assert_eq!(place.deadlines().ends_connection(), Some(Limit::Head));
    }

    #[test]
    fn the_rest_of_an_answer_has_time_while_it_moves() {
        let sweep = Rc::new(Sweep::default());
        let place = sweep.enter();
        place.deadlines().exchange_begins();
        place.deadlines().exchange_ends();
        let almost = (KEEP_ALIVE.as_millis() / TICK.as_millis()) as u32;
        for _ in 0..3 {
            swept(&sweep, almost);
            assert_eq!(place.deadlines().ends_connection(), None);
            place.deadlines().bytes_went();
        }
    }

    #[test]
    fn a_place_is_used_again() {
        let sweep = Rc::new(Sweep::default());
        drop(sweep.enter());
        let _second = sweep.enter();
        assert_eq!(sweep.entries.borrow().len(), 1);
    }
}
