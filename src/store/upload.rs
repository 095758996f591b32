//! Storing new certificates: certificate row, key row, tags and event, together or not at all.

use std::collections::BTreeSet;
use std::sync::Arc;

use tokio_postgres::Row;
use tokio_postgres::types::ToSql;
use tokio_util::sync::CancellationToken;

use super::client_token::ClientToken;
use super::error::{Cause, Failure};
use super::fingerprint::{AccountFingerprints, fingerprints};
use super::group_commit::{GroupCommit, NotRun, RoundTrip};
use super::insert::{parameters, statement};
use super::read::Position;
use super::reuse::Reuse;
use super::write::{Lost, Outcome, Trace};
use super::{Error, Store};
use crate::account::{AccountId, Actor};
use crate::certificate::{VerifiedCa, VerifiedCertificate};
use crate::inventory::{
    AliCloudCertificate, CertificateId, CertificateKind, CertificateName, RegionId, ResourceGroupId, Scope, Tags,
};
use crate::seal::SealedPair;
use crate::telemetry::metrics;

/// A certificate to store. It was verified, and its key is sealed.
#[derive(Clone, Debug)]
pub struct NewCertificate {
    /// The certificate and its private key.
    pub content: NewContent,
    /// Who stores it.
    pub actor: Actor,
    /// Its region.
    pub region: RegionId,
    /// Its name.
    pub name: CertificateName,
    /// The certificate of Alibaba Cloud from which the pair came.
    pub ali_cloud: Option<AliCloudCertificate>,
    /// Its resource group.
    pub resource_group: ResourceGroupId,
    /// Its tags.
    pub tags: Tags,
    /// Whether the answer contains the account's fingerprints.
    pub with_account_fingerprints: bool,
    /// Identifies a retry.
    pub client_token: Option<ClientToken>,
    /// The maximum number of live certificates of the account in the region, if the account has no quota of its own.
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

