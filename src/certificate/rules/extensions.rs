//! Extensions that families of clients refuse: critical extensions that they do not process, and values that they cannot read.
//! `tests/integration/clients` compares these rules with OpenSSL, Go and GnuTLS. Of browsers, the sources of Firefox (mozilla::pkix) and
//! Chrome (BoringSSL's pki) say which critical extensions they process.

use std::collections::HashSet;

use x509_parser::extensions::X509Extension;

use super::Findings;
use crate::certificate::der_reader::{
    BIT_STRING, BOOLEAN, DerReader, INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, constructed, primitive,
};
use crate::certificate::finding::ClientFamily::{self, Browsers, GnuTls, Go, OpenSsl};
use crate::certificate::finding::FindingKind;
use crate::certificate::object_identifier::{dotted, has_large_arc};
use crate::certificate::x509::Certificate;

/// A longer object identifier does not fit into a finding.
const MAX_OID_CHARS: usize = 64;
/// The poison extension of Certificate Transparency (RFC 6962 3.1).
const POISON: &[u8] = &[0x2b, 0x06, 0x01, 0x04, 0x01, 0xd6, 0x79, 0x02, 0x04, 0x03];
/// `id-pe-authorityInfoAccess` (RFC 5280 4.2.2.1).
const AUTHORITY_INFO_ACCESS: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 1];
/// `id-pe-tlsfeature` (RFC 7633 6).
const TLS_FEATURE: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 1, 24];
/// Netscape's certificate type, `2.16.840.1.113730.1.1`.
const NETSCAPE_TYPE: &[u8] = &[0x60, 0x86, 0x48, 1, 0x86, 0xf8, 0x42, 1, 1];
/// `id-ad-ocsp` (RFC 5280 4.2.2.1).
const OCSP: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 0x30, 1];
/// The TLS extension `status_request` (RFC 6066 8), which asks for a stapled OCSP response.
const STATUS_REQUEST: &[u8] = &[5];

/// Critical extensions that clients do not process, and values that they cannot read. A certificate may have thousands of extensions:
/// unknown ones are one finding, and each known extension is at most one.
pub(super) fn check(certificate: &Certificate<'_>, findings: &mut Findings<'_>) {
    let mut unknown: Option<(Option<String>, usize)> = None;
    let mut refusing = Vec::new();
    let mut has_poison = false;
    for extension in certificate.fields.iter_extensions() {
        let oid = extension.oid.as_bytes();
        if oid == POISON && extension.critical {
            has_poison = true;
            continue;
        }
        let unprocessed = if extension.critical { not_processed_by(oid) } else { &[] };
        if !unprocessed.is_empty() {
            match &mut unknown {
                Some((_, more)) => *more += 1,
                None => unknown = Some((Some(dotted(oid)).filter(|oid| oid.len() <= MAX_OID_CHARS), 0)),
            }
            refusing.extend(
                unprocessed
                    .iter()
                    .filter(|client| !refusing.contains(*client))
                    .copied()
                    .collect::<Vec<_>>(),
            );
        }
        if let Some((name, clients)) = unreadable(extension)
            && !clients.is_empty()
        {
            let extension = name;
            findings.note(
                FindingKind::ExtensionUnreadable { extension, clients },
                Some(certificate),
            );
        }
    }
    if has_poison {
        findings.note(FindingKind::Precertificate, Some(certificate));
    }
    if let Some((oid, more)) = unknown {
        refusing.sort_unstable();
        let clients = refusing;
        findings.note(
            FindingKind::CriticalExtensionUnknown { oid, more, clients },
            Some(certificate),
        );
    }
}

/// RFC 7633 4.2.3.1: the server must staple an OCSP response. It gets one from the responder that the certificate names.
pub(super) fn must_staple(leaf: &Certificate<'_>, findings: &mut Findings<'_>) {
    let value = |oid: &[u8]| {
        let mut extensions = leaf.fields.iter_extensions();
        extensions
            .find(|extension| extension.oid.as_bytes() == oid)
            .map(|extension| extension.value)
    };
    let asks = value(TLS_FEATURE).and_then(|value| DerReader::new(value).values(SEQUENCE));
    let must_staple = asks.is_some_and(|asks| !asks.all(INTEGER, |feature| feature != STATUS_REQUEST));
    let access = value(AUTHORITY_INFO_ACCESS).and_then(|value| DerReader::new(value).values(SEQUENCE));
    let is_other = |description: &[u8]| DerReader::new(description).value(OBJECT_IDENTIFIER) != Some(OCSP);
    let names_responder = access.is_some_and(|access| !access.all(SEQUENCE, is_other));
    if must_staple && !names_responder {
        findings.note(FindingKind::MustStapleWithoutOcsp, Some(leaf));
    }
}

