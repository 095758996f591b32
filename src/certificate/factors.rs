//! Ways to find the factors of an RSA modulus.

use std::sync::LazyLock;

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::error::ErrorStack;

/// Trial division tries all primes of at most so many bits.
pub(super) const SMALL_FACTOR_BITS: i32 = 17;
/// The limit of these primes.
const SMALL_FACTORS: u32 = 1 << SMALL_FACTOR_BITS;

/// Products of all primes below `SMALL_FACTORS`, each with its primes.
static GROUPS: LazyLock<Vec<(u64, Vec<u32>)>> = LazyLock::new(groups);

/// Products of published primes that RSA keys share, by the bits of the primes. `badkeys/README.md` names their source.
static SHARED_PRIMES: LazyLock<[(u32, Option<BigNum>); 3]> = LazyLock::new(|| {
    [
        (512, &include_bytes!("badkeys/primes512.bin")[..]),
        (1024, &include_bytes!("badkeys/primes1024.bin")[..]),
        (2048, &include_bytes!("badkeys/primes2048.bin")[..]),
    ]
    // OpenSSL fails only if memory runs out.
    .map(|(bits, product)| (bits, BigNum::from_slice(product).ok()))
});

/// Whether a big-endian number has a prime factor of at most [`SMALL_FACTOR_BITS`] bits.
pub(super) fn has_small_factor(number: &[u8]) -> bool {
    let limbs: Vec<_> = number
        .rchunks(8)
        .rev()
        .map(|bytes| bytes.iter().fold(0, |limb, byte| limb << 8 | u128::from(*byte)))
        .collect();
    GROUPS.iter().any(|(product, primes)| {
        let product = u128::from(*product);
        let remainder = limbs.iter().fold(0, |rest, limb| (rest << 64 | limb) % product);
        let remainder = remainder as u64; // Below the product.
        primes.iter().any(|prime| remainder.is_multiple_of((*prime).into()))
    })
}

fn groups() -> Vec<(u64, Vec<u32>)> {
    let mut is_composite = vec![false; SMALL_FACTORS as usize];
    let mut groups = vec![(1_u64, Vec::new())];
    for number in 2..SMALL_FACTORS {
        if is_composite[number as usize] {
            continue;
        }
        for multiple in (2 * number..SMALL_FACTORS).step_by(number as usize) {
            is_composite[multiple as usize] = true;
        }
        match groups.last_mut() {
            Some((product, primes)) if product.checked_mul(number.into()).is_some() => {
                *product *= u64::from(number);
                primes.push(number);
            }
            _ => groups.push((number.into(), vec![number])),
        }
    }
    groups
}

/// Whether an odd number above 1 is prime: one round of the test of Miller and Rabin (FIPS 186-5 B.3.1) with base 2. Nearly no composite
/// number passes, unless someone searched for it. OpenSSL computes in constant time.
pub(super) fn is_probable_prime(number: &BigNumRef) -> Result<bool, ErrorStack> {
    let mut context = BigNumContext::new_secure()?;
    let one = BigNum::from_u32(1)?;
    let mut order = BigNum::new_secure()?;
    order.checked_sub(number, &one)?;
    let twos = (0..order.num_bits()).find(|bit| order.is_bit_set(*bit)).unwrap_or(0);
    let mut odd = BigNum::new_secure()?;
    odd.rshift(&order, twos)?;
    odd.set_const_time();
    let (mut power, mut square) = (BigNum::new_secure()?, BigNum::new_secure()?);
    power.mod_exp(&*BigNum::from_u32(2)?, &odd, number, &mut context)?;
    if power == one {
        return Ok(true);
    }
    for _ in 0..twos {
        if power == order {
            return Ok(true);
        }
        square.mod_sqr(&power, number, &mut context)?;
        std::mem::swap(&mut power, &mut square);
    }
    Ok(false)
}

/// The remainder of the product of the shared primes that can divide a modulus of two primes of equal length. `None`: no such prime is
/// published.
pub(super) fn shared_primes_modulo(modulus: &BigNumRef) -> Result<Option<BigNum>, ErrorStack> {
    let bits = modulus.num_bits().unsigned_abs().div_ceil(2);
    let product = SHARED_PRIMES.iter().find(|(of, _)| *of == bits);
    let Some((_, Some(product))) = product else {
        return Ok(None);
    };
    let mut remainder = BigNum::new()?;
    remainder.nnmod(product, modulus, &mut *BigNumContext::new()?)?;
    Ok(Some(remainder))
}

/// Whether a modulus has a published shared prime.
pub(super) fn has_shared_prime(modulus: &BigNumRef) -> Result<bool, ErrorStack> {
    let Some(remainder) = shared_primes_modulo(modulus)? else {
        return Ok(false);
    };
    let mut divisor = BigNum::new()?;
    divisor.gcd(&remainder, modulus, &mut *BigNumContext::new()?)?;
    Ok(divisor.num_bits() != 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn trial_division_finds_every_prime_below_its_limit() {
        assert_eq!(GROUPS.iter().map(|(_, primes)| primes.len()).sum::<usize>(), 12_251);
        let number = |factors: &[u64]| {
            let mut product = BigNum::from_u32(1).unwrap();
            for factor in factors {
                product = &product * &BigNum::from_dec_str(&factor.to_string()).unwrap();
            }
            product.to_vec()
        };
        // Primes above the limit.
        let large = [131_101, 4_294_967_291, 18_446_744_073_709_551_557];
        assert!(!has_small_factor(&number(&large)));
        for factor in [2, 3, 31_337, 65_537, 65_539, 131_071] {
            assert!(has_small_factor(&number(&[&large[..], &[factor]].concat())), "{factor}");
        }
    }

    #[test]
    fn the_prime_test_knows_primes_from_products() {
        for (number, is_prime) in [
            ("3", true),
            ("65537", true),
            ("9", false),
            ("561", false),
            // 2^127 - 1 and its square; 2^128 - 1.
            ("170141183460469231731687303715884105727", true),
            (
                "28948022309329048855892746252171976962977213799489202546401021394546514198529",
                false,
            ),
            ("340282366920938463463374607431768211455", false),
        ] {
            let number = BigNum::from_dec_str(number).unwrap();
            assert_eq!(is_probable_prime(&number).unwrap(), is_prime, "{number}");
        }
    }

    #[test]
    fn the_products_of_shared_primes_have_no_small_factor() {
        for (bits, product) in &*SHARED_PRIMES {
            let product = product.as_ref().unwrap();
            assert!(product.num_bits().unsigned_abs() > 2 * bits);
            assert!(!has_small_factor(&product.to_vec()));
        }
    }
}
