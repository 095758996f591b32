//! Durable uploads, beside pgbench inserting the same rows.

use std::rc::Rc;
use std::time::Duration;

use crate::Outcome;
use crate::calls::Calls;
use crate::lab::{ACCOUNTS, CALLERS, Lab, best, best_clients};
use crate::load::{Until, closed};
use crate::pairs::Pair;
use crate::pgbench::Pgbench;
use crate::site::{Fingerprints, Sample, Site};

pub const SCRIPT: &str = include_str!("../upload.sql");

/// Uploads, and the ceiling beside them.
pub struct Uploads {
    pub calls: Rc<Calls>,
    pub ceiling: Pgbench,
}

/// How many callers certkeep does most for, and how many clients pgbench.
#[derive(Clone, Copy, Debug)]
pub struct Many {
    pub callers: usize,
    pub clients: usize,
}

impl Many {
    const ONE: Self = Self { callers: 1, clients: 1 };
}

impl Uploads {
    /// By this many accounts. The sample is of such a pair.
    pub fn new(lab: &Lab, site: &Site, pairs: &[Pair], sample: &Sample, accounts: usize) -> Outcome<Self> {
        Ok(Self {
            calls: site.uploads(pairs, accounts, Fingerprints::Omitted)?,
            ceiling: site.pgbench(&lab.scratch, SCRIPT, sample, accounts),
        })
    }

    pub async fn best(&self, site: &Site) -> Outcome<Many> {
        let (target, second) = (site.target()?, Until::Over(Duration::from_secs(1)));
        let try_callers = async |callers| closed(target, &self.calls, callers, second).await;
        Ok(Many {
            callers: best("callers", &CALLERS, try_callers).await?,
            clients: best_clients(&self.ceiling).await?,
        })
    }

    /// By many callers.
    pub async fn many(&self, lab: &mut Lab, site: &Site, figure: (&str, &str), many: Many) -> Outcome<()> {
        let (target, time) = (site.target()?, lab.time);
        let (ours, theirs) = (
            format!("certkeep, {}", counted(many.callers, "caller")),
            format!("pgbench, {}", counted(many.clients, "client")),
        );
        let certkeep = async || {
            let upload = async || closed(target, &self.calls, many.callers, Until::Over(time)).await;
            site.storing(upload).await
        };
        let ceiling = async || site.storing(async || self.ceiling.run(many.clients, time)).await;
        lab.contest(figure, (&ours, certkeep), (&theirs, ceiling)).await
    }

    /// By as many callers, and as many clients as are best for these.
    pub async fn of_one_account(
        &self,
        lab: &mut Lab,
        site: &Site,
        figure: (&str, &str),
        callers: usize,
    ) -> Outcome<()> {
        let clients = best_clients(&self.ceiling).await?;
        self.many(lab, site, figure, Many { callers, clients }).await
    }

    /// By one caller at a time.
    pub async fn one(&self, lab: &mut Lab, site: &Site, figure: (&str, &str)) -> Outcome<()> {
        self.many(lab, site, figure, Many::ONE).await
    }
}

fn counted(count: usize, what: &str) -> String {
    match count {
        1 => format!("one {what}"),
        count => format!("{count} {what}s"),
    }
}

/// Uploads of P-256 pairs over all accounts, how many callers and clients are best, and the sample of the rows.
pub struct Prepared {
    pub pairs: Vec<Pair>,
    pub sample: Sample,
    pub uploads: Uploads,
    pub many: Many,
}

impl Prepared {
    pub async fn new(lab: &Lab, site: &Site, pairs: Vec<Pair>) -> Outcome<Self> {
        let sample = site.sample(&pairs[0]).await?;
        let uploads = Uploads::new(lab, site, &pairs, &sample, ACCOUNTS)?;
        let many = uploads.best(site).await?;
        Ok(Self {
            pairs,
            sample,
            uploads,
            many,
        })
    }
}
