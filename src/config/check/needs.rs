//! What only shows when all services are seen together: needs that nobody meets, rings, a port that two of them open.

use std::collections::{HashMap, HashSet};

use super::{Problems, section::nearest, services::Draft};
use crate::{config::document::quoted, diagnostic::Diagnostic};

/// Tells everything that is wrong between services.
pub(super) fn check(services: &[Draft<'_>], problems: &mut Problems) {
    let named: HashMap<&str, &Draft<'_>> =
        services.iter().map(|service| (service.entry.name.as_str(), service)).collect();
    let mut done = HashSet::new();
    for service in services {
        tell_unknown(service, &named, problems);
        tell_rings(&service.entry.name, &named, &mut done, problems);
    }
    tell_ports(services, problems);
}

fn tell_unknown(service: &Draft<'_>, named: &HashMap<&str, &Draft<'_>>, problems: &mut Problems) {
    let name = service.entry.name.as_str();
    for (need, at) in service.needs.iter().filter(|(need, _)| !named.contains_key(need)) {
        let problem = Diagnostic::error("unknown-service", format!("service `{name}` needs `{need}`"))
            .at(at.span.clone(), "no such service");
        let others = named.keys().filter(|other| **other != name);
        problems.push(match nearest(need, others.map(|other| (*other, *other))) {
            Some(other) => problem.patch("a service with a similar name exists", at.span.clone(), quoted(other)),
            None => problem.help("define it in [services], or take it out of `needs`"),
        });
    }
}

/// Walks `needs` from `start`, depth first and without recursion, as a file may chain thousands.
fn tell_rings<'d>(
    start: &'d str,
    named: &HashMap<&'d str, &Draft<'d>>,
    done: &mut HashSet<&'d str>,
    problems: &mut Problems,
) {
    if done.contains(start) {
        return;
    }
    let mut way: Vec<(&str, usize)> = vec![(start, 0)];
    let mut on_way = HashSet::from([start]);
    while let Some((name, next)) = way.last_mut() {
        let need = named.get(name).and_then(|service| service.needs.get(*next));
        *next += 1;
        let Some((need, at)) = need else {
            done.insert(name);
            on_way.remove(name);
            way.pop();
            continue;
        };
        if done.contains(need) {
            continue;
        }
        if on_way.contains(need) {
            let from = way.iter().position(|(name, _)| name == need).unwrap_or_default();
            let ring: Vec<&str> = way[from..].iter().map(|(name, _)| *name).collect();
            problems.push(told(&ring).at(at.span.clone(), format!("leads back to `{need}`")));
            continue;
        }
        on_way.insert(need);
        way.push((need, 0));
    }
}

fn told(ring: &[&str]) -> Diagnostic {
    if let [alone] = ring {
        return Diagnostic::error("needs-cycle", format!("`{alone}` waits for itself"))
            .help("it could never be started; take it out of its own `needs`");
    }
    let names: Vec<String> = ring.iter().map(|name| format!("`{name}`")).collect();
    Diagnostic::error("needs-cycle", format!("{} wait for each other", names.join(", ")))
        .help("none of them could ever be started; take one `needs` out")
}

fn tell_ports(services: &[Draft<'_>], problems: &mut Problems) {
    let mut owners: HashMap<u16, &Draft<'_>> = HashMap::new();
    for service in services {
        let Some(port) = service.port else { continue };
        let Some(first) = owners.insert(port, service) else { continue };
        let message = format!("services `{}` and `{}` have the same port", first.entry.name, service.entry.name);
        problems.push(
            Diagnostic::error("conflict", message)
                .at(service.entry.span.clone(), format!("{port} here too"))
                .related(first.entry.span.clone(), "first here"),
        );
    }
}
