//! The contexts: named services, in the file `certkeep/contexts.toml` of the user's config directory. The file has no secret. An
//! access key that `certkeep login` was given is in a file of its own beside it.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, DirBuilder, File};
use std::io;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

use rustix::fs::{FlockOperation, flock};
use rustix::process::geteuid;

use super::Failure;
use crate::app::AccessKeyText;
use crate::secret::{Existing, Secret};

const FILE: &str = "contexts.toml";
const MAX_NAME_LEN: usize = 64;

/// A service, and how to call it.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct Context {
    /// URL of the server.
    pub(super) endpoint: String,
    /// Whether keys may go to this endpoint in plain text.
    pub(super) danger_plaintext: bool,
    /// File with one line, `<id>.<secret>`. Without it, the context has a client certificate.
    pub(super) access_key_file: Option<PathBuf>,
    pub(super) client_certificate: Option<ClientCertificate>,
    /// PEM file of CA certificates that verify the endpoint; `None`: the system's.
    pub(super) ca_file: Option<PathBuf>,
    /// Region of commands that need one.
    pub(super) region: Option<String>,
}

/// The files of a client certificate.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) struct ClientCertificate {
    /// PEM file with the certificate and its chain.
    pub(super) certificate: PathBuf,
    /// PEM file with its private key.
    pub(super) private_key: PathBuf,
}

/// The contexts of a user, by name.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub(super) struct Contexts {
    /// The context that counts if no other is named.
    pub(super) current: Option<String>,
    pub(super) by_name: BTreeMap<String, Context>,
}

impl Contexts {
    /// The context with this name.
    pub(super) fn find(&self, name: &str) -> Result<&Context, Failure> {
        self.by_name.get(name).ok_or_else(|| {
            let names: Vec<_> = self.by_name.keys().map(String::as_str).collect();
            let known = match names.as_slice() {
                [] => "there is none yet: create one with `certkeep login`".to_owned(),
                names => format!("the contexts are: {}", names.join(", ")),
            };
            Failure::usage(format!("no context is named {name:?}; {known}"))
        })
    }

    /// Reads the text of the file. The error names the key that is wrong.
    fn parse(text: &str) -> Result<Self, String> {
        let mut table: toml::Table = text.parse().map_err(|error: toml::de::Error| {
            let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
            let line = before.matches('\n').count() + 1;
            format!("line {line} is not valid TOML: {}", error.message())
        })?;
        let current = take_text(&mut table, "", "current")?;
        let contexts = match table.remove("contexts") {
            None => toml::Table::new(),
            Some(toml::Value::Table(contexts)) => contexts,
            Some(_) => return Err("contexts must be a table".to_owned()),
        };
        nothing_else(&table, "")?;
        let mut by_name = BTreeMap::new();
        for (name, context) in contexts {
            let toml::Value::Table(mut context) = context else {
                return Err(format!("contexts.{name} must be a table"));
            };
            if !is_name(&name) {
                return Err(format!("contexts.{name} is no name of a context: {NAME_RULE}"));
            }
            let path = format!("contexts.{name}.");
            let danger_plaintext = match context.remove("danger_plaintext") {
                None => false,
                Some(toml::Value::Boolean(is_set)) => is_set,
                Some(_) => return Err(format!("{path}danger_plaintext must be true or false")),
            };
            let mut text = |key| take_text(&mut context, &path, key);
            let endpoint = text("endpoint")?.ok_or_else(|| format!("{path}endpoint is missing"))?;
            let (key_file, ca_file, region) = (text("access_key_file")?, text("ca_file")?, text("region")?);
            let client_certificate = match (text("client_cert")?, text("client_key")?) {
                (Some(certificate), Some(private_key)) => Some(ClientCertificate {
                    certificate: certificate.into(),
                    private_key: private_key.into(),
                }),
                (None, None) => None,
                _ => return Err(format!("{path}client_cert and {path}client_key belong together")),
            };
            nothing_else(&context, &path)?;
            if key_file.is_none() && client_certificate.is_none() {
                return Err(format!("{path}access_key_file is missing"));
            }
            let context = Context {
                endpoint,
                danger_plaintext,
                access_key_file: key_file.map(PathBuf::from),
                client_certificate,
                ca_file: ca_file.map(PathBuf::from),
                region,
            };
            by_name.insert(name, context);
        }
        match &current {
            Some(name) if !by_name.contains_key(name) => {
                Err(format!("current is {name:?}, and no context has this name"))
            }
            _ => Ok(Self { current, by_name }),
        }
    }

