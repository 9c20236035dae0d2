//! A talk with one run of an engine: its list of containers, and what a look at single ones adds to it.
//!
//! A look is taken when the list tells something new of a container, and for as long as its first process is sought: for
//! some milliseconds an engine calls a container running whose process is not there yet, or not any more.

use std::{
    collections::HashMap,
    mem,
    sync::Arc,
    time::{Duration, SystemTime},
};

use tokio::time::{Instant, timeout_at};

use super::{
    Container, Inside, Place, State,
    client::{Client, Events},
    told::{self, About, Details},
    trouble::Trouble,
};

/// How long the looks at single containers may keep a list from being told.
const LEARNING: Duration = Duration::from_millis(250);

/// For how long the first process of a container is sought. Later it is taken for one of another machine, as behind an
/// engine in a virtual one.
const SOUGHT: Duration = Duration::from_secs(1);

/// The events that may change what we tell: all of containers.
const EVENTS: &str = "/events?filters=%7B%22type%22%3A%5B%22container%22%5D%7D";

/// All of them, also those that do not run: why one cannot be reached is told, too.
const LIST: &str = "/containers/json?all=1";

/// A talk with one run of an engine.
pub(super) struct Session {
    place: Arc<Place>,
    client: Client,
    about: About,
    known: HashMap<String, Known>,
    sight: Sight,
}

/// Whether a list tells everything that can be known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Learned {
    /// It does, until something happens.
    All,
    /// The next list may tell more.
    Part,
}

/// Whether the containers of an engine can be looked into.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sight {
    /// Nobody has tried.
    Untried,
    /// At least one was.
    Sees,
    /// None could be for as long as it was tried.
    Blind,
}

/// What the look at one container told.
struct Known {
    /// The container as the list told it at that time.
    listed: Container,
    details: Details,
    inside: Option<Arc<Inside>>,
    /// Since when its first process is sought.
    sought: Option<Instant>,
}

impl Session {
    /// Begins to talk.
    pub(super) async fn begin(place: &Arc<Place>) -> Result<Self, Trouble> {
        let client = Client::open(&place.door).await?;
        let about = told::about(&client.get("/version").await?).map_err(unreadable)?;
        // The processes of another machine are not looked for on this one.
        let sight = if client.host().is_some() { Sight::Blind } else { Sight::Untried };
        Ok(Self { place: Arc::clone(place), client, about, known: HashMap::new(), sight })
    }

    /// Such as `Docker 28.5.2`.
    pub(super) fn version(&self) -> &str {
        &self.about.version
    }

    /// What happens from now on.
    pub(super) async fn events(&self) -> Result<Events, Trouble> {
        self.client.events(&format!("{}{EVENTS}", self.about.prefix)).await
    }

    /// All containers.
    pub(super) async fn list(&mut self) -> Result<(Vec<Container>, Learned), Trouble> {
        let json = self.client.get(&format!("{}{LIST}", self.about.prefix)).await?;
        let mut list = told::containers(&json, &self.place, self.client.host()).map_err(unreadable)?;
        // What runs is asked for; the others are looked at when there is time.
        list.sort_by_key(|container| !container.is_up());
        let learned = self.learn(&mut list).await;
        Ok((list, learned))
    }

    /// Looks at the containers of which there is something to learn.
    async fn learn(&mut self, list: &mut [Container]) -> Learned {
        let deadline = Instant::now() + LEARNING;
        let mut learned = Learned::All;
        let mut known = mem::take(&mut self.known);
        for container in list.iter_mut().filter(|container| has_details(container)) {
            let known = match known.remove(&container.id) {
                Some(known) if known.is_true_of(container) => known,
                former => match timeout_at(deadline, self.details(container)).await {
                    Ok(details) => self.judge(container, details, former.as_ref()),
                    Err(_elapsed) => {
                        learned = Learned::Part;
                        continue;
                    }
                },
            };
            if known.sought.is_some() {
                learned = Learned::Part;
            }
            container.learn(&known.details, known.inside.as_ref());
            self.known.insert(container.id.clone(), known);
        }
        learned
    }

    /// Nothing of one that has just gone, which the next event tells; or the engine has, which the next question does.
    async fn details(&self, container: &Container) -> Details {
        let id = &container.id;
        let is_plain = id.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let path = format!("{}/containers/{id}/json", self.about.prefix);
        match if is_plain { self.client.get(&path).await.ok() } else { None } {
            Some(json) => told::details(&json).unwrap_or_default(),
            None => Details::default(),
        }
    }

    /// What is to be thought of the inside of a container, after what was known of it.
    fn judge(&mut self, container: &Container, details: Details, former: Option<&Known>) -> Known {
        let listed = container.clone();
        if !matches!(container.state, State::Running { .. }) || self.sight == Sight::Blind {
            return Known { listed, details, inside: None, sought: None };
        }
        let inside = Inside::of(details.pid.unwrap_or_default(), &container.id);
        if inside.is_there() {
            self.sight = Sight::Sees;
            return Known { listed, details, inside: Some(inside), sought: None };
        }
        let now = Instant::now();
        let since = former.filter(|former| former.listed == listed).and_then(|former| former.sought).unwrap_or(now);
        let is_old = former.is_none() && details.started.is_some_and(is_long_ago);
        if is_old || now >= since + SOUGHT {
            self.sight = if self.sight == Sight::Untried { Sight::Blind } else { self.sight };
            return Known { listed, details, inside: None, sought: None };
        }
        Known { listed, details, inside: Some(inside), sought: Some(since) }
    }
}

/// Whether a look at it tells more than the list.
fn has_details(container: &Container) -> bool {
    matches!(container.state, State::Running { .. } | State::Exited { .. })
}

fn is_long_ago(time: SystemTime) -> bool {
    time.elapsed().is_ok_and(|elapsed| elapsed >= SOUGHT)
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
