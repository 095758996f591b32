//! Elliptic-curve private keys.

use openssl::bn::{BigNum, BigNumContext};
use openssl::ec::EcPoint;
use openssl::error::ErrorStack;
use pkcs8::AlgorithmIdentifierRef;
use pkcs8::der::asn1::{AnyRef, BitStringRef, OctetStringRef};
use pkcs8::der::{self, Decode, Reader, SliceReader, TagNumber};

use super::{PrivateKey, PrivateKeyError, pkcs8_form, weakness};
use crate::certificate::finding::KeyFlaw;
use crate::certificate::key_type::{Curve, EC};
use crate::certificate::public_key::PublicKey;

/// Parses an `ECPrivateKey` (RFC 5915 3) in strict DER and wraps it into PKCS#8. `parameters` are the `ECParameters` of the
/// block before it, if there is one.
pub(super) fn read_sec1(der: &[u8], parameters: Option<&[u8]>) -> Result<PrivateKey, PrivateKeyError> {
    let curve = match parameters {
        Some(parameters) => {
            let parameters = AnyRef::from_der(parameters).map_err(|_| PrivateKeyError::Malformed)?;
            Some(Curve::from_parameters(Some(parameters))?)
        }
        None => None,
    };
    let (curve, public) = derive(der, curve)?;
    let oid = curve.oid();
    let algorithm = AlgorithmIdentifierRef {
        oid: EC,
        parameters: Some(AnyRef::from(&oid)),
    };
    PrivateKey::new(pkcs8_form::wrap(algorithm, der)?, public)
}

/// Derives the curve and the public key of an `ECPrivateKey`. `around` is the curve that the surrounding structure names. A
/// curve in the key must be the same. A public key in the key must be the private number times the generator.
pub(super) fn derive(der: &[u8], around: Option<Curve>) -> Result<(Curve, PublicKey), PrivateKeyError> {
    let key = EcPrivateKey::read(der).map_err(|_| PrivateKeyError::Malformed)?;
    let inside = match key.parameters {
        Some(parameters) => Some(Curve::from_parameters(Some(parameters))?),
        None => None,
    };
    let curve = inside.or(around).ok_or(PrivateKeyError::NoCurve)?;
    if around.is_some_and(|around| around != curve) {
        return Err(PrivateKeyError::Inconsistent);
    }
    // The time of the multiplication depends on the length of the number.
    if key.number.len() > MAX_NUMBER_BYTES {
        return Err(PrivateKeyError::Malformed);
    }
    // OpenSSL's arithmetic fails only if memory runs out. A key without proof is refused.
    let derived = generator_times(curve, key.number)
        .ok()
        .flatten()
        .ok_or(PrivateKeyError::Inconsistent)?;
    let point = match key.public {
        Some(stated) => {
            let stated = stated.as_bytes().ok_or(PrivateKeyError::Malformed)?;
            // Points are compared, because encoding the derived point takes as long as deriving it.
            let same = curve
                .decode(stated)
                .filter(|(stated, _)| curve.are_equal(stated, &derived));
            same.map(|(_, uncompressed)| uncompressed)
        }
        None => curve.encode(&derived),
    };
    let point = point.ok_or(PrivateKeyError::Inconsistent)?;
    Ok((curve, PublicKey::Ec { curve, point }))
}

/// The flaw of the number of an `ECPrivateKey` that `derive` accepted.
pub(super) fn flaw(der: &[u8], curve: Curve) -> Option<KeyFlaw> {
    let number = EcPrivateKey::read(der).ok()?.number;
    // OpenSSL's arithmetic fails only if memory runs out.
    if is_near_an_end(curve, number).unwrap_or(false) {
        return Some(KeyFlaw::NumberNearEnd);
    }
    let zeros = number.iter().take_while(|byte| **byte == 0).count();
    weakness::is_pattern(&number[zeros..]).then_some(KeyFlaw::PatternedNumber)
}

/// Whether the number is less than 2^`NEAR_BITS` away from 0 or from the order of the curve.
fn is_near_an_end(curve: Curve, number: &[u8]) -> Result<bool, ErrorStack> {
    let mut order = BigNum::new()?;
    curve.group()?.order(&mut order, &mut *BigNumContext::new()?)?;
    let (mut secret, mut rest) = (BigNum::new_secure()?, BigNum::new_secure()?);
    secret.copy_from_slice(number)?;
    rest.checked_sub(&order, &secret)?;
    Ok(secret.num_bits().min(rest.num_bits()) <= NEAR_BITS)
}

/// Pollard's kangaroo method finds a number in an interval of 2^128 numbers in about 2^65 steps. Fewer than one random number in 2^126 is
/// in it.
const NEAR_BITS: i32 = 128;

/// The length of the longest private number, in octets: P-521 (RFC 5915 3). Numbers of shorter curves may be padded to it.
const MAX_NUMBER_BYTES: usize = 66;

