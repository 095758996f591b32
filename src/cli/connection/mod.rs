//! The connection of a command: the server, the access key and the default region, from flags, environment and context.

mod sources;
mod value;

use std::path::PathBuf;

use certkeep_client::{Channel, Endpoint, Identity, SetupError, Target};
use clap::Args;
use zeroize::Zeroizing;

use super::contexts::{ClientCertificate, ContextDir, Contexts};
use super::file::{read, read_secret};
use super::settings::{default_data_dir, variable};
use super::{CONNECTION, DEFAULT_ENDPOINT, Failure};
use crate::app::AccessKeyText;
use crate::grpc::pb::admin_service_client::AdminServiceClient;
use crate::grpc::pb::certificate_service_client::CertificateServiceClient;
use crate::grpc::pb::delivery_service_client::DeliveryServiceClient;
use crate::grpc::pb::operator_service_client::OperatorServiceClient;
use sources::Environment;
pub(super) use sources::danger_plaintext;
pub(super) use value::{AccessKey, Origin, Value};

#[derive(Args, Default)]
pub(super) struct ConnectionArgs {
    /// Name of the context. Default: the current context. [env: CERTKEEP_CONTEXT]
    #[arg(long, value_name = "NAME", help_heading = CONNECTION)]
    context: Option<String>,
    /// URL of the server. Default: the context's, else http://127.0.0.1:50051. [env: CERTKEEP_ENDPOINT]
    #[arg(long, value_name = "URL", help_heading = CONNECTION)]
    endpoint: Option<String>,
    /// File with one line, `<id>.<secret>`. Default: the context's, else none with --client-cert, else `admin.key` in the data
    /// directory.
    /// [env: CERTKEEP_ACCESS_KEY_FILE; CERTKEEP_ACCESS_KEY is the key itself]
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    access_key_file: Option<PathBuf>,
    /// Send keys in plain text to an http endpoint that is not this machine. Default: the context's, else no.
    /// [env: CERTKEEP_DANGER_PLAINTEXT=true]
    #[arg(long, help_heading = CONNECTION)]
    danger_plaintext: bool,
    /// PEM file of CA certificates that verify an https endpoint. Default: the context's, else the system's.
    /// [env: CERTKEEP_CA_FILE]
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    ca_file: Option<PathBuf>,
    /// PEM file with a client certificate and its chain, for an https endpoint. Default: the context's. [env: CERTKEEP_CLIENT_CERT]
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    client_cert: Option<PathBuf>,
    /// PEM file with the private key of the client certificate. Default: the context's. [env: CERTKEEP_CLIENT_KEY]
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    client_key: Option<PathBuf>,
    /// Directory of admin.key. Default: as for `certkeep serve`. [env: CERTKEEP_DATA_DIR]
    #[arg(long, value_name = "DIR", help_heading = CONNECTION)]
    data_dir: Option<PathBuf>,
}

pub(super) type Client = CertificateServiceClient<Channel>;
pub(super) type Delivery = DeliveryServiceClient<Channel>;

impl ConnectionArgs {
    pub(super) fn connect(&self) -> Result<Client, Failure> {
        self.resolve()?.connect()
    }

    pub(super) fn connect_as_admin(&self) -> Result<AdminServiceClient<Channel>, Failure> {
        self.resolve()?.connect_as_admin()
    }

    pub(super) fn connect_to_deliveries(&self) -> Result<Delivery, Failure> {
        self.resolve()?.connect_to_deliveries()
    }

    pub(super) fn connect_as_operator(&self) -> Result<OperatorServiceClient<Channel>, Failure> {
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
        Ok(self.client()?.certificates())
    }

    pub(super) fn connect_as_admin(&self) -> Result<AdminServiceClient<Channel>, Failure> {
        Ok(self.client()?.admin())
    }

    pub(super) fn connect_to_deliveries(&self) -> Result<Delivery, Failure> {
        Ok(self.client()?.deliveries())
    }

