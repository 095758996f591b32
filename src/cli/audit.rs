//! `certkeep audit`: lists, follows and verifies the audit trail.

use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use prost_types::Timestamp;

use super::Failure;
use super::answer::{Effect, answered, failed};
use super::connection::ConnectionArgs;
use super::document::Document;
use super::print::{self, AuditOutput};
use super::search::day;
use crate::grpc::pb;

const PAGE_SIZE: i32 = 1000;
/// The pause before a stream begins again.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(super) struct AuditArgs {
    #[command(subcommand)]
    command: Option<AuditCommand>,
    #[command(flatten)]
    events: EventsArgs,
}

#[derive(Subcommand)]
enum AuditCommand {
    /// Verify that no audit event is missing or was changed.
    Verify(VerifyArgs),
}

#[derive(Args)]
struct EventsArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Print the events that are kept, the oldest first, and then each new one, until Ctrl-C.
    #[arg(long, conflicts_with_all = ["resource", "principal", "methods", "outcomes", "from", "before", "limit"])]
    follow: bool,
    /// File with the place of the last printed event. `--follow` continues there, and updates the file.
    #[arg(long, value_name = "FILE", requires = "follow")]
    token_file: Option<PathBuf>,
    /// Only events about this resource.
    #[arg(long, value_name = "ID")]
    resource: Option<String>,
    /// Only events of this access key or client identity.
    #[arg(long, value_name = "ID")]
    principal: Option<String>,
    /// Only events of this method, for example DeleteServerCertificate; may be repeated.
    #[arg(long = "method", value_name = "NAME")]
    methods: Vec<String>,
    /// Only events with this outcome; may be repeated.
    #[arg(long = "outcome", value_enum)]
    outcomes: Vec<Outcome>,
    /// Only events on this day (UTC) or later.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    from: Option<Timestamp>,
    /// Only events before this day (UTC).
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    before: Option<Timestamp>,
    /// Maximum number of events. Default: all.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: AuditOutput,
}

#[derive(Args)]
struct VerifyArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Head that the service logged earlier. It must still be in a trail; may be repeated.
    #[arg(long = "head", value_name = "HEX")]
    heads: Vec<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: print::ListOutput,
}

#[derive(Clone, Copy, ValueEnum)]
enum Outcome {
    /// The call was done.
    Done,
    /// The call was denied.
    Denied,
    /// A private key was handed out.
    Delivered,
}

pub(super) async fn audit(args: AuditArgs) -> Result<(), Failure> {
    match args.command {
        Some(AuditCommand::Verify(args)) => verify(args).await,
        None if args.events.follow => follow(&args.events).await,
        None => list(&args.events).await,
    }
}

/// Prints all pages, or the newest events up to the limit.
async fn list(args: &EventsArgs) -> Result<(), Failure> {
    let outcome = |outcome: &Outcome| match outcome {
        Outcome::Done => pb::AuditOutcome::Done.into(),
        Outcome::Denied => pb::AuditOutcome::Denied.into(),
        Outcome::Delivered => pb::AuditOutcome::Delivered.into(),
    };
    let mut request = pb::ListAuditEventsRequest {
        resource_id: args.resource.clone().unwrap_or_default(),
        principal: args.principal.clone().unwrap_or_default(),
        methods: args.methods.clone(),
        outcomes: args.outcomes.iter().map(outcome).collect(),
        event_time_from: args.from,
        event_time_before: args.before,
        ..Default::default()
    };
    let mut client = args.connection.connect_as_admin()?;
    let mut all = pb::ListAuditEventsResponse::default();
    let mut count = 0;
    loop {
        let wanted = args.limit.map_or(usize::MAX, |limit| limit as usize - count);
        request.page_size = i32::try_from(wanted).unwrap_or(PAGE_SIZE).min(PAGE_SIZE);
        let page = answered(client.list_audit_events(request.clone()).await, Effect::Reads)?;
        count += page.audit_events.len();
        let is_last = page.next_page_token.is_empty() || page.audit_events.len() >= wanted;
        request.page_token.clone_from(&page.next_page_token);
        match args.output {
            AuditOutput::Json => {
                all.request_id = page.request_id;
                all.audit_events.extend(page.audit_events);
                all.next_page_token = page.next_page_token;
            }
            output => {
                for event in &page.audit_events {
                    print::audit_event(event, output)?;
                }
            }
        }
        if is_last {
            break;
        }
    }
    match args.output {
        AuditOutput::Json => Document::Json.print("ListAuditEventsResponse", &all),
        _ => Ok(()),
    }
}

/// Prints events until the process ends. Connects again after the server closed the stream or could not be reached.
async fn follow(args: &EventsArgs) -> Result<(), Failure> {
    let mut resume_token = match &args.token_file {
        Some(file) => read_token(file)?,
        None => String::new(),
    };
    let mut has_followed = false;
    loop {
        let request = pb::TailAuditEventsRequest {
            resume_token: resume_token.clone(),
        };
        let ended = match args.connection.connect_as_admin()?.tail_audit_events(request).await {
            Err(status) => Err(status),
            Ok(stream) => {
                has_followed = true;
                let mut stream = stream.into_inner();
                loop {
                    match stream.message().await {
                        Ok(Some(message)) => {
                            if let Some(event) = &message.audit_event {
                                print::audit_event(event, args.output)?;
                            }
                            resume_token = message.resume_token;
                            if let Some(file) = &args.token_file {
                                write_token(file, &resume_token)?;
                            }
                        }
                        Ok(None) => break Ok(()),
                        Err(status) => break Err(status),
                    }
                }
            }
        };
        if let Err(status) = ended {
            let failure = failed(status, Effect::Reads);
            // Only an unavailable service is tried again, and only if it has answered before.
            if !has_followed || !failure.is_unavailable() {
                return Err(failure);
            }
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

fn read_token(file: &Path) -> Result<String, Failure> {
    match std::fs::read_to_string(file) {
        Ok(token) => Ok(token.trim().to_owned()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(String::new()),
        Err(error) => Err(Failure::usage(format!("{} is not readable: {error}", file.display()))),
    }
}

/// Replaces the file as a whole: a process that is killed leaves the old token or the new one.
fn write_token(file: &Path, token: &str) -> Result<(), Failure> {
    let mut name = file.as_os_str().to_owned();
    name.push(".new");
    let new = PathBuf::from(name);
    std::fs::write(&new, format!("{token}\n"))
        .and_then(|()| std::fs::rename(&new, file))
        .map_err(|error| Failure::refused(format!("{} cannot be written: {error}", file.display())))
}

async fn verify(args: VerifyArgs) -> Result<(), Failure> {
    let request = pb::VerifyAuditTrailRequest { heads: args.heads };
    let answer = args.connection.connect_as_admin()?.verify_audit_trail(request).await;
    let mut stream = answered(answer, Effect::Reads)?;
    let result = loop {
        let message = stream.message().await.map_err(|status| failed(status, Effect::Reads))?;
        match message {
            Some(message) if message.complete => break message,
            Some(_) => {}
            None => return Err(Failure::unavailable("the verification ended without a result")),
        }
    };
    print::verified(&result, args.output)?;
    let is_whole = result.missing_heads.is_empty() && result.trails.iter().all(|trail| trail.broken_position == 0);
    match is_whole {
        true => Ok(()),
        false => Err(Failure::silent(1)),
    }
}
