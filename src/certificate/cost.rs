//! No input costs more than 50 ms of processor time on a processor that verifies a P-256 signature in 62 microseconds.
//! A slower or busy processor may take proportionally longer. The tests are not optimized, and processors differ in how much slower that
//! makes Rust than OpenSSL. So the tests allow twice the time. An input whose cost grows with its square takes many times more.

use std::time::Duration;

use openssl::asn1::{Asn1Object, Asn1OctetString, Asn1Time};
use openssl::bn::{BigNum, BigNumContext, BigNumRef, MsbOption};
use openssl::ec::{Asn1Flag, EcGroup, EcKey, PointConversionForm};
use openssl::ecdsa::EcdsaSig;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::x509::{X509, X509Builder, X509Extension, X509Name};
use rustix::time::{ClockId, clock_gettime};
use x509_parser::asn1_rs::ToDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;

use super::key_type::MlDsa;
use super::test_pair::{self, AT, TestPair, der, integer, pem, sequence};
use super::{
    Authorities, CertificateError, FindingCode, PairError, Policy, UnverifiedCa, UnverifiedPair, VerifiedPair,
};
use crate::secret::Secret;

const LIMIT: Duration = Duration::from_millis(100);

/// The processor time that this thread has used.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap()
}

/// Verifies the pair and makes the report, and prints the time of each: the shortest of five runs, because tests run in
/// parallel.
fn verify(what: &str, certificate: &[u8], key: &[u8]) -> Result<VerifiedPair, PairError> {
    let key = Secret::from(key.to_vec());
    let read = || UnverifiedPair::read(certificate, &key);
    timed(&format!("report of {what}"), || {
        read().report(AT, &Policy::default(), &Authorities::default())
    });
    timed(what, || read().verify(AT, &Policy::default(), &Authorities::default()))
}

fn timed<T>(what: &str, run: impl Fn() -> T) -> T {
    timed_within(LIMIT, what, run)
}

fn timed_within<T>(limit: Duration, what: &str, run: impl Fn() -> T) -> T {
    fn time<T>(run: impl Fn() -> T) -> (Duration, T) {
        let start = processor_time();
        let outcome = run();
        (processor_time() - start, outcome)
    }
    let unit = unit();
    let mut shortest = Duration::MAX;
    let mut outcomes = Vec::new();
    for _ in 0..5 {
        // The speed of the processor varies. So the time of `unit` is measured before and after the run.
        let before = time(&unit).0;
        let (took, outcome) = time(&run);
        let slowness = before.max(time(&unit).0).div_duration_f64(UNIT).max(1.0);
        shortest = shortest.min(took.div_f64(slowness));
        outcomes.push(outcome);
    }
    #[expect(clippy::print_stdout, reason = "shown by --nocapture")]
    {
        println!("{what}: {shortest:?}");
    }
    assert!(shortest < limit, "{what} took {shortest:?}");
    outcomes.swap_remove(0)
}

/// The time of [`unit`] on the processor for which the limits are defined.
const UNIT: Duration = Duration::from_micros(16 * 62);

/// Verifies sixteen P-256 signatures.
fn unit() -> impl Fn() {
    let key = test_pair::ec_key(Nid::X9_62_PRIME256V1).ec_key().unwrap();
    let signed = [7; 32];
    let signature = EcdsaSig::sign(&signed, &key).unwrap();
    move || {
        for _ in 0..16 {
            assert!(signature.verify(&signed, &key).unwrap());
        }
    }
}

#[test]
fn common_pairs() {
    for (what, pair) in [
        ("RSA-2048", TestPair::of(test_pair::rsa_key(2048))),
        ("RSA-4096", TestPair::of(test_pair::rsa_key(4096))),
        // The longest key whose primes are tested.
        ("RSA-6144", TestPair::of(test_pair::rsa_key(6144))),
        ("RSA-PSS-2048", TestPair::of(test_pair::rsa_pss_key(2048, &[]))),
        ("P-256", TestPair::of(test_pair::ec_key(Nid::X9_62_PRIME256V1))),
        ("P-384", TestPair::of(test_pair::ec_key(Nid::SECP384R1))),
        ("P-521", TestPair::of(test_pair::ec_key(Nid::SECP521R1))),
        ("secp256k1", TestPair::of(test_pair::ec_key(Nid::SECP256K1))),
        ("Ed25519", test_pair::ed25519()),
        ("Ed448", TestPair::of(PKey::generate_ed448().unwrap())),
        ("ML-DSA-44", TestPair::of(test_pair::ml_dsa_key(MlDsa::MlDsa44).0)),
        ("ML-DSA-65", TestPair::of(test_pair::ml_dsa_key(MlDsa::MlDsa65).0)),
        ("ML-DSA-87", TestPair::of(test_pair::ml_dsa_key(MlDsa::MlDsa87).0)),
    ] {
        let chain = pair.certificate_pem().repeat(3);
        assert!(verify(what, &chain, &pair.key_pem()).is_ok());
    }
}

