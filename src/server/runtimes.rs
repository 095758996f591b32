//! What serves runs on one runtime for each core, each on a thread of its own: a call stays on the thread of its connection, where
//! nothing it waits for has to wake another. What else the process does has the runtime that it began with.

use std::convert::Infallible;
use std::future::Future;
use std::io;

use tokio::runtime::{Builder, Handle};
use tokio::sync::oneshot;
use tokio::task::JoinSet;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::listener::Connections;

/// The runtimes; their threads end when this is dropped, with all that still runs on them.
pub struct Runtimes(Vec<Runtime>);

struct Runtime {
    handle: Handle,
    /// Its thread waits until this is dropped.
    _runs: oneshot::Sender<Infallible>,
}

impl Runtimes {
    /// Starts the threads.
    pub fn start() -> io::Result<Self> {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        (0..cores).map(Runtime::start).collect::<io::Result<_>>().map(Self)
    }

    pub(super) fn handles(&self) -> impl Iterator<Item = &Handle> {
        self.0.iter().map(|runtime| &runtime.handle)
    }
}

impl Runtime {
    fn start(core: usize) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_all().build()?;
        let handle = runtime.handle().clone();
        let (runs, ended) = oneshot::channel();
        std::thread::Builder::new()
            .name(format!("serve-{core}"))
            .spawn(move || {
                let _ = runtime.block_on(ended);
                // What is at work off its thread is not waited for.
                runtime.shutdown_background();
            })?;
        Ok(Self { handle, _runs: runs })
    }
}

/// Connections that are served, those of each runtime on it.
pub struct Serving {
    tasks: JoinSet<Result<(), tonic::transport::Error>>,
    stop: CancellationToken,
}

impl Serving {
    /// `serve` serves connections until it is told to stop.
    pub fn begin<F>(
        runtimes: &Runtimes,
        connections: &[Connections],
        serve: impl Fn(Connections, WaitForCancellationFutureOwned) -> F,
    ) -> Self
    where
        F: Future<Output = Result<(), tonic::transport::Error>> + Send + 'static,
    {
        let mut tasks = JoinSet::new();
        let stop = CancellationToken::new();
        for (runtime, connections) in runtimes.handles().zip(connections) {
            tasks.spawn_on(serve(connections.clone(), stop.clone().cancelled_owned()), runtime);
        }
        Self { tasks, stop }
    }

    /// Takes no more calls, and waits until those under way are answered.
    pub async fn end(mut self) {
        self.stop.cancel();
        while let Some(served) = self.tasks.join_next().await {
            match served {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::error!(%error, "serving failed"),
                Err(error) => tracing::error!(%error, "serving failed"),
            }
        }
    }
}
