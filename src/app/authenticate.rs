//! Authentication of callers by access keys and client certificates.

mod cache;
mod identity;
mod signed;
mod stream_checks;

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::limit::Bucket;
use super::{AccessKeyText, App, Call, Error, Limit};
use crate::account::{AccountId, IdentityName, Principal, Role};
use crate::certificate::ClientCertificate;
use crate::clock::{self, Timestamp};
use crate::digest;
use crate::inventory::Scope;
use crate::store::{AccessKey, Rates};
use crate::telemetry::metrics;
pub(super) use cache::Recent;
pub(super) use identity::ResolvedIdentity;
pub use signed::{SignatureError, SignedCredentials};
pub(super) use stream_checks::{StreamCheck, StreamChecks};

/// The age up to which the outcome of a look-up counts. A disabled access key or a deleted client identity works for at most this time
/// longer.
const MAX_AGE: Duration = Duration::from_secs(2);

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The identity of the caller.
    pub principal: Principal,
    /// The address of the caller.
    pub address: IpAddr,
    /// The account of the caller.
    pub account: AccountId,
    /// The role of the caller.
    pub role: Role,
    /// The part of the account that exists for the caller.
    pub scope: Arc<Scope>,
    /// When the access key or the client certificate expires, whichever is first; `None`: never.
    pub expires: Option<Timestamp>,
}

/// What a call sends to prove who the caller is.
#[derive(Debug)]
pub struct Credentials<'a> {
    /// The access key.
    pub access_key: GivenKey<'a>,
    /// The certificate that the caller proved in the TLS handshake.
    pub certificate: Option<&'a ClientCertificate>,
    /// The address of the caller.
    pub address: IpAddr,
}

/// The access key of a call.
#[derive(Debug)]
pub enum GivenKey<'a> {
    /// The call has no access key.
    Missing,
    /// The call has a text in place of an access key.
    Malformed,
    /// The call has this access key.
    Key(&'a AccessKeyText),
}

/// What an access key or a client identity may do.
#[derive(Clone, Debug)]
pub(super) struct Grant {
    account: AccountId,
    role: Role,
    scope: Arc<Scope>,
    expires: Option<Timestamp>,
    own_bucket: Arc<Bucket>,
    account_bucket: Arc<Bucket>,
}

/// A valid access key.
#[derive(Clone, Debug)]
pub(super) struct CheckedKey {
    secret_sha256: [u8; 32],
    grant: Grant,
}

/// An access key that was refused.
#[derive(Clone, Debug)]
pub(super) struct RefusedKey {
    id: String,
    refusal: KeyRefusal,
}

#[derive(Clone, Copy, Debug)]
enum KeyRefusal {
    /// No access key has this id, or its secret is another one.
    Unknown,
    AccountDisabled,
    Disabled,
    Expired,
}

impl KeyRefusal {
    fn error(self) -> Error {
        match self {
            Self::Unknown => Error::Unauthenticated,
            Self::AccountDisabled => Error::AccountDisabled,
            Self::Disabled => Error::AccessKeyDisabled,
            Self::Expired => Error::AccessKeyExpired,
        }
    }
}

/// Why an access key and a client identity cannot be used together.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Conflict {
    /// They belong to different accounts.
    Account,
    /// No role has only permissions that both have.
    Role,
    /// Their scopes have nothing in common.
    Scope,
}

impl App {
    /// Finds out who the caller is, and counts the call for the limits of the access key, the client identity and the account.
    ///
    /// With an access key and a client identity, both must belong to the same account, and the caller has the permissions that both
    /// have. A client certificate that the service does not know counts only if there is no access key. Only the holder of the right
    /// secret learns that the key or its account is disabled.
    pub async fn authenticate(&self, given: &Credentials<'_>) -> Result<Caller, Error> {
        let key = match given.access_key {
            GivenKey::Missing => None,
            GivenKey::Malformed => {
                metrics::authentication_failed("access_key");
                return Err(Error::Unauthenticated);
            }
            GivenKey::Key(key) => Some((key.id(), self.check_key(key, given.address).await?)),
        };
        self.admit(given, key).await
    }

    /// The caller with this access key, and the client certificate if the service knows it. Counts the call.
    async fn admit(&self, given: &Credentials<'_>, key: Option<(&str, Grant)>) -> Result<Caller, Error> {
        let identity = match given.certificate {
            Some(certificate) => self.identify(certificate).await?,
            None => None,
        };
        let address = given.address;
        match (key, identity) {
            (Some((id, grant)), None) => {
                count(&grant, Limit::AccessKey)?;
                count_for_account(&grant)?;
                Ok(grant.caller(Principal::AccessKey(id.to_owned()), address))
            }
            (None, Some((name, grant))) => {
                count(&grant, Limit::ClientIdentity)?;
                count_for_account(&grant)?;
                Ok(grant.caller(Principal::ClientIdentity(name.to_string()), address))
            }
            (Some((id, of_key)), Some((name, of_identity))) => {
                let both = of_key.and(&of_identity);
                let both = both.inspect_err(|_| metrics::authentication_failed("client_certificate"))?;
                count(&of_key, Limit::AccessKey)?;
                count(&of_identity, Limit::ClientIdentity)?;
                count_for_account(&both)?;
                Ok(both.caller(Principal::both(id, &name.to_string()), address))
            }
            (None, None) => match given.certificate {
                Some(certificate) => {
                    metrics::authentication_failed("client_certificate");
                    Err(Error::ClientIdentityUnknown(identity::names(certificate)))
                }
                None => {
                    metrics::authentication_failed("none");
                    Err(Error::Unauthenticated)
                }
            },
        }
    }

