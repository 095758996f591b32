//! The operator's commands.

use std::env;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rustix::process::{DumpableBehavior, Resource, Rlimit, getrlimit, set_dumpable_behavior, setrlimit};
use sd_notify::NotifyState;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::Failure;
use super::settings::variable;
use crate::app::{FirstAccount, Policy, Recovery};
use crate::config::{Config, DatabaseConfig, DatabaseSource, Layers};
use crate::secret::{quoted, read_private};
use crate::server::{Database, KeyRing, METRICS_CONNECTIONS, SLB_CONNECTIONS, STOP_WITHIN, Server, unusable_files};
use crate::store::schema_version;
use crate::telemetry::{self, Export, Filter, Telemetry, causes};

/// The maximum length of a file with a database URL.
const MAX_URL_LEN: u64 = 64 * 1024;

/// The time beside that of the private Postgres until a start has stopped.
const STOP_SPARE_TIME: Duration = Duration::from_secs(10);

/// Files beside those of connections: programs, libraries, logs, the private Postgres, notifications.
const SPARE_FILES: usize = 100;

/// Resolves the configuration and the policy, and starts logs and traces.
pub(super) fn configure(layers: Layers) -> Result<(Config, Policy, Telemetry), Failure> {
    let (config, policy, filter) = resolve(layers)?;
    let export = config.otlp_endpoint.as_ref().map(|endpoint| Export {
        endpoint,
        headers: &config.otlp_headers,
        sample_ratio: config.trace_sample_ratio,
    });
    let telemetry = telemetry::begin(filter, export.as_ref());
    let telemetry = telemetry.map_err(|error| Failure::usage(Failure::from_error(&error).text))?;
    Ok((config, policy, telemetry))
}

fn resolve(mut layers: Layers) -> Result<(Config, Policy, Filter), Failure> {
    // The configuration module does not know filters or policies.
    let filter = layers.parsed("log", "a level or tracing directives, for example certkeep=debug");
    let policy = layers.parsed(
        "policy",
        "default or strict, then exceptions, for example strict,EXPIRES_SOON=report",
    );
    let resolved = layers.resolve(|path| match read_private(path, MAX_URL_LEN) {
        Ok(text) => Ok(text.into_text()),
        Err(error) => Err(causes(&error)),
    });
    let config = resolved.map_err(|error| Failure::usage(error.to_string()))?;
    // Both are set, because `resolve` has reported all errors.
    let filter = filter.ok_or_else(|| Failure::usage("log is not set"))?;
    let policy = policy.ok_or_else(|| Failure::usage("policy is not set"))?;
    Ok((config, policy, filter))
}

/// Prints the effective settings, or their errors, and reads the files that they name.
pub(super) async fn print_config(layers: Layers) -> Result<(), Failure> {
    let shown = layers.show();
    let (config, ..) = resolve(layers)?;
    std::io::stdout()
        .write_all(shown.as_bytes())
        .map_err(|error| Failure::from_error(&error))?;
    let unusable = unusable_files(&config).await;
    match unusable.is_empty() {
        true => Ok(()),
        false => Err(Failure::usage(format!(
            "files of the settings cannot be used:\n  {}",
            unusable.join("\n  ")
        ))),
    }
}

pub(super) async fn serve(config: &Config, policy: Policy) -> Result<(), Failure> {
    let failed = |error: std::io::Error| Failure::from_error(&error);
    let mut signals = Signals {
        interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
        terminate: signal(SignalKind::terminate()).map_err(failed)?,
    };
    let config = &fitted(config, raise_open_files());
    let path = variable("PATH");
    let cancel = CancellationToken::new();
    let mut starting = std::pin::pin!(Server::start(config, policy, path.as_deref(), &cancel));
    let started = tokio::select! {
        started = &mut starting => started,
        () = signals.next() => {
            cancel.cancel();
            // Stops all parts that have started. A second signal ends this wait.
            tokio::select! {
                started = &mut starting => if let Ok(server) = started { server.stop().await },
                () = signals.next() => {}
                () = tokio::time::sleep(stop_time(config)) => {}
            }
            return Err(Failure::refused("stopped while starting"));
        }
    };
    let server = started.map_err(|error| Failure::from_error(&error))?;
    if let Err(error) = print_banner(config, &server) {
        tracing::warn!(%error, "printing the addresses failed");
    }
    notify(NotifyState::Ready);
    signals.next().await;
    tracing::info!("stopping: finishing the calls under way");
    notify(NotifyState::Stopping);
    server.stop().await;
    Ok(())
}

/// How long a start may take to stop after a signal. The private Postgres writes its memory to disk.
fn stop_time(config: &Config) -> Duration {
    match config.database.source {
        DatabaseSource::Private { .. } => config.drain_time.max(STOP_WITHIN + STOP_SPARE_TIME),
        DatabaseSource::Url { .. } => config.drain_time,
    }
}

struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Notifies systemd, if systemd started this process.
fn notify(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "notifying systemd failed");
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
    let region = match config.regions.as_deref() {
        Some([_only]) => String::new(),
        Some([first, ..]) => format!(" --region {}", quoted(Path::new(&first.id))),
        Some([]) | None => " --region cn-hangzhou".to_owned(),
    };
    let mut upload = format!("{} upload{region} --cert CERT.pem --key KEY.pem", quoted(&program));
    let address = server.address();
    if config.tls.is_some() || address.to_string() != "127.0.0.1:50051" {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        let host = match address.ip() {
            ip if !ip.is_unspecified() => address.to_string(),
            _ => format!("localhost:{}", address.port()),
        };
        upload.push_str(&format!(" --endpoint {scheme}://{host}"));
        if config.tls.is_none() && !address.ip().is_loopback() && !address.ip().is_unspecified() {
            upload.push_str(" --danger-plaintext");
        }
    }
    let is_private = matches!(database.source, DatabaseSource::Private { .. });
    if is_private {
        upload.push_str(&format!(" --access-key-file {}", quoted(&database.admin_key)));
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
    if let Some(address) = server.slb_address() {
        let scheme = if config.tls.is_some() { "https" } else { "http" };
        writeln!(out, "SLB API   {scheme}://{address}")?;
    }
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
    made.map_err(|error| Failure::refused(format!("{} cannot be made: {error}", config.data_dir.display())))?;
    let database = open(config).await?;
    let outcome = database.bootstrap().await;
    database.close().await;
    match outcome.map_err(|error| Failure::from_error(&error))? {
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

/// Creates an admin's or an operator's key, on a host that has the key ring.
pub(super) async fn recover(
    config: &DatabaseConfig,
    recovery: &Recovery,
    secret_file: Option<PathBuf>,
) -> Result<(), Failure> {
    let name = match recovery {
        Recovery::Admin(_) => "admin.key",
        Recovery::Operator => "operator.key",
    };
    let file = secret_file.unwrap_or_else(|| config.data_dir.join(name));
    if file.exists() {
        return Err(Failure::usage(format!(
            "{} exists: name a new file with --secret-file",
            file.display()
        )));
    }
    let database = open(config).await?;
    let outcome = database.recover(recovery, &file).await;
    database.close().await;
    let key = outcome.map_err(|error| Failure::from_error(&error))?;
    if key.is_disabled {
        tracing::warn!(
            account = key.account_name,
            "the account is disabled, so its keys are refused"
        );
    }
    let account = match key.account {
        Some(account) => format!("account    {account} ({})\n", key.account_name),
        None => String::new(),
    };
    let mut out = std::io::stdout().lock();
    write!(
        out,
        "{account}access key {}\nwritten to {}\n",
        key.access_key_id,
        file.display()
    )
    .map_err(|error| Failure::from_error(&error))
}

/// Reads the key ring and opens the database as it is: nothing is created, and nothing is migrated.
pub(super) async fn open_unchanged(config: &DatabaseConfig) -> Result<(Database, KeyRing), Failure> {
    Database::open_unchanged(config, variable("PATH").as_deref())
        .await
        .map_err(|error| Failure::from_error(&error))
}

async fn open(config: &DatabaseConfig) -> Result<Database, Failure> {
    Database::open(config, variable("PATH").as_deref())
        .await
        .map_err(|error| Failure::from_error(&error))
}

/// Raises the limit of open files as far as the system lets certkeep: each connection needs one. Returns the limit. `None`: there is none.
fn raise_open_files() -> Option<u64> {
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit {
        current: limit.maximum,
        maximum: limit.maximum,
    };
    match setrlimit(Resource::Nofile, raised) {
        Ok(()) => limit.maximum,
        Err(error) => {
            tracing::debug!(%error, "the limit of open files stays as it is");
            limit.current
        }
    }
}

/// The settings with as many connections as there are files for. Otherwise, callers could use up the files that the database and the
/// metrics need.
fn fitted(config: &Config, open_files: Option<u64>) -> Config {
    let mut config = config.clone();
    let others = METRICS_CONNECTIONS + config.database.max_connections + SPARE_FILES;
    let open_files = usize::try_from(open_files.unwrap_or(u64::MAX)).unwrap_or(usize::MAX);
    let free = open_files.saturating_sub(others);
    let (connections, of_slb) = match config.slb_listen {
        Some(_) => (
            free.saturating_sub(SLB_CONNECTIONS).max(free / 2).max(1),
            config.max_connections.min(SLB_CONNECTIONS),
        ),
        None => (free.max(1), 0),
    };
    if connections < config.max_connections {
        tracing::warn!(
            open_files,
            max_connections = config.max_connections,
            "max_connections is {connections}: the limit of open files is too low for the settings, raise it to {} (LimitNOFILE= in a \
             systemd unit)",
            config.max_connections + of_slb + others
        );
        config.max_connections = connections;
    }
    config
}

/// Turns core dumps off: a core dump of any command contains private keys.
pub(super) fn no_core_dumps() -> Result<(), Failure> {
    let none = Rlimit {
        current: Some(0),
        maximum: Some(0),
    };
    setrlimit(Resource::Core, none)
        .and_then(|()| set_dumpable_behavior(DumpableBehavior::NotDumpable))
        .map_err(|error| Failure::refused(format!("core dumps cannot be turned off: {error}")))
}
