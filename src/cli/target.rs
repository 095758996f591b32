//! The certificate that a command names, by its id or by its name.

use tonic::Code;

use super::answer::{Effect, failed};
use super::connection::{Client, ConnectionArgs};
use super::print::plain;
use super::{Failure, ca};
use crate::app::CertificateId;
use crate::grpc::pb;

/// Certificates with the same name that an error lists.
const MAX_LISTED: i32 = 10;

/// The id of a server certificate. Another text than an id is the name of exactly one certificate that the caller sees, in this region
/// if it is not empty.
pub(super) async fn server_certificate(client: &mut Client, text: &str, region: &str) -> Result<String, Failure> {
    if CertificateId::parse(text).is_ok() {
        return Ok(text.to_owned());
    }
    // In the order of names, a name comes before the names that it begins.
    let request = pb::SearchServerCertificatesRequest {
        region_id: region.to_owned(),
        server_certificate_name_prefix: text.to_owned(),
        order_by: pb::SearchOrder::Name.into(),
        page_size: MAX_LISTED,
        ..Default::default()
    };
    let found = match client.search_server_certificates(request).await {
        Ok(answer) => answer.into_inner().server_certificates,
        // No name has these characters.
        Err(status) if status.code() == Code::InvalidArgument && region.is_empty() => Vec::new(),
        Err(status) => return Err(failed(status, Effect::Reads)),
    };
    let found = found
        .into_iter()
        .filter(|one| one.server_certificate_name == text)
        .map(|one| (one.server_certificate_id, one.region_id));
    only(text, "server certificate", "certkeep describe", found.collect())
}

/// The id of a CA certificate, as for server certificates.
pub(super) async fn ca_certificate(connection: &ConnectionArgs, text: &str, region: &str) -> Result<String, Failure> {
    if CertificateId::parse(text).is_ok() {
        return Ok(text.to_owned());
    }
    let request = pb::DescribeCaCertificatesRequest {
        region_id: region.to_owned(),
        ..Default::default()
    };
    let found = ca::all(connection, request).await?.ca_certificates.into_iter();
    let found = found
        .filter(|one| one.ca_certificate_name == text)
        .map(|one| (one.ca_certificate_id, one.region_id));
    only(text, "CA certificate", "certkeep ca describe", found.collect())
}

/// The id itself, for commands that look up no names. `lists` says which commands list the ids.
pub(super) fn only_id(text: String, lists: &str) -> Result<String, Failure> {
    match CertificateId::parse(&text) {
        Ok(_) => Ok(text),
        Err(_) => Err(Failure::usage(format!("{} is no id; {lists} them", plain(&text)))),
    }
}

/// The id of the only certificate.
fn only(name: &str, noun: &str, list: &str, mut found: Vec<(String, String)>) -> Result<String, Failure> {
    match (found.pop(), found.len()) {
        (Some((id, _)), 0) => Ok(id),
        (None, _) => Err(Failure::refused(format!(
            "no {noun} has the id or the name {}; `{list}` lists them",
            plain(name)
        ))),
        (Some(last), _) => {
            found.push(last);
            let lines = found
                .iter()
                .map(|(id, region)| format!("\n  {}  {}", plain(id), plain(region)));
            Err(Failure::refused(format!(
                "several {noun}s have the name {}; name one by its id:{}",
                plain(name),
                lines.collect::<String>()
            )))
        }
    }
}
