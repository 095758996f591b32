//! Describing, getting, renaming and deleting.

use certkeep::config::RegionConfig;
use certkeep::grpc::pb;
use tonic::Code;
use tonic_types::StatusExt;

use crate::harness::{Account, Client, REGION, TestServer, upload_of};
use crate::pki::{self, Key};

async fn upload(client: &mut Client, name: &str, region: &str) -> String {
    let request = pb::UploadServerCertificateRequest {
        region_id: region.into(),
        ..upload_of(&pki::self_signed(Key::P256, name))
    };
    client
        .upload_server_certificate(request)
        .await
        .unwrap()
        .into_inner()
        .server_certificate_id
}

async fn describe(client: &mut Client, request: pb::DescribeServerCertificatesRequest) -> (Vec<String>, String) {
    let page = client.describe_server_certificates(request).await.unwrap().into_inner();
    let ids = page
        .server_certificates
        .into_iter()
        .map(|certificate| certificate.server_certificate_id);
    (ids.collect(), page.next_page_token)
}

#[tokio::test]
async fn pages_show_everything_once_in_the_order_of_creation() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(upload(&mut client, &format!("n{n}.example"), REGION).await);
    }
    let there = upload(&mut client, "there.example", "eu-central-1").await;
    let mut request = pb::DescribeServerCertificatesRequest {
        page_size: 2,
        region_id: REGION.into(),
        ..Default::default()
    };
    let mut seen = Vec::new();
    loop {
        let (page, next) = describe(&mut client, request.clone()).await;
        assert!(page.len() <= 2);
        seen.extend(page);
        if next.is_empty() {
            break;
        }
        // What is added or taken away between pages moves nothing else.
        upload(&mut client, "late.example", "ap-southeast-1").await;
        request.page_token = next;
    }
    assert_eq!(seen, ids);
    let all = pb::DescribeServerCertificatesRequest {
        page_size: 6,
        ..Default::default()
    };
    let (all, next) = describe(&mut client, all).await;
    assert_eq!((all, next.is_empty()), ([ids, vec![there]].concat(), false));
    server.stop().await;
}

/// Clients take 4 MiB by default: a page of large certificates is shorter, and nothing is lost.
#[tokio::test]
async fn a_page_ends_before_it_is_too_large_to_read() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(upload(&mut client, &format!("n{n}.example"), REGION).await);
    }
    let large = "update certificate set subject_alternative_names = array_fill(repeat('x', 1000), array[1000])";
    server.sql().await.execute(large, &[]).await.unwrap();
    let mut default = certkeep::grpc::pb::certificate_service_client::CertificateServiceClient::with_interceptor(
        server.channel(),
        crate::harness::bearer(server.admin_key()),
    );
    let mut request = pb::DescribeServerCertificatesRequest::default();
    let (mut seen, mut pages) = (Vec::new(), 0);
    loop {
        let (page, next) = describe(&mut default, request.clone()).await;
        seen.extend(page);
        pages += 1;
        if next.is_empty() {
            break;
        }
        request.page_token = next;
    }
    assert_eq!((seen, pages), (ids, 2));
    server.stop().await;
}

#[tokio::test]
async fn a_page_token_works_for_its_call_filter_and_account_only() {
    let server = TestServer::start().await;
    let mut client = server.client();
    for n in 0..3 {
        upload(&mut client, &format!("n{n}.example"), REGION).await;
    }
    let first = pb::DescribeServerCertificatesRequest {
        page_size: 1,
        ..Default::default()
    };
    let (_, token) = describe(&mut client, first.clone()).await;
    let next = pb::DescribeServerCertificatesRequest {
        page_token: token.clone(),
        ..first
    };
    assert_eq!(describe(&mut client, next.clone()).await.0.len(), 1);

    let filtered = pb::DescribeServerCertificatesRequest {
        region_id: REGION.into(),
        ..next.clone()
    };
    let other = server.add_key("reader", Account::New).await;
    let mut other = server.client_with(Some(&format!("Bearer {other}")));
    for refused in [
        client.describe_server_certificates(filtered).await.unwrap_err(),
        other.describe_server_certificates(next).await.unwrap_err(),
        client
            .list_account_fingerprints(pb::ListAccountFingerprintsRequest {
                page_size: 1,
                page_token: token,
            })
            .await
            .unwrap_err(),
    ] {
        assert_eq!(crate::bad_input::reason(&refused), "PAGE_TOKEN_INVALID");
    }
    server.stop().await;
}

