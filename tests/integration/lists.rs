//! Lists by tags, of the deleted, and under concurrent changes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use certkeep::grpc::pb::{self, DescribeServerCertificatesRequest as Describe};
use tonic::Code;

use crate::calls::{ANY, delete, describe, ids, refusal, stored, tags, undelete};
use crate::harness::{Account, Client, REGION, TestServer, until, upload_of};
use crate::pki::{self, Key};

const ELSEWHERE: &str = "eu-central-1";

/// Keys and values.
type Pairs<'a> = &'a [(&'a str, &'a str)];

async fn tagged(client: &Client, region: &str, of: Pairs<'_>) -> String {
    let request = pb::UploadServerCertificateRequest {
        region_id: region.into(),
        tags: tags(of),
        ..upload_of(&pki::self_signed(Key::P256, "a.example"))
    };
    stored(client, &request).await
}

fn with_tags(of: Pairs<'_>) -> Describe {
    Describe {
        tags: tags(of),
        ..Default::default()
    }
}

#[tokio::test]
async fn every_filter_must_match() {
    let server = TestServer::start().await;
    let client = server.client();
    let mut all = Vec::new();
    for (region, of) in [
        (REGION, &[("env", "prod"), ("team", "shop")][..]),
        (REGION, &[("env", "prod"), ("team", "bank")]),
        (ELSEWHERE, &[("env", "test"), ("team", "shop")]),
        (ELSEWHERE, &[("team", "shop"), ("env", "prod"), ("empty", "")]),
        (REGION, &[]),
        (REGION, &[("env", "shop"), ("prod", "team")]),
    ] {
        all.push(tagged(&client, region, of).await);
    }
    // Another account's with the same tags.
    let other = server.add_key("editor", Account::New).await;
    let other = server.client_with(Some(&format!("Bearer {other}")));
    let others = tagged(&other, REGION, &[("env", "prod"), ("team", "shop")]).await;
    let places = |found: Vec<String>| -> Vec<usize> {
        let place = |id: &String| all.iter().position(|of_all| of_all == id).unwrap();
        found.iter().map(place).collect()
    };
    let many: Vec<_> = (0..20).map(|n| (format!("key{n}"), String::new())).collect();
    let many: Vec<_> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    let cases: [(Pairs, &str, &[usize]); 15] = [
        (&[("team", "shop")], "", &[0, 2, 3]),
        (&[("env", "prod")], "", &[0, 1, 3]),
        (&[("env", "prod"), ("team", "shop")], "", &[0, 3]),
        (&[("team", "shop"), ("env", "prod")], "", &[0, 3]),
        (&[("team", "shop"), ("env", "prod"), ("empty", "")], "", &[3]),
        (&[("team", "shop")], ELSEWHERE, &[2, 3]),
        (&[("env", "prod"), ("team", "shop")], REGION, &[0]),
        (&[("team", "bank")], ELSEWHERE, &[]),
        (&[("team", "Shop")], "", &[]),
        (&[("Team", "shop")], "", &[]),
        (&[("team", "")], "", &[]),
        (&[("team", "shop"), ("empty", "x")], "", &[]),
        (&[("env", "shop")], "", &[5]),
        (&[("prod", "team"), ("env", "shop")], "", &[5]),
        (&many, "", &[]),
    ];
    for (of, region, expected) in cases {
        for page_size in [0, 1, 2] {
            let request = Describe {
                region_id: region.into(),
                page_size,
                ..with_tags(of)
            };
            assert_eq!(places(ids(&client, request).await), expected, "{of:?} {region:?}");
        }
        for (place, id) in all.iter().enumerate() {
            let request = Describe {
                region_id: region.into(),
                server_certificate_id: id.clone(),
                ..with_tags(of)
            };
            let found = usize::from(expected.contains(&place));
            assert_eq!(ids(&client, request).await.len(), found, "{of:?} {region:?} {place}");
        }
    }
    assert_eq!(ids(&other, with_tags(&[("team", "shop")])).await, [others]);

    // The deleted ones, by the same filters.
    for place in [0, 2, 4] {
        delete(&client, &all[place], ANY).await.unwrap();
    }
    let cases: [(Pairs, &str, &[usize], &[usize]); 6] = [
        (&[], "", &[0, 2, 4], &[1, 3, 5]),
        (&[], ELSEWHERE, &[2], &[3]),
        (&[("team", "shop")], "", &[0, 2], &[3]),
        (&[("team", "shop"), ("env", "prod")], "", &[0], &[3]),
        (&[("team", "shop")], ELSEWHERE, &[2], &[3]),
        (&[("team", "bank")], "", &[], &[1]),
    ];
    for (of, region, gone, live) in cases {
        for (deleted, expected) in [(true, gone), (false, live)] {
            let request = Describe {
                region_id: region.into(),
                deleted,
                page_size: 1,
                ..with_tags(of)
            };
            assert_eq!(places(ids(&client, request.clone()).await), expected, "{request:?}");
            for (place, id) in all.iter().enumerate() {
                let request = Describe {
                    server_certificate_id: id.clone(),
                    ..request.clone()
                };
                let found = usize::from(expected.contains(&place));
                assert_eq!(
                    ids(&client, request).await.len(),
                    found,
                    "{of:?} {region:?} {deleted} {place}"
                );
            }
        }
    }
    server.stop().await;
}

