//! Renews a server certificate: a new pair under the same id.

use tracing::Instrument;
use zeroize::Zeroizing;

use super::ali_cloud::{NamedFields, fetch};
use super::client_token::joined;
use super::cpu_pool::Cost;
use super::target::{Target, TargetCertificate};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, reuse};
use crate::certificate::{Chain, Finding, FindingKind, UnverifiedPair, VerifiedCertificate, VerifiedPair};
use crate::clock::{self, Timestamp};
use crate::inventory::{AliCloudCertificate, CertificateId, CertificateKind, changed_names, lost_names};
use crate::secret::Secret;
use crate::store::{self, ClientToken, Liveness, Position, RenewedRow, StoredCertificate, TokenOf};
use crate::telemetry;

/// The maximum number of certificates that one call renews.
const MAX_EVERYWHERE: usize = 20;
/// The maximum number of lost names in an answer.
const MAX_LOST_NAMES: usize = 100;

/// A renewal, as the caller sent it.
#[derive(Debug)]
pub struct Renew {
    /// The certificate.
    pub target: TargetCertificate,
    /// The new certificate and its chain, in PEM. A secret, because people paste private keys into it.
    pub server_certificate: Secret,
    /// The new private key, in PEM.
    pub private_key: Secret,
    /// The id of a certificate of Alibaba Cloud that replaces the pair; empty: none.
    pub ali_cloud_certificate_id: String,
    /// The region of that certificate; empty: not given.
    pub ali_cloud_certificate_region_id: String,
    /// Renew also if the new certificate does not cover a name of the present one.
    pub allow_lost_names: bool,
    /// Renew every certificate that has the same pair now.
    pub everywhere: bool,
    /// The token that makes a retry safe; empty: none.
    pub client_token: String,
    /// Give the answer of a renewal, and store nothing.
    pub validate_only: bool,
}

/// The certificate after the renewal, or as the renewal would leave it.
#[derive(Debug)]
pub struct RenewedCertificate {
    /// The certificate.
    pub certificate: StoredCertificate,
    /// The version before. The same as the certificate's if nothing changed.
    pub previous_version: i64,
    /// The findings, the most severe first.
    pub findings: Vec<Finding>,
    /// The certificates that got the new pair. Empty unless the caller asked for all with the same pair.
    pub everywhere: Vec<CertificateId>,
    /// Names of the certificate before that the new one does not cover, at most 100.
    pub lost_names: Vec<String>,
    /// The renewal would change the certificate, and nothing was stored.
    pub is_validation: bool,
}

/// A renewal with valid fields.
struct Wanted {
    target: Target,
    allow_lost_names: bool,
    everywhere: bool,
    validate_only: bool,
    client_token: Option<ClientToken>,
    /// The certificate of Alibaba Cloud from which the pair comes.
    ali_cloud: Option<AliCloudCertificate>,
}

/// The valid part of a renewal that is refused, if an earlier call may have succeeded with its token, and the error.
type RefusedRenewal = (Option<Box<Wanted>>, Error);

/// The violations of the fields, and the renewal; `None` if its certificate cannot be named. The error: there is no such certificate.
type RenewalFields = (Violations, Option<Result<Wanted, Error>>);

/// The changes of a renewal, by the present state.
struct Plan {
    /// The certificate that the caller named.
    current: StoredCertificate,
    /// The certificates that get the new pair.
    due: Vec<StoredCertificate>,
    findings: Vec<Finding>,
    lost_names: Vec<String>,
}

impl App {
    /// Renews a server certificate, or every certificate that has its pair. The store operation completes even if the caller
    /// leaves.
    pub async fn renew(&self, call: &Call, request: Renew) -> Result<RenewedCertificate, Error> {
        if !request.ali_cloud_certificate_id.is_empty() {
            let renewed = self.renew_from_ali_cloud(call, request).await;
            return renewed.map_err(Error::about_fetched);
        }
        let cost = Cost::of_octets(request.server_certificate.expose().len() + request.private_key.expose().len());
        let (app, caller) = (self.clone(), call.clone());
        let parse = move || {
            let fields = app.renewal_fields(&caller, &request);
            app.parse_renewal(fields, request.server_certificate.expose(), &request.private_key)
        };
        let parsed = self.0.cpu_pool.run(cost, parse).await?;
        let replayed = match &parsed {
            Ok((wanted, pair)) => self.replay_renewal(call, wanted, pair.certificate().findings()).await,
            Err((Some(wanted), Error::Fields { findings, .. })) => self.replay_renewal(call, wanted, findings).await,
            Err(_) => Ok(None),
        };
        let (wanted, pair) = match (replayed, parsed) {
            (Ok(Some(renewed)), _) => return Ok(renewed),
            (Err(error @ (Error::NotFound(_) | Error::ClientTokenReused | Error::OutcomeUnknown(_))), _) => {
                return Err(error);
            }
            // An unavailable database does not hide the error of the request.
            (Ok(None) | Err(_), Err((_, error))) => return Err(error),
            (Err(error), Ok(_)) => return Err(error),
            (Ok(None), Ok(parsed)) => parsed,
        };
        self.store_renewal(call, wanted, pair).await
    }

