//! The common name in a certificate's subject, for logs, and the way through a certificate's fields.
//!
//! The certificate has been verified when we look, but the walk trusts nothing: anything unexpected is `None`.

/// DER tags (X.690).
pub(super) const BIT_STRING: u8 = 0x03;
pub(super) const OCTET_STRING: u8 = 0x04;
pub(super) const OID: u8 = 0x06;
pub(super) const SEQUENCE: u8 = 0x30;
const SET: u8 = 0x31;
const EXPLICIT_0: u8 = 0xa0;
pub(super) const EXPLICIT_3: u8 = 0xa3;
/// `UTF8String`, `PrintableString`, `TeletexString`, `IA5String`: those that are (nearly) UTF-8 as they stand.
const TEXTS: [u8; 4] = [0x0c, 0x13, 0x14, 0x16];
/// 2.5.4.3, id-at-commonName.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

/// Some fields of a certificate (RFC 5280 section 4.1), each its content.
pub(super) struct Fields<'c> {
    pub(super) issuer: &'c [u8],
    pub(super) validity: &'c [u8],
    pub(super) subject: &'c [u8],
    /// The key, and to the end.
    pub(super) after_subject: &'c [u8],
}

/// Where the fields of a certificate are.
pub(super) fn fields(certificate: &[u8]) -> Option<Fields<'_>> {
    let (tag, certificate, _) = element(certificate)?;
    let (inner, mut rest, _) = element(certificate)?;
    if tag != SEQUENCE || inner != SEQUENCE {
        return None;
    }
    if *rest.first()? == EXPLICIT_0 {
        rest = element(rest)?.2; // version
    }
    for _ in 0..2 {
        rest = element(rest)?.2; // serial number, signature algorithm
    }
    let (_, issuer, rest) = element(rest)?;
    let (_, validity, rest) = element(rest)?;
    let (_, subject, after_subject) = element(rest)?;
    Some(Fields { issuer, validity, subject, after_subject })
}

/// The first common name of the subject (RFC 5280 section 4.1.2.6), with control characters replaced.
pub(super) fn common_name(certificate: &[u8]) -> Option<String> {
    let mut names = fields(certificate)?.subject;
    while !names.is_empty() {
        let (set, mut attributes, after) = element(names)?;
        names = after;
        while set == SET && !attributes.is_empty() {
            let (_, attribute, after) = element(attributes)?;
            attributes = after;
            let (oid, kind, value) = element(attribute)?;
            let (tag, text, _) = element(value)?;
            if oid == OID && kind == COMMON_NAME && TEXTS.contains(&tag) {
                let text = String::from_utf8_lossy(text);
                return Some(text.replace(char::is_control, "\u{fffd}"));
            }
        }
    }
    None
}

/// Tag, content, and what follows; lengths of at most four bytes.
pub(super) fn element(der: &[u8]) -> Option<(u8, &[u8], &[u8])> {
    let (&tag, der) = der.split_first()?;
    let (&first, mut der) = der.split_first()?;
    let mut length = usize::from(first);
    if first & 0x80 != 0 {
        let bytes = usize::from(first & 0x7f);
        if !(1..=4).contains(&bytes) || der.len() < bytes {
            return None;
        }
        let (digits, after) = der.split_at(bytes);
        length = digits.iter().fold(0, |length, &byte| length << 8 | usize::from(byte));
        der = after;
    }
    (length <= der.len()).then(|| der.split_at(length)).map(|(content, rest)| (tag, content, rest))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, DnType, KeyPair};

    use super::common_name;

    fn certificate(names: &[(DnType, &str)]) -> Vec<u8> {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        for (kind, name) in names {
            params.distinguished_name.push(kind.clone(), *name);
        }
        params.self_signed(&KeyPair::generate().unwrap()).unwrap().der().to_vec()
    }

    #[test]
    fn the_common_name_is_found_wherever_it_stands() {
        let long = "x".repeat(300);
        for name in ["controller", "\u{e9}t\u{e9}", &long] {
            let der = certificate(&[
                (DnType::OrganizationName, "o"),
                (DnType::CommonName, name),
                (DnType::CountryName, "DE"),
            ]);
            assert_eq!(common_name(&der).as_deref(), Some(name));
        }
        assert_eq!(common_name(&certificate(&[(DnType::OrganizationName, "o")])), None);
        assert_eq!(common_name(&certificate(&[(DnType::CommonName, "a\nb")])).as_deref(), Some("a\u{fffd}b"));
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes in prop::collection::vec(any::<u8>(), 0..64), cut in 0usize..400, at in 0usize..400, byte: u8) {
            common_name(&bytes);
            let mut der = certificate(&[(DnType::CommonName, "n")]);
            der.truncate(cut);
            if let Some(place) = der.get_mut(at) { *place = byte; }
            common_name(&der);
        }
    }
}
