//! From the layers' texts to the configuration: every fault at once.

use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::layers::{ConfigError, Layers, Source};
use super::{Config, DatabaseConfig, DatabaseSource, TlsFiles};

impl Layers {
    /// The configuration, or everything that is wrong with it. `read` reads a file.
    pub fn resolve(mut self, read: impl Fn(&Path) -> std::io::Result<String>) -> Result<Config, ConfigError> {
        let listen = self.parsed("listen", "an address such as 127.0.0.1:50051");
        let danger_plaintext = self.parsed("danger_plaintext", "true or false");
        let max_connections = self.number("max_connections");
        let drain_seconds = self.number("drain_seconds");
        let tls = match (self.path("tls_certificate"), self.path("tls_private_key")) {
            (Some(certificate), Some(private_key)) => Some(TlsFiles {
                certificate,
                private_key,
            }),
            (None, None) => None,
            _ => {
                self.faults
                    .push("tls_certificate and tls_private_key go together: set both".to_owned());
                None
            }
        };
        let metrics_listen = match self.value("metrics_listen") {
            None => Some(None),
            Some(_) => self
                .parsed("metrics_listen", "an address such as 127.0.0.1:9464")
                .map(Some),
        };
        let database = self.database(read);
        let all = (
            listen,
            danger_plaintext,
            max_connections,
            drain_seconds,
            metrics_listen,
            database,
        );
        let (
            Some(listen),
            Some(danger_plaintext),
            Some(max_connections),
            Some(drain),
            Some(metrics_listen),
            Some(database),
        ) = all
        else {
            return Err(ConfigError(self.faults));
        };
        if !self.faults.is_empty() {
            return Err(ConfigError(self.faults));
        }
        Ok(Config {
            listen,
            danger_plaintext,
            tls,
            max_connections,
            drain_time: Duration::from_secs(drain as u64),
            metrics_listen,
            regions: self.regions,
            database,
        })
    }

    fn database(&mut self, read: impl Fn(&Path) -> std::io::Result<String>) -> Option<DatabaseConfig> {
        let danger_unverified_database = self.parsed("danger_unverified_database", "true or false");
        let max_connections = self.number("database_connections");
        let postgres_bin = self.path("postgres_bin");
        let postgres_user = self.value("postgres_user").map(str::to_owned);
        let url = match (
            self.value("database_url").map(str::to_owned),
            self.path("database_url_file"),
        ) {
            (Some(_), Some(_)) => {
                self.faults
                    .push("database_url and database_url_file exclude each other: set one".to_owned());
                None
            }
            (Some(url), None) => Some(url),
            (None, Some(file)) => match read(&file) {
                Ok(url) => Some(url.trim().to_owned()),
                Err(error) => {
                    self.faults.push(format!("database_url_file can not be read: {error}"));
                    None
                }
            },
            (None, None) => None,
        };
        let Some(data_dir) = self.path("data_dir") else {
            self.faults
                .push("data_dir is not set, and there is no HOME to keep data in".to_owned());
            return None;
        };
        let source = match url {
            Some(url) => {
                for key in ["postgres_bin", "postgres_user"] {
                    if self.value(key).is_some() {
                        self.faults.push(format!(
                            "{key} is for the private Postgres only: leave it out with a database URL"
                        ));
                    }
                }
                DatabaseSource::Url {
                    url,
                    danger_unverified_database: danger_unverified_database?,
                }
            }
            None => DatabaseSource::Private {
                postgres_bin,
                postgres_user,
            },
        };
        Some(DatabaseConfig {
            key_ring: self.path("key_ring").unwrap_or_else(|| data_dir.join("key-ring")),
            admin_key: self.path("admin_key").unwrap_or_else(|| data_dir.join("admin.key")),
            data_dir,
            max_connections: max_connections?,
            source,
        })
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.value(key).map(PathBuf::from)
    }

    fn parsed<T: FromStr>(&mut self, key: &'static str, wanted: &str) -> Option<T> {
        let parsed = self.value(key).and_then(|value| value.parse().ok());
        if parsed.is_none() {
            let source = self
                .values
                .get(key)
                .map_or(Source::Default, |(_, source)| source.clone());
            self.faults.push(format!("{source}: {key} is not {wanted}"));
        }
        parsed
    }

    fn number(&mut self, key: &'static str) -> Option<usize> {
        let number = self.parsed(key, "a whole number from 1 to 1000000")?;
        if (1..=1_000_000).contains(&number) {
            return Some(number);
        }
        self.faults.push(format!("{key} is not from 1 to 1000000"));
        None
    }
}
