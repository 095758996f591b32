//! The commands for client identities.

use clap::{Args, Subcommand, ValueEnum};

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::print::{self, ListOutput, plain, role, scope};
use super::table::{Column, Row, TableArgs};
use crate::grpc::pb;

#[derive(Subcommand)]
pub(super) enum IdentityCommand {
    /// Let callers with this name in their client certificate act for an account. Needs the role operator.
    Create(CreateArgs),
    /// List client identities. Needs the role operator.
    List(ListArgs),
    /// Delete a client identity. Needs the role operator.
    Delete(DeleteArgs),
}

#[derive(Args)]
#[group(required = true, multiple = false)]
struct NameArgs {
    /// SPIFFE ID in the certificate, for example spiffe://example.org/web, or spiffe://example.org/* for all ids below.
    #[arg(long, value_name = "ID")]
    spiffe_id: Option<String>,
    /// DNS name in the certificate.
    #[arg(long, value_name = "NAME")]
    dns_name: Option<String>,
    /// Subject of the certificate as RFC 4514 writes it, for example CN=web,O=Example.
    #[arg(long, value_name = "SUBJECT")]
    subject: Option<String>,
}

#[derive(Clone, Copy, ValueEnum)]
enum IdentityRole {
    Reader,
    Editor,
    Consumer,
    Admin,
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    name: NameArgs,
    /// Id of the account.
    #[arg(long, value_name = "ID")]
    account: String,
    /// Role of the callers.
    #[arg(long, value_enum)]
    role: IdentityRole,
    /// Only certificates of this region. Can be repeated.
    #[arg(long = "scope-region", value_name = "REGION")]
    regions: Vec<String>,
    /// Only certificates of this resource group. Can be repeated.
    #[arg(long = "scope-resource-group", value_name = "ID")]
    resource_groups: Vec<String>,
    /// Only certificates whose name starts with this text. Can be repeated.
    #[arg(long = "scope-name-prefix", value_name = "PREFIX")]
    name_prefixes: Vec<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Only client identities of this account.
    #[arg(long, value_name = "ID")]
    account: Option<String>,
    #[command(flatten)]
    shown: TableArgs<pb::ClientIdentity>,
}

#[derive(Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    name: NameArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

impl NameArgs {
    /// clap accepts exactly one name.
    fn kind_and_value(self) -> (pb::ClientIdentityKind, String) {
        use pb::ClientIdentityKind::{DnsName, SpiffeId, Subject};
        match (self.spiffe_id, self.dns_name, self.subject) {
            (Some(id), ..) => (SpiffeId, id),
            (_, Some(name), _) => (DnsName, name),
            (.., subject) => (Subject, subject.unwrap_or_default()),
        }
    }
}

pub(super) async fn run(command: IdentityCommand) -> Result<(), Failure> {
    match command {
        IdentityCommand::Create(args) => create(args).await,
        IdentityCommand::List(args) => list(args).await,
        IdentityCommand::Delete(args) => delete(args).await,
    }
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    let (kind, value) = args.name.kind_and_value();
    let role = match args.role {
        IdentityRole::Reader => pb::Role::Reader,
        IdentityRole::Editor => pb::Role::Editor,
        IdentityRole::Consumer => pb::Role::Consumer,
        IdentityRole::Admin => pb::Role::Admin,
    };
    let scope = pb::Scope {
        region_ids: args.regions,
        resource_group_ids: args.resource_groups,
        name_prefixes: args.name_prefixes,
    };
    let request = pb::CreateClientIdentityRequest {
        kind: kind.into(),
        value,
        account_id: args.account,
        role: role.into(),
        scope: (scope != pb::Scope::default()).then_some(scope),
    };
    let answer = args
        .connection
        .connect_as_operator()?
        .create_client_identity(request)
        .await;
    let answer = answered(answer, Effect::Changes)?;
    print::client_identity(&answer, args.output)
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect_as_operator()?;
    let mut request = pb::ListClientIdentitiesRequest {
        account_id: args.account.unwrap_or_default(),
        page_size: 1000,
        ..Default::default()
    };
    let mut all = pb::ListClientIdentitiesResponse::default();
    loop {
        let page = client.list_client_identities(request.clone()).await;
        let page = answered(page, Effect::Reads)?;
        all.request_id = page.request_id;
        all.client_identities.extend(page.client_identities);
        if page.next_page_token.is_empty() {
            return args.shown.print(
                "ListClientIdentitiesResponse",
                &all,
                "client identities",
                &all.client_identities,
            );
        }
        request.page_token = page.next_page_token;
    }
}

async fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let (kind, value) = args.name.kind_and_value();
    let request = pb::DeleteClientIdentityRequest {
        kind: kind.into(),
        value: value.clone(),
    };
    let answer = args
        .connection
        .connect_as_operator()?
        .delete_client_identity(request)
        .await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("deleted", &value, ""),
        "DeleteClientIdentityResponse",
        &answer,
        args.output,
    )
}

impl Row for pb::ClientIdentity {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("value", |identity| plain(&identity.value)),
        Column::new("kind", |identity| print::identity_kind(identity).to_owned()),
        Column::new("role", |identity| role(identity.role())),
        Column::text("scope", |identity| plain(&scope(identity.scope.as_ref()))),
        Column::new("account", |identity| plain(&identity.account_id)),
    ];
}
