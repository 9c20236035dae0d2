//! Frames without end on one connection, beside an honest client on another (T32, T33): it must hardly notice, and the
//! proxy must neither work nor grow for them without bounds.
//!
//! Quiet times and attacks take turns, so that whatever else the machine does, it does to both.

use std::{
    fs,
    io::{Read as _, Write as _},
    net::{Shutdown, SocketAddr, TcpStream},
    sync::atomic::{AtomicBool, Ordering::Relaxed},
    thread,
    time::{Duration, Instant},
};

use crate::{
    bulk::mebibytes,
    client::Connection,
    folder::Folder,
    frame::{Code, END_HEADERS, END_STREAM, Frame, HEAD, PREFACE, kind, setting},
    latencies::Latencies,
    origin::named,
    program::{Portolan, tell},
};

/// Frames that are sent at once.
const TOGETHER: usize = 1000;

/// How much slower an honest client may be.
const MOST_DELAY: f64 = 3.0;

/// Which share of a CPU the proxy may use for a connection that it does not send away.
const MOST_WORK: f64 = 0.2;

/// How much more memory the proxy may take, in bytes.
const MOST_GROWTH: u64 = 32 << 20;

/// How long each turn is: a connection that is sent away at once must still be there for more than a hundredth of it.
const TURN: Duration = Duration::from_millis(100);

/// Between two requests of the honest client.
const BEAT: Duration = Duration::from_millis(1);

/// The unit of the times in `/proc/PID/stat`.
const TICKS_PER_SECOND: f64 = 100.0;

/// A GET of `/` at `localhost`, in one byte for each field but the last.
const GET: &[u8] = b"\x82\x86\x84\x01\x09localhost";

/// What is sent without end: the n-th of it.
pub(crate) struct Flood {
    pub(crate) name: &'static str,
    pub(crate) frame: fn(usize) -> Vec<u8>,
}

pub(crate) const FLOODS: [Flood; 7] = [
    Flood { name: "requests that are reset", frame: reset },
    Flood { name: "requests that the proxy must reset", frame: made_to_reset },
    Flood { name: "a head that never ends", frame: continuation },
    Flood { name: "SETTINGS", frame: settings },
    Flood { name: "PING", frame: ping },
    Flood { name: "DATA of no bytes", frame: empty_data },
    Flood { name: "heads of many small fields", frame: many_fields },
];

/// The n-th stream of a client.
fn nth(number: usize) -> u32 {
    1 + 2 * number as u32
}

fn request(number: usize, flags: u8) -> Vec<u8> {
    Frame::new(kind::HEADERS, END_HEADERS | flags, nth(number), GET).bytes()
}

fn reset(number: usize) -> Vec<u8> {
    [request(number, END_STREAM), Frame::reset(nth(number), Code::Cancel).bytes()].concat()
}

fn made_to_reset(number: usize) -> Vec<u8> {
    [request(number, 0), Frame::window(nth(number), 0).bytes()].concat()
}

fn continuation(number: usize) -> Vec<u8> {
    match number {
        0 => Frame::new(kind::HEADERS, 0, nth(0), GET).bytes(),
        _ => Frame::new(kind::CONTINUATION, 0, nth(0), *b"\x00\x01x\x011").bytes(),
    }
}

fn settings(number: usize) -> Vec<u8> {
    Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535 + number as u32 % 2)]).bytes()
}

fn ping(number: usize) -> Vec<u8> {
    Frame::ping((number as u64).to_be_bytes()).bytes()
}

fn empty_data(number: usize) -> Vec<u8> {
    match number {
        0 => request(0, 0),
        _ => Frame::new(kind::DATA, 0, nth(0), []).bytes(),
    }
}

/// A field goes into the table once, and then comes by a byte each time: 4,000 of them in 4,000 bytes.
fn many_fields(number: usize) -> Vec<u8> {
    let fields: &[u8] = if number == 0 { b"\x40\x01x\x011" } else { &[0xbe; 4000] };
    Frame::new(kind::HEADERS, END_STREAM | END_HEADERS, nth(number), [GET, fields].concat()).bytes()
}

/// What became of the connections of an attacker.
#[derive(Default)]
struct Fates {
    sent_away: usize,
    frames: usize,
}

