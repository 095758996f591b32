//! Records denied calls of known callers in the audit trail, after their answers.

use std::collections::HashMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::{App, RequestId};
use crate::account::AccountId;
use crate::store::{Denial, Store};
use crate::telemetry::{causes, metrics};

/// The denials that wait to be written. Further denials are dropped and counted.
const QUEUE: usize = 1024;
/// The denials of a statement.
const BATCH: usize = 100;
/// In each window, so many denials of a principal for one reason have their own event. The others share one.
const OWN_EVENTS: u32 = 10;
const WINDOW: Duration = Duration::from_secs(60);
const TICK: Duration = Duration::from_secs(1);

/// A denied call of a known caller.
#[derive(Clone, Debug)]
pub struct DeniedCall {
    /// The account of the caller. `None`: the account of the access key that is the principal.
    pub account: Option<AccountId>,
    /// The caller.
    pub principal: String,
    /// The address of the caller.
    pub address: IpAddr,
    /// The request.
    pub request_id: RequestId,
    /// The method.
    pub method: String,
    /// The reason that the caller is told, such as `PERMISSION_DENIED`.
    pub reason: &'static str,
}

/// The queue of denials, and the task that writes them.
pub(super) struct Denials {
    queue: mpsc::Sender<Denial>,
    closing: CancellationToken,
    writing: TaskTracker,
}

impl Denials {
    pub(super) fn start(store: Store) -> Self {
        let (queue, received) = mpsc::channel(QUEUE);
        let closing = CancellationToken::new();
        let writing = TaskTracker::new();
        let writer = Writer {
            store,
            windows: HashMap::new(),
        };
        writing.spawn(writer.run(received, closing.clone()));
        Self {
            queue,
            closing,
            writing,
        }
    }

    /// Writes everything that is in the queue.
    pub(super) async fn finish(&self) {
        self.closing.cancel();
        self.writing.close();
        self.writing.wait().await;
    }
}

impl App {
    /// Queues a denied call for the audit trail.
    pub fn record_denial(&self, denied: DeniedCall) {
        let denial = Denial {
            account: denied.account,
            principal: denied.principal,
            address: denied.address,
            request_id: denied.request_id.0,
            method: denied.method,
            reason: denied.reason,
            count: 1,
        };
        if self.0.denials.queue.try_send(denial).is_err() {
            metrics::audit_denials_dropped(1);
        }
    }
}

struct Writer {
    store: Store,
    /// By principal and reason.
    windows: HashMap<(String, &'static str), Window>,
}

struct Window {
    began: Instant,
    own_events: u32,
    /// The last of the denials without an event of their own, with their number.
    shared: Option<Denial>,
}

impl Writer {
    async fn run(mut self, mut received: mpsc::Receiver<Denial>, closing: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        let mut batch = Vec::new();
        loop {
            tokio::select! {
                count = received.recv_many(&mut batch, BATCH) => {
                    if count == 0 {
                        break;
                    }
                    let now = Instant::now();
                    let due: Vec<_> = batch.drain(..).filter_map(|denial| self.own_event(denial, now)).collect();
                    self.write(due).await;
                }
                _ = tick.tick() => {
                    let due = self.end_windows(|window| window.began.elapsed() >= WINDOW);
                    self.write(due).await;
                }
                // What is in the queue is still received.
                () = closing.cancelled(), if !received.is_closed() => received.close(),
            }
        }
        let due = self.end_windows(|_| true);
        self.write(due).await;
    }

    /// The denial, if it gets an event of its own.
    fn own_event(&mut self, denial: Denial, now: Instant) -> Option<Denial> {
        let window = self.windows.entry((denial.principal.clone(), denial.reason));
        let window = window.or_insert(Window {
            began: now,
            own_events: 0,
            shared: None,
        });
        if window.own_events < OWN_EVENTS {
            window.own_events += 1;
            return Some(denial);
        }
        let count = window.shared.as_ref().map_or(0, |shared| shared.count) + 1;
        window.shared = Some(Denial { count, ..denial });
        None
    }

    /// Ends windows. Returns their shared events.
    fn end_windows(&mut self, has_ended: impl Fn(&Window) -> bool) -> Vec<Denial> {
        let mut shared = Vec::new();
        self.windows.retain(|_, window| {
            let ends = has_ended(window);
            if ends {
                shared.extend(window.shared.take());
            }
            !ends
        });
        shared
    }

    async fn write(&self, denials: Vec<Denial>) {
        for denials in denials.chunks(BATCH) {
            if let Err(error) = self.store.record_denials_of_all_accounts(denials).await {
                let count = denials.iter().map(|denial| denial.count.cast_unsigned()).sum();
                metrics::audit_denials_dropped(count);
                tracing::error!(
                    count,
                    cause = causes(&error),
                    "denied calls are missing in the audit trail"
                );
            }
        }
    }
}
