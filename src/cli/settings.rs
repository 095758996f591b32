//! The settings as flags, and the sources of their values.

use std::env;
use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgAction, ArgMatches, Args, Command, FromArgMatches};

use super::Failure;
use crate::config::{Layers, SETTINGS, Setting, Shape};

const CONFIG: &str = "config";
/// The heading in the help.
const HEADING: &str = "Settings";

/// The flags of a command: for all settings, or only for the database settings.
pub(super) struct Flags<const ALL: bool> {
    file: Option<PathBuf>,
    values: Vec<(&'static Setting, String)>,
}

impl<const ALL: bool> Flags<ALL> {
    fn settings() -> impl Iterator<Item = &'static Setting> {
        SETTINGS.iter().filter(|setting| ALL || setting.for_database)
    }

    /// The values of the defaults, the file, the environment and the flags.
    pub(super) fn layers(self) -> Result<Layers, Failure> {
        let mut layers = layers(self.file)?;
        for (setting, value) in self.values {
            layers.flag(setting, value);
        }
        Ok(layers)
    }
}

/// The values of the defaults, the file and the environment.
pub(super) fn layers(file: Option<PathBuf>) -> Result<Layers, Failure> {
    let mut layers = Layers::new(default_data_dir().as_deref());
    if let Some(path) = file.or_else(|| variable("CERTKEEP_CONFIG").map(PathBuf::from)) {
        let text = std::fs::read_to_string(&path);
        layers.file(&text.map_err(|error| Failure::usage(format!("{} is not readable: {error}", path.display())))?);
    }
    layers.environment(variables());
    Ok(layers)
}

/// The default data directory.
pub(super) fn default_data_dir() -> Option<PathBuf> {
    if rustix::process::geteuid().is_root() {
        return Some(PathBuf::from("/var/lib/certkeep"));
    }
    // The XDG Base Directory Specification.
    let data_home = variable("XDG_DATA_HOME").map(PathBuf::from);
    let data_home = data_home.or_else(|| Some(Path::new(&variable("HOME")?).join(".local/share")));
    Some(data_home?.join("certkeep"))
}

/// All environment variables. Invalid UTF-8 is replaced.
#[expect(
    clippy::disallowed_methods,
    reason = "with `variable`, the only place that reads the environment, except clap"
)]
fn variables() -> impl Iterator<Item = (String, String)> {
    let text = |text: OsString| text.to_string_lossy().into_owned();
    env::vars_os().map(move |(name, value)| (text(name), text(value)))
}

/// An environment variable that is set and not empty.
#[expect(
    clippy::disallowed_methods,
    reason = "with `variables`, the only place that reads the environment, except clap"
)]
pub(super) fn variable(name: &str) -> Option<OsString> {
    env::var_os(name).filter(|value| !value.is_empty())
}

fn argument(setting: &'static Setting) -> Arg {
    let mut help = format!("{} [env: {}]", setting.help, setting.variable());
    if let Some(default) = setting.default.filter(|_| !setting.is_bare_flag()) {
        help.push_str(&format!(" [default: {default}]"));
    }
    let argument = Arg::new(setting.key)
        .long(setting.flag())
        .help(help)
        .help_heading(HEADING);
    match setting.shape {
        Shape::Text(name) | Shape::Secret(name) => argument.value_name(name),
        Shape::Number(_) => argument.value_name("N"),
        Shape::Switch if setting.is_bare_flag() => argument.action(ArgAction::SetTrue),
        Shape::Switch => argument.value_name("BOOL"),
    }
}

impl<const ALL: bool> Args for Flags<ALL> {
    fn augment_args(command: Command) -> Command {
        let file = Arg::new(CONFIG)
            .long(CONFIG)
            .value_name("FILE")
            .value_parser(clap::value_parser!(PathBuf))
            .help("TOML file with settings [env: CERTKEEP_CONFIG]")
            .help_heading(HEADING);
        command.arg(file).args(Self::settings().map(argument))
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl<const ALL: bool> FromArgMatches for Flags<ALL> {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let values = Self::settings().filter_map(|setting| {
            let value = match setting.is_bare_flag() {
                true => matches.get_flag(setting.key).then(|| "true".to_owned()),
                false => matches.get_one::<String>(setting.key).cloned(),
            };
            Some((setting, value?))
        });
        Ok(Self {
            file: matches.get_one(CONFIG).cloned(),
            values: values.collect(),
        })
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        *self = Self::from_arg_matches(matches)?;
        Ok(())
    }
}
