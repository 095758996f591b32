//! What a million stored certificates change.

use crate::Outcome;
use crate::cpu::Memory;
use crate::fill::fill;
use crate::lab::{Lab, progress};
use crate::load::{Until, closed};
use crate::measured::{Measured, median};
use crate::report::{Side, ratio};
use crate::site::{Fingerprints, Site};

use super::upload::{Prepared, SCRIPT};

const ACCOUNTS: usize = 1_000;
const FEW: usize = 1_000;
const MANY: usize = 1_000_000;

/// The same operations with few stored, and with many. No checkpoint before each: in service one comes every quarter of an hour, and
/// the first change of a page after it writes the page whole, of which many stored certificates have more.
pub async fn stored(lab: &mut Lab, prepared: &Prepared) -> Outcome<()> {
    progress("stores 1,000,000 certificates");
    let few = Site::start(&lab.scratch, "few", ACCOUNTS).await?;
    let sample = few.sample(&prepared.pairs[0]).await?;
    fill(few.sql(), ACCOUNTS, FEW).await?;
    let many = Site::start(&lab.scratch, "many", ACCOUNTS).await?;
    many.sample(&prepared.pairs[0]).await?;
    fill(many.sql(), ACCOUNTS, MANY).await?;
    progress("uploads and describes with 1,000 and 1,000,000 stored");

    let callers = prepared.many.callers;
    let uploads = [&few, &many].map(|site| site.uploads(&prepared.pairs, ACCOUNTS, Fingerprints::Omitted));
    let [few_uploads, many_uploads] = uploads;
    let (few_uploads, many_uploads) = (few_uploads?, many_uploads?);
    // The pages that are written whole after the last checkpoint are, for the most part.
    many.sql().batch_execute("checkpoint").await?;
    let (target, until) = (many.target()?, Until::Over(lab.time));
    many.counting(async || closed(target, &many_uploads, callers, until).await)
        .await?;
    // Of one caller the median is told, for which less will do.
    let shorter = Until::Over(lab.time / 2);
    for (callers, until) in [(callers, until), (1, shorter)] {
        let measured = lab
            .in_turn(
                async || {
                    // What was uploaded before is no longer there.
                    fill(few.sql(), ACCOUNTS, FEW).await?;
                    let target = few.target()?;
                    few.counting(async || closed(target, &few_uploads, callers, until).await)
                        .await
                },
                async || {
                    let target = many.target()?;
                    many.counting(async || closed(target, &many_uploads, callers, until).await)
                        .await
                },
            )
            .await?;
        tell(lab, "upload", callers, &measured)?;
    }
    let clients = prepared.many.clients;
    let ceilings = [
        few.pgbench(&lab.scratch, SCRIPT, &sample, ACCOUNTS),
        many.pgbench(&lab.scratch, SCRIPT, &sample, ACCOUNTS),
    ];
    let measured = lab
        .in_turn(
            async || {
                fill(few.sql(), ACCOUNTS, FEW).await?;
                few.counting(async || ceilings[0].run(clients, lab.time)).await
            },
            async || many.counting(async || ceilings[1].run(clients, lab.time)).await,
        )
        .await?;
    tell(lab, "pgbench's upload", clients, &measured)?;

    fill(few.sql(), ACCOUNTS, FEW).await?;
    let (few_describes, many_describes) = (few.describes().await?, many.describes().await?);
    for (callers, until) in [(callers, until), (1, shorter)] {
        let (few, many) = (few.target()?, many.target()?);
        let measured = lab
            .in_turn(
                async || closed(few, &few_describes, callers, until).await,
                async || closed(many, &many_describes, callers, until).await,
            )
            .await?;
        tell(lab, "describe", callers, &measured)?;
    }
    let memory = Memory::of(many.service()?.pid())?;
    lab.report.row(
        "memory with 1,000,000 stored, after that load",
        format!("{:.0} MiB, at most {:.0} MiB", memory.resident, memory.peak),
        String::new(),
        String::new(),
        "150 MiB",
    );
    Ok(())
}

/// The time of an operation: of one caller its median, of many what each of them has of a second.
fn tell(lab: &mut Lab, operation: &str, callers: usize, measured: &[Vec<Measured>; 2]) -> Outcome<()> {
    let time = |measured: &Measured| match callers {
        1 => measured.median(),
        _ => 1000.0 / measured.per_second(),
    };
    let [few, many] = measured
        .each_ref()
        .map(|side| side.iter().map(time).collect::<Vec<_>>());
    let (by, to_reach) = match (callers, operation) {
        (1, _) => ("one caller".to_owned(), "1.1 at most"),
        (_, "pgbench's upload") => (format!("{callers} clients"), ""),
        _ => (format!("{callers} callers"), "1.1 at most"),
    };
    let figure = format!("time of {operation} with 1,000,000 stored, {by}");
    lab.report.row(
        &figure,
        format!("{:.3} ms", median(&many)),
        format!("{:.3} ms (with 1,000 stored)", median(&few)),
        ratio(&many, &few),
        to_reach,
    );
    let [few, many] = measured;
    lab.report.side(
        &figure,
        &Side {
            name: "1,000,000 stored",
            measured: many,
        },
    )?;
    lab.report.side(
        &figure,
        &Side {
            name: "1,000 stored",
            measured: few,
        },
    )
}
