//! The sources of the configuration in one place: each value with its source.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::RegionConfig;
use super::settings::{SETTINGS, Setting, Shape};

/// Variables that are not settings: those of the client commands, and `CERTKEEP_CONFIG`.
const OTHER_VARIABLES: [&str; 10] = [
    "CERTKEEP_CONFIG",
    "CERTKEEP_CONTEXT",
    "CERTKEEP_ENDPOINT",
    "CERTKEEP_ACCESS_KEY",
    "CERTKEEP_ACCESS_KEY_FILE",
    "CERTKEEP_CA_FILE",
    "CERTKEEP_CLIENT_CERT",
    "CERTKEEP_CLIENT_KEY",
    "CERTKEEP_DATA_DIR",
    "CERTKEEP_REGION",
];

/// The source of a value.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(super) enum Source {
    Default,
    File,
    Environment,
    Flag,
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::File => "file",
            Self::Environment => "environment",
            Self::Flag => "flag",
        })
    }
}

/// All errors of a configuration.
#[derive(Debug, Eq, PartialEq)]
pub struct ConfigError(pub(super) Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid configuration:")?;
        self.0.iter().try_for_each(|error| write!(f, "\n  {error}"))
    }
}

impl std::error::Error for ConfigError {}

/// The values of all sources so far. A later source replaces earlier values.
pub struct Layers {
    pub(super) values: BTreeMap<&'static str, (String, Source)>,
    pub(super) regions: Option<Vec<RegionConfig>>,
    pub(super) errors: Vec<String>,
}

impl Layers {
    /// The defaults. `data_dir` is the default of the data directory.
    pub fn new(data_dir: Option<&Path>) -> Self {
        let defaults = SETTINGS
            .iter()
            .filter_map(|setting| Some((setting.key, setting.default?.to_owned())));
        let data_dir = data_dir.map(|path| ("data_dir", path.display().to_string()));
        Self {
            values: defaults
                .chain(data_dir)
                .map(|(key, value)| (key, (value, Source::Default)))
                .collect(),
            regions: None,
            errors: Vec::new(),
        }
    }