    /// The text of the file.
    fn to_text(&self) -> Result<String, Failure> {
        let mut contexts = toml::Table::new();
        for (name, context) in &self.by_name {
            let mut table = toml::Table::new();
            let mut set = |key: &str, value: &str| table.insert(key.to_owned(), value.into());
            set("endpoint", &context.endpoint);
            let client = context.client_certificate.as_ref();
            for (key, file) in [
                ("access_key_file", context.access_key_file.as_ref()),
                ("client_cert", client.map(|client| &client.certificate)),
                ("client_key", client.map(|client| &client.private_key)),
                ("ca_file", context.ca_file.as_ref()),
            ] {
                if let Some(file) = file {
                    set(key, text_of(file)?);
                }
            }
            if let Some(region) = &context.region {
                set("region", region);
            }
            if context.danger_plaintext {
                table.insert("danger_plaintext".to_owned(), true.into());
            }
            contexts.insert(name.clone(), table.into());
        }
        let mut table = toml::Table::new();
        if let Some(current) = &self.current {
            table.insert("current".to_owned(), current.as_str().into());
        }
        table.insert("contexts".to_owned(), contexts.into());
        Ok(format!(
            "# Written by `certkeep login` and `certkeep context`.\n{table}"
        ))
    }
}

const NAME_RULE: &str = "use up to 64 letters, digits, dots, dashes and underscores, and begin with a letter or digit";

fn is_name(name: &str) -> bool {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c);
    (1..=MAX_NAME_LEN).contains(&name.len())
        && name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.chars().all(is_plain)
}

/// Checks the name of a new context.
pub(super) fn name(text: &str) -> Result<String, String> {
    match is_name(text) {
        true => Ok(text.to_owned()),
        false => Err(NAME_RULE.to_owned()),
    }
}

fn take_text(table: &mut toml::Table, path: &str, key: &str) -> Result<Option<String>, String> {
    match table.remove(key) {
        None => Ok(None),
        Some(toml::Value::String(text)) if !text.is_empty() => Ok(Some(text)),
        Some(_) => Err(format!("{path}{key} must be text that is not empty")),
    }
}

fn nothing_else(table: &toml::Table, path: &str) -> Result<(), String> {
    match table.keys().next() {
        Some(key) => Err(format!("unknown key {path}{key}")),
        None => Ok(()),
    }
}

fn text_of(path: &Path) -> Result<&str, Failure> {
    let wrong = || Failure::usage(format!("the path {} is not valid UTF-8", path.display()));
    path.to_str().ok_or_else(wrong)
}

/// The directory `certkeep` in the user's config directory.
#[derive(Clone, Debug)]
pub(super) struct ContextDir(PathBuf);

impl ContextDir {
    /// The directory by the XDG Base Directory Specification, which ignores a relative `XDG_CONFIG_HOME`. `None`: this user has no
    /// home directory.
    pub(super) fn of_user(variable: impl Fn(&str) -> Option<OsString>) -> Option<Self> {
        let config_home = variable("XDG_CONFIG_HOME")
            .map(PathBuf::from)
            .filter(|path| path.is_absolute());
        let config_home = config_home.or_else(|| Some(Path::new(&variable("HOME")?).join(".config")));
        Some(Self(config_home?.join("certkeep")))
    }

