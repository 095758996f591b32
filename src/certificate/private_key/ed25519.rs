//! Ed25519 private keys.

use openssl::pkey::{Id, PKey};
use pkcs8::der::Decode;
use pkcs8::der::asn1::OctetStringRef;

use super::{Derived, PrivateKeyError};
use crate::certificate::public_key::PublicKey;

/// The public key of a `CurvePrivateKey` (RFC 8410 7).
pub(super) fn derive(der: &[u8]) -> Derived {
    let seed = <&OctetStringRef>::from_der(der)
        .map_err(|_| PrivateKeyError::Malformed)?
        .as_bytes();
    if seed.len() != 32 {
        return Err(PrivateKeyError::Malformed);
    }
    let public = PKey::private_key_from_raw_bytes(seed, Id::ED25519).and_then(|key| key.raw_public_key());
    // Any 32 bytes are a key (RFC 8032 5.1.5), so that OpenSSL fails only without memory.
    let public = public.map_err(|_| PrivateKeyError::Inconsistent)?;
    Ok(PublicKey::Ed25519(
        public.try_into().map_err(|_| PrivateKeyError::Inconsistent)?,
    ))
}
