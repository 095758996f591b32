//! The client identity that a client certificate proves.

use std::sync::Arc;
use std::time::Instant;

use super::{App, Error, Grant, MAX_AGE};
use crate::account::{IdentityKind, IdentityName};
use crate::certificate::{ClientCertificate, SpiffeId};
use crate::store::MatchedIdentity;

/// The outcome of the look-up of a client certificate.
#[derive(Clone, Debug)]
pub(in crate::app) enum ResolvedIdentity {
    /// The service knows the certificate by this name.
    Known(IdentityName, Grant),
    /// The service knows none of the certificate's names.
    Unknown,
    /// Two DNS names of the certificate belong to different client identities.
    Ambiguous,
    /// The service knows the certificate, and the account is disabled.
    AccountDisabled,
}

impl ResolvedIdentity {
    /// The name and its grant. `None`: the certificate is unknown.
    pub(super) fn grant(self, certificate: &ClientCertificate) -> Result<Option<(IdentityName, Grant)>, Error> {
        match self {
            Self::Known(name, grant) => Ok(Some((
                name,
                Grant {
                    expires: Some(certificate.not_after),
                    ..grant
                },
            ))),
            Self::Unknown => Ok(None),
            Self::Ambiguous => Err(Error::ClientIdentityAmbiguous),
            Self::AccountDisabled => Err(Error::AccountDisabled),
        }
    }
}

impl App {
    /// Finds the client identity of a certificate. Unknown certificates are cached too.
    pub(super) async fn resolve_identity(&self, certificate: &ClientCertificate) -> Result<ResolvedIdentity, Error> {
        let fingerprint = certificate.fingerprint.as_bytes();
        if let Some((resolved, age)) = self.0.identities.find(fingerprint)
            && age < MAX_AGE
        {
            return Ok(resolved);
        }
        let looked_up = Instant::now();
        let candidates = candidates(certificate);
        let matched = match candidates.is_empty() {
            true => Vec::new(),
            false => self.0.store.client_identities_of_all_accounts(&candidates).await?,
        };
        let resolved = match choose(certificate, &matched) {
            Choice::None => ResolvedIdentity::Unknown,
            Choice::Ambiguous => ResolvedIdentity::Ambiguous,
            Choice::One(_, matched) if matched.account_disabled => ResolvedIdentity::AccountDisabled,
            Choice::One(name, MatchedIdentity { identity, rates, .. }) => {
                let (own_bucket, account_bucket) = self.buckets(&name.to_string(), identity.account, *rates);
                let grant = Grant {
                    account: identity.account,
                    role: identity.role,
                    scope: Arc::new(identity.scope.clone()),
                    expires: None,
                    own_bucket,
                    account_bucket,
                };
                ResolvedIdentity::Known(name, grant)
            }
        };
        self.0.identities.insert(*fingerprint, resolved.clone(), looked_up);
        Ok(resolved)
    }
}

/// The names of a certificate, in the order in which they are looked up.
pub(super) fn names(certificate: &ClientCertificate) -> Vec<IdentityName> {
    let spiffe_id = certificate
        .spiffe_id
        .iter()
        .map(|id| name(IdentityKind::SpiffeId, id.as_str()));
    let dns_names = certificate.dns_names.iter().map(|dns| name(IdentityKind::DnsName, dns));
    let subject = Some(&certificate.subject).filter(|subject| !subject.is_empty());
    let subject = subject.into_iter().map(|subject| name(IdentityKind::Subject, subject));
    spiffe_id.chain(dns_names).chain(subject).collect()
}

fn name(kind: IdentityKind, value: &str) -> IdentityName {
    let value = value.to_owned();
    IdentityName { kind, value }
}

/// The names of a certificate, and the patterns that match its SPIFFE ID.
fn candidates(certificate: &ClientCertificate) -> Vec<IdentityName> {
    let mut candidates = names(certificate);
    let patterns = certificate.spiffe_id.iter().flat_map(SpiffeId::patterns);
    candidates.extend(patterns.map(|pattern| name(IdentityKind::SpiffeId, &pattern)));
    candidates
}

#[derive(Debug)]
enum Choice<'a> {
    None,
    Ambiguous,
    /// The name in the certificate, and the identity that it matches.
    One(IdentityName, &'a MatchedIdentity),
}

