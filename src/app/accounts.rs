//! Accounts, their quotas and their recovery, for operators.

use super::manage_access_keys::{CreatedAccessKey, KeyMaterial, created, description, secret_sha256};
use super::page::{List, page_size};
use super::quotas::Quota;
use super::target::required;
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, Role};
use crate::account::{AccountId, QuotaKind};
use crate::digest;
use crate::inventory::{CertificateName, NameError, Scope};
use crate::store::{Account, AccountChange, NewKey};

/// The largest quota.
const MAX_QUOTA: i64 = 1_000_000_000;

/// A new account and its first admin key.
#[derive(Debug)]
pub struct CreatedAccount {
    /// The account.
    pub account: Account,
    /// The key.
    pub key: CreatedAccessKey,
}

/// A page of accounts.
#[derive(Debug)]
pub struct ListedAccounts {
    /// The accounts.
    pub accounts: Vec<Account>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

/// A quota to set.
#[derive(Debug)]
pub struct UpdateQuota {
    /// The account's id.
    pub account_id: String,
    /// What is limited; `None`: the caller names no kind.
    pub kind: Option<QuotaKind>,
    /// The limit; `None`: the default of the service.
    pub maximum: Option<i64>,
}

impl App {
    /// Creates an account and its first admin key. A call with the hash of a secret can be repeated.
    pub async fn create_account(&self, call: &Call, name: &str, hash: &[u8]) -> Result<CreatedAccount, Error> {
        let mut violations = Violations::default();
        violations.note(Field::AccountName, account_name(name).err());
        let hash = violations.check(Field::SecretSha256, secret_sha256(hash));
        let (Some(hash), true) = (hash, violations.is_empty()) else {
            return Err(violations.into());
        };
        let store = &self.0.store;
        let id = AccountId::from_random(digest::random()?);
        let new = KeyMaterial::new(hash)?;
        match store
            .create_account(&call.actor(), id, name, &new.id, new.secret_sha256)
            .await?
        {
            AccountChange::Done((account, key)) => {
                let secret = new.secret;
                let key = CreatedAccessKey { key, secret };
                Ok(CreatedAccount { account, key })
            }
            AccountChange::NameTaken | AccountChange::NotFound => {
                let existing = self.account_of_repeated_call(name, hash).await?;
                existing.ok_or(Error::AccountExists)
            }
        }
    }

    /// The account with this name, if it has an admin key with this hash.
    async fn account_of_repeated_call(
        &self,
        name: &str,
        hash: Option<[u8; 32]>,
    ) -> Result<Option<CreatedAccount>, Error> {
        let store = &self.0.store;
        let Some(hash) = hash else { return Ok(None) };
        let Some(account) = store.account_named_of_all_accounts(Some(name)).await? else {
            return Ok(None);
        };
        let key = store.access_key_of_secret(account.id, hash).await?;
        Ok(key.filter(|key| key.role == Role::Admin).map(|key| CreatedAccount {
            account,
            key: CreatedAccessKey { key, secret: None },
        }))
    }

    /// A page of all accounts.
    pub async fn accounts(&self, call: &Call, asked_size: i32, page_token: &str) -> Result<ListedAccounts, Error> {
        let list = List {
            name: "ListAccounts",
            account: call.caller.account,
            filter: &[],
        };
        let mut violations = Violations::default();
        let size = violations.check(Field::PageSize, page_size(asked_size));
        let after = violations.check(Field::PageToken, self.0.page_tokens.read(list, page_token));
        let (Some(size), Some(after)) = (size, after) else {
            return Err(violations.into());
        };
        // One extra row tells whether there is a next page.
        let mut listed = self.0.store.list_of_all_accounts(after, size + 1).await?;
        let has_more = listed.len() > size;
        listed.truncate(size);
        let next = listed.last().filter(|_| has_more).map(|(position, _)| *position);
        Ok(ListedAccounts {
            accounts: listed.into_iter().map(|(_, account)| account).collect(),
            next_page_token: self.next_page_token(list, next)?,
        })
    }

