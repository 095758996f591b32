//! The upload: a pair is read, verified, sealed and stored.

use tracing::Instrument;
use uuid::Uuid;

use super::client_token::ClientToken;
use super::describe::refuse_unsupported;
use super::error::Faults;
use super::fingerprints::{ListedFingerprints, list_of};
use super::sealing::PrivateKeyRow;
use super::{App, Call, Error, Fault, Resource, Role, random_uuid, reuse};
use crate::certificate::{
    CertificateFacts, CertificateId, CertificateKind, CertificateName, Chain, Finding, PairError, RegionId,
    ResourceGroupId, Tags, UnverifiedPair, VerifiedPair,
};
use crate::secret::Secret;
use crate::store::{self, AccountFingerprints, FIRST, Liveness, NewCertificate, SealedKey, UploadOutcome};
use crate::telemetry::metrics;
use crate::{clock, digest};

/// A pair to upload, as the caller sent it.
#[derive(Debug)]
pub struct UploadServerCertificate {
    /// Where it is kept.
    pub region_id: String,
    /// The certificate and its chain, in PEM. A secret, since people paste keys into it.
    pub server_certificate: Secret,
    /// Its name; empty: by default from the certificate.
    pub server_certificate_name: String,
    /// Its key, in PEM.
    pub private_key: Secret,
    /// A certificate of Alibaba Cloud to take instead. Not supported yet.
    pub ali_cloud_certificate_id: String,
    /// Its name there. Not supported yet.
    pub ali_cloud_certificate_name: String,
    /// Its region there. Not supported yet.
    pub ali_cloud_certificate_region_id: String,
    /// Its resource group; empty: the account's default group.
    pub resource_group_id: String,
    /// Its tags, as keys and values.
    pub tags: Vec<(String, String)>,
    /// Makes a retried upload safe; empty: it is not.
    pub client_token: String,
    /// Answer as the upload would, but store nothing.
    pub validate_only: bool,
    /// Do not read the account's fingerprints.
    pub omit_account_fingerprints: bool,
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
    /// What was noticed about the pair.
    pub findings: Vec<Finding>,
    /// The account's fingerprints; the token tells where ListAccountFingerprints goes on.
    pub account_fingerprints: ListedFingerprints,
}

/// What a token tells of an upload.
enum Replay {
    /// It was done before.
    Of(Box<Uploaded>),
    /// It was not.
    None,
}

/// A request whose fields are all right.
struct Checked {
    region: RegionId,
    name: Option<CertificateName>,
    tags: Tags,
    pair: VerifiedPair,
}

/// Where the pair will be stored.
#[derive(Clone, Copy)]
struct Place {
    id: CertificateId,
    key_id: Uuid,
}

/// A checked pair whose key is sealed: what goes into the database.
struct Sealed {
    place: Place,
    region: RegionId,
    name: CertificateName,
    resource_group: ResourceGroupId,
    tags: Tags,
    facts: CertificateFacts,
    chain: Chain,
    findings: Vec<Finding>,
    sealed: Vec<u8>,
}

impl App {
    /// Uploads a pair. Once its key is sealed, storing it is finished even if the caller leaves.
    pub async fn upload(&self, call: &Call, request: UploadServerCertificate) -> Result<Uploaded, Error> {
        call.caller.require(Role::Editor)?;
        request.refuse_unsupported()?;
        let with_account_fingerprints = !request.omit_account_fingerprints;
        if request.validate_only {
            return self.validate(call, request, with_account_fingerprints).await;
        }
        let place = Place {
            id: CertificateId::new(
                CertificateKind::Server,
                call.caller.account,
                clock::now(),
                digest::random()?,
            ),
            key_id: random_uuid()?,
        };
        let resource_group_id = request.resource_group_id.clone();
        let app = self.clone();
        let prepare = move || -> Result<_, Error> {
            let (client_token, fault) = match ClientToken::of(&app, &request)? {
                Ok(token) => (token, None),
                Err(fault) => (None, Some(fault)),
            };
            let checked = app.verify(request, fault);
            Ok((client_token, checked.and_then(|checked| app.seal(checked, place))))
        };
        let (client_token, sealed) = self.0.cores.run(prepare).await??;
        let sealed = match sealed {
            Ok(sealed) if self.refuses_reuse() => {
                let refused = self.refuse_reuse(call, &sealed.facts, sealed.findings.clone()).await;
                refused.map(|_| sealed)
            }
            sealed => sealed,
        };
        let mut sealed = match (sealed, &client_token) {
            (Ok(sealed), _) => sealed,
            // It may have been accepted before, under another policy or at an earlier time.
            (Err(Error::Fields { faults, findings }), Some(token)) => {
                let replayed = self
                    .replay(call, token, with_account_fingerprints, findings.clone())
                    .await;
                return match replayed {
                    Ok(Replay::Of(uploaded)) => Ok(*uploaded),
                    Err(told @ (Error::NotFound(_) | Error::ClientTokenReused)) => Err(told),
                    // A database that is away does not hide what is wrong with the request.
                    Ok(Replay::None) | Err(_) => Err(Error::Fields { faults, findings }),
                };
            }
            (Err(error), _) => return Err(error),
        };
        sealed.resource_group = self.resource_group(call, &resource_group_id).await?;
        let (app, call) = (self.clone(), call.clone());
        let storing = async move { app.store(&call, sealed, client_token, with_account_fingerprints).await };
        self.0
            .storing
            .spawn(storing.in_current_span())
            .await
            .map_err(Error::internal)?
    }

