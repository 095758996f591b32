//! Reads certificates, without their private keys.

use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::FromSql;

use super::group_commit::{GroupCommit, RoundTrip};
use super::lookup::LookupError;
use super::lookup::MAX_LOOKUPS;
use super::statement::Confirm;
use super::{Error, Params, Statement, Store, id_columns};
use crate::account::AccountId;
use crate::certificate::{CertificateFacts, Chain};
use crate::clock::Timestamp;
use crate::inventory::{
    AliCloudCertificate, AliCloudCertificateId, CertificateId, CertificateKind, CertificateName, RegionId,
    ResourceGroupId, Tags,
};

/// A position in an account's list of certificates. The list is ordered by creation time and id.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The time part of the id.
    pub created_ms: i64,
    /// The random part of the id.
    pub random: i64,
}

impl Position {
    /// Before the first certificate.
    pub const START: Self = Self {
        created_ms: i64::MIN,
        random: i64::MIN,
    };

    /// After the last certificate.
    pub const END: Self = Self {
        created_ms: i64::MAX,
        random: i64::MAX,
    };
}

impl From<CertificateId> for Position {
    fn from(id: CertificateId) -> Self {
        Self {
            created_ms: id.created.millis(),
            random: id.random,
        }
    }
}

/// A stored certificate.
#[derive(Clone, Debug)]
pub struct StoredCertificate {
    /// The certificate's id.
    pub id: CertificateId,
    /// The certificate's region.
    pub region: RegionId,
    /// The certificate's name.
    pub name: CertificateName,
    /// Every change increases the revision.
    pub revision: i64,
    /// Every renewal increases the version.
    pub version: i64,
    /// The facts about the leaf.
    pub facts: CertificateFacts,
    /// The number of certificates that are served, including the leaf.
    pub chain_length: i32,
    /// The certificate's resource group.
    pub resource_group: ResourceGroupId,
    /// The certificate's tags.
    pub tags: Tags,
    /// The time of the deletion, if the certificate is deleted.
    pub deleted: Option<Timestamp>,
    /// When the certificate got its present pair by a renewal or a rollback. `None`: by its upload.
    pub renewed: Option<Timestamp>,
    /// The certificate of Alibaba Cloud from which the present pair came. `None`: an uploaded pair.
    pub ali_cloud: Option<AliCloudCertificate>,
}

impl StoredCertificate {
    /// The approximate size of its texts, in octets.
    pub fn octets(&self) -> usize {
        // Hexadecimal hashes, times, and the numbers of the key.
        const FACTS: usize = 1024;
        let facts = &self.facts;
        let names = facts.subject_alternative_names.iter().map(|name| name.len() + 3);
        let tags = self.tags.iter().map(|tag| tag.key().len() + tag.value().len() + 9);
        let ali_cloud = self.ali_cloud.iter().map(|of| of.name.len() + of.region_id.len());
        FACTS
            + ali_cloud.sum::<usize>()
            + facts.common_name.len()
            + facts.issuer.len()
            + facts.subject.len()
            + facts.serial_number.len()
            + self.name.as_str().len()
            + names.sum::<usize>()
            + tags.sum::<usize>()
    }
}

/// Whether a certificate is deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Liveness {
    /// The certificate is not deleted.
    Live,
    /// The certificate is deleted and can be undeleted.
    Deleted,
}

/// A certificate to look up.
#[derive(Clone)]
pub(super) struct Wanted {
    id: CertificateId,
    kind: CertificateKind,
    region: Option<String>,
    liveness: Liveness,
}

/// Look-ups that wait while a statement runs share the next statement.
pub(super) type Lookups = Arc<GroupCommit<Wanted, Result<Option<StoredCertificate>, LookupError>>>;

pub(super) fn lookups(round_trip: RoundTrip) -> Lookups {
    GroupCommit::new(MAX_LOOKUPS, round_trip)
}

// Postgres plans a statement once (store::connect), possibly while the table is almost empty and all indexes cost the same. So a
// look-up by id has all other conditions outside of the subquery that finds the row. Otherwise the plan could use an index with
// another order, for example one of the live certificates.

