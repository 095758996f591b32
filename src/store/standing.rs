//! What of all accounts needs the operator soonest, for the metrics: the certificates that end next, and the fullest quotas.

use super::quota::kind;
use super::sealed::certificate_id;
use super::{Error, Statement, Store};
use crate::account::{AccountId, QuotaKind};
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, CertificateKind, RegionId};

/// A live certificate that has not ended yet.
#[derive(Debug)]
pub struct ExpiringCertificate {
    /// The certificate.
    pub id: CertificateId,
    /// Its kind.
    pub kind: CertificateKind,
    /// Its region.
    pub region: RegionId,
    /// Its name.
    pub name: String,
    /// The earliest end of its chain.
    pub ends: Timestamp,
    /// Whether an issuer ends before the certificate itself.
    pub is_ended_by_issuer: bool,
}

/// How much of a quota an account uses.
#[derive(Debug)]
pub struct UsedQuota {
    /// The account.
    pub account: AccountId,
    /// What is limited.
    pub kind: QuotaKind,
    /// The region. `None`: the quota does not depend on regions.
    pub region: Option<RegionId>,
    /// How much is used.
    pub used: i64,
    /// How much may be used.
    pub maximum: i64,
}

impl Store {
    /// At most `size` live certificates of both kinds whose chain ends at this moment or later, the next first.
    pub async fn expiring_next_of_all_accounts(
        &self,
        from: Timestamp,
        size: u32,
    ) -> Result<Vec<ExpiringCertificate>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::expiring_next_of_all_accounts",
            // Each account gives its own next ones, by an index. The CA certificates of an account are few, and are sorted.
            sql: "-- store::expiring_next_of_all_accounts
                  select next.* from account cross join lateral (
                    (select account_id, created_ms, random, kind, region_id, name, chain_not_after_ms,
                       chain_not_after_ms < not_after_ms as is_ended_by_issuer
                     from certificate
                     where certificate.account_id = account.account_id and kind = 'server' and deleted_at is null
                       and chain_not_after_ms >= $1
                     order by chain_not_after_ms, created_ms, random limit $2)
                    union all
                    (select account_id, created_ms, random, kind, region_id, name, chain_not_after_ms,
                       chain_not_after_ms < not_after_ms
                     from certificate
                     where certificate.account_id = account.account_id and kind <= 'ca' and deleted_at is null
                       and chain_not_after_ms >= $1
                     order by chain_not_after_ms, created_ms, random limit $2)
                  ) as next
                  order by chain_not_after_ms, account_id, created_ms, random limit $2",
        };
        let rows = self.read(STATEMENT, &[&from.millis(), &i64::from(size)]).await?;
        let certificates = rows.iter().map(|row| {
            Ok(ExpiringCertificate {
                id: certificate_id(row),
                kind: CertificateKind::from_name(row.get("kind")).ok_or(Error::Row("certificate"))?,
                region: RegionId::from_stored(row.get("region_id")),
                name: row.get("name"),
                ends: Timestamp::from_millis(row.get("chain_not_after_ms")),
                is_ended_by_issuer: row.get("is_ended_by_issuer"),
            })
        });
        certificates.collect()
    }

    /// At most `size` quotas of certificates and access keys that are used by this share or more, the fullest first. `maximum` answers the
    /// limit for accounts without their own.
    pub async fn fullest_quotas_of_all_accounts(
        &self,
        maximum: impl Fn(QuotaKind) -> i64,
        share: f64,
        size: u32,
    ) -> Result<Vec<UsedQuota>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::fullest_quotas_of_all_accounts",
            sql: "-- store::fullest_quotas_of_all_accounts
                  select * from (
                    select account_id, kind, region_id, used, coalesce(
                        quota.maximum, case kind when 'server' then $1::bigint when 'ca' then $2::bigint else $3::bigint end
                      ) as maximum
                    from (
                      select account_id, kind, region_id, live as used from certificate_count
                      union all
                      select account_id, 'access_keys', null, count(*) from access_key group by account_id
                    ) as used left join quota using (account_id, kind)
                  ) as quota
                  where used > 0 and used >= maximum * $4::float8
                  order by used::float8 / greatest(maximum, 1) desc, account_id, kind, region_id limit $5",
        };
        let of_kind = [
            QuotaKind::ServerCertificates,
            QuotaKind::CaCertificates,
            QuotaKind::AccessKeys,
        ]
        .map(maximum);
        let [servers, cas, keys] = &of_kind;
        let rows = self
            .read(STATEMENT, &[servers, cas, keys, &share, &i64::from(size)])
            .await?;
        let quotas = rows.iter().map(|row| {
            Ok(UsedQuota {
                account: AccountId::from_i64(row.get("account_id")),
                kind: kind(row.get("kind"))?,
                region: row.get::<_, Option<String>>("region_id").map(RegionId::from_stored),
                used: row.get("used"),
                maximum: row.get("maximum"),
            })
        });
        quotas.collect()
    }
}
