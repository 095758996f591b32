//! The operator's commands.

use std::env;
use std::io::Write;
use std::path::Path;

use rustix::process::{DumpableBehavior, Resource, Rlimit, set_dumpable_behavior, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{SignalKind, signal};

use super::Failure;
use super::settings::variable;
use crate::app::FirstAccount;
use crate::config::{Config, DatabaseConfig, DatabaseSource, Layers};
use crate::server::{Database, Server};
use crate::store::schema_version;

/// The configuration of these layers; logging begins as it says.
pub(super) fn configure(layers: Layers) -> Result<Config, Failure> {
    let filter = layers.value("log").unwrap_or("info").to_owned();
    let config = resolve(layers)?;
    crate::telemetry::init(&filter).map_err(|error| Failure::usage(format!("log is no filter: {error}")))?;
    Ok(config)
}

fn resolve(layers: Layers) -> Result<Config, Failure> {
    layers
        .resolve(|path| std::fs::read_to_string(path))
        .map_err(|error| Failure::usage(error.to_string()))
}

/// Prints the settings in force, or what is wrong with them.
pub(super) fn print_config(layers: Layers) -> Result<(), Failure> {
    let shown = layers.show();
    resolve(layers)?;
    std::io::stdout()
        .write_all(shown.as_bytes())
        .map_err(|error| Failure::from_error(&error))
}

pub(super) async fn serve(config: &Config) -> Result<(), Failure> {
    no_core_dumps()?;
    let failed = |error: std::io::Error| Failure::from_error(&error);
    let mut interrupt = signal(SignalKind::interrupt()).map_err(failed)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(failed)?;
    let path = variable("PATH");
    let started = tokio::select! {
        started = Server::start(config, path.as_deref()) => started,
        _ = interrupt.recv() => return Err(Failure::refused("interrupted while starting")),
        _ = terminate.recv() => return Err(Failure::refused("terminated while starting")),
    };
    let server = started.map_err(|error| Failure::from_error(&error))?;
    print_banner(config, &server).map_err(failed)?;
    notify(NotifyState::Ready);
    tokio::select! {
        _ = interrupt.recv() => tracing::info!("interrupted: finishing the calls under way"),
        _ = terminate.recv() => tracing::info!("terminated: finishing the calls under way"),
    }
    notify(NotifyState::Stopping);
    server.stop().await;
    Ok(())
}

/// Tells systemd, if it started this.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "systemd could not be told");
    }
}

fn print_banner(config: &Config, server: &Server) -> std::io::Result<()> {
    let database = &config.database;
    let program = env::current_exe()?;
    let program = match env::current_dir()
        .ok()
        .and_then(|here| program.strip_prefix(here).ok().map(Path::to_owned))
    {
        Some(relative) => Path::new(".").join(relative),
        None => program,
    };
    let mut upload = format!(
        "{} upload --region cn-hangzhou --cert CERT.pem --key KEY.pem",
        program.display()
    );
    if config.listen.port() != 50051 || !config.listen.ip().is_loopback() || config.tls.is_some() {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        upload.push_str(&format!(" --endpoint {scheme}://{}", server.address()));
    }
    let is_private = matches!(database.source, DatabaseSource::Private { .. });
    if is_private {
        upload.push_str(&format!(" --access-key-file {}", database.admin_key.display()));
    }
    let mut out = std::io::stdout().lock();
    writeln!(
        out,
        "certkeep {} serves gRPC on {}",
        env!("CARGO_PKG_VERSION"),
        server.address()
    )?;
    writeln!(
        out,
        "data      {} ({})",
        database.data_dir.display(),
        server.database().description()
    )?;
    writeln!(
        out,
        "key ring  {} (keep a copy of it apart from the database's backups)",
        database.key_ring.display()
    )?;
    if let Some(address) = server.metrics_address() {
        writeln!(out, "metrics   http://{address}/metrics")?;
    }
    writeln!(out, "upload    {upload}")?;
    out.flush()
}

pub(super) async fn migrate(config: &DatabaseConfig) -> Result<(), Failure> {
    let database = open(config).await?;
    let applied = database.migrated();
    database.close().await;
    let mut out = std::io::stdout().lock();
    writeln!(out, "schema version {} ({applied} applied now)", schema_version())
        .map_err(|error| Failure::from_error(&error))
}

pub(super) async fn bootstrap(config: &DatabaseConfig) -> Result<(), Failure> {
    let made = std::fs::create_dir_all(&config.data_dir);
    made.map_err(|error| Failure::refused(format!("{} can not be made: {error}", config.data_dir.display())))?;
    let database = open(config).await?;
    let outcome = match database.key_ring_or_new().await {
        Ok(_) => FirstAccount::make(database.store(), &config.admin_key)
            .await
            .map_err(|error| Failure::from_error(&error)),
        Err(error) => Err(Failure::from_error(&error)),
    };
    database.close().await;
    match outcome? {
        FirstAccount::Existed => Err(Failure::refused(
            "the database has an access key already: bootstrap makes only the first",
        )),
        FirstAccount::Made(account) => {
            let mut out = std::io::stdout().lock();
            writeln!(out, "account   {account} (default)")
                .and_then(|()| writeln!(out, "admin key {}", config.admin_key.display()))
                .and_then(|()| writeln!(out, "key ring  {}", config.key_ring.display()))
                .map_err(|error| Failure::from_error(&error))
        }
    }
}

async fn open(config: &DatabaseConfig) -> Result<Database, Failure> {
    Database::open(config, variable("PATH").as_deref())
        .await
        .map_err(|error| Failure::from_error(&error))
}

/// A core dump would hold private keys.
fn no_core_dumps() -> Result<(), Failure> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::refused(format!("core dumps can not be turned off: {error}")))
}
