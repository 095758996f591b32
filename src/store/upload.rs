//! Storing new certificates: certificate row, key row, tags and event, together or not at all.

use std::sync::Arc;
use std::time::Instant;

use tokio_postgres::Row;
use uuid::Uuid;

use super::batches::{BatchesByKind, Undone};
use super::client_token::{ClientToken, upload_of};
use super::error::{Cause, Failure};
use super::fingerprint::{AccountFingerprints, fingerprints};
use super::insert::{Batch, INSERT, INSERT_WITH_KEY, Insert};
use super::read::Position;
use super::reuse::Reuse;
use super::{Change, Changed, Error, Lost, Store};
use crate::account::AccountId;
use crate::certificate::{VerifiedCa, VerifiedCertificate};
use crate::inventory::{CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId, Tags};
use crate::seal::SealedPair;

/// A certificate to store, which was verified and whose key, if it has one, is sealed.
#[derive(Clone, Debug)]
pub struct NewCertificate {
    /// The certificate and its private key.
    pub content: NewContent,
    /// The access key of who stores it.
    pub access_key_id: String,
    /// The request that asks for it.
    pub request_id: Uuid,
    /// Where it is kept.
    pub region: RegionId,
    /// Its name.
    pub name: CertificateName,
    /// Its resource group.
    pub resource_group: ResourceGroupId,
    /// Its tags.
    pub tags: Tags,
    /// Whether the account's fingerprints are asked for.
    pub with_account_fingerprints: bool,
    /// By what a retry is known.
    pub client_token: Option<ClientToken>,
    /// How many live certificates the account may have in the region, if it has no quota of its own.
    pub quota: i64,
}

/// A verified certificate to store, with its id.
#[derive(Clone, Debug)]
pub enum NewContent {
    /// A server certificate and its sealed private key.
    Pair(SealedPair),
    /// A CA certificate.
    Ca {
        /// Its id.
        id: CertificateId,
        /// The certificate.
        certificate: VerifiedCa,
    },
}

impl NewContent {
    /// The id of the certificate.
    pub fn id(&self) -> CertificateId {
        match self {
            Self::Pair(pair) => pair.id(),
            Self::Ca { id, .. } => *id,
        }
    }

    /// The certificate.
    pub fn certificate(&self) -> &VerifiedCertificate {
        match self {
            Self::Pair(pair) => pair.certificate(),
            Self::Ca { certificate, .. } => certificate.certificate(),
        }
    }

    /// The certificate, without its key.
    pub fn into_certificate(self) -> VerifiedCertificate {
        match self {
            Self::Pair(pair) => pair.into_certificate(),
            Self::Ca { certificate, .. } => certificate.into_certificate(),
        }
    }

    /// The pair, if the certificate has a private key.
    pub(super) fn pair(&self) -> Option<&SealedPair> {
        match self {
            Self::Pair(pair) => Some(pair),
            Self::Ca { .. } => None,
        }
    }
}

/// What became of an upload.
#[derive(Debug)]
pub enum UploadOutcome {
    /// It is stored.
    Stored {
        /// The account's fingerprints, if they were asked for.
        fingerprints: Option<AccountFingerprints>,
        /// What the account had of it already.
        reuse: Reuse,
    },
    /// Nothing was stored: the token was used before.
    TokenSeen,
    /// Nothing was stored: the account has as many certificates in the region as it may.
    OverQuota,
}

/// The first revision and version of a certificate.
pub const FIRST: i64 = 1;

/// How many certificates one statement stores at most, and how many octets of certificates and keys.
const MAX_ROWS: usize = 64;
const MAX_OCTETS: usize = 1024 * 1024;
/// For how many certificates one counts whose account's fingerprints are read with it, which may be many.
const WITH_FINGERPRINTS: usize = 8;

/// Uploads that wait while others are under way are stored together, and still stand or fall each on its own: what can go wrong
/// with one is its row's result, and where a statement fails as a whole each is stored alone.
pub(super) type Uploads = BatchesByKind<Arc<NewCertificate>, Result<Row, Unwritten>>;

/// Why a certificate was not stored with its batch.
pub(super) enum Unwritten {
    /// It can not be stored alone either.
    Failed(Error),
    /// The batch failed, and nothing of it was stored.
    RolledBack(Cause),
    /// The connection was lost: it may have been stored.
    Lost(Cause),
}

pub(super) fn uploads() -> Uploads {
    BatchesByKind::new(MAX_ROWS)
}

impl Store {
    /// Stores a certificate and answers its account's fingerprints, if they are asked for.
    pub async fn upload(&self, new: &Arc<NewCertificate>) -> Result<UploadOutcome, Error> {
        let uploads = self.uploads.of(new.content.id().kind);
        let store = self.clone();
        let together = move |batch| store.clone().upload_together(batch);
        let lost = match uploads.done(new.clone(), new.weight(), together).await {
            Ok(Ok(row)) => return self.outcome(new, &row).await,
            Ok(Err(Unwritten::Failed(error))) => return Err(error),
            Ok(Err(Unwritten::RolledBack(cause))) => {
                tracing::info!(%cause, "trying again, alone");
                Lost::No
            }
            Ok(Err(Unwritten::Lost(cause))) => {
                tracing::warn!(%cause, "connection lost in a change");
                Lost::Before
            }
            Err(Undone::Failed) => Lost::Before,
            Err(Undone::NotBegun) => {
                self.note(Some(Instant::now()));
                return Err(Error::Unavailable(Cause::timeout()));
            }
        };
        self.upload_alone(new, lost).await
    }

