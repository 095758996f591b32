//! Uploads a certificate. A CA certificate has no private key. A server certificate goes through these steps:
//!
//! 1. parse the fields and the PEM texts: an [`UnverifiedPair`](crate::certificate::UnverifiedPair);
//! 2. verify the certificate and its private key: a [`VerifiedPair`](crate::certificate::VerifiedPair);
//! 3. seal the private key: a [`SealedPair`](crate::seal::SealedPair);
//! 4. store everything with one statement: [`Store::upload`](crate::store::Store::upload);
//! 5. answer.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::cpu_pool::Cost;
use super::describe::refuse_unsupported;
use super::fingerprints::{AnswerFingerprints, ListedFingerprints};
use super::parsed_upload::ParsedUpload;
use super::{App, Call, Error, Field, FieldError, Violation, reuse};
use crate::certificate::{CertificateFacts, Finding};
use crate::inventory::{CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId};
use crate::secret::Secret;
use crate::store::{self, AccountFingerprints, ClientToken, FIRST, NewCertificate, Reuse, UploadOutcome};
use crate::telemetry::metrics;

/// A certificate to upload, as the caller sent it.
#[derive(Debug)]
pub struct Upload {
    /// The region that will store it.
    pub region_id: String,
    /// The certificate's name; empty: the default name, from the certificate.
    pub name: String,
    /// The certificate's resource group; empty: the account's default group.
    pub resource_group_id: String,
    /// The certificate's tags, as keys and values.
    pub tags: Vec<(String, String)>,
    /// The token that makes a retry safe; empty: none.
    pub client_token: String,
    /// Give the answer of an upload, and store nothing.
    pub validate_only: bool,
    /// The certificate.
    pub certificate: CertificateText,
}

/// The texts of an upload. They are secrets, because people paste private keys into certificates.
#[derive(Debug)]
pub enum CertificateText {
    /// A server certificate and its private key.
    Server {
        /// The certificate and its chain, in PEM.
        server_certificate: Secret,
        /// The private key, in PEM.
        private_key: Secret,
        /// The certificate of Alibaba Cloud to use instead. Not supported yet.
        ali_cloud_certificate_id: String,
        /// The name of that certificate. Not supported yet.
        ali_cloud_certificate_name: String,
        /// The region of that certificate. Not supported yet.
        ali_cloud_certificate_region_id: String,
        /// Leave the fingerprints of the account's server certificates out of the answer.
        omit_account_fingerprints: bool,
    },
    /// A CA certificate.
    Ca {
        /// The certificate, in PEM.
        ca_certificate: Secret,
    },
}

/// The certificate that was stored, or that an upload would store.
#[derive(Debug)]
pub struct Uploaded {
    /// The certificate's id; `None` if nothing was stored.
    pub id: Option<CertificateId>,
    /// The certificate's region.
    pub region: RegionId,
    /// The certificate's name; `None` if the name would be the id, and nothing was stored.
    pub name: Option<CertificateName>,
    /// The certificate's revision.
    pub revision: i64,
    /// The certificate's version.
    pub version: i64,
    /// The certificate's resource group.
    pub resource_group: ResourceGroupId,
    /// The facts about the leaf, or about the CA certificate.
    pub facts: CertificateFacts,
    /// The findings, the most severe first.
    pub findings: Vec<Finding>,
    /// The account's fingerprints. The token continues the list with ListAccountFingerprints.
    pub account_fingerprints: ListedFingerprints,
}

