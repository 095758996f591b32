//! PostgreSQL's programs: their directory and their version.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use super::Error;
use super::run_as::RunAs;

/// The oldest major version of PostgreSQL that certkeep runs on.
pub const OLDEST_MAJOR: u32 = 14;

/// A directory that contains `postgres` and `initdb`, and their version.
#[derive(Debug)]
pub struct Binaries {
    dir: PathBuf,
    version: Version,
}

#[derive(Clone, Debug, Eq, PartialEq)]
struct Version {
    text: String,
    major: u32,
}

/// The binaries to search for.
#[derive(Clone, Copy, Debug)]
pub enum Wanted<'a> {
    /// Any version that is new enough, for a new cluster.
    Any,
    /// The major version of the cluster in this directory.
    Major(u32, &'a Path),
}

impl Binaries {
    /// Finds the binaries. With `bin_dir`, only there. Otherwise in the directories of `path` (a PATH), then in the directories of
    /// the packages of Debian, Red Hat and Homebrew, newest version first.
    pub async fn find(
        bin_dir: Option<&Path>,
        path: Option<&OsStr>,
        wanted: Wanted<'_>,
        run_as: &RunAs,
    ) -> Result<Self, Error> {
        let places = match bin_dir {
            Some(dir) => vec![std::path::absolute(dir).map_err(Error::file(dir))?],
            None => places(path),
        };
        let mut seen = HashSet::new();
        let mut other: Option<Self> = None;
        for dir in places.iter().filter_map(|place| usable(place)) {
            if !seen.insert(dir.clone()) {
                continue;
            }
            let Some(version) = version(&dir, run_as).await else {
                continue;
            };
            let fits = match wanted {
                Wanted::Any => version.major >= OLDEST_MAJOR,
                Wanted::Major(major, _) => version.major == major,
            };
            let found = Self { dir, version };
            if fits {
                return Ok(found);
            }
            other.get_or_insert(found);
        }
        Err(match (wanted, other, bin_dir) {
            (_, None, Some(dir)) => Error::NotBinaries { dir: dir.to_path_buf() },
            (Wanted::Major(data, dir), _, _) => Error::OtherMajor {
                data,
                dir: dir.to_path_buf(),
            },
            (Wanted::Any, Some(old), _) => Error::TooOld {
                version: old.version.text,
                dir: old.dir,
            },
            (Wanted::Any, None, None) => Error::NoBinaries,
        })
    }

    /// The server.
    pub fn postgres(&self) -> PathBuf {
        self.dir.join("postgres")
    }

    /// The program that creates a cluster.
    pub fn initdb(&self) -> PathBuf {
        self.dir.join("initdb")
    }

    /// The version, like `15.18`.
    pub fn version(&self) -> &str {
        &self.version.text
    }
}

fn places(path: Option<&OsStr>) -> Vec<PathBuf> {
    let mut places: Vec<PathBuf> = path
        .map(|path| std::env::split_paths(path).collect())
        .unwrap_or_default();
    // A relative entry of PATH would be another directory for a child process.
    places.retain(|place| place.is_absolute());
    places.extend(
        numbered("/usr/lib/postgresql", "")
            .into_iter()
            .map(|dir| dir.join("bin")),
    );
    places.extend(numbered("/usr", "pgsql-").into_iter().map(|dir| dir.join("bin")));
    places.push("/usr/bin".into());
    for prefix in ["/opt/homebrew", "/usr/local"] {
        places.extend(
            numbered(&format!("{prefix}/opt"), "postgresql@")
                .into_iter()
                .map(|dir| dir.join("bin")),
        );
        places.push(format!("{prefix}/bin").into());
    }
    places
}

/// The entries of `parent` named `prefix` and a number, largest number first.
fn numbered(parent: &str, prefix: &str) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(parent) else {
        return Vec::new();
    };
    let mut found: Vec<(u32, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            Some((
                entry.file_name().to_str()?.strip_prefix(prefix)?.parse().ok()?,
                entry.path(),
            ))
        })
        .collect();
    found.sort_by_key(|(number, _)| std::cmp::Reverse(*number));
    found.into_iter().map(|(_, path)| path).collect()
}

/// The directory with both programs: `place`, or the directory that `postgres` in `place` links to. Debian links some programs
/// into /usr/bin.
fn usable(place: &Path) -> Option<PathBuf> {
    let holds_both = |dir: &Path| is_program(&dir.join("postgres")) && is_program(&dir.join("initdb"));
    if holds_both(place) {
        return Some(place.to_path_buf());
    }
    let target = fs::canonicalize(place.join("postgres")).ok()?.parent()?.to_path_buf();
    holds_both(&target).then_some(target)
}

