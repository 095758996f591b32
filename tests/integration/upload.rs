//! The upload: what is answered, and what is stored.

use certkeep::grpc::pb::{self, KeyAlgorithm};
use certkeep::seal::Row;
use openssl::hash::MessageDigest;
use tokio_postgres::types::Type;

use crate::harness::{Account, REGION, TestServer, stored_id, upload_of};
use crate::pki::{self, Key};

fn colons(digest: &[u8]) -> String {
    digest
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect::<Vec<_>>()
        .join(":")
}

#[tokio::test]
async fn a_pair_of_each_key_type_is_stored_and_answered_with_its_facts() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let mut account_fingerprints = Vec::new();
    for (key, algorithm, size) in [
        (Key::Rsa(2048), KeyAlgorithm::Rsa, 2048),
        (Key::Rsa(1024), KeyAlgorithm::Rsa, 1024),
        (Key::P256, KeyAlgorithm::EcdsaP256, 256),
        (Key::P384, KeyAlgorithm::EcdsaP384, 384),
        (Key::P521, KeyAlgorithm::EcdsaP521, 521),
        (Key::Secp256k1, KeyAlgorithm::EcdsaSecp256k1, 256),
        (Key::Ed25519, KeyAlgorithm::Ed25519, 256),
        (Key::Ed448, KeyAlgorithm::Ed448, 456),
    ] {
        let pair = pki::issued(key, "shop.example.com");
        let answer = client
            .upload_server_certificate(upload_of(&pair))
            .await
            .unwrap()
            .into_inner();
        let fingerprint = colons(&pair.x509.digest(MessageDigest::sha1()).unwrap());
        account_fingerprints.push(fingerprint.clone());
        assert_eq!(
            answer,
            pb::UploadServerCertificateResponse {
                request_id: answer.request_id.clone(),
                server_certificate_id: answer.server_certificate_id.clone(),
                server_certificate_name: "shop.example.com".into(),
                fingerprint,
                create_time: answer.create_time.clone(),
                create_time_stamp: answer.create_time_stamp,
                expire_time: "2096-10-02T07:06:40Z".into(),
                expire_time_stamp: 4_000_000_000_000,
                common_name: "shop.example.com".into(),
                subject_alternative_names: vec!["shop.example.com".into(), "www.shop.example.com".into()],
                region_id: REGION.into(),
                region_id_alias: REGION.into(),
                // That of the account's default group.
                resource_group_id: format!("rg-{}", answer.server_certificate_id.split('_').next().unwrap()),
                account_fingerprints: account_fingerprints.clone(),
                fingerprint_sha256: colons(&pair.x509.digest(MessageDigest::sha256()).unwrap()),
                version: 1,
                etag: "1".into(),
                upload_time: answer.upload_time,
                not_before: Some("2023-11-14T22:13:20Z".parse().unwrap()),
                not_after: Some("2096-10-02T07:06:40Z".parse().unwrap()),
                chain_expire_time: Some("2096-10-02T07:06:40Z".parse().unwrap()),
                findings: answer.findings.clone(),
                ..Default::default()
            },
            "{key:?}"
        );
        assert_eq!(answer.request_id, answer.request_id.to_uppercase());
        assert_eq!(answer.request_id.len(), 36);
        assert!(answer.create_time_stamp % 1000 == 0 && answer.create_time_stamp > 1_700_000_000_000);
        assert_eq!(answer.upload_time.unwrap().seconds * 1000, answer.create_time_stamp);

        let get = pb::GetServerCertificateRequest {
            server_certificate_id: answer.server_certificate_id.clone(),
            ..Default::default()
        };
        let stored = client
            .get_server_certificate(get)
            .await
            .unwrap()
            .into_inner()
            .server_certificate
            .unwrap();
        assert_eq!(stored.certificate_chain, pair.certificate);
        assert_eq!((stored.key_algorithm(), stored.key_size), (algorithm, size));
        assert_eq!(stored.issuer, "CN=Test CA");
        assert_eq!(stored.signature_algorithm, "ecdsa-with-SHA256");
        assert_eq!(stored.chain_length, 2);
        assert_eq!(
            (
                stored.not_before,
                stored.not_after,
                stored.upload_time,
                stored.delete_time
            ),
            (answer.not_before, answer.not_after, answer.upload_time, None)
        );
    }
    assert_eq!(server.rows().await, [8, 8, 0, 8]);
    server.stop().await;
}

