//! Where a program that moves is now: written by whoever follows it, read and waited for by every worker.
//!
//! A place is looked at only when a connection is made, and waited for only where a route holds requests; a request on
//! a kept connection never asks. Nothing is looked up here: [`crate::discover`] and [`crate::supervise`] know, `app` tells.

use std::{
    fmt,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, watch},
    time::{Instant, sleep_until, timeout_at},
};

/// The most requests that wait for one program at once. Each may keep a body of 64 KiB; a test of load sends some 50 a second
/// for ten seconds.
pub const MOST_WAITING: usize = 1_000;

/// How soon a connection is tried again where the program is said to listen and refused all the same: what is said is
/// as old as the last look, and that is the pace of looking while somebody waits.
pub const AGAIN: Duration = Duration::from_millis(50);

/// Between two that waited, when they are let go: a program that has just begun to listen takes only so many connections at
/// once (5 in Python's `http.server`), and what comes beyond them waits a second for its next try.
const ONE_BY_ONE: Duration = Duration::from_millis(10);

/// How many are let go one by one: the last of them has waited three seconds more.
const MOST_IN_TURN: u32 = 300;

/// What is known of a program.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Standing {
    /// It listens.
    At(Spot),
    /// It does not, or not as it should.
    Absent(Arc<Absence>),
}

/// Where a program listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Spot {
    /// To be tried in this order; never empty.
    pub addresses: Arc<[SocketAddr]>,
    /// Tells one socket at an address from the next one there: a program that was restarted where it was.
    pub socket: u64,
    /// Where somebody else takes the connections for the program: hears whether it listens itself.
    pub ear: Option<Ear>,
}

impl Spot {
    /// The addresses at which the program listens in this very moment, as far as can be told without connecting.
    pub fn heard(&self) -> Vec<SocketAddr> {
        let is_heard = |address: &SocketAddr| self.ear.as_ref().is_none_or(|ear| (ear.0)(*address));
        self.addresses.iter().copied().filter(is_heard).collect()
    }
}

/// Hears whether a program listens behind an address.
#[derive(Clone)]
pub struct Ear(Arc<dyn Fn(SocketAddr) -> bool + Send + Sync>);

impl Ear {
    /// An ear that asks `listens`, which must not block for longer than a few milliseconds.
    pub fn new(listens: impl Fn(SocketAddr) -> bool + Send + Sync + 'static) -> Self {
        Self(Arc::new(listens))
    }
}

/// Two ears at one socket hear the same.
impl PartialEq for Ear {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Ear {}

impl fmt::Debug for Ear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ear")
    }
}

/// Why a program cannot be reached, as it is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Absence {
    /// Its kind.
    pub kind: Absent,
    /// Goes on after `route web -> service api, `: "it has not begun to listen".
    pub message: String,
    /// Causes found by looking; lines of a note after its first are told as they are.
    pub notes: Vec<String>,
    /// One edit or command each.
    pub helps: Vec<String>,
}

/// The kinds of absence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Absent {
    /// It was started, or is being started again, and will listen as far as anybody knows.
    Starting,
    /// Nothing like it runs, or it listens nowhere, or it cannot be told from others.
    Gone,
    /// Somebody else listens in its place.
    Usurped,
}

/// The place of one endpoint.
#[derive(Debug)]
pub struct Place {
    standing: watch::Sender<Standing>,
    waiting: AtomicUsize,
    /// How many were let go since the last news.
    released: AtomicU32,
    /// Whether somebody has missed the program since this was last asked.
    missed: AtomicBool,
    /// Rung for each request that misses the program.
    bell: Arc<Notify>,
}

/// Why a wait came to nothing.
#[derive(Debug)]
pub enum Unheld {
    /// The time is over.
    Expired,
    /// Too many wait already.
    Crowded,
}

impl Place {
    /// A place of which nothing is known yet; `bell` calls whoever follows the program.
    pub fn new(bell: Arc<Notify>) -> Self {
        let unseen = Absence {
            kind: Absent::Starting,
            message: "nobody has looked for it yet".into(),
            notes: Vec::new(),
            helps: vec!["ask again in a moment".into()],
        };
        Self {
            standing: watch::Sender::new(Standing::Absent(Arc::new(unseen))),
            waiting: AtomicUsize::new(0),
            released: AtomicU32::new(0),
            missed: AtomicBool::new(false),
            bell,
        }
    }

