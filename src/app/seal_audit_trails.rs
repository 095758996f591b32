//! Seals the audit trails of all accounts, and logs the heads of their chains.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::{App, Error};
use crate::account::AccountId;
use crate::store::{ChainMac, Trail, Watermark};

/// How often the heads that have changed are logged.
const LOG: Duration = Duration::from_secs(60);
/// How often all trails are looked at, not only those that have changed: the replica that sealed them may have died.
const LOOK_AT_ALL: Duration = Duration::from_secs(60);

/// Seals the new events of all accounts.
pub struct Sealer {
    app: App,
    watermark: Watermark,
    looked_at_all: Instant,
    /// The heads that were not logged yet.
    heads: HashMap<(AccountId, Trail), (i64, ChainMac)>,
    logged: Instant,
}

impl App {
    /// Seals audit trails from now on.
    pub fn sealer(&self) -> Sealer {
        Sealer {
            app: self.clone(),
            watermark: Watermark::default(),
            looked_at_all: Instant::now(),
            heads: HashMap::new(),
            logged: Instant::now(),
        }
    }
}

impl Sealer {
    /// Seals the events that have no seal. Call it each second.
    pub async fn run(&mut self) -> Result<(), Error> {
        if self.looked_at_all.elapsed() >= LOOK_AT_ALL {
            self.looked_at_all = Instant::now();
            self.watermark = Watermark::default();
        }
        loop {
            let parts = &self.app.0;
            let sealing = parts
                .store
                .seal_of_all_accounts(&parts.audit_key, &mut self.watermark)
                .await?;
            for head in sealing.sealed {
                self.heads.insert((head.account, head.trail), (head.position, head.mac));
            }
            if !sealing.has_more {
                break;
            }
        }
        if self.logged.elapsed() >= LOG {
            self.logged = Instant::now();
            self.log_heads();
        }
        Ok(())
    }

    fn log_heads(&mut self) {
        for ((account, trail), (position, mac)) in self.heads.drain() {
            let head = hex::encode(mac);
            tracing::info!(%account, trail = trail.as_str(), position, head, "the audit trail is sealed");
        }
    }
}

impl Drop for Sealer {
    /// The service stops: logs the heads that were not logged yet.
    fn drop(&mut self) {
        self.log_heads();
    }
}
