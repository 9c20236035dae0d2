//! What a certificate says of itself, read from its bytes (RFC 5280 §4.1).
//!
//! Only what this room asks for: the name it was given, from when until when it is valid, and for which names it may vouch.
//! That is no check of anything: signatures, chains and names are judged by rustls.

use std::time::SystemTime;

use jiff::{Timestamp, civil::DateTime, tz::TimeZone};

/// What was asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Facts {
    /// The common name of its subject; empty where it has none.
    pub(crate) name: String,
    /// Valid from here..
    pub(crate) from: SystemTime,
    /// ..until here.
    pub(crate) until: SystemTime,
    /// The names, with everything below them, that an authority may vouch for; empty where nothing is said of it.
    pub(crate) permitted: Vec<String>,
}

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const OID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
const PERMITTED: u8 = 0xa0;
const DNS_NAME: u8 = 0x82;
/// 2.5.4.3
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
/// 2.5.29.30
const NAME_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x1e];

/// `None` for what is no certificate.
pub(crate) fn facts(certificate: &[u8]) -> Option<Facts> {
    let mut outer = Reader(Reader(certificate).value(SEQUENCE)?);
    let mut body = Reader(outer.value(SEQUENCE)?);
    body.optional(VERSION);
    body.value(INTEGER)?;
    let _algorithm = body.value(SEQUENCE)?;
    let _issuer = body.value(SEQUENCE)?;
    let mut validity = Reader(body.value(SEQUENCE)?);
    let (from, until) = (time(validity.next()?)?, time(validity.next()?)?);
    let name = common_name(body.value(SEQUENCE)?).unwrap_or_default();
    let _key = body.value(SEQUENCE)?;
    // Two unique identifiers that nobody has used since 1999 may stand between.
    let extensions = body.find(|(tag, _)| *tag == EXTENSIONS).and_then(|(_, value)| Reader(value).value(SEQUENCE));
    let permitted = extensions.and_then(|list| extension(list, NAME_CONSTRAINTS)).and_then(permitted);
    Some(Facts { name, from, until, permitted: permitted.unwrap_or_default() })
}

fn common_name(subject: &[u8]) -> Option<String> {
    let attributes = Reader(subject).filter(|(tag, _)| *tag == SET).filter_map(|(_, set)| Reader(set).value(SEQUENCE));
    attributes.into_iter().find_map(|attribute| {
        let mut attribute = Reader(attribute);
        let (kind, (_, value)) = (attribute.value(OID)?, attribute.next()?);
        (kind == COMMON_NAME).then(|| String::from_utf8_lossy(value).into_owned())
    })
}

/// The content of the extension of this kind.
fn extension<'a>(list: &'a [u8], wanted: &[u8]) -> Option<&'a [u8]> {
    Reader(list).find_map(|(_, one)| {
        let mut one = Reader(one);
        let kind = one.value(OID)?;
        one.optional(BOOLEAN);
        (kind == wanted).then(|| one.value(OCTETS))?
    })
}

fn permitted(constraints: &[u8]) -> Option<Vec<String>> {
    let subtrees = Reader(Reader(constraints).value(SEQUENCE)?).value(PERMITTED)?;
    let names = Reader(subtrees).filter_map(|(_, subtree)| Reader(subtree).value(DNS_NAME));
    Some(names.map(|name| String::from_utf8_lossy(name).into_owned()).collect())
}

