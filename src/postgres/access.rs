//! Who may connect to the private Postgres as which role, and the settings that certkeep depends on.

use std::ffi::{OsStr, OsString};
use std::fs::{self, Permissions};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::run_as::RunAs;

/// The role that serves. It is not a superuser, so that no statement can read a file or run a program.
pub const ROLE: &str = "certkeep";
/// The role that owns the tables. It migrates the schema and purges audit events. It is not a superuser either.
pub const OWNER_ROLE: &str = "certkeep_owner";
/// The database, owned by the owner role.
pub const DATABASE: &str = "certkeep";
/// The number in the socket's name, `.s.PGSQL.5432`; there is no TCP port.
pub const PORT: u16 = 5432;
/// The operator's role, for repairs and backups.
pub const SUPERUSER: &str = "postgres";

/// Settings that `postgresql.conf` and `ALTER SYSTEM` cannot override: the command line has priority.
const FIXED: &[&str] = &[
    "listen_addresses=",
    "unix_socket_permissions=0700",
    "unix_socket_group=",
    "fsync=on",
    "synchronous_commit=on",
    "full_page_writes=on",
    // certkeep opens the log file and limits its size, see `log.rs`.
    "log_destination=stderr",
    "logging_collector=off",
    "log_line_prefix=%m [%p] ",
    // No statement, parameter or row may reach the log: the log would be a second copy of the data. The details of errors can
    // contain rows, so the roles of certkeep log none (`cluster.rs`). The server itself does: its details say how to repair it.
    "log_statement=none",
    "log_duration=off",
    "log_min_duration_statement=-1",
    "log_min_duration_sample=-1",
    "log_transaction_sample_rate=0",
    "log_min_error_statement=panic",
    "log_parameter_max_length=0",
    "log_parameter_max_length_on_error=0",
    "debug_print_parse=off",
    "debug_print_rewritten=off",
    "debug_print_plan=off",
];

/// The two files that map users of the system to roles. They are in the data directory, not in the cluster, so that the user
/// that runs Postgres cannot change them.
#[derive(Debug)]
pub struct Access {
    hba: PathBuf,
    ident: PathBuf,
}

impl Access {
    /// The files of this data directory.
    pub fn of(data_dir: &Path) -> Self {
        Self {
            hba: data_dir.join("pg_hba.conf"),
            ident: data_dir.join("pg_ident.conf"),
        }
    }

    /// Writes both files.
    pub fn write(&self, run_as: &RunAs) -> Result<(), Error> {
        for (path, text) in [
            (&self.hba, hba()),
            (&self.ident, ident(&run_as.certkeep, &run_as.postgres)),
        ] {
            fs::write(path, text).map_err(Error::file(path))?;
            fs::set_permissions(path, Permissions::from_mode(0o644)).map_err(Error::file(path))?;
        }
        Ok(())
    }

    /// The arguments that start a server on `cluster` with its socket in `socket_dir`.
    pub fn arguments(&self, cluster: &Path, socket_dir: &Path) -> Vec<OsString> {
        let mut arguments: Vec<OsString> = vec!["-D".into(), cluster.into(), "-p".into(), PORT.to_string().into()];
        let mut set = |setting: OsString| arguments.extend(["-c".into(), setting]);
        set(join("unix_socket_directories=", &list_entry(socket_dir)));
        set(join("hba_file=", self.hba.as_os_str()));
        set(join("ident_file=", self.ident.as_os_str()));
        FIXED.iter().for_each(|setting| set(setting.into()));
        arguments
    }
}

fn join(name: &str, value: &OsStr) -> OsString {
    let mut setting = OsString::from(name);
    setting.push(value);
    setting
}

/// `path` as one entry of a list of directories, quoted: a comma or a space would end the entry.
fn list_entry(path: &Path) -> OsString {
    OsString::from_vec(quoted(path.as_os_str().as_bytes()))
}

fn quoted(bytes: &[u8]) -> Vec<u8> {
    let mut quoted = vec![b'"'];
    for &byte in bytes {
        if byte == b'"' {
            quoted.push(b'"');
        }
        quoted.push(byte);
    }
    quoted.push(b'"');
    quoted
}

fn hba() -> String {
    format!(
        "# Written by certkeep at every start.\n\
         local {DATABASE} {ROLE},{OWNER_ROLE} peer map=certkeep\n\
         local all {SUPERUSER} peer map=certkeep\n\
         local all all reject\n"
    )
}

fn ident(certkeep: &str, postgres: &str) -> String {
    let name = |name: &str| format!("\"{}\"", name.replace('"', "\"\""));
    format!(
        "# Written by certkeep at every start.\n\
         certkeep {} {ROLE}\n\
         certkeep {} {OWNER_ROLE}\n\
         certkeep {} {SUPERUSER}\n",
        name(certkeep),
        name(certkeep),
        name(postgres)
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_rule_uses_peer_authentication_or_rejects() {
        assert!(
            hba()
                .lines()
                .all(|line| line.starts_with('#') || line.contains(" peer ") || line.ends_with(" reject"))
        );
    }

    #[test]
    fn a_socket_directory_stays_one_entry_of_the_list() {
        assert_eq!(list_entry(Path::new("/a, b/\"c\"")), r#""/a, b/""c""""#);
    }
}
