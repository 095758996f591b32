//! Keys that are published or can be computed. Each rule cites its source.

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::error::ErrorStack;

use super::Findings;
use crate::certificate::PrivateKey;
use crate::certificate::finding::{ExponentError, FindingKind};
use crate::certificate::public_key::PublicKey;
use crate::certificate::published_keys::PublishedKey;
use crate::certificate::x509::Certificate;

/// The primes that divide the primorials of the weak generator, without 2 (Nemec et al., "The Return of Coppersmith's
/// Attack", 2017, 2.2).
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];
const ROCA_GENERATOR: u32 = 65537;
/// The number of steps of Fermat's method if there is only the certificate.
const FERMAT_STEPS: u32 = 100;
/// NIST SP 800-56B 6.2 allows up to 256 bits. Libraries refuse more than 64 bits.
const MAX_EXPONENT_BYTES: usize = 8;

pub(super) fn key(
    certificate: &Certificate<'_>,
    public: Option<&PublicKey>,
    private: Option<&PrivateKey>,
    findings: &mut Findings<'_>,
) {
    let mut note = |kind| findings.note(kind, Some(certificate));
    if let Some(published) = public.and_then(PublishedKey::of) {
        let source = published.to_string();
        note(FindingKind::KeyCompromised { source });
    }
    // Only RSA keys can be factored.
    let Some(PublicKey::Rsa { modulus, exponent, .. }) = public else {
        return;
    };
    if let Some(error) = exponent_error(exponent) {
        note(FindingKind::KeyExponentUnsafe { error });
    }
    // OpenSSL's arithmetic fails only if memory runs out.
    if is_roca(modulus).unwrap_or(false) {
        note(FindingKind::KeyRoca);
    }
    let weaknesses = private.map(PrivateKey::weaknesses);
    let has_close_primes = match weaknesses {
        Some(weaknesses) => weaknesses.close_primes,
        None => is_factored_by_fermat(modulus).unwrap_or(false),
    };
    if has_close_primes {
        note(FindingKind::KeyClosePrimes);
    }
    if weaknesses.is_some_and(|weaknesses| weaknesses.small_private_exponent) {
        note(FindingKind::KeySmallPrivateExponent);
    }
}

fn exponent_error(exponent: &[u8]) -> Option<ExponentError> {
    match exponent {
        [] | [1] => Some(ExponentError::Trivial),
        [.., last] if last % 2 == 0 => Some(ExponentError::Even),
        _ if exponent.len() > MAX_EXPONENT_BYTES => Some(ExponentError::TooLong),
        _ => None,
    }
}

/// Whether the modulus is a power of 65537 modulo each of the small primes (CVE-2017-15361). Fewer than one in a
/// hundred million other moduli has this property.
fn is_roca(modulus: &[u8]) -> Result<bool, ErrorStack> {
    let modulus = BigNum::from_slice(modulus)?;
    for prime in ROCA_PRIMES {
        let remainder = modulus.mod_word(prime)? as u32; // Below the prime.
        if !is_power(remainder, prime) {
            return Ok(false);
        }
    }
    Ok(true)
}

fn is_power(number: u32, prime: u32) -> bool {
    let generator = ROCA_GENERATOR % prime;
    let mut power = 1;
    loop {
        if power == number {
            return true;
        }
        power = power * generator % prime;
        if power == 1 {
            return false;
        }
    }
}

/// Whether Fermat's method finds the primes within `FERMAT_STEPS` steps (CVE-2022-26320).
fn is_factored_by_fermat(modulus: &[u8]) -> Result<bool, ErrorStack> {
    let mut context = BigNumContext::new()?;
    let modulus = BigNum::from_slice(modulus)?;
    if modulus.is_even() {
        return Ok(true);
    }
    let mut a = square_root(&modulus, &mut context)?;
    for _ in 0..FERMAT_STEPS {
        let mut square = BigNum::new()?;
        square.sqr(&a, &mut context)?;
        let mut rest = BigNum::new()?;
        rest.checked_sub(&square, &modulus)?;
        if !rest.is_negative() && is_square(&rest, &mut context)? {
            return Ok(true);
        }
        a.add_word(1)?;
    }
    Ok(false)
}

fn is_square(number: &BigNumRef, context: &mut BigNumContext) -> Result<bool, ErrorStack> {
    // Most numbers that are not squares are also not squares modulo one of these numbers.
    for modulus in [64, 63, 65, 11] {
        let remainder = number.mod_word(modulus)?;
        let modulus = u64::from(modulus);
        if !(0..modulus).any(|root| root * root % modulus == remainder) {
            return Ok(false);
        }
    }
    let root = square_root(number, context)?;
    let mut square = BigNum::new()?;
    square.sqr(&root, context)?;
    Ok(square.ucmp(number).is_eq())
}

