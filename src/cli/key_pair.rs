//! `certkeep get --with-key`: a key pair in files, or on standard output.

use std::io::{self, IsTerminal, Write};
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};

use super::Failure;
use super::answer::{Effect, answered};
use super::escape::{Form, escaped};
use super::file::read;
use super::print::{Output, line, lines};
use super::server_certificate::GetArgs;
use crate::app::CertificateId;
use crate::grpc::pb;
use crate::secret::{Existing, Secret};

/// The exit code if the caller has the present version.
const UNCHANGED: u8 = 6;

#[derive(Args)]
pub(super) struct GetPairArgs {
    #[command(flatten)]
    certificate: GetArgs,
    /// Get the private key too. Needs the role consumer.
    #[arg(long)]
    with_key: bool,
    #[command(flatten)]
    key: KeyArgs,
}

#[derive(Args)]
struct KeyArgs {
    /// Form of the key pair.
    #[arg(long, value_enum, default_value_t, requires = "with_key")]
    format: Format,
    /// File with the password of the encrypted forms: one line with 8 to 128 printable ASCII characters.
    #[arg(long, value_name = "FILE", requires = "with_key")]
    password_file: Option<PathBuf>,
    /// Name of the entry in a PKCS#12 file. Default: the certificate's name.
    #[arg(long, requires = "with_key")]
    alias: Option<String>,
    /// Where to write the key pair, with mode 0600: a directory, or for a form with one file also a file. Existing files are replaced.
    #[arg(long, value_name = "PATH", requires = "with_key", conflicts_with = "stdout")]
    out: Option<PathBuf>,
    /// Write the key pair to standard output, even if that is a terminal.
    #[arg(long, requires = "with_key")]
    stdout: bool,
    /// The version that you have. If it is the present one, nothing is written, and the exit code is 6.
    #[arg(long, value_name = "VERSION", requires = "with_key", conflicts_with = "version")]
    known_version: Option<i64>,
    /// An earlier version that the service keeps. Default: the present one.
    #[arg(long, value_name = "VERSION", requires = "with_key")]
    version: Option<i64>,
}

/// The forms of a key pair.
#[derive(Clone, Copy, Default, Eq, PartialEq, ValueEnum)]
enum Format {
    /// Files `fullchain.pem` and `privkey.pem`: the key as unencrypted PKCS#8.
    #[default]
    Pem,
    /// The same with an encrypted key. Needs --password-file.
    PemEncrypted,
    /// File `bundle.pem`: the key and then the chain, as HAProxy loads it.
    Bundle,
    /// File `keystore.p12`, for Java 8u301, OpenSSL 1.1.1, Windows Server 2019 and later. Needs --password-file.
    Pkcs12,
    /// File `keystore.p12` for older programs: PBE-SHA1-3DES. Needs --password-file.
    Pkcs12Legacy,
}

impl Format {
    fn message(self) -> pb::KeyPairFormat {
        match self {
            Self::Pem => pb::KeyPairFormat::Pem,
            Self::PemEncrypted => pb::KeyPairFormat::PemEncrypted,
            Self::Bundle => pb::KeyPairFormat::PemBundle,
            Self::Pkcs12 => pb::KeyPairFormat::Pkcs12,
            Self::Pkcs12Legacy => pb::KeyPairFormat::Pkcs12Legacy,
        }
    }

    /// The file of a form that has one.
    fn file(self) -> Option<&'static str> {
        match self {
            Self::Pem | Self::PemEncrypted => None,
            Self::Bundle => Some("bundle.pem"),
            Self::Pkcs12 | Self::Pkcs12Legacy => Some("keystore.p12"),
        }
    }

    fn is_binary(self) -> bool {
        matches!(self, Self::Pkcs12 | Self::Pkcs12Legacy)
    }
}

/// Shows a certificate, or gets its key pair.
pub(super) async fn get(args: GetPairArgs) -> Result<(), Failure> {
    if !args.with_key {
        return super::server_certificate::get(args.certificate).await;
    }
    let (certificate, key) = (args.certificate, args.key);
    let target = Target::of(&key, certificate.output)?;
    let (mut id, mut name) = (certificate.id, String::new());
    if CertificateId::parse(&id).is_err() {
        std::mem::swap(&mut id, &mut name);
    }
    let request = pb::GetKeyPairRequest {
        region_id: certificate.region.unwrap_or_default(),
        server_certificate_id: id,
        server_certificate_name: name,
        version: key.version.unwrap_or_default(),
        format: key.format.message().into(),
        password: password(key.password_file.as_deref())?,
        alias: key.alias.unwrap_or_default(),
        known_version: key.known_version.unwrap_or_default(),
    };
    let answer = certificate
        .connection
        .connect_to_deliveries()?
        .get_key_pair(request)
        .await;
    let mut answer = answered(answer, Effect::Reads)?;
    let written = match answer.unchanged {
        true => Vec::new(),
        false => target.write(&mut answer, certificate.output)?,
    };
    if !matches!(target, Target::Stdout { .. }) || answer.unchanged {
        report(&answer, &written, certificate.output)?;
    }
    match answer.unchanged {
        true => Err(Failure::silent(UNCHANGED)),
        false => Ok(()),
    }
}

