//! Fifty requests a second, whatever becomes of them, and what became of them.

use std::{
    collections::BTreeMap,
    fmt,
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc::{RecvTimeoutError, Sender, channel},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use crate::client::{PATIENCE, until};

/// The time from one request to the next.
const PACE: Duration = Duration::from_millis(20);

/// Requests that go on until they are told to stop.
pub(crate) struct Load {
    stop: Sender<()>,
    ticker: JoinHandle<Vec<JoinHandle<Outcome>>>,
    answered: Arc<AtomicUsize>,
}

/// What became of them.
pub(crate) struct Figures {
    requests: usize,
    /// How many the proxy says that it held.
    pub(crate) held: usize,
    longest: Duration,
    /// What went wrong, and how often.
    pub(crate) failed: BTreeMap<String, usize>,
}

/// What became of one.
struct Outcome {
    took: Duration,
    answer: Result<Answer, String>,
}

struct Answer {
    was_held: bool,
}

impl Load {
    /// Asks for `/` again and again, each time on a connection of its own; all but this page is a failure.
    pub(crate) fn on(proxy: SocketAddr, page: &'static str) -> Self {
        let (stop, stopped) = channel();
        let answered = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&answered);
        let ticker = thread::spawn(move || {
            let mut requests = Vec::new();
            let mut due = Instant::now();
            while stopped.recv_timeout(due.saturating_duration_since(Instant::now())) == Err(RecvTimeoutError::Timeout)
            {
                let count = Arc::clone(&count);
                requests.push(thread::spawn(move || {
                    let began = Instant::now();
                    let answer = request(proxy, page);
                    count.fetch_add(1, Ordering::Relaxed);
                    Outcome { took: began.elapsed(), answer }
                }));
                due += PACE;
            }
            requests
        });
        Self { stop, ticker, answered }
    }

    /// Waits until so many more were answered.
    pub(crate) fn go_on_for(&self, more: usize) {
        let until_then = self.answered.load(Ordering::Relaxed) + more;
        until("requests are answered", || self.answered.load(Ordering::Relaxed) >= until_then);
    }

    /// Sends no more and waits for the last of them.
    pub(crate) fn stop(self) -> Figures {
        drop(self.stop);
        let requests = self.ticker.join().unwrap();
        let mut figures =
            Figures { requests: requests.len(), held: 0, longest: Duration::ZERO, failed: BTreeMap::new() };
        for Outcome { took, answer } in requests.into_iter().map(|request| request.join().unwrap()) {
            figures.longest = figures.longest.max(took);
            match answer {
                Ok(answer) => figures.held += usize::from(answer.was_held),
                Err(failure) => *figures.failed.entry(failure).or_default() += 1,
            }
        }
        figures
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { requests, held, longest, failed } = self;
        write!(
            f,
            "{requests} requests, {} failed, {held} held, the longest took {longest:.1?}",
            failed.values().sum::<usize>()
        )
    }
}

fn request(proxy: SocketAddr, page: &str) -> Result<Answer, String> {
    let answer = exchange(proxy).map_err(|error| error.kind().to_string())?;
    let (head, body) = answer.split_once("\r\n\r\n").ok_or("no whole head")?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name));
    let status = head.lines().next().unwrap_or_default();
    if status != "HTTP/1.1 200 OK" {
        return Err(format!("{status}: {}", field("x-portolan-error: ").unwrap_or(body)));
    }
    if !body.contains(page) {
        return Err("another page".to_owned());
    }
    Ok(Answer { was_held: field("x-portolan-held: ").is_some() })
}

fn exchange(proxy: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(proxy)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    write!(
        stream,
        "GET / HTTP/1.1\r\nhost: localhost:{}\r\naccept: text/html\r\nconnection: close\r\n\r\n",
        proxy.port()
    )?;
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer)?;
    Ok(String::from_utf8_lossy(&answer).into_owned())
}
