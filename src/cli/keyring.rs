//! The commands for the key ring.

use std::io::{IsTerminal, Write};
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand, ValueEnum};
use tonic::Code;

use super::answer::{Effect, answered, failed};
use super::connection::ConnectionArgs;
use super::document::json_line;
use super::print::{self, ListOutput, day, line, lines, moment, plain};
use super::settings::Flags;
use super::table::{Column, Row, show};
use super::{Failure, serve};
use crate::app::RowFault;
use crate::grpc::{pb, verification_fault, verified_counts};
use crate::server::{Database, KeyRing, Provider, add_key};

/// The pause before a verification continues whose connection was closed.
const RESUME_PAUSE: Duration = Duration::from_secs(1);

#[derive(Subcommand)]
pub(super) enum KeyringCommand {
    /// List the keys, the replicas and the rotation. Needs the role operator.
    List(ListArgs),
    /// Add a new random key to the file of the key ring on this host.
    Add(AddArgs),
    /// Let a key seal everything new, and encrypt all data keys again with it. Needs the role operator.
    Rotate(KeyArgs),
    /// Retire a key with which nothing is sealed any more. Needs the role operator.
    Retire(KeyArgs),
    /// Open every sealed key with the key ring of this host, compare it with its row and its chain, and report every fault. Needs no
    /// service: also for a restored database.
    Verify(VerifyArgs),
    /// Let the service do what `verify` does, with the key ring of the replica that answers. Needs the role operator.
    VerifyRemotely(VerifyRemotelyArgs),
}

#[derive(Args)]
pub(super) struct ListArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct AddArgs {
    #[command(flatten)]
    flags: Flags<false>,
    /// What wraps the key in the file. See the settings pkcs11_* and transit_*.
    #[arg(long, value_enum, default_value_t)]
    provider: ProviderName,
    /// Label of the token's key that wraps. For --provider pkcs11.
    #[arg(long, value_name = "LABEL", required_if_eq("provider", "pkcs11"))]
    wrapping_key: Option<String>,
}

#[derive(Clone, Copy, Default, ValueEnum)]
enum ProviderName {
    /// Nothing: the file contains the key itself.
    #[default]
    File,
    /// A PKCS#11 token.
    Pkcs11,
    /// The transit engine of Vault or OpenBao.
    Transit,
}

#[derive(Args)]
pub(super) struct KeyArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// Id of the key.
    id: String,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: ListOutput,
}

#[derive(Args)]
pub(super) struct VerifyArgs {
    #[command(flatten)]
    flags: Flags<false>,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: VerifyOutput,
}

#[derive(Args)]
pub(super) struct VerifyRemotelyArgs {
    #[command(flatten)]
    connection: ConnectionArgs,
    /// The most rows to verify in a second.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i32).range(1..=1_000_000))]
    rate: i32,
    /// Output format.
    #[arg(long, value_enum, default_value_t)]
    output: VerifyOutput,
}

/// Output formats of a verification.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
enum VerifyOutput {
    /// A line for each fault, then the numbers.
    #[default]
    Text,
    /// JSON in protobuf's mapping, one object in each line: the faults, then the numbers.
    Jsonl,
}

pub(super) async fn run(command: KeyringCommand) -> Result<(), Failure> {
    match command {
        KeyringCommand::List(args) => list(args).await,
        KeyringCommand::Add(args) => add(args).await,
        KeyringCommand::Rotate(args) => rotate(args).await,
        KeyringCommand::Retire(args) => retire(args).await,
        KeyringCommand::Verify(args) => verify(args).await,
        KeyringCommand::VerifyRemotely(args) => verify_remotely(args).await,
    }
}

