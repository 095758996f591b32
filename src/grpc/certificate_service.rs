//! CertificateService: each call is parsed, given to its use case, and its answer rendered.

use tonic::{Request, Response, Status};

use super::call::{Authority, call_of};
use super::pb::{self, certificate_service_server::CertificateService};
use super::render;
use super::status::status;
use crate::app::{
    App, Call, CheckServerCertificate, CriterionError, DescribeRegions, DescribeServerCertificates, DomainMatch, Error,
    GetServerCertificate, ListAccountFingerprints, Order, SearchServerCertificates, SetServerCertificateName,
    TargetCertificate, UploadServerCertificate,
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

type Answer<T> = Result<Response<T>, Status>;

fn answer<T>(call: &Call, result: Result<T, Error>) -> Answer<T> {
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
        // Out of the generated message first thing: they are wiped from now on. A key may stand in either.
        let private_key = Secret::from(std::mem::take(&mut request.get_mut().private_key));
        let server_certificate = Secret::from(std::mem::take(&mut request.get_mut().server_certificate));
        let call = call_of(&request)?;
        let message = request.into_inner();
        let uploaded = self
            .app
            .upload(
                &call,
                UploadServerCertificate {
                    region_id: message.region_id,
                    server_certificate,
                    server_certificate_name: message.server_certificate_name,
                    private_key,
                    ali_cloud_certificate_id: message.ali_cloud_certificate_id,
                    ali_cloud_certificate_name: message.ali_cloud_certificate_name,
                    ali_cloud_certificate_region_id: message.ali_cloud_certificate_region_id,
                    resource_group_id: message.resource_group_id,
                    tags: pairs(message.tags),
                    client_token: message.client_token,
                    validate_only: message.validate_only,
                    omit_account_fingerprints: message.omit_account_fingerprints,
                },
            )
            .await;
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
        answer(&call, checked.map(|checked| render::checked(call.request_id, checked)))
    }

    async fn describe_server_certificates(
        &self,
        request: Request<pb::DescribeServerCertificatesRequest>,
    ) -> Answer<pb::DescribeServerCertificatesResponse> {
        let call = call_of(&request)?;
        let message = request.into_inner();
        let described = self
            .app
            .describe(
                &call,
                &DescribeServerCertificates {
                    region_id: message.region_id,
                    server_certificate_id: message.server_certificate_id,
                    resource_group_id: message.resource_group_id,
                    tags: pairs(message.tags),
                    deleted: message.deleted,
                    page_size: message.page_size,
                    page_token: message.page_token,
                },
            )
            .await;
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
        let message = request.into_inner();
        let request = SearchServerCertificates {
            domain_match: domain_match(message.domain_match),
            order_by: order(message.order_by),
            region_id: message.region_id,
            fingerprint: message.fingerprint,
            domain: message.domain,
            spki_sha256: message.spki_sha256,
            serial_number: message.serial_number,
            issuer: message.issuer,
            key_algorithm: message.key_algorithm,
            key_size: message.key_size,
            expire_time_stamp_from: message.expire_time_stamp_from,
            expire_time_stamp_to: message.expire_time_stamp_to,
            server_certificate_name_prefix: message.server_certificate_name_prefix,
            tags: pairs(message.tags),
            page_size: message.page_size,
            page_token: message.page_token,
        };
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
        let request = GetServerCertificate {
            region_id: message.region_id,
            server_certificate_id: message.server_certificate_id,
        };
        let found = self.app.get(&call, &request).await;
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
        let request = SetServerCertificateName {
            region_id: message.region_id,
            server_certificate_id: message.server_certificate_id,
            server_certificate_name: message.server_certificate_name,
            if_etag: message.if_etag,
        };
        let renamed = self.app.rename(&call, &request).await;
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
        let request = TargetCertificate {
            region_id: message.region_id,
            server_certificate_id: message.server_certificate_id,
            if_etag: message.if_etag,
        };
        let deleted = self.app.delete(&call, &request).await;
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
        let request = TargetCertificate {
            region_id: message.region_id,
            server_certificate_id: message.server_certificate_id,
            if_etag: message.if_etag,
        };
        let undeleted = self.app.undelete(&call, &request).await;
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
        let request = TargetCertificate {
            region_id: message.region_id,
            server_certificate_id: message.server_certificate_id,
            if_etag: message.if_etag,
        };
        let purged = self.app.purge(&call, &request).await;
        answer(
            &call,
            purged.map(|()| pb::PurgeServerCertificateResponse {
                request_id: call.request_id.to_string(),
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

fn domain_match(number: i32) -> Result<Option<DomainMatch>, CriterionError> {
    Ok(match pb::DomainMatch::try_from(number) {
        Ok(pb::DomainMatch::Unspecified) => None,
        Ok(pb::DomainMatch::Exact) => Some(DomainMatch::Exact),
        Ok(pb::DomainMatch::Covered) => Some(DomainMatch::Covered),
        Ok(pb::DomainMatch::Below) => Some(DomainMatch::Below),
        Err(_) => return Err(CriterionError::DomainMatch),
    })
}

fn order(number: i32) -> Result<Order, CriterionError> {
    match pb::SearchOrder::try_from(number) {
        Ok(pb::SearchOrder::Unspecified | pb::SearchOrder::CreateTime) => Ok(Order::CreateTime),
        Ok(pb::SearchOrder::ExpireTime) => Ok(Order::ExpireTime),
        Ok(pb::SearchOrder::Name) => Ok(Order::Name),
        Err(_) => Err(CriterionError::Order),
    }
}

fn pairs(tags: Vec<pb::Tag>) -> Vec<(String, String)> {
    tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}