    /// Renames, disables or enables an account.
    pub async fn update_account(
        &self,
        call: &Call,
        id: &str,
        name: Option<&str>,
        disabled: Option<bool>,
    ) -> Result<Account, Error> {
        let mut violations = Violations::default();
        let id = violations.check(Field::AccountId, required(id));
        violations.note(Field::AccountName, name.and_then(|name| account_name(name).err()));
        let (Some(id), true) = (id, violations.is_empty()) else {
            return Err(violations.into());
        };
        let id = account_id(id)?;
        match self.0.store.update_account(&call.actor(), id, name, disabled).await? {
            AccountChange::Done(account) => Ok(account),
            AccountChange::NameTaken => Err(Error::AccountExists),
            AccountChange::NotFound => Err(Error::AccountNotFound),
        }
    }

    /// Creates an admin key of an account. `why` becomes its description. A call with the hash of a secret can be repeated.
    pub async fn create_account_admin_key(
        &self,
        call: &Call,
        id: &str,
        why: &str,
        hash: &[u8],
    ) -> Result<CreatedAccessKey, Error> {
        let mut violations = Violations::default();
        let id = violations.check(Field::AccountId, required(id));
        let why = violations.check(
            Field::Description,
            required(why).and_then(|why| description(why).map(|()| why)),
        );
        let hash = violations.check(Field::SecretSha256, secret_sha256(hash));
        let (Some(id), Some(why), Some(hash)) = (id, why, hash) else {
            return Err(violations.into());
        };
        let account = self.existing_account(id).await?;
        let KeyMaterial {
            id,
            secret_sha256,
            secret,
        } = KeyMaterial::new(hash)?;
        let new = NewKey {
            account,
            id: &id,
            secret_sha256,
            sealed: None,
            role: Role::Admin,
            scope: &Scope::default(),
            description: why,
            expires: None,
            quota: self.0.settings.access_key_quota,
        };
        let creation = self.0.store.create_account_admin_key(&call.actor(), &new).await?;
        created(creation, &new, secret)
    }

    /// The quotas of an account.
    pub async fn account_quotas(&self, id: &str) -> Result<Vec<Quota>, Error> {
        let id = required(id).map_err(|error| Error::field(Field::AccountId, error))?;
        let account = self.existing_account(id).await?;
        self.quotas_of(account).await
    }

    /// Sets a quota of an account, or removes its own quota.
    pub async fn update_quota(&self, call: &Call, request: &UpdateQuota) -> Result<Quota, Error> {
        let mut violations = Violations::default();
        let id = violations.check(Field::AccountId, required(&request.account_id));
        let kind = violations.check(Field::QuotaKind, request.kind.ok_or(FieldError::QuotaKind));
        let is_valid = request.maximum.is_none_or(|maximum| (0..=MAX_QUOTA).contains(&maximum));
        violations.note(Field::QuotaMaximum, (!is_valid).then_some(FieldError::QuotaMaximum));
        let (Some(id), Some(kind), true) = (id, kind, violations.is_empty()) else {
            return Err(violations.into());
        };
        let id = account_id(id)?;
        let store = &self.0.store;
        // After the change, a failed look-up would hide that the change was made.
        let uses = store.quota_uses(id).await?;
        if !store.update_quota(&call.actor(), id, kind, request.maximum).await? {
            return Err(Error::AccountNotFound);
        }
        Ok(Quota {
            kind,
            maximum: request.maximum.unwrap_or(self.0.settings.quota(kind)),
            is_overridden: request.maximum.is_some(),
            uses: uses.into_iter().filter(|used| used.kind == kind).collect(),
        })
    }

    async fn existing_account(&self, id: &str) -> Result<AccountId, Error> {
        let account = self.0.store.account_of_all_accounts(account_id(id)?).await?;
        account.map(|account| account.id).ok_or(Error::AccountNotFound)
    }
}

fn account_id(id: &str) -> Result<AccountId, Error> {
    id.parse().map_err(|_| Error::AccountNotFound)
}

/// A name of an account has the rules of a certificate's name, without `/` and `*`.
fn account_name(name: &str) -> Result<(), FieldError> {
    CertificateName::parse(name).map_err(FieldError::AccountName)?;
    match name.chars().position(|c| "/*".contains(c)) {
        Some(index) => Err(FieldError::AccountName(NameError::Character { position: index + 1 })),
        None => Ok(()),
    }
}
