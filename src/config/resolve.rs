//! Turns the texts of all sources into the configuration, and reports all errors at once.

use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use super::layers::{ConfigError, Layers, Source};
use super::otlp::{Headers, HttpUrl, Ratio};
use super::{CasService, Config, DatabaseConfig, DatabaseSource, KeyProviders, Pkcs11Device, TlsFiles, TransitService};

/// With less, the largest request or answer would take most of it.
const MIN_CALL_MEMORY_MIB: u32 = 8;
/// Purges follow a time that the clocks have shown for this long.
const PURGE_WAIT: Duration = Duration::from_secs(60 * 60);
/// The time for an answer of Alibaba Cloud.
const CAS_TIMEOUT: Duration = Duration::from_secs(5);
/// The time for which Alibaba Cloud is not called after it did not answer.
const CAS_PAUSE: Duration = Duration::from_secs(30);

impl Layers {
    /// The configuration, or all its errors. `read` reads a file with a secret, or says why it can't.
    pub fn resolve(mut self, read: impl Fn(&Path) -> Result<String, String>) -> Result<Config, ConfigError> {
        let listen = self.parsed("listen", "an address, for example 127.0.0.1:50051");
        let danger_plaintext = self.parsed("danger_plaintext", "true or false");
        if let (Some(listen), Some(false)) = (listen, danger_plaintext) {
            self.protect("listen", listen);
        }
        let max_connections = self.number("max_connections");
        let max_per_address: Option<usize> =
            self.parsed("max_connections_per_address", "a whole number of connections");
        let max_streams = self.number("max_streams");
        let call_memory = self.number("call_memory_mib");
        if call_memory.is_some_and(|mib| mib < MIN_CALL_MEMORY_MIB) {
            self.error("call_memory_mib", "is less than 8");
        }
        let reflection = self.parsed("reflection", "true or false");
        let max_connection_age = self.seconds("max_connection_age_seconds");
        let keepalive = self.seconds("keepalive_seconds");
        let drain_time = self.seconds("drain_seconds");
        let client_ca = self.path("client_ca");
        let tls = match (self.path("tls_certificate"), self.path("tls_private_key")) {
            (Some(certificate), Some(private_key)) => Some(TlsFiles {
                certificate,
                private_key,
                client_ca,
            }),
            (None, None) => {
                if client_ca.is_some() {
                    self.error("client_ca", "needs TLS: set tls_certificate and tls_private_key too");
                }
                None
            }
            _ => {
                self.errors
                    .push("tls_certificate needs tls_private_key: set both or none".to_owned());
                None
            }
        };
        let metrics_listen = match self.value("metrics_listen") {
            None => Some(None),
            Some(_) => self
                .parsed("metrics_listen", "an address, for example 127.0.0.1:9464")
                .map(Some),
        };
        let metrics_certificates: Option<u32> = self.parsed("metrics_certificates", "a whole number between 0 and 100");
        if metrics_certificates.is_some_and(|number| number > 100) {
            self.error("metrics_certificates", "is not between 0 and 100");
        }
        let otlp_endpoint = match self.value("otlp_endpoint") {
            None => Some(None),
            Some(_) => self
                .parsed("otlp_endpoint", HttpUrl::WANTED)
                .map(|HttpUrl(url)| Some(url)),
        };
        let otlp_headers = match self.value("otlp_headers") {
            None => Some(Headers::default()),
            Some(_) => self.parsed("otlp_headers", Headers::WANTED),
        };
        let trace_sample_ratio = self.parsed("trace_sample_ratio", Ratio::WANTED);
        let key_blocklists = self.paths("key_blocklist");
        let server_certificate_quota = self.number("server_certificate_quota");
        let ca_certificate_quota = self.number("ca_certificate_quota");
        let access_key_quota = self.number("access_key_quota");
        let access_key_rate = self.number("access_key_rate");
        let account_rate = self.number("account_rate");
        let retention_days: Option<u32> = self.parsed("delete_retention_days", "a whole number of days");
        let version_retention: Option<u32> = self.parsed("version_retention", "a whole number of versions");
        let version_retention_days: Option<u32> = self.parsed("version_retention_days", "a whole number of days");
        let audit_retention_days: Option<u32> = self.parsed("audit_retention_days", "a whole number of days");
        let cas = self.cas();
        let database = self.database(read);
        let slb_listen = self.slb_listen(listen, danger_plaintext, database.as_ref());
        let slb_listen_required = self.value("slb_listen").is_some();
        let all = (
            listen,
            (max_connections, max_per_address, call_memory, reflection),
            max_streams,
            max_connection_age,
            keepalive,
            drain_time,
            (metrics_listen, metrics_certificates, slb_listen),
            otlp_endpoint,
            otlp_headers,
            trace_sample_ratio,
            server_certificate_quota,
            ca_certificate_quota,
            (access_key_quota, access_key_rate, account_rate),
            retention_days,
            (version_retention, version_retention_days),
            audit_retention_days,
            database,
        );
        let (
            Some(listen),
            (Some(max_connections), Some(max_per_address), Some(call_memory), Some(reflection)),
            Some(max_streams),
            Some(max_connection_age),
            Some(keepalive),
            Some(drain_time),
            (Some(metrics_listen), Some(metrics_certificates), Some(slb_listen)),
            Some(otlp_endpoint),
            Some(Headers(otlp_headers)),
            Some(Ratio(trace_sample_ratio)),
            Some(server_certificate_quota),
            Some(ca_certificate_quota),
            (Some(access_key_quota), Some(access_key_rate), Some(account_rate)),
            Some(retention_days),
            (Some(version_retention), Some(version_retention_days)),
            Some(audit_retention_days),
            Some(database),
        ) = all
        else {
            return Err(ConfigError(self.errors));
        };
        if !self.errors.is_empty() {
            return Err(ConfigError(self.errors));
        }
        Ok(Config {
            listen,
            slb_listen,
            slb_listen_required,
            tls,
            max_connections: max_connections as usize,
            max_connections_per_address: (max_per_address > 0).then_some(max_per_address),
            call_memory: call_memory as usize * 1024 * 1024,
            reflection,
            max_streams,
            max_connection_age,
            keepalive,
            drain_time,
            metrics_listen,
            metrics_certificates,
            otlp_endpoint,
            otlp_headers,
            trace_sample_ratio,
            key_blocklists,
            server_certificate_quota,
            ca_certificate_quota,
            access_key_quota,
            access_key_rate,
            account_rate,
            delete_retention: days(retention_days),
            purge_wait: PURGE_WAIT,
            version_retention,
            version_retention_time: days(version_retention_days),
            audit_retention: (audit_retention_days > 0).then(|| days(audit_retention_days)),
            cas,
            regions: self.regions,
            database,
        })
    }

