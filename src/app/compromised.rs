//! Stored certificates whose key is on a list of compromised keys, perhaps since after they were stored.

use std::sync::Arc;

use super::cpu_pool::Cost;
use super::{App, Error};
use crate::certificate::{Policy, is_compromised};
use crate::inventory::CertificateId;
use crate::store::StoredLeaf;

/// The certificates of one step. A leaf can have 190 KiB.
const STEP: usize = 100;

/// A walk along all certificates of all accounts.
pub struct CompromisedWalk {
    app: App,
    /// The lists when the walk began.
    policy: Arc<Policy>,
    after: Option<CertificateId>,
}

impl App {
    /// The number of live certificates of all accounts with a compromised key, as the last walk noted them.
    pub async fn count_compromised(&self) -> Result<i64, Error> {
        Ok(self.0.store.compromised_of_all_accounts().await?)
    }

    /// Begins a walk that notes the certificates with a compromised key.
    pub fn walk_compromised(&self) -> CompromisedWalk {
        CompromisedWalk {
            app: self.clone(),
            policy: self.policy(),
            after: None,
        }
    }
}

impl CompromisedWalk {
    /// Looks at the next certificates. Answers whether more are left.
    pub async fn step(&mut self) -> Result<bool, Error> {
        let store = &self.app.0.store;
        let leaves = store.leaves_of_all_accounts(self.after, STEP).await?;
        let last = leaves.last().map(|leaf| leaf.id).filter(|_| leaves.len() == STEP);
        let policy = self.policy.clone();
        let look = move || -> Vec<StoredLeaf> {
            leaves
                .into_iter()
                .filter(|leaf| is_compromised(&leaf.der, &policy))
                .collect()
        };
        let compromised = self.app.0.cpu_pool.run(Cost::Blocking, look).await?;
        let noted = store.note_compromised_of_all_accounts(self.after, last, &compromised);
        for id in noted.await? {
            tracing::warn!(certificate_id = %id, "the key of this certificate is compromised: docs/findings.md");
        }
        self.after = last;
        Ok(last.is_some())
    }

    /// Whether the lists have changed since the walk began.
    pub fn is_outdated(&self) -> bool {
        !Arc::ptr_eq(&self.policy, &self.app.policy())
    }
}