#[tokio::test]
async fn an_unknown_id_is_an_empty_list_and_else_not_found() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let id = upload(&mut client, "a.example", REGION).await;
    let other = server.add_key("admin", Account::New).await;
    let mut other = server.client_with(Some(&format!("Bearer {other}")));
    let unknown = id.replace('_', "_0");
    // Another account's, an id that is none, and the right one in another region.
    for (client, id, region) in [
        (&mut other, id.as_str(), ""),
        (&mut client.clone(), &unknown, ""),
        (&mut client, &id, "eu-west-1"),
    ] {
        let (id, region_id) = (id.to_owned(), region.to_owned());
        let describe_request = pb::DescribeServerCertificatesRequest {
            region_id: region_id.clone(),
            server_certificate_id: id.clone(),
            ..Default::default()
        };
        assert_eq!(describe(client, describe_request).await, (vec![], String::new()));
        let get = pb::GetServerCertificateRequest {
            region_id: region_id.clone(),
            server_certificate_id: id.clone(),
        };
        let delete = pb::DeleteServerCertificateRequest {
            region_id: region_id.clone(),
            server_certificate_id: id.clone(),
            ..Default::default()
        };
        let rename = pb::SetServerCertificateNameRequest {
            region_id: if region.is_empty() {
                REGION.to_owned()
            } else {
                region_id
            },
            server_certificate_id: id,
            server_certificate_name: "new".into(),
            ..Default::default()
        };
        for refused in [
            client.get_server_certificate(get).await.unwrap_err(),
            client.delete_server_certificate(delete).await.unwrap_err(),
            client.set_server_certificate_name(rename).await.unwrap_err(),
        ] {
            assert_eq!(refused.code(), Code::NotFound);
            assert_eq!(crate::bad_input::reason(&refused), "SERVER_CERTIFICATE_NOT_FOUND");
        }
    }
    assert_eq!(server.rows().await, [1, 1, 0, 1]);
    server.stop().await;
}

#[tokio::test]
async fn a_rename_changes_name_and_etag_and_leaves_an_event() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let id = upload(&mut client, "a.example", REGION).await;
    let rename = pb::SetServerCertificateNameRequest {
        region_id: REGION.into(),
        server_certificate_id: id.clone(),
        server_certificate_name: "shop".into(),
        ..Default::default()
    };
    let renamed = client.set_server_certificate_name(rename).await.unwrap().into_inner();
    let get = pb::GetServerCertificateRequest {
        server_certificate_id: id,
        ..Default::default()
    };
    let certificate = client
        .get_server_certificate(get)
        .await
        .unwrap()
        .into_inner()
        .server_certificate
        .unwrap();
    assert_eq!(certificate.server_certificate_name, "shop");
    assert_eq!((certificate.etag.as_str(), renamed.etag.as_str()), ("2", "2"));
    let events = server
        .sql()
        .await
        .query("select kind, revision from event order by revision", &[])
        .await
        .unwrap();
    let events: Vec<(String, i64)> = events.iter().map(|row| (row.get(0), row.get(1))).collect();
    assert_eq!(events, [("uploaded".into(), 1), ("renamed".into(), 2)]);
    server.stop().await;
}

#[tokio::test]
async fn a_purge_takes_certificate_key_and_tags_and_leaves_its_events() {
    let server = TestServer::start().await;
    let mut client = server.client();
    let request = pb::UploadServerCertificateRequest {
        tags: vec![pb::Tag {
            key: "team".into(),
            value: "shop".into(),
        }],
        ..upload_of(&pki::self_signed(Key::P256, "a.example"))
    };
    let id = client
        .upload_server_certificate(request)
        .await
        .unwrap()
        .into_inner()
        .server_certificate_id;
    let kept = upload(&mut client, "b.example", REGION).await;
    let delete = pb::DeleteServerCertificateRequest {
        server_certificate_id: id,
        ..Default::default()
    };
    client.delete_server_certificate(delete.clone()).await.unwrap();
    assert_eq!(server.rows().await, [2, 2, 1, 3]);
    let purge = pb::PurgeServerCertificateRequest {
        server_certificate_id: delete.server_certificate_id.clone(),
        ..Default::default()
    };
    client.purge_server_certificate(purge).await.unwrap();
    assert_eq!(server.rows().await, [1, 1, 0, 4]);
    assert_eq!(
        client.delete_server_certificate(delete).await.unwrap_err().code(),
        Code::NotFound
    );
    assert_eq!(describe(&mut client, Default::default()).await.0, [kept]);
    server.stop().await;
}