    fn file(&self) -> PathBuf {
        self.0.join(FILE)
    }

    /// The contexts; none if there is no file.
    pub(super) fn read(&self) -> Result<Contexts, Failure> {
        let path = self.file();
        let failed = |error: io::Error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
        let metadata = match fs::metadata(&path) {
            Ok(metadata) => metadata,
            // A service user may not even look into its home directory, and has no contexts.
            Err(error)
                if matches!(
                    error.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::PermissionDenied
                ) =>
            {
                return Ok(Contexts::default());
            }
            Err(error) => return Err(failed(error)),
        };
        // Who writes the file decides which server gets the access key.
        let (user, owner) = (geteuid().as_raw(), metadata.uid());
        if metadata.mode() & 0o022 != 0 || (owner != user && owner != 0) {
            return Err(Failure::usage(format!(
                "{} can be changed by other users: make it your own, with mode 0600",
                path.display()
            )));
        }
        let text = fs::read_to_string(&path).map_err(failed)?;
        Contexts::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
    }

    /// Opens the contexts for a change. Another command that changes them waits until this one has ended.
    pub(super) fn edit(&self) -> Result<Edit<'_>, Failure> {
        let created = DirBuilder::new().recursive(true).mode(0o700).create(&self.0);
        created.map_err(|error| self.cannot_write(&error))?;
        let lock = File::open(&self.0).map_err(|error| self.cannot_write(&error))?;
        flock(&lock, FlockOperation::LockExclusive).map_err(|errno| self.cannot_write(&errno.into()))?;
        Ok(Edit {
            contexts: self.read()?,
            dir: self,
            _lock: lock,
        })
    }

    /// The file for an access key of a context. Its name contains the key's id, so a new key never replaces an old one, and the key
    /// in the file is always for the endpoint in `contexts.toml`, also after a crash.
    pub(super) fn key_file(&self, name: &str, key: &AccessKeyText) -> PathBuf {
        self.0.join(format!("{name}.{}.key", key.id()))
    }

    fn cannot_write(&self, error: &io::Error) -> Failure {
        Failure::refused(format!("{} cannot be written: {error}", self.0.display()))
    }
}

/// The contexts under a lock.
pub(super) struct Edit<'a> {
    pub(super) contexts: Contexts,
    dir: &'a ContextDir,
    _lock: File,
}

