//! The first account and its first access key.

use std::io;
use std::path::{Path, PathBuf};

use super::{AccessKeyText, Error};
use crate::account::{AccountId, Role};
use crate::digest;
use crate::secret::Existing;
use crate::store::{self, NewAccount, Store};

const FIRST_ACCOUNT: &str = "default";

/// What a bootstrap did.
#[derive(Debug, Eq, PartialEq)]
pub enum FirstAccount {
    /// It made the account and wrote its key.
    Made(AccountId),
    /// The database has an access key already.
    Existed,
}

/// Why there is no first account.
#[derive(Debug, thiserror::Error)]
pub enum BootstrapError {
    /// The key could not be written to its file.
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
    /// Makes the account `default` and an admin key, written as one line `<id>.<secret>` to a file of mode 0600, unless the
    /// database has an access key already.
    pub async fn make(store: &Store, admin_key: &Path, existing: Existing) -> Result<Self, BootstrapError> {
        if store.has_access_key_of_all_accounts().await? {
            return Ok(Self::Existed);
        }
        let random = |error: Error| BootstrapError::Random(Box::new(error));
        let key = AccessKeyText::random().map_err(random)?;
        let account = AccountId::from_random(digest::random().map_err(|error| random(error.into()))?);
        // First the file: a key in the database that nobody has could not be replaced by a second try.
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
