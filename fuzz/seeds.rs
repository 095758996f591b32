//! What the corpora began with. Every key is made anew, for nothing else.

use std::error::Error;
use std::fs;
use std::path::Path;

use crate::bodies::names::{ALTERNATIVE, ISSUER, SUBJECT};
use crate::bodies::page_token::{FILTER, PLACE, TOKEN};
use crate::bodies::request::{CERTIFICATE, KEY, KEY_AMONG_CERTIFICATES, KEY_TEXT, POLICY, SIGNED, TEXT, TIME};
use crate::bodies::tree::{der, sequence, values};
use crate::bodies::{again, names, signing};
use certkeep::account::AccountId;
use certkeep::app::{List, PageTokens};
use certkeep::secret::Secret;
use certkeep::store::Position;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::{EcGroup, EcKey};
use openssl::hash::MessageDigest;
use openssl::nid::Nid;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::{X509, X509Extension, X509NameBuilder};

type Outcome<T> = Result<T, Box<dyn Error>>;
type Extensions<'a> = &'a [(&'a str, &'a str)];

const AUTHORITY: Extensions<'static> = &[
    ("basicConstraints", "critical,CA:TRUE,pathlen:1"),
    ("keyUsage", "critical,keyCertSign,cRLSign"),
    ("subjectKeyIdentifier", "hash"),
];
const SERVER: Extensions<'static> = &[
    ("basicConstraints", "critical,CA:FALSE"),
    ("keyUsage", "critical,digitalSignature"),
    ("extendedKeyUsage", "serverAuth,clientAuth"),
    (
        "subjectAltName",
        "DNS:a.example,DNS:*.b.example,IP:192.0.2.1,IP:2001:db8::1,URI:https://u@a.example:1/x,email:a@a.example,\
         RID:1.2.3.4,dirName:who",
    ),
    ("1.3.6.1.5.5.7.1.24", "DER:3003020105"),
];
const CONSTRAINED: Extensions<'static> = &[
    ("basicConstraints", "critical,CA:TRUE"),
    (
        "nameConstraints",
        "critical,permitted;DNS:example,permitted;IP:192.0.2.0/255.255.255.0,permitted;email:.example,\
         permitted;URI:.example,excluded;DNS:c.example,excluded;IP:2001:db8:1::/ffff:ffff:ffff::,permitted;dirName:who",
    ),
];

#[test]
#[ignore = "writes what is missing in the corpora"]
fn write_seeds() -> Outcome<()> {
    chain()?;
    keys()?;
    check()?;
    names_in_certificates()?;
    page_tokens()?;
    texts()?;
    sealed()?;
    pem()
}

/// The inputs of the targets that read text.
fn texts() -> Outcome<()> {
    let long_id = format!("Bearer ck{}.b", "a".repeat(63));
    let [one, other] =
        [("0011223344556677", "5a"), ("8899aabbccddeeff", "00")].map(|(id, key)| format!("{id} {}", key.repeat(32)));
    for (target, name, text) in [
        ("authorization", "key", "Bearer ck0123456789abcdef0123.c2VjcmV0"),
        ("authorization", "lower", "bearer  ckA.b "),
        ("authorization", "basic", "Basic dTpw"),
        ("authorization", "no_secret", "Bearer ckA."),
        ("authorization", "long_id", &long_id),
        (
            "database_url",
            "url",
            "postgres://u:p%40w@h1:5432,[::1]:5433/db?sslmode=verify-full&sslrootcert=/r.pem",
        ),
        (
            "database_url",
            "keywords",
            "host=/run/x user = u password='a \\' b' dbname=d sslmode=require",
        ),
        (
            "database_url",
            "system_roots",
            "postgresql:///d?host=h&sslrootcert=system&target_session_attrs=read-write",
        ),
        ("database_url", "not_closed", "password='a"),
        ("database_url", "no_value", "postgres://h/d?x"),
        ("key_ring", "two", &format!("{one}\n{other}\n")),
        ("key_ring", "comments", &format!("# x\n\n{one} \r\n#\n")),
        ("key_ring", "twice", &format!("{one}\n{one}\n")),
        ("key_ring", "pkcs11", "0011223344556677 pkcs11:a label:00ff\n"),
        ("key_ring", "transit", "0011223344556677 transit:vault:v1:AA==\n"),
        ("key_ring", "short", &one[..one.len() - 1]),
    ] {
        write(target, name, &[text.as_bytes().to_vec()])?;
    }
    Ok(())
}

