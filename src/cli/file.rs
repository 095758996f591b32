//! The files of certificates and keys, in every format that certkeep reads.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::path::{Path, PathBuf};

use clap::Args;
use zeroize::Zeroizing;

use super::Failure;
use super::login::hidden_line;
use crate::app::{Chain, Contents, FileFormat, FileFormatError, FormatCause, FoundCertificate, PemFile, has_issued};
use crate::secret::{Secret, quoted, read_private_or_pipe};
use crate::telemetry::causes;

/// The maximum size of a file with a private key or certificates.
pub(super) const MAX_FILE_LEN: u64 = 1024 * 1024;

/// Reads a file with a secret. It may be a pipe. Only the user and root may have access to a regular file.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let read = read_private_or_pipe(path, MAX_FILE_LEN);
    let text = read.map_err(|error| Failure::usage(causes(&error)))?;
    Ok(Zeroizing::new(text.into_text()))
}

/// Reads a text.
pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let mut bytes = read_bytes(path)?;
    match String::from_utf8(std::mem::take(&mut *bytes)) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(Failure::usage(format!("{} is not a text in UTF-8", path.display())))
        }
    }
}

/// The password of files.
#[derive(Args)]
pub(super) struct PasswordArgs {
    /// File with the password of a PKCS #12 file or of an encrypted private key, on one line. Default: asked for on a terminal.
    #[arg(long, value_name = "FILE")]
    password_file: Option<PathBuf>,
}

impl PasswordArgs {
    /// The password, if the command line names its file.
    pub(super) fn read(&self) -> Result<Option<Secret>, Failure> {
        let Some(file) = &self.password_file else {
            return Ok(None);
        };
        let mut text = read(file)?;
        let end = text.trim_end_matches(['\r', '\n']).len();
        text.truncate(end);
        if text.contains('\n') {
            return Err(Failure::usage(format!(
                "{} has several lines: a file for --password-file has one",
                file.display()
            )));
        }
        Ok(Some(Secret::from(std::mem::take(&mut *text))))
    }
}

/// A certificate with its chain, and its private key, in PEM. The key is empty if it stands beside the certificate, or was not given.
pub(super) struct PairTexts {
    pub(super) certificate: Zeroizing<String>,
    pub(super) key: Zeroizing<String>,
}

/// The pair of an upload or a renewal: its files, or the id of a certificate of Alibaba Cloud.
#[derive(Args)]
pub(super) struct PairArgs {
    /// File with the certificate and its chain, and perhaps the private key: PEM, DER, PKCS #7 or PKCS #12. `-`: standard input.
    #[arg(long, value_name = "FILE", required_unless_present = "ali_cloud_certificate_id")]
    cert: Option<PathBuf>,
    /// File with the private key: PEM or DER. Default: the key is in the file of --cert.
    #[arg(long, value_name = "FILE", requires = "cert")]
    key: Option<PathBuf>,
    #[command(flatten)]
    password: PasswordArgs,
    /// Id of a certificate in Alibaba Cloud Certificate Management Service, from which the service fetches the pair.
    #[arg(long, value_name = "ID", conflicts_with_all = ["cert", "key"])]
    pub(super) ali_cloud_certificate_id: Option<String>,
}

impl PairArgs {
    /// The texts of the files. Both are empty if the service fetches the pair.
    pub(super) async fn read(&self) -> Result<PairTexts, Failure> {
        match &self.cert {
            Some(cert) => {
                let pair = read_pair(cert, self.key.as_deref(), &self.password).await?;
                let contents = Contents::of(pair.certificate.as_bytes());
                // The service says what a text without certificates lacks.
                match self.key.is_none() && contents.private_key.is_none() && !contents.certificates.is_empty() {
                    true => Err(Failure::usage(format!(
                        "{} contains no private key: name its file with --key",
                        cert.display()
                    ))),
                    false => Ok(pair),
                }
            }
            None => Ok(PairTexts {
                certificate: Zeroizing::default(),
                key: Zeroizing::default(),
            }),
        }
    }
}

/// Reads the files of a pair. `-` is standard input. Both may be the same file, and the certificate's file may also contain the key. The
/// key's file may contain issuers, as key stores do.
pub(super) async fn read_pair(
    certificate: &Path,
    key: Option<&Path>,
    password: &PasswordArgs,
) -> Result<PairTexts, Failure> {
    let mut password = password.read()?;
    let text = read_pem(certificate, &mut password).await?;
    let contents = Contents::of(text.as_bytes());
    let no_key = |file: &Path| Err(Failure::usage(format!("{} contains no private key", file.display())));
    let (certificate, key) = match key {
        Some(file) if is_same(certificate, file) && contents.private_key.is_none() => return no_key(file),
        Some(file) if !is_same(certificate, file) => {
            let key = read_pem(file, &mut password).await?;
            if key.trim().is_empty() {
                return no_key(file);
            }
            let issuers = missing_issuers(&contents, Contents::of(key.as_bytes()));
            (with_issuers(text, issuers.into_iter()), key)
        }
        _ => (text, Zeroizing::default()),
    };
    Ok(PairTexts { certificate, key })
}

/// The issuers of a text's certificates that only the text of the key has. Roots are not served.
fn missing_issuers(certificate: &Contents, key: Contents) -> Vec<Vec<u8>> {
    let mut served: Vec<_> = certificate.certificates.iter().map(|one| one.der.clone()).collect();
    let given = served.len();
    let is_root = |one: &FoundCertificate| one.facts.as_ref().is_some_and(|facts| facts.subject == facts.issuer);
    let mut others = key.certificates;
    others.retain(|other| other.is_ca && !is_root(other) && !served.contains(&other.der));
    while let Some(next) = others
        .iter()
        .position(|other| served.iter().any(|one| has_issued(&other.der, one)))
    {
        served.push(others.swap_remove(next).der);
    }
    served.split_off(given)
}

