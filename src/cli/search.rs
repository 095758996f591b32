//! `certkeep search` and `certkeep expiring`.

use clap::builder::{PossibleValuesParser, TypedValueParser};
use clap::{Args, ValueEnum};
use prost_types::Timestamp;
use time::{Date, Month};

use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::table::TableArgs;
use super::tag::tags;
use super::{Failure, WARNED, ca, document, print};
use crate::app::KeyAlgorithm;
use crate::clock;
use crate::grpc::{key_algorithm, pb};

const MAX_PAGE_SIZE: usize = 1000;
const HOUR: i64 = 60 * 60;

#[derive(Args)]
pub(super) struct SearchArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Only certificates in this region.
    #[arg(long)]
    region: Option<String>,
    /// SHA-1 or SHA-256 of the certificate, as you copied it.
    #[arg(long, value_name = "HEX")]
    fingerprint: Option<String>,
    /// Host name or IP address of the certificate.
    #[arg(long)]
    domain: Option<String>,
    /// Include wildcards that cover the domain.
    #[arg(long, requires = "domain", conflicts_with = "below")]
    covered: bool,
    /// Include every name below the domain.
    #[arg(long, requires = "domain")]
    below: bool,
    /// SHA-256 of the public key (SubjectPublicKeyInfo).
    #[arg(long, value_name = "HEX")]
    spki: Option<String>,
    /// The serial number.
    #[arg(long, value_name = "HEX")]
    serial: Option<String>,
    /// Attributes of the issuer, as `certkeep get` or OpenSSL prints them, or its common name.
    #[arg(long, value_name = "NAME")]
    issuer: Option<String>,
    /// The key's algorithm, for example RSA or "ECDSA P-256".
    #[arg(long, value_name = "NAME", value_parser = algorithm())]
    key_algorithm: Option<KeyAlgorithm>,
    /// The key's size in bits.
    #[arg(long, value_name = "BITS", requires = "key_algorithm")]
    key_size: Option<i32>,
    /// Only certificates that expire on this day (UTC) or later.
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    expires_from: Option<Timestamp>,
    /// Only certificates that expire before this day (UTC).
    #[arg(long, value_name = "YYYY-MM-DD", value_parser = day)]
    expires_before: Option<Timestamp>,
    /// Start of the certificate's name.
    #[arg(long, value_name = "TEXT")]
    name_prefix: Option<String>,
    /// Only certificates with this tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    /// Only certificates whose key is on a list of compromised keys.
    #[arg(long)]
    compromised: bool,
    /// The order of the certificates.
    #[arg(long, value_enum, default_value_t)]
    order: SearchOrder,
    #[command(flatten)]
    shown: ShownArgs,
}

#[derive(Args)]
pub(super) struct ExpiringArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Time until the expiry, for example 12h, 30d or 8w.
    #[arg(long, default_value = "30d", value_name = "TIME", value_parser = seconds)]
    within: i64,
    /// Omit expired certificates.
    #[arg(long)]
    without_expired: bool,
    /// Only certificates in this region.
    #[arg(long)]
    region: Option<String>,
    /// Only certificates with this tag; may be repeated.
    #[arg(long = "tag", value_name = "KEY=VALUE")]
    tags: Vec<String>,
    #[command(flatten)]
    shown: ShownArgs,
}

