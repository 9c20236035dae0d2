//! Keeps a snapshot of all containers in step with the engines' events.
//!
//! Each engine has a task, which subscribes to the events before it takes its first list, so that nothing is lost
//! between the two. What an event says is not read: whatever happened, the list tells how things stand, and a storm of
//! events costs no more than a list every [`PACE`]. When an engine goes, so does all that it told, at once: its ports may
//! be another's in the next moment.

use std::{collections::HashMap, convert::Infallible, sync::Arc, time::Duration};

use tokio::{
    sync::watch,
    task::{AbortHandle, JoinSet},
    time::{Instant, sleep, timeout, timeout_at},
};

use super::{
    Container, Containers, Engine, Inside, Place, Reach, State, Whereabouts,
    client::{Client, Events},
    told::{self, About, Details},
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

/// How long the looks at single containers may keep a list from being told.
const LEARNING: Duration = Duration::from_millis(250);

/// How long [`look`] takes at most.
const ONCE: Duration = Duration::from_secs(1);

/// The events that may change what we tell: all of containers.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";

/// All of them, also those that do not run: why one cannot be reached is told, too.
const LIST: &str = "/containers/json?all=1";

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
        let mut session = Session::begin(self).await?;
        let mut events = session.events().await?;
        let mut learned = session.refresh().await?;
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
            learned = session.refresh().await?;
        }
    }

    /// Takes one list.
    async fn take(&self) -> Result<(), Trouble> {
        Session::begin(self).await?.refresh().await.map(drop)
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

/// A talk with one run of an engine.
struct Session<'v> {
    view: &'v View,
    client: Client,
    about: About,
    known: HashMap<String, Known>,
}

/// What the look at one container told.
struct Known {
    /// The container as the list told it at that time.
    listed: Container,
    details: Details,
    inside: Option<Arc<Inside>>,
}

/// Whether a list was told with everything that can be known.
enum Learned {
    All,
    /// The time was over before every container had been looked at.
    Part,
}

impl<'v> Session<'v> {
    async fn begin(view: &'v View) -> Result<Self, Trouble> {
        let client = Client::open(&view.place.door).await?;
        let about = told::about(&client.get("/version").await?).map_err(unreadable)?;
        Ok(Self { view, client, about, known: HashMap::new() })
    }

    async fn events(&self) -> Result<Events, Trouble> {
        self.client.events(&format!("{}{EVENTS}", self.about.prefix)).await
    }

    /// Takes the list and tells it.
    async fn refresh(&mut self) -> Result<Learned, Trouble> {
        let json = self.client.get(&format!("{}{LIST}", self.about.prefix)).await?;
        let mut list = told::containers(&json, &self.view.place, self.client.host()).map_err(unreadable)?;
        // What runs is asked for; the others are looked at when there is time.
        list.sort_by_key(|container| !container.is_up());
        let learned = self.learn(&mut list).await;
        self.view.tell(Reach::Reached { version: self.about.version.clone() }, list);
        Ok(learned)
    }

    /// Looks at the containers of which the list tells something new.
    async fn learn(&mut self, list: &mut [Container]) -> Learned {
        let deadline = Instant::now() + LEARNING;
        let mut learned = Learned::All;
        let mut known = std::mem::take(&mut self.known);
        for container in list.iter_mut().filter(|container| has_details(container)) {
            let known = match known.remove(&container.id).filter(|known| known.is_true_of(container)) {
                Some(known) => known,
                None => match timeout_at(deadline, self.inspect(container)).await {
                    Ok(Some(known)) => known,
                    // It has just gone, which the next event tells, or the engine has, which the next question does.
                    Ok(None) => continue,
                    Err(_elapsed) => {
                        learned = Learned::Part;
                        continue;
                    }
                },
            };
            container.learn(&known.details, known.inside.as_ref());
            self.known.insert(container.id.clone(), known);
        }
        learned
    }

    async fn inspect(&self, container: &Container) -> Option<Known> {
        let id = Some(&container.id).filter(|id| id.bytes().all(|byte| byte.is_ascii_alphanumeric()))?;
        let json = self.client.get(&format!("{}/containers/{id}/json", self.about.prefix)).await.ok()?;
        let details = told::details(&json).ok()?;
        let inside = details.pid.and_then(|pid| Inside::of(pid, id));
        Some(Known { listed: container.clone(), details, inside })
    }
}

/// Whether a look at it tells more than the list.
fn has_details(container: &Container) -> bool {
    matches!(container.state, State::Running { .. } | State::Exited { .. })
}

impl Known {
    /// Whether nothing has happened to it since, as far as the list and its process tell.
    fn is_true_of(&self, container: &Container) -> bool {
        self.listed == *container && self.inside.as_ref().is_none_or(|inside| inside.is_there())
    }
}

fn unreadable(error: serde_json::Error) -> Trouble {
    Trouble::Strange(format!("its answer cannot be read: {}", told::word(&error.to_string())))
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
