//! Serving until it is told to stop, and the drain then.

use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A server's task.
pub struct Serving {
    task: JoinHandle<Result<(), tonic::transport::Error>>,
    stop: CancellationToken,
}

impl Serving {
    /// Starts the server that `serve` returns. It must serve until its argument completes.
    pub fn start<F>(serve: impl FnOnce(WaitForCancellationFutureOwned) -> F) -> Self
    where
        F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    {
        let stop = CancellationToken::new();
        Self {
            task: tokio::spawn(serve(stop.clone().cancelled_owned())),
            stop,
        }
    }

    /// Takes no more calls, and waits until the calls under way are answered.
    pub async fn drain(self) {
        self.stop.cancel();
        match self.task.await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::error!(%error, "serving failed"),
            Err(error) => tracing::error!(%error, "serving failed"),
        }
    }
}
