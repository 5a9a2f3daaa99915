//! What a certificate says about where and when it can be shown: what a client that meets it would look at.
//!
//! It is asked before a certificate replaces the one in use. The walk decides nothing about trust, and what it does not
//! understand it lets pass: the client judges.

use std::time::{Duration, SystemTime};

use super::name::{BIT_STRING, EXPLICIT_3, OCTET_STRING, OID, SEQUENCE, common_name, element, fields};

/// How far the clocks of a controller and its amphora may be apart.
const SKEW: Duration = Duration::from_hours(24);
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
/// `dNSName` in a `GeneralName`.
const DNS_NAME: u8 = 0x82;
/// DER's `TRUE` (X.690).
const TRUE: (u8, &[u8]) = (0x01, &[0xff]);
/// 2.5.29.15, .17, .19 and .37 (RFC 5280 section 4.2.1).
const KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
/// 1.3.6.1.5.5.7.3.1, id-kp-serverAuth, and 2.5.29.37.0, anyExtendedKeyUsage.
const SERVER_AUTH: [&[u8]; 2] = [&[0x2b, 6, 1, 5, 5, 7, 3, 1], &[0x55, 0x1d, 0x25, 0]];
/// digitalSignature, keyEncipherment, keyAgreement: with none of these OpenSSL takes no certificate for a server's.
const SERVERS_KEY_USAGES: u8 = 0b1010_1000;

/// A certificate to be shown.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Leaf {
    /// Of validity, in seconds since 1970.
    not_before: Option<u64>,
    not_after: Option<u64>,
    /// Host names of its subject's alternative names, in lower case.
    hosts: Vec<String>,
    common_name: Option<String>,
    key_usage: Option<u8>,
    extended_key_usages: Option<Vec<Vec<u8>>>,
    /// It says that it is a CA's.
    ca: bool,
    /// Its issuer has its subject's name.
    self_issued: bool,
}

impl Leaf {
    /// Reads a DER certificate.
    #[must_use]
    pub fn new(der: &[u8]) -> Self {
        let mut leaf = Self { common_name: common_name(der), ..Self::default() };
        let Some(fields) = fields(der) else { return leaf };
        leaf.self_issued = fields.issuer == fields.subject;
        let mut times = fields.validity;
        for time in [&mut leaf.not_before, &mut leaf.not_after] {
            let Some((tag, text, after)) = element(times) else { break };
            *time = seconds(tag, text);
            times = after;
        }
        for (oid, value) in extensions(fields.after_subject).unwrap_or_default() {
            match oid {
                KEY_USAGE => leaf.key_usage = key_usage(value),
                SUBJECT_ALT_NAME => leaf.hosts = hosts(value),
                BASIC_CONSTRAINTS => leaf.ca = is_ca(value),
                EXTENDED_KEY_USAGE => leaf.extended_key_usages = extended(value),
                _ => {}
            }
        }
        leaf
    }

    /// The last second of its validity, since 1970; `None` where it cannot be read.
    #[must_use]
    pub fn not_after(&self) -> Option<u64> {
        self.not_after
    }

    /// Why no client would take it, now, from a server.
    #[must_use]
    pub fn unusable(&self, now: SystemTime) -> Option<&'static str> {
        let lacks = |usages: &Vec<Vec<u8>>| !usages.iter().any(|usage| SERVER_AUTH.contains(&usage.as_slice()));
        let soon = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default() + SKEW;
        if self.is_over(now) {
            Some("the certificate has expired (or this machine's clock is ahead)")
        } else if self.not_before.is_some_and(|begin| begin > soon.as_secs()) {
            Some("the certificate is not valid before tomorrow (or this machine's clock is behind)")
        } else if self.extended_key_usages.as_ref().is_some_and(lacks) {
            Some("the certificate is not for servers: its extended key usage lacks serverAuth")
        } else if self.key_usage.is_some_and(|usage| usage & SERVERS_KEY_USAGES == 0) {
            Some("the certificate is not for servers: its key usage lacks digitalSignature")
        } else {
            None
        }
    }

    /// Whether a client's certificate can come from it: it is a CA's, or its own issuer, as a CA's of old that does not say
    /// what it is, or a single client's that is to be the only one.
    #[must_use]
    pub fn is_issuer(&self) -> bool {
        self.ca || self.self_issued
    }

    /// Whether its validity is over.
    #[must_use]
    pub fn is_over(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        self.not_after.is_some_and(|end| end < now.as_secs())
    }

    /// Whether it is for this host name, in its alternative names or, as of old, as its common name.
    #[must_use]
    pub fn is_for(&self, host: &str) -> bool {
        let same = |name: &str| name.eq_ignore_ascii_case(host);
        self.hosts.iter().any(|name| same(name)) || self.common_name.as_deref().is_some_and(same)
    }
}

