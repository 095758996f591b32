//! What the key ring seals besides private keys, and which of its keys have sealed anything.

use super::{Error, Statement, Store};
use crate::seal::Sealed;

impl Store {
    /// Notes that this key-encryption key is about to seal.
    pub async fn note_key_encryption_key(&self, id: &[u8]) -> Result<(), Error> {
        const STATEMENT: Statement = Statement {
            name: "store::note_key_encryption_key",
            sql: "-- store::note_key_encryption_key
                  insert into key_encryption_key (key_encryption_key_id) values ($1)
                  on conflict (key_encryption_key_id) do nothing",
        };
        // Repeated, it does no harm: it may run as a read does.
        self.read(STATEMENT, &[&id]).await?;
        Ok(())
    }

    /// The ids of the key-encryption keys that have sealed what the database holds.
    pub async fn key_encryption_keys(&self) -> Result<Vec<Vec<u8>>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::key_encryption_keys",
            sql: "-- store::key_encryption_keys
                  select key_encryption_key_id from key_encryption_key order by first_used_at",
        };
        Ok(self.read(STATEMENT, &[]).await?.iter().map(|row| row.get(0)).collect())
    }

    /// The sealed service key for this purpose: the one that is there, else `sealed`, which is kept from now on.
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
        // Repeated, it does no harm: it may run as a read does.
        self.read(KEEP, &[&purpose, &sealed.as_bytes()]).await?;
        let rows = self.read(FIND, &[&purpose]).await?;
        rows.first().map(|row| row.get(0)).ok_or(Error::Row("service_key"))
    }
}