#[tokio::test]
async fn the_stored_key_opens_with_the_ring_for_its_own_row_and_no_other() {
    let server = TestServer::start().await;
    let pair = pki::self_signed(Key::P256, "a.example");
    server
        .client()
        .upload_server_certificate(upload_of(&pair))
        .await
        .unwrap();
    let sql = server.sql().await;
    let row = sql
        .query_one(
            "select k.account_id, k.created_ms, k.random, k.key_id::text, k.sealed, c.spki_sha256
             from private_key k join certificate c using (account_id, created_ms, random, key_id)",
            &[],
        )
        .await
        .unwrap();
    assert_eq!(row.columns()[4].type_(), &Type::BYTEA);
    let sealed: Vec<u8> = row.get(4);
    let pkcs8 = openssl::pkey::PKey::private_key_from_pem(pair.key.as_bytes())
        .unwrap()
        .private_key_to_pkcs8()
        .unwrap();
    assert!(
        !sealed
            .windows(16)
            .any(|window| pkcs8.windows(16).any(|plain| plain == window))
    );

    let ring = crate::harness::key_ring(&server.key_ring_file()).await;
    let [account, created, random]: [i64; 3] = [row.get(0), row.get(1), row.get(2)];
    let spki_sha256 = row.get::<_, Vec<u8>>(5).try_into().unwrap();
    let open = |account: i64| {
        let row = Row::PrivateKey {
            certificate: stored_id(account, created, random),
            key_id: row.get::<_, String>(3).parse().unwrap(),
            spki_sha256: &spki_sha256,
        };
        ring.open(&sealed, &row)
    };
    assert_eq!(open(account).unwrap().expose(), pkcs8);
    assert!(open(account + 1).is_err());
    server.stop().await;
}

#[tokio::test]
async fn names_and_tags_are_kept() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let tag = |key: &str, value: &str| pb::Tag {
        key: key.into(),
        value: value.into(),
    };
    let request = pb::UploadServerCertificateRequest {
        server_certificate_name: "网站/店.2026_a-*".into(),
        tags: vec![tag("team", "shop"), tag("empty", "")],
        ..upload_of(&pki::self_signed(Key::P256, "a.example"))
    };
    let uploaded = client.upload_server_certificate(request).await.unwrap().into_inner();
    assert_eq!(uploaded.server_certificate_name, "网站/店.2026_a-*");
    let described = client
        .describe_server_certificates(pb::DescribeServerCertificatesRequest::default())
        .await
        .unwrap()
        .into_inner();
    let [certificate] = described.server_certificates.as_slice() else {
        panic!("one certificate")
    };
    assert_eq!(certificate.server_certificate_name, "网站/店.2026_a-*");
    assert_eq!(certificate.tags, [tag("empty", ""), tag("team", "shop")]);
    assert_eq!(certificate.certificate_chain, "");
    assert_eq!(server.rows().await, [1, 1, 2, 1]);
    server.stop().await;
}

#[tokio::test]
async fn validate_only_answers_as_the_upload_would_and_stores_nothing() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let first = client
        .upload_server_certificate(upload_of(&pki::self_signed(Key::P256, "a.example")))
        .await
        .unwrap();
    let rows = server.rows().await;
    let request = upload_of(&pki::self_signed(Key::P256, "b.example"));
    let dry = pb::UploadServerCertificateRequest {
        validate_only: true,
        ..request.clone()
    };
    let dry = client.upload_server_certificate(dry).await.unwrap().into_inner();
    assert_eq!(server.rows().await, rows);
    assert_eq!(dry.account_fingerprints.first(), Some(&first.into_inner().fingerprint));

    let wet = client.upload_server_certificate(request).await.unwrap().into_inner();
    let expected = pb::UploadServerCertificateResponse {
        request_id: dry.request_id.clone(),
        server_certificate_id: String::new(),
        create_time: String::new(),
        create_time_stamp: 0,
        upload_time: None,
        etag: String::new(),
        ..wet
    };
    assert_eq!(dry, expected);

    let wrong = pb::UploadServerCertificateRequest {
        validate_only: true,
        ..Default::default()
    };
    let refused = client.upload_server_certificate(wrong).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument);
    server.stop().await;
}