#[derive(Args)]
struct ShownArgs {
    /// Maximum number of certificates. Default: all.
    #[arg(long, value_name = "COUNT", value_parser = clap::value_parser!(u32).range(1..))]
    limit: Option<u32>,
    #[command(flatten)]
    table: TableArgs<pb::ServerCertificate>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum SearchOrder {
    /// Oldest first.
    #[default]
    CreateTime,
    /// Earliest expiry first.
    ExpireTime,
    /// By name.
    Name,
}

pub(super) async fn search(args: SearchArgs) -> Result<(), Failure> {
    let domain_match = match (args.covered, args.below) {
        (true, _) => pb::DomainMatch::Covered,
        (_, true) => pb::DomainMatch::Below,
        _ => pb::DomainMatch::Unspecified,
    };
    let order_by = match args.order {
        SearchOrder::CreateTime => pb::SearchOrder::CreateTime,
        SearchOrder::ExpireTime => pb::SearchOrder::ExpireTime,
        SearchOrder::Name => pb::SearchOrder::Name,
    };
    let request = pb::SearchServerCertificatesRequest {
        region_id: args.region.unwrap_or_default(),
        fingerprint: args.fingerprint.unwrap_or_default(),
        domain: args.domain.unwrap_or_default(),
        domain_match: domain_match.into(),
        spki_sha256: args.spki.unwrap_or_default(),
        serial_number: args.serial.unwrap_or_default(),
        issuer: args.issuer.unwrap_or_default(),
        key_algorithm: args.key_algorithm.map(key_algorithm).unwrap_or_default().into(),
        key_size: args.key_size.unwrap_or_default(),
        expire_time_from: args.expires_from,
        expire_time_before: args.expires_before,
        server_certificate_name_prefix: args.name_prefix.unwrap_or_default(),
        tags: tags(&args.tags)?,
        compromised: args.compromised,
        order_by: order_by.into(),
        ..Default::default()
    };
    show(&args.connection, request, &args.shown).await
}

pub(super) async fn expiring(args: ExpiringArgs) -> Result<(), Failure> {
    let now = clock::now().millis();
    let at = |millis: i64| Timestamp {
        seconds: millis.div_euclid(1000),
        nanos: (millis.rem_euclid(1000) * 1_000_000) as i32, // Below 10^9.
    };
    let end = now + args.within * 1000;
    let request = pb::SearchServerCertificatesRequest {
        region_id: args.region.clone().unwrap_or_default(),
        expire_time_from: args.without_expired.then(|| at(now)),
        expire_time_before: Some(at(end)),
        tags: tags(&args.tags)?,
        order_by: pb::SearchOrder::ExpireTime.into(),
        ..Default::default()
    };
    let mut servers = all(&args.connection, request, args.shown.limit).await?;
    let request = pb::DescribeCaCertificatesRequest {
        region_id: args.region.unwrap_or_default(),
        tags: tags(&args.tags)?,
        ..Default::default()
    };
    let mut authorities = ca::all(&args.connection, request).await?;
    let mut listed: Vec<_> = servers.server_certificates.drain(..).map(Listed::Server).collect();
    let found = authorities.ca_certificates.drain(..).map(Listed::Authority);
    listed.extend(found.filter(|one| one.end() < end && (one.end() >= now || !args.without_expired)));
    listed.sort_by_key(Listed::end);
    let found = listed.len();
    listed.truncate(args.shown.limit.map_or(usize::MAX, |limit| limit as usize));
    let (is_empty, has_more) = (
        listed.is_empty(),
        listed.len() < found || !servers.next_page_token.is_empty(),
    );
    match args.shown.table.document()? {
        Some(document) => {
            for one in listed {
                match one {
                    Listed::Server(certificate) => servers.server_certificates.push(certificate),
                    Listed::Authority(certificate) => authorities.ca_certificates.push(certificate),
                }
            }
            let mut servers = document::value("SearchServerCertificatesResponse", &servers)?;
            let mut authorities = document::value("DescribeCACertificatesResponse", &authorities)?;
            let whole = serde_json::json!({
                "serverCertificates": servers["serverCertificates"].take(),
                "caCertificates": authorities["caCertificates"].take(),
                "hasMore": has_more,
            });
            document.print_value(whole)?;
        }
        None => {
            let certificates: Vec<_> = listed.into_iter().map(Listed::shown).collect();
            args.shown
                .table
                .table("certificates that expire in this time", &certificates)?;
        }
    }
    match is_empty {
        true => Ok(()),
        false => Err(Failure::silent(WARNED)),
    }
}

/// A certificate of `certkeep expiring`.
enum Listed {
    Server(pb::ServerCertificate),
    Authority(pb::CaCertificate),
}

impl Listed {
    /// The earliest end of the certificate and its issuers, in milliseconds since 1970.
    fn end(&self) -> i64 {
        match self {
            Self::Server(certificate) => print::end(certificate),
            Self::Authority(certificate) => certificate.expire_time_stamp,
        }
    }

