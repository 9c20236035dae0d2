//! Whether browsers and programs trust what https clients are shown, and until when.

use std::time::{Duration, SystemTime};

use super::{Finding, listed};
use crate::{
    config::Config,
    tls::{Authority, AuthorityError, folder},
    trust::{self, Candidate, Kind, Machine},
};

const CHECK: &str = "certificates";

/// Soon enough to make a new one at leisure.
const NEAR: Duration = Duration::from_secs(30 * 24 * 60 * 60);

/// What was seen of the authority.
#[derive(Debug)]
pub(super) enum Certificates {
    /// Nobody has needed one yet.
    None,
    /// It is there, but of no use: why.
    Refused(String),
    /// It is there.
    Made(Made),
}

/// An authority, and who trusts it.
#[derive(Debug)]
pub(super) struct Made {
    name: String,
    until: SystemTime,
    /// Hosts of the table that it may not vouch for.
    uncovered: Vec<String>,
    stores: Vec<Seen>,
}

/// A store, and what it says.
#[derive(Debug)]
struct Seen {
    store: String,
    /// `Err`: why that cannot be told.
    trusts: Result<bool, String>,
}

/// Looks into every store; changes nothing.
pub(super) fn look(config: Option<&Config>) -> Certificates {
    let looked = folder::default().and_then(|folder| Authority::load(&folder));
    looked
        .and_then(|authority| authority.map_or(Ok(Certificates::None), |authority| seen(&authority, config)))
        .unwrap_or_else(|error| Certificates::Refused(error.to_string()))
}

fn seen(authority: &Authority, config: Option<&Config>) -> Result<Certificates, AuthorityError> {
    let candidate = Candidate { file: authority.file(), certificate: authority.certificate().clone() };
    let machine = Machine::here();
    let stores = Kind::ALL.into_iter().flat_map(|kind| machine.stores(kind)).map(|store| Seen {
        store: store.name().to_owned(),
        trusts: store.trusts(&candidate).map_err(|step| step.words()),
    });
    let hosts = config.map(trust::hosts).unwrap_or_default();
    Ok(Certificates::Made(Made {
        name: authority.name().to_owned(),
        until: authority.until(),
        uncovered: hosts.into_iter().filter(|host| !authority.permits(host)).collect(),
        stores: stores.collect(),
    }))
}

/// One finding, and another where the table names hosts that came later.
pub(super) fn examine(certificates: &Certificates, now: SystemTime) -> Vec<Finding> {
    match certificates {
        Certificates::None => vec![Finding::ok(CHECK, "nobody has asked for https yet, so there is no authority")],
        Certificates::Refused(why) => {
            let told = Finding::problem(CHECK, format!("there is an authority, but it is not used: {why}"));
            vec![told.note("https clients are turned away")]
        }
        Certificates::Made(made) => {
            [Some(examine_life(made, now).unwrap_or_else(|| examine_trust(made))), examine_names(made)]
                .into_iter()
                .flatten()
                .collect()
        }
    }
}

fn examine_life(made: &Made, now: SystemTime) -> Option<Finding> {
    let left = made.until.duration_since(now).unwrap_or_default();
    let anew = "make another one with `portolan untrust`, then `portolan trust`";
    if left.is_zero() {
        let told = Finding::warning(CHECK, format!("{} has expired", made.name));
        return Some(told.note("the next https client makes a new one, which nobody trusts yet").help(anew));
    }
    let days = left.as_secs() / (24 * 60 * 60);
    (left < NEAR).then(|| Finding::warning(CHECK, format!("{} expires in {days} days", made.name)).help(anew))
}

