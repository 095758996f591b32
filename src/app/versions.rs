//! The versions of a server certificate: lists them, and rolls back to one of them.

use super::page::{List, page_size};
use super::target::{Target, TargetCertificate};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError};
use crate::clock::Timestamp;
use crate::inventory::CertificateKind;
use crate::store::{self, CertificateVersion, Liveness, Position, StoredCertificate};

/// The versions to list.
#[derive(Debug)]
pub struct ListVersions {
    /// The certificate. The etag does not count.
    pub target: TargetCertificate,
    /// The maximum number of versions in the answer; 0: the default.
    pub page_size: i32,
    /// The token of the page; empty: the first page.
    pub page_token: String,
}

/// A page of versions.
#[derive(Debug)]
pub struct ListedVersions {
    /// The versions, newest first. An earlier version has the time at which it is purged at the latest.
    pub versions: Vec<(CertificateVersion, Option<Timestamp>)>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

impl App {
    /// A page of the versions of a live server certificate.
    pub async fn list_versions(&self, call: &Call, request: &ListVersions) -> Result<ListedVersions, Error> {
        let TargetCertificate { region_id, id, .. } = &request.target;
        let filter = [region_id.as_str(), id.as_str()];
        let list = List {
            name: "ListServerCertificateVersions",
            account: call.caller.account,
            filter: &filter,
        };
        let mut violations = Violations::default();
        let fields = Target::fields(self, call, &request.target, &mut violations);
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        let after = violations.check(Field::PageToken, self.0.page_tokens.read(list, &request.page_token));
        let (Some(fields), Some(size), Some(after)) = (fields, size, after) else {
            return Err(violations.into());
        };
        let target = Target::of(call, &request.target, fields)?;
        self.live(call, &target).await?;
        // The newest version comes first, so the list ends where its positions begin.
        let before = match after {
            Position::START => i64::MAX,
            position => position.created_ms,
        };
        let mut versions = self.0.store.versions(target.id, before, size + 1).await?;
        let has_more = versions.len() > size;
        versions.truncate(size);
        let next = versions.last().filter(|_| has_more).map(|last| Position {
            created_ms: last.version,
            random: 0,
        });
        let retention = self.0.settings.version_retention_time.as_millis();
        let purged = |version: &CertificateVersion| {
            let retention = i64::try_from(retention).unwrap_or(i64::MAX);
            let ended = version.ended?;
            Some(Timestamp::from_millis(ended.millis().saturating_add(retention)))
        };
        let with_purge_time = |version: CertificateVersion| {
            let purge_time = purged(&version);
            (version, purge_time)
        };
        Ok(ListedVersions {
            versions: versions.into_iter().map(with_purge_time).collect(),
            next_page_token: self.next_page_token(list, next)?,
        })
    }

    /// Gives a live server certificate the pair of an earlier version. Answers the certificate after the rollback.
    pub async fn roll_back(
        &self,
        call: &Call,
        request: &TargetCertificate,
        version: i64,
    ) -> Result<StoredCertificate, Error> {
        let mut violations = Violations::default();
        let fields = Target::fields(self, call, request, &mut violations);
        let error = match version {
            0 => Some(FieldError::Required),
            1.. => None,
            _ => Some(FieldError::Version),
        };
        violations.note(Field::Version, error);
        let (Some(fields), true) = (fields, violations.is_empty()) else {
            return Err(violations.into());
        };
        let target = Target::of(call, request, fields)?;
        // If another call changes the certificate between the read and the write, that call made progress. This call reads again.
        loop {
            let current = self.live(call, &target).await?;
            target.refuse_other_revision(&current)?;
            let earlier = self.0.store.earlier_version(target.id, version).await?;
            let Some(earlier) = earlier.filter(|_| version != current.version) else {
                return Err(Error::VersionNotFound {
                    certificate: target.id,
                    version,
                });
            };
            let rollback = store::Rollback {
                actor: call.actor(),
                id: target.id,
                revision: current.revision,
                version,
            };
            if let Some(at) = self.0.store.roll_back(&rollback).await? {
                tracing::info!(server_certificate_id = %target.id, version = current.version + 1, to = version, "rolled back");
                return Ok(StoredCertificate {
                    revision: current.revision + 1,
                    version: current.version + 1,
                    facts: earlier.facts,
                    chain_length: earlier.chain_length,
                    ali_cloud: earlier.ali_cloud,
                    renewed: Some(at),
                    ..current
                });
            }
        }
    }

    /// The live server certificate that the caller named.
    pub(super) async fn live(&self, call: &Call, target: &Target) -> Result<StoredCertificate, Error> {
        let (kind, region) = (CertificateKind::Server, target.region.as_ref());
        let found = self.0.store.find(target.id, kind, region, Liveness::Live).await?;
        found
            .filter(|stored| call.reaches(stored))
            .ok_or_else(|| target.not_found())
    }
}
