//! Certificates of authorities: what is kept for servers' is kept for them too, and apart from those.

use certkeep::grpc::pb::{self, FindingCode, Severity};
use openssl::hash::MessageDigest;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bad_input::{findings, reason};
use crate::calls::{self, ANY, counters, counters_of, fingerprints, refusal, stored, tags};
use crate::harness::{Account, Client, REGION, TestServer, until, until_waiting, upload_of};
use crate::pki::{self, Key, Pair};
use crate::process::{CERTKEEP, stderr, stdout};

const ELSEWHERE: &str = "eu-central-1";

/// Keys and values.
type Pairs<'a> = &'a [(&'a str, &'a str)];

fn of(root: &Pair) -> pb::UploadCaCertificateRequest {
    pb::UploadCaCertificateRequest {
        region_id: REGION.into(),
        ca_certificate: root.certificate.clone(),
        ..Default::default()
    }
}

pub fn request() -> pb::UploadCaCertificateRequest {
    of(&pki::root("Test Root"))
}

async fn upload(
    client: &Client,
    request: pb::UploadCaCertificateRequest,
) -> Result<pb::UploadCaCertificateResponse, Status> {
    Ok(client.clone().upload_ca_certificate(request).await?.into_inner())
}

/// Uploads it and answers its id.
pub async fn kept(client: &Client, request: pb::UploadCaCertificateRequest) -> String {
    upload(client, request).await.unwrap().ca_certificate_id
}

pub async fn get(client: &Client, id: &str) -> Result<pb::CaCertificate, Status> {
    let request = pb::GetCaCertificateRequest {
        ca_certificate_id: id.into(),
        ..Default::default()
    };
    let answer = client.clone().get_ca_certificate(request).await?;
    Ok(answer.into_inner().ca_certificate.unwrap())
}

async fn rename(client: &Client, id: &str, name: &str, if_etag: &str) -> Result<String, Status> {
    let request = pb::SetCaCertificateNameRequest {
        region_id: REGION.into(),
        ca_certificate_id: id.into(),
        ca_certificate_name: name.into(),
        if_etag: if_etag.into(),
    };
    Ok(client.clone().set_ca_certificate_name(request).await?.into_inner().etag)
}

async fn delete(client: &Client, id: &str, if_etag: &str) -> Result<String, Status> {
    let request = pb::DeleteCaCertificateRequest {
        ca_certificate_id: id.into(),
        if_etag: if_etag.into(),
        ..Default::default()
    };
    Ok(client.clone().delete_ca_certificate(request).await?.into_inner().etag)
}

async fn undelete(client: &Client, id: &str, if_etag: &str) -> Result<String, Status> {
    let request = pb::UndeleteCaCertificateRequest {
        ca_certificate_id: id.into(),
        if_etag: if_etag.into(),
        ..Default::default()
    };
    Ok(client.clone().undelete_ca_certificate(request).await?.into_inner().etag)
}

async fn purge(client: &Client, id: &str, if_etag: &str) -> Result<(), Status> {
    let request = pb::PurgeCaCertificateRequest {
        ca_certificate_id: id.into(),
        if_etag: if_etag.into(),
        ..Default::default()
    };
    client.clone().purge_ca_certificate(request).await.map(|_| ())
}

pub type Describe = pb::DescribeCaCertificatesRequest;

async fn describe(client: &Client, request: Describe) -> (Vec<pb::CaCertificate>, String) {
    let page = client.clone().describe_ca_certificates(request).await.unwrap();
    let page = page.into_inner();
    (page.ca_certificates, page.next_page_token)
}

/// The ids of all pages.
pub async fn ids(client: &Client, mut request: Describe) -> Vec<String> {
    let mut ids = Vec::new();
    loop {
        let (page, next) = describe(client, request.clone()).await;
        ids.extend(page.into_iter().map(|certificate| certificate.ca_certificate_id));
        if next.is_empty() {
            return ids;
        }
        request.page_token = next;
    }
}

fn deleted() -> Describe {
    Describe {
        deleted: true,
        ..Default::default()
    }
}

fn not_found() -> (Code, String) {
    (Code::NotFound, "CA_CERTIFICATE_NOT_FOUND".into())
}