/// `ECPrivateKey` (RFC 5915 3). The parameters are not parsed, because explicit parameters have an error of their own.
struct EcPrivateKey<'a> {
    number: &'a [u8],
    parameters: Option<AnyRef<'a>>,
    public: Option<BitStringRef<'a>>,
}

impl<'a> EcPrivateKey<'a> {
    fn read(der: &'a [u8]) -> der::Result<Self> {
        let mut reader = SliceReader::new(der)?;
        let key = reader.sequence(|fields| {
            if u8::decode(fields)? != 1 {
                return Err(fields.error(der::Tag::Integer.value_error()));
            }
            Ok(Self {
                number: <&OctetStringRef>::decode(fields)?.as_bytes(),
                parameters: explicit(fields, 0)?,
                public: explicit(fields, 1)?.map(AnyRef::decode_as).transpose()?,
            })
        })?;
        reader.finish()?;
        Ok(key)
    }
}

/// The content of an optional field tagged `[number]` EXPLICIT.
fn explicit<'a>(fields: &mut SliceReader<'a>, number: u32) -> der::Result<Option<AnyRef<'a>>> {
    let tag = der::Tag::ContextSpecific {
        constructed: true,
        number: TagNumber(number),
    };
    if fields.is_finished() || der::Tag::peek(fields)? != tag {
        return Ok(None);
    }
    AnyRef::from_der(AnyRef::decode(fields)?.value()).map(Some)
}

/// Multiplies the generator with the number. `None`: the number is not between 0 and the order of the curve.
fn generator_times(curve: Curve, number: &[u8]) -> Result<Option<EcPoint>, ErrorStack> {
    let group = curve.group()?;
    let mut context = BigNumContext::new_secure()?;
    let mut order = BigNum::new()?;
    group.order(&mut order, &mut context)?;
    let mut secret = BigNum::new_secure()?;
    secret.copy_from_slice(number)?;
    secret.set_const_time();
    if secret.num_bits() == 0 || secret >= order {
        return Ok(None);
    }
    let mut point = EcPoint::new(group)?;
    point.mul_generator2(group, &secret, &mut context)?;
    Ok(Some(point))
}

#[cfg(test)]
mod tests {
    use openssl::nid::Nid;
    use pkcs8::der::Encode;

    use super::*;
    use crate::certificate::UnsupportedKey;
    use crate::certificate::test_pair::{der, ec_key, integer, sequence};

    struct Key {
        number: Vec<u8>,
        point: Vec<u8>,
    }

    fn key() -> Key {
        let key = ec_key(Nid::X9_62_PRIME256V1).ec_key().unwrap();
        let number = key.private_key().to_vec_padded(32).unwrap();
        Key {
            point: Curve::P256
                .encode(&generator_times(Curve::P256, &number).unwrap().unwrap())
                .unwrap(),
            number,
        }
    }

    fn p256() -> Vec<u8> {
        Curve::P256.oid().to_der().unwrap()
    }

    fn encode(number: &[u8], parameters: Option<&[u8]>, point: Option<&[u8]>) -> Vec<u8> {
        let parameters = parameters.map(|parameters| der(0xa0, parameters)).unwrap_or_default();
        let point = point
            .map(|point| der(0xa1, &der(3, &[&[0], point].concat())))
            .unwrap_or_default();
        sequence(&[&integer(&[1]), &der(4, number), &parameters, &point])
    }

    fn outcome(der: &[u8], around: Option<Curve>) -> Result<Vec<u8>, PrivateKeyError> {
        derive(der, around).map(|(_, public)| match public {
            PublicKey::Ec { point, .. } => point,
            other => panic!("{other:?}"),
        })
    }

    #[test]
    fn the_curve_may_stand_inside_or_around() {
        let Key { number, point } = key();
        let (bare, named) = (
            encode(&number, None, None),
            encode(&number, Some(&p256()), Some(&point)),
        );
        assert_eq!(outcome(&bare, Some(Curve::P256)), Ok(point.clone()));
        assert_eq!(outcome(&named, None), Ok(point.clone()));
        assert_eq!(outcome(&named, Some(Curve::P256)), Ok(point));
        assert_eq!(outcome(&named, Some(Curve::P384)), Err(PrivateKeyError::Inconsistent));
        assert_eq!(outcome(&bare, None), Err(PrivateKeyError::NoCurve));
    }

    #[test]
    fn the_public_key_inside_must_be_the_derived_one() {
        let (mine, other) = (key(), key());
        let mut off_curve = mine.point.clone();
        off_curve[64] ^= 1;
        for wrong in [&other.point[..], &off_curve, &[0], &[]] {
            let der = encode(&mine.number, Some(&p256()), Some(wrong));
            assert_eq!(outcome(&der, None), Err(PrivateKeyError::Inconsistent));
        }
        let compressed = [&[2 + (mine.point[64] & 1)], &mine.point[1..33]].concat();
        assert_eq!(
            outcome(&encode(&mine.number, Some(&p256()), Some(&compressed)), None),
            Ok(mine.point)
        );
    }

