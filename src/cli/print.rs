//! Answers on standard output.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::Failure;
use super::settings::variable;
use crate::app::DAYS_LEFT;
use crate::clock::{self, Timestamp};
use crate::grpc::{DESCRIPTORS, pb};

/// How to print what has no PEM.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum ListOutput {
    /// For people.
    #[default]
    Table,
    /// Protobuf's JSON mapping, every field.
    Json,
}

/// How to print what has.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
pub(super) enum Output {
    /// For people.
    #[default]
    Table,
    /// Protobuf's JSON mapping, every field.
    Json,
    /// The certificate and its chain.
    Pem,
}

pub(super) fn uploaded(answer: &pb::UploadServerCertificateResponse, output: ListOutput) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json("UploadServerCertificateResponse", answer),
        ListOutput::Table => {
            let facts = [
                line("id", &answer.server_certificate_id),
                line("name", &answer.server_certificate_name),
                line("region", &answer.region_id),
                line("common name", &answer.common_name),
                line("names", &answer.subject_alternative_names.join(", ")),
                expiry_line(&answer.expire_time, answer.expire_time_stamp),
                line("fingerprint", &answer.fingerprint),
                line("SHA-256", &answer.fingerprint_sha256),
                line("request id", &answer.request_id),
            ];
            let findings = answer.findings.iter().map(finding);
            lines(&facts.into_iter().chain(findings).collect::<Vec<_>>())
        }
    }
}

pub(super) fn renamed(
    id: &str,
    name: &str,
    answer: &pb::SetServerCertificateNameResponse,
    output: ListOutput,
) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json("SetServerCertificateNameResponse", answer),
        ListOutput::Table => lines(&[line("id", id), line("name", name), line("etag", &answer.etag)]),
    }
}

/// What was done to a certificate, its id and its etag after that.
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

pub(super) fn described(answer: &pb::DescribeServerCertificatesResponse, output: ListOutput) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json("DescribeServerCertificatesResponse", answer),
        ListOutput::Table => certificates(&answer.server_certificates),
    }
}

pub(super) fn found(answer: &pb::SearchServerCertificatesResponse, output: ListOutput) -> Result<(), Failure> {
    match output {
        ListOutput::Json => json("SearchServerCertificatesResponse", answer),
        ListOutput::Table => certificates(&answer.server_certificates),
    }
}

fn certificates(listed: &[pb::ServerCertificate]) -> Result<(), Failure> {
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["ID", "NAME", "REGION", "COMMON NAME", "EXPIRES", "KEY"]);
    for certificate in listed {
        table.add_row([
            plain(&certificate.server_certificate_id),
            plain(&certificate.server_certificate_name),
            plain(&certificate.region_id),
            plain(&certificate.common_name),
            expiry(certificate.expire_time_stamp),
            key(&certificate.key_algorithm, certificate.key_size),
        ]);
    }
    let mut shown = table.lines();
    let header = shown.next().unwrap_or_default();
    // Below the header a line is a certificate.
    let certificates = shown
        .zip(listed)
        .map(|(line, certificate)| coloured(line.trim_end(), certificate.expire_time_stamp));
    let header = header.trim_end().to_owned();
    lines(&std::iter::once(header).chain(certificates).collect::<Vec<_>>())
}

pub(super) fn regions(answer: &pb::DescribeRegionsResponse, output: ListOutput) -> Result<(), Failure> {
    if output == ListOutput::Json {
        return json("DescribeRegionsResponse", answer);
    }
    let mut table = Table::new();
    table.load_preset(presets::NOTHING).set_header(["ID", "NAME"]);
    for region in &answer.regions {
        table.add_row([plain(&region.region_id), plain(&region.local_name)]);
    }
    print(&format!("{}\n", table.trim_fmt()))
}

fn days_left(expire_time_stamp: i64) -> i64 {
    (expire_time_stamp - clock::now().millis()).div_euclid(24 * 60 * 60 * 1000)
}

/// The day, and how far it is.
pub(super) fn expiry(expire_time_stamp: i64) -> String {
    let time = Timestamp::from_millis(expire_time_stamp).to_string();
    let day = time.split('T').next().unwrap_or_default();
    format!("{day} {}", time_left(expire_time_stamp))
}

/// The algorithm of a key, and its size where the algorithm does not tell.
pub(super) fn key(algorithm: &str, size: i32) -> String {
    match algorithm {
        "RSA" | "RSA-PSS" => format!("{algorithm} {size}"),
        _ => plain(algorithm),
    }
}

/// How far an expiry is.
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

