//! Prints answers on standard output.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::Failure;
use super::escape::{Form, escaped};
use super::settings::variable;
use crate::app::{DAYS_LEFT, KeyAlgorithm};
use crate::clock::{self, Timestamp};
use crate::grpc::{DESCRIPTORS, key_algorithm_of, pb};

/// Output formats of answers without PEM.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum ListOutput {
    /// A table.
    #[default]
    Table,
    /// JSON with every field, in protobuf's mapping.
    Json,
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
    /// The certificate and its chain.
    Pem,
}

/// An uploaded certificate. `answer` is the message for JSON.
pub(super) fn uploaded(
    shown: &pb::UploadServerCertificateResponse,
    message: &str,
    answer: &impl Message,
    output: ListOutput,
) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json(message, answer),
        ListOutput::Table => {
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
    match output {
        ListOutput::Json => json(message, answer),
        ListOutput::Table => lines(&[line("id", id), line("name", name), line("etag", etag)]),
    }
}

/// A change of a certificate, its id and its new etag.
pub(super) fn changed(
    (done, id, etag): (&str, &str, &str),
    message: &str,
    answer: &impl Message,
    output: ListOutput,
) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json(message, answer),
        ListOutput::Table => lines(&[line(done, id), line("etag", etag)]),
    }
}

pub(super) fn described(
    certificates: &[pb::ServerCertificate],
    message: &str,
    answer: &impl Message,
    output: ListOutput,
) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json(message, answer),
        ListOutput::Table => certificate_table(certificates),
    }
}

/// The certificates as a table, with the earliest end of each chain.
pub(super) fn certificate_table(certificates: &[pb::ServerCertificate]) -> Result<(), Failure> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["ID", "NAME", "REGION", "COMMON NAME", "EXPIRES", "KEY"]);
    for certificate in certificates {
        table.add_row([
            plain(&certificate.server_certificate_id),
            plain(&certificate.server_certificate_name),
            plain(&certificate.region_id),
            plain(&certificate.common_name),
            expiry(end(certificate)),
            key(certificate.key_algorithm(), certificate.key_size),
        ]);
    }
    let mut shown = table.lines();
    let header = shown.next().unwrap_or_default();
    // Each line after the header is a certificate.
    let certificates = shown
        .zip(certificates)
        .map(|(line, certificate)| coloured(line.trim_end(), end(certificate)));
    let header = header.trim_end().to_owned();
    lines(&std::iter::once(header).chain(certificates).collect::<Vec<_>>())
}

/// The certificates with changed tags, and their new etags.
pub(super) fn retagged(
    done: &str,
    etags: &[pb::ResourceEtag],
    (message, answer): (&str, &impl Message),
    output: ListOutput,
) -> Result<(), Failure> {
    let shown = |one: &pb::ResourceEtag| line(done, &format!("{} (etag {})", one.resource_id, one.etag));
    match output {
        ListOutput::Json => json(message, answer),
        ListOutput::Table => lines(&etags.iter().map(shown).collect::<Vec<_>>()),
    }
}

pub(super) fn tags(answer: &pb::ListTagResourcesResponse, output: ListOutput) -> Result<(), Failure> {
    if output == ListOutput::Json {
        return json("ListTagResourcesResponse", answer);
    }
    let rows = answer.tag_resources.iter();
    table(
        &["ID", "KEY", "VALUE"],
        rows.map(|tag| [&tag.resource_id, &tag.tag_key, &tag.tag_value].map(|text| plain(text))),
    )
}

pub(super) fn group(
    group: &pb::ResourceGroup,
    (message, answer): (&str, &impl Message),
    output: ListOutput,
) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json(message, answer),
        ListOutput::Table => lines(&[line("id", &group.resource_group_id), line("name", &group.name)]),
    }
}

pub(super) fn groups(answer: &pb::ListResourceGroupsResponse, output: ListOutput) -> Result<(), Failure> {
    if output == ListOutput::Json {
        return json("ListResourceGroupsResponse", answer);
    }
    let rows = answer.resource_groups.iter();
    table(
        &["ID", "NAME"],
        rows.map(|group| [&group.resource_group_id, &group.name].map(|text| plain(text))),
    )
}

