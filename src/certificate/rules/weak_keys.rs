//! Keys that are published or can be computed. Each rule cites its source.

use openssl::bn::{BigNum, BigNumContext, BigNumRef};
use openssl::error::ErrorStack;

use super::Findings;
use crate::certificate::finding::{CompromisedKey, ExponentError, FindingKind, KeyFlaw};
use crate::certificate::public_key::PublicKey;
use crate::certificate::x509::Certificate;
use crate::certificate::{PrivateKey, Weaknesses, factors, key_blocklist};

/// The primes that divide the primorials of the weak generator, without 2 (Nemec et al., "The Return of Coppersmith's
/// Attack", 2017, 2.2).
const ROCA_PRIMES: [u32; 38] = [
    3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47, 53, 59, 61, 67, 71, 73, 79, 83, 89, 97, 101, 103, 107, 109,
    113, 127, 131, 137, 139, 149, 151, 157, 163, 167,
];
const ROCA_GENERATOR: u32 = 65537;
/// The number of steps of Fermat's method if there is only the certificate.
const FERMAT_STEPS: u32 = 100;
/// The longest modulus that is tested for being a prime.
const MAX_TESTED_BITS: i32 = 4096;
/// The length of a repetition of one byte that no random modulus has.
const REPEATED_BYTES: usize = 16;
/// The length of a word of a modulus with a pattern.
const WORD_BYTES: usize = 16;
/// The number of bits that no word sets, if the modulus has a pattern. Known keys have at least 40. A random modulus of 1024 bits has 32 with
/// a probability of 2^-120.
const UNSET_BITS: u32 = 32;
/// NIST SP 800-56B 6.2 allows up to 256 bits. Libraries refuse more than 64 bits.
const MAX_EXPONENT_BYTES: usize = 8;

