//! The client commands for CA certificates. They mirror the commands for server certificates.

use std::path::PathBuf;

use clap::{Args, Subcommand};

use super::answer::{Effect, answered, pages};
use super::connection::ConnectionArgs;
use super::file::{PasswordArgs, read_certificate};
use super::print;
use super::server_certificate::{DeleteArgs, DescribeArgs, GetArgs, RenameArgs, TargetArgs, UploadOptions};
use super::tag::tags;
use super::{Failure, target};
use crate::grpc::pb;

#[derive(Subcommand)]
pub(super) enum CaCommand {
    /// Upload a CA certificate.
    Upload(UploadArgs),
    /// List CA certificates.
    Describe(DescribeArgs),
    /// Show one CA certificate.
    Get(GetArgs),
    /// Rename a CA certificate.
    Rename(RenameArgs),
    /// Delete a CA certificate. You can undelete it until the service purges it some days later.
    Delete(DeleteArgs),
    /// Undelete a CA certificate.
    Undelete(TargetArgs),
    /// Purge a deleted CA certificate.
    Purge(TargetArgs),
}

#[derive(Args)]
pub(super) struct UploadArgs {
    /// File with the certificate: PEM, DER, PKCS #7 or PKCS #12.
    file: PathBuf,
    #[command(flatten)]
    password: PasswordArgs,
    #[command(flatten)]
    options: UploadOptions,
}

pub(super) async fn run(command: CaCommand) -> Result<(), Failure> {
    match command {
        CaCommand::Upload(args) => upload(args).await,
        CaCommand::Describe(args) => describe(args).await,
        CaCommand::Get(args) => get(args).await,
        CaCommand::Rename(args) => rename(args).await,
        CaCommand::Delete(args) => delete(args).await,
        CaCommand::Undelete(args) => undelete(args).await,
        CaCommand::Purge(args) => purge(args).await,
    }
}

async fn upload(args: UploadArgs) -> Result<(), Failure> {
    let options = args.options;
    let request = pb::UploadCaCertificateRequest {
        region_id: options.connection.region(options.region)?,
        ca_certificate: std::mem::take(&mut *read_certificate(&args.file, &args.password).await?),
        ca_certificate_name: options.name.unwrap_or_default(),
        client_token: options.client_token.unwrap_or_default(),
        validate_only: options.validate_only,
        resource_group_id: options.resource_group.unwrap_or_default(),
        tags: tags(&options.tags)?,
    };
    let answer = options.connection.connect()?.upload_ca_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    let shown = pb::UploadServerCertificateResponse {
        request_id: answer.request_id.clone(),
        server_certificate_id: answer.ca_certificate_id.clone(),
        server_certificate_name: answer.ca_certificate_name.clone(),
        region_id: answer.region_id.clone(),
        common_name: answer.common_name.clone(),
        expire_time: answer.expire_time.clone(),
        expire_time_stamp: answer.expire_time_stamp,
        fingerprint: answer.fingerprint.clone(),
        fingerprint_sha256: answer.fingerprint_sha256.clone(),
        findings: answer.findings.clone(),
        ..Default::default()
    };
    print::uploaded(&shown, "UploadCACertificateResponse", &answer, options.output)
}

/// A CA certificate in the fields of a server certificate, for printing.
pub(super) fn shown(certificate: pb::CaCertificate) -> pb::ServerCertificate {
    pb::ServerCertificate {
        server_certificate_id: certificate.ca_certificate_id,
        server_certificate_name: certificate.ca_certificate_name,
        fingerprint: certificate.fingerprint,
        create_time: certificate.create_time,
        expire_time: certificate.expire_time,
        expire_time_stamp: certificate.expire_time_stamp,
        common_name: certificate.common_name,
        subject_alternative_names: certificate.subject_alternative_names,
        region_id: certificate.region_id,
        resource_group_id: certificate.resource_group_id,
        tags: certificate.tags,
        fingerprint_sha256: certificate.fingerprint_sha256,
        etag: certificate.etag,
        not_before: certificate.not_before,
        chain_expire_time: certificate.not_after,
        serial_number: certificate.serial_number,
        issuer: certificate.issuer,
        subject: certificate.subject,
        key_algorithm: certificate.key_algorithm,
        key_size: certificate.key_size,
        signature_algorithm: certificate.signature_algorithm,
        spki_sha256: certificate.spki_sha256,
        certificate_chain: certificate.ca_certificate,
        ..Default::default()
    }
}

