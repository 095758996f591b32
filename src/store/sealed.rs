//! Walks the rows that contain sealed values, of all accounts: table by table, each in the order of its primary key.

use std::fmt;

use uuid::Uuid;

use super::{Error, Params, Statement, Store, id_columns};
use crate::account::AccountId;
use crate::clock::Timestamp;
use crate::inventory::CertificateId;
use crate::seal::{KeyEncryptionKeyId, Row};

/// A place in the walk: a row with a sealed value, or the start of a table. Written as the table, a slash and the row's key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum SealedCursor {
    /// A service key by its purpose; `None`: before the first.
    ServiceKey(Option<String>),
    /// An access key that can sign, by its account and its id; `None`: before the first.
    AccessKey(Option<(AccountId, String)>),
    /// A private key by its certificate and its key id; `None`: before the first.
    PrivateKey(Option<(CertificateId, Uuid)>),
}

impl SealedCursor {
    /// Before all rows.
    pub const START: Self = Self::ServiceKey(None);

    /// Reads the form that [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (table, key) = text.split_once('/')?;
        let key = Some(key).filter(|key| !key.is_empty());
        match (table, key) {
            ("service_key", key) => Some(Self::ServiceKey(key.map(str::to_owned))),
            ("access_key", None) => Some(Self::AccessKey(None)),
            ("access_key", Some(key)) => Some(Self::AccessKey(Some(parse_access_key(key)?))),
            ("private_key", None) => Some(Self::PrivateKey(None)),
            ("private_key", Some(key)) => {
                let (certificate, key_id) = key.split_once('/')?;
                let certificate = CertificateId::parse(certificate).ok()?;
                Some(Self::PrivateKey(Some((certificate, key_id.parse().ok()?))))
            }
            _ => None,
        }
    }

    /// Before the first row of the table after this one.
    fn next_table(&self) -> Option<Self> {
        match self {
            Self::ServiceKey(_) => Some(Self::AccessKey(None)),
            Self::AccessKey(_) => Some(Self::PrivateKey(None)),
            Self::PrivateKey(_) => None,
        }
    }
}

impl fmt::Display for SealedCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceKey(None) => f.write_str("service_key/"),
            Self::ServiceKey(Some(purpose)) => write!(f, "service_key/{purpose}"),
            Self::AccessKey(None) => f.write_str("access_key/"),
            Self::AccessKey(Some((account, id))) => write!(f, "access_key/{account}/{id}"),
            Self::PrivateKey(None) => f.write_str("private_key/"),
            Self::PrivateKey(Some((certificate, key_id))) => write!(f, "private_key/{certificate}/{key_id}"),
        }
    }
}

/// A row with a sealed value.
#[derive(Debug)]
pub struct SealedRow {
    id: RowId,
    /// The sealed value.
    pub sealed: Vec<u8>,
}

#[derive(Debug)]
enum RowId {
    Service {
        purpose: String,
    },
    Access {
        account: AccountId,
        id: String,
        secret_sha256: [u8; 32],
    },
    Private {
        certificate: CertificateId,
        key_id: Uuid,
        spki_sha256: [u8; 32],
    },
}

impl SealedRow {
    /// The row that the value is bound to.
    pub fn row(&self) -> Row<'_> {
        match &self.id {
            RowId::Service { purpose } => Row::ServiceKey { purpose },
            RowId::Access {
                account,
                id,
                secret_sha256,
            } => Row::AccessKey {
                account: *account,
                access_key_id: id,
                secret_sha256,
            },
            RowId::Private {
                certificate,
                key_id,
                spki_sha256,
            } => Row::PrivateKey {
                certificate: *certificate,
                key_id: *key_id,
                spki_sha256,
            },
        }
    }

    /// The place of the row.
    pub fn cursor(&self) -> SealedCursor {
        match &self.id {
            RowId::Service { purpose } => SealedCursor::ServiceKey(Some(purpose.clone())),
            RowId::Access { account, id, .. } => SealedCursor::AccessKey(Some((*account, id.clone()))),
            RowId::Private {
                certificate, key_id, ..
            } => SealedCursor::PrivateKey(Some((*certificate, *key_id))),
        }
    }
}

/// Some rows of one table.
#[derive(Debug)]
pub struct SealedPage {
    /// The rows.
    pub rows: Vec<SealedRow>,
    /// Where the next page begins. `None`: this is the last page of the last table.
    pub next: Option<SealedCursor>,
}

/// The columns of a private key's place. Before the first: less than any row.
type PrivateKeyColumns = ((i64, i64, i64), Uuid);

