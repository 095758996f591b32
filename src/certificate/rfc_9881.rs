//! The example keys of RFC 9881, Appendix C, from the text that a caller sends to the stored key.

use openssl::pkey::{PKey, Private, Public};
use pkcs8::der::Encode;

use super::key_type::MlDsa;
use super::test_pair::{self, AT, der, integer, pem, sequence};
use super::{Authorities, FindingCode, FindingKind, PairError, Policy, PrivateKeyError, UnverifiedPair, VerifiedPair};
use crate::secret::Secret;

struct Example {
    set: MlDsa,
    algorithm: &'static str,
    seed_pem: &'static [u8],
    public_pem: &'static [u8],
}

macro_rules! example {
    ($set:ident, $algorithm:literal) => {
        Example {
            set: MlDsa::$set,
            algorithm: $algorithm,
            seed_pem: include_bytes!(concat!("../../tests/data/rfc9881/", $algorithm, "-seed.priv")),
            public_pem: include_bytes!(concat!("../../tests/data/rfc9881/", $algorithm, ".pub")),
        }
    };
}

const EXAMPLES: [Example; 3] = [
    example!(MlDsa44, "ML-DSA-44"),
    example!(MlDsa65, "ML-DSA-65"),
    example!(MlDsa87, "ML-DSA-87"),
];

impl Example {
    fn key(&self) -> PKey<Private> {
        PKey::private_key_from_pem(self.seed_pem).unwrap()
    }

    fn public(&self) -> PKey<Public> {
        PKey::public_key_from_pem(self.public_pem).unwrap()
    }

    fn seed(&self) -> Vec<u8> {
        (0..32).collect()
    }

    fn expanded(&self) -> Vec<u8> {
        self.key().raw_private_key().unwrap()
    }

    /// A PKCS#8 of this `ML-DSA-PrivateKey` (RFC 9881 6).
    fn pkcs8(&self, body: &[u8]) -> Vec<u8> {
        let algorithm = sequence(&[&self.set.oid().to_der().unwrap()]);
        sequence(&[&integer(&[]), &algorithm, &der(4, body)])
    }

    /// Verifies a private key with a certificate for the public key of the RFC.
    fn verify_by(&self, policy: &Policy, key_pem: &[u8]) -> Result<VerifiedPair, PairError> {
        let mut builder = test_pair::builder(&self.key());
        builder.set_pubkey(&self.public()).unwrap();
        let certificate = test_pair::sign(builder, &self.key()).to_pem().unwrap();
        UnverifiedPair::read(&certificate, &Secret::from(key_pem.to_vec())).verify(AT, policy, &Authorities::default())
    }

    /// Verifies a private key under a policy that accepts published keys.
    fn verify(&self, key_pem: &[u8]) -> Result<VerifiedPair, Option<PrivateKeyError>> {
        let policy = "default,KEY_COMPROMISED=report,KEY_FACTORABLE=report".parse().unwrap();
        self.verify_by(&policy, key_pem).map_err(|error| error.private_key)
    }

    /// The position of the coefficients of s1: after rho, K and tr (FIPS 204, algorithm 24).
    fn s1(&self) -> usize {
        32 + 32 + 64
    }

    /// The position of the coefficients of t0. They are the end of the key and take 416 bytes for each row of the
    /// matrix.
    fn t0(&self) -> usize {
        let rows = match self.set {
            MlDsa::MlDsa44 => 4,
            MlDsa::MlDsa65 => 6,
            MlDsa::MlDsa87 => 8,
        };
        self.set.private_key_bytes() - 416 * rows
    }
}

#[test]
fn the_seed_is_read_and_stored_byte_for_byte() {
    for example in EXAMPLES {
        let block = super::pem::blocks(example.seed_pem).next().unwrap().unwrap();
        let given = block.decode().unwrap();
        assert_eq!(*given, example.pkcs8(&der(0x80, &example.seed())));

        let pair = example.verify(example.seed_pem).unwrap();
        assert_eq!(pair.private_key().pkcs8_der().expose(), *given);
        let facts = pair.certificate().facts();
        assert_eq!(facts.key_algorithm.as_str(), example.algorithm);
        assert_eq!(facts.key_size as usize, 8 * example.set.public_key_bytes());
    }
}

#[test]
fn the_public_key_follows_from_every_form_of_the_private_one() {
    for example in EXAMPLES {
        let expanded = example.expanded();
        for body in [
            der(0x80, &example.seed()),
            der(4, &expanded),
            sequence(&[&der(4, &example.seed()), &der(4, &expanded)]),
        ] {
            let pkcs8 = example.pkcs8(&body);
            let pair = example.verify(&pem("PRIVATE KEY", &pkcs8)).unwrap();
            assert_eq!(pair.private_key().pkcs8_der().expose(), pkcs8);
        }
    }
}

#[test]
fn a_published_key_is_refused_by_default() {
    for example in EXAMPLES {
        let error = example.verify_by(&Policy::default(), example.seed_pem).unwrap_err();
        assert_eq!(
            (error.private_key, &error.rejected[..]),
            // The seeds count from 0.
            (None, &[FindingCode::KeyCompromised, FindingCode::KeyFactorable][..])
        );
        let path = format!("tests/examples/{}-seed.priv", example.algorithm);
        let source = format!("crate ml-dsa 0.1.2, {path}");
        assert_eq!(
            error.findings[0].kind,
            FindingKind::KeyCompromised {
                source: super::CompromisedKey::Package(source)
            }
        );
    }
}

/// The same errors as in the bad keys of RFC 9881, Appendix C.4.
#[test]
fn inconsistent_keys_are_refused() {
    for example in EXAMPLES {
        let (expanded, seed) = (example.expanded(), der(4, &example.seed()));
        let (other, other_seed) = test_pair::ml_dsa_key(example.set);
        let other = other.raw_private_key().unwrap();
        let (tr, s1, t0) = (64, example.s1(), example.t0());
        let damaged = |place: usize, byte: u8| {
            let mut damaged = expanded.clone();
            damaged[place] ^= byte;
            damaged
        };
        // No coefficient of s1 has all bits set, because this value is beyond eta (FIPS 204, algorithm 25).
        let beyond_eta = {
            let mut damaged = expanded.clone();
            damaged[s1] = 0xff;
            damaged
        };
        for (what, body) in [
            (
                "the seed of one, the rest of another",
                sequence(&[&seed, &der(4, &other)]),
            ),
            (
                "the other way round",
                sequence(&[&der(4, &other_seed), &der(4, &expanded)]),
            ),
            ("tr", der(4, &damaged(tr, 1))),
            ("s1", der(4, &damaged(s1, 1))),
            ("s1 beyond eta", der(4, &beyond_eta)),
            ("t0", der(4, &damaged(t0, 1))),
            ("tr beside the seed", sequence(&[&seed, &der(4, &damaged(tr, 1))])),
            ("s1 beside the seed", sequence(&[&seed, &der(4, &damaged(s1, 1))])),
            ("t0 beside the seed", sequence(&[&seed, &der(4, &damaged(t0, 1))])),
        ] {
            let refused = example.verify(&pem("PRIVATE KEY", &example.pkcs8(&body)));
            assert_eq!(
                refused.map(drop),
                Err(Some(PrivateKeyError::Inconsistent)),
                "{}: {what}",
                example.algorithm
            );
        }
    }
}
