//! The table of key types is what the real Envoy loads, and serves in handshakes. `make test` asks the newest Envoy, and `make prove` each
//! version.

use certkeep::app::KeyAlgorithm;
use certkeep::certificate::{ENVOY_VERSIONS, EnvoyVersion};
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use serde_json::json;

use crate::envoy::{Envoy, sha256, static_config};
use crate::harness::temp_dir;
use crate::pki::{self, Key, Pair};
use crate::proof::times;

const NAME: &str = "shop.example";

/// A key of each type, and of RSA also of sizes on both sides of the limit.
fn keys() -> Vec<(KeyAlgorithm, u32, PKey<Private>)> {
    let mut keys: Vec<_> = [
        (KeyAlgorithm::Rsa, 1024, Key::Rsa(1024)),
        (KeyAlgorithm::Rsa, 2040, Key::Rsa(2040)),
        (KeyAlgorithm::Rsa, 2048, Key::Rsa(2048)),
        (KeyAlgorithm::Rsa, 4096, Key::Rsa(4096)),
        (KeyAlgorithm::EcdsaP256, 256, Key::P256),
        (KeyAlgorithm::EcdsaP384, 384, Key::P384),
        (KeyAlgorithm::EcdsaP521, 521, Key::P521),
        (KeyAlgorithm::EcdsaSecp256k1, 256, Key::Secp256k1),
        (KeyAlgorithm::Ed25519, 256, Key::Ed25519),
        (KeyAlgorithm::Ed448, 456, Key::Ed448),
    ]
    .into_iter()
    .map(|(algorithm, bits, key)| (algorithm, bits, key.make()))
    .collect();
    // id-RSASSA-PSS instead of rsaEncryption (RFC 4055 3.1).
    let rsa = Key::Rsa(2048).make().rsa().unwrap().private_key_to_der().unwrap();
    let length = |len: usize| u16::try_from(len).unwrap().to_be_bytes();
    let body = [&[4, 0x82], &length(rsa.len())[..], &rsa].concat();
    let algorithm = hex::decode("300b06092a864886f70d01010a").unwrap();
    let inside = [&[2, 1, 0], &algorithm[..], &body].concat();
    let pss = [&[0x30, 0x82], &length(inside.len())[..], &inside].concat();
    keys.push((KeyAlgorithm::RsaPss, 2048, PKey::private_key_from_pkcs8(&pss).unwrap()));
    // ML-DSA from a seed (RFC 9881 6).
    for (algorithm, bits, last) in [
        (KeyAlgorithm::MlDsa44, 10_496, 0x11),
        (KeyAlgorithm::MlDsa65, 15_616, 0x12),
        (KeyAlgorithm::MlDsa87, 20_736, 0x13),
    ] {
        let mut pkcs8 = hex::decode("3034020100300b060960864801650304030004228020").unwrap();
        pkcs8[17] = last;
        pkcs8.extend([7; 32]);
        keys.push((algorithm, bits, PKey::private_key_from_pkcs8(&pkcs8).unwrap()));
    }
    keys
}

/// The release of a version that the Makefile installs.
fn release(version: &EnvoyVersion) -> &'static str {
    match version.name {
        "1.36" => "1.36.4",
        "1.40" => "1.40.0",
        other => panic!("Envoy {other} is not installed"),
    }
}

fn self_signed(key: &PKey<Private>) -> Pair {
    let mut builder = pki::builder(key, NAME);
    builder.set_issuer_name(&pki::subject(NAME)).unwrap();
    // Keys that only an OpenSSL provider implements (ML-DSA) have a negative id.
    let has_digest = key.rsa().is_ok() || key.ec_key().is_ok() || key.id() == openssl::pkey::Id::RSA_PSS;
    let digest = if has_digest {
        MessageDigest::sha256()
    } else {
        MessageDigest::null()
    };
    builder.sign(key, digest).unwrap();
    pki::pair(key, builder.build())
}

/// What Envoy does with a pair.
#[derive(Debug, Eq, PartialEq)]
enum Outcome {
    /// It does not start.
    NotLoaded,
    /// It starts, and the handshake fails.
    NoHandshake(String),
    Served,
}

/// Starts this Envoy with the pair, and connects. OpenSSL is the client: it accepts every type.
async fn outcome(version: &str, pair: &Pair) -> Outcome {
    let dir = temp_dir();
    let path = |name: &str, text: &str| {
        let path = dir.path().join(name);
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let certificate = json!({
        "certificate_chain": {"filename": path("chain.pem", &pair.certificate)},
        "private_key": {"filename": path("key.pem", &pair.key)},
    });
    let config = static_config(&json!({"tls_certificates": [certificate]}));
    match Envoy::run(version, &config).await {
        Ok(envoy) => match envoy.served(NAME) {
            Ok(certificate) => {
                assert_eq!(certificate, sha256(pair));
                Outcome::Served
            }
            Err(error) => Outcome::NoHandshake(error),
        },
        Err(log) => {
            assert!(log.contains("Failed to load"), "{log}");
            Outcome::NotLoaded
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn envoy_serves_the_key_types_of_the_table_and_no_other() {
    let keys: Vec<_> = keys()
        .into_iter()
        .map(|(algorithm, bits, key)| (algorithm, bits, self_signed(&key)))
        .collect();
    let mut wrong = Vec::new();
    for version in ENVOY_VERSIONS.iter().rev().take(times(1, ENVOY_VERSIONS.len())) {
        for (algorithm, bits, pair) in &keys {
            let outcome = outcome(release(version), pair).await;
            // docs/findings.md names the type that is loaded for nothing.
            let is_expected = match &outcome {
                Outcome::Served => version.serves(*algorithm, *bits),
                Outcome::NotLoaded => !version.serves(*algorithm, *bits),
                Outcome::NoHandshake(_) => (version.name, *algorithm) == ("1.40", KeyAlgorithm::MlDsa65),
            };
            if !is_expected {
                wrong.push(format!("Envoy {} {algorithm} {bits}: {outcome:?}", version.name));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
    let tested = |algorithm| keys.iter().any(|(tested, ..)| *tested == algorithm);
    assert!(KeyAlgorithm::ALL.into_iter().all(tested));
}