async fn describe(args: DescribeArgs) -> Result<(), Failure> {
    let request = pb::DescribeCaCertificatesRequest {
        region_id: args.region.unwrap_or_default(),
        ca_certificate_id: args.id.unwrap_or_default(),
        resource_group_id: args.resource_group.unwrap_or_default(),
        tags: tags(&args.tags)?,
        deleted: args.deleted,
        ..Default::default()
    };
    let all = all(&args.connection, request).await?;
    let listed: Vec<_> = all.ca_certificates.iter().cloned().map(shown).collect();
    args.shown
        .print("DescribeCACertificatesResponse", &all, "CA certificates", &listed)
}

/// All pages of a listing.
pub(super) async fn all(
    connection: &ConnectionArgs,
    mut request: pb::DescribeCaCertificatesRequest,
) -> Result<pb::DescribeCaCertificatesResponse, Failure> {
    let mut client = connection.connect()?;
    request.page_size = 1000;
    let mut all = pb::DescribeCaCertificatesResponse::default();
    pages(async |page_token| {
        let request = pb::DescribeCaCertificatesRequest {
            page_token,
            ..request.clone()
        };
        let page = answered(client.describe_ca_certificates(request).await, Effect::Reads)?;
        all.request_id = page.request_id;
        all.ca_certificates.extend(page.ca_certificates);
        Ok(page.next_page_token)
    })
    .await?;
    Ok(all)
}

async fn get(args: GetArgs) -> Result<(), Failure> {
    let region = args.region.unwrap_or_default();
    let request = pb::GetCaCertificateRequest {
        ca_certificate_id: target::ca_certificate(&args.connection, &args.id, &region).await?,
        region_id: region,
    };
    let answer = args.connection.connect()?.get_ca_certificate(request).await;
    let answer = answered(answer, Effect::Reads)?;
    let certificate = shown(answer.ca_certificate.clone().unwrap_or_default());
    print::got(&certificate, "GetCACertificateResponse", &answer, args.output)
}

async fn rename(args: RenameArgs) -> Result<(), Failure> {
    let region = args.connection.region(args.region)?;
    let id = target::ca_certificate(&args.connection, &args.id, &region).await?;
    let request = pb::SetCaCertificateNameRequest {
        region_id: region,
        ca_certificate_id: id.clone(),
        ca_certificate_name: args.name.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.set_ca_certificate_name(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::renamed(
        (&id, &args.name, &answer.etag),
        "SetCACertificateNameResponse",
        &answer,
        args.output,
    )
}

async fn delete(DeleteArgs { target: args, force }: DeleteArgs) -> Result<(), Failure> {
    let region = args.region.unwrap_or_default();
    let id = target::ca_certificate(&args.connection, &args.id, &region).await?;
    let request = pb::DeleteCaCertificateRequest {
        region_id: region,
        ca_certificate_id: id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
        force,
    };
    let answer = args.connection.connect()?.delete_ca_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("deleted", &id, &answer.etag),
        "DeleteCACertificateResponse",
        &answer,
        args.output,
    )
}

/// The commands for deleted certificates look up no names.
const DELETED: &str = "`certkeep ca describe --deleted` lists";

async fn undelete(args: TargetArgs) -> Result<(), Failure> {
    let id = target::only_id(args.id, DELETED)?;
    let request = pb::UndeleteCaCertificateRequest {
        region_id: args.region.unwrap_or_default(),
        ca_certificate_id: id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.undelete_ca_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("undeleted", &id, &answer.etag),
        "UndeleteCACertificateResponse",
        &answer,
        args.output,
    )
}

async fn purge(args: TargetArgs) -> Result<(), Failure> {
    let id = target::only_id(args.id, DELETED)?;
    let request = pb::PurgeCaCertificateRequest {
        region_id: args.region.unwrap_or_default(),
        ca_certificate_id: id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.purge_ca_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(("purged", &id, ""), "PurgeCACertificateResponse", &answer, args.output)
}