/// Red in the last week and after it, yellow in the last month.
fn style(expire_time_stamp: i64) -> Style {
    let [_, week, month, _] = DAYS_LEFT;
    match days_left(expire_time_stamp) {
        days if days < week => AnsiColor::Red.on_default(),
        days if days < month => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}

/// What `certkeep check` tells more of.
fn finding(finding: &pb::Finding) -> String {
    line(severity(finding), &format!("{}: {}", code(finding), finding.message))
}

pub(super) fn severity(finding: &pb::Finding) -> &'static str {
    match finding.severity() {
        pb::Severity::Error => "refused",
        pb::Severity::Warning => "warning",
        pb::Severity::Info | pb::Severity::Unspecified => "info",
    }
}

/// The code as docs/findings.md names it.
pub(super) fn code(finding: &pb::Finding) -> &'static str {
    let name = finding.code().as_str_name();
    name.strip_prefix("FINDING_CODE_").unwrap_or(name)
}

/// A line in the colour of this expiry: on a terminal and only there; no-color.org.
fn coloured(line: &str, expire_time_stamp: i64) -> String {
    if io::stdout().is_terminal() && variable("NO_COLOR").is_none() {
        let style = style(expire_time_stamp);
        format!("{style}{line}{style:#}")
    } else {
        line.to_owned()
    }
}

pub(super) fn got(answer: &pb::GetServerCertificateResponse, output: Output) -> Result<(), Failure> {
    let certificate = answer.server_certificate.clone().unwrap_or_default();
    match output {
        Output::Json => json("GetServerCertificateResponse", answer),
        Output::Pem => print(&certificate.certificate_chain),
        Output::Table => {
            let tags: Vec<_> = certificate
                .tags
                .iter()
                .map(|tag| format!("{}={}", tag.key, tag.value))
                .collect();
            lines(&[
                line("id", &certificate.server_certificate_id),
                line("name", &certificate.server_certificate_name),
                line("region", &certificate.region_id),
                line("subject", &certificate.subject),
                line("issuer", &certificate.issuer),
                line("names", &certificate.subject_alternative_names.join(", ")),
                line("serial", &certificate.serial_number),
                line("valid from", &certificate.not_before),
                expiry_line(&certificate.expire_time, certificate.expire_time_stamp),
                line("key", &key(&certificate.key_algorithm, certificate.key_size)),
                line("signature", &certificate.signature_algorithm),
                line("chain", &certificate.chain_length.to_string()),
                line("fingerprint", &certificate.fingerprint),
                line("SHA-256", &certificate.fingerprint_sha256),
                line("SPKI SHA-256", &certificate.spki_sha256),
                line("tags", &tags.join(", ")),
                line("created", &certificate.create_time),
                line("etag", &certificate.etag),
            ])
        }
    }
}

/// A label and its value; nothing for no value.
fn line(label: &str, value: &str) -> String {
    match value {
        "" => String::new(),
        value => format!("{label:<13} {}", plain(value)),
    }
}

fn expiry_line(expire_time: &str, expire_time_stamp: i64) -> String {
    let value = format!("{expire_time} {}", time_left(expire_time_stamp));
    coloured(&line("expires", &value), expire_time_stamp)
}

fn lines(lines: &[String]) -> Result<(), Failure> {
    let lines = lines.iter().filter(|line| !line.is_empty());
    print(&lines.map(|line| format!("{line}\n")).collect::<String>())
}

/// What a certificate or a caller put into a field shall not steer the terminal.
pub(super) fn plain(value: &str) -> String {
    value
        .chars()
        .map(|c| if c.is_control() { char::REPLACEMENT_CHARACTER } else { c })
        .collect()
}

pub(super) fn json(message: &str, answer: &impl Message) -> Result<(), Failure> {
    let failed = |error: &dyn std::error::Error| Failure::from_error(error);
    let pool = DescriptorPool::decode(DESCRIPTORS).map_err(|error| failed(&error))?;
    let descriptor = pool
        .get_message_by_name(&format!("certkeep.v1.{message}"))
        .ok_or_else(|| Failure::refused("the answer is of an unknown type"))?;
    let answer =
        DynamicMessage::decode(descriptor, answer.encode_to_vec().as_slice()).map_err(|error| failed(&error))?;
    let options = SerializeOptions::new().skip_default_fields(false);
    let mut serializer = serde_json::Serializer::pretty(Vec::new());
    answer
        .serialize_with_options(&mut serializer, &options)
        .map_err(|error| failed(&error))?;
    print(&format!("{}\n", String::from_utf8_lossy(&serializer.into_inner())))
}

pub(super) fn print(text: &str) -> Result<(), Failure> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        // Whoever read has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        written => written.map_err(|error| Failure::from_error(&error)),
    }
}