/// The integer square root, rounded down, by Newton's method from above.
fn square_root(number: &BigNumRef, context: &mut BigNumContext) -> Result<BigNum, ErrorStack> {
    let mut root = BigNum::new()?;
    if number.num_bits() == 0 {
        return Ok(root);
    }
    root.lshift(&*BigNum::from_u32(1)?, number.num_bits() / 2 + 1)?;
    loop {
        let (mut quotient, mut next) = (BigNum::new()?, BigNum::new()?);
        quotient.checked_div(number, &root, context)?;
        let mut sum = BigNum::new()?;
        sum.checked_add(&root, &quotient)?;
        next.rshift1(&sum)?;
        if next.ucmp(&root).is_ge() {
            return Ok(root);
        }
        root = next;
    }
}

#[cfg(test)]
mod tests {
    use openssl::pkey::PKey;
    use openssl::rsa::Rsa;

    use super::*;
    use crate::certificate::test_pair::{AT, Entity, integer, pem, sequence};
    use crate::certificate::{Authorities, FindingCode, Policy, UnverifiedCa, UnverifiedPair};
    use crate::secret::Secret;

    fn number(value: u32) -> BigNum {
        BigNum::from_u32(value).unwrap()
    }

    fn inverse(of: &BigNumRef, modulus: &BigNumRef) -> BigNum {
        let mut inverse = BigNum::new().unwrap();
        inverse
            .mod_inverse(of, modulus, &mut BigNumContext::new().unwrap())
            .unwrap();
        inverse
    }

    fn order(prime: &BigNumRef) -> BigNum {
        prime - &number(1)
    }

    /// The PKCS#1 encoding of a key with these primes and exponents.
    fn rsa(p: &BigNum, q: &BigNum, e: &BigNum, d: &BigNum) -> Vec<u8> {
        let mut context = BigNumContext::new().unwrap();
        let mut modulo = |modulus: &BigNum| {
            let mut remainder = BigNum::new().unwrap();
            remainder.nnmod(d, modulus, &mut context).unwrap();
            remainder
        };
        let (dp, dq) = (modulo(&order(p)), modulo(&order(q)));
        let numbers = [&(p * q), e, d, p, q, &dp, &dq, &inverse(q, p)];
        let numbers: Vec<_> = numbers.iter().flat_map(|number| integer(&number.to_vec())).collect();
        sequence(&[&integer(&[]), &numbers])
    }

    fn with_public_exponent(p: &BigNum, q: &BigNum, e: &BigNum) -> Vec<u8> {
        rsa(p, q, e, &inverse(e, &(&order(p) * &order(q))))
    }

    /// A prime for which 65537 is a good exponent.
    fn prime(bits: i32) -> BigNum {
        loop {
            let mut prime = BigNum::new().unwrap();
            prime.generate_prime(bits, false, None, None).unwrap();
            if order(&prime).mod_word(65537).unwrap() != 0 {
                return prime;
            }
        }
    }

    fn next_prime(after: &BigNum) -> BigNum {
        let mut next = after + &number(0);
        let mut context = BigNumContext::new().unwrap();
        loop {
            next.add_word(2).unwrap();
            if next.is_prime(20, &mut context).unwrap() {
                return next;
            }
        }
    }

    /// A prime of the form that the weak generator used: k M + (65537^a mod M).
    fn roca_prime(bits: i32) -> BigNum {
        let mut context = BigNumContext::new().unwrap();
        let mut primorial = number(2);
        for prime in ROCA_PRIMES {
            primorial.mul_word(prime).unwrap();
        }
        loop {
            let (mut k, mut a, mut power) = (BigNum::new().unwrap(), BigNum::new().unwrap(), BigNum::new().unwrap());
            k.rand(bits - primorial.num_bits(), openssl::bn::MsbOption::ONE, false)
                .unwrap();
            a.rand(62, openssl::bn::MsbOption::MAYBE_ZERO, false).unwrap();
            power.mod_exp(&number(65537), &a, &primorial, &mut context).unwrap();
            let prime = &(&k * &primorial) + &power;
            if prime.is_prime(20, &mut context).unwrap() && order(&prime).mod_word(65537).unwrap() != 0 {
                return prime;
            }
        }
    }

