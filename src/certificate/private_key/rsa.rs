//! RSA private keys.

use openssl::bn::{BigNum, BigNumContext};
use openssl::error::ErrorStack;
use pkcs1::{RsaPrivateKeyRef, UintRef};
use pkcs8::der::Decode;

use super::{Derived, PrivateKey, PrivateKeyError, pkcs8_form};
use crate::certificate::UnsupportedKey;
use crate::certificate::public_key::PublicKey;
use crate::certificate::rsa_scheme::RsaScheme;

/// Parses an `RSAPrivateKey` (RFC 8017 A.1.2) in strict DER and wraps it into PKCS#8.
pub(super) fn read_pkcs1(der: &[u8]) -> Result<PrivateKey, PrivateKeyError> {
    let public = derive(der, RsaScheme::Any)?;
    PrivateKey::new(pkcs8_form::wrap(pkcs8_form::RSA_ALGORITHM, der)?, public)
}

/// Derives the public key of an `RSAPrivateKey`. Its parts must belong together.
pub(super) fn derive(der: &[u8], scheme: RsaScheme) -> Derived {
    let key = RsaPrivateKeyRef::from_der(der).map_err(|_| PrivateKeyError::Malformed)?;
    if key.other_prime_infos.is_some() {
        return Err(PrivateKeyError::Unsupported(UnsupportedKey::MultiPrimeRsa));
    }
    let public = PublicKey::from_rsa(key.modulus, key.public_exponent, scheme)?;
    let longest = key.modulus.as_bytes().len();
    let parts = [
        key.private_exponent,
        key.prime1,
        key.prime2,
        key.exponent1,
        key.exponent2,
        key.coefficient,
    ];
    // The time of the arithmetic grows with the square of the length.
    if parts.iter().any(|part| part.as_bytes().len() > longest) {
        return Err(PrivateKeyError::Inconsistent);
    }
    // OpenSSL's arithmetic fails only if memory runs out. A key without proof is refused.
    if !parts_agree(&key).unwrap_or(false) {
        return Err(PrivateKeyError::Inconsistent);
    }
    Ok(public)
}

/// Whether the parts are those of RFC 8017 3.2: n = p q, e d = 1 modulo p-1 and q-1, dP = d mod p-1, dQ = d mod q-1, and
/// qInv q = 1 modulo p, with odd p and q.
fn parts_agree(key: &RsaPrivateKeyRef<'_>) -> Result<bool, ErrorStack> {
    let mut context = BigNumContext::new_secure()?;
    let (n, e, d) = (
        secret(key.modulus)?,
        secret(key.public_exponent)?,
        secret(key.private_exponent)?,
    );
    let (p, q, coefficient) = (secret(key.prime1)?, secret(key.prime2)?, secret(key.coefficient)?);
    let one = BigNum::from_u32(1)?;
    if p <= one || q <= one || p.is_even() || q.is_even() || coefficient >= p {
        return Ok(false);
    }

    let mut product = BigNum::new_secure()?;
    product.checked_mul(&p, &q, &mut context)?;
    if product != n {
        return Ok(false);
    }

    product.checked_mul(&e, &d, &mut context)?;
    let mut remainder = BigNum::new_secure()?;
    for (prime, exponent) in [(&p, key.exponent1), (&q, key.exponent2)] {
        let mut order = BigNum::new_secure()?;
        order.checked_sub(prime, &one)?;
        order.set_const_time();
        remainder.nnmod(&product, &order, &mut context)?;
        if remainder != one {
            return Ok(false);
        }
        remainder.nnmod(&d, &order, &mut context)?;
        if remainder != secret(exponent)? {
            return Ok(false);
        }
    }

    product.checked_mul(&coefficient, &q, &mut context)?;
    remainder.nnmod(&product, &p, &mut context)?;
    Ok(remainder == one)
}

