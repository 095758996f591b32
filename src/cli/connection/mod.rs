//! The connection of a command: the server, the access key and the default region, from flags, environment and context.

mod sources;
mod url;
mod value;

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use tonic::transport::{Certificate, ClientTlsConfig, Endpoint, Identity};
use zeroize::Zeroizing;

use super::channel::AuthorizedChannel;
use super::contexts::{ClientCertificate, ContextDir, Contexts};
use super::file::{read, read_secret};
use super::settings::{default_data_dir, variable};
use super::{DEFAULT_ENDPOINT, Failure};
use crate::app::AccessKeyText;
use crate::grpc::pb::admin_service_client::AdminServiceClient;
use crate::grpc::pb::certificate_service_client::CertificateServiceClient;
use crate::grpc::pb::delivery_service_client::DeliveryServiceClient;
use crate::grpc::pb::operator_service_client::OperatorServiceClient;
use sources::Environment;
pub(super) use sources::danger_plaintext;
pub(super) use url::is_exposed;
pub(super) use url::{check_url, is_same};
pub(super) use value::{AccessKey, Origin, Value};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// The server's time limit for a call is 30 seconds.
const CALL_TIMEOUT: Duration = Duration::from_secs(35);
/// While a call is open, a server is pinged this often, and is gone if it does not answer in time. The time limit for a call does not
/// end a stream.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(30);
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// The answer to an upload with all fingerprints may exceed 3 MiB.
const MAX_ANSWER_LEN: usize = 16 * 1024 * 1024;

#[derive(Args, Default)]
pub(super) struct ConnectionArgs {
    /// Name of the context. Default: the current context. [env: CERTKEEP_CONTEXT]
    #[arg(long, value_name = "NAME")]
    context: Option<String>,
    /// URL of the server. Default: the context's, else http://127.0.0.1:50051. [env: CERTKEEP_ENDPOINT]
    #[arg(long, value_name = "URL")]
    endpoint: Option<String>,
    /// File with one line, `<id>.<secret>`. Default: the context's, else none with --client-cert, else `admin.key` in the data
    /// directory.
    /// [env: CERTKEEP_ACCESS_KEY_FILE; CERTKEEP_ACCESS_KEY is the key itself]
    #[arg(long, value_name = "FILE")]
    access_key_file: Option<PathBuf>,
    /// Send keys in plain text to an http endpoint that is not this machine. Default: the context's, else no.
    /// [env: CERTKEEP_DANGER_PLAINTEXT=true]
    #[arg(long)]
    danger_plaintext: bool,
    /// PEM file of CA certificates that verify an https endpoint. Default: the context's, else the system's.
    /// [env: CERTKEEP_CA_FILE]
    #[arg(long, value_name = "FILE")]
    ca_file: Option<PathBuf>,
    /// PEM file with a client certificate and its chain, for an https endpoint. Default: the context's. [env: CERTKEEP_CLIENT_CERT]
    #[arg(long, value_name = "FILE")]
    client_cert: Option<PathBuf>,
    /// PEM file with the private key of the client certificate. Default: the context's. [env: CERTKEEP_CLIENT_KEY]
    #[arg(long, value_name = "FILE")]
    client_key: Option<PathBuf>,
    /// Directory of admin.key. Default: as for `certkeep serve`. [env: CERTKEEP_DATA_DIR]
    #[arg(long, value_name = "DIR")]
    data_dir: Option<PathBuf>,
}

pub(super) type Client = CertificateServiceClient<AuthorizedChannel>;
pub(super) type Delivery = DeliveryServiceClient<AuthorizedChannel>;

impl ConnectionArgs {
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        self.resolve()?.connect()
    }

    pub(super) fn connect_as_admin(&self) -> Result<AdminServiceClient<AuthorizedChannel>, Failure> {
        self.resolve()?.connect_as_admin()
    }

    pub(super) fn connect_to_deliveries(&self) -> Result<Delivery, Failure> {
        self.resolve()?.connect_to_deliveries()
    }

    pub(super) fn connect_as_operator(&self) -> Result<OperatorServiceClient<AuthorizedChannel>, Failure> {
        self.resolve()?.connect_as_operator()
    }

    /// The region of a command that needs one: the flag, the environment's or the context's. Empty: the only region of the service.
    pub(super) fn region(&self, flag: Option<String>) -> Result<String, Failure> {
        match flag {
            Some(region) => Ok(region),
            None => Ok(self.resolve()?.region.map(|region| region.value).unwrap_or_default()),
        }
    }

    /// The connection that these flags, the environment and the contexts give.
    pub(super) fn resolve(&self) -> Result<Connection, Failure> {
        let contexts = match ContextDir::of_user(variable) {
            Some(dir) => dir.read()?,
            None => Contexts::default(),
        };
        sources::resolve(self, &Environment::read(variable)?, &contexts, default_data_dir())
    }
}

/// Where a command goes, and what it sends.
pub(super) struct Connection {
    /// The context in use.
    pub(super) context: Option<String>,
    pub(super) endpoint: Value<String>,
    /// Whether an http endpoint may be another machine.
    pub(super) danger_plaintext: bool,
    /// `None`: the system's CA certificates.
    pub(super) ca_file: Option<Value<PathBuf>>,
    pub(super) client_certificate: Option<Value<ClientCertificate>>,
    pub(super) access_key: AccessKey,
    pub(super) region: Option<Value<String>>,
}

