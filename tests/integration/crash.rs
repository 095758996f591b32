//! kill -9 under load: what was acknowledged is whole, and nothing half-written exists.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use certkeep::grpc::pb;
use tokio::task::JoinSet;

use crate::harness::{Client, connect_to, rows, upload_of};
use crate::pki::{self, Key};
use crate::process::{Certkeep, DataDir};

/// Uploads over and over until told to stop; answers the ids that were acknowledged and how often a call failed.
fn load(client: &Client, stop: &Arc<AtomicBool>) -> JoinSet<(Vec<String>, u32)> {
    let pairs: Vec<_> = [Key::P256, Key::Rsa(2048)]
        .into_iter()
        .map(|key| pki::issued(key, "load.example"))
        .collect();
    let mut load = JoinSet::new();
    for n in 0..8 {
        let (mut client, request, stop) = (client.clone(), upload_of(&pairs[n % pairs.len()]), stop.clone());
        load.spawn(async move {
            let (mut acknowledged, mut failed) = (Vec::new(), 0);
            while !stop.load(Ordering::Relaxed) {
                let mut request = tonic::Request::new(request.clone());
                request.set_timeout(Duration::from_secs(20));
                match client.upload_server_certificate(request).await {
                    Ok(answer) => acknowledged.push(answer.into_inner().server_certificate_id),
                    Err(_) => {
                        failed += 1;
                        tokio::time::sleep(Duration::from_millis(50)).await;
                    }
                }
            }
            (acknowledged, failed)
        });
    }
    load
}

/// Each acknowledged certificate is there with its chain, and every row has its others.
async fn all_is_whole(mut client: Client, database: &str, acknowledged: &[String]) {
    assert!(
        acknowledged.len() > 20,
        "the load was no load: {} uploads",
        acknowledged.len()
    );
    for id in acknowledged {
        let get = pb::GetServerCertificateRequest {
            server_certificate_id: id.clone(),
            ..Default::default()
        };
        let certificate = client
            .get_server_certificate(get)
            .await
            .unwrap()
            .into_inner()
            .server_certificate
            .unwrap();
        assert_eq!(certificate.certificate_chain.matches("BEGIN CERTIFICATE").count(), 2);
    }
    let sql = connect_to(database).await;
    let [certificates, keys, _, events] = rows(&sql).await;
    assert!(certificates >= acknowledged.len() as i64);
    assert_eq!((keys, events), (certificates, certificates));
    let lone = "select count(*) from server_certificate c full join private_key k using (account_id, created_ms, random, key_id)
                where c.account_id is null or k.account_id is null or octet_length(k.sealed) < 100";
    assert_eq!(sql.query_one(lone, &[]).await.unwrap().get::<_, i64>(0), 0);
}

async fn acknowledged(load: JoinSet<(Vec<String>, u32)>) -> (Vec<String>, u32) {
    load.join_all()
        .await
        .into_iter()
        .fold((Vec::new(), 0), |(mut all, failures), (ids, failed)| {
            all.extend(ids);
            (all, failures + failed)
        })
}

#[tokio::test(flavor = "multi_thread")]
async fn certkeep_killed_under_load_loses_nothing_and_takes_its_postgres_over_again() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(&server.client(&data_dir), &stop);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let postmaster = data_dir.postmaster_pid();
    server.kill();
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, _) = acknowledged(load).await;

    let server = Certkeep::start(&data_dir);
    assert_eq!(data_dir.postmaster_pid(), postmaster, "the same Postgres goes on");
    all_is_whole(server.client(&data_dir), &data_dir.connection_string(), &acknowledged).await;
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_under_load_is_started_again_and_nothing_is_lost() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let client = server.client(&data_dir);
    let stop = Arc::new(AtomicBool::new(false));
    let load = load(&client, &stop);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    data_dir.kill_postmaster();

    // Uploads are answered again within seconds.
    let killed = Instant::now();
    let again = upload_of(&pki::self_signed(Key::P256, "again.example"));
    while client.clone().upload_server_certificate(again.clone()).await.is_err() {
        assert!(killed.elapsed() < Duration::from_secs(20), "the service did not resume");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    tokio::time::sleep(Duration::from_millis(500)).await;
    stop.store(true, Ordering::Relaxed);
    let (acknowledged, _) = acknowledged(load).await;
    all_is_whole(client, &data_dir.connection_string(), &acknowledged).await;
    server.terminate();
}
