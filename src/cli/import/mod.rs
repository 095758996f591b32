//! `import`: uploads every pair of a folder, or renews stored certificates with it. It can be interrupted, killed and repeated: no pair is stored twice.

mod folder;
mod pairs;
mod renewing;
mod report;
mod sending;

use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::answer::{Effect, failed};
use super::connection::ConnectionArgs;
use super::file::{PasswordArgs, way_out};
use super::login::hidden_line;
use super::print::{self, ListOutput};
use super::tag::tags;
use super::{Failure, words};
use crate::app::{FileFormatError, FormatCause};
use crate::grpc;
use crate::secret::Secret;
use folder::{Folder, FoundFile, NotTaken};
use pairs::{Left, Pair, pair_up};
use renewing::{Renewal, Step, steps};
use report::{Entry, Report, State};
use sending::Sender;

#[derive(Args)]
pub(super) struct ImportArgs {
    /// The folder. Files in subfolders and targets of symbolic links are included.
    dir: PathBuf,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The region of the certificates. Default: the context's, else the only region of the service. [env: CERTKEEP_REGION]
    #[arg(long)]
    region: Option<String>,
    /// Renew each certificate of the region for which the folder has a pair with the same names that expires later, and upload the
    /// other pairs.
    #[arg(long)]
    renew: bool,
    /// Number of uploads at once.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=32))]
    jobs: u8,
    /// Id of the resource group of the certificates. Default: the account's default group.
    #[arg(long, value_name = "ID")]
    resource_group: Option<String>,
    /// A tag for every certificate; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// The source of the certificates' names.
    #[arg(long, value_enum, default_value_t)]
    name_from: NameFrom,
    /// How long to retry an upload while the server is unavailable.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    retry_for: u64,
    /// Check everything and store nothing.
    #[arg(long)]
    dry_run: bool,
    /// The format of the report.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

/// The source of a certificate's name.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum NameFrom {
    /// The path of its file relative to the folder, without the extension.
    File,
    /// Its common name.
    #[default]
    Certificate,
}

pub(super) async fn import(args: ImportArgs) -> Result<(), Failure> {
    let stop = CancellationToken::new();
    tokio::spawn(cancel_at_interrupt(stop.clone()));
    let mut sender = Sender {
        client: args.connection.connect()?,
        root: args.dir,
        region: args.connection.region(args.region)?,
        resource_group: args.resource_group.unwrap_or_default(),
        tags: tags(&args.tags)?,
        name_from: args.name_from,
        is_dry_run: args.dry_run,
        is_renewing: args.renew,
        retry_for: Duration::from_secs(args.retry_for),
        stop: stop.clone(),
        password: args.password.read()?,
        bar: ProgressBar::no_length(),
    };
    sender.bar.set_style(style("{spinner} {msg}"));
    if sender.region.is_empty() {
        sender.region = match sender.only_region().await {
            Ok(Some(region)) => region,
            Ok(None) => {
                return Err(Failure::usage(
                    "the service has several regions: say --region; `certkeep regions` lists them",
                ));
            }
            Err(_) if stop.is_cancelled() => return Err(Failure::silent(130)),
            Err(status) => return Err(failed(status, Effect::Reads)),
        };
    }
    let mut folder = read_folder(&sender).await?;
    if folder.is_locked() && sender.password.is_none() && io::stdin().is_terminal() {
        let mut line = hidden_line("password of the encrypted files: ").await?;
        sender.password = Some(Secret::from(std::mem::take(&mut *line)));
        folder = read_folder(&sender).await?;
    }
    let sender = Arc::new(sender);
    let Folder { files, others } = folder;
    if files.is_empty() && others.is_empty() && !stop.is_cancelled() {
        print::note(&format!("no files in {}", sender.root.display()));
    }
    let (pairs, left) = pair_up(&files);
    let mut entries: Vec<_> = left
        .iter()
        .map(|(index, left)| entry_of(&files, *index, left))
        .collect();
    entries.extend(others.iter().map(|(path, why)| entry_of_other(&sender.root, path, why)));
    // Listed before the first upload, so that existing certificates are recognised without comparing clocks, and are unchanged even
    // if the client tokens of an earlier import have expired.
    let stored = match sender.stored().await {
        Ok(stored) => stored,
        Err(_) if stop.is_cancelled() => return Err(Failure::silent(130)),
        Err(status) => return Err(failed(status, Effect::Reads)),
    };
    let mut calls = Vec::new();
    for (pair, step) in steps(&files, pairs, &stored, args.renew) {
        let entry = |state| Entry::new(state, paths(&files, &pair));
        match step {
            Step::Upload => calls.push((pair, None)),
            Step::Renew(renewal) => calls.push((pair, Some(renewal))),
            Step::AlreadyThere(stored) => entries.push(entry(State::AlreadyThere).about(&stored.id, &stored.name)),
            Step::Older(newer) => entries.push(entry(State::Older).because("", format!("than {newer}"))),
        }
    }
    entries.extend(send_all(&sender, files, calls, args.jobs.into()).await);
    entries.sort_by(|a, b| (&a.files, &a.id).cmp(&(&b.files, &b.id)));
    let report = Report {
        entries,
        was_interrupted: stop.is_cancelled(),
    };
    report.print(args.output)?;
    report.exit_code()
}

