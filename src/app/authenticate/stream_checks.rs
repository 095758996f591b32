//! The callers of open streams, looked up once a second: one look-up for all streams of an access key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, Weak};
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{App, Call, Caller, ClientCertificate, Error, Principal};

/// A refused caller loses its streams within two seconds.
const INTERVAL: Duration = Duration::from_secs(1);

/// The look-ups that run, by the id of the access key.
#[derive(Default)]
pub(in crate::app) struct StreamChecks(Mutex<HashMap<String, Weak<Check>>>);

#[derive(Default)]
struct Check {
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
        let shared = match (&caller.principal, &certificate) {
            (Principal::AccessKey(id), None) => Some(id.clone()),
            _ => None,
        };
        let Some(id) = shared else {
            return Self::begin(app, caller, certificate);
        };
        let mut checks = app.0.stream_checks.checks();
        if let Some(running) = checks.get(&id).and_then(Weak::upgrade)
            && !running.ended.is_cancelled()
        {
            return Self(running);
        }
        let new = Self::begin(app, caller, None);
        checks.retain(|_, check| check.strong_count() > 0);
        checks.insert(id, Arc::downgrade(&new.0));
        new
    }

    fn begin(app: &App, caller: Caller, certificate: Option<ClientCertificate>) -> Self {
        let check = Arc::new(Check::default());
        tokio::spawn(look_up(app.clone(), caller, certificate, Arc::downgrade(&check)));
        Self(check)
    }

    /// Completes when the caller may no longer call, with the reason. `None`: the caller could not be looked up.
    pub(in crate::app) async fn refused(&self) -> Option<Arc<Error>> {
        self.0.ended.cancelled().await;
        self.0.refusal.get().cloned()
    }
}

async fn look_up(app: App, caller: Caller, certificate: Option<ClientCertificate>, check: Weak<Check>) {
    loop {
        tokio::time::sleep(INTERVAL).await;
        if check.strong_count() == 0 {
            return;
        }
        let checked = app.check_again(&caller, certificate.as_ref()).await;
        if let (Err(error), Some(check)) = (checked, check.upgrade()) {
            match error {
                Error::DatabaseUnavailable(_) | Error::ResourceBusy(_) => {}
                error => {
                    let _ = check.refusal.set(Arc::new(error));
                }
            }
            return check.ended.cancel();
        }
    }
}

impl StreamChecks {
    fn checks(&self) -> MutexGuard<'_, HashMap<String, Weak<Check>>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
