//! Ed25519 and Ed448 private keys.

use openssl::pkey::PKey;
use pkcs8::der::Decode;
use pkcs8::der::asn1::OctetStringRef;

use super::{Derived, PrivateKeyError};
use crate::certificate::key_type::EdwardsCurve;
use crate::certificate::public_key::PublicKey;

/// Derives the public key of a `CurvePrivateKey` (RFC 8410 7).
pub(super) fn derive(der: &[u8], curve: EdwardsCurve) -> Derived {
    let seed = seed(der).ok_or(PrivateKeyError::Malformed)?;
    if seed.len() != curve.key_bytes() {
        return Err(PrivateKeyError::Malformed);
    }
    let public = PKey::private_key_from_raw_bytes(seed, curve.id()).and_then(|key| key.raw_public_key());
    // Any octets are a key (RFC 8032 5.1.5 and 5.2.5). OpenSSL fails only if memory runs out.
    let bytes = public.map_err(|_| PrivateKeyError::Inconsistent)?;
    Ok(PublicKey::Edwards { curve, bytes })
}

/// The seed of a `CurvePrivateKey`.
pub(super) fn seed(der: &[u8]) -> Option<&[u8]> {
    <&OctetStringRef>::from_der(der).ok().map(OctetStringRef::as_bytes)
}