/// The columns of a [`StoredCertificate`]. A variant of `Column` is the index of its column in a row.
macro_rules! read_columns {
    ($first:ident $first_sql:literal, $($column:ident $sql:literal,)*) => {
        #[derive(Clone, Copy)]
        enum Column { $first, $($column),* }

        macro_rules! columns {
            () => { concat!("select ", $first_sql, $(", ", $sql),*, " ") };
        }
        pub(super) use columns;
    };
}

read_columns! {
    AccountId "account_id",
    CreatedMs "created_ms",
    Random "random",
    RegionId "region_id",
    Name "name",
    Revision "revision",
    Version "version",
    Fingerprint "fingerprint",
    FingerprintSha256 "fingerprint_sha256",
    CommonName "common_name",
    SubjectAlternativeNames "subject_alternative_names",
    NotBeforeMs "not_before_ms",
    NotAfterMs "not_after_ms",
    ChainNotAfterMs "chain_not_after_ms",
    SerialNumber "serial_number",
    Issuer "issuer",
    Subject "subject",
    KeyAlgorithm "key_algorithm",
    KeySize "key_size",
    SignatureAlgorithm "signature_algorithm",
    SpkiSha256 "spki_sha256",
    AliCloudCertificateId "ali_cloud_certificate_id",
    AliCloudCertificateName "ali_cloud_certificate_name",
    AliCloudCertificateRegionId "ali_cloud_certificate_region_id",
    ChainLength "chain_length",
    ResourceGroupId "resource_group_id",
    DeletedMs "(extract(epoch from deleted_at) * 1000)::bigint as deleted_ms",
    RenewedMs "(extract(epoch from renewed_at) * 1000)::bigint as renewed_ms",
    // Keys and values alternate, ordered by key.
    Tags "array(
           select unnest(array[key, value]) from (
             select key, value from certificate_tag as tag
             where tag.account_id = certificate.account_id
               and tag.created_ms = certificate.created_ms and tag.random = certificate.random
             order by key
           ) as by_key
         ) as tags",
}

/// The approximate size of a certificate's texts in an answer.
macro_rules! octets {
    () => {
        "1000 + octet_length(subject_alternative_names::text) + octet_length(common_name)
           + octet_length(subject) + octet_length(issuer) + octet_length(tags::text)"
    };
}
pub(super) use octets;

/// Counts the live certificates of a kind, those that end before the moments $1 to $4, and all.
macro_rules! count_expiring {
    ($kind:literal, $is_kind:literal) => {
        concat!(
            "select '",
            $kind,
            "', count(*) filter (where chain_not_after_ms < $1), count(*) filter (where chain_not_after_ms < $2),
               count(*) filter (where chain_not_after_ms < $3), count(*) filter (where chain_not_after_ms < $4), count(*)
             from certificate where deleted_at is null and ",
            $is_kind
        )
    };
}

macro_rules! select {
    ($name:literal, $rest:literal) => {
        Statement {
            name: $name,
            sql: concat!("-- ", $name, "\n", columns!(), $rest),
        }
    };
}