/// Chooses by the SPIFFE ID, exact before the longest pattern, then by DNS names, then by the subject.
fn choose<'a>(certificate: &ClientCertificate, matched: &'a [MatchedIdentity]) -> Choice<'a> {
    let find = |kind, value: &str| {
        let is_it =
            |matched: &&MatchedIdentity| matched.identity.name.kind == kind && matched.identity.name.value == value;
        matched.iter().find(is_it)
    };
    if let Some(id) = &certificate.spiffe_id {
        let exact = find(IdentityKind::SpiffeId, id.as_str());
        let found = exact.or_else(|| id.patterns().find_map(|pattern| find(IdentityKind::SpiffeId, &pattern)));
        if let Some(found) = found {
            return Choice::One(name(IdentityKind::SpiffeId, id.as_str()), found);
        }
    }
    let mut by_dns_name = certificate
        .dns_names
        .iter()
        .filter_map(|dns_name| Some((dns_name, find(IdentityKind::DnsName, dns_name)?)));
    if let Some((dns_name, first)) = by_dns_name.next() {
        let grants = |matched: &'a MatchedIdentity| {
            let identity = &matched.identity;
            (identity.account, identity.role, &identity.scope)
        };
        return match by_dns_name.all(|(_, other)| grants(other) == grants(first)) {
            true => Choice::One(name(IdentityKind::DnsName, dns_name), first),
            false => Choice::Ambiguous,
        };
    }
    match find(IdentityKind::Subject, &certificate.subject) {
        Some(found) => Choice::One(name(IdentityKind::Subject, &certificate.subject), found),
        None => Choice::None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::{AccountId, Role};
    use crate::certificate::Sha256Fingerprint;
    use crate::clock::Timestamp;
    use crate::inventory::Scope;
    use crate::store::{ClientIdentity, Rates};

    fn certificate(spiffe_id: &str, dns_names: &[&str], subject: &str) -> ClientCertificate {
        ClientCertificate {
            fingerprint: Sha256Fingerprint::of_der(b""),
            spiffe_id: SpiffeId::parse(spiffe_id),
            dns_names: dns_names.iter().map(|name| (*name).to_owned()).collect(),
            subject: subject.to_owned(),
            not_after: Timestamp::from_secs(0),
        }
    }

    fn matched(kind: IdentityKind, value: &str, account: i64) -> MatchedIdentity {
        MatchedIdentity {
            identity: ClientIdentity {
                name: name(kind, value),
                account: AccountId::from_i64(account),
                role: Role::Reader,
                scope: Scope::default(),
                created_by: String::new(),
                created: Timestamp::from_secs(0),
            },
            account_disabled: false,
            rates: Rates::default(),
        }
    }

    /// The shown name and the account, or the variant.
    fn chosen(certificate: &ClientCertificate, known: &[MatchedIdentity]) -> String {
        match choose(certificate, known) {
            Choice::One(name, matched) => format!("{name} {}", matched.identity.account),
            other => format!("{other:?}"),
        }
    }

    use IdentityKind::{DnsName, SpiffeId as Spiffe, Subject};

    #[test]
    fn a_spiffe_id_comes_before_a_dns_name_and_that_before_the_subject() {
        let certificate = certificate("spiffe://o/web/a", &["b.example", "a.example"], "CN=a");
        let known = [
            matched(Subject, "CN=a", 1),
            matched(DnsName, "a.example", 2),
            matched(Spiffe, "spiffe://o/*", 3),
            matched(Spiffe, "spiffe://o/web/*", 4),
            matched(Spiffe, "spiffe://o/web/a", 5),
        ];
        assert_eq!(chosen(&certificate, &known), "spiffe://o/web/a 5");
        assert_eq!(chosen(&certificate, &known[..4]), "spiffe://o/web/a 4");
        assert_eq!(chosen(&certificate, &known[..3]), "spiffe://o/web/a 3");
        assert_eq!(chosen(&certificate, &known[..2]), "dns_name:a.example 2");
        assert_eq!(chosen(&certificate, &known[..1]), "subject:CN=a 1");
        assert_eq!(chosen(&certificate, &[]), "None");
    }

    #[test]
    fn dns_names_of_different_identities_are_ambiguous() {
        let certificate = certificate("", &["a.example", "b.example"], "CN=a");
        let known = |account| {
            [
                matched(DnsName, "b.example", 1),
                matched(DnsName, "a.example", account),
                matched(Subject, "CN=a", 1),
            ]
        };
        assert_eq!(chosen(&certificate, &known(2)), "Ambiguous");
        assert_eq!(chosen(&certificate, &known(1)), "dns_name:a.example 1");
    }

    #[test]
    fn every_name_and_every_pattern_is_looked_up() {
        let certificate = certificate("spiffe://o/web/a", &["a.example"], "");
        let shown: Vec<_> = candidates(&certificate).iter().map(ToString::to_string).collect();
        assert_eq!(
            shown,
            [
                "spiffe://o/web/a",
                "dns_name:a.example",
                "spiffe://o/web/*",
                "spiffe://o/*"
            ]
        );
    }
}