    /// The address for clients of Alibaba Cloud's SLB API. The inner `None`: no listener.
    fn slb_listen(
        &mut self,
        listen: Option<SocketAddr>,
        danger_plaintext: Option<bool>,
        database: Option<&DatabaseConfig>,
    ) -> Option<Option<SocketAddr>> {
        match self.value("slb_listen") {
            None => {
                let is_private = matches!(database?.source, DatabaseSource::Private { .. });
                // The system chooses port 0 for both, and two instances on one machine do not meet.
                let port = match listen?.port() {
                    0 => 0,
                    port => port.checked_add(1).unwrap_or_default(),
                };
                Some(is_private.then(|| (Ipv4Addr::LOCALHOST, port).into()))
            }
            Some("none") => Some(None),
            Some(_) => {
                let address = self.parsed("slb_listen", "an address, for example 127.0.0.1:50052, or none")?;
                if danger_plaintext == Some(false) {
                    self.protect("slb_listen", address);
                }
                Some(Some(address))
            }
        }
    }

    /// Without TLS, only this machine may reach the listener.
    fn protect(&mut self, key: &'static str, listen: SocketAddr) {
        // With one of the two files set, the operator wants TLS and gets the error about the missing file.
        let wants_tls = ["tls_certificate", "tls_private_key"]
            .iter()
            .any(|key| self.value(key).is_some());
        if !listen.ip().is_loopback() && !wants_tls {
            self.error(
                key,
                "is not a loopback address, so private keys would cross the network in plain text: set tls_certificate and \
                 tls_private_key, listen on 127.0.0.1, or set --danger-plaintext",
            );
        }
    }

