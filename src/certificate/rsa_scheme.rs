//! The signature schemes for which an RSA key may be used.

use pkcs1::RsaPssParams;
use pkcs8::ObjectIdentifier;
use pkcs8::der::asn1::{Any, AnyRef};
use pkcs8::spki::AlgorithmIdentifier;

use super::UnsupportedKey;
use super::public_key::PublicKeyError;

/// The scheme to which a key's algorithm identifier binds an RSA key (RFC 4055 1.2).
///
/// The scheme is part of the key. TLS has separate signature schemes for each (RFC 8446 4.2.3), and for OpenSSL two
/// keys with the same numbers and different schemes are different keys.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum RsaScheme {
    /// `rsaEncryption`: any scheme.
    Any,
    /// `id-RSASSA-PSS`: only RSASSA-PSS, and only with these parameters if there are any.
    Pss(Option<PssParameters>),
}

/// `RSASSA-PSS-params` (RFC 8017 A.2.3). The mask generation function is always MGF1, the trailer field always 1.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) struct PssParameters {
    hash: ObjectIdentifier,
    mask_hash: ObjectIdentifier,
    salt_length: u8,
}

/// `id-mgf1` (RFC 8017 A.2.1).
const MGF1: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.8");

/// `OAEP-PSSDigestAlgorithms` (RFC 8017 A.2.1): SHA-1, SHA-256, SHA-384, SHA-512, SHA-224, SHA-512/224 and SHA-512/256.
const HASHES: [ObjectIdentifier; 7] = [
    ObjectIdentifier::new_unwrap("1.3.14.3.2.26"),
    ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.1"),
    ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.2"),
    ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.3"),
    ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.4"),
    ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.5"),
    ObjectIdentifier::new_unwrap("2.16.840.1.101.3.4.2.6"),
];

impl RsaScheme {
    /// Whether a certificate bound to this scheme may belong to a private key bound to `key`.
    ///
    /// A key without parameters may make a signature that a certificate with parameters forbids. OpenSSL then refuses
    /// the signature. A key with parameters makes only signatures that a certificate without parameters allows (RFC
    /// 4055 3.3).
    pub(super) fn admits(self, key: Self) -> bool {
        self == key || matches!((self, key), (Self::Pss(None), Self::Pss(_)))
    }
}

impl PssParameters {
    /// Reads `RSASSA-PSS-params` in strict DER.
    pub(super) fn read(parameters: AnyRef<'_>) -> Result<Self, PublicKeyError> {
        let parameters: RsaPssParams<Any> = parameters.decode_as().map_err(|_| PublicKeyError::Malformed)?;
        let mask_hash = match parameters.mask_gen.parameters {
            Some(hash) if parameters.mask_gen.oid == MGF1 => hash,
            _ => return Err(PublicKeyError::Malformed),
        };
        Ok(Self {
            hash: hash(parameters.hash)?,
            mask_hash: hash(mask_hash)?,
            salt_length: parameters.salt_len,
        })
    }
}

/// The hash function that the identifier names. Its parameters are NULL or absent. Both mean the same (RFC 4055 2.1).
fn hash(algorithm: AlgorithmIdentifier<Any>) -> Result<ObjectIdentifier, PublicKeyError> {
    if algorithm.parameters.is_some_and(|parameters| !parameters.is_null()) {
        return Err(PublicKeyError::Malformed);
    }
    if !HASHES.contains(&algorithm.oid) {
        let name = format!("RSA-PSS with hash {}", algorithm.oid).into();
        return Err(PublicKeyError::Unsupported(UnsupportedKey::Algorithm { name }));
    }
    Ok(algorithm.oid)
}

#[cfg(test)]
mod tests {
    use openssl::hash::MessageDigest;
    use openssl::pkey::{PKey, Private};
    use openssl::sign::{Signer, Verifier};

    use super::super::public_key::PublicKey;
    use super::super::test_pair::{
        self, MGF1, SHA256, SHA384, der, integer, pem, pss_parameters, rsa_pss_pkcs8, rsa_pss_spki, sequence,
    };
    use super::super::{KeyAlgorithm, PrivateKey, PrivateKeyError};
    use super::*;
    use crate::secret::Secret;

    fn private(pkcs8: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
        PrivateKey::parse(&Secret::from(pem("PRIVATE KEY", pkcs8))).0
    }

    #[test]
    fn the_key_is_kept_byte_for_byte() {
        let key = test_pair::rsa_key(1024);
        let null = pss_parameters(&[SHA256, "0500"].concat(), 32);
        for parameters in [vec![], pss_parameters(SHA256, 20), null, sequence(&[])] {
            let pkcs8 = rsa_pss_pkcs8(&key, &parameters);
            let read = private(&pkcs8).unwrap();
            assert_eq!(read.pkcs8_der().expose(), pkcs8);
            assert_eq!(read.public_key().algorithm(), KeyAlgorithm::RsaPss);
            assert_eq!(read.public_key().size(), 1024);
        }
    }

