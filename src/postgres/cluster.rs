//! The cluster: Postgres's files. A cluster is created completely or not at all.

use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Output, Stdio};

use tokio::io::AsyncWriteExt;
use tokio::process::Command;

use super::Error;
use super::access::{DATABASE, OWNER_ROLE, ROLE, SUPERUSER};
use super::binaries::Binaries;
use super::log::last_lines;
use super::run_as::RunAs;
use crate::digest;

/// Prefix of the name of an unfinished cluster.
const UNFINISHED_PREFIX: &str = "postgres.new-";

/// The cluster of a data directory. It may not exist yet.
#[derive(Debug)]
pub struct Cluster {
    data_dir: PathBuf,
    path: PathBuf,
}

/// Whether this data directory has a cluster. Creates nothing.
pub fn has_cluster(data_dir: &Path) -> Result<bool, Error> {
    Ok(Cluster::of(data_dir).major()?.is_some())
}

impl Cluster {
    /// The cluster of this data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self {
            data_dir: data_dir.to_path_buf(),
            path: data_dir.join("postgres"),
        }
    }

    /// Its directory.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The data directory.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// The major version of the cluster. `None` if there is no cluster yet.
    pub fn major(&self) -> Result<Option<u32>, Error> {
        let path = self.path.join("PG_VERSION");
        match fs::read_to_string(&path) {
            Ok(text) => match text.trim().parse() {
                Ok(major) => Ok(Some(major)),
                Err(_) => Err(Error::NotACluster { dir: self.path.clone() }),
            },
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(Error::file(path)(error)),
        }
    }

    /// Creates the cluster with certkeep's two roles and its database.
    ///
    /// The cluster gets its final name when it is complete and on disk. If the machine fails before that, nothing looks like a
    /// cluster. The first name is new each time, because `initdb` of a killed certkeep may still be writing.
    pub async fn make(&self, binaries: &Binaries, run_as: &RunAs) -> Result<(), Error> {
        let unfinished = self
            .data_dir
            .join(format!("{UNFINISHED_PREFIX}{}", hex::encode(digest::random::<8>()?)));
        DirBuilder::new()
            .mode(0o700)
            .create(&unfinished)
            .and_then(|()| run_as.give(&unfinished))
            .map_err(Error::file(&unfinished))?;
        self.initdb(&unfinished, binaries, run_as).await?;
        self.make_database(&unfinished, binaries, run_as).await?;
        match fs::rename(&unfinished, &self.path) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => {
                return Err(Error::NotACluster { dir: self.path.clone() });
            }
            Err(error) => return Err(Error::file(&self.path)(error)),
        }
        File::open(&self.data_dir)
            .and_then(|dir| dir.sync_all())
            .map_err(Error::file(&self.data_dir))
    }

    async fn initdb(&self, dir: &Path, binaries: &Binaries, run_as: &RunAs) -> Result<(), Error> {
        let program = binaries.initdb();
        let mut command = run_as.command(&program);
        command.arg("-D").arg(dir).args([
            &format!("--username={SUPERUSER}"),
            "--auth-local=peer",
            "--auth-host=reject",
            "--encoding=UTF8",
            "--no-locale",
            "--data-checksums",
            "--no-instructions",
        ]);
        self.run(&program, command, "").await
    }

    /// Creates the roles and the database with a single-user server. Nobody can connect to that server.
    async fn make_database(&self, dir: &Path, binaries: &Binaries, run_as: &RunAs) -> Result<(), Error> {
        let program = binaries.postgres();
        let mut command = run_as.command(&program);
        command
            .args(["--single", "-D"])
            .arg(dir)
            .args(["-c", "exit_on_error=on", "postgres"]);
        let statements = format!(
            "CREATE ROLE {ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION\n\
             CREATE ROLE {OWNER_ROLE} LOGIN NOSUPERUSER NOCREATEDB NOCREATEROLE NOREPLICATION\n\
             ALTER ROLE {ROLE} SET log_error_verbosity = terse\n\
             ALTER ROLE {OWNER_ROLE} SET log_error_verbosity = terse\n\
             CREATE DATABASE {DATABASE} OWNER {OWNER_ROLE}\n"
        );
        self.run(&program, command, &statements).await
    }

    async fn run(&self, program: &Path, mut command: Command, input: &str) -> Result<(), Error> {
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let output = feed(command, input).await.map_err(Error::program(program))?;
        if output.status.success() {
            return Ok(());
        }
        Err(Error::Initialise {
            program: program.to_path_buf(),
            dir: self.data_dir.clone(),
            output: last_lines(&output.stderr),
        })
    }

    /// Removes unfinished clusters of a killed certkeep. Only the holder of the data directory may call this.
    pub fn remove_unfinished(&self) {
        let Ok(entries) = fs::read_dir(&self.data_dir) else {
            return;
        };
        for entry in entries.flatten() {
            if !entry
                .file_name()
                .as_encoded_bytes()
                .starts_with(UNFINISHED_PREFIX.as_bytes())
            {
                continue;
            }
            let path = entry.path();
            match fs::remove_dir_all(&path) {
                Ok(()) => tracing::info!(path = %path.display(), "removed an unfinished cluster"),
                Err(error) => tracing::warn!(path = %path.display(), %error, "removing an unfinished cluster failed"),
            }
        }
    }
}

/// Runs `command` with `input` as its standard input. `input` must fit into a pipe.
async fn feed(mut command: Command, input: &str) -> io::Result<Output> {
    let mut child = command.spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        match stdin.write_all(input.as_bytes()).await {
            // The program ended before it read. Its status says why.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            result => result?,
        }
    }
    child.wait_with_output().await
}
