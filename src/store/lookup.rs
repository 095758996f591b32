//! Look-ups that share a statement with the look-ups that wait at the same time.

use std::sync::Arc;

use super::error::Cause;
use super::group_commit::{GroupCommit, NotRun};
use super::{Error, Store};

/// One statement looks up at most this many.
pub(super) const MAX_LOOKUPS: usize = 64;

/// Why a batch of look-ups failed for all its items.
#[derive(Clone, Debug)]
pub(super) enum LookupError {
    Busy(Cause),
    Unavailable(Cause),
}

impl From<LookupError> for Error {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Busy(cause) => Self::Busy(cause),
            LookupError::Unavailable(cause) => Self::Unavailable(cause),
        }
    }
}

impl Store {
    /// Looks up an item together with other items that wait. `all` returns a result for each item that it is given, in order.
    pub(super) async fn look_up_together<T, R, F>(
        &self,
        group: &Arc<GroupCommit<T, Result<R, LookupError>>>,
        wanted: T,
        all: impl Fn(Self, Vec<T>) -> F + Clone + Send + 'static,
    ) -> Result<R, Error>
    where
        T: Clone + Send + 'static,
        R: Send + 'static,
        F: Future<Output = Result<Vec<R>, Error>> + Send + 'static,
    {
        let (store, of_several) = (self.clone(), all.clone());
        let work = move |wanted: Vec<T>| {
            let count = wanted.len();
            let found = of_several(store.clone(), wanted);
            async move {
                let error = match found.await {
                    Ok(found) => return found.into_iter().map(Ok).collect(),
                    Err(Error::Busy(cause)) => LookupError::Busy(cause),
                    Err(Error::Unavailable(cause)) => LookupError::Unavailable(cause),
                    // One item may be the cause: each is looked up alone.
                    Err(_) => return Vec::new(),
                };
                vec![error; count].into_iter().map(Err).collect()
            }
        };
        match group.submit(wanted.clone(), 1, work).await {
            Ok(found) => found.map_err(Error::from),
            Err(NotRun::Withdrawn) => Err(Error::Busy(Cause::timeout())),
            Err(NotRun::Failed) => {
                let found = all(self.clone(), vec![wanted]).await?.pop();
                found.ok_or(Error::Row("a look-up"))
            }
        }
    }
}
