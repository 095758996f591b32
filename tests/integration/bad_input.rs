//! Every bad input has its own reason, costs little, and leaves no row.

use std::time::{Duration, Instant};

use certkeep::grpc::pb;
use prost::Message;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::harness::{Client, REGION, TestServer, upload_of};
use crate::pki::{self, Key, Pair};

pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    details.error_info().map(|info| info.reason.clone()).unwrap_or_default()
}

/// The whole of an error as a caller sees it; only the request id differs from call to call.
fn shown(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().expect("every error has ErrorInfo");
    assert_eq!(info.domain, "certkeep");
    let request_id = &details.request_info().expect("every error has RequestInfo").request_id;
    assert_eq!((request_id.len(), request_id.to_uppercase()), (36, request_id.clone()));
    assert!(status.details().len() < 4096);
    let mut text = format!("{:?} {}\n{}\n", status.code(), info.reason, status.message());
    let mut metadata: Vec<_> = info.metadata.iter().collect();
    metadata.sort();
    for (name, value) in metadata {
        text.push_str(&format!("  {name} = {value}\n"));
    }
    if let Some(bad_request) = details.bad_request() {
        for violation in &bad_request.field_violations {
            text.push_str(&format!(
                "- {} {}: {}\n",
                violation.field, violation.reason, violation.description
            ));
        }
    }
    if let Some(resource) = details.resource_info() {
        text.push_str(&format!("- resource {}\n", resource.resource_type));
    }
    if let Some(retry) = details.retry_info() {
        text.push_str(&format!("- retry after {:?}\n", retry.retry_delay));
    }
    let findings = findings(status);
    if !findings.findings.is_empty() {
        let codes: Vec<_> = findings
            .findings
            .iter()
            .map(|finding| finding.code().as_str_name())
            .collect();
        text.push_str(&format!(
            "- findings {}\n",
            codes.join(", ").replace("FINDING_CODE_", "")
        ));
    }
    text
}

/// The wrong fields of an error, in its order.
pub fn wrong_fields(status: &Status) -> Vec<String> {
    let details = status.get_error_details();
    let violations = details.bad_request().map(|bad_request| &bad_request.field_violations);
    violations
        .into_iter()
        .flatten()
        .map(|wrong| wrong.field.clone())
        .collect()
}

/// The findings among the details of an error.
pub fn findings(status: &Status) -> pb::Findings {
    let details = tonic_types::Status::decode(status.details()).unwrap().details;
    let mut found = details
        .iter()
        .filter(|detail| detail.type_url.ends_with("/certkeep.v1.Findings"));
    found
        .next()
        .map(|detail| pb::Findings::decode(detail.value.as_slice()).unwrap())
        .unwrap_or_default()
}

/// A text of 300,000 bytes: the length of a certificate is that of its signature, which differs.
fn padded(text: &str) -> String {
    format!("{text}{}", "\n".repeat(300_000 - text.len()))
}

fn pair() -> Pair {
    pki::self_signed(Key::P256, "a.example")
}