    pub(super) fn connect_as_operator(&self) -> Result<OperatorServiceClient<Channel>, Failure> {
        Ok(self.client()?.operators())
    }

    /// Refuses to send secrets in plain text over a network.
    pub(super) fn check_plaintext(&self) -> Result<(), Failure> {
        match self.url()?.is_exposed() && !self.danger_plaintext {
            true => Err(self.wrong(&SetupError::Exposed)),
            false => Ok(()),
        }
    }

    fn url(&self) -> Result<Endpoint, Failure> {
        let Value { value: url, origin } = &self.endpoint;
        Endpoint::parse(url).map_err(|rule| Failure::usage(format!("{url} ({origin}) is no URL: {rule}")))
    }

    /// A channel without an access key, for calls that need none.
    pub(super) fn connect_without_key(&self) -> Result<Channel, Failure> {
        Ok(self.client_with(None)?.channel())
    }

    fn client(&self) -> Result<certkeep_client::Client, Failure> {
        self.check_plaintext()?;
        let access_key = match self.key_text()? {
            Some(text) if access_key(&text).is_some() => certkeep_client::AccessKey::parse(&text).ok(),
            Some(_) => {
                return Err(Failure::usage(format!(
                    "{} holds no access key: it is one line, <id>.<secret>",
                    self.access_key
                )));
            }
            None => None,
        };
        self.client_with(access_key)
    }

    fn client_with(&self, access_key: Option<certkeep_client::AccessKey>) -> Result<certkeep_client::Client, Failure> {
        let ca = match &self.ca_file {
            Some(file) => Some(read(&file.value)?.to_string()),
            None => None,
        };
        let identity = match &self.client_certificate {
            Some(Value { value: client, .. }) => Some(Identity {
                certificate: read(&client.certificate)?.to_string(),
                private_key: read_secret(&client.private_key)?,
            }),
            None => None,
        };
        let target = Target {
            access_key,
            ca,
            identity,
            danger_plaintext: self.danger_plaintext,
            endpoint_origin: self.endpoint.origin.to_string(),
            access_key_origin: self.access_key.to_string(),
            ..Target::new(self.url()?)
        };
        target.connect().map_err(|error| self.wrong(&error))
    }

    /// The words for a connection that cannot be set up, with the setting to change.
    fn wrong(&self, error: &SetupError) -> Failure {
        let endpoint = format!("{} ({})", self.endpoint.value, self.endpoint.origin);
        let file = |file: Option<&PathBuf>| file.map(|file| file.display().to_string()).unwrap_or_default();
        let client = self.client_certificate.as_ref().map(|client| &client.value);
        Failure::usage(match error {
            SetupError::Exposed => format!(
                "{endpoint} would get keys in plain text over the network: use https, or set --danger-plaintext or \
                 CERTKEEP_DANGER_PLAINTEXT=true"
            ),
            SetupError::ClientCertificateWithoutTls => format!("{endpoint}: {error}; see --endpoint"),
            SetupError::HostInvalid | SetupError::Tls(_) => format!("{endpoint}: {error}"),
            SetupError::AccessKeyInvalid => format!("{} holds no access key", self.access_key),
            SetupError::NoCaCertificate => {
                format!("{}: {error}", file(self.ca_file.as_ref().map(|file| &file.value)))
            }
            SetupError::NoSystemCaCertificates => {
                format!("{error}; name those that verify {endpoint} with --ca-file")
            }
            SetupError::NoClientCertificate | SetupError::ClientPair(_) => {
                format!("{}: {error}", file(client.map(|client| &client.certificate)))
            }
            SetupError::NoClientKey => format!("{}: {error}", file(client.map(|client| &client.private_key))),
        })
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
}

/// Reads `<id>.<secret>`.
pub(super) fn access_key(text: &str) -> Option<AccessKeyText> {
    let value = Zeroizing::new(format!("Bearer {}", text.trim()));
    AccessKeyText::from_authorization(&value)
}
