//! The supervisor: keeps Postgres running while certkeep runs.

use std::fs::File;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

use super::READY_WITHIN;
use super::instance::{Instance, NotReady};
use super::leftover;
use super::postmaster::{Ended, FAST_TIMEOUT, Postmaster};

/// The pause before the first restart. Each further restart doubles the pause up to the maximum. The maximum lets the service
/// resume within five seconds after the cause is gone, for example a full disk.
const PAUSE_MIN: Duration = Duration::from_millis(100);
const PAUSE_MAX: Duration = Duration::from_secs(3);

/// A server that ran for this long did not fail at its start: the next pause is the minimum again.
const STABLE_AFTER: Duration = Duration::from_secs(60);

/// Interval between two checks of the log's size.
const LOG_CHECK_INTERVAL: Duration = Duration::from_secs(60);

/// The file descriptors that a restart needs: for Postgres's log and standard streams, a pipe, the files of `access.rs`.
const LAUNCH_FILES: usize = 16;
/// The file descriptors that the search for processes of a killed Postgres needs.
const SEARCH_FILES: usize = 8;

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
    match last {
        Some(postmaster) => instance.stop(postmaster).await,
        None => instance.remove_socket_dir(),
    }
}

async fn keep_running(instance: &Instance, last: &mut Option<Postmaster>) -> std::convert::Infallible {
    let mut pause = PAUSE_MIN;
    // Callers may take all other descriptors of this process. Until Postgres runs again, none of them gets an answer.
    let mut reserved = Vec::new();
    loop {
        let began = Instant::now();
        if let Some(postmaster) = last {
            let ended = watch(instance, postmaster, &mut reserved).await;
            tracing::error!(%ended, log = %instance.log.path().display(), "Postgres exited; restarting it");
        }
        *last = None;
        if began.elapsed() >= STABLE_AFTER {
            pause = PAUSE_MIN;
        }
        sleep(pause).await;
        pause = (pause * 2).min(PAUSE_MAX);
        reserved.truncate(LAUNCH_FILES);
        leftover::end(instance.cluster.path()).await;
        reserved.clear();
        match instance.launch() {
            Ok(postmaster) => *last = Some(postmaster),
            Err(error) => {
                reserved = reserve();
                let source = std::error::Error::source(&error).map(ToString::to_string);
                tracing::error!(%error, source, "starting Postgres failed");
            }
        }
    }
}

/// Waits until a server is ready, reserves the descriptors for its restart, and waits until its exit. Stops a server that nobody can
/// use any more.
async fn watch(instance: &Instance, postmaster: &mut Postmaster, reserved: &mut Vec<File>) -> Ended {
    loop {
        let failing = match instance.ready(postmaster, Instant::now() + READY_WITHIN).await {
            Ok(()) => {
                tracing::info!("Postgres is ready");
                *reserved = reserve();
                let pid = postmaster.pid();
                tokio::select! {
                    ended = postmaster.ended() => return ended,
                    failing = instance.failing(pid) => failing,
                }
            }
            Err(failing) => failing,
        };
        match failing {
            NotReady::Ended(ended) => return ended,
            NotReady::Slow => tracing::warn!(seconds = READY_WITHIN.as_secs(), "Postgres is not ready yet"),
            NotReady::Stopping => postmaster.end_within(FAST_TIMEOUT).await,
            NotReady::Unreachable => {
                tracing::error!("the socket of Postgres is lost; restarting Postgres");
                postmaster.stop().await;
            }
        }
    }
}

/// Open files that keep descriptors for a restart.
fn reserve() -> Vec<File> {
    (0..LAUNCH_FILES + SEARCH_FILES)
        .map_while(|_| File::open("/dev/null").ok())
        .collect()
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
