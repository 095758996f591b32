//! Timed leases, and the list of all leases: who serves which certificate.

use uuid::Uuid;

use super::page::{List, page_size};
use super::target::{own_id, required};
use super::violation::{Violations, control_character};
use super::{App, Call, Error, Field, FieldError, Resource};
use crate::account::Actor;
use crate::clock::Timestamp;
use crate::digest;
use crate::inventory::{CertificateId, CertificateKind};
use crate::store::{Lease, LeaseFilter, Position, TimedBinding, TimedHolder};

const DEFAULT_TTL: i32 = 60;
const MIN_TTL: i32 = 10;
const MAX_TTL: i32 = 3_600;
/// The longest name of a holder.
const MAX_NAME_LEN: usize = 128;
/// The certificates that a call may name.
const MAX_IDS: usize = 1_000;
/// The longest name of a program.
const MAX_USER_AGENT_CHARS: usize = 256;

/// A certificate and who serves it.
#[derive(Debug)]
pub struct BindCertificate {
    /// The region; empty: any.
    pub region_id: String,
    /// The certificate's id.
    pub id: String,
    /// The name of the holder.
    pub holder: String,
    /// For how long, in seconds; 0: the default.
    pub ttl_seconds: i32,
    /// The version that the holder serves; 0: not known.
    pub version: i64,
    /// The holder's program and version.
    pub user_agent: String,
}

/// A holder whose leases are renewed.
#[derive(Debug)]
pub struct RenewLeases {
    /// The name of the holder.
    pub holder: String,
    /// The version that it serves, by certificate id.
    pub versions: Vec<(String, i64)>,
    /// The holder's program and version.
    pub user_agent: String,
}

/// The leases of a holder after their renewal.
#[derive(Debug)]
pub struct Renewed {
    /// When the leases end.
    pub expires: Timestamp,
    /// The present version of each certificate that the holder holds and that is live and in the caller's scope.
    pub versions: Vec<(CertificateId, i64)>,
}

/// The filters and the page of a list of leases.
#[derive(Debug)]
pub struct ListLeases {
    /// The certificate's id; empty: any.
    pub id: String,
    /// The name of the holder; empty: any.
    pub holder: String,
    /// Only holders that do not serve the present version.
    pub behind: bool,
    /// The maximum number of leases in the answer; 0: the default.
    pub page_size: i32,
    /// The token of the page; empty: the first page.
    pub page_token: String,
}

/// A page of leases.
#[derive(Debug, Default)]
pub struct ListedLeases {
    /// The leases, ordered by certificate.
    pub leases: Vec<Lease>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

/// Refuses a name that a timed holder or a watch cannot have.
pub(super) fn check_holder(name: &str) -> Result<&str, FieldError> {
    let is_allowed = |c: u8| c.is_ascii_alphanumeric() || b"-/._:@".contains(&c);
    match required(name)? {
        name if name.len() <= MAX_NAME_LEN && name.bytes().all(is_allowed) => Ok(name),
        _ => Err(FieldError::HolderName),
    }
}

fn check_version(version: i64) -> Result<Option<i64>, FieldError> {
    match version {
        0 => Ok(None),
        1.. => Ok(Some(version)),
        _ => Err(FieldError::Version),
    }
}

fn check_count(count: usize) -> Result<(), FieldError> {
    match count {
        ..=MAX_IDS => Ok(()),
        _ => Err(FieldError::TooMany { count, max: MAX_IDS }),
    }
}

impl App {
    /// Holds a server certificate in the caller's scope for some time. Renews all leases of the holder.
    pub async fn bind(&self, call: &Call, request: &BindCertificate) -> Result<Lease, Error> {
        const SERVER: CertificateKind = CertificateKind::Server;
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region_or_any(call, &request.region_id));
        let id = violations.check(Field::CertificateId(SERVER), required(&request.id));
        let holder = violations.check(Field::Holder, check_holder(&request.holder));
        let ttl = violations.check(
            Field::TtlSeconds,
            match request.ttl_seconds {
                0 => Ok(DEFAULT_TTL),
                ttl @ MIN_TTL..=MAX_TTL => Ok(ttl),
                _ => Err(FieldError::Ttl),
            },
        );
        let version = violations.check(Field::Version, check_version(request.version));
        let (Some(region), Some(id), Some(holder), Some(ttl), Some(version)) = (region, id, holder, ttl, version)
        else {
            return Err(violations.into());
        };
        let id = own_id(call, Some(SERVER), id)?;
        let actor = call.actor();
        let user_agent = super::holder::shortened(&request.user_agent, MAX_USER_AGENT_CHARS);
        let holder = timed(&actor, holder, &user_agent);
        let target = (id, region.as_ref(), &*call.caller.scope);
        let store = &self.0.store;
        loop {
            let bound = store.bind(target, holder, digest::random_uuid()?, ttl, version);
            match bound.await? {
                TimedBinding::Bound(lease) => return Ok(*lease),
                TimedBinding::NotFound => return Err(Error::NotFound(Resource::Certificate(Some(SERVER), Some(id)))),
                TimedBinding::TooManyHolders => return Err(Error::TooManyHolders(id)),
                TimedBinding::Expired => store.forget_holder(holder).await?,
            }
        }
    }

