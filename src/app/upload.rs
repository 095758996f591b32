//! The upload: a certificate, with its private key if it is a server's, is read, verified and handed over to be stored.

use tracing::Instrument;

use super::client_token::client_token;
use super::cores::Work;
use super::describe::refuse_unsupported;
use super::fingerprints::ListedFingerprints;
use super::storing::{Place, Replay};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, Role};
use crate::certificate::{
    CaError, CertificateFacts, Finding, PairError, UnverifiedCa, UnverifiedPair, VerifiedCa, VerifiedPair,
};
use crate::clock;
use crate::inventory::{CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId, Tags};
use crate::secret::Secret;
use crate::store::FIRST;
use crate::telemetry;

/// A certificate to upload, as the caller sent it.
#[derive(Debug)]
pub struct Upload {
    /// Where it is kept.
    pub region_id: String,
    /// Its name; empty: by default from the certificate.
    pub name: String,
    /// Its resource group; empty: the account's default group.
    pub resource_group_id: String,
    /// Its tags, as keys and values.
    pub tags: Vec<(String, String)>,
    /// Makes a retried upload safe; empty: it is not.
    pub client_token: String,
    /// Answer as the upload would, but store nothing.
    pub validate_only: bool,
    /// The certificate.
    pub certificate: GivenCertificate,
}

/// What an upload is of. The texts are secrets, since people paste keys into certificates.
#[derive(Debug)]
pub enum GivenCertificate {
    /// A server certificate and its private key.
    Server {
        /// The certificate and its chain, in PEM.
        server_certificate: Secret,
        /// Its key, in PEM.
        private_key: Secret,
        /// A certificate of Alibaba Cloud to take instead. Not supported yet.
        ali_cloud_certificate_id: String,
        /// Its name there. Not supported yet.
        ali_cloud_certificate_name: String,
        /// Its region there. Not supported yet.
        ali_cloud_certificate_region_id: String,
        /// Do not read the account's fingerprints, which are those of its server certificates.
        omit_account_fingerprints: bool,
    },
    /// The certificate of an authority.
    Ca {
        /// The certificate, in PEM.
        ca_certificate: Secret,
    },
}

/// What was stored, or would have been.
#[derive(Debug)]
pub struct Uploaded {
    /// The certificate's id; `None` if nothing was stored.
    pub id: Option<CertificateId>,
    /// Its region.
    pub region: RegionId,
    /// Its name; `None` if it is the id of what was not stored.
    pub name: Option<CertificateName>,
    /// Its first revision.
    pub revision: i64,
    /// Its first version.
    pub version: i64,
    /// Its resource group.
    pub resource_group: ResourceGroupId,
    /// What is known of the leaf.
    pub facts: CertificateFacts,
    /// What was noticed about it.
    pub findings: Vec<Finding>,
    /// The account's fingerprints; the token tells where ListAccountFingerprints goes on.
    pub account_fingerprints: ListedFingerprints,
}

/// A request whose fields are all right.
pub(super) struct Checked {
    pub(super) region: RegionId,
    pub(super) name: Option<CertificateName>,
    pub(super) tags: Tags,
    pub(super) certificate: Verified,
}

/// What may be stored: the proof of the one or the other.
pub(super) enum Verified {
    Pair(VerifiedPair),
    Ca(VerifiedCa),
}

/// Whether an answer has the account's fingerprints.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum AnswerFingerprints {
    Yes,
    No,
}

impl App {
    /// Uploads a certificate. Once it is verified and its key sealed, storing it is finished even if the caller leaves.
    pub async fn upload(&self, call: &Call, request: Upload) -> Result<Uploaded, Error> {
        call.caller.require(Role::Editor)?;
        request.refuse_unsupported()?;
        if request.validate_only {
            return self.validate(call, request).await;
        }
        let (kind, fingerprints) = (request.kind(), request.answer_fingerprints());
        let place = Place::new(kind, call.caller.account)?;
        let resource_group_id = request.resource_group_id.clone();
        let work = request.work();
        let app = self.clone();
        let prepare = move || -> Result<_, Error> {
            let (client_token, error) = match client_token(&app, &request) {
                Ok(token) => (token, None),
                Err(error) => (None, Some(error)),
            };
            let checked = telemetry::step("check").in_scope(|| app.verify(request, error));
            let sealed = checked.and_then(|checked| telemetry::step("seal").in_scope(|| app.seal(checked, place)));
            Ok((client_token, sealed))
        };
        let (client_token, sealed) = self.0.cores.run(work, prepare).await??;
        // What a repeated upload tells of reuse is not what refuses it: its own certificate is there.
        let mut own_findings = None;
        let sealed = match sealed {
            Ok(sealed) if self.refuses_reuse() => {
                own_findings = Some(sealed.findings.clone());
                let refused = self.refuse_reuse(call, kind, &sealed.facts, sealed.findings.clone());
                refused.await.map(|_| sealed)
            }
            sealed => sealed,
        };
        let sealed = match (sealed, &client_token) {
            (Ok(sealed), _) => sealed,
            // It may have been accepted before, under another policy or at an earlier time.
            (Err(Error::Fields { violations, findings }), Some(token)) => {
                let told = own_findings.unwrap_or_else(|| findings.clone());
                let replayed = self.replay(call, kind, token, fingerprints, told).await;
                return match replayed {
                    Ok(Replay::Of(uploaded)) => Ok(*uploaded),
                    Err(told @ (Error::NotFound(_) | Error::ClientTokenReused)) => Err(told),
                    // A database that is away does not hide what is wrong with the request.
                    Ok(Replay::None) | Err(_) => Err(Error::Fields { violations, findings }),
                };
            }
            (Err(error), _) => return Err(error),
        };
        let group = self.resource_group(call, &resource_group_id).await?;
        let (app, call) = (self.clone(), call.clone());
        let storing = async move { app.store(&call, (sealed, group), client_token, fingerprints).await };
        self.0
            .storing
            .spawn(storing.in_current_span())
            .await
            .map_err(Error::internal)?
    }

