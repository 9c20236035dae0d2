//! portolan beside the proxies that people know, in one interleaved run: `cargo bench --bench peers`.
//!
//! A scenario starts every proxy in front of the same origin and then goes round them, so that whatever else the
//! machine does, it does to all. README.md says how to read what comes out.
#![expect(clippy::print_stdout, clippy::print_stderr, reason = "a benchmark is a program that prints")]
#![expect(clippy::cast_precision_loss, reason = "no count here comes near 2^52")]

mod child;
mod h2load;
mod load;
mod machine;
mod origin;
mod peer;
mod report;
mod round;
mod scenario;
mod wrk;

use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, ValueEnum};

use crate::load::Load;
use crate::machine::Machine;
use crate::origin::Origin;
use crate::peer::{Peer, Program, Running};
use crate::report::{Report, Results, Row};
use crate::round::Sample;
use crate::scenario::{Scenario, TABLES, Work};

/// Measures portolan beside other proxies. Flags follow `cargo bench --bench peers --`.
#[derive(Parser)]
struct Args {
    /// How often each proxy has its turn.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    rounds: u32,
    /// How long a turn is.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u32).range(1..))]
    seconds: u32,
    /// Only these proxies, and direct. [default: all]
    #[arg(long, value_delimiter = ',')]
    only: Vec<Peer>,
    /// Only these scenarios. [default: all]
    #[arg(long, value_delimiter = ',')]
    scenario: Vec<Scenario>,
    /// The portolan to measure.
    #[arg(long, default_value = env!("CARGO_BIN_EXE_portolan"))]
    portolan: PathBuf,
    /// A second portolan, to see what a change did.
    #[arg(long)]
    before: Option<PathBuf>,
    /// Also writes every sample to this file.
    #[arg(long)]
    json: Option<PathBuf>,
    /// What `cargo bench` adds, and `cargo test --benches` does not.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    // Seen before the flags are read: a test runner has flags of its own.
    if !std::env::args().any(|argument| argument == "--bench") {
        println!("nothing was measured: `cargo bench --bench peers` does that");
        return ExitCode::SUCCESS;
    }
    match run(&Args::parse()) {
        Ok(left_out) if left_out.is_empty() => ExitCode::SUCCESS,
        // Who was asked for and is not in the tables must not be missed by a script either.
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Measures everything that was asked for; returns what could not be.
fn run(args: &Args) -> Result<Vec<String>> {
    let machine = Machine::divide()?;
    child::end_all_on_a_signal()?;
    let origin = Origin::start()?;
    let mut bench = Bench { args, machine: &machine, origin: &origin, left_out: Vec::new() };
    let programs = bench.programs();
    bench.introduce(&programs);

    let mut scenarios = Vec::new();
    for scenario in args.scenarios() {
        let load = match Load::prepare(&machine, scenario) {
            Ok(load) => load,
            Err(error) => {
                bench.leave_out(scenario.name(), &error);
                continue;
            }
        };
        let results = bench.measure(scenario, &load, &programs);
        println!("{}", results.text());
        scenarios.push(results);
    }
    bench.left_out.iter().for_each(|loss| println!("LEFT OUT: {loss}"));

    let report = Report {
        machine: machine.summary.clone(),
        rounds: args.rounds,
        seconds: args.seconds,
        programs: programs.iter().map(name_and_version).collect(),
        left_out: bench.left_out,
        scenarios,
    };
    if let Some(file) = &args.json {
        let text = serde_json::to_string_pretty(&report)?;
        fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))?;
    }
    Ok(report.left_out)
}

impl Args {
    fn scenarios(&self) -> impl Iterator<Item = Scenario> {
        let all = Scenario::value_variants().iter().copied();
        all.filter(|scenario| self.scenario.is_empty() || self.scenario.contains(scenario))
    }

    fn peers(&self) -> impl Iterator<Item = Peer> {
        let all = Peer::value_variants().iter().copied().filter(|peer| *peer != Peer::Direct);
        all.filter(|peer| match peer {
            Peer::Before => self.before.is_some(),
            _ => self.only.is_empty() || self.only.contains(peer),
        })
    }
}

fn name_and_version(program: &Program) -> String {
    format!("{} {}", program.peer.name(), program.version)
}

