//! Pairs that certkeep fetches from Alibaba Cloud Certificate Management Service.

use tracing::Instrument;

use super::violation::{Violations, control_character};
use super::{App, Call, Error, Field, FieldError};
use crate::account::AccountId;
use crate::alibaba::cas::{Cas, FetchedPair};
use crate::inventory::{AliCloudCertificate, AliCloudCertificateId, CertificateKind};
use crate::telemetry;

/// The longest name and the longest region id of a certificate there, in characters.
const MAX_CHARS: usize = 64;

/// Where certificates of Alibaba Cloud are fetched, and for whom.
#[derive(Clone, Debug)]
pub struct AliCloud {
    /// The account whose callers may use them.
    pub account: AccountId,
    /// The client.
    pub cas: Cas,
}

/// The fields of a request that name a certificate of Alibaba Cloud.
pub(super) struct NamedFields<'a> {
    pub(super) id: &'a str,
    pub(super) name: &'a str,
    pub(super) region_id: &'a str,
    /// The fields of the pair that are set too.
    pub(super) given: [(Field, bool); 2],
}

impl NamedFields<'_> {
    pub(super) fn given(certificate: &[u8], private_key: &[u8]) -> [(Field, bool); 2] {
        [
            (Field::Certificate(CertificateKind::Server), !certificate.is_empty()),
            (Field::PrivateKey, !private_key.is_empty()),
        ]
    }

    /// The named certificate, or `None` if the request has a pair. Notes the violations.
    pub(super) fn check(self, violations: &mut Violations) -> Option<AliCloudCertificate> {
        let text = |text: &str| {
            let chars = text.chars().count();
            let too_long = (chars > MAX_CHARS).then_some(FieldError::TooLong { chars, max: MAX_CHARS });
            let needs = (self.id.is_empty() && chars > 0).then_some(FieldError::Needs(Field::AliCloudCertificateId));
            needs.or(too_long).or_else(|| control_character(text))
        };
        let parsed = AliCloudCertificateId::parse(self.id);
        if !self.id.is_empty() {
            let excluded = self.given.into_iter().find(|(_, is_set)| *is_set);
            let error = excluded.map(|(field, _)| FieldError::Excludes(field));
            let malformed = parsed.is_none().then_some(FieldError::AliCloudCertificateId);
            violations.note(Field::AliCloudCertificateId, error.or(malformed));
        }
        violations.note(Field::AliCloudCertificateName, text(self.name));
        violations.note(Field::AliCloudCertificateRegionId, text(self.region_id));
        Some(AliCloudCertificate {
            id: parsed?,
            name: self.name.to_owned(),
            region_id: self.region_id.to_owned(),
        })
    }
}

impl App {
    /// The client, if callers of this account may use it.
    pub(super) fn cas(&self, call: &Call) -> Result<&Cas, Error> {
        let ali_cloud = self.0.settings.ali_cloud.as_ref();
        let ours = ali_cloud.filter(|ali_cloud| ali_cloud.account == call.caller.account);
        ours.map(|ali_cloud| &ali_cloud.cas).ok_or(Error::AliCloudNotConfigured)
    }
}

/// Fetches the pair of the certificate. A certificate without a given name gets its name in Alibaba Cloud.
pub(super) async fn fetch(cas: &Cas, named: &mut AliCloudCertificate) -> Result<FetchedPair, Error> {
    let fetched = cas.fetch(named.id.as_str()).instrument(telemetry::step("fetch")).await;
    let mut fetched = fetched.map_err(|error| Error::AliCloud(named.id.clone(), error))?;
    if named.name.is_empty() {
        named.name = std::mem::take(&mut fetched.name);
    }
    tracing::info!(ali_cloud_certificate_id = %named.id, "fetched from Alibaba Cloud");
    Ok(fetched)
}