/// A text of certificates, and perhaps a key, with more certificates.
pub(super) fn with_issuers(text: Zeroizing<String>, issuers: impl Iterator<Item = Vec<u8>>) -> Zeroizing<String> {
    let issuers = Chain::of(issuers).to_pem();
    if issuers.is_empty() {
        return text;
    }
    // With its final capacity: the text may contain the key, and growing would leave a copy in memory.
    let mut whole = Zeroizing::new(String::with_capacity(text.len() + 1 + issuers.len()));
    for part in [text.as_str(), "\n", &issuers] {
        whole.push_str(part);
    }
    whole
}

/// Reads the file of a certificate without a private key.
pub(super) async fn read_certificate(path: &Path, password: &PasswordArgs) -> Result<Zeroizing<String>, Failure> {
    read_pem(path, &mut password.read()?).await
}

/// Reads a file in any format as PEM. Asks for a missing password on a terminal.
async fn read_pem(path: &Path, password: &mut Option<Secret>) -> Result<Zeroizing<String>, Failure> {
    let bytes = read_bytes(path)?;
    loop {
        let error = match PemFile::read(&bytes, password.as_ref()) {
            Ok(file) => return Ok(file.text),
            Err(error) => error,
        };
        let is_unknown = matches!(error.format, FileFormat::Unknown | FileFormat::Empty);
        match std::str::from_utf8(&bytes) {
            // The service says what the text lacks.
            Ok(text) if is_unknown => return Ok(Zeroizing::new(text.to_owned())),
            _ if error.cause == FormatCause::PasswordMissing && !is_stdin(path) && io::stdin().is_terminal() => {
                let mut line = hidden_line(&format!("password of {}: ", path.display())).await?;
                *password = Some(Secret::from(std::mem::take(&mut *line)));
            }
            _ => {
                let what = path.display();
                return Err(Failure::usage(format!(
                    "{what} ({}) {}",
                    error.format,
                    way_out(error, path)
                )));
            }
        }
    }
}

fn is_stdin(path: &Path) -> bool {
    path == Path::new("-")
}

/// Whether both paths name one file.
fn is_same(one: &Path, other: &Path) -> bool {
    let real = |path: &Path| path.canonicalize().ok();
    one == other || (!is_stdin(one) && !is_stdin(other) && real(one).is_some_and(|one| real(other) == Some(one)))
}

/// Reads a file or standard input.
fn read_bytes(path: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    let bytes = match is_stdin(path) {
        true => read_all(io::stdin().lock(), 0),
        false => {
            let file = File::open(path).map_err(failed)?;
            let len = file.metadata().map_err(failed)?.len();
            read_all(file, len)
        }
    };
    let bytes = bytes.map_err(failed)?;
    match bytes.len() as u64 > MAX_FILE_LEN {
        true => Err(Failure::usage(format!("{} is larger than 1 MiB", path.display()))),
        false => Ok(bytes),
    }
}

/// Reads at most one octet more than a file may have. `len` is the likely length: growing leaves copies in memory until they are freed.
pub(super) fn read_all(source: impl Read, len: u64) -> io::Result<Zeroizing<Vec<u8>>> {
    let capacity = MAX_FILE_LEN.min(len) as usize + 1;
    let mut bytes = Zeroizing::new(Vec::with_capacity(capacity));
    source.take(MAX_FILE_LEN + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// What is wrong with a file, and the way out, as the rest of a sentence about the file.
pub(super) fn way_out(error: FileFormatError, path: &Path) -> String {
    let file = quoted(path);
    match (error.cause, error.format) {
        (FormatCause::PasswordMissing, _) => "is encrypted: give its password with --password-file".to_owned(),
        (FormatCause::PasswordWrong, _) => {
            "does not open with this password: check the password, or export the file again".to_owned()
        }
        (FormatCause::Damaged, _) => "is damaged: export it again".to_owned(),
        (FormatCause::NotRead, FileFormat::JavaKeyStore) => format!(
            "is not read: convert it with `keytool -importkeystore -srckeystore {file} -destkeystore {file}.p12 -deststoretype PKCS12`"
        ),
        (FormatCause::NotRead, FileFormat::AcmeJson) => format!(
            "is not read: write its pairs into a folder with `mkdir -m 700 pairs && jq -r '.[].Certificates[]? | .certificate, .key' {file} | \
             split -a 4 -l 1 - pairs/`, and run `certkeep import pairs`"
        ),
        (FormatCause::NotRead, FileFormat::PuttyKey) => {
            "is not read: export it as an OpenSSH key with PuTTYgen, and convert that with `ssh-keygen -p -N '' -m PKCS8 -f FILE`"
                .to_owned()
        }
        (FormatCause::NotRead, FileFormat::OpenSshKey) => {
            format!("is not read: convert a copy of it with `ssh-keygen -p -N '' -m PKCS8 -f {file}`")
        }
        (FormatCause::NotRead, _) => "is not read: convert it to PEM".to_owned(),
        (FormatCause::HoldsNeither, FileFormat::CertificateRequest) => {
            "holds no certificate: use the certificate that the CA issued for it".to_owned()
        }
        (FormatCause::HoldsNeither, FileFormat::Empty) => "has no content".to_owned(),
        (FormatCause::HoldsNeither, _) => "holds neither a certificate nor a private key".to_owned(),
    }
}