/// The clients that refuse a certificate with this extension if it is critical, because they do not process it.
fn not_processed_by(oid: &[u8]) -> &'static [ClientFamily] {
    const EVERY: &[ClientFamily] = &[OpenSsl, Go, GnuTls, Browsers];
    match oid {
        // id-ce (RFC 5280 4.2.1): keyUsage, subjectAltName, basicConstraints, nameConstraints, certificatePolicies, extKeyUsage and
        // inhibitAnyPolicy.
        [0x55, 0x1d, 15 | 17 | 19 | 30 | 32 | 37 | 54] => &[],
        // subjectKeyIdentifier, issuerAltName and authorityKeyIdentifier.
        [0x55, 0x1d, 14 | 18 | 35] => &[OpenSsl, Go, Browsers],
        // cRLDistributionPoints.
        [0x55, 0x1d, 31] => &[Browsers],
        // policyMappings. Firefox does not process them.
        [0x55, 0x1d, 33] => &[GnuTls, Browsers],
        // policyConstraints.
        [0x55, 0x1d, 36] => &[GnuTls],
        // Chrome does not process them.
        AUTHORITY_INFO_ACCESS | TLS_FEATURE => &[OpenSsl, Go, Browsers],
        // proxyCertInfo (RFC 3820 3.8).
        [0x2b, 6, 1, 5, 5, 7, 1, 14] => &[OpenSsl, Go, Browsers],
        // ipAddrBlocks and autonomousSysIds (RFC 3779).
        [0x2b, 6, 1, 5, 5, 7, 1, 7 | 8] => &[Go, GnuTls, Browsers],
        // id-pkix-ocsp-nocheck (RFC 6960 4.2.2.2.1).
        [0x2b, 6, 1, 5, 5, 7, 0x30, 1, 5] | NETSCAPE_TYPE => &[Go, GnuTls, Browsers],
        _ => EVERY,
    }
}

/// The name of an extension (RFC 5280 4.2), and the clients that cannot read its value. `None` if no client reads such extensions.
fn unreadable(extension: &X509Extension<'_>) -> Option<(&'static str, Vec<ClientFamily>)> {
    let value = DerReader::new(extension.value);
    let (name, openssl, go, gnutls) = match extension.oid.as_bytes() {
        [0x55, 0x1d, 14] => {
            let is_read = is_octet_string(value);
            ("subjectKeyIdentifier", is_read, is_read, true)
        }
        [0x55, 0x1d, 15] => (
            "keyUsage",
            openssl_reads_key_usage(value),
            go_reads_key_usage(value),
            true,
        ),
        [0x55, 0x1d, 18] => ("issuerAltName", true, true, has_general_names(value)),
        [0x55, 0x1d, 19] => {
            let (openssl, go) = basic_constraints_are_read(value);
            ("basicConstraints", openssl, go, true)
        }
        [0x55, 0x1d, 30] => (
            "nameConstraints",
            openssl_reads_name_constraints(value),
            go_reads_name_constraints(value),
            true,
        ),
        [0x55, 0x1d, 31] => (
            "cRLDistributionPoints",
            openssl_reads_distribution_points(value),
            go_reads_distribution_points(value),
            true,
        ),
        [0x55, 0x1d, 32] => ("certificatePolicies", true, go_reads_policies(value), true),
        [0x55, 0x1d, 33] => ("policyMappings", true, go_reads_policy_mappings(value), true),
        [0x55, 0x1d, 35] => {
            let (openssl, go) = authority_key_identifier_is_read(value);
            ("authorityKeyIdentifier", openssl, go, true)
        }
        [0x55, 0x1d, 36] => ("policyConstraints", true, go_reads_policy_constraints(value), true),
        [0x55, 0x1d, 37] => {
            let (openssl, go) = extended_key_usage_is_read(value);
            ("extKeyUsage", openssl, go, true)
        }
        [0x55, 0x1d, 54] => ("inhibitAnyPolicy", true, go_reads_integer(value), true),
        NETSCAPE_TYPE => ("netscape-cert-type", is_bit_string(value), true, true),
        AUTHORITY_INFO_ACCESS => ("authorityInfoAccess", true, go_reads_access(value), true),
        _ => return None,
    };
    let families = [(OpenSsl, openssl), (Go, go), (GnuTls, gnutls)];
    let refusing = families
        .into_iter()
        .filter(|(_, is_read)| !is_read)
        .map(|(client, _)| client);
    Some((name, refusing.collect()))
}

