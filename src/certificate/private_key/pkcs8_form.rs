//! PKCS#8 (RFC 5958).

use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{Decode, Encode};
use pkcs8::{AlgorithmIdentifierRef, PrivateKeyInfoRef};
use zeroize::Zeroizing;

use super::{Derived, PrivateKey, PrivateKeyError, ec, edwards, into_secret, ml_dsa, rsa};
use crate::certificate::key_type::{KeyType, RSA};
use crate::certificate::public_key::PublicKey;
use crate::secret::Secret;

/// Parses a `OneAsymmetricKey` (RFC 5958 2) in strict DER. The key keeps these octets.
pub(super) fn read(der: Zeroizing<Vec<u8>>) -> Result<PrivateKey, PrivateKeyError> {
    let key = PrivateKeyInfoRef::from_der(&der).map_err(|_| PrivateKeyError::Malformed)?;
    let public = derive(&key)?;
    if let Some(stated) = key.public_key {
        let stated = stated.as_bytes().ok_or(PrivateKeyError::Malformed)?;
        if !is_stated_by(&public, stated) {
            return Err(PrivateKeyError::Inconsistent);
        }
    }
    PrivateKey::new(into_secret(der), public)
}

fn derive(key: &PrivateKeyInfoRef<'_>) -> Derived {
    let body = key.private_key.as_bytes();
    match KeyType::of(key.algorithm)? {
        KeyType::Rsa(scheme) => rsa::derive(body, scheme),
        KeyType::Ec(curve) => ec::derive(body, Some(curve)).map(|(_, public)| public),
        KeyType::Edwards(curve) => edwards::derive(body, curve),
        KeyType::MlDsa(set) => ml_dsa::derive(body, set),
    }
}

/// Whether the public key in a `OneAsymmetricKey`, encoded as in a `SubjectPublicKeyInfo`, is the derived one.
fn is_stated_by(derived: &PublicKey, stated: &[u8]) -> bool {
    match derived {
        PublicKey::Rsa { scheme, .. } => PublicKey::from_pkcs1(stated, *scheme).as_ref() == Ok(derived),
        PublicKey::Ec { curve, point } => curve.point(stated).as_ref() == Some(point),
        PublicKey::Edwards { bytes, .. } | PublicKey::MlDsa { bytes, .. } => bytes == stated,
    }
}

/// Wraps a key's body, unchanged, into PKCS#8 version 1.
pub(super) fn wrap(algorithm: AlgorithmIdentifierRef<'_>, body: &[u8]) -> Result<Secret, PrivateKeyError> {
    let wrap = || {
        let key: PrivateKeyInfoRef<'_> = PrivateKeyInfoRef::new(algorithm, OctetStringRef::new(body)?);
        let mut der = Zeroizing::new(vec![0; usize::try_from(key.encoded_len()?)?]);
        key.encode_to_slice(&mut der)?;
        Ok::<_, pkcs8::der::Error>(into_secret(der))
    };
    // The body was just parsed: its length is in range.
    wrap().map_err(|_| PrivateKeyError::Malformed)
}