/// Sealed values as they are stored, which no ring of the target opens.
fn sealed() -> Outcome<()> {
    let header = [&[1], &[0x11; 8][..]].concat();
    write("sealed", "empty", &[])?;
    write("sealed", "format", &[vec![2]])?;
    write("sealed", "header", std::slice::from_ref(&header))?;
    write("sealed", "value", &[header.clone(), vec![0; 60], vec![0; 28 + 32]])?;
    write("sealed", "without_payload", &[header, vec![0; 60]])
}

fn write(target: &str, name: &str, parts: &[Vec<u8>]) -> Outcome<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target);
    let file = folder.join(name);
    if file.exists() {
        return Ok(());
    }
    fs::create_dir_all(&folder)?;
    Ok(fs::write(file, parts.concat())?)
}

/// The certificate of a subject for a key, by an issuer.
fn certify(
    (subject, key): (&str, &PKey<Private>),
    (issuer, by): (&str, &PKey<Private>),
    digest: MessageDigest,
    extensions: Extensions<'_>,
) -> Outcome<X509> {
    let name = |text: &str| -> Outcome<_> {
        let mut name = X509NameBuilder::new()?;
        name.append_entry_by_text("O", "x")?;
        name.append_entry_by_text("CN", text)?;
        Ok(name.build())
    };
    let mut builder = X509::builder()?;
    builder.set_version(2)?;
    let serial = BigNum::from_u32(u32::try_from(subject.len())?)?;
    builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
    builder.set_subject_name(&*name(subject)?)?;
    builder.set_issuer_name(&*name(issuer)?)?;
    builder.set_not_before(&*Asn1Time::from_unix(1_704_067_200)?)?;
    builder.set_not_after(&*Asn1Time::from_unix(1_735_689_600)?)?;
    builder.set_pubkey(key)?;
    let who = openssl::conf::Conf::new(openssl::conf::ConfMethod::default())?;
    for (name, value) in extensions {
        let value = value.replace(",permitted;dirName:who", "").replace(",dirName:who", "");
        let context = builder.x509v3_context(None, Some(&who));
        #[expect(deprecated, reason = "the one way to write odd extensions in a line")]
        let extension = X509Extension::new(None, Some(&context), name, &value)?;
        builder.append_extension(extension)?;
    }
    builder.sign(by, digest)?;
    Ok(builder.build())
}

/// A `TBSCertificate` of the key of one number to be signed by that of another.
fn tbs(subject: (&str, u8), issuer: (&str, u8), extensions: Extensions<'_>) -> Outcome<Vec<u8>> {
    let keys = ((subject.0, signing::key(subject.1)), (issuer.0, signing::key(issuer.1)));
    let certificate = certify(keys.0, keys.1, MessageDigest::null(), extensions)?.to_der()?;
    let (_, fields) = values(&certificate).next().ok_or("no certificate")?;
    let (tag, fields) = values(fields).next().ok_or("no fields")?;
    Ok(der(SIGNED + issuer.1, &der(tag, fields)))
}

fn ordinary() -> Outcome<[Vec<u8>; 3]> {
    Ok([
        tbs(("server", 2), ("issuer", 1), SERVER)?,
        tbs(("issuer", 1), ("root", 0), AUTHORITY)?,
        tbs(("root", 0), ("root", 0), AUTHORITY)?,
    ])
}