    /// Adds the values of a TOML file. An unknown key is an error.
    pub fn file(&mut self, text: &str) {
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            // Not the error's Display: it prints the line, and the line may contain a password.
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let place = before.matches('\n').count() + 1;
                self.errors
                    .push(format!("file: line {place} is not valid TOML: {}", error.message()));
                return;
            }
        };
        for (key, value) in table {
            match (setting(&key), value) {
                (None, toml::Value::Array(regions)) if key == "regions" => self.file_regions(regions),
                (None, _) => {
                    let known = SETTINGS.iter().map(|setting| setting.key).chain(["regions"]);
                    let meant = did_you_mean(&key, known);
                    self.errors.push(format!("file: unknown setting {key}{meant}"));
                }
                (Some(setting), toml::Value::String(text)) => self.set(setting, text, Source::File),
                (Some(setting), toml::Value::Integer(number)) => self.set(setting, number.to_string(), Source::File),
                (Some(setting), toml::Value::Boolean(is_set)) => self.set(setting, is_set.to_string(), Source::File),
                (Some(_), _) => self
                    .errors
                    .push(format!("file: {key} must be text, a whole number, true or false")),
            }
        }
    }

    fn file_regions(&mut self, tables: Vec<toml::Value>) {
        let mut regions = Vec::new();
        for (place, table) in tables.into_iter().enumerate() {
            let toml::Value::Table(mut table) = table else {
                self.errors.push(format!("file: regions[{place}] must be a table"));
                continue;
            };
            let mut text = |key: &str| match table.remove(key) {
                Some(toml::Value::String(text)) if !text.is_empty() => Some(text),
                _ => None,
            };
            let (id, zh_cn, en_us, ja) = (text("id"), text("zh_cn"), text("en_us"), text("ja"));
            if let Some(key) = table.keys().next() {
                let meant = did_you_mean(key, ["id", "zh_cn", "en_us", "ja"]);
                self.errors.push(format!(
                    "file: unknown setting regions[{place}].{key}, or not text{meant}"
                ));
            }
            match id {
                Some(id) if regions.iter().any(|region: &RegionConfig| region.id == id) => {
                    self.errors
                        .push(format!("file: regions[{place}] has the id of another region"));
                }
                Some(id) => {
                    // The English name defaults to the id, the other names to the English name.
                    let en_us = en_us.unwrap_or_else(|| id.clone());
                    let names = [
                        zh_cn.unwrap_or_else(|| en_us.clone()),
                        en_us.clone(),
                        ja.unwrap_or(en_us),
                    ];
                    regions.push(RegionConfig { id, names });
                }
                None => self.errors.push(format!("file: regions[{place}] has no id")),
            }
        }
        if regions.is_empty() && self.errors.is_empty() {
            self.errors
                .push("file: regions is empty: remove it to use the default regions".to_owned());
        }
        self.regions = Some(regions);
    }

    /// Adds the values of environment variables. An unknown variable that begins with `CERTKEEP_` is an error.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            // Kubernetes sets the excluded variables for a service of this name.
            let is_ours = name.starts_with("CERTKEEP_")
                && !name.starts_with("CERTKEEP_SERVICE_")
                && name != "CERTKEEP_PORT"
                && !name.starts_with("CERTKEEP_PORT_");
            if !is_ours || value.is_empty() {
                continue;
            }
            match SETTINGS.iter().find(|setting| setting.variable() == name) {
                Some(setting) => self.set(setting, value, Source::Environment),
                None if OTHER_VARIABLES.contains(&name.as_str()) => {}
                None => {
                    let others = OTHER_VARIABLES.iter().map(|name| (*name).to_owned());
                    let known: Vec<_> = SETTINGS.iter().map(Setting::variable).chain(others).collect();
                    let meant = did_you_mean(&name, known.iter().map(String::as_str));
                    self.errors.push(format!("environment: unknown setting {name}{meant}"));
                }
            }
        }
    }

    /// Adds the value of a flag.
    pub fn flag(&mut self, setting: &'static Setting, value: String) {
        self.set(setting, value, Source::Flag);
    }

    /// Sets a value. An empty value counts as not set, and an earlier value stays.
    fn set(&mut self, setting: &'static Setting, value: String, source: Source) {
        if !value.is_empty() {
            self.values.insert(setting.key, (value, source));
        }
    }

    /// The value of a setting, if any.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(value, _)| value.as_str())
    }

    /// All values in the format of the file, each with its source. Secrets are not shown.
    pub fn show(&self) -> String {
        let mut text = String::new();
        for setting in &SETTINGS {
            let Some((value, source)) = self.values.get(setting.key) else {
                text.push_str(&format!("# {} is not set\n", setting.key));
                continue;
            };
            let shown = match setting.shape {
                Shape::Secret(_) => toml::Value::from("<redacted>").to_string(),
                Shape::Text(_) => toml::Value::from(value.as_str()).to_string(),
                Shape::Number(_) | Shape::Switch => value.clone(),
            };
            text.push_str(&format!("{} = {shown}  # {source}\n", setting.key));
        }
        match &self.regions {
            None => text.push_str("# regions: Alibaba Cloud's public regions  # default\n"),
            Some(regions) => {
                for region in regions {
                    let [zh_cn, en_us, ja] = region
                        .names
                        .each_ref()
                        .map(|name| toml::Value::from(name.as_str()).to_string());
                    let id = toml::Value::from(region.id.as_str());
                    text.push_str(&format!(
                        "\n[[regions]]  # file\nid = {id}\nzh_cn = {zh_cn}\nen_us = {en_us}\nja = {ja}\n"
                    ));
                }
            }
        }
        text
    }
}

/// Asks for the known name that is most like an unknown one, if one is alike.
fn did_you_mean<'a>(unknown: &str, known: impl IntoIterator<Item = &'a str>) -> String {
    // The prefix that all variables share does not count.
    let own = |name: &str| name.trim_start_matches("CERTKEEP_").to_lowercase().replace('-', "_");
    let likeness = |name: &&str| strsim::jaro_winkler(&own(unknown), &own(name));
    let alike = known.into_iter().filter(|name| likeness(name) > 0.8);
    match alike.max_by(|one, other| likeness(one).total_cmp(&likeness(other))) {
        Some(name) => format!("; did you mean {name}?"),
        None => String::new(),
    }
}

fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Layers {
        Layers::new(Some(Path::new("/data")))
    }

    fn no_file(path: &Path) -> Result<String, String> {
        Err(format!("{} cannot be read", path.display()))
    }

    fn variables(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
        pairs
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect()
    }

    #[test]
    fn flags_win_over_the_environment_and_that_over_the_file() {
        let mut layers = layers();
        layers.file("listen = \"127.0.0.1:1\"\ndrain_seconds = 7\nmax_connections = 5");
        layers.environment(variables(&[
            ("CERTKEEP_LISTEN", "127.0.0.1:2"),
            ("CERTKEEP_MAX_CONNECTIONS", "6"),
            ("PATH", "/bin"),
            ("CERTKEEP_PORT_50051_TCP", "tcp://10.0.0.1"),
            ("CERTKEEP_LOG", ""),
        ]));
        layers.flag(setting("listen").unwrap(), "127.0.0.1:3".to_owned());
        let shown = layers.show();
        for line in [
            "listen = \"127.0.0.1:3\"  # flag",
            "max_connections = 6  # environment",
            "drain_seconds = 7  # file",
            "data_dir = \"/data\"  # default",
            "# tls_certificate is not set",
        ] {
            assert!(shown.lines().any(|shown| shown == line), "{line} in\n{shown}");
        }
        let config = layers.resolve(no_file).unwrap();
        assert_eq!(
            (
                config.listen.port(),
                config.max_connections,
                config.drain_time.as_secs()
            ),
            (3, 6, 7)
        );
        assert_eq!(config.database.key_ring, Path::new("/data/key-ring"));
    }

    #[test]
    fn all_errors_are_reported_at_once() {
        let mut layers = layers();
        layers.file(
            "lisen = 1\nlisten = \"here\"\nlog = [1]\ntls_certificate = \"c\"\notlp_endpoint = \"localhost:4317\"\n\
             [[regions]]\nnmae = \"x\"",
        );
        layers.environment(variables(&[
            ("CERTKEEP_NONSENSE", "1"),
            ("CERTKEEP_MAX_CONECTIONS", "1"),
            ("CERTKEEP_DRAIN_SECONDS", "0"),
            ("CERTKEEP_DATABASE_URL_FILE", "f"),
        ]));
        // A setting that another module parses.
        assert_eq!(layers.parsed::<u8>("log", "a number"), None);
        let error = layers.resolve(no_file).unwrap_err().to_string();
        for expected in [
            "file: unknown setting lisen; did you mean listen?\n",
            "file: listen is not an address, for example 127.0.0.1:50051",
            "file: log must be text, a whole number, true or false",
            "file: unknown setting regions[0].nmae, or not text",
            "file: regions[0] has no id",
            "environment: unknown setting CERTKEEP_NONSENSE\n",
            "environment: unknown setting CERTKEEP_MAX_CONECTIONS; did you mean CERTKEEP_MAX_CONNECTIONS?\n",
            "default: log is not a number",
            "environment: drain_seconds is not between 1 and 1000000",
            "file: otlp_endpoint is not an http or https URL with a host",
            "environment: database_url_file cannot be used: f cannot be read",
            "tls_certificate needs tls_private_key",
        ] {
            assert!(error.contains(expected), "{expected} in {error}");
        }
    }

    #[test]
    fn clients_of_alibaba_cloud_have_a_listener_on_loopback_with_the_private_database() {
        let slb_listen = |settings: &[(&str, &str)]| {
            let mut layers = layers();
            layers.environment(variables(settings));
            let resolved = layers.resolve(no_file).map_err(|error| error.to_string());
            resolved.map(|config| config.slb_listen.map(|address| address.to_string()))
        };
        let (listen, own) = (("CERTKEEP_SLB_LISTEN", "[::1]:1"), ("CERTKEEP_DATABASE_URL", "host=db"));
        for (settings, expected) in [
            (&[][..], Some("127.0.0.1:50052")),
            (&[("CERTKEEP_LISTEN", "[::1]:6000")], Some("127.0.0.1:6001")),
            (&[("CERTKEEP_LISTEN", "127.0.0.1:0")], Some("127.0.0.1:0")),
            (&[("CERTKEEP_SLB_LISTEN", "none")], None),
            (&[own], None),
            (&[own, listen], Some("[::1]:1")),
        ] {
            assert_eq!(slb_listen(settings).unwrap().as_deref(), expected, "{settings:?}");
        }
        let open = ("CERTKEEP_SLB_LISTEN", "0.0.0.0:1");
        let told = slb_listen(&[open]).unwrap_err();
        assert!(
            told.contains("environment: slb_listen is not a loopback address"),
            "{told}"
        );
        assert!(slb_listen(&[open, ("CERTKEEP_DANGER_PLAINTEXT", "true")]).is_ok());
        let told = slb_listen(&[("CERTKEEP_SLB_LISTEN", "here")]).unwrap_err();
        assert!(
            told.contains("slb_listen is not an address, for example 127.0.0.1:50052, or none"),
            "{told}"
        );
    }

    #[test]
    fn plain_text_needs_loopback_or_the_danger_switch() {
        let wrong = |settings: &[(&str, &str)]| {
            let mut layers = layers();
            layers.environment(variables(settings));
            layers.resolve(no_file).err().map(|error| error.to_string())
        };
        let open = ("CERTKEEP_LISTEN", "0.0.0.0:50051");
        let told = wrong(&[open]).unwrap();
        assert!(told.contains("environment: listen is not a loopback address"), "{told}");
        let told = wrong(&[open, ("CERTKEEP_TLS_PRIVATE_KEY", "k")]).unwrap();
        assert!(!told.contains("loopback"), "{told}");
        let tls = [
            open,
            ("CERTKEEP_TLS_PRIVATE_KEY", "k"),
            ("CERTKEEP_TLS_CERTIFICATE", "c"),
        ];
        assert_eq!(wrong(&tls), None);
        assert_eq!(wrong(&[open, ("CERTKEEP_DANGER_PLAINTEXT", "true")]), None);
        assert_eq!(wrong(&[("CERTKEEP_LISTEN", "[::1]:50051")]), None);
    }

    #[test]
    fn client_certificates_need_tls() {
        let mut layers = layers();
        layers.environment(variables(&[("CERTKEEP_CLIENT_CA", "ca")]));
        let error = layers.resolve(no_file).unwrap_err().to_string();
        assert!(error.contains("environment: client_ca needs TLS"), "{error}");
    }

    #[test]
    fn the_otlp_endpoint_is_an_http_url_with_a_host() {
        for (url, is_one) in [
            ("http://127.0.0.1:4317", true),
            ("https://collector.example", true),
            ("https://[::1]:4317/", true),
            ("collector.example:4317", false),
            ("grpc://collector.example", false),
            ("http://", false),
            ("http://:4317", false),
            ("/v1/traces", false),
            ("not a URL", false),
        ] {
            let mut layers = layers();
            layers.flag(setting("otlp_endpoint").unwrap(), url.to_owned());
            assert_eq!(layers.resolve(no_file).is_ok(), is_one, "{url}");
        }
    }

    #[test]
    fn an_empty_value_counts_as_not_set() {
        let mut layers = layers();
        layers.file("drain_seconds = 7\nmetrics_listen = \"\"");
        layers.flag(setting("drain_seconds").unwrap(), String::new());
        let config = layers.resolve(no_file).unwrap();
        assert_eq!((config.drain_time.as_secs(), config.metrics_listen), (7, None));
    }

    #[test]
    fn a_database_url_is_never_shown() {
        let mut layers = layers();
        layers.environment(variables(&[(
            "CERTKEEP_DATABASE_URL",
            "postgres://u:hunter2@localhost/db",
        )]));
        assert!(!layers.show().contains("hunter2"));
        assert!(!format!("{:?}", layers.resolve(no_file).unwrap()).contains("hunter2"));
        let mut broken = self::layers();
        broken.file("database_url = \"postgres://u:hunter2@h/db\nx");
        let error = broken.resolve(no_file).unwrap_err().to_string();
        assert!(
            error.contains("is not valid TOML") && !error.contains("hunter2"),
            "{error}"
        );
    }

    #[test]
    fn missing_region_names_have_defaults() {
        let mut layers = layers();
        layers.file("[[regions]]\nid = \"dc-1\"\nen_us = \"First\"\n[[regions]]\nid = \"dc-2\"\n");
        let regions = layers.resolve(no_file).unwrap().regions.unwrap();
        let names = |names: [&str; 3]| names.map(str::to_owned);
        assert_eq!(
            regions,
            [
                RegionConfig {
                    id: "dc-1".into(),
                    names: names(["First"; 3])
                },
                RegionConfig {
                    id: "dc-2".into(),
                    names: names(["dc-2"; 3])
                },
            ]
        );
    }
}
