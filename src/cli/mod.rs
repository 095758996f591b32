//! The command line: `serve`, the operator's commands and the client's commands. Only this module and `main.rs` read the
//! environment.

mod access_key;
mod account;
mod answer;
mod audit;
mod ca;
mod check;
mod connection;
mod context;
mod contexts;
mod document;
mod escape;
mod failure;
mod file;
mod health;
mod help;
mod identity;
mod import;
mod key_pair;
mod keyring;
mod lease;
mod login;
mod new_key;
mod print;
mod quota;
mod region;
mod renewal;
mod resource_group;
mod search;
mod serve;
mod server_certificate;
mod service_error;
mod settings;
mod sync;
mod table;
mod tag;
mod target;
mod watch;
mod whoami;
mod words;

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::app::Recovery;
use failure::Failure;
use settings::Flags;

/// The heading in the help of the arguments that name a server and prove who calls it. It comes last.
const CONNECTION: &str = "Connection";
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:50051";

/// The certificate store of a fleet.
#[derive(Parser)]
#[command(version, arg_required_else_help = true, max_term_width = help::MAX_WIDTH)]
struct Cli {
    /// Name of the context, for commands that call a service. Default: the current context. [env: CERTKEEP_CONTEXT]
    #[arg(long, global = true, value_name = "NAME", help_heading = CONNECTION)]
    context: Option<String>,
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until Ctrl-C or SIGTERM.
    Serve(ServeArgs),
    /// Migrate the database's schema to this version.
    Migrate(Flags<false>),
    /// Create the first account, its admin key, and a key ring if there is none, in your own database. With --recover or --operator,
    /// create one more key on a host that has the key ring.
    Bootstrap(BootstrapArgs),
    /// Upload a server certificate and its private key.
    Upload(server_certificate::UploadArgs),
    /// Upload every certificate in a folder that also has its private key. File names do not matter.
    Import(import::ImportArgs),
    /// Report everything that an upload would report about a pair. Works without a service.
    Check(check::CheckArgs),
    /// List server certificates.
    Describe(server_certificate::DescribeArgs),
    /// Search for server certificates that meet all criteria.
    Search(search::SearchArgs),
    /// List server certificates that expire soon, expired certificates first.
    Expiring(search::ExpiringArgs),
    /// Show one server certificate, with its chain. With --with-key, get its private key too.
    Get(key_pair::GetPairArgs),
    /// Rename a server certificate.
    Rename(server_certificate::RenameArgs),
    /// Renew a server certificate: give it a new pair under the same id.
    Renew(renewal::RenewArgs),
    /// List the versions of a server certificate, newest first.
    Versions(renewal::VersionsArgs),
    /// Give a server certificate the pair of an earlier version again.
    Rollback(renewal::RollbackArgs),
    /// Delete a server certificate. You can undelete it until the service purges it and its private key some days later.
    Delete(server_certificate::DeleteArgs),
    /// Undelete a server certificate.
    Undelete(server_certificate::TargetArgs),
    /// Purge a deleted server certificate and its private key.
    Purge(server_certificate::TargetArgs),
    /// Print the present server certificates and then each change, until Ctrl-C.
    Watch(watch::WatchArgs),
    /// Keep certificates and their private keys in a folder, for programs that read files.
    ///
    /// Each certificate is in DIR/<id>/fullchain.pem, privkey.pem and bundle.pem (the key, then the chain). All three change together.
    /// The access key needs the role consumer.
    Sync(sync::SyncArgs),
    /// List who serves which certificate.
    Leases(lease::LeasesArgs),
    /// Manage CA certificates.
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Set tags of server and CA certificates.
    Tag(tag::TagArgs),
    /// Remove tags from server and CA certificates.
    Untag(tag::UntagArgs),
    /// List the tags of server and CA certificates.
    Tags(tag::TagsArgs),
    /// Manage resource groups, and move certificates between them.
    #[command(subcommand)]
    ResourceGroup(resource_group::ResourceGroupCommand),
    /// Manage access keys.
    #[command(subcommand)]
    AccessKey(access_key::AccessKeyCommand),
    /// Manage accounts. Needs the role operator.
    #[command(subcommand)]
    Account(account::AccountCommand),
    /// Show and set quotas of accounts.
    #[command(subcommand)]
    Quota(quota::QuotaCommand),
    /// Manage the key ring: add a key, rotate to it, verify, and retire the old key.
    #[command(subcommand)]
    Keyring(keyring::KeyringCommand),
    /// Manage client identities: the names in client certificates that act for accounts.
    #[command(subcommand)]
    Identity(identity::IdentityCommand),
    /// List the regions that can store certificates.
    Regions(region::RegionsArgs),
    /// Check an access key, and keep it with its server as a context that later commands use.
    Login(login::LoginArgs),
    /// Manage the contexts of `certkeep login`.
    #[command(subcommand)]
    Context(context::ContextCommand),
    /// List, follow and verify the audit trail. Needs the role admin or operator.
    Audit(audit::AuditArgs),
    /// Show the account, access key, client identity and role of the caller.
    Whoami(whoami::WhoamiArgs),
    /// Ask a server whether it can serve. Needs no access key.
    ///
    /// For the health check of a container: without --endpoint, it asks the listener of this machine, with or without TLS, as the
    /// settings of `certkeep serve` name it.
    Health(health::HealthArgs),
    /// Write the manual pages of all commands to a directory.
    #[command(hide = true)]
    Man {
        /// The directory. Created if it does not exist.
        dir: PathBuf,
    },
    /// Print a shell completion script for this command.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

impl Command {
    fn may_use_context(&self) -> bool {
        use context::ContextCommand::Show;
        match self {
            Self::Context(command) => matches!(command, Show(_)),
            Self::Keyring(command) => !matches!(
                command,
                keyring::KeyringCommand::Add(_) | keyring::KeyringCommand::Verify(_)
            ),
            Self::Serve(_)
            | Self::Migrate(_)
            | Self::Bootstrap(_)
            | Self::Login(_)
            | Self::Health(_)
            | Self::Man { .. }
            | Self::Completions { .. } => false,
            _ => true,
        }
    }
}

#[derive(Args)]
struct BootstrapArgs {
    #[command(flatten)]
    flags: Flags<false>,
    /// Create an admin key of an account that has lost its own.
    #[arg(long, conflicts_with = "operator")]
    recover: bool,
    /// Name of the account. Default: the oldest account.
    #[arg(long, value_name = "NAME", requires = "recover")]
    account: Option<String>,
    /// Create an operator's key.
    #[arg(long)]
    operator: bool,
    /// New file for the key of --recover or --operator. Default: `admin.key` or `operator.key` in the data directory.
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

impl BootstrapArgs {
    /// The key to create after the first start.
    fn recovery(&self) -> Result<Option<Recovery>, Failure> {
        match (self.recover, self.operator) {
            (true, _) => Ok(Some(Recovery::Admin(self.account.clone()))),
            (false, true) => Ok(Some(Recovery::Operator)),
            (false, false) if self.secret_file.is_some() => Err(Failure::usage(
                "--secret-file needs --recover or --operator: the setting admin_key names the file of the first key",
            )),
            (false, false) => Ok(None),
        }
    }
}

#[derive(Args)]
struct ServeArgs {
    #[command(flatten)]
    flags: Flags<true>,
    /// Print the effective settings and the source of each, read the files that they name, and exit.
    #[arg(long)]
    print_config: bool,
}

/// The exit code if certificates need attention: `check` found warnings, or `expiring` lists a certificate.
const WARNED: u8 = 5;

/// The commands and their arguments.
fn command() -> clap::Command {
    let hides_context = |command: clap::Command| command.arg(clap::Arg::new("context").long("context").hide(true));
    // They refuse it.
    ["bootstrap", "completions", "health", "login", "man", "migrate", "serve"]
        .into_iter()
        .fold(help::complete(Cli::command()), |all, name| {
            all.mut_subcommand(name, hides_context)
        })
}

/// Runs the command from the process's arguments.
pub fn run() -> ExitCode {
    let arguments: Vec<_> = std::env::args_os().collect();
    let parsed = command().try_get_matches_from(&arguments);
    let cli = match parsed.and_then(|matches| Cli::from_arg_matches(&matches)) {
        Ok(cli) => cli,
        Err(error) => return failure::of_arguments(&error, &arguments),
    };
    let outcome = serve::no_core_dumps()
        .and_then(|()| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.map_err(|error| Failure::from_error(&error))
        })
        .and_then(|runtime| runtime.block_on(execute(cli)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            failure.report(&arguments);
            ExitCode::from(failure.code)
        }
    }
}

async fn execute(cli: Cli) -> Result<(), Failure> {
    if cli.context.is_some() && !cli.command.may_use_context() {
        return Err(Failure::usage("--context is only for commands that call a service"));
    }
    match cli.command {
        Command::Serve(args) => {
            let layers = args.flags.layers()?;
            if args.print_config {
                return serve::print_config(layers).await;
            }
            let (config, policy, _telemetry) = serve::configure(layers)?;
            serve::serve(&config, policy).await
        }
        Command::Migrate(flags) => {
            let (config, _, _telemetry) = serve::configure(flags.layers()?)?;
            serve::migrate(&config.database).await
        }
        Command::Bootstrap(args) => {
            let recovery = args.recovery()?;
            let (config, _, _telemetry) = serve::configure(args.flags.layers()?)?;
            match recovery {
                None => serve::bootstrap(&config.database).await,
                Some(recovery) => serve::recover(&config.database, &recovery, args.secret_file).await,
            }
        }
        Command::Upload(args) => server_certificate::upload(args).await,
        Command::Import(args) => import::import(args).await,
        Command::Check(args) => check::check(args).await,
        Command::Describe(args) => server_certificate::describe(args).await,
        Command::Search(args) => search::search(args).await,
        Command::Expiring(args) => search::expiring(args).await,
        Command::Get(args) => key_pair::get(args).await,
        Command::Rename(args) => server_certificate::rename(args).await,
        Command::Renew(args) => renewal::renew(args).await,
        Command::Versions(args) => renewal::versions(args).await,
        Command::Rollback(args) => renewal::rollback(args).await,
        Command::Delete(args) => server_certificate::delete(args).await,
        Command::Undelete(args) => server_certificate::undelete(args).await,
        Command::Purge(args) => server_certificate::purge(args).await,
        Command::Watch(args) => watch::watch(args).await,
        Command::Sync(args) => sync::sync(args).await,
        Command::Leases(args) => lease::leases(args).await,
        Command::Ca(command) => ca::run(command).await,
        Command::Tag(args) => tag::tag(args).await,
        Command::Untag(args) => tag::untag(args).await,
        Command::Tags(args) => tag::list(args).await,
        Command::ResourceGroup(command) => resource_group::run(command).await,
        Command::AccessKey(command) => access_key::run(command).await,
        Command::Account(command) => account::run(command).await,
        Command::Quota(command) => quota::run(command).await,
        Command::Keyring(command) => keyring::run(command).await,
        Command::Identity(command) => identity::run(command).await,
        Command::Regions(args) => region::regions(args).await,
        Command::Login(args) => login::login(args).await,
        Command::Context(command) => context::run(command),
        Command::Audit(args) => audit::audit(args).await,
        Command::Whoami(args) => whoami::whoami(args).await,
        Command::Health(args) => health::health(args).await,
        Command::Man { dir } => {
            let written = std::fs::create_dir_all(&dir).and_then(|()| clap_mangen::generate_to(command(), &dir));
            written.map_err(|error| Failure::refused(format!("{} cannot be written: {error}", dir.display())))
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut command(), "certkeep", &mut script);
            // The script is certkeep's own.
            print::write(&script)
        }
    }
}