fn chain() -> Outcome<()> {
    let [server, issuer, root] = ordinary()?;
    write(
        "chain",
        "server_issuer_root",
        &[server.clone(), issuer.clone(), root.clone()],
    )?;
    write(
        "chain",
        "reordered_and_repeated",
        &[root.clone(), server.clone(), issuer.clone(), server.clone()],
    )?;
    let cross = tbs(("issuer", 1), ("other root", 3), AUTHORITY)?;
    let other = tbs(("other root", 3), ("root", 0), AUTHORITY)?;
    write(
        "chain",
        "cross_signed",
        &[cross, server.clone(), issuer.clone(), other.clone(), root.clone()],
    )?;
    let back = tbs(("root", 0), ("issuer", 1), AUTHORITY)?;
    write("chain", "circle", &[server.clone(), issuer.clone(), back])?;
    write("chain", "unrelated", &[server.clone(), other])?;
    let constrained = tbs(("issuer", 1), ("root", 0), CONSTRAINED)?;
    write(
        "chain",
        "name_constraints",
        &[server.clone(), constrained, root.clone()],
    )?;
    let deep: Vec<_> = (0..8)
        .map(|place| {
            let name = |place: u8| format!("number {place}");
            tbs((&name(place), place), (&name(place + 1), (place + 1) % 8), AUTHORITY)
        })
        .collect::<Outcome<_>>()?;
    write("chain", "deep", &deep)?;
    let strict = der(POLICY, b"strict,EXPIRES_SOON=report");
    write("chain", "strict_policy", &[strict, server.clone(), issuer.clone()])?;
    let late = der(TIME, &1_800_000_000_i64.to_be_bytes());
    write("chain", "expired", &[late, server, issuer.clone(), root])?;
    for (name, digest) in [
        ("md5", MessageDigest::md5()),
        ("sha1", MessageDigest::sha1()),
        ("sha512", MessageDigest::sha512()),
    ] {
        let (key, by) = (p256()?, rsa(1024)?);
        let leaf = certify(("server", &key), ("issuer", &by), digest, SERVER)?.to_der()?;
        let above = certify(
            ("issuer", &by),
            ("root", signing::key(0)),
            MessageDigest::null(),
            AUTHORITY,
        )?;
        let parts = [der(CERTIFICATE, &leaf), der(CERTIFICATE, &above.to_der()?)];
        write("chain", &format!("rsa_{name}"), &parts)?;
    }
    for (name, by) in [
        ("p256", p256()?),
        ("p521", ec(Nid::SECP521R1)?),
        ("ed448", PKey::generate_ed448()?),
    ] {
        let digest = if name == "ed448" {
            MessageDigest::null()
        } else {
            MessageDigest::sha256()
        };
        let leaf = certify(("server", signing::key(2)), ("issuer", &by), digest, SERVER)?.to_der()?;
        let above = certify(("issuer", &by), ("issuer", &by), digest, AUTHORITY)?.to_der()?;
        write("chain", name, &[der(CERTIFICATE, &above), der(CERTIFICATE, &leaf)])?;
    }
    Ok(())
}

fn rsa(bits: u32) -> Outcome<PKey<Private>> {
    Ok(PKey::from_rsa(Rsa::generate(bits)?)?)
}

fn ec(curve: Nid) -> Outcome<PKey<Private>> {
    Ok(PKey::from_ec_key(EcKey::generate(&*EcGroup::from_curve_name(curve)?)?)?)
}

fn p256() -> Outcome<PKey<Private>> {
    ec(Nid::X9_62_PRIME256V1)
}

/// The key of RFC 6979 A.2.5: what stands as text in the corpus is published.
fn rfc_6979() -> Outcome<PKey<Private>> {
    const SCALAR: &str = "C9AFA9D845BA75166B5C215767B1D6934E50C3DB36E89B127B8A622B120F6721";
    let sec1 = hex::decode(format!("30310201010420{SCALAR}a00a06082a8648ce3d030107"))?;
    Ok(PKey::private_key_from_der(&sec1)?)
}

/// PKCS#8 of an ML-DSA seed (RFC 9881 6), by the last byte of the parameter set's identifier.
fn ml_dsa(set: u8) -> Vec<u8> {
    let algorithm = sequence(&[&[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 3, set]]);
    sequence(&[&[2, 1, 0], &algorithm, &der(4, &der(0x80, &[set; 32]))])
}

