//! Access keys: creates, lists, changes and deletes them.

use super::page::{List, page_size};
use super::target::required;
use super::violation::{Violations, control_character};
use super::{AccessKeyText, App, Call, Caller, Error, Field, FieldError, NewScope, Resource, Role};
use crate::account::AccountId;
use crate::clock::{self, Timestamp};
use crate::inventory::CriterionError;
use crate::seal::Row;
use crate::secret::Secret;
use crate::store::{KeyChange, KeyCreation, KeyFilter, KeyPosition, KeyRefusal, ManagedKey, NewKey, Position};

/// The longest description, in Unicode characters (scalar values).
const MAX_DESCRIPTION: usize = 200;
/// One hundred years.
const MAX_UNUSED_DAYS: i32 = 36_500;

/// The roles of the keys of an account, and those of the operators' keys.
pub(super) const OF_ACCOUNTS: &[Role] = &[Role::Reader, Role::Editor, Role::Consumer, Role::Admin];
const OF_OPERATORS: &[Role] = &[Role::Operator];

/// A role that is none.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct UnknownRole;

/// An access key to create.
#[derive(Debug)]
pub struct CreateAccessKey {
    /// The permissions.
    pub role: Result<Option<Role>, UnknownRole>,
    /// The part of the account that exists for the key.
    pub scope: NewScope,
    /// The purpose of the key.
    pub description: String,
    /// When the key expires; `None`: never.
    pub expires: Result<Option<Timestamp>, CriterionError>,
    /// SHA-256 of a secret that the caller made; empty: certkeep makes the secret.
    pub secret_sha256: Vec<u8>,
    /// Whether the key can sign requests.
    pub can_sign: bool,
}

/// A new access key.
#[derive(Debug)]
pub struct CreatedAccessKey {
    /// The key.
    pub key: ManagedKey,
    /// Its secret, unless the caller made it.
    pub secret: Option<Secret>,
}

/// The access keys to list.
#[derive(Debug)]
pub struct ListAccessKeys {
    /// The role; `None`: any.
    pub role: Result<Option<Role>, UnknownRole>,
    /// Only keys that were created and used before this number of days; 0: any.
    pub unused_days: i32,
    /// The maximum number of keys.
    pub page_size: i32,
    /// The token of the page; empty: the first page.
    pub page_token: String,
}

/// A page of access keys.
#[derive(Debug)]
pub struct ListedAccessKeys {
    /// The keys.
    pub keys: Vec<ManagedKey>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

/// A change of an access key. `None` changes nothing.
#[derive(Debug)]
pub struct UpdateAccessKey {
    /// The key's id.
    pub id: String,
    /// Whether the key is disabled.
    pub disabled: Option<bool>,
    /// When the key expires.
    pub expires: Result<Option<Timestamp>, CriterionError>,
    /// Whether the key loses its expiry.
    pub clear_expiry: bool,
    /// The purpose of the key.
    pub description: Option<String>,
}

/// The id and the hash of a new key, and its secret if certkeep made it.
pub(super) struct KeyMaterial {
    pub(super) id: String,
    pub(super) secret_sha256: [u8; 32],
    pub(super) secret: Option<Secret>,
}

impl KeyMaterial {
    /// For a secret with this hash, or for a new secret.
    pub(super) fn new(secret_sha256: Option<[u8; 32]>) -> Result<Self, Error> {
        Ok(match secret_sha256 {
            Some(secret_sha256) => Self {
                id: AccessKeyText::random_id()?,
                secret_sha256,
                secret: None,
            },
            None => {
                let text = AccessKeyText::random()?;
                Self {
                    id: text.id().to_owned(),
                    secret_sha256: text.secret_sha256(),
                    secret: Some(text.into_secret()),
                }
            }
        })
    }
}

impl App {
    /// Creates an access key of the caller's account. A call with the hash of a secret can be repeated.
    pub async fn create_access_key(&self, call: &Call, request: CreateAccessKey) -> Result<CreatedAccessKey, Error> {
        let caller = &call.caller;
        let mut violations = Violations::default();
        let role = violations.check(Field::Role, role_of_key(caller, request.role));
        let scope = self.parse_scope(&request.scope, &mut violations)?;
        if caller.account == AccountId::OPERATORS && !scope.is_everything() {
            violations.note(Field::Scope, Some(FieldError::ScopeOfOperator));
        }
        violations.note(Field::Description, description(&request.description).err());
        let expires = violations.check(Field::ExpireTime, future(request.expires));
        let hash = violations.check(Field::SecretSha256, secret_sha256(&request.secret_sha256));
        if request.can_sign {
            let is_operator = caller.account == AccountId::OPERATORS;
            violations.note(Field::CanSign, is_operator.then_some(FieldError::CanSignOfOperator));
            let excluded = hash.flatten().map(|_| FieldError::Excludes(Field::CanSign));
            violations.note(Field::SecretSha256, excluded);
        }
        let (Some(role), Some(expires), Some(hash), true) = (role, expires, hash, violations.is_empty()) else {
            return Err(violations.into());
        };
        if !caller.scope.includes(&scope) {
            return Err(Error::OutOfScope(Field::Scope));
        }
        self.find_groups_of_scope(caller.account, &scope).await?;
        let KeyMaterial {
            id,
            secret_sha256,
            secret,
        } = KeyMaterial::new(hash)?;
        // Held until the key is stored: a rotation does not begin to re-wrap before.
        let ring = self.0.key_ring.current();
        let sealed = match &secret {
            Some(secret) if request.can_sign => {
                self.confirm_sealing_key(&ring).await?;
                let row = Row::AccessKey {
                    account: caller.account,
                    access_key_id: &id,
                    secret_sha256: &secret_sha256,
                };
                Some(ring.keys.seal_secret(ring.sealing, secret, &row)?)
            }
            Some(_) | None => None,
        };
        let new = NewKey {
            account: caller.account,
            id: &id,
            secret_sha256,
            sealed,
            role,
            scope: &scope,
            description: &request.description,
            expires,
            quota: self.0.settings.access_key_quota,
        };
        let creation = self.0.store.create_access_key(&call.actor(), &new).await?;
        drop(ring);
        created(creation, &new, secret)
    }