#[test]
fn the_largest_rsa_key_and_twenty_of_its_certificates() {
    let (key, body) = rsa_16384();
    let certificate = {
        let signer = test_pair::ec().key;
        let mut builder = test_pair::builder(&signer);
        builder.set_pubkey(&key).unwrap();
        test_pair::sign(builder, &signer)
    };
    let text = certificate.to_pem().unwrap().repeat(20);
    assert_eq!(
        verify("RSA-16384", &text, &pem("RSA PRIVATE KEY", &body))
            .unwrap()
            .certificate()
            .facts()
            .key_size,
        16384
    );
}

#[test]
fn an_rsa_key_with_one_long_factor() {
    for (p, bits) in [(131_101, 6125), (131_101, 4070)] {
        let mut q = BigNum::new().unwrap();
        q.rand(bits, MsbOption::ONE, true).unwrap();
        let (key, body) = rsa_of(&BigNum::from_u32(p).unwrap(), &q);
        let signer = test_pair::ec().key;
        let mut builder = test_pair::builder(&signer);
        builder.set_pubkey(&key).unwrap();
        let text = test_pair::sign(builder, &signer).to_pem().unwrap();
        let what = format!("RSA with a factor of {bits} bits");
        let error = verify(&what, &text, &pem("RSA PRIVATE KEY", &body)).unwrap_err();
        assert!(error.rejected.contains(&FindingCode::KeyFactorable), "{error:?}");
    }
}

#[test]
fn the_largest_rsa_key_in_four_forms() {
    let (key, body) = rsa_16384();
    let certificate = {
        let signer = test_pair::ec().key;
        let mut builder = test_pair::builder(&signer);
        builder.set_pubkey(&key).unwrap();
        test_pair::sign(builder, &signer)
    };
    let rsa = hex::decode("06092a864886f70d010101").unwrap();
    let (bare, null) = (sequence(&[&rsa]), sequence(&[&rsa, &[5, 0]]));
    let public = [&[0], &key.rsa().unwrap().public_key_to_der_pkcs1().unwrap()[..]].concat();
    let (private, public) = (der(4, &body), der(0x81, &public));
    let text = [
        pem("RSA PRIVATE KEY", &body),
        pem("PRIVATE KEY", &sequence(&[&integer(&[]), &bare, &private])),
        pem("PRIVATE KEY", &sequence(&[&integer(&[]), &null, &private])),
        pem("PRIVATE KEY", &sequence(&[&integer(&[1]), &null, &private, &public])),
    ];
    let certificate = certificate.to_pem().unwrap();
    assert!(verify("RSA-16384 in four forms", &certificate, &text.concat()).is_ok());
}

/// A self-signed certificate with the longest modulus and exponent that are verified, and a long text of these
/// certificates.
#[test]
fn the_dearest_certificates_of_an_authority() {
    let verify_ca = |what: &str, text: &[u8]| {
        timed(what, || {
            UnverifiedCa::read(text)
                .verify(AT, &Policy::default(), &Authorities::default())
                .is_ok()
        });
    };
    let (key, body) = rsa_16384();
    let modulus = key.rsa().unwrap().n().to_owned().unwrap();
    let exponent = BigNum::from_slice(&[0xff; 8]).unwrap();
    let dear = openssl::rsa::Rsa::from_public_components(modulus, exponent).unwrap();
    let signer = PKey::from_rsa(openssl::rsa::Rsa::private_key_from_der(&body).unwrap()).unwrap();
    let mut builder = test_pair::builder(&test_pair::ec().key);
    builder.set_pubkey(&PKey::from_rsa(dear).unwrap()).unwrap();
    let text = test_pair::sign(builder, &signer).to_pem().unwrap();
    verify_ca("an authority of RSA-16384", &text);
    verify_ca("the same twenty times", &text.repeat(20));
    // The longest modulus that is tested for being a prime.
    let root = TestPair::with_extensions(test_pair::rsa_key(4096), test_pair::AUTHORITY);
    verify_ca("an authority of RSA-4096", &root.certificate_pem());
    let (certificate, _) = with_extension("1.2.3.4", &[0; 150 * 1024]);
    verify_ca("an authority of the largest size", &certificate.to_pem().unwrap());
}