impl Store {
    /// The number of live certificates of each kind whose chain ends before each of these moments, and the number of all of them.
    pub async fn expiring_of_all_accounts(
        &self,
        moments: [Timestamp; 4],
    ) -> Result<Vec<(CertificateKind, [i64; 5])>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::expiring_of_all_accounts",
            // An index-only scan counts the server certificates. The CA certificates have a small index of their own.
            sql: concat!(
                "-- store::expiring_of_all_accounts\n",
                count_expiring!("server", "kind = 'server'"),
                " union all ",
                count_expiring!("ca", "kind <= 'ca'")
            ),
        };
        let [first, second, third, fourth] = moments.map(Timestamp::millis);
        let rows = self.read(STATEMENT, &[&first, &second, &third, &fourth]).await?;
        let counts = rows.iter().map(|row| {
            let kind = CertificateKind::from_name(row.get(0)).ok_or(Error::Row("certificate"))?;
            Ok((kind, [row.get(1), row.get(2), row.get(3), row.get(4), row.get(5)]))
        });
        counts.collect()
    }

    /// The certificate with this id and liveness. `region: None` means any region.
    pub async fn find(
        &self,
        id: CertificateId,
        kind: CertificateKind,
        region: Option<&RegionId>,
        liveness: Liveness,
    ) -> Result<Option<StoredCertificate>, Error> {
        let wanted = Wanted {
            id,
            kind,
            region: region.map(|region| region.as_str().to_owned()),
            liveness,
        };
        let all = async |store: Self, wanted: Vec<Wanted>| store.find_all(&wanted).await;
        self.look_up_together(&self.lookups, wanted, all).await
    }

    /// The live certificates with these ids, in the same order.
    pub async fn find_several(
        &self,
        ids: &[CertificateId],
        kind: CertificateKind,
    ) -> Result<Vec<Option<StoredCertificate>>, Error> {
        let wanted = |id: &CertificateId| Wanted {
            id: *id,
            kind,
            region: None,
            liveness: Liveness::Live,
        };
        self.find_all(&ids.iter().map(wanted).collect::<Vec<_>>()).await
    }

    /// Whether these certificates of the account still have these revisions. Waits until the synchronous standby has them: the answer is
    /// for the calls that made them.
    pub async fn confirm(&self, account: AccountId, revisions: &[(CertificateId, i64)]) -> Result<bool, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::confirm_revisions",
            sql: "-- store::confirm_revisions
                  select count(*) from unnest($2::bigint[], $3::bigint[], $4::bigint[]) as asked(created_ms, random, revision)
                  cross join lateral (
                    select revision from certificate
                    where account_id = $1 and created_ms = asked.created_ms and random = asked.random offset 0
                  ) as certificate
                  where certificate.revision = asked.revision",
        };
        let created: Vec<_> = revisions.iter().map(|(id, _)| id.created.millis()).collect();
        let random: Vec<_> = revisions.iter().map(|(id, _)| id.random).collect();
        let asked: Vec<_> = revisions.iter().map(|(_, revision)| *revision).collect();
        let account = account.as_i64();
        let params: Params<'_> = &[&account, &created, &random, &asked];
        let rows = self.read_confirmed(Confirm::Always, STATEMENT, params).await?;
        Ok(rows
            .first()
            .is_some_and(|row| row.get::<_, i64>(0) == revisions.len() as i64))
    }

    /// The results for the wanted certificates, in the same order.
    async fn find_all(&self, wanted: &[Wanted]) -> Result<Vec<Option<StoredCertificate>>, Error> {
        // The statement looks up each certificate by account and id.
        const STATEMENT: Statement = select!(
            "store::find",
            ", place
             from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::text[], $6::bool[])
               with ordinality as wanted(
                 wanted_account, wanted_ms, wanted_random, wanted_kind, wanted_region, is_deleted, place
               )
             cross join lateral (
               select * from certificate
               where account_id = wanted_account and created_ms = wanted_ms and random = wanted_random offset 0
             ) as certificate
             where kind = wanted_kind and (wanted_region is null or region_id = wanted_region)
               and (deleted_at is not null) = is_deleted"
        );
        let ids = || wanted.iter().map(|wanted| id_columns(wanted.id));
        let accounts: Vec<_> = ids().map(|(account, _, _)| account).collect();
        let created: Vec<_> = ids().map(|(_, created, _)| created).collect();
        let random: Vec<_> = ids().map(|(_, _, random)| random).collect();
        let kinds: Vec<_> = wanted.iter().map(|wanted| wanted.kind.as_str()).collect();
        let regions: Vec<_> = wanted.iter().map(|wanted| wanted.region.as_deref()).collect();
        let deleted: Vec<_> = wanted
            .iter()
            .map(|wanted| wanted.liveness == Liveness::Deleted)
            .collect();
        let params: Params<'_> = &[&accounts, &created, &random, &kinds, &regions, &deleted];
        let mut found = vec![None; wanted.len()];
        for row in self.read(STATEMENT, params).await? {
            // Ordinality counts from 1.
            let place = row.get::<_, i64>("place") as usize - 1;
            let slot = found.get_mut(place).ok_or(Error::Row("certificate"))?;
            *slot = Some(stored(&row)?);
        }
        Ok(found)
    }

    /// The live certificate with this id, and its chain. `region: None` means any region.
    pub async fn find_with_chain(
        &self,
        id: CertificateId,
        kind: CertificateKind,
        region: Option<&RegionId>,
    ) -> Result<Option<(StoredCertificate, Chain)>, Error> {
        const STATEMENT: Statement = select!(
            "store::find_with_chain",
            ", chain from (
               select * from certificate where account_id = $1 and created_ms = $2 and random = $3 offset 0
             ) as certificate
             where kind = $5 and ($4::text is null or region_id = $4) and deleted_at is null"
        );
        let (account, created, random) = id_columns(id);
        let region = region.map(RegionId::as_str);
        let params: Params<'_> = &[&account, &created, &random, &region, &kind.as_str()];
        let rows = self.read(STATEMENT, params).await?;
        rows.first()
            // A chain with a NULL element is damaged.
            .map(|row| {
                Ok((
                    stored(row)?,
                    Chain::from_stored(row.try_get("chain").unwrap_or_default()),
                ))
            })
            .transpose()
    }
}