    async fn validate(&self, call: &Call, request: Upload) -> Result<Uploaded, Error> {
        let (kind, fingerprints) = (request.kind(), request.answer_fingerprints());
        let resource_group_id = request.resource_group_id.clone();
        let work = request.work();
        let app = self.clone();
        let verify = move || {
            let client_token = client_token(&app, &request);
            telemetry::step("check").in_scope(|| app.verify(request, client_token.err()))
        };
        let Checked {
            region,
            name,
            tags: _,
            certificate,
        } = self.0.cores.run(work, verify).await??;
        let (facts, findings) = match certificate {
            Verified::Pair(pair) => {
                let (facts, _, _, findings) = pair.into_parts();
                (facts, findings)
            }
            Verified::Ca(certificate) => {
                let (facts, _, findings) = certificate.into_parts();
                (facts, findings)
            }
        };
        let findings = self.refuse_reuse(call, kind, &facts, findings).await?;
        let resource_group = self.resource_group(call, &resource_group_id).await?;
        let name = name.or_else(|| CertificateName::default_for(&facts));
        let fingerprints = match fingerprints {
            AnswerFingerprints::Yes => {
                let stored = self.0.store.account_fingerprints(call.caller.account).await?;
                Some(stored.and(facts.fingerprint))
            }
            AnswerFingerprints::No => None,
        };
        Ok(Uploaded {
            id: None,
            region,
            name,
            revision: FIRST,
            version: FIRST,
            resource_group,
            facts,
            findings,
            account_fingerprints: self.listed(call, fingerprints),
        })
    }

    /// Reads and verifies every field; all violations at once, in the order of the request's fields.
    fn verify(&self, request: Upload, client_token: Option<FieldError>) -> Result<Checked, Error> {
        let kind = request.kind();
        let (now, policy, authorities) = (clock::now(), &self.0.settings.policy, &self.0.authorities);
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region(&request.region_id));
        let name = match request.name.as_str() {
            "" => Ok(None),
            name => CertificateName::parse(name).map(Some).map_err(FieldError::Name),
        };
        let (certificate, name) = match &request.certificate {
            GivenCertificate::Server {
                server_certificate,
                private_key,
                ..
            } => {
                let pair = UnverifiedPair::read(server_certificate.expose(), private_key);
                let pair = pair.verify(now, policy, authorities);
                let (pair, error) = match pair {
                    Ok(pair) => (Some(Verified::Pair(pair)), PairError::default()),
                    Err(error) => (None, error),
                };
                violations.found(error.findings);
                violations.certificate(error.certificate, &error.rejected);
                let name = violations.check(Field::CertificateName(kind), name);
                violations.private_key(error.private_key, &error.rejected);
                (pair, name)
            }
            GivenCertificate::Ca { ca_certificate } => {
                let certificate = UnverifiedCa::read(ca_certificate.expose()).verify(now, policy, authorities);
                let (certificate, error) = match certificate {
                    Ok(certificate) => (Some(Verified::Ca(certificate)), CaError::default()),
                    Err(error) => (None, error),
                };
                violations.found(error.findings);
                violations.ca_certificate(error.certificate, &error.rejected);
                (certificate, violations.check(Field::CertificateName(kind), name))
            }
        };
        let tags = violations.tags(request.tags);
        let token_is_right = client_token.is_none();
        violations.note(Field::ClientToken, client_token);
        let (Some(region), Some(certificate), Some(name), Some(tags), true) =
            (region, certificate, name, tags, token_is_right)
        else {
            return Err(violations.into());
        };
        Ok(Checked {
            region,
            name,
            tags,
            certificate,
        })
    }
}

impl Upload {
    fn kind(&self) -> CertificateKind {
        match self.certificate {
            GivenCertificate::Server { .. } => CertificateKind::Server,
            GivenCertificate::Ca { .. } => CertificateKind::Ca,
        }
    }

    /// To verify it.
    fn work(&self) -> Work {
        Work::verifying(match &self.certificate {
            GivenCertificate::Server {
                server_certificate,
                private_key,
                ..
            } => server_certificate.expose().len() + private_key.expose().len(),
            GivenCertificate::Ca { ca_certificate } => ca_certificate.expose().len(),
        })
    }

    fn answer_fingerprints(&self) -> AnswerFingerprints {
        match self.certificate {
            GivenCertificate::Server {
                omit_account_fingerprints: false,
                ..
            } => AnswerFingerprints::Yes,
            GivenCertificate::Server { .. } | GivenCertificate::Ca { .. } => AnswerFingerprints::No,
        }
    }

    fn refuse_unsupported(&self) -> Result<(), Error> {
        let GivenCertificate::Server {
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
