//! The client commands.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use prost::Message;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint};
use tonic::{Code, Request, Response, Status};
use tonic_types::StatusExt;
use zeroize::Zeroizing;

use super::print::{self, ListOutput, Output};
use super::settings::default_data_dir;
use super::{DEFAULT_ENDPOINT, Failure, words};
use crate::grpc::pb;
use crate::grpc::pb::admin_service_client::AdminServiceClient;
use crate::grpc::pb::certificate_service_client::CertificateServiceClient;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server's time limit for a call is 30 seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
/// The answer to an upload with all fingerprints may exceed 3 MiB.
const MAX_ANSWER_LEN: usize = 16 * 1024 * 1024;
/// Certificate and key files are smaller.
pub(super) const MAX_FILE_LEN: u64 = 1024 * 1024;

#[derive(Args)]
pub(super) struct ConnectionArgs {
    /// URL of the server.
    #[arg(long, env = "CERTKEEP_ENDPOINT", default_value = DEFAULT_ENDPOINT, value_name = "URL")]
    endpoint: String,
    /// File with one line, `<id>.<secret>`. Default: `admin.key` in the data directory.
    #[arg(long, env = "CERTKEEP_ACCESS_KEY_FILE", value_name = "FILE")]
    access_key_file: Option<PathBuf>,
    /// PEM file of CA certificates that verify an https endpoint. Default: the system's.
    #[arg(long, env = "CERTKEEP_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// Directory of admin.key. Default: as for `certkeep serve`.
    #[arg(long, env = "CERTKEEP_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

#[derive(Args)]
pub(super) struct UploadArgs {
    /// PEM file with the certificate and its chain.
    #[arg(long, value_name = "FILE")]
    cert: PathBuf,
    /// PEM file with the private key.
    #[arg(long, value_name = "FILE")]
    key: PathBuf,
    #[command(flatten)]
    options: UploadOptions,
}

/// Options of all uploads.
#[derive(Args)]
pub(super) struct UploadOptions {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Region of the certificate, for example cn-hangzhou.
    #[arg(long)]
    pub(super) region: String,
    /// Name of the certificate. Default: its common name.
    #[arg(long)]
    pub(super) name: Option<String>,
    /// Id of the resource group. Default: the account's default group.
    #[arg(long, value_name = "ID")]
    pub(super) resource_group: Option<String>,
    /// A tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    pub(super) tags: Vec<String>,
    /// Up to 64 characters that identify a retry of this upload, so that it stores no second certificate.
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
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: ListOutput,
}

#[derive(Args)]
pub(super) struct GetArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Id of the certificate.
    pub(super) id: String,
    /// Output format; `pem` prints only the chain.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: Output,
}

#[derive(Args)]
pub(super) struct RenameArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Region of the certificate.
    #[arg(long)]
    pub(super) region: String,
    /// Id of the certificate.
    pub(super) id: String,
    /// New name of the certificate.
    pub(super) name: String,
    /// Only if the certificate still has this etag.
    #[arg(long, value_name = "ETAG")]
    pub(super) if_etag: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: ListOutput,
}

/// The certificate to delete, undelete or purge.
#[derive(Args)]
pub(super) struct TargetArgs {
    #[command(flatten)]
    pub(super) connection: ConnectionArgs,
    /// Only if the certificate is in this region.
    #[arg(long)]
    pub(super) region: Option<String>,
    /// Id of the certificate.
    pub(super) id: String,
    /// Only if the certificate still has this etag.
    #[arg(long, value_name = "ETAG")]
    pub(super) if_etag: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    pub(super) output: ListOutput,
}

#[derive(Args)]
pub(super) struct RegionsArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Language of the names: zh-CN, en-US or ja.
    #[arg(long, default_value = "en-US")]
    language: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

