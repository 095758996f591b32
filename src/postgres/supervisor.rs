//! The supervisor: keeps Postgres running while certkeep runs.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::READY_WITHIN;
use super::instance::{Instance, NotReady};
use super::postmaster::{Ended, Postmaster};

/// The pause before the first restart. Each further restart doubles the pause up to the maximum. The maximum lets the service
/// resume within five seconds after the cause is gone, for example a full disk.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A server that ran for this long did not fail at its start: the next pause is the minimum again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Interval between two checks of the log's size.
const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The request to stop. If the owner drops its end without this request, Postgres keeps running.
#[derive(Debug)]
pub struct Stop;

/// Watches `postmaster`, restarts Postgres after every exit, and stops it on request. It never gives up by itself: a full disk may
/// have space again later.
pub async fn supervise(instance: Instance, postmaster: Postmaster, stop: oneshot::Receiver<Stop>) {
    let mut last = Some(postmaster);
    let stopped = tokio::select! {
        stopped = stop => stopped,
        never = keep_running(&instance, &mut last) => match never {},
        never = bound_log(&instance) => match never {},
    };
    if stopped.is_err() {
        return;
    }
    if let Some(postmaster) = last {
        postmaster.stop().await;
    }
    if let Err(error) = instance.socket_dir.remove() {
        tracing::warn!(%error, "removing the socket directory of Postgres failed");
    }
}

async fn keep_running(instance: &Instance, last: &mut Option<Postmaster>) -> std::convert::Infallible {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        if let Some(postmaster) = last {
            let ended = watch(instance, postmaster).await;
            tracing::error!(%ended, log = %instance.log.path().display(), "Postgres exited; restarting it");
        }
        *last = None;
        if began.elapsed() >= STABLE_AFTER {
            pause = PAUSE_MIN;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        match instance.launch() {
            Ok(postmaster) => *last = Some(postmaster),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, source, "starting Postgres failed");
            }
        }
    }
}

/// Waits until a server is ready, and then until its exit.
async fn watch(instance: &Instance, postmaster: &mut Postmaster) -> Ended {
    match instance.ready(postmaster, Instant::now() + READY_WITHIN).await {
        Ok(()) => tracing::info!("Postgres is ready"),
        Err(NotReady::Ended(ended)) => return ended,
        Err(NotReady::Slow) => tracing::warn!(seconds = READY_WITHIN.as_secs(), "Postgres is not ready yet"),
        Err(NotReady::Unreachable) => tracing::error!("Postgres does not answer on its socket"),
    }
    postmaster.ended().await
}

async fn bound_log(instance: &Instance) -> std::convert::Infallible {
    let mut ticks = interval(LOG_CHECK_INTERVAL);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = instance.log.bound() {
            tracing::warn!(%error, "truncating the log of Postgres failed");
        }
    }
}
