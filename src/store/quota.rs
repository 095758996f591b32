//! How much of a quota an account uses.

use super::{Error, Params, Statement, Store};
use crate::account::{AccountId, QuotaKind};
use crate::inventory::{CertificateKind, RegionId};

/// How many live certificates of a kind an account has in a region, and how many it may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuotaUse {
    /// How many it has.
    pub used: i64,
    /// How many it may have.
    pub limit: i64,
}

/// How much of a quota an account uses in a region.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct UsedIn {
    /// What is limited.
    pub kind: QuotaKind,
    /// The region. `None`: the quota does not depend on regions.
    pub region: Option<RegionId>,
    /// The number that counts towards the quota.
    pub used: i64,
}

impl Store {
    /// What an account uses of its quota. `default_limit` is for an account without a quota of its own.
    pub async fn quota_use(
        &self,
        account: AccountId,
        kind: CertificateKind,
        region: &RegionId,
        default_limit: i64,
    ) -> Result<QuotaUse, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::quota_use",
            sql: "-- store::quota_use
                  select
                    coalesce(
                      (select live from certificate_count where account_id = $1 and kind = $2 and region_id = $3), 0
                    ) as used,
                    coalesce((select maximum from quota where account_id = $1 and kind = $2), $4::bigint) as maximum",
        };
        let params: Params<'_> = &[&account.as_i64(), &kind.as_str(), &region.as_str(), &default_limit];
        let rows = self.read(STATEMENT, params).await?;
        let row = rows.first().ok_or(Error::Row("quota"))?;
        Ok(QuotaUse {
            used: row.get("used"),
            limit: row.get("maximum"),
        })
    }

    /// The quotas that were set for the account itself.
    pub async fn quotas(&self, account: AccountId) -> Result<Vec<(QuotaKind, i64)>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::quotas",
            sql: "-- store::quotas\nselect kind, maximum from quota where account_id = $1",
        };
        let rows = self.read(STATEMENT, &[&account.as_i64()]).await?;
        let quotas = rows.iter().map(|row| Ok((kind(row.get("kind"))?, row.get("maximum"))));
        quotas.collect()
    }

    /// What the account uses of its quotas: its access keys, and its live certificates in each region that has any.
    pub async fn quota_uses(&self, account: AccountId) -> Result<Vec<UsedIn>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::quota_uses",
            sql: "-- store::quota_uses
                  select kind, region_id, live as used from certificate_count where account_id = $1 and live > 0
                  union all
                  select 'access_keys', null, count(*) from access_key where account_id = $1
                  order by kind, region_id",
        };
        let rows = self.read(STATEMENT, &[&account.as_i64()]).await?;
        let uses = rows.iter().map(|row| {
            Ok(UsedIn {
                kind: kind(row.get("kind"))?,
                region: row.get::<_, Option<String>>("region_id").map(RegionId::from_stored),
                used: row.get("used"),
            })
        });
        uses.collect()
    }
}

pub(super) fn kind(name: &str) -> Result<QuotaKind, Error> {
    let found = QuotaKind::ALL.into_iter().find(|kind| kind.as_str() == name);
    found.ok_or(Error::Row("quota"))
}
