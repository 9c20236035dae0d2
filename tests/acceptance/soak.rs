//! Half an hour of everything at once: what is right must stay right while others do wrong, and nothing may grow.
//!
//! Clean clients check every byte of every answer. Beside them mutated ones send what nobody would, and others ask the
//! program for its faults and know what they may see of them. All of it goes through one proxy, and the clean requests
//! share connections to the program with the faults.

mod mutant;
mod program;
mod wire;

use std::{
    fmt::Display,
    fs,
    net::SocketAddr,
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

use rustix::process::Signal;

use self::{
    program::{Complaints, Fault, LONG, SMALL, Seen, chunks, text},
    wire::{Answer, Broken, Wire},
};
use crate::{
    bulk::mebibytes,
    chance::Chance,
    folder::Folder,
    program::{Portolan, tell},
};

/// Clients of each kind.
const CLEAN: u64 = 4;
const FAULTS: u64 = 8;
const MUTANTS: u64 = 8;

/// Between two requests of one client.
const PACE: Duration = Duration::from_millis(40);

/// How long any byte of an answer may be in coming. What the machine does besides is in it.
const BOUND: Duration = Duration::from_secs(20);

/// How long the proxy waits for the program that shows its faults, one of which is to say nothing.
const SILENCE: &str = "3s";

/// Every so many requests a client begins a new connection.
const CONNECTION: usize = 25;

/// How often memory and descriptors are looked at.
const SAMPLES: u32 = 200;

/// The part of the samples, from the first one on, while which caches and pools fill: one in so many.
const WARM_UP: usize = 5;

/// The most that memory may grow by between the halves of the rest: so many bytes, or one part in so many.
const MOST_GROWTH: u64 = 1024 * 1024;
const GROWTH_PART: u64 = 10;

/// By how many the descriptors of the halves may differ: as many clients come and go in both, but never all at once.
const DESCRIPTORS: usize = 8;

/// How long after the last client the last descriptor goes: the proxy keeps connections to programs for four seconds.
const GOING: Duration = Duration::from_secs(15);

/// Runs it for that long; then the figures, and what went wrong.
pub(crate) fn run(time: Duration) {
    let complaints = Complaints::default();
    let (steady, mixed) = (program::start(&complaints), program::start(&complaints));
    let folder = Folder::with_table(format!(
        "[routes]\nsteady = {{ path = \"/steady\", to = {steady} }}\n\
         mixed = {{ path = \"/mixed\", to = {mixed}, timeout = \"{SILENCE}\" }}\n"
    ));
    let mut portolan = Portolan::serve(&folder, &["-q"]);
    let look = || Sample { memory: portolan.memory().now, descriptors: descriptors(portolan.pid()) };
    let idle = look();
    let all = All { address: portolan.address(), complaints, tally: Tally::default(), over: false.into() };

    let mut samples = Vec::new();
    thread::scope(|scope| {
        for number in 0..CLEAN {
            let all = &all;
            scope.spawn(move || all.stay_clean(number));
        }
        for number in 0..FAULTS {
            let all = &all;
            scope.spawn(move || all.meet_faults(number));
        }
        for number in 0..MUTANTS {
            let all = &all;
            scope.spawn(move || all.mutate(number));
        }
        for _ in 0..SAMPLES {
            thread::sleep(time / SAMPLES);
            samples.push(look());
        }
        all.over.store(true, SeqCst);
    });

    let began = Instant::now();
    while descriptors(portolan.pid()) > idle.descriptors + 2 && began.elapsed() < GOING {
        thread::sleep(Duration::from_millis(50));
    }
    let left = look();
    all.connect().and_then(|mut wire| Clean::Small.ask(&mut wire, "steady", 1)).expect("it still answers");
    portolan.signal(Signal::TERM);
    let code = portolan.wait();

    let warm = &samples[samples.len() / WARM_UP..];
    let (first, second) = warm.split_at(warm.len() / 2);
    let halves = [first, second].map(Sample::median);
    all.tally.tell(&idle, &halves, &left);
    let complaints = all.complaints.all();
    assert!(complaints.is_empty(), "{} complaints: {complaints:#?}", complaints.len());
    let said = portolan.err.so_far();
    assert!(!said.iter().any(|line| line.contains("panicked")), "{}", said.join("\n"));
    assert_eq!(code, 0, "it ends well");
    let [first, second] = &halves;
    assert!(second.memory <= first.memory + MOST_GROWTH.max(first.memory / GROWTH_PART), "memory grows: {halves:?}");
    assert!(second.descriptors <= first.descriptors + DESCRIPTORS, "descriptors are not flat: {halves:?}");
    assert!(left.descriptors <= idle.descriptors + 2, "descriptors stay: {idle:?} before, {left:?} {GOING:?} after");
}

/// What is held at one time.
#[derive(Debug)]
struct Sample {
    memory: u64,
    descriptors: usize,
}

impl Sample {
    /// The middle of each.
    fn median(samples: &[Self]) -> Self {
        let mut memory: Vec<_> = samples.iter().map(|sample| sample.memory).collect();
        let mut descriptors: Vec<_> = samples.iter().map(|sample| sample.descriptors).collect();
        memory.sort_unstable();
        descriptors.sort_unstable();
        Self { memory: memory[memory.len() / 2], descriptors: descriptors[descriptors.len() / 2] }
    }
}

fn descriptors(process: u32) -> usize {
    fs::read_dir(format!("/proc/{process}/fd")).unwrap().count()
}

/// What is told at the end.
#[derive(Default)]
struct Tally {
    /// How long each clean request took.
    clean: Mutex<Vec<Duration>>,
    whole: AtomicUsize,
    refused: AtomicUsize,
    cut: AtomicUsize,
    left: AtomicUsize,
    mutants: AtomicUsize,
}

impl Tally {
    fn tell(&self, idle: &Sample, [first, second]: &[Sample; 2], left: &Sample) {
        let mut clean = self.clean.lock().unwrap();
        clean.sort_unstable();
        let at = |part: usize| clean.get(clean.len() * part / 1000).or(clean.last()).copied().unwrap_or_default();
        tell(format_args!(
            "{} clean requests, {:?} at the median, {:?} at the 99th percentile, {:?} at most",
            clean.len(),
            at(500),
            at(990),
            at(1000),
        ));
        let [whole, refused, cut, gone, mutants] =
            [&self.whole, &self.refused, &self.cut, &self.left, &self.mutants].map(|count| count.load(Relaxed));
        tell(format_args!(
            "faults: {whole} answers whole, {refused} refused, {cut} cut, {gone} clients gone before; {mutants} mutants"
        ));
        for (when, sample) in
            [("idle", idle), ("in the first half", first), ("in the second half", second), ("after all left", left)]
        {
            tell(format_args!("{when}: {:.1} MiB, {} descriptors", mebibytes(sample.memory), sample.descriptors));
        }
    }
}

/// What every client knows.
struct All {
    address: SocketAddr,
    complaints: Complaints,
    tally: Tally,
    over: AtomicBool,
}

impl All {
    fn connect(&self) -> Result<Wire, Broken> {
        Ok(Wire::to(self.address, BOUND)?)
    }

    /// At an even pace until all is over: numbers that no other client of the same kind has.
    fn paced(&self, number: u64, clients: u64) -> impl Iterator<Item = u64> {
        let mut next = Instant::now();
        (0..).map(move |count| number + clients * count).take_while(move |_| {
            thread::sleep(next.saturating_duration_since(Instant::now()));
            next = Instant::now().max(next + PACE);
            !self.over.load(SeqCst)
        })
    }

    fn complain(&self, who: impl Display, broken: &Broken) {
        self.complaints.add(format_args!("{who}: {broken:?}"));
    }

    /// Asks for what must be right.
    fn stay_clean(&self, number: u64) {
        let mut chance = Chance::new(number);
        let mut kept = None;
        for id in self.paced(number, CLEAN) {
            let clean = *chance.of(&Clean::ALL);
            // What was not idempotent could fail on a connection that a fault has just ended.
            let place = if clean.is_idempotent() { *chance.of(&["steady", "mixed"]) } else { "steady" };
            let began = Instant::now();
            let asked = kept.take().map_or_else(|| self.connect(), Ok).and_then(|mut wire| {
                clean.ask(&mut wire, place, id)?;
                Ok(wire)
            });
            match asked {
                Ok(wire) => {
                    self.tally.clean.lock().unwrap().push(began.elapsed());
                    kept = Some(wire).filter(|_| clean.is_kept() && !chance.one_in(CONNECTION));
                }
                Err(broken) => self.complain(format_args!("{clean:?} number {id} of {place}"), &broken),
            }
        }
    }

    /// Asks for faults.
    fn meet_faults(&self, number: u64) {
        let mut chance = Chance::new(!number);
        let mut kept = None;
        for _ in self.paced(number, FAULTS) {
            let seed = chance.number() % 1_000_000;
            let wire = kept.take().map_or_else(|| self.connect(), Ok);
            match wire.and_then(|wire| self.meet(wire, seed, &mut chance)) {
                Ok(wire) => kept = wire,
                Err(broken) => self.complain(format_args!("{:?} of {seed}", Fault::of(seed)), &broken),
            }
        }
    }

    /// Asks for one fault; returns the connection if it can be asked on again.
    fn meet(&self, mut wire: Wire, seed: u64, chance: &mut Chance) -> Result<Option<Wire>, Broken> {
        let fault = Fault::of(seed);
        let upload = (fault.method().is_none() && chance.one_in(3)).then(|| text(seed, chance.below(50_000)));
        let method = fault.method().unwrap_or(if upload.is_some() { "POST" } else { "GET" });
        let mut request = format!("{method} /mixed/fault/{seed} HTTP/1.1\r\nHost: localhost\r\n").into_bytes();
        match &upload {
            Some(body) if chance.one_in(2) => {
                request.extend([b"Transfer-Encoding: chunked\r\n\r\n", &chunks(body, seed)[..], b"0\r\n\r\n"].concat());
            }
            Some(body) => request.extend([format!("Content-Length: {}\r\n\r\n", body.len()).as_bytes(), body].concat()),
            None => request.extend(b"\r\n"),
        }
        // An answer may be there before the request is sent, and the end of the connection behind it.
        let sent = wire.send(&request);
        if chance.one_in(10) {
            self.tally.left.fetch_add(1, Relaxed);
            if chance.one_in(2) {
                wire.reset();
            }
            return Ok(None);
        }
        let answer = wire.answer(method == "HEAD");
        let (seen, count) = match &answer {
            Ok(answer) if is_refusal(answer) => (Seen::Refusal, &self.tally.refused),
            Ok(answer) if fault.is_whole(seed, answer) => (Seen::Whole, &self.tally.whole),
            Ok(answer) => return Err(answer.head.malformed(&format!("not what was sent, but {}", shown(answer)))),
            Err(Broken::Cut) => (Seen::Cut, &self.tally.cut),
            Err(_) => return answer.map(|_| None),
        };
        count.fetch_add(1, Relaxed);
        // An upload is not sent twice, even where it met a connection that was just ending.
        let was_unlucky = upload.is_some() && seen == Seen::Refusal;
        if !fault.may_be(seed, seen) && !was_unlucky {
            return Err(Broken::Malformed(format!("{method} has seen {seen:?}")));
        }
        // An upload that the program did not want may be too long to be read, and ends the connection then.
        let is_asked = upload.is_none() && sent.is_ok();
        let is_kept = |answer: &Answer| is_asked && answer.head.field("connection") != Some("close");
        Ok(answer.ok().filter(is_kept).map(|_| wire))
    }

    /// Sends what is none.
    fn mutate(&self, number: u64) {
        for seed in self.paced(number, MUTANTS) {
            self.tally.mutants.fetch_add(1, Relaxed);
            if let Err(complaint) = mutant::visit(self.address, seed) {
                self.complaints.add(complaint);
            }
        }
    }
}

fn is_refusal(answer: &Answer) -> bool {
    matches!(answer.status, 502 | 504) && answer.head.field("x-portolan-error").is_some()
}

/// For people.
fn shown(answer: &Answer) -> String {
    let Answer { interim, body, .. } = answer;
    format!(
        "{interim} interim answers and {} bytes, {:?}",
        body.len(),
        String::from_utf8_lossy(&body[..body.len().min(80)])
    )
}

/// One of everything that a client may ask and a program answer.
#[derive(Debug, Clone, Copy)]
enum Clean {
    Small,
    Chunks,
    Long,
    Hints,
    Head,
    Old,
    Pipelined,
    Upload,
    ChunkedUpload,
    Expecting,
    Tunnel,
}

impl Clean {
    const ALL: [Self; 11] = [
        Self::Small,
        Self::Chunks,
        Self::Long,
        Self::Hints,
        Self::Head,
        Self::Old,
        Self::Pipelined,
        Self::Upload,
        Self::ChunkedUpload,
        Self::Expecting,
        Self::Tunnel,
    ];

    fn is_idempotent(self) -> bool {
        !matches!(self, Self::Upload | Self::ChunkedUpload | Self::Expecting | Self::Tunnel)
    }

    /// Whether the connection can be asked on again.
    fn is_kept(self) -> bool {
        !matches!(self, Self::Old | Self::Tunnel)
    }

    /// Asks, and reads what must be the answer to that number.
    fn ask(self, wire: &mut Wire, place: &str, id: u64) -> Result<(), Broken> {
        let request =
            |method: &str, kind: &str| format!("{method} /{place}/{kind}/{id} HTTP/1.1\r\nHost: localhost\r\n\r\n");
        let post = |fields: &str| format!("POST /{place}/echo/{id} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n");
        let body = text(id, (id * 7919 % 30_000) as usize);
        let length = format!("Content-Length: {}\r\n", body.len());
        match self {
            Self::Small => {
                wire.send(request("GET", "small"))?;
                expect(&wire.answer(false)?, &text(id, SMALL), 0)
            }
            Self::Chunks => {
                wire.send(request("GET", "chunks"))?;
                expect(&wire.answer(false)?, &text(id, 3_000), 0)
            }
            Self::Long => {
                wire.send(request("GET", "long"))?;
                expect(&wire.answer(false)?, &text(id, LONG), 0)
            }
            Self::Hints => {
                wire.send(request("GET", "hints"))?;
                expect(&wire.answer(false)?, &text(id, 100), 1)
            }
            Self::Head => {
                wire.send(request("HEAD", "small"))?;
                let answer = wire.answer(true)?;
                let length = SMALL.to_string();
                if answer.head.field("content-length") != Some(&length) {
                    return Err(answer.head.malformed("not the length of the body"));
                }
                expect(&answer, b"", 0)
            }
            Self::Old => {
                wire.send(request("GET", "chunks").replace("HTTP/1.1", "HTTP/1.0"))?;
                expect(&wire.answer(false)?, &text(id, 3_000), 0)
            }
            Self::Pipelined => {
                wire.send([request("GET", "chunks"), request("HEAD", "small"), request("GET", "long")].concat())?;
                expect(&wire.answer(false)?, &text(id, 3_000), 0)?;
                expect(&wire.answer(true)?, b"", 0)?;
                expect(&wire.answer(false)?, &text(id, LONG), 0)
            }
            Self::Upload => {
                wire.send([post(&length).as_bytes(), &body].concat())?;
                expect(&wire.answer(false)?, &body, 0)
            }
            Self::ChunkedUpload => {
                let chunks = chunks(&body, id);
                wire.send([post("Transfer-Encoding: chunked\r\n").as_bytes(), &chunks, b"0\r\n\r\n"].concat())?;
                expect(&wire.answer(false)?, &body, 0)
            }
            Self::Expecting => {
                wire.send(post(&format!("{length}Expect: 100-continue\r\n")))?;
                let go_on = wire.head()?.ok_or(Broken::Cut)?;
                if go_on.status()? != 100 {
                    return Err(go_on.malformed("not the word to go on"));
                }
                wire.send(&body)?;
                expect(&wire.answer(false)?, &body, 0)
            }
            Self::Tunnel => {
                let fields = "Connection: upgrade\r\nUpgrade: echo\r\n";
                wire.send(format!("GET /{place}/tunnel/{id} HTTP/1.1\r\nHost: localhost\r\n{fields}\r\n"))?;
                let opened = wire.head()?.ok_or(Broken::Cut)?;
                if opened.status()? != 101 {
                    return Err(opened.malformed("no tunnel"));
                }
                for number in 0..3 {
                    let line = format!("line {number} of {id}");
                    wire.send(format!("{line}\r\n"))?;
                    let back = wire.line()?.ok_or(Broken::Cut)?;
                    if back != line {
                        return Err(Broken::Malformed(format!("{line:?} came back as {back:?}")));
                    }
                }
                Ok(())
            }
        }
    }
}

/// The answer must be that.
fn expect(answer: &Answer, body: &[u8], interim: usize) -> Result<(), Broken> {
    if answer.status == 200 && answer.body == body && answer.interim == interim {
        return Ok(());
    }
    Err(answer.head.malformed(&format!("not the answer, but {}", shown(answer))))
}
