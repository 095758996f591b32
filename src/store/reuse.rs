//! Which certificates of an account are the same as one, or have its key.

use tokio_postgres::Row;

use super::{Error, Params, Statement, Store};
use crate::account::AccountId;
use crate::certificate::CertificateFacts;
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, CertificateKind};

/// The other live certificates of an account that have something of one's.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct Reuse {
    /// The youngest with the same leaf.
    pub same_leaf: Option<CertificateId>,
    /// One with the same public key and another leaf.
    pub same_key: Option<CertificateId>,
}

/// Two columns, each the creation time and the random part of an id: for a row `asked` that has an account, hashes, and, of the
/// certificate that is none of the others, an id. All certificates of a key, or of a leaf, may be many: one is looked up. That
/// of another leaf is the neighbour in the index by key and leaf; the order by both lets the planner take no other, also while there
/// is so little that all are alike to it.
macro_rules! reuse_columns {
    () => {
        "(
          select array[created_ms, random] from server_certificate as other
          where other.account_id = asked.account_id and other.spki_sha256 = asked.spki_sha256
            and other.fingerprint_sha256 = asked.fingerprint_sha256 and other.deleted_at is null
            and (other.created_ms, other.random) is distinct from (asked.created_ms, asked.random)
          order by other.created_ms desc, other.random desc limit 1
        ) as same_leaf,
        coalesce(
          (
            select id from (
              select array[created_ms, random] as id, spki_sha256 from server_certificate as other
              where other.account_id = asked.account_id and other.deleted_at is null
                and (other.spki_sha256, other.fingerprint_sha256) > (asked.spki_sha256, asked.fingerprint_sha256)
              order by other.spki_sha256, other.fingerprint_sha256 limit 1
            ) as next where next.spki_sha256 = asked.spki_sha256
          ),
          (
            select id from (
              select array[created_ms, random] as id, spki_sha256 from server_certificate as other
              where other.account_id = asked.account_id and other.deleted_at is null
                and (other.spki_sha256, other.fingerprint_sha256) < (asked.spki_sha256, asked.fingerprint_sha256)
              order by other.spki_sha256 desc, other.fingerprint_sha256 desc limit 1
            ) as previous where previous.spki_sha256 = asked.spki_sha256
          )
        ) as same_key"
    };
}
pub(super) use reuse_columns;

impl Store {
    /// The account's certificates of this kind that are the same as one of these facts or have its key; `besides` is that one itself.
    pub async fn reuse(
        &self,
        kind: CertificateKind,
        account: AccountId,
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
                    $4::bigint as created_ms, $5::bigint as random
                ) as asked"
            ),
        };
        let created_ms = besides.map(|id| id.created.millis());
        let random = besides.map(|id| id.random);
        let (spki, leaf) = (
            facts.spki_sha256.as_slice(),
            facts.fingerprint_sha256.as_bytes().as_slice(),
        );
        let account_id = account.as_i64();
        let params: Params<'_> = &[&account_id, &spki, &leaf, &created_ms, &random];
        let rows = self.read_of(kind, STATEMENT, params).await?;
        Reuse::of_row(kind, account, rows.first().ok_or(Error::Row("server_certificate"))?)
    }

    /// What a stored certificate's account has of it besides. If it can't be read now, that is no reason to call its upload failed.
    pub async fn reuse_of_stored(&self, id: CertificateId, facts: &CertificateFacts) -> Reuse {
        let read = self.reuse(id.kind, id.account, facts, Some(id)).await;
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "what the account has of an uploaded certificate could not be read");
            Reuse::default()
        })
    }
}

impl Reuse {
    /// From the columns of a row.
    pub(super) fn of_row(kind: CertificateKind, account: AccountId, row: &Row) -> Result<Self, Error> {
        let id = |column| match row.get::<_, Option<Vec<i64>>>(column).as_deref() {
            None => Ok(None),
            Some(&[created_ms, random]) => Ok(Some(CertificateId {
                kind,
                account,
                created: Timestamp::from_millis(created_ms),
                random,
            })),
            Some(_) => Err(Error::Row("server_certificate")),
        };
        Ok(Self {
            same_leaf: id("same_leaf")?,
            same_key: id("same_key")?,
        })
    }
}
