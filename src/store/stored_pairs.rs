//! Walks the service keys, the access keys that can sign, the pairs of all certificates and their earlier versions, and the private keys without a certificate, of all
//! accounts: table by table, each in the order of its primary key.

use std::fmt;

use tokio_postgres::Row;
use uuid::Uuid;

use super::sealed::{access_key_columns, certificate_id, parse_access_key, private_key_columns};
use super::version::{facts, facts_of};
use super::{Error, Params, Statement, Store, id_columns};
use crate::account::AccountId;
use crate::certificate::{CertificateFacts, Chain};
use crate::inventory::{CertificateId, CertificateKind};
use crate::seal::SERVICE_KEYS;

/// A place in the walk: a row, or the start of a table. Written as the table, a slash and the row's key.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum PairCursor {
    /// A service key by its purpose; `None`: before the first.
    ServiceKey(Option<String>),
    /// An access key that can sign, by its account and its id; `None`: before the first.
    AccessKey(Option<(AccountId, String)>),
    /// A certificate; `None`: before the first.
    Certificate(Option<CertificateId>),
    /// An earlier version of a certificate; `None`: before the first.
    Version(Option<(CertificateId, i64)>),
    /// A private key by its certificate and its key id; `None`: before the first.
    PrivateKey(Option<(CertificateId, Uuid)>),
}

impl PairCursor {
    /// Before all rows.
    pub const START: Self = Self::ServiceKey(None);

    /// Reads the form that [`Display`](fmt::Display) writes.
    pub fn parse(text: &str) -> Option<Self> {
        let (table, key) = text.split_once('/')?;
        let certificate = |text| CertificateId::parse(text).ok();
        match (table, key) {
            ("service_key", "") => Some(Self::ServiceKey(None)),
            ("service_key", key) => Some(Self::ServiceKey(Some(key.to_owned()))),
            ("access_key", "") => Some(Self::AccessKey(None)),
            ("access_key", key) => Some(Self::AccessKey(Some(parse_access_key(key)?))),
            ("certificate", "") => Some(Self::Certificate(None)),
            ("certificate", key) => Some(Self::Certificate(Some(certificate(key)?))),
            ("certificate_version", "") => Some(Self::Version(None)),
            ("certificate_version", key) => {
                let (id, version) = key.split_once('/')?;
                Some(Self::Version(Some((certificate(id)?, version.parse().ok()?))))
            }
            ("private_key", "") => Some(Self::PrivateKey(None)),
            ("private_key", key) => {
                let (id, key_id) = key.split_once('/')?;
                Some(Self::PrivateKey(Some((certificate(id)?, key_id.parse().ok()?))))
            }
            _ => None,
        }
    }

    /// Before the first row of the table after this one.
    fn next_table(&self) -> Option<Self> {
        match self {
            Self::ServiceKey(_) => Some(Self::AccessKey(None)),
            Self::AccessKey(_) => Some(Self::Certificate(None)),
            Self::Certificate(_) => Some(Self::Version(None)),
            Self::Version(_) => Some(Self::PrivateKey(None)),
            Self::PrivateKey(_) => None,
        }
    }
}

impl fmt::Display for PairCursor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ServiceKey(None) => f.write_str("service_key/"),
            Self::ServiceKey(Some(purpose)) => write!(f, "service_key/{purpose}"),
            Self::AccessKey(None) => f.write_str("access_key/"),
            Self::AccessKey(Some((account, id))) => write!(f, "access_key/{account}/{id}"),
            Self::Certificate(None) => f.write_str("certificate/"),
            Self::Certificate(Some(id)) => write!(f, "certificate/{id}"),
            Self::Version(None) => f.write_str("certificate_version/"),
            Self::Version(Some((id, version))) => write!(f, "certificate_version/{id}/{version}"),
            Self::PrivateKey(None) => f.write_str("private_key/"),
            Self::PrivateKey(Some((id, key_id))) => write!(f, "private_key/{id}/{key_id}"),
        }
    }
}

/// A row of the walk.
#[derive(Debug)]
pub enum WalkedRow {
    /// A service key.
    ServiceKey {
        /// Its purpose.
        purpose: String,
        /// The sealed key. `None`: the database has no key for a purpose that needs one.
        sealed: Option<Vec<u8>>,
    },
    /// An access key that can sign.
    AccessKey {
        /// The account of the key.
        account: AccountId,
        /// The key's id.
        id: String,
        /// The SHA-256 of the secret.
        secret_sha256: [u8; 32],
        /// The sealed secret.
        sealed: Vec<u8>,
    },
    /// A certificate or an earlier version of one.
    Pair(Box<PairRow>),
    /// A private key.
    PrivateKey {
        /// The certificate that it was uploaded with.
        certificate: CertificateId,
        /// The id of the row.
        key_id: Uuid,
        /// Whether a version of the certificate has the key. Then it was walked with that version.
        has_version: bool,
    },
}