impl App {
    /// Uploads a certificate. A store operation that has begun completes even if the caller leaves.
    pub async fn upload(&self, call: &Call, request: Upload) -> Result<Uploaded, Error> {
        request.refuse_unsupported()?;
        let (kind, answer, validate_only) = (request.kind(), request.answer_fingerprints(), request.validate_only);
        let ring = self.0.key_ring.current();
        let (cost, app, caller, sealing) = (request.cost(), self.clone(), call.clone(), ring.clone());
        let parse = move || app.parse_upload(&caller, request, &sealing);
        let (client_token, parsed) = self.0.cpu_pool.run(cost, parse).await?;
        let parsed = match parsed {
            Ok(parsed) => parsed,
            Err(error) => return self.replay_or(call, kind, client_token, answer, (error, None)).await,
        };
        if validate_only {
            return self.validate(call, parsed, answer).await;
        }
        let (id, certificate) = (parsed.content.id(), parsed.content.certificate());
        if self.refuses_reuse() {
            let findings = certificate.findings().to_vec();
            let refused = self.refuse_reuse(call, kind, certificate.facts(), findings.clone());
            if let Err(error) = refused.await {
                // The certificate of an earlier upload with this token does not count as reuse.
                let error = (error, Some(findings));
                return self.replay_or(call, kind, client_token, answer, error).await;
            }
        }
        let resource_group = self.resource_group(call, &parsed.resource_group_id).await?;
        if kind == CertificateKind::Server {
            self.confirm_sealing_key(&ring).await?;
        }
        let new = NewCertificate {
            name: parsed.name.unwrap_or_else(|| CertificateName::from(id)),
            content: parsed.content,
            actor: call.actor(),
            region: parsed.region,
            resource_group,
            tags: parsed.tags,
            // The statement reads the fingerprints of the whole account.
            with_account_fingerprints: answer == AnswerFingerprints::Yes && call.caller.scope.is_everything(),
            client_token,
            quota: self.0.settings.quota(kind.into()),
        };
        let (app, call, left) = (self.clone(), call.clone(), CancellationToken::new());
        let _here = left.clone().drop_guard();
        let storing = async move {
            let stored = app.store(&call, new, answer, &left).await;
            // A rotation does not begin to re-wrap before this key is stored.
            drop(ring);
            stored
        };
        self.0
            .storing
            .spawn(storing.in_current_span())
            .await
            .map_err(Error::internal)?
    }

    /// The answer of an upload that stores nothing.
    async fn validate(&self, call: &Call, parsed: ParsedUpload, answer: AnswerFingerprints) -> Result<Uploaded, Error> {
        let kind = parsed.content.kind();
        let (facts, _, findings) = parsed.content.into_certificate().into_parts();
        let findings = self.refuse_reuse(call, kind, &facts, findings).await?;
        let resource_group = self.resource_group(call, &parsed.resource_group_id).await?;
        let fingerprints = match answer {
            AnswerFingerprints::Yes => {
                let (account, scope) = call.reach();
                let stored = self.0.store.account_fingerprints(account, scope).await?;
                Some(stored.and(facts.fingerprint))
            }
            AnswerFingerprints::No => None,
        };
        Ok(Uploaded {
            id: None,
            region: parsed.region,
            name: parsed.name,
            revision: FIRST,
            version: FIRST,
            resource_group,
            facts,
            findings,
            account_fingerprints: self.listed(call, fingerprints)?,
        })
    }

    /// Stores the certificate, once for each client token.
    async fn store(
        &self,
        call: &Call,
        new: NewCertificate,
        answer: AnswerFingerprints,
        left: &CancellationToken,
    ) -> Result<Uploaded, Error> {
        let new = Arc::new(new);
        let (id, kind) = (new.content.id(), new.content.kind());
        let (fingerprints, reuse) = loop {
            match (self.0.store.upload(&new, left).await?, &new.client_token) {
                (UploadOutcome::Stored { fingerprints, reuse }, _) => break (fingerprints, reuse),
                (UploadOutcome::OverQuota, _) => {
                    return Err(self.quota_exceeded(call, kind, new.region.clone()).await);
                }
                (UploadOutcome::TokenSeen, None) => return Err(Error::internal(store::Error::Row("client_token"))),
                (UploadOutcome::TokenSeen, Some(token)) => {
                    let findings = new.content.certificate().findings().to_vec();
                    if let Some(uploaded) = self.replay(call, kind, token, answer, findings).await? {
                        return Ok(uploaded);
                    }
                    // The token was void and is deleted now. A token is void only once, so the loop ends.
                }
            }
        };
        let (fingerprints, reuse) = match call.caller.scope.is_everything() {
            true => (fingerprints, reuse),
            false => self.compare_in_scope(call, &new, answer).await,
        };
        // The store has dropped its reference.
        let new = Arc::unwrap_or_clone(new);
        let (facts, _, findings) = new.content.into_certificate().into_parts();
        metrics::uploaded();
        match kind {
            CertificateKind::Server => {
                tracing::info!(server_certificate_id = %id, fingerprint = %facts.fingerprint, "uploaded");
            }
            CertificateKind::Ca => {
                tracing::info!(ca_certificate_id = %id, fingerprint = %facts.fingerprint, "uploaded");
            }
        }
        Ok(Uploaded {
            id: Some(id),
            region: new.region,
            name: Some(new.name),
            revision: FIRST,
            version: FIRST,
            resource_group: new.resource_group,
            findings: reuse::and(findings, self.findings_of(reuse, &facts)),
            facts,
            account_fingerprints: self.listed(call, fingerprints)?,
        })
    }