impl Edit<'_> {
    /// Writes the contexts.
    pub(super) fn save(&self) -> Result<(), Failure> {
        let text = Secret::from(self.contexts.to_text()?);
        let written = text.write(&self.dir.file(), Existing::Replace);
        written.map_err(|error| self.dir.cannot_write(&error))
    }

    /// Stores a context and makes it the current one. With `new_key`, the access key goes into a file of its own first, and the
    /// context names this file.
    pub(super) fn set(
        mut self,
        name: &str,
        mut context: Context,
        new_key: Option<&AccessKeyText>,
    ) -> Result<(), Failure> {
        let mut new_file = None;
        if let Some(key) = new_key {
            let file = self.dir.key_file(name, key);
            let existed = file.exists();
            let written = key.to_line().write(&file, Existing::Replace);
            written.map_err(|error| self.dir.cannot_write(&error))?;
            new_file = (!existed).then(|| file.clone());
            context.access_key_file = Some(file);
        }
        let before = self.contexts.by_name.insert(name.to_owned(), context);
        self.contexts.current = Some(name.to_owned());
        if let Err(failure) = self.save() {
            if let Some(file) = new_file {
                // The first error is the one to report.
                let _ = fs::remove_file(file);
            }
            return Err(failure);
        }
        before.map_or(Ok(()), |before| self.remove_key(name, &before).map(drop))
    }

    /// Removes a context. The answer is the file of its access key, if it was removed too.
    pub(super) fn remove(mut self, name: &str) -> Result<Option<PathBuf>, Failure> {
        let context = self.contexts.find(name)?.clone();
        self.contexts.by_name.remove(name);
        self.contexts.current = self.contexts.current.take().filter(|current| current != name);
        self.save()?;
        self.remove_key(name, &context)
    }

    /// Removes the file of an access key that `certkeep login` wrote for this context and that no context uses any more.
    fn remove_key(&self, name: &str, context: &Context) -> Result<Option<PathBuf>, Failure> {
        let Some(path) = &context.access_key_file else {
            return Ok(None);
        };
        let is_key_of = |file: &str| file.starts_with(&format!("{name}.")) && file.ends_with(".key");
        let is_own = path.parent() == Some(&self.dir.0)
            && path.file_name().and_then(|file| file.to_str()).is_some_and(is_key_of);
        let is_used = self
            .contexts
            .by_name
            .values()
            .any(|other| other.access_key_file.as_ref() == Some(path));
        if !is_own || is_used {
            return Ok(None);
        }
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(Failure::refused(format!(
                "the contexts are changed, but {} cannot be removed: {error}",
                path.display()
            ))),
            _ => Ok(Some(path.clone())),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::super::connection::access_key;
    use super::*;

    fn context(endpoint: &str) -> Context {
        Context {
            endpoint: endpoint.to_owned(),
            danger_plaintext: true,
            access_key_file: Some("/keys/a.key".into()),
            client_certificate: Some(ClientCertificate {
                certificate: "/tls/client.pem".into(),
                private_key: "/tls/client-key.pem".into(),
            }),
            ca_file: Some("/tls/\"ca\".pem".into()),
            region: Some("dc-1".to_owned()),
        }
    }

    #[test]
    fn the_written_file_is_read_again() {
        let home = tempfile::tempdir().unwrap();
        let dir = ContextDir(home.path().join("config/certkeep"));
        assert_eq!(dir.read().unwrap_or_default(), Contexts::default());
        let mut expected = Contexts::default();
        for name in ["prod", "9.a_B-"] {
            expected.by_name.insert(name.to_owned(), context("https://a.example"));
            expected.current = Some(name.to_owned());
            let edit = dir.edit().ok().unwrap();
            assert!(edit.set(name, context("https://a.example"), None).is_ok());
            assert_eq!(dir.read().unwrap_or_default(), expected);
        }
        assert_eq!(fs::metadata(dir.file()).unwrap().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&dir.0).unwrap().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&dir.0).unwrap().count(), 1);
        assert!(dir.edit().ok().unwrap().remove("other").is_err());
        assert_eq!(dir.read().unwrap_or_default(), expected);
    }

    #[test]
    fn the_file_of_a_key_ends_with_its_last_context() {
        let home = tempfile::tempdir().unwrap();
        let dir = ContextDir(home.path().to_owned());
        let files = || {
            let names = fs::read_dir(&dir.0).unwrap();
            let mut names: Vec<_> = names
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect();
            names.sort();
            names
        };
        let set = |name: &str, key: &AccessKeyText| {
            let new = context("https://a.example");
            assert!(dir.edit().ok().unwrap().set(name, new, Some(key)).is_ok());
        };
        let [first, second] = ["ck1.first", "ck2.second"].map(|text| access_key(text).unwrap());
        set("prod", &first);
        assert_eq!(fs::read_to_string(dir.0.join("prod.ck1.key")).unwrap(), "ck1.first\n");
        let shared = dir.read().unwrap_or_default().by_name["prod"].clone();
        assert!(dir.edit().ok().unwrap().set("other", shared, None).is_ok());
        set("prod", &second);
        assert_eq!(files(), ["contexts.toml", "prod.ck1.key", "prod.ck2.key"]);
        assert!(dir.edit().ok().unwrap().remove("prod").is_ok());
        assert_eq!(files(), ["contexts.toml", "prod.ck1.key"]);
        assert_eq!(dir.read().unwrap_or_default().current, None);

        // A file that the user named is the user's.
        let own = home.path().join("mine.key");
        fs::write(&own, "ck1.s").unwrap();
        let mut new = context("https://a.example");
        new.access_key_file = Some(own.clone());
        assert!(dir.edit().ok().unwrap().set("prod", new, None).is_ok());
        assert!(dir.edit().ok().unwrap().remove("prod").is_ok());
        assert!(own.exists());
    }

    #[test]
    fn a_file_that_others_can_change_is_refused() {
        let home = tempfile::tempdir().unwrap();
        let dir = ContextDir(home.path().to_owned());
        fs::write(dir.file(), "").unwrap();
        for (mode, is_fine) in [(0o600, true), (0o644, true), (0o620, false), (0o602, false)] {
            fs::set_permissions(dir.file(), fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(dir.read().is_ok(), is_fine, "{mode:o}");
        }
    }

    #[test]
    fn a_wrong_file_is_refused_with_the_name_of_the_key() {
        for (text, expected) in [
            ("current = 1", "current must be text that is not empty"),
            ("current = \"a\"", "current is \"a\", and no context has this name"),
            ("secret = \"x\"", "unknown key secret"),
            ("contexts = 1", "contexts must be a table"),
            ("a\nb", "line 1 is not valid TOML: "),
            ("[contexts]\na = 1", "contexts.a must be a table"),
            (
                "[contexts.a]\nendpoint = \"http://a\"",
                "contexts.a.access_key_file is missing",
            ),
            (
                "[contexts.a]\naccess_key_file = \"a\"",
                "contexts.a.endpoint is missing",
            ),
            (
                "[contexts.a]\nendpoint = \"http://a\"\nclient_cert = \"a\"",
                "contexts.a.client_cert and contexts.a.client_key belong together",
            ),
            (
                "[contexts.a]\nendpoint = \"\"",
                "contexts.a.endpoint must be text that is not empty",
            ),
            (
                "[contexts.a]\nendpoint = \"http://a\"\naccess_key_file = \"a\"\naccess_key = \"ck1.s\"",
                "unknown key contexts.a.access_key",
            ),
            (
                "[contexts.a]\nendpoint = \"http://a\"\naccess_key_file = \"a\"\ndanger_plaintext = \"yes\"",
                "contexts.a.danger_plaintext must be true or false",
            ),
            ("[contexts.\"../a\"]", "contexts.../a is no name of a context: "),
        ] {
            let error = Contexts::parse(text).unwrap_err();
            assert!(error.starts_with(expected), "{error}");
            assert!(!error.contains("ck1.s"), "{error}");
        }
    }

    #[test]
    fn a_name_is_no_path() {
        for good in ["a", "prod", "eu-1.prod_2", &"x".repeat(64)] {
            assert_eq!(name(good).as_deref(), Ok(good));
        }
        for bad in ["", ".", "..", "-a", "a/b", "a b", "ä", "a\n", &"x".repeat(65)] {
            assert!(name(bad).is_err(), "{bad:?}");
        }
    }

    #[test]
    fn the_config_directory_is_xdgs() {
        let dir = |pairs: &[(&str, &str)]| {
            let value = |name: &str| {
                pairs
                    .iter()
                    .find(|(key, _)| *key == name)
                    .map(|(_, value)| value.into())
            };
            ContextDir::of_user(value).map(|dir| dir.0.display().to_string())
        };
        assert_eq!(
            dir(&[("XDG_CONFIG_HOME", "/c"), ("HOME", "/h")]).as_deref(),
            Some("/c/certkeep")
        );
        assert_eq!(
            dir(&[("XDG_CONFIG_HOME", "c"), ("HOME", "/h")]).as_deref(),
            Some("/h/.config/certkeep")
        );
        assert_eq!(dir(&[]), None);
    }
}
