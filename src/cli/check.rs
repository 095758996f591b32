//! `check`: reports everything that an upload would report about a pair, with or without a service.

use std::path::PathBuf;

use clap::Args;

use super::answer::{Effect, answered};
use super::connection::ConnectionArgs;
use super::file::{PairTexts, PasswordArgs, read_pair};
use super::print::{self, Output, expiry, key, millis, plain};
use super::words::{self, argument};
use super::{Failure, WARNED};
use crate::app::{CheckServerCertificate, Policy, RequestId, check as check_here};
use crate::grpc::{checked, pb};
use crate::secret::Secret;
use crate::server::read_key_blocklists;

#[derive(Args)]
pub(super) struct CheckArgs {
    /// File with the certificate and its chain, and perhaps the private key: PEM, DER, PKCS #7 or PKCS #12. `-`: standard input.
    cert: PathBuf,
    /// File with the private key: PEM or DER. Without a key, only the certificates are checked.
    key: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordArgs,
    /// The findings to refuse: default or strict, then exceptions, for example `strict,EXPIRES_SOON=report`. docs/findings.md lists
    /// the codes.
    #[arg(long, default_value = "default", conflicts_with = "online")]
    policy: String,
    /// A file that lists compromised keys, as for the setting key_blocklist. May be repeated.
    #[arg(long, value_name = "FILE", conflicts_with = "online")]
    key_blocklist: Vec<PathBuf>,
    /// Ask the service to check by its own policy, instead of checking here.
    #[arg(long)]
    online: bool,
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Output format; `pem` prints the chain in order.
    #[arg(long, value_enum, default_value_t)]
    output: Output,
}

pub(super) async fn check(args: CheckArgs) -> Result<(), Failure> {
    let PairTexts {
        certificate: mut server_certificate,
        key: mut private_key,
    } = read_pair(&args.cert, args.key.as_deref(), &args.password).await?;
    let answer = if args.online {
        let request = pb::CheckServerCertificateRequest {
            server_certificate: std::mem::take(&mut *server_certificate),
            private_key: std::mem::take(&mut *private_key),
        };
        let answer = args.connection.connect()?.check_server_certificate(request).await;
        answered(answer, Effect::Reads)?
    } else {
        let policy: Policy = args
            .policy
            .parse()
            .map_err(|error| Failure::usage(words::policy(error)))?;
        let lists = read_key_blocklists(&args.key_blocklist).map_err(|error| Failure::from_error(&error))?;
        let policy = policy.with_blocklists(lists);
        let request = CheckServerCertificate {
            server_certificate: Secret::from(std::mem::take(&mut *server_certificate)),
            private_key: Secret::from(std::mem::take(&mut *private_key)),
        };
        let request_id = RequestId::random().map_err(|error| Failure::from_error(&error))?;
        checked(request_id, check_here(&request, &policy), argument)
    };
    match (args.output.document(), args.output) {
        (Some(document), _) => document.print("CheckServerCertificateResponse", &answer)?,
        (None, Output::Pem) => print::print(&answer.server_certificate.clone().unwrap_or_default().certificate_chain)?,
        (None, _) => print::print(&report(&answer))?,
    }
    let severities = answer.findings.iter().map(pb::Finding::severity);
    match severities.max() {
        // The chain alone shows no errors.
        _ if !answer.violations.is_empty() && args.output == Output::Pem => Err(Failure::refused(errors(&answer))),
        _ if !answer.violations.is_empty() => Err(Failure::silent(1)),
        Some(pb::Severity::Warning) => Err(Failure::silent(WARNED)),
        _ => Ok(()),
    }
}

fn report(answer: &pb::CheckServerCertificateResponse) -> String {
    let count = |severity| {
        answer
            .findings
            .iter()
            .filter(|finding| finding.severity() == severity)
            .count()
    };
    let verdict = match (answer.violations.len(), answer.accepted) {
        (0, true) => "an upload would store this pair".to_owned(),
        (0, false) => "an upload would store this with its private key, which was not given".to_owned(),
        (errors, _) => format!("an upload would be refused: {}", counted(errors, "error")),
    };
    let mut text = format!("{verdict}, {}\n", counted(count(pb::Severity::Warning), "warning"));
    text.push_str(&tree(&answer.chain));
    for wrong in &answer.violations {
        text.push_str(&format!(
            "\nerror    {}\n         {}\n",
            wrong.reason().name(),
            plain(&wrong.description)
        ));
    }
    for finding in &answer.findings {
        let (severity, code) = (print::severity(finding), print::code(finding));
        text.push_str(&format!("\n{severity:<8} {code} ({})\n", plain(&finding.rule)));
        for line in [&finding.subject, &finding.message, &finding.remedy] {
            if !line.is_empty() {
                text.push_str(&format!("         {}\n", plain(line)));
            }
        }
    }
    text
}

/// The verdict about a pair with errors, and a line for each.
fn errors(answer: &pb::CheckServerCertificateResponse) -> String {
    let lines = answer
        .violations
        .iter()
        .map(|wrong| format!("\n  {}  {}", wrong.reason().name(), plain(&wrong.description)));
    let lines: String = lines.collect();
    format!(
        "an upload would be refused: {}{lines}",
        counted(answer.violations.len(), "error")
    )
}

fn counted(count: usize, what: &str) -> String {
    match count {
        0 => format!("no {what}"),
        1 => format!("1 {what}"),
        _ => format!("{count} {what}s"),
    }
}

/// The path as a tree, with the root at the top and the other served certificates below the path.
fn tree(chain: &[pb::ChainCertificate]) -> String {
    let at = |position| {
        chain
            .iter()
            .filter(move |certificate| certificate.position() == position)
    };
    let path: Vec<_> = at(pb::ChainPosition::Path).collect();
    let Some(last) = path.last() else {
        return String::new();
    };
    let mut lines = Vec::new();
    match at(pb::ChainPosition::Root).next() {
        Some(root) => lines.push(format!("{}  {} (not served)", plain(&root.subject), facts(root))),
        None if last.issuer != last.subject => lines.push(format!("{}  (not given)", plain(&last.issuer))),
        None => {}
    }
    let above = path.iter().rev();
    lines.extend(above.map(|certificate| format!("{}  {}", plain(&certificate.subject), facts(certificate))));
    let mut text = "\n".to_owned();
    for (depth, line) in lines.iter().enumerate() {
        let branch = match depth {
            0 => String::new(),
            _ => format!("{}└─ ", "   ".repeat(depth - 1)),
        };
        text.push_str(&format!("  {branch}{line}\n"));
    }
    for other in at(pb::ChainPosition::OtherPath) {
        text.push_str(&format!(
            "  also served: {} by {}  {}\n",
            plain(&other.subject),
            plain(&other.issuer),
            facts(other)
        ));
    }
    text
}

fn facts(certificate: &pb::ChainCertificate) -> String {
    let until = expiry(millis(certificate.not_after));
    match key(certificate.key_algorithm(), certificate.key_size).as_str() {
        "" => until,
        key => format!("{key}, {until}"),
    }
}
