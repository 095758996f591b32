//! The commands for quotas.

use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::print::{self, ListOutput, plain, table};
use crate::grpc::pb;

#[derive(Subcommand)]
pub(super) enum QuotaCommand {
    /// List the quotas of your account, or of another account with --account. Needs the role admin or operator.
    List(ListArgs),
    /// Set a quota of an account. Needs the role operator.
    Set(SetArgs),
    /// Return a quota of an account to the default of the service. Needs the role operator.
    Reset(ResetArgs),
}

/// The kinds of quotas.
#[derive(Clone, Copy, ValueEnum)]
pub(super) enum Kind {
    /// Live server certificates in each region.
    ServerCertificates,
    /// Live CA certificates in each region.
    CaCertificates,
    /// Access keys.
    AccessKeys,
    /// Calls of the account in a second, on each replica.
    CallsPerSecond,
    /// Calls with one access key or client identity in a second, on each replica.
    CallsPerSecondPerKey,
}

impl From<Kind> for pb::QuotaKind {
    fn from(kind: Kind) -> Self {
        match kind {
            Kind::ServerCertificates => Self::ServerCertificates,
            Kind::CaCertificates => Self::CaCertificates,
            Kind::AccessKeys => Self::AccessKeys,
            Kind::CallsPerSecond => Self::CallsPerSecond,
            Kind::CallsPerSecondPerKey => Self::CallsPerSecondPerKey,
        }
    }
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the account. Needs the role operator.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct SetArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the account.
    #[arg(long, value_name = "ID")]
    account: String,
    /// Kind of the quota.
    #[arg(value_enum)]
    kind: Kind,
    /// The limit.
    maximum: i64,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct ResetArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the account.
    #[arg(long, value_name = "ID")]
    account: String,
    /// Kind of the quota.
    #[arg(value_enum)]
    kind: Kind,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

pub(super) async fn run(command: QuotaCommand) -> Result<(), Failure> {
    match command {
        QuotaCommand::List(args) => list(args).await,
        QuotaCommand::Set(args) => {
            let maximum = Some(args.maximum);
            update(&args.connection, args.account, args.kind, maximum, args.output).await
        }
        QuotaCommand::Reset(args) => update(&args.connection, args.account, args.kind, None, args.output).await,
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let Some(account_id) = args.account else {
        let request = pb::DescribeQuotasRequest {};
        let answer = args.connection.connect_as_admin()?.describe_quotas(request).await;
        let answer = answered(answer, Effect::Reads)?;
        return match args.output {
            ListOutput::Json => print::json("DescribeQuotasResponse", &answer),
            ListOutput::Table => quotas(&answer.quotas),
        };
    };
    let request = pb::DescribeAccountQuotasRequest { account_id };
    let mut client = args.connection.connect_as_operator()?;
    let answer = answered(client.describe_account_quotas(request).await, Effect::Reads)?;
    match args.output {
        ListOutput::Json => print::json("DescribeAccountQuotasResponse", &answer),
        ListOutput::Table => quotas(&answer.quotas),
    }
}

async fn update(
    connection: &ConnectionArgs,
    account_id: String,
    kind: Kind,
    maximum: Option<i64>,
    output: ListOutput,
) -> Result<(), Failure> {
    let request = pb::UpdateQuotaRequest {
        account_id,
        kind: pb::QuotaKind::from(kind).into(),
        maximum,
    };
    let answer = connection.connect_as_operator()?.update_quota(request).await;
    let answer = answered(answer, Effect::Changes)?;
    match output {
        ListOutput::Json => print::json("UpdateQuotaResponse", &answer),
        ListOutput::Table => quotas(answer.quota.as_slice()),
    }
}

/// A row for each quota, and for certificates a row for each region that has any.
fn quotas(quotas: &[pb::Quota]) -> Result<(), Failure> {
    let rows = quotas.iter().flat_map(|quota| {
        let name = quota.kind().as_str_name();
        let name = name.strip_prefix("QUOTA_KIND_").unwrap_or(name);
        let name = name.to_ascii_lowercase().replace('_', "-");
        let set_by = if quota.overridden { "operator" } else { "default" };
        let row = move |region: &str, used: String| {
            [
                name.clone(),
                plain(region),
                used,
                quota.maximum.to_string(),
                set_by.to_owned(),
            ]
        };
        match quota.uses.as_slice() {
            [] => vec![row("", String::new())],
            uses => uses
                .iter()
                .map(|used| row(&used.region_id, used.used.to_string()))
                .collect(),
        }
    });
    table(&["QUOTA", "REGION", "USED", "MAXIMUM", "SET BY"], rows)
}
