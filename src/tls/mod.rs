//! Certificates for local names: an authority of this user's own, and what is shown to clients that speak TLS.
//!
//! Nothing here happens before the first client speaks TLS, or before somebody asks for it by `portolan trust`. The
//! authority then made can vouch for local names and for the hosts of the table, and for nothing else: whoever steals its
//! key can impersonate this machine to itself. Its certificate is the only record; everything known of it is read from there.

pub mod authority;
pub mod client;
mod der;
mod dump;
pub mod folder;
mod leaf;
pub mod own;
pub mod server;
mod told;

pub use authority::{Authority, AuthorityError};
pub use own::{Own, OwnError};
pub use server::Keys;
pub use told::Told;

use std::time::{Duration, SystemTime};

use rcgen::{CertificateParams, date_time_ymd};

/// From when until when a certificate is valid; it knows no part of a second.
fn set_validity(params: &mut CertificateParams, from: SystemTime, until: SystemTime) {
    let epoch = date_time_ymd(1970, 1, 1);
    params.not_before = epoch + Duration::from_secs(seconds(from));
    params.not_after = epoch + Duration::from_secs(seconds(until));
}

/// Since 1970; a clock that stands before that tells 0.
fn seconds(time: SystemTime) -> u64 {
    time.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
