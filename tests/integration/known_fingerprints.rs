//! Fingerprints that an upload need not read again, since it knows them.

use std::collections::BTreeSet;

use certkeep::grpc::pb::UploadServerCertificateRequest as Upload;
use tokio::task::JoinSet;

use crate::calls::{ANY, delete, fingerprints, purge, stored, undelete, upload};
use crate::harness::{Client, TestServer, until_waiting, upload_of};
use crate::pki::{self, Key};

async fn answered(client: &Client, request: Upload) -> Vec<String> {
    upload(client, request).await.unwrap().account_fingerprints
}

fn new(name: &str) -> Upload {
    upload_of(&pki::self_signed(Key::P256, name))
}

#[tokio::test]
async fn they_are_right_whatever_else_changes_the_account() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let (client, other, sql) = (&server.client(), &replica.client(), server.sql().await);
    let elsewhere = || Upload {
        region_id: "eu-central-1".into(),
        ..new("elsewhere.example")
    };
    let quiet = || Upload {
        omit_account_fingerprints: true,
        ..new("quiet.example")
    };
    let right = async || {
        // The second is the one that may know what the first has read.
        for request in [new("a.example"), new("a.example"), elsewhere(), new("a.example")] {
            assert_eq!(answered(client, request).await, fingerprints(client).await);
        }
    };
    right().await;
    let id = stored(other, &new("other.example")).await;
    right().await;
    delete(other, &id, ANY).await.unwrap();
    right().await;
    undelete(other, &id, ANY).await.unwrap();
    right().await;
    stored(other, &elsewhere()).await;
    right().await;
    delete(client, &id, ANY).await.unwrap();
    purge(client, &id, ANY).await.unwrap();
    right().await;
    stored(client, &quiet()).await;
    right().await;
    upload(
        client,
        Upload {
            validate_only: true,
            ..new("dry.example")
        },
    )
    .await
    .unwrap();
    right().await;
    // One of a clock that goes ahead.
    sql.batch_execute(
        "begin;
         create temporary table later as select * from server_certificate order by created_ms desc, random desc limit 1;
         update later set created_ms = created_ms + 86400000;
         with key_row as (
           insert into private_key (account_id, created_ms, random, key_id, sealed)
           select account_id, created_ms, random, key_id, '' from later
         )
         insert into server_certificate select * from later;
         update server_certificate_count set live = live + 1 where region_id = (select region_id from later);
         commit",
    )
    .await
    .unwrap();
    right().await;
    replica.stop().await;
    server.stop().await;
}

/// What nobody has counted is not seen.
#[tokio::test]
async fn what_is_known_is_not_read_again() {
    let server = TestServer::start().await;
    let (client, sql) = (&server.client(), server.sql().await);
    stored(client, &new("first.example")).await;
    let before = answered(client, new("second.example")).await;
    sql.batch_execute("update server_certificate set fingerprint = substring(sha256('') for 20)")
        .await
        .unwrap();
    let known = answered(client, new("third.example")).await;
    assert_eq!(known[..2], before);
    sql.batch_execute("update server_certificate_count set live = live")
        .await
        .unwrap();
    let read = answered(client, new("fourth.example")).await;
    assert_eq!(read[2..3], known[2..]);
    assert_ne!(read[..2], before);
    server.stop().await;
}

/// Between what an upload sees and its turn at the counter.
#[tokio::test]
async fn what_comes_in_between_is_not_missed() {
    let server = TestServer::start().await;
    let (client, sql) = (&server.client(), server.sql().await);
    stored(client, &new("deleted.example")).await;
    answered(client, new("a.example")).await;
    sql.batch_execute(
        "begin;
         update server_certificate set deleted_at = now() where name = 'deleted.example';
         update server_certificate_count set live = live - 1",
    )
    .await
    .unwrap();
    let waiting = tokio::spawn({
        let client = client.clone();
        async move { answered(&client, new("b.example")).await }
    });
    until_waiting(&server.sql().await, "store::upload", 1).await;
    sql.batch_execute("commit").await.unwrap();
    assert_eq!(waiting.await.unwrap().len(), 3, "it has not seen that one is deleted");
    let after = answered(client, new("c.example")).await;
    assert_eq!((after.len(), &after), (3, &fingerprints(client).await));
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn they_are_right_after_changes_at_once() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    for _ in 0..3 {
        let mut changes = JoinSet::new();
        for number in 0..8 {
            let (client, other) = match number % 2 {
                0 => (server.client(), replica.client()),
                _ => (replica.client(), server.client()),
            };
            changes.spawn(async move {
                for _ in 0..10 {
                    let answer = upload(&client, new("a.example")).await.unwrap();
                    assert!(answer.account_fingerprints.contains(&answer.fingerprint));
                    let all: BTreeSet<_> = answer.account_fingerprints.iter().collect();
                    assert_eq!(all.len(), answer.account_fingerprints.len());
                    if number < 4 {
                        delete(&other, &answer.server_certificate_id, ANY).await.unwrap();
                    }
                }
            });
        }
        changes.join_all().await;
        for client in [server.client(), replica.client()] {
            for _ in 0..2 {
                let answered = answered(&client, new("last.example")).await;
                assert!(
                    answered == fingerprints(&client).await,
                    "{} fingerprints",
                    answered.len()
                );
            }
        }
    }
    replica.stop().await;
    server.stop().await;
}
