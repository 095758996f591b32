//! Which Postgres a connection leads to. The system identifier names its cluster. Its timeline rises with each promotion of a standby, so
//! an old primary that comes back after a failover has a lower one. It still accepts changes, and they would be lost.

use std::fmt;
use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio_postgres::{Client, Error, SimpleQueryMessage};

use super::error::Cause;
use crate::telemetry::metrics;

/// A refused server is named in the log at most this often.
const LOG_EVERY: Duration = Duration::from_secs(60);

/// The timeline of `pg_control_checkpoint()` is that of the last checkpoint, so the name of the present WAL file tells it. A standby has
/// no present WAL file, and accepts no changes.
const IDENTIFY: &str = "-- store::identify
    select system_identifier, case when not pg_is_in_recovery() then pg_walfile_name(pg_current_wal_lsn()) end
    from pg_control_system()";

/// The primary with the highest timeline that this process has seen, or the last one with the same data directory. Cheap to clone.
#[derive(Clone)]
pub(super) struct Timelines(Arc<Shared>);

struct Shared {
    /// The file that keeps the primary over a restart. Without it, only the memory of this process protects.
    hint: Option<PathBuf>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    highest: Option<Primary>,
    /// Whether this process has used a server.
    is_running: bool,
    /// When the timeline last rose. Connections from before lead to an old primary.
    rose: Option<Instant>,
    /// Why the last server was refused, until another one is accepted.
    refusal: Option<Refusal>,
    logged: Option<Instant>,
}

/// A server that accepts changes.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Primary {
    pub(super) system: u64,
    pub(super) timeline: u32,
    pub(super) host: String,
}

/// Why a server is not used.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Refusal {
    /// Another server has a higher timeline.
    OldPrimary {
        refused: Primary,
        known: Primary,
        hint: Option<PathBuf>,
    },
    /// It is another cluster than the one that this process has used.
    OtherCluster { refused: Primary, known: Primary },
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OldPrimary { refused, known, hint } => {
                write!(
                    f,
                    "the database at {} is on timeline {}, and the database at {} was promoted to timeline {}: the first one is an old \
                     primary, so shut it down or make it a standby",
                    refused.host, refused.timeline, known.host, known.timeline
                )?;
                match hint {
                    Some(hint) => write!(
                        f,
                        " (if it was restored, remove {} and restart certkeep)",
                        hint.display()
                    ),
                    None => f.write_str(" (if it was restored, restart certkeep)"),
                }
            }
            Self::OtherCluster { refused, known } => write!(
                f,
                "the database at {} has the system identifier {}, and certkeep has used that at {} with {}: it is another cluster, so \
                 correct the database URL, or restart certkeep to use it",
                refused.host, refused.system, known.host, known.system
            ),
        }
    }
}