pub(super) fn private_key_columns(after: Option<(CertificateId, Uuid)>) -> PrivateKeyColumns {
    match after {
        Some((certificate, key_id)) => (id_columns(certificate), key_id),
        None => ((i64::MIN, i64::MIN, i64::MIN), Uuid::nil()),
    }
}

/// The account and the id of an access key, as a cursor writes them. The service's own account has no key that can sign.
pub(super) fn parse_access_key(text: &str) -> Option<(AccountId, String)> {
    let (account, id) = text.split_once('/')?;
    Some((account.parse().ok()?, id.to_owned()))
}

/// The columns of an access key's place. Before the first: less than any row.
pub(super) fn access_key_columns(after: Option<&(AccountId, String)>) -> (i64, &str) {
    after.map_or((i64::MIN, ""), |(account, id)| (account.as_i64(), id))
}

pub(super) fn certificate_id(row: &tokio_postgres::Row) -> CertificateId {
    CertificateId {
        account: AccountId::from_i64(row.get("account_id")),
        created: Timestamp::from_millis(row.get("created_ms")),
        random: row.get("random"),
    }
}

impl Store {
    /// At most `size` rows after this place, all of one table.
    pub async fn sealed_rows_of_all_accounts(&self, after: &SealedCursor, size: usize) -> Result<SealedPage, Error> {
        let rows = match after {
            SealedCursor::ServiceKey(purpose) => self.service_keys_after(purpose.as_deref(), size).await?,
            SealedCursor::AccessKey(key) => self.access_keys_after(key.as_ref(), size).await?,
            SealedCursor::PrivateKey(row) => self.private_keys_after(*row, size).await?,
        };
        let next = match rows.last() {
            Some(last) if rows.len() == size => Some(last.cursor()),
            _ => after.next_table(),
        };
        Ok(SealedPage { rows, next })
    }