    fn database(&mut self, read: impl Fn(&Path) -> Result<String, String>) -> Option<DatabaseConfig> {
        let danger_unverified_database = self.parsed("danger_unverified_database", "true or false");
        let max_connections = self.number("database_connections");
        let postgres_bin = self.path("postgres_bin");
        let postgres_user = self.value("postgres_user").map(str::to_owned);
        let url = self.text_or_file(["database_url", "database_url_file"], &read);
        let owner_url = self.text_or_file(["database_owner_url", "database_owner_url_file"], &read);
        let Some(data_dir) = self.path("data_dir") else {
            self.errors
                .push("data_dir is not set, and HOME is not set either: set one".to_owned());
            return None;
        };
        let source = match url {
            Some(url) => {
                for key in ["postgres_bin", "postgres_user"] {
                    if self.value(key).is_some() {
                        self.error(
                            key,
                            "is only for the private Postgres: remove it, or remove the database URL",
                        );
                    }
                }
                DatabaseSource::Url {
                    url,
                    owner_url,
                    danger_unverified_database: danger_unverified_database?,
                }
            }
            None => {
                for key in ["database_owner_url", "database_owner_url_file"] {
                    if self.value(key).is_some() {
                        self.error(key, "is only for your own Postgres: remove it, or set the database URL");
                    }
                }
                DatabaseSource::Private {
                    postgres_bin,
                    postgres_user,
                }
            }
        };
        let key_providers = self.key_providers();
        Some(DatabaseConfig {
            key_providers,
            key_ring: self.path("key_ring").unwrap_or_else(|| data_dir.join("key-ring")),
            admin_key: self.path("admin_key").unwrap_or_else(|| data_dir.join("admin.key")),
            data_dir,
            max_connections: max_connections? as usize,
            source,
        })
    }