/// The extensions of a certificate: what stands at the end, `[3]`.
fn extensions(mut rest: &[u8]) -> Option<Vec<(&[u8], &[u8])>> {
    let list = loop {
        let (tag, content, after) = element(rest)?;
        if tag == EXPLICIT_3 {
            break element(content)?.1;
        }
        rest = after; // the key, unique identifiers
    };
    let (mut list, mut found) = (list, Vec::new());
    while let Some((_, extension, after)) = element(list) {
        list = after;
        let (tag, oid, mut rest) = element(extension)?;
        // A Boolean, critical or not, may stand between the two.
        while let Some((inner, value, after)) = element(rest) {
            if tag == OID && inner == OCTET_STRING {
                found.push((oid, value));
            }
            rest = after;
        }
    }
    Some(found)
}

fn is_ca(value: &[u8]) -> bool {
    let first = element(value).and_then(|(_, constraints, _)| element(constraints));
    first.is_some_and(|(tag, content, _)| (tag, content) == TRUE)
}

/// The first eight bits; the others are of no interest here.
fn key_usage(value: &[u8]) -> Option<u8> {
    match element(value)? {
        (BIT_STRING, [_unused, bits @ ..], _) => Some(bits.first().copied().unwrap_or(0)),
        _ => None,
    }
}

fn hosts(value: &[u8]) -> Vec<String> {
    let (mut names, mut hosts) = (element(value).map_or(&[][..], |(_, names, _)| names), Vec::new());
    while let Some((tag, name, after)) = element(names) {
        names = after;
        if tag == DNS_NAME {
            hosts.push(String::from_utf8_lossy(name).to_ascii_lowercase());
        }
    }
    hosts
}

fn extended(value: &[u8]) -> Option<Vec<Vec<u8>>> {
    let (SEQUENCE, mut list, _) = element(value)? else { return None };
    let mut usages = Vec::new();
    while let Some((_, oid, after)) = element(list) {
        usages.push(oid.to_vec());
        list = after;
    }
    Some(usages)
}

