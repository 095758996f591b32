//! The commands for accounts. They need the role operator.

use clap::{Args, Subcommand};

use super::Failure;
use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::new_key::{Created, NewKeyArgs};
use super::print::{ListOutput, day, line, lines, plain};
use super::table::{Column, Row, TableArgs};
use crate::grpc::pb;

#[derive(Subcommand)]
pub(super) enum AccountCommand {
    /// Create an account and its first admin key.
    Create(CreateArgs),
    /// List the accounts.
    List(ListArgs),
    /// Rename an account.
    Rename(RenameArgs),
    /// Disable an account. All replicas refuse its callers within two seconds. Nothing is deleted.
    Disable(AccountArgs),
    /// Enable a disabled account.
    Enable(AccountArgs),
    /// Create an admin key of an account that has lost its own.
    AdminKey(AdminKeyArgs),
}

#[derive(Args)]
pub(super) struct CreateArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Name of the account: letters, digits, `-`, `.` and `_`.
    name: String,
    #[command(flatten)]
    new_key: NewKeyArgs,
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    #[command(flatten)]
    shown: TableArgs<pb::Account>,
}

#[derive(Args)]
pub(super) struct RenameArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the account.
    id: String,
    /// New name of the account.
    name: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct AccountArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the account.
    id: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct AdminKeyArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the account.
    id: String,
    /// Why the key is needed, at most 200 characters. The audit trails record it.
    #[arg(long, value_name = "TEXT")]
    description: String,
    #[command(flatten)]
    new_key: NewKeyArgs,
}

pub(super) async fn run(command: AccountCommand) -> Result<(), Failure> {
    match command {
        AccountCommand::Create(args) => create(args).await,
        AccountCommand::List(args) => list(args).await,
        AccountCommand::Rename(args) => {
            let request = pb::UpdateAccountRequest {
                account_id: args.id,
                name: Some(args.name),
                disabled: None,
            };
            update(&args.connection, request, args.output).await
        }
        AccountCommand::Disable(args) => set_disabled(args, true).await,
        AccountCommand::Enable(args) => set_disabled(args, false).await,
        AccountCommand::AdminKey(args) => create_admin_key(args).await,
    }
}

async fn create(args: CreateArgs) -> Result<(), Failure> {
    args.new_key.check()?;
    let request = pb::CreateAccountRequest {
        name: args.name,
        secret_sha256: Vec::new(),
    };
    let answer = args.connection.connect_as_operator()?.create_account(request).await;
    args.new_key.print(answered(answer, Effect::Changes)?)
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect_as_operator()?;
    let mut request = pb::ListAccountsRequest {
        page_size: 1000,
        page_token: String::new(),
    };
    let mut all = pb::ListAccountsResponse::default();
    loop {
        let page = client.list_accounts(request.clone()).await;
        let page = answered(page, Effect::Reads)?;
        all.request_id = page.request_id;
        all.accounts.extend(page.accounts);
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    args.shown
        .print("ListAccountsResponse", &all, "accounts", &all.accounts)
}

impl Row for pb::Account {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("name", |account| plain(&account.name)),
        Column::new("state", |account| state(account).to_owned()),
        Column::new("certificates", |account| account.server_certificate_count.to_string()),
        Column::new("created", |account| day(account.create_time)),
        Column::new("id", |account| plain(&account.account_id)),
    ];
}

async fn set_disabled(args: AccountArgs, disabled: bool) -> Result<(), Failure> {
    let request = pb::UpdateAccountRequest {
        account_id: args.id,
        name: None,
        disabled: Some(disabled),
    };
    update(&args.connection, request, args.output).await
}

async fn update(
    connection: &ConnectionArgs,
    request: pb::UpdateAccountRequest,
    output: ListOutput,
) -> Result<(), Failure> {
    let answer = connection.connect_as_operator()?.update_account(request).await;
    let answer = answered(answer, Effect::Changes)?;
    match output.document() {
        Some(document) => document.print("UpdateAccountResponse", &answer),
        None => lines(&account_lines(&answer.account.unwrap_or_default())),
    }
}

async fn create_admin_key(args: AdminKeyArgs) -> Result<(), Failure> {
    args.new_key.check()?;
    let request = pb::CreateAccountAdminKeyRequest {
        account_id: args.id,
        description: args.description,
        secret_sha256: Vec::new(),
    };
    let mut client = args.connection.connect_as_operator()?;
    let answer = client.create_account_admin_key(request).await;
    args.new_key.print(answered(answer, Effect::Changes)?)
}

fn account_lines(account: &pb::Account) -> Vec<String> {
    vec![
        line("account", &account.account_id),
        line("name", &account.name),
        line("state", state(account)),
    ]
}

fn state(account: &pb::Account) -> &'static str {
    if account.disabled { "disabled" } else { "enabled" }
}

impl Created for pb::CreateAccountAdminKeyResponse {
    const NAME: &'static str = "CreateAccountAdminKeyResponse";

    fn key(&mut self) -> (Option<&pb::AccessKey>, &mut String) {
        (self.access_key.as_ref(), &mut self.secret)
    }
}

impl Created for pb::CreateAccountResponse {
    const NAME: &'static str = "CreateAccountResponse";

    fn key(&mut self) -> (Option<&pb::AccessKey>, &mut String) {
        (self.access_key.as_ref(), &mut self.secret)
    }

    fn before(&self) -> Vec<String> {
        let account = self.account.as_ref();
        account.map(account_lines).unwrap_or_default()
    }
}
