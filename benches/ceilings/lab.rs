//! What all figures are measured with.

use std::time::Duration;

use crate::Outcome;
use crate::load::Measured;
use crate::pairs::{self, Key, Pair};
use crate::pgbench::Pgbench;
use crate::postgres::Scratch;
use crate::report::Report;

/// Over so many accounts uploads are spread.
pub const ACCOUNTS: usize = 200;
/// What each of them has before.
pub const PER_ACCOUNT: usize = 100;

pub struct Lab {
    pub scratch: Scratch,
    pub seconds: Duration,
    pub repeats: usize,
    pub report: Report,
}

impl Lab {
    /// Measures both in turn, so that what changes on the machine changes both.
    pub async fn in_turn(
        &self,
        mut certkeep: impl AsyncFnMut() -> Outcome<Measured>,
        mut ceiling: impl AsyncFnMut() -> Outcome<Measured>,
    ) -> Outcome<[Vec<Measured>; 2]> {
        let mut measured = [Vec::new(), Vec::new()];
        for _ in 0..self.repeats {
            measured[0].push(certkeep().await?);
            measured[1].push(ceiling().await?);
        }
        Ok(measured)
    }

    pub fn pairs(&self, key: Key) -> Outcome<Vec<Pair>> {
        progress(&format!("makes {key:?} pairs"));
        pairs::make(key)
    }
}

/// The choice with which most is done in a second.
pub async fn best<T: Copy + std::fmt::Debug>(
    choices: &[T],
    mut measure: impl AsyncFnMut(T) -> Outcome<Measured>,
) -> Outcome<T> {
    let mut best = None;
    for choice in choices {
        let per_second = measure(*choice).await?.per_second();
        progress(&format!("  {choice:?}: {per_second:.0}/s"));
        if best.is_none_or(|(_, most)| per_second > most) {
            best = Some((*choice, per_second));
        }
    }
    Ok(best.ok_or("nothing to choose from")?.0)
}

/// The number of clients with which pgbench does most.
pub async fn best_clients(pgbench: &Pgbench) -> Outcome<usize> {
    best(&[4, 8, 16, 32, 48], async |clients| {
        pgbench.run(clients, Duration::from_secs(1))
    })
    .await
}

pub fn progress(text: &str) {
    eprintln!("{text}");
}