/// A chain, the facts about its leaf, and its sealed private key, as they are stored.
#[derive(Debug)]
pub struct PairRow {
    /// The certificate.
    pub certificate: CertificateId,
    /// The version.
    pub version: i64,
    /// Whether it is the present version.
    pub is_present: bool,
    /// The kind.
    pub kind: CertificateKind,
    /// The facts about the leaf. `None`: they cannot be read.
    pub facts: Option<CertificateFacts>,
    /// The searchable names, in the order of the column. `None`: they cannot be read.
    pub searchable_names: Option<Vec<String>>,
    /// The certificates that are served. Empty: they cannot be read.
    pub chain: Chain,
    /// The number of certificates, as the row says.
    pub chain_length: i32,
    /// The id of the key row. `None`: the certificate has no private key.
    pub key_id: Option<Uuid>,
    /// The sealed private key. `None`: there is no such row.
    pub sealed: Option<Vec<u8>>,
}

impl WalkedRow {
    /// The place of the row.
    pub fn cursor(&self) -> PairCursor {
        match self {
            Self::ServiceKey { purpose, .. } => PairCursor::ServiceKey(Some(purpose.clone())),
            Self::AccessKey { account, id, .. } => PairCursor::AccessKey(Some((*account, id.clone()))),
            Self::Pair(pair) if pair.is_present => PairCursor::Certificate(Some(pair.certificate)),
            Self::Pair(pair) => PairCursor::Version(Some((pair.certificate, pair.version))),
            Self::PrivateKey {
                certificate, key_id, ..
            } => PairCursor::PrivateKey(Some((*certificate, *key_id))),
        }
    }
}

/// Some rows of one table.
#[derive(Debug)]
pub struct WalkedPage {
    /// The rows.
    pub rows: Vec<WalkedRow>,
    /// Where the next page begins. `None`: this is the last page of the last table.
    pub next: Option<PairCursor>,
}

/// The columns of a certificate's place. Before the first: less than any row.
fn columns(after: Option<CertificateId>) -> (i64, i64, i64) {
    after.map_or((i64::MIN, i64::MIN, i64::MIN), id_columns)
}

impl Store {
    /// At most `size` rows after this place, all of one table. Changes nothing.
    pub async fn walk_pairs_of_all_accounts(&self, after: &PairCursor, size: usize) -> Result<WalkedPage, Error> {
        let limit = size as i64;
        let rows: Vec<WalkedRow> = match after {
            PairCursor::ServiceKey(purpose) => {
                const STATEMENT: Statement = Statement {
                    name: "store::walk_service_keys_of_all_accounts",
                    sql: "-- store::walk_service_keys_of_all_accounts
                          select purpose, sealed from unnest($3::text[]) as needed(purpose) full join service_key using (purpose)
                          where purpose > $1 order by purpose limit $2",
                };
                let purpose = purpose.as_deref().unwrap_or_default();
                let rows = self
                    .read(STATEMENT, &[&purpose, &limit, &SERVICE_KEYS.as_slice()])
                    .await?;
                rows.iter().map(service_key).collect()
            }
            PairCursor::AccessKey(key) => {
                const STATEMENT: Statement = Statement {
                    name: "store::walk_access_keys_of_all_accounts",
                    sql: "-- store::walk_access_keys_of_all_accounts
                          select account_id, access_key_id, secret_sha256, sealed from access_key
                          where sealed is not null and (account_id, access_key_id) > ($1, $2)
                          order by account_id, access_key_id limit $3",
                };
                let (account, id) = access_key_columns(key.as_ref());
                let rows = self.read(STATEMENT, &[&account, &id, &limit]).await?;
                rows.iter().map(access_key).collect::<Result<_, _>>()?
            }
            PairCursor::Certificate(id) => {
                const STATEMENT: Statement = Statement {
                    name: "store::walk_certificates_of_all_accounts",
                    // The limit keeps the look-up of the key by its primary key, whatever the planner knows of the tables.
                    sql: concat!(
                        "-- store::walk_certificates_of_all_accounts
                         select certificate.*, sealed, true as is_present from (
                           select account_id, created_ms, random, version, kind, key_id, ",
                        facts!(),
                        "  from certificate where (account_id, created_ms, random) > ($1, $2, $3)
                           order by account_id, created_ms, random limit $4
                         ) as certificate left join lateral (
                           select sealed from private_key as key
                           where key.account_id = certificate.account_id and key.created_ms = certificate.created_ms
                             and key.random = certificate.random and key.key_id = certificate.key_id limit 1
                         ) as key on true
                         order by account_id, created_ms, random"
                    ),
                };
                let (account, created, random) = columns(*id);
                let rows = self.read(STATEMENT, &[&account, &created, &random, &limit]).await?;
                rows.iter().map(pair).collect::<Result<_, _>>()?
            }
            PairCursor::Version(place) => {
                const STATEMENT: Statement = Statement {
                    name: "store::walk_versions_of_all_accounts",
                    sql: concat!(
                        "-- store::walk_versions_of_all_accounts
                         select earlier.*, sealed, false as is_present from (
                           select account_id, created_ms, random, version, 'server' as kind, key_id, ",
                        facts!(),
                        "  from certificate_version where (account_id, created_ms, random, version) > ($1, $2, $3, $4)
                           order by account_id, created_ms, random, version limit $5
                         ) as earlier left join lateral (
                           select sealed from private_key as key
                           where key.account_id = earlier.account_id and key.created_ms = earlier.created_ms
                             and key.random = earlier.random and key.key_id = earlier.key_id limit 1
                         ) as key on true
                         order by account_id, created_ms, random, version"
                    ),
                };
                let (account, created, random) = columns(place.map(|(id, _)| id));
                let version = place.map_or(i64::MIN, |(_, version)| version);
                let params: Params<'_> = &[&account, &created, &random, &version, &limit];
                let rows = self.read(STATEMENT, params).await?;
                rows.iter().map(pair).collect::<Result<_, _>>()?
            }
            PairCursor::PrivateKey(place) => {
                const STATEMENT: Statement = Statement {
                    name: "store::walk_private_keys_of_all_accounts",
                    sql: "-- store::walk_private_keys_of_all_accounts
                          select page.*, exists (
                            select from certificate
                            where certificate.account_id = page.account_id and certificate.created_ms = page.created_ms
                              and certificate.random = page.random and certificate.key_id = page.key_id
                          ) or exists (
                            select from certificate_version as earlier
                            where earlier.account_id = page.account_id and earlier.created_ms = page.created_ms
                              and earlier.random = page.random and earlier.key_id = page.key_id
                          ) as has_version
                          from (
                            select account_id, created_ms, random, key_id from private_key
                            where (account_id, created_ms, random, key_id) > ($1, $2, $3, $4)
                            order by account_id, created_ms, random, key_id limit $5
                          ) as page order by account_id, created_ms, random, key_id",
                };
                let ((account, created, random), key_id) = private_key_columns(*place);
                let params: Params<'_> = &[&account, &created, &random, &key_id, &limit];
                let rows = self.read(STATEMENT, params).await?;
                rows.iter().map(private_key).collect()
            }
        };
        let next = match rows.last() {
            Some(last) if rows.len() == size => Some(last.cursor()),
            _ => after.next_table(),
        };
        Ok(WalkedPage { rows, next })
    }
}

