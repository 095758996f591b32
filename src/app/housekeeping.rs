//! What is done now and then for all accounts, by whichever replica comes first.

use super::{App, Error};
use crate::inventory::CertificateKind;

impl App {
    /// Removes deleted certificates whose time is over, and forgets client tokens that count no longer.
    pub async fn keep_house(&self) -> Result<(), Error> {
        let store = &self.0.store;
        let mut purged = 0;
        for kind in CertificateKind::ALL {
            loop {
                match store.purge_of_all_accounts(kind, self.0.settings.retention).await? {
                    0 => break,
                    count => purged += count,
                }
            }
        }
        while store.forget_tokens_of_all_accounts().await? > 0 {}
        if purged > 0 {
            tracing::info!(purged, "removed deleted certificates whose time was over");
        }
        Ok(())
    }
}