    async fn validate(
        &self,
        call: &Call,
        request: UploadServerCertificate,
        with_account_fingerprints: bool,
    ) -> Result<Uploaded, Error> {
        let resource_group_id = request.resource_group_id.clone();
        let app = self.clone();
        let Checked {
            region,
            name,
            tags: _,
            pair,
        } = self
            .0
            .cores
            .run(move || {
                let client_token = ClientToken::of(&app, &request)?;
                app.verify(request, client_token.err())
            })
            .await??;
        let (facts, _, _, findings) = pair.into_parts();
        let findings = self.refuse_reuse(call, &facts, findings).await?;
        let resource_group = self.resource_group(call, &resource_group_id).await?;
        let name = name.or_else(|| CertificateName::default_for(&facts));
        let fingerprints = match with_account_fingerprints {
            true => Some(
                self.0
                    .store
                    .account_fingerprints(call.caller.account)
                    .await?
                    .and(facts.fingerprint),
            ),
            false => None,
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
            account_fingerprints: self.listed(call, fingerprints)?,
        })
    }

    /// Reads and verifies every field; all faults at once, in the order of the request's fields.
    fn verify(&self, request: UploadServerCertificate, client_token: Option<Fault>) -> Result<Checked, Error> {
        let pair = UnverifiedPair::read(request.server_certificate.expose(), &request.private_key)
            .verify(clock::now(), &self.0.settings.policy);
        let (pair, pair_error) = match pair {
            Ok(pair) => (Some(pair), PairError::default()),
            Err(error) => (None, error),
        };
        let mut faults = Faults::with(pair_error.findings);
        let region = faults.check("region_id", self.region(&request.region_id));
        faults.certificate(pair_error.certificate, &pair_error.rejected);
        let name = match request.server_certificate_name.as_str() {
            "" => Ok(None),
            name => CertificateName::parse(name).map(Some).map_err(Fault::Name),
        };
        let name = faults.check("server_certificate_name", name);
        faults.private_key(pair_error.private_key, &pair_error.rejected);
        let tags = faults.tags(request.tags);
        let token_is_right = client_token.is_none();
        faults.note("client_token", client_token);
        let (Some(region), Some(pair), Some(name), Some(tags), true) = (region, pair, name, tags, token_is_right)
        else {
            return Err(faults.into());
        };
        Ok(Checked {
            region,
            name,
            tags,
            pair,
        })
    }

    /// All findings about a pair that is not stored, which is refused if the policy refuses it for one.
    async fn refuse_reuse(
        &self,
        call: &Call,
        facts: &CertificateFacts,
        findings: Vec<Finding>,
    ) -> Result<Vec<Finding>, Error> {
        let of_reuse = self.reuse(call, facts).await?;
        let rejected = reuse::rejected(&of_reuse);
        let findings = reuse::and(findings, of_reuse);
        if rejected.is_empty() {
            return Ok(findings);
        }
        let mut faults = Faults::with(findings);
        faults.certificate(Vec::new(), &rejected);
        Err(faults.into())
    }

    fn seal(&self, checked: Checked, place: Place) -> Result<Sealed, Error> {
        let Checked {
            region,
            name,
            tags,
            pair,
        } = checked;
        let (facts, chain, private_key, findings) = pair.into_parts();
        let row = PrivateKeyRow {
            id: place.id,
            key_id: place.key_id,
            spki_sha256: facts.spki_sha256,
        };
        let sealed = row.seal(&self.0.key_ring, private_key.pkcs8_der())?;
        let name = name
            .or_else(|| CertificateName::default_for(&facts))
            .unwrap_or_else(|| CertificateName::from(place.id));
        Ok(Sealed {
            place,
            region,
            name,
            // Until the store has been asked for it.
            resource_group: ResourceGroupId::default_of(place.id.account),
            tags,
            facts,
            chain,
            findings,
            sealed,
        })
    }

    async fn store(
        &self,
        call: &Call,
        sealed: Sealed,
        client_token: Option<ClientToken>,
        with_account_fingerprints: bool,
    ) -> Result<Uploaded, Error> {
        let id = sealed.place.id;
        let new = NewCertificate {
            change: call.change(id),
            region: &sealed.region,
            name: &sealed.name,
            facts: &sealed.facts,
            chain: &sealed.chain,
            private_key: Some(SealedKey {
                key_id: sealed.place.key_id,
                sealed: &sealed.sealed,
            }),
            resource_group: &sealed.resource_group,
            tags: &sealed.tags,
            with_account_fingerprints,
            client_token: client_token.as_ref().map(|token| store::ClientToken {
                token: &token.token,
                request_mac: &token.request_mac,
            }),
            quota: self.0.settings.server_certificate_quota,
        };
        // Again for each void token: it is that of another call, which has ended with it, so that this ends too.
        loop {
            let (fingerprints, reuse) = match (self.0.store.upload(&new).await?, &client_token) {
                (UploadOutcome::Stored { fingerprints, reuse }, _) => (fingerprints, reuse),
                (UploadOutcome::OverQuota, _) => {
                    return Err(Error::QuotaExceeded {
                        kind: id.kind,
                        region: sealed.region,
                    });
                }
                (UploadOutcome::TokenSeen, None) => return Err(Error::internal(store::Error::Row("client_token"))),
                (UploadOutcome::TokenSeen, Some(token)) => {
                    let findings = sealed.findings.clone();
                    match self.replay(call, token, with_account_fingerprints, findings).await? {
                        Replay::Of(uploaded) => return Ok(*uploaded),
                        Replay::None => continue,
                    }
                }
            };
            metrics::uploaded();
            tracing::info!(server_certificate_id = %id, fingerprint = %sealed.facts.fingerprint, "uploaded");
            return Ok(Uploaded {
                id: Some(id),
                region: sealed.region,
                name: Some(sealed.name),
                revision: FIRST,
                version: FIRST,
                resource_group: sealed.resource_group,
                findings: reuse::and(sealed.findings, self.findings_of(reuse, &sealed.facts)),
                facts: sealed.facts,
                account_fingerprints: self.listed(call, fingerprints)?,
            });
        }
    }

    /// The certificate of the upload that used this token, as it is now. A token that counts no longer is forgotten.
    async fn replay(
        &self,
        call: &Call,
        token: &ClientToken,
        with_account_fingerprints: bool,
        findings: Vec<Finding>,
    ) -> Result<Replay, Error> {
        let (store, account) = (&self.0.store, call.caller.account);
        let Some(used) = store.used_token(CertificateKind::Server, account, &token.token).await? else {
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
        let fingerprints = match with_account_fingerprints {
            true => Some(store.fingerprints_of_stored(account).await),
            false => None,
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
            account_fingerprints: self.listed(call, fingerprints)?,
        })))
    }

    fn listed(&self, call: &Call, read: Option<AccountFingerprints>) -> Result<ListedFingerprints, Error> {
        let Some(AccountFingerprints { fingerprints, next }) = read else {
            return Ok(ListedFingerprints::default());
        };
        let next_page_token = self.next_page_token(list_of(call.caller.account), next)?;
        Ok(ListedFingerprints {
            fingerprints,
            next_page_token,
        })
    }
}

impl UploadServerCertificate {
    fn refuse_unsupported(&self) -> Result<(), Error> {
        refuse_unsupported(&[
            (!self.ali_cloud_certificate_id.is_empty(), "ali_cloud_certificate_id"),
            (
                !self.ali_cloud_certificate_name.is_empty(),
                "ali_cloud_certificate_name",
            ),
            (
                !self.ali_cloud_certificate_region_id.is_empty(),
                "ali_cloud_certificate_region_id",
            ),
        ])
    }
}
