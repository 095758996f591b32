//! The load generator, on the one thread of the harness.

use std::cell::RefCell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::task::{JoinSet, LocalSet};

use crate::Outcome;
use crate::calls::Calls;
use crate::cpu::Split;
use crate::wire::{self, Connection};

/// What is called, and the processes whose time it takes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub pid: i32,
    pub postmaster: i32,
}

/// What was measured.
pub struct Measured {
    pub operations: u64,
    pub elapsed: Duration,
    /// In nanoseconds.
    pub latency: Histogram<u64>,
    pub cpu: Split,
}

impl Measured {
    pub fn per_second(&self) -> f64 {
        self.operations as f64 / self.elapsed.as_secs_f64()
    }

    /// In milliseconds.
    pub fn quantile(&self, quantile: f64) -> f64 {
        self.latency.value_at_quantile(quantile) as f64 / 1e6
    }
}

/// No call takes longer than a minute.
pub fn histogram() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

/// When callers make no further calls.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Over(Duration),
    Made(u64),
}

/// Over more connections than this little changes.
const CONNECTIONS: usize = 4;

async fn connect(address: SocketAddr, callers: usize) -> Outcome<Vec<Connection>> {
    let mut connections = Vec::new();
    for _ in 0..callers.min(CONNECTIONS) {
        connections.push(wire::connect(address).await?);
    }
    Ok(connections)
}

async fn timed(
    connection: &Connection,
    calls: &Calls,
    from: Instant,
    latency: &RefCell<Histogram<u64>>,
) -> Outcome<()> {
    let (head, frame) = calls.next();
    wire::call(connection, head, frame, |_| {}).await?;
    latency.borrow_mut().saturating_record(from.elapsed().as_nanos() as u64);
    Ok(())
}

/// So many callers, each of which makes its next call when the last is answered. The calls under way at the end are
/// finished, and count. Whatever fails, fails the run.
pub async fn closed(target: Target, calls: &Rc<Calls>, callers: usize, until: Until) -> Outcome<Measured> {
    let connections = connect(target.address, callers).await?;
    let latency = Rc::new(RefCell::new(histogram()?));
    let before = Split::now(Some(target.pid), target.postmaster)?;
    let began = Instant::now();
    let left = Rc::new(RefCell::new(match until {
        Until::Over(_) => u64::MAX,
        Until::Made(count) => count,
    }));
    let deadline = match until {
        Until::Over(time) => Some(began + time),
        Until::Made(_) => None,
    };
    let local = LocalSet::new();
    let mut tasks: JoinSet<Result<(), String>> = JoinSet::new();
    for caller in 0..callers {
        let connection = connections[caller % connections.len()].clone();
        let (calls, latency, left) = (calls.clone(), latency.clone(), left.clone());
        let calling = async move {
            while deadline.is_none_or(|deadline| Instant::now() < deadline) {
                let Some(after) = left.borrow().checked_sub(1) else {
                    break;
                };
                left.replace(after);
                timed(&connection, &calls, Instant::now(), &latency)
                    .await
                    .map_err(|error| error.to_string())?;
            }
            Ok(())
        };
        tasks.spawn_local_on(calling, &local);
    }
    local
        .run_until(async {
            while let Some(ended) = tasks.join_next().await {
                ended??;
            }
            Outcome::Ok(())
        })
        .await?;
    let elapsed = began.elapsed();
    let cpu = Split::now(Some(target.pid), target.postmaster)? - before;
    let latency = latency.replace(histogram()?);
    Ok(Measured {
        operations: latency.len(),
        elapsed,
        latency,
        cpu,
    })
}
