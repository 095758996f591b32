//! Private keys of every kind and form.

use openssl::bn::{BigNum, BigNumContext};
use openssl::dh::Dh;
use openssl::dsa::Dsa;
use openssl::ec::{Asn1Flag, EcGroup, EcKey, EcPoint, PointConversionForm};
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};

use super::certificates::{pem_of, pem_of_spki};
use super::{Case, pem};
use crate::differential::der::Value;
use crate::pki::{self, Key};

/// `rsaEncryption` (RFC 8017 A.1), `id-RSASSA-PSS` (RFC 4055 3.1) and `id-ecPublicKey` (RFC 5480 2.1.1).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 1];
const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 10];
const EC: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
const P256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 3, 1, 7];
const P384: &[u8] = &[0x2b, 0x81, 4, 0, 0x22];
/// `id-ml-dsa-44` (RFC 9881 2) but for its last number, which is 17.
const ML_DSA: [u8; 8] = [0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3];

pub fn cases() -> Vec<Case> {
    [
        rsa(),
        rsa_pss(),
        ec(),
        ec_points(),
        edwards(),
        ml_dsa(),
        other_algorithms(),
    ]
    .into_iter()
    .flatten()
    .collect()
}

/// An INTEGER that is not negative.
pub fn integer(number: &[u8]) -> Value {
    match number.first() {
        None => Value::primitive(2, &[0]),
        Some(0x80..) => Value::primitive(2, &[&[0], number].concat()),
        Some(_) => Value::primitive(2, number),
    }
}

fn sequence(values: Vec<Value>) -> Value {
    Value::new(0x30, values)
}

fn oid(bytes: &[u8]) -> Value {
    Value::primitive(6, bytes)
}

fn null() -> Value {
    Value::primitive(5, &[])
}

fn bit_string(bytes: &[u8]) -> Value {
    Value::primitive(3, &[&[0], bytes].concat())
}

fn spki(algorithm: Vec<Value>, key: &[u8]) -> Vec<u8> {
    sequence(vec![sequence(algorithm), bit_string(key)]).encode()
}

/// A `OneAsymmetricKey` (RFC 5958 2): of version 2 if it has a public key.
pub fn pkcs8(algorithm: Vec<Value>, body: &[u8], public: Option<&[u8]>) -> Vec<u8> {
    let mut values = vec![integer(&[]), sequence(algorithm), Value::primitive(4, body)];
    if let Some(public) = public {
        values[0] = integer(&[1]);
        values.push(Value::primitive(0x81, &[&[0], public].concat()));
    }
    sequence(values).encode()
}

pub fn rsa_spki(modulus: &[u8], exponent: &[u8]) -> Vec<u8> {
    let key = sequence(vec![integer(modulus), integer(exponent)]);
    spki(vec![oid(RSA), null()], &key.encode())
}

fn key_pem(der: &[u8]) -> String {
    pem("PRIVATE KEY", der)
}

fn rsa() -> Vec<Case> {
    let key = Key::Rsa(2048).make();
    let rsa = key.rsa().unwrap();
    let (body, public) = (
        rsa.private_key_to_der().unwrap(),
        rsa.public_key_to_der_pkcs1().unwrap(),
    );
    let mut wrong = public.clone();
    *wrong.last_mut().unwrap() ^= 2;
    let algorithm = || vec![oid(RSA), null()];
    let case = |change, key: String| Case::new(["RSA key", "form", change], pem_of(&rsa_key(&rsa)), key);
    vec![
        case("PKCS#1", pem("RSA PRIVATE KEY", &body)),
        case("PKCS#8", key_pem(&pkcs8(algorithm(), &body, None))),
        case("PKCS#8 without NULL", key_pem(&pkcs8(vec![oid(RSA)], &body, None))),
        case("PKCS#8 v2", key_pem(&pkcs8(algorithm(), &body, Some(&public)))),
        case(
            "PKCS#8 v2 with another public key",
            key_pem(&pkcs8(algorithm(), &body, Some(&wrong))),
        ),
        case("three primes", pem("RSA PRIVATE KEY", &multi_prime(&body))),
        Case::new(
            ["RSA key", "form", "certificate's key without NULL"],
            pem_of_spki(&spki(vec![oid(RSA)], &public)),
            key_pem(&pkcs8(algorithm(), &body, None)),
        ),
    ]
}

