//! The certificates that a watch is about.

use std::collections::BTreeSet;
use std::sync::Arc;

use super::super::changes::{Change, ChangeKind, FilterState};
use super::super::target::own_id;
use super::super::violation::Violations;
use super::super::{App, Call, Error, Field, FieldError, Resource};
use super::{WatchCertificates, WatchedKind};
use crate::digest;
use crate::inventory::{CertificateId, CertificateKind, RegionId, ResourceGroupId, Scope, Tags, parse_name_prefix};
use crate::store::StoredCertificate;

/// The maximum number of ids.
const MAX_IDS: usize = 1000;

/// The filters of a watch, and the scope of its caller.
pub(super) struct Wanted {
    pub(super) region: Option<RegionId>,
    /// Empty: any.
    pub(super) ids: BTreeSet<CertificateId>,
    pub(super) resource_group: Option<ResourceGroupId>,
    pub(super) tags: Tags,
    pub(super) name_prefix: Option<String>,
    pub(super) scope: Arc<Scope>,
    /// Of all of these.
    hash: String,
}

impl Wanted {
    pub(super) fn parse(app: &App, call: &Call, request: &WatchCertificates) -> Result<Self, Error> {
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, app.region_or_any(call, &request.region_id));
        let count = request.ids.len();
        let too_many = FieldError::TooMany { count, max: MAX_IDS };
        violations.note(Field::CertificateIds, (count > MAX_IDS).then_some(too_many));
        let tags = violations.tags(request.tags.clone());
        let prefix = match request.name_prefix.as_str() {
            "" => Ok(None),
            text => parse_name_prefix(text).map(Some).map_err(FieldError::Criterion),
        };
        let name_prefix = violations.check(Field::CertificateNamePrefix, prefix);
        let (Some(region), Some(tags), Some(name_prefix), true) = (region, tags, name_prefix, violations.is_empty())
        else {
            return Err(violations.into());
        };
        let kind = Some(CertificateKind::Server);
        let ids = request.ids.iter().map(|id| own_id(call, kind, id));
        let resource_group = match request.resource_group_id.as_str() {
            "" => None,
            id => Some(ResourceGroupId::parse(id).ok_or(Error::NotFound(Resource::ResourceGroup))?),
        };
        let mut wanted = Self {
            region,
            ids: ids.collect::<Result<_, _>>()?,
            resource_group,
            tags,
            name_prefix,
            scope: call.caller.scope.clone(),
            hash: String::new(),
        };
        wanted.hash = wanted.compute_hash();
        Ok(wanted)
    }

    /// Tells the filters and the scope apart from all others. A token of a narrower scope would skip the certificates of a wider one.
    pub(super) fn hash(&self) -> &str {
        &self.hash
    }

    fn compute_hash(&self) -> String {
        let ids: Vec<_> = self.ids.iter().map(ToString::to_string).collect();
        let tags: Vec<_> = self.tags.iter().flat_map(|tag| [tag.key(), tag.value()]).collect();
        let scope = &self.scope;
        let groups = |groups: &[ResourceGroupId]| groups.iter().map(ToString::to_string).collect::<Vec<_>>();
        let regions = |regions: &[RegionId]| regions.iter().map(ToString::to_string).collect::<Vec<_>>();
        let parts: [Vec<String>; 8] = [
            regions(self.region.as_slice()),
            ids,
            groups(self.resource_group.as_slice()),
            tags.into_iter().map(str::to_owned).collect(),
            self.name_prefix.iter().cloned().collect(),
            regions(&scope.regions),
            groups(&scope.resource_groups),
            scope.name_prefixes.clone(),
        ];
        let mut bound = Vec::new();
        for part in parts {
            bound.extend_from_slice(&(part.len() as u64).to_be_bytes());
            for text in part {
                bound.extend_from_slice(&(text.len() as u64).to_be_bytes());
                bound.extend_from_slice(text.as_bytes());
            }
        }
        hex::encode(digest::sha256(&bound))
    }

    /// Whether a certificate in this state exists for the caller.
    pub(super) fn reaches(&self, state: &FilterState) -> bool {
        self.scope.has(&state.region, &state.resource_group, &state.name)
    }

    /// Whether the watch is about a certificate in this state, live or deleted.
    pub(super) fn has(&self, id: CertificateId, state: &FilterState) -> bool {
        (self.ids.is_empty() || self.ids.contains(&id))
            && self.region.as_ref().is_none_or(|region| *region == state.region)
            && self
                .resource_group
                .as_ref()
                .is_none_or(|group| *group == state.resource_group)
            && self
                .name_prefix
                .as_ref()
                .is_none_or(|prefix| state.name.as_str().starts_with(prefix.as_str()))
            && self.tags.iter().all(|tag| state.tags.iter().any(|other| other == tag))
            && self.reaches(state)
    }

    /// The message of a change. `None`: the change is none of the watch's business.
    pub(super) fn kind_of(&self, change: &Change) -> Option<WatchedKind> {
        if change.kind != CertificateKind::Server || !(self.ids.is_empty() || self.ids.contains(&change.id)) {
            return None;
        }
        let has = |state: &Option<Arc<FilterState>>| state.as_deref().is_some_and(|state| self.has(change.id, state));
        let was_in = has(&change.before);
        let kind = match change.change {
            ChangeKind::Purged => return was_in.then_some(WatchedKind::Purged),
            kind => WatchedKind::from(kind),
        };
        match (was_in, has(&change.after)) {
            (true, true) => Some(kind),
            (false, true) => Some(WatchedKind::Uploaded),
            (true, false) => Some(WatchedKind::Left),
            (false, false) => None,
        }
    }

    /// The certificate of a message: the present one, if it is live and exists for the caller.
    pub(super) fn shown(&self, certificate: Option<&Arc<StoredCertificate>>) -> Option<Arc<StoredCertificate>> {
        let is_shown = |stored: &&Arc<StoredCertificate>| {
            stored.deleted.is_none() && self.scope.has(&stored.region, &stored.resource_group, &stored.name)
        };
        certificate.filter(is_shown).cloned()
    }
}
