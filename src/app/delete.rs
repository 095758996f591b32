//! Deletes, undeletes and purges certificates.

use super::target::{Target, TargetCertificate};
use super::{App, Call, Error};
use crate::inventory::{CertificateKind, RegionId};
use crate::store::{Liveness, Undeletion};

impl App {
    /// Deletes the certificate and returns its new revision. Without a retention time, the certificate is removed permanently, and
    /// the result is `None`.
    pub async fn delete(&self, call: &Call, request: &TargetCertificate) -> Result<Option<i64>, Error> {
        let target = Target::parse(self, call, request)?;
        let (store, precondition) = (&self.0.store, target.precondition());
        let is_kept = !self.0.settings.retention.is_zero();
        let deleted = match is_kept {
            true => store.delete(precondition, &call.actor()).await?,
            false => store.delete_for_good(precondition, &call.actor()).await?,
        };
        match deleted {
            Some(revision) => Ok(is_kept.then_some(revision)),
            None => Err(target.explain_no_match(self, Liveness::Live).await),
        }
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
        let default_limit = self.0.settings.quota(kind.into());
        let quota = self
            .0
            .store
            .quota_use(call.caller.account, kind, &region, default_limit);
        match quota.await {
            Ok(quota) => Error::QuotaExceeded { kind, region, quota },
            Err(error) => error.into(),
        }
    }
}
