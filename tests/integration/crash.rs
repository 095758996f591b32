//! kill -9 under load: what was acknowledged is whole, and nothing half-written exists.

use std::time::Duration;

use crate::load::{Load, resumes_within};
use crate::process::{Certkeep, DataDir};

#[tokio::test(flavor = "multi_thread")]
async fn certkeep_killed_under_load_loses_nothing_and_takes_its_postgres_over_again() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let load = Load::start(&server.client(&data_dir));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let postmaster = data_dir.postmaster_pid();
    server.kill();
    let outcome = load.stop().await;

    let server = Certkeep::start(&data_dir);
    assert_eq!(data_dir.postmaster_pid(), postmaster, "the same Postgres goes on");
    outcome
        .is_whole(server.client(&data_dir), &data_dir.connection_string())
        .await;
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_under_load_is_started_again_and_nothing_is_lost() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let client = server.client(&data_dir);
    let load = Load::start(&client);
    tokio::time::sleep(Duration::from_millis(1500)).await;
    let database = data_dir.connection_string();
    let killed = data_dir.kill_postmaster();
    data_dir.until_postgres_is_back(killed, &database).await;
    resumes_within(&client, Duration::from_secs(5)).await;
    tokio::time::sleep(Duration::from_millis(500)).await;
    let outcome = load.stop().await;
    outcome.is_whole(client, &data_dir.connection_string()).await;
    server.terminate();
}
