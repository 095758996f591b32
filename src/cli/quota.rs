//! The commands for quotas.

use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::print::{ListOutput, plain};
use super::table::{Column, Row, TableArgs, show};
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
    #[command(flatten)]
    shown: TableArgs<ListedQuota>,
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
        return args
            .shown
            .print("DescribeQuotasResponse", &answer, "quotas", &listed(&answer.quotas));
    };
    let request = pb::DescribeAccountQuotasRequest { account_id };
    let mut client = args.connection.connect_as_operator()?;
    let answer = answered(client.describe_account_quotas(request).await, Effect::Reads)?;
    args.shown.print(
        "DescribeAccountQuotasResponse",
        &answer,
        "quotas",
        &listed(&answer.quotas),
    )
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
    match output.document() {
        Some(document) => document.print("UpdateQuotaResponse", &answer),
        None => show("quotas", &listed(answer.quota.as_slice())),
    }
}

/// A quota, and its use in a region if it is one of certificates.
pub(super) struct ListedQuota {
    pub(super) quota: pb::Quota,
    pub(super) region: String,
    pub(super) used: Option<i64>,
}

impl Row for ListedQuota {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("quota", |row| {
            let name = row.quota.kind().as_str_name();
            let name = name.strip_prefix("QUOTA_KIND_").unwrap_or(name);
            name.to_ascii_lowercase().replace('_', "-")
        }),
        Column::text("region", |row| plain(&row.region)),
        Column::new("used", |row| row.used.map(|used| used.to_string()).unwrap_or_default()),
        Column::new("maximum", |row| row.quota.maximum.to_string()),
        Column::new("set-by", |row| {
            if row.quota.overridden { "operator" } else { "default" }.to_owned()
        }),
    ];
}

/// A row for each quota, and for certificates a row for each region that has any.
fn listed(quotas: &[pb::Quota]) -> Vec<ListedQuota> {
    let row = |quota: &pb::Quota, region: &str, used| ListedQuota {
        quota: quota.clone(),
        region: region.to_owned(),
        used,
    };
    let rows = quotas.iter().flat_map(|quota| match quota.uses.as_slice() {
        [] => vec![row(quota, "", None)],
        uses => uses
            .iter()
            .map(|used| row(quota, &used.region_id, Some(used.used)))
            .collect(),
    });
    rows.collect()
}
