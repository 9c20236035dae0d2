//! Two-phase shutdown: stop taking work, finish what is in hand, then end.
//!
//! A [`Trigger`] tells every [`Watcher`] that draining began. Work that must be finished holds a
//! [`Guard`]; [`Trigger::drained`] returns when the last one is gone. How long that may take is the
//! caller's decision: this file holds no clock.

use tokio::sync::{mpsc, watch};

/// The one end that starts the drain and waits for it. Dropping it drains too.
#[derive(Debug)]
pub struct Trigger {
    begun: watch::Sender<bool>,
    guards: mpsc::Receiver<()>,
}

/// Learns that the drain began.
#[derive(Debug, Clone)]
pub struct Watcher {
    begun: watch::Receiver<bool>,
    guard: mpsc::Sender<()>,
}

/// Work in hand. Dropping it tells the [`Trigger`] that the work is done.
#[derive(Debug)]
pub struct Guard {
    _alive: mpsc::Sender<()>,
}

/// A trigger and the first of its watchers.
pub fn channel() -> (Trigger, Watcher) {
    let (begin, begun) = watch::channel(false);
    let (guard, guards) = mpsc::channel(1);
    (Trigger { begun: begin, guards }, Watcher { begun, guard })
}

impl Trigger {
    /// Begins the drain and returns when the last guard and the last watcher are gone.
    pub async fn drained(mut self) {
        self.begun.send_replace(true);
        // Nothing is ever sent: the channel ends when every sender, and so every guard, was dropped.
        while self.guards.recv().await.is_some() {}
    }
}

impl Watcher {
    /// Returns when the drain begins.
    pub async fn begun(&mut self) {
        // An error means that the trigger is gone, which ends the work just as well.
        let _ = self.begun.wait_for(|begun| *begun).await;
    }

    /// Work that the drain waits for.
    pub fn guard(&self) -> Guard {
        Guard { _alive: self.guard.clone() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_drain_waits_for_the_last_guard() {
        let (trigger, mut watcher) = channel();
        let work = tokio::spawn(async move {
            let guard = watcher.guard();
            watcher.begun().await;
            drop(watcher);
            drop(guard);
            "finished"
        });
        trigger.drained().await;
        assert_eq!(work.await.expect("the work ends"), "finished");
    }
}