    #[test]
    fn key_and_certificate_are_bound_to_one_scheme() {
        let rsa = test_pair::rsa_key(1024);
        let other = test_pair::rsa_key(1024);
        let (none, sha256) = (vec![], pss_parameters(SHA256, 32));
        let null = pss_parameters(&[SHA256, "0500"].concat(), 32);
        let (sha384, salt_20) = (pss_parameters(SHA384, 32), pss_parameters(SHA256, 20));
        for (key, certificate, matches) in [
            (&none, &none, true),
            (&sha256, &sha256, true),
            (&sha256, &null, true),
            (&sha256, &none, true),
            (&none, &sha256, false),
            (&sha256, &sha384, false),
            (&sha256, &salt_20, false),
            (&salt_20, &sha256, false),
        ] {
            let key = private(&rsa_pss_pkcs8(&rsa, key)).unwrap();
            let leaf = PublicKey::from_spki(&rsa_pss_spki(&rsa, certificate)).unwrap();
            assert_eq!(key.belongs_to(&leaf), matches, "{:?}, {leaf:?}", key.public_key());
            let leaf = PublicKey::from_spki(&rsa_pss_spki(&other, certificate)).unwrap();
            assert!(!key.belongs_to(&leaf), "the numbers differ");
        }
        let pss = private(&rsa_pss_pkcs8(&rsa, &none)).unwrap();
        let plain = private(&rsa.private_key_to_pkcs8().unwrap()).unwrap();
        assert!(!pss.belongs_to(plain.public_key()));
        assert!(!plain.belongs_to(pss.public_key()));
    }

    /// Whether the key signs with the hash, and whether the key of the certificate verifies the signature.
    fn signs(key: &PKey<Private>, spki: &[u8], hash: MessageDigest) -> (bool, bool) {
        let Ok(signature) = Signer::new(hash, key).and_then(|mut signer| signer.sign_oneshot_to_vec(b"text")) else {
            return (false, false);
        };
        let spki = PKey::public_key_from_der(spki).unwrap();
        let verified = Verifier::new(hash, &spki).and_then(|mut verifier| verifier.verify_oneshot(&signature, b"text"));
        (true, verified.unwrap_or(false))
    }

    #[test]
    fn openssl_enforces_the_parameters_on_both_sides() {
        let rsa = test_pair::rsa_key(2048);
        let (none, sha256) = (vec![], pss_parameters(SHA256, 32));
        let (sha_256, sha_384) = (MessageDigest::sha256(), MessageDigest::sha384());
        for (key, certificate, hash, expected) in [
            (&none, &none, sha_384, (true, true)),
            (&sha256, &none, sha_256, (true, true)),
            (&sha256, &none, sha_384, (false, false)),
            (&none, &sha256, sha_256, (true, true)),
            (&none, &sha256, sha_384, (true, false)),
        ] {
            let key = PKey::private_key_from_pkcs8(&rsa_pss_pkcs8(&rsa, key)).unwrap();
            assert_eq!(signs(&key, &rsa_pss_spki(&rsa, certificate), hash), expected);
        }
    }

    #[test]
    fn openssl_tells_the_key_types_apart() {
        let rsa = test_pair::rsa_key(1024);
        let pss = PKey::private_key_from_pkcs8(&rsa_pss_pkcs8(&rsa, &[])).unwrap();
        assert!(!pss.public_eq(&rsa));
        assert!(pss.public_eq(&PKey::public_key_from_der(&rsa_pss_spki(&rsa, &[])).unwrap()));
    }

    #[test]
    fn parameters_are_one_strict_sequence() {
        let hash = |oid: &str| sequence(&[&hex::decode(oid).unwrap()]);
        let mask = |parts: &[&[u8]]| der(0xa1, &sequence(parts));
        let mgf1 = hex::decode(MGF1).unwrap();
        let good = pss_parameters(SHA256, 32);
        let rsa = test_pair::rsa_key(1024);
        for bad in [
            vec![5, 0],
            der(4, &good),
            der(0x31, &good[2..]),
            [&good[..], &[5, 0]].concat(),
            sequence(&[&good[2..], &[5, 0]]),
            sequence(&[&[5, 0]]),
            sequence(&[&[0xff]]),
            sequence(&[&der(0xa2, &integer(&[32])), &der(0xa0, &hash(SHA256))]),
            sequence(&[&der(0xa0, &[])]),
            sequence(&[&der(0xa0, &hex::decode(SHA256).unwrap())]),
            sequence(&[&der(0xa0, &sequence(&[&hex::decode(SHA256).unwrap(), &integer(&[1])]))]),
            sequence(&[&mask(&[&mgf1])]),
            sequence(&[&mask(&[&mgf1, &[5, 0]])]),
            sequence(&[&mask(&[&hex::decode(SHA256).unwrap(), &hash(SHA256)])]),
            sequence(&[&der(0xa2, &[2, 1, 0xff])]),
            sequence(&[&der(0xa2, &[4, 1, 32])]),
            sequence(&[&der(0xa3, &integer(&[2]))]),
        ] {
            let shown = hex::encode(&bad);
            assert_eq!(
                private(&rsa_pss_pkcs8(&rsa, &bad)).map(drop),
                Err(PrivateKeyError::Malformed),
                "{shown}"
            );
            assert_eq!(
                PublicKey::from_spki(&rsa_pss_spki(&rsa, &bad)),
                Err(PublicKeyError::Malformed),
                "{shown}"
            );
        }
    }

    #[test]
    fn another_hash_is_named() {
        let rsa = test_pair::rsa_key(1024);
        let parameters = pss_parameters("06032a0304", 32);
        let name = "RSA-PSS with hash 1.2.3.4".into();
        assert_eq!(
            PublicKey::from_spki(&rsa_pss_spki(&rsa, &parameters)),
            Err(PublicKeyError::Unsupported(UnsupportedKey::Algorithm { name }))
        );
    }
}
