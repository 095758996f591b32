//! The connection to a service.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status};
use zeroize::Zeroizing;

use super::file::read;
use super::settings::default_data_dir;
use super::{DEFAULT_ENDPOINT, Failure};
use crate::grpc::pb::admin_service_client::AdminServiceClient;
use crate::grpc::pb::certificate_service_client::CertificateServiceClient;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server's time limit for a call is 30 seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
/// The answer to an upload with all fingerprints may exceed 3 MiB.
const MAX_ANSWER_LEN: usize = 16 * 1024 * 1024;

#[derive(Args)]
pub(super) struct ConnectionArgs {
    /// URL of the server.
    #[arg(long, env = "CERTKEEP_ENDPOINT", default_value = DEFAULT_ENDPOINT, value_name = "URL")]
    endpoint: String,
    /// File with one line, `<id>.<secret>`. Default: `admin.key` in the data directory, or none with --client-cert.
    #[arg(long, env = "CERTKEEP_ACCESS_KEY_FILE", value_name = "FILE")]
    access_key_file: Option<PathBuf>,
    /// PEM file of CA certificates that verify an https endpoint. Default: the system's.
    #[arg(long, env = "CERTKEEP_CA_FILE", value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with a client certificate and its chain, for an https endpoint.
    #[arg(long, env = "CERTKEEP_CLIENT_CERT", value_name = "FILE", requires = "client_key")]
    client_cert: Option<PathBuf>,
    /// PEM file with the private key of --client-cert.
    #[arg(long, env = "CERTKEEP_CLIENT_KEY", value_name = "FILE", requires = "client_cert")]
    client_key: Option<PathBuf>,
    /// Directory of admin.key. Default: as for `certkeep serve`.
    #[arg(long, env = "CERTKEEP_DATA_DIR", value_name = "DIR")]
    data_dir: Option<PathBuf>,
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
        let authorization = self.authorization()?;
        let endpoint = Endpoint::from_shared(self.endpoint.clone())
            .map_err(|_| Failure::usage("--endpoint is no URL: use one such as http://127.0.0.1:50051"))?;
        let endpoint = if self.endpoint.starts_with("https:") {
            self.with_tls(endpoint)?
        } else if self.client_cert.is_some() {
            return Err(Failure::usage("--client-cert needs an https endpoint: see --endpoint"));
        } else {
            endpoint
        };
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .connect_lazy();
        Ok((channel, authorization))
    }

    fn authorization(&self) -> Result<Authorization, Failure> {
        let file = match &self.access_key_file {
            Some(file) => file.clone(),
            None if self.client_cert.is_some() => return Ok(Authorization(None)),
            None => {
                let data_dir = self.data_dir.clone().or_else(default_data_dir);
                data_dir
                    .ok_or_else(|| Failure::usage("there is no access key: say --access-key-file"))?
                    .join("admin.key")
            }
        };
        let line = read(&file)?;
        let value = Zeroizing::new(format!("Bearer {}", line.trim()));
        let mut authorization: MetadataValue<Ascii> = value
            .parse()
            .map_err(|_| Failure::usage(format!("{} holds no access key", file.display())))?;
        authorization.set_sensitive(true);
        Ok(Authorization(Some(authorization)))
    }

    fn with_tls(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        let tls = match &self.ca_file {
            Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(file)?.as_bytes())),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let tls = match (&self.client_cert, &self.client_key) {
            (Some(certificate), Some(key)) => {
                let (certificate, key) = (read(certificate)?, read(key)?);
                tls.identity(Identity::from_pem(certificate.as_bytes(), key.as_bytes()))
            }
            _ => tls,
        };
        endpoint.tls_config(tls).map_err(|error| Failure::from_error(&error))
    }
}

#[derive(Clone)]
pub(super) struct Authorization(Option<MetadataValue<Ascii>>);

impl tonic::service::Interceptor for Authorization {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(authorization) = &self.0 {
            request.metadata_mut().insert("authorization", authorization.clone());
        }
        Ok(request)
    }
}
