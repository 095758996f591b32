//! Uploads a pair, tags it, and lists all certificates with its fingerprint. docs/clients.md explains each part.
//!
//! ```sh
//! cargo run -p certkeep-client --example upload -- --region cn-hangzhou --access-key-file ~/.local/share/certkeep/admin.key \
//!     --cert cert.pem --key key.pem
//! ```
//!
//! Exit code 1: a call failed and changed nothing. 2: wrong usage. 4: it is unknown whether a call took effect.

use std::fs::read_to_string;
use std::path::PathBuf;
use std::process::ExitCode;

use certkeep_client::{
    AccessKey, CallError, Client, Endpoint, Outcome, Repeat, Target, client_token, pages, pb, repeated,
};
use clap::Parser;

#[derive(Parser)]
struct Args {
    #[arg(long, default_value = "http://127.0.0.1:50051")]
    endpoint: String,
    /// Trust the CA certificates in this file instead of the system's.
    #[arg(long)]
    ca_file: Option<PathBuf>,
    /// The token of an earlier upload, to repeat that upload.
    #[arg(long, default_value_t = client_token())]
    client_token: String,
    #[arg(long)]
    access_key_file: PathBuf,
    #[arg(long)]
    region: String,
    #[arg(long)]
    cert: PathBuf,
    #[arg(long)]
    key: PathBuf,
}

#[tokio::main]
async fn main() -> ExitCode {
    let args = Args::parse();
    let (client, request) = match prepared(&args) {
        Ok(prepared) => prepared,
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::from(2);
        }
    };
    let Err(error) = upload(&client, request).await else {
        return ExitCode::SUCCESS;
    };
    show(&error);
    if error.outcome == Outcome::Unknown {
        let token = args.client_token;
        eprintln!("It is unknown whether the call took effect. Repeat the command with --client-token {token}");
        return ExitCode::from(4);
    }
    ExitCode::FAILURE
}

/// The client and the request. A process needs one client: its clones share one connection, which opens again when it breaks.
fn prepared(args: &Args) -> Result<(Client, pb::UploadServerCertificateRequest), Box<dyn std::error::Error>> {
    let mut target = Target::new(Endpoint::parse(&args.endpoint)?);
    target.access_key = Some(AccessKey::parse(&read_to_string(&args.access_key_file)?)?);
    target.ca = args.ca_file.as_ref().map(read_to_string).transpose()?;
    let request = pb::UploadServerCertificateRequest {
        region_id: args.region.clone(),
        server_certificate: read_to_string(&args.cert)?,
        private_key: read_to_string(&args.key)?,
        // However often the call is repeated, the pair is stored once.
        client_token: args.client_token.clone(),
        ..Default::default()
    };
    Ok((target.connect()?, request))
}

async fn upload(client: &Client, request: pb::UploadServerCertificateRequest) -> Result<(), CallError> {
    let mut service = client.certificates();
    let uploaded = repeated(Repeat::Always, async || {
        service.upload_server_certificate(request.clone()).await
    })
    .await?;
    show_findings(&uploaded.findings);
    let tags = pb::TagResourcesRequest {
        region_id: uploaded.region_id,
        resource_type: "certificate".to_owned(),
        resource_ids: vec![uploaded.server_certificate_id],
        tags: vec![pb::Tag {
            key: "example".to_owned(),
            value: "rust".to_owned(),
        }],
    };
    repeated(Repeat::Always, async || service.tag_resources(tags.clone()).await).await?;
    pages(async |page_token| {
        let request = pb::SearchServerCertificatesRequest {
            fingerprint: uploaded.fingerprint_sha256.clone(),
            page_token,
            ..Default::default()
        };
        let page = repeated(Repeat::Always, async || {
            service.search_server_certificates(request.clone()).await
        })
        .await?;
        for certificate in page.server_certificates {
            let (id, name) = (certificate.server_certificate_id, certificate.common_name);
            println!("{id} {name} {}", certificate.expire_time);
        }
        Ok(page.next_page_token)
    })
    .await
}

/// Prints the reason, every wrong field, the findings and the request id, which is also in the log of the service.
fn show(error: &CallError) {
    eprintln!("{:?}: {error}", error.status.code());
    if let Some(reason) = error.reason {
        eprintln!("  reason {}", reason.name());
    }
    for violation in &error.violations {
        eprintln!("  {}: {}", violation.field, violation.description);
    }
    show_findings(&error.findings);
    if !error.request_id.is_empty() {
        eprintln!("  request id {}", error.request_id);
    }
}

fn show_findings(findings: &[pb::Finding]) {
    for finding in findings {
        let severity = finding
            .severity()
            .as_str_name()
            .trim_start_matches("SEVERITY_")
            .to_lowercase();
        let code = finding.code().as_str_name().trim_start_matches("FINDING_CODE_");
        let text = format!("{severity} {code}: {}; {}", finding.message, finding.remedy);
        eprintln!("{}", text.trim_end_matches("; "));
    }
}
