//! `renew`, `versions` and `rollback`.

use clap::Args;

use super::answer::{Effect, answered, pages};
use super::connection::ConnectionArgs;
use super::file::{PairArgs, PairTexts};
use super::print::{self, ListOutput, line, lines, moment, plain};
use super::table::{Column, Row, TableArgs};
use super::{Failure, target};
use crate::grpc::pb;

#[derive(Args)]
pub(super) struct RenewArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the certificate, or its name if no other certificate has it.
    id: String,
    #[command(flatten)]
    pair: PairArgs,
    /// Only if the certificate is in this region.
    #[arg(long)]
    region: Option<String>,
    /// Renew every certificate of the account that has the same pair now, in any region: all or none.
    #[arg(long)]
    everywhere: bool,
    /// Renew also if the new certificate does not cover a name of the present one.
    #[arg(long)]
    allow_lost_names: bool,
    /// Only if the certificate still has this etag.
    #[arg(long, value_name = "ETAG")]
    if_etag: Option<String>,
    /// Up to 64 characters that identify this renewal. A retry with the same token renews only once.
    #[arg(long, value_name = "TOKEN")]
    client_token: Option<String>,
    /// Check everything and store nothing.
    #[arg(long)]
    validate_only: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct VersionsArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the certificate, or its name if no other certificate has it.
    id: String,
    /// Only if the certificate is in this region.
    #[arg(long)]
    region: Option<String>,
    #[command(flatten)]
    shown: TableArgs<pb::ServerCertificateVersion>,
}

#[derive(Args)]
pub(super) struct RollbackArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the certificate, or its name if no other certificate has it.
    id: String,
    /// The earlier version whose pair the certificate gets again. `certkeep versions` lists the versions.
    version: i64,
    /// Only if the certificate is in this region.
    #[arg(long)]
    region: Option<String>,
    /// Only if the certificate still has this etag.
    #[arg(long, value_name = "ETAG")]
    if_etag: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

pub(super) async fn renew(args: RenewArgs) -> Result<(), Failure> {
    let PairTexts { certificate, mut key } = args.pair.read().await?;
    let region = args.region.unwrap_or_default();
    let mut client = args.connection.connect()?;
    let request = pb::RenewServerCertificateRequest {
        server_certificate_id: target::server_certificate(&mut client, &args.id, &region).await?,
        region_id: region,
        server_certificate: certificate.to_string(),
        private_key: std::mem::take(&mut *key),
        ali_cloud_certificate_id: args.pair.ali_cloud_certificate_id.unwrap_or_default(),
        allow_lost_names: args.allow_lost_names,
        everywhere: args.everywhere,
        if_etag: args.if_etag.unwrap_or_default(),
        client_token: args.client_token.unwrap_or_default(),
        validate_only: args.validate_only,
        ..Default::default()
    };
    let answer = client.renew_server_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    if let Some(document) = args.output.document() {
        return document.print("RenewServerCertificateResponse", &answer);
    }
    let certificate = answer.server_certificate.unwrap_or_default();
    let mut shown = certificate_lines(&certificate, answer.previous_version).to_vec();
    if args.everywhere {
        shown.extend(answer.server_certificate_ids.iter().map(|id| line("renewed", id)));
    }
    if !answer.lost_names.is_empty() {
        shown.push(line("lost names", &answer.lost_names.join(", ")));
    }
    shown.push(line("request id", &answer.request_id));
    shown.extend(answer.findings.iter().map(print::finding));
    lines(&shown)
}

pub(super) async fn versions(args: VersionsArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect()?;
    let region = args.region.unwrap_or_default();
    let request = pb::ListServerCertificateVersionsRequest {
        server_certificate_id: target::server_certificate(&mut client, &args.id, &region).await?,
        region_id: region,
        page_size: 1000,
        page_token: String::new(),
    };
    let mut all = pb::ListServerCertificateVersionsResponse::default();
    pages(async |page_token| {
        let request = pb::ListServerCertificateVersionsRequest {
            page_token,
            ..request.clone()
        };
        let page = answered(client.list_server_certificate_versions(request).await, Effect::Reads)?;
        all.request_id = page.request_id;
        all.versions.extend(page.versions);
        Ok(page.next_page_token)
    })
    .await?;
    args.shown
        .print("ListServerCertificateVersionsResponse", &all, "versions", &all.versions)
}

impl Row for pb::ServerCertificateVersion {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("version", |version| match version.rolled_back_to {
            0 => version.version.to_string(),
            earlier => format!("{} (as {earlier})", version.version),
        }),
        Column::new("from", |version| moment(version.begin_time)),
        Column::new("to", |version| {
            version
                .end_time
                .map_or_else(|| "present".to_owned(), |end| moment(Some(end)))
        }),
        Column::new("expires", |version| print::date(expiry(version))),
        Column::extra("common-name", |version| plain(&version.common_name)),
        Column::extra("key", |version| print::key(version.key_algorithm(), version.key_size)),
        Column::extra("purged-by", |version| moment(version.purge_time)),
        Column::text("by", |version| plain(&version.principal)),
    ];

    fn expiry(&self) -> Option<i64> {
        Some(expiry(self))
    }
}

/// The earliest end of the certificate and its issuers, in milliseconds since 1970.
fn expiry(version: &pb::ServerCertificateVersion) -> i64 {
    print::millis(version.chain_expire_time.or(version.not_after))
}

pub(super) async fn rollback(args: RollbackArgs) -> Result<(), Failure> {
    let region = args.region.unwrap_or_default();
    let mut client = args.connection.connect()?;
    let request = pb::RollbackServerCertificateRequest {
        server_certificate_id: target::server_certificate(&mut client, &args.id, &region).await?,
        region_id: region,
        version: args.version,
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = client.rollback_server_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    if let Some(document) = args.output.document() {
        return document.print("RollbackServerCertificateResponse", &answer);
    }
    let certificate = answer.server_certificate.unwrap_or_default();
    let mut shown = certificate_lines(&certificate, certificate.version - 1).to_vec();
    shown.push(line("request id", &answer.request_id));
    lines(&shown)
}

fn certificate_lines(certificate: &pb::ServerCertificate, previous_version: i64) -> [String; 10] {
    let version = match certificate.version == previous_version {
        true => format!("{previous_version} (unchanged)"),
        false => format!("{} (before: {previous_version})", certificate.version),
    };
    [
        line("id", &certificate.server_certificate_id),
        line("name", &certificate.server_certificate_name),
        line("region", &certificate.region_id),
        line("version", &version),
        line("common name", &certificate.common_name),
        line("names", &certificate.subject_alternative_names.join(", ")),
        print::expiry_line(&certificate.expire_time, certificate.expire_time_stamp),
        print::chain_line(certificate.expire_time_stamp, certificate.chain_expire_time),
        line("SHA-256", &certificate.fingerprint_sha256),
        line("etag", &certificate.etag),
    ]
}
