//! Weaknesses of a key that its private parts show.

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::error::ErrorStack;
use pkcs1::{RsaPrivateKeyRef, UintRef};
use pkcs8::PrivateKeyInfoRef;
use pkcs8::der::Decode;

use super::{ec, edwards, ml_dsa};
use crate::certificate::factors;
use crate::certificate::finding::KeyFlaw;
use crate::certificate::key_type::KeyType;

/// The difference of the primes must exceed 2^(bits / 2 - 100) (FIPS 186-5 A.1.3). Fermat's method finds closer primes.
const CLOSE_BITS: i32 = 100;
/// Fermat's method with a multiplier finds primes p and q if a p is close to b q (Lehman, "Factoring Large Integers", 1974). The largest
/// a and b.
const MAX_MULTIPLE: u32 = 16;
/// The primes can be computed if they share about half of their bits (Steinfeld and Zheng, "An Advantage of Low-Exponent RSA with
/// Modulus Primes Sharing Least Significant Bits", 2001). Each missing bit doubles the work.
const GUESSED_BITS: i32 = 64;
/// Lattices find a private exponent below n^0.292 (Boneh and Durfee, "Cryptanalysis of RSA with private key d less than
/// N^0.292", 1999). In thousandths.
const SMALL_EXPONENT: i32 = 292;
/// The largest modulus whose primes are tested, if none is longer than half of it. Longer primes take too long.
const MAX_TESTED_BITS: i32 = 6144;
/// A block of so many bytes that fills a secret by repetition is a pattern.
const MAX_PERIOD: usize = 8;

/// The weaknesses of a key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::certificate) struct Weaknesses {
    /// The primes of the RSA key are close to each other.
    pub(in crate::certificate) close_primes: bool,
    /// The private exponent of the RSA key is small.
    pub(in crate::certificate) small_private_exponent: bool,
    /// A prime of the RSA key is published, because other keys share it.
    pub(in crate::certificate) shared_prime: bool,
    /// Another flaw.
    pub(in crate::certificate) flaw: Option<KeyFlaw>,
}

/// The weaknesses of a key in PKCS#8.
pub(super) fn of(pkcs8: &[u8]) -> Weaknesses {
    let Ok(key) = PrivateKeyInfoRef::from_der(pkcs8) else {
        return Weaknesses::default();
    };
    let body = key.private_key.as_bytes();
    // OpenSSL's arithmetic fails only if memory runs out.
    let flaw = match KeyType::of(key.algorithm) {
        Ok(KeyType::Rsa(_)) => {
            let key = RsaPrivateKeyRef::from_der(body).ok();
            return key.and_then(|key| of_rsa(&key).ok()).unwrap_or_default();
        }
        Ok(KeyType::Ec(curve)) => ec::flaw(body, curve),
        Ok(KeyType::Edwards(_)) => edwards::seed(body)
            .is_some_and(is_pattern)
            .then_some(KeyFlaw::PatternedSeed),
        Ok(KeyType::MlDsa(set)) => ml_dsa::seed(body, set)
            .is_some_and(is_pattern)
            .then_some(KeyFlaw::PatternedSeed),
        Err(_) => None,
    };
    Weaknesses {
        flaw,
        ..Weaknesses::default()
    }
}

/// Whether both factors of an RSA key are prime (RFC 8017 3.2). Other keys, keys of more than `MAX_TESTED_BITS`, and factors of more than half of
/// `MAX_TESTED_BITS` pass. Such a factor is longer than the other, which is a flaw of its own.
pub(super) fn has_prime_factors(pkcs8: &[u8]) -> bool {
    let Ok(key) = PrivateKeyInfoRef::from_der(pkcs8) else {
        return true;
    };
    if !matches!(KeyType::of(key.algorithm), Ok(KeyType::Rsa(_))) {
        return true;
    }
    let key = RsaPrivateKeyRef::from_der(key.private_key.as_bytes());
    // OpenSSL's arithmetic fails only if memory runs out. A key without proof is refused.
    key.is_ok_and(|key| are_prime(&key).unwrap_or(false))
}

