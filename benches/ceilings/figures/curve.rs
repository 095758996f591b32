//! Latency and throughput of uploads over the load that is offered.

use crate::Outcome;
use crate::lab::{Lab, progress};
use crate::load::{Until, closed, open};
use crate::measured::{Measured, median};
use crate::picture::{Picture, Step};
use crate::report::Side;
use crate::site::Site;

use super::upload::Prepared;

const STEPS: u32 = 10;
/// What the last step offers, of the highest load.
const BEYOND: f64 = 1.1;

/// The highest load, the latency at half of it, and the picture.
pub async fn latency(lab: &mut Lab, site: &Site, prepared: &Prepared, figure: (&str, &str)) -> Outcome<Picture> {
    progress(figure.0);
    let (target, calls) = (site.target()?, &prepared.uploads.calls);
    let most = async || closed(target, calls, prepared.many.callers, Until::Over(lab.time)).await;
    // What follows is between two checkpoints: pages are written to the log whole when they are changed for the first time after one.
    site.storing(most).await?;
    let mut highest = Vec::new();
    let mut sides = [Vec::new(), Vec::new()];
    for _ in 0..lab.repeats {
        highest.push(site.counting(most).await?.per_second());
        let half = median(&highest) / 2.0;
        sides[0].push(
            site.counting(async || open(target, calls, half, lab.time).await)
                .await?,
        );
        let (pgbench, clients) = (&prepared.uploads.ceiling, prepared.many.clients);
        sides[1].push(site.counting(async || pgbench.run_at(half, clients, lab.time)).await?);
    }
    let highest = median(&highest);
    let [ours, theirs] = sides
        .each_ref()
        .map(|side| side.iter().map(|measured| measured.quantile(0.99)).collect::<Vec<_>>());
    lab.report.row(
        figure.0,
        format!("{:.1} ms at {:.0}/s", median(&ours), highest / 2.0),
        format!("{:.1} ms (pgbench, at random moments)", median(&theirs)),
        String::new(),
        figure.1,
    );
    for (name, measured) in ["certkeep, at a fixed rate", "pgbench, at random moments"]
        .into_iter()
        .zip(&sides)
    {
        lab.report.side(figure.0, &Side { name, measured })?;
    }
    let mut steps = Vec::new();
    for step in 1..=STEPS {
        let offered = highest * BEYOND * f64::from(step) / f64::from(STEPS);
        let offer = async || open(target, calls, offered, lab.time / 2).await;
        let measured: Measured = site.counting(offer).await?;
        steps.push(Step {
            offered,
            done: measured.per_second(),
            p50: measured.quantile(0.5),
            p99: measured.quantile(0.99),
        });
    }
    Ok(Picture { steps })
}