/// The key with its public half (RFC 5958 2, version 2).
fn with_public(pkcs8: &[u8], public: &[u8]) -> Vec<u8> {
    let (_, fields) = values(pkcs8).next().unwrap_or_default();
    sequence(&[&[2, 1, 1], &fields[3..], &der(0x81, &[&[0], public].concat())])
}

fn keys() -> Outcome<()> {
    let form = |place: u8, body: &[u8]| der(KEY + place, body);
    let rsa = rsa(1024)?;
    let (pkcs1, pkcs8) = (rsa.rsa()?.private_key_to_der()?, rsa.private_key_to_pkcs8()?);
    write("key", "rsa_pkcs1", &[form(1, &pkcs1)])?;
    write("key", "rsa_pkcs8", &[form(0, &pkcs8)])?;
    write("key", "rsa_twice", &[form(1, &pkcs1), form(0, &pkcs8)])?;
    let public = rsa.rsa()?.public_key_to_der_pkcs1()?;
    write("key", "rsa_with_public", &[form(0, &with_public(&pkcs8, &public))])?;
    let hash = sequence(&[&[6, 9, 0x60, 0x86, 0x48, 1, 0x65, 3, 4, 2, 1]]);
    let mask = sequence(&[&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 8], &hash]);
    let parameters = sequence(&[&der(0xa0, &hash), &der(0xa1, &mask), &der(0xa2, &[2, 1, 32])]);
    let algorithm = sequence(&[&[6, 9, 0x2a, 0x86, 0x48, 0x86, 0xf7, 13, 1, 1, 10], &parameters]);
    let pss = sequence(&[&[2, 1, 0], &algorithm, &der(4, &pkcs1)]);
    write("key", "rsa_pss", &[form(0, &pss)])?;
    for (name, curve) in [
        ("p256", Nid::X9_62_PRIME256V1),
        ("p384", Nid::SECP384R1),
        ("p521", Nid::SECP521R1),
        ("secp256k1", Nid::SECP256K1),
    ] {
        let key = ec(curve)?;
        let sec1 = key.ec_key()?.private_key_to_der()?;
        write("key", &format!("{name}_sec1"), &[form(2, &sec1)])?;
        write(
            "key",
            &format!("{name}_pkcs8"),
            &[form(0, &key.private_key_to_pkcs8()?)],
        )?;
        let (_, fields) = values(&sec1).next().unwrap_or_default();
        let fields: Vec<_> = values(fields).collect();
        let [version, number, (_, named), ..] = fields[..] else {
            return Err("no curve".into());
        };
        let bare = sequence(&[&der(version.0, version.1), &der(number.0, number.1)]);
        write("key", &format!("{name}_parameters"), &[form(3, named), form(2, &bare)])?;
    }
    for (name, key) in [
        ("ed25519", PKey::generate_ed25519()?),
        ("ed448", PKey::generate_ed448()?),
    ] {
        let pkcs8 = key.private_key_to_pkcs8()?;
        write("key", name, &[form(0, &pkcs8)])?;
        write(
            "key",
            &format!("{name}_with_public"),
            &[form(0, &with_public(&pkcs8, &key.raw_public_key()?))],
        )?;
    }
    for (name, set) in [("ml_dsa_44", 17), ("ml_dsa_65", 18), ("ml_dsa_87", 19)] {
        write("key", name, &[form(0, &ml_dsa(set))])?;
    }
    let expanded = PKey::private_key_from_pkcs8(&ml_dsa(17))?.private_key_to_pkcs8()?;
    write("key", "ml_dsa_44_both", &[form(0, &expanded)])
}

