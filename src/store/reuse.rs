//! Finds other live certificates of an account with the same leaf or the same key.

use tokio_postgres::Row;

use super::scope::{self, in_scope};
use super::{Error, Params, Statement, Store};
use crate::account::AccountId;
use crate::certificate::CertificateFacts;
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, CertificateKind, Scope};

/// Other live certificates of an account with the leaf or the key of one certificate.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reuse {
    /// A certificate with the same leaf.
    pub same_leaf: Option<CertificateId>,
    /// A certificate with the same public key and another leaf.
    pub same_key: Option<CertificateId>,
}

/// Two columns. Each is an id, as an array of its creation time and random part. `asked` is a row with an account, the hashes, and
/// the id to leave out, which can be null. Many certificates can share a key or a leaf; the query finds one of them. In the index
/// by key and leaf, certificates with the same key and another leaf are neighbours of those with this leaf. The `order by` forces
/// the planner to use this index, even while the tables are so small that all indexes cost the same.
macro_rules! reuse_columns {
    () => {
        "(
          select array[created_ms, random] from certificate as other
          where other.account_id = asked.account_id and other.kind = asked.kind and other.deleted_at is null
            and (substr(other.spki_sha256, 1, 8), substr(other.fingerprint_sha256, 1, 8))
              >= (substr(asked.spki_sha256, 1, 8), substr(asked.fingerprint_sha256, 1, 8))
            and (substr(other.spki_sha256, 1, 8), substr(other.fingerprint_sha256, 1, 8))
              <= (substr(asked.spki_sha256, 1, 8), substr(asked.fingerprint_sha256, 1, 8))
            and other.fingerprint_sha256 = asked.fingerprint_sha256
            and (other.created_ms, other.random) is distinct from (asked.created_ms, asked.random)
          order by substr(other.spki_sha256, 1, 8), substr(other.fingerprint_sha256, 1, 8) limit 1
        ) as same_leaf,
        coalesce(
          (
            select id from (
              select array[created_ms, random] as id, spki_sha256 from certificate as other
              where other.account_id = asked.account_id and other.kind = asked.kind and other.deleted_at is null
                and (substr(other.spki_sha256, 1, 8), substr(other.fingerprint_sha256, 1, 8))
                  > (substr(asked.spki_sha256, 1, 8), substr(asked.fingerprint_sha256, 1, 8))
              order by substr(other.spki_sha256, 1, 8), substr(other.fingerprint_sha256, 1, 8) limit 1
            ) as next where next.spki_sha256 = asked.spki_sha256
          ),
          (
            select id from (
              select array[created_ms, random] as id, spki_sha256 from certificate as other
              where other.account_id = asked.account_id and other.kind = asked.kind and other.deleted_at is null
                and (substr(other.spki_sha256, 1, 8), substr(other.fingerprint_sha256, 1, 8))
                  < (substr(asked.spki_sha256, 1, 8), substr(asked.fingerprint_sha256, 1, 8))
              order by substr(other.spki_sha256, 1, 8) desc, substr(other.fingerprint_sha256, 1, 8) desc limit 1
            ) as previous where previous.spki_sha256 = asked.spki_sha256
          )
        ) as same_key"
    };
}
pub(super) use reuse_columns;

impl Store {
    /// The certificates of the account and the scope, of this kind, with the leaf or the key of these facts, except the certificate
    /// `besides`.
    pub async fn reuse(
        &self,
        kind: CertificateKind,
        (account, scope): (AccountId, &Scope),
        facts: &CertificateFacts,
        besides: Option<CertificateId>,
    ) -> Result<Reuse, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::reuse",
            sql: concat!(
                "-- store::reuse\nselect ",
                reuse_columns!(),
                " from (
                  select $1::bigint as account_id, $2::bytea as spki_sha256, $3::bytea as fingerprint_sha256,
                    $4::bigint as created_ms, $5::bigint as random, $6::text as kind
                ) as asked"
            ),
        };
        // Reads at most 10,000 certificates with the key. Their order is that of the index by key and leaf.
        const OF_SCOPE: Statement = Statement {
            name: "store::reuse_of_scope",
            sql: concat!(
                "-- store::reuse_of_scope
                 with other as (
                   select array[created_ms, random] as id, fingerprint_sha256 from (
                     select * from certificate
                     where account_id = $1 and kind = $6 and deleted_at is null
                       and substr(spki_sha256, 1, 8) >= substr($2::bytea, 1, 8)
                       and substr(spki_sha256, 1, 8) <= substr($2::bytea, 1, 8)
                     order by substr(spki_sha256, 1, 8), substr(fingerprint_sha256, 1, 8) limit 10000
                   ) as of_key
                   where spki_sha256 = $2 and (created_ms, random) is distinct from ($4::bigint, $5::bigint) and ",
                in_scope!("$7", "$8", "$9"),
                "
                 )
                 select (select id from other where fingerprint_sha256 = $3 limit 1) as same_leaf,
                   (select id from other where fingerprint_sha256 <> $3 limit 1) as same_key"
            ),
        };
        let created_ms = besides.map(|id| id.created.millis());
        let random = besides.map(|id| id.random);
        let (spki, leaf) = (
            facts.spki_sha256.as_slice(),
            facts.fingerprint_sha256.as_bytes().as_slice(),
        );
        let account_id = account.as_i64();
        let kind = kind.as_str();
        let params: Params<'_> = &[&account_id, &spki, &leaf, &created_ms, &random, &kind];
        let rows = match scope.is_everything() {
            true => self.read(STATEMENT, params).await?,
            false => {
                let [regions, groups, prefixes] = scope::parameters(scope, account);
                let of_scope: Params<'_> = &[&regions, &groups, &prefixes];
                self.read(OF_SCOPE, &[params, of_scope].concat()).await?
            }
        };
        Reuse::of_row(account, rows.first().ok_or(Error::Row("certificate"))?)
    }

    /// The same for a stored certificate. An error is only logged, because the upload itself has succeeded.
    pub async fn reuse_of_stored(
        &self,
        id: CertificateId,
        scope: &Scope,
        kind: CertificateKind,
        facts: &CertificateFacts,
    ) -> Reuse {
        let read = self.reuse(kind, (id.account, scope), facts, Some(id)).await;
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "reading other certificates with the same leaf or key failed after an upload");
            Reuse::default()
        })
    }
}

impl Reuse {
    /// Reads the columns of a row.
    pub(super) fn of_row(account: AccountId, row: &Row) -> Result<Self, Error> {
        let id = |column| match row.get::<_, Option<Vec<i64>>>(column).as_deref() {
            None => Ok(None),
            Some(&[created_ms, random]) => Ok(Some(CertificateId {
                account,
                created: Timestamp::from_millis(created_ms),
                random,
            })),
            Some(_) => Err(Error::Row("certificate")),
        };
        Ok(Self {
            same_leaf: id("same_leaf")?,
            same_key: id("same_key")?,
        })
    }
}
