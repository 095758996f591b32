//! Several replicas on one database.

use crate::harness::TestServer;
use crate::load::Load;
use crate::process::Certkeep;
use crate::proof::{figure, times};

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_replica_loses_no_upload_and_does_not_disturb_the_other_replica() {
    let server = TestServer::start().await;
    let kills = times(1, 20);
    let mut outcomes = Vec::new();
    for _ in 0..kills {
        let replica = Certkeep::start_replica(&server);
        let load = Load::start(&server.client());
        let load_of_replica = Load::start(&replica.client_with_key(server.admin_key()));
        tokio::join!(load.acknowledges(50), load_of_replica.acknowledges(50));
        replica.kill();
        load.acknowledges(50).await;
        let (outcome, of_replica) = (load.stop().await, load_of_replica.stop().await);
        outcome.refused_only_as(&[]);
        of_replica.refused_only_as(&[""]);
        assert!(!of_replica.refused.is_empty(), "it was killed under load");
        outcomes.extend([outcome, of_replica]);
    }
    for outcome in &outcomes {
        outcome.is_whole(server.client(), server.database()).await;
    }
    let acknowledged: usize = outcomes.iter().map(|outcome| outcome.acknowledged.len()).sum();
    figure("replicas killed", kills);
    figure("uploads acknowledged, none lost", acknowledged);
    server.stop().await;
}