#[test]
fn texts_that_are_made_plain() {
    let labels = format!("----BEGIN {}", "A---".repeat(20));
    for unit in [
        "-----BEGIN ",
        "-----END A-----",
        "-",
        "---- ",
        &labels,
        "\\",
        "\\n",
        "\\x",
        "\u{feff}",
        "B\0E\0G\0I\0N\0",
        "LS0t",
        "-----BEGIN A-----\n-----END A-----",
        "-----BEGIN PUBLIC KEY-----\nMIIB\n-----END PUBLIC KEY-----\n",
    ] {
        let text = unit.repeat(256 * 1024 / unit.len());
        assert!(verify(&format!("a text of {unit:.20?}"), text.as_bytes(), b"").is_err());
    }
}

#[test]
fn many_private_keys() {
    let pair = test_pair::ec();
    let certificate = pair.certificate_pem();
    let key = pair.key_pem();
    let same = key.repeat(64 * 1024 / key.len());
    assert!(verify("one key many times", &certificate, &same).is_ok());
    let empty = b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n";
    let empty = empty.repeat(64 * 1024 / empty.len());
    assert!(verify("many empty keys", &certificate, &empty).is_err());
    let key = test_pair::ec_key(Nid::SECP521R1).private_key_to_pem_pkcs8().unwrap();
    let others = [key.repeat(100), pair.key_pem().repeat(100)].concat();
    assert!(verify("other keys", &certificate, &others).is_err());
}

/// The prime of ffdhe8192 (RFC 7919 A.5): 2^8192 - 2^8128 + ((floor(2^8062 e) + 10965728) 2^64) - 1.
fn ffdhe8192() -> BigNum {
    let one = BigNum::from_u32(1).unwrap();
    let power = |bits: i32| {
        let mut power = BigNum::new().unwrap();
        power.lshift(&one, bits).unwrap();
        power
    };
    // e is the sum of 1/k!. 64 extra bits keep the rounding error small.
    let (mut term, mut sum) = (power(8062 + 64), BigNum::new().unwrap());
    for k in 1.. {
        sum = &sum + &term;
        if term.num_bits() == 0 {
            break;
        }
        term.div_word(k).unwrap();
    }
    let mut middle = BigNum::new().unwrap();
    middle.rshift(&sum, 64).unwrap();
    middle.add_word(10_965_728).unwrap();
    let mut shifted = BigNum::new().unwrap();
    shifted.lshift(&middle, 64).unwrap();
    let outer = &power(8192) - &power(8128);
    let prime = &(&outer + &shifted) - &one;
    assert!(hex::encode(prime.to_vec()).ends_with("c5c6424cffffffffffffffff"));
    prime
}

/// A 16384-bit key of two published primes: group 18 of RFC 3526 and ffdhe8192 of RFC 7919.
fn rsa_16384() -> (PKey<openssl::pkey::Public>, Vec<u8>) {
    rsa_of(&BigNum::get_rfc3526_prime_8192().unwrap(), &ffdhe8192())
}

/// A key of these factors, which need not be prime.
fn rsa_of(p: &BigNum, q: &BigNum) -> (PKey<openssl::pkey::Public>, Vec<u8>) {
    let mut context = BigNumContext::new().unwrap();
    let number = |n: u32| BigNum::from_u32(n).unwrap();
    let one = number(1);
    let inverse = |a: &BigNumRef, modulus: &BigNumRef| {
        let mut inverse = BigNum::new().unwrap();
        inverse
            .mod_inverse(a, modulus, &mut BigNumContext::new().unwrap())
            .ok()
            .map(|()| inverse)
    };
    let phi = &(p - &one) * &(q - &one);
    let (e, d) = (65537..)
        .step_by(2)
        .find_map(|e| Some((number(e), inverse(&number(e), &phi)?)))
        .unwrap();
    let coefficient = inverse(q, p).unwrap();
    let mut modulo = |prime: &BigNum| {
        let mut exponent = BigNum::new().unwrap();
        exponent.nnmod(&d, &(prime - &one), &mut context).unwrap();
        exponent
    };
    let (dp, dq, n) = (modulo(p), modulo(q), p * q);
    let numbers = [&n, &e, &d, p, q, &dp, &dq, &coefficient]
        .map(|number| integer(&number.to_vec()))
        .concat();
    let public = openssl::rsa::Rsa::from_public_components(n, e).unwrap();
    (PKey::from_rsa(public).unwrap(), sequence(&[&integer(&[]), &numbers]))
}

#[test]
fn texts_without_a_certificate() {
    let key = test_pair::ec().key_pem();
    for (what, line) in [
        ("BEGIN lines", "-----BEGIN CERTIFICATE-----\n"),
        (
            "empty blocks",
            "-----BEGIN CERTIFICATE-----\n-----END CERTIFICATE-----\n",
        ),
        (
            "parameters",
            "-----BEGIN EC PARAMETERS-----\n-----END EC PARAMETERS-----\n",
        ),
        ("almost BEGIN", "-----BEGIN-----BEGIN"),
        ("dashes", "-"),
        ("line ends", "\r\n"),
    ] {
        let mut text = line.repeat(256 * 1024 / line.len()).into_bytes();
        assert!(verify(what, &text, &key).is_err());
        text.truncate(64 * 1024);
        assert!(verify(what, &test_pair::ec().certificate_pem(), &text).is_err());
    }
}

