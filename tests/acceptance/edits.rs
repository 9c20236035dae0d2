//! A table that is edited without pause, under requests, tunnels and streams that must not notice.
//!
//! What a request may be answered with follows from the tables that were in force while it was under way: a route that
//! is in all of them must answer, one that is in none must not. Nothing is left to chance but the schedule: which
//! routes an edit holds is a function of its number.

use std::{
    fmt::Display,
    io,
    ops::RangeInclusive,
    sync::{
        Mutex,
        atomic::{
            AtomicBool, AtomicUsize,
            Ordering::{Relaxed, SeqCst},
        },
    },
    thread,
    time::{Duration, Instant},
};

use crate::{
    bulk::{MOST_GROWTH, mebibytes},
    chance::random,
    client::{Connection, request},
    folder::{Folder, TABLE},
    origin::{Asked, UPGRADE, echo, origin},
    program::{PATIENCE, Portolan, tell},
};

/// How much of everything.
pub(crate) struct Plan {
    pub(crate) edits: usize,
    pub(crate) time: Duration,
    pub(crate) requests_per_second: usize,
    pub(crate) tunnels: usize,
    pub(crate) streams: usize,
}

/// Routes that every table has.
const STEADY: usize = 8;
/// Routes that come and go.
const FLEETING: usize = 16;
/// Clients that share the requests.
const CLIENTS: usize = 8;
/// Between two lines of a tunnel, and two events of a stream.
const BEAT: Duration = Duration::from_millis(100);
/// Every so many requests a client begins a new connection.
const CONNECTION: usize = 20;
/// What the contract gives an edit until it is live.
const LIVE: Duration = Duration::from_millis(300);

/// Edits, requests and streams at once; then the figures, and what went wrong.
pub(crate) fn run(plan: &Plan) {
    let town = Town::build();
    let folder = Folder::with_table(town.table(0));
    let portolan = Portolan::serve(&folder, &[]);
    let all = All { plan, town: &town, portolan: &portolan, settled: 0.into(), begun: 0.into(), over: false.into() };
    let (seen, waits) = (Seen::default(), Mutex::new(Vec::new()));
    let memory = || portolan.memory().now;
    let [mut before, mut halfway, mut after] = [0; 3];
    thread::scope(|scope| {
        for number in 0..plan.tunnels {
            let (all, seen) = (&all, &seen);
            scope.spawn(move || seen.note(format_args!("tunnel {number}"), all.tunnel(number, &seen.lines)));
        }
        for number in 0..plan.streams {
            let (all, seen) = (&all, &seen);
            scope.spawn(move || seen.note(format_args!("stream {number}"), all.stream(&seen.events)));
        }
        for number in 0..CLIENTS {
            let (all, seen) = (&all, &seen);
            scope.spawn(move || seen.note(format_args!("client {number}"), all.client(number, seen)));
        }
        // Every tunnel and stream stands and has moved before the first edit.
        let moved = || seen.lines.load(Relaxed) >= plan.tunnels * 5 && seen.events.load(Relaxed) >= plan.streams * 5;
        seen.note("start", all.wait_until("everything moves", || Ok(moved())));
        before = memory();
        seen.note("edits", all.edit(1..=plan.edits / 2, &folder, &waits));
        halfway = memory();
        seen.note("edits", all.edit(plan.edits / 2 + 1..=plan.edits, &folder, &waits));
        after = memory();
        all.over.store(true, SeqCst);
    });

    let mut waits = waits.into_inner().unwrap();
    waits.sort();
    let at = |part: usize| waits.get((waits.len() * part / 1000).min(waits.len().saturating_sub(1))).copied();
    tell(format_args!(
        "{} edits live after {:?} at the median, {:?} at the 99th percentile, {:?} at most",
        waits.len(),
        at(500).unwrap_or_default(),
        at(990).unwrap_or_default(),
        at(1000).unwrap_or_default(),
    ));
    tell(format_args!(
        "{} requests, {} lines through {} tunnels, {} events of {} streams; memory in MiB {:.1} before, {:.1} halfway, \
         {:.1} after",
        seen.requests.load(Relaxed),
        seen.lines.load(Relaxed),
        plan.tunnels,
        seen.events.load(Relaxed),
        plan.streams,
        mebibytes(before),
        mebibytes(halfway),
        mebibytes(after),
    ));
    let failures = seen.failures.into_inner().unwrap();
    assert!(
        failures.is_empty(),
        "{} failures, the first of them: {:#?}",
        failures.len(),
        &failures[..failures.len().min(10)]
    );
    assert_eq!(waits.len(), plan.edits);
    assert!(at(500) < Some(LIVE), "{waits:?}");
    // The first half has warmed everything up; what still grows would grow for ever.
    assert!(after.saturating_sub(halfway) < MOST_GROWTH / 4, "memory grows with edits");
}

