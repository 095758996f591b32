//! What a measurement tells.

use std::time::Duration;

use hdrhistogram::Histogram;

use crate::Outcome;
use crate::cpu::Split;

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

    /// The median of its latencies, in milliseconds.
    pub fn median(&self) -> f64 {
        self.quantile(0.5)
    }

    /// Several, as if they were one.
    pub fn together(several: &[Self]) -> Outcome<Self> {
        let mut all = Self {
            operations: 0,
            elapsed: Duration::ZERO,
            latency: histogram()?,
            cpu: Split::default(),
        };
        for measured in several {
            all.operations += measured.operations;
            all.elapsed += measured.elapsed;
            all.cpu += measured.cpu;
            all.latency.add(&measured.latency)?;
        }
        Ok(all)
    }
}

/// No call takes longer than a minute.
pub fn histogram() -> Outcome<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}

pub fn median(values: &[f64]) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    match values.len() {
        0 => f64::NAN,
        len if len % 2 == 1 => values[len / 2],
        len => f64::midpoint(values[len / 2 - 1], values[len / 2]),
    }
}
