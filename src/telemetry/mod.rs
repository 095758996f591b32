//! What certkeep tells of itself. Logs: text on a terminal, JSON elsewhere, on standard error. Metrics: see [`metrics`].

pub mod metrics;

use std::io::IsTerminal;

use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::{FilterExt, ParseError, filter_fn};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;
use tracing_subscriber::{EnvFilter, Layer};

/// Libraries that print parameters and frames below info: they never do here, whatever the filter says.
const NEVER_BELOW_INFO: [&str; 4] = ["tokio_postgres", "h2", "hyper", "rustls"];

/// Starts logging. `filter` is one of tracing-subscriber's directives, such as `info` or `certkeep=debug`.
pub fn init(filter: &str) -> Result<(), ParseError> {
    let filter: EnvFilter = EnvFilter::builder().parse(filter)?;
    let quiet = filter_fn(|metadata| *metadata.level() <= LevelFilter::INFO || !is_quiet(metadata.target()));
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    let layer = if std::io::stderr().is_terminal() {
        layer.boxed()
    } else {
        layer.json().with_span_list(false).boxed()
    };
    tracing_subscriber::registry()
        .with(layer.with_filter(filter.and(quiet)))
        .init();
    Ok(())
}

fn is_quiet(target: &str) -> bool {
    NEVER_BELOW_INFO
        .iter()
        .any(|library| target == *library || target.starts_with(&format!("{library}::")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quiet_libraries_are_told_by_their_whole_name() {
        assert!(is_quiet("tokio_postgres::connection"));
        assert!(is_quiet("h2"));
        assert!(!is_quiet("h2o"));
        assert!(!is_quiet("certkeep::store"));
    }
}
