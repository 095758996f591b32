//! The schema's versions and its promises, and what becomes of a change whose connection dies.

use certkeep::store::{MigrateError, Settings, Store};

use crate::harness::{TestServer, connect_to, database, upload_of};
use crate::pki::{self, Key};

fn store(database: &str) -> Store {
    let settings = Settings {
        connection_string: database.to_owned(),
        owner_connection_string: None,
        danger_unverified_database: false,
        max_connections: 2,
        timeline_file: None,
    };
    Store::new(&settings).unwrap()
}

#[tokio::test]
async fn a_newer_schema_is_run_on_if_it_allows_this_binary_and_else_refused() {
    let database = database().await;
    let sql = connect_to(&database).await;
    let add = "insert into schema_migration (version, checksum, oldest_binary) values ($1, '', $2)";
    let ours = certkeep::store::schema_version();
    sql.execute(add, &[&(ours + 1), &ours]).await.unwrap();
    assert_eq!(store(&database).migrate().await.unwrap(), 0);
    sql.execute(add, &[&(ours + 2), &(ours + 1)]).await.unwrap();
    let refused = store(&database).migrate().await.unwrap_err();
    assert!(
        matches!(refused, MigrateError::TooNew { found, .. } if found == ours + 2),
        "{refused}"
    );
}

#[tokio::test]
async fn a_migration_of_another_text_is_refused() {
    let database = database().await;
    connect_to(&database)
        .await
        .execute("update schema_migration set checksum = 'x' where version = 1", &[])
        .await
        .unwrap();
    assert!(matches!(
        store(&database).migrate().await.unwrap_err(),
        MigrateError::Changed(1)
    ));
}

/// Such a database would refuse the first Chinese name.
#[tokio::test]
async fn a_database_that_is_not_utf_8_is_refused() {
    let database = database().await;
    let sql = connect_to(&database).await;
    let name: String = sql
        .query_one("select current_database()::text", &[])
        .await
        .unwrap()
        .get(0);
    for encoding in ["LATIN1", "SQL_ASCII"] {
        let other = format!("{name}_{}", encoding.to_lowercase());
        let create = format!("create database {other} encoding '{encoding}' locale 'C' template template0");
        sql.batch_execute(&create).await.unwrap();
        let store = store(&database.replace(&format!("dbname={name}"), &format!("dbname={other}")));
        let refused = store.migrate().await.unwrap_err();
        assert_eq!(
            refused.to_string(),
            format!(
                "the database has the encoding {encoding}, and certkeep needs UTF8: create it with \
                 `create database ... encoding 'UTF8' template template0`"
            )
        );
        store.close();
    }
}

#[tokio::test]
async fn an_unknown_role_or_database_is_named_in_the_error() {
    use std::error::Error as _;
    let database = database().await;
    let sql = connect_to(&database).await;
    let name: String = sql
        .query_one("select current_database()::text", &[])
        .await
        .unwrap()
        .get(0);
    let unknown = database.replace(&format!("dbname={name}"), "dbname=unknown");
    let refused = store(&unknown).access().await.unwrap_err();
    assert_eq!(
        refused.source().unwrap().to_string(),
        "database \"unknown\" does not exist (SQLSTATE 3D000)"
    );
    let refused = store(&format!("{database} user=unknown")).access().await.unwrap_err();
    let cause = refused.source().unwrap().to_string();
    assert!(
        cause.contains("\"unknown\"") && cause.contains("SQLSTATE 28000"),
        "{cause}"
    );
    let refused = store("host=/nowhere dbname=unknown user=unknown")
        .access()
        .await
        .unwrap_err();
    let cause = refused.source().unwrap().to_string();
    assert!(cause.contains("No such file or directory"), "{cause}");
}

#[tokio::test]
async fn replicas_that_start_at_once_migrate_once() {
    let database = database().await;
    connect_to(&database)
        .await
        .batch_execute("drop schema public cascade; create schema public")
        .await
        .unwrap();
    let mut migrations = tokio::task::JoinSet::new();
    for _ in 0..4 {
        let store = store(&database);
        migrations.spawn(async move { store.migrate().await.unwrap() });
    }
    let applied: usize = migrations.join_all().await.into_iter().sum();
    assert_eq!(applied as i32, certkeep::store::schema_version());
}