    #[test]
    fn the_number_is_between_zero_and_the_order() {
        let order = hex::decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551").unwrap();
        let mut largest = order.clone();
        largest[31] -= 1;
        for (number, sound) in [
            (&[][..], false),
            (&[0; 32], false),
            (&order, false),
            (&[0xff; 32], false),
            (&[0xff; 66], false),
            (&largest, true),
            (&[1], true),
            (&[&[0; 34], &largest[..]].concat(), true),
        ] {
            assert_eq!(
                outcome(&encode(number, None, None), Some(Curve::P256)).is_ok(),
                sound,
                "{number:?}"
            );
        }
        let long = encode(&[0; 67], None, None);
        assert_eq!(outcome(&long, Some(Curve::P256)), Err(PrivateKeyError::Malformed));
    }

    #[test]
    fn a_number_next_to_an_end_or_with_a_pattern_is_a_flaw() {
        for (curve, nid, bytes) in [
            (Curve::P256, Nid::X9_62_PRIME256V1, 32),
            (Curve::P384, Nid::SECP384R1, 48),
            (Curve::P521, Nid::SECP521R1, 66),
            (Curve::Secp256k1, Nid::SECP256K1, 32),
        ] {
            let mut context = BigNumContext::new().unwrap();
            let mut order = BigNum::new().unwrap();
            curve.group().unwrap().order(&mut order, &mut context).unwrap();
            let found = |number: &BigNum| {
                let number = number.to_vec_padded(bytes).unwrap();
                assert!(generator_times(curve, &number).unwrap().is_some());
                flaw(&encode(&number, None, None), curve)
            };
            let power = |bits: i32| {
                let mut power = BigNum::new().unwrap();
                power.set_bit(bits).unwrap();
                power
            };
            for distance in [power(0), power(32), power(127)] {
                assert_eq!(found(&distance), Some(KeyFlaw::NumberNearEnd));
                assert_eq!(found(&(&order - &distance)), Some(KeyFlaw::NumberNearEnd));
            }
            for distance in [power(128), power(200)] {
                assert_eq!(found(&(&distance + &power(3))), None);
                assert_eq!(found(&(&order - &distance)), None);
            }
            let pattern = BigNum::from_slice(&vec![0x42; order.num_bytes().unsigned_abs() as usize - 1]).unwrap();
            assert_eq!(found(&pattern), Some(KeyFlaw::PatternedNumber));
            let number = ec_key(nid).ec_key().unwrap();
            assert_eq!(found(&number.private_key().to_owned().unwrap()), None);
        }
    }

    #[test]
    fn framing_is_strict() {
        let Key { number, point } = key();
        let good = encode(&number, Some(&p256()), Some(&point));
        for bad in [
            [&good[..], &[0]].concat(),
            good[..good.len() - 1].to_vec(),
            sequence(&[&good[2..], &[5, 0]]),
            sequence(&[&integer(&[2]), &der(4, &number), &der(0xa0, &p256())]),
            sequence(&[&integer(&[1]), &der(4, &number), &der(0xa0, &[p256(), p256()].concat())]),
            sequence(&[
                &integer(&[1]),
                &der(4, &number),
                &der(0xa0, &p256()),
                &der(0xa1, &der(4, &point)),
            ]),
            sequence(&[
                &integer(&[1]),
                &der(4, &number),
                &der(0xa0, &p256()),
                &der(0xa1, &der(3, &[1, 2])),
            ]),
            sequence(&[&integer(&[1]), &der(4, &number), &der(0xa0, &[5, 0])]),
            vec![],
        ] {
            assert_eq!(
                outcome(&bad, None),
                Err(PrivateKeyError::Malformed),
                "{}",
                hex::encode(bad)
            );
        }
    }

    #[test]
    fn other_curves_are_named() {
        let unsupported = |key| Err(PrivateKeyError::Unsupported(key));
        let number = [1; 32];
        for (oid, name) in [
            ("1.3.132.0.33", "P-224"),
            ("1.3.36.3.3.2.8.1.1.7", "brainpoolP256r1"),
            ("1.2.156.10197.1.301", "SM2"),
            ("1.2.3.4", "1.2.3.4"),
        ] {
            let oid = pkcs8::ObjectIdentifier::new_unwrap(oid).to_der().unwrap();
            assert_eq!(
                outcome(&encode(&number, Some(&oid), None), None),
                unsupported(UnsupportedKey::Curve { name: name.into() })
            );
        }
        let explicit = sequence(&[&integer(&[1])]);
        assert_eq!(
            outcome(&encode(&number, Some(&explicit), None), None),
            unsupported(UnsupportedKey::ExplicitCurve)
        );
    }
}
