//! What can go wrong with the private Postgres, each said in one sentence that tells the operator what to do.

use std::io;
use std::path::PathBuf;

use super::binaries::OLDEST_MAJOR;
use crate::digest;

/// Why the data directory, or the Postgres in it, cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Another certkeep holds the lock of the data directory.
    #[error(
        "another certkeep{} uses the data directory {}: stop it, or give another --data-dir",
        process(*.holder),
        .data_dir.display()
    )]
    InUse {
        /// The data directory.
        data_dir: PathBuf,
        /// The process that holds it, as far as it could be read.
        holder: Option<u32>,
    },
    /// Somebody but the user that runs certkeep could replace what lies in the data directory.
    #[error(
        "the data directory {} belongs to another user or can be written by others: \
         chown it to the user that runs certkeep and chmod it to 0711, or give another --data-dir",
        .data_dir.display()
    )]
    Exposed {
        /// The data directory.
        data_dir: PathBuf,
    },
    /// The user that runs Postgres cannot get into the data directory.
    #[error(
        "the user {user}, who runs PostgreSQL, cannot enter {}: chmod it to give that user the x permission, \
         or give another --data-dir",
        .dir.display()
    )]
    Closed {
        /// The first directory on the way that is closed.
        dir: PathBuf,
        /// The user.
        user: String,
    },
    /// No PostgreSQL anywhere.
    #[error(
        "no PostgreSQL was found: install version {OLDEST_MAJOR} or newer (apt-get install postgresql, \
         dnf install postgresql-server or brew install postgresql@16), give --postgres-bin with the directory \
         of its programs, or use a server of your own with --database-url"
    )]
    NoBinaries,
    /// The directory that was given holds no PostgreSQL.
    #[error(
        "{} holds no postgres and initdb that can be run: give --postgres-bin the directory that holds both",
        .dir.display()
    )]
    NotBinaries {
        /// The directory.
        dir: PathBuf,
    },
    /// Every PostgreSQL that was found is too old.
    #[error(
        "the PostgreSQL in {} is version {version}: install version {OLDEST_MAJOR} or newer, \
         or give --postgres-bin with the directory of one",
        .dir.display()
    )]
    TooOld {
        /// Its version.
        version: String,
        /// Where it is.
        dir: PathBuf,
    },
    /// The data was written by a major version that is not installed.
    #[error(
        "the data in {} is PostgreSQL {data}'s, and no PostgreSQL {data} was found: install that version, \
         or dump the data with it and restore it into a new --data-dir",
        .dir.display()
    )]
    OtherMajor {
        /// The major version of the data.
        data: u32,
        /// The directory of the cluster.
        dir: PathBuf,
    },
    /// The directory of the cluster has content, and it is not a cluster.
    #[error("{} is no PostgreSQL cluster and not empty: move it away, or give another --data-dir", .dir.display())]
    NotACluster {
        /// The directory.
        dir: PathBuf,
    },
    /// The operating system has no such user.
    #[error(
        "this machine has no user {name} to run PostgreSQL, which refuses to run as root: \
         make one (useradd --system {name}), or name another with --postgres-user"
    )]
    NoUser {
        /// The user.
        name: String,
    },
    /// Postgres refuses to run as root.
    #[error("PostgreSQL refuses to run as root: name a user without privileges with --postgres-user")]
    UserIsRoot,
    /// Only root can run programs as somebody else.
    #[error("only root can run PostgreSQL as the user {name}: leave --postgres-user out, or start certkeep as root")]
    UserNeedsRoot {
        /// The user.
        name: String,
    },
    /// Postgres and its peer authentication need names of users.
    #[error("the user id {uid} has no name, and PostgreSQL needs one: start certkeep as a user that has a name")]
    NamelessUser {
        /// The user id that runs certkeep.
        uid: u32,
    },
    /// A cluster could not be made.
    #[error(
        "{} could not make a database in {}: mend what it says and start again\n{output}",
        .program.display(),
        .dir.display()
    )]
    Initialise {
        /// The program that failed.
        program: PathBuf,
        /// The directory in which it worked.
        dir: PathBuf,
        /// The end of what it said.
        output: String,
    },
    /// Postgres ended before it was ready.
    #[error("PostgreSQL ended at its start: mend what its log {} says and start again\n{tail}", .log.display())]
    Died {
        /// The log.
        log: PathBuf,
        /// The end of what it said since this start.
        tail: String,
    },
    /// Postgres runs and does not get ready.
    #[error(
        "PostgreSQL was not ready within {seconds} seconds and still runs: start certkeep again to wait on, \
         or look into its log {}\n{tail}",
        .log.display()
    )]
    NotReady {
        /// How long it was waited for.
        seconds: u64,
        /// The log.
        log: PathBuf,
        /// The end of what it said since this start.
        tail: String,
    },
    /// A program could not be run at all.
    #[error("{} could not be run: check that it is there and may be executed", .program.display())]
    Program {
        /// The program.
        program: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or directory below the data directory could not be read or written.
    #[error("{} could not be used: check its permissions and the free space of its disk", .path.display())]
    File {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No randomness for a name.
    #[error(transparent)]
    Random(#[from] digest::Error),
}

impl Error {
    /// Makes an error about `path` from one of the operating system.
    pub(super) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }

    /// Makes an error about running `program` from one of the operating system.
    pub(super) fn program(program: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let program = program.into();
        move |source| Self::Program { program, source }
    }
}

fn process(holder: Option<u32>) -> String {
    holder.map(|pid| format!(" (process {pid})")).unwrap_or_default()
}