#[tokio::test]
async fn the_schema_itself_keeps_a_certificate_and_its_key_together() {
    let server = TestServer::start().await;
    server
        .client()
        .upload_server_certificate(upload_of(&pki::self_signed(Key::P256, "a.example")))
        .await
        .unwrap();
    let sql = server.sql().await;
    for statement in [
        "delete from private_key",
        "update private_key set key_id = gen_random_uuid()",
    ] {
        let refused = sql.execute(statement, &[]).await.unwrap_err();
        assert_eq!(refused.code().unwrap().code(), "23503", "{statement}");
    }
    assert_eq!(server.rows().await, [1, 1, 0, 1]);
    // The key goes with its certificate.
    sql.execute("delete from certificate", &[]).await.unwrap();
    assert_eq!(server.rows().await, [0, 0, 0, 1]);
    server.stop().await;
}

/// A statement that fails half-way leaves nothing, whichever of its tables it fails in, and says nothing of its rows.
#[tokio::test]
async fn a_fault_in_any_step_of_the_upload_leaves_no_row() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    sql.batch_execute("create function fault() returns trigger language plpgsql as $$ begin raise 'a fault'; end $$")
        .await
        .unwrap();
    let request = certkeep::grpc::pb::UploadServerCertificateRequest {
        tags: vec![certkeep::grpc::pb::Tag {
            key: "team".into(),
            value: "shop".into(),
        }],
        ..upload_of(&pki::self_signed(Key::P256, "a.example"))
    };
    for table in ["certificate", "private_key", "certificate_tag", "event"] {
        for timing in ["before", "after"] {
            let arm = format!("create trigger fault {timing} insert on {table} for each row execute function fault()");
            sql.batch_execute(&arm).await.unwrap();
            let refused = server
                .client()
                .upload_server_certificate(request.clone())
                .await
                .unwrap_err();
            assert_eq!(crate::bad_input::reason(&refused), "INTERNAL", "{timing} {table}");
            assert!(!refused.message().contains("a fault"), "{}", refused.message());
            assert_eq!(server.rows().await, [0, 0, 0, 0], "{timing} {table}");
            sql.batch_execute(&format!("drop trigger fault on {table}"))
                .await
                .unwrap();
        }
    }
    // In the commit itself.
    sql.batch_execute("create constraint trigger fault after insert on event deferrable initially deferred for each row execute function fault()")
        .await
        .unwrap();
    server
        .client()
        .upload_server_certificate(request.clone())
        .await
        .unwrap_err();
    assert_eq!(server.rows().await, [0, 0, 0, 0]);
    sql.batch_execute("drop trigger fault on event").await.unwrap();
    server.client().upload_server_certificate(request).await.unwrap();
    assert_eq!(server.rows().await, [1, 1, 1, 1]);
    server.stop().await;
}

/// The backend is ended in the midst of the statement: the upload is looked up, repeated under its id, and stands once.
#[tokio::test]
async fn an_upload_whose_connection_dies_is_repeated_and_stands_once() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    // The first attempt ends its own backend; a sequence, which no rollback undoes, tells the second.
    sql.batch_execute(
        "create sequence attempts;
         create function die_once() returns trigger language plpgsql as $$
         begin
           if nextval('attempts') = 1 then perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(1); end if;
           return new;
         end $$;
         create trigger die_once before insert on event for each row execute function die_once()",
    )
    .await
    .unwrap();
    let request = upload_of(&pki::self_signed(Key::P256, "a.example"));
    let answer = server
        .client()
        .upload_server_certificate(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answer.account_fingerprints, [answer.fingerprint]);
    assert_eq!(server.rows().await, [1, 1, 0, 1]);
    let attempts: i64 = sql
        .query_one("select last_value from attempts", &[])
        .await
        .unwrap()
        .get(0);
    assert_eq!(attempts, 2);
    server.stop().await;
}

