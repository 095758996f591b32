//! The first account and its first access key, and the keys that a command on the service's host creates later.

use std::io;
use std::path::{Path, PathBuf};

use super::{AccessKeyText, Error};
use crate::account::{AccountId, Actor, Principal, Role};
use crate::digest;
use crate::inventory::Scope;
use crate::secret::Existing;
use crate::store::{self, NewAccount, NewKey, Store};

const FIRST_ACCOUNT: &str = "default";

/// The result of a bootstrap.
#[derive(Debug, Eq, PartialEq)]
pub enum FirstAccount {
    /// The account was created, and its access key was written.
    Made(AccountId),
    /// The database already had an access key.
    Existed,
}

/// The holder of a key that a command on the service's host creates.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Recovery {
    /// An admin of the account with this name; `None`: of the oldest account.
    Admin(Option<String>),
    /// An operator.
    Operator,
}

/// A key that a command on the service's host created.
#[derive(Debug, Eq, PartialEq)]
pub struct RecoveredKey {
    /// The id of the account; `None`: the key is an operator's.
    pub account: Option<AccountId>,
    /// The name of the account.
    pub account_name: String,
    /// Whether the account is disabled. Then no key of the account works.
    pub is_disabled: bool,
    /// The id of the key.
    pub access_key_id: String,
}

/// Why an access key was not created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file of the access key could not be written.
    #[error(
        "the access key could not be written to {0}; a file that is there may hold another database's key: move it away"
    )]
    File(PathBuf, #[source] io::Error),
    /// There is no account, or none with this name.
    #[error("{}", match .0 {
        Some(name) => format!("there is no account {name}: `certkeep account list` lists the accounts"),
        None => "there is no account: run `certkeep bootstrap` without --recover".to_owned(),
    })]
    NoAccount(Option<String>),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] store::Error),
    /// The random generator failed.
    #[error("no random numbers")]
    Random(#[source] Box<dyn std::error::Error + Send + Sync>),
}

impl FirstAccount {
    /// Creates the account `default` and an access key with the role admin, unless the database has an access key. Writes the
    /// key as one line `<id>.<secret>` to a file with mode 0600.
    pub async fn make(store: &Store, admin_key: &Path, existing: Existing) -> Result<Self, BootstrapError> {
        if store.has_access_key_of_all_accounts().await? {
            return Ok(Self::Existed);
        }
        let random = |error: Error| BootstrapError::Random(Box::new(error));
        let key = AccessKeyText::random().map_err(random)?;
        let account = AccountId::from_random(digest::random().map_err(|error| random(error.into()))?);
        // The file comes first. If it came last and failed, nobody would have the key, and a second try would create none.
        let failed = |error| BootstrapError::File(admin_key.to_owned(), error);
        key.to_line().write(admin_key, existing).map_err(failed)?;
        let made = store
            .make_first_account(&NewAccount {
                id: account,
                name: FIRST_ACCOUNT,
                access_key_id: key.id(),
                secret_sha256: key.secret_sha256(),
                role: Role::Admin,
            })
            .await?;
        if made {
            return Ok(Self::Made(account));
        }
        std::fs::remove_file(admin_key).map_err(failed)?;
        Ok(Self::Existed)
    }
}

impl RecoveredKey {
    /// Creates an access key without expiry and scope, and writes it as one line `<id>.<secret>` to a new file with mode 0600. Both audit
    /// trails record it: that of the account and that of the operators. The caller has proved that it has the key ring.
    pub async fn make(store: &Store, recovery: &Recovery, file: &Path) -> Result<Self, BootstrapError> {
        let random = |error: Error| BootstrapError::Random(Box::new(error));
        let account = match recovery {
            Recovery::Operator => None,
            Recovery::Admin(name) => {
                let account = store.account_named_of_all_accounts(name.as_deref()).await?;
                Some(account.ok_or_else(|| BootstrapError::NoAccount(name.clone()))?)
            }
        };
        let key = AccessKeyText::random().map_err(random)?;
        let actor = Actor {
            account: AccountId::OPERATORS,
            principal: Principal::Service,
            address: None,
            request_id: digest::random_uuid().map_err(|error| random(error.into()))?,
        };
        let (role, description) = match recovery {
            Recovery::Operator => (Role::Operator, "created by `certkeep bootstrap --operator`"),
            Recovery::Admin(_) => (Role::Admin, "created by `certkeep bootstrap --recover`"),
        };
        let failed = |error| BootstrapError::File(file.to_owned(), error);
        key.to_line().write(file, Existing::Keep).map_err(failed)?;
        let new = NewKey {
            account: account.as_ref().map_or(AccountId::OPERATORS, |account| account.id),
            id: key.id(),
            secret_sha256: key.secret_sha256(),
            sealed: None,
            role,
            scope: &Scope::default(),
            description,
            expires: None,
            // Whoever owns the host must not be locked out by a quota.
            quota: i64::MAX,
        };
        if let Err(error) = store.bootstrap_access_key(&actor, &new).await {
            // An unknown outcome may have created the key.
            if !matches!(error, store::Error::OutcomeUnknown(_)) {
                std::fs::remove_file(file).map_err(failed)?;
            }
            return Err(error.into());
        }
        Ok(Self {
            account: account.as_ref().map(|account| account.id),
            is_disabled: account.as_ref().is_some_and(|account| account.disabled),
            account_name: account.map(|account| account.name).unwrap_or_default(),
            access_key_id: key.id().to_owned(),
        })
    }
}