    /// The text of the first setting, or the content of the file that the second setting names.
    fn text_or_file(
        &mut self,
        [text, file]: [&'static str; 2],
        read: impl Fn(&Path) -> Result<String, String>,
    ) -> Option<String> {
        match (self.value(text).map(str::to_owned), self.path(file)) {
            (Some(_), Some(_)) => {
                self.errors.push(format!("{text} and {file} are both set: set one"));
                None
            }
            (Some(value), None) => Some(value),
            (None, Some(path)) => match read(&path) {
                Ok(value) => Some(value.trim().to_owned()),
                Err(error) => {
                    self.error(file, &format!("cannot be used: {error}"));
                    None
                }
            },
            (None, None) => None,
        }
    }

    fn key_providers(&mut self) -> KeyProviders {
        let pkcs11 = self.all_or_none(["pkcs11_module", "pkcs11_token", "pkcs11_pin_file"]);
        let pkcs11 = pkcs11.map(|[module, token, pin_file]| Pkcs11Device {
            module: PathBuf::from(module),
            token,
            pin_file: PathBuf::from(pin_file),
        });
        let transit = self.all_or_none(["transit_url", "transit_key", "transit_token_file"]);
        let transit = transit.and_then(|[_, key, token_file]| {
            let url = self.protected_url("transit_url")?;
            let mount = self
                .value("transit_mount")
                .unwrap_or_default()
                .trim_matches('/')
                .to_owned();
            for (setting, path) in [("transit_mount", &mount), ("transit_key", &key)] {
                let is_path = |c: char| c.is_ascii_alphanumeric() || "-_./".contains(c);
                if path.is_empty() || !path.chars().all(is_path) || path.split('/').any(|part| part == "..") {
                    self.error(setting, "may contain only letters, digits and - _ . /");
                }
            }
            Some(TransitService {
                url,
                mount,
                key,
                token_file: PathBuf::from(token_file),
                ca_file: self.path("transit_ca_file"),
            })
        });
        KeyProviders { pkcs11, transit }
    }

    fn cas(&mut self) -> Option<CasService> {
        let [credentials_file, account] = self.all_or_none(["cas_credentials_file", "cas_account"])?;
        let endpoint = self.protected_url("cas_endpoint")?;
        if endpoint.path() != "/" || endpoint.query().is_some() {
            self.error("cas_endpoint", "has a path: use the scheme and the host alone");
        }
        let is_id =
            account.len() == 16 && account.bytes().all(|byte| byte.is_ascii_digit()) && !account.starts_with('0');
        if !is_id {
            self.error("cas_account", "is not the id of an account: it has 16 digits");
        }
        Some(CasService {
            endpoint,
            credentials_file: PathBuf::from(credentials_file),
            account: account.parse().ok()?,
            ca_file: self.path("cas_ca_file"),
            timeout: CAS_TIMEOUT,
            pause: CAS_PAUSE,
        })
    }

    /// The URL of a service that gets secrets.
    fn protected_url(&mut self, key: &'static str) -> Option<http::Uri> {
        let HttpUrl(url) = self.parsed(key, "an https URL with a host, or an http URL with a loopback address")?;
        if url.scheme_str() == Some("http") && !is_loopback(url.host().unwrap_or_default()) {
            self.error(
                key,
                "is http and not a loopback address, so keys would cross the network in plain text: use https",
            );
        }
        Some(url)
    }

    /// The values of settings that belong together. Some without the others are an error.
    fn all_or_none<const N: usize>(&mut self, keys: [&'static str; N]) -> Option<[String; N]> {
        let values = keys.map(|key| self.value(key).map(str::to_owned));
        let missing: Vec<_> = keys
            .iter()
            .zip(&values)
            .filter(|(_, value)| value.is_none())
            .map(|(key, _)| *key)
            .collect();
        if missing.is_empty() {
            return Some(values.map(Option::unwrap_or_default));
        }
        if missing.len() < N {
            self.errors.push(format!(
                "{} belong together: set {}",
                keys.join(", "),
                missing.join(" and ")
            ));
        }
        None
    }

    fn path(&self, key: &str) -> Option<PathBuf> {
        self.value(key).map(PathBuf::from)
    }

    /// The paths of a setting that are separated by commas.
    fn paths(&mut self, key: &str) -> Vec<PathBuf> {
        let paths = self.value(key).unwrap_or_default();
        let paths: Vec<_> = paths.split(',').map(|path| PathBuf::from(path.trim())).collect();
        match &paths[..] {
            [path] if path.as_os_str().is_empty() => return Vec::new(),
            paths if paths.iter().any(|path| path.as_os_str().is_empty()) => {
                self.error(key, "is not a list of files, separated by commas");
            }
            _ => {}
        }
        paths
    }

    /// The parsed value of a setting. A value that does not parse is the error "is not `wanted`". Modules that parse a setting
    /// themselves call this before [`resolve`](Self::resolve), which reports all errors.
    pub fn parsed<T: FromStr>(&mut self, key: &'static str, wanted: &str) -> Option<T> {
        let parsed = self.value(key).and_then(|value| value.parse().ok());
        if parsed.is_none() {
            self.error(key, &format!("is not {wanted}"));
        }
        parsed
    }

    fn seconds(&mut self, key: &'static str) -> Option<Duration> {
        self.number(key).map(|seconds| Duration::from_secs(u64::from(seconds)))
    }

    fn number(&mut self, key: &'static str) -> Option<u32> {
        let number = self.parsed(key, "a whole number between 1 and 1000000")?;
        if (1..=1_000_000).contains(&number) {
            return Some(number);
        }
        self.error(key, "is not between 1 and 1000000");
        None
    }

    /// Adds an error about a setting, with the source of its value.
    fn error(&mut self, key: &str, problem: &str) {
        let source = self.values.get(key).map_or(&Source::Default, |(_, source)| source);
        self.errors.push(format!("{source}: {key} {problem}"));
    }
}

fn days(days: u32) -> Duration {
    Duration::from_secs(u64::from(days) * 24 * 60 * 60)
}

/// Whether a URL's host is this machine.
fn is_loopback(host: &str) -> bool {
    let address = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || address
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}
