//! `certkeep health`: asks a listener whether it can serve, without an access key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use clap::Args;
use tonic_health::pb::health_check_response::ServingStatus;
use tonic_health::pb::health_client::HealthClient;

use super::answer::{Effect, answered};
use super::connection::{AccessKey, Connection, Origin, Value};
use super::print;
use super::settings::{self, variable};
use super::{CONNECTION, Failure};
use crate::server::{Listening, health_check, is_serving};
use crate::telemetry::causes;

#[derive(Args)]
pub(super) struct HealthArgs {
    /// Ask only whether calls that change nothing can be answered.
    #[arg(long)]
    reads: bool,
    /// TOML file with the settings of `certkeep serve` on this machine. [env: CERTKEEP_CONFIG]
    #[arg(long, value_name = "FILE", conflicts_with = "endpoint")]
    config: Option<PathBuf>,
    /// URL of the server. Default: the listener of this machine, as the settings of `certkeep serve` name it. [env: CERTKEEP_ENDPOINT]
    #[arg(long, value_name = "URL", help_heading = CONNECTION)]
    endpoint: Option<String>,
    /// PEM file of CA certificates that verify an https endpoint. Default: the system's. [env: CERTKEEP_CA_FILE]
    #[arg(long, value_name = "FILE", help_heading = CONNECTION)]
    ca_file: Option<PathBuf>,
}

pub(super) async fn health(args: HealthArgs) -> Result<(), Failure> {
    let is_serving = match endpoint(&args) {
        Some(endpoint) => is_serving_at(endpoint, &args).await?,
        None => {
            let answer = is_serving(&listening(args.config)?, args.reads).await;
            answer.map_err(|error| Failure::unavailable(causes(&error)))?
        }
    };
    match is_serving {
        true => print::print("serving\n"),
        false => Err(Failure::unavailable("the service does not serve now")),
    }
}

fn endpoint(args: &HealthArgs) -> Option<Value<String>> {
    if let Some(url) = &args.endpoint {
        return Some(Value::new(url.clone(), Origin::Flag("--endpoint")));
    }
    let url = variable("CERTKEEP_ENDPOINT").filter(|_| args.config.is_none())?;
    let url = url.to_string_lossy().into_owned();
    Some(Value::new(url, Origin::Variable("CERTKEEP_ENDPOINT")))
}

async fn is_serving_at(endpoint: Value<String>, args: &HealthArgs) -> Result<bool, Failure> {
    let ca_file = args
        .ca_file
        .clone()
        .map(|file| Value::new(file, Origin::Flag("--ca-file")));
    let of_variable = || {
        let file = variable("CERTKEEP_CA_FILE")?;
        Some(Value::new(file.into(), Origin::Variable("CERTKEEP_CA_FILE")))
    };
    let connection = Connection {
        context: None,
        endpoint,
        // Nothing secret is sent.
        danger_plaintext: true,
        ca_file: ca_file.or_else(of_variable),
        client_certificate: None,
        access_key: AccessKey::None,
        region: None,
    };
    let mut client = HealthClient::new(connection.connect_without_key()?);
    let answer = client.check(health_check(args.reads)).await;
    Ok(answered(answer, Effect::Reads)?.status() == ServingStatus::Serving)
}

/// The listener of this machine.
fn listening(config: Option<PathBuf>) -> Result<Listening, Failure> {
    let mut layers = settings::layers(config)?;
    let address: Option<SocketAddr> = layers.parsed("listen", "an address");
    let mut address = address.ok_or_else(|| Failure::usage("the setting listen is not an address"))?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let has_tls = layers.parsed::<String>("tls_certificate", "a file").is_some();
    Ok(Listening { address, has_tls })
}