/// The certificate of a row that begins with the [`columns`].
pub(super) fn stored(row: &Row) -> Result<StoredCertificate, Error> {
    use Column as C;
    let damaged = || Error::Row("certificate");
    let account = AccountId::from_i64(value(row, C::AccountId));
    let facts = CertificateFacts {
        fingerprint: bytes(row, C::Fingerprint).map(crate::certificate::Fingerprint::from_bytes)?,
        fingerprint_sha256: bytes(row, C::FingerprintSha256).map(crate::certificate::Fingerprint::from_bytes)?,
        common_name: value(row, C::CommonName),
        subject_alternative_names: value(row, C::SubjectAlternativeNames),
        not_before: Timestamp::from_millis(value(row, C::NotBeforeMs)),
        not_after: Timestamp::from_millis(value(row, C::NotAfterMs)),
        chain_not_after: Timestamp::from_millis(value(row, C::ChainNotAfterMs)),
        serial_number: value(row, C::SerialNumber),
        issuer: value(row, C::Issuer),
        subject: value(row, C::Subject),
        key_algorithm: value::<&str>(row, C::KeyAlgorithm).parse().map_err(|_| damaged())?,
        key_size: value::<i32>(row, C::KeySize).try_into().map_err(|_| damaged())?,
        signature_algorithm: value(row, C::SignatureAlgorithm),
        spki_sha256: bytes(row, C::SpkiSha256)?,
    };
    let tags: Vec<String> = value(row, C::Tags);
    let (pairs, _) = tags.as_chunks::<2>();
    Ok(StoredCertificate {
        id: CertificateId {
            account,
            created: Timestamp::from_millis(value(row, C::CreatedMs)),
            random: value(row, C::Random),
        },
        region: RegionId::from_stored(value(row, C::RegionId)),
        name: CertificateName::from_stored(value(row, C::Name)),
        revision: value(row, C::Revision),
        version: value(row, C::Version),
        facts,
        chain_length: value(row, C::ChainLength),
        resource_group: ResourceGroupId::from_stored(account, value(row, C::ResourceGroupId)),
        deleted: value::<Option<i64>>(row, C::DeletedMs).map(Timestamp::from_millis),
        renewed: value::<Option<i64>>(row, C::RenewedMs).map(Timestamp::from_millis),
        ali_cloud: value::<Option<String>>(row, C::AliCloudCertificateId).map(|id| AliCloudCertificate {
            id: AliCloudCertificateId::from_stored(id),
            name: value(row, C::AliCloudCertificateName),
            region_id: value(row, C::AliCloudCertificateRegionId),
        }),
        tags: Tags::from_stored(pairs.iter().cloned().map(|[key, value]| (key, value)).collect()),
    })
}

/// Reads a column by index, because this is many times faster than by name.
fn value<'a, T: FromSql<'a>>(row: &'a Row, column: Column) -> T {
    row.get(column as usize)
}

fn bytes<const N: usize>(row: &Row, column: Column) -> Result<[u8; N], Error> {
    value::<&[u8]>(row, column)
        .try_into()
        .map_err(|_| Error::Row("certificate"))
}