    async fn service_keys_after(&self, purpose: Option<&str>, size: usize) -> Result<Vec<SealedRow>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::service_keys_of_all_accounts",
            sql: "-- store::service_keys_of_all_accounts
                  select purpose, sealed from service_key where purpose > $1 order by purpose limit $2",
        };
        let rows = self
            .read(STATEMENT, &[&purpose.unwrap_or_default(), &(size as i64)])
            .await?;
        let row = |row: &tokio_postgres::Row| SealedRow {
            id: RowId::Service {
                purpose: row.get("purpose"),
            },
            sealed: row.get("sealed"),
        };
        Ok(rows.iter().map(row).collect())
    }

    async fn access_keys_after(
        &self,
        after: Option<&(AccountId, String)>,
        size: usize,
    ) -> Result<Vec<SealedRow>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::sealed_access_keys_of_all_accounts",
            sql: "-- store::sealed_access_keys_of_all_accounts
                  select account_id, access_key_id, secret_sha256, sealed from access_key
                  where sealed is not null and (account_id, access_key_id) > ($1, $2)
                  order by account_id, access_key_id limit $3",
        };
        let (account, id) = access_key_columns(after);
        let rows = self.read(STATEMENT, &[&account, &id, &(size as i64)]).await?;
        rows.iter()
            .map(|row| {
                let secret_sha256: &[u8] = row.get("secret_sha256");
                Ok(SealedRow {
                    id: RowId::Access {
                        account: AccountId::from_i64(row.get("account_id")),
                        id: row.get("access_key_id"),
                        secret_sha256: secret_sha256.try_into().map_err(|_| Error::Row("access_key"))?,
                    },
                    sealed: row.get("sealed"),
                })
            })
            .collect()
    }

    async fn private_keys_after(
        &self,
        after: Option<(CertificateId, Uuid)>,
        size: usize,
    ) -> Result<Vec<SealedRow>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::private_keys_of_all_accounts",
            sql: "-- store::private_keys_of_all_accounts
                  select key.*, coalesce(
                    (
                      select old.spki_sha256 from certificate_version as old
                      where old.account_id = key.account_id and old.created_ms = key.created_ms and old.random = key.random
                        and old.key_id = key.key_id and certificate.key_id <> key.key_id
                      limit 1
                    ),
                    certificate.spki_sha256
                  ) as spki_sha256 from (
                    select account_id, created_ms, random, key_id, sealed from private_key
                    where (account_id, created_ms, random, key_id) > ($1, $2, $3, $4)
                    order by account_id, created_ms, random, key_id limit $5
                  ) as key cross join lateral (
                    select key_id, spki_sha256 from certificate
                    where account_id = key.account_id and created_ms = key.created_ms and random = key.random
                  ) as certificate
                  order by key.account_id, key.created_ms, key.random, key.key_id",
        };
        let ((account, created, random), key_id) = private_key_columns(after);
        let params: Params<'_> = &[&account, &created, &random, &key_id, &(size as i64)];
        let rows = self.read(STATEMENT, params).await?;
        rows.iter()
            .map(|row| {
                let spki_sha256: &[u8] = row.get("spki_sha256");
                Ok(SealedRow {
                    id: RowId::Private {
                        certificate: certificate_id(row),
                        key_id: row.get("key_id"),
                        spki_sha256: spki_sha256.try_into().map_err(|_| Error::Row("certificate"))?,
                    },
                    sealed: row.get("sealed"),
                })
            })
            .collect()
    }

    /// How many of the next `size` values after this place this key has sealed, and where the next search begins. Reads no more of
    /// a value than its first octets.
    pub async fn sealed_by_of_all_accounts(
        &self,
        key: KeyEncryptionKeyId,
        after: &SealedCursor,
        size: usize,
    ) -> Result<(i64, Option<SealedCursor>), Error> {
        match after {
            SealedCursor::ServiceKey(_) => Ok((self.service_keys_sealed_by(key).await?, after.next_table())),
            SealedCursor::AccessKey(_) => Ok((self.access_keys_sealed_by(key).await?, after.next_table())),
            SealedCursor::PrivateKey(row) => self.private_keys_sealed_by(key, *row, size).await,
        }
    }

    async fn service_keys_sealed_by(&self, key: KeyEncryptionKeyId) -> Result<i64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::service_keys_sealed_by_of_all_accounts",
            sql: "-- store::service_keys_sealed_by_of_all_accounts
                  select count(*) from service_key where substring(sealed from 2 for 8) = $1",
        };
        let rows = self.read(STATEMENT, &[&key.as_bytes().as_slice()]).await?;
        rows.first().map(|row| row.get(0)).ok_or(Error::Row("service_key"))
    }

    async fn access_keys_sealed_by(&self, key: KeyEncryptionKeyId) -> Result<i64, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::access_keys_sealed_by_of_all_accounts",
            sql: "-- store::access_keys_sealed_by_of_all_accounts
                  select count(*) from access_key where sealed is not null and substring(sealed from 2 for 8) = $1",
        };
        let rows = self.read(STATEMENT, &[&key.as_bytes().as_slice()]).await?;
        rows.first().map(|row| row.get(0)).ok_or(Error::Row("access_key"))
    }

    async fn private_keys_sealed_by(
        &self,
        key: KeyEncryptionKeyId,
        after: Option<(CertificateId, Uuid)>,
        size: usize,
    ) -> Result<(i64, Option<SealedCursor>), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::private_keys_sealed_by_of_all_accounts",
            sql: "-- store::private_keys_sealed_by_of_all_accounts
                  with page as materialized (
                    select account_id, created_ms, random, key_id, substring(sealed from 2 for 8) = $5 as is_found
                    from private_key where (account_id, created_ms, random, key_id) > ($1, $2, $3, $4)
                    order by account_id, created_ms, random, key_id limit $6
                  )
                  select account_id, created_ms, random, key_id, (select count(*) from page) as seen,
                    (select count(*) from page where is_found) as found
                  from page order by account_id desc, created_ms desc, random desc, key_id desc limit 1",
        };
        let ((account, created, random), key_id) = private_key_columns(after);
        let key = key.as_bytes().as_slice();
        let params: Params<'_> = &[&account, &created, &random, &key_id, &key, &(size as i64)];
        let rows = self.read(STATEMENT, params).await?;
        let Some(last) = rows.first() else {
            return Ok((0, None));
        };
        let has_more = last.get::<_, i64>("seen") == size as i64;
        let next = has_more.then(|| SealedCursor::PrivateKey(Some((certificate_id(last), last.get("key_id")))));
        Ok((last.get("found"), next))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let certificate = CertificateId::new(
            AccountId::from_i64(1_231_579_085_529_123),
            Timestamp::from_millis(1),
            [0xff; 8],
        );
        for cursor in [
            SealedCursor::START,
            SealedCursor::ServiceKey(Some("page-token".to_owned())),
            SealedCursor::AccessKey(None),
            SealedCursor::AccessKey(Some((certificate.account, "CKa".to_owned()))),
            SealedCursor::PrivateKey(None),
            SealedCursor::PrivateKey(Some((certificate, Uuid::from_bytes([7; 16])))),
        ] {
            assert_eq!(SealedCursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in ["", "private_key", "private_key/1", "private_key/1/2", "account/1"] {
            assert_eq!(SealedCursor::parse(text), None, "{text}");
        }
    }
}