/// `YYMMDDHHMMSSZ` or with four digits of the year (RFC 5280 section 4.1.2.5), in seconds since 1970; 0 before.
fn seconds(tag: u8, text: &[u8]) -> Option<u64> {
    let text = std::str::from_utf8(text).ok().filter(|text| text.is_ascii())?.strip_suffix('Z')?;
    let text = match (tag, text.len()) {
        (GENERALIZED_TIME, 14) => text.to_owned(),
        (UTC_TIME, 12) => format!("{}{text}", if text < "5" { "20" } else { "19" }),
        _ => return None,
    };
    let number = |from: usize, to: usize| text[from..to].parse::<u64>().ok();
    let (year, month, day) = (number(0, 4)?, number(4, 6)?, number(6, 8)?);
    let (hour, minute, second) = (number(8, 10)?, number(10, 12)?, number(12, 14)?);
    if !(1..=12).contains(&month) || year < 1970 {
        return (year < 1970).then_some(0);
    }
    // Years begin in March, so that the day a leap year has more is its last.
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days = year * 365 + year / 4 - year / 100 + year / 400 + (month * 153 + 2) / 5 + day - 1;
    // 719,468 days from 0000-03-01 to 1970-01-01
    Some(days.saturating_sub(719_468) * 86_400 + hour * 3_600 + minute * 60 + second)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{
        BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose as Extended, IsCa, KeyPair,
        KeyUsagePurpose as Usage, date_time_ymd,
    };

    use super::*;

    fn der(change: impl FnOnce(&mut CertificateParams)) -> Vec<u8> {
        let mut params = CertificateParams::new(["Amphora-1".to_owned(), "other".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, "of-old");
        (params.not_before, params.not_after) = (date_time_ymd(2024, 2, 29), date_time_ymd(2051, 1, 1));
        change(&mut params);
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    fn at(seconds: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_secs(seconds)
    }

    const IN_2026: u64 = 1_790_000_000;

    #[test]
    fn it_is_for_the_names_it_holds_from_its_first_second_to_its_last() {
        let leaf = Leaf::new(&der(|_| {}));
        // date -ud 2024-02-29 +%s; date -ud 2051-01-01 +%s
        assert_eq!((leaf.not_before, leaf.not_after), (Some(1_709_164_800), Some(2_556_144_000)));
        assert!(["amphora-1", "OTHER", "of-old"].iter().all(|host| leaf.is_for(host)) && !leaf.is_for("amphora"));
        assert_eq!(leaf.unusable(at(1_709_164_800 - 80_000)), None, "clocks differ");
        assert!(leaf.unusable(at(1_709_164_800 - 90_000)).unwrap().contains("not valid before"));
        assert_eq!(leaf.unusable(at(2_556_144_000)), None);
        assert!(leaf.unusable(at(2_556_144_001)).unwrap().contains("expired"));
        assert_eq!(seconds(UTC_TIME, b"491231235959Z"), Some(2_524_607_999));
        assert_eq!((seconds(UTC_TIME, b"500101000000Z"), seconds(UTC_TIME, b"4912312359Z")), (Some(0), None));
        assert_eq!(seconds(GENERALIZED_TIME, b"20000301000000Z"), Some(951_868_800));
        assert_eq!(seconds(GENERALIZED_TIME, b"20001301000000Z"), None);
    }

    #[test]
    fn one_that_is_not_for_servers_is_told_from_those_that_are() {
        let unusable = |usages: &[Usage], extended: &[Extended]| {
            let leaf = Leaf::new(&der(|params| {
                params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
                (params.key_usages, params.extended_key_usages) = (usages.to_vec(), extended.to_vec());
            }));
            leaf.unusable(at(IN_2026))
        };
        // As Octavia's generator, as openssl.cnf's server_cert, and by hand: all are served by OpenSSL.
        assert_eq!(unusable(&[Usage::DigitalSignature], &[Extended::ClientAuth, Extended::ServerAuth]), None);
        assert_eq!(unusable(&[Usage::KeyEncipherment, Usage::KeyCertSign], &[Extended::Any]), None);
        assert_eq!(unusable(&[], &[]), None);
        assert!(unusable(&[], &[Extended::ClientAuth]).unwrap().contains("serverAuth"));
        assert!(unusable(&[Usage::KeyCertSign, Usage::CrlSign], &[]).unwrap().contains("digitalSignature"));
    }

    #[test]
    fn a_cas_certificate_is_told_from_what_it_has_issued() {
        let issuer = der(|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained));
        assert!(Leaf::new(&issuer).ca && Leaf::new(&issuer).is_issuer());
        let alone = Leaf::new(&der(|params| params.is_ca = IsCa::ExplicitNoCa));
        assert!(!alone.ca && alone.is_issuer(), "nothing but itself");
        let (key, mut params) = (KeyPair::generate().unwrap(), CertificateParams::new(["ca".to_owned()]).unwrap());
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, "the CA");
        let issuer = rcgen::Issuer::from_params(&params, &key);
        let client = CertificateParams::new(["client".to_owned()]).unwrap();
        let client = client.signed_by(&KeyPair::generate().unwrap(), &issuer).unwrap();
        assert!(!Leaf::new(client.der()).is_issuer());
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..600, at in 0usize..600, byte: u8) {
            let _ = Leaf::new(&bytes);
            let mut der = der(|params| params.key_usages = vec![Usage::DigitalSignature]);
            der.truncate(cut);
            if let Some(place) = der.get_mut(at) { *place = byte; }
            let _ = Leaf::new(&der).unusable(SystemTime::now());
        }

        #[test]
        fn no_time_panics(text in "[0-9Zz+ -]{0,16}", tag in UTC_TIME..=GENERALIZED_TIME) {
            seconds(tag, text.as_bytes());
        }
    }
}