#[tokio::test]
async fn fingerprints_are_the_accounts_over_all_regions_with_duplicates_and_can_be_left_out() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let pair = pki::self_signed(Key::P256, "a.example");
    let there = pb::UploadServerCertificateRequest {
        region_id: "eu-central-1".into(),
        ..upload_of(&pair)
    };
    let first = client.upload_server_certificate(there).await.unwrap().into_inner();
    let second = client
        .upload_server_certificate(upload_of(&pair))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        second.account_fingerprints,
        [first.fingerprint.clone(), second.fingerprint.clone()]
    );
    assert_ne!(first.server_certificate_id, second.server_certificate_id);

    let other = server.add_key("editor", Account::New).await;
    let mut other = server.client_with(Some(&format!("Bearer {other}")));
    let elsewhere = other
        .upload_server_certificate(upload_of(&pair))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(elsewhere.account_fingerprints, [elsewhere.fingerprint]);

    let quiet = pb::UploadServerCertificateRequest {
        omit_account_fingerprints: true,
        ..upload_of(&pair)
    };
    let quiet = client.upload_server_certificate(quiet).await.unwrap().into_inner();
    assert_eq!(quiet.account_fingerprints, Vec::<String>::new());

    let mut listed = Vec::new();
    let mut page = pb::ListAccountFingerprintsRequest {
        page_size: 2,
        page_token: String::new(),
    };
    loop {
        let answer = client
            .list_account_fingerprints(page.clone())
            .await
            .unwrap()
            .into_inner();
        listed.extend(answer.account_fingerprints);
        if answer.next_page_token.is_empty() {
            break;
        }
        page.page_token = answer.next_page_token;
    }
    assert_eq!(listed, vec![first.fingerprint; 3]);
    server.stop().await;
}

/// What an answer of 3 MiB can't hold goes on in pages; nothing is cut silently.
#[tokio::test]
async fn more_fingerprints_than_an_answer_holds_go_on_in_pages() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let pair = pki::self_signed(Key::P256, "a.example");
    let first = client
        .upload_server_certificate(upload_of(&pair))
        .await
        .unwrap()
        .into_inner();
    // 50,000 older copies of the certificate and its key row.
    server
        .sql()
        .await
        .batch_execute(
            "create temp table copy as select c.*, n from certificate c, generate_series(1, 50000) n;
             update copy set created_ms = created_ms - 1000000 + n;
             with key_row as (
               insert into private_key (account_id, created_ms, random, key_id, sealed)
               select account_id, created_ms, random, key_id, '' from copy
             )
             insert into certificate
             select row.* from copy, jsonb_populate_record(null::certificate, to_jsonb(copy)) as row",
        )
        .await
        .unwrap();
    let answer = client
        .upload_server_certificate(upload_of(&pair))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.account_fingerprints, vec![first.fingerprint.clone(); 50_000]);
    let rest = pb::ListAccountFingerprintsRequest {
        page_size: 0,
        page_token: answer.account_fingerprints_next_page_token,
    };
    let rest = client.list_account_fingerprints(rest).await.unwrap().into_inner();
    assert_eq!(
        (rest.account_fingerprints, rest.next_page_token),
        (vec![first.fingerprint; 2], String::new())
    );
    server.stop().await;
}

#[tokio::test]
async fn uploads_at_once_all_stand_and_none_waits_for_an_account() {
    let server = TestServer::start().await;
    let pair = pki::self_signed(Key::P256, "a.example");
    let mut uploads = tokio::task::JoinSet::new();
    for _ in 0..64 {
        let (mut client, request) = (server.client(), upload_of(&pair));
        uploads.spawn(async move { client.upload_server_certificate(request).await.unwrap().into_inner() });
    }
    let answers = uploads.join_all().await;
    let ids: std::collections::HashSet<_> = answers.iter().map(|answer| &answer.server_certificate_id).collect();
    assert_eq!(ids.len(), 64);
    assert_eq!(server.rows().await, [64, 64, 0, 64]);
    server.stop().await;
}