impl Timelines {
    /// Begins with the primary of the file, if there is one.
    pub(super) fn new(hint: Option<PathBuf>) -> Self {
        let highest = hint.as_deref().and_then(|path| match std::fs::read_to_string(path) {
            Ok(text) => {
                let read = Primary::parse(&text);
                if read.is_none() {
                    tracing::warn!(file = %path.display(), "the file names no timeline of the database, and is replaced");
                }
                read
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => {
                tracing::warn!(file = %path.display(), %error, "the last timeline of the database cannot be read");
                None
            }
        });
        let state = State {
            highest,
            ..State::default()
        };
        Self(Arc::new(Shared {
            hint,
            state: Mutex::new(state),
        }))
    }

    /// Whether the server of this connection may be used. A standby may: it accepts no changes. Answers the moment for
    /// [`is_outdated`](Self::is_outdated).
    pub(super) async fn check(&self, client: &Client, host: &str) -> Result<Result<Instant, Refusal>, Error> {
        let Some(server) = identify(client, host).await? else {
            return Ok(Ok(Instant::now()));
        };
        let accepted = self.accept(server);
        if let Err(refusal) = &accepted {
            metrics::database_host_refused();
            let mut state = self.state();
            state.refusal = Some(refusal.clone());
            if state.logged.is_none_or(|at| at.elapsed() > LOG_EVERY) {
                state.logged = Some(Instant::now());
                tracing::error!("{refusal}");
            }
        }
        Ok(accepted)
    }

    fn accept(&self, server: Primary) -> Result<Instant, Refusal> {
        let mut state = self.state();
        let is_new = match &state.highest {
            None => true,
            Some(known) if known.system != server.system => {
                if state.is_running {
                    return Err(Refusal::OtherCluster {
                        refused: server,
                        known: known.clone(),
                    });
                }
                tracing::warn!(
                    host = server.host,
                    system_identifier = server.system,
                    before = known.system,
                    "the database is another cluster than at the last start"
                );
                true
            }
            Some(known) if server.timeline < known.timeline => {
                return Err(Refusal::OldPrimary {
                    refused: server,
                    known: known.clone(),
                    hint: self.0.hint.clone(),
                });
            }
            Some(known) if server.timeline > known.timeline => {
                tracing::info!(
                    host = server.host,
                    timeline = server.timeline,
                    before = known.timeline,
                    "another primary database was promoted"
                );
                state.rose = Some(Instant::now());
                true
            }
            Some(_) => false,
        };
        state.is_running = true;
        state.refusal = None;
        if is_new {
            if let Some(path) = &self.0.hint
                && let Err(error) = write(path, &server)
            {
                tracing::warn!(file = %path.display(), %error, "the timeline of the database cannot be kept over a restart");
            }
            state.highest = Some(server);
        }
        Ok(Instant::now())
    }

    /// Whether a connection that was opened then leads to an old primary.
    pub(super) fn is_outdated(&self, opened: Instant) -> bool {
        self.state().rose.is_some_and(|rose| opened < rose)
    }

    /// Why no server is used, if the last one was refused.
    pub(super) fn refusal(&self) -> Option<Cause> {
        let refusal = self.state().refusal.clone()?;
        Some(Cause::new(refusal.to_string()))
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.0.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Primary {
    /// One line: the system identifier, the timeline and the host.
    fn parse(text: &str) -> Option<Self> {
        let mut words = text.trim_end().splitn(3, ' ');
        Some(Self {
            system: words.next()?.parse().ok()?,
            timeline: words.next()?.parse().ok()?,
            host: words.next()?.to_owned(),
        })
    }
}

/// The server of a connection. `None`: a standby, or a server that does not tell.
async fn identify(client: &Client, host: &str) -> Result<Option<Primary>, Error> {
    let rows = match client.simple_query(IDENTIFY).await {
        Ok(rows) => rows,
        Err(error) if error.as_db_error().is_some() => {
            tracing::debug!(cause = %Cause::from(&error), "the database does not tell its timeline");
            return Ok(None);
        }
        Err(error) => return Err(error),
    };
    let row = rows.iter().find_map(|message| match message {
        SimpleQueryMessage::Row(row) => Some(row),
        _ => None,
    });
    Ok(row.and_then(|row| {
        // The first 8 digits of the file's name.
        let timeline = u32::from_str_radix(row.get(1)?.get(..8)?, 16).ok()?;
        Some(Primary {
            system: row.get(0)?.parse().ok()?,
            timeline,
            host: host.to_owned(),
        })
    }))
}

/// Writes the file as a whole or not at all.
fn write(path: &Path, primary: &Primary) -> io::Result<()> {
    // Processes with the same data directory do not share the temporary file.
    let partial = path.with_extension(format!("{}.partial", std::process::id()));
    let mut file = File::create(&partial)?;
    writeln!(file, "{} {} {}", primary.system, primary.timeline, primary.host)?;
    file.sync_all()?;
    std::fs::rename(&partial, path)?;
    File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn primary(system: u64, timeline: u32, host: &str) -> Primary {
        Primary {
            system,
            timeline,
            host: host.to_owned(),
        }
    }

    #[test]
    fn a_lower_timeline_is_refused_also_after_a_restart_and_both_hosts_are_named() {
        let dir = tempfile::tempdir().unwrap();
        let hint = dir.path().join("database-timeline");
        let timelines = Timelines::new(Some(hint.clone()));
        let opened = Instant::now();
        assert_eq!(timelines.accept(primary(7, 1, "a:5432")).map(|_| ()), Ok(()));
        assert!(!timelines.is_outdated(opened));
        assert_eq!(timelines.accept(primary(7, 2, "b:5432")).map(|_| ()), Ok(()));
        assert!(timelines.is_outdated(opened));
        assert!(!timelines.is_outdated(Instant::now()));
        for timelines in [timelines, Timelines::new(Some(hint.clone()))] {
            let refusal = timelines.accept(primary(7, 1, "a:5432")).unwrap_err().to_string();
            assert!(refusal.contains("a:5432 is on timeline 1"), "{refusal}");
            assert!(refusal.contains("b:5432 was promoted to timeline 2"), "{refusal}");
            assert_eq!(timelines.accept(primary(7, 2, "b:5432")).map(|_| ()), Ok(()));
        }
        std::fs::remove_file(&hint).unwrap();
        assert_eq!(
            Timelines::new(Some(hint)).accept(primary(7, 1, "a:5432")).map(|_| ()),
            Ok(())
        );
    }

    #[test]
    fn another_cluster_is_accepted_at_a_start_and_refused_later() {
        let dir = tempfile::tempdir().unwrap();
        let hint = dir.path().join("database-timeline");
        assert_eq!(
            Timelines::new(Some(hint.clone()))
                .accept(primary(7, 5, "a:5432"))
                .map(|_| ()),
            Ok(())
        );
        let timelines = Timelines::new(Some(hint.clone()));
        assert_eq!(timelines.accept(primary(8, 1, "a:5432")).map(|_| ()), Ok(()));
        let refusal = timelines.accept(primary(7, 5, "b:5432")).unwrap_err();
        assert!(matches!(refusal, Refusal::OtherCluster { .. }));
        assert_eq!(std::fs::read_to_string(&hint).unwrap(), "8 1 a:5432\n");
    }

    #[test]
    fn a_hint_that_cannot_be_read_or_written_loses_only_its_protection() {
        let dir = tempfile::tempdir().unwrap();
        let hint = dir.path().join("database-timeline");
        std::fs::write(&hint, "garbage").unwrap();
        assert_eq!(
            Timelines::new(Some(hint)).accept(primary(7, 1, "a:5432")).map(|_| ()),
            Ok(())
        );
        let nowhere = dir.path().join("none/database-timeline");
        assert_eq!(
            Timelines::new(Some(nowhere))
                .accept(primary(7, 1, "a:5432"))
                .map(|_| ()),
            Ok(())
        );
    }
}
