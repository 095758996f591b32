//! Renewing, rolling back, and the versions that are kept.

use std::time::Duration;

use certkeep::grpc::pb::{self, CertificateEventKind as Kind};
use openssl::asn1::Asn1Time;
use openssl::hash::MessageDigest;
use openssl::x509::extension::SubjectAlternativeName;
use tokio::task::JoinSet;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bad_input::reason;
use crate::calls::{
    ANY, delete, get, refusal, rename, renew, renewal_of, roll_back, stored, tags, undelete, upload, versions,
};
use crate::deletes::{old_token, until_the_job_has_run};
use crate::harness::{Account, Client, REGION, TestServer, rows, until, until_waiting, upload_of};
use crate::pki::{self, Key, Pair};
use crate::proxy::{Moment, Proxy, Way};
use crate::scope::Limits;
use crate::watches::Watch;

/// A self-signed pair with these names, that expires at this second of Unix time.
fn named(names: &[&str], not_after: i64) -> Pair {
    let key = Key::P256.make();
    let mut builder = pki::builder(&key, names[0]);
    builder.set_issuer_name(&pki::subject(names[0])).unwrap();
    builder.set_not_after(&Asn1Time::from_unix(not_after).unwrap()).unwrap();
    let mut san = SubjectAlternativeName::new();
    for name in names {
        san.dns(name);
    }
    let san = san.build(&builder.x509v3_context(None, None)).unwrap();
    builder.append_extension(san).unwrap();
    builder.sign(&key, MessageDigest::sha256()).unwrap();
    pki::pair(&key, builder.build())
}

fn codes(findings: &[pb::Finding]) -> Vec<&str> {
    let name = |finding: &pb::Finding| finding.code().as_str_name().strip_prefix("FINDING_CODE_").unwrap();
    findings.iter().map(name).collect()
}

/// The codes that only a renewal has, and those of reuse.
fn differences(answer: &pb::RenewServerCertificateResponse) -> Vec<&str> {
    let of_pair = ["SELF_SIGNED", "VALIDITY_TOO_LONG"];
    let mut codes = codes(&answer.findings);
    codes.retain(|code| !of_pair.contains(code));
    codes
}

fn not_found() -> (Code, String) {
    (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into())
}

/// The searchable names of all certificates.
async fn searchable(sql: &tokio_postgres::Client) -> Vec<String> {
    let all = "select searchable_name from searchable_name order by searchable_name";
    let rows = sql.query(all, &[]).await.unwrap();
    rows.iter().map(|row| row.get(0)).collect()
}

async fn events(sql: &tokio_postgres::Client) -> Vec<(String, i64, i64, Option<String>)> {
    let all = "select kind, revision, version, detail::text from event order by position";
    let rows = sql.query(all, &[]).await.unwrap();
    rows.iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3)))
        .collect()
}