async fn read_folder(sender: &Sender) -> Result<Folder, Failure> {
    let (root, password, stop) = (sender.root.clone(), sender.password.clone(), sender.stop.clone());
    let reading = tokio::task::spawn_blocking(move || Folder::read(&root, password.as_ref(), &stop));
    let folder = reading.await.map_err(|error| Failure::from_error(&error))?;
    folder.map_err(|error| Failure::usage(format!("{} is not readable: {error}", sender.root.display())))
}

async fn cancel_at_interrupt(stop: CancellationToken) {
    // If the signal cannot be caught, it ends the process.
    if tokio::signal::ctrl_c().await.is_ok() {
        stop.cancel();
    }
}

/// Uploads the pairs, or renews certificates with them, at most `jobs` at once, until it is told to stop or the server stays
/// unavailable.
async fn send_all(
    sender: &Arc<Sender>,
    files: Vec<FoundFile>,
    calls: Vec<(Pair, Option<Renewal>)>,
    jobs: usize,
) -> Vec<Entry> {
    let files = Arc::new(files);
    let bar = &sender.bar;
    bar.set_length(calls.len() as u64);
    bar.set_style(style("{bar:40} {pos} of {len}, {eta} left  {msg}"));
    let mut entries = Vec::with_capacity(calls.len());
    let mut waiting = calls.into_iter();
    let mut running = JoinSet::new();
    let mut is_unavailable = false;
    loop {
        while running.len() < jobs && !is_unavailable && !sender.stop.is_cancelled() {
            let Some((pair, renewal)) = waiting.next() else { break };
            let (sender, files) = (sender.clone(), files.clone());
            running.spawn(async move { sender.send(&files, &pair, renewal.as_ref()).await });
        }
        let Some(done) = running.join_next().await else { break };
        // No task is aborted, so an error is a panic.
        let sent: Vec<Entry> = done.unwrap_or_else(|panic| std::panic::resume_unwind(panic.into_panic()));
        // Every other call would wait as long.
        is_unavailable |= sent.iter().any(|entry| entry.state == State::NotSent);
        entries.extend(sent);
        bar.inc(1);
    }
    bar.finish_and_clear();
    entries.extend(waiting.map(|(pair, _)| Entry::new(State::NotSent, paths(&files, &pair))));
    entries
}

/// The style of a progress bar, which indicatif shows on standard error if that is a terminal.
fn style(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}

fn paths<'a>(files: &'a [FoundFile], pair: &Pair) -> impl Iterator<Item = &'a Path> {
    pair.files().map(|index| files[index].path.as_path())
}

/// The entry of a file that is not taken.
fn entry_of_other(root: &Path, path: &Path, why: &NotTaken) -> Entry {
    let entry = |state, format| Entry {
        format,
        ..Entry::new(state, [path])
    };
    match why {
        NotTaken::Unreadable(cause) => entry(State::Unreadable, None).because("", cause.as_str()),
        NotTaken::NoFile(what) => entry(State::Ignored, None).because("", *what),
        NotTaken::TooLarge(format) => {
            // A large file of an unknown format is no certificate.
            let state = if format.may_hold_pair() {
                State::Unreadable
            } else {
                State::Ignored
            };
            entry(state, Some(*format)).because("FILE_TOO_LARGE", format!("{format} of more than 1 MiB: split it"))
        }
        NotTaken::Format(error) => {
            let FileFormatError { format, cause } = *error;
            let (state, reason) = match cause {
                FormatCause::PasswordMissing => (State::Unreadable, "PASSWORD_MISSING"),
                FormatCause::PasswordWrong => (State::Unreadable, "PASSWORD_WRONG"),
                FormatCause::Damaged => (State::Unreadable, "FILE_DAMAGED"),
                FormatCause::NotRead => (State::Unreadable, "FORMAT_NOT_READ"),
                FormatCause::HoldsNeither => (State::Ignored, "NO_PAIR"),
            };
            let way_out = way_out(*error, &root.join(path));
            entry(state, Some(format)).because(reason, format!("{format} {way_out}"))
        }
    }
}

/// The entry of a file that is in no pair.
fn entry_of(files: &[FoundFile], index: usize, left: &Left) -> Entry {
    let entry = |state| Entry::new(state, [files[index].path.as_path()]);
    match left {
        Left::NoKey => entry(State::NoKey).because("NO_KEY", "no file of the folder has its private key"),
        Left::NoCertificate => {
            entry(State::NoCertificate).because("NO_CERTIFICATE", "no file of the folder has its certificate")
        }
        Left::Unreadable(violation) => {
            let told = grpc::violation(violation, words::file);
            entry(State::Unreadable).because(told.reason().name(), told.description)
        }
        Left::Authority => entry(State::Authority).because("", "`certkeep ca upload` stores CA certificates"),
        Left::AuthorityPair(key) => {
            let both = [index].into_iter().chain(*key).map(|index| files[index].path.as_path());
            Entry::new(State::AuthorityPair, both).because(
                "",
                "of a CA and not of a server, so it is not stored: keep the private key with the CA",
            )
        }
        Left::Duplicate(of) => entry(State::Duplicate).because("", format!("of {}", files[*of].path.display())),
    }
}