/// Its backend is ended after the work was done, in the commit: what became of it is looked up, and it is done once.
#[tokio::test]
async fn a_rename_or_delete_whose_connection_dies_is_done_once() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    let uploaded = server
        .client()
        .upload_server_certificate(upload_of(&pki::self_signed(Key::P256, "a.example")))
        .await;
    let id = uploaded.unwrap().into_inner().server_certificate_id;
    sql.batch_execute(
        "create sequence attempts;
         create function die_once() returns trigger language plpgsql as $$
         begin
           if nextval('attempts') % 2 = 1 then perform pg_terminate_backend(pg_backend_pid()); perform pg_sleep(1); end if;
           return null;
         end $$;
         create constraint trigger die_once after insert on event deferrable initially deferred
           for each row execute function die_once()",
    )
    .await
    .unwrap();
    let rename = certkeep::grpc::pb::SetServerCertificateNameRequest {
        region_id: crate::harness::REGION.into(),
        server_certificate_id: id.clone(),
        server_certificate_name: "new".into(),
        ..Default::default()
    };
    let renamed = server
        .client()
        .set_server_certificate_name(rename)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(renamed.etag, "2");
    let delete = certkeep::grpc::pb::DeleteServerCertificateRequest {
        server_certificate_id: id,
        ..Default::default()
    };
    let deleted = server
        .client()
        .delete_server_certificate(delete)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(deleted.etag, "3");
    assert_eq!(server.rows().await, [1, 1, 0, 3]);
    server.stop().await;
}

/// A caller that leaves takes its statement with it, and nobody after it waits.
#[tokio::test]
async fn callers_that_leave_hold_up_nobody() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    let uploaded = server
        .client()
        .upload_server_certificate(upload_of(&pki::self_signed(Key::P256, "a.example")))
        .await;
    let id = uploaded.unwrap().into_inner().server_certificate_id;
    sql.batch_execute("begin; select from certificate for update")
        .await
        .unwrap();
    for _ in 0..8 {
        let mut rename = tonic::Request::new(certkeep::grpc::pb::SetServerCertificateNameRequest {
            region_id: crate::harness::REGION.into(),
            server_certificate_id: id.clone(),
            server_certificate_name: "new".into(),
            ..Default::default()
        });
        rename.set_timeout(std::time::Duration::from_millis(50));
        server.client().set_server_certificate_name(rename).await.unwrap_err();
    }
    let mut get = tonic::Request::new(certkeep::grpc::pb::GetServerCertificateRequest {
        server_certificate_id: id,
        ..Default::default()
    });
    get.set_timeout(std::time::Duration::from_secs(2));
    server.client().get_server_certificate(get).await.unwrap();
    sql.batch_execute("rollback").await.unwrap();
    server.stop().await;
}

#[tokio::test]
async fn a_database_that_can_not_be_written_is_unavailable_and_serves_again_afterwards() {
    let server = TestServer::start().await;
    let sql = server.sql().await;
    let name: String = sql
        .query_one("select current_database()::text", &[])
        .await
        .unwrap()
        .get(0);
    let request = upload_of(&pki::self_signed(Key::P256, "a.example"));
    server
        .client()
        .upload_server_certificate(request.clone())
        .await
        .unwrap();
    let read_only = |on: bool| format!("alter database {name} set default_transaction_read_only = {on}");
    sql.batch_execute(&read_only(true)).await.unwrap();
    // The setting holds for new connections: end those that are there.
    let end = "select pg_terminate_backend(pid) from pg_stat_activity
               where datname = current_database() and pid <> pg_backend_pid() and backend_type = 'client backend'";
    sql.query(end, &[]).await.unwrap();
    // Until certkeep has seen them end.
    tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    let refused = server
        .client()
        .upload_server_certificate(request.clone())
        .await
        .unwrap_err();
    assert_eq!(
        (refused.code(), crate::bad_input::reason(&refused)),
        (tonic::Code::Unavailable, "DATABASE_UNAVAILABLE".into())
    );
    sql.batch_execute(&read_only(false)).await.unwrap();
    server.client().upload_server_certificate(request).await.unwrap();
    assert_eq!(server.rows().await, [2, 2, 0, 2]);
    server.stop().await;
}
