//! Who trusts whom: the certificates that a table names, and the stores that take or leave the local authority.
//!
//! Nothing is put into a store unless somebody has asked for it. What is put there can be told from everything else by
//! its fingerprint, and only that is ever taken out.

mod folder;
mod java;
mod nss;
mod placed;
mod program;
mod stores;
mod system;
pub mod written;

pub use placed::Placed;
pub use stores::{Candidate, Kind, Machine, Outcome, Step, Store, Wish};

use crate::{
    config::{Config, HostMatch, Route},
    head::is_local_name,
    tls::authority::is_dns_name,
};

/// The names that a table names beside local ones, and for which it brings no certificate; a wildcard by its suffix. A new
/// authority may vouch for them, but not for addresses, which are left out: another network may have them tomorrow.
pub fn hosts(config: &Config) -> Vec<String> {
    let own = of(config.routes.iter().filter(|route| route.certificate.is_some()));
    of(&config.routes).into_iter().filter(|host| !own.contains(host)).collect()
}

fn of<'c>(routes: impl IntoIterator<Item = &'c Route>) -> Vec<String> {
    let named = routes.into_iter().flat_map(|route| &route.matches.hosts).filter_map(|host| match host {
        HostMatch::Exact(name) => Some(name),
        HostMatch::Wildcard(suffix) => Some(suffix),
        HostMatch::AnyLocal => None,
    });
    let mut hosts: Vec<String> = named.filter(|host| is_dns_name(host) && !is_local_name(host)).cloned().collect();
    hosts.sort();
    hosts.dedup();
    hosts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_authority_is_asked_to_vouch_for_names_and_not_for_addresses() {
        let route = "hosts = [\"shop.dev\", \"192.168.7.7\", \"[fd00::1]\", \"a.localhost\", \"*.mail.dev\"], to = 1";
        let loaded = crate::config::load::from_str("portolan.toml", &format!("[routes]\nall = {{ {route} }}\n"), None);
        assert_eq!(hosts(&loaded.config.unwrap()), ["mail.dev", "shop.dev"]);
    }
}
