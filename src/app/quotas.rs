//! The quotas of an account.

use super::{App, Call, Error};
use crate::account::{AccountId, QuotaKind};
use crate::store::UsedIn;

/// A limit of an account.
#[derive(Debug)]
pub struct Quota {
    /// What is limited.
    pub kind: QuotaKind,
    /// The limit.
    pub maximum: i64,
    /// Whether an operator set the limit for this account.
    pub is_overridden: bool,
    /// How much is used.
    pub uses: Vec<UsedIn>,
}

impl App {
    /// The quotas of the caller's account, without regions outside the caller's scope.
    pub async fn quotas(&self, call: &Call) -> Result<Vec<Quota>, Error> {
        let mut quotas = self.quotas_of(call.caller.account).await?;
        for quota in &mut quotas {
            quota.uses.retain(|used| {
                let region = used.region.as_ref();
                region.is_none_or(|region| call.caller.scope.has_region(region))
            });
        }
        Ok(quotas)
    }

    pub(super) async fn quotas_of(&self, account: AccountId) -> Result<Vec<Quota>, Error> {
        let own = self.0.store.quotas(account).await?;
        let uses = self.0.store.quota_uses(account).await?;
        let kinds = QuotaKind::ALL
            .into_iter()
            .filter(|kind| account != AccountId::OPERATORS || !kind.is_of_certificates());
        let quotas = kinds.map(|kind| {
            let own = own.iter().find(|(own, _)| *own == kind).map(|(_, maximum)| *maximum);
            Quota {
                kind,
                maximum: own.unwrap_or(self.0.settings.quota(kind)),
                is_overridden: own.is_some(),
                uses: uses.iter().filter(|used| used.kind == kind).cloned().collect(),
            }
        });
        Ok(quotas.collect())
    }
}