#[tokio::test]
async fn regions_are_named_in_the_language_asked_for() {
    let server = TestServer::start().await;
    let mut client = server.client();
    for (language, name) in [
        ("", "华东1（杭州）"),
        ("zh-CN", "华东1（杭州）"),
        ("en-US", "China (Hangzhou)"),
        ("ja", "中国 (杭州)"),
    ] {
        let request = pb::DescribeRegionsRequest {
            accept_language: language.into(),
        };
        let regions = client.describe_regions(request).await.unwrap().into_inner().regions;
        let hangzhou = regions.iter().find(|region| region.region_id == REGION).unwrap();
        assert_eq!(
            (hangzhou.local_name.as_str(), hangzhou.region_endpoint.as_str()),
            (name, "127.0.0.1")
        );
        assert!(regions.is_sorted_by_key(|region| &region.region_id));
    }
    server.stop().await;
}

#[tokio::test]
async fn the_only_region_need_not_be_named() {
    let region = |id: &str| RegionConfig {
        id: id.to_owned(),
        names: [id.to_owned(), id.to_owned(), id.to_owned()],
    };
    let one = TestServer::start_with(|config| config.regions = Some(vec![region("dc-1")])).await;
    let mut client = one.client();
    let upload = pb::UploadServerCertificateRequest {
        region_id: String::new(),
        client_token: "once".into(),
        ..upload_of(&pki::self_signed(Key::P256, "shop.example"))
    };
    let stored = client
        .upload_server_certificate(upload.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(stored.region_id, "dc-1");
    // The same request, whether it names the region or not.
    let named = pb::UploadServerCertificateRequest {
        region_id: "dc-1".into(),
        ..upload
    };
    let again = client.upload_server_certificate(named).await.unwrap().into_inner();
    assert_eq!(again.server_certificate_id, stored.server_certificate_id);

    let rename = pb::SetServerCertificateNameRequest {
        server_certificate_id: stored.server_certificate_id.clone(),
        server_certificate_name: "shop".into(),
        ..Default::default()
    };
    client.set_server_certificate_name(rename.clone()).await.unwrap();
    let tag = pb::TagResourcesRequest {
        resource_type: "certificate".into(),
        resource_ids: vec![stored.server_certificate_id],
        tags: vec![pb::Tag {
            key: "team".into(),
            value: "shop".into(),
        }],
        ..Default::default()
    };
    client.tag_resources(tag).await.unwrap();

    let two = one
        .replica(|config| config.regions = Some(vec![region("dc-1"), region("dc-2")]))
        .await;
    let refused = two.client().set_server_certificate_name(rename).await.unwrap_err();
    assert_eq!(
        refused.get_error_details().error_info().unwrap().reason,
        "REGION_MISSING"
    );
    one.stop().await;
    two.stop().await;
}

#[tokio::test]
async fn a_chain_that_was_changed_in_the_database_is_not_handed_out_beside_the_fingerprint_of_another() {
    let server = crate::harness::TestServer::start().await;
    let mut client = server.client();
    let mut ids = Vec::new();
    for name in ["a.example", "b.example"] {
        let pair = crate::pki::self_signed(crate::pki::Key::P256, name);
        ids.push(crate::calls::stored(&client, &crate::harness::upload_of(&pair)).await);
    }
    let swap = "update certificate as changed set chain = other.chain from certificate as other
                where other.common_name = 'b.example' and changed.common_name = 'a.example'";
    assert_eq!(server.sql().await.execute(swap, &[]).await.unwrap(), 1);
    let get = |id: &String| pb::GetServerCertificateRequest {
        server_certificate_id: id.clone(),
        ..Default::default()
    };
    let refused = client.get_server_certificate(get(&ids[0])).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::DataLoss);
    assert_eq!(crate::bad_input::reason(&refused), "STORED_CERTIFICATE_DAMAGED");
    client.get_server_certificate(get(&ids[1])).await.unwrap();

    // A watch sends the damaged certificate without its chain, and goes on.
    let mut delivery = pb::delivery_service_client::DeliveryServiceClient::with_interceptor(
        server.channel(),
        crate::harness::bearer(server.admin_key()),
    );
    let request = pb::WatchServerCertificatesRequest {
        with_certificate_chain: true,
        ..Default::default()
    };
    let mut messages = delivery.watch_server_certificates(request).await.unwrap().into_inner();
    for (id, has_chain) in [(&ids[0], false), (&ids[1], true)] {
        let sent = messages.message().await.unwrap().unwrap().server_certificate.unwrap();
        assert_eq!(
            (&sent.server_certificate_id, !sent.certificate_chain.is_empty()),
            (id, has_chain)
        );
    }

    // The other fingerprint is compared too.
    let change =
        "update certificate set fingerprint = substring(sha256('x') from 1 for 20) where common_name = 'b.example'";
    assert_eq!(server.sql().await.execute(change, &[]).await.unwrap(), 1);
    let refused = client.get_server_certificate(get(&ids[1])).await.unwrap_err();
    assert_eq!(crate::bad_input::reason(&refused), "STORED_CERTIFICATE_DAMAGED");
    server.stop().await;
}
