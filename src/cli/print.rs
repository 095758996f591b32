//! Prints answers on standard output.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use prost::Message;

use super::Failure;
use super::document::{Document, json_line, json_text};
use super::escape::{Form, escaped};
use super::settings::variable;
use crate::app::{DAYS_LEFT, KeyAlgorithm};
use crate::clock::{self, Timestamp};
use crate::grpc::{key_algorithm_of, pb};

/// Output formats of answers without PEM.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum ListOutput {
    /// A table.
    #[default]
    Table,
    /// JSON with every field, in protobuf's mapping.
    Json,
    /// The same as YAML.
    Yaml,
}

impl ListOutput {
    /// The format of the whole answer. `None`: a table.
    pub(super) fn document(self) -> Option<Document> {
        match self {
            Self::Table => None,
            Self::Json => Some(Document::Json),
            Self::Yaml => Some(Document::Yaml),
        }
    }
}

/// Output formats of audit events.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum AuditOutput {
    /// A line for each event.
    #[default]
    Text,
    /// JSON with every field, in protobuf's mapping.
    Json,
    /// JSON, one event in each line.
    Jsonl,
}

/// Output formats of answers with PEM.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Output {
    /// A table.
    #[default]
    Table,
    /// JSON with every field, in protobuf's mapping.
    Json,
    /// The same as YAML.
    Yaml,
    /// The certificate and its chain.
    Pem,
}

impl Output {
    /// The format of the whole answer. `None`: a table or PEM.
    pub(super) fn document(self) -> Option<Document> {
        match self {
            Self::Table | Self::Pem => None,
            Self::Json => Some(Document::Json),
            Self::Yaml => Some(Document::Yaml),
        }
    }
}

/// An uploaded certificate. `answer` is the message for JSON.
pub(super) fn uploaded(
    shown: &pb::UploadServerCertificateResponse,
    message: &str,
    answer: &impl Message,
    output: ListOutput,
) -> Result<(), Failure> {
    match output.document() {
        Some(document) => document.print(message, answer),
        None => {
            let facts = [
                line("id", &shown.server_certificate_id),
                line("name", &shown.server_certificate_name),
                line("region", &shown.region_id),
                line("common name", &shown.common_name),
                line("names", &shown.subject_alternative_names.join(", ")),
                expiry_line(&shown.expire_time, shown.expire_time_stamp),
                chain_line(shown.expire_time_stamp, shown.chain_expire_time),
                line("fingerprint", &shown.fingerprint),
                line("SHA-256", &shown.fingerprint_sha256),
                line("request id", &shown.request_id),
            ];
            let findings = shown.findings.iter().map(finding);
            lines(&facts.into_iter().chain(findings).collect::<Vec<_>>())
        }
    }
}

/// A certificate's id, its new name and its new etag.
pub(super) fn renamed(
    (id, name, etag): (&str, &str, &str),
    message: &str,
    answer: &impl Message,
    output: ListOutput,
) -> Result<(), Failure> {
    match output.document() {
        Some(document) => document.print(message, answer),
        None => lines(&[line("id", id), line("name", name), line("etag", etag)]),
    }
}

/// A change of a certificate, its id and its new etag.
pub(super) fn changed(
    (done, id, etag): (&str, &str, &str),
    message: &str,
    answer: &impl Message,
    output: ListOutput,
) -> Result<(), Failure> {
    match output.document() {
        Some(document) => document.print(message, answer),
        None => lines(&[line(done, id), line("etag", etag)]),
    }
}

/// The certificates with changed tags, and their new etags.
pub(super) fn retagged(
    done: &str,
    etags: &[pb::ResourceEtag],
    (message, answer): (&str, &impl Message),
    output: ListOutput,
) -> Result<(), Failure> {
    let shown = |one: &pb::ResourceEtag| line(done, &format!("{} (etag {})", one.resource_id, one.etag));
    match output.document() {
        Some(document) => document.print(message, answer),
        None => lines(&etags.iter().map(shown).collect::<Vec<_>>()),
    }
}

pub(super) fn group(
    group: &pb::ResourceGroup,
    (message, answer): (&str, &impl Message),
    output: ListOutput,
) -> Result<(), Failure> {
    match output.document() {
        Some(document) => document.print(message, answer),
        None => lines(&[line("id", &group.resource_group_id), line("name", &group.name)]),
    }
}