fn over_quota() -> (Code, String) {
    (Code::ResourceExhausted, "QUOTA_EXCEEDED".into())
}

fn codes(findings: &[pb::Finding]) -> Vec<FindingCode> {
    findings.iter().map(pb::Finding::code).collect()
}

/// CA certificates, their tags, private keys, and events with what they are about.
async fn rows(sql: &tokio_postgres::Client) -> [i64; 5] {
    let counts = "select (select count(*) from certificate where kind = 'ca'),
                    (select count(*) from certificate_tag where kind = 'ca'),
                    (select count(*) from private_key),
                    (select count(*) from event where certificate_kind = 'ca'),
                    (select count(*) from event where certificate_kind = 'server')";
    let row = sql.query_one(counts, &[]).await.unwrap();
    [0, 1, 2, 3, 4].map(|column| row.get(column))
}

fn colons(digest: &[u8]) -> String {
    let bytes: Vec<_> = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    bytes.join(":")
}

#[tokio::test]
async fn a_root_is_stored_and_answered_with_its_facts() {
    let server = TestServer::start().await;
    let client = server.client();
    let root = pki::root("Test Root");
    let request = pb::UploadCaCertificateRequest {
        tags: tags(&[("team", "shop"), ("env", "prod")]),
        ..of(&root)
    };
    let answer = upload(&client, request).await.unwrap();
    let id = answer.ca_certificate_id.clone();
    assert_eq!((answer.request_id.len(), id.is_empty()), (36, false));
    assert!(answer.create_time_stamp % 1000 == 0 && answer.create_time_stamp > 1_700_000_000_000);
    assert_eq!(answer.upload_time.unwrap().seconds * 1000, answer.create_time_stamp);
    let expected = pb::UploadCaCertificateResponse {
        request_id: answer.request_id.clone(),
        ca_certificate_id: id.clone(),
        ca_certificate_name: "Test_Root".into(),
        common_name: "Test Root".into(),
        create_time: answer.create_time.clone(),
        create_time_stamp: answer.create_time_stamp,
        expire_time: "2096-10-02T07:06:40Z".into(),
        expire_time_stamp: 4_000_000_000_000,
        fingerprint: colons(&root.x509.digest(MessageDigest::sha1()).unwrap()),
        resource_group_id: answer.resource_group_id.clone(),
        fingerprint_sha256: colons(&root.x509.digest(MessageDigest::sha256()).unwrap()),
        region_id: REGION.into(),
        etag: "1".into(),
        upload_time: answer.upload_time,
        not_before: Some("2023-11-14T22:13:20Z".parse().unwrap()),
        not_after: Some("2096-10-02T07:06:40Z".parse().unwrap()),
        findings: vec![],
    };
    assert_eq!(answer, expected);
    assert!(answer.resource_group_id.starts_with("rg-"));

    let got = get(&client, &id).await.unwrap();
    let spki = root.x509.public_key().unwrap().public_key_to_der().unwrap();
    let expected = pb::CaCertificate {
        ca_certificate_id: id.clone(),
        ca_certificate_name: "Test_Root".into(),
        fingerprint: expected.fingerprint,
        create_time: answer.create_time,
        create_time_stamp: answer.create_time_stamp,
        expire_time: expected.expire_time,
        expire_time_stamp: expected.expire_time_stamp,
        common_name: "Test Root".into(),
        region_id: REGION.into(),
        resource_group_id: expected.resource_group_id,
        tags: tags(&[("env", "prod"), ("team", "shop")]),
        fingerprint_sha256: expected.fingerprint_sha256,
        etag: "1".into(),
        upload_time: answer.upload_time,
        not_before: expected.not_before,
        not_after: expected.not_after,
        delete_time: None,
        serial_number: got.serial_number.clone(),
        issuer: "CN=Test Root".into(),
        subject: "CN=Test Root".into(),
        key_algorithm: pb::KeyAlgorithm::EcdsaP256.into(),
        key_size: 256,
        signature_algorithm: "ecdsa-with-SHA256".into(),
        spki_sha256: hex::encode(certkeep::digest::sha256(&spki)),
        subject_alternative_names: vec![],
        ca_certificate: root.certificate.clone(),
    };
    assert_eq!(got, expected);
    let listed = pb::CaCertificate {
        ca_certificate: String::new(),
        ..expected
    };
    assert_eq!(
        describe(&client, Describe::default()).await,
        (vec![listed], String::new())
    );
    assert_eq!(rows(&server.sql().await).await, [1, 2, 0, 1, 0]);
    server.stop().await;
}