fn is_octet_string(mut value: DerReader<'_>) -> bool {
    value.value(OCTET_STRING).is_some()
}

fn is_bit_string(mut value: DerReader<'_>) -> bool {
    matches!(value.value(BIT_STRING), Some([0..=7, ..]))
}

/// OpenSSL refuses a key usage without any usage.
fn openssl_reads_key_usage(mut value: DerReader<'_>) -> bool {
    match value.value(BIT_STRING) {
        Some([0..=7, bits @ ..]) => bits.iter().any(|byte| *byte != 0),
        _ => false,
    }
}

/// X.690 11.2.1: the unused bits are zero.
fn go_reads_key_usage(mut value: DerReader<'_>) -> bool {
    match value.value(BIT_STRING) {
        Some([unused @ 0..=7, .., last]) => last & !(0xff << unused) == 0,
        Some([0]) => true,
        _ => false,
    }
}

/// Whether OpenSSL and Go read the path length: it is not negative, and for Go not above 63 bits.
fn basic_constraints_are_read(mut value: DerReader<'_>) -> (bool, bool) {
    let Some(mut constraints) = value.values(SEQUENCE) else {
        return (false, false);
    };
    match (constraints.optional(BOOLEAN), constraints.optional(INTEGER)) {
        (Some(_), Some(None)) => {
            let is_read = constraints.is_empty();
            (is_read, true)
        }
        (Some(_), Some(Some(length))) => (is_natural(length), is_natural(length) && length.len() <= 8),
        _ => (false, false),
    }
}

/// Whether the content of an INTEGER is in DER and not negative (X.690 8.3).
fn is_natural(content: &[u8]) -> bool {
    is_integer(content) && content[0] < 0x80
}

/// Whether the content of an INTEGER is in DER (X.690 8.3.2).
fn is_integer(content: &[u8]) -> bool {
    !matches!(content, [] | [0, 0..=0x7f, ..] | [0xff, 0x80..=0xff, ..])
}

fn go_reads_integer(mut value: DerReader<'_>) -> bool {
    value
        .value(INTEGER)
        .is_some_and(|content| is_integer(content) && content.len() <= 8)
}

/// RFC 5280 4.2.1.1. OpenSSL reads all fields, Go the key identifier only.
fn authority_key_identifier_is_read(mut value: DerReader<'_>) -> (bool, bool) {
    let Some(mut fields) = value.values(SEQUENCE) else {
        return (false, false);
    };
    let Some(_) = fields.optional(primitive(0)) else {
        return (false, false);
    };
    let openssl = match (fields.optional(constructed(1)), fields.optional(primitive(2))) {
        (Some(names), Some(serial)) => {
            let are_names = names.is_none_or(|names| are_general_names(DerReader::new(names)));
            are_names && serial.is_none_or(is_integer) && fields.is_empty()
        }
        _ => false,
    };
    (openssl, true)
}

/// Whether a value is `GeneralNames` (RFC 5280 4.2.1.6).
fn has_general_names(mut value: DerReader<'_>) -> bool {
    value.values(SEQUENCE).is_some_and(are_general_names)
}

fn are_general_names(mut names: DerReader<'_>) -> bool {
    while !names.is_empty() {
        if !names.any().is_some_and(|(tag, _)| is_general_name(tag)) {
            return false;
        }
    }
    true
}

/// Whether a `GeneralName` (RFC 5280 4.2.1.6) has this tag.
fn is_general_name(tag: u8) -> bool {
    matches!(tag, 0xa0 | 0x81 | 0x82 | 0xa3 | 0xa4 | 0xa5 | 0x86 | 0x87 | 0x88)
}

