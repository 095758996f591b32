//! Tags that are set, removed and listed after the upload.

use certkeep::grpc::pb;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::bad_input::wrong_fields;
use crate::ca_certificates;
use crate::calls::{ANY, delete, get, refusal, stored, tags};
use crate::harness::{Account, Client, REGION, TestServer, upload_of};
use crate::pki::{self, Key};

type Pairs<'a> = &'a [(&'a str, &'a str)];

pub async fn tag(client: &Client, ids: &[&str], given: Pairs<'_>) -> Result<Vec<pb::ResourceEtag>, Status> {
    let request = pb::TagResourcesRequest {
        region_id: REGION.into(),
        resource_type: "certificate".into(),
        resource_ids: ids.iter().map(ToString::to_string).collect(),
        tags: tags(given),
    };
    Ok(client.clone().tag_resources(request).await?.into_inner().etags)
}

/// The etags of these certificates, in the order of the ids.
async fn etags_now(client: &Client, ids: &[&str]) -> Vec<pb::ResourceEtag> {
    let mut etags = Vec::new();
    for id in ids {
        let etag = match get(client, id).await {
            Ok(certificate) => certificate.etag,
            Err(_) => ca_certificates::get(client, id).await.unwrap().etag,
        };
        etags.push(pb::ResourceEtag {
            resource_id: (*id).to_owned(),
            etag,
        });
    }
    etags
}

fn untagging(ids: &[&str], keys: &[&str]) -> pb::UntagResourcesRequest {
    pb::UntagResourcesRequest {
        region_id: REGION.into(),
        resource_type: "certificate".into(),
        resource_ids: ids.iter().map(ToString::to_string).collect(),
        tag_keys: keys.iter().map(ToString::to_string).collect(),
        all: keys.is_empty(),
    }
}

async fn untag(client: &Client, ids: &[&str], keys: &[&str]) -> Result<Vec<pb::ResourceEtag>, Status> {
    let answer = client.clone().untag_resources(untagging(ids, keys)).await?;
    Ok(answer.into_inner().etags)
}

fn listing(ids: &[&str], given: Pairs<'_>) -> pb::ListTagResourcesRequest {
    pb::ListTagResourcesRequest {
        region_id: REGION.into(),
        resource_type: "certificate".into(),
        resource_ids: ids.iter().map(ToString::to_string).collect(),
        tags: tags(given),
        ..Default::default()
    }
}

/// All pages: the ids, and the tags as `key=value`.
async fn list(client: &Client, mut request: pb::ListTagResourcesRequest) -> Vec<(String, String)> {
    let mut all = Vec::new();
    loop {
        let page = client
            .clone()
            .list_tag_resources(request.clone())
            .await
            .unwrap()
            .into_inner();
        all.extend(page.tag_resources.into_iter().map(|tag| {
            assert_eq!(tag.resource_type, "certificate");
            (tag.resource_id, format!("{}={}", tag.tag_key, tag.tag_value))
        }));
        if page.next_token.is_empty() {
            return all;
        }
        request.next_token = page.next_token;
    }
}

async fn of(client: &Client, id: &str) -> Vec<(String, String)> {
    let certificate = get(client, id).await.unwrap();
    certificate.tags.into_iter().map(|tag| (tag.key, tag.value)).collect()
}

fn owned(pairs: Pairs<'_>) -> Vec<(String, String)> {
    pairs
        .iter()
        .map(|(key, value)| ((*key).to_owned(), (*value).to_owned()))
        .collect()
}

async fn some(client: &Client, count: usize) -> Vec<String> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(
            stored(
                client,
                &upload_of(&pki::self_signed(Key::P256, &format!("n{n}.example"))),
            )
            .await,
        );
    }
    ids
}