    /// Fetches the pair after everything else was checked, unless an earlier call with the same token renewed.
    async fn renew_from_ali_cloud(&self, call: &Call, request: Renew) -> Result<RenewedCertificate, Error> {
        let cas = self.cas(call)?;
        let (violations, wanted) = self.renewal_fields(call, &request);
        let mut wanted = match wanted {
            Some(wanted) if violations.is_empty() => wanted?,
            _ => return Err(violations.into()),
        };
        if let Some(renewed) = self.replay_renewal(call, &wanted, &[]).await? {
            return Ok(renewed);
        }
        let current = self.live(call, &wanted.target).await?;
        wanted.target.refuse_other_revision(&current)?;
        let Some(named) = &mut wanted.ali_cloud else {
            return Err(Error::field(Field::AliCloudCertificateId, FieldError::Required));
        };
        let fetched = fetch(cas, named).await?;
        let cost = Cost::of_octets(fetched.server_certificate.expose().len() + fetched.private_key.expose().len());
        let app = self.clone();
        let parse = move || {
            let fields = (Violations::default(), Some(Ok(wanted)));
            app.parse_renewal(fields, fetched.server_certificate.expose(), &fetched.private_key)
        };
        let parsed = self.0.cpu_pool.run(cost, parse).await?;
        let (wanted, pair) = parsed.map_err(|(_, error)| error)?;
        self.store_renewal(call, wanted, pair).await
    }

    async fn store_renewal(
        &self,
        call: &Call,
        wanted: Wanted,
        pair: VerifiedPair,
    ) -> Result<RenewedCertificate, Error> {
        let (app, call) = (self.clone(), call.clone());
        let renewing = async move { app.renew_verified(&call, &wanted, &pair).await };
        self.0
            .storing
            .spawn(renewing.in_current_span())
            .await
            .map_err(Error::internal)?
    }

    /// Checks every field but the pair. `None`: a violation.
    fn renewal_fields(&self, call: &Call, request: &Renew) -> RenewalFields {
        let token = self.token_of(&request.client_token, request.validate_only, || canonical(request));
        let mut violations = Violations::default();
        let fields = Target::fields(self, call, &request.target, &mut violations);
        let named = NamedFields {
            id: &request.ali_cloud_certificate_id,
            name: "",
            region_id: &request.ali_cloud_certificate_region_id,
            given: NamedFields::given(request.server_certificate.expose(), request.private_key.expose()),
        };
        let ali_cloud = named.check(&mut violations);
        let client_token = violations.check(Field::ClientToken, token);
        let wanted = fields.map(|fields| {
            Ok(Wanted {
                target: Target::of(call, &request.target, fields)?,
                allow_lost_names: request.allow_lost_names,
                everywhere: request.everywhere,
                validate_only: request.validate_only,
                client_token: client_token.flatten(),
                ali_cloud,
            })
        });
        (violations, wanted)
    }

    /// Verifies the pair. The error has all violations, in the order of the request's fields.
    fn parse_renewal(
        &self,
        (mut violations, wanted): RenewalFields,
        server_certificate: &[u8],
        private_key: &Secret,
    ) -> Result<(Wanted, VerifiedPair), RefusedRenewal> {
        let current = self.policy();
        let (now, policy, authorities) = (clock::now(), &*current, &self.0.authorities);
        let verify = || UnverifiedPair::read(server_certificate, private_key).verify(now, policy, authorities);
        let pair = match telemetry::step("check").in_scope(verify) {
            Ok(pair) => Some(pair),
            Err(error) => {
                violations.found(error.findings);
                violations.certificate(error.certificate, &error.rejected);
                violations.private_key(error.private_key, &error.rejected);
                violations.sort();
                None
            }
        };
        let wanted = match wanted {
            Some(Err(error)) if violations.is_empty() => return Err((None, error)),
            wanted => wanted.and_then(Result::ok),
        };
        match (wanted, pair) {
            (Some(wanted), Some(pair)) if violations.is_empty() => Ok((wanted, pair)),
            (wanted, _) => Err((wanted.map(Box::new), violations.into())),
        }
    }