#[tokio::test]
async fn a_renewed_certificate_keeps_everything_but_its_pair() {
    let server = TestServer::start().await;
    let (client, sql) = (server.client(), server.sql().await);
    let old = pki::issued(Key::Rsa(2048), "a.example");
    let request = pb::UploadServerCertificateRequest {
        server_certificate_name: "named".into(),
        tags: tags(&[("team", "shop")]),
        ..upload_of(&old)
    };
    let id = stored(&client, &request).await;
    let before = get(&client, &id).await.unwrap();
    assert_eq!(before.renew_time, None);

    let new = pki::self_signed(Key::P256, "a.example");
    let answer = renew(&client, renewal_of(&id, &new)).await.unwrap();
    assert_eq!(answer.previous_version, 1);
    assert_eq!(differences(&answer), ["KEY_TYPE_CHANGED"]);
    assert!(answer.server_certificate_ids.is_empty() && answer.lost_names.is_empty());
    let after = get(&client, &id).await.unwrap();
    let without_chain = pb::ServerCertificate {
        certificate_chain: String::new(),
        ..after.clone()
    };
    assert_eq!(answer.server_certificate.unwrap(), without_chain);
    // The same facts as those of an upload of the pair.
    let uploaded = stored(&client, &upload_of(&new)).await;
    let facts = get(&client, &uploaded).await.unwrap();
    let renew_time = after.renew_time;
    assert!(renew_time.unwrap().seconds >= before.upload_time.unwrap().seconds);
    let expected = pb::ServerCertificate {
        server_certificate_id: before.server_certificate_id,
        server_certificate_name: before.server_certificate_name,
        create_time: before.create_time,
        create_time_stamp: before.create_time_stamp,
        upload_time: before.upload_time,
        tags: before.tags,
        version: 2,
        etag: "2".into(),
        renew_time,
        ..facts
    };
    assert_eq!(after, expected);
    assert_eq!(events(&sql).await[1], ("renewed".into(), 2, 2, None));
    // Its old names are gone.
    let third = named(&["b.example"], 4_000_000_000);
    let lost = pb::RenewServerCertificateRequest {
        allow_lost_names: true,
        ..renewal_of(&id, &third)
    };
    let answer = renew(&client, lost).await.unwrap();
    assert_eq!(answer.lost_names, ["a.example", "www.a.example"]);
    assert_eq!(differences(&answer), ["NAMES_CHANGED"]);
    assert_eq!(searchable(&sql).await, ["example.a", "example.a.www", "example.b"]);

    let listed = versions(&client, &id).await.unwrap();
    let shown = |version: &pb::ServerCertificateVersion| {
        let (principal, is_present) = (!version.principal.is_empty(), version.is_present);
        let times = [version.end_time.is_some(), version.purge_time.is_some()];
        (
            version.version,
            version.common_name.clone(),
            principal,
            is_present,
            times,
        )
    };
    assert_eq!(
        listed.iter().map(shown).collect::<Vec<_>>(),
        [
            (3, "b.example".into(), true, true, [false, false]),
            (2, "a.example".into(), true, false, [true, true]),
            (1, "a.example".into(), false, false, [true, true]),
        ]
    );
    assert_eq!(listed[2].begin_time, before.upload_time);
    assert_eq!(listed[1].begin_time, renew_time);
    assert_eq!(
        (listed[2].end_time, listed[2].fingerprint.clone()),
        (listed[1].begin_time, before.fingerprint)
    );
    let (ended, purged) = (listed[2].end_time.unwrap(), listed[2].purge_time.unwrap());
    assert_eq!(purged.seconds - ended.seconds, 90 * 24 * 60 * 60);

    // A rollback gives the pair back, as a new version.
    let rolled_back = roll_back(&client, &id, 1, "3").await.unwrap();
    let again = get(&client, &id).await.unwrap();
    assert_eq!(
        (again.version, again.etag.as_str(), &again.fingerprint),
        (4, "4", &listed[2].fingerprint)
    );
    assert_eq!(again.certificate_chain.matches("BEGIN").count(), 2);
    let without_chain = pb::ServerCertificate {
        certificate_chain: String::new(),
        ..again
    };
    assert_eq!(rolled_back, without_chain);
    assert_eq!(
        searchable(&sql).await,
        ["example.a", "example.a", "example.a.www", "example.a.www"]
    );
    let event = events(&sql).await.pop().unwrap();
    assert_eq!(
        event,
        ("rolled_back".into(), 4, 4, Some(r#"{"rolled_back_to": 1}"#.into()))
    );
    let listed = versions(&client, &id).await.unwrap();
    assert_eq!((listed[0].rolled_back_to, listed[1].rolled_back_to), (1, 0));
    // Version 1 and version 4 share a key.
    assert_eq!(rows(&sql).await[..2], [2, 4]);
    server.stop().await;
}

#[tokio::test]
async fn the_same_pair_again_changes_nothing() {
    let server = TestServer::start().await;
    let client = server.client();
    let pair = pki::issued(Key::P256, "a.example");
    let id = stored(&client, &upload_of(&pair)).await;
    let before = server.rows().await;
    for everywhere in [false, true] {
        let request = pb::RenewServerCertificateRequest {
            everywhere,
            client_token: "nightly".into(),
            ..renewal_of(&id, &pair)
        };
        let answer = renew(&client, request).await.unwrap();
        let certificate = answer.server_certificate.as_ref().unwrap();
        assert_eq!(
            (answer.previous_version, certificate.version, certificate.etag.as_str()),
            (1, 1, "1")
        );
        assert_eq!(differences(&answer), ["ALREADY_STORED"]);
        assert!(answer.findings.iter().any(|finding| finding.message.contains(&id)));
        assert!(answer.server_certificate_ids.is_empty());
    }
    assert_eq!(server.rows().await, before);
    // The same leaf with another chain is another version.
    let leaf_only = pki::pem(&pair.x509);
    let request = pb::RenewServerCertificateRequest {
        server_certificate: leaf_only,
        ..renewal_of(&id, &pair)
    };
    let certificate = renew(&client, request).await.unwrap().server_certificate.unwrap();
    assert_eq!((certificate.version, certificate.chain_length), (2, 1));
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_with_a_renewal_is_told_and_nothing_changes() {
    let server = TestServer::start().await;
    let client = server.client();
    let old = named(&["a.shop.example", "b.shop.example", "*.c.shop.example"], 4_000_000_000);
    let id = stored(&client, &upload_of(&old)).await;
    let new = named(&["a.shop.example", "*.shop.example", "d.c.shop.example"], 3_900_000_000);
    let good = renewal_of(&id, &new);
    let other = pki::self_signed(Key::P256, "other.example");
    let with = |change: fn(&mut pb::RenewServerCertificateRequest)| {
        let mut request = good.clone();
        change(&mut request);
        request
    };
    let wrong_key = pb::RenewServerCertificateRequest {
        private_key: other.key,
        ..good.clone()
    };
    let before = server.rows().await;
    for (request, expected) in [
        (good.clone(), "NAMES_LOST"),
        (with(|request| request.if_etag = "2".into()), "ETAG_MISMATCH"),
        (with(|request| request.if_etag = "+1".into()), "ETAG_MISMATCH"),
        (with(|request| request.server_certificate_id.clear()), "FIELD_INVALID"),
        (
            with(|request| request.server_certificate_id = "none".into()),
            "SERVER_CERTIFICATE_NOT_FOUND",
        ),
        (with(|request| request.region_id = "mars-1".into()), "REGION_NOT_FOUND"),
        (
            with(|request| request.region_id = "eu-central-1".into()),
            "SERVER_CERTIFICATE_NOT_FOUND",
        ),
        (
            with(|request| request.server_certificate.clear()),
            "CERTIFICATE_OR_KEY_MISSING",
        ),
        (
            with(|request| request.private_key = "key".into()),
            "PRIVATE_KEY_MALFORMED",
        ),
        (wrong_key, "PRIVATE_KEY_MISMATCH"),
        (with(|request| request.client_token = "\u{e9}".into()), "FIELD_INVALID"),
        (
            with(|request| request.ali_cloud_certificate_id = "1".into()),
            "ALI_CLOUD_NOT_CONFIGURED",
        ),
        (
            with(|request| request.ali_cloud_certificate_region_id = "1".into()),
            "FIELD_INVALID",
        ),
    ] {
        for validate_only in [true, false] {
            let request = pb::RenewServerCertificateRequest {
                validate_only: validate_only && request.client_token.is_empty(),
                ..request.clone()
            };
            let refused = renew(&client, request).await.unwrap_err();
            assert_eq!(reason(&refused), expected, "{refused:?}");
        }
    }
    let lost = renew(&client, good.clone()).await.unwrap_err();
    assert_eq!(lost.code(), Code::FailedPrecondition);
    let info = lost.get_error_details().error_info().unwrap().clone();
    assert_eq!(info.metadata["lost_names"], "*.c.shop.example");
    let both = pb::RenewServerCertificateRequest {
        region_id: "mars-1".into(),
        server_certificate_id: String::new(),
        validate_only: true,
        client_token: "token".into(),
        ..good.clone()
    };
    let refused = renew(&client, both).await.unwrap_err();
    let fields = refused.get_error_details().bad_request().unwrap().clone();
    let fields: Vec<_> = fields.field_violations.into_iter().map(|one| one.field).collect();
    assert_eq!(fields, ["region_id", "server_certificate_id", "client_token"]);

    // A validation stores nothing either, and answers as the renewal.
    let allowed = pb::RenewServerCertificateRequest {
        allow_lost_names: true,
        ..good
    };
    let validate_only = pb::RenewServerCertificateRequest {
        validate_only: true,
        ..allowed.clone()
    };
    let mut validated = renew(&client, validate_only).await.unwrap();
    assert_eq!(server.rows().await, before);
    assert_eq!(versions(&client, &id).await.unwrap().len(), 1);
    let mut renewed = renew(&client, allowed).await.unwrap();
    assert_eq!(differences(&renewed), ["EXPIRES_EARLIER", "NAMES_CHANGED"]);
    assert_eq!(renewed.lost_names, ["*.c.shop.example"]);
    let certificate = renewed.server_certificate.as_mut().unwrap();
    assert_eq!(certificate.etag, "2");
    (certificate.etag, certificate.renew_time) = (String::new(), None);
    renewed.request_id.clear();
    validated.request_id.clear();
    assert_eq!(validated, renewed);

    // Rollbacks.
    for (id, version, etag, expected) in [
        (id.as_str(), 0, ANY, "FIELD_INVALID"),
        (&id, -1, ANY, "FIELD_INVALID"),
        ("", 1, ANY, "FIELD_INVALID"),
        (&id, 2, ANY, "VERSION_NOT_FOUND"),
        (&id, 3, ANY, "VERSION_NOT_FOUND"),
        (&id, i64::MAX, ANY, "VERSION_NOT_FOUND"),
        (&id, 1, "1", "ETAG_MISMATCH"),
        ("none", 1, ANY, "SERVER_CERTIFICATE_NOT_FOUND"),
    ] {
        let refused = roll_back(&client, id, version, etag).await.unwrap_err();
        assert_eq!(reason(&refused), expected, "{id} {version}");
    }
    delete(&client, &id, ANY).await.unwrap();
    assert_eq!(refusal(versions(&client, &id).await), not_found());
    assert_eq!(refusal(roll_back(&client, &id, 1, ANY).await), not_found());
    assert_eq!(refusal(renew(&client, renewal_of(&id, &old)).await), not_found());
    undelete(&client, &id, ANY).await.unwrap();
    roll_back(&client, &id, 1, ANY).await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_watch_tells_renewals_and_rollbacks_with_growing_versions() {
    let server = TestServer::start().await;
    let client = server.client();
    let consumer = server.add_key("consumer", Account::First).await;
    let mut watch = Watch::open(&server, &consumer, pb::WatchServerCertificatesRequest::default())
        .await
        .unwrap();
    assert_eq!(watch.next().await.unwrap().kind(), Kind::Synced);
    let id = stored(&client, &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
    let new = pki::self_signed(Key::P384, "a.example");
    renew(&client, renewal_of(&id, &new)).await.unwrap();
    roll_back(&client, &id, 1, ANY).await.unwrap();
    for expected in [(Kind::Uploaded, 1), (Kind::Renewed, 2), (Kind::RolledBack, 3)] {
        let message = watch.next().await.unwrap();
        assert_eq!((message.kind(), message.version), expected);
    }
    server.stop().await;
}

#[tokio::test]
async fn a_policy_can_refuse_what_a_renewal_changes() {
    let server = TestServer::start_with_policy("default,EXPIRES_EARLIER=reject").await;
    let client = server.client();
    let id = stored(&client, &upload_of(&named(&["a.example"], 4_000_000_000))).await;
    let refused = renew(&client, renewal_of(&id, &named(&["a.example"], 3_900_000_000))).await;
    assert_eq!(refusal(refused), (Code::InvalidArgument, "POLICY_REJECTED".into()));
    renew(&client, renewal_of(&id, &named(&["a.example"], 4_000_000_001)))
        .await
        .unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_token_makes_a_renewal_once_and_gets_its_answer_again() {
    let server = TestServer::start().await;
    let client = server.client();
    let [first, second, third] = [1, 2, 3].map(|_| pki::self_signed(Key::P256, "a.example"));
    let id = stored(&client, &upload_of(&first)).await;
    let request = pb::RenewServerCertificateRequest {
        client_token: "token".into(),
        if_etag: "1".into(),
        ..renewal_of(&id, &second)
    };
    // Eight at once.
    let mut calls = JoinSet::new();
    for _ in 0..8 {
        let (client, request) = (client.clone(), request.clone());
        calls.spawn(async move { renew(&client, request).await.unwrap() });
    }
    for answer in calls.join_all().await {
        let certificate = answer.server_certificate.unwrap();
        assert_eq!(
            (answer.previous_version, certificate.version, certificate.etag.as_str()),
            (1, 2, "2")
        );
    }
    renew(&client, renewal_of(&id, &third)).await.unwrap();
    let answer = renew(&client, request.clone()).await.unwrap();
    // The certificate as it is now.
    assert_eq!(
        (answer.previous_version, answer.server_certificate.unwrap().version),
        (1, 3)
    );
    let other = pb::RenewServerCertificateRequest {
        allow_lost_names: true,
        ..request.clone()
    };
    assert_eq!(
        refusal(renew(&client, other).await),
        (Code::AlreadyExists, "CLIENT_TOKEN_REUSED".into())
    );
    // An upload has other tokens, and a refused renewal used none up.
    let upload_with = pb::UploadServerCertificateRequest {
        client_token: "token".into(),
        ..upload_of(&first)
    };
    upload(&client, upload_with).await.unwrap();
    let refused = pb::RenewServerCertificateRequest {
        client_token: "other".into(),
        if_etag: "1".into(),
        ..renewal_of(&id, &first)
    };
    assert_eq!(
        reason(&renew(&client, refused.clone()).await.unwrap_err()),
        "ETAG_MISMATCH"
    );
    let right = pb::RenewServerCertificateRequest {
        if_etag: "3".into(),
        ..refused
    };
    assert_eq!(renew(&client, right).await.unwrap().previous_version, 3);
    delete(&client, &id, ANY).await.unwrap();
    assert_eq!(refusal(renew(&client, request).await), not_found());
    server.stop().await;
}

#[tokio::test]
async fn everywhere_renews_all_with_the_pair_or_none() {
    let server = TestServer::start().await;
    let (client, sql) = (server.client(), server.sql().await);
    let [old, new, other] = [1, 2, 3].map(|_| named(&["*.a.example"], 4_000_000_000));
    let mut ids = Vec::new();
    for (region, pair) in [
        (REGION, &old),
        ("eu-central-1", &old),
        (REGION, &old),
        (REGION, &other),
        (REGION, &old),
    ] {
        let request = pb::UploadServerCertificateRequest {
            region_id: region.into(),
            ..upload_of(pair)
        };
        ids.push(stored(&client, &request).await);
    }
    let deleted = ids.pop().unwrap();
    delete(&client, &deleted, ANY).await.unwrap();
    let request = pb::RenewServerCertificateRequest {
        everywhere: true,
        client_token: "token".into(),
        ..renewal_of(&ids[1], &new)
    };

    // One of them changes while the renewal waits for it: the renewal reads again.
    let blocker = server.sql().await;
    blocker
        .batch_execute("begin; select from certificate where name = '_.a.example' or true for update")
        .await
        .unwrap();
    let (answer, ()) = tokio::join!(renew(&client, request.clone()), async {
        until_waiting(&sql, "store::renew", 1).await;
        let change =
            "update certificate set revision = revision + 1, name = 'changed' where region_id = 'eu-central-1'; commit";
        blocker.batch_execute(change).await.unwrap();
    });
    let answer = answer.unwrap();
    assert_eq!(answer.server_certificate_ids, ids[..3]);
    assert_eq!(
        answer.server_certificate.as_ref().unwrap().server_certificate_name,
        "changed"
    );
    let mut found = Vec::new();
    for id in &ids {
        let certificate = get(&client, id).await.unwrap();
        found.push((certificate.version, certificate.fingerprint));
    }
    let renewed = answer.server_certificate.unwrap().fingerprint;
    assert_eq!(found[..3], vec![(2, renewed.clone()); 3]);
    assert_eq!(found[3].0, 1);
    // Each has its own key row, and the events follow each other.
    let keys = "select count(distinct key_id) from certificate where version = 2";
    assert_eq!(sql.query_one(keys, &[]).await.unwrap().get::<_, i64>(0), 3);
    let events = events(&sql).await;
    assert_eq!(events.iter().filter(|event| event.0 == "renewed").count(), 3);
    let again = renew(&client, request).await.unwrap();
    assert_eq!(
        (again.previous_version, &again.server_certificate_ids[..]),
        (1, &ids[..3])
    );

    // Those outside the caller's scope stay.
    let key = server.add_key("editor", Account::First).await;
    let limits = Limits {
        regions: vec![REGION.into()],
        ..Default::default()
    };
    server.limit_key(&key, &limits).await;
    let scoped = server.client_with(Some(&format!("Bearer {key}")));
    let request = pb::RenewServerCertificateRequest {
        everywhere: true,
        ..renewal_of(&ids[0], &named(&["*.a.example"], 4_000_000_000))
    };
    let answer = renew(&scoped, request).await.unwrap();
    assert_eq!(answer.server_certificate_ids, [ids[0].clone(), ids[2].clone()]);
    let back = pb::RenewServerCertificateRequest {
        everywhere: true,
        ..renewal_of(&ids[0], &new)
    };
    assert_eq!(renew(&scoped, back).await.unwrap().server_certificate_ids.len(), 2);

    // More than 20.
    for _ in 0..18 {
        stored(&client, &upload_of(&new)).await;
    }
    let before = server.rows().await;
    let request = pb::RenewServerCertificateRequest {
        everywhere: true,
        ..renewal_of(&ids[1], &old)
    };
    let refused = renew(&client, request.clone()).await.unwrap_err();
    assert_eq!(reason(&refused), "FIELD_INVALID");
    assert_eq!(
        refused.get_error_details().bad_request().unwrap().field_violations[0].field,
        "everywhere"
    );
    assert_eq!(server.rows().await, before);
    delete(&client, &ids[0], ANY).await.unwrap();
    let answer = renew(&client, request).await.unwrap();
    assert_eq!(answer.server_certificate_ids.len(), 20);
    server.stop().await;
}

/// Holds the certificate's row while `call` runs until its statement waits for the row. `change` is made before.
async fn beside<T>(
    server: &TestServer,
    (statement, change): (&str, &str),
    call: impl Future<Output = Result<T, Status>>,
) -> Result<T, Status> {
    let (blocker, sql) = (server.sql().await, server.sql().await);
    blocker
        .batch_execute("begin; select from certificate for update")
        .await
        .unwrap();
    let (answer, ()) = tokio::join!(call, async {
        until_waiting(&sql, statement, 1).await;
        blocker.batch_execute(&format!("{change}; commit")).await.unwrap();
    });
    answer
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_beside_a_renewal_is_neither_lost_nor_doubled() {
    let server = TestServer::start_with(|config| config.delete_retention = Duration::ZERO).await;
    let (client, sql) = (server.client(), server.sql().await);
    let [first, second] = [1, 2].map(|_| pki::self_signed(Key::P256, "a.example"));
    let id = stored(&client, &upload_of(&first)).await;
    // Renamed meanwhile: the renewal reads again, and answers the new name.
    let rename = "update certificate set name = 'renamed', revision = revision + 1";
    let answer = beside(
        &server,
        ("store::renew", rename),
        renew(&client, renewal_of(&id, &second)),
    )
    .await;
    let certificate = answer.unwrap().server_certificate.unwrap();
    assert_eq!(
        (certificate.server_certificate_name.as_str(), certificate.etag.as_str()),
        ("renamed", "3")
    );
    // Under an etag, it is refused.
    let request = pb::RenewServerCertificateRequest {
        if_etag: "3".into(),
        ..renewal_of(&id, &first)
    };
    let answer = beside(&server, ("store::renew", rename), renew(&client, request)).await;
    assert_eq!(refusal(answer), (Code::Aborted, "ETAG_MISMATCH".into()));
    let answer = beside(&server, ("store::roll_back", rename), roll_back(&client, &id, 1, "4")).await;
    assert_eq!(refusal(answer), (Code::Aborted, "ETAG_MISMATCH".into()));
    // Deleted meanwhile.
    let delete_it = "update certificate set deleted_at = now(), revision = revision + 1";
    let answer = beside(
        &server,
        ("store::renew", delete_it),
        renew(&client, renewal_of(&id, &first)),
    )
    .await;
    assert_eq!(refusal(answer), not_found());
    sql.execute("update certificate set deleted_at = null, revision = revision + 1", &[])
        .await
        .unwrap();

    // A purge that waits for a renewal also removes the names, the key and the version of the renewal.
    let blocker = server.sql().await;
    blocker
        .batch_execute("begin; select from certificate for update")
        .await
        .unwrap();
    let third = pb::RenewServerCertificateRequest {
        allow_lost_names: true,
        ..renewal_of(&id, &named(&["b.example"], 4_000_000_000))
    };
    let renewing = tokio::spawn({
        let client = client.clone();
        async move { renew(&client, third).await }
    });
    until_waiting(&sql, "store::renew", 1).await;
    let deleting = tokio::spawn({
        let (client, id) = (client.clone(), id.clone());
        async move { delete(&client, &id, ANY).await }
    });
    until_waiting(&sql, "store::delete", 1).await;
    blocker.batch_execute("commit").await.unwrap();
    renewing.await.unwrap().unwrap();
    deleting.await.unwrap().unwrap();
    assert_eq!(rows(&sql).await[..3], [0, 0, 0]);
    let left = "select (select count(*) from certificate_version) + (select count(*) from searchable_name)";
    assert_eq!(sql.query_one(left, &[]).await.unwrap().get::<_, i64>(0), 0);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_answer_of_a_renewal_is_looked_up() {
    let server = TestServer::start().await;
    let (proxy, database) = Proxy::before(server.database());
    let replica = server.replica_on(database, "", |_| {}).await;
    let client = replica.client();
    let [first, second, third] = [1, 2, 3].map(|_| pki::self_signed(Key::P256, "a.example"));
    let id = stored(&client, &upload_of(&first)).await;
    // Only statements that change something name the principal.
    let principal = server.admin_key().split_once('.').unwrap().0.to_owned().leak();
    for (version, pair, token, moment) in [
        (2, &second, "token 2", Moment::BeforeStatement),
        (3, &third, "token 3", Moment::BeforeAnswer),
    ] {
        let request = pb::RenewServerCertificateRequest {
            client_token: token.into(),
            ..renewal_of(&id, pair)
        };
        proxy.cut_at(principal, moment, Way::Open);
        let answer = renew(&client, request).await.unwrap();
        assert!(proxy.has_cut());
        assert_eq!(
            (answer.previous_version, answer.server_certificate.unwrap().version),
            (version - 1, version)
        );
    }
    proxy.cut_at(principal, Moment::BeforeAnswer, Way::Open);
    assert_eq!(roll_back(&client, &id, 1, ANY).await.unwrap().version, 4);
    assert!(proxy.has_cut());
    let listed = versions(&client, &id).await.unwrap();
    assert_eq!(
        listed.iter().map(|version| version.version).collect::<Vec<_>>(),
        [4, 3, 2, 1]
    );
    replica.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn versions_are_listed_in_pages() {
    let server = TestServer::start().await;
    let client = server.client();
    let [first, second] = [1, 2].map(|_| pki::self_signed(Key::P256, "a.example"));
    let id = stored(&client, &upload_of(&first)).await;
    for pair in [&second, &first, &second, &first] {
        renew(&client, renewal_of(&id, pair)).await.unwrap();
    }
    let page = |page_size: i32, page_token: &str, region: &str| {
        let request = pb::ListServerCertificateVersionsRequest {
            region_id: region.into(),
            server_certificate_id: id.clone(),
            page_size,
            page_token: page_token.into(),
        };
        let mut client = client.clone();
        async move {
            client
                .list_server_certificate_versions(request)
                .await
                .map(tonic::Response::into_inner)
        }
    };
    let (mut token, mut pages) = (String::new(), Vec::new());
    loop {
        let answer = page(2, &token, "").await.unwrap();
        pages.push(
            answer
                .versions
                .iter()
                .map(|version| version.version)
                .collect::<Vec<_>>(),
        );
        if answer.next_page_token.is_empty() {
            break;
        }
        token = answer.next_page_token;
    }
    assert_eq!(pages, [vec![5, 4], vec![3, 2], vec![1]]);
    for (size, token, region, expected) in [
        (-1, "", "", "FIELD_INVALID"),
        (1, "nonsense", "", "PAGE_TOKEN_INVALID"),
        (2, token.as_str(), REGION, "PAGE_TOKEN_INVALID"),
        (1, "", "eu-central-1", "SERVER_CERTIFICATE_NOT_FOUND"),
    ] {
        assert_eq!(reason(&page(size, token, region).await.unwrap_err()), expected);
    }
    server.stop().await;
}

/// The versions that are kept, and the number of key rows.
async fn kept(client: &Client, sql: &tokio_postgres::Client, id: &str) -> (Vec<i64>, i64) {
    let listed = versions(client, id).await.unwrap();
    let versions = listed.iter().map(|version| version.version).collect();
    (versions, rows(sql).await[1])
}

#[tokio::test]
async fn old_versions_are_purged_with_their_keys_by_number_and_age() {
    let server = TestServer::start_with(|config| config.version_retention = 3).await;
    let (client, sql) = (server.client(), server.sql().await);
    let [first, second] = [1, 2].map(|_| pki::self_signed(Key::P256, "a.example"));
    let id = stored(&client, &upload_of(&first)).await;
    renew(&client, renewal_of(&id, &second)).await.unwrap(); // 2
    roll_back(&client, &id, 1, ANY).await.unwrap(); // 3, with the key of 1
    renew(&client, renewal_of(&id, &second)).await.unwrap(); // 4
    roll_back(&client, &id, 1, ANY).await.unwrap(); // 5, with the key of 1
    assert_eq!(kept(&client, &sql, &id).await, (vec![5, 4, 3, 2, 1], 3));
    // The job runs at the start. Version 3 and the present one have the key of version 1.
    let second_run = server.replica(|config| config.version_retention = 3).await;
    until(async || kept(&client, &sql, &id).await.0.len() == 4).await;
    assert_eq!(kept(&client, &sql, &id).await, (vec![5, 4, 3, 2], 3));
    second_run.stop().await;
    let age = "update certificate_version set ended_at = now() - interval '91 days' where version in (2, 3)";
    assert_eq!(sql.execute(age, &[]).await.unwrap(), 2);
    let third_run = server.replica(|_| {}).await;
    until(async || kept(&client, &sql, &id).await.0.len() == 2).await;
    assert_eq!(kept(&client, &sql, &id).await, (vec![5, 4], 2));
    third_run.stop().await;
    // None are kept. A locked certificate waits for the next run.
    let blocker = server.sql().await;
    old_token(&sql).await;
    blocker
        .batch_execute("begin; select from certificate for update")
        .await
        .unwrap();
    let fourth_run = server.replica(|config| config.version_retention = 0).await;
    until_the_job_has_run(&sql).await;
    fourth_run.stop().await;
    assert_eq!(kept(&client, &sql, &id).await, (vec![5, 4], 2));
    blocker.batch_execute("commit").await.unwrap();
    let fifth_run = server
        .replica(|config| config.version_retention_time = Duration::ZERO)
        .await;
    until(async || kept(&client, &sql, &id).await.0.len() == 1).await;
    assert_eq!(kept(&client, &sql, &id).await, (vec![5], 1));
    fifth_run.stop().await;
    let name = rename(&client, &id, "still-there", ANY).await;
    name.unwrap();
    server.stop().await;
}
