//! RSA keys of numbers that are wrong or weak.

use openssl::bn::{BigNum, BigNumContext, MsbOption};

use super::certificates;
use super::keys::{integer, rsa_spki};
use super::{Case, pem};
use crate::differential::der::Value;

/// The numbers of an RSAPrivateKey (RFC 8017 A.1.2).
struct Numbers {
    n: BigNum,
    e: BigNum,
    d: BigNum,
    p: BigNum,
    q: BigNum,
    dp: BigNum,
    dq: BigNum,
    coefficient: BigNum,
}

impl Numbers {
    /// Those that follow from the primes and the exponents.
    fn of(p: &BigNum, q: &BigNum, e: &BigNum, d: &BigNum) -> Self {
        Self {
            n: p * q,
            e: copy(e),
            d: copy(d),
            p: copy(p),
            q: copy(q),
            dp: modulo(d, &order(p)),
            dq: modulo(d, &order(q)),
            coefficient: inverse(q, p),
        }
    }

    fn with_public_exponent(p: &BigNum, q: &BigNum, e: &BigNum) -> Self {
        Self::of(p, q, e, &inverse(e, &(&order(p) * &order(q))))
    }

    fn case(&self, change: &str) -> Case {
        let Self {
            n,
            e,
            d,
            p,
            q,
            dp,
            dq,
            coefficient,
        } = self;
        let numbers = [n, e, d, p, q, dp, dq, coefficient];
        let mut values = vec![integer(&[])];
        values.extend(numbers.map(|number| integer(&number.to_vec())));
        let certificate = certificates::pem_of_spki(&rsa_spki(&n.to_vec(), &e.to_vec()));
        let key = pem("RSA PRIVATE KEY", &Value::new(0x30, values).encode());
        Case::new(["RSA key", "numbers", change], certificate, key)
    }
}

pub fn cases() -> Vec<Case> {
    let f4 = number(65537);
    // As short as they may be: OpenSSL tests the primes of each key.
    let (p, q) = (prime(520), prime(520));
    let good = Numbers::with_public_exponent(&p, &q, &f4);
    let changed = |change: fn(&mut Numbers)| {
        let mut numbers = Numbers::with_public_exponent(&p, &q, &f4);
        change(&mut numbers);
        numbers
    };
    let small_primes = |bits| Numbers::with_public_exponent(&prime(bits), &prime(bits), &f4);
    let near = next_prime(&p);
    let mut small_d = BigNum::new().unwrap();
    small_d.generate_prime(256, false, None, None).unwrap();
    let mut long_e = BigNum::new().unwrap();
    long_e.generate_prime(128, false, None, None).unwrap();
    let totient = &order(&p) * &order(&q);
    vec![
        good.case("ordinary"),
        Numbers::with_public_exponent(&q, &p, &f4).case("primes swapped"),
        Numbers::of(&p, &q, &f4, &(&good.d + &(&totient + &totient))).case("d above the modulus"),
        Numbers::with_public_exponent(&prime_for(520, 3), &prime_for(520, 3), &number(3)).case("e = 3"),
        Numbers::of(&p, &q, &number(1), &number(1)).case("e = 1"),
        changed(|key| key.e.add_word(1).unwrap()).case("e even"),
        Numbers::with_public_exponent(&p, &q, &long_e).case("e of 128 bits"),
        Numbers::of(&p, &q, &inverse(&small_d, &totient), &small_d).case("d of 256 bits"),
        Numbers::with_public_exponent(&roca_prime(), &roca_prime(), &f4).case("ROCA"),
        Numbers::with_public_exponent(&p, &near, &f4).case("close primes"),
        composite(&p, &prime(260), &prime(260), &f4).case("a prime that is none"),
        small_primes(256).case("512 bits"),
        small_primes(384).case("768 bits"),
        small_primes(512).case("1024 bits"),
        changed(|key| key.n.add_word(2).unwrap()).case("another modulus"),
        changed(|key| key.d.add_word(2).unwrap()).case("another d"),
        changed(|key| key.p.add_word(2).unwrap()).case("another p"),
        changed(|key| key.dp.add_word(2).unwrap()).case("another dP"),
        changed(|key| key.dq.add_word(2).unwrap()).case("another dQ"),
        changed(|key| key.coefficient.add_word(1).unwrap()).case("another qInv"),
        changed(|key| std::mem::swap(&mut key.p, &mut key.q)).case("primes swapped alone"),
        changed(|key| key.d = number(0)).case("d = 0"),
        changed(|key| (key.dp, key.dq, key.coefficient) = (number(0), number(0), number(0))).case("no dP dQ qInv"),
        changed(|key| (key.p, key.q) = (number(0), number(0))).case("no primes"),
    ]
}

/// A key of which one prime is a product of two, all else as it must be.
fn composite(p: &BigNum, a: &BigNum, b: &BigNum, e: &BigNum) -> Numbers {
    let q = a * b;
    Numbers::of(p, &q, e, &inverse(e, &(&order(p) * &order(&q))))
}

fn number(value: u32) -> BigNum {
    BigNum::from_u32(value).unwrap()
}

fn copy(number: &BigNum) -> BigNum {
    BigNum::from_slice(&number.to_vec()).unwrap()
}

fn order(prime: &BigNum) -> BigNum {
    prime - &number(1)
}

fn modulo(number: &BigNum, modulus: &BigNum) -> BigNum {
    let mut remainder = BigNum::new().unwrap();
    remainder
        .nnmod(number, modulus, &mut BigNumContext::new().unwrap())
        .unwrap();
    remainder
}

fn inverse(of: &BigNum, modulus: &BigNum) -> BigNum {
    let mut inverse = BigNum::new().unwrap();
    inverse
        .mod_inverse(of, modulus, &mut BigNumContext::new().unwrap())
        .unwrap();
    inverse
}

fn prime(bits: i32) -> BigNum {
    prime_for(bits, 65537)
}

/// A prime for which this is a good exponent.
fn prime_for(bits: i32, exponent: u32) -> BigNum {
    loop {
        let mut prime = BigNum::new().unwrap();
        prime.generate_prime(bits, false, None, None).unwrap();
        if order(&prime).mod_word(exponent).unwrap() != 0 {
            return prime;
        }
    }
}

fn next_prime(after: &BigNum) -> BigNum {
    let mut next = copy(after);
    let mut context = BigNumContext::new().unwrap();
    loop {
        next.add_word(2).unwrap();
        if next.is_prime(20, &mut context).unwrap() && order(&next).mod_word(65537).unwrap() != 0 {
            return next;
        }
    }
}

/// A prime of 520 bits as the faulty chips made it (CVE-2017-15361): k M + (65537^a mod M), with M the product of the first primes.
fn roca_prime() -> BigNum {
    let mut context = BigNumContext::new().unwrap();
    let mut primorial = number(1);
    let primes = (2..=167_u32).filter(|n| (2..*n).all(|divisor| !n.is_multiple_of(divisor)));
    primes.for_each(|prime| primorial.mul_word(prime).unwrap());
    loop {
        let (mut k, mut a, mut power) = (BigNum::new().unwrap(), BigNum::new().unwrap(), BigNum::new().unwrap());
        k.rand(520 - primorial.num_bits(), MsbOption::ONE, false).unwrap();
        a.rand(62, MsbOption::MAYBE_ZERO, false).unwrap();
        power.mod_exp(&number(65537), &a, &primorial, &mut context).unwrap();
        let prime = &(&k * &primorial) + &power;
        if prime.is_prime(20, &mut context).unwrap() && order(&prime).mod_word(65537).unwrap() != 0 {
            return prime;
        }
    }
}
