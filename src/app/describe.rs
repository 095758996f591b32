//! Lists certificates in pages.

use super::page::{List, page_size};
use super::violation::Violations;
use super::{App, Call, Error, Field};
use crate::inventory::{CertificateId, CertificateKind, ResourceGroupId};
use crate::store::{Filter, Liveness, Position, StoredCertificate};

/// The filters and the page of a list. A certificate must match every filter that is set.
#[derive(Debug)]
pub struct DescribeCertificates {
    /// The kind of the certificates.
    pub kind: CertificateKind,
    /// The region; empty: any.
    pub region_id: String,
    /// The id; empty: any.
    pub id: String,
    /// The resource group; empty: any.
    pub resource_group_id: String,
    /// Tags that every certificate must have.
    pub tags: Vec<(String, String)>,
    /// List deleted certificates instead of live certificates.
    pub deleted: bool,
    /// The maximum number of certificates in the answer; 0: the default.
    pub page_size: i32,
    /// The token of the page; empty: the first page.
    pub page_token: String,
}

/// A page of certificates.
#[derive(Debug, Default)]
pub struct Described {
    /// The certificates, oldest first.
    pub certificates: Vec<StoredCertificate>,
    /// The token of the next page; empty on the last.
    pub next_page_token: String,
}

impl App {
    /// A page of the certificates that exist for the caller.
    pub async fn describe(&self, call: &Call, request: &DescribeCertificates) -> Result<Described, Error> {
        let liveness = if request.deleted {
            Liveness::Deleted
        } else {
            Liveness::Live
        };
        let mut filter = vec![
            request.region_id.as_str(),
            request.id.as_str(),
            if request.deleted { "deleted" } else { "" },
        ];
        for (key, value) in &request.tags {
            filter.extend([key.as_str(), value]);
        }
        if !request.resource_group_id.is_empty() {
            filter.push(&request.resource_group_id);
        }
        let list = List {
            name: match request.kind {
                CertificateKind::Server => "DescribeServerCertificates",
                CertificateKind::Ca => "DescribeCACertificates",
            },
            account: call.caller.account,
            filter: &filter,
        };
        let mut violations = Violations::default();
        let region = violations.check(Field::RegionId, self.region_or_any(call, &request.region_id));
        let tags = violations.tags(request.tags.clone());
        let size = violations.check(Field::PageSize, page_size(request.page_size));
        let after = violations.check(Field::PageToken, self.0.page_tokens.read(list, &request.page_token));
        let (Some(region), Some(tags), Some(size), Some(after)) = (region, tags, size, after) else {
            return Err(violations.into());
        };
        // A malformed id belongs to no group. An unknown group has no certificates.
        let resource_group = match request.resource_group_id.as_str() {
            "" => None,
            id => match ResourceGroupId::parse(id) {
                Some(group) => Some(group),
                None => return Ok(Described::default()),
            },
        };
        let filter = Filter {
            kind: request.kind,
            resource_group: resource_group.as_ref(),
            region: region.as_ref(),
            tags: &tags,
            liveness,
        };

        if !request.id.is_empty() {
            return self.describe_one(call, &request.id, filter, after).await;
        }
        let page = self.0.store.page(call.reach(), filter, after, size).await?;
        Ok(Described {
            certificates: page.certificates,
            next_page_token: self.next_page_token(list, page.next)?,
        })
    }

    /// A list of one certificate or none. An unknown id is not an error.
    async fn describe_one(
        &self,
        call: &Call,
        id: &str,
        filter: Filter<'_>,
        after: Position,
    ) -> Result<Described, Error> {
        let id = CertificateId::parse(id).ok();
        let id = id.filter(|id| id.account == call.caller.account && after == Position::START);
        let certificates = match id {
            Some(id) => {
                self.0
                    .store
                    .find(id, filter.kind, filter.region, filter.liveness)
                    .await?
            }
            None => None,
        };
        let is_wanted = |found: &StoredCertificate| {
            filter
                .tags
                .iter()
                .all(|tag| found.tags.iter().any(|other| other == tag))
                && call.reaches(found)
                && filter.resource_group.is_none_or(|group| *group == found.resource_group)
        };
        let certificates = certificates.filter(is_wanted).into_iter().collect();
        Ok(Described {
            certificates,
            next_page_token: String::new(),
        })
    }
}