/// RFC 5280 4.2.1.13: each distribution point has a name or an issuer.
fn openssl_reads_distribution_points(mut value: DerReader<'_>) -> bool {
    let is_point = |point: &[u8]| {
        let mut point = DerReader::new(point);
        let fields = (
            point.optional(constructed(0)),
            point.optional(primitive(1)),
            point.optional(constructed(2)),
        );
        let (Some(name), Some(reasons), Some(issuer)) = fields else {
            return false;
        };
        let is_name = name.is_none_or(|name| {
            let mut name = DerReader::new(name);
            match name.any() {
                Some((0xa0, names)) => name.is_empty() && are_general_names(DerReader::new(names)),
                Some((0xa1, _)) => name.is_empty(),
                _ => false,
            }
        });
        is_name
            && reasons.is_none_or(|reasons| matches!(reasons, [0..=7, ..]))
            && issuer.is_none_or(|names| are_general_names(DerReader::new(names)))
            && (name.is_some() || issuer.is_some())
            && point.is_empty()
    };
    value
        .values(SEQUENCE)
        .is_some_and(|points| points.all(SEQUENCE, is_point))
}

/// Go does not read names relative to the issuer of a CRL.
fn go_reads_distribution_points(mut value: DerReader<'_>) -> bool {
    let is_point = |point: &[u8]| match DerReader::new(point).optional(constructed(0)) {
        Some(Some(name)) => DerReader::new(name).value(constructed(0)).is_some(),
        Some(None) => true,
        None => false,
    };
    value
        .values(SEQUENCE)
        .is_some_and(|points| points.all(SEQUENCE, is_point))
}

/// RFC 5280 4.2.1.4: no policy twice.
fn go_reads_policies(mut value: DerReader<'_>) -> bool {
    let Some(mut policies) = value.values(SEQUENCE) else {
        return false;
    };
    let mut seen = HashSet::new();
    while !policies.is_empty() {
        let policy = policies
            .values(SEQUENCE)
            .and_then(|mut policy| policy.value(OBJECT_IDENTIFIER));
        if !policy.is_some_and(|policy| seen.insert(policy)) {
            return false;
        }
    }
    true
}

fn go_reads_policy_mappings(mut value: DerReader<'_>) -> bool {
    let is_mapping = |mapping: &[u8]| {
        let mut mapping = DerReader::new(mapping);
        mapping.value(OBJECT_IDENTIFIER).is_some() && mapping.value(OBJECT_IDENTIFIER).is_some()
    };
    value
        .values(SEQUENCE)
        .is_some_and(|mappings| mappings.all(SEQUENCE, is_mapping))
}

fn go_reads_policy_constraints(mut value: DerReader<'_>) -> bool {
    let is_count = |count: Option<&[u8]>| count.is_none_or(|count| is_integer(count) && count.len() <= 8);
    value.values(SEQUENCE).is_some_and(|mut counts| {
        counts.optional(primitive(0)).is_some_and(is_count) && counts.optional(primitive(1)).is_some_and(is_count)
    })
}

/// Go does not read object identifiers with an arc of 2^31 or more.
fn extended_key_usage_is_read(mut value: DerReader<'_>) -> (bool, bool) {
    let Some(usages) = value.values(SEQUENCE) else {
        return (false, false);
    };
    let openssl = usages.all(OBJECT_IDENTIFIER, |oid| !oid.is_empty());
    (
        openssl,
        openssl && usages.all(OBJECT_IDENTIFIER, |oid| !has_large_arc(oid)),
    )
}

fn go_reads_access(mut value: DerReader<'_>) -> bool {
    let is_description = |description: &[u8]| {
        let mut description = DerReader::new(description);
        let method = description.value(OBJECT_IDENTIFIER);
        method.is_some_and(|method| !method.is_empty() && !has_large_arc(method))
            && description.optional(primitive(6)).is_some()
    };
    value
        .values(SEQUENCE)
        .is_some_and(|access| access.all(SEQUENCE, is_description))
}

/// The permitted and the excluded subtrees (RFC 5280 4.2.1.10).
pub(super) fn subtrees(mut value: DerReader<'_>) -> Option<[Option<DerReader<'_>>; 2]> {
    let mut constraints = value.values(SEQUENCE)?;
    let permitted = constraints.optional(constructed(0))?;
    let excluded = constraints.optional(constructed(1))?;
    constraints
        .is_empty()
        .then(|| [permitted, excluded].map(|subtrees| subtrees.map(DerReader::new)))
}

fn openssl_reads_name_constraints(value: DerReader<'_>) -> bool {
    let is_subtree = |subtree: &[u8]| {
        let mut subtree = DerReader::new(subtree);
        subtree.any().is_some_and(|(tag, _)| is_general_name(tag))
    };
    let read = subtrees(value).map(|both| {
        both.into_iter()
            .flatten()
            .all(|subtrees| subtrees.all(SEQUENCE, is_subtree))
    });
    read.unwrap_or(false)
}

