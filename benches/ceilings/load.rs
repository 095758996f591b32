//! The load generator, on the one thread of the harness.

use std::cell::{Cell, RefCell};
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::{JoinSet, LocalSet};

use crate::Outcome;
use crate::calls::Calls;
use crate::cpu::Split;
use crate::measured::{Measured, histogram};
use crate::wire::{self, Connection};

/// Over more connections than this little changes.
const CONNECTIONS: usize = 4;

/// What is called, and the processes whose time it takes.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    pub address: SocketAddr,
    pub pid: i32,
    pub postmaster: i32,
}

/// When callers make no further calls.
#[derive(Clone, Copy, Debug)]
pub enum Until {
    Over(Duration),
    Made(u64),
}

/// So many callers, each of which makes its next call when the last is answered. The calls under way at the end are
/// finished, and count. Whatever fails, fails the run.
pub async fn closed(target: Target, calls: &Rc<Calls>, callers: usize, until: Until) -> Outcome<Measured> {
    let load = Load::start(target, calls, callers).await?;
    let (deadline, left) = match until {
        Until::Over(time) => (Some(load.began + time), u64::MAX),
        Until::Made(count) => (None, count),
    };
    let left = Rc::new(Cell::new(left));
    let local = LocalSet::new();
    let mut tasks = JoinSet::new();
    for caller in 0..callers {
        let (call, left) = (load.call(caller), left.clone());
        let calling = async move {
            while left.get() > 0 && deadline.is_none_or(|deadline| Instant::now() < deadline) {
                left.set(left.get() - 1);
                call.make(Instant::now()).await?;
            }
            Ok(())
        };
        tasks.spawn_local_on(calling, &local);
    }
    local.run_until(finish(tasks)).await?;
    load.end()
}

/// So many calls a second, whether the ones before are answered or not: a call's time runs from the moment at which it was
/// due, so that a stall counts for all calls that it holds up.
pub async fn open(target: Target, calls: &Rc<Calls>, per_second: f64, time: Duration) -> Outcome<Measured> {
    let load = Load::start(target, calls, CONNECTIONS).await?;
    let (due, mut dues) = mpsc::unbounded_channel();
    let (began, count) = (load.began, (per_second * time.as_secs_f64()) as u64);
    // A thread of its own: the runtime's timers know whole milliseconds.
    let clock = std::thread::spawn(move || {
        for place in 0..count {
            let at = began + Duration::from_secs_f64(place as f64 / per_second);
            std::thread::sleep(at.saturating_duration_since(Instant::now()));
            if due.send(at).is_err() {
                break;
            }
        }
    });
    let local = LocalSet::new();
    let calling = async {
        let mut tasks = JoinSet::new();
        let mut place = 0;
        while let Some(at) = dues.recv().await {
            let call = load.call(place);
            place += 1;
            tasks.spawn_local(async move { call.make(at).await });
            while let Some(ended) = tasks.try_join_next() {
                ended??;
            }
        }
        finish(tasks).await
    };
    local.run_until(calling).await?;
    clock.join().map_err(|_| "the clock of the load failed")?;
    load.end()
}

/// Errors as texts: those of tasks must be of any thread.
async fn finish(mut tasks: JoinSet<Result<(), String>>) -> Outcome<()> {
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}

/// A measurement under way.
struct Load {
    target: Target,
    calls: Rc<Calls>,
    connections: Vec<Connection>,
    latency: Rc<RefCell<Histogram<u64>>>,
    before: Split,
    began: Instant,
}

impl Load {
    async fn start(target: Target, calls: &Rc<Calls>, callers: usize) -> Outcome<Self> {
        let mut connections = Vec::new();
        for _ in 0..callers.min(CONNECTIONS) {
            connections.push(wire::connect(target.address).await?);
        }
        Ok(Self {
            target,
            calls: calls.clone(),
            connections,
            latency: Rc::new(RefCell::new(histogram()?)),
            before: Split::now(Some(target.pid), target.postmaster)?,
            began: Instant::now(),
        })
    }

    fn call(&self, place: usize) -> Call {
        Call {
            connection: self.connections[place % self.connections.len()].clone(),
            calls: self.calls.clone(),
            latency: self.latency.clone(),
        }
    }

    fn end(self) -> Outcome<Measured> {
        let elapsed = self.began.elapsed();
        let cpu = Split::now(Some(self.target.pid), self.target.postmaster)? - self.before;
        let latency = self.latency.replace(histogram()?);
        Ok(Measured {
            operations: latency.len(),
            elapsed,
            latency,
            cpu,
        })
    }
}

struct Call {
    connection: Connection,
    calls: Rc<Calls>,
    latency: Rc<RefCell<Histogram<u64>>>,
}

impl Call {
    async fn make(&self, from: Instant) -> Result<(), String> {
        let (head, frame) = self.calls.next();
        let called = wire::call(&self.connection, head, frame, |_| {}).await;
        called.map_err(|error| error.to_string())?;
        self.latency
            .borrow_mut()
            .saturating_record(from.elapsed().as_nanos() as u64);
        Ok(())
    }
}
