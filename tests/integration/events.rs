//! The events of changes: their content, and the order of their positions.

use std::time::Duration;

use certkeep::grpc::pb;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::calls::{ANY, delete, purge, rename, renew, renewal_of, roll_back, stored, tags, undelete, upload};
use crate::harness::{Client, REGION, TestServer, upload_of};
use crate::pki::{self, Key};
use crate::resource_groups::move_to;

const WRITERS: u64 = 8;
const CHANGES: u64 = 60;

async fn tag(client: &Client, region: &str, ids: &[String], value: &str) -> Result<(), tonic::Status> {
    let request = pb::TagResourcesRequest {
        region_id: region.into(),
        resource_type: "certificate".into(),
        resource_ids: ids.to_vec(),
        tags: tags(&[("writer", value)]),
    };
    client.clone().tag_resources(request).await.map(|_| ())
}

/// Reads events as a watcher does, until the token is cancelled and no event is left: how many there are. Each position must follow
/// the one before.
async fn watch(database: String, stop: CancellationToken) -> i64 {
    let sql = crate::harness::connect_to(&database).await;
    let mut last = 0;
    loop {
        let is_last = stop.is_cancelled();
        let rows = sql
            .query(
                "select position from event where position > $1 order by position",
                &[&last],
            )
            .await
            .unwrap();
        for row in rows {
            assert_eq!(
                row.get::<_, i64>(0),
                last + 1,
                "a position is missing or became visible late"
            );
            last += 1;
        }
        if is_last {
            return last;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_that_mix_all_changes_never_deadlock_and_positions_become_visible_in_order() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let pair = pki::self_signed(Key::P256, "a.example");
    let new_pairs = [1, 2].map(|_| pki::self_signed(Key::P256, "a.example"));
    let (regions, client) = ([REGION, "eu-central-1"], server.client());
    let mut ids = Vec::new();
    for number in 0..6 {
        let request = pb::UploadServerCertificateRequest {
            region_id: regions[number % 2].into(),
            ..upload_of(&pair)
        };
        ids.push(stored(&client, &request).await);
    }
    let group = crate::resource_groups::made(&server, "group").await;
    let stop = CancellationToken::new();
    let watching = tokio::spawn(watch(server.database().to_owned(), stop.clone()));

    let mut writers = JoinSet::new();
    for writer in 0..WRITERS {
        let client = [server.client(), replica.client()][writer as usize % 2].clone();
        let (ids, pair, group, new_pairs) = (ids.clone(), pair.clone(), group.clone(), new_pairs.clone());
        writers.spawn(async move {
            let mut random = writer + 1;
            for change in 0..CHANGES {
                // An LCG, so that a failure can be repeated.
                random = random
                    .wrapping_mul(6_364_136_223_846_793_005)
                    .wrapping_add(1_442_695_040_888_963_407);
                let choice = random >> 33;
                let id = &ids[choice as usize % ids.len()];
                let region = regions[choice as usize % 2];
                let name = format!("w{writer}c{change}");
                let changed = match choice / 8 % 10 {
                    0 => {
                        let request = pb::UploadServerCertificateRequest {
                            region_id: region.into(),
                            ..upload_of(&pair)
                        };
                        upload(&client, request).await.map(|_| ())
                    }
                    1 => rename(&client, id, &name, ANY).await.map(|_| ()),
                    2 | 3 => delete(&client, id, ANY).await.map(|_| ()),
                    4 | 5 => undelete(&client, id, ANY).await.map(|_| ()),
                    6 => {
                        // In both orders.
                        let mut some: Vec<_> = ids.iter().skip(choice as usize % 2).step_by(2).cloned().collect();
                        if choice % 4 < 2 {
                            some.reverse();
                        }
                        tag(&client, region, &some, &name).await
                    }
                    8 => {
                        let request = pb::RenewServerCertificateRequest {
                            everywhere: choice % 3 == 0,
                            ..renewal_of(id, &new_pairs[choice as usize % 2])
                        };
                        renew(&client, request).await.map(|_| ())
                    }
                    9 => roll_back(&client, id, 1, ANY).await.map(|_| ()),
                    _ if choice % 16 == 7 => purge(&client, id, ANY).await,
                    _ => move_to(&client, id, &group).await.map(|_| ()),
                };
                if let Err(refused) = changed {
                    let reason = crate::bad_input::reason(&refused);
                    assert!(
                        [
                            "SERVER_CERTIFICATE_NOT_FOUND",
                            "RESOURCE_NOT_FOUND",
                            "NOT_DELETED",
                            "VERSION_NOT_FOUND",
                            // More than 20 certificates have the pair.
                            "FIELD_INVALID",
                        ]
                        .contains(&reason.as_str()),
                        "{refused:?}"
                    );
                }
            }
        });
    }
    writers.join_all().await;
    stop.cancel();
    let events = watching.await.unwrap();

    let sql = server.sql().await;
    let row = sql
        .query_one(
            "select (select count(*) from event), (select position from stream where name = 'certificates'),
               (select count(distinct kind) from event), (select deadlocks from pg_stat_database where datname = current_database())",
            &[],
        )
        .await
        .unwrap();
    let found: [i64; 4] = [row.get(0), row.get(1), row.get(2), row.get(3)];
    assert_eq!((found[0], found[1], found[3]), (events, events, 0));
    assert!(found[2] >= 7, "the writers made {} kinds of changes", found[2]);
    // The counters were right throughout.
    for (region, counted, live) in crate::calls::counters(&sql).await {
        assert_eq!(counted, live, "{region}");
    }
    // No version and no name was lost, and none is left over.
    let wrong = "select count(*) from certificate as c where version - 1 <> (
                   select count(*) from certificate_version as old where (old.created_ms, old.random) = (c.created_ms, c.random)
                 ) or searchable_names <> (
                   select array_agg(searchable_name order by searchable_name) from searchable_name as named
                   where (named.created_ms, named.random) = (c.created_ms, c.random)
                 )";
    assert_eq!(sql.query_one(wrong, &[]).await.unwrap().get::<_, i64>(0), 0);
    let names =
        "select (select count(*) from searchable_name) - (select sum(cardinality(searchable_names)) from certificate)";
    assert_eq!(sql.query_one(names, &[]).await.unwrap().get::<_, i64>(0), 0);
    let deleted = "select coalesce(sum(deleted), 0)::bigint from certificate_count";
    let deleted: i64 = sql.query_one(deleted, &[]).await.unwrap().get(0);
    let kept = "select count(*) from certificate where deleted_at is not null";
    assert_eq!(deleted, sql.query_one(kept, &[]).await.unwrap().get::<_, i64>(0));
    replica.stop().await;
    server.stop().await;
}

#[tokio::test]
async fn an_event_tells_who_changed_what_from_which_address() {
    let server = TestServer::start().await;
    let (client, sql) = (server.client(), server.sql().await);
    let request = pb::UploadServerCertificateRequest {
        server_certificate_name: "old".into(),
        tags: tags(&[("env", "prod"), ("team", "shop")]),
        ..upload_of(&pki::self_signed(Key::P256, "a.example"))
    };
    let id = stored(&client, &request).await;
    rename(&client, &id, "new", ANY).await.unwrap();
    tag(&client, REGION, std::slice::from_ref(&id), "1").await.unwrap();
    let group = crate::resource_groups::made(&server, "group").await;
    move_to(&client, &id, &group).await.unwrap();
    delete(&client, &id, ANY).await.unwrap();
    let key_id = server.admin_key().split_once('.').unwrap().0;
    let rows = sql
        .query(
            "select position, kind, revision, version, detail::text from event
             where principal = $1 and address = '127.0.0.1' and certificate_kind = 'server' order by position",
            &[&key_id],
        )
        .await
        .unwrap();
    let events: Vec<(i64, String, i64, i64, Option<String>)> = rows
        .iter()
        .map(|row| (row.get(0), row.get(1), row.get(2), row.get(3), row.get(4)))
        .collect();
    let event = |position, kind: &str, detail: Option<String>| (position, kind.to_owned(), position, 1, detail);
    let tags = r#"{"tags": [{"env": "prod", "team": "shop"}, {"env": "prod", "team": "shop", "writer": "1"}]}"#;
    assert_eq!(
        events,
        [
            event(1, "uploaded", None),
            event(2, "renamed", Some(r#"{"name": ["old", "new"]}"#.into())),
            event(3, "tagged", Some(tags.into())),
            event(
                4,
                "moved",
                Some(format!(r#"{{"resource_group_id": [null, "{group}"]}}"#))
            ),
            event(5, "deleted", None),
        ]
    );
    server.stop().await;
}