/// The algorithm identifier of RSA keys (RFC 3279 2.3.1).
pub(super) const RSA_ALGORITHM: AlgorithmIdentifierRef<'static> = AlgorithmIdentifierRef {
    oid: RSA,
    parameters: Some(AnyRef::NULL),
};

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;

    use super::*;
    use crate::certificate::UnsupportedKey;
    use crate::certificate::test_pair::{der, ec_key, ed25519, integer, rsa_key, sequence};

    fn outcome(der: &[u8]) -> Result<Vec<u8>, PrivateKeyError> {
        read(Zeroizing::new(der.to_vec())).map(|key| key.pkcs8_der().expose().to_vec())
    }

    fn algorithm(oid: &str) -> Vec<u8> {
        sequence(&[&pkcs8::ObjectIdentifier::new_unwrap(oid).to_der().unwrap()])
    }

    #[test]
    fn a_key_is_kept_byte_for_byte() {
        for key in [
            rsa_key(1024),
            ec_key(Nid::SECP521R1),
            ec_key(Nid::SECP256K1),
            ed25519().key,
            PKey::generate_ed448().unwrap(),
        ] {
            let der = key.private_key_to_pkcs8().unwrap();
            assert_eq!(outcome(&der), Ok(der));
        }
    }

    #[test]
    fn version_2_states_the_derived_public_key() {
        for (oid, id, len) in [
            ("1.3.101.112", openssl::pkey::Id::ED25519, 32),
            ("1.3.101.113", openssl::pkey::Id::ED448, 57),
        ] {
            let seed = vec![7; len];
            let body = der(4, &der(4, &seed));
            let derived = PKey::private_key_from_raw_bytes(&seed, id).unwrap();
            let derived = derived.raw_public_key().unwrap();
            let version_2 = |public: &[u8]| {
                let public = der(0x81, &[&[0], public].concat());
                sequence(&[&integer(&[1]), &algorithm(oid), &body, &public])
            };
            let good = version_2(&derived);
            assert_eq!(outcome(&good), Ok(good));
            let mut wrong = derived.clone();
            wrong[0] ^= 1;
            for wrong in [&wrong[..], &derived[..len - 1], &[]] {
                assert_eq!(outcome(&version_2(wrong)), Err(PrivateKeyError::Inconsistent));
            }
        }
    }

    #[test]
    fn an_edwards_key_has_its_length_and_no_parameters() {
        for (oid, len, sound) in [
            ("1.3.101.112", 31, false),
            ("1.3.101.112", 32, true),
            ("1.3.101.112", 57, false),
            ("1.3.101.113", 32, false),
            ("1.3.101.113", 56, false),
            ("1.3.101.113", 57, true),
            ("1.3.101.113", 58, false),
        ] {
            let body = der(4, &der(4, &vec![1; len]));
            let key = sequence(&[&integer(&[]), &algorithm(oid), &body]);
            let expected = if sound {
                Ok(key.clone())
            } else {
                Err(PrivateKeyError::Malformed)
            };
            assert_eq!(outcome(&key), expected, "{oid}, {len}");
            let null = sequence(&[&algorithm(oid)[2..], &[5, 0]]);
            let key = sequence(&[&integer(&[]), &null, &body]);
            assert_eq!(outcome(&key), Err(PrivateKeyError::Malformed), "{oid}, {len}, NULL");
        }
    }

    #[test]
    fn version_2_states_it_for_every_algorithm() {
        let rsa = Rsa::generate(1024).unwrap();
        let ec = ec_key(Nid::X9_62_PRIME256V1);
        let point = ec.public_key_to_der().unwrap().split_off(26);
        for (key, public) in [
            (
                PKey::from_rsa(rsa.clone()).unwrap(),
                rsa.public_key_to_der_pkcs1().unwrap(),
            ),
            (ec, point[point.len() - 65..].to_vec()),
        ] {
            let version_1 = key.private_key_to_pkcs8().unwrap();
            let header = if version_1[1] == 0x82 { 4 } else { 3 };
            let fields = &version_1[header + 3..];
            let state = |public: &[u8]| sequence(&[&integer(&[1]), fields, &der(0x81, &[&[0], public].concat())]);
            assert!(outcome(&state(&public)).is_ok());
            let mut wrong = public.clone();
            wrong[40] ^= 1;
            assert_eq!(outcome(&state(&wrong)), Err(PrivateKeyError::Inconsistent));
        }
    }

    #[test]
    fn framing_is_strict() {
        let good = ed25519().key.private_key_to_pkcs8().unwrap();
        let fields = &good[2..];
        for bad in [
            [&good[..], &[0]].concat(),
            good[..good.len() - 1].to_vec(),
            sequence(&[fields, &[5, 0]]),
            sequence(&[fields, &der(0xa0, &[5, 0])]),
            sequence(&[fields, &der(0xa2, &[5, 0])]),
            sequence(&[&integer(&[2]), &fields[3..]]),
            sequence(&[&integer(&[1]), &fields[3..]]),
            sequence(&[
                &integer(&[]),
                &algorithm("1.3.101.112"),
                &der(4, &[der(4, &[1; 32]), vec![0]].concat()),
            ]),
            vec![],
        ] {
            assert_eq!(outcome(&bad), Err(PrivateKeyError::Malformed), "{}", hex::encode(bad));
        }
    }

    #[test]
    fn other_algorithms_are_named() {
        for (oid, name) in [
            ("1.2.840.10040.4.1", "DSA"),
            ("1.3.101.110", "X25519"),
            ("1.3.101.111", "X448"),
            ("1.2.840.113549.1.1.7", "RSA-OAEP"),
            ("1.2.840.10046.2.1", "DH"),
            ("1.2.840.113549.1.3.1", "DH"),
            ("1.2.3.4", "1.2.3.4"),
        ] {
            let der = sequence(&[&integer(&[]), &algorithm(oid), &der(4, b"x")]);
            let unsupported = UnsupportedKey::Algorithm { name: name.into() };
            assert_eq!(outcome(&der), Err(PrivateKeyError::Unsupported(unsupported)));
        }
    }
}
