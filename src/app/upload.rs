//! Uploads a certificate. A CA certificate has no private key. A server certificate goes through these steps:
//!
//! 1. parse the fields and the PEM texts, which certkeep fetches if the caller names a certificate of Alibaba Cloud: an [`UnverifiedPair`](crate::certificate::UnverifiedPair);
//! 2. verify the certificate and its private key: a [`VerifiedPair`](crate::certificate::VerifiedPair);
//! 3. seal the private key: a [`SealedPair`](crate::seal::SealedPair);
//! 4. store everything with one statement: [`Store::upload`](crate::store::Store::upload);
//! 5. answer.

use std::sync::Arc;

use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use super::ali_cloud::{NamedFields, fetch};
use super::cpu_pool::Cost;
use super::fingerprints::{AnswerFingerprints, ListedFingerprints};
use super::key_ring::SealingRing;
use super::parsed_upload::ParsedUpload;
use super::{App, Call, Error, Field, FieldError, Violation, reuse};
use crate::alibaba::cas::FetchedPair;
use crate::certificate::{CertificateFacts, Finding};
use crate::inventory::{
    AliCloudCertificate, CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId,
};
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
        /// The id of a certificate of Alibaba Cloud that replaces the pair; empty: none.
        ali_cloud_certificate_id: String,
        /// The name of that certificate; empty: its name there.
        ali_cloud_certificate_name: String,
        /// The region of that certificate; empty: not given.
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
    /// The certificate of Alibaba Cloud from which the pair came.
    pub ali_cloud: Option<AliCloudCertificate>,
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

/// The parts of a request that its steps need until its end.
#[derive(Clone, Copy)]
struct Asked {
    kind: CertificateKind,
    answer: AnswerFingerprints,
    validate_only: bool,
}

impl App {
    /// Uploads a certificate. A store operation that has begun completes even if the caller leaves.
    pub async fn upload(&self, call: &Call, request: Upload) -> Result<Uploaded, Error> {
        if request.names_ali_cloud() {
            let uploaded = self.upload_from_ali_cloud(call, request).await;
            return uploaded.map_err(Error::about_fetched);
        }
        let (asked, cost) = (request.asked(), request.cost());
        let (app, caller) = (self.clone(), call.clone());
        let parse = move |ring: &SealingRing| app.parse_upload(&caller, app.upload_fields(&caller, request), ring);
        self.upload_parsed(call, asked, cost, parse).await
    }

    /// Fetches the pair after everything else was checked, unless an earlier call with the same token stored it.
    async fn upload_from_ali_cloud(&self, call: &Call, request: Upload) -> Result<Uploaded, Error> {
        let cas = self.cas(call)?;
        let asked = request.asked();
        let (mut fields, _) = self.upload_fields(call, request);
        let region = fields.valid_region()?;
        if let Some(token) = &fields.client_token
            && let Some(uploaded) = self.replay(call, asked.kind, token, asked.answer, Vec::new()).await?
        {
            return Ok(uploaded);
        }
        self.resource_group(call, &fields.resource_group_id).await?;
        self.refuse_over_quota(call, asked.kind, region).await?;
        let Some(named) = &mut fields.ali_cloud else {
            return Err(Error::field(Field::AliCloudCertificateId, FieldError::Required));
        };
        let fetched = fetch(cas, named).await?;
        let cost = Cost::of_octets(fetched.server_certificate.expose().len() + fetched.private_key.expose().len());
        let (app, caller) = (self.clone(), call.clone());
        let parse = move |ring: &SealingRing| {
            // The rest of the fetched pair is its place among the fetches: it ends with this function.
            let FetchedPair {
                server_certificate,
                private_key,
                ..
            } = fetched;
            let certificate = CertificateText::Server {
                server_certificate,
                private_key,
                ali_cloud_certificate_id: String::new(),
                ali_cloud_certificate_name: String::new(),
                ali_cloud_certificate_region_id: String::new(),
                omit_account_fingerprints: false,
            };
            app.parse_upload(&caller, (fields, certificate), ring)
        };
        self.upload_parsed(call, asked, cost, parse).await
    }

    async fn upload_parsed(
        &self,
        call: &Call,
        asked: Asked,
        cost: Cost,
        parse: impl FnOnce(&SealingRing) -> (Option<ClientToken>, Result<ParsedUpload, Error>) + Send + 'static,
    ) -> Result<Uploaded, Error> {
        let Asked {
            kind,
            answer,
            validate_only,
        } = asked;
        let ring = self.0.key_ring.current();
        let sealing = ring.clone();
        let (client_token, parsed) = self.0.cpu_pool.run(cost, move || parse(&sealing)).await?;
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
            ali_cloud: parsed.ali_cloud,
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
        self.refuse_over_quota(call, kind, parsed.region.clone()).await?;
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
            ali_cloud: parsed.ali_cloud,
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
            ali_cloud: new.ali_cloud,
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

    fn asked(&self) -> Asked {
        Asked {
            kind: self.kind(),
            answer: self.answer_fingerprints(),
            validate_only: self.validate_only,
        }
    }

    fn names_ali_cloud(&self) -> bool {
        self.named_fields().is_some_and(|named| !named.id.is_empty())
    }

    /// The fields that name a certificate of Alibaba Cloud.
    pub(super) fn named_fields(&self) -> Option<NamedFields<'_>> {
        match &self.certificate {
            CertificateText::Server {
                server_certificate,
                private_key,
                ali_cloud_certificate_id,
                ali_cloud_certificate_name,
                ali_cloud_certificate_region_id,
                ..
            } => Some(NamedFields {
                id: ali_cloud_certificate_id,
                name: ali_cloud_certificate_name,
                region_id: ali_cloud_certificate_region_id,
                given: NamedFields::given(server_certificate.expose(), private_key.expose()),
            }),
            CertificateText::Ca { .. } => None,
        }
    }
}
