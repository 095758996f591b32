//! What all figures are measured with.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

use crate::Outcome;
use crate::measured::Measured;
use crate::pgbench::Pgbench;
use crate::postgres::Scratch;
use crate::report::{Report, Side};

/// Over so many accounts uploads are spread.
pub const ACCOUNTS: usize = 200;
/// What each of them has before.
pub const PER_ACCOUNT: usize = 100;
/// How many callers are tried.
pub const CALLERS: [usize; 3] = [32, 64, 128];

pub struct Lab {
    pub scratch: Scratch,
    pub time: Duration,
    pub repeats: usize,
    pub report: Report,
}

impl Lab {
    /// Measures both in turn, so that what changes on the machine changes both.
    pub async fn in_turn(
        &self,
        mut one: impl AsyncFnMut() -> Outcome<Measured>,
        mut other: impl AsyncFnMut() -> Outcome<Measured>,
    ) -> Outcome<[Vec<Measured>; 2]> {
        let mut measured = [Vec::new(), Vec::new()];
        for _ in 0..self.repeats {
            measured[0].push(one().await?);
            measured[1].push(other().await?);
        }
        Ok(measured)
    }

    /// How much certkeep does in a second beside its ceiling.
    pub async fn contest(
        &mut self,
        (figure, to_reach): (&str, &str),
        (our_name, certkeep): (&str, impl AsyncFnMut() -> Outcome<Measured>),
        (their_name, ceiling): (&str, impl AsyncFnMut() -> Outcome<Measured>),
    ) -> Outcome<()> {
        progress(figure);
        let [ours, theirs] = self.in_turn(certkeep, ceiling).await?;
        let side = |name, measured| Side { name, measured };
        let (ours, theirs) = (side(our_name, &ours[..]), side(their_name, &theirs[..]));
        self.report.throughput(figure, ours, theirs, to_reach)
    }
}

/// The choice with which most is done in a second.
pub async fn best(
    what: &str,
    choices: &[usize],
    mut measure: impl AsyncFnMut(usize) -> Outcome<Measured>,
) -> Outcome<usize> {
    let mut best = None;
    for choice in choices {
        let per_second = measure(*choice).await?.per_second();
        progress(&format!("  {choice} {what}: {per_second:.0}/s"));
        if best.is_none_or(|(_, most)| per_second > most) {
            best = Some((*choice, per_second));
        }
    }
    Ok(best.ok_or("nothing to choose from")?.0)
}

/// The number of clients with which pgbench does most.
pub async fn best_clients(pgbench: &Pgbench) -> Outcome<usize> {
    let choices = [4, 8, 16, 32, 48];
    best("clients of pgbench", &choices, async |clients| {
        pgbench.run(clients, Duration::from_secs(1))
    })
    .await
}

/// Tells what is done, and how many seconds after the first time.
pub fn progress(text: &str) {
    static BEGAN: OnceLock<Instant> = OnceLock::new();
    let began = BEGAN.get_or_init(Instant::now);
    eprintln!("{:4} s  {text}", began.elapsed().as_secs());
}
