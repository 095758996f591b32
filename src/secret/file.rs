//! Files that contain secrets: who may have access to them, and how they are read.

use std::fmt;
use std::fs::{File, Metadata, OpenOptions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use rustix::process::{getegid, geteuid, getgroups};
use zeroize::Zeroizing;

use super::Secret;

/// Why a file with a secret can't be used.
#[derive(Debug, thiserror::Error)]
pub enum PrivateFileError {
    /// Other users may read or change the file or the directory.
    #[error("{0}")]
    Exposed(Exposed),
    /// The file is not a regular file. A pipe has no end until its writer closes it, so a start would hang.
    #[error("{0} is {1}, not a regular file: write the secret to a file with mode 0600")]
    NotRegular(PathBuf, &'static str),
    /// The file is too large.
    #[error("{0} is larger than {1} bytes")]
    TooLarge(PathBuf, u64),
    /// The file can't be read.
    #[error("{0} cannot be read")]
    File(PathBuf, #[source] io::Error),
}

/// A file or directory to which other users have access, and the command that ends it.
#[derive(Debug)]
pub struct Exposed {
    /// The file or the directory.
    pub path: PathBuf,
    /// Its permission bits.
    pub mode: u32,
    /// The ids of its user and its group.
    pub owner: (u32, u32),
    /// The id of the user that runs certkeep.
    user: u32,
    /// Whether it is a directory.
    is_directory: bool,
    /// Whether the group may be trusted with root's file.
    is_group_known: bool,
}

impl fmt::Display for Exposed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            mode,
            owner: (owner, group),
            user,
            is_directory,
            is_group_known,
            ..
        } = self;
        let path = quoted(&self.path);
        write!(
            f,
            "{} has mode {mode:04o}, user {owner} and group {group}, and certkeep runs as user {user}",
            self.path.display()
        )?;
        // The group of root's file may be another service that reads the file too.
        let is_shared = *owner == 0 && *group != 0 && mode & 0o040 != 0;
        match (*owner == *user, *user) {
            (true, _) if *is_directory => write!(f, ": run `chmod go-w {path}`"),
            (true, _) if is_shared => write!(f, ": run `chmod 640 {path}`"),
            (true, _) => write!(f, ": run `chmod 600 {path}`"),
            (false, 0) => write!(f, ": run certkeep as the owner, with `sudo -u '#{owner}'`"),
            (false, _) if *is_directory => {
                write!(f, ": run `chown {user} {path} && chmod 700 {path}` as root")?;
                match owner {
                    0 => f.write_str(", or let root own it, writable for nobody else or for a group of certkeep"),
                    _ => Ok(()),
                }
            }
            (false, _) if is_shared && *is_group_known => write!(f, ": run `chmod 640 {path}` as root"),
            (false, _) if is_shared && mode & 0o037 == 0 => {
                write!(
                    f,
                    ": as root, add user {user} to group {group}, and start certkeep again"
                )
            }
            (false, _) if is_shared => write!(
                f,
                ": as root, run `chmod 640 {path}`, add user {user} to group {group}, and start certkeep again"
            ),
            (false, _) => {
                write!(f, ": run `chown {user} {path} && chmod 600 {path}` as root")?;
                match owner {
                    0 => f.write_str(", or let root own it, with mode 0640 or less and a group of certkeep"),
                    _ => Ok(()),
                }
            }
        }
    }
}

/// The path as an argument of a shell.
pub fn quoted(path: &Path) -> String {
    let text = path.display().to_string();
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-+:@%".contains(&byte);
    match text.bytes().all(is_plain) {
        true => text,
        false => format!("'{}'", text.replace('\'', r"'\''")),
    }
}

/// The user that runs certkeep, and its groups.
struct User {
    id: u32,
    groups: Vec<u32>,
}

impl User {
    fn current() -> Self {
        // The number of groups may change between the two system calls. Then the supplementary groups are not known.
        let groups = getgroups().unwrap_or_default();
        let groups = groups.iter().map(|group| group.as_raw());
        Self {
            id: geteuid().as_raw(),
            groups: groups.chain([getegid().as_raw()]).collect(),
        }
    }