    /// The fingerprints and the reuse within the caller's scope, for a certificate that was stored. The upload's own statement
    /// compares with the whole account.
    async fn compare_in_scope(
        &self,
        call: &Call,
        new: &NewCertificate,
        answer: AnswerFingerprints,
    ) -> (Option<AccountFingerprints>, Reuse) {
        let (store, (account, scope)) = (&self.0.store, call.reach());
        let fingerprints = match answer {
            AnswerFingerprints::Yes => Some(store.fingerprints_of_stored(account, scope).await),
            AnswerFingerprints::No => None,
        };
        let facts = new.content.certificate().facts();
        let reuse = store.reuse_of_stored(new.content.id(), scope, new.content.kind(), facts);
        (fingerprints, reuse.await)
    }

    /// The answer to an upload that was refused with `error`. An earlier upload with the same token may have succeeded, because
    /// the policy or the time was different. Then this upload gets the same answer. `findings` replace the findings of the error.
    async fn replay_or(
        &self,
        call: &Call,
        kind: CertificateKind,
        client_token: Option<ClientToken>,
        answer: AnswerFingerprints,
        (error, findings): (Error, Option<Vec<Finding>>),
    ) -> Result<Uploaded, Error> {
        let (
            Some(token),
            Error::Fields {
                violations,
                findings: told,
            },
        ) = (client_token, &error)
        else {
            return Err(error);
        };
        let is_out_of_scope = |violation: &Violation| {
            matches!(
                violation.error,
                FieldError::OutOfScope(_) | FieldError::DefaultOutOfScope(_)
            )
        };
        if violations.iter().any(is_out_of_scope) {
            return Err(error);
        }
        let findings = findings.unwrap_or_else(|| told.clone());
        match self.replay(call, kind, &token, answer, findings).await {
            Ok(Some(uploaded)) => Ok(uploaded),
            Err(token_error @ (Error::NotFound(_) | Error::ClientTokenReused | Error::OutcomeUnknown(_))) => {
                Err(token_error)
            }
            // An unavailable database does not hide the error of the request.
            Ok(None) | Err(_) => Err(error),
        }
    }
}

impl Upload {
    pub(super) fn kind(&self) -> CertificateKind {
        match self.certificate {
            CertificateText::Server { .. } => CertificateKind::Server,
            CertificateText::Ca { .. } => CertificateKind::Ca,
        }
    }

    /// The cost of parsing and verifying the upload.
    fn cost(&self) -> Cost {
        Cost::of_octets(match &self.certificate {
            CertificateText::Server {
                server_certificate,
                private_key,
                ..
            } => server_certificate.expose().len() + private_key.expose().len(),
            CertificateText::Ca { ca_certificate } => ca_certificate.expose().len(),
        })
    }

    fn answer_fingerprints(&self) -> AnswerFingerprints {
        match self.certificate {
            CertificateText::Server {
                omit_account_fingerprints: false,
                ..
            } => AnswerFingerprints::Yes,
            CertificateText::Server { .. } | CertificateText::Ca { .. } => AnswerFingerprints::No,
        }
    }

    fn refuse_unsupported(&self) -> Result<(), Error> {
        let CertificateText::Server {
            ali_cloud_certificate_id: id,
            ali_cloud_certificate_name: name,
            ali_cloud_certificate_region_id: region_id,
            ..
        } = &self.certificate
        else {
            return Ok(());
        };
        refuse_unsupported(&[
            (!id.is_empty(), Field::AliCloudCertificateId),
            (!name.is_empty(), Field::AliCloudCertificateName),
            (!region_id.is_empty(), Field::AliCloudCertificateRegionId),
        ])
    }
}