fn with_extension(oid: &str, value: &[u8]) -> (X509, PKey<Private>) {
    let key = test_pair::ec().key;
    let mut builder = test_pair::builder(&key);
    let oid = Asn1Object::from_str(oid).unwrap();
    let value = Asn1OctetString::new_from_bytes(value).unwrap();
    builder
        .append_extension(X509Extension::new_from_der(&oid, false, &value).unwrap())
        .unwrap();
    (test_pair::sign(builder, &key), key)
}

/// A DER value, also of a length that needs three bytes.
fn long_der(tag: u8, content: &[u8]) -> Vec<u8> {
    if content.len() <= usize::from(u16::MAX) {
        return der(tag, content);
    }
    let length = u32::try_from(content.len()).unwrap().to_be_bytes();
    [&[tag, 0x83], &length[1..], content].concat()
}

#[test]
fn certificates_of_the_largest_size() {
    let mut nested = Vec::new();
    for _ in 0..10_000 {
        nested = if nested.len() < 60_000 {
            der(0x30, &nested)
        } else {
            long_der(0x30, &nested)
        };
    }
    for (what, oid, value) in [
        ("names", "2.5.29.17", long_der(0x30, &der(0x82, b"a").repeat(60_000))),
        (
            "addresses",
            "2.5.29.17",
            long_der(0x30, &der(0x87, &[0; 16]).repeat(10_000)),
        ),
        (
            "policies",
            "2.5.29.32",
            long_der(0x30, &sequence(&[&der(6, &[42])]).repeat(35_000)),
        ),
        (
            "constraints",
            "2.5.29.30",
            long_der(0x30, &long_der(0xa0, &sequence(&[&der(0x82, b"a")]).repeat(35_000))),
        ),
        ("different policies", "2.5.29.32", long_der(0x30, &different_policies())),
        (
            "distribution points",
            "2.5.29.31",
            long_der(
                0x30,
                &sequence(&[&der(0xa0, &der(0xa0, &der(0x86, b"a")))]).repeat(20_000),
            ),
        ),
        (
            "access descriptions",
            "1.3.6.1.5.5.7.1.1",
            long_der(0x30, &sequence(&[&der(6, &[42]), &der(0x86, b"a")]).repeat(20_000)),
        ),
        (
            "issuers of a key",
            "2.5.29.35",
            long_der(
                0x30,
                &[long_der(0xa1, &der(0x82, b"a").repeat(50_000)), der(0x82, &[1])].concat(),
            ),
        ),
        (
            "features",
            "1.3.6.1.5.5.7.1.24",
            long_der(0x30, &integer(&[1]).repeat(50_000)),
        ),
        ("nested", "2.5.29.17", nested.clone()),
        ("nested policies", "2.5.29.32", nested.clone()),
        ("nested constraints", "2.5.29.30", nested.clone()),
        ("nested unknown", "1.2.3.4", nested),
    ] {
        let (certificate, key) = with_extension(oid, &value);
        // The test measures the cost only, so the odd extension may be accepted or refused.
        let _ = verify(
            what,
            &certificate.to_pem().unwrap(),
            &key.private_key_to_pem_pkcs8().unwrap(),
        );
    }
}

fn different_policies() -> Vec<u8> {
    let policy = |number: u16| {
        let [high, middle, low] = [number >> 14, number >> 7 & 0x7f, number & 0x7f].map(|bits| bits as u8);
        sequence(&[&der(6, &[42, 0x80 | high.max(1), 0x80 | middle, low])])
    };
    (0..16_000).flat_map(policy).collect()
}

#[test]
fn names_of_the_largest_size() {
    let oid = [0x55, 4, 3];
    let attributes = vec![sequence(&[&der(6, &oid), &der(12, b"")]); 8_500];
    let parts: Vec<_> = attributes.iter().map(|attribute| der(0x31, attribute)).collect();
    let of_value = |value: Vec<u8>| long_der(0x30, &long_der(0x31, &long_der(0x30, &[der(6, &oid), value].concat())));
    let of_oid = |oid: Vec<u8>| long_der(0x30, &long_der(0x31, &long_der(0x30, &[oid, der(12, b"a")].concat())));
    for (what, name) in [
        ("many parts", long_der(0x30, &parts.concat())),
        ("one wide part", long_der(0x30, &long_der(0x31, &attributes.concat()))),
        ("long control text", of_value(long_der(12, &[1; 80_000]))),
        ("long BMP text", of_value(long_der(30, &b"\0a".repeat(40_000)))),
        (
            "long number in an identifier",
            of_oid(long_der(6, &[vec![0x55], vec![0xff; 80_000], vec![1]].concat())),
        ),
        ("many numbers in an identifier", of_oid(long_der(6, &[1; 80_000]))),
    ] {
        let key = test_pair::ec().key;
        let mut builder = test_pair::builder(&key);
        let name = X509Name::from_der(&name).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        let text = test_pair::sign(builder, &key).to_pem().unwrap();
        assert!(text.len() < 256 * 1024, "{what}");
        let _ = verify(what, &text, &key.private_key_to_pem_pkcs8().unwrap());
    }
}

