//! Deletes, undeletes and purges certificates.

use super::target::{Target, TargetCertificate};
use super::{App, Call, Error};
use crate::account::{Actor, Principal};
use crate::digest;
use crate::inventory::{CertificateKind, RegionId, Scope};
use crate::store::{self, Liveness, Precondition, QuotaUse, Undeletion};
use crate::telemetry::causes;

impl App {
    /// Deletes the certificate and returns its new revision. A certificate that a holder serves is deleted by force only. Without a
    /// retention time, the certificate is then removed permanently, and the result is `None`.
    pub async fn delete(&self, call: &Call, request: &TargetCertificate, force: bool) -> Result<Option<i64>, Error> {
        /// The last lease can end between a refusal and the look at the holders.
        const ATTEMPTS: u32 = 3;
        let target = Target::parse(self, call, request)?;
        let store = &self.0.store;
        for attempt in 1.. {
            let deleted = store.delete(target.precondition(), &call.actor(), force).await?;
            if let Some(revision) = deleted {
                return match self.0.settings.retention.is_zero() {
                    true => self.purge_deleted(&target, revision).await.map(|()| None),
                    false => Ok(Some(revision)),
                };
            }
            let error = self.explain_no_delete(call, &target).await?;
            match error {
                Error::CertificateInUse { holders, .. } if holders.is_empty() && attempt < ATTEMPTS => {}
                error => return Err(error),
            }
        }
        Err(target.not_found())
    }

    /// Why no live certificate was deleted.
    async fn explain_no_delete(&self, call: &Call, target: &Target) -> Result<Error, Error> {
        let state = target.current_state(self).await?;
        let is_held = state.is_some_and(|now| {
            now.liveness == Liveness::Live
                && target.region.as_ref().is_none_or(|region| *region == now.region)
                && target.revision.is_none_or(|asked| asked == now.revision)
        });
        if !is_held {
            return Ok(target.explain_no_match(self, Liveness::Live).await);
        }
        let (holders, more) = self.holders(call, target.id).await?;
        Ok(Error::CertificateInUse {
            kind: target.kind.unwrap_or(CertificateKind::Server),
            id: target.id,
            holders,
            more,
        })
    }

    /// Removes a certificate that was just deleted, as the maintenance would. A failure leaves it to the maintenance.
    async fn purge_deleted(&self, target: &Target, revision: i64) -> Result<(), Error> {
        let everything = Scope::default();
        let precondition = Precondition {
            revision: Some(revision),
            scope: &everything,
            ..target.precondition()
        };
        let actor = Actor {
            account: target.id.account,
            principal: Principal::Service,
            address: None,
            request_id: digest::random_uuid()?,
        };
        if let Err(error) = self.0.store.purge(precondition, &actor).await {
            tracing::warn!(cause = causes(&error), "a deleted certificate is purged later");
        }
        Ok(())
    }

    /// Makes a deleted certificate live again and returns its new revision.
    pub async fn undelete(&self, call: &Call, request: &TargetCertificate) -> Result<i64, Error> {
        let target = Target::parse(self, call, request)?;
        let quota = self.0.settings.quota(request.kind.into());
        match self
            .0
            .store
            .undelete(target.precondition(), &call.actor(), quota)
            .await?
        {
            Undeletion::Undeleted(revision) => Ok(revision),
            Undeletion::NotFound => Err(target.explain_no_match(self, Liveness::Deleted).await),
            Undeletion::OverQuota => match target.current_state(self).await? {
                Some(now) => Err(self.quota_exceeded(call, now.kind, now.region).await),
                None => Err(target.not_found()),
            },
        }
    }

    /// Removes a deleted certificate permanently.
    pub async fn purge(&self, call: &Call, request: &TargetCertificate) -> Result<(), Error> {
        let target = Target::parse(self, call, request)?;
        match self.0.store.purge(target.precondition(), &call.actor()).await? {
            Some(_) => Ok(()),
            None => Err(target.explain_no_match(self, Liveness::Deleted).await),
        }
    }

    /// The error for a certificate that exceeds the account's quota for this kind in this region.
    pub(super) async fn quota_exceeded(&self, call: &Call, kind: CertificateKind, region: RegionId) -> Error {
        match self.quota_use(call, kind, &region).await {
            Ok(quota) => Error::QuotaExceeded { kind, region, quota },
            Err(error) => error.into(),
        }
    }

    /// Refuses a certificate for which there is no room now, before certkeep spends more on it. The statement that stores it decides.
    pub(super) async fn refuse_over_quota(
        &self,
        call: &Call,
        kind: CertificateKind,
        region: RegionId,
    ) -> Result<(), Error> {
        let quota = self.quota_use(call, kind, &region).await?;
        match quota.used < quota.limit {
            true => Ok(()),
            false => Err(Error::QuotaExceeded { kind, region, quota }),
        }
    }

    async fn quota_use(&self, call: &Call, kind: CertificateKind, region: &RegionId) -> Result<QuotaUse, store::Error> {
        let default_limit = self.0.settings.quota(kind.into());
        let (store, account) = (&self.0.store, call.caller.account);
        store.quota_use(account, kind, region, default_limit).await
    }
}
