//! Durable uploads.

use std::rc::Rc;
use std::time::Duration;

use crate::Outcome;
use crate::calls::Calls;
use crate::lab::{ACCOUNTS, Lab, best, best_clients, progress};
use crate::load::{Until, closed};
use crate::pairs::{Key, Pair};
use crate::pgbench::Pgbench;
use crate::report::Side;
use crate::site::Site;

const SCRIPT: &str = include_str!("../upload.sql");

/// Uploads of one kind of pair, and how many callers do most.
pub struct Uploads {
    key: Key,
    pairs: Vec<Pair>,
    calls: Rc<Calls>,
    sample: Vec<(&'static str, String)>,
    ceiling: Pgbench,
    callers: usize,
    clients: usize,
}

impl Uploads {
    pub async fn prepare(lab: &Lab, site: &Site, key: Key) -> Outcome<Self> {
        let pairs = lab.pairs(key)?;
        let calls = site.uploads(&pairs, ACCOUNTS)?;
        let sample = site.sample(&pairs[0]).await?;
        let ceiling = site.pgbench(&lab.scratch, SCRIPT, &sample, ACCOUNTS)?;
        let target = site.target()?;
        progress("callers");
        let second = Until::Over(Duration::from_secs(1));
        let callers = best(&[32, 64, 128], async |callers| {
            closed(target, &calls, callers, second).await
        })
        .await?;
        progress("clients of pgbench");
        let clients = best_clients(&ceiling).await?;
        Ok(Self {
            key,
            pairs,
            calls,
            sample,
            ceiling,
            callers,
            clients,
        })
    }

    async fn beside(
        &self,
        lab: &mut Lab,
        site: &Site,
        figure: &str,
        ceiling: &Pgbench,
        calls: &Rc<Calls>,
        callers: usize,
        clients: usize,
        to_reach: &str,
    ) -> Outcome<()> {
        progress(figure);
        let target = site.target()?;
        let [ours, theirs] = lab
            .in_turn(
                async || {
                    site.storing(async || closed(target, calls, callers, Until::Over(lab.seconds)).await)
                        .await
                },
                async || site.storing(async || ceiling.run(clients, lab.seconds)).await,
            )
            .await?;
        let callers = format!("certkeep, {callers} callers");
        let clients = format!("pgbench, {clients} clients");
        let (ours, theirs) = (
            Side {
                name: &callers,
                measured: &ours,
            },
            Side {
                name: &clients,
                measured: &theirs,
            },
        );
        lab.report.throughput(figure, ours, theirs, to_reach);
        Ok(())
    }

    /// By many callers.
    pub async fn many(&self, lab: &mut Lab, site: &Site) -> Outcome<()> {
        let (figure, to_reach) = match self.key {
            Key::P256 => ("uploads, P-256", "1.0, then 1.2"),
            Key::Rsa => ("uploads, RSA-2048", "1.0"),
        };
        self.beside(
            lab,
            site,
            figure,
            &self.ceiling,
            &self.calls,
            self.callers,
            self.clients,
            to_reach,
        )
        .await
    }

    /// By one caller at a time.
    pub async fn one(&self, lab: &mut Lab, site: &Site) -> Outcome<()> {
        self.beside(
            lab,
            site,
            "uploads, one caller at a time",
            &self.ceiling,
            &self.calls,
            1,
            1,
            "0.6",
        )
        .await
    }

    /// By many callers of one account, whose counter all of them raise.
    pub async fn one_account(&self, lab: &mut Lab, site: &Site) -> Outcome<()> {
        let calls = site.uploads(&self.pairs, 1)?;
        let ceiling = site.pgbench(&lab.scratch, SCRIPT, &self.sample, 1)?;
        self.beside(
            lab,
            site,
            "uploads, one account",
            &ceiling,
            &calls,
            self.callers,
            self.clients,
            "",
        )
        .await
    }
}
