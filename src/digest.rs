//! Hashes, message authentication codes, constant-time comparison and randomness.

use openssl::sha::{Sha1, Sha256};
use ring::hmac;
use uuid::Uuid;

/// The random generator of the crypto library failed. Nothing can be done but to refuse the call.
#[derive(Debug, thiserror::Error)]
#[error("the crypto library failed")]
pub struct Error(#[from] openssl::error::ErrorStack);

/// SHA-1 of `bytes`. For fingerprints only: it identifies, it proves nothing.
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(bytes);
    hash.finish()
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    // OpenSSL's function of one call looks the algorithm up each time.
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}

/// HMAC-SHA256 (RFC 2104) of `bytes` under `key`.
pub fn hmac_sha256(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    let key = hmac::Key::new(hmac::HMAC_SHA256, key);
    let mut mac = [0; 32];
    mac.copy_from_slice(hmac::sign(&key, bytes).as_ref());
    mac
}

/// Whether `a` and `b` are equal, in a time that does not tell where they differ. Their lengths are no secret.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}

/// Random bytes that may become public: ids and nonces.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    openssl::rand::rand_bytes(&mut bytes)?;
    Ok(bytes)
}

/// A random UUID (RFC 9562 5.4).
pub fn random_uuid() -> Result<Uuid, Error> {
    Ok(uuid::Builder::from_random_bytes(random()?).into_uuid())
}

/// Random bytes that stay private: keys and secrets.
pub fn random_secret<const N: usize>() -> Result<zeroize::Zeroizing<[u8; N]>, Error> {
    let mut bytes = zeroize::Zeroizing::new([0; N]);
    openssl::rand::rand_priv_bytes(bytes.as_mut_slice())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 4.3, test case 2.
    #[test]
    fn hmac_sha256_agrees_with_rfc_4231() {
        let mac = hmac_sha256(b"Jefe", b"what do ya want for nothing?");
        assert_eq!(
            hex::encode(mac),
            "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"
        );
    }

    #[test]
    fn equality_needs_equal_lengths() {
        assert!(constant_time_eq(b"ab", b"ab"));
        assert!(!constant_time_eq(b"ab", b"ac"));
        assert!(!constant_time_eq(b"ab", b"abc"));
    }
}
