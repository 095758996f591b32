//! Log lines in JSON: `timestamp`, `level`, `fields`, `target`, and the innermost `span` with its fields and `name`. The fields of a
//! span are formatted once. tracing-subscriber's own format parses and writes them again for each line.

use std::fmt;

use serde_json::Value;
use tracing::field::{Field, Visit};
use tracing::span::Record;
use tracing::{Event, Subscriber};
use tracing_log::NormalizeEvent;
use tracing_subscriber::field::RecordFields;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields, FormattedFields};
use tracing_subscriber::registry::LookupSpan;

/// One object per line.
pub(super) struct JsonLine;

/// Fields as members of an object, without the braces. A field that is recorded twice appears twice.
pub(super) struct JsonMembers;

impl<S> FormatEvent<S, JsonMembers> for JsonLine
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn format_event(
        &self,
        context: &FmtContext<'_, S, JsonMembers>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        writer.write_str("{\"timestamp\":\"")?;
        SystemTime.format_time(&mut writer)?;
        // The metadata of an event of the log crate.
        let normalized = event.normalized_metadata();
        let metadata = normalized.as_ref().unwrap_or_else(|| event.metadata());
        write!(writer, "\",\"level\":\"{}\",\"fields\":{{", metadata.level())?;
        context.field_format().format_fields(writer.by_ref(), event)?;
        write!(writer, "}},\"target\":{}", Text(metadata.target()))?;
        if let Some(span) = context.lookup_current() {
            writer.write_str(",\"span\":{")?;
            if let Some(fields) = span.extensions().get::<FormattedFields<JsonMembers>>()
                && !fields.is_empty()
            {
                write!(writer, "{},", fields.fields)?;
            }
            write!(writer, "\"name\":{}}}", Text(span.name()))?;
        }
        writer.write_str("}\n")
    }
}

impl<'w> FormatFields<'w> for JsonMembers {
    fn format_fields<R: RecordFields>(&self, mut writer: Writer<'w>, fields: R) -> fmt::Result {
        members(&mut writer, "", |members| fields.record(members))
    }

    fn add_fields(&self, current: &'w mut FormattedFields<Self>, fields: &Record<'_>) -> fmt::Result {
        let separator = if current.fields.is_empty() { "" } else { "," };
        members(&mut current.as_writer(), separator, |members| fields.record(members))
    }
}

fn members(writer: &mut Writer<'_>, separator: &'static str, record: impl FnOnce(&mut Members<'_, '_>)) -> fmt::Result {
    let mut members = Members {
        writer,
        separator,
        written: Ok(()),
    };
    record(&mut members);
    members.written
}

struct Members<'a, 'w> {
    writer: &'a mut Writer<'w>,
    /// Written before the next member.
    separator: &'static str,
    written: fmt::Result,
}

impl Members<'_, '_> {
    fn member(&mut self, field: &Field, value: impl fmt::Display) {
        // The log crate's events repeat their target in such fields. OpenTelemetry's fields are for traces.
        if field.name().starts_with("log.") || field.name().starts_with("otel.") {
            return;
        }
        let written = write!(self.writer, "{}{}:{value}", self.separator, Text(field.name()));
        self.written = self.written.and(written);
        self.separator = ",";
    }
}

impl Visit for Members<'_, '_> {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.member(field, value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.member(field, value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.member(field, value);
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        // NaN and infinity become null.
        self.member(field, Value::from(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.member(field, Text(value));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.member(field, Text(&format!("{value:?}")));
    }
}

/// Displays as a JSON string.
struct Text<'a>(&'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0.bytes().all(|byte| !matches!(byte, 0..=0x1f | b'"' | b'\\')) {
            return write!(f, "\"{}\"", self.0);
        }
        // Serializing a string does not fail.
        f.write_str(&serde_json::to_string(self.0).unwrap_or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::json;
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[derive(Clone, Default)]
    struct Lines(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Lines {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(bytes)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    fn lines(tell: impl FnOnce()) -> Vec<Value> {
        let lines = Lines::default();
        let writer = lines.clone();
        let layer = tracing_subscriber::fmt::layer()
            .fmt_fields(JsonMembers)
            .event_format(JsonLine)
            .with_writer(move || writer.clone());
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), tell);
        let written = lines.0.lock().unwrap();
        let lines = written.split_inclusive(|byte| *byte == b'\n');
        lines
            .map(|line| {
                let mut line: Value = serde_json::from_slice(line).unwrap();
                let timestamp = line.as_object_mut().unwrap().remove("timestamp").unwrap();
                assert!(timestamp.as_str().unwrap().ends_with('Z'));
                line
            })
            .collect()
    }

    #[test]
    fn each_line_is_an_object_whatever_is_told() {
        let told = lines(|| {
            let span = tracing::info_span!(
                "call",
                otel.name = "x",
                id = "a\"b",
                later = tracing::field::Empty,
                number = 7
            );
            let _in_it = span.enter();
            tracing::warn!(is = true, minus = -1, ratio = 0.5, none = f64::NAN, error = %"two\nlines\u{1}", "what \"happened\"");
            span.record("later", tracing::field::debug(Some("it")));
            let _within = tracing::info_span!("within").entered();
            tracing::info!(path = "C:\\x\u{1f}", plain = "é\u{7f}", "told");
        });
        assert_eq!(
            told,
            [
                json!({
                    "level": "WARN",
                    "fields": {
                        "message": "what \"happened\"", "is": true, "minus": -1, "ratio": 0.5, "none": null,
                        "error": "two\nlines\u{1}"
                    },
                    "target": "certkeep::telemetry::json::tests",
                    "span": {"id": "a\"b", "number": 7, "name": "call"}
                }),
                json!({
                    "level": "INFO", "fields": {"message": "told", "path": "C:\\x\u{1f}", "plain": "é\u{7f}"},
                    "target": "certkeep::telemetry::json::tests",
                    "span": {"name": "within"}
                }),
            ]
        );
        let told = lines(|| {
            let span = tracing::info_span!("call", later = tracing::field::Empty, last = tracing::field::Empty);
            let _in_it = span.enter();
            tracing::info!("without");
            span.record("later", 1);
            span.record("last", "2");
            tracing::info!("with");
        });
        assert_eq!(told[0]["span"], json!({"name": "call"}));
        assert_eq!(told[1]["span"], json!({"later": 1, "last": "2", "name": "call"}));
        assert_eq!(lines(|| tracing::info!("alone"))[0].get("span"), None);
    }
}