/// What was counted and what went wrong.
#[derive(Default)]
struct Seen {
    requests: AtomicUsize,
    lines: AtomicUsize,
    events: AtomicUsize,
    failures: Mutex<Vec<String>>,
}

impl Seen {
    fn note(&self, who: impl Display, result: io::Result<()>) {
        if let Err(error) = result {
            self.failures.lock().unwrap().push(format!("{who}: {error}"));
        }
    }
}

/// The programs behind the proxy, each of which answers with its name.
struct Town {
    steady: Vec<u16>,
    fleeting: Vec<u16>,
    /// Two programs that take turns behind one route.
    turns: [u16; 2],
    root: u16,
    echo: u16,
    events: u16,
}

impl Town {
    fn build() -> Self {
        let named = |name: String| origin(move |mut asked| asked.answer(&name));
        Self {
            steady: (0..STEADY).map(|number| named(format!("steady{number}"))).collect(),
            fleeting: (0..FLEETING).map(|number| named(format!("fleeting{number}"))).collect(),
            turns: [0, 1].map(|turn| named(format!("turn{turn}"))),
            root: named("root".into()),
            echo: echo(),
            events: origin(count),
        }
    }

    /// The table after so many edits.
    fn table(&self, edit: usize) -> String {
        let mut table = format!(
            "[routes]\nroot = {{ path = \"/\", to = {} }}\nturn = {{ path = \"/turn\", to = {} }}\n\
             edit = {{ path = \"/edit\", respond = \"{edit}\" }}\n",
            self.root,
            self.turns[edit % 2],
        );
        for (number, port) in self.steady.iter().enumerate() {
            table += &format!("steady{number} = {{ path = \"/steady{number}\", to = {port} }}\n");
        }
        for (number, port) in self.fleeting.iter().enumerate().filter(|(number, _)| has(edit, *number)) {
            table += &format!("fleeting{number} = {{ path = \"/fleeting{number}\", to = {port} }}\n");
        }
        // What is open stays open while its route is away.
        if edit % 10 < 5 {
            table += &format!("echo = {{ path = \"/echo\", to = {} }}\n", self.echo);
            table += &format!("events = {{ path = \"/events\", to = {} }}\n", self.events);
        }
        table
    }
}

/// Whether a table has a fleeting route.
fn has(edit: usize, number: usize) -> bool {
    random((edit * FLEETING + number) as u64).is_multiple_of(2)
}

/// An endless stream of numbers.
fn count(mut asked: Asked<'_>) -> io::Result<()> {
    asked.begin_stream("text/event-stream")?;
    for number in 0_u64.. {
        asked.send_chunk(&format!("data: {number}\n\n"))?;
        thread::sleep(BEAT);
    }
    Ok(())
}

/// What every thread knows.
struct All<'a> {
    plan: &'a Plan,
    town: &'a Town,
    portolan: &'a Portolan,
    /// The newest table of which it is known that it is in force.
    settled: AtomicUsize,
    /// The newest table that may be in force.
    begun: AtomicUsize,
    over: AtomicBool,
}