    /// Whether only this user and root may read and change a file. PostgreSQL has the same rule for its TLS key: the user owns the
    /// file, with mode 0600 or less; or root owns it, with mode 0640 or less. The group of root's file is one of the user's, or root's
    /// own: systemd gives its credentials to that group and an access control list. Root needs no group.
    fn may_trust(&self, mode: u32, owner: u32, group: u32) -> bool {
        let is_group_known = mode & 0o070 == 0 || self.knows(group);
        (owner == self.id && mode & 0o077 == 0) || (owner == 0 && mode & 0o037 == 0 && is_group_known)
    }

    /// Whether root's file may be readable for this group.
    fn knows(&self, group: u32) -> bool {
        self.id == 0 || group == 0 || self.groups.contains(&group)
    }

    /// Whether only this user, root, and a group that root chose for this user may write to a directory. A volume of Kubernetes belongs
    /// to root and the pod's group.
    fn may_trust_directory(&self, mode: u32, owner: u32, group: u32) -> bool {
        (owner == self.id && mode & 0o022 == 0)
            || (owner == 0 && mode & 0o002 == 0 && (mode & 0o020 == 0 || self.groups.contains(&group)))
    }
}

fn exposed(path: &Path, metadata: &Metadata, user: &User) -> PrivateFileError {
    PrivateFileError::Exposed(Exposed {
        path: path.to_owned(),
        mode: metadata.mode() & 0o7777,
        owner: (metadata.uid(), metadata.gid()),
        user: user.id,
        is_directory: metadata.is_dir(),
        is_group_known: user.knows(metadata.gid()),
    })
}

/// The content of a regular file of at most `max_len` bytes that only the user that runs certkeep and root may read and change. A
/// symbolic link is followed: the files of a Kubernetes Secret are links.
pub fn read_private(path: &Path, max_len: u64) -> Result<Secret, PrivateFileError> {
    let file = open(path)?;
    let metadata = file.metadata().map_err(failed(path))?;
    if let Some(kind) = irregular(&metadata) {
        return Err(PrivateFileError::NotRegular(path.to_owned(), kind));
    }
    check(path, &metadata)?;
    read(path, file, metadata.len(), max_len)
}

/// As [`read_private`], but the file may also be a pipe or a terminal, which are read to their end. For a command that a person runs:
/// a shell gives it the output of another command as a pipe.
pub fn read_private_or_pipe(path: &Path, max_len: u64) -> Result<Secret, PrivateFileError> {
    let metadata = std::fs::metadata(path).map_err(failed(path))?;
    if irregular(&metadata).is_none() {
        return read_private(path, max_len);
    }
    let file = File::open(path).map_err(failed(path))?;
    read(path, file, max_len, max_len)
}

/// Refuses a directory to which other users may write: they could replace its files. A directory that does not exist is accepted.
pub fn check_private_directory(path: &Path) -> Result<(), PrivateFileError> {
    let metadata = match std::fs::metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        metadata => metadata.map_err(failed(path))?,
    };
    let user = User::current();
    match user.may_trust_directory(metadata.mode(), metadata.uid(), metadata.gid()) {
        true => Ok(()),
        false => Err(exposed(path, &metadata, &user)),
    }
}

fn failed(path: &Path) -> impl Fn(io::Error) -> PrivateFileError {
    move |error| PrivateFileError::File(path.to_owned(), error)
}

/// Opens a file. Unlike [`File::open`], it does not wait for the writer of a pipe.
fn open(path: &Path) -> Result<File, PrivateFileError> {
    let mut options = OpenOptions::new();
    // The flag has no effect on regular files.
    options.read(true).custom_flags(OFlags::NONBLOCK.bits() as i32);
    options.open(path).map_err(failed(path))
}

/// The word for a file that is not a regular one.
fn irregular(metadata: &Metadata) -> Option<&'static str> {
    let kind = metadata.file_type();
    match kind {
        _ if kind.is_file() => None,
        _ if kind.is_dir() => Some("a directory"),
        _ if kind.is_fifo() => Some("a pipe"),
        _ if kind.is_socket() => Some("a socket"),
        _ => Some("a device"),
    }
}