/// `261123213400Z` or `20261123213400Z` (RFC 5280 §4.1.2.5): two digits of a year mean 1950 to 2049.
fn time((tag, value): (u8, &[u8])) -> Option<SystemTime> {
    let text = std::str::from_utf8(value).ok()?;
    let (year, rest) = match tag {
        UTC_TIME => {
            let (year, rest) = text.split_at_checked(2)?;
            let year: i16 = year.parse().ok()?;
            (if year < 50 { 2000 + year } else { 1900 + year }, rest)
        }
        GENERALIZED_TIME => {
            let (year, rest) = text.split_at_checked(4)?;
            (year.parse().ok()?, rest)
        }
        _ => return None,
    };
    let digits = rest.strip_suffix('Z').filter(|digits| digits.len() == 10 && digits.is_ascii())?;
    let part = |at: usize| digits[at..at + 2].parse::<i8>().ok();
    let time = DateTime::new(year, part(0)?, part(2)?, part(4)?, part(6)?, part(8)?, 0).ok()?;
    let time: Timestamp = time.to_zoned(TimeZone::UTC).ok()?.timestamp();
    Some(time.into())
}

/// Elements one behind the other, each a tag, a length and a value (X.690 §8.1).
struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    /// The value of the next element, which must have this tag.
    fn value(&mut self, tag: u8) -> Option<&'a [u8]> {
        self.next().filter(|(found, _)| *found == tag).map(|(_, value)| value)
    }

    /// Past the next element, if it has this tag.
    fn optional(&mut self, tag: u8) {
        if self.0.first() == Some(&tag) {
            self.next();
        }
    }
}

impl<'a> Iterator for Reader<'a> {
    type Item = (u8, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let (&[tag, first], rest) = self.0.split_first_chunk()?;
        let (length, rest) = match first {
            0..=0x7f => (usize::from(first), rest),
            // So many bytes of length follow; three of them tell of 16 MB, which no certificate has.
            0x81..=0x83 => {
                let (bytes, rest) = rest.split_at_checked(usize::from(first - 0x80))?;
                (bytes.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn at(tag: u8, text: &str) -> Option<u64> {
        time((tag, text.as_bytes())).map(crate::tls::seconds)
    }

    #[test]
    fn both_spellings_of_a_time_are_read_and_nothing_else_is() {
        assert_eq!(at(UTC_TIME, "700101000010Z"), Some(10));
        assert_eq!(at(UTC_TIME, "491231235959Z"), at(GENERALIZED_TIME, "20491231235959Z"));
        assert_eq!(at(GENERALIZED_TIME, "20501231235959Z"), Some(2_556_143_999));
        for bad in ["", "7", "700101000010", "701301000000Z", "70010100001+Z", "70010100001éZ"] {
            assert_eq!(at(UTC_TIME, bad), None, "{bad}");
        }
    }

    #[test]
    fn a_certificate_is_read_back_as_it_was_made() {
        let from = SystemTime::UNIX_EPOCH + Duration::from_secs(1_800_000_000);
        let until = from + Duration::from_secs(86_400);
        let mut params = rcgen::CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "an organisation");
        params.distinguished_name.push(rcgen::DnType::CommonName, "the name, as it was given");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
        crate::tls::set_validity(&mut params, from, until);
        params.name_constraints = Some(rcgen::NameConstraints {
            permitted_subtrees: vec![
                rcgen::GeneralSubtree::DnsName("localhost".into()),
                rcgen::GeneralSubtree::IpAddress(rcgen::CidrSubnet::from_v4_prefix([127, 0, 0, 0], 8)),
                rcgen::GeneralSubtree::DnsName("shop.dev".into()),
            ],
            excluded_subtrees: Vec::new(),
        });
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = params.self_signed(&key).unwrap();
        let permitted = vec!["localhost".into(), "shop.dev".into()];
        let wanted = Facts { name: "the name, as it was given".into(), from, until, permitted };
        assert_eq!(facts(certificate.der()), Some(wanted));
    }

    #[test]
    fn whatever_is_cut_off_is_no_certificate_and_nothing_panics() {
        let key = rcgen::KeyPair::generate().unwrap();
        let whole = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        for length in 0..whole.der().len() {
            assert_eq!(facts(&whole.der()[..length]), None, "{length}");
        }
        for at in 0..whole.der().len() {
            let mut bent = whole.der().to_vec();
            bent[at] ^= 0xff;
            let _ = facts(&bent);
        }
    }
}
