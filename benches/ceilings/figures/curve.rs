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
    let mut highest = Vec::new();
    let mut half = Vec::new();
    for _ in 0..lab.repeats {
        let most = async || closed(target, calls, prepared.many.callers, Until::Over(lab.time)).await;
        highest.push(site.storing(most).await?.per_second());
        let at_half = async || open(target, calls, median(&highest) / 2.0, lab.time).await;
        half.push(site.storing(at_half).await?);
    }
    let highest = median(&highest);
    let p99: Vec<f64> = half.iter().map(|measured| measured.quantile(0.99)).collect();
    lab.report.row(
        figure.0,
        format!("{:.1} ms at {:.0}/s", median(&p99), highest / 2.0),
        String::new(),
        String::new(),
        figure.1,
    );
    let side = Side {
        name: "certkeep, at a fixed rate",
        measured: &half,
    };
    lab.report.side(figure.0, &side)?;
    let mut steps = Vec::new();
    for step in 1..=STEPS {
        let offered = highest * BEYOND * f64::from(step) / f64::from(STEPS);
        let offer = async || open(target, calls, offered, lab.time / 2).await;
        let measured: Measured = site.storing(offer).await?;
        steps.push(Step {
            offered,
            done: measured.per_second(),
            p50: measured.quantile(0.5),
            p99: measured.quantile(0.99),
        });
    }
    Ok(Picture { steps })
}