    async fn renew_verified(
        &self,
        call: &Call,
        wanted: &Wanted,
        pair: &VerifiedPair,
    ) -> Result<RenewedCertificate, Error> {
        let new = pair.certificate();
        // If another call changes a certificate between the read and the write, that call made progress. This call reads again.
        loop {
            let plan = match self.plan(call, wanted, new).await {
                Ok(plan) if !plan.due.is_empty() => plan,
                // An earlier call with the token may just have made this change.
                refused_or_unchanged => match self.replay_renewal(call, wanted, new.findings()).await {
                    Ok(Some(renewed)) => return Ok(renewed),
                    Ok(None) | Err(_) => refused_or_unchanged?,
                },
            };
            if wanted.validate_only {
                return Ok(plan.renewed(wanted, new, None));
            }
            if plan.due.is_empty() {
                // An earlier call made this change. This call answers for it.
                let (account, seen) = (call.caller.account, (plan.current.id, plan.current.revision));
                if self.0.store.confirm(account, &[seen]).await? {
                    return Ok(plan.renewed(wanted, new, None));
                }
                continue;
            }
            // A rotation does not begin to re-wrap before the keys are stored.
            let ring = self.0.key_ring.current();
            self.confirm_sealing_key(&ring).await?;
            let seal = |stored: &StoredCertificate| {
                let key = ring.keys.seal_key(ring.sealing, pair, stored.id)?;
                let revision = stored.revision;
                Ok(RenewedRow { key, revision })
            };
            let rows = telemetry::step("seal").in_scope(|| plan.due.iter().map(seal).collect::<Result<_, Error>>())?;
            let renewal = store::Renewal {
                actor: call.actor(),
                certificate: new.clone(),
                ali_cloud: wanted.ali_cloud.clone(),
                rows,
                client_token: wanted.client_token.clone(),
            };
            if let Some(at) = self.0.store.renew(&renewal).await? {
                for one in &plan.due {
                    let (id, version, fingerprint) = (one.id, one.version + 1, new.facts().fingerprint);
                    tracing::info!(server_certificate_id = %id, version, %fingerprint, "renewed");
                }
                return Ok(plan.renewed(wanted, new, Some(at)));
            }
            if let Some(renewed) = self.replay_renewal(call, wanted, new.findings()).await? {
                return Ok(renewed);
            }
        }
    }

    /// Compares the new certificate with the present state.
    async fn plan(&self, call: &Call, wanted: &Wanted, new: &VerifiedCertificate) -> Result<Plan, Error> {
        let (store, target, kind) = (&self.0.store, &wanted.target, CertificateKind::Server);
        let found = store.find_with_chain(target.id, kind, target.region.as_ref()).await?;
        let found = found.filter(|(certificate, _)| call.reaches(certificate));
        let (current, chain) = found.ok_or_else(|| target.not_found())?;
        target.refuse_other_revision(&current)?;
        let mut all = vec![(current.clone(), chain)];
        if wanted.everywhere {
            let leaf = &current.facts.fingerprint_sha256;
            let same = store.with_leaf(call.reach(), leaf, MAX_EVERYWHERE + 1).await?;
            all.extend(same.into_iter().filter(|(other, _)| other.id != current.id));
            if all.len() > MAX_EVERYWHERE {
                let error = FieldError::TooManyCertificates { max: MAX_EVERYWHERE };
                return Err(Error::field(Field::Everywhere, error));
            }
        }
        let lost_names = lost_names(&current.facts, new.facts());
        if !lost_names.is_empty() && !wanted.allow_lost_names {
            return Err(Error::NamesLost(lost_names));
        }
        let ids: Vec<_> = all.iter().map(|(stored, _)| stored.id).collect();
        let is_due = |(stored, chain): &(StoredCertificate, Chain)| {
            stored.facts.fingerprint_sha256 != new.facts().fingerprint_sha256 || chain != new.chain()
        };
        let mut due: Vec<_> = all.into_iter().filter(is_due).map(|(stored, _)| stored).collect();
        due.sort_by_key(|stored| Position::from(stored.id));
        let is_unchanged = due.iter().all(|stored| stored.id != current.id);
        let findings = self
            .findings_of_renewal(call, (&current, new), (is_unchanged, &ids))
            .await?;
        Ok(Plan {
            current,
            due,
            findings,
            lost_names,
        })
    }