fn rsa_key(rsa: &openssl::rsa::Rsa<Private>) -> PKey<Private> {
    PKey::from_rsa(rsa.clone()).unwrap()
}

/// The numbers of a key of two primes with those of a third beside them (RFC 8017 A.1.2).
fn multi_prime(body: &[u8]) -> Vec<u8> {
    let mut key = Value::read(body);
    *key.at(&[0]) = integer(&[1]);
    let third = [5, 3, 1].map(|number| integer(&[number])).to_vec();
    key.push(sequence(vec![sequence(third)]));
    key.encode()
}

fn rsa_pss() -> Vec<Case> {
    let key = Key::Rsa(2048).make();
    let rsa = key.rsa().unwrap();
    let (body, public) = (
        rsa.private_key_to_der().unwrap(),
        rsa.public_key_to_der_pkcs1().unwrap(),
    );
    let parameters = |salt_length| {
        // id-sha256 and id-mgf1 (RFC 4055 2.1 and 2.2).
        let hash = || sequence(vec![oid(&[0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]), null()]);
        let mask = sequence(vec![oid(&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 1, 1, 8]), hash()]);
        let tagged = |number: u8, value| Value::new(0xa0 + number, vec![value]);
        sequence(vec![
            tagged(0, hash()),
            tagged(1, mask),
            tagged(2, integer(&[salt_length])),
        ])
    };
    let algorithms = |name| match name {
        "RSA" => vec![oid(RSA), null()],
        "RSA-PSS" => vec![oid(RSA_PSS)],
        "RSA-PSS with parameters" => vec![oid(RSA_PSS), parameters(32)],
        _ => vec![oid(RSA_PSS), parameters(20)],
    };
    let names = ["RSA", "RSA-PSS", "RSA-PSS with parameters", "RSA-PSS with others"];
    let pairs = names
        .iter()
        .flat_map(|of_certificate| names.iter().map(move |of_key| (*of_certificate, *of_key)));
    let pairs = pairs.filter(|pair| *pair != ("RSA", "RSA"));
    pairs
        .map(|(of_certificate, of_key)| {
            let certificate = pem_of_spki(&spki(algorithms(of_certificate), &public));
            let key = key_pem(&pkcs8(algorithms(of_key), &body, None));
            let change = format!("certificate {of_certificate}");
            Case::new([of_key, "form", &change], certificate, key)
        })
        .collect()
}

/// An `ECPrivateKey` (RFC 5915 3).
fn sec1(number: &[u8], curve: Option<&[u8]>, public: Option<&[u8]>) -> Vec<u8> {
    let mut values = vec![integer(&[1]), Value::primitive(4, number)];
    values.extend(curve.map(|curve| Value::new(0xa0, vec![oid(curve)])));
    values.extend(public.map(|public| Value::new(0xa1, vec![bit_string(public)])));
    sequence(values).encode()
}

fn point(key: &EcKey<Private>, form: PointConversionForm) -> Vec<u8> {
    let mut context = BigNumContext::new().unwrap();
    key.public_key().to_bytes(key.group(), form, &mut context).unwrap()
}