fn check(path: &Path, metadata: &Metadata) -> Result<(), PrivateFileError> {
    let user = User::current();
    match user.may_trust(metadata.mode(), metadata.uid(), metadata.gid()) {
        true => Ok(()),
        false => Err(exposed(path, metadata, &user)),
    }
}

/// Reads at most `len` bytes, and refuses a file of more than `max_len` bytes.
fn read(path: &Path, file: File, len: u64, max_len: u64) -> Result<Secret, PrivateFileError> {
    let too_large = || PrivateFileError::TooLarge(path.to_owned(), max_len);
    if len > max_len {
        return Err(too_large());
    }
    // Room for the whole file: no reallocation leaves a copy in memory.
    let mut text = Zeroizing::new(Vec::with_capacity(len as usize + 64));
    file.take(len + 1).read_to_end(&mut text).map_err(failed(path))?;
    match text.len() as u64 > max_len {
        true => Err(too_large()),
        false => Ok(Secret(text)),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;
    use std::time::{Duration, Instant};

    use super::*;

    const USER: u32 = 998;
    const GROUPS: [u32; 2] = [998, 2000];

    fn may_trust(mode: u32, owner: u32, group: u32) -> bool {
        let groups = GROUPS.to_vec();
        User { id: USER, groups }.may_trust(mode, owner, group)
    }

    /// The rule of PostgreSQL's be-secure-common.c and libpq, with the group of root's file in addition.
    #[test]
    fn a_file_belongs_to_the_user_alone_or_to_root_and_a_group_of_the_user() {
        for mode in [0o600, 0o400, 0o700, 0o000, 0o1600] {
            assert!(may_trust(mode, USER, 5), "{mode:o}");
        }
        for mode in [0o640, 0o604, 0o644, 0o660, 0o666, 0o610, 0o601] {
            assert!(!may_trust(mode, USER, 998), "{mode:o}");
        }
        for mode in [0o640, 0o440, 0o600, 0o400] {
            assert!(may_trust(mode, 0, 2000), "{mode:o}");
        }
        for mode in [0o644, 0o660, 0o650, 0o641, 0o644, 0o660] {
            assert!(!may_trust(mode, 0, 2000), "{mode:o}");
        }
        assert!(may_trust(0o440, 0, 0));
        assert!(!may_trust(0o640, 0, 5));
        assert!(!may_trust(0o600, 1000, 2000));
        assert!(!may_trust(0o640, 1000, 2000));
    }

    #[test]
    fn root_needs_no_group_and_trusts_no_other_owner() {
        let root = User { id: 0, groups: vec![0] };
        assert!(root.may_trust(0o600, 0, 0) && root.may_trust(0o640, 0, 0) && root.may_trust(0o640, 0, 5));
        assert!(!root.may_trust(0o644, 0, 5) && !root.may_trust(0o600, 1000, 1000));
    }

    #[test]
    fn a_directory_is_writable_for_the_user_or_for_a_group_that_root_chose() {
        let groups = GROUPS.to_vec();
        let user = User { id: USER, groups };
        for (mode, owner, group, is_trusted) in [
            (0o700, USER, 998, true),
            (0o755, USER, 998, true),
            (0o775, USER, 998, false),
            (0o757, USER, 998, false),
            (0o755, 0, 0, true),
            (0o2775, 0, 2000, true),
            (0o2775, 0, 5, false),
            (0o1777, 0, 0, false),
            (0o700, 1000, 998, false),
        ] {
            assert_eq!(
                user.may_trust_directory(mode, owner, group),
                is_trusted,
                "{mode:o} {owner} {group}"
            );
        }
    }

    #[test]
    fn an_error_names_the_file_its_mode_its_owner_and_the_command() {
        let shown_as = |is_directory, mode, owner, user| {
            let path = PathBuf::from("/etc/certkeep/key ring");
            let groups = vec![998];
            let exposed = Exposed {
                path,
                mode,
                owner,
                user,
                is_directory,
                is_group_known: User { id: user, groups }.knows(owner.1),
            };
            PrivateFileError::Exposed(exposed).to_string()
        };
        let shown = |mode, owner, user| shown_as(false, mode, owner, user);
        assert_eq!(
            shown(0o644, (998, 998), 998),
            "/etc/certkeep/key ring has mode 0644, user 998 and group 998, and certkeep runs as user 998: run `chmod 600 \
             '/etc/certkeep/key ring'`"
        );
        assert_eq!(
            shown(0o604, (0, 0), 998),
            "/etc/certkeep/key ring has mode 0604, user 0 and group 0, and certkeep runs as user 998: run `chown 998 \
             '/etc/certkeep/key ring' && chmod 600 '/etc/certkeep/key ring'` as root, or let root own it, with mode 0640 or less \
             and a group of certkeep"
        );
        // No advice takes root's file away from the group that reads it.
        for (shown, end) in [
            (shown(0o644, (0, 5), 0), "run `chmod 640 '/etc/certkeep/key ring'`"),
            (
                shown(0o644, (0, 998), 998),
                "run `chmod 640 '/etc/certkeep/key ring'` as root",
            ),
            (
                shown(0o640, (0, 5), 998),
                "as root, add user 998 to group 5, and start certkeep again",
            ),
            (
                shown(0o644, (0, 5), 998),
                "as root, run `chmod 640 '/etc/certkeep/key ring'`, add user 998 to group 5, and start certkeep again",
            ),
            (
                shown_as(true, 0o777, (998, 998), 998),
                "run `chmod go-w '/etc/certkeep/key ring'`",
            ),
            (
                shown_as(true, 0o777, (0, 0), 998),
                "as root, or let root own it, writable for nobody else or for a group of certkeep",
            ),
        ] {
            assert!(shown.ends_with(end), "{shown}");
        }
        assert!(shown(0o600, (998, 998), 0).ends_with(": run certkeep as the owner, with `sudo -u '#998'`"));
    }

    #[test]
    fn a_private_file_is_read_and_an_exposed_or_large_one_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("secret");
        std::fs::write(&path, "hunter2").unwrap();
        let chmod = |mode| std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        chmod(0o600);
        assert_eq!(read_private(&path, 7).unwrap().expose(), b"hunter2");
        assert!(matches!(read_private(&path, 6), Err(PrivateFileError::TooLarge(..))));
        let link = dir.path().join("link");
        std::os::unix::fs::symlink("secret", &link).unwrap();
        assert_eq!(read_private(&link, 7).unwrap().expose(), b"hunter2");
        chmod(0o604);
        let error = read_private(&link, 7).unwrap_err();
        assert!(
            matches!(&error, PrivateFileError::Exposed(Exposed { mode: 0o604, .. })),
            "{error}"
        );
        chmod(0o600);
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o757)).unwrap();
        assert!(check_private_directory(dir.path()).is_err());
        std::fs::set_permissions(dir.path(), std::fs::Permissions::from_mode(0o755)).unwrap();
        check_private_directory(dir.path()).unwrap();
        check_private_directory(&dir.path().join("none")).unwrap();
    }

    #[test]
    fn a_pipe_without_a_writer_is_refused_at_once() {
        let dir = tempfile::tempdir().unwrap();
        let pipe = dir.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let began = Instant::now();
        for path in [&pipe, dir.path(), Path::new("/dev/zero")] {
            assert!(
                matches!(read_private(path, 100), Err(PrivateFileError::NotRegular(..))),
                "{path:?}"
            );
        }
        assert!(began.elapsed() < Duration::from_secs(5));
        // A command that a person runs reads what another command writes.
        let writer = pipe.clone();
        let written = std::thread::spawn(move || std::fs::write(writer, "hunter2"));
        assert_eq!(read_private_or_pipe(&pipe, 100).unwrap().expose(), b"hunter2");
        written.join().unwrap().unwrap();
    }
}
