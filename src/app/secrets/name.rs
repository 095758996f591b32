//! The names by which a proxy asks for secrets.

use crate::inventory::{CertificateId, CertificateName, DomainMatch, SoughtDomain};

/// The beginning of the name of a bundle of CA certificates.
const AUTHORITIES: &str = "ca/";

/// The meaning of a secret's name. The forms are tried in this order.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum SecretName {
    /// The id of a certificate of either kind.
    Id(CertificateId),
    /// `ca/<name>`: all live CA certificates with the name.
    Authorities(CertificateName),
    /// The name of exactly one live server certificate, or a host name that server certificates cover.
    Server {
        /// The name, if the text can be one.
        name: Option<CertificateName>,
        /// The host name, if the text can be one.
        host: Option<SoughtDomain>,
    },
}

impl SecretName {
    /// Reads any text. A text that can be no name has neither form.
    pub(super) fn parse(text: &str) -> Self {
        if let Ok(id) = CertificateId::parse(text) {
            return Self::Id(id);
        }
        if let Some(Ok(name)) = text.strip_prefix(AUTHORITIES).map(CertificateName::parse) {
            return Self::Authorities(name);
        }
        Self::Server {
            name: CertificateName::parse(text).ok(),
            host: SoughtDomain::parse(text, DomainMatch::Covered).ok(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_has_the_first_form_that_fits() {
        let id = "1231579085529123_15d6fcb45a3_1328245761_-2147483648";
        assert!(matches!(SecretName::parse(id), SecretName::Id(_)));
        let SecretName::Authorities(name) = SecretName::parse("ca/partners/eu") else {
            panic!("not a bundle");
        };
        assert_eq!(name.as_str(), "partners/eu");
        for (text, is_name, is_host) in [
            ("www.example.com", true, true),
            ("web/1", true, false),
            ("ca/", true, false),
            ("2001:db8::1", false, true),
            ("a b", false, false),
            ("", false, false),
        ] {
            let SecretName::Server { name, host } = SecretName::parse(text) else {
                panic!("{text} is not the name of a server certificate");
            };
            assert_eq!((name.is_some(), host.is_some()), (is_name, is_host), "{text}");
        }
    }
}