async fn list(args: ListArgs) -> Result<(), Failure> {
    let request = pb::DescribeKeyRingRequest {};
    let answer = args.connection.connect_as_operator()?.describe_key_ring(request).await;
    let answer = answered(answer, Effect::Reads)?;
    if let Some(document) = args.output.document() {
        return document.print("DescribeKeyRingResponse", &answer);
    }
    let key = |key: &pb::KeyEncryptionKey| ListedRingKey {
        replicas: answer.replicas.len(),
        having: answer
            .replicas
            .iter()
            .filter(|replica| replica.key_encryption_key_ids.contains(&key.key_encryption_key_id))
            .count(),
        key: key.clone(),
    };
    show("keys", &answer.keys.iter().map(key).collect::<Vec<_>>())?;
    print::print("\n")?;
    let replica = |replica: &pb::Replica| {
        let lacks = |key: &&pb::KeyEncryptionKey| {
            key.state() != pb::KeyEncryptionKeyState::Retired
                && !replica.key_encryption_key_ids.contains(&key.key_encryption_key_id)
        };
        let lacking = answer.keys.iter().filter(lacks);
        ListedReplica {
            replica: replica.clone(),
            lacking: lacking.map(|key| key.key_encryption_key_id.clone()).collect(),
        }
    };
    show("replicas", &answer.replicas.iter().map(replica).collect::<Vec<_>>())?;
    match &answer.rotation {
        Some(rotation) => {
            print::print("\n")?;
            print_rotation(rotation)
        }
        None => Ok(()),
    }
}

/// A key of the ring, and the number of replicas that have it.
pub(super) struct ListedRingKey {
    pub(super) key: pb::KeyEncryptionKey,
    pub(super) having: usize,
    pub(super) replicas: usize,
}

impl Row for ListedRingKey {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::new("key", |row| plain(&row.key.key_encryption_key_id)),
        Column::new("state", |row| state(row.key.state())),
        Column::new("replicas", |row| format!("{} of {}", row.having, row.replicas)),
        Column::new("first-seen", |row| day(row.key.first_seen_time)),
        Column::new("sealing-since", |row| day(row.key.sealing_time)),
        Column::new("retired", |row| day(row.key.retire_time)),
    ];
}

/// A replica, and the keys that its ring lacks.
pub(super) struct ListedReplica {
    pub(super) replica: pb::Replica,
    pub(super) lacking: Vec<String>,
}

impl Row for ListedReplica {
    const COLUMNS: &'static [Column<Self>] = &[
        Column::text("host", |row| plain(&row.replica.host)),
        Column::text("version", |row| plain(&row.replica.version)),
        Column::text("seals-with", |row| {
            plain(&row.replica.sealing_key_encryption_key_ids.join(" "))
        }),
        Column::text("lacks", |row| plain(&row.lacking.join(" "))),
        Column::new("replica", |row| plain(&row.replica.replica_id)),
    ];
}

fn state(state: pb::KeyEncryptionKeyState) -> String {
    let name = state.as_str_name();
    name.strip_prefix("KEY_ENCRYPTION_KEY_STATE_")
        .unwrap_or(name)
        .to_ascii_lowercase()
}

fn print_rotation(rotation: &pb::KeyRotation) -> Result<(), Failure> {
    let progress = match rotation.end_time {
        Some(_) => format!("ended {}", moment(rotation.end_time)),
        None if rotation.passed == 0 => "waits until all replicas seal with the key".to_owned(),
        None => format!("in progress, last step {} s ago", rotation.idle_seconds),
    };
    let failed = match rotation.failed {
        0 => String::new(),
        failed => format!("{failed} rows did not open; see `certkeep keyring verify-remotely`"),
    };
    lines(&[
        line("rotation to", &rotation.key_encryption_key_id),
        line("started", &moment(rotation.start_time)),
        line("progress", &progress),
        line("passed", &format!("{} of about {}", rotation.passed, rotation.total)),
        line("failed", &failed),
    ])
}

async fn add(args: AddArgs) -> Result<(), Failure> {
    let (config, _, _telemetry) = serve::configure(args.flags.layers()?)?;
    let provider = match (args.provider, args.wrapping_key) {
        (ProviderName::Pkcs11, Some(label)) => Provider::Pkcs11 { label },
        (ProviderName::Pkcs11, None) => return Err(Failure::usage("--provider pkcs11 needs --wrapping-key")),
        (_, Some(_)) => return Err(Failure::usage("--wrapping-key is for --provider pkcs11")),
        (ProviderName::Transit, None) => Provider::Transit,
        (ProviderName::File, None) => Provider::File,
    };
    let added = add_key(&config.database, &provider)
        .await
        .map_err(|error| Failure::from_error(&error))?;
    lines(&[
        line("added", &added.to_string()),
        line("key ring", &config.database.key_ring.display().to_string()),
        line("next", "copy the file to every replica"),
        line("then", &format!("certkeep keyring rotate {added}")),
    ])
}

