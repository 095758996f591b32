//! A lone upload into an account with many certificates, all of whose fingerprints are answered.

use crate::Outcome;
use crate::echo::Echo;
use crate::fill::fill;
use crate::lab::{Lab, progress};
use crate::load::{Until, closed};
use crate::measured::{Measured, median};
use crate::pairs::Pair;
use crate::report::{Side, ratio};
use crate::site::{Fingerprints, Sample, Site};

const SCRIPT: &str = include_str!("../fingerprints.sql");
const CERTIFICATES: usize = 10_000;
/// Few, so that the account stays as large as it is.
const UPLOADS: u64 = 100;

/// Replaces what the site has stored.
pub async fn upload(lab: &mut Lab, site: &Site, pairs: &[Pair], sample: &Sample, figure: (&str, &str)) -> Outcome<()> {
    progress(figure.0);
    fill(site.sql(), 1, CERTIFICATES).await?;
    let (target, calls) = (site.target()?, site.uploads(pairs, 1, Fingerprints::Answered)?);
    let echo = Echo::of(&calls, target).await?;
    let pgbench = site.pgbench(&lab.scratch, SCRIPT, sample, 1);
    let mut sides = [Vec::new(), Vec::new(), Vec::new()];
    for _ in 0..lab.repeats {
        let upload = async || closed(target, &calls, 1, Until::Made(UPLOADS)).await;
        sides[0].push(site.storing(upload).await?);
        sides[1].push(pgbench.run(1, lab.time)?);
        sides[2].push(closed(echo.target, &echo.calls, 1, Until::Made(10 * UPLOADS)).await?);
    }
    let [ours, aggregate, echoed] = sides
        .each_ref()
        .map(|side| side.iter().map(Measured::median).collect::<Vec<_>>());
    let ceiling: Vec<f64> = aggregate.iter().zip(&echoed).map(|(one, other)| one + other).collect();
    lab.report.row(
        figure.0,
        format!("{:.2} ms", median(&ours)),
        format!(
            "{:.2} ms (pgbench {:.2}, echo {:.2})",
            median(&ceiling),
            median(&aggregate),
            median(&echoed)
        ),
        ratio(&ceiling, &ours),
        figure.1,
    );
    let echo_name = format!("echo of {} bytes", echo.answer);
    for (name, measured) in ["certkeep", "pgbench, the aggregate", &echo_name]
        .into_iter()
        .zip(&sides)
    {
        lab.report.side(figure.0, &Side { name, measured })?;
    }
    Ok(())
}