#[test]
fn many_extensions() {
    let value = Asn1OctetString::new_from_bytes(&[5, 0]).unwrap();
    for (what, is_critical) in [("many extensions", false), ("many critical extensions", true)] {
        let key = test_pair::ec().key;
        let mut builder = test_pair::builder(&key);
        for i in 0..8_000 {
            let oid = Asn1Object::from_str(&format!("1.2.3.{i}")).unwrap();
            builder
                .append_extension(X509Extension::new_from_der(&oid, is_critical, &value).unwrap())
                .unwrap();
        }
        let text = test_pair::sign(builder, &key).to_pem().unwrap();
        assert!(text.len() < 256 * 1024);
        assert!(verify(what, &text, &key.private_key_to_pem_pkcs8().unwrap()).is_ok());
    }
}

#[test]
fn twenty_certificates_with_explicit_curves() {
    let mut group = EcGroup::from_curve_name(Nid::SECP521R1).unwrap();
    group.set_asn1_flag(Asn1Flag::EXPLICIT_CURVE);
    let explicit = PKey::from_ec_key(EcKey::generate(&group).unwrap()).unwrap();
    let pair = TestPair::of(explicit);
    let text = [test_pair::ec().certificate_pem(), pair.certificate_pem().repeat(19)].concat();
    assert!(verify("explicit curves", &text, &pair.key_pem()).is_err());
}

/// Certificates with the same name, each signed by the key of the next certificate. They need the maximum number of
/// signatures. Returns the certificates, and the leaf's private key on its own.
fn entangled(signers: &[PKey<Private>]) -> (Vec<u8>, Vec<u8>) {
    let leaf = test_pair::ec().key;
    let keys: Vec<_> = std::iter::once(&leaf).chain(signers).collect();
    let text = keys.iter().enumerate().flat_map(|(place, key)| {
        let signer = keys.get(place + 1).copied().unwrap_or(&signers[0]);
        test_pair::sign(test_pair::builder(key), signer).to_pem().unwrap()
    });
    (text.collect(), leaf.private_key_to_pem_pkcs8().unwrap())
}

#[test]
fn twenty_certificates_of_one_name() {
    for (what, key) in [
        ("20 of P-256", test_pair::ec_key as fn(Nid) -> PKey<Private>),
        ("20 of P-384", |_| test_pair::ec_key(Nid::SECP384R1)),
        ("20 of P-521", |_| test_pair::ec_key(Nid::SECP521R1)),
        ("20 of secp256k1", |_| test_pair::ec_key(Nid::SECP256K1)),
        ("20 of Ed25519", |_| test_pair::ed25519().key),
        ("20 of ML-DSA-44", |_| test_pair::ml_dsa_key(MlDsa::MlDsa44).0),
        ("20 of ML-DSA-87", |_| test_pair::ml_dsa_key(MlDsa::MlDsa87).0),
        ("20 of Ed448", |_| PKey::generate_ed448().unwrap()),
    ] {
        let keys: Vec<_> = (0..19).map(|_| key(Nid::X9_62_PRIME256V1)).collect();
        let (text, key) = entangled(&keys);
        let error = verify(what, &text, &key).unwrap_err();
        assert_eq!(error.certificate, [CertificateError::TooComplex], "{what}");
    }
}

/// Generates RSA keys of 8192 bits with the longest exponents.
fn dearest_rsa_keys() -> impl FnMut() -> PKey<Private> {
    let mut context = BigNumContext::new().unwrap();
    // The modulus is a prime, because the exponents of a prime modulus are easy to find.
    let modulus = BigNum::get_rfc3526_prime_8192().unwrap();
    let order = &modulus - &BigNum::from_u32(1).unwrap();
    let mut exponent = BigNum::from_dec_str("18446744073709551615").unwrap();
    move || loop {
        exponent.sub_word(2).unwrap();
        let mut inverse = BigNum::new().unwrap();
        if inverse.mod_inverse(&exponent, &order, &mut context).is_ok() {
            let number = |number: &BigNumRef| number.to_owned().unwrap();
            let key = openssl::rsa::RsaPrivateKeyBuilder::new(number(&modulus), number(&exponent), inverse);
            return PKey::from_rsa(key.unwrap().build()).unwrap();
        }
    }
}