pub(super) fn caller(answer: &pb::DescribeCallerResponse, output: ListOutput) -> Result<(), Failure> {
    match output.document() {
        Some(document) => document.print("DescribeCallerResponse", answer),
        None => lines(&[
            line("account", &answer.account_id),
            line("access key", &answer.access_key_id),
            line("identity", &answer.client_identity),
            line("role", &role(answer.role())),
            line("scope", &scope(answer.scope.as_ref())),
            line("expires", &moment(answer.expire_time)),
            line("address", &answer.address),
            line(
                "server time",
                &Timestamp::from_millis(millis(answer.server_time)).to_string(),
            ),
            line("version", &answer.server_version),
        ]),
    }
}

/// The name of a role in the words of the command line.
pub(super) fn role(role: pb::Role) -> String {
    let name = role.as_str_name();
    name.strip_prefix("ROLE_").unwrap_or(name).to_ascii_lowercase()
}

pub(super) fn client_identity(answer: &pb::CreateClientIdentityResponse, output: ListOutput) -> Result<(), Failure> {
    if let Some(document) = output.document() {
        return document.print("CreateClientIdentityResponse", answer);
    }
    let identity = answer.client_identity.clone().unwrap_or_default();
    lines(&[
        line(identity_kind(&identity), &identity.value),
        line("account", &identity.account_id),
        line("role", &role(identity.role())),
        line("scope", &scope(identity.scope.as_ref())),
    ])
}

pub(super) fn identity_kind(identity: &pb::ClientIdentity) -> &'static str {
    match identity.kind() {
        pb::ClientIdentityKind::SpiffeId => "SPIFFE ID",
        pb::ClientIdentityKind::DnsName => "DNS name",
        pb::ClientIdentityKind::Subject => "subject",
        pb::ClientIdentityKind::Unspecified => "unknown",
    }
}

/// A scope in one line.
pub(super) fn scope(scope: Option<&pb::Scope>) -> String {
    let Some(scope) = scope else {
        return "everything".to_owned();
    };
    let lists = [
        ("regions", &scope.region_ids),
        ("groups", &scope.resource_group_ids),
        ("names", &scope.name_prefixes),
    ];
    let given = lists.into_iter().filter(|(_, list)| !list.is_empty());
    let shown: Vec<_> = given
        .map(|(label, list)| format!("{label} {}", list.join(",")))
        .collect();
    shown.join("; ")
}

const MINUTE: i64 = 60 * 1000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The whole days until an expiry, rounded towards zero.
fn days_left(expire_time_stamp: i64) -> i64 {
    (expire_time_stamp - clock::now().millis()) / DAY
}

/// The day of an expiry and the time left.
pub(super) fn expiry(expire_time_stamp: i64) -> String {
    format!("{} {}", date(expire_time_stamp), time_left(expire_time_stamp))
}

/// The algorithm of a key, with the key size if the algorithm does not determine it.
pub(super) fn key(algorithm: pb::KeyAlgorithm, size: i32) -> String {
    match key_algorithm_of(algorithm) {
        Some(algorithm @ (KeyAlgorithm::Rsa | KeyAlgorithm::RsaPss)) => format!("{algorithm} {size}"),
        Some(algorithm) => algorithm.to_string(),
        None => String::new(),
    }
}

/// The moment in milliseconds since 1970, cut to whole seconds; 0 without a moment.
pub(super) fn millis(moment: Option<prost_types::Timestamp>) -> i64 {
    let millis = |moment: prost_types::Timestamp| moment.seconds.saturating_mul(1000);
    moment.map(millis).unwrap_or_default()
}

/// A moment to the second; empty if it is not set.
pub(super) fn moment(moment: Option<prost_types::Timestamp>) -> String {
    moment
        .map(|moment| Timestamp::from_millis(millis(Some(moment))).to_string())
        .unwrap_or_default()
}

/// The day of a moment; empty if it is not set.
pub(super) fn day(moment: Option<prost_types::Timestamp>) -> String {
    moment.map(|moment| date(millis(Some(moment)))).unwrap_or_default()
}

