//! `certkeep context`.

use std::path::Path;

use clap::{Args, Subcommand};

use super::Failure;
use super::connection::ConnectionArgs;
use super::contexts::{Context, ContextDir};
use super::print::{line, lines, plain};
use super::settings::variable;
use super::table::{self, Column, Row};

const SYSTEM: &str = "the system's CA certificates";

#[derive(Subcommand)]
pub(super) enum ContextCommand {
    /// List the contexts. A star marks the current one.
    List,
    /// Make a context the current one.
    Use {
        /// Name of the context.
        name: String,
    },
    /// Show which server, access key and region commands use now, and where each value comes from.
    Show(ShowArgs),
    /// Delete a context, and the file of its access key if `certkeep login` wrote it. The access key itself stays valid.
    Delete {
        /// Name of the context.
        name: String,
    },
}

#[derive(Args)]
pub(super) struct ShowArgs {
    /// Show this context as it is stored.
    #[arg(conflicts_with_all = ["context", "endpoint", "access_key_file", "ca_file", "client_cert", "client_key", "data_dir"])]
    name: Option<String>,
    #[command(flatten)]
    connection: ConnectionArgs,
}

pub(super) fn run(command: ContextCommand) -> Result<(), Failure> {
    match command {
        ContextCommand::List => list(),
        ContextCommand::Use { name } => make_current(&name),
        ContextCommand::Show(ShowArgs { name: Some(name), .. }) => show_stored(&name),
        ContextCommand::Show(ShowArgs { connection, .. }) => show(&connection),
        ContextCommand::Delete { name } => delete(&name),
    }
}

/// The directory of the contexts.
pub(super) fn dir() -> Result<ContextDir, Failure> {
    ContextDir::of_user(variable)
        .ok_or_else(|| Failure::usage("contexts need a home directory: set HOME or XDG_CONFIG_HOME"))
}

fn list() -> Result<(), Failure> {
    let contexts = dir()?.read()?;
    let rows: Vec<_> = contexts
        .by_name
        .iter()
        .map(|(name, context)| ListedContext {
            is_current: contexts.current.as_ref() == Some(name),
            name: name.clone(),
            context: context.clone(),
        })
        .collect();
    table::show("contexts", &rows)
}

/// A context of the list.
pub(super) struct ListedContext {
    pub(super) is_current: bool,
    pub(super) name: String,
    pub(super) context: Context,
}

impl Row for ListedContext {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("", |row| if row.is_current { "*" } else { "" }.to_owned()),
        Column::text("name", |row| plain(&row.name)),
        Column::text("endpoint", |row| plain(&row.context.endpoint)),
        Column::text("region", |row| plain(row.context.region.as_deref().unwrap_or_default())),
        Column::text("access-key", |row| {
            plain(&shown(row.context.access_key_file.as_deref()))
        }),
    ];
}

fn shown(path: Option<&Path>) -> String {
    path.map_or("none".to_owned(), |path| path.display().to_string())
}

fn make_current(name: &str) -> Result<(), Failure> {
    let dir = dir()?;
    let mut edit = dir.edit()?;
    let endpoint = edit.contexts.find(name)?.endpoint.clone();
    edit.contexts.current = Some(name.to_owned());
    edit.save()?;
    lines(&[line("context", name), line("endpoint", &endpoint)])
}

fn show(connection: &ConnectionArgs) -> Result<(), Failure> {
    let connection = connection.resolve()?;
    let ca_file = connection.ca_file.map_or(SYSTEM.to_owned(), |file| {
        format!("{} ({})", file.value.display(), file.origin)
    });
    let region = connection
        .region
        .map(|region| format!("{} ({})", region.value, region.origin));
    let client = connection.client_certificate;
    let client = client.map(|client| format!("{} ({})", client.value.certificate.display(), client.origin));
    let endpoint = connection.endpoint;
    lines(&[
        line("context", connection.context.as_deref().unwrap_or("none")),
        line("endpoint", &format!("{} ({})", endpoint.value, endpoint.origin)),
        line("CA file", &ca_file),
        line("access key", &connection.access_key.to_string()),
        line("client cert", &client.unwrap_or_default()),
        line("region", region.as_deref().unwrap_or("none")),
        line("plain text", plain_text(connection.danger_plaintext)),
    ])
}

/// Whether keys may go to an http endpoint that is not this machine.
fn plain_text(is_allowed: bool) -> &'static str {
    if is_allowed { "allowed" } else { "refused" }
}

fn show_stored(name: &str) -> Result<(), Failure> {
    let contexts = dir()?.read()?;
    let context = contexts.find(name)?;
    let ca_file = context.ca_file.as_ref();
    let client = context.client_certificate.as_ref();
    lines(&[
        line("context", name),
        line("endpoint", &context.endpoint),
        line(
            "CA file",
            &ca_file.map_or(SYSTEM.to_owned(), |file| file.display().to_string()),
        ),
        line("access key", &shown(context.access_key_file.as_deref())),
        line(
            "client cert",
            &client.map_or_else(String::new, |client| shown(Some(&client.certificate))),
        ),
        line("region", context.region.as_deref().unwrap_or("none")),
        line("plain text", plain_text(context.danger_plaintext)),
    ])
}

fn delete(name: &str) -> Result<(), Failure> {
    let dir = dir()?;
    let edit = dir.edit()?;
    let was_current = edit.contexts.current.as_deref() == Some(name);
    let key_file = edit.remove(name)?;
    let key_file = key_file.map(|file| file.display().to_string());
    lines(&[
        line("deleted", name),
        line("key file", key_file.as_deref().unwrap_or_default()),
        match was_current {
            true => line("current", "none: choose one with `certkeep context use`"),
            false => String::new(),
        },
    ])
}