fn service_key(row: &Row) -> WalkedRow {
    WalkedRow::ServiceKey {
        purpose: row.get("purpose"),
        sealed: row.get("sealed"),
    }
}

fn access_key(row: &Row) -> Result<WalkedRow, Error> {
    let secret_sha256: &[u8] = row.get("secret_sha256");
    Ok(WalkedRow::AccessKey {
        account: AccountId::from_i64(row.get("account_id")),
        id: row.get("access_key_id"),
        secret_sha256: secret_sha256.try_into().map_err(|_| Error::Row("access_key"))?,
        sealed: row.get("sealed"),
    })
}

fn private_key(row: &Row) -> WalkedRow {
    WalkedRow::PrivateKey {
        certificate: certificate_id(row),
        key_id: row.get("key_id"),
        has_version: row.get("has_version"),
    }
}

fn pair(row: &Row) -> Result<WalkedRow, Error> {
    Ok(WalkedRow::Pair(Box::new(PairRow {
        certificate: certificate_id(row),
        version: row.get("version"),
        is_present: row.get("is_present"),
        kind: CertificateKind::from_name(row.get("kind")).ok_or(Error::Row("certificate"))?,
        facts: facts_of(row).ok(),
        // An array may have a NULL element.
        searchable_names: row.try_get("searchable_names").ok(),
        chain: Chain::from_stored(row.try_get("chain").unwrap_or_default()),
        chain_length: row.get("chain_length"),
        key_id: row.get("key_id"),
        sealed: row.get("sealed"),
    })))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::account::AccountId;
    use crate::clock::Timestamp;

    #[test]
    fn a_cursor_is_read_as_it_is_written() {
        let certificate = CertificateId::new(
            AccountId::from_i64(1_231_579_085_529_123),
            Timestamp::from_millis(1),
            [0xff; 8],
        );
        for cursor in [
            PairCursor::START,
            PairCursor::ServiceKey(Some("page-token".to_owned())),
            PairCursor::AccessKey(None),
            PairCursor::AccessKey(Some((certificate.account, "CKa".to_owned()))),
            PairCursor::Certificate(None),
            PairCursor::Certificate(Some(certificate)),
            PairCursor::Version(None),
            PairCursor::Version(Some((certificate, 3))),
            PairCursor::PrivateKey(None),
            PairCursor::PrivateKey(Some((certificate, Uuid::from_bytes([7; 16])))),
        ] {
            assert_eq!(PairCursor::parse(&cursor.to_string()), Some(cursor));
        }
        for text in [
            "",
            "private_key",
            "private_key/1",
            "certificate/1",
            "certificate_version/1/2",
            "account/1",
        ] {
            assert_eq!(PairCursor::parse(text), None, "{text}");
        }
    }
}
