//! The callers of open streams, looked up once a second: one look-up for all streams of a caller.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{App, Call, Caller, ClientCertificate, Error};
use crate::certificate::Sha256Fingerprint;

/// A refused caller loses its streams within two seconds.
const INTERVAL: Duration = Duration::from_secs(1);
/// The streams stay open while so many look-ups one after the other find the database busy. Otherwise all of them would call again at once.
const MAX_BUSY: u32 = 2;

/// The look-ups that run.
#[derive(Default)]
pub(in crate::app) struct StreamChecks(Mutex<HashMap<Checked, Weak<Check>>>);

/// The id of the principal, and the client certificate of the connection.
type Checked = (String, Option<Sha256Fingerprint>);

struct Check {
    /// The caller of the stream that was opened first.
    caller: Caller,
    ended: CancellationToken,
    /// Why the caller was refused. Empty: the caller could not be looked up.
    refusal: OnceLock<Arc<Error>>,
}

/// The look-ups of the caller of a stream. They end when this is dropped.
#[derive(Clone)]
pub(in crate::app) struct StreamCheck(Arc<Check>);

impl StreamCheck {
    /// Looks the caller of this call up, on a connection with this client certificate.
    pub(in crate::app) fn start(app: &App, call: &Call, certificate: Option<ClientCertificate>) -> Self {
        let caller = call.caller.clone();
        let fingerprint = certificate.as_ref().map(|certificate| certificate.fingerprint);
        let checked = (caller.principal.id().to_owned(), fingerprint);
        let mut checks = app.0.stream_checks.checks();
        if let Some(running) = checks.get(&checked).and_then(Weak::upgrade)
            && !running.ended.is_cancelled()
            && running.is_of(&caller)
        {
            return Self(running);
        }
        let new = Arc::new(Check {
            caller: caller.clone(),
            ended: CancellationToken::new(),
            refusal: OnceLock::new(),
        });
        checks.retain(|_, check| check.strong_count() > 0);
        checks.insert(checked, Arc::downgrade(&new));
        tokio::spawn(look_up(app.clone(), caller, certificate, Arc::downgrade(&new)));
        Self(new)
    }

    /// Completes when the caller may no longer call, with the reason. `None`: the caller could not be looked up.
    pub(in crate::app) async fn refused(&self) -> Option<Arc<Error>> {
        self.0.ended.cancelled().await;
        self.0.refusal.get().cloned()
    }
}

impl Check {
    /// Whether this caller may do the same. The role and the scope of a client identity can change between two streams.
    fn is_of(&self, caller: &Caller) -> bool {
        (self.caller.account, self.caller.role, &self.caller.scope) == (caller.account, caller.role, &caller.scope)
    }
}

async fn look_up(app: App, caller: Caller, certificate: Option<ClientCertificate>, check: Weak<Check>) {
    let mut busy = 0;
    loop {
        tokio::time::sleep(INTERVAL).await;
        if check.strong_count() == 0 {
            return;
        }
        let error = match app.check_again(&caller, certificate.as_ref()).await {
            Ok(()) => {
                busy = 0;
                continue;
            }
            Err(Error::ResourceBusy(_)) if busy < MAX_BUSY => {
                busy += 1;
                continue;
            }
            Err(error) => error,
        };
        let Some(check) = check.upgrade() else { return };
        if !matches!(error, Error::DatabaseUnavailable(_) | Error::ResourceBusy(_)) {
            let _ = check.refusal.set(Arc::new(error));
        }
        return check.ended.cancel();
    }
}

impl StreamChecks {
    fn checks(&self) -> MutexGuard<'_, HashMap<Checked, Weak<Check>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
