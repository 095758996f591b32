//! What of all accounts needs the operator soonest, for the metrics.

use super::{App, Error};
use crate::clock;
use crate::store::{ExpiringCertificate, UsedQuota};

/// A quota that is used by this share or more is listed.
pub const NEARLY_FULL: f64 = 0.8;

impl App {
    /// At most `size` certificates of all accounts that have not ended, the next to end first.
    pub async fn expiring_next(&self, size: u32) -> Result<Vec<ExpiringCertificate>, Error> {
        Ok(self.0.store.expiring_next_of_all_accounts(clock::now(), size).await?)
    }

    /// At most `size` quotas that are nearly full, the fullest first.
    pub async fn nearly_full_quotas(&self, size: u32) -> Result<Vec<UsedQuota>, Error> {
        let maximum = |kind| self.0.settings.quota(kind);
        let store = &self.0.store;
        Ok(store.fullest_quotas_of_all_accounts(maximum, NEARLY_FULL, size).await?)
    }
}
