//! The part of an account that a caller may see and change.

use super::{CertificateName, RegionId, ResourceGroupId};

/// A scope: the regions, the resource groups and the beginnings of names of the certificates that exist for a caller. An empty list
/// is no limit. A certificate must meet all three lists.
#[derive(Clone, Debug, Default, Eq, Hash, PartialEq)]
pub struct Scope {
    /// The regions; empty: every region.
    pub regions: Vec<RegionId>,
    /// The resource groups; empty: every group.
    pub resource_groups: Vec<ResourceGroupId>,
    /// The beginnings of names; empty: every name.
    pub name_prefixes: Vec<String>,
}

impl Scope {
    /// The longest list.
    pub const MAX_LEN: usize = 20;

    /// Whether the scope is the whole account.
    pub fn is_everything(&self) -> bool {
        self.regions.is_empty() && self.resource_groups.is_empty() && self.name_prefixes.is_empty()
    }

    /// Whether certificates of the region can be in the scope.
    pub fn has_region(&self, region: &RegionId) -> bool {
        self.regions.is_empty() || self.regions.contains(region)
    }

    /// Whether certificates of the resource group can be in the scope.
    pub fn has_resource_group(&self, group: &ResourceGroupId) -> bool {
        self.resource_groups.is_empty() || self.resource_groups.contains(group)
    }

    /// Whether certificates with the name can be in the scope.
    pub fn has_name(&self, name: &CertificateName) -> bool {
        has_prefix(&self.name_prefixes, name.as_str())
    }

    /// Whether a certificate with these values is in the scope.
    pub fn has(&self, region: &RegionId, group: &ResourceGroupId, name: &CertificateName) -> bool {
        self.has_region(region) && self.has_resource_group(group) && self.has_name(name)
    }

    /// Whether every certificate of `inner` is in this scope too.
    pub fn includes(&self, inner: &Self) -> bool {
        let part = |outer_is_all: bool, inner_is_all: bool, all: bool| outer_is_all || (!inner_is_all && all);
        part(
            self.regions.is_empty(),
            inner.regions.is_empty(),
            inner.regions.iter().all(|region| self.has_region(region)),
        ) && part(
            self.resource_groups.is_empty(),
            inner.resource_groups.is_empty(),
            inner.resource_groups.iter().all(|group| self.has_resource_group(group)),
        ) && part(
            self.name_prefixes.is_empty(),
            inner.name_prefixes.is_empty(),
            inner
                .name_prefixes
                .iter()
                .all(|prefix| has_prefix(&self.name_prefixes, prefix)),
        )
    }

    /// The scope of the certificates that are in both scopes. `None`: there can be none.
    pub fn intersection(&self, other: &Self) -> Option<Self> {
        let regions = common(&self.regions, &other.regions, |one, two| {
            (one == two).then(|| one.clone())
        })?;
        let resource_groups = common(&self.resource_groups, &other.resource_groups, |one, two| {
            (one == two).then(|| one.clone())
        })?;
        // Of two beginnings, the longer one is the stricter one.
        let name_prefixes = common(&self.name_prefixes, &other.name_prefixes, |one, two| {
            match (one.starts_with(two.as_str()), two.starts_with(one.as_str())) {
                (true, _) => Some(one.clone()),
                (_, true) => Some(two.clone()),
                _ => None,
            }
        })?;
        Some(Self {
            regions,
            resource_groups,
            name_prefixes,
        })
    }
}

fn has_prefix(prefixes: &[String], name: &str) -> bool {
    prefixes.is_empty() || prefixes.iter().any(|prefix| name.starts_with(prefix.as_str()))
}

/// The common elements of two lists of which an empty one has no limit. `None`: both have a limit and nothing in common.
fn common<T: Clone + PartialEq>(one: &[T], two: &[T], both: impl Fn(&T, &T) -> Option<T>) -> Option<Vec<T>> {
    if one.is_empty() || two.is_empty() {
        return Some([one, two].concat());
    }
    let mut found: Vec<T> = Vec::new();
    for element in one.iter().flat_map(|one| two.iter().filter_map(|two| both(one, two))) {
        if !found.contains(&element) {
            found.push(element);
        }
    }
    (!found.is_empty()).then_some(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope(regions: &[&str], prefixes: &[&str]) -> Scope {
        Scope {
            regions: regions
                .iter()
                .map(|id| RegionId::from_stored((*id).to_owned()))
                .collect(),
            resource_groups: Vec::new(),
            name_prefixes: prefixes.iter().map(|prefix| (*prefix).to_owned()).collect(),
        }
    }

    #[test]
    fn an_empty_scope_is_everything() {
        let all = Scope::default();
        assert!(all.is_everything());
        assert!(all.has_region(&RegionId::from_stored("r1".into())));
        assert!(all.has_name(&CertificateName::from_stored("any".into())));
        assert!(!scope(&["r1"], &[]).is_everything());
    }

    #[test]
    fn a_scope_has_its_own_regions_and_names_only() {
        let own = scope(&["r1"], &["shop-", "pay."]);
        assert!(own.has_region(&RegionId::from_stored("r1".into())));
        assert!(!own.has_region(&RegionId::from_stored("r11".into())));
        for (name, is_in) in [("shop-1", true), ("pay.x", true), ("pay", false), ("Shop-1", false)] {
            assert_eq!(
                own.has_name(&CertificateName::from_stored(name.into())),
                is_in,
                "{name}"
            );
        }
    }

    #[test]
    fn a_scope_includes_narrower_scopes_only() {
        let outer = scope(&["r1", "r2"], &["shop-"]);
        assert!(outer.includes(&outer));
        assert!(outer.includes(&scope(&["r2"], &["shop-a"])));
        for wider in [
            Scope::default(),
            scope(&["r1"], &[]),
            scope(&[], &["shop-"]),
            scope(&["r1"], &["shop"]),
            scope(&["r3"], &["shop-"]),
        ] {
            assert!(!outer.includes(&wider), "{wider:?}");
            assert!(Scope::default().includes(&wider));
        }
    }

    #[test]
    fn an_intersection_has_what_both_have() {
        let one = scope(&["r1", "r2"], &["shop-", "pay-eu-"]);
        assert_eq!(one.intersection(&Scope::default()), Some(one.clone()));
        assert_eq!(Scope::default().intersection(&one), Some(one.clone()));
        let two = scope(&["r2", "r3"], &["pay-", "shop-a", "shop-"]);
        let both = one.intersection(&two).unwrap();
        assert_eq!(both, scope(&["r2"], &["shop-a", "shop-", "pay-eu-"]));
        assert_eq!(two.intersection(&one).unwrap().name_prefixes.len(), 3);
        assert_eq!(one.intersection(&scope(&["r3"], &[])), None);
        assert_eq!(one.intersection(&scope(&[], &["x"])), None);
    }
}
