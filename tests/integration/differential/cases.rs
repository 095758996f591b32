//! The pairs that are compared. Keys are new in each run, what is done to them is always the same.

mod certificates;
mod keys;
mod mutations;
mod rsa_numbers;
mod texts;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;

/// A pair in PEM, or what passes for one.
pub struct Case {
    /// What was changed, where in it, and how.
    pub kind: [String; 3],
    pub certificate: Vec<u8>,
    pub key: Vec<u8>,
}

impl Case {
    fn new(kind: [&str; 3], certificate: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self {
            kind: kind.map(str::to_owned),
            certificate: certificate.into(),
            key: key.into(),
        }
    }
}

pub fn all() -> Vec<Case> {
    [
        keys::cases(),
        rsa_numbers::cases(),
        certificates::cases(),
        texts::cases(),
        mutations::cases(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// A PEM block as OpenSSL writes it.
fn pem(label: &str, der: &[u8]) -> String {
    let base64 = BASE64_STANDARD.encode(der);
    let lines: Vec<_> = base64
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", lines.join("\n"))
}