pub(super) fn key(
    certificate: &Certificate<'_>,
    public: Option<&PublicKey>,
    private: Option<&PrivateKey>,
    findings: &mut Findings<'_>,
) {
    let blocklists = findings.policy.blocklists();
    let mut note = |kind| findings.note(kind, Some(certificate));
    if let Some(source) = public.and_then(|key| key_blocklist::find(key, blocklists)) {
        note(FindingKind::KeyCompromised { source });
    }
    let weaknesses = private.map(PrivateKey::weaknesses);
    if let Some(flaw) = weaknesses.and_then(|weaknesses| weaknesses.flaw) {
        note(FindingKind::KeyFactorable { flaw });
    }
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
    if let Some(flaw) = pattern(modulus) {
        note(FindingKind::KeyFactorable { flaw });
    }
    let weaknesses = weaknesses.unwrap_or_else(|| {
        let weaknesses = of_modulus(modulus).unwrap_or_default();
        if let Some(flaw) = weaknesses.flaw {
            note(FindingKind::KeyFactorable { flaw });
        }
        weaknesses
    });
    if weaknesses.shared_prime {
        let source = CompromisedKey::SharedPrime;
        note(FindingKind::KeyCompromised { source });
    }
    if weaknesses.close_primes {
        note(FindingKind::KeyClosePrimes);
    }
    if weaknesses.small_private_exponent {
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

/// A pattern in the bits of a modulus, as the tests `rsapoly` and `pattern` of github.com/badkeys/badkeys describe them.
fn pattern(modulus: &[u8]) -> Option<KeyFlaw> {
    if modulus
        .windows(REPEATED_BYTES)
        .any(|bytes| bytes.iter().all(|byte| *byte == bytes[0]))
    {
        return Some(KeyFlaw::RepeatedByte);
    }
    // Primes that are made of words with few bits give such a modulus. It is a polynomial in 2^32 or 2^128 with small coefficients, and
    // polynomials are easy to factor. The lowest word differs, because the search for a prime changes it.
    let words = modulus.rchunks(WORD_BYTES).skip(1);
    let set = words.fold([0; WORD_BYTES], |mut set, word| {
        let bytes = set.iter_mut().rev().zip(word.iter().rev());
        bytes.for_each(|(set, byte)| *set |= byte);
        set
    });
    let unset: u32 = set.iter().map(|byte| byte.count_zeros()).sum();
    (unset >= UNSET_BITS).then_some(KeyFlaw::RegularModulus)
}

/// The weaknesses that a modulus shows without its private key.
fn of_modulus(modulus: &[u8]) -> Result<Weaknesses, ErrorStack> {
    if factors::has_small_factor(modulus) {
        return Ok(Weaknesses {
            flaw: Some(KeyFlaw::SmallFactor),
            ..Weaknesses::default()
        });
    }
    let number = BigNum::from_slice(modulus)?;
    let flaw = if number.num_bits() <= MAX_TESTED_BITS && factors::is_probable_prime(&number)? {
        Some(KeyFlaw::PrimeModulus)
    } else if are_near_multiples(&number)? {
        Some(KeyFlaw::NearMultiples)
    } else {
        None
    };
    Ok(Weaknesses {
        close_primes: is_factored_by_fermat(&number)?,
        shared_prime: factors::has_shared_prime(&number)?,
        flaw,
        ..Weaknesses::default()
    })
}

/// Whether Fermat's method with a multiplier finds primes p and q because a p is close to b q (Lehman, "Factoring Large Integers", 1974).
fn are_near_multiples(modulus: &BigNumRef) -> Result<bool, ErrorStack> {
    for (a, b) in [(1, 2), (2, 3), (3, 4)] {
        // (2 a p) (2 b q), so that the sum of the factors is even.
        let mut multiple = modulus.to_owned()?;
        multiple.mul_word(4 * a * b)?;
        if is_factored_by_fermat(&multiple)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether Fermat's method finds the primes within `FERMAT_STEPS` steps (CVE-2022-26320).
fn is_factored_by_fermat(modulus: &BigNumRef) -> Result<bool, ErrorStack> {
    let mut context = BigNumContext::new()?;
    let mut a = square_root(modulus, &mut context)?;
    for _ in 0..FERMAT_STEPS {
        let mut square = BigNum::new()?;
        square.sqr(&a, &mut context)?;
        let mut rest = BigNum::new()?;
        rest.checked_sub(&square, modulus)?;
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
    use openssl::pkey::{Id, PKey};
    use openssl::rsa::Rsa;
    use pkcs8::der::Encode;

    use super::*;
    use crate::certificate::key_type::MlDsa;
    use crate::certificate::test_pair::{self, AT, Entity, TestPair, der, integer, pem, sequence};
    use crate::certificate::{Authorities, FindingCode, Policy, PrivateKeyError, UnverifiedCa, UnverifiedPair};
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
            // Primes of different lengths are another flaw.
            if prime.num_bits() == bits
                && prime.is_prime(20, &mut context).unwrap()
                && order(&prime).mod_word(65537).unwrap() != 0
            {
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

    /// The flaws that are found in the pair of this key, and in its certificate without the key.
    fn flaws(pkcs1: &[u8]) -> [Vec<KeyFlaw>; 2] {
        let key = PKey::from_rsa(Rsa::private_key_from_der(pkcs1).unwrap()).unwrap();
        let text = TestPair::of(key).certificate_pem();
        [pem("RSA PRIVATE KEY", pkcs1), Vec::new()].map(|key| flaws_of(&text, key))
    }

    fn flaws_of(certificate: &[u8], key: Vec<u8>) -> Vec<KeyFlaw> {
        let pair = UnverifiedPair::read(certificate, &Secret::from(key));
        let report = pair.report(AT, &Policy::default(), &Authorities::default());
        assert_eq!(report.error.private_key, None);
        let kinds = report.error.findings.into_iter().map(|finding| finding.kind);
        kinds
            .filter_map(|kind| match kind {
                FindingKind::KeyFactorable { flaw } => Some(flaw),
                _ => None,
            })
            .collect()
    }

    fn power(exponent: i32) -> BigNum {
        let mut power = BigNum::new().unwrap();
        power.lshift(&number(1), exponent).unwrap();
        power
    }

    /// A prime of this length, or a little above, with these first bits, and with 65537 as a good exponent.
    fn prime_from(start: &BigNum) -> BigNum {
        let mut start = start + &number(0);
        if start.is_even() {
            start.add_word(1).unwrap();
        }
        loop {
            let prime = next_prime(&start);
            if order(&prime).mod_word(65537).unwrap() != 0 {
                return prime;
            }
            start = prime;
        }
    }

    #[test]
    fn small_factors_and_unequal_primes_are_flaws() {
        for (p, expected) in [
            (number(3), [vec![KeyFlaw::SmallFactor], vec![KeyFlaw::SmallFactor]]),
            (number(31_337), [vec![KeyFlaw::SmallFactor], vec![KeyFlaw::SmallFactor]]),
            (number(65_539), [vec![KeyFlaw::SmallFactor], vec![KeyFlaw::SmallFactor]]),
            (number(131_101), [vec![KeyFlaw::UnequalPrimes], vec![]]),
            (prime(256), [vec![KeyFlaw::UnequalPrimes], vec![]]),
            (prime(519), [vec![KeyFlaw::UnequalPrimes], vec![]]),
            (prime(520), [vec![], vec![]]),
        ] {
            let q = prime(1040 - p.num_bits().min(520));
            let key = with_public_exponent(&p, &q, &number(65537));
            assert_eq!(flaws(&key), expected, "{p}");
        }
    }

    #[test]
    fn the_primes_of_a_modulus_of_odd_length_may_differ_by_a_bit() {
        // OpenSSL sets the first two bits of each prime.
        for (lengths, expected) in [
            ([521, 520], vec![]),
            ([520, 521], vec![]),
            ([522, 519], vec![KeyFlaw::UnequalPrimes]),
        ] {
            let [p, q] = lengths.map(prime);
            assert_eq!((&p * &q).num_bits(), 1041);
            let key = with_public_exponent(&p, &q, &number(65537));
            assert_eq!(flaws(&key), [expected, vec![]], "{lengths:?}");
        }
        let shorter = Rsa::generate(1031).unwrap().private_key_to_der().unwrap();
        assert_eq!(flaws(&shorter), [vec![], vec![]]);

        // A modulus of even length.
        let random = |bits| {
            let mut start = BigNum::new().unwrap();
            start.rand(bits, openssl::bn::MsbOption::ONE, true).unwrap();
            prime_from(&start)
        };
        let (p, q) = std::iter::repeat_with(|| (random(520), random(521)))
            .find(|(p, q)| (p * q).num_bits() == 1040)
            .unwrap();
        let key = with_public_exponent(&p, &q, &number(65537));
        assert_eq!(flaws(&key), [vec![KeyFlaw::UnequalPrimes], vec![]]);
    }

    #[test]
    fn primes_next_to_multiples_of_each_other_are_flaws() {
        for (a, b) in [(1, 2), (2, 3), (3, 4), (11, 16)] {
            // q is next to b p / a, and still has as many bits as p, or one more.
            let p = prime(520);
            let (mut product, mut start) = (&p + &number(0), BigNum::new().unwrap());
            product.mul_word(b).unwrap();
            start
                .checked_div(&product, &number(a), &mut BigNumContext::new().unwrap())
                .unwrap();
            let key = with_public_exponent(&p, &prime_from(&start), &number(65537));
            let public = if a < 11 { vec![KeyFlaw::NearMultiples] } else { vec![] };
            assert_eq!(flaws(&key), [vec![KeyFlaw::NearMultiples], public], "{a} {b}");
            assert!(!found(&key)[0].contains(&FindingCode::KeyClosePrimes));
        }
    }

    #[test]
    fn primes_that_share_their_lower_half_are_flaws() {
        for (shared, expected) in [
            (256, vec![KeyFlaw::SharedLowerHalf]),
            (200, vec![KeyFlaw::SharedLowerHalf]),
            (180, vec![]),
        ] {
            let p = prime(520);
            let q = loop {
                // The upper part is new, the lower part is that of p.
                let mut lower = &p + &number(0);
                lower.mask_bits(shared).unwrap();
                let q = &(&prime(520 - shared) * &power(shared)) + &lower;
                if q.is_prime(20, &mut BigNumContext::new().unwrap()).unwrap()
                    && order(&q).mod_word(65537).unwrap() != 0
                {
                    break q;
                }
            };
            let key = with_public_exponent(&p, &q, &number(65537));
            assert_eq!(flaws(&key), [expected, vec![]], "{shared}");
        }
    }

    #[test]
    fn a_modulus_with_a_pattern_is_a_flaw() {
        // Primes of words of 32 bits with at most 8 random bits each.
        let sparse = || {
            let mut start = power(543);
            for word in 1..16 {
                start = &start + &(&prime(8) * &power(32 * word));
            }
            prime_from(&start)
        };
        let key = with_public_exponent(&sparse(), &sparse(), &number(65537));
        assert_eq!(
            flaws(&key),
            [vec![KeyFlaw::RegularModulus], vec![KeyFlaw::RegularModulus]]
        );
        // The first primes after two round numbers.
        let [p, q] = [0xc1, 0xe3].map(|first| prime_from(&(&number(first) * &power(512))));
        let key = with_public_exponent(&p, &q, &number(65537));
        assert_eq!(flaws(&key), [vec![KeyFlaw::RepeatedByte], vec![KeyFlaw::RepeatedByte]]);
    }

    #[test]
    fn a_prime_modulus_is_a_flaw() {
        for (modulus, expected) in [
            (prime(1024), vec![KeyFlaw::PrimeModulus]),
            (&prime(520) * &prime(520), vec![]),
        ] {
            let key = PKey::from_rsa(Rsa::from_public_components(modulus, number(65537)).unwrap()).unwrap();
            let issuer = test_pair::ec().key;
            let mut builder = test_pair::builder(&issuer);
            builder.set_pubkey(&key).unwrap();
            let text = test_pair::sign(builder, &issuer).to_pem().unwrap();
            assert_eq!(flaws_of(&text, Vec::new()), expected);
        }
    }

    /// A prime of many published moduli: github.com/badkeys/badkeys, `tests/data/rsa-sharedprimes.key`, MIT.
    const SHARED_PRIME: &str = "f97e6869f1b6fba6b580e39ed2c318b7addb3c4141686df19279a1a025cd6d12442915d2a0acbd86a7726df832bde9850b9df0eff5c837dbcf0465bf629888bc9e6d332f04afd06fc7b97cbea861eed2a1b16ec188732a2ac05dee0f5c4be2cfc891f6ba2a2b2b41aa48bd2f4353e8bdd40995a86c8465a155bb72d05362f8b9";

    #[test]
    fn a_published_shared_prime_is_known() {
        let q = prime(1024);
        for (p, expected) in [
            (
                BigNum::from_hex_str(SHARED_PRIME).unwrap(),
                vec![FindingCode::KeyCompromised],
            ),
            (prime(1024), vec![]),
        ] {
            let key = with_public_exponent(&p, &q, &number(65537));
            assert_eq!(found(&key), [expected.clone(), expected]);
        }
    }

    #[test]
    fn a_composite_factor_is_an_error_of_the_key() {
        let q = prime(1024);
        for (p, expected) in [
            (&prime(512) * &prime(512), Some(PrivateKeyError::CompositeFactor)),
            (prime(1024), None),
        ] {
            // The exponent fits p - 1, as if p were a prime.
            let e = number(65537);
            let d = inverse(&e, &(&order(&p) * &order(&q)));
            let pkcs1 = rsa(&p, &q, &e, &d);
            let key = PKey::from_rsa(Rsa::private_key_from_der(&pkcs1).unwrap()).unwrap();
            let text = TestPair::of(key).certificate_pem();
            let key = Secret::from(pem("RSA PRIVATE KEY", &pkcs1));
            let read = || UnverifiedPair::read(&text, &key);
            let upload = read().verify(AT, &Policy::default(), &Authorities::default());
            let report = read().report(AT, &Policy::default(), &Authorities::default());
            assert_eq!(upload.err().and_then(|error| error.private_key), expected);
            assert_eq!(
                (report.is_accepted, report.error.private_key),
                (expected.is_none(), expected)
            );
        }
    }

    #[test]
    fn numbers_and_seeds_that_can_be_guessed_are_flaws() {
        let ml_dsa = |seed: &[u8]| {
            let algorithm = sequence(&[&MlDsa::MlDsa44.oid().to_der().unwrap()]);
            sequence(&[&integer(&[]), &algorithm, &der(4, &der(0x80, seed))])
        };
        let edwards = |seed: &[u8], id| {
            let key = PKey::private_key_from_raw_bytes(seed, id).unwrap();
            key.private_key_to_pkcs8().unwrap()
        };
        let ec = |value: u32| {
            let group = openssl::ec::EcGroup::from_curve_name(openssl::nid::Nid::X9_62_PRIME256V1).unwrap();
            let mut point = openssl::ec::EcPoint::new(&group).unwrap();
            let mut context = BigNumContext::new().unwrap();
            point.mul_generator2(&group, &number(value), &mut context).unwrap();
            let key = openssl::ec::EcKey::from_private_components(&group, &number(value), &point).unwrap();
            PKey::from_ec_key(key).unwrap().private_key_to_pkcs8().unwrap()
        };
        let random = [prime(256).to_vec(), prime(200).to_vec()].concat();
        let seed = KeyFlaw::PatternedSeed;
        for (pkcs8, expected) in [
            (ec(1), vec![KeyFlaw::NumberNearEnd]),
            (test_pair::ec().key.private_key_to_pkcs8().unwrap(), vec![]),
            (edwards(&[0; 32], Id::ED25519), vec![seed]),
            (edwards(&[0xff; 32], Id::ED25519), vec![seed]),
            (edwards(&random[..32], Id::ED25519), vec![]),
            (edwards(&[0; 57], Id::ED448), vec![seed]),
            (edwards(&random[..57], Id::ED448), vec![]),
            (ml_dsa(&[1; 32]), vec![seed]),
            (ml_dsa(&random[..32]), vec![]),
        ] {
            let pair = TestPair::of(PKey::private_key_from_pkcs8(&pkcs8).unwrap());
            assert_eq!(flaws_of(&pair.certificate_pem(), pem("PRIVATE KEY", &pkcs8)), expected);
        }
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
