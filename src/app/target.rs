//! The target of a call on one certificate: its id and its region.

use std::sync::Arc;

use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, Resource};
use crate::inventory::{CertificateId, CertificateKind, RegionId, Scope};
use crate::store::{self, CurrentState, Liveness, Precondition, StoredCertificate};

/// The certificate that the caller names.
#[derive(Debug)]
pub struct TargetCertificate {
    /// The kind of the certificate.
    pub kind: CertificateKind,
    /// The region; empty: any.
    pub region_id: String,
    /// The id.
    pub id: String,
    /// The etag; empty: any.
    pub if_etag: String,
}

pub(super) struct Target {
    pub(super) id: CertificateId,
    /// `None`: any kind.
    pub(super) kind: Option<CertificateKind>,
    /// `None`: any region.
    pub(super) region: Option<RegionId>,
    /// `None`: any revision.
    pub(super) revision: Option<i64>,
    /// The caller's scope.
    pub(super) scope: Arc<Scope>,
}

/// The revision that the etag requires. `None` if the caller sent no etag.
pub(super) fn revision_of(if_etag: &str) -> Option<i64> {
    // Some texts parse as a number but are not etags of certkeep, for example `+1`. They match no revision.
    let is_ours = |revision: &i64| revision.to_string() == if_etag;
    (!if_etag.is_empty()).then(|| if_etag.parse().ok().filter(is_ours).unwrap_or(-1))
}

impl Target {
    /// Reads the region and the id. The region may be absent. An id that is not of the caller's account is not found.
    pub(super) fn parse(app: &App, call: &Call, request: &TargetCertificate) -> Result<Self, Error> {
        let mut violations = Violations::default();
        match Self::fields(app, call, request, &mut violations) {
            Some(region) => Self::of(call, request, region),
            None => Err(violations.into()),
        }
    }

    /// Reads the region, and notes the violations of the region and the id. `None`: there is one.
    pub(super) fn fields(
        app: &App,
        call: &Call,
        request: &TargetCertificate,
        violations: &mut Violations,
    ) -> Option<Option<RegionId>> {
        let region = violations.check(Field::RegionId, app.region_or_any(call, &request.region_id));
        let id = violations.check(Field::CertificateId(request.kind), required(&request.id));
        region.filter(|_| id.is_some())
    }

    /// The target in this region, or in any region. An id that is not of the caller's account is not found.
    pub(super) fn of(call: &Call, request: &TargetCertificate, region: Option<RegionId>) -> Result<Self, Error> {
        Ok(Self {
            id: own_id(call, Some(request.kind), &request.id)?,
            kind: Some(request.kind),
            region,
            revision: revision_of(&request.if_etag),
            scope: call.caller.scope.clone(),
        })
    }

    pub(super) fn precondition(&self) -> Precondition<'_> {
        Precondition {
            id: self.id,
            kind: self.kind,
            region: self.region.as_ref(),
            revision: self.revision,
            scope: &self.scope,
        }
    }

    /// The present state of the certificate, if it is in the caller's scope.
    pub(super) async fn current_state(&self, app: &App) -> Result<Option<CurrentState>, store::Error> {
        app.0.store.current_state(self.id, self.kind, &self.scope).await
    }

    /// Refuses a certificate with another revision than the etag's.
    pub(super) fn refuse_other_revision(&self, current: &StoredCertificate) -> Result<(), Error> {
        match self.revision {
            Some(asked) if asked != current.revision => Err(Error::EtagMismatch {
                revision: current.revision,
            }),
            _ => Ok(()),
        }
    }

    /// Why a change that needs a live or deleted certificate matched no row.
    pub(super) async fn explain_no_match(&self, app: &App, wanted: Liveness) -> Error {
        let state = match self.current_state(app).await {
            Ok(state) => state,
            Err(error) => return error.into(),
        };
        let here = state.filter(|now| self.region.as_ref().is_none_or(|region| *region == now.region));
        match here {
            Some(now) if now.liveness == Liveness::Live && wanted == Liveness::Deleted => {
                Error::NotDeleted(now.kind, self.id)
            }
            Some(now) if now.liveness == wanted && self.revision.is_some_and(|asked| asked != now.revision) => {
                Error::EtagMismatch { revision: now.revision }
            }
            _ => self.not_found(),
        }
    }

    pub(super) fn not_found(&self) -> Error {
        Error::NotFound(Resource::Certificate(self.kind, Some(self.id)))
    }
}

/// The id, if it belongs to the caller's account.
pub(super) fn own_id(call: &Call, kind: Option<CertificateKind>, id: &str) -> Result<CertificateId, Error> {
    let id = CertificateId::parse(id).ok();
    id.filter(|id| id.account == call.caller.account)
        .ok_or(Error::NotFound(Resource::Certificate(kind, id)))
}

pub(super) fn required(value: &str) -> Result<&str, FieldError> {
    match value {
        "" => Err(FieldError::Required),
        value => Ok(value),
    }
}