impl All<'_> {
    fn connect(&self) -> io::Result<Connection> {
        Connection::try_to(self.portolan.address())
    }

    fn is_over(&self) -> bool {
        self.over.load(SeqCst)
    }

    fn wait_until(&self, what: &str, mut is_so: impl FnMut() -> io::Result<bool>) -> io::Result<()> {
        let began = Instant::now();
        while !is_so()? {
            if began.elapsed() > PATIENCE {
                return Err(io::Error::other(format!("not within {PATIENCE:?}: {what}")));
            }
            thread::sleep(Duration::from_millis(1));
        }
        Ok(())
    }

    /// One edit after the other, each of them awaited.
    fn edit(&self, edits: RangeInclusive<usize>, folder: &Folder, waits: &Mutex<Vec<Duration>>) -> io::Result<()> {
        let mut connection = self.connect()?;
        let every = self.plan.time / u32::try_from(self.plan.edits).unwrap();
        let mut next = Instant::now();
        for edit in edits {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += every;
            self.begun.store(edit, SeqCst);
            let began = Instant::now();
            // As one editor does it, and as the other.
            if edit.is_multiple_of(2) {
                folder.save(TABLE, self.town.table(edit));
            } else {
                folder.write(TABLE, self.town.table(edit));
            }
            self.wait_until("the edit is live", || Ok(connection.try_get("/edit")?.body == edit.to_string()))?;
            waits.lock().unwrap().push(began.elapsed());
            self.settled.store(edit, SeqCst);
        }
        Ok(())
    }

    /// Requests at an even pace.
    fn client(&self, number: usize, seen: &Seen) -> io::Result<()> {
        let pace = Duration::from_secs(1) * u32::try_from(CLIENTS).unwrap()
            / u32::try_from(self.plan.requests_per_second).unwrap();
        let mut next = Instant::now();
        let mut connection = self.connect()?;
        for count in 1.. {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next += pace;
            if self.is_over() {
                break;
            }
            let wanted = Wanted::any(random((number + CLIENTS * count) as u64));
            let oldest = self.settled.load(SeqCst);
            let answer = connection.try_get(&wanted.path());
            let newest = self.begun.load(SeqCst);
            let failure = match &answer {
                Ok(answer) if answer.status == 200 && wanted.may_be(&answer.body, oldest, newest) => None,
                Ok(answer) => Some(format!("{} {}", answer.status, answer.body)),
                Err(error) => Some(error.to_string()),
            };
            if let Some(failure) = failure {
                let failure = format!("{wanted:?} under the tables {oldest} to {newest}: {failure}");
                seen.note(format_args!("client {number}"), Err(io::Error::other(failure)));
            }
            if answer.is_err() || count % CONNECTION == 0 {
                connection = self.connect()?;
            }
            seen.requests.fetch_add(1, Relaxed);
        }
        Ok(())
    }

    /// Lines back and forth.
    fn tunnel(&self, number: usize, lines: &AtomicUsize) -> io::Result<()> {
        let mut tunnel = self.connect()?;
        tunnel.try_send(UPGRADE)?;
        let head = tunnel.head()?;
        if !head.starts_with("HTTP/1.1 101") {
            return Err(io::Error::other(head));
        }
        for count in 0.. {
            if self.is_over() {
                break;
            }
            let line = format!("line {count} of tunnel {number}\n");
            tunnel.try_send(&line)?;
            let back = tunnel.line()?;
            if back != line {
                return Err(io::Error::other(format!("{line:?} came back as {back:?}")));
            }
            lines.fetch_add(1, Relaxed);
            thread::sleep(BEAT);
        }
        Ok(())
    }

    /// Events, none of which may be missing.
    fn stream(&self, events: &AtomicUsize) -> io::Result<()> {
        let mut stream = self.connect()?;
        stream.try_send(request("/events"))?;
        let head = stream.head()?;
        if !head.starts_with("HTTP/1.1 200") {
            return Err(io::Error::other(head));
        }
        for number in 0_u64.. {
            if self.is_over() {
                break;
            }
            let event = stream.chunk()?.unwrap_or_default();
            if event != format!("data: {number}\n\n").as_bytes() {
                return Err(io::Error::other(format!("event {number} is {:?}", String::from_utf8_lossy(&event))));
            }
            events.fetch_add(1, Relaxed);
        }
        Ok(())
    }
}

/// What a request asks for.
#[derive(Debug, Clone, Copy)]
enum Wanted {
    Steady(usize),
    Fleeting(usize),
    Turn,
    Edit,
}

impl Wanted {
    fn any(random: u64) -> Self {
        let number = (random >> 8) as usize;
        match random % 8 {
            0..3 => Self::Steady(number % STEADY),
            3..6 => Self::Fleeting(number % FLEETING),
            6 => Self::Turn,
            _ => Self::Edit,
        }
    }

    fn path(self) -> String {
        match self {
            Self::Steady(number) => format!("/steady{number}"),
            Self::Fleeting(number) => format!("/fleeting{number}"),
            Self::Turn => "/turn".into(),
            Self::Edit => "/edit".into(),
        }
    }

    /// Whether one of these tables answers so.
    fn may_be(self, body: &str, oldest: usize, newest: usize) -> bool {
        (oldest..=newest).any(|edit| body == self.answer(edit))
    }

    /// The answer under one table.
    fn answer(self, edit: usize) -> String {
        match self {
            Self::Steady(number) => format!("steady{number}"),
            Self::Fleeting(number) if has(edit, number) => format!("fleeting{number}"),
            Self::Fleeting(_) => "root".into(),
            Self::Turn => format!("turn{}", edit % 2),
            Self::Edit => edit.to_string(),
        }
    }
}
