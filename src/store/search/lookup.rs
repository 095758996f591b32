//! Look-ups of the ids of certificates by a selective criterion.

use super::criteria::{Parameter, Parameters};
use super::{Error, Store};
use crate::store::Statement;

/// At most so many certificates are read for one page: 1,000, and the 1,000 deleted ones that an account can have.
const MAX_IDS: usize = 2000;
/// At most so many names are read for a domain: one certificate can have many names below it.
const MAX_NAMES: i64 = 10_000;

/// The ids of at most 2,001 certificates with this value; `entry` is what the index has of it. The range and its order leave the
/// planner one index, however little it knows.
macro_rules! ids {
    ($name:literal, $entry_of_row:literal, $entry:literal, $is_equal:literal) => {
        Statement {
            name: $name,
            sql: concat!(
                "-- ",
                $name,
                "\nselect created_ms, random, 0::bigint as names from certificate
                 where account_id = $1 and deleted_at is null and kind = 'server'
                   and ",
                $entry_of_row,
                " >= ",
                $entry,
                " and ",
                $entry_of_row,
                " <= ",
                $entry,
                " and ",
                $is_equal,
                "
                 order by ",
                $entry_of_row,
                " limit 2001"
            ),
        }
    };
}

const BY_FINGERPRINT: Statement = ids!(
    "store::search_fingerprint",
    "substr(fingerprint, 1, 8)",
    "substr($2::bytea, 1, 8)",
    "fingerprint = $2"
);
const BY_FINGERPRINT_SHA256: Statement = ids!(
    "store::search_fingerprint_sha256",
    "substr(fingerprint_sha256, 1, 8)",
    "substr($2::bytea, 1, 8)",
    "fingerprint_sha256 = $2"
);
const BY_KEY: Statement = ids!(
    "store::search_key",
    "substr(spki_sha256, 1, 8)",
    "substr($2::bytea, 1, 8)",
    "spki_sha256 = $2"
);
const BY_SERIAL: Statement = Statement {
    name: "store::search_serial",
    sql: "-- store::search_serial
          select created_ms, random, 0::bigint as names
          from unnest($2::text[]) as sought(serial) cross join lateral (
            select created_ms, random from certificate
            where account_id = $1 and deleted_at is null and kind = 'server'
              and hashtextextended(serial_number, 0) >= hashtextextended(sought.serial, 0)
              and hashtextextended(serial_number, 0) <= hashtextextended(sought.serial, 0)
              and serial_number = sought.serial
            order by hashtextextended(serial_number, 0) limit 2001
          ) as certificate
          limit 2001",
};
const COMPROMISED: Statement = Statement {
    name: "store::search_compromised",
    sql: "-- store::search_compromised
          select created_ms, random, 0::bigint as names from compromised_certificate
          where account_id = $1 order by created_ms, random limit 2001",
};
/// `names` is the number of names read.
const BY_DOMAIN: Statement = Statement {
    name: "store::search_domain",
    sql: "-- store::search_domain
          select created_ms, random, (sum(count(*)) over ())::bigint as names
          from unnest($2::text[], $3::text[]) as sought(first, last) cross join lateral (
            select created_ms, random from searchable_name
            where account_id = $1
              and searchable_name >= sought.first collate \"C\" and searchable_name <= sought.last collate \"C\"
            order by searchable_name limit 10001
          ) as named
          group by created_ms, random limit 2001",
};

impl Parameters<'_> {
    /// The look-ups of the criteria that were given, each with its parameters.
    fn lookups(&self) -> Vec<(Statement, Vec<Parameter<'_>>)> {
        let mut lookups: Vec<(Statement, Vec<Parameter<'_>>)> = Vec::new();
        if let Some(fingerprint) = &self.fingerprint {
            let statement = if self.is_sha256 {
                BY_FINGERPRINT_SHA256
            } else {
                BY_FINGERPRINT
            };
            lookups.push((statement, vec![&self.account, fingerprint]));
        }
        if let Some(serials) = &self.serial_numbers {
            lookups.push((BY_SERIAL, vec![&self.account, serials]));
        }
        if let Some(spki_sha256) = &self.spki_sha256 {
            lookups.push((BY_KEY, vec![&self.account, spki_sha256]));
        }
        if let (Some(first), Some(last)) = (&self.first_domains, &self.last_domains) {
            lookups.push((BY_DOMAIN, vec![&self.account, first, last]));
        }
        if self.is_compromised {
            lookups.push((COMPROMISED, vec![&self.account]));
        }
        lookups
    }
}

impl Store {
    /// The ids of the certificates that meet the first criterion that is selective enough; `None` if no criterion is.
    pub(super) async fn selective_ids(&self, sought: &Parameters<'_>) -> Result<Option<(Vec<i64>, Vec<i64>)>, Error> {
        for (statement, parameters) in sought.lookups() {
            let rows = self.read(statement, &parameters).await?;
            let names: i64 = rows.first().map_or(0, |row| row.get("names"));
            if rows.len() <= MAX_IDS && names <= MAX_NAMES {
                let id = |row: &tokio_postgres::Row| (row.get::<_, i64>("created_ms"), row.get::<_, i64>("random"));
                return Ok(Some(rows.iter().map(id).unzip()));
            }
        }
        Ok(None)
    }
}
