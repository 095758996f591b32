//! Leases: who serves a certificate, and that a certificate in use is not deleted.

use std::sync::Arc;
use std::time::Duration;

use certkeep::app::{self, App, Call, Caller, HolderKind, Principal, RequestId, Role, Scope};
use certkeep::grpc::pb;
use certkeep::grpc::pb::delivery_service_client::DeliveryServiceClient;
use tokio_postgres::Client as Sql;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::Channel;
use tonic::{Code, Status};
use tonic_types::StatusExt;

use crate::calls::{ANY, delete, deleted, get, ids, refusal, rename, stored, undelete};
use crate::harness::{self, Account, Bearer, Client, TestServer, bearer, until, until_waiting, upload_of};
use crate::pki::{self, Key};
use crate::process::{certkeep, stderr, stdout};
use crate::proof::{figure, times};
use crate::scope::Limits;

type Delivery = DeliveryServiceClient<InterceptedService<Channel, Bearer>>;

/// A replica that has not been seen for 31 seconds.
const GONE_REPLICA: &str =
    "insert into replica (replica_id, host, version, key_encryption_key_ids, sealing_key_ids, seen_at)
                              values (gen_random_uuid(), 'gone', '', '{}', '{}', now() - interval '31 seconds')";

async fn consumer(server: &TestServer) -> Delivery {
    let key = server.add_key("consumer", Account::First).await;
    DeliveryServiceClient::with_interceptor(server.channel(), bearer(&key))
}

fn bind(id: &str, holder: &str) -> pb::BindServerCertificateRequest {
    pb::BindServerCertificateRequest {
        server_certificate_id: id.into(),
        holder: holder.into(),
        ..Default::default()
    }
}

async fn bound(client: &Delivery, request: pb::BindServerCertificateRequest) -> Result<pb::Lease, Status> {
    let answer = client.clone().bind_server_certificate(request).await?;
    Ok(answer.into_inner().lease.unwrap())
}

async fn renewed(client: &Delivery, holder: &str, versions: &[(&str, i64)]) -> Result<pb::RenewLeasesResponse, Status> {
    let request = pb::RenewLeasesRequest {
        holder: holder.into(),
        versions: versions
            .iter()
            .map(|(id, version)| ((*id).to_owned(), *version))
            .collect(),
    };
    Ok(client.clone().renew_leases(request).await?.into_inner())
}

async fn released(client: &Delivery, holder: &str, ids: &[&str]) -> Result<(), Status> {
    let request = pb::ReleaseServerCertificateRequest {
        holder: holder.into(),
        server_certificate_ids: ids.iter().map(|id| (*id).to_owned()).collect(),
        all: ids.is_empty(),
    };
    client.clone().release_server_certificate(request).await.map(|_| ())
}

async fn listed(client: &Delivery, request: pb::ListLeasesRequest) -> Vec<pb::Lease> {
    let (mut request, mut all) = (request, Vec::new());
    loop {
        let page = client.clone().list_leases(request.clone()).await.unwrap().into_inner();
        all.extend(page.leases);
        if page.next_page_token.is_empty() {
            return all;
        }
        request.page_token = page.next_page_token;
    }
}

async fn holders(client: &Delivery, request: pb::ListLeasesRequest) -> Vec<String> {
    let leases = listed(client, request).await;
    leases.into_iter().map(|lease| lease.holder).collect()
}

async fn delete_by_force(client: &Client, id: &str) -> Result<(), Status> {
    let request = pb::DeleteServerCertificateRequest {
        server_certificate_id: id.into(),
        force: true,
        ..Default::default()
    };
    client.clone().delete_server_certificate(request).await.map(|_| ())
}

fn in_use() -> (Code, String) {
    (Code::FailedPrecondition, "CERTIFICATE_IN_USE".into())
}

fn not_found() -> (Code, String) {
    (Code::NotFound, "SERVER_CERTIFICATE_NOT_FOUND".into())
}

