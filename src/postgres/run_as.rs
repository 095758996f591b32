//! The users of the operating system that run certkeep and Postgres, and commands as the right user.

use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::fs::lchown;
use std::path::{Path, PathBuf};

use rustix::process::geteuid;
use tokio::process::Command;

use super::Error;

/// The default user that runs Postgres if certkeep runs as root. Packages create this user.
const DEFAULT_USER: &str = "postgres";

/// The PATH for system programs if certkeep was started without one.
const DEFAULT_PATH: &str = "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin";

/// How to run Postgres's programs: as the current user, or, if that is root, as a user without privileges.
#[derive(Debug)]
pub struct RunAs {
    /// The name of the user that runs certkeep.
    pub certkeep: String,
    /// The name of the user that runs Postgres. The same unless certkeep runs as root.
    pub postgres: String,
    ids: Option<Ids>,
    path: OsString,
}

#[derive(Clone, Copy, Debug)]
struct Ids {
    user: u32,
    group: u32,
}

impl RunAs {
    /// Looks up both users. `user` runs Postgres, and only root may set it. `path` is the PATH of the programs.
    pub async fn resolve(user: Option<&str>, path: Option<&OsStr>) -> Result<Self, Error> {
        let uid = geteuid();
        let path = path.unwrap_or(OsStr::new(DEFAULT_PATH)).to_owned();
        let mut run_as = Self {
            certkeep: String::new(),
            postgres: String::new(),
            ids: None,
            path,
        };
        let nameless = Error::NamelessUser { uid: uid.as_raw() };
        run_as.certkeep = run_as.id("-un", &uid.as_raw().to_string()).await?.ok_or(nameless)?;
        match user {
            None if !uid.is_root() => run_as.postgres = run_as.certkeep.clone(),
            Some(name) if !uid.is_root() && name == run_as.certkeep => run_as.postgres = name.to_owned(),
            Some(name) if !uid.is_root() => return Err(Error::UserNeedsRoot { name: name.to_owned() }),
            user => {
                let name = user.unwrap_or(DEFAULT_USER);
                let ids = run_as
                    .look_up(name)
                    .await?
                    .ok_or_else(|| Error::NoUser { name: name.to_owned() })?;
                if ids.user == 0 {
                    return Err(Error::UserIsRoot);
                }
                run_as.postgres = name.to_owned();
                run_as.ids = Some(ids);
            }
        }
        Ok(run_as)
    }

    async fn look_up(&self, name: &str) -> Result<Option<Ids>, Error> {
        let (Some(user), Some(group)) = (self.id("-u", name).await?, self.id("-g", name).await?) else {
            return Ok(None);
        };
        let (Ok(user), Ok(group)) = (user.parse(), group.parse()) else {
            return Ok(None);
        };
        Ok(Some(Ids { user, group }))
    }

    /// Runs `id` (POSIX), which knows every source of users, not only `/etc/passwd`. `None` if the user does not exist.
    async fn id(&self, what: &str, user: &str) -> Result<Option<String>, Error> {
        let program = Path::new("id");
        let output = self
            .plain(program)
            .args([what, "--", user])
            .output()
            .await
            .map_err(Error::program(program))?;
        let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
        Ok((output.status.success() && !text.is_empty()).then_some(text))
    }

    fn plain(&self, program: &Path) -> Command {
        let mut command = Command::new(program);
        command
            .env_clear()
            .env("PATH", &self.path)
            .env("LC_ALL", "C")
            .current_dir("/")
            .stdin(std::process::Stdio::null());
        command
    }

    /// A command as the user that runs Postgres. It has its own process group, so that Ctrl-C at the terminal does not reach it,
    /// and only PATH from our environment.
    pub fn command(&self, program: &Path) -> Command {
        let mut command = self.plain(program);
        command.env("TZ", "UTC").process_group(0);
        if let Some(ids) = self.ids {
            // If root sets a uid, the standard library also drops the supplementary groups.
            command.gid(ids.group).uid(ids.user);
        }
        command
    }

    /// Makes the user that runs Postgres the owner of `dir`.
    pub fn give(&self, dir: &Path) -> io::Result<()> {
        match self.ids {
            Some(ids) => lchown(dir, Some(ids.user), Some(ids.group)),
            None => Ok(()),
        }
    }

    /// Checks that the user that runs Postgres can enter `dir`, an absolute path.
    pub async fn check_access(&self, dir: &Path) -> Result<(), Error> {
        if self.ids.is_none() {
            return Ok(());
        }
        let mut ancestors: Vec<PathBuf> = dir.ancestors().map(Path::to_path_buf).collect();
        ancestors.reverse();
        for dir in ancestors {
            // The mode is not enough: access lists and mounts count too.
            let program = Path::new("test");
            let status = self
                .command(program)
                .arg("-x")
                .arg(&dir)
                .status()
                .await
                .map_err(Error::program(program))?;
            if !status.success() {
                return Err(Error::Closed {
                    dir,
                    user: self.postgres.clone(),
                });
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[tokio::test]
    async fn an_unknown_user_is_refused() {
        let error = RunAs::resolve(Some("no-such-user"), None).await.unwrap_err();
        if geteuid().is_root() {
            assert!(
                matches!(&error, Error::NoUser { name } if name == "no-such-user"),
                "{error}"
            );
        } else {
            assert!(
                matches!(&error, Error::UserNeedsRoot { name } if name == "no-such-user"),
                "{error}"
            );
        }
    }

    #[tokio::test]
    async fn root_is_refused() {
        if geteuid().is_root() {
            let error = RunAs::resolve(Some("root"), None).await.unwrap_err();
            assert!(matches!(error, Error::UserIsRoot), "{error}");
        }
    }

    #[tokio::test]
    async fn programs_run_without_the_groups_of_root() {
        if geteuid().is_root() {
            let run_as = RunAs::resolve(None, None).await.unwrap();
            let output = run_as.command(Path::new("id")).arg("-G").output().await.unwrap();
            let group = run_as.ids.unwrap().group.to_string();
            assert_eq!(String::from_utf8(output.stdout).unwrap().trim(), group);
        }
    }

    #[tokio::test]
    async fn the_first_closed_directory_of_the_path_is_reported() {
        if geteuid().is_root() {
            let dir = tempfile::tempdir().unwrap();
            fs::set_permissions(dir.path(), Permissions::from_mode(0o700)).unwrap();
            let below = dir.path().join("data");
            fs::create_dir(&below).unwrap();
            let run_as = RunAs::resolve(None, None).await.unwrap();
            let error = run_as.check_access(&below).await.unwrap_err();
            assert!(
                matches!(&error, Error::Closed { dir: closed, .. } if closed == dir.path()),
                "{error}"
            );
        }
    }
}