#[tokio::test]
async fn what_should_not_certify_is_kept_and_told() {
    let server = TestServer::start().await;
    let client = server.client();
    let pair = pki::self_signed(Key::Rsa(1024), "shop.example");
    let answer = upload(&client, of(&pair)).await.unwrap();
    assert_eq!(
        codes(&answer.findings),
        [FindingCode::RsaKeySmall, FindingCode::IssuerNotCa]
    );
    let twice = pki::root("Test Root");
    let request = pb::UploadCaCertificateRequest {
        ca_certificate: twice.certificate.repeat(2),
        ..of(&twice)
    };
    let answer = upload(&client, request).await.unwrap();
    assert_eq!(codes(&answer.findings), [FindingCode::DuplicateDropped]);
    assert_eq!(
        get(&client, &answer.ca_certificate_id).await.unwrap().ca_certificate,
        twice.certificate
    );

    let strict = server.replica_with_policy("strict", |_| {}).await;
    let refused = upload(&strict.client(), of(&pair)).await.unwrap_err();
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::InvalidArgument, "POLICY_REJECTED")
    );
    let details = refused.get_error_details();
    assert_eq!(
        details.bad_request().unwrap().field_violations[0].field,
        "ca_certificate"
    );
    let told = findings(&refused).findings;
    assert!(told.iter().all(|finding| finding.severity() == Severity::Error));
    strict.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_validated_upload_answers_as_one_and_stores_nothing() {
    let server = TestServer::start().await;
    let client = server.client();
    let request = request();
    let dry = pb::UploadCaCertificateRequest {
        validate_only: true,
        ..request.clone()
    };
    let dry = upload(&client, dry).await.unwrap();
    assert_eq!(rows(&server.sql().await).await, [0, 0, 0, 0, 0]);
    let stored = upload(&client, request).await.unwrap();
    let expected = pb::UploadCaCertificateResponse {
        request_id: dry.request_id.clone(),
        ca_certificate_id: String::new(),
        create_time: String::new(),
        create_time_stamp: 0,
        upload_time: None,
        etag: String::new(),
        ..stored
    };
    assert_eq!(dry, expected);
    server.stop().await;
}

/// As Terraform's tests of such certificates do.
#[tokio::test(flavor = "multi_thread")]
async fn ten_of_the_same_and_of_one_name_are_kept_at_once() {
    let server = TestServer::start().await;
    let request = pb::UploadCaCertificateRequest {
        ca_certificate_name: "tf-test".into(),
        ca_certificate: pki::root("Test Root").certificate.trim_end().into(),
        ..request()
    };
    let mut calls = tokio::task::JoinSet::new();
    for _ in 0..10 {
        let (client, request) = (server.client(), request.clone());
        calls.spawn(async move { kept(&client, request).await });
    }
    let mut made = calls.join_all().await;
    made.sort();
    let mut listed = ids(&server.client(), Describe::default()).await;
    listed.sort();
    assert_eq!(listed, made);
    made.dedup();
    assert_eq!(made.len(), 10);
    // One more is told which of them is the same.
    let again = upload(&server.client(), request).await.unwrap();
    assert_eq!(codes(&again.findings), [FindingCode::AlreadyStored]);
    assert!(made.contains(&again.findings[0].message.rsplit(' ').next().unwrap().to_owned()));
    assert_eq!(counters_of(&server.sql().await, "ca").await, [(REGION.into(), 11, 11)]);
    server.stop().await;
}