    fn shown(self) -> pb::ServerCertificate {
        match self {
            Self::Server(certificate) => certificate,
            Self::Authority(certificate) => ca::shown(certificate),
        }
    }
}

/// Prints all pages, or the first certificates up to the limit.
async fn show(
    connection: &ConnectionArgs,
    request: pb::SearchServerCertificatesRequest,
    shown: &ShownArgs,
) -> Result<(), Failure> {
    let all = all(connection, request, shown.limit).await?;
    shown.table.print(
        "SearchServerCertificatesResponse",
        &all,
        "server certificates",
        &all.server_certificates,
    )
}

/// All pages, or the first certificates up to the limit.
async fn all(
    connection: &ConnectionArgs,
    mut request: pb::SearchServerCertificatesRequest,
    limit: Option<u32>,
) -> Result<pb::SearchServerCertificatesResponse, Failure> {
    let mut client = connection.connect()?;
    let mut all = pb::SearchServerCertificatesResponse::default();
    loop {
        let wanted = limit.map_or(usize::MAX, |limit| limit as usize) - all.server_certificates.len();
        request.page_size = wanted.min(MAX_PAGE_SIZE) as i32; // At most 1000.
        let page = answered(client.search_server_certificates(request.clone()).await, Effect::Reads)?;
        let is_enough = page.server_certificates.len() >= wanted;
        all.request_id = page.request_id;
        all.server_certificates.extend(page.server_certificates);
        if page.next_page_token.is_empty() || is_enough {
            // With a limit, the token says that there may be more certificates.
            all.next_page_token = page.next_page_token;
            return Ok(all);
        }
        request.page_token = page.next_page_token;
    }
}

/// Hours, days or weeks in seconds.
pub(super) fn seconds(text: &str) -> Result<i64, String> {
    let wrong = || "use a number of hours, days or weeks, for example 12h, 30d or 8w".to_owned();
    let hours = match text.as_bytes().last() {
        Some(b'h') => 1,
        Some(b'd') => 24,
        Some(b'w') => 7 * 24,
        _ => return Err(wrong()),
    };
    let count: u32 = text[..text.len() - 1].parse().map_err(|_| wrong())?;
    Ok(i64::from(count) * hours * HOUR)
}

/// The key algorithms, by the names that `certkeep get` shows.
fn algorithm() -> impl TypedValueParser<Value = KeyAlgorithm> {
    PossibleValuesParser::new(KeyAlgorithm::ALL.map(KeyAlgorithm::as_str)).try_map(|name| name.parse::<KeyAlgorithm>())
}

/// The start of a day in UTC.
pub(super) fn day(text: &str) -> Result<Timestamp, String> {
    let wrong = || "use a date, for example 2030-01-31".to_owned();
    let mut parts = text.splitn(3, '-');
    let mut part = || parts.next().and_then(|part| part.parse::<u16>().ok()).ok_or_else(wrong);
    let (year, month, day) = (part()?, part()?, part()?);
    let month = u8::try_from(month).ok().and_then(|month| Month::try_from(month).ok());
    let date = Date::from_calendar_date(
        year.into(),
        month.ok_or_else(wrong)?,
        day.try_into().map_err(|_| wrong())?,
    );
    let date = date.map_err(|_| wrong())?;
    let seconds = date.midnight().assume_utc().unix_timestamp();
    Ok(Timestamp { seconds, nanos: 0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_parsed_as_hours_days_or_weeks() {
        let times = ["12h", "30d", "8w", "0d"].map(|text| seconds(text).unwrap());
        assert_eq!(times, [12 * HOUR, 30 * 24 * HOUR, 56 * 24 * HOUR, 0]);
        for wrong in ["", "d", "30", "30m", "-1d", "1.5d", "30 d", "1é"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn days_are_dates_of_the_calendar() {
        let at = |seconds| Ok(Timestamp { seconds, nanos: 0 });
        assert_eq!(day("2024-02-29"), at(1_709_164_800));
        assert_eq!(day("1970-01-01"), at(0));
        for wrong in ["", "2023-02-29", "2024-13-01", "2024-02", "today", "2024-02-29T00"] {
            assert!(day(wrong).is_err(), "{wrong}");
        }
    }
}