/// The day of a moment in milliseconds since 1970.
pub(super) fn date(millis: i64) -> String {
    let time = Timestamp::from_millis(millis).to_string();
    time.split('T').next().unwrap_or_default().to_owned()
}

/// Tags in the form `KEY=VALUE`.
pub(super) fn tag_list(tags: &[pb::Tag]) -> String {
    let tags: Vec<_> = tags.iter().map(|tag| format!("{}={}", tag.key, tag.value)).collect();
    tags.join(", ")
}

/// The time until an expiry, or since it.
fn time_left(expire_time_stamp: i64) -> String {
    match expire_time_stamp - clock::now().millis() {
        left if left < 0 => format!("(expired {} ago)", span(-left)),
        left => format!("(in {})", span(left)),
    }
}

/// The time until an expiry, or since it, for a column.
pub(super) fn relative(expire_time_stamp: i64) -> String {
    match expire_time_stamp - clock::now().millis() {
        left if left < 0 => format!("{} ago", span(-left)),
        left => format!("in {}", span(left)),
    }
}

/// A time in the largest unit of which it has one, rounded towards zero.
fn span(millis: i64) -> String {
    let (count, unit) = match millis {
        DAY.. => (millis / DAY, "day"),
        HOUR.. => (millis / HOUR, "hour"),
        _ => (millis / MINUTE, "minute"),
    };
    match count {
        1 => format!("1 {unit}"),
        count => format!("{count} {unit}s"),
    }
}

/// Red in the last week and after the expiry, yellow in the last month.
fn style(expire_time_stamp: i64) -> Style {
    let [_, week, month, _] = DAYS_LEFT;
    match days_left(expire_time_stamp) {
        days if days < week => AnsiColor::Red.on_default(),
        days if days < month => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}

/// A finding in short. `certkeep check` prints more.
pub(super) fn finding(finding: &pb::Finding) -> String {
    line(severity(finding), &format!("{}: {}", code(finding), finding.message))
}

pub(super) fn severity(finding: &pb::Finding) -> &'static str {
    match finding.severity() {
        pb::Severity::Error => "refused",
        pb::Severity::Warning => "warning",
        pb::Severity::Info | pb::Severity::Unspecified => "info",
    }
}

/// The code in the spelling of docs/findings.md.
pub(super) fn code(finding: &pb::Finding) -> &'static str {
    let name = finding.code().as_str_name();
    name.strip_prefix("FINDING_CODE_").unwrap_or(name)
}

/// A line in the colour of this expiry. Only a terminal without NO_COLOR (no-color.org) gets colours.
pub(super) fn coloured(line: &str, expire_time_stamp: i64) -> String {
    if io::stdout().is_terminal() && variable("NO_COLOR").is_none() {
        let style = style(expire_time_stamp);
        format!("{style}{line}{style:#}")
    } else {
        line.to_owned()
    }
}

pub(super) fn got(
    certificate: &pb::ServerCertificate,
    message: &str,
    answer: &impl Message,
    output: Output,
) -> Result<(), Failure> {
    if let Some(document) = output.document() {
        return document.print(message, answer);
    }
    match output {
        Output::Pem => print(&certificate.certificate_chain),
        _ => {
            let not_before = certificate.not_before.map(|moment| moment.to_string());
            // A CA certificate has no chain.
            let chain_length = match certificate.chain_length {
                0 => String::new(),
                length => length.to_string(),
            };
            lines(&[
                line("id", &certificate.server_certificate_id),
                line("name", &certificate.server_certificate_name),
                line("region", &certificate.region_id),
                line("subject", &certificate.subject),
                line("issuer", &certificate.issuer),
                line("names", &certificate.subject_alternative_names.join(", ")),
                line("serial", &certificate.serial_number),
                line("valid from", &not_before.unwrap_or_default()),
                expiry_line(&certificate.expire_time, certificate.expire_time_stamp),
                chain_line(certificate.expire_time_stamp, certificate.chain_expire_time),
                line("key", &key(certificate.key_algorithm(), certificate.key_size)),
                line("signature", &certificate.signature_algorithm),
                line("chain", &chain_length),
                line("fingerprint", &certificate.fingerprint),
                line("SHA-256", &certificate.fingerprint_sha256),
                line("SPKI SHA-256", &certificate.spki_sha256),
                line("group", &certificate.resource_group_id),
                line("tags", &tag_list(&certificate.tags)),
                line("created", &certificate.create_time),
                line("etag", &certificate.etag),
            ])
        }
    }
}