fn password(file: Option<&Path>) -> Result<String, Failure> {
    let Some(file) = file else { return Ok(String::new()) };
    let mut text = read(file)?;
    if text.ends_with('\n') {
        text.pop();
    }
    if text.ends_with('\r') {
        text.pop();
    }
    Ok(std::mem::take(&mut *text))
}

/// Where the key pair goes. It was checked before the key is asked for.
enum Target {
    Stdout {
        is_binary: bool,
    },
    /// Two files in a directory.
    Two {
        chain: PathBuf,
        private_key: PathBuf,
    },
    One {
        file: PathBuf,
    },
}

impl Target {
    fn of(args: &KeyArgs, output: Output) -> Result<Self, Failure> {
        if output == Output::Pem {
            return Err(Failure::usage(
                "--output pem prints the chain alone: leave out --with-key, or use --format and --stdout",
            ));
        }
        let is_binary = args.format.is_binary();
        let Some(out) = &args.out else {
            if !args.stdout {
                return Err(Failure::usage(
                    "say where the key goes: --out PATH for files, or --stdout for standard output",
                ));
            }
            if is_binary && output == Output::Table && io::stdout().is_terminal() {
                return Err(Failure::usage(
                    "PKCS#12 is binary and standard output is a terminal: use --out FILE",
                ));
            }
            return Ok(Self::Stdout { is_binary });
        };
        if out == Path::new("-") {
            return Err(Failure::usage("--out needs a path: use --stdout for standard output"));
        }
        match (args.format.file(), out.is_dir()) {
            (Some(file), true) => Ok(Self::One {
                file: replaceable(out.join(file))?,
            }),
            (Some(_), false) => Ok(Self::One {
                file: replaceable(out.clone())?,
            }),
            (None, true) => Ok(Self::Two {
                chain: replaceable(out.join("fullchain.pem"))?,
                private_key: replaceable(out.join("privkey.pem"))?,
            }),
            (None, false) => Err(Failure::usage(format!(
                "--out {} is not a directory: this --format has two files; make the directory, or use --format bundle",
                out.display()
            ))),
        }
    }

    /// Writes the key pair, and takes it out of the answer. Returns the files.
    fn write(&self, answer: &mut pb::GetKeyPairResponse, output: Output) -> Result<Vec<String>, Failure> {
        if let (Self::Stdout { .. }, Some(document)) = (self, output.document()) {
            document.print("GetKeyPairResponse", answer)?;
            return Ok(Vec::new());
        }
        let chain = Secret::from(std::mem::take(&mut answer.certificate_chain));
        let private_key = Secret::from(std::mem::take(&mut answer.private_key));
        let pkcs12 = Secret::from(std::mem::take(&mut answer.pkcs12));
        let files: Vec<(&Path, &Secret)> = match self {
            Self::Stdout { is_binary } => {
                let mut out = io::stdout().lock();
                let written = if *is_binary {
                    out.write_all(pkcs12.expose())
                } else {
                    let mut parts = [&chain, &private_key].into_iter();
                    parts.try_for_each(|part| {
                        let text = String::from_utf8_lossy(part.expose());
                        out.write_all(escaped(&text, Form::Lines).as_bytes())
                    })
                };
                let written = written.and_then(|()| out.flush());
                return match written {
                    Ok(()) => Ok(Vec::new()),
                    Err(error) => Err(Failure::from_error(&error)),
                };
            }
            Self::Two {
                chain: chain_file,
                private_key: key_file,
            } => vec![(chain_file, &chain), (key_file, &private_key)],
            Self::One { file } if pkcs12.expose().is_empty() => vec![(file, &private_key)],
            Self::One { file } => vec![(file, &pkcs12)],
        };
        for (file, content) in &files {
            content
                .write(file, Existing::Replace)
                .map_err(|error| Failure::refused(format!("{} (--out) cannot be written: {error}", file.display())))?;
        }
        Ok(files.iter().map(|(file, _)| file.display().to_string()).collect())
    }
}

/// The path, if a file can be made or replaced there. A device, a pipe or a link is not replaced.
fn replaceable(path: PathBuf) -> Result<PathBuf, Failure> {
    match path.symlink_metadata() {
        Ok(existing) if !existing.is_file() => Err(Failure::usage(format!(
            "{} (--out) is not a regular file: name another path, or use --stdout for standard output",
            path.display()
        ))),
        _ => Ok(path),
    }
}

/// Tells what was written. The answer has no key any more.
fn report(answer: &pb::GetKeyPairResponse, written: &[String], output: Output) -> Result<(), Failure> {
    if let Some(document) = output.document() {
        return document.print("GetKeyPairResponse", answer);
    }
    let certificate = answer.server_certificate.as_ref();
    let text = |value: fn(&pb::ServerCertificate) -> &String| certificate.map(value).cloned().unwrap_or_default();
    let mut shown = vec![
        line("id", &text(|certificate| &certificate.server_certificate_id)),
        line("name", &text(|certificate| &certificate.server_certificate_name)),
        line("version", &answer.version.to_string()),
    ];
    if answer.unchanged {
        shown.push(line("unchanged", "you have the present version"));
    }
    shown.extend(written.iter().map(|file| line("written to", file)));
    lines(&shown)
}
