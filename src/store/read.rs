//! Reading certificates, without their keys.

use tokio_postgres::Row;

use super::batches::BatchesByKind;
use super::error::Cause;
use super::{Error, MAX_LOOKUPS, Params, Statement, Store, id_columns};
use crate::account::AccountId;
use crate::certificate::{CertificateFacts, Chain};
use crate::clock::Timestamp;
use crate::inventory::{CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId, Tags};

/// A place in an account's list of certificates, which is ordered by creation time and id.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub struct Position {
    /// The time part of the id.
    pub created_ms: i64,
    /// The random part of the id.
    pub random: i64,
}

impl Position {
    /// Before the first.
    pub const START: Self = Self {
        created_ms: i64::MIN,
        random: i64::MIN,
    };

    /// Behind the last.
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

/// A certificate as it is stored.
#[derive(Clone, Debug)]
pub struct StoredCertificate {
    /// Its id.
    pub id: CertificateId,
    /// Where it is kept.
    pub region: RegionId,
    /// Its name.
    pub name: CertificateName,
    /// Raised by every change.
    pub revision: i64,
    /// Raised by every renewal.
    pub version: i64,
    /// What is known of the leaf.
    pub facts: CertificateFacts,
    /// How many certificates are served, the leaf included.
    pub chain_length: i32,
    /// Its resource group.
    pub resource_group: ResourceGroupId,
    /// Its tags.
    pub tags: Tags,
    /// When it was deleted, if it was.
    pub deleted: Option<Timestamp>,
}

/// Whether a certificate is deleted.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Liveness {
    /// It is not.
    Live,
    /// It is, and can be undeleted.
    Deleted,
}

/// A certificate that is looked up.
#[derive(Clone)]
pub(super) struct Wanted {
    id: CertificateId,
    region: Option<String>,
    liveness: Liveness,
}

/// Look-ups that wait while others are under way are done together.
pub(super) type Lookups = BatchesByKind<Wanted, Result<Option<StoredCertificate>, Cause>>;

pub(super) fn lookups() -> Lookups {
    BatchesByKind::new(MAX_LOOKUPS)
}

// Plans are made once (store::connect), maybe while there is next to nothing and each index looks as good as any other. Where a
// certificate is looked up by its id, what else is asked of it stands outside of the look-up: an index of only the live ones,
// in some other order, can't serve it then.

/// What a [`StoredCertificate`] is made from; tags come as keys and values in turn, ordered by key.
macro_rules! columns {
    () => {
        "select account_id, created_ms, random, region_id, name, revision, version, fingerprint, fingerprint_sha256,
           common_name, subject_alternative_names, not_before_ms, not_after_ms, serial_number, issuer, subject,
           key_algorithm, key_size, signature_algorithm, spki_sha256, chain_length, resource_group_id,
           (extract(epoch from deleted_at) * 1000)::bigint as deleted_ms,
           array(
             select unnest(array[key, value]) from (
               select key, value from server_certificate_tag as tag
               where tag.account_id = server_certificate.account_id
                 and tag.created_ms = server_certificate.created_ms and tag.random = server_certificate.random
               order by key
             ) as by_key
           ) as tags "
    };
}
pub(super) use columns;

/// What a certificate's texts take in an answer, about.
macro_rules! octets {
    () => {
        "1000 + octet_length(subject_alternative_names::text) + octet_length(common_name)
           + octet_length(subject) + octet_length(issuer) + octet_length(tags::text)"
    };
}
pub(super) use octets;

macro_rules! select {
    ($name:literal, $rest:literal) => {
        Statement {
            name: $name,
            sql: concat!("-- ", $name, "\n", columns!(), $rest),
        }
    };
}

