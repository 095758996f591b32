//! Weaknesses of an RSA key that its private parts show.

use openssl::bn::BigNum;
use openssl::error::ErrorStack;
use pkcs1::RsaPrivateKeyRef;
use pkcs8::PrivateKeyInfoRef;
use pkcs8::der::Decode;

/// The difference of the primes must exceed 2^(bits / 2 - 100) (FIPS 186-5 A.1.3). Fermat's method finds closer primes.
const CLOSE_BITS: i32 = 100;
/// Lattices find a private exponent below n^0.292 (Boneh and Durfee, "Cryptanalysis of RSA with private key d less than
/// N^0.292", 1999). In thousandths.
const SMALL_EXPONENT: i32 = 292;

/// The weaknesses of an RSA key.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub(in crate::certificate) struct Weaknesses {
    /// Its primes are close to each other.
    pub(in crate::certificate) close_primes: bool,
    /// Its private exponent is small.
    pub(in crate::certificate) small_private_exponent: bool,
}

/// The weaknesses of a key in PKCS#8. A key that is not RSA has none.
pub(super) fn of(pkcs8: &[u8]) -> Weaknesses {
    let Ok(info) = PrivateKeyInfoRef::from_der(pkcs8) else {
        return Weaknesses::default();
    };
    match RsaPrivateKeyRef::from_der(info.private_key.as_bytes()) {
        // OpenSSL's arithmetic fails only if memory runs out.
        Ok(key) => of_rsa(&key).unwrap_or_default(),
        Err(_) => Weaknesses::default(),
    }
}

fn of_rsa(key: &RsaPrivateKeyRef<'_>) -> Result<Weaknesses, ErrorStack> {
    let number = |number: pkcs1::UintRef<'_>| {
        let mut secret = BigNum::new_secure()?;
        secret.copy_from_slice(number.as_bytes())?;
        Ok::<_, ErrorStack>(secret)
    };
    let bits = number(key.modulus)?.num_bits();
    let (p, q) = (number(key.prime1)?, number(key.prime2)?);
    let mut difference = BigNum::new_secure()?;
    difference.checked_sub(&p, &q)?;
    Ok(Weaknesses {
        close_primes: difference.num_bits() <= bits / 2 - CLOSE_BITS,
        small_private_exponent: number(key.private_exponent)?.num_bits() * 1000 < bits * SMALL_EXPONENT,
    })
}
