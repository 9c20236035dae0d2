//! One program of the table and the task that looks after it: a loop over small functions named after its states.

use std::{
    collections::BTreeMap,
    os::unix::process::CommandExt,
    process::Stdio,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, SystemTime},
};

use regex::Regex;
use rustix::process::Signal;
use tokio::{
    process::{Child, Command},
    sync::{Notify, mpsc, watch},
    task::JoinSet,
    time::{Instant, sleep, timeout},
};

use super::{
    Exit, GRACE, Plan, State, Status,
    keeper::{self, Task},
    output::{Output, Printer, Stream, plain},
};
use crate::{
    config::{Ready, Service},
    process,
};

/// The wait before a failed program is started again: at first this, then twice as long each time, up to the longest.
const FIRST_WAIT: Duration = Duration::from_millis(250);
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// A program that was ready for so long has earned a short wait again.
const GOOD_RUN: Duration = Duration::from_secs(10);

/// How long the last lines of a program that has ended may take to come.
const LAST_LINES: Duration = Duration::from_millis(500);

/// What a job is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Order {
    /// Start, unless it runs.
    Start,
    /// End, with everything that it has started.
    Stop,
    /// End and start anew.
    Restart,
    /// It is written differently now, which counts from the next start on.
    Redefine(Box<Service>),
}

/// What is known of all jobs, by name. Each one writes its own entry, and whoever needs another one waits for that.
pub type Board = watch::Sender<BTreeMap<String, Status>>;

/// Makes the plan of the next start.
type Planner = Box<dyn Fn(&Service) -> Result<Plan, String> + Send>;

/// A program that is looked after. Dropping it ends the program, in its own time.
#[derive(Debug)]
pub struct Job {
    /// What it says.
    pub output: Arc<Output>,
    orders: mpsc::UnboundedSender<Order>,
    listens: watch::Sender<Sign>,
    answers: watch::Sender<Sign>,
}

/// The keeper whose program gave a sign, if any has: that of an earlier start says nothing of this one.
type Sign = Option<u32>;

impl Job {
    /// A job at rest, and its entry on the board. `descriptors` is the soft limit that the program would have without us,
    /// `plan` makes its plan at each start.
    pub fn new(
        service: Service,
        descriptors: Option<u64>,
        printer: Option<Printer>,
        board: Arc<Board>,
        plan: impl Fn(&Service) -> Result<Plan, String> + Send + 'static,
    ) -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(0);
        let (orders, inbox) = mpsc::unbounded_channel();
        let output = Arc::new(Output::new(service.name.as_str().into(), printer));
        let (listens, answers) = (watch::Sender::<Sign>::new(None), watch::Sender::<Sign>::new(None));
        let care = Care {
            service,
            plan: Box::new(plan),
            output: Arc::clone(&output),
            board,
            orders: inbox,
            listens: listens.subscribe(),
            answers: answers.subscribe(),
            descriptors,
            failures: 0,
            number: NEXT.fetch_add(1, Relaxed),
        };
        care.enter();
        tokio::spawn(care.take());
        Self { output, orders, listens, answers }
    }

    /// Tells it what to do.
    pub fn order(&self, order: Order) {
        // Its task lives as long as this handle.
        let _ = self.orders.send(order);
    }

    /// Says that what this keeper keeps listens.
    pub fn listens(&self, keeper: u32) {
        tell(&self.listens, keeper);
    }

    /// Says, when called, that what this keeper keeps answers at the path that its `ready` names.
    pub fn answerer(&self, keeper: u32) -> impl FnOnce() + Send + 'static {
        let answers = self.answers.clone();
        move || tell(&answers, keeper)
    }
}

fn tell(sign: &watch::Sender<Sign>, keeper: u32) {
    sign.send_if_modified(|known| known.replace(keeper) != Some(keeper));
}

/// How it is known that the program is ready.
#[derive(Clone)]
enum Readiness {
    /// By its socket.
    Listening,
    /// By an answer, which somebody else asks for.
    Answer,
    /// By a line.
    Line(Regex),
}

impl Readiness {
    fn of(ready: &Ready) -> Self {
        match ready {
            Ready::Listening => Self::Listening,
            Ready::Path(_) => Self::Answer,
            // The checker has compiled it; one that fails here all the same waits for the socket instead.
            Ready::Line(pattern) => Regex::new(pattern).map_or(Self::Listening, Self::Line),
        }
    }
}

