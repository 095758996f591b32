//! Several replicas on one database.

use std::time::Duration;

use crate::harness::TestServer;
use crate::load::Load;
use crate::process::Certkeep;

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_loses_no_upload_and_does_not_disturb_the_other_replica() {
    let server = TestServer::start().await;
    let replica = Certkeep::start_replica(&server);
    let load = Load::start(&server.client());
    let load_of_replica = Load::start(&replica.client_with_key(server.admin_key()));
    tokio::time::sleep(Duration::from_millis(1500)).await;
    replica.kill();
    tokio::time::sleep(Duration::from_secs(1)).await;
    let (outcome, of_replica) = (load.stop().await, load_of_replica.stop().await);
    outcome.refused_only_as(&[]);
    of_replica.refused_only_as(&[""]);
    assert!(!of_replica.refused.is_empty(), "it was killed under load");
    for outcome in [outcome, of_replica] {
        outcome.is_whole(server.client(), server.database()).await;
    }
    server.stop().await;
}
