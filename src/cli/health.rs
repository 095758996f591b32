//! `certkeep health`: asks a listener whether it can serve, without an access key.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::PathBuf;

use certkeep_client::Endpoint;
use clap::Args;

use super::print;
use super::settings::{self, variable};
use super::{CONNECTION, Failure};
use crate::server::{Listening, is_serving};
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
    let listening = listening(&args)?;
    let asked = is_serving(&listening, args.reads).await;
    match asked.map_err(|error| Failure::unavailable(causes(&error)))? {
        true => print::print("serving\n"),
        false => Err(Failure::unavailable("the service does not serve now")),
    }
}

fn listening(args: &HealthArgs) -> Result<Listening, Failure> {
    let given = args.endpoint.clone().map(|url| (url, "--endpoint"));
    let of_variable = || {
        let url = variable("CERTKEEP_ENDPOINT").filter(|_| args.config.is_none())?;
        Some((url.to_string_lossy().into_owned(), "CERTKEEP_ENDPOINT"))
    };
    if let Some((url, origin)) = given.or_else(of_variable) {
        Endpoint::parse(&url).map_err(|rule| Failure::usage(format!("{url} ({origin}) is no URL: {rule}")))?;
        let ca_file = args
            .ca_file
            .clone()
            .or_else(|| variable("CERTKEEP_CA_FILE").map(PathBuf::from));
        return Ok(Listening::At { url, ca_file });
    }
    let mut layers = settings::layers(args.config.clone())?;
    let address: Option<SocketAddr> = layers.parsed("listen", "an address");
    let mut address = address.ok_or_else(|| Failure::usage("the setting listen is not an address"))?;
    match address.ip() {
        IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
        IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
        _ => {}
    }
    let has_tls = layers.parsed::<String>("tls_certificate", "a file").is_some();
    Ok(Listening::Here { address, has_tls })
}
