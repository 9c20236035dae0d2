//! One entry of `[routes]`: its name, its conditions, and the parts that other files check.

use super::{Problems, actions, filters, section::Section, services::Services, targets, values::is_label};
use crate::{
    config::{
        Action, Certificate, Filters, HostMatch, MAX_ROUTES, Match, OWN_HOST, PathMatch, Route, Written,
        document::{Entry, Kind, Table},
        keys,
    },
    diagnostic::Diagnostic,
};

/// What a route must know of the rest of the file.
pub(super) struct Surroundings<'d> {
    /// `project`, if it is fine.
    pub(super) project: Option<String>,
    /// Names that a target may have.
    pub(super) services: Services<'d>,
}

/// The routes that are fine, in the order of the file.
pub(super) fn check(root: &Table, around: &Surroundings<'_>, problems: &mut Problems) -> Vec<Route> {
    let Some(value) = root.get("routes") else { return Vec::new() };
    let Some(table) = problems.table(value, "routes") else { return Vec::new() };
    if table.entries.len() > MAX_ROUTES {
        let message = format!("{} routes are more than the {MAX_ROUTES} that a table may have", table.entries.len());
        problems.push(Diagnostic::error("too-many-routes", message).at(value.span.clone(), "in this section"));
        return Vec::new();
    }
    table.entries.iter().filter_map(|entry| route(entry, around, problems)).collect()
}

/// What a route says beside its name.
struct Parts {
    matches: Match,
    certificate: Option<Certificate>,
    filters: Filters,
    action: Action,
}

fn route(entry: &Entry, around: &Surroundings<'_>, problems: &mut Problems) -> Option<Route> {
    let named = check_name(entry, problems);
    let Parts { matches, certificate, filters, action } = match &entry.value.kind {
        Kind::Table(table) => full(entry, table, around, problems)?,
        Kind::Integer(_) | Kind::String(_) => short(entry, around, problems)?,
        _ => {
            problems.wrong_type(&entry.value, &entry.name, "a port, an address, a service's name or a table");
            return None;
        }
    };
    let (name, origin, written) = (entry.name.clone(), entry.span.clone(), entry.value.fingerprint());
    named.then_some(Route { name, origin, written, matches, certificate, filters, action })
}

/// The name goes into log lines and into a header field as it is.
pub(super) fn check_name(entry: &Entry, problems: &mut Problems) -> bool {
    let fine = is_name(&entry.name);
    if !fine {
        let problem = Diagnostic::error("bad-name", format!("`{}` cannot be the name of a route", entry.name));
        problems.push(problem.at(entry.span.clone(), "1 to 100 visible ASCII characters, without blanks"));
    }
    fine
}

fn is_name(name: &str) -> bool {
    const LONGEST: usize = 100;
    (1..=LONGEST).contains(&name.len()) && name.bytes().all(|byte| byte.is_ascii_graphic())
}

/// `docs = 4000`
fn short(entry: &Entry, around: &Surroundings<'_>, problems: &mut Problems) -> Option<Parts> {
    let host = default_host(entry, around, problems);
    let targets = targets::targets(&entry.value, &around.services, problems);
    let matches = Match::new(vec![host?], PathMatch::Prefix("/".into()));
    let action = Action::Forward(actions::plain_forward(targets?));
    Some(Parts { matches, certificate: None, filters: Filters::default(), action })
}

fn full(entry: &Entry, table: &Table, around: &Surroundings<'_>, problems: &mut Problems) -> Option<Parts> {
    let owner = format!("route `{}`", entry.name);
    let section = Section::open(table, &owner, &entry.span, &keys::ROUTE, problems);
    let matches = conditions(entry, &section, around, problems);
    let filters = filters::check(&section, problems);
    if let (Some(matches), Some(filters)) = (&matches, &filters) {
        warn_of_lost_preflights(&section, matches, filters, problems);
    }
    let action = actions::check(&section, &around.services, problems);
    actions::tell_not_yet(&section, &around.services, problems);
    let certificate = certificate(&section, problems);
    Some(Parts { matches: matches?, certificate: certificate?, filters: filters?, action: action? })
}

/// Both files or none; one alone was told of already.
fn certificate(section: &Section<'_>, problems: &mut Problems) -> Option<Option<Certificate>> {
    let mut file = |key| {
        let value = section.get(key)?;
        let written = |path| Written { value: path, origin: value.span.clone() };
        Some(problems.file(value, key).map(written))
    };
    match (file("cert"), file("key")) {
        (Some(chain), Some(key)) => Some(Some(Certificate { chain: chain?, key: key? })),
        (None, None) => Some(None),
        (Some(_), None) | (None, Some(_)) => None,
    }
}

