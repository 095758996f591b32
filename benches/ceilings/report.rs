//! The report: what was measured, as Markdown.

use std::fmt::Write as _;
use std::time::Duration;

use crate::Outcome;
use crate::lab::progress;
use crate::measured::{Measured, median};

/// The tables, as they grow.
#[derive(Default)]
pub struct Report {
    facts: Vec<String>,
    rows: Vec<[String; 5]>,
    sides: Vec<[String; 9]>,
}

/// One side of a comparison: its name, and what was measured of it.
pub struct Side<'a> {
    pub name: &'a str,
    pub measured: &'a [Measured],
}

impl Report {
    pub fn fact(&mut self, fact: String) {
        self.facts.push(fact);
    }

    /// A row of the first table.
    pub fn row(&mut self, figure: &str, certkeep: String, ceiling: String, ratio: String, to_reach: &str) {
        let row = [figure.to_owned(), certkeep, ceiling, ratio, to_reach.to_owned()];
        progress(&row.join(" | "));
        self.rows.push(row);
    }

    /// Operations in a second, beside those of the ceiling.
    pub fn throughput(&mut self, figure: &str, certkeep: Side<'_>, ceiling: Side<'_>, to_reach: &str) -> Outcome<()> {
        let per_second = |side: &Side<'_>| side.measured.iter().map(Measured::per_second).collect::<Vec<_>>();
        let (ours, theirs) = (per_second(&certkeep), per_second(&ceiling));
        let rate = |values: &[f64]| format!("{:.0}/s", median(values));
        self.row(
            figure,
            rate(&ours),
            format!("{} ({})", rate(&theirs), ceiling.name),
            ratio(&ours, &theirs),
            to_reach,
        );
        self.side(figure, &certkeep)?;
        self.side(figure, &ceiling)
    }

    /// A row of the second table: all repeats together.
    pub fn side(&mut self, figure: &str, side: &Side<'_>) -> Outcome<()> {
        let all = Measured::together(side.measured)?;
        let each = |time: Duration| format!("{:.0}", time.as_secs_f64() * 1e6 / all.operations as f64);
        let quantile = |quantile| format!("{:.2}", all.quantile(quantile));
        self.sides.push([
            figure.to_owned(),
            side.name.to_owned(),
            format!("{:.0}", all.per_second()),
            each(all.cpu.generator),
            each(all.cpu.server),
            each(all.cpu.postgres),
            quantile(0.5),
            quantile(0.99),
            quantile(0.999),
        ]);
        Ok(())
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from("# certkeep beside its ceilings\n\n");
        for fact in &self.facts {
            let _ = writeln!(text, "- {fact}");
        }
        text.push_str(
            "\nMedians over interleaved repeats; of the ratios the smallest and the largest too. A ratio of 1 is as fast as \
             the ceiling, more is faster; where the figure says time, less is faster.\n\n",
        );
        table(
            &mut text,
            ["figure", "certkeep", "ceiling", "ratio", "to reach"],
            &self.rows,
        );
        text.push_str(
            "\nProcessor time of one operation in microseconds, of the load generator, of the server (certkeep, or the echo), and \
             of Postgres with all its processes; latency in milliseconds as the caller sees it.\n\n",
        );
        let head = [
            "figure",
            "side",
            "per second",
            "generator",
            "server",
            "Postgres",
            "p50",
            "p99",
            "p99.9",
        ];
        table(&mut text, head, &self.sides);
        text
    }
}

fn table<const N: usize>(text: &mut String, head: [&str; N], rows: &[[String; N]]) {
    let _ = writeln!(text, "| {} |", head.join(" | "));
    let _ = writeln!(text, "|{}", " --- |".repeat(N));
    for row in rows {
        let _ = writeln!(text, "| {} |", row.join(" | "));
    }
}

/// One side's values by the other's, repeat by repeat: the median, the smallest and the largest.
pub fn ratio(above: &[f64], below: &[f64]) -> String {
    let ratios: Vec<f64> = above.iter().zip(below).map(|(above, below)| above / below).collect();
    let least = ratios.iter().copied().fold(f64::INFINITY, f64::min);
    let most = ratios.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    format!("**{:.2}** ({least:.2}–{most:.2})", median(&ratios))
}
