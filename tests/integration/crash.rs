//! certkeep and its PostgreSQL are killed under load. Everything acknowledged is there, and nothing is half-written.

use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};

use crate::load::{Load, resumes_within};
use crate::process::{CERTKEEP, Certkeep, DataDir, children};
use crate::proof::{figure, times};

#[tokio::test(flavor = "multi_thread")]
async fn certkeep_killed_under_load_loses_nothing_and_takes_its_postgres_over_again() {
    let data_dir = DataDir::new();
    let kills = times(1, 50);
    let (mut outcomes, mut longest_start) = (Vec::new(), Duration::ZERO);
    let mut server = Certkeep::start(&data_dir);
    for _ in 0..kills {
        let load = Load::start(&server.client(&data_dir));
        load.acknowledges(100).await;
        let postmaster = data_dir.postmaster_pid();
        server.kill();
        outcomes.push(load.stop().await);

        let began = Instant::now();
        server = Certkeep::start(&data_dir);
        longest_start = longest_start.max(began.elapsed());
        assert_eq!(data_dir.postmaster_pid(), postmaster, "the same Postgres goes on");
    }
    let database = data_dir.connection_string();
    for outcome in &outcomes {
        outcome.is_whole(server.client(&data_dir), &database).await;
    }
    let acknowledged: usize = outcomes.iter().map(|outcome| outcome.acknowledged.len()).sum();
    figure("certkeep killed", kills);
    figure("uploads acknowledged, none lost", acknowledged);
    figure("longest start after a kill, ms", longest_start.as_millis());
    server.terminate();
}

#[tokio::test(flavor = "multi_thread")]
async fn postgres_killed_under_load_is_started_again_and_nothing_is_lost() {
    let data_dir = DataDir::new();
    let server = Certkeep::start(&data_dir);
    let client = server.client(&data_dir);
    let load = Load::start(&client);
    let (kills, mut longest_outage) = (times(1, 30), Duration::ZERO);
    for _ in 0..kills {
        load.acknowledges(100).await;
        let database = data_dir.connection_string();
        let began = Instant::now();
        let killed = data_dir.kill_postmaster();
        data_dir.until_postgres_is_back(killed, &database).await;
        resumes_within(&client, Duration::from_secs(5)).await;
        longest_outage = longest_outage.max(began.elapsed());
    }
    load.acknowledges(50).await;
    let outcome = load.stop().await;
    outcome.is_whole(client, &data_dir.connection_string()).await;
    figure("PostgreSQL killed", kills);
    figure("uploads acknowledged, none lost", outcome.acknowledged.len());
    figure("longest outage, ms", longest_outage.as_millis());
    server.terminate();
}

/// Up to this number.
fn random(up_to: usize) -> usize {
    usize::from(u16::from_le_bytes(certkeep::digest::random().unwrap())) % (up_to + 1)
}

/// Waits up to this time.
async fn moment(millis: usize) {
    tokio::time::sleep(Duration::from_millis(random(millis) as u64)).await;
}

/// certkeep dies together with its PostgreSQL, or with one process of it, so that the next start meets a recovery. Some starts are
/// killed too.
#[tokio::test(flavor = "multi_thread")]
async fn kills_at_random_moments_never_keep_certkeep_from_starting() {
    let data_dir = DataDir::new();
    let mut server = Certkeep::start(&data_dir);
    let (address, client) = (server.address, server.client(&data_dir));
    let load = Load::start(&client);
    load.acknowledges(30).await;
    let (kills, mut longest_start) = (times(4, 220), Duration::ZERO);
    for n in 0..kills {
        moment(300).await;
        let postmaster = data_dir.postmaster_pid().unwrap();
        let mut victims = children(postmaster);
        victims.push(postmaster);
        let victim = if n % 3 == 0 {
            postmaster
        } else {
            victims[random(victims.len() - 1)]
        };
        let kill_victim = || {
            // A process may have ended.
            let _ = kill_process(Pid::from_raw(victim).unwrap(), Signal::KILL);
        };
        if n % 2 == 0 {
            kill_victim();
            moment(100).await;
            server.kill();
        } else {
            server.kill();
            moment(100).await;
            kill_victim();
        }
        if n % 4 == 3 {
            let mut early = Command::new(CERTKEEP);
            early
                .args(["serve", "--listen", "127.0.0.1:0", "--data-dir"])
                .arg(data_dir.path());
            let mut early = early.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
            moment(1500).await;
            early.kill().unwrap();
            early.wait().unwrap();
        }
        let began = Instant::now();
        server = Certkeep::start_at(&data_dir, address);
        longest_start = longest_start.max(began.elapsed());
        resumes_within(&client, Duration::from_secs(20)).await;
    }
    let outcome = load.stop().await;
    outcome.is_whole(client, &data_dir.connection_string()).await;
    figure("certkeep and PostgreSQL killed at random moments", kills);
    figure("uploads acknowledged, none lost", outcome.acknowledged.len());
    figure("longest start, ms", longest_start.as_millis());
    server.terminate();
}