    /// Renews the leases of a holder, and records the versions that it serves. A certificate that it does not hold is left out.
    pub async fn renew_leases(&self, call: &Call, request: &RenewLeases) -> Result<Renewed, Error> {
        let mut violations = Violations::default();
        let holder = violations.check(Field::Holder, check_holder(&request.holder));
        violations.check(Field::Versions, check_count(request.versions.len()));
        let is_negative = request.versions.iter().any(|(_, version)| *version < 0);
        violations.note(Field::Versions, is_negative.then_some(FieldError::Version));
        let (Some(holder), true) = (holder, violations.is_empty()) else {
            return Err(violations.into());
        };
        let served = request.versions.iter().filter_map(|(id, version)| {
            let id = own_id(call, None, id).ok()?;
            (*version > 0).then_some((id, *version))
        });
        let served: Vec<_> = served.collect();
        let actor = call.actor();
        let user_agent = super::holder::shortened(&request.user_agent, MAX_USER_AGENT_CHARS);
        let holder = timed(&actor, holder, &user_agent);
        let renewed = self.0.store.renew_leases(holder, &call.caller.scope, &served).await?;
        let renewed = renewed.ok_or(Error::LeaseNotFound)?;
        Ok(Renewed {
            expires: renewed.expires,
            versions: renewed.versions,
        })
    }

    /// Ends leases of a holder: those on the certificates with these ids, or all of them. A certificate that it does not hold is no
    /// error.
    pub async fn release(&self, call: &Call, holder: &str, (ids, all): (&[String], bool)) -> Result<(), Error> {
        const IDS: Field = Field::CertificateIds;
        let mut violations = Violations::default();
        let holder = violations.check(Field::Holder, check_holder(holder));
        let error = match (ids, all) {
            ([], false) => Some(FieldError::Required),
            ([_, ..], true) => Some(FieldError::Excludes(Field::AllLeases)),
            _ => check_count(ids.len()).err(),
        };
        violations.note(IDS, error);
        let (Some(holder), true) = (holder, violations.is_empty()) else {
            return Err(violations.into());
        };
        let ids: Vec<_> = ids.iter().filter_map(|id| own_id(call, None, id).ok()).collect();
        let actor = call.actor();
        let holder = timed(&actor, holder, "");
        Ok(self.0.store.release(holder, (!all).then_some(&ids[..])).await?)
    }

    /// A page of the leases on certificates that exist for the caller.
    pub async fn list_leases(&self, call: &Call, request: &ListLeases) -> Result<ListedLeases, Error> {
        let list = List {
            name: "ListLeases",
            account: call.caller.account,
            filter: &[&request.id, &request.holder, if request.behind { "behind" } else { "" }],
        };
        let mut violations = Violations::default();
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        let after = match request.page_token.as_str() {
            "" => Ok((Position::START, Uuid::nil())),
            token => self.0.page_tokens.read_sorted(list, token).and_then(|(position, key)| {
                let holder = Uuid::from_slice(&key).map_err(|_| FieldError::PageToken)?;
                Ok((position, holder))
            }),
        };
        let after = violations.check(Field::PageToken, after);
        violations.note(Field::Holder, control_character(&request.holder));
        let (Some(size), Some(after), true) = (size, after, violations.is_empty()) else {
            return Err(violations.into());
        };
        let id = match request.id.as_str() {
            "" => None,
            // An unknown certificate has no leases.
            id => match own_id(call, None, id) {
                Ok(id) => Some(id),
                Err(_) => return Ok(ListedLeases::default()),
            },
        };
        let after = match id {
            // The leases of one certificate begin at its id.
            Some(id) if request.page_token.is_empty() => (Position::from(id), Uuid::nil()),
            _ => after,
        };
        let filter = LeaseFilter {
            id,
            holder: (!request.holder.is_empty()).then_some(&request.holder),
            behind: request.behind,
        };
        let page = self.0.store.leases(call.reach(), filter, after, size).await?;
        let next = page.next.map(|(position, holder)| {
            let tokens = &self.0.page_tokens;
            tokens.write_sorted(list, position, holder.as_bytes())
        });
        Ok(ListedLeases {
            leases: page.leases,
            next_page_token: next.transpose()?.unwrap_or_default(),
        })
    }

    /// The first holders of a certificate, by name, and whether there are more.
    pub(super) async fn holders(&self, call: &Call, id: CertificateId) -> Result<(Vec<String>, bool), Error> {
        const NAMED: usize = 20;
        let filter = LeaseFilter {
            id: Some(id),
            holder: None,
            behind: false,
        };
        let after = (Position::from(id), Uuid::nil());
        let page = self.0.store.leases(call.reach(), filter, after, NAMED).await?;
        let mut names: Vec<_> = page.leases.into_iter().map(|lease| lease.holder).collect();
        names.sort();
        Ok((names, page.next.is_some()))
    }
}

fn timed<'a>(actor: &'a Actor, name: &'a str, user_agent: &'a str) -> TimedHolder<'a> {
    TimedHolder {
        actor,
        name,
        user_agent,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_has_a_name_of_few_characters() {
        for name in ["web-1.example", "spiffe://o/web", "a@b:1/c_d", &"a".repeat(128)] {
            assert!(check_holder(name).is_ok(), "{name}");
        }
        for name in ["", "web 1", "wéb", "a\n", &"a".repeat(129)] {
            assert!(check_holder(name).is_err(), "{name}");
        }
    }
}