/// What the task of a job owns.
struct Care {
    service: Service,
    plan: Planner,
    output: Arc<Output>,
    board: Arc<Board>,
    orders: mpsc::UnboundedReceiver<Order>,
    listens: watch::Receiver<Sign>,
    answers: watch::Receiver<Sign>,
    descriptors: Option<u64>,
    /// Since it was last ready for long, or told what to do.
    failures: u32,
    /// Tells it from a later job of the same name, while it still ends.
    number: u64,
}

/// What comes next.
enum Next {
    Rest,
    Await,
    Run,
    BackOff,
    End,
}

impl Care {
    async fn take(mut self) {
        let mut next = Next::Rest;
        loop {
            next = match next {
                Next::Rest => self.rest().await,
                Next::Await => self.await_needs().await,
                Next::Run => self.run().await,
                Next::BackOff => self.back_off().await,
                Next::End => return self.leave(),
            };
        }
    }

    fn enter(&self) {
        let status = Status {
            job: self.number,
            state: State::Stopped,
            since: SystemTime::now(),
            keeper: None,
            restarts: 0,
            exit: None,
        };
        self.board.send_modify(|board| drop(board.insert(self.service.name.clone(), status)));
    }

    fn leave(&self) {
        self.board.send_modify(|board| {
            if board.get(&self.service.name).is_some_and(|status| status.job == self.number) {
                board.remove(&self.service.name);
            }
        });
    }

    fn note(&self, change: impl FnOnce(&mut Status)) {
        self.board.send_modify(|board| {
            if let Some(status) = board.get_mut(&self.service.name).filter(|status| status.job == self.number) {
                change(status);
            }
        });
    }

    fn is(&self, state: State) {
        self.note(|status| {
            if status.state != state {
                status.since = SystemTime::now();
            }
            status.state = state;
        });
    }

    /// The next order that asks for something now.
    async fn ordered(&mut self) -> Option<Order> {
        loop {
            match self.orders.recv().await? {
                Order::Redefine(service) => self.service = *service,
                order => return Some(order),
            }
        }
    }

    fn forgive(&mut self) {
        self.failures = 0;
        self.note(|status| status.restarts = 0);
    }

    async fn rest(&mut self) -> Next {
        loop {
            match self.ordered().await {
                Some(Order::Stop) => self.is(State::Stopped),
                Some(_) => {
                    self.forgive();
                    return Next::Await;
                }
                None => return Next::End,
            }
        }
    }

    async fn await_needs(&mut self) -> Next {
        let mut board = self.board.subscribe();
        loop {
            let missing = self.missing(&board.borrow_and_update());
            if missing.is_empty() {
                return Next::Run;
            }
            let waiting = State::Waiting(missing);
            if board.borrow().get(&self.service.name).is_some_and(|status| status.state != waiting) {
                self.is(waiting);
            }
            tokio::select! {
                _ = board.changed() => {}
                order = self.ordered() => match order {
                    Some(Order::Stop) => {
                        self.is(State::Stopped);
                        return Next::Rest;
                    }
                    Some(_) => {}
                    None => return Next::End,
                },
            }
        }
    }

    /// The services that must be ready first and are not.
    fn missing(&self, board: &BTreeMap<String, Status>) -> Vec<String> {
        let is_good = |name: &String| board.get(name).is_some_and(|status| status.state.is_good());
        self.service.needs.iter().filter(|name| !is_good(name)).cloned().collect()
    }

    /// From its start to its end.
    async fn run(&mut self) -> Next {
        let mut keeper = match self.start() {
            Ok(keeper) => keeper,
            Err(why) => {
                for line in why.trim_end().lines() {
                    self.output.note(line.to_owned());
                }
                let what = why.lines().next().unwrap_or_default().to_owned();
                return self.ended(Exit::NotStarted(what), None);
            }
        };
        let (how, line) = (Readiness::of(&self.service.ready), Arc::<Notify>::default());
        let reading = self.read_output(&mut keeper, &how, &line);
        let pid = keeper.id();
        let mut ready_since = None;
        let exit = loop {
            let is_starting = ready_since.is_none();
            tokio::select! {
                status = keeper.wait() => break Exit::of_keeper(status.ok()),
                () = ready(&how, pid, &mut self.listens, &mut self.answers, &line), if is_starting => {
                    ready_since = Some(Instant::now());
                    self.is(State::Ready);
                }
                order = self.orders.recv() => {
                    let next = match order {
                        Some(Order::Start) => continue,
                        Some(Order::Redefine(service)) => {
                            self.service = *service;
                            continue;
                        }
                        Some(Order::Restart) => Next::Await,
                        Some(Order::Stop) => Next::Rest,
                        None => Next::End,
                    };
                    self.end(&mut keeper).await;
                    self.finish(reading).await;
                    self.is(State::Stopped);
                    self.forgive();
                    return next;
                }
            }
        };
        self.finish(reading).await;
        self.output.note(format!("portolan: {exit}"));
        self.ended(exit, ready_since)
    }

