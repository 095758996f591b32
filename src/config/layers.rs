//! The layers of the configuration, put together: each value with where it came from.

use std::collections::BTreeMap;
use std::fmt;
use std::path::Path;

use super::RegionConfig;
use super::settings::{SETTINGS, Setting, Shape};

/// Names in the environment that the client's commands read, and that of the file.
const OTHER_VARIABLES: [&str; 5] = [
    "CERTKEEP_CONFIG",
    "CERTKEEP_ENDPOINT",
    "CERTKEEP_ACCESS_KEY_FILE",
    "CERTKEEP_CA_FILE",
    "CERTKEEP_DATA_DIR",
];

/// Where a value came from.
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

/// Everything that is wrong with a configuration.
#[derive(Debug, Eq, PartialEq)]
pub struct ConfigError(pub(super) Vec<String>);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the configuration is wrong:")?;
        self.0.iter().try_for_each(|fault| write!(f, "\n  {fault}"))
    }
}

impl std::error::Error for ConfigError {}

/// The values that were set so far. Later layers replace what earlier ones set.
pub struct Layers {
    pub(super) values: BTreeMap<&'static str, (String, Source)>,
    pub(super) regions: Option<Vec<RegionConfig>>,
    pub(super) faults: Vec<String>,
}

impl Layers {
    /// The defaults, and this data directory where nothing else is set.
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
            faults: Vec::new(),
        }
    }

    /// The values of a file in TOML. A key that is no setting's is a fault.
    pub fn file(&mut self, text: &str) {
        let table: toml::Table = match text.parse() {
            Ok(table) => table,
            // Not the error's Display: that shows the line, which may hold a password.
            Err(error) => {
                let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
                let place = before.matches('\n').count() + 1;
                self.faults
                    .push(format!("file: line {place} is no TOML: {}", error.message()));
                return;
            }
        };
        for (key, value) in table {
            match (setting(&key), value) {
                (None, toml::Value::Array(regions)) if key == "regions" => self.file_regions(regions),
                (None, _) => self.faults.push(format!("file: {key} is no setting")),
                (Some(setting), toml::Value::String(text)) => self.set(setting, text, Source::File),
                (Some(setting), toml::Value::Integer(number)) => self.set(setting, number.to_string(), Source::File),
                (Some(setting), toml::Value::Boolean(is_set)) => self.set(setting, is_set.to_string(), Source::File),
                (Some(_), _) => self
                    .faults
                    .push(format!("file: {key} is no text, whole number, or true or false")),
            }
        }
    }

    fn file_regions(&mut self, tables: Vec<toml::Value>) {
        let mut regions = Vec::new();
        for (place, table) in tables.into_iter().enumerate() {
            let toml::Value::Table(mut table) = table else {
                self.faults.push(format!("file: regions[{place}] is no table"));
                continue;
            };
            let mut text = |key: &str| match table.remove(key) {
                Some(toml::Value::String(text)) if !text.is_empty() => Some(text),
                _ => None,
            };
            let (id, zh_cn, en_us, ja) = (text("id"), text("zh_cn"), text("en_us"), text("ja"));
            if let Some(key) = table.keys().next() {
                self.faults
                    .push(format!("file: regions[{place}].{key} is no setting, or no text"));
            }
            match id {
                Some(id) if regions.iter().any(|region: &RegionConfig| region.id == id) => {
                    self.faults
                        .push(format!("file: regions[{place}] has the id of another region"));
                }
                Some(id) => {
                    // A region is called by its English name, else by its id, where it has no other.
                    let en_us = en_us.unwrap_or_else(|| id.clone());
                    let names = [
                        zh_cn.unwrap_or_else(|| en_us.clone()),
                        en_us.clone(),
                        ja.unwrap_or(en_us),
                    ];
                    regions.push(RegionConfig { id, names });
                }
                None => self.faults.push(format!("file: regions[{place}] has no id")),
            }
        }
        if regions.is_empty() && self.faults.is_empty() {
            self.faults
                .push("file: regions is empty: leave it out for the default ones".to_owned());
        }
        self.regions = Some(regions);
    }

    /// The values of environment variables. One that begins with `CERTKEEP_` and is no setting's is a fault.
    pub fn environment(&mut self, variables: impl IntoIterator<Item = (String, String)>) {
        for (name, value) in variables {
            // Kubernetes sets the latter ones beside a service of this name. What is empty is not set.
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
                None => self.faults.push(format!("environment: {name} is no setting")),
            }
        }
    }

    /// The value of a flag, by its setting.
    pub fn flag(&mut self, setting: &'static Setting, value: String) {
        self.set(setting, value, Source::Flag);
    }

    /// An empty text is no value: what is set already stays.
    fn set(&mut self, setting: &'static Setting, value: String, source: Source) {
        if !value.is_empty() {
            self.values.insert(setting.key, (value, source));
        }
    }

    /// The value of a setting, if it is set.
    pub(super) fn value(&self, key: &str) -> Option<&str> {
        self.values.get(key).map(|(value, _)| value.as_str())
    }

    /// The values that are in force, in the file's form, each with where it came from. Secrets are not shown.
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
            None => text.push_str("# regions: Alibaba Cloud's public ones  # default\n"),
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

fn setting(key: &str) -> Option<&'static Setting> {
    SETTINGS.iter().find(|setting| setting.key == key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn layers() -> Layers {
        Layers::new(Some(Path::new("/data")))
    }

    fn no_file(_: &Path) -> std::io::Result<String> {
        Err(std::io::ErrorKind::NotFound.into())
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
    fn every_fault_is_told_at_once() {
        let mut layers = layers();
        layers.file(
            "lisen = 1\nlisten = \"here\"\nlog = [1]\ntls_certificate = \"c\"\notlp_endpoint = \"localhost:4317\"\n\
             [[regions]]\nnmae = \"x\"",
        );
        layers.environment(variables(&[
            ("CERTKEEP_NONSENSE", "1"),
            ("CERTKEEP_DRAIN_SECONDS", "0"),
            ("CERTKEEP_DATABASE_URL_FILE", "f"),
        ]));
        // What another room reads.
        assert_eq!(layers.parsed::<u8>("log", "of any use"), None);
        let error = layers.resolve(no_file).unwrap_err().to_string();
        for fault in [
            "file: lisen is no setting",
            "file: listen is not an address such as 127.0.0.1:50051",
            "file: log is no text, whole number, or true or false",
            "file: regions[0].nmae is no setting, or no text",
            "file: regions[0] has no id",
            "environment: CERTKEEP_NONSENSE is no setting",
            "default: log is not of any use",
            "environment: drain_seconds is not from 1 to 1000000",
            "file: otlp_endpoint is not an http or https URL with a host",
            "environment: database_url_file can not be read",
            "tls_certificate and tls_private_key go together",
        ] {
            assert!(error.contains(fault), "{fault} in {error}");
        }
    }

    #[test]
    fn keys_never_cross_the_network_in_plain_text_unasked() {
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
    fn traces_go_to_an_http_url_with_a_host() {
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
    fn an_empty_text_is_no_value() {
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
        assert!(error.contains("is no TOML") && !error.contains("hunter2"), "{error}");
    }

    #[test]
    fn regions_are_named_by_what_there_is() {
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
