//! The files of certificates and keys.

use std::io;
use std::path::Path;

use zeroize::Zeroizing;

use super::Failure;
use crate::secret::read_private_or_pipe;
use crate::telemetry::causes;

/// The maximum size of a file with a private key or certificates.
pub(super) const MAX_FILE_LEN: u64 = 1024 * 1024;

/// Reads a file with a secret. It may be a pipe. Only the user and root may have access to a regular file.
pub(super) fn read_secret(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let read = read_private_or_pipe(path, MAX_FILE_LEN);
    let text = read.map_err(|error| Failure::usage(causes(&error)))?;
    Ok(Zeroizing::new(text.into_text()))
}

pub(super) fn read(path: &Path) -> Result<Zeroizing<String>, Failure> {
    let failed = |error: io::Error| Failure::usage(format!("{} cannot be read: {error}", path.display()));
    let len = std::fs::metadata(path).map_err(failed)?.len();
    if len > MAX_FILE_LEN {
        return Err(Failure::usage(format!("{} is larger than 1 MiB", path.display())));
    }
    let bytes = std::fs::read(path).map_err(failed)?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(Failure::usage(format!(
                "{} is binary: convert it to PEM, with `openssl x509 -inform der` or `openssl pkey -inform der`",
                path.display()
            )))
        }
    }
}
