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
    rc::Rc,
    task::{Context, Waker},
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
    /// The program to begin its answer.
    Answer,
    /// The program to say whether it wants the body of a request.
    Continue,
    /// The rest of a body behind an answer that did not wait for it.
    Rest,
    /// Another look at a client whose leaving would wake nobody.
    Look,
}

const LIMITS: usize = 7;

/// The limits of one connection.
#[derive(Debug)]
pub struct Deadlines {
    clock: Rc<Clock>,
    /// By [`Limit`]: the sweep at which it has passed, or 0.
    due: [Cell<u32>; LIMITS],
}

/// What all connections of a worker are told by its sweep.
#[derive(Debug, Default)]
struct Clock {
    now: Cell<u32>,
    draining: Cell<bool>,
}

impl Deadlines {
    /// Starts to wait.
    pub fn arm(&self, limit: Limit, time: Duration) {
        let ticks = u32::try_from(time.as_millis().div_ceil(TICK.as_millis())).unwrap_or(u32::MAX);
        // One more, since the present tick is partly over.
        self.due[limit as usize].set(self.clock.now.get().saturating_add(ticks).saturating_add(1));
    }

    /// Waits while that is so, and from the moment in which it began.
    pub fn keep_armed_while(&self, waits: bool, limit: Limit, time: Duration) {
        if !waits {
            self.disarm(limit);
        } else if self.due[limit as usize].get() == 0 {
            self.arm(limit, time);
        }
    }

    /// Waits anew, if it waits at all.
    pub fn extend(&self, limit: Limit, time: Duration) {
        if self.due[limit as usize].get() != 0 {
            self.arm(limit, time);
        }
    }

    /// Waits no more.
    pub fn disarm(&self, limit: Limit) {
        self.due[limit as usize].set(0);
    }

    /// Waits for nothing any more.
    pub fn disarm_all(&self) {
        for due in &self.due {
            due.set(0);
        }
    }

    /// Whether it has waited too long.
    pub fn is_over(&self, limit: Limit) -> bool {
        self.is_due(self.due[limit as usize].get())
    }

    /// Whether the connection is to finish what it has in hand and close.
    pub fn is_draining(&self) -> bool {
        self.clock.draining.get()
    }

    fn is_due(&self, due: u32) -> bool {
        due != 0 && due <= self.clock.now.get()
    }

    fn any_over(&self) -> bool {
        self.due.iter().any(|due| self.is_due(due.get()))
    }
}

/// Connections in one block of them.
const BLOCK: usize = 128;

/// All connections of a worker, with what `T` says of each.
#[derive(Debug)]
pub struct Sweep<T> {
    clock: Rc<Clock>,
    /// In blocks, so that nothing is moved, and no hole is left, as they become more.
    entries: RefCell<Vec<Vec<Option<Entry<T>>>>>,
    free: RefCell<Vec<usize>>,
    count: Cell<usize>,
    first: Notify,
}

#[derive(Debug)]
struct Entry<T> {
    seat: Rc<Seat<T>>,
    waker: Option<Waker>,
}

/// What is kept of a connection for as long as it lasts, in one piece of memory.
#[derive(Debug)]
pub struct Seat<T> {
    /// Its limits.
    pub deadlines: Deadlines,
    /// Whose it is.
    pub client: T,
}

/// A connection's place in the [`Sweep`]; dropping it gives the place up.
#[derive(Debug)]
pub struct Place<T> {
    sweep: Rc<Sweep<T>>,
    at: usize,
    seat: Rc<Seat<T>>,
}

impl<T> Default for Sweep<T> {
    fn default() -> Self {
        Self {
            clock: Rc::default(),
            entries: RefCell::default(),
            free: RefCell::default(),
            count: Cell::new(0),
            first: Notify::new(),
        }
    }
}