    /// The kind of the certificate.
    pub fn kind(&self) -> CertificateKind {
        match self {
            Self::Pair(_) => CertificateKind::Server,
            Self::Ca { .. } => CertificateKind::Ca,
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

/// The outcome of an upload.
#[derive(Debug)]
pub enum UploadOutcome {
    /// The certificate is stored.
    Stored {
        /// The account's fingerprints, if the caller wants them.
        fingerprints: Option<AccountFingerprints>,
        /// The account's other certificates with the same leaf or key.
        reuse: Reuse,
    },
    /// Nothing was stored: the token was used before.
    TokenSeen,
    /// Nothing was stored: the account has as many certificates in the region as it may.
    OverQuota,
}

/// The first revision and version of a certificate.
pub const FIRST: i64 = 1;

/// One statement stores at most this many certificates, and this many octets of certificates and keys.
const MAX_ROWS: usize = 64;
const MAX_OCTETS: usize = 1024 * 1024;
/// A certificate whose statement also reads the account's fingerprints counts for this many: there may be many fingerprints.
const WITH_FINGERPRINTS: usize = 8;

/// Uploads that wait while a statement runs share the next statement. Each is still accepted or refused on its own: a quota or a
/// used token is the result of its row, and when a statement fails as a whole, each certificate is stored alone.
pub(super) type Uploads = Arc<GroupCommit<Arc<NewCertificate>, Result<Row, BatchError>>>;

/// Why a certificate was not stored with its batch.
pub(super) enum BatchError {
    /// It cannot be stored alone either.
    Failed(Error),
    /// The batch failed, and none of it was stored.
    RolledBack(Cause),
    /// The connection was lost: the certificate may have been stored.
    Lost(Cause),
}

pub(super) fn uploads(round_trip: RoundTrip) -> Uploads {
    GroupCommit::new(MAX_ROWS, round_trip)
}

impl Store {
    /// Stores a certificate. Answers its account's fingerprints, if the caller wants them. If `left` is cancelled before the statement
    /// begins, nothing is stored.
    pub async fn upload(&self, new: &Arc<NewCertificate>, left: &CancellationToken) -> Result<UploadOutcome, Error> {
        let store = self.clone();
        let together = move |batch| store.clone().upload_together(batch);
        let submitted = self
            .uploads
            .submit_until(left.cancelled(), new.clone(), new.weight(), together);
        let lost = match submitted.await {
            Ok(Ok(row)) => return self.outcome(new, &row).await,
            Ok(Err(BatchError::Failed(error))) => return Err(error),
            Ok(Err(BatchError::RolledBack(cause))) => {
                tracing::info!(%cause, "trying again, alone");
                metrics::statement_repeated("store::upload_together");
                Lost::No
            }
            Ok(Err(BatchError::Lost(cause))) => {
                tracing::warn!(%cause, "connection lost during a change");
                Lost::Before
            }
            Err(NotRun::Failed) => Lost::Before,
            Err(NotRun::Withdrawn) => return Err(Error::Busy(Cause::timeout())),
        };
        self.upload_alone(new, lost).await
    }

    async fn upload_together(self, certificates: Vec<Arc<NewCertificate>>) -> Vec<Result<Row, BatchError>> {
        let statement = statement(&certificates);
        let parameters = parameters(&certificates);
        let params: Vec<_> = parameters
            .iter()
            .map(|parameter| &**parameter as &(dyn ToSql + Sync))
            .collect();
        let failure = match self.run(statement, &params).await {
            Ok(rows) => {
                self.record_write();
                let accounts: BTreeSet<_> = certificates.iter().map(|new| new.content.id().account).collect();
                accounts.into_iter().for_each(|account| self.commits.announce(account));
                return rows.into_iter().map(Ok).collect();
            }
            Err(failure) => failure,
        };
        if failure.is_of_the_database() {
            self.record_refusal();
        }
        let all = |error: fn(Cause) -> BatchError, cause: Cause| {
            certificates.iter().map(|_| Err(error(cause.clone()))).collect()
        };
        match failure {
            Failure::Lost(cause) => all(BatchError::Lost, cause),
            Failure::Busy(_) | Failure::Unavailable(_) | Failure::Fault(_) if certificates.len() == 1 => {
                vec![Err(BatchError::Failed(statement.error(failure)))]
            }
            failure => all(BatchError::RolledBack, failure.into_cause()),
        }
    }

    async fn upload_alone(&self, new: &Arc<NewCertificate>, lost: Lost) -> Result<UploadOutcome, Error> {
        let one = std::slice::from_ref(new);
        let parameters = parameters(one);
        let params: Vec<_> = parameters
            .iter()
            .map(|parameter| &**parameter as &(dyn ToSql + Sync))
            .collect();
        let trace = Trace::Event(new.content.id(), new.actor.request_id);
        let rows = match self.write(lost, statement(one), trace, &params).await? {
            Outcome::Rows(rows) => rows,
            Outcome::Earlier(_) => return Ok(self.stored_before(new).await),
        };
        let row = rows.first().ok_or(Error::Row("certificate"))?;
        match self.outcome(new, row).await? {
            // An earlier attempt whose connection was lost may have taken the last place itself.
            UploadOutcome::OverQuota if self.number_of_change(trace).await?.is_some() => {
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
        let reuse = Reuse::of_row(new.content.id().account, row)?;
        let fingerprints = match row.get("fingerprints") {
            Some(octets) => match AccountFingerprints::whole(fingerprints(octets)?) {
                Some(whole) => Some(whole),
                None => self.fingerprints_after(new).await,
            },
            None => None,
        };
        Ok(UploadOutcome::Stored { fingerprints, reuse })
    }

    /// The answer of an earlier attempt that took effect.
    async fn stored_before(&self, new: &NewCertificate) -> UploadOutcome {
        UploadOutcome::Stored {
            fingerprints: self.fingerprints_after(new).await,
            reuse: self
                .reuse_of_stored(
                    new.content.id(),
                    &Scope::default(),
                    new.content.kind(),
                    new.content.certificate().facts(),
                )
                .await,
        }
    }

    async fn fingerprints_after(&self, new: &NewCertificate) -> Option<AccountFingerprints> {
        match new.with_account_fingerprints {
            true => {
                let account = new.content.id().account;
                Some(self.fingerprints_of_stored(account, &Scope::default()).await)
            }
            false => None,
        }
    }

    /// The fingerprints of the account and the scope, for a certificate that is stored already. If they cannot be read now, the upload still succeeded:
    /// the caller can read them with ListAccountFingerprints.
    pub async fn fingerprints_of_stored(&self, account: AccountId, scope: &Scope) -> AccountFingerprints {
        let read = self.account_fingerprints(account, scope).await;
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