#[test]
fn twenty_certificates_of_the_dearest_rsa_keys() {
    let mut key = dearest_rsa_keys();
    // The first five keys are enough for forty signatures.
    let keys: Vec<_> = (0..19).map(|_| key()).collect();
    let (text, key) = entangled(&keys);
    let error = verify("20 of RSA-8192", &text, &key).unwrap_err();
    assert_eq!(error.certificate, [CertificateError::TooComplex]);
}

/// The serving threads verify texts of this size inline: `app::cpu_pool`.
#[test]
fn texts_of_8_kib_cost_little() {
    const LIMIT: Duration = Duration::from_millis(40);
    let mut rsa = dearest_rsa_keys();
    let keys: [(&str, &mut dyn FnMut() -> PKey<Private>); 5] = [
        ("8 KiB of P-256", &mut || test_pair::ec_key(Nid::X9_62_PRIME256V1)),
        ("8 KiB of P-384", &mut || test_pair::ec_key(Nid::SECP384R1)),
        ("8 KiB of P-521", &mut || test_pair::ec_key(Nid::SECP521R1)),
        ("8 KiB of Ed448", &mut || PKey::generate_ed448().unwrap()),
        ("8 KiB of RSA-8192", &mut rsa),
    ];
    for (what, key) in keys {
        let mut keys = Vec::new();
        let growing = std::iter::from_fn(|| {
            keys.push(key());
            Some(entangled(&keys))
        });
        let (text, key) = growing
            .take_while(|(text, key)| text.len() + key.len() <= 8 * 1024)
            .last()
            .unwrap();
        let key = Secret::from(key);
        timed_within(LIMIT, what, || {
            let pair = UnverifiedPair::read(&text, &key);
            pair.verify(AT, &Policy::default(), &Authorities::default()).is_ok()
        });
    }
}

#[test]
fn many_names_and_constraints() {
    let [root, issuer, server] = ["root", "issuer", "server"].map(test_pair::Entity::new);
    for length in [1, 200] {
        let count = 80_000 / (length + 6);
        let name = vec![b'a'; length];
        let names = long_der(0x30, &der(0x82, &name).repeat(count));
        let leaf = issuer.certify_with(&server, &[], |builder| add(builder, "2.5.29.17", &names));
        let subtrees = sequence(&[&der(0x82, &[&b"b"[..], &name[1..]].concat())]).repeat(count);
        let constraints = long_der(0x30, &long_der(0xa1, &subtrees));
        let above = root.certify_with(&issuer, &[], |builder| add(builder, "2.5.29.30", &constraints));
        let text = [leaf.to_pem().unwrap(), above.to_pem().unwrap()].concat();
        let error = verify("names and constraints", &text, &server.key_pem()).unwrap_err();
        assert_eq!(error.certificate, [CertificateError::TooComplex], "{length}");
    }
}

#[test]
fn many_common_names_and_names() {
    for (what, common_name, name) in [
        ("host names", &b"a.b"[..], der(0x82, b"c.d")),
        ("addresses", b"192.0.2.1", der(0x87, &[])),
    ] {
        let common_name = der(0x31, &sequence(&[&der(6, &[0x55, 4, 3]), &der(12, common_name)]));
        let subject = X509Name::from_der(&long_der(0x30, &common_name.repeat(255))).unwrap();
        let names = long_der(0x30, &name.repeat(150_000 / name.len()));
        let [issuer, server] = ["issuer", "server"].map(test_pair::Entity::new);
        let leaf = issuer.certify_with(&server, &[], |builder| {
            builder.set_subject_name(&subject).unwrap();
            add(builder, "2.5.29.17", &names);
        });
        assert!(verify(what, &leaf.to_pem().unwrap(), &server.key_pem()).is_ok());
    }
}

fn add(builder: &mut X509Builder, oid: &str, value: &[u8]) {
    let oid = Asn1Object::from_str(oid).unwrap();
    let value = Asn1OctetString::new_from_bytes(value).unwrap();
    let extension = X509Extension::new_from_der(&oid, false, &value).unwrap();
    builder.append_extension(extension).unwrap();
}