#[tokio::test]
async fn tags_that_no_certificate_can_have_are_refused_in_a_filter() {
    let server = TestServer::start().await;
    let client = server.client();
    let many: Vec<_> = (0..21).map(|n| (format!("key{n}"), String::new())).collect();
    let many: Vec<_> = many.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect();
    for of in [
        &[("", "value")][..],
        &[("acs:key", "value")],
        &[("env", "prod"), ("env", "test")],
        &many,
    ] {
        let answer = client.clone().describe_server_certificates(with_tags(of)).await;
        assert_eq!(refusal(answer), (Code::InvalidArgument, "TAG_INVALID".into()), "{of:?}");
    }
    server.stop().await;
}

#[tokio::test]
async fn a_page_token_works_with_the_same_filters_only() {
    let server = TestServer::start().await;
    let client = server.client();
    let of = [("env", "prod"), ("team", "shop")];
    let mut all = Vec::new();
    for _ in 0..6 {
        all.push(tagged(&client, REGION, &of).await);
    }
    for id in &all[..3] {
        delete(&client, id, ANY).await.unwrap();
    }
    let filters = [
        Describe::default(),
        with_tags(&of),
        with_tags(&of[..1]),
        with_tags(&of[1..]),
        with_tags(&[("envprod", ""), ("team", "shop")]),
        Describe {
            deleted: true,
            ..Default::default()
        },
        Describe {
            deleted: true,
            ..with_tags(&of)
        },
        Describe {
            region_id: REGION.into(),
            ..with_tags(&of)
        },
    ];
    let size_1 = |filter: &Describe| Describe {
        page_size: 1,
        ..filter.clone()
    };
    for (place, filter) in filters.iter().enumerate() {
        let (_, page_token) = describe(&client, size_1(filter)).await;
        if page_token.is_empty() {
            // None has these tags.
            assert_eq!(place, 4);
            continue;
        }
        for (other_place, other) in filters.iter().enumerate() {
            let request = Describe {
                page_token: page_token.clone(),
                ..size_1(other)
            };
            let answer = client.clone().describe_server_certificates(request).await;
            if place == other_place {
                assert_eq!(answer.unwrap().into_inner().server_certificates.len(), 1);
            } else {
                let refused = (Code::InvalidArgument, "PAGE_TOKEN_INVALID".into());
                assert_eq!(refusal(answer), refused, "{place} {other_place}");
            }
        }
    }
    server.stop().await;
}

/// Between those that stay as they are others come, go and come back.
#[tokio::test(flavor = "multi_thread")]
async fn what_exists_throughout_is_in_the_pages_exactly_once_whatever_else_changes() {
    let server = TestServer::start().await;
    let client = server.client();
    let (mut live, mut gone, mut changing) = (Vec::new(), Vec::new(), Vec::new());
    for n in 0..36 {
        let region = [REGION, ELSEWHERE][n / 3 % 2];
        let id = tagged(&client, region, &[("env", "prod")]).await;
        match n % 3 {
            0 => live.push((id, region)),
            1 => gone.push((id, region)),
            _ => changing.push(id),
        }
    }
    for (id, _) in &gone {
        delete(&client, id, ANY).await.unwrap();
    }
    let (stop, rounds) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let mut changes = tokio::task::JoinSet::new();
    for ids in changing.chunks(6) {
        let (client, ids, stop, rounds) = (server.client(), ids.to_vec(), stop.clone(), rounds.clone());
        changes.spawn(async move {
            let mut round = 0;
            while !stop.load(Ordering::Relaxed) {
                for id in &ids {
                    delete(&client, id, ANY).await.unwrap();
                }
                tagged(&client, [REGION, ELSEWHERE][round % 2], &[("env", "prod")]).await;
                for id in &ids {
                    undelete(&client, id, ANY).await.unwrap();
                }
                round += 1;
                rounds.fetch_add(1, Ordering::Relaxed);
            }
        });
    }
    let filters = [("", false), (REGION, false), ("", true), (REGION, true)];
    for (region, is_tagged) in filters.repeat(3) {
        for (deleted, expected) in [(false, &live), (true, &gone)] {
            let before = rounds.load(Ordering::Relaxed);
            let mut request = Describe {
                region_id: region.into(),
                deleted,
                page_size: 4,
                ..with_tags(if is_tagged { &[("env", "prod")] } else { &[] })
            };
            let mut seen = Vec::new();
            loop {
                let (page, next) = describe(&client, request.clone()).await;
                seen.extend(page.into_iter().map(|certificate| certificate.server_certificate_id));
                if next.is_empty() {
                    break;
                }
                request.page_token = next;
                // Something has changed between any two pages.
                let now = rounds.load(Ordering::Relaxed);
                if seen.len() < 13 {
                    until(async || rounds.load(Ordering::Relaxed) > now).await;
                }
            }
            assert!(rounds.load(Ordering::Relaxed) > before);
            let distinct: HashSet<_> = seen.iter().collect();
            assert_eq!(distinct.len(), seen.len(), "nothing comes twice");
            let expected: HashMap<_, _> = expected
                .iter()
                .filter(|(_, of)| region.is_empty() || *of == region)
                .map(|(id, of)| (id, of))
                .collect();
            let of_expected: Vec<_> = seen.iter().filter(|id| expected.contains_key(id)).collect();
            assert_eq!(of_expected.len(), expected.len(), "{request:?}");
            assert!(of_expected.is_sorted_by_key(|id| id.split('_').nth(1).unwrap()));
            if !region.is_empty() {
                let elsewhere = live.iter().chain(&gone).filter(|(_, of)| *of != region);
                assert!(elsewhere.into_iter().all(|(id, _)| !distinct.contains(id)));
            }
        }
    }
    stop.store(true, Ordering::Relaxed);
    changes.join_all().await;
    server.stop().await;
}
