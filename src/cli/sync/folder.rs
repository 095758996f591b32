//! The folder of `certkeep sync`.
//!
//! `<id>` is a link to `.versions/<id>.<version>.<random>`, which has the files of one version. A new version becomes visible by one
//! rename of a link, so that certificate and key change together. All paths are made of ids and of names that [`Link`] has checked.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt, fchown, lchown, symlink};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use zeroize::Zeroizing;

use super::link::{Link, is_name};
use super::owner::Owner;
use super::state::State;
use crate::cli::Failure;
use crate::digest;

const VERSIONS: &str = ".versions";
const STATE: &str = ".certkeep-sync.json";
const LOCK: &str = ".certkeep-sync.lock";

/// A certificate's chain and its key, in PEM.
pub(super) struct KeyPair {
    pub(super) chain: String,
    pub(super) private_key: Zeroizing<String>,
}

pub(super) struct Folder {
    dir: PathBuf,
    mode: u32,
    owner: Option<Owner>,
    /// Whether there can be versions that no link leads to.
    has_old: bool,
    /// The lock on the folder lasts as long as this file is open.
    _lock: File,
}

impl Folder {
    /// Creates the folder if there is none, and locks it.
    pub(super) fn open(dir: &Path, mode: u32, owner: Option<Owner>) -> Result<Self, Failure> {
        if let Some(parent) = dir.parent() {
            fs::create_dir_all(parent).map_err(|error| cannot(parent, &error))?;
        }
        let versions = dir.join(VERSIONS);
        make_dir(dir, mode, owner).map_err(|error| cannot(dir, &error))?;
        make_dir(&versions, mode, owner).map_err(|error| cannot(&versions, &error))?;
        // Versions are removed in this directory. A link would lead elsewhere.
        let is_real = fs::symlink_metadata(&versions).is_ok_and(|found| found.is_dir());
        let is_set = match is_real {
            true => set_dir(&versions, mode, owner),
            false => Err(io::Error::other("it is no directory")),
        };
        is_set.map_err(|error| cannot(&versions, &error))?;
        let path = dir.join(LOCK);
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .mode(0o600)
            .open(&path);
        let lock = lock.map_err(|error| cannot(&path, &error))?;
        flock(&lock, FlockOperation::NonBlockingLockExclusive).map_err(|error| match error {
            rustix::io::Errno::WOULDBLOCK => {
                Failure::refused(format!("another `certkeep sync` uses the folder {}", dir.display()))
            }
            error => cannot(&path, &error.into()),
        })?;
        Ok(Self {
            dir: dir.to_owned(),
            mode,
            owner,
            has_old: true,
            _lock: lock,
        })
    }

