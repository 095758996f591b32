//! The jobs in the background. Each runs until it is dropped.

use std::time::{Duration, Instant};

use super::health::{Health, State};
use crate::app::{App, DueUses, Error, RotationProgress};
use crate::clock;
use crate::store::{Access, Store};
use crate::telemetry::rankings::{self, Ending, QuotaUse};
use crate::telemetry::{causes, metrics};

const PROBE_PAUSE: Duration = Duration::from_secs(1);
/// A database that answers later than this counts as down.
const PROBE_TIME: Duration = Duration::from_secs(3);
/// So many failed probes in a row make the service unready. One slow answer is no reason to send callers elsewhere.
const MAX_FAILED_PROBES: u32 = 2;
const COUNT_PAUSE: Duration = Duration::from_secs(300);
/// How many quotas that are nearly full the metrics list.
const LISTED_QUOTAS: u32 = 10;
const SEAL_PAUSE: Duration = Duration::from_secs(1);
const KEY_USE_PAUSE: Duration = Duration::from_secs(2);
const MAINTENANCE_PAUSE: Duration = Duration::from_secs(300);
const HEARTBEAT_PAUSE: Duration = Duration::from_secs(10);
/// The pause between two walks for compromised keys, and the pause between looks whether the lists have changed.
const COMPROMISED_PAUSE: Duration = Duration::from_secs(24 * 60 * 60);
const LOOK_PAUSE: Duration = Duration::from_secs(1);
const ROTATION_PAUSE: Duration = Duration::from_secs(1);

/// Reports whether Postgres accepts reads and writes.
pub(super) async fn watch_database(store: Store, health: Health) {
    let (mut failed, mut unanswered) = (0, 0);
    loop {
        metrics::upkeep();
        metrics::database_connections(store.connections());
        let [uploads, lookups, deliveries] = store.queue_lengths();
        metrics::queue_length("uploads", uploads);
        metrics::queue_length("lookups", lookups);
        metrics::queue_length("deliveries", deliveries);
        let (seen, cause) = match tokio::time::timeout(PROBE_TIME, store.access()).await {
            Ok(Ok(Access::ReadsAndWrites)) => (State::Serving, String::new()),
            Ok(Ok(Access::Reads)) => (
                State::ReadOnly,
                "it is a standby, read-only, or refused a change".to_owned(),
            ),
            Ok(Err(error)) => (State::DatabaseDown, causes(&error)),
            Err(_) => (
                State::DatabaseDown,
                format!("no answer within {} s", PROBE_TIME.as_secs()),
            ),
        };
        failed = if seen == State::Serving { 0 } else { failed + 1 };
        unanswered = if seen == State::DatabaseDown { unanswered + 1 } else { 0 };
        let state = match seen {
            _ if failed < MAX_FAILED_PROBES => State::Serving,
            State::DatabaseDown if unanswered < MAX_FAILED_PROBES => health.state(),
            seen => seen,
        };
        metrics::database_up(state == State::Serving);
        if health.state() != state {
            health.set(state).await;
            match state {
                State::ReadOnly => tracing::error!(cause, "the database accepts reads only"),
                State::DatabaseDown => tracing::error!(cause, "the database does not answer"),
                _ => tracing::info!("the database accepts reads and writes"),
            }
        }
        tokio::time::sleep(PROBE_PAUSE).await;
    }
}

/// Counts the certificates by the time left until they expire, and finds `named` certificates that expire next and the fullest quotas.
pub(super) async fn count_certificates(app: App, named: u32) {
    exists("count");
    loop {
        let counted = async {
            count(&app).await?;
            count_compromised(&app).await?;
            rank_certificates(&app, named).await?;
            rank_quotas(&app).await
        };
        report("count", counted.await);
        tokio::time::sleep(COUNT_PAUSE).await;
    }
}

async fn count(app: &App) -> Result<(), Error> {
    for left in app.time_left().await? {
        let set = |expires_in, count| metrics::certificates(left.kind.as_str(), expires_in, count);
        set("expired", left.expired);
        set("7d", left.week);
        set("30d", left.month);
        set("90d", left.quarter);
        set("later", left.later);
    }
    Ok(())
}