fn ec() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, key) in [
        ("P-256", Key::P256),
        ("P-384", Key::P384),
        ("P-521", Key::P521),
        ("secp256k1", Key::Secp256k1),
    ] {
        let key = key.make();
        let sec1 = key.ec_key().unwrap().private_key_to_pem().unwrap();
        cases.push(Case::new(
            ["EC key", "form", &format!("SEC1 {name}")],
            pem_of(&key),
            sec1,
        ));
        cases.push(
            Case::new(
                ["EC key", "form", &format!("PKCS#8 {name}")],
                String::new(),
                String::new(),
            )
            .of(&key),
        );
    }
    let key = Key::P256.make();
    let ec = key.ec_key().unwrap();
    let number = ec.private_key().to_vec_padded(32).unwrap();
    let (public, other) = (
        point(&ec, PointConversionForm::UNCOMPRESSED),
        point(&Key::P256.make().ec_key().unwrap(), PointConversionForm::UNCOMPRESSED),
    );
    let mut off_curve = public.clone();
    off_curve[64] ^= 1;
    let algorithm = || vec![oid(EC), oid(P256)];
    let parameters = |curve: &[u8]| pem("EC PARAMETERS", &oid(curve).encode());
    let in_sec1 = |der: &[u8]| pem("EC PRIVATE KEY", der);
    let whole = sec1(&number, Some(P256), Some(&public));
    let bare = sec1(&number, None, Some(&public));
    let mut order = BigNum::new().unwrap();
    ec.group()
        .order(&mut order, &mut BigNumContext::new().unwrap())
        .unwrap();
    let above = (&order + ec.private_key()).to_vec();
    let wrong_public = |public: &[u8]| in_sec1(&sec1(&number, Some(P256), Some(public)));
    let forms = vec![
        ("SEC1 after EC PARAMETERS", parameters(P256) + &in_sec1(&whole)),
        (
            "SEC1 without its curve after EC PARAMETERS",
            parameters(P256) + &in_sec1(&bare),
        ),
        (
            "SEC1 after EC PARAMETERS of another curve",
            parameters(P384) + &in_sec1(&whole),
        ),
        ("SEC1 before EC PARAMETERS", in_sec1(&whole) + &parameters(P256)),
        ("EC PARAMETERS alone", parameters(P256)),
        ("SEC1 without its curve", in_sec1(&bare)),
        ("SEC1 without its public key", in_sec1(&sec1(&number, Some(P256), None))),
        ("SEC1 with another public key", wrong_public(&other)),
        ("SEC1 with a public key off the curve", wrong_public(&off_curve)),
        (
            "SEC1 with a compressed public key",
            wrong_public(&point(&ec, PointConversionForm::COMPRESSED)),
        ),
        (
            "SEC1 with a hybrid public key",
            wrong_public(&point(&ec, PointConversionForm::HYBRID)),
        ),
        (
            "PKCS#8 without curve and public key inside",
            key_pem(&pkcs8(algorithm(), &sec1(&number, None, None), None)),
        ),
        (
            "PKCS#8 with another curve inside",
            key_pem(&pkcs8(algorithm(), &sec1(&number, Some(P384), None), None)),
        ),
        (
            "PKCS#8 with another public key inside",
            key_pem(&pkcs8(algorithm(), &sec1(&number, None, Some(&other)), None)),
        ),
        ("PKCS#8 v2", key_pem(&pkcs8(algorithm(), &bare, Some(&public)))),
        (
            "PKCS#8 v2 with another public key",
            key_pem(&pkcs8(algorithm(), &bare, Some(&other))),
        ),
        ("PKCS#8 without a curve", key_pem(&pkcs8(vec![oid(EC)], &whole, None))),
        (
            "PKCS#8 without a curve outside and inside",
            key_pem(&pkcs8(vec![oid(EC)], &bare, None)),
        ),
        (
            "number with leading zeros",
            in_sec1(&sec1(&[&[0; 8], &number[..]].concat(), Some(P256), Some(&public))),
        ),
        (
            "number of 67 bytes",
            in_sec1(&sec1(&[&[0; 35], &number[..]].concat(), Some(P256), Some(&public))),
        ),
        (
            "number above the order",
            in_sec1(&sec1(&above, Some(P256), Some(&public))),
        ),
        (
            "number above the order and no public key",
            in_sec1(&sec1(&above, Some(P256), None)),
        ),
        ("number 0", in_sec1(&sec1(&[0; 32], Some(P256), None))),
        ("number of no bytes", in_sec1(&sec1(&[], Some(P256), None))),
    ];
    let certificate = pem_of(&key);
    cases.extend(
        forms
            .into_iter()
            .map(|(change, key)| Case::new(["EC key", "form", change], certificate.clone(), key)),
    );
    // One whose first byte is zero, which some leave out.
    let mut short = BigNum::new().unwrap();
    short.rshift(ec.private_key(), 12).unwrap();
    let mut public = EcPoint::new(ec.group()).unwrap();
    public
        .mul_generator2(ec.group(), &short, &mut BigNumContext::new().unwrap())
        .unwrap();
    let short_key = EcKey::from_private_components(ec.group(), &short, &public).unwrap();
    let certificate = pem_of(&PKey::from_ec_key(short_key).unwrap());
    cases.push(Case::new(
        ["EC key", "form", "number without its leading zero"],
        certificate,
        in_sec1(&sec1(&short.to_vec(), Some(P256), None)),
    ));
    for (name, nid) in [("P-224", Nid::SECP224R1), ("brainpoolP256r1", Nid::BRAINPOOL_P256R1)] {
        let key = PKey::from_ec_key(EcKey::generate(&EcGroup::from_curve_name(nid).unwrap()).unwrap()).unwrap();
        cases.push(Case::new(["EC key", "curve", name], String::new(), String::new()).of(&key));
    }
    let mut group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
    group.set_asn1_flag(Asn1Flag::EXPLICIT_CURVE);
    let explicit =
        PKey::from_ec_key(EcKey::from_private_components(&group, ec.private_key(), ec.public_key()).unwrap()).unwrap();
    cases.push(Case::new(
        ["EC key", "curve", "explicit in the key"],
        pem_of(&key),
        explicit.private_key_to_pem_pkcs8().unwrap(),
    ));
    cases.push(Case::new(
        ["EC key", "curve", "explicit in the certificate"],
        pem_of(&explicit),
        key.private_key_to_pem_pkcs8().unwrap(),
    ));
    cases
}

