//! The command line: `serve`, the operator's commands and the client's. With `main.rs` the only place that reads the
//! environment.

mod answer;
mod ca;
mod check;
mod connection;
mod file;
mod import;
mod print;
mod region;
mod resource_group;
mod search;
mod serve;
mod server_certificate;
mod settings;
mod tag;
mod whoami;
mod words;

use std::io::Write;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::telemetry::causes;
use settings::Flags;

const CHECK_EXIT_CODES: &str =
    "Exit code: 0 nothing to worry about, 1 an upload would be refused, 5 there are warnings.";
const IMPORT_EXIT_CODES: &str = "Exit code: 0 every pair is stored, 1 something was refused, can not be read or lacks its \
                                 other half, 3 the service was unavailable, 130 interrupted. Repeat the command: no pair is stored twice.";
const DEFAULT_ENDPOINT: &str = "http://127.0.0.1:50051";

/// The certificate store of a fleet.
#[derive(Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the service until Ctrl-C or SIGTERM.
    Serve(ServeArgs),
    /// Bring the database's schema to this version.
    Migrate(Flags<false>),
    /// Make the first account and its admin key, and a key ring if there is none, in a database of your own.
    Bootstrap(Flags<false>),
    /// Upload a server certificate and its private key.
    Upload(server_certificate::UploadArgs),
    /// Upload every certificate of a folder that has its private key there, whatever the files are called.
    #[command(after_help = IMPORT_EXIT_CODES)]
    Import(import::ImportArgs),
    /// Find everything that an upload would find in a pair. Works without a service.
    #[command(after_help = CHECK_EXIT_CODES)]
    Check(check::CheckArgs),
    /// List server certificates.
    Describe(server_certificate::DescribeArgs),
    /// Search server certificates: those that meet all that is given.
    Search(search::SearchArgs),
    /// List what expires soon, the expired first.
    Expiring(search::ExpiringArgs),
    /// Show one server certificate, with its chain.
    Get(server_certificate::GetArgs),
    /// Rename a server certificate.
    Rename(server_certificate::RenameArgs),
    /// Delete a server certificate. It can be undeleted for some days, then it is removed with its private key.
    Delete(server_certificate::TargetArgs),
    /// Make a deleted server certificate live again.
    Undelete(server_certificate::TargetArgs),
    /// Remove a deleted server certificate and its private key, for good.
    Purge(server_certificate::TargetArgs),
    /// Keep certificates of authorities.
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Set tags of server and CA certificates.
    Tag(tag::TagArgs),
    /// Remove tags from server and CA certificates.
    Untag(tag::UntagArgs),
    /// List the tags of server and CA certificates.
    Tags(tag::TagsArgs),
    /// Make and list resource groups, and move certificates between them.
    #[command(subcommand)]
    ResourceGroup(resource_group::ResourceGroupCommand),
    /// List the regions in which certificates can be kept.
    Regions(region::RegionsArgs),
    /// Show the account, access key and role of the caller.
    Whoami(whoami::WhoamiArgs),
    /// Print a script that completes this command in a shell.
    Completions {
        /// The shell.
        shell: clap_complete::Shell,
    },
}

#[derive(Args)]
struct ServeArgs {
    #[command(flatten)]
    flags: Flags<true>,
    /// Print the settings that are in force, each with where it came from, and do nothing.
    #[arg(long)]
    print_config: bool,
}

/// Why a command failed: what to print, and the exit code that scripts tell it by.
struct Failure {
    code: u8,
    text: String,
}

impl Failure {
    /// The service refused, or the command could not do it.
    fn refused(text: impl Into<String>) -> Self {
        Self {
            code: 1,
            text: text.into(),
        }
    }

    /// The command line is wrong. clap exits with the same.
    fn usage(text: impl Into<String>) -> Self {
        Self {
            code: 2,
            text: text.into(),
        }
    }

    /// The service can't be reached or is unavailable, and nothing was changed: trying again may help.
    fn unavailable(text: impl Into<String>) -> Self {
        Self {
            code: 3,
            text: text.into(),
        }
    }

    /// Whether the call took effect is not known: look before it is repeated.
    fn unknown(text: impl Into<String>) -> Self {
        Self {
            code: 4,
            text: text.into(),
        }
    }

    /// All was said on standard output.
    fn silent(code: u8) -> Self {
        Self {
            code,
            text: String::new(),
        }
    }

    /// An error and its causes.
    fn from_error(error: &dyn std::error::Error) -> Self {
        Self::refused(causes(error))
    }
}

/// Runs the command that the process was started with.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let outcome = serve::no_core_dumps()
        .and_then(|()| {
            let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
            runtime.map_err(|error| Failure::from_error(&error))
        })
        .and_then(|runtime| runtime.block_on(execute(cli)));
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            if !failure.text.is_empty() {
                // Nobody to tell if standard error is closed.
                let _ = writeln!(std::io::stderr(), "error: {}", failure.text.trim_end());
            }
            ExitCode::from(failure.code)
        }
    }
}

async fn execute(cli: Cli) -> Result<(), Failure> {
    match cli.command {
        Command::Serve(args) => {
            let layers = args.flags.layers()?;
            if args.print_config {
                return serve::print_config(layers);
            }
            let (config, policy, _telemetry) = serve::configure(layers)?;
            serve::serve(&config, policy).await
        }
        Command::Migrate(flags) => {
            let (config, _, _telemetry) = serve::configure(flags.layers()?)?;
            serve::migrate(&config.database).await
        }
        Command::Bootstrap(flags) => {
            let (config, _, _telemetry) = serve::configure(flags.layers()?)?;
            serve::bootstrap(&config.database).await
        }
        Command::Upload(args) => server_certificate::upload(args).await,
        Command::Import(args) => import::import(args).await,
        Command::Check(args) => check::check(args).await,
        Command::Describe(args) => server_certificate::describe(args).await,
        Command::Search(args) => search::search(args).await,
        Command::Expiring(args) => search::expiring(args).await,
        Command::Get(args) => server_certificate::get(args).await,
        Command::Rename(args) => server_certificate::rename(args).await,
        Command::Delete(args) => server_certificate::delete(args).await,
        Command::Undelete(args) => server_certificate::undelete(args).await,
        Command::Purge(args) => server_certificate::purge(args).await,
        Command::Ca(command) => ca::run(command).await,
        Command::Tag(args) => tag::tag(args).await,
        Command::Untag(args) => tag::untag(args).await,
        Command::Tags(args) => tag::list(args).await,
        Command::ResourceGroup(command) => resource_group::run(command).await,
        Command::Regions(args) => region::regions(args).await,
        Command::Whoami(args) => whoami::whoami(args).await,
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(
                shell,
                &mut <Cli as clap::CommandFactory>::command(),
                "certkeep",
                &mut script,
            );
            print::print(&String::from_utf8_lossy(&script))
        }
    }
}
