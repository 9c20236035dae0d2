//! One look at who listens, shared by all who ask within a moment, and off the threads that answer requests.
//!
//! Reading the owners of sockets takes some ten milliseconds and every request that fails wants to know them, so
//! whoever asks while a look is under way, or soon after it, is given that one. What looks saw is remembered as far
//! as it tells which program held a port before it left.

use std::{
    collections::HashMap,
    io,
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    sync::watch,
    task::spawn_blocking,
    time::{Instant, timeout},
};

use super::{Listener, listeners};

/// For so long after its end a look is good enough for the next who asks.
const FRESH: Duration = Duration::from_millis(250);

/// The longest that anybody waits for a look; a page goes out without it then.
const PATIENCE: Duration = Duration::from_secs(1);

/// What a look saw.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sight {
    /// Everybody who listens, by port, then by address.
    pub listeners: Vec<Listener>,
    /// Who held a port in the last look in which somebody did.
    holders: HashMap<u16, Holder>,
}

/// A program as it is known again after a restart.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// The file name of its executable.
    pub program: String,
    /// The folder it works in.
    pub folder: Option<PathBuf>,
}

impl Sight {
    /// These listeners, and what `before` remembers of ports that nobody holds any more.
    pub fn new(listeners: Vec<Listener>, before: Option<&Self>) -> Self {
        let mut holders = before.map(|before| before.holders.clone()).unwrap_or_default();
        holders.extend(listeners.iter().filter_map(|listener| {
            let owner = listener.owner.as_ref()?;
            let holder = Holder { program: owner.program.clone(), folder: owner.folder.clone() };
            Some((listener.address.port(), holder))
        }));
        Self { listeners, holders }
    }

    /// Who holds this port, or held it last.
    pub fn holder(&self, port: u16) -> Option<&Holder> {
        self.holders.get(&port)
    }
}

/// The last look; one for all workers of a proxy.
#[derive(Debug, Default)]
pub struct Looks(Mutex<Option<Look>>);

/// Filled with what the look saw, and when it was over.
type Look = watch::Receiver<Option<(Instant, Arc<Sight>)>>;

impl Looks {
    /// Who listens now, or did a quarter of a second ago; `None` where the system does not tell, or not within a second.
    /// Must be called on a runtime.
    pub async fn look(&self) -> Option<Arc<Sight>> {
        self.look_by(listeners).await
    }

    async fn look_by(&self, read: impl FnOnce() -> io::Result<Vec<Listener>> + Send + 'static) -> Option<Arc<Sight>> {
        let mut look = self.join(read);
        let seen = timeout(PATIENCE, look.wait_for(Option::is_some)).await.ok()?.ok()?;
        seen.as_ref().map(|(_, sight)| Arc::clone(sight))
    }

    /// The look that is under way or was just done, or a new one.
    fn join(&self, read: impl FnOnce() -> io::Result<Vec<Listener>> + Send + 'static) -> Look {
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(look) = last.as_ref().filter(|look| is_good(look)) {
            return look.clone();
        }
        let before = last.as_ref().and_then(|look| look.borrow().as_ref().map(|(_, sight)| Arc::clone(sight)));
        let (tell, look) = watch::channel(None);
        spawn_blocking(move || {
            if let Ok(listeners) = read() {
                tell.send_replace(Some((Instant::now(), Arc::new(Sight::new(listeners, before.as_deref())))));
            }
        });
        *last = Some(look.clone());
        look
    }
}

/// Whether it is under way or was over a moment ago. Of one that failed nobody is left to tell anything.
fn is_good(look: &Look) -> bool {
    match &*look.borrow() {
        Some((end, _)) => end.elapsed() < FRESH,
        None => look.has_changed().is_ok(),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        atomic::{AtomicUsize, Ordering::Relaxed},
        mpsc,
    };

    use tokio::{task::JoinSet, time::advance};

    use super::*;
    use crate::discover::Owner;

    fn node(port: u16, folder: &str) -> Listener {
        let owner = Owner {
            pid: 4812,
            program: "node".into(),
            command: "node server.js".into(),
            folder: Some(folder.into()),
            started: None,
        };
        Listener { address: ([127, 0, 0, 1], port).into(), owner: Some(owner), uid: None }
    }

    #[tokio::test(start_paused = true)]
    async fn five_hundred_who_ask_at_once_share_one_look() {
        let (looks, count) = (Arc::new(Looks::default()), Arc::new(AtomicUsize::new(0)));
        let (finish, finished) = mpsc::channel::<()>();
        let finished = Arc::new(Mutex::new(finished));
        let mut asked = JoinSet::new();
        for _ in 0..500 {
            let (looks, count, finished) = (Arc::clone(&looks), Arc::clone(&count), Arc::clone(&finished));
            asked.spawn(async move {
                let read = move || {
                    count.fetch_add(1, Relaxed);
                    // Nobody has a result before all have asked; the end of the test ends the wait, too.
                    let _ = finished.lock().unwrap().recv();
                    Ok(vec![node(5173, "/shop")])
                };
                looks.look_by(read).await
            });
        }
        while Arc::strong_count(&count) > 2 {
            tokio::task::yield_now().await;
        }
        finish.send(()).unwrap();
        let seen: Vec<_> = asked.join_all().await;
        assert_eq!((seen.len(), count.load(Relaxed)), (500, 1));
        assert!(seen.iter().all(|sight| sight.as_ref().is_some_and(|sight| sight.listeners.len() == 1)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_look_serves_for_a_quarter_of_a_second() {
        let looks = Looks::default();
        let first = looks.look_by(|| Ok(vec![node(1, "/")])).await.unwrap();
        advance(FRESH / 2).await;
        let again = looks.look_by(|| Ok(Vec::new())).await.unwrap();
        assert!(Arc::ptr_eq(&first, &again));
        advance(FRESH).await;
        assert_eq!(looks.look_by(|| Ok(Vec::new())).await.unwrap().listeners, []);
    }

    #[tokio::test(start_paused = true)]
    async fn nobody_waits_long_for_a_slow_look_nor_begins_another() {
        let looks = Looks::default();
        let (finish, finished) = mpsc::channel::<()>();
        let slow = move || {
            let _ = finished.recv();
            Ok(vec![node(1, "/")])
        };
        let (seen, ()) = tokio::join!(looks.look_by(slow), advance(PATIENCE + Duration::from_millis(1)));
        assert_eq!(seen, None);
        let mut same = looks.join(|| Err(io::ErrorKind::Other.into()));
        finish.send(()).unwrap();
        assert!(same.wait_for(Option::is_some).await.is_ok());
    }

    #[tokio::test]
    async fn a_look_that_fails_tells_nothing_and_the_next_one_is_a_new_one() {
        let looks = Looks::default();
        assert_eq!(looks.look_by(|| Err(io::ErrorKind::Other.into())).await, None);
        assert!(looks.look_by(|| Ok(Vec::new())).await.is_some());
    }

    #[test]
    fn who_held_a_port_is_remembered_until_another_holds_it() {
        let folder = |sight: &Sight| sight.holder(5173).and_then(|holder| holder.folder.clone());
        let first = Sight::new(vec![node(5173, "/shop")], None);
        let gone = Sight::new(vec![node(5174, "/shop")], Some(&first));
        let another = Sight::new(vec![node(5173, "/blog")], Some(&gone));
        assert_eq!(folder(&gone), Some("/shop".into()));
        assert_eq!(folder(&another), Some("/blog".into()));
    }
}