#[tokio::test]
async fn tags_are_set_overwritten_removed_and_listed() {
    let server = TestServer::start().await;
    let client = server.client();
    let ids = some(&client, 3).await;
    let [one, two, three] = [0, 1, 2].map(|n| ids[n].as_str());
    tag(&client, &[one, two], &[("team", "shop"), ("env", "")])
        .await
        .unwrap();
    tag(&client, &[one], &[("team", "search"), ("cost", "7")])
        .await
        .unwrap();
    assert_eq!(
        of(&client, one).await,
        owned(&[("cost", "7"), ("env", ""), ("team", "search")])
    );
    assert_eq!(of(&client, two).await, owned(&[("env", ""), ("team", "shop")]));
    let etag = get(&client, two).await.unwrap().etag;
    // What changes nothing is no change.
    tag(&client, &[two, two], &[("team", "shop")]).await.unwrap();
    untag(&client, &[two], &["none"]).await.unwrap();
    assert_eq!(get(&client, two).await.unwrap().etag, etag);
    tag(&client, &[two], &[("team", "other")]).await.unwrap();
    assert_ne!(get(&client, two).await.unwrap().etag, etag);
    tag(&client, &[two], &[("team", "shop")]).await.unwrap();

    let named = list(&client, listing(&[two, "nothing", three, one], &[])).await;
    let expected = [
        (two, "env="),
        (two, "team=shop"),
        (one, "cost=7"),
        (one, "env="),
        (one, "team=search"),
    ];
    assert_eq!(named, owned(&expected));
    let tagged = list(&client, listing(&[], &[("env", "")])).await;
    assert_eq!(tagged.len(), 5);
    assert_eq!(
        list(&client, listing(&[one, two], &[("team", "shop")])).await,
        owned(&expected[..2])
    );
    let paged = pb::ListTagResourcesRequest {
        page_size: 1,
        ..listing(&[], &[("env", "")])
    };
    assert_eq!(list(&client, paged).await, tagged);

    // What no key can be is none to remove, beside one that is there.
    untag(&client, &[one, two], &["team", "cost", "a\0"]).await.unwrap();
    assert_eq!(of(&client, one).await, owned(&[("env", "")]));
    tag(&client, &[one], &[("a", "b")]).await.unwrap();
    untag(&client, &[one, two, three], &[]).await.unwrap();
    for id in &ids {
        assert_eq!(of(&client, id).await, []);
    }
    assert_eq!(list(&client, listing(&[one, two, three], &[])).await, []);
    server.stop().await;
}

#[tokio::test]
async fn what_is_wrong_for_one_certificate_changes_none() {
    let server = TestServer::start().await;
    let client = server.client();
    let ids = some(&client, 3).await;
    let [one, two, gone] = [0, 1, 2].map(|n| ids[n].as_str());
    delete(&client, gone, ANY).await.unwrap();
    let nineteen: Vec<_> = (0..19).map(|n| (format!("k{n}"), n.to_string())).collect();
    let nineteen: Vec<_> = nineteen
        .iter()
        .map(|(key, value)| (key.as_str(), value.as_str()))
        .collect();
    tag(&client, &[two], &nineteen).await.unwrap();

    let not_found = (Code::NotFound, "RESOURCE_NOT_FOUND".to_owned());
    let stranger = format!("Bearer {}", server.add_key("admin", Account::New).await);
    let stranger = server.client_with(Some(&stranger));
    for unknown in [gone, "nothing"] {
        assert_eq!(refusal(tag(&client, &[one, unknown], &[("a", "b")]).await), not_found);
        assert_eq!(refusal(untag(&client, &[two, unknown], &["k1"]).await), not_found);
    }
    let refused = tag(&client, &[one, gone], &[("a", "b")]).await.unwrap_err();
    let details = refused.get_error_details();
    let resource = details.resource_info().unwrap();
    assert_eq!(
        (resource.resource_type.as_str(), resource.resource_name.as_str()),
        ("certificate", gone)
    );
    let metadata = &details.error_info().unwrap().metadata;
    assert_eq!(
        (metadata["resource_type"].as_str(), metadata["resource_id"].as_str()),
        ("certificate", gone)
    );
    assert_eq!(refusal(tag(&stranger, &[one], &[("a", "b")]).await), not_found);
    assert_eq!(refusal(untag(&stranger, &[two], &[]).await), not_found);
    assert_eq!(list(&stranger, listing(&[two], &[])).await, []);
    assert_eq!(list(&stranger, listing(&[], &[("k1", "1")])).await, []);
    let elsewhere = pb::UntagResourcesRequest {
        region_id: "eu-central-1".into(),
        ..untagging(&[two], &[])
    };
    assert_eq!(refusal(client.clone().untag_resources(elsewhere).await), not_found);
    let too_many = tag(&client, &[one, two], &[("k0", "new"), ("a", ""), ("b", "")]).await;
    let told = too_many.as_ref().unwrap_err().message();
    assert_eq!(
        told,
        "resource_ids[1] would have 21 tags; remove some first, since at most 20 are allowed"
    );
    assert_eq!(refusal(too_many), (Code::InvalidArgument, "TAG_INVALID".into()));
    assert_eq!((of(&client, one).await.len(), of(&client, two).await.len()), (0, 19));
    assert!(of(&client, two).await.contains(&("k0".into(), "0".into())));
    tag(&client, &[one, two], &[("k0", "new"), ("a", "")]).await.unwrap();
    assert_eq!((of(&client, one).await.len(), of(&client, two).await.len()), (2, 20));
    server.stop().await;
}

