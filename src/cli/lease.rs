//! `certkeep leases`: lists who serves which certificate.

use clap::Args;

use super::Failure;
use super::answer::{Effect, answered, pages};
use super::connection::ConnectionArgs;
use super::print::{self, ListOutput, moment, plain};
use crate::grpc::pb;

#[derive(Args)]
pub(super) struct LeasesArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Only leases on this certificate.
    #[arg(long, value_name = "ID")]
    certificate: Option<String>,
    /// Only leases of this holder.
    #[arg(long, value_name = "NAME")]
    holder: Option<String>,
    /// Only holders that do not serve the present version, have not said which one they serve, or refused the present one.
    #[arg(long)]
    behind: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

pub(super) async fn leases(args: LeasesArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect_to_deliveries()?;
    let request = pb::ListLeasesRequest {
        server_certificate_id: args.certificate.unwrap_or_default(),
        holder: args.holder.unwrap_or_default(),
        behind: args.behind,
        page_size: 1000,
        page_token: String::new(),
    };
    let mut all = pb::ListLeasesResponse::default();
    pages(async |page_token| {
        let request = pb::ListLeasesRequest {
            page_token,
            ..request.clone()
        };
        let page = answered(client.list_leases(request).await, Effect::Reads)?;
        all.request_id = page.request_id;
        all.leases.extend(page.leases);
        Ok(page.next_page_token)
    })
    .await?;
    match args.output {
        ListOutput::Json => print::json("ListLeasesResponse", &all),
        ListOutput::Table => print::table(
            &[
                "CERTIFICATE",
                "HOLDER",
                "KIND",
                "SENT",
                "SERVED",
                "REJECTED",
                "ENDS",
                "PRINCIPAL",
            ],
            all.leases.iter().map(row),
        ),
    }
}

fn row(lease: &pb::Lease) -> [String; 8] {
    let version = |version: i64| match version {
        0 => String::new(),
        version => version.to_string(),
    };
    let rejected = match lease.rejected_version {
        0 => String::new(),
        refused => format!("{refused}: {}", lease.rejection),
    };
    let kind = match lease.kind() {
        pb::LeaseKind::Timed => "timed",
        pb::LeaseKind::Watch => "watch",
        pb::LeaseKind::Sds => "SDS",
        pb::LeaseKind::Unspecified => "",
    };
    let ends = match lease.expire_time {
        Some(time) => moment(Some(time)),
        None => "with its stream".to_owned(),
    };
    [
        plain(&lease.server_certificate_id),
        plain(&lease.holder),
        kind.to_owned(),
        version(lease.sent_version),
        version(lease.served_version),
        plain(&rejected),
        ends,
        plain(&lease.principal),
    ]
}