impl Store {
    /// How many certificates end before each of these moments, and how many there are.
    pub async fn expiring_of_all_accounts(&self, moments: [Timestamp; 4]) -> Result<[i64; 5], Error> {
        const STATEMENT: Statement = Statement {
            name: "store::expiring_of_all_accounts",
            // From the index alone.
            sql: "-- store::expiring_of_all_accounts
                  select count(*) filter (where not_after_ms < $1), count(*) filter (where not_after_ms < $2),
                    count(*) filter (where not_after_ms < $3), count(*) filter (where not_after_ms < $4), count(*)
                  from server_certificate where deleted_at is null",
        };
        let [first, second, third, fourth] = moments.map(Timestamp::millis);
        let rows = self.read(STATEMENT, &[&first, &second, &third, &fourth]).await?;
        let row = rows.first().ok_or(Error::Row("server_certificate"))?;
        Ok([row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)])
    }

    /// The certificate of this id, live or deleted as asked, if it is of this region, or of any.
    pub async fn find(
        &self,
        id: CertificateId,
        region: Option<&RegionId>,
        liveness: Liveness,
    ) -> Result<Option<StoredCertificate>, Error> {
        let wanted = Wanted {
            id,
            region: region.map(|region| region.as_str().to_owned()),
            liveness,
        };
        let all = async |store: Self, wanted: Vec<Wanted>| store.find_all(&wanted).await;
        self.look_up_together(self.homes.here().lookups.of(id.kind), wanted, all)
            .await
    }

    /// For each that is wanted, in their order, what is found. All are of one kind.
    async fn find_all(&self, wanted: &[Wanted]) -> Result<Vec<Option<StoredCertificate>>, Error> {
        // Each is looked up by its account and id.
        const STATEMENT: Statement = select!(
            "store::find",
            ", place
             from unnest($1::bigint[], $2::bigint[], $3::bigint[], $4::text[], $5::bool[])
               with ordinality as wanted(wanted_account, wanted_ms, wanted_random, wanted_region, is_deleted, place)
             cross join lateral (
               select * from server_certificate
               where account_id = wanted_account and created_ms = wanted_ms and random = wanted_random offset 0
             ) as server_certificate
             where (wanted_region is null or region_id = wanted_region) and (deleted_at is not null) = is_deleted"
        );
        let Some(kind) = wanted.first().map(|wanted| wanted.id.kind) else {
            return Ok(Vec::new());
        };
        let ids = || wanted.iter().map(|wanted| id_columns(wanted.id));
        let accounts: Vec<_> = ids().map(|(account, _, _)| account).collect();
        let created: Vec<_> = ids().map(|(_, created, _)| created).collect();
        let random: Vec<_> = ids().map(|(_, _, random)| random).collect();
        let regions: Vec<_> = wanted.iter().map(|wanted| wanted.region.as_deref()).collect();
        let deleted: Vec<_> = wanted
            .iter()
            .map(|wanted| wanted.liveness == Liveness::Deleted)
            .collect();
        let params: Params<'_> = &[&accounts, &created, &random, &regions, &deleted];
        let mut found = vec![None; wanted.len()];
        for row in self.read_of(kind, STATEMENT, params).await? {
            // Ordinality counts from 1.
            let place = row.get::<_, i64>("place") as usize - 1;
            let slot = found.get_mut(place).ok_or(Error::Row("server_certificate"))?;
            *slot = Some(stored(kind, &row)?);
        }
        Ok(found)
    }

    /// The live certificate of this id and its chain, if it is of this region, or of any.
    pub async fn find_with_chain(
        &self,
        id: CertificateId,
        region: Option<&RegionId>,
    ) -> Result<Option<(StoredCertificate, Chain)>, Error> {
        const STATEMENT: Statement = select!(
            "store::find_with_chain",
            ", chain from (
               select * from server_certificate where account_id = $1 and created_ms = $2 and random = $3 offset 0
             ) as server_certificate
             where ($4::text is null or region_id = $4) and deleted_at is null"
        );
        let (account, created, random) = id_columns(id);
        let region = region.map(RegionId::as_str);
        let params: Params<'_> = &[&account, &created, &random, &region];
        let rows = self.read_of(id.kind, STATEMENT, params).await?;
        rows.first()
            .map(|row| Ok((stored(id.kind, row)?, Chain::from_stored(row.get("chain")))))
            .transpose()
    }
}

/// Of a row that begins with the [`columns`], in their order: to find each by its name takes longer than to read it.
pub(super) fn stored(kind: CertificateKind, row: &Row) -> Result<StoredCertificate, Error> {
    let damaged = || Error::Row("server_certificate");
    let account = AccountId::from_i64(row.get(0));
    let facts = CertificateFacts {
        fingerprint: bytes(row, 7).map(crate::certificate::Fingerprint::from_bytes)?,
        fingerprint_sha256: bytes(row, 8).map(crate::certificate::Fingerprint::from_bytes)?,
        common_name: row.get(9),
        subject_alternative_names: row.get(10),
        not_before: Timestamp::from_millis(row.get(11)),
        not_after: Timestamp::from_millis(row.get(12)),
        serial_number: row.get(13),
        issuer: row.get(14),
        subject: row.get(15),
        key_algorithm: row.get::<_, &str>(16).parse().map_err(|_| damaged())?,
        key_size: row.get::<_, i32>(17).try_into().map_err(|_| damaged())?,
        signature_algorithm: row.get(18),
        spki_sha256: bytes(row, 19)?,
    };
    let tags: Vec<String> = row.get(23);
    let (pairs, _) = tags.as_chunks::<2>();
    Ok(StoredCertificate {
        id: CertificateId {
            kind,
            account,
            created: Timestamp::from_millis(row.get(1)),
            random: row.get(2),
        },
        region: RegionId::from_stored(row.get(3)),
        name: CertificateName::from_stored(row.get(4)),
        revision: row.get(5),
        version: row.get(6),
        facts,
        chain_length: row.get(20),
        resource_group: ResourceGroupId::from_stored(account, row.get(21)),
        deleted: row.get::<_, Option<i64>>(22).map(Timestamp::from_millis),
        tags: Tags::from_stored(pairs.iter().cloned().map(|[key, value]| (key, value)).collect()),
    })
}

fn bytes<const N: usize>(row: &Row, column: usize) -> Result<[u8; N], Error> {
    row.get::<_, &[u8]>(column)
        .try_into()
        .map_err(|_| Error::Row("server_certificate"))
}
