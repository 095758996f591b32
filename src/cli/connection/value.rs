//! A value of a connection, and where it comes from.

use std::fmt;
use std::path::PathBuf;

use zeroize::Zeroizing;

/// A value and where it comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli) struct Value<T> {
    pub(in crate::cli) value: T,
    pub(in crate::cli) origin: Origin,
}

impl<T> Value<T> {
    pub(in crate::cli) fn new(value: T, origin: Origin) -> Self {
        Self { value, origin }
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, Eq, PartialEq)]
pub(in crate::cli) enum Origin {
    /// The flag with this name.
    Flag(&'static str),
    /// The environment variable with this name.
    Variable(&'static str),
    /// The context with this name.
    Context(String),
    /// A terminal, or standard input.
    Input,
    Default,
}

impl Origin {
    /// The value of a flag, else of a variable.
    pub(super) fn first<T: Clone>(
        flag: &Option<T>,
        flag_name: &'static str,
        variable: &Option<T>,
        variable_name: &'static str,
    ) -> Option<Value<T>> {
        let flag = flag.clone().map(|value| Value::new(value, Self::Flag(flag_name)));
        flag.or_else(|| Some(Value::new(variable.clone()?, Self::Variable(variable_name))))
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag(name) | Self::Variable(name) => f.write_str(name),
            Self::Context(name) => write!(f, "context {name}"),
            Self::Input => f.write_str("standard input"),
            Self::Default => f.write_str("default"),
        }
    }
}

/// The access key of a connection.
#[derive(Eq, PartialEq)]
pub(in crate::cli) enum AccessKey {
    /// A file with one line, `<id>.<secret>`.
    File(Value<PathBuf>),
    /// The line itself.
    Text(Value<Zeroizing<String>>),
    /// The only key is that of a context, and the context is for another endpoint.
    OfOtherEndpoint { context: String, endpoint: String },
    /// There is no key. A client certificate may do instead.
    None,
}

impl fmt::Display for AccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file) => write!(f, "{} ({})", file.value.display(), file.origin),
            Self::Text(text) => text.origin.fmt(f),
            Self::OfOtherEndpoint { context, endpoint } => {
                write!(f, "none: the access key of context {context} is only for {endpoint}")
            }
            Self::None => f.write_str("none"),
        }
    }
}
