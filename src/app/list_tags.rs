//! Lists the tags of certificates.

use super::page::{List, page_size};
use super::resources::{MAX_RESOURCES, TaggedResources, resource_type};
use super::violation::Violations;
use super::{App, Call, Error, Field, FieldError};
use crate::inventory::{CertificateId, CertificateKind, RegionId, Tags};
use crate::store::{Filter, Liveness, Page, Position};

/// The tags to list.
#[derive(Debug)]
pub struct ListTagResources {
    /// The certificates. Without ids, the tags of all certificates with these tags are listed.
    pub resources: TaggedResources,
    /// Tags that each certificate must have.
    pub tags: Vec<(String, String)>,
    /// The maximum number of certificates in a page; 0: the default.
    pub page_size: i32,
    /// The token of the page; empty: the first page.
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
    /// Lists the tags of the named certificates, or of all certificates with these tags. The tags of one certificate are on one page.
    pub async fn list_tag_resources(
        &self,
        call: &Call,
        request: &ListTagResources,
    ) -> Result<ListedTagResources, Error> {
        let resources = &request.resources;
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region(call, &resources.region_id));
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
        // The list of server certificates comes first, then the list of CA certificates. Each has its own tokens.
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
        // A page has certificates of one kind. A page with both kinds could exceed the maximum size of an answer.
        let page = async |kind, after| {
            let filter = Filter {
                kind,
                region: Some(&region),
                resource_group: None,
                tags: &tags,
                liveness: Liveness::Live,
            };
            self.0.store.page(call.reach(), filter, after, size).await
        };
        let mut read = (kind, page(kind, after).await?);
        if kind == CertificateKind::Server && read.1.certificates.is_empty() && read.1.next.is_none() {
            read = (CertificateKind::Ca, page(CertificateKind::Ca, Position::START).await?);
        }
        let next_token = match read {
            (kind, Page { next: Some(next), .. }) => self.next_page_token(list(kind), Some(next))?,
            (CertificateKind::Server, _) => self.next_page_token(list(CertificateKind::Ca), Some(Position::START))?,
            (CertificateKind::Ca, _) => String::new(),
        };
        let resources = read.1.certificates.into_iter().map(|one| (one.id, one.tags));
        Ok(ListedTagResources {
            resources: resources.collect(),
            next_token,
        })
    }

    /// The tags of these certificates, in the given order. Unknown certificates are omitted.
    async fn tags_of(
        &self,
        call: &Call,
        (region, ids): (&RegionId, &[String]),
        tags: &Tags,
    ) -> Result<ListedTagResources, Error> {
        let account = call.caller.account;
        let ids = ids.iter().filter_map(|id| CertificateId::parse(id).ok());
        let ids: Vec<_> = ids.filter(|id| id.account == account).collect();
        let mut found = self.0.store.tagged(call.reach(), region, &ids).await?;
        found.retain(|one| tags.iter().all(|tag| one.tags.iter().any(|other| other == tag)));
        found.sort_by_key(|one| ids.iter().position(|id| *id == one.id));
        Ok(ListedTagResources {
            resources: found.into_iter().map(|one| (one.id, one.tags)).collect(),
            next_token: String::new(),
        })
    }
}
