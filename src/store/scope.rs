//! The condition that keeps a statement inside the caller's scope.

use crate::account::AccountId;
use crate::inventory::{RegionId, ResourceGroupId, Scope};

/// At most so many rows are read for a page of a caller with a scope. Most of them can be outside the scope.
pub(super) const MAX_SCANNED: i64 = 10_000;

/// Whether a row of `certificate` is in the scope of these three parameters ([`parameters`]). Without limits it is always true.
macro_rules! in_scope {
    ($regions:literal, $groups:literal, $prefixes:literal) => {
        concat!(
            "(",
            $regions,
            "::text[] is null or region_id = any(",
            $regions,
            ")) and (",
            $groups,
            "::text[] is null or coalesce(resource_group_id, '') = any(",
            $groups,
            ")) and (",
            $prefixes,
            "::text[] is null or name ^@ any(",
            $prefixes,
            "))"
        )
    };
}
pub(super) use in_scope;

/// The regions, the resource groups and the beginnings of names. `None`: no limit.
pub(super) fn parameters(scope: &Scope, account: AccountId) -> [Option<Vec<&str>>; 3] {
    fn list<'a, T>(values: &'a [T], text: impl Fn(&'a T) -> &'a str) -> Option<Vec<&'a str>> {
        (!values.is_empty()).then(|| values.iter().map(text).collect())
    }
    [
        list(&scope.regions, RegionId::as_str),
        list(&scope.resource_groups, |group| stored_group(group, account)),
        list(&scope.name_prefixes, String::as_str),
    ]
}

/// The group as the indexes have it: the default group is null in its column, and `''` in an index.
pub(super) fn stored_group(group: &ResourceGroupId, account: AccountId) -> &str {
    group.stored(account).unwrap_or_default()
}