    pub(super) fn read_state(&self) -> Result<State, Failure> {
        let path = self.dir.join(STATE);
        match fs::read_to_string(&path) {
            Ok(text) => Ok(State::from_text(&text)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(State::default()),
            Err(error) => Err(cannot(&path, &error)),
        }
    }

    pub(super) fn write_state(&self, state: &State) -> Result<(), Failure> {
        let (path, new) = (self.dir.join(STATE), self.dir.join(format!("{STATE}.new")));
        let write = || {
            let mut options = OpenOptions::new();
            let mut file = options.create(true).truncate(true).write(true).mode(0o600).open(&new)?;
            file.write_all(state.to_text().as_bytes())?;
            file.sync_all()?;
            fs::rename(&new, &path)
        };
        write().map_err(|error| cannot(&path, &error))
    }

    /// Whether the folder has the files of the certificate.
    pub(super) fn has(&self, id: &str) -> bool {
        self.dir.join(id).join("privkey.pem").is_file()
    }

    /// Writes a version of a certificate, and then leads the certificate's link to it.
    pub(super) fn write(&mut self, id: &str, version: i64, pair: &KeyPair) -> Result<(), Failure> {
        let name = format!("{id}.{version}.{}", random()?);
        let dir = self.dir.join(VERSIONS).join(&name);
        let write = || {
            DirBuilder::new().mode(0o700).create(&dir)?;
            let bundle = Zeroizing::new(format!("{}{}", *pair.private_key, pair.chain));
            for (file, text) in [
                ("fullchain.pem", &pair.chain),
                ("privkey.pem", &*pair.private_key),
                ("bundle.pem", &*bundle),
            ] {
                self.write_file(&dir.join(file), text.as_bytes())?;
            }
            set_dir(&dir, self.mode, self.owner)?;
            File::open(&dir)?.sync_all()?;
            File::open(self.dir.join(VERSIONS))?.sync_all()
        };
        write().map_err(|error| cannot(&dir, &error))?;
        self.has_old = true;
        self.point(id, &format!("{VERSIONS}/{name}"))
    }

    fn write_file(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut file = OpenOptions::new().create_new(true).write(true).mode(0o600).open(path)?;
        file.write_all(bytes)?;
        if let Some(owner) = self.owner {
            fchown(&file, Some(owner.user), Some(owner.group))?;
        }
        file.set_permissions(fs::Permissions::from_mode(self.mode))?;
        file.sync_all()
    }

    /// Makes the link, or changes its target in one step.
    fn point(&self, name: &str, target: &str) -> Result<(), Failure> {
        let path = self.dir.join(name);
        let new = self.dir.join(VERSIONS).join(format!(".link.{}", random()?));
        let make = || {
            if fs::symlink_metadata(&path).is_ok_and(|found| !found.is_symlink()) {
                return Err(io::Error::other("it exists and is no link of `certkeep sync`"));
            }
            symlink(target, &new)?;
            if let Some(owner) = self.owner {
                lchown(&new, Some(owner.user), Some(owner.group))?;
            }
            fs::rename(&new, &path)?;
            File::open(&self.dir)?.sync_all()
        };
        make().map_err(|error| cannot(&path, &error))
    }

    /// Removes the links of an earlier run that are not wanted any more, and makes the others.
    pub(super) fn set_links(&self, state: &mut State, links: &[Link]) -> Result<(), Failure> {
        let wanted: std::collections::BTreeSet<_> = links.iter().map(|link| link.name.clone()).collect();
        for name in state.links.difference(&wanted) {
            // The state is a file that somebody can have changed.
            if is_name(name) {
                self.remove_link(name)?;
            }
        }
        state.links = wanted;
        let pointed = self.link(links)?;
        state.changed.extend(pointed);
        Ok(())
    }

    /// Makes the links whose certificate is there. Answers the certificates of the links that it made.
    pub(super) fn link(&self, links: &[Link]) -> Result<Vec<String>, Failure> {
        let mut pointed = Vec::new();
        for link in links {
            let id = link.id.to_string();
            let is_made = fs::read_link(self.dir.join(&link.name)).is_ok_and(|target| target == Path::new(&id));
            if !is_made && self.has(&id) {
                self.point(&link.name, &id)?;
                pointed.push(id);
            }
        }
        Ok(pointed)
    }

    /// Removes a certificate and its links.
    pub(super) fn remove(&mut self, id: &str, links: &[Link]) -> Result<(), Failure> {
        for link in links.iter().filter(|link| link.id.to_string() == id) {
            self.remove_link(&link.name)?;
        }
        self.has_old = true;
        self.remove_link(id)
    }

    fn remove_link(&self, name: &str) -> Result<(), Failure> {
        let path = self.dir.join(name);
        match fs::symlink_metadata(&path) {
            Ok(found) if found.is_symlink() => fs::remove_file(&path).map_err(|error| cannot(&path, &error)),
            _ => Ok(()),
        }
    }

    /// Removes the versions that no certificate's link leads to.
    pub(super) fn remove_old(&mut self) -> Result<(), Failure> {
        if !std::mem::replace(&mut self.has_old, false) {
            return Ok(());
        }
        let versions = self.dir.join(VERSIONS);
        let remove = || {
            // The links say which versions are in use, also those of certificates that the state does not know.
            let mut current = std::collections::HashSet::new();
            for entry in fs::read_dir(&self.dir)? {
                if let Ok(target) = fs::read_link(entry?.path()) {
                    current.extend(target.file_name().map(ToOwned::to_owned));
                }
            }
            for entry in fs::read_dir(&versions)? {
                let entry = entry?;
                if current.contains(&entry.file_name()) {
                    continue;
                }
                match entry.file_type()?.is_dir() {
                    true => fs::remove_dir_all(entry.path())?,
                    false => fs::remove_file(entry.path())?,
                }
            }
            Ok(())
        };
        remove().map_err(|error: io::Error| cannot(&versions, &error))
    }
}

fn make_dir(path: &Path, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    match DirBuilder::new().mode(0o700).create(path) {
        Ok(()) => set_dir(path, mode, owner),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && path.is_dir() => Ok(()),
        Err(error) => Err(error),
    }
}

/// A directory that the readers of the files can search. The user of this process keeps it: the owner of the files could lead the
/// changes of a privileged process elsewhere.
fn set_dir(path: &Path, mode: u32, owner: Option<Owner>) -> io::Result<()> {
    let mut search = 0;
    if let Some(owner) = owner {
        lchown(path, None, Some(owner.group))?;
        search = 0o011;
    }
    let readers = mode & 0o044;
    fs::set_permissions(
        path,
        fs::Permissions::from_mode(0o700 | readers | readers >> 2 | search),
    )
}

fn random() -> Result<String, Failure> {
    let bytes: [u8; 8] = digest::random().map_err(|error| Failure::from_error(&error))?;
    Ok(format!("{:016x}", u64::from_be_bytes(bytes)))
}

fn cannot(path: &Path, error: &io::Error) -> Failure {
    Failure::refused(format!("{} cannot be written or read: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    const SOME_ID: &str = "1231579085529123_15d6fcb45a3_1328245761_-2147483648";

    fn pair(text: &str) -> KeyPair {
        KeyPair {
            chain: format!("chain {text}\n"),
            private_key: Zeroizing::new(format!("key {text}\n")),
        }
    }

    #[test]
    fn a_version_replaces_the_one_before_as_a_whole() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("certs");
        let mut folder = Folder::open(&path, 0o640, None).unwrap();
        let link: Link = format!("web={SOME_ID}").parse().unwrap();
        let mut state = State::default();
        state.certificates.entry(SOME_ID.to_owned()).or_default();
        folder.write(SOME_ID, 1, &pair("one")).unwrap();
        folder.set_links(&mut state, std::slice::from_ref(&link)).unwrap();
        let read = |name: &str| fs::read_to_string(path.join("web").join(name)).unwrap();
        assert_eq!(read("bundle.pem"), "key one\nchain one\n");
        // Who has opened the directory sees one version.
        let opened = fs::canonicalize(path.join("web")).unwrap();
        folder.write(SOME_ID, 2, &pair("two")).unwrap();
        assert_eq!(fs::read_to_string(opened.join("privkey.pem")).unwrap(), "key one\n");
        assert_eq!(
            (read("privkey.pem"), read("fullchain.pem")),
            ("key two\n".into(), "chain two\n".into())
        );
        folder.remove_old().unwrap();
        assert!(!opened.exists());
        assert_eq!(read("privkey.pem"), "key two\n");
        let mode = |path: PathBuf| fs::metadata(path).unwrap().permissions().mode() & 0o7777;
        assert_eq!(mode(path.join("web/privkey.pem")), 0o640);
        assert_eq!(mode(path.join("web")), 0o750);

        // A second process, and a file where a link would be.
        assert!(Folder::open(&path, 0o640, None).is_err());
        fs::write(path.join("other"), "mine").unwrap();
        let other: Link = format!("other={SOME_ID}").parse().unwrap();
        assert!(folder.link(&[other]).is_err());
        assert_eq!(fs::read_to_string(path.join("other")).unwrap(), "mine");

        // A link that is not wanted any more.
        folder.set_links(&mut state, &[]).unwrap();
        assert!(!path.join("web").exists());
        folder.remove(SOME_ID, &[]).unwrap();
        assert!(!folder.has(SOME_ID));
    }
}