impl Connection {
    fn connect(&self) -> Result<Client, Failure> {
        let client = CertificateServiceClient::new(self.channel()?);
        Ok(client.max_decoding_message_size(MAX_ANSWER_LEN))
    }

    pub(super) fn connect_as_admin(&self) -> Result<AdminServiceClient<AuthorizedChannel>, Failure> {
        Ok(AdminServiceClient::new(self.channel()?).max_decoding_message_size(MAX_ANSWER_LEN))
    }

    pub(super) fn connect_to_deliveries(&self) -> Result<DeliveryServiceClient<AuthorizedChannel>, Failure> {
        Ok(DeliveryServiceClient::new(self.channel()?).max_decoding_message_size(MAX_ANSWER_LEN))
    }

    pub(super) fn connect_as_operator(&self) -> Result<OperatorServiceClient<AuthorizedChannel>, Failure> {
        Ok(OperatorServiceClient::new(self.channel()?).max_decoding_message_size(MAX_ANSWER_LEN))
    }

    /// Refuses to send secrets in plain text over a network.
    pub(super) fn check_plaintext(&self) -> Result<(), Failure> {
        let Value { value: url, origin } = &self.endpoint;
        match is_exposed(url) && !self.danger_plaintext {
            true => Err(Failure::usage(format!(
                "{url} ({origin}) would get keys in plain text over the network: use https, or set --danger-plaintext or \
                 CERTKEEP_DANGER_PLAINTEXT=true"
            ))),
            false => Ok(()),
        }
    }

    fn channel(&self) -> Result<AuthorizedChannel, Failure> {
        let url = &self.endpoint.value;
        check_url(url).map_err(|rule| Failure::usage(format!("{url} ({}) is no URL: {rule}", self.endpoint.origin)))?;
        self.check_plaintext()?;
        let key = self.key_text()?;
        if key.as_ref().is_some_and(|text| access_key(text).is_none()) {
            return Err(Failure::usage(format!(
                "{} holds no access key: it is one line, <id>.<secret>",
                self.access_key
            )));
        }
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|error| Failure::from_error(&error))?;
        let endpoint = match endpoint.uri().scheme_str() == Some("https") {
            true => self.with_tls(endpoint)?,
            false if self.client_certificate.is_some() => {
                return Err(Failure::usage(
                    "a client certificate needs an https endpoint: see --endpoint",
                ));
            }
            false => endpoint,
        };
        let channel = endpoint
            .connect_timeout(CONNECT_TIMEOUT)
            .timeout(CALL_TIMEOUT)
            .http2_keep_alive_interval(KEEPALIVE_INTERVAL)
            .keep_alive_timeout(KEEPALIVE_TIMEOUT)
            .connect_lazy();
        let endpoint = format!("{url} ({})", self.endpoint.origin);
        let key = key.as_ref().map(|text| text.trim());
        AuthorizedChannel::new(channel, key, &self.access_key.to_string(), &endpoint)
            .ok_or_else(|| Failure::usage(format!("{} holds no access key", self.access_key)))
    }

    /// The line `<id>.<secret>`; `None` if the client certificate does instead.
    fn key_text(&self) -> Result<Option<Zeroizing<String>>, Failure> {
        let flags = "name one with --access-key-file or CERTKEEP_ACCESS_KEY_FILE";
        match &self.access_key {
            AccessKey::File(file) => match (read_secret(&file.value), &file.origin) {
                (Ok(text), _) => Ok(Some(text)),
                (Err(failure), Origin::Default) => Err(Failure::usage(format!(
                    "there is no access key: {}; log in with `certkeep login`, or {flags}",
                    failure.text
                ))),
                (Err(failure), origin) => Err(Failure::usage(format!("{} ({origin})", failure.text))),
            },
            AccessKey::Text(text) => Ok(Some(text.value.clone())),
            AccessKey::None if self.client_certificate.is_some() => Ok(None),
            AccessKey::None => Err(Failure::usage(format!("there is no access key: {flags}"))),
            AccessKey::OfOtherEndpoint { context, endpoint } => Err(Failure::usage(format!(
                "there is no access key for {} ({}): the access key of context {context} is only for {endpoint}; {flags}",
                self.endpoint.value, self.endpoint.origin
            ))),
        }
    }

    fn with_tls(&self, endpoint: Endpoint) -> Result<Endpoint, Failure> {
        let tls = match &self.ca_file {
            Some(file) => ClientTlsConfig::new().ca_certificate(Certificate::from_pem(read(&file.value)?.as_bytes())),
            None => ClientTlsConfig::new().with_native_roots(),
        };
        let tls = match &self.client_certificate {
            Some(Value { value: client, .. }) => {
                let (certificate, key) = (read(&client.certificate)?, read_secret(&client.private_key)?);
                tls.identity(Identity::from_pem(certificate.as_bytes(), key.as_bytes()))
            }
            None => tls,
        };
        endpoint.tls_config(tls).map_err(|error| Failure::from_error(&error))
    }
}

/// Reads `<id>.<secret>`.
pub(super) fn access_key(text: &str) -> Option<AccessKeyText> {
    let value = Zeroizing::new(format!("Bearer {}", text.trim()));
    AccessKeyText::from_authorization(&value)
}