#[tokio::test]
async fn the_two_kinds_never_meet() {
    let server = TestServer::start().await;
    let client = server.client();
    let root = pki::root("Test Root");
    let token = "one token";
    let of_server = pb::UploadServerCertificateRequest {
        client_token: token.into(),
        ..upload_of(&root)
    };
    let of_ca = pb::UploadCaCertificateRequest {
        client_token: token.into(),
        ..of(&root)
    };
    let server_id = stored(&client, &of_server).await;
    let answer = upload(&client, of_ca.clone()).await.unwrap();
    let ca_id = answer.ca_certificate_id.clone();
    // The same certificate, and the same key, of the other kind are no matter.
    assert_eq!(codes(&answer.findings), []);
    assert_eq!(kept(&client, of_ca).await, ca_id);
    assert_eq!(stored(&client, &of_server).await, server_id);

    assert_eq!(ids(&client, Describe::default()).await, [ca_id.as_str()]);
    assert_eq!(calls::ids(&client, Default::default()).await, [server_id.as_str()]);
    assert_eq!(fingerprints(&client).await.len(), 1);
    let by_id = Describe {
        ca_certificate_id: server_id.clone(),
        ..Default::default()
    };
    assert_eq!(ids(&client, by_id).await, [] as [&str; 0]);
    let no_server = (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into());
    assert_eq!(refusal(get(&client, &server_id).await), not_found());
    assert_eq!(refusal(calls::get(&client, &ca_id).await), no_server);
    assert_eq!(refusal(rename(&client, &server_id, "new", ANY).await), not_found());
    assert_eq!(refusal(calls::rename(&client, &ca_id, "new", ANY).await), no_server);
    assert_eq!(refusal(delete(&client, &server_id, ANY).await), not_found());
    assert_eq!(refusal(calls::delete(&client, &ca_id, ANY).await), no_server);
    delete(&client, &ca_id, ANY).await.unwrap();
    assert_eq!(refusal(calls::undelete(&client, &ca_id, ANY).await), no_server);
    assert_eq!(refusal(calls::purge(&client, &ca_id, ANY).await), no_server);
    calls::delete(&client, &server_id, ANY).await.unwrap();
    assert_eq!(refusal(undelete(&client, &server_id, ANY).await), not_found());
    assert_eq!(refusal(purge(&client, &server_id, ANY).await), not_found());
    // A page token of the one is none of the other.
    for _ in 0..2 {
        kept(&client, request()).await;
        stored(&client, &upload_of(&root)).await;
    }
    let page = Describe {
        page_size: 1,
        ..Default::default()
    };
    let (_, page_token) = describe(&client, page).await;
    let other = pb::DescribeServerCertificatesRequest {
        page_token,
        ..Default::default()
    };
    let refused = client.clone().describe_server_certificates(other).await;
    assert_eq!(refusal(refused), (Code::InvalidArgument, "PAGE_TOKEN_INVALID".into()));
    server.stop().await;
}

#[tokio::test]
async fn a_role_may_do_what_its_name_says_and_accounts_are_apart() {
    let server = TestServer::start().await;
    let id = kept(&server.client(), request()).await;
    for (role, may_read, may_edit, may_purge) in [
        ("reader", true, false, false),
        ("editor", true, true, false),
        ("admin", true, true, true),
        ("consumer", false, false, false),
    ] {
        let key = server.add_key(role, Account::New).await;
        let client = server.client_with(Some(&format!("Bearer {key}")));
        let denied = |answer: Result<(), Status>| answer.is_err_and(|error| error.code() == Code::PermissionDenied);
        let list = client.clone().describe_ca_certificates(Describe::default()).await;
        if may_read {
            assert_eq!(list.as_ref().unwrap().get_ref().ca_certificates, []);
        }
        assert_eq!(!denied(list.map(|_| ())), may_read, "{role} lists");
        let outcomes = [
            (get(&client, &id).await.map(|_| ()), may_read),
            (rename(&client, &id, "new", ANY).await.map(|_| ()), may_edit),
            (delete(&client, &id, ANY).await.map(|_| ()), may_edit),
            (undelete(&client, &id, ANY).await.map(|_| ()), may_edit),
            (purge(&client, &id, ANY).await, may_purge),
        ];
        for (place, (outcome, may)) in outcomes.into_iter().enumerate() {
            // What is another account's does not exist.
            let expected = match may {
                true => not_found(),
                false => (Code::PermissionDenied, "PERMISSION_DENIED".into()),
            };
            assert_eq!(refusal(outcome), expected, "{role} {place}");
        }
        // Authorisation comes before validation.
        let empty = upload(&client, Default::default()).await.unwrap_err();
        let expected = if may_edit {
            Code::InvalidArgument
        } else {
            Code::PermissionDenied
        };
        assert_eq!(empty.code(), expected, "{role} uploads");
    }
    assert_eq!(get(&server.client(), &id).await.unwrap().etag, "1");
    server.stop().await;
}

