//! How much of a quota an account uses.

use super::{Error, Params, Statement, Store};
use crate::account::AccountId;
use crate::inventory::{CertificateKind, RegionId};

/// How many live certificates of a kind an account has in a region, and how many it may have.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct QuotaUse {
    /// How many it has.
    pub used: i64,
    /// How many it may have.
    pub limit: i64,
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
}
