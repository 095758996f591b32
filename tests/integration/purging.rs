//! The job that purges, beside uploads and with a clock of Postgres that jumps.

use std::time::{Duration, Instant};

use certkeep::app::{App, Settings};
use certkeep::store::Store;

use crate::calls::{ANY, delete, stored};
use crate::harness::{TestServer, key_ring, until, upload_of};
use crate::load::Load;
use crate::pki::{self, Key};
use crate::proof::{figure, times};

const DAY: Duration = Duration::from_secs(24 * 60 * 60);

async fn number(sql: &tokio_postgres::Client, query: &str) -> i64 {
    sql.query_one(query, &[]).await.unwrap().get(0)
}

const DELETED: &str = "select count(*) from certificate where deleted_at is not null";

/// Functions that hide Postgres's own shift its clock for certkeep's statements.
#[tokio::test]
async fn a_clock_of_postgres_that_is_days_ahead_for_seconds_purges_nothing() {
    const WAIT: Duration = Duration::from_secs(2);
    let server = TestServer::start().await;
    let (client, sql) = (server.client(), server.sql().await);
    for name in ["a.example", "b.example", "c.example"] {
        let id = stored(&client, &upload_of(&pki::self_signed(Key::P256, name))).await;
        delete(&client, &id, ANY).await.unwrap();
    }
    let database: String = sql
        .query_one("select current_database()::text", &[])
        .await
        .unwrap()
        .get(0);
    sql.batch_execute(&format!(
        "create table clock (ahead interval not null);
         insert into clock values ('0');
         create function public.now() returns timestamptz language sql stable
           as $$ select pg_catalog.now() + ahead from public.clock $$;
         create function public.clock_timestamp() returns timestamptz language sql volatile
           as $$ select pg_catalog.clock_timestamp() + ahead from public.clock $$;
         alter database {database} set search_path = public, pg_catalog"
    ))
    .await
    .unwrap();
    let set_ahead = async |ahead: &str| {
        let set = format!("update clock set ahead = '{ahead}'");
        sql.batch_execute(&set).await.unwrap();
    };
    let store = Store::new(&certkeep::store::Settings {
        connection_string: server.database().to_owned(),
        owner_connection_string: None,
        danger_unverified_database: false,
        max_connections: 2,
        timeline_file: None,
    })
    .unwrap();
    let settings = Settings {
        purge_wait: WAIT,
        retention: 7 * DAY,
        ..Settings::default()
    };
    let ring = key_ring(&server.key_ring_file()).await;
    let app = App::open(store.clone(), ring, settings, "purging").await.unwrap();
    let mut maintenance = app.maintenance();
    maintenance.run().await.unwrap();
    tokio::time::sleep(WAIT).await;
    for ahead in ["8 days", "0", "-8 days", "0"] {
        set_ahead(ahead).await;
        if ahead == "8 days" {
            let difference = store.time().await.unwrap().millis() - certkeep::clock::now().millis();
            assert!(difference > 7 * DAY.as_millis() as i64, "{difference}");
        }
        maintenance.run().await.unwrap();
        assert_eq!(number(&sql, DELETED).await, 3, "{ahead}");
    }
    // Their time is over.
    let over = "update certificate set deleted_at = deleted_at - interval '8 days' where deleted_at is not null";
    assert_eq!(sql.execute(over, &[]).await.unwrap(), 3);
    // The lowest time of the last two seconds is that of the clock 8 days behind.
    maintenance.run().await.unwrap();
    assert_eq!(number(&sql, DELETED).await, 3);
    tokio::time::sleep(WAIT).await;
    maintenance.run().await.unwrap();
    tokio::time::sleep(WAIT).await;
    maintenance.run().await.unwrap();
    assert_eq!(number(&sql, DELETED).await, 0);
    app.leave().await;
    store.close();
    server.stop().await;
}

/// Uploads acknowledged per second.
async fn rate(load: &Load, time: Duration) -> f64 {
    let (before, began) = (load.acknowledged(), Instant::now());
    tokio::time::sleep(time).await;
    f64::from(load.acknowledged() - before) / began.elapsed().as_secs_f64()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_purge_of_many_certificates_leaves_time_to_uploads_of_the_same_account() {
    let (due, time) = (times(3000, 100_000), Duration::from_secs(times(2, 20) as u64));
    let server = TestServer::start().await;
    let (client, sql) = (server.client(), server.sql().await);
    let id = stored(&client, &upload_of(&pki::issued(Key::Rsa(2048), "due.example"))).await;
    delete(&client, &id, ANY).await.unwrap();
    sql.batch_execute(&format!(
        "begin;
         insert into private_key (account_id, created_ms, random, key_id, sealed)
         select k.account_id, n, n, k.key_id, k.sealed
         from private_key k join certificate using (account_id, created_ms, random, key_id), generate_series(1, {due}) as n;
         insert into certificate
         select row.* from certificate c, generate_series(1, {due}) as n, jsonb_populate_record(c, jsonb_build_object(
           'created_ms', n, 'random', n, 'name', 'n' || n, 'deleted_at', now() - interval '8 days' - n * interval '1 second')) as row;
         insert into searchable_name (account_id, searchable_name, created_ms, random)
         select account_id, unnest(searchable_names), created_ms, random from certificate where created_ms <= {due};
         update certificate_count set deleted = deleted + {due};
         commit;
         analyze"
    ))
    .await
    .unwrap();
    let load = Load::start(&client);
    load.acknowledges(50).await;
    let alone = rate(&load, time).await;
    let replica = server.replica(|_| {}).await;
    let purged = "select count(*) from event where kind = 'purged'";
    until(async || number(&sql, purged).await > 0).await;
    let before = number(&sql, purged).await;
    let beside = rate(&load, time).await;
    let removed = number(&sql, purged).await - before;
    let still_due = number(
        &sql,
        "select count(*) from certificate where deleted_at < now() - interval '7 days'",
    )
    .await;
    load.stop().await;
    assert!(removed > 0, "nothing was purged");
    let ratio = beside / alone;
    assert!(
        ratio > 0.2,
        "{beside} uploads per second beside a purge, and {alone} alone"
    );
    figure("certificates that were due", due);
    figure("certificates purged per second", removed as u64 / time.as_secs());
    figure("certificates still due at the end of the measurement", still_due);
    figure("uploads per second without a purge", format!("{alone:.0}"));
    figure("uploads per second beside a purge", format!("{beside:.0}"));
    figure("ratio", format!("{ratio:.2}"));
    replica.stop().await;
    server.stop().await;
}
