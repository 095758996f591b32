//! An authenticated call.

use std::fmt;

use uuid::Uuid;

use super::{Caller, Error};
use crate::account::{AccountId, Actor};
use crate::digest;
use crate::inventory::Scope;
use crate::store::StoredCertificate;

/// The id of a request: a random UUID, written in upper case.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct RequestId(pub(super) Uuid);

impl RequestId {
    /// A new id.
    pub fn random() -> Result<Self, Error> {
        Ok(Self(digest::random_uuid()?))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.hyphenated().encode_upper(&mut Uuid::encode_buffer()))
    }
}

/// An authenticated call.
#[derive(Clone, Debug)]
pub struct Call {
    /// The id of the request. It is in the answer and in every log line of the call.
    pub request_id: RequestId,
    /// The caller.
    pub caller: Caller,
}

impl Call {
    /// The account and the part of it that exists for the caller.
    pub(super) fn reach(&self) -> (AccountId, &Scope) {
        (self.caller.account, &self.caller.scope)
    }

    /// Whether a certificate of the account is in the caller's scope.
    pub(super) fn reaches(&self, stored: &StoredCertificate) -> bool {
        let scope = &self.caller.scope;
        scope.has(&stored.region, &stored.resource_group, &stored.name)
    }

    /// The actor, for the event of a change.
    pub fn actor(&self) -> Actor {
        Actor {
            account: self.caller.account,
            principal: self.caller.principal.clone(),
            address: Some(self.caller.address),
            request_id: self.request_id.0,
        }
    }
}