    /// A page of the access keys of the caller's account that are within the caller's scope.
    pub async fn access_keys(&self, call: &Call, request: &ListAccessKeys) -> Result<ListedAccessKeys, Error> {
        let caller = &call.caller;
        let mut violations = Violations::default();
        let role = violations.check(
            Field::Role,
            request
                .role
                .map_err(|UnknownRole| FieldError::Role(roles_of_keys(caller))),
        );
        let unused_days = match request.unused_days {
            0 => Ok(None),
            days @ 1..=MAX_UNUSED_DAYS => Ok(Some(days)),
            _ => Err(FieldError::UnusedDays),
        };
        let unused_days = violations.check(Field::UnusedDays, unused_days);
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        let filter = [
            role.flatten().map_or("", Role::as_str),
            &request.unused_days.to_string(),
        ];
        let list = List {
            name: "ListAccessKeys",
            account: caller.account,
            filter: &filter,
        };
        let after = violations.check(Field::PageToken, self.key_position(list, &request.page_token));
        let (Some(role), Some(unused_days), Some(size), Some(mut after)) = (role, unused_days, size, after) else {
            return Err(violations.into());
        };
        let filter = KeyFilter { role, unused_days };
        let mut keys = Vec::new();
        // A caller with a scope sees a part of each page of the store.
        loop {
            // One extra row tells whether there is a next page.
            let mut page = self
                .0
                .store
                .access_keys(caller.account, filter, &after, size + 1)
                .await?;
            let has_more = page.len() > size;
            page.truncate(size);
            let last = page.last().map(|(position, _)| position.clone());
            let visible = page.into_iter().map(|(_, key)| key);
            keys.extend(visible.filter(|key| caller.scope.includes(&key.scope)));
            let Some(last) = last.filter(|_| has_more) else {
                return Ok(ListedAccessKeys {
                    keys,
                    next_page_token: String::new(),
                });
            };
            if !keys.is_empty() {
                let position = Position {
                    created_ms: last.created_us,
                    random: 0,
                };
                let next = self.0.page_tokens.write_sorted(list, position, last.id.as_bytes())?;
                return Ok(ListedAccessKeys {
                    keys,
                    next_page_token: next,
                });
            }
            after = last;
        }
    }

    fn key_position(&self, list: List<'_>, page_token: &str) -> Result<KeyPosition, FieldError> {
        if page_token.is_empty() {
            return Ok(KeyPosition::START);
        }
        let (position, id) = self.0.page_tokens.read_sorted(list, page_token)?;
        Ok(KeyPosition {
            created_us: position.created_ms,
            id: String::from_utf8(id).map_err(|_| FieldError::PageToken)?,
        })
    }

