//! The tags of certificates, of both kinds alike.

use super::describe::page_size;
use super::page_token::List;
use super::target::own_id;
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError, Resource, Role};
use crate::inventory::{CertificateId, CertificateKind, RegionId, Tags};
use crate::store::{Filter, Liveness, Page, Position, Tagged, Tagging};

/// What to do with tags.
enum TagChange<'a> {
    Set(&'a Tags),
    Remove(&'a [String]),
    RemoveAll,
}

/// The most resources that one call names.
const MAX_RESOURCES: usize = 20;
/// The only type of resources that there is: certificates of both kinds.
pub const RESOURCE_TYPE: &str = "certificate";

/// Which certificates a call on tags is about.
#[derive(Debug)]
pub struct TaggedResources {
    /// Their region.
    pub region_id: String,
    /// `certificate`.
    pub resource_type: String,
    /// Their ids, 1 to 20.
    pub resource_ids: Vec<String>,
}

/// Which tags to list.
#[derive(Debug)]
pub struct ListTagResources {
    /// Of which certificates; without ids: of all that have these tags.
    pub resources: TaggedResources,
    /// Tags that all of them have.
    pub tags: Vec<(String, String)>,
    /// How many certificates to answer at most; 0 means the default.
    pub page_size: i32,
    /// Where the last page ended; empty: at the start.
    pub next_token: String,
}

/// A page of certificates with their tags.
#[derive(Debug)]
pub struct ListedTagResources {
    /// The certificates that have tags.
    pub resources: Vec<(CertificateId, Tags)>,
    /// The token of the next page; empty on the last.
    pub next_token: String,
}

impl App {
    /// Sets tags of certificates: of all of them, or of none. A key that is there gets the new value.
    pub async fn tag_resources(
        &self,
        call: &Call,
        request: &TaggedResources,
        tags: Vec<(String, String)>,
    ) -> Result<(), Error> {
        call.caller.require(Role::Editor)?;
        let mut violations = Violations::default();
        let named = self.named(request, &mut violations);
        violations.note(Field::Tags, tags.is_empty().then_some(FieldError::Required));
        let tags = violations.tags(tags);
        let (Some(region), Some(tags), true) = (named, tags, violations.is_empty()) else {
            return Err(violations.into());
        };
        let change = TagChange::Set(&tags);
        self.change_tags(call, (&region, &request.resource_ids), change).await
    }

    /// Removes the tags of these keys, or all, of certificates: of all of them, or of none.
    pub async fn untag_resources(
        &self,
        call: &Call,
        request: &TaggedResources,
        (keys, all): (Vec<String>, bool),
    ) -> Result<(), Error> {
        call.caller.require(Role::Editor)?;
        let mut violations = Violations::default();
        let region = self.named(request, &mut violations);
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

    /// The region, if that and the other fields are right; what is not is noted.
    fn named(&self, request: &TaggedResources, violations: &mut Violations) -> Option<RegionId> {
        let region = violations.check(Field::RegionId, self.region(&request.region_id));
        violations.check(Field::ResourceType, resource_type(&request.resource_type));
        let error = match request.resource_ids.len() {
            0 => Some(FieldError::Required),
            1..=MAX_RESOURCES => None,
            count => Some(FieldError::TooMany {
                count,
                max: MAX_RESOURCES,
            }),
        };
        violations.note(Field::ResourceIds, error);
        region
    }

    async fn change_tags(
        &self,
        call: &Call,
        (region, ids): (&RegionId, &[String]),
        change: TagChange<'_>,
    ) -> Result<(), Error> {
        let ids = named_ids(call, ids)?;
        let nothing = Tags::default();
        // Again for each change by another call in between, which has got on with it.
        loop {
            let found = self.0.store.tagged(call.caller.account, region, &ids).await?;
            for (index, id) in ids.iter().enumerate() {
                let is_it = |one: &&Tagged| (one.id.created, one.id.random) == (id.created, id.random);
                let Some(certificate) = found.iter().find(is_it) else {
                    return Err(Error::NotFound(Resource::of(*id)));
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
            // Of the keys given those that there are.
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
            let changed: Vec<_> = found.into_iter().filter(is_change).collect();
            let Some(first) = changed.first() else {
                return Ok(());
            };
            let tagging = Tagging { set, remove: &remove };
            if self.0.store.set_tags(call.change(first.id), &changed, tagging).await? {
                return Ok(());
            }
        }
    }

    /// The tags of the certificates that are named, or of those that have all of these tags. A certificate's tags are on one page.
    pub async fn list_tag_resources(
        &self,
        call: &Call,
        request: &ListTagResources,
    ) -> Result<ListedTagResources, Error> {
        call.caller.require(Role::Reader)?;
        let resources = &request.resources;
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region(&resources.region_id));
        violations.check(Field::ResourceType, resource_type(&resources.resource_type));
        let error = match (resources.resource_ids.len(), request.tags.is_empty()) {
            (0, true) => Some(FieldError::Required),
            (0..=MAX_RESOURCES, _) => None,
            (count, _) => Some(FieldError::TooMany {
                count,
                max: MAX_RESOURCES,
            }),
        };
        violations.note(Field::ResourceIds, error);
        let tags = violations.tags(request.tags.clone());
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        // A token of the list of each kind, which are read one behind the other.
        let ids = resources.resource_ids.len().to_string();
        let mut filter = vec![resources.region_id.as_str(), &ids];
        filter.extend(resources.resource_ids.iter().map(String::as_str));
        for (key, value) in &request.tags {
            filter.extend([key.as_str(), value]);
        }
        let list = |kind| List {
            name: match kind {
                CertificateKind::Server => "ListTagResources",
                CertificateKind::Ca => "ListTagResources of CA certificates",
            },
            account: call.caller.account,
            filter: &filter,
        };
        let page_tokens = &self.0.page_tokens;
        let place = match page_tokens.read(list(CertificateKind::Server), &request.next_token) {
            Ok(after) => Ok((CertificateKind::Server, after)),
            Err(_) => page_tokens
                .read(list(CertificateKind::Ca), &request.next_token)
                .map(|after| (CertificateKind::Ca, after)),
        };
        let place = violations.check(Field::NextToken, place.map_err(|_| FieldError::PageToken));
        let (Some(region), Some(tags), Some(size), Some((kind, after)), true) =
            (region, tags, size, place, violations.is_empty())
        else {
            return Err(violations.into());
        };
        if !resources.resource_ids.is_empty() {
            return self.tags_of(call, (&region, &resources.resource_ids), &tags).await;
        }
        // What has both kinds could pass what an answer may hold: a page is of one.
        let account = call.caller.account;
        let page = async |kind, after| {
            let filter = Filter {
                kind,
                region: Some(&region),
                resource_group: None,
                tags: &tags,
                liveness: Liveness::Live,
            };
            self.0.store.page(account, filter, after, size).await
        };
        let mut read = (kind, page(kind, after).await?);
        if kind == CertificateKind::Server && read.1.certificates.is_empty() {
            read = (CertificateKind::Ca, page(CertificateKind::Ca, Position::START).await?);
        }
        let next_token = match read {
            (kind, Page { next: Some(next), .. }) => self.next_page_token(list(kind), Some(next)),
            (CertificateKind::Server, _) => self.next_page_token(list(CertificateKind::Ca), Some(Position::START)),
            (CertificateKind::Ca, _) => String::new(),
        };
        let resources = read.1.certificates.into_iter().map(|one| (one.id, one.tags));
        Ok(ListedTagResources {
            resources: resources.collect(),
            next_token,
        })
    }

    /// Of these certificates, in their order; what is unknown is left out.
    async fn tags_of(
        &self,
        call: &Call,
        (region, ids): (&RegionId, &[String]),
        tags: &Tags,
    ) -> Result<ListedTagResources, Error> {
        let account = call.caller.account;
        let ids = ids
            .iter()
            .filter_map(|id| CertificateId::parse(CertificateKind::Server, id).ok());
        let ids: Vec<_> = ids.filter(|id| id.account == account).collect();
        let mut found = self.0.store.tagged(account, region, &ids).await?;
        found.retain(|one| tags.iter().all(|tag| one.tags.iter().any(|other| other == tag)));
        found.sort_by_key(|one| {
            let is_it = |id: &CertificateId| (id.created, id.random) == (one.id.created, one.id.random);
            ids.iter().position(is_it)
        });
        Ok(ListedTagResources {
            resources: found.into_iter().map(|one| (one.id, one.tags)).collect(),
            next_token: String::new(),
        })
    }
}

/// Whether this is the type of resources that there is.
pub(super) fn resource_type(asked: &str) -> Result<(), FieldError> {
    match asked {
        "" => Err(FieldError::Required),
        RESOURCE_TYPE => Ok(()),
        _ => Err(FieldError::ResourceType),
    }
}

/// The ids, of which each is one of the caller's account; which kind each is of is not known yet.
pub(super) fn named_ids(call: &Call, ids: &[String]) -> Result<Vec<CertificateId>, Error> {
    ids.iter().map(|id| own_id(call, CertificateKind::Server, id)).collect()
}
