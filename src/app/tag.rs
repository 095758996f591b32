//! Sets and removes tags of server and CA certificates.

use super::resources::{TaggedResources, named_ids};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, Resource};
use crate::inventory::{CertificateId, CertificateKind, RegionId, Tags};
use crate::store::{Tagged, Tagging};

/// A change of tags.
enum TagChange<'a> {
    Set(&'a Tags),
    Remove(&'a [String]),
    RemoveAll,
}

/// The certificates that a call named, in its order, with their revisions after the call.
pub type Revisions = Vec<(CertificateKind, CertificateId, i64)>;

impl App {
    /// Sets tags of all named certificates. If one certificate fails, none changes. An existing key gets the new value.
    pub async fn tag_resources(
        &self,
        call: &Call,
        request: &TaggedResources,
        tags: Vec<(String, String)>,
    ) -> Result<Revisions, Error> {
        let mut violations = Violations::default();
        let named = self.named_resources(call, request, &mut violations);
        violations.note(Field::Tags, tags.is_empty().then_some(FieldError::Required));
        let tags = violations.tags(tags);
        let (Some(region), Some(tags), true) = (named, tags, violations.is_empty()) else {
            return Err(violations.into());
        };
        let change = TagChange::Set(&tags);
        self.change_tags(call, (&region, &request.resource_ids), change).await
    }

    /// Removes the tags with these keys, or all tags, from all named certificates. If one certificate fails, none changes.
    pub async fn untag_resources(
        &self,
        call: &Call,
        request: &TaggedResources,
        (keys, all): (Vec<String>, bool),
    ) -> Result<Revisions, Error> {
        let mut violations = Violations::default();
        let region = self.named_resources(call, request, &mut violations);
        let error = match (keys.len(), all) {
            (0, false) => Some(FieldError::Required),
            (1.., true) => Some(FieldError::Excludes(Field::AllTags)),
            (0..=Tags::MAX, _) => None,
            (count, false) => Some(FieldError::TooMany { count, max: Tags::MAX }),
        };
        violations.note(Field::TagKeys, error);
        let (Some(region), true) = (region, violations.is_empty()) else {
            return Err(violations.into());
        };
        let change = match all {
            true => TagChange::RemoveAll,
            false => TagChange::Remove(&keys),
        };
        self.change_tags(call, (&region, &request.resource_ids), change).await
    }

    async fn change_tags(
        &self,
        call: &Call,
        (region, ids): (&RegionId, &[String]),
        change: TagChange<'_>,
    ) -> Result<Revisions, Error> {
        let ids = named_ids(call, ids)?;
        let nothing = Tags::default();
        // If another call changes a certificate between the read and the write, that call made progress. This call reads again.
        loop {
            let mut found = self.0.store.tagged(call.reach(), region, &ids).await?;
            found.sort_by_key(|one| ids.iter().position(|id| *id == one.id));
            for (index, id) in ids.iter().enumerate() {
                let Some(certificate) = found.iter().find(|one| one.id == *id) else {
                    return Err(Error::NotFound(Resource::Certificate(None, Some(*id))));
                };
                if let TagChange::Set(tags) = change {
                    let new = tags.iter().filter(|tag| !certificate.tags.has_key(tag.key()));
                    let count = certificate.tags.iter().count() + new.count();
                    if count > Tags::MAX {
                        return Err(Error::field(Field::Tags, FieldError::TagsOfResource { index, count }));
                    }
                }
            }
            let is_removed = |key: &str| match change {
                TagChange::Set(_) => false,
                TagChange::Remove(keys) => keys.iter().any(|removed| removed == key),
                TagChange::RemoveAll => true,
            };
            let keys = found.iter().flat_map(|one| one.tags.iter()).map(|tag| tag.key());
            let remove: Vec<String> = keys.filter(|key| is_removed(key)).map(str::to_owned).collect();
            let set = match change {
                TagChange::Set(tags) => tags,
                TagChange::Remove(_) | TagChange::RemoveAll => &nothing,
            };
            let is_change = |one: &Tagged| {
                let sets = set.iter().any(|tag| one.tags.iter().all(|other| other != tag));
                sets || one.tags.iter().any(|tag| is_removed(tag.key()))
            };
            let changed: Vec<_> = found.iter().filter(|one| is_change(one)).cloned().collect();
            if changed.is_empty() {
                // An earlier call made this change. This call answers for it.
                let seen: Vec<_> = found.iter().map(|one| (one.id, one.revision)).collect();
                if self.0.store.confirm(call.caller.account, &seen).await? {
                    return Ok(found.iter().map(|one| (one.kind, one.id, one.revision)).collect());
                }
                continue;
            }
            let tagging = Tagging { set, remove: &remove };
            if self.0.store.set_tags(&call.actor(), &changed, tagging).await? {
                // The statement changes a certificate only at the revision that was read, and adds 1.
                let revision = |one: &Tagged| one.revision + i64::from(is_change(one));
                return Ok(found.iter().map(|one| (one.kind, one.id, revision(one))).collect());
            }
        }
    }
}
