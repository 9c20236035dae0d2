//! Keeps a snapshot of all containers in step with the engines' events.
//!
//! Each engine has a task, which subscribes to the events before it takes its first list, so that nothing is lost
//! between the two. What an event says is not read: whatever happened, the list tells how things stand, and a storm of
//! events costs no more than a list every [`PACE`]. When an engine goes, so does all that it told, at once: its ports may
//! be another's in the next moment.

use std::{convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Container, Containers, Engine, Place, Reach, Whereabouts,
    client::Events,
    session::{Learned, Session},
    trouble::Trouble,
};

/// Between two lists of one engine, however many events it sends.
const PACE: Duration = Duration::from_millis(50);

/// For how long lists are taken, at that pace, behind an event: Docker tells of a pause and of an end before its own list
/// knows it, by some 30 ms where nothing else is to be done.
const SETTLING: Duration = Duration::from_millis(250);

/// Between two tries to reach an engine, at first and at most.
const RETRIES: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(1));

/// Between two looks at where engines are.
const LOOK: Duration = Duration::from_secs(1);

/// How long [`look`] takes at most.
const ONCE: Duration = Duration::from_secs(1);

/// Follows all engines, in tasks of the current runtime that end when the last receiver is gone. The receiver has the
/// latest snapshot at any time, and the first at once: of engines that are still being asked.
pub fn follow(whereabouts: Whereabouts) -> watch::Receiver<Arc<Containers>> {
    let (tell, receiver) = watch::channel(Arc::default());
    let tell = Arc::new(tell);
    let mut attended = Attended::default();
    attended.attend(&whereabouts, &tell);
    tokio::spawn(async move {
        while timeout(LOOK, tell.closed()).await.is_err() {
            attended.attend(&whereabouts, &tell);
        }
    });
    receiver
}

/// What all engines say now, within a second; an engine that takes longer is told as still being asked.
pub async fn look(whereabouts: &Whereabouts) -> Containers {
    let tell = Arc::new(watch::Sender::new(Arc::default()));
    let mut asked = JoinSet::new();
    for place in whereabouts.places() {
        let view = View::new(place, &tell);
        asked.spawn(async move {
            if let Err(trouble) = view.take().await {
                view.tell(Reach::Absent(trouble), Vec::new());
            }
        });
    }
    // Whoever has not answered by then has said nothing, which the snapshot tells.
    let _ = timeout(ONCE, asked.join_all()).await;
    tell.borrow().as_ref().clone()
}

/// The engines that have a task.
#[derive(Default)]
struct Attended {
    engines: Vec<(Arc<Place>, AbortHandle)>,
    /// Ends them all with itself.
    tasks: JoinSet<Infallible>,
}

impl Attended {
    /// Gives each engine that has come a task, and forgets those that have gone.
    fn attend(&mut self, whereabouts: &Whereabouts, tell: &Arc<watch::Sender<Arc<Containers>>>) {
        let places = whereabouts.places();
        self.engines.retain(|(place, task)| {
            let stays = places.contains(place);
            if !stays {
                task.abort();
                tell.send_modify(|all| *all = Arc::new(all.without(place)));
            }
            stays
        });
        for place in places {
            if !self.engines.iter().any(|(attended, _)| **attended == place) {
                let view = View::new(place, tell);
                self.engines.push((Arc::clone(&view.place), self.tasks.spawn(view.follow())));
            }
        }
    }
}

/// One engine as it is told in the snapshot.
struct View {
    place: Arc<Place>,
    snapshot: Arc<watch::Sender<Arc<Containers>>>,
}

impl View {
    /// Tells that the engine is being asked.
    fn new(place: Place, snapshot: &Arc<watch::Sender<Arc<Containers>>>) -> Self {
        let place = Arc::new(place);
        snapshot.send_modify(|all| *all = Arc::new(all.with(&place)));
        Self { place, snapshot: Arc::clone(snapshot) }
    }

    /// Tells what the engine is like now, unless it was forgotten meanwhile; no news are not told.
    fn tell(&self, state: Reach, list: Vec<Container>) {
        self.snapshot.send_if_modified(|all| {
            let told = all.told(&self.place, state, list);
            let is_news = told != **all;
            if is_news {
                *all = Arc::new(told);
            }
            is_news
        });
    }

    /// Follows the engine through all its ends.
    async fn follow(self) -> Infallible {
        let mut pause = RETRIES.0;
        loop {
            let trouble = match self.attend(&mut pause).await {
                Ok(never) => match never {},
                Err(trouble) => trouble,
            };
            self.tell(Reach::Absent(trouble), Vec::new());
            sleep(pause).await;
            pause = (pause * 2).min(RETRIES.1);
        }
    }

    /// Follows the engine until it ends. `pause` begins anew once it has told something.
    async fn attend(&self, pause: &mut Duration) -> Result<Infallible, Trouble> {
        let mut session = Session::begin(&self.place).await?;
        let mut events = session.events().await?;
        let mut learned = self.refresh(&mut session).await?;
        // When the list tells all that the events have told.
        let mut settled = Instant::now();
        *pause = RETRIES.0;
        loop {
            let next = Instant::now() + PACE;
            let is_done = matches!(learned, Learned::All) && settled <= next;
            if is_done {
                events.next().await?;
            }
            if pass_over(&mut events, next).await? || is_done {
                settled = Instant::now() + SETTLING;
            }
            learned = self.refresh(&mut session).await?;
        }
    }

    /// Takes one list.
    async fn take(&self) -> Result<(), Trouble> {
        self.refresh(&mut Session::begin(&self.place).await?).await.map(drop)
    }

    /// Takes a list and tells it.
    async fn refresh(&self, session: &mut Session) -> Result<Learned, Trouble> {
        let (list, learned) = session.list().await?;
        self.tell(Reach::Reached { version: session.version().into() }, list);
        Ok(learned)
    }
}

/// Reads events and lets them be, until then; whether there was any.
async fn pass_over(events: &mut Events, until: Instant) -> Result<bool, Trouble> {
    let mut was_any = false;
    while Instant::now() < until {
        match timeout_at(until, events.next()).await {
            Ok(event) => event?,
            Err(_elapsed) => break,
        }
        was_any = true;
    }
    Ok(was_any)
}

impl Containers {
    /// The same with an engine that is being asked.
    fn with(&self, place: &Arc<Place>) -> Self {
        let mut all = self.clone();
        all.engines.push(Engine { place: Arc::clone(place), state: Reach::Asked });
        all
    }

    /// The same without that engine.
    fn without(&self, place: &Arc<Place>) -> Self {
        let mut all = self.clone();
        all.engines.retain(|engine| !Arc::ptr_eq(&engine.place, place));
        all.list.retain(|container| !Arc::ptr_eq(&container.engine, place));
        all
    }

    /// The same with what that engine tells; unchanged where it is not among them any more.
    fn told(&self, place: &Arc<Place>, state: Reach, list: Vec<Container>) -> Self {
        let mut all = self.clone();
        let Some(engine) = all.engines.iter_mut().find(|engine| Arc::ptr_eq(&engine.place, place)) else { return all };
        engine.state = state;
        all.list.retain(|container| !Arc::ptr_eq(&container.engine, place));
        all.list.extend(list);
        all.list.sort_by(|one, other| (&one.name, &one.id).cmp(&(&other.name, &other.id)));
        all
    }
}