    fn start(&mut self) -> Result<Child, String> {
        let plan = (self.plan)(&self.service)?;
        let child = spawn(plan, self.descriptors)?;
        self.note(|status| status.keeper = child.id());
        self.is(State::Starting);
        Ok(child)
    }

    fn read_output(&self, keeper: &mut Child, how: &Readiness, line: &Arc<Notify>) -> JoinSet<()> {
        let look = || {
            let (how, line) = (how.clone(), Arc::clone(line));
            move |text: &str| {
                if matches!(&how, Readiness::Line(pattern) if pattern.is_match(&plain(text))) {
                    line.notify_one();
                }
            }
        };
        let mut reading = JoinSet::new();
        if let Some(pipe) = keeper.stdout.take() {
            let (output, look) = (Arc::clone(&self.output), look());
            reading.spawn(async move { output.read(pipe, Stream::Out, look).await });
        }
        if let Some(pipe) = keeper.stderr.take() {
            let (output, look) = (Arc::clone(&self.output), look());
            reading.spawn(async move { output.read(pipe, Stream::Err, look).await });
        }
        reading
    }

    /// Ends the program and everything that it has started; the keeper knows how.
    async fn end(&mut self, keeper: &mut Child) {
        self.is(State::Stopping);
        terminate(keeper);
        // The keeper ends in its own grace; only one that was stopped by somebody does not.
        if timeout(GRACE + Duration::from_secs(2), keeper.wait()).await.is_err() {
            let _ = keeper.kill().await;
        }
        self.note(|status| status.keeper = None);
    }

    async fn finish(&mut self, mut reading: JoinSet<()>) {
        let all = async { while reading.join_next().await.is_some() {} };
        // Something that escaped may hold the pipe for ever.
        let _ = timeout(LAST_LINES, all).await;
        self.note(|status| status.keeper = None);
    }

    fn ended(&mut self, exit: Exit, ready_since: Option<Instant>) -> Next {
        let is_done = exit == Exit::Code(0);
        self.note(|status| status.exit = Some(exit));
        if is_done {
            self.is(State::Done);
            return Next::Rest;
        }
        if ready_since.is_some_and(|since| since.elapsed() >= GOOD_RUN) {
            self.failures = 0;
        }
        Next::BackOff
    }

    async fn back_off(&mut self) -> Next {
        let wait = FIRST_WAIT.saturating_mul(1 << self.failures.min(16)).min(LONGEST_WAIT);
        self.failures += 1;
        self.is(State::Backoff(SystemTime::now() + wait));
        tokio::select! {
            () = sleep(wait) => {
                self.note(|status| status.restarts += 1);
                Next::Await
            }
            order = self.ordered() => match order {
                Some(Order::Stop) => {
                    self.is(State::Stopped);
                    Next::Rest
                }
                Some(_) => {
                    self.forgive();
                    Next::Await
                }
                None => Next::End,
            },
        }
    }
}

/// Returns when the program is ready.
async fn ready(
    how: &Readiness,
    keeper: Sign,
    listens: &mut watch::Receiver<Sign>,
    answers: &mut watch::Receiver<Sign>,
    line: &Notify,
) {
    match how {
        Readiness::Listening => drop(listens.wait_for(|sign| *sign == keeper).await),
        Readiness::Answer => drop(answers.wait_for(|sign| *sign == keeper).await),
        Readiness::Line(_) => line.notified().await,
    }
}

/// Starts a keeper with the program.
fn spawn(plan: Plan, descriptors: Option<u64>) -> Result<Child, String> {
    let task = Task { parent: std::process::id(), grace: GRACE, own_group: true, descriptors, words: plan.words };
    let mut command = keeper::command(&task);
    command.current_dir(plan.folder).envs(plan.env);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.process_group(0);
    let mut command = Command::from(command);
    command.kill_on_drop(false);
    command.spawn().map_err(|error| format!("cannot start: {}", crate::diagnostic::without_number(&error)))
}

fn terminate(keeper: &Child) {
    if let Some(pid) = keeper.id() {
        process::signal(pid, Signal::TERM);
    }
}