/// Points of certificates.
fn ec_points() -> Vec<Case> {
    let key = Key::P256.make();
    let ec = key.ec_key().unwrap();
    let text = key.private_key_to_pem_pkcs8().unwrap();
    let mut off_curve = point(&ec, PointConversionForm::UNCOMPRESSED);
    off_curve[64] ^= 1;
    let points = [
        ("compressed", point(&ec, PointConversionForm::COMPRESSED)),
        ("hybrid", point(&ec, PointConversionForm::HYBRID)),
        ("off the curve", off_curve),
        ("at infinity", vec![0]),
    ];
    points
        .into_iter()
        .map(|(change, point)| {
            let spki = spki(vec![oid(EC), oid(P256)], &point);
            Case::new(["EC certificate", "point", change], pem_of_spki(&spki), text.clone())
        })
        .collect()
}

fn edwards() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, key, other, number) in [
        ("Ed25519", Key::Ed25519, Key::Ed25519, 0x70),
        ("Ed448", Key::Ed448, Key::Ed448, 0x71),
    ] {
        let key = key.make();
        let seed = Value::primitive(4, &key.raw_private_key().unwrap()).encode();
        let public = key.raw_public_key().unwrap();
        let other = other.make().raw_public_key().unwrap();
        let algorithm = || vec![oid(&[0x2b, 0x65, number])];
        let forms = [
            ("PKCS#8", pkcs8(algorithm(), &seed, None)),
            ("PKCS#8 v2", pkcs8(algorithm(), &seed, Some(&public))),
            (
                "PKCS#8 v2 with another public key",
                pkcs8(algorithm(), &seed, Some(&other)),
            ),
            (
                "PKCS#8 with NULL",
                pkcs8([algorithm(), vec![null()]].concat(), &seed, None),
            ),
            (
                "PKCS#8 with a short seed",
                pkcs8(algorithm(), &Value::primitive(4, &seed[3..]).encode(), None),
            ),
            ("PKCS#8 with a bare seed", pkcs8(algorithm(), &seed[2..], None)),
        ];
        cases.extend(
            forms.map(|(change, der)| Case::new([&format!("{name} key"), "form", change], pem_of(&key), key_pem(&der))),
        );
    }
    cases
}