fn are_prime(key: &RsaPrivateKeyRef<'_>) -> Result<bool, ErrorStack> {
    if secret(key.modulus)?.num_bits() > MAX_TESTED_BITS {
        return Ok(true);
    }
    for factor in [key.prime1, key.prime2] {
        let factor = secret(factor)?;
        if factor.num_bits() <= MAX_TESTED_BITS / 2 && !factors::is_probable_prime(&factor)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn of_rsa(key: &RsaPrivateKeyRef<'_>) -> Result<Weaknesses, ErrorStack> {
    let modulus = secret(key.modulus)?;
    let bits = modulus.num_bits();
    let (p, q) = (secret(key.prime1)?, secret(key.prime2)?);
    let mut difference = BigNum::new_secure()?;
    difference.checked_sub(&p, &q)?;
    let close_primes = difference.num_bits() <= bits / 2 - CLOSE_BITS;
    let smallest = p.num_bits().min(q.num_bits());
    let is_small = |prime: &BigNumRef| prime.num_bits() <= factors::SMALL_FACTOR_BITS;
    // The primes of a longer key are not tested, so they may have small factors themselves.
    let small_factor =
        is_small(&p) || is_small(&q) || bits > MAX_TESTED_BITS && factors::has_small_factor(key.modulus.as_bytes());
    let flaw = if small_factor {
        Some(KeyFlaw::SmallFactor)
    } else if !close_primes && are_near_multiples(&p, &q, bits / 2 - CLOSE_BITS)? {
        Some(KeyFlaw::NearMultiples)
    } else if p.num_bits().abs_diff(q.num_bits()) > u32::from(bits % 2 == 1) {
        // If the modulus has an odd length, programs choose one prime that is a bit longer than the other.
        Some(KeyFlaw::UnequalPrimes)
    } else if !close_primes && trailing_zeros(&difference) >= smallest / 2 - GUESSED_BITS {
        Some(KeyFlaw::SharedLowerHalf)
    } else {
        None
    };
    Ok(Weaknesses {
        close_primes,
        small_private_exponent: secret(key.private_exponent)?.num_bits() * 1000 < bits * SMALL_EXPONENT,
        shared_prime: has_shared_prime(&modulus, [&p, &q])?,
        flaw,
    })
}

/// Whether a p and b q differ by at most `bits` bits for small a and b.
fn are_near_multiples(p: &BigNumRef, q: &BigNumRef, bits: i32) -> Result<bool, ErrorStack> {
    if p.num_bits().abs_diff(q.num_bits()) > MAX_MULTIPLE.ilog2() + 1 {
        return Ok(false);
    }
    let multiples = |number: &BigNumRef| {
        let mut multiples = Vec::new();
        let mut sum = BigNum::new_secure()?;
        for _ in 0..MAX_MULTIPLE {
            let mut next = BigNum::new_secure()?;
            next.checked_add(&sum, number)?;
            multiples.push(std::mem::replace(&mut sum, next));
        }
        multiples.push(sum);
        Ok::<_, ErrorStack>(multiples.split_off(1))
    };
    let (of_p, of_q) = (multiples(p)?, multiples(q)?);
    let mut difference = BigNum::new_secure()?;
    for a in &of_p {
        for b in &of_q {
            difference.checked_sub(a, b)?;
            if difference.num_bits() <= bits {
                return Ok(true);
            }
        }
    }
    Ok(false)
}

fn trailing_zeros(number: &BigNumRef) -> i32 {
    let bits = number.num_bits();
    (0..bits).find(|bit| number.is_bit_set(*bit)).unwrap_or(bits)
}

fn has_shared_prime(modulus: &BigNumRef, primes: [&BigNumRef; 2]) -> Result<bool, ErrorStack> {
    let Some(product) = factors::shared_primes_modulo(modulus)? else {
        return Ok(false);
    };
    let mut remainder = BigNum::new_secure()?;
    for prime in primes {
        remainder.nnmod(&product, prime, &mut *BigNumContext::new_secure()?)?;
        if remainder.num_bits() == 0 {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether the bytes of a secret follow a simple pattern: up to `MAX_PERIOD` bytes that repeat, or a constant difference between
/// neighbours. One random secret of 32 bytes in 2^190 has a pattern.
pub(super) fn is_pattern(secret: &[u8]) -> bool {
    let repeats = (1..=MAX_PERIOD).any(|period| {
        let shifted = secret.get(period..).unwrap_or_default();
        !shifted.is_empty() && secret.starts_with(shifted)
    });
    let step = |pair: &[u8]| pair[1].wrapping_sub(pair[0]);
    let counts = secret.len() > 2 && secret.windows(2).all(|pair| step(pair) == step(&secret[..2]));
    repeats || counts
}

fn secret(number: UintRef<'_>) -> Result<BigNum, ErrorStack> {
    let mut secret = BigNum::new_secure()?;
    secret.copy_from_slice(number.as_bytes())?;
    Ok(secret)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn simple_patterns_are_known() {
        let counting: Vec<u8> = (0..32).collect();
        let falling: Vec<u8> = (0..57).rev().collect();
        let by_sevens: Vec<u8> = (0..32).map(|place: u8| place.wrapping_mul(7)).collect();
        for pattern in [
            &[0; 32][..],
            &[0xff; 57],
            &b"abcd".repeat(8),
            &b"password".repeat(4),
            &b"abc".repeat(11)[..32],
            &counting,
            &falling,
            &by_sevens,
        ] {
            assert!(is_pattern(pattern), "{pattern:?}");
        }
        let mut nearly = counting.clone();
        nearly[20] ^= 1;
        for other in [&nearly[..], &b"0123456789abcdef".repeat(2), &[1; 1], &[]] {
            assert!(!is_pattern(other), "{other:?}");
        }
    }
}
