//! The maintenance of the whole service. Every replica runs it, and the first replica does the work.

use super::{App, Error};

impl App {
    /// Purges deleted certificates, earlier versions and audit events after their retention, client tokens that have expired, and holders
    /// whose time is over.
    pub async fn run_maintenance(&self) -> Result<(), Error> {
        let store = &self.0.store;
        let mut purged = 0;
        loop {
            match store.purge_of_all_accounts(self.0.settings.retention).await? {
                0 => break,
                count => purged += count,
            }
        }
        let (count, time) = (
            self.0.settings.version_retention,
            self.0.settings.version_retention_time,
        );
        let mut versions = 0;
        loop {
            match store.purge_versions_of_all_accounts(count, time).await? {
                0 => break,
                purged => versions += purged,
            }
        }
        if versions > 0 {
            tracing::info!(purged = versions, "purged earlier versions of certificates");
        }
        while store.forget_tokens_of_all_accounts().await? > 0 {}
        while store.forget_holders_of_all_accounts().await? > 0 {}
        if let Some(retention) = self.0.settings.audit_retention {
            let mut purged = 0;
            loop {
                match store.purge_audit_of_all_accounts(&self.0.audit_key, retention).await? {
                    0 => break,
                    count => purged += count,
                }
            }
            if purged > 0 {
                tracing::info!(purged, "purged audit events");
            }
        }
        if purged > 0 {
            tracing::info!(purged, "purged deleted certificates");
        }
        Ok(())
    }
}