fn ml_dsa() -> Vec<Case> {
    let mut cases = Vec::new();
    for (name, number) in [("ML-DSA-44", 17), ("ML-DSA-65", 18), ("ML-DSA-87", 19)] {
        let algorithm = || vec![oid(&[&ML_DSA[..], &[number]].concat())];
        let make = || {
            let mut seed = [0; 32];
            openssl::rand::rand_bytes(&mut seed).unwrap();
            let tagged = Value::primitive(0x80, &seed).encode();
            let key = PKey::private_key_from_pkcs8(&pkcs8(algorithm(), &tagged, None)).unwrap();
            (seed, key)
        };
        let ((seed, key), (_, other)) = (make(), make());
        let expanded = key.raw_private_key().unwrap();
        let both = |expanded: &[u8]| sequence(vec![Value::primitive(4, &seed), Value::primitive(4, expanded)]).encode();
        let mut broken = expanded.clone();
        // In tr, the hash of the public key (FIPS 204, algorithm 24).
        broken[64] ^= 1;
        let public = key.raw_public_key().unwrap();
        let tagged = Value::primitive(0x80, &seed).encode();
        let forms = [
            ("seed", pkcs8(algorithm(), &tagged, None)),
            (
                "expanded",
                pkcs8(algorithm(), &Value::primitive(4, &expanded).encode(), None),
            ),
            ("both", pkcs8(algorithm(), &both(&expanded), None)),
            (
                "seed and another expanded key",
                pkcs8(algorithm(), &both(&other.raw_private_key().unwrap()), None),
            ),
            (
                "broken expanded key",
                pkcs8(algorithm(), &Value::primitive(4, &broken).encode(), None),
            ),
            (
                "seed of 31 bytes",
                pkcs8(algorithm(), &Value::primitive(0x80, &seed[1..]).encode(), None),
            ),
            ("bare seed", pkcs8(algorithm(), &seed, None)),
            (
                "seed in an OCTET STRING",
                pkcs8(algorithm(), &Value::primitive(4, &seed).encode(), None),
            ),
            ("v2", pkcs8(algorithm(), &tagged, Some(&public))),
            (
                "v2 with another public key",
                pkcs8(algorithm(), &tagged, Some(&other.raw_public_key().unwrap())),
            ),
            ("with NULL", pkcs8([algorithm(), vec![null()]].concat(), &tagged, None)),
        ];
        let certificate = pem_of_spki(&spki(algorithm(), &public));
        cases.extend(forms.map(|(change, der)| {
            Case::new(
                ["ML-DSA key", "form", &format!("{change} {name}")],
                certificate.clone(),
                key_pem(&der),
            )
        }));
    }
    cases
}

/// Keys that serve no TLS, or that certkeep does not know.
fn other_algorithms() -> Vec<Case> {
    let dsa = Dsa::generate(1024).unwrap();
    let old_dsa = dsa.private_key_to_pem().unwrap();
    let dh = PKey::from_dh(Dh::get_2048_256().unwrap().generate_key().unwrap()).unwrap();
    let (x25519, x448) = (PKey::generate_x25519().unwrap(), PKey::generate_x448().unwrap());
    let dsa = PKey::from_dsa(dsa).unwrap();
    let mut cases: Vec<_> = [("DSA", &dsa), ("DH", &dh), ("X25519", &x25519), ("X448", &x448)]
        .into_iter()
        .map(|(name, key)| Case::new(["other key", "algorithm", name], String::new(), String::new()).of(key))
        .collect();
    cases.push(Case::new(
        ["other key", "algorithm", "DSA PRIVATE KEY"],
        pem_of(&dsa),
        old_dsa,
    ));
    let ordinary = pki::self_signed(Key::P256, "a.example");
    cases.push(Case::new(
        ["other key", "algorithm", "X25519 beside a P-256 certificate"],
        ordinary.certificate,
        x25519.private_key_to_pem_pkcs8().unwrap(),
    ));
    cases.push(Case::new(
        ["other key", "algorithm", "P-256 beside an X25519 certificate"],
        pem_of(&x25519),
        ordinary.key,
    ));
    cases
}

impl Case {
    /// The pair of this key, as PKCS#8.
    fn of(self, key: &PKey<Private>) -> Self {
        Self {
            certificate: pem_of(key).into_bytes(),
            key: key.private_key_to_pem_pkcs8().unwrap(),
            ..self
        }
    }
}
