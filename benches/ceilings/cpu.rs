//! Processor time and memory of processes, as `/proc` tells them.

use std::fs;
use std::ops::{AddAssign, Sub};
use std::time::Duration;

use crate::Outcome;

/// The processor time of the processes that a measurement is about.
#[derive(Clone, Copy, Debug, Default)]
pub struct Split {
    /// The harness itself, and the children that it has waited for: pgbench.
    pub generator: Duration,
    /// certkeep, or the echo.
    pub server: Duration,
    /// Postgres: the postmaster and all processes that it started, whoever spoke to them.
    pub postgres: Duration,
}

impl Split {
    /// Until now.
    pub fn now(server: Option<i32>, postmaster: i32) -> Outcome<Self> {
        Ok(Self {
            generator: Times::of(std::process::id().cast_signed())?.with_reaped(),
            server: server.map_or(Ok(Duration::ZERO), |pid| Times::of(pid).map(Times::own))?,
            postgres: of_family(postmaster)?,
        })
    }
}

impl Sub for Split {
    type Output = Self;

    fn sub(self, before: Self) -> Self {
        Self {
            generator: self.generator.saturating_sub(before.generator),
            server: self.server.saturating_sub(before.server),
            postgres: self.postgres.saturating_sub(before.postgres),
        }
    }
}

impl AddAssign for Split {
    fn add_assign(&mut self, other: Self) {
        self.generator += other.generator;
        self.server += other.server;
        self.postgres += other.postgres;
    }
}

/// A process's line in `/proc`, in ticks.
struct Times {
    parent: i32,
    own: u64,
    reaped: u64,
}

impl Times {
    fn of(pid: i32) -> Outcome<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        Self::parse(&text).ok_or_else(|| format!("/proc/{pid}/stat can not be read").into())
    }

    /// The name in parentheses may hold anything: what counts stands behind the last of them (proc(5)).
    fn parse(text: &str) -> Option<Self> {
        let fields: Vec<&str> = text.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |place: usize| fields.get(place)?.parse::<u64>().ok();
        Some(Self {
            parent: fields.get(1)?.parse().ok()?,
            own: ticks(11)? + ticks(12)?,
            reaped: ticks(13)? + ticks(14)?,
        })
    }

    fn own(self) -> Duration {
        duration(self.own)
    }

    fn with_reaped(self) -> Duration {
        duration(self.own + self.reaped)
    }
}

fn duration(ticks: u64) -> Duration {
    Duration::from_secs(ticks) / rustix::param::clock_ticks_per_second() as u32
}

fn of_family(postmaster: i32) -> Outcome<Duration> {
    // Children first: one that ends meanwhile is then counted twice rather than lost, which a later look mends.
    let mut ticks = 0;
    for entry in fs::read_dir("/proc")?.flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        if let Ok(times) = Times::of(pid)
            && times.parent == postmaster
        {
            ticks += times.own;
        }
    }
    Ok(duration(ticks) + Times::of(postmaster)?.with_reaped())
}

/// What a process holds of memory, in MiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    pub resident: f64,
    /// The most that it held at once.
    pub peak: f64,
}

impl Memory {
    pub fn of(pid: i32) -> Outcome<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let mib = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            let kib = line.and_then(|rest| rest.trim_end_matches("kB").trim().parse::<f64>().ok());
            kib.map(|kib| kib / 1024.0)
                .ok_or_else(|| format!("/proc/{pid}/status has no {name}"))
        };
        Ok(Self {
            resident: mib("VmRSS:")?,
            peak: mib("VmHWM:")?,
        })
    }
}