    async fn upload_together(self, certificates: Vec<Arc<NewCertificate>>) -> Vec<Result<Row, Unwritten>> {
        let Some(first) = certificates.first() else {
            return Vec::new();
        };
        let is_alone = certificates.len() == 1;
        let (Insert { one, many }, method) = first.insert();
        let batch = Batch::of(&certificates);
        let (statement, params) = match is_alone {
            true => (one, batch.params_of_one(&method)),
            false => (many, batch.params(&method)),
        };
        let sql = statement.text(first.content.id().kind);
        let connection = match self.homes.connection().await {
            Ok(connection) => connection,
            Err(error) => {
                self.note(Some(Instant::now()));
                let cause = Cause::from(error);
                let unavailable = |_| Err(Unwritten::Failed(Error::Unavailable(cause.clone())));
                return certificates.iter().map(unavailable).collect();
            }
        };
        let failure = match self.run(connection, &sql, &params).await {
            Ok(rows) => {
                self.note(None);
                return rows.into_iter().map(Ok).collect();
            }
            Err(failure) => failure,
        };
        match failure {
            Failure::Lost(cause) => certificates
                .iter()
                .map(|_| Err(Unwritten::Lost(cause.clone())))
                .collect(),
            Failure::Unavailable(cause) if is_alone => {
                self.note(Some(Instant::now()));
                vec![Err(Unwritten::Failed(Error::Unavailable(cause)))]
            }
            Failure::Fault(cause) if is_alone => {
                vec![Err(Unwritten::Failed(Error::of_statement(statement.name, cause)))]
            }
            Failure::Repeat(cause)
            | Failure::Elsewhere(cause)
            | Failure::Unavailable(cause)
            | Failure::Fault(cause) => certificates
                .iter()
                .map(|_| Err(Unwritten::RolledBack(cause.clone())))
                .collect(),
        }
    }

    async fn upload_alone(&self, new: &Arc<NewCertificate>, lost: Lost) -> Result<UploadOutcome, Error> {
        let batch = Batch::of(std::slice::from_ref(new));
        let (insert, method) = new.insert();
        let params = batch.params_of_one(&method);
        let rows = match self.write_after(lost, insert.one, new.change(), &params).await? {
            Changed::Now(rows) => rows,
            Changed::Before { .. } => return Ok(self.stored_before(new).await),
        };
        let row = rows.first().ok_or(Error::Row("server_certificate"))?;
        match self.outcome(new, row).await? {
            // An attempt before whose connection was lost may have taken the last place itself.
            UploadOutcome::OverQuota if self.look_up(new.change()).await?.is_some() => {
                Ok(self.stored_before(new).await)
            }
            outcome => Ok(outcome),
        }
    }

    async fn outcome(&self, new: &NewCertificate, row: &Row) -> Result<UploadOutcome, Error> {
        if row.get("token_seen") {
            return Ok(UploadOutcome::TokenSeen);
        }
        if !row.get::<_, bool>("stored") {
            return Ok(UploadOutcome::OverQuota);
        }
        let reuse = Reuse::of_row(new.content.id().kind, new.content.id().account, row)?;
        let fingerprints = match row.get("fingerprints") {
            Some(octets) => match AccountFingerprints::whole(fingerprints(octets)?) {
                Some(whole) => Some(whole),
                None => self.fingerprints_after(new).await,
            },
            None => None,
        };
        Ok(UploadOutcome::Stored { fingerprints, reuse })
    }

    /// What an attempt that had taken effect would have answered.
    async fn stored_before(&self, new: &NewCertificate) -> UploadOutcome {
        UploadOutcome::Stored {
            fingerprints: self.fingerprints_after(new).await,
            reuse: self
                .reuse_of_stored(new.content.id(), new.content.certificate().facts())
                .await,
        }
    }

    async fn fingerprints_after(&self, new: &NewCertificate) -> Option<AccountFingerprints> {
        match new.with_account_fingerprints {
            true => Some(self.fingerprints_of_stored(new.content.id().account).await),
            false => None,
        }
    }

    /// The account's fingerprints, of a certificate that is stored already. If they can't be read now, that is no reason to
    /// call the upload failed: they are all left to ListAccountFingerprints.
    pub async fn fingerprints_of_stored(&self, account: AccountId) -> AccountFingerprints {
        let read = self.account_fingerprints(account).await;
        read.unwrap_or_else(|error| {
            tracing::warn!(%error, "the account's fingerprints could not be read after the upload");
            AccountFingerprints {
                fingerprints: Vec::new(),
                next: Some(Position::START),
            }
        })
    }
}

impl NewCertificate {
    fn change(&self) -> Change<'_> {
        Change {
            id: self.content.id(),
            access_key_id: &self.access_key_id,
            request_id: self.request_id,
        }
    }

    /// What stores it, and the method that its token is noted for.
    fn insert(&self) -> (Insert, &'static str) {
        let insert = match self.content.id().kind {
            CertificateKind::Server => INSERT_WITH_KEY,
            CertificateKind::Ca => INSERT,
        };
        (insert, upload_of(self.content.id().kind))
    }

    /// Its part of a batch of [`MAX_ROWS`].
    fn weight(&self) -> usize {
        let sealed = self
            .content
            .pair()
            .map_or(0, |pair| pair.private_key().as_bytes().len());
        let octets = sealed + self.content.certificate().chain().der().map(<[u8]>::len).sum::<usize>();
        let rows = match self.with_account_fingerprints {
            true => WITH_FINGERPRINTS,
            false => 1,
        };
        rows.max(octets.div_ceil(MAX_OCTETS / MAX_ROWS))
    }
}
