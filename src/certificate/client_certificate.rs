//! The certificate that a client proved in its TLS handshake.

use x509_parser::extensions::GeneralName;

use super::x509::Certificate;
use super::{Authorities, Sha256Fingerprint, SpiffeId, X509Error};
use crate::clock::Timestamp;

/// The maximum number of DNS names by which a certificate is known. The limit counts because all of them are looked up.
const MAX_DNS_NAMES: usize = 100;

/// The names of a client certificate whose path TLS has verified.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct ClientCertificate {
    /// The SHA-256 of the DER encoding.
    pub fingerprint: Sha256Fingerprint,
    /// The SPIFFE ID, if the certificate is an X.509-SVID: its only URI is a SPIFFE ID, and its key may not sign certificates.
    pub spiffe_id: Option<SpiffeId>,
    /// The host names among the DNS names, in lower case, in the order of the certificate. Without wildcards. Empty if the certificate
    /// has more than 100 DNS names.
    pub dns_names: Vec<String>,
    /// The subject in the form of RFC 4514, or `""`.
    pub subject: String,
    /// The end of the validity. The certificate is still valid in this second (RFC 5280 4.1.2.5).
    pub not_after: Timestamp,
}

impl ClientCertificate {
    /// Reads the names of a certificate in DER.
    pub fn read(der: &[u8]) -> Result<Self, X509Error> {
        let certificate = Certificate::read(der, &Authorities::default())?;
        let names = match certificate.fields.subject_alternative_name() {
            Ok(Some(extension)) => extension.value.general_names.as_slice(),
            Ok(None) => &[],
            Err(_) => return Err(X509Error::Unreadable),
        };
        Ok(Self {
            fingerprint: Sha256Fingerprint::of_der(der),
            spiffe_id: spiffe_id(&certificate, names),
            dns_names: dns_names(names),
            subject: certificate.subject().to_owned(),
            not_after: certificate.not_after(),
        })
    }

    /// Whether the validity is over at this moment.
    pub fn is_expired(&self, now: Timestamp) -> bool {
        now.millis_of_whole_secs() > self.not_after.millis()
    }
}

/// X.509-SVID 2: exactly one URI. X.509-SVID 5.2: neither keyCertSign nor cRLSign.
fn spiffe_id(certificate: &Certificate<'_>, names: &[GeneralName<'_>]) -> Option<SpiffeId> {
    let mut uris = names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(Some(*uri)),
        GeneralName::Invalid(tag, _) if tag.0 == 6 => Some(None),
        _ => None,
    });
    let (Some(Some(uri)), None) = (uris.next(), uris.next()) else {
        return None;
    };
    let signs = match certificate.fields.key_usage() {
        Ok(Some(usage)) => usage.value.key_cert_sign() || usage.value.crl_sign(),
        Ok(None) => false,
        Err(_) => true,
    };
    SpiffeId::parse(uri).filter(|_| !signs)
}

fn dns_names(names: &[GeneralName<'_>]) -> Vec<String> {
    let dns_names: Vec<_> = names
        .iter()
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some(*name),
            _ => None,
        })
        .collect();
    if dns_names.len() > MAX_DNS_NAMES {
        return Vec::new();
    }
    let host_names = dns_names.into_iter().filter(|name| is_host_name(name));
    host_names.map(str::to_ascii_lowercase).collect()
}

/// Whether the text is a host name without a wildcard: up to 253 octets, labels of letters, digits, hyphens and underscores
/// (RFC 1035 2.3.4, with the underscores of practice).
pub fn is_host_name(text: &str) -> bool {
    let is_label = |label: &str| {
        (1..=63).contains(&label.len())
            && label
                .bytes()
                .all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    text.len() <= 253 && text.split('.').all(is_label)
}

#[cfg(test)]
mod tests {
    use super::super::test_pair::{self, Entity};
    use super::*;

    fn read(extensions: &[(&str, &str)]) -> ClientCertificate {
        let certificate = Entity::new("CA").certify(&Entity::new("client, one"), extensions);
        ClientCertificate::read(&certificate.to_der().unwrap()).unwrap()
    }

    #[test]
    fn the_names_are_read() {
        let names = "DNS:A.example,URI:spiffe://example.org/web,DNS:*.b.example,IP:192.0.2.1,DNS:c.example";
        let read = read(&[("subjectAltName", names)]);
        assert_eq!(
            read.spiffe_id.as_ref().map(SpiffeId::as_str),
            Some("spiffe://example.org/web")
        );
        assert_eq!(read.dns_names, ["a.example", "c.example"]);
        assert_eq!(read.subject, "CN=client\\, one");
        assert!(!read.is_expired(Timestamp::from_millis(read.not_after.millis() + 999)));
        assert!(read.is_expired(Timestamp::from_millis(read.not_after.millis() + 1000)));
    }

    #[test]
    fn a_certificate_without_names_has_its_subject() {
        let read = read(&[]);
        assert_eq!((read.spiffe_id, read.dns_names), (None, Vec::new()));
        assert_eq!(read.subject, "CN=client\\, one");
    }

    #[test]
    fn only_an_svid_has_a_spiffe_id() {
        let one = "URI:spiffe://example.org/web";
        for extensions in [
            &[(
                "subjectAltName",
                "URI:spiffe://example.org/web,URI:spiffe://example.org/other",
            )][..],
            &[(
                "subjectAltName",
                "URI:spiffe://example.org/web,URI:https://example.org/",
            )],
            &[("subjectAltName", "URI:https://example.org/")],
            &[("subjectAltName", "URI:spiffe://example.org")],
            &[("subjectAltName", one), ("keyUsage", "keyCertSign")],
            &[("subjectAltName", one), ("keyUsage", "digitalSignature,cRLSign")],
        ] {
            assert_eq!(read(extensions).spiffe_id, None, "{extensions:?}");
        }
        let usage = [("subjectAltName", one), ("keyUsage", "digitalSignature")];
        assert!(read(&usage).spiffe_id.is_some());
    }

    #[test]
    fn a_certificate_with_very_many_dns_names_is_known_by_none() {
        let names = |count: usize| {
            let names: Vec<_> = (0..count).map(|n| format!("DNS:{n}.example")).collect();
            read(&[("subjectAltName", &names.join(","))]).dns_names.len()
        };
        assert_eq!((names(100), names(101)), (100, 0));
    }

    #[test]
    fn a_text_that_is_no_certificate_is_refused() {
        assert_eq!(ClientCertificate::read(b"\x30\x00"), Err(X509Error::Unreadable));
        let der = test_pair::ec().certificate.to_der().unwrap();
        assert_eq!(ClientCertificate::read(&der[..der.len() - 1]), Err(X509Error::NotDer));
    }

    #[test]
    fn a_host_name_has_no_wildcard() {
        for good in ["a", "a.example", "_x.a-b.example", "1.example"] {
            assert!(is_host_name(good), "{good}");
        }
        for bad in [
            "",
            ".",
            "a.",
            "*.example",
            "a b",
            "a..b",
            "\u{e9}.example",
            &"a".repeat(64),
        ] {
            assert!(!is_host_name(bad), "{bad}");
        }
    }
}