/// A number in memory that OpenSSL wipes. OpenSSL computes with it in constant time.
fn secret(number: UintRef<'_>) -> Result<BigNum, ErrorStack> {
    let mut secret = BigNum::new_secure()?;
    secret.copy_from_slice(number.as_bytes())?;
    secret.set_const_time();
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use openssl::rsa::Rsa;

    use super::*;
    use crate::certificate::test_pair::{der, integer, rsa_key, sequence};

    /// The numbers of an `RSAPrivateKey`: n, e, d, p, q, dP, dQ, qInv.
    fn numbers() -> [Vec<u8>; 8] {
        let key = Rsa::generate(1024).unwrap();
        let number = |number: Option<&openssl::bn::BigNumRef>| number.unwrap().to_vec();
        [
            key.n().to_vec(),
            key.e().to_vec(),
            key.d().to_vec(),
            number(key.p()),
            number(key.q()),
            number(key.dmp1()),
            number(key.dmq1()),
            number(key.iqmp()),
        ]
    }

    fn encode(numbers: &[Vec<u8>; 8]) -> Vec<u8> {
        let numbers = numbers.iter().flat_map(|number| integer(number));
        der(0x30, &[integer(&[]), numbers.collect()].concat())
    }

    fn outcome(der: &[u8]) -> Result<(), PrivateKeyError> {
        derive(der, RsaScheme::Any).map(drop)
    }

    #[test]
    fn a_sound_key_is_read() {
        let numbers = numbers();
        let (modulus, exponent) = (numbers[0].clone(), numbers[1].clone());
        let scheme = RsaScheme::Any;
        assert_eq!(
            derive(&encode(&numbers), scheme),
            Ok(PublicKey::Rsa {
                modulus,
                exponent,
                scheme
            })
        );
    }

    #[test]
    fn the_primes_may_stand_in_either_order() {
        let [n, e, d, p, q, dp, dq, _] = numbers();
        let number = |bytes: &[u8]| BigNum::from_slice(bytes).unwrap();
        let mut inverse = BigNum::new().unwrap();
        inverse
            .mod_inverse(&number(&p), &number(&q), &mut BigNumContext::new().unwrap())
            .unwrap();
        assert_eq!(outcome(&encode(&[n, e, d, q, p, dq, dp, inverse.to_vec()])), Ok(()));
    }

    #[test]
    fn every_number_is_proved() {
        let good = numbers();
        for index in 0..8 {
            for number in [vec![], vec![1], vec![2], vec![3], vec![0xff; 128]] {
                let mut bad = good.clone();
                bad[index] = number;
                let expected = match (index, bad[0].len()) {
                    (0, ..128) => Err(PrivateKeyError::Unsupported(UnsupportedKey::RsaSize {
                        bits: bad[0].first().map_or(0, |first| 8 - first.leading_zeros()),
                    })),
                    _ => Err(PrivateKeyError::Inconsistent),
                };
                assert_eq!(outcome(&encode(&bad)), expected, "number {index} is {:?}", bad[index]);
            }
            let mut bad = good.clone();
            *bad[index].last_mut().unwrap() ^= 2;
            assert_eq!(
                outcome(&encode(&bad)),
                Err(PrivateKeyError::Inconsistent),
                "number {index}"
            );
        }
        let mut long = good;
        long[2] = vec![1; 129];
        assert_eq!(outcome(&encode(&long)), Err(PrivateKeyError::Inconsistent));
    }

    #[test]
    fn one_prime_cannot_be_one() {
        let [n, e, d, _, _, dp, _, _] = numbers();
        let bad = [n.clone(), e, d, vec![1], n, dp, vec![], vec![]];
        assert_eq!(outcome(&encode(&bad)), Err(PrivateKeyError::Inconsistent));
    }

    #[test]
    fn framing_is_strict() {
        let good = rsa_key(1024).rsa().unwrap().private_key_to_der().unwrap();
        let content = &good[4..];
        let negative_modulus = {
            let mut der = good.clone();
            // Version 3 bytes, then the modulus: tag, two bytes of length, and the zero that keeps it positive.
            assert_eq!(der[7..11], [2, 0x81, 0x81, 0]);
            der[10] = 0x80;
            der
        };
        for bad in [
            [&good[..], &[0]].concat(),
            good[..good.len() - 1].to_vec(),
            sequence(&[content, &[5, 0]]),
            [&[0x30, 0x83, 0], &good[2..]].concat(),
            negative_modulus,
            vec![],
        ] {
            assert_eq!(outcome(&bad), Err(PrivateKeyError::Malformed));
        }
    }

    #[test]
    fn more_than_two_primes_are_not_supported() {
        let numbers = numbers().iter().flat_map(|number| integer(number)).collect::<Vec<_>>();
        let third = sequence(&[&sequence(&[&integer(&[3]), &integer(&[1]), &integer(&[1])])]);
        let multi_prime = sequence(&[&integer(&[1]), &numbers, &third]);
        assert_eq!(
            outcome(&multi_prime),
            Err(PrivateKeyError::Unsupported(UnsupportedKey::MultiPrimeRsa))
        );
    }
}
