//! A page of found certificates: from the rows that a statement lists to the certificates and the next cursor.

use tokio_postgres::Row;

use super::criteria::criteria;
use super::{Cursor, Error, FoundPage, Order};
use crate::store::Statement;
use crate::store::read::{columns, octets, stored};
use crate::store::scope::in_scope;

/// The certificates that the CTE `listed` names, in its order. The page ends before its texts pass 3 MiB, but never before the
/// first row. `listed` counts the rows before that cut.
macro_rules! page_of_listed {
    ($name:literal, $($listed:tt)*) => {
        Statement {
            name: $name,
            sql: concat!(
                "-- ",
                $name,
                "\n",
                $($listed)*,
                "select * from (
                  select *, count(*) over () as listed, sum(", octets!(), ") over (order by place) as octets,
                    row_number() over (order by place) as row
                  from (",
                columns!(),
                ", place, is_match, is_last
                  from listed cross join lateral (
                    select * from certificate
                    where account_id = $1 and created_ms = listed_ms and random = listed_random offset 0
                  ) as certificate
                  order by place limit $6) as page
                ) as measured
                where octets <= 3145728 or row = 1
                order by place"
            ),
        }
    };
}
pub(super) use page_of_listed;

/// Of the certificates with these ids, those that match all criteria, after the cursor.
pub(super) const OF_IDS: Statement = page_of_listed!(
    "store::search_ids",
    "with listed as (
      select created_ms as listed_ms, random as listed_random, true as is_match, false as is_last,
        row_number() over (order by expiry, name, created_ms, random) as place
      from (
        select case when $27::bool then chain_not_after_ms else 0 end as expiry,
          case when $28::bool then name else '' end collate \"C\" as name, created_ms, random
        from unnest($25::bigint[], $26::bigint[]) as id(id_ms, id_random) cross join lateral (
          select * from certificate where account_id = $1 and created_ms = id_ms and random = id_random offset 0
        ) as certificate
        where deleted_at is null and kind = 'server' and ",
    criteria!(),
    "
      ) as matching
      where (expiry, name, created_ms, random) > ($2::bigint, $3::text collate \"C\", $4::bigint, $5::bigint)
      order by expiry, name, created_ms, random limit $6
    ) "
);

/// The page that the rows of such a statement are.
pub(super) fn of_rows(rows: &[Row], order: Order, size: usize) -> Result<FoundPage, Error> {
    let is = |row: &Row, column| row.get::<_, bool>(column);
    let matching = rows.iter().filter(|row| is(row, "is_match"));
    let certificates = matching.clone().take(size).map(stored).collect::<Result<Vec<_>, _>>()?;
    let next = match rows.last() {
        // The statement found one more than the page has.
        _ if matching.count() > size => certificates.last().map(|last| Cursor::of(order, last)),
        // The page was cut at 3 MiB, or the walk ended at its limit.
        Some(last) if last.get::<_, i64>("listed") > rows.len() as i64 || is(last, "is_last") => {
            Some(Cursor::of(order, &stored(last)?))
        }
        _ => None,
    };
    Ok(FoundPage { certificates, next })
}
