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
mod pairs;
mod pgbench;
mod postgres;
mod report;
mod service;
mod site;
mod wire;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Parser, ValueEnum};

use figures::describe;
use figures::upload::Uploads;
use lab::{ACCOUNTS, Lab, PER_ACCOUNT, progress};
use pairs::Key;
use postgres::Scratch;
use report::Report;
use site::Site;

pub type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

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
}

/// certkeep beside the ceilings of what it stands on.
#[derive(Parser)]
struct Options {
    /// Which figures to measure. Default: all.
    figures: Vec<Figure>,
    /// For how long each side is measured each time.
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// How often both sides are measured in turn.
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
    progress("starts a scratch Postgres");
    #[expect(clippy::disallowed_methods, reason = "Postgres is searched for as a user would")]
    let path = std::env::var_os("PATH");
    let mut lab = Lab {
        scratch: Scratch::start(path.as_deref()).await?,
        seconds: Duration::from_secs(options.seconds),
        repeats: options.repeats.max(1),
        report: Report::default(),
    };
    let measured = measure(options, &mut lab).await;
    let Lab { scratch, report, .. } = lab;
    scratch.end().await?;
    measured?;
    let markdown = report.markdown();
    print!("{markdown}");
    Ok(())
}

async fn measure(options: &Options, lab: &mut Lab) -> Outcome<()> {
    let wanted = |figures: &[Figure]| {
        options.figures.is_empty() || figures.iter().any(|figure| options.figures.contains(figure))
    };
    lab.report.fact(lab.scratch.description().await?);
    let site = Site::start(&lab.scratch, "bench", ACCOUNTS).await?;
    let uploads = Uploads::prepare(lab, &site, Key::P256).await?;
    fill::fill(site.sql(), ACCOUNTS, ACCOUNTS * PER_ACCOUNT).await?;
    if wanted(&[Figure::Upload]) {
        uploads.many(lab, &site).await?;
    }
    if wanted(&[Figure::OneCaller]) {
        uploads.one(lab, &site).await?;
    }
    if wanted(&[Figure::OneAccount]) {
        uploads.one_account(lab, &site).await?;
    }
    if wanted(&[Figure::Rsa]) {
        Uploads::prepare(lab, &site, Key::Rsa).await?.many(lab, &site).await?;
    }
    if wanted(&[Figure::Describe]) {
        describe::by_id(lab, &site).await?;
    }
    Ok(())
}