pub(super) async fn upload(args: UploadArgs) -> Result<(), Failure> {
    let options = args.options;
    let request = pb::UploadServerCertificateRequest {
        region_id: options.region,
        server_certificate: read(&args.cert)?.to_string(),
        private_key: std::mem::take(&mut *read(&args.key)?),
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

pub(super) fn tags(given: &[String]) -> Result<Vec<pb::Tag>, Failure> {
    let tag = |tag: &String| {
        let (key, value) = tag
            .split_once('=')
            .ok_or_else(|| Failure::usage("a --tag is KEY=VALUE"))?;
        Ok(pb::Tag {
            key: key.to_owned(),
            value: value.to_owned(),
        })
    };
    given.iter().map(tag).collect()
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
    print::described(
        &all.server_certificates,
        "DescribeServerCertificatesResponse",
        &all,
        args.output,
    )
}

/// Requests all pages, each with the token of the previous page.
pub(super) async fn pages(mut page: impl AsyncFnMut(String) -> Result<String, Failure>) -> Result<(), Failure> {
    let mut page_token = page(String::new()).await?;
    while !page_token.is_empty() {
        page_token = page(page_token).await?;
    }
    Ok(())
}

pub(super) async fn get(args: GetArgs) -> Result<(), Failure> {
    let request = pb::GetServerCertificateRequest {
        region_id: String::new(),
        server_certificate_id: args.id,
    };
    let answer = args.connection.connect()?.get_server_certificate(request).await;
    let answer = answered(answer, Effect::Reads)?;
    let certificate = answer.server_certificate.clone().unwrap_or_default();
    print::got(&certificate, "GetServerCertificateResponse", &answer, args.output)
}

pub(super) async fn rename(args: RenameArgs) -> Result<(), Failure> {
    let request = pb::SetServerCertificateNameRequest {
        region_id: args.region,
        server_certificate_id: args.id.clone(),
        server_certificate_name: args.name.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.set_server_certificate_name(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::renamed(
        (&args.id, &args.name, &answer.etag),
        "SetServerCertificateNameResponse",
        &answer,
        args.output,
    )
}

pub(super) async fn delete(args: TargetArgs) -> Result<(), Failure> {
    let request = pb::DeleteServerCertificateRequest {
        region_id: args.region.unwrap_or_default(),
        server_certificate_id: args.id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.delete_server_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("deleted", &args.id, &answer.etag),
        "DeleteServerCertificateResponse",
        &answer,
        args.output,
    )
}

pub(super) async fn undelete(args: TargetArgs) -> Result<(), Failure> {
    let request = pb::UndeleteServerCertificateRequest {
        region_id: args.region.unwrap_or_default(),
        server_certificate_id: args.id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.undelete_server_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("undeleted", &args.id, &answer.etag),
        "UndeleteServerCertificateResponse",
        &answer,
        args.output,
    )
}

pub(super) async fn purge(args: TargetArgs) -> Result<(), Failure> {
    let request = pb::PurgeServerCertificateRequest {
        region_id: args.region.unwrap_or_default(),
        server_certificate_id: args.id.clone(),
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.purge_server_certificate(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("purged", &args.id, ""),
        "PurgeServerCertificateResponse",
        &answer,
        args.output,
    )
}

pub(super) async fn regions(args: RegionsArgs) -> Result<(), Failure> {
    let request = pb::DescribeRegionsRequest {
        accept_language: args.language,
    };
    let answer = args.connection.connect()?.describe_regions(request).await;
    print::regions(&answered(answer, Effect::Reads)?, args.output)
}

pub(super) type Client = CertificateServiceClient<InterceptedService<Channel, Authorization>>;

impl ConnectionArgs {
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        let (channel, authorization) = self.channel()?;
        let client = CertificateServiceClient::with_interceptor(channel, authorization);
        Ok(client.max_decoding_message_size(MAX_ANSWER_LEN))
    }

    pub(super) fn connect_as_admin(
        &self,
    ) -> Result<AdminServiceClient<InterceptedService<Channel, Authorization>>, Failure> {
        let (channel, authorization) = self.channel()?;
        Ok(AdminServiceClient::with_interceptor(channel, authorization))
    }

    fn channel(&self) -> Result<(Channel, Authorization), Failure> {
        let data_dir = self.data_dir.clone().or_else(default_data_dir);
        let file = self
            .access_key_file
            .clone()
            .or_else(|| Some(data_dir?.join("admin.key")));
        let file = file.ok_or_else(|| Failure::usage("there is no access key: say --access-key-file"))?;
        let line = read(&file)?;
        let value = Zeroizing::new(format!("Bearer {}", line.trim()));
        let mut authorization: MetadataValue<Ascii> = value
            .parse()
            .map_err(|_| Failure::usage(format!("{} holds no access key", file.display())))?;
        authorization.set_sensitive(true);
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|_| Failure::usage("--endpoint is no URL: use one such as http://127.0.0.1:50051"))?;
        let endpoint = if self.endpoint.starts_with("https:") {
            self.with_tls(endpoint)?
        } else {
            endpoint
        };
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .connect_lazy();
        Ok((channel, Authorization(authorization)))
    }

    fn with_tls(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        let tls = match &self.ca_file {
            Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?.as_bytes())),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        endpoint.tls_config(tls).map_err(|error| Failure::from_error(&error))
    }
}

#[derive(Clone)]
pub(super) struct Authorization(MetadataValue<Ascii>);

impl tonic::service::Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        request.metadata_mut().insert("authorization", self.0.clone());
        Ok(request)
    }
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{} can not be read: {error}", path.display()));
    let len = std::fs::metadata(path).map_err(failed)?.len();
    if len > MAX_FILE_LEN {
        return Err(Failure::usage(format!("{} is larger than 1 MiB", path.display())));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(Failure::usage(format!(
                "{} is binary: convert it to PEM, with `openssl x509 -inform der` or `openssl pkey -inform der`",
                path.display()
            )))
        }
    }
}

