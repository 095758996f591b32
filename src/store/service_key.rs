//! The service keys, and the record of the key-encryption keys that sealed something.

use super::{Error, Statement, Store};
use crate::seal::{CheckValue, KeyEncryptionKeyId, Sealed};

impl Store {
    /// Records that this key-encryption key is about to seal. Returns the recorded check value. The value differs if the id was
    /// recorded with another key.
    pub async fn record_key_encryption_key(
        &self,
        id: KeyEncryptionKeyId,
        check_value: CheckValue,
    ) -> Result<CheckValue, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::record_key_encryption_key",
            // The update changes nothing. It makes the statement return an existing row.
            sql: "-- store::record_key_encryption_key
                  insert into key_encryption_key as recorded (key_encryption_key_id, check_value) values ($1, $2)
                  on conflict (key_encryption_key_id) do update set check_value = recorded.check_value
                  returning check_value",
        };
        let params: [&[u8]; 2] = [id.as_bytes(), check_value.as_bytes()];
        // Repeating the statement has no further effect, so it may run as a read.
        let rows = self.read(STATEMENT, &[&params[0], &params[1]]).await?;
        let row = rows.first().ok_or(Error::Row("key_encryption_key"))?;
        fixed(row.get("check_value")).map(CheckValue::from_bytes)
    }

    /// The key-encryption keys that sealed something in the database, oldest first.
    pub async fn key_encryption_keys(&self) -> Result<Vec<(KeyEncryptionKeyId, CheckValue)>, Error> {
        const STATEMENT: Statement = Statement {
            name: "store::key_encryption_keys",
            sql: "-- store::key_encryption_keys
                  select key_encryption_key_id, check_value from key_encryption_key order by first_used_at",
        };
        let rows = self.read(STATEMENT, &[]).await?;
        rows.iter()
            .map(|row| {
                let id = fixed(row.get("key_encryption_key_id"))?;
                let check_value = fixed(row.get("check_value"))?;
                Ok((KeyEncryptionKeyId::from_bytes(id), CheckValue::from_bytes(check_value)))
            })
            .collect()
    }

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
        let rows = self.read(FIND, &[&purpose]).await?;
        rows.first().map(|row| row.get(0)).ok_or(Error::Row("service_key"))
    }
}

fn fixed<const N: usize>(bytes: &[u8]) -> Result<[u8; N], Error> {
    bytes.try_into().map_err(|_| Error::Row("key_encryption_key"))
}
