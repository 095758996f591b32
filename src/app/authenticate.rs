//! Who calls, and what they may do.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::{AccessKeyText, App, Error};
use crate::account::AccountId;
use crate::digest;
pub use crate::store::Role;

/// An authenticated caller.
#[derive(Clone, Debug)]
pub struct Caller {
    /// The account that it acts for.
    pub account: AccountId,
    /// What it may do.
    pub role: Role,
    /// The id of its access key.
    pub access_key_id: String,
}

impl Caller {
    /// Refuses a caller whose role does not include `needed`.
    pub(super) fn require(&self, needed: Role) -> Result<(), Error> {
        let permitted = match needed {
            Role::Reader => self.role != Role::Consumer,
            Role::Editor => matches!(self.role, Role::Editor | Role::Admin),
            Role::Admin => self.role == Role::Admin,
            Role::Consumer => self.role == Role::Consumer,
        };
        if permitted {
            Ok(())
        } else {
            Err(Error::PermissionDenied { needed })
        }
    }
}

impl App {
    /// The caller that an `authorization` value names: `Bearer <id>.<secret>`.
    ///
    /// That the key or its account is disabled is told only to who has the right secret.
    pub async fn authenticate(&self, authorization: Option<&str>) -> Result<Caller, Error> {
        let text = authorization
            .and_then(|value| value.split_once(' '))
            .filter(|(scheme, _)| scheme.eq_ignore_ascii_case("bearer"))
            .map(|(_, text)| text.trim());
        let key = text.and_then(AccessKeyText::parse).ok_or(Error::Unauthenticated)?;
        let secret_sha256 = key.secret_sha256();
        let Some((caller, is_due)) = self.0.checked_keys.find(key.id(), &secret_sha256) else {
            return self.check_key(key.id(), secret_sha256).await;
        };
        if is_due {
            // Before it is too old, so that nobody waits for it.
            let (app, id) = (self.clone(), caller.access_key_id.clone());
            tokio::spawn(async move {
                let checked = app.check_key(&id, secret_sha256).await;
                if let Err(Error::Unauthenticated | Error::AccountDisabled | Error::AccessKeyDisabled) = checked {
                    app.0.checked_keys.forget(&id);
                }
            });
        }
        Ok(caller)
    }

    async fn check_key(&self, id: &str, secret_sha256: [u8; 32]) -> Result<Caller, Error> {
        let looked_up = Instant::now();
        let known = self
            .0
            .store
            .access_key_of_all_accounts(id)
            .await?
            .ok_or(Error::Unauthenticated)?;
        if !digest::constant_time_eq(&known.secret_sha256, &secret_sha256) {
            return Err(Error::Unauthenticated);
        }
        if known.account_disabled {
            return Err(Error::AccountDisabled);
        }
        if known.disabled {
            return Err(Error::AccessKeyDisabled);
        }
        let caller = Caller {
            account: known.account,
            role: known.role,
            access_key_id: id.to_owned(),
        };
        self.0.checked_keys.remember(secret_sha256, &caller, looked_up);
        Ok(caller)
    }
}

/// Keys that were right a moment ago: a disabled one works no longer than [`MAX_AGE`](Self::MAX_AGE) after that.
#[derive(Default)]
pub(super) struct CheckedKeys(Mutex<HashMap<String, Checked>>);

struct Checked {
    secret_sha256: [u8; 32],
    caller: Caller,
    at: Instant,
    is_due: bool,
}

impl CheckedKeys {
    const MAX_AGE: Duration = Duration::from_secs(2);
    /// From this age on a key that is used is checked again.
    const DUE_AGE: Duration = Duration::from_millis(1500);
    const MAX_LEN: usize = 4096;

    /// Whose key it is, and whether it is to be checked again: of all who ask that is told to one.
    fn find(&self, id: &str, secret_sha256: &[u8; 32]) -> Option<(Caller, bool)> {
        let mut keys = self.keys();
        let checked = keys.get_mut(id)?;
        let age = checked.at.elapsed();
        if age >= Self::MAX_AGE || !digest::constant_time_eq(&checked.secret_sha256, secret_sha256) {
            return None;
        }
        let is_due = !checked.is_due && age >= Self::DUE_AGE;
        checked.is_due |= is_due;
        Some((checked.caller.clone(), is_due))
    }

    fn forget(&self, id: &str) {
        self.keys().remove(id);
    }

    fn remember(&self, secret_sha256: [u8; 32], caller: &Caller, at: Instant) {
        let mut keys = self.keys();
        if keys.len() >= Self::MAX_LEN {
            keys.retain(|_, checked| checked.at.elapsed() < Self::MAX_AGE);
        }
        // Still full: this key is looked up again next time.
        if keys.len() < Self::MAX_LEN || keys.contains_key(&caller.access_key_id) {
            let checked = Checked {
                secret_sha256,
                caller: caller.clone(),
                at,
                is_due: false,
            };
            keys.insert(caller.access_key_id.clone(), checked);
        }
    }

    fn keys(&self) -> MutexGuard<'_, HashMap<String, Checked>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn caller(role: Role) -> Caller {
        Caller {
            account: AccountId::from_i64(1_000_000_000_000_000),
            role,
            access_key_id: "ck1".to_owned(),
        }
    }

    #[test]
    fn a_role_includes_the_lesser_ones_and_consumers_stand_apart() {
        let permitted = |role, needed| caller(role).require(needed).is_ok();
        let roles = [Role::Reader, Role::Editor, Role::Admin, Role::Consumer];
        let table = roles.map(|role| roles.map(|needed| permitted(role, needed)));
        assert_eq!(
            table,
            [
                [true, false, false, false],
                [true, true, false, false],
                [true, true, true, false],
                [false, false, false, true],
            ]
        );
    }

    #[test]
    fn a_checked_key_is_found_by_its_secret_only() {
        let keys = CheckedKeys::default();
        keys.remember([1; 32], &caller(Role::Reader), Instant::now());
        assert!(keys.find("ck1", &[1; 32]).is_some());
        assert!(keys.find("ck1", &[2; 32]).is_none());
        assert!(keys.find("ck2", &[1; 32]).is_none());
    }

    #[test]
    fn one_of_all_who_use_a_key_is_told_that_it_is_due() {
        let keys = CheckedKeys::default();
        let is_due = || keys.find("ck1", &[1; 32]).map(|(_, is_due)| is_due);
        let remember = |age| keys.remember([1; 32], &caller(Role::Reader), Instant::now() - age);
        for _ in 0..2 {
            remember(Duration::ZERO);
            assert_eq!([is_due(), is_due()], [Some(false); 2]);
            remember(CheckedKeys::DUE_AGE);
            assert_eq!([is_due(), is_due()], [Some(true), Some(false)]);
        }
        remember(CheckedKeys::MAX_AGE);
        assert_eq!(is_due(), None);
        remember(Duration::ZERO);
        keys.forget("ck1");
        assert_eq!(is_due(), None);
    }
}
