//! The commands for resource groups.

use clap::{Args, Subcommand};

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::print::{self, ListOutput, plain};
use super::table::{Column, Row, TableArgs};
use crate::app::RESOURCE_TYPE;
use crate::grpc::pb;

#[derive(Subcommand)]
pub(super) enum ResourceGroupCommand {
    /// Create a resource group, unless one with this name exists. Needs the role admin.
    Create(CreateArgs),
    /// List the resource groups. Needs the role admin.
    List(ListArgs),
    /// Rename a resource group. Needs the role admin.
    Rename(RenameArgs),
    /// Delete a resource group that no certificate is in. Needs the role admin.
    Delete(DeleteArgs),
    /// Move a server or CA certificate to a resource group.
    Move(MoveArgs),
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Name of the resource group.
    name: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    shown: TableArgs<pb::ResourceGroup>,
}

#[derive(Args)]
pub(super) struct RenameArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the resource group.
    id: String,
    /// New name of the resource group.
    name: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct DeleteArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the resource group.
    id: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct MoveArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Region of the certificate. Default: the context's, else the only region of the service. [env: CERTKEEP_REGION]
    #[arg(long)]
    region: Option<String>,
    /// Id of the certificate.
    id: String,
    /// Id of the resource group.
    resource_group: String,
    /// Only if the certificate still has this etag.
    #[arg(long, value_name = "ETAG")]
    if_etag: Option<String>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

pub(super) async fn run(command: ResourceGroupCommand) -> Result<(), Failure> {
    match command {
        ResourceGroupCommand::Create(args) => create(args).await,
        ResourceGroupCommand::Rename(args) => rename(args).await,
        ResourceGroupCommand::Delete(args) => delete(args).await,
        ResourceGroupCommand::List(args) => list(args).await,
        ResourceGroupCommand::Move(args) => move_to(args).await,
    }
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    let request = pb::CreateResourceGroupRequest { name: args.name };
    let answer = args.connection.connect_as_admin()?.create_resource_group(request).await;
    let answer = answered(answer, Effect::Changes)?;
    let group = answer.resource_group.clone().unwrap_or_default();
    print::group(&group, ("CreateResourceGroupResponse", &answer), args.output)
}

async fn rename(args: RenameArgs) -> Result<(), Failure> {
    let request = pb::UpdateResourceGroupRequest {
        resource_group_id: args.id,
        name: args.name,
    };
    let answer = args.connection.connect_as_admin()?.update_resource_group(request).await;
    let answer = answered(answer, Effect::Changes)?;
    let group = answer.resource_group.clone().unwrap_or_default();
    print::group(&group, ("UpdateResourceGroupResponse", &answer), args.output)
}

async fn delete(args: DeleteArgs) -> Result<(), Failure> {
    let request = pb::DeleteResourceGroupRequest {
        resource_group_id: args.id.clone(),
    };
    let answer = args.connection.connect_as_admin()?.delete_resource_group(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("deleted", &args.id, ""),
        "DeleteResourceGroupResponse",
        &answer,
        args.output,
    )
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect_as_admin()?;
    let mut request = pb::ListResourceGroupsRequest {
        page_size: 1000,
        ..Default::default()
    };
    let mut all = pb::ListResourceGroupsResponse::default();
    loop {
        let page = client.list_resource_groups(request.clone()).await;
        let page = answered(page, Effect::Reads)?;
        all.request_id = page.request_id;
        all.resource_groups.extend(page.resource_groups);
        if page.next_page_token.is_empty() {
            return args.shown.print(
                "ListResourceGroupsResponse",
                &all,
                "resource groups",
                &all.resource_groups,
            );
        }
        request.page_token = page.next_page_token;
    }
}

async fn move_to(args: MoveArgs) -> Result<(), Failure> {
    let request = pb::MoveResourceGroupRequest {
        region_id: args.connection.region(args.region)?,
        resource_id: args.id.clone(),
        resource_type: RESOURCE_TYPE.to_owned(),
        new_resource_group_id: args.resource_group,
        if_etag: args.if_etag.unwrap_or_default(),
    };
    let answer = args.connection.connect()?.move_resource_group(request).await;
    let answer = answered(answer, Effect::Changes)?;
    print::changed(
        ("moved", &args.id, &answer.etag),
        "MoveResourceGroupResponse",
        &answer,
        args.output,
    )
}

impl Row for pb::ResourceGroup {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("name", |group| plain(&group.name)),
        Column::new("id", |group| plain(&group.resource_group_id)),
    ];
}