    /// The findings for which the policy refuses the pair of this key, and those of its certificate without the key.
    fn found(pkcs1: &[u8]) -> [Vec<FindingCode>; 2] {
        let key = PKey::from_rsa(Rsa::private_key_from_der(pkcs1).unwrap()).unwrap();
        let server = Entity {
            key,
            ..Entity::new("server")
        };
        let issuer = Entity::new("issuer");
        let text = issuer.certify_server(&server).to_pem().unwrap();
        let weak = |key: Vec<u8>| {
            let report =
                UnverifiedPair::read(&text, &Secret::from(key)).report(AT, &Policy::default(), &Authorities::default());
            let codes = report.error.rejected.iter().copied();
            codes.collect::<Vec<_>>()
        };
        [weak(pem("RSA PRIVATE KEY", pkcs1)), weak(Vec::new())]
    }

    #[test]
    fn an_ordinary_key_is_not_weak() {
        for bits in [1024, 2048] {
            let key = Rsa::generate(bits).unwrap().private_key_to_der().unwrap();
            assert_eq!(found(&key), [vec![], vec![]]);
        }
    }

    #[test]
    fn a_modulus_of_the_faulty_chips_is_known() {
        let key = with_public_exponent(&roca_prime(520), &roca_prime(520), &number(65537));
        assert_eq!(found(&key), [vec![FindingCode::KeyRoca], vec![FindingCode::KeyRoca]]);
    }

    #[test]
    fn an_authoritys_key_is_looked_at_too() {
        let key = with_public_exponent(&roca_prime(520), &roca_prime(520), &number(65537));
        let root = Entity {
            key: PKey::from_rsa(Rsa::private_key_from_der(&key).unwrap()).unwrap(),
            ..Entity::new("root")
        };
        let text = root.certify_authority(&root).to_pem().unwrap();
        let refused = UnverifiedCa::read(&text)
            .verify(AT, &Policy::default(), &Authorities::default())
            .unwrap_err();
        assert_eq!(
            (refused.certificate, refused.rejected),
            (None, vec![FindingCode::KeyRoca])
        );
    }

    #[test]
    fn close_primes_are_known_also_without_them() {
        let p = prime(520);
        let q = next_prime(&p);
        let key = with_public_exponent(&p, &q, &number(65537));
        assert_eq!(
            found(&key),
            [vec![FindingCode::KeyClosePrimes], vec![FindingCode::KeyClosePrimes]]
        );
        // The primes are too far apart for the first steps of Fermat's method, but still closer than FIPS 186-5 allows.
        let mut far = BigNum::new().unwrap();
        far.lshift(&number(1), 400).unwrap();
        let q = next_prime(&(&p + &far));
        let key = with_public_exponent(&p, &q, &number(65537));
        assert_eq!(found(&key), [vec![FindingCode::KeyClosePrimes], vec![]]);
    }

    #[test]
    fn exponents_are_sane() {
        let (p, q) = (prime(520), prime(520));
        let long = BigNum::from_dec_str("36893488147419103363").unwrap();
        for (e, is_safe) in [
            (number(3), None),
            (number(65537), Some(true)),
            (number(1), Some(false)),
            (long, Some(false)),
        ] {
            // 3 may divide p - 1.
            let phi = &order(&p) * &order(&q);
            let mut divisor = BigNum::new().unwrap();
            divisor.gcd(&e, &phi, &mut BigNumContext::new().unwrap()).unwrap();
            if divisor != number(1) {
                continue;
            }
            let codes = found(&with_public_exponent(&p, &q, &e))[1].clone();
            let expected = match is_safe {
                Some(false) => vec![FindingCode::KeyExponentUnsafe],
                _ => vec![],
            };
            assert_eq!(codes, expected, "{e}");
        }
        assert_eq!([&[2][..], &[1, 0]].map(exponent_error), [Some(ExponentError::Even); 2]);
    }

    #[test]
    fn small_private_exponents_are_known() {
        let (p, q) = (prime(520), prime(520));
        let phi = &order(&p) * &order(&q);
        for (bits, is_small) in [(250, true), (320, false)] {
            let d = loop {
                let mut d = BigNum::new().unwrap();
                d.generate_prime(bits, false, None, None).unwrap();
                if phi.ucmp(&d).is_gt() {
                    break d;
                }
            };
            let codes = found(&rsa(&p, &q, &inverse(&d, &phi), &d))[0].clone();
            let expected = [FindingCode::KeyExponentUnsafe, FindingCode::KeySmallPrivateExponent];
            assert_eq!(codes, expected[..1 + usize::from(is_small)]);
        }
    }

    #[test]
    fn square_roots_are_exact() {
        let mut context = BigNumContext::new().unwrap();
        for (square, root) in [
            (0, 0),
            (1, 1),
            (2, 1),
            (15, 3),
            (16, 4),
            (17, 4),
            (4_294_836_225_u32, 65_535),
        ] {
            let square = BigNum::from_dec_str(&square.to_string()).unwrap();
            assert_eq!(square_root(&square, &mut context).unwrap(), number(root));
        }
    }
}
