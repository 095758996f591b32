//! certkeep beside the ceilings of what it stands on: `make bench`. Everything that is compared is measured in one run on one
//! machine, in turn, over loopback and Unix sockets; a scratch Postgres with durable settings is started for it, in the
//! directory for temporary files (TMPDIR), and removed.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::print_stdout,
    clippy::print_stderr,
    missing_docs,
    reason = "a benchmark prints, and may panic"
)]

mod calls;
mod child;
mod cpu;
mod echo;
mod figures;
mod fill;
mod lab;
mod load;
mod machine;
mod measured;
mod pairs;
mod pgbench;
mod picture;
mod postgres;
mod report;
mod service;
mod site;
mod wire;

use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use figures::upload::{Prepared, Uploads};
use figures::{curve, lone, million, process, read};
use lab::{ACCOUNTS, Lab, PER_ACCOUNT, progress};
use pairs::Key;
use postgres::Scratch;
use report::Report;
use site::Site;

/// As certkeep's own, for the echo.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Where the report and the picture are written to, from the directory in which cargo runs benchmarks.
const WRITTEN: &str = "target/bench";

#[derive(Clone, Copy, Debug, Eq, PartialEq, ValueEnum)]
enum Figure {
    /// Uploads of P-256 pairs by many callers.
    Upload,
    /// Uploads of RSA-2048 pairs by many callers.
    Rsa,
    /// Uploads by one caller at a time.
    OneCaller,
    /// Uploads by many callers of one account.
    OneAccount,
    /// Describes by id.
    Describe,
    /// Pages of 50.
    Page,
    /// Latency of uploads at half of the highest load, and the picture over load.
    Latency,
    /// The process's memory and size.
    Memory,
    /// How soon a certkeep that is started answers.
    Start,
    /// A lone upload whose answer holds 10,000 fingerprints.
    Lone,
    /// Uploads and describes with 1,000,000 certificates stored.
    Million,
}

/// certkeep beside the ceilings of what it stands on.
#[derive(Parser)]
struct Options {
    /// Which figures to measure. Default: all.
    figures: Vec<Figure>,
    /// For how long each side is measured each time.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often the sides are measured in turn.
    #[arg(long, default_value_t = 3)]
    repeats: usize,
    /// Serve an echo of so many bytes: this program's own child.
    #[arg(long, hide = true)]
    echo: Option<usize>,
    /// What cargo says to benchmarks.
    #[arg(long, hide = true)]
    bench: bool,
}

fn main() -> ExitCode {
    let options = Options::parse();
    let outcome = match options.echo {
        Some(answer) => echo::serve(answer),
        None => tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map_err(Into::into)
            .and_then(|runtime| runtime.block_on(run(&options))),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let mut text = error.to_string();
            let mut cause = error.source();
            while let Some(error) = cause {
                text.push_str(&format!(": {error}"));
                cause = error.source();
            }
            eprintln!("error: {text}");
            ExitCode::FAILURE
        }
    }
}

async fn run(options: &Options) -> Outcome<()> {
    std::fs::create_dir_all(WRITTEN)?;
    progress("starts a scratch Postgres");
    #[expect(clippy::disallowed_methods, reason = "Postgres is searched for as a user would")]
    let path = std::env::var_os("PATH");
    let mut lab = Lab {
        scratch: Scratch::start(path.as_deref()).await?,
        time: Duration::from_secs(options.seconds.max(1)),
        repeats: options.repeats.max(1),
        report: Report::default(),
    };
    let measured = measure(options, &mut lab).await;
    let Lab { scratch, report, .. } = lab;
    progress("stops the scratch Postgres");
    scratch.end().await?;
    // What was measured is told even if something failed then.
    let report = report.markdown();
    print!("{report}");
    std::fs::write(Path::new(WRITTEN).join("report.md"), report)?;
    measured
}

async fn measure(options: &Options, lab: &mut Lab) -> Outcome<()> {
    let wanted = |figure| options.figures.is_empty() || options.figures.contains(&figure);
    lab.report.fact(machine::description(lab.scratch.dir()));
    lab.report.fact(lab.scratch.description().await?);
    lab.report.fact(format!(
        "{} repeats of {} s; uploads by {ACCOUNTS} accounts with {PER_ACCOUNT} certificates each before",
        lab.repeats,
        lab.time.as_secs()
    ));
    let site = Site::start(&lab.scratch, "bench", ACCOUNTS).await?;
    progress("makes P-256 pairs");
    let prepared = Prepared::new(lab, &site, pairs::make(Key::P256)?).await?;
    let (uploads, many) = (&prepared.uploads, prepared.many);
    fill::fill(site.sql(), ACCOUNTS, ACCOUNTS * PER_ACCOUNT).await?;
    if wanted(Figure::Upload) {
        uploads
            .many(lab, &site, ("uploads, P-256", "1.0, then 1.2"), many)
            .await?;
    }
    if wanted(Figure::Rsa) {
        progress("makes RSA-2048 pairs");
        let pairs = pairs::make(Key::Rsa)?;
        let sample = site.sample(&pairs[0]).await?;
        let uploads = Uploads::new(lab, &site, &pairs, &sample, ACCOUNTS)?;
        uploads.many(lab, &site, ("uploads, RSA-2048", "1.0"), many).await?;
        // Rows are filled as those of the others.
        site.sample(&prepared.pairs[0]).await?;
    }
    if wanted(Figure::OneCaller) {
        uploads
            .one(lab, &site, ("uploads, one caller at a time", "0.6"))
            .await?;
    }
    if wanted(Figure::OneAccount) {
        let uploads = Uploads::new(lab, &site, &prepared.pairs, &prepared.sample, 1)?;
        let figure = ("uploads, one account", "");
        uploads.of_one_account(lab, &site, figure, many.callers).await?;
    }
    if wanted(Figure::Describe) {
        read::by_id(lab, &site, ("describe by id", "0.6")).await?;
    }
    if wanted(Figure::Page) {
        read::page(lab, &site, &prepared.sample, ("page of 50", "0.6")).await?;
    }
    if wanted(Figure::Latency) {
        let figure = (
            "p99 of an upload at half of the highest load",
            "under 10 ms on two cores",
        );
        let picture = curve::latency(lab, &site, &prepared, figure).await?;
        picture.write(&Path::new(WRITTEN).join("load.svg"))?;
    }
    if wanted(Figure::Memory) {
        process::memory(lab, &site, &prepared).await?;
    }
    if wanted(Figure::Start) {
        process::start(lab, &site).await?;
    }
    if wanted(Figure::Lone) {
        let figure = ("lone upload, 10,000 fingerprints answered", "0.7");
        lone::upload(lab, &site, &prepared.pairs, &prepared.sample, figure).await?;
    }
    if wanted(Figure::Million) {
        million::stored(lab, &prepared).await?;
    }
    Ok(())
}
