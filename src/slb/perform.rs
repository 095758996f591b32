//! Performs an action: reads its parameters, runs the use case and renders the answer.

use super::action::Action;
use super::answer::Answer;
use super::error::{Failure, Refusal};
use super::parameters::Parameters;
use super::render;
use crate::app::{
    App, Call, CertificateKind, CertificateText, DescribeCertificates, DescribeRegions, ListTagResources,
    MoveResourceGroup, TaggedResources, TargetCertificate, Upload,
};
use CertificateKind::{Ca, Server};

/// The certificates of a page. The body of an answer is made page by page.
const PAGE_SIZE: i32 = 100;

/// Performs the action for an authenticated caller who used `host` for this service.
pub(super) async fn perform(
    app: &App,
    call: &Call,
    action: Action,
    mut parameters: Parameters,
    host: &str,
) -> Result<Answer, Failure> {
    parameters.remove_common();
    match action {
        Action::UploadServerCertificate => {
            let uploaded = app.upload(call, upload_server_certificate(parameters)?).await?;
            Ok(render::uploaded(uploaded))
        }
        Action::UploadCACertificate => {
            let uploaded = app.upload(call, upload_ca_certificate(parameters)?).await?;
            Ok(render::uploaded_ca(uploaded))
        }
        Action::DescribeServerCertificates => list_certificates(app, call, describe(Server, parameters)?).await,
        Action::DescribeCACertificates => list_certificates(app, call, describe(Ca, parameters)?).await,
        Action::SetServerCertificateName => rename(app, call, Server, parameters).await,
        Action::SetCACertificateName => rename(app, call, Ca, parameters).await,
        Action::DeleteServerCertificate => delete(app, call, Server, parameters).await,
        Action::DeleteCACertificate => delete(app, call, Ca, parameters).await,
        Action::DescribeRegions => {
            let accept_language = parameters.take("AcceptLanguage");
            // Clients add their own region to each request.
            parameters.take("RegionId");
            parameters.end()?;
            let regions = app.describe_regions(call, &DescribeRegions { accept_language })?;
            Ok(render::regions(&regions, host))
        }
        Action::TagResources => {
            let (resources, tags) = (tagged_resources(&mut parameters), parameters.take_tags());
            parameters.end()?;
            app.tag_resources(call, &resources, tags).await?;
            Ok(Answer::default())
        }
        Action::UntagResources => {
            let resources = tagged_resources(&mut parameters);
            let (keys, all) = (parameters.take_list("TagKey"), parameters.take_bool("All")?);
            parameters.end()?;
            app.untag_resources(call, &resources, (keys, all)).await?;
            Ok(Answer::default())
        }
        Action::ListTagResources => {
            let request = ListTagResources {
                resources: tagged_resources(&mut parameters),
                tags: parameters.take_tags(),
                page_size: PAGE_SIZE,
                next_token: parameters.take("NextToken"),
            };
            parameters.end()?;
            Ok(render::tag_resources(app.list_tag_resources(call, &request).await?))
        }
        Action::MoveResourceGroup => {
            let request = MoveResourceGroup {
                region_id: parameters.take("RegionId"),
                resource_id: parameters.take("ResourceId"),
                resource_type: parameters.take("ResourceType"),
                new_resource_group_id: parameters.take("NewResourceGroupId"),
                if_etag: String::new(),
            };
            // Clients may name the present group.
            parameters.take("ResourceGroupId");
            parameters.end()?;
            app.move_resource_group(call, &request).await?;
            Ok(Answer::default())
        }
    }
}

fn upload_server_certificate(mut parameters: Parameters) -> Result<Upload, Refusal> {
    let upload = Upload {
        region_id: parameters.take("RegionId"),
        name: parameters.take("ServerCertificateName"),
        resource_group_id: parameters.take("ResourceGroupId"),
        tags: parameters.take_tags(),
        client_token: String::new(),
        validate_only: false,
        certificate: CertificateText::Server {
            server_certificate: parameters.take_secret("ServerCertificate"),
            private_key: parameters.take_secret("PrivateKey"),
            ali_cloud_certificate_id: parameters.take("AliCloudCertificateId"),
            ali_cloud_certificate_name: parameters.take("AliCloudCertificateName"),
            ali_cloud_certificate_region_id: parameters.take("AliCloudCertificateRegionId"),
            omit_account_fingerprints: false,
        },
    };
    parameters.end()?;
    Ok(upload)
}

fn upload_ca_certificate(mut parameters: Parameters) -> Result<Upload, Refusal> {
    let upload = Upload {
        region_id: parameters.take("RegionId"),
        name: parameters.take("CACertificateName"),
        resource_group_id: parameters.take("ResourceGroupId"),
        tags: parameters.take_tags(),
        client_token: String::new(),
        validate_only: false,
        certificate: CertificateText::Ca {
            ca_certificate: parameters.take_secret("CACertificate"),
        },
    };
    parameters.end()?;
    Ok(upload)
}

fn describe(kind: CertificateKind, mut parameters: Parameters) -> Result<DescribeCertificates, Refusal> {
    let describe = DescribeCertificates {
        kind,
        region_id: parameters.take("RegionId"),
        id: parameters.take(id_name(kind)),
        resource_group_id: parameters.take("ResourceGroupId"),
        tags: parameters.take_tags(),
        deleted: false,
        page_size: PAGE_SIZE,
        page_token: String::new(),
    };
    parameters.end()?;
    Ok(describe)
}

/// The first page, and the rest of the list after it.
async fn list_certificates(app: &App, call: &Call, request: DescribeCertificates) -> Result<Answer, Failure> {
    let described = app.describe(call, &request).await?;
    Ok(render::certificates(request, described))
}

async fn rename(app: &App, call: &Call, kind: CertificateKind, mut parameters: Parameters) -> Result<Answer, Failure> {
    let name = parameters.take(match kind {
        Server => "ServerCertificateName",
        Ca => "CACertificateName",
    });
    let target = target(kind, parameters)?;
    app.rename(call, &target, &name).await?;
    Ok(Answer::default())
}

async fn delete(app: &App, call: &Call, kind: CertificateKind, parameters: Parameters) -> Result<Answer, Failure> {
    app.delete(call, &target(kind, parameters)?, false).await?;
    Ok(Answer::default())
}

fn target(kind: CertificateKind, mut parameters: Parameters) -> Result<TargetCertificate, Refusal> {
    let target = TargetCertificate {
        kind,
        region_id: parameters.take("RegionId"),
        id: parameters.take(id_name(kind)),
        if_etag: String::new(),
    };
    parameters.end()?;
    Ok(target)
}

fn id_name(kind: CertificateKind) -> &'static str {
    match kind {
        Server => "ServerCertificateId",
        Ca => "CACertificateId",
    }
}

fn tagged_resources(parameters: &mut Parameters) -> TaggedResources {
    TaggedResources {
        region_id: parameters.take("RegionId"),
        resource_type: parameters.take("ResourceType"),
        resource_ids: parameters.take_list("ResourceId"),
    }
}