/// The inputs of the table, by name.
fn bad_uploads() -> Vec<(&'static str, pb::UploadServerCertificateRequest)> {
    let good = upload_of(&pair());
    let key = Key::P256.make();
    let with = |change: &dyn Fn(&mut pb::UploadServerCertificateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let encrypted_pair = pki::pair(&key, pair().x509);
    vec![
        ("empty", Default::default()),
        ("certificate missing", with(&|r| r.server_certificate.clear())),
        ("key missing", with(&|r| r.private_key.clear())),
        (
            "certificate oversized",
            with(&|r| r.server_certificate = padded(&r.server_certificate)),
        ),
        (
            "certificates too many",
            with(&|r| r.server_certificate = r.server_certificate.repeat(21)),
        ),
        ("key oversized", with(&|r| r.private_key = r.private_key.repeat(600))),
        (
            "certificate garbage",
            with(&|r| r.server_certificate = "\u{1}\u{2}\u{0}garbage".repeat(9)),
        ),
        (
            "key garbage",
            with(&|r| r.private_key = "\u{1}\u{2}\u{0}garbage".repeat(9)),
        ),
        (
            "certificate block garbage",
            with(&|r| {
                r.server_certificate = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n".into();
            }),
        ),
        (
            "key block garbage",
            with(&|r| {
                r.private_key = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into();
            }),
        ),
        (
            "certificate is a public key",
            with(&|r| r.server_certificate = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()),
        ),
        (
            "key is a public key",
            with(&|r| r.private_key = String::from_utf8(key.public_key_to_pem().unwrap()).unwrap()),
        ),
        (
            "swapped",
            with(&|r| std::mem::swap(&mut r.server_certificate, &mut r.private_key)),
        ),
        ("two keys", with(&|r| r.private_key.push_str(&encrypted_pair.key))),
        ("key encrypted", with(&|r| r.private_key = pki::encrypted(&key))),
        (
            "key of another certificate",
            with(&|r| r.private_key = encrypted_pair.key.clone()),
        ),
        ("name too long", with(&|r| r.server_certificate_name = "n".repeat(81))),
        (
            "name of wrong characters",
            with(&|r| r.server_certificate_name = "a b".into()),
        ),
        ("region missing", with(&|r| r.region_id.clear())),
        ("region unknown", with(&|r| r.region_id = "mars-1".into())),
        (
            "tag key reserved",
            with(&|r| {
                r.tags = vec![pb::Tag {
                    key: "acs:x".into(),
                    value: String::new(),
                }]
            }),
        ),
        (
            "tag with NUL",
            with(&|r| {
                r.tags = vec![pb::Tag {
                    key: "a\u{0}".into(),
                    value: String::new(),
                }]
            }),
        ),
        (
            "tags too many",
            with(&|r| {
                r.tags = (0..21)
                    .map(|n| pb::Tag {
                        key: format!("k{n}"),
                        value: String::new(),
                    })
                    .collect();
            }),
        ),
        (
            "certificates unrelated",
            with(&|r| r.server_certificate.push_str(&pair().certificate)),
        ),
        (
            "two certificates of the key",
            with(&|r| {
                let again = pki::certificate(&pki::key_of(r), "a.example", None);
                r.server_certificate.push_str(&pki::pem(&again));
            }),
        ),
        (
            "another key among the certificates",
            with(&|r| r.server_certificate.push_str(&encrypted_pair.key)),
        ),
        (
            "the region of no certificate of Alibaba Cloud",
            with(&|r| {
                r.client_token = "token".into();
                r.ali_cloud_certificate_region_id = "cn-hangzhou".into();
            }),
        ),
        (
            "a certificate of Alibaba Cloud, which this service does not fetch",
            with(&|r| {
                r.server_certificate.clear();
                r.private_key.clear();
                r.ali_cloud_certificate_id = "1".into();
            }),
        ),
        ("no such resource group", with(&|r| r.resource_group_id = "rg-1".into())),
        (
            "several at once",
            with(&|r| {
                r.region_id = "mars-1".into();
                r.server_certificate_name = "a b".into();
                r.private_key = pki::encrypted(&key);
                r.tags = vec![pb::Tag::default()];
            }),
        ),
    ]
}

/// How this call is refused, in no time, with none of these texts repeated.
async fn refused_soon<T: std::fmt::Debug>(
    name: &str,
    secrets: &[&str],
    call: impl AsyncFn() -> Result<T, Status>,
) -> String {
    let mut tries = 0;
    let mut shortest = Duration::MAX;
    let refused = loop {
        let started = Instant::now();
        let refused = call().await.expect_err(name);
        // The processor is shared with the other tests: once must be fast.
        shortest = shortest.min(started.elapsed());
        tries += 1;
        if shortest < Duration::from_millis(50) {
            break refused;
        }
        assert!(tries < 50, "{name} took {shortest:?}");
    };
    let shown = shown(&refused);
    let lines = secrets.iter().flat_map(|secret| secret.lines());
    for line in lines.filter(|line| line.len() > 16) {
        assert!(
            line.starts_with("-----") || !shown.contains(line),
            "{name} repeats its input"
        );
    }
    shown
}

/// The inputs of the table for CA certificates, by name.
fn bad_ca_uploads() -> Vec<(&'static str, pb::UploadCaCertificateRequest)> {
    let root = pki::root("Test Root");
    let good = pb::UploadCaCertificateRequest {
        region_id: REGION.into(),
        ca_certificate: root.certificate.clone(),
        ..Default::default()
    };
    let with = |change: &dyn Fn(&mut pb::UploadCaCertificateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let block = |label: &str| format!("-----BEGIN {label}-----\nAAAA\n-----END {label}-----\n");
    let mut damaged = root.x509.to_der().unwrap();
    *damaged.last_mut().unwrap() ^= 1;
    let damaged = openssl::x509::X509::from_der(&damaged).unwrap();
    vec![
        ("empty", Default::default()),
        ("certificate missing", with(&|r| r.ca_certificate.clear())),
        (
            "certificate oversized",
            with(&|r| r.ca_certificate = padded(&r.ca_certificate)),
        ),
        (
            "certificate garbage",
            with(&|r| r.ca_certificate = "\u{1}\u{2}\u{0}garbage".repeat(9)),
        ),
        (
            "certificate block garbage",
            with(&|r| r.ca_certificate = block("CERTIFICATE")),
        ),
        ("pkcs7", with(&|r| r.ca_certificate = block("PKCS7"))),
        (
            "two certificates",
            with(&|r| r.ca_certificate.push_str(&pki::root("Other Root").certificate)),
        ),
        ("private key alone", with(&|r| r.ca_certificate = root.key.clone())),
        ("private key beside it", with(&|r| r.ca_certificate.push_str(&root.key))),
        ("signature wrong", with(&|r| r.ca_certificate = pki::pem(&damaged))),
        (
            "key exponent unsafe",
            with(&|r| r.ca_certificate = pki::unsafe_exponent("Test Root").certificate),
        ),
        ("region unknown", with(&|r| r.region_id = "mars-1".into())),
        ("name too long", with(&|r| r.ca_certificate_name = "x".repeat(81))),
        ("tag without key", with(&|r| r.tags = vec![pb::Tag::default()])),
        ("token too long", with(&|r| r.client_token = "x".repeat(65))),
        (
            "token of nothing",
            with(&|r| {
                r.client_token = "token".into();
                r.validate_only = true;
            }),
        ),
        ("no such resource group", with(&|r| r.resource_group_id = "rg-1".into())),
        (
            "several at once",
            with(&|r| {
                r.region_id = "mars-1".into();
                r.ca_certificate.clear();
                r.ca_certificate_name = "a b".into();
                r.tags = vec![pb::Tag::default()];
            }),
        ),
    ]
}

#[tokio::test]
async fn every_bad_upload_of_a_ca_certificate_has_its_own_error_in_no_time_and_leaves_no_row() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut all = String::new();
    for (name, request) in bad_ca_uploads() {
        let call = async || client.clone().upload_ca_certificate(request.clone()).await;
        let shown = refused_soon(name, &[&*request.ca_certificate], call).await;
        all.push_str(&format!("# {name}\n{shown}\n"));
    }
    insta::assert_snapshot!("bad_ca_uploads", all);
    let rows = "select (select count(*) from certificate where kind = 'ca') + (select count(*) from event)";
    assert_eq!(
        server.sql().await.query_one(rows, &[]).await.unwrap().get::<_, i64>(0),
        0
    );
    server.stop().await;
}

#[tokio::test]
async fn every_bad_upload_has_its_own_error_in_no_time_and_leaves_no_row() {
    let server = TestServer::start().await;
    let mut client = server.client();
    client
        .describe_regions(pb::DescribeRegionsRequest::default())
        .await
        .unwrap();
    let mut all = String::new();
    for (name, request) in bad_uploads() {
        let secrets = [&*request.private_key, &*request.server_certificate];
        let call = async || client.clone().upload_server_certificate(request.clone()).await;
        let shown = refused_soon(name, &secrets, call).await;
        all.push_str(&format!("# {name}\n{shown}\n"));
    }
    insta::assert_snapshot!("bad_uploads", all);
    assert_eq!(server.rows().await, [0, 0, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn the_other_calls_refuse_bad_fields_each_with_its_own_error() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let mut all = String::new();
    let mut note = |name: &str, refused: Status| all.push_str(&format!("# {name}\n{}\n", shown(&refused)));
    async fn refused<T>(call: impl Future<Output = Result<T, Status>>) -> Status {
        call.await.err().expect("the call is refused")
    }
    type Describe = pb::DescribeServerCertificatesRequest;
    note(
        "page size negative",
        refused(client.describe_server_certificates(Describe {
            page_size: -1,
            ..Default::default()
        }))
        .await,
    );
    note(
        "page token wrong",
        refused(client.describe_server_certificates(Describe {
            page_token: "x".into(),
            ..Default::default()
        }))
        .await,
    );
    note(
        "filter not supported",
        refused(client.describe_server_certificates(Describe {
            tags: vec![pb::Tag::default()],
            ..Default::default()
        }))
        .await,
    );
    note(
        "get without id",
        refused(client.get_server_certificate(pb::GetServerCertificateRequest::default())).await,
    );
    note(
        "rename of nothing",
        refused(client.set_server_certificate_name(pb::SetServerCertificateNameRequest::default())).await,
    );
    note(
        "delete without id",
        refused(client.delete_server_certificate(pb::DeleteServerCertificateRequest::default())).await,
    );
    note(
        "delete of what is not there",
        refused(client.delete_server_certificate(pb::DeleteServerCertificateRequest {
            server_certificate_id: "nonsense".into(),
            ..Default::default()
        }))
        .await,
    );
    note(
        "page size of CA certificates negative",
        refused(client.describe_ca_certificates(pb::DescribeCaCertificatesRequest {
            page_size: -1,
            ..Default::default()
        }))
        .await,
    );
    note(
        "get a CA certificate without id",
        refused(client.get_ca_certificate(pb::GetCaCertificateRequest::default())).await,
    );
    note(
        "rename of no CA certificate",
        refused(client.set_ca_certificate_name(pb::SetCaCertificateNameRequest::default())).await,
    );
    note(
        "delete of a CA certificate that is not there",
        refused(client.delete_ca_certificate(pb::DeleteCaCertificateRequest {
            ca_certificate_id: "nonsense".into(),
            ..Default::default()
        }))
        .await,
    );
    note(
        "undelete a CA certificate without id",
        refused(client.undelete_ca_certificate(pb::UndeleteCaCertificateRequest::default())).await,
    );
    note(
        "purge a CA certificate without id",
        refused(client.purge_ca_certificate(pb::PurgeCaCertificateRequest::default())).await,
    );
    note(
        "language unknown",
        refused(client.describe_regions(pb::DescribeRegionsRequest {
            accept_language: "tlh".into(),
        }))
        .await,
    );
    note(
        "no access key",
        refused(
            server
                .client_with(None)
                .describe_regions(pb::DescribeRegionsRequest::default()),
        )
        .await,
    );
    let mut consumer = crate::key_pairs::consumer(&server).await;
    note(
        "key pair of a name with NUL",
        refused(consumer.get_key_pair(pb::GetKeyPairRequest {
            server_certificate_name: "a\u{0}".into(),
            ..Default::default()
        }))
        .await,
    );
    note(
        "leases of a holder with NUL",
        refused(consumer.list_leases(pb::ListLeasesRequest {
            holder: "a\u{0}".into(),
            ..Default::default()
        }))
        .await,
    );
    let reader = server.add_key("reader", crate::harness::Account::First).await;
    let mut reader = server.client_with(Some(&format!("Bearer {reader}")));
    note(
        "role too small",
        refused(reader.delete_server_certificate(pb::DeleteServerCertificateRequest::default())).await,
    );
    insta::assert_snapshot!("bad_calls", all);
    server.stop().await;
}

/// Sends bytes as the message of a method, with the admin's key.
async fn raw(server: &TestServer, path: &'static str, bytes: Vec<u8>) -> Status {
    let mut client = tonic::client::Grpc::new(server.channel());
    client.ready().await.unwrap();
    let mut request = tonic::Request::new(Bytes(bytes));
    let authorization = format!("Bearer {}", server.admin_key()).parse().unwrap();
    request.metadata_mut().insert("authorization", authorization);
    let path = http::uri::PathAndQuery::from_static(path);
    client
        .unary(request, path, RawCodec)
        .await
        .map(|_: tonic::Response<Bytes>| ())
        .unwrap_err()
}

#[derive(Clone)]
struct Bytes(Vec<u8>);

#[derive(Default)]
struct RawCodec;

impl tonic::codec::Codec for RawCodec {
    type Encode = Bytes;
    type Decode = Bytes;
    type Encoder = Self;
    type Decoder = Self;
    fn encoder(&mut self) -> Self {
        Self
    }
    fn decoder(&mut self) -> Self {
        Self
    }
}

impl tonic::codec::Encoder for RawCodec {
    type Item = Bytes;
    type Error = Status;
    fn encode(&mut self, item: Bytes, out: &mut tonic::codec::EncodeBuf<'_>) -> Result<(), Status> {
        bytes::BufMut::put_slice(out, &item.0);
        Ok(())
    }
}

impl tonic::codec::Decoder for RawCodec {
    type Item = Bytes;
    type Error = Status;
    fn decode(&mut self, _: &mut tonic::codec::DecodeBuf<'_>) -> Result<Option<Bytes>, Status> {
        Ok(None)
    }
}

#[tokio::test]
async fn tonics_own_refusals_have_reason_and_request_id_too() {
    const UPLOAD: &str = "/certkeep.v1.CertificateService/UploadServerCertificate";
    let server = TestServer::start().await;
    let mut all = String::new();
    let mut note = |name: &str, refused: Status| all.push_str(&format!("# {name}\n{}\n", shown(&refused)));
    note(
        "not protobuf",
        raw(&server, UPLOAD, b"\xff\xff\xff not protobuf".to_vec()).await,
    );
    note("too large", raw(&server, UPLOAD, vec![0; 1024 * 1024 + 1]).await);
    note(
        "method unknown",
        raw(&server, "/certkeep.v1.CertificateService/Frobnicate", Vec::new()).await,
    );
    note(
        "service unknown",
        raw(&server, "/certkeep.v1.Nonsense/Frobnicate", Vec::new()).await,
    );
    insta::assert_snapshot!("refusals", all);

    let not_utf8 = pb::Tag {
        key: "k".into(),
        value: "v".into(),
    };
    let mut bytes = pb::UploadServerCertificateRequest {
        tags: vec![not_utf8],
        ..Default::default()
    }
    .encode_to_vec();
    let at = bytes.len() - 1;
    bytes[at] = 0xff;
    assert_eq!(reason(&raw(&server, UPLOAD, bytes).await), "MESSAGE_MALFORMED");
    assert_eq!(server.rows().await, [0, 0, 0, 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_deadline_that_passes_is_answered_as_one() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    // Describing waits for a lock until its caller's time is over.
    sql.batch_execute("begin; lock table certificate in access exclusive mode")
        .await
        .unwrap();
    let mut client: Client = server.client();
    let describe = async |client: &mut Client| {
        let mut request = tonic::Request::new(pb::DescribeServerCertificatesRequest::default());
        request.set_timeout(Duration::from_millis(300));
        client.describe_server_certificates(request).await.unwrap_err()
    };
    let mut refused = describe(&mut client).await;
    // On a busy machine, tonic's client gives up before it reads the answer.
    for _ in 0..20 {
        if refused.code() != Code::Cancelled {
            break;
        }
        refused = describe(&mut client).await;
    }
    assert_eq!(refused.code(), Code::DeadlineExceeded);
    assert_eq!(reason(&refused), "DEADLINE_EXCEEDED");
    sql.batch_execute("rollback").await.unwrap();
    client
        .describe_server_certificates(pb::DescribeServerCertificatesRequest::default())
        .await
        .unwrap();
    server.stop().await;
}
