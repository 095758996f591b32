//! CertificateService. Each call parses the request, runs the use case and renders the answer.

use tonic::{Request, Response, Status};

use super::call::{Authority, call_of};
use super::parse::{self, ca_certificate, server_certificate};
use super::pb::{self, certificate_service_server::CertificateService};
use super::render;
use super::status::status;
use super::words::field_name;
use crate::app::{
    App, Call, CheckServerCertificate, DescribeRegions, Error, ListAccountFingerprints, ListTagResources, ListVersions,
    MoveResourceGroup, TaggedResources,
};
use crate::secret::Secret;

pub(super) struct Door {
    app: App,
}

impl Door {
    pub(super) fn new(app: App) -> Self {
        Self { app }
    }
}

pub(super) type Answer<T> = Result<Response<T>, Status>;

pub(super) fn answer<T>(call: &Call, result: Result<T, Error>) -> Answer<T> {
    result
        .map(Response::new)
        .map_err(|error| status(call.request_id, &error))
}

#[tonic::async_trait]
impl CertificateService for Door {
    async fn upload_server_certificate(
        &self,
        mut request: Request<pb::UploadServerCertificateRequest>,
    ) -> Answer<pb::UploadServerCertificateResponse> {
        // Takes both texts out of the generated message first, so that they are wiped on drop. Either text may contain a key.
        let private_key = Secret::from(std::mem::take(&mut request.get_mut().private_key));
        let server_certificate = Secret::from(std::mem::take(&mut request.get_mut().server_certificate));
        let call = call_of(&request)?;
        let upload = parse::upload_server_certificate(request.into_inner(), server_certificate, private_key);
        let uploaded = self.app.upload(&call, upload).await;
        answer(
            &call,
            uploaded.map(|uploaded| render::uploaded(call.request_id, uploaded)),
        )
    }

    async fn check_server_certificate(
        &self,
        mut request: Request<pb::CheckServerCertificateRequest>,
    ) -> Answer<pb::CheckServerCertificateResponse> {
        let private_key = Secret::from(std::mem::take(&mut request.get_mut().private_key));
        let server_certificate = Secret::from(std::mem::take(&mut request.get_mut().server_certificate));
        let call = call_of(&request)?;
        let request = CheckServerCertificate {
            server_certificate,
            private_key,
        };
        let checked = self.app.check(&call, request).await;
        answer(
            &call,
            checked.map(|checked| render::checked(call.request_id, checked, field_name)),
        )
    }

    async fn describe_server_certificates(
        &self,
        request: Request<pb::DescribeServerCertificatesRequest>,
    ) -> Answer<pb::DescribeServerCertificatesResponse> {
        let call = call_of(&request)?;
        let request = parse::describe_server_certificates(request.into_inner());
        let described = self.app.describe(&call, &request).await;
        answer(
            &call,
            described.map(|described| pb::DescribeServerCertificatesResponse {
                request_id: call.request_id.to_string(),
                server_certificates: described
                    .certificates
                    .into_iter()
                    .map(render::server_certificate)
                    .collect(),
                next_page_token: described.next_page_token,
            }),
        )
    }

    async fn search_server_certificates(
        &self,
        request: Request<pb::SearchServerCertificatesRequest>,
    ) -> Answer<pb::SearchServerCertificatesResponse> {
        let call = call_of(&request)?;
        let request = parse::search_server_certificates(request.into_inner());
        let found = self.app.search(&call, &request).await;
        answer(
            &call,
            found.map(|found| pb::SearchServerCertificatesResponse {
                request_id: call.request_id.to_string(),
                server_certificates: found.certificates.into_iter().map(render::server_certificate).collect(),
                next_page_token: found.next_page_token,
            }),
        )
    }