fn examine_trust(made: &Made) -> Finding {
    let (mut yes, mut no, mut unknown) = (Vec::new(), Vec::new(), Vec::new());
    for seen in &made.stores {
        match &seen.trusts {
            Ok(true) => yes.push(seen.store.clone()),
            Ok(false) => no.push(seen.store.clone()),
            Err(why) => unknown.push(format!("{}: {why}", seen.store)),
        }
    }
    let help = "have them trust it with `portolan trust`";
    if yes.is_empty() {
        let told = Finding::warning(CHECK, format!("no store trusts {}: https:// URLs open with a warning", made.name));
        return told.notes(unknown).help(help);
    }
    if no.is_empty() && unknown.is_empty() {
        return Finding::ok(CHECK, format!("{} is trusted by {}", made.name, listed(yes)));
    }
    let message = format!("{} is trusted by {}, but not by every store", made.name, listed(yes));
    let others = (!no.is_empty()).then(|| format!("not by {}", listed(no)));
    Finding::warning(CHECK, message).notes(others.into_iter().chain(unknown)).help(help)
}

fn examine_names(made: &Made) -> Option<Finding> {
    let names = listed(&made.uncovered);
    let told = || Finding::warning(CHECK, format!("the authority was made before the table named {names}"));
    let why = "it may not vouch for that: browsers refuse what they are shown";
    (!made.uncovered.is_empty())
        .then(|| told().note(why).help("make another one with `portolan untrust`, then `portolan trust`"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::Verdict;

    fn made(stores: &[(&str, Result<bool, String>)]) -> Made {
        let stores = stores.iter().map(|(store, trusts)| Seen { store: (*store).into(), trusts: trusts.clone() });
        Made {
            name: "the authority".into(),
            until: SystemTime::now() + 10 * NEAR,
            uncovered: vec![],
            stores: stores.collect(),
        }
    }

    fn examined(made: Made) -> Vec<Finding> {
        examine(&Certificates::Made(made), SystemTime::now())
    }

    #[test]
    fn no_authority_is_no_fault_and_one_that_is_refused_is_a_problem() {
        assert_eq!(examine(&Certificates::None, SystemTime::now())[0].verdict, Verdict::Ok);
        let refused = examine(&Certificates::Refused("x: is open".into()), SystemTime::now());
        assert_eq!(refused[0].verdict, Verdict::Problem);
        assert!(refused[0].message.ends_with("it is not used: x: is open"));
    }

    #[test]
    fn it_is_well_where_every_store_trusts_it() {
        let found = examined(made(&[("system", Ok(true)), ("firefox", Ok(true)), ("firefox", Ok(true))]));
        assert_eq!(found[0].message, "the authority is trusted by system and firefox");
        assert_eq!((found[0].verdict, found.len()), (Verdict::Ok, 1));
    }

    #[test]
    fn stores_that_do_not_trust_it_or_cannot_be_asked_are_told_with_the_command() {
        let none = examined(made(&[("system", Ok(false))]));
        assert_eq!(none[0].message, "no store trusts the authority: https:// URLs open with a warning");
        let some = examined(made(&[("system", Ok(true)), ("firefox", Ok(false)), ("java", Err("locked".into()))]));
        assert_eq!(some[0].verdict, Verdict::Warning);
        assert_eq!(some[0].notes, ["not by firefox", "java: locked"]);
        assert_eq!(some[0].help.as_deref(), Some("have them trust it with `portolan trust`"));
    }

    #[test]
    fn its_end_is_told_before_it_comes() {
        let near = Made { until: SystemTime::now() + Duration::from_secs(3 * 86_400 + 60), ..made(&[]) };
        assert_eq!(examined(near)[0].message, "the authority expires in 3 days");
        let over = Made { until: SystemTime::now(), ..made(&[]) };
        assert_eq!(examined(over)[0].message, "the authority has expired");
    }

    #[test]
    fn hosts_that_came_after_it_are_told() {
        let found = examined(Made { uncovered: vec!["shop.dev".into()], ..made(&[("system", Ok(true))]) });
        assert_eq!(found[1].message, "the authority was made before the table named shop.dev");
    }
}