fn check() -> Outcome<()> {
    let [server, issuer, root] = ordinary()?;
    let key = der(KEY, &signing::key(2).private_key_to_pkcs8()?);
    write(
        "check",
        "server_issuer_root",
        &[server.clone(), issuer.clone(), root.clone(), key.clone()],
    )?;
    let strict = der(POLICY, b"strict,CHAIN_INCOMPLETE=report");
    write(
        "check",
        "strict_policy",
        &[strict, issuer.clone(), server.clone(), key.clone()],
    )?;
    let inside = der(KEY_AMONG_CERTIFICATES, &signing::key(2).private_key_to_pkcs8()?);
    write(
        "check",
        "key_among_certificates",
        &[inside, server.clone(), issuer.clone()],
    )?;
    let other = der(KEY, &signing::key(4).private_key_to_pkcs8()?);
    write("check", "mismatch", &[server.clone(), other])?;
    let constrained = tbs(("issuer", 1), ("root", 0), CONSTRAINED)?;
    let late = der(TIME, &1_735_000_000_i64.to_be_bytes());
    write(
        "check",
        "name_constraints",
        &[late, server.clone(), constrained, root.clone(), key.clone()],
    )?;
    let around = [der(TEXT, b"Bag Attributes\r\n"), der(KEY_TEXT, b"# key\r")];
    write("check", "text_around", &[around.concat(), server, root, key])?;
    for (name, key) in [
        ("rsa", rsa(1024)?),
        ("p256", p256()?),
        ("secp256k1", ec(Nid::SECP256K1)?),
        ("ed448", PKey::generate_ed448()?),
        ("ml_dsa_44", PKey::private_key_from_pkcs8(&ml_dsa(17))?),
    ] {
        let leaf = certify(
            ("server", &key),
            ("issuer", signing::key(1)),
            MessageDigest::null(),
            SERVER,
        )?;
        let leaf = der(CERTIFICATE, &leaf.to_der()?);
        write(
            "check",
            name,
            &[leaf, issuer.clone(), der(KEY, &key.private_key_to_pkcs8()?)],
        )?;
    }
    Ok(())
}

fn names_in_certificates() -> Outcome<()> {
    let attribute = |kind: &[u8], tag, value: &[u8]| sequence(&[&der(6, kind), &der(tag, value)]);
    let part = |attributes: &[Vec<u8>]| der(0x31, &attributes.concat());
    let name = |parts: &[Vec<u8>]| sequence(&[&parts.concat()]);
    let cn = [0x55, 4, 3];
    let strings: [(u8, &[u8]); 8] = [
        (12, "é, +x\u{1}".as_bytes()),
        (19, b" x "),
        (22, b"#a@b"),
        (18, b"12"),
        (26, b"<\"\\;>"),
        (20, b"\xe9\x80"),
        (30, b"\x00a\xd8\x3d\xde\x00"),
        (28, b"\x00\x01\xf6\x00"),
    ];
    for (tag, value) in strings {
        let subject = name(&[
            part(&[attribute(&cn, tag, value)]),
            part(&[attribute(&[0x55, 4, 10], tag, value)]),
        ]);
        write("names", &format!("string_{tag}"), &[der(SUBJECT, &subject)])?;
    }
    let control = name(&[part(&[attribute(&cn, 20, &[0x80; 400])])]);
    write("names", "control_characters", &[der(SUBJECT, &control)])?;
    let many = part(&[
        attribute(&[0x55, 4, 6], 19, b"XX"),
        attribute(&[0x2a, 0x86, 0x48], 12, b"\x05"),
    ]);
    let domain = part(&[attribute(
        &[9, 0x92, 0x26, 0x89, 0x93, 0xf2, 0x2c, 0x64, 1, 25],
        22,
        b"example",
    )]);
    let (one, other) = (name(&[many.clone(), domain.clone()]), name(&[domain, many]));
    write("names", "many_attributes", &[der(SUBJECT, &one), der(ISSUER, &other)])?;
    let names: [(u8, &[u8]); 7] = [
        (0x82, b"*.xn--fsq.example"),
        (0x81, b"a\x00@\xff"),
        (0x86, b"https://[::1]/"),
        (0x87, &[192, 0, 2, 1]),
        (0x87, &[0x20; 16]),
        (0x88, &[0x2a, 3]),
        (0xa0, &[6, 1, 0x2a, 0xa0, 2, 12, 0]),
    ];
    let all: Vec<_> = names.into_iter().flat_map(|(tag, value)| der(tag, value)).collect();
    write(
        "names",
        "alternative",
        &[der(ALTERNATIVE, &sequence(&[&all, &der(0xa4, &one)]))],
    )?;
    for (file, text) in [
        ("letters", "证书/2024_a-b.*"),
        ("marks", "e\u{301}हिन्दी"),
        ("id", "1000000000000000_18c_-5_7"),
        ("path", "shops/a b.example"),
        ("odd", "£😀\u{0}٣"),
    ] {
        write("names", file, &[der(names::TEXT, text.as_bytes())])?;
    }
    Ok(())
}