#[test]
fn long_names_and_many_constraints() {
    let [root, issuer, server] = ["root", "issuer", "server"].map(test_pair::Entity::new);
    let bits = [vec![0; 123], vec![1], vec![255; 124]].concat();
    for (what, names, base, kind) in [
        (
            "a long address of mail",
            long_der(0x81, &[b'a'; 90_000]),
            der(0x81, b"b"),
            0xa0,
        ),
        (
            "a long DNS name",
            long_der(0x82, &[b'a'; 90_000]),
            der(0x82, b"b"),
            0xa0,
        ),
        ("a long URI", long_der(0x86, &[b'a'; 90_000]), der(0x86, b"b"), 0xa0),
        (
            "long addresses",
            der(0x87, &[0; 124]).repeat(700),
            der(0x87, &bits),
            0xa1,
        ),
    ] {
        let names = long_der(0x30, &names);
        let leaf = issuer.certify_with(&server, &[], |builder| add(builder, "2.5.29.17", &names));
        let subtree = sequence(&[&base]);
        let constraints = long_der(0x30, &long_der(kind, &subtree.repeat(90_000 / subtree.len())));
        let above = root.certify_with(&issuer, &[], |builder| add(builder, "2.5.29.30", &constraints));
        let text = [leaf.to_pem().unwrap(), above.to_pem().unwrap()].concat();
        // The test measures the cost only, so `verify` may also refuse to compare so much.
        let _ = verify(what, &text, &server.key_pem());
    }
}

#[test]
fn a_long_signature_algorithm_before_many_issuers() {
    let server = test_pair::Entity::new("server");
    let issuers: Vec<_> = (0..19).map(|_| test_pair::Entity::new("issuer")).collect();
    let leaf = issuers[0].certify_server(&server).to_der().unwrap();
    let (_, fields) = X509Certificate::from_der(&leaf).unwrap();
    let algorithm = long_der(0x30, &long_der(6, &vec![1; 170_000]));
    let leaf = long_der(
        0x30,
        &[fields.tbs_certificate.as_ref(), &algorithm, &der(3, &[0, 1])].concat(),
    );
    let others = issuers.iter().map(|issuer| issuer.certify_authority(issuer));
    let others = others.flat_map(|certificate| certificate.to_pem().unwrap());
    let text: Vec<_> = pem("CERTIFICATE", &leaf).into_iter().chain(others).collect();
    assert!(text.len() < 256 * 1024);
    // The leaf names two signature algorithms, so the names of the issuers count.
    assert!(verify("a long signature algorithm", &text, &server.key_pem()).is_ok());
}

#[test]
fn a_long_path_below_which_the_leaf_has_the_largest_name() {
    let part = der(0x31, &sequence(&[&der(6, &[0x55, 4, 3]), &der(12, b"")]));
    let name = X509Name::from_der(&long_der(0x30, &part.repeat(256))).unwrap();
    for (what, curve, certificates) in [
        ("P-384", Nid::SECP384R1, 20),
        ("P-521", Nid::SECP521R1, 10),
        ("secp256k1", Nid::SECP256K1, 20),
    ] {
        let entities: Vec<_> = (0..certificates)
            .map(|place| test_pair::Entity {
                name: format!("number {place}"),
                key: test_pair::ec_key(curve),
            })
            .collect();
        let path = entities.windows(2).enumerate().map(|(place, pair)| {
            pair[1].certify_with(&pair[0], test_pair::AUTHORITY, |builder| {
                builder.set_pubkey(&compressed(&pair[0].key)).unwrap();
                if place == 0 {
                    builder.set_subject_name(&name).unwrap();
                }
            })
        });
        let text: Vec<_> = path.flat_map(|certificate| certificate.to_pem().unwrap()).collect();
        assert!(text.len() < 256 * 1024);
        let what = format!("a path of compressed points on {what}");
        assert!(verify(&what, &text, &entities[0].key_pem()).is_ok());
    }
    // One more P-521 certificate is too many.
    let entities: Vec<_> = (0..11)
        .map(|place| test_pair::Entity {
            name: format!("number {place}"),
            key: test_pair::ec_key(Nid::SECP521R1),
        })
        .collect();
    let path = entities.windows(2).map(|pair| pair[1].certify_authority(&pair[0]));
    let text: Vec<_> = path.flat_map(|certificate| certificate.to_pem().unwrap()).collect();
    let error = verify("a longer path of P-521", &text, &entities[0].key_pem()).unwrap_err();
    assert_eq!(error.certificate, [CertificateError::TooComplex]);
}

/// The same public key with a compressed point, so that the y coordinate must be computed.
fn compressed(key: &PKey<Private>) -> PKey<openssl::pkey::Public> {
    let key = key.ec_key().unwrap();
    let mut context = BigNumContext::new().unwrap();
    let point = key
        .public_key()
        .to_bytes(key.group(), PointConversionForm::COMPRESSED, &mut context)
        .unwrap();
    let spki = PKey::from_ec_key(key).unwrap().public_key_to_der().unwrap();
    let (_, spki) = x509_parser::x509::SubjectPublicKeyInfo::from_der(&spki).unwrap();
    let curve = spki.algorithm.parameters.unwrap().to_der_vec().unwrap();
    let algorithm = sequence(&[&spki.algorithm.algorithm.to_der_vec().unwrap(), &curve]);
    PKey::public_key_from_der(&sequence(&[&algorithm, &der(3, &[&[0], &point[..]].concat())])).unwrap()
}