    /// Changes an access key of the caller's account.
    pub async fn update_access_key(&self, call: &Call, request: &UpdateAccessKey) -> Result<ManagedKey, Error> {
        let mut violations = Violations::default();
        let id = violations.check(Field::AccessKeyId, required(&request.id));
        let expires = match request.expires {
            Ok(Some(_)) if request.clear_expiry => Err(FieldError::Excludes(Field::ClearExpireTime)),
            expires => future(expires),
        };
        let expires = violations.check(Field::ExpireTime, expires);
        let text = request.description.as_deref();
        violations.note(Field::Description, text.and_then(|text| description(text).err()));
        let (Some(id), Some(expires), true) = (id, expires, violations.is_empty()) else {
            return Err(violations.into());
        };
        self.visible_key(call, id).await?;
        let change = KeyChange {
            disabled: request.disabled,
            expires: (request.clear_expiry || expires.is_some()).then_some(expires),
            description: text,
        };
        match self.0.store.update_access_key(&call.actor(), id, change).await? {
            Ok(key) => Ok(key),
            Err(KeyRefusal::LastAdminKey) => Err(Error::LastAdminKey(id.to_owned())),
            Err(KeyRefusal::NotFound) => Err(Error::NotFound(Resource::AccessKey)),
        }
    }

    /// Deletes an access key of the caller's account that is disabled or has expired.
    pub async fn delete_access_key(&self, call: &Call, id: &str) -> Result<(), Error> {
        let id = required(id).map_err(|error| Error::field(Field::AccessKeyId, error))?;
        self.visible_key(call, id).await?;
        if self.0.store.delete_access_key(&call.actor(), id).await? {
            return Ok(());
        }
        // Another call may have deleted the key.
        self.visible_key(call, id).await?;
        Err(Error::AccessKeyEnabled(id.to_owned()))
    }

    /// The key, if it is within the caller's scope. The scope of a key never changes.
    async fn visible_key(&self, call: &Call, id: &str) -> Result<ManagedKey, Error> {
        let key = self.0.store.access_key(call.caller.account, id).await?;
        key.filter(|key| call.caller.scope.includes(&key.scope))
            .ok_or(Error::NotFound(Resource::AccessKey))
    }
}

/// The answer to a created key. An existing key with the same secret is the answer to a repeated call if its settings are the same.
pub(super) fn created(
    creation: KeyCreation,
    new: &NewKey<'_>,
    secret: Option<Secret>,
) -> Result<CreatedAccessKey, Error> {
    match creation {
        KeyCreation::Created(key) => Ok(CreatedAccessKey { key, secret }),
        KeyCreation::Exists(key)
            if key.role == new.role
                && key.scope == *new.scope
                && key.description == new.description
                && key.expires == new.expires
                && key.can_sign == new.sealed.is_some() =>
        {
            Ok(CreatedAccessKey { key, secret })
        }
        KeyCreation::Exists(_) => Err(Error::field(Field::SecretSha256, FieldError::SecretUsed)),
        KeyCreation::QuotaExceeded(quota) => Err(Error::AccessKeyQuotaExceeded(quota)),
    }
}

/// The roles that keys of the caller's account can have.
fn roles_of_keys(caller: &Caller) -> &'static [Role] {
    match caller.account {
        AccountId::OPERATORS => OF_OPERATORS,
        _ => OF_ACCOUNTS,
    }
}

fn role_of_key(caller: &Caller, role: Result<Option<Role>, UnknownRole>) -> Result<Role, FieldError> {
    let allowed = roles_of_keys(caller);
    match role {
        Ok(None) => Err(FieldError::Required),
        Ok(Some(role)) if allowed.contains(&role) => Ok(role),
        _ => Err(FieldError::Role(allowed)),
    }
}

/// Checks the purpose of an access key.
pub(super) fn description(text: &str) -> Result<(), FieldError> {
    let chars = text.chars().count();
    if chars > MAX_DESCRIPTION {
        return Err(FieldError::TooLong {
            chars,
            max: MAX_DESCRIPTION,
        });
    }
    control_character(text).map_or(Ok(()), Err)
}

fn future(expires: Result<Option<Timestamp>, CriterionError>) -> Result<Option<Timestamp>, FieldError> {
    match expires.map_err(FieldError::Criterion)? {
        Some(moment) if moment <= clock::now() => Err(FieldError::NotInFuture),
        expires => Ok(expires),
    }
}

/// The hash of a secret that the caller made; `None`: there is none.
pub(super) fn secret_sha256(octets: &[u8]) -> Result<Option<[u8; 32]>, FieldError> {
    match octets {
        [] => Ok(None),
        octets => octets.try_into().map(Some).map_err(|_| FieldError::SecretSha256),
    }
}