fn go_reads_name_constraints(value: DerReader<'_>) -> bool {
    let is_subtree = |subtree: &[u8]| match DerReader::new(subtree).any() {
        Some((0x81, base)) => base.is_ascii() && (base.contains(&b'@') || is_go_domain(base)),
        Some((0x82, base)) => is_go_domain(base),
        Some((0x86, base)) => is_go_domain(base) && !is_address(base),
        Some((0x87, base)) => is_network(base),
        Some(_) => true,
        None => false,
    };
    let Some(both) = subtrees(value) else {
        return false;
    };
    let mut both = both
        .into_iter()
        .flatten()
        .filter(|subtrees| !subtrees.is_empty())
        .peekable();
    both.peek().is_some() && both.all(|subtrees| subtrees.all(SEQUENCE, is_subtree))
}

/// The domains of constraints that Go reads: visible ASCII, and no empty label except the first.
fn is_go_domain(domain: &[u8]) -> bool {
    let labels = domain.strip_prefix(b".").unwrap_or(domain);
    let is_label = |label: &[u8]| !label.is_empty() && label.iter().all(u8::is_ascii_graphic);
    domain.is_empty() || labels.split(|byte| *byte == b'.').all(is_label)
}

fn is_address(base: &[u8]) -> bool {
    std::str::from_utf8(base).is_ok_and(|base| base.parse::<std::net::IpAddr>().is_ok())
}

/// Whether the base is an address and a mask that is a prefix (RFC 4632).
fn is_network(base: &[u8]) -> bool {
    let (8 | 32) = base.len() else { return false };
    let mask = &base[base.len() / 2..];
    let ones: u32 = mask.iter().map(|byte| byte.leading_ones()).sum();
    let all: u32 = mask.iter().map(|byte| byte.count_ones()).sum();
    let prefix = mask.iter().take_while(|byte| **byte == 0xff).count();
    ones == all && mask.iter().skip(prefix + 1).all(|byte| *byte == 0)
}

#[cfg(test)]
mod tests {
    use openssl::asn1::{Asn1Object, Asn1OctetString};

    use super::*;
    use crate::certificate::test_pair::{TestPair, builder, ec_key, sign};

    /// The clients that cannot read an extension. `oid` and `value` are hexadecimal.
    fn refusing(oid: &str, value: &str) -> Vec<ClientFamily> {
        let key = ec_key(openssl::nid::Nid::X9_62_PRIME256V1);
        let mut builder = builder(&key);
        let oid = dotted(&hex::decode(oid).unwrap());
        let oid = Asn1Object::from_str(&oid).unwrap();
        let value = Asn1OctetString::new_from_bytes(&hex::decode(value).unwrap()).unwrap();
        let extension = openssl::x509::X509Extension::new_from_der(&oid, false, &value).unwrap();
        builder.append_extension(extension).unwrap();
        let der = sign(builder, &key).to_der().unwrap();
        let (_, fields) = x509_parser::parse_x509_certificate(&der).unwrap();
        let extension = fields.iter_extensions().next().unwrap();
        unreadable(extension).unwrap().1
    }