impl<T> Sweep<T> {
    /// A place for a new connection, which is waiting for its first head.
    pub fn enter(self: &Rc<Self>, client: T) -> Place<T> {
        let deadlines = Deadlines { clock: Rc::clone(&self.clock), due: Default::default() };
        deadlines.arm(Limit::Head, KEEP_ALIVE);
        let seat = Rc::new(Seat { deadlines, client });
        let entry = Entry { seat: Rc::clone(&seat), waker: None };
        let mut entries = self.entries.borrow_mut();
        let at = self.free.borrow_mut().pop().unwrap_or_else(|| {
            if entries.last().is_none_or(|block| block.len() == BLOCK) {
                entries.push(Vec::with_capacity(BLOCK));
            }
            let full = (entries.len() - 1) * BLOCK;
            let last = entries.last_mut().map_or(0, |block| {
                block.push(None);
                block.len() - 1
            });
            full + last
        });
        entries[at / BLOCK][at % BLOCK] = Some(entry);
        self.count.set(self.count.get() + 1);
        self.first.notify_one();
        Place { sweep: Rc::clone(self), at, seat }
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
            self.clock.now.set(self.clock.now.get() + 1);
            self.wake(Deadlines::any_over);
        }
    }

    /// Tells every connection to finish what it has in hand and close.
    pub fn drain(&self) {
        self.clock.draining.set(true);
        self.wake(|_| true);
    }

    fn wake(&self, which: impl Fn(&Deadlines) -> bool) {
        for entry in self.entries.borrow().iter().flatten().flatten() {
            if which(&entry.seat.deadlines)
                && let Some(waker) = &entry.waker
            {
                waker.wake_by_ref();
            }
        }
    }
}

impl<T> Place<T> {
    /// The connection that has this place.
    pub fn seat(&self) -> &Rc<Seat<T>> {
        &self.seat
    }

    /// A place for what is carried within this connection.
    pub fn within(&self, client: impl FnOnce(&T) -> T) -> Self {
        self.sweep.enter(client(&self.seat.client))
    }

    /// The sweep will wake the task of `cx`.
    pub(super) fn wake_me(&self, cx: &Context<'_>) {
        let mut entries = self.sweep.entries.borrow_mut();
        let Some(entry) = &mut entries[self.at / BLOCK][self.at % BLOCK] else { return };
        if !entry.waker.as_ref().is_some_and(|waker| waker.will_wake(cx.waker())) {
            entry.waker = Some(cx.waker().clone());
        }
    }
}

impl<T> Drop for Place<T> {
    fn drop(&mut self) {
        self.sweep.entries.borrow_mut()[self.at / BLOCK][self.at % BLOCK] = None;
        self.sweep.free.borrow_mut().push(self.at);
        self.sweep.count.set(self.sweep.count.get() - 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn swept(sweep: &Sweep<()>, times: u32) {
        sweep.clock.now.set(sweep.clock.now.get() + times);
    }

    #[test]
    fn a_limit_passes_no_earlier_than_its_time_and_at_most_two_ticks_later() {
        let sweep = Rc::new(Sweep::default());
        let place = sweep.enter(());
        place.seat().deadlines.arm(Limit::Answer, TICK * 4);
        swept(&sweep, 4);
        assert!(!place.seat().deadlines.is_over(Limit::Answer));
        swept(&sweep, 1);
        assert!(place.seat().deadlines.is_over(Limit::Answer));
        assert!(!place.seat().deadlines.is_over(Limit::Head));
    }

    #[test]
    fn a_wait_that_goes_on_is_counted_from_its_beginning() {
        let sweep = Rc::new(Sweep::default());
        let place = sweep.enter(());
        for _ in 0..5 {
            assert!(!place.seat().deadlines.is_over(Limit::Body));
            place.seat().deadlines.keep_armed_while(true, Limit::Body, TICK * 4);
            swept(&sweep, 1);
        }
        assert!(place.seat().deadlines.is_over(Limit::Body));
        place.seat().deadlines.keep_armed_while(false, Limit::Body, TICK * 4);
        assert!(!place.seat().deadlines.is_over(Limit::Body));
    }

    #[test]
    fn a_place_is_used_again() {
        let sweep = Rc::new(Sweep::default());
        drop(sweep.enter(()));
        let _second = sweep.enter(());
        assert_eq!(sweep.entries.borrow().iter().flatten().count(), 1);
    }
}