    /// Notes that a request has missed the program: what is known of it may be old.
    pub fn miss(&self) {
        self.missed.store(true, Relaxed);
        self.bell.notify_one();
    }

    /// Whether a request waits, or has missed the program since this was last asked.
    pub fn is_wanted(&self) -> bool {
        self.missed.swap(false, Relaxed) || self.waiting() > 0
    }

    /// What is known.
    pub fn standing(&self) -> Standing {
        self.standing.borrow().clone()
    }

    /// Tells what became known, and lets those who waited for a program that listens try it. Whether it changed anything.
    pub fn tell(&self, standing: Standing) -> bool {
        self.standing.send_if_modified(|known| {
            let is_news = *known != standing;
            *known = standing;
            self.released.store(0, Relaxed);
            is_news
        })
    }

    /// How many requests wait.
    pub fn waiting(&self) -> usize {
        self.waiting.load(Relaxed)
    }

    /// Returns when another try may meet a listener, after one did not: by the news that it listens, not by trying.
    pub async fn wait(&self, deadline: Instant) -> Result<(), Unheld> {
        let _waiting = self.enter().ok_or(Unheld::Crowded)?;
        let mut standing = self.standing.subscribe();
        if matches!(*standing.borrow_and_update(), Standing::At(_)) {
            let soon = deadline.min(Instant::now() + AGAIN);
            let _ = timeout_at(soon, standing.changed()).await;
            return if Instant::now() < deadline { Ok(()) } else { Err(Unheld::Expired) };
        }
        let is_there = standing.wait_for(|known| matches!(known, Standing::At(_)));
        timeout_at(deadline, is_there).await.map_err(|_| Unheld::Expired).map(drop)?;
        let turn = self.released.fetch_add(1, Relaxed).min(MOST_IN_TURN);
        sleep_until(deadline.min(Instant::now() + ONE_BY_ONE * turn)).await;
        Ok(())
    }

    fn enter(&self) -> Option<Waiting<'_>> {
        let before = self.waiting.fetch_add(1, Relaxed);
        let waiting = Waiting(self);
        self.bell.notify_one();
        (before < MOST_WAITING).then_some(waiting)
    }
}

/// One request that waits.
struct Waiting<'p>(&'p Place);

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.waiting.fetch_sub(1, Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> Place {
        Place::new(Arc::default())
    }

    fn at(port: u16) -> Standing {
        let addresses = [SocketAddr::from(([127, 0, 0, 1], port))];
        Standing::At(Spot { addresses: addresses.into(), socket: u64::from(port), ear: None })
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_waits_is_released_by_the_news() {
        let place = place();
        let deadline = Instant::now() + Duration::from_secs(10);
        let (waited, ()) = tokio::join!(place.wait(deadline), async {
            tokio::time::sleep(Duration::from_secs(3)).await;
            assert_eq!(place.waiting(), 1);
            assert!(place.tell(at(8000)));
        });
        assert!(waited.is_ok());
        assert_eq!((place.waiting(), Instant::now()), (0, deadline - Duration::from_secs(7)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_has_an_end() {
        let place = place();
        let waited = place.wait(Instant::now() + Duration::from_secs(10)).await;
        assert!(matches!(waited, Err(Unheld::Expired)));
    }

    #[tokio::test(start_paused = true)]
    async fn who_is_said_to_listen_is_tried_again_soon() {
        let place = place();
        place.tell(at(8000));
        let begun = Instant::now();
        assert!(place.wait(begun + Duration::from_secs(10)).await.is_ok());
        assert_eq!(begun.elapsed(), AGAIN);
    }

    #[tokio::test(start_paused = true)]
    async fn one_more_than_may_wait_is_turned_away() {
        let place = Arc::new(place());
        let deadline = Instant::now() + Duration::from_secs(10);
        let waiting: Vec<_> = (0..MOST_WAITING)
            .map(|_| {
                let place = Arc::clone(&place);
                tokio::spawn(async move { place.wait(deadline).await.is_ok() })
            })
            .collect();
        while place.waiting() < MOST_WAITING {
            tokio::task::yield_now().await;
        }
        assert!(matches!(place.wait(deadline).await, Err(Unheld::Crowded)));
        place.tell(at(8000));
        for waited in waiting {
            assert!(waited.await.unwrap());
        }
    }
}