#[tokio::test]
async fn every_wrong_field_is_told_at_once() {
    let server = TestServer::start().await;
    let client = server.client();
    let request = pb::TagResourcesRequest {
        resource_type: "loadbalancer".into(),
        ..Default::default()
    };
    let refused = client.clone().tag_resources(request).await.unwrap_err();
    assert_eq!(
        wrong_fields(&refused),
        ["region_id", "resource_type", "resource_ids", "tags"]
    );
    let request = pb::UntagResourcesRequest {
        resource_ids: vec!["x".into(); 21],
        tag_keys: vec!["k".into()],
        all: true,
        ..Default::default()
    };
    let refused = client.clone().untag_resources(request).await.unwrap_err();
    assert_eq!(
        wrong_fields(&refused),
        ["region_id", "resource_type", "resource_ids", "tag_keys"]
    );
    let many = vec!["k"; 21];
    assert_eq!(
        wrong_fields(&untag(&client, &["x"], &many).await.unwrap_err()),
        ["tag_keys"]
    );
    let request = pb::ListTagResourcesRequest {
        region_id: "mars-1".into(),
        page_size: -1,
        next_token: "x".into(),
        ..Default::default()
    };
    let refused = client.clone().list_tag_resources(request).await.unwrap_err();
    assert_eq!(
        wrong_fields(&refused),
        ["region_id", "resource_type", "resource_ids", "page_size", "next_token"]
    );
    let denied = (Code::PermissionDenied, "PERMISSION_DENIED".to_owned());
    let reader = format!("Bearer {}", server.add_key("reader", Account::First).await);
    let reader = server.client_with(Some(&reader));
    assert_eq!(refusal(tag(&reader, &["x"], &[("a", "b")]).await), denied);
    assert_eq!(refusal(untag(&reader, &["x"], &[]).await), denied);
    assert_eq!(list(&reader, listing(&["x"], &[])).await, []);
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn tags_set_at_once_are_all_set_and_never_too_many() {
    let server = TestServer::start().await;
    let client = server.client();
    let ids = some(&client, 2).await;
    let mut calls = tokio::task::JoinSet::new();
    for n in 0..12 {
        let (client, ids) = (client.clone(), ids.clone());
        calls.spawn(async move {
            let keys = [0, 1].map(|k| format!("k{n}-{k}"));
            let pairs = [(keys[0].as_str(), "v"), (keys[1].as_str(), "v")];
            // In either order: no two wait for each other.
            let named = match n % 2 {
                0 => [ids[0].as_str(), ids[1].as_str()],
                _ => [ids[1].as_str(), ids[0].as_str()],
            };
            tag(&client, &named, &pairs).await.is_ok()
        });
    }
    let done = calls.join_all().await.into_iter().filter(|is_done| *is_done).count();
    assert_eq!(done, 10, "of twelve pairs of tags ten fit");
    for id in &ids {
        let tags = of(&client, id).await;
        assert_eq!(tags.len(), 20);
    }
    server.stop().await;
}

#[tokio::test]
async fn server_and_ca_certificates_are_tagged_alike_and_together() {
    let server = TestServer::start().await;
    let client = server.client();
    let leaf = some(&client, 1).await.remove(0);
    let ca = ca_certificates::kept(&client, ca_certificates::request()).await;
    tag(&client, &[&ca, &leaf], &[("team", "shop"), ("env", "prod")])
        .await
        .unwrap();
    let tags = ca_certificates::get(&client, &ca).await.unwrap().tags;
    assert_eq!((tags.len(), of(&client, &leaf).await.len()), (2, 2));
    // Server certificates come first, whichever is older.
    let expected = [
        (&leaf, "env=prod"),
        (&leaf, "team=shop"),
        (&ca, "env=prod"),
        (&ca, "team=shop"),
    ];
    let expected = expected.map(|(id, tag)| (id.clone(), tag.to_owned()));
    assert_eq!(list(&client, listing(&[], &[("team", "shop")])).await, expected);
    for page_size in 1..4 {
        let paged = pb::ListTagResourcesRequest {
            page_size,
            ..listing(&[], &[("team", "shop")])
        };
        assert_eq!(list(&client, paged).await, expected);
    }
    assert_eq!(
        list(&client, listing(&[&ca, &leaf], &[])).await,
        [&expected[2..], &expected[..2]].concat()
    );
    let filter = ca_certificates::Describe {
        tags: crate::calls::tags(&[("env", "prod")]),
        ..Default::default()
    };
    assert_eq!(ca_certificates::ids(&client, filter).await, std::slice::from_ref(&ca));
    // What fails for the one changes neither.
    let refused = tag(&client, &[&leaf, &ca, "nothing"], &[("env", "test")]).await;
    assert_eq!(refusal(refused), (Code::NotFound, "RESOURCE_NOT_FOUND".into()));
    untag(&client, &[&leaf, &ca], &["env"]).await.unwrap();
    let tags = ca_certificates::get(&client, &ca).await.unwrap().tags;
    assert_eq!((tags.len(), of(&client, &leaf).await), (1, owned(&[("team", "shop")])));
    let events = "select kind, certificate_kind from event where kind = 'tagged' order by position";
    let events = server.sql().await.query(events, &[]).await.unwrap();
    let mut of_type: Vec<String> = events.iter().map(|event| event.get(1)).collect();
    of_type.sort();
    assert_eq!(of_type, ["ca", "ca", "server", "server"]);
    server.stop().await;
}

#[tokio::test]
async fn the_etag_of_each_certificate_is_answered_changed_or_not() {
    let server = TestServer::start().await;
    let client = server.client();
    let ids = some(&client, 2).await;
    let ca = ca_certificates::kept(&client, ca_certificates::request()).await;
    let named = [ca.as_str(), ids[1].as_str(), ids[0].as_str()];
    tag(&client, &named[..1], &[("a", "b")]).await.unwrap();
    let etags = tag(&client, &named, &[("a", "b")]).await.unwrap();
    assert_eq!(etags, etags_now(&client, &named).await);
    assert_eq!(
        etags.iter().map(|one| one.etag.as_str()).collect::<Vec<_>>(),
        ["2", "2", "2"]
    );
    untag(&client, &named[2..], &["a"]).await.unwrap();
    // A certificate that is named twice is answered once.
    let etags = untag(&client, &[named[0], named[2], named[0]], &["a"]).await.unwrap();
    assert_eq!(etags, etags_now(&client, &[named[0], named[2]]).await);
    assert_eq!(
        etags.iter().map(|one| one.etag.as_str()).collect::<Vec<_>>(),
        ["3", "3"]
    );
    server.stop().await;
}
