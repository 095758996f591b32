//! The scratch Postgres: certkeep's private one with the settings of a server, in a directory that is removed at the end.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use certkeep::postgres::{DataDir, PrivatePostgres, Settings};

use crate::Outcome;
use crate::child::Watcher;

/// What is not Postgres's default. Durability is: [`PrivatePostgres`] fixes it.
const SETTINGS: [(&str, &str); 4] = [
    // For three certkeeps, and pgbench.
    ("max_connections", "200"),
    ("shared_buffers", "512MB"),
    ("max_wal_size", "4GB"),
    ("checkpoint_timeout", "15min"),
];
/// What the report names.
const REPORTED: [&str; 8] = [
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "data_checksums",
    "wal_sync_method",
    "shared_buffers",
    "max_wal_size",
    "checkpoint_timeout",
];
/// The harness's own role, a superuser: certkeep and pgbench are [`PrivatePostgres::ROLE`].
const ROLE: &str = "bench";

pub struct Scratch {
    dir: PathBuf,
    postgres: PrivatePostgres,
    _data_dir: DataDir,
    postmaster: i32,
    /// The directory of Postgres's programs.
    bin: PathBuf,
    watcher: Watcher,
}

impl Scratch {
    pub async fn start(path: Option<&std::ffi::OsStr>) -> Outcome<Self> {
        if !Path::new("/proc/self/stat").exists() {
            return Err("the benchmark reads the processor time of processes from /proc: run it on Linux".into());
        }
        let dir = tempfile::TempDir::with_prefix("certkeep-bench-")?;
        // As root, Postgres runs as another user, which must pass through.
        fs::set_permissions(dir.path(), fs::Permissions::from_mode(0o711))?;
        let data_dir = DataDir::lock(&dir.path().join("postgres"))?;
        let start = async || -> Outcome<_> {
            let postgres = PrivatePostgres::start(&data_dir, &Settings::default(), path).await?;
            let postmaster = postmaster(data_dir.path())?;
            let script =
                r#"kill -QUIT "$1" 2>/dev/null; while kill -0 "$1" 2>/dev/null; do sleep 0.1; done; rm -rf "$2""#;
            let dir = dir.path().display().to_string();
            Ok((
                postgres,
                postmaster,
                Watcher::start(script, &[&postmaster.to_string(), &dir])?,
            ))
        };
        // The settings need a start of their own.
        let (postgres, postmaster, mut watcher) = start().await?;
        let bin = fs::read_link(format!("/proc/{postmaster}/exe"))?;
        let bin = bin.parent().ok_or("Postgres's program is in no directory")?.to_owned();
        if !bin.join("pgbench").exists() {
            return Err(format!(
                "pgbench is missing beside {}, and it measures what Postgres can do: apt-get install postgresql \
                 postgresql-contrib, dnf install postgresql-contrib, or brew install postgresql@16",
                bin.join("postgres").display()
            )
            .into());
        }
        let mut statements = vec![format!("create role {ROLE} superuser login")];
        statements.extend(SETTINGS.map(|(name, value)| format!("alter system set {name} = '{value}'")));
        as_superuser(&bin, postgres.socket_dir(), &statements)?;
        postgres.stop().await;
        watcher.call_off();
        let (postgres, postmaster, watcher) = start().await?;
        // certkeep writes both files at each start, and lets nobody into other databases.
        let append = |name: &str, line: &str| {
            let path = data_dir.path().join(name);
            fs::write(&path, format!("{line}\n"))
        };
        append("pg_hba.conf", "local all all peer map=certkeep")?;
        append(
            "pg_ident.conf",
            &format!("certkeep /^.*$ {}\ncertkeep /^.*$ {ROLE}", PrivatePostgres::ROLE),
        )?;
        signal_reload(postmaster)?;
        Ok(Self {
            dir: dir.keep(),
            postgres,
            _data_dir: data_dir,
            postmaster,
            bin,
            watcher,
        })
    }

