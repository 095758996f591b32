//! The supervisor: while certkeep runs, so does its Postgres.

use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::READY_WITHIN;
use super::instance::{Instance, NotReady};
use super::postmaster::{Ended, Postmaster};

/// The pause before the first new start. Each further one doubles it, up to one that still lets the service resume within
/// five seconds of the end of what was in the way, as of a full disk's.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A server that ran for so long did not fail at its start: the next pause is the first again.
const SOUND_AFTER: Duration = Duration::from_secs(60);

/// How often the size of the log is looked at.
const BOUND_LOG_EVERY: Duration = Duration::from_secs(60);

/// What the owner of a supervisor may ask for. An owner that goes away without a word leaves Postgres running.
#[derive(Debug)]
pub struct Stop;

/// Watches `postmaster`, starts another whenever it ends, and stops the last one when it is asked to. It never gives
/// up by itself: the disk may have room again.
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
        tracing::warn!(%error, "the socket directory of Postgres stays");
    }
}

async fn keep_running(instance: &Instance, last: &mut Option<Postmaster>) -> std::convert::Infallible {
    let mut pause = PAUSE_MIN;
    loop {
        let began = Instant::now();
        if let Some(postmaster) = last {
            let ended = watch(instance, postmaster).await;
            tracing::error!(%ended, log = %instance.log.path().display(), "Postgres ended, it is started again");
        }
        *last = None;
        if began.elapsed() >= SOUND_AFTER {
            pause = PAUSE_MIN;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        match instance.launch() {
            Ok(postmaster) => *last = Some(postmaster),
            Err(error) => {
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, source, "Postgres could not be started");
            }
        }
    }
}

/// Sees a server through its life.
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
    let mut ticks = interval(BOUND_LOG_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        if let Err(error) = instance.log.bound() {
            tracing::warn!(%error, "the log of Postgres could not be shortened");
        }
    }
}