fn is_program(path: &Path) -> bool {
    fs::metadata(path).is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

/// The version of the server in `dir`. `None` if the user that runs Postgres cannot run it.
async fn version(dir: &Path, run_as: &RunAs) -> Option<Version> {
    let output = run_as
        .command(&dir.join("postgres"))
        .arg("--version")
        .output()
        .await
        .ok()?;
    parse_version(&String::from_utf8_lossy(&output.stdout))
}

/// Parses `postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)`. Versions such as `17beta1` and `18devel` exist.
fn parse_version(line: &str) -> Option<Version> {
    let text = line.split_whitespace().nth(2)?;
    let digits = text.split(|c: char| !c.is_ascii_digit()).next()?;
    Some(Version {
        text: text.to_owned(),
        major: digits.parse().ok()?,
    })
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
    use std::os::unix::fs::symlink;

    use super::*;

    fn fake(dir: &Path, version: &str) -> PathBuf {
        let bin = dir.join(version).join("bin");
        fs::create_dir_all(&bin).unwrap();
        for program in ["postgres", "initdb"] {
            let path = bin.join(program);
            fs::write(&path, format!("#!/bin/sh\necho 'postgres (PostgreSQL) {version}'\n")).unwrap();
            fs::set_permissions(&path, Permissions::from_mode(0o755)).unwrap();
        }
        bin
    }

    fn open_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        fs::set_permissions(dir.path(), Permissions::from_mode(0o711)).unwrap();
        dir
    }

    #[test]
    fn versions_of_every_vendor_are_parsed() {
        for (line, text, major) in [
            ("postgres (PostgreSQL) 15.18 (Debian 15.18-0+deb12u1)\n", "15.18", 15),
            ("postgres (PostgreSQL) 17beta1\n", "17beta1", 17),
            ("postgres (PostgreSQL) 9.6.24\n", "9.6.24", 9),
        ] {
            assert_eq!(
                parse_version(line),
                Some(Version {
                    text: text.to_owned(),
                    major
                })
            );
        }
        assert_eq!(parse_version("bash: postgres: command not found"), None);
    }

    #[test]
    fn a_link_to_postgres_is_followed_to_the_directory_of_both_programs() {
        let dir = open_dir();
        let bin = fs::canonicalize(fake(dir.path(), "15.18")).unwrap();
        let links = dir.path().join("links");
        fs::create_dir(&links).unwrap();
        symlink(bin.join("postgres"), links.join("postgres")).unwrap();
        assert_eq!(usable(&links), Some(bin));
    }

    #[tokio::test]
    async fn the_first_directory_of_the_path_with_the_wanted_version_is_used() {
        let dir = open_dir();
        let run_as = RunAs::resolve(None, None).await.unwrap();
        let path = std::env::join_paths([
            fake(dir.path(), "13.2"),
            fake(dir.path(), "97.1"),
            fake(dir.path(), "98.1"),
        ]);
        let path = path.unwrap();
        let any = Binaries::find(None, Some(&path), Wanted::Any, &run_as).await.unwrap();
        assert_eq!(any.version(), "97.1");
        let major = Wanted::Major(98, Path::new("/data"));
        assert_eq!(
            Binaries::find(None, Some(&path), major, &run_as)
                .await
                .unwrap()
                .version(),
            "98.1"
        );
    }

    #[tokio::test]
    async fn only_the_given_directory_is_searched() {
        let dir = open_dir();
        let run_as = RunAs::resolve(None, None).await.unwrap();
        let error = Binaries::find(Some(dir.path()), None, Wanted::Any, &run_as)
            .await
            .unwrap_err();
        assert!(matches!(error, Error::NotBinaries { .. }), "{error}");
        let old = fake(dir.path(), "13.2");
        let error = Binaries::find(Some(&old), None, Wanted::Any, &run_as)
            .await
            .unwrap_err();
        assert!(
            matches!(&error, Error::TooOld { version, .. } if version == "13.2"),
            "{error}"
        );
        let major = Wanted::Major(15, Path::new("/data"));
        let error = Binaries::find(Some(&old), None, major, &run_as).await.unwrap_err();
        assert!(matches!(error, Error::OtherMajor { data: 15, .. }), "{error}");
    }
}
