//! The engine beside hyper: the same bytes, valid and not, through portolan and through a proxy of plain hyper, and
//! the same must become of them, or a difference that is meant.
//!
//! A case is a stream of bytes, of a client or of a program, fixed by its number. `PORTOLAN_SEED=N` runs the one of
//! that number alone, `PORTOLAN_ACCEPTANCE=full` a hundred thousand of them.

mod case;
mod differences;
mod message;
mod origin;
mod ours;
mod outcome;
mod pair;

use std::{
    collections::BTreeMap,
    env,
    ops::Range,
    sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    thread,
};

use case::{Case, From};
use differences::{DIFFERENCES, Difference};
use ours::Lane;
use outcome::Step;

use crate::harness::is_full;

/// How many cases run in each `cargo test`.
const FEW: u64 = 3_000;

/// How many cases run before a release.
const MANY: u64 = 100_000;

/// How many cases run at once: two for each core that such a machine has at least, since a case waits for its
/// own proxy half of the time.
const LANES: usize = 4;

/// How many failures are enough: more would not be read, and each may have taken long.
const ENOUGH: usize = 20;

/// What cases came to.
#[derive(Default)]
struct Findings {
    /// How often each difference was met.
    met: BTreeMap<&'static str, usize>,
    /// In how many cases something of the case reached the program, and an answer the client.
    passed_on: usize,
    failures: Vec<String>,
}

#[test]
fn the_engine_and_hyper_make_the_same_of_the_same_bytes() {
    let seed = env::var("PORTOLAN_SEED").ok().map(|seed| seed.parse().expect("PORTOLAN_SEED is a number"));
    let is_full = is_full();
    let seeds = match seed {
        Some(seed) => seed..seed + 1,
        None => 0..if is_full { MANY } else { FEW },
    };
    let count = seeds.clone().count();
    let Findings { met, passed_on, failures } = run(seeds);
    println!("{passed_on:>6} of {count} cases were passed on at least in part");
    for Difference { name, rfc, .. } in DIFFERENCES {
        println!("{:>6} x {name} ({rfc})", met.get(name).copied().unwrap_or_default());
    }
    assert!(failures.is_empty(), "{} cases differ, or more:\n{}", failures.len(), failures.concat());
    assert!(seed.is_some() || passed_on > count / 2, "most cases are refused: they show little");
    let forgotten = DIFFERENCES.iter().filter(|difference| !met.contains_key(difference.name));
    let forgotten: Vec<_> = forgotten.map(|difference| difference.name).collect();
    assert!(!is_full || seed.is_some() || forgotten.is_empty(), "no case shows {forgotten:?}: take them off the list");
}

fn run(seeds: Range<u64>) -> Findings {
    let (next, failed) = (AtomicU64::new(seeds.start), AtomicUsize::new(0));
    let lane = || {
        let mut lane = Lane::new();
        let mut findings = Findings::default();
        loop {
            let seed = next.fetch_add(1, Relaxed);
            if !seeds.contains(&seed) || failed.load(Relaxed) >= ENOUGH {
                return findings;
            }
            match compare(&lane, &Case::new(seed)) {
                Ok(Compared { met, passed_on }) => {
                    met.iter().for_each(|difference| *findings.met.entry(difference.name).or_default() += 1);
                    findings.passed_on += usize::from(passed_on);
                }
                Err(failure) => {
                    failed.fetch_add(1, Relaxed);
                    findings.failures.push(failure);
                    // Whatever happened there is over for the next case.
                    lane = Lane::new();
                }
            }
        }
    };
    thread::scope(|scope| {
        let lanes: Vec<_> = (0..LANES).map(|_| scope.spawn(lane)).collect();
        let all = lanes.into_iter().map(|lane| lane.join().unwrap());
        all.reduce(Findings::and).unwrap_or_default()
    })
}

impl Findings {
    fn and(mut self, other: Self) -> Self {
        for (name, count) in other.met {
            *self.met.entry(name).or_default() += count;
        }
        self.passed_on += other.passed_on;
        self.failures.extend(other.failures);
        self
    }
}

/// A case in which all differences are meant.
struct Compared {
    met: Vec<&'static Difference>,
    passed_on: bool,
}

/// What a case comes to, or how it fails.
fn compare(lane: &Lane, case: &Case) -> Result<Compared, String> {
    let (plan, theirs) = pair::run(case, &lane.address());
    let theirs = theirs.steps(case).map_err(|fault| failure(case, &format!("hyper: {fault}")))?;
    let ours = lane.run(case, plan).and_then(|ours| ours.steps(case));
    let ours = ours.map_err(|fault| failure(case, &format!("ours: {fault}\nhyper: {theirs:?}")))?;
    let mut met = Vec::new();
    let nothing = Step::default();
    for at in 0..ours.len().max(theirs.len()) {
        let (our, their) = (ours.get(at).unwrap_or(&nothing), theirs.get(at).unwrap_or(&nothing));
        if our.is_like(their) {
            continue;
        }
        let meant = differences::between(case, our, their);
        let meant = meant.ok_or_else(|| failure(case, &format!("step {at}\n ours: {our:?}\nhyper: {their:?}")))?;
        let may_end_one = meant.iter().any(|difference| difference.may_end_one());
        met.extend(meant);
        // Where one of the two connections has ended there is nothing more to compare.
        if may_end_one && at + 1 >= ours.len().min(theirs.len()) {
            break;
        }
    }
    Ok(Compared { met, passed_on: ours.iter().any(Step::is_passed_on) })
}

fn failure(case: &Case, what: &str) -> String {
    let Case { seed, from, bytes } = case;
    let from = match from {
        From::Client => "a client".to_owned(),
        From::Program { request, .. } => format!("a program that is asked {}", request.escape_ascii()),
    };
    format!("PORTOLAN_SEED={seed}, from {from}: {}\n{what}\n\n", bytes.escape_ascii())
}

/// Each byte as the character of the same number.
fn text(bytes: &[u8]) -> String {
    bytes.iter().copied().map(char::from).collect()
}
