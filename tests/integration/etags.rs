//! if_etag: a change happens only if the certificate is still as the caller has read it.

use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::calls::{ANY, delete, deleted, get, ids, purge, refusal, rename, stored, undelete};
use crate::harness::{Account, TestServer, rows, until_waiting, upload_of};
use crate::pki::{self, Key};

fn mismatch() -> (Code, String) {
    (Code::Aborted, "ETAG_MISMATCH".into())
}

fn not_found() -> (Code, String) {
    (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into())
}

/// Refused since the certificate has this etag now.
fn assert_is_now<T: std::fmt::Debug>(answer: Result<T, Status>, etag: &str) {
    let refused = answer.expect_err("it was to be refused");
    let details = refused.get_error_details();
    assert_eq!(details.error_info().unwrap().metadata["etag"], etag);
    assert_eq!(refusal(Err::<T, _>(refused)), mismatch());
}

#[tokio::test]
async fn a_change_is_made_with_the_etag_of_now_and_refused_with_any_other() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = stored(&client, &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
    let (renamed, removed) = (2, 3);
    let wrong = |now: i32| {
        let others = [
            "0",
            "-1",
            "+1",
            "01",
            " 1",
            "1 ",
            "1.0",
            "x",
            "\"1\"",
            "9223372036854775807",
            "9223372036854775808",
        ];
        let neighbours = [now - 1, now + 1].map(|other| other.to_string());
        let signed = [format!("+{now}"), format!("0{now}"), format!("{now}\n")];
        let others = others.iter().map(|other| (*other).to_owned());
        others.chain(neighbours).chain(signed).collect::<Vec<_>>()
    };
    for etag in wrong(1) {
        assert_is_now(rename(&client, &id, "new", &etag).await, "1");
    }
    assert_eq!(rename(&client, &id, "new", "1").await.unwrap(), renamed.to_string());
    for etag in wrong(renamed) {
        assert_is_now(delete(&client, &id, &etag).await, "2");
    }
    assert_eq!(get(&client, &id).await.unwrap().etag, "2");
    assert_eq!(delete(&client, &id, "2").await.unwrap(), removed.to_string());
    for etag in wrong(removed) {
        assert_is_now(undelete(&client, &id, &etag).await, "3");
        assert_is_now(purge(&client, &id, &etag).await, "3");
    }
    assert_eq!(ids(&client, deleted()).await, [id.as_str()]);
    assert_eq!(undelete(&client, &id, "3").await.unwrap(), "4");
    assert_eq!(delete(&client, &id, "4").await.unwrap(), "5");
    purge(&client, &id, "5").await.unwrap();
    assert_eq!(server.rows().await, [0, 0, 0, 6]);
    server.stop().await;
}

#[tokio::test]
async fn an_etag_tells_nothing_of_what_is_not_there_for_the_caller() {
    let server = TestServer::start().await;
    let client = server.client();
    let id = stored(&client, &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
    let other = server.add_key("admin", Account::New).await;
    let other = server.client_with(Some(&format!("Bearer {other}")));
    for etag in ["1", "7"] {
        assert_eq!(refusal(rename(&other, &id, "new", etag).await), not_found());
        assert_eq!(refusal(delete(&other, &id, etag).await), not_found());
        let elsewhere = certkeep::grpc::pb::DeleteServerCertificateRequest {
            region_id: "eu-central-1".into(),
            server_certificate_id: id.clone(),
            if_etag: etag.into(),
            ..Default::default()
        };
        let answer = client.clone().delete_server_certificate(elsewhere).await;
        assert_eq!(refusal(answer), not_found());
    }
    delete(&client, &id, ANY).await.unwrap();
    for etag in ["1", "2"] {
        assert_eq!(refusal(rename(&client, &id, "new", etag).await), not_found());
        assert_eq!(refusal(delete(&client, &id, etag).await), not_found());
        assert_eq!(refusal(undelete(&other, &id, etag).await), not_found());
        assert_eq!(refusal(purge(&other, &id, etag).await), not_found());
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_renames_at_once_with_one_etag_one_is_made() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let sql = server.sql().await;
    let id = stored(&server.client(), &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
    sql.batch_execute("begin; select from certificate for update")
        .await
        .unwrap();
    let mut calls = tokio::task::JoinSet::new();
    for (server, name) in [(&server, "one"), (&replica, "other")] {
        let (client, id) = (server.client(), id.clone());
        calls.spawn(async move { (name, rename(&client, &id, name, "1").await) });
    }
    until_waiting(&sql, "store::rename", 2).await;
    sql.batch_execute("commit").await.unwrap();
    let (made, refused): (Vec<_>, Vec<_>) = calls
        .join_all()
        .await
        .into_iter()
        .partition(|(_, answer)| answer.is_ok());
    assert_eq!((made.len(), refused.len()), (1, 1));
    for (_, refused) in refused {
        assert_is_now(refused, "2");
    }
    let now = get(&server.client(), &id).await.unwrap();
    assert_eq!(
        (now.server_certificate_name.as_str(), now.etag.as_str()),
        (made[0].0, "2")
    );
    assert_eq!(rows(&sql).await, [1, 1, 0, 2]);
    replica.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_a_rename_and_a_delete_at_once_with_one_etag_one_is_made() {
    let server = TestServer::start().await;
    let replica = server.replica(|_| {}).await;
    let sql = server.sql().await;
    for rename_comes_first in [true, false] {
        let id = stored(&server.client(), &upload_of(&pki::self_signed(Key::P256, "a.example"))).await;
        sql.batch_execute("begin; select from certificate for update")
            .await
            .unwrap();
        let (one, other) = (server.client(), replica.client());
        let (its, id_) = (id.clone(), id.clone());
        let renaming = async move { rename(&one, &its, "new", "1").await };
        let deleting = async move { delete(&other, &id_, "1").await };
        let (renaming, deleting) = if rename_comes_first {
            let renaming = tokio::spawn(renaming);
            until_waiting(&sql, "store::rename", 1).await;
            let deleting = tokio::spawn(deleting);
            until_waiting(&sql, "store::delete", 1).await;
            (renaming, deleting)
        } else {
            let deleting = tokio::spawn(deleting);
            until_waiting(&sql, "store::delete", 1).await;
            let renaming = tokio::spawn(renaming);
            until_waiting(&sql, "store::rename", 1).await;
            (renaming, deleting)
        };
        sql.batch_execute("commit").await.unwrap();
        match (renaming.await.unwrap(), deleting.await.unwrap()) {
            (Ok(etag), deleted) => {
                assert_eq!(etag, "2");
                assert_is_now(deleted, "2");
                assert_eq!(get(&server.client(), &id).await.unwrap().server_certificate_name, "new");
            }
            (renamed, removed) => {
                assert_eq!((refusal(renamed), removed.unwrap().as_str()), (not_found(), "2"));
                assert_eq!(ids(&server.client(), deleted()).await, [id.as_str()]);
            }
        }
        let events = "select count(*) from event where random = (select max(random) from certificate
                      where created_ms = (select max(created_ms) from certificate))";
        assert_eq!(sql.query_one(events, &[]).await.unwrap().get::<_, i64>(0), 2);
    }
    replica.stop().await;
    server.stop().await;
}
