//! The errors of the private Postgres. Each message is one sentence that says what to do.

use std::io;
use std::path::PathBuf;

use super::binaries::OLDEST_MAJOR;
use crate::digest;

/// An error of the data directory or of the Postgres in it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another certkeep holds the lock of the data directory.
    #[error(
        "another certkeep{} uses the data directory {}: stop it, or set another --data-dir",
        process(*.holder),
        .data_dir.display()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The process that holds the lock, if it could be read.
        holder: Option<u32>,
    },
    /// Other users could replace files in the data directory.
    #[error(
        "the data directory {} belongs to another user, or other users can write to it: \
         chown it to the user that runs certkeep and chmod it to 0711, or set another --data-dir",
        .data_dir.display()
    )]
    Exposed {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The user that runs Postgres cannot enter the data directory.
    #[error(
        "the user {user} runs PostgreSQL and cannot enter {}: chmod it to give this user the x permission, \
         or set another --data-dir",
        .dir.display()
    )]
    Closed {
        /// The first closed directory of the path.
        dir: PathBuf,
        /// The user.
        user: String,
    },
    /// No PostgreSQL was found.
    #[error(
        "PostgreSQL was not found: install version {OLDEST_MAJOR} or newer (apt-get install postgresql, \
         dnf install postgresql-server or brew install postgresql@16), set --postgres-bin to the directory \
         of its programs, or use your own server with --database-url"
    )]
    NoBinaries,
    /// The given directory contains no PostgreSQL.
    #[error(
        "{} does not contain executable postgres and initdb: set --postgres-bin to the directory that contains both",
        .dir.display()
    )]
    NotBinaries {
        /// The directory.
        dir: PathBuf,
    },
    /// Every PostgreSQL on this machine is too old.
    #[error(
        "the PostgreSQL in {} is version {version}: install version {OLDEST_MAJOR} or newer, \
         or set --postgres-bin to its directory",
        .dir.display()
    )]
    TooOld {
        /// Its version.
        version: String,
        /// Its directory.
        dir: PathBuf,
    },
    /// The major version of the data is not installed.
    #[error(
        "the data in {} belongs to PostgreSQL {data}, and PostgreSQL {data} was not found: install it, \
         or dump the data with it and restore the dump into a new --data-dir",
        .dir.display()
    )]
    OtherMajor {
        /// The major version of the data.
        data: u32,
        /// The directory of the cluster.
        dir: PathBuf,
    },
    /// The directory of the cluster is not empty and not a cluster.
    #[error("{} is not empty and not a PostgreSQL cluster: move it away, or set another --data-dir", .dir.display())]
    NotACluster {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system has no such user.
    #[error(
        "this machine has no user {name} to run PostgreSQL, which refuses to run as root: \
         create it (useradd --system {name}), or set another user with --postgres-user"
    )]
    NoUser {
        /// The user.
        name: String,
    },
    /// Postgres refuses to run as root.
    #[error("PostgreSQL refuses to run as root: set a user without privileges with --postgres-user")]
    UserIsRoot,
    /// Only root can run programs as another user.
    #[error("only root can run PostgreSQL as the user {name}: remove --postgres-user, or start certkeep as root")]
    UserNeedsRoot {
        /// The user.
        name: String,
    },
    /// Postgres and its peer authentication need user names.
    #[error("the user id {uid} has no name, and PostgreSQL needs a name: start certkeep as a user with a name")]
    NamelessUser {
        /// The user id that runs certkeep.
        uid: u32,
    },
    /// Creating a cluster failed.
    #[error(
        "{} failed to create a database in {}: fix the problem and start again\n{output}",
        .program.display(),
        .dir.display()
    )]
    Initialise {
        /// The program that failed.
        program: PathBuf,
        /// The data directory.
        dir: PathBuf,
        /// The end of its output.
        output: String,
    },
    /// Postgres exited before it was ready.
    #[error("PostgreSQL exited during its start: fix the problem in its log {} and start again\n{tail}", .log.display())]
    Died {
        /// The log.
        log: PathBuf,
        /// The end of the log since this start.
        tail: String,
    },
    /// Postgres runs but is not ready.
    #[error(
        "PostgreSQL is still not ready after {seconds} seconds: start certkeep again to wait longer, \
         or read its log {}\n{tail}",
        .log.display()
    )]
    NotReady {
        /// How long certkeep waited.
        seconds: u64,
        /// The log.
        log: PathBuf,
        /// The end of the log since this start.
        tail: String,
    },
    /// The start was cancelled.
    #[error("stopped while starting PostgreSQL")]
    Stopped,
    /// A program could not be started.
    #[error("{} could not be started: check that it exists and is executable", .program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// A file or directory in the data directory could not be read or written.
    #[error("{} could not be read or written: check its permissions and the free disk space", .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// The cause.
        #[source]
        source: io::Error,
    },
    /// No random bytes for a name.
    #[error(transparent)]
    Random(#[from] digest::Error),
}

impl Error {
    /// An error about `path` with its cause.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// An error about starting `program` with its cause.
    pub(super) fn program(program: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Program { program, source }
    }
}

fn process(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
