//! The commands for access keys.

use clap::{Args, Subcommand, ValueEnum};
use prost_types::Timestamp;

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::new_key::{Created, NewKeyArgs, key_lines, state};
use super::print::{self, ListOutput, day as date, lines, moment, plain, role, scope};
use super::search::{day, seconds};
use super::table::{Column, Row, TableArgs};
use crate::clock;
use crate::grpc::pb;

#[derive(Subcommand)]
pub(super) enum AccessKeyCommand {
    /// Create an access key. Needs the role admin; an operator creates operators' keys.
    Create(CreateArgs),
    /// List the access keys with their last use. Needs the role admin or operator.
    List(ListArgs),
    /// Change the description or the expiry of an access key. Needs the role admin or operator.
    Update(UpdateArgs),
    /// Disable an access key. All replicas refuse it within two seconds. Needs the role admin or operator.
    Disable(KeyArgs),
    /// Enable a disabled access key. Needs the role admin or operator.
    Enable(KeyArgs),
    /// Delete an access key that is disabled or has expired. Needs the role admin or operator.
    Delete(KeyArgs),
}

/// The roles of access keys.
#[derive(Clone, Copy, ValueEnum)]
enum RoleName {
    /// Reads everything except private keys.
    Reader,
    /// Uploads, renames, tags, moves and deletes; reads.
    Editor,
    /// Receives key pairs to serve them.
    Consumer,
    /// Manages the account; edits and reads.
    Admin,
    /// Manages the service: accounts, quotas, client identities, the key ring.
    Operator,
}

impl From<RoleName> for pb::Role {
    fn from(name: RoleName) -> Self {
        match name {
            RoleName::Reader => Self::Reader,
            RoleName::Editor => Self::Editor,
            RoleName::Consumer => Self::Consumer,
            RoleName::Admin => Self::Admin,
            RoleName::Operator => Self::Operator,
        }
    }
}

/// The part of the account that exists for a key.
#[derive(Args)]
struct ScopeArgs {
    /// Only certificates of this region. Can be repeated.
    #[arg(long = "scope-region", value_name = "REGION")]
    regions: Vec<String>,
    /// Only certificates of this resource group. Can be repeated.
    #[arg(long = "scope-resource-group", value_name = "ID")]
    resource_groups: Vec<String>,
    /// Only certificates whose name starts with this text. Can be repeated.
    #[arg(long = "scope-name-prefix", value_name = "PREFIX")]
    name_prefixes: Vec<String>,
}

impl ScopeArgs {
    /// The message. No flags are no message: the whole account.
    fn message(self) -> Option<pb::Scope> {
        let Self {
            regions,
            resource_groups,
            name_prefixes,
        } = self;
        let is_everything = regions.is_empty() && resource_groups.is_empty() && name_prefixes.is_empty();
        (!is_everything).then_some(pb::Scope {
            region_ids: regions,
            resource_group_ids: resource_groups,
            name_prefixes,
        })
    }
}

#[derive(Args)]
struct ExpiryArgs {
    /// Expires at the start of this day (UTC).
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day, conflicts_with = "expires_in")]
    expires: Option<Timestamp>,
    /// Expires after this time, for example 12h, 30d or 8w.
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    expires_in: Option<i64>,
}

impl ExpiryArgs {
    fn moment(&self) -> Option<Timestamp> {
        let after = |seconds| Timestamp {
            seconds: clock::now().millis() / 1000 + seconds,
            nanos: 0,
        };
        self.expires.or(self.expires_in.map(after))
    }
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Role of the key.
    #[arg(long, value_enum)]
    role: RoleName,
    #[command(flatten)]
    scope: ScopeArgs,
    /// Purpose of the key, at most 200 characters.
    #[arg(long, value_name = "TEXT", default_value = "")]
    description: String,
    #[command(flatten)]
    expiry: ExpiryArgs,
    /// The key can also sign requests of Alibaba Cloud clients. The service keeps its secret, sealed.
    #[arg(long)]
    can_sign: bool,
    #[command(flatten)]
    new_key: NewKeyArgs,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Only keys of this role.
    #[arg(long, value_enum)]
    role: Option<RoleName>,
    /// Only keys that were not used for this number of days, and are at least that old.
    #[arg(long, value_name = "DAYS", value_parser = clap::value_parser!(i32).range(1..=36_500))]
    unused: Option<i32>,
    #[command(flatten)]
    shown: TableArgs<pb::AccessKey>,
}

