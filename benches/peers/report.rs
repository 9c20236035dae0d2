//! The figures, for people as one table per scenario and for programs as JSON.

use std::fmt::Write as _;

use serde::Serialize;

use crate::load::Errors;
use crate::round::{Cost, Sample};
use crate::scenario::Scenario;

/// More upstream connections per request than this, and a proxy does not keep them.
const KEEPS_CONNECTIONS: f64 = 0.01;

/// Below this share of its CPU a proxy was waiting for the load.
const BUSY: f64 = 0.9;

/// Everything that one run of the benchmark found out.
#[derive(Serialize)]
pub(crate) struct Report {
    pub(crate) machine: String,
    pub(crate) rounds: u32,
    pub(crate) seconds: u32,
    pub(crate) programs: Vec<String>,
    pub(crate) left_out: Vec<String>,
    pub(crate) scenarios: Vec<Results>,
}

/// One scenario, with the proxies in the order of the table.
#[derive(Serialize)]
pub(crate) struct Results {
    pub(crate) scenario: &'static str,
    pub(crate) description: &'static str,
    pub(crate) clients: u32,
    /// How many answers each of them waits for at the same time.
    pub(crate) streams: u32,
    pub(crate) rows: Vec<Row>,
}

#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) proxy: String,
    pub(crate) lacks: Vec<&'static str>,
    /// One for each round.
    pub(crate) samples: Vec<Sample>,
}

impl Results {
    pub(crate) fn new(scenario: Scenario, rows: Vec<Row>) -> Self {
        let (name, description) = (scenario.name(), scenario.description());
        Self { scenario: name, description, clients: scenario.clients(), streams: scenario.streams(), rows }
    }

    /// The table and, below it, whatever makes a row not comparable.
    pub(crate) fn text(&self) -> String {
        let baselines = self.baselines();
        let mut lines = vec![headings(&baselines)];
        lines.extend(self.rows.iter().map(|row| row.cells(&baselines)));
        let notes = self
            .rows
            .iter()
            .flat_map(|row| row.notes(self.clients * self.streams))
            .chain(self.who_waited())
            .chain(self.who_answered());
        let notes: Vec<String> = notes.map(|note| format!("  {note}\n")).collect();
        let notes = notes.concat();
        format!("{}: {}; {} clients\n{}{notes}", self.scenario, self.description, self.clients, aligned(&lines))
    }

    fn who_waited(&self) -> Option<String> {
        let names: Vec<_> = self.rows.iter().filter(|row| row.waited()).map(|row| row.proxy.as_str()).collect();
        let names = (!names.is_empty()).then(|| names.join(", "))?;
        Some(format!("not busy, so that requests/s tells of the load and not of the proxy: {names}"))
    }

    /// How many requests each answered in the time in which nginx answered one.
    fn who_answered(&self) -> Option<String> {
        let nginx = self.rows.iter().find(|row| row.proxy == "nginx")?;
        let others = self.rows.iter().filter(|row| row.proxy != nginx.proxy);
        let ratios = others.filter_map(|row| Some(format!("{} {:.2}", row.proxy, row.rate_beside(nginx)?)));
        let ratios: Vec<_> = ratios.collect();
        (!ratios.is_empty()).then(|| format!("requests/s / nginx: {}", ratios.join(", ")))
    }

    /// Whom the others are compared with: the first table where tables are compared, else the better of the two best
    /// known proxies, and portolan.
    fn baselines(&self) -> Vec<&Row> {
        let first_with = |prefix: &str| self.rows.iter().find(|row| row.proxy.starts_with(prefix));
        let known = self.rows.iter().filter(|row| ["nginx", "haproxy"].contains(&row.proxy.as_str()));
        let better = known.min_by(|one, other| one.us_per_request().total_cmp(&other.us_per_request()));
        better.into_iter().chain(first_with("portolan")).collect()
    }
}

impl Row {
    fn costs(&self) -> impl Iterator<Item = Cost> {
        self.samples.iter().filter_map(|sample| sample.cost)
    }

    fn us_per_request(&self) -> f64 {
        median(self.costs().map(|cost| cost.us_per_request())).unwrap_or(f64::INFINITY)
    }

    /// The median of the ratios of each round, in which both ran within seconds: steadier than a ratio of medians.
    fn ratio_to(&self, baseline: &Self) -> Option<f64> {
        median(self.costs().zip(baseline.costs()).map(|(own, base)| own.us_per_request() / base.us_per_request()))
    }

    /// The same of requests/s.
    fn rate_beside(&self, other: &Self) -> Option<f64> {
        let rates = self.samples.iter().zip(&other.samples);
        median(rates.map(|(own, other)| own.requests_per_second() / other.requests_per_second()))
    }