/// A browser asks with OPTIONS first; a route that takes only other methods never hears it.
fn warn_of_lost_preflights(section: &Section<'_>, matches: &Match, filters: &Filters, problems: &mut Problems) {
    let lost = filters.cors.is_some()
        && !matches.methods.is_empty()
        && !matches.methods.iter().any(|method| method == "OPTIONS");
    if let (true, Some(methods)) = (lost, section.get("methods")) {
        let warning =
            Diagnostic::warning("lost-preflights", "`cors` cannot answer preflights, which come with OPTIONS")
                .at(methods.span.clone(), "takes no OPTIONS")
                .help("add \"OPTIONS\" to `methods`");
        problems.push(warning);
    }
}

fn conditions(
    entry: &Entry,
    section: &Section<'_>,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<Match> {
    let path = path(section, problems);
    let hosts = hosts(entry, section, around, problems);
    let methods = section.get("methods").map(|value| problems.methods(value, "methods"));
    let headers = section.get("headers").map(|value| problems.conditions(value, "headers"));
    let query = section.get("query").map(|value| problems.conditions(value, "query"));
    Some(Match {
        hosts: hosts?,
        path: path?,
        methods: methods.unwrap_or(Some(Vec::new()))?,
        headers: headers.unwrap_or(Some(Vec::new()))?,
        query: query.unwrap_or(Some(Vec::new()))?,
    })
}

impl Match {
    /// A match with no conditions but these.
    fn new(hosts: Vec<HostMatch>, path: PathMatch) -> Self {
        Self { hosts, path, methods: Vec::new(), headers: Vec::new(), query: Vec::new() }
    }
}

fn path(section: &Section<'_>, problems: &mut Problems) -> Option<PathMatch> {
    if let Some(value) = section.get("path") {
        let text = problems.path(value, "path")?;
        // `/abc` and `/abc/` take the same requests: prefixes match by whole elements.
        let trimmed = text.strip_suffix('/').unwrap_or(text);
        if trimmed.ends_with('/') {
            problems.bad("bad-path", value, "`path` ends with an empty element".into(), "too many / at the end");
            return None;
        }
        return Some(PathMatch::Prefix(if trimmed.is_empty() { "/".into() } else { trimmed.into() }));
    }
    if let Some(value) = section.get("path_exact") {
        return problems.path(value, "path_exact").map(|text| PathMatch::Exact(text.to_owned()));
    }
    if let Some(value) = section.get("path_regex") {
        problems.filled(value, "path_regex")?;
        return problems.regex(value, "path_regex").map(|text| PathMatch::Regex(text.to_owned()));
    }
    Some(PathMatch::Prefix("/".into()))
}

fn hosts(
    entry: &Entry,
    section: &Section<'_>,
    around: &Surroundings<'_>,
    problems: &mut Problems,
) -> Option<Vec<HostMatch>> {
    if let Some(hosts) = written_hosts(section, problems) {
        return hosts;
    }
    if ["path", "path_exact", "path_regex"].iter().any(|key| section.get(key).is_some()) {
        return Some(vec![HostMatch::AnyLocal]);
    }
    default_host(entry, around, problems).map(|host| vec![host])
}

/// What `host` or `hosts` say, where one of them is written.
pub(super) fn written_hosts(section: &Section<'_>, problems: &mut Problems) -> Option<Option<Vec<HostMatch>>> {
    if let Some(value) = section.get("host") {
        return Some(problems.host(value, "host").map(|host| vec![host]));
    }
    section.get("hosts").map(|value| {
        let mut hosts = Vec::new();
        let mut fine = true;
        for (_, item) in problems.some_strings(value, "hosts")? {
            match problems.host(item, "hosts") {
                Some(host) if !hosts.contains(&host) => hosts.push(host),
                host => fine &= host.is_some(),
            }
        }
        fine.then_some(hosts)
    })
}

/// `NAME.localhost`, or `NAME.PROJECT.localhost`.
fn default_host(entry: &Entry, around: &Surroundings<'_>, problems: &mut Problems) -> Option<HostMatch> {
    if !is_name(&entry.name) {
        return None;
    }
    if !is_label(&entry.name) {
        problems.push(
            Diagnostic::error("bad-name", format!("route `{0}` cannot be served at {0}.localhost", entry.name))
                .at(entry.span.clone(), "no label of a host name: letters, digits and inner hyphens")
                .help("give it another name, or a `host` or `path` of its own"),
        );
        return None;
    }
    let name = entry.name.to_ascii_lowercase();
    let host = match &around.project {
        Some(project) => format!("{name}.{project}.localhost"),
        None => format!("{name}.localhost"),
    };
    if host == OWN_HOST {
        problems.push(
            Diagnostic::error("reserved-host", format!("{OWN_HOST} is portolan's own host"))
                .at(entry.span.clone(), "a route of this name would be served there")
                .help("give it another name, or a `host` or `path` of its own"),
        );
        return None;
    }
    Some(HostMatch::Exact(host))
}
