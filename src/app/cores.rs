//! Work that keeps a core busy: parsing and key work, off the async threads.

use std::sync::Arc;

use tokio::sync::Semaphore;

use super::Error;

/// As many pieces of work at once as there are cores. The others wait; their callers' deadlines run.
pub(super) struct Cores(Arc<Semaphore>);

impl Cores {
    pub(super) fn of_this_machine() -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self(Arc::new(Semaphore::new(cores)))
    }

    /// Runs `work` on a core. It is finished even if the caller leaves meanwhile.
    pub(super) async fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> Result<T, Error> {
        let permit = self.0.clone().acquire_owned().await.map_err(Error::internal)?;
        let span = tracing::Span::current();
        tokio::task::spawn_blocking(move || {
            let _permit = permit;
            span.in_scope(work)
        })
        .await
        .map_err(Error::internal)
    }
}