async fn rotate(args: KeyArgs) -> Result<(), Failure> {
    let request = pb::RotateKeyRingRequest {
        key_encryption_key_id: args.id,
    };
    let answer = args.connection.connect_as_operator()?.rotate_key_ring(request).await;
    let answer = answered(answer, Effect::Changes)?;
    match args.output.document() {
        Some(document) => document.print("RotateKeyRingResponse", &answer),
        None => {
            print_rotation(&answer.rotation.unwrap_or_default())?;
            lines(&[line("next", "wait for its end: certkeep keyring list")])
        }
    }
}

async fn retire(args: KeyArgs) -> Result<(), Failure> {
    let request = pb::RetireKeyEncryptionKeyRequest {
        key_encryption_key_id: args.id.clone(),
    };
    let answer = args
        .connection
        .connect_as_operator()?
        .retire_key_encryption_key(request)
        .await;
    let answer = answered(answer, Effect::Changes)?;
    match args.output.document() {
        Some(document) => document.print("RetireKeyEncryptionKeyResponse", &answer),
        None => lines(&[
            line("retired", &args.id),
            line("next", "remove its line from the key ring of every replica"),
        ]),
    }
}

/// Verifies with the key ring of this host, without a service.
async fn verify(args: VerifyArgs) -> Result<(), Failure> {
    let (config, _, _telemetry) = serve::configure(args.flags.layers()?)?;
    let (database, key_ring) = serve::open_unchanged(&config.database).await?;
    let verified = verify_database(&database, key_ring, args.output).await;
    database.close().await;
    end_verification(&verified?, args.output)
}

async fn verify_database(
    database: &Database,
    key_ring: KeyRing,
    output: VerifyOutput,
) -> Result<pb::VerifyKeyRingResponse, Failure> {
    let verification = database.verification(key_ring).await;
    let mut verification = verification.map_err(|error| Failure::from_error(&error))?;
    let mut is_ring_new = true;
    while let Some(mut faults) = verification.step().await.map_err(|error| Failure::from_error(&error))? {
        // A rotation to a key that was added to the file after the beginning is no fault.
        if is_ring_new && faults.iter().any(RowFault::is_key_missing) {
            is_ring_new = false;
            let key_ring = database.read_key_ring().await;
            let key_ring = key_ring.map_err(|error| Failure::from_error(&error))?;
            let again = verification.step_again(Arc::new(key_ring)).await;
            faults = again.map_err(|error| Failure::from_error(&error))?;
        }
        for fault in faults {
            print_fault(&verification_fault(fault), output)?;
        }
        print_progress(&verified_counts(verification.counts()));
    }
    Ok(verified_counts(verification.counts()))
}

/// Lets a service verify with the key ring of the replica that answers.
async fn verify_remotely(args: VerifyRemotelyArgs) -> Result<(), Failure> {
    let mut client = args.connection.connect_as_operator()?;
    let mut request = pb::VerifyKeyRingRequest {
        rate: args.rate,
        resume_token: String::new(),
    };
    let mut counts = pb::VerifyKeyRingResponse::default();
    loop {
        let answer = client.verify_key_ring(request.clone()).await;
        let mut steps = answered(answer, Effect::Reads)?;
        // The counts of a message begin with the call.
        let before = counts.clone();
        let from = request.resume_token.clone();
        let ended = loop {
            match steps.message().await {
                Ok(Some(step)) => {
                    counts = sum(&before, &step);
                    for fault in &step.faults {
                        print_fault(fault, args.output)?;
                    }
                    print_progress(&counts);
                    request.resume_token = step.resume_token;
                    if request.resume_token.is_empty() {
                        break true;
                    }
                }
                // The server closes old connections.
                Err(status) if status.code() == Code::Unavailable && request.resume_token != from => break false,
                Err(status) => return Err(failed(status, Effect::Reads)),
                Ok(None) if request.resume_token != from => break false,
                Ok(None) => {
                    return Err(Failure::refused(
                        "the service ended the verification without an answer; its log has the cause",
                    ));
                }
            }
        };
        if ended {
            break;
        }
        tokio::time::sleep(RESUME_PAUSE).await;
    }
    end_verification(&counts, args.output)
}

