//! Walks along the index of an order, where no criterion is selective.

use super::Order;
use super::criteria::criteria;
use super::page::page_of_listed;
use crate::store::Statement;
use crate::store::read::{columns, octets};
use crate::store::scope::in_scope;

/// Walks from the cursor to the sort key `last`, in steps of 10 rows, until enough rows match or 10,000 rows are read. `rows` are
/// the rows of a step, in an order that one index alone has. The row at the limit is listed too: the next page begins there. The
/// recursive query hides both ends from the planner, so that it takes that index for the order.
macro_rules! walk {
    ($name:literal, $key:literal, $from:literal, $last:literal, $rows:literal) => {
        page_of_listed!(
            $name,
            "with recursive walked as (
              select ", $from, " as sort_key, ", $last, " as last, $4::bigint as walked_ms, $5::bigint as walked_random,
                false as is_match, 0::bigint as place, 0::bigint as matches
              from (select $2::bigint as expiry, $3::text collate \"C\" as name) as after
              union all
              select next.sort_key, walked.last, created_ms, random, next.is_match, next.place, next.matches
              from walked cross join lateral (
                select sort_key, created_ms, random, is_match, walked.place + row_number() over in_order as place,
                  walked.matches + count(*) filter (where is_match) over in_order as matches
                from (
                  select ", $key, " as sort_key, created_ms, random, ", criteria!(), " as is_match
                  from (", $rows, " limit 10) as certificate
                  offset 0
                ) as step
                window in_order as (order by sort_key, created_ms, random)
              ) as next
              where walked.place % 10 = 0 and walked.place < 10000 and walked.matches < $6
            ),
            listed as (
              select walked_ms as listed_ms, walked_random as listed_random, is_match, place = 10000 as is_last, place
              from walked where place > 0 and (is_match or place = 10000)
            ) "
        )
    };
}

/// The walk in this order.
pub(super) fn along(order: Order) -> Statement {
    match order {
        Order::CreateTime => BY_CREATION,
        Order::ExpireTime => BY_EXPIRY,
        Order::Name => BY_NAME,
    }
}

const BY_CREATION: Statement = walk!(
    "store::search_walk_by_creation",
    "0::bigint",
    "0::bigint",
    "0::bigint",
    "select * from certificate
     where account_id = $1 and deleted_at is null and kind = 'server' and (created_ms, random) > (walked.walked_ms, walked.walked_random)
     order by created_ms, random"
);
const BY_EXPIRY: Statement = walk!(
    "store::search_walk_by_expiry",
    "chain_not_after_ms",
    "after.expiry",
    "coalesce($15::bigint, 9223372036854775807) - 1",
    "select * from certificate
     where account_id = $1 and deleted_at is null and kind = 'server' and chain_not_after_ms <= walked.last
       and (chain_not_after_ms, created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by chain_not_after_ms, created_ms, random"
);
// No name contains U+10FFFF, the last code point.
const BY_NAME: Statement = walk!(
    "store::search_walk_by_name",
    "name collate \"C\"",
    "after.name",
    "(coalesce($16::text, '') || chr(1114111)) collate \"C\"",
    "select * from certificate
     where account_id = $1 and deleted_at is null and kind = 'server' and name collate \"C\" <= walked.last
       and (name collate \"C\", created_ms, random) > (walked.sort_key, walked.walked_ms, walked.walked_random)
     order by name collate \"C\", created_ms, random"
);
