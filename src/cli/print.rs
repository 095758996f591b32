//! Answers on standard output.

use std::io::{self, IsTerminal, Write};

use anstyle::{AnsiColor, Style};
use clap::ValueEnum;
use comfy_table::{Table, presets};
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage, SerializeOptions};

use super::Failure;
use super::settings::variable;
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
        ListOutput::Table => table(&[
            ("id", &answer.server_certificate_id),
            ("name", &answer.server_certificate_name),
            ("region", &answer.region_id),
            ("common name", &answer.common_name),
            ("names", &answer.subject_alternative_names.join(", ")),
            ("expires", &answer.expire_time),
            ("fingerprint", &answer.fingerprint),
            ("SHA-256", &answer.fingerprint_sha256),
            ("request id", &answer.request_id),
        ]),
    }
}

pub(super) fn described(answer: &pb::DescribeServerCertificatesResponse, output: ListOutput) -> Result<(), Failure> {
    if output == ListOutput::Json {
        return json("DescribeServerCertificatesResponse", answer);
    }
    let mut table = Table::new();
    table
        .load_preset(presets::NOTHING)
        .set_header(["ID", "NAME", "REGION", "COMMON NAME", "EXPIRES", "KEY"]);
    for certificate in &answer.server_certificates {
        table.add_row([
            plain(&certificate.server_certificate_id),
            plain(&certificate.server_certificate_name),
            plain(&certificate.region_id),
            plain(&certificate.common_name),
            expiry(certificate.expire_time_stamp),
            format!("{} {}", plain(&certificate.key_algorithm), certificate.key_size),
        ]);
    }
    let styles = answer
        .server_certificates
        .iter()
        .map(|certificate| style(certificate.expire_time_stamp));
    // Below the header a line is a certificate.
    let styles = std::iter::once(Style::new()).chain(styles);
    let lines = table.lines().zip(styles).map(|(line, style)| match is_coloured() {
        true => format!("{style}{}{style:#}\n", line.trim_end()),
        false => format!("{}\n", line.trim_end()),
    });
    print(&lines.collect::<String>())
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
    let days = days_left(expire_time_stamp);
    let count = match days.abs() {
        1 => "1 day".to_owned(),
        count => format!("{count} days"),
    };
    if days < 0 {
        format!("{day} (expired {count} ago)")
    } else {
        format!("{day} (in {count})")
    }
}

/// Red in the last week and after it, yellow in the last month.
fn style(expire_time_stamp: i64) -> Style {
    match days_left(expire_time_stamp) {
        ..7 => AnsiColor::Red.on_default(),
        7..30 => AnsiColor::Yellow.on_default(),
        _ => Style::new(),
    }
}

/// On a terminal and only there; no-color.org.
fn is_coloured() -> bool {
    io::stdout().is_terminal() && variable("NO_COLOR").is_none()
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
            table(&[
                ("id", &certificate.server_certificate_id),
                ("name", &certificate.server_certificate_name),
                ("region", &certificate.region_id),
                ("subject", &certificate.subject),
                ("issuer", &certificate.issuer),
                ("names", &certificate.subject_alternative_names.join(", ")),
                ("serial", &certificate.serial_number),
                ("valid from", &certificate.not_before),
                ("expires", &certificate.expire_time),
                (
                    "key",
                    &format!("{} {}", certificate.key_algorithm, certificate.key_size),
                ),
                ("signature", &certificate.signature_algorithm),
                ("chain", &certificate.chain_length.to_string()),
                ("fingerprint", &certificate.fingerprint),
                ("SHA-256", &certificate.fingerprint_sha256),
                ("SPKI SHA-256", &certificate.spki_sha256),
                ("tags", &tags.join(", ")),
                ("created", &certificate.create_time),
                ("etag", &certificate.etag),
            ])
        }
    }
}

fn table(rows: &[(&str, &str)]) -> Result<(), Failure> {
    let lines = rows.iter().filter(|(_, value)| !value.is_empty());
    let text: String = lines
        .map(|(label, value)| format!("{label:<13} {}\n", plain(value)))
        .collect();
    print(&text)
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