/// The numbers of two calls.
fn sum(one: &pb::VerifyKeyRingResponse, other: &pb::VerifyKeyRingResponse) -> pb::VerifyKeyRingResponse {
    pb::VerifyKeyRingResponse {
        service_keys: one.service_keys + other.service_keys,
        access_keys: one.access_keys + other.access_keys,
        server_certificates: one.server_certificates + other.server_certificates,
        ca_certificates: one.ca_certificates + other.ca_certificates,
        earlier_versions: one.earlier_versions + other.earlier_versions,
        private_keys: one.private_keys + other.private_keys,
        fault_count: one.fault_count + other.fault_count,
        ..Default::default()
    }
}

fn end_verification(counts: &pb::VerifyKeyRingResponse, output: VerifyOutput) -> Result<(), Failure> {
    match output {
        VerifyOutput::Jsonl => json_line("VerifyKeyRingResponse", counts)?,
        VerifyOutput::Text => lines(&[
            line("service keys", &counts.service_keys.to_string()),
            line("signing keys", &counts.access_keys.to_string()),
            line("certificates", &counts.server_certificates.to_string()),
            line("CAs", &counts.ca_certificates.to_string()),
            line("versions", &counts.earlier_versions.to_string()),
            line("keys opened", &counts.private_keys.to_string()),
            line("faults", &counts.fault_count.to_string()),
        ])?,
    }
    match counts.fault_count {
        0 => Ok(()),
        _ => Err(Failure::refused(
            "rows have faults; restore them from a backup, or add the missing keys to the key ring",
        )),
    }
}

fn print_fault(fault: &pb::VerificationFault, output: VerifyOutput) -> Result<(), Failure> {
    use pb::VerificationCause as Cause;
    if output == VerifyOutput::Jsonl {
        return json_line("VerificationFault", fault);
    }
    let cause: &str = match fault.cause() {
        Cause::KeyEncryptionKeyMissing => {
            &format!("the key ring lacks the key {}", plain(&fault.key_encryption_key_id))
        }
        Cause::SealedValueUnreadable => "the sealed key is damaged or belongs to another row",
        Cause::PrivateKeyAbsent if fault.certificate_id.is_empty() => "the service lacks this key",
        Cause::PrivateKeyAbsent => "there is no private key",
        Cause::PrivateKeyUnused => "the private key belongs to no version of the certificate",
        Cause::PrivateKeyUnreadable => "the opened value is no private key",
        Cause::PrivateKeyMismatch => "the private key belongs to another certificate",
        Cause::FingerprintMismatch => "the leaf has another fingerprint than its row",
        Cause::CertificateUnreadable => "a certificate of the chain cannot be read",
        Cause::FactsDiffer => &format!("the row differs from the leaf: {}", fault.columns.join(", ")),
        Cause::Internal | Cause::Unspecified => "it could not be verified",
    };
    let version = match fault.version {
        0 => String::new(),
        version => format!(" version {version}"),
    };
    let row = match fault.certificate_id.as_str() {
        "" => plain(&fault.row),
        id => format!(
            "account {} certificate {}{version}",
            plain(&fault.account_id),
            plain(id)
        ),
    };
    lines(&[format!("{row}: {}", plain(cause))])
}

/// On a terminal, one line that is replaced.
fn print_progress(counts: &pb::VerifyKeyRingResponse) {
    let mut err = std::io::stderr();
    if err.is_terminal() {
        let rows = counts.service_keys
            + counts.access_keys
            + counts.server_certificates
            + counts.ca_certificates
            + counts.earlier_versions;
        // Progress that can't be shown is no error.
        let _ = write!(err, "\r{rows} rows\r");
    }
}
