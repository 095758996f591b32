//! Reads: a describe by id beside an empty call of the same sizes, and a page beside pgbench selecting it.

use std::time::Duration;

use crate::Outcome;
use crate::echo::Echo;
use crate::lab::{ACCOUNTS, CALLERS, Lab, best, best_clients};
use crate::load::{Until, closed};
use crate::site::{Sample, Site};

const PAGE: &str = include_str!("../page.sql");
const PAGE_SIZE: i32 = 50;
const SECOND: Until = Until::Over(Duration::from_secs(1));

pub async fn by_id(lab: &mut Lab, site: &Site, figure: (&str, &str)) -> Outcome<()> {
    let (target, calls) = (site.target()?, site.describes().await?);
    let echo = Echo::of(&calls, target).await?;
    site.settle().await?;
    let callers = best("callers", &CALLERS, async |callers| {
        closed(target, &calls, callers, SECOND).await
    })
    .await?;
    let try_echo = async |callers| closed(echo.target, &echo.calls, callers, SECOND).await;
    let echo_callers = best("callers of the echo", &CALLERS, try_echo).await?;
    let time = Until::Over(lab.time);
    let (ours, theirs) = (
        format!("certkeep, {callers} callers"),
        format!("echo of {} bytes, {echo_callers} callers", echo.answer),
    );
    let certkeep = async || closed(target, &calls, callers, time).await;
    let ceiling = async || closed(echo.target, &echo.calls, echo_callers, time).await;
    lab.contest(figure, (&ours, certkeep), (&theirs, ceiling)).await
}

pub async fn page(lab: &mut Lab, site: &Site, sample: &Sample, figure: (&str, &str)) -> Outcome<()> {
    let (target, calls) = (site.target()?, site.pages(PAGE_SIZE)?);
    let mut variables = sample.clone();
    variables.push(("start", i64::MIN.to_string()));
    // One more tells whether there is a next page.
    variables.push(("rows", (PAGE_SIZE + 1).to_string()));
    let pgbench = site.pgbench(&lab.scratch, PAGE, &variables, ACCOUNTS);
    site.settle().await?;
    let callers = best("callers", &CALLERS, async |callers| {
        closed(target, &calls, callers, SECOND).await
    })
    .await?;
    let clients = best_clients(&pgbench).await?;
    let time = lab.time;
    let (ours, theirs) = (
        format!("certkeep, {callers} callers"),
        format!("pgbench, {clients} clients"),
    );
    let certkeep = async || closed(target, &calls, callers, Until::Over(time)).await;
    let ceiling = async || pgbench.run(clients, time);
    lab.contest(figure, (&ours, certkeep), (&theirs, ceiling)).await
}