fn page_tokens() -> Outcome<()> {
    let tokens = PageTokens::new(Secret::from(vec![7; 32]));
    for (name, account, created_ms, random, filter) in [
        ("first", 1, 1_700_000_000_000, -2, &[][..]),
        (
            "filtered",
            -1,
            0,
            i64::MAX,
            &["cn-hangzhou", "", "deleted", "key", "value"][..],
        ),
        ("start", 7, i64::MIN, i64::MIN, &["é"][..]),
    ] {
        let list = List {
            name: "List",
            account: AccountId::from_i64(account),
            filter,
        };
        let token = tokens.write(list, Position { created_ms, random })?;
        let place = [account, created_ms, random].map(i64::to_be_bytes).concat();
        let filter = filter.iter().flat_map(|part| der(FILTER, part.as_bytes())).collect();
        write(
            "page_token",
            name,
            &[der(TOKEN, token.as_bytes()), filter, der(PLACE, &place)],
        )?;
    }
    write("page_token", "empty", &[der(PLACE, &[0; 24])])?;
    write("page_token", "padded", &[der(TOKEN, b"AQ==")])
}

fn pem() -> Outcome<()> {
    let (key, by) = (rfc_6979()?, signing::key(0));
    let leaf = certify(("server", &key), ("root", by), MessageDigest::null(), SERVER)?;
    let (leaf, private) = (leaf.to_pem()?, key.private_key_to_pem_pkcs8()?);
    let root = certify(("root", by), ("root", by), MessageDigest::null(), AUTHORITY)?.to_pem()?;
    write("pem", "certificate", std::slice::from_ref(&leaf))?;
    write("pem", "key", std::slice::from_ref(&private))?;
    write("pem", "both", &[leaf.clone(), root.clone(), private.clone()])?;
    let text = String::from_utf8([&b"\xef\xbb\xbf# x\n"[..], &root, &leaf].concat())?;
    write("pem", "carriage_returns", &[text.replace('\n', "\r").into_bytes()])?;
    write("pem", "indented", &[text.replace('\n', "\r\n \t").into_bytes()])?;
    write("pem", "sec1", &[key.ec_key()?.private_key_to_pem()?, leaf.clone()])?;
    write(
        "pem",
        "parameters",
        &[again::pem("EC PARAMETERS", &[6, 5, 0x2b, 0x81, 4, 0, 0x22])],
    )?;
    let encrypted = key.private_key_to_pem_pkcs8_passphrase(openssl::symm::Cipher::aes_128_cbc(), b"x")?;
    write("pem", "encrypted", &[encrypted])?;
    write(
        "pem",
        "encrypted_header",
        &[b"-----BEGIN RSA PRIVATE KEY-----\nProc-Type: 4,ENCRYPTED\n\nAA==\n-----END RSA PRIVATE KEY-----".to_vec()],
    )?;
    write("pem", "not_closed", &[leaf[..100].to_vec()])?;
    write(
        "pem",
        "crowded",
        &[b"-----BEGIN CERTIFICATE----- AA== -----END CERTIFICATE-----".to_vec()],
    )?;
    for label in [
        "TRUSTED CERTIFICATE",
        "CERTIFICATE REQUEST",
        "PKCS7",
        "PUBLIC KEY",
        "OPENSSH PRIVATE KEY",
        "X",
    ] {
        let file = label.to_lowercase().replace(' ', "_");
        write("pem", &file, &[leaf.clone(), again::pem(label, b"x")])?;
    }
    Ok(())
}