/// A label and its value. Empty without a value.
pub(super) fn line(label: &str, value: &str) -> String {
    match value {
        "" => String::new(),
        value => format!("{label:<13} {}", plain(value)),
    }
}

pub(super) fn expiry_line(expire_time: &str, expire_time_stamp: i64) -> String {
    let value = format!("{expire_time} {}", time_left(expire_time_stamp));
    coloured(&line("expires", &value), expire_time_stamp)
}

/// The end of the chain, if it is before the end of the certificate.
pub(super) fn chain_line(expire_time_stamp: i64, chain: Option<prost_types::Timestamp>) -> String {
    match millis(chain) {
        end if chain.is_some() && end < expire_time_stamp => {
            let value = format!("{} {}, because of an issuer", moment(chain), time_left(end));
            coloured(&line("chain expires", &value), end)
        }
        _ => String::new(),
    }
}

/// The earliest end of the certificate and its issuers, in milliseconds since 1970.
pub(super) fn end(certificate: &pb::ServerCertificate) -> i64 {
    match certificate.chain_expire_time {
        None => certificate.expire_time_stamp,
        end => millis(end),
    }
}

pub(super) fn lines(lines: &[String]) -> Result<(), Failure> {
    let lines = lines.iter().filter(|line| !line.is_empty());
    print(&lines.map(|line| format!("{line}\n")).collect::<String>())
}

/// A text from a certificate, a caller or a server, for one line. Everything that could mislead its reader is escaped.
pub(super) fn plain(value: &str) -> String {
    escaped(value, Form::Value).into_owned()
}

/// An audit event.
pub(super) fn audit_event(event: &pb::AuditEvent, output: AuditOutput) -> Result<(), Failure> {
    match output {
        AuditOutput::Json => Document::Json.print("AuditEvent", event),
        AuditOutput::Jsonl => json_line("AuditEvent", event),
        AuditOutput::Text => print(&audit_line(event)),
    }
}

/// A message of a watch.
pub(super) fn watched(message: &pb::WatchServerCertificatesResponse, output: AuditOutput) -> Result<(), Failure> {
    match output {
        AuditOutput::Json => Document::Json.print("WatchServerCertificatesResponse", message),
        AuditOutput::Jsonl => json_line("WatchServerCertificatesResponse", message),
        AuditOutput::Text => {
            let kind = message.kind().as_str_name();
            let kind = kind.trim_start_matches("CERTIFICATE_EVENT_KIND_").to_lowercase();
            let name = message
                .server_certificate
                .as_ref()
                .map(|one| plain(&one.server_certificate_name));
            let parts = [kind, plain(&message.server_certificate_id), name.unwrap_or_default()];
            let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            print(&(parts.join("  ") + "\n"))
        }
    }
}

fn audit_line(event: &pb::AuditEvent) -> String {
    let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let time = event.event_time.unwrap_or_default();
    let time = Timestamp::from_millis(time.seconds * 1000 + i64::from(time.nanos / 1_000_000));
    let or_dash = |value: &str| if value.is_empty() { "-".to_owned() } else { plain(value) };
    let resource = match event.resource_id.as_str() {
        "" => "-".to_owned(),
        id => {
            let resource_type = short(event.resource_type().as_str_name(), "AUDIT_RESOURCE_TYPE_");
            format!("{resource_type} {}", plain(id))
        }
    };
    let mut parts = vec![
        time.to_string(),
        plain(&event.method),
        short(event.outcome().as_str_name(), "AUDIT_OUTCOME_"),
        or_dash(&event.principal),
        or_dash(&event.address),
        resource,
    ];
    if event.reason() != pb::Reason::Unspecified {
        parts.push(event.reason().name().to_owned());
    }
    if event.count > 1 {
        parts.push(format!("{} calls", event.count));
    }
    parts.extend(event.changes.iter().map(|change| {
        let value = |value: &Option<prost_types::Value>| {
            let text = value.as_ref().map(serialized_value);
            text.unwrap_or_else(|| "-".to_owned())
        };
        format!(
            "{}: {} -> {}",
            plain(&change.field),
            value(&change.before),
            value(&change.after)
        )
    }));
    parts.join("  ") + "\n"
}