struct Bench<'a> {
    args: &'a Args,
    machine: &'a Machine,
    origin: &'a Origin,
    /// Who is not in a table, and why. Said at once and again at the end, where it is read.
    left_out: Vec<String>,
}

impl Bench<'_> {
    fn leave_out(&mut self, name: &str, error: &anyhow::Error) {
        let loss = format!("{name}: {error:#}");
        eprintln!("LEFT OUT: {loss}");
        self.left_out.push(loss);
    }

    fn programs(&mut self) -> Vec<Program> {
        let mut programs = Vec::new();
        for peer in self.args.peers() {
            let found = match (peer, &self.args.before) {
                (Peer::Portolan, _) => Program::portolan(peer, &self.args.portolan),
                (Peer::Before, Some(before)) => Program::portolan(peer, before),
                _ => peer.locate(self.machine),
            };
            match found {
                Ok(program) => programs.push(program),
                Err(error) => self.leave_out(peer.name(), &error),
            }
        }
        programs
    }

    fn introduce(&self, programs: &[Program]) {
        let names: Vec<_> = programs.iter().map(name_and_version).collect();
        println!("{}", self.machine.summary);
        println!("{}", names.join(", "));
        println!("{} rounds of {} s for each; figures are medians\n", self.args.rounds, self.args.seconds);
        if cfg!(debug_assertions) {
            println!("THIS IS A DEVELOPMENT BUILD: the figures of portolan and of the origin mean nothing\n");
        }
    }

    /// One scenario: everybody up, everybody in turn, everybody down.
    fn measure(&mut self, scenario: Scenario, load: &Load, programs: &[Program]) -> Results {
        let mut contenders = self.start(scenario, programs);
        for round in 1..=self.args.rounds {
            contenders.retain_mut(|contender| {
                eprintln!("{}, round {round} of {}: {}", scenario.name(), self.args.rounds, contender.proxy.label);
                match round::measure(&contender.proxy, load, self.origin, self.args.seconds) {
                    Ok(sample) => {
                        contender.samples.push(sample);
                        true
                    }
                    Err(error) => {
                        self.leave_out(&format!("{} in {}", contender.proxy.label, scenario.name()), &error);
                        false
                    }
                }
            });
        }
        Results::new(scenario, contenders.into_iter().map(Contender::into_row).collect())
    }

    fn start(&mut self, scenario: Scenario, programs: &[Program]) -> Vec<Contender> {
        // The origin speaks no HTTP/2.
        let direct = (!scenario.is_http2()).then(|| Running::direct(self.origin.port));
        let mut contenders: Vec<_> = direct.into_iter().map(Contender::of).collect();
        for program in programs {
            for (label, work) in parts(scenario, program.peer) {
                match program.start(label.clone(), self.machine, self.origin.port, work) {
                    Ok(proxy) => contenders.push(Contender::of(proxy)),
                    Err(error) => self.leave_out(&format!("{label} in {}", scenario.name()), &error),
                }
            }
        }
        contenders
    }
}

/// A proxy in a scenario, with what its turns measured so far. It leaves with its first turn that cannot be measured.
struct Contender {
    proxy: Running,
    samples: Vec<Sample>,
}

impl Contender {
    fn of(proxy: Running) -> Self {
        Self { proxy, samples: Vec::new() }
    }

    fn into_row(self) -> Row {
        Row { proxy: self.proxy.label, lacks: self.proxy.lacks, samples: self.samples }
    }
}

/// Under which names, and with which work, a peer takes part in a scenario.
fn parts(scenario: Scenario, peer: Peer) -> Vec<(String, Work)> {
    match scenario {
        Scenario::Routes if peer.is_portolan() => {
            TABLES.map(|routes| (format!("{} with {routes} routes", peer.name()), Work::Requests(routes))).into()
        }
        Scenario::Tcp if peer.moves_bytes() => vec![(peer.name().into(), Work::Bytes)],
        Scenario::H2 | Scenario::H2Single if peer.passes_streams() => vec![(peer.name().into(), Work::Streams)],
        Scenario::Routes | Scenario::Tcp | Scenario::H2 | Scenario::H2Single => Vec::new(),
        _ => vec![(peer.name().into(), Work::Requests(1))],
    }
}