/// The answer to a call.
pub(super) fn answered<T>(answer: Result<Response<T>, Status>, effect: Effect) -> Result<T, Failure> {
    answer
        .map(Response::into_inner)
        .map_err(|status| failed(status, effect))
}

/// What the service said, each wrong field on a line of its own.
pub(super) fn failed(status: Status, effect: Effect) -> Failure {
    let details = status.get_error_details();
    let mut lines = Vec::new();
    if let Some(info) = details.error_info() {
        lines.push(("reason", &info.reason));
    }
    if let Some(bad_request) = details.bad_request() {
        lines.extend(
            bad_request
                .field_violations
                .iter()
                .map(|wrong| (words::flag(&wrong.field), &wrong.description)),
        );
    }
    let refusing = findings(&status)
        .into_iter()
        .filter(|one| one.severity() == pb::Severity::Error);
    let refusing: Vec<_> = refusing.collect();
    lines.extend(refusing.iter().map(|finding| (print::code(finding), &finding.message)));
    if let Some(info) = details.request_info() {
        lines.push(("request id", &info.request_id));
    }
    let width = lines.iter().map(|(label, _)| label.len()).max().unwrap_or_default();
    let lines: String = lines
        .iter()
        .map(|(label, value)| format!("\n  {label:<width$}  {value}"))
        .collect();
    let text = format!("{}{lines}", status.message());
    // What carries a reason was said by the service itself.
    let is_from_service = details.error_info().is_some();
    match status.code() {
        Code::Unavailable if is_from_service => Failure::unavailable(text),
        Code::DeadlineExceeded | Code::Unknown if is_from_service => effect.failure(&text),
        _ if is_from_service => Failure::refused(text),
        _ if never_connected(&status) => {
            Failure::unavailable(format!("the service can not be reached: {}", status.message()))
        }
        // The connection broke, or tonic's own time-out was over.
        _ => effect.failure(&text),
    }
}

/// What was noticed about a pair that was refused.
fn findings(status: &Status) -> Vec<pb::Finding> {
    let details = tonic_types::Status::decode(status.details())
        .unwrap_or_default()
        .details;
    let found = details
        .iter()
        .find(|detail| detail.type_url.ends_with("/certkeep.v1.Findings"));
    let found = found.and_then(|detail| pb::Findings::decode(detail.value.as_slice()).ok());
    found.unwrap_or_default().findings
}

/// What a call does, which tells what its loss means.
#[derive(Clone, Copy)]
pub(super) enum Effect {
    Reads,
    Changes,
}

impl Effect {
    fn failure(self, text: &str) -> Failure {
        match self {
            Self::Reads => Failure::unavailable(format!("there was no answer: {text}")),
            Self::Changes => Failure::unknown(format!("it is not known whether the call took effect: {text}")),
        }
    }
}

fn never_connected(status: &Status) -> bool {
    let mut cause = std::error::Error::source(status);
    while let Some(error) = cause {
        if error.is::<tonic::ConnectError>() {
            return true;
        }
        cause = error.source();
    }
    false
}