    async fn get_server_certificate(
        &self,
        request: Request<pb::GetServerCertificateRequest>,
    ) -> Answer<pb::GetServerCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = server_certificate(message.region_id, message.server_certificate_id, String::new());
        let found = self.app.get(&call, &target).await;
        answer(
            &call,
            found.map(|(certificate, certificate_chain)| pb::GetServerCertificateResponse {
                request_id: call.request_id.to_string(),
                server_certificate: Some(pb::ServerCertificate {
                    certificate_chain,
                    ..render::server_certificate(certificate)
                }),
            }),
        )
    }

    async fn set_server_certificate_name(
        &self,
        request: Request<pb::SetServerCertificateNameRequest>,
    ) -> Answer<pb::SetServerCertificateNameResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = server_certificate(message.region_id, message.server_certificate_id, message.if_etag);
        let renamed = self.app.rename(&call, &target, &message.server_certificate_name).await;
        answer(
            &call,
            renamed.map(|revision| pb::SetServerCertificateNameResponse {
                request_id: call.request_id.to_string(),
                etag: render::etag(revision),
            }),
        )
    }

    async fn delete_server_certificate(
        &self,
        request: Request<pb::DeleteServerCertificateRequest>,
    ) -> Answer<pb::DeleteServerCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = server_certificate(message.region_id, message.server_certificate_id, message.if_etag);
        let deleted = self.app.delete(&call, &target, message.force).await;
        answer(
            &call,
            deleted.map(|revision| pb::DeleteServerCertificateResponse {
                request_id: call.request_id.to_string(),
                etag: revision.map(render::etag).unwrap_or_default(),
            }),
        )
    }

    async fn undelete_server_certificate(
        &self,
        request: Request<pb::UndeleteServerCertificateRequest>,
    ) -> Answer<pb::UndeleteServerCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = server_certificate(message.region_id, message.server_certificate_id, message.if_etag);
        let undeleted = self.app.undelete(&call, &target).await;
        answer(
            &call,
            undeleted.map(|revision| pb::UndeleteServerCertificateResponse {
                request_id: call.request_id.to_string(),
                etag: render::etag(revision),
            }),
        )
    }

    async fn purge_server_certificate(
        &self,
        request: Request<pb::PurgeServerCertificateRequest>,
    ) -> Answer<pb::PurgeServerCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = server_certificate(message.region_id, message.server_certificate_id, message.if_etag);
        let purged = self.app.purge(&call, &target).await;
        answer(
            &call,
            purged.map(|()| pb::PurgeServerCertificateResponse {
                request_id: call.request_id.to_string(),
            }),
        )
    }

    async fn renew_server_certificate(
        &self,
        mut request: Request<pb::RenewServerCertificateRequest>,
    ) -> Answer<pb::RenewServerCertificateResponse> {
        let private_key = Secret::from(std::mem::take(&mut request.get_mut().private_key));
        let server_certificate = Secret::from(std::mem::take(&mut request.get_mut().server_certificate));
        let call = call_of(&request)?;
        let renewal = parse::renew_server_certificate(request.into_inner(), server_certificate, private_key);
        let renewed = self.app.renew(&call, renewal).await;
        answer(&call, renewed.map(|renewed| render::renewed(call.request_id, renewed)))
    }

    async fn list_server_certificate_versions(
        &self,
        request: Request<pb::ListServerCertificateVersionsRequest>,
    ) -> Answer<pb::ListServerCertificateVersionsResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let request = ListVersions {
            target: server_certificate(message.region_id, message.server_certificate_id, String::new()),
            page_size: message.page_size,
            page_token: message.page_token,
        };
        let listed = self.app.list_versions(&call, &request).await;
        answer(
            &call,
            listed.map(|listed| pb::ListServerCertificateVersionsResponse {
                request_id: call.request_id.to_string(),
                versions: listed.versions.into_iter().map(render::version).collect(),
                next_page_token: listed.next_page_token,
            }),
        )
    }

    async fn rollback_server_certificate(
        &self,
        request: Request<pb::RollbackServerCertificateRequest>,
    ) -> Answer<pb::RollbackServerCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = server_certificate(message.region_id, message.server_certificate_id, message.if_etag);
        let rolled_back = self.app.roll_back(&call, &target, message.version).await;
        answer(
            &call,
            rolled_back.map(|certificate| pb::RollbackServerCertificateResponse {
                request_id: call.request_id.to_string(),
                server_certificate: Some(render::server_certificate(certificate)),
            }),
        )
    }

    async fn upload_ca_certificate(
        &self,
        mut request: Request<pb::UploadCaCertificateRequest>,
    ) -> Answer<pb::UploadCaCertificateResponse> {
        let ca_certificate = Secret::from(std::mem::take(&mut request.get_mut().ca_certificate));
        let call = call_of(&request)?;
        let upload = parse::upload_ca_certificate(request.into_inner(), ca_certificate);
        let uploaded = self.app.upload(&call, upload).await;
        answer(
            &call,
            uploaded.map(|uploaded| render::uploaded_ca(call.request_id, uploaded)),
        )
    }

    async fn describe_ca_certificates(
        &self,
        request: Request<pb::DescribeCaCertificatesRequest>,
    ) -> Answer<pb::DescribeCaCertificatesResponse> {
        let call = call_of(&request)?;
        let request = parse::describe_ca_certificates(request.into_inner());
        let described = self.app.describe(&call, &request).await;
        answer(
            &call,
            described.map(|described| pb::DescribeCaCertificatesResponse {
                request_id: call.request_id.to_string(),
                ca_certificates: described.certificates.into_iter().map(render::ca_certificate).collect(),
                next_page_token: described.next_page_token,
            }),
        )
    }

    async fn get_ca_certificate(
        &self,
        request: Request<pb::GetCaCertificateRequest>,
    ) -> Answer<pb::GetCaCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = ca_certificate(message.region_id, message.ca_certificate_id, String::new());
        let found = self.app.get(&call, &target).await;
        answer(
            &call,
            found.map(|(certificate, ca_certificate)| pb::GetCaCertificateResponse {
                request_id: call.request_id.to_string(),
                ca_certificate: Some(pb::CaCertificate {
                    ca_certificate,
                    ..render::ca_certificate(certificate)
                }),
            }),
        )
    }

    async fn set_ca_certificate_name(
        &self,
        request: Request<pb::SetCaCertificateNameRequest>,
    ) -> Answer<pb::SetCaCertificateNameResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = ca_certificate(message.region_id, message.ca_certificate_id, message.if_etag);
        let renamed = self.app.rename(&call, &target, &message.ca_certificate_name).await;
        answer(
            &call,
            renamed.map(|revision| pb::SetCaCertificateNameResponse {
                request_id: call.request_id.to_string(),
                etag: render::etag(revision),
            }),
        )
    }

    async fn delete_ca_certificate(
        &self,
        request: Request<pb::DeleteCaCertificateRequest>,
    ) -> Answer<pb::DeleteCaCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = ca_certificate(message.region_id, message.ca_certificate_id, message.if_etag);
        let deleted = self.app.delete(&call, &target, message.force).await;
        answer(
            &call,
            deleted.map(|revision| pb::DeleteCaCertificateResponse {
                request_id: call.request_id.to_string(),
                etag: revision.map(render::etag).unwrap_or_default(),
            }),
        )
    }

    async fn undelete_ca_certificate(
        &self,
        request: Request<pb::UndeleteCaCertificateRequest>,
    ) -> Answer<pb::UndeleteCaCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = ca_certificate(message.region_id, message.ca_certificate_id, message.if_etag);
        let undeleted = self.app.undelete(&call, &target).await;
        answer(
            &call,
            undeleted.map(|revision| pb::UndeleteCaCertificateResponse {
                request_id: call.request_id.to_string(),
                etag: render::etag(revision),
            }),
        )
    }

    async fn purge_ca_certificate(
        &self,
        request: Request<pb::PurgeCaCertificateRequest>,
    ) -> Answer<pb::PurgeCaCertificateResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let target = ca_certificate(message.region_id, message.ca_certificate_id, message.if_etag);
        let purged = self.app.purge(&call, &target).await;
        answer(
            &call,
            purged.map(|()| pb::PurgeCaCertificateResponse {
                request_id: call.request_id.to_string(),
            }),
        )
    }

    async fn tag_resources(&self, request: Request<pb::TagResourcesRequest>) -> Answer<pb::TagResourcesResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let resources = TaggedResources {
            region_id: message.region_id,
            resource_type: message.resource_type,
            resource_ids: message.resource_ids,
        };
        let tagged = self
            .app
            .tag_resources(&call, &resources, parse::pairs(message.tags))
            .await;
        answer(
            &call,
            tagged.map(|revisions| pb::TagResourcesResponse {
                request_id: call.request_id.to_string(),
                etags: render::etags(revisions),
            }),
        )
    }

    async fn untag_resources(&self, request: Request<pb::UntagResourcesRequest>) -> Answer<pb::UntagResourcesResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let resources = TaggedResources {
            region_id: message.region_id,
            resource_type: message.resource_type,
            resource_ids: message.resource_ids,
        };
        let tags = (message.tag_keys, message.all);
        let untagged = self.app.untag_resources(&call, &resources, tags).await;
        answer(
            &call,
            untagged.map(|revisions| pb::UntagResourcesResponse {
                request_id: call.request_id.to_string(),
                etags: render::etags(revisions),
            }),
        )
    }

    async fn list_tag_resources(
        &self,
        request: Request<pb::ListTagResourcesRequest>,
    ) -> Answer<pb::ListTagResourcesResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let request = ListTagResources {
            resources: TaggedResources {
                region_id: message.region_id,
                resource_type: message.resource_type,
                resource_ids: message.resource_ids,
            },
            tags: parse::pairs(message.tags),
            page_size: message.page_size,
            next_token: message.next_token,
        };
        let listed = self.app.list_tag_resources(&call, &request).await;
        answer(
            &call,
            listed.map(|listed| pb::ListTagResourcesResponse {
                request_id: call.request_id.to_string(),
                next_token: listed.next_token,
                tag_resources: listed
                    .resources
                    .iter()
                    .flat_map(|(id, tags)| render::tag_resources(*id, tags))
                    .collect(),
            }),
        )
    }

    async fn move_resource_group(
        &self,
        request: Request<pb::MoveResourceGroupRequest>,
    ) -> Answer<pb::MoveResourceGroupResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let request = MoveResourceGroup {
            region_id: message.region_id,
            resource_id: message.resource_id,
            resource_type: message.resource_type,
            new_resource_group_id: message.new_resource_group_id,
            if_etag: message.if_etag,
        };
        let moved = self.app.move_resource_group(&call, &request).await;
        answer(
            &call,
            moved.map(|revision| pb::MoveResourceGroupResponse {
                request_id: call.request_id.to_string(),
                etag: render::etag(revision),
            }),
        )
    }

    async fn describe_regions(
        &self,
        request: Request<pb::DescribeRegionsRequest>,
    ) -> Answer<pb::DescribeRegionsResponse> {
        let call = call_of(&request)?;
        let host = request
            .extensions()
            .get::<Authority>()
            .map(Authority::host)
            .unwrap_or_default()
            .to_owned();
        let request = DescribeRegions {
            accept_language: request.into_inner().accept_language,
        };
        let regions = self.app.describe_regions(&call, &request);
        answer(
            &call,
            regions.map(|regions| pb::DescribeRegionsResponse {
                request_id: call.request_id.to_string(),
                regions: regions
                    .into_iter()
                    .map(|region| render::region(&region, &host))
                    .collect(),
            }),
        )
    }

    async fn list_account_fingerprints(
        &self,
        request: Request<pb::ListAccountFingerprintsRequest>,
    ) -> Answer<pb::ListAccountFingerprintsResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let request = ListAccountFingerprints {
            page_size: message.page_size,
            page_token: message.page_token,
        };
        let listed = self.app.fingerprints(&call, &request).await;
        answer(
            &call,
            listed.map(|listed| pb::ListAccountFingerprintsResponse {
                request_id: call.request_id.to_string(),
                account_fingerprints: listed.fingerprints.iter().map(ToString::to_string).collect(),
                next_page_token: listed.next_page_token,
            }),
        )
    }
}