    /// Stops it and removes all that it wrote.
    pub async fn end(self) -> Outcome<()> {
        self.postgres.stop().await;
        Ok(self.watcher.close()?)
    }

    pub fn postmaster(&self) -> i32 {
        self.postmaster
    }

    /// A directory for what else lives as long as this.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// One of Postgres's programs.
    pub fn program(&self, name: &str) -> PathBuf {
        self.bin.join(name)
    }

    /// The arguments by which Postgres's programs reach a database as certkeep does.
    pub fn arguments(&self, database: &str) -> [String; 7] {
        [
            "-h".to_owned(),
            self.postgres.socket_dir().display().to_string(),
            "-p".to_owned(),
            PrivatePostgres::PORT.to_string(),
            "-U".to_owned(),
            PrivatePostgres::ROLE.to_owned(),
            database.to_owned(),
        ]
    }

    /// The connection string of certkeep's role.
    pub fn url(&self, database: &str) -> String {
        self.url_as(PrivatePostgres::ROLE, database)
    }

    fn url_as(&self, role: &str, database: &str) -> String {
        format!(
            "host='{}' port={} user={role} dbname={database}",
            self.postgres.socket_dir().display(),
            PrivatePostgres::PORT
        )
    }

    /// A connection as superuser.
    pub async fn connect(&self, database: &str) -> Outcome<tokio_postgres::Client> {
        let url = self.url_as(ROLE, database);
        let mut attempts = 50;
        loop {
            match tokio_postgres::connect(&url, tokio_postgres::NoTls).await {
                Ok((client, connection)) => {
                    tokio::spawn(connection);
                    return Ok(client);
                }
                // It may not have read who is let in yet.
                Err(_) if attempts > 0 => attempts -= 1,
                Err(error) => return Err(error.into()),
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Makes a database of certkeep's role.
    pub async fn create(&self, database: &str) -> Outcome<()> {
        let client = self.connect(PrivatePostgres::DATABASE).await?;
        let create = format!("create database {database} owner {}", PrivatePostgres::ROLE);
        Ok(client.batch_execute(&create).await?)
    }

    /// Version and settings, in one line.
    pub async fn description(&self) -> Outcome<String> {
        let client = self.connect(PrivatePostgres::DATABASE).await?;
        let mut text = format!("PostgreSQL {}", self.postgres.version());
        for name in REPORTED {
            let row = client.query_one("select current_setting($1)", &[&name]).await?;
            text.push_str(&format!(", {name} {}", row.get::<_, &str>(0)));
        }
        Ok(text)
    }
}

fn postmaster(data_dir: &Path) -> Outcome<i32> {
    let text = fs::read_to_string(data_dir.join("postgres/postmaster.pid"))?;
    Ok(text.lines().next().unwrap_or_default().trim().parse()?)
}

fn signal_reload(postmaster: i32) -> Outcome<()> {
    let pid = rustix::process::Pid::from_raw(postmaster).ok_or("no postmaster")?;
    Ok(rustix::process::kill_process(pid, rustix::process::Signal::HUP)?)
}

/// As Postgres's own user: nobody else is its superuser yet.
fn as_superuser(bin: &Path, socket_dir: &Path, statements: &[String]) -> Outcome<()> {
    let psql = bin.join("psql");
    let mut command = match rustix::process::geteuid().is_root() {
        true => {
            let mut command = Command::new("runuser");
            command.args(["-u", "postgres", "--"]).arg(psql);
            command
        }
        false => Command::new(psql),
    };
    command.args([
        "-X",
        "-q",
        "-v",
        "ON_ERROR_STOP=1",
        "-U",
        "postgres",
        "-d",
        "postgres",
        "-h",
    ]);
    command.arg(socket_dir).stdout(Stdio::null());
    for statement in statements {
        command.args(["-c", statement]);
    }
    match command.status()?.success() {
        true => Ok(()),
        false => Err("psql could not set up the scratch Postgres".into()),
    }
}