/// A text as JSON.
fn string(text: &str) -> String {
    json_text(&serde_json::Value::from(text))
}

/// A value as JSON.
fn serialized_value(value: &prost_types::Value) -> String {
    use prost_types::value::Kind;
    match &value.kind {
        None | Some(Kind::NullValue(_)) => "null".to_owned(),
        Some(Kind::BoolValue(is_true)) => is_true.to_string(),
        Some(Kind::NumberValue(number)) => number.to_string(),
        Some(Kind::StringValue(text)) => string(text),
        Some(Kind::ListValue(list)) => {
            let values: Vec<_> = list.values.iter().map(serialized_value).collect();
            format!("[{}]", values.join(", "))
        }
        Some(Kind::StructValue(object)) => {
            let field = |(name, value): (&String, &prost_types::Value)| {
                format!("{}: {}", string(name), serialized_value(value))
            };
            let fields: Vec<_> = object.fields.iter().map(field).collect();
            format!("{{{}}}", fields.join(", "))
        }
    }
}

/// The result of the verification of the audit trails.
pub(super) fn verified(result: &pb::VerifyAuditTrailResponse, output: ListOutput) -> Result<(), Failure> {
    if let Some(document) = output.document() {
        return document.print("VerifyAuditTrailResponse", result);
    }
    let mut text = String::new();
    for trail in &result.trails {
        let name = trail
            .trail()
            .as_str_name()
            .trim_start_matches("AUDIT_TRAIL_")
            .to_lowercase();
        let position = trail.broken_position;
        let state = match trail.fault() {
            pb::AuditTrailFault::Unspecified => "whole".to_owned(),
            pb::AuditTrailFault::EventMissing => format!("broken: event {position} is missing"),
            pb::AuditTrailFault::EventChanged => {
                format!("broken: event {position}, or a later one with the same seal, was changed")
            }
            pb::AuditTrailFault::SealMissing => format!("broken: the seal of event {position} is missing"),
        };
        text.push_str(&format!(
            "{name:<12}  {state}\n  events  {} to {}, sealed to {}\n  head    {}\n",
            trail.first_position,
            trail.last_position,
            trail.sealed_position,
            if trail.head.is_empty() {
                "-".to_owned()
            } else {
                plain(&trail.head)
            }
        ));
    }
    for head in &result.missing_heads {
        text.push_str(&format!("missing head  {}\n", plain(head)));
    }
    print(&text)
}

/// Prints lines for people.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write(escaped(text, Form::Lines).as_bytes())
}

/// An error, on standard error. If that is closed, nobody can read the error.
pub(super) fn error(text: &str) {
    let _ = writeln!(io::stderr(), "error: {}", escaped(text.trim_end(), Form::Lines));
}

/// That there is nothing to print: on standard error, because a program may count the lines of standard output.
pub(super) fn note(text: &str) {
    let _ = writeln!(io::stderr(), "{}", escaped(text, Form::Lines));
}

/// Writes bytes as they are.
pub(super) fn write(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes) {
        // The reader closed the pipe on purpose.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::from_error(&error)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_told_in_their_largest_unit_and_rounded_towards_zero() {
        for (millis, told) in [
            (0, "0 minutes"),
            (MINUTE, "1 minute"),
            (HOUR - 1, "59 minutes"),
            (HOUR, "1 hour"),
            (DAY - 1, "23 hours"),
            (DAY, "1 day"),
            (2 * DAY - 1, "1 day"),
            (300 * DAY, "300 days"),
        ] {
            assert_eq!(span(millis), told, "{millis}");
        }
        let now = clock::now().millis();
        assert_eq!(days_left(now - DAY / 2), 0);
        assert_eq!(time_left(now - DAY - HOUR), "(expired 1 day ago)");
        assert_eq!(relative(now - 2 * HOUR - MINUTE), "2 hours ago");
        assert_eq!(relative(now + 3 * DAY + MINUTE), "in 3 days");
    }
}
