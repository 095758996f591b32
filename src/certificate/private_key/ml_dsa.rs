//! ML-DSA private keys (FIPS 204).

use openssl::pkey::{PKey, Private};
use pkcs8::AlgorithmIdentifierRef;
use pkcs8::der::asn1::{AnyRef, OctetStringRef};
use pkcs8::der::{self, Decode, Reader, SliceReader, TagNumber, Tagged};
use zeroize::Zeroizing;

use super::{Derived, MlDsaForm, PrivateKeyError, pkcs8_form};
use crate::certificate::key_type::MlDsa;
use crate::certificate::public_key::PublicKey;
use crate::certificate::unsupported_key::UnsupportedKey;
use crate::digest;

/// The length of a seed (FIPS 204 6.1).
const SEED_BYTES: usize = 32;
/// The tag of a seed: `[0] IMPLICIT OCTET STRING`.
const SEED_TAG: der::Tag = der::Tag::ContextSpecific {
    constructed: false,
    number: TagNumber(0),
};
/// OpenSSL 3.5 is the first version with ML-DSA.
const OPENSSL_VERSION: i64 = 0x3050_0000;

/// An `ML-DSA-PrivateKey` (RFC 9881 6): a CHOICE.
enum Form<'a> {
    Seed(&'a [u8]),
    Expanded(&'a [u8]),
    Both { seed: &'a [u8], expanded: &'a [u8] },
}

/// Derives the public key of an `ML-DSA-PrivateKey`. If it has a seed and an expanded key, they must agree.
pub(super) fn derive(body: &[u8], set: MlDsa) -> Derived {
    if openssl::version::number() < OPENSSL_VERSION {
        return Err(PrivateKeyError::Unsupported(UnsupportedKey::algorithm(set.oid())));
    }
    let form = Form::read(body, set).ok_or_else(|| error(body, set))?;
    let key = match form {
        Form::Seed(seed) | Form::Both { seed, .. } => open(set, &tagged(0x80, seed))?,
        Form::Expanded(_) => open(set, body)?,
    };
    if let Form::Both { expanded, .. } = form {
        let derived = key.raw_private_key().map_err(|_| PrivateKeyError::Inconsistent)?;
        if !digest::constant_time_eq(&Zeroizing::new(derived), expanded) {
            return Err(PrivateKeyError::Inconsistent);
        }
    }
    let bytes = key.raw_public_key().map_err(|_| PrivateKeyError::Inconsistent)?;
    Ok(PublicKey::MlDsa { set, bytes })
}

/// What is wrong with a body that is not an `ML-DSA-PrivateKey`. Software from before RFC 9881 wrote the bytes without a tag, or the seed as
/// an OCTET STRING.
fn error(body: &[u8], set: MlDsa) -> PrivateKeyError {
    let expanded = set.private_key_bytes();
    let form = match body.len() {
        SEED_BYTES => MlDsaForm::BareSeed,
        bytes if bytes == expanded => MlDsaForm::BareExpandedKey,
        bytes if bytes == SEED_BYTES + expanded => MlDsaForm::BareSeedAndExpandedKey,
        _ if matches!(<&OctetStringRef>::from_der(body), Ok(seed) if seed.as_bytes().len() == SEED_BYTES) => {
            MlDsaForm::SeedAsOctetString
        }
        _ => return PrivateKeyError::Malformed,
    };
    PrivateKeyError::MlDsaForm(form)
}

/// The seed of an `ML-DSA-PrivateKey`, if it has one.
pub(super) fn seed(body: &[u8], set: MlDsa) -> Option<&[u8]> {
    match Form::read(body, set)? {
        Form::Seed(seed) | Form::Both { seed, .. } => Some(seed),
        Form::Expanded(_) => None,
    }
}

impl<'a> Form<'a> {
    /// Parses strict DER. The lengths must be those of the parameter set (FIPS 204, table 2).
    fn read(der: &'a [u8], set: MlDsa) -> Option<Self> {
        let any = AnyRef::from_der(der).ok()?;
        let form = match any.tag() {
            SEED_TAG => Self::Seed(any.value()),
            der::Tag::OctetString => Self::Expanded(any.value()),
            der::Tag::Sequence => {
                let mut fields = SliceReader::new(any.value()).ok()?;
                let seed = <&OctetStringRef>::decode(&mut fields).ok()?.as_bytes();
                let expanded = <&OctetStringRef>::decode(&mut fields).ok()?.as_bytes();
                fields.finish().ok()?;
                Self::Both { seed, expanded }
            }
            _ => return None,
        };
        let (seed, expanded) = match &form {
            Self::Seed(seed) => (Some(seed.len()), None),
            Self::Expanded(expanded) => (None, Some(expanded.len())),
            Self::Both { seed, expanded } => (Some(seed.len()), Some(expanded.len())),
        };
        let fits =
            seed.is_none_or(|len| len == SEED_BYTES) && expanded.is_none_or(|len| len == set.private_key_bytes());
        fits.then_some(form)
    }
}

/// Loads the key with OpenSSL. OpenSSL refuses an expanded key with parts that contradict each other.
fn open(set: MlDsa, body: &[u8]) -> Result<PKey<Private>, PrivateKeyError> {
    let algorithm = AlgorithmIdentifierRef {
        oid: set.oid(),
        parameters: None,
    };
    let pkcs8 = pkcs8_form::wrap(algorithm, body)?;
    PKey::private_key_from_pkcs8(pkcs8.expose()).map_err(|_| PrivateKeyError::Inconsistent)
}

/// The DER of a seed with this tag.
fn tagged(tag: u8, seed: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut der = Zeroizing::new(Vec::with_capacity(seed.len() + 2));
    der.extend([tag, SEED_BYTES as u8]);
    der.extend_from_slice(seed);
    der
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::test_pair::{der, ml_dsa_key, sequence};

    struct Key {
        seed: Vec<u8>,
        expanded: Vec<u8>,
        public: Vec<u8>,
    }

    fn key(set: MlDsa) -> Key {
        let (key, seed) = ml_dsa_key(set);
        Key {
            seed,
            expanded: key.raw_private_key().unwrap(),
            public: key.raw_public_key().unwrap(),
        }
    }

    #[test]
    fn every_form_gives_the_public_key() {
        for set in MlDsa::ALL {
            let Key { seed, expanded, public } = key(set);
            for form in [
                der(0x80, &seed),
                der(4, &expanded),
                sequence(&[&der(4, &seed), &der(4, &expanded)]),
            ] {
                let bytes = public.clone();
                assert_eq!(derive(&form, set), Ok(PublicKey::MlDsa { set, bytes }));
            }
        }
    }

    #[test]
    fn seed_and_expanded_key_must_agree() {
        for set in MlDsa::ALL {
            let (mine, other) = (key(set), key(set));
            let both = sequence(&[&der(4, &mine.seed), &der(4, &other.expanded)]);
            assert_eq!(derive(&both, set), Err(PrivateKeyError::Inconsistent));
            let mut broken = mine.expanded.clone();
            *broken.last_mut().unwrap() ^= 1;
            let both = sequence(&[&der(4, &mine.seed), &der(4, &broken)]);
            assert_eq!(derive(&both, set), Err(PrivateKeyError::Inconsistent));
        }
    }

    #[test]
    fn an_expanded_key_is_consistent_in_itself() {
        let set = MlDsa::MlDsa44;
        let good = key(set).expanded;
        // rho, K, tr, s1, s2 and t0 (FIPS 204, algorithm 24); K alone is nothing that the rest tells.
        for place in [0, 64, 127, 130, 600, good.len() - 1] {
            let mut bad = good.clone();
            bad[place] ^= 1;
            assert_eq!(
                derive(&der(4, &bad), set),
                Err(PrivateKeyError::Inconsistent),
                "byte {place}"
            );
        }
    }

    #[test]
    fn bytes_without_their_tag_are_named() {
        for set in MlDsa::ALL {
            let Key { seed, expanded, .. } = key(set);
            for (body, form) in [
                (seed.clone(), MlDsaForm::BareSeed),
                (expanded.clone(), MlDsaForm::BareExpandedKey),
                ([&seed[..], &expanded].concat(), MlDsaForm::BareSeedAndExpandedKey),
                (der(4, &seed), MlDsaForm::SeedAsOctetString),
            ] {
                assert_eq!(derive(&body, set), Err(PrivateKeyError::MlDsaForm(form)));
            }
        }
    }

    #[test]
    fn other_forms_are_refused() {
        let set = MlDsa::MlDsa44;
        let Key { seed, expanded, .. } = key(set);
        let good = der(0x80, &seed);
        for bad in [
            der(0x80, &seed[1..]),
            der(0xa0, &der(4, &seed)),
            der(0x80, &expanded),
            der(4, &expanded[1..]),
            seed[1..].to_vec(),
            [&good[..], &[0]].concat(),
            sequence(&[&der(4, &seed)]),
            sequence(&[&der(4, &expanded), &der(4, &seed)]),
            sequence(&[&good, &der(4, &expanded)]),
            sequence(&[&der(4, &seed), &der(4, &expanded), &der(5, &[])]),
            vec![],
        ] {
            assert_eq!(derive(&bad, set), Err(PrivateKeyError::Malformed));
        }
        assert_eq!(
            derive(&der(4, &expanded), MlDsa::MlDsa65),
            Err(PrivateKeyError::Malformed)
        );
    }
}
