//! The commands on one server certificate, and their arguments. The commands on CA certificates have the same arguments.

use clap::Args;
use clap::builder::NonEmptyStringValueParser;

use super::answer::{Effect, answered, pages};
use super::connection::ConnectionArgs;
use super::file::{PairArgs, PairTexts};
use super::print::{self, ListOutput, Output, plain};
use super::table::{Column, Row, TableArgs};
use super::tag::tags;
use super::{Failure, target};
use crate::grpc::pb;

#[derive(Args)]
pub(super) struct UploadArgs {
    #[command(flatten)]
    pair: PairArgs,
    #[command(flatten)]
    options: UploadOptions,
}

/// Options of all uploads.
#[derive(Args)]
pub(super) struct UploadOptions {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Region of the certificate. Default: the context's, else the only region of the service. [env: CERTKEEP_REGION]
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Name of the certificate. Default: its common name.
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Id of the resource group. Default: the account's default group.
    #[arg(long, value_name = "ID")]
    pub(super) resource_group: Option<String>,
    /// A tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(super) tags: Vec<String>,
    /// Up to 64 characters that identify this upload. A retry with the same token stores no second certificate.
    #[arg(long, value_name = "TOKEN")]
    pub(super) client_token: Option<String>,
    /// Check everything and store nothing.
    #[arg(long)]
    pub(super) validate_only: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: ListOutput,
}

#[derive(Args)]
pub(super) struct DescribeArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Only certificates in this region.
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Only the certificate with this id.
    #[arg(long)]
    pub(super) id: Option<String>,
    /// Only certificates in the resource group with this id.
    #[arg(long, value_name = "ID")]
    pub(super) resource_group: Option<String>,
    /// Only certificates with this tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(super) tags: Vec<String>,
    /// List deleted certificates that can be undeleted.
    #[arg(long)]
    pub(super) deleted: bool,
    #[command(flatten)]
    pub(super) shown: TableArgs<pb::ServerCertificate>,
}

#[derive(Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Id of the certificate, or its name if no other certificate has it.
    pub(super) id: String,
    /// Only if the certificate is in this region.
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Output format; `pem` prints only the chain.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Args)]
pub(super) struct RenameArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Region of the certificate. Default: the context's, else the only region of the service. [env: CERTKEEP_REGION]
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Id of the certificate, or its name if no other certificate has it.
    pub(super) id: String,
    /// New name of the certificate.
    #[arg(value_parser = NonEmptyStringValueParser::new())]
    pub(super) name: String,
    /// Only if the certificate still has this etag.
    #[arg(long, value_name = "ETAG")]
    pub(super) if_etag: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: ListOutput,
}

/// The certificate to delete.
#[derive(Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Delete the certificate even if holders serve it.
    #[arg(long)]
    pub(super) force: bool,
}

/// The certificate to delete, undelete or purge.
#[derive(Args)]
pub(super) struct TargetArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Only if the certificate is in this region.
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Id of the certificate. `delete` also takes its name, if no other certificate has it.
    pub(super) id: String,
    /// Only if the certificate still has this etag.
    #[arg(long, value_name = "ETAG")]
    pub(super) if_etag: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: ListOutput,
}

pub(super) async fn upload(args: UploadArgs) -> Result<(), Failure> {
    let options = args.options;
    let PairTexts { certificate, mut key } = args.pair.read().await?;
    let request = pb::UploadServerCertificateRequest {
        region_id: options.connection.region(options.region)?,
        server_certificate: certificate.to_string(),
        private_key: std::mem::take(&mut *key),
        ali_cloud_certificate_id: args.pair.ali_cloud_certificate_id.unwrap_or_default(),
        server_certificate_name: options.name.unwrap_or_default(),
        client_token: options.client_token.unwrap_or_default(),
        validate_only: options.validate_only,
        resource_group_id: options.resource_group.unwrap_or_default(),
        tags: tags(&options.tags)?,
        // The list is long, and the table does not show it.
        omit_account_fingerprints: options.output == ListOutput::Table,
        ..Default::default()
    };
    let answer = options.connection.connect()?.upload_server_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::uploaded(&answer, "UploadServerCertificateResponse", &answer, options.output)
}

