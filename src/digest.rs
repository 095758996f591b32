//! Hashes, message authentication codes, constant-time comparison and randomness.

use openssl::sha::{Sha1, Sha256};
use uuid::Uuid;
use zeroize::Zeroizing;

/// The random generator of OpenSSL failed. The call must be refused.
#[derive(Debug, thiserror::Error)]
#[error("the crypto library failed")]
pub struct Error(#[from] openssl::error::ErrorStack);

/// SHA-1 of `bytes`. Only for fingerprints: SHA-1 does not resist collisions.
pub fn sha1(bytes: &[u8]) -> [u8; 20] {
    let mut hash = Sha1::new();
    hash.update(bytes);
    hash.finish()
}

/// SHA-256 of `bytes`.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    // Unlike this call, `openssl::sha::sha256` looks up the algorithm each time.
    let mut hash = Sha256::new();
    hash.update(bytes);
    hash.finish()
}

/// HMAC-SHA256 (RFC 2104) of `bytes` under `key`. OpenSSL's own HMAC can fail, and looks up the algorithm for each call.
pub fn hmac_sha256(key: &[u8], bytes: &[u8]) -> [u8; 32] {
    hmac(key, bytes, |parts| {
        let mut hash = Sha256::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.finish()
    })
}

/// HMAC-SHA1 (RFC 2104) of `bytes` under `key`. Only for Alibaba Cloud's signatures of version 1.0.
pub fn hmac_sha1(key: &[u8], bytes: &[u8]) -> [u8; 20] {
    hmac(key, bytes, |parts| {
        let mut hash = Sha1::new();
        parts.iter().for_each(|part| hash.update(part));
        hash.finish()
    })
}

/// RFC 2104 with a hash of parts one after the other, whose block has 64 octets.
fn hmac<const N: usize>(key: &[u8], bytes: &[u8], hash: impl Fn([&[u8]; 2]) -> [u8; N]) -> [u8; N] {
    const BLOCK: usize = 64;
    let mut block = Zeroizing::new([0; BLOCK]);
    if key.len() <= BLOCK {
        block[..key.len()].copy_from_slice(key);
    } else {
        block[..N].copy_from_slice(&hash([key, &[]]));
    }
    let padded = |pad: u8| Zeroizing::new(block.map(|octet| octet ^ pad));
    let inner = hash([&*padded(0x36), bytes]);
    hash([&*padded(0x5c), &inner])
}

/// Whether `a` and `b` are equal. The time does not depend on where they differ. Their lengths are no secret.
pub fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && openssl::memcmp::eq(a, b)
}

/// Random octets that may become public: ids and nonces.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut bytes = [0; N];
    openssl::rand::rand_bytes(&mut bytes)?;
    Ok(bytes)
}

/// A random UUID (RFC 9562 5.4).
pub fn random_uuid() -> Result<Uuid, Error> {
    Ok(uuid::Builder::from_random_bytes(random()?).into_uuid())
}

/// Random octets that stay private: keys and secrets.
pub fn random_secret<const N: usize>() -> Result<Zeroizing<[u8; N]>, Error> {
    let mut bytes = Zeroizing::new([0; N]);
    openssl::rand::rand_priv_bytes(bytes.as_mut_slice())?;
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// RFC 4231 4.2, 4.3 and 4.7: a short key, a shorter one, and one longer than a block.
    #[test]
    fn hmac_sha256_agrees_with_rfc_4231() {
        for (key, text, mac) in [
            (
                &[0x0b; 20][..],
                &b"Hi There"[..],
                "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843",
            ),
            (
                &[0xaa; 131],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54",
            ),
        ] {
            assert_eq!(hex::encode(hmac_sha256(key, text)), mac);
        }
    }

    /// RFC 2202 3, test cases 1, 2 and 6.
    #[test]
    fn hmac_sha1_agrees_with_rfc_2202() {
        for (key, text, mac) in [
            (
                &[0x0b; 20][..],
                &b"Hi There"[..],
                "b617318655057264e28bc0b6fb378c8ef146be00",
            ),
            (
                b"Jefe",
                b"what do ya want for nothing?",
                "effcdf6ae5eb2fa2d27416d5f184df9c259a7c79",
            ),
            (
                &[0xaa; 80],
                b"Test Using Larger Than Block-Size Key - Hash Key First",
                "aa4ae5e15272d00e95705637ce8a3b55ed402112",
            ),
        ] {
            assert_eq!(hex::encode(hmac_sha1(key, text)), mac);
        }
    }

    #[test]
    fn equality_needs_equal_lengths() {
        assert!(constant_time_eq(b"ab", b"ab"));
        assert!(!constant_time_eq(b"ab", b"ac"));
        assert!(!constant_time_eq(b"ab", b"abc"));
    }
}