#[derive(Args)]
#[command(group = clap::ArgGroup::new("changes").required(true).multiple(true))]
pub(super) struct UpdateArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the key.
    id: String,
    /// Purpose of the key, at most 200 characters.
    #[arg(long, value_name = "TEXT", group = "changes")]
    description: Option<String>,
    /// Expires at the start of this day (UTC).
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day, group = "changes", conflicts_with_all = ["expires_in", "no_expiry"])]
    expires: Option<Timestamp>,
    /// Expires after this time, for example 12h, 30d or 8w.
    #[arg(long, value_name = "TIME", value_parser = seconds, group = "changes", conflicts_with = "no_expiry")]
    expires_in: Option<i64>,
    /// Never expires.
    #[arg(long, group = "changes")]
    no_expiry: bool,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the key.
    id: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

pub(super) async fn run(command: AccessKeyCommand) -> Result<(), Failure> {
    match command {
        AccessKeyCommand::Create(args) => create(args).await,
        AccessKeyCommand::List(args) => list(args).await,
        AccessKeyCommand::Update(args) => {
            let expiry = ExpiryArgs {
                expires: args.expires,
                expires_in: args.expires_in,
            };
            let request = pb::UpdateAccessKeyRequest {
                access_key_id: args.id,
                disabled: None,
                expire_time: expiry.moment(),
                clear_expire_time: args.no_expiry,
                description: args.description,
            };
            update(&args.connection, request, args.output).await
        }
        AccessKeyCommand::Disable(args) => set_disabled(args, true).await,
        AccessKeyCommand::Enable(args) => set_disabled(args, false).await,
        AccessKeyCommand::Delete(args) => delete(args).await,
    }
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    args.new_key.check()?;
    let request = pb::CreateAccessKeyRequest {
        role: pb::Role::from(args.role).into(),
        scope: args.scope.message(),
        description: args.description,
        expire_time: args.expiry.moment(),
        secret_sha256: Vec::new(),
        can_sign: args.can_sign,
    };
    let answer = args.connection.connect_as_admin()?.create_access_key(request).await;
    args.new_key.print(answered(answer, Effect::Changes)?)
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect_as_admin()?;
    let mut request = pb::ListAccessKeysRequest {
        role: args.role.map(pb::Role::from).unwrap_or_default().into(),
        unused_days: args.unused.unwrap_or_default(),
        page_size: 1000,
        page_token: String::new(),
    };
    let mut all = pb::ListAccessKeysResponse::default();
    loop {
        let page = client.list_access_keys(request.clone()).await;
        let page = answered(page, Effect::Reads)?;
        all.request_id = page.request_id;
        all.access_keys.extend(page.access_keys);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    args.shown
        .print("ListAccessKeysResponse", &all, "access keys", &all.access_keys)
}

impl Row for pb::AccessKey {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("description", |key| plain(&key.description)),
        Column::new("role", |key| role(key.role())),
        Column::new("state", |key| state(key).to_owned()),
        Column::new("expires", |key| date(key.expire_time)),
        Column::new("last-use", |key| {
            date(key.last_use.as_ref().and_then(|last| last.use_time))
        }),
        Column::extra("last-address", |key| {
            plain(key.last_use.as_ref().map_or("", |last| &last.address))
        }),
        Column::extra("last-method", |key| {
            plain(key.last_use.as_ref().map_or("", |last| &last.method))
        }),
        Column::extra("scope", |key| plain(&scope(key.scope.as_ref()))),
        Column::extra("created", |key| moment(key.create_time)),
        Column::extra("created-by", |key| plain(&key.created_by)),
        Column::new("id", |key| plain(&key.access_key_id)),
    ];
}

async fn set_disabled(args: KeyArgs, disabled: bool) -> Result<(), Failure> {
    let request = pb::UpdateAccessKeyRequest {
        access_key_id: args.id,
        disabled: Some(disabled),
        ..Default::default()
    };
    update(&args.connection, request, args.output).await
}

async fn update(
    connection: &ConnectionArgs,
    request: pb::UpdateAccessKeyRequest,
    output: ListOutput,
) -> Result<(), Failure> {
    let answer = connection.connect_as_admin()?.update_access_key(request).await;
    let answer = answered(answer, Effect::Changes)?;
    match output.document() {
        Some(document) => document.print("UpdateAccessKeyResponse", &answer),
        None => lines(&key_lines(&answer.access_key.unwrap_or_default())),
    }
}

async fn delete(args: KeyArgs) -> Result<(), Failure> {
    let request = pb::DeleteAccessKeyRequest {
        access_key_id: args.id.clone(),
    };
    let answer = args.connection.connect_as_admin()?.delete_access_key(request).await;
    let answer = answered(answer, Effect::Changes)?;
    let done = ("deleted", args.id.as_str(), "");
    print::changed(done, "DeleteAccessKeyResponse", &answer, args.output)
}

impl Created for pb::CreateAccessKeyResponse {
    const NAME: &'static str = "CreateAccessKeyResponse";

    fn key(&mut self) -> (Option<&pb::AccessKey>, &mut String) {
        (self.access_key.as_ref(), &mut self.secret)
    }
}