    /// The grant of an access key. Looks the key up unless it was looked up in the last two seconds.
    ///
    /// An address with too many failed look-ups may only use access keys that this replica has seen to be right before: a caller that
    /// shares the address with a guesser keeps working.
    async fn check_key(&self, key: &AccessKeyText, address: IpAddr) -> Result<Grant, Error> {
        let (id, secret_sha256) = (key.id(), key.secret_sha256());
        let mut was_right = false;
        if let Some((checked, age)) = self.0.checked_keys.find(id)
            && digest::constant_time_eq(&checked.secret_sha256, &secret_sha256)
        {
            if age < MAX_AGE {
                return Ok(checked.grant);
            }
            was_right = true;
        }
        // A client that repeats a wrong access key costs its address one failure in two seconds.
        if let Some((refused, age)) = self.0.refused_keys.find(&secret_sha256)
            && refused.id == id
            && age < MAX_AGE
        {
            metrics::authentication_failed("access_key");
            return Err(refused.refusal.error());
        }
        if !was_right && let Some(wait) = self.0.failures.wait(address) {
            let limit = Limit::FailedAuthentications;
            return Err(Error::RateLimited { limit, wait });
        }
        let looked_up = Instant::now();
        let stored = self.0.store.access_key_of_all_accounts(id).await?;
        let stored = stored.filter(|stored| digest::constant_time_eq(&stored.secret_sha256, &secret_sha256));
        let access = match &stored {
            None => Err(KeyRefusal::Unknown),
            Some(stored) => self.access(id, stored),
        };
        let refusal = match access {
            Err(refusal) => refusal,
            Ok(grant) => {
                let checked = CheckedKey {
                    secret_sha256,
                    grant: grant.clone(),
                };
                self.0.checked_keys.insert(id.to_owned(), checked, looked_up);
                return Ok(grant);
            }
        };
        metrics::authentication_failed("access_key");
        self.0.failures.count(address);
        if was_right {
            self.0.checked_keys.remove(id);
        }
        let refused = RefusedKey {
            id: id.to_owned(),
            refusal,
        };
        self.0.refused_keys.insert(secret_sha256, refused, looked_up);
        Err(refusal.error())
    }

    /// The grant of an access key, unless the key or its account does not work.
    fn access(&self, id: &str, stored: &AccessKey) -> Result<Grant, KeyRefusal> {
        if stored.account_disabled {
            return Err(KeyRefusal::AccountDisabled);
        }
        if stored.disabled {
            return Err(KeyRefusal::Disabled);
        }
        if stored.has_expired {
            return Err(KeyRefusal::Expired);
        }
        let (own_bucket, account_bucket) = self.buckets(id, stored.account, stored.rates);
        Ok(Grant {
            account: stored.account,
            role: stored.role,
            scope: Arc::new(stored.scope.clone()),
            expires: stored.expires,
            own_bucket,
            account_bucket,
        })
    }

    /// Refuses the caller of a stream whose access key was disabled or deleted or has expired, whose client identity was deleted or may
    /// do less now, or whose account was disabled.
    pub(super) async fn check_again(
        &self,
        caller: &Caller,
        certificate: Option<&ClientCertificate>,
    ) -> Result<(), Error> {
        if let Some(id) = caller.principal.access_key_id() {
            let key = self.0.store.access_key_of_all_accounts(id).await?;
            match key.ok_or(Error::Unauthenticated)? {
                key if key.account_disabled => return Err(Error::AccountDisabled),
                key if key.disabled => return Err(Error::AccessKeyDisabled),
                key if key.has_expired => return Err(Error::AccessKeyExpired),
                _ => {}
            }
        }
        if let Some(name_of_caller) = caller.principal.client_identity() {
            let certificate = certificate.ok_or(Error::Unauthenticated)?;
            let known = self.identify(certificate).await?;
            let is_same = |(name, grant): &(IdentityName, Grant)| {
                name.to_string() == name_of_caller
                    && grant.account == caller.account
                    && grant.role.includes(caller.role)
                    && grant.scope.includes(&caller.scope)
            };
            if !known.as_ref().is_some_and(is_same) {
                return Err(Error::ClientIdentityUnknown(identity::names(certificate)));
            }
        }
        Ok(())
    }

    /// The buckets of an access key or a client identity, and of its account.
    fn buckets(&self, principal: &str, account: AccountId, rates: Rates) -> (Arc<Bucket>, Arc<Bucket>) {
        let settings = &self.0.settings;
        let key_rate = rates.key.unwrap_or(settings.calls_per_second_per_key_quota);
        let account_rate = rates.account.unwrap_or(settings.calls_per_second_quota);
        (
            self.0.principal_buckets.bucket(principal, key_rate),
            self.0.account_buckets.bucket(&account, account_rate),
        )
    }