async fn rank_certificates(app: &App, named: u32) -> Result<(), Error> {
    if named == 0 {
        return Ok(());
    }
    let endings = app.expiring_next(named).await?.into_iter().map(|certificate| Ending {
        kind: certificate.kind.as_str(),
        account: certificate.id.account.to_string(),
        region: certificate.region.to_string(),
        id: certificate.id.to_string(),
        name: certificate.name,
        ends_with: if certificate.is_ended_by_issuer {
            "issuer"
        } else {
            "leaf"
        },
        secs: certificate.ends.millis() / 1000,
    });
    rankings::set_endings(endings.collect());
    Ok(())
}

async fn rank_quotas(app: &App) -> Result<(), Error> {
    let quotas = app
        .nearly_full_quotas(LISTED_QUOTAS)
        .await?
        .into_iter()
        .map(|quota| QuotaUse {
            kind: quota.kind.as_str(),
            account: quota.account.to_string(),
            region: quota.region.map(|region| region.to_string()).unwrap_or_default(),
            ratio: quota.used as f64 / quota.maximum.max(1) as f64,
        });
    rankings::set_quotas(quotas.collect());
    Ok(())
}

/// Notes the certificates with a compromised key: after the start, after each change of the operator's lists, and once a day. Half of the time
/// is left to calls.
pub(super) async fn find_compromised(app: App) {
    exists("compromised");
    loop {
        let mut walk = app.walk_compromised();
        loop {
            let began = Instant::now();
            let step = walk.step().await;
            let pause = match step {
                Ok(true) => began.elapsed(),
                Ok(false) => break,
                Err(_) => HEARTBEAT_PAUSE,
            };
            report("compromised", step.map(|_| ()));
            if walk.is_outdated() {
                break;
            }
            tokio::time::sleep(pause).await;
        }
        report("compromised", count_compromised(&app).await);
        let ended = Instant::now();
        while ended.elapsed() < COMPROMISED_PAUSE && !walk.is_outdated() {
            tokio::time::sleep(LOOK_PAUSE).await;
        }
    }
}

async fn count_compromised(app: &App) -> Result<(), Error> {
    metrics::compromised_certificates(app.count_compromised().await?);
    Ok(())
}

/// Purges what is older than its retention.
pub(super) async fn run_maintenance(app: App) {
    exists("purge");
    let mut maintenance = app.maintenance();
    loop {
        report("purge", maintenance.run().await);
        tokio::time::sleep(MAINTENANCE_PAUSE).await;
    }
}

/// Tells the database that this replica is alive, and learns which key seals.
pub(super) async fn tell_replica(app: App) {
    exists("replica");
    loop {
        report("replica", app.heartbeat().await);
        tokio::time::sleep(HEARTBEAT_PAUSE).await;
    }
}

/// Does the steps of a rotation of the key ring, with pauses that leave half of the time to calls.
pub(super) async fn rotate_key_ring(app: App) {
    exists("rotate");
    let mut continues = false;
    loop {
        let began = Instant::now();
        let progress = app.rotate_step(continues).await;
        continues = matches!(progress, Ok(RotationProgress::Moved));
        let pause = match progress {
            Ok(RotationProgress::Moved) => began.elapsed(),
            Ok(RotationProgress::None | RotationProgress::Waiting) => ROTATION_PAUSE,
            Err(_) => HEARTBEAT_PAUSE,
        };
        report("rotate", progress.map(|_| ()));
        tokio::time::sleep(pause).await;
    }
}

/// Seals the new events of the audit trails.
pub(super) async fn seal_audit_trails(app: App) {
    exists("seal");
    let mut sealer = app.sealer();
    loop {
        report("seal", sealer.run().await);
        tokio::time::sleep(SEAL_PAUSE).await;
    }
}

/// Records the last use of access keys.
pub(super) async fn record_key_uses(app: App) {
    exists("key_use");
    loop {
        tokio::time::sleep(KEY_USE_PAUSE).await;
        report("key_use", app.record_key_uses(DueUses::Old).await);
    }
}

fn exists(job: &'static str) {
    metrics::job_exists(job, clock::now().millis() / 1000);
}

fn report(job: &'static str, outcome: Result<(), Error>) {
    match outcome {
        Ok(()) => metrics::job_succeeded(job, clock::now().millis() / 1000),
        Err(error) => {
            metrics::job_failed(job);
            tracing::error!(job, cause = causes(&error), "a job failed");
        }
    }
}