    /// All findings. An error if the policy refuses a difference from the present certificate, or the reuse of another one. The
    /// certificates `ids` are renewed together, and do not count as reuse.
    async fn findings_of_renewal(
        &self,
        call: &Call,
        (current, new): (&StoredCertificate, &VerifiedCertificate),
        (is_unchanged, ids): (bool, &[CertificateId]),
    ) -> Result<Vec<Finding>, Error> {
        let (before, after) = (&current.facts, new.facts());
        let mut kinds = Vec::new();
        if is_unchanged {
            let id = current.id.to_string();
            kinds.push(FindingKind::AlreadyStored { id });
        }
        if before.key_algorithm != after.key_algorithm {
            let (before, after) = (before.key_algorithm, after.key_algorithm);
            kinds.push(FindingKind::KeyTypeChanged { before, after });
        }
        if after.chain_not_after < before.chain_not_after {
            let (before, after) = (before.chain_not_after, after.chain_not_after);
            kinds.push(FindingKind::ExpiresEarlier { before, after });
        }
        let (added, removed) = changed_names(before, after);
        if added + removed > 0 {
            kinds.push(FindingKind::NamesChanged { added, removed });
        }
        let (store, policy) = (&self.0.store, &self.0.settings.policy);
        let mut reuse = store
            .reuse(CertificateKind::Server, call.reach(), after, Some(current.id))
            .await?;
        reuse.same_leaf = reuse.same_leaf.filter(|id| !ids.contains(id));
        reuse.same_key = reuse.same_key.filter(|id| !ids.contains(id));
        let findings = kinds.into_iter().map(|kind| Finding::new(kind, policy, &after.subject));
        let of_renewal: Vec<_> = findings.chain(self.findings_of(reuse, after)).collect();
        let rejected = reuse::rejected(&of_renewal);
        let findings = reuse::and(new.findings().to_vec(), of_renewal);
        if rejected.is_empty() {
            return Ok(findings);
        }
        let mut violations = Violations::with(findings);
        violations.policy(Field::Certificate(CertificateKind::Server), &rejected);
        Err(violations.into())
    }

    /// The answer for a renewal whose token was used by an earlier call with the same request: the certificate as it is now.
    async fn replay_renewal(
        &self,
        call: &Call,
        wanted: &Wanted,
        findings: &[Finding],
    ) -> Result<Option<RenewedCertificate>, Error> {
        let Some(token) = &wanted.client_token else {
            return Ok(None);
        };
        let (store, target, account) = (&self.0.store, &wanted.target, call.caller.account);
        let Some(used) = self.use_of(TokenOf::Renewal, account, token).await? else {
            return Ok(None);
        };
        let exists = async |id| {
            let found = store.find(id, CertificateKind::Server, None, Liveness::Live).await?;
            Ok::<_, Error>(found.filter(|stored| call.reaches(stored)))
        };
        let certificate = exists(target.id).await?.ok_or_else(|| target.not_found())?;
        let renewed = store.renewed_by(account, &used).await?.renewed;
        let of_target = renewed.iter().find(|(id, _)| *id == target.id);
        let previous_version = of_target.map_or(certificate.version, |(_, version)| version - 1);
        let mut everywhere = Vec::new();
        if wanted.everywhere {
            for (id, _) in renewed {
                if call.caller.scope.is_everything() || exists(id).await?.is_some() {
                    everywhere.push(id);
                }
            }
        }
        Ok(Some(RenewedCertificate {
            certificate,
            previous_version,
            findings: findings.to_vec(),
            everywhere,
            lost_names: Vec::new(),
            is_validation: false,
        }))
    }
}

impl Plan {
    /// The answer. `at`: the time of the renewal; `None` if nothing was stored.
    fn renewed(self, wanted: &Wanted, new: &VerifiedCertificate, at: Option<Timestamp>) -> RenewedCertificate {
        let previous_version = self.current.version;
        let is_changed = self.due.iter().any(|stored| stored.id == self.current.id);
        let certificate = match is_changed {
            true => StoredCertificate {
                revision: self.current.revision + 1,
                version: previous_version + 1,
                facts: new.facts().clone(),
                chain_length: new.chain().len() as i32, // At most 20.
                ali_cloud: wanted.ali_cloud.clone(),
                renewed: at,
                ..self.current
            },
            false => self.current,
        };
        let mut lost_names = self.lost_names;
        lost_names.truncate(MAX_LOST_NAMES);
        RenewedCertificate {
            certificate,
            previous_version,
            findings: self.findings,
            everywhere: match wanted.everywhere {
                true => self.due.iter().map(|stored| stored.id).collect(),
                false => Vec::new(),
            },
            lost_names,
            is_validation: is_changed && at.is_none(),
        }
    }
}

/// Everything that the renewal stores, and its conditions.
fn canonical(request: &Renew) -> Zeroizing<Vec<u8>> {
    let Renew {
        target,
        server_certificate,
        private_key,
        ali_cloud_certificate_id,
        ali_cloud_certificate_region_id,
        allow_lost_names,
        everywhere,
        client_token: _,
        validate_only: _,
    } = request;
    joined(&[
        server_certificate.expose(),
        private_key.expose(),
        target.region_id.as_bytes(),
        target.id.as_bytes(),
        target.if_etag.as_bytes(),
        ali_cloud_certificate_id.as_bytes(),
        ali_cloud_certificate_region_id.as_bytes(),
        &[u8::from(*allow_lost_names), u8::from(*everywhere)],
    ])
}