    /// The known name of a client certificate, and its grant. Looks the names up unless they were looked up in the last two seconds.
    async fn identify(&self, certificate: &ClientCertificate) -> Result<Option<(IdentityName, Grant)>, Error> {
        let resolved = if certificate.is_expired(clock::now()) {
            Err(Error::ClientCertificateExpired)
        } else {
            self.resolve_identity(certificate).await?.grant(certificate)
        };
        resolved.inspect_err(|_| metrics::authentication_failed("client_certificate"))
    }
}

/// The caller of a stream.
pub(super) struct StreamCaller {
    app: App,
    caller: Caller,
    certificate: Option<ClientCertificate>,
    checked: Instant,
}

impl StreamCaller {
    /// The caller of this call, on a connection with this client certificate.
    pub(super) fn new(app: &App, call: &Call, certificate: Option<ClientCertificate>) -> Self {
        Self {
            app: app.clone(),
            caller: call.caller.clone(),
            certificate,
            checked: Instant::now(),
        }
    }

    /// Refuses a caller who may no longer call. Most calls of this function cost nothing: it looks the caller up every two seconds.
    pub(super) async fn check(&mut self) -> Result<(), Error> {
        if self.checked.elapsed() >= MAX_AGE {
            self.app.check_again(&self.caller, self.certificate.as_ref()).await?;
            self.checked = Instant::now();
        }
        Ok(())
    }
}

fn count(grant: &Grant, limit: fn(u32) -> Limit) -> Result<(), Error> {
    refused_by(&grant.own_bucket, limit)
}

fn count_for_account(grant: &Grant) -> Result<(), Error> {
    refused_by(&grant.account_bucket, Limit::Account)
}

fn refused_by(bucket: &Bucket, limit: fn(u32) -> Limit) -> Result<(), Error> {
    bucket.take().map_err(|wait| Error::RateLimited {
        limit: limit(bucket.rate()),
        wait,
    })
}

impl Grant {
    fn caller(self, principal: Principal, address: IpAddr) -> Caller {
        Caller {
            principal,
            address,
            account: self.account,
            role: self.role,
            scope: self.scope,
            expires: self.expires,
        }
    }

    /// The permissions that both have.
    fn and(&self, other: &Self) -> Result<Self, Error> {
        let conflict = Error::CredentialsConflict;
        if self.account != other.account {
            return Err(conflict(Conflict::Account));
        }
        let role = self.role.intersection(other.role);
        let scope = if other.scope.is_everything() {
            Some(self.scope.clone())
        } else {
            self.scope.intersection(&other.scope).map(Arc::new)
        };
        Ok(Self {
            role: role.ok_or(conflict(Conflict::Role))?,
            scope: scope.ok_or(conflict(Conflict::Scope))?,
            expires: [self.expires, other.expires].into_iter().flatten().min(),
            ..self.clone()
        })
    }
}

#[cfg(test)]
mod tests {
    use super::super::limit::Buckets;
    use super::*;
    use crate::inventory::RegionId;

    fn grant(account: i64, role: Role, regions: &[&str], expires: Option<i64>) -> Grant {
        let account = AccountId::from_i64(account);
        let regions = regions.iter().map(|id| RegionId::from_stored((*id).to_owned()));
        Grant {
            account,
            role,
            scope: Arc::new(Scope {
                regions: regions.collect(),
                ..Scope::default()
            }),
            expires: expires.map(Timestamp::from_secs),
            own_bucket: Buckets::default().bucket("ck1", 1),
            account_bucket: Buckets::default().bucket(&account, 1),
        }
    }

    #[test]
    fn a_key_and_an_identity_together_have_what_both_have() {
        let key = grant(1, Role::Admin, &["r1", "r2"], Some(9));
        let identity = grant(1, Role::Reader, &["r2", "r3"], Some(5));
        let both = key.and(&identity).unwrap();
        assert_eq!((both.role, both.expires), (Role::Reader, Some(Timestamp::from_secs(5))));
        assert_eq!(both.scope, grant(1, Role::Reader, &["r2"], None).scope);
        let both = identity.and(&grant(1, Role::Editor, &[], None)).unwrap();
        assert_eq!((both.role, both.expires), (Role::Reader, Some(Timestamp::from_secs(5))));
        assert_eq!(both.scope, identity.scope);
    }

    #[test]
    fn a_key_and_an_identity_without_anything_in_common_conflict() {
        let key = grant(1, Role::Admin, &["r1"], None);
        for (identity, expected) in [
            (grant(2, Role::Admin, &["r1"], None), Conflict::Account),
            (grant(1, Role::Consumer, &["r1"], None), Conflict::Role),
            (grant(1, Role::Admin, &["r2"], None), Conflict::Scope),
        ] {
            let conflict = key.and(&identity).unwrap_err();
            assert!(
                matches!(conflict, Error::CredentialsConflict(conflict) if conflict == expected),
                "{conflict:?}"
            );
        }
    }
}
