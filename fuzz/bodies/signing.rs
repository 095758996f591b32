//! Certificates with valid signatures. They are signed when an input is read, so a mutation does not break their signatures.

use std::sync::LazyLock;

use openssl::pkey::{Id, PKey, Private};
use openssl::sign::Signer;

use super::tree::{der, sequence, values};

/// The number of signing keys.
pub const KEYS: u8 = 8;

/// The signing keys. They are not secret: the seed of each key is its number.
static SIGNING: LazyLock<Vec<PKey<Private>>> = LazyLock::new(|| {
    let key = |number| PKey::private_key_from_raw_bytes(&[number; 32], Id::ED25519).expect("any seed is a key");
    (0..KEYS).map(key).collect()
});

/// `id-Ed25519` (RFC 8410 3) as an `AlgorithmIdentifier`.
pub const ED25519: [u8; 7] = [0x30, 5, 6, 3, 0x2b, 0x65, 0x70];

/// The key with this number.
pub fn key(number: u8) -> &'static PKey<Private> {
    &SIGNING[usize::from(number % KEYS)]
}

/// The certificate (RFC 5280 4.1) of a `TBSCertificate`, signed by the key with this number. Its signature algorithm is the one
/// that the signed part states, or Ed25519 if the signed part states none.
pub fn certificate(tbs: &[u8], by: u8) -> Vec<u8> {
    let mut signer = Signer::new_without_digest(key(by)).expect("OpenSSL signs");
    let signature = signer.sign_oneshot_to_vec(tbs).expect("OpenSSL signs");
    sequence(&[tbs, &algorithm(tbs), &der(3, &[&[0], &signature[..]].concat())])
}

fn algorithm(tbs: &[u8]) -> Vec<u8> {
    let fields = values(tbs).next().map(|(_, content)| content).unwrap_or_default();
    let stated = values(fields).find(|(tag, _)| *tag == 0x30);
    stated.map_or(ED25519.to_vec(), |(tag, content)| der(tag, content))
}