pub(super) fn caller(answer: &pb::DescribeCallerResponse, output: ListOutput) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json("DescribeCallerResponse", answer),
        ListOutput::Table => lines(&[
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
    if output == ListOutput::Json {
        return json("CreateClientIdentityResponse", answer);
    }
    let identity = answer.client_identity.clone().unwrap_or_default();
    lines(&[
        line(identity_kind(&identity), &identity.value),
        line("account", &identity.account_id),
        line("role", &role(identity.role())),
        line("scope", &scope(identity.scope.as_ref())),
    ])
}

pub(super) fn client_identities(answer: &pb::ListClientIdentitiesResponse, output: ListOutput) -> Result<(), Failure> {
    if output == ListOutput::Json {
        return json("ListClientIdentitiesResponse", answer);
    }
    let row = |identity: &pb::ClientIdentity| {
        let kind = identity_kind(identity).to_owned();
        let rest = [
            &identity.value,
            &identity.account_id,
            &role(identity.role()),
            &scope(identity.scope.as_ref()),
        ];
        let [value, account, role, scope] = rest.map(|text| plain(text));
        [kind, value, account, role, scope]
    };
    table(
        &["KIND", "VALUE", "ACCOUNT", "ROLE", "SCOPE"],
        answer.client_identities.iter().map(row),
    )
}

fn identity_kind(identity: &pb::ClientIdentity) -> &'static str {
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

pub(super) fn table<const N: usize>(
    header: &[&str; N],
    rows: impl Iterator<Item = [String; N]>,
) -> Result<(), Failure> {
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(header);
    table.add_rows(rows);
    print(&format!("{}\n", table.trim_fmt()))
}

pub(super) fn regions(answer: &pb::DescribeRegionsResponse, output: ListOutput) -> Result<(), Failure> {
    if output == ListOutput::Json {
        return json("DescribeRegionsResponse", answer);
    }
    let rows = answer.regions.iter();
    table(
        &["ID", "NAME"],
        rows.map(|region| [&region.region_id, &region.local_name].map(|text| plain(text))),
    )
}

fn days_left(expire_time_stamp: i64) -> i64 {
    (expire_time_stamp - clock::now().millis()).div_euclid(24 * 60 * 60 * 1000)
}

/// The day of an expiry and the time left.
pub(super) fn expiry(expire_time_stamp: i64) -> String {
    let time = Timestamp::from_millis(expire_time_stamp).to_string();
    let day = time.split('T').next().unwrap_or_default();
    format!("{day} {}", time_left(expire_time_stamp))
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

/// The time left until an expiry.
/// A moment to the second; empty if it is not set.
pub(super) fn moment(moment: Option<prost_types::Timestamp>) -> String {
    moment
        .map(|moment| Timestamp::from_millis(millis(Some(moment))).to_string())
        .unwrap_or_default()
}

fn time_left(expire_time_stamp: i64) -> String {
    let days = days_left(expire_time_stamp);
    let count = match days.abs() {
        1 => "1 day".to_owned(),
        count => format!("{count} days"),
    };
    if days < 0 {
        format!("(expired {count} ago)")
    } else {
        format!("(in {count})")
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
fn coloured(line: &str, expire_time_stamp: i64) -> String {
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
    match output {
        Output::Json => json(message, answer),
        Output::Pem => print(&certificate.certificate_chain),
        Output::Table => {
            let tags: Vec<_> = certificate
                .tags
                .iter()
                .map(|tag| format!("{}={}", tag.key, tag.value))
                .collect();
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
                line("tags", &tags.join(", ")),
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
        AuditOutput::Json => json("AuditEvent", event),
        AuditOutput::Jsonl => json_line("AuditEvent", event),
        AuditOutput::Text => print(&audit_line(event)),
    }
}

/// A message of a watch.
pub(super) fn watched(message: &pb::WatchServerCertificatesResponse, output: AuditOutput) -> Result<(), Failure> {
    match output {
        AuditOutput::Json => json("WatchServerCertificatesResponse", message),
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
    escaped(&serde_json::Value::from(text).to_string(), Form::Json).into_owned()
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
    if output == ListOutput::Json {
        return json("VerifyAuditTrailResponse", result);
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

pub(super) fn json(message: &str, answer: &impl Message) -> Result<(), Failure> {
    let serializer = serde_json::Serializer::pretty(Vec::new());
    print_json(&format!("{}\n", serialized(message, answer, serializer)?))
}

/// A message as a value of JSON.
pub(super) fn value(message: &str, answer: &impl Message) -> Result<serde_json::Value, Failure> {
    let text = serialized(message, answer, serde_json::Serializer::new(Vec::new()))?;
    serde_json::from_str(&text).map_err(|error| Failure::from_error(&error))
}

/// A message as one line of JSON.
pub(super) fn json_line(message: &str, answer: &impl Message) -> Result<(), Failure> {
    let serializer = serde_json::Serializer::new(Vec::new());
    print_json(&format!("{}\n", serialized(message, answer, serializer)?))
}

fn serialized<F: serde_json::ser::Formatter>(
    message: &str,
    answer: &impl Message,
    mut serializer: serde_json::Serializer<Vec<u8>, F>,
) -> Result<String, Failure> {
    let failed = |error: &dyn std::error::Error| Failure::from_error(error);
    let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|error| failed(&error))?;
    let descriptor = pool
        .get_message_by_name(&format!("certkeep.v1.{message}"))
        .ok_or_else(|| Failure::refused("the answer is of an unknown type"))?;
    let answer =
        DynamicMessage::decode(descriptor, answer.encode_to_vec().as_slice()).map_err(|error| failed(&error))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    answer
        .serialize_with_options(&mut serializer, &options)
        .map_err(|error| failed(&error))?;
    Ok(String::from_utf8_lossy(&serializer.into_inner()).into_owned())
}

/// Prints lines for people.
pub(super) fn print(text: &str) -> Result<(), Failure> {
    write(escaped(text, Form::Lines).as_bytes())
}

/// Prints a JSON document.
pub(super) fn print_json(text: &str) -> Result<(), Failure> {
    write(escaped(text, Form::Json).as_bytes())
}

/// An error, on standard error. If that is closed, nobody can read the error.
pub(super) fn error(text: &str) {
    let _ = writeln!(io::stderr(), "error: {}", escaped(text.trim_end(), Form::Lines));
}

/// Writes bytes as they are.
pub(super) fn write(bytes: &[u8]) -> Result<(), Failure> {
    match io::stdout().lock().write_all(bytes) {
        // The reader closed the pipe on purpose.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::from_error(&error)),
    }
}
