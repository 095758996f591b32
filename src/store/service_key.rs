//! The service keys.

use super::statement::Confirm;
use super::{Error, Statement, Store};
use crate::seal::Sealed;

impl Store {
    /// The sealed service key for this purpose. If the database has none, `sealed` is stored and returned.
    pub async fn service_key(&self, purpose: &str, sealed: &Sealed) -> Result<Vec<u8>, Error> {
        const KEEP: Statement = Statement {
            name: "store::service_key",
            sql: "-- store::service_key
                  insert into service_key (purpose, sealed) values ($1, $2) on conflict (purpose) do nothing",
        };
        const FIND: Statement = Statement {
            name: "store::service_key",
            sql: "-- store::service_key\nselect sealed from service_key where purpose = $1",
        };
        // Repeating the statement has no further effect, so it may run as a read.
        self.read(KEEP, &[&purpose, &sealed.as_bytes()]).await?;
        // Another replica may have stored it. What the key protects must not outlive it.
        let rows = self.read_confirmed(Confirm::Always, FIND, &[&purpose]).await?;
        rows.first().map(|row| row.get(0)).ok_or(Error::Row("service_key"))
    }
}
