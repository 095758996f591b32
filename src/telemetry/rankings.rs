//! Metrics whose series come and go: the certificates that end next, and the quotas that are nearly full. Each has few series, and its
//! callers replace all of them at once. The recorder of the metrics crate keeps a series for ever.

use std::fmt::{Display, Write};
use std::sync::{Mutex, PoisonError};

use metrics_exporter_prometheus::formatting::{sanitize_label_value, write_help_line, write_type_line};

/// The end of a certificate.
#[derive(Debug)]
pub struct Ending {
    /// Its kind.
    pub kind: &'static str,
    /// Its account.
    pub account: String,
    /// Its region.
    pub region: String,
    /// Its id.
    pub id: String,
    /// Its name.
    pub name: String,
    /// What ends first: `leaf` or `issuer`.
    pub ends_with: &'static str,
    /// The end, in seconds since 1970.
    pub secs: i64,
}

/// The use of a quota.
#[derive(Debug)]
pub struct QuotaUse {
    /// What is limited.
    pub kind: &'static str,
    /// The account.
    pub account: String,
    /// The region. Empty: the quota does not depend on regions.
    pub region: String,
    /// The share that is used, 1 for all of it.
    pub ratio: f64,
}

struct Rankings {
    endings: Vec<Ending>,
    quotas: Vec<QuotaUse>,
}

static RANKINGS: Mutex<Rankings> = Mutex::new(Rankings {
    endings: Vec::new(),
    quotas: Vec::new(),
});

/// Replaces the certificates that end next.
pub fn set_endings(endings: Vec<Ending>) {
    RANKINGS.lock().unwrap_or_else(PoisonError::into_inner).endings = endings;
}

/// Replaces the quotas that are nearly full.
pub fn set_quotas(quotas: Vec<QuotaUse>) {
    RANKINGS.lock().unwrap_or_else(PoisonError::into_inner).quotas = quotas;
}

/// Writes the series in Prometheus's text format.
pub(super) fn render(text: &mut String) {
    let rankings = RANKINGS.lock().unwrap_or_else(PoisonError::into_inner);
    let endings = rankings.endings.iter().map(|ending| {
        let labels = [
            ("kind", ending.kind),
            ("account", &ending.account),
            ("region", &ending.region),
            ("id", &ending.id),
            ("name", &ending.name),
            ("ends_with", ending.ends_with),
        ];
        (labels, ending.secs)
    });
    gauge(
        text,
        "certkeep_expires_next_timestamp_seconds",
        "Ends of the chains of the certificates that expire next, in Unix seconds",
        endings,
    );
    let quotas = rankings.quotas.iter().map(|quota| {
        let labels = [
            ("kind", quota.kind),
            ("account", &quota.account),
            ("region", &quota.region),
        ];
        (labels, quota.ratio)
    });
    gauge(
        text,
        "certkeep_quota_used_ratio",
        "Used share of the fullest quotas, of those that are used by 80 % or more",
        quotas,
    );
}

fn gauge<'a, const N: usize, V: Display>(
    text: &mut String,
    name: &str,
    help: &str,
    series: impl Iterator<Item = ([(&'static str, &'a str); N], V)>,
) {
    write_head(text, name, "gauge", help);
    for (labels, value) in series {
        let labels = labels.map(|(name, value)| format!("{name}=\"{}\"", sanitize_label_value(value)));
        // Writing to a String does not fail.
        let _ = writeln!(text, "{name}{{{}}} {value}", labels.join(","));
    }
}

/// Writes what comes before the series of a metric: its meaning and its type.
pub(super) fn write_head(text: &mut String, name: &str, of: &str, help: &str) {
    write_help_line(text, name, None, None, help);
    write_type_line(text, name, None, None, of);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_replaced_series_is_gone_and_a_name_cannot_break_its_line() {
        let ending = |name: &str| Ending {
            kind: "server",
            account: "1".to_owned(),
            region: "dc-1".to_owned(),
            id: "i".to_owned(),
            name: name.to_owned(),
            ends_with: "leaf",
            secs: 1_800_000_000,
        };
        let mut text = String::new();
        set_endings(vec![ending("old")]);
        set_endings(vec![ending("a\"b\\c\nd")]);
        render(&mut text);
        let lines: Vec<_> = text.lines().filter(|line| line.contains("{kind=\"server\"")).collect();
        let expected = "certkeep_expires_next_timestamp_seconds{kind=\"server\",account=\"1\",region=\"dc-1\",id=\"i\",\
                        name=\"a\\\"b\\\\c\\nd\",ends_with=\"leaf\"} 1800000000";
        assert_eq!(lines, [expected]);
    }
}
