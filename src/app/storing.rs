//! What was verified is sealed and stored, once for each client token.

use std::sync::Arc;

use uuid::Uuid;

use super::fingerprints::{ListedFingerprints, list_of};
use super::sealing::PrivateKeyRow;
use super::upload::{AnswerFingerprints, Checked, Uploaded, Verified};
use super::{App, Call, Error, Resource, random_uuid, reuse};
use crate::account::AccountId;
use crate::certificate::{CertificateFacts, Chain, Finding};
use crate::inventory::{CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId, Tags};
use crate::store::{self, AccountFingerprints, ClientToken, FIRST, Liveness, NewCertificate, SealedKey, UploadOutcome};
use crate::telemetry::metrics;
use crate::{clock, digest};

/// What a token tells of an upload.
pub(super) enum Replay {
    /// It was done before.
    Of(Box<Uploaded>),
    /// It was not.
    None,
}

/// Where a certificate, and its key if it has one, will be stored.
#[derive(Clone, Copy)]
pub(super) struct Place {
    id: CertificateId,
    key_id: Uuid,
}

impl Place {
    /// A new one, which nothing else has.
    pub(super) fn new(kind: CertificateKind, account: AccountId) -> Result<Self, Error> {
        Ok(Self {
            id: CertificateId::new(kind, account, clock::now(), digest::random()?),
            key_id: random_uuid()?,
        })
    }
}

/// A checked certificate whose key, if it has one, is sealed: what goes into the database.
pub(super) struct Sealed {
    place: Place,
    region: RegionId,
    name: CertificateName,
    tags: Tags,
    pub(super) facts: CertificateFacts,
    chain: Chain,
    pub(super) findings: Vec<Finding>,
    /// `None`: it has no private key.
    private_key: Option<Vec<u8>>,
}

impl App {
    pub(super) fn seal(&self, checked: Checked, place: Place) -> Result<Sealed, Error> {
        let Checked {
            region,
            name,
            tags,
            certificate,
        } = checked;
        let (facts, chain, private_key, findings) = match certificate {
            Verified::Pair(pair) => {
                let (facts, chain, private_key, findings) = pair.into_parts();
                let row = PrivateKeyRow {
                    id: place.id,
                    key_id: place.key_id,
                    spki_sha256: facts.spki_sha256,
                };
                let sealed = row.seal(&self.0.key_ring, private_key.pkcs8_der())?;
                (facts, chain, Some(sealed), findings)
            }
            Verified::Ca(certificate) => {
                let (facts, chain, findings) = certificate.into_parts();
                (facts, chain, None, findings)
            }
        };
        let name = name
            .or_else(|| CertificateName::default_for(&facts))
            .unwrap_or_else(|| CertificateName::from(place.id));
        Ok(Sealed {
            place,
            region,
            name,
            tags,
            facts,
            chain,
            findings,
            private_key,
        })
    }

    pub(super) async fn store(
        &self,
        call: &Call,
        (sealed, resource_group): (Sealed, ResourceGroupId),
        client_token: Option<ClientToken>,
        answer_fingerprints: AnswerFingerprints,
    ) -> Result<Uploaded, Error> {
        let Place { id, key_id } = sealed.place;
        let new = Arc::new(NewCertificate {
            id,
            access_key_id: call.caller.access_key_id().to_owned(),
            request_id: call.request_id.0,
            region: sealed.region,
            name: sealed.name,
            facts: sealed.facts,
            chain: sealed.chain,
            private_key: sealed.private_key.map(|sealed| SealedKey { key_id, sealed }),
            resource_group,
            tags: sealed.tags,
            with_account_fingerprints: answer_fingerprints == AnswerFingerprints::Yes,
            client_token,
            quota: self.0.settings.quota(id.kind),
        });
        // Again for each void token: it is that of another call, which has ended with it, so that this ends too.
        loop {
            let (fingerprints, reuse) = match (self.0.store.upload(&new).await?, &new.client_token) {
                (UploadOutcome::Stored { fingerprints, reuse }, _) => (fingerprints, reuse),
                (UploadOutcome::OverQuota, _) => {
                    return Err(Error::QuotaExceeded {
                        kind: id.kind,
                        region: new.region.clone(),
                    });
                }
                (UploadOutcome::TokenSeen, None) => return Err(Error::internal(store::Error::Row("client_token"))),
                (UploadOutcome::TokenSeen, Some(token)) => {
                    let findings = sealed.findings.clone();
                    match self.replay(call, id.kind, token, answer_fingerprints, findings).await? {
                        Replay::Of(uploaded) => return Ok(*uploaded),
                        Replay::None => continue,
                    }
                }
            };
            // Nothing else holds it any more.
            let new = Arc::unwrap_or_clone(new);
            metrics::uploaded();
            match id.kind {
                CertificateKind::Server => {
                    tracing::info!(server_certificate_id = %id, fingerprint = %new.facts.fingerprint, "uploaded");
                }
                CertificateKind::Ca => {
                    tracing::info!(ca_certificate_id = %id, fingerprint = %new.facts.fingerprint, "uploaded");
                }
            }
            return Ok(Uploaded {
                id: Some(id),
                region: new.region,
                name: Some(new.name),
                revision: FIRST,
                version: FIRST,
                resource_group: new.resource_group,
                findings: reuse::and(sealed.findings, self.findings_of(reuse, &new.facts)),
                facts: new.facts,
                account_fingerprints: self.listed(call, fingerprints),
            });
        }
    }

    /// The certificate of the upload that used this token, as it is now. A token that counts no longer is forgotten.
    pub(super) async fn replay(
        &self,
        call: &Call,
        kind: CertificateKind,
        token: &ClientToken,
        answer_fingerprints: AnswerFingerprints,
        findings: Vec<Finding>,
    ) -> Result<Replay, Error> {
        let (store, account) = (&self.0.store, call.caller.account);
        let Some(used) = store.used_token(kind, account, &token.token).await? else {
            return Ok(Replay::None);
        };
        if used.is_void {
            store.forget_token(&token.token, used.id).await?;
            return Ok(Replay::None);
        }
        if !digest::constant_time_eq(&used.request_mac, &token.request_mac) {
            return Err(Error::ClientTokenReused);
        }
        let not_found = Error::NotFound(Resource::of(used.id));
        let stored = store.find(used.id, None, Liveness::Live).await?.ok_or(not_found)?;
        let fingerprints = match answer_fingerprints {
            AnswerFingerprints::Yes => Some(store.fingerprints_of_stored(account).await),
            AnswerFingerprints::No => None,
        };
        let reuse = store.reuse_of_stored(stored.id, &stored.facts).await;
        let findings = reuse::and(findings, self.findings_of(reuse, &stored.facts));
        Ok(Replay::Of(Box::new(Uploaded {
            id: Some(stored.id),
            region: stored.region,
            name: Some(stored.name),
            revision: stored.revision,
            version: stored.version,
            resource_group: stored.resource_group,
            facts: stored.facts,
            findings,
            account_fingerprints: self.listed(call, fingerprints),
        })))
    }

    pub(super) fn listed(&self, call: &Call, read: Option<AccountFingerprints>) -> ListedFingerprints {
        let Some(AccountFingerprints { fingerprints, next }) = read else {
            return ListedFingerprints::default();
        };
        ListedFingerprints {
            fingerprints,
            next_page_token: self.next_page_token(list_of(call.caller.account), next),
        }
    }
}