/// Attacks in so many turns, each on a new connection, and as many quiet turns, compared at that percentile.
pub(crate) fn run(flood: &Flood, turns: usize, percent: usize) {
    let folder = Folder::new();
    let portolan = Portolan::serve(&folder, &["-q", &format!("/={}", named("ok"))]);
    let mut client = Connection::to(portolan.address());
    let (mut quiet, mut attacked) = (Latencies::default(), Latencies::default());
    let (mut idle, mut work, mut fates) = (Duration::ZERO, Duration::ZERO, Fates::default());
    // What is made once is made before.
    ask_for_a_turn(&mut client, &mut Latencies::default());
    let before = portolan.memory().now;
    for _ in 0..turns {
        idle += used_in(&portolan, || ask_for_a_turn(&mut client, &mut quiet));
        let over = AtomicBool::new(false);
        work += used_in(&portolan, || {
            thread::scope(|scope| {
                scope.spawn(|| attack(portolan.address(), flood, &over, &mut fates));
                ask_for_a_turn(&mut client, &mut attacked);
                over.store(true, Relaxed);
            });
        });
    }
    let grown = portolan.memory().peak.saturating_sub(before);
    let share = work.saturating_sub(idle).as_secs_f64() / (TURN * turns as u32).as_secs_f64();
    let ratio = attacked.at(percent).as_secs_f64() / quiet.at(percent).as_secs_f64();
    tell(format_args!(
        "{}: {} requests {:?} at the median and {:?} at the 99th percentile, {} under attack {:?} and {:?}: {ratio:.2} at the {percent}th; \
         {} frames on {turns} connections, {} of them sent away; {:.0} % of a CPU, {:.1} MiB",
        flood.name,
        quiet.count(),
        quiet.at(50),
        quiet.at(99),
        attacked.count(),
        attacked.at(50),
        attacked.at(99),
        fates.frames,
        fates.sent_away,
        share * 100.0,
        mebibytes(grown),
    ));
    assert!(ratio <= MOST_DELAY, "others wait {ratio:.2} times as long");
    assert!(grown <= MOST_GROWTH, "{grown} bytes");
    assert!(fates.sent_away == turns || share <= MOST_WORK, "{share:.2} of a CPU for who may stay");
}

/// What an honest client does.
fn ask_for_a_turn(client: &mut Connection, latencies: &mut Latencies) {
    let turn = Instant::now();
    while turn.elapsed() < TURN {
        let began = Instant::now();
        assert_eq!(client.get("/").body, "ok");
        latencies.add(began.elapsed());
        thread::sleep(BEAT);
    }
}

/// On one connection, until the turn is over or it is cut off.
fn attack(proxy: SocketAddr, flood: &Flood, over: &AtomicBool, fates: &mut Fates) {
    let stream = TcpStream::connect(proxy).unwrap();
    let was_sent_away = thread::scope(|scope| {
        let reads = scope.spawn(|| is_sent_away(&stream));
        fates.frames += send(&stream, flood, over);
        // Who was sent away has been told by now, or is told before the end that this asks for.
        let _gone = stream.shutdown(Shutdown::Write);
        reads.join().unwrap()
    });
    fates.sent_away += usize::from(was_sent_away);
}

/// Sends until the turn is over or nobody takes more, and tells how many frames that were.
fn send(mut stream: &TcpStream, flood: &Flood, over: &AtomicBool) -> usize {
    if stream.write_all(&[PREFACE, &Frame::settings(&[]).bytes()].concat()).is_err() {
        return 0;
    }
    let mut sent = 0;
    while !over.load(Relaxed) {
        let bytes: Vec<u8> = (sent..sent + TOGETHER).flat_map(flood.frame).collect();
        if stream.write_all(&bytes).is_err() {
            break;
        }
        sent += TOGETHER;
    }
    sent
}

/// Reads to the end, and tells whether a GOAWAY with an error or a cut came before it.
fn is_sent_away(mut stream: &TcpStream) -> bool {
    let mut head = [0; HEAD];
    loop {
        if let Err(error) = stream.read_exact(&mut head) {
            return error.kind() != std::io::ErrorKind::UnexpectedEof;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]) as usize;
        let mut payload = vec![0; length];
        if stream.read_exact(&mut payload).is_err() {
            return true;
        }
        if head[3] == kind::GOAWAY && payload[4..8] != [0; 4] {
            return true;
        }
    }
}

/// The CPU time that the proxy uses meanwhile.
fn used_in(portolan: &Portolan, work: impl FnOnce()) -> Duration {
    let used = || {
        let stat = fs::read_to_string(format!("/proc/{}/stat", portolan.pid())).unwrap();
        let (_, fields) = stat.rsplit_once(')').unwrap();
        let ticks = fields.split_whitespace().skip(11).take(2).map(|ticks| ticks.parse::<f64>().unwrap());
        Duration::from_secs_f64(ticks.sum::<f64>() / TICKS_PER_SECOND)
    };
    let before = used();
    work();
    used() - before
}