#[tokio::test]
async fn a_retried_upload_is_done_once() {
    let server = TestServer::start().await;
    let client = server.client();
    let request = pb::UploadCaCertificateRequest {
        client_token: "retry 1".into(),
        tags: tags(&[("team", "shop")]),
        ..request()
    };
    let first = upload(&client, request.clone()).await.unwrap();
    let id = first.ca_certificate_id.clone();
    rename(&client, &id, "renamed", ANY).await.unwrap();
    let again = upload(&client, request.clone()).await.unwrap();
    let expected = pb::UploadCaCertificateResponse {
        request_id: again.request_id.clone(),
        ca_certificate_name: "renamed".into(),
        etag: "2".into(),
        ..first
    };
    assert_eq!(again, expected);
    let changes: [&dyn Fn(&mut pb::UploadCaCertificateRequest); 5] = [
        &|r| r.region_id = ELSEWHERE.into(),
        &|r| r.ca_certificate_name = "other".into(),
        &|r| r.tags.clear(),
        &|r| r.ca_certificate.push('\n'),
        &|r| r.ca_certificate = "garbage".into(),
    ];
    for (number, change) in changes.iter().enumerate() {
        let mut other = request.clone();
        change(&mut other);
        let reused = (Code::AlreadyExists, "CLIENT_TOKEN_REUSED".into());
        assert_eq!(refusal(upload(&client, other).await), reused, "change {number}");
    }
    delete(&client, &id, ANY).await.unwrap();
    assert_eq!(refusal(upload(&client, request).await), not_found());
    assert_eq!(rows(&server.sql().await).await, [1, 1, 0, 3, 0]);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_uploads_at_once_exactly_the_quota_is_kept() {
    let change = |config: &mut certkeep::config::Config| {
        (config.ca_certificate_quota, config.server_certificate_quota) = (5, 1);
    };
    let server = TestServer::start_with(change).await;
    let replica = server.replica(change).await;
    let sql = server.sql().await;
    sql.batch_execute("begin; grant update on event to certkeep; lock table event in exclusive mode")
        .await
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for server in [&server, &replica].repeat(6) {
        let client = server.client();
        calls.spawn(async move { upload(&client, request()).await });
    }
    // One of each and those that came behind it: they go without waiting for its end when it is slow.
    until_waiting(&sql, "store::upload", 4).await;
    sql.batch_execute("commit").await.unwrap();
    let (made, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert_eq!((made.len(), refused.len()), (5, 7));
    for refused in refused {
        let details = refused.as_ref().unwrap_err().get_error_details();
        assert_eq!(
            details.quota_failure().unwrap().violations[0].subject,
            "CA certificates of the account in cn-hangzhou"
        );
        assert_eq!(refusal(refused), over_quota());
    }
    let client = server.client();
    // Server certificates have a quota of their own, and other regions too.
    stored(&client, &upload_of(&pki::root("Test Root"))).await;
    let elsewhere = pb::UploadCaCertificateRequest {
        region_id: ELSEWHERE.into(),
        ..request()
    };
    kept(&client, elsewhere).await;
    assert_eq!(counters(&sql).await, [(REGION.into(), 1, 1)]);

    // An undelete counts again, and an account's own quota comes first.
    let id = made[0].as_ref().unwrap().ca_certificate_id.clone();
    delete(&client, &id, ANY).await.unwrap();
    kept(&client, request()).await;
    assert_eq!(refusal(undelete(&client, &id, ANY).await), over_quota());
    let own = "insert into quota (account_id, kind, maximum) select account_id, 'ca', 6 from account
               where name = 'default'";
    sql.execute(own, &[]).await.unwrap();
    undelete(&client, &id, ANY).await.unwrap();
    assert_eq!(refusal(upload(&client, request()).await), over_quota());
    assert_eq!(
        counters_of(&sql, "ca").await,
        [(REGION.into(), 6, 6), (ELSEWHERE.into(), 1, 1)]
    );
    replica.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn a_change_is_made_with_the_etag_of_now_and_refused_with_any_other() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = kept(&client, request()).await;
    let mismatch = (Code::Aborted, "ETAG_MISMATCH".into());
    assert_eq!(refusal(rename(&client, &id, "new", "2").await), mismatch);
    assert_eq!(rename(&client, &id, "new", "1").await.unwrap(), "2");
    assert_eq!(get(&client, &id).await.unwrap().ca_certificate_name, "new");
    assert_eq!(refusal(delete(&client, &id, "1").await), mismatch);
    assert_eq!(delete(&client, &id, "2").await.unwrap(), "3");
    assert_eq!(refusal(undelete(&client, &id, "2").await), mismatch);
    assert_eq!(undelete(&client, &id, "3").await.unwrap(), "4");
    assert_eq!(delete(&client, &id, "4").await.unwrap(), "5");
    assert_eq!(refusal(purge(&client, &id, "4").await), mismatch);
    purge(&client, &id, "5").await.unwrap();
    assert_eq!(rows(&server.sql().await).await, [0, 0, 0, 6, 0]);
    server.stop().await;
}

#[tokio::test]
async fn a_deleted_one_is_gone_until_it_is_undeleted() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = kept(&client, request()).await;
    let other = kept(&client, request()).await;
    let before = get(&client, &id).await.unwrap();
    let not_deleted = (Code::FailedPrecondition, "NOT_DELETED".into());
    assert_eq!(refusal(undelete(&client, &id, ANY).await), not_deleted);
    assert_eq!(refusal(purge(&client, &id, ANY).await), not_deleted);
    delete(&client, &id, ANY).await.unwrap();
    assert_eq!(refusal(get(&client, &id).await), not_found());
    assert_eq!(refusal(rename(&client, &id, "new", ANY).await), not_found());
    assert_eq!(refusal(delete(&client, &id, ANY).await), not_found());
    assert_eq!(ids(&client, Describe::default()).await, [other.as_str()]);
    let (listed, _) = describe(&client, deleted()).await;
    assert_eq!((listed.len(), listed[0].delete_time.is_some()), (1, true));
    undelete(&client, &id, ANY).await.unwrap();
    let expected = pb::CaCertificate {
        etag: "3".into(),
        ..before
    };
    assert_eq!(get(&client, &id).await.unwrap(), expected);
    // Another region than its own finds nothing.
    let elsewhere = pb::DeleteCaCertificateRequest {
        region_id: ELSEWHERE.into(),
        ca_certificate_id: id.clone(),
        ..Default::default()
    };
    assert_eq!(
        refusal(client.clone().delete_ca_certificate(elsewhere).await),
        not_found()
    );
    server.stop().await;
}

#[tokio::test]
async fn what_was_deleted_long_ago_is_removed() {
    let server = TestServer::start().await;
    let client = server.client();
    let tagged = pb::UploadCaCertificateRequest {
        tags: tags(&[("team", "shop")]),
        ..request()
    };
    let [old, young] = [kept(&client, tagged.clone()).await, kept(&client, tagged).await];
    delete(&client, &old, ANY).await.unwrap();
    let sql = server.sql().await;
    sql.execute(
        "update certificate set deleted_at = now() - interval '8 days' where kind = 'ca' and deleted_at is not null",
        &[],
    )
    .await
    .unwrap();
    delete(&client, &young, ANY).await.unwrap();
    // A start runs the job.
    let replica = server.replica(|_| {}).await;
    until(async || ids(&client, deleted()).await == [young.as_str()]).await;
    assert_eq!(rows(&sql).await[..2], [1, 1]);
    replica.stop().await;

    let keeps_none = server
        .replica(|config| config.delete_retention = std::time::Duration::ZERO)
        .await;
    let id = kept(&keeps_none.client(), request()).await;
    assert_eq!(delete(&keeps_none.client(), &id, ANY).await.unwrap(), "");
    assert_eq!(refusal(undelete(&keeps_none.client(), &id, ANY).await), not_found());
    keeps_none.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn pages_show_everything_once_by_every_filter() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut all = Vec::new();
    for (region, of) in [
        (REGION, &[("env", "prod"), ("team", "shop")][..]),
        (ELSEWHERE, &[("env", "prod")]),
        (REGION, &[("env", "test"), ("team", "shop")]),
        (REGION, &[]),
        (REGION, &[("team", "shop"), ("env", "prod")]),
    ] {
        let request = pb::UploadCaCertificateRequest {
            region_id: region.into(),
            tags: tags(of),
            ..request()
        };
        all.push(kept(&client, request).await);
    }
    let cases: [(&str, Pairs, &[usize]); 6] = [
        ("", &[], &[0, 1, 2, 3, 4]),
        (REGION, &[], &[0, 2, 3, 4]),
        ("", &[("env", "prod")], &[0, 1, 4]),
        ("", &[("env", "prod"), ("team", "shop")], &[0, 4]),
        (ELSEWHERE, &[("team", "shop")], &[]),
        (REGION, &[("env", "prod")], &[0, 4]),
    ];
    for (region, of, expected) in cases {
        for page_size in [0, 1, 2] {
            let request = Describe {
                region_id: region.into(),
                tags: tags(of),
                page_size,
                ..Default::default()
            };
            let expected: Vec<_> = expected.iter().map(|&place| all[place].clone()).collect();
            assert_eq!(ids(&client, request).await, expected, "{region} {of:?} {page_size}");
        }
    }
    let by_id = |id: &str, of| Describe {
        ca_certificate_id: id.into(),
        tags: tags(of),
        ..Default::default()
    };
    assert_eq!(ids(&client, by_id(&all[1], &[])).await, [all[1].as_str()]);
    assert_eq!(ids(&client, by_id(&all[1], &[("team", "shop")])).await, [] as [&str; 0]);
    assert_eq!(ids(&client, by_id("nonsense", &[])).await, [] as [&str; 0]);
    server.stop().await;
}

/// What the command prints, which must succeed.
fn run(server: &TestServer, args: &[&str]) -> String {
    let output = std::process::Command::new(CERTKEEP)
        .arg("ca")
        .args(args)
        .args(["--endpoint", &server.endpoint(), "--access-key-file"])
        .arg(server.admin_key_file())
        .output()
        .unwrap();
    assert!(output.status.success(), "{args:?}: {}", stderr(&output));
    stdout(&output)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_commands_do_what_the_calls_do() {
    let server = TestServer::start().await;
    let root = pki::root("Test Root");
    let file = server.data_dir().join("root.pem");
    std::fs::write(&file, &root.certificate).unwrap();
    let file = file.to_str().unwrap();
    let uploaded = run(&server, &["upload", file, "--region", REGION, "--tag", "team=shop"]);
    let id = uploaded
        .lines()
        .find_map(|line| line.strip_prefix("id "))
        .unwrap()
        .trim();
    assert!(uploaded.contains("name          Test_Root\n"), "{uploaded}");
    assert_eq!(run(&server, &["get", id, "--output", "pem"]), root.certificate);
    let shown = run(&server, &["get", id]);
    assert!(
        shown.contains("tags          team=shop\n") && !shown.contains("chain"),
        "{shown}"
    );
    let json: serde_json::Value = serde_json::from_str(&run(&server, &["get", id, "--output", "json"])).unwrap();
    assert_eq!(json["caCertificate"]["caCertificate"], root.certificate.as_str());
    assert_eq!(
        run(&server, &["rename", id, "root-1", "--region", REGION]),
        format!("id            {id}\nname          root-1\netag          2\n")
    );
    let listed = run(&server, &["describe", "--tag", "team=shop"]);
    assert!(
        listed.lines().count() == 2 && listed.contains(id) && listed.contains("root-1"),
        "{listed}"
    );
    assert_eq!(
        run(&server, &["delete", id, "--if-etag", "2"]),
        format!("deleted       {id}\netag          3\n")
    );
    let listed = run(&server, &["describe", "--deleted", "--output", "json"]);
    let listed: serde_json::Value = serde_json::from_str(&listed).unwrap();
    assert_eq!(listed["caCertificates"][0]["caCertificateId"], id);
    assert_eq!(
        run(&server, &["undelete", id]),
        format!("undeleted     {id}\netag          4\n")
    );
    run(&server, &["delete", id]);
    assert_eq!(run(&server, &["purge", id]), format!("purged        {id}\n"));
    assert_eq!(rows(&server.sql().await).await[0], 0);
    server.stop().await;
}