    /// Half the distance between the cheapest and the dearest round, as a share of the median.
    fn spread(&self) -> Option<f64> {
        let sums: Vec<f64> = self.costs().map(|cost| cost.us_per_request()).collect();
        let highest = sums.iter().copied().max_by(f64::total_cmp)?;
        let lowest = sums.iter().copied().min_by(f64::total_cmp)?;
        Some((highest - lowest) / 2.0 / self.us_per_request())
    }

    fn errors(&self) -> Errors {
        self.samples.iter().fold(Errors::default(), |sum, sample| sum.plus(&sample.load.errors))
    }

    /// Without those that replace what the end of the warm-up broke off: at most one for each request under way in each
    /// round.
    fn upstream_connections_per_request(&self, at_once: u32) -> f64 {
        let opened = |sample: &Sample| sample.upstream_connections.saturating_sub(at_once.into());
        let opened: u64 = self.samples.iter().map(opened).sum();
        let requests: u64 = self.samples.iter().map(|sample| sample.load.requests).sum();
        opened as f64 / requests.max(1) as f64
    }

    fn cells(&self, baselines: &[&Self]) -> Vec<String> {
        let of_cost = |figure: fn(&Cost) -> f64| median(self.costs().map(|cost| figure(&cost)));
        let of_sample = |figure: fn(&Sample) -> f64| median(self.samples.iter().map(figure));
        let mark = if self.errors().in_words().is_some() { "! " } else { "" };
        let mut cells = vec![
            format!("{mark}{}", self.proxy),
            cell(of_cost(|cost| cost.user_us_per_request), number),
            cell(of_cost(|cost| cost.kernel_us_per_request), number),
            cell(of_cost(Cost::us_per_request), number),
            cell(self.spread(), |share| format!("{:.0} %", share * 100.0)),
        ];
        cells.extend(baselines.iter().map(|baseline| cell(self.ratio_to(baseline), |ratio| format!("{ratio:.2}"))));
        cells.extend([
            cell(of_sample(Sample::requests_per_second), number),
            cell(of_sample(|sample| sample.load.p50_us as f64), milliseconds),
            cell(of_sample(|sample| sample.load.p99_us as f64), milliseconds),
            cell(of_cost(|cost| cost.rss_kb as f64 / 1024.0), number),
            cell(of_cost(|cost| cost.busy), |share| format!("{:.0} %", share * 100.0)),
        ]);
        cells
    }

    fn waited(&self) -> bool {
        median(self.costs().map(|cost| cost.busy)).is_some_and(|busy| busy < BUSY)
    }

    fn notes(&self, at_once: u32) -> Vec<String> {
        let is_proxy = self.costs().next().is_some();
        let opened = self.upstream_connections_per_request(at_once);
        let errors = self.errors().in_words().map(|words| format!("! {}: {words}", self.proxy));
        let lacks = (!self.lacks.is_empty()).then(|| format!("{} does not add {}", self.proxy, self.lacks.join(", ")));
        let opens = (is_proxy && opened > KEEPS_CONNECTIONS)
            .then(|| format!("{} opens {opened:.2} upstream connections per request", self.proxy));
        [errors, lacks, opens].into_iter().flatten().collect()
    }
}

fn headings(baselines: &[&Row]) -> Vec<String> {
    let ratios = baselines.iter().map(|row| format!("/ {}", row.proxy));
    let cost = ["", "user µs", "kernel µs", "sum µs", "±"].map(String::from);
    let rest = ["requests/s", "p50 ms", "p99 ms", "RSS MB", "busy"].map(String::from);
    cost.into_iter().chain(ratios).chain(rest).collect()
}

/// The first column to the left, figures to the right.
fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width =
        |column: usize| lines.iter().filter_map(|line| Some(line.get(column)?.chars().count())).max().unwrap_or(0);
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let mut text = String::new();
    for line in lines {
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            let _infallible = match column {
                0 => write!(text, "  {cell:<width$}"),
                _ => write!(text, "  {cell:>width$}"),
            };
        }
        text.push('\n');
    }
    text
}

fn cell(figure: Option<f64>, format: fn(f64) -> String) -> String {
    figure.map_or_else(|| "-".into(), format)
}

fn milliseconds(microseconds: f64) -> String {
    format!("{:.2}", microseconds / 1000.0)
}

/// Three digits or more, and a comma between thousands.
fn number(figure: f64) -> String {
    if figure < 1000.0 {
        return format!("{figure:.1}");
    }
    let digits = format!("{figure:.0}");
    let mut grouped = String::new();
    for (position, digit) in digits.chars().enumerate() {
        if position > 0 && (digits.len() - position) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

fn median(figures: impl Iterator<Item = f64>) -> Option<f64> {
    let mut figures: Vec<f64> = figures.collect();
    figures.sort_by(f64::total_cmp);
    let middle = figures.len() / 2;
    match figures.len() % 2 {
        1 => figures.get(middle).copied(),
        _ => Some((figures.get(middle.checked_sub(1)?)? + figures.get(middle)?) / 2.0),
    }
}
