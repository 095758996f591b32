//! The first account and its first access key.

use std::io;
use std::path::{Path, PathBuf};

use super::{AccessKeyText, Error};
use crate::account::{AccountId, Role};
use crate::digest;
use crate::secret::Existing;
use crate::store::{self, NewAccount, Store};

const FIRST_ACCOUNT: &str = "default";

/// The result of a bootstrap.
#[derive(Debug, Eq, PartialEq)]
pub enum FirstAccount {
    /// The account was created, and its access key was written.
    Made(AccountId),
    /// The database already had an access key.
    Existed,
}

/// Why the first account was not created.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The file of the access key could not be written.
    #[error(
        "the access key could not be written to {0}; a file that is there may hold another database's key: move it away"
    )]
    File(PathBuf, #[source] io::Error),
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
