//! `certkeep watch`: prints the present server certificates, and then each change.

use std::time::Duration;

use clap::Args;
use tokio::time::Instant;
use tonic::{Status, Streaming};
use tonic_types::StatusExt;

use super::Failure;
use super::answer::{Effect, failed};
use super::connection::ConnectionArgs;
use super::print::{self, AuditOutput};
use super::tag::tags;
use crate::grpc::pb::{self, Reason};

/// A watch has a message at least every 30 seconds. One that is silent for this long has lost its server.
const MAX_SILENCE: Duration = Duration::from_secs(75);
/// The pause before a watch begins again.
const RECONNECT: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct WatchArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Only certificates in this region.
    #[arg(long)]
    region: Option<String>,
    /// Id of a certificate; up to 1,000. Default: all.
    #[arg(value_name = "ID")]
    ids: Vec<String>,
    /// Only certificates in this resource group.
    #[arg(long, value_name = "ID")]
    resource_group: Option<String>,
    /// Only certificates with this tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// Only certificates whose name starts with this text.
    #[arg(long, value_name = "TEXT")]
    name_prefix: Option<String>,
    /// Print the chains too.
    #[arg(long)]
    with_chain: bool,
    /// Continue after the message with this token, with the same filters.
    #[arg(long, value_name = "TOKEN")]
    resume_token: Option<String>,
    /// Hold each printed certificate under this name: nobody deletes it without force meanwhile. Needs the role consumer.
    #[arg(long, value_name = "NAME")]
    holder: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: AuditOutput,
}

/// Prints messages until the process ends. Goes on after the last one when the stream ended, and the service can still be called.
pub(super) async fn watch(args: WatchArgs) -> Result<(), Failure> {
    let mut request = pb::WatchServerCertificatesRequest {
        region_id: args.region.unwrap_or_default(),
        server_certificate_ids: args.ids,
        resource_group_id: args.resource_group.unwrap_or_default(),
        tags: tags(&args.tags)?,
        server_certificate_name_prefix: args.name_prefix.unwrap_or_default(),
        with_certificate_chain: args.with_chain,
        resume_token: args.resume_token.unwrap_or_default(),
        holder: args.holder.unwrap_or_default(),
    };
    let mut has_watched = false;
    loop {
        let mut client = args.connection.connect_to_deliveries()?;
        let ended = match client.watch_server_certificates(request.clone()).await {
            Err(status) => status,
            Ok(stream) => {
                has_watched = true;
                let mut stream = stream.into_inner();
                loop {
                    match next_message(&mut stream, Instant::now()).await {
                        Ok(Some(message)) => {
                            print::watched(&message, args.output)?;
                            request.resume_token = message.resume_token;
                        }
                        Ok(None) => break Status::unavailable("the stream ended"),
                        Err(status) => break status,
                    }
                }
            }
        };
        let details = ended.get_error_details();
        let reason = details.error_info().map(|info| info.reason.as_str());
        let may_resume = [Reason::StreamEnded, Reason::WatcherTooSlow]
            .iter()
            .any(|known| reason == Some(known.name()));
        let failure = failed(ended, Effect::Reads);
        // An unavailable service is tried again only if it has answered before.
        if !(may_resume || has_watched && failure.is_unavailable()) {
            return Err(failure);
        }
        tokio::time::sleep(RECONNECT).await;
    }
}

/// The next message of a watch whose last message came at this moment. A watch that is silent for too long is unavailable.
pub(super) async fn next_message(
    stream: &mut Streaming<pb::WatchServerCertificatesResponse>,
    last: Instant,
) -> Result<Option<pb::WatchServerCertificatesResponse>, Status> {
    match tokio::time::timeout_at(last + MAX_SILENCE, stream.message()).await {
        Ok(message) => message,
        Err(_) => Err(Status::unavailable("the watch has been silent for too long")),
    }
}
