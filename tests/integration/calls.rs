//! Calls on certificates, for the other tests.

use certkeep::grpc::pb;
use tonic::{Code, Status};

use crate::bad_input::reason;
use crate::harness::{Client, REGION};

/// No precondition.
pub const ANY: &str = "";

/// The code and the reason of a refused call.
pub fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> (Code, String) {
    let refused = answer.expect_err("the call must be refused");
    (refused.code(), reason(&refused))
}

pub async fn upload(
    client: &Client,
    request: pb::UploadServerCertificateRequest,
) -> Result<pb::UploadServerCertificateResponse, Status> {
    let answer = client.clone().upload_server_certificate(request).await?;
    Ok(answer.into_inner())
}

/// Uploads it and returns its id.
pub async fn stored(client: &Client, request: &pb::UploadServerCertificateRequest) -> String {
    upload(client, request.clone()).await.unwrap().server_certificate_id
}

/// Its new etag.
pub async fn rename(client: &Client, id: &str, name: &str, if_etag: &str) -> Result<String, Status> {
    let request = pb::SetServerCertificateNameRequest {
        region_id: REGION.into(),
        server_certificate_id: id.into(),
        server_certificate_name: name.into(),
        if_etag: if_etag.into(),
    };
    let answer = client.clone().set_server_certificate_name(request).await?;
    Ok(answer.into_inner().etag)
}

/// Its new etag.
pub async fn delete(client: &Client, id: &str, if_etag: &str) -> Result<String, Status> {
    let request = pb::DeleteServerCertificateRequest {
        server_certificate_id: id.into(),
        if_etag: if_etag.into(),
        ..Default::default()
    };
    let answer = client.clone().delete_server_certificate(request).await?;
    Ok(answer.into_inner().etag)
}

/// Its new etag.
pub async fn undelete(client: &Client, id: &str, if_etag: &str) -> Result<String, Status> {
    let request = pb::UndeleteServerCertificateRequest {
        server_certificate_id: id.into(),
        if_etag: if_etag.into(),
        ..Default::default()
    };
    let answer = client.clone().undelete_server_certificate(request).await?;
    Ok(answer.into_inner().etag)
}

pub async fn purge(client: &Client, id: &str, if_etag: &str) -> Result<(), Status> {
    let request = pb::PurgeServerCertificateRequest {
        server_certificate_id: id.into(),
        if_etag: if_etag.into(),
        ..Default::default()
    };
    client.clone().purge_server_certificate(request).await?;
    Ok(())
}

pub async fn get(client: &Client, id: &str) -> Result<pb::ServerCertificate, Status> {
    let request = pb::GetServerCertificateRequest {
        server_certificate_id: id.into(),
        ..Default::default()
    };
    let answer = client.clone().get_server_certificate(request).await?;
    Ok(answer.into_inner().server_certificate.unwrap())
}

/// A page, and the token of the next.
pub async fn describe(
    client: &Client,
    request: pb::DescribeServerCertificatesRequest,
) -> (Vec<pb::ServerCertificate>, String) {
    let answer = client.clone().describe_server_certificates(request).await.unwrap();
    let page = answer.into_inner();
    (page.server_certificates, page.next_page_token)
}

/// The ids of all pages.
pub async fn ids(client: &Client, mut request: pb::DescribeServerCertificatesRequest) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let (page, next) = describe(client, request.clone()).await;
        ids.extend(page.into_iter().map(|certificate| certificate.server_certificate_id));
        if next.is_empty() {
            return ids;
        }
        request.page_token = next;
    }
}

pub fn deleted() -> pb::DescribeServerCertificatesRequest {
    pb::DescribeServerCertificatesRequest {
        deleted: true,
        ..Default::default()
    }
}

pub async fn fingerprints(client: &Client) -> Vec<String> {
    let request = pb::ListAccountFingerprintsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let answer = client.clone().list_account_fingerprints(request).await.unwrap();
    answer.into_inner().account_fingerprints
}

pub fn tags(tags: &[(&str, &str)]) -> Vec<pb::Tag> {
    let tags = tags.iter().map(|(key, value)| pb::Tag {
        key: (*key).into(),
        value: (*value).into(),
    });
    tags.collect()
}

/// For each account and region, the counter of live server certificates and their actual number.
pub async fn counters(sql: &tokio_postgres::Client) -> Vec<(String, i64, i64)> {
    counters_of(sql, "server").await
}

/// The same of this kind's certificates.
pub async fn counters_of(sql: &tokio_postgres::Client, kind: &str) -> Vec<(String, i64, i64)> {
    let counters = "select region_id, coalesce(counter.live, 0), coalesce(actual.live, 0)
                    from (select * from certificate_count where kind = $1) as counter full join (
                      select account_id, region_id, count(*) as live from certificate
                      where deleted_at is null and kind = $1 group by account_id, region_id
                    ) as actual using (account_id, region_id) order by region_id, 2";
    let rows = sql.query(counters, &[&kind]).await.unwrap();
    rows.iter().map(|row| (row.get(0), row.get(1), row.get(2))).collect()
}

/// A renewal with this pair, without other fields.
pub fn renewal_of(id: &str, pair: &crate::pki::Pair) -> pb::RenewServerCertificateRequest {
    pb::RenewServerCertificateRequest {
        server_certificate_id: id.into(),
        server_certificate: pair.certificate.clone(),
        private_key: pair.key.clone(),
        ..Default::default()
    }
}

pub async fn renew(
    client: &Client,
    request: pb::RenewServerCertificateRequest,
) -> Result<pb::RenewServerCertificateResponse, Status> {
    let answer = client.clone().renew_server_certificate(request).await?;
    Ok(answer.into_inner())
}

/// The certificate after the rollback.
pub async fn roll_back(
    client: &Client,
    id: &str,
    version: i64,
    if_etag: &str,
) -> Result<pb::ServerCertificate, Status> {
    let request = pb::RollbackServerCertificateRequest {
        server_certificate_id: id.into(),
        version,
        if_etag: if_etag.into(),
        ..Default::default()
    };
    let answer = client.clone().rollback_server_certificate(request).await?;
    Ok(answer.into_inner().server_certificate.unwrap())
}

/// All versions on one page.
pub async fn versions(client: &Client, id: &str) -> Result<Vec<pb::ServerCertificateVersion>, Status> {
    let request = pb::ListServerCertificateVersionsRequest {
        server_certificate_id: id.into(),
        ..Default::default()
    };
    let answer = client.clone().list_server_certificate_versions(request).await?;
    Ok(answer.into_inner().versions)
}
