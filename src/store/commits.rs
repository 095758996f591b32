//! Wakes those who follow the certificates of an account when this process has committed a change of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

use super::Store;
use crate::account::AccountId;

/// The followed accounts. Each has at most one follower.
#[derive(Clone, Default)]
pub(super) struct Commits(Arc<Mutex<HashMap<AccountId, Arc<Notify>>>>);

impl Commits {
    /// Wakes the follower of the account, if there is one.
    pub(super) fn announce(&self, account: AccountId) {
        if let Some(follower) = self.followers().get(&account) {
            follower.notify_one();
        }
    }

    fn followers(&self) -> MutexGuard<'_, HashMap<AccountId, Arc<Notify>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Store {
    /// Wakes `follower` after each commit of this process that changes certificates of the account. A commit of another process, or one
    /// whose connection was lost, wakes nobody.
    pub fn follow_commits(&self, account: AccountId, follower: Arc<Notify>) {
        self.commits.followers().insert(account, follower);
    }

    /// Ends what [`follow_commits`](Self::follow_commits) began, unless the account has another follower by now.
    pub fn unfollow_commits(&self, account: AccountId, follower: &Arc<Notify>) {
        let mut followers = self.commits.followers();
        if followers
            .get(&account)
            .is_some_and(|other| Arc::ptr_eq(other, follower))
        {
            followers.remove(&account);
        }
    }
}