pub(super) async fn describe(args: DescribeArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect()?;
    let request = pb::DescribeServerCertificatesRequest {
        region_id: args.region.unwrap_or_default(),
        server_certificate_id: args.id.unwrap_or_default(),
        resource_group_id: args.resource_group.unwrap_or_default(),
        tags: tags(&args.tags)?,
        deleted: args.deleted,
        page_size: 1000,
        ..Default::default()
    };
    let mut all = pb::DescribeServerCertificatesResponse::default();
    pages(async |page_token| {
        let request = pb::DescribeServerCertificatesRequest {
            page_token,
            ..request.clone()
        };
        let page = answered(client.describe_server_certificates(request).await, Effect::Reads)?;
        all.request_id = page.request_id;
        all.server_certificates.extend(page.server_certificates);
        Ok(page.next_page_token)
    })
    .await?;
    args.shown.print(
        "DescribeServerCertificatesResponse",
        &all,
        "server certificates",
        &all.server_certificates,
    )
}

impl Row for pb::ServerCertificate {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("name", |one| plain(&one.server_certificate_name)),
        Column::new("expires", |one| print::relative(print::end(one))),
        Column::extra("expiry-date", |one| print::date(print::end(one))),
        Column::extra("region", |one| plain(&one.region_id)),
        Column::extra("common-name", |one| plain(&one.common_name)),
        Column::extra("names", |one| plain(&one.subject_alternative_names.join(","))),
        Column::extra("issuer", |one| plain(&one.issuer)),
        Column::extra("key", |one| print::key(one.key_algorithm(), one.key_size)),
        Column::extra("serial", |one| plain(&one.serial_number)),
        Column::extra("fingerprint", |one| plain(&one.fingerprint)),
        Column::extra("sha256", |one| plain(&one.fingerprint_sha256)),
        Column::extra("group", |one| plain(&one.resource_group_id)),
        Column::extra("tags", |one| plain(&print::tag_list(&one.tags))),
        Column::extra("created", |one| plain(&one.create_time)),
        Column::extra("version", |one| one.version.to_string()),
        Column::extra("etag", |one| plain(&one.etag)),
        Column::new("id", |one| plain(&one.server_certificate_id)),
    ];

    fn expiry(&self) -> Option<i64> {
        Some(print::end(self))
    }
}

pub(super) async fn get(args: GetArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect()?;
    let region = args.region.unwrap_or_default();
    let request = pb::GetServerCertificateRequest {
        server_certificate_id: target::server_certificate(&mut client, &args.id, &region).await?,
        region_id: region,
    };
    let answer = answered(client.get_server_certificate(request).await, Effect::Reads)?;
    let certificate = answer.server_certificate.clone().unwrap_or_default();
    print::got(&certificate, "GetServerCertificateResponse", &answer, args.output)
}

pub(super) async fn rename(args: RenameArgs) -> Result<(), Failure> {
    let region = args.connection.region(args.region)?;
    let mut client = args.connection.connect()?;
    let id = target::server_certificate(&mut client, &args.id, &region).await?;
    let request = pb::SetServerCertificateNameRequest {
        region_id: region,
        server_certificate_id: id.clone(),
        server_certificate_name: args.name.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = answered(client.set_server_certificate_name(request).await, Effect::Changes)?;
    print::renamed(
        (&id, &args.name, &answer.etag),
        "SetServerCertificateNameResponse",
        &answer,
        args.output,
    )
}

pub(super) async fn delete(DeleteArgs { target: args, force }: DeleteArgs) -> Result<(), Failure> {
    let region = args.region.unwrap_or_default();
    let mut client = args.connection.connect()?;
    let id = target::server_certificate(&mut client, &args.id, &region).await?;
    let request = pb::DeleteServerCertificateRequest {
        region_id: region,
        server_certificate_id: id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
        force,
    };
    let answer = answered(client.delete_server_certificate(request).await, Effect::Changes)?;
    print::changed(
        ("deleted", &id, &answer.etag),
        "DeleteServerCertificateResponse",
        &answer,
        args.output,
    )
}

/// The commands for deleted certificates look up no names.
const DELETED: &str = "`certkeep describe --deleted` lists";

pub(super) async fn undelete(args: TargetArgs) -> Result<(), Failure> {
    let id = target::only_id(args.id, DELETED)?;
    let request = pb::UndeleteServerCertificateRequest {
        region_id: args.region.unwrap_or_default(),
        server_certificate_id: id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.undelete_server_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("undeleted", &id, &answer.etag),
        "UndeleteServerCertificateResponse",
        &answer,
        args.output,
    )
}

pub(super) async fn purge(args: TargetArgs) -> Result<(), Failure> {
    let id = target::only_id(args.id, DELETED)?;
    let request = pb::PurgeServerCertificateRequest {
        region_id: args.region.unwrap_or_default(),
        server_certificate_id: id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.purge_server_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("purged", &id, ""),
        "PurgeServerCertificateResponse",
        &answer,
        args.output,
    )
}
