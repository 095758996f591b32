//! Private keys.

use certkeep::app::FieldError;
use certkeep::certificate::{Contents, Policy};
use certkeep::secret::Secret;
use openssl::asn1::{Asn1Integer, Asn1Time};
use openssl::bn::BigNum;
use openssl::ec::EcKey;
use openssl::hash::MessageDigest;
use openssl::pkey::{PKey, Private};
use openssl::rsa::Rsa;
use openssl::x509::X509;

use super::request::{FORMS, KEY, form};
use super::tree::{self, der, sequence};
use super::{AT, MAX_KEY, again, signing};

/// A policy that accepts weak keys, so that they are read like any other key.
const LENIENT: &str = "default,KEY_COMPROMISED=report,KEY_ROCA=report,KEY_CLOSE_PRIMES=report,KEY_EXPONENT_UNSAFE=report,\
                       KEY_SMALL_PRIVATE_EXPONENT=report,KEY_FACTORABLE=report";

/// Keys in one or several forms. An accepted key must be the key that OpenSSL reads, and its encoding must not change.
pub fn key(input: &[u8]) {
    let given: Vec<_> = tree::values(input)
        .filter_map(|(tag, content)| Some((form(tag, KEY)?, content)))
        .collect();
    let text: Vec<_> = given.iter().flat_map(|(label, der)| again::pem(label, der)).collect();
    if text.len() > MAX_KEY {
        return;
    }
    let accepted = match Contents::of(&text).private_key {
        Some(Ok(id)) => Some(id),
        Some(Err(error)) => {
            assert!(!again::words(FieldError::PrivateKey(error)).contains(char::is_control));
            None
        }
        None => None,
    };
    let policy: Policy = LENIENT.parse().expect("a policy");
    let key = Secret::from(text);
    let Some(id) = accepted else {
        let report = again::report(b"", &key, AT, &policy);
        assert!(!report.is_accepted);
        return;
    };

    let read = by_openssl(&given).expect("what is accepted is read by OpenSSL");
    let certificate = certificate_for(&read).to_pem().expect("OpenSSL writes what it made");
    let found = Contents::of(&certificate).certificates;
    assert_eq!(found[0].key, Some(id), "the certificate is for another key");
    let (pair, first) = again::verify(&certificate, &key, AT, &policy).expect("a pair of an accepted key");
    let stored = pair.private_key().pkcs8_der().expose();
    let body = given.iter().find(|(label, _)| *label != FORMS[3]).expect("a key").1;
    assert!(stored.ends_with(body), "the key's own encoding was changed");
    again::pair(&pair, &first, AT, &policy);
}

/// The first key, as OpenSSL reads it. The content decides about its form, and not the label.
fn by_openssl(given: &[(&str, &[u8])]) -> Option<PKey<Private>> {
    let place = given.iter().position(|(label, _)| *label != FORMS[3])?;
    let body = given[place].1;
    let before = place.checked_sub(1).map(|before| given[before].1);
    let pkcs8 = || PKey::private_key_from_pkcs8(body).ok();
    let rsa = || PKey::from_rsa(Rsa::private_key_from_der(body).ok()?).ok();
    let ec = || PKey::from_ec_key(EcKey::private_key_from_der(body).ok()?).ok();
    // The key may not contain its curve. The parameters before it contain it.
    let ec_with_parameters = || {
        let id_ec = [6, 7, 0x2a, 0x86, 0x48, 0xce, 0x3d, 2, 1];
        let algorithm = sequence(&[&id_ec, before?]);
        PKey::private_key_from_pkcs8(&sequence(&[&[2, 1, 0], &algorithm, &der(4, body)])).ok()
    };
    rsa().or_else(ec).or_else(ec_with_parameters).or_else(pkcs8)
}

/// A certificate for a key, signed by another key.
fn certificate_for(key: &PKey<Private>) -> X509 {
    let make = || {
        let mut builder = X509::builder()?;
        builder.set_version(2)?;
        let serial = BigNum::from_u32(1)?;
        builder.set_serial_number(&*Asn1Integer::from_bn(&serial)?)?;
        builder.set_not_before(&*Asn1Time::from_unix(1_704_067_200)?)?;
        builder.set_not_after(&*Asn1Time::from_unix(1_735_689_600)?)?;
        builder.set_pubkey(key)?;
        builder.sign(signing::key(0), MessageDigest::null())?;
        Ok::<_, openssl::error::ErrorStack>(builder.build())
    };
    make().expect("OpenSSL makes a certificate for a key that it read")
}
