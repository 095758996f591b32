//! Authentication of callers, and their permissions.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{AccessKeyText, App, Error};
use crate::account::{AccountId, Principal, Role};
use crate::clock::Timestamp;
use crate::digest;
use crate::inventory::Scope;

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
    /// When the access key expires; `None`: never.
    pub expires: Option<Timestamp>,
}

impl App {
    /// The holder of this access key, as a caller from this address.
    ///
    /// Only the holder of the right secret learns that the key or its account is disabled.
    pub async fn authenticate(&self, key: Option<&AccessKeyText>, address: IpAddr) -> Result<Caller, Error> {
        let key = key.ok_or(Error::Unauthenticated)?;
        let CheckedKey {
            account,
            role,
            scope,
            expires,
        } = self.check_key(key.id(), key.secret_sha256()).await?;
        Ok(Caller {
            principal: Principal::AccessKey(key.id().to_owned()),
            address,
            account,
            role,
            scope,
            expires,
        })
    }

    async fn check_key(&self, id: &str, secret_sha256: [u8; 32]) -> Result<CheckedKey, Error> {
        if let Some(checked) = self.0.checked_keys.find(id, &secret_sha256) {
            return Ok(checked);
        }
        let looked_up = Instant::now();
        let stored = self.0.store.access_key_of_all_accounts(id).await?;
        let stored = stored.ok_or(Error::Unauthenticated)?;
        if !digest::constant_time_eq(&stored.secret_sha256, &secret_sha256) {
            return Err(Error::Unauthenticated);
        }
        if stored.account_disabled {
            return Err(Error::AccountDisabled);
        }
        if stored.disabled {
            return Err(Error::AccessKeyDisabled);
        }
        if stored.has_expired {
            return Err(Error::AccessKeyExpired);
        }
        let checked = CheckedKey {
            account: stored.account,
            role: stored.role,
            scope: Arc::new(stored.scope),
            expires: stored.expires,
        };
        self.0
            .checked_keys
            .insert(id, secret_sha256, checked.clone(), looked_up);
        Ok(checked)
    }
}

/// A cache of access keys that were valid when they were looked up. A disabled or expired key works for at most
/// [`MAX_AGE`](Self::MAX_AGE) longer.
#[derive(Default)]
pub(super) struct CheckedKeys(Mutex<HashMap<String, Entry>>);

/// The account, the role and the scope of a valid access key.
#[derive(Clone, Debug, Eq, PartialEq)]
struct CheckedKey {
    account: AccountId,
    role: Role,
    scope: Arc<Scope>,
    expires: Option<Timestamp>,
}

struct Entry {
    secret_sha256: [u8; 32],
    checked: CheckedKey,
    looked_up: Instant,
}

impl CheckedKeys {
    const MAX_AGE: Duration = Duration::from_secs(2);
    const MAX_LEN: usize = 4096;

    fn find(&self, id: &str, secret_sha256: &[u8; 32]) -> Option<CheckedKey> {
        let entries = self.entries();
        let entry = entries.get(id)?;
        let is_fresh = entry.looked_up.elapsed() < Self::MAX_AGE;
        (is_fresh && digest::constant_time_eq(&entry.secret_sha256, secret_sha256)).then(|| entry.checked.clone())
    }

    fn insert(&self, id: &str, secret_sha256: [u8; 32], checked: CheckedKey, looked_up: Instant) {
        let mut entries = self.entries();
        if entries.len() >= Self::MAX_LEN {
            entries.retain(|_, entry| entry.looked_up.elapsed() < Self::MAX_AGE);
        }
        // While the cache is full, each call looks up a key that is not in the cache.
        if entries.len() < Self::MAX_LEN || entries.contains_key(id) {
            let entry = Entry {
                secret_sha256,
                checked,
                looked_up,
            };
            entries.insert(id.to_owned(), entry);
        }
    }

    fn entries(&self) -> MutexGuard<'_, HashMap<String, Entry>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked() -> CheckedKey {
        CheckedKey {
            account: AccountId::from_i64(1_000_000_000_000_000),
            role: Role::Reader,
            scope: Arc::default(),
            expires: None,
        }
    }

    #[test]
    fn a_key_is_found_by_its_own_secret_only() {
        let keys = CheckedKeys::default();
        keys.insert("ck1", [1; 32], checked(), Instant::now());
        assert_eq!(keys.find("ck1", &[1; 32]), Some(checked()));
        assert_eq!(keys.find("ck1", &[2; 32]), None);
        assert_eq!(keys.find("ck2", &[1; 32]), None);
    }

    #[test]
    fn a_key_is_found_until_it_is_two_seconds_old() {
        let keys = CheckedKeys::default();
        let find_at = |age| {
            keys.insert("ck1", [1; 32], checked(), Instant::now() - age);
            keys.find("ck1", &[1; 32])
        };
        assert_eq!(find_at(Duration::from_millis(1500)), Some(checked()));
        assert_eq!(find_at(Duration::from_secs(2)), None);
    }

    #[test]
    fn a_full_cache_makes_room_by_removing_old_keys_only() {
        let keys = CheckedKeys::default();
        let old = Instant::now() - CheckedKeys::MAX_AGE;
        for number in 0..CheckedKeys::MAX_LEN {
            let looked_up = if number < 10 { old } else { Instant::now() };
            keys.insert(&format!("ck{number}"), [1; 32], checked(), looked_up);
        }
        keys.insert("cknew", [1; 32], checked(), Instant::now());
        assert_eq!(keys.find("cknew", &[1; 32]), Some(checked()));
        assert_eq!(keys.entries().len(), CheckedKeys::MAX_LEN - 9);
        for number in 0..20 {
            keys.insert(&format!("ckmore{number}"), [1; 32], checked(), Instant::now());
        }
        assert_eq!(keys.entries().len(), CheckedKeys::MAX_LEN);
        assert_eq!(keys.find("ckmore19", &[1; 32]), None);
    }
}
