//! `certkeep leases`: lists who serves which certificate.

use clap::Args;

use super::Failure;
use super::answer::{Effect, answered, pages};
use super::connection::ConnectionArgs;
use super::print::{moment, plain};
use super::table::{Column, Row, TableArgs};
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
    #[command(flatten)]
    shown: TableArgs<pb::Lease>,
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
    args.shown.print("ListLeasesResponse", &all, "leases", &all.leases)
}

impl Row for pb::Lease {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("holder", |lease| plain(&lease.holder)),
        Column::new("served", |lease| version(lease.served_version)),
        Column::new("sent", |lease| version(lease.sent_version)),
        Column::extra("rejected", |lease| match lease.rejected_version {
            0 => String::new(),
            refused => plain(&format!("{refused}: {}", lease.rejection)),
        }),
        Column::extra("kind", |lease| {
            let kind = match lease.kind() {
                pb::LeaseKind::Timed => "timed",
                pb::LeaseKind::Watch => "watch",
                pb::LeaseKind::Sds => "SDS",
                pb::LeaseKind::Unspecified => "",
            };
            kind.to_owned()
        }),
        Column::extra("ends", |lease| match lease.expire_time {
            Some(time) => moment(Some(time)),
            None => "with its stream".to_owned(),
        }),
        Column::extra("principal", |lease| plain(&lease.principal)),
        Column::new("certificate", |lease| plain(&lease.server_certificate_id)),
    ];
}

fn version(version: i64) -> String {
    match version {
        0 => String::new(),
        version => version.to_string(),
    }
}