async fn upload(server: &TestServer, name: &str) -> String {
    stored(&server.client(), &upload_of(&pki::issued(Key::P256, name))).await
}

async fn number(sql: &Sql, query: &str) -> i64 {
    sql.query_one(query, &[]).await.unwrap().get(0)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_in_use_is_not_deleted_before_it_is_released() {
    let server = TestServer::start().await;
    let (client, consumer) = (server.client(), consumer(&server).await);
    let [a, b] = [upload(&server, "a.example").await, upload(&server, "b.example").await];

    let request = pb::BindServerCertificateRequest {
        ttl_seconds: 120,
        version: 1,
        ..bind(&a, "web-1")
    };
    let lease = bound(&consumer, request).await.unwrap();
    assert_eq!((lease.holder.as_str(), lease.kind()), ("web-1", pb::LeaseKind::Timed));
    assert_eq!((lease.served_version, lease.sent_version), (1, 0));
    assert_eq!(lease.address, "127.0.0.1");
    assert!(lease.user_agent.starts_with("tonic/"), "{}", lease.user_agent);
    let lasts = lease.expire_time.unwrap().seconds - lease.bind_time.unwrap().seconds;
    assert!((119..=121).contains(&lasts), "{lasts}");
    bound(&consumer, bind(&a, "web-2")).await.unwrap();
    bound(&consumer, bind(&b, "web-2")).await.unwrap();
    // Once more: the same lease, which keeps its version.
    assert_eq!(bound(&consumer, bind(&a, "web-1")).await.unwrap().served_version, 1);

    let refused = delete(&client, &a, ANY).await.unwrap_err();
    assert_eq!(
        refused.message(),
        "the server certificate is in use by web-1 and web-2; take it out of use there first, or delete it with force"
    );
    let details = refused.get_error_details();
    let named = &details.precondition_failure().unwrap().violations;
    let named: Vec<_> = named
        .iter()
        .map(|one| (one.subject.as_str(), one.description.as_str()))
        .collect();
    assert_eq!(named, [(a.as_str(), "web-1"), (a.as_str(), "web-2")]);
    assert_eq!(refusal(Err::<(), _>(refused)), in_use());
    // Everything else goes on.
    let etag = rename(&client, &a, "renamed", ANY).await.unwrap();
    assert_eq!(
        refusal(delete(&client, &a, "1").await),
        (Code::Aborted, "ETAG_MISMATCH".into())
    );
    assert_eq!(
        get(&client, &a).await.unwrap().etag,
        etag,
        "a refused delete changes nothing"
    );

    // Renewals, and who is behind.
    let behind = |behind| pb::ListLeasesRequest {
        behind,
        ..Default::default()
    };
    assert_eq!(holders(&consumer, behind(false)).await.len(), 3);
    assert_eq!(holders(&consumer, behind(true)).await, ["web-2", "web-2"]);
    let answer = renewed(&consumer, "web-2", &[(&a, 1), (&b, 9), ("no id", 1)])
        .await
        .unwrap();
    let mut versions: Vec<_> = answer.versions.into_iter().collect();
    versions.sort();
    let mut expected = [(a.clone(), 1), (b.clone(), 1)];
    expected.sort();
    assert_eq!(versions, expected);
    let listing = listed(&consumer, behind(true)).await;
    assert_eq!(listing.len(), 1);
    assert_eq!((&listing[0].server_certificate_id, listing[0].served_version), (&b, 9));

    // Pages and filters.
    let of_a = pb::ListLeasesRequest {
        server_certificate_id: a.clone(),
        page_size: 1,
        ..Default::default()
    };
    let mut both = holders(&consumer, of_a.clone()).await;
    both.sort();
    assert_eq!(both, ["web-1", "web-2"]);
    let of_web_1 = pb::ListLeasesRequest {
        holder: "web-1".into(),
        ..Default::default()
    };
    assert_eq!(holders(&consumer, of_web_1).await, ["web-1"]);

    // Another caller has its own holders.
    let other = self::consumer(&server).await;
    let lost = (Code::NotFound, "LEASE_NOT_FOUND".to_owned());
    assert_eq!(refusal(renewed(&other, "web-1", &[]).await), lost);
    released(&other, "web-1", &[]).await.unwrap();
    assert_eq!(holders(&consumer, of_a).await.len(), 2);

    released(&consumer, "web-1", &[]).await.unwrap();
    released(&consumer, "web-2", &[&a, "no id"]).await.unwrap();
    delete(&client, &a, ANY).await.unwrap();
    assert_eq!(refusal(bound(&consumer, bind(&a, "web-1")).await), not_found());
    assert_eq!(refusal(renewed(&consumer, "web-1", &[]).await), lost);
    assert_eq!(refusal(delete(&client, &b, ANY).await), in_use());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn force_deletes_what_is_held_and_an_undelete_brings_the_lease_back() {
    let server = TestServer::start_with(|config| config.delete_retention = Duration::from_secs(60)).await;
    let (client, consumer, sql) = (server.client(), consumer(&server).await, server.sql().await);
    let a = upload(&server, "a.example").await;
    bound(&consumer, bind(&a, "web-1")).await.unwrap();
    let by_force = "select deleted_by_force::int::bigint from certificate";
    delete_by_force(&client, &a).await.unwrap();
    assert_eq!(number(&sql, by_force).await, 1);
    assert_eq!(
        number(
            &sql,
            "select count(*) from event where detail = '{\"deleted_by_force\": [false, true]}'"
        )
        .await,
        1
    );
    let answer = renewed(&consumer, "web-1", &[]).await.unwrap();
    assert!(
        answer.versions.is_empty(),
        "a deleted certificate has no version to serve"
    );
    assert_eq!(holders(&consumer, pb::ListLeasesRequest::default()).await, ["web-1"]);
    undelete(&client, &a, ANY).await.unwrap();
    assert_eq!(number(&sql, by_force).await, 0);
    assert_eq!(refusal(delete(&client, &a, ANY).await), in_use());

    // Without a retention time too.
    let keeps_none = server.replica(|config| config.delete_retention = Duration::ZERO).await;
    assert_eq!(refusal(delete(&keeps_none.client(), &a, ANY).await), in_use());
    delete_by_force(&keeps_none.client(), &a).await.unwrap();
    assert_eq!(number(&sql, "select count(*) from certificate").await, 0);
    assert_eq!(number(&sql, "select count(*) from lease").await, 0);
    keeps_none.stop().await;
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lease_ends_with_its_time_or_with_its_replica() {
    let server = TestServer::start().await;
    let (client, consumer, sql) = (server.client(), consumer(&server).await, server.sql().await);
    let [a, b, c] = [
        upload(&server, "a.example").await,
        upload(&server, "b.example").await,
        upload(&server, "c.example").await,
    ];
    bound(&consumer, bind(&a, "web-1")).await.unwrap();
    bound(&consumer, bind(&b, "web-1")).await.unwrap();
    sql.batch_execute("update holder set expires_at = clock_timestamp()")
        .await
        .unwrap();
    let lost = (Code::NotFound, "LEASE_NOT_FOUND".to_owned());
    assert_eq!(refusal(renewed(&consumer, "web-1", &[]).await), lost);
    assert!(listed(&consumer, pb::ListLeasesRequest::default()).await.is_empty());
    // A new bind brings back no other lease.
    bound(&consumer, bind(&b, "web-1")).await.unwrap();
    delete(&client, &a, ANY).await.unwrap();
    assert_eq!(refusal(delete(&client, &b, ANY).await), in_use());
    sql.batch_execute("update holder set expires_at = clock_timestamp()")
        .await
        .unwrap();
    // A start runs the maintenance.
    let replica = server.replica(|_| {}).await;
    until(async || number(&sql, "select count(*) from holder").await == 0).await;
    replica.stop().await;

    // A stream's holder on another replica.
    let insert = "with replica as (
                    insert into replica (replica_id, host, version, key_encryption_key_ids, sealing_key_ids)
                    values (gen_random_uuid(), 'other', '', '{}', '{}') returning replica_id
                  ), holder as (
                    insert into holder (holder_id, account_id, name, kind, principal, replica_id)
                    select gen_random_uuid(), account_id, 'envoy', 'sds', 'p', replica_id from replica, certificate
                    where certificate.name = 'c.example' returning holder_id
                  )
                  insert into lease (account_id, created_ms, random, holder_id)
                  select account_id, created_ms, random, holder_id from certificate, holder where name = 'c.example'";
    sql.batch_execute(insert).await.unwrap();
    assert_eq!(refusal(delete(&client, &c, ANY).await), in_use());
    assert_eq!(holders(&consumer, pb::ListLeasesRequest::default()).await, ["envoy"]);
    sql.batch_execute("update replica set seen_at = now() - interval '31 seconds' where host = 'other'")
        .await
        .unwrap();
    assert!(listed(&consumer, pb::ListLeasesRequest::default()).await.is_empty());
    delete(&client, &c, ANY).await.unwrap();
    server.stop().await;
}

/// next.md 5.3: of a delete and a bind at the same moment, exactly one succeeds.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_delete_and_a_bind_one_succeeds_in_every_interleaving() {
    let server = TestServer::start().await;
    let (client, consumer) = (server.client(), consumer(&server).await);
    let (sql, other) = (server.sql().await, server.sql().await);
    let id = upload(&server, "a.example").await;

    // The bind locks the row first, and commits while the delete waits for the lock.
    let lease = "insert into holder (holder_id, account_id, name, kind, principal, ttl_seconds, expires_at)
                   select gen_random_uuid(), account_id, 'web-1', 'timed', 'p', 60, now() + interval '1 minute' from certificate;
                 insert into lease (account_id, created_ms, random, holder_id)
                   select holder.account_id, created_ms, random, holder_id from certificate, holder";
    sql.batch_execute(&format!("begin; select from certificate for share; {lease}"))
        .await
        .unwrap();
    let (deleted_answer, ()) = tokio::join!(delete(&client, &id, ANY), async {
        until_waiting(&other, "store::delete", 1).await;
        sql.batch_execute("commit").await.unwrap();
    });
    assert_eq!(refusal(deleted_answer), in_use());
    sql.batch_execute("delete from holder").await.unwrap();
    // The bind is rolled back while the delete waits.
    sql.batch_execute(&format!("begin; select from certificate for share; {lease}"))
        .await
        .unwrap();
    let (deleted_answer, ()) = tokio::join!(delete(&client, &id, ANY), async {
        until_waiting(&other, "store::delete", 1).await;
        sql.batch_execute("rollback").await.unwrap();
    });
    deleted_answer.unwrap();
    undelete(&client, &id, ANY).await.unwrap();
    // The delete locks the row first: the bind waits, and finds nothing. Or the delete is rolled back.
    for (end, is_bound) in [("commit", false), ("rollback", true)] {
        sql.batch_execute("begin; update certificate set deleted_at = now()")
            .await
            .unwrap();
        let (answer, ()) = tokio::join!(bound(&consumer, bind(&id, "web-2")), async {
            until_waiting(&other, "store::bind", 1).await;
            sql.batch_execute(end).await.unwrap();
        });
        assert_eq!(answer.is_ok(), is_bound, "{end}: {answer:?}");
        if !is_bound {
            assert_eq!(refusal(answer), not_found());
            sql.batch_execute("update certificate set deleted_at = null")
                .await
                .unwrap();
        }
    }
    released(&consumer, "web-2", &[]).await.unwrap();

    // Many races.
    let mut won = [0, 0];
    for round in 0..times(30, 2_000) {
        let (deletes, binds) = tokio::join!(delete(&client, &id, ANY), bound(&consumer, bind(&id, "web-3")));
        assert!(deletes.is_ok() != binds.is_ok(), "{round}: {deletes:?} {binds:?}");
        match deletes {
            Ok(_) => {
                won[0] += 1;
                undelete(&client, &id, ANY).await.unwrap();
            }
            Err(refused) => {
                won[1] += 1;
                assert_eq!(refusal(Err::<(), _>(refused)), in_use());
                released(&consumer, "web-3", &[]).await.unwrap();
            }
        }
    }
    figure(
        "deletes and binds that won, never both",
        format!("{} and {}", won[0], won[1]),
    );
    assert!(ids(&client, deleted()).await.is_empty());
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_has_at_most_10_000_holders_and_bad_requests_are_refused() {
    let server = TestServer::start().await;
    let (client, consumer, sql) = (server.client(), consumer(&server).await, server.sql().await);
    let id = upload(&server, "a.example").await;
    bound(&consumer, bind(&id, "web-1")).await.unwrap();
    let fill = "insert into holder (holder_id, account_id, name, kind, principal, ttl_seconds, expires_at)
                  select gen_random_uuid(), account_id, 'n' || n, 'timed', 'p', 60, now() + interval '1 minute'
                  from certificate, generate_series(1, 9999) as n;
                insert into lease (account_id, created_ms, random, holder_id)
                  select account_id, created_ms, random, holder_id from certificate join holder using (account_id)
                  where principal = 'p'";
    sql.batch_execute(fill).await.unwrap();
    let full = (Code::ResourceExhausted, "QUOTA_EXCEEDED".to_owned());
    assert_eq!(refusal(bound(&consumer, bind(&id, "web-2")).await), full);
    bound(&consumer, bind(&id, "web-1")).await.unwrap();
    assert_eq!(
        holders(
            &consumer,
            pb::ListLeasesRequest {
                page_size: 1000,
                ..Default::default()
            }
        )
        .await
        .len(),
        10_000
    );
    let refused = delete(&client, &id, ANY).await.unwrap_err();
    assert_eq!(
        refused
            .get_error_details()
            .precondition_failure()
            .unwrap()
            .violations
            .len(),
        20
    );
    assert!(refused.message().contains(" and others;"), "{}", refused.message());
    // Holders whose time is over make room.
    sql.batch_execute("update holder set expires_at = now() where name = 'n1'")
        .await
        .unwrap();
    bound(&consumer, bind(&id, "web-2")).await.unwrap();
    assert_eq!(refusal(bound(&consumer, bind(&id, "web-3")).await), full);
    // And so do those of a replica that is gone.
    sql.batch_execute(GONE_REPLICA).await.unwrap();
    let move_all = "update holder set kind = 'watch', ttl_seconds = null, expires_at = null,
                      replica_id = (select replica_id from replica where host = 'gone')
                    where principal = 'p'";
    sql.batch_execute(move_all).await.unwrap();
    bound(&consumer, bind(&id, "web-3")).await.unwrap();

    for (request, field) in [
        (bind("", "web-1"), "server_certificate_id"),
        (bind(&id, ""), "holder"),
        (bind(&id, "web 1"), "holder"),
        (
            pb::BindServerCertificateRequest {
                ttl_seconds: 9,
                ..bind(&id, "web-1")
            },
            "ttl_seconds",
        ),
        (
            pb::BindServerCertificateRequest {
                ttl_seconds: 3601,
                ..bind(&id, "web-1")
            },
            "ttl_seconds",
        ),
        (
            pb::BindServerCertificateRequest {
                version: -1,
                ..bind(&id, "web-1")
            },
            "version",
        ),
    ] {
        let refused = bound(&consumer, request).await.unwrap_err();
        let details = refused.get_error_details();
        assert_eq!(details.bad_request().unwrap().field_violations[0].field, field);
        assert_eq!(
            refusal(Err::<(), _>(refused)),
            (Code::InvalidArgument, "FIELD_INVALID".into())
        );
    }
    let elsewhere = pb::BindServerCertificateRequest {
        region_id: "eu-central-1".into(),
        ..bind(&id, "web-1")
    };
    assert_eq!(refusal(bound(&consumer, elsewhere).await), not_found());
    let invalid = (Code::InvalidArgument, "FIELD_INVALID".to_owned());
    for (ids, all) in [
        (Vec::new(), false),
        (vec![id.clone()], true),
        (vec![id.clone(); 1001], false),
    ] {
        let request = pb::ReleaseServerCertificateRequest {
            holder: "web-1".into(),
            server_certificate_ids: ids,
            all,
        };
        assert_eq!(
            refusal(consumer.clone().release_server_certificate(request).await),
            invalid
        );
    }
    assert_eq!(refusal(renewed(&consumer, "web-1", &[(&id, -1)]).await), invalid);
    let page = pb::ListLeasesRequest {
        page_token: "x".into(),
        ..Default::default()
    };
    assert_eq!(
        refusal(consumer.clone().list_leases(page).await),
        (Code::InvalidArgument, "PAGE_TOKEN_INVALID".into())
    );
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn leases_outside_the_scope_do_not_exist() {
    let server = TestServer::start().await;
    let (client, all) = (server.client(), consumer(&server).await);
    let (inside, outside) = (
        upload(&server, "shop.example").await,
        upload(&server, "pay.example").await,
    );
    bound(&all, bind(&inside, "web-1")).await.unwrap();
    bound(&all, bind(&outside, "web-1")).await.unwrap();
    for role in ["consumer", "reader", "editor", "admin"] {
        let key = server.add_key(role, Account::First).await;
        let limits = Limits {
            prefixes: vec!["shop".into()],
            ..Default::default()
        };
        server.limit_key(&key, &limits).await;
        let scoped = DeliveryServiceClient::with_interceptor(server.channel(), bearer(&key));
        for certificate in ["", &inside, &outside] {
            let request = pb::ListLeasesRequest {
                server_certificate_id: certificate.into(),
                ..Default::default()
            };
            let seen = listed(&scoped, request).await;
            assert_eq!(seen.len(), usize::from(certificate != outside), "{role} {certificate}");
            assert!(seen.iter().all(|lease| lease.server_certificate_id == inside));
        }
        if role != "consumer" {
            continue;
        }
        assert_eq!(refusal(bound(&scoped, bind(&outside, "web-2")).await), not_found());
        bound(&scoped, bind(&inside, "web-2")).await.unwrap();
        assert_eq!(renewed(&scoped, "web-2", &[]).await.unwrap().versions.len(), 1);
        // A certificate that leaves the scope: its holder still holds it, and learns nothing about it.
        rename(&client, &inside, "other", ANY).await.unwrap();
        assert!(
            renewed(&scoped, "web-2", &[(&inside, 1)])
                .await
                .unwrap()
                .versions
                .is_empty()
        );
        rename(&client, &inside, "shop.example", ANY).await.unwrap();
        released(&scoped, "web-2", &[]).await.unwrap();
    }
    server.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_line_lists_leases_and_names_holders() {
    let server = TestServer::start().await;
    let consumer = consumer(&server).await;
    let id = upload(&server, "a.example").await;
    bound(&consumer, bind(&id, "web-1")).await.unwrap();
    let key = server.admin_key_file();
    let run = |args: &[&str]| {
        let endpoint = server.endpoint();
        let connection = ["--endpoint", &endpoint, "--access-key-file", key.to_str().unwrap()];
        certkeep(&[args, &connection].concat())
    };
    let list = run(&["leases", "--certificate", &id, "--behind"]);
    assert!(
        stdout(&list).lines().nth(1).unwrap().starts_with("web-1 "),
        "{}",
        stdout(&list)
    );
    let refused = run(&["delete", &id]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(stderr(&refused).contains("held by     web-1"), "{}", stderr(&refused));
    assert!(run(&["delete", &id, "--force"]).status.success());
    server.stop().await;
}

/// The use cases of a replica without a server.
async fn replica(server: &TestServer) -> (App, Call) {
    let settings = certkeep::store::Settings {
        connection_string: server.database().to_owned(),
        owner_connection_string: None,
        danger_unverified_database: false,
        max_connections: 4,
        timeline_file: None,
    };
    let store = certkeep::store::Store::new(&settings).unwrap();
    let ring = harness::key_ring(&server.key_ring_file()).await;
    let app = App::open(store, ring, app::Settings::default(), "test").await.unwrap();
    let account = number(
        &server.sql().await,
        "select account_id from account where name = 'default'",
    )
    .await;
    let caller = Caller {
        principal: Principal::AccessKey("cktest".into()),
        address: [127, 0, 0, 1].into(),
        account: certkeep::app::AccountId::from_i64(account),
        role: Role::Consumer,
        scope: Arc::new(Scope::default()),
        expires: None,
    };
    let call = Call {
        request_id: RequestId::random().unwrap(),
        caller,
    };
    (app, call)
}

#[tokio::test(flavor = "multi_thread")]
async fn streams_hold_certificates_while_they_live() {
    let server = TestServer::start().await;
    let (client, sql) = (server.client(), server.sql().await);
    let id = upload(&server, "a.example").await;
    let certificate = certkeep::app::CertificateId::parse(&id).unwrap();
    let (app, call) = replica(&server).await;

    // Two streams of one holder share its row and its lease.
    let hold = |name: &str| app.hold(&call, HolderKind::Sds, name, "envoy/1.36");
    let (one, two) = (hold("envoy-1"), hold("envoy-1"));
    assert_eq!(number(&sql, "select count(*) from holder").await, 0);
    one.bind(certificate, 1).await.unwrap();
    two.bind(certificate, 1).await.unwrap();
    assert_eq!(number(&sql, "select count(*) from holder").await, 1);
    assert_eq!(refusal(delete(&client, &id, ANY).await), in_use());
    one.served(certificate, 1);
    let served = "select coalesce(sum(served_version), 0)::bigint from lease";
    until(async || number(&sql, served).await == 1).await;
    two.rejected(certificate, 2, "no\nRSA");
    until(async || {
        number(
            &sql,
            "select count(*) from lease where rejection = 'noRSA' and rejected_version = 2",
        )
        .await
            == 1
    })
    .await;
    drop(one);
    assert_eq!(refusal(delete(&client, &id, ANY).await), in_use());

    // The database forgets the replica, and the replica writes its leases again.
    sql.batch_execute("delete from replica where host = 'test'")
        .await
        .unwrap();
    assert_eq!(number(&sql, "select count(*) from lease").await, 0);
    app.heartbeat().await.unwrap();
    until(async || {
        number(
            &sql,
            "select count(*) from lease where rejected_version = 2 and sent_version = 1",
        )
        .await
            == 1
    })
    .await;

    // A certificate that another transaction has locked waits alone.
    let other = upload(&server, "b.example").await;
    let other = certkeep::app::CertificateId::parse(&other).unwrap();
    sql.batch_execute("begin; select from certificate where name = 'b.example' for update")
        .await
        .unwrap();
    let waits = hold("envoy-2");
    let mut waiting = Box::pin(waits.bind(other, 1));
    assert!(
        tokio::time::timeout(Duration::from_millis(50), &mut waiting)
            .await
            .is_err()
    );
    hold("envoy-3").bind(certificate, 1).await.unwrap();
    sql.batch_execute("commit").await.unwrap();
    waiting.await.unwrap();
    drop(waits);

    // Many streams at once.
    let mut many = tokio::task::JoinSet::new();
    for n in 0..times(500, 9_000) {
        let holder = hold(&format!("fleet-{n}"));
        many.spawn(async move { holder.bind(certificate, 1).await.map(|()| holder) });
    }
    for outcome in many.join_all().await {
        outcome.unwrap();
    }
    drop(two);
    until(async || number(&sql, "select count(*) from holder").await == 0).await;
    delete(&client, &id, ANY).await.unwrap();
    assert!(hold("envoy-1").bind(certificate, 1).await.is_err());
    app.leave().await;
    app.finish().await;
    server.stop().await;
}