/// Certificates until different times.
fn twins(by: &test_pair::Entity, of: &test_pair::Entity, count: i64) -> Vec<X509> {
    let until = |number| Asn1Time::from_unix(1_893_456_000 + number).unwrap();
    (0..count)
        .map(|number| {
            by.certify_with(of, test_pair::AUTHORITY, |builder| {
                builder.set_not_after(&until(number)).unwrap();
            })
        })
        .collect()
}

/// The most paths of certificates that are each signed by one key.
#[test]
fn the_most_paths() {
    let server = test_pair::Entity::new("server");
    let line: Vec<_> = (0..7).map(|place| test_pair::Entity::new(format!("{place}"))).collect();
    let mut all = vec![line[0].certify_server(&server)];
    for (place, count) in [3, 3, 3, 3, 3, 4].into_iter().enumerate() {
        all.extend(twins(&line[place + 1], &line[place], count));
    }
    assert_eq!(all.len(), 20);
    let text: Vec<_> = all
        .iter()
        .flat_map(|certificate| certificate.to_pem().unwrap())
        .collect();
    let chain = verify("the most paths", &text, &server.key_pem()).unwrap();
    assert_eq!(chain.certificate().chain().der().count(), 20);
}

/// Two names, and keys whose signatures are not verified: every certificate of one name may have issued every one of the other.
#[test]
fn certificates_that_may_all_have_issued_each_other() {
    let entity = |name: &str| test_pair::Entity {
        key: test_pair::ec_key(Nid::BRAINPOOL_P256R1),
        ..test_pair::Entity::new(name)
    };
    let server = test_pair::Entity::new("server");
    let [a, b] = ["a", "b"].map(entity);
    let names = long_der(0x30, &der(0x82, b"a").repeat(5_000));
    let subtrees = sequence(&[&der(0x82, b"b")]).repeat(500);
    let constraints = long_der(0x30, &long_der(0xa1, &subtrees));
    for (what, is_constrained) in [("tangled names", false), ("tangled names and constraints", true)] {
        let issuers = (0..19).map(|place| {
            let (by, of) = if place % 2 == 0 { (&b, "a") } else { (&a, "b") };
            by.certify_with(&entity(of), test_pair::AUTHORITY, |builder| {
                if is_constrained {
                    add(builder, "2.5.29.30", &constraints);
                }
            })
        });
        let leaf = a.certify_with(&server, &[], |builder| add(builder, "2.5.29.17", &names));
        let all: Vec<_> = std::iter::once(leaf).chain(issuers).collect();
        let text: Vec<_> = all
            .iter()
            .flat_map(|certificate| certificate.to_pem().unwrap())
            .collect();
        assert!(text.len() < 256 * 1024);
        let error = verify(what, &text, &server.key_pem()).unwrap_err();
        assert_eq!(error.certificate, [CertificateError::TooComplex], "{what}");
    }
}

/// Each certificate is signed by the key of the next one, but its key identifier names none of them.
#[test]
fn identifiers_that_all_contradict() {
    let part = sequence(&[&der(6, &[0x55, 4, 3]), &der(12, b"")]);
    let name = long_der(0x30, &der(0x31, &part).repeat(256));
    // The serial number is that of each certificate. The name is the longest.
    let long = long_der(
        0x30,
        &[long_der(0xa1, &long_der(0xa4, &name)), der(0x82, &[1])].concat(),
    );
    for (what, identifier) in [
        ("other key identifiers", sequence(&[&der(0x80, &[9])])),
        ("other names of issuers", long),
    ] {
        let server = test_pair::Entity::new("server");
        let issuers: Vec<_> = (0..19).map(|_| test_pair::Entity::new("issuer")).collect();
        let certify = |by: &test_pair::Entity, of: &test_pair::Entity| {
            let extensions = [test_pair::AUTHORITY, &[("subjectKeyIdentifier", "01")]].concat();
            by.certify_with(of, &extensions, |builder| add(builder, "2.5.29.35", &identifier))
        };
        let mut all = vec![certify(&issuers[0], &server)];
        all.extend((0..19).map(|place| certify(&issuers[(place + 1) % 19], &issuers[place])));
        let text: Vec<_> = all
            .iter()
            .flat_map(|certificate| certificate.to_pem().unwrap())
            .collect();
        assert!(text.len() < 256 * 1024);
        let error = verify(what, &text, &server.key_pem()).unwrap_err();
        assert_eq!(error.certificate, [CertificateError::TooComplex], "{what}");
    }
}