    #[test]
    fn values_that_clients_cannot_read() {
        const BOTH: &[ClientFamily] = &[OpenSsl, Go];
        const NONE: &[ClientFamily] = &[];
        const GO: &[ClientFamily] = &[Go];
        const OPENSSL: &[ClientFamily] = &[OpenSsl];
        for (oid, value, expected) in [
            // subjectKeyIdentifier
            ("551d0e", "04020102", NONE),
            ("551d0e", "3000", BOTH),
            ("551d0e", "", BOTH),
            // keyUsage
            ("551d0f", "03020780", NONE),
            ("551d0f", "03020080", NONE),
            ("551d0f", "03020781", GO),
            ("551d0f", "03020000", OPENSSL),
            ("551d0f", "030100", OPENSSL),
            ("551d0f", "0500", BOTH),
            // netscape-cert-type
            ("6086480186f8420101", "03020640", NONE),
            ("6086480186f8420101", "0c0161", OPENSSL),
            // issuerAltName
            ("551d12", "3003820161", NONE),
            ("551d12", "0c0161", &[GnuTls]),
            // basicConstraints
            ("551d13", "3000", NONE),
            ("551d13", "30030101ff", NONE),
            ("551d13", "30060101ff020100", NONE),
            ("551d13", "30060101ff0201ff", BOTH),
            ("551d13", "30070101ff02020001", BOTH),
            ("551d13", "300e0101ff0209008000000000000000", GO),
            ("551d13", "0500", BOTH),
            // nameConstraints
            ("551d1e", "300aa00830068204612e6262", NONE),
            ("551d1e", "3009a007300582032e6161", NONE),
            ("551d1e", "300aa00830068704612e6262", GO),
            ("551d1e", "300ea00c300a8708c0000200ffffff00", NONE),
            ("551d1e", "300ea00c300a8708c0000200ff00ff00", GO),
            ("551d1e", "3009a00730058203e42e61", GO),
            ("551d1e", "300da00b30098607312e322e332e34", GO),
            ("551d1e", "3007a0053003820161", NONE),
            ("551d1e", "3000", GO),
            ("551d1e", "0500", BOTH),
            // cRLDistributionPoints
            ("551d1f", "300b3009a007a0058603613a62", NONE),
            ("551d1f", "30023000", OPENSSL),
            ("551d1f", "300d300ba009a1073005060355040a", GO),
            ("551d1f", "0500", BOTH),
            // certificatePolicies
            ("551d20", "3008300606042a030405", NONE),
            ("551d20", "30083002060060023000", GO),
            ("551d20", "300c300406022a03300406022a03", GO),
            ("551d20", "300c300406022a03300406022a04", NONE),
            // policyMappings
            ("551d21", "300a300806022a0306022a04", NONE),
            ("551d21", "30053003020100", GO),
            // authorityKeyIdentifier
            ("551d23", "30048002aabb", NONE),
            ("551d23", "3000", NONE),
            ("551d23", "0500", BOTH),
            ("551d23", "30030401aa", OPENSSL),
            ("551d23", "30028200", OPENSSL),
            // policyConstraints
            ("551d24", "3003800100", NONE),
            ("551d24", "0c0161", GO),
            // extKeyUsage
            ("551d25", "300406022a03", NONE),
            ("551d25", "3008060688ffffffff7f", GO),
            ("551d25", "0500", BOTH),
            // inhibitAnyPolicy
            ("551d36", "020100", NONE),
            ("551d36", "3000", GO),
            // authorityInfoAccess
            ("2b06010505070101", "300e300c06082b060105050730018600", NONE),
            ("2b06010505070101", "0c0161", GO),
        ] {
            assert_eq!(refusing(oid, value), expected, "{oid} {value}");
        }
    }

    #[test]
    fn each_family_has_its_critical_extensions() {
        for (oid, expected) in [
            ("551d13", &[][..]),
            ("551d0e", &[OpenSsl, Go, Browsers]),
            ("551d23", &[OpenSsl, Go, Browsers]),
            ("551d12", &[OpenSsl, Go, Browsers]),
            ("551d09", &[OpenSsl, Go, GnuTls, Browsers]),
            ("551d2e", &[OpenSsl, Go, GnuTls, Browsers]),
            ("551d24", &[GnuTls]),
            ("2b06010505070101", &[OpenSsl, Go, Browsers]),
            ("2b0601050507010b", &[OpenSsl, Go, GnuTls, Browsers]),
            ("2b06010505070118", &[OpenSsl, Go, Browsers]),
            ("2a030405", &[OpenSsl, Go, GnuTls, Browsers]),
        ] {
            assert_eq!(not_processed_by(&hex::decode(oid).unwrap()), expected, "{oid}");
        }
    }

    #[test]
    fn many_extensions_name_each_family_once() {
        let key = ec_key(openssl::nid::Nid::X9_62_PRIME256V1);
        let pair = TestPair::with_extensions(
            key,
            &[
                ("policyConstraints", "critical,DER:30:03:80:01:05"),
                ("1.3.6.1.5.5.7.1.7", "critical,DER:30:00"),
                ("subjectAltName", "DNS:a.example"),
                ("1.2.3", "critical,DER:05:00"),
            ],
        );
        let found = pair.verify();
        let unknown = found
            .certificate()
            .findings()
            .iter()
            .find_map(|finding| match &finding.kind {
                FindingKind::CriticalExtensionUnknown { oid, more, clients } => {
                    Some((oid.clone(), *more, clients.clone()))
                }
                _ => None,
            });
        let expected = (Some("2.5.29.36".to_owned()), 2, ClientFamily::ALL.to_vec());
        assert_eq!(unknown, Some(expected));
    }
}
